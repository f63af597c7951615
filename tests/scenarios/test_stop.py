"""The daemon is told to stop while another program holds a lock on its database."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.harness import Daemon, new_session, sandbox, settings, until
from watchdog.sandbox.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.scenario, pytest.mark.serial]

AGENTS = 8


def test_a_stop_with_a_locked_database_and_claims_in_hand_is_over_in_time(tmp_path: Path) -> None:
    with sandbox(AGENTS) as connect:
        # Connect takes its time, so that the claims are in hand when the stop comes.
        connect.model.add_fault(Fault("delay", operation="GetCurrentUserData", times=None, delay_s=3.0))
        daemon = Daemon(tmp_path, settings(connect.server.url)).start().ready()
        try:
            sessions = {user: new_session() for user in connect.users}
            for user, session in sessions.items():
                assert daemon.bye(user, session).status_code == 204
            until(lambda: daemon.ask("/v1/status")["backlog"] == AGENTS, "all are due")
            other = sqlite3.connect(tmp_path / "watchdog.db", isolation_level=None)
            with contextlib.closing(other):
                until(lambda: other.execute("BEGIN IMMEDIATE") is not None, "locked")
                began = time.monotonic()
                assert daemon.stop(limit_s=40.0) == 0
                assert time.monotonic() - began < 10.0
            assert daemon.start().ready().ask("/v1/status")["backlog"] <= AGENTS
            assert daemon.stop() == 0
        finally:
            daemon.close()
