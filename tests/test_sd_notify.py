"""What a service manager is told, over real sockets of the kind that systemd has."""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.harness import Daemon, sandbox, settings
from watchdog.sd_notify import ALIVE_S, Supervisor

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def listening(address: str) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(address)
    manager.settimeout(30)
    return manager


def heard(manager: socket.socket) -> list[str]:
    """All that has arrived and was not read yet."""
    told = []
    while select.select([manager], [], [], 0)[0]:
        told.append(manager.recv(4096).decode())
    return told


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_ready_once_then_alive_at_most_once_a_second_then_stopping(tmp_path: Path, kind: str) -> None:
    abstract = kind == "abstract"
    name = f"watchdog-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    clock = Clock()
    with listening(f"\0{name}" if abstract else name) as manager:
        supervisor = Supervisor(f"@{name}" if abstract else name, clock)
        supervisor.alive(listening=False)
        assert heard(manager) == []
        supervisor.alive(listening=True)
        supervisor.alive(listening=True)
        assert heard(manager) == ["READY=1\nWATCHDOG=1"]
        clock.now += ALIVE_S - 0.01
        supervisor.alive(listening=True)
        assert heard(manager) == []
        clock.now += 0.01
        supervisor.alive(listening=True)
        assert heard(manager) == ["WATCHDOG=1"]
        supervisor.stopping()
        assert heard(manager) == ["STOPPING=1"]
        supervisor.close()
        supervisor.close()
        supervisor.stopping()
        assert heard(manager) == []


def test_a_manager_that_is_gone_or_does_not_read_stops_nothing(tmp_path: Path) -> None:
    clock = Clock()
    for address in (None, str(tmp_path / "nobody"), "x" * 200):
        supervisor = Supervisor(address, clock)
        supervisor.alive(listening=True)
        supervisor.close()
    name = str(tmp_path / "notify")
    with listening(name) as manager:
        supervisor = Supervisor(name, clock)

        # More than any socket's queue takes: whoever waited for room would hang.
        def tells() -> None:
            for _ in range(2_000):
                clock.now += ALIVE_S
                supervisor.alive(listening=True)

        telling = threading.Thread(target=tells, daemon=True)
        telling.start()
        telling.join(30)
        assert not telling.is_alive()
        supervisor.close()
        assert 0 < len(heard(manager)) < 2_000


@pytest.mark.scenario
def test_a_daemon_is_ready_when_it_answers_and_alive_for_as_long_as_it_sweeps(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with listening(name) as manager, sandbox(1) as connect:
        daemon = Daemon(tmp_path, settings(connect.server.url)).start(NOTIFY_SOCKET=name, WATCHDOG_USEC="60000000")
        try:
            assert manager.recv(4096) == b"READY=1\nWATCHDOG=1"
            assert daemon.get("/readyz") == 200
            assert manager.recv(4096) == b"WATCHDOG=1"
            assert daemon.stop() == 0
            assert heard(manager)[-1] == "STOPPING=1"
        finally:
            daemon.close()
