"""What only the SQLite store has: a file that can be full, locked, damaged, foreign, or someone else's."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import ANNA, BERT, RULES, TIMER, TTL, World, action_of, intent, look_of
from watchdog.core.brake import BrakeRules
from watchdog.core.clock import Cause
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    Cancel,
    Claim,
    Epoch,
    Mark,
    Observed,
    Outcome,
    Standing,
)
from watchdog.core.undo import Written
from watchdog.errors import StoreCorrupt, StoreLocked, StoreUnavailable
from watchdog.stores.disk import MIGRATIONS, Batch, InlineDisk
from watchdog.stores.leases import HORIZON_S
from watchdog.stores.place import APPLICATION_ID
from watchdog.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "watchdog.db"


@pytest.fixture
async def world(path: Path) -> AsyncIterator[World]:
    async def reopened() -> SqliteStore:
        return SqliteStore(path, RULES, InlineDisk)

    world = World(await reopened(), reopened)
    await world.store.open(world.instant)
    yield world
    await world.store.close()


class Full:
    """Makes the file as full as a full disk: SQLite may take no further page."""

    def __init__(self, store: object) -> None:
        disk = store._journal._disk  # type: ignore[attr-defined]
        self._connection: sqlite3.Connection = disk._connection

    def __enter__(self) -> None:
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        self._connection.execute(f"PRAGMA max_page_count = {pages}")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("PRAGMA max_page_count = 1073741823")


@contextlib.contextmanager
def locked(world: World, path: Path) -> Iterator[None]:
    """Another program writes to the file."""
    world.store._journal._disk._connection.execute("PRAGMA busy_timeout = 0")  # type: ignore[attr-defined]
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def fill(world: World) -> None:
    """Opens sessions until the full file refuses one."""
    with pytest.raises(StoreUnavailable, match="make room"):  # noqa: PT012 - one of them is the first that fails
        for number in range(1000, 3000):
            await world.beat(BERT._replace(user_id=f"{number}"), number)


# A full disk.


async def test_what_a_full_disk_refused_is_written_once_there_is_room(world: World, path: Path) -> None:
    with Full(world.store):
        await fill(world)
    await world.tick()
    on_disk = sqlite3.connect(path)
    (known,) = on_disk.execute("SELECT count(*) FROM sessions").fetchone()
    on_disk.close()
    assert known == (await world.store.counts()).sessions


async def test_the_clock_stands_while_the_disk_is_full(world: World) -> None:
    await world.beat(ANNA, 1)
    with Full(world.store):
        await fill(world)
        for _ in range(400):
            world.now += 0.25
            with pytest.raises(StoreUnavailable):
                await world.tick()
    assert (await world.tick()).clock.standing is Cause.STORE
    world.now += 0.25
    tick = await world.tick()
    assert (tick.clock.observed, tick.clock.standing, tick.clock.grace_s) == (0.0, Cause.GRACE, 30.0)
    assert await world.state(ANNA) is AgentState.LIVE


async def test_one_failed_flush_is_blind_time(world: World) -> None:
    await world.wait(1)
    before = (await world.tick()).clock
    with Full(world.store):
        await fill(world)
    world.now += 0.25
    after = (await world.tick()).clock
    assert (after.observed, after.standing) == (before.observed, Cause.STORE)


async def test_a_tick_that_could_not_be_written_has_not_happened(world: World, path: Path) -> None:
    await world.beat()
    before = (await world.wait(1)).clock
    with locked(world, path):
        world.now += 1.5
        with pytest.raises(StoreUnavailable, match="lock"):
            await world.tick()
    after = (await world.tick()).clock
    assert (after.observed, after.standing) == (before.observed, Cause.STORE)


async def test_nobody_is_claimed_whose_claim_cannot_be_written(world: World) -> None:
    await world.beat()
    await world.bye()
    (due,) = (await world.wait(TIMER + 0.5)).due
    with Full(world.store):
        await fill(world)
        with pytest.raises(StoreUnavailable):
            await world.store.claim(due, "me")
    assert await world.store.claim(due, "me") is not None


async def test_an_intent_that_could_not_be_written_is_none(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    with Full(world.store):
        await fill(world)
        with pytest.raises(StoreUnavailable):
            await world.store.intend(claim, intent())
    await world.store.release(claim, 0.0)
    assert (await world.claimed()).intent is None


async def test_an_outcome_that_could_not_be_written_can_be_settled_again(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    with Full(world.store):
        await fill(world)
        with pytest.raises(StoreUnavailable):
            await world.store.settle(claim, action_of(claim))
    assert await world.state() is AgentState.DUE
    assert await world.store.settle(claim, action_of(claim))
    assert await world.state() is AgentState.AWAY


async def test_activity_that_could_not_be_written_can_be_witnessed_again(world: World) -> None:
    await world.beat()
    await world.wait(TTL + TIMER + 0.5)
    claim = await world.claimed()
    action = action_of(claim, Outcome.WITNESSED)
    with Full(world.store):
        await fill(world)
        with pytest.raises(StoreUnavailable):
            await world.store.witness(claim, 1.0, TTL, action)
    assert await world.state() is AgentState.DUE
    assert await world.store.still_gone(claim) is Standing.GONE
    assert await world.store.witness(claim, 1.0, TTL, action)
    assert await world.state() is AgentState.LIVE


class Meanwhile(InlineDisk):
    """Something happens between the decision and the disk's answer."""

    deed: Callable[[], Awaitable[object]] | None = None

    async def write(self, batch: Batch) -> None:
        deed, Meanwhile.deed = Meanwhile.deed, None
        if deed is not None:
            await deed()
        await super().write(batch)


async def test_whoever_comes_and_goes_while_activity_is_written_is_gone_since_the_bye(path: Path) -> None:
    store = SqliteStore(path, RULES, Meanwhile)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    await world.beat()
    await world.wait(TTL + TIMER + 0.5)
    claim = await world.claimed()

    async def comes_and_goes() -> None:
        await world.beat(number=2)
        await world.bye(number=2)

    Meanwhile.deed = comes_and_goes
    assert await store.witness(claim, 1.0, TTL, action_of(claim, Outcome.WITNESSED))
    await world.wait(TIMER + 0.5)
    assert (await world.claimed()).epoch == claim.epoch + 1
    on_disk = sqlite3.connect(path)
    assert on_disk.execute("SELECT floor FROM agents").fetchone() == (None,)
    on_disk.close()
    await store.close()


async def test_a_bye_while_older_activity_is_written_ends_it(path: Path) -> None:
    store = SqliteStore(path, RULES, Meanwhile)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    await world.beat()
    await world.wait(TTL + TIMER + 0.5)
    claim = await world.claimed()
    Meanwhile.deed = world.bye
    assert await store.witness(claim, 10.0, TTL, action_of(claim, Outcome.WITNESSED))
    again = await world.claimed()
    assert again.epoch == claim.epoch
    assert not await store.witness(again, 10.0, TTL, action_of(again, Outcome.WITNESSED))
    on_disk = sqlite3.connect(path)
    assert on_disk.execute("SELECT floor, epoch FROM agents").fetchone() == (None, claim.epoch)
    on_disk.close()
    await store.close()


async def test_a_bye_while_older_activity_of_a_held_agent_is_written_ends_it(path: Path) -> None:
    store = SqliteStore(path, replace(RULES, brake=BrakeRules()), Meanwhile)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    for number, agent in enumerate((ANNA, BERT, ANNA)):
        await world.beat(agent, number + 1)
    await world.wait(TTL + TIMER + 10)
    anna = next(each for each in await store.held(ANNA.instance_id, 0.0) if each.agent == ANNA)
    Meanwhile.deed = world.bye
    assert await store.witness_held(anna, 20.0, TTL, look_of(anna, Outcome.WITNESSED))
    assert await world.state() is AgentState.HELD
    await world.tick()
    on_disk = sqlite3.connect(path)
    found = on_disk.execute("SELECT mark, floor, epoch FROM agents WHERE user_id = 'anna'").fetchone()
    on_disk.close()
    assert found == (Mark.HELD, None, anna.epoch)
    await store.close()


async def test_a_pause_while_an_outcome_is_written_counts_for_its_undo(path: Path) -> None:
    store = SqliteStore(path, RULES, Meanwhile)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    await world.beat()
    await world.wait(TTL + TIMER + 0.5)
    claim = await world.claimed()
    assert await store.intend(claim, intent())

    async def pauses() -> None:
        world.now += RULES.return_window_s
        await world.tick()

    Meanwhile.deed = pauses
    assert await store.settle(claim, action_of(claim), Written(2.0))
    await world.beat(gap_ms=0)
    assert (await world.tick()).undos == ()
    await store.close()


async def test_a_restore_that_could_not_be_announced_is_not_under_way_though_it_took_long(path: Path) -> None:
    store = SqliteStore(path, RULES, Meanwhile)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    await world.beat()
    await world.wait(TTL + TIMER + 0.5)
    claim = await world.claimed()
    assert await store.intend(claim, intent())
    assert await store.settle(claim, action_of(claim), Written(2.0))
    await world.beat(gap_ms=0)
    (change,) = (await world.tick()).undos

    async def pauses_and_fails() -> None:
        world.now += 60.0
        await world.tick()
        raise StoreUnavailable("a test")

    Meanwhile.deed = pauses_and_fails
    with pytest.raises(StoreUnavailable):
        await store.restoring(change, world.instant.epoch, TTL)
    (change,) = (await world.tick()).undos
    assert change.undo is not None
    assert change.undo.sent_at is None
    on_disk = sqlite3.connect(path)
    assert on_disk.execute("SELECT undo LIKE '%\"sent_at\":null%' FROM changes").fetchone() == (1,)
    on_disk.close()
    await store.close()


@pytest.mark.parametrize("active", [True, False], ids=["active", "absent"])
async def test_whoever_is_heard_while_it_is_written_that_the_hold_has_ended_is_live_and_has_said_so(
    path: Path,
    active: bool,  # noqa: FBT001  # a parameter
) -> None:
    rules = replace(RULES, brake=BrakeRules())
    store = SqliteStore(path, rules, Meanwhile)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    for number, agent in enumerate((ANNA, BERT)):
        await world.beat(agent, number + 1)
    await world.wait(TTL + TIMER + 10)
    held = {each.agent: each for each in await store.held(ANNA.instance_id, 0.0)}
    assert set(held) == {ANNA, BERT}

    async def beats() -> None:
        await world.beat(ANNA)

    Meanwhile.deed = beats
    if active:
        assert await store.witness_held(held[ANNA], 1.0, TTL, look_of(held[ANNA], Outcome.WITNESSED))
    else:
        assert await store.release_held(held[ANNA], 1.0, TTL, look_of(held[ANNA], Outcome.RELEASED))
    assert await world.state() is AgentState.LIVE
    await world.tick()
    on_disk = sqlite3.connect(path)
    found = on_disk.execute("SELECT mark, floor, epoch FROM agents WHERE user_id = 'anna'").fetchone()
    on_disk.close()
    assert found == (Mark.FREE, None, held[ANNA].epoch + 1)
    await world.wait(TTL + TIMER)
    assert (await world.tick()).backlog == 0
    await store.close()


async def test_what_could_not_be_written_of_a_held_agent_has_not_happened(path: Path) -> None:
    store = SqliteStore(path, replace(RULES, brake=BrakeRules()), InlineDisk)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    await world.beat(ANNA, 1)
    await world.beat(BERT, 2)
    await world.wait(TTL + TIMER + 10)
    anna, bert = sorted(await store.held(ANNA.instance_id, 0.0), key=lambda each: each.agent)
    with locked(world, path):
        with pytest.raises(StoreUnavailable):
            await store.witness_held(anna, 1.0, TTL, look_of(anna, Outcome.WITNESSED))
        with pytest.raises(StoreUnavailable):
            await store.release_held(bert, 1.0, TTL, look_of(bert, Outcome.RELEASED))
    assert (await world.state(ANNA), await world.state(BERT)) == (AgentState.HELD, AgentState.HELD)
    assert await store.witness_held(anna, 1.0, TTL, look_of(anna, Outcome.WITNESSED))
    assert await store.release_held(bert, 1.0, TTL, look_of(bert, Outcome.RELEASED))
    await store.close()


async def test_whoever_comes_and_goes_while_it_is_written_that_nobody_has_seen_them_is_gone_since_the_bye(
    path: Path,
) -> None:
    store = SqliteStore(path, RULES, Meanwhile)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    await world.wait(1)

    async def comes_and_goes() -> None:
        await world.beat()
        await world.bye()

    Meanwhile.deed = comes_and_goes
    claim = Claim(ANNA, 1, 1, "me", Observed(0.0), 0.0)
    assert await store.unseen(action_of(claim, Outcome.UNSEEN), TTL)
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]
    on_disk = sqlite3.connect(path)
    assert on_disk.execute("SELECT floor FROM agents").fetchone() == (None,)
    on_disk.close()
    await store.close()


async def test_an_outcome_is_on_the_disk_though_the_agent_s_row_was_waiting_to_be_written(
    world: World, path: Path
) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    with locked(world, path), pytest.raises(StoreUnavailable):
        await world.beat(number=2)
    await world.store.settle(claim, action_of(claim, Outcome.RETURNED))
    on_disk = sqlite3.connect(path)
    assert on_disk.execute("SELECT epoch, settled_epoch FROM agents").fetchone() == (claim.epoch + 1, claim.epoch)
    on_disk.close()


async def test_who_is_due_again_is_not_claimed_before_what_is_left_is_settled(path: Path) -> None:
    """The old intent would be taken for one of the new epoch."""
    store = SqliteStore(path, replace(RULES, timer_s=1.0), InlineDisk)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    await world.beat()
    await world.bye()
    await world.wait(1.5)
    claim = await world.claimed()
    await store.intend(claim, intent())
    await store.release(claim, 0.0)
    await world.beat(number=2)
    await world.bye(number=2)
    (orphan,) = (await world.tick()).orphans
    await store.release(orphan, 0.0)
    (due,) = (await world.wait(1.5)).due
    assert await store.claim(due, "me") is None
    (orphan,) = (await world.wait(5)).orphans or [orphan]
    await store.settle(orphan, action_of(orphan, Outcome.RETURNED))
    assert (await world.claimed()).intent is None
    await store.close()


# Horizons.


async def test_a_lease_is_written_once_a_minute_however_often_it_is_renewed(world: World, path: Path) -> None:
    on_disk = sqlite3.connect(path)
    horizons = set()
    for _ in range(60):
        await world.beat()
        await world.wait(5)
        horizons.add(on_disk.execute("SELECT horizon FROM sessions").fetchone()[0])
    on_disk.close()
    assert len(horizons) <= 300 / (HORIZON_S - 15) + 1


async def test_the_horizon_is_never_behind_the_lease(world: World, path: Path) -> None:
    on_disk = sqlite3.connect(path)
    for _ in range(40):
        await world.beat()
        await world.wait(7.3)
        tick = await world.tick()
        view = await world.store.agent(ANNA)
        assert view is not None
        horizon = on_disk.execute("SELECT horizon FROM sessions").fetchone()[0]
        assert horizon >= tick.clock.observed + view.sessions[0].expires_in_s
    on_disk.close()


async def test_a_lease_that_ran_out_stays_so_after_a_restart(world: World) -> None:
    await world.beat()
    await world.wait(TTL + 1)
    await world.store.close()
    await world.restart()
    assert await world.state() is AgentState.GRACE


async def test_the_memory_forgets_sessions_that_ended_long_ago(world: World, path: Path) -> None:
    for number in range(1, 51):
        await world.beat(ANNA, number)
        await world.bye(ANNA, number)
    await world.beat(ANNA, 99)
    for _ in range(50):
        await world.wait(10)
        await world.beat(ANNA, 99)
    view = await world.store.agent(ANNA)
    assert view is not None
    assert len(view.sessions) == 1
    on_disk = sqlite3.connect(path)
    assert on_disk.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
    on_disk.close()


async def test_agents_not_seen_for_long_are_pruned_and_others_are_not(world: World) -> None:
    for agent, number in ((ANNA, 1), (BERT, 2)):
        await world.beat(agent, number)
        await world.bye(agent, number)
        await world.wait(TIMER + 0.5)
        claim = await world.claimed(agent)
        await world.store.settle(claim, action_of(claim, Outcome.ALREADY))
        await world.wait(400)
    anna = await world.store.agent(ANNA)
    assert anna is not None
    assert anna.last_seen is not None
    await world.store.prune(type(anna.last_seen)(anna.last_seen + 1))
    assert await world.store.agent(ANNA) is None
    await world.store.close()
    await world.restart()
    assert await world.store.agent(ANNA) is None
    assert await world.store.agent(BERT) is not None


async def test_due_agents_of_an_instance_that_is_not_served_any_more_are_pruned_like_others(
    world: World, path: Path
) -> None:
    former = AgentId("former", "carl")
    for agent, number in ((former, 1), (BERT, 2), (AgentId("former", "dora"), 3)):
        await world.beat(agent, number)
        await world.bye(agent, number)
    await world.wait(TIMER + 0.5)
    claim = await world.claimed(former)
    assert await world.store.intend(claim, intent())
    await world.store.release(claim, 0.0)
    await world.beat(AgentId("former", "dora"), 4)
    await world.store.close()
    store = SqliteStore(path, replace(RULES, instances=frozenset({BERT.instance_id})), InlineDisk)
    await store.open(world.instant)
    tick = await store.tick("me", world.instant)
    assert (tick.backlog, tick.foreign) == (1, {"former"})
    assert await store.prune(Epoch(world.instant.epoch - 30)) == 0
    assert await store.prune(Epoch(world.instant.epoch + 1)) == 1
    await store.close()
    again = SqliteStore(path, RULES, InlineDisk)
    await again.open(world.instant)
    assert {view.agent.user_id for view in (await again.agents()).agents} == {"bert", "dora"}
    tick = await again.tick("me", world.instant)
    assert [due.agent for due in tick.due] == [BERT]
    # Whoever comes back to it begins afresh: nothing is left of the intent.
    await again.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM claims").fetchone() == (0,)


async def test_a_wall_clock_that_jumps_ahead_prunes_nobody_who_is_present_or_waits(world: World) -> None:
    await world.beat(ANNA, 1)
    await world.beat(BERT, 2)
    await world.bye(BERT, 2)
    assert await world.store.prune(Epoch(world.instant.epoch + 1e9)) == 0
    await world.wait(TIMER + 0.5)
    assert await world.state(ANNA) is AgentState.LIVE
    assert await world.due() == [BERT]


# Files that cannot be used.


async def refused(path: Path, error: type[Exception], told: str) -> None:
    store = SqliteStore(path, RULES, InlineDisk)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    with pytest.raises(error, match=told):
        await store.open(world.instant)
    await store.close()


async def test_a_second_daemon_is_kept_out(world: World, path: Path) -> None:
    await refused(path, StoreLocked, "another daemon")


async def test_the_file_is_free_again_after_the_first_daemon(world: World, path: Path) -> None:
    await world.store.close()
    other = SqliteStore(path, RULES, InlineDisk)
    await other.open(world.instant)
    await other.close()


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"this is a letter to my bank" * 1000)
    before = path.read_bytes()
    await refused(path, StoreCorrupt, "Move it away")
    assert path.read_bytes() == before


async def test_a_damaged_file_is_refused(world: World, path: Path) -> None:
    for number in range(1, 500):
        await world.beat(ANNA, number)
    await world.store.close()
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(2, size // 4096):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    await refused(path, StoreCorrupt, "damaged|cannot read")


async def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    await refused(path, StoreCorrupt, "newer version")


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    await refused(tmp_path / "nowhere" / "watchdog.db", StoreUnavailable, "folder")


async def test_a_folder_that_may_not_be_written_is_told() -> None:
    await refused(Path("/proc/watchdog.db"), StoreUnavailable, "folder")


async def test_a_closed_store_says_so(world: World) -> None:
    await world.store.close()
    await world.store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await world.beat()


def cancelled() -> Action:
    return replace(action_of(Claim(ANNA, 1, 1, "me", Observed(0.0), 0.0)), outcome=Outcome.CANCELLED)


async def test_nobody_claims_an_agent_while_it_is_written_that_it_is_to_be_left_alone(path: Path) -> None:
    store = SqliteStore(path, RULES, Meanwhile)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    await world.beat()
    await world.wait(TTL + TIMER + 0.5)
    (due,) = (await world.tick()).due
    tried: list[object] = []

    async def somebody_tries() -> None:
        tried.append(await store.claim(due, "me"))
        tried.append(await store.cancel(ANNA, cancelled()))

    Meanwhile.deed = somebody_tries
    assert await store.cancel(ANNA, cancelled()) is Cancel.DONE
    assert tried == [None, Cancel.UNDER_WAY]
    assert await world.due() == []
    await store.close()


async def test_who_is_heard_while_it_is_written_is_watched_as_ever(path: Path) -> None:
    store = SqliteStore(path, RULES, Meanwhile)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    await world.beat()
    await world.wait(TTL + 1)

    async def comes() -> None:
        await world.beat()

    Meanwhile.deed = comes
    assert await store.cancel(ANNA, cancelled()) is Cancel.DONE
    assert await world.state() is AgentState.LIVE
    await world.tick()
    on_disk = sqlite3.connect(path)
    assert on_disk.execute("SELECT epoch, settled_epoch FROM agents").fetchone() == (2, -1)
    on_disk.close()
    await world.wait(TTL + TIMER + 0.5)
    assert await world.due() == [ANNA]
    await store.close()


async def test_what_could_not_be_written_is_not_cancelled(world: World, path: Path) -> None:
    await world.beat()
    await world.wait(TTL + 1)
    with locked(world, path), pytest.raises(StoreUnavailable):
        await world.store.cancel(ANNA, cancelled())
    assert await world.state() is AgentState.GRACE
    assert await world.store.cancel(ANNA, cancelled()) is Cancel.DONE
