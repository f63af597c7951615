"""Each guard of the real code is needed: without it a promise is broken in some world, with it the same world is fine.

The seeds are the first that catch it among the random worlds.
"""

from __future__ import annotations

import pytest

from tests.simulation.guards import GUARDS
from watchdog.simulation.plan import draw
from watchdog.simulation.world import play

SEEDS = {
    "clock cap": (0, "early"),
    "resume grace": (25, "returned"),
    "due wait for grace": (27, "returned"),
    "tombstone": (8, "ghost"),
    "seq": (4, "ghost"),
    "re-check": (30, "early"),
    "read-back": (36, "ghost"),
    "limiter": (3, "rate"),
}


def test_every_guard_has_a_seed():
    assert SEEDS.keys() == GUARDS.keys()


@pytest.mark.parametrize("guard", SEEDS)
def test_without_the_guard_a_promise_is_broken(guard, monkeypatch):
    seed, rule = SEEDS[guard]
    assert play(draw(seed)).violations == ()
    monkeypatch.setattr(*GUARDS[guard])
    assert rule in {violation.rule for violation in play(draw(seed)).violations}
