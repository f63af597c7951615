"""Signs of life in Connect: who is spared for now, and whose deed our writes must not fight.

What counts, and what it is worth, is in `core/evidence.py`. Here it is asked of a claimed agent and kept in the store.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from watchdog.connect.answers import Seen, Status
from watchdog.connect.case import Case
from watchdog.connect.verdict import Settle
from watchdog.connect.witness import Sighting
from watchdog.core import evidence
from watchdog.core.evidence import Activity, ActivityKind
from watchdog.core.model import Action, AgentId, Instant, Outcome
from watchdog.stores.base import Store

OVERRULED = "Somebody else has chosen a status after ours was written. It stays."

REASONS = {
    ActivityKind.CONTACT: "Connect shows a contact that the agent took after the last heartbeat.",
    ActivityKind.STATUS: "Connect shows a status that was chosen after the last heartbeat, and not by us.",
}

log = structlog.stdlib.get_logger(__name__)


class Sparing:
    """Weighs what Connect shows of an agent who is gone. With WITNESS off nothing weighs anything."""

    def __init__(
        self,
        store: Store,
        ttl_s: float | None,
        *,
        is_own: Callable[[Sighting, AgentId], bool],
        record: Callable[[Action], None],
        now: Callable[[], Instant],
    ) -> None:
        """Composes.

        Args:
            store: Knows what a heartbeat would have been worth.
            ttl_s: Seconds of the lease that activity is worth (SESSION_TTL); None takes no evidence (WITNESS).
            is_own: Whether the status of a sighting is one that we have restored.
            record: Is given each action that is in the history.
            now: The machine's clocks.
        """
        self._is_own = is_own
        self._store = store
        self._ttl_s = ttl_s
        self._record = record
        self._now = now

    async def spare(self, case: Case, sighting: Sighting, target: Status) -> Settle | None:
        """Puts the agent off if Connect shows activity that is newer than the last heartbeat, and not too old.

        Returns:
            What was recorded: the claim has ended, and the agent is due again when that lease and the timer are over.
            None: nothing was changed.

        Raises:
            StoreUnavailable: It is not known whether the agent is put off.
        """
        if self._ttl_s is None or sighting.seen is None or not sighting.dated:
            return None
        ours = {write["target"] for write in case.trail.writes}
        if case.claim.intent is not None:
            ours.add(case.claim.intent.target)
        if case.claim.follow_up is not None:
            ours.add(case.claim.follow_up.target)
        if self._is_own(sighting, case.claim.agent):
            ours.add(sighting.seen.status_id)
        activity = evidence.latest(sighting.seen, sighting.answered_at, frozenset(ours))
        if activity is None:
            return None
        instant = self._now()
        # Counted from the asking: from the answer, a slow one would make the activity newer than it is.
        age_s = activity.age_s + instant.boot - sighting.asked_at
        settle = Settle(Outcome.WITNESSED, REASONS[activity.kind])
        case.trail.activity = told(activity, self._ttl_s - age_s)
        action = case.action(settle, target.name, instant)
        case.trail.activity = None
        case.interruptible = False
        if not await self._store.witness(case.claim, age_s, self._ttl_s, action):
            case.interruptible = True
            return None
        case.closed = True
        self._record(action)
        log.debug("agent.spared", agent=str(action.agent), kind=activity.kind.value, age_s=round(age_s, 3))
        return settle

    def overruled_since(self, case: Case, sighting: Sighting, target: Status, before: Seen | None) -> Settle | None:
        """Whether somebody else has chosen a status since the write that is read back.

        Args:
            case: The claim; its last write was sent by this process.
            sighting: A read after it.
            target: What was written.
            before: What was seen before it; None when the agent was not shown.

        Returns:
            The outcome; None where it is not proven.
        """
        if case.trail.sent_at is None:
            return None
        former = before or sighting.seen
        if former is None:
            return None
        return self._overruled(
            sighting,
            target,
            before.status_id if before else None,
            former,
            sighting.asked_at - case.trail.sent_at,
            former_next=former.next_status,
        )

    def overruled_before(self, case: Case, sighting: Sighting, target: Status) -> Settle | None:
        """The same for a write that an earlier claim left without an outcome, and of which only its intent is known."""
        # An intent of which this process knows that nothing was sent, as in a gap, overrules nobody.
        intent = case.carried
        if intent is None or intent.target != target.id or sighting.seen is None:
            return None
        if case.trail.sent_at is not None:
            written_s_ago = sighting.asked_at - case.trail.sent_at
        elif case.trail.writes:
            return None  # this process knows that nothing came of it
        else:
            instant = self._now()
            # By our wall clock; there is no other that outlives the process.
            written_s_ago = instant.epoch - intent.at - (instant.boot - sighting.asked_at)
        after = intent.former_next or case.former_next
        return self._overruled(sighting, target, intent.former, sighting.seen, written_s_ago, former_next=after)

    def _overruled(
        self,
        sighting: Sighting,
        target: Status,
        former: str | None,
        was: Seen,
        written_s_ago: float,
        *,
        former_next: str | None,
    ) -> Settle | None:
        if self._ttl_s is None or sighting.seen is None or not sighting.dated:
            return None
        found = evidence.overruled(
            sighting.seen,
            sighting.answered_at,
            target_id=target.id,
            target_name=target.name,
            former=former,
            former_since=was.since,
            former_next=former_next or was.next_status,
            written_s_ago=written_s_ago,
        )
        return Settle(Outcome.RETURNED, OVERRULED) if found else None


def told(activity: Activity, left_s: float) -> dict[str, object]:
    """An activity as evidence, with what is left of its lease."""
    return {
        "kind": activity.kind.value,
        "at": activity.at,
        "age_s": round(activity.age_s, 3),
        "lease_left_s": round(left_s, 3),
    }
