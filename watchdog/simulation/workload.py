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

from watchdog.simulation.retries import (
    BACKOFF_S,
    HELLO,
    JITTER,
    LEAST_BACKOFF_S,
    POST_TIMEOUT_S,
    RETRY_S,
    HelloRule,
    backing_off,
)

RELOAD_EVERY_S = 1_800.0
OUTAGE_EVERY_S = 4 * 3_600.0
CRASH_EVERY_S = 40 * 3_600.0
BYES = 0.6
"""What people do: a reload every half hour, a lost Wi-Fi every four hours, a crash every five working days; six of ten
end their day with a bye."""

LOAD_S = (0.3, 3.0)
"""From the bye of a page that is reloaded to the first hello of the next."""

OFFLINE = 0.3
ROUTABLE = 0.7
"""Three of ten end their day Offline by their own hand; of the others, and of those whose page crashes, seven of ten
can get contacts when they leave."""

OUTAGES_S = (5.0, 15.0, 30.0, 60.0, 180.0)

INTERVALS_IN_TTL = 3
"""A TTL has at least so many intervals; the settings demand it."""


class Left(IntEnum):
    """What Connect shows of an agent who has left."""

    ROUTABLE = 0
    BUSY = 1
    OFFLINE = 2


class Kind(IntEnum):
    """What happens."""

    BEAT = 0
    BYE = 1
    HERE = 2
    GONE = 3
    """Comes with a `Left`."""
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
        hello: How a page's first message is sent.
        reload_every_s: Mean time between two reloads of an agent's page.
        outage_every_s: The same between two outages of an agent's own network.
        crash_every_s: The same between two crashes of an agent's browser.
    """

    agents: int
    hours: float
    loss: float
    interval_s: float
    timer_s: float
    ttl_s: float
    rate: float
    seed: int = 0
    hello: HelloRule = HELLO
    reload_every_s: float = RELOAD_EVERY_S
    outage_every_s: float = OUTAGE_EVERY_S
    crash_every_s: float = CRASH_EVERY_S


Event = tuple[float, int, Kind, int, float]
"""When, which agent, what, the session's number; and of a beat for how long others follow it without a loss, of who
is gone what Connect shows."""


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
        while (lost := lost + rng.expovariate(1 / self._work.outage_every_s)) < ends:
            long = rng.choice(OUTAGES_S) * rng.uniform(0.5, 1.5)
            self._out.append((lost, lost + long))
            self._add(lost, Kind.OUT)
            lost += long
            self._add(lost, Kind.BACK)
        while at < ends:
            at = self._page(at, ends)
        return sorted(self._events)

    def _page(self, at: float, ends: float) -> float:
        """One page load; returns when the next one begins."""
        rng = self._rng
        self._session += 1
        reload_at = at + rng.expovariate(1 / self._work.reload_every_s)
        crash_at = at + rng.expovariate(1 / self._work.crash_every_s)
        until = min(reload_at, crash_at, ends)
        self._add(at, Kind.HERE)
        self._beats(self._hello(at, until), until)
        if until == reload_at and until < ends:
            # Mostly with a bye; the next page comes at once, so the agent is not gone.
            if not self._is_lost(until):
                self._add(until, Kind.BYE)
            loaded = until + rng.uniform(*LOAD_S)
            if loaded >= ends:
                self._add(until, Kind.GONE, Left.ROUTABLE)
            return loaded
        offline = until == ends and rng.random() < OFFLINE
        left = Left.OFFLINE if offline else Left.ROUTABLE if rng.random() < ROUTABLE else Left.BUSY
        self._add(until, Kind.GONE, left)
        if until == ends and rng.random() < BYES and not self._is_lost(until):
            self._add(until, Kind.BYE)
        return until + rng.uniform(300.0, 1_800.0) if until < ends else ends

    def _hello(self, at: float, until: float) -> float:
        """Opens the session; returns when."""
        for _ in range(self._work.hello.copies):
            if not self._is_lost(at):
                return at
            last = at
            at += self._work.hello.every_s
        return self._retry(last, until)

    def _beats(self, at: float, until: float) -> None:
        """Beats, from one that arrives at `at`."""
        interval = self._work.interval_s
        while at < until:
            # A run that arrives: as long as chance and the next outage let it be.
            limit = min(next((begin for begin, _ in self._out if begin > at), until), until)
            room = int((limit - at) / interval)
            run = min(room, self._until_lost())
            last = at + run * interval
            self._add(at, Kind.BEAT, last - at)
            at = last + interval * self._rng.uniform(1 - JITTER, 1 + JITTER)
            if run < room or self._is_lost(at):
                at = self._retry(at, until)

    def _until_lost(self) -> int:
        """How many requests arrive before one is lost by chance."""
        loss = self._work.loss
        return int(math.log(1.0 - self._rng.random()) / math.log(1.0 - loss)) if loss > 0 else 1 << 30

    def _retry(self, first: float, until: float) -> float:
        """Tries again, after an attempt at `first` that was lost, until one arrives; returns when."""
        at, failures = first, 0
        while at < until:
            failures += 1
            if backing_off(at - first):
                wait_s = max(LEAST_BACKOFF_S, self._rng.random() * min(BACKOFF_S, 2.0 ** min(failures, 10)))
            else:
                wait_s = self._rng.uniform(*RETRY_S)
            at += POST_TIMEOUT_S + wait_s
            if not self._is_lost(at):
                return at
        return at

    def _is_lost(self, at: float) -> bool:
        return any(begin <= at < end for begin, end in self._out) or self._rng.random() < self._work.loss

    def _add(self, at: float, kind: Kind, more: float = 0.0) -> None:
        self._events.append((at, self._agent, kind, self._session, more))
