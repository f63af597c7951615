"""What only a real server can do to the store: to stop, die, fill up, forget, be replaced; and other daemons."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.contract import redis_server
from tests.contract.conftest import died
from tests.contract.world import ANNA, BERT, RULES, START, TIMER, TTL, World, action_of, intent, session
from tests.scenarios.front import Front
from watchdog.core.clock import Cause
from watchdog.core.model import AgentId, AgentState, Epoch, Outcome, Standing, Verdict
from watchdog.core.undo import Written
from watchdog.errors import StoreCorrupt, StoreLocked, StoreUnavailable
from watchdog.stores import valkey_server
from watchdog.stores.address import Address, address
from watchdog.stores.ending import ended
from watchdog.stores.part_rows import PartWrite, part_of
from watchdog.stores.valkey import ValkeyStore
from watchdog.stores.valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.contract.redis_server import RedisServer

SHARDS = 3
ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server.running(tmp_path) as running:
        yield running


@pytest.fixture
def opened() -> list[ValkeyStore]:
    """Stores to close in the end; those of dead processes too."""
    return []


@pytest.fixture
async def world(server: RedisServer, opened: list[ValkeyStore]) -> AsyncIterator[World]:
    async def reopened() -> ValkeyStore:
        died(opened)
        server.end_leases()
        store = ValkeyStore(server.address, RULES, f"process {len(opened)}", SHARDS)
        opened.append(store)
        return store

    world = World(await reopened(), reopened)
    await world.store.open(world.instant)
    yield world
    for store in opened:
        await store.close()


async def failing_ticks(world: World, seconds: float = 1.0) -> None:
    """Time in which the store cannot be written."""
    for _ in range(2):
        world.now += seconds / 2
        with pytest.raises(StoreUnavailable):
            await world.tick()


async def goes_on(world: World, most: int = 4) -> int:
    """How many ticks fail until one does not."""
    for failed in range(most):
        world.now += 0.25
        try:
            await world.tick()
        except StoreUnavailable:
            continue
        return failed
    raise AssertionError("it does not go on by itself")


# The server.


async def test_a_server_that_hangs_stops_the_clock_and_nobody_is_due(
    world: World, server: RedisServer, opened: list[ValkeyStore]
) -> None:
    await world.store.close()
    world.store = ValkeyStore(ValkeyServer(server.address, answer_s=0.2), RULES, "hasty", SHARDS)
    opened.append(world.store)
    await world.store.open(world.instant)
    await world.wait(11)  # of grace
    await world.beat()
    await world.wait(TTL)
    before = world.last.clock.observed
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    await failing_ticks(world, TTL)
    with pytest.raises(StoreUnavailable, match="has not answered"):
        await world.beat(BERT, 2)
    assert time.monotonic() - began < 3
    server.signal(signal.SIGCONT)
    assert await goes_on(world) == 0
    await world.wait(0.25)
    assert world.last.clock.observed == before
    assert world.last.clock.standing is Cause.GRACE
    assert await world.state() is AgentState.LIVE
    assert (await world.beat()).live
    # What was sent and not answered is no riddle: nothing is written anew.
    assert all(part.whole for part in world.store._parts._fenced.parts)


async def test_a_server_that_dies_and_comes_back_empty_is_given_everything_again(
    world: World, server: RedisServer
) -> None:
    await world.beat()
    await world.beat(BERT, 2)
    await world.bye(BERT, 2)
    await world.wait(TIMER + 1)
    claim = await world.claimed(BERT)
    assert await world.store.intend(claim, intent())
    secret = await world.store.secret()
    server.stop()
    await failing_ticks(world)
    server.start()
    assert 1 <= await goes_on(world) <= 3
    clock = world.last.clock
    await world.restart()
    assert await world.state() is AgentState.LIVE
    assert await world.state(BERT) is AgentState.DUE
    assert await world.store.secret() == secret
    assert world.store._clock.observed >= clock.observed
    again = await world.claimed(BERT)
    assert again.intent == intent()
    assert again.token > claim.token


async def test_everything_is_forgotten_and_nobody_is_set_by_it(world: World, server: RedisServer) -> None:
    for number in range(20):
        await world.beat(AgentId("i", f"agent-{number}"), number + 1)
    await world.wait(10)
    with server.client as client:
        client.flushall()
    assert 1 <= await goes_on(world) <= 3
    assert world.last.due == ()
    await world.restart()
    assert (await world.store.counts()).agents[AgentState.LIVE] == 20


async def test_numbers_of_the_history_go_on_after_it_was_lost(world: World, server: RedisServer) -> None:
    """A receiver of webhooks is somewhere in them: with a number given twice it would miss what is recorded then."""
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 1)
    claim = await world.claimed()
    action = action_of(claim)
    assert await world.store.settle(claim, action)
    (before,) = (number for number, _ in (await world.store.recorded(0)).actions)
    with server.client as client:
        client.flushall()
    await goes_on(world)
    await world.store.record([replace(action, id="later")])
    ((number, _),) = (await world.store.recorded(before)).actions
    assert number > before


async def test_a_server_that_loses_the_last_writes_is_noticed(world: World, server: RedisServer) -> None:
    """As in a failover to a replica that was behind: who has returned is not due again, and no claim is back."""
    await world.beat()
    await world.beat(BERT, 2)
    await world.bye(BERT, 2)
    await world.wait(TTL + TIMER + 1)
    claim = await world.claimed(BERT)
    assert await world.store.intend(claim, intent())
    with server.client as client:
        client.save()
    assert await world.store.settle(claim, action_of(claim))
    await world.beat()
    await world.wait(1)
    server.stop()
    await failing_ticks(world)
    server.start()
    assert 1 <= await goes_on(world) <= 3
    assert await world.state() is AgentState.LIVE
    await world.restart()
    assert await world.state() is AgentState.LIVE
    assert await world.state(BERT) is AgentState.AWAY
    assert world.store._left == {}
    assert await world.due() == []


async def test_a_server_that_loses_writes_while_it_is_read_keeps_the_others(
    world: World, server: RedisServer, opened: list[ValkeyStore]
) -> None:
    await world.beat()
    await world.store.close()
    store = ValkeyStore(server.address, RULES, "another", SHARDS)
    opened.append(store)
    await store._parts.open()
    key = f"{{wd:{part_of(ANNA, SHARDS)}}}"
    with server.client as client:
        client.hset(f"{key}:part", "fence", "0 nobody")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="lost"):
                await store._parts.confirm(ANNA)
        assert client.hlen(f"{key}:agents") == 1


async def test_a_full_memory_stops_the_clock_until_there_is_more(world: World, server: RedisServer) -> None:
    await world.beat()
    await world.wait(1)
    before = world.last.clock.observed
    with server.client as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="memory is full"):
            await world.beat(BERT, 2)
        await failing_ticks(world)
        with pytest.raises(StoreUnavailable, match="memory is full"):
            await world.beat(BERT, 2)
        assert world.store._clock.observed == before
        client.config_set("maxmemory", 0)
    assert await goes_on(world) == 0
    assert (await world.beat(BERT, 2)).live
    await world.restart()
    assert await world.state(BERT) is AgentState.LIVE


async def test_a_server_that_becomes_a_replica_takes_no_writes_until_it_is_one_no_more(
    world: World, server: RedisServer
) -> None:
    await world.beat()
    await world.wait(1)
    with server.client as client:
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailable, match="replica"):
            await world.tick()
        client.replicaof("no", "one")
    assert await goes_on(world) == 0


async def test_when_a_server_is_a_replica_its_address_is_looked_up_anew_and_nothing_is_read_of_it_any_more(
    tmp_path: Path,
) -> None:
    """A planned failover cuts no connections, and a replica answers reads, late."""
    with redis_server.running(tmp_path) as old, Front(old.port) as way:
        (tmp_path / "new").mkdir()
        with redis_server.running(tmp_path / "new") as new:
            server = ValkeyServer(Address("127.0.0.1", way.port))
            await server.open()
            # Some connections that are idle, one that waits, and one that is used for something else meanwhile.
            await asyncio.gather(*(server.read(("HGET", "{wd:all}:meta", "secret")) for _ in range(8)))
            waiting = asyncio.create_task(server.pop("{wd:to:me}:inbox", 1.0))
            pool = server._client.connection_pool
            used = await pool.get_connection()
            with old.client as client, new.client as other:
                client.replicaof("127.0.0.1", 1)
                other.hset("{wd:all}:meta", "secret", "of the new one")
            way.target = new.port
            await server.call([("agree", ["{wd:all}:meta"], ["format", "1"])])
            assert await waiting is None
            await pool.release(used)
            found = await asyncio.gather(*(server.read(("HGET", "{wd:all}:meta", "secret")) for _ in range(12)))
            assert found == [[b"of the new one"]] * 12
            await server.close()


async def test_connections_that_are_cut_are_made_anew_at_once(world: World, server: RedisServer) -> None:
    await world.beat()
    for _ in range(3):
        with server.client as client:
            client.execute_command("CLIENT KILL TYPE normal SKIPME yes")
        await world.wait(1)
        assert (await world.beat(BERT, 2)).live
    assert world.last.clock.standing is None


async def test_a_write_whose_connection_was_cut_after_it_came_through_counts_once(
    world: World, server: RedisServer
) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 1)
    claim = await world.claimed()
    piped, cut = world.store._parts._server._piped, []

    async def answers_once_cut(commands):
        answers = await piped(commands)
        if not cut:
            cut.append(commands)
            raise ConnectionResetError(104, "reset")
        return answers

    world.store._parts._server._piped = answers_once_cut
    assert await world.store.settle(claim, action_of(claim), Written(0.0, None))
    assert cut
    assert len((await world.store.recorded(0)).actions) == 1
    assert await world.state() is AgentState.AWAY


async def test_a_server_that_has_lost_the_functions_is_given_them_again(world: World, server: RedisServer) -> None:
    with server.client as client:
        client.function_flush()
    assert await goes_on(world) == 0


async def test_a_server_that_drops_keys_is_refused(server: RedisServer) -> None:
    store = ValkeyStore(server.address, RULES, "me", SHARDS)
    with server.client as client:
        for policy in ("allkeys-lru", "volatile-ttl", "allkeys-random"):
            client.config_set("maxmemory-policy", policy)
            with pytest.raises(StoreCorrupt, match=f"{policy}.*noeviction"):
                await store.open(World(store, None).instant)  # type: ignore[arg-type]
        assert client.keys() == []


async def test_a_server_that_is_too_old_is_refused(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey_server, "LEAST_VERSION", (99, 0, 0))
    store = ValkeyStore(server.address, RULES, "me", SHARDS)
    with pytest.raises(StoreCorrupt, match=r"is version \d+\.\d+\.\d+"):
        await store.open(World(store, None).instant)  # type: ignore[arg-type]


async def test_nobody_there_and_a_wrong_password_are_told_without_it(tmp_path: Path) -> None:
    with redis_server.running(tmp_path, "--requirepass", "right") as server:
        for given, told in ((None, "password"), ("wrong-one", "password")):
            store = ValkeyStore(replace(server.address, password=given), RULES, "me", SHARDS)
            with pytest.raises(StoreUnavailable, match=told) as error:
                await store.open(World(store, None).instant)  # type: ignore[arg-type]
            assert "wrong-one" not in str(error.value)
            assert f"valkey://127.0.0.1:{server.port}/0" in str(error.value)
        store = ValkeyStore(replace(server.address, password="right", database=99), RULES, "me", SHARDS)
        with pytest.raises(StoreUnavailable, match="no database of that number"):
            await store.open(World(store, None).instant)  # type: ignore[arg-type]
        store = ValkeyStore(replace(server.address, password="right"), RULES, "me", SHARDS)
        await store.open(World(store, None).instant)  # type: ignore[arg-type]
        await store.close()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await store.open(World(store, None).instant)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "loading"),
        (redis.exceptions.ResponseError("LOADING Redis is loading the dataset in memory"), "loading"),
        (redis.exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "cannot save"),
        (redis.exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), "too few"),
        (redis.exceptions.ResponseError("MOVED 3999 127.0.0.1:6381"), "cluster"),
        (redis.exceptions.ClusterDownError("CLUSTERDOWN Hash slot not served"), "cluster"),
        (redis.exceptions.ResponseError("NOPERM this user has no permissions"), "permissions"),
        (redis.exceptions.ResponseError("ERR whatever secret"), "ResponseError"),
        (ConnectionResetError(104, "reset"), "cannot be reached"),
    ],
)
def test_what_a_server_answers_is_told_in_words(error: Exception, told: str) -> None:
    text = str(ValkeyServer(Address("host"))._unavailable(error))
    assert told in text
    assert "secret" not in text


# Other daemons.


async def test_a_second_daemon_is_refused_while_the_first_one_lives(world: World, server: RedisServer) -> None:
    other = ValkeyStore(server.address, RULES, "another", SHARDS)
    opening = asyncio.create_task(other.open(world.instant))
    while not opening.done():
        world.now += 0.25
        await world.tick()
        await asyncio.sleep(0.1)
    with pytest.raises(StoreLocked, match="process 0"):
        await opening
    await world.tick()


async def test_the_parts_of_a_daemon_that_died_are_free_after_the_lease(world: World, server: RedisServer) -> None:
    await world.beat()
    died([world.store])
    other = ValkeyStore(server.address, RULES, "another", SHARDS)
    began = time.monotonic()
    await other.open(world.instant)
    assert 2 < time.monotonic() - began < 4
    view = await other.agent(ANNA)
    assert view is not None
    assert view.state is AgentState.LIVE
    await other.close()


async def test_the_parts_of_a_daemon_that_ended_in_order_are_free_at_once(world: World, server: RedisServer) -> None:
    await world.store.close()
    other = ValkeyStore(server.address, RULES, "another", SHARDS)
    began = time.monotonic()
    await other.open(world.instant)
    assert time.monotonic() - began < 1
    await other.close()


async def test_a_daemon_that_takes_long_to_start_keeps_its_parts(world: World, server: RedisServer) -> None:
    """It asks Connect for names first, for some seconds: nothing ticks and nothing is written meanwhile."""
    other = ValkeyStore(server.address, RULES, "another", SHARDS)
    with pytest.raises(StoreLocked):
        await other.open(world.instant)


async def test_a_part_that_was_taken_is_not_written_though_nothing_was_written_to_it_since(world: World) -> None:
    old = world.store
    await world.restart()
    with pytest.raises(StoreUnavailable, match="taken over"):
        await old._parts._fenced.put([(old._parts._fenced.parts[0], PartWrite().arguments())])


async def test_a_number_that_was_given_twice_is_no_license(world: World, server: RedisServer) -> None:
    """The server has lost that the first one had it, given it to another one, and had as many writes since."""
    part = world.store._parts._fenced.parts[0]
    await world.wait(1)
    with server.client as client:
        for version in (part.version, part.version + 1):
            fence = part.fence.replace(b"process 0", b"another")
            client.hset("{wd:0}:part", mapping={"owner": "another", "fence": fence, "version": version})
            with pytest.raises(StoreUnavailable, match=r"another.*taken over"):
                await world.store._parts._fenced.put([(part, PartWrite().arguments())])
            world.store._parts._fenced.taken_over = None


async def test_who_has_not_the_part_of_all_takes_no_other(world: World, server: RedisServer) -> None:
    """On a cluster two who try at once could each get some, and neither all."""
    await world.store.close()
    with server.client as client:

        async def renew() -> None:
            while True:
                client.hset("{wd:all}:part", mapping={"owner": "another", "until": 9e15})
                await asyncio.sleep(0.2)

        renewing = asyncio.create_task(renew())
        await asyncio.sleep(0)
        before = client.hgetall("{wd:0}:part")
        with pytest.raises(StoreLocked, match="another"):
            await ValkeyStore(server.address, RULES, "me", SHARDS).open(world.instant)
        assert client.hgetall("{wd:0}:part") == before
        await ended([renewing])


async def test_of_several_who_wait_for_the_parts_one_gets_them(world: World, server: RedisServer) -> None:
    others = [ValkeyStore(server.address, RULES, f"another {number}", SHARDS) for number in range(4)]
    await world.store.close()
    opened = await asyncio.gather(*(each.open(world.instant) for each in others), return_exceptions=True)
    assert sorted(type(each).__name__ for each in opened) == ["NoneType", "StoreLocked", "StoreLocked", "StoreLocked"]
    for each in others:
        await each.close()


async def test_whoever_was_replaced_acts_on_nobody_and_answers_nobody(
    world: World, server: RedisServer, opened: list[ValkeyStore]
) -> None:
    await world.beat()
    await world.beat(BERT, 2)
    await world.bye(BERT, 2)
    await world.wait(TIMER + 1)
    old, claim = world.store, await world.claimed(BERT)
    assert await old.still_gone(claim) is Standing.GONE
    await world.restart()
    with pytest.raises(StoreUnavailable, match="taken over"):
        await old.still_gone(claim)
    for asked in (
        old.intend(claim, intent()),
        old.settle(claim, action_of(claim)),
        old.record([action_of(claim)]),
        old.actions(),
    ):
        with pytest.raises(StoreUnavailable, match="taken over"):
            await asked
    with pytest.raises(StoreLocked, match="restart it"):
        await old.tick("me", world.instant)
    assert (await world.store.actions()).actions == ()
    assert await world.state(BERT) is AgentState.DUE
    assert (await world.claimed(BERT)).intent is None


async def test_a_daemon_that_was_stopped_asks_before_it_answers(world: World) -> None:
    """Plain renewals are not written: without it they would be answered by a process that has been replaced."""
    await world.beat(seq=1)
    old = world.store
    await world.restart()
    beat = replace_seq(world, 2)
    assert old.plainly_live(beat) is not None, "it does not know yet"
    old._parts._fenced.all.written_at -= 10
    assert old.plainly_live(beat) is None
    with pytest.raises(StoreUnavailable, match="taken over"):
        await old.apply([beat], world.instant)
    assert (await world.store.apply([beat], world.instant))[0].verdict is Verdict.RENEWED


def replace_seq(world: World, seq: int):
    from watchdog.core.model import Beat, BeatType

    return Beat(ANNA, session(1), BeatType.BEAT, 0, seq, TTL)


async def test_a_lease_counts_from_when_the_write_was_sent(world: World) -> None:
    """Not from its answer, which may have been long on its way."""
    call = world.store._parts._server.call

    async def slowly(calls):
        answers = await call(calls)
        await asyncio.sleep(0.2)
        return answers

    world.store._parts._server.call = slowly
    sent = asyncio.get_running_loop().time()
    await world.tick()
    assert sent <= world.store._parts._fenced.all.written_at < sent + 0.1


# What is kept.


async def test_the_number_of_parts_is_fixed(world: World, server: RedisServer) -> None:
    await world.store.close()
    other = ValkeyStore(server.address, RULES, "another", SHARDS + 1)
    with pytest.raises(StoreCorrupt, match=f"WATCHDOG_SHARDS={SHARDS},"):
        await other.open(world.instant)
    with server.client as client:
        client.hset("{wd:all}:meta", "format", "2")
        before = client.hgetall("{wd:all}:meta")
        with pytest.raises(StoreCorrupt, match="newer version"):
            await ValkeyStore(server.address, RULES, "another", SHARDS).open(world.instant)
        assert client.hgetall("{wd:all}:meta") == before


async def test_an_action_that_was_decided_is_in_the_history_though_the_process_died_in_between(
    world: World, server: RedisServer
) -> None:
    """It is in its part's outbox from the moment in which it is decided, and in the history once and for all."""
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 1)
    claim = await world.claimed()
    call, calls = world.store._parts._server.call, []

    async def dies(wanted):
        calls.append([name for name, _, _ in wanted])
        if len(calls) == 3:
            raise StoreUnavailable("it is dead")
        return await call(wanted)

    world.store._parts._server.call = dies
    with pytest.raises(StoreUnavailable):
        await world.store.settle(claim, action_of(claim, at=world.instant.epoch), Written(0.0, None))
    assert calls == [["note"], ["write"], ["record"]]
    world.store._parts._server.call = call
    await world.restart()
    assert [action.outcome for action in (await world.store.actions()).actions] == [Outcome.CONFIRMED]
    assert await world.state() is AgentState.AWAY
    await world.wait(2)
    with server.client as client:
        assert client.keys("*outbox") == []
    await world.restart()
    assert len((await world.store.recorded(0)).actions) == 1


async def test_rows_that_make_no_sense_are_set_aside_and_the_others_are_there(
    world: World, server: RedisServer
) -> None:
    await world.beat()
    await world.beat(BERT, 2)
    await world.restart()
    with server.client as client:
        number = part_of(BERT, SHARDS)
        for table, value in (("agents", b"[1"), ("sessions", b'["x"]'), ("claims", b"7 {}"), ("changes", b"null")):
            prefix = session(9) if table == "sessions" else b""
            client.hset(f"{{wd:{number}}}:{table}", prefix + str(BERT).encode(), value)
        client.hset("{wd:all}:meta", "brakes", "what?")
    await world.restart()
    tables = {bad.table for bad in world.store.unreadable}
    assert tables == {"agents", "claims", "changes", "meta"}
    assert await world.state() is AgentState.LIVE
    assert await world.state(BERT) is None
    await world.restart()
    assert world.store.unreadable == []


async def test_pruning_leaves_nothing_behind(world: World, server: RedisServer) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 1)
    claim = await world.claimed()
    await world.store.intend(claim, intent())
    assert await world.store.settle(claim, action_of(claim), Written(0.0, None))
    await world.wait(700)
    assert await world.store.prune(Epoch(START + 10_000)) == 2
    await world.wait(2)
    with server.client as client:
        kept = {key.decode() for key in client.scan_iter() if not key.endswith(b":part")}
    assert kept == {"{wd:all}:meta"}


# The address.


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("valkey://host", Address("host")),
        ("redis://host:6380/2", Address("host", 6380, 2)),
        ("rediss://:p%40ss@host", Address("host", password="p@ss", tls=True)),
        ("redis+cluster://host/0", Address("host", cluster=True)),
        ("valkeys+cluster://host", Address("host", tls=True, cluster=True)),
        ("valkeys://u:p@[::1]:1/0?ca=/etc/ca.pem", Address("::1", 1, 0, "u", "p", tls=True, authorities="/etc/ca.pem")),
    ],
)
def test_addresses(url: str, found: Address) -> None:
    assert address(url) == found
    assert address(str(found)) == replace(found, user=None, password=None, authorities=None)


@pytest.mark.parametrize(
    "url",
    ["http://host", "valkey://", "valkey://host:x", "valkey://host/x", "valkey://host?db=1", "valkey://:a#b@host", ""],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        address(url)
    assert "a#b" not in str(error.value)


# What it needs to be allowed, and the way there.


async def everything(store: ValkeyStore, world: World) -> None:
    """Each command that is ever sent."""
    world.store = store
    await store.open(world.instant)
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 1)
    claim = await world.claimed()
    assert await store.intend(claim, intent())
    assert await store.settle(claim, action_of(claim), Written(0.0, None))
    assert len((await store.actions(since=Epoch(0.0))).actions) == len((await store.actions(agent=ANNA)).actions) == 1
    assert len((await store.recorded(0)).actions) == 1
    await store.mark_delivered("one", 1)
    assert await store.delivered("one") == 1
    assert await store.delivered("two") is None
    await store.restore(Epoch(0.0), None, silent=True, instant=world.instant)
    await world.wait(700)
    assert await store.prune(Epoch(START + 10_000)) > 0
    await store.close()


def documented_user(*, cluster: bool = False) -> list[str]:
    """The command of the documentation that makes it, with the password sesame."""
    text = (ROOT / "docs" / "valkey.md").read_text()
    (line,) = re.findall(r"^ACL SETUSER watchdog .*$", text, re.MULTILINE)
    (more,) = re.findall(r"On a cluster it needs `(.*?)` besides", text)
    return [*line.replace("PASSWORD", "sesame").split(), *(more.split() if cluster else ())]


async def test_the_user_of_the_documentation_may_do_what_is_needed_and_no_more(server: RedisServer) -> None:
    with server.client as client:
        client.execute_command(*documented_user())
    store = ValkeyStore(replace(server.address, user="watchdog", password="sesame"), RULES, "me", SHARDS)
    await everything(store, World(store, None))  # type: ignore[arg-type]
    with server.client as client:
        client.execute_command("AUTH", "watchdog", "sesame")
        for command in ("FLUSHALL", "KEYS *", "GET other", "CONFIG GET save"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split())


async def test_a_user_who_may_not_do_all_that_functions_do_is_told_of(server: RedisServer) -> None:
    """As one that was made for an older version."""
    with server.client as client:
        client.execute_command(*[word for word in documented_user() if word != "+hlen"])
    store = ValkeyStore(replace(server.address, user="watchdog", password="sesame"), RULES, "me", SHARDS)
    world = World(store, None)  # type: ignore[arg-type]
    await store.open(world.instant)
    with pytest.raises(StoreUnavailable, match="permissions that the documentation lists"):
        await world.beat()
    await store.close()


def certificates(folder: Path) -> tuple[Path, Path]:
    """A key, and a certificate for this machine that has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of the tests")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "key.pem", folder / "certificate.pem"
    files[0].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    files[1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return files


async def test_over_tls_with_a_certificate_that_is_checked(tmp_path: Path) -> None:
    key, certificate = certificates(tmp_path)
    port = redis_server.free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    with redis_server.running(tmp_path, *options, "--tls-auth-clients", "no"):
        store = ValkeyStore(address(f"valkeys://127.0.0.1:{port}?ca={certificate}"), RULES, "me", SHARDS)
        await everything(store, World(store, None))  # type: ignore[arg-type]
        untrusted = ValkeyStore(address(f"valkeys://127.0.0.1:{port}"), RULES, "me", SHARDS)
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await untrusted.open(World(store, None).instant)  # type: ignore[arg-type]
        plain = ValkeyStore(address(f"valkey://127.0.0.1:{port}"), RULES, "me", SHARDS)
        with pytest.raises(StoreUnavailable):
            await plain.open(World(store, None).instant)  # type: ignore[arg-type]
