"""The same in Firefox, as far as browsers differ: how pages and browsers end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.browsers.firefox import Firefox
from tests.browsers.processes import PageGoneError, now
from tests.browsers.stage import told
from tests.scenarios.harness import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browsers.stage import Stage

pytestmark = [pytest.mark.scenario, pytest.mark.serial, pytest.mark.browser, pytest.mark.long]


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Firefox]:
    browser = Firefox(tmp_path / "profile")
    yield browser
    browser.close()


def test_a_closed_tab_says_bye(stage: Stage, firefox: Firefox) -> None:
    user = stage.agent()
    tab = stage.open(firefox, user)
    begun = now()
    tab.close()
    stage.set_offline("Firefox: tab closed", user, begun, "bye")


def test_a_browser_that_quits_says_bye_or_is_missed_at_the_end_of_its_socket(stage: Stage, firefox: Firefox) -> None:
    user = stage.agent()
    stage.open(firefox, user)
    begun = now()
    with contextlib.suppress(PageGoneError):
        firefox.ask("browser.close")
    # It does not wait for what its pages still send.
    stage.set_offline("Firefox: quit", user, begun, "bye", "torn")


def test_a_reload_changes_nothing(stage: Stage, firefox: Firefox) -> None:
    user = stage.agent()
    tab = stage.open(firefox, user)
    before = tab.run("return here.sessionId")
    tab.reload()
    stage.settled(tab, user)
    assert tab.run("return here.sessionId") != before
    stage.nothing_happened("Firefox: page reloaded", user, "bye, then hello")


def test_a_page_that_comes_back_goes_on(stage: Stage, firefox: Firefox) -> None:
    user = stage.agent()
    tab = stage.open(firefox, user)
    tab.go(stage.site.url("/other"))
    until(lambda: stage.daemon.state(user) == "grace", "it said bye")
    tab.back()
    stage.settled(tab, user)
    kept = "from the back-forward cache" if told(tab)["persisted"] else "loaded anew"
    stage.nothing_happened(f"Firefox: left, and back ({kept})", user, "bye, then hello")


@pytest.mark.parametrize(("transport", "ended"), [("auto", "torn"), ("post", "silence")])
def test_a_browser_that_is_killed_is_missed(stage: Stage, firefox: Firefox, transport: str, ended: str) -> None:
    user = stage.agent()
    stage.open(firefox, user, transport=transport)
    begun = now()
    firefox.kill()
    stage.set_offline(f"Firefox: browser killed (SIGKILL), {transport}", user, begun, ended)


def test_without_a_worker_the_page_goes_on_when_it_is_hidden(stage: Stage, firefox: Firefox) -> None:
    user = stage.agent()
    tab = stage.open(firefox, user, workers="none")
    firefox.open(stage.site.url("/other"))
    until(lambda: tab.run("return document.visibilityState") == "hidden", "it is hidden")
    (beats,) = stage.beats(8, user)
    stage.nothing_happened("Firefox: worker forbidden by CSP, tab hidden", user, f"{beats / 8:.1f} beats an interval")
    assert beats >= 2
