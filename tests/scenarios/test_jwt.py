"""AUTH=jwt: a real daemon, a real identity provider over HTTP, real keys."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.sync.client import connect as open_socket
from websockets.typing import Subprotocol

from tests.provider import AUDIENCE, ISSUER, Provider, document, forged, jwk, private_key, serving, token
from tests.scenarios.harness import ADMIN, INSTANCE, Connect, Daemon, free_port, new_session, sandbox, settings, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.scenario

KEYS = document(jwk("ES256", "k1"), jwk("RS256", "k2"))

LONG = {"WATCHDOG_SESSION_TTL": "60", "WATCHDOG_THROTTLED_SESSION_TTL": "60"}


def environment(connect: Connect, jwks: str, **changes: str) -> dict[str, str]:
    return settings(
        connect.server.url,
        **LONG,
        WATCHDOG_AUTH="jwt",
        WATCHDOG_JWKS=jwks,
        WATCHDOG_JWT_ISSUER=ISSUER,
        WATCHDOG_JWT_AUDIENCE=AUDIENCE,
        WATCHDOG_TICKET_SECRETS="a-secret-that-signs-tickets",
        **changes,
    )


def arn(user: str) -> str:
    return f"arn:aws:connect:us-east-1:123456789012:instance/{INSTANCE}/agent/{user}"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serving(Provider(KEYS)) as provider:
        yield provider


@pytest.fixture(scope="module")
def stand() -> Iterator[Connect]:
    with sandbox(agents=12) as connect:
        yield connect


@pytest.fixture(scope="module")
def running(stand: Connect, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("jwt"), environment(stand, provider.url)).start().ready()
    yield daemon
    daemon.close()


def said(daemon: Daemon, user: str, bearer: str | None, session: str | None = None, **fields: Any) -> httpx.Response:
    body = {"instance_id": INSTANCE, "user_id": user, "session_id": session or new_session(), **fields}
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    return daemon.client.post(f"{daemon.url}/v1/heartbeat", json=body, headers=headers)


def test_an_agents_token_opens_renews_and_ends_its_own_session(running: Daemon, stand: Connect) -> None:
    user, session = stand.users[0], new_session()
    opened = said(running, user, token(sub=user), session, type="hello")
    assert (opened.status_code, opened.json()["state"]) == (200, "live")
    by_arn = token(alg="RS256", kid="k2", sub=arn(user))
    assert said(running, user, None, session, token=by_arn).json()["state"] == "live"
    assert said(running, user, None, session, ticket=opened.json()["ticket"]).json()["state"] == "live"
    for other in (token(sub=stand.users[1]), token(sub="x", scope="watchdog:gateway watchdog:admin")):
        refused = said(running, user, other, session, type="bye")
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:watchdog:problem:agent")
    assert said(running, user, token(sub=user), session, type="bye").status_code == 204


def test_forged_and_foreign_tokens_are_refused_and_say_why(running: Daemon, stand: Connect) -> None:
    user = stand.users[2]
    at = time.time()
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "exp": at + 600}
    public = private_key("RS256").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = forged({"alg": "HS256", "kid": "k2", "typ": "JWT"}, claims).rstrip(".")
    mac = base64.urlsafe_b64encode(hmac.digest(public, unsigned.encode(), hashlib.sha256)).rstrip(b"=").decode()
    bad = {
        "not a JWT": "heartbeat-token-of-the-tests",
        "`alg`": f"{unsigned}.{mac}",
        "signature": token(sub=user, number=7),
        "issuer": token(sub=user, iss="https://evil.example.com"),
        "audience": token(sub=user, aud="another"),
        "expired": token(sub=user, exp=at - 31),
        "not valid yet": token(sub=user, nbf=at + 60),
        "`crit`": token(sub=user, headers={"crit": ["x"], "x": 1}),
        "another kind": token(sub=user, headers={"typ": "logout+jwt"}),
    }
    for why, given in bad.items():
        refused = said(running, user, given)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), why
        assert why in refused.json()["detail"]
        assert given not in refused.text
    assert said(running, user, token(sub=user, exp=at - 20)).status_code == 200, "within the leeway"


def test_a_token_of_100_kilobytes_is_not_read(running: Daemon, stand: Connect) -> None:
    user = stand.users[2]
    long, longer = (token(sub=user, pad="x" * size) for size in (12_000, 75_000))
    refused = said(running, user, long)
    assert (refused.status_code, "8192 characters" in refused.json()["detail"]) == (401, True)
    assert len(longer) > 100_000
    assert said(running, user, None, token=longer).status_code == 413
    with contextlib.suppress(httpx.TransportError):  # hung up on while it is still sent
        assert said(running, user, longer).status_code == 431
    assert said(running, user, token(sub=user)).status_code == 200


def test_a_gateway_sends_batches_for_others_and_nobody_else_does(running: Daemon, stand: Connect) -> None:
    beats = [
        {"instance_id": INSTANCE, "user_id": user, "session_id": new_session(), "type": "hello"}
        for user in stand.users[3:6]
    ]

    def sent(bearer: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {bearer}"}
        answer = running.client.post(f"{running.url}/v1/heartbeats", json={"heartbeats": beats}, headers=headers)
        assert answer.status_code == 200
        return dict(answer.json())

    assert sent(token(sub="gateway", scp=["watchdog:gateway"])) == {"accepted": 3, "rejected": []}
    told = sent(token(sub=stand.users[3]))
    assert (told["accepted"], [each["index"] for each in told["rejected"]]) == (1, [1, 2])
    assert all("watchdog:gateway" in each["detail"] for each in told["rejected"])
    assert said(running, stand.users[3], token(sub="gateway", scope="watchdog:gateway")).status_code == 403


def test_a_socket_opens_with_the_agents_token(running: Daemon, stand: Connect) -> None:
    user, session = stand.users[6], new_session()
    hello = {"instance_id": INSTANCE, "user_id": user, "session_id": session, "type": "hello"}
    url, ours = f"ws://127.0.0.1:{running.port}/v1/ws", [Subprotocol("watchdog.v1")]
    with open_socket(url, subprotocols=ours, proxy=None) as socket:
        socket.send(json.dumps({**hello, "token": token(sub=stand.users[7])}))
        assert json.loads(socket.recv(10))["type"] == "urn:watchdog:problem:agent"
        socket.send(json.dumps({**hello, "token": token(sub=user)}))
        answer = json.loads(socket.recv(10))
        assert answer["state"] == "live"
        socket.send(json.dumps({**hello, "type": "beat", "ticket": answer["ticket"]}))
        assert json.loads(socket.recv(10))["state"] == "live"
    headers = {"Authorization": f"Bearer {token(sub=user)}"}
    with open_socket(url, subprotocols=ours, proxy=None, additional_headers=headers) as socket:
        socket.send(json.dumps({**hello, "session_id": new_session()}))
        assert json.loads(socket.recv(10))["state"] == "live"


def test_orders_need_the_scope_and_the_history_tells_who_gave_them(running: Daemon, stand: Connect) -> None:
    user = stand.users[8]
    subject = "a.person@example.com"
    operator = {"Authorization": f"Bearer {token(sub=subject, scope='openid watchdog:admin')}"}

    def put(headers: dict[str, str], for_s: int = 60) -> httpx.Response:
        order = {"state": "hold", "for_s": for_s, "instance_id": INSTANCE}
        return running.client.put(f"{running.url}/v1/brake", json=order, headers=headers)

    assert put({}).status_code == 401
    assert put({"Authorization": f"Bearer {token(sub=user)}"}).status_code == 403
    session = new_session()
    ticket = said(running, user, token(sub=user), session, type="hello").json()["ticket"]
    assert put({"Authorization": f"Bearer {ticket}"}).status_code == 401
    assert running.client.get(f"{running.url}/v1/status", headers=operator).status_code == 200
    held = put(operator)
    assert [hold["by"] for hold in held.json()["holds"]] == [f"jwt:{subject}"]
    assert put({"Authorization": f"Bearer {ADMIN}"}, for_s=0).status_code == 200
    url = f"{running.url}/v1/agents/{INSTANCE}/{user}/logout"
    assert httpx.post(url, headers=operator, timeout=60).status_code == 204
    told = [each for each in running.actions() if each["agent"].endswith(user) and each["intent"] == "sign_out"]
    assert {each["evidence"]["by"] for each in told} == {f"jwt:{subject}"}
    running.client.post(f"{running.url}/v1/restore", json={"since": time.time() - 60}, headers=operator)

    name = f"jwt:{hashlib.sha256(subject.encode()).hexdigest()[:8]}"
    orders = [(each["order"], each["by"]) for each in running.events("operator.order")]
    ours = f"token:{hashlib.sha256(ADMIN.encode()).hexdigest()[:8]}"
    assert orders == [("hold", name), ("hold", ours), ("logout", name), ("restore", name)]
    assert subject not in running.log
    assert subject not in running.client.get(f"{running.url}/metrics").text


# The provider goes, comes and rotates.


def told(daemon: Daemon) -> list[str]:
    return [problem["code"] for problem in daemon.ask("/v1/status")["problems"]]


def test_a_rotation_is_noticed_and_a_flood_of_unknown_keys_is_not(stand: Connect, tmp_path: Path) -> None:
    user = stand.users[9]
    with serving(Provider(document(jwk("ES256", "old")))) as provider:
        daemon = Daemon(tmp_path, environment(stand, provider.url)).start().ready()
        try:
            session = new_session()
            ticket = said(daemon, user, token(kid="old", sub=user), session, type="hello").json()["ticket"]
            provider.body = document(jwk("ES256", "new", number=1))
            rotated = token(kid="new", number=1, sub=user)
            first = said(daemon, user, rotated)
            assert first.status_code in (200, 503)
            if first.status_code == 503:
                assert first.headers["retry-after"] in ("1", "2")
                assert first.json()["type"] == "urn:watchdog:problem:keys"
            until(lambda: said(daemon, user, rotated).status_code == 200, "the new key is known")
            assert said(daemon, user, token(kid="old", sub=user)).status_code == 401, "the old key is gone"
            assert said(daemon, user, token(kid="old", sub=user), session, ticket=ticket).status_code == 200

            for number in range(1000):
                assert said(daemon, user, token(kid=f"forged-{number}", sub=user)).status_code == 401
            assert len(provider.asked) == 2
            assert said(daemon, user, rotated).status_code == 200
        finally:
            daemon.close()


def test_a_provider_that_is_down_silences_nobody(stand: Connect, tmp_path: Path) -> None:
    user, port = stand.users[10], free_port()
    daemon = Daemon(tmp_path, environment(stand, f"http://127.0.0.1:{port}/keys"))
    session = new_session()
    try:
        with serving(Provider(KEYS), port):
            daemon.start().ready()
            ticket = said(daemon, user, token(sub=user), session, type="hello").json()["ticket"]
        # Down, with keys: tokens of theirs are good, and of another nobody can tell.
        assert said(daemon, user, token(sub=user, jti="new")).status_code == 200
        until(lambda: said(daemon, user, token(kid="k9", sub=user)).status_code == 503, "nobody can tell")
        assert daemon.stop() == 0

        # Down at the start: there are no keys at all.
        daemon.start().ready()
        refused = said(daemon, user, token(sub=user))
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:watchdog:problem:keys")
        assert int(refused.headers["retry-after"]) >= 1
        renewed = said(daemon, user, token(sub=user), session, ticket=ticket)
        assert (renewed.status_code, renewed.json()["state"]) == (200, "live")
        assert "jwks_unreachable" in told(daemon)
        with serving(Provider(KEYS), port):
            until(lambda: said(daemon, user, token(sub=user)).status_code == 200, "the keys are had", limit_s=60)
            assert "jwks_unreachable" not in told(daemon)
        assert [each["event"] for each in map(json.loads, daemon.log.splitlines()) if "jwks" in each["event"]] == [
            "jwks.keys",
            "jwks.failed",
            "jwks.failed",
            "jwks.back",
            "jwks.keys",
        ]
    finally:
        daemon.close()


def test_keys_come_from_a_file_and_a_file_without_keys_stops_the_start(stand: Connect, tmp_path: Path) -> None:
    place = tmp_path / "jwks.json"
    daemon = Daemon(tmp_path, environment(stand, str(place)))
    try:
        daemon.start()
        assert daemon.ended(30) == 2
        assert f'WATCHDOG_JWKS: got "{place}"; The file cannot be read' in daemon.log
        place.write_bytes(KEYS)
        daemon.start().ready()
        assert said(daemon, stand.users[11], token(sub=stand.users[11])).status_code == 200
    finally:
        daemon.close()


def test_a_flood_of_forged_tokens_is_not_verified_and_sessions_go_on(stand: Connect, tmp_path: Path) -> None:
    user = stand.users[10]
    with serving(Provider(KEYS)) as provider:
        daemon = Daemon(tmp_path, environment(stand, provider.url)).start().ready()
        try:
            session, known = new_session(), token(sub=user)
            ticket = said(daemon, user, known, session, type="hello").json()["ticket"]
            forged_ones = [token(sub=user, number=7, jti=str(number)) for number in range(300)]
            answers = [said(daemon, user, each) for each in forged_ones]
            assert {answer.status_code for answer in answers} == {401, 429}
            refused = answers[-1]
            assert refused.json()["type"] == "urn:watchdog:problem:rate"
            assert refused.headers["retry-after"] in ("1", "2")
            assert said(daemon, user, forged_ones[0], session, ticket=ticket).json()["state"] == "live"
            assert said(daemon, user, known).json()["state"] == "live"
            new = token(sub=user, jti="new")
            until(lambda: said(daemon, user, new).status_code == 200, "and others when it is over")
        finally:
            daemon.close()
