"""Which pages may read what is answered to their heartbeats."""

import httpx
import pytest

from watchdog.ingest.cors import Cors

PAGE = "https://ccp.example.com"
ELSEWHERE = "https://elsewhere.example"


@pytest.fixture
async def client(make_world):
    app = Cors(make_world().app, [PAGE])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        yield client


def allowed(reply):
    return {name: value for name, value in reply.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("path", ["/v1/heartbeat", "/v1/heartbeats"])
async def test_a_page_of_an_allowed_origin_may_read_the_answer_also_a_refusal(client, path):
    reply = await client.post(path, content="{}", headers={"origin": PAGE, "content-type": "text/plain"})
    assert reply.status_code == 400
    assert allowed(reply) == {
        "access-control-allow-origin": PAGE,
        "access-control-expose-headers": "retry-after",
    }
    assert reply.headers["vary"] == "origin"


@pytest.mark.parametrize(
    "origin", [ELSEWHERE, "null", PAGE + ".evil.example", PAGE + ":8443", "http://ccp.example.com"]
)
async def test_a_page_of_another_origin_may_not(client, origin):
    reply = await client.post("/v1/heartbeat", content="{}", headers={"origin": origin})
    assert allowed(reply) == {}
    assert reply.headers["vary"] == "origin"


async def test_who_is_no_page_is_answered_as_ever(client):
    reply = await client.post("/v1/heartbeat", content="{}")
    assert allowed(reply) == {}
    assert "vary" not in reply.headers


async def test_a_preflight_is_answered(client):
    reply = await client.options("/v1/heartbeat", headers={"origin": PAGE, "access-control-request-method": "POST"})
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert reply.headers["access-control-allow-methods"] == "POST"
    assert reply.headers["access-control-allow-headers"] == "authorization, content-type"
    refused = await client.options(
        "/v1/heartbeat", headers={"origin": ELSEWHERE, "access-control-request-method": "POST"}
    )
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("path", ["/v1/status", "/livez", "/metrics"])
async def test_nothing_but_heartbeats_is_for_pages_of_other_origins(client, path):
    reply = await client.get(path, headers={"origin": PAGE})
    assert allowed(reply) == {}
