"""A primary is lost with three daemons on it, and its replica, which is behind, takes its place. Long and serial."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from tests.contract import redis_server
from tests.scenarios.fleet import SELDOM, SELDOM_S, fleet
from tests.scenarios.front import Front
from tests.scenarios.harness import until
from tests.scenarios.stories import Stage, story

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.redis_server import RedisServer

AGENTS = 2_000
NOTICED_S = 3.0
"""Until those who watch the primary have made the replica one, and its name leads there."""


@contextlib.contextmanager
def _pair(folder: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary, and the replica that follows it."""
    places = [folder / name for name in ("primary", "replica")]
    for place in places:
        place.mkdir()
    with redis_server.running(places[0]) as primary, redis_server.running(places[1]) as replica:
        with replica.client as client:
            client.replicaof("127.0.0.1", primary.port)
            until(lambda: client.info("replication").get("master_link_status") == "up", "it follows", 20)
        yield primary, replica


def _writes(server: RedisServer) -> int:
    """How many the part of all has had."""
    with server.client as client:
        return int(client.hget("{wd:all}:part", "version"))


@pytest.mark.long
@story(agents=AGENTS, seconds=120, alone=True)
def test_a_primary_is_lost_and_its_replica_takes_its_place(stage: Stage) -> None:
    """What was written after the replica had heard the last is lost: agents were set, others came, and parts moved."""
    early, late, newcomers = stage.users[:10], stage.users[10:20], stage.users[20:30]
    present = stage.users[20:]
    with _pair(stage.folder) as (primary, replica), Front(primary.port) as way:
        store = f"valkey://127.0.0.1:{way.port}/0"
        with (
            fleet(stage, WATCHDOG_STORE=store, **SELDOM) as made,
            stage.crowd(stage.users[:20] + stage.users[30:], made.port, interval_s=SELDOM_S) as crowd,
        ):
            made.all_live(AGENTS - len(newcomers))
            for ghost in early:
                crowd.leave(ghost)
            silent = time.monotonic()
            stage.nap(4)
            # From now on it hears nothing more of the primary.
            with replica.client as client:
                client.replicaof("no", "one")
            made.ghosts_are_caught(early, silent, "before the primary is lost", 180)
            made.start(3)
            with stage.crowd(newcomers, made.port, interval_s=SELDOM_S) as others:
                made.all_live(len(present) + len(late))
                for ghost in late:
                    crowd.leave(ghost)
                silent = time.monotonic()
                stage.nap(2)
                assert _writes(replica) < _writes(primary) - 5
                lost = time.monotonic()
                primary.stop()
                stage.nap(NOTICED_S)
                way.target = replica.port
                until(
                    lambda: crowd.heard(lost + NOTICED_S) | others.heard(lost + NOTICED_S) >= set(present),
                    "all are heard again",
                )
                print(f"failover: all are heard again {time.monotonic() - lost:.1f} s after the loss of the primary")
                made.ghosts_are_caught(late, silent, "failover to a replica that is behind", 180)
                made.even()
                made.all_live(len(present))
                made.nobody_was_touched(present)
                assert [len(stage.connect.writes(user)) for user in (*early, *late)] == [1] * 20
