"""A real server that begins to drop keys while daemons run, and keys that are dropped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.contract import redis_server
from tests.contract.world import RULES, TIMER, TTL, action_of, intent, session
from tests.stores.test_replicas import AGENTS, SHARDS, Deployment
from tests.stores.test_split_brain import GUARD, pair
from watchdog.core.clock import Clock
from watchdog.core.model import AgentState, Beat, BeatType, FollowUp, Next, Observed
from watchdog.core.undo import Written
from watchdog.errors import StoreCorrupt, StoreUnavailable
from watchdog.stores.leases import LeaseTable
from watchdog.stores.part_rows import TABLES, part_of
from watchdog.stores.parts import Parts
from watchdog.stores.valkey import server_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping, Sequence
    from pathlib import Path
    from typing import Any

    from tests.contract.redis_server import RedisServer
    from watchdog.core.model import AgentId
    from watchdog.stores.replica import ReplicaStore

LONGEST_TTL = 150.0
HERE, GHOSTS = AGENTS[:20], AGENTS[20:]
PART = part_of(AGENTS[0], SHARDS)
MINE = [agent for agent in AGENTS if part_of(agent, SHARDS) == PART]


@pytest.fixture
async def deployment(server: RedisServer) -> AsyncIterator[Deployment]:
    made = Deployment(server, replace(RULES, longest_ttl_s=LONGEST_TTL))
    yield made
    with server.client as client:
        client.config_set("maxmemory-policy", "noeviction")
    for store in made.all:
        await store.close()


def told(logs: Sequence[MutableMapping[str, Any]], *events: str) -> list[tuple[str, object]]:
    return [
        (line["event"], line.get("policy", line.get("replicas")))
        for line in logs
        if line["event"] in (events or ("store.evicts", "store.evicts_no_more", "store.unguarded"))
    ]


def rows(server: RedisServer, *tables: str) -> dict[str, int]:
    with server.client as client:
        return {name: int(client.hlen(f"{{wd:{PART}}}:{name}")) for name in tables or TABLES}  # type: ignore[arg-type]


async def until_rows(server: RedisServer, wanted: dict[str, int]) -> None:
    """Real time passes in which parts are renewed."""
    for _ in range(60):
        if rows(server, *wanted) == wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(rows(server, *wanted))


async def died(deployment: Deployment, server: RedisServer, *tables: str, part: int = PART) -> ReplicaStore:
    """All daemons die, the server drops tables of a part, and another daemon is started."""
    for store in deployment.stores:
        await store.die()
    deployment.stores.clear()
    with server.client as client:
        for name in tables:
            assert client.delete(f"{{wd:{part}}}:{name}") == 1
    server.end_leases()
    return await deployment.start()


async def test_a_server_that_begins_to_drop_keys_is_told_of_and_heartbeats_go_on(
    deployment: Deployment, server: RedisServer
) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    with server.client as client, structlog.testing.capture_logs() as logs:
        for store in (first, second):
            assert (await store.make_room()).evicts == ""
        assert told(logs) == []
        client.config_set("maxmemory-policy", "allkeys-lru")
        for _ in range(2):
            for store in (first, second):
                assert (await store.make_room()).evicts == "allkeys-lru"
        assert told(logs) == [("store.evicts", "allkeys-lru")] * 2
        await deployment.beat(first, *AGENTS)
        await deployment.wait(1)
        with pytest.raises(StoreCorrupt, match="allkeys-lru"):
            await deployment.start()
        logs.clear()
        client.config_set("maxmemory-policy", "volatile-ttl")
        assert (await first.make_room()).evicts == "volatile-ttl"
        client.config_set("maxmemory-policy", "noeviction")
        for _ in range(2):
            assert (await first.make_room()).evicts == ""
        assert told(logs) == [("store.evicts", "volatile-ttl"), ("store.evicts_no_more", None)]


async def test_tickets_stay_valid_where_the_table_of_all_was_dropped(
    deployment: Deployment, server: RedisServer
) -> None:
    store = await deployment.start()
    await deployment.tick()
    with server.client as client:
        assert client.delete("{wd:all}:meta") == 1
    await store.make_room()
    new = await deployment.start()
    assert await new.secret() == await store.secret()


async def test_it_is_looked_at_when_a_connection_is_made_anew(deployment: Deployment, server: RedisServer) -> None:
    """Another server may have taken its place, with other settings."""
    store = await deployment.start()
    await deployment.tick()
    with server.client as client, structlog.testing.capture_logs() as logs:
        client.config_set("maxmemory-policy", "allkeys-lru")
        await deployment.beat(store, *AGENTS)
        assert told(logs) == []
        client.client_kill_filter(_type="normal", skipme=True)
        await deployment.beat(store, *AGENTS)
        for _ in range(50):
            if told(logs):
                break
            await asyncio.sleep(0.05)
        assert told(logs) == [("store.evicts", "allkeys-lru")]


async def test_a_server_that_cannot_be_looked_at_is_as_it_was_seen_last(tmp_path: Path) -> None:
    with redis_server.running(tmp_path) as server:
        asked = server_at(server.address)
        with server.client as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        assert await asked.look() == "allkeys-lru"
        server.stop()
        with structlog.testing.capture_logs() as logs:
            assert await asked.look() == "allkeys-lru"
            assert told(logs) == []
        await asked.close()


async def test_replicas_without_which_writes_are_taken_from_now_on_are_told_of_once(tmp_path: Path) -> None:
    with pair(tmp_path, *GUARD) as (primary, _):
        deployment = Deployment(primary)
        with structlog.testing.capture_logs() as logs:
            store = await deployment.start()
            await store.make_room()
            assert told(logs) == []
            with primary.client as client:
                client.config_set("min-replicas-to-write", 0)
                for _ in range(2):
                    await store.make_room()
                assert told(logs) == [("store.unguarded", 1)]
                client.config_set("min-replicas-to-write", 1)
                await store.make_room()
                client.config_set("min-replicas-to-write", 0)
                await store.make_room()
            assert told(logs) == [("store.unguarded", 1)] * 2
        await store.close()


@pytest.mark.parametrize("table", ["agents", "sessions"])
async def test_what_is_dropped_is_written_again_from_the_memory_of_whoever_has_it(
    deployment: Deployment, server: RedisServer, table: str
) -> None:
    store = await deployment.start()
    await deployment.beat(store, *AGENTS)
    before = {"agents": len(MINE), "sessions": len(MINE)}
    assert rows(server, *before) == before
    with server.client as client:
        client.delete(f"{{wd:{PART}}}:{table}")
    await until_rows(server, before)
    assert store.rows_lost is None
    for _ in range(4):
        try:
            await deployment.wait(1)
        except StoreUnavailable:
            continue
    await deployment.beat(store, *AGENTS)
    new = await died(deployment, server)
    assert new.rows_lost is None
    assert (await new.counts()).agents[AgentState.LIVE] == len(AGENTS)


async def test_a_part_that_lacks_its_agents_is_told_of_and_they_come_back(
    deployment: Deployment, server: RedisServer
) -> None:
    store = await deployment.start()
    await deployment.beat(store, *AGENTS)
    with structlog.testing.capture_logs() as logs:
        new = await died(deployment, server, "agents")
        assert [(line["part"], line["rows"]) for line in logs if line["event"] == "store.rows_lost"] == [
            (PART, {"agents": len(MINE)})
        ]
    assert new.rows_lost is not None
    assert new.rows_lost.rows == {"agents": len(MINE)}
    assert (await new.counts()).agents[AgentState.LIVE] == len(AGENTS) - len(MINE)
    await deployment.tick()
    await deployment.beat(new, *AGENTS)
    assert (await new.counts()).agents[AgentState.LIVE] == len(AGENTS)
    # What is there is counted anew: nobody is told of it twice.
    assert (await died(deployment, server)).rows_lost is None


async def due(deployment: Deployment, store: ReplicaStore, seconds: float, here: Sequence[AgentId]) -> set[AgentId]:
    """Who is due in that time, while some beat."""
    found: set[AgentId] = set()
    for _ in range(round(seconds / (TTL / 2))):
        if here:
            await deployment.beat(store, *here)
        for tick in await deployment.wait(TTL / 2):
            found |= {each.agent for each in tick.due}
    return found


@pytest.mark.parametrize("returned", [True, False])
async def test_nobody_is_due_whose_sessions_were_dropped_before_they_could_beat(
    deployment: Deployment, server: RedisServer, *, returned: bool
) -> None:
    store = await deployment.start()
    await deployment.beat(store, *AGENTS)
    if returned:
        # Each has had a session that is over and forgotten: the agent's row knows when.
        for agent in AGENTS:
            await deployment.beat(store, agent, kind=BeatType.BYE)
        await due(deployment, store, 0.0, ())
        for part in store._holdings.stores.values():
            for each in part._table.agents.values():
                part._table.drop_session(each.sessions[0])
                each.floor, each.sessions = each.ends_at, ()
                part._table.dirty.agents[each.id] = each
        await deployment.beat(store, *AGENTS)
    new = await died(deployment, server, "sessions")
    assert new.rows_lost is not None
    mine = {agent: await new.agent(agent) for agent in MINE}
    assert {view.state for view in mine.values() if view is not None} == {AgentState.LIVE}
    ghosts = {agent for agent in MINE if agent in MINE[:2]}
    here = [agent for agent in MINE if agent not in ghosts]
    assert not await due(deployment, new, LONGEST_TTL - TTL, here) & set(MINE)
    assert await due(deployment, new, 2 * TTL + TIMER, here) & set(MINE) == ghosts


async def test_nobody_is_due_who_closes_one_page_before_another_whose_session_was_dropped_could_beat(
    deployment: Deployment, server: RedisServer
) -> None:
    store = await deployment.start()
    agent = MINE[0]
    hidden = Beat(agent, session(1_000), BeatType.BEAT, 0, None, LONGEST_TTL, main_driver=True)
    await deployment.beat(store, *AGENTS)
    await store.apply([hidden], deployment.instant)
    new = await died(deployment, server, "sessions")
    await deployment.tick()
    await deployment.beat(new, agent)
    await deployment.beat(new, agent, kind=BeatType.BYE)
    others = [each for each in AGENTS if each != agent]
    assert not await due(deployment, new, 60.0, others)
    await new.apply([hidden], deployment.instant)
    assert not await due(deployment, new, LONGEST_TTL - TTL, others)
    assert await due(deployment, new, 2 * TTL, others) == {agent}


async def test_who_was_set_is_not_taken_for_present_where_sessions_were_dropped(
    deployment: Deployment, server: RedisServer
) -> None:
    store = await deployment.start()
    await deployment.beat(store, *AGENTS)
    await deployment.beat(store, MINE[0], kind=BeatType.BYE)
    table = store._holdings.stores[PART]._table
    agent = table.agents[MINE[0]]
    agent.floor, agent.settled_epoch = agent.ends_at, agent.epoch
    table.dirty.agents[agent.id] = agent
    await deployment.wait(1)
    new = await died(deployment, server, "sessions")
    states = [view.state for view in [await new.agent(each) for each in MINE] if view is not None]
    assert states == [AgentState.GONE] + [AgentState.LIVE] * (len(MINE) - 1)


async def test_what_is_still_to_be_done_with_who_was_set_is_done_where_sessions_were_dropped(
    deployment: Deployment, server: RedisServer
) -> None:
    store = await deployment.start()
    ghost = MINE[0]
    await deployment.beat(store, *AGENTS)
    await deployment.beat(store, ghost, kind=BeatType.BYE)
    (found,) = [each for tick in await deployment.wait(TIMER + 1) for each in tick.due]
    claim = await store.claim(found, "me")
    assert claim is not None
    assert await store.intend(claim, intent())
    follow_up = FollowUp(Next.STAGE, Observed(claim.deadline + 60.0), "late", 1, "offline")
    action = action_of(claim, at=deployment.instant.epoch)
    assert await store.settle(claim, action, Written(2.0), follow_up)
    new = await died(deployment, server, "sessions")
    view = await new.agent(ghost)
    assert view is not None
    assert view.state is AgentState.AWAY
    assert new._holdings.stores[PART]._table.agents[ghost].change is not None
    others = [agent for agent in AGENTS if agent != ghost]
    assert await due(deployment, new, 120.0, others) == {ghost}


async def test_nobody_is_due_whose_sessions_were_dropped_with_the_key_that_counts_them(
    deployment: Deployment, server: RedisServer
) -> None:
    store = await deployment.start()
    await deployment.beat(store, *AGENTS)
    new = await died(deployment, server, "part", "sessions")
    assert new.rows_lost is not None
    assert new.rows_lost.rows == {"part": 1}
    assert not await due(deployment, new, LONGEST_TTL - TTL, MINE[1:]) & set(MINE)
    assert await due(deployment, new, 2 * TTL + TIMER, MINE[1:]) & set(MINE) == {MINE[0]}
    assert (await died(deployment, server)).rows_lost is None


async def test_what_a_renewal_has_found_lost_keeps_nobody_from_dropping_all(server: RedisServer) -> None:
    parts = Parts(server_at(server.address), SHARDS, "me", LeaseTable(0.0))
    await parts.open()
    for part in parts._fenced.parts:
        part.whole = False
    await parts.clear(b"elsewhere")
    await parts.close(Clock())


async def test_what_another_version_has_written_last_was_not_counted(
    deployment: Deployment, server: RedisServer
) -> None:
    store = await deployment.start()
    await deployment.beat(store, *AGENTS)
    await store.close()
    deployment.stores.clear()
    with server.client as client:
        client.hincrby(f"{{wd:{PART}}}:part", "version", 1)
    assert (await died(deployment, server, "agents")).rows_lost is None


async def test_more_rows_than_were_counted_are_nothing_lost(deployment: Deployment, server: RedisServer) -> None:
    store = await deployment.start()
    await deployment.beat(store, *AGENTS)
    await store.close()
    deployment.stores.clear()
    with server.client as client:
        client.hset(f"{{wd:{PART}}}:claims", "/".join(MINE[0]), "1 []")
    new = await deployment.start()
    assert new.rows_lost is None
    assert len(new._holdings.stores) == SHARDS
