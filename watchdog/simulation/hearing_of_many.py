"""Heard time of a deployment of several daemons: when somebody heard, and nobody who might have heard was missing.

As `account.Hearing`, which knows one process, this is the most that any clock of the deployment may have counted: of
each silence its first two seconds count, and so does what comes after a daemon had to be dropped from the register.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from watchdog.simulation.account import PAUSE_HEARD_S, Hearing

Span = tuple[float, float]

TAKEN_S = 6.0
"""So long after a daemon fell silent others may still begin to have its parts."""

SETTLED_S = 5.0
"""So long after the longest grace nothing of a fault is left in the clock."""


@dataclass(slots=True)
class Silent:
    """A daemon that is not heard of, or the server.

    Attributes:
        since: Real time.
        forever: It is never dropped: without it nobody hears.
        dead: It never comes back.
    """

    since: float
    forever: bool = False
    dead: bool = False


class HearingOfMany(Hearing):
    """See the module. Daemons are known by their numbers.

    Attributes:
        heard: Daemons that are heard of.
    """

    def __init__(self, resume_grace_s: float, tick_s: float) -> None:
        """Nobody is there.

        Args:
            resume_grace_s: After so long a silent daemon is dropped.
            tick_s: Between reports.
        """
        super().__init__()
        self.heard: set[int] = set()
        self._silent: dict[int, Silent] = {}
        self._server: Silent | None = None
        self._nobody: Silent | None = Silent(0.0, forever=True)
        self._grace_s = resume_grace_s
        self._dropped_s = resume_grace_s - 2 * tick_s
        self._reached = 0.0
        self._doubts: list[Span] = []
        self._silent_at = 0.0
        self._changed_at = 0.0
        self._slow = 0

    # What befalls the daemons.

    def came(self, number: int, now: float) -> None:
        """A daemon begins, or is heard of again."""
        was_blind = self._blind(now)
        self._note(now)
        self._silent.pop(number, None)
        self.heard.add(number)
        if self._nobody is not None:
            self._doubt(self._nobody.since, now)
        self._nobody = None
        self._over(was_blind, now)

    def fell_silent(self, number: int, now: float, *, dead: bool = False) -> None:
        """A daemon is stopped, cut off, or killed without a word."""
        self._note(now)
        self.taken_over = True
        known = self._silent.get(number)
        self._silent[number] = Silent(now if known is None else known.since, dead=dead)
        self._gone(number, now)

    def left(self, number: int, now: float) -> None:
        """A daemon has said goodbye, or was never registered."""
        self._note(now)
        self._silent.pop(number, None)
        self._gone(number, now)

    def server(self, now: float, *, answers: bool) -> None:
        """The server falls silent, or answers again."""
        was_blind = self._blind(now)
        self._note(now)
        if answers and self._server is not None:
            self._doubt(self._server.since, now)
        self._server = None if answers else self._server or Silent(now, forever=True)
        self._over(was_blind, now)

    def forgot(self, now: float, started_since: float = -math.inf) -> None:
        """The server has lost its register, or what is newer than a moment: whoever is gone stops no clock any more."""
        del started_since
        self._note(now)
        for number in [number for number, each in self._silent.items() if each.dead]:
            self._doubt(self._silent.pop(number).since, now)
        self._doubt(now, now)

    def uncertain(self, since: float, now: float) -> None:
        """Some daemon may not have heard, and have said so."""
        self._note(now)
        self._doubt(since, now)

    # See `Hearing`.

    def at(self, now: float) -> float:
        """See `Hearing.at`."""
        return self._total + (now - self._reached) - _measure(self._spans(), self._reached, now)

    def hasty(self, now: float, interval: float) -> bool:
        """See `Hearing.hasty`. Not where anything is silent now: then nobody knows how the clock goes."""
        return not self._silent and super().hasty(now, interval)

    def stood(self, since: float, now: float, *, grace: float, interval: float, tick: float) -> float:
        """See `Hearing.stood`. All time around a silence is in doubt."""
        del grace, interval, tick
        running = [
            (each.since - SETTLED_S, now) for each in (*self._silent.values(), self._server, self._nobody) if each
        ]
        return _measure([*self._doubts, *running], since, now)

    def unsteady(self, now: float) -> None:
        """See `Hearing.unsteady`."""
        self._changed_at = now

    def slow(self, now: float, *, slow: bool) -> None:
        """What the daemons tell the server, or one another, may come too late, or no longer. Calls nest."""
        self._slow += 1 if slow else -1
        self._changed_at = now

    @property
    def steady_since(self) -> float:
        """See `Hearing`; in the future as long as a silence is not over."""
        if self._slow:
            return math.inf
        return max([self._changed_at, *(each.since + self._grace_s + SETTLED_S for each in self._silent.values())])

    @steady_since.setter
    def steady_since(self, at: float) -> None:
        self._changed_at = at

    @property
    def began_at(self) -> float:
        """See `Hearing`: since when parts have been with whoever has them now, at the latest."""
        return self._silent_at + TAKEN_S

    @began_at.setter
    def began_at(self, at: float) -> None:
        self._silent_at = at - TAKEN_S

    def _gone(self, number: int, now: float) -> None:
        self.heard.discard(number)
        self._silent_at = now
        if not self.heard and self._nobody is None:
            self._nobody = Silent(now, forever=True)

    def _note(self, now: float) -> None:
        self._total, self._reached = self.at(now), now
        self._changed_at = now
        for number, each in list(self._silent.items()):
            if now > each.since + self._grace_s + SETTLED_S:
                if each.dead:
                    del self._silent[number]
                self._doubt(each.since, min(now, each.since + self._grace_s))

    def _doubt(self, begin: float, end: float) -> None:
        self._doubts = [*self._doubts[-60:], (begin - SETTLED_S, end + self._grace_s + SETTLED_S)]

    def _blind(self, now: float) -> float | None:
        """Since when nobody's time counts; None if it does."""
        return min((begin for begin, end in self._spans() if begin <= now < end), default=None)

    def _over(self, was_blind: float | None, now: float) -> None:
        if was_blind is not None and self._blind(now) is None:
            self._gap(was_blind - PAUSE_HEARD_S, now)
            self._doubt(was_blind - PAUSE_HEARD_S, now)

    def _spans(self) -> Iterable[Span]:
        found = []
        for each in (*self._silent.values(), self._server, self._nobody):
            if each is not None:
                dropped_at = math.inf if each.forever else each.since + self._dropped_s
                found.append((each.since + PAUSE_HEARD_S, dropped_at))
        return found


def _measure(spans: Iterable[Span], begin: float, end: float) -> float:
    """How much of an interval the spans cover."""
    covered, reached = 0.0, begin
    for span in sorted(spans):
        first, last = max(span[0], reached), min(span[1], end)
        if last > first:
            covered += last - first
            reached = last
    return covered
