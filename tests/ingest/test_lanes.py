"""The contract of the fast lane: a client sees the same bytes on both, and the daemon counts the same.

Whatever is compared here goes over real sockets. When a new uvicorn breaks what the fast lane takes for granted, a case
of this file fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import uuid
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ingest.conftest import AGENT, ARN, USER
from tests.ingest.lanes import DATE, PAGE, Answered, Eof, Flush, Left, Seen, Served, Step, Stop
from watchdog.core.addresses import Proxies
from watchdog.core.model import Epoch, Notice
from watchdog.errors import StoreUnavailable
from watchdog.ingest import canary, connections, shortcut
from watchdog.ingest.auth import TICKET_TTL_S, AuthMode, Tickets

NOW = Epoch(1_800_000_000.0)
FIRST, SECOND = (uuid.UUID(f"6f9619ff-8b86-4d01-b42d-00cf4fc964f{digit}") for digit in "12")
TICKETS = Tickets([b"k" * 32])
BEARER = b"authorization: Bearer beat-token"
JSON = b"content-type: application/json"
FROM_PAGE = (b"origin: " + PAGE.encode(), b"sec-fetch-site: cross-site")


def ticket(session: uuid.UUID = FIRST, *, incarnation: int = 0, at: float = NOW) -> str:
    return TICKETS.issue(AGENT, session.bytes, incarnation, Epoch(at))


def message(session: uuid.UUID = FIRST, **fields: Any) -> bytes:
    return orjson.dumps({"agent": ARN, "session_id": str(session), **fields})


def raw(start: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([start, b"host: localhost", *headers, b"", body])


def post(body: bytes, *headers: bytes, start: bytes = b"POST /v1/heartbeat HTTP/1.1", kind: bytes = JSON) -> bytes:
    return raw(start, *([kind] if kind else []), b"content-length: %d" % len(body), *headers, body=body)


def chunked(body: bytes, *headers: bytes) -> bytes:
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return raw(b"POST /v1/heartbeat HTTP/1.1", JSON, b"transfer-encoding: chunked", *headers, body=framed)


HELLO = post(message(type="hello", seq=0), BEARER)
OPEN: tuple[Step, ...] = (HELLO, Flush, Answered)
"""The session is live from then on."""
BEAT = post(message(seq=1), BEARER)
PROVEN = post(message(seq=1, ticket=ticket()))
BYE = post(message(type="bye", ticket=ticket()))
LIVEZ = raw(b"GET /livez HTTP/1.1")


def broken(world: Any) -> None:
    world.store.broken = StoreUnavailable("Nobody is there.")


def late(world: Any) -> None:
    world.buffer._flushing_since = -1e9


def faulty(world: Any) -> None:
    def fails(_: object) -> float:
        raise RuntimeError("a fault of our own")

    world.store.plainly_live = fails


def told(world: Any) -> None:
    world.store.notice = Notice("Offline", NOW, "All of your pages were closed.", None)


def crowded(world: Any) -> None:
    world.store.crowded_out.add(USER)


def stopped(world: Any) -> None:
    world.store.stopped.add(FIRST.bytes)


@dataclass(frozen=True)
class Case:
    """What a client does.

    Attributes:
        name: The case.
        steps: What it sends, one read after another, and what happens in between.
        fast: Heartbeats that the fast lane answers.
        says: A part of what the client is told, so that the case is about something.
        world: Of the application.
        headers: The server's own.
        last: A further request ends the connection; else the server does.
    """

    name: str
    steps: tuple[Step, ...]
    fast: int
    says: bytes
    world: dict[str, Any] = field(default_factory=dict)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    last: bool = True


CASES = (
    # What is taken.
    Case("a hello is answered after its flush", OPEN, 1, b'"state":"live"'),
    Case("a beat of a live session", (*OPEN, BEAT), 2, b'"state":"live"'),
    Case("a beat with its ticket alone", (*OPEN, PROVEN), 2, b'"state":"live"'),
    Case("the same head again and again", (*OPEN, *[PROVEN, Answered] * 4), 5, b'"state":"live"'),
    Case("a beat that opens", (post(message(), BEARER), Flush, Answered), 1, b'"state":"live"'),
    Case("a beat that is not newer", (*OPEN, BEAT, Answered, BEAT), 3, b'"state":"live"'),
    Case("a bye", (*OPEN, BYE), 2, b"HTTP/1.1 204 No Content"),
    Case("a beat behind a bye", (*OPEN, BYE, Flush, Answered, BEAT), 3, b'"state":"unknown"'),
    Case("a bye of nobody", (BYE,), 1, b"HTTP/1.1 204 No Content"),
    Case("a session that was stopped", (*OPEN, BYE, Flush, Answered, stopped, BEAT), 3, b'"state":"stop"'),
    Case("a notice", (told, *OPEN), 1, b'"notice":{"status":"Offline"'),
    Case(
        "plain text, as sendBeacon sends it",
        (*OPEN, post(message(seq=1, ticket=ticket()), kind=b"content-type: text/plain;charset=UTF-8")),
        2,
        b'"state":"live"',
    ),
    Case("a token in the body", (post(message(token="beat-token")), Flush), 1, b'"state":"live"'),
    Case("names of headers in capitals", (post(message(), b"AUTHORIZATION: bearer beat-token"),), 1, b'"state":"live"'),
    Case("spaces around values", (post(message(), b"authorization:   Bearer   beat-token  "),), 1, b'"state":"live"'),
    Case(
        "two agents, one session",
        (
            *OPEN,
            post(orjson.dumps({"agent": ARN[:-1] + "f", "session_id": str(FIRST)}), BEARER),
        ),
        2,
        b"409 Conflict",
    ),
    Case(
        "nobody has to prove anything",
        (post(message()),),
        1,
        b'"state":"live"',
        world={"mode": AuthMode.NONE, "heartbeat_tokens": ()},
    ),
    Case("the canary", (post(canary.call(TICKETS, bytes(16), NOW)),), 1, b'"state":"canary"'),
    Case(
        "HTTPS is remembered",
        (*OPEN, BEAT),
        2,
        b"strict-transport-security: max-age=1",
        headers=((b"strict-transport-security", b"max-age=1"),),
    ),
    # Pages.
    Case(
        "a page that may",
        (post(message(), BEARER, *FROM_PAGE), Flush, Answered, post(message(seq=1, ticket=ticket()), *FROM_PAGE)),
        2,
        b"access-control-allow-origin: " + PAGE.encode(),
    ),
    Case(
        "a page's bye",
        (*OPEN, post(message(type="bye", ticket=ticket()), *FROM_PAGE)),
        2,
        b"expose-headers: retry-after",
    ),
    Case("a page whose token is wrong", (post(message(), *FROM_PAGE),), 1, b"401 Unauthorized"),
    Case("a page that may not", (post(message(), BEARER, b"origin: https://evil.example"),), 0, b"403 Forbidden"),
    Case("a page of nowhere", (post(message(), BEARER, b"origin: null"),), 0, b"403 Forbidden"),
    Case("the own page", (post(message(), BEARER, b"origin: http://localhost"), Flush), 1, b"vary: origin"),
    Case(
        "a page of the own site", (post(message(), BEARER, b"sec-fetch-site: same-origin"), Flush), 1, b'"state":"live"'
    ),
    Case("two origins", (post(message(), BEARER, FROM_PAGE[0], b"origin: https://evil.example"),), 0, b"400 Bad"),
    Case("two names", (post(message(), BEARER, b"host: evil.example"),), 0, b"400 Bad"),
    Case("no name", (post(message(), BEARER).replace(b"host: localhost\r\n", b""),), 0, b"400 Bad", last=True),
    Case(
        "a foreign name",
        (post(b"{}").replace(b"host: localhost\r\n", b"host: evil.example\r\n"),),
        0,
        b"421 Misdirected",
        world={"mode": AuthMode.NONE, "heartbeat_tokens": ()},
    ),
    Case(
        "a preflight",
        (raw(b"OPTIONS /v1/heartbeat HTTP/1.1", *FROM_PAGE, b"access-control-request-method: POST"),),
        0,
        b"access-control-allow-methods: POST",
    ),
    # What is refused.
    Case("no token", (post(message()),), 1, b"401 Unauthorized"),
    Case("a wrong token", (post(message(), b"authorization: Bearer other"),), 1, b"401 Unauthorized"),
    Case("another scheme", (post(message(), b"authorization: Basic YTpi"),), 1, b"401 Unauthorized"),
    Case(
        "an expired ticket", (*OPEN, post(message(seq=1, ticket=ticket(at=NOW - TICKET_TTL_S)))), 2, b"401 Unauthorized"
    ),
    Case(
        "a ticket of another incarnation",
        (*OPEN, post(message(seq=1, incarnation=1, ticket=ticket()))),
        2,
        b"401 Unauthorized",
    ),
    Case("a ticket of another session", (*OPEN, post(message(SECOND, ticket=ticket()))), 2, b"401 Unauthorized"),
    Case("a ticket that is none", (*OPEN, post(message(seq=1, ticket="é" * 34))), 2, b"401 Unauthorized"),
    Case("a bye without its ticket", (*OPEN, post(message(type="bye"), BEARER)), 2, b"401 Unauthorized"),
    Case("a canary that is none", (post(canary.call(Tickets([b"x" * 32]), bytes(16), NOW)),), 1, b"401 Unauthorized"),
    Case("no JSON", (post(b"{", BEARER),), 1, b"400 Bad Request"),
    Case("no object", (post(b"[]", BEARER),), 1, b"400 Bad Request"),
    Case("no agent", (post(b'{"session_id":"x"}', BEARER),), 1, b"400 Bad Request"),
    Case("no body", (post(b"", BEARER),), 1, b"400 Bad Request"),
    Case("no body and no length", (raw(b"POST /v1/heartbeat HTTP/1.1", JSON, BEARER),), 0, b"400 Bad Request"),
    Case(
        "another instance",
        (post(orjson.dumps({"instance_id": "x", "user_id": USER, "session_id": str(FIRST)}), BEARER),),
        1,
        b"403 Forbidden",
    ),
    Case("too many agents", (post(message(), BEARER),), 1, b"429 Too Many", world={"most_agents": 0}),
    Case("too many agents with another daemon", (crowded, HELLO, Flush), 1, b"429 Too Many"),
    Case("the store is away", (broken, post(message(), BEARER), Flush), 1, b"503 Service Unavailable"),
    Case("flushes are late", (*OPEN, late, BEAT), 2, b"503 Service Unavailable", world={"random": 0.7}),
    Case("a fault of our own", (faulty, BEAT), 1, b"500 Internal Server Error", last=False),
    Case("another type", (post(message(), BEARER, kind=b"content-type: text/html"),), 0, b"415 Unsupported"),
    Case("no type", (post(message(), BEARER, kind=b""),), 0, b"415 Unsupported"),
    Case("a compressed body", (post(message(), BEARER, b"content-encoding: gzip"),), 0, b"415 Unsupported"),
    Case("a body as it is", (post(message(), BEARER, b"content-encoding: identity"),), 1, b'"state":"live"'),
    Case("GET", (raw(b"GET /v1/heartbeat HTTP/1.1"),), 0, b"405 Method Not Allowed"),
    Case("HEAD", (raw(b"HEAD /v1/heartbeat HTTP/1.1"),), 0, b"405 Method Not Allowed"),
    Case("PUT", (post(message(), start=b"PUT /v1/heartbeat HTTP/1.1"),), 0, b"405 Method Not Allowed"),
    Case(
        "a body that is announced as too large",
        (raw(b"POST /v1/heartbeat HTTP/1.1", JSON, BEARER, b"content-length: 4097"),),
        0,
        b"HTTP/1.1 413 ",
        last=False,
    ),
    Case("the largest body", (post(b" " * 4096, BEARER),), 1, b"400 Bad Request"),
    Case(
        "chunks that grow too large",
        (
            raw(
                b"POST /v1/heartbeat HTTP/1.1",
                JSON,
                b"transfer-encoding: chunked",
                body=b"1400\r\n" + b"x" * 0x1400 + b"\r\n0\r\n\r\n",
            ),
        ),
        0,
        b"HTTP/1.1 413 ",
        last=False,
    ),
    Case(
        "a URL that is too long",
        (post(message(), BEARER, start=b"POST /v1/heartbeat?%b HTTP/1.1" % (b"x" * 9000)),),
        0,
        b"HTTP/1.1 414 ",
    ),
    Case(
        "a head that is too large",
        (raw(b"POST /v1/heartbeat HTTP/1.1", b"x: " + b"x" * 40_000),),
        0,
        b"431 Request Header",
        last=False,
    ),
    Case(
        "a heartbeat with a head that is too large, in one read",
        (post(message(), BEARER, b"x: " + b"x" * 40_000),),
        0,
        b"431 Request Header",
        last=False,
    ),
    Case("no HTTP", (b"\x16\x03\x01\x02\x00\x01\r\n\r\n",), 0, b"400 Bad Request", last=False),
    Case("two lengths", (post(message(), b"content-length: 3"),), 0, b"400 Bad Request", last=False),
    Case("a length and chunks", (post(message(), b"transfer-encoding: chunked"),), 0, b"400 Bad Request", last=False),
    # How it is framed.
    Case("chunks", (*OPEN, chunked(message(seq=1), BEARER)), 1, b'"state":"live"'),
    Case("100-continue", (*OPEN, post(message(seq=1), BEARER, b"expect: 100-continue")), 1, b"100 Continue"),
    Case(
        "100-continue, and the body then",
        (
            *OPEN,
            raw(
                b"POST /v1/heartbeat HTTP/1.1",
                JSON,
                BEARER,
                b"content-length: %d" % len(message(seq=1)),
                b"expect: 100-continue",
            ),
            message(seq=1),
        ),
        1,
        b"100 Continue",
    ),
    Case(
        "the connection is to be closed",
        (*OPEN, post(message(seq=1), BEARER, b"connection: close")),
        1,
        b"connection: close",
        last=False,
    ),
    Case(
        "HTTP/1.0",
        (post(message(), BEARER, start=b"POST /v1/heartbeat HTTP/1.0"),),
        0,
        b"connection: close",
        last=False,
    ),
    Case(
        "HTTP/1.0 that would stay",
        (post(message(), BEARER, b"connection: keep-alive", start=b"POST /v1/heartbeat HTTP/1.0"),),
        0,
        b"connection: close",
        last=False,
    ),
    Case("an upgrade", (post(message(), BEARER, b"connection: upgrade", b"upgrade: h2c"),), 1, b'"state":"live"'),
    Case(
        "a query", (*OPEN, post(message(seq=1), BEARER, start=b"POST /v1/heartbeat?x=1 HTTP/1.1")), 1, b'"state":"live"'
    ),
    Case(
        "a path in other letters",
        (*OPEN, post(message(seq=1), BEARER, start=b"POST /v1/heartbea%74 HTTP/1.1")),
        1,
        b'"state":"live"',
    ),
    Case(
        "a whole URL",
        (*OPEN, post(message(seq=1), BEARER, start=b"POST http://localhost/v1/heartbeat HTTP/1.1")),
        1,
        b'"state":"live"',
    ),
    Case("a slash too many", (post(message(), BEARER, start=b"POST /v1/heartbeat/ HTTP/1.1"),), 0, b"404 Not Found"),
    Case(
        "a batch",
        (post(b'{"heartbeats":[%b,{}]}' % message(), BEARER, start=b"POST /v1/heartbeats HTTP/1.1"),),
        0,
        b'"accepted":1',
    ),
    Case("a head in two reads", (*OPEN, BEAT[:30], BEAT[30:]), 2, b'"state":"live"'),
    Case("a body in a read of its own", (*OPEN, BEAT[: -len(message(seq=1))], message(seq=1)), 2, b'"state":"live"'),
    Case("byte by byte", (*OPEN, *(bytes([each]) for each in PROVEN)), 2, b'"state":"live"'),
    Case("empty lines before", (*OPEN, b"\r\n\r\n" + BEAT), 2, b'"state":"live"'),
    Case("empty lines between", (*OPEN, PROVEN, Answered, PROVEN + b"\r\n", Answered, PROVEN), 4, b'"state":"live"'),
    Case(
        "a body that ends with empty lines",
        (
            *OPEN,
            post(message(seq=1, ticket=ticket()) + b"\r\n\r\n"),
            Answered,
            post(message(seq=2, ticket=ticket()) + b"\r\n\r\n"),
        ),
        3,
        b'"state":"live"',
    ),
    Case("a known head, a shorter body", (*OPEN, PROVEN, Answered, PROVEN[:-9], PROVEN[-9:]), 3, b'"state":"live"'),
    # One after another.
    Case("pipelined beats", (*OPEN, BEAT + PROVEN + BEAT), 4, b'"state":"live"'),
    Case("pipelined behind a hello", (HELLO + BEAT + LIVEZ + BEAT,), 1, b'"state":"live"'),
    Case("a bye and more", (*OPEN, BYE + BEAT, Flush, HELLO), 2, b'"state":"unknown"'),
    Case("behind something slow", (*OPEN, LIVEZ + BEAT + BEAT), 1, b'"state":"live"'),
    Case(
        "beats and another path in turn",
        (*OPEN, BEAT, Answered, LIVEZ, Answered, PROVEN, Answered, LIVEZ),
        3,
        b'{"status":"ok"}',
    ),
    Case("as many as may wait", (*OPEN, HELLO + BEAT * 63), 2, b'"state":"live"'),
    Case("more than may wait", (*OPEN, HELLO + BEAT * 65), 2, b"HTTP/1.1 200", last=False),
    Case(
        "a WebSocket behind a hello",
        (HELLO + raw(b"GET /v1/ws HTTP/1.1", b"connection: upgrade", b"upgrade: websocket"),),
        1,
        b'"state":"live"',
    ),
    Case("a known head behind a hello", (*OPEN, PROVEN, Answered, HELLO, PROVEN), 3, b'"state":"live"'),
    Case("known heads in one read", (*OPEN, PROVEN, Answered, PROVEN + PROVEN), 4, b'"state":"live"'),
    Case(
        "a body that looks like a heartbeat",
        (*OPEN, PROVEN, Answered, post(PROVEN, BEARER)[: -len(PROVEN)], PROVEN),
        3,
        b"400 Bad Request",
    ),
    Case(
        "a head that goes on like a heartbeat",
        (*OPEN, PROVEN, Answered, b"GET /livez HTTP/1.1\r\nx: ", PROVEN),
        2,
        b'{"status":"ok"}',
    ),
    Case(
        "a known head that ends the connection",
        (*OPEN, *[post(message(seq=1, ticket=ticket()), b"connection: close")]),
        1,
        b"connection: close",
        last=False,
    ),
    Case(
        "a page that may and one that may not, in turn",
        (
            *OPEN,
            *[post(message(seq=1, ticket=ticket()), *FROM_PAGE), Answered] * 2,
            PROVEN,
            Answered,
            post(message(seq=1, ticket=ticket()), b"origin: https://evil.example"),
        ),
        4,
        b"403 Forbidden",
    ),
    # How it ends.
    Case("the server stops while a hello waits", (HELLO, Stop), 1, b"connection: close", last=False),
    Case(
        "the server stops while a body comes", (*OPEN, BEAT[:-5], Stop, BEAT[-5:]), 2, b"connection: close", last=False
    ),
    Case("the server stops while nobody waits", (*OPEN, BEAT, Answered, Stop), 2, b'"state":"live"', last=False),
    Case("half closed while a hello waits", (HELLO, Eof), 1, b""),
    Case("half closed in a head", (*OPEN, BEAT[:30], Eof), 1, b""),
    Case("gone while a hello waits", (HELLO, Left), 1, b""),
    Case("gone in a body", (*OPEN, BEAT[:-5], Left), 2, b""),
    # Whom it is from.
    Case(
        "behind a proxy",
        (
            post(message(), BEARER, b"x-forwarded-for: 10.1.2.3"),
            Flush,
            Answered,
            *[post(message(seq=1, ticket=ticket()), b"x-forwarded-for: 10.1.2.3"), Answered] * 2,
        ),
        3,
        b'"state":"live"',
        world={"proxies": Proxies(["127.0.0.1"])},
    ),
)


async def seen(make_world: Any, case: Case, *, fast: bool) -> Seen:
    async with Served(make_world(**case.world), fast=fast, headers=case.headers) as served:
        return await served.say(list(case.steps), last=case.last)


def settled(said: bytes) -> bytes:
    """Without the milliseconds that have gone by."""
    return re.sub(rb'"ttl_ms":3[45]\d{3}', b'"ttl_ms":35000', said)


def test_there_are_many_cases_and_each_has_its_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_both_lanes_tell_the_same(make_world: Any, case: Case) -> None:
    plain = await seen(make_world, case, fast=False)
    fast = await seen(make_world, case, fast=True)
    assert case.says in plain.said
    assert settled(fast.said) == settled(plain.said)
    assert (fast.heartbeats, fast.rejected) == (plain.heartbeats, plain.rejected)
    assert (fast.sessions, fast.sites) == (plain.sessions, plain.sites)
    assert plain.through_asgi - fast.through_asgi == case.fast


PIPELINED = (HELLO, BEAT, PROVEN, BYE, LIVEZ, chunked(message(seq=2), BEARER), post(b"{", BEARER), post(message()))
PIPELINED += (post(message(SECOND), BEARER), post(message(seq=3), BEARER, *FROM_PAGE), post(message(seq=4), kind=b""))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_however_it_is_cut_both_lanes_tell_the_same(make_world: Any, data: st.DataObject) -> None:
    sent = b"".join(data.draw(st.lists(st.sampled_from(PIPELINED), min_size=1, max_size=12), label="requests"))
    places = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6), label="cut at"))
    flushed = data.draw(st.lists(st.booleans(), min_size=len(places) + 1, max_size=len(places) + 1), label="flushed")
    steps: list[Step] = [OPEN[0], OPEN[1], OPEN[2]]
    pieces = [sent[start:end] for start, end in zip([0, *places], [*places, len(sent)], strict=True)]
    for piece, flush in zip(pieces, flushed, strict=True):
        if piece:
            steps.append(piece)
        if flush:
            steps.append(Flush)
    case = Case("", tuple(steps), 0, b"")
    plain = await seen(make_world, case, fast=False)
    fast = await seen(make_world, case, fast=True)
    assert settled(fast.said) == settled(plain.said)
    assert (fast.heartbeats, fast.rejected, fast.sessions) == (plain.heartbeats, plain.rejected, plain.sessions)


async def opened(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*served.socket.getsockname())


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("sent", [BEAT[:40], BEAT[:-5], BEAT + BEAT[:40], BEAT + BEAT[:-5]])
async def test_a_request_that_does_not_end_is_ended(
    make_world: Any, monkeypatch: Any, sent: bytes, *, fast: bool
) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.1)
    async with Served(make_world(), fast=fast) as served:
        await served.say(list(OPEN))
        reader, writer = await opened(served)
        writer.write(sent)
        said = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert said.count(b"HTTP/1.1 200 ") == sent.count(b"POST") - 1
    assert said.count(b"HTTP/1.1 408 ") == 1


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("beats", [1, 3])
async def test_a_connection_that_nobody_uses_is_closed(make_world: Any, beats: int, *, fast: bool) -> None:
    async with Served(make_world(), fast=fast) as served:
        await served.say(list(OPEN))
        served.server.config.timeout_keep_alive = 0.8
        reader, writer = await opened(served)
        with contextlib.closing(writer):
            loop = asyncio.get_running_loop()
            for _ in range(beats):
                writer.write(PROVEN)
                await served._answer(reader)
                last = loop.time()
                # All of these waits together are longer than a connection without any use would last.
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.41)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            assert loop.time() - last > 0.79


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("first", [PROVEN, LIVEZ])
async def test_a_connection_that_is_used_stays(make_world: Any, monkeypatch: Any, first: bytes, *, fast: bool) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.1)
    async with Served(make_world(), fast=fast) as served:
        await served.say([*OPEN, PROVEN])
        served.server.config.timeout_keep_alive = 0.2
        reader, writer = await opened(served)
        for request in (first, PROVEN, PROVEN, PROVEN):
            writer.write(request)
            assert b"200 OK" in await served._answer(reader)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.12)
        writer.close()


@pytest.mark.parametrize("fast", [False, True])
async def test_while_a_hello_waits_nobody_is_idle(make_world: Any, *, fast: bool) -> None:
    async with Served(make_world(), fast=fast) as served:
        await served.say(list(OPEN))
        served.server.config.timeout_keep_alive = 0.1
        reader, writer = await opened(served)
        writer.write(PROVEN)
        await served._answer(reader)
        writer.write(HELLO)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.25)
        await served.world.flush_once()
        assert b"200 OK" in await served._answer(reader)
        assert await asyncio.wait_for(reader.read(), 5) == b"", "then the time begins"
        writer.close()


@pytest.mark.parametrize("fast", [False, True])
async def test_whoever_leaves_the_answers_unread_is_asked_to_wait_and_is_cut_off(
    make_world: Any, monkeypatch: Any, *, fast: bool
) -> None:
    monkeypatch.setattr(connections, "WRITE_S", 0.2)
    async with Served(make_world(), fast=fast) as served:
        await served.say(list(OPEN))
        served.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(served.socket.getsockname())
        _, writer = await asyncio.open_connection(sock=narrow)
        writer.transport.pause_reading()
        while not served.server.server_state.connections:
            await asyncio.sleep(0)
        (connection,) = served.server.server_state.connections
        heard = served.world.counters.heartbeats
        for sent in range(1, 10_000):
            writer.write(PROVEN)
            while heard["beat"] < sent and not connection.flow.write_paused:
                await asyncio.sleep(0)
            if connection.flow.write_paused:
                break
        assert connection.flow.write_paused
        taken = heard["beat"]
        for _ in range(10):
            writer.write(PROVEN)
            await turns()
        assert heard["beat"] <= taken + 2, "what comes then is not answered into the memory"
        async with asyncio.timeout(5):
            while served.server.server_state.connections:
                await asyncio.sleep(0.01)
        writer.transport.abort()


async def test_more_than_may_be_pipelined_ends_the_connection(make_world: Any) -> None:
    async with Served(make_world(), fast=True) as served:
        await served.say(list(OPEN))
        reader, writer = await opened(served)
        writer.write(BEAT * (connections.MAX_PIPELINED + 1))
        for _ in range(connections.MAX_PIPELINED + 1):
            assert b"200 OK" in await served._answer(reader)
        await turns()
        writer.write(BEAT * (connections.MAX_PIPELINED + 2))
        said = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert said.count(b"HTTP/1.1 ") == said.count(b"200 OK") == connections.MAX_PIPELINED + 1, (
        "those before are answered"
    )


async def test_heads_of_heartbeats_that_were_taken_are_remembered_and_no_others(
    make_world: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(shortcut, "MAX_KEPT", 2)
    async with Served(make_world(), fast=True) as served:
        kept_by = served.server.config.http_protocol_class.args[0]

        def kept() -> int:
            return len(kept_by._heads) + len(kept_by._before)

        await served.say(list(OPEN))
        proof = {"seq": 1, "ticket": ticket()}
        for request in (
            post(message(**proof), b"cookie: a=b"),
            post(message(**proof), BEARER),
            post(message(**proof), b"AUTHORIZATION: Bearer beat-token"),
            post(message(seq=1)),
            post(b"[]"),
            PROVEN[:-4],
            PROVEN + PROVEN,
            PROVEN + b"\r\n",
        ):
            await served.say([request, Eof])
            assert kept() == 0, request
        await served.say([PROVEN])
        assert kept() == 1
        for number in range(20):
            await served.say([post(message(**proof), b"x: %d" % number)])
            assert kept() <= 4


async def test_the_date_is_that_of_the_answer(make_world: Any) -> None:
    async with Served(make_world(), fast=True) as served:
        assert (await served.say([*OPEN, PROVEN])).said.count(DATE[1]) == 3
        served.server.server_state.default_headers = [(b"date", b"Sat, 21 Nov 2026 12:00:01 GMT")]
        assert (await served.say([PROVEN])).said.count(b"12:00:01 GMT") == 2


async def test_a_ticket_is_new_after_ten_minutes(make_world: Any) -> None:
    world = make_world()
    async with Served(world, fast=True) as served:
        first = (await served.say([*OPEN, PROVEN, Answered])).said
        assert first.count(ticket().encode()) == 2
        world.epoch += 599
        assert ticket().encode() in (await served.say([PROVEN])).said
        world.epoch += 1
        assert ticket(at=NOW + 600).encode() in (await served.say([PROVEN])).said
