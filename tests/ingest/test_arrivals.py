"""Agents whom nobody has heard of: bounded by address and in number, and no known agent notices."""

import asyncio
import uuid

import pytest

from watchdog.core.addresses import Proxies
from watchdog.core.model import AgentId
from watchdog.ingest import arrivals as module
from watchdog.ingest.answers import Rejection
from watchdog.ingest.arrivals import Arrivals

ARN = "arn:aws:connect:eu-central-1:123456789012:instance/11111111-2222-3333-4444-555555555555/agent/"


def hello(name="one", **fields):
    return {"agent": f"{ARN}{name}", "session_id": str(uuid.uuid4()), "type": "hello", **fields}


@pytest.fixture
def few(monkeypatch):
    """Three new agents at once, and one a second."""
    monkeypatch.setattr(module, "NEW_AT_ONCE", 3)
    monkeypatch.setattr(module, "NEW_PER_S", 1.0)


@pytest.mark.looptime
async def test_new_agents_from_one_address_are_bounded_and_known_ones_are_not(make_world, few):
    world = make_world()
    first = hello("a")
    for name in "bc":
        assert (await world.post(hello(name))).status_code == 200
    assert (await world.post(first)).status_code == 200
    refused = await world.post(hello("d"))
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:watchdog:problem:rate")
    assert int(refused.headers["retry-after"]) >= 1
    assert world.counters.rejected["rate"] == 1
    for _ in range(20):
        assert (await world.post({**first, "type": "beat"})).status_code == 200
        assert (await world.post(hello("a"))).status_code == 200, "a page of a known agent that loads"


@pytest.mark.looptime
async def test_there_is_room_again_after_a_time(few):
    times = [0.0]
    arrivals = Arrivals(lambda _: 0, most=100, time=lambda: times[0], epoch=lambda: 0.0)

    def taken(count):
        return sum(arrivals.refused(AgentId("i", str(number)), "192.0.2.1") is None for number in range(count))

    assert taken(10) == 3
    times[0] = 2.0
    assert taken(10) == 2
    times[0] = 1000.0
    assert taken(10) == 3


async def test_addresses_have_a_bound_each(few):
    arrivals = Arrivals(lambda _: 0, most=100, time=lambda: 0.0, epoch=lambda: 0.0)
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        taken = [arrivals.refused(AgentId("i", str(number)), address) is None for number in range(5)]
        assert taken == [True, True, True, False, False]
    assert arrivals.refused(AgentId("i", "x"), "2001:db8::2") is not None, "the same network"


@pytest.mark.looptime
async def test_behind_a_trusted_proxy_each_client_counts(make_world, few):
    world = make_world(client=("10.0.0.1", 5000), proxies=Proxies(["10.0.0.0/8"]))
    for number in range(5):
        reply = await world.post(hello(f"u{number}"), x_forwarded_for=f"1.2.3.4, 192.0.2.{number}")
        assert reply.status_code == 200
    replies = [await world.post(hello(f"v{number}"), x_forwarded_for="192.0.2.1") for number in range(4)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]


@pytest.mark.looptime
async def test_what_others_say_in_that_header_is_not_looked_at(make_world, few):
    world = make_world(client=("10.0.0.1", 5000))
    replies = [await world.post(hello(f"u{number}"), x_forwarded_for=f"192.0.2.{number}") for number in range(5)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429, 429]


@pytest.mark.looptime
async def test_agents_are_bounded_in_number_and_it_is_told(make_world):
    world = make_world(most_agents=2)
    first = hello("a")
    for each in (first, hello("b")):
        assert (await world.post(each)).status_code == 200
    assert not world.arrivals.full
    refused = await world.post(hello("c"))
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:watchdog:problem:agents")
    assert "WATCHDOG_MAX_AGENTS" in refused.json()["detail"]
    assert refused.headers["retry-after"] == "60"
    assert (world.arrivals.full, world.arrivals.full_since) == (True, world.epoch)
    assert (await world.post({**first, "type": "beat"})).status_code == 200
    assert (await world.post(hello("a"))).status_code == 200


@pytest.mark.looptime
async def test_in_a_batch_each_agent_is_looked_at(make_world):
    world = make_world(most_agents=1)
    await world.post(hello("a"))
    reply = await world.post({"heartbeats": [hello("b"), hello("a")]}, path="/v1/heartbeats")
    assert reply.json()["accepted"] == 1
    assert [each["index"] for each in reply.json()["rejected"]] == [0]


@pytest.mark.looptime
async def test_whom_another_daemon_has_no_room_for_is_refused_as_any_other(make_world):
    world = make_world()
    world.store.crowded_out = {"x"}
    refused = await world.post(hello("x"))
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:watchdog:problem:agents")
    assert (world.arrivals.full, world.arrivals.full_since) == (True, world.epoch)
    reply = await world.post({"heartbeats": [hello("a"), hello("x")]}, path="/v1/heartbeats")
    assert (reply.json()["accepted"], [each["index"] for each in reply.json()["rejected"]]) == (1, [1])
    assert "WATCHDOG_MAX_AGENTS" in reply.json()["rejected"][0]["detail"]
    assert world.counters.heartbeats["hello"] == 1
    assert world.counters.rejected[Rejection.AGENTS] == 2


@pytest.mark.looptime
async def test_a_bye_of_an_unknown_agent_is_answered_as_ever(make_world):
    world = make_world(most_agents=0)
    session = str(uuid.uuid4())
    agent = AgentId("11111111-2222-3333-4444-555555555555", "x")
    ticket = world.gate.tickets.issue(agent, uuid.UUID(session).bytes, 0, world.epoch)
    reply = await world.post({"agent": f"{ARN}x", "session_id": session, "type": "bye", "ticket": ticket})
    assert reply.status_code == 204


async def test_whoever_is_refused_for_its_token_takes_nobodys_room(make_world, few):
    world = make_world()
    for number in range(5):
        assert (await world.post(hello(f"u{number}"), token="wrong")).status_code == 401
    assert (await world.post(hello("a"))).status_code == 200


async def test_addresses_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(module, "MAX_SITES", 10)
    arrivals = Arrivals(lambda _: 0, most=100, time=lambda: 0.0, epoch=lambda: 0.0)
    for number in range(100):
        arrivals.refused(AgentId("i", "u"), f"192.0.2.{number}")
    assert len(arrivals._sites) == 10
    assert (arrivals.has_agents("192.0.2.99"), arrivals.has_agents("192.0.2.1")) == (True, False)


async def test_an_address_has_agents_for_a_while_after_their_last_heartbeat():
    times = [0.0]
    arrivals = Arrivals(lambda _: None, most=100, time=lambda: times[0], epoch=lambda: 0.0)
    assert not arrivals.has_agents("192.0.2.1")
    arrivals.refused(AgentId("i", "u"), "192.0.2.1")
    times[0] = module.HEARD_S - 1
    assert arrivals.has_agents("192.0.2.1")
    times[0] = module.HEARD_S
    assert not arrivals.has_agents("192.0.2.1")


@pytest.mark.looptime
@pytest.mark.parametrize("batch", [False, True])
async def test_an_address_has_agents_also_when_all_of_them_are_known(make_world, batch):
    world, beat = make_world(), {**hello(), "type": "beat"}
    await world.post(beat)
    await asyncio.sleep(module.HEARD_S)
    assert not world.arrivals.has_agents("127.0.0.1")
    body, path = ({"heartbeats": [beat]}, "/v1/heartbeats") if batch else (beat, "/v1/heartbeat")
    assert (await world.post(body, path=path)).status_code == 200
    assert world.arrivals.has_agents("127.0.0.1")
