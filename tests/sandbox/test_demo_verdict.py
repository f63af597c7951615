"""How the demo judges: every way in which an agent can be wronged, or a ghost be missed, must be reported."""

from dataclasses import replace

import pytest

from watchdog.sandbox.demo.roles import AWAY, DISMISSED, LOGOUT, OFFLINE, Change, Expectation, Mark, Timing
from watchdog.sandbox.demo.verdict import Moment, Pause, Record, Write, judge, observed_s, stood_too_long, unheard

TIMING = Timing(session_ttl_s=4, session_end_timer_s=3, margin_s=1)
T = 1_800_000_000.0

UNTOUCHED = Expectation()
AFTER_BYE = Expectation(
    (Change(OFFLINE, Mark.BYE, 3, 1),), ("set_status confirmed",), status=OFFLINE, state="away", tabs=0
)
AFTER_SILENCE = replace(AFTER_BYE, changes=(Change(OFFLINE, Mark.SILENCE, 7, 1),))
CAME_BACK = replace(AFTER_SILENCE, status="Available", state="live", tabs=1)

PRESENT = Record()


def offline_at(seconds: float) -> Write:
    return Write(T + seconds, "PutUserStatus", "Offline")


def ghost(mark: Mark, set_after_s: float) -> Record:
    return Record(
        moments=(Moment(T, mark),),
        writes=(offline_at(set_after_s),),
        status="Offline",
        state="away",
        tabs=0,
        history=("set_status confirmed",),
    )


def test_a_present_agent_whom_nobody_touched_is_as_it_should_be():
    verdict = judge(UNTOUCHED, PRESENT)

    assert verdict.ok
    assert verdict.happened == "untouched"


def test_a_present_agent_who_was_set_offline_is_reported():
    verdict = judge(UNTOUCHED, replace(PRESENT, writes=(offline_at(3),), status="Offline", state="away"))

    assert "PutUserStatus Offline, but was not to be touched" in verdict.faults
    assert verdict.happened == "Offline"


def test_a_present_agent_who_was_set_and_set_back_is_reported_all_the_same():
    back = Write(T + 4, "PutUserStatus", "Available")

    verdict = judge(UNTOUCHED, replace(PRESENT, writes=(offline_at(3), back)))

    assert verdict.faults == tuple(
        f"PutUserStatus {status}, but was not to be touched" for status in ("Offline", "Available")
    )


@pytest.mark.parametrize(
    ("write", "happened"),
    [
        (Write(T, "PutUserStatus", "Offline", ok=False), "written to"),
        (Write(T, "DeleteAllEntitySessions", LOGOUT), "logout"),
        (Write(T, "DismissUserContact", DISMISSED), "dismissed"),
    ],
)
def test_any_call_about_a_present_agent_counts_even_one_that_was_refused(write: Write, happened: str):
    verdict = judge(UNTOUCHED, replace(PRESENT, writes=(write,)))

    assert not verdict.ok
    assert verdict.happened == happened


@pytest.mark.parametrize("outcome", ["confirmed", "next_status", "already", "failed"])
def test_a_history_that_tells_of_a_change_to_a_present_agent_is_reported(outcome: str):
    assert not judge(UNTOUCHED, replace(PRESENT, history=(f"set_status {outcome}",))).ok


@pytest.mark.parametrize("outcome", ["returned", "witnessed", "held", "released"])
def test_an_intent_that_was_dropped_or_put_off_is_no_touch(outcome: str):
    assert judge(UNTOUCHED, replace(PRESENT, history=(f"set_status {outcome}",))).ok


@pytest.mark.parametrize(
    "change",
    [{"status": "Offline"}, {"state": "grace"}, {"state": None}, {"tabs": 0}, {"tabs": 2}, {"stopped": 1}],
)
def test_a_present_agent_must_be_available_and_live_with_the_right_sessions(change: dict[str, object]):
    assert len(judge(UNTOUCHED, replace(PRESENT, **change)).faults) == 1


@pytest.mark.parametrize(
    ("expects", "mark", "after_s"),
    [(AFTER_BYE, Mark.BYE, 3.2), (AFTER_SILENCE, Mark.SILENCE, 7.2)],
)
def test_a_ghost_who_was_set_in_time_is_as_it_should_be(expects: Expectation, mark: Mark, after_s: float):
    verdict = judge(expects, ghost(mark, after_s))

    assert verdict.ok
    assert verdict.times == pytest.approx((after_s,))
    assert verdict.happened == "Offline"


@pytest.mark.parametrize(
    ("expects", "mark", "after_s", "fault"),
    [
        (AFTER_BYE, Mark.BYE, 2.9, "Offline 2.9 s after the bye, before 3 s were over"),
        (AFTER_BYE, Mark.BYE, 4.1, "Offline 4.1 s after the bye, later than 4 s"),
        (AFTER_SILENCE, Mark.SILENCE, 6.8, "Offline 6.8 s after the last beat, before 7 s were over"),
        (AFTER_SILENCE, Mark.SILENCE, 8.2, "Offline 8.2 s after the last beat, later than 8 s"),
    ],
)
def test_a_ghost_who_was_set_too_early_or_too_late_is_reported(
    expects: Expectation, mark: Mark, after_s: float, fault: str
):
    assert judge(expects, ghost(mark, after_s)).faults == (fault,)


def test_a_ghost_whom_nobody_set_is_reported():
    record = Record(moments=(Moment(T, Mark.BYE),), state="due", tabs=0)

    verdict = judge(AFTER_BYE, record)

    assert "in Connect: nothing; should be: Offline" in verdict.faults
    assert "is Available in Connect, should be Offline" in verdict.faults


def test_a_write_that_connect_refused_sets_nobody():
    refused = replace(ghost(Mark.BYE, 3.2), writes=(replace(offline_at(3.2), ok=False),))

    assert "in Connect: nothing; should be: Offline" in judge(AFTER_BYE, refused).faults


def test_a_write_that_was_refused_for_the_quota_and_tried_again_in_time_is_no_fault():
    record = replace(ghost(Mark.BYE, 3.4), writes=(replace(offline_at(3.1), ok=False), offline_at(3.4)))

    assert judge(AFTER_BYE, record).ok


def test_a_ghost_who_was_set_twice_is_reported():
    record = replace(ghost(Mark.BYE, 3.2), writes=(offline_at(3.2), offline_at(3.9)))

    assert judge(AFTER_BYE, record).faults == ("in Connect: Offline, Offline; should be: Offline",)


def test_an_agent_who_was_set_before_leaving_was_set_while_present():
    record = replace(ghost(Mark.BYE, 3.2), writes=(offline_at(-1),))

    assert "Offline before the bye" in judge(AFTER_BYE, record).faults


def test_another_ending_than_the_storys_does_not_count():
    assert "Offline before the bye" in judge(AFTER_BYE, ghost(Mark.SILENCE, 3.2)).faults


@pytest.mark.parametrize("outcomes", [(), ("failed",), ("confirmed", "confirmed"), ("already",)])
def test_a_history_that_does_not_tell_of_exactly_one_confirmed_change_is_reported(outcomes: tuple[str, ...]):
    history = tuple(f"set_status {outcome}" for outcome in outcomes)

    assert len(judge(AFTER_BYE, replace(ghost(Mark.BYE, 3.2), history=history)).faults) == 1


def test_the_time_counts_from_the_last_ending_before_the_change():
    moments = (Moment(T, Mark.SILENCE), Moment(T + 20, Mark.SILENCE), Moment(T + 30, Mark.BYE))
    record = replace(ghost(Mark.SILENCE, 27.2), moments=moments)

    assert judge(AFTER_SILENCE, record).times == pytest.approx((7.2,))


def test_who_comes_back_after_having_been_set_must_be_live_and_available_again():
    back = replace(ghost(Mark.SILENCE, 7.2), status="Available", state="live", tabs=1)

    assert judge(CAME_BACK, back).ok
    assert not judge(CAME_BACK, replace(back, status="Offline")).ok
    assert not judge(CAME_BACK, replace(back, writes=(*back.writes, offline_at(12)))).ok


def test_while_the_clock_stands_the_daemon_may_be_late():
    late = ghost(Mark.BYE, 5.2)

    assert not judge(AFTER_BYE, late).ok
    assert judge(AFTER_BYE, late, [Pause(T + 3, 2.0)]).ok


@pytest.mark.parametrize("at", [-0.1, 5.3])
def test_a_pause_before_or_after_excuses_nothing(at: float):
    assert not judge(AFTER_BYE, ghost(Mark.BYE, 5.2), [Pause(T + at, 2.0)]).ok


def test_a_pause_does_not_allow_to_be_early():
    assert not judge(AFTER_BYE, ghost(Mark.BYE, 2.5), [Pause(T + 1, 1.0)]).ok


def test_nobody_was_set_too_early_who_was_gone_for_long_enough_though_the_clock_is_said_to_have_stood():
    """A pause is told when it is over, and may have begun before the agent left."""
    assert judge(AFTER_BYE, ghost(Mark.BYE, 3.4), [Pause(T + 1, 1.0)]).ok


def test_a_restart_gives_a_silent_agent_the_whole_time_again_but_not_one_who_said_bye():
    restart = Pause(T + 4, 1.0, restart_at=T + 3)

    assert observed_s(Moment(T, Mark.SILENCE), T + 11, [restart]) == pytest.approx(7)
    assert observed_s(Moment(T, Mark.BYE), T + 11, [restart]) == pytest.approx(10)


@pytest.mark.parametrize("mark", [Mark.BYE, Mark.SILENCE])
def test_a_pause_that_is_told_after_the_moment_and_was_mostly_before_it_makes_no_time_negative(mark):
    told_late = Pause(T + 0.5, 6.7)
    assert observed_s(Moment(T, mark), T + 3.4, [told_late]) == pytest.approx(2.9)
    assert observed_s(Moment(T, mark), T + 3.4, [told_late, Pause(T + 1, 0.5)]) == pytest.approx(2.4)


def test_a_clock_that_stands_for_long_is_a_fault_though_it_excuses_whoever_is_late():
    down = [(T + 3, T + 6)]
    restart = Pause(T + 6, 0.0, restart_at=T + 3)

    assert stood_too_long([restart, Pause(T + 6, 5.0), Pause(T + 9, 4.9)], down, TIMING) == []
    (fault,) = stood_too_long([restart, Pause(T + 6, 5.0), Pause(T + 9, 5.1)], down, TIMING)
    assert "10.1 s, longer than 10.0 s" in fault
    assert stood_too_long([Pause(T + 6, 7.1)], [], TIMING)


def test_a_heartbeat_may_fail_while_there_is_no_daemon_and_at_no_other_time():
    down = [(T + 10, T + 12)]

    assert unheard([T + 9.6, T + 11, T + 12.4], down) == []
    assert len(unheard([T + 9.4], down)) == len(unheard([T + 12.6], down)) == 1
    assert unheard([T + 5, T + 6], []) == ["2 heartbeats got no answer from a watchdog that was running"]


IN_A_CALL = replace(AFTER_BYE, history=("set_status next_status",), in_force=Mark.CALL_END)
STAGES = replace(
    AFTER_BYE,
    changes=(Change(AWAY, Mark.BYE, 2, 1), Change(OFFLINE, Mark.BYE, 5, 1), Change(LOGOUT, Mark.BEFORE, 10, 5)),
    history=("set_status confirmed", "set_status confirmed", "sign_out confirmed"),
)


def left_in_a_call(in_force_s: float) -> Record:
    return replace(
        ghost(Mark.BYE, 3.2),
        moments=(Moment(T, Mark.BYE), Moment(T + 7, Mark.CALL_END)),
        history=IN_A_CALL.history,
        status_since=T + in_force_s,
    )


def staged(away_s: float, offline_s: float, logout_s: float) -> Record:
    writes = (
        Write(T + away_s, "PutUserStatus", AWAY),
        offline_at(offline_s),
        Write(T + logout_s, "DeleteAllEntitySessions", LOGOUT),
    )
    return replace(ghost(Mark.BYE, offline_s), writes=writes, history=STAGES.history)


def test_a_status_that_comes_in_force_as_the_call_ends_is_told_with_that_time():
    verdict = judge(IN_A_CALL, left_in_a_call(7.1))

    assert verdict.ok
    assert verdict.times == pytest.approx((3.2, 0.1))


@pytest.mark.parametrize("in_force_s", [3.2, 6.9, 9.1])
def test_a_status_that_came_in_force_during_the_call_or_long_after_it_is_reported(in_force_s: float):
    (fault,) = judge(IN_A_CALL, left_in_a_call(in_force_s)).faults

    assert fault == f"Offline came in force {in_force_s - 7:.1f} s after the end of the call"


def test_a_call_that_never_ended_is_reported():
    record = replace(left_in_a_call(7.1), moments=(Moment(T, Mark.BYE),))

    assert judge(IN_A_CALL, record).faults == ("the end of the call has not come",)


@pytest.mark.parametrize("in_force_s", [3.2, 7.6])
def test_a_failed_call_must_be_dismissed_before_the_status_comes_in_force(in_force_s: float):
    changes = (*AFTER_BYE.changes, Change(DISMISSED, Mark.BEFORE, 0, 5))
    expects = replace(AFTER_BYE, changes=changes, in_force=Mark.BEFORE)
    dismissed = Write(T + 5.3, "DismissUserContact", DISMISSED)
    record = replace(ghost(Mark.BYE, 3.2), writes=(offline_at(3.2), dismissed), status_since=T + 5.3)

    assert judge(expects, record).ok
    assert judge(expects, record).times == pytest.approx((3.2, 2.1))
    assert len(judge(expects, replace(record, status_since=T + in_force_s)).faults) == 1


def test_stages_have_times_of_their_own():
    verdict = judge(STAGES, staged(2.1, 5.1, 17))

    assert verdict.ok
    assert verdict.times == pytest.approx((2.1, 5.1, 11.9))


@pytest.mark.parametrize(
    ("times", "fault"),
    [
        ((1.9, 5.1, 17.0), "Away 1.9 s after the bye, before 2 s were over"),
        ((2.1, 6.1, 17.0), "Offline 6.1 s after the bye, later than 6 s"),
        ((2.1, 5.1, 15.0), "logout 9.9 s after the change before, before 10 s were over"),
        ((2.1, 5.1, 20.2), "logout 15.1 s after the change before, later than 15 s"),
    ],
)
def test_a_stage_that_is_too_early_or_too_late_is_reported(times: tuple[float, float, float], fault: str):
    assert judge(STAGES, staged(*times)).faults == (fault,)


def test_a_stage_that_is_missing_or_in_the_wrong_order_is_reported():
    record = staged(2.1, 5.1, 17)
    away, offline, logout = record.writes

    for writes in ((away, offline), (away, logout, offline), (offline, logout)):
        told = ", ".join(write.what for write in writes)
        assert (
            f"in Connect: {told}; should be: Away, Offline, logout"
            in judge(STAGES, replace(record, writes=writes)).faults
        )


def test_a_ghost_whose_sessions_were_ended_though_no_rule_says_so_is_reported():
    record = ghost(Mark.BYE, 3.2)
    ended = Write(T + 15, "DeleteAllEntitySessions", LOGOUT)

    assert not judge(AFTER_BYE, replace(record, writes=(*record.writes, ended))).ok


def test_who_is_left_alone_must_be_told_of_in_the_history():
    expects = Expectation(history=("set_status skipped_profile",), state="gone", tabs=0)
    record = Record(moments=(Moment(T, Mark.BYE),), state="gone", tabs=0, history=expects.history)

    assert judge(expects, record).ok
    assert not judge(expects, replace(record, history=())).ok
    assert not judge(expects, replace(record, writes=(offline_at(3.2),))).ok


def test_a_return_counts_from_the_last_page_and_not_from_the_first():
    expects = Expectation(
        (*AFTER_BYE.changes, Change("Available", Mark.PAGE, 0, 5)), ("set_status confirmed", "restore confirmed")
    )
    record = replace(
        PRESENT,
        moments=(Moment(T - 5, Mark.PAGE), Moment(T, Mark.BYE), Moment(T + 9, Mark.PAGE)),
        writes=(offline_at(3.2), Write(T + 9.4, "PutUserStatus", "Available")),
        history=expects.history,
    )

    assert judge(expects, record).ok
    assert judge(expects, record).times == pytest.approx((3.2, 0.4))
    assert not judge(expects, replace(record, writes=record.writes[:1], status="Offline")).ok


def test_pages_that_were_not_told_to_stop_and_orders_that_were_refused_are_reported():
    expects = replace(AFTER_BYE, changes=(Change(OFFLINE, Mark.ORDER, 0, 5),), stopped=1)
    record = replace(ghost(Mark.ORDER, 0.3), stopped=1)

    assert judge(expects, record).ok
    assert judge(expects, replace(record, stopped=0)).faults == ("0 pages were told to stop, should be 1",)
    assert judge(expects, replace(record, refusals=("no",))).faults == ("no",)
