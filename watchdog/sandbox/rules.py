"""How an agent's status moves in Amazon Connect: all the rules, pure, in one file.

A *slot* is held by every contact that is not cleared. Each function takes a user and gives back the user afterwards;
the same object means that nothing changed.

    slots held                                    a new status is
    none, or only ENDED (after-contact work)      applied at once, the slots are cleared
    only MISSED, or MISSED and ENDED              the same (see `Behaviour.missed_clears`)
    anything else                                 the next status, applied when every slot is clear

Choosing the status that one is in already cancels the next status.
Source: Amazon Connect administrator guide, "Set your Next status in the CCP"; operation PutUserStatus.
"""

from dataclasses import replace

from watchdog.sandbox.records import Behaviour, Contact, ContactState, User

OCCUPYING = frozenset(
    {
        ContactState.CONNECTED,
        ContactState.CONNECTED_ONHOLD,
        ContactState.INCOMING,
        ContactState.CONNECTING,
        ContactState.PENDING,
    }
)
"""States in which the agent handles the contact."""

DISMISSIBLE = frozenset({ContactState.MISSED, ContactState.ERROR, ContactState.ENDED, ContactState.REJECTED})
"""States in which a contact can be dismissed. Source: operation DismissUserContact."""


def _in_status(user: User, status_id: str, now: float) -> User:
    """Put the user into the status and forget the next one; being in it already keeps its start."""
    if status_id == user.status_id:
        return user if user.next_status_id is None else replace(user, next_status_id=None)
    return replace(user, status_id=status_id, status_since=now, next_status_id=None)


def choose_status(user: User, status_id: str, now: float, behaviour: Behaviour) -> User:
    """Apply a status chosen by the person or by PutUserStatus, at once or as the next one (see the table above)."""
    clearing = {ContactState.ENDED, ContactState.MISSED} if behaviour.missed_clears else {ContactState.ENDED}
    if all(contact.state in clearing for contact in user.contacts):
        cleared = replace(user, contacts=()) if user.contacts else user
        return _in_status(cleared, status_id, now)
    wanted = None if status_id == user.status_id else status_id
    return user if wanted == user.next_status_id else replace(user, next_status_id=wanted)


def hold_slot(user: User, contact: Contact) -> User:
    """Give the contact a slot; the status stays."""
    return replace(user, contacts=(*user.contacts, contact))


def move_contact(user: User, contact_id: str, state: ContactState, now: float) -> User:
    """Set a contact's state; the first CONNECTED is remembered as the time it reached the agent."""

    def moved(contact: Contact) -> Contact:
        connected_at = contact.connected_at
        if state is ContactState.CONNECTED and connected_at is None:
            connected_at = now
        return replace(contact, state=state, state_since=now, connected_at=connected_at)

    return replace(user, contacts=tuple(moved(c) if c.id == contact_id else c for c in user.contacts))


def clear_slot(user: User, contact_id: str, now: float) -> User:
    """Take the contact away; when no slot is held any longer the next status is applied."""
    left = replace(user, contacts=tuple(c for c in user.contacts if c.id != contact_id))
    if left.contacts or left.next_status_id is None:
        return left
    return _in_status(left, left.next_status_id, now)


def same_statuses(before: User, after: User) -> bool:
    """Tell whether both the current and the next status are the same."""
    return (before.status_id, before.next_status_id) == (after.status_id, after.next_status_id)
