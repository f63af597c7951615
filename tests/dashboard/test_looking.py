"""An operator looks: signs in, reads how it stands, finds an agent, and changes nothing."""

from __future__ import annotations

import pytest

from tests.dashboard.browser import DESKTOP, PHONE, Browser, hosts
from tests.dashboard.conftest import Floor
from tests.scenarios.harness import ADMIN, INSTANCE, TOKEN, until

pytestmark = [pytest.mark.browser, pytest.mark.scenario]

PLACES = ["", "agents", "agents?q=nobody", "history", "history?outcome=failed", "brake", "settings", "nowhere"]


def rows(browser: Browser) -> list[str]:
    return [each.text for each in browser.all("tbody tr")]


def test_a_wrong_token_shows_nothing_and_is_not_kept(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url, TOKEN)
    browser.says("not an admin token")
    assert "present" not in browser.text()
    assert browser.driver.execute_script("return Object.keys(sessionStorage).length") == 0
    browser.type("#token", ADMIN)
    browser.press("Sign in")
    browser.says("8 present, 2 in grace, none held", "h1")


def test_the_token_is_kept_in_the_tab_until_the_sign_out(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    browser.driver.refresh()
    browser.says("present", "h1")
    assert ADMIN not in browser.driver.execute_script("return JSON.stringify(localStorage)")
    assert browser.driver.get_cookies() == []
    browser.press("Sign out")
    browser.find("#token")
    assert browser.driver.execute_script("return Object.keys(sessionStorage).length") == 0
    browser.driver.refresh()
    browser.find("#token")


def test_the_numbers_follow_by_themselves(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url)
    browser.says("live", ".pill")
    browser.says("2", "a.tile:nth-child(2) b")
    assert floor.daemon.beat("someone-new", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff").status_code == 200
    browser.says("9 present", "h1")
    assert browser.driver.execute_script("return document.querySelectorAll('canvas').length") == 2
    chart = browser.all(".canvas")[0]
    browser.until(lambda: "present 9" in str(chart.get_attribute("aria-label")), "the chart follows")
    ticket = floor.daemon.beat("someone-new", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff").json()["ticket"]
    bye = {"type": "bye", "ticket": ticket}
    assert floor.daemon.beat("someone-new", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", **bye).status_code == 204
    browser.says("8 present, 3 in grace", "h1")
    cancel = f"{floor.url}/v1/agents/{INSTANCE}/someone-new/cancel"
    assert floor.daemon.client.post(cancel, headers={"Authorization": f"Bearer {ADMIN}"}).status_code == 200
    browser.says("8 present, 2 in grace", "h1")
    browser.says("cancelled", ".decisions")


def test_agents_are_searched_and_filtered_by_the_daemon(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    browser.press("Agents", "nav a")
    browser.until(lambda: len(rows(browser)) >= 10, "all agents")
    wanted = floor.live[3]
    browser.type("#q", wanted[4:18])
    browser.until(lambda: len(rows(browser)) == 1, "one agent")
    assert wanted in rows(browser)[0]
    assert "present" in rows(browser)[0]
    asked = [url for url in browser.requests() if "/v1/agents?" in url]
    assert any(f"q={wanted[4:18]}" in url for url in asked)
    browser.clear("#q")
    browser.type("#q", "nobody at all")
    browser.says("No agent is like that", ".empty")
    browser.go("agents?state=grace")
    browser.until(lambda: len(rows(browser)) == 2, "two in grace")
    assert all("grace" in each for each in rows(browser))


@pytest.mark.long
def test_a_countdown_runs_between_two_answers(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    browser.go(f"agent/{INSTANCE}/{floor.grace[0]}")
    browser.says("min", "dd")
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/v1/agents/*"]})
    try:
        seen = {browser.text("dd")}
        until(lambda: seen.add(browser.text("dd")) or len(seen) >= 3, "three different times")
    finally:
        browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})


def test_the_settings_are_shown_without_secrets(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    browser.go("settings")
    browser.says("WATCHDOG_SESSION_END_TIMER")
    assert "3600" in browser.text()
    assert ADMIN not in browser.driver.page_source
    assert TOKEN not in browser.driver.page_source
    browser.type("#find", "admin_tokens")
    browser.until(lambda: len(rows(browser)) == 1, "one setting")


@pytest.mark.parametrize(
    ("size", "dark"),
    [
        pytest.param(DESKTOP, False, id="desktop-light"),
        pytest.param(PHONE, True, id="phone-dark"),
        pytest.param(DESKTOP, True, id="desktop-dark", marks=pytest.mark.long),
        pytest.param(PHONE, False, id="phone-light", marks=pytest.mark.long),
    ],
)
def test_every_page_is_usable_in_either_light_on_either_screen(
    browser: Browser, floor: Floor, size: tuple[int, int], *, dark: bool
) -> None:
    browser.size(size, dark=dark)
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    grounds = set()
    for place in [*PLACES, f"agent/{INSTANCE}/{floor.live[0]}"]:
        browser.go(place)
        browser.find("main h1")
        browser.until(lambda: not browser.all("[aria-busy]") and not browser.all(".loading"), "loaded")
        assert browser.faults() == [], place
        assert browser.overflows() <= 0, place
        if place == "settings":
            # On a phone, too, the value and the meaning are read without moving the table.
            wider = "const it = document.querySelector('.scroll'); return it.scrollWidth - it.clientWidth"
            assert browser.driver.execute_script(wider) <= 0
            lines = "return getComputedStyle(document.querySelector('td.source')).whiteSpace"
            assert browser.driver.execute_script(lines) == "nowrap"
        grounds.add(browser.driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert grounds == ({"rgb(18, 22, 29)"} if dark else {"rgb(245, 246, 248)"})
    browser.press("Sign out")
    browser.find("#token")
    assert browser.faults() == []


@pytest.mark.long
def test_a_tab_that_comes_and_goes_keeps_no_connection(browser: Browser, floor: Floor) -> None:
    """A browser has six to a host; a page that it keeps for the way back must not hold one."""
    browser.sign_in(floor.url)
    for _ in range(8):
        browser.says("present", "h1")
        browser.says("live", ".pill")
        browser.driver.get("about:blank")
        browser.driver.get(floor.url + "/")
    browser.says("present", "h1")
    browser.driver.back()
    browser.driver.back()
    browser.says("live", ".pill")


DRAWN = """
const canvas = document.querySelector(".chart canvas");
const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
for (let at = 0; at < data.length; at += 4) {
  if (arguments[0].every((part, index) => data[at + index] === part)) return true;
}
return false;
"""
"""Whether the first chart has a point of this colour."""


@pytest.mark.long
def test_a_chosen_theme_goes_before_that_of_the_system(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    light, dark = ("rgb(245, 246, 248)", [28, 122, 74]), ("rgb(18, 22, 29)", [95, 207, 149])
    browser.until(lambda: browser.driver.execute_script(DRAWN, light[1]), "a line for those who are present")
    for theme, (ground, line) in (("light", light), ("dark", dark), ("auto", light)):
        browser.click(".right button")
        browser.says(f"Theme: {theme}", ".right")
        assert browser.driver.execute_script("return getComputedStyle(document.body).backgroundColor") == ground
        browser.until(lambda line=line: browser.driver.execute_script(DRAWN, line), "the line in this light")


def test_it_is_used_by_keyboard_alone(browser: Browser, floor: Floor) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.sign_in(floor.url)
    browser.says("present", "h1")
    browser.driver.refresh()
    browser.says("present", "h1")

    def press(key: str) -> str:
        browser.driver.switch_to.active_element.send_keys(key)
        return str(browser.driver.switch_to.active_element.text)

    assert press(Keys.TAB) == "Skip to content"
    while press(Keys.TAB) != "Agents":
        pass
    press(Keys.ENTER)
    browser.says("Agents", "h1")
    assert browser.driver.switch_to.active_element.get_attribute("id") == "main"
    press(Keys.TAB)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "q"
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.driver.execute_script(outline) == "solid"


def test_nothing_is_loaded_from_elsewhere_and_no_policy_is_broken(browser: Browser, floor: Floor) -> None:
    browser.sign_in(floor.url)
    browser.says("present", "h1")
    for place in [*PLACES, f"agent/{INSTANCE}/{floor.live[0]}"]:
        browser.go(place)
        browser.find("main h1")
    browser.go("brake")
    browser.press("Hold…")
    browser.find("dialog")
    browser.press("Leave it")
    asked = browser.requests()
    assert len(asked) > 10
    assert hosts(asked) == {floor.url.removeprefix("http://")}
    assert browser.violations() == []
    assert browser.complaints() == []
    # What a script of somebody else's would try.
    browser.driver.execute_script(
        "const s = document.createElement('style'); s.append('*{}'); document.head.append(s);"
    )
    browser.until(lambda: "style-src-elem" in browser.violations(), "a style is refused")
