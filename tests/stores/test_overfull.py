"""A real server whose memory is full, or nearly: the history makes room, and everything else goes on."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import START
from tests.stores.test_replicas import AGENTS, SHARDS, Deployment
from watchdog.core.clock import Cause
from watchdog.core.model import Action, AgentState, Epoch, IntentKind, Outcome
from watchdog.errors import StoreUnavailable
from watchdog.stores import overfull
from watchdog.stores.base import FULL, KEPT
from watchdog.stores.part_reads import META
from watchdog.stores.valkey import server_at
from watchdog.telemetry.notify import MAX_BEHIND

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.contract.redis_server import RedisServer
    from watchdog.stores.replica import ReplicaStore

ACTIONS = 2_000


@pytest.fixture
async def deployment(server: RedisServer) -> AsyncIterator[Deployment]:
    made = Deployment(server)
    yield made
    with server.client as client:
        client.config_set("maxmemory", 0)
    for store in made.all:
        await store.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A history of some hundred actions is a long one."""
    monkeypatch.setattr(overfull, "KEPT", 100)
    monkeypatch.setattr(overfull, "CHUNK", 50)


def decided(number: int) -> Action:
    agent, at = AGENTS[number % len(AGENTS)], Epoch(START + number)
    evidence = {"text": "x" * 600}
    return Action(
        f"{number:08}", at, agent, IntentKind.SET_STATUS, "Offline", Outcome.CONFIRMED, "gone", evidence, 2, 0.5
    )


async def fill(store: ReplicaStore, first: int = 0) -> None:
    for begin in range(first, first + ACTIONS, 500):
        await store.record([decided(number) for number in range(begin, begin + 500)])


def limit(server: RedisServer, share: float) -> None:
    """Sets the most that the server may use, so that what it uses is so much of it."""
    with server.client as client:
        info = client.info("memory")
        client.config_set("maxmemory", int((info["used_memory"] - info["mem_not_counted_for_evict"]) / share))


def kept(server: RedisServer) -> dict[bytes, object]:
    """Everything but the history, and who tells what at which time."""
    with server.client as client:
        found: dict[bytes, object] = {
            key: client.hgetall(key)
            for key in client.scan_iter("{wd:*")
            if client.type(key) == b"hash" and key.split(b":")[-1] in (b"agents", b"sessions", b"changes", b"claims")
        }
        return {**found, b"secret": client.hget("{wd:all}:meta", "secret")}


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    limit(server, 1.1)
    try:
        yield
    finally:
        with server.client as client:
            client.config_set("maxmemory", 0)


async def ids(store: ReplicaStore) -> list[str]:
    return [action.id for action in (await store.actions(limit=10 * ACTIONS)).actions]


async def test_a_history_that_has_filled_the_memory_can_be_pruned(deployment: Deployment, server: RedisServer) -> None:
    await deployment.start()
    await deployment.start()
    keeper = await deployment.keeper()
    await fill(keeper)
    with full(server):
        with pytest.raises(StoreUnavailable, match="memory is full"):
            await keeper.record([decided(ACTIONS)])
        assert await keeper.prune(Epoch(START + ACTIONS - 100)) == ACTIONS - 100
        # There is room again.
        await keeper.record([decided(ACTIONS)])
    assert await ids(keeper) == [f"{number:08}" for number in range(ACTIONS, ACTIONS - 101, -1)]


@pytest.mark.usefixtures("small")
async def test_a_full_server_refuses_heartbeats_until_the_history_has_made_room(
    deployment: Deployment, server: RedisServer
) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    keeper = await deployment.keeper()
    await fill(keeper)
    await deployment.wait(1)
    limit(server, 1.1)
    before = keeper._clock.now.observed
    for store in (first, second):
        with pytest.raises(StoreUnavailable, match="memory is full"):
            await deployment.beat(store, *AGENTS)
    deployment.now += 1
    for store in (first, second):
        with pytest.raises(StoreUnavailable, match="memory is full"):
            await store.tick("me", deployment.instant)
    assert keeper._clock.now.standing is Cause.STORE
    assert keeper._clock.now.observed == before
    found = await keeper.make_room()
    assert found.dropped > 0
    for _ in range(8):
        await deployment.even()
    await deployment.tick()
    for store in (first, second):
        await deployment.beat(store, *AGENTS)
    counts = [await store.counts() for store in (first, second)]
    assert sum(count.agents[AgentState.LIVE] for count in counts) == len(AGENTS)


async def test_where_the_memory_is_full_nobody_loses_a_part_and_who_goes_leaves_at_once(
    deployment: Deployment, server: RedisServer
) -> None:
    stores = [await deployment.start() for _ in range(3)]
    await deployment.even()
    await deployment.beat(stores[0], *AGENTS)
    await deployment.wait(1)
    keeper = await deployment.keeper()
    leaving = next(store for store in stores if store is not keeper)
    mine = {store.name: set(store._holdings.stores) for store in stores}
    with full(server):
        # Longer than a part is anybody's who does not renew it.
        for _ in range(20):
            await asyncio.sleep(0.2)
            for store in stores:
                await store.tick("me", deployment.instant)
        owners = [owner for owner in await keeper._register.owners(SHARDS) if not owner.ended]
        assert len(owners) == SHARDS
        assert {store.name: set(store._holdings.stores) for store in stores} == mine
        assert await deployment.keeper() is keeper
        deployment.stores.remove(leaving)
        await leaving.close()
        # Nobody waits until what it had is over.
        assert [owner.name for owner in await keeper._register.owners(SHARDS) if owner.ended] == [leaving.name] * 2
        await deployment.even()
        assert leaving.name not in {entry.name for entry in keeper.entries}
    await deployment.tick()
    await deployment.beat(keeper, *AGENTS)


@pytest.mark.usefixtures("small")
async def test_a_daemon_starts_on_a_full_server_and_makes_room(deployment: Deployment, server: RedisServer) -> None:
    old = await deployment.start()
    await fill(old)
    await old.close()
    deployment.stores.clear()
    limit(server, 1.1)
    new = await deployment.start()
    with pytest.raises(StoreUnavailable, match="memory is full"):
        await deployment.beat(new, *AGENTS)
    assert (await new.make_room()).dropped > 0
    await deployment.wait(1)
    await deployment.beat(new, *AGENTS)


@pytest.mark.usefixtures("small")
async def test_the_oldest_actions_make_room_before_the_memory_is_full_and_nothing_else_does(
    deployment: Deployment, server: RedisServer
) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    await deployment.beat(first, *AGENTS)
    keeper = await deployment.keeper()
    other = second if keeper is first else first
    await fill(keeper)
    before = kept(server)
    limit(server, FULL - 0.01)
    assert (await keeper.make_room()).dropped == 0
    limit(server, FULL + 0.1)
    seen = await other.make_room()
    assert seen.dropped == 0
    assert seen.share == pytest.approx(FULL + 0.1, abs=0.02)
    found = await keeper.make_room()
    assert found.share is not None
    assert FULL - 0.05 < found.share <= FULL
    left = await ids(other)
    assert len(left) == ACTIONS - found.dropped > 100
    assert left == [f"{number:08}" for number in range(ACTIONS - 1, found.dropped - 1, -1)]
    assert kept(server) == before


@pytest.mark.usefixtures("small")
async def test_what_is_still_to_be_delivered_stays_however_full_the_memory_is(
    deployment: Deployment, server: RedisServer
) -> None:
    """Another one's data fill the server."""
    keeper = await deployment.start()
    await fill(keeper)
    await fill(keeper, ACTIONS)
    await keeper.mark_delivered("receiver", 2 * ACTIONS - 100)
    limit(server, 50)
    found = await keeper.make_room()
    assert found.dropped == 2 * ACTIONS - 100
    assert found.share is not None
    assert found.share > 1
    assert (await keeper.make_room()).dropped == 0
    place = await keeper.delivered("receiver")
    assert place is not None
    page = await keeper.recorded(place, 200)
    assert [number for number, _ in page.actions] == list(range(2 * ACTIONS - 99, 2 * ACTIONS + 1))


def test_as_many_stay_as_a_receiver_may_be_behind() -> None:
    assert KEPT == MAX_BEHIND


async def test_the_memory_in_use_is_counted_as_the_server_does(server: RedisServer) -> None:
    """What waits for its replicas and its disk is not what it refuses writes for."""
    asked = server_at(server.address)

    async def told(key: str) -> dict[str, int]:
        assert key == META
        return {"maxmemory": 1000, "used_memory": 900, "mem_not_counted_for_evict": 100}

    asked._info = told  # type: ignore[method-assign, assignment]
    assert await asked.memory_share(META) == pytest.approx(0.8)
    await asked.close()


async def test_without_a_limit_nothing_makes_room(deployment: Deployment) -> None:
    keeper = await deployment.start()
    await fill(keeper)
    found = await keeper.make_room()
    assert (found.share, found.dropped) == (None, 0)
    assert await keeper._server.memory_share(META) is None


async def test_a_full_server_takes_no_agents_and_no_actions(deployment: Deployment, server: RedisServer) -> None:
    """What may be written there is bounded: nobody is known who was not before."""
    store = await deployment.start()
    await deployment.beat(store, *AGENTS[:10])
    with full(server):
        limit(server, 50)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="memory is full"):
                await deployment.beat(store, *AGENTS)
        with pytest.raises(StoreUnavailable, match="memory is full"):
            await store.record([decided(1)])
        for name in ("write", "record", "log", "post", "tokens"):
            with pytest.raises(StoreUnavailable, match="memory is full"):
                await store._server.call([(name, [], [])])
        with server.client as client:
            assert client.hlen("{wd:all}:actions") == 0
            assert sum(client.hlen(f"{{wd:{number}}}:agents") for number in range(SHARDS)) == 10
