"""The endpoint of the explicit logout: who may, what is taken, and how a failure reads."""

import pytest

from watchdog.core.logout import Failure
from watchdog.core.model import AgentId
from watchdog.errors import LogOutFailed, StoreUnavailable
from watchdog.ingest.auth import AuthMode

pytestmark = pytest.mark.looptime

INSTANCE = "11111111-2222-3333-4444-555555555555"
USER = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
PATH = f"/v1/agents/{INSTANCE}/{USER}/logout"
ADMIN = {"authorization": "Bearer admin-token"}


@pytest.fixture
async def world(make_world):
    return make_world()


async def asked(world, path=PATH, headers=ADMIN, **body):
    async with world.http() as http:
        return await http.post(path, headers=headers, **body)


def failed(response, status, kind="about:blank"):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["type"], problem["status"], problem["outcome"]) == (kind, status, "Fail")
    assert problem["title"]
    return problem["detail"]


@pytest.mark.parametrize(
    ("body", "given"),
    [
        ({}, (None, None)),
        ({"json": {}}, (None, None)),
        ({"json": None}, (None, None)),
        ({"json": {"queue": "", "reason_code": " "}}, (None, None)),
        ({"json": {"queue": None, "reason_code": "7"}}, (None, "7")),
        ({"json": {"queue": "q-1 "}}, ("q-1", None)),
    ],
)
async def test_an_agent_is_logged_out_without_a_word(world, body, given):
    response = await asked(world, **body)
    assert (response.status_code, response.content) == (204, b"")
    assert world.logouts.orders == [(AgentId(INSTANCE, USER), *given, "token:10a4c7c9")]


async def test_only_an_operator_may(make_world):
    world = make_world()
    for headers in ({}, {"authorization": "Bearer beat-token"}):
        response = await asked(world, headers=headers)
        assert "WATCHDOG_ADMIN_TOKENS" in failed(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
    closed = make_world(admin_tokens=())
    failed(await asked(closed), 403)
    assert world.logouts.orders + closed.logouts.orders == []
    open_to_all = make_world(mode=AuthMode.NONE, admin_tokens=())
    assert (await asked(open_to_all, headers={})).status_code == 204
    assert "WATCHDOG_AUTH=none" in open_to_all.logouts.orders[0][3]


@pytest.mark.parametrize(
    "body",
    [
        {"queues": "q"},
        {"queue": 7},
        {"queue": "q" * 501},
        {"queue": "q\n"},
        {"reason_code": "r" * 201},
        {"reason_code": "\x00"},
        ["queue"],
        "queue",
    ],
)
async def test_a_body_that_is_none_is_refused(world, body):
    failed(await asked(world, json=body), 422)
    failed(await asked(world, content=b"{", headers=ADMIN | {"content-type": "application/json"}), 422)
    assert world.logouts.orders == []


async def test_an_instance_that_is_not_watched_and_an_id_that_is_none_are_refused(world):
    assert "WATCHDOG_INSTANCES" in failed(await asked(world, f"/v1/agents/other/{USER}/logout"), 404)
    failed(await asked(world, f"/v1/agents/{INSTANCE}/not%20an%20id/logout"), 400)
    assert world.logouts.orders == []


@pytest.mark.parametrize("why", Failure)
async def test_each_failure_says_fail_why_and_what_to_do(world, why):
    world.logouts.error = LogOutFailed(why, "Do this.")
    response = await asked(world)
    assert failed(response, response.status_code, f"urn:watchdog:problem:{why}") == "Do this."
    assert response.status_code >= 400


async def test_what_may_succeed_later_says_when(world):
    for why, status in ((Failure.CONNECT, 503), (Failure.STORE, 503), (Failure.STOPPING, 503), (Failure.LATE, 504)):
        world.logouts.error = LogOutFailed(why, "Later.")
        response = await asked(world)
        failed(response, status, f"urn:watchdog:problem:{why}")
        assert (response.headers.get("retry-after") is not None) == (status == 503)
    world.logouts.error = StoreUnavailable("disk full")
    assert "disk full" not in failed(await asked(world), 503)


async def test_a_fault_of_ours_tells_nothing_of_our_inside(world):
    world.logouts.error = RuntimeError("secret")
    response = await asked(world)
    assert response.status_code == 500
    assert "secret" not in response.text


async def test_the_description_tells_the_body_and_the_failure(world):
    async with world.http() as http:
        document = (await http.get("/openapi.json")).json()
    operation = document["paths"]["/v1/agents/{instance_id}/{user_id}/logout"]["post"]
    assert {"204", "404", "409", "422", "502", "503", "504"} <= set(operation["responses"])
    assert "content" not in operation["responses"]["204"]
    assert not operation["requestBody"].get("required", False)
    assert document["components"]["schemas"]["FailOut"]["properties"]["outcome"]["const"] == "Fail"
    assert "stop" in document["components"]["schemas"]["HeartbeatOut"]["properties"]["state"]["enum"]


# The pages of who was logged out.


async def stopped(world, message, **fields):
    """A session that was stopped, and the answer to its next beat."""
    await world.post(message(type="hello"))
    for session_id, session in world.store.sessions.items():
        session.closed = True
        world.store.stopped.add(session_id)
    return await world.post(message(**fields))


async def test_a_page_of_who_was_logged_out_is_told_to_stop(world, message):
    response = await stopped(world, message, seq=5)
    assert response.json() == {"state": "stop", "next_ms": 10000, "boot": "boot-1"}
    assert (await world.post(message(type="hello", seq=6))).json()["state"] == "stop"
    hello = (await world.post(message(type="hello", incarnation=1, seq=0))).json()
    assert (hello["state"], bool(hello["ticket"])) == ("live", True)
    assert (await world.post(message(incarnation=1, seq=1))).json()["state"] == "live"


async def test_a_bye_of_who_was_logged_out_is_taken(world, message):
    hello = (await world.post(message(type="hello"))).json()
    for session_id, session in world.store.sessions.items():
        session.closed = True
        world.store.stopped.add(session_id)
    assert (await world.post(message(type="bye", ticket=hello["ticket"]))).status_code == 204


async def test_a_gateway_is_told_whose_pages_are_to_stop(world, message):
    await stopped(world, message)
    other = message(session_id="00000000-0000-0000-0000-000000000001")
    response = await world.post({"heartbeats": [message(), other]}, path="/v1/heartbeats")
    (rejected,) = response.json()["rejected"]
    assert (response.json()["accepted"], rejected["index"], "logged out" in rejected["detail"]) == (1, 0, True)
    assert sum(world.counters.rejected.values()) == 0
