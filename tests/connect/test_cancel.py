"""The record of an agent that is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.world import ANNA, RULES, World
from watchdog.connect.cancel import Cancels
from watchdog.core.model import Action, AgentState, Cancel, Outcome
from watchdog.errors import StoreUnavailable
from watchdog.stores.disk import Batch, InlineDisk
from watchdog.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


class Full(InlineDisk):
    """A disk that can be full."""

    full = False

    async def write(self, batch: Batch) -> None:
        if Full.full:
            raise StoreUnavailable("full")
        await super().write(batch)


async def test_it_is_recorded_once_when_it_is_done_and_not_when_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "watchdog.db", RULES, Full)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    told: list[Action] = []
    cancels = Cancels(store, now=lambda: world.instant, record=told.append)
    await world.beat()
    live = await store.agent(ANNA)
    assert live is not None
    assert await cancels.order(ANNA, live, reason="", by="boss") is Cancel.NOTHING
    await world.bye()
    await world.wait(1)
    grace = await store.agent(ANNA)
    assert grace is not None
    monkeypatch.setattr(Full, "full", True)
    with pytest.raises(StoreUnavailable):
        await cancels.order(ANNA, grace, reason="", by="boss")
    monkeypatch.setattr(Full, "full", False)
    assert told == []
    assert await cancels.order(ANNA, grace, reason="on a call", by="boss") is Cancel.DONE
    assert (await store.actions()).actions == tuple(told)
    (action,) = told
    assert (action.agent, action.outcome, action.calls) == (ANNA, Outcome.CANCELLED, 0)
    assert action.evidence == {
        "by": "boss",
        "why": "on a call",
        "state": AgentState.GRACE.value,
        "due_in_s": grace.due_in_s,
    }
    assert action.id.endswith(f"x-{ANNA.user_id}")
    await store.close()
