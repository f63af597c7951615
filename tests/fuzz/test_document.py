"""The OpenAPI document and a running daemon agree, whatever is sent: Schemathesis makes it up from the document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.harness import ADMIN, TOKEN, Daemon, free_port, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.scenario, pytest.mark.serial]

CONFIG = Path(__file__).parent / "schemathesis.toml"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, settings(f"http://127.0.0.1:{free_port()}"))
    daemon.start().ready(60)
    yield daemon
    daemon.close()


def run(daemon: Daemon, token: str, only: str, examples: int, limit_s: int) -> None:
    """Runs all checks on some of the operations."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run", f"{daemon.url}/openapi.json"),
        *("--checks", "all", "--max-examples", str(examples), "--generation-deterministic", "--no-color"),
        *("-H", f"Authorization: Bearer {token}", "--include-path-regex", only),
        # Their answers do not end.
        *("--exclude-path", "/v1/record", "--exclude-path", "/v1/events"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False, cwd=daemon.folder)
    print(done.stdout[-3000:])
    told = "\n".join(line[:300] for line in done.stdout.splitlines())
    assert done.returncode == 0, told + done.stderr
    assert "daemon.part_failed" not in daemon.log
    assert "Traceback" not in daemon.log


def test_the_daemon_does_what_its_document_says(daemon: Daemon) -> None:
    run(daemon, ADMIN, "^/(?!v1/heartbeat)", 10, 120)
    run(daemon, TOKEN, "^/v1/heartbeat", 20, 120)


@pytest.mark.long
def test_the_daemon_does_what_its_document_says_thousands_of_times(daemon: Daemon) -> None:
    run(daemon, ADMIN, "^/(?!v1/heartbeat)", 200, 1200)
    run(daemon, TOKEN, "^/v1/heartbeat", 300, 600)
