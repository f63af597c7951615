"""Whoever floods the daemon fills no memory, and an agent who is known does not notice."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import select
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
import pytest

from tests.scenarios.harness import INSTANCE, TOKEN, Daemon, free_port, new_session, settings, until
from watchdog.ingest.bodies import OF_ONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.scenario, pytest.mark.serial]

MIB = 1024 * 1024

MARGIN = 48 * MIB
"""What the allocator may keep of the largest flood that is allowed."""

PATIENCE_S = 2.0
"""For one heartbeat of the known agent: far above what it takes, for a machine that does other things, too."""

HEAD = b"POST /v1/heartbeat HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("floods"), settings(f"http://127.0.0.1:{free_port()}"))
    daemon.start(WATCHDOG_MAX_AGENTS="20000", WATCHDOG_SESSION_TTL="30", WATCHDOG_THROTTLED_SESSION_TTL="30").ready(60)
    yield daemon
    daemon.close()


def rss(daemon: Daemon) -> int:
    """Bytes of memory that the daemon has."""
    assert daemon.process is not None
    pages = int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Known:
    """An agent who beats all the time; each beat has to be answered."""

    def __init__(self, daemon: Daemon) -> None:
        self.took: list[float] = []
        self.refused: list[int] = []
        self._daemon = daemon
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.took, "the first beat")
        return self

    def __exit__(self, *_: object) -> None:
        count = len(self.took)
        until(lambda: len(self.took) > count, "a beat after the flood")
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        session = new_session()
        body = {"instance_id": INSTANCE, "user_id": "known", "session_id": session}
        with httpx.Client(timeout=10.0, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            while not self._stop.wait(0.02):
                begun = time.monotonic()
                answer = client.post(f"{self._daemon.url}/v1/heartbeat", json=body)
                if answer.status_code != 200 or answer.json()["state"] != "live":
                    self.refused.append(answer.status_code)
                self.took.append(time.monotonic() - begun)


@contextlib.contextmanager
def flooded(daemon: Daemon, name: str, bound: int = MARGIN) -> Iterator[None]:
    """What happens inside costs no more memory than this, and the known agent is served meanwhile."""
    with Known(daemon) as known:
        before = rss(daemon)
        yield
        after = rss(daemon)
    took = sorted(known.took)
    worst = took[int(len(took) * 0.99)]
    print(
        f"{name}: {(after - before) / MIB:+.1f} MiB of {before / MIB:.0f}; {len(took)} beats, p99 {worst * 1000:.0f} ms"
    )
    assert known.refused == []
    assert worst < PATIENCE_S
    assert after - before < bound
    assert daemon.ask("/v1/status")["clock"]["standing"] is None


def connected(daemon: Daemon) -> socket.socket:
    return socket.create_connection(("127.0.0.1", daemon.port), timeout=10)


def poured(daemon: Daemon, first: bytes, pieces: Callable[[int], bytes], size: int) -> tuple[int, bytes]:
    """Sends until the daemon hangs up; gives how much it took, and what it said."""
    sent, said = 0, b""
    with connected(daemon) as one:
        with contextlib.suppress(OSError):
            one.sendall(first)
            while sent < size:
                piece = pieces(sent)
                one.sendall(piece)
                sent += len(piece)
        with contextlib.suppress(OSError):
            said = one.recv(4096)
    return sent, said


@pytest.mark.long
def test_five_hundred_requests_that_trickle_in(daemon: Daemon) -> None:
    with flooded(daemon, "slow loris, 500 connections"), contextlib.ExitStack() as held:
        slow = [held.enter_context(connected(daemon)) for _ in range(500)]
        for byte in HEAD[:20]:
            for each in slow:
                each.sendall(bytes([byte]))


@pytest.mark.parametrize(
    ("name", "first", "piece", "status"),
    [
        ("a header of 100 MB", HEAD + b"x: ", b"x" * 65_536, b"431"),
        ("headers of 100 MB", HEAD, b"x: y\r\n" * 10_000, b"431"),
        ("a URL of 100 MB", b"GET /", b"x" * 65_536, b"431"),
        ("trailers of 100 MB", HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"t: t\r\n" * 10_000, b"431"),
        ("a body of 100 MB", HEAD + b"content-length: 100000000\r\n\r\n", b"x" * 65_536, b"413"),
        (
            "chunks of 100 MB",
            HEAD + b"transfer-encoding: chunked\r\n\r\n",
            b"10000\r\n" + b"x" * 65_536 + b"\r\n",
            b"413",
        ),
        (
            "an order of 100 MB",
            b"PUT /v1/brake HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
            b"10000\r\n" + b" " * 65_536 + b"\r\n",
            b"413",
        ),
    ],
)
def test_whatever_is_too_large_is_hung_up_on(
    daemon: Daemon, name: str, first: bytes, piece: bytes, status: bytes
) -> None:
    with flooded(daemon, name):
        sent, said = poured(daemon, first, lambda _: piece, 100_000_000)
    assert sent < 20 * MIB, "the rest of the sockets' buffers"
    assert said[9:12] in (status, b""), "a reset may overtake the answer"


@pytest.mark.long
@pytest.mark.parametrize(("token", "status"), [("nobody's", b"401"), (TOKEN, b"429")])
def test_a_hundred_large_batches_that_never_end(daemon: Daemon, token: str, status: bytes) -> None:
    head = b"POST /v1/heartbeats HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 4000000\r\n"
    head += b"authorization: Bearer %b\r\n\r\n" % token.encode()
    kept = 0 if token != TOKEN else OF_ONE // (2 * MIB)
    with flooded(daemon, f"2 MB each of 100 batches, {status.decode()}"), contextlib.ExitStack() as held:
        before = rss(daemon)
        all_of_them = [held.enter_context(connected(daemon)) for _ in range(100)]
        for each in all_of_them:
            each.sendall(head + b" " * (2 * MIB))

        def answered() -> list[socket.socket]:
            return select.select(all_of_them, [], [], 0)[0]

        until(lambda: len(answered()) >= 100 - kept, "all for whom there is no room are told so")
        assert {each.recv(4096, socket.MSG_PEEK)[9:12] for each in answered()} == {status}
        assert rss(daemon) - before < OF_ONE + MARGIN


def test_requests_that_wait_for_each_other(daemon: Daemon) -> None:
    one = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with flooded(daemon, "50 connections with 10,000 requests at once each"), contextlib.ExitStack() as held:
        for _ in range(50):
            each = held.enter_context(connected(daemon))
            with contextlib.suppress(OSError):
                each.sendall(one * 10_000)


def test_a_packed_body(daemon: Daemon) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    headers = {"content-encoding": "gzip", "content-type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    with flooded(daemon, "a zip bomb of 100 MB"):
        for path in ("/v1/heartbeat", "/v1/heartbeats"):
            answer = daemon.client.post(f"{daemon.url}{path}", content=bomb[:4000], headers=headers)
            assert answer.status_code == 415


HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"sec-websocket-protocol: watchdog.v1\r\n\r\n"
)

FRAMES = {
    "pings": b"\x89\x80\0\0\0\0",
    "empty fragments": b"\x01\x80\0\0\0\0" + b"\0\x80\0\0\0\0" * 10_000,
    "messages of 4 KiB": b"\x81\xfe\x10\x00\0\0\0\0" + b"x" * 4096,
    "one message of 100 MB": b"\x81\xff" + (100_000_000).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 65_536,
    "no frames": b"\xff" * 1000,
}


def socket_opened(daemon: Daemon) -> socket.socket:
    one = connected(daemon)
    one.sendall(HANDSHAKE)
    assert one.recv(4096).startswith(b"HTTP/1.1 101 ")
    return one


@pytest.mark.parametrize("kind", FRAMES)
def test_sockets_that_flood_are_closed(daemon: Daemon, kind: str) -> None:
    piece = FRAMES[kind] * max(1, 65_536 // len(FRAMES[kind]))
    sent = []
    with flooded(daemon, f"200 sockets with {kind}"):
        for _ in range(200):
            with socket_opened(daemon) as one:
                one.settimeout(10)
                pieces = 0
                # 30 MB: had nobody hung up, they would all be taken.
                with contextlib.suppress(ConnectionError):
                    while pieces < 500:
                        one.sendall(piece)
                        pieces += 1
                sent.append(pieces)
    assert max(sent) < 400, "the rest of the sockets' buffers"
    until(lambda: sockets(daemon) == 0, "none is left")


@pytest.mark.long
def test_five_hundred_sockets_that_say_nothing_are_closed(daemon: Daemon) -> None:
    with flooded(daemon, "500 sockets without a hello"), contextlib.ExitStack() as held:
        for _ in range(500):
            held.enter_context(socket_opened(daemon))
        assert sockets(daemon) == 500
        until(lambda: sockets(daemon) == 0, "all are closed")


def sockets(daemon: Daemon) -> int:
    """How many are open."""
    text = daemon.client.get(f"{daemon.url}/metrics").text
    return int(float(re.search(r"^watchdog_sockets (\S+)", text, re.MULTILINE)[1]))


def batch(users: list[str]) -> list[dict[str, str]]:
    return [{"instance_id": INSTANCE, "user_id": user, "session_id": new_session()} for user in users]


@pytest.mark.long
def test_a_hundred_thousand_sessions_of_one_agent(daemon: Daemon) -> None:
    with flooded(daemon, "100,000 sessions of one agent"):
        for _ in range(100):
            answer = daemon.client.post(
                f"{daemon.url}/v1/heartbeats",
                json={"heartbeats": batch(["many"] * 1000)},
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=30,
            )
            assert answer.status_code == 200
    (agent,) = daemon.ask("/v1/agents?q=many")["agents"]
    assert len(agent["sessions"]) <= 32


@pytest.mark.long
def test_a_hundred_thousand_agents_that_nobody_knows(daemon: Daemon) -> None:
    accepted = 0
    with flooded(daemon, "100,000 unknown agents, 20,000 allowed", 160 * MIB):
        for hundred in range(100):
            answer = daemon.client.post(
                f"{daemon.url}/v1/heartbeats",
                json={"heartbeats": batch([f"u-{hundred}-{number}" for number in range(1000)])},
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=30,
            )
            assert answer.status_code == 200
            accepted += answer.json()["accepted"]
    assert accepted <= 21_000
    assert "agents_full" in [problem["code"] for problem in daemon.ask("/v1/status")["problems"]]
