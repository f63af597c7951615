"""A real primary that loses its replica, which is made one as well: who may go on."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.contract import redis_server
from tests.contract.world import TTL, session
from tests.stores.test_replicas import AGENTS, Deployment
from watchdog.core.model import Beat
from watchdog.errors import StoreUnavailable
from watchdog.stores.valkey import server_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.redis_server import RedisServer

GUARD = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")


@contextmanager
def pair(folder: Path, *options: str) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary, and the replica that follows it."""
    places = [folder / name for name in ("primary", "replica")]
    for place in places:
        place.mkdir()
    with (
        redis_server.running(places[0], *options) as primary,
        redis_server.running(places[1], *options) as replica,
        primary.client as first,
        replica.client as second,
    ):
        second.replicaof("127.0.0.1", primary.port)
        end = time.monotonic() + 20
        while first.info("replication").get("slave0", {}).get("state") != "online":
            assert time.monotonic() < end, "the replica does not follow"
            time.sleep(0.05)
        yield primary, replica


async def tried(deployment: Deployment, seconds: float) -> str:
    """Beats and ticks until one is refused. Returns why, or nothing when none was."""
    (store,) = deployment.stores
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(0.1)
        deployment.now += 0.1
        try:
            await deployment.beat(store, *AGENTS)
            await store.tick("me", deployment.instant)
        except StoreUnavailable as error:
            return str(error)
    return ""


async def test_a_primary_that_has_lost_its_replica_hears_nobody(tmp_path: Path) -> None:
    with pair(tmp_path, *GUARD) as (primary, replica):
        deployment = Deployment(primary)
        with structlog.testing.capture_logs() as logs:
            store = await deployment.start()
        assert "store.unguarded" not in {line["event"] for line in logs}
        assert await tried(deployment, 1) == ""
        with replica.client as client:
            client.replicaof("no", "one")
        assert "min-replicas-to-write" in await tried(deployment, 6)
        before = store._clock.now.observed
        # Nobody is answered as if they were heard, also not those of whom it knows: once it cannot be sure any more.
        await asyncio.sleep(2)
        live = [store.plainly_live(Beat(agent, session(at), ttl=TTL)) for at, agent in enumerate(AGENTS, 1)]
        assert live == [None] * len(AGENTS)
        for agent in AGENTS:
            with pytest.raises(StoreUnavailable, match="min-replicas-to-write"):
                await deployment.beat(store, agent)
        assert store._clock.now.observed == before
        await store.close()


@pytest.mark.long
async def test_without_the_setting_it_goes_on_and_says_so_at_the_start(tmp_path: Path) -> None:
    with pair(tmp_path) as (primary, replica):
        deployment = Deployment(primary)
        with structlog.testing.capture_logs() as logs:
            store = await deployment.start()
        assert [line["replicas"] for line in logs if line["event"] == "store.unguarded"] == [1]
        with replica.client as client:
            client.replicaof("no", "one")
        assert await tried(deployment, 4) == ""
        await store.close()


@pytest.mark.long
async def test_a_cluster_guards_itself(tmp_path: Path) -> None:
    with redis_server.cluster(tmp_path, replicas=1) as cluster:
        asked = server_at(cluster.address)
        await asked.examine()
        assert asked.unguarded == 0
        await asked.close()


@pytest.mark.parametrize(
    ("info", "unguarded"),
    [
        ({"connected_slaves": 2}, 2),
        ({"connected_slaves": 0}, 0),
        ({"connected_slaves": 2, "min_slaves_good_slaves": 2}, 0),
        ({}, None),
    ],
)
async def test_what_a_server_tells_of_its_replicas(
    server: RedisServer, info: dict[str, int], unguarded: int | None
) -> None:
    """Some services hide who follows."""
    asked = server_at(server.address)
    infos = asked._infos

    async def told() -> list[dict[str, object]]:
        return [
            {key: value for key, value in each.items() if key != "connected_slaves"} | info for each in await infos()
        ]

    asked._infos = told  # type: ignore[method-assign, assignment]
    await asked.examine()
    assert asked.unguarded == unguarded
    await asked.close()
