"""What a measurement gives: numbers with their spread, their targets, and how they were obtained. Only values."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class BenchmarkError(Exception):
    """Something could not be measured, or what was measured was not right. The text tells the reader what to do."""


@dataclass(frozen=True, slots=True)
class Result:
    """One number.

    Attributes:
        name: What it is.
        unit: Of the value; empty for a ratio.
        value: The number.
        low: The smallest of the runs, or None for a single run.
        high: The largest of them.
        digits: Behind the point, when it is shown.
        at_most: The target, if there is one.
        note: What a reader has to know beside it.
    """

    name: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None
    digits: int = 0
    at_most: float | None = None
    note: str = ""

    @classmethod
    def median(
        cls,
        name: str,
        unit: str,
        runs: Sequence[float],
        *,
        digits: int = 0,
        at_most: float | None = None,
        note: str = "",
    ) -> Self:
        """The median of several runs, with the smallest and the largest."""
        low, high = (min(runs), max(runs)) if len(runs) > 1 else (None, None)
        return cls(name, unit, statistics.median(runs), low, high, digits, at_most, note)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None when there is none."""
        return None if self.at_most is None else self.value <= self.at_most

    def shown(self, number: float) -> str:
        """A number of this result, for people."""
        return f"{number:,.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """The results of one benchmark.

    Attributes:
        title: A few words.
        method: How it was measured, one paragraph.
        results: In the order in which they are shown.
        remarks: What was noticed in this run, e.g. that other programs disturbed it.
    """

    title: str
    method: str
    results: tuple[Result, ...]
    remarks: tuple[str, ...] = field(default=())


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed (the nearest rank, so it is one that occurred)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]
