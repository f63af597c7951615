"""Whoever floods the daemon, as a process of its own: `python -m tests.scenarios.flood PORT KIND SECONDS COUNT`.

Prints how many requests, or connections, it made. Ends when it has made them all, or when the time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time

from tests.scenarios.harness import INSTANCE, TOKEN, new_session

HEAD = b"POST /v1/heartbeat%s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
LORISES = 500
LANES = {"sessions": 16, "unknown": 16, "one-by-one": 400}
"""Connections. Who is new waits for a flush, so that many are needed for a flood."""

BATCH = 1000

made: list[int] = [0]


def request(body: object, plural: bytes = b"") -> bytes:
    raw = json.dumps(body).encode()
    told = b"authorization: Bearer %s\r\ncontent-length: %d\r\n\r\n" % (TOKEN.encode(), len(raw))
    return HEAD % plural + told + raw


def heartbeat(user: str) -> dict[str, str]:
    return {"instance_id": INSTANCE, "user_id": user, "session_id": new_session()}


async def slow_loris(port: int, end: float) -> None:
    """Sends a byte of a request each half second, and begins anew when it is hung up on."""
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            made[0] += 1
            for byte in HEAD:
                if time.monotonic() > end or writer.is_closing():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.5)
            writer.close()


async def lane(port: int, end: float, count: int, kind: str) -> None:
    """One connection that sends as fast as it is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while made[0] < count and time.monotonic() < end:
        first = made[0]
        if kind == "one-by-one":
            made[0] += 1
            sent = request(heartbeat(f"unknown-{first}"))
        else:
            made[0] += BATCH
            users = ["many"] * BATCH if kind == "sessions" else [f"unknown-{first + each}" for each in range(BATCH)]
            sent = request({"heartbeats": [heartbeat(user) for user in users]}, b"s")
        writer.write(sent)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        if b"connection: close" in head:
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def main(port: int, kind: str, seconds: float, count: int) -> None:
    end = time.monotonic() + seconds
    if kind == "slow-loris":
        await asyncio.gather(*(slow_loris(port, end) for _ in range(LORISES)))
    else:
        await asyncio.gather(*(lane(port, end, count, kind) for _ in range(LANES[kind])))
    print(made[0])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
