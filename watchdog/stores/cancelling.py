"""Operators who want an agent left alone: what waits for it is over, until it is heard again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from copy import copy

from watchdog.core.clock import Clock
from watchdog.core.model import Action, AgentId, AgentState, Cancel, Next
from watchdog.stores import history, rows
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.facts import Agent
from watchdog.stores.leases import LeaseTable

_WAITING = frozenset({AgentState.GRACE, AgentState.DUE, AgentState.HELD})


class Cancelling:
    """What waits for the agents of a lease table, and how it ends without being done.

    Attributes:
        going_on: Agents for whom it is being written: nobody gets a claim of them.
    """

    def __init__(
        self,
        table: LeaseTable,
        left: Container[AgentId],
        *,
        write: Callable[[Batch], Awaitable[None]],
        clock: Callable[[], Clock],
    ) -> None:
        """Composes.

        Args:
            table: Has the agents.
            left: Those who have an intent without an outcome.
            write: Writes a batch, or raises StoreUnavailable.
            clock: That of the last tick.
        """
        self.going_on: set[AgentId] = set()
        self._table = table
        self._left = left
        self._write = write
        self._clock = clock

    async def cancel(self, agent_id: AgentId, action: Action) -> Cancel:
        """See `Store.cancel`."""
        agent = self._table.agents.get(agent_id)
        if agent is None or not self._waits(agent):
            return Cancel.NOTHING
        if self._is_under_way(agent):
            return Cancel.UNDER_WAY
        # A status that was set before is still in force, whatever was to follow it.
        outcome = agent.last_outcome if agent.settled and agent.last_outcome is not None else action.outcome
        epoch, row = agent.epoch, copy(agent)
        row.settle(epoch, outcome, None)
        batch = Batch(sync=True)
        batch.add(Statement.PUT_AGENT, [rows.agent_row(row)])
        batch.add(Statement.PUT_ACTION, [history.action_row(action)])
        self.going_on.add(agent_id)
        try:
            await self._write(batch)
        finally:
            self.going_on.discard(agent_id)
        if agent.epoch == epoch and self._table.agents.get(agent_id) is agent:
            self._table.cancel(agent, outcome, self._clock().observed)
        elif agent_id in self._table.agents:
            # Heard meanwhile: what was written about the agent is older than what is known now.
            self._table.dirty.agents[agent_id] = self._table.agents[agent_id]
        return Cancel.DONE

    def _waits(self, agent: Agent) -> bool:
        follows = agent.settled and agent.follow_up is not None
        return follows or self._table.state(agent, self._clock().observed) in _WAITING

    def _is_under_way(self, agent: Agent) -> bool:
        ordered = agent.follow_up is not None and agent.follow_up.next is Next.LOG_OUT
        busy = agent.id in self._left or agent.id in self.going_on
        return ordered or busy or agent.claim is not None or agent.restoring
