"""What clients send: sessions, heartbeats, batches; and a connection that carries them.

One keep-alive connection speaks HTTP/1.1 over asyncio's streams, without a library's cost for each request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import httpx
import orjson

from tests.benchmarks.processes import INSTANCE, LOOPBACK, TIMEOUT_S, TOKEN
from tests.benchmarks.results import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 1_000
"""Heartbeats in one batch: the most that the daemon takes."""


NEW_AT_ONCE = 19
"""Batches of agents who are new that the daemon takes from one address at once; then it takes one a second."""


def address(number: int) -> str:
    """An address of this machine: as many as are needed, so that those who are new do not all come from one."""
    return f"127.0.{number // 250}.{1 + number % 250}"


@dataclass(slots=True)
class Session:
    """A session as its client knows it."""

    user_id: str = field(default_factory=lambda: str(uuid4()))
    session_id: str = field(default_factory=lambda: str(uuid4()))
    seq: int = 0
    ticket: str = ""

    def message(self, **more: Any) -> dict[str, Any]:
        """The heartbeat that a page in the foreground would send."""
        return {
            "instance_id": INSTANCE,
            "user_id": self.user_id,
            "session_id": self.session_id,
            "incarnation": 0,
            "visibility": "visible",
            "driver": "worker",
            **more,
        }

    def next_beat(self) -> dict[str, Any]:
        """The next beat; with the ticket, or with the token as long as there is none."""
        self.seq += 1
        proof = {"ticket": self.ticket} if self.ticket else {"token": TOKEN}
        return self.message(seq=self.seq, **proof)


class Connection:
    """One keep-alive connection. One request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        self._reader = reader
        self._writer = writer
        self._head = (
            f"POST /v1/heartbeat HTTP/1.1\r\nhost: {LOOPBACK}:{port}\r\ncontent-type: application/json\r\n"
            "content-length: "
        ).encode()

    @classmethod
    async def open(cls, port: int, number: int = 0) -> Self:
        """Connects, from the address `address(number)`."""
        return cls(*await asyncio.open_connection(LOOPBACK, port, local_addr=(address(number), 0)), port)

    async def post(self, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Sends a heartbeat. Returns the status and the decoded body of the answer."""
        body = orjson.dumps(message)
        self._writer.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        answer = await self._reader.readexactly(length)
        return int(head[9:12]), orjson.loads(answer) if answer else {}

    def close(self) -> None:
        """Closes it without ceremony."""
        self._writer.transport.abort()


async def say_hello(port: int, sessions: Sequence[Session], connections: int = 500) -> None:
    """Opens the sessions, many at a time, since a hello is answered after its flush; keeps their tickets."""
    waiting = list(sessions)

    async def work(number: int) -> None:
        connection = await Connection.open(port, number)
        try:
            while waiting:
                session = waiting.pop()
                status, answer = await connection.post(session.message(type="hello", seq=0, token=TOKEN))
                if status == 503:
                    # A flush was late on a busy machine: as any client, it tries again.
                    waiting.append(session)
                    await asyncio.sleep(1)
                    continue
                if status != 200:
                    raise BenchmarkError(f"A hello was answered with {status}: {answer}")
                session.ticket = answer["ticket"]
        finally:
            connection.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(min(connections, len(waiting))):
            tasks.create_task(work(number % 200))


def batches(sessions: Sequence[Session]) -> list[bytes]:
    """First beats of the sessions as bodies of /v1/heartbeats."""
    return [
        orjson.dumps({"heartbeats": [session.message(seq=0) for session in sessions[begin : begin + BATCH]]})
        for begin in range(0, len(sessions), BATCH)
    ]


def feed(url: str, bodies: Sequence[bytes]) -> None:
    """Sends batches of agents who are new, one after another; the connections are closed afterwards."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    for begin in range(0, len(bodies), NEW_AT_ONCE):
        transport = httpx.HTTPTransport(local_address=address(begin // NEW_AT_ONCE))
        with httpx.Client(headers=headers, timeout=TIMEOUT_S, transport=transport) as client:
            for body in bodies[begin : begin + NEW_AT_ONCE]:
                answer = client.post(f"{url}/v1/heartbeats", content=body)
                if answer.status_code != 200 or answer.json()["rejected"]:
                    raise BenchmarkError(f"A batch was answered with {answer.status_code}: {answer.text[:500]}")
