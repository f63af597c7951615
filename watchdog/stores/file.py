"""A lease table and its SQLite file: what is dirty in the one goes to the other.

A row that changed in memory is dirty until a commit has it; a failed commit makes it dirty again, so that nothing is
lost by a full disk. Every write takes along all dirty rows and the clock. Once the file has proven damaged, it is
unavailable until the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from watchdog.errors import StoreCorrupt, StoreUnavailable
from watchdog.stores import change_rows, history, rows
from watchdog.stores.columns import UNREADABLE
from watchdog.stores.disk import Batch, Disk, told
from watchdog.stores.facts import Dirty
from watchdog.stores.place import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from watchdog.core.clock import Clock
    from watchdog.core.model import AgentId, Beat, Epoch
    from watchdog.stores.leases import LeaseTable

Result = TypeVar("Result")

PRUNE_CHUNK = 5_000
"""Rows that one transaction of pruning deletes, so that it never holds up a flush for long."""


class Flight:
    """A write that is under way, with the rows that it takes along."""

    __slots__ = ("_dirty", "_waiters", "failed", "over")

    def __init__(self, dirty: Dirty) -> None:
        self._dirty = dirty
        self.over = False
        self.failed = False
        self._waiters: list[asyncio.Future[None]] = []

    def carries(self, beats: Sequence[Beat]) -> bool:
        """Whether it has a row of one of these sessions or agents."""
        sessions, agents = self._dirty.sessions, self._dirty.agents
        return bool(self._dirty) and any(beat.session_id in sessions or beat.agent in agents for beat in beats)

    async def landed(self) -> bool:
        """Waits for its end. Returns whether it was written; if not, its rows are dirty again."""
        if not self.over:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return not self.failed

    def end(self, *, failed: bool) -> None:
        """It is over: whoever waits goes on."""
        self.over, self.failed = True, failed
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class TableFile:
    """The file of a lease table.

    Attributes:
        failing: A write has failed since this was last set to False.
        flights: Writes that are under way.
    """

    def __init__(
        self, path: Path, table: LeaseTable, disk: Callable[[Path], Disk], brakes: Callable[[], bytes] | None = None
    ) -> None:
        """Nothing is opened.

        Args:
            path: The file.
            table: What it keeps.
            disk: Opens it.
            brakes: Tells the brakes and orders as they are now, as JSON; without it they are not kept.
        """
        self.failing = False
        self.flights: list[Flight] = []
        # A link to the file is the file: two names of it must not have two locks.
        path = path.resolve()
        self._damage: str | None = None
        self._path = path
        self._table = table
        self._open_disk = disk
        self._brakes = brakes
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
            StoreUnavailable: The file cannot be read now, or is damaged.
        """
        try:
            return await self._opened().read(query)
        except sqlite3.Error as error:
            raise self._unavailable(told(error, self._path)) from None

    async def load(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """Runs a query at the start.

        Raises:
            StoreUnavailable: The file cannot be read now.
            StoreCorrupt: It is damaged, or holds what this version cannot read.
        """
        try:
            return await self._opened().read(query)
        except sqlite3.Error as error:
            raise told(error, self._path) from None
        except UNREADABLE as error:
            raise StoreCorrupt(
                f"{self._path} holds a row that this version cannot read ({type(error).__name__}). Nothing was changed "
                "in it. Move it away to start afresh, or restore a copy."
            ) from None

    async def write(self, batch: Batch, clock: Clock) -> None:
        """Writes a batch, all dirty rows and the clock in one transaction.

        Raises:
            StoreUnavailable: Nothing of it is written, for now or because the file is damaged; the rows are dirty
                again.
        """
        disk, table, dirty = self._opened(), self._table, self._table.dirty
        table.dirty = Dirty()
        # The dirty rows come first: what the caller writes about the same agent is newer.
        full = Batch(sync=batch.sync, shrink=batch.shrink)
        rows.add_dirty(full, dirty)
        if dirty.brakes and self._brakes is not None:
            full.add(rows.PUT_META, [("brakes", self._brakes())])
        full.add(rows.PUT_META, [("clock", rows.clock_to_json(clock))])
        full.statements.extend(batch.statements)
        flight = Flight(dirty)
        self.flights.append(flight)
        failed = True
        try:
            await disk.write(full)
            failed = False
        except (StoreUnavailable, StoreCorrupt) as error:
            self.failing = True
            raise self._unavailable(error) from None
        finally:
            if failed:
                self._mark_again(dirty)
            self.flights.remove(flight)
            flight.end(failed=failed)

    async def drop_agents(self, agents: Sequence[AgentId], clock: Clock) -> None:
        """Deletes agents' rows, in one transaction."""
        batch = Batch()
        batch.add(rows.DROP_AGENT, agents)
        await self.write(batch, clock)

    async def drop_changes(self, before: Epoch, clock: Clock) -> None:
        """Deletes changes that are older, but for those that are to be undone."""
        batch = Batch()
        batch.add(change_rows.DROP_CHANGES, [(before,)])
        await self.write(batch, clock)

    async def drop_actions(self, before: Epoch, clock: Clock) -> int:
        """Deletes actions that are older. Returns how many."""
        dropped = 0
        while True:
            keys = await self.read(lambda connection: history.old_actions(connection, before, PRUNE_CHUNK))
            if not keys:
                return dropped
            batch = Batch(shrink=True)
            batch.add(history.DROP_ACTION, keys)
            await self.write(batch, clock)
            dropped += len(keys)

    def check(self) -> None:
        """Raises `StoreUnavailable` for a file that is closed or known to be damaged."""
        self._opened()

    def _opened(self) -> Disk:
        if self._disk is None:
            raise StoreUnavailable("The store is closed.")
        if self._damage is not None:
            raise StoreUnavailable(self._damage)
        return self._disk

    def _unavailable(self, error: StoreUnavailable | StoreCorrupt) -> StoreUnavailable:
        """The error as a running store tells it: what is damaged is not touched again, and nobody is acted on."""
        if isinstance(error, StoreCorrupt):
            self._damage = str(error)
            return StoreUnavailable(self._damage)
        return error

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
        table.dirty.brakes |= dirty.brakes
        table.dirty.dropped.update(key for key in dirty.dropped if key not in table.sessions)
