"""Nothing leaves later than it may, however slow the way to AWS is; and calls that hang delay nobody else's.

Real sockets on the loopback: a server that withholds its part of the TLS handshake, or its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from watchdog.connect.api import Instance
from watchdog.connect.boto import BotoConfig, BotoConnect
from watchdog.connect.prompt import Prompt
from watchdog.core.model import Boot, Epoch, Instant
from watchdog.errors import CallAborted, ConnectUnavailable

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def now() -> Instant:
    return Instant(Boot(time.monotonic()), Epoch(time.time()), "boot")


class Server:
    """Accepts at once, begins the handshake when it may, and answers every request when it may."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self.handshake, self.answer = threading.Event(), threading.Event()
        self.accepted = 0
        self.requests: list[bytes] = []
        self.open: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://localhost:{self.listener.getsockname()[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.accepted += 1
                self.open.append(connection)
                self.threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self.threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        self.handshake.wait()
        with contextlib.suppress(OSError):
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
                self.open.append(connection)
            stream = connection.makefile("rb")
            while head := stream.readline():
                while (line := stream.readline()) not in (b"\r\n", b""):
                    head += line
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                self.requests.append(head + stream.read(int(length[1]) if length else 0))
                self.answer.wait()
                connection.sendall(OK)

    def close(self) -> None:
        self.handshake.set()
        self.answer.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self.threads:
            thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def servers(certificate, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    made = []

    def serve(*, tls=False):
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        made.append(Server(context))
        monkeypatch.setenv("AWS_ENDPOINT_URL_CONNECT", made[-1].url)
        return made[-1]

    yield serve
    for each in made:
        each.close()


async def until(happened):
    """Lets the server's threads go on until something has happened."""
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.to_thread(threading.Event().wait, 0.005)


async def test_a_handshake_that_outlasts_the_re_check_sends_nothing_and_leaves_a_warm_connection(servers):
    server = servers(tls=True)
    server.answer.set()
    connect = BotoConnect([Instance("i", "us-east-1")], now)
    not_after = Boot(now().boot + 0.25)
    call = asyncio.create_task(connect.put_user_status("i", "anna", "offline", not_after))
    await until(lambda: server.accepted and now().boot > not_after)
    server.handshake.set()
    with pytest.raises(CallAborted):
        await call
    assert server.requests == []
    # The next attempt finds the connection made: it needs no handshake within its 250 ms.
    await connect.put_user_status("i", "anna", "offline", Boot(now().boot + 5))
    assert len(server.requests) == 1
    assert b"/users/i/anna/status" in server.requests[0]
    assert server.accepted == 1
    # Nothing of the limit is left behind, and the connection serves on.
    await connect.put_user_status("i", "anna", "offline", Boot(now().boot + 5))
    assert server.accepted == 1
    assert await connect.close(5)


async def test_a_connection_that_the_other_side_has_closed_is_made_anew(servers):
    server = servers(tls=True)
    server.handshake.set()
    server.answer.set()
    connect = BotoConnect([Instance("i", "us-east-1")], now)
    await connect.put_user_status("i", "anna", "offline", Boot(now().boot + 5))
    server.open[-1].shutdown(socket.SHUT_RDWR)
    await connect.put_user_status("i", "anna", "offline", Boot(now().boot + 5))
    assert len(server.requests) == server.accepted == 2
    assert await connect.close(5)


def test_a_limit_ends_with_its_call():
    prompt = Prompt(now)
    with pytest.raises(CallAborted, match="250 ms"), prompt.limit(Boot(now().boot - 1)):
        prompt.check()
    prompt.check()
    assert not prompt.late
    with pytest.raises(ZeroDivisionError), prompt.limit(Boot(now().boot + 60)):
        raise ZeroDivisionError


async def test_many_late_calls_leave_no_more_connections_than_threads(servers, caplog):
    server = servers(tls=True)
    server.answer.set()
    server.handshake.set()
    connect = BotoConnect([Instance("i", "us-east-1")], now, BotoConfig(threads=2))
    for _ in range(6):
        calls = [connect.put_user_status("i", "anna", "offline", Boot(now().boot - 1)) for _ in range(4)]
        assert {type(each) for each in await asyncio.gather(*calls, return_exceptions=True)} == {CallAborted}
    assert server.requests == []
    assert server.accepted <= 2
    await connect.put_user_status("i", "anna", "offline", Boot(now().boot + 5))
    assert server.accepted <= 2
    assert "pool is full" not in caplog.text
    assert await connect.close(5)


async def test_a_handshake_that_never_comes_is_nothing_that_was_applied(servers):
    server = servers(tls=True)
    connect = BotoConnect([Instance("i", "us-east-1")], now, BotoConfig(connect_timeout_s=0.05))
    with pytest.raises(ConnectUnavailable) as caught:
        await connect.put_user_status("i", "anna", "offline", Boot(now().boot + 5))
    assert not caught.value.maybe_applied
    assert server.requests == []
    assert await connect.close(5)


class Tunnel(Server):
    """A proxy that answers CONNECT when it may, and then passes everything on."""

    to = 0

    def _serve(self, connection: socket.socket) -> None:
        while not (data := connection.recv(65536)).endswith(b"\r\n\r\n"):
            pass
        self.requests.append(data)
        self.answer.wait()
        with contextlib.suppress(OSError):
            beyond = socket.create_connection(("127.0.0.1", self.to))
            self.open.append(beyond)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            self.threads.append(threading.Thread(target=self._pass_on, args=(beyond, connection)))
            self.threads[-1].start()
            self._pass_on(connection, beyond)

    def _pass_on(self, begin: socket.socket, end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := begin.recv(65536):
                end.sendall(data)
            end.shutdown(socket.SHUT_WR)


async def test_a_proxy_that_is_slow_to_connect_counts_too(servers, monkeypatch):
    server = servers(tls=True)
    server.handshake.set()
    server.answer.set()
    tunnel = Tunnel()
    tunnel.to = server.listener.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    connect = BotoConnect([Instance("i", "us-east-1")], now)
    not_after = Boot(now().boot + 0.25)
    call = asyncio.create_task(connect.put_user_status("i", "anna", "offline", not_after))
    await until(lambda: tunnel.requests and now().boot > not_after)
    tunnel.answer.set()
    with pytest.raises(CallAborted):
        await call
    assert tunnel.requests[0].startswith(b"CONNECT localhost:")
    assert server.requests == []
    await connect.put_user_status("i", "anna", "offline", Boot(now().boot + 5))
    assert len(server.requests) == len(tunnel.requests) == 1
    assert await connect.close(5)
    tunnel.close()


async def test_an_account_whose_calls_hang_delays_no_other(servers, monkeypatch):
    hanging, fine = servers(), servers()
    for each in (hanging, fine):
        each.handshake.set()
    fine.answer.set()
    ours = Instance("ours", "us-east-1", None)
    theirs = Instance("theirs", "eu-central-1", None)
    connect = BotoConnect([ours, theirs], now, BotoConfig(threads=2))
    monkeypatch.setenv("AWS_ENDPOINT_URL_CONNECT", hanging.url)
    later = Boot(now().boot + 60)
    stuck = [asyncio.create_task(connect.put_user_status("ours", f"a{n}", "offline", later)) for n in range(6)]
    await until(lambda: len(hanging.requests) == 2)
    monkeypatch.setenv("AWS_ENDPOINT_URL_CONNECT", fine.url)
    async with asyncio.timeout(5):
        await connect.put_user_status("theirs", "anna", "offline", later)
    # At most two of the same kind wait for AWS, and reads of the same account have threads of their own.
    assert len(hanging.requests) == 2
    with contextlib.suppress(ConnectUnavailable):
        reading = asyncio.create_task(connect.current_user_data("ours", ["anna"]))
        await until(lambda: len(hanging.requests) == 3)
    assert b"/metrics/userdata/ours" in hanging.requests[2]
    hanging.answer.set()
    await asyncio.gather(*stuck, reading, return_exceptions=True)
    assert await connect.close(5)
