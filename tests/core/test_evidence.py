"""What Connect's data proves of a person, and what a heartbeat dated at the activity is worth."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.core.evidence import (
    FUTURE_S,
    GRAIN_S,
    Activity,
    ActivityKind,
    Miss,
    latest,
    lease,
    missed,
    overruled,
    proves_absence,
)
from watchdog.core.model import Epoch, Observed

DATE = Epoch(1_700_000_000.0)
TTL, TIMER = 35.0, 5.0


@dataclass(frozen=True)
class Shown:
    status_id: str = "available"
    since: Epoch | None = None
    next_status: str | None = None
    contacts: tuple[str, ...] = ()
    connected_at: tuple[Epoch | None, ...] = ()
    state_since: tuple[Epoch | None, ...] = ()
    status_name: str = ""


def ago(seconds: float) -> Epoch:
    return Epoch(DATE - seconds)


def on(*contacts: tuple[str, float | None], **more: object) -> Shown:
    """An agent with contacts: each with its state and since when it is connected."""
    since = tuple(None if seconds is None else ago(seconds) for _, seconds in contacts)
    return Shown(contacts=tuple(state for state, _ in contacts), connected_at=since, **more)  # type: ignore[arg-type]


def newest(shown: Shown, *ours: str) -> Activity | None:
    return latest(shown, DATE, frozenset(ours))


# What proves a person.


@pytest.mark.parametrize("state", ["CONNECTED", "CONNECTED_ONHOLD"])
def test_a_contact_that_was_answered_is_activity_at_that_moment(state):
    assert newest(on((state, 12.0))) == Activity(ActivityKind.CONTACT, ago(12), 12.0)


@pytest.mark.parametrize("state", ["INCOMING", "PENDING", "CONNECTING", "MISSED", "ERROR", "ENDED", "REJECTED", "NEW"])
def test_any_other_contact_spares_nobody(state):
    assert newest(on((state, 1.0))) is None


def test_a_status_change_is_activity_unless_it_is_ours():
    shown = Shown("lunch", ago(3))
    assert newest(shown) == Activity(ActivityKind.STATUS, ago(3), 3.0)
    assert newest(shown, "offline") == Activity(ActivityKind.STATUS, ago(3), 3.0)
    assert newest(shown, "offline", "lunch") is None


def test_the_latest_activity_counts():
    contacts = (("CONNECTED", 30.0), ("CONNECTED_ONHOLD", 10.0), ("MISSED", 1.0), ("CONNECTED", None))
    assert newest(on(*contacts, since=ago(20))) == Activity(ActivityKind.CONTACT, ago(10), 10.0)
    assert newest(on(*contacts, since=ago(9))) == Activity(ActivityKind.STATUS, ago(9), 9.0)
    # our own write does not hide the contact
    assert newest(on(*contacts, since=ago(9)), "available") == Activity(ActivityKind.CONTACT, ago(10), 10.0)


def test_what_has_no_time_proves_nothing():
    assert newest(Shown()) is None
    assert newest(on(("CONNECTED", None))) is None
    assert newest(Shown(contacts=("CONNECTED",))) is None


def test_a_moment_that_is_a_little_ahead_is_now_and_a_far_one_is_not_believed():
    assert newest(Shown(since=ago(-FUTURE_S))) == Activity(ActivityKind.STATUS, ago(-FUTURE_S), 0.0)
    assert newest(Shown(since=ago(-FUTURE_S - 1))) is None
    assert newest(on(("CONNECTED", 20.0), since=ago(-3600))) == Activity(ActivityKind.CONTACT, ago(20), 20.0)


# What it is worth.


def worth(age_s: float, *, clock: float = 100.0, heard: float = 59.0, ends_at: float | None = None) -> float | None:
    """With a last beat at `heard` whose lease has run out."""
    ended = Observed(heard + TTL if ends_at is None else ends_at)
    return lease(age_s, TTL, heard=Observed(heard), ends_at=ended, timer_s=TIMER, clock=Observed(clock))


def test_the_lease_begins_at_the_activity_and_not_now():
    assert worth(10.0) == 90 + TTL
    assert worth(30.0) == 70 + TTL


def test_a_lease_whose_timer_is_over_is_worth_nothing():
    # at `clock == deadline` nobody is due
    assert worth(40.0, heard=50.0) == 60 + TTL
    assert worth(40.1, heard=50.0) is None


def test_activity_before_the_last_heartbeat_is_worth_nothing_even_if_that_was_a_bye():
    assert worth(10.0, heard=95.0, ends_at=95.0) is None
    assert worth(5.0 - GRAIN_S, heard=95.0, ends_at=95.0) is None
    assert worth(5.0 - GRAIN_S - 0.1, heard=95.0, ends_at=95.0) == pytest.approx(97.1 + TTL)


def test_the_same_activity_is_worth_nothing_the_second_time_though_dates_have_whole_seconds():
    first = worth(30.0)
    assert first == 70 + TTL
    assert worth(65.0 - 0.999, clock=135.0, ends_at=first) is None


@given(
    age_s=st.floats(0, 200), clock=st.floats(0, 1e6), beat_ago=st.floats(0, 300), left=st.floats(0, 100) | st.just(0.0)
)
def test_a_lease_is_never_longer_than_one_of_a_heartbeat_at_the_activity(age_s, clock, beat_ago, left):
    heard = Observed(clock - beat_ago)
    ends_at = Observed(heard + left)
    found = lease(age_s, TTL, heard=heard, ends_at=ends_at, timer_s=TIMER, clock=Observed(clock))
    if found is not None:
        assert found == clock - age_s + TTL
        assert found > ends_at + GRAIN_S
        assert clock <= found + TIMER
        assert clock - age_s > heard


# What proves that nobody is there.


def rang(*contacts: tuple[str, float | None]) -> Shown:
    """An agent with contacts: each with its state and since when it is in it."""
    since = tuple(None if seconds is None else ago(seconds) for _, seconds in contacts)
    return Shown(contacts=tuple(state for state, _ in contacts), state_since=since)


def test_the_contact_that_was_missed_last_counts():
    assert missed(rang(("MISSED", 30.0), ("MISSED", 12.0), ("CONNECTED", 1.0)), DATE) == Miss(ago(12), 12.0)
    assert missed(rang(("MISSED", -1.0)), DATE) == Miss(ago(-1), 0.0)


@pytest.mark.parametrize("state", ["INCOMING", "CONNECTING", "CONNECTED", "ENDED", "REJECTED", "ERROR", "PENDING"])
def test_no_other_contact_was_missed(state):
    assert missed(rang((state, 1.0)), DATE) is None


def test_a_missed_contact_without_a_time_or_far_ahead_proves_nothing():
    assert missed(rang(("MISSED", None)), DATE) is None
    assert missed(Shown(contacts=("MISSED",)), DATE) is None
    assert missed(rang(("MISSED", -FUTURE_S - 1)), DATE) is None
    assert missed(rang(("MISSED", -FUTURE_S)), DATE) is not None


def gone(age_s: float, *, heard: float = 59.0, floor: float = float("-inf")) -> bool:
    return proves_absence(age_s, TTL, heard=Observed(heard), floor=Observed(floor), clock=Observed(100.0))


def test_a_contact_that_was_missed_after_the_last_heartbeat_proves_absence():
    assert gone(38.9)
    assert not gone(41.0 - GRAIN_S)
    assert not gone(60.0)


def test_a_contact_that_was_missed_before_the_last_activity_does_not():
    witnessed = 80.0 + TTL
    assert gone(17.9, floor=witnessed)
    assert not gone(18.0, floor=witnessed)


def test_where_nothing_was_heard_ever_nothing_is_proven():
    assert not gone(0.0, heard=float("-inf"))


# Whose deed it is, after a write.


def changed(shown: Shown, before: Shown | None, *, written_s_ago: float = 2.0) -> bool:
    former = before or shown
    return overruled(
        shown,
        DATE,
        target_id="offline",
        target_name="Offline",
        former=before.status_id if before else None,
        former_since=former.since,
        former_next=former.next_status,
        written_s_ago=written_s_ago,
    )


AVAILABLE = Shown("available", ago(600))


def test_a_third_status_that_began_after_our_write_is_somebody_elses():
    assert changed(Shown("lunch", ago(1)), AVAILABLE)
    assert not changed(Shown("lunch", ago(2 + GRAIN_S)), AVAILABLE)
    assert not changed(Shown("lunch", None), AVAILABLE)


def test_the_former_status_is_somebody_elses_only_if_it_began_anew():
    assert not changed(AVAILABLE, AVAILABLE)
    just_before = Shown("available", ago(3))
    assert not changed(just_before, just_before)
    assert changed(Shown("available", ago(1)), AVAILABLE)
    assert not changed(Shown("available", ago(2 + GRAIN_S)), AVAILABLE)
    # of an agent who was not shown before, nothing is known
    assert changed(Shown("available", ago(1)), None)


def test_the_target_is_never_somebody_elses():
    assert not changed(Shown("offline", ago(1)), AVAILABLE)
    assert not changed(Shown("available", ago(600), "Offline"), AVAILABLE)


def test_another_next_status_than_before_is_somebody_elses():
    assert changed(Shown("available", ago(600), "Lunch"), AVAILABLE)
    chosen_before = Shown("available", ago(600), "Lunch")
    assert not changed(chosen_before, chosen_before)


def test_a_status_that_was_chosen_for_after_the_contact_before_our_write_is_no_deed_when_it_comes():
    before = Shown("available", ago(600), "Lunch")
    assert not changed(Shown("lunch", ago(1), status_name="Lunch"), before)
    assert changed(Shown("training", ago(1), status_name="Training"), before)
