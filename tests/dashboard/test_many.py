"""The dashboard over fifty thousand agents: it finds and turns pages quickly, and stays as small as it was."""

from __future__ import annotations

import threading
import time
from statistics import median
from typing import TYPE_CHECKING, Self
from uuid import UUID

import httpx
import pytest

from tests.dashboard.browser import Browser
from tests.dashboard.conftest import SLOW
from tests.scenarios.harness import ADMIN, INSTANCE, TOKEN, Daemon, new_session, sandbox, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.browser, pytest.mark.scenario, pytest.mark.long, pytest.mark.serial]

MANY = 50_000
QUICK_MS = 200
WARM_S = 90.0
EVENTS_S = 600.0
GROWN = 1.25

PATIENT = {
    **SLOW,
    "WATCHDOG_HEARTBEAT_INTERVAL": "300",
    "WATCHDOG_SESSION_TTL": "86400",
    "WATCHDOG_THROTTLED_SESSION_TTL": "86400",
    "WATCHDOG_TRUSTED_PROXIES": "127.0.0.1",
    "WATCHDOG_RECONCILE": "off",
}

MEASURE = """
const [change, count, words, done] = arguments;
const before = document.querySelector("tbody tr")?.textContent;
const begun = performance.now();
if (change.q !== undefined) {
  const field = document.getElementById("q");
  field.value = change.q;
  field.dispatchEvent(new Event("input"));
} else {
  [...document.querySelectorAll("nav.pages button")].find((each) => each.textContent === change.press).click();
}
const look = () => {
  const rows = document.querySelectorAll("tbody tr");
  const fits = words === null ? () => rows[0].textContent !== before : () => rows[0].textContent.includes(words);
  const met = rows.length === count && (count === 0 || fits());
  if (met) done(performance.now() - begun);
  else if (performance.now() - begun > 10000) done(Infinity);
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
"""Milliseconds from a change to the rows that answer it, as the page shows them."""


READ = """
const busy = document.querySelector("[aria-busy], .loading:not([hidden])");
return document.querySelector("main h1") !== null && busy === null;
"""


def user(number: int) -> str:
    # Scattered, as those of people are.
    return str(UUID(int=(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))


def fill(daemon: Daemon, agents: range) -> None:
    for begin in range(agents.start, agents.stop, 1000):
        batch = [
            {"instance_id": INSTANCE, "user_id": user(number), "session_id": str(UUID(int=number + 1))}
            for number in range(begin, min(begin + 1000, agents.stop))
        ]
        # Each from a site of its own: so many from one are a mistake.
        headers = {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": f"192.0.2.{begin // 1000}"}
        answer = daemon.client.post(
            f"{daemon.url}/v1/heartbeats", json={"heartbeats": batch}, headers=headers, timeout=30
        )
        assert answer.json()["rejected"] == []


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with sandbox(agents=1) as connect:
        daemon = Daemon(tmp_path_factory.mktemp("crowd"), settings(connect.server.url, **PATIENT))
        try:
            daemon.start().ready(60)
            fill(daemon, range(MANY))
            yield daemon
        finally:
            daemon.close()


class Churn:
    """Agents who come, say bye and are left alone: ten events or more a second."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.rounds = self.cancelled = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        url, admin = self._daemon.url, {"Authorization": f"Bearer {ADMIN}"}
        with httpx.Client(timeout=10, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            left: list[dict[str, str]] = []
            while not self._stop.wait(0.5):
                for named in left:
                    path = f"/v1/agents/{INSTANCE}/{named['user_id']}/cancel"
                    self.cancelled += client.post(url + path, headers=admin).status_code == 200
                    client.post(f"{url}/v1/heartbeat", json={**named, "session_id": new_session()})
                left = [self._leave(client, 97 * (self.rounds * 5 + number) % MANY) for number in range(5)]
                self.rounds += 1

    def _leave(self, client: httpx.Client, number: int) -> dict[str, str]:
        named = {"instance_id": INSTANCE, "user_id": user(number)}
        beat = {**named, "session_id": str(UUID(int=number + 1))}
        ticket = client.post(f"{self._daemon.url}/v1/heartbeat", json=beat).json()["ticket"]
        client.post(f"{self._daemon.url}/v1/heartbeat", json={**beat, "type": "bye", "ticket": ticket})
        return named


SHOWN = """
const walk = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
let count = 0;
while (walk.nextNode()) count += 1;
return count;
"""


def size(browser: Browser) -> tuple[int, int]:
    """Bytes of the page's heap, and its nodes that are not shown, after a collection."""
    run = browser.driver.execute_cdp_cmd
    for _ in range(2):
        run("HeapProfiler.collectGarbage", {})
    kept = int(run("Memory.getDOMCounters", {})["nodes"]) - int(browser.driver.execute_script(SHOWN))
    return int(run("Runtime.getHeapUsage", {})["usedSize"]), kept


def test_a_search_and_the_next_page_are_there_at_once(browser: Browser, crowd: Daemon) -> None:
    browser.sign_in(crowd.url)
    browser.says("present", "h1")
    assert browser.text("h1").startswith("50,000 present")
    browser.go("agents")
    browser.says("1 to 50 of 50,000", ".head")
    ids = sorted(user(number) for number in range(MANY))

    def measured(change: dict[str, str], count: int, words: str | None) -> float:
        return float(browser.driver.execute_async_script(MEASURE, change, count, words))

    found = []
    for place in (49_999, 0, 25_000, 12_345, 43_210, 49_998):
        found.append(measured({"q": ids[place]}, 1, ids[place]))
        found.append(measured({"q": "nobody"}, 0, ""))
    measured({"q": ""}, 50, "")
    turned = [measured({"press": "Next"}, 50, None) for _ in range(15)]
    turned += [measured({"press": "Previous"}, 50, None) for _ in range(5)]
    browser.says("501 to 550 of 50,000", ".head")
    print(f"search {[round(ms) for ms in found]} ms, pages {[round(ms) for ms in turned]} ms")
    assert median(found) < QUICK_MS
    assert median(turned) < QUICK_MS


def test_ten_minutes_of_events_leave_the_page_as_small_as_it_was(browser: Browser, crowd: Daemon) -> None:
    places = ["agents", "history", "agents?q=77", "brake", f"agent/{INSTANCE}/{user(0)}", "settings", ""]

    def look_around(seconds: float) -> None:
        """Through all pages, again and again; at the end the overview."""
        end, at = time.monotonic() + seconds, 0
        while time.monotonic() < end or places[at - 1]:
            browser.go(places[at])
            # The driver keeps every element that it was asked for, and with it the page that it was on.
            browser.until(lambda: browser.driver.execute_script(READ), "read")
            browser.driver.get_log("performance")
            pause.wait(4)
            at = (at + 1) % len(places)

    pause = threading.Event()
    browser.sign_in(crowd.url)
    browser.says("present", "h1")
    # The browser's own notes of what it was asked for are no part of the page.
    browser.driver.execute_cdp_cmd("Network.disable", {})
    with Churn(crowd) as churn:
        look_around(WARM_S)
        heap, kept = size(browser)
        look_around(EVENTS_S)
        heap_then, kept_then = size(browser)
    shown = int(browser.driver.execute_script(SHOWN))
    print(
        f"{churn.cancelled} decisions: heap {heap:,} to {heap_then:,} bytes, {kept} to {kept_then} nodes beside {shown}"
    )
    assert churn.cancelled > EVENTS_S / 2
    browser.says("live", ".pill")
    assert heap_then < GROWN * heap
    # The browser keeps what was shown last for a while, or does not.
    assert kept_then < kept + GROWN * shown
