"""The store is looked at, and nothing of it or of the daemon that has it is changed."""

import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from watchdog.core.clock import ClockRules
from watchdog.core.model import Boot, Epoch, Instant
from watchdog.core.quota import QuotaRules
from watchdog.errors import StoreCorrupt, StoreLocked, StoreUnavailable
from watchdog.stores.base import StoreRules
from watchdog.stores.sqlite import SqliteStore
from watchdog.stores.trial import examine

RULES = StoreRules(timer_s=5, clock=ClockRules(30, 10), quota=QuotaRules(2, 5, 0.8))


def state(folder):
    """Everything that could show a change."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) for path in folder.iterdir()}


async def opened(path):
    store = SqliteStore(path, RULES)
    await store.open(Instant(Boot(1.0), Epoch(1.0), "boot"))
    return store


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    examine(tmp_path / "new.db")
    assert state(tmp_path) == {}


async def test_a_file_of_ours_is_left_as_it_is(tmp_path):
    await (await opened(tmp_path / "ours.db")).close()
    before = state(tmp_path)
    examine(tmp_path / "ours.db")
    assert state(tmp_path) == before


async def test_the_file_of_a_running_daemon_is_told_and_left_as_it_is(tmp_path):
    store = await opened(tmp_path / "ours.db")
    before = state(tmp_path)
    with pytest.raises(StoreLocked, match="running daemon"):
        examine(tmp_path / "ours.db")
    examine(tmp_path / "ours.db", in_use=True)
    assert state(tmp_path) == before
    await store.close()
    examine(tmp_path / "ours.db")


async def test_after_a_look_a_daemon_gets_the_lock(tmp_path):
    await (await opened(tmp_path / "ours.db")).close()
    examine(tmp_path / "ours.db")
    await (await opened(tmp_path / "ours.db")).close()


async def test_a_link_to_the_file_is_the_file(tmp_path):
    store = await opened(tmp_path / "ours.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "ours.db")
    with pytest.raises(StoreLocked):
        examine(tmp_path / "link.db")
    await store.close()


def test_another_programs_database_is_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / "theirs.db")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = state(tmp_path)
    with pytest.raises(StoreCorrupt, match="another program's"):
        examine(tmp_path / "theirs.db")
    assert state(tmp_path) == before


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("not a database, by any means, at all" * 100)
    with pytest.raises(StoreCorrupt):
        examine(tmp_path / "text.db")


async def test_a_file_of_a_newer_version_is_refused(tmp_path):
    await (await opened(tmp_path / "ours.db")).close()
    connection = sqlite3.connect(tmp_path / "ours.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(StoreCorrupt, match="newer version"):
        examine(tmp_path / "ours.db")


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        examine(tmp_path / "nowhere" / "new.db")


AS_NOBODY = """
import os, pathlib, sys
from watchdog.errors import StoreUnavailable
from watchdog.stores.trial import examine
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    examine(pathlib.Path(sys.argv[1]))
except StoreUnavailable as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "told"),
    [(0o555, 0o666, "cannot be written"), (0o777, 0o444, "cannot be read and written"), (0o777, 0o666, "")],
)
def test_what_this_user_may_not_write_is_told(folder_mode, file_mode, told):
    # Not in pytest's own folder, which nobody else may enter: for root nothing is forbidden.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.db"
        path.touch()
        path.chmod(file_mode)
        Path(folder).chmod(folder_mode)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, path], capture_output=True, text=True, check=True, timeout=60
        )
        Path(folder).chmod(0o700)
    assert told in done.stdout
    assert bool(told) == bool(done.stdout)
