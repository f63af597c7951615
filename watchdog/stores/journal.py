"""A lease table and what survives of it: what is dirty in the one goes to the other.

A row that changed in memory is dirty until a commit has it; a failed commit makes it dirty again, so that nothing is
lost by a full disk. Every write takes along all dirty rows and the clock. Where the rows are kept is said by the
subclasses: `file.py`, `parts.py`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from watchdog.errors import StoreCorrupt
from watchdog.stores import rows
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.facts import Dirty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from watchdog.core.clock import Clock
    from watchdog.core.model import Action, AgentId, Beat, Epoch, Outcome, Running
    from watchdog.core.undo import Change
    from watchdog.stores.base import Recorded
    from watchdog.stores.columns import Unreadable
    from watchdog.stores.leases import LeaseTable

Result = TypeVar("Result")
Row = tuple[Any, ...]

COPYING = "copying"
"""In the meta table while another store is copied into this one: where from. No daemon opens it then."""

PRUNE_CHUNK = 5_000
"""Rows that one transaction of pruning deletes, so that it never holds up a flush for long."""


class Kept(Protocol):
    """What an earlier process has left, as rows."""

    def meta(self, key: str) -> bytes | None:
        """A value of the meta table."""

    def metas(self) -> Iterable[tuple[str, bytes]]:
        """All values of the meta table that mean the same in every store."""

    def agents(self) -> Iterable[Row]:
        """See `rows.agent_row`."""

    def sessions(self) -> Iterable[Row]:
        """See `rows.load`."""

    def claims(self) -> Iterable[Row]:
        """See `rows.claim_row`."""

    def recent_changes(self, since: Running) -> Iterable[Row]:
        """Changes that were written since then, and others that matter still. It may be more."""


def check_whole(kept: Kept) -> None:
    """Refuses half a copy.

    Raises:
        StoreCorrupt: Another store is being copied into this one, or was not copied to the end.
    """
    check_copied(kept.meta(COPYING))


def check_copied(origin: bytes | None) -> None:
    """The same by the value of `COPYING`: where from it is copied, None for a store that is whole.

    Raises:
        StoreCorrupt: As above.
    """
    if origin is not None:
        raise StoreCorrupt(
            f"WATCHDOG_STORE has a part of what is kept at {origin.decode(errors='replace')}: `watchdog migrate` was "
            "interrupted. Run it again; it begins anew, and nothing is lost there."
        )


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


class Journal(ABC):
    """What survives of a lease table.

    Attributes:
        failing: A write has failed since this was last set to False.
        flights: Writes that are under way.
        missing: How many rows each table had lost when this was read last; nothing where none had, or nobody can tell.
    """

    def __init__(
        self, table: LeaseTable, brakes: Callable[[], bytes] | None = None, rest: Callable[[], Batch] = Batch
    ) -> None:
        """Nothing is opened.

        Args:
            table: What it keeps.
            brakes: Tells the brakes and orders as they are now, as JSON; without it they are not kept.
            rest: Tells what else is in force: claims, and values of the meta table but for brakes and clock.
        """
        self.failing = False
        self.flights: list[Flight] = []
        self.missing: Counter[str] = Counter()
        self._table = table
        self._brakes = brakes
        self._rest = rest
        # Before it is, the table and the clock are those of nobody, and must not be written over what is kept.
        self._loaded = False

    # What each engine does in its own way.

    @abstractmethod
    async def open(self) -> None:
        """Makes it usable, and keeps other daemons from it. See `Store.open` for what it raises."""

    @abstractmethod
    async def close(self, clock: Clock) -> None:
        """Writes what is dirty, if it was loaded, and lets go. Safe to call twice."""

    @abstractmethod
    async def look(self, build: Callable[[Kept], Result]) -> Result:
        """Hands what is kept to `build`, perhaps in another thread.

        Raises:
            StoreUnavailable: It cannot be read now.
            StoreCorrupt: It is damaged, or holds what this version cannot read.
        """

    @abstractmethod
    async def commit(self, batch: Batch) -> None:
        """Writes a batch; batches that touch the same rows in the order in which they came.

        Raises:
            StoreUnavailable: It is not known to be written.
        """

    @abstractmethod
    def check(self) -> None:
        """Raises `StoreUnavailable` for a store that is closed, or known to be unusable until the next start."""

    @abstractmethod
    def set_aside(self, batch: Batch, unreadable: Sequence[Unreadable]) -> None:
        """Adds to a batch that bad rows are moved out of the way."""

    @abstractmethod
    async def meta(self, key: str) -> bytes | None:
        """A value of the meta table."""

    @abstractmethod
    async def changes(self, since: Epoch, instance_id: str | None) -> list[Change]:
        """Changes that were written since then, by the wall clock."""

    @abstractmethod
    async def actions(
        self,
        agent: AgentId | None,
        outcome: Outcome | None,
        since: Epoch | None,
        cursor: str | None,
        limit: int,
    ) -> list[Action]:
        """Actions of the history, newest first."""

    @abstractmethod
    async def recorded(self, after: int, limit: int) -> Recorded:
        """See `Outbox.recorded`."""

    @abstractmethod
    async def old_actions(self, before: Epoch, limit: int) -> list[tuple[str]]:
        """Keys of actions that are older than `before`."""

    @abstractmethod
    async def numbered(self, after: int, limit: int) -> list[tuple[int, Row]]:
        """Rows of the history behind a number, by their numbers."""

    @abstractmethod
    async def put_numbered(self, found: Sequence[tuple[int, Row]]) -> None:
        """Adds rows to the history with the numbers that they have elsewhere: rising, and above all that are there.

        Raises:
            StoreUnavailable: They are not known to be written.
        """

    @abstractmethod
    async def clear(self, origin: bytes) -> None:
        """Drops all that is kept, and says under `COPYING` what is to come in its place.

        Raises:
            StoreUnavailable: Some of it may be left. It says so from the first row that was dropped on.
        """

    @abstractmethod
    async def complete(self, found: Sequence[tuple[str, bytes]], last: int) -> None:
        """Puts values of the meta table, and the last number that the history has given elsewhere.

        In the same step it becomes a store like any other.

        Raises:
            StoreUnavailable: It is not known to be so.
        """

    @abstractmethod
    async def drop_changes(self, before: Epoch, clock: Clock) -> None:
        """Deletes changes that are older, but for those that are to be undone."""

    # What is the same for all.

    async def load(self, build: Callable[[Kept], Result]) -> Result:
        """As `look`. It is loaded when `build` has returned: from now on the table is the truth."""
        built = await self.look(build)
        self._loaded = True
        return built

    async def write(self, batch: Batch, clock: Clock) -> None:
        """Writes a batch, all dirty rows and the clock.

        Raises:
            StoreUnavailable: It is not known to be written, for now or until the next start; the rows are dirty again.
        """
        self.check()
        table, dirty = self._table, self._table.dirty
        table.dirty = Dirty()
        # The dirty rows come first: what the caller writes about the same agent is newer.
        full = Batch(sync=batch.sync, shrink=batch.shrink)
        rows.add_dirty(full, dirty)
        if dirty.brakes and self._brakes is not None:
            full.add(Statement.PUT_META, [("brakes", self._brakes())])
        full.add(Statement.PUT_META, [("clock", rows.clock_to_json(clock))])
        full.statements.extend(batch.statements)
        flight = Flight(dirty)
        self.flights.append(flight)
        failed = True
        try:
            await self.commit(full)
            failed = False
        finally:
            if failed:
                self._mark_again(dirty)
            self.flights.remove(flight)
            flight.end(failed=failed)

    async def drop_agents(self, agents: Sequence[AgentId], clock: Clock) -> None:
        """Deletes agents' rows."""
        batch = Batch()
        batch.add(Statement.DROP_AGENT, agents)
        await self.write(batch, clock)

    async def drop_actions(self, before: Epoch, clock: Clock) -> int:
        """Deletes actions that are older. Returns how many."""
        dropped = 0
        while True:
            keys = await self.old_actions(before, PRUNE_CHUNK)
            if not keys:
                return dropped
            batch = Batch(shrink=True)
            batch.add(Statement.DROP_ACTION, keys)
            await self.write(batch, clock)
            dropped += len(keys)

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
        table.dirty.dropped.update(each for each in dirty.dropped if not self._is_known(*each))

    def _is_known(self, session_id: bytes, agent_id: AgentId) -> bool:
        session = self._table.sessions.get(session_id)
        return session is not None and session.agent.id == agent_id
