"""Checking: random small worlds against the invariants, and the replay of one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from watchdog.simulation.journal import Violation
from watchdog.simulation.plan import draw, draw_replicas
from watchdog.simulation.world import Result, play
from watchdog.terminal import Bar, screen


def check(first: int, seeds: int, jobs: int | None = None, *, as_json: bool = False, replicas: bool = False) -> int:
    """Plays worlds and prints what was violated, in the order of their seeds.

    Args:
        first: The first seed.
        seeds: How many.
        jobs: Processes that play side by side; None for one on each core.
        as_json: Print JSON in place of text.
        replicas: Worlds of several daemons over a Valkey server.

    Returns:
        The exit code: 1 when any promise was not kept.
    """
    console = screen(soft_wrap=True)
    began, virtual_s, writes, bad = time.monotonic(), 0.0, 0, 0
    violations: list[Violation] = []
    with Bar("Worlds", seeds) as bar:
        worlds = results(range(first, first + seeds), min(seeds, jobs or os.cpu_count() or 1), replicas=replicas)
        for number, result in enumerate(worlds, 1):
            virtual_s += result.virtual_s
            writes += result.writes
            bad += bool(result.violations)
            violations += result.violations
            for violation in () if as_json else result.violations:
                console.print(str(violation))
            bar.at(number, f"World {number} of {seeds}")
    took_s = time.monotonic() - began
    if as_json:
        told = {
            "first": first,
            "worlds": seeds,
            "virtual_hours": round(virtual_s / 3600, 3),
            "took_s": round(took_s, 3),
        }
        told |= {"changes": writes, "worlds_with_violations": bad}
        console.print(json.dumps(told | {"violations": [asdict(each) for each in violations]}, indent=2))
    else:
        console.print(
            f"{seeds} worlds from seed {first}, {virtual_s / 3600:.1f} virtual hours in {took_s:.0f} s, "
            f"{writes} effective changes: {bad or 'no'} worlds with violations"
        )
    return 1 if bad else 0


def results(seeds: Iterable[int], jobs: int, *, replicas: bool = False) -> Iterator[Result]:
    """What became of the worlds, in the order of the seeds, however many processes play them."""
    played = outcome_of_many if replicas else outcome
    if jobs == 1:
        yield from map(played, seeds)
        return
    # Ctrl-C reaches all processes of the terminal. The others never hear it, from their first moment on; this one hears
    # it as soon as they are all there, and ends them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        # Nothing runs here yet that a fork could cut in two; whoever calls need not be importable, as for a spawn.
        pool = multiprocessing.get_context("fork").Pool(jobs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with pool:
        yield from pool.imap(played, seeds, chunksize=5)


def outcome(seed: int) -> Result:
    """What becomes of a seed's world."""
    return play(draw(seed))


def outcome_of_many(seed: int) -> Result:
    """What becomes of a seed's world of several daemons."""
    return play(draw_replicas(seed))


def replay(seed: int, *, replicas: bool = False) -> int:
    """Plays one world and prints its transcript as it goes, then what was violated.

    Returns:
        The exit code: 1 when any promise was not kept.
    """
    console = screen(soft_wrap=True)

    def show(line: str) -> None:
        console.print(line)

    plan = draw_replicas(seed) if replicas else draw(seed)
    daemons = f"{plan.replicas.daemons} daemons, " if plan.replicas else ""
    console.print(
        f"seed {seed}: {daemons}{len(plan.habits)} people, {plan.minutes:.0f} min, loss {plan.loss:.0%}, "
        f"timer {plan.timers.session_end_timer:g} s, TTL {plan.timers.session_ttl:g} s, "
        f"{len(plan.stories)} faults"
    )
    result: Result = play(plan, show)
    for violation in result.violations:
        console.print(str(violation))
    console.print(f"transcript {result.digest}, {result.lines} lines")
    return 1 if result.violations else 0
