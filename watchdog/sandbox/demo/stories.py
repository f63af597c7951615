"""Who does what, when, and how it must end for them. Values only: `agents.py` acts, `verdict.py` judges.

All times are seconds; those of a step count from the start of the story, at which every agent arrives.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum


class Act(StrEnum):
    """What an agent can do to the page and to the status."""

    OPEN_TAB = "open a tab"
    CLOSE_TAB = "close the oldest tab, with a bye"
    CRASH = "lose all tabs, without a bye"
    CUT = "lose the network"
    RECONNECT = "have the network again"
    AVAILABLE = "choose the status Available"


class Ending(StrEnum):
    """How an agent's last session ends."""

    BYE = "the bye"
    SILENCE = "the last beat"


@dataclass(frozen=True, slots=True)
class Step:
    """One act of an agent.

    Attributes:
        at_s: When.
        act: What.
        says: The same in words, as the table and the lines show it.
        now: What the agent is doing from then on.
    """

    at_s: float
    act: Act
    says: str
    now: str


@dataclass(frozen=True, slots=True)
class Expectation:
    """How it must end.

    Attributes:
        ending: How the last session ends after which the agent must be set Offline; None: must never be touched.
        present: Whether the agent works, and is Available, when the demo ends.
        tabs: How many sessions the agent has then.
        restart: The daemon is killed between the ending and Offline.
    """

    ending: Ending | None = None
    present: bool = True
    tabs: int = 1
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """A story that one or several agents live through.

    Attributes:
        title: What happens, at most 24 characters.
        starts: For each agent, when the first step is.
        steps: What happens; times count from that start.
        expects: How it must end.
    """

    title: str
    starts: tuple[float, ...]
    steps: tuple[Step, ...]
    expects: Expectation


@dataclass(frozen=True, slots=True)
class Role:
    """One agent's part: the steps with their times from the start of the whole story."""

    number: int
    story: Story
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """How the agent is called on the screen."""
        return f"agent-{self.number:02}"


@dataclass(frozen=True, slots=True)
class Timing:
    """The settings with which the daemon runs, and how late it may be."""

    heartbeat_interval_s: float = 1.0
    session_ttl_s: float = 4.0
    session_end_timer_s: float = 3.0
    resume_grace_s: float = 2.0
    margin_s: float = 1.0

    def least_s(self, ending: Ending) -> float:
        """Give the time that the agent has at least, from the ending to Offline."""
        return self.session_end_timer_s + (self.session_ttl_s if ending is Ending.SILENCE else 0.0)

    def most_s(self, ending: Ending) -> float:
        """Give the time after which the agent must be Offline."""
        return self.least_s(ending) + self.margin_s


TIMING = Timing()
"""A tenth of the defaults, about: the whole story has to fit into 45 s."""

KILL_AT_S = 18.0
"""When the daemon is killed. What began before has ended by then, but for one story."""

_UNTOUCHED = Expectation()
_AFTER_BYE = Expectation(Ending.BYE, present=False, tabs=0)
_AFTER_SILENCE = Expectation(Ending.SILENCE, present=False, tabs=0)

_WORKS = "works"
_CLOSED = Step(0, Act.CLOSE_TAB, "closes the tab", "closed the tab")
_OFF = Step(0, Act.CUT, "loses the network", "no network")
_CRASHES = Step(0, Act.CRASH, "the browser crashes", "browser crashed")
_SECOND_TAB = Step(-3, Act.OPEN_TAB, "opens a second tab", "works in two tabs")


STORIES: tuple[Story, ...] = (
    Story("works all the time", (0.0,) * 4, (), _UNTOUCHED),
    Story("closes the tab", (3.5, 5.0), (_CLOSED,), _AFTER_BYE),
    Story(
        "reloads the page",
        (4.5, 10.0),
        (
            Step(0, Act.CLOSE_TAB, "reloads the page", "reloading"),
            Step(1.5, Act.OPEN_TAB, "has loaded the page again", _WORKS),
        ),
        _UNTOUCHED,
    ),
    Story("the browser crashes", (4.0, 7.0), (_CRASHES,), _AFTER_SILENCE),
    Story(
        "closes one of two tabs",
        (6.5, 9.0),
        (_SECOND_TAB, Step(0, Act.CLOSE_TAB, "closes one of two tabs", _WORKS)),
        _UNTOUCHED,
    ),
    Story(
        "closes both tabs",
        (7.0,),
        (
            _SECOND_TAB,
            Step(0, Act.CLOSE_TAB, "closes one of two tabs", _WORKS),
            Step(2.5, Act.CLOSE_TAB, "closes the other tab", "closed both tabs"),
        ),
        _AFTER_BYE,
    ),
    Story(
        "sleeps, back in time",
        (6.0, 9.5),
        (
            Step(0, Act.CUT, "closes the lid", "lid closed"),
            Step(5.3, Act.RECONNECT, "opens the lid inside the timer", _WORKS),
        ),
        _UNTOUCHED,
    ),
    Story(
        "a short network outage",
        (7.5, 11.0),
        (_OFF, Step(2.2, Act.RECONNECT, "has the network again", _WORKS)),
        _UNTOUCHED,
    ),
    Story(
        "a long network outage",
        (4.2,),
        (
            _OFF,
            Step(12.1, Act.RECONNECT, "has the network again", "back, still Offline"),
            Step(13.2, Act.AVAILABLE, "becomes Available again", _WORKS),
        ),
        Expectation(Ending.SILENCE),
    ),
    Story("crashes before the kill", (KILL_AT_S - 1,), (_CRASHES,), replace(_AFTER_SILENCE, restart=True)),
    Story("closes after the kill", (KILL_AT_S + 6.5,), (_CLOSED,), _AFTER_BYE),
)
"""All stories, in the order of the table."""


def cast(stories: tuple[Story, ...] = STORIES) -> tuple[Role, ...]:
    """Give the agents their parts, numbered in the order of the stories."""
    return tuple(Role(number, story, steps) for number, (story, steps) in enumerate(_parts(stories), start=1))


def _parts(stories: tuple[Story, ...]) -> Iterator[tuple[Story, tuple[Step, ...]]]:
    for story in stories:
        for start in story.starts:
            yield story, tuple(Step(start + step.at_s, step.act, step.says, step.now) for step in story.steps)
