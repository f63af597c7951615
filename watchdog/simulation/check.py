"""Checking: random small worlds against the invariants, and the replay of one."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator

from rich.console import Console

from watchdog.simulation.plan import draw
from watchdog.simulation.world import Result, play


def check(first: int, seeds: int, jobs: int | None = None) -> int:
    """Plays worlds and prints what was violated, in the order of their seeds.

    Args:
        first: The first seed.
        seeds: How many.
        jobs: Processes that play side by side; None for one on each core.

    Returns:
        The exit code: 1 when any promise was not kept.
    """
    console = Console(highlight=False, soft_wrap=True)
    began, virtual_s, writes, bad = time.monotonic(), 0.0, 0, 0
    for result in results(range(first, first + seeds), min(seeds, jobs or os.cpu_count() or 1)):
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


def results(seeds: Iterable[int], jobs: int) -> Iterator[Result]:
    """What became of the worlds, in the order of the seeds, however many processes play them."""
    if jobs == 1:
        yield from map(outcome, seeds)
        return
    # Nothing runs here yet that a fork could cut in two; whoever calls need not be importable, as for a spawn.
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(outcome, seeds, chunksize=5)


def outcome(seed: int) -> Result:
    """What becomes of a seed's world."""
    return play(draw(seed))


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
