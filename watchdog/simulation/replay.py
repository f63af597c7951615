"""Several timers on a recorded day, side by side.

Nobody has recorded who was there, so what came afterwards tells: an agent who was set, and whose same page beats later,
was there all the time; so was one whose next page said hello right after the bye. Everyone else had left. The file is
read once, for all settings together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from watchdog.core.model import AgentId, Beat, BeatType
from watchdog.errors import RecordingError
from watchdog.simulation.compare import settings
from watchdog.simulation.player import TICK_S, Player
from watchdog.simulation.recorded import Done, Head, Heard, Passed, Recorded
from watchdog.simulation.report import render, write
from watchdog.simulation.sheets import Sheet, as_values, of_figures, show
from watchdog.simulation.workload import Left
from watchdog.stores.facts import Agent
from watchdog.terminal import Bar, screen

RELOAD_S = 30.0
"""A page that says hello within this after the last one's bye is a reload, and its agent had not left."""

SLEPT = 0.5
"""Part of a silence for which the page's own timer stood still: then it slept, and could not be used."""

PRESENT_S = 60.0
"""So much of the time from a beat to the next counts as presence at most."""

NOTE = (
    "false: set, though the same page beat later, or the next one said hello within 30 s of the bye. Asleep: the same, "
    "and the page's own timer had stood still. Found: from the last sign of life to the decision, in observed time. "
    "Ghost-seconds: that time, all together. Calls are those that would be made. Time to drain: longest wait for the "
    "quota."
)


@dataclass(slots=True)
class _Presence:
    """What is known of one agent.

    Attributes:
        open: Sessions that have not said bye, with the time of their last beat.
        closed: Those that have, in which incarnation.
        heard_at: The last heartbeat.
        bye_at: The last one was a bye, at this time.
    """

    open: dict[int, float] = field(default_factory=dict)
    closed: dict[int, int] = field(default_factory=dict)
    heard_at: float = 0.0
    bye_at: float | None = None


@dataclass(slots=True)
class _Set:
    at: float
    left_at: float
    open: frozenset[int]
    bye_at: float | None


class _Suspicion:
    """Whom one pair of settings has set. See `watchdog.simulation.player.Judge`."""

    def __init__(self, known: dict[int, _Presence]) -> None:
        self._known = known
        self._set: dict[int, _Set] = {}
        self.player: Player

    def shows(self, agent: Agent) -> Left:
        del agent
        return Left.ROUTABLE

    def decided(self, agent: Agent, now: float) -> None:
        number = int(agent.id.user_id)
        presence = self._known[number]
        self._set[number] = _Set(now, presence.heard_at, frozenset(presence.open), presence.bye_at)

    def heard(self, line: Heard, silent_s: float | None) -> None:
        """A hello or beat: was it right to set the agent? `silent_s` is the time since the session's last beat."""
        was = self._set.pop(line.agent, None)
        if was is None:
            return
        figures = self.player.figures
        if line.session in was.open:
            if line.gap_s is not None and silent_s is not None and line.gap_s >= SLEPT * silent_s:
                figures.excused += 1
            else:
                figures.false += 1
        elif was.bye_at is not None and line.at - was.bye_at <= RELOAD_S:
            figures.false += 1
        else:
            self._left(was)

    def close(self) -> None:
        """Nothing follows: who was set had left."""
        for was in self._set.values():
            self._left(was)

    def _left(self, was: _Set) -> None:
        self.player.figures.detection_s.append(was.at - was.left_at)
        self.player.figures.ghost_s += was.at - was.left_at


class Replay:
    """A recording, played against several pairs of settings.

    Attributes:
        present_s: Seconds in which agents were heard, all together.
        outcomes: What the daemon did when it was recorded.
        calls: Of Connect, at that time.
        lost: Lines that could not be recorded.
    """

    def __init__(self, head: Head, pairs: list[tuple[float, float]], rate: float) -> None:
        self.present_s = 0.0
        self.outcomes: Counter[str] = Counter()
        self.calls = 0
        self.lost = 0
        self._head = head
        self._known: dict[int, _Presence] = {}
        self._suspicions = []
        for timer_s, ttl_s in pairs:
            suspicion = _Suspicion(self._known)
            suspicion.player = Player(timer_s, ttl_s, rate, suspicion)
            self._suspicions.append(suspicion)

    @property
    def agents(self) -> int:
        """How many were heard."""
        return len(self._known)

    @property
    def players(self) -> list[Player]:
        """One for each pair of settings."""
        return [each.player for each in self._suspicions]

    def play(self, recorded: Recorded, told: Callable[[], None] = lambda: None) -> None:
        """Plays all lines, and calls `told` at each.

        Raises:
            RecordingError: One of them is damaged.
        """
        for line in recorded.lines():
            told()
            while self.players[0].now + TICK_S <= line.at:
                for player in self.players:
                    player.tick()
            if isinstance(line, Heard):
                self._hear(line)
            elif isinstance(line, Done):
                self.outcomes[line.outcome] += 1
                self.calls += line.calls
            elif isinstance(line, Passed):
                self.lost += line.lost
        for suspicion in self._suspicions:
            suspicion.close()

    def _hear(self, line: Heard) -> None:
        known = self._known.setdefault(line.agent, _Presence())
        if known.closed.get(line.session, -1) >= line.incarnation:
            return  # It was in flight when the page said bye.
        if line.type is not BeatType.BYE and line.lease is not None:
            last = known.open.get(line.session)
            for suspicion in self._suspicions:
                suspicion.heard(line, None if last is None else line.at - last)
        agent, session = AgentId("i", f"{line.agent}"), UUID(int=line.session).bytes
        for player in self.players:
            ttl = self._ttl(line, player.figures.ttl_s)
            player.beat(Beat(agent, session, line.type, line.incarnation, line.seq, ttl), line.at)
        if known.open:
            self.present_s += min(PRESENT_S, line.at - known.heard_at)
        if line.type is BeatType.BYE:
            known.open.pop(line.session, None)
            known.closed[line.session] = line.incarnation
        elif line.lease is not None:
            known.open[line.session] = line.at
        known.heard_at = line.at
        known.bye_at = line.at if line.type is BeatType.BYE else None

    def _ttl(self, line: Heard, ttl_s: float) -> float | None:
        if line.type is BeatType.BYE:
            return 0.0
        if line.lease is None:
            return None
        return max(ttl_s, self._head.throttled_ttl_s) if line.lease == "throttled" else ttl_s


def run(
    path: Path,
    timer_s: float | None,
    ttl_s: float | None,
    rate: float | None,
    html: Path | None,
    *,
    as_json: bool = False,
) -> None:
    """Plays a recording and prints what came of it; None takes what was in force when it was made.

    Raises:
        RecordingError: The file cannot be read as a recording.
        WatchdogError: The report cannot be written.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror or error}.") from None
    with file:
        recorded = Recorded(path, file)
        head = recorded.head
        pairs = settings(
            head.timer_s if timer_s is None else timer_s, head.ttl_s if ttl_s is None else ttl_s, head.interval_s
        )
        replay = Replay(head, pairs, head.rate if rate is None else rate)
        with Bar(f"Reading {path.name}", path.stat().st_size) as bar:
            replay.play(recorded, lambda: bar.at(file.tell()))
    hours = replay.present_s / 3_600
    title = f"{path.name}: {replay.agents} agents, {hours:.0f} agent-hours"
    sheet = of_figures(title, [each.figures for each in replay.players], hours, "set while asleep", NOTE)
    done = Sheet(
        f"What the daemon did meanwhile: {replay.calls} calls of Connect",
        ("outcome", "decisions"),
        tuple((outcome, str(number)) for outcome, number in replay.outcomes.most_common()),
        f"{replay.lost} lines could not be recorded." if replay.lost else "",
    )
    console = screen()
    figures = [each.figures for each in replay.players]
    show([sheet, done], console, as_json=as_json, figures=[as_values(each) for each in figures])
    if html is not None:
        write(html, render(f"Timers compared: {title}", figures, [sheet, done], hours))
        if not as_json:
            console.print(f"Report: {html}", soft_wrap=True)
