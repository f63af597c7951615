"""Tokens, tickets and who may do what."""

import base64

import pytest

from tests.provider import AUDIENCE, ISSUER, document, jwk, token
from watchdog.core.model import AgentId, Beat, BeatType, Epoch
from watchdog.errors import MessageError
from watchdog.ingest import auth, signing_keys
from watchdog.ingest.auth import TICKET_TTL_S, AuthMode, Gate, Purpose, Tickets, Tokens, bearer
from watchdog.ingest.jwt import JwtRules, Jwts

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


@pytest.mark.parametrize("purpose", Purpose)
def test_a_ticket_is_for_one_purpose(tickets, purpose):
    ticket = tickets.issue(AGENT, SESSION, 0, NOW, purpose)
    assert [each for each in Purpose if tickets.check(ticket, AGENT, SESSION, 0, NOW, each)] == [purpose]


def test_a_ticket_of_an_earlier_version_still_holds(tickets):
    assert tickets.check("AWtLI4AAAAAA-DuG-tDa-VBqKQdpDqnwlA", AGENT, SESSION, 0, NOW)


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


def test_replies_bring_the_same_ticket_for_ten_minutes(tickets):
    ticket = tickets.renew(AGENT, SESSION, 0, NOW)
    assert ticket == tickets.issue(AGENT, SESSION, 0, NOW)
    assert tickets.renew(AGENT, SESSION, 0, Epoch(NOW + auth.REISSUE_S - 1)) == ticket
    later = tickets.renew(AGENT, SESSION, 0, Epoch(NOW + auth.REISSUE_S))
    assert later == tickets.issue(AGENT, SESSION, 0, Epoch(NOW + auth.REISSUE_S))
    assert tickets.renew(AGENT, SESSION, 0, NOW) == ticket, "a wall clock that was set back is no reason for an old one"


@pytest.mark.parametrize(
    ("agent", "session", "incarnation"),
    [(AgentId("instance", "other"), SESSION, 0), (AGENT, bytes(16), 0), (AGENT, SESSION, 1)],
)
def test_the_ticket_of_another_is_not_given_again_and_does_not_hold(tickets, agent, session, incarnation):
    first = tickets.renew(AGENT, SESSION, 0, NOW)
    assert not tickets.check(first, agent, session, incarnation, NOW)
    assert tickets.renew(agent, session, incarnation, NOW) == tickets.issue(agent, session, incarnation, NOW) != first
    assert tickets.check(first, AGENT, SESSION, 0, NOW), "computed anew, if it is not remembered any more"


def test_a_ticket_that_is_remembered_is_over_when_any_other_is_and_is_for_one_purpose(tickets):
    ticket = tickets.renew(AGENT, SESSION, 0, Epoch(NOW + 0.9))
    assert tickets.check(ticket, AGENT, SESSION, 0, Epoch(NOW + TICKET_TTL_S - 1))
    assert not tickets.check(ticket, AGENT, SESSION, 0, Epoch(NOW + TICKET_TTL_S))
    assert not tickets.check(ticket, AGENT, SESSION, 0, NOW, Purpose.CANARY)
    for no_ticket in ("", "é" * 34, ticket[:-1], ticket + "A"):
        assert not tickets.check(no_ticket, AGENT, SESSION, 0, NOW)


def test_after_a_rotation_a_reply_brings_a_ticket_of_the_new_secret():
    old, new = b"o" * 32, b"n" * 32
    ticket = Tickets([old]).renew(AGENT, SESSION, 0, NOW)
    rotated = Tickets([new, old])
    assert rotated.check(ticket, AGENT, SESSION, 0, NOW)
    assert Tickets([new]).check(rotated.renew(AGENT, SESSION, 0, NOW), AGENT, SESSION, 0, NOW)


def test_only_so_many_tickets_are_remembered_and_the_latest_ones(tickets, monkeypatch):
    monkeypatch.setattr(auth, "MAX_ISSUED", 10)
    sessions = [bytes(15) + bytes([number]) for number in range(100)]
    for session in sessions:
        tickets.renew(AGENT, session, 0, NOW)
    later = Epoch(NOW + 1)
    same = [
        session
        for session in sessions
        if tickets.renew(AGENT, session, 0, later) == tickets.issue(AGENT, session, 0, NOW)
    ]
    assert len(tickets._issued) + len(tickets._before) <= 20
    assert same == []
    assert tickets.renew(AGENT, sessions[-1], 0, Epoch(NOW + 2)) == tickets.issue(AGENT, sessions[-1], 0, later)


def test_secrets_can_be_rotated():
    old, new = b"o" * 32, b"n" * 32
    ticket = Tickets([old]).issue(AGENT, SESSION, 0, NOW)
    assert Tickets([new, old]).check(ticket, AGENT, SESSION, 0, NOW)
    assert not Tickets([new]).check(ticket, AGENT, SESSION, 0, NOW)
    later = Tickets([new, old]).issue(AGENT, SESSION, 0, NOW)
    assert Tickets([new]).check(later, AGENT, SESSION, 0, NOW)
    with pytest.raises(ValueError, match="at least one"):
        Tickets([])


class Known:
    """Keys that stand; whether a key that is missing may come is `later`."""

    def __init__(self, *, later=False):
        self.current = None if later else signing_keys.read(document(jwk("ES256", "k1")))
        self.later = later

    def may_come(self):
        return self.later


def gate(mode=AuthMode.TOKEN, admin=("admin",), keys=None):
    jwts = None
    if mode is AuthMode.JWT:
        jwts = Jwts(JwtRules(ISSUER, frozenset({AUDIENCE})), keys or Known(), lambda: NOW)
    return Gate(mode, Tokens(["beat"]), Tokens(admin), Tickets([b"k" * 32]), jwts)


def mine(**claims):
    return token(now=NOW, **claims)


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
        with pytest.raises(MessageError, match=r"bye needs|not a JWT") as refused:
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


# JWTs.


@pytest.mark.parametrize("kind", BeatType)
def test_an_agents_own_jwt_opens_renews_and_ends_its_sessions(kind):
    gate(AuthMode.JWT).check_beat(beat(kind), [None, mine()], None, NOW)
    gate(AuthMode.JWT).check_beat(beat(kind), [mine()], None, NOW, batched=True)


@pytest.mark.parametrize("kind", BeatType)
@pytest.mark.parametrize("scope", ["", "watchdog:gateway", "watchdog:admin watchdog:gateway"])
def test_an_agents_jwt_is_worth_nothing_for_another(kind, scope):
    with pytest.raises(MessageError, match="not this agent's") as refused:
        gate(AuthMode.JWT).check_beat(beat(kind), [mine(sub="other", scope=scope)], None, NOW)
    assert refused.value.status == 403


@pytest.mark.parametrize("kind", [BeatType.HELLO, BeatType.BEAT])
def test_a_gateway_sends_batches_for_anybody_and_nothing_else(kind):
    gateway = mine(sub="gateway", scope="watchdog:gateway")
    gate(AuthMode.JWT).check_beat(beat(kind), [gateway], None, NOW, batched=True)
    with pytest.raises(MessageError, match="watchdog:gateway"):
        gate(AuthMode.JWT).check_beat(
            beat(kind), [mine(sub="gateway", scope="watchdog:admin")], None, NOW, batched=True
        )


def test_a_gateway_says_a_bye_with_the_sessions_ticket_only():
    gateway, at = mine(sub="gateway", scope="watchdog:gateway"), gate(AuthMode.JWT)
    own = at.tickets.issue(AGENT, SESSION, 0, NOW)
    at.check_beat(beat(BeatType.BYE), [gateway], own, NOW, batched=True)
    with pytest.raises(MessageError, match="not this agent's"):
        at.check_beat(beat(BeatType.BYE), [gateway], None, NOW, batched=True)


def test_a_large_batch_is_read_from_gateways_only():
    gate(AuthMode.TOKEN).check_batch("beat")
    gate(AuthMode.NONE).check_batch(None)
    gate(AuthMode.JWT).check_batch(mine(scope="watchdog:gateway"))
    for mode, given, status in (
        (AuthMode.TOKEN, None, 401),
        (AuthMode.TOKEN, "admin", 401),
        (AuthMode.JWT, None, 401),
        (AuthMode.JWT, "beat", 401),
        (AuthMode.JWT, mine(scope="watchdog:gateway", exp=NOW - 3600), 401),
        (AuthMode.JWT, mine(), 403),
        (AuthMode.JWT, mine(scope="watchdog:admin"), 403),
    ):
        with pytest.raises(MessageError) as refused:
            gate(mode).check_batch(given)
        assert refused.value.status == status, (mode, given)
    with pytest.raises(MessageError) as refused:
        gate(AuthMode.JWT, keys=Known(later=True)).check_batch(mine(scope="watchdog:gateway"))
    assert refused.value.status == 503


@pytest.mark.parametrize("own", [None, "forged"])
@pytest.mark.parametrize("kind", [BeatType.HELLO, BeatType.BEAT])
def test_what_opens_a_batch_lets_each_of_its_beats_pass_whatever_else_they_bring(kind, own):
    opened = 0
    for mode in AuthMode:
        for given in (None, "beat", "admin", mine(), mine(sub="other"), mine(sub="other", scope="watchdog:gateway")):
            at = gate(mode)
            if at.opens_batch(given):
                opened += 1
                at.check_beat(beat(kind), [given, own], own, NOW, batched=True)
    assert opened == 6 + 1 + 1


@pytest.mark.parametrize("mode", [AuthMode.JWT, AuthMode.TOKEN])
@pytest.mark.parametrize("kind", BeatType)
def test_a_ticket_alone_opens_no_batch(mode, kind):
    at = gate(mode)
    own = at.tickets.issue(AGENT, SESSION, 0, NOW)
    at.check_beat(beat(kind), [], own, NOW)
    with pytest.raises(MessageError, match="ticket alone opens no batch") as refused:
        at.check_beat(beat(kind), [None, None], own, NOW, batched=True)
    assert refused.value.status == 401
    good = mine() if mode is AuthMode.JWT else "beat"
    at.check_beat(beat(kind), [good], own, NOW, batched=True)


@pytest.mark.parametrize("kind", BeatType)
@pytest.mark.parametrize("given", ["", "garbage", "expired"])
@pytest.mark.parametrize("keys", [Known(), Known(later=True)])
def test_a_ticket_needs_no_token_and_no_provider(kind, given, keys):
    at = gate(AuthMode.JWT, keys=keys)
    own = at.tickets.issue(AGENT, SESSION, 0, NOW)
    at.check_beat(beat(kind), [mine(exp=NOW - 3600) if given == "expired" else given], own, NOW)


@pytest.mark.parametrize(
    ("tokens", "status", "said"),
    [
        ([None, None], 401, "Send the agent's JWT"),
        (["beat"], 401, "it is not a JWT"),
        (["admin"], 401, "it is not a JWT"),
        ([mine(aud="x")], 401, "another audience"),
        ([mine(exp=NOW - 60)], 401, "expired"),
        (["beat", mine(sub="other")], 401, "it is not a JWT"),
    ],
)
def test_what_is_wrong_with_a_jwt_is_told(tokens, status, said):
    with pytest.raises(MessageError, match=said) as refused:
        gate(AuthMode.JWT).check_beat(beat(), tokens, None, NOW)
    assert refused.value.status == status
    assert not any(each in str(refused.value) for each in tokens if each)


def test_a_good_jwt_is_enough_whatever_else_comes():
    gate(AuthMode.JWT).check_beat(beat(), ["garbage", mine()], "garbage", NOW)


def test_while_the_keys_cannot_be_had_nobody_is_told_to_get_another_token():
    at = gate(AuthMode.JWT, keys=Known(later=True))
    for ask in (lambda: at.check_beat(beat(), [mine()], None, NOW), lambda: at.check_admin(mine())):
        with pytest.raises(MessageError, match="Keep the token") as refused:
            ask()
        assert refused.value.status == 503
    assert at.check_admin("admin").startswith("token:")


def test_where_forged_tokens_come_from_a_ticket_and_an_admin_token_do_all_the_same():
    at = gate(AuthMode.JWT)
    own = at.tickets.issue(AGENT, SESSION, 0, NOW)
    for number in range(100):
        with pytest.raises(MessageError, match="signature"):
            at.check_beat(beat(), [token(now=NOW, number=9, jti=str(number))], None, NOW, address="192.0.2.1")
    for ask in (
        lambda: at.check_beat(beat(), [mine()], None, NOW, address="192.0.2.1"),
        lambda: at.check_admin(mine(scope="watchdog:admin"), "192.0.2.1"),
    ):
        with pytest.raises(MessageError, match="so many JWTs") as refused:
            ask()
        assert refused.value.status == 429
    at.check_beat(beat(), [mine()], own, NOW, address="192.0.2.1")
    assert at.check_admin("admin", "192.0.2.1").startswith("token:")
    at.check_beat(beat(), [mine()], None, NOW, address="192.0.2.2")


def test_shared_heartbeat_tokens_open_nothing_with_jwts():
    with pytest.raises(MessageError):
        gate(AuthMode.JWT).check_beat(beat(), ["beat"], None, NOW)


def test_jwts_are_for_one_mode_only():
    for mode, jwts in ((AuthMode.JWT, None), (AuthMode.TOKEN, gate(AuthMode.JWT).jwts)):
        with pytest.raises(ValueError, match="mode"):
            Gate(mode, Tokens([]), Tokens([]), Tickets([b"k" * 32]), jwts)


@pytest.mark.parametrize("admin", [("admin",), ()])
def test_an_operator_comes_with_the_scope(admin):
    at = gate(AuthMode.JWT, admin)
    assert at.check_admin(mine(sub="ops-1", scope="openid watchdog:admin")) == "jwt:ops-1"
    assert at.check_admin(mine(sub=None, scope="watchdog:admin")) == "jwt:(without a subject)"
    assert at.check_admin(mine(sub="a\nb\x1b" + "c" * 500, scope="watchdog:admin")) == "jwt:ab" + "c" * 196
    for bad, status, said in (
        (mine(), 403, "has not the scope `watchdog:admin`"),
        (mine(scope="watchdog:gateway watchdog:administrator"), 403, "scope"),
        (mine(aud="x", scope="watchdog:admin"), 401, "audience"),
        ("beat", 401, "not a JWT"),
        (None, 401, "Send a JWT with the scope"),
    ):
        with pytest.raises(MessageError, match=said) as refused:
            at.check_admin(bad)
        assert refused.value.status == status


def test_a_ticket_makes_nobody_an_operator():
    for mode in (AuthMode.JWT, AuthMode.TOKEN):
        at = gate(mode)
        own = at.tickets.issue(AGENT, SESSION, 0, NOW)
        with pytest.raises(MessageError):
            at.check_admin(own)


# Who gave an order.


def test_a_shared_token_has_a_name_that_does_not_tell_it():
    assert gate().check_admin("admin") == "token:8c6976e5"  # printf admin | sha256sum
    assert gate(AuthMode.JWT).check_admin("admin") == "token:8c6976e5"
    assert gate(AuthMode.NONE, ()).check_admin(None) == "nobody: WATCHDOG_AUTH=none"
    assert Tokens(["a"]).name("b") is None
