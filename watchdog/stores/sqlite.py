"""The store in one process, over one SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchdog.stores.disk import Disk, ThreadedDisk
from watchdog.stores.file import TableFile
from watchdog.stores.table_store import TableStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from watchdog.stores.base import StoreRules


class SqliteStore(TableStore):
    """See `watchdog.stores.base.Store`.

    Args:
        path: The file. It is made when it is not there; a lock beside it keeps other daemons away.
        rules: What the store has to know of the settings.
        disk: Opens the file; `InlineDisk` for virtual time.
    """

    def __init__(self, path: Path, rules: StoreRules, disk: Callable[[Path], Disk] = ThreadedDisk) -> None:
        super().__init__(rules, lambda table, brakes, _: TableFile(path, table, disk, brakes))
