"""The asynchronous client in virtual time, over a stand-in of the network."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from watchdog.client import AsyncPresenceClient, Notice, State, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.looptime

LIVE = {"state": "live", "next_ms": 10_000, "ticket": "t1"}
AGENT = "i/u"


class Network(httpx.AsyncBaseTransport):
    """Answers as it is told to, and lists what was posted: when, and the fields."""

    def __init__(self, answer: Callable[[dict[str, Any]], Awaitable[httpx.Response]] | None = None) -> None:
        self.posted: list[tuple[float, dict[str, Any]]] = []
        self.cancelled = 0
        self.answer = answer or self.live

    @staticmethod
    async def live(fields: dict[str, Any]) -> httpx.Response:
        return httpx.Response(204) if fields["type"] == "bye" else httpx.Response(200, json=LIVE)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        fields = json.loads(await request.aread())
        self.posted.append((round(asyncio.get_running_loop().time(), 2), fields))
        try:
            return await self.answer(fields)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    @property
    def said(self) -> list[tuple[float, str]]:
        return [(at, fields["type"]) for at, fields in self.posted]


def client(network: Network, **options: Any) -> AsyncPresenceClient:
    return AsyncPresenceClient("http://w", AGENT, http=httpx.AsyncClient(transport=network), **options)


async def never(_: dict[str, Any]) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def test_hello_beats_and_a_bye_at_the_end() -> None:
    network = Network()
    told: list[str] = []
    async with client(network, token="secret", on_status=lambda status: told.append(status.state)) as presence:
        assert await presence.wait_until_live(1)
        await asyncio.sleep(25)
    assert network.said == [(0, "hello"), (10, "beat"), (20, "beat"), (25, "bye")]
    assert [fields.get("token") for _, fields in network.posted] == ["secret", None, None, None]
    assert told == ["live", "ended"]
    await asyncio.sleep(100)
    assert len(network.posted) == 4


async def test_nobody_answers_each_post_is_given_up_after_4_s_and_closing_is_at_once() -> None:
    network = Network(never)
    async with client(network) as presence:
        assert not await presence.wait_until_live(8.6)
        assert (len(network.posted), network.cancelled) == (10, 10)
        assert presence.status.state is State.RETRYING
        begun = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() == begun
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert "bye" not in {kind for _, kind in network.said}


async def test_a_bye_that_nobody_takes_holds_nobody_longer_than_2_s() -> None:
    network = Network()
    async with client(network) as presence:
        assert await presence.wait_until_live(1)
        network.answer = never
        begun = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - begun == 2
    assert network.said[-1][1] == "bye"
    await presence.aclose()
    assert network.said[-1][1] == "bye"
    assert len(network.posted) == 2


@pytest.mark.parametrize("fault", [httpx.ConnectError, httpx.InvalidURL, RuntimeError, ValueError])
async def test_what_the_network_raises_is_a_failure_that_is_tried_again(fault) -> None:
    network = Network()

    async def fails(_: dict[str, Any]) -> httpx.Response:
        raise fault("x")

    async with client(network) as presence:
        await asyncio.sleep(9)
        network.answer = fails
        await asyncio.sleep(1.5)
        assert presence.status.state is State.RETRYING
        network.answer = network.live
        assert await presence.wait_until_live(3)
    (failed, _), (again, _) = network.said[1:3]
    assert 1 <= again - failed <= 3


async def test_a_token_is_asked_for_at_the_start_and_after_a_401() -> None:
    tokens = iter(["first", "second"])

    async def given_later() -> str:
        await asyncio.sleep(0.5)
        return next(tokens)

    async def take(fields: dict[str, Any]) -> httpx.Response:
        if fields["type"] == "beat" and fields.get("token") != "second":
            return httpx.Response(401, json={"detail": "expired"})
        return await Network.live(fields)

    network, told = Network(take), []
    async with client(network, token=given_later, on_status=told.append) as presence:
        assert await presence.wait_until_live(5)
        await asyncio.sleep(12)
    assert [fields.get("token") for _, fields in network.posted] == ["first", None, "second", None]
    assert told[1] == Status(State.UNAUTHORIZED, detail="expired")
    assert network.said[2][0] == pytest.approx(network.said[1][0] + 0.5)


async def test_a_token_callback_that_fails_or_hangs_is_told_and_the_hello_goes_without(caplog) -> None:
    async def broken() -> str:
        raise RuntimeError("no server")

    async def hangs() -> str:
        await asyncio.Event().wait()
        return ""

    for ask, after in ((broken, 0), (hangs, 30)):
        network = Network()
        async with client(network, token=ask) as presence:
            begun = asyncio.get_running_loop().time()
            assert await presence.wait_until_live(60)
            assert asyncio.get_running_loop().time() - begun == after
        assert "token" not in network.posted[0][1]
    assert caplog.text.count("the token callback failed") == 2


async def test_callbacks_may_fail_and_may_be_asynchronous(caplog) -> None:
    notice = {"status": "Offline", "set_at": "2026-01-31T12:00:00Z", "why": "All closed.", "restored": None}
    heard: list[Notice] = []

    async def on_notice(told: Notice) -> None:
        await asyncio.sleep(1)
        heard.append(told)
        raise RuntimeError("after a while")

    def on_status(_: Status) -> None:
        raise RuntimeError("at once")

    async def noticed(fields: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, json={**LIVE, "notice": notice})

    network = Network(noticed)
    async with client(network, on_status=on_status, on_notice=on_notice):
        await asyncio.sleep(15)
    assert heard == [Notice("Offline", "2026-01-31T12:00:00Z", "All closed.", None)]
    assert network.said == [(0, "hello"), (10, "beat"), (15, "bye")]
    assert caplog.text.count("a callback failed") == 3


async def test_a_client_stops_is_resumed_and_kicked() -> None:
    network = Network()

    async def stop(_: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, json={"state": "stop"})

    async with client(network, login=False) as presence:
        await asyncio.sleep(5)
        presence.set(login=True, visibility="visible")
        network.answer = stop
        presence.kick()
        await asyncio.sleep(100)
        assert (presence.status.state, network.said) == (State.STOPPED, [(0, "hello"), (5, "beat")])
        network.answer = network.live
        presence.resume()
        assert await presence.wait_until_live(1)
    at, fields = network.posted[2]
    assert (at, fields["type"], fields["incarnation"]) == (105, "hello", 1)
    assert (fields["login"], fields["visibility"]) == (True, "visible")


async def test_refusals_are_logged_without_what_was_sent(caplog) -> None:
    caplog.set_level(logging.DEBUG)

    async def refuse(_: dict[str, Any]) -> httpx.Response:
        return httpx.Response(403, json={"detail": "The instance is not watched."})

    async with client(Network(refuse), token="secret-token") as presence:
        await asyncio.sleep(60)
        assert presence.status == Status(State.RETRYING, detail="The instance is not watched.")
    assert caplog.text.count("The instance is not watched.") == 1
    assert "secret-token" not in caplog.text


async def test_a_client_is_one_session_and_a_shared_http_client_stays_open() -> None:
    network = Network()
    async with httpx.AsyncClient(transport=network) as http:
        for _ in range(2):
            presence = AsyncPresenceClient("http://w", AGENT, http=http)
            async with presence:
                await presence.wait_until_live(1)
            with pytest.raises(RuntimeError, match="one session"):
                await presence.__aenter__()
        assert not http.is_closed
    assert len({fields["session_id"] for _, fields in network.posted}) == 2
    unopened = AsyncPresenceClient("http://w", AGENT, http=http)
    with pytest.raises(RuntimeError, match="not open"):
        await unopened.wait_until_live()
    unopened.kick()
    await unopened.aclose()
    assert len(network.posted) == 4


async def test_a_loop_that_was_blocked_says_for_how_long(monkeypatch) -> None:
    network = Network()
    async with client(network) as presence:
        await presence.wait_until_live(1)
        await asyncio.sleep(5)
        wall = time.time
        monkeypatch.setattr(time, "time", lambda: wall() + 3600)
        await asyncio.sleep(6)
    assert network.said[1] == (6, "beat")
    assert network.posted[1][1]["gap_ms"] >= 3_600_000


def test_what_makes_no_sense_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="address"):
        AsyncPresenceClient("w", AGENT)
    with pytest.raises(ValueError, match="agent"):
        AsyncPresenceClient("http://w", "x")
    with pytest.raises(ValueError, match="transport"):
        AsyncPresenceClient("http://w", AGENT, transport="ws")
