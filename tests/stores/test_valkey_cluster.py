"""What only a cluster can do to the store: a node dies, is replaced, or hands its slots on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import RedisError

from tests.contract import redis_server
from tests.contract.world import RULES, TTL, World
from tests.stores.test_valkey import documented_user, everything
from watchdog.core.model import AgentId, AgentState
from watchdog.errors import StoreUnavailable
from watchdog.stores.address import Address
from watchdog.stores.bus import inbox
from watchdog.stores.part_reads import META
from watchdog.stores.part_rows import part_of
from watchdog.stores.valkey import ValkeyStore
from watchdog.stores.valkey_cluster import ValkeyCluster

if TYPE_CHECKING:
    from pathlib import Path

SHARDS = 8
AGENTS = [AgentId("instance", f"agent-{number}") for number in range(30)]


def made(address: Address) -> World:
    store = ValkeyStore(ValkeyCluster(address, answer_s=0.5), RULES, f"process {time.monotonic()}", SHARDS)
    return World(store, None)  # type: ignore[arg-type]


async def all_beat(world: World) -> None:
    for number, agent in enumerate(AGENTS):
        await world.beat(agent, number + 1)


async def until_it_fails(world: World, limit_s: float = 5.0) -> None:
    """Ticks until one fails, in real time: each part is written to once a second at least."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        await asyncio.sleep(0.05)
        world.now += 0.05
        try:
            await world.tick()
        except StoreUnavailable:
            return
    raise AssertionError("it is not noticed")


async def goes_on(world: World, limit_s: float = 20.0) -> None:
    """Ticks until one does not fail, in real time: the cluster needs some to find a new primary."""
    end = time.monotonic() + limit_s
    while True:
        world.now += 0.25
        try:
            await world.tick()
        except StoreUnavailable:
            assert time.monotonic() < end, "it does not go on by itself"
        else:
            return


async def nobody_is_lost(world: World, address: Address) -> None:
    """For the process, nor for the next one."""
    assert (await world.store.counts()).agents[AgentState.LIVE] == len(AGENTS)
    assert await world.due() == []
    await world.store.close()
    later = made(address)
    later.now = world.now
    await later.store.open(later.instant)
    assert (await later.store.counts()).agents[AgentState.LIVE] == len(AGENTS)
    await later.store.close()


async def test_parts_are_on_all_nodes_and_every_node_has_the_functions(tmp_path: Path) -> None:
    with redis_server.cluster(tmp_path) as cluster:
        world = made(cluster.address)
        await world.store.open(world.instant)
        await all_beat(world)
        for node in cluster.nodes:
            with node.client as client:
                assert client.keys("{wd:*}:agents")
                assert client.function_list()
        await nobody_is_lost(world, Address("127.0.0.1", cluster.nodes[2].port, cluster=True))


@pytest.mark.long
async def test_a_primary_that_dies_is_replaced_and_nobody_is_set(tmp_path: Path) -> None:
    with redis_server.cluster(tmp_path, replicas=1) as cluster:
        world = made(Address("127.0.0.1", cluster.nodes[1].port, cluster=True))
        await world.store.open(world.instant)
        await all_beat(world)
        await world.wait(10)
        cluster.nodes[0].stop()
        await until_it_fails(world)
        before = world.store._clock.observed
        world.now += TTL
        await goes_on(world)
        assert world.last.clock.observed == before
        await nobody_is_lost(world, Address("127.0.0.1", cluster.nodes[1].port, cluster=True))


@pytest.mark.long
async def test_a_node_that_comes_back_with_nothing_is_given_its_parts_again(tmp_path: Path) -> None:
    with redis_server.cluster(tmp_path) as cluster:
        world = made(Address("127.0.0.1", cluster.nodes[1].port, cluster=True))
        await world.store.open(world.instant)
        await all_beat(world)
        cluster.nodes[0].stop()
        await until_it_fails(world)
        cluster.nodes[0].start()
        redis_server.until_whole(cluster.nodes)
        await goes_on(world)
        await nobody_is_lost(world, Address("127.0.0.1", cluster.nodes[1].port, cluster=True))


async def test_a_slot_that_moves_to_another_node_is_followed(tmp_path: Path) -> None:
    with redis_server.cluster(tmp_path) as cluster:
        world = made(cluster.address)
        await world.store.open(world.instant)
        await all_beat(world)
        part = part_of(AGENTS[0], SHARDS)
        with cluster.nodes[0].client as client:
            slot = client.execute_command("CLUSTER KEYSLOT", f"{{wd:{part}}}:agents")
        names = []
        for node in cluster.nodes:
            with node.client as client:
                names.append(client.execute_command("CLUSTER MYID").decode())
        source = next(node for node in cluster.nodes if _has(node, part))
        target = next(node for node in cluster.nodes if node is not source)
        from_, to = names[cluster.nodes.index(source)], names[cluster.nodes.index(target)]
        with source.client as old, target.client as new:
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", from_)
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", to)
            keys = old.execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
            old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            new.execute_command("CLUSTER SETSLOT", slot, "NODE", to)
            old.execute_command("CLUSTER SETSLOT", slot, "NODE", to)
        await world.wait(2)
        await all_beat(world)
        assert _has(target, part)
        await nobody_is_lost(world, cluster.address)


def _has(node: redis_server.RedisServer, part: int) -> bool:
    with node.client as client:
        return f"{{wd:{part}}}:agents".encode() in client.keys("{wd:*}:agents")


async def test_the_memory_that_counts_is_that_of_the_node_with_the_history(tmp_path: Path) -> None:
    with redis_server.cluster(tmp_path) as cluster:
        shares = []
        for number, node in enumerate(cluster.nodes):
            with node.client as client:
                info = client.info("memory")
                client.config_set("maxmemory", info["used_memory"] * (number + 2))
                slots = client.execute_command("CLUSTER MYID")
                mine = [each for each in client.execute_command("CLUSTER SLOTS") if each[2][2] == slots]
                slot = client.execute_command("CLUSTER KEYSLOT", META)
                shares += [1 / (number + 2)] if any(first <= slot <= last for first, last, *_ in mine) else []
        server = ValkeyCluster(cluster.address)
        assert [await server.memory_share(META)] == pytest.approx(shares, rel=0.2)
        await server.close()


async def test_each_primary_is_looked_at_whether_it_drops_keys(tmp_path: Path) -> None:
    with redis_server.cluster(tmp_path) as cluster:
        server = ValkeyCluster(cluster.address)
        assert await server.look() == ""
        for number, node in enumerate(cluster.nodes):
            policy = ("allkeys-lru", "allkeys-lfu", "volatile-lru")[number]
            with node.client as client:
                client.config_set("maxmemory-policy", policy)
                assert await server.look() == policy
                client.config_set("maxmemory-policy", "noeviction")
        assert await server.look() == ""
        await server.close()


async def test_the_user_of_the_documentation_may_do_what_is_needed(tmp_path: Path) -> None:
    with redis_server.cluster(tmp_path) as cluster:
        for node in cluster.nodes:
            with node.client as client:
                client.execute_command(*documented_user(cluster=True))
        address = replace(cluster.address, user="watchdog", password="sesame")
        store = ValkeyStore(ValkeyCluster(address), RULES, "me", SHARDS)
        await everything(store, World(store, None))  # type: ignore[arg-type]


async def test_the_wrong_kind_of_url_is_told(tmp_path: Path) -> None:
    with redis_server.cluster(tmp_path) as cluster:
        address = Address("127.0.0.1", cluster.nodes[0].port)
        store = ValkeyStore(address, RULES, "me", SHARDS)
        with pytest.raises(StoreUnavailable, match=r"valkey\+cluster://"):
            await store.open(World(store, None).instant)  # type: ignore[arg-type]
    (tmp_path / "single").mkdir()
    with redis_server.running(tmp_path / "single") as server:
        store = ValkeyStore(Address("127.0.0.1", server.port, cluster=True), RULES, "me", SHARDS)
        with pytest.raises(StoreUnavailable, match=r"no node of a cluster\. Write valkey://"):
            await store.open(World(store, None).instant)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable, match="no node of its cluster lets itself be asked"):
        await store.open(World(store, None).instant)  # type: ignore[arg-type]


async def test_no_call_is_under_way_any_more_when_one_of_them_has_failed() -> None:
    """Else it could be applied after the next write to its part."""

    class Client:
        async def execute_command(self, name: str, target_nodes: object) -> None:
            if name == "fails":
                raise RedisError
            await asyncio.sleep(0.01)
            ended.append(name)

    ended: list[str] = []
    cluster = ValkeyCluster(Address("host", cluster=True))
    cluster._client = Client()  # type: ignore[assignment]
    with pytest.raises(RedisError):
        await cluster._all_of([(["fails"], None), (["slow"], None)])
    assert ended == ["slow"]


async def test_a_slot_that_is_nobodys_for_a_while_is_no_fault_but_that_of_the_cluster(tmp_path: Path) -> None:
    """The client's own errors are not all of one family; whoever asks again and again must not end by one of them."""
    with redis_server.cluster(tmp_path) as cluster:
        for node in cluster.nodes:
            with node.client as client:
                client.config_set("cluster-require-full-coverage", "no")
        server = ValkeyCluster(cluster.address)
        await server.open()
        assert await server.pop(inbox("me"), 0.1) is None
        with cluster.nodes[0].client as client:
            slot = client.execute_command("CLUSTER KEYSLOT", inbox("me"))
        had = next(node for node in cluster.nodes if _serves(node, inbox("me")))
        for node in cluster.nodes:
            with node.client as client:
                client.execute_command("CLUSTER DELSLOTS", slot)
        for _ in range(4):
            with pytest.raises(StoreUnavailable, match=r"cluster.*slots"):
                await server.pop(inbox("me"), 0.1)
            with pytest.raises(StoreUnavailable, match=r"cluster.*slots"):
                await server.call([("post", [inbox("me")], [5000, b"hello"])])
            with pytest.raises(StoreUnavailable, match=r"cluster.*slots"):
                await server.read(("HGET", inbox("me"), "field"))
        with had.client as client:
            client.execute_command("CLUSTER ADDSLOTS", slot)
        end = time.monotonic() + 10
        while True:
            try:
                assert await server.pop(inbox("me"), 0.1) is None
                break
            except StoreUnavailable:
                assert time.monotonic() < end, "it is not found again"
                await asyncio.sleep(0.05)
        await server.call([("post", [inbox("me")], [5000, b"hello"])])
        found = await server.pop(inbox("me"), 0.1)
        assert found is not None
        assert found.endswith(b" hello")
        await server.close()


def _serves(node: redis_server.RedisServer, key: str) -> bool:
    with node.client as client:
        try:
            client.execute_command("GET", key)
        except RedisError:
            return False
        return True
