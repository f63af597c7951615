"""The tether over real sockets: the server, and a client of another make."""

import asyncio
import contextlib
import gc
import socket
import struct
import time

import httpx
import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus, NegotiationError

from watchdog.core.model import BeatType
from watchdog.errors import StoreUnavailable
from watchdog.ingest import websocket as module
from watchdog.ingest import websocket_protocol as protocol
from watchdog.ingest.connections import BoundedProtocol, Connections
from watchdog.ingest.origins import Origins
from watchdog.ingest.server import server
from watchdog.ingest.websocket import Tethers
from watchdog.ingest.websocket_protocol import SocketProtocol

BEARER = {"authorization": "Bearer beat-token"}


class Served:
    """The application of a world on a free port, with a flush every 200 ms."""

    def __init__(self, world):
        self.world = world
        self.connections = Connections(100, time.monotonic, time.time)
        self.server = server(world.app, self.connections, drain_s=2, tethers=world.tethers)
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    async def __aenter__(self):
        self.flushing = asyncio.create_task(self.world.flush_always())
        self.task = asyncio.create_task(self.server.serve(sockets=[self.socket]))
        while not self.server.started:
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_):
        await self.stop()
        self.flushing.cancel()

    async def stop(self):
        self.server.should_exit = True
        await self.task

    def open(self, path="/v1/ws", headers=BEARER, subprotocols=("watchdog.v1",), **options):
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            additional_headers=headers,
            subprotocols=subprotocols or None,
            proxy=None,
            **options,
        )

    async def raw(self):
        """A connection that was upgraded, and on which nobody answers anything."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            b"GET /v1/ws HTTP/1.1\r\nhost: w\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"sec-websocket-protocol: watchdog.v1\r\nauthorization: Bearer beat-token\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return reader, writer

    async def ends(self, how, count=1):
        """Waits until so many sockets have ended so, and all that they left is flushed."""
        async with asyncio.timeout(5):
            while self.world.counters.sockets_ended[how] < count:
                await asyncio.sleep(0.01)
        await self.world.buffer.flush()


def frame(payload, opcode=0x81):
    """A short frame of a client."""
    assert len(payload) < 65536
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
    return bytes([opcode]) + length + b"\0\0\0\0" + payload


@pytest.fixture
async def world(make_world):
    return make_world()


@pytest.fixture
async def served(world):
    async with Served(world) as running:
        yield running


async def told(ws, body):
    await ws.send(orjson.dumps(body).decode())
    async with asyncio.timeout(5):
        return orjson.loads(await ws.recv())


async def silence(seconds):
    """Real time in which nothing is said: what is tested is that nothing comes of it."""
    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=seconds)


async def closed(ws):
    """The code with which the other side closes."""
    async with asyncio.timeout(5):
        await ws.wait_closed()
    return ws.close_code


def left_s(world):
    (session,) = world.store.sessions.values()
    return session.expires_at - world.store.clock.observed


# The messages.


async def test_a_socket_says_what_posts_say_and_is_answered_the_same(served, world, message):
    async with served.open() as ws:
        assert ws.subprotocol == "watchdog.v1"
        assert ws.protocol.extensions == []
        hello = await told(ws, message(type="hello", seq=1))
        assert hello == {
            "state": "live",
            "next_ms": 10_000,
            "ttl_ms": 35_000,
            "ws": True,
            "ticket": hello["ticket"],
            "boot": "boot-1",
        }
        assert (await told(ws, message(seq=2)))["state"] == "live"
        await ws.send(orjson.dumps(message(type="bye", seq=3, ticket=hello["ticket"])))
        assert await closed(ws) == 1000
    await served.ends("bye")
    assert world.counters.heartbeats == {"hello": 1, "beat": 1, "bye": 1}
    assert [each.closed for each in world.store.sessions.values()] == [True]
    assert world.store.torn == []
    assert world.counters.sockets == 0


async def test_an_open_socket_keeps_nothing_of_the_connection_that_it_was(served, world, message):
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        gc.collect()
        (open_,) = served.server.server_state.connections
        kept = [each for each in gc.get_objects() if isinstance(each, BoundedProtocol)]
        assert [each for each in kept if each._shared is served.connections] == []
        assert not hasattr(open_, "__dict__")
        assert served.connections._by_site["127.0.0.1"] == 1
    await served.ends("torn")
    assert served.connections._by_site == {}


async def test_a_token_may_come_in_the_message_and_a_ticket_do_for_it_later(served, message):
    async with served.open(headers={}) as ws:
        refused = await told(ws, message(type="hello"))
        assert (refused["status"], refused["type"]) == (401, "urn:watchdog:problem:unauthorized")
        hello = await told(ws, message(type="hello", token="beat-token"))
        assert (await told(ws, message(ticket=hello["ticket"])))["state"] == "live"
        assert (await told(ws, message()))["status"] == 401


async def test_a_live_beat_is_answered_before_its_flush_and_a_hello_after(served, world, message):
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        applied = len(world.store.applied)
        assert (await told(ws, message()))["state"] == "live"
        assert world.buffer.size == 1
        assert len(world.store.applied) == applied


async def test_a_beat_of_a_session_that_said_bye_is_unknown_and_its_next_incarnation_is_live(served, message):
    async with served.open() as ws, served.open() as other:
        ticket = (await told(ws, message(type="hello")))["ticket"]
        assert (await told(other, message(type="hello")))["state"] == "live"
        await ws.send(orjson.dumps(message(type="bye", ticket=ticket)))
        assert await closed(ws) == 1000
        assert (await told(other, message()))["state"] == "unknown"
        assert (await told(other, message(type="hello", incarnation=1)))["state"] == "live"


async def test_an_agent_who_was_logged_out_is_told_to_stop(served, world, message):
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        world.store.stopped.update(world.store.sessions)
        for session in world.store.sessions.values():
            session.closed = True
        assert (await told(ws, message()))["state"] == "stop"


@pytest.mark.parametrize(
    ("first", "status"),
    [({"type": "beat"}, 400), ({"type": "hello", "seq": -1}, 400), ({"type": "torn"}, 400), ({"canary": "x"}, 400)],
)
async def test_the_first_message_is_a_hello(served, world, message, first, status):
    async with served.open() as ws:
        assert (await told(ws, message(**first)))["status"] == status
        assert world.counters.rejected["malformed"] == 1
        assert (await told(ws, message(type="hello")))["state"] == "live"


async def test_a_socket_carries_one_session(served, world, message):
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        other = message(type="hello", session_id="6f9619ff-8b86-4d01-b42d-00cf4fc964ff")
        assert (await told(ws, other))["status"] == 400
        assert len(world.store.sessions) == 1


async def test_a_session_of_another_agent_is_refused_and_not_carried(served, world, message, a_beat):
    world.buffer.submit(a_beat(session_id=bytes(16)))
    await world.buffer.flush()
    theirs = message(type="hello", session_id=str(bytes(16).hex()), agent=message()["agent"][:-1] + "f")
    async with served.open() as ws:
        assert (await told(ws, theirs))["status"] == 409
    await served.ends("torn")
    assert world.store.torn == []


async def test_a_store_that_takes_nothing_is_told_with_a_time_to_come_again(served, world, message):
    async with served.open() as ws:
        world.store.broken = StoreUnavailable("The disk is full.")
        answer = await told(ws, message(type="hello"))
        assert (answer["status"], answer["type"]) == (503, "urn:watchdog:problem:store")
        assert answer["next_ms"] in (1000, 2000)
        world.store.broken = None
        assert (await told(ws, message(type="hello")))["state"] == "live"


# Their order.


async def greeted(served, world, message):
    """A socket that has said hello, the server's side of it, and the ticket."""
    reader, writer = await served.raw()
    writer.write(said(message(type="hello")))
    hello = await next_of(reader)
    (connection,) = [each for each in served.server.server_state.connections if isinstance(each, SocketProtocol)]
    return reader, writer, connection, hello["ticket"]


def said(body):
    """A message as the frame of a client."""
    return frame(orjson.dumps(body))


async def next_of(reader):
    """The next message."""
    async with asyncio.timeout(5):
        kind, length = await reader.readexactly(2)
        assert kind == 0x81
        if length == 126:
            length = int.from_bytes(await reader.readexactly(2), "big")
        return orjson.loads(await reader.readexactly(length))


async def test_what_comes_behind_a_hello_that_waits_for_its_flush_is_answered_after_it(served, world, message):
    reader, writer = await served.raw()
    writer.write(said(message(type="hello")) + said(message()) + frame(b"{}") + said(message()))
    states = [await next_of(reader) for _ in range(4)]
    assert [each.get("state", each.get("status")) for each in states] == ["live", "live", 400, "live"]
    assert world.counters.heartbeats == {"hello": 1, "beat": 2, "bye": 0}
    writer.close()


async def test_a_message_that_has_to_wait_holds_up_those_behind_it_in_later_reads_too(served, world, message):
    reader, writer, connection, _ = await greeted(served, world, message)
    connection.data_received(said(message(type="hello", incarnation=1)))
    assert world.buffer.size == 1
    connection.data_received(said(message(incarnation=1)) + said(message(type="hello", incarnation=2)))
    connection.data_received(frame(b"{}"))
    assert world.buffer.size == 1
    answers = [await next_of(reader) for _ in range(4)]
    assert [each.get("state", each.get("status")) for each in answers] == ["live", "live", "live", 400]
    assert len(world.store.applied) >= 3, "each hello by its own flush"
    writer.close()


async def test_a_client_that_does_not_wait_for_its_answers_is_read_no_further(served, world, message):
    reader, writer, connection, _ = await greeted(served, world, message)
    connection.data_received(said(message(type="hello", incarnation=1)))
    assert connection.transport.is_reading(), "one that waits for its answer is heard when it closes"
    connection.data_received(said(message(incarnation=1)))
    assert not connection.transport.is_reading()
    assert [(await next_of(reader))["state"] for _ in range(2)] == ["live", "live"]
    assert connection.transport.is_reading()
    writer.write(said(message(incarnation=1)))
    assert (await next_of(reader))["state"] == "live"
    writer.close()


async def test_what_comes_behind_a_bye_is_not_heard(served, world, message):
    reader, writer, _, ticket = await greeted(served, world, message)
    writer.write(said(message(type="bye", ticket=ticket)) + said(message()))
    async with asyncio.timeout(5):
        assert await reader.readexactly(4) == b"\x88\x02\x03\xe8"
    await served.ends("bye")
    assert world.counters.heartbeats == {"hello": 1, "beat": 0, "bye": 1}
    writer.close()


async def test_whoever_answers_no_close_is_let_go_even_if_a_pong_comes_behind_it(served, world, message, monkeypatch):
    monkeypatch.setattr(protocol, "CLOSE_S", 0.2)
    reader, writer, connection, ticket = await greeted(served, world, message)
    connection._ping()
    async with asyncio.timeout(5):
        ping = await reader.readexactly(6)
        writer.write(said(message(type="bye", ticket=ticket)))
        assert await reader.readexactly(4) == b"\x88\x02\x03\xe8"
        writer.write(frame(ping[2:], 0x8A))
        assert await reader.read() == b""
    writer.close()


async def test_what_waits_when_its_socket_is_torn_is_taken_and_nothing_behind_it(served, world, message):
    _, writer, connection, _ = await greeted(served, world, message)
    connection.data_received(said(message(type="hello", incarnation=1)) + said(message(incarnation=1)))
    writer.transport.abort()
    connection.resume()
    await served.ends("torn")
    assert world.counters.heartbeats == {"hello": 2, "beat": 0, "bye": 0}
    assert left_s(world) == 10


async def test_who_was_cut_off_in_the_middle_of_a_read_is_heard_no_further(served, world, message):
    _, writer, connection, _ = await greeted(served, world, message)
    connection.pause_writing()
    connection.data_received(said(message()))
    await served.ends("silent")
    assert world.counters.heartbeats["beat"] == 0
    writer.close()


async def test_what_comes_behind_a_frame_that_is_refused_is_not_heard(served, world, message):
    _, writer, connection, _ = await greeted(served, world, message)
    connection.data_received(frame(b"\xff\xfe") + said(message()))
    await served.ends("refused")
    assert world.counters.heartbeats["beat"] == 0
    writer.close()


# Their frames.


async def test_a_message_may_come_in_any_pieces(served, world, message):
    reader, writer, connection, _ = await greeted(served, world, message)
    beat = said(message())
    for place in (*range(1, 12), len(beat) - 1):
        for piece in (beat[:place], beat[place:]):
            connection.data_received(piece)
        assert (await next_of(reader))["state"] == "live"
    connection.data_received(beat + beat + beat[:50])
    connection.data_received(beat[50:])
    assert [(await next_of(reader))["state"] for _ in range(3)] == ["live"] * 3
    assert world.counters.heartbeats["beat"] == 15
    writer.close()


async def test_a_message_may_come_in_several_frames_with_a_ping_between_them(served, world, message):
    reader, writer, _, _ = await greeted(served, world, message)
    text = orjson.dumps(message())
    writer.write(frame(text[:100], 0x01) + frame(b"?", 0x89) + frame(text[100:], 0x80))
    async with asyncio.timeout(5):
        assert await reader.readexactly(3) == b"\x8a\x01?"
    assert (await next_of(reader))["state"] == "live"
    writer.close()


async def test_a_message_inside_another_is_no_message(served, world, message):
    _, writer, _, _ = await greeted(served, world, message)
    writer.write(frame(b"{", 0x01) + said(message()))
    await served.ends("refused")
    assert world.counters.rejected["malformed"] == 1
    assert world.counters.heartbeats["beat"] == 0
    writer.close()


# The end.


async def torn_by_close(ws):
    await ws.close(1001)


async def torn_by_code_of_ours(ws):
    await ws.close(1012)


async def torn_without_a_word(ws):
    ws.transport.abort()


@pytest.mark.parametrize("tear", [torn_by_close, torn_by_code_of_ours, torn_without_a_word])
async def test_a_socket_that_the_other_side_closes_leaves_the_tether(served, world, message, tear):
    ws = await served.open()
    await told(ws, message(type="hello"))
    await told(ws, message())
    await tear(ws)
    await served.ends("torn")
    assert [each.ttl for each in world.store.torn] == [10.0]
    assert left_s(world) == 10
    assert world.counters.sockets == 0


async def test_a_socket_that_is_torn_while_its_hello_waits_leaves_the_tether_all_the_same(served, world, message):
    ws = await served.open()
    await ws.send(orjson.dumps(message(type="hello")))
    while not world.buffer.size:
        await asyncio.sleep(0)
    ws.transport.abort()
    await served.ends("torn")
    assert left_s(world) == 10


async def test_who_is_back_by_post_before_the_end_is_noticed_keeps_the_lease(served, world, message):
    ws = await served.open()
    await told(ws, message(type="hello"))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=BEARER) as http:
        assert (await http.post("/v1/heartbeat", json=message())).json()["state"] == "live"
    ws.transport.abort()
    await served.ends("torn")
    assert len(world.store.torn) == 1
    assert left_s(world) == pytest.approx(35, abs=3)


async def test_who_is_back_by_another_socket_keeps_the_lease_when_the_first_ends(served, world, message):
    first = await served.open()
    await told(first, message(type="hello"))
    async with served.open() as second:
        await told(second, message(type="hello"))
        first.transport.abort()
        await served.ends("torn")
        assert left_s(world) == pytest.approx(35, abs=3)
        assert (await told(second, message()))["state"] == "live"
    await served.ends("torn", 2)
    assert left_s(world) == 10


async def test_a_bye_by_post_is_a_bye_whenever_the_socket_ends(served, world, message):
    ws = await served.open()
    ticket = (await told(ws, message(type="hello")))["ticket"]
    ws.transport.abort()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as http:
        assert (await http.post("/v1/heartbeat", json=message(type="bye", ticket=ticket))).status_code == 204
    await served.ends("torn")
    assert [each.closed for each in world.store.sessions.values()] == [True]
    assert left_s(world) <= 0


async def test_a_socket_without_a_session_leaves_nothing_behind(served, world):
    ws = await served.open()
    ws.transport.abort()
    await served.ends("torn")
    assert world.store.torn == []


async def test_a_daemon_that_stops_closes_its_sockets_and_shortens_nothing(served, world, message):
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        stopping = asyncio.create_task(served.stop())
        assert await closed(ws) == 1012
        await stopping
    await served.ends("closed")
    assert world.store.torn == []
    assert left_s(world) == pytest.approx(35, abs=3)


async def test_a_daemon_that_stops_while_the_other_side_closes_stops_all_the_same(served, world, message):
    reader, writer = await served.raw()
    writer.write(frame(orjson.dumps(message(type="hello"))))
    while not world.store.sessions:
        await asyncio.sleep(0.01)
    connection = next(iter(served.server.server_state.connections))
    connection.data_received(frame(b"", 0x88))
    connection.shutdown()
    await served.ends("torn")
    await reader.read()
    writer.close()


async def test_who_leaves_while_its_bye_waits_has_said_bye(served, world, message):
    ws = await served.open()
    ticket = (await told(ws, message(type="hello")))["ticket"]
    await ws.send(orjson.dumps(message(type="bye", ticket=ticket)))
    while not world.buffer.size:
        await asyncio.sleep(0)
    ws.transport.abort()
    await served.ends("bye")
    assert world.store.torn == []


async def test_a_socket_that_is_closed_and_takes_no_last_bytes_is_cut_off(served, world, message, monkeypatch):
    monkeypatch.setattr(protocol, "CLOSE_S", 0.1)
    _, writer = await served.raw()
    writer.write(frame(orjson.dumps(message(type="hello"))))
    while not world.store.sessions:
        await asyncio.sleep(0.01)
    writer.transport.pause_reading()
    connection = next(iter(served.server.server_state.connections))
    connection.transport.set_write_buffer_limits(high=100_000_000)
    connection.transport.write(b"\x89\x00" * 10_000_000)
    writer.write(frame(b"x" * 5000))
    async with asyncio.timeout(5):
        while served.server.server_state.connections:
            await asyncio.sleep(0.01)
    writer.close()


async def test_a_socket_has_no_time_in_which_its_request_is_to_be_complete(served, message, monkeypatch):
    monkeypatch.setattr("watchdog.ingest.connections.REQUEST_S", 0.2)
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        await silence(0.4)
        assert (await told(ws, message()))["state"] == "live"


async def test_an_error_of_ours_closes_the_socket_and_shortens_nothing(served, world, message):
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        world.gate.tickets.renew = None
        await ws.send(orjson.dumps(message()))
        assert await closed(ws) == 1011
    await served.ends("closed")
    assert world.store.torn == []
    assert left_s(world) == pytest.approx(35, abs=3)


async def test_an_error_of_ours_in_the_handshake_leaves_nothing(served, world, monkeypatch):
    monkeypatch.setattr(world.tethers, "_number", None)
    with pytest.raises(InvalidMessage):
        await served.open()
    while served.connections._by_site:
        await asyncio.sleep(0)
    assert served.server.server_state.connections == set()
    assert world.counters.sockets == 0


async def test_a_peer_that_answers_no_ping_is_let_go_and_its_lease_runs_on(make_world, message, monkeypatch):
    for name in ("PING_S", "PONG_S"):
        monkeypatch.setattr(f"watchdog.ingest.server.{name}", 0.1)
    monkeypatch.setattr(protocol, "LOOK_AGAIN_S", 0.1)
    world = make_world()
    async with Served(world) as served:
        _, writer = await served.raw()
        writer.write(frame(orjson.dumps(message(type="hello"))))
        await served.ends("silent")
        assert world.store.torn == []
        assert left_s(world) == pytest.approx(35, abs=1)
        writer.close()


async def test_a_pong_that_waited_in_the_socket_while_the_process_stood_is_read_in_time(
    make_world, message, monkeypatch
):
    for name in ("PING_S", "PONG_S"):
        monkeypatch.setattr(f"watchdog.ingest.server.{name}", 0.2)
    world = make_world()
    async with Served(world) as served, served.open() as ws:
        await told(ws, message(type="hello"))
        # The one that read the handshake may still be among them.
        (connection,) = [
            each for each in served.server.server_state.connections if isinstance(each, protocol.SocketProtocol)
        ]
        async with asyncio.timeout(5):
            while connection._pinged is None:
                await asyncio.sleep(0)
        connection._miss()  # as the first thing after a stop
        async with asyncio.timeout(5):
            while connection._pinged is not None:
                await asyncio.sleep(0)
        assert (await told(ws, message()))["state"] == "live"
    await served.ends("torn")
    assert world.counters.sockets_ended["silent"] == 0


async def test_pongs_keep_the_socket_and_not_the_session(make_world, message, monkeypatch):
    for name in ("PING_S", "PONG_S"):
        monkeypatch.setattr(f"watchdog.ingest.server.{name}", 0.05)
    world = make_world()
    async with Served(world) as served, served.open() as ws:
        await told(ws, message(type="hello"))
        before = list(world.store.applied)
        await silence(0.5)
        assert world.store.applied == before
        assert world.counters.sockets == 1


# What does not keep the rules.


async def test_a_socket_without_a_hello_is_closed_after_a_while(served, world, message, monkeypatch):
    monkeypatch.setattr(module, "FIRST_S", 0.2)
    async with served.open() as ws:
        assert await closed(ws) == 1008
    # Long enough for a hello on a busy machine.
    monkeypatch.setattr(module, "FIRST_S", 1.5)
    async with served.open(headers={}) as ws:
        assert (await told(ws, message(type="hello")))["status"] == 401
        assert await closed(ws) == 1008
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        await silence(1.7)
        assert (await told(ws, message()))["state"] == "live"
    await served.ends("refused", 2)


@pytest.mark.parametrize("size", [4097, 1_000_000])
async def test_a_message_that_is_too_large_costs_the_socket_and_no_lease(served, world, message, size):
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        await ws.send("x" * size)
        assert await closed(ws) == 1009
    await served.ends("refused")
    assert world.counters.rejected["too-large"] == 1
    assert world.store.torn == []


async def test_a_large_message_in_small_pieces_is_too_large_all_the_same(served, world, message):
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        with contextlib.suppress(ConnectionClosed):
            await ws.send(["x" * 1000] * 5)
        assert await closed(ws) == 1009
    await served.ends("refused")


@pytest.mark.parametrize("sent", [frame(b"", 0x89), frame(b"", 0x00), frame(b"{}")])
async def test_too_many_frames_of_any_kind_cost_the_socket(served, world, message, sent):
    reader, writer = await served.raw()
    writer.write(frame(orjson.dumps(message(type="hello"))))
    while not world.buffer.size:
        await asyncio.sleep(0)
    await world.buffer.flush()
    first = frame(b"x", 0x01) if sent[0] == 0 else b""
    writer.write(first + sent * (protocol.BURST_FRAMES + 20))
    async with asyncio.timeout(5):
        await reader.read()
    await served.ends("refused")
    assert world.counters.rejected["rate"] == 1
    assert world.store.torn == []
    writer.close()


async def test_as_many_beats_as_the_shortest_interval_makes_are_taken(served, message):
    async with served.open() as ws:
        await told(ws, message(type="hello"))
        for _ in range(protocol.BURST_FRAMES - 1):
            await ws.send(orjson.dumps(message()))
        for _ in range(protocol.BURST_FRAMES - 1):
            assert orjson.loads(await ws.recv())["state"] == "live"


@pytest.mark.parametrize("sent", [b"\x81\x00", frame(b"\xff\xfe"), frame(b"x", 0xC1), frame(b"", 0x83)])
async def test_what_is_no_frame_of_a_client_costs_the_socket_and_no_lease(served, world, message, sent):
    reader, writer = await served.raw()
    writer.write(frame(orjson.dumps(message(type="hello"))))
    while not world.store.sessions:
        await asyncio.sleep(0.01)
    writer.write(sent)
    async with asyncio.timeout(5):
        await reader.read()
    await served.ends("refused")
    assert world.counters.rejected["malformed"] == 1
    assert world.store.torn == []
    writer.close()


async def test_who_reads_no_answers_is_cut_off_and_its_lease_runs_on(served, world, message):
    _, writer = await served.raw()
    writer.write(frame(orjson.dumps(message(type="hello"))))
    while not world.store.sessions:
        await asyncio.sleep(0.01)
    connection = next(iter(served.server.server_state.connections))
    writer.transport.pause_reading()
    async with asyncio.timeout(20):
        while world.counters.sockets:
            connection.transport.write(b"\x89\x00" * 30_000)  # more than its socket takes
            await asyncio.sleep(0)
    await served.ends("silent")
    assert world.store.torn == []
    writer.close()


# The handshake.


async def test_the_sub_protocol_has_to_be_asked_for(served, world):
    for asked in ((), ("watchdog.v2",)):
        with pytest.raises((InvalidStatus, NegotiationError)) as refused:
            await served.open(subprotocols=asked)
        assert refused.value.response.status_code == 400
        assert b"watchdog.v1" in refused.value.response.body
    assert world.counters.sockets_ended == dict.fromkeys(world.counters.sockets_ended, 0)


async def test_pages_of_another_origin_are_refused_unless_they_are_allowed(make_world, monkeypatch):
    given = Tethers.__init__

    def init(self, *args, **options):
        given(self, *args, **options, origins=Origins.of(["https://good.example"], None, open_to_all=False))

    monkeypatch.setattr(Tethers, "__init__", init)
    world = make_world()
    async with Served(world) as served:
        own = f"http://127.0.0.1:{served.port}"
        for origin in ("https://evil.example", "https://good.example.evil", "null", f"{own}0"):
            with pytest.raises(InvalidStatus) as refused:
                await served.open(origin=origin)
            assert refused.value.response.status_code == 403
        async with served.open(origin="https://good.example"), served.open(origin=own), served.open():
            pass


@pytest.mark.parametrize("given", [{"origin": "https://evil.example"}, {"subprotocols": ["other"]}])
async def test_handshakes_that_are_refused_write_nothing_to_the_log(served, given, caplog):
    for _ in range(3):
        with pytest.raises(InvalidStatus) as refused:
            await served.open(**given)
        assert refused.value.response.status_code in (400, 403)
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize(
    "asked", [["watchdog.v1", "other"], ["other", "watchdog.v1"], ["a", "watchdog.v1", "watchdog.v2"]]
)
async def test_of_several_sub_protocols_ours_is_chosen(served, asked):
    async with served.open(subprotocols=asked) as socket:
        assert socket.subprotocol == "watchdog.v1"


@pytest.mark.parametrize("path", ["/v1/ws/", "/v1/WS", "/v1/heartbeat", "/", "/v1/status", "//v1/ws"])
async def test_no_other_path_becomes_a_socket(served, path):
    with pytest.raises(InvalidStatus) as refused:
        await served.open(path)
    # The dashboard's page is there for whoever asks, and is a page all the same.
    assert refused.value.response.status_code in ((200,) if path == "/" else (401, 403, 404, 405))


async def test_a_request_without_an_upgrade_is_told_what_the_path_is_for(served):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as http:
        answer = await http.get("/v1/ws")
        assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
        assert (await http.post("/v1/ws", headers={"connection": "upgrade", "upgrade": "websocket"})).status_code == 426


HEAD = (
    b"GET /v1/ws HTTP/1.1\r\nhost: w\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-protocol: watchdog.v1\r\n"
)
KEY = b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HEAD + b"\r\n", b"400"),
        (HEAD + KEY.replace(b"13", b"8") + b"\r\n", b"400"),
        (HEAD + KEY + b"x: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
        (HEAD + KEY + b"".join(b"x%d: x\r\n" % number for number in range(300)) + b"\r\n", b"431"),
        (HEAD + KEY + b"\r\n" + frame(b"{}"), b"400"),
    ],
)
async def test_a_handshake_that_is_none_is_answered_and_closed(served, request_, status):
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(request_)
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert answer.split(b" ")[1] == status
    async with asyncio.timeout(5):
        while served.server.server_state.connections:
            await asyncio.sleep(0.01)
    writer.close()


async def test_a_socket_is_opened_on_a_connection_that_has_posted_before(served, message):
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /livez HTTP/1.1\r\nhost: w\r\n\r\n")
    await reader.readuntil(b"}")
    writer.write(HEAD + KEY + b"\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.close()


async def test_a_socket_is_not_opened_before_the_answer_to_an_earlier_request(served, world, message):
    body = orjson.dumps(message(type="hello"))
    post = b"POST /v1/heartbeat HTTP/1.1\r\nhost: w\r\nauthorization: Bearer beat-token\r\n"
    post += b"content-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(post + body + HEAD + KEY + b"\r\n")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"HTTP/1.1 426 ")).count(b"101") == 0
    writer.close()


async def test_sockets_count_as_connections(served, message):
    served.connections.most, served.connections.share = 2, 1.0
    async with served.open() as first, served.open() as second:
        with pytest.raises(InvalidStatus) as refused:
            await served.open()
        assert refused.value.response.status_code == 503
        assert served.connections.full
        assert (await told(first, message(type="hello")))["state"] == "live"
        assert (await told(second, message(type="hello")))["state"] == "live"
        assert sum(served.connections._by_site.values()) >= 2
    while served.connections._by_site:
        await asyncio.sleep(0)


def test_no_client_can_say_that_a_socket_was_torn():
    assert set(BeatType) == {"hello", "beat", "bye"}
