"""What a daemon answers that stands by."""

from __future__ import annotations

import httpx
import pytest

from watchdog.ingest.standby import standing_by


@pytest.fixture
def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(standing_by()), base_url="http://standby")


async def test_it_is_alive_and_not_ready(client: httpx.AsyncClient) -> None:
    async with client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.head("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503


@pytest.mark.parametrize("path", ["/v1/heartbeat", "/v1/heartbeats", "/livez"])
async def test_heartbeats_are_told_when_to_come_again(client: httpx.AsyncClient, path: str) -> None:
    async with client:
        answer = await client.post(path, json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "stands by" in answer.json()["detail"]


async def test_a_socket_is_refused() -> None:
    sent: list[object] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: object) -> None:
        sent.append(message)

    await standing_by()({"type": "websocket", "path": "/v1/ws"}, receive, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close"}]
