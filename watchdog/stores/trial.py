"""Whether the SQLite file could be used, found out without a change to it or to the daemon that may be using it.

Nothing of ours is opened for writing: that the place takes writes is tried with a file that has no name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import tempfile
from pathlib import Path

from watchdog.errors import StoreCorrupt, StoreLocked, StoreUnavailable
from watchdog.stores import place
from watchdog.stores.disk import MIGRATIONS, told

TRIAL_BYTES = 65_536
"""Written to see that the disk takes it: more than a file system keeps inside an entry of a folder."""


def examine(path: Path, *, in_use: bool = False) -> None:
    """Finds out whether a daemon could open and write the file.

    Args:
        path: The file, which need not exist.
        in_use: A daemon is running with it. The file is not read then, and nobody else's lock is a fault.

    Raises:
        StoreLocked: A daemon is running with it, and `in_use` is False.
        StoreUnavailable: It could not be made, read or written.
        StoreCorrupt: It is damaged, another program's, or one of a newer version.
    """
    path = path.resolve()
    if not in_use:
        _look_at_lock(path.with_name(path.name + ".lock"))
    _try_folder(path.parent)
    if not path.exists():
        return
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(f"{path} cannot be read and written by this user. Run the check as the daemon's user.")
    if not in_use:
        try:
            place.check_ours(path)
            _look_at_version(path)
        except sqlite3.Error as error:
            raise told(error, path) from None


def _look_at_lock(lock: Path) -> None:
    try:
        file = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreUnavailable(
            f"{lock} cannot be opened: {error.strerror}. Run the check as the daemon's user."
        ) from None
    try:
        # Shared: two checks at a time are not in each other's way. Let go at once.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        raise StoreLocked(
            f"{lock} is held by a running daemon. One process at a time may use a SQLite file: stop it, or give "
            "WATCHDOG_STORE another file."
        ) from None
    finally:
        os.close(file)


def _try_folder(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreUnavailable(
            f"{folder} cannot be written: {error.strerror}. Give the daemon a folder that it may write."
        ) from None


def meta(path: Path, key: str) -> bytes | None:
    """A value of the meta table of a file that `examine` has found to be good; None without one, or without a file."""
    path = path.resolve()
    if not path.exists():
        return None
    with _reading(path) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            return None
        row = connection.execute("SELECT CAST(value AS BLOB) FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else bytes(row[0])


def _reading(path: Path) -> contextlib.closing[sqlite3.Connection]:
    # Without a log beside it none is made to read it.
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"
    return contextlib.closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, timeout=place.BUSY_S))


def _look_at_version(path: Path) -> None:
    with _reading(path) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreCorrupt(
            f"{path} was written by a newer version (schema {version}, this one knows {len(MIGRATIONS)}). Run that "
            "version, or give WATCHDOG_STORE another file."
        )
