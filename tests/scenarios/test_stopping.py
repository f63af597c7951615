"""The daemon ends: when it is told to, at any moment, in order and without a traceback; and it tells what it lacks."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

from tests.scenarios.harness import new_session, until
from tests.scenarios.stories import Stage, story
from tests.scenarios.watched import Watched
from watchdog.sandbox.records import Fault, FaultKind


def _ended_cleanly(stage: Stage, code: int) -> None:
    assert stage.daemon.ended(15) == code
    for unwanted in ("Traceback", "exc_info", "never retrieved", '"exception"'):
        assert unwanted not in stage.daemon.log


@story(agents=12, seconds=25, model=Watched)
def test_heartbeats_are_answered_until_the_claims_are_released(stage: Stage) -> None:
    stage.start()
    ghost, *present = stage.users
    with stage.crowd(present, interval_s=0.2) as crowd:
        stage.all_live(len(present))
        # The claim is settled or given back in the time that the call takes.
        stage.connect.model.add_fault(Fault(FaultKind.DELAY, operation="PutUserStatus", delay_s=2))
        writing, go_on = stage.connect.model.stop_at("PutUserStatus arrives")
        go_on.set()
        stage.daemon.beat(ghost, new_session())
        assert stage.daemon.process is not None
        assert writing.wait(60)
        told = time.monotonic()
        stage.daemon.process.send_signal(signal.SIGTERM)
        until(lambda: stage.daemon.get("/readyz") == 503, "it is stopping")
        begun = time.monotonic()
        until(lambda: crowd.heard(begun) == set(present), "heartbeats are answered all the same")
        _ended_cleanly(stage, 0)
        assert time.monotonic() - told < 10
        stage.set_offline(ghost)
        stage.nobody_was_touched(present)


@story(agents=1, seconds=15)
def test_an_end_during_the_first_listing(stage: Stage) -> None:
    stage.connect.model.add_fault(Fault(FaultKind.TIMEOUT, operation="ListAgentStatuses", delay_s=20))
    stage.connect.model.add_fault(Fault(FaultKind.TIMEOUT, operation="ListRoutingProfiles", delay_s=20))
    stage.daemon.start().ready(60)
    until(lambda: stage.connect.model.last_seq > 0, "the listing is under way", 60)
    assert stage.daemon.process is not None
    stage.daemon.process.send_signal(signal.SIGTERM)
    _ended_cleanly(stage, 0)


@story(agents=1, seconds=10)
def test_ctrl_c_while_it_starts(stage: Stage) -> None:
    stage.daemon.start()
    process = stage.daemon.process
    assert process is not None
    # One of the first modules of the command line, long before the daemon handles signals.
    until(lambda: "_json" in Path(f"/proc/{process.pid}/maps").read_text(), "it imports what it needs", 60)
    process.send_signal(signal.SIGINT)
    assert stage.daemon.ended(15) in (0, 130)
    assert "Traceback" not in stage.daemon.log


@story(agents=1, seconds=10)
def test_a_host_that_is_no_name_is_told(stage: Stage) -> None:
    stage.daemon.start(WATCHDOG_HOST="a" * 64)
    _ended_cleanly(stage, stage.daemon.ended(30))
    assert "WATCHDOG_HOST" in stage.daemon.log
    assert stage.daemon.ended() in (1, 2)


@story(agents=40, seconds=50)
def test_more_connections_than_files_stop_the_clock_and_are_told(stage: Stage) -> None:
    stage.daemon.before = ("prlimit", "--nofile=200:200")
    stage.start()
    *present, ghost = stage.users
    with stage.crowd(present) as crowd:
        stage.all_live(len(present))
        idle = []
        try:
            idle.extend(socket.create_connection(("127.0.0.1", stage.daemon.port)) for _ in range(150))
            until(lambda: "connections_full" in stage.problems(), "it is told")
            stage.daemon.beat(ghost, new_session())
            until(lambda: stage.status()["clock"]["standing"] == "connections", "the clock stands")
            observed = stage.status()["clock"]["observed_s"]
            begun = time.monotonic()
            while time.monotonic() - begun < 12:
                # Whoever comes anew is turned away, and told to come again; the others are heard.
                with socket.create_connection(("127.0.0.1", stage.daemon.port)) as another:
                    another.settimeout(5)
                    # All of them come from one address, which may not have all there is.
                    assert another.recv(100).startswith((b"HTTP/1.1 429 ", b"HTTP/1.1 503 "))
                stage.nap(0.5)
            assert stage.status()["clock"]["observed_s"] == observed
            assert crowd.heard(begun + 8) == set(present)
            stage.nothing_was_called()
        finally:
            for each in idle:
                each.close()
        until(lambda: stage.problems() == set(), "there is room again", 30)
        stage.set_offline(ghost)
        stage.nobody_was_touched(present)
    assert len(stage.daemon.events("http.full")) == 1
