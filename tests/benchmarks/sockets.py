"""WebSockets: what an open one costs, and how many messages a second one core answers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import orjson
import uvloop

from tests.benchmarks.clients import Session, address
from tests.benchmarks.machine import DISTURBED, Watch, allow_files
from tests.benchmarks.memory import footprint
from tests.benchmarks.processes import LONG_TTL, LOOPBACK, TOKEN, Bench, Daemon
from tests.benchmarks.results import BenchmarkError, Measurement, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "WebSockets"
TARGET_KB, TARGET_PER_S = 20.0, 25_000
AT_ONCE = 200
"""Handshakes at once: each hello waits for its flush."""

HANDSHAKE = (
    "GET /v1/ws HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: watchdog.v1\r\n\r\n"
)
"""Source: RFC 6455, section 1.3."""


class Socket(asyncio.Protocol):
    """One page's socket: answers pings, and beats again as soon as it is answered, if it is told to.

    Attributes:
        messages: How many answers have come.
        wrong: The first that was not `live`, or why the socket ended.
    """

    def __init__(self, session: Session, port: int) -> None:
        self.messages = 0
        self.wrong: bytes | None = None
        self.beating = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._session = session
        self._port = port
        self._got = b""
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        self._transport.write(HANDSHAKE.format(host=f"{LOOPBACK}:{self._port}").encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(b"lost: " + repr(exc).encode())

    def data_received(self, data: bytes) -> None:
        data = self._got + data
        if not self._greeted:
            if b"\r\n\r\n" not in data:
                self._got = data
                return
            if not data.startswith(b"HTTP/1.1 101 "):
                self._fail(data)
                return
            self._greeted, data = True, data.partition(b"\r\n\r\n")[2]
            self._hello()
        while len(data) > 1:
            # Unmasked, and no message of ours is longer than 64 KiB.
            begin, length = (4, int.from_bytes(data[2:4], "big")) if data[1] == 126 else (2, data[1])
            if len(data) < begin + length:
                break
            kind, payload, data = data[0] & 15, data[begin : begin + length], data[begin + length :]
            if kind == 9:
                self._transport.write(bytes((0x8A, 0x80 | length)) + b"\0\0\0\0" + payload)
            elif kind == 1:
                self._answered(payload)
        self._got = data

    def _hello(self) -> None:
        self._say(self._session.message(type="hello", seq=0, token=TOKEN))

    def beat(self) -> None:
        """Says the next beat."""
        self._session.seq += 1
        self._say(self._session.message(seq=self._session.seq, ticket=self._session.ticket))

    def close(self) -> None:
        """Closes it without ceremony."""
        self.wrong = self.wrong or b""
        self._transport.abort()

    def _answered(self, payload: bytes) -> None:
        if b"problem:late" in payload:
            # A flush was late on a busy machine: as any client, it tries again.
            asyncio.get_running_loop().call_later(1, self.beat if self.opened.done() else self._hello)
            return
        self.messages += 1
        if b'"state":"live"' not in payload:
            self._fail(payload)
        elif not self.opened.done():
            self._session.ticket = orjson.loads(payload)["ticket"]
            self.opened.set_result(None)
        elif self.beating:
            self.beat()

    def _say(self, message: dict[str, object]) -> None:
        text = orjson.dumps(message)
        # A mask of zeros changes nothing.
        self._transport.write(b"\x81\xfe%b\0\0\0\0%b" % (len(text).to_bytes(2, "big"), text))

    def _fail(self, why: bytes) -> None:
        self.wrong = why if self.wrong is None else self.wrong
        if not self.opened.done():
            self.opened.set_exception(BenchmarkError(f"A socket did not open: {why[:300]!r}"))


def measure(bench: Bench) -> Measurement:
    """Opens all sockets, looks at the memory, and lets all beat as fast as they are answered."""
    scale = bench.scale
    allow_files(scale.sockets + 1_000)
    with Daemon(bench, bench.folder / "sockets", **LONG_TTL) as daemon:
        daemon.ready()
        time.sleep(1)
        before = footprint(daemon.pid).rss
        full, messages, watch = uvloop.run(_play(bench, daemon))
        metrics = daemon.metrics()
        daemon.stop()
    per_s, share = messages / watch.elapsed_s, watch.shares[0]
    kilobytes = 1024 * (full - before) / scale.sockets
    results = (
        Result("for each open socket", "KB", kilobytes, digits=1, at_most=TARGET_KB, note="its agent included"),
        Result("messages answered", "/s", per_s, note=f"the daemon used {share:.0%} of its core"),
        Result("messages: per CPU second", "", per_s / share, at_least=TARGET_PER_S),
    )
    method = (
        f"{scale.sockets:,} sockets of one process on the other core, one session each, are opened and say hello; the "
        "daemon's RSS over the empty one is taken 2 s later. Then each beats, with its ticket, as soon as the last "
        f"beat is answered, for {scale.load_s} s. Every answer was `live`; all sockets were open at the end "
        f"({metrics['watchdog_sockets']:.0f} counted after they were closed)."
    )
    remarks = (f"Other programs used up to {watch.foreign:.0%} of a core meanwhile.",)
    return Measurement(TITLE, method, results, remarks if watch.foreign >= DISTURBED else ())


async def _play(bench: Bench, daemon: Daemon) -> tuple[float, int, Watch]:
    """The daemon's RSS in MB with all sockets open, and how many messages were answered in the time that is told."""
    sockets: list[Socket] = []
    for begin in range(0, bench.scale.sockets, AT_ONCE):
        sockets += await asyncio.gather(
            *(_open(daemon.port, number) for number in range(begin, min(begin + AT_ONCE, bench.scale.sockets)))
        )
    await asyncio.sleep(2)
    full = footprint(daemon.pid).rss
    # In a thread: whoever answers no pings is closed.
    await asyncio.to_thread(bench.patience.wait)
    watch, before = Watch(bench.cores, [daemon.pid]), _messages(sockets)
    for socket in sockets:
        socket.beating = True
        socket.beat()
    await asyncio.sleep(bench.scale.load_s)
    watch.stop()
    messages = _messages(sockets) - before
    wrong = [socket.wrong for socket in sockets if socket.wrong is not None]
    for socket in sockets:
        socket.close()
    if wrong:
        raise BenchmarkError(f"{len(wrong)} sockets went wrong, e.g. {wrong[0][:300]!r}")
    return full, messages, watch


async def _open(port: int, number: int) -> Socket:
    _, socket = await asyncio.get_running_loop().create_connection(
        lambda: Socket(Session(), port), LOOPBACK, port, local_addr=(address(number % 200), 0)
    )
    await socket.opened
    return socket


def _messages(sockets: Sequence[Socket]) -> int:
    return sum(socket.messages for socket in sockets)
