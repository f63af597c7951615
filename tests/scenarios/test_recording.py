"""A recording with real processes: the daemon, `watchdog record`, and `watchdog replay` on what it wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.scenarios.harness import ADMIN, INSTANCE, ROOT, TOKEN, Connect, Daemon, new_session, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.scenario


def command(*arguments: str) -> tuple[list[str], dict[str, str]]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ = {**kept, "PYTHONPATH": str(ROOT), "WATCHDOG_ADMIN_TOKENS": ADMIN, "COLUMNS": "200"}
    return [sys.executable, "-m", "watchdog", *arguments], environ


@contextmanager
def recording(daemon: Daemon, path: Path) -> Iterator[subprocess.Popen[str]]:
    """`watchdog record`, once its first line is there."""
    arguments, environ = command("record", "--url", daemon.url, "--out", str(path), "--for", "1h")
    process = subprocess.Popen(arguments, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until(lambda: path.exists() and path.read_bytes().endswith(b"\n"), "the recording has begun")
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_recording_has_what_happened_and_no_names_and_can_be_replayed(
    connect: Connect, daemon: Daemon, tmp_path: Path
) -> None:
    daemon.start().ready()
    until(lambda: daemon.ask("/v1/status")["instances"][0]["target"], "the statuses are listed")
    path, user, session = tmp_path / "recorded.jsonl", connect.users[0], new_session()
    with recording(daemon, path) as process:
        assert daemon.bye(user, session).status_code == 204
        until(daemon.actions, "in the history")
        until(lambda: any(each.get("kind") == "action" for each in lines(path)), "the outcome is recorded")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    found = lines(path)
    assert [each["kind"] for each in found[1:] if each["kind"] != "time"] == ["beat", "bye", "action", "end"]
    assert found[0]["settings"]["session_end_timer_s"] == 1.0
    text = path.read_text()
    for name in (INSTANCE, user, session, TOKEN, ADMIN):
        assert name not in text
    arguments, environ = command("replay", str(path), "--html", str(tmp_path / "report.html"))
    done = subprocess.run(arguments, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 / 2 s" in done.stdout
    assert "confirmed" in done.stdout
    assert (tmp_path / "report.html").exists()


def test_a_daemon_that_stops_waits_for_no_recording(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start().ready()
    path = tmp_path / "recorded.jsonl"
    with recording(daemon, path) as process:
        assert daemon.stop() == 0
        assert process.wait(10) == 0
    assert lines(path)[-1]["why"] == "the daemon stopped"
    assert not daemon.events("daemon.part_cancelled")


def test_a_daemon_that_is_killed_leaves_a_file_that_can_be_replayed(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start().ready()
    path = tmp_path / "recorded.jsonl"
    with recording(daemon, path) as process:
        daemon.kill()
        assert process.wait(10) == 1
    assert lines(path)[-1]["why"] == "the connection was lost"
    arguments, environ = command("replay", str(path))
    assert subprocess.run(arguments, env=environ, capture_output=True, timeout=60, check=False).returncode == 0


def test_a_recording_needs_the_admin_token_and_a_new_file(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start().ready()
    there = tmp_path / "there.jsonl"
    there.write_text("precious")
    arguments, environ = command("record", "--url", daemon.url, "--for", "1s", "--out", str(there))
    refused = subprocess.run(arguments, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, there.read_text()) == (1, "precious")
    assert "exists" in refused.stderr
    environ["WATCHDOG_ADMIN_TOKENS"] = "wrong"
    refused = subprocess.run(arguments, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "401" in refused.stderr
