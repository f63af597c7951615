"""Checking: random small worlds against the invariants, and the replay of one."""

from __future__ import annotations

import time

from rich.console import Console

from watchdog.simulation.plan import draw
from watchdog.simulation.world import Result, play


def check(first: int, seeds: int) -> int:
    """Plays worlds and prints what was violated.

    Args:
        first: The first seed.
        seeds: How many.

    Returns:
        The exit code: 1 when any promise was not kept.
    """
    console = Console(highlight=False, soft_wrap=True)
    began, virtual_s, writes, bad = time.monotonic(), 0.0, 0, 0
    for seed in range(first, first + seeds):
        result = play(draw(seed))
        virtual_s += result.virtual_s
        writes += result.writes
        bad += bool(result.violations)
        for violation in result.violations:
            console.print(str(violation), markup=False)
    took_s = time.monotonic() - began
    console.print(
        f"{seeds} worlds from seed {first}, {virtual_s / 3600:.1f} virtual hours in {took_s:.0f} s, "
        f"{writes} effective changes: {bad or 'no'} worlds with violations"
    )
    return 1 if bad else 0


def replay(seed: int) -> int:
    """Plays one world and prints its transcript as it goes, then what was violated.

    Returns:
        The exit code: 1 when any promise was not kept.
    """
    console = Console(highlight=False, soft_wrap=True)

    def show(line: str) -> None:
        console.print(line, markup=False)

    plan = draw(seed)
    console.print(
        f"seed {seed}: {len(plan.habits)} people, {plan.minutes:.0f} min, loss {plan.loss:.0%}, "
        f"timer {plan.timers.session_end_timer:g} s, TTL {plan.timers.session_ttl:g} s, "
        f"{len(plan.stories)} faults"
    )
    result: Result = play(plan, show)
    for violation in result.violations:
        console.print(str(violation), markup=False)
    console.print(f"transcript {result.digest}, {result.lines} lines")
    return 1 if result.violations else 0
