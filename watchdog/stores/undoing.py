"""Undos one by one: what a restore, or an operator's order, does to the rows on the disk and in memory.

Which change is to be undone is known to `changes.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace

from watchdog.core import notices
from watchdog.core.clock import Clock
from watchdog.core.model import Action, AgentId, Claim, Epoch, Observed, Outcome
from watchdog.core.undo import Back, Change, Now, Ordered
from watchdog.errors import StoreUnavailable
from watchdog.stores import change_rows, history, rows
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.changes import Changes, here, sent
from watchdog.stores.facts import Agent
from watchdog.stores.leases import LeaseTable


class Undoing:
    """The undos of a lease table's changes."""

    def __init__(
        self,
        table: LeaseTable,
        changes: Changes,
        left: Mapping[AgentId, Claim],
        *,
        write: Callable[[Batch], Awaitable[None]],
        clock: Callable[[], Clock],
    ) -> None:
        """Composes.

        Args:
            table: Has the agents.
            changes: What is to be undone.
            left: Claims that left an intent without an outcome.
            write: Writes a batch, or raises StoreUnavailable.
            clock: That of the last tick.
        """
        self._table = table
        self._changes = changes
        self._left = left
        self._write = write
        self._clock = clock

    def _now(self, epoch: Epoch) -> Now:
        clock = self._clock()
        return Now(clock.observed, clock.running, epoch)

    def still_back(self, change: Change) -> Back:
        """See `Store.still_back`."""
        return self._changes.standing(change, self._clock().observed, busy=change.agent in self._left)

    async def restoring(self, change: Change, at: Epoch, lease_s: float) -> Back:
        """See `Store.restoring`."""
        standing = self.still_back(change)
        agent = self._table.agents.get(change.agent)
        if standing is not Back.HERE or agent is None or agent.change is None:
            return standing
        clock = self._clock().observed
        before, told = agent.change, sent(agent.change, at)
        # At once: nobody may get a claim while it is written.
        self._table.keep_change(agent, told)
        supposed = not self._table.expected(agent.id, clock)
        batch = Batch(sync=True)
        row = told
        if supposed:
            later = agent.lengthened(Observed(clock + lease_s))
            row = replace(told, epoch=later.epoch)
            batch.add(Statement.PUT_AGENT, [rows.agent_row(later)])
        batch.add(Statement.PUT_CHANGE, [change_rows.change_row(row)])
        try:
            await self._write(batch)
        except BaseException:
            if agent.change is told:
                self._table.keep_change(agent, before)
            elif agent.id in self._table.to_undo and agent.change.undo is told.undo:
                self._table.put_change(agent, replace(agent.change, undo=before.undo))
            raise
        clock = self._clock().observed
        if supposed and not self._table.expected(agent.id, clock):
            self._table.suppose(agent.id, Observed(clock + lease_s), clock)
        elif supposed:
            self._table.dirty.agents[agent.id] = agent
        if agent.change is not None:
            self._table.dirty.changes[agent.id] = agent.change
        return self.still_back(change)

    async def restored(self, change: Change, action: Action, *, forget: bool) -> bool:
        """See `Store.restored`."""
        agent = self._table.agents.get(change.agent)
        if agent is None or agent.change is None or self.still_back(change) is Back.VOID:
            return False
        batch = Batch(sync=True)
        batch.add(Statement.PUT_ACTION, [history.action_row(action)])
        if forget:
            batch.add(Statement.DROP_CHANGE, [change.agent])
        else:
            kept = self._changes.kept(agent.change, agent, self._clock().observed)
            batch.add(Statement.PUT_CHANGE, [change_rows.change_row(kept)])
        told = action.outcome is Outcome.CONFIRMED and agent.notice is not None
        if told:
            row = copy(agent)
            self._tell(row, action.target)
            batch.add(Statement.PUT_AGENT, [rows.agent_row(row)])
        await self._write(batch)
        if told:
            self._tell(agent, action.target)
            self._table.dirty.agents[agent.id] = agent
        if self.still_back(change) is Back.VOID:
            return True
        kept = self._changes.kept(agent.change, agent, self._clock().observed)
        self._table.put_change(agent, None if forget else kept)
        return True

    def _tell(self, agent: Agent, restored: str) -> None:
        """The agent's pages are told that a status was set again: from now on, or when it is back."""
        if agent.notice is None:
            return
        agent.notice = replace(agent.notice, restored=restored)
        clock = self._clock()
        agent.told_until = notices.until(clock.running) if here(agent, clock.observed) else notices.ON_RETURN

    async def restore(self, found: Sequence[Change], epoch: Epoch, *, silent: bool, by: str | None = None) -> Ordered:
        """See `Store.restore`.

        Args:
            found: What the disk has of that time.
            epoch: Wall clock.
            silent: Also for agents who are not heard.
            by: Who wants it.
        """
        ordered, planned = self._changes.order(found, self._now(epoch), silent=silent, busy=self._left, by=by)
        batch = Batch(sync=True)
        batch.add(Statement.PUT_CHANGE, [change_rows.change_row(plan.after) for plan in planned])
        await self._write(batch)
        late = self._changes.carry_out(planned)
        if late:
            # Heard or acted on meanwhile: what was written about them is older than what is known now.
            _, planned = self._changes.order(late, self._now(epoch), silent=silent, busy=self._left, by=by)
            for plan in planned:
                self._table.put_change(plan.agent, plan.after)
            with contextlib.suppress(StoreUnavailable):
                await self._write(Batch(sync=True))
        return ordered
