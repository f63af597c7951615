"""An operator's whole way, on either screen and in either light: finds the ghost, reads why, holds, releases, exports,
signs out; and nothing on the way is wrong for those who cannot see it, or too wide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.dashboard.browser import DESKTOP, PHONE, Browser
from tests.dashboard.conftest import SLOW
from tests.scenarios.harness import Daemon, Present, new_session, sandbox, settings, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.browser, pytest.mark.scenario, pytest.mark.long]


@pytest.fixture(scope="module")
def haunted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, str]]:
    """A daemon that watches five agents and has set a sixth, whose id comes with it."""
    with sandbox(agents=6) as connect:
        env = settings(connect.server.url, **SLOW, WATCHDOG_BRAKE_MIN_AGENTS="1000")
        daemon = Daemon(tmp_path_factory.mktemp("haunted"), env)
        try:
            daemon.start(WATCHDOG_SESSION_END_TIMER="1").ready(60)
            ghost, session = connect.users[0], new_session()
            with Present(daemon, connect.users[1:], 2.0):
                daemon.beat(ghost, session, type="hello", seq=1)
                daemon.bye(ghost, session)
                until(lambda: daemon.state(ghost) == "away", "the ghost is set")
                yield daemon, ghost
        finally:
            daemon.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
def test_the_ghost_is_found_explained_and_told_of(
    browser: Browser, haunted: tuple[Daemon, str], downloads: Path, size: tuple[int, int], *, dark: bool
) -> None:
    daemon, ghost = haunted

    def well(where: str) -> None:
        assert browser.faults() == [], where
        assert browser.overflows() <= 0, where

    browser.size(size, dark=dark)
    browser.sign_in(daemon.url)
    browser.says("5 present", "h1")
    well("overview")
    browser.press("Agents", "nav a")
    browser.until(lambda: len(browser.all("tbody tr")) == 6, "all agents")
    browser.click("#state option[value='away']")
    browser.until(lambda: [ghost in each.text for each in browser.all("tbody tr")] == [True], "the ghost alone")
    well("agents")
    browser.click("tbody a.agent")
    browser.says(ghost, "h1")
    browser.click(".decision summary")
    browser.says("said goodbye", ".said")
    well("agent")
    browser.press("Brake", "nav a")
    browser.type("#reason", "a drill")
    for button, confirm, state in (
        ("Hold…", "Hold", "held by an operator"),
        ("Release…", "Release", "released by an operator"),
    ):
        browser.press(button)
        browser.says("Reason: a drill", "dialog")
        well(confirm)
        browser.press(confirm)
        browser.says(f"Done: the brake is {state}", "dialog")
        well("done")
        browser.press("Close")
        browser.says(state, ".hold")
    browser.press("End the order…")
    browser.press("End it")
    browser.says("Done", "dialog")
    browser.press("Close")
    browser.press("History", "nav a")
    browser.click("#outcome option[value='confirmed']")
    browser.until(lambda: len(browser.all(".decision")) == 1, "the decision")
    browser.press("Export as CSV")
    browser.says("Saved", ".head")
    well("history")
    until((downloads / "watchdog-history.csv").exists, "the file")
    assert ghost in (downloads / "watchdog-history.csv").read_text(encoding="utf-8")
    browser.press("Sign out")
    browser.find("#token")
    well("signed out")
