"""HTTPS by the real daemon: an exchange of its certificate, and those who do not finish a handshake."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.ingest.certificates import write
from tests.scenarios.harness import INSTANCE, TOKEN, Daemon, free_port, new_session, settings, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.scenario

SLOW = 100


class Https(Daemon):
    """Asked over TLS, without a look at whose certificate it is."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Https]:
    cert, key = write(tmp_path, "first")
    files = {"WATCHDOG_TLS_CERT": str(cert), "WATCHDOG_TLS_KEY": str(key)}
    client = httpx.Client(verify=False, timeout=10.0)
    daemon = Https(tmp_path, settings(f"http://127.0.0.1:{free_port()}", **files), client=client)
    daemon.start().ready(60)
    yield daemon
    daemon.close()


def shown(daemon: Daemon) -> bytes:
    """The certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as greeted,
    ):
        found = greeted.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_agents_beat_over_tls_and_go_on_while_the_certificate_is_exchanged(daemon: Https, tmp_path: Path) -> None:
    session = new_session()
    first = daemon.beat("user", session)
    assert first.json()["state"] == "live"
    assert first.headers["strict-transport-security"] == "max-age=31536000"
    before = shown(daemon)
    write(tmp_path, "second")

    def exchanged() -> bool:
        assert daemon.beat("user", session).json()["state"] == "live", "over the connection that was there"
        return shown(daemon) != before

    until(exchanged, "the new one is shown", 30, 0.2)
    assert shown(daemon) == ssl.PEM_cert_to_DER_cert((tmp_path / "tls.crt").read_text())
    assert daemon.events("tls.loaded")


def test_who_does_not_finish_a_handshake_is_hung_up_on_and_nobody_notices(daemon: Https) -> None:
    session = new_session()
    with contextlib.ExitStack() as held:
        slow = [held.enter_context(socket.create_connection(("127.0.0.1", daemon.port))) for _ in range(SLOW)]
        for number, each in enumerate(slow):
            # Nothing, a part of a greeting, or no TLS at all.
            each.sendall((b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n")[number % 3])
        begun = time.monotonic()
        assert daemon.beat("user", session).json()["state"] == "live"
        for each in slow:
            each.settimeout(30)
            with contextlib.suppress(ConnectionError):
                while each.recv(4096):
                    pass
        assert time.monotonic() - begun < 25
        assert daemon.beat("user", session).json()["state"] == "live"
    assert "Traceback" not in daemon.log
    body = {"instance_id": INSTANCE, "user_id": "user", "session_id": session}
    with pytest.raises(httpx.HTTPError):
        httpx.post(daemon.url.replace("https", "http") + "/v1/heartbeat", json=body, headers={"x": TOKEN})
