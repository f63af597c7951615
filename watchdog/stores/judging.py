"""What the brakes make of what is counted of the agents, in one process or in many. Pure.

Who is counted, and who is held for it, is in `braking.py`; how one group's brake steps in `core/brake.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from watchdog.core import brake as brakes
from watchdog.core.brake import ALL, WINDOWS_S, Brake, BrakeRules, Exit, Order, Reading, State
from watchdog.core.model import Epoch, Running
from watchdog.stores.presence import MICRO

NEVER_TRIPS = BrakeRules(fraction=1.0, min_agents=sys.maxsize)
"""In place of rules that there are not: an operator's order works all the same."""

CLEAR = Brake()


@dataclass(slots=True)
class Tally:
    """What is counted of an instance's agents, or of all.

    Attributes:
        within: For each window, how many quiet agents had a lease within it. Released ones do not count.
        held: How many are held.
        longest_s: The longest time for which one of them is held, in running seconds.
        most: For each window, the most agents that had a lease at a time.
        awake: Agents who have a lease and are not quiet.
        pace: Micro-beats a second that those owe at least.
    """

    within: list[int] = field(default_factory=lambda: [0] * len(WINDOWS_S))
    held: int = 0
    longest_s: float = 0.0
    most: list[int] = field(default_factory=lambda: [0] * len(WINDOWS_S))
    awake: int = 0
    pace: int = 0

    def add_quiet(self, other: Tally) -> None:
        """Adds the quiet ones of another."""
        self.within = [ours + theirs for ours, theirs in zip(self.within, other.within, strict=True)]
        self.held += other.held
        self.longest_s = max(self.longest_s, other.longest_s)

    def add(self, other: Tally) -> None:
        """Adds another, of other agents."""
        self.add_quiet(other)
        self.most = [ours + theirs for ours, theirs in zip(self.most, other.most, strict=True)]
        self.awake += other.awake
        self.pace += other.pace


class Judged(NamedTuple):
    """What the brakes say.

    Attributes:
        brakes: By group, those that are not clear now.
        readings: What was counted of each group that was stepped.
        leaving: How those who are held in each of those groups leave, if they do.
    """

    brakes: dict[str, Brake]
    readings: dict[str, Reading]
    leaving: dict[str, Exit]


def judge(
    before: Mapping[str, Brake],
    orders: Mapping[str, Order],
    tallies: Mapping[str, Tally],
    beats: Mapping[str, int],
    rules: BrakeRules | None,
    running: Running,
    at: Epoch,
    step_s: float,
) -> Judged:
    """Steps all brakes.

    Args:
        before: Those that are not clear, by group.
        orders: Of operators, by group.
        tallies: By instance, of each that has ever had an agent with a lease; and of all together.
        beats: That left a lease since the last step, by instance.
        rules: When silence counts as a fault; None for never.
        running: Now.
        at: The wall clock, for people.
        step_s: Running seconds since the last step.
    """
    after, readings, leaving = dict(before), dict[str, Reading](), dict[str, Exit]()
    for group in _groups(before, orders, tallies, rules):
        reading = readings[group] = _reading(group, after, tallies, beats)
        brake, leaving[group] = brakes.step(
            before.get(group, CLEAR),
            reading,
            orders.get(group, orders.get(ALL)),
            rules or NEVER_TRIPS,
            running,
            at,
            step_s,
        )
        if brake.state is State.CLEAR:
            after.pop(group, None)
        else:
            after[group] = brake
    return Judged(after, readings, leaving)


def _groups(
    before: Mapping[str, Brake], orders: Mapping[str, Order], tallies: Mapping[str, Tally], rules: BrakeRules | None
) -> list[str]:
    """The groups to step, that of all last: it has the agents of instances whose own group is clear."""
    own = {group for group in (*before, *orders) if group != ALL}
    if rules is not None and ALL not in orders and len(tallies.keys() - {ALL}) > 1:
        # A smaller silence cannot trip.
        own |= {each for each, found in tallies.items() if each != ALL and max(found.within) >= rules.min_agents}
    wanted = rules is not None or ALL in before or ALL in orders
    return [*sorted(own), *([ALL] if wanted else [])]


def _reading(group: str, after: Mapping[str, Brake], tallies: Mapping[str, Tally], beats: Mapping[str, int]) -> Reading:
    everybody = tallies.get(ALL, Tally())
    if group != ALL:
        found, heard = tallies.get(group, Tally()), beats.get(group, 0)
    else:
        apart = {each for each in after if each != ALL}
        found, heard = everybody, sum(number for each, number in beats.items() if each not in apart)
        if apart:
            found = Tally()
            for instance_id in tallies.keys() - apart - {ALL}:
                found.add(tallies[instance_id])
    return Reading(
        quiet=tuple(found.within),
        baseline=tuple(found.most),
        awake=found.awake,
        pace=found.pace / MICRO,
        beats=heard,
        others=everybody.awake - found.awake,
        held=found.held,
        longest_s=found.longest_s,
    )
