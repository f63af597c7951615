"""Plays heartbeats against one pair of timers: the daemon's lease table and quota buckets, on any described clock.

The way of the dispatcher is kept short: who is due is read with others in one call, those who are Offline are left
alone, the rest are written as the quota allows, who could get the next contact first, and read back once. Faults of
Connect, the brake and the clock's graces are left out. Whether a write is a mistake is for the caller to say.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

from watchdog.core import quota
from watchdog.core.model import Beat, Epoch, Observed, Outcome
from watchdog.core.quota import QuotaRules
from watchdog.simulation.workload import Left
from watchdog.stores.facts import Agent
from watchdog.stores.leases import LeaseTable

TICK_S = 0.25
"""Between two looks, as the daemon's sweep."""

BURST, SHARE = 5.0, 0.8
"""Defaults of CONNECT_BURST and CONNECT_SHARE."""

READ_MOST = 100
"""Agents in one call of GetCurrentUserData."""

READ_BACK_S = 2.0
"""From a write to the call that confirms it."""


@dataclass(slots=True)
class Figures:
    """What one pair of settings does.

    Attributes:
        timer_s: SESSION_END_TIMER.
        ttl_s: SESSION_TTL.
        false: Agents set Offline who were there and whose network was up.
        excused: Agents set Offline who were there and could not be heard: no network, or a page that slept.
        detection_s: From leaving to the decision, one for each who left.
        ghost_s: Seconds in which agents who had left could get contacts.
        writes: Calls of PutUserStatus.
        reads: Calls of GetCurrentUserData.
        drain_s: Longest that a due agent waited for the quota.
        missed: Agents who had left and were not set until the end.
        computed: False Offlines per agent-hour by loss alone, as computed; None where the loss is not known.
    """

    timer_s: float
    ttl_s: float
    false: int = 0
    excused: int = 0
    detection_s: list[float] = field(default_factory=list)
    ghost_s: float = 0.0
    writes: int = 0
    reads: int = 0
    drain_s: float = 0.0
    missed: int = 0
    computed: float | None = None


class Judge(Protocol):
    """Who knows the truth of an agent."""

    def shows(self, agent: Agent) -> Left:
        """What Connect shows of an agent who is due."""

    def decided(self, agent: Agent, now: float) -> None:
        """The agent was set Offline, or was Offline already."""


class Player:
    """One pair of timers.

    Attributes:
        figures: Calls and waits so far; the judge adds the rest.
        now: Up to when it has been played.
    """

    def __init__(self, timer_s: float, ttl_s: float, rate: float, judge: Judge) -> None:
        """Starts with nobody known.

        Args:
            timer_s: SESSION_END_TIMER.
            ttl_s: SESSION_TTL.
            rate: CONNECT_RATE.
            judge: Told of each decision.
        """
        self.figures = Figures(timer_s, ttl_s)
        self.now = 0.0
        self._table = LeaseTable(timer_s)
        self._rules = QuotaRules(rate, BURST, SHARE)
        self._to_write = self._to_read = quota.empty(0.0)
        self._judge = judge
        self._unseen: deque[Agent] = deque()
        self._queue: list[tuple[bool, float, int, int, Agent]] = []
        self._queued: dict[int, int] = {}
        self._order = 0
        self._read_back_at: deque[float] = deque()

    @property
    def idle(self) -> bool:
        """Whether nobody is due."""
        return not self._table.due

    def beat(self, beat: Beat, at: float) -> None:
        """Applies a heartbeat that came at a time since the last tick."""
        self._table.apply(beat, Observed(at), Epoch(at))

    def tick(self) -> None:
        """Goes on by `TICK_S`: looks who is due, and writes what the quota allows."""
        self.now += TICK_S
        self._table.expire(Observed(self.now))
        if self._table.due:
            self._look()
            self._write()
        if self._read_back_at and self._read_back_at[0] <= self.now and self._may_read():
            read = 0
            while read < READ_MOST and self._read_back_at and self._read_back_at[0] <= self.now:
                self._read_back_at.popleft()
                read += 1
        # What is dirty would go to the disk.
        self._table.dirty.agents.clear()
        self._table.dirty.sessions.clear()
        self._table.dirty.dropped.clear()

    def _look(self) -> None:
        """Reads those who have become due, up to a hundred in one call."""
        news = []
        for agent in reversed(self._table.due.values()):
            if self._queued.get(id(agent)) == agent.epoch:
                break
            news.append(agent)
        for agent in reversed(news):
            self._queued[id(agent)] = agent.epoch
            self._unseen.append(agent)
        while self._unseen and self._may_read():
            for _ in range(min(READ_MOST, len(self._unseen))):
                agent = self._unseen.popleft()
                if not self._is_due(agent):
                    continue
                shows = self._judge.shows(agent)
                if shows is Left.OFFLINE:
                    self._decide(agent, Outcome.ALREADY)
                    continue
                self._order += 1
                entry = (shows is not Left.ROUTABLE, agent.ends_at, self._order, agent.epoch, agent)
                heappush(self._queue, entry)

    def _write(self) -> None:
        while self._queue:
            *_, epoch, agent = self._queue[0]
            if not self._is_due(agent) or agent.epoch != epoch:
                heappop(self._queue)
                continue
            self._to_write, wait_s = quota.take(self._to_write, self._rules, self.now)
            if wait_s > 0:
                return
            heappop(self._queue)
            self.figures.writes += 1
            self.figures.drain_s = max(self.figures.drain_s, self.now - agent.ends_at - self.figures.timer_s)
            self._read_back_at.append(self.now + READ_BACK_S)
            self._decide(agent, Outcome.CONFIRMED)

    def _is_due(self, agent: Agent) -> bool:
        return self._table.due.get(agent.id) is agent

    def _decide(self, agent: Agent, outcome: Outcome) -> None:
        self._judge.decided(agent, self.now)
        self._queued.pop(id(agent), None)
        self._table.settle(agent, agent.epoch, outcome, Observed(self.now))

    def _may_read(self) -> bool:
        self._to_read, wait_s = quota.take(self._to_read, self._rules, self.now)
        self.figures.reads += wait_s == 0
        return wait_s == 0
