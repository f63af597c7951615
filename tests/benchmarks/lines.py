"""Many connections from one process, at little cost: raw protocols, one request at a time on each."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from tests.benchmarks.clients import address
from tests.benchmarks.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

END = b"\r\n\r\n"
LENGTH = b"content-length: "


class Line(asyncio.Protocol):
    """A keep-alive connection. What is sent while an answer is awaited waits.

    Attributes:
        lost: Why it ended; None while it goes on.
    """

    def __init__(self, answered: Callable[[bytes, float], None]) -> None:
        """Takes who is told each answer, head and body, and the seconds that it took."""
        self.lost: str | None = None
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        self._busy = False
        self._sent_at = 0.0
        self._got = b""

    @classmethod
    async def open(cls, port: int, number: int, answered: Callable[[bytes, float], None]) -> Line:
        """Connects, from the address `address(number)`."""
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(
            lambda: cls(answered), LOOPBACK, port, local_addr=(address(number % 200), 0)
        )
        return line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = repr(exc)

    def send(self, request: bytes) -> None:
        """Sends a request, now or behind those that wait."""
        if self._busy:
            self._waiting.append(request)
            return
        self._busy, self._sent_at = True, self._loop.time()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._got = data = self._got + data if self._got else data
        head = data.find(END)
        if head < 0:
            return
        begin = data.find(LENGTH) + len(LENGTH)
        if len(data) < head + len(END) + int(data[begin : data.find(b"\r", begin)]):
            return
        self._got, self._busy = b"", False
        self._answered(data, self._loop.time() - self._sent_at)
        if self._waiting:
            self.send(self._waiting.popleft())

    def close(self) -> None:
        """Closes it without ceremony."""
        self._transport.abort()
