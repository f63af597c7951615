"""`python -m tests.dashboard.screenshot [FOLDER]`: makes the pictures of docs/, of a floor whose brake holds.

With a folder it makes, besides, one of every page there, in light and dark, on a screen and on a phone, for whoever
wants to look at all of them. Needs chromium, chromedriver and selenium; takes a minute or two.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from tests.dashboard.browser import DESKTOP, PHONE, Browser, opened
from tests.scenarios.harness import INSTANCE, ROOT, Daemon, Present, new_session, sandbox, settings, until

IMAGES = ROOT / "docs" / "images"

TIMES = {
    "WATCHDOG_HEARTBEAT_INTERVAL": "5",
    "WATCHDOG_SESSION_TTL": "20",
    "WATCHDOG_THROTTLED_SESSION_TTL": "60",
    "WATCHDOG_SESSION_END_TIMER": "12",
    "WATCHDOG_BRAKE_MIN_AGENTS": "5",
}


def take(browser: Browser, picture: Path, *, whole: bool = False) -> None:
    """A picture of the window, or of the whole page."""
    asked = {"format": "png", "captureBeyondViewport": whole}
    if whole:
        size = browser.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        asked["clip"] = {**size, "height": min(size["height"], 2400), "scale": 1}
    taken = browser.driver.execute_cdp_cmd("Page.captureScreenshot", asked)
    picture.write_bytes(base64.b64decode(taken["data"]))


def show(browser: Browser, place: str, *, evidence: bool = False) -> None:
    """Goes to a page and waits until it has everything."""
    browser.go(place)
    browser.find("main h1")
    browser.until(lambda: not browser.all("[aria-busy], .loading"), "loaded")
    if evidence:
        browser.click(".decision summary")
        browser.find(".said")
    browser.driver.execute_script("scrollTo(0, 0)")


def make(images: Path, everything: Path | None) -> None:
    """Plays a short day and takes the pictures."""
    with tempfile.TemporaryDirectory() as folder, sandbox(agents=60) as connect, opened(Path(folder)) as browser:
        daemon = Daemon(Path(folder), settings(connect.server.url, **TIMES))
        try:
            daemon.start().ready(60)
            browser.size(DESKTOP)
            browser.sign_in(daemon.url)
            users = connect.users
            with Present(daemon, users[:34], 2.0):
                with Present(daemon, users[34:54], 2.0):
                    for ghost in users[54:58]:
                        session = new_session()
                        daemon.beat(ghost, session, type="hello", seq=1)
                        daemon.bye(ghost, session)
                    until(lambda: daemon.ask("/v1/status")["agents"]["away"] == 4, "four are set", 60)
                until(lambda: daemon.ask("/v1/status")["agents"]["held"] == 20, "twenty are held", 60)
                browser.says("20 held", "h1")
                chart = browser.find(".canvas")
                browser.until(lambda: "held 20" in str(chart.get_attribute("aria-label")), "the chart shows it")
                take(browser, images / "dashboard.png")
                places = {
                    "overview": "",
                    "agents": "agents",
                    "held": "agents?state=held",
                    "nobody": "agents?q=nobody",
                    "agent": f"agent/{INSTANCE}/{users[54]}",
                    "history": "history",
                    "brake": "brake",
                    "settings": "settings",
                    "nowhere": "nowhere",
                }
                browser.size(DESKTOP, dark=True)
                show(browser, places["agent"], evidence=True)
                take(browser, images / "dashboard-agent.png")
                browser.size(PHONE)
                show(browser, places["brake"])
                take(browser, images / "dashboard-phone.png")
                if everything is not None:
                    _everything(browser, daemon, places, everything)
        finally:
            daemon.close()


def _everything(browser: Browser, daemon: Daemon, places: dict[str, str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [(f"{name}-{tone}", size, tone) for name, size in (("screen", DESKTOP), ("phone", PHONE)) for tone in TONES]
    for kind, size, tone in kinds:
        browser.size(size, dark=tone == "dark")
        for name, place in places.items():
            show(browser, place, evidence=name in ("agent", "history"))
            take(browser, folder / f"{name}-{kind}.png", whole=True)
        browser.go("brake")
        browser.press("Hold…")
        browser.find("dialog")
        take(browser, folder / f"dialog-{kind}.png")
        browser.press("Leave it")
    daemon.kill()
    browser.says("Next attempt", "#notices")
    for kind, size, tone in kinds:
        browser.size(size, dark=tone == "dark")
        show(browser, "")
        take(browser, folder / f"lost-{kind}.png")
    browser.press("Sign out")
    browser.type("#token", "not a token")
    browser.press("Sign in")
    for kind, size, tone in kinds:
        browser.size(size, dark=tone == "dark")
        take(browser, folder / f"signed-out-{kind}.png")


TONES = ("light", "dark")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    make(IMAGES, Path(sys.argv[1]) if len(sys.argv) > 1 else None)
