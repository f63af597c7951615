"""How much of batches is read, from whom, and how much is held at once."""

import asyncio
import contextlib
import uuid

import httpx
import orjson
import pytest

from watchdog.core.messages import MAX_BODY
from watchdog.errors import MessageError
from watchdog.ingest import bodies as module
from watchdog.ingest.auth import AuthMode
from watchdog.ingest.bodies import Bodies, Held
from watchdog.ingest.heartbeat import MANY


class Request:
    """One batch over ASGI, of which it is known how many pieces were asked for."""

    def __init__(self, pieces, token=None, length=None, client="192.0.2.1"):
        self.pieces = list(pieces)
        self.count = len(self.pieces)
        self.more = asyncio.Event()
        self.more.set()
        headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
        if token is not None:
            headers.append((b"authorization", b"Bearer " + token.encode()))
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        self.scope = {"type": "http", "method": "POST", "path": MANY, "headers": headers, "client": (client, 5000)}
        self.sent = []

    @property
    def read(self):
        return self.count - len(self.pieces)

    async def receive(self):
        await self.more.wait()
        if not self.pieces:
            return {"type": "http.disconnect"}
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}

    async def send(self, message):
        self.sent.append(message)

    async def answered(self, world):
        await world.app(self.scope, self.receive, self.send)
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self):
        return dict(self.sent[0]["headers"])

    @property
    def detail(self):
        return orjson.loads(self.sent[1]["body"])["detail"]


def batch(message, count, **fields):
    items = [message(session_id=str(uuid.uuid4()), **fields) for _ in range(count)]
    return orjson.dumps({"heartbeats": items})


def in_pieces(body, size=1000):
    return [body[at : at + size] for at in range(0, len(body), size)]


@pytest.mark.parametrize("length", [None, MAX_BODY + 1, 4_000_000, 10**30])
@pytest.mark.parametrize("token", [None, "wrong", "admin-token"])
@pytest.mark.looptime
async def test_nothing_is_read_of_a_large_batch_whose_head_has_no_token(make_world, token, length):
    world = make_world()
    request = Request([b"x" * 1000] * 10, token, length)
    assert await request.answered(world) == 401
    assert request.read == 0
    assert "token in its header" in request.detail
    assert request.headers[b"www-authenticate"] == b"Bearer"
    assert b"connection" not in request.headers, "the client is still sending, and is to read this"
    assert world.counters.rejected["unauthorized"] == 1


@pytest.mark.looptime
async def test_a_small_batch_is_read_and_its_heartbeats_may_have_their_own_tokens(make_world, message):
    world = make_world()
    small = batch(message, 10, token="beat-token")
    assert len(small) <= MAX_BODY
    flushing = asyncio.create_task(world.flush_always())
    assert await Request([small], length=len(small)).answered(world) == 200
    assert len(world.store.sessions) == 10
    large = batch(message, 30, token="beat-token")
    assert await Request([large], length=len(large)).answered(world) == 401
    assert await Request([large], "beat-token", len(large)).answered(world) == 200
    assert len(world.store.sessions) == 40
    flushing.cancel()


@pytest.mark.looptime
async def test_where_nobody_proves_anything_batches_are_read(make_world, message):
    world = make_world(mode=AuthMode.NONE)
    large = batch(message, 30)
    flushing = asyncio.create_task(world.flush_always())
    assert await Request(in_pieces(large), length=len(large)).answered(world) == 200
    flushing.cancel()


@pytest.mark.looptime
async def test_a_gateway_whose_token_was_taken_away_is_noticed_if_its_agents_were_heard(make_world, message):
    world = make_world()
    large = batch(message, 30)
    assert await Request([large], "wrong", len(large)).answered(world) == 401
    assert not world.heartbeats.refusals.going_on
    flushing = asyncio.create_task(world.flush_always())
    assert await Request([large], "beat-token", len(large)).answered(world) == 200
    flushing.cancel()
    assert await Request([large], "wrong", len(large), client="192.0.2.2").answered(world) == 401
    assert not world.heartbeats.refusals.going_on
    assert await Request([large], "wrong", len(large)).answered(world) == 401
    assert world.heartbeats.refusals.going_on


@pytest.mark.looptime
async def test_one_address_does_not_fill_the_room_of_others(make_world, message):
    world = make_world()
    world.heartbeats._bodies = Bodies(100_000, 40_000)
    large = batch(message, 100)
    slow = [Request([*in_pieces(large), b" "], "beat-token", len(large) + 1) for _ in range(4)]
    for each in slow:
        each.pieces.insert(len(each.pieces) - 1, b"")
    flushing = asyncio.create_task(world.flush_always())
    tasks = []
    for each in slow:
        # All but the last piece: then the client says nothing more.
        each.more = Gate(each, left=2)
        tasks.append(asyncio.create_task(each.answered(world)))
        await asyncio.sleep(0.01)
    done = [task.result() for task in tasks if task.done()]
    assert done == [429, 429], "there is room for two"
    refused = next(each for each in slow if each.sent)
    assert refused.headers[b"retry-after"] in (b"1", b"2")
    assert world.counters.rejected["rate"] == 2
    other = Request(in_pieces(large), "beat-token", len(large), client="192.0.2.2")
    assert await other.answered(world) == 200
    for each in slow:
        each.more.set()
    assert sorted([await task for task in tasks]) == [200, 200, 429, 429]
    assert (world.heartbeats._bodies._held, world.heartbeats._bodies._by_site) == (0, {})
    flushing.cancel()


class Gate(asyncio.Event):
    """Open until so few pieces are left."""

    def __init__(self, request, left):
        super().__init__()
        self.request = request
        self.left = left

    async def wait(self):
        if len(self.request.pieces) <= self.left:
            await super().wait()
        return True


def test_what_does_not_fit_takes_nothing_and_all_is_given_back():
    room = Bodies(100, 60)
    room.take("a", 60)
    with pytest.raises(MessageError) as refused:
        room.take("a", 1)
    assert refused.value.status == 429
    room.take("b", 40)
    with pytest.raises(MessageError):
        room.take("c", 1)
    room.give_back("a", 60)
    room.take("c", 60)
    room.give_back("b", 40)
    room.give_back("c", 60)
    room.give_back("d", 0)
    assert (room._held, room._by_site) == (0, {})


async def test_a_batch_that_fails_gives_its_room_back():
    room = Bodies()

    async def receive():
        return {"type": "http.request", "body": b"12345", "more_body": True}

    with contextlib.suppress(RuntimeError), Held(room, "a") as held:
        await held.counted(receive)()
        await held.counted(receive)()
        assert room._by_site == {"a": 10}
        raise RuntimeError
    assert room._by_site == {}


def test_there_is_room_for_several_of_the_largest_batches_of_one_address():
    assert module.OF_ONE >= 4 * 4_096_000 * 0.99
    assert module.MOST >= 4 * module.OF_ONE


# Over real sockets.


async def test_a_client_that_is_still_sending_reads_why_and_stays_connected(make_world, message, serving):
    world = make_world()
    flushing = asyncio.create_task(world.flush_always())
    async with serving(world.app) as served:
        base = f"http://127.0.0.1:{served.port}"
        async with httpx.AsyncClient(base_url=base, headers={"content-type": "application/json"}) as http:
            refused = await http.post(MANY, content=batch(message, 900), headers={"authorization": "Bearer old"})
            assert refused.status_code == 401
            taken = await http.post(MANY, content=batch(message, 900), headers={"authorization": "Bearer beat-token"})
            assert (taken.status_code, taken.json()["accepted"]) == (200, 900)
        assert served.server.server_state.total_requests == 2
    flushing.cancel()


@pytest.mark.parametrize("path", ["/livez", "/client/presence.js", MANY, "/nothing"])
async def test_a_body_that_nobody_reads_is_not_kept_while_its_connection_is_idle(make_world, serving, path):
    body = b"x" * 200_000
    method = "POST" if path == MANY else "GET"
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: w\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    async with serving(make_world().app) as served:
        reader, writer = await served.connect()
        writer.write(head.encode() + body)
        answered = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b"HTTP/1.1 " in answered
        await asyncio.sleep(0)
        for _ in range(100):
            (connection,) = served.server.server_state.connections
            if not connection._begun:
                break
            await asyncio.sleep(0.01)
        assert not connection._begun, "all of it has come"
        assert len(connection.cycle.body) == 0
        writer.close()
