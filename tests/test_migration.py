"""All that a store keeps goes into another one: whole, once, while nobody uses either, and nobody is set by it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract import redis_server
from tests.contract.world import BRAKED, INSTANCE, TIMER, TTL, World, action_of, intent, settled
from tests.stores.test_valkey import documented_user
from tests.test_cli import watchdog
from watchdog.core import clock as clocks
from watchdog.core.model import AgentId, AgentState, Epoch, FollowUp, Next, Observed
from watchdog.core.undo import Written
from watchdog.errors import StoreCorrupt, StoreLocked, StoreOccupied, StoreUnavailable
from watchdog.migration import Order, Place, _opened, migrate
from watchdog.stores import copying
from watchdog.stores.address import Address
from watchdog.stores.disk import InlineDisk
from watchdog.stores.part_rows import TABLES
from watchdog.stores.parts import is_kept
from watchdog.stores.replica import ReplicaStore
from watchdog.stores.sqlite import SqliteStore
from watchdog.stores.valkey import server_at

if TYPE_CHECKING:
    from tests.contract.redis_server import RedisServer
    from watchdog.stores.table_store import TableStore

HERE, GRACE, DUE, CLAIMED, SET, LATER = (
    AgentId(INSTANCE, name) for name in ("here", "in-grace", "due", "claimed", "set", "is-to-be-logged-out")
)
SHARDS = 5
ROOT = Path(__file__).parent.parent
OWNERS = itertools.count()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there are several of each."""
    monkeypatch.setattr(copying, "CHUNK", 3)


def store_at(where: Place, shards: int = SHARDS) -> TableStore:
    if isinstance(where, Path):
        return SqliteStore(where, BRAKED, InlineDisk)
    return ReplicaStore(where, BRAKED, f"process {next(OWNERS)}", shards)


@contextlib.asynccontextmanager
async def daemon_at(where: Place, now: float = 100.0, shards: int = SHARDS):
    """A store as a daemon has it."""
    world = World(store_at(where, shards), None)  # type: ignore[arg-type]
    world.now = now
    await world.store.open(world.instant)
    try:
        yield world
    finally:
        await world.store.close()


async def fill(where: Place) -> float:
    """Agents in every state, and what belongs to them; returns the time in which the daemon ended."""
    async with daemon_at(where) as world:
        store = world.store
        for number in range(10, 20):
            await settled(world, agent=AgentId(INSTANCE, f"old-{number}"), number=number)
        # Those that stay keep their numbers.
        assert await store.prune(Epoch(world.instant.epoch - 30))
        await store.mark_delivered("hook", 7)
        for number, agent in enumerate((SET, CLAIMED, LATER), 1):
            await world.beat(agent, number)
            await world.bye(agent, number)
        await world.wait(TIMER + 0.5)
        for agent in (SET, CLAIMED, LATER):
            claim = await world.claimed(agent)
            assert await store.intend(claim, intent())
            if agent is not CLAIMED:
                follow_up = FollowUp(Next.LOG_OUT, Observed(1e6), "late") if agent is LATER else None
                action = action_of(claim, at=world.instant.epoch)
                assert await store.settle(claim, action, Written(Epoch(world.instant.epoch), None), follow_up)
        await world.beat(DUE, 4)
        await world.beat(HERE, 5)
        await world.wait(TTL + TIMER - 3)
        await world.beat(HERE, 5)
        await world.beat(GRACE, 6)
        await world.bye(GRACE, 6)
        await store.order("all", hold=False, for_s=600.0, reason="a test", instant=world.instant)
        await world.wait(4)
        return world.now


def dump(path: Path) -> dict[str, object]:
    """All that a file has."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = [*copying.PUTS, "meta", "actions", "recorded", "sqlite_sequence"]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}


async def seen(world: World) -> dict[str, object]:
    """What a daemon knows."""
    store = world.store
    assert world.last is not None
    page = await store.recorded(0, 10_000)
    return {
        "agents": [replace(view, sessions=len(view.sessions)) for view in (await store.agents(limit=10_000)).agents],
        "actions": (await store.actions(limit=10_000)).actions,
        "recorded": (page.actions, page.last),
        "delivered": await store.delivered("hook"),
        "secret": await store.secret(),
        "orders": [(hold.group, hold.state, hold.reason) for hold in world.last.brake.holds],
        "changes": await store.restore(Epoch(0.0), None, silent=True, instant=world.instant),
    }


async def test_all_that_is_kept_comes_through_every_kind_of_store(tmp_path: Path, server: RedisServer) -> None:
    first, last = tmp_path / "first.db", tmp_path / "last.db"
    await fill(first)
    places = [first, server.address, replace(server.address, database=1), tmp_path / "second.db", last]
    for number, (source, target) in enumerate(itertools.pairwise(places)):
        found = await migrate(Order(source, target, shards=3 + number))
        assert found.agents
        assert not found.left_out
    had, has = dump(first), dump(last)
    assert had["actions"]
    assert had["changes"]
    assert had["claims"]
    assert had["sqlite_sequence"] == [("recorded", 12)]
    assert had["recorded"][0][0] > 1  # type: ignore[index]
    for name, rows in had.items():
        assert has[name] == rows, name


async def test_a_daemon_goes_on_with_the_copy_as_with_what_was_copied(tmp_path: Path, server: RedisServer) -> None:
    path = tmp_path / "watchdog.db"
    ended = await fill(path)
    await migrate(Order(path, server.address, SHARDS))
    knows = []
    for where in (path, server.address):
        async with daemon_at(where, ended + 10) as world:
            # A grace of 10 s, as long as the gap, in which nobody is acted on.
            tick = await world.wait(9.5)
            assert clocks.gives_grace(tick.clock)
            assert await world.state(DUE) is AgentState.DUE
            assert await world.state(GRACE) is AgentState.GRACE
            tick = await world.wait(0.5)
            assert not clocks.gives_grace(tick.clock)
            assert {due.agent for due in tick.due} >= {DUE, CLAIMED}
            (left,) = [due for due in tick.due if due.agent == CLAIMED]
            claim = await world.store.claim(left, "me")
            assert claim is not None
            assert claim.intent == intent()
            await world.store.release(claim, 0.0)
            await world.beat(HERE, 5)
            assert await world.state(HERE) is AgentState.LIVE
            knows.append(await seen(world))
            await world.wait(TIMER)
            assert await world.state(GRACE) is AgentState.DUE
    assert knows[0] == knows[1]


@pytest.fixture(params=["sqlite", "valkey"])
def target(request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer) -> Place:
    return tmp_path / "target.db" if request.param == "sqlite" else server.address


async def test_half_a_copy_is_taken_by_no_daemon_and_made_anew(tmp_path: Path, target: Place) -> None:
    source = tmp_path / "source.db"
    await fill(source)

    class Interrupted(Exception):
        pass

    told: list[int] = []
    for step in itertools.count():

        def tell(done: int, step: int = step) -> None:
            told.append(done)
            if len(told) > step:
                raise Interrupted

        told.clear()
        async with _opened(source, SHARDS) as have, _opened(target, SHARDS) as gets:
            found = await copying.contents(have)
            try:
                await copying.copy(found, have, gets, "old", tell)
            except Interrupted:
                pass
            else:
                break
        with pytest.raises(StoreCorrupt, match=r"a part of what is kept at old.*Run it again"):
            async with daemon_at(target):
                pass
        with pytest.raises(StoreCorrupt, match="a part of what is kept"):
            await migrate(Order(target, tmp_path / "third.db"))
    assert told == sorted(told)
    assert step > 5
    async with daemon_at(target) as world:
        assert await world.state(HERE) is AgentState.LIVE


async def test_it_begins_anew_also_with_another_number_of_parts(tmp_path: Path, server: RedisServer) -> None:
    source = tmp_path / "source.db"
    await fill(source)
    async with _opened(source, 0) as have, _opened(server.address, 7) as gets:

        def fails(_: int) -> None:
            raise StoreUnavailable("the end")

        with pytest.raises(StoreUnavailable):
            await copying.copy(await copying.contents(have), have, gets, "old", fails)
    with server.client as client:
        # For those who look no further.
        assert client.hget("{wd:all}:meta", "format") == b"half a copy"
    at_server = server_at(server.address)
    with pytest.raises(StoreCorrupt, match=r"a part of what is kept at old.*Run it again"):
        await is_kept(at_server, 7)
    await migrate(Order(source, server.address, shards=2))
    async with daemon_at(server.address, shards=2) as world:
        assert await world.state(HERE) is AgentState.LIVE
    with server.client as client:
        assert client.hget("{wd:all}:meta", "format") == b"1"
        assert await is_kept(at_server, 2)
        with pytest.raises(StoreCorrupt, match="WATCHDOG_SHARDS=2"):
            await is_kept(at_server, 3)
        client.hset("{wd:all}:meta", "format", "2")
        with pytest.raises(StoreCorrupt, match="newer version"):
            await is_kept(at_server, 2)
        assert not client.exists("{wd:6}:agents", "{wd:6}:sessions")
    await at_server.close()


async def test_a_target_that_was_used_is_replaced_by_order_only(tmp_path: Path, target: Place) -> None:
    source = tmp_path / "source.db"
    await fill(source)
    stranger = AgentId(INSTANCE, "stranger")
    async with daemon_at(target) as world:
        for number in range(15):
            await settled(world, agent=AgentId(INSTANCE, f"other-{number}"), number=50 + number)
        await world.beat(stranger, 90)
    for dry_run in (True, False):
        with pytest.raises(StoreOccupied, match="--replace"):
            await migrate(Order(source, target, SHARDS, dry_run=dry_run))
    async with daemon_at(target) as world:
        assert await world.state(stranger) is not None
    await migrate(Order(source, target, SHARDS, replace=True))
    back = tmp_path / "back.db"
    await migrate(Order(target, back))
    assert dump(back) == dump(source)


async def test_a_daemon_on_either_side_is_told_and_nothing_is_done(tmp_path: Path, target: Place) -> None:
    source = tmp_path / "source.db"
    ended = await fill(source)
    async with daemon_at(target):
        for dry_run in (True, False):
            with pytest.raises(StoreLocked, match=r"in use\. Stop all its daemons|held by a running daemon"):
                await migrate(Order(source, target, SHARDS, replace=True, dry_run=dry_run))
        with pytest.raises(StoreLocked, match="in use"):
            await migrate(Order(target, tmp_path / "other.db"))
        assert not (tmp_path / "other.db").exists()
    async with daemon_at(target) as world:
        assert not (await world.store.agents()).agents
    async with daemon_at(source, ended), _nothing_written(target):
        with pytest.raises(StoreLocked, match="in use"):
            await migrate(Order(source, target, SHARDS, replace=True))


@contextlib.asynccontextmanager
async def _nothing_written(target: Place):
    """Nothing that a daemon would see."""
    async with _opened(target, SHARDS) as journal:
        before = await journal.look(copying._copied)
    yield
    async with _opened(target, SHARDS) as journal:
        assert await journal.look(copying._copied) == before


async def test_a_dry_run_counts_and_leaves_an_empty_target_as_it_is(
    tmp_path: Path, target: Place, server: RedisServer
) -> None:
    source = tmp_path / "source.db"
    await fill(source)
    counted = await migrate(Order(source, target, SHARDS, dry_run=True))
    assert not (tmp_path / "target.db").exists()
    with server.client as client:
        assert client.dbsize() == 0
    assert await migrate(Order(source, target, SHARDS)) == counted


async def test_what_is_not_there_or_empty_is_not_copied(tmp_path: Path, server: RedisServer) -> None:
    target = tmp_path / "target.db"
    with pytest.raises(StoreUnavailable, match="is not there"):
        await migrate(Order(tmp_path / "source.db", target))
    with pytest.raises(StoreCorrupt, match="Nothing is kept there"):
        await migrate(Order(server.address, target))
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await migrate(Order(Address("127.0.0.1", redis_server.free_port()), target))
    assert not target.exists()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE sessions SET ttl = 'long' WHERE rowid IN (SELECT rowid FROM sessions LIMIT 1)",
        "UPDATE agents SET user_id = CAST(X'ff00ff' AS TEXT) WHERE user_id = 'here'",
        "UPDATE changes SET action_id = X'ff' WHERE 1",
        "UPDATE claims SET evidence = '{' WHERE 1",
        "UPDATE meta SET value = '{' WHERE key = 'brakes'",
    ],
)
async def test_a_row_that_cannot_be_read_is_told_before_anything_is_written(
    tmp_path: Path, server: RedisServer, damage: str
) -> None:
    """Of an agent whose session is not known nobody could tell that it has gone."""
    source = tmp_path / "source.db"
    await fill(source)
    with contextlib.closing(sqlite3.connect(source)) as connection:
        connection.execute(damage.replace("rowid", "session_id"))
        connection.commit()
    with pytest.raises(StoreCorrupt, match=r"rows cannot be read: (sessions|agents|changes|claims|meta) .*sets them"):
        await migrate(Order(source, server.address, SHARDS))
    with server.client as client:
        assert client.dbsize() == 0


async def test_rows_that_a_server_has_lost_are_told_and_replaced(tmp_path: Path, server: RedisServer) -> None:
    source, back = tmp_path / "source.db", tmp_path / "back.db"
    await fill(source)
    await migrate(Order(source, server.address, SHARDS))
    with server.client as client:
        keys = list(client.scan_iter("{wd:*}:agents"))
        assert client.delete(*keys) == len(keys) > 0
    with pytest.raises(StoreCorrupt, match="rows that were kept there are not there any more"):
        await migrate(Order(server.address, back))
    await migrate(Order(source, server.address, SHARDS, replace=True))
    await migrate(Order(server.address, back))
    assert dump(back) == dump(source)


async def test_actions_that_cannot_be_read_are_left_out_and_told(tmp_path: Path, server: RedisServer) -> None:
    source = tmp_path / "source.db"
    await fill(source)
    with contextlib.closing(sqlite3.connect(source)) as connection:
        connection.execute("UPDATE actions SET evidence = '{' WHERE id IN (SELECT id FROM actions LIMIT 2)")
        connection.commit()
    found = await migrate(Order(source, server.address, SHARDS))
    assert found.left_out == 2
    async with daemon_at(server.address) as world:
        page = await world.store.recorded(0, 1000)
    assert (len(page.actions), page.last) == (found.actions, found.last_number)


async def test_what_another_one_writes_meanwhile_is_noticed(tmp_path: Path, server: RedisServer) -> None:
    source = tmp_path / "source.db"
    await fill(source)

    def disturb(_: int) -> None:
        with server.client as client:
            for agents in (f"{{wd:{number}}}:agents" for number in range(SHARDS)):
                for agent in client.hkeys(agents):
                    client.hset(agents, agent, json.dumps([7, 0, None, None, 0, 0, 0, 0, None, None]))

    async with _opened(source, 0) as have, _opened(server.address, SHARDS) as gets:
        with pytest.raises(StoreCorrupt, match="not what is there"):
            await copying.copy(await copying.contents(have), have, gets, "old", disturb)


async def test_actions_in_an_outbox_are_in_the_history_of_the_copy(tmp_path: Path, server: RedisServer) -> None:
    """As a daemon leaves them that dies between an agent's outcome and the history."""
    source = tmp_path / "source.db"
    await fill(source)
    await migrate(Order(source, server.address, SHARDS))
    with server.client as client:
        (row,) = client.hmget("{wd:all}:actions", client.zrange("{wd:all}:ids", 0, 0))
        made = json.loads(row)
        made[0] = "ffffffffffff-00000001"
        client.hset("{wd:1}:outbox", made[0], json.dumps(made))
        counted = client.hget("{wd:1}:part", "rows").split()
        counted[1 + TABLES.index("outbox")] = b"1"
        client.hset("{wd:1}:part", "rows", b" ".join(counted))
    await migrate(Order(server.address, tmp_path / "back.db"))
    had, has = dump(source), dump(tmp_path / "back.db")
    assert len(has["actions"]) == len(had["actions"]) + 1  # type: ignore[arg-type]
    assert (13, made[0]) in has["recorded"]  # type: ignore[operator]


async def test_leases_are_kept_while_it_takes_long(tmp_path: Path, server: RedisServer) -> None:
    """A daemon that stands by must not take the target over in between."""
    source = tmp_path / "source.db"
    await fill(source)
    async with _opened(source, 0) as have, _opened(server.address, SHARDS) as gets:
        found = await copying.contents(have)
        await asyncio.sleep(4)  # longer than a lease, in the real time that a server has
        with pytest.raises((StoreLocked, StoreUnavailable)):
            async with daemon_at(server.address):
                pass
        await copying.copy(found, have, gets, "old", lambda _: None)


# The command.


def test_the_command_copies_and_tells(tmp_path: Path, server: RedisServer) -> None:
    source = tmp_path / "a store.db"
    asyncio.run(fill(source))
    url = tmp_path / "url"
    url.write_text(f"valkey://watchdog:sesame@127.0.0.1:{server.port}/0\n")
    with server.client as client:
        client.execute_command(*documented_user())
        try:
            line = ["migrate", "--from", f"sqlite:///{source}", "--to", str(url)]
            tried = watchdog(*line, "--dry-run")
            assert (tried.returncode, tried.stderr) == (0, "")
            assert tried.stdout.startswith("Would copy  ")
            done = watchdog(*line, "--json", environ={"WATCHDOG_SHARDS": "3"})
            assert (done.returncode, done.stderr) == (0, "")
            told = json.loads(done.stdout)
            assert (told["from"], told["to"]) == (str(source), f"valkey://127.0.0.1:{server.port}/0")
            assert told["actions"] == len(dump(source)["actions"])  # type: ignore[arg-type]
            again = watchdog(*line)
            assert (again.returncode, again.stdout) == (1, "")
            assert "--replace" in again.stderr
            back = watchdog("migrate", "--from", str(url), "--to", f"sqlite:///{tmp_path}/back.db")
            assert back.returncode == 0
            assert "Start the daemon with the new WATCHDOG_STORE" in " ".join(back.stdout.split())
            assert "sesame" not in tried.stdout + done.stdout + again.stderr + back.stdout
        finally:
            client.execute_command("ACL", "DELUSER", "watchdog")
    assert dump(tmp_path / "back.db") == dump(source)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--from", "sqlite:///x.db", "--to", "sqlite:///./x.db"], "same as --from"),
        (["--from", "valkey://:s3cret@x/0", "--to", "valkey://user:s3cret@x:6379/0"], "same as --from"),
        (["--from", "mysql://:s3cret@x", "--to", "sqlite:///x.db"], "no URL"),
        (["--from", "not-there", "--to", "sqlite:///x.db"], "cannot be read"),
        (["--to", "sqlite:///x.db"], "--from"),
    ],
)
def test_bad_usage_is_told_without_a_password(given: list[str], told: str) -> None:
    done = watchdog("migrate", *given)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.replace("│", "").split())
    assert "s3cret" not in done.stdout + done.stderr
    assert not (ROOT / "x.db").exists()
