"""Looks at held agents in Connect: whoever is active there is let live, whoever missed a contact is let go.

In turns, in whole batches, after everybody else who waits for a read. What is found ends the hold of one agent; the
brakes decide about the rest. What counts as activity or as absence, and what it is worth, is in `core/evidence.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from watchdog.connect.answers import Status
from watchdog.connect.api import AGENTS_A_CALL
from watchdog.connect.case import numbered_id, shown
from watchdog.connect.directory import Directory, Unresolved
from watchdog.connect.queue import Level, Rank
from watchdog.connect.sparing import REASONS, told
from watchdog.connect.verdict import Finding, find
from watchdog.connect.witness import Sighting, Witness
from watchdog.core import evidence
from watchdog.core.holds import Held
from watchdog.core.model import Action, AgentId, Boot, Instant, IntentKind, Observed, Outcome
from watchdog.errors import StoreUnavailable
from watchdog.stores.base import Store, Tick

LOOK_S = 25.0
"""Running seconds between two looks at a held agent, and before the first: a ghost in a routable status gets another
contact about as often, since one rings for 20 s. Where the quota does not suffice, all wait longer."""

ASK_S = 1.0
"""Least time between two requests to the store whose turn it is."""

MISSED = "A contact was missed after the last heartbeat: nobody is there, and the agent's deadline counts again."

_AFTER_ALL = Rank(Level.LAST, Observed(float("inf")))

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Look:
    held: Held
    sighting: Sighting
    target: Status


class HeldWitness:
    """Looks, one batch of an instance at a time. With WITNESS off it does not."""

    def __init__(
        self,
        store: Store,
        witness: Witness,
        directory: Directory,
        scopes: Mapping[str, str],
        ttl_s: float | None,
        *,
        is_own: Callable[[Sighting, AgentId], bool],
        record: Callable[[Action], None],
        now: Callable[[], Instant],
    ) -> None:
        """Composes.

        Args:
            store: Knows who is held, and what a heartbeat would have been worth.
            witness: Sees them.
            directory: Has the targets.
            scopes: Scope of the quota, by instance id; agents of other instances are not looked at.
            ttl_s: Seconds of the lease that activity is worth (SESSION_TTL); None looks at nobody (WITNESS).
            is_own: Whether the status of a sighting is one that we have restored.
            record: Is given each action that is in the history, once.
            now: The machine's clocks.
        """
        self._store = store
        self._witness = witness
        self._directory = directory
        self._scopes = scopes
        self._ttl_s = ttl_s
        self._is_own = is_own
        self._record = record
        self._now = now
        self._ask_at = Boot(0.0)
        self._looking: dict[str, asyncio.Task[None]] = {}
        # After a failed read, by instance.
        self._not_before: dict[str, Boot] = {}
        self._number = 0

    def offer(self, tick: Tick) -> None:
        """Looks at those whose turn it is, if anybody is held. Returns at once."""
        boot = self._now().boot
        if self._ttl_s is None or not tick.brake.held or boot < self._ask_at:
            return
        self._ask_at = Boot(boot + ASK_S)
        for instance_id in self._scopes:
            if instance_id not in self._looking and boot >= self._not_before.get(instance_id, 0.0):
                task = asyncio.create_task(self._look(instance_id, self._ttl_s), name=f"held agents {instance_id}")
                self._looking[instance_id] = task
                task.add_done_callback(partial(self._ended, instance_id))

    async def close(self) -> None:
        """Gives up."""
        tasks = list(self._looking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, instance_id: str, ttl_s: float) -> None:
        """Looks at everybody of an instance whose turn it is."""
        while True:
            target = self._directory.target(instance_id)
            if isinstance(target, Unresolved):
                return
            try:
                agents = await self._store.held(instance_id, LOOK_S, AGENTS_A_CALL)
                if not agents:
                    return
                began_at = self._now().boot
                failure = await self._witness.survey((held.agent, _AFTER_ALL) for held in agents)
                read = False
                for held in agents:
                    sighting = self._witness.glance(held.agent)
                    if sighting is None or sighting.asked_at < began_at:
                        continue
                    read = True
                    # Of 50,000 it would be kept for nothing: those who are let go are read again.
                    self._witness.forget(held.agent)
                    await self._weigh(_Look(held, sighting, target), ttl_s)
            except StoreUnavailable:
                return
            if failure is not None and not read:
                # They have their turn with the next round, like everybody.
                self._not_before[instance_id] = Boot(self._now().boot + LOOK_S)
                log.debug("held.not_read", instance_id=instance_id, why=type(failure).__name__)
                return

    async def _weigh(self, look: _Look, ttl_s: float) -> None:
        """Ends the hold of an agent if that is proven either way.

        Raises:
            StoreUnavailable: It is not known whether it has ended.
        """
        held, sighting, target = look.held, look.sighting, look.target
        seen = sighting.seen
        if seen is None or not sighting.dated:
            return
        if find(seen, target, complete=sighting.complete) is not Finding.ELSEWHERE:
            return
        ours = {target.id} if held.target is None else {target.id, held.target}
        if self._is_own(sighting, held.agent):
            ours.add(seen.status_id)
        activity = evidence.latest(seen, sighting.answered_at, frozenset(ours))
        # Counted from the asking: from the answer, a slow one would make what it shows newer than it is.
        if activity is not None:
            age_s = activity.age_s + self._now().boot - sighting.asked_at
            found = {"activity": told(activity, ttl_s - age_s)}
            action = self._action(look, Outcome.WITNESSED, REASONS[activity.kind], found)
            if await self._store.witness_held(held, age_s, ttl_s, action):
                self._record(action)
                return
        miss = evidence.missed(seen, sighting.answered_at)
        if miss is None or held.ordered or (activity is not None and activity.at >= miss.at):
            return
        age_s = miss.age_s + self._now().boot - sighting.asked_at
        contact = {"state": evidence.MISSED, "at": miss.at, "age_s": round(miss.age_s, 3)}
        action = self._action(look, Outcome.RELEASED, MISSED, {"contact": contact})
        if await self._store.release_held(held, age_s, ttl_s, action):
            self._record(action)

    def _action(self, look: _Look, outcome: Outcome, reason: str, found: Mapping[str, Any]) -> Action:
        instant = self._now()
        self._number += 1
        return Action(
            id=numbered_id(instant, f"h{self._number:07d}", look.held.agent),
            at=instant.epoch,
            agent=look.held.agent,
            intent=IntentKind.SET_STATUS,
            target=look.target.name,
            outcome=outcome,
            reason=reason,
            evidence={**look.held.evidence, "before": shown(look.sighting), **found},
            calls=1,
            latency_s=0.0,
        )

    def _ended(self, instance_id: str, task: asyncio.Task[None]) -> None:
        del self._looking[instance_id]
        if not task.cancelled() and task.exception() is not None:
            self._not_before[instance_id] = Boot(self._now().boot + LOOK_S)
            log.error("dispatcher.fault", instance_id=instance_id, exc_info=task.exception())
