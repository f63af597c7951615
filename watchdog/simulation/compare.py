"""Several timers on one described working day, side by side: for admins who choose settings.

The day is drawn once (`workload.py`) and played against each pair of settings (`player.py`). A mistake at 1 % loss is
too rare to be seen in a day; how rare is computed (`loss.py`) and stands beside what was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from watchdog.core.model import AgentId, Beat, BeatType
from watchdog.simulation.loss import Channel, Timing, compute
from watchdog.simulation.player import TICK_S, Figures, Player
from watchdog.simulation.report import render, write
from watchdog.simulation.sheets import as_values, of_figures, of_loss, show
from watchdog.simulation.workload import INTERVALS_IN_TTL, Day, Event, Kind, Left, Workload
from watchdog.stores.facts import Agent
from watchdog.terminal import Bar, screen

NOTE = (
    "false: set Offline while the page was there and its network up; drawn, and computed for loss alone. Cut off: set "
    "while their own network was lost. Found: from leaving to the decision. Ghost-seconds: in which agents who had "
    "left could get contacts, all together. Time to drain: longest wait for the quota."
)


@dataclass(slots=True)
class _Truth:
    gone_at: float | None = None
    left: Left = Left.ROUTABLE
    cut_off: bool = False
    """The agent's own network was lost, and nothing was heard since."""
    was_set: bool = True


class _Truths:
    """What the day says of each agent. See `watchdog.simulation.player.Judge`."""

    def __init__(self, agents: int) -> None:
        self.ids = [AgentId("i", f"{number}") for number in range(agents)]
        self.each = [_Truth() for _ in range(agents)]
        self.figures = Figures(0.0, 0.0)

    def shows(self, agent: Agent) -> Left:
        truth = self.each[int(agent.id.user_id)]
        return Left.ROUTABLE if truth.gone_at is None else truth.left

    def decided(self, agent: Agent, now: float) -> None:
        truth = self.each[int(agent.id.user_id)]
        if truth.gone_at is not None:
            if not truth.was_set:
                self.figures.detection_s.append(now - truth.gone_at)
            self._found(truth, now)
        elif truth.cut_off:
            self.figures.excused += 1
        else:
            self.figures.false += 1

    def happened(self, at: float, number: int, kind: Kind, more: float) -> None:
        """Something that no heartbeat tells."""
        truth = self.each[number]
        match kind:
            case Kind.HERE:
                if truth.gone_at is not None:
                    self._found(truth, at)
                truth.gone_at = None
            case Kind.GONE:
                truth.gone_at, truth.left, truth.was_set = at, Left(int(more)), False
            case Kind.OUT:
                truth.cut_off = True

    def _found(self, truth: _Truth, now: float) -> None:
        """A ghost is one no longer: set, or back."""
        if not truth.was_set and truth.left is Left.ROUTABLE and truth.gone_at is not None:
            self.figures.ghost_s += now - truth.gone_at
        truth.was_set = True


def settings(timer_s: float, ttl_s: float, interval_s: float) -> list[tuple[float, float]]:
    """The pairs of timer and TTL to try: the given one and others around it."""
    pairs = [
        (timer_s, ttl_s),
        (timer_s, INTERVALS_IN_TTL * interval_s),
        (timer_s, ttl_s + 2 * interval_s),
        (timer_s + 10.0, ttl_s),
        (timer_s + 25.0, ttl_s),
    ]
    return list(dict.fromkeys(pairs))


def measure(
    workload: Workload,
    events: list[Event],
    timer_s: float,
    ttl_s: float,
    at_event: Callable[[int], None] = lambda _: None,
) -> Figures:
    """Plays the day against one pair of settings, and tells how many events it has played."""
    truths = _Truths(workload.agents)
    player = Player(timer_s, ttl_s, workload.rate, truths)
    figures = truths.figures = player.figures
    at, end = 0, events[-1][0] + ttl_s + timer_s + 60.0
    while player.now < end or not player.idle:
        until = player.now + TICK_S
        while at < len(events) and events[at][0] <= until:
            when, number, kind, session, more = events[at]
            if kind is Kind.BEAT or kind is Kind.BYE:
                if kind is Kind.BEAT:
                    truths.each[number].cut_off = False
                said = BeatType.BYE if kind is Kind.BYE else BeatType.BEAT
                key = UUID(int=number << 32 | session).bytes
                player.beat(Beat(truths.ids[number], key, said, ttl=more + ttl_s), when)
            else:
                truths.happened(when, number, kind, more)
            at += 1
        at_event(at)
        player.tick()
    figures.missed = sum(1 for each in truths.each if each.gone_at is not None and not each.was_set)
    if workload.loss < 1:
        timing = Timing(timer_s, ttl_s, workload.interval_s, hello=workload.hello)
        figures.computed = compute(Channel(workload.loss), timing).total
    return figures


def compare(workload: Workload) -> list[Figures]:
    """Measures all pairs."""
    events = sorted(event for number in range(workload.agents) for event in Day(number, workload).events())
    pairs = settings(workload.timer_s, workload.ttl_s, workload.interval_s)
    found = []
    with Bar("Timers", len(pairs) * len(events)) as bar:
        for number, (timer_s, ttl_s) in enumerate(pairs):
            what = f"Timer {timer_s:g} s, TTL {ttl_s:g} s"
            before = number * len(events)

            def told(at: int, before: int = before, what: str = what) -> None:
                bar.at(before + at, what)

            found.append(measure(workload, events, timer_s, ttl_s, told))
    return found


def run(workload: Workload, html: Path | None, *, explain: bool = False, as_json: bool = False) -> None:
    """Prints the comparison, or only what loss costs, and writes the report.

    Args:
        workload: The day.
        html: The report's file.
        explain: Only what loss costs.
        as_json: Print JSON in place of tables.

    Raises:
        WatchdogError: The report cannot be written.
    """
    console = screen()
    timing = Timing(workload.timer_s, workload.ttl_s, workload.interval_s)
    if explain:
        show(of_loss(workload.loss, timing), console, as_json=as_json)
        return
    found = compare(workload)
    agent_hours = workload.agents * workload.hours
    title = (
        f"{workload.agents} agents, {workload.hours:g} h, loss {workload.loss:.3g}, "
        f"beat each {workload.interval_s:g} s, {workload.rate:g} calls/s"
    )
    sheet = of_figures(title, found, agent_hours, "set while cut off", NOTE)
    show([sheet], console, as_json=as_json, figures=[as_values(each) for each in found])
    if html is not None:
        write(html, render(f"Timers compared: {title}", found, [sheet, *of_loss(workload.loss, timing)], agent_hours))
        if not as_json:
            console.print(f"Report: {html}", soft_wrap=True)
