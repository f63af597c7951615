"""Each guard of the real code is needed: without it a promise is broken in some world, with it the same world is fine.

The seeds are those that caught it first among the random worlds that were tried.
"""

from __future__ import annotations

import pytest

from tests.simulation.guards import DOCUMENT, GUARDS, SEEDS, table
from tests.simulation.hunt import MOST
from watchdog.simulation.world import play

SLOW = {"wait for the grace", "resume grace"}
"""Whose seeds take 3 s and more."""


def test_every_guard_has_a_seed():
    assert SEEDS.keys() == GUARDS.keys()
    assert all(seed < MOST for seed, _ in SEEDS.values())


def test_the_documentation_has_the_guards_and_their_seeds():
    assert table() in DOCUMENT.read_text(), "python -m tests.simulation.guards writes it"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if GUARDS[name].replicas or name in SLOW else ()) for name in SEEDS],
)
def test_without_the_guard_a_promise_is_broken(name, monkeypatch):
    (seed, rule), guard = SEEDS[name], GUARDS[name]
    assert play(guard.draw(seed)).violations == ()
    monkeypatch.setattr(guard.of, guard.name, guard.without)
    assert rule in {violation.rule for violation in play(guard.draw(seed)).violations}
