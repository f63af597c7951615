"""What daemons ask one another over a real server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from watchdog.errors import StoreUnavailable
from watchdog.stores.bus import Bus, NotAnswered, Refused, inbox
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


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"greet",
        b"x [1]\n",
        b"0 {}\n",
        b"0 []\n",
        b"0 7\n",
        b'0 ["?"]\n',
        b'0 ["?",1,"a"]\n',
        b'0 ["?","one","a","greet",1.0]\n',
        b'0 ["?",1,"a","greet",null]\n',
        b'0 ["!"]\n',
        b'0 ["!",1]\n',
        b'0 ["!",[1],true]\n',
        b'0 ["another kind",1]\n',
        b'0 ["?",1,"a","greet",1.0\n',
    ],
)
async def test_a_message_that_makes_no_sense_is_dropped_and_the_next_one_is_answered(
    pair: Pair, server: RedisServer, message: bytes
) -> None:
    with capture_logs() as logs:
        with server.client as client:
            client.rpush(inbox("b"), message)
        assert await pair.buses[0].ask("b", "greet", b"a") == b"hello a"
    assert [entry["event"] for entry in logs] == ["replica.message_dropped"]


async def test_what_a_later_version_has_added_to_a_head_is_left_aside(pair: Pair, server: RedisServer) -> None:
    """While a deployment is rolled, two versions ask one another."""
    asked = asyncio.create_task(pair.buses[0].ask("nobody", "greet", b""))
    await asyncio.sleep(0)
    with server.client as client:
        client.rpush(inbox("b"), b'0 ["?",1,"a","greet",1.0,"new",{}]\nall')
    assert await asked == b"hello all"
    asked = asyncio.create_task(pair.buses[0].ask("nobody", "greet", b""))
    await asyncio.sleep(0)
    with server.client as client:
        client.rpush(inbox("a"), b'0 ["!",2,true,"new"]\nhello')
    assert await asked == b"hello"
