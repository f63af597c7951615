"""What Amazon Connect's own data proves of a person, and what that is worth.

Activity counts as a heartbeat dated at the activity: its lease begins then, never now, or a ghost who clicked once
after the last beat would be spared for ever. Ages are the answer's `Date` minus a timestamp, both by Connect's clocks,
so that ours may be wrong. Whoever is gone and untouched by anybody shows nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from watchdog.core.deadline import is_due
from watchdog.core.model import Epoch, Observed

ANSWERED = frozenset({"CONNECTED", "CONNECTED_ONHOLD"})
"""States of a contact that a person has taken. A ghost has INCOMING and MISSED ones; an ENDED one proves its past only.
Source: shape ContactState."""

MISSED = "MISSED"
"""State of a contact that rang and was not taken. Source: shape ContactState."""

FUTURE_S = 60.0
"""Most by which a timestamp may be ahead of the answer's `Date`: clocks inside AWS agree far better. One that is
further ahead is damaged, and would spare until it has come."""

GRAIN_S = 2.0
"""Differences of less are not told apart: `Date` has whole seconds, so an age is up to a second too short.
Source: RFC 9110, section 5.6.7."""


class Shown(Protocol):
    """What Connect showed of an agent; see `watchdog.connect.answers.Seen`."""

    @property
    def status_id(self) -> str:
        """The current status."""

    @property
    def status_name(self) -> str:
        """Its name."""

    @property
    def since(self) -> Epoch | None:
        """When it began."""

    @property
    def next_status(self) -> str | None:
        """Name of the status that follows, else None."""

    @property
    def contacts(self) -> tuple[str, ...]:
        """States of the contacts."""

    @property
    def connected_at(self) -> tuple[Epoch | None, ...]:
        """When each of them was connected to the agent."""

    @property
    def state_since(self) -> tuple[Epoch | None, ...]:
        """When each of them entered its state."""


class ActivityKind(StrEnum):
    """What a person did."""

    CONTACT = "contact"
    """Took a contact."""
    STATUS = "status"
    """Chose a status, or somebody did for them."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that only a person can have done.

    Attributes:
        kind: What.
        at: When, by Connect's clock.
        age_s: How long before the answer's `Date`; at least 0.
    """

    kind: ActivityKind
    at: Epoch
    age_s: float


@dataclass(frozen=True, slots=True)
class Miss:
    """A contact that rang at an agent who did not take it.

    Attributes:
        at: When it was missed, by Connect's clock.
        age_s: How long before the answer's `Date`; at least 0.
    """

    at: Epoch
    age_s: float


def latest(shown: Shown, answered_at: Epoch, ours: frozenset[str]) -> Activity | None:
    """The latest activity that Connect shows.

    Args:
        shown: What it showed.
        answered_at: The answer's `Date`.
        ours: Ids of the statuses that we have set, or may have: being in one of them is not the agent's deed.

    Returns:
        The activity; None when there is none, or none that has a time.
    """
    moments = [
        (at, ActivityKind.CONTACT)
        for state, at in zip(shown.contacts, shown.connected_at, strict=False)
        if state in ANSWERED and at is not None
    ]
    if shown.since is not None and shown.status_id not in ours:
        moments.append((shown.since, ActivityKind.STATUS))
    credible = [(at, kind) for at, kind in moments if at - answered_at <= FUTURE_S]
    if not credible:
        return None
    at, kind = max(credible)
    return Activity(kind, at, max(0.0, answered_at - at))


def missed(shown: Shown, answered_at: Epoch) -> Miss | None:
    """The contact that was missed last, of those that Connect shows; None when none is dated."""
    moments = [
        at
        for state, at in zip(shown.contacts, shown.state_since, strict=False)
        if state == MISSED and at is not None and at - answered_at <= FUTURE_S
    ]
    return Miss(max(moments), max(0.0, answered_at - max(moments))) if moments else None


def proves_absence(age_s: float, ttl_s: float, *, heard: Observed, floor: Observed, clock: Observed) -> bool:
    """Whether a contact was missed by somebody who had gone before.

    Args:
        age_s: How long ago it was missed.
        ttl_s: Seconds of the lease that activity is worth.
        heard: When the agent was last heard from.
        floor: When the lease ends or ended that the agent had without a session, as for activity.
        clock: Now.

    Returns:
        True when it is newer than the last heartbeat and the last activity. Whatever is not known proves nothing.
    """
    last = max(heard, Observed(floor - ttl_s))
    return last > float("-inf") and clock - age_s > last + GRAIN_S


def lease(
    age_s: float, ttl_s: float, *, heard: Observed, ends_at: Observed, timer_s: float, clock: Observed
) -> Observed | None:
    """When the lease ends that a heartbeat at the activity would have had.

    Args:
        age_s: How long ago the activity was.
        ttl_s: Seconds of such a lease.
        heard: When the agent was last heard from; a bye is news, too.
        ends_at: When the agent's last lease ended, that of earlier activity included.
        timer_s: The session-end timer.
        clock: Now.

    Returns:
        Its end; None when the activity is not newer than the last heartbeat, adds nothing to what is known, or is so
        old that lease and timer are over.
    """
    at = clock - age_s
    end = Observed(at + ttl_s)
    if at <= heard + GRAIN_S or end <= ends_at + GRAIN_S or is_due(end, timer_s, clock):
        return None
    return end


def overruled(
    shown: Shown,
    answered_at: Epoch,
    *,
    target_id: str,
    target_name: str,
    former: str | None,
    former_since: Epoch | None,
    former_next: str | None,
    written_s_ago: float,
) -> bool:
    """Whether somebody else has chosen a status since we wrote one: whoever did will not be fought.

    Args:
        shown: What a read after the write showed.
        answered_at: That answer's `Date`.
        target_id: The status that we wrote.
        target_name: Its name; next statuses have only names.
        former: The status before the write; None when the agent was not shown.
        former_since: When that one had begun. Where it is not known, pass what is shown now.
        former_next: The next status before the write. Where it is not known, pass what is shown now.
        written_s_ago: How long before the read the write was sent.
    """
    if shown.next_status not in (None, target_name, former_next):
        return True
    if shown.status_id == target_id or (shown.status_id, shown.since) == (former, former_since):
        return False
    if former_next is not None and shown.status_name == former_next and shown.next_status != former_next:
        # Chosen before the write, for after the contact, which is over.
        return False
    return shown.since is not None and answered_at - shown.since < written_s_ago + GRAIN_S
