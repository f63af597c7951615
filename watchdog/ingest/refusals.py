"""Whether heartbeats of sessions that were live are refused for their token: a rotation that went wrong."""

from collections.abc import Callable
from dataclasses import dataclass

from watchdog.core.model import Epoch

OVER_S = 60.0
"""So long after the last refusal it counts as over: several retries of a page."""


@dataclass(slots=True)
class Refusals:
    """Refusals that began with a live session's, for as long as any go on.

    Attributes:
        epoch: The wall clock, for people.
        time: Seconds that no wall clock moves.
        since: When they began; None before.
        count: How many there were since.
    """

    epoch: Callable[[], Epoch]
    time: Callable[[], float]
    since: Epoch | None = None
    count: int = 0
    _last: float = 0.0

    def note(self, *, live: bool) -> None:
        """Counts a refusal. Later ones are of sessions that have run out because of the first: they count, too."""
        if not live and not self.going_on:
            return
        if not self.going_on:
            self.since, self.count = self.epoch(), 0
        self.count += 1
        self._last = self.time()

    @property
    def going_on(self) -> bool:
        """Whether there were any in the last `OVER_S`."""
        return self.since is not None and self.time() - self._last < OVER_S
