"""An operator is careless, or somebody hands out odd links: nothing is done twice, and nothing wrong is shown."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.dashboard.browser import PHONE, Browser
from tests.dashboard.conftest import Floor
from tests.scenarios.harness import ADMIN, INSTANCE, new_session, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.browser, pytest.mark.scenario]

NOWHERE = [
    f"agent/{INSTANCE}/..",
    f"agent/{INSTANCE}/%2e%2e",
    "agent/../status",
    f"agent/{INSTANCE}/",
    "agent//x",
    f"agent/{INSTANCE}/a%2Fb",
    f"agent/{INSTANCE}/<img src=x>",
    f"agent/{INSTANCE}/%zz",
    f"agent/{INSTANCE}/" + "x" * 5000,
    f"agent/{INSTANCE}",
    "constructor",
    "brake/now",
    "%E0%A4%A",
]


@contextlib.contextmanager
def before_each_page(browser: Browser, script: str) -> Iterator[None]:
    """Runs a script in each page before its own."""
    run = browser.driver.execute_cdp_cmd
    added = run("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        yield
    finally:
        run("Page.removeScriptToEvaluateOnNewDocument", added)


def left_alone(floor: Floor) -> str:
    """Somebody comes, leaves, and is left alone."""
    user, session = f"passing-{new_session()}", new_session()
    assert floor.daemon.beat(user, session).status_code == 200
    assert floor.daemon.bye(user, session).status_code == 204
    until(lambda: floor.daemon.state(user) == "grace", "in grace")
    path = f"{floor.url}/v1/agents/{INSTANCE}/{user}/cancel"
    assert floor.daemon.client.post(path, headers={"Authorization": f"Bearer {ADMIN}"}).status_code == 200
    return user


def orders(floor: Floor) -> int:
    return len(floor.daemon.events("operator.order"))


def test_an_odd_link_leads_nowhere_and_asks_for_nothing(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    browser.requests()
    for place in NOWHERE:
        browser.go("settings")
        browser.says("Settings in force", "h1")
        browser.go(place)
        browser.says("There is no such page", "h1")
    asked = {urlsplit(url).path for url in browser.requests()}
    assert asked <= {"/v1/settings", "/v1/events", "/v1/status"}
    assert browser.complaints() == []
    # What is not a filter is none.
    browser.go("agents?state=nonsense")
    browser.until(lambda: len(browser.all("tbody tr")) >= 10, "all agents")
    browser.go("history?since=x&outcome=y")
    browser.until(lambda: not browser.all(".loading"), "the history")
    assert browser.all(".fault") == browser.all("#notices .is-warn") == []
    browser.go("agents?q=what?is&state=grace")
    browser.says("No agent is like that", ".empty")
    assert browser.find("#q").get_attribute("value") == "what?is"


@pytest.mark.long
def test_a_token_that_was_copied_badly_is_told_as_such(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url, "two words")
    browser.says("A token has no spaces", ".result")
    browser.requests()
    browser.clear("#token")
    browser.type("#token", "tök€n")
    browser.press("Sign in")
    browser.says("A token has no spaces", ".result")
    assert browser.requests() == []
    browser.clear("#token")
    browser.type("#token", f"  Bearer {ADMIN} ")
    browser.press("Sign in")
    browser.says("present", "h1")


def test_what_is_clicked_twice_is_asked_once_and_done_once(browser: Browser, floor: Floor) -> None:
    browser.size(PHONE)
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    browser.go("brake")
    before = orders(floor)
    button = browser.until(
        lambda: next((each for each in browser.all("button") if each.text == "Hold…"), None), "the button"
    )
    # Twice by a script, for which no dialog is in the way.
    browser.driver.execute_script("arguments[0].click(); arguments[0].click()", button)
    assert len(browser.all("dialog")) == 1
    go = browser.driver.find_element("css selector", "dialog button[type=submit]")
    # The second click of a double click, and a key that is held down, come too early.
    browser.driver.execute_script("arguments[0].click()", go)
    assert orders(floor) == before
    browser.until(go.is_enabled, "it may be confirmed")
    ActionChains(browser.driver).double_click(go).perform()
    browser.says("Done: the brake is held by an operator", "dialog")
    browser.press("Close")
    browser.press("End the order…")
    browser.press("End it")
    browser.says("Done", "dialog")
    browser.press("Close")
    assert orders(floor) == before + 2


@pytest.mark.long
def test_a_question_does_not_follow_to_another_page(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    browser.go(f"agent/{INSTANCE}/{floor.live[0]}")
    browser.says("present", ".standing")
    browser.press("Log out…")
    browser.find("dialog")
    browser.driver.back()
    browser.until(lambda: not browser.all("dialog"), "no dialog")
    browser.go(f"agent/{INSTANCE}/{floor.live[1]}")
    browser.press("Log out…")
    browser.says(floor.live[1], "dialog")
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    browser.until(lambda: not browser.all("dialog"), "no dialog")
    assert floor.daemon.state(floor.live[1]) == "live"


@pytest.mark.long
def test_two_tabs_are_two_operators_with_one_taste(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    first = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    try:
        browser.driver.get(floor.url + "/")
        browser.type("#token", ADMIN)
        browser.press("Sign in")
        browser.says("present", "h1")
        browser.click(".right button")
        browser.says("Theme: light", ".right")
        browser.go("brake")
        browser.press("Hold…")
        browser.press("Hold")
        browser.says("Done", "dialog")
        browser.press("Close")
        browser.press("Sign out")
        browser.find("#token")
    finally:
        browser.driver.close()
        browser.driver.switch_to.window(first)
    browser.says("Theme: light", ".right")
    browser.go("brake")
    browser.says("held by an operator", ".hold")
    browser.press("End the order…")
    browser.press("End it")
    browser.says("Done", "dialog")
    browser.press("Close")


OFF = """
const off = %d, RealDate = Date, origin = performance.timeOrigin;
Date = class extends RealDate {
  constructor(...args) { if (args.length) super(...args); else super(RealDate.now() + off); }
  static now() { return RealDate.now() + off; }
};
Object.defineProperty(performance, "timeOrigin", { get: () => origin + off });
"""


@pytest.mark.long
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_browser_whose_clock_is_wrong_shows_the_daemons_times(browser: Browser, floor: Floor, hours: int) -> None:
    left_alone(floor)
    with before_each_page(browser, OFF % (hours * 3_600_000)):
        browser.sign_in(floor.url)
        browser.says("present", "h1")
        browser.says("Up for", ".under")
        assert " h" not in browser.text(".head .under").split("Up for")[1]
        browser.go("history?since=900")
        browser.says("cancelled", ".decisions")
        browser.go(f"agent/{INSTANCE}/{floor.grace[0]}")
        browser.says("min", "dd")
        due_s = floor.daemon.ask(f"/v1/agents/{INSTANCE}/{floor.grace[0]}")["due_in_s"]
        minutes = int(browser.text("dd").split(" min")[0])
        assert abs(minutes * 60 - due_s) < 70
        # Opened there, before the first event: the daemon's time is known from its answers.
        browser.driver.refresh()
        browser.go("history?since=900")
        browser.driver.refresh()
        browser.says("cancelled", ".decisions")


HIDE = """
window.hide = (hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
};
const later = setTimeout;
window.setTimeout = (run, ms, ...args) => later(run, ms === 60000 ? 0 : ms, ...args);
"""
"""A page that can be hidden, and for which a minute is no time."""


@pytest.mark.long
def test_a_tab_that_was_hidden_for_long_shows_what_happened_meanwhile(browser: Browser, floor: Floor) -> None:
    with before_each_page(browser, HIDE):
        browser.sign_in(floor.url)
        browser.says("live", ".pill")
        browser.says("present", "h1")
        browser.requests()
        browser.driver.execute_script("hide(true)")
        # It has given its stream back: nothing arrives, and nothing is asked.
        seen = browser.text("h1")
        missed = left_alone(floor)
        assert missed not in browser.text(".decisions")
        assert browser.text("h1") == seen
        browser.driver.execute_script("hide(false)")
        browser.says(missed, ".decisions")
        browser.says("live", ".pill")
        browser.go("agents")
        browser.until(lambda: len(browser.all("tbody tr")) >= 10, "all agents")
        browser.driver.execute_script("hide(true)")
        coming = left_alone(floor)
        browser.requests()
        browser.driver.execute_script("hide(false)")
        # At once, not with the next look.
        until(lambda: any("/v1/agents?" in url for url in browser.requests()), "it has looked again", 2)
        browser.says(coming, "tbody")


@pytest.mark.long
def test_what_cannot_be_read_is_said_and_tried_again(browser: Browser, floor: Floor) -> None:
    run = browser.driver.execute_cdp_cmd
    browser.sign_in(floor.url)
    browser.says("live", ".pill")
    run("Network.enable", {})
    try:
        run("Network.setBlockedURLs", {"urls": ["*/v1/agents*", "*/v1/settings*", "*/v1/actions*"]})
        browser.go("agents")
        browser.says("The agents could not be read", "main")
        assert browser.faults() == []
        browser.go("settings")
        browser.says("cannot be reached", "#notices")
        run("Network.setBlockedURLs", {"urls": ["*/v1/*"]})
        browser.driver.refresh()
        browser.says("The daemon cannot be reached", "h1")
        assert browser.faults() == []
        assert browser.overflows() <= 0
    finally:
        run("Network.setBlockedURLs", {"urls": []})
    browser.says("Settings in force", "h1")
