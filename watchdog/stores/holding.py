"""Held agents one by one: whose turn it is to be looked at, and what a look may change.

The brakes of whole groups are in `braking.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from copy import copy

from watchdog.core import evidence
from watchdog.core.brake import SPARE_S
from watchdog.core.clock import Clock
from watchdog.core.holds import Held
from watchdog.core.model import Action, AgentId, AgentState, Claim, Mark, Running
from watchdog.stores import history, rows
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.braking import Braking
from watchdog.stores.facts import Agent
from watchdog.stores.leases import LeaseTable


class Holding:
    """The held agents of a lease table."""

    def __init__(
        self,
        table: LeaseTable,
        braking: Braking,
        left: Mapping[AgentId, Claim],
        *,
        write: Callable[[Batch], Awaitable[None]],
        clock: Callable[[], Clock],
    ) -> None:
        """Composes.

        Args:
            table: Has the agents.
            braking: Knows who is held by whom.
            left: Claims that left an intent without an outcome.
            write: Writes a batch, or raises StoreUnavailable.
            clock: That of the last tick.
        """
        self._table = table
        self._braking = braking
        self._left = left
        self._write = write
        self._clock = clock

    def tell(self, instance_id: str, after_s: float, limit: int) -> tuple[Held, ...]:
        """See `Store.held`."""
        running = self._clock().running
        taken = self._table.held.take(instance_id, after_s, limit, running)
        agents = [self._table.agents[agent_id] for agent_id in taken]
        return tuple(self._told(agent, running) for agent in agents if self._is_held(agent))

    async def witness(self, held: Held, age_s: float, ttl_s: float, action: Action) -> bool:
        """See `Store.witness_held`."""
        agent, clock = self._holder(held), self._clock().observed
        if agent is None:
            return False
        age_s = self._clock().passed(age_s)
        ends_at = self._table.witnessed(agent, age_s, ttl_s, clock)
        if ends_at is None or ends_at <= clock + SPARE_S:
            return False
        row = agent.lengthened(ends_at)
        row.last_outcome = action.outcome
        await self._put(row, action)
        agent.last_outcome = action.outcome
        self._table.dirty.agents[agent.id] = agent
        later = self._clock().observed
        # A bye may have come while it was written, and be newer than the activity.
        still = self._table.witnessed(agent, age_s + (later - clock), ttl_s, later)
        if self._holder(held) is agent and still is not None:
            self._table.lengthen(agent, ends_at, later)
        return True

    async def release(self, held: Held, age_s: float, ttl_s: float, action: Action) -> bool:
        """See `Store.release_held`."""
        agent, clock = self._holder(held), self._clock()
        if agent is None or self._braking.ordered(agent):
            return False
        heard, age_s = self._table.heard(agent), clock.passed(age_s)
        if not evidence.proves_absence(age_s, ttl_s, heard=heard, floor=agent.floor, clock=clock.observed):
            return False
        row = copy(agent)
        row.mark, row.held_s = Mark.RELEASED, agent.held_s + clock.running - agent.held_at
        await self._put(row, action)
        if self._holder(held) is agent and not self._braking.ordered(agent):
            clock = self._clock()
            self._table.let_go(agent, clock.running, clock.observed, fresh=False)
        else:
            # What was written about the agent is older than what is known now.
            self._table.dirty.agents[agent.id] = agent
        return True

    async def _put(self, row: Agent, action: Action) -> None:
        batch = Batch(sync=True)
        batch.add(Statement.PUT_AGENT, [rows.agent_row(row)])
        batch.add(Statement.PUT_ACTION, [history.action_row(action)])
        await self._write(batch)

    def _told(self, agent: Agent, running: Running) -> Held:
        claim = agent.claim or self._left.get(agent.id)
        intent = agent.intent or (None if claim is None else claim.intent)
        return Held(
            agent=agent.id,
            epoch=agent.epoch,
            ordered=self._braking.ordered(agent),
            target=None if intent is None else intent.target,
            evidence=self._braking.evidence(agent, running),
        )

    def _holder(self, held: Held) -> Agent | None:
        """The agent, while it is held in the epoch in which that was told."""
        agent = self._table.agents.get(held.agent)
        return agent if agent is not None and agent.epoch == held.epoch and self._is_held(agent) else None

    def _is_held(self, agent: Agent) -> bool:
        return self._table.state(agent, self._clock().observed) is AgentState.HELD
