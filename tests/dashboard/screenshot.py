"""`python -m tests.dashboard.screenshot`: makes the picture in docs/dashboard.md, of a floor whose brake holds.

Needs chromium, chromedriver and selenium; takes a minute.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.dashboard.browser import DESKTOP, opened
from tests.scenarios.harness import ROOT, Daemon, Present, new_session, sandbox, settings, until

PICTURE = ROOT / "docs" / "images" / "dashboard.png"

TIMES = {
    "WATCHDOG_HEARTBEAT_INTERVAL": "5",
    "WATCHDOG_SESSION_TTL": "20",
    "WATCHDOG_THROTTLED_SESSION_TTL": "60",
    "WATCHDOG_SESSION_END_TIMER": "12",
    "WATCHDOG_BRAKE_MIN_AGENTS": "5",
}


def make(picture: Path) -> None:
    """Plays a short day and takes the picture."""
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
            browser.driver.save_screenshot(str(picture))
        finally:
            daemon.close()


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    make(PICTURE)
