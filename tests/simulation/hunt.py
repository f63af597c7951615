"""Looks for the first seed that catches each guard's absence: `python -m tests.simulation.hunt [GUARD…] [--most N]`.

A seed counts only if its world keeps every promise while the guard is there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from unittest.mock import patch

from tests.simulation.guards import GUARDS
from watchdog.simulation.world import play

MOST = 2_000


def broken_without(task: tuple[str, int]) -> str | None:
    """The rule that is broken in the seed's world without the guard, and not with it."""
    name, seed = task
    guard = GUARDS[name]
    with patch.object(guard.of, guard.name, guard.without):
        found = play(guard.draw(seed)).violations
    if not found or play(guard.draw(seed)).violations:
        return None
    return found[0].rule


def hunt(name: str, most: int, jobs: int) -> tuple[int, str] | None:
    """The first seed that catches the absence, and the rule."""
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        rules = pool.imap(broken_without, ((name, seed) for seed in range(most)))
        return next(((seed, rule) for seed, rule in enumerate(rules) if rule is not None), None)


def main() -> int:
    """Prints a line for each guard, to be copied into `guards.SEEDS`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("guards", nargs="*", help="names as in guards.py; all by default")
    parser.add_argument("--most", type=int, default=MOST, help=f"seeds to try ({MOST})")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    told = parser.parse_args()
    missed = 0
    for name in told.guards or GUARDS:
        found = hunt(name, told.most, told.jobs)
        missed += found is None
        told_found = "None" if found is None else f'({found[0]}, "{found[1]}")'
        print(f'    "{name}": {told_found},', flush=True)
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
