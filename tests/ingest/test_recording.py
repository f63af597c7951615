"""Recordings: what is in them, what is not, and when they end."""

import asyncio
import json
from pathlib import Path

import pytest

from watchdog.core.model import Action, AgentId, Epoch, IntentKind, Outcome
from watchdog.ingest import recording
from watchdog.ingest.recording import MAX_AT_ONCE, Recordings
from watchdog.simulation.recorded import Recorded

pytestmark = pytest.mark.looptime

ADMIN = {"authorization": "Bearer admin-token"}
INSTANCE = "11111111-2222-3333-4444-555555555555"
USER = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
ACTION = Action(
    id="a1",
    at=Epoch(1.0),
    agent=AgentId(INSTANCE, USER),
    intent=IntentKind.SET_STATUS,
    target="Offline",
    outcome=Outcome.CONFIRMED,
    reason="The last session ended.",
    evidence={"secret": "evidence"},
    calls=3,
    latency_s=2.12345,
)


@pytest.fixture
async def world(make_world):
    return make_world()


async def recorded(world, meanwhile, for_s=5):
    """The lines of a recording during which `meanwhile` is done."""
    async with world.http() as http:
        answer = asyncio.create_task(http.get(f"/v1/record?for_s={for_s}", headers=ADMIN))
        while not world.recordings.running:
            await asyncio.sleep(0)  # the token is checked in a thread, which virtual time does not wait for
        await meanwhile()
        response = await answer
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/jsonl")
    return response.text, [json.loads(line) for line in response.text.splitlines()]


def take(recordings, beat, gap_ms=None):
    recordings.heartbeat(beat, gap_ms)


async def test_heartbeats_and_outcomes_are_recorded_without_names(world, message):
    async def meanwhile():
        await world.post(message(type="hello", seq=1))
        world.observed = 102.5
        live = await world.post(message(seq=2, gap_ms=1200, visibility="hidden", driver="main"))
        await world.post({"heartbeats": [message(seq=3)]}, path="/v1/heartbeats")
        await world.post(message(type="bye", ticket=live.json()["ticket"]))
        world.recordings.action(ACTION)

    text, lines = await recorded(world, meanwhile)
    head, *events, end = lines
    assert head == {
        "format": "watchdog.recording",
        "version": 1,
        "for_s": 5.0,
        "settings": {"session_end_timer_s": 5.0},
    }
    assert events == [
        {"t": 0.0, "kind": "hello", "a": 1, "s": 1, "i": 0, "lease": "session", "q": 1},
        {"t": 2.5, "kind": "beat", "a": 1, "s": 1, "i": 0, "lease": "throttled", "q": 2, "gap_ms": 1200.0},
        {"t": 2.5, "kind": "beat", "a": 1, "s": 1, "i": 0, "lease": "session", "q": 3},
        {"t": 2.5, "kind": "bye", "a": 1, "s": 1, "i": 0, "lease": "session"},
        {
            "t": 2.5,
            "kind": "action",
            "a": 1,
            "intent": "set_status",
            "outcome": "confirmed",
            "calls": 3,
            "latency_s": 2.123,
        },
        {"t": 2.5, "kind": "time"},
    ]
    assert end == {"kind": "end", "t": 2.5, "complete": True}
    for name in (INSTANCE, USER, message()["session_id"], "beat-token", live_ticket(world), "evidence", "Offline"):
        assert name not in text


def live_ticket(world):
    session_id = next(iter(world.store.sessions))
    return world.gate.tickets.issue(AgentId(INSTANCE, USER), session_id, 0, world.epoch)


async def test_what_was_refused_is_not_recorded(world, message):
    async def meanwhile():
        await world.post(message(type="hello", seq=1), token="wrong")
        await world.post(message(type="hello", seq=1))
        other = message(type="hello", agent=None, instance_id=INSTANCE, user_id="somebody-else")
        assert (await world.post(other)).status_code == 409
        assert (await world.post({"heartbeats": [other]}, path="/v1/heartbeats")).json()["accepted"] == 0

    _, lines = await recorded(world, meanwhile)
    assert [each["kind"] for each in lines[1:]] == ["hello", "time", "end"]


async def test_numbers_are_new_in_each_recording(world, message, a_beat):
    async def first():
        take(world.recordings, a_beat())

    async def second():
        take(world.recordings, a_beat(session_id=b"2" * 16, agent=AgentId(INSTANCE, "second")))

    for meanwhile in (first, second):
        _, lines = await recorded(world, meanwhile)
        assert (lines[1]["a"], lines[1]["s"]) == (1, 1)


async def test_nobody_is_told_anything_when_nobody_records(world, message):
    async def nothing():
        assert len(world.recordings.running) == 1

    await recorded(world, nothing)
    assert world.recordings.running == []
    stream = world.recordings.open(60)
    await anext(stream)
    assert len(world.recordings.running) == 1
    await stream.aclose()
    assert world.recordings.running == []


async def test_who_reads_too_slowly_is_told_what_was_lost(world, a_beat, monkeypatch):
    monkeypatch.setattr(recording, "MAX_WAITING", 3)
    stream = world.recordings.open(60)
    await anext(stream)
    for seq in range(10):
        take(world.recordings, a_beat(seq=seq))
    lines = [json.loads(line) for line in (await anext(stream)).splitlines()]
    assert [each["kind"] for each in lines] == ["beat", "beat", "beat", "lost"]
    assert lines[-1]["lines"] == 7
    take(world.recordings, a_beat(seq=11))
    assert json.loads(await anext(stream))["q"] == 11
    await stream.aclose()


async def test_a_silent_recording_says_each_ten_seconds_that_it_goes_on(world):
    async def nothing():
        return

    _, lines = await recorded(world, nothing, for_s=25)
    assert [each.get("kind") for each in lines[1:]] == ["time", "time", "time", "end"]


async def test_it_ends_when_the_daemon_stops_and_none_begins_any_more(world):
    async def meanwhile():
        world.recordings.close()

    _, lines = await recorded(world, meanwhile, for_s=3600)
    assert lines[-1] == {"kind": "end", "t": 0.0, "complete": False, "why": "the daemon stopped"}
    async with world.http() as http:
        assert (await http.get("/v1/record?for_s=1", headers=ADMIN)).status_code == 503


async def test_it_ends_when_there_are_too_many_sessions(world, a_beat, monkeypatch):
    monkeypatch.setattr(recording, "MAX_NUMBERS", 2)

    async def meanwhile():
        for number in range(3):
            take(world.recordings, a_beat(session_id=bytes([number]) * 16))

    _, lines = await recorded(world, meanwhile, for_s=3600)
    assert [each["kind"] for each in lines[1:]] == ["beat", "beat", "end"]
    assert lines[-1]["why"] == "too many sessions"


async def test_two_may_record_and_a_third_may_not(world):
    streams = [world.recordings.open(60) for _ in range(MAX_AT_ONCE)]
    for each in streams:
        await anext(each)
    async with world.http() as http:
        refused = await http.get("/v1/record?for_s=1", headers=ADMIN)
        assert refused.status_code == 409
        assert "Stop one of them" in refused.json()["detail"]
    for each in streams:
        await each.aclose()


@pytest.mark.parametrize("for_s", ["", "0", "-1", "86401", "nan", "inf", "x"])
async def test_a_length_that_makes_no_sense_is_refused(world, for_s):
    async with world.http() as http:
        assert (await http.get(f"/v1/record?for_s={for_s}", headers=ADMIN)).status_code in (400, 422)


async def test_there_is_none_before_the_first_tick(world):
    world.observed = None
    async with world.http() as http:
        assert (await http.get("/v1/record?for_s=1", headers=ADMIN)).status_code == 503


async def test_what_is_written_can_be_read(a_beat, tmp_path):
    told = {
        "session_end_timer_s": 5.0,
        "heartbeat_interval_s": 10.0,
        "session_ttl_s": 35.0,
        "throttled_session_ttl_s": 150.0,
        "connect_rate": 2.0,
    }
    recordings = Recordings(told, lambda: 7.0)
    stream = recordings.open(1)
    written = await anext(stream)
    for beat in (a_beat(), a_beat(ttl=None), a_beat(seq=3, hidden=True, main_driver=True)):
        recordings.heartbeat(beat, 12.5)
    recordings.action(ACTION)
    async for lines in stream:
        written += lines
    path = Path(tmp_path / "recorded.jsonl")
    path.write_bytes(written)
    with path.open("rb") as file:
        found = list(Recorded(path, file).lines())
    assert [getattr(each, "lease", "") for each in found[:3]] == ["session", None, "throttled"]
    assert found[0].gap_s == 0.0125
