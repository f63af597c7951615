"""The demo's parts that need no process: the cast, what is told, what is drawn, what the guardian clears up."""

import asyncio
import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from watchdog.sandbox.demo import guardian, screen, summary
from watchdog.sandbox.demo.agents import Agent, Office
from watchdog.sandbox.demo.roles import AVAILABLE, OFFLINE, TIMING, Act, Mark
from watchdog.sandbox.demo.stage import Lines, Stage
from watchdog.sandbox.demo.stories import GROUPS, KILL_AT_S, STORIES, cast
from watchdog.sandbox.demo.verdict import Moment, Pause, Verdict
from watchdog.sandbox.demo.watching import Ledger, Seen, Snapshot

TOTALS = summary.Totals(heartbeats=400, unanswered=20, calls={"PutUserStatus": 8}, throttled=0, took_s=35)


def plain(width: int = 100) -> Console:
    return Console(file=io.StringIO(), width=width, no_color=True, highlight=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def results(**wrong: str) -> list[summary.Result]:
    """Everyone as they should be, but for the agents named."""
    found = []
    for role in cast():
        expects = role.story.expects
        times = [change.least_s + 0.2 for change in expects.changes]
        if expects.in_force is Mark.CALL_END:
            times.append(0.0)
        fault = wrong.get(role.name.replace("-", ""))
        happened = ", ".join(change.what for change in expects.changes) or "untouched"
        found.append(summary.Result(role, Verdict(happened, tuple(times), (fault,) if fault else ())))
    return found


def agent(number: int) -> Agent:
    office = Office(httpx.AsyncClient(), "", "", "", "token", "admin", lambda *_: None)
    return Agent(cast()[number - 1], f"user-{number}", f"arn:{number}", office)


def stage_with(*seen: Seen) -> Stage:
    stage = Stage(TIMING)
    stage.agents = [agent(number) for number in range(1, len(seen) + 1)]
    stage.snapshot = Snapshot({f"user-{number}": each for number, each in enumerate(seen, start=1)}, None)
    return stage


LIVE = Seen("live", 1, 6.5, "Available")


def test_twenty_agents_play_and_many_of_them_must_not_be_touched():
    roles = cast()

    assert [role.number for role in roles] == list(range(1, 21))
    assert sum(not role.story.expects.changes for role in roles) == 8


def test_all_stories_fit_the_table_and_what_needs_the_daemon_is_over_before_it_is_killed():
    for story in STORIES:
        assert len(story.title) <= 24
        assert len(summary.expected(story.expects)) <= 33
        assert all(len(step.now) <= 19 for step in story.steps)
    for role in cast():
        changes = [each for each in role.story.expects.changes if each.since in (Mark.BYE, Mark.SILENCE)]
        gone_s = [step.at_s for step in role.steps if step.act in (Act.CLOSE_TAB, Act.CRASH, Act.CUT)]
        if changes and gone_s[-1] < KILL_AT_S - 2:
            assert gone_s[-1] + changes[-1].most_s + 2 < KILL_AT_S


def test_who_comes_back_or_ends_a_call_does_so_well_after_the_change_and_not_about_the_kill():
    for role in cast():
        changes = role.story.expects.changes
        left_s = [step.at_s for step in role.steps if step.act is Act.CLOSE_TAB]
        later_s = [step.at_s for step in role.steps if step.act in (Act.CALL_ENDS, Act.OPEN_TAB)]
        if changes and left_s and later_s and later_s[-1] > left_s[-1]:
            assert left_s[-1] + changes[0].most_s + 5 < later_s[-1]
            assert later_s[-1] > KILL_AT_S + 4


def test_the_silences_that_must_not_matter_are_shorter_than_what_they_are_measured_by():
    for role in cast():
        cut = [step.at_s for step in role.steps if step.act is Act.CUT]
        back = [step.at_s for step in role.steps if step.act is Act.RECONNECT]
        if cut and not role.story.expects.changes:
            assert back[0] - cut[0] < TIMING.least_s(Mark.SILENCE) - TIMING.heartbeat_interval_s


def test_the_summary_says_that_all_is_well_and_where_to_go_next():
    console = plain()

    assert summary.show(console, results(), TOTALS, [])
    assert "All 20 agents as they should be." in printed(console)
    assert "docs/index.md" in printed(console)


def test_one_present_agent_who_was_touched_fails_the_demo_and_is_named():
    console = plain()

    assert not summary.show(console, results(agent02="PutUserStatus Offline, but was present"), TOTALS, [])
    assert "agent-02 (works all the time): PutUserStatus Offline, but was present" in printed(console)
    assert "✗  works all the time" in printed(console)
    assert "as they should be." not in printed(console)


@pytest.mark.parametrize(
    ("fault", "busy"),
    [("Offline 4.2 s after the bye, later than 4 s", True), ("PutUserStatus Offline, but was present", False)],
)
def test_what_was_late_and_nothing_else_may_be_the_machine(fault, busy):
    console = plain()

    assert not summary.show(
        console, results(agent02=fault, agent03="Offline 9 s after the bye, later than 4 s"), TOTALS, []
    )
    assert ("a machine that is busy" in printed(console)) is busy


def test_a_daemon_that_did_not_stop_in_order_fails_the_demo_too():
    console = plain()

    assert not summary.show(console, results(), TOTALS, [], ["The watchdog stopped with exit code 1, not 0."])
    assert "exit code 1" in printed(console)


def test_the_summary_has_one_line_for_each_story_in_eighty_columns():
    console = plain(80)

    summary.show(console, results(), TOTALS, [Pause(1, 2.5, restart_at=0)])

    marked = [line for line in printed(console).splitlines() if line.startswith("✓")]
    assert len(marked) == len(STORIES)
    assert " ".join(marked[3].split()) == "✓ the browser crashes Offline 7–8 s after the last beat after 7.2, 7.2 s"
    assert " ".join(marked[9].split()) == "✓ leaves during a call Offline next, in force at its end 3.2, +0.0 s"
    assert " ".join(marked[12].split()) == "✓ a rule of two stages Away 1.5, Offline 4, logout +10 s 1.7, 4.2, +10.2 s"
    assert [line.strip() for line in printed(console).splitlines() if line.strip() in GROUPS] == list(GROUPS)


def test_the_screen_fits_a_hundred_columns_and_thirty_lines():
    stage = stage_with(*[LIVE] * 20)
    for number in range(30):
        stage.tell(f"agent-{number:02}", "arrives")
    console = plain(100)

    console.print(screen.draw(stage, 100, 30))

    lines = printed(console).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert any("agent-20" in line and "Available" in line for line in lines)
    assert "agent-29  arrives" in lines[-1]


def test_the_screen_of_eighty_columns_and_twenty_four_lines_still_has_every_agent():
    stage = stage_with(*[LIVE] * 20)
    stage.tell("agent-01", "arrives")
    console = plain(80)

    console.print(screen.draw(stage, 80, 24))

    lines = printed(console).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert sum("live" in line and "Available" in line for line in lines) == 20


def test_a_running_timer_is_drawn_with_the_seconds_that_are_left():
    console = plain(100)

    console.print(screen.draw(stage_with(Seen("grace", 0, 1.5, "Available")), 100, 30))

    assert "timer ━━━━━━━━ 1.5" in printed(console)


def test_what_the_watchdog_does_is_told_as_it_is_seen():
    stage = stage_with(LIVE)
    stage.agents[0].moments.append(Moment(100.0, Mark.BYE))
    ledger = Ledger()
    console = plain()
    with Lines(stage, console):
        for state, status in (("grace", "Available"), ("due", "Offline"), ("away", "Offline")):
            seen = Seen(state, 0, None, status)
            call = {"operation": "PutUserStatus", "outcome": "ok", "at": 103.2, "user_id": "user-1"}
            if state == "due":
                ledger.note_calls([{**call, "params": {"AgentStatusId": "s1"}}], {"s1": "Offline"})
            stage.show(Snapshot({"user-1": seen}, None), ledger)

    told = [line.partition("agent-01  ")[2] for line in printed(console).splitlines()]
    assert told == [
        "has no session left: the timer runs",
        "is set Offline, 3.2 s after the bye",
        "is Offline: Connect was read back",
    ]
    assert "\x1b" not in printed(console)


def told_of(*seen: Seen, writes: tuple[str, ...] = ()) -> list[str]:
    """What is told of an agent whom Connect and the daemon show so, one look after the other."""
    stage = stage_with(LIVE)
    ledger = Ledger()
    call = {"operation": "PutUserStatus", "outcome": "ok", "at": 103.2, "user_id": "user-1"}
    ledger.note_calls([{**call, "params": {"AgentStatusId": each}} for each in writes], {each: each for each in writes})
    for each in seen:
        stage.show(Snapshot({"user-1": each}, None), ledger)
    return [event.what for event in stage.events]


def test_a_status_that_waits_for_the_end_of_a_contact_is_told_and_then_its_coming_in_force():
    grace = Seen("grace", 0, 1.0, AVAILABLE)
    waits = Seen("due", 0, None, AVAILABLE, next_status=OFFLINE)
    settled = replace(waits, state="away")

    assert told_of(grace, waits, settled, Seen("away", 0, None, OFFLINE), writes=(OFFLINE,))[1:] == [
        "still holds a contact: Offline is the next status",
        "will be Offline: Connect was read back",
        "is Offline: the contact is gone",
    ]


def test_stages_a_sign_out_a_return_and_who_is_left_alone_are_told():
    grace = Seen("grace", 0, 1.0, AVAILABLE)
    away, offline = Seen("away", 0, None, "Away"), Seen("away", 0, None, OFFLINE)

    assert told_of(away, offline)[0] == "is set Away by the watchdog"
    assert told_of(offline, replace(offline, state="due"), replace(offline, sessions_ended=1)) == [
        "is set Offline by the watchdog",
        "is signed out: all sessions in Connect are ended",
    ]
    assert told_of(offline, LIVE, writes=(AVAILABLE,))[-1] == "is set Available again by the watchdog"
    assert "is set Available again by the watchdog" not in told_of(offline, LIVE)
    assert told_of(grace, Seen("gone", 0, None, AVAILABLE))[-1] == "is left alone: no rule is for the routing profile"


def test_the_screen_tells_the_next_status_a_sign_out_and_who_is_left_alone():
    console = plain(100)
    seen = (
        Seen("due", 0, None, AVAILABLE, next_status=OFFLINE),
        Seen("away", 0, None, OFFLINE, sessions_ended=1),
        Seen("gone", 0, None, AVAILABLE),
    )

    console.print(screen.draw(stage_with(*seen), 100, 30))

    lines = [line for line in printed(console).splitlines() if "agent-" in line]
    assert " ".join(lines[0].split()).endswith("reading back → Offline")
    assert "signed out" in lines[1]
    assert "left alone" in lines[2]


def test_the_ledger_keeps_writes_with_the_names_of_the_statuses_and_counts_the_rest():
    ledger = Ledger()
    put = {"operation": "PutUserStatus", "at": 1.0, "user_id": "u", "params": {"AgentStatusId": "s1"}}
    read = {"operation": "GetCurrentUserData", "at": 2.0, "user_id": None, "params": {}, "outcome": "ok"}

    ledger.note_calls([{**put, "outcome": "ThrottlingException"}, {**put, "outcome": "ok"}, read], {"s1": "Offline"})

    assert ledger.calls == {"PutUserStatus": 2, "GetCurrentUserData": 1}
    assert ledger.throttled == 1
    assert [(write.what, write.ok) for write in ledger.writes["u"]] == [("Offline", False), ("Offline", True)]
    assert ledger.set_offline("u") == (1.0,)


async def test_a_page_that_is_told_to_stop_does_and_a_logout_that_is_refused_is_kept():
    heard = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/logout"):
            return httpx.Response(409, text="not now")
        if request.url.path == "/v1/heartbeat":
            heard.append(json.loads(request.content)["type"])
            return httpx.Response(200, json={"state": "stop" if len(heard) > 1 else "live", "next_ms": 1})
        return httpx.Response(200, json={})

    (role,) = (role for role in cast() if any(step.act is Act.LOG_OUT for step in role.steps))
    office = Office(
        httpx.AsyncClient(transport=httpx.MockTransport(answer)),
        "http://daemon",
        "http://sandbox",
        "instance",
        "token",
        "admin",
        lambda *_: None,
    )
    player = Agent(role, "user", "arn", office)
    async with asyncio.timeout(10):
        # All of it is long over: nothing is waited for, and with the only page the play ends.
        await player.play(time.monotonic() - 100)

    assert heard == ["hello", "beat"]
    assert (player.stopped, player.tabs) == (1, 0)
    assert player.refusals == ["the logout was answered 409: not now"]


def test_the_guardian_forgets_children_that_have_ended():
    assert guardian.children_left(["+7\n", "+8\n", "-7\n"]) == {8}


def test_the_guardian_ends_what_is_left_and_removes_the_folder(tmp_path: Path):
    folder = tmp_path / "demo"
    folder.mkdir()
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        guardian.guard(str(folder), [f"+{child.pid}\n"])

        assert child.wait(10) == -9
        assert not folder.exists()
    finally:
        child.kill()
        child.communicate()


def test_the_summary_for_programs_has_each_agent_and_what_differs():
    found = summary.figures(results(), TOTALS)
    assert found["ok"]
    assert len(found["agents"]) == 20
    assert found["agents"][4]["story"] == "the browser crashes"
    assert found["agents"][4]["happened"] == "after 7.2 s"
    assert (found["calls"], found["heartbeats"], found["took_s"]) == ({"PutUserStatus": 8}, 400, 35)

    late = summary.figures(results(agent02="Offline 9 s after the bye, later than 4 s"), TOTALS)
    assert not late["ok"]
    assert [each["agent"] for each in late["agents"] if each["faults"]] == ["agent-02"]

    stopped = summary.figures(results(), TOTALS, ["The watchdog stopped with exit code 1, not 0."])
    assert (stopped["ok"], stopped["wrong"]) == (False, ["The watchdog stopped with exit code 1, not 0."])
