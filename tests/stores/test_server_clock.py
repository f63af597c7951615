"""The server's clock is set back, or a successor's is behind: whose parts are whose, and who is heard of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import RULES
from tests.stores.daemons import AGENTS, SHARDS, Daemons, play
from watchdog.core.model import AgentState
from watchdog.stores.fenced import LEASE_S
from watchdog.stores.register import HEARD_S

if TYPE_CHECKING:
    from watchdog.stores.replica import ReplicaStore

BACK_S = [1.0, 4.0, 600.0, 86_400.0]


def owners(daemons: Daemons) -> list[tuple[bytes, bytes]]:
    """Who has each part, with the fence."""
    parts = [f"{{wd:{number}}}:part".encode() for number in (*range(SHARDS), "all")]
    return [(found[b"owner"], found[b"fence"]) for found in (daemons.server.model.data[key] for key in parts)]


@pytest.mark.parametrize("back_s", BACK_S)
@pytest.mark.parametrize("which", ["keeper", "another"])
def test_a_server_whose_clock_is_behind_keeps_no_part_from_being_taken(back_s: float, which: str) -> None:
    """One dies, and at once the server's clock is behind."""

    async def story(daemons: Daemons) -> None:
        keeper = daemons.keeper
        dead = keeper if which == "keeper" else next(store for store in daemons.stores if store is not keeper)
        await daemons.die(dead)
        daemons.server.offset_s -= back_s
        await asyncio.sleep(2 * LEASE_S + HEARD_S)
        assert sum(len(store._holdings.stores) for store in daemons.stores) == SHARDS
        assert daemons.keeper
        await asyncio.sleep(RULES.clock.resume_grace_s)
        assert {entry.name for entry in daemons.keeper.entries} == {store.name for store in daemons.stores}
        daemons.beating = True
        await asyncio.sleep(RULES.clock.resume_grace_s)
        assert daemons.keeper._clock.now.standing is None
        await daemons.judge()

    play(story)


@pytest.mark.parametrize("back_s", BACK_S)
def test_whoever_renews_its_parts_keeps_them_when_the_servers_clock_is_set_back(back_s: float) -> None:
    """Also while somebody else wants more parts than it has."""

    async def story(daemons: Daemons) -> None:
        await daemons.die(daemons.stores[-1])
        before = owners(daemons)
        alive = [store.name.encode() for store in daemons.stores]
        for _ in range(20):
            daemons.server.offset_s -= back_s
            await asyncio.sleep(1.3)
        after = owners(daemons)
        for old, new in zip(before, after, strict=True):
            assert old[0] not in alive or new == old

    play(story)


def test_a_daemon_that_starts_after_the_servers_clock_was_set_back_goes_by_the_clock_of_all() -> None:
    """Whoever kept the clock is gone, and nobody knows how old it is."""

    async def story(daemons: Daemons) -> None:
        await asyncio.sleep(60.0)
        (old,) = daemons.stores
        observed = old._clock.now.observed
        await daemons.die(old)
        daemons.server.offset_s -= 600.0
        store: ReplicaStore = await daemons.start()
        assert store._clock.now.observed >= observed - 1.0
        await asyncio.sleep(LEASE_S + 1.0)
        counts = await store.counts()
        assert counts.agents[AgentState.LIVE] == len(AGENTS)
        assert len(store._holdings.stores) == SHARDS

    play(story, count=1)
