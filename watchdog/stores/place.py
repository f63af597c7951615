"""Where the SQLite file lies: whose it is, who else may use or read it, and whether it is still there.

The file holds the secret that signs tickets, and what is written to a file that has been deleted is lost: so it is its
owner's alone, locked against a second daemon, and looked at before each transaction.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path

from watchdog.errors import StoreCorrupt, StoreLocked, StoreUnavailable

APPLICATION_ID = 0x57445047
"""`PRAGMA application_id` of our files: "WDPG". Source: https://www.sqlite.org/fileformat2.html#application_id ."""

BUSY_S = 1.0
"""For so long SQLite waits for another program's lock: a stop with several writes to go must not take minutes."""

TABLES = frozenset({"meta", "agents", "sessions", "claims", "actions"})
"""By these a file of ours is known that was written before it had an application id."""

OTHERS = 0o077
"""Permissions of everybody but the owner."""


def family(path: Path) -> list[Path]:
    """The file, SQLite's two beside it, and the lock."""
    return [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", ".lock"))]


def make(path: Path) -> None:
    """Makes the file for its owner only, if it is not there. SQLite gives those beside it the same permissions.

    Raises:
        StoreUnavailable: It cannot be made.
    """
    try:
        # Never opened when it is there: closing it would take SQLite's locks of this process away.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be made: {error.strerror}. Give the daemon a folder that it may write."
        ) from None


def tighten(path: Path) -> None:
    """Takes the permissions of all but the owner away, where this process may; it goes on where it may not."""
    for each in family(path):
        with contextlib.suppress(OSError):
            mode = each.stat().st_mode
            if mode & OTHERS:
                each.chmod(mode & 0o7777 & ~OTHERS)


def check_ours(path: Path) -> None:
    """Refuses another program's database, without a write to it.

    Raises:
        StoreCorrupt: It is another program's.
        sqlite3.Error: It cannot be read as a database.
    """
    if path.stat().st_size == 0:
        return
    # Read-only: a connection that may write would empty another program's log into its file when it closes. Without a
    # log all is in the file, and none need be made beside it to read it.
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, timeout=BUSY_S)) as connection:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    empty = version == 0 and not tables
    if application_id == APPLICATION_ID or (application_id == 0 and (empty or tables >= TABLES)):
        return
    raise StoreCorrupt(
        f"{path} is another program's database (application id {application_id}, {len(tables)} tables). Nothing was "
        "changed in it. Give WATCHDOG_STORE another file."
    )


class Inodes:
    """The files that were opened, so that it is noticed when they are deleted or others are put in their place."""

    def __init__(self, path: Path) -> None:
        """Notes those that are there."""
        self._known = {str(each): inode for each in family(path) if (inode := _inode(str(each))) is not None}

    def check(self) -> None:
        """Looks at them: 4 µs.

        Raises:
            StoreUnavailable: One is gone, or is another one.
        """
        for name, inode in self._known.items():
            if _inode(name) != inode:
                raise StoreUnavailable(
                    f"{name} was deleted or replaced while the daemon runs. Nothing is written any more and nobody is "
                    "set. Put it back, or restart the daemon to go on with what is there now."
                )


def _inode(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)  # noqa: PTH116 - at every transaction; pathlib's takes twice as long
    except OSError:
        return None
    return found.st_dev, found.st_ino


class FileLock:
    """Keeps a second daemon from the same file, by a lock beside it that ends with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._file: int | None = None

    def take(self) -> None:
        """Takes the lock.

        Raises:
            StoreLocked: Another process has it.
            StoreUnavailable: The lock's file cannot be made.
        """
        while self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise StoreUnavailable(
                    f"{self._path} cannot be made: {error.strerror}. Give the daemon a folder that it may write."
                ) from None
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self.give_back()
                raise StoreLocked(
                    f"{self._path} is held by another daemon. One process at a time may use a SQLite file: stop the "
                    "other one, or give this one a file of its own in WATCHDOG_STORE."
                ) from None
            opened = os.fstat(self._file)
            if _inode(str(self._path)) != (opened.st_dev, opened.st_ino):
                self.give_back()  # deleted since it was opened: a lock on nothing keeps nobody out

    def give_back(self) -> None:
        """Lets go. Safe to call twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
