"""One claimed agent's file: what was seen, written and counted for it, and the action that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from watchdog.connect.answers import Status
from watchdog.connect.queue import Rank
from watchdog.connect.verdict import Settle
from watchdog.connect.witness import Sighting
from watchdog.core.model import Action, Boot, Claim, Instant, Intent, IntentKind
from watchdog.core.undo import Written

MAY_HAVE_APPLIED = frozenset({"accepted", "unanswered", "unavailable"})
"""Results of a write after which Connect may have the status."""

NOT_SENT = "not_sent"
"""Result of a write that never reached Connect."""


@dataclass(slots=True)
class Trail:
    """What happened to an agent in this epoch, over all claims of this process. A restart forgets it; the intent stays.

    Attributes:
        epoch: The agent's epoch.
        began_at: The first claim.
        whole: No earlier process wrote anything for this epoch.
        failures: Calls that failed in a row; sets the back-off.
        calls: Connect calls made, batched reads included.
        accepted: Writes that Connect accepted.
        sent_at: When the last write was sent that Connect accepted, or may have.
        accepted_at: When Connect last accepted one.
        unanswered_at: When the last one was sent that had no answer.
        before: What the witness saw before the first write.
        activity: Activity that counts as a heartbeat.
        writes: Each write: when, what, and its result.
        read_backs: What was seen after writes.
    """

    epoch: int
    began_at: Boot
    whole: bool = True
    failures: int = 0
    calls: int = 0
    accepted: int = 0
    sent_at: Boot | None = None
    accepted_at: Boot | None = None
    unanswered_at: Boot | None = None
    before: dict[str, Any] | None = None
    activity: dict[str, Any] | None = None
    writes: list[dict[str, Any]] = field(default_factory=list)
    read_backs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Case:
    """A claim in hand.

    Attributes:
        claim: The claim.
        scope: Account and region that share the quota.
        rank: The place in the queues.
        trail: What happened so far.
        unserved: Still waits for its first token of PutUserStatus.
        interruptible: Nothing of it is under way that a stop would leave half done.
        closed: Settled or released.
    """

    claim: Claim
    scope: str
    rank: Rank
    trail: Trail
    unserved: bool = True
    interruptible: bool = True
    closed: bool = False

    @property
    def carried(self) -> Intent | None:
        """What an earlier claim left and may have taken effect; None when every write of it was refused or not sent.

        Writes of an earlier process are not known, so they may have.
        """
        sent = any(write["result"] in MAY_HAVE_APPLIED for write in self.trail.writes)
        return self.claim.intent if sent or not self.trail.whole else None

    def written(self, now: Instant) -> Written | None:
        """What was written for this epoch and took effect, or may have; None for nothing."""
        trail = self.trail
        times = [at for at in (trail.accepted_at, trail.unanswered_at) if at is not None]
        if times:
            unanswered_s_ago = None if trail.unanswered_at is None else now.boot - trail.unanswered_at
            return Written(now.boot - max(times), unanswered_s_ago)
        return None if self.carried is None else left_behind(self.carried, now)

    def evidence(self) -> dict[str, Any]:
        """Everything that the decision rests on; JSON values."""
        found: dict[str, Any] = dict(self.claim.evidence)
        found["lag_s"] = round(self.claim.lag_s, 3)
        if self.claim.intent is not None:
            intent = self.claim.intent
            found["left_intent"] = {"target": intent.target, "former": intent.former, "at": intent.at}
        if self.trail.before is not None:
            found["before"] = self.trail.before
        if self.trail.activity is not None:
            found["activity"] = self.trail.activity
        if self.trail.writes:
            found["writes"] = list(self.trail.writes)
        if self.trail.read_backs:
            found["read_backs"] = list(self.trail.read_backs)
        return found

    def action(self, settle: Settle, target: Status, now: Instant) -> Action:
        """The record of the outcome."""
        return Action(
            id=action_id(now, self.claim),
            at=now.epoch,
            agent=self.claim.agent,
            intent=IntentKind.SET_STATUS,
            target=target.name,
            outcome=settle.outcome,
            reason=settle.reason,
            evidence=self.evidence(),
            calls=self.trail.calls,
            latency_s=round(now.boot - self.trail.began_at, 3),
        )


def left_behind(intent: Intent, now: Instant) -> Written:
    """What an earlier process may have written, of which only the intent is known."""
    s_ago = max(0.0, now.epoch - intent.at)
    return Written(s_ago, s_ago)


def action_id(now: Instant, claim: Claim) -> str:
    """The id of a claim's action: no claim has two."""
    return dated_id(now, f"{claim.token:08d}")


def dated_id(now: Instant, own: str) -> str:
    """An action's id, which sorts by time: milliseconds since 1970, and what no other action of then has.

    Args:
        now: The action's time.
        own: A claim's token; for an action of no claim a letter and a number, or the agent's user id.
    """
    return f"{int(now.epoch * 1000):013d}-{own}"


def shown(sighting: Sighting) -> dict[str, Any]:
    """A sighting as evidence."""
    seen = sighting.seen
    if seen is None:
        return {"at": sighting.answered_at, "shown": False, "complete": sighting.complete}
    return {
        "at": sighting.answered_at,
        "shown": True,
        "status": seen.status_name,
        "status_id": seen.status_id,
        "since": seen.since,
        "next_status": seen.next_status,
        "contacts": list(seen.contacts),
        "connected_at": list(seen.connected_at),
    }
