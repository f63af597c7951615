"""Disks, files, credentials and instances that are not as they should be: told, nothing lost, nobody touched."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.harness import (
    INSTANCE,
    Connect,
    Daemon,
    free_port,
    new_session,
    sandbox,
    settings,
    until,
)
from tests.scenarios.stories import STARTING, Stage, story
from watchdog.sandbox.server import environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.scenario


SWEEPS_S = 2.0
"""Time for eight sweeps: had one of them claimed an agent, the write would have followed within the first two."""


def let_sweep(daemon: Daemon, seconds: float = SWEEPS_S) -> None:
    """Lets the daemon run on."""
    since = daemon.ask("/v1/status")["uptime_s"]
    until(lambda: daemon.ask("/v1/status")["uptime_s"] > since + seconds, "so much later")


def test_bad_settings_stop_the_start_with_every_fault(connect: Connect, daemon: Daemon) -> None:
    daemon.start(WATCHDOG_SESSION_TTL="1", WATCHDOG_SESION_END_TIMER="5", WATCHDOG_PORT="http")
    assert daemon.ended() == 2
    for told in ("WATCHDOG_SESSION_TTL", "WATCHDOG_SESSION_END_TIMER", "WATCHDOG_PORT"):
        assert told in daemon.log


def test_a_file_that_is_no_database_stops_the_start_and_stays_as_it_is(connect: Connect, daemon: Daemon) -> None:
    letter = b"a letter, not a database\n" * 500
    (daemon.folder / "watchdog.db").write_bytes(letter)
    daemon.start()
    assert daemon.ended() == 1
    assert "Move it away" in daemon.log
    assert "Traceback" not in daemon.log
    assert (daemon.folder / "watchdog.db").read_bytes() == letter


def test_a_folder_that_cannot_be_written_stops_the_start(connect: Connect, daemon: Daemon) -> None:
    daemon.start(WATCHDOG_STORE="sqlite:////proc/watchdog.db")
    assert daemon.ended() == 1
    assert "folder that it may write" in daemon.log
    assert "Traceback" not in daemon.log


@story(agents=12, seconds=25)
def test_a_disk_that_fills_up_refuses_heartbeats_and_touches_nobody_until_there_is_room(stage: Stage) -> None:
    present, ghost, newcomer, *_ = stage.users
    stage.start()
    daemon = stage.daemon
    with stage.crowd([present]):
        assert daemon.process is not None
        daemon.beat(ghost, new_session())
        stage.all_live(2)
        # The kernel refuses to let any file of the process grow, as a full disk does.
        size = max(path.stat().st_size for path in daemon.folder.glob("watchdog.db*"))
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        def refused() -> bool:
            with contextlib.suppress(Exception):
                return daemon.beat(newcomer, new_session(), type="hello").status_code == 503
            return False

        until(refused, "refused")
        until(lambda: daemon.get("/readyz") == 503, "not ready")
        assert daemon.get("/livez") == 200
        answer = daemon.beat(newcomer, new_session(), type="hello")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"].startswith("application/problem+json")
        status = stage.status()
        (problem,) = [each for each in status["problems"] if each["code"] == "store_unavailable"]
        assert "room" in problem["detail"] or "disk" in problem["detail"]
        stood = status["clock"]["observed_s"]
        # TTL and timer are 7 s.
        let_sweep(daemon, 7 + SWEEPS_S)
        assert stage.status()["clock"]["observed_s"] <= stood + 0.5
        stage.nobody_was_touched()

        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        until(lambda: daemon.get("/readyz") == 200, "ready again")
        until(lambda: stage.connect.status(ghost) == "Offline", "the ghost is caught after all", 60)
        stage.nobody_was_touched([present])
    assert daemon.events("store.unavailable")
    assert daemon.events("store.back")


@story(agents=1, seconds=30)
def test_aws_away_at_the_start_is_no_reason_not_to_take_heartbeats(stage: Stage) -> None:
    port = free_port()
    daemon = stage.daemon
    daemon.env |= environment(f"http://127.0.0.1:{port}", INSTANCE, "us-east-1")
    with STARTING:
        daemon.start().ready(60)
    until(stage.problems, "told")
    user, session = "gone", new_session()
    assert daemon.beat(user, session).status_code == 200
    assert daemon.bye(user, session).status_code == 204
    until(lambda: daemon.state(user) == "due", "due, and waiting")
    assert daemon.get("/readyz") == 200
    let_sweep(daemon)
    assert daemon.actions() == []
    with sandbox(agents=1, port=port) as connect:
        user = connect.users[0]
        daemon.bye(user, new_session())
        until(lambda: connect.status(user) == "Offline", "set once AWS is back", limit_s=60)


@story(agents=1, seconds=15)
def test_missing_credentials_are_told_and_heartbeats_go_on(stage: Stage) -> None:
    daemon, (user,) = stage.daemon, stage.users
    env = {name: value for name, value in daemon.env.items() if not name.startswith("AWS_ACCESS")}
    env = {name: value for name, value in env.items() if not name.startswith("AWS_SECRET")}
    daemon.env = {**env, "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null"}
    with STARTING:
        daemon.start().ready(60)
    until(stage.problems, "told")
    assert "credentials" in stage.status()["problems"][0]["detail"].lower()
    daemon.bye(user, new_session())
    until(lambda: daemon.state(user) == "due", "due, and waiting")
    assert daemon.get("/readyz") == 200
    let_sweep(daemon)
    assert stage.connect.writes() == []


def test_an_instance_that_does_not_exist_is_named(connect: Connect, daemon: Daemon) -> None:
    wrong = "99999999-2222-3333-4444-555555555555"
    daemon.start(WATCHDOG_INSTANCES=wrong).ready()
    problems = until(lambda: daemon.ask("/v1/status")["problems"], "told")
    assert wrong in problems[0]["detail"]
    assert "WATCHDOG_INSTANCES" in problems[0]["detail"]
    assert daemon.get("/readyz") == 200


def test_a_status_that_does_not_exist_is_named_and_stops_the_start(connect: Connect, daemon: Daemon) -> None:
    process = daemon.start(WATCHDOG_STATUS="Ofline").process
    assert process is not None
    assert process.wait(timeout=20) == 2
    assert 'WATCHDOG_STATUS: got "Ofline"' in daemon.log
    assert 'did you mean "Offline"?' in daemon.log
    assert connect.writes() == []


@pytest.mark.parametrize(
    ("body", "headers", "status", "told"),
    [
        (b"{", {}, 400, "JSON"),
        (b'{"session_id":"x"}', {}, 400, "session_id"),
        (b"{}", {"content-type": "application/xml"}, 415, "application/json"),
        (b"x" * 4097, {}, 413, "4096"),
        (b"", {}, 400, "JSON"),
    ],
)
def test_a_bad_heartbeat_is_refused_with_what_to_do(
    daemon_for_all: Daemon, body: bytes, headers: dict[str, str], status: int, told: str
) -> None:
    answer = daemon_for_all.client.post(
        f"{daemon_for_all.url}/v1/heartbeat", content=body, headers={"content-type": "application/json", **headers}
    )
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert told in answer.json()["detail"]


def test_a_foreign_instance_and_a_wrong_token_are_refused(daemon_for_all: Daemon) -> None:
    daemon = daemon_for_all
    foreign = daemon.beat("user", new_session(), instance_id="22222222-2222-3333-4444-555555555555")
    assert foreign.status_code == 403
    assert "WATCHDOG_INSTANCES" in foreign.json()["detail"]
    body = {"instance_id": INSTANCE, "user_id": "user", "session_id": new_session()}
    for token in ("", "Bearer wrong", "Basic abc"):
        answer = daemon.client.post(f"{daemon.url}/v1/heartbeat", json=body, headers={"Authorization": token})
        assert answer.status_code == 401
    assert daemon.ask("/v1/agents")["agents"] == []


@pytest.fixture(scope="module")
def daemon_for_all(tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    with sandbox(agents=1) as connect:
        daemon = Daemon(tmp_path_factory.mktemp("all"), settings(connect.server.url))
        daemon.start().ready()
        yield daemon
        daemon.close()


def test_a_read_only_disk_stops_the_start(connect: Connect, daemon: Daemon, tmp_path: Path) -> None:
    """A tmpfs that is mounted read-only; where mounts are not allowed, a folder without the right to write."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], check=False, capture_output=True).returncode
        == 0
    )
    if not mounted:
        disk.chmod(0o500)
    try:
        target = f"{disk}/watchdog.db" if mounted or os.geteuid() != 0 else "/proc/watchdog.db"
        daemon.start(WATCHDOG_STORE=f"sqlite:///{target}")
        assert daemon.ended() == 1
        assert "folder that it may write" in daemon.log
    finally:
        if mounted:
            subprocess.run(["umount", disk], check=True)
