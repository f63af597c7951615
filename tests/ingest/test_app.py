"""What operators ask, over ASGI."""

import threading

import pytest

from watchdog.core.model import Action, AgentId, Epoch, IntentKind, Outcome
from watchdog.errors import StoreUnavailable
from watchdog.ingest.auth import AuthMode

pytestmark = pytest.mark.looptime

ADMIN = {"authorization": "Bearer admin-token"}
BY = "token:10a4c7c9"
"""Of `printf admin-token | sha256sum`."""
INSTANCE = "11111111-2222-3333-4444-555555555555"
ASKED = ["/v1/status", "/v1/agents", f"/v1/agents/{INSTANCE}/u", "/v1/actions"]


@pytest.fixture
async def world(make_world):
    return make_world()


@pytest.fixture
async def http(world):
    async with world.http() as client:
        yield client


async def asked(world, path, headers=ADMIN):
    async with world.http() as client:
        return await client.get(path, headers=headers)


def detail_of(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    return problem["detail"]


def action(number, outcome=Outcome.CONFIRMED, user="u1"):
    return Action(
        id=f"a{number}",
        at=Epoch(1_800_000_000.0 + number),
        agent=AgentId(INSTANCE, user),
        intent=IntentKind.SET_STATUS,
        target="Offline",
        outcome=outcome,
        reason="The last session ended.",
        evidence={"sessions": 1},
        calls=3,
        latency_s=2.12345,
    )


@pytest.mark.parametrize("path", [*ASKED, "/metrics", "/livez", "/", "/openapi.json"])
async def test_nothing_is_judged_or_answered_in_a_thread(make_world, path):
    world = make_world(client=("192.0.2.1", 5000))
    before = set(threading.enumerate())
    for headers in (ADMIN, {"authorization": "Bearer wrong"}):
        assert (await asked(world, path, headers)).status_code in (200, 401, 404)
    assert set(threading.enumerate()) <= before, "what tells who may ask belongs to the loop, and so does the store"


async def test_the_probes_tell_what_the_daemon_knows_of_itself(world, http):
    for path in ("/livez", "/readyz"):
        response = await http.get(path)
        assert response.status_code == 200
        assert (await http.head(path)).status_code == 200
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
    world.daemon.dead = "The sweep has not run for 12 s."
    world.daemon.unready = "The store cannot be written."
    assert detail_of(await http.get("/livez"), 503) == "The sweep has not run for 12 s."
    assert detail_of(await http.get("/readyz"), 503) == "The store cannot be written."


@pytest.mark.parametrize("path", [*ASKED, "/v1/record?for_s=1"])
async def test_an_operator_needs_an_admin_token(make_world, path):
    for headers in ({}, {"authorization": "Bearer beat-token"}, {"authorization": "Basic admin-token"}):
        response = await asked(make_world(), path, headers)
        assert "WATCHDOG_ADMIN_TOKENS" in detail_of(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
    assert "Set WATCHDOG_ADMIN_TOKENS" in detail_of(await asked(make_world(admin_tokens=()), path), 403)
    open_to_all = make_world(mode=AuthMode.NONE, admin_tokens=())
    assert (await asked(open_to_all, path, {})).status_code in (200, 404)
    assert (await asked(make_world(mode=AuthMode.NONE), path, {})).status_code == 401


async def test_the_status_is_what_the_daemon_says(world):
    response = await asked(world, "/v1/status")
    assert response.json() == {"version": "1.2.3", "agents": {"live": 1}}
    assert response.headers["content-type"] == "application/json"


async def test_an_agent_is_shown_with_its_sessions(world, message):
    await world.post(message(visibility="hidden", driver="main"))
    shown = (await asked(world, "/v1/agents")).json()
    assert shown["cursor"] is None
    (agent,) = shown["agents"]
    assert agent == {
        "instance_id": INSTANCE,
        "user_id": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "state": "live",
        "sessions": [
            {"session_id": message()["session_id"], "expires_in_s": 150.0, "visibility": "hidden", "driver": "main"}
        ],
        "due_in_s": 155.0,
        "last_seen": "2027-01-15T08:00:00.250Z",
        "last_outcome": None,
        "profile": None,
    }
    one = await asked(world, f"/v1/agents/{INSTANCE}/{agent['user_id']}")
    assert one.json() == agent
    assert "/v1/agents" in detail_of(await asked(world, f"/v1/agents/{INSTANCE}/nobody"), 404)


async def test_agents_are_filtered_and_paged(world, message):
    for number in range(5):
        fields = {"agent": None, "instance_id": INSTANCE, "user_id": f"u{number}"}
        await world.post(message(**fields, session_id=f"00000000-0000-0000-0000-00000000000{number}"))
    first = (await asked(world, "/v1/agents?limit=2&state=live&q=u")).json()
    assert [agent["user_id"] for agent in first["agents"]] == ["u0", "u1"]
    second = (await asked(world, f"/v1/agents?limit=2&cursor={first['cursor']}")).json()
    assert [agent["user_id"] for agent in second["agents"]] == ["u2", "u3"]
    assert (await asked(world, "/v1/agents?state=due")).json()["agents"] == []
    found = (await asked(world, "/v1/agents?q=u3&state=&cursor=")).json()["agents"]
    assert [agent["user_id"] for agent in found] == ["u3"]


async def test_agents_are_filtered_by_routing_profile(world, message):
    for number in range(3):
        fields = {"agent": None, "instance_id": INSTANCE, "user_id": f"u{number}"}
        await world.post(message(**fields, session_id=f"00000000-0000-0000-0000-00000000000{number}"))
    world.profiles.of |= {AgentId(INSTANCE, "u1"): "Sales & Co", AgentId(INSTANCE, "u2"): "Sales"}
    found = (await asked(world, "/v1/agents?profile=Sales+%26+Co")).json()["agents"]
    assert [(agent["user_id"], agent["profile"]) for agent in found] == [("u1", "Sales & Co")]
    everybody = (await asked(world, "/v1/agents?profile=")).json()["agents"]
    assert [agent["profile"] for agent in everybody] == [None, "Sales & Co", "Sales"]
    assert (await asked(world, f"/v1/agents/{INSTANCE}/u2")).json()["profile"] == "Sales"


async def test_actions_are_shown_newest_first_and_filtered(world):
    world.store.history = [action(2, Outcome.FAILED, "u2"), action(1)]
    shown = (await asked(world, "/v1/actions")).json()
    assert shown["cursor"] is None
    assert shown["actions"][1] == {
        "id": "a1",
        "at": "2027-01-15T08:00:01.000Z",
        "agent": f"{INSTANCE}/u1",
        "intent": "set_status",
        "target": "Offline",
        "outcome": "confirmed",
        "reason": "The last session ended.",
        "evidence": {"sessions": 1},
        "calls": 3,
        "latency_s": 2.123,
    }
    for query, ids in {
        "": ["a2", "a1"],
        f"agent={INSTANCE}/u1": ["a1"],
        f"agent=arn:aws:connect:us-east-1:123456789012:instance/{INSTANCE}/agent/u2": ["a2"],
        "outcome=failed": ["a2"],
        "outcome=already": [],
        "since=1800000001.5": ["a2"],
        "since=2027-01-15T08:00:02Z": ["a2"],
        "since=2027-01-15T10:00:02%2B02:00": ["a2"],
        "since=2027-01-15T10:00:02+02:00": ["a2"],
        "since=&agent=&outcome=": ["a2", "a1"],
        "limit=1": ["a2"],
        "limit=1&cursor=1": ["a1"],
    }.items():
        response = await asked(world, f"/v1/actions?{query}")
        assert [each["id"] for each in response.json()["actions"]] == ids, query


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v1/agents?state=sleeping", 400, "live, grace, due"),
        ("/v1/agents?limit=0", 422, "`limit`"),
        ("/v1/agents?limit=1001", 422, "`limit`"),
        ("/v1/agents?limit=many", 422, "`limit`"),
        ("/v1/agents?cursor=nonsense", 400, "`cursor`"),
        ("/v1/actions?cursor=nonsense", 400, "`cursor`"),
        ("/v1/actions?outcome=fine", 400, "confirmed, next_status"),
        ("/v1/actions?agent=somebody", 400, "ARN"),
        ("/v1/actions?agent=arn:aws:connect", 400, "ARN"),
        ("/v1/actions?since=yesterday", 400, "RFC 3339"),
        ("/v1/actions?since=2027-01-15T08:00:02", 400, "RFC 3339"),
        ("/v1/actions?since=nan", 400, "RFC 3339"),
        ("/v1/actions?since=inf", 400, "RFC 3339"),
    ],
)
async def test_a_query_that_makes_no_sense_is_told_what_does(world, path, status, said):
    assert said in detail_of(await asked(world, path), status)


async def test_what_is_not_there_is_a_problem_too(http):
    assert "/openapi.json" in detail_of(await http.get("/nothing"), 404)
    response = await http.post("/livez")
    assert "Allow" in detail_of(response, 405)
    assert "GET" in response.headers["allow"]
    assert (await http.get("/docs")).status_code == 404


async def test_while_the_store_is_away_an_operator_is_told_to_come_again(world):
    world.store.broken = StoreUnavailable("secret path")
    for path in ASKED[1:]:
        response = await asked(world, path)
        assert "secret" not in detail_of(response, 503)
        assert response.headers["retry-after"] == "1"


async def test_a_fault_of_our_own_is_told_without_its_inside(world):
    world.store.broken = RuntimeError("secret inside")
    response = await asked(world, "/v1/agents")
    assert "secret" not in detail_of(response, 500)
    assert "log" in detail_of(response, 500)


async def ordered(world, body, headers=ADMIN):
    async with world.http() as client:
        return await client.put("/v1/brake", json=body, headers=headers)


async def test_an_operator_holds_and_releases(world):
    response = await ordered(world, {"state": "hold", "for_s": 600, "reason": "new proxy"})
    assert response.status_code == 200
    assert response.json() == {"state": "clear", "held": 0, "holds": []}
    await ordered(world, {"state": "released", "for_s": 0, "instance_id": INSTANCE})
    assert world.store.ordered == [
        ("all", True, 600.0, "new proxy", BY),
        (INSTANCE, False, 0.0, "", BY),
    ]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"state": "hold"}, 422, "`for_s`"),
        ({"for_s": 60}, 422, "`state`"),
        ({"state": "stop", "for_s": 60}, 422, "`state`"),
        ({"state": "hold", "for_s": -1}, 422, "`for_s`"),
        ({"state": "hold", "for_s": 86_401}, 422, "`for_s`"),
        ({"state": "hold", "for_s": "1e400"}, 422, "`for_s`"),
        ({"state": "hold", "for_s": 60, "instance": INSTANCE}, 422, "`instance`"),
        ({"state": "hold", "for_s": 60, "instance_id": "a b"}, 422, "`instance_id`"),
        ({"state": "hold", "for_s": 60, "reason": "x" * 501}, 422, "`reason`"),
        ({"state": "hold", "for_s": 60, "instance_id": "22222222"}, 404, "WATCHDOG_INSTANCES"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(world, body, status, said):
    assert said in detail_of(await ordered(world, body), status)
    assert world.store.ordered == []


async def test_an_order_needs_an_admin_token(world):
    for headers in ({}, {"authorization": "Bearer beat-token"}):
        assert (await ordered(world, {"state": "hold", "for_s": 60}, headers)).status_code == 401
    assert world.store.ordered == []


async def test_an_order_that_cannot_be_stored_is_told(world):
    world.store.broken = StoreUnavailable("secret path")
    assert "secret" not in detail_of(await ordered(world, {"state": "hold", "for_s": 60}), 503)


async def restore(world, body, headers=ADMIN):
    async with world.http() as client:
        return await client.post("/v1/restore", json=body, headers=headers)


@pytest.mark.parametrize("since", ["2023-11-14T22:13:20Z", "2023-11-15T00:13:20+02:00", "1700000000", 1_700_000_000])
async def test_an_operator_has_changes_undone(world, since):
    response = await restore(world, {"since": since})
    assert response.status_code == 200
    assert response.json() == {"since": "2023-11-14T22:13:20.000Z", "queued": 3, "left": 2, "other": 1}
    await restore(world, {"since": since, "instance_id": INSTANCE, "silent": True})
    assert world.store.undone == [
        (1_700_000_000.0, None, False, BY),
        (1_700_000_000.0, INSTANCE, True, BY),
    ]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 422, "`since`"),
        ({"since": ""}, 400, "`since`"),
        ({"since": "yesterday"}, 400, "`since`"),
        ({"since": "1e400"}, 400, "`since`"),
        ({"since": -1}, 400, "`since`"),
        ({"since": 1e18}, 400, "`since`"),
        ({"since": 1e11}, 400, "future"),
        ({"since": "0001-01-01T00:00:00+23:59"}, 400, "`since`"),
        ({"since": True}, 422, "valid number"),
        ({"since": "2026-01-31T12:00:00"}, 400, "`since`"),
        ({"since": 0, "instance_id": "a b"}, 422, "`instance_id`"),
        ({"since": 0, "instance_id": "22222222"}, 404, "WATCHDOG_INSTANCES"),
        ({"since": 0, "silent": "perhaps"}, 422, "`silent`"),
        ({"since": 0, "quiet": True}, 422, "`quiet`"),
    ],
)
async def test_an_undo_that_makes_no_sense_is_refused(world, body, status, said):
    assert said in detail_of(await restore(world, body), status)
    assert world.store.undone == []


async def test_an_undo_needs_an_admin_token(world):
    for headers in ({}, {"authorization": "Bearer beat-token"}):
        assert (await restore(world, {"since": 0}, headers)).status_code == 401
    assert world.store.undone == []


async def test_an_undo_that_cannot_be_stored_is_told(world):
    world.store.broken = StoreUnavailable("secret path")
    assert "secret" not in detail_of(await restore(world, {"since": 0}), 503)


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("::ffff:127.0.0.1", {}, 200),
        ("10.0.0.1", {}, 401),
        ("10.0.0.1", ADMIN, 200),
        ("not-an-address", {}, 401),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.1"}, 401),
        ("127.0.0.1", {"forwarded": "for=10.0.0.1"}, 401),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.1", **ADMIN}, 200),
    ],
)
async def test_metrics_are_for_this_machine_and_for_operators(make_world, client, headers, status):
    response = await asked(make_world(client=(client, 1)), "/metrics", headers)
    assert response.status_code == status
    if status == 200:
        assert response.content == b"watchdog_sessions 1.0\n"
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_the_openapi_document_has_every_path_and_the_heartbeat_as_it_is(http):
    response = await http.get("/openapi.json")
    document = response.json()
    assert {"/v1/heartbeat", "/v1/heartbeats", "/v1/status", "/v1/agents", "/v1/actions", "/livez"} <= set(
        document["paths"]
    )
    post = document["paths"]["/v1/heartbeat"]["post"]
    assert {"200", "204", "400", "401", "403", "409", "413", "414", "415", "421", "429", "503"} == set(
        post["responses"]
    )
    assert "401" not in document["paths"]["/v1/heartbeats"]["post"]["responses"]
    schemas = document["components"]["schemas"]
    assert {"agent", "session_id", "ticket"} <= set(schemas["Heartbeat"]["properties"])
    assert_resolved(document, schemas)
    assert (await http.get("/openapi.json")).json() == document


def assert_resolved(node, schemas):
    if isinstance(node, dict):
        if "$ref" in node:
            assert node["$ref"].rpartition("/")[2] in schemas
        for each in node.values():
            assert_resolved(each, schemas)
    elif isinstance(node, list):
        for each in node:
            assert_resolved(each, schemas)
