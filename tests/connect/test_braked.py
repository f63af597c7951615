"""The history of a hold of many: in portions and in order, and nothing is lost by a disk that fails in between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import INSTANCE, RULES, START
from watchdog.connect.braked import PORTION, Braked
from watchdog.core.holds import Stopped
from watchdog.core.model import AgentId, Boot, Epoch, Instant, Outcome
from watchdog.errors import StoreUnavailable
from watchdog.stores.batch import Statement
from watchdog.stores.disk import Batch, InlineDisk
from watchdog.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from watchdog.core.model import Action

NUMBER = 2 * PORTION + 300


class Portions(InlineDisk):
    """Notes how many actions each transaction has; one of them may fail."""

    sizes: list[int]
    fails_at = 0

    async def write(self, batch: Batch) -> None:
        actions = sum(len(found) for sql, found in batch.statements if sql == Statement.PUT_ACTION)
        if actions:
            Portions.sizes.append(actions)
            if len(Portions.sizes) == Portions.fails_at:
                raise StoreUnavailable("The disk is full: make room.")
        await super().write(batch)


def now() -> Instant:
    return Instant(Boot(100.0), Epoch(START), "boot")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    Portions.sizes, Portions.fails_at = [], 0
    store = SqliteStore(tmp_path / "watchdog.db", RULES, Portions)
    await store.open(now())
    yield store
    await store.close()


def braked(store: SqliteStore, told: list[Action]) -> Braked:
    made = Braked(store, None, (), now=now, record=told.append)  # type: ignore[arg-type]  # knows no instance
    made.take([Stopped(AgentId(INSTANCE, f"agent-{at:05}"), Outcome.HELD, "") for at in range(NUMBER)])
    return made


async def history(store: SqliteStore) -> list[str]:
    return [action.agent.user_id for action in (await store.actions(limit=10 * NUMBER)).actions][::-1]


EVERYBODY = [f"agent-{at:05}" for at in range(NUMBER)]


async def test_many_are_written_in_portions_between_which_others_have_their_turn(store: SqliteStore) -> None:
    told: list[Action] = []
    made = braked(store, told)
    seen: list[int] = []
    writing = asyncio.create_task(made.write())
    while not writing.done():
        seen.append(len(told))
        await asyncio.sleep(0)
    assert {PORTION, 2 * PORTION} <= set(seen)
    assert Portions.sizes == [PORTION, PORTION, 300]
    assert [action.agent.user_id for action in told] == EVERYBODY
    assert await history(store) == EVERYBODY
    assert not made.waiting


async def test_what_a_disk_refuses_in_between_goes_on_waiting(store: SqliteStore) -> None:
    told: list[Action] = []
    made = braked(store, told)
    Portions.fails_at = 2
    await made.write()
    assert len(told) == PORTION
    assert made.waiting
    made.take([Stopped(AgentId(INSTANCE, "last"), Outcome.HELD, "")])
    await made.write()
    assert [action.agent.user_id for action in told] == [*EVERYBODY, "last"]
    assert await history(store) == [*EVERYBODY, "last"]
    assert not made.waiting
