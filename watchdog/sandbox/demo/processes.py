"""The demo's two children, the stand-in of Connect and the daemon: how they start, are killed, and never stay behind.

They run in sessions of their own, so that Ctrl-C reaches the demo alone. `guardian.py` sees to it that they end too.
"""

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx

from watchdog.sandbox.demo import guardian
from watchdog.sandbox.demo.roles import AWAY, BACK_OFFICE, SERVICE, Timing
from watchdog.sandbox.seed import DEFAULT_INSTANCE_ID

LOOPBACK = "127.0.0.1"

START_LIMIT_S = 15.0
"""For each process, of which a start takes 1 to 2 s on an idle machine."""

STOP_LIMIT_S = 10.0
"""In which the daemon promises to have stopped after SIGTERM."""

POLL_S = 0.05

LOG_LINES = 15
"""How much of a log is shown when its process has failed."""

_EXPORT = re.compile(r"^export (\w+)=(.*)$", re.MULTILINE)


class DemoError(Exception):
    """The demo cannot go on; the text says why, with the last lines of the log of the process that is to blame."""


class Child:
    """A process with its log; started once."""

    def __init__(self, title: str, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        """Start `python -m watchdog` with these arguments; what it prints is added to the log.

        Args:
            title: What people call it.
            arguments: Of the command line.
            environ: All its variables.
            log: A file.
        """
        self.title = title
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  # this project's own command
                [sys.executable, "-m", "watchdog", *arguments],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """Give all that was printed so far."""
        return self._log.read_text(errors="replace")

    def check(self) -> None:
        """Raise `DemoError` if it does not run any more."""
        if self.exit_code is not None:
            raise self.failed(f"ended by itself, with exit code {self.exit_code}")

    def failed(self, how: str) -> DemoError:
        """Make an error with the last lines of the log."""
        lines = self.output().splitlines()[-LOG_LINES:] or ["(nothing)"]
        return DemoError("\n".join([f"{self.title} {how}. The last lines that it printed:", *lines]))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds.

        Raises:
            DemoError: The process ended before, or it took too long.
        """
        limit = time.monotonic() + START_LIMIT_S
        while not await asyncio.to_thread(condition):
            self.check()
            if time.monotonic() > limit:
                raise self.failed(f"was not ready within {START_LIMIT_S:g} s")
            await asyncio.sleep(POLL_S)

    def kill(self) -> None:
        """End it at once, with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for the end; one that does not come in time is killed. Gives the exit code."""
        try:
            return self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL


class Processes:
    """The folder, the guardian and the two children; a context manager that leaves none of them behind."""

    def __init__(self, timing: Timing) -> None:
        """Choose tokens and ports; nothing runs yet."""
        self.heartbeat_token = secrets.token_urlsafe(16)
        self.admin_token = secrets.token_urlsafe(16)
        self.instance_id = DEFAULT_INSTANCE_ID
        self.folder = Path(tempfile.mkdtemp(prefix="watchdog-demo-"))
        self._timing = timing
        self._port = free_port()
        self.page_port = free_port()
        self._connect: Mapping[str, str] = {}
        self._guardian = subprocess.Popen(  # noqa: S603  # this project's own script
            [sys.executable, "-I", guardian.__file__, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            bufsize=1,
        )
        self.sandbox: Child | None = None
        self.daemon: Child | None = None

    def __enter__(self) -> Self:
        """Nothing to do yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what still runs, the daemon first, and remove the folder."""
        self.stop()
        with contextlib.suppress(OSError):
            self._guardian.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def sandbox_url(self) -> str:
        """Address of the stand-in, once it has started."""
        return self._connect["AWS_ENDPOINT_URL_CONNECT"]

    @property
    def daemon_url(self) -> str:
        """Address of the daemon."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def page_url(self) -> str:
        """Address of the example page, which `--keep` serves."""
        return f"http://{LOOPBACK}:{self.page_port}"

    async def start_sandbox(self) -> None:
        """Start the stand-in and wait until it tells how to reach it."""
        environ = _own_environment()
        arguments = ["sandbox", "--port", "0", "--agents", "0", "--instance-id", self.instance_id]
        self.sandbox = child = self._start("The stand-in of Connect", arguments, environ, "sandbox.log")
        await child.until(lambda: "WATCHDOG_INSTANCES=" in child.output())
        self._connect = dict(_EXPORT.findall(child.output()))

    async def start_daemon(self) -> None:
        """Start the daemon, or start it again, and wait until it takes heartbeats."""
        environ = {
            **_own_environment(),
            **self._connect,
            "WATCHDOG_STORE": f"sqlite:///{self.folder / 'watchdog.db'}",
            "WATCHDOG_HOST": LOOPBACK,
            "WATCHDOG_PORT": str(self._port),
            "WATCHDOG_AUTH": "token",
            "WATCHDOG_HEARTBEAT_TOKENS": self.heartbeat_token,
            "WATCHDOG_ADMIN_TOKENS": self.admin_token,
            "WATCHDOG_ALLOWED_ORIGINS": self.page_url,
            "WATCHDOG_HEARTBEAT_INTERVAL": str(self._timing.heartbeat_interval_s),
            "WATCHDOG_SESSION_TTL": str(self._timing.session_ttl_s),
            "WATCHDOG_THROTTLED_SESSION_TTL": str(3 * self._timing.session_ttl_s),
            "WATCHDOG_SESSION_END_TIMER": str(self._timing.session_end_timer_s),
            "WATCHDOG_RESUME_GRACE": str(self._timing.resume_grace_s),
            "WATCHDOG_IF_PROFILE_NAME_INCLUDES": SERVICE,
            "WATCHDOG_RULES": json.dumps([_two_stages(self._timing)]),
            # Most of the twenty agents fall silent within a minute: the story shows each of them being set. By
            # default the brake would hold them until the others' beats have proven the path.
            "WATCHDOG_BRAKE_FRACTION": "0.9",
        }
        self.daemon = child = self._start("The watchdog", ["run"], environ, "daemon.log")
        await child.until(lambda: _answers(f"{self.daemon_url}/readyz"))

    def kill_daemon(self) -> None:
        """Kill the daemon, as kill -9 does."""
        if self.daemon is not None:
            self.daemon.kill()
            self._tell(f"-{self.daemon.pid}")

    def check(self) -> None:
        """Raise `DemoError` if a child does not run any more."""
        for child in (self.sandbox, self.daemon):
            if child is not None:
                child.check()

    def stop(self) -> list[str]:
        """Stop what still runs. Gives what was wrong with how the children stopped."""
        wrong = []
        for child in (self.daemon, self.sandbox):
            if child is None:
                continue
            child.terminate()
            code = child.wait()
            self._tell(f"-{child.pid}")
            if code != 0:
                wrong.append(f"{child.title} stopped with exit code {code}, not 0.")
        self.daemon = self.sandbox = None
        return wrong

    def _start(self, title: str, arguments: Sequence[str], environ: Mapping[str, str], log: str) -> Child:
        child = Child(title, arguments, environ, self.folder / log)
        self._tell(f"+{child.pid}")
        return child

    def _tell(self, line: str) -> None:
        """Tell the guardian; without one, the children are stopped by the demo alone."""
        if self._guardian.stdin is not None:
            with contextlib.suppress(OSError):
                self._guardian.stdin.write(line + "\n")


def _two_stages(timing: Timing) -> dict[str, object]:
    """Give the rule of two stages, as WATCHDOG_RULES takes it."""
    return {
        "name": "two stages",
        "if_profile_name_includes": [BACK_OFFICE],
        "stages": [{"after": timing.away_s, "status": AWAY}, {"after": timing.logout_s, "status": "Logout"}],
    }


def free_port() -> int:
    """Give a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _own_environment() -> dict[str, str]:
    """Give this process's environment without what would change the story: settings, AWS's variables and files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WATCHDOG_", "AWS_"))}
    return {
        **kept,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": LOOPBACK,
        "no_proxy": LOOPBACK,
        "PYTHONUNBUFFERED": "1",
    }


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False
