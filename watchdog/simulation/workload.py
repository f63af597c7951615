"""A described working day, as the messages that reach the daemon: for `compare.py`.

A fast path for large worlds: the client's beats, losses and retries are drawn, but of a run of beats that all arrive
one event is kept, with the run's length, since each is followed by the next within the interval, which is shorter than
any TTL. No daemon or Connect fault is drawn here.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import IntEnum

POST_TIMEOUT_S = 4.0
RETRY_S = (1.0, 4.0)
QUICK_FOR_S = 20.0
BACKOFF_S = 15.0
"""The client's time-out, its retries, and its back-off; see `page.py`."""

RELOAD_EVERY_S = 1_800.0
OUTAGE_EVERY_S = 4 * 3_600.0
CRASH_EVERY_S = 40 * 3_600.0
BYES = 0.6
"""What people do: a reload every half hour, a lost Wi-Fi every four hours, a crash every five working days; six of ten
end their day with a bye."""

OUTAGES_S = (5.0, 15.0, 30.0, 60.0, 180.0)


class Kind(IntEnum):
    """What happens."""

    BEAT = 0
    BYE = 1
    HERE = 2
    GONE = 3
    OUT = 4
    """The agent's own network is lost."""
    BACK = 5


@dataclass(frozen=True, slots=True)
class Workload:
    """What `compare` tries settings on. Times in seconds unless said otherwise.

    Attributes:
        agents: How many.
        hours: How long they work; all leave in the last minutes.
        loss: Part of the requests that is lost.
        interval_s: HEARTBEAT_INTERVAL.
        timer_s: SESSION_END_TIMER to compare with others.
        ttl_s: SESSION_TTL to compare with others.
        rate: CONNECT_RATE.
        seed: Of all chance.
    """

    agents: int
    hours: float
    loss: float
    interval_s: float
    timer_s: float
    ttl_s: float
    rate: float
    seed: int = 0


Event = tuple[float, int, Kind, int, float]
"""When, which agent, what, the session's number, and of a beat for how long others follow it without a loss."""


class Day:
    """Draws one agent's day."""

    def __init__(self, agent: int, workload: Workload) -> None:
        self._agent = agent
        self._work = workload
        self._rng = random.Random(f"day/{workload.seed}/{agent}")
        self._events: list[Event] = []
        self._session = 0
        self._out: list[tuple[float, float]] = []

    def events(self) -> list[Event]:
        """All that happens, in order."""
        rng, ends = self._rng, self._work.hours * 3_600.0
        ends -= rng.uniform(0.0, min(600.0, ends / 4))
        at = rng.uniform(0.0, min(600.0, ends / 4))
        lost = at
        while (lost := lost + rng.expovariate(1 / OUTAGE_EVERY_S)) < ends:
            long = rng.choice(OUTAGES_S) * rng.uniform(0.5, 1.5)
            self._out.append((lost, lost + long))
            self._add(lost, Kind.OUT)
            lost += long
            self._add(lost, Kind.BACK)
        while at < ends:
            left = self._page(at, ends)
            at = left
        return sorted(self._events)

    def _page(self, at: float, ends: float) -> float:
        """One page load; returns when the next one begins."""
        rng = self._rng
        self._session += 1
        reload_at = at + rng.expovariate(1 / RELOAD_EVERY_S)
        crash_at = at + rng.expovariate(1 / CRASH_EVERY_S)
        until = min(reload_at, crash_at, ends)
        self._add(at, Kind.HERE)
        self._beats(self._retry(at, until) if self._is_lost(at) else at, until)
        if until == reload_at and until < ends:
            # Mostly with a bye; the next page comes at once, so the agent is not gone.
            if not self._is_lost(until):
                self._add(until, Kind.BYE)
            return until + rng.uniform(0.3, 3.0)
        self._add(until, Kind.GONE)
        if until == ends and rng.random() < BYES and not self._is_lost(until):
            self._add(until, Kind.BYE)
        return until + rng.uniform(300.0, 1_800.0) if until < ends else ends

    def _beats(self, at: float, until: float) -> None:
        interval, loss = self._work.interval_s, self._work.loss
        while at < until:
            # A run that arrives: as long as chance and the next outage let it be.
            quiet = next((begin for begin, end in self._out if end > at), until)
            run = int(math.log(1.0 - self._rng.random()) / math.log(1.0 - loss)) if loss > 0 else 1 << 30
            if quiet > at:
                run = min(run, int((min(quiet, until) - at) / interval))
                last = at + run * interval
                self._add(at, Kind.BEAT, max(0.0, min(last, until) - at))
                at = last + interval * self._rng.uniform(0.9, 1.1)
                if at >= until or not (loss and self._is_lost(at)):
                    continue
            at = self._retry(at, until)

    def _retry(self, at: float, until: float) -> float:
        """Tries again until it arrives; returns when."""
        since, failures = at, 0
        while at < until:
            failures += 1
            at += POST_TIMEOUT_S
            if at - since < QUICK_FOR_S:
                at += self._rng.uniform(*RETRY_S)
            else:
                at += max(0.5, self._rng.random() * min(BACKOFF_S, 2.0 ** min(failures, 10)))
            if not self._is_lost(at):
                return at
        return at

    def _is_lost(self, at: float) -> bool:
        return any(begin <= at < end for begin, end in self._out) or self._rng.random() < self._work.loss

    def _add(self, at: float, kind: Kind, run_s: float = 0.0) -> None:
        self._events.append((at, self._agent, kind, self._session, run_s))
