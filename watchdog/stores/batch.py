"""What is written at once: statements with their rows.

The words are SQL, since SQLite runs them as they are; another engine goes by which statement it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Statement(StrEnum):
    """All that is ever said about a row. The rows' columns are in `rows.py`, `change_rows.py` and `history.py`."""

    PUT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
    DROP_META = "DELETE FROM meta WHERE key = ?"
    PUT_AGENT = "INSERT OR REPLACE INTO agents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    PUT_SESSION = "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    DROP_SESSION = "DELETE FROM sessions WHERE session_id = ? AND instance_id = ? AND user_id = ?"
    DROP_AGENT = "DELETE FROM agents WHERE instance_id = ? AND user_id = ?"
    PUT_CLAIM = "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    DROP_CLAIM = "DELETE FROM claims WHERE instance_id = ? AND user_id = ? AND token <= ?"
    PUT_CHANGE = (
        "INSERT OR REPLACE INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    DROP_CHANGE = "DELETE FROM changes WHERE instance_id = ? AND user_id = ?"
    DROP_CHANGES = "DELETE FROM changes WHERE written_at < ? AND undo IS NULL"
    PUT_ACTION = "INSERT OR IGNORE INTO actions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    DROP_ACTION = "DELETE FROM actions WHERE id = ?"


@dataclass(slots=True)
class Batch:
    """Statements for one transaction.

    Attributes:
        statements: Each with the rows it is run for.
        sync: The transaction must survive a power cut, not only the death of the process.
        shrink: Give pages that are free back to the file system afterwards, at most `disk.SHRINK_PAGES`.
    """

    statements: list[tuple[str, Sequence[Sequence[Any]]]] = field(default_factory=list)
    sync: bool = False
    shrink: bool = False

    def add(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Adds a statement, unless there are no rows for it."""
        listed = list(rows)
        if listed:
            self.statements.append((statement, listed))
