"""Several daemons over one real server, behind a real HAProxy, as a deployment has them."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.contract import redis_server
from tests.scenarios.harness import Daemon, settings, until
from tests.scenarios.stories import STARTING, TIMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.redis_server import RedisServer
    from tests.scenarios.crowd import Crowd
    from tests.scenarios.stories import Stage

CONFIGURATION = """
global
    stats socket {folder}/admin level admin
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 10s
    timeout http-keep-alive 60s
frontend agents
    bind 127.0.0.1:{port}
    default_backend daemons
backend daemons
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    option redispatch
    retries 1
{servers}
"""
PLACES = 6

SELDOM_S = 5.0
SELDOM = {"WATCHDOG_HEARTBEAT_INTERVAL": "5", "WATCHDOG_SESSION_TTL": "20", "WATCHDOG_THROTTLED_SESSION_TTL": "25"}
"""For 2,000 agents who are played by one process: 400 heartbeats a second."""


@dataclass
class Fleet:
    """The daemons.

    Attributes:
        stage: Has the stand-in of Connect.
        server: Of the store.
        port: Of the load balancer.
        ports: Where daemons may listen.
        daemons: Those that were started, by place.
        settings: Of all of them, besides the usual ones.
    """

    stage: Stage
    server: RedisServer
    port: int
    ports: list[int]
    daemons: dict[int, Daemon] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def start(self, place: int, store: str | None = None) -> Daemon:
        folder = self.stage.folder / f"daemon-{place}-{time.monotonic_ns()}"
        folder.mkdir()
        daemon = Daemon(
            folder,
            settings(self.stage.connect.server.url),
            port=self.ports[place],
            client=httpx.Client(timeout=30.0),
        )
        daemon.env["WATCHDOG_STORE"] = store or f"valkey://127.0.0.1:{self.server.port}/0"
        with STARTING:
            daemon.start(**{**TIMES, **self.settings}).ready(60)
            until(lambda: daemon.ask("/v1/status")["instances"][0]["target"], "the statuses are listed", 60)
        if place in self.daemons:
            self.daemons[place].close()
        self.daemons[place] = daemon
        return daemon

    def stop(self, place: int) -> None:
        assert self.daemons[place].stop(20) == 0, self.daemons[place].log
        self.daemons.pop(place).close()

    def kill(self, place: int) -> None:
        self.daemons[place].kill()
        self.daemons.pop(place).close()

    def signal(self, place: int, number: signal.Signals) -> None:
        process = self.daemons[place].process
        assert process is not None
        os.kill(process.pid, number)

    @property
    def any(self) -> Daemon:
        return next(iter(self.daemons.values()))

    def status(self) -> dict[str, Any]:
        """As one of them tells it; empty while it does not."""
        with contextlib.suppress(httpx.TransportError, AssertionError):
            found: dict[str, Any] = self.any.ask("/v1/status")
            return found
        return {}

    def even(self) -> None:
        """Waits until all parts are shared evenly, and the clock goes on."""

        def is_even() -> bool:
            status = self.status()
            held = sorted(len(each["parts"]) for each in status.get("replicas", ()))
            return (
                len(held) == len(self.daemons)
                and sum(held) == 16
                and held[-1] - held[0] <= 1
                and status["clock"]["standing"] is None
            )

        until(is_even, "the parts are shared evenly, and the clock goes on", 90)

    def all_live(self, count: int) -> None:
        until(lambda: self.status().get("agents", {}).get("live") == count, f"{count} are live", 90)

    def ghosts_are_caught(self, ghosts: list[str], since: float, what: str, limit_s: float = 90) -> None:
        """Waits until each ghost is set, and sees that each was set once; tells how long it took."""
        connect = self.stage.connect
        until(lambda: all(connect.status(user) == "Offline" for user in ghosts), "all ghosts are set", limit_s, 0.05)
        print(f"{what}: {len(ghosts)} ghosts set {time.monotonic() - since:.1f} s after they fell silent")
        counted = [len(connect.writes(user)) for user in ghosts]
        assert counted == [1] * len(ghosts), counted

    def nobody_was_touched(self, present: list[str]) -> None:
        self.stage.nobody_was_touched(present)


def _own_port() -> int:
    """A port that no connection to somebody else has as its own: those begin at 32,768."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def fleet(stage: Stage, count: int = 3, **changes: str) -> Iterator[Fleet]:
    """So many daemons, and a load balancer in front of them."""
    program = shutil.which("haproxy")
    if program is None:
        assert "CI" not in os.environ, "haproxy is not installed (TEST_PACKAGES in the Makefile)"
        pytest.skip("no haproxy here: `make test` installs it")
    folder = stage.folder / "redis"
    folder.mkdir()
    ports, port = [_own_port() for _ in range(PLACES)], _own_port()
    with redis_server.running(folder) as server, _balanced(program, stage.folder, port, ports):
        made = Fleet(stage, server, port, ports, settings=changes)
        try:
            for place in range(count):
                made.start(place)
            made.even()
            yield made
        except BaseException as error:
            for place, daemon in made.daemons.items():
                error.add_note(f"--- daemon {place}\n" + "\n".join(daemon.log.splitlines()[-25:]))
            raise
        finally:
            for daemon in made.daemons.values():
                if daemon.process is not None and daemon.process.poll() is None:
                    daemon.process.send_signal(signal.SIGCONT)
                daemon.close()


@contextlib.contextmanager
def _balanced(program: str, folder: Path, port: int, ports: list[int]) -> Iterator[None]:
    servers = "\n".join(
        f"    server d{at} 127.0.0.1:{to} check inter 200ms fall 2 rise 1" for at, to in enumerate(ports)
    )
    path = folder / "haproxy.cfg"
    path.write_text(CONFIGURATION.format(folder=folder, port=port, servers=servers), encoding="utf-8")
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([program, "-db", "-f", str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def begin(crowd: Crowd, made: Fleet, ghosts: list[str], count: int) -> float:
    """All are live; then some fall silent. Returns when."""
    made.all_live(count)
    for ghost in ghosts:
        crowd.leave(ghost)
    return time.monotonic()
