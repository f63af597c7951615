"""Heartbeat messages: what is taken, what is refused, and that a refusal says what to do and repeats nothing."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.core.messages import MAX_BODY, Heartbeat, LeaseRules, parse_batched, parse_heartbeat, to_beat
from watchdog.core.model import AgentId, BeatType
from watchdog.errors import MessageError

RULES = LeaseRules(session_ttl_s=35.0, throttled_ttl_s=150.0, max_page_lag_s=120.0)
INSTANCE = "11111111-2222-3333-4444-555555555555"
USER = "99999999-8888-7777-6666-555555555555"
ARN = f"arn:aws:connect:us-east-1:123456789012:instance/{INSTANCE}/agent/{USER}"
SESSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
LEAST = {"agent": ARN, "session_id": SESSION}


def body(**changes: object) -> bytes:
    return json.dumps({key: value for key, value in {**LEAST, **changes}.items() if value is not ...}).encode()


def test_the_least_heartbeat_is_an_agent_and_a_session() -> None:
    heartbeat = parse_heartbeat(body())
    beat = to_beat(heartbeat, heartbeat.agent_id(), RULES)
    assert beat.agent == AgentId(INSTANCE, USER)
    assert beat.session_id == bytes.fromhex(SESSION.replace("-", ""))
    assert (beat.type, beat.incarnation, beat.seq, beat.ttl) == (BeatType.BEAT, 0, None, 35.0)


def test_an_agent_may_be_named_by_its_two_ids() -> None:
    assert parse_heartbeat(body(agent=..., instance_id=INSTANCE, user_id=USER)).agent_id() == (INSTANCE, USER)


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_every_partition_is_known(partition: str) -> None:
    assert parse_heartbeat(body(agent=ARN.replace("arn:aws:", f"arn:{partition}:"))).agent_id().user_id == USER


def test_unknown_fields_are_ignored() -> None:
    assert parse_heartbeat(body(colour="blue", nested={"a": [1]})).type is BeatType.BEAT


@pytest.mark.parametrize(
    ("changes", "ttl"),
    [
        ({}, 35.0),
        ({"visibility": "hidden"}, 35.0),
        ({"driver": "main"}, 35.0),
        ({"visibility": "hidden", "driver": "worker"}, 35.0),
        ({"visibility": "hidden", "driver": "main"}, 150.0),
        ({"type": "bye"}, 0.0),
        ({"visibility": "visible", "lag_ms": 120_000}, 35.0),
        ({"visibility": "visible", "lag_ms": 120_001}, None),
        ({"visibility": "hidden", "lag_ms": 500_000}, 35.0),
        ({"lag_ms": 500_000}, 35.0),
        ({"type": "bye", "visibility": "visible", "lag_ms": 500_000}, 0.0),
    ],
)
def test_how_long_a_heartbeat_renews(changes: dict[str, object], ttl: float | None) -> None:
    heartbeat = parse_heartbeat(body(**changes))
    assert to_beat(heartbeat, heartbeat.agent_id(), RULES).ttl == ttl


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"session_id": ...}, "`session_id` is missing"),
        ({"session_id": "not-a-uuid"}, "not a UUID"),
        ({"session_id": 7}, "not a UUID"),
        ({"type": "wave"}, "`type`"),
        ({"incarnation": -1}, "`incarnation`"),
        ({"incarnation": 2**31}, "`incarnation`"),
        ({"seq": -1}, "`seq`"),
        ({"seq": 1.5}, "`seq`"),
        ({"lag_ms": -1}, "`lag_ms`"),
        ({"visibility": "prerender"}, "`visibility`"),
        ({"driver": "chauffeur"}, "`driver`"),
        ({"reason": "x" * 201}, "`reason`"),
        ({"ticket": "x" * 513}, "`ticket`"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, object], told: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse_heartbeat(body(**changes))
    assert caught.value.status == 400
    assert told in caught.value.detail


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"agent": ...}, "Name the agent"),
        ({"agent": ..., "instance_id": INSTANCE}, "Name the agent"),
        ({"agent": "anna"}, "takes an ARN"),
        ({"agent": ARN + "/x"}, "takes an ARN"),
        ({"agent": ARN.replace("agent/", "queue/")}, "takes an ARN"),
        ({"agent": ARN + "\n"}, "takes an ARN"),
        ({"agent": ..., "instance_id": INSTANCE, "user_id": "../admin"}, "take the ids"),
        ({"agent": ..., "instance_id": "", "user_id": USER}, "take the ids"),
        ({"instance_id": INSTANCE, "user_id": "someone-else"}, "another agent"),
    ],
)
def test_a_bad_agent_is_refused(changes: dict[str, object], told: str) -> None:
    heartbeat = parse_heartbeat(body(**changes))
    with pytest.raises(MessageError) as caught:
        heartbeat.agent_id()
    assert told in caught.value.detail


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"{}" * 2, b"[" * 2000])
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        parse_heartbeat(text)
    assert caught.value.status == 400


def test_four_kibibytes_are_taken_and_one_byte_more_is_not() -> None:
    short = body(padding="")
    full = body(padding="x" * (MAX_BODY - len(short)))
    assert len(full) == MAX_BODY
    assert parse_heartbeat(full).type is BeatType.BEAT
    with pytest.raises(MessageError) as caught:
        parse_heartbeat(full + b" ")
    assert caught.value.status == 413


def test_a_refusal_never_repeats_what_was_sent() -> None:
    for changes in ({"token": 7, "seq": "s3cret"}, {"ticket": "s3cret" * 100}, {"session_id": "s3cret"}):
        with pytest.raises(MessageError) as caught:
            parse_heartbeat(body(**changes))
        assert "s3cret" not in caught.value.detail


def test_an_item_of_a_batch_is_read_as_a_heartbeat_of_its_own() -> None:
    assert parse_batched(dict(LEAST)).agent_id().user_id == USER
    for item in (None, 7, "x", [], {}):
        with pytest.raises(MessageError):
            parse_batched(item)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["agent", "session_id", "seq", "type", "lag_ms", "instance_id", "user_id", "x"]), inner
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_body_raises_anything_but_a_refusal(text: bytes) -> None:
    refusal = None
    try:
        heartbeat = parse_heartbeat(text)
        to_beat(heartbeat, heartbeat.agent_id(), RULES)
    except MessageError as error:
        refusal = error
    if refusal is not None:
        assert refusal.status in (400, 413)
        assert refusal.detail.endswith(".")


@given(st.data())
def test_who_is_named_is_who_would_be_found(data: st.DataObject) -> None:
    """An agent who is known is recognised just where its id would be read from the message."""
    known = AgentId("i-1", "u-1")
    account = "arn:aws:connect:us-east-1:123456789012:"
    names = [
        f"{account}instance/i-1/agent/u-1",
        f"{account}instance/i-1/agent/u-2",
        f"{account}instance/i-2/agent/u-1",
        "instance/i-1/agent/u-1",
        f"{account}x:instance/i-1/agent/u-1",
        "arn:aws:connect:us-east-1:1:instance/i-1/agent/u-1",
        f"{account}instance/i-1/agent/u-1\n",
        "",
    ]
    fields: dict[str, Any] = {
        "agent": data.draw(st.none() | st.sampled_from(names)),
        "instance_id": data.draw(st.sampled_from([None, "i-1", "i-2", "", "i 1"])),
        "user_id": data.draw(st.sampled_from([None, "u-1", "u-2", "", "u 1"])),
    }
    heartbeat = Heartbeat(session_id=UUID(int=1), **fields)
    try:
        found = heartbeat.agent_id() == known
    except MessageError:
        found = False
    assert heartbeat.names(known) is found
