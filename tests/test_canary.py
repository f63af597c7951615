"""The canary in virtual time: the real rules, messages and HTTP client; only the sockets are not there."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog

from tests.connect.world import instant
from watchdog.canary import Canary
from watchdog.core.canary import rules
from watchdog.core.clock import Cause
from watchdog.ingest import canary as message
from watchdog.ingest.auth import Tickets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.looptime

TICKETS = Tickets([b"a-secret-of-ours-0123"])
URL = "http://127.0.0.1:1/watchdog/"
EVERY = 5.0


class Way:
    """What is between the canary and the daemon."""

    def __init__(self) -> None:
        self.broken: Callable[[httpx.Request], Any] | None = None
        self.asked: list[str] = []
        self.beats = 0
        self.sessions = 40
        self.delay_s = 0.0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        await asyncio.sleep(self.delay_s)
        if self.broken is not None:
            return self.broken(request)
        answer = message.answer(request.content, TICKETS, "boot", instant().epoch)
        return httpx.Response(200 if answer else 401, content=answer or b"")


@asynccontextmanager
async def canary(way: Way) -> AsyncIterator[Canary]:
    loop = asyncio.get_running_loop()
    made = Canary(
        URL,
        rules(35.0, 10.0),
        TICKETS,
        beats=lambda: way.beats,
        sessions=lambda: way.sessions,
        epoch=lambda: instant().epoch,
        time=loop.time,
        transport=httpx.MockTransport(way),
    )
    yield made
    await made.close()


async def calls(made: Canary, count: int, way: Way | None = None, beats_a_second: float = 0.0) -> list[Cause | None]:
    """Calls every 5 s, and tells after each what it says."""
    told: list[Cause | None] = []
    loop = asyncio.get_running_loop()
    for _ in range(count):
        next_at = loop.time() + EVERY
        await made.step()
        told.append(made.blind())
        if way is not None:
            way.beats += round(EVERY * beats_a_second)
        await asyncio.sleep(next_at - loop.time())
    return told


def refuses(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


async def test_while_it_comes_back_nobody_notices_it():
    way = Way()
    with structlog.testing.capture_logs() as logs:
        async with canary(way) as made:
            assert await calls(made, 10) == [None] * 10
            assert made.problems() == []
            assert made.told()["state"] == "ok"
    assert logs == []
    assert set(way.asked) == {"http://127.0.0.1:1/watchdog/v1/heartbeat"}


async def test_two_lost_calls_stop_the_clock_and_one_that_comes_back_starts_it():
    way = Way()
    with structlog.testing.capture_logs() as logs:
        async with canary(way) as made:
            await calls(made, 2)
            way.broken = refuses
            assert await calls(made, 1) == [None]
            assert await calls(made, 3) == [Cause.CANARY] * 3
            (problem,) = made.problems()
            assert problem.code == "canary_failing"
            assert "ConnectError" in problem.detail
            assert made.told()["failures"] == 4
            way.broken = None
            assert await calls(made, 1) == [None]
            assert made.problems() == []
    assert [line["event"] for line in logs] == ["canary.failed", "canary.back"]
    assert "127.0.0.1" not in str(logs)
    assert "ticket" not in str(logs)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: httpx.Response(502), "status 502"),
        (lambda _: httpx.Response(301, headers={"location": "https://elsewhere"}), "status 301"),
        (lambda _: httpx.Response(204), "status 204"),
        (lambda _: httpx.Response(200, content=b"<html>Welcome"), "not this deployment"),
        (lambda _: httpx.Response(200, content=b'{"state":"canary","boot":"boot"}'), "not this deployment"),
        (lambda _: httpx.Response(200, content=b" " * 1_000_000), "not this deployment"),
        (
            lambda request: httpx.Response(
                200,
                content=message.answer(
                    message.call(TICKETS, bytes(16), instant().epoch), TICKETS, "b", instant().epoch
                ),
            ),
            "not this deployment",
        ),
    ],
)
async def test_an_answer_that_is_not_ours_is_none(answer, why):
    way = Way()
    way.broken = answer
    async with canary(way) as made:
        assert await calls(made, 2) == [None, Cause.CANARY]
        assert why in made.problems()[0].detail
    assert len(way.asked) == 2, "a redirection was followed"


async def test_another_deployment_behind_the_address_is_not_ours():
    way = Way()
    others = Tickets([b"a-secret-of-somebody"])
    way.broken = lambda request: httpx.Response(
        200, content=message.answer(request.content, others, "b", instant().epoch) or b"{}"
    )
    async with canary(way) as made:
        assert await calls(made, 2) == [None, Cause.CANARY]


async def test_a_call_that_hangs_is_lost_after_four_seconds():
    way = Way()
    way.delay_s = 100.0
    loop = asyncio.get_running_loop()
    async with canary(way) as made:
        began = loop.time()
        await made.step()
        assert loop.time() - began == pytest.approx(4.0)
        assert made.blind() is None
        await made.step()
        assert made.blind() is Cause.CANARY
        assert "TimeoutError" in made.problems()[0].detail


async def test_fifteen_seconds_without_a_success_count_even_if_nothing_fails():
    async with canary(Way()) as made:
        await made.step()
        await asyncio.sleep(15)
        assert made.blind() is None
        await asyncio.sleep(0.1)
        assert made.blind() is Cause.CANARY


async def test_while_half_of_the_agents_beat_the_canary_is_not_believed():
    way = Way()
    with structlog.testing.capture_logs() as logs:
        async with canary(way) as made:
            way.broken = refuses
            # 40 sessions should send 4 beats a second
            assert await calls(made, 6, way, beats_a_second=2.0) == [None] * 6
            assert await calls(made, 6, way, beats_a_second=8.0) == [None] * 6
            (problem,) = made.problems()
            assert problem.code == "canary_disbelieved"
            # then they fall silent
            told = await calls(made, 6, way)
            assert told[0] is None
            assert told[-1] is Cause.CANARY
            assert [problem.code for problem in made.problems()] == ["canary_failing"]
    assert [line["event"] for line in logs] == ["canary.disbelieved", "canary.failed"]


async def test_what_was_believed_in_one_row_of_lost_calls_says_nothing_of_the_next():
    way = Way()
    async with canary(way) as made:
        way.broken = refuses
        assert await calls(made, 4, way, beats_a_second=20.0) == [None] * 4
        way.broken = None
        assert await calls(made, 1) == [None]
        way.broken = refuses
        assert await calls(made, 2) == [None, Cause.CANARY]


async def test_what_was_believed_once_does_not_outlast_the_silence():
    way = Way()
    async with canary(way) as made:
        way.broken = refuses
        assert await calls(made, 4, way, beats_a_second=20.0) == [None] * 4
        way.broken = None
        await made.step()
        await asyncio.sleep(16)
        assert made.blind() is Cause.CANARY


async def test_an_answer_without_end_is_not_read_to_its_end():
    way = Way()
    read = 0

    async def much() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b" " * 1024

    way.broken = lambda _: httpx.Response(200, content=much())
    async with canary(way) as made:
        await made.step()
        assert made.told()["failures"] == 1
    assert read <= 6


async def test_beats_from_before_the_first_lost_call_prove_nothing():
    way = Way()
    async with canary(way) as made:
        await calls(made, 4, way, beats_a_second=8.0)
        way.broken = refuses
        assert await calls(made, 2) == [None, Cause.CANARY]


async def test_a_third_of_the_agents_is_not_enough():
    way = Way()
    async with canary(way) as made:
        way.broken = refuses
        told = await calls(made, 8, way, beats_a_second=1.4)
        assert told == [None] + [Cause.CANARY] * 7


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "fe80::1", "::ffff:169.254.169.254"])
async def test_a_name_that_leads_to_a_metadata_service_is_not_called(address, monkeypatch):
    way = Way()
    async with canary(way) as made:

        async def resolved(*_: object, **__: object) -> list[Any]:
            return [(2, 1, 6, "", ("10.0.0.1", 80)), (2, 1, 6, "", (address, 80))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
        made._url = "http://watchdog.example/v1/heartbeat"
        await made.step()
        assert way.asked == []
        assert made.told()["failures"] == 1
