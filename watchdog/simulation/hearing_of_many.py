"""Heard time of a deployment of several daemons: when somebody heard, and nobody who might have heard was missing.

As `account.Hearing`, which knows one process, this is the most that any clock of the deployment may have counted: of
each silence its first two seconds count, and so does what comes after a daemon had to be dropped from the register.
When daemons that vanished may have stopped the clock for as long as they may (see `graces`), all of it counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from watchdog.simulation.account import PAUSE_HEARD_S, Hearing
from watchdog.simulation.graces import Graces

Span = tuple[float, float]

TAKEN_S = 6.0
"""So long after a daemon fell silent others may still begin to have its parts."""

SETTLED_S = 5.0
"""So long after the longest grace nothing of a fault is left in the clock."""

TAKEOVER_S = 1.0
"""So long after a keeper is not heard of another one may take its place, and wait for all who are silent anew."""


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
        self._graces = Graces(resume_grace_s)
        self._tick_s = tick_s
        self._waited_s = resume_grace_s + TAKEOVER_S + 3 * tick_s
        # When the dead may be in the register, as one span; and since when whoever is silent may be waited for.
        self._dead: Span = (math.inf, -math.inf)
        self._again_at = -math.inf
        self._owed_s = 0.0
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

    def spent(self, now: float) -> bool:
        """Whether daemons that vanish may stop the clock no more."""
        self._pass(now)
        return self._graces.spent

    # What befalls the daemons.

    def came(self, number: int, now: float) -> None:
        """A daemon begins, or is heard of again."""
        was_blind = self._blind(now)
        self._note(now)
        back = self._silent.pop(number, None) or self._nobody
        self.heard.add(number)
        if self._nobody is not None:
            self._doubt(self._nobody.since, now)
        self._nobody = None
        if back is not None:
            self._anew(back.since, now)
        self._over(was_blind, now)

    def fell_silent(self, number: int, now: float, *, dead: bool = False) -> None:
        """A daemon is stopped, cut off, or killed without a word."""
        self._note(now)
        self.taken_over = True
        known = self._silent.get(number)
        since = now if known is None else known.since
        self._silent[number] = Silent(since, dead=dead)
        if dead:
            self._died(since, now)
        self._gone(number, now)

    def left(self, number: int, now: float, *, sure: bool = True) -> None:
        """A daemon has said goodbye, or has heard nothing; unless that is sure, it may be registered."""
        self._note(now)
        self._silent.pop(number, None)
        if not sure:
            self._died(now, now)
        self._gone(number, now)

    def server(self, now: float, *, answers: bool) -> None:
        """The server falls silent, or answers again."""
        was_blind = self._blind(now)
        self._note(now)
        if answers and self._server is not None:
            self._doubt(self._server.since, now)
            self._anew(self._server.since, now)
        self._server = None if answers else self._server or Silent(now, forever=True)
        self._over(was_blind, now)

    def forgot(self, now: float, started_since: float = -math.inf) -> None:
        """The server has lost its register, or what is newer than a moment: whoever is gone stops no clock any more."""
        del started_since
        self._note(now)
        for number in [number for number, each in self._silent.items() if each.dead]:
            self._doubt(self._silent.pop(number).since, now)
        self._doubt(now, now)
        # Who was dropped lately may be registered again.
        self._died(now, now)

    def uncertain(self, since: float, now: float) -> None:
        """Some daemon may not have heard, and have said so."""
        self._note(now)
        self._doubt(since, now)

    # See `Hearing`.

    def at(self, now: float) -> float:
        """See `Hearing.at`."""
        self._pass(now)
        return self._total

    def many_gaps(self, now: float) -> bool:
        """See `Hearing.many_gaps`. The same where daemons that vanished may have used it up."""
        return self.spent(now) or super().many_gaps(now)

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
        self._pass(now)
        self._slow += 1 if slow else -1
        self._changed_at = now
        if not slow:
            self._anew(-math.inf, now)

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
        self._wait_again(now, now)
        if not self.heard and self._nobody is None:
            self._nobody = Silent(now, forever=True)

    def _note(self, now: float) -> None:
        self._pass(now)
        self._changed_at = now
        for number, each in list(self._silent.items()):
            if now > each.since + self._grace_s + SETTLED_S:
                if each.dead:
                    del self._silent[number]
                self._doubt(each.since, min(now, each.since + self._grace_s))

    def _pass(self, now: float) -> None:
        """Counts the time until now; by ticks, since what counts depends on the graces before it."""
        while self._reached < now:
            since, until = self._reached, min(now, self._reached + self._tick_s)
            self._total += until - since - _measure(self._spans(), since, until)
            blind = any(each and each.since + PAUSE_HEARD_S <= since for each in (self._server, self._nobody))
            waiting = any(begin < until and since < end for begin, end in self._waits())
            self._graces.count(
                until - since,
                grace=not blind and (waiting or self._slow > 0 or self._owed_s > 0),
                running=not blind and not self._slow and since >= self._silent_at + PAUSE_HEARD_S,
            )
            if not blind and not waiting:
                self._owed_s -= min(self._owed_s, until - since)
            self._reached = until

    def _waits(self) -> list[Span]:
        """When the clock may stand for daemons that are not heard of, at most."""
        waits = [self._dead]
        for each in self._silent.values():
            if not each.dead:
                end = max(each.since, self._again_at) + self._waited_s
                waits.append((each.since + PAUSE_HEARD_S - 2 * self._tick_s, end))
        return waits

    def _died(self, since: float, now: float) -> None:
        """Somebody who is not heard of since then may be in the register until dropped."""
        begin = since + PAUSE_HEARD_S - 2 * self._tick_s
        if since <= self._dead[1]:
            begin = min(begin, self._dead[0])
        self._dead = (begin, now + self._waited_s)
        self._owed_s = self._grace_s

    def _anew(self, since: float, now: float) -> None:
        """A gap is over: there may be grace, and who is not heard of may be waited for anew."""
        if now - since > PAUSE_HEARD_S - 2 * self._tick_s:
            self._owed_s = self._grace_s
        self._wait_again(since, now)

    def _wait_again(self, since: float, now: float) -> None:
        self._again_at = now
        if self._dead[1] >= since:
            self._dead = (self._dead[0], now + self._waited_s)

    def _doubt(self, begin: float, end: float) -> None:
        self._doubts = [*self._doubts[-60:], (begin - SETTLED_S, end + self._grace_s + SETTLED_S)]

    def _blind(self, now: float) -> float | None:
        """Since when nobody's time counts; None if it does."""
        self._pass(now)
        return min((begin for begin, end in self._spans() if begin <= now < end), default=None)

    def _over(self, was_blind: float | None, now: float) -> None:
        if was_blind is not None and self._blind(now) is None:
            self._gap(was_blind - PAUSE_HEARD_S, now)
            self._doubt(was_blind - PAUSE_HEARD_S, now)

    def _spans(self) -> Iterable[Span]:
        found = []
        for each in (*self._silent.values(), self._server, self._nobody):
            if each is not None and (each.forever or not self._graces.spent):
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
