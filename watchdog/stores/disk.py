"""The SQLite file: its schema, its one writer, and its errors told in the store's words.

What the rows mean is in `rows.py`. Here a `Batch` of rows is written in one transaction, and all batches that wait
when the writer gets to them share it (group commit). Batches are written in the order in which they came.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from watchdog.errors import StoreCorrupt, StoreUnavailable
from watchdog.stores import place
from watchdog.stores.batch import Batch
from watchdog.stores.place import APPLICATION_ID, BUSY_S, Inodes

Result = TypeVar("Result")

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE agents (
        instance_id TEXT NOT NULL, user_id TEXT NOT NULL,
        epoch INTEGER NOT NULL, settled_epoch INTEGER NOT NULL, last_outcome TEXT,
        floor REAL, seen REAL NOT NULL,
        PRIMARY KEY (instance_id, user_id)
    ) WITHOUT ROWID;
    CREATE TABLE sessions (
        session_id BLOB PRIMARY KEY, instance_id TEXT NOT NULL, user_id TEXT NOT NULL,
        incarnation INTEGER NOT NULL, seq INTEGER, horizon REAL NOT NULL, ttl REAL NOT NULL,
        seen REAL NOT NULL, closed INTEGER NOT NULL, hidden INTEGER NOT NULL, main_driver INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE claims (
        instance_id TEXT NOT NULL, user_id TEXT NOT NULL,
        epoch INTEGER NOT NULL, token INTEGER NOT NULL, owner TEXT NOT NULL, deadline REAL NOT NULL,
        evidence TEXT NOT NULL, kind TEXT, target TEXT, former TEXT, intended_at REAL,
        PRIMARY KEY (instance_id, user_id)
    ) WITHOUT ROWID;
    CREATE TABLE actions (
        id TEXT PRIMARY KEY, at REAL NOT NULL, instance_id TEXT NOT NULL, user_id TEXT NOT NULL,
        intent TEXT NOT NULL, target TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
        evidence TEXT NOT NULL, calls INTEGER NOT NULL, latency_s REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX actions_by_agent ON actions (instance_id, user_id, id);
    CREATE INDEX actions_by_time ON actions (at);
    """,
    """
    ALTER TABLE agents ADD COLUMN mark INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE agents ADD COLUMN held_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE agents ADD COLUMN held_s REAL NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE changes (
        instance_id TEXT NOT NULL, user_id TEXT NOT NULL,
        token INTEGER NOT NULL, epoch INTEGER NOT NULL, action_id TEXT NOT NULL,
        target TEXT NOT NULL, former TEXT, outcome TEXT NOT NULL,
        written_at REAL NOT NULL, unanswered_at REAL, settled REAL NOT NULL, running REAL NOT NULL,
        sessions TEXT NOT NULL, silent_since REAL, tripped INTEGER NOT NULL, ordered_until REAL, back_at REAL,
        undo TEXT,
        PRIMARY KEY (instance_id, user_id)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE agents ADD COLUMN follow_up TEXT;
    ALTER TABLE claims ADD COLUMN rule TEXT NOT NULL DEFAULT '';
    ALTER TABLE agents ADD COLUMN notice TEXT;
    ALTER TABLE sessions ADD COLUMN loaded INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE changes ADD COLUMN status TEXT NOT NULL DEFAULT '';
    ALTER TABLE changes ADD COLUMN profile TEXT;
    ALTER TABLE changes ADD COLUMN greeted INTEGER NOT NULL DEFAULT 0;
    """,
    # Ids tell when an action was made, numbers when it was committed. Nothing that is numbered can come in behind what
    # was read already, and AUTOINCREMENT gives no number twice.
    """
    CREATE TABLE recorded (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE);
    CREATE TRIGGER action_recorded AFTER INSERT ON actions BEGIN
        INSERT INTO recorded (id) VALUES (NEW.id);
    END;
    CREATE TRIGGER action_dropped AFTER DELETE ON actions BEGIN
        DELETE FROM recorded WHERE id = OLD.id;
    END;
    """,
    "ALTER TABLE claims ADD COLUMN former_next TEXT;",
    "ALTER TABLE changes ADD COLUMN ordered_by TEXT;",
)
"""The schema, one script a version. `PRAGMA user_version` counts those that were run; none is ever changed."""


SHRINK_PAGES = 1000
SHRINK = f"PRAGMA incremental_vacuum({SHRINK_PAGES})"
"""Gives so many pages back, 4 MB: what pruning has freed would stay in the file for ever."""

STOP_S = 3.0
"""For so long a closing disk waits for the writer: two attempts at a locked file, and some."""


class Disk(Protocol):
    """A file that batches are written to."""

    async def write(self, batch: Batch) -> None:
        """Returns when the batch is committed.

        Raises:
            StoreUnavailable: None of it is written.
            StoreCorrupt: The same, and the file is damaged.
        """

    async def read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """Runs a query that writes nothing; errors are SQLite's own."""

    async def close(self) -> None:
        """Finishes what was handed in and closes the file."""


def connect(path: Path) -> sqlite3.Connection:
    """Opens the file, makes it if it is not there, and brings its schema up to date.

    Raises:
        StoreUnavailable: The file cannot be opened or written.
        StoreCorrupt: It is no SQLite file, another program's, or one of a newer version; it is as it was.
    """
    place.make(path)
    try:
        place.check_ours(path)
    except sqlite3.Error as error:
        raise told(error, path) from None
    place.tighten(path)
    try:
        connection = _connection(path)
    except sqlite3.Error as error:
        raise StoreUnavailable(
            f"{path} cannot be opened: {error}. Give the daemon a folder that it may write."
        ) from None
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connection(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    # One row with a text that is none must not hide the others: it fails its own check where it is made a value.
    connection.text_factory = operator.methodcaller("decode", "utf-8", "surrogateescape")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise StoreCorrupt(
                f"{path} was written by a newer version (schema {version}, this one knows {len(MIGRATIONS)}). "
                "Run that version, or give WATCHDOG_STORE another file."
            )
        if version == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        for number in range(version, len(MIGRATIONS)):
            script = f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
            connection.executescript(script)
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    except sqlite3.Error as error:
        raise told(error, path) from None


def told(error: sqlite3.Error, path: Path) -> StoreUnavailable | StoreCorrupt:
    """An error of SQLite in the store's words, with what to do. Source: https://www.sqlite.org/rescode.html ."""
    name = getattr(error, "sqlite_errorname", "")
    if name in ("SQLITE_CORRUPT", "SQLITE_NOTADB") or name.startswith("SQLITE_CORRUPT"):
        return StoreCorrupt(
            f"{path} is damaged ({error}). Nothing was changed in it. Move it away to start afresh, or restore a copy."
        )
    advice = "Look at the disk and the file's permissions."
    if name == "SQLITE_FULL":
        advice = "The disk is full: make room."
    elif name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        advice = "The daemon must be able to write the file and its folder."
    elif name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        advice = "Another program holds a lock on it: let that one go."
    return StoreUnavailable(f"{path}: {error}. {advice}")


def write_batches(connection: sqlite3.Connection, batches: Sequence[Batch], path: Path, inodes: Inodes) -> None:
    """Writes batches in one transaction, into the file that was opened and no other.

    Raises:
        StoreUnavailable: None of them is written.
        StoreCorrupt: The same, and the file is damaged.
    """
    inodes.check()
    try:
        sync = any(batch.sync for batch in batches)
        if sync:
            connection.execute("PRAGMA synchronous = FULL")
        try:
            connection.execute("BEGIN IMMEDIATE")
            for batch in batches:
                for sql, rows in batch.statements:
                    connection.executemany(sql, rows)
            connection.execute("COMMIT")
            if any(batch.shrink for batch in batches):
                # A script, as `execute` takes one step only and so frees one page. What is committed stays so.
                with contextlib.suppress(sqlite3.Error):
                    connection.executescript(SHRINK)
        finally:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            if sync:
                connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error as error:
        raise told(error, path) from None


class InlineDisk:
    """Writes at once, in the caller's thread: for virtual time, in which no thread may be waited for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path)
        self._inodes = Inodes(path)

    async def write(self, batch: Batch) -> None:
        """See `Disk.write`."""
        write_batches(self._connection, [batch], self._path, self._inodes)

    async def read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """See `Disk.read`."""
        return query(self._connection)

    async def close(self) -> None:
        """See `Disk.close`."""
        self._connection.close()


_Job = tuple[Batch, "asyncio.Future[None]"]


class ThreadedDisk:
    """Writes in one thread of its own, so a slow disk never holds the event loop; reads have another connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._connection = connect(path)
        self._reader = _connection(path)
        self._reader.execute("PRAGMA query_only = ON")
        self._inodes = Inodes(path)
        self._reading = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def write(self, batch: Batch) -> None:
        """See `Disk.write`."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put((batch, done))
        await done

    async def read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """See `Disk.read`."""
        return await asyncio.to_thread(self._query, query)

    async def close(self) -> None:
        """See `Disk.close`."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, STOP_S)
        if self._thread.is_alive():
            return  # it still has the connection, and ends with the process
        with self._reading:
            self._reader.close()
        self._connection.close()

    def _query(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._reading:
            return query(self._reader)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            jobs = [job]
            ended = False
            while not self._jobs.empty():
                another = self._jobs.get()
                if another is None:
                    ended = True
                    break
                jobs.append(another)
            self._commit(jobs)
            if ended:
                return

    def _commit(self, jobs: list[_Job]) -> None:
        failure: BaseException | None = None
        try:
            write_batches(self._connection, [batch for batch, _ in jobs], self._path, self._inodes)
        except BaseException as error:  # noqa: BLE001  # handed to those who wait
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_resolve, [done for _, done in jobs], failure)


def _resolve(waiting: list[asyncio.Future[None]], failure: BaseException | None) -> None:
    for done in waiting:
        if done.done():
            continue
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)
