"""The most time for which the clock of several daemons may have stood for grace: there is a limit to that.

Within ten minutes all grace together takes at most half, and the last of it is not for daemons that vanish. Counted
from the outside, on the side of too much: where that says that the limit may be reached, the clock may go on.
"""

from __future__ import annotations

from collections import deque

WINDOW_S, MOST_S = 600.0, 300.0
"""Of so many seconds of running time so many may be grace."""

LEFT_S = 75.0
"""The most of them that daemons which vanish leave to others; a whole grace, if that is shorter."""


class Graces:
    """See the module.

    Attributes:
        spent: Daemons that vanish may stop the clock no more: only their share is left, until twice as much is again.
    """

    def __init__(self, resume_grace_s: float) -> None:
        """None was taken."""
        self.spent = False
        self._left_s = min(resume_grace_s, LEFT_S)
        self._running_s = 0.0
        self._taken_s = 0.0
        self._taken: deque[tuple[float, float]] = deque()

    def count(self, seconds: float, *, grace: bool, running: bool) -> None:
        """So much time has passed.

        Args:
            seconds: Real ones.
            grace: The clock may have stood for grace.
            running: The clock has certainly run: the window has moved on.
        """
        if running:
            self._running_s += seconds
        if grace:
            self._taken.append((self._running_s, seconds))
            self._taken_s += seconds
        while self._taken and self._taken[0][0] < self._running_s - WINDOW_S:
            self._taken_s -= self._taken.popleft()[1]
        self.spent = self._taken_s >= MOST_S - self._left_s * (1 + self.spent)
