"""The journal of a lease table in a SQLite file.

Once the file has proven damaged, it is unavailable until the next start.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from watchdog.errors import StoreCorrupt, StoreUnavailable
from watchdog.stores import change_rows, history
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.columns import UNREADABLE
from watchdog.stores.disk import Disk, told
from watchdog.stores.journal import COPYING, Journal, Kept, Row
from watchdog.stores.place import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from watchdog.core.clock import Clock
    from watchdog.core.model import Action, AgentId, Epoch, Outcome, Running
    from watchdog.core.undo import Change
    from watchdog.stores.base import Recorded
    from watchdog.stores.columns import Unreadable
    from watchdog.stores.leases import LeaseTable

Result = TypeVar("Result")

KEYS = {
    "agents": ("instance_id", "user_id"),
    "sessions": ("session_id",),
    "claims": ("instance_id", "user_id"),
    "changes": ("instance_id", "user_id"),
}
TABLES = ("meta", "agents", "sessions", "claims", "changes", "recorded", "actions")
"""All of them. The numbers of the history go before it: one by one, by its trigger, takes ten times as long."""

MAX_ASIDE = 1000
"""Most bad rows that one start sets aside: each is looked for in its whole table, as its key may be bad as well."""


class FileRows:
    """What a file has. See `watchdog.stores.journal.Kept`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def meta(self, key: str) -> bytes | None:
        """See `Kept.meta`."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def metas(self) -> Iterable[tuple[str, bytes]]:
        """See `Kept.metas`."""
        for key, value in self._connection.execute("SELECT key, CAST(value AS BLOB) FROM meta"):
            yield key, bytes(value)

    def agents(self) -> Iterable[Row]:
        """See `Kept.agents`."""
        return self._connection.execute("SELECT * FROM agents")

    def sessions(self) -> Iterable[Row]:
        """See `Kept.sessions`."""
        return self._connection.execute("SELECT * FROM sessions")

    def claims(self) -> Iterable[Row]:
        """See `Kept.claims`."""
        return self._connection.execute("SELECT * FROM claims")

    def recent_changes(self, since: Running) -> Iterable[Row]:
        """See `Kept.recent_changes`.

        Those too that are to be undone, or may be ordered to, and those of agents with whom something is still to be
        done.
        """
        follows = "(instance_id, user_id) IN (SELECT instance_id, user_id FROM agents WHERE follow_up IS NOT NULL)"
        sql = f"SELECT * FROM changes WHERE running >= ? OR undo IS NOT NULL OR ordered_until IS NOT NULL OR {follows}"  # noqa: S608 - text of ours only
        return self._connection.execute(sql, (since,))

    def changes(self, since: Epoch, instance_id: str | None) -> Iterable[Row]:
        """Changes that were written since then, by the wall clock."""
        sql = "SELECT * FROM changes WHERE written_at >= ? AND (? IS NULL OR instance_id = ?)"
        return self._connection.execute(sql, (since, instance_id, instance_id))


class TableFile(Journal):
    """The file of a lease table."""

    def __init__(
        self, path: Path, table: LeaseTable, disk: Callable[[Path], Disk], brakes: Callable[[], bytes] | None = None
    ) -> None:
        """Nothing is opened.

        Args:
            path: The file.
            table: What it keeps.
            disk: Opens it.
            brakes: See `Journal`.
        """
        super().__init__(table, brakes)
        # A link to the file is the file: two names of it must not have two locks.
        path = path.resolve()
        self._damage: str | None = None
        self._path = path
        self._open_disk = disk
        self._lock = FileLock(path)
        self._disk: Disk | None = None

    async def open(self) -> None:
        """Takes the lock and opens the file."""
        self._lock.take()
        try:
            self._disk = self._open_disk(self._path)
        except BaseException:
            self._lock.give_back()
            raise

    async def close(self, clock: Clock) -> None:
        """Writes what is dirty, closes the file and lets the lock go."""
        if self._disk is not None:
            if self._loaded:
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

    async def look(self, build: Callable[[Kept], Result]) -> Result:
        """See `Journal.look`."""
        try:
            return await self._opened().read(lambda connection: build(FileRows(connection)))
        except sqlite3.Error as error:
            raise told(error, self._path) from None
        except UNREADABLE as error:
            raise StoreCorrupt(
                f"{self._path} holds a row that this version cannot read ({type(error).__name__}). Nothing was changed "
                "in it. Move it away to start afresh, or restore a copy."
            ) from None

    async def commit(self, batch: Batch) -> None:
        """See `Journal.commit`. In one transaction."""
        disk = self._opened()
        try:
            await disk.write(batch)
        except (StoreUnavailable, StoreCorrupt) as error:
            self.failing = True
            raise self._unavailable(error) from None

    def set_aside(self, batch: Batch, unreadable: Sequence[Unreadable]) -> None:
        """Moves bad rows into the meta table, as text for a person who wants to look at them."""
        for bad in unreadable[:MAX_ASIDE]:
            text = repr(bad.row).encode(errors="replace")
            batch.add(Statement.PUT_META, [(f"unreadable {bad}", text)])
            if bad.table in KEYS:
                key = [_bytes(part) for part in bad.row[: len(KEYS[bad.table])]]
                where = " AND ".join(f"CAST({column} AS BLOB) = ?" for column in KEYS[bad.table])
                batch.add(f"DELETE FROM {bad.table} WHERE {where}", [key])  # noqa: S608 - names of ours only
            else:
                batch.add("DELETE FROM meta WHERE key = ?", [bad.row[:1]])

    async def meta(self, key: str) -> bytes | None:
        """See `Journal.meta`."""
        return await self.read(lambda connection: FileRows(connection).meta(key))

    async def changes(self, since: Epoch, instance_id: str | None) -> list[Change]:
        """See `Journal.changes`."""
        found, _ = await self.read(
            lambda connection: change_rows.changes(FileRows(connection).changes(since, instance_id))
        )
        return found

    async def actions(
        self,
        agent: AgentId | None,
        outcome: Outcome | None,
        since: Epoch | None,
        cursor: str | None,
        limit: int,
    ) -> list[Action]:
        """See `Journal.actions`."""
        return await self.read(lambda connection: history.actions(connection, agent, outcome, since, cursor, limit))

    async def recorded(self, after: int, limit: int) -> Recorded:
        """See `Outbox.recorded`."""
        return await self.read(lambda connection: history.recorded(connection, after, limit))

    async def old_actions(self, before: Epoch, limit: int) -> list[tuple[str]]:
        """See `Journal.old_actions`."""
        return await self.read(lambda connection: history.old_actions(connection, before, limit))

    async def numbered(self, after: int, limit: int) -> list[tuple[int, Row]]:
        """See `Journal.numbered`."""
        return await self.read(lambda connection: history.numbered(connection, after, limit))

    async def put_numbered(self, found: Sequence[tuple[int, Row]]) -> None:
        """See `Journal.put_numbered`. In one transaction."""
        batch = Batch()
        batch.add(Statement.PUT_ACTION, [row for _, row in found])
        batch.add(history.PUT_NUMBER, [(number, row[0]) for number, row in found])
        await self.commit(batch)

    async def clear(self, origin: bytes) -> None:
        """See `Journal.clear`. In one transaction."""
        batch = Batch(sync=True)
        for table in TABLES:
            batch.add(f"DELETE FROM {table}", [()])  # noqa: S608 - names of ours only
        batch.add(Statement.PUT_META, [(COPYING, origin)])
        await self.commit(batch)

    async def complete(self, found: Sequence[tuple[str, bytes]], last: int) -> None:
        """See `Journal.complete`."""
        batch = Batch(sync=True)
        batch.add(history.FORGET_LAST_NUMBER, [()])
        batch.add(history.LAST_NUMBER, [(last,)])
        batch.add(Statement.PUT_META, found)
        batch.add(Statement.DROP_META, [(COPYING,)])
        await self.commit(batch)

    async def drop_changes(self, before: Epoch, clock: Clock) -> None:
        """See `Journal.drop_changes`."""
        batch = Batch()
        batch.add(Statement.DROP_CHANGES, [(before,)])
        await self.write(batch, clock)

    def check(self) -> None:
        """See `Journal.check`."""
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


def _bytes(value: object) -> bytes:
    """A value as SQLite casts it to a blob."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")
