"""JWTs and the keys that sign them: what is taken, and every way in which a forged one is not."""

import base64
import hashlib
import hmac
import json
from string import ascii_letters, digits

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.provider import AUDIENCE, ISSUER, document, forged, jwk, private_key, token
from watchdog.core.model import AgentId, Epoch
from watchdog.ingest import jwt as module
from watchdog.ingest import signing_keys
from watchdog.ingest.jwt import LEEWAY_S, MAX_TOKEN, WRONG_AT_ONCE, WRONG_PER_S, Bearer, Fault, JwtRules, Jwts
from watchdog.ingest.signing_keys import ALGORITHMS

NOW = 1_800_000_000.0
AGENT = AgentId("i-1", "user")
ARN = "arn:aws:connect:eu-west-2:123456789012:instance/i-1/agent/user"


class Keys:
    """Keys as they stand, and how often one was missed."""

    def __init__(self, *keys, later=False):
        self.current = signing_keys.read(document(*keys)) if keys else None
        self.later = later
        self.missed = 0

    def may_come(self):
        self.missed += 1
        return self.later


def verifier(*keys, now=NOW, agent_claim="sub", later=False, most=100):
    listed = keys or (jwk("ES256", "k1"),)
    rules = JwtRules(ISSUER, frozenset({AUDIENCE, "other"}), agent_claim)
    return Jwts(rules, Keys(*listed, later=later), lambda: Epoch(now), most=most)


def made(**claims):
    return token(now=NOW, **claims)


def test_exactly_the_signatures_of_key_pairs_are_taken():
    assert set(ALGORITHMS) == {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
    }


@pytest.mark.parametrize("alg", [*sorted(ALGORITHMS), "Ed448"])
def test_a_token_of_each_algorithm_is_verified_with_its_own_key_only(alg):
    kind = "RS256" if alg[:2] in ("RS", "PS") else alg
    mine, other = jwk(kind, "k1"), jwk(kind, "k1", number=1)
    given = jwt_of(alg, kind)
    found = verifier(mine).check(given)
    assert isinstance(found, Bearer), found
    assert (found.subject, found.until) == ("user", NOW + 3600)
    assert verifier(other).check(given) is Fault.SIGNATURE


def jwt_of(alg, kind):
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user", "exp": NOW + 3600}
    name = "EdDSA" if alg == "Ed448" else alg
    return jwt.encode(claims, private_key(kind), algorithm=name, headers={"kid": "k1"})


def test_the_public_key_is_no_secret_to_sign_with():
    rs = jwk("RS256", "k1")
    public = private_key("RS256").public_key()
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user", "exp": NOW + 3600}
    for encoding, form in (
        (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        (Encoding.PEM, PublicFormat.PKCS1),
    ):
        unsigned = forged({"alg": "HS256", "kid": "k1"}, claims).rsplit(".", 1)[0]
        mac = hmac.digest(public.public_bytes(encoding, form), unsigned.encode(), hashlib.sha256)
        given = f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert verifier(rs).check(given) is Fault.ALGORITHM


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "HS256", "ES256K", "RS1", "", None, 5, ["ES256"]])
def test_no_other_algorithm_is_taken(alg):
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user", "exp": NOW + 3600}
    assert verifier().check(forged({"alg": alg, "kid": "k1"}, claims, b"x")) is Fault.ALGORITHM
    assert verifier().check(forged({"alg": "none"}, claims)) is Fault.FORM, "no signature, no JWT"


@pytest.mark.parametrize(
    ("members", "algorithm"),
    [({}, "ES384"), ({}, "RS256"), ({}, "EdDSA"), ({"alg": "ES256"}, "ES384")],
)
def test_the_key_says_what_it_verifies_not_the_token(members, algorithm):
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user", "exp": NOW + 3600}
    given = forged({"alg": algorithm, "kid": "k1"}, claims, b"x" * 64)
    assert verifier(jwk("ES256", "k1", **members)).check(given) is Fault.ALGORITHM


def test_the_algorithm_that_a_key_names_is_its_only_one():
    given = jwt_of("RS384", "RS256")
    assert isinstance(verifier(jwk("RS256", "k1")).check(given), Bearer)
    assert isinstance(verifier(jwk("RS256", "k1", alg="RS384")).check(given), Bearer)
    assert verifier(jwk("RS256", "k1", alg="RS256")).check(given) is Fault.ALGORITHM


def test_keys_in_the_token_itself_are_not_looked_at():
    mine = jwk("ES256", "k1")
    headers = {"jwk": jwk("ES256", "k1", number=1), "jku": "https://evil.example.com/", "x5u": "https://evil/"}
    assert verifier(mine).check(token(number=1, headers=headers, now=NOW)) is Fault.SIGNATURE
    assert isinstance(verifier(mine).check(token(headers=headers, now=NOW)), Bearer)


def test_a_token_that_asks_to_be_understood_is_refused():
    assert verifier().check(token(headers={"crit": ["exp"], "exp": 1}, now=NOW)) is Fault.CRITICAL
    assert verifier().check(token(headers={"crit": []}, now=NOW)) is Fault.CRITICAL


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "JWE", "", 1, None])
def test_a_token_of_another_kind_is_refused(kind):
    header = {"alg": "ES256", "kid": "k1", "typ": kind}
    assert verifier().check(forged(header, {}, b"x")) is Fault.TYPE


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_kinds_that_prove_who_asks(kind):
    assert isinstance(verifier().check(token(headers={"typ": kind}, now=NOW)), Bearer)


@pytest.mark.parametrize(
    "kid",
    [
        *("../../../../dev/null", "/etc/passwd", "file:///etc/passwd", "https://evil.example.com/jwks.json", "K1"),
        *("k1' OR '1'='1", "k1\0", "k1 ", "", "k1/../k1", "%6b1", "k" * 1000, "$(id)", "http://169.254.169.254/"),
    ],
)
def test_a_kid_is_a_name_and_nothing_else(kid):
    jwts = verifier(jwk("ES256", "k1"), jwk("EdDSA", "k2"))
    assert jwts.check(token(kid=kid, now=NOW)) is Fault.KEY
    assert jwts._keys.missed == 1


@pytest.mark.parametrize("kid", [7, True, ["k1"], {"k1": 1}, 1e300])
def test_a_kid_that_is_no_text_is_refused(kid):
    assert verifier().check(forged({"alg": "ES256", "kid": kid}, {}, b"x")) is Fault.FORM


def test_a_token_without_a_kid_fits_only_a_single_key():
    given = token(kid=None, now=NOW)
    assert isinstance(verifier(jwk("ES256", "any")).check(given), Bearer)
    assert verifier(jwk("ES256", "k1"), jwk("ES256", "k2", number=1)).check(given) is Fault.KEY


def test_two_keys_of_one_name_are_both_tried():
    two = jwk("ES256", "k1", number=1), jwk("ES256", "k1")
    assert isinstance(verifier(*two).check(made()), Bearer)


@pytest.mark.parametrize(("later", "fault"), [(True, Fault.NO_KEYS), (False, Fault.KEY)])
def test_a_key_that_is_not_known_is_asked_for(later, fault):
    jwts = verifier(later=later)
    assert jwts.check(token(kid="k2", now=NOW)) is fault
    assert jwts._keys.missed == 1
    assert fault.ours is later
    assert isinstance(jwts.check(made()), Bearer)
    assert jwts._keys.missed == 1


def test_without_keys_nobody_can_tell():
    jwts = Jwts(JwtRules(ISSUER, frozenset({AUDIENCE})), Keys(), lambda: Epoch(NOW))
    assert jwts.check(made()) is Fault.NO_KEYS
    assert jwts.check("no token") is Fault.FORM, "and what is none is none"


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"iss": None}, Fault.ISSUER),
        ({"iss": ISSUER + "/"}, Fault.ISSUER),
        ({"aud": None}, Fault.AUDIENCE),
        ({"aud": "watchdog2"}, Fault.AUDIENCE),
        ({"aud": ["x", ["watchdog"]]}, Fault.AUDIENCE),
        ({"aud": {"watchdog": 1}}, Fault.AUDIENCE),
        ({"exp": None}, Fault.CLAIMS),
        ({"exp": str(NOW + 60)}, Fault.CLAIMS),
        ({"exp": True}, Fault.CLAIMS),
        ({"exp": 10**300}, Fault.CLAIMS),
        ({"exp": 1e300}, Fault.CLAIMS),
        ({"exp": 2.0**54}, Fault.CLAIMS),
        ({"exp": [NOW + 60]}, Fault.CLAIMS),
        ({"exp": {"at": NOW + 60}}, Fault.CLAIMS),
        ({"aud": []}, Fault.AUDIENCE),
        ({"aud": [AUDIENCE.upper()]}, Fault.AUDIENCE),
        ({"iss": [ISSUER]}, Fault.ISSUER),
        ({"nbf": "soon"}, Fault.CLAIMS),
        ({"iat": [NOW]}, Fault.CLAIMS),
        ({"sub": 7}, Fault.CLAIMS),
        ({"exp": NOW - LEEWAY_S}, Fault.EXPIRED),
        ({"exp": -5}, Fault.EXPIRED),
        ({"nbf": NOW + LEEWAY_S + 1}, Fault.EARLY),
        ({"iat": NOW + LEEWAY_S + 1}, Fault.EARLY),
    ],
)
def test_claims_that_are_refused(claims, fault):
    # As signed as any: the library that makes tokens would refuse some of these claims.
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user", "iat": NOW, "exp": NOW + 60, **claims}
    body = json.dumps({name: value for name, value in said.items() if value is not None}).encode()
    given = jwt.api_jws.encode(body, private_key("ES256"), "ES256", {"kid": "k1", "typ": "JWT"})
    assert verifier().check(given) is fault


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["x", "other"]},
        {"exp": NOW - LEEWAY_S + 1},
        {"exp": NOW + 0.5},
        {"nbf": NOW + LEEWAY_S},
        {"iat": NOW + LEEWAY_S},
        {"iat": None},
        {"sub": None},
    ],
)
def test_claims_that_are_taken(claims):
    assert isinstance(verifier().check(made(**claims)), Bearer)


@pytest.mark.parametrize("bad", [b"[]", b"1", b"{", b"", b"\xff", b'{"exp":NaN}'])
def test_what_is_signed_must_be_an_object(bad):
    given = jwt.api_jws.encode(bad, private_key("ES256"), "ES256", {"kid": "k1"})
    assert verifier().check(given) in (Fault.CLAIMS, Fault.FORM)


@pytest.mark.parametrize(
    "given",
    ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "é.é.é", "\ud800", "{}.{}.{}", "e30.e30.", " e30.e30.e30", "a" * 200],
)
def test_what_is_no_jwt_is_refused_quietly(given):
    assert verifier().check(given) is Fault.FORM


def test_a_token_is_bounded_before_anything_is_read():
    assert verifier().check("a" * (MAX_TOKEN + 1)) is Fault.SIZE
    assert verifier().check(made(pad="x" * MAX_TOKEN)) is Fault.SIZE
    assert verifier().check(made(pad="x" * 100_000)) is Fault.SIZE
    assert isinstance(verifier().check(made(pad="x" * 4000)), Bearer)


@pytest.mark.parametrize("position", range(3))
def test_no_part_of_a_token_can_be_another(position):
    mine, other = made().split("."), made(sub="other").split(".")
    mine[position] = other[position]
    if position == 0:
        mine[0] = base64.urlsafe_b64encode(b'{"alg":"ES256","kid":"k1","typ":"JWT","x":1}').rstrip(b"=").decode()
    assert verifier().check(".".join(mine)) is Fault.SIGNATURE


def test_a_token_is_written_in_one_way_only():
    jwts, given = verifier(), made()
    taken = [each for each in ascii_letters + digits + "-_" if isinstance(jwts.check(given[:-1] + each), Bearer)]
    assert taken == [given[-1]]


# Whose it is.


@pytest.mark.parametrize(
    ("claim", "own"),
    [
        ("user", True),
        (ARN, True),
        (ARN.replace("/i-1/", "/i-2/"), False),
        (ARN.replace("agent/user", "agent/other"), False),
        ("other", False),
        ("User", False),
        ("i-1/user", False),
        ("", False),
        (["user"], False),
        (None, False),
    ],
)
def test_a_token_speaks_for_its_own_agent_only(claim, own):
    found = verifier(agent_claim="custom:agent").check(made(**{"custom:agent": claim}))
    assert found.is_agent(AGENT) is own


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "openid watchdog:admin"}, {"openid", "watchdog:admin"}),
        ({"scope": ["watchdog:admin", 1]}, {"watchdog:admin"}),
        ({"scp": "watchdog:gateway"}, {"watchdog:gateway"}),
        ({"scp": ["watchdog:gateway"], "scope": "a"}, {"watchdog:gateway", "a"}),
        ({"scope": {"watchdog:admin": True}, "scp": 1}, set()),
        ({}, set()),
    ],
)
def test_scopes_are_a_text_or_a_list(claims, scopes):
    assert verifier().check(made(**claims)).scopes == scopes


def test_a_token_without_a_subject_speaks_for_nobody():
    found = verifier().check(made(sub=None, scope="watchdog:gateway"))
    assert (found.subject, found.agent, found.scopes) == ("", None, {"watchdog:gateway"})
    assert not found.is_agent(AGENT)
    assert not found.is_agent(AgentId("", ""))


# What is remembered.


def test_a_token_is_verified_once(monkeypatch):
    jwts, given = verifier(), made()
    first = jwts.check(given)
    monkeypatch.setattr(ALGORITHMS["ES256"], "verify", lambda *_: pytest.fail("verified again"))
    assert jwts.check(given) is first


def test_a_token_that_is_remembered_expires_all_the_same():
    now = [NOW]
    jwts = Jwts(JwtRules(ISSUER, frozenset({AUDIENCE})), Keys(jwk("ES256", "k1")), lambda: Epoch(now[0]))
    given = made(exp=NOW + 10)
    assert isinstance(jwts.check(given), Bearer)
    now[0] = NOW + 10 + LEEWAY_S - 0.1
    assert isinstance(jwts.check(given), Bearer)
    now[0] = NOW + 10 + LEEWAY_S
    assert jwts.check(given) is Fault.EXPIRED


def test_a_token_whose_key_was_taken_away_is_forgotten_and_others_are_not(monkeypatch):
    jwts = verifier(jwk("ES256", "k1"), jwk("EdDSA", "k2"))
    gone, kept = made(), token(alg="EdDSA", kid="k2", now=NOW)
    assert isinstance(jwts.check(gone), Bearer)
    assert isinstance(jwts.check(kept), Bearer)
    jwts._keys.current = signing_keys.read(document(jwk("EdDSA", "k2"), jwk("ES384", "k3")))
    monkeypatch.setattr(ALGORITHMS["EdDSA"], "verify", lambda *_: pytest.fail("verified again"))
    assert jwts.check(gone) is Fault.KEY
    assert isinstance(jwts.check(kept), Bearer)


def test_what_is_remembered_is_bounded_and_holds_no_token():
    jwts = verifier(most=3)
    tokens = [made(jti=str(number)) for number in range(5)]
    for each in tokens:
        assert isinstance(jwts.check(each), Bearer)
    assert len(jwts._kept) == 3
    assert not any(each in repr(jwts._kept) for each in tokens)
    assert jwts.check(tokens[0]).subject == "user"


def test_a_refusal_is_not_remembered():
    jwts = verifier()
    for _ in range(3):
        assert jwts.check(made(sub="x")[:-4] + "AAAA") is Fault.SIGNATURE
    assert jwts._kept == {}


# What a forged one costs.


@pytest.fixture
def verified(monkeypatch):
    """A list with an entry for each verification."""
    seen, verify = [], ALGORITHMS["ES256"].verify
    monkeypatch.setattr(ALGORITHMS["ES256"], "verify", lambda *given: seen.append(1) or verify(*given))
    return seen


def timed(*keys):
    at = [50.0]
    rules = JwtRules(ISSUER, frozenset({AUDIENCE}))
    return at, Jwts(rules, Keys(*(keys or (jwk("ES256", "k1"),))), lambda: Epoch(NOW), time=lambda: at[0])


def wrong(number):
    return token(now=NOW, number=9, jti=str(number))


def test_forged_tokens_of_one_address_are_verified_so_often_and_no_more(verified):
    at, jwts = timed()
    faults = [jwts.check(wrong(number), "192.0.2.1") for number in range(200)]
    assert faults == [Fault.SIGNATURE] * WRONG_AT_ONCE + [Fault.OFTEN] * (200 - WRONG_AT_ONCE)
    assert len(verified) == WRONG_AT_ONCE
    at[0] += 1.0
    faults = [jwts.check(wrong(number), "192.0.2.1") for number in range(200)]
    assert faults.count(Fault.SIGNATURE) == WRONG_PER_S


def test_neither_other_addresses_nor_tokens_that_are_known_notice(verified):
    _, jwts = timed()
    known = made(jti="known")
    assert isinstance(jwts.check(known, "192.0.2.1"), Bearer)
    for number in range(200):
        jwts.check(wrong(number), "192.0.2.1")
    assert isinstance(jwts.check(known, "192.0.2.1"), Bearer)
    assert isinstance(jwts.check(made(jti="new"), "192.0.2.2"), Bearer)
    assert jwts.check(made(jti="newer"), "192.0.2.1") is Fault.OFTEN


def test_good_tokens_are_verified_however_many_come():
    _, jwts = timed()
    found = [jwts.check(made(jti=str(number)), "192.0.2.1") for number in range(3 * WRONG_AT_ONCE)]
    assert all(isinstance(each, Bearer) for each in found)


def test_a_token_that_is_over_costs_one_verification_however_often_it_comes(verified):
    _, jwts = timed()
    over, early = made(exp=NOW - 3600), made(nbf=NOW + 3600)
    assert {jwts.check(over, "192.0.2.1") for _ in range(200)} == {Fault.EXPIRED}
    assert len(verified) == 1
    assert {jwts.check(early) for _ in range(3)} == {Fault.EARLY}
    assert len(verified) == 4, "it may be valid the next time"
    jwts._keys.current = signing_keys.read(document(jwk("EdDSA", "k2")))
    assert jwts.check(over) is Fault.KEY, "with other keys it is looked at anew"


def test_what_is_counted_and_what_is_refused_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_SITES", 5)
    monkeypatch.setattr(module, "MAX_REFUSED", 5)
    _, jwts = timed()
    for number in range(20):
        jwts.check(wrong(number), f"192.0.2.{number}")
        jwts.check(made(exp=NOW - 3600, jti=str(number)))
    assert list(jwts._wrong) == [f"192.0.2.{number}" for number in range(15, 20)]
    assert len(jwts._refused) == 5


# The keys.


def test_a_small_key_is_left_out():
    with pytest.raises(ValueError, match="has 1024 bits, not 2048 to 8192"):
        signing_keys.read(document(jwk("RS256", "k1", bits=1024)))


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"use": "enc"}, "is not for signatures"),
        ({"key_ops": ["encrypt"]}, "is not for verifying"),
        ({"key_ops": "verify"}, "is not for verifying"),
        ({"d": "AQAB"}, "is a private one"),
        ({"alg": "HS256"}, "not taken"),
        ({"alg": "ES384"}, "not taken"),
        ({"alg": 1}, "not taken"),
        ({"crv": "P-384"}, "not taken|cannot be read"),
        ({"crv": "secp256k1"}, "not taken"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "not taken"),
        ({"x": "AA"}, "cannot be read"),
        ({"x": 1}, "cannot be read"),
        ({"kid": 1}, "has a name that is no text"),
    ],
)
def test_keys_that_are_left_out(members, why):
    bad = jwk("ES256", "k1", **members)
    with pytest.raises(ValueError, match=why):
        signing_keys.read(document(bad))
    found = signing_keys.read(document(bad, jwk("EdDSA", "k2")))
    assert [key.kid for key in found.keys] == ["k2"]
    assert len(found.left_out) == 1


@pytest.mark.parametrize(
    "bad", [b"", b"[]", b"{}", b'{"keys":{}}', b"\xff", b"<html>", b'{"keys":[]}', b'{"keys":[1]}']
)
def test_what_is_no_jwk_set_is_told(bad):
    with pytest.raises(ValueError, match="It "):
        signing_keys.read(bad)


def test_a_set_is_read_up_to_a_limit():
    many = [jwk("ES256", str(number)) for number in range(signing_keys.MAX_KEYS + 5)]
    assert len(signing_keys.read(document(*many)).keys) == signing_keys.MAX_KEYS


def test_of_thousands_of_keys_no_more_are_made_than_are_looked_at(monkeypatch):
    made, verifies = [], ALGORITHMS["ES256"]
    monkeypatch.setattr(verifies, "from_jwk", lambda given: made.append(1) or type(verifies).from_jwk(given))
    key = jwk("ES256", "k")
    found = signing_keys.read(document(*({**key, "kid": str(number)} for number in range(5000))))
    assert len(made) == len(found.keys) == signing_keys.MAX_KEYS
    useless = [{"kty": "oct", "k": "AAAA", "kid": str(number)} for number in range(5000)]
    with pytest.raises(ValueError, match="no key that can be used"):
        signing_keys.read(document(*useless, key))


@pytest.mark.parametrize("bits", [8200, 1_500_000])
def test_a_key_that_would_take_long_to_verify_is_left_out(bits):
    modulus = base64.urlsafe_b64encode(b"\xff" * (bits // 8)).rstrip(b"=").decode()
    with pytest.raises(ValueError, match=f"has {bits} bits"):
        signing_keys.read(document(jwk("RS256", "k1", n=modulus)))
