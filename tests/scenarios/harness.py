"""Real processes over real sockets: a stand-in of Connect, the daemon, and clients that speak HTTP to it.

Waiting is for conditions, with a limit; nothing here sleeps for a fixed time and hopes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import httpx

from watchdog.sandbox.seed import seed
from watchdog.sandbox.server import SandboxServer, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from watchdog.sandbox.model import ConnectModel

INSTANCE = "11111111-2222-3333-4444-555555555555"
TOKEN = "heartbeat-token-of-the-tests"
ADMIN = "admin-token-of-the-tests"
ROOT = Path(__file__).parents[2]

SHORT = {
    "WATCHDOG_HEARTBEAT_INTERVAL": "0.5",
    "WATCHDOG_SESSION_TTL": "2",
    "WATCHDOG_THROTTLED_SESSION_TTL": "4",
    "WATCHDOG_SESSION_END_TIMER": "1",
    "WATCHDOG_RESUME_GRACE": "0.5",
    "WATCHDOG_CONNECT_RATE": "50",
    "WATCHDOG_CONNECT_BURST": "50",
    # These stories let many of a few agents vanish at once; the brake has stories of its own.
    "WATCHDOG_BRAKE_MIN_AGENTS": "1000",
}

PATIENT = {"WATCHDOG_SESSION_TTL": "6", "WATCHDOG_THROTTLED_SESSION_TTL": "8"}
"""For those who beat beside other tests: nobody is due because the machine was busy for some seconds."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], Any], what: str, limit_s: float = 60.0, pause_s: float = 0.02) -> Any:
    """Asks again and again until the answer is true, and returns it."""
    end = time.monotonic() + limit_s
    pause = threading.Event()
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s} s: {what}")
        pause.wait(pause_s)


@dataclass
class Daemon:
    """The daemon as a child process.

    Attributes:
        folder: Holds the database and the log.
        env: Of the process, without what the shell has.
        port: Where it listens; the same over restarts.
        before: A command that runs the daemon's.
    """

    folder: Path
    env: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=5.0))
    before: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        path = self.folder / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def start(self, **changes: str) -> Self:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, sys.executable, "-m", "watchdog", "run"],
                env={**kept, "PYTHONPATH": str(ROOT), "WATCHDOG_PORT": str(self.port), **self.env, **changes},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def ready(self, limit_s: float = 60.0) -> Self:
        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            return self.get("/readyz") == 200

        until(answers, f"ready:\n{self.log}", limit_s)
        return self

    def get(self, path: str) -> int:
        """The status of an answer, 0 when nobody answers."""
        with contextlib.suppress(httpx.TransportError):
            return self.client.get(self.url + path).status_code
        return 0

    def ask(self, path: str) -> Any:
        answer = self.client.get(self.url + path, headers={"Authorization": f"Bearer {ADMIN}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def beat(self, user_id: str, session_id: str, **fields: object) -> httpx.Response:
        body = {"instance_id": INSTANCE, "user_id": user_id, "session_id": session_id, **fields}
        return self.client.post(f"{self.url}/v1/heartbeat", json=body, headers={"Authorization": f"Bearer {TOKEN}"})

    def bye(self, user_id: str, session_id: str) -> httpx.Response:
        ticket = self.beat(user_id, session_id).json()["ticket"]
        return self.beat(user_id, session_id, type="bye", ticket=ticket)

    def state(self, user_id: str) -> str:
        return str(self.ask(f"/v1/agents/{INSTANCE}/{user_id}")["state"])

    def actions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.ask(f"/v1/actions?limit=1000&cursor={cursor}")
            found += page["actions"]
            cursor = page["cursor"]
            if not cursor:
                return found

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, limit_s: float = 10.0) -> int:
        """Asks it to end, and returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit_s)

    def ended(self, limit_s: float = 30.0) -> int:
        """Waits for it to end by itself."""
        assert self.process is not None
        return self.process.wait(limit_s)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.client.close()


class Connect:
    """The stand-in of Connect, with questions that the stories ask."""

    def __init__(self, server: SandboxServer, agents: int) -> None:
        self.server = server
        self.model = server.model
        self.model.scale_quotas(1000)
        self.instance = seed(self.model, agents=agents, instance_id=INSTANCE)
        self.users = list(self.instance.users)

    def status(self, user_id: str) -> str:
        return self.model.status_name(INSTANCE, user_id)

    def writes(self, user_id: str | None = None) -> list[Any]:
        """Calls of PutUserStatus that changed something."""
        found = self.model.calls(operation="PutUserStatus", user_id=user_id)
        return [call for call in found if call.effective]


@contextlib.contextmanager
def sandbox(agents: int, port: int = 0, model: ConnectModel | None = None) -> Iterator[Connect]:
    with SandboxServer(model, port=port) as server:
        yield Connect(server, agents)


def settings(url: str, **changes: str) -> dict[str, str]:
    """The environment of a daemon that calls the stand-in at `url`."""
    return {
        **environment(url, INSTANCE, "us-east-1"),
        **SHORT,
        "AWS_EC2_METADATA_DISABLED": "true",
        "WATCHDOG_INSTANCES": INSTANCE,
        "WATCHDOG_HEARTBEAT_TOKENS": TOKEN,
        "WATCHDOG_ADMIN_TOKENS": ADMIN,
        **changes,
    }


def new_session() -> str:
    return str(uuid4())


class Present:
    """Agents who beat all the time, in a thread, as a page does: a beat that failed is tried again at once."""

    def __init__(self, daemon: Daemon, users: list[str], interval_s: float = 0.4) -> None:
        self._daemon = daemon
        self._sessions = {user: new_session() for user in users}
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answered = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=2.0) as client:
            while not self._stop.wait(self._interval_s / 4):
                begun = time.monotonic()
                for user, session in self._sessions.items():
                    body = {"instance_id": INSTANCE, "user_id": user, "session_id": session}
                    with contextlib.suppress(httpx.TransportError):
                        answer = client.post(
                            f"{self._daemon.url}/v1/heartbeat", json=body, headers={"Authorization": f"Bearer {TOKEN}"}
                        )
                        self.answered += answer.status_code == 200
                self._stop.wait(max(0.0, self._interval_s - (time.monotonic() - begun)))
