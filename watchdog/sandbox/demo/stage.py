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
from watchdog.sandbox.demo.roles import AVAILABLE, OFFLINE, Mark, Timing
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
    if new.next_status is not None and new.next_status != old.next_status:
        news.append((f"still holds a contact: {new.next_status} is the next status", "red"))
    if new.status != old.status:
        news += _status_news(old, new, agent, ledger)
    if new.sessions_ended > old.sessions_ended:
        news.append(("is signed out: all sessions in Connect are ended", "red"))
    if new.state == "gone" and old.state in ("grace", "due"):
        news.append(("is left alone: no rule is for the routing profile", "yellow"))
    if new.state == "away" and old.state in ("grace", "due") and not new.sessions_ended:
        will = f"will be {new.next_status}" if new.next_status is not None else f"is {new.status}"
        news.append((f"{will}: Connect was read back", "red"))
    return news


def _status_news(old: Seen, new: Seen, agent: Agent, ledger: Ledger) -> list[tuple[str, str]]:
    if new.status == OFFLINE and old.next_status == OFFLINE:
        return [("is Offline: the contact is gone", "red")]
    if new.status == OFFLINE:
        return [(_set_offline(agent, ledger), "red")]
    if new.status == AVAILABLE:
        written = any(write.ok and write.what == AVAILABLE for write in ledger.writes.get(agent.user_id, ()))
        return [("is set Available again by the watchdog", "green")] if written else []
    return [(f"is set {new.status} by the watchdog", "yellow")]


def _set_offline(agent: Agent, ledger: Ledger) -> str:
    sets = ledger.set_offline(agent.user_id)
    ends = (Mark.BYE, Mark.SILENCE, Mark.ORDER)
    since = [each for each in agent.moments if each.mark in ends and sets and each.at <= sets[-1]]
    if not since:
        return "is set Offline by the watchdog"
    return f"is set Offline, {sets[-1] - since[-1].at:.1f} s after {since[-1].mark}"


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
