"""What a seed draws: how many people, their sites and habits, how long, and which faults when."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from watchdog.core.brake import BrakeRules
from watchdog.core.policy import PREVIOUS
from watchdog.loops import FLUSH_S, SWEEP_S
from watchdog.simulation.faults import MASS, STORIES, Story
from watchdog.simulation.people import Habits
from watchdog.simulation.process import Timers
from watchdog.simulation.replica_faults import BETWEEN_DAEMONS, LOOP_S, REPLICA_STORIES, UNEXCUSED

if TYPE_CHECKING:
    from collections.abc import Mapping

BETWEEN = 0.3
"""Part of the worlds of several daemons in which it goes wrong between them in addition."""

LOOPS = 0.02
"""Part of them in which a daemon dies again and again: they last longer."""

SMALL_SITE = 0.2
"""Part of the people at the site that may be cut off: below the brake's fraction."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Several daemons over one Valkey server.

    Attributes:
        daemons: How many run at the start, and in the end.
        machines: How many there may be.
        shards: In how many parts the agents are.
        offset_s: By how much the server's clock is ahead of the wall clock.
        drift: By what part it goes faster than the machines' clocks.
    """

    daemons: int
    machines: int
    shards: int
    offset_s: float = 0.0
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A world before it begins.

    Attributes:
        seed: What it was drawn from.
        minutes: How long people and faults go on.
        habits: One for each person.
        cut_off: How many of them, from the first on, are at the smaller site.
        loss: Of requests, all the time.
        stories: Faults: when each begins, in seconds, and what it is.
        timers: The settings.
        lists_offline: Connect shows users who are Offline.
        replicas: None for a single daemon over a file.
    """

    seed: int
    minutes: float
    habits: tuple[Habits, ...]
    cut_off: int
    loss: float
    stories: tuple[tuple[float, Story], ...]
    timers: Timers
    lists_offline: bool
    replicas: Replicas | None = None


def _brake(rng: random.Random) -> BrakeRules | None:
    """None in some worlds: a brake that holds hides what the other guards are for."""
    if rng.random() < 0.4:
        return None
    return BrakeRules(
        fraction=rng.choice((0.2, 0.3, 0.3, 0.5)),
        min_agents=rng.choice((2, 3, 5, 5)),
        max_hold_s=rng.choice((40.0, 60.0, 120.0, 200.0)),
    )


def draw(seed: int) -> Plan:
    """Draws a small world. The same seed draws the same one.

    Faults that silence many at once are among the stories only where a brake holds.
    """
    rng = random.Random(f"plan/{seed}")
    agents = int(rng.triangular(6, 31, 6))
    minutes = rng.choice((3, 4, 4, 5, 5, 6, 6, 8, 10, 15, 25))
    habits = tuple(
        Habits(
            main_driver=rng.random() < 0.15,
            replayed=rng.random() < 0.15,
            late=rng.random() < 0.15,
            between_s=rng.choice((30.0, 90.0, 240.0)),
        )
        for _ in range(agents)
    )
    # Drawn by itself, so that the rest of a world is as it would be without.
    coming = random.Random(f"return/{seed}")
    initial = coming.choice((None, PREVIOUS, "Available"))
    habits = tuple(replace(each, waits=initial is not None and coming.random() < 0.5) for each in habits)
    log_out = coming.random() < 0.25
    brake = _brake(rng)
    weights = {**STORIES, **(MASS if brake else {})}
    stories = _stories(rng, weights, 0.0, minutes * 60)
    # The daemon's own pace in some; a slower one in most, which lets a world cost half.
    flush, sweep = rng.choice(((FLUSH_S, SWEEP_S), (0.5, 1.0), (0.5, 1.0), (0.5, 1.0)))
    timers = Timers(
        session_end_timer=rng.choice((5.0, 5.0, 5.0, 2.0, 20.0)),
        session_ttl=rng.choice((35.0, 35.0, 30.0, 60.0)),
        brake=brake,
        flush=flush,
        sweep=sweep,
        initial=initial,
        log_out=log_out,
    )
    return Plan(
        seed=seed,
        minutes=minutes,
        habits=habits,
        cut_off=min(4, int(agents * SMALL_SITE)),
        loss=rng.choice((0.0, 0.0, 0.01, 0.03)),
        stories=tuple(each for each in stories if each[0] < minutes * 60),
        timers=timers,
        lists_offline=rng.random() < 0.3,
    )


def _stories(
    rng: random.Random, weights: Mapping[Story, int], begin_s: float, end_s: float
) -> list[tuple[float, Story]]:
    """Some kinds of faults, and when each is: from `begin_s` on, the last one after `end_s`."""
    kinds = rng.sample(list(weights), k=min(len(weights), rng.randint(2, 5)), counts=list(weights.values()))
    stories: list[tuple[float, Story]] = []
    # Without any fault every bound on detection is as short as it can be.
    at = end_s if rng.random() < 0.1 else begin_s
    while at < end_s:
        at += rng.expovariate(1 / rng.choice((40.0, 80.0, 200.0)))
        stories.append((at, rng.choice(kinds)))
    return stories


def draw_replicas(seed: int) -> Plan:
    """Draws a world of several daemons. Its people and settings are those of the seed's world of one."""
    plan, rng = draw(seed), random.Random(f"replicas/{seed}")
    daemons = rng.choice((2, 2, 3, 3, 4))
    replicas = Replicas(
        daemons,
        machines=daemons + 1,
        shards=rng.choice((2, 4, 6)),
        offset_s=rng.choice((0.0, -3_600.0, 7.0, 86_400.0)),
        drift=rng.uniform(-0.01, 0.01),
    )
    minutes = min(plan.minutes, rng.choice((3, 4, 5, 6, 10)))
    # Whoever ticks only every second is taken for one that stops.
    flush, sweep = rng.choice(((FLUSH_S, SWEEP_S), (0.5, 0.5), (0.5, 0.5)))
    weights = {**REPLICA_STORIES, **(MASS if plan.timers.brake else {})}
    stories = _stories(rng, weights, 20.0, minutes * 60)
    # Drawn by itself, so that the rest of a world is as it would be without.
    more = random.Random(f"between/{seed}")
    if more.random() < BETWEEN:
        stories.append((more.uniform(40.0, minutes * 60), more.choice(BETWEEN_DAEMONS)))
    loops = random.Random(f"loops/{seed}")
    if loops.random() < LOOPS:
        stories = [each for each in stories if each[0] < minutes * 60]
        stories.append((loops.uniform(40.0, 100.0), loops.choice(UNEXCUSED)))
        minutes = max(minutes, (stories[-1][0] + LOOP_S) / 60)
    return replace(
        plan,
        minutes=minutes,
        stories=tuple(sorted((each for each in stories if each[0] < minutes * 60), key=lambda each: each[0])),
        timers=replace(plan.timers, flush=flush, sweep=sweep),
        replicas=replicas,
    )
