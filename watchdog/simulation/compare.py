"""Several timers on one described working day, side by side: for admins who choose settings.

The lease table and the quota's bucket are the daemon's own; the day is drawn once (`workload.py`) and played against
each pair of settings. Reads, read-backs and faults of Connect are left out: writes begin when the quota has a token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from watchdog.core import quota
from watchdog.core.model import AgentId, Beat, BeatType, Epoch, Observed, Outcome
from watchdog.core.quota import QuotaRules
from watchdog.simulation.workload import Day, Event, Kind, Workload
from watchdog.stores.leases import LeaseTable

TICK_S = 0.25
BURST, SHARE = 5.0, 0.8
"""Defaults of CONNECT_BURST and CONNECT_SHARE."""

RETRY_FOR_S = 20.0
"""After its network is back a page needs so long at most to be heard: the back-off, and a time-out."""

INTERVALS_IN_TTL = 3
"""A TTL has at least so many intervals; the settings demand it."""


@dataclass(slots=True)
class Figures:
    """What one pair of settings does.

    Attributes:
        timer_s: SESSION_END_TIMER.
        ttl_s: SESSION_TTL.
        false: Agents set Offline while their page was there and their network up.
        cut_off: The same while their own network was lost.
        detection_s: From leaving to the write, one for each who left.
        writes: Calls of PutUserStatus.
        drain_s: Longest that a due agent waited for the quota.
        missed: Agents who had left and were not set until the end.
    """

    timer_s: float
    ttl_s: float
    false: int = 0
    cut_off: int = 0
    detection_s: list[float] = field(default_factory=list)
    writes: int = 0
    drain_s: float = 0.0
    missed: int = 0


@dataclass(slots=True)
class _Truth:
    gone_at: float | None = None
    out: bool = False
    back_at: float = float("-inf")
    was_set: bool = True


def settings(workload: Workload) -> list[tuple[float, float]]:
    """The pairs of timer and TTL to try: the given one and others around it."""
    least = INTERVALS_IN_TTL * workload.interval_s
    pairs = [
        (workload.timer_s, workload.ttl_s),
        (workload.timer_s, least),
        (workload.timer_s, workload.ttl_s + 2 * workload.interval_s),
        (workload.timer_s + 10.0, workload.ttl_s),
        (workload.timer_s + 25.0, workload.ttl_s),
    ]
    return list(dict.fromkeys(pairs))


def measure(workload: Workload, events: list[Event], timer_s: float, ttl_s: float) -> Figures:
    """Plays the day against one pair of settings."""
    figures = Figures(timer_s, ttl_s)
    table = LeaseTable(timer_s)
    rules = QuotaRules(workload.rate, BURST, SHARE)
    bucket = quota.empty(0.0)
    truths = [_Truth() for _ in range(workload.agents)]
    ids = [AgentId("i", f"{number}") for number in range(workload.agents)]
    at, now, end = 0, 0.0, events[-1][0] + ttl_s + timer_s + 60.0
    while now < end or table.due:
        now += TICK_S
        while at < len(events) and events[at][0] <= now:
            _apply(events[at], table, truths, ids, ttl_s)
            at += 1
        clock = Observed(now)
        table.expire(clock)
        while table.due:
            agent = next(iter(table.due.values()))
            bucket, wait_s = quota.take(bucket, rules, now)
            if wait_s > 0:
                break
            figures.writes += 1
            figures.drain_s = max(figures.drain_s, now - agent.ends_at - timer_s)
            _judge(truths[int(agent.id.user_id)], now, figures)
            table.settle(agent, agent.epoch, Outcome.CONFIRMED, clock)
        # What is dirty would go to the disk.
        table.dirty.agents.clear()
        table.dirty.sessions.clear()
        table.dirty.dropped.clear()
    figures.missed = sum(1 for each in truths if each.gone_at is not None and not each.was_set)
    return figures


def _apply(event: Event, table: LeaseTable, truths: list[_Truth], ids: list[AgentId], ttl_s: float) -> None:
    at, number, kind, session, run_s = event
    truth = truths[number]
    match kind:
        case Kind.BEAT | Kind.BYE:
            said = BeatType.BYE if kind is Kind.BYE else BeatType.BEAT
            beat = Beat(ids[number], UUID(int=number << 32 | session).bytes, said, ttl=run_s + ttl_s)
            table.apply(beat, Observed(at), Epoch(at))
        case Kind.HERE:
            truth.gone_at = None
        case Kind.GONE:
            truth.gone_at, truth.was_set = at, False
        case Kind.OUT | Kind.BACK:
            truth.out = kind is Kind.OUT
            truth.back_at = at


def _judge(truth: _Truth, now: float, figures: Figures) -> None:
    if truth.gone_at is not None:
        if not truth.was_set:
            figures.detection_s.append(now - truth.gone_at)
        truth.was_set = True
    elif truth.out or now - truth.back_at < RETRY_FOR_S:
        figures.cut_off += 1
    else:
        figures.false += 1


def compare(workload: Workload) -> list[Figures]:
    """Measures all pairs and prints them as a table."""
    events = sorted(event for number in range(workload.agents) for event in Day(number, workload).events())
    found = [measure(workload, events, timer_s, ttl_s) for timer_s, ttl_s in settings(workload)]
    agent_hours = workload.agents * workload.hours
    table = Table(
        title=f"{workload.agents} agents, {workload.hours:g} h, loss {workload.loss:.1%}, "
        f"beat each {workload.interval_s:g} s, {workload.rate:g} calls/s",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for heading in ("timer", "TTL", "false Offlines", "per agent-hour", "cut off", "found p50", "p99"):
        table.add_column(heading, justify="right")
    for heading in ("ghost-seconds", "writes", "drain"):
        table.add_column(heading, justify="right")
    for each in found:
        table.add_row(
            f"{each.timer_s:g} s",
            f"{each.ttl_s:g} s",
            str(each.false),
            f"{each.false / agent_hours:.1e}",
            str(each.cut_off),
            f"{quantile(each.detection_s, 0.5):.0f} s",
            f"{quantile(each.detection_s, 0.99):.0f} s",
            f"{sum(each.detection_s):.0f}",
            str(each.writes),
            f"{each.drain_s:.0f} s",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "false Offlines: the page was there and its network up, within seconds. cut off: the agent's own network was "
        "lost. found: from leaving to the write. drain: longest wait for the quota."
    )
    return found


def quantile(values: list[float], part: float) -> float:
    """The value below which this part of them is; 0 without values."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 0.0
