"""The rule for a deadline, at its boundaries, and the merging of beats that are flushed together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.core.deadline import coalesce, expiry, is_due, judge, returned, state
from watchdog.core.model import AgentId, AgentState, Beat, BeatType, Observed, Outcome, Verdict

AGENT = AgentId("i", "u")
BEAT, HELLO, BYE = BeatType.BEAT, BeatType.HELLO, BeatType.BYE


def beat(kind: BeatType = BEAT, incarnation: int = 0, seq: int | None = None, ttl: float | None = 35.0) -> Beat:
    return Beat(AGENT, b"0" * 16, kind, incarnation, seq, 0.0 if kind is BYE else ttl)


def test_a_clock_at_the_deadline_is_not_due() -> None:
    assert not is_due(Observed(100.0), 5.0, Observed(105.0))
    assert is_due(Observed(100.0), 5.0, Observed(105.001))


def test_a_clock_at_the_end_of_the_lease_is_live() -> None:
    assert not returned(Observed(100.0), Observed(100.0))
    assert returned(Observed(100.0), Observed(100.001))
    assert state(Observed(100.0), 5.0, Observed(100.0), settled=False, last_outcome=None) is AgentState.LIVE


@pytest.mark.parametrize(
    ("clock", "settled", "outcome", "expected"),
    [
        (99.0, False, None, AgentState.LIVE),
        (99.0, True, Outcome.CONFIRMED, AgentState.LIVE),
        (105.0, False, None, AgentState.GRACE),
        (105.1, False, None, AgentState.DUE),
        (105.1, False, Outcome.CONFIRMED, AgentState.DUE),
        (105.1, True, Outcome.CONFIRMED, AgentState.AWAY),
        (105.1, True, Outcome.NEXT_STATUS, AgentState.AWAY),
        (105.1, True, Outcome.ALREADY, AgentState.GONE),
        (105.1, True, Outcome.DRY_RUN, AgentState.GONE),
    ],
)
def test_states(
    clock: float,
    settled: bool,  # noqa: FBT001 - a column of the table
    outcome: Outcome | None,
    expected: AgentState,
) -> None:
    assert state(Observed(100.0), 5.0, Observed(clock), settled=settled, last_outcome=outcome) is expected


@pytest.mark.parametrize(
    ("message", "incarnation", "seq", "closed", "same_agent", "expected"),
    [
        (beat(), None, None, False, True, Verdict.OPENED),
        (beat(ttl=None), None, None, False, True, Verdict.NOT_RENEWED),
        (beat(BYE), None, None, False, True, Verdict.CLOSED),
        (beat(), 0, None, False, False, Verdict.FOREIGN),
        (beat(BYE), 0, None, False, False, Verdict.FOREIGN),
        (beat(), 1, None, False, True, Verdict.STALE),
        (beat(BYE), 1, None, False, True, Verdict.STALE),
        (beat(), 0, None, True, True, Verdict.TOMBSTONE),
        (beat(HELLO), 0, None, True, True, Verdict.TOMBSTONE),
        (beat(BYE), 0, None, True, True, Verdict.TOMBSTONE),
        (beat(incarnation=1), 0, None, True, True, Verdict.OPENED),
        (beat(BYE, incarnation=1), 0, None, True, True, Verdict.CLOSED),
        (beat(), 0, None, False, True, Verdict.RENEWED),
        (beat(HELLO), 0, None, False, True, Verdict.RENEWED),
        (beat(seq=3), 0, 2, False, True, Verdict.RENEWED),
        (beat(seq=2), 0, 2, False, True, Verdict.STALE),
        (beat(seq=1), 0, 2, False, True, Verdict.STALE),
        (beat(), 0, 2, False, True, Verdict.RENEWED),
        (beat(BYE, seq=1), 0, 2, False, True, Verdict.CLOSED),
        (beat(incarnation=1, seq=0), 0, 9, False, True, Verdict.OPENED),
        (beat(ttl=None, incarnation=1), 0, None, True, True, Verdict.NOT_RENEWED),
    ],
)
def test_what_a_heartbeat_does(
    message: Beat,
    incarnation: int | None,
    seq: int | None,
    closed: bool,  # noqa: FBT001 - a column of the table
    same_agent: bool,  # noqa: FBT001 - a column of the table
    expected: Verdict,
) -> None:
    assert judge(message, incarnation, seq, closed=closed, same_agent=same_agent) is expected


@pytest.mark.parametrize(
    ("message", "seq", "expected"),
    [
        (beat(), None, Verdict.STOPPED),
        (beat(seq=9), 2, Verdict.STOPPED),
        (beat(incarnation=1), None, Verdict.STOPPED),
        (beat(HELLO), None, Verdict.STOPPED),
        (beat(HELLO, seq=3), 2, Verdict.STOPPED),
        (beat(HELLO, ttl=None), None, Verdict.STOPPED),
        (beat(HELLO, incarnation=1), None, Verdict.OPENED),
        (beat(HELLO, incarnation=1, seq=0), 2, Verdict.OPENED),
        (beat(HELLO, incarnation=1, ttl=None), None, Verdict.NOT_RENEWED),
        (beat(BYE), None, Verdict.TOMBSTONE),
    ],
)
def test_a_session_that_was_stopped_is_opened_by_a_hello_of_the_next_incarnation_alone(
    message: Beat, seq: int | None, expected: Verdict
) -> None:
    assert judge(message, 0, seq, closed=True, same_agent=True, stopped=True) is expected
    assert judge(message, 1, None, closed=True, same_agent=True, stopped=True) is not Verdict.OPENED


@pytest.mark.parametrize(
    ("clock", "expected"), [(400.0, AgentState.AWAY), (400.1, AgentState.DUE), (99.0, AgentState.LIVE)]
)
def test_a_settled_agent_is_due_once_more_after_the_time_of_its_follow_up(clock: float, expected: AgentState) -> None:
    found = state(
        Observed(100.0),
        5.0,
        Observed(clock),
        settled=True,
        last_outcome=Outcome.CONFIRMED,
        follow_up_at=Observed(400.0),
    )
    assert found is expected


def test_a_follow_up_of_an_epoch_that_is_over_says_nothing() -> None:
    found = state(Observed(100.0), 5.0, Observed(101.0), settled=False, last_outcome=None, follow_up_at=Observed(50.0))
    assert found is AgentState.GRACE


def test_a_beat_renews_for_its_ttl_and_a_bye_ends_now() -> None:
    assert expiry(beat(), Observed(10.0)) == 45.0
    assert expiry(beat(BYE), Observed(10.0)) == 10.0


def test_of_two_beats_the_higher_incarnation_counts_then_the_bye_then_the_higher_seq_then_the_later() -> None:
    assert coalesce(beat(incarnation=1), beat(BYE)) == beat(incarnation=1)
    assert coalesce(beat(BYE), beat(HELLO, incarnation=1)) == beat(HELLO, incarnation=1)
    assert coalesce(beat(BYE), beat()).type is BYE
    assert coalesce(beat(), beat(BYE)).type is BYE
    assert coalesce(beat(seq=3), beat(seq=2)) == beat(seq=3)
    assert coalesce(beat(seq=2), beat(seq=3)) == beat(seq=3)
    assert coalesce(beat(ttl=35.0), beat(ttl=150.0)) == beat(ttl=150.0)
    assert coalesce(beat(ttl=35.0), beat(ttl=None)) == beat(ttl=35.0)
    assert coalesce(beat(ttl=None), beat(ttl=35.0)) == beat(ttl=35.0)
    assert coalesce(beat(BYE), beat(incarnation=1, ttl=None)) == beat(BYE)


beats = st.builds(
    beat,
    st.sampled_from(list(BeatType)),
    st.integers(0, 2),
    st.none() | st.integers(0, 3),
    st.none() | st.sampled_from([35.0, 150.0]),
)


@given(beats, beats, st.none() | st.integers(0, 2))
def test_coalescing_never_closes_what_applying_both_would_leave_open_nor_opens_what_it_would_close(
    earlier: Beat, later: Beat, known: int | None
) -> None:
    """Compares with a session that gets one after the other, each judged by itself."""

    def live(messages: list[Beat]) -> bool:
        # A session that was open in incarnation 0, as it is for every beat but the first; its lease is over.
        incarnation, seq, closed, ended = 0, known, False, True
        for message in messages:
            verdict = judge(message, incarnation, seq, closed=closed, same_agent=True)
            if verdict is Verdict.OPENED:
                incarnation, seq, closed, ended = message.incarnation, message.seq, False, False
            elif verdict is Verdict.RENEWED:
                seq, ended = message.seq if message.seq is not None else seq, False
            elif verdict is Verdict.CLOSED:
                incarnation, closed = message.incarnation, True
        return not closed and not ended

    assert live([coalesce(earlier, later)]) == live([earlier, later])


@pytest.mark.parametrize(("first", "second"), [(HELLO, BEAT), (BEAT, HELLO)])
def test_of_two_beats_flushed_together_a_hello_is_not_forgotten(first: BeatType, second: BeatType) -> None:
    assert coalesce(beat(first, seq=1), beat(second, seq=2)).type is HELLO
    assert coalesce(beat(first, seq=1), beat(BYE, seq=2)).type is BYE


@pytest.mark.parametrize(("first", "second"), [(60_000.0, 0.0), (0.0, 60_000.0), (60_000.0, None), (None, 60_000.0)])
@pytest.mark.parametrize("seqs", [(1, 2), (2, 1)])
def test_of_two_beats_flushed_together_the_longer_gap_is_kept(first, second, seqs):
    beats = [
        Beat(AGENT, b"s" * 16, seq=seq, ttl=35.0, gap_ms=gap) for seq, gap in zip(seqs, (first, second), strict=True)
    ]
    kept = coalesce(*beats)
    assert (kept.seq, kept.gap_ms) == (2, 60_000.0)
