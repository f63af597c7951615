"""Which pages may ask for what, under which names, and how much they may say."""

import asyncio
import json

import httpx
import pytest
import structlog

from watchdog.ingest.auth import AuthMode
from watchdog.ingest.cors import Cors
from watchdog.ingest.front import MAX_ORDER, MAX_URL, Front
from watchdog.ingest.origins import Origins
from watchdog.ingest.wire import CLOSED_PAGE

PAGE = "https://ccp.example.com"
ELSEWHERE = "https://elsewhere.example"
OWN = "http://localhost"
PUBLIC = "https://watchdog.example.com"

HEARTBEATS = ["/v1/heartbeat", "/v1/heartbeats"]
ORDERS = [
    ("PUT", "/v1/brake"),
    ("POST", "/v1/restore"),
    ("POST", "/v1/agents/11111111-2222-3333-4444-555555555555/someone/logout"),
]
READS = ["/v1/status", "/v1/agents", "/v1/actions", "/v1/record?for_s=1", "/metrics"]


class Fronted:
    """The application as browsers and others reach it."""

    def __init__(self, world, *, public=None):
        self.world = world
        origins = Origins.of([PAGE], public, open_to_all=world.gate.mode is AuthMode.NONE)
        self.front = Front(world.app, origins, world.counters, asyncio.get_running_loop().time)

    async def ask(self, method, path, **headers):
        transport = httpx.ASGITransport(Cors(self.front, [PAGE]), raise_app_exceptions=False, client=self.world.client)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = given.pop("content", None)
        async with httpx.AsyncClient(transport=transport, base_url=OWN) as http:
            return await http.request(method, path, content=content, headers=given)


@pytest.fixture
async def fronted(make_world):
    return Fronted(make_world())


@pytest.fixture
async def open_to_all(make_world):
    return Fronted(make_world(mode=AuthMode.NONE, admin_tokens=(), heartbeat_tokens=()))


@pytest.mark.parametrize("path", HEARTBEATS)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": ELSEWHERE},
        {"origin": "null"},
        {"origin": "file://"},
        {"origin": PAGE + ".evil.example"},
        {"origin": PAGE + ":8443"},
        {"origin": "http://ccp.example.com"},
        {"origin": OWN, "sec_fetch_site": "cross-site"},
        {"origin": OWN + ":8081"},
        {"origin": "https://localhost:80"},
        {"origin": ELSEWHERE, "sec_fetch_site": "same-site"},
        {"origin": ""},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
async def test_a_page_of_another_origin_is_refused_before_its_token_is_looked_at(fronted, path, headers):
    reply = await fronted.ask("POST", path, content_type="text/plain", content="{}", **headers)
    assert reply.status_code == 403
    assert reply.json()["type"] == "urn:watchdog:problem:origin"
    assert "WATCHDOG_ALLOWED_ORIGINS" in reply.json()["detail"]
    assert fronted.world.counters.rejected["origin"] == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": PAGE},
        {"origin": PAGE, "sec_fetch_site": "cross-site"},
        {"origin": OWN},
        {"origin": OWN, "sec_fetch_site": "same-origin"},
        {"origin": "HTTP://LOCALHOST"},
        # a proxy names another host than the page's
        {"origin": ELSEWHERE, "sec_fetch_site": "same-origin"},
        # a form's navigation under Referrer-Policy: no-referrer
        {"origin": "null", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
async def test_pages_that_may_and_clients_that_are_none_get_through(fronted, headers):
    reply = await fronted.ask("POST", "/v1/heartbeat", content_type="text/plain", content="{}", **headers)
    assert reply.status_code == 400


async def test_a_bye_of_another_origin_ends_nothing(fronted, message):
    world = fronted.world
    ticket = (await world.post(message(type="hello"))).json()["ticket"]
    bye = json.dumps(message(type="bye", ticket=ticket))
    reply = await fronted.ask("POST", "/v1/heartbeat", origin=ELSEWHERE, content_type="text/plain", content=bye)
    assert reply.status_code == 403
    assert [session.closed for session in world.store.sessions.values()] == [False]


async def test_the_public_address_is_an_own_origin(make_world):
    fronted = Fronted(make_world(), public=f"{PUBLIC}:443/watchdog/")
    for origin, status in ((PUBLIC, 400), (ELSEWHERE, 403)):
        reply = await fronted.ask("POST", "/v1/heartbeat", origin=origin, content_type="text/plain", content="{}")
        assert reply.status_code == status


@pytest.mark.parametrize(("method", "path"), ORDERS)
@pytest.mark.parametrize("headers", [{"origin": ELSEWHERE}, {"origin": PAGE}, {"sec_fetch_site": "cross-site"}])
async def test_no_page_of_another_origin_gives_orders_where_nobody_has_to_prove_anything(
    open_to_all, method, path, headers
):
    reply = await open_to_all.ask(method, path, **headers)
    assert (reply.status_code, reply.json()["type"]) == (403, "urn:watchdog:problem:origin")
    assert open_to_all.world.logouts.orders == []


async def test_whoever_is_no_page_gives_orders_there(open_to_all):
    assert (await open_to_all.ask(*ORDERS[2])).status_code == 204
    assert len(open_to_all.world.logouts.orders) == 1


@pytest.mark.parametrize("path", READS)
async def test_no_page_of_another_origin_reads(open_to_all, path):
    assert (await open_to_all.ask("GET", path, sec_fetch_site="cross-site")).status_code == 403
    assert (await open_to_all.ask("GET", path, origin=PAGE)).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "[bad"]
)
async def test_a_name_that_leads_here_today_is_answered_nothing(open_to_all, host):
    for method, path in (*ORDERS, ("POST", "/v1/heartbeat"), ("GET", "/v1/status"), ("GET", "/metrics")):
        reply = await open_to_all.ask(method, path, host=host, origin=f"http://{host}")
        assert (reply.status_code, reply.json()["type"]) == (421, "urn:watchdog:problem:host"), path


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "a.localhost", "127.0.0.1:1", "127.1.2.3", "[::1]:80"])
async def test_names_of_this_machine_are_answered(open_to_all, host):
    assert (await open_to_all.ask("GET", "/v1/status", host=host)).status_code == 200


async def test_the_public_name_is_answered(make_world):
    fronted = Fronted(make_world(mode=AuthMode.NONE, admin_tokens=()), public=PUBLIC)
    assert (await fronted.ask("GET", "/v1/status", host="Watchdog.example.com")).status_code == 200
    assert (await fronted.ask("GET", "/v1/status", host="watchdog.example.net")).status_code == 421


async def test_where_tokens_are_asked_for_any_name_is_answered_but_metrics(fronted):
    reply = await fronted.ask("GET", "/v1/status", host="evil.example", authorization="Bearer admin-token")
    assert reply.status_code == 200
    assert (await fronted.ask("GET", "/metrics")).status_code == 200
    assert (await fronted.ask("GET", "/metrics", host="evil.example")).status_code == 401


async def test_a_refused_page_is_told_once_a_minute(fronted):
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await fronted.ask("POST", "/v1/heartbeat", origin=ELSEWHERE + "x" * 1000, content="{}")
    (line,) = [each for each in logs if each["event"] == "http.page_refused"]
    assert (line["reason"], line["count"], len(line["origin"])) == ("origin", 1, 200)


async def test_a_refused_page_writes_nothing_to_a_terminal(fronted):
    with structlog.testing.capture_logs() as logs:
        await fronted.ask("POST", "/v1/heartbeat", origin=b"https://\x9b31m\x85\xffx", content="{}")
    (line,) = [each for each in logs if each["event"] == "http.page_refused"]
    assert line["origin"] == "https://31m\xffx"


@pytest.mark.parametrize("path", ["/v1/heartbeat", "/v1/status", "/livez"])
@pytest.mark.parametrize("name", [b"host", b"origin", b"sec-fetch-site", b"content-encoding"])
async def test_what_is_said_twice_is_not_chosen_from(make_world, path, name):
    world = make_world()
    front = Front(
        world.app, Origins(frozenset({b"https://good.example"})), world.counters, asyncio.get_running_loop().time
    )
    values = {
        b"origin": (b"https://evil.example", b"https://good.example"),
        b"sec-fetch-site": (b"none", b"same-origin"),
    }
    given = values.get(name, (b"localhost", b"localhost"))
    for one, two in (given, given[::-1]):
        problem = front.wrong(path, 10, [(name, one), (b"x", b""), (name, two)], "POST")
        assert (problem.status, "more than once" in problem.detail) == (400, True)
    assert front.wrong(path, 10, [(b"host", b"localhost"), (b"x", b""), (b"x", b"")], "POST") is None


async def test_packed_bodies_are_refused_and_not_unpacked(fronted):
    for method, path in (("POST", "/v1/heartbeat"), *ORDERS):
        for encoding in ("gzip", "br", "deflate, gzip", "identity, gzip"):
            reply = await fronted.ask(method, path, content_encoding=encoding, content=b"\x1f\x8b")
            assert (reply.status_code, reply.headers["connection"]) == (415, "close")
        plain = {"content_encoding": "Identity", "content_type": "text/plain"}
        assert (await fronted.ask(method, path, content=b"{}", **plain)).status_code != 415
    assert fronted.world.counters.rejected["media-type"] == 4


async def test_a_long_url_is_refused(fronted):
    reply = await fronted.ask("GET", "/v1/agents?q=" + "x" * MAX_URL)
    assert (reply.status_code, reply.json()["title"]) == (414, "URI Too Long")
    assert (await fronted.ask("GET", "/v1/agents?q=" + "x" * (MAX_URL - 13))).status_code == 401


@pytest.mark.parametrize(("method", "path"), ORDERS)
async def test_an_order_is_read_up_to_a_limit_whoever_sends_it(fronted, method, path):
    read = 0

    async def endless():
        nonlocal read
        while read < 100 * MAX_ORDER:
            read += 1024
            yield b" " * 1024

    reply = await fronted.ask(method, path, content=endless())
    assert reply.status_code == 413
    assert read <= MAX_ORDER + 2048
    announced = await fronted.ask(method, path, content=b" " * (MAX_ORDER + 1))
    assert announced.status_code == 413


async def test_an_order_arrives_as_it_was_sent(fronted):
    body = b'{"state":"hold","for_s":60,"reason":"a test"}'
    headers = {"authorization": "Bearer admin-token", "content_type": "application/json"}
    assert (await fronted.ask("PUT", "/v1/brake", content=body, **headers)).status_code == 200
    assert [order[3] for order in fronted.world.store.ordered] == ["a test"]


OPEN = {("get", "/livez"), ("get", "/readyz")}
WITH_TOKENS_OF_THEIR_OWN = {("post", "/v1/heartbeat"), ("post", "/v1/heartbeats")}


async def test_every_route_is_closed_unless_it_is_known_to_be_open(make_world):
    world = make_world(client=("192.0.2.1", 5000))
    fronted = Fronted(world)
    document = (await fronted.ask("GET", "/openapi.json")).json()
    walked = {(method, path) for path, item in document["paths"].items() for method in item}
    assert walked > OPEN | WITH_TOKENS_OF_THEIR_OWN
    for method, path in walked - OPEN:
        url = path.replace("{instance_id}", "11111111-2222-3333-4444-555555555555").replace("{user_id}", "someone")
        body = b'{"agent":"x"}' if (method, path) not in WITH_TOKENS_OF_THEIR_OWN else b'{"heartbeats":[]}'
        if (method, path) in WITH_TOKENS_OF_THEIR_OWN:
            continue
        for token in (None, "Bearer beat-token", "Bearer ", "Basic YWRtaW4tdG9rZW4="):
            given = {} if token is None else {"authorization": token}
            reply = await fronted.ask(method.upper(), url, content=body, content_type="application/json", **given)
            assert reply.status_code == 401, (method, path, token)
    assert world.logouts.orders == world.store.ordered == world.store.undone == []


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect", "/v1", "/v1/", "/static/x", "/.env"])
async def test_there_is_nothing_else(fronted, path):
    assert (await fronted.ask("GET", path, authorization="Bearer admin-token")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/heartbeat", 415),
        ("GET", "/v1/status", 401),
        ("GET", "/metrics", 200),
        ("GET", "/livez", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/client/core.js", 200),
        ("GET", "/client/nothing.js", 404),
        ("GET", "/v1/ws", 426),
        ("GET", "/" + "x" * MAX_URL, 414),
    ],
)
async def test_every_answer_says_how_it_may_be_used(fronted, method, path, status):
    reply = await fronted.ask(method, path)
    assert reply.status_code == status
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    public = status == 200 and path.startswith("/client/")
    assert reply.headers["cross-origin-resource-policy"] == ("cross-origin" if public else "same-origin")
    assert ("no-store" in reply.headers["cache-control"]) is not public
    assert "set-cookie" not in reply.headers


async def test_what_is_no_page_runs_nothing_when_it_is_shown_as_one(fronted):
    reply = await fronted.ask("GET", "/openapi.json")
    assert reply.headers["content-security-policy"] == CLOSED_PAGE[1].decode()
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
