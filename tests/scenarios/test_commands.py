"""The commands against a real daemon: what they read is what it answers."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests import command
from tests.scenarios.harness import ADMIN, INSTANCE, Connect, Daemon, new_session, until

pytestmark = pytest.mark.scenario


def watchdog(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command.run(arguments, {"WATCHDOG_ADMIN_TOKENS": ADMIN, "WATCHDOG_PORT": str(daemon.port)})


def test_an_operator_sees_who_is_there_who_was_set_and_why(connect: Connect, daemon: Daemon) -> None:
    daemon.start(WATCHDOG_SESSION_TTL="60", WATCHDOG_THROTTLED_SESSION_TTL="90").ready()
    until(lambda: daemon.ask("/v1/status")["instances"][0]["target"], "the statuses are listed")
    present, gone = connect.users[:2]
    assert daemon.beat(present, new_session()).status_code == 200
    assert daemon.bye(gone, new_session()).status_code == 204
    until(lambda: daemon.state(gone) == "away", "set")

    status = watchdog(daemon, "status")
    assert (status.returncode, status.stderr) == (0, "")
    assert "All is well: 1 agent present, none in grace, none held." in status.stdout
    assert "PutUserStatus: 1 call" in status.stdout
    listed = [json.loads(line) for line in watchdog(daemon, "agents", "--json").stdout.splitlines()]
    assert {each["user_id"]: each["state"] for each in listed} == {present: "live", gone: "away"}
    assert gone in watchdog(daemon, "agents", "--state", "away").stdout

    one = watchdog(daemon, "agent", gone)
    assert "No session is open." in one.stdout
    assert "confirmed" in one.stdout
    history = watchdog(daemon, "history", "--agent", f"{INSTANCE}/{gone}", "--since", "10m", "--evidence")
    assert (history.returncode, history.stderr) == (0, "")
    assert '"ended": "bye"' in history.stdout
    assert "Nothing was decided" in watchdog(daemon, "history", "--until", "10m").stdout

    assert watchdog(daemon, "hold", "--for", "1m").returncode == 0
    until(lambda: "held by an operator" in watchdog(daemon, "status").stdout, "the status tells of the hold")
