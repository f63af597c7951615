"""Bytes that nobody would send: whatever comes is taken, or refused in order, and never breaks anything.

Hypothesis chooses where a run begins; from there many inputs are made by small changes to good ones, which gets deeper
than bytes drawn at random.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import struct
import time
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json
from uvicorn.config import Config
from uvicorn.server import ServerState

from watchdog.core.messages import LeaseRules, parse_batch, parse_batched, parse_heartbeat, to_beat
from watchdog.errors import MessageError
from watchdog.ingest.connections import BoundedProtocol, Connections
from watchdog.ingest.cors import Cors
from watchdog.ingest.fast_lane import FastProtocol
from watchdog.ingest.front import Front
from watchdog.ingest.origins import Origins
from watchdog.ingest.shortcut import Shortcut
from watchdog.ingest.websocket_protocol import SocketProtocol

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

RUNS = 500 if LONG else 10
PARSED = 2_000
"""Heartbeats a run: a million in all with the profile `long`."""

SENT = 200 if LONG else 20
"""Connections a run, each with up to six reads."""

FUZZ = settings(max_examples=RUNS, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**32)
RULES = LeaseRules(35.0, 150.0, 120.0)

INSTANCE = "11111111-2222-3333-4444-555555555555"
GOOD = {
    "agent": f"arn:aws:connect:eu-central-1:123456789012:instance/{INSTANCE}/agent/aaaa",
    "session_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "type": "hello",
    "incarnation": 1,
    "seq": 7,
    "visibility": "hidden",
    "driver": "main",
    "lag_ms": 1.5,
    "gap_ms": 10,
    "login": True,
    "reason": "shift is over",
    "token": "beat-token",
    "ticket": "AWsCzbsAAAAAKTE8bG8mLBRK7qlHZim4yA",
}
ODD = (None, True, 0, -1, 2**53, 2**31, 1e308, "", "\0", "\ud800", "x" * 5000, [], {}, [[]], "hello", "1", "٣")


def mutated(chance: random.Random, raw: bytes) -> bytes:
    """The same with a few bytes changed, taken out, put in, doubled or swapped."""
    changed = bytearray(raw)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del changed[at : at + chance.randint(1, 8)]
            case 2:
                changed[at:at] = chance.randbytes(chance.randint(1, 4))
            case 3:
                changed[at:at] = changed[at : at + chance.randint(1, 32)]
            case 4:
                changed[at:at] = chance.choice((b"\r\n", b"\0", b"\xff", b"{", b'"', b"\\u0000", b"1e999", b": ", b";"))
    return bytes(changed)


def odd(chance: random.Random) -> dict[str, Any]:
    """A heartbeat with values of which some are out of place."""
    made: dict[str, Any] = {name: value for name, value in GOOD.items() if chance.random() < 0.8}
    for _ in range(chance.randint(0, 3)):
        made[chance.choice((*GOOD, "instance_id", "user_id", "other"))] = chance.choice(ODD)
    return made


@FUZZ
@given(SEEDS)
def test_a_heartbeat_is_read_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    good = json.dumps(GOOD).encode()
    read = 0
    for _ in range(PARSED):
        one = odd(chance)
        try:
            if chance.random() < 0.3:
                found = parse_batched(one)
            else:
                found = parse_heartbeat(mutated(chance, good if chance.random() < 0.7 else json.dumps(one).encode()))
            beat = to_beat(found, found.agent_id(), RULES)
        except MessageError:
            continue
        read += 1
        assert len(beat.session_id) == 16
        assert beat.incarnation >= 0
        assert all(beat.agent)
    assert 0 < read < PARSED


@FUZZ
@given(SEEDS)
def test_a_batch_is_read_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    read = spoiled = 0
    for _ in range(PARSED // 10):
        raw = json.dumps({"heartbeats": [odd(chance) for _ in range(chance.randint(0, 5))]}).encode()
        raw = mutated(chance, raw) if chance.random() < 0.7 else raw
        try:
            found = parse_batch(raw)
        except MessageError:
            continue
        items = from_json(raw)["heartbeats"]
        assert len(items) == len(found), "both readers see the same"
        for item, one in zip(items, found, strict=True):
            try:
                again = parse_batched(item)
            except MessageError:
                assert one is None
                spoiled += 1
            else:
                assert one in (None, again)
                read += 1
    assert read
    assert spoiled


class Wire(asyncio.Transport):
    """A connection whose other side reads everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.protocol: asyncio.Protocol | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 5000), "sockname": ("192.0.2.2", 80)}.get(name, default)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, pieces: Any) -> None:
        self.written += b"".join(pieces)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        return None

    resume_reading = pause_reading


BODY = json.dumps(GOOD).encode()
ADMIN = b"authorization: Bearer admin-token"


def request(line: str, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([line.encode() + b" HTTP/1.1", b"host: localhost", *headers, b"", body])


HANDSHAKE = request(
    "GET /v1/ws",
    b"connection: upgrade",
    b"upgrade: websocket",
    b"sec-websocket-version: 13",
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    b"sec-websocket-protocol: watchdog.v1",
)
REQUESTS = (
    request("POST /v1/heartbeat", b"content-type: text/plain", b"content-length: %d" % len(BODY), body=BODY),
    request(
        "POST /v1/heartbeats",
        b"content-type: application/json",
        b"authorization: Bearer beat-token",
        b"transfer-encoding: chunked",
        body=b'13\r\n{"heartbeats":[{}]}\r\n0\r\nt: t\r\n\r\n',
    ),
    request("GET /v1/agents?state=live&limit=3", ADMIN),
    request(
        "PUT /v1/brake",
        ADMIN,
        b"content-type: application/json",
        b"content-length: 28",
        body=b'{"state":"hold","for_s":1.5}',
    ),
    request("GET /client/core.js", b"accept-encoding: gzip", b"if-none-match: x"),
    HANDSHAKE,
)


class Served:
    """The application over connections that are in memory."""

    def __init__(self, world: Any, *, fast: bool = False) -> None:
        front = Front(world.app, Origins(), world.counters, time.monotonic)
        self.shortcut = Shortcut(world.heartbeats, front, Cors(front, [])) if fast else None
        self.faults: list[dict[str, Any]] = []
        self.world = world
        self.state = ServerState()
        self.shared = Connections(10_000, time.monotonic, time.time)
        self.config = Config(
            front,
            ws=partial(SocketProtocol, world.tethers.open),
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
        )
        self.config.load()
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: self.faults.append(fault))

    async def say(self, pieces: list[bytes]) -> bytes:
        """What is answered to some reads."""
        wire = Wire()
        options: dict[str, Any] = {"config": self.config, "server_state": self.state, "app_state": {}}
        protocol = (
            BoundedProtocol(self.shared, **options)
            if self.shortcut is None
            else FastProtocol(self.shortcut, self.shared, **options)
        )
        wire.set_protocol(protocol)
        protocol.connection_made(wire)
        for piece in pieces:
            if wire.closed:
                break
            wire.get_protocol().data_received(piece)
            await self.settle()
        wire.close()
        wire.get_protocol().connection_lost(None)
        await self.settle()
        return bytes(wire.written)

    async def settle(self) -> None:
        """Lets everybody run, and those who wait for a flush be answered."""
        for _ in range(2):
            for _ in range(4):
                await asyncio.sleep(0)
            await self.world.buffer.flush()

    async def end(self) -> None:
        for _ in range(200):
            await self.settle()
            if not self.state.tasks:
                break
        assert self.faults == []
        assert not self.state.tasks, "nobody waits for a client who is gone"
        assert self.shared._by_site == {}


def drawn() -> list[int]:
    """Seeds, for tests that run on the loop."""
    found: list[int] = []

    @FUZZ
    @given(SEEDS)
    def seeds(seed: int) -> None:
        found.append(seed)

    seeds()
    return found


@pytest.mark.looptime
@pytest.mark.parametrize("fast", [True, False])
async def test_a_request_is_answered_or_refused(
    make_world: Any, caplog: pytest.LogCaptureFixture, *, fast: bool
) -> None:
    served = Served(make_world(), fast=fast)
    statuses: set[bytes] = set()
    for seed in drawn():
        chance = random.Random(seed)
        for _ in range(SENT):
            raw = b"".join(chance.choice(REQUESTS) for _ in range(chance.randint(1, 3)))
            said = await served.say(cut(chance, mutated(chance, raw)))
            assert b"HTTP/1.1 5" not in said.replace(b"HTTP/1.1 505", b""), raw
            statuses.add(said[9:12])
    assert {b"200", b"400"} <= statuses
    await served.end()
    assert [line.getMessage() for line in caplog.records if line.exc_info] == [], "nobody fills the log"


@pytest.mark.looptime
async def test_a_frame_is_taken_or_refused(make_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    served = Served(make_world())
    answered = 0
    for seed in drawn():
        chance = random.Random(seed)
        for _ in range(SENT):
            frames = [frame(chance, opcode=1, payload=BODY)]
            frames += [frame(chance) for _ in range(chance.randint(0, 8))]
            raw = b"".join(frames)
            if chance.random() < 0.7:
                raw = mutated(chance, raw)
            said = await served.say([HANDSHAKE, *cut(chance, raw)])
            assert said.startswith(b"HTTP/1.1 101 ")
            assert b"\x03\xf3" not in said.partition(b"\r\n\r\n")[2][:4], "1011 is a fault of ours"
            answered += b'"state"' in said or b'"status"' in said
    assert answered
    await served.end()
    assert [line.getMessage() for line in caplog.records if line.exc_info] == [], "nobody fills the log"


def cut(chance: random.Random, raw: bytes) -> list[bytes]:
    """The same in several reads."""
    places = sorted(chance.randrange(len(raw) + 1) for _ in range(chance.randint(0, 5)))
    return [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True) if start < end]


def frame(chance: random.Random, opcode: int | None = None, payload: bytes | None = None) -> bytes:
    """One frame of a client. Source: RFC 6455, section 5.2."""
    if opcode is None:
        opcode = chance.choice((0, 1, 1, 1, 2, 8, 9, 10, 3, 15))
    if payload is None:
        payload = chance.choice((BODY, b"", b"\x03\xe8", b"\x03", b"\xff\xfe", b"{}", mutated(chance, BODY)))
    final = 0x80 if chance.random() < 0.9 else 0
    length = struct.pack("!BB", final | opcode, 0x80 | (min(126, len(payload))))
    if len(payload) >= 126:
        length += struct.pack("!H", len(payload))
    mask = chance.randbytes(4)
    return length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
