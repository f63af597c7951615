"""Requests that mean another path than they say: none gets what is closed, none breaks anything."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.harness import INSTANCE, TOKEN, Daemon, free_port, new_session, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.scenario

BEAT = json.dumps({"instance_id": INSTANCE, "user_id": "trick", "session_id": new_session(), "token": TOKEN}).encode()

OUTSIDE = b"host: localhost\r\nx-forwarded-for: 203.0.113.9\r\nconnection: close\r\n"
"""Not from this machine: metrics are closed, too."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("tricks"), settings(f"http://127.0.0.1:{free_port()}"))
    daemon.start().ready(60)
    yield daemon
    assert "Traceback" not in daemon.log
    daemon.close()


def asked(daemon: Daemon, raw: bytes) -> tuple[int, bytes]:
    """The status and everything that is answered before the daemon hangs up."""
    said = b""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as one:
        with contextlib.suppress(OSError):
            one.sendall(raw)
        with contextlib.suppress(OSError):
            while piece := one.recv(65_536):
                said += piece
    return int(said[9:12] or b"0"), said


CLOSED = [
    b"/v1/../metrics",
    b"/v1/./status",
    b"/v1//status",
    b"//v1/status",
    b"//metrics",
    b"/livez/../metrics",
    b"/livez/..;/metrics",
    b"/client/../metrics",
    b"/client/%2e%2e/metrics",
    b"/client/..%2fmetrics",
    b"/client/..%5cmetrics",
    b"/client/../../../../../../etc/passwd",
    b"/client//etc/passwd",
    b"/client/core.js%00",
    b"/client/core.js/../../../ingest/auth.py",
    b"/%76%31/status",
    b"/v1%2fstatus",
    b"/v1%2Fagents",
    b"/%6detrics",
    b"/V1/status",
    b"/v1/status;x=/livez",
    b"/v1/status?/livez",
    b"/v1/status#/livez",
    b"/v1/status%00",
    b"/v1/status%00.js",
    b"/v1/status%0d%0ahost:x",
    b"/v1/status\0",
    b"/v1/status\x80",
    b"/v1/status\xc0\xaf",
    b"\\v1\\status",
    b"/v1/agents/%2e%2e/status",
    b"/v1/agents/a%2fb/c",
    b"http://localhost/v1/status",
    b"http://localhost/metrics",
    b"http://169.254.169.254/latest/meta-data/",
    b"http:///v1/status",
    b"https://localhost@169.254.169.254/metrics",
    b"metrics",
    b"*",
    b"",
    b"/%",
    b"/%zz",
    b"/" + b"a" * 9_000,
    b"/" + b"a" * 40_000,
    b"/client/" + b"../" * 3_000 + b"metrics",
    b"/livez?" + b"a=b&" * 3_000,
]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT"])
def test_no_way_of_writing_a_path_opens_what_is_closed(daemon: Daemon, method: bytes) -> None:
    found = {}
    for path in CLOSED:
        raw = method + b" " + path + b" HTTP/1.1\r\n" + OUTSIDE + b"content-length: 0\r\n\r\n"
        found[path], said = asked(daemon, raw)
        assert b"watchdog_" not in said, path
        assert b"root:" not in said, path
        assert b"uptime_s" not in said, path
    assert {status for status in found.values() if not 400 <= status < 500} == set(), found


BEATS = {
    b"/v1/heartbeat": 200,
    b"/v1/heartbeat?x=/v1/status": 200,
    b"http://elsewhere.example/v1/heartbeat": 200,
    b"/v1%2fheartbeat": 200,
    b"//v1/heartbeat": 404,
    b"/v1//heartbeat": 404,
    b"/v1/heartbeat/": 404,
    b"/v1/heartbeat/../heartbeat": 404,
    b"/v1/heartbeat%00": 404,
    b"/v1/heartbeat%ff": 404,
    b"/V1/heartbeat": 404,
}


@pytest.mark.parametrize("path", BEATS, ids=repr)
def test_a_heartbeat_is_taken_on_its_path_and_nowhere_else(daemon: Daemon, path: bytes) -> None:
    head = b"content-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(BEAT)
    status, said = asked(daemon, b"POST " + path + b" HTTP/1.1\r\n" + OUTSIDE + head + BEAT)
    assert status == BEATS[path], said


POST = b"POST /v1/heartbeat HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\n"

NEXT = b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BEAT), BEAT) + NEXT
"""Whatever is refused with these is taken if it is read as they mean it."""

REFUSED = {
    "a tunnel": b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost:443\r\n\r\n",
    "a tunnel to metadata": b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a trace": b"TRACE /v1/status HTTP/1.1\r\n" + OUTSIDE + b"\r\n",
    "everything": b"OPTIONS * HTTP/1.1\r\n" + OUTSIDE + b"\r\n",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two names": b"GET /metrics HTTP/1.1\r\nhost: elsewhere.example\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    "a zero byte in a header": b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nx: \0\r\n\r\n",
    "a blank before a colon": b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for : 10.0.0.1\r\n\r\n",
    "a folded header": b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nx:\r\n\0y: z\r\n\r\n",
    "two lengths": POST + b"content-length: 2\r\ncontent-length: 30\r\n\r\n{}",
    "a length and chunks": POST + b"content-length: 4\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/status HTTP/1.1\r\n\r\n",
    "an encoding nobody knows": POST + b"transfer-encoding: xchunked\r\n\r\n",
    "a path of another header": b"GET /livez/x HTTP/1.1\r\n" + OUTSIDE + b"x-original-url: /metrics\r\n\r\n",
    "no name": POST.replace(b"host: localhost\r\n", b"") + b"content-length: %d\r\n\r\n" % len(BEAT) + BEAT,
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/1.2": b"GET /livez HTTP/1.2\r\nhost: localhost\r\n\r\n",
    "HTTP/2.0 in words": b"GET /livez HTTP/2.0\r\nhost: localhost\r\n\r\n",
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"transfer-encoding: chunked\r\n\r\n" + CHUNKS,
    "chunks that are packed": POST + b"transfer-encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "chunks of an old kind": POST + b"transfer-encoding: identity, chunked\r\n\r\n" + CHUNKS,
    "chunks at last no chunks": POST + b"transfer-encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "chunks twice": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS,
    "chunks behind a vertical tab": POST + b"transfer-encoding:\x0bchunked\r\n\r\n" + CHUNKS,
    "chunks behind a blank": POST + b"transfer-encoding : chunked\r\n\r\n" + CHUNKS,
    "chunks, and a length": POST + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n" + CHUNKS,
    "a chunk with two lines": POST + b"transfer-encoding: chunked\r\n\r\n2;x\ny\r\n{}\r\n0\r\n\r\n" + NEXT,
    "a chunk of too many digits": POST + b"transfer-encoding: chunked\r\n\r\n1" + b"0" * 16 + b"2\r\n{}\r\n" + NEXT,
    "a chunk with a sign": POST + b"transfer-encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n" + NEXT,
    "a chunk that is longer": POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n" + NEXT,
    "a length in the trailers": POST
    + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\ncontent-length: 40\r\n\r\n"
    + NEXT,
    "a length with a sign": POST + b"content-length: +2\r\n\r\n{}" + NEXT,
    "a length twice in one": POST + b"content-length: 2, 2\r\n\r\n{}" + NEXT,
    "a length twice": POST + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}" + NEXT,
    "a length in hexadecimal": POST + b"content-length: 0x2\r\n\r\n{}" + NEXT,
    "a length of many digits": POST + b"content-length: 18446744073709551618\r\n\r\n{}" + NEXT,
    "no length at all": POST + b"content-length:\r\n\r\n{}" + NEXT,
    "a line feed alone": POST + b"x: y\nz: w\r\ncontent-length: 2\r\n\r\n{}" + NEXT,
    "a carriage return alone": POST + b"x: y\rtransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}" + NEXT,
    "a header that goes on": POST + b"x: y\r\n transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}" + NEXT,
    "only line feeds": (POST + b"content-length: 2\r\n\r\n").replace(b"\r\n", b"\n") + b"{}" + NEXT,
    "another method": b"GET /v1/status HTTP/1.1\r\n" + OUTSIDE + b"x-http-method-override: PUT\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_two_readers_would_read_differently_is_refused(daemon: Daemon, name: str) -> None:
    status, said = asked(daemon, REFUSED[name])
    assert 400 <= status < 500, said
    assert said.count(b"HTTP/1.1 ") == 1, "nothing behind it is taken for a request"
    assert b"watchdog_" not in said


METHODS = (
    *(b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"PATCH", b"DELETE", b"TRACE", b"PROPFIND", b"MKCOL", b"PURGE"),
    *(b"LINK", b"SOURCE", b"QUERY", b"M-SEARCH", b"get", b"Post", b"FOO"),
)
OPEN = {"/livez", "/readyz", "/openapi.json", "/", "/client/presence.js"}


def test_no_method_opens_what_is_closed(daemon: Daemon) -> None:
    document = daemon.client.get(f"{daemon.url}/openapi.json").json()
    paths = {*document["paths"], *OPEN, "/v1/ws", "/docs", "/redoc", "/nothing"}
    assert len(paths) > 20
    for path in sorted(paths):
        place = path.replace("{", "").replace("}", "").encode()
        for method in METHODS:
            raw = method + b" " + place + b" HTTP/1.1\r\n" + OUTSIDE + b"content-length: 0\r\n\r\n"
            status, said = asked(daemon, raw)
            if path in OPEN and method in (b"GET", b"HEAD"):
                # Nothing is ready here, as there is no Connect.
                assert status in (200, 503), (method, path, said)
            else:
                assert 400 <= status < 500, (method, path, said)
            if method == b"HEAD":
                assert said.endswith(b"\r\n\r\n"), (path, said)
            assert b"access-control-allow" not in said or path.startswith("/client/"), path
