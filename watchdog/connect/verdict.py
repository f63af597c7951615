"""What a sighting means for an intent: pure decisions, before a write and after one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from watchdog.connect.answers import Seen, Status, StatusType
from watchdog.core.model import Intent, Outcome


class Finding(Enum):
    """How what Connect showed compares with the target."""

    TARGET = auto()
    """The status is the target, and no other follows."""
    NEXT = auto()
    """The next status is the target."""
    ELSEWHERE = auto()
    """Another status."""
    ABSENT = auto()
    """Not in a complete answer. Users who are Offline may be left out."""
    UNKNOWN = auto()
    """Not in an answer that has pages missing: no answer at all."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Nothing is to be written.

    Attributes:
        outcome: What became of the intent.
        reason: One sentence for people.
    """

    outcome: Outcome
    reason: str


class Step(Enum):
    """What to do where the intent cannot be settled yet."""

    WRITE = auto()
    WRITE_UNSEEN = auto()
    """Once, after all others, and without reading it back: the agent is probably Offline already."""
    WAIT = auto()


def find(seen: Seen | None, target: Status, *, complete: bool) -> Finding:
    """Compares a sighting with the target.

    Args:
        seen: The row; None when the agent was not in the answer.
        target: The status wanted. Connect names the next status, so names are compared there.
        complete: The answer had all pages.
    """
    if seen is None:
        return Finding.ABSENT if complete else Finding.UNKNOWN
    if seen.status_id == target.id and seen.next_status in (None, target.name):
        return Finding.TARGET
    return Finding.NEXT if seen.next_status == target.name else Finding.ELSEWHERE


def before_write(finding: Finding, target: Status, intent: Intent | None, *, dry_run: bool) -> Settle | Step:
    """What to do with an agent who was just claimed.

    Args:
        finding: From a read that is newer than any earlier write.
        target: The status wanted.
        intent: What an earlier claim of the same epoch left without an outcome. It may have taken effect: if the agent
            is in its target and was not before, it is taken as the cause.
        dry_run: Write nothing.
    """
    # Whoever was not shown before the intent was probably in the target then.
    ours = intent is not None and intent.target == target.id and intent.former is not None
    match finding:
        case Finding.TARGET if ours:
            return Settle(Outcome.CONFIRMED, f"An earlier write took effect: Connect shows {target.name}.")
        case Finding.NEXT if ours:
            return Settle(Outcome.NEXT_STATUS, f"An earlier write took effect: {target.name} follows the contact.")
        case Finding.TARGET:
            return Settle(Outcome.ALREADY, f"Connect showed {target.name} already.")
        case Finding.NEXT:
            return Settle(Outcome.ALREADY, f"{target.name} was the next status already.")
        case Finding.UNKNOWN:
            return Step.WAIT
        case Finding.ABSENT if target.type is not StatusType.OFFLINE:
            return Settle(Outcome.SKIPPED_STATE, f"Connect does not show the agent; {target.name} was not set.")
        case Finding.ABSENT if ours:
            return Settle(Outcome.CONFIRMED, "An earlier write took effect: Connect no longer shows the agent.")
    if dry_run:
        return Settle(Outcome.DRY_RUN, f"{target.name} would have been set; DRY_RUN is on.")
    return Step.WRITE_UNSEEN if finding is Finding.ABSENT else Step.WRITE


def after_write(finding: Finding, target: Status) -> Settle | None:
    """What a read after an accepted write proves; None when the target is not there."""
    match finding:
        case Finding.TARGET:
            return Settle(Outcome.CONFIRMED, f"All sessions ended; Connect shows {target.name}.")
        case Finding.NEXT:
            return Settle(Outcome.NEXT_STATUS, f"All sessions ended; {target.name} follows the contact.")
        case Finding.ABSENT if target.type is StatusType.OFFLINE:
            return Settle(Outcome.CONFIRMED, "All sessions ended; Connect no longer shows the agent.")
    return None
