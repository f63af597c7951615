"""What daemons ask one another over a real server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from watchdog.errors import StoreUnavailable
from watchdog.stores import valkey_server
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


def now_ms() -> float:
    """The server's time: it is on this machine."""
    return time.time() * 1000


done: list[bytes] = []


async def answer(what: str, body: bytes) -> bytes:
    if what == "greet":
        done.append(body)
        return b"hello " + body
    raise Refused(f"{what} is not done here")


class Pair:
    """Two daemons' inboxes, over one server."""

    def __init__(self, server: RedisServer) -> None:
        self.servers = [Forgetful(server.address), Forgetful(server.address)]
        self.buses = [Bus(each, name, answer, now_ms) for each, name in zip(self.servers, "ab", strict=True)]


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
        client.rpush(inbox("b"), b'%d ["?",1,"a","greet",1.0,%d,"new",{}]\nall' % (now_ms(), now_ms()))
    assert await asked == b"hello all"
    asked = asyncio.create_task(pair.buses[0].ask("nobody", "greet", b""))
    await asyncio.sleep(0)
    with server.client as client:
        client.rpush(inbox("a"), b'0 ["!",2,true,"new"]\nhello')
    assert await asked == b"hello"


async def test_a_question_of_an_earlier_version_does_not_tell_when_it_was_asked(
    pair: Pair, server: RedisServer
) -> None:
    asked = asyncio.create_task(pair.buses[0].ask("nobody", "greet", b""))
    await asyncio.sleep(0)
    with server.client as client:
        client.rpush(inbox("b"), b'%d ["?",1,"a","greet",1.0]\nall' % now_ms())
    assert await asked == b"hello all"


async def test_what_was_asked_while_the_server_stood_is_not_done_when_nobody_waits_for_it_any_more(
    pair: Pair, server: RedisServer
) -> None:
    """The server stamps a question when it takes it: that may be seconds after it was asked."""
    done.clear()
    server.signal(signal.SIGSTOP)
    try:
        asked = asyncio.create_task(pair.buses[0].ask("b", "greet", b"late", 0.3))
        await asyncio.sleep(0.4)
    finally:
        server.signal(signal.SIGCONT)
    with pytest.raises(NotAnswered):
        await asked
    assert await pair.buses[0].ask("b", "greet", b"again") == b"hello again"
    assert done == [b"again"]


async def test_nobody_waits_longer_than_asked_for_though_the_server_stands(pair: Pair, server: RedisServer) -> None:
    faults: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context))
    server.signal(signal.SIGSTOP)
    try:
        asked = asyncio.create_task(pair.buses[0].ask("b", "greet", b"late", 0.2))
        await asyncio.wait({asked}, timeout=1.0)
        in_time = asked.done()
        # What is on its way fails by itself; nobody is told twice.
        left = [task for task in asyncio.all_tasks() if task.get_name() == "post"]
        await asyncio.wait([asked, *left], timeout=valkey_server.ANSWER_S + 1)
    finally:
        server.signal(signal.SIGCONT)
    assert in_time
    with pytest.raises(NotAnswered):
        await asked
    assert [task for task in left if task.done()] == left != []
    del asked, left
    gc.collect()
    assert faults == []
