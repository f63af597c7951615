"""A daemon whose flush takes long, over the simulator's server: time does not pass for what it has not handed on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import TICK, TTL, session
from tests.stores.daemons import AGENTS, SHARDS, Daemons, play
from watchdog.core.clock import Cause
from watchdog.core.model import Beat
from watchdog.errors import StoreUnavailable
from watchdog.ingest import buffer as buffers
from watchdog.ingest.sorted_buffer import SortedBuffer
from watchdog.loops import FLUSH_S
from watchdog.stores.delivery import AGAIN_S, DELIVERED_S
from watchdog.stores.part_rows import part_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.stores.daemons import Asked
    from watchdog.core.model import AgentId
    from watchdog.stores.replica import ReplicaStore
    from watchdog.stores.valkey_server import Call

SLOW_S = 0.9
"""A daemon that answers so late answers."""


async def slowly(calls: Sequence[Call], asked: Asked) -> list[list[bytes]]:
    """What it says to others is long on its way."""
    if calls[0][0] == "post":
        await asyncio.sleep(SLOW_S)
    return await asked(calls)


def sweeping(daemons: Daemons, store: ReplicaStore, buffer: SortedBuffer) -> None:
    """Has a daemon do what its loops do, in place of ticks alone."""

    async def sweeps() -> None:
        while True:
            blind = None
            try:
                await buffer.flush()
            except StoreUnavailable:
                blind = Cause.STORE
            with contextlib.suppress(StoreUnavailable):
                await store.tick("me", daemons.instant, blind)
            await asyncio.sleep(TICK)

    async def flushes() -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):
                await buffer.flush_own()
            await asyncio.sleep(FLUSH_S)

    for task in daemons.tasks[store.name]:
        task.cancel()
    daemons.tasks[store.name] = [asyncio.create_task(sweeps()), asyncio.create_task(flushes())]


@pytest.fixture(autouse=True)
def _one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush is long that has many beats for a daemon that answers late: here one in each message."""
    monkeypatch.setattr(buffers, "APPLIED", 1)
    monkeypatch.setattr(buffers, "MOST_APPLIED", 1)


async def behind(daemons: Daemons) -> tuple[SortedBuffer, list[AgentId]]:
    """The first daemon's buffer, which is given more for the second than that one applies in 12 s."""
    daemons.beating = False
    first, second = daemons.stores
    buffer = SortedBuffer(first, lambda: daemons.instant, asyncio.get_running_loop().time)
    sweeping(daemons, first, buffer)
    await asyncio.sleep(1.0)
    daemons.connections[second.name].steer = slowly
    theirs = [agent for agent in AGENTS if part_of(agent, SHARDS) in second._holdings.stores]
    assert len(theirs) * SLOW_S > 12
    for agent in theirs:
        buffer.of(agent).submit(Beat(agent, session(AGENTS.index(agent) + 1), ttl=TTL))
    return buffer, theirs


@pytest.mark.parametrize("stops", [False, True])
def test_the_clock_stands_while_a_flush_goes_on_for_long(*, stops: bool) -> None:
    """Also where there is no sweep any more, and the daemon reports without one."""

    async def story(daemons: Daemons) -> None:
        buffer, theirs = await behind(daemons)
        if stops:
            daemons.tasks[daemons.stores[0].name][0].cancel()
        await asyncio.sleep(4.0)
        clock = daemons.keeper._clock.now
        await asyncio.sleep(6.0)
        assert buffer.of(theirs[-1]).late
        assert not buffer.of(theirs[-1]).failing
        assert daemons.keeper._clock.now.observed == clock.observed

    play(story, 2)


def test_whoever_registers_anew_tells_that_a_flush_goes_on_for_long() -> None:
    async def story(daemons: Daemons) -> None:
        _, theirs = await behind(daemons)
        first = daemons.stores[0]
        await asyncio.sleep(2.0)
        first._register.reported_at -= 3.0
        (mine,) = [agent for agent in AGENTS if agent not in theirs][:1]
        await first.apply([Beat(mine, session(AGENTS.index(mine) + 1), ttl=TTL)], daemons.instant)
        assert [entry.blind for entry in first.entries if entry.name == first.name] == [Cause.STORE]

    play(story, 2)


def test_a_sweep_does_not_wait_for_whoever_is_slow() -> None:
    """Else the daemon would report no more, and lose its own parts."""

    async def story(daemons: Daemons) -> None:
        buffer, theirs = await behind(daemons)
        first = daemons.stores[0]
        await asyncio.sleep(2.0)
        for _ in range(8):
            ticks = first._ticks
            await asyncio.sleep(1.0)
            assert first._ticks - ticks >= 3
        assert buffer.of(theirs[-1]).late

    play(story, 2)


@pytest.mark.parametrize("late", [True, False])
def test_whoever_ends_with_heartbeats_that_it_has_not_handed_on_says_no_goodbye(*, late: bool) -> None:
    """Its clients have to come back elsewhere first, as if it had died."""

    async def story(daemons: Daemons) -> None:
        buffer, theirs = await behind(daemons)
        first, second = daemons.stores
        await asyncio.sleep(3.0 if late else 60.0)
        assert buffer.of(theirs[-1]).late is late
        await daemons.end(first)
        assert (first.name in {entry.name for entry in (await second._reported(None)).entries}) is late
        await asyncio.sleep(daemons.rules.clock.resume_grace_s + 5.0)
        assert {entry.name for entry in second.entries} == {second.name}

    play(story, 2)


def test_whoever_refuses_is_not_asked_again_at_once() -> None:
    """A daemon that is ending, or is of a version that reads other heartbeats, refuses all of them for a while."""

    async def story(daemons: Daemons) -> None:
        daemons.beating = False
        first, second = daemons.stores
        await asyncio.sleep(1.0)
        theirs = [agent for agent in AGENTS if part_of(agent, SHARDS) in second._holdings.stores]
        asked: list[str] = []

        async def counted(calls: Sequence[Call], ask: Asked) -> list[list[bytes]]:
            asked.extend(name for name, *_ in calls if name == "post")
            return await ask(calls)

        daemons.connections[first.name].steer = counted
        second._opened = False
        with pytest.raises(StoreUnavailable):
            await first.apply([Beat(agent, session(1), ttl=TTL) for agent in theirs[:1]], daemons.instant)
        assert 1 < len(asked) <= DELIVERED_S / AGAIN_S
        second._opened = True

    play(story, 2)
