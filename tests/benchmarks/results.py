"""What a measurement gives: numbers with their spread, their targets, and how they were obtained. Only values."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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
        at_most: The target, if there is one,
        at_least: of either kind.
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
    at_least: float | None = None

    @classmethod
    def median(
        cls,
        name: str,
        unit: str,
        runs: Sequence[float],
        *,
        digits: int = 0,
        at_most: float | None = None,
        at_least: float | None = None,
        note: str = "",
    ) -> Self:
        """The median of several runs, with the smallest and the largest."""
        low, high = (min(runs), max(runs)) if len(runs) > 1 else (None, None)
        return cls(name, unit, statistics.median(runs), low, high, digits, at_most, note, at_least)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None when there is none."""
        if self.at_most is None and self.at_least is None:
            return None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

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


def quantile(before: Mapping[str, float], after: Mapping[str, float], metric: str, share: float) -> float:
    """The bound of a histogram's bucket that `share` of what came between two readings did not exceed.

    Args:
        before: All samples, by name and labels.
        after: The same, later.
        metric: Of the histogram.
        share: From 0 to 1.
    """
    count = after[f"{metric}_count"] - before[f"{metric}_count"]
    for name, value in after.items():
        if name.startswith(f"{metric}_bucket") and value - before[name] >= share * count:
            return float(name.partition('le="')[2].partition('"')[0])
    return math.inf
