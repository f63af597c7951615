"""Tickets and JWTs that were tampered with, by the thousand in CI and by the million in `make test-long`: none passes.

Hypothesis draws headers, claims and seeds; from each seed follow many inputs, each a good one that was changed.
"""

import base64
import json
import os
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.provider import AUDIENCE, ISSUER, document, forged, jwk, token
from watchdog.core.model import AgentId, Epoch
from watchdog.ingest import signing_keys
from watchdog.ingest.auth import Purpose, Tickets
from watchdog.ingest.jwt import Bearer, Fault, JwtRules, Jwts

NOW = Epoch(1_800_000_000.0)
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EACH = 300 if LONG else 20
"""Inputs for each example: with 2,000 examples in each of the two tests, 1,200,000."""

ODD = ["none", "HS256", "RS256", "ES384", "", None, 0, -1, 1e308, True, [], {}, "k1", "\0", "é", "a" * 300, ["ES256"]]
NAMES = ["alg", "kid", "typ", "crit", "jwk", "jku", "x5c", "b64", "exp", "iss", "aud", "sub", "nbf", "iat", "scope"]
ALPHABET = "ABCabc019-_=.+/ \n\0é\ud800{}"


def changed(text, draw):
    """The text with one to three changes."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(text) + 1)
        kind = draw.randrange(5)
        if kind == 0:
            text = text[:at] + draw.choice(ALPHABET) + text[at:]
        elif kind == 1:
            text = text[:at] + draw.choice(ALPHABET) + text[at + 1 :]
        elif kind == 2:
            text = text[:at] + text[at + draw.randint(1, 9) :]
        elif kind == 3:
            text = text[:at] + text[at : at + 9] * draw.randint(1, 9) + text[at:]
        else:
            other = draw.randrange(len(text) + 1)
            text = text[at:] + text[:other]
    return text


@pytest.fixture(scope="module")
def provider():
    keys = signing_keys.read(document(jwk("ES256", "k1"), jwk("EdDSA", "k2"), jwk("RS256", "k3")))

    class Keys:
        current = keys

        def may_come(self):
            return False

    good = [token(alg=alg, kid=kid, now=NOW) for alg, kid in (("ES256", "k1"), ("EdDSA", "k2"), ("RS256", "k3"))]
    jwts = Jwts(JwtRules(ISSUER, frozenset({AUDIENCE})), Keys(), lambda: NOW)
    for each in good:
        assert isinstance(jwts.check(each), Bearer)
    return jwts, good


def tampered(good, draw):
    """One input: a good token changed as a text, or in its parts; or parts of two good ones."""
    one, other = draw.choice(good).split("."), draw.choice(good).split(".")
    kind = draw.randrange(4)
    if kind == 0:
        return changed(".".join(one), draw)
    if kind == 1:
        part = draw.randrange(3)
        one[part] = other[part] if other[part] != one[part] else changed(one[part], draw)
        return ".".join(one)
    part = draw.randrange(2)
    said = json.loads(base64.urlsafe_b64decode(one[part] + "=="))
    name = draw.choice(NAMES)
    if kind == 2:
        said[name] = draw.choice(ODD)
    else:
        said.pop(name, None)
        said[draw.choice(NAMES) + "2"] = draw.choice(ODD)
    one[part] = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    return ".".join(one)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.text(max_size=3))
PARTS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=9), VALUES | st.sampled_from(ODD[:9]), max_size=6)


@settings(deadline=None)
@given(seed=st.integers(0, 2**64), header=PARTS, claims=PARTS, signature=st.binary(max_size=80), text=st.text())
@example(seed=0, header={"alg": "none"}, claims={}, signature=b"", text="")
def test_no_jwt_that_was_tampered_with_passes(provider, seed, header, claims, signature, text):
    jwts, good = provider
    assert isinstance(jwts.check(text), Fault)
    assert isinstance(jwts.check(forged({"alg": "ES256", "kid": "k1", **header}, claims, signature)), Fault)
    draw = random.Random(seed)
    for _ in range(EACH):
        given_token = tampered(good, draw)
        found = jwts.check(given_token)
        assert isinstance(found, Fault) or given_token in good, given_token


AGENT, SESSION = AgentId("i-1", "user"), bytes(range(16))


@settings(deadline=None)
@given(seed=st.integers(0, 2**64), text=st.text(max_size=600), raw=st.binary(max_size=60))
def test_no_ticket_that_was_tampered_with_passes(seed, text, raw):
    tickets = Tickets([b"k" * 32, b"o" * 32])
    good = tickets.issue(AGENT, SESSION, 3, NOW)
    says = base64.urlsafe_b64decode(good + "==")
    for each in (text, base64.urlsafe_b64encode(raw).decode(), base64.urlsafe_b64encode(raw[:25].ljust(25)).decode()):
        assert not tickets.check(each, AGENT, SESSION, 3, NOW)
    draw = random.Random(seed)
    others = [
        tickets.issue(AGENT, SESSION, 4, NOW),
        tickets.issue(AgentId("i-1", "user2"), SESSION, 3, NOW),
        tickets.issue(AGENT, bytes(16), 3, NOW),
        tickets.issue(AGENT, SESSION, 3, Epoch(NOW - 90_000)),
        tickets.issue(AGENT, SESSION, 3, NOW, Purpose.CANARY),
        Tickets([b"x" * 32]).issue(AGENT, SESSION, 3, NOW),
    ]
    for _ in range(EACH):
        ticket = changed(good, draw) if draw.random() < 0.7 else changed(draw.choice(others), draw)
        if tickets.check(ticket, AGENT, SESSION, 3, NOW):
            # Written in another way; base64 has unused bits.
            assert base64.urlsafe_b64decode(ticket + "==") == says
    assert not any(tickets.check(each, AGENT, SESSION, 3, NOW) for each in others)
