"""Holds and orders over a disk that fails: what is not written is not in force, and no mark is without its brake."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.contract.test_brake import beats, brake, goes_on, held, states, team, told
from tests.contract.test_undo import order as restore
from tests.contract.test_undo import set_away, undos
from tests.contract.world import ANNA, BERT, BRAKED, TIMER, TTL, World
from watchdog.core.brake import ALL, State
from watchdog.core.model import AgentId, AgentState, Epoch, Mark, Outcome
from watchdog.errors import StoreUnavailable
from watchdog.stores import change_rows
from watchdog.stores.disk import Batch, InlineDisk
from watchdog.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


class Refusing(InlineDisk):
    """A disk that, while it is on, refuses what is to be synced; and something may happen before such a write."""

    on = False
    deed: Callable[[], Awaitable[object]] | None = None

    async def write(self, batch: Batch) -> None:
        if batch.sync and Refusing.on:
            raise StoreUnavailable("The disk is full: make room.")
        if batch.sync and Refusing.deed is not None:
            deed, Refusing.deed = Refusing.deed, None
            await deed()
        await super().write(batch)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A store with the brake. A restart opens a copy of the file, as after a kill -9."""
    Refusing.on, Refusing.deed = False, None
    opened: list[SqliteStore] = []

    async def reopened() -> SqliteStore:
        folder = tmp_path / str(len(opened))
        if opened:
            shutil.copytree(tmp_path / str(len(opened) - 1), folder)
        else:
            folder.mkdir()
        opened.append(SqliteStore(folder / "watchdog.db", BRAKED, Refusing))
        world.path = folder / "watchdog.db"  # type: ignore[attr-defined]
        return opened[-1]

    world = World(None, reopened)  # type: ignore[arg-type]
    world.store = await reopened()
    await world.store.open(world.instant)
    yield world
    Refusing.on = False
    for store in opened:
        await store.close()


async def ordered(world: World, *, hold: bool) -> None:
    await world.store.order(ALL, hold=hold, for_s=600, reason="", instant=world.instant)


async def test_whoever_is_held_by_nothing_is_let_go_with_a_fresh_lease(world: World) -> None:
    agents = team(10)
    await goes_on(world, 100, agents)
    await ordered(world, hold=True)
    await goes_on(world, TTL + TIMER + 1, agents[2:])
    assert held(world) == 2
    store, world.store = world.store, await world.reopened()
    on_disk = sqlite3.connect(world.path, isolation_level=None)  # type: ignore[attr-defined]
    assert on_disk.execute("DELETE FROM meta WHERE key = 'brakes'").rowcount == 1
    on_disk.close()
    await world.store.open(world.instant)
    await goes_on(world, 1, agents[2:])
    assert (brake(world), held(world)) == (State.CLEAR, 0)
    assert told(world, Outcome.RELEASED) == agents[:2]
    assert await states(world, agents[:2]) <= {AgentState.LIVE, AgentState.GRACE}
    await goes_on(world, TTL - 5, agents[2:])
    assert await world.due() == []
    await goes_on(world, TIMER + 40, agents[2:])
    assert sorted(await world.due()) == agents[:2]
    assert told(world, Outcome.RELEASED) == agents[:2]
    await store.close()


async def test_nobody_is_let_go_by_that_while_a_brake_holds_though_another_instance_is_clear(world: World) -> None:
    agents, others = team(40, "one"), team(40, "two")
    await goes_on(world, 100, [*agents, *others])
    await goes_on(world, 120, others)
    assert (held(world), told(world, Outcome.RELEASED)) == (40, [])


async def test_a_mark_reaches_the_disk_with_its_brake_though_the_first_write_fails(world: World) -> None:
    agents = team(40)
    await goes_on(world, 20, agents)
    Refusing.on = True
    while not held_now(await world.tick()):
        world.now += 0.25
    await beats(world, [AgentId("elsewhere", "new")])  # its flush takes the marks along
    on_disk = sqlite3.connect(world.path)  # type: ignore[attr-defined]
    (marked,) = on_disk.execute("SELECT count(*) FROM agents WHERE mark = ?", (Mark.HELD.value,)).fetchone()
    brakes = on_disk.execute("SELECT value FROM meta WHERE key = 'brakes'").fetchone()
    on_disk.close()
    assert marked > 0
    assert brakes is not None
    assert b"holding" in brakes[0]


def held_now(tick: object) -> int:
    return tick.brake.held  # type: ignore[attr-defined, no-any-return]


async def test_an_order_to_hold_that_cannot_be_written_is_not_in_force(world: World) -> None:
    agents = team(10)
    await goes_on(world, 100, agents)
    Refusing.on = True
    with pytest.raises(StoreUnavailable):
        await ordered(world, hold=True)
    Refusing.on = False
    await goes_on(world, TTL + TIMER + 1, agents[1:])
    assert brake(world) is State.CLEAR
    assert await world.due() == agents[:1]
    await world.restart()
    await goes_on(world, 40, agents[1:])
    assert brake(world) is State.CLEAR
    assert await world.due() == agents[:1]


async def test_an_order_to_release_that_cannot_be_written_lets_nobody_go(world: World) -> None:
    agents = team(40)
    await goes_on(world, 20, agents)
    await world.wait(100)
    assert held(world) == 40
    Refusing.on = True
    with pytest.raises(StoreUnavailable):
        await ordered(world, hold=False)
    assert await states(world, agents) == {AgentState.HELD}
    Refusing.on = False
    assert await world.due() == []
    assert (brake(world), held(world)) == (State.HOLDING, 40)
    await ordered(world, hold=False)
    assert sorted(await world.due()) == agents


async def test_a_failed_order_leaves_the_one_before_in_force(world: World) -> None:
    agents = team(10)
    await goes_on(world, 100, agents)
    await ordered(world, hold=True)
    Refusing.on = True
    with pytest.raises(StoreUnavailable):
        await ordered(world, hold=False)
    Refusing.on = False
    await goes_on(world, TTL + TIMER + 1, agents[1:])
    assert brake(world) is State.ORDERED
    assert held(world) == 1


async def test_a_restore_that_cannot_be_written_undoes_nothing(world: World) -> None:
    await set_away(world)
    await set_away(world, BERT, bye=True)
    await world.beat(number=7)
    Refusing.on = True
    with pytest.raises(StoreUnavailable):
        await restore(world)
    Refusing.on = False
    await world.beat(BERT, number=8)
    assert await undos(world) == []
    await world.restart()
    await world.beat(BERT, number=8)
    assert await undos(world) == []
    assert await restore(world) == (2, 0, 0)
    assert {change.agent for change in await undos(world)} == {ANNA, BERT}


async def test_whoever_is_heard_while_a_restore_is_written_is_restored(world: World) -> None:
    await set_away(world)

    async def heard() -> None:
        await world.beat(number=7)

    Refusing.deed = heard
    assert await restore(world) == (0, 1, 0)
    assert [change.agent for change in await undos(world)] == [ANNA]
    await world.restart()
    assert [change.agent for change in await undos(world)] == [ANNA]


async def test_a_row_from_before_it_was_kept_who_ordered_is_read(world: World) -> None:
    await set_away(world)
    await world.store.restore(Epoch(0.0), None, silent=False, instant=world.instant, by="boss")
    await world.tick()
    on_disk = sqlite3.connect(world.path)  # type: ignore[attr-defined]
    (row,) = on_disk.execute("SELECT * FROM changes").fetchall()
    on_disk.close()
    (now,), unreadable = change_rows.changes([row])
    (before,), unreadable_before = change_rows.changes([row[:-1]])
    assert (unreadable, unreadable_before) == ([], [])
    assert (now.ordered_by, before) == ("boss", replace(now, ordered_by=None))
    assert len(change_rows.changes([(*row[:-1], 7)])[1]) == 1


async def test_whoever_was_set_and_kept_a_mark_on_the_disk_is_not_let_go(world: World) -> None:
    await set_away(world, bye=True)
    store, world.store = world.store, await world.reopened()
    on_disk = sqlite3.connect(world.path, isolation_level=None)  # type: ignore[attr-defined]
    assert on_disk.execute("UPDATE agents SET mark = ?", (Mark.HELD.value,)).rowcount == 1
    on_disk.close()
    await world.store.open(world.instant)
    await world.wait(1)
    assert world.stopped == []
    assert await world.state() is AgentState.AWAY
    await store.close()


async def test_who_is_held_by_nothing_stays_held_if_the_silence_trips_again_at_once(world: World) -> None:
    agents = team(40)
    await goes_on(world, 20, agents)
    await world.wait(30)
    assert held(world) == 40
    store, world.store = world.store, await world.reopened()
    on_disk = sqlite3.connect(world.path, isolation_level=None)  # type: ignore[attr-defined]
    assert on_disk.execute("DELETE FROM meta WHERE key = 'brakes'").rowcount == 1
    on_disk.close()
    await world.store.open(world.instant)
    await world.wait(10)
    assert (brake(world), held(world), told(world, Outcome.RELEASED)) == (State.HOLDING, 40, [])
    await store.close()
