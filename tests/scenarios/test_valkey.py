"""Stories of a store on a real server: it hangs, dies, fills up, forgets; and one daemon after another uses it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.contract import redis_server
from tests.scenarios.harness import ROOT, Daemon, new_session, settings, until
from tests.scenarios.stories import Stage, story
from tests.scenarios.test_stops import _ghost_is_caught, _without_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.contract.redis_server import RedisServer


@contextmanager
def _server(stage: Stage, *options: str) -> Iterator[RedisServer]:
    """A server that the story's daemons use."""
    folder = stage.folder / "redis"
    folder.mkdir()
    with redis_server.running(folder, *options) as server:
        stage.daemon.env["WATCHDOG_STORE"] = f"valkey://127.0.0.1:{server.port}/0"
        yield server


@contextmanager
def _between(before: Callable[[], object], after: Callable[[], object]) -> Iterator[None]:
    before()
    try:
        yield
    finally:
        after()


@story(agents=40, seconds=70)
def test_a_server_that_hangs_for_thirty_seconds(stage: Stage) -> None:
    with _server(stage) as server:
        stage.start()
        hangs = _between(lambda: server.signal(signal.SIGSTOP), lambda: server.signal(signal.SIGCONT))
        _without_store(stage, hangs, "has not answered")


@story(agents=40, seconds=70)
def test_a_server_that_is_gone_for_thirty_seconds_and_comes_back_with_nothing(stage: Stage) -> None:
    with _server(stage) as server:
        stage.start()
        _without_store(stage, _between(server.stop, server.start), "cannot be reached")


@story(agents=40, seconds=70)
def test_a_server_whose_memory_is_full_for_thirty_seconds(stage: Stage) -> None:
    with _server(stage) as server, server.client as client:
        stage.start()
        full = _between(lambda: client.config_set("maxmemory", 1), lambda: client.config_set("maxmemory", 0))
        _without_store(stage, full, "memory is full")


@story(agents=40, seconds=70)
def test_a_primary_goes_on_for_thirty_seconds_after_its_replica_has_taken_its_place(stage: Stage) -> None:
    """Whoever still reaches the old one is told to come again, to where others hear them."""
    folder = stage.folder / "replica"
    folder.mkdir()
    guard = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
    with _server(stage, *guard) as primary, redis_server.running(folder) as replica, replica.client as client:

        def follow() -> None:
            client.replicaof("127.0.0.1", primary.port)
            until(lambda: client.info("replication").get("master_link_status") == "up", "it follows", 20)

        follow()
        stage.start()
        _without_store(stage, _between(lambda: client.replicaof("no", "one"), follow), "min-replicas-to-write")


@story(agents=40, seconds=30)
def test_a_server_that_forgets_everything_sets_nobody_who_beats(stage: Stage) -> None:
    *present, ghost = stage.users
    with _server(stage) as server, server.client as client:
        stage.start()
        with stage.crowd(present):
            stage.daemon.beat(ghost, new_session())
            stage.all_live()
            client.flushall()
            until(lambda: stage.daemon.events("store.back"), "it is noticed, and over")
            _ghost_is_caught(stage, ghost)
            stage.all_live(len(present))


@story(agents=40, seconds=30)
def test_a_daemon_that_is_killed_is_followed_by_another(stage: Stage) -> None:
    *present, ghost = stage.users
    with _server(stage):
        stage.start()
        with stage.crowd(present) as crowd:
            stage.daemon.beat(ghost, new_session())
            stage.all_live()
            stage.daemon.kill()
            stage.start()
            back = time.monotonic()
            until(lambda: crowd.heard(back) == set(present), "all are heard again")
            _ghost_is_caught(stage, ghost)
            stage.all_live(len(present))


@story(agents=40, seconds=40)
def test_a_daemon_that_was_stopped_and_replaced_acts_on_nobody_and_takes_its_share(stage: Stage) -> None:
    """Ghosts are due in the very moment in which it is stopped."""
    present, ghosts = stage.users[:20], stage.users[20:]
    with _server(stage):
        stage.start()
        first, second = stage.daemon, Daemon(stage.folder / "redis", settings(stage.connect.server.url))
        second.env["WATCHDOG_STORE"] = first.env["WATCHDOG_STORE"]
        with stage.crowd(present):
            for ghost in ghosts:
                first.beat(ghost, new_session())
            stage.all_live()
            until(lambda: stage.status()["agents"]["due"] or stage.connect.writes(), "some are due")
            assert first.process is not None
            os.kill(first.process.pid, signal.SIGSTOP)
            stage.nap(3)
        stage.daemon = second
        try:
            stage.start()
            with stage.crowd(present):
                stage.all_live(len(present))
                os.kill(first.process.pid, signal.SIGCONT)
                until(lambda: first.events("replica.part_lost"), "it knows that it was replaced", 20)
                until(lambda: len(stage.status()["replicas"][0]["parts"]) == 8, "each has its share", 30)
                for ghost in ghosts:
                    stage.set_offline(ghost)
                stage.nobody_was_touched(present)
        finally:
            second.close()
            first.close()


@story(agents=40, seconds=70)
def test_a_move_from_a_file_to_a_server_and_back_sets_nobody_who_is_there(stage: Stage) -> None:
    """One is in grace when the daemon ends, one is about to be set, and one was: each is set once, and all is told."""
    *present, before, due, grace = stage.users
    path = stage.folder / "watchdog.db"
    stage.start(WATCHDOG_SESSION_END_TIMER="4")
    with stage.crowd(present) as crowd:
        stage.daemon.beat(before, new_session())
        stage.all_live(len(present) + 1)
        stage.set_offline(before)
        stage.daemon.bye(due, new_session())
        stage.nap(3)
        stage.daemon.bye(grace, new_session())
        until(lambda: stage.daemon.state(grace) == "grace", "it is in grace")
        assert stage.daemon.stop() == 0
        told = [action["id"] for action in _kept(path)]
        assert told
        with redis_server.running(_folder(stage, "redis")) as server:
            url = f"valkey://127.0.0.1:{server.port}/0"
            _migrated(stage, f"sqlite:///{path}", url)
            stage.daemon.env["WATCHDOG_STORE"] = url
            stage.start(WATCHDOG_SESSION_END_TIMER="4")
            back = time.monotonic()
            until(lambda: crowd.heard(back) == set(present), "all are heard again")
            stage.set_offline(grace)
            stage.set_offline(due)
            stage.all_live(len(present))
            stage.nobody_was_touched(present)
            assert stage.daemon.stop() == 0
            _migrated(stage, url, f"sqlite:///{path}", "--replace")
        del stage.daemon.env["WATCHDOG_STORE"]
        stage.start()
        back = time.monotonic()
        until(lambda: crowd.heard(back) == set(present), "all are heard again")
        stage.all_live(len(present))
        stage.nobody_was_touched(present)
    for user in (before, due, grace):
        assert len(stage.connect.writes(user)) == 1
    kept = [action["id"] for action in stage.daemon.actions()]
    assert set(told) < set(kept)
    assert len(kept) == len(set(kept))
    confirmed = [action for action in stage.daemon.actions() if action["outcome"] == "confirmed"]
    assert sorted(action["agent"].rpartition("/")[2] for action in confirmed) == sorted((before, due, grace))


def _folder(stage: Stage, name: str) -> Path:
    folder = stage.folder / name
    folder.mkdir()
    return folder


def _kept(path: Path) -> list[dict[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return [{"id": key} for (key,) in connection.execute("SELECT id FROM actions")]


def _migrated(stage: Stage, source: str, target: str, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "watchdog", "migrate", "--from", source, "--to", target, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=stage.folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(stage.users)}  agents" in done.stdout
