"""The processes of a benchmark: the daemon, the stand-in of Connect, nginx; each on its core, each stopped by its pid.

All listen on loopback only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import redis

from tests.benchmarks.results import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.benchmarks.machine import Cores, Patience
    from tests.benchmarks.scale import Scale

LOOPBACK = "127.0.0.1"
INSTANCE = "11111111-2222-3333-4444-555555555555"
TOKEN = "heartbeat-token-of-the-benchmarks"
ADMIN = "admin-token-of-the-benchmarks"
ROOT = Path(__file__).parents[2]
LONG_TTL = {"WATCHDOG_SESSION_TTL": "3600", "WATCHDOG_THROTTLED_SESSION_TTL": "3600"}
"""Settings with which nobody falls silent while something else is measured."""

TIMEOUT_S = 60.0
"""For a process to start, to answer or to end."""


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _on(core: int) -> Iterator[None]:
    """Children that are started inside run on this core, from their first instruction on."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


class Child:
    """A process on one core, with its output in a file. It does not outlive the `with` block."""

    def __init__(self, name: str, command: Sequence[str], core: int, folder: Path, env: Mapping[str, str]) -> None:
        self.log = folder / f"{name}.log"
        self.name = name
        with self.log.open("ab") as log, _on(core):
            self.started_at = time.monotonic()
            self._process = subprocess.Popen(
                command, env=dict(env), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises `BenchmarkError` when it has ended."""
        code = self._process.poll()
        if code is not None:
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise BenchmarkError(f"{self.name} ended with {code}:\n{tail}")

    def wait_for(self, port: int, path: str, pause_s: float = 0.02) -> float:
        """Asks until it answers 200. Returns the seconds since it was started."""
        request = f"GET {path} HTTP/1.1\r\nhost: {LOOPBACK}\r\nconnection: close\r\n\r\n".encode()
        while time.monotonic() - self.started_at < TIMEOUT_S:
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=5) as connection:
                connection.sendall(request)
                if b" 200 " in connection.recv(64):
                    return time.monotonic() - self.started_at
            self.check()
            time.sleep(pause_s)
        raise BenchmarkError(f"{self.name} did not answer {path} within {TIMEOUT_S:.0f} s; its log: {self.log}")

    def stop(self) -> None:
        """Ends it in order. Raises `BenchmarkError` if it complains or takes too long."""
        self.check()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"{self.name} did not stop within {TIMEOUT_S:.0f} s of SIGTERM.") from None
        if code:
            raise BenchmarkError(f"{self.name} stopped with {code}; its log: {self.log}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Daemon(Child):
    """The daemon. One that is started in the folder of an earlier one goes on from its database."""

    def __init__(self, bench: Bench, folder: Path, **settings: str) -> None:
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        env = _environment(
            AWS_ENDPOINT_URL_CONNECT=bench.sandbox.url,
            AWS_ENDPOINT_URL_STS=bench.sandbox.url,
            AWS_REGION="us-east-1",
            AWS_ACCESS_KEY_ID="sandbox",
            AWS_SECRET_ACCESS_KEY="sandbox",
            AWS_EC2_METADATA_DISABLED="true",
            WATCHDOG_PORT=str(self.port),
            WATCHDOG_INSTANCES=INSTANCE,
            WATCHDOG_HEARTBEAT_TOKENS=TOKEN,
            WATCHDOG_ADMIN_TOKENS=ADMIN,
            **settings,
        )
        super().__init__("daemon", [sys.executable, "-m", "watchdog", "run"], bench.cores.server, folder, env)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def ready(self, pause_s: float = 0.02) -> float:
        """Waits until it takes heartbeats. Returns the seconds since it was started."""
        return self.wait_for(self.port, "/readyz", pause_s)

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics, by name and labels as they stand there."""
        text = httpx.get(f"{self.url}/metrics", timeout=TIMEOUT_S).raise_for_status().text
        pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def wait_for_live(self, agents: int) -> None:
        """Waits until it counts so many live agents; it counts once a second."""
        end = time.monotonic() + TIMEOUT_S
        while (live := self.metrics()['watchdog_agents{state="live"}']) != agents:
            if time.monotonic() > end:
                raise BenchmarkError(f"{live:.0f} agents are live instead of {agents}; the daemon's log: {self.log}")
            time.sleep(0.1)

    def actions(self) -> list[dict[str, Any]]:
        """The whole history."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            answer = httpx.get(
                f"{self.url}/v1/actions",
                params={"limit": 1000, "cursor": cursor},
                headers={"authorization": f"Bearer {ADMIN}"},
                timeout=TIMEOUT_S,
            )
            page = answer.raise_for_status().json()
            found += page["actions"]
            cursor = page["cursor"]
            if not cursor:
                return found


class Sandbox(Child):
    """The stand-in of Connect, without quotas, with as many agents as one instance has."""

    def __init__(self, agents: int, core: int, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        options = ["--port", str(self.port), "--agents", str(agents), "--instance-id", INSTANCE]
        command = [sys.executable, "-m", "watchdog", "sandbox", *options]
        super().__init__("sandbox", command, core, folder, _environment())

    def ready(self) -> None:
        """Waits for it and takes the quotas away."""
        self.wait_for(self.port, "/sandbox/calls")
        httpx.post(f"{self.url}/sandbox/quotas", json={"rate": None}, timeout=TIMEOUT_S).raise_for_status()

    def users(self) -> list[str]:
        """The ids of all agents."""
        state = httpx.get(f"{self.url}/sandbox/state", timeout=TIMEOUT_S).raise_for_status().json()
        return [user["user_id"] for instance in state["instances"] for user in instance["users"]]

    def writes(self) -> list[dict[str, Any]]:
        """All calls of PutUserStatus."""
        answer = httpx.get(f"{self.url}/sandbox/calls", params={"operation": "PutUserStatus"}, timeout=TIMEOUT_S)
        calls: list[dict[str, Any]] = answer.raise_for_status().json()["calls"]
        return calls


class Nginx(Child):
    """nginx with one worker, which gives one answer to everything."""

    def __init__(self, core: int, folder: Path, answer: httpx.Response) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "nginx.conf"
        file.write_text(self._config(folder, answer), encoding="utf-8")
        command = ["nginx", "-p", str(folder), "-c", str(file), "-e", "stderr"]
        super().__init__("nginx", command, core, folder, _environment())

    def _config(self, folder: Path, answer: httpx.Response) -> str:
        """As many bytes as the daemon answers, with the same headers; those that nginx adds are taken from the body."""
        added = len("Server: nginx\r\nConnection: keep-alive\r\n")
        left_out = {"content-length", "content-type", "date", "connection"}
        headers = "\n".join(
            f'add_header {name} "{value}";' for name, value in answer.headers.items() if name not in left_out
        )
        paths = "\n".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""
            daemon off; master_process off; pid {folder}/nginx.pid;
            events {{ worker_connections 4096; }}
            http {{
                access_log off; server_tokens off; keepalive_requests 1000000000; keepalive_timeout 75s;
                default_type application/json; {paths}
                server {{
                    listen {LOOPBACK}:{self.port} backlog=4096;
                    location / {{ {headers} return 200 "{"x" * (len(answer.content) - added)}"; }}
                }}
            }}
        """


class Naive(Child):
    """The obvious design: see naive.py."""

    def __init__(self, core: int, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        command = [sys.executable, "-m", "tests.benchmarks.naive", str(self.port)]
        super().__init__("naive", command, core, folder, _environment())


class Redis(Child):
    """Redis, or with `keeping` a Valkey if there is one, which then keeps a log of all writes as the docs advise."""

    def __init__(self, core: int, folder: Path, *, keeping: bool = False) -> None:
        self.port = free_port()
        program = (shutil.which("valkey-server") if keeping else None) or "redis-server"
        kept = "yes" if keeping else "no"
        command = [program, "--bind", LOOPBACK, "--port", str(self.port), "--save", "", "--appendonly", kept]
        super().__init__("redis", command, core, folder, _environment())

    @property
    def store(self) -> str:
        """WATCHDOG_STORE."""
        return f"valkey://{LOOPBACK}:{self.port}/0"

    def info(self) -> dict[str, Any]:
        """What it tells of itself."""
        with redis.Redis(port=self.port, socket_timeout=TIMEOUT_S) as client:
            return client.info("everything")

    def wait(self) -> None:
        """Waits until it answers."""
        while time.monotonic() - self.started_at < TIMEOUT_S:
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return
            self.check()
            time.sleep(0.02)
        raise BenchmarkError(f"{self.name} did not answer within {TIMEOUT_S:.0f} s; its log: {self.log}")


class Etcd(Child):
    """etcd, one member."""

    def __init__(self, core: int, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        peer = f"http://{LOOPBACK}:{free_port()}"
        options = {
            "data-dir": str(folder / "etcd"),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        command = ["etcd", *(f"--{name}={value}" for name, value in options.items())]
        super().__init__("etcd", command, core, folder, _environment())


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement is given.

    Attributes:
        scale: How large it is.
        cores: Where things run.
        folder: For files; deleted at the end.
        sandbox: The stand-in of Connect, ready.
        patience: Waits for quiet moments.
    """

    scale: Scale
    cores: Cores
    folder: Path
    sandbox: Sandbox
    patience: Patience
