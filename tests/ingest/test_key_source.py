"""Where keys come from, in virtual time: when they are looked at, and what becomes of a look that fails."""

import asyncio
from itertools import pairwise

import httpx
import pytest

from tests.provider import document, jwk
from watchdog.core.model import Epoch
from watchdog.ingest.key_source import LEAST_S, MAX_DOCUMENT, REFRESH_S, TIMEOUT_S, KeySource
from watchdog.outgoing import Caller

pytestmark = pytest.mark.looptime

URL = "https://id.example.com/keys"
OLD = document(jwk("ES256", "old"))
NEW = document(jwk("ES256", "new", number=1))


def answered(status, content=b"", headers=None):
    """As it comes from a socket: not read yet."""
    return httpx.Response(status, stream=httpx.ByteStream(content), headers=headers or {})


class World:
    """A provider without sockets: what it answers, and when it was asked."""

    def __init__(self, answer=OLD, place=URL, addresses=("192.0.2.1",)):
        self.answer = answer
        self.addresses = addresses
        self.asked = []
        loop = asyncio.get_running_loop()
        self.source = KeySource(
            place,
            Caller(TIMEOUT_S, transport=httpx.MockTransport(self.handle), resolve=self.resolve),
            epoch=lambda: Epoch(1_000.0 + loop.time()),
            time=loop.time,
        )

    async def handle(self, request):
        self.asked.append(asyncio.get_running_loop().time())
        answer = self.answer
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return await answer(request)
        return answered(*answer) if isinstance(answer, tuple) else answered(200, answer)

    async def resolve(self, host, port):
        if isinstance(self.addresses, Exception):
            raise self.addresses
        assert (host, port) == ("id.example.com", 443)
        return self.addresses

    def kids(self):
        return None if self.source.current is None else [key.kid for key in self.source.current.keys]

    async def running(self, for_s):
        task = asyncio.create_task(self.source.run())
        try:
            await asyncio.sleep(for_s)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_keys_are_looked_at_every_five_minutes_so_that_one_that_was_taken_away_goes():
    world = World()
    await world.source.look()
    before = world.source.current
    world.answer = document(jwk("ES256", "old"))
    await world.running(REFRESH_S + 1)
    assert len(world.asked) == 2
    assert world.source.current is before, "the same keys are no news"
    world.answer = NEW
    await world.running(REFRESH_S + 1)
    assert world.kids() == ["new"]


@pytest.mark.parametrize("after_s", [1, 100])
async def test_an_unknown_key_is_looked_for_at_once(after_s):
    world = World()
    await world.source.look()
    task = asyncio.create_task(world.source.run())
    await asyncio.sleep(after_s)
    world.answer = NEW
    assert world.source.may_come()
    await asyncio.sleep(0.1)
    assert world.kids() == ["new"]
    assert not world.source.may_come(), "nothing newer could be had"
    task.cancel()


async def test_while_a_look_is_under_way_a_key_may_come():
    async def slow(_):
        await asyncio.sleep(2)
        return answered(200, NEW)

    world = World()
    await world.source.look()
    world.answer = slow
    task = asyncio.create_task(world.source.run())
    assert world.source.may_come()
    await asyncio.sleep(1)
    assert world.source.may_come()
    await asyncio.sleep(2)
    assert world.kids() == ["new"]
    task.cancel()


async def came_back(_):
    """Down for two minutes."""
    return answered(500) if asyncio.get_running_loop().time() < 120 else answered(200, OLD)


@pytest.mark.parametrize("answer", [OLD, (500, b""), came_back], ids=["up", "down", "back"])
async def test_a_flood_of_unknown_keys_makes_one_look_in_thirty_seconds(answer):
    world = World()
    await world.source.look()
    world.answer = answer
    task = asyncio.create_task(world.source.run())
    for _ in range(2900):
        world.source.may_come()
        await asyncio.sleep(0.1)
    task.cancel()
    asked = world.asked[1:]
    assert 9 <= len(asked) <= 10
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert min(gaps) >= LEAST_S - 0.001


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("no"),
        (500, OLD),
        (404, OLD),
        (302, OLD, {"location": "http://169.254.169.254/latest/meta-data"}),
        (200, b"<html>"),
        (200, document()),
        (200, document(jwk("RS256", "small", bits=1024))),
        (200, b" " * (MAX_DOCUMENT + 1) + OLD),
        (200, OLD, {"content-encoding": "br"}),
    ],
    ids=["refused", "500", "404", "redirect", "page", "empty", "small-key", "large", "compressed"],
)
async def test_a_look_that_fails_changes_nothing(fault):
    world = World()
    await world.source.look()
    world.answer = fault
    await world.source.look()
    assert world.kids() == ["old"]
    assert world.source.fault
    assert world.source.problem is None, "one failure is no problem while there are keys"
    await world.source.look()
    assert world.source.problem == world.source.fault
    assert len(world.asked) == 3, "no redirect was followed"
    world.answer = NEW
    await world.source.look()
    assert (world.kids(), world.source.problem, world.source.since) == (["new"], None, None)


async def test_a_provider_that_never_ends_is_given_up():
    async def hangs(_):
        await asyncio.sleep(3600)

    world = World(hangs)
    begun = asyncio.get_running_loop().time()
    await world.source.look()
    assert asyncio.get_running_loop().time() - begun == pytest.approx(TIMEOUT_S)
    assert world.source.problem == "TimeoutError."


async def test_without_keys_it_is_tried_sooner_and_then_seldom():
    world = World(httpx.ConnectError("no"))
    await world.source.look()
    assert world.source.problem
    assert world.source.since == 1_000.0
    assert world.source.may_come()
    await world.running(200)
    assert [round(at) for at in world.asked][:7] == [0, 1, 3, 7, 15, 31, 61]
    world.answer = OLD
    await world.running(LEAST_S + 1)
    assert world.kids() == ["old"]
    assert world.source.problem is None


async def test_a_provider_that_was_away_is_asked_again_after_thirty_seconds():
    world = World()
    await world.source.look()
    world.answer = httpx.ConnectError("no")
    await world.source.look()
    world.answer = NEW
    await world.running(LEAST_S + 1)
    assert world.kids() == ["new"]


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "fe80::1", "::ffff:169.254.169.254"])
async def test_a_name_that_leads_to_a_metadata_service_is_not_called(address):
    world = World(addresses=("192.0.2.1", address))
    await world.source.look()
    assert world.asked == []
    assert "never called" in world.source.problem


async def test_a_name_that_only_a_proxy_knows_is_left_to_it():
    world = World(addresses=OSError("no such name"))
    await world.source.look()
    assert world.kids() == ["old"]


async def test_nothing_is_unpacked():
    seen = {}

    async def answer(request):
        seen.update(request.headers)
        return answered(200, OLD)

    world = World(answer)
    await world.source.look()
    assert seen["accept-encoding"] == "identity"


async def test_keys_come_from_a_file_too(tmp_path):
    place = tmp_path / "jwks.json"
    world = World(place=str(place))
    assert world.source.is_file
    await world.source.look()
    assert world.source.problem == "The file cannot be read (No such file or directory)."
    place.write_bytes(OLD)
    await world.source.look()
    assert world.kids() == ["old"]
    place.write_bytes(b"half of it")
    await world.source.look()
    place.write_bytes(b" " * (MAX_DOCUMENT + 1))
    await world.source.look()
    assert "bytes" in world.source.problem
    assert world.kids() == ["old"]
    place.write_bytes(NEW)
    await world.running(REFRESH_S + 1)
    assert world.kids() == ["new"]
    assert world.asked == []
