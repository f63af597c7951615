"""The live table: every agent's doing, the daemon's state of it, and its status in Connect."""

from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from watchdog.sandbox.demo.roles import AVAILABLE, AWAY, OFFLINE
from watchdog.sandbox.demo.stage import Stage
from watchdog.sandbox.demo.watching import Seen

WIDE = 95
"""Columns from which there is room for every agent's story."""

FRAMES_PER_S = 4

BAR = 8
"""Characters of a timer's bar."""

_STATES = {"live": "green", "grace": "yellow", "due": "bold yellow", "away": "red"}
_STATUSES = {AVAILABLE: "green", AWAY: "yellow", OFFLINE: "red"}


class Screen:
    """The table on the whole terminal, until the story is over."""

    def __init__(self, stage: Stage, console: Console) -> None:
        """Show this stage there."""
        self._stage = stage
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        """Take over the terminal."""
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back as it was."""
        self._live.__exit__(None, None, None)

    def refresh(self) -> None:
        """Draw it anew."""
        width, height = self._console.size
        self._live.update(draw(self._stage, width, height), refresh=True)


def draw(stage: Stage, width: int, height: int) -> RenderableType:
    """Draw the whole screen; whatever has room of header, all agents and the latest events, in this order."""
    head = [_headline(stage)]
    room = height - len(stage.agents) - len(head) - 1
    if room > 1:
        head.append(_rule(stage))
        room -= 1
    if room > 5:  # noqa: PLR2004  # a line of air above and below the table, and three events
        head.append(Text())
        room -= 1
    events = [event.text() for event in stage.events[-room:]] if room > 0 else []
    if events and room > len(head) + 1:
        events = [Text(), *events[-(room - 1) :]]
    for line in (*head, *events):
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*head, _table(stage, wide=width >= WIDE), *events)


def _headline(stage: Stage) -> Text:
    """Say in a line how things are."""
    line = Text.assemble((" Connect Presence Watchdog ", "bold reverse"), f" {stage.at_s:3.0f} s  ")
    if not stage.alive:
        return line.append("killed (kill -9), starting again", "bold red")
    daemon = stage.snapshot.daemon if stage.snapshot else None
    if daemon is None:
        return line.append("starting", "yellow")
    numbers = daemon["agents"]
    line.append(f"{numbers.get('live', 0)} live", "green").append(" · ")
    line.append(f"{numbers.get('grace', 0) + numbers.get('due', 0)} in the timer", "yellow").append(" · ")
    line.append(f"{numbers.get('away', 0)} set Offline", "red")
    if (daemon["clock"] or {}).get("standing"):
        line.append(" · its clock stands", "cyan")
    return line


def _rule(stage: Stage) -> Text:
    """Say what the daemon is there for, with the numbers of this demo."""
    timing = stage.timing
    text = (
        f" A session ends {timing.session_ttl_s:g} s after its last heartbeat, or at its bye. "
        f"{timing.session_end_timer_s:g} s without one: Offline."
    )
    return Text(text, style="dim")


def _table(stage: Stage, *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", expand=False)
    table.add_column("Agent", width=8, no_wrap=True)
    if wide:
        table.add_column("Story", width=24, no_wrap=True)
    table.add_column("What the agent does", width=19, no_wrap=True)
    table.add_column("Tabs", width=4, no_wrap=True)
    table.add_column("Watchdog", width=18, no_wrap=True)
    table.add_column("Connect", width=9, no_wrap=True)
    for agent in stage.agents:
        seen = stage.snapshot.agents.get(agent.user_id) if stage.snapshot else None
        story = (Text(agent.role.story.title, "dim"),) if wide else ()
        table.add_row(agent.role.name, *story, agent.now, "▪" * agent.tabs, *_states(stage, seen))
    return table


def _states(stage: Stage, seen: Seen | None) -> tuple[Text, Text]:
    """Give the daemon's state of an agent, with the timer as a bar, and the status in Connect."""
    if seen is None:
        return Text(), Text()
    status = Text(seen.status, _STATUSES.get(seen.status, ""))
    if not stage.alive:
        return Text("–", "dim"), status
    if seen.state == "grace" and seen.due_in_s is not None:
        return _timer(max(0.0, seen.due_in_s), stage.timing.session_end_timer_s), status
    if seen.next_status is not None:
        status = Text(f"→ {seen.next_status}", "yellow")
    if seen.state == "due" and (seen.status != AVAILABLE or seen.next_status is not None):
        return Text("reading back", "red"), status
    words = {"away": "signed out" if seen.sessions_ended else "set Offline", "gone": "left alone", None: "–"}
    return Text(words.get(seen.state, seen.state or ""), _STATES.get(seen.state or "", "dim")), status


def _timer(left_s: float, whole_s: float) -> Text:
    full = min(BAR, round(BAR * left_s / whole_s))
    return Text.assemble(("timer ", "yellow"), ("━" * full, "yellow"), ("━" * (BAR - full), "dim"), f"{left_s:4.1f}")
