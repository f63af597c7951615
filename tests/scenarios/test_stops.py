"""The daemon is stopped, killed or kept from its disk while agents beat: time in which it is deaf does not count."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.harness import new_session, until
from tests.scenarios.stories import TIMES, Stage, story

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

TTL_S, TIMER_S = float(TIMES["WATCHDOG_SESSION_TTL"]), float(TIMES["WATCHDOG_SESSION_END_TIMER"])


def _ghost_is_caught(stage: Stage, ghost: str) -> None:
    stage.set_offline(ghost)
    stage.nobody_was_touched([user for user in stage.users if user != ghost])


def _stopped(stage: Stage, seconds: float, *, patience_s: float) -> None:
    """SIGSTOP for so long; half of the agents wait for their answers, the others try again and again."""
    stage.start()
    *present, ghost = stage.users
    daemon = stage.daemon
    with (
        stage.crowd(present[::2], patience_s=patience_s) as patient,
        stage.crowd(present[1::2], patience_s=1.0) as eager,
        # New sessions are written to the disk, so that a flush of theirs is under way at any time.
        stage.crowd(present[:10], patience_s=patience_s, interval_s=0.1, reloads=True) as reloading,
    ):
        daemon.beat(ghost, new_session())
        stage.all_live()
        assert daemon.process is not None
        observed = stage.status()["clock"]["observed_s"]
        stopped = time.monotonic()
        os.kill(daemon.process.pid, signal.SIGSTOP)
        stage.nap(seconds)
        os.kill(daemon.process.pid, signal.SIGCONT)
        resumed = time.monotonic()
        stage.nothing_was_called()
        until(lambda: patient.heard(resumed) == set(present[::2]), "those who waited are answered")
        until(lambda: {each.user for each in eager.since(resumed)} == set(present[1::2]), "the others are heard again")
        waited = [
            each for each in (*patient.answers, *reloading.answers) if each.begun > stopped - 1 and each.ended > resumed
        ]
        assert {each.status for each in waited} == {200}
        assert {each.status for each in eager.since(resumed)} == {200}
        advanced = stage.status()["clock"]["observed_s"] - observed
        assert advanced <= time.monotonic() - stopped - seconds + 2.5  # of a stop 2 s count
        _ghost_is_caught(stage, ghost)
        stage.all_live(len(present))
        assert daemon.events("clock.standing")


@story(agents=40, seconds=20)
def test_a_stop_of_three_seconds(stage: Stage) -> None:
    _stopped(stage, 3, patience_s=10)


@story(agents=40, seconds=50)
def test_a_stop_of_thirty_seconds_sets_nobody_and_answers_who_waited(stage: Stage) -> None:
    _stopped(stage, 30, patience_s=60)


def _killed(stage: Stage, seconds: float) -> None:
    """kill -9, and nobody there for so long."""
    stage.start()
    *present, ghost = stage.users
    with stage.crowd(present) as crowd:
        stage.daemon.beat(ghost, new_session())
        stage.all_live()
        stage.daemon.kill()
        stage.nap(seconds)
        stage.start()
        back = time.monotonic()
        until(lambda: crowd.heard(back) == set(present), "all are heard again")
        stage.nothing_was_called()
        _ghost_is_caught(stage, ghost)
        stage.all_live(len(present))


@story(agents=12, seconds=15)
def test_a_kill_and_a_second_down(stage: Stage) -> None:
    _killed(stage, 1)


@story(agents=40, seconds=30)
def test_a_kill_and_ten_seconds_down_sets_nobody_who_beats(stage: Stage) -> None:
    _killed(stage, 10)


@pytest.mark.long
@story(agents=40, seconds=320)
def test_a_kill_and_five_minutes_down_sets_nobody_who_beats(stage: Stage) -> None:
    _killed(stage, 300)


def _without_store(stage: Stage, breaks: AbstractContextManager[object], mentions: str) -> None:
    """The store cannot be written for 30 s: agents are told to come again, the clock stands, nobody is set."""
    *present, ghost = stage.users
    with stage.crowd(present) as crowd, stage.crowd(present[:1], reloads=True) as reloading:
        stage.daemon.beat(ghost, new_session())
        stage.all_live()
        with breaks:
            broken = time.monotonic()
            until(lambda: "store_unavailable" in stage.problems(), "the fault is told")
            told = time.monotonic()
            assert stage.daemon.get("/readyz") == 503
            assert stage.daemon.get("/livez") == 200
            stage.nap(30 - (told - broken))
            # A new page has to be written. Once it has waited for a second, those who are known are refused, too.
            refused = [each for each in (*reloading.since(told + 2), *crowd.since(told + 4)) if each.status]
            assert {(each.status, each.retry_after in ("1", "2")) for each in refused} == {(503, True)}
            assert {each.user for each in refused} == set(present)
            (problem,) = [each for each in stage.status()["problems"] if each["code"] == "store_unavailable"]
            assert mentions in problem["detail"]
            stage.nothing_was_called()
        mended = time.monotonic()
        until(lambda: crowd.heard(mended) == set(present), "all are heard again")
        # How full a server is, is looked at every 15 s.
        until(lambda: stage.problems() <= {"store_nearly_full"}, "nothing is wrong any more")
        until(lambda: stage.daemon.events("store.back"), "the log tells")
        stage.nothing_was_called()
        _ghost_is_caught(stage, ghost)
        stage.all_live(len(present))
    stopped = stage.status()["clock"]["stopped_s"]["store"]
    assert stopped > 20


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    child = subprocess.Popen(
        [sys.executable, "-c", LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        yield
    finally:
        child.communicate()


@story(agents=40, seconds=60)
def test_a_store_that_another_process_locks_for_thirty_seconds(stage: Stage) -> None:
    stage.start()
    _without_store(stage, _locked(stage.folder / "watchdog.db"), "lock")


@contextmanager
def _full(process: int) -> Iterator[None]:
    """No file of the process grows, as on a full disk; its log neither."""
    before = resource.prlimit(process, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)


@story(agents=40, seconds=60)
def test_a_disk_that_is_full_for_thirty_seconds(stage: Stage) -> None:
    stage.start()
    assert stage.daemon.process is not None
    _without_store(stage, _full(stage.daemon.process.pid), "disk")


def _libfaketime() -> str:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("libfaketime is missing: install Debian's faketime")
    return str(found[0])


@story(agents=40, seconds=40)
def test_a_wall_clock_that_jumps_an_hour_back_and_forth_changes_nothing(stage: Stage) -> None:
    jump = stage.folder / "jump"
    jump.write_text("+0\n")
    # The clocks that count seconds are left alone, as they are by whoever sets the time of a machine.
    stage.daemon.env |= {
        "LD_PRELOAD": _libfaketime(),
        "FAKETIME_TIMESTAMP_FILE": str(jump),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    stage.start()
    *present, first, second, third = stage.users
    with stage.crowd(present) as crowd:
        stage.all_live(len(present))
        until(lambda: stage.status()["clock"]["standing"] is None, "the clock runs")
        stood = len(stage.daemon.events("clock.standing"))
        for ghost, offset in ((first, 3600), (second, -3600), (third, 0)):
            begun = time.monotonic()
            observed = stage.status()["clock"]["observed_s"]
            stage.daemon.beat(ghost, new_session())
            jump.write_text(f"{offset:+d}\n")
            told = datetime.now(UTC) + timedelta(seconds=offset)
            until(lambda told=told: abs(_dated(stage) - told) < timedelta(seconds=60), "the daemon sees the jump")
            stage.set_offline(ghost)
            took = time.monotonic() - begun
            assert took >= TTL_S + TIMER_S
            advanced = stage.status()["clock"]["observed_s"] - observed
            assert TTL_S + TIMER_S - 0.5 <= advanced <= time.monotonic() - begun + 0.5
            assert {each.status for each in crowd.since(begun)} == {200}
        stage.nobody_was_touched(present)
        assert stage.status()["agents"]["live"] == len(present)
    assert len(stage.daemon.events("clock.standing")) == stood


def _dated(stage: Stage) -> datetime:
    answer = stage.daemon.client.get(stage.daemon.url + "/livez")
    return parsedate_to_datetime(answer.headers["date"])


@story(agents=12, seconds=30)
def test_settings_that_change_across_a_restart(stage: Stage) -> None:
    stage.start(WATCHDOG_SESSION_TTL="10", WATCHDOG_THROTTLED_SESSION_TTL="10", WATCHDOG_SESSION_END_TIMER="60")
    *present, old, new = stage.users
    with stage.crowd(present) as crowd:
        beaten = time.monotonic()
        stage.daemon.beat(old, new_session())
        stage.all_live(len(present) + 1)
        assert stage.daemon.stop() == 0
        # The lease that was promised is kept, and the new timer follows it.
        stage.start()
        begun = time.monotonic()
        until(lambda: crowd.heard(begun) == set(present), "all are heard again")
        stage.set_offline(old, 30)
        assert time.monotonic() - beaten >= 10 + TIMER_S
        stage.nobody_was_touched(present)
        assert stage.daemon.stop() == 0
        longer = {**TIMES, "WATCHDOG_SESSION_TTL": "8", "WATCHDOG_SESSION_END_TIMER": "3"}
        stage.start(**longer)
        begun = time.monotonic()
        until(lambda: crowd.heard(begun) == set(present), "all are heard again")
        beaten = time.monotonic()
        stage.daemon.beat(new, new_session())
        stage.set_offline(new, 20)
        assert time.monotonic() - beaten >= 11
        stage.nobody_was_touched(present)
