"""The stores that the contract suite runs over."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from tests.contract import redis_server
from tests.contract.oracle import DictStore, Facts
from tests.contract.pair import Pair
from tests.contract.world import BRAKED, INSTANCE, RULES, World
from watchdog.stores.disk import InlineDisk, ThreadedDisk
from watchdog.stores.replica import ReplicaStore
from watchdog.stores.sqlite import SqliteStore
from watchdog.stores.valkey import ValkeyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from tests.contract.redis_server import RedisCluster, RedisServer
    from watchdog.stores.base import Store, StoreRules

CLUSTER = pytest.param("replicas-cluster", marks=pytest.mark.long)
# The same SQLite on threads of its own, as the daemon has it, which the scenarios run as well.
THREADED = pytest.param("sqlite-threaded", marks=pytest.mark.long)
STORES = ["oracle", "sqlite", "replicas", CLUSTER, THREADED]
SHARDS = 3


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_server.cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: RedisCluster) -> RedisCluster:
    """A real Redis Cluster of three nodes, with nothing in it."""
    _cluster.flushall()
    return _cluster


def died(stores: Sequence[Store]) -> None:
    """Nothing of a process that was killed runs any more."""
    for store in stores:
        assert isinstance(store, ValkeyStore)
        if store._parts._keeper is not None:
            store._parts._keeper.cancel()


@asynccontextmanager
async def story(
    kind: str, tmp_path: Path, rules: StoreRules, server: RedisServer | RedisCluster | None = None
) -> AsyncIterator[World]:
    """A story over a store. A restart leaves the old process' store unclosed, as a kill -9 does."""
    opened: list[Store] = []

    if kind == "oracle":
        facts = Facts()

        async def reopened() -> Store:
            return DictStore(rules, facts)
    elif server is not None:

        async def reopened() -> Store:
            # Whoever died has its parts for some seconds more, of which the story's time knows nothing.
            for each in opened:
                await cast("Pair", each).die()
            server.end_leases()
            names = (f"process {len(opened)}, first", f"process {len(opened)}, second")
            first, second = [ReplicaStore(server.address, rules, name, SHARDS, passed=lambda: 0.0) for name in names]
            pair = cast("Store", Pair(first, second, SHARDS))
            opened.append(pair)
            return pair
    else:
        disk = InlineDisk if kind == "sqlite" else ThreadedDisk
        folder = tmp_path / "0"
        folder.mkdir()

        async def reopened() -> Store:
            # The copy is what the disk holds at this moment, whatever the old process had in its memory.
            nonlocal folder
            copy = tmp_path / str(len(opened) + 1)
            shutil.copytree(folder, copy)
            folder = copy
            store = SqliteStore(folder / "watchdog.db", rules, disk)
            opened.append(store)
            return store

    world = World(await reopened(), reopened)
    await world.store.open(world.instant)
    yield world
    await world.store.close()
    for store in opened:
        await store.close()


def server_for(request: pytest.FixtureRequest) -> RedisServer | RedisCluster | None:
    """The server that a story needs; asked for by those alone that do."""
    needed = {"replicas": "server", "replicas-cluster": "cluster"}.get(request.param)
    return None if needed is None else request.getfixturevalue(needed)


@pytest.fixture(params=STORES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A story over each store, where only an operator holds."""
    async with story(request.param, tmp_path, RULES, server_for(request)) as made:
        yield made


@pytest.fixture(params=STORES[:4])
async def braked(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A story over each store, with the brake, which holds for five minutes."""
    async with story(request.param, tmp_path, BRAKED, server_for(request)) as made:
        yield made


@pytest.fixture(params=STORES[:4])
async def serving_one(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A story over each store that serves one instance."""
    rules = replace(RULES, instances=frozenset({INSTANCE}))
    async with story(request.param, tmp_path, rules, server_for(request)) as made:
        yield made


SHORT_RUN = frozenset({"test_stores.py", "test_tear.py"})
"""Stories that the short run tells over every store; the state machines compare all with the oracle there."""


OF_ONE = frozenset(
    {
        # Sessions of one id in two parts are two sessions.
        "test_nobody_else_is_told",
        # The parts have their turns, and the agents of each.
        "test_held_agents_have_their_turns_one_after_the_other",
    }
)
"""What is told of a store with one table only."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The other stories are told over SQLite alone in the short run, and over all in the long one."""
    for item in items:
        if item.path.parent.name != "contract" or not isinstance(item, pytest.Function):
            continue
        callspec = getattr(item, "callspec", None)
        told_over = set() if callspec is None else {each for each in callspec.params.values() if isinstance(each, str)}
        if told_over & {"oracle", "replicas"} and item.path.name not in SHORT_RUN:
            item.add_marker(pytest.mark.long)
        if told_over & {"replicas", "replicas-cluster"} and item.originalname in OF_ONE:
            item.add_marker(pytest.mark.skip(reason="it is not so where the agents are in several parts"))
