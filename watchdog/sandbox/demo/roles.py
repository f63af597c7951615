"""What a story is made of: acts, roles, and what the watchdog must do about them. The stories are in `stories.py`."""

from dataclasses import dataclass
from enum import StrEnum

AVAILABLE = "Available"
OFFLINE = "Offline"
AWAY = "Away"
"""Statuses of the instance; Away is a custom one."""

LOGOUT = "logout"
DISMISSED = "dismissed"
"""What the watchdog can do in Connect besides setting a status."""

SERVICE = "Service"
BACK_OFFICE = "Back office"
TRAINING = "Training"
"""Routing profiles: of nearly all agents, of who has a rule of two stages, and of who is left alone."""


class Act(StrEnum):
    """What an agent can do to the page and to the status, and what others can do to the agent."""

    OPEN_TAB = "open a tab"
    CLOSE_TAB = "close the oldest tab, with a bye"
    CRASH = "lose all tabs, without a bye"
    CUT = "lose the network"
    RECONNECT = "have the network again"
    AVAILABLE = "choose the status Available"
    CALL = "take a call"
    CALL_ENDS = "the call is over, and cleared"
    CALL_FAILS = "a call fails, and stays where it is"
    LOG_OUT = "an operator logs the agent out"


class Mark(StrEnum):
    """What the time to a change is counted from."""

    BYE = "the bye"
    SILENCE = "the last beat"
    CALL_END = "the end of the call"
    PAGE = "the new page"
    ORDER = "the order"
    BEFORE = "the change before"


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
class Timing:
    """The settings with which the daemon runs, and how late it may be.

    Attributes:
        margin_s: How much later than its timer a change may be.
        slow_margin_s: The same where Connect is read before, possibly twice: a busy machine, a scarce quota.
        away_s: First stage of the rule with two, from the end of the last session.
        logout_s: Its second stage, the same.
        sign_out_margin_s: How much later than it may be a sign-out may be: the status is read back before, and a
            stand-in that does not show who is Offline has to be asked twice, 10 s apart.
    """

    heartbeat_interval_s: float = 1.0
    session_ttl_s: float = 4.0
    session_end_timer_s: float = 3.0
    resume_grace_s: float = 2.0
    margin_s: float = 1.0
    away_s: float = 1.5
    logout_s: float = 4.0
    slow_margin_s: float = 8.0
    sign_out_margin_s: float = 25.0

    def least_s(self, mark: Mark) -> float:
        """Give the time that an agent has at least, from the end of the last session to Offline."""
        return self.session_end_timer_s + (self.session_ttl_s if mark is Mark.SILENCE else 0.0)

    def most_s(self, mark: Mark) -> float:
        """Give the time after which the agent must be Offline."""
        return self.least_s(mark) + self.margin_s


TIMING = Timing()
"""A tenth of the defaults, about: the whole story has to fit into 50 s."""

SIGN_OUT_AFTER_S = 10.0
"""For which an agent has to be Offline before the daemon ends the sessions. Source: docs/policy.md."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the watchdog must do in Connect.

    Attributes:
        what: The name of the status that is set; or `LOGOUT` or `DISMISSED`.
        since: What its time counts from.
        least_s: Not before that time.
        margin_s: How much later it may be.
    """

    what: str
    since: Mark
    least_s: float = 0.0
    margin_s: float = TIMING.margin_s

    @property
    def most_s(self) -> float:
        """Not after that time."""
        return self.least_s + self.margin_s


@dataclass(frozen=True, slots=True)
class Expectation:
    """How it must end.

    Attributes:
        changes: All that the watchdog must do in Connect, in order; empty: must never be touched.
        history: What the watchdog must tell of it, `intent outcome` each, in order.
        status: In Connect, when the demo ends.
        state: To the watchdog, when the demo ends.
        tabs: How many sessions the agent has then.
        in_force: Since what the status must be in force; None where it is as soon as it is set.
        stopped: How many pages must have been told to stop.
        restart: The daemon is killed between the end of the last session and Offline.
        says: The same in words, at most 33 characters; where it is empty, they are made of the changes.
    """

    changes: tuple[Change, ...] = ()
    history: tuple[str, ...] = ()
    status: str = AVAILABLE
    state: str = "live"
    tabs: int = 1
    in_force: Mark | None = None
    stopped: int = 0
    restart: bool = False
    says: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """A story that one or several agents live through.

    Attributes:
        title: What happens, at most 24 characters.
        starts: For each agent, when the first step is.
        steps: What happens; times count from that start.
        expects: How it must end.
        profile: The agents' routing profile.
    """

    title: str
    starts: tuple[float, ...]
    steps: tuple[Step, ...]
    expects: Expectation
    profile: str = SERVICE


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
