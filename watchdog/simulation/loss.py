"""How often lost requests alone set a present agent Offline: computed, since at 1 % loss no simulation sees one.

An agent is set when every request in a chain is lost until the deadline. Two chains matter: beats and their retries
after the last beat that arrived, and the hellos of a page that was reloaded, whose predecessor's bye has arrived. The
chance of a chain is summed over the exact distribution of the times of its attempts, on a grid. `compare.py` draws the
same client; tests hold the two against each other where loss is so high that events are frequent. docs/loss.md tells
what is assumed.

Nothing that protects besides (brake, witness, re-check, a late sweep, quota) is counted on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from watchdog.simulation.retries import (
    BACKOFF_S,
    HELLO,
    JITTER,
    LEAST_BACKOFF_S,
    POST_TIMEOUT_S,
    RETRY_S,
    THROTTLED_COPIES,
    THROTTLED_S,
    HelloRule,
    backing_off,
)
from watchdog.simulation.workload import LOAD_S, RELOAD_EVERY_S

GRID_S = 0.05
"""Width of a cell of the grid. Half of it changes a result by less than 1 %."""

MARGIN_S = 0.5
"""By so much an attempt must be sent before the deadline to be heard: the way there, and the flush."""

RELOADS_PER_HOUR = 3_600.0 / RELOAD_EVERY_S

TARGET = 1e-6
"""False Offlines per agent-hour that the default settings may cost at 1 % loss."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The way of requests.

    Attributes:
        loss: Part of the requests that is lost.
        burst_s: Mean length of a time in which all are lost, with none lost between two of them (Gilbert's model:
            https://doi.org/10.1002/j.1538-7305.1960.tb03959.x); 0 loses each request for itself.
    """

    loss: float
    burst_s: float = 0.0

    def after_arrival(self, gap_s: float) -> float:
        """The chance that a request is lost whose predecessor arrived so long ago."""
        return self.loss * (1.0 - self._memory(gap_s))

    def after_loss(self, gap_s: float) -> float:
        """The chance that a request is lost whose predecessor was lost so long ago."""
        return self.loss + (1.0 - self.loss) * self._memory(gap_s)

    def _memory(self, gap_s: float) -> float:
        if not self.burst_s or not self.loss:
            return 0.0
        # The rates of leaving the bad and the good state.
        return math.exp(-gap_s * (1.0 / self.burst_s) / (1.0 - self.loss))


@dataclass(frozen=True, slots=True)
class Timing:
    """What a chain is up against.

    Attributes:
        timer_s: SESSION_END_TIMER.
        ttl_s: SESSION_TTL.
        interval_s: HEARTBEAT_INTERVAL.
        throttled_ttl_s: THROTTLED_SESSION_TTL.
        margin_s: See `MARGIN_S`.
        hello: How a page's first message is sent.
        throttled_copies: How often a hidden page without a worker sends each message.
        reloads_per_hour: Of one agent.
        load_s: From the bye of a page that is reloaded to the first hello of the next, evenly drawn. The old page says
            bye when the answer to the reload has begun to arrive: this is the time to load scripts.
    """

    timer_s: float = 5.0
    ttl_s: float = 35.0
    interval_s: float = 10.0
    throttled_ttl_s: float = 150.0
    margin_s: float = MARGIN_S
    hello: HelloRule = HELLO
    throttled_copies: int = THROTTLED_COPIES
    reloads_per_hour: float = RELOADS_PER_HOUR
    load_s: tuple[float, float] = LOAD_S


@dataclass(frozen=True, slots=True)
class Rates:
    """False Offlines per agent-hour, by chain.

    Attributes:
        beats: Beats and retries lost, until lease and timer are over.
        reloads: A bye arrived, and no hello of the next page until the timer was over.
        lost_byes: The bye was lost as well, and no hello arrived until the old lease and the timer were over.
        throttled: The same as `beats`, per hour in which the page is hidden and has no worker. Not in `total`.
    """

    beats: float
    reloads: float
    lost_byes: float
    throttled: float

    @property
    def total(self) -> float:
        """Of an agent with one page, which has a worker."""
        return self.beats + self.reloads + self.lost_byes


class Chain:
    """A request and its retries, as long as all are lost."""

    def __init__(self, channel: Channel, window_s: float) -> None:
        """Lays the attempts out on the grid.

        Args:
            channel: Loses them.
            window_s: Longest time after the first attempt that will be asked for.
        """
        self._channel = channel
        cells = max(0, math.ceil(window_s / GRID_S)) + 1
        # By attempt: the chance that it is made in a cell, and that it and all before it but the first are lost.
        self._lost: list[list[float]] = [[1.0, *[0.0] * (cells - 1)]]
        while any(lost := self._retry(self._lost[-1], cells)):
            self._lost.append(lost)

    def _retry(self, before: list[float], cells: int) -> list[float]:
        after = [0.0] * cells
        for cell, mass in enumerate(before):
            if not mass:
                continue
            for gap, part in _gaps(cell):
                if cell + gap >= cells:
                    break
                after[cell + gap] += mass * part * self._channel.after_loss(gap * GRID_S)
        return after

    def silent(self, window_s: float) -> float:
        """The chance that no retry that is made within `window_s` of the first attempt arrives; the first was lost."""
        if window_s < 0:
            raise ValueError("The first attempt is not in the window.")
        last, found = round(window_s / GRID_S), 0.0
        for lost in self._lost:
            for cell, mass in enumerate(lost[: last + 1]):
                if mass:
                    found += mass * _tail((last - cell) * GRID_S, cell * GRID_S)
        return found


def _gaps(cell: int) -> list[tuple[int, float]]:
    """From a lost attempt, made so many cells after the first, to the next: in cells, with the chance of each."""
    failing_s = cell * GRID_S
    least = POST_TIMEOUT_S + (LEAST_BACKOFF_S if backing_off(failing_s) else RETRY_S[0])
    most = POST_TIMEOUT_S + (BACKOFF_S if backing_off(failing_s) else RETRY_S[1])
    first, last = round(least / GRID_S), round(most / GRID_S)
    edges = [_tail((gap - 0.5) * GRID_S, failing_s) for gap in range(first, last + 2)]
    edges[0] = 1.0
    return [(first + number, over - under) for number, (over, under) in enumerate(pairwise(edges))]


def _tail(gap_s: float, failing_s: float) -> float:
    """The chance that the next attempt is later than this after one that was lost."""
    wait_s = gap_s - POST_TIMEOUT_S
    if backing_off(failing_s):
        return 1.0 if wait_s < LEAST_BACKOFF_S else max(0.0, 1.0 - wait_s / BACKOFF_S)
    least, most = RETRY_S
    return min(1.0, max(0.0, (most - wait_s) / (most - least)))


def compute(channel: Channel, timing: Timing) -> Rates:
    """How many false Offlines loss alone costs."""
    if not channel.loss:
        return Rates(0.0, 0.0, 0.0, 0.0)
    lease_s = timing.ttl_s + timing.timer_s - timing.margin_s
    chain = Chain(channel, max(lease_s, timing.timer_s))
    return Rates(
        beats=_beats(channel, timing, chain, lease_s) * 3_600.0 / _between_arrivals(channel, timing.interval_s),
        reloads=timing.reloads_per_hour * (1.0 - channel.loss) * _after_bye(channel, timing, chain),
        lost_byes=timing.reloads_per_hour * channel.loss * _after_lost_bye(channel, timing, chain, lease_s),
        throttled=_throttled(channel, timing) * 3_600.0 / THROTTLED_S,
    )


def _beats(channel: Channel, timing: Timing, chain: Chain, lease_s: float) -> float:
    """The chance that no beat arrives in the time after one that did."""
    firsts = _evenly(timing.interval_s * (1 - JITTER), timing.interval_s * (1 + JITTER))
    return _mean([channel.after_arrival(at) * chain.silent(lease_s - at) if at <= lease_s else 1.0 for at in firsts])


def _between_arrivals(channel: Channel, interval_s: float) -> float:
    """Mean time from a beat that arrives to the next one that does."""
    quick = POST_TIMEOUT_S + sum(RETRY_S) / 2
    slow = POST_TIMEOUT_S + (BACKOFF_S + LEAST_BACKOFF_S**2 / BACKOFF_S) / 2
    found, failing_s, lost = interval_s, 0.0, channel.after_arrival(interval_s)
    while lost > 1e-12:
        gap_s = slow if backing_off(failing_s) else quick
        found += lost * gap_s
        failing_s += gap_s
        lost *= channel.after_loss(gap_s)
    return found


def _after_bye(channel: Channel, timing: Timing, chain: Chain) -> float:
    """The chance that after a bye that arrived no hello does before the timer is over."""
    until = timing.timer_s - timing.margin_s
    loads = _evenly(*timing.load_s)
    return _mean([_hellos(channel, timing.hello, chain, until - at, channel.after_arrival(at)) for at in loads])


def _after_lost_bye(channel: Channel, timing: Timing, chain: Chain, lease_s: float) -> float:
    """The same after a bye that was lost: the last beat is up to an interval old."""
    ages = _evenly(0.0, timing.interval_s, cells=20)
    return _mean(
        [
            _hellos(channel, timing.hello, chain, lease_s - age - at, channel.after_loss(at))
            for at in _evenly(*timing.load_s, cells=10)
            for age in ages
        ]
    )


def _hellos(channel: Channel, rule: HelloRule, chain: Chain, window_s: float, first: float) -> float:
    """The chance that no hello sent within `window_s` of the first arrives, which is lost with the chance `first`."""
    if window_s < 0:
        return 1.0
    copies = min(rule.copies, int(window_s / rule.every_s + 1e-9) + 1)
    found = first * channel.after_loss(rule.every_s) ** (copies - 1)
    return found * chain.silent(max(0.0, window_s - (copies - 1) * rule.every_s)) if copies == rule.copies else found


def _throttled(channel: Channel, timing: Timing) -> float:
    """The chance that after a heard beat of a hidden page without a worker none is heard. Copies share a burst."""
    at, found = THROTTLED_S, 1.0
    lost = channel.after_arrival(THROTTLED_S)
    while at <= timing.throttled_ttl_s + timing.timer_s - timing.margin_s:
        found *= lost * channel.after_loss(0.0) ** (timing.throttled_copies - 1)
        at += THROTTLED_S + POST_TIMEOUT_S
        lost = channel.after_loss(THROTTLED_S + POST_TIMEOUT_S)
    return found


def _evenly(least: float, most: float, cells: int = 0) -> list[float]:
    """The middles of cells between two times."""
    number = cells or max(1, round((most - least) / GRID_S))
    return [least + (most - least) * (each + 0.5) / number for each in range(number)]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
