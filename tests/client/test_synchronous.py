"""The client for programs with threads, in real time, against a server on this machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from watchdog.client import Notice, PresenceClient, State, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIVE = {"state": "live", "next_ms": 500, "ticket": "t1"}
AGENT = "i/u"
ROOT = __file__.rpartition("/tests/")[0]


class Server(ThreadingHTTPServer):
    """Answers heartbeats as it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.came = threading.Condition()
        self.answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]] = self.live

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(handler) -> None:  # noqa: N805
                fields = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
                with self.came:
                    self.posted.append(fields)
                    self.came.notify_all()
                status, data = self.answer(fields)
                body = b"" if status == 204 else json.dumps(data).encode()
                handler.send_response(status)
                if status != 204:
                    handler.send_header("content-length", str(len(body)))
                handler.end_headers()
                with contextlib.suppress(OSError):  # nobody waits for it any more
                    handler.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @staticmethod
    def live(fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return (204, {}) if fields["type"] == "bye" else (200, LIVE)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def said(self) -> list[str]:
        return [fields["type"] for fields in self.posted]

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.came:
            assert self.came.wait_for(condition, 10), self.said


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_hello_beats_and_a_bye_and_every_status_is_told_before_the_end(server) -> None:
    told: list[str] = []
    with PresenceClient(server.url, AGENT, token="a", on_status=lambda status: told.append(status.state)) as presence:
        assert presence.wait_until_live(5)
        assert presence.session_id == server.posted[0]["session_id"]
        server.wait(lambda: len(server.posted) >= 3)
    assert (server.said[0], server.said[-1], set(server.said[1:-1])) == ("hello", "bye", {"beat"})
    assert told == ["live", "ended"]
    assert presence.status == Status(State.ENDED)
    presence.kick()
    presence.close()
    with pytest.raises(RuntimeError, match="one session"):
        presence.__enter__()


def test_callbacks_that_block_or_fail_hold_up_neither_heartbeats_nor_waiting_nor_the_end(server, caplog) -> None:
    go_on = threading.Event()
    notice = {"status": "Offline", "set_at": "2026-01-31T12:00:00Z", "why": "All closed.", "restored": None}
    server.answer = lambda _: (200, {**LIVE, "notice": notice})
    heard: list[Notice] = []

    def on_status(_: Status) -> None:
        go_on.wait(20)
        raise RuntimeError("after a while")

    with PresenceClient(server.url, AGENT, on_status=on_status, on_notice=heard.append) as presence:
        assert presence.wait_until_live(5)
        server.wait(lambda: len(server.posted) >= 4)
        go_on.set()
    assert len(heard) == 1
    assert caplog.text.count("a callback failed") == 2


def test_a_token_function_may_block_and_does_so_in_a_thread_of_its_own(server) -> None:
    go_on, threads = threading.Event(), []
    tokens = iter(["first", "second"])

    def token() -> str:
        threads.append(threading.current_thread().name)
        if len(threads) == 2:
            go_on.wait(20)
        return next(tokens)

    def answer(fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if fields["type"] == "bye":
            return 204, {}
        refused = fields["type"] == "beat" and fields.get("ticket") != "t2"
        if refused and fields.get("token") == "second":
            return 200, {**LIVE, "ticket": "t2"}
        return (401, {"detail": "expired"}) if refused else server.live(fields)

    server.answer = answer
    with PresenceClient(server.url, AGENT, token=token) as presence:
        assert presence.wait_until_live(5)
        # It is refused, asks, and tries again while the function blocks.
        server.wait(lambda: len(server.posted) >= 3)
        assert presence.status.state is State.UNAUTHORIZED
        go_on.set()
        assert presence.wait_until_live(5)
    assert threads == ["watchdog-token"] * 2
    assert server.posted[0]["token"] == "first"


def test_a_token_function_that_fails_is_told_and_the_hello_goes_without(server, caplog) -> None:
    nothing: Iterator[str] = iter([])
    with PresenceClient(server.url, AGENT, token=lambda: next(nothing)) as presence:
        assert presence.wait_until_live(5)
    assert "token" not in server.posted[0]
    assert caplog.text.count("the token callback failed") == 1


@pytest.mark.parametrize("hangs", ["server", "token"])
def test_closing_takes_little_more_than_2_s_whatever_hangs(server, hangs) -> None:
    for_ever = threading.Event()
    with PresenceClient(server.url, AGENT, token="a" if hangs == "server" else lambda: str(for_ever.wait(20))) as it:
        if hangs == "server":
            assert it.wait_until_live(5)
            server.answer = lambda _: (for_ever.wait(20), (204, {}))[1]
        begun = time.monotonic()
    took = time.monotonic() - begun
    for_ever.set()
    assert took < (3 if hangs == "server" else 1)
    assert "bye" in server.said or hangs == "token"


def test_a_callback_may_close(server) -> None:
    closed = threading.Event()

    def on_status(status: Status) -> None:
        if status.state is State.LIVE:
            presence.close()
            closed.set()

    presence = PresenceClient(server.url, AGENT, on_status=on_status)
    with presence:
        assert closed.wait(5)
    server.wait(lambda: server.said[-1] == "bye")
    assert presence.wait_until_live(1) is False


def test_a_client_stops_is_resumed_and_kicked(server) -> None:
    stopped = threading.Event()
    server.answer = lambda _: (200, {"state": "stop"})
    with PresenceClient(
        server.url, AGENT, on_status=lambda status: stopped.set() if status.state is State.STOPPED else None
    ) as presence:
        assert stopped.wait(5)
        server.answer = lambda fields: (200, {**LIVE, "next_ms": 60_000}) if fields["type"] != "bye" else (204, {})
        presence.set(login=True, visibility="visible")
        presence.resume()
        server.wait(lambda: len(server.posted) >= 2)
        assert presence.wait_until_live(5)
    assert (server.said[:2], server.posted[1]["incarnation"], server.posted[1]["login"]) == (["hello"] * 2, 1, True)


def test_a_program_that_forgets_to_close_ends_all_the_same(server) -> None:
    program = (
        "from watchdog.client import PresenceClient\n"
        f"presence = PresenceClient({server.url!r}, 'i/u').__enter__()\n"
        "assert presence.wait_until_live(10)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=30, check=True)
    assert "hello" in server.said


def test_importing_the_client_loads_nothing_of_the_daemon() -> None:
    program = "import sys, watchdog.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, timeout=30, check=True, capture_output=True, text=True
    )
    loaded = done.stdout.split()
    ours = {name for name in loaded if name.partition(".")[0] == "watchdog"}
    assert "watchdog.client" in ours
    assert {name for name in ours if not name.startswith("watchdog.client")} == {"watchdog"}
    heavy = {
        "apscheduler",
        "boto3",
        "botocore",
        "fastapi",
        "moto",
        "orjson",
        "pydantic",
        "structlog",
        "typer",
        "uvicorn",
    }
    assert not heavy & set(loaded)
