"""Tokens, tickets and who may do what."""

import base64

import pytest

from watchdog.core.model import AgentId, Beat, BeatType, Epoch
from watchdog.errors import MessageError
from watchdog.ingest import auth
from watchdog.ingest.auth import TICKET_TTL_S, AuthMode, Gate, Tickets, Tokens, bearer

AGENT = AgentId("instance", "user")
SESSION = bytes(range(16))
NOW = Epoch(1_800_000_000.0)


@pytest.fixture
def tickets():
    return Tickets([b"k" * 32])


def test_any_of_several_tokens_is_accepted_and_nothing_else():
    tokens = Tokens(["old", "new-and-longer"])
    assert tokens.accept("old")
    assert tokens.accept("new-and-longer")
    for other in ("", "ol", "old ", "Old", "new-and-longer2", "\ud800", "ü"):
        assert not tokens.accept(other)


def test_without_tokens_nothing_is_accepted():
    assert not Tokens([])
    assert not Tokens([]).accept("")


def test_a_ticket_is_short_and_safe_in_a_url(tickets):
    ticket = tickets.issue(AGENT, SESSION, 0, NOW)
    assert len(ticket) == 34
    assert all(each.isalnum() or each in "-_" for each in ticket)


def test_a_ticket_holds_for_its_own_session_only(tickets):
    ticket = tickets.issue(AGENT, SESSION, 2, NOW)
    assert tickets.check(ticket, AGENT, SESSION, 2, NOW)
    assert not tickets.check(ticket, AGENT, bytes(16), 2, NOW)
    assert not tickets.check(ticket, AgentId("instance", "other"), SESSION, 2, NOW)
    assert not tickets.check(ticket, AgentId("other", "user"), SESSION, 2, NOW)
    assert not tickets.check(ticket, AGENT, SESSION, 1, NOW)
    assert not tickets.check(ticket, AGENT, SESSION, 3, NOW)


def test_a_ticket_is_over_after_24_hours(tickets):
    ticket = tickets.issue(AGENT, SESSION, 0, NOW)
    assert tickets.check(ticket, AGENT, SESSION, 0, Epoch(NOW + TICKET_TTL_S - 1))
    assert not tickets.check(ticket, AGENT, SESSION, 0, Epoch(NOW + TICKET_TTL_S))


@pytest.mark.parametrize("position", range(25))
def test_no_bit_of_a_ticket_can_be_changed(tickets, position):
    raw = bytearray(base64.urlsafe_b64decode(tickets.issue(AGENT, SESSION, 0, NOW) + "=="))
    for bit in range(8):
        forged = bytearray(raw)
        forged[position] ^= 1 << bit
        ticket = base64.urlsafe_b64encode(forged).rstrip(b"=").decode()
        assert not any(tickets.check(ticket, AGENT, SESSION, incarnation, NOW) for incarnation in (0, 1 << bit))


@pytest.mark.parametrize("ticket", ["", "x", "####", "é" * 34, "A" * 34, "A" * 511, "\ud800"])
def test_what_is_no_ticket_is_refused_quietly(tickets, ticket):
    assert not tickets.check(ticket, AGENT, SESSION, 0, NOW)


@pytest.mark.parametrize(("version", "holds"), [(1, True), (2, False)])
def test_a_ticket_of_another_version_is_refused_even_when_it_is_genuine(tickets, version, holds):
    head = auth._HEAD.pack(version, int(NOW) + 60, 0)
    raw = head + auth._mac(b"k" * 32, auth.Purpose.SESSION, head, AGENT, SESSION)
    ticket = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    assert tickets.check(ticket, AGENT, SESSION, 0, NOW) is holds


def test_secrets_can_be_rotated():
    old, new = b"o" * 32, b"n" * 32
    ticket = Tickets([old]).issue(AGENT, SESSION, 0, NOW)
    assert Tickets([new, old]).check(ticket, AGENT, SESSION, 0, NOW)
    assert not Tickets([new]).check(ticket, AGENT, SESSION, 0, NOW)
    later = Tickets([new, old]).issue(AGENT, SESSION, 0, NOW)
    assert Tickets([new]).check(later, AGENT, SESSION, 0, NOW)
    with pytest.raises(ValueError, match="at least one"):
        Tickets([])


def gate(mode=AuthMode.TOKEN, admin=("admin",)):
    return Gate(mode, Tokens(["beat"]), Tokens(admin), Tickets([b"k" * 32]))


def beat(kind=BeatType.BEAT, **fields):
    return Beat(AGENT, SESSION, kind, **fields)


@pytest.mark.parametrize("kind", [BeatType.HELLO, BeatType.BEAT])
def test_a_beat_needs_a_token_or_its_own_ticket(kind):
    own = gate().tickets.issue(AGENT, SESSION, 0, NOW)
    gate().check_beat(beat(kind), ["beat"], None, NOW)
    gate().check_beat(beat(kind), ["wrong", "beat"], None, NOW)
    gate().check_beat(beat(kind), [None], own, NOW)
    for tokens, ticket in (([None, None], None), (["wrong"], None), (["admin"], None), ([], "no-ticket")):
        with pytest.raises(MessageError, match="WATCHDOG_HEARTBEAT_TOKENS") as refused:
            gate().check_beat(beat(kind), tokens, ticket, NOW)
        assert refused.value.status == 401


@pytest.mark.parametrize("mode", AuthMode)
def test_a_bye_needs_its_own_ticket_whatever_else_there_is(mode):
    own = gate().tickets.issue(AGENT, SESSION, 4, NOW)
    gate(mode).check_beat(beat(BeatType.BYE, incarnation=4), [], own, NOW)
    for incarnation, ticket in ((4, None), (5, own)):
        with pytest.raises(MessageError, match="bye needs") as refused:
            gate(mode).check_beat(beat(BeatType.BYE, incarnation=incarnation), ["beat"], ticket, NOW)
        assert refused.value.status == 401


def test_without_authentication_beats_need_nothing():
    gate(AuthMode.NONE).check_beat(beat(BeatType.HELLO), [None], None, NOW)
    gate(AuthMode.NONE).check_beat(beat(), ["wrong"], None, NOW)


@pytest.mark.parametrize(
    ("mode", "tokens", "given", "status"),
    [
        (AuthMode.TOKEN, ["admin"], "admin", None),
        (AuthMode.TOKEN, ["admin"], "beat", 401),
        (AuthMode.TOKEN, ["admin"], None, 401),
        (AuthMode.TOKEN, [], "admin", 403),
        (AuthMode.NONE, ["admin"], None, 401),
        (AuthMode.NONE, ["admin"], "admin", None),
        (AuthMode.NONE, [], None, None),
    ],
)
def test_who_may_ask_as_an_operator(mode, tokens, given, status):
    if status is None:
        gate(mode, tokens).check_admin(given)
        return
    with pytest.raises(MessageError, match="WATCHDOG_ADMIN_TOKENS") as refused:
        gate(mode, tokens).check_admin(given)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("Bearer", None), ("", None)],
)
def test_the_bearer_of_a_header(header, token):
    assert bearer(header) == token
