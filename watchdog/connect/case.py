"""One claimed agent's file: what was seen, written and counted for it, and the action that comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

from watchdog.connect.answers import Seen
from watchdog.connect.queue import Rank
from watchdog.connect.verdict import Settle
from watchdog.connect.witness import Sighting
from watchdog.core.model import Action, AgentId, Boot, Claim, Instant, Intent, IntentKind
from watchdog.core.undo import Written

if TYPE_CHECKING:
    from watchdog.connect.plan import Job

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
        intended: The last status that was to be set.
        before: What the witness saw before the first write.
        activity: Activity that counts as a heartbeat.
        decided: What the policy rested on: the rule, the stage and the routing profile.
        waits_since: Since when a contact is waited for.
        offline_since: First look of this process at which nothing spoke against ending the sessions.
        dismissed: Contacts that were cleared: which, and its result.
        stuck: Connect refuses to clear a contact that is over.
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
    intended: Intent | None = None
    before: dict[str, Any] | None = None
    activity: dict[str, Any] | None = None
    decided: dict[str, Any] | None = None
    waits_since: Boot | None = None
    offline_since: Boot | None = None
    dismissed: list[dict[str, Any]] = field(default_factory=list)
    stuck: bool = False
    writes: list[dict[str, Any]] = field(default_factory=list)
    read_backs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Settled:
    """There is an outcome.

    Attributes:
        settle: The outcome.
        job: What was to be set; None where no rule applied.
        kind: What was to be done.
        shown: Connect showed the agent before.
    """

    settle: Settle
    job: Job | None
    kind: IntentKind = IntentKind.SET_STATUS
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Spared:
    """The agent was active: the claim has ended, and that is recorded."""


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Not before something is over in Connect.

    Attributes:
        over: Whether it is, from what a complete look shows; None for an agent who is not shown.
    """

    over: Callable[[Seen | None], bool]


@dataclass(frozen=True, slots=True)
class Later:
    """Not before so many seconds."""

    delay_s: float


@dataclass(slots=True, eq=False)
class Case:
    """A claim in hand.

    Attributes:
        claim: The claim.
        scope: Account and region that share the quota.
        rank: The place in the queues.
        trail: What happened so far.
        claimed_at: When the claim was made.
        unserved: Still waits for its first token of PutUserStatus.
        interruptible: Nothing of it is under way that a stop would leave half done.
        closed: Settled or released.
    """

    claim: Claim
    scope: str
    rank: Rank
    trail: Trail
    claimed_at: Boot
    unserved: bool = True
    interruptible: bool = True
    closed: bool = False

    @property
    def carried(self) -> Intent | None:
        """What an earlier claim left and may have taken effect; None when every write of it was refused or not sent.

        Writes of an earlier process are not known, so they may have.
        """
        intent = self.claim.intent
        if intent is None or intent.kind is not IntentKind.SET_STATUS:
            return None
        sent = any(write["result"] in MAY_HAVE_APPLIED for write in self.trail.writes)
        return intent if sent or not self.trail.whole else None

    @property
    def former_next(self) -> str | None:
        """Name of the status that was to follow when Connect was looked at before the first write; None for none."""
        found: str | None = (self.trail.before or {}).get("next_status")
        return found

    def former(self, target: str) -> str | None:
        """Id of the status that a write of the target, in this or an earlier claim, has replaced; None for unknown."""
        intent = self.trail.intended or self.claim.intent
        return intent.former if intent is not None and intent.target == target else None

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
        if self.trail.decided is not None:
            found |= self.trail.decided
        if self.trail.dismissed:
            found["dismissed"] = list(self.trail.dismissed)
        if self.trail.writes:
            found["writes"] = list(self.trail.writes)
        if self.trail.read_backs:
            found["read_backs"] = list(self.trail.read_backs)
        return found

    def action(self, settle: Settle, target: str, now: Instant, kind: IntentKind = IntentKind.SET_STATUS) -> Action:
        """The record of the outcome; `target` is a name."""
        return Action(
            id=action_id(now, self.claim),
            at=now.epoch,
            agent=self.claim.agent,
            intent=kind,
            target=target,
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
    return numbered_id(now, f"{claim.token:08d}", claim.agent)


def numbered_id(now: Instant, number: str, agent: AgentId) -> str:
    """An action's id by a number that no other action of the agent has then; other daemons give the same numbers."""
    return dated_id(now, f"{number}-{crc32('/'.join(agent).encode(errors='surrogateescape')):08x}")


def dated_id(now: Instant, own: str) -> str:
    """An action's id, which sorts by time: milliseconds since 1970, and what no other action of then has.

    Args:
        now: The action's time.
        own: A claim's token; for an action of no claim a letter and a number; or the agent's user id.
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
