"""How the demo judges: every way in which an agent can be wronged, or a ghost be missed, must be reported."""

from dataclasses import replace

import pytest

from watchdog.sandbox.demo.stories import Ending, Expectation, Timing
from watchdog.sandbox.demo.verdict import Gone, Pause, Record, Write, judge, observed_s, stood_too_long, unheard

TIMING = Timing(session_ttl_s=4, session_end_timer_s=3, margin_s=1)
T = 1_800_000_000.0

UNTOUCHED = Expectation()
AFTER_BYE = Expectation(Ending.BYE, present=False, tabs=0)
AFTER_SILENCE = Expectation(Ending.SILENCE, present=False, tabs=0)
CAME_BACK = Expectation(Ending.SILENCE)

PRESENT = Record()


def offline_at(seconds: float) -> Write:
    return Write(T + seconds, "PutUserStatus", "Offline")


def ghost(ending: Ending, set_after_s: float) -> Record:
    return Record(
        gone=(Gone(T, ending),),
        writes=(offline_at(set_after_s),),
        status="Offline",
        state="away",
        tabs=0,
        outcomes=("confirmed",),
    )


def test_a_present_agent_whom_nobody_touched_is_as_it_should_be():
    verdict = judge(UNTOUCHED, PRESENT, TIMING)

    assert verdict.ok
    assert verdict.happened == "untouched"


def test_a_present_agent_who_was_set_offline_is_reported():
    verdict = judge(UNTOUCHED, replace(PRESENT, writes=(offline_at(3),), status="Offline", state="away"), TIMING)

    assert "PutUserStatus Offline, but was present" in verdict.faults
    assert verdict.happened == "Offline"


def test_a_present_agent_who_was_set_and_set_back_is_reported_all_the_same():
    back = Write(T + 4, "PutUserStatus", "Available")

    verdict = judge(UNTOUCHED, replace(PRESENT, writes=(offline_at(3), back)), TIMING)

    assert len(verdict.faults) == 2


@pytest.mark.parametrize(
    "write",
    [
        Write(T, "PutUserStatus", "Offline", ok=False),
        Write(T, "DeleteAllEntitySessions", None),
        Write(T, "DismissUserContact", None),
    ],
)
def test_any_call_about_a_present_agent_counts_even_one_that_was_refused(write: Write):
    verdict = judge(UNTOUCHED, replace(PRESENT, writes=(write,)), TIMING)

    assert not verdict.ok
    assert verdict.happened == "written to"


@pytest.mark.parametrize("outcome", ["confirmed", "next_status"])
def test_a_history_that_tells_of_a_change_to_a_present_agent_is_reported(outcome: str):
    assert not judge(UNTOUCHED, replace(PRESENT, outcomes=(outcome,)), TIMING).ok


def test_an_intent_that_was_dropped_because_the_agent_returned_is_no_touch():
    assert judge(UNTOUCHED, replace(PRESENT, outcomes=("returned",)), TIMING).ok


@pytest.mark.parametrize(
    "change",
    [{"status": "Offline"}, {"state": "grace"}, {"state": None}, {"tabs": 0}, {"tabs": 2}],
)
def test_a_present_agent_must_be_available_and_live_with_the_right_sessions(change: dict[str, object]):
    assert len(judge(UNTOUCHED, replace(PRESENT, **change), TIMING).faults) == 1


@pytest.mark.parametrize(
    ("expects", "ending", "after_s"),
    [(AFTER_BYE, Ending.BYE, 3.2), (AFTER_SILENCE, Ending.SILENCE, 7.2)],
)
def test_a_ghost_who_was_set_in_time_is_as_it_should_be(expects: Expectation, ending: Ending, after_s: float):
    verdict = judge(expects, ghost(ending, after_s), TIMING)

    assert verdict.ok
    assert verdict.after_s == pytest.approx(after_s)
    assert verdict.happened == f"Offline after {after_s} s"


@pytest.mark.parametrize(
    ("expects", "ending", "after_s", "fault"),
    [
        (AFTER_BYE, Ending.BYE, 2.9, "set Offline 2.9 s after the bye, before 3 s were over"),
        (AFTER_BYE, Ending.BYE, 4.1, "set Offline 4.1 s after the bye, later than 4 s"),
        (AFTER_SILENCE, Ending.SILENCE, 6.8, "set Offline 6.8 s after the last beat, before 7 s were over"),
        (AFTER_SILENCE, Ending.SILENCE, 8.2, "set Offline 8.2 s after the last beat, later than 8 s"),
    ],
)
def test_a_ghost_who_was_set_too_early_or_too_late_is_reported(
    expects: Expectation, ending: Ending, after_s: float, fault: str
):
    assert judge(expects, ghost(ending, after_s), TIMING).faults == (fault,)


def test_a_ghost_whom_nobody_set_is_reported():
    record = Record(gone=(Gone(T, Ending.BYE),), state="due", tabs=0)

    verdict = judge(AFTER_BYE, record, TIMING)

    assert "was not set Offline" in verdict.faults
    assert "is Available in Connect, should be Offline" in verdict.faults


def test_a_write_that_connect_refused_sets_nobody():
    refused = replace(ghost(Ending.BYE, 3.2), writes=(replace(offline_at(3.2), ok=False),))

    assert "was not set Offline" in judge(AFTER_BYE, refused, TIMING).faults


def test_a_write_that_was_refused_for_the_quota_and_tried_again_in_time_is_no_fault():
    record = replace(ghost(Ending.BYE, 3.4), writes=(replace(offline_at(3.1), ok=False), offline_at(3.4)))

    assert judge(AFTER_BYE, record, TIMING).ok


def test_a_ghost_who_was_set_twice_is_reported():
    record = replace(ghost(Ending.BYE, 3.2), writes=(offline_at(3.2), offline_at(3.9)))

    assert judge(AFTER_BYE, record, TIMING).faults == ("set Offline 2 times",)


def test_an_agent_who_was_set_before_leaving_was_set_while_present():
    record = replace(ghost(Ending.BYE, 3.2), writes=(offline_at(-1),))

    assert "set Offline while present" in judge(AFTER_BYE, record, TIMING).faults


def test_another_ending_than_the_storys_does_not_count():
    assert "set Offline while present" in judge(AFTER_BYE, ghost(Ending.SILENCE, 3.2), TIMING).faults


@pytest.mark.parametrize("outcomes", [(), ("failed",), ("confirmed", "confirmed"), ("already",)])
def test_a_history_that_does_not_tell_of_exactly_one_confirmed_change_is_reported(outcomes: tuple[str, ...]):
    assert len(judge(AFTER_BYE, replace(ghost(Ending.BYE, 3.2), outcomes=outcomes), TIMING).faults) == 1


def test_the_time_counts_from_the_last_ending_before_the_change():
    gone = (Gone(T, Ending.SILENCE), Gone(T + 20, Ending.SILENCE), Gone(T + 30, Ending.BYE))
    record = replace(ghost(Ending.SILENCE, 27.2), gone=gone)

    assert judge(AFTER_SILENCE, record, TIMING).after_s == pytest.approx(7.2)


def test_who_comes_back_after_having_been_set_must_be_live_and_available_again():
    back = replace(ghost(Ending.SILENCE, 7.2), status="Available", state="live", tabs=1)

    assert judge(CAME_BACK, back, TIMING).ok
    assert not judge(CAME_BACK, replace(back, status="Offline"), TIMING).ok
    assert not judge(CAME_BACK, replace(back, writes=(*back.writes, offline_at(12))), TIMING).ok


def test_while_the_clock_stands_the_daemon_may_be_late():
    late = ghost(Ending.BYE, 5.2)

    assert not judge(AFTER_BYE, late, TIMING).ok
    assert judge(AFTER_BYE, late, TIMING, [Pause(T + 3, 2.0)]).ok


@pytest.mark.parametrize("at", [-0.1, 5.3])
def test_a_pause_before_or_after_excuses_nothing(at: float):
    assert not judge(AFTER_BYE, ghost(Ending.BYE, 5.2), TIMING, [Pause(T + at, 2.0)]).ok


def test_a_pause_does_not_allow_to_be_early():
    assert not judge(AFTER_BYE, ghost(Ending.BYE, 2.5), TIMING, [Pause(T + 1, 1.0)]).ok


def test_nobody_was_set_too_early_who_was_gone_for_long_enough_though_the_clock_is_said_to_have_stood():
    """A pause is told when it is over, and may have begun before the agent left."""
    assert judge(AFTER_BYE, ghost(Ending.BYE, 3.4), TIMING, [Pause(T + 1, 1.0)]).ok


def test_a_restart_gives_a_silent_agent_the_whole_time_again_but_not_one_who_said_bye():
    restart = Pause(T + 4, 1.0, restart_at=T + 3)

    assert observed_s(Gone(T, Ending.SILENCE), T + 11, [restart]) == pytest.approx(7)
    assert observed_s(Gone(T, Ending.BYE), T + 11, [restart]) == pytest.approx(10)


def test_a_clock_that_stands_for_long_is_a_fault_though_it_excuses_whoever_is_late():
    restart = Pause(T + 4, 10.0, restart_at=T + 3)

    assert stood_too_long([restart, Pause(T + 6, 2.0), Pause(T + 9, 2.9)], TIMING) == []
    (fault,) = stood_too_long([restart, Pause(T + 6, 2.0), Pause(T + 9, 3.1)], TIMING)
    assert "5.1 s" in fault


def test_a_heartbeat_may_fail_while_there_is_no_daemon_and_at_no_other_time():
    down = [(T + 10, T + 12)]

    assert unheard([T + 9.6, T + 11, T + 12.4], down) == []
    assert len(unheard([T + 9.4], down)) == len(unheard([T + 12.6], down)) == 1
    assert unheard([T + 5, T + 6], []) == ["2 heartbeats got no answer from a watchdog that was running"]
