"""The canary's call: answered on the heartbeats' path, signed both ways, and touching nobody."""

from __future__ import annotations

import orjson
import pytest

from watchdog.core.messages import parse_heartbeat
from watchdog.core.model import AgentId, Epoch
from watchdog.errors import MessageError
from watchdog.ingest import canary
from watchdog.ingest.auth import TICKET_TTL_S, Tickets

OURS = Tickets([b"a-new-secret-of-ours", b"an-old-secret-of-ours"])
OLD = Tickets([b"an-old-secret-of-ours"])
OTHERS = Tickets([b"a-secret-of-somebody"])
NONCE = bytes(range(canary.NONCE_BYTES))
NOW = Epoch(1_700_000_000.0)


def test_a_call_is_answered_with_a_proof_for_just_this_call():
    answer = canary.answer(canary.call(OURS, NONCE, NOW), OURS, "boot", NOW)
    assert answer is not None
    assert orjson.loads(answer)["state"] == "canary"
    assert orjson.loads(answer)["boot"] == "boot"
    assert canary.is_answer(answer, OURS, NONCE, NOW)
    assert not canary.is_answer(answer, OURS, NONCE[::-1], NOW)
    assert not canary.is_answer(answer, OTHERS, NONCE, NOW)


def test_secrets_may_be_rotated():
    answer = canary.answer(canary.call(OLD, NONCE, NOW), OURS, "boot", NOW)
    assert answer is not None
    assert not canary.is_answer(answer, OLD, NONCE, NOW)
    assert canary.is_answer(canary.answer(canary.call(OURS, NONCE, NOW), OURS, "b", NOW) or b"", OURS, NONCE, NOW)


def test_the_body_begins_as_the_lane_looks_for_it_and_is_no_heartbeat():
    said = canary.call(OURS, NONCE, NOW)
    assert said.startswith(canary.PREFIX)
    assert set(orjson.loads(said)) == {"canary", "ticket"}
    with pytest.raises(MessageError):
        parse_heartbeat(said)


@pytest.mark.parametrize(
    "body",
    [
        canary.call(OTHERS, NONCE, NOW),
        canary.call(OURS, NONCE, Epoch(NOW - TICKET_TTL_S)),
        canary.call(OURS, NONCE, NOW).replace(b'"0001', b'"1001'),
        canary.call(OURS, NONCE[:8], NOW),
        b'{"canary":"',
        b'{"canary":"zz","ticket":"x"}',
        b'{"canary":"00"}',
        b'{"canary":1}',
        b'{"canary":"","ticket":null}',
        b"[]",
    ],
)
def test_what_is_not_ours_is_not_answered(body):
    assert canary.answer(body, OURS, "boot", NOW) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b'{"proof":1}', b'{"proof":"AAAA"}', b'{"proof":null}'])
def test_what_proves_nothing_is_no_answer(body):
    assert not canary.is_answer(body, OURS, NONCE, NOW)


def test_a_call_is_no_answer_and_no_ticket_of_a_session():
    ticket = orjson.loads(canary.call(OURS, NONCE, NOW))["ticket"]
    assert not canary.is_answer(orjson.dumps({"proof": ticket}), OURS, NONCE, NOW)
    assert not OURS.check(ticket, AgentId("instance", "canary"), NONCE, 0, NOW)
    with pytest.raises(MessageError):
        parse_heartbeat(b'{"instance_id":"","user_id":"canary","session_id":"%s"}' % NONCE.hex().encode()).agent_id()
