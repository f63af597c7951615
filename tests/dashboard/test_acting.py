"""An operator acts: reads why, leaves alone, logs out, holds, releases, exports; and the daemon goes away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.dashboard.browser import Browser
from tests.scenarios.harness import ADMIN, INSTANCE, Connect, Daemon, Present, new_session, until
from watchdog.sandbox.faults import Fault, FaultKind

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.browser, pytest.mark.scenario]

HOSTILE = "<img src=x onerror=window.hurt=1>\"'&lt;script&gt;"


def order(daemon: Daemon, path: str, **body: object) -> int:
    answer = daemon.client.request(
        "PUT" if path.endswith("brake") else "POST",
        daemon.url + path,
        json=body,
        headers={"Authorization": f"Bearer {ADMIN}"},
        timeout=45,
    )
    return answer.status_code


def in_grace(daemon: Daemon, user: str) -> None:
    session = new_session()
    daemon.beat(user, session, type="hello", seq=1)
    daemon.bye(user, session)
    until(lambda: daemon.state(user) == "grace", "in grace")


def test_the_ghost_is_found_and_why_it_was_set_is_read(connect: Connect, daemon: Daemon, browser: Browser) -> None:
    ghost = connect.users[0]
    daemon.start(WATCHDOG_SESSION_END_TIMER="1").ready(60)
    browser.sign_in(daemon.url)
    browser.says("0 present", "h1")
    browser.says("Nothing was decided yet")
    session = new_session()
    daemon.beat(ghost, session, type="hello", seq=1)
    daemon.bye(ghost, session)
    browser.says("set and confirmed", ".decisions", 30)
    browser.click(".decisions a.agent")
    browser.says(ghost, "h1")
    browser.says("The watchdog has set the agent's status.")
    browser.click(".decision summary")
    browser.says("said goodbye", ".said")
    said = browser.text(".said")
    assert "The timer of 1 s ran out" in said
    assert "Connect showed before: Available" in said
    assert "The write of Offline was accepted" in said
    assert f'"agent": "{INSTANCE}/{ghost}"' in browser.text("pre")
    # Connect has shown the routing profile as well: of the ghost, and of nobody else so far.
    daemon.beat(connect.users[1], new_session())
    profile = daemon.ask(f"/v1/agents/{INSTANCE}/{ghost}")["profile"]
    assert profile in browser.text(".facts")
    browser.go("agents")
    browser.until(lambda: len(browser.all("tbody tr")) == 2, "both")
    browser.click(f"#profile option[value='{profile}']")
    browser.until(lambda: [ghost in each.text for each in browser.all("tbody tr")] == [True], "the ghost alone")
    browser.driver.refresh()
    browser.until(lambda: [ghost in each.text for each in browser.all("tbody tr")] == [True], "the ghost alone")
    browser.until(lambda: browser.find("#profile").get_attribute("value") == profile, "the filter is shown")


@pytest.mark.long
def test_an_agent_is_left_alone_after_one_question(connect: Connect, daemon: Daemon, browser: Browser) -> None:
    user = connect.users[0]
    daemon.start().ready(60)
    in_grace(daemon, user)
    browser.sign_in(daemon.url)
    browser.says("1 in grace", "h1")
    browser.go(f"agent/{INSTANCE}/{user}")
    browser.says("grace", ".standing")
    browser.press("Leave alone…")
    browser.find("dialog")
    browser.press("Leave it")
    browser.until(lambda: not browser.all("dialog"), "no dialog")
    assert daemon.state(user) == "grace"
    browser.press("Leave alone…")
    browser.type("dialog input", HOSTILE)
    assert browser.faults() == []
    browser.press("Leave alone")
    browser.says("Done: the agent is gone.", "dialog")
    browser.press("Close")
    browser.says("gone", ".standing")
    assert daemon.actions()[0]["evidence"]["why"] == HOSTILE
    browser.click(".decision summary")
    browser.says(f"Reason: {HOSTILE}", ".said")
    # Once more: there is nothing to do any more, and the daemon says so.
    browser.press("Leave alone…")
    browser.press("Leave alone")
    browser.says("Nothing waits to be done", "dialog")


@pytest.mark.long
def test_an_agent_is_logged_out(connect: Connect, daemon: Daemon, browser: Browser) -> None:
    user = connect.users[1]
    daemon.start().ready(60)
    daemon.beat(user, new_session())
    browser.sign_in(daemon.url)
    browser.says("1 present", "h1")
    browser.go(f"agent/{INSTANCE}/{user}")
    browser.says("present", ".standing")
    browser.press("Log out…")
    browser.type("#ask-reason_code", "no-such-code")
    browser.press("Log out")
    browser.says("reason code", "dialog")
    assert daemon.state(user) == "live"
    browser.clear("#ask-reason_code")
    browser.press("Try again")
    browser.says("Done: the agent is logged out.", "dialog", 40)
    assert connect.status(user) == "Offline"
    assert daemon.state(user) == "away"


def test_the_brake_holds_and_releases_with_reason_and_expiry(
    connect: Connect, daemon: Daemon, browser: Browser
) -> None:
    daemon.start().ready(60)
    browser.sign_in(daemon.url)
    browser.says("none held", "h1")
    browser.go("brake")
    browser.says("Nobody is held")
    browser.type("#reason", HOSTILE)
    browser.click("#for option[value='3600']")
    browser.press("Hold…")
    browser.says("Hold all agents for 1 hour?", "dialog")
    browser.press("Hold")
    browser.says("Done: the brake is held by an operator", "dialog")
    browser.press("Close")
    browser.says("held by an operator", ".hold")
    assert HOSTILE in browser.text(".hold")
    assert "token:" in browser.text(".hold")
    (hold,) = until(lambda: daemon.ask("/v1/status")["brake"]["holds"], "it is told")
    assert (hold["state"], hold["reason"]) == ("ordered", "operator")
    assert browser.faults() == []
    browser.press("End the order…")
    browser.press("End it")
    browser.says("Done: the brake is clear", "dialog")
    browser.press("Close")
    browser.says("Nobody is held")
    # What another operator does is seen by itself.
    assert order(daemon, "/v1/brake", state="released", for_s=60, reason="drill") == 200
    browser.says("released by an operator", ".hold")


@pytest.mark.long
def test_the_history_is_filtered_and_exported(
    connect: Connect, daemon: Daemon, browser: Browser, downloads: Path
) -> None:
    daemon.start().ready(60)
    for user in connect.users[:3]:
        in_grace(daemon, user)
        assert order(daemon, f"/v1/agents/{INSTANCE}/{user}/cancel", reason="=1+1") == 200
    browser.sign_in(daemon.url)
    browser.says("0 present", "h1")
    browser.go("history")
    browser.until(lambda: len(browser.all(".decision")) == 3, "three decisions")
    browser.click("#outcome option[value='failed']")
    browser.says("Nothing of that kind was decided")
    browser.click("#outcome option[value='cancelled']")
    browser.until(lambda: len(browser.all(".decision")) == 3, "three decisions")
    in_grace(daemon, connect.users[3])
    assert order(daemon, f"/v1/agents/{INSTANCE}/{connect.users[3]}/cancel") == 200
    browser.press("1 new: show it")
    browser.until(lambda: len(browser.all(".decision")) == 4, "four decisions")
    browser.type("#agent", "nonsense\n")
    browser.says("takes an agent's ARN", ".fault")
    browser.clear("#agent")
    browser.type("#agent", "\n")
    browser.until(lambda: len(browser.all(".decision")) == 4, "four decisions")
    browser.press("Export as CSV")
    browser.says("Saved", ".head")
    file = downloads / "watchdog-history.csv"
    until(file.exists, "the file")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 5


def test_whatever_comes_from_outside_is_a_text(daemon: Daemon, browser: Browser) -> None:
    """Ids that could be HTML are refused as heartbeats; the page does not rely on it."""
    daemon.start().ready(60)
    assert daemon.beat(HOSTILE, new_session()).status_code == 400
    browser.sign_in(daemon.url)
    browser.says("0 present", "h1")
    show = """
        const [hostile, done] = arguments;
        Promise.all([import("/dashboard/decision.js"), import("/dashboard/brake.js"), import("/dashboard/elements.js")])
          .then(([{ decision }, { holdCard }, { fill, mark }]) => {
            const evidence = { by: hostile, rule: hostile, profile: hostile, queue: hostile, brake: { why: hostile } };
            evidence.before = { shown: true, status: hostile };
            evidence.sessions = [{ session_id: hostile, ended: hostile, ended_s_ago: 1 }];
            const action = { id: hostile, at: hostile, agent: hostile, intent: hostile, target: hostile, evidence };
            Object.assign(action, { outcome: hostile, reason: hostile, calls: hostile, latency_s: hostile });
            const hold = { group: hostile, state: hostile, why: hostile, agents: 1, since: hostile, age_s: 1 };
            Object.assign(hold, { proof: hostile, next_step: hostile });
            const main = document.getElementById("main");
            fill(main, decision(action, { agent: true }), holdCard(hold), mark("live", hostile));
            const strange = main.querySelectorAll("img, script, [onerror]").length;
            const links = [...main.querySelectorAll("a")].map((each) => new URL(each.href).origin);
            done([strange, main.textContent.split(hostile).length > 15, [...new Set(links)]]);
          });
    """
    found = browser.driver.execute_async_script(show, HOSTILE)
    assert found == [0, True, [daemon.url]]
    assert browser.driver.execute_script("return typeof window.hurt") == "undefined"
    assert browser.violations() == []


def test_a_daemon_that_goes_away_is_told_and_one_that_comes_back_is_found(
    connect: Connect, daemon: Daemon, browser: Browser
) -> None:
    daemon.start().ready(60)
    daemon.beat(connect.users[0], new_session())
    browser.sign_in(daemon.url)
    browser.says("1 present", "h1")
    in_grace(daemon, connect.users[1])
    assert order(daemon, f"/v1/agents/{INSTANCE}/{connect.users[1]}/cancel") == 200
    browser.says("cancelled", ".decisions")
    browser.says("ListAgentStatuses", ".gauges")
    assert daemon.stop() == 0
    # Its streams were ended, not cut off.
    assert daemon.events("daemon.part_cancelled") == daemon.events("daemon.stop_cut_short") == []
    assert "shutdown exceeded" not in daemon.log
    browser.says("The daemon cannot be reached.", "#notices")
    browser.says("not reachable", ".pill")
    browser.says("Next attempt", "#notices")
    assert "1 present" in browser.text("h1")
    assert browser.faults() == []
    # A screen reader is told of it once, and not of each second.
    assert "Next attempt" in browser.text("#notices [aria-hidden=true]")
    browser.go("settings")
    browser.says("They could not be read")
    # What was known is shown on, also on a page that is opened only now.
    browser.go("")
    browser.says("cancelled", ".decisions")
    browser.says("ListAgentStatuses", ".gauges")
    browser.go("settings")
    daemon.start(WATCHDOG_RETURN_WINDOW="4321").ready(60)
    browser.says("live", ".pill", 40)
    browser.until(lambda: not browser.all("#notices .is-bad"), "no notice")
    # Those of the daemon that is there now.
    browser.says("4321", "tbody")
    browser.go("")
    browser.says("1 present", "h1")


@pytest.mark.long
def test_a_token_that_is_taken_away_signs_out(connect: Connect, daemon: Daemon, browser: Browser) -> None:
    daemon.start().ready(60)
    browser.sign_in(daemon.url)
    browser.says("0 present", "h1")
    assert daemon.stop() == 0
    daemon.start(WATCHDOG_ADMIN_TOKENS="another-token-of-the-tests").ready(60)
    browser.says("The token is not taken any more", limit_s=40)
    browser.find("#token")
    assert browser.driver.execute_script("return Object.keys(sessionStorage).length") == 0


@pytest.mark.long
def test_without_any_authentication_nobody_is_asked_for_a_token(
    connect: Connect, daemon: Daemon, browser: Browser
) -> None:
    daemon.env.pop("WATCHDOG_ADMIN_TOKENS")
    daemon.env.pop("WATCHDOG_HEARTBEAT_TOKENS")
    daemon.start(WATCHDOG_AUTH="none", WATCHDOG_DRY_RUN="true").ready(60)
    browser.visit(daemon.url + "/")
    browser.says("0 present", "h1")
    browser.says("Dry run. Everything is decided", "#notices")


@pytest.mark.long
def test_problems_are_told_with_what_to_do(connect: Connect, daemon: Daemon, browser: Browser) -> None:
    connect.model.add_fault(Fault(FaultKind.ACCESS_DENIED, operation="PutUserStatus"))
    daemon.start(WATCHDOG_SESSION_END_TIMER="1").ready(60)
    browser.sign_in(daemon.url)
    browser.says("0 present", "h1")
    session = new_session()
    daemon.beat(connect.users[0], session, type="hello", seq=1)
    daemon.bye(connect.users[0], session)
    browser.says("denied", ".problems")
    browser.says("1 due", "h1")
    assert "connect:PutUserStatus" in browser.text(".problems")
    assert "docs/troubleshooting.md, denied" in browser.text(".problems")
    assert browser.faults() == []


@pytest.mark.long
def test_an_hour_of_events_leaves_the_page_as_small_as_it_was(
    connect: Connect, daemon: Daemon, browser: Browser
) -> None:
    daemon.start().ready(60)
    with Present(daemon, connect.users[:3], 1.0):
        browser.sign_in(daemon.url)
        browser.says("3 present", "h1")
        hour = """
            const done = arguments[arguments.length - 1];
            import('/dashboard/model.js').then(({ Model, MOST_SAMPLES, MOST_ACTIONS }) => {
              const model = new Model();
              const agents = { live: 1, grace: 0, due: 0, held: 0, away: 0, gone: 0 };
              const fields = ["at", "live", "heartbeats"];
              model.event("hello", { boot: "b", version: "1", at: 0, series: { fields, samples: [] } }, 0);
              for (let second = 1; second <= 3 * 3600; second++) {
                model.event("counts", { agents, heartbeats: second * 2 }, second * 1000);
                model.event("action", { id: String(second), agent: "i/u", at: "" }, second * 1000);
                model.tick(second * 1000);
              }
              const full = model.samples.length === MOST_SAMPLES && model.recent.length === MOST_ACTIONS;
              done([full, model.beats.length <= 15, model.rate]);
            });
        """
        assert browser.driver.execute_async_script(hour) == [True, True, 2]
