"""Calls to the URLs of the settings, over real sockets."""

import asyncio
import contextlib
import gzip
from typing import Self

import pytest

from watchdog.errors import NotAnswered
from watchdog.outgoing import BARRED, Caller


class Receiver:
    """Answers each connection with the same bytes, and keeps what was sent."""

    def __init__(self, answer: bytes, *, hangs: bool = False) -> None:
        self.answer = answer
        self.hangs = hangs
        self.received = b""
        self.connections = 0
        self.serving: set[asyncio.Task] = set()

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/s3cret"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()
        await asyncio.gather(*self.serving)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.current_task())
        self.connections += 1
        self.received += await reader.read(65536)
        writer.write(self.answer)
        if self.hangs:
            await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers])
    return head.encode() + b"\r\n\r\n" + body


async def elsewhere(_host: str, _port: int) -> list[str]:
    """A name server that changes its mind after it was asked."""
    return ["192.0.2.1"]


async def asked(receiver: Receiver, timeout_s: float = 5.0, **options):
    caller = Caller(timeout_s, proxies=False, **options)
    try:
        return await caller.ask("POST", receiver.url, content=b"said", limit=100)
    finally:
        await caller.close()


async def test_an_answer_is_given_as_it_is():
    async with Receiver(answer("200 OK", b"heard")) as receiver:
        found = await asked(receiver)
    assert (found.status, found.body, found.whole) == (200, b"heard", True)
    assert receiver.received.endswith(b"said")
    assert b"accept-encoding: identity" in receiver.received.lower()


async def test_a_name_that_leads_to_metadata_is_not_connected_to():
    async def metadata(_host: str, _port: int) -> list[str]:
        return ["192.0.2.1", "169.254.169.254"]

    async with Receiver(answer("200 OK")) as receiver:
        with pytest.raises(NotAnswered, match="metadata"):
            await asked(receiver, resolve=metadata)
    assert receiver.connections == 0


async def test_a_name_that_changes_after_the_look_is_sent_nothing():
    async with Receiver(answer("200 OK")) as receiver:
        with pytest.raises(NotAnswered) as error:
            await asked(receiver, resolve=elsewhere, barred=lambda address: address == "127.0.0.1")
    assert str(error.value) == BARRED
    assert receiver.received == b""


async def test_a_redirect_is_not_followed():
    async with Receiver(answer("200 OK")) as target:
        moved = answer("302 Found", b"", f"location: {target.url}")
        async with Receiver(moved) as receiver:
            assert (await asked(receiver)).status == 302
    assert target.connections == 0


async def test_a_long_answer_is_cut_off():
    async with Receiver(answer("200 OK", b"x" * 1_000_000)) as receiver:
        found = await asked(receiver)
    assert (len(found.body), found.whole) == (100, False)


async def test_of_fifty_megabytes_no_more_is_read_than_was_asked_for():
    piece, sent = b" " * 65_536, 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(OSError):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n")
            while sent < 52_428_800:
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
        writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    caller = Caller(5.0, proxies=False)
    found = await caller.ask("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", limit=262_144)
    await caller.close()
    server.close()
    await server.wait_closed()
    assert (len(found.body), found.whole) == (262_144, False)
    assert sent < 20_000_000, "what is more than the sockets' buffers hold was not taken"


async def test_a_packed_answer_is_not_unpacked():
    bomb = gzip.compress(bytes(10_000_000))
    async with Receiver(answer("200 OK", bomb, "content-encoding: gzip")) as receiver:
        found = await asked(receiver)
    assert (found.body, found.whole) == (b"", False)


async def test_whoever_takes_too_long_is_not_waited_for():
    async with Receiver(b"HTTP/1.1 200 OK\r\n", hangs=True) as receiver:
        with pytest.raises(NotAnswered) as error:
            await asked(receiver, timeout_s=0.2)
    assert "s3cret" not in str(error.value)
