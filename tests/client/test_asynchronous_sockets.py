"""The asynchronous client's WebSocket, in real time, against a server on this machine that keeps no rules."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from watchdog.client import AsyncPresenceClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LIVE = {"state": "live", "next_ms": 500, "ticket": "ticket-of-the-tests", "ws": True}


class Server:
    """Takes heartbeats both ways.

    Attributes:
        posted, sent: Types of the messages, by POST and by WebSocket.
        bye: How a bye by WebSocket is answered: with this code, or not at all.
        flood: A message by WebSocket is answered with a megabyte.
        refuse: The next handshake is refused.
        hang: What is waited for once a bye has come by WebSocket that is not answered; nothing else is done meanwhile.
    """

    def __init__(self) -> None:
        self.posted: list[str] = []
        self.sent: list[str] = []
        self.bye: int | None = 1000
        self.flood = False
        self.refuse = False
        self.hang = threading.Event()
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            kind = json.loads((await receive())["body"])["type"]
            self.posted.append(kind)
            status = 204 if kind == "bye" else 200
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"" if kind == "bye" else json.dumps(LIVE).encode()})
            return
        await receive()
        if self.refuse:
            self.refuse = False
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept", "subprotocol": "watchdog.v1"})
        async for kind in self._messages(receive):
            self.sent.append(kind)
            if kind != "bye":
                text = json.dumps({**LIVE, "more": "x" * 1_000_000} if self.flood else LIVE)
                await send({"type": "websocket.send", "text": text})
            elif self.bye is not None:
                await send({"type": "websocket.close", "code": self.bye})
            else:
                self.hang.wait(10)

    @staticmethod
    async def _messages(receive: Any) -> AsyncIterator[str]:
        while (message := await receive())["type"] == "websocket.receive":
            yield json.loads(message["text"])["type"]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.hang.set()
    config = uvicorn.Config(
        server, ws="websockets-sansio", lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([server.socket],))
    thread.start()
    yield server
    running.should_exit = True
    thread.join()


class Told:
    """Waits for a transport."""

    def __init__(self) -> None:
        self.transports: list[str] = []
        self.came = asyncio.Event()

    def __call__(self, status: Any) -> None:
        self.transports.append(status.transport)
        self.came.set()

    async def until(self, *transports: str) -> None:
        async with asyncio.timeout(10):
            while tuple(self.transports[-len(transports) :]) != transports:
                self.came.clear()
                await self.came.wait()


@pytest.mark.parametrize(
    ("answer", "posted", "least_s", "most_s"), [(1000, False, 0, 0.9), (1012, True, 0, 0.9), (None, True, 1, 1.9)]
)
async def test_a_bye_goes_over_the_socket_and_is_posted_if_it_is_not_taken(
    server, answer, posted, least_s, most_s
) -> None:
    server.bye = answer
    loop, told = asyncio.get_running_loop(), Told()
    async with AsyncPresenceClient(server.url, "i/u", on_status=told):
        await told.until("ws")
        begun = loop.time()
    assert least_s <= loop.time() - begun < most_s
    assert server.sent[-1] == "bye"
    assert ("bye" in server.posted) == posted
    assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()


async def test_a_server_that_hangs_is_left_after_2_s_and_nothing_is_left_of_the_client(server) -> None:
    server.bye = None
    server.hang.clear()
    loop, told = asyncio.get_running_loop(), Told()
    async with AsyncPresenceClient(server.url, "i/u", on_status=told):
        await told.until("ws")
        begun = loop.time()
    took, left = loop.time() - begun, asyncio.all_tasks() - {asyncio.current_task()}
    server.hang.set()
    assert (round(took), left) == (2, set())


async def test_a_handshake_that_is_refused_is_tried_again_later(server, monkeypatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    server.refuse = True
    told = Told()
    async with AsyncPresenceClient(server.url, "i/u", on_status=told):
        await told.until("ws")
    assert len(server.posted) >= 3


async def test_neither_tokens_nor_tickets_are_logged(server, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    told = Told()
    async with AsyncPresenceClient(server.url, "i/u", token="secret-token", on_status=told):
        await told.until("ws")
    assert "bye" in server.sent
    ours = " ".join(each.getMessage() for each in caplog.records if not each.name.startswith("uvicorn"))
    assert "httpx" in {each.name for each in caplog.records}
    assert "secret-token" not in ours
    assert "of-the-tests" not in ours


async def test_a_reply_that_is_no_reply_by_its_size_ends_the_socket_and_heartbeats_are_posted(server) -> None:
    told = Told()
    async with AsyncPresenceClient(server.url, "i/u", on_status=told) as presence:
        await told.until("ws")
        before = len(server.posted)
        server.flood = True
        presence.kick()
        await told.until("post")
        assert len(server.posted) > before


async def test_without_a_socket_the_client_goes_on_by_post(server) -> None:
    told = Told()
    async with AsyncPresenceClient(server.url, "i/u", on_status=told, transport="post") as presence:
        assert await presence.wait_until_live(5)
        presence.kick()
    assert (server.sent, server.posted[-1], set(told.transports)) == ([], "bye", {"post"})
