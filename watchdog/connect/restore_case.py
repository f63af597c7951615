"""One change that is to be undone: what was seen, written and counted for it, and the action that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from watchdog.connect.case import numbered_id
from watchdog.connect.queue import Level, Rank
from watchdog.connect.verdict import Settle
from watchdog.core import undo
from watchdog.core.model import Action, Boot, Instant, IntentKind, Observed
from watchdog.core.undo import LATE_S, Change, Why

LATER_S = dict.fromkeys(Why, 0.0) | {Why.RETURN: 1e12, Why.ORDER: float("inf")}
"""By how much the place in the queues is behind that of a mistake of the same time."""


@dataclass(slots=True, eq=False)
class RestoreCase:
    """One change in hand.

    Attributes:
        change: As it was told.
        why: Why it is undone.
        rank: The place in the queues.
        began_at: When it was taken in hand.
        former_id: The status to restore; for a return None until it is decided.
        greeting: For a return what decided it: rule, profile and initial state; None before.
        late_until: A restore without an answer may take effect until then.
        looked_at: When the last look was asked for.
        elsewhere: A look showed that the target was not in force.
        restored: A restore was accepted, or may have taken effect.
        confirmed: A look after a restore showed its status.
        keep: The change may be undone another time.
        refreshed: The directory was read again for it.
        accepted: Restores that Connect accepted.
        failures: Calls that failed.
        fault: Why the last of them did.
        calls: Connect calls made, batched reads included.
        writing: A write is under way.
        sent_at: When the last restore was sent, until a look shows its status.
        looks: What was seen.
        writes: Each restore, and its result.
    """

    change: Change
    why: Why
    rank: Rank
    began_at: Boot
    former_id: str | None
    greeting: dict[str, Any] | None = None
    late_until: Boot | None = None
    looked_at: Boot | None = None
    elsewhere: bool = False
    restored: bool = False
    confirmed: bool = False
    keep: bool = False
    refreshed: bool = False
    accepted: int = 0
    failures: int = 0
    fault: str = ""
    calls: int = 0
    writing: bool = False
    sent_at: Boot | None = None
    looks: list[dict[str, Any]] = field(default_factory=list)
    writes: list[dict[str, Any]] = field(default_factory=list)

    def action(self, settle: Settle, target: str, now: Instant) -> Action:
        """The record of the outcome.

        Args:
            settle: The outcome.
            target: Name of the status to restore, or its id when the name is not known.
            now: The machine's clocks.
        """
        change = self.change
        return Action(
            id=numbered_id(now, f"u{change.token:07d}", change.agent),
            at=now.epoch,
            agent=change.agent,
            intent=IntentKind.RESTORE,
            target=target,
            outcome=settle.outcome,
            reason=settle.reason,
            evidence={
                **undo.evidence(change),
                **(self.greeting or {}),
                "looks": self.looks,
                "writes": self.writes,
            },
            calls=self.calls,
            latency_s=round(now.boot - self.began_at, 3),
        )


def taken(change: Change, now: Instant) -> RestoreCase:
    """Takes a change in hand; a write that another process has begun may take effect for a while yet."""
    why = Why.ORDER if change.undo is None else change.undo.why
    # Whoever we have just wronged comes before whoever returns, and last comes whom an operator has thought of.
    place = Observed(change.settled + LATER_S[why])
    former_id = None if why is Why.RETURN else change.former
    case = RestoreCase(change, why, Rank(Level.UNDO, place), now.boot, former_id)
    sent_at = None if change.undo is None else change.undo.sent_at
    if sent_at is not None:
        ago_s = min(LATE_S, max(0.0, now.epoch - sent_at))
        case.restored, case.late_until = True, Boot(now.boot + LATE_S - ago_s)
    return case
