"""HTTPS over real sockets: what is served, what is refused, and what happens when the files change."""

import asyncio
import contextlib
import socket
import ssl
import time

import orjson
import pytest
import structlog
import uvloop
from websockets.asyncio.client import connect

from tests.ingest.certificates import put, write
from watchdog.errors import CertificateRefused
from watchdog.ingest import greetings as module
from watchdog.ingest.connections import Connections
from watchdog.ingest.server import ACCEPTED, server
from watchdog.ingest.tls import Certificate


def loaded(folder, **options):
    return Certificate(*write(folder, "first", **options), epoch=time.time)


@contextlib.asynccontextmanager
async def served(app, certificate, shared=None, **options):
    made = server(app, shared or Connections(100, time.monotonic, time.time), tls=certificate.context, **options)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    task = asyncio.create_task(made.serve(sockets=[listener]))
    while not made.started:
        await asyncio.sleep(0)
    yield listener.getsockname()[1]
    made.should_exit = True
    await task


async def asked(port, *, name="localhost", most=ssl.TLSVersion.MAXIMUM_SUPPORTED):
    """Asks whether the server is ready; gives the certificate that it showed, and what it said."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.maximum_version = most
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.write(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    said = await reader.read()
    writer.close()
    with contextlib.suppress(ssl.SSLError, OSError):
        await writer.wait_closed()
    return shown, said


async def test_a_websocket_is_served_with_tls_and_browsers_are_told_to_stay(make_world, message, tmp_path):
    world = make_world()
    flushing = asyncio.create_task(world.flush_always())
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    async with (
        served(world.app, loaded(tmp_path), tethers=world.tethers) as port,
        connect(f"wss://localhost:{port}/v1/ws", ssl=client, subprotocols=["watchdog.v1"], proxy=None) as ws,
    ):
        assert ws.response.headers["strict-transport-security"] == "max-age=31536000"
        for kind in ("hello", "beat"):
            await ws.send(orjson.dumps(message(type=kind, token="beat-token")).decode())
            assert orjson.loads(await ws.recv())["state"] == "live"
    flushing.cancel()


async def test_it_is_served_with_tls_1_2_or_newer_and_browsers_are_told_to_stay(make_world, tmp_path):
    certificate = loaded(tmp_path)
    async with served(make_world().app, certificate) as port:
        shown, said = await asked(port)
        assert shown == ssl.PEM_cert_to_DER_cert((tmp_path / "tls.crt").read_text())
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"strict-transport-security: max-age=31536000\r\n" in said
        with pytest.raises(ssl.SSLError), pytest.warns(DeprecationWarning, match="TLSv1_1"):
            await asked(port, most=ssl.TLSVersion.TLSv1_1)


async def test_a_new_pair_is_served_without_a_restart_and_connections_go_on(make_world, tmp_path):
    certificate = loaded(tmp_path)
    async with served(make_world().app, certificate) as port:
        first, _ = await asked(port)
        with structlog.testing.capture_logs() as logs:
            certificate.look()
            assert logs == []
            write(tmp_path, "second", days=30)
            certificate.look()
        assert [line["event"] for line in logs] == ["tls.loaded"]
        for name in ("localhost", "127.0.0.1"):
            second, said = await asked(port, name=name)
            assert second != first
            assert said.startswith(b"HTTP/1.1 200 ")
    assert certificate.expires_in_s == pytest.approx(30 * 86_400, abs=60)


async def test_half_a_pair_changes_nothing_and_is_told(make_world, tmp_path):
    certificate = loaded(tmp_path)
    key = (tmp_path / "tls.key").read_bytes()
    async with served(make_world().app, certificate) as port:
        first, _ = await asked(port)
        write(tmp_path, "second")
        new = (tmp_path / "tls.key").read_bytes()
        put(tmp_path / "tls.key", key)
        with structlog.testing.capture_logs() as logs:
            certificate.look()
            certificate.look()
        assert [line["event"] for line in logs] == ["tls.refused"]
        assert "is not the key" in certificate.fault
        assert (await asked(port))[0] == first
        put(tmp_path / "tls.key", new)
        certificate.look()
        assert certificate.fault is None
        assert (await asked(port))[0] != first


@pytest.mark.parametrize("content", [b"", b"not PEM", None])
async def test_a_file_that_is_lost_changes_nothing(tmp_path, content):
    certificate = loaded(tmp_path)
    if content is None:
        (tmp_path / "tls.crt").unlink()
    else:
        put(tmp_path / "tls.crt", content)
    certificate.look()
    assert str(tmp_path / "tls.crt") in certificate.fault


def test_what_cannot_be_served_is_refused_at_the_start(tmp_path):
    cert, key = write(tmp_path, "first")
    with pytest.raises(CertificateRefused, match="cannot be read: No such file"):
        Certificate(cert, tmp_path / "none", time.time)
    locked = write(tmp_path, "locked", passphrase=b"secret")
    with pytest.raises(CertificateRefused, match="is encrypted"):
        Certificate(*locked, time.time)
    put(cert, b"nothing")
    with pytest.raises(CertificateRefused, match="no certificate and key in PEM"):
        Certificate(cert, key, time.time)


def test_how_long_it_holds_is_known(tmp_path):
    assert loaded(tmp_path, days=3).expires_in_s == pytest.approx(3 * 86_400, abs=60)
    expired = loaded(tmp_path, days=-1)
    assert (expired.validity.expired, expired.expires_in_s) == (True, 0.0)


async def test_a_handshake_has_a_time(make_world, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HANDSHAKE_S", 0.05)
    async with served(make_world().app, loaded(tmp_path)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_who_has_not_finished_a_handshake_counts_as_a_connection(make_world, tmp_path):
    shared = Connections(4, time.monotonic, time.time, share=9.0)
    async with served(make_world().app, loaded(tmp_path), shared) as port, contextlib.AsyncExitStack() as open_:
        waiting = [await silent(open_, port) for _ in range(4)]
        while shared._by_site.get("127.0.0.1") != 4:
            await asyncio.sleep(0)
        reader = await silent(open_, port)
        assert await asyncio.wait_for(reader.read(), 5) == b"", "hung up on at once"
        assert shared.turned_away == 1
        assert shared.full, "it may have been an agent's"
        await waiting[0].gone()
        while shared._by_site.get("127.0.0.1") != 3:
            await asyncio.sleep(0)
        assert (await asked(port))[1].startswith(b"HTTP/1.1 200 "), "there is room for one"
    assert shared._by_site == {}


@pytest.mark.parametrize("encrypted", [False, True])
def test_many_who_come_back_at_once_are_accepted_in_few_turns_of_the_loop(make_world, tmp_path, serving, encrypted):
    many = 8 * ACCEPTED
    tls = loaded(tmp_path).context if encrypted else None

    async def turns():
        shared = Connections(2 * many, time.monotonic, time.time, share=9.0)
        async with (
            serving(make_world().app, tls=tls, connections=shared) as there,
            contextlib.AsyncExitStack() as open_,
        ):
            for _ in range(many):
                open_.enter_context(socket.create_connection(("127.0.0.1", there.port)))
            count = 0
            while shared._by_site.get("127.0.0.1") != many:
                await asyncio.sleep(0)
                count += 1
            return count

    # One accepts one in a turn, without more ado; it is the daemon's.
    assert uvloop.run(turns()) <= 8 + 4


async def test_an_address_has_its_share_of_handshakes_and_each_counts_once(make_world, tmp_path):
    shared = Connections(8, time.monotonic, time.time, share=0.5, has_agents=lambda _: False)
    async with served(make_world().app, loaded(tmp_path), shared) as port, contextlib.AsyncExitStack() as open_:
        for _ in range(3):
            await silent(open_, port)
        while shared._by_site.get("127.0.0.1") != 3:
            await asyncio.sleep(0)
        assert (await asked(port))[1].startswith(b"HTTP/1.1 200 "), "the fourth is within the share"
        while shared._by_site.get("127.0.0.1") != 3:
            await asyncio.sleep(0)
        await silent(open_, port)
        reader = await silent(open_, port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert not shared.full, "no agents are heard from there"


async def test_a_server_that_cannot_accept_anybody_any_more_ends(make_world, tmp_path, monkeypatch):
    async def broken(_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_accept", broken)
    made = server(make_world().app, Connections(100, time.monotonic, time.time), tls=loaded(tmp_path).context)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    async with asyncio.timeout(10):
        await made.serve(sockets=[listener])


class Silent:
    """A connection that sends nothing."""

    def __init__(self, reader, writer):
        self.read = reader.read
        self._writer = writer

    async def gone(self):
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def silent(open_, port):
    one = Silent(*await asyncio.open_connection("127.0.0.1", port))
    open_.push_async_callback(one.gone)
    return one


async def test_plain_http_on_its_port_is_no_request(make_world, tmp_path):
    async with served(make_world().app, loaded(tmp_path)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: w\r\n\r\n")
        assert b"200 OK" not in await asyncio.wait_for(reader.read(), 5)
        writer.close()
