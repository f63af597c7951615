"""`python -m tests.benchmarks.flushes PORT SECONDS`: what a flush costs the stores of two daemons, and their server.

Two stores in one process, without HTTP: the CPU of the process is that of both. Prints JSON.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import orjson
import redis.asyncio
import structlog
import uvloop

from tests.benchmarks.processes import INSTANCE, LOOPBACK
from watchdog.core.clock import ClockRules
from watchdog.core.model import AgentId, Beat, BeatType
from watchdog.core.quota import QuotaRules
from watchdog.machine import now
from watchdog.stores.address import Address
from watchdog.stores.base import StoreRules
from watchdog.stores.part_rows import part_of
from watchdog.stores.replica import ReplicaStore

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARDS = 16
AGENTS = 4_000
TTL_S = 3600.0
TICK_S = 0.25
LARGE, SMALL = 500, 20
"""Heartbeats in a flush: the most in one call of the store, and what a daemon hands to another one where four daemons
have 1,000 heartbeats a second."""

RULES = StoreRules(5.0, ClockRules(30.0, 10.0), QuotaRules(2.0, 5.0, 0.8))


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one heartbeat.

    Attributes:
        daemons_us: CPU of both stores, in microseconds.
        server_us: CPU of the server.
        commands: That the server ran, those of functions included.
        sent: Bytes to and from the server.
    """

    daemons_us: float
    server_us: float
    commands: float
    sent: float


class Pair:
    """Two stores that tick."""

    def __init__(self, port: int) -> None:
        self.stores = [ReplicaStore(Address(LOOPBACK, port), RULES, name, SHARDS) for name in ("one", "other")]
        self._client = redis.asyncio.Redis(port=port)
        self._ticked_at = 0.0

    async def open(self) -> None:
        """Returns when each has its share."""
        for store in self.stores:
            await store.open(now())
        while sorted(len(store._holdings.stores) for store in self.stores) != [SHARDS / 2] * 2:
            await self.tick()
            await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """When it is time."""
        if time.monotonic() - self._ticked_at > TICK_S:
            self._ticked_at = time.monotonic()
            for store in self.stores:
                await store.tick("benchmark", now())

    async def cost(self, agents: Sequence[AgentId], size: int, seconds: float) -> Cost:
        """What it costs when the first store is given beats of these agents, so many at a time."""
        beats = [_beat(number, agent) for number, agent in enumerate(agents)]
        for part in _parts(beats, LARGE):
            await self.stores[0].apply(part, now())
        before, spent_s, count, end = await self._client.info("everything"), 0.0, 0, time.monotonic() + seconds
        while time.monotonic() < end:
            for part in _parts(beats, size):
                began = time.process_time()
                await self.stores[0].apply(part, now())
                spent_s += time.process_time() - began
                count += len(part)
                await self.tick()
        after = await self._client.info("everything")

        def rise(*names: str) -> float:
            return sum(float(after[name]) - float(before[name]) for name in names)

        return Cost(
            1e6 * spent_s / count,
            1e6 * rise("used_cpu_user", "used_cpu_sys") / count,
            rise("total_commands_processed") / count,
            rise("total_net_input_bytes", "total_net_output_bytes") / count,
        )

    async def close(self) -> None:
        """In order."""
        for store in self.stores:
            await store.close()
        await self._client.aclose()


def _beat(number: int, agent: AgentId) -> Beat:
    return Beat(agent, number.to_bytes(16), BeatType.BEAT, 0, None, TTL_S)


def _parts(beats: Sequence[Beat], size: int) -> list[Sequence[Beat]]:
    return [beats[begin : begin + size] for begin in range(0, len(beats), size)]


async def main() -> None:
    """Measures all, in turn."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    pair, seconds = Pair(int(sys.argv[1])), float(sys.argv[2])
    await pair.open()
    agents = [AgentId(INSTANCE, f"00000000-0000-4000-8000-{number:012}") for number in range(AGENTS)]
    own = [agent for agent in agents if part_of(agent, SHARDS) in pair.stores[0]._holdings.stores]
    foreign = [agent for agent in agents if agent not in set(own)]
    found = {
        "own": await pair.cost(own, LARGE, seconds),
        "handed on": await pair.cost(foreign, LARGE, seconds),
        "handed on, few": await pair.cost(foreign, SMALL, seconds),
    }
    await pair.close()
    print(orjson.dumps({name: asdict(cost) for name, cost in found.items()}).decode())


if __name__ == "__main__":
    uvloop.run(main())
