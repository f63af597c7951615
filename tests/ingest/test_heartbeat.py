"""The fast lane over ASGI, in virtual time."""

import asyncio
import itertools
import uuid
from dataclasses import replace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ingest.conftest import INSTANCE
from watchdog.core.messages import Heartbeat
from watchdog.core.model import BeatType, Epoch, Notice
from watchdog.errors import StoreUnavailable
from watchdog.ingest import canary, heartbeat
from watchdog.ingest.auth import AuthMode, Tickets
from watchdog.ingest.buffer import MAX_RIVALS
from watchdog.ingest.heartbeat import MAX_BATCH_COMMAS, MOST_UNOPENED, TURN

pytestmark = pytest.mark.looptime


@pytest.fixture
async def world(make_world):
    return make_world()


def is_problem(response, status, kind):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:watchdog:problem:{kind}"
    assert problem["title"]
    assert problem["detail"].endswith((".", "`."))
    return problem["detail"]


async def test_the_simplest_client_is_answered_with_everything_it_needs(world, message):
    response = await world.post(message())
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    answer = response.json()
    assert world.gate.tickets.check(
        answer.pop("ticket"), world.store.views()[0].agent, uuid.UUID(message()["session_id"]).bytes, 0, world.epoch
    )
    assert answer == {"state": "live", "next_ms": 10000, "ttl_ms": 35000, "ws": True, "boot": "boot-1"}
    assert world.counters.heartbeats == {"hello": 0, "beat": 1, "bye": 0}


async def test_a_hello_is_answered_after_its_flush(world, message, looptime):
    await world.post(message(type="hello"))
    assert looptime == 0.2
    assert len(world.store.applied) == 1


@pytest.mark.parametrize("restored", [None, "Available"])
async def test_what_the_watchdog_has_set_is_told_live_or_not(world, message, restored):
    world.store.notice = Notice("Offline", Epoch(1_800_000_000.25), "All of your pages were closed.", restored)
    told = {
        "status": "Offline",
        "set_at": "2027-01-15T08:00:00.250Z",
        "why": "All of your pages were closed.",
        "restored": restored,
    }
    live = (await world.post(message(type="hello"))).json()
    assert (live["state"], live["notice"]) == ("live", told)
    ticket = live["ticket"]
    assert (await world.post(message(type="bye", ticket=ticket))).content == b""
    unknown = (await world.post(message())).json()
    assert (unknown["state"], unknown["notice"]) == ("unknown", told)
    world.store.notice = None
    assert "notice" not in (await world.post(message())).json()


async def test_a_beat_of_a_live_session_is_answered_at_once_and_flushed_later(world, message, looptime):
    await world.post(message(type="hello"))
    response = await world.post(message())
    assert looptime == 0.2
    assert response.json()["state"] == "live"
    assert world.buffer.size == 1


async def test_a_beat_behind_a_bye_that_is_not_flushed_yet_is_not_told_that_it_lives(world, message):
    hello = await world.post(message(type="hello"))
    bye = asyncio.create_task(world.post(message(type="bye", ticket=hello.json()["ticket"])))
    await asyncio.sleep(0.1)
    beat = await world.post(message())
    assert beat.json()["state"] == "unknown"
    assert (await bye).status_code == 204


@pytest.mark.parametrize(("random", "next_ms"), [(0.0, 9000), (0.5, 10000), (1.0, 11000)])
async def test_the_next_beat_is_spread_by_a_tenth(make_world, message, random, next_ms):
    response = await make_world(random=random).post(message())
    assert response.json()["next_ms"] == next_ms


async def test_a_bye_needs_the_ticket_and_may_be_repeated(world, message):
    ticket = (await world.post(message(type="hello"))).json()["ticket"]
    refused = await world.post(message(type="bye"))
    assert "ticket" in is_problem(refused, 401, "unauthorized")
    assert world.store.views()[0].state == "live"
    for _ in range(2):
        response = await world.post(message(type="bye", ticket=ticket), token=None)
        assert response.status_code == 204
        assert response.content == b""
        assert "content-length" not in response.headers
    assert world.store.views()[0].state != "live"


async def test_a_bye_of_a_session_that_nobody_knows_is_taken(world, message):
    ticket = (await world.post(message(type="hello"))).json()["ticket"]
    world.store.sessions.clear()
    assert (await world.post(message(type="bye", ticket=ticket))).status_code == 204


async def test_after_a_bye_a_beat_in_flight_is_told_that_its_session_is_unknown(world, message):
    ticket = (await world.post(message(type="hello"))).json()["ticket"]
    await world.post(message(type="bye", ticket=ticket))
    answer = (await world.post(message())).json()
    assert answer == {"state": "unknown", "next_ms": 10000, "boot": "boot-1"}
    reopened = await world.post(message(type="hello", incarnation=1))
    assert reopened.json()["state"] == "live"


async def test_a_ticket_renews_without_a_token_and_only_its_own_session(world, message):
    ticket = (await world.post(message(type="hello"))).json()["ticket"]
    assert (await world.post(message(ticket=ticket), token=None)).status_code == 200
    for other in (
        message(ticket=ticket, session_id=str(uuid.uuid4())),
        message(ticket=ticket, incarnation=1),
        message(ticket=ticket, agent=message()["agent"][:-1] + "f"),
    ):
        is_problem(await world.post(other, token=None), 401, "unauthorized")


async def test_an_old_ticket_is_of_no_use(world, message):
    ticket = (await world.post(message(type="hello"))).json()["ticket"]
    world.epoch += 24 * 3600
    is_problem(await world.post(message(ticket=ticket), token=None), 401, "unauthorized")


async def test_a_token_may_come_in_the_body(world, message):
    assert (await world.post(message(token="beat-token"), token=None)).status_code == 200


@pytest.mark.parametrize("token", [None, "wrong", "admin-token", ""])
async def test_who_has_no_token_is_refused_and_told_how_to_send_one(world, message, token):
    response = await world.post(message(), token=token)
    assert "Authorization: Bearer" in is_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert world.buffer.size == 0
    assert world.counters.rejected["unauthorized"] == 1


async def test_without_authentication_nothing_is_asked_for(make_world, message):
    world = make_world(mode=AuthMode.NONE)
    assert (await world.post(message(type="hello"), token=None)).status_code == 200
    is_problem(await world.post(message(type="bye"), token=None), 401, "unauthorized")


async def test_an_agent_of_another_instance_is_refused_whatever_token_there_is(world, message):
    response = await world.post(message(agent=None, instance_id="other", user_id="user"))
    assert "WATCHDOG_INSTANCES" in is_problem(response, 403, "instance")
    assert world.buffer.size == 0
    assert world.store.sessions == {}


async def test_a_session_that_is_another_agents_is_refused(world, message):
    await world.post(message())
    response = await world.post(message(agent=None, instance_id=world.store.views()[0].agent[0], user_id="other"))
    assert "new session_id" in is_problem(response, 409, "foreign")
    assert len(world.store.views()) == 1


async def test_a_page_that_hangs_is_told_what_is_left(world, message):
    await world.post(message(type="hello"))
    await asyncio.sleep(1)
    response = await world.post(message(visibility="visible", lag_ms=121_000))
    assert response.json()["state"] == "live"
    assert 33_000 <= response.json()["ttl_ms"] <= 34_000


async def test_a_page_that_hangs_opens_nothing(world, message):
    response = await world.post(message(visibility="visible", lag_ms=121_000))
    assert response.json()["state"] == "unknown"


async def test_a_stale_beat_is_told_that_its_session_lives(world, message):
    await world.post(message(type="hello", seq=5))
    response = await world.post(message(type="hello", seq=4))
    assert response.json()["state"] == "live"


@pytest.mark.parametrize(("random", "after"), [(0.4, "1"), (0.6, "2")])
async def test_everyone_is_refused_while_the_flush_is_late_and_nothing_is_lost(make_world, message, random, after):
    world = make_world(random=random)
    world.store.gate = asyncio.Event()
    first = asyncio.create_task(world.post(message(type="hello")))
    await asyncio.sleep(1.5)
    for body, path in ((message(), "/v1/heartbeat"), ({"heartbeats": [message()]}, "/v1/heartbeats")):
        refused = await world.post(body, path=path)
        is_problem(refused, 503, "late")
        assert refused.headers["retry-after"] == after
    world.store.gate.set()
    assert (await first).json()["state"] == "live"
    assert (await world.post(message())).status_code == 200


async def test_a_page_that_said_hello_only_while_the_flush_was_late_is_there(world, message):
    """Its way may be cut off before it says it again, and the bye of the page before it was kept, too."""
    world.store.gate = asyncio.Event()
    first = asyncio.create_task(world.post(message(type="hello")))
    await asyncio.sleep(1.5)
    another = uuid.UUID(int=77)
    is_problem(await world.post(message(type="hello", session_id=str(another))), 503, "late")
    world.store.gate.set()
    await first
    await world.buffer.flush()
    assert another.bytes in world.store.sessions


async def test_a_live_session_is_refused_too_while_the_flush_is_late(world, message, a_beat):
    await world.post(message(type="hello"))
    world.buffer.submit(a_beat())
    await asyncio.sleep(1.1)
    async with world.http() as http:
        headers = {"content-type": "application/json", "authorization": "Bearer beat-token"}
        is_problem(await http.post("/v1/heartbeat", json=message(), headers=headers), 503, "late")


async def test_while_the_store_is_away_a_client_is_told_to_come_again_and_its_beat_is_kept(world, message):
    world.store.broken = StoreUnavailable("secret detail of the disk")
    for body, path in ((message(), "/v1/heartbeat"), ({"heartbeats": [message()]}, "/v1/heartbeats")):
        refused = await world.post(body, path=path)
        assert "secret" not in is_problem(refused, 503, "store")
        assert refused.headers["retry-after"] in ("1", "2")
    assert world.buffer.size == 1
    world.store.broken = None
    await world.buffer.flush()
    assert world.store.views()[0].state == "live"


async def test_exactly_4_kib_are_read_and_one_byte_more_is_not(world, message):
    body = orjson.dumps(message())
    assert (await world.post(body + b" " * (4096 - len(body)))).status_code == 200
    response = await world.post(body + b" " * (4097 - len(body)))
    assert "4096" in is_problem(response, 413, "too-large")
    assert response.headers["connection"] == "close"


async def call(world, messages, headers=(), path="/v1/heartbeat"):
    """Calls the application bare. Returns what it sent, and how many messages it read."""
    pending = list(messages)
    sent = []

    async def receive():
        return pending.pop(0)

    async def send(event):
        sent.append(event)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "client": ("127.0.0.1", 5000),
        "headers": [(b"content-type", b"application/json"), (b"authorization", b"Bearer beat-token"), *headers],
    }
    await world.app(scope, receive, send)
    return sent, len(messages) - len(pending)


def chunk(body, *, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_that_announces_its_length_is_refused_unread(world):
    sent, read = await call(world, [chunk(b"{}", more=False)], [(b"content-length", b"4097")])
    assert sent[0]["status"] == 413
    assert read == 0


async def test_a_body_that_grows_too_large_is_not_read_on(world):
    sent, read = await call(world, [chunk(b" " * 3000) for _ in range(10)])
    assert sent[0]["status"] == 413
    assert read == 2


async def test_a_body_may_come_in_pieces(world, message):
    body = orjson.dumps(message(type="beat"))
    pieces = [chunk(body[:10]), chunk(body[10:]), chunk(b"", more=False)]
    asking = asyncio.create_task(call(world, pieces))
    await asyncio.sleep(0.1)
    await world.buffer.flush()
    sent, _ = await asking
    assert sent[0]["status"] == 200


@pytest.mark.parametrize("path", ["/v1/heartbeat", "/v1/heartbeats"])
async def test_a_client_that_leaves_is_not_answered(world, path):
    gone = {"type": "http.disconnect"}
    for messages in ([gone], [chunk(b"{"), gone]):
        sent, _ = await call(world, messages, path=path)
        assert sent == []
    assert sum(world.counters.rejected.values()) == 0


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("text/plain", 200),
        ("text/plain;charset=UTF-8", 200),
        ("text/html", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonx", 415),
        ("", 415),
    ],
)
async def test_json_comes_as_json_or_as_plain_text(world, message, content_type, status):
    response = await world.post(message(), content_type=content_type)
    assert response.status_code == status
    if status == 415:
        is_problem(response, 415, "media-type")


async def test_a_request_without_a_content_type_is_refused(world, message):
    headers = {"authorization": "Bearer beat-token"}
    async with world.http() as http:
        response = await http.post("/v1/heartbeat", content=orjson.dumps(message()), headers=headers)
    is_problem(response, 415, "media-type")


@pytest.mark.parametrize("path", ["/v1/heartbeat", "/v1/heartbeats"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_refused_with_the_one_that_fits(world, path, method):
    async with world.http() as http:
        response = await http.request(method, path)
    is_problem(response, 405, "method")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"session_id":"x"}', b"1" * 4000, b"[" * 4000])
async def test_what_is_no_heartbeat_is_refused(world, body):
    is_problem(await world.post(body), 400, "malformed")
    assert world.counters.rejected["malformed"] == 1


async def test_a_refusal_never_repeats_what_was_sent(world, message):
    for fields in ({"session_id": "hunter2"}, {"ticket": "hunter2" * 100}, {"seq": "hunter2"}, {"agent": "hunter2"}):
        response = await world.post(message(**fields))
        assert response.status_code == 400
        assert "hunter2" not in response.text


async def test_a_batch_is_flushed_before_it_is_answered(world, message, looptime):
    items = [message(session_id=str(uuid.uuid4())) for _ in range(1000)]
    response = await world.post({"heartbeats": items}, path="/v1/heartbeats")
    assert response.json() == {"accepted": 1000, "rejected": []}
    assert looptime == 0
    assert len(world.store.sessions) == 1000
    assert world.counters.heartbeats["beat"] == 1000


async def test_a_batch_tells_which_of_its_heartbeats_were_refused(world, message):
    await world.post(message())
    items = [
        message(session_id=str(uuid.uuid4())),
        "no heartbeat",
        message(agent=None, instance_id="other", user_id="user"),
        message(agent=None, instance_id=world.store.views()[0].agent[0], user_id="other"),
        message(type="bye"),
    ]
    response = await world.post({"heartbeats": items}, path="/v1/heartbeats")
    told = response.json()
    assert told["accepted"] == 1
    assert [each["index"] for each in told["rejected"]] == [1, 2, 3, 4]
    assert [
        word in each["detail"]
        for word, each in zip(
            ("JSON object", "WATCHDOG_INSTANCES", "another agent", "ticket"), told["rejected"], strict=True
        )
    ] == [True] * 4
    assert {reason: count for reason, count in world.counters.rejected.items() if count} == {
        "malformed": 1,
        "instance": 1,
        "foreign": 1,
        "unauthorized": 1,
    }


async def test_without_a_header_each_heartbeat_of_a_batch_brings_its_own_token(world, message):
    items = [message(session_id=str(uuid.uuid4()), token=token) for token in ("beat-token", "wrong", None)]
    told = (await world.post({"heartbeats": items}, path="/v1/heartbeats", token=None)).json()
    assert told["accepted"] == 1
    assert [each["index"] for each in told["rejected"]] == [1, 2]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"{", b'{"heartbeats":{}}', b"null", b"[" * 5000, b"\xff\xfe"])
async def test_what_is_no_batch_is_refused(world, body):
    is_problem(await world.post(body, path="/v1/heartbeats"), 400, "malformed")


async def test_a_batch_of_1001_is_refused(world, message):
    response = await world.post({"heartbeats": [message()] * 1001}, path="/v1/heartbeats")
    is_problem(response, 413, "too-large")
    assert world.store.sessions == {}


async def test_however_many_batches_come_others_run_after_a_few_heartbeats(world, message):
    looked = 0
    newcomer = world.store.newcomer

    def counted(agent):
        nonlocal looked
        looked += 1
        return newcomer(agent)

    world.arrivals._newcomer = counted
    seen = [0]

    async def others():
        while True:
            seen.append(looked)
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    batches = [{"heartbeats": [message(session_id=str(uuid.uuid4())) for _ in range(4 * TURN)]} for _ in range(5)]
    answers = await asyncio.gather(*(world.post(batch, path="/v1/heartbeats") for batch in batches))
    running.cancel()
    assert [answer.json()["accepted"] for answer in answers] == [4 * TURN] * 5
    assert looked == 20 * TURN
    assert max(after - before for before, after in itertools.pairwise(seen)) == TURN


async def test_a_gateway_waits_for_no_batches_of_those_who_have_no_token(world, message):
    order = []

    async def posted(name, token, items):
        order.append((name, await world.post({"heartbeats": items}, path="/v1/heartbeats", token=token)))

    flood = [posted("outsider", "wrong", [message()]) for _ in range(100)]
    await asyncio.gather(*flood, posted("gateway", "beat-token", [message()]))
    names = [name for name, _ in order]
    assert names.index("gateway") < 20
    assert {answer.json()["accepted"] for name, answer in order if name == "outsider"} == {0}
    assert world.counters.rejected["unauthorized"] == 100


async def test_a_batch_of_which_nothing_may_pass_begins_no_flush(world, message, a_beat):
    world.buffer.submit(a_beat())
    answer = await world.post({"heartbeats": [message()]}, path="/v1/heartbeats", token=None)
    assert answer.json()["accepted"] == 0
    assert world.buffer.size == 1


async def test_without_a_token_in_its_header_a_batch_has_no_more_than_fit_with_their_own(world, message, monkeypatch):
    empty = [{}] * (MOST_UNOPENED + 1)
    told = (await world.post({"heartbeats": empty}, path="/v1/heartbeats")).json()
    assert [each["index"] for each in told["rejected"]] == [*range(MOST_UNOPENED + 1)]
    told = (await world.post({"heartbeats": empty[1:]}, path="/v1/heartbeats", token=None)).json()
    assert len(told["rejected"]) == MOST_UNOPENED
    looked = []
    monkeypatch.setattr(heartbeat, "parse_batched", looked.append)
    answer = await world.post({"heartbeats": empty}, path="/v1/heartbeats", token=None)
    assert "in its header" in is_problem(answer, 413, "too-large")
    assert looked == []


@pytest.mark.parametrize("filling", [b"{},", b"[],", b"0,"])
async def test_a_batch_of_a_million_empty_things_is_not_decoded(world, filling, monkeypatch):
    decoded = []
    monkeypatch.setattr(heartbeat, "parse_batch", decoded.append)
    body = b'{"heartbeats":[' + filling * (MAX_BATCH_COMMAS + 1) + b"0]}"
    is_problem(await world.post(body, path="/v1/heartbeats"), 413, "too-large")
    assert decoded == []


async def test_one_session_in_a_batch_for_many_agents_stays_one_agents(world, message):
    instance = "11111111-2222-3333-4444-555555555555"
    items = [message(agent=None, instance_id=instance, user_id=f"u{number}") for number in range(MAX_RIVALS + 10)]
    told = (await world.post({"heartbeats": items}, path="/v1/heartbeats")).json()
    assert told["accepted"] == 1
    assert len(world.store.views()) == 1


async def test_a_fault_of_our_own_is_told_without_its_inside(world, message):
    world.store.plainly_live = None
    response = await world.post(message())
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "NoneType" not in response.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from([*Heartbeat.model_fields])
PLAUSIBLE = JSON | st.sampled_from(
    ["hello", "bye", "11111111-2222-3333-4444-555555555555", "hidden", "main", 2**31, 2**53, 1e308, -1]
)


def _dumped(value):
    try:
        return orjson.dumps(value)
    except TypeError:
        return b'{"seq": 99999999999999999999999999}'


BODIES = st.binary(max_size=300) | st.builds(_dumped, JSON | st.dictionaries(FIELDS, PLAUSIBLE, max_size=15))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=BODIES, batch=st.booleans(), valid=st.booleans(), override=st.dictionaries(FIELDS, PLAUSIBLE, max_size=4))
async def test_no_body_makes_the_daemon_fail(make_world, message, body, batch, valid, override):
    world = make_world(mode=AuthMode.NONE)
    sent = _dumped(message(**override)) if valid else body
    if batch:
        sent = b'{"heartbeats":[' + sent + b"]}"
    response = await world.post(sent, path="/v1/heartbeats" if batch else "/v1/heartbeat")
    assert response.status_code < 500, response.text
    assert response.status_code == 204 or response.json()


@pytest.mark.parametrize("kind", BeatType)
async def test_each_type_is_counted(world, message, kind):
    ticket = (await world.post(message(type="hello"))).json()["ticket"]
    before = world.counters.heartbeats[kind]
    await world.post(message(type=kind, ticket=ticket))
    assert world.counters.heartbeats[kind] == before + 1


async def test_the_canary_is_answered_at_once_and_touches_nobody(world, looptime):
    for _ in range(3):
        nonce = uuid.uuid4().bytes
        response = await world.post(canary.call(world.gate.tickets, nonce, world.epoch))
        assert response.status_code == 200
        assert canary.is_answer(response.content, world.gate.tickets, nonce, world.epoch)
        assert response.json()["boot"] == "boot-1"
    assert looptime == 0
    assert world.buffer.size == 0
    assert world.store.views() == []
    assert sum(world.counters.heartbeats.values()) == 0


async def test_a_canary_of_somebody_else_is_refused_and_counted(world):
    others = Tickets([b"a-secret-of-somebody"])
    response = await world.post(canary.call(others, uuid.uuid4().bytes, world.epoch))
    is_problem(response, 401, "unauthorized")
    assert world.counters.rejected["unauthorized"] == 1


async def test_refusals_that_begin_with_a_live_session_are_kept_in_mind_while_they_go_on(world, message):
    refusals, clock = world.heartbeats.refusals, [0.0]
    refusals.time = lambda: clock[0]
    assert (await world.post(message(), token="wrong")).status_code == 401
    assert not refusals.going_on
    await world.post(message(type="hello"))
    assert (await world.post(message(), token="wrong")).status_code == 401
    assert (refusals.going_on, refusals.since, refusals.count) == (True, world.epoch, 1)
    # those of sessions that ran out meanwhile go on
    world.store.sessions.clear()
    began = world.epoch
    for _ in range(3):
        clock[0] += 50
        assert (await world.post(message(), token="wrong")).status_code == 401
    assert (refusals.going_on, refusals.since, refusals.count) == (True, began, 4)
    clock[0] += 60
    # a wall clock that is set makes them neither longer nor shorter
    world.epoch -= 3600
    assert not refusals.going_on
    assert (await world.post(message(), token="wrong")).status_code == 401
    assert not refusals.going_on


async def test_what_is_known_of_a_session_lets_no_other_pass_in_its_name(world, message):
    beat = message(agent=None, instance_id=INSTANCE, user_id="user")
    await world.post({"heartbeats": [beat]}, path="/v1/heartbeats")
    items = [
        {**beat, "user_id": "other"},
        {**beat, "instance_id": "other"},
        {**beat, "agent": message()["agent"]},
        {**beat, "type": "bye"},
        beat,
    ]
    told = (await world.post({"heartbeats": items}, path="/v1/heartbeats")).json()
    assert [each["index"] for each in told["rejected"]] == [0, 1, 2, 3]
    assert {reason for reason, count in world.counters.rejected.items() if count} == {
        "foreign",
        "instance",
        "malformed",
        "unauthorized",
    }
    for item, status in zip(items, (409, 403, 400, 401, 200), strict=True):
        assert (await world.post(item)).status_code == status


async def test_a_known_session_needs_its_proof_in_a_batch_as_well(world, message):
    items = [message(session_id=str(uuid.uuid4())) for _ in range(3)]
    assert (await world.post({"heartbeats": items}, path="/v1/heartbeats")).json()["accepted"] == 3
    for token in (None, "wrong"):
        told = (await world.post({"heartbeats": items}, path="/v1/heartbeats", token=token)).json()
        assert told["accepted"] == 0


async def test_agents_of_an_instance_that_is_not_watched_any_more_are_refused_though_they_are_known(world, message):
    beat = message()
    assert (await world.post(beat)).status_code == 200
    world.heartbeats._rules = replace(world.heartbeats._rules, instances=frozenset({"another"}))
    assert (await world.post(beat)).status_code == 403
    told = (await world.post({"heartbeats": [beat]}, path="/v1/heartbeats")).json()
    assert told["accepted"] == 0


async def test_a_faulty_item_of_a_batch_spoils_no_other_whatever_its_json(world, message):
    sent = orjson.dumps({"heartbeats": [message(), 7]})[:-2] + b',{"session_id":1e999,"x":NaN},{"agent":"x"}]}'
    told = (await world.post(sent, path="/v1/heartbeats")).json()
    assert (told["accepted"], [each["index"] for each in told["rejected"]]) == (1, [1, 2, 3])
