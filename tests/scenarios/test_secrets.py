"""No secret in logs, errors, metrics, the status or the settings, whatever is said to a daemon that tells all."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.provider import AUDIENCE, ISSUER, Provider, document, jwk, serving, token
from tests.scenarios.harness import INSTANCE, ROOT, Connect, Daemon, free_port, new_session, settings, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.scenario

HEARTBEAT = "heartbeat-secret-zkqwvx"
ADMIN = "admin-secret-zkqwvx"
TICKETS = "ticket-secret-zkqwvx-zkqwvx"
NOTIFY = "whsec_" + "zkqwvx78" * 5
HOOK = "hook-secret-zkqwvx"
DEADMAN = "deadman-secret-zkqwvx"


@pytest.mark.parametrize(("mode", "log_format"), [("token", "console"), ("jwt", "json")])
def test_no_secret_leaves_the_daemon(connect: Connect, tmp_path: Path, mode: str, log_format: str) -> None:
    user, other = connect.users[:2]
    nowhere = f"http://127.0.0.1:{free_port()}"
    with serving(Provider(document(jwk("ES256", "k1")))) as provider:
        env = settings(
            connect.server.url,
            WATCHDOG_AUTH=mode,
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
            assert (status.status_code, metrics.status_code) == (200, 200)
            shown = subprocess.run(
                [sys.executable, "-m", "watchdog", "settings"],
                env={**env, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "COLUMNS": "500"},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            assert "TICKET_SECRETS" in shown.stdout
            assert daemon.stop() == 0
        finally:
            daemon.close()
    secrets = {"zkqwvx", ticket, *(part for each in (*bad, person, operator) for part in each.split(".")[1:])}
    places = {
        "log": daemon.log,
        "status": status.text,
        "metrics": metrics.text,
        "settings": shown.stdout + shown.stderr,
        **{f"answer {number}": f"{each.headers}{each.text}" for number, each in enumerate(heard)},
    }
    leaks = [(secret, place) for secret in secrets for place, text in places.items() if secret in text]
    assert leaks == []


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def said(daemon: Daemon, user: str, given: str | None, session: str | None = None, **fields: object) -> httpx.Response:
    body = {"instance_id": INSTANCE, "user_id": user, "session_id": session or new_session(), **fields}
    return daemon.client.post(f"{daemon.url}/v1/heartbeat", json=body, headers=bearer(given) if given else {})
