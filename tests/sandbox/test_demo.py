"""The demo's parts that need no process: the cast, what is told, what is drawn, what the guardian clears up."""

import io
import subprocess
import sys
from pathlib import Path

import httpx
from rich.console import Console

from watchdog.sandbox.demo import guardian, screen, summary
from watchdog.sandbox.demo.agents import Agent, Office
from watchdog.sandbox.demo.stage import Lines, Stage
from watchdog.sandbox.demo.stories import KILL_AT_S, STORIES, TIMING, Act, Ending, cast
from watchdog.sandbox.demo.verdict import Gone, Pause, Verdict
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
        ending = role.story.expects.ending
        after_s = None if ending is None else TIMING.least_s(ending) + 0.2
        fault = wrong.get(role.name.replace("-", ""))
        happened = "untouched" if after_s is None else f"Offline after {after_s} s"
        found.append(summary.Result(role, Verdict(happened, after_s, (fault,) if fault else ())))
    return found


def agent(number: int) -> Agent:
    office = Office(httpx.AsyncClient(), "", str, "token", lambda *_: None)
    return Agent(cast()[number - 1], f"user-{number}", f"arn:{number}", office)


def stage_with(*seen: Seen) -> Stage:
    stage = Stage(TIMING)
    stage.agents = [agent(number) for number in range(1, len(seen) + 1)]
    stage.snapshot = Snapshot({f"user-{number}": each for number, each in enumerate(seen, start=1)}, None)
    return stage


LIVE = Seen("live", 1, 6.5, "Available")


def test_twenty_agents_play_and_most_of_them_must_not_be_touched():
    roles = cast()

    assert [role.number for role in roles] == list(range(1, 21))
    assert sum(role.story.expects.ending is None for role in roles) == 12


def test_all_stories_fit_the_table_and_what_needs_the_daemon_is_over_before_it_is_killed():
    for story in STORIES:
        assert len(story.title) <= 24
        assert all(len(step.now) <= 19 for step in story.steps)
    for role in cast():
        ending = role.story.expects.ending
        gone_s = [step.at_s for step in role.steps if step.act in (Act.CLOSE_TAB, Act.CRASH, Act.CUT)]
        if ending is not None and gone_s[-1] < KILL_AT_S - 2:
            assert gone_s[-1] + TIMING.most_s(ending) + 2 < KILL_AT_S


def test_the_silences_that_must_not_matter_are_shorter_than_what_they_are_measured_by():
    for role in cast():
        cut = [step.at_s for step in role.steps if step.act is Act.CUT]
        back = [step.at_s for step in role.steps if step.act is Act.RECONNECT]
        if cut and role.story.expects.ending is None:
            assert back[0] - cut[0] < TIMING.least_s(Ending.SILENCE) - TIMING.heartbeat_interval_s


def test_the_summary_says_that_all_is_well_and_where_to_go_next():
    console = plain()

    assert summary.show(console, results(), TOTALS, TIMING, [])
    assert "All 20 agents as they should be." in printed(console)
    assert "docs/architecture.md" in printed(console)


def test_one_present_agent_who_was_touched_fails_the_demo_and_is_named():
    console = plain()

    assert not summary.show(console, results(agent03="PutUserStatus Offline, but was present"), TOTALS, TIMING, [])
    assert "agent-03 (works all the time): PutUserStatus Offline, but was present" in printed(console)
    assert "✗  works all the time" in printed(console)
    assert "as they should be." not in printed(console)


def test_a_daemon_that_did_not_stop_in_order_fails_the_demo_too():
    console = plain()

    assert not summary.show(console, results(), TOTALS, TIMING, [], ["The watchdog stopped with exit code 1, not 0."])
    assert "exit code 1" in printed(console)


def test_the_summary_has_one_line_for_each_story_in_eighty_columns():
    console = plain(80)

    summary.show(console, results(), TOTALS, TIMING, [Pause(0, 2.5)])

    marked = [line for line in printed(console).splitlines() if line.startswith("✓")]
    assert len(marked) == len(STORIES)
    assert " ".join(marked[3].split()) == "✓ the browser crashes Offline 7–8 s after the last beat after 7.2, 7.2 s"


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
    stage.agents[0].gone.append(Gone(100.0, Ending.BYE))
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
        "is Offline: Connect was read back, all done",
    ]
    assert "\x1b" not in printed(console)


def test_the_ledger_keeps_writes_with_the_names_of_the_statuses_and_counts_the_rest():
    ledger = Ledger()
    put = {"operation": "PutUserStatus", "at": 1.0, "user_id": "u", "params": {"AgentStatusId": "s1"}}
    read = {"operation": "GetCurrentUserData", "at": 2.0, "user_id": None, "params": {}, "outcome": "ok"}

    ledger.note_calls([{**put, "outcome": "ThrottlingException"}, {**put, "outcome": "ok"}, read], {"s1": "Offline"})

    assert ledger.calls == {"PutUserStatus": 2, "GetCurrentUserData": 1}
    assert ledger.throttled == 1
    assert [(write.status, write.ok) for write in ledger.writes["u"]] == [("Offline", False), ("Offline", True)]
    assert ledger.set_offline("u") == (1.0,)


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
