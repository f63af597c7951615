"""The way from an agent to the daemon freezes, the agent is set, and comes back with the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.scenarios.harness import ADMIN, INSTANCE, PATIENT, Connect, Daemon, Present, new_session, sandbox, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.scenario


@pytest.fixture
def connect() -> Iterator[Connect]:
    with sandbox(agents=4) as connect:
        yield connect


@pytest.fixture
def onlooker(connect: Connect, daemon: Daemon) -> Iterator[None]:
    """Somebody is heard all the time: where all fall silent, the brake holds."""
    daemon.env |= PATIENT
    daemon.start().ready()
    until(lambda: daemon.ask("/v1/status")["instances"][0]["target"], "the statuses are listed")
    with Present(daemon, [connect.users.pop()]):
        yield


def set_offline(connect: Connect, daemon: Daemon) -> dict[str, str]:
    """Everybody is heard, then nobody is, and all are set. Returns their sessions."""
    sessions = {user: new_session() for user in connect.users}
    for user, session in sessions.items():
        assert daemon.beat(user, session, type="hello").status_code == 200
    until(lambda: {connect.status(user) for user in connect.users} == {"Offline"}, "all are set")
    until(lambda: len(daemon.actions()) == 3, "all are settled")
    return sessions


def test_whose_page_ran_all_the_time_gets_the_status_back(connect: Connect, daemon: Daemon, onlooker: None) -> None:
    sessions = set_offline(connect, daemon)
    ran, slept, silent = connect.users

    def beats() -> bool:
        daemon.beat(ran, sessions[ran], gap_ms=0)
        daemon.beat(slept, sessions[slept], gap_ms=60_000)
        return any(action["intent"] == "restore" for action in daemon.actions())

    until(beats, "one is restored")
    assert [connect.status(user) for user in (ran, slept, silent)] == ["Available", "Offline", "Offline"]
    (action,) = [action for action in daemon.actions() if action["intent"] == "restore"]
    assert (action["agent"], action["outcome"]) == (f"{INSTANCE}/{ran}", "confirmed")
    assert (action["evidence"]["why"], action["evidence"]["gap_ms"]) == ("gap", 0.0)
    assert len(connect.writes(ran)) == 2


@pytest.mark.long
def test_a_restore_that_was_begun_is_finished_by_the_next_process(
    connect: Connect, daemon: Daemon, onlooker: None
) -> None:
    sessions = set_offline(connect, daemon)
    user = connect.users[0]
    daemon.beat(user, sessions[user], gap_ms=0)
    daemon.kill()
    daemon.start().ready()

    def beats() -> bool:
        daemon.beat(user, sessions[user])
        return connect.status(user) == "Available"

    until(beats, "the former status is back", 60)
    assert len(connect.writes(user)) == 2


@pytest.mark.long
def test_an_order_restores_who_is_heard_now_and_later(connect: Connect, daemon: Daemon, onlooker: None) -> None:
    sessions = set_offline(connect, daemon)
    now, later, never = connect.users
    daemon.beat(now, new_session())
    answer = httpx.post(
        f"{daemon.url}/v1/restore", json={"since": 0}, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=5
    )
    assert answer.json() == {"since": "1970-01-01T00:00:00.000Z", "queued": 1, "left": 2, "other": 0}
    until(lambda: connect.status(now) == "Available", "who is there is restored")

    def beats() -> bool:
        daemon.beat(later, sessions[later])
        return connect.status(later) == "Available"

    until(beats, "who is heard later is restored")
    assert connect.status(never) == "Offline"
