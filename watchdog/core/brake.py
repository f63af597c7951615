"""The brake: whether so many agents fell silent at once that the fault is rather between them and us.

One `Brake` for each group of agents that may share a fault: all of them, or those of one instance. A group is a text,
so that there can be other kinds. Each tick the store counts (`Reading`) and `step` tells in which state the group is
and, when it leaves a hold, how the agents leave it. All transitions are in `TRANSITIONS`.

*Quiet* is an agent none of whose open sessions had a beat for 60 % of its TTL, and one that ran out in that way; one
that said bye is not. Pure functions of values; which agents they are is the store's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto

from watchdog.core.model import Epoch, Running

ALL = "all"
"""The group of all agents whose instance is not in a state of its own; an instance's group is the instance's id."""

WINDOWS_S = (60.0, 600.0)
"""Observed seconds over which silence is counted: a fault that strikes at once, and one that creeps."""

CALM_TICKS = 5
"""Ticks in a row below the threshold before a hold may end, so that one agent more or less does not make it flutter."""

PROOF_S = 60.0
"""Running seconds for which beats must come in as they should before the path counts as proven."""

PROOF_BEATS = 2
"""Least beats in that time: one alone may have been on its way."""

MOST_CREDIT_S = 90.0
"""Most time without a beat that a proof survives; otherwise that after which a usual agent would be quiet. After an
outage many beat at the same moment, so it must be longer than the interval. A hidden page is quiet after 90 s."""

SILENCE_S = 120.0
"""Running seconds for which total silence alone holds, however few the agents are."""

SILENCE_AGENTS = 2
"""Least agents that make a total silence: a single agent who is silent is a ghost like any other."""

SPARE_S = 3.0
"""Observed seconds by which a lease that activity in Connect gave must go on, or its silent agent is held. Longer than
any time between two looks of the brake, so that nobody is due before it is held anew."""

UNPROVEN = 4
"""Times BRAKE_MAX_HOLD after which agents are let go though nothing has proven the path."""


@dataclass(frozen=True, slots=True)
class BrakeRules:
    """When to hold and for how long.

    Attributes:
        fraction: Least share of a group's agents that are quiet (BRAKE_FRACTION).
        min_agents: Least number of them (BRAKE_MIN_AGENTS).
        max_hold_s: Running seconds for which an agent is held, over all holds until it is heard (BRAKE_MAX_HOLD).
    """

    fraction: float = 0.3
    min_agents: int = 5
    max_hold_s: float = 900.0


class State(StrEnum):
    """Where a group stands."""

    CLEAR = "clear"
    """Nobody is held."""
    LISTENING = "listening"
    """Everybody is silent, too few for a mass: held for `SILENCE_S` at most."""
    HOLDING = "holding"
    """A mass silence."""
    ALARM = "alarm"
    """The same, for longer than BRAKE_MAX_HOLD and without proof of the path."""
    ORDERED = "ordered"
    """An operator holds."""
    OVERRULED = "overruled"
    """An operator has released: nothing trips."""


HOLDS = frozenset({State.LISTENING, State.HOLDING, State.ALARM, State.ORDERED})
"""States in which the quiet agents of the group are held."""


class Event(Enum):
    """What a tick found; in each state the first that applies counts."""

    ORDER_HOLD = auto()
    """An operator's order to hold is in force."""
    ORDER_RELEASE = auto()
    """An operator's order to release is in force."""
    ORDER_OVER_MANY = auto()
    """The order is over, and as many agents are held as would trip the brake."""
    ORDER_OVER = auto()
    """The order is over otherwise."""
    MASS = auto()
    """The level is reached in one of the windows."""
    SILENCE = auto()
    """Nobody is heard, and at least two fell silent."""
    TIME_UP = auto()
    """A total silence was held for as long as it may."""
    PROVEN = auto()
    """The path is proven and nobody else falls silent: calm in the shorter window."""
    EMPTY = auto()
    """Nobody is held any more, and the level is not reached."""
    OVERDUE = auto()
    """Somebody is held for longer than BRAKE_MAX_HOLD without proof of the path."""


class Exit(StrEnum):
    """How those still held leave when the group leaves a hold."""

    STAY = "stay"
    """They do not."""
    FRESH = "fresh"
    """With a fresh lease and a fresh timer: whoever is there can say so."""
    DUE = "due"
    """With the deadline that they had."""


TRANSITIONS: dict[tuple[State, Event], tuple[State, Exit]] = {
    (State.CLEAR, Event.MASS): (State.HOLDING, Exit.STAY),
    (State.CLEAR, Event.SILENCE): (State.LISTENING, Exit.STAY),
    (State.LISTENING, Event.MASS): (State.HOLDING, Exit.STAY),
    (State.LISTENING, Event.TIME_UP): (State.CLEAR, Exit.DUE),
    (State.LISTENING, Event.PROVEN): (State.CLEAR, Exit.FRESH),
    (State.LISTENING, Event.EMPTY): (State.CLEAR, Exit.STAY),
    (State.HOLDING, Event.PROVEN): (State.CLEAR, Exit.FRESH),
    (State.HOLDING, Event.EMPTY): (State.CLEAR, Exit.STAY),
    (State.HOLDING, Event.OVERDUE): (State.ALARM, Exit.STAY),
    (State.ALARM, Event.PROVEN): (State.CLEAR, Exit.FRESH),
    (State.ALARM, Event.EMPTY): (State.CLEAR, Exit.STAY),
    (State.ORDERED, Event.ORDER_OVER_MANY): (State.HOLDING, Exit.STAY),
    (State.ORDERED, Event.ORDER_OVER): (State.CLEAR, Exit.FRESH),
    (State.OVERRULED, Event.ORDER_OVER_MANY): (State.CLEAR, Exit.STAY),
    (State.OVERRULED, Event.ORDER_OVER): (State.CLEAR, Exit.STAY),
    **{(state, Event.ORDER_HOLD): (State.ORDERED, Exit.STAY) for state in State if state is not State.ORDERED},
    **{(state, Event.ORDER_RELEASE): (State.OVERRULED, Exit.DUE) for state in State if state is not State.OVERRULED},
}
"""Every change of state. What is not here changes nothing. A hold is left by being proven, empty, over or overruled."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator wants of a group, until it expires.

    Attributes:
        hold: True holds, False releases and keeps the brake from tripping.
        group: `ALL`, or an instance's id.
        until: Running time at which it is over.
        reason: The operator's words; may be empty.
        by: Who the operator is; empty where nobody has said so.
    """

    hold: bool
    group: str
    until: Running
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """How much silence there is in one window.

    Attributes:
        window_s: The window.
        quiet: Agents who are quiet now and had a lease within the window.
        baseline: Most agents that had a lease at a time within it, those who said bye since included.
        threshold: Least number of quiet ones that trips.
    """

    window_s: float
    quiet: int
    baseline: int
    threshold: int

    @property
    def reached(self) -> bool:
        """Whether it trips."""
        return self.quiet >= self.threshold


@dataclass(frozen=True, slots=True)
class Reading:
    """What the store counted of a group at one tick.

    Attributes:
        quiet: For each window, how many quiet agents had a lease within it. Released ones do not count.
        baseline: For each window, the most agents that had a lease at a time.
        awake: Agents who have a lease and are not quiet.
        pace: Beats a second that those owe at least: one in the time after which they would be quiet.
        beats: Beats that renewed a lease since the last tick; counted while the group holds.
        others: Agents of other groups who are awake.
        held: How many are held.
        longest_s: The longest time for which one of them is held, in running seconds.
    """

    quiet: tuple[int, ...] = (0,) * len(WINDOWS_S)
    baseline: tuple[int, ...] = (0,) * len(WINDOWS_S)
    awake: int = 0
    pace: float = 0.0
    beats: int = 0
    others: int = 0
    held: int = 0
    longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether beats come in as they should.

    Attributes:
        credit_s: Seconds for which the beats so far are enough.
        lasts_s: For so long they have been enough without a break.
        beats: How many there were in that time.
        proven_at: When the path was proven last; None for not in this hold.
    """

    credit_s: float = 0.0
    lasts_s: float = 0.0
    beats: int = 0
    proven_at: Running | None = None

    def listen(self, reading: Reading, step_s: float, running: Running) -> Proof:
        """The proof after one tick more.

        Each agent that is awake owes one beat in the time after which it would be quiet, which is about half of what
        it sends. A beat pays for the group's next while; when nothing is left the proof begins anew.
        """
        credit_s = self.credit_s
        if reading.beats and reading.pace > 0:
            most_s = min(MOST_CREDIT_S, reading.awake / reading.pace)
            credit_s = min(most_s, credit_s + reading.beats / reading.pace)
        credit_s -= step_s
        if credit_s <= 0:
            return Proof(proven_at=self.proven_at)
        lasts_s, beats = self.lasts_s + step_s, self.beats + reading.beats
        proven = lasts_s >= PROOF_S and beats >= PROOF_BEATS
        return Proof(credit_s, lasts_s, beats, running if proven else self.proven_at)

    def is_new(self, running: Running) -> bool:
        """Whether the path was proven in the last minute."""
        return self.proven_at is not None and running - self.proven_at <= PROOF_S


@dataclass(frozen=True, slots=True)
class Brake:
    """The brake of one group.

    Attributes:
        state: Where it stands.
        since: Running time at which it came out of `CLEAR`.
        at: The same on the wall clock, for people.
        level: What tripped it; None for an order.
        calm: Ticks in a row in which the level of the shorter window was not reached.
        proof: Of the path, since then.
        order: The operator's, in `ORDERED` and `OVERRULED`.
    """

    state: State = State.CLEAR
    since: Running = Running(0.0)
    at: Epoch = Epoch(0.0)
    level: Level | None = None
    calm: int = 0
    proof: Proof = field(default_factory=Proof)
    order: Order | None = None

    def limit_s(self, rules: BrakeRules, running: Running) -> float:
        """For how long an agent may be held: BRAKE_MAX_HOLD, or four times that while the path is not proven."""
        if self.state not in (State.HOLDING, State.ALARM):
            return math.inf
        return rules.max_hold_s * (1 if self.proof.is_new(running) else UNPROVEN)


def levels(reading: Reading, rules: BrakeRules) -> tuple[Level, ...]:
    """The level in each window."""
    return tuple(
        Level(window_s, quiet, baseline, threshold(baseline, rules))
        for window_s, quiet, baseline in zip(WINDOWS_S, reading.quiet, reading.baseline, strict=True)
    )


def threshold(baseline: int, rules: BrakeRules) -> int:
    """Least number of quiet agents that trips, of so many."""
    rounding = 1e-9  # 0.3 × 10 is a little more than 3
    return max(rules.min_agents, math.ceil(rules.fraction * baseline - rounding))


def step(
    brake: Brake, reading: Reading, order: Order | None, rules: BrakeRules, running: Running, at: Epoch, step_s: float
) -> tuple[Brake, Exit]:
    """One tick of one group.

    Args:
        brake: After the last tick.
        reading: What is counted now.
        order: What an operator wants of this group now, or None.
        rules: Of the settings.
        running: Now.
        at: Now, on the wall clock.
        step_s: Running seconds since the last tick.

    Returns:
        The brake now, and how those who are held leave, if they do.
    """
    found = levels(reading, rules)
    calm = 0 if found[0].reached else brake.calm + 1
    proof = brake.proof.listen(reading, step_s, running) if brake.state in HOLDS else Proof()
    brake = replace(brake, calm=calm, proof=proof, order=order)
    event = _event(brake, found, reading, rules, running)
    if event is None or (brake.state, event) not in TRANSITIONS:
        return brake, Exit.STAY
    state, leaving = TRANSITIONS[brake.state, event]
    if state is State.CLEAR:
        return Brake(), leaving
    if brake.state is State.CLEAR:
        brake = replace(brake, since=running, at=at, calm=0, proof=Proof())
    if event in (Event.MASS, Event.SILENCE):
        tripping = next((level for level in found if level.reached), found[0])
        brake = replace(brake, level=tripping, since=running, at=at)
    return replace(brake, state=state), leaving


def _event(
    brake: Brake, found: tuple[Level, ...], reading: Reading, rules: BrakeRules, running: Running
) -> Event | None:
    if brake.order is not None:
        return Event.ORDER_HOLD if brake.order.hold else Event.ORDER_RELEASE
    reached = any(level.reached for level in found)
    match brake.state:
        case State.ORDERED | State.OVERRULED:
            return Event.ORDER_OVER_MANY if reading.held >= rules.min_agents else Event.ORDER_OVER
        case State.CLEAR | State.LISTENING if reached:
            return Event.MASS
        case State.CLEAR:
            heard = reading.awake + reading.others > 0
            return Event.SILENCE if not heard and reading.quiet[0] >= SILENCE_AGENTS else None
        case State.LISTENING if running - brake.since >= SILENCE_S:
            return Event.TIME_UP
    if brake.calm >= CALM_TICKS:
        if brake.proof.proven_at == running:
            return Event.PROVEN
        if reading.held == 0 and not reached:
            return Event.EMPTY
    if brake.state is State.HOLDING and reading.longest_s >= rules.max_hold_s and not brake.proof.is_new(running):
        return Event.OVERDUE
    return None
