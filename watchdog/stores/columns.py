"""What a column of the file holds, and rows that make no sense."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)
"""What a value of the file raises that is none of ours."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of the file that makes no sense: its table, its columns, and what was raised."""

    table: str
    row: tuple[Any, ...]
    error: Exception

    def __str__(self) -> str:
        """Table, key and kind of error; for sessions the agent's key, as people know it."""
        key = {"sessions": self.row[1:3], "meta": self.row[:1]}.get(self.table, self.row[:2])
        name = "/".join(str(part) for part in key).encode(errors="replace").decode()
        return f"{self.table} {name} ({type(self.error).__name__})"


whole: Callable[[Any], int] = operator.index
"""A number without a fraction. Raises `TypeError` for anything else."""


def real(value: Any) -> float:  # noqa: ANN401 - `isfinite` looks at it
    """A number. SQLite keeps whatever it is given in any column, infinity included, which no lease may last for.

    Raises:
        TypeError: It is none.
        ValueError: It is infinite, or no number.
    """
    if not math.isfinite(value):
        raise ValueError(value)
    number: float = value
    return number


def text(value: object) -> str:
    """Text that can be written again. Raises `TypeError` or `ValueError` for anything else."""
    if not isinstance(value, str):
        raise TypeError(value)
    value.encode()  # refuses what the connection let pass: bytes that are no UTF-8
    return value
