"""The main job with real processes: who leaves is set Offline in time, who stays is not touched."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.harness import ADMIN, INSTANCE, TOKEN, Connect, Daemon, Present, new_session, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.scenario

TIMER, TTL = 1.0, 2.0


@pytest.mark.serial
def test_an_agent_who_says_bye_is_offline_within_a_second_of_the_timer(connect: Connect, daemon: Daemon) -> None:
    daemon.start().ready()
    user, session = connect.users[0], new_session()
    until(lambda: daemon.ask("/v1/status")["instances"][0]["target"], "the statuses are listed")
    assert daemon.bye(user, session).status_code == 204
    begun = time.time()
    until(lambda: connect.status(user) == "Offline", "set Offline")
    assert TIMER <= connect.writes(user)[0].at - begun <= TIMER + 1
    until(daemon.actions, "in the history")
    (action,) = daemon.actions()
    assert (action["outcome"], action["target"], action["intent"]) == ("confirmed", "Offline", "set_status")
    assert action["evidence"]["sessions"][0]["session_id"] == session
    assert action["evidence"]["sessions"][0]["ended"] == "bye"
    assert action["evidence"]["before"]["status"] == "Available"
    assert daemon.state(user) == "away"


@pytest.mark.serial
def test_an_agent_who_falls_silent_is_offline_within_a_second_of_ttl_and_timer(
    connect: Connect, daemon: Daemon
) -> None:
    daemon.start().ready()
    user, session = connect.users[0], new_session()
    until(lambda: daemon.ask("/v1/status")["instances"][0]["target"], "the statuses are listed")
    assert daemon.beat(user, session).status_code == 200
    last = time.time()
    until(lambda: connect.status(user) == "Offline", "set Offline")
    assert TTL + TIMER <= connect.writes(user)[0].at - last <= TTL + TIMER + 1


@pytest.mark.serial
def test_who_reloads_has_two_tabs_or_stays_is_not_touched(connect: Connect, daemon: Daemon) -> None:
    daemon.start().ready()
    reloads, two_tabs, stays, leaves = connect.users[:4]
    first, second = new_session(), new_session()
    daemon.beat(reloads, first)
    daemon.beat(two_tabs, second)
    with Present(daemon, [stays, two_tabs]) as present:
        assert daemon.bye(reloads, first).status_code == 204
        assert daemon.bye(two_tabs, second).status_code == 204
        assert daemon.bye(leaves, new_session()).status_code == 204
        with Present(daemon, [reloads]):
            until(lambda: connect.status(leaves) == "Offline", "the one who left is set")
            answered = present.answered
            until(lambda: present.answered > answered + 20, "the others go on beating")
            assert {connect.status(user) for user in (reloads, two_tabs, stays)} == {"Available"}
            assert {daemon.state(user) for user in (reloads, two_tabs, stays)} == {"live"}
    assert [call.user_id for call in connect.writes()] == [leaves]


def test_a_dry_run_records_everything_and_writes_nothing(connect: Connect, daemon: Daemon) -> None:
    daemon.start(WATCHDOG_DRY_RUN="true").ready()
    user = connect.users[0]
    daemon.bye(user, new_session())
    until(daemon.actions, "recorded")
    assert [action["outcome"] for action in daemon.actions()] == ["dry_run"]
    assert connect.writes() == []
    assert connect.status(user) == "Available"


def test_another_status_may_be_the_target(connect: Connect, daemon: Daemon) -> None:
    daemon.start(WATCHDOG_STATUS="Lunch").ready()
    user = connect.users[0]
    daemon.bye(user, new_session())
    until(lambda: connect.status(user) == "Lunch", "set to Lunch")
    until(daemon.actions, "in the history")
    assert daemon.actions()[0]["outcome"] == "confirmed"


@pytest.mark.serial
def test_sigterm_ends_it_with_0_and_the_next_one_goes_on(connect: Connect, daemon: Daemon, tmp_path: Path) -> None:
    daemon.start().ready()
    ghost, stays = connect.users[:2]
    with Present(daemon, [stays]):
        daemon.beat(ghost, new_session())
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 10
        assert connect.writes() == []
        daemon.start().ready()
        until(lambda: connect.status(ghost) == "Offline", "the next process sets the ghost")
        assert connect.status(stays) == "Available"
    assert "daemon.stopped" in daemon.log


@pytest.mark.serial
def test_sigterm_in_the_middle_of_a_write_ends_in_time_and_settles_or_gives_back(
    connect: Connect, daemon: Daemon
) -> None:
    daemon.start().ready()
    user = connect.users[0]
    daemon.bye(user, new_session())
    until(lambda: connect.writes(user), "written")
    assert daemon.stop() == 0
    daemon.start().ready()
    until(daemon.actions, "in the history")
    assert [action["outcome"] for action in daemon.actions()] == ["confirmed"]
    assert len(connect.writes(user)) == 1


def test_a_second_daemon_on_the_same_file_is_refused(connect: Connect, daemon: Daemon) -> None:
    daemon.start().ready()
    second = Daemon(daemon.folder / "second", daemon.env)
    second.folder.mkdir()
    try:
        second.start(WATCHDOG_STORE=f"sqlite:///{daemon.folder}/watchdog.db")
        assert second.ended() == 1
        assert "another daemon" in second.log
    finally:
        second.close()
    assert daemon.get("/readyz") == 200


def test_a_taken_port_is_told(connect: Connect, daemon: Daemon) -> None:
    daemon.start().ready()
    second = Daemon(daemon.folder / "second", daemon.env, port=daemon.port)
    second.folder.mkdir()
    try:
        second.start()
        assert second.ended() == 1
        assert "WATCHDOG_PORT" in second.log
        assert "Traceback" not in second.log
    finally:
        second.close()


def test_no_secret_is_in_the_log_the_status_or_the_metrics(connect: Connect, daemon: Daemon) -> None:
    daemon.start(WATCHDOG_LOG_LEVEL="debug").ready()
    user, session = connect.users[0], new_session()
    ticket = daemon.beat(user, session).json()["ticket"]
    daemon.beat(user, session, type="bye", ticket=ticket)
    daemon.client.post(f"{daemon.url}/v1/heartbeat", content=b"{", headers={"Authorization": "Bearer " + TOKEN})
    until(daemon.actions, "in the history")
    metrics = daemon.client.get(daemon.url + "/metrics").text
    told = daemon.log + str(daemon.ask("/v1/status")) + str(daemon.actions()) + metrics
    names = [row.username for row in connect.instance.users.values()]
    for secret in (TOKEN, ADMIN, ticket, "sandbox-secret", *names):
        assert secret not in told
    assert not re.search(rf"{user}|{INSTANCE}", metrics), "an agent in a label"
