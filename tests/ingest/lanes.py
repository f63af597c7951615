"""Two servers over the same application, one with the fast lane and one without, and a client that compares them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from watchdog.ingest.connections import Connections
from watchdog.ingest.cors import Cors
from watchdog.ingest.front import Front
from watchdog.ingest.heartbeat import ONE
from watchdog.ingest.origins import Origins
from watchdog.ingest.server import server
from watchdog.ingest.shortcut import Shortcut

PAGE = "https://desk.example"
DATE = (b"date", b"Sat, 21 Nov 2026 12:00:00 GMT")
LAST = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
"""Behind everything that is sent: its answer ends the connection, if nothing did before."""

ROUNDS = 12
"""Turns of the loop in which a read that was sent is certainly taken: loopback delivers at once."""


class Flush:
    """Between two reads: whatever waits is given to the store, or fails."""


class Answered:
    """Between two reads: the answer to a request is awaited."""


class Stop:
    """Between two reads: the server begins to stop."""


class Eof:
    """The client says that it sends nothing more; it is the last step."""


class Left:
    """The client is gone; it is the last step."""


Step = bytes | type | Callable[[Any], None]
"""What is sent; or one of the above; or what happens to the world."""


@dataclass
class Seen:
    """What came of a case.

    Attributes:
        said: All bytes that the client was sent.
        heartbeats: The counters at the end.
        rejected: The counters at the end.
        sessions: What the store knows at the end.
        through_asgi: Heartbeats that became ASGI.
        sites: From where something was heard.
    """

    said: bytes = b""
    heartbeats: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    sessions: dict[bytes, tuple[Any, ...]] = field(default_factory=dict)
    through_asgi: int = 0
    sites: tuple[str, ...] = ()


class Served:
    """A world behind one of the lanes, on a socket of its own."""

    def __init__(self, world: Any, *, fast: bool, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.world = world
        self.through_asgi = 0
        origins = Origins.of([PAGE], None, open_to_all=world.mode == "none")
        front = Front(world.app, origins, world.counters, time.monotonic)
        cors = Cors(front, [PAGE])

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self.through_asgi += scope["path"] == ONE
            await cors(scope, receive, send)

        self.server = server(
            counted,
            Connections(100, time.monotonic, time.time),
            shortcut=Shortcut(world.heartbeats, front, cors) if fast else None,
            tethers=world.tethers,
        )
        self.server.config.load()
        self.server.lifespan = self.server.config.lifespan_class(self.server.config)
        self.server.server_state.default_headers = [DATE, *headers]
        self.socket = socket.create_server(("127.0.0.1", 0))

    async def __aenter__(self) -> Self:
        await self.server.startup([self.socket])
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self.server.servers:
            each.close()
        state = self.server.server_state
        for connection in list(state.connections):
            connection.transport.abort()
        while state.connections or state.tasks:
            await self.world.flush_once()
            await asyncio.sleep(0)

    async def say(self, steps: list[Step], *, last: bool = True) -> Seen:
        """Sends what a case says, one read after another, and reads to the end."""
        reader, writer = await asyncio.open_connection(*self.socket.getsockname())
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        said = b""
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
            elif step is Flush:
                await self.world.flush_once()
            elif step is Answered:
                said += await asyncio.wait_for(self._answer(reader), 10)
            elif step is Stop:
                for connection in list(self.server.server_state.connections):
                    connection.shutdown()
            elif step is Eof:
                writer.write_eof()
            elif step is Left:
                writer.transport.abort()
            else:
                step(self.world)
            for _ in range(ROUNDS):
                await asyncio.sleep(0)
        if last and steps[-1] not in (Eof, Left):
            writer.write(LAST)
        flushing = asyncio.create_task(self._flush_on())
        with contextlib.suppress(ConnectionError):
            said += await asyncio.wait_for(reader.read(), 10)
        flushing.cancel()
        writer.transport.abort()
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        await self.world.flush_once()
        counters = self.world.counters
        sessions = {
            name: (row.agent, row.incarnation, row.seq, row.closed) for name, row in self.world.store.sessions.items()
        }
        return Seen(
            said, counters.heartbeats, counters.rejected, sessions, self.through_asgi, tuple(self.world.arrivals._sites)
        )

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head + (await reader.readexactly(int(length)) if length else b"")

    async def _flush_on(self) -> None:
        while True:
            await self.world.flush_once()
            await asyncio.sleep(0.005)
