"""Three daemons on one server, behind HAProxy, with what is shipped in deploy/compose-valkey; only ports are others."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.sync.client import connect

from tests.contract import redis_server
from tests.deploy.test_proxies import command, running
from tests.ingest.certificates import write
from tests.scenarios.harness import ADMIN, INSTANCE, TOKEN, Daemon, free_port, new_session, settings, until
from tests.scenarios.stories import TIMES, Stage, story

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.redis_server import RedisServer

SHIPPED = Path(__file__).parents[2] / "deploy" / "compose-valkey"
PASSWORD = "in-tests-only"


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[RedisServer]:
    users = folder / "valkey-users"
    users.write_text((SHIPPED / "valkey-users.example").read_text(encoding="utf-8").replace("PASSWORD", PASSWORD))
    options: list[str] = []
    for line in (SHIPPED / "valkey.conf").read_text(encoding="utf-8").splitlines():
        name, *values = shlex.split(line, comments=True) or [""]
        if name == "aclfile":
            values = [str(users)]
        if name and name not in ("port", "bind", "dir"):
            options += [f"--{name}", *values]
    redis_server.need()
    server = redis_server.RedisServer(folder, options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def haproxy(folder: Path, daemons: list[Daemon]) -> Iterator[tuple[int, int]]:
    """The ports of pages and of operators."""
    program, pages, operators = command("haproxy"), free_port(), free_port()
    cert, key = write(folder, "watchdog.example.com")
    (folder / "watchdog.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    text = (SHIPPED / "haproxy.cfg").read_text(encoding="utf-8")
    changes = {
        "/run/secrets/watchdog.pem": str(folder / "watchdog.pem"),
        "bind :443 ": f"bind 127.0.0.1:{free_port()} ",
        "bind :80\n": f"bind 127.0.0.1:{pages}\n",
        "bind :8443 ssl": f"bind 127.0.0.1:{operators} ssl",
        # The story is told without TLS.
        "    http-request redirect scheme https unless { ssl_fc }\n": "",
        **{f"watchdog-{number}:8080": f"127.0.0.1:{each.port}" for number, each in enumerate(daemons, 1)},
    }
    for had, gets in changes.items():
        assert had in text
        text = text.replace(had, gets)
    (folder / "haproxy.cfg").write_text(text)
    with running([program, "-db", "-f", "haproxy.cfg"], {"PATH": os.environ["PATH"]}, folder, pages):
        yield pages, operators


@contextlib.contextmanager
def deployed(stage: Stage) -> Iterator[tuple[list[Daemon], int, int]]:
    folders = [stage.folder / str(number) for number in range(3)]
    with valkey(stage.folder) as server:
        store = stage.folder / "store"
        store.write_text(f"valkey://watchdog:{PASSWORD}@127.0.0.1:{server.port}/0\n")
        daemons = []
        for folder in folders:
            folder.mkdir()
            env = {"WATCHDOG_STORE_FILE": str(store), "WATCHDOG_TRUSTED_PROXIES": "127.0.0.1/32"}
            daemons.append(Daemon(folder, settings(stage.connect.server.url, **env), client=httpx.Client(timeout=30)))
        stage.daemon = daemons[0]  # whose log is told when the story goes wrong
        try:
            for each in daemons:
                each.start(**TIMES)
                until(lambda each=each: each.get("/livez") == 200, "it is alive")
            with haproxy(stage.folder, daemons) as (pages, operators):
                yield daemons, pages, operators
        finally:
            for each in daemons:
                each.close()


def ready(daemons: list[Daemon], limit_s: float = 30) -> Daemon:
    """One that takes heartbeats."""
    found: Daemon = until(
        lambda: next((each for each in daemons if each.get("/readyz") == 200), None), "one is ready", limit_s
    )
    return found


def all_live(daemons: list[Daemon], count: int) -> None:
    def live() -> bool:
        with contextlib.suppress(AssertionError, httpx.TransportError, TypeError):
            return bool(ready(daemons).ask("/v1/status")["agents"]["live"] == count)
        return False

    until(live, f"{count} are live")


@pytest.mark.long
@story(agents=40, seconds=90)
def test_the_loss_of_one_and_the_restart_of_all_set_nobody_who_is_there(stage: Stage) -> None:
    *present, ghost, later, listener = stage.users
    with deployed(stage) as (daemons, pages, _):
        url, bearer = f"http://127.0.0.1:{pages}", {"Authorization": f"Bearer {TOKEN}"}

        def beats(user: str) -> bool:
            body = {"instance_id": INSTANCE, "user_id": user, "session_id": new_session()}
            return httpx.post(f"{url}/v1/heartbeat", json=body, headers=bearer).status_code == 200

        ready(daemons)
        with stage.crowd(present, pages) as crowd:
            until(lambda: crowd.heard(0) == set(present), "all are heard")
            until(lambda: beats(ghost), "a heartbeat goes through")
            with connect(f"ws://127.0.0.1:{pages}/v1/ws", subprotocols=["watchdog.v1"]) as socket:
                hello = {"instance_id": INSTANCE, "user_id": listener, "session_id": new_session(), "type": "hello"}
                socket.send(json.dumps({**hello, "token": TOKEN}))
                assert json.loads(socket.recv(10))["state"] == "live"
                all_live(daemons, len(present) + 2)
                killed = ready(daemons)
                killed.kill()
                ended = time.monotonic()
                until(lambda: crowd.heard(ended) == set(present), "all are heard again")
                print(f"all are heard again {time.monotonic() - ended:.1f} s after the loss")
            # The listener is gone with its socket: a ghost from now on.
            for user in (ghost, listener):
                stage.set_offline(user)
            print(f"ghosts of before are set {time.monotonic() - ended:.1f} s after the loss")
            killed.start(**TIMES)
            for each in daemons:
                until(lambda each=each: each.get("/livez") == 200, "it is alive")
            for each in daemons:
                # As in a rolling update.
                until(lambda: beats(later), "a heartbeat goes through")
                assert each.stop() == 0
                stopped = time.monotonic()
                each.start(**TIMES)
                until(lambda each=each: each.get("/livez") == 200, "it is alive")
                until(lambda stopped=stopped: crowd.heard(stopped) == set(present), "all are heard again")
            stage.set_offline(later)
            all_live(daemons, len(present))
            stage.nobody_was_touched(present)
        for user in (ghost, listener, later):
            assert len(stage.connect.writes(user)) == 1


@pytest.mark.long
@story(agents=2, seconds=25)
def test_what_is_for_operators_is_not_for_the_world(stage: Stage) -> None:
    anna, _ = stage.users
    with deployed(stage) as (daemons, pages, operators):
        ready(daemons)
        url, own = f"http://127.0.0.1:{pages}", f"https://127.0.0.1:{operators}"
        admin = {"Authorization": f"Bearer {ADMIN}"}
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200, "HAProxy knows who is ready")
        agent = f"/v1/agents/{INSTANCE}/{anna}"
        hidden = ["/", "/metrics", "/v1/status", "/v1/agents", agent, "/v1/actions", "/v1/events", "/docs", "/v1/brake"]
        for path in [*hidden, "/V1/status", "//v1/status", "/client/../v1/status", "/client/%2e%2e/v1/status"]:
            with httpx.Client(headers=admin) as client:
                request = client.build_request("GET", url)
                request.url = request.url.copy_with(raw_path=path.encode())
                assert client.send(request).status_code in (404, 400), path
        assert httpx.get(f"{url}/client/presence.js").status_code == 200
        refused = httpx.post(f"{url}{agent}/logout", json={})
        assert refused.status_code == 401  # it gets there
        with httpx.Client(verify=False, headers=admin, timeout=20) as client:
            assert client.get(f"{own}/v1/status").json()["ready"]
            assert client.get(f"{own}/metrics").status_code == 200
            with client.stream("GET", f"{own}/v1/events") as stream:
                assert stream.status_code == 200
                assert next(stream.iter_lines())
