"""The server over real sockets."""

import asyncio
import signal
import socket
import uuid

import httpx
import pytest

from watchdog.ingest import server as module
from watchdog.ingest.server import server


@pytest.fixture
def serving():
    """Runs an application on a free port; gives the port and the server."""

    class Serving:
        def __init__(self, app, **options):
            self.server = server(app, **options)
            self.socket = socket.socket()
            self.socket.bind(("127.0.0.1", 0))
            self.port = self.socket.getsockname()[1]

        async def __aenter__(self):
            self.task = asyncio.create_task(self.server.serve(sockets=[self.socket]))
            while not self.server.started:
                await asyncio.sleep(0)
            return self

        async def __aexit__(self, *_):
            self.server.should_exit = True
            await self.task

        async def connect(self):
            return await asyncio.open_connection("127.0.0.1", self.port)

    return Serving


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
        b"POST /v1/heartbeat HTTP/1.1\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\n{",
    ],
)
async def test_a_request_that_trickles_in_is_ended(make_world, serving, monkeypatch, sent):
    monkeypatch.setattr(module, "REQUEST_S", 0.05)
    async with serving(make_world().app) as served:
        reader, writer = await served.connect()
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_an_upgrade_is_answered_as_if_none_was_asked_for(make_world, serving):
    async with serving(make_world().app) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /v1/ws HTTP/1.1\r\nhost: w\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
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
