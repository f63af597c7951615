"""JSON Web Tokens: whose they are and what they allow, by the keys of one identity provider.

What is looked at, in this order: size, form, algorithm, key, signature, then the claims. Nothing in a token chooses how
it is verified: its `alg` has to fit the key that its `kid` names, and keys or addresses in its header are not looked
at. Source: RFC 7519; RFC 8725, "JSON Web Token Best Current Practices".
"""

from __future__ import annotations

import hashlib
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Any, Protocol, TypeVar

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.exceptions import PyJWTError

from watchdog.core.addresses import site
from watchdog.core.model import AgentId, Epoch
from watchdog.ingest.signing_keys import ALGORITHMS, Key, KeySet

MAX_TOKEN = 8192
"""Characters of a token; one with a hundred groups has about 6,000."""

LEEWAY_S = 30.0
"""By which the clocks of the provider and of this machine may differ."""

MAX_KEPT = 65_536
"""Tokens that are remembered as verified, about 600 bytes each."""

MAX_REFUSED = 1024
"""Well-signed tokens that are remembered as refused, so that the same one again costs nothing."""

WRONG_AT_ONCE = 50
WRONG_PER_S = 10.0
"""Tokens with a wrong signature from one address, at once and a second, that are verified: each costs up to 1 ms."""

MAX_SITES = 10_000
"""Addresses whose wrong signatures are counted; the one that sent none for longest is forgotten first."""

_FORM = re.compile(r"([A-Za-z0-9_-]{1,2048})\.([A-Za-z0-9_-]{1,8192})\.([A-Za-z0-9_-]{1,2048})")

_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""Kinds of tokens that prove who asks; a logout token of the same provider does not. Source: RFC 8725, 3.11."""

_MAX_DATE = 2.0**53
"""Seconds; a number that no clock shows."""

_AGENT_ARN = re.compile(
    r"arn:aws[a-z-]*:connect:[a-z0-9-]+:\d{12}:instance/([A-Za-z0-9-]{1,100})/agent/([A-Za-z0-9-]{1,100})"
)


_Kept = TypeVar("_Kept")


class Fault(StrEnum):
    """Why a token is not accepted, in words that its bearer may read; nothing of the token is in them."""

    SIZE = f"it has more than {MAX_TOKEN} characters"
    FORM = "it is not a JWT"
    TYPE = "its `typ` is that of another kind of token"
    CRITICAL = "it has a `crit` header, of which nothing is known here"
    ALGORITHM = "its `alg` is not taken, or does not fit its key"
    KEY = "its key (`kid`) is not one of the identity provider's"
    SIGNATURE = "its signature is wrong"
    OFTEN = "from this address come so many with a wrong signature that none is looked at now"
    CLAIMS = "its claims cannot be read, or `exp` is missing"
    ISSUER = "it is from another issuer than WATCHDOG_JWT_ISSUER"
    AUDIENCE = "it is for another audience than WATCHDOG_JWT_AUDIENCE"
    EXPIRED = "it has expired"
    EARLY = "it is not valid yet"
    NO_KEYS = "the keys of the identity provider, or this one of them, cannot be had now"

    @property
    def passing(self) -> bool:
        """Whether it depends on the time, or on others' tokens."""
        return self in (Fault.NO_KEYS, Fault.KEY, Fault.EARLY, Fault.OFTEN)

    @property
    def ours(self) -> bool:
        """Whether another token would not help: it cannot be told whether this one is good."""
        return self is Fault.NO_KEYS


@dataclass(frozen=True, slots=True)
class JwtRules:
    """What a token has to say.

    Attributes:
        issuer: Its `iss` (JWT_ISSUER).
        audiences: One of them is in its `aud` (JWT_AUDIENCE).
        agent_claim: The claim with the agent's user id or ARN (JWT_AGENT_CLAIM).
    """

    issuer: str
    audiences: frozenset[str]
    agent_claim: str = "sub"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whoever has a token that was verified.

    Attributes:
        subject: `sub`; empty without one.
        agent: What the agent's claim says; None if that is no text.
        scopes: Those of `scope` and `scp`.
        until: `exp`.
    """

    subject: str
    agent: str | None
    scopes: frozenset[str]
    until: Epoch

    def is_agent(self, agent: AgentId) -> bool:
        """Whether the token is this agent's own: it names the user, or its ARN, which names the instance too."""
        if self.agent is None:
            return False
        arn = _AGENT_ARN.fullmatch(self.agent)
        return self.agent == agent.user_id if arn is None else (arn[1], arn[2]) == agent


class Keys(Protocol):
    """Where keys are; see `watchdog.ingest.key_source.KeySource`."""

    @property
    def current(self) -> KeySet | None:
        """The keys in force; None before the first could be had."""

    def may_come(self) -> bool:
        """Notes that a key was asked for that is not there; whether it may be there after the next look."""


class Jwts:
    """Verifies tokens. One that was verified is remembered until it expires or its key goes.

    What a forged one costs is bounded by address; whoever has a ticket, or a token that is remembered, never notices.
    """

    def __init__(
        self,
        rules: JwtRules,
        keys: Keys,
        epoch: Callable[[], Epoch],
        *,
        time: Callable[[], float] = monotonic,
        most: int = MAX_KEPT,
    ) -> None:
        """Takes the parts.

        Args:
            rules: What a token has to say.
            keys: Looked at for each token.
            epoch: The wall clock.
            time: Seconds that no wall clock moves.
            most: Tokens that are remembered; more push out the oldest.
        """
        self._rules = rules
        self._keys = keys
        self._epoch = epoch
        self._most = most
        self._time = time
        self._kept: dict[bytes, tuple[Bearer, Key]] = {}
        self._refused: dict[bytes, Fault] = {}
        # By address: how many wrong signatures are still verified, as of when.
        self._wrong: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._kept_for: KeySet | None = None

    def check(self, token: str, address: str = "") -> Bearer | Fault:
        """Whose token it is, or why it is not accepted. Never raises.

        Args:
            token: What was sent.
            address: From where. Tokens with a wrong signature are verified so often only from each.
        """
        if len(token) > MAX_TOKEN:
            return Fault.SIZE
        if not token.isascii():
            return Fault.FORM
        if self._keys.current is not self._kept_for:
            self._forget()
        # Never the token itself: what is in memory may be dumped.
        name = hashlib.sha256(token.encode()).digest()
        kept = self._kept.get(name)
        if kept is not None:
            return Fault.EXPIRED if self._epoch() >= kept[0].until + LEEWAY_S else kept[0]
        refused = self._refused.get(name)
        if refused is not None:
            return refused
        where = site(address)
        key, claims = _opened(token, self._keys, verify=self._may_be_wrong(where))
        if isinstance(claims, Fault):
            if claims is Fault.SIGNATURE:
                self._count_wrong(where)
            return claims
        found = self._judged(claims)
        if isinstance(found, Fault):
            if not found.passing:
                _remember(self._refused, name, found, MAX_REFUSED)
        elif key is not None:
            _remember(self._kept, name, (found, key), self._most)
        return found

    def _may_be_wrong(self, where: str) -> bool:
        """Whether one more wrong signature from there may cost a verification."""
        left, at = self._wrong.get(where, (WRONG_AT_ONCE, 0.0))
        return left + WRONG_PER_S * (self._time() - at) >= 1

    def _count_wrong(self, where: str) -> None:
        now = self._time()
        left, at = self._wrong.pop(where, (WRONG_AT_ONCE, now))
        self._wrong[where] = min(WRONG_AT_ONCE, left + WRONG_PER_S * (now - at)) - 1, now
        if len(self._wrong) > MAX_SITES:
            self._wrong.popitem(last=False)

    def _forget(self) -> None:
        """Forgets what was verified with keys that are gone."""
        current = self._keys.current
        keys = frozenset() if current is None else frozenset(current.keys)
        self._kept = {name: kept for name, kept in self._kept.items() if kept[1] in keys}
        self._refused = {}
        self._kept_for = current

    def _judged(self, claims: dict[str, Any]) -> Bearer | Fault:
        rules, now = self._rules, self._epoch()
        until, since, issued = (_date(claims.get(name)) for name in ("exp", "nbf", "iat"))
        if until is None or any(name in claims and _date(claims[name]) is None for name in ("nbf", "iat")):
            return Fault.CLAIMS
        if claims.get("iss") != rules.issuer:
            return Fault.ISSUER
        audience = claims.get("aud")
        given = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(each, str) and each in rules.audiences for each in given):
            return Fault.AUDIENCE
        if now >= until + LEEWAY_S:
            return Fault.EXPIRED
        if any(at is not None and now < at - LEEWAY_S for at in (since, issued)):
            return Fault.EARLY
        subject, agent = claims.get("sub", ""), claims.get(rules.agent_claim)
        if not isinstance(subject, str):
            return Fault.CLAIMS
        scopes = _scopes(claims.get("scope")) | _scopes(claims.get("scp"))
        return Bearer(subject, agent if isinstance(agent, str) else None, scopes, Epoch(until))


def _remember(kept: dict[bytes, _Kept], name: bytes, what: _Kept, most: int) -> None:
    """Keeps one more; the oldest goes if there are too many."""
    if len(kept) >= most:
        del kept[next(iter(kept))]
    kept[name] = what


def _opened(token: str, keys: Keys, *, verify: bool) -> tuple[Key | None, dict[str, Any] | Fault]:
    """The key that has signed the token, and its claims; or why they cannot be had, or are not to be looked for."""
    parts = _FORM.fullmatch(token)
    header = None if parts is None else _json(parts[1])
    if parts is None or header is None:
        return None, Fault.FORM
    if "crit" in header:
        return None, Fault.CRITICAL
    kind, alg, kid = header.get("typ", "JWT"), header.get("alg"), header.get("kid")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        return None, Fault.TYPE
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        return None, Fault.ALGORITHM
    if kid is not None and not isinstance(kid, str):
        return None, Fault.FORM
    current = keys.current
    if current is None:
        keys.may_come()
        return None, Fault.NO_KEYS
    named = current.named(kid)
    if not named:
        return None, Fault.NO_KEYS if keys.may_come() else Fault.KEY
    fitting = [key for key in named if alg in key.algorithms]
    if not fitting:
        return None, Fault.ALGORITHM
    if not verify:
        return None, Fault.OFTEN
    signature = _decoded(parts[3])
    signed = token[: parts.end(2)].encode()
    key = (
        None if signature is None else next((each for each in fitting if _verified(alg, signed, each, signature)), None)
    )
    if key is None:
        return None, Fault.SIGNATURE
    claims = _json(parts[2])
    return key, Fault.CLAIMS if claims is None else claims


def _verified(alg: str, signed: bytes, key: Key, signature: bytes) -> bool:
    try:
        return ALGORITHMS[alg].verify(signed, key.public, signature)
    except (PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _decoded(text: str) -> bytes | None:
    """Base64url without padding, whose alphabet was looked at; None if it is not the only way to write these bytes."""
    if len(text) % 4 == 1:
        return None
    decoded = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return decoded if urlsafe_b64encode(decoded).rstrip(b"=") == text.encode() else None


def _json(text: str) -> dict[str, Any] | None:
    decoded = _decoded(text)
    try:
        found = None if decoded is None else orjson.loads(decoded)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _date(value: object) -> float | None:
    """A NumericDate; None for what is none. Source: RFC 7519, section 2."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if abs(value) <= _MAX_DATE else None


def _scopes(value: object) -> frozenset[str]:
    """Scopes as a text with blanks between, or as a list. Source: RFC 8693, section 4.2, for the text."""
    if isinstance(value, str):
        return frozenset(value.split(" "))
    return frozenset(each for each in value if isinstance(each, str)) if isinstance(value, list) else frozenset()
