"""The server has lost the clock, and a daemon that starts begins it anew before those who knew it are back."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import RULES, TIMER, TTL, session
from tests.stores.daemons import AGENTS, SHARDS, play
from watchdog.core.model import Beat, BeatType, Observed
from watchdog.errors import StoreUnavailable
from watchdog.stores.part_rows import part_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.stores.daemons import Asked, Daemons
    from watchdog.stores.valkey_server import Call


@pytest.mark.parametrize("lost", ["everything", "the last ten minutes"])
def test_daemons_that_know_a_later_clock_than_that_of_all_go_by_that_of_all(lost: str) -> None:
    async def story(daemons: Daemons) -> None:
        saved = daemons.server.model.saved()
        await asyncio.sleep(600.0)
        if lost == "everything":
            daemons.server.model.flush()
        else:
            daemons.server.model.restore(saved)
        ways = [connection._way for connection in daemons.connections.values()]
        for way in ways:
            way.cut += 1
        newcomer = await daemons.start()
        # Its leases are by the new clock, and some of its parts move to the others.
        await daemons.beat(newcomer)
        for way in ways:
            way.cut -= 1
        await asyncio.sleep(RULES.clock.resume_grace_s + 15.0)
        assert not daemons.due
        assert sum(len(store._holdings.stores) for store in daemons.stores) == SHARDS
        clocks = [store._clock.now.observed for store in daemons.stores]
        assert max(clocks) - min(clocks) < 1.0
        await asyncio.sleep(30.0)
        assert all(
            store._clock.now.observed > clock + 29.0 for store, clock in zip(daemons.stores, clocks, strict=True)
        )
        await daemons.judge()

    play(story, count=2)


def test_a_ghost_whose_lease_is_by_the_later_clock_is_noticed() -> None:
    """Of a cluster one node alone has lost what it had: that of the clock. The parts are whose they were."""

    async def story(daemons: Daemons) -> None:
        await asyncio.sleep(600.0)
        daemons.beating = False
        ghost = next(agent for agent in AGENTS if part_of(agent, SHARDS) == min(daemons.stores[0]._holdings.stores))
        beats = [
            Beat(agent, session(at + 1), BeatType.BEAT, 0, None, TTL)
            for at, agent in enumerate(AGENTS)
            if agent != ghost
        ]

        async def away(calls: Sequence[Call], ask: Asked) -> list[list[bytes]]:
            if any(key.startswith("{wd:all}") for _, keys, _ in calls for key in keys):
                raise StoreUnavailable("It cannot be reached.")
            return await ask(calls)

        data = daemons.server.model.data
        for key in [key for key in data if key.startswith(b"{wd:all}")]:
            del data[key]
        before = list(daemons.connections.values())
        for connection in before:
            connection.steer = away
        opening = asyncio.create_task(daemons.start())
        await asyncio.sleep(2.0)
        for connection in before:
            connection.steer = None
        newcomer = await opening
        assert newcomer._keeper is not None
        until = asyncio.get_running_loop().time() + RULES.clock.resume_grace_s + TTL + TIMER + 60.0
        while asyncio.get_running_loop().time() < until:
            with contextlib.suppress(StoreUnavailable):
                await newcomer.apply(beats, daemons.instant)
            await asyncio.sleep(5.0)
        assert daemons.due == {ghost}

    play(story, count=2)


def test_a_daemon_that_knows_a_little_more_waits_for_the_clock_of_all() -> None:
    """Nothing is forgotten for that."""

    async def story(daemons: Daemons) -> None:
        (other,) = [store for store in daemons.stores if store._keeper is None]
        parts = dict(other._holdings.stores)
        await asyncio.sleep(1.0)
        clock = other._clock.now
        other._clock.now = replace(clock, observed=Observed(clock.observed + 4.0))
        await asyncio.sleep(10.0)
        assert other._holdings.stores == parts
        assert abs(other._clock.now.observed - daemons.keeper._clock.now.observed) < 1.0

    play(story, count=2)
