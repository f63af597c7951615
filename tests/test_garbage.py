"""Agents who have come are out of the garbage collector's way."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from watchdog.garbage import STEP, Settled


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Nothing is frozen before and after."""
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_is_there_is_not_looked_at_again_once_enough_agents_have_come() -> None:
    settled, agents = Settled(), [[] for _ in range(1000)]  # type: list[list[object]]
    settled.count(STEP - 1)
    assert gc.get_freeze_count() == 0
    settled.count(STEP)
    assert gc.get_freeze_count() >= len(agents)


def test_it_is_done_once_for_so_many_and_begins_anew_when_they_have_gone() -> None:
    settled = Settled()
    for agents, frozen in ((STEP, True), (2 * STEP - 1, False), (2 * STEP, True), (10, False), (STEP + 10, True)):
        gc.unfreeze()
        settled.count(agents)
        assert (gc.get_freeze_count() > 0) is frozen


def test_young_garbage_is_collected_before() -> None:
    class Cyclic:
        pass

    gone = Cyclic()
    gone.itself = gone  # type: ignore[attr-defined]
    before = sum(isinstance(each, Cyclic) for each in gc.get_objects())
    del gone
    Settled().count(STEP)
    gc.unfreeze()
    assert sum(isinstance(each, Cyclic) for each in gc.get_objects()) == before - 1
