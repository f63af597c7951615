"""Daemons over the simulator's server, which tick by themselves on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.contract.world import RULES, START, TICK, TIMER, TTL, session
from watchdog.core.brake import BrakeRules
from watchdog.core.model import AgentId, Beat, BeatType, Boot, Epoch, Instant
from watchdog.errors import StoreUnavailable
from watchdog.simulation.loop import VirtualLoop
from watchdog.simulation.valkey import Connection, VirtualValkey, Way
from watchdog.stores.replica import ReplicaStore

if TYPE_CHECKING:
    from watchdog.stores.valkey_server import Call

SHARDS = 6
AGENTS = [AgentId("i", f"agent-{number}") for number in range(30)]
Asked = Callable[["Sequence[Call]"], Awaitable[list[list[bytes]]]]


class Steered(Connection):
    """What is called may be put off, or not be answered."""

    steer: Callable[[Sequence[Call], Asked], Awaitable[list[list[bytes]]]] | None = None

    async def call(self, calls: Sequence[Call]) -> list[list[bytes]]:
        if self.steer is None or not calls:
            return await super().call(calls)
        return await self.steer(calls, super().call)


class Daemons:
    """Daemons that tick by themselves."""

    def __init__(self) -> None:
        self.server = VirtualValkey(offset_s=0.0, drift=0.0)
        self.rules = replace(RULES, brake=BrakeRules(min_agents=20))
        self.stores: list[ReplicaStore] = []
        self.connections: dict[str, Steered] = {}
        self.due: set[AgentId] = set()
        self.beating = False
        self.tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._started = 0

    @property
    def instant(self) -> Instant:
        passed = asyncio.get_running_loop().time()
        return Instant(Boot(100 + passed), Epoch(START + passed), "boot-1")

    async def start(self) -> ReplicaStore:
        time = asyncio.get_running_loop().time
        connection = Steered(Way(self.server, random.Random(self._started)), lambda _: None)
        name = f"process {self._started}"
        store = ReplicaStore(connection, self.rules, name, SHARDS, passed=time, clock=time)
        self._started += 1
        self.connections[name] = connection
        await store.open(self.instant)
        self.stores.append(store)
        self.tasks[name] = [asyncio.create_task(self._ticks(store)), asyncio.create_task(self._beats(store))]
        return store

    async def _ticks(self, store: ReplicaStore) -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):
                self.due |= {due.agent for due in (await store.tick("me", self.instant)).due}
            await asyncio.sleep(TICK)

    async def _beats(self, store: ReplicaStore) -> None:
        while True:
            if self.beating and store is self.stores[0]:
                with contextlib.suppress(StoreUnavailable):
                    await self.beat(store)
            await asyncio.sleep(5.0)

    async def beat(self, store: ReplicaStore, *, kind: BeatType = BeatType.BEAT) -> None:
        beats = [Beat(agent, session(at + 1), kind, 0, None, TTL) for at, agent in enumerate(AGENTS)]
        await store.apply(beats, self.instant)

    async def even(self) -> None:
        """Each has its share."""
        for _ in range(100):
            held = [len(store._holdings.stores) for store in self.stores]
            if sum(held) == SHARDS and max(held) - min(held) <= 1:
                return
            await asyncio.sleep(TICK)
        raise AssertionError(held)

    @property
    def keeper(self) -> ReplicaStore:
        (found,) = [store for store in self.stores if store._keeper is not None]
        return found

    @property
    def numbers(self) -> list[int]:
        return [store._shared.given.number for store in self.stores]

    async def die(self, store: ReplicaStore) -> None:
        self.stores.remove(store)
        self.connections[store.name].dead = True
        await self._end(store)
        await store.die()

    async def end(self, store: ReplicaStore) -> None:
        """It stops as it should."""
        self.stores.remove(store)
        await self._end(store)
        await store.close()

    async def _end(self, store: ReplicaStore) -> None:
        for task in self.tasks.pop(store.name):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        for store in self.stores:
            await self._end(store)
            await store.close()

    async def order(self, *, hold: bool = True, for_s: float = 600.0, reason: str = "") -> None:
        await self.keeper.order("all", hold=hold, for_s=for_s, reason=reason, instant=self.instant)

    async def judge(self) -> None:
        """All agree how the brakes stand, and when everybody falls silent everybody is held."""
        await asyncio.sleep(3.0)
        assert len(set(self.numbers)) == 1, self.numbers
        self.beating = False
        await asyncio.sleep(TTL + TIMER + 30.0)
        assert len(set(self.numbers)) == 1, self.numbers
        assert not self.due
        assert [store._shared.view.held for store in self.stores] == [len(AGENTS)] * len(self.stores)


def play(story: Callable[[Daemons], Awaitable[None]], count: int = 3) -> None:
    """Plays a story of so many daemons over which all agents beat."""

    async def played() -> None:
        daemons = Daemons()
        for _ in range(count):
            await daemons.start()
        await daemons.even()
        await daemons.beat(daemons.stores[0])
        daemons.beating = True
        await asyncio.sleep(1.0)
        await story(daemons)
        await daemons.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(played())
