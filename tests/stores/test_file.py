"""The SQLite file while a store has it: whose it is, what is written when, and what becomes of bad rows and pages."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import ANNA, BERT, BRAKED, RULES, START, TIMER, TTL, World, action_of, intent, session
from watchdog.core.brake import ALL
from watchdog.core.model import AgentState, Beat, Claim, Epoch, Observed, Outcome, Verdict
from watchdog.errors import StoreCorrupt, StoreLocked, StoreUnavailable
from watchdog.stores.disk import MIGRATIONS, Batch, InlineDisk, ThreadedDisk
from watchdog.stores.place import family
from watchdog.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

LATER = Epoch(START + 1e6)


class Meddled(InlineDisk):
    """Something happens, or the disk fails, between the decision and the next write's end."""

    deed: Callable[[], Awaitable[object]] | None = None
    fails = 0

    async def write(self, batch: Batch) -> None:
        deed, Meddled.deed = Meddled.deed, None
        if deed is not None:
            fails = Meddled.fails
            Meddled.fails = 0
            await deed()
            Meddled.fails += fails
        if Meddled.fails:
            Meddled.fails -= 1
            raise StoreUnavailable("The disk is full: make room.")
        await super().write(batch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "watchdog.db"


@pytest.fixture
async def world(path: Path) -> AsyncIterator[World]:
    Meddled.deed, Meddled.fails = None, 0

    async def reopened() -> SqliteStore:
        await world.store.close()
        return SqliteStore(path, BRAKED, Meddled)

    world = World(SqliteStore(path, BRAKED, Meddled), reopened)
    await world.store.open(world.instant)
    yield world
    await world.store.close()


def edit(path: Path, *statements: str) -> None:
    """Somebody else changes the file."""
    other = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        assert other.execute(statement).rowcount != 0
    other.close()


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    other = sqlite3.connect(path)
    found = other.execute(sql).fetchall()
    other.close()
    return found


def told(world: World) -> list[str]:
    return [str(row) for row in world.store.unreadable]  # type: ignore[attr-defined]


async def settled(world: World, agent: object = ANNA, number: int = 1) -> Claim:
    """An agent comes, goes, is set, and its session is forgotten."""
    await world.beat(ANNA if agent is ANNA else BERT, number)
    await world.bye(ANNA if agent is ANNA else BERT, number)
    await world.wait(TIMER + 0.5)
    claim = await world.claimed(ANNA if agent is ANNA else BERT)
    await world.store.settle(claim, action_of(claim, Outcome.ALREADY))
    await world.wait(320)
    return claim


# Pruning.


async def test_who_returns_while_their_row_is_deleted_is_not_lost(world: World, path: Path) -> None:
    await settled(world)

    async def returns() -> None:
        await world.beat(number=2)

    Meddled.deed = returns
    assert await world.store.prune(LATER) == 1  # the action
    assert await world.state() is AgentState.LIVE
    await world.tick()
    assert ask(path, "SELECT epoch, settled_epoch FROM agents") == [(2, 1)]
    await world.restart()
    assert await world.state() is AgentState.LIVE


async def test_whose_row_cannot_be_deleted_is_not_forgotten(world: World, path: Path) -> None:
    await settled(world)
    Meddled.fails = 1
    with pytest.raises(StoreUnavailable):
        await world.store.prune(LATER)
    assert await world.state() is AgentState.GONE
    assert await world.store.prune(LATER) == 2
    assert await world.state() is None
    assert ask(path, "SELECT * FROM agents") == []


async def test_whose_intent_is_left_or_in_hand_is_not_forgotten(world: World, path: Path) -> None:
    await settled(world)
    await world.store.close()
    # As a restored copy may have it: settled in its epoch, and an intent of an older one that has no outcome.
    edit(
        path,
        "UPDATE agents SET epoch = 2, settled_epoch = 2",
        "INSERT INTO claims VALUES "
        f"('{ANNA.instance_id}', 'anna', 1, 1, 'x', 0, '{{}}', 'set_status', 't', 'f', 0, '', NULL)",
    )
    await world.restart()
    await world.store.prune(LATER)
    assert await world.state() is AgentState.GONE
    (orphan,) = (await world.tick()).orphans
    await world.store.prune(LATER)
    assert await world.state() is AgentState.GONE
    assert not await world.store.settle(orphan, action_of(orphan, Outcome.RETURNED))


async def test_pruning_gives_the_room_back(world: World, path: Path) -> None:
    claim = Claim(ANNA, 1, 1, "me", Observed(0.0), 0.0)
    await world.store.record([action_of(claim, at=START + number) for number in range(3000)])
    ((before,),) = ask(path, "PRAGMA page_count")
    assert await world.store.prune(LATER) == 3000
    assert ask(path, "PRAGMA freelist_count") == [(0,)]
    ((after,),) = ask(path, "PRAGMA page_count")
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after < before / 10


# What a reply rests on.


class Held(InlineDisk):
    """A disk whose first writes wait until they are let go, one way or the other."""

    gates: list[asyncio.Future[None]]

    async def write(self, batch: Batch) -> None:
        if Held.gates:
            await Held.gates.pop(0)
        await super().write(batch)


@pytest.mark.parametrize("fails", [False, True])
async def test_no_reply_comes_before_what_it_rests_on_is_written(path: Path, fails: bool) -> None:  # noqa: FBT001
    Held.gates = []
    store = SqliteStore(path, RULES, Held)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    Held.gates = [gate]
    first = asyncio.create_task(store.apply([Beat(ANNA, session(1), seq=1, ttl=TTL)], world.instant))
    await asyncio.sleep(0)
    again = asyncio.create_task(store.apply([Beat(ANNA, session(1), seq=1, ttl=TTL)], world.instant))
    other = asyncio.create_task(store.apply([Beat(BERT, session(2), seq=1, ttl=TTL)], world.instant))
    for _ in range(5):
        await asyncio.sleep(0)
    assert other.done(), "it rests on nothing that is under way"
    assert not again.done()
    if fails:
        gate.set_exception(StoreUnavailable("full"))
    else:
        gate.set_result(None)
    (reply,) = await again
    assert (reply.verdict, reply.live) == (Verdict.STALE, True)
    assert len(ask(path, "SELECT * FROM sessions")) == 2
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], StoreUnavailable) == fails
    await store.close()


async def test_a_caller_that_is_cancelled_takes_nothing_back(path: Path) -> None:
    store = SqliteStore(path, RULES, ThreadedDisk)
    world = World(store, lambda: None)  # type: ignore[arg-type]
    await store.open(world.instant)
    beats = asyncio.create_task(world.beat())
    await asyncio.sleep(0)
    beats.cancel()
    await asyncio.gather(beats, return_exceptions=True)
    await world.tick()
    assert len(ask(path, "SELECT * FROM sessions")) == 1
    await store.close()


async def test_what_was_not_written_is_written_at_the_close(world: World, path: Path) -> None:
    Meddled.fails = 1
    with pytest.raises(StoreUnavailable):
        await world.beat()
    await world.restart()
    assert await world.state() is AgentState.LIVE


async def test_a_session_that_is_back_before_its_dropping_failed_stays(world: World, path: Path) -> None:
    await world.beat(BERT, 2, ttl=1000.0)
    await world.beat()
    await world.bye()
    await world.wait(299)
    # The tombstone is forgotten; the write that drops it fails after the same session was opened again.
    await world.beat(number=3)
    await world.wait(1)
    table = world.store._table  # type: ignore[attr-defined]
    table._forget_sessions(table.agents[ANNA], Observed(302.0))
    assert table.dirty.dropped == {(session(1), ANNA)}

    tasks: list[asyncio.Task[object]] = []

    async def back() -> None:
        tasks.append(asyncio.create_task(world.beat(incarnation=1)))
        while not ask(path, "SELECT * FROM sessions WHERE incarnation = 1"):
            await asyncio.sleep(0)

    Meddled.deed, Meddled.fails = back, 1
    with pytest.raises(StoreUnavailable):
        await world.store.record([])
    await tasks[0]
    await world.tick()
    assert (session(1),) in ask(path, "SELECT session_id FROM sessions")


async def test_intents_and_outcomes_are_synced_and_heartbeats_are_not(world: World) -> None:
    ran: list[str] = []
    connection: sqlite3.Connection = world.store._journal._disk._connection  # type: ignore[attr-defined]
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    connection.set_trace_callback(ran.append)

    def synced() -> bool:
        full = [row for row in ran if "synchronous" in row or row == "COMMIT"]
        ran.clear()
        return full == ["PRAGMA synchronous = FULL", "COMMIT", "PRAGMA synchronous = NORMAL"]

    await world.store.intend(claim, intent())
    assert synced()
    await world.store.settle(claim, action_of(claim))
    assert synced()
    await world.beat(number=2)
    assert not synced()


# Claims, while the disk takes its time.


async def test_who_returns_while_the_claim_is_written_is_not_claimed(world: World) -> None:
    await world.beat()
    await world.bye()
    (due,) = (await world.wait(TIMER + 0.5)).due

    async def returns() -> None:
        await world.beat(number=2)

    Meddled.deed = returns
    assert await world.store.claim(due, "me") is None
    await world.bye(number=2)
    await world.wait(TIMER + 0.5)
    assert (await world.claimed()).intent is None


async def test_a_claim_that_is_given_back_while_its_intent_is_written_has_none(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()

    async def given_back() -> None:
        await world.store.release(claim, 0.0)

    Meddled.deed = given_back
    assert not await world.store.intend(claim, intent())


async def test_a_claim_is_settled_once_though_two_try_at_the_same_time(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()

    async def settles() -> None:
        assert await world.store.settle(claim, action_of(claim))

    Meddled.deed = settles
    assert not await world.store.settle(claim, action_of(claim, Outcome.FAILED, START + 1))
    view = await world.store.agent(ANNA)
    assert view is not None
    assert view.last_outcome is Outcome.CONFIRMED


# Whose file it is.


def others(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.parent.iterdir() if each.suffix != ".lock"}


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("application_id", [0, 42])
async def test_another_program_s_file_is_refused_and_left_as_it_is(path: Path, mode: str, application_id: int) -> None:
    """Also when that program is at work, with a log of its own."""
    program = sqlite3.connect(path, isolation_level=None)
    program.execute(f"PRAGMA journal_mode = {mode}")
    program.execute(f"PRAGMA application_id = {application_id}")
    program.execute("CREATE TABLE letters (body TEXT)")
    program.execute("INSERT INTO letters VALUES ('Dear bank')")
    for closed in (False, True):
        if closed:
            program.close()
        before = others(path)
        path.chmod(0o644)
        store = SqliteStore(path, RULES, InlineDisk)
        with pytest.raises(StoreCorrupt, match="another program"):
            await store.open(World(store, lambda: None).instant)  # type: ignore[arg-type]
        after = others(path)
        if not closed and mode == "WAL":
            before.pop(f"{path.name}-shm")  # readers are noted in it
            after.pop(f"{path.name}-shm")
        assert after == before
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


async def test_a_file_of_ours_from_before_the_application_id_is_ours(world: World, path: Path) -> None:
    await world.beat()
    await world.store.close()
    edit(path, "PRAGMA application_id = 0")
    await world.restart()
    assert await world.state() is AgentState.LIVE
    assert ask(path, "PRAGMA application_id") == [(0x57445047,)]


async def test_an_empty_database_is_taken(path: Path) -> None:
    empty = sqlite3.connect(path)
    empty.execute("VACUUM")
    empty.close()
    assert path.stat().st_size > 0
    store = SqliteStore(path, RULES, InlineDisk)
    await store.open(World(store, lambda: None).instant)  # type: ignore[arg-type]
    await store.close()
    assert ask(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]


# Who else may read it.


def modes(path: Path) -> set[int]:
    return {stat.S_IMODE(each.stat().st_mode) for each in family(path)}


async def test_the_files_are_their_owner_s_alone(world: World, path: Path) -> None:
    await world.beat()
    assert modes(path) == {0o600}


async def test_files_that_everybody_could_read_are_tightened(world: World, path: Path) -> None:
    await world.store.close()
    for each in family(path):
        if each.exists():
            each.chmod(0o644)
    await world.restart()
    await world.beat()
    assert modes(path) == {0o600}


# Where it lies.


async def test_a_link_to_the_file_is_the_file(world: World, path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").mkdir()
    link = tmp_path / "link" / "other.db"
    link.symlink_to(path)
    store = SqliteStore(link, RULES, InlineDisk)
    with pytest.raises(StoreLocked):
        await store.open(world.instant)


@pytest.mark.parametrize("suffix", ["", "-wal", ".lock"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_taken_away_is_noticed_and_goes_on_when_it_is_back(
    world: World,
    path: Path,
    suffix: str,
    replaced: bool,  # noqa: FBT001 - a parameter
) -> None:
    await world.beat()
    before = (await world.wait(1)).clock.observed
    file, away = path.with_name(path.name + suffix), path.with_name("away")
    file.rename(away)
    if replaced:
        file.write_bytes(away.read_bytes())
    for _ in range(100):
        world.now += 0.25
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            await world.tick()
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        await world.beat(number=2)
    away.rename(file)
    tick = await world.tick()
    assert tick.clock.observed == before
    assert await world.state() is AgentState.LIVE


# Damage.


async def test_a_damaged_page_is_an_unavailable_store_and_touches_nobody(world: World, path: Path) -> None:
    claim = Claim(ANNA, 1, 1, "me", Observed(0.0), 0.0)
    await world.store.record([action_of(claim, at=START + number) for number in range(100)])
    await world.beat()
    await world.store.close()
    ((page,),) = ask(path, "SELECT rootpage FROM sqlite_master WHERE name = 'actions'")
    assert isinstance(page, int)
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    world.now += 1
    world.store = SqliteStore(path, BRAKED, Meddled)
    await world.store.open(world.instant)
    before = (await world.tick()).clock.observed
    with pytest.raises(StoreUnavailable, match="damaged"):
        await world.store.prune(LATER)
    for _ in range(400):
        world.now += 0.25
        with pytest.raises(StoreUnavailable, match="damaged"):
            await world.tick()
    with pytest.raises(StoreUnavailable, match="damaged"):
        await world.beat()
    with pytest.raises(StoreUnavailable, match="damaged"):
        await world.store.actions()
    assert world.store._clock.observed == before
    assert await world.state() is AgentState.LIVE


# Bad rows.

BAD = [
    ("agents", "last_outcome", "'eaten by a whale'"),
    ("agents", "epoch", "'many'"),
    ("agents", "floor", "9e999"),
    ("agents", "mark", "7"),
    ("agents", "seen", "x'00'"),
    ("sessions", "horizon", "9e999"),
    ("sessions", "ttl", "'long'"),
    ("sessions", "incarnation", "'first'"),
    ("sessions", "session_id", "hex(session_id)"),
]


@pytest.mark.parametrize(("table", "column", "value"), BAD)
async def test_a_bad_row_makes_its_agent_unknown_and_concerns_nobody_else(
    world: World, path: Path, table: str, column: str, value: str
) -> None:
    await world.beat(ANNA, 1)
    await world.beat(ANNA, 2)
    await world.beat(BERT, 3)
    await world.store.close()
    edit(path, f"UPDATE {table} SET {column} = {value} WHERE user_id = 'anna'")
    await world.restart()
    bad = told(world)
    assert bad
    assert all(row.startswith(f"{table} {ANNA} (") for row in bad)
    assert await world.state(ANNA) is None
    assert await world.state(BERT) is AgentState.LIVE
    await world.beat(ANNA, 1)
    await world.beat(ANNA, 2)
    await world.wait(TIMER)
    await world.restart()
    assert told(world) == []
    kept = ask(path, "SELECT count(DISTINCT key) FROM meta WHERE key LIKE 'unreadable %'")
    assert kept == [(len(set(bad)),)]
    assert await world.state(ANNA) is AgentState.LIVE
    await world.wait(200)
    assert sorted(await world.due()) == [ANNA, BERT]


async def test_a_row_whose_text_is_none_is_left_out(world: World, path: Path) -> None:
    await world.beat(ANNA, 1)
    await world.beat(BERT, 2)
    await world.store.close()
    edit(path, "UPDATE agents SET user_id = CAST(x'ff61' AS TEXT) WHERE user_id = 'anna'")
    await world.restart()
    assert len(told(world)) == 1
    assert await world.state(ANNA) is None
    assert await world.state(BERT) is AgentState.LIVE
    await world.beat(ANNA, 1)
    await world.restart()
    assert told(world) == []
    assert await world.state(ANNA) is AgentState.LIVE


async def test_an_agent_with_one_bad_session_is_not_due_by_the_others(world: World, path: Path) -> None:
    await world.beat(ANNA, 1)
    await world.beat(ANNA, 2)
    await world.bye(ANNA, 1)
    await world.store.close()
    edit(path, "UPDATE sessions SET ttl = 'long' WHERE NOT closed")
    await world.restart()
    await world.wait(200)
    assert await world.due() == []


async def test_a_bad_claim_is_left_out_and_its_agent_claimed_anew(world: World, path: Path) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    await world.store.intend(await world.claimed(), intent())
    await world.store.close()
    edit(path, "UPDATE claims SET kind = 'dance'")
    await world.restart()
    assert told(world) == [f"claims {ANNA} (ValueError)"]
    await world.wait(31)
    assert (await world.claimed()).intent is None


async def test_the_intent_of_an_agent_whose_row_is_bad_is_not_taken_for_one_of_its_next_absence(
    world: World, path: Path
) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    await world.store.intend(await world.claimed(), intent())
    await world.store.close()
    edit(path, "UPDATE agents SET mark = 7")
    await world.restart()
    await world.beat(number=2)
    await world.bye(number=2)
    await world.wait(10 + TIMER + 0.5)
    assert (await world.claimed()).intent is None


async def test_bad_actions_are_left_out_of_the_history_and_end_no_page(world: World, path: Path) -> None:
    claim = Claim(ANNA, 1, 1, "me", Observed(0.0), 0.0)
    await world.store.record([action_of(claim, at=START + number) for number in range(10)])
    edit(path, f"UPDATE actions SET outcome = 'whale' WHERE at BETWEEN {START + 3} AND {START + 7}")
    first = await world.store.actions(limit=3)
    assert [action.at - START for action in first.actions] == [9, 8, 2]
    assert first.cursor is not None
    second = await world.store.actions(limit=3, cursor=first.cursor)
    assert [action.at - START for action in second.actions] == [1, 0]
    assert second.cursor is None


async def test_bad_brakes_are_told_and_who_was_held_is_caught_all_the_same(world: World, path: Path) -> None:
    await world.beat()
    await world.wait(TTL + 1)
    await world.store.order(ALL, hold=True, for_s=600.0, reason="a test", instant=world.instant)
    await world.wait(TIMER + 1)
    assert await world.state() is AgentState.HELD
    await world.store.close()
    edit(path, "UPDATE meta SET value = '[7]' WHERE key = 'brakes'")
    await world.restart()
    assert told(world) == ["meta brakes (TypeError)"]
    await world.wait(10 + TTL)
    assert await world.due() == []
    await world.wait(TIMER + 1)
    assert await world.due() == [ANNA]


async def test_a_clock_that_makes_no_sense_is_refused(world: World, path: Path) -> None:
    await world.store.close()
    edit(path, "UPDATE meta SET value = '{}' WHERE key = 'clock'")
    for _ in range(2):
        # What a refused store closes with is nobody's: it must not be there for the next start.
        store = SqliteStore(path, RULES, InlineDisk)
        with pytest.raises(StoreCorrupt, match="cannot read"):
            await store.open(world.instant)
    assert ask(path, "SELECT value FROM meta WHERE key = 'clock'") == [("{}",)]


# Settings that are changed across a restart.


@pytest.mark.parametrize("timer_s", [0.5, 60.0])
async def test_another_timer_holds_from_the_restart_on(path: Path, timer_s: float) -> None:
    world = World(SqliteStore(path, RULES, InlineDisk), lambda: None)  # type: ignore[arg-type]
    await world.store.open(world.instant)
    await world.beat(ANNA, 1)
    await world.beat(BERT, 2)
    await world.wait(1)
    await world.store.close()
    world.now += 10
    world.store = SqliteStore(path, replace(RULES, timer_s=timer_s), InlineDisk)
    await world.store.open(world.instant)
    await world.wait(9)
    await world.beat(ANNA, 1)
    for _ in range(8):
        await world.wait(10)
        await world.beat(ANNA, 1)
        assert ANNA not in await world.due()
    if timer_s > TTL:
        assert await world.due() == []
        await world.wait(timer_s)
    assert await world.due() == [BERT]
    await world.store.close()


@pytest.mark.parametrize(
    ("before", "after", "interval"), [(35.0, 12.0, 10.0), (35.0, 150.0, 10.0), (150.0, 35.0, 50.0)]
)
async def test_another_ttl_touches_nobody_who_beats_at_the_old_interval_until_told(
    path: Path, before: float, after: float, interval: float
) -> None:
    world = World(SqliteStore(path, RULES, InlineDisk), lambda: None)  # type: ignore[arg-type]
    await world.store.open(world.instant)
    for agent, number in ((ANNA, 1), (BERT, 2)):
        await world.beat(agent, number, ttl=before)
    await world.wait(interval - 1)
    await world.beat(ANNA, 1, ttl=before)
    await world.store.close()
    world.now += 0.5
    clock = replace(RULES.clock, heartbeat_interval_s=after / 3)
    world.store = SqliteStore(path, replace(RULES, clock=clock), InlineDisk)
    await world.store.open(world.instant)
    await world.wait(interval * 1.1)
    for _ in range(30):
        assert (await world.beat(ANNA, 1, ttl=after)).verdict is Verdict.RENEWED
        await world.wait(after / 3)
        assert ANNA not in await world.due()
    assert await world.due() == [BERT]
    await world.store.close()


async def test_a_brake_with_other_rules_still_ends(path: Path) -> None:
    world = World(SqliteStore(path, BRAKED, InlineDisk), lambda: None)  # type: ignore[arg-type]
    await world.store.open(world.instant)
    team = [BERT._replace(user_id=f"{number}") for number in range(20)]
    for number, agent in enumerate(team):
        await world.beat(agent, number + 1)
    await world.wait(TTL + TIMER + 1)
    assert await world.state(team[0]) is AgentState.HELD
    await world.store.close()
    world.now += 1
    assert BRAKED.brake is not None
    world.store = SqliteStore(
        path, replace(RULES, brake=replace(BRAKED.brake, fraction=1.0, min_agents=100, max_hold_s=60.0)), InlineDisk
    )
    await world.store.open(world.instant)
    await world.beat(ANNA, 99)
    for _ in range(60):
        await world.wait(10)
        await world.beat(ANNA, 99)
        assert ANNA not in await world.due()
    assert sorted(await world.due()) == sorted(team)
    await world.store.close()
