"""`GET /v1/events`: the producer by itself, and over real sockets."""

import asyncio
import json
import socket
import time
from dataclasses import replace

import pytest

from watchdog.core.model import Action, AgentId, IntentKind, Outcome
from watchdog.errors import MessageError
from watchdog.ingest import events as module
from watchdog.ingest.events import Events

ADMIN = {"authorization": "Bearer admin-token"}

ACTION = Action(
    id="1-a",
    at=1_800_000_000.0,
    agent=AgentId("i", "u"),
    intent=IntentKind.SET_STATUS,
    target="Offline",
    outcome=Outcome.CONFIRMED,
    reason="gone",
    evidence={"note": "<b>\n\n"},
    calls=2,
    latency_s=0.5,
)


class Told:
    """A producer whose topics and clock the test moves."""

    def __init__(self):
        self.topics = {"counts": {"n": 1}, "brake": {"held": 0}}
        self.now = 100.0
        self.looks = 0
        self.events = Events(
            "boot", "1.2.3", look=self.look, sample=lambda: {"live": 3}, epoch=lambda: 9.0, time=lambda: self.now
        )

    def look(self):
        self.looks += 1
        return self.topics

    async def step(self, seconds=module.LOOK_S):
        self.now += seconds
        await self.events.step()

    def act(self, number=1):
        for each in range(number):
            self.events.action(replace(ACTION, id=f"{each}"))


def read(frames):
    """(event, data, id) of each event."""
    found = []
    for block in frames.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"]), fields.get("id")))
    return found


async def following(told, last_id=""):
    """A stream after its welcome, and the welcome."""
    stream = told.events.open(last_id)
    return stream, read(await anext(stream))


async def test_who_comes_is_told_how_everything_stands():
    told = Told()
    await told.step()
    stream, welcome = await following(told)
    (hello, boot, _), *topics = welcome
    assert (hello, boot["boot"], boot["version"], boot["at"]) == ("hello", "boot", "1.2.3", 9.0)
    assert boot["series"] == {"fields": ["at", "live"], "every_s": 5.0, "samples": [[9.0, 3]]}
    assert topics == [("counts", {"n": 1}, None), ("brake", {"held": 0}, None)]
    await stream.aclose()


async def test_a_topic_is_told_when_it_is_another_and_at_most_once_a_second():
    told = Told()
    stream, _ = await following(told)
    await told.step()
    await anext(stream)
    told.topics = {"counts": {"n": 2}, "brake": {"held": 0}}
    await told.step(module.STEP_S)
    told.topics = {"counts": {"n": 3}, "brake": {"held": 0}}
    await told.step(module.LOOK_S)
    assert read(await anext(stream)) == [("counts", {"n": 3}, None)]
    await stream.aclose()


async def test_actions_are_told_with_the_next_step_each_with_an_id():
    told = Told()
    stream, _ = await following(told)
    await told.step()
    await anext(stream)
    told.act(2)
    await told.step(module.STEP_S)
    first, second = read(await anext(stream))
    assert (first[0], first[1]["outcome"], first[1]["agent"], first[2]) == ("action", "confirmed", "i/u", "boot-1")
    assert first[1]["evidence"] == {"note": "<b>\n\n"}
    assert second[2] == "boot-2"
    await stream.aclose()


async def test_of_a_flood_only_the_last_are_told_and_how_many_there_were():
    told = Told()
    stream, _ = await following(told)
    await told.step()
    await anext(stream)
    told.act(50_000)
    await told.step(module.STEP_S)
    lost, *rest = read(await anext(stream))
    assert lost[:2] == ("lost", {"actions": 50_000 - module.ACTIONS_A_STEP})
    assert len(rest) == module.ACTIONS_A_STEP
    assert rest[-1][2] == "boot-50000"
    await stream.aclose()


async def test_who_comes_back_is_told_what_it_has_missed():
    told = Told()
    other, _ = await following(told)
    told.act(3)
    await told.step()
    stream, welcome = await following(told, "boot-1")
    assert [each[2] for each in welcome if each[0] == "action"] == ["boot-2", "boot-3"]
    await stream.aclose()
    await other.aclose()


@pytest.mark.parametrize(
    "last_id", ["elsewhere-1", "elsewhere-204", "boot-1", "boot-999", "boot-x", "boot-²", "boot", "-"]
)
async def test_who_has_missed_more_than_is_kept_is_told_to_read_anew(last_id):
    told = Told()
    other, _ = await following(told)
    told.act(module.KEPT + 5)
    await told.step()
    stream, welcome = await following(told, last_id)
    assert [each[0] for each in welcome].count("reset") == 1
    assert "action" not in [each[0] for each in welcome]
    await stream.aclose()
    await other.aclose()


async def test_a_client_that_does_not_read_is_cut_off_and_the_others_notice_nothing():
    told = Told()
    slow, _ = await following(told)
    quick, _ = await following(told)
    heard = 0
    for _ in range(10):
        told.act(module.ACTIONS_A_STEP)
        await told.step(module.STEP_S)
        heard += sum(each[0] == "action" for each in read(await anext(quick)))
    assert heard == 10 * module.ACTIONS_A_STEP
    with pytest.raises(StopAsyncIteration):
        await anext(slow)
    await quick.aclose()


async def test_nothing_is_made_for_nobody():
    told = Told()
    told.act(10)
    await told.step()
    assert told.looks == 0
    stream, welcome = await following(told)
    assert [each[0] for each in welcome] == ["hello", "counts", "brake"]
    await told.step()
    assert "action" not in [each[0] for each in read(await anext(stream))]
    await stream.aclose()


async def test_what_is_kept_is_bounded():
    told = Told()
    for _ in range(module.SAMPLES + 10):
        await told.step(module.SAMPLE_S)
    told.act(10_000)
    assert len(told.events._samples) == module.SAMPLES
    assert len(told.events._recent) == module.KEPT


async def test_there_is_a_limit_of_clients_and_who_leaves_makes_room():
    told = Told()
    streams = [(await following(told))[0] for _ in range(module.MAX_CLIENTS)]
    with pytest.raises(MessageError, match="32 streams"):
        told.events.open("")
    await streams[0].aclose()
    stream, welcome = await following(told)
    assert welcome
    for each in (*streams[1:], stream):
        await each.aclose()


async def test_those_who_come_at_one_moment_are_counted_too():
    told = Told()
    streams = [told.events.open("") for _ in range(module.MAX_CLIENTS + 1)]
    for each in streams[:-1]:
        await anext(each)
    with pytest.raises(StopAsyncIteration):
        await anext(streams[-1])
    for each in streams:
        await each.aclose()


async def test_a_stream_ends_after_an_hour_so_that_the_token_is_asked_for_anew():
    told = Told()
    stream, _ = await following(told)
    told.now += module.STREAM_S
    await told.events.step()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_silence_is_filled_with_comments(monkeypatch):
    monkeypatch.setattr(module, "COMMENT_S", 0.01)
    told = Told()
    stream, _ = await following(told)
    assert await anext(stream) == b":\n\n"
    await stream.aclose()


async def test_a_stop_ends_all_and_begins_none():
    told = Told()
    stream, _ = await following(told)
    told.events.close()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    with pytest.raises(MessageError, match="stops"):
        told.events.open("")


# Over the wire.


async def test_an_operator_is_given_a_stream_that_is_not_for_caches_or_proxies_to_hold(make_world):
    world = make_world()
    reading = asyncio.create_task(_first_of(world, ADMIN))
    status, headers, body = await reading
    assert status == 200
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
    assert [each[0] for each in read(body)] == ["hello", "counts"]


async def _first_of(world, headers, path="/v1/events"):
    """Status, headers and the first piece of a body that has no end."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("w", 80),
    }
    sent, left = asyncio.Queue(), asyncio.Event()

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    serving = asyncio.create_task(world.app(scope, receive, sent.put))
    start, body = await sent.get(), await sent.get()
    left.set()
    await serving
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"]


async def test_without_a_token_there_is_none(make_world):
    async with make_world().http() as http:
        for headers in ({}, {"authorization": "Bearer beat-token"}):
            assert (await http.get("/v1/events", headers=headers)).status_code == 401


async def test_too_many_are_told_to_come_again(make_world):
    world = make_world()
    streams = [world.events.open("") for _ in range(module.MAX_CLIENTS)]
    for each in streams:
        await anext(each)
    async with world.http() as http:
        refused = await http.get("/v1/events", headers=ADMIN)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    for each in streams:
        await each.aclose()


async def test_a_server_that_stops_ends_open_streams(make_world, serving):
    world = make_world()
    async with serving(world.app, drain_s=20) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /v1/events HTTP/1.1\r\nhost: w\r\nauthorization: Bearer admin-token\r\n\r\n")
        await reader.readuntil(b"event: counts")
        begun = time.monotonic()
        world.events.close()
        served.server.should_exit = True
        await asyncio.wait_for(reader.read(), 5)
        await asyncio.wait_for(served.task, 5)
        assert time.monotonic() - begun < 5
        writer.close()


async def test_one_who_stops_reading_over_a_socket_does_not_hold_up_another(make_world, serving):
    world = make_world()
    big = replace(ACTION, evidence={"note": "x" * 20_000})
    ask = b"GET /v1/events HTTP/1.1\r\nhost: w\r\nauthorization: Bearer admin-token\r\n\r\n"
    async with serving(world.app) as served:
        slow = socket.create_connection(("127.0.0.1", served.port))
        slow.sendall(ask)
        reader, writer = await served.connect()
        writer.write(ask)
        await reader.readuntil(b"event: counts")
        while len(world.events._clients) < 2:
            await asyncio.sleep(0)
        heard = 0
        async with asyncio.timeout(30):
            while len(world.events._clients) > 1:
                for _ in range(10):
                    world.events.action(big)
                await world.events.step()
                for _ in range(10):
                    await reader.readuntil(b"event: action")
                    heard += 1
        assert heard >= module.MAX_WAITING
        slow.close()
        writer.close()
        world.events.close()


async def test_who_was_told_no_action_before_a_pause_is_told_what_was_missed():
    told = Told()
    await told.step()
    stream = told.events.open("")
    welcome = await anext(stream)
    await stream.aclose()
    (place,) = [line for line in welcome.decode().splitlines() if line.startswith("id: ")]
    assert welcome.decode().endswith("\n\n")
    told.act(2)
    await told.step()
    again, after = await following(told, place.removeprefix("id: "))
    assert [number for event, _, number in after if event == "action"] == ["boot-1", "boot-2"]
    await again.aclose()
