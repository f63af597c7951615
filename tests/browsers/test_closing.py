"""Pages that are closed, left, reloaded and doubled, one after the other in one browser."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.browsers.processes import PageGoneError, now
from tests.browsers.stage import status, told
from tests.scenarios.harness import until

if TYPE_CHECKING:
    from tests.browsers.chromium import Chromium, Tab
    from tests.browsers.stage import Stage

pytestmark = [pytest.mark.scenario, pytest.mark.serial, pytest.mark.browser]


def session(tab: Tab) -> str:
    found: str = tab.run("return here.sessionId")
    return found


def test_a_closed_tab_says_bye(stage: Stage, chromium: Chromium) -> None:
    user = stage.agent()
    tab = stage.open(chromium, user)
    begun = now()
    tab.close()
    stage.set_offline("tab closed", user, begun, "bye")


def test_the_last_window_that_is_closed_says_bye(stage: Stage, own_chromium: Chromium) -> None:
    user = stage.agent()
    tab = stage.open(own_chromium, user)
    own_chromium.driver.switch_to.window(own_chromium.home)
    own_chromium.driver.close()
    begun = now()
    with contextlib.suppress(PageGoneError):
        tab.devtools("Page.close")
    stage.set_offline("last window closed", user, begun, "bye")


def test_a_reload_changes_nothing(stage: Stage, chromium: Chromium) -> None:
    user = stage.agent()
    tab = stage.open(chromium, user)
    before = session(tab)
    tab.reload()
    stage.settled(tab, user)
    assert session(tab) != before
    stage.nothing_happened("page reloaded", user, "bye, then hello")
    tab.close()


def test_a_page_that_comes_back_from_the_cache_goes_on_in_its_session(stage: Stage, chromium: Chromium) -> None:
    user = stage.agent()
    tab = stage.open(chromium, user)
    before = session(tab)
    tab.go(stage.site.url("/other"))
    until(lambda: stage.daemon.state(user) == "grace", "it said bye")
    tab.back()
    assert told(tab)["persisted"] is True
    until(lambda: status(tab) == ["live", "worker", "ws"], "it is back")
    assert session(tab) == before
    stage.nothing_happened("left, and back from the back-forward cache", user, "bye, then hello")
    tab.close()


@pytest.mark.long
def test_a_page_that_is_left_says_bye_also_where_it_is_kept_in_the_cache(stage: Stage, chromium: Chromium) -> None:
    user = stage.agent()
    tab = stage.open(chromium, user)
    begun = now()
    tab.go(stage.site.url("/other"))
    stage.set_offline("left for another page", user, begun, "bye")
    tab.back()
    assert told(tab)["persisted"] is True
    (notice,) = until(lambda: told(tab)["notices"], "it is told")
    assert (notice["status"], notice["restored"]) == ("Offline", None)
    tab.close()


@pytest.mark.long
def test_a_duplicated_tab_is_another_session(stage: Stage, chromium: Chromium) -> None:
    user = stage.agent()
    tab = stage.open(chromium, user)
    tab.run("sessionStorage.setItem('mine', 'copied')")
    with chromium.opened() as found:
        tab.run("window.open(location.href)")
    (double,) = found
    stage.settled(double, user)
    assert double.run("return sessionStorage.getItem('mine')") == "copied"
    assert session(double) != session(tab)
    stage.live(user, 2)
    tab.close()
    stage.nothing_happened("tab duplicated, the first closed", user, "bye of one session")
    begun = now()
    double.close()
    stage.set_offline("tab duplicated, both closed", user, begun, "bye")


@pytest.mark.long
def test_a_pop_out_outlives_the_window_that_opened_it(stage: Stage, chromium: Chromium) -> None:
    user = stage.agent()
    tab = stage.open(chromium, user)
    with chromium.opened() as found:
        tab.run("window.open(location.href, 'ccp', 'popup,width=400,height=500')")
    (popup,) = found
    stage.settled(popup, user)
    stage.live(user, 2)
    tab.close()
    stage.nothing_happened("pop-out open, its opener closed", user, "bye of one session")
    begun = now()
    popup.close()
    stage.set_offline("pop-out closed, too", user, begun, "bye")


def test_two_tabs_then_one_then_none(stage: Stage, chromium: Chromium) -> None:
    user = stage.agent()
    first, second = stage.open(chromium, user), stage.open(chromium, user)
    stage.live(user, 2)
    second.close()
    stage.nothing_happened("one of two tabs closed", user, "bye of one session")
    begun = now()
    first.close()
    stage.set_offline("the other one, too", user, begun, "bye")
