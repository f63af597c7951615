"""The server over real sockets."""

import asyncio
import signal
import time
import uuid

import httpx
import orjson
import pytest
import structlog

from watchdog.core.addresses import Proxies
from watchdog.ingest import connections as module
from watchdog.ingest.connections import Connections


async def test_a_session_over_a_real_socket(make_world, message, serving):
    world = make_world()
    flushing = asyncio.create_task(world.flush_always())
    async with serving(world.app) as served:
        headers = {"authorization": "Bearer beat-token", "content-type": "text/plain"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=headers) as http:
            hello = await http.post("/v1/heartbeat", json=message(type="hello"))
            assert hello.json()["state"] == "live"
            assert "date" in hello.headers
            assert "server" not in hello.headers
            assert (await http.post("/v1/heartbeat", json=message())).status_code == 200
            bye = message(type="bye", ticket=hello.json()["ticket"])
            assert (await http.post("/v1/heartbeat", json=bye)).status_code == 204
            assert (await http.get("/metrics")).status_code == 200
    flushing.cancel()
    assert [session.closed for session in world.store.sessions.values()] == [True]


async def test_a_body_that_is_too_large_costs_the_connection(make_world, serving):
    async with serving(make_world().app) as served:
        reader, writer = await served.connect()
        writer.write(
            b"POST /v1/heartbeat HTTP/1.1\r\nhost: w\r\ncontent-type: application/json\r\ncontent-length: 4097\r\n\r\n"
        )
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_head_without_end_is_refused(make_world, serving):
    async with serving(make_world().app) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /livez HTTP/1.1\r\nx: " + b"x" * (module.MAX_HEAD + 1))
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_each_head_of_a_connection_is_counted_by_itself(make_world, serving):
    half = b"GET /livez HTTP/1.1\r\nhost: w\r\nx: " + b"x" * (module.MAX_HEAD // 2)
    async with serving(make_world().app) as served:
        reader, writer = await served.connect()
        for _ in range(3):
            writer.write(half + b"\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(b"}")
        writer.write(half + half)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()


async def test_a_large_body_is_no_large_head(make_world, message, serving):
    items = [message(session_id=str(uuid.uuid4()), padding="x" * 1000) for _ in range(100)]
    headers = {"authorization": "Bearer beat-token"}
    served = serving(make_world().app)
    async with served, httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=headers) as http:
        response = await http.post("/v1/heartbeats", json={"heartbeats": items})
    assert response.json() == {"accepted": 100, "rejected": []}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/heartbeat HTTP/1.1\r\nho",
        b"POST /v1/heartbeat HTTP/1.1\r\nhost: w\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\n{",
    ],
)
async def test_a_request_that_trickles_in_is_ended(make_world, serving, monkeypatch, sent):
    monkeypatch.setattr(module, "REQUEST_S", 0.05)
    async with serving(make_world().app) as served:
        reader, writer = await served.connect()
        writer.write(sent)
        said = await asyncio.wait_for(reader.read(), 5)
        assert said.startswith(b"HTTP/1.1 408 ") if sent else said == b""
        assert (b"connection: close" in said) == bool(sent)
        writer.close()


async def test_an_upgrade_is_answered_as_if_none_was_asked_for(make_world, serving):
    async with serving(make_world().app) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /nowhere HTTP/1.1\r\nhost: w\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 404 ")
        writer.close()


async def test_signals_are_left_to_the_daemon(make_world, serving):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with serving(make_world().app):
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_server_that_stops_answers_what_it_has_taken(make_world, message, serving):
    world = make_world()
    async with serving(world.app) as served:
        headers = {"authorization": "Bearer beat-token", "content-type": "application/json"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=headers) as http:
            asking = asyncio.create_task(http.post("/v1/heartbeat", json=message(type="hello")))
            while not world.buffer.size:
                await asyncio.sleep(0)
            served.server.should_exit = True
            await asyncio.sleep(0)
            await world.buffer.flush()
            assert (await asking).json()["state"] == "live"


async def test_addresses_are_those_of_connections_whatever_a_header_says(serving):
    async def tell_client(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})

    served = serving(tell_client)
    async with served, httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as http:
        assert (await http.get("/", headers={"x-forwarded-for": "10.0.0.1"})).text == "127.0.0.1"


TRICKLE = b"POST /v1/heartbeat HTTP/1.1\r\nhost: w\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\n{"


async def test_each_request_of_a_connection_has_a_time_of_its_own(make_world, serving, monkeypatch):
    monkeypatch.setattr(module, "REQUEST_S", 0.05)
    async with serving(make_world().app) as served:
        reader, writer = await served.connect()
        for _ in range(3):
            writer.write(b"GET /livez HTTP/1.1\r\nhost: w\r\n\r\n")
            await reader.readuntil(b"}")
        writer.write(TRICKLE)
        assert (await asyncio.wait_for(reader.read(), 5)).count(b"HTTP/1.1 408 ") == 1
        writer.close()


CHUNKED = b"POST /v1/heartbeat HTTP/1.1\r\nhost: w\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("piece", [b"1;x=" + b"x" * 500 + b"\r\n \r\n", b"0\r\n" + b"t: " + b"t" * 500 + b"\r\n"])
async def test_trailers_and_extensions_of_chunks_are_bounded(make_world, serving, piece):
    async with serving(make_world().app) as served:
        reader, writer = await served.connect()
        writer.write(CHUNKED + piece)
        reading = asyncio.create_task(reader.read())
        sent = 0
        endless = piece if piece.startswith(b"1") else b"t: " + b"t" * 500 + b"\r\n"
        while not reading.done() and sent < 4 * module.MAX_HEAD:
            writer.write(endless)
            sent += len(endless)
            await asyncio.sleep(0)
            await asyncio.wait([reading], timeout=0.001)
        assert (await asyncio.wait_for(reading, 5)).startswith(b"HTTP/1.1 431 ")
        writer.close()


async def test_a_large_body_in_chunks_is_no_large_head(make_world, message, serving):
    items = [message(session_id=str(uuid.uuid4()), padding="x" * 1000) for _ in range(100)]

    async def chunks():
        body = orjson.dumps({"heartbeats": items})
        for begin in range(0, len(body), 1000):
            yield body[begin : begin + 1000]

    headers = {"authorization": "Bearer beat-token", "content-type": "application/json"}
    served = serving(make_world().app)
    async with served, httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=headers) as http:
        response = await http.post("/v1/heartbeats", content=chunks())
    assert response.json() == {"accepted": 100, "rejected": []}


async def test_java_asks_for_http_2_with_its_first_request_and_is_served_with_1_1(make_world, message, serving):
    world = make_world()
    flushing = asyncio.create_task(world.flush_always())
    body = orjson.dumps(message())
    head = (
        b"POST /v1/heartbeat HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: %d\r\nHost: w\r\n"
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n"
        b"Authorization: Bearer beat-token\r\nContent-Type: application/json\r\n\r\n" % len(body)
    )
    async with serving(world.app) as served:
        for pieces in ([head + body], [head, body], [head + body[:9], body[9:]], [head + body + head + body]):
            reader, writer = await served.connect()
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.02)
            writer.write(head + body)  # the next one of the connection
            for _ in range(b"".join(pieces).count(b"POST") + 1):
                answered = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
                assert answered.startswith(b"HTTP/1.1 200 ")
                await asyncio.wait_for(reader.readuntil(b"}"), 5)
            writer.close()
    flushing.cancel()


def large(size):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": b"x" * size})

    return app


async def is_cut_off(served, sent):
    """Somebody sends this and reads nothing: the server ends the connection."""
    _, writer = await served.connect()
    writer.transport.pause_reading()
    writer.write(sent)
    connections = served.server.server_state.connections
    while not connections:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        while connections:
            await asyncio.sleep(0.01)
    writer.close()


async def test_a_client_that_never_reads_its_answers_is_cut_off(serving, monkeypatch):
    monkeypatch.setattr(module, "WRITE_S", 0.1)
    async with serving(large(50_000_000)) as served:
        await is_cut_off(served, b"GET / HTTP/1.1\r\nhost: w\r\n\r\n")


async def test_a_client_that_reads_in_the_end_keeps_its_connection(serving, monkeypatch):
    monkeypatch.setattr(module, "WRITE_S", 1.0)
    async with serving(large(20_000_000)) as served:
        reader, writer = await served.connect()
        for _ in range(2):
            writer.transport.pause_reading()
            writer.write(b"GET / HTTP/1.1\r\nhost: w\r\n\r\n")
            connections = served.server.server_state.connections
            async with asyncio.timeout(5):
                while not any(each.flow.write_paused for each in connections):
                    await asyncio.sleep(0)
            writer.transport.resume_reading()
            await reader.readuntil(b"\r\n\r\n")
            assert len(await asyncio.wait_for(reader.readexactly(20_000_000), 20)) == 20_000_000
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 1.2)
        writer.close()


async def test_a_closing_connection_whose_last_bytes_are_not_taken_is_cut_off(serving, monkeypatch):
    monkeypatch.setattr(module, "CLOSE_S", 0.1)
    monkeypatch.setattr(module, "REQUEST_S", 0.3)
    async with serving(large(50_000_000)) as served:
        await is_cut_off(served, b"GET / HTTP/1.1\r\nhost: w\r\n\r\nGET / HTTP/1.1\r\nhost:")


async def test_more_connections_than_there_may_be_are_turned_away_and_told(make_world, serving):
    times = [1000.0]
    shared = Connections(2, lambda: times[0], lambda: 1_800_000_000.0, share=1.0)
    async with serving(make_world().app, connections=shared) as served:
        first, second = await served.connect(), await served.connect()
        assert not shared.full
        third = await served.connect()
        assert (await asyncio.wait_for(third[0].read(), 5)).startswith(b"HTTP/1.1 503 ")
        assert (shared.full, shared.turned_away, shared.full_since) == (True, 1, 1_800_000_000.0)
        first[1].write(b"GET /livez HTTP/1.1\r\nhost: w\r\n\r\n")
        assert (await first[0].readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        second[1].close()
        await second[1].wait_closed()
        while len(served.server.server_state.connections) > 1:
            await asyncio.sleep(0)
        fourth = await served.connect()
        fourth[1].write(b"GET /livez HTTP/1.1\r\nhost: w\r\n\r\n")
        assert (await fourth[0].readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        times[0] += module.FULL_S
        assert not shared.full
        for each in (first, third, fourth):
            each[1].close()
            await each[1].wait_closed()


async def test_malformed_requests_are_told_once_a_minute_with_their_number(make_world, serving, monkeypatch):
    times = [1000.0]
    with structlog.testing.capture_logs() as logged:
        monkeypatch.setattr(module, "log", structlog.get_logger())
        connections = Connections(100, lambda: times[0], lambda: 1_800_000_000.0)
        async with serving(make_world().app, connections=connections) as served:
            for number in range(6):
                reader, writer = await served.connect()
                writer.write(b"\x16\x03\x01 not http\r\n\r\n")
                assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
                writer.close()
                times[0] += 60 if number == 4 else 1
    assert [line["count"] for line in logged if line["event"] == "http.malformed"] == [1, 5]


async def test_an_address_that_has_its_share_is_turned_away_and_others_are_not(make_world, serving):
    shared = Connections(8, time.monotonic, time.time, Proxies(["127.0.0.3"]), lambda name: name == "127.0.0.2")
    async with serving(make_world().app, connections=shared) as served:

        async def opened(address):
            return await asyncio.open_connection("127.0.0.1", served.port, local_addr=(address, 0))

        async def turned_away(address):
            reader, writer = await opened(address)
            said = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            assert said.startswith(b"HTTP/1.1 429 ")
            assert b"retry-after: 10" in said

        async def gone():
            while len(served.server.server_state.connections) > 6:
                await asyncio.sleep(0)

        held = [await opened("127.0.0.1") for _ in range(6)]
        await turned_away("127.0.0.1")
        await gone()
        assert not shared.full, "no agent is heard from there"
        reader, writer = await opened("127.0.0.2")
        writer.write(b"GET /livez HTTP/1.1\r\nhost: w\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        for each in (*held, (reader, writer)):
            each[1].close()
            await each[1].wait_closed()
        while served.server.server_state.connections:
            await asyncio.sleep(0)
        assert shared._by_site == {}

        held = [await opened("127.0.0.2") for _ in range(6)]
        await turned_away("127.0.0.2")
        assert shared.full, "whoever is turned away may be an agent"
        for each in held:
            each[1].close()
            await each[1].wait_closed()
        while served.server.server_state.connections:
            await asyncio.sleep(0)
        held = [await opened("127.0.0.3") for _ in range(8)]
        held[7][1].write(b"GET /livez HTTP/1.1\r\nhost: w\r\n\r\n")
        assert (await held[7][0].readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 "), "a proxy's are those of many"
        for each in held:
            each[1].close()
            await each[1].wait_closed()


async def test_requests_that_wait_for_others_on_their_connection_are_few(serving):
    waiting, answered = asyncio.Event(), 0

    async def slow(scope, receive, send):
        nonlocal answered
        await waiting.wait()
        answered += 1
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(slow) as served:
        reader, writer = await served.connect()
        one = b"GET / HTTP/1.1\r\nhost: w\r\n\r\n"
        writer.write(one * (module.MAX_PIPELINED + 1))
        while not served.server.server_state.tasks:
            await asyncio.sleep(0)
        waiting.set()
        for _ in range(module.MAX_PIPELINED + 1):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        waiting.clear()
        writer.write(one * (module.MAX_PIPELINED + 2))
        assert await asyncio.wait_for(reader.read(), 5) == b""
        waiting.set()
        writer.close()
    assert answered <= module.MAX_PIPELINED + 2, "those that waited are dropped"
