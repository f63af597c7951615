"""Stories of a store on a real server: it hangs, dies, fills up, forgets; and one daemon after another uses it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.contract import redis_server
from tests.scenarios.harness import Daemon, new_session, settings, until
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
