"""What is shown: the events so far and the state of everything, and the two ways to show it.

`Stage` is filled by the play. `Lines` prints each event as it happens, for pipes and logs; `screen.py` draws the table.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from rich.console import Console
from rich.text import Text

from watchdog.sandbox.demo.agents import Agent
from watchdog.sandbox.demo.stories import Timing
from watchdog.sandbox.demo.verdict import AVAILABLE, OFFLINE
from watchdog.sandbox.demo.watching import Ledger, Seen, Snapshot

WATCHDOG = "watchdog"
"""Who did it, where it was no agent."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        at_s: Since the start of the story.
        who: An agent's name, or `WATCHDOG`.
        what: In words, the predicate of a sentence.
        style: How it is coloured.
    """

    at_s: float
    who: str
    what: str
    style: str = ""

    def text(self) -> Text:
        """Give it as a line."""
        return Text.assemble((f"{self.at_s:5.1f} s  ", "dim"), (f"{self.who:<9} ", "bold"), (self.what, self.style))


@dataclass(slots=True)
class Stage:
    """The state of the demo.

    Attributes:
        timing: The daemon's settings.
        agents: In the order of the table.
        snapshot: What was seen last; None before the first look.
        events: Oldest first.
        alive: Whether there is a daemon.
        started_at: Monotonic seconds.
        listener: Told of each event at once; None if nobody wants to know.
    """

    timing: Timing
    agents: Sequence[Agent] = ()
    snapshot: Snapshot | None = None
    events: list[Event] = field(default_factory=list)
    alive: bool = True
    started_at: float = field(default_factory=time.monotonic)
    listener: Callable[[Event], None] | None = None

    @property
    def at_s(self) -> float:
        """Seconds since the start of the story."""
        return time.monotonic() - self.started_at

    def tell(self, who: str, what: str, style: str = "") -> None:
        """Add an event of now."""
        event = Event(self.at_s, who, what, style)
        self.events.append(event)
        if self.listener is not None:
            self.listener(event)

    def show(self, snapshot: Snapshot, ledger: Ledger) -> None:
        """Take over what was seen, and tell what is new in it."""
        before, self.snapshot = self.snapshot, snapshot
        if before is None:
            return
        for agent in self.agents:
            old, new = before.agents[agent.user_id], snapshot.agents[agent.user_id]
            for what, style in _news(old, new, agent, ledger):
                self.tell(agent.role.name, what, style)


def _news(old: Seen, new: Seen, agent: Agent, ledger: Ledger) -> list[tuple[str, str]]:
    """Tell what changed for an agent that did not do it by itself."""
    news = []
    if new.state == "grace" and old.state == "live":
        news.append(("has no session left: the timer runs", "yellow"))
    if new.state == "live" and old.state in ("grace", "due"):
        news.append(("is seen again: the timer is off", "green"))
    if new.status == OFFLINE and old.status == AVAILABLE:
        news.append((_set_offline(agent, ledger), "red"))
    if new.state == "away" and old.state in ("grace", "due"):
        news.append(("is Offline: Connect was read back, all done", "red"))
    return news


def _set_offline(agent: Agent, ledger: Ledger) -> str:
    sets = ledger.set_offline(agent.user_id)
    gone = [each for each in agent.gone if sets and each.at <= sets[-1]]
    if not gone:
        return "is set Offline by the watchdog"
    return f"is set Offline, {sets[-1] - gone[-1].at:.1f} s after {gone[-1].ending}"


class Show(Protocol):
    """A way to show a stage; a context manager around the story."""

    def __enter__(self) -> object:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End; what comes after is printed below."""

    def refresh(self) -> None:
        """Show what is true now; called a few times a second."""


class Lines:
    """One line for each event, without cursor codes."""

    def __init__(self, stage: Stage, console: Console) -> None:
        """Show this stage there."""
        self._stage = stage
        self._console = console

    def __enter__(self) -> Self:
        """Print events from now on."""
        self._stage.listener = lambda event: self._console.print(event.text(), soft_wrap=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Print no more of them."""
        self._stage.listener = None

    def refresh(self) -> None:
        """Nothing to do: events come by themselves."""
