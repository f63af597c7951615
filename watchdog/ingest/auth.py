"""Who may do what: heartbeat tokens, admin tokens, JWTs, and the tickets that bind a session.

A token is a shared secret from the settings, or a JWT that `jwt.py` verifies. A ticket is made here, for one session in
one incarnation, and proves that its bearer was told so in an earlier reply. Only the rules live here.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from watchdog.core.messages import MAX_BODY
from watchdog.core.model import AgentId, Beat, BeatType, Epoch
from watchdog.errors import MessageError
from watchdog.ingest.jwt import Bearer, Fault, Jwts

TICKET_TTL_S = 24 * 60 * 60
"""A ticket is valid for this long: longer than any shift, and replies bring new ones."""

REISSUE_S = 600.0
"""For so long replies to a session bring the same ticket: neither it nor its check is computed anew."""

MAX_ISSUED = 100_000
"""Sessions whose last ticket is remembered, and as many of those before: 0.1 GB. Others' are computed each time."""

_VERSION = 1
_HEAD = struct.Struct(">BII")
"""Version, expiry in epoch seconds, incarnation."""

_MAC_BYTES = 16
"""Of the 32 of HMAC-SHA256. Source: RFC 2104, section 5: at least half of the hash."""

ADMIN_SCOPE = "watchdog:admin"
"""Of a JWT: its bearer is an operator."""

GATEWAY_SCOPE = "watchdog:gateway"
"""Of a JWT: its bearer sends batches for any agent."""

MAX_NAME = 200
"""Characters of a JWT's subject that are kept. Source: OpenID Connect Core, section 2: at most 255."""

NOBODY = "nobody: WATCHDOG_AUTH=none"
"""Who gave an order where nobody has to say who they are."""


class Purpose(StrEnum):
    """What a ticket is for; one for another purpose is worth nothing."""

    SESSION = "watchdog.ticket"
    """A session's heartbeats."""
    CANARY = "watchdog.canary"
    """The daemon's call to itself."""
    CANARY_ANSWER = "watchdog.canary.answer"
    """The answer to that."""


class AuthMode(StrEnum):
    """How heartbeats prove where they come from (AUTH)."""

    TOKEN = "token"  # noqa: S105 - the mode's name
    JWT = "jwt"
    NONE = "none"


class Tokens:
    """A set of shared secrets, of which any one is accepted."""

    def __init__(self, tokens: Sequence[str]) -> None:
        """Keeps the tokens' hashes only."""
        self._hashes = tuple(_hash(token) for token in tokens)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def name(self, token: str) -> str | None:
        """A name for the token that does not tell it; None when it is not one of them."""
        return f"token:{_hash(token).hex()[:8]}" if self.accept(token) else None

    def accept(self, token: str) -> bool:
        """Whether it is one of them. The time that this takes tells neither which, nor how much of one matched."""
        given = _hash(token)
        found = False
        for known in self._hashes:
            # Hashed first, so that the comparison does not depend on lengths; all are compared, whatever was found.
            found |= hmac.compare_digest(known, given)
        return found


class _Issued(NamedTuple):
    """The ticket that a session was given last."""

    agent: AgentId
    incarnation: int
    ticket: str
    at: Epoch


class Tickets:
    """Signs and checks the tickets of sessions."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        """Takes the keys.

        Args:
            secrets: The first signs, all verify (TICKET_SECRETS); at least one.
        """
        if not secrets:
            raise ValueError("Tickets need at least one secret.")
        self._secrets = tuple(secrets)
        self._issued: dict[bytes, _Issued] = {}
        self._before: dict[bytes, _Issued] = {}

    def renew(self, agent: AgentId, session_id: bytes, incarnation: int, now: Epoch) -> str:
        """A ticket for the session in this incarnation: for `REISSUE_S` the same, then a new one."""
        last = self._last(agent, session_id, incarnation)
        if last is not None and 0 <= now - last.at < REISSUE_S:
            return last.ticket
        ticket = self.issue(agent, session_id, incarnation, now)
        if len(self._issued) >= MAX_ISSUED:
            self._before, self._issued = self._issued, {}
        self._issued[session_id] = _Issued(agent, incarnation, ticket, now)
        return ticket

    def _last(self, agent: AgentId, session_id: bytes, incarnation: int) -> _Issued | None:
        """What was issued last, by this process."""
        last = self._issued.get(session_id) or self._before.get(session_id)
        if last is None or last.incarnation != incarnation or last.agent != agent:
            return None
        return last

    def issue(
        self,
        agent: AgentId,
        session_id: bytes,
        incarnation: int,
        now: Epoch,
        purpose: Purpose = Purpose.SESSION,
    ) -> str:
        """A ticket for the session in this incarnation, valid for `TICKET_TTL_S`; 34 characters, safe in a URL."""
        head = _HEAD.pack(_VERSION, int(now) + TICKET_TTL_S, incarnation)
        mac = _mac(self._secrets[0], purpose, head, agent, session_id)
        return base64.urlsafe_b64encode(head + mac).rstrip(b"=").decode("ascii")

    def check(
        self,
        ticket: str,
        agent: AgentId,
        session_id: bytes,
        incarnation: int,
        now: Epoch,
        purpose: Purpose = Purpose.SESSION,
    ) -> bool:
        """Whether it was issued for just this purpose, session, agent and incarnation, and still holds."""
        if purpose is Purpose.SESSION:
            last = self._last(agent, session_id, incarnation)
            if last is not None and ticket.isascii() and hmac.compare_digest(last.ticket, ticket):
                return now < int(last.at) + TICKET_TTL_S
        try:
            raw = base64.b64decode(ticket + "=" * (-len(ticket) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return False
        if len(raw) != _HEAD.size + _MAC_BYTES:
            return False
        head, mac = raw[: _HEAD.size], raw[_HEAD.size :]
        genuine = False
        for secret in self._secrets:
            genuine |= hmac.compare_digest(_mac(secret, purpose, head, agent, session_id), mac)
        version, expires_at, of_incarnation = _HEAD.unpack(head)
        return genuine and version == _VERSION and of_incarnation == incarnation and now < expires_at


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules, for heartbeats and for operators.

    Attributes:
        mode: How heartbeats prove where they come from.
        heartbeat_tokens: HEARTBEAT_TOKENS; of no use in the mode `jwt`.
        admin_tokens: ADMIN_TOKENS.
        tickets: Signs and checks tickets.
        jwts: Verifies JWTs; needed in the mode `jwt`, and only there.
    """

    mode: AuthMode
    heartbeat_tokens: Tokens
    admin_tokens: Tokens
    tickets: Tickets
    jwts: Jwts | None = None

    def __post_init__(self) -> None:
        if (self.mode is AuthMode.JWT) is not (self.jwts is not None):
            raise ValueError("JWTs are verified in the mode `jwt`, and only there.")

    def check_beat(
        self,
        beat: Beat,
        tokens: Sequence[str | None],
        ticket: str | None,
        now: Epoch,
        *,
        batched: bool = False,
        address: str = "",
    ) -> None:
        """Lets a heartbeat pass.

        A bye needs the session's own ticket, or the agent's own JWT, always. Anything else needs a heartbeat token, a
        JWT or that ticket, or nothing in the mode `none`. A ticket alone opens no batch.

        Args:
            beat: The heartbeat.
            tokens: What came as tokens; one that is accepted is enough.
            ticket: What came as a ticket.
            now: The wall clock.
            batched: It came in a batch.
            address: From where it came.

        Raises:
            MessageError: 401; 403 for another agent's JWT; 429 for a JWT from where too many forged ones come; 503
                while nobody can tell whether a JWT is good.
        """
        bye = beat.type is BeatType.BYE
        holds = ticket is not None and self.tickets.check(ticket, beat.agent, beat.session_id, beat.incarnation, now)
        if holds and not batched:
            # No look at the token: an expired one, or a provider that is away, is no matter to a session with a ticket.
            return
        if self.jwts is not None:
            # One that is enough is enough: no other is verified.
            given = (self.jwts.check(token, address) for token in tokens if token is not None)
            self._check_jwts(given, beat, holds=holds, batched=batched)
            return
        accepted = self.mode is AuthMode.NONE or any(
            token is not None and self.heartbeat_tokens.accept(token) for token in tokens
        )
        if not accepted or (bye and not holds):
            told = _NO_BYE if bye and not holds else _NO_BATCH if holds else _NO_BEAT
            raise MessageError(401, "Unauthorized", told)

    def opens_batch(self, token: str | None, address: str = "") -> bool:
        """Whether `check_batch` lets it pass. Then `check_beat` does so with every heartbeat in it that is no bye."""
        try:
            self.check_batch(token, address)
        except MessageError:
            return False
        return True

    def _check_jwts(self, given: Iterable[Bearer | Fault], beat: Beat, *, holds: bool, batched: bool) -> None:
        bye = beat.type is BeatType.BYE
        faults: list[Fault] = []
        others = False
        for found in given:
            if isinstance(found, Fault):
                faults.append(found)
            else:
                for_others = batched and GATEWAY_SCOPE in found.scopes and (holds or not bye)
                if for_others or found.is_agent(beat.agent):
                    return
                others = True
        _raise_faults(faults)
        if others:
            raise MessageError(403, "Forbidden", f"{_OTHER_AGENT} {_NO_GATEWAY}" if batched else _OTHER_AGENT)
        raise MessageError(401, "Unauthorized", _NO_BATCH if holds else _NO_JWT_BYE if bye else _NO_JWT)

    def check_batch(self, token: str | None, address: str = "") -> None:
        """Lets a batch be read that is larger than one heartbeat, by what is in its header.

        A heartbeat token, or a JWT with `GATEWAY_SCOPE`; nothing in the mode `none`. What is in it is judged by
        `check_beat`.

        Args:
            token: What came in the header.
            address: From where it came.

        Raises:
            MessageError: 401; 403 for a JWT without the scope; 429 and 503 as in `check_beat`.
        """
        if self.mode is AuthMode.NONE or (
            self.jwts is None and token is not None and self.heartbeat_tokens.accept(token)
        ):
            return
        if self.jwts is not None and token is not None:
            found = self.jwts.check(token, address)
            if isinstance(found, Bearer):
                if GATEWAY_SCOPE in found.scopes:
                    return
                raise MessageError(403, "Forbidden", _NO_LARGE_GATEWAY)
            _raise_faults([found])
        raise MessageError(401, "Unauthorized", _NO_LARGE_BATCH)

    def check_admin(self, token: str | None, address: str = "") -> str:
        """Lets an operator pass: with an admin token, or a JWT with `ADMIN_SCOPE`.

        Without one only in the mode `none` when there are no admin tokens.

        Args:
            token: What was sent.
            address: From where.

        Returns:
            Who it is, for the history: `token:` and the beginning of the token's SHA-256; `jwt:` and the subject; or
            `NOBODY`.

        Raises:
            MessageError: 401; 403 when there are no admin tokens at all, or the JWT has not the scope; 429 for a JWT
                from where too many forged ones come; 503 while nobody can tell whether a JWT is good.
        """
        by = None if token is None else self.admin_tokens.name(token)
        if by is not None:
            return by
        if self.jwts is not None:
            found = None if token is None else self.jwts.check(token, address)
            if isinstance(found, Bearer):
                if ADMIN_SCOPE not in found.scopes:
                    raise MessageError(403, "Forbidden", f"The JWT is good, but it has not the scope `{ADMIN_SCOPE}`.")
                return _named(found)
            _raise_faults([] if found is None else [found])
            raise MessageError(401, "Unauthorized", _NO_JWT_ADMIN)
        if not self.admin_tokens:
            if self.mode is AuthMode.NONE:
                return NOBODY
            raise MessageError(
                403, "Forbidden", "There are no admin tokens. Set WATCHDOG_ADMIN_TOKENS and restart the daemon."
            )
        raise MessageError(
            401, "Unauthorized", "Send an admin token (WATCHDOG_ADMIN_TOKENS) as `Authorization: Bearer …`."
        )


_NO_BYE = (
    "A bye needs the session's own ticket: send `ticket` from the last reply to this session, "
    "with the `incarnation` that it was given for."
)

_NO_BEAT = (
    "Send a heartbeat token (WATCHDOG_HEARTBEAT_TOKENS) as `Authorization: Bearer …` or in `token`, "
    "or the `ticket` from the last reply to this session."
)

_NO_BATCH = "A ticket alone opens no batch: send the token of the gateway as `Authorization: Bearer …`."

_NO_LARGE_BATCH = (
    f"A batch of more than {MAX_BODY} bytes is read only with a token in its header: send that of the gateway as "
    "`Authorization: Bearer …`."
)

_NO_LARGE_GATEWAY = (
    f"The JWT is good, but only with the scope `{GATEWAY_SCOPE}` a batch of more than {MAX_BODY} bytes is read."
)

_NO_JWT = (
    "Send the agent's JWT as `Authorization: Bearer …` or in `token`, "
    "or the `ticket` from the last reply to this session."
)

_NO_JWT_BYE = (
    "A bye needs the session's own ticket or the agent's own JWT: send `ticket` from the last reply to this session, "
    "with the `incarnation` that it was given for."
)

_NO_JWT_ADMIN = f"Send a JWT with the scope `{ADMIN_SCOPE}`, or an admin token, as `Authorization: Bearer …`."

_OTHER_AGENT = "The JWT is good, but it is not this agent's: see WATCHDOG_JWT_AGENT_CLAIM."

_NO_GATEWAY = f"In a batch the scope `{GATEWAY_SCOPE}` stands in for that, but for a bye."

_NO_KEYS = (
    "It cannot be told now whether the JWT is good: the identity provider's keys cannot be had, or this one of them. "
    "Keep the token, and try again after the time in Retry-After; a valid ticket needs no token."
)

_OFTEN = (
    "From this address come so many JWTs with a wrong signature that no other is looked at now. Keep the token, and "
    "try again; a valid ticket needs no token."
)


def _raise_faults(faults: Sequence[Fault]) -> None:
    """Tells what is wrong with JWTs; another one helps only if it is the token's fault."""
    if any(fault.ours for fault in faults):
        raise MessageError(503, "Service Unavailable", _NO_KEYS)
    if Fault.OFTEN in faults:
        raise MessageError(429, "Too Many Requests", _OFTEN)
    if faults:
        raise MessageError(401, "Unauthorized", f"The JWT is not accepted: {faults[0]}. Get a new one.")


def _named(found: Bearer) -> str:
    """Who a JWT's bearer is, as one line."""
    name = "".join(each for each in found.subject[:MAX_NAME] if each.isprintable())
    return f"jwt:{name or '(without a subject)'}"


def bearer(authorization: str) -> str | None:
    """The token of an `Authorization` header, or None when it is of another scheme. Source: RFC 6750, section 2.1."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _mac(secret: bytes, purpose: Purpose, head: bytes, agent: AgentId, session_id: bytes) -> bytes:
    # A session's id has 16 bytes and an agent's ids have no zero byte, so no two messages read the same.
    message = b"\0".join((purpose.encode(), head + session_id, str(agent).encode()))
    return hmac.digest(secret, message, "sha256")[:_MAC_BYTES]
