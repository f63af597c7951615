"""The undo's decisions, one fact at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from watchdog.core.model import AgentId, Beat, Epoch, Intent, IntentKind, Observed, Outcome, Running
from watchdog.core.undo import (
    LATE_S,
    Change,
    Left,
    Look,
    Names,
    Now,
    Step,
    Undo,
    Why,
    Written,
    age_s,
    aged,
    changed,
    crossed,
    decide,
    follows,
    heard,
    outweighed,
    trips,
)

START = 1_700_000_000.0
PAGE, OTHER = b"p" * 16, b"q" * 16
WINDOW = 900.0
WRITTEN = Written(2.0)


def now(after: float) -> Now:
    return Now(Observed(100.0 + after), Running(200.0 + after), Epoch(START + after))


def change(outcome: Outcome = Outcome.CONFIRMED, written: Written = WRITTEN, former: str | None = "a") -> Change:
    return changed(
        AgentId("i", "anna"),
        token=7,
        epoch=3,
        action_id="id",
        intent=Intent(IntentKind.SET_STATUS, "o", former, Epoch(START)),
        outcome=outcome,
        written=written,
        now=now(0),
        sessions=(Left(PAGE, 35.0, Observed(50.0)), Left(OTHER, 35.0, Observed(60.0))),
        silent_since=Observed(95.0),
    )


def beaten(
    each: Change, session_id: bytes, gap_ms: float | None, at: Now, window_s: float, seq: int | None = None
) -> Change:
    return heard(each, Beat(AgentId("i", "anna"), session_id, seq=seq, gap_ms=gap_ms), at, window_s)


def why(each: Change) -> Why | None:
    return None if each.undo is None else each.undo.why


def test_times_are_those_of_the_write_and_not_of_its_outcome():
    each = change(written=Written(2.0, 12.0))
    assert (each.written_at, each.running, each.settled) == (START - 2, 198.0, 100.0)
    assert each.unanswered_at == START - 12
    assert each.silent_since == 95.0
    assert age_s(each, Running(210.0)) == 12


HOUR = 3600.0


def wall_set(after: float, by: float) -> Now:
    """`now`, with a wall clock that was set since the change."""
    then = now(after)
    return then._replace(epoch=Epoch(then.epoch + by))


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_a_wall_clock_that_is_set_hides_no_mistake_and_makes_none_young(by):
    assert why(beaten(change(), PAGE, 0.0, wall_set(60, by), WINDOW)) is Why.GAP
    assert why(beaten(change(), PAGE, 0.0, wall_set(899, by), WINDOW)) is None


@pytest.mark.parametrize("by", [-HOUR, HOUR])
@pytest.mark.parametrize(("after", "expected"), [(33, Why.UNANSWERED), (34, None)])
def test_a_wall_clock_that_is_set_moves_no_suspicion(by, after, expected):
    each = change(written=Written(2.0, 12.0))
    assert why(beaten(each, b"n" * 16, None, wall_set(after - 0.5, by), WINDOW)) is expected


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_the_return_is_dated_by_the_wall_clock_of_the_write(by):
    back = beaten(change(), b"n" * 16, None, wall_set(60, by), WINDOW)
    assert back.back_at == START + 60
    found = beaten(change(), PAGE, 0.0, wall_set(60, by), WINDOW)
    assert found.back_at == START + 60
    assert found.undo is not None
    assert found.undo.at == START + 60 + by


def test_what_passes_before_the_tick_that_counts_it_counts():
    assert why(beaten(change(), PAGE, 0.0, now(60)._replace(paused_s=837.0), WINDOW)) is Why.GAP
    assert why(beaten(change(), PAGE, 0.0, now(60)._replace(paused_s=839.0), WINDOW)) is None


@pytest.mark.parametrize(("by", "age"), [(0.0, 62.0), (HOUR, HOUR + 62), (-HOUR, 62.0)])
def test_a_change_from_the_disk_is_as_old_as_either_clock_says(by, age):
    at = wall_set(60, by)
    assert age_s(aged(change(), at), at.running) == age


@pytest.mark.parametrize(("running", "age"), [(150.0, 3_000.0), (210.0, 15.0)])
def test_a_change_of_a_clock_that_was_lost_is_as_old_as_the_wall_clock_says(running: float, age: float) -> None:
    """Running time began anew: what that has left out says nothing of before. Else it is a limit."""
    at = Now(Observed(5.0), Running(running), Epoch(START - WRITTEN.s_ago + 3_000.0))
    assert age_s(aged(change(), at, 3.0), at.running) == age


@pytest.mark.parametrize(
    ("gap_ms", "expected"), [(0.0, Why.GAP), (34_999.0, Why.GAP), (35_000.0, None), (None, None), (1e9, None)]
)
def test_a_timer_that_stood_for_less_than_the_lease_ran(gap_ms, expected):
    assert why(beaten(change(), PAGE, gap_ms, now(60), WINDOW)) is expected


def test_a_beat_that_was_made_before_the_last_one_heard_says_nothing():
    each = replace(change(), sessions=(Left(PAGE, 35.0, Observed(50.0), 0, 5),))
    assert beaten(each, PAGE, 0.0, now(60), WINDOW, seq=5) is each
    assert why(beaten(each, PAGE, 0.0, now(60), WINDOW, seq=6)) is Why.GAP
    later = replace(change(), sessions=(Left(PAGE, 35.0, Observed(50.0), 1, 5),))
    assert beaten(later, PAGE, 0.0, now(60), WINDOW, seq=6) is later
    assert (
        why(
            beaten(replace(change(), sessions=(Left(PAGE, 35.0, Observed(50.0), 0, None),)), PAGE, 0.0, now(60), WINDOW)
        )
        is Why.GAP
    )


def test_what_a_page_said_once_it_has_said():
    slept = beaten(change(), PAGE, 1e6, now(60), WINDOW)
    assert [left.session_id for left in slept.sessions] == [OTHER]
    assert slept.back_at == START + 60
    assert beaten(slept, PAGE, 0.0, now(70), WINDOW) is slept
    assert why(beaten(slept, OTHER, 0.0, now(80), WINDOW)) is Why.GAP


def test_a_beat_that_says_nothing_new_leaves_the_same_object():
    back = beaten(change(), b"n" * 16, 0.0, now(60), WINDOW)
    assert beaten(back, b"n" * 16, 0.0, now(70), WINDOW) is back


@pytest.mark.parametrize(("after", "expected"), [(898.0, Why.GAP), (898.1, None)])
def test_the_window_counts_from_the_write(after, expected):
    assert why(beaten(change(), PAGE, 0.0, now(after), WINDOW)) is expected


def test_without_a_former_status_no_page_shows_a_mistake():
    assert why(beaten(change(former=None), PAGE, 0.0, now(60), WINDOW)) is None


def test_a_trip_needs_no_word_of_the_page_but_heeds_it():
    tripped = replace(change(), tripped=True)
    assert why(beaten(tripped, PAGE, None, now(60), WINDOW)) is Why.TRIP
    assert why(beaten(tripped, PAGE, 1e6, now(60), WINDOW)) is None
    assert why(beaten(tripped, b"n" * 16, None, now(60), WINDOW)) is None


@pytest.mark.parametrize(
    ("after", "window_s", "expected"),
    [(0, 60, True), (55, 60, True), (56, 60, False), (56, 600, True), (60, 600, True), (61, 600, False)],
)
def test_a_change_belongs_to_a_trip_within_a_minute_and_the_window_of_its_silence(after, window_s, expected):
    assert trips(change(), Observed(100.0 + after), window_s) is expected


def test_a_bye_and_a_silence_after_the_trip_belong_to_none():
    assert not trips(replace(change(), silent_since=None), Observed(100.0), 600)
    assert trips(change(), Observed(95.0), 600)
    assert not trips(change(), Observed(94.0), 600)


def test_an_order_goes_before_suspicion_and_after_what_is_known():
    ordered = replace(change(Outcome.NEXT_STATUS), ordered_until=Running(300.0))
    assert why(beaten(ordered, b"n" * 16, None, now(60), WINDOW)) is Why.ORDER
    assert why(beaten(ordered, PAGE, 0.0, now(60), WINDOW)) is Why.GAP
    assert why(beaten(ordered, b"n" * 16, None, now(100.1), WINDOW)) is Why.NEXT


def test_a_crossing_whose_last_write_had_no_answer_is_looked_at_first():
    assert why(crossed(change(written=Written(2.0)), now(0))) is Why.CROSSED
    assert why(crossed(change(written=Written(2.0, 12.0)), now(0))) is Why.CROSSED
    assert why(crossed(change(written=Written(2.0, 2.0)), now(0))) is Why.UNANSWERED


# What Connect shows.


@dataclass(frozen=True)
class Row:
    status_id: str
    since: float | None = START - 2
    next_status: str | None = None
    contacts: tuple[str, ...] = ()
    connected_at: tuple[float | None, ...] = ()


NAMES = Names("a", "Available", "Away", hides=False)
AT = 60.0


def look(row: Row | None, *, complete: bool = True, unanswered: float | None = None, back: float | None = 1.0) -> Look:
    return Look(row, complete, Epoch(START + AT), AT + 2, unanswered, back)


def step(row, reason=Why.GAP, *, names=NAMES, each=None, elsewhere=False, restored=False, silent=False, **more):
    each = replace(each or change(), undo=Undo(reason, Epoch(START), silent=silent))
    found = decide(each, look(row, **more), names, elsewhere=elsewhere, restored=restored)
    return found.outcome if found.step is Step.LEAVE else found.step


def test_our_target_is_undone_as_status_and_as_next_status():
    assert step(Row("o")) is Step.RESTORE
    assert step(Row("o", since=None)) is Step.RESTORE
    assert step(Row("a", next_status="Away")) is Step.RESTORE


def test_what_somebody_chose_stays():
    assert step(Row("lunch")) is Outcome.RETURNED
    assert step(Row("o", next_status="Lunch")) is Outcome.RETURNED
    assert step(Row("lunch", next_status="Lunch 2")) is Outcome.RETURNED


@pytest.mark.parametrize(("since", "expected"), [(-2, Step.RESTORE), (0, Step.RESTORE), (0.1, Outcome.RETURNED)])
def test_the_target_is_ours_if_it_began_with_our_write(since, expected):
    assert step(Row("o", since=START + since)) is expected


def test_a_next_status_may_begin_at_any_time_before_the_return():
    each = change(Outcome.NEXT_STATUS)
    assert step(Row("o", since=START + 30), each=each, back=10.0) is Step.RESTORE
    assert step(Row("o", since=START + 55), each=each, back=10.0) is Outcome.RETURNED


def test_a_write_without_an_answer_may_begin_late():
    each = change(Outcome.RETURNED, Written(2.0, 2.0))
    assert step(Row("o", since=START + 30), each=each, unanswered=AT + 2) is Step.RESTORE
    assert step(Row("o", since=START + 46), each=each, unanswered=AT + 2) is Outcome.RETURNED


def test_the_former_status_is_nothing_to_restore_unless_it_was_restored():
    assert step(Row("a")) is Outcome.SKIPPED_STATE
    assert step(Row("a"), restored=True) is Outcome.CONFIRMED
    assert step(Row("o", next_status="Available"), restored=True) is Outcome.CONFIRMED


def test_while_a_late_effect_is_possible_nothing_is_over():
    for row in (Row("a"), Row("lunch")):
        assert step(row, Why.UNANSWERED, unanswered=LATE_S - 1) is Step.LATER
        assert step(row, Why.UNANSWERED, unanswered=LATE_S) in (Outcome.SKIPPED_STATE, Outcome.RETURNED)
    assert step(Row("a"), unanswered=5.0, restored=True) is Step.LATER


def test_a_change_that_was_read_back_before_the_return_is_no_late_effect():
    each = change(written=Written(2.0, 12.0))
    assert step(Row("o"), Why.UNANSWERED, each=each, unanswered=20.0, back=5.0) is Step.LATER
    assert step(Row("o"), Why.UNANSWERED, each=each, unanswered=50.0, back=5.0) is Outcome.SKIPPED_STATE
    assert step(Row("o", since=START + 57), Why.UNANSWERED, each=each, unanswered=40.0, back=5.0) is Step.RESTORE
    assert step(Row("o"), Why.UNANSWERED, each=each, unanswered=40.0, back=5.0, elsewhere=True) is Step.RESTORE


def test_a_pending_status_that_was_applied_is_not_taken_back():
    each = change(Outcome.NEXT_STATUS)
    assert step(Row("a", next_status="Away"), Why.NEXT, each=each) is Step.RESTORE
    assert step(Row("o", since=START), Why.NEXT, each=each) is Outcome.SKIPPED_STATE


def test_who_is_not_shown_is_in_an_offline_target_if_heard_or_ordered():
    hides = replace(NAMES, hides=True)
    assert step(None, names=hides) is Step.RESTORE
    assert step(None, names=hides, back=None) is Outcome.SKIPPED_STATE
    assert step(None, Why.ORDER, names=hides, back=None, silent=True) is Step.RESTORE
    assert step(None) is Outcome.SKIPPED_STATE
    assert step(None, names=hides, complete=False) is Step.AGAIN


# The return.


NEW = b"n" * 16


def loaded(each: Change, session_id: bytes = NEW, *, at: float = 60, page: bool = True, arrived: bool = True) -> Change:
    beat = Beat(AgentId("i", "anna"), session_id, arrived=arrived)
    return heard(each, beat, now(at), WINDOW, loaded=page)


@pytest.mark.parametrize(
    ("each", "page", "arrived", "after"),
    [
        (change(), True, True, Why.RETURN),
        (change(), False, True, None),
        (change(), True, False, None),
        (change(Outcome.ALREADY), True, True, None),
        (change(Outcome.FAILED), True, True, None),
        (change(Outcome.NEXT_STATUS), True, True, Why.NEXT),
        (change(former=None), True, True, Why.RETURN),
        (replace(change(), greeted=True), True, True, None),
        (replace(change(), ordered_until=Running(1e6)), True, True, Why.ORDER),
        (change(written=Written(0.0, 1.0)), True, True, Why.RETURN),
    ],
)
def test_a_return_is_a_new_page_that_has_signed_in_and_less_than_anything_else(each, page, arrived, after):
    assert why(loaded(each, page=page, arrived=arrived)) is after


def test_a_return_is_not_the_first_beat_only():
    each = loaded(change(), arrived=False)
    assert why(each) is None
    assert why(loaded(each)) is Why.RETURN


def test_a_session_from_before_is_no_new_page_whoever_says_so():
    assert why(loaded(change(), PAGE)) is None


def test_a_return_after_the_window_is_none():
    assert why(loaded(change(), at=WINDOW - 3)) is Why.RETURN
    assert why(loaded(change(), at=WINDOW)) is None


def test_a_mistake_takes_the_place_of_a_return_that_was_not_sent():
    each = loaded(change())
    after = beaten(each, PAGE, 0.0, now(61), WINDOW)
    assert why(after) is Why.GAP
    assert outweighed(each, after)
    assert not outweighed(after, after)
    assert not outweighed(each, each)
    sent = replace(each, undo=replace(each.undo, sent_at=Epoch(START)))
    assert why(beaten(sent, PAGE, 0.0, now(61), WINDOW)) is Why.RETURN
    slept = beaten(each, PAGE, 1e9, now(61), WINDOW)
    assert why(slept) is Why.RETURN
    assert PAGE not in {left.session_id for left in slept.sessions}


def test_a_change_of_our_own_status_in_the_same_silence_goes_back_to_before_it():
    first = replace(change(former="lunch"), tripped=True, profile="Sales")
    second = replace(change(former="o"), target="p", token=8, sessions=(), silent_since=None)
    after = follows(first, second)
    assert (after.former, after.target, after.token) == ("lunch", "p", 8)
    assert (after.sessions, after.silent_since, after.tripped) == (first.sessions, first.silent_since, True)
    assert after.profile == "Sales"
    assert follows(None, second) is second
    assert follows(first, replace(second, epoch=4)).former == "o"
    assert follows(first, replace(second, former="x")).former == "x"
