"""A lease table and its SQLite file: what is dirty in the one goes to the other.

A row that changed in memory is dirty until a commit has it; a failed commit makes it dirty again, so that nothing is
lost by a full disk. Every write takes along all dirty rows and the clock.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from watchdog.errors import StoreCorrupt, StoreUnavailable
from watchdog.stores import rows
from watchdog.stores.disk import Batch, Disk, FileLock, told
from watchdog.stores.facts import Dirty

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from watchdog.core.clock import Clock
    from watchdog.core.model import AgentId, Epoch
    from watchdog.stores.leases import LeaseTable

Result = TypeVar("Result")

PRUNE_CHUNK = 5_000
"""Rows that one transaction of pruning deletes, so that it never holds up a flush for long."""


class TableFile:
    """The file of a lease table.

    Attributes:
        failing: A write has failed since this was last set to False.
    """

    def __init__(self, path: Path, table: LeaseTable, disk: Callable[[Path], Disk]) -> None:
        self.failing = False
        self._path = path
        self._table = table
        self._open_disk = disk
        self._lock = FileLock(path)
        self._disk: Disk | None = None

    async def open(self) -> None:
        """Takes the lock and opens the file. See `Store.open` for what it raises."""
        self._lock.take()
        try:
            self._disk = self._open_disk(self._path)
        except BaseException:
            self._lock.give_back()
            raise

    async def close(self, clock: Clock) -> None:
        """Writes what is dirty, closes the file and lets the lock go. Safe to call twice."""
        if self._disk is not None:
            with contextlib.suppress(StoreUnavailable):
                await self.write(Batch(), clock)
            await self._disk.close()
            self._disk = None
        self._lock.give_back()

    async def read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """Runs a query.

        Raises:
            StoreUnavailable: The file cannot be read now.
            StoreCorrupt: It holds what this version cannot read.
        """
        try:
            return await self._opened().read(query)
        except sqlite3.Error as error:
            raise told(error, self._path) from None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreCorrupt(
                f"{self._path} holds a row that this version cannot read ({type(error).__name__}). Nothing was changed "
                "in it. Move it away to start afresh, or restore a copy."
            ) from None

    async def write(self, batch: Batch, clock: Clock) -> None:
        """Writes a batch, all dirty rows and the clock in one transaction.

        Raises:
            StoreUnavailable: Nothing of it is written; the rows are dirty again.
        """
        disk, table, dirty = self._opened(), self._table, self._table.dirty
        table.dirty = Dirty()
        # The dirty rows come first: what the caller writes about the same agent is newer.
        full = Batch(sync=batch.sync)
        rows.add_dirty(full, dirty)
        full.add(rows.PUT_META, [("clock", rows.clock_to_json(clock))])
        full.statements.extend(batch.statements)
        try:
            await disk.write(full)
        except BaseException as error:
            self._mark_again(dirty)
            self.failing = self.failing or isinstance(error, StoreUnavailable)
            raise

    async def drop_agents(self, agents: Sequence[AgentId], clock: Clock) -> None:
        """Deletes agents' rows."""
        for begin in range(0, len(agents), PRUNE_CHUNK):
            batch = Batch()
            batch.add(rows.DROP_AGENT, agents[begin : begin + PRUNE_CHUNK])
            await self.write(batch, clock)

    async def drop_changes(self, before: Epoch, clock: Clock) -> None:
        """Deletes changes that are older, but for those that are to be undone."""
        batch = Batch()
        batch.add(rows.DROP_CHANGES, [(before,)])
        await self.write(batch, clock)

    async def drop_actions(self, before: Epoch, clock: Clock) -> int:
        """Deletes actions that are older. Returns how many."""
        dropped = 0
        while True:
            keys = await self.read(lambda connection: rows.old_actions(connection, before, PRUNE_CHUNK))
            if not keys:
                return dropped
            batch = Batch()
            batch.add(rows.DROP_ACTION, keys)
            batch.add(rows.SHRINK, [()])
            await self.write(batch, clock)
            dropped += len(keys)

    def _opened(self) -> Disk:
        if self._disk is None:
            raise StoreUnavailable("The store is closed.")
        return self._disk

    def _mark_again(self, dirty: Dirty) -> None:
        """Rows that were changed or dropped again meanwhile are dirty in the newer way already."""
        table = self._table
        for agent_id, agent in dirty.agents.items():
            if table.agents.get(agent_id) is agent:
                table.dirty.agents.setdefault(agent_id, agent)
        for session_id, session in dirty.sessions.items():
            if table.sessions.get(session_id) is session:
                table.dirty.sessions.setdefault(session_id, session)
        for agent_id, change in dirty.changes.items():
            table.dirty.changes.setdefault(agent_id, change)
        table.dirty.dropped.update(key for key in dirty.dropped if key not in table.sessions)
