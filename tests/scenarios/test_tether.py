"""Agents whose pages are tied to the daemon by a WebSocket: what its end says, and what it does not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Self

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.scenarios.harness import INSTANCE, TOKEN, new_session, until
from tests.scenarios.stories import Stage, story

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

TETHER_S, TIMER_S = 3.0, 1.0

LONG = {"WATCHDOG_SESSION_TTL": "40", "WATCHDOG_THROTTLED_SESSION_TTL": "40", "WATCHDOG_TETHER_TTL": str(TETHER_S)}
"""Whoever is set within the time of these stories is set for its socket."""


class Tied:
    """Agents with a socket each, who have said hello over it and say nothing more."""

    def __init__(self, port: int, users: list[str]) -> None:
        self.sessions = {user: new_session() for user in users}
        self._open = contextlib.ExitStack()
        self.sockets: dict[str, ClientConnection] = {
            user: self._open.enter_context(
                connect(f"ws://127.0.0.1:{port}/v1/ws", subprotocols=[Subprotocol("watchdog.v1")], proxy=None)
            )
            for user in users
        }
        for user, each in self.sockets.items():
            hello = {"instance_id": INSTANCE, "user_id": user, "session_id": self.sessions[user], "type": "hello"}
            each.send(json.dumps({**hello, "token": TOKEN}))
        for each in self.sockets.values():
            assert json.loads(each.recv(10))["state"] == "live"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def kill(self, user: str) -> None:
        """The page's process is gone: the kernel ends its connection, and nobody says a word."""
        each = self.sockets[user].socket
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.shutdown(socket.SHUT_RDWR)

    def code(self, user: str) -> int:
        """With which the daemon closes the socket."""
        with pytest.raises(ConnectionClosed) as ended:
            self.sockets[user].recv(10)
        assert ended.value.rcvd is not None
        return ended.value.rcvd.code

    def post(self, stage: Stage, users: list[str]) -> None:
        """The pages go on by POST, with the sessions that they have."""
        for user in users:
            assert stage.daemon.beat(user, self.sessions[user]).json()["state"] == "live"


@story(agents=4, seconds=20)
def test_an_agent_whose_page_is_killed_is_offline_after_the_tether_and_the_timer(stage: Stage) -> None:
    stage.start(**LONG)
    killed, closed, *present = stage.users
    with Tied(stage.daemon.port, stage.users) as tied:
        stage.all_live()
        begun = time.monotonic()
        tied.kill(killed)
        tied.sockets[closed].close(1001)
        for user in (killed, closed):
            stage.set_offline(user, 30)
            assert time.monotonic() - begun >= TETHER_S + TIMER_S
        assert time.monotonic() - begun < TETHER_S + TIMER_S + 10
        stage.nobody_was_touched(present)
        actions = until(lambda: stage.daemon.ask(f"/v1/actions?agent={INSTANCE}/{killed}")["actions"], "it is recorded")
        (action,) = actions
        assert action["evidence"]["sessions"][0]["ended"] == "torn"


@story(agents=12, seconds=30)
def test_a_daemon_that_is_stopped_and_started_again_sets_nobody_for_the_sockets_that_it_closed(stage: Stage) -> None:
    stage.start(**LONG)
    *present, ghost = stage.users
    with Tied(stage.daemon.port, stage.users) as tied:
        stage.all_live()
        assert stage.daemon.stop() == 0
        assert {tied.code(user) for user in stage.users} == {1012}
        stage.start(**LONG)
        tied.post(stage, present)
        begun = time.monotonic()
        until(lambda: time.monotonic() - begun > TETHER_S + TIMER_S + 5, "long enough for a tether")
        stage.nothing_was_called()
        assert stage.daemon.state(ghost) == "live", "its lease runs on: nothing is known of it"


@story(agents=12, seconds=30)
def test_a_daemon_that_is_killed_sets_nobody_for_the_sockets_that_ended_with_it(stage: Stage) -> None:
    stage.start(**LONG)
    with Tied(stage.daemon.port, stage.users) as tied:
        stage.all_live()
        stage.daemon.kill()
        stage.start(**LONG)
        begun = time.monotonic()
        tied.post(stage, stage.users[:6])
        until(lambda: time.monotonic() - begun > TETHER_S + TIMER_S + 5, "long enough for a tether")
        stage.all_live()
        stage.nothing_was_called()


@story(agents=12, seconds=40)
def test_sockets_that_are_found_torn_after_a_stop_leave_time_to_come_back(stage: Stage) -> None:
    stage.start(**LONG)
    *present, ghost = stage.users
    with Tied(stage.daemon.port, stage.users) as tied:
        stage.all_live()
        assert stage.daemon.process is not None
        os.kill(stage.daemon.process.pid, signal.SIGSTOP)
        for user in stage.users:
            tied.kill(user)
        stage.nap(10)
        os.kill(stage.daemon.process.pid, signal.SIGCONT)
        stage.nap(2)
        tied.post(stage, present)
        stage.set_offline(ghost, 30)
        stage.nobody_was_touched(present)
        stage.all_live(len(present))


BRAKE = {**LONG, "WATCHDOG_BRAKE_MIN_AGENTS": "5", "WATCHDOG_TETHER_TTL": "5"}


@story(agents=20, seconds=30)
def test_a_load_balancer_that_cuts_all_sockets_sets_nobody_who_comes_back_by_post(stage: Stage) -> None:
    stage.start(**BRAKE)
    with stage.front() as front, Tied(front.port, stage.users) as tied:
        stage.all_live()
        front.cut()
        cut = time.monotonic()
        until(lambda: _most(stage) < 10, "the daemon has noticed")
        stage.nap(cut + 1.5 - time.monotonic() if time.monotonic() < cut + 1.5 else 0)
        tied.post(stage, stage.users)
        until(lambda: time.monotonic() - cut > 5 + TIMER_S + 3, "long enough for a tether")
        stage.all_live()
        stage.nothing_was_called()
        assert not stage.daemon.events("brake.tripped")


@story(agents=20, seconds=40)
def test_a_load_balancer_that_cuts_all_sockets_and_stays_away_is_a_silence_that_is_held(stage: Stage) -> None:
    stage.start(**BRAKE)
    with stage.front() as front, Tied(front.port, stage.users) as tied:
        stage.all_live()
        front.cut()
        until(lambda: stage.status()["brake"]["held"] == 20, "all are held")
        cut = time.monotonic()
        until(lambda: time.monotonic() - cut > 5 + TIMER_S + 3, "long enough for a tether")
        stage.nothing_was_called()
        tied.post(stage, stage.users)
        stage.all_live()
    stage.nobody_was_touched()


def _most(stage: Stage) -> float:
    """The longest lease that anybody has left."""
    agents = stage.daemon.ask("/v1/agents?limit=100")["agents"]
    return max(float(session["expires_in_s"]) for agent in agents for session in agent["sessions"])
