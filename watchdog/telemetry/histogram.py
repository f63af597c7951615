"""A histogram of plain numbers: one bisection and two additions for each observation.

Belongs to one thread. How it is exposed is the business of `metrics.py`.
"""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts observations by size.

    Attributes:
        total: Sum of all observations.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        """Makes an empty histogram.

        Args:
            bounds: Upper bounds of the buckets, inclusive, in rising order; one without a bound is added.
        """
        self.total = 0.0
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)

    def observe(self, value: float) -> None:
        """Counts one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper bound and how many were not above it, as Prometheus has it; the last bound is `+Inf`."""
        found: list[tuple[str, float]] = []
        count = 0
        for bound, each in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            count += each
            found.append((bound, float(count)))
        return found
