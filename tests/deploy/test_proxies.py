"""The proxies of deploy/compose in front of a real daemon, and in front of one who writes down what it is sent."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.sync.client import connect

from tests.ingest.certificates import write
from tests.scenarios.harness import INSTANCE, TOKEN, Daemon, free_port, new_session, sandbox, settings, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.scenario

CONFIGURED = Path(__file__).parents[2] / "deploy" / "compose"


def command(name: str) -> str:
    found = shutil.which(name)
    if found is None and "CI" not in os.environ:
        pytest.skip(f"no {name} here")
    assert found, f"no {name} here"
    return found


@contextlib.contextmanager
def running(line: list[str], env: dict[str, str], folder: Path, port: int) -> Iterator[str]:
    """A proxy, until it listens; its address without a scheme."""
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(line, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:

        def listens() -> bool:
            assert process.poll() is None, (folder / "proxy.log").read_text()
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/")
                return True
            return False

        until(listens, "the proxy listens")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def caddy(folder: Path, upstream: int) -> Iterator[str]:
    port = free_port()
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    env |= {"SITE": f"http://127.0.0.1:{port}", "UPSTREAM": f"127.0.0.1:{upstream}"}
    line = [command("caddy"), "run", "--adapter", "caddyfile", "--config", str(CONFIGURED / "Caddyfile")]
    with running(line, env, folder, port) as address:
        yield address


@contextlib.contextmanager
def haproxy(folder: Path, upstream: int) -> Iterator[str]:
    program, port = command("haproxy"), free_port()
    cert, key = write(folder, "watchdog.example.com")
    (folder / "watchdog.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    text = (CONFIGURED / "haproxy.cfg").read_text(encoding="utf-8")
    for had, gets in (
        ("/etc/haproxy/watchdog.pem", str(folder / "watchdog.pem")),
        ("bind :443 ", f"bind 127.0.0.1:{free_port()} "),
        ("bind :80", f"bind 127.0.0.1:{port}"),
        ("127.0.0.1:8080", f"127.0.0.1:{upstream}"),
        # The story is told without TLS.
        ("    http-request redirect scheme https unless { ssl_fc }\n", ""),
    ):
        assert had in text
        text = text.replace(had, gets)
    (folder / "haproxy.cfg").write_text(text)
    with running([program, "-db", "-f", "haproxy.cfg"], {"PATH": os.environ["PATH"]}, folder, port) as address:
        yield address


@pytest.mark.parametrize("proxy", [caddy, haproxy], ids=lambda each: each.__name__)
def test_heartbeats_and_a_websocket_go_through(tmp_path, proxy):
    with sandbox(2) as stand_in:
        changes = {"WATCHDOG_TRUSTED_PROXIES": "127.0.0.1/32"}
        daemon = Daemon(tmp_path, settings(stand_in.server.url, **changes)).start().ready()
        anna, ben = stand_in.users
        try:
            with proxy(tmp_path, daemon.port) as address:
                body = {"instance_id": INSTANCE, "user_id": anna, "session_id": new_session()}
                headers = {"Authorization": f"Bearer {TOKEN}"}

                def beats() -> bool:
                    return httpx.post(f"http://{address}/v1/heartbeat", json=body, headers=headers).status_code == 200

                # HAProxy may not have looked at the daemon yet.
                until(beats, "a heartbeat goes through")
                with connect(f"ws://{address}/v1/ws", subprotocols=["watchdog.v1"]) as socket:
                    hello = {"instance_id": INSTANCE, "user_id": ben, "session_id": new_session(), "type": "hello"}
                    socket.send(json.dumps(hello | {"token": TOKEN}))
                    assert json.loads(socket.recv(10))["state"] == "live"
                assert httpx.get(f"http://{address}/client/presence.js").status_code == 200
                # From this machine it would be open: but who asks through a proxy is somebody else.
                assert httpx.get(f"http://{address}/metrics").status_code == 401
            assert daemon.stop() == 0
        finally:
            daemon.close()


@pytest.mark.parametrize("proxy", [caddy, haproxy], ids=lambda each: each.__name__)
def test_what_clients_say_of_their_address_is_dropped(tmp_path, proxy):
    heard: list[list[str]] = []

    class Upstream(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path == "/asked":
                heard.append(self.headers.get_all("X-Forwarded-For"))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with proxy(tmp_path, server.server_port) as address:
                spoofed = {"X-Forwarded-For": "203.0.113.7"}

                def answered() -> bool:
                    return httpx.get(f"http://{address}/asked", headers=spoofed).status_code == 200

                until(answered, "an answer")
        finally:
            server.shutdown()
    assert heard == [["127.0.0.1"]]
