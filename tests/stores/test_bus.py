"""What daemons ask one another over a real server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any

import pytest

from watchdog.errors import StoreUnavailable
from watchdog.stores.bus import Bus, NotAnswered, Refused
from watchdog.stores.valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.contract.redis_server import RedisServer


class Forgetful(ValkeyServer):
    """Does what it is told, and the word that it has is lost, while `lost` is set."""

    lost = False

    async def call(self, calls: Any) -> Any:
        done = await super().call(calls)
        if self.lost:
            # Time for the answer to be here before.
            await asyncio.sleep(0.2)
            raise StoreUnavailable("The connection was closed.")
        return done


async def answer(what: str, body: bytes) -> bytes:
    if what == "greet":
        return b"hello " + body
    raise Refused(f"{what} is not done here")


class Pair:
    """Two daemons' inboxes, over one server."""

    def __init__(self, server: RedisServer) -> None:
        self.servers = [Forgetful(server.address), Forgetful(server.address)]
        self.buses = [
            Bus(each, name, answer, lambda stamp_ms: 0.0) for each, name in zip(self.servers, "ab", strict=True)
        ]


@pytest.fixture
async def pair(server: RedisServer) -> AsyncIterator[Pair]:
    made = Pair(server)
    for each in made.servers:
        await each.open()
    running = [asyncio.create_task(each.run()) for each in made.buses]
    yield made
    for task in running:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for each in made.servers:
        await each.close()


async def test_an_answer_and_a_refusal_come_back(pair: Pair) -> None:
    bus = pair.buses[0]
    assert await bus.ask("b", "greet", b"a") == b"hello a"
    with pytest.raises(Refused, match="dance is not done here"):
        await bus.ask("b", "dance", b"")
    with pytest.raises(NotAnswered):
        await bus.ask("nobody", "greet", b"", 0.1)


async def test_a_refusal_of_what_seemed_not_to_be_asked_leaves_nothing_behind(pair: Pair) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    pair.servers[0].lost = True
    with pytest.raises(StoreUnavailable, match="closed"):
        await pair.buses[0].ask("b", "dance", b"")
    gc.collect()
    assert faults == []
    assert not pair.buses[0]._waiting
