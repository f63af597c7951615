"""What an agent who holds the shared token, or another's ticket, can do to another agent: nothing but keep it live."""

import base64
import uuid

import pytest

from tests.ingest.conftest import INSTANCE, USER
from watchdog.core.model import BeatType

pytestmark = pytest.mark.looptime

OTHER = f"arn:aws:connect:eu-central-1:123456789012:instance/{INSTANCE}/agent/mallory"


async def live(make_world, message):
    """A world in which an agent is live, and the agent's ticket."""
    world = make_world()
    opened = await world.post(message(type="hello", incarnation=1, seq=5))
    assert opened.json()["state"] == "live"
    return world, opened.json()["ticket"]


def session(world):
    (found,) = [each for each in world.store.sessions.values() if each.agent.user_id == USER]
    return found


@pytest.mark.parametrize("token", [None, "beat-token"])
async def test_nobody_ends_a_session_without_its_ticket(make_world, message, token):
    world, _ = await live(make_world, message)
    for incarnation in (0, 1, 2, 2**31 - 1):
        refused = await world.post(message(type="bye", incarnation=incarnation), token=token)
        assert refused.status_code == 401
    assert not session(world).closed


async def test_nobody_takes_a_session_over_for_another_agent(make_world, message):
    world, ticket = await live(make_world, message)
    for fields in ({}, {"type": "hello", "incarnation": 9}, {"ticket": ticket, "incarnation": 1}, {"seq": 2**53 - 1}):
        answer = await world.post(message(agent=OTHER, **fields))
        assert answer.status_code == 409, (fields, answer.text)
    (answer,) = (await world.post({"heartbeats": [message(agent=OTHER)] * 1}, path="/v1/heartbeats")).json()["rejected"]
    assert "another agent" in answer["detail"]
    assert session(world).incarnation == 1


@pytest.mark.parametrize(
    "fields", [{"incarnation": 2**53}, {"incarnation": 2**31}, {"incarnation": -1}, {"seq": 2**53}]
)
async def test_numbers_that_no_page_counts_to_are_refused(make_world, message, fields):
    world, ticket = await live(make_world, message)
    assert (await world.post(message(ticket=ticket, **fields))).status_code == 400
    assert (session(world).incarnation, session(world).seq) == (1, 5)


async def test_a_stolen_ticket_moves_no_session_on_to_another_incarnation(make_world, message):
    world, ticket = await live(make_world, message)
    for kind in BeatType:
        for incarnation in (0, 2, 2**31 - 1):
            stolen = message(type=kind, incarnation=incarnation, ticket=ticket)
            assert (await world.post(stolen, token=None)).status_code == 401
    assert (session(world).incarnation, session(world).closed) == (1, False)
    assert (await world.post(message(incarnation=1, seq=6))).json()["state"] == "live"


async def test_a_stolen_ticket_opens_no_session_of_its_agent(make_world, message):
    world, ticket = await live(make_world, message)
    another = message(session_id=str(uuid.uuid4()), incarnation=1, ticket=ticket)
    assert (await world.post(another, token=None)).status_code == 401
    assert len(world.store.sessions) == 1


async def test_a_stolen_ticket_is_worth_nothing_after_a_logout(make_world, message):
    world, ticket = await live(make_world, message)
    # As the store leaves it.
    session(world).closed = True
    world.store.stopped.update(world.store.sessions)
    for kind in (BeatType.HELLO, BeatType.BEAT):
        stolen = await world.post(message(type=kind, incarnation=1, seq=7, ticket=ticket), token=None)
        assert stolen.json()["state"] == "stop"
    assert (await world.post(message(type="hello", incarnation=2, ticket=ticket), token=None)).status_code == 401
    assert session(world).closed
    again = await world.post(message(type="hello", incarnation=2))
    assert again.json()["state"] == "live", "with a token: somebody is there again"


async def test_a_stolen_ticket_is_worth_nothing_after_a_bye(make_world, message):
    world, ticket = await live(make_world, message)
    assert (await world.post(message(type="bye", incarnation=1, ticket=ticket))).status_code == 204
    for kind in (BeatType.HELLO, BeatType.BEAT):
        stolen = await world.post(message(type=kind, incarnation=1, seq=9, ticket=ticket), token=None)
        assert stolen.json()["state"] == "unknown"
    assert session(world).closed


async def test_one_agent_a_thousand_times_in_a_batch_is_one_agent(make_world, message):
    world, _ = await live(make_world, message)
    same = [message(incarnation=1, seq=number) for number in range(1000)]
    answer = (await world.post({"heartbeats": same}, path="/v1/heartbeats")).json()
    assert answer == {"accepted": 1000, "rejected": []}
    assert len(world.store.sessions) == 1
    assert sum(len(batch) for batch in world.store.applied) <= 2 + 1, "one beat of a session counts"
    assert session(world).seq == 999


@pytest.mark.parametrize("name", ["aaaa\u0000", "a b", "../x", "a" * 101, "", "ä", "a/b", "a%2fb", "a\nb"])
async def test_no_agent_has_a_name_that_means_something_else(make_world, message, name):
    world = make_world()
    answer = await world.post(message(agent=None, instance_id=INSTANCE, user_id=name))
    assert answer.status_code == 400
    assert world.store.sessions == {}


async def test_a_ticket_tells_nothing_but_its_time_and_incarnation(make_world, message):
    _, ticket = await live(make_world, message)
    raw = base64.urlsafe_b64decode(ticket + "==")
    assert len(raw) == 25
    assert USER.encode()[:4] not in raw
