"""No secret in logs, errors, metrics, the status or the settings, whatever is said to a daemon that tells all."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.command import run
from tests.contract import redis_server
from tests.provider import AUDIENCE, ISSUER, Provider, document, jwk, serving, token
from tests.scenarios.harness import INSTANCE, Connect, Daemon, free_port, new_session, settings, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.scenario

HEARTBEAT = "heartbeat-secret-zkqwvx"
ADMIN = "admin-secret-zkqwvx"
TICKETS = "ticket-secret-zkqwvx-zkqwvx"
NOTIFY = "whsec_" + "zkqwvx78" * 5
HOOK = "hook-secret-zkqwvx"
DEADMAN = "deadman-secret-zkqwvx"
STORE = "store-secret-zkqwvx"


@contextlib.contextmanager
def store(folder: Path, *, on_server: bool) -> Iterator[str]:
    """The URL of a store: a file, or a server that wants a password."""
    if not on_server:
        yield "sqlite:///watchdog.db"
        return
    if redis_server.PROGRAM is None:
        pytest.skip("no redis-server here")
    folder.mkdir()
    with redis_server.running(folder, "--requirepass", STORE) as server:
        yield f"valkey://:{STORE}@127.0.0.1:{server.port}/0"


@pytest.mark.parametrize(
    ("mode", "log_format", "on_server"),
    [pytest.param("token", "console", False, marks=pytest.mark.long), ("jwt", "json", True)],
)
def test_no_secret_leaves_the_daemon(
    connect: Connect,
    tmp_path: Path,
    mode: str,
    log_format: str,
    on_server: bool,  # noqa: FBT001 - a parameter of the story
) -> None:
    user, other = connect.users[:2]
    nowhere = f"http://127.0.0.1:{free_port()}"
    with (
        serving(Provider(document(jwk("ES256", "k1")))) as provider,
        store(tmp_path / "redis", on_server=on_server) as place,
    ):
        env = settings(
            connect.server.url,
            WATCHDOG_AUTH=mode,
            WATCHDOG_STORE=place,
            WATCHDOG_HEARTBEAT_TOKENS=f"{HEARTBEAT},second-{HEARTBEAT}",
            WATCHDOG_ADMIN_TOKENS=ADMIN,
            WATCHDOG_TICKET_SECRETS=TICKETS,
            WATCHDOG_JWKS=provider.url,
            WATCHDOG_JWT_ISSUER=ISSUER,
            WATCHDOG_JWT_AUDIENCE=AUDIENCE,
            WATCHDOG_NOTIFY_URLS=f"{nowhere}/{HOOK}?token={HOOK}",
            WATCHDOG_NOTIFY_SECRET=NOTIFY,
            WATCHDOG_DEADMAN_URL=f"{nowhere}/{DEADMAN}",
            WATCHDOG_LOG_LEVEL="debug",
            WATCHDOG_LOG_FORMAT=log_format,
        )
        daemon = Daemon(tmp_path, env).start().ready()
        try:
            person = token(sub=user)
            operator = token(sub="operator", scope="watchdog:admin")
            bad = [token(sub=other), token(sub=user, aud="x"), token(sub=user, number=3), person[:-8], "wrong-zkqwvx"]
            opener = HEARTBEAT if mode == "token" else person
            session = new_session()
            heard = [said(daemon, user, opener, session, type="hello")]
            ticket = heard[0].json()["ticket"]
            heard.pop()
            for each in (*bad, operator, ADMIN, HEARTBEAT, person):
                heard += [
                    said(daemon, user, each),
                    said(daemon, user, None, token=each, ticket=each[:500]),
                    said(daemon, user, None, token=each, ticket=[each], type=each),
                    daemon.client.get(f"{daemon.url}/v1/agents?q={each[:900]}", headers=bearer(each)),
                    daemon.client.put(f"{daemon.url}/v1/brake", json={"state": each}, headers=bearer(each)),
                    daemon.client.post(f"{daemon.url}/v1/agents/{each}/{each}/logout", headers=bearer(each)),
                    daemon.client.get(f"{daemon.url}/{each}", headers={"x": each}),
                    daemon.client.post(f"{daemon.url}/v1/heartbeat", content=each, headers=bearer(each)),
                ]
            heard = [each for each in heard if each.status_code != 200]
            assert {each.status_code for each in heard} >= {400, 401, 404, 422}
            assert all(each.status_code < 500 for each in heard)
            gone = said(daemon, user, opener, session, type="bye", ticket=ticket)
            assert gone.status_code == 204
            until(lambda: connect.status(user) == "Offline", "the change")
            until(lambda: "notify.failed" in daemon.log, "a receiver that is told of it")
            status = httpx.get(f"{daemon.url}/v1/status", headers=bearer(ADMIN))
            metrics = httpx.get(f"{daemon.url}/metrics")
            told = httpx.get(f"{daemon.url}/v1/settings", headers=bearer(ADMIN))
            assert (status.status_code, metrics.status_code, told.status_code) == (200, 200, 200)
            assert "WATCHDOG_STORE" in told.text
            shown = command(tmp_path, env, "settings")
            assert "TICKET_SECRETS" in shown
            checked = command(tmp_path, env, "check")
            assert "store" in checked.lower()
            assert daemon.stop() == 0
        finally:
            daemon.close()
    secrets = {"zkqwvx", ticket, *(part for each in (*bad, person, operator) for part in each.split(".")[1:])}
    places = {
        "log": daemon.log,
        "status": status.text,
        "metrics": metrics.text,
        "settings": shown,
        "check": checked,
        "/v1/settings": told.text,
        **{f"answer {number}": f"{each.headers}{each.text}" for number, each in enumerate(heard)},
    }
    leaks = [(secret, place) for secret in secrets for place, text in places.items() if secret in text]
    assert leaks == []


def test_no_secret_is_in_the_last_words_of_a_daemon_that_cannot_start(tmp_path: Path) -> None:
    nowhere = free_port()
    for place in (f"valkey://me:{STORE}@127.0.0.1:{nowhere}/0", f"valkey:me:{STORE}@127.0.0.1:{nowhere}"):
        env = settings(f"http://127.0.0.1:{nowhere}", WATCHDOG_STORE=place, WATCHDOG_LOG_LEVEL="debug")
        said = {what: command(tmp_path, env, what) for what in ("check", "settings")}
        assert all("//127.0.0.1" in each or "***@12" in each for each in said.values()), said
        assert [what for what, each in said.items() if "zkqwvx" in each] == []


def command(folder: Path, env: dict[str, str], name: str) -> str:
    """Everything that a command prints."""
    done = run([name], {**env, "PATH": "/usr/bin:/bin", "COLUMNS": "500"}, folder=folder)
    return done.stdout + done.stderr


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def said(daemon: Daemon, user: str, given: str | None, session: str | None = None, **fields: object) -> httpx.Response:
    body = {"instance_id": INSTANCE, "user_id": user, "session_id": session or new_session(), **fields}
    return daemon.client.post(f"{daemon.url}/v1/heartbeat", json=body, headers=bearer(given) if given else {})
