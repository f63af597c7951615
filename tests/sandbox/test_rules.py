"""The table of what a chosen status does, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.sandbox.records import Behaviour, Contact, ContactState, User
from watchdog.sandbox.rules import DISMISSIBLE, OCCUPYING, choose_status, clear_slot, move_contact

S = ContactState
AT_ONCE, AS_NEXT = "at once", "as next"


def contact(state, number=0):
    return Contact(id=f"c{number}", channel="CHAT", state=state, state_since=1.0, queue_id="q")


def user(*states, status="Available", following=None):
    return User(
        id="u",
        arn="arn",
        username="ann",
        routing_profile_id="p",
        status_id=status,
        status_since=1.0,
        modified_at=1.0,
        next_status_id=following,
        contacts=tuple(contact(state, number) for number, state in enumerate(states)),
    )


TABLE = [
    ((), AT_ONCE),
    ((S.ENDED,), AT_ONCE),
    ((S.ENDED, S.ENDED), AT_ONCE),
    ((S.MISSED,), AT_ONCE),
    ((S.MISSED, S.ENDED), AT_ONCE),
    ((S.INCOMING,), AS_NEXT),
    ((S.PENDING,), AS_NEXT),
    ((S.CONNECTING,), AS_NEXT),
    ((S.CONNECTED,), AS_NEXT),
    ((S.CONNECTED_ONHOLD,), AS_NEXT),
    ((S.ERROR,), AS_NEXT),
    ((S.REJECTED,), AS_NEXT),
    ((S.CONNECTED, S.ENDED), AS_NEXT),
    ((S.CONNECTED, S.MISSED), AS_NEXT),
    ((S.ERROR, S.MISSED), AS_NEXT),
    ((S.REJECTED, S.ENDED), AS_NEXT),
]


@pytest.mark.parametrize(("states", "how"), TABLE)
def test_a_chosen_status_applies_at_once_or_as_the_next_one_by_the_slots_held(states, how):
    before = user(*states)
    after = choose_status(before, "Offline", 5.0, Behaviour())
    if how == AT_ONCE:
        assert (after.status_id, after.status_since, after.next_status_id, after.contacts) == ("Offline", 5.0, None, ())
    else:
        assert (after.status_id, after.status_since, after.next_status_id) == ("Available", 1.0, "Offline")
        assert after.contacts == before.contacts


def test_the_table_has_every_state_alone():
    assert {states[0] for states, _ in TABLE if len(states) == 1} == set(ContactState)


def test_a_state_is_either_occupying_or_dismissible():
    assert set(ContactState) == OCCUPYING | DISMISSIBLE
    assert not OCCUPYING & DISMISSIBLE


def test_a_missed_contact_waits_for_its_dismissal_if_missed_contacts_do_not_clear():
    waiting = choose_status(user(S.MISSED), "Offline", 5.0, Behaviour(missed_clears=False))
    assert (waiting.status_id, waiting.next_status_id) == ("Available", "Offline")
    assert clear_slot(waiting, "c0", 6.0).status_id == "Offline"


def test_the_next_status_waits_for_the_last_slot():
    waiting = choose_status(user(S.CONNECTED, S.CONNECTED), "Offline", 5.0, Behaviour())
    one_left = clear_slot(waiting, "c0", 6.0)
    assert (one_left.status_id, one_left.next_status_id) == ("Available", "Offline")
    none_left = clear_slot(one_left, "c1", 7.0)
    assert (none_left.status_id, none_left.status_since, none_left.next_status_id) == ("Offline", 7.0, None)


def test_after_contact_work_still_holds_the_slot():
    waiting = choose_status(user(S.CONNECTED), "Offline", 5.0, Behaviour())
    wrapping_up = move_contact(waiting, "c0", S.ENDED, 6.0)
    assert (wrapping_up.status_id, wrapping_up.next_status_id) == ("Available", "Offline")


def test_choosing_the_current_status_on_a_contact_cancels_the_next_one():
    waiting = user(S.CONNECTED, following="Lunch")
    after = choose_status(waiting, "Available", 5.0, Behaviour())
    assert (after.status_id, after.next_status_id) == ("Available", None)


def test_a_later_choice_replaces_the_next_status():
    after = choose_status(user(S.CONNECTED, following="Lunch"), "Offline", 5.0, Behaviour())
    assert after.next_status_id == "Offline"


def test_choosing_the_status_one_is_in_keeps_its_start():
    before = user()
    assert choose_status(before, "Available", 5.0, Behaviour()) is before


def test_a_chosen_status_supersedes_a_next_one_left_over_after_the_contact():
    after = choose_status(user(S.ENDED, following="Lunch"), "Available", 5.0, Behaviour())
    assert (after.status_id, after.next_status_id, after.contacts) == ("Available", None, ())


def test_a_contact_remembers_when_it_first_reached_the_agent():
    ringing = user(S.INCOMING)
    talking = move_contact(ringing, "c0", S.CONNECTED, 5.0)
    held = move_contact(talking, "c0", S.CONNECTED_ONHOLD, 6.0)
    again = move_contact(held, "c0", S.CONNECTED, 7.0)
    assert (again.contacts[0].connected_at, again.contacts[0].state_since) == (5.0, 7.0)


@given(
    states=st.lists(st.sampled_from(list(ContactState)), max_size=4),
    choices=st.lists(st.sampled_from(["Available", "Lunch", "Offline"]), min_size=1, max_size=4),
)
def test_the_last_choice_holds_when_every_slot_is_clear(states, choices):
    one = user(*states)
    for choice in choices:
        one = choose_status(one, choice, 5.0, Behaviour())
    for held in one.contacts:
        one = clear_slot(one, held.id, 6.0)
    assert (one.status_id, one.next_status_id, one.contacts) == (choices[-1], None, ())
