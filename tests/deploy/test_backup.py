"""The back-up of docs/deploy.md, of a daemon that runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.harness import PATIENT, Daemon, new_session, sandbox, settings

pytestmark = pytest.mark.scenario

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"


def test_a_daemon_starts_on_a_back_up_that_was_made_while_it_ran(tmp_path):
    (line,) = re.findall(r"^python3 (-c .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    with sandbox(3) as connect:
        daemon = Daemon(tmp_path, settings(connect.server.url, **PATIENT)).start().ready()
        try:
            for user in connect.users:
                assert daemon.beat(user, new_session()).status_code == 200
            subprocess.run([sys.executable, *shlex.split(line)], cwd=tmp_path, check=True, timeout=30)
            assert daemon.get("/readyz") == 200
            assert daemon.stop() == 0
            daemon.start(WATCHDOG_STORE="sqlite:///backup.db").ready()
            assert {daemon.state(user) for user in connect.users} == {"live"}
            assert daemon.stop() == 0
        finally:
            daemon.close()
