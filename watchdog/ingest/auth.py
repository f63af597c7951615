"""Who may do what: heartbeat tokens, admin tokens, and the tickets that bind a session.

A token is a shared secret from the settings. A ticket is made here, for one session in one incarnation, and proves
that its bearer was told so in an earlier reply. Only the rules live here; headers are read by the callers.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from watchdog.core.model import AgentId, Beat, BeatType, Epoch
from watchdog.errors import MessageError

TICKET_TTL_S = 24 * 60 * 60
"""A ticket is valid for this long: longer than any shift, and every reply brings a new one."""

_VERSION = 1
_HEAD = struct.Struct(">BII")
"""Version, expiry in epoch seconds, incarnation."""

_MAC_BYTES = 16
"""Of the 32 of HMAC-SHA256. Source: RFC 2104, section 5: at least half of the hash."""

_PURPOSE = b"watchdog.ticket"


class AuthMode(StrEnum):
    """How heartbeats prove where they come from (AUTH)."""

    TOKEN = "token"  # noqa: S105 - the mode's name
    NONE = "none"


class Tokens:
    """A set of shared secrets, of which any one is accepted."""

    def __init__(self, tokens: Sequence[str]) -> None:
        """Keeps the tokens' hashes only."""
        self._hashes = tuple(_hash(token) for token in tokens)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def accept(self, token: str) -> bool:
        """Whether it is one of them. The time that this takes tells neither which, nor how much of one matched."""
        given = _hash(token)
        found = False
        for known in self._hashes:
            # Hashed first, so that the comparison does not depend on lengths; all are compared, whatever was found.
            found |= hmac.compare_digest(known, given)
        return found


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

    def issue(self, agent: AgentId, session_id: bytes, incarnation: int, now: Epoch) -> str:
        """A ticket for the session in this incarnation, valid for `TICKET_TTL_S`; 34 characters, safe in a URL."""
        head = _HEAD.pack(_VERSION, int(now) + TICKET_TTL_S, incarnation)
        mac = _mac(self._secrets[0], head, agent, session_id)
        return base64.urlsafe_b64encode(head + mac).rstrip(b"=").decode("ascii")

    def check(self, ticket: str, agent: AgentId, session_id: bytes, incarnation: int, now: Epoch) -> bool:
        """Whether the ticket was issued for just this session of this agent in this incarnation, and still holds."""
        try:
            raw = base64.b64decode(ticket + "=" * (-len(ticket) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return False
        if len(raw) != _HEAD.size + _MAC_BYTES:
            return False
        head, mac = raw[: _HEAD.size], raw[_HEAD.size :]
        genuine = False
        for secret in self._secrets:
            genuine |= hmac.compare_digest(_mac(secret, head, agent, session_id), mac)
        version, expires_at, of_incarnation = _HEAD.unpack(head)
        return genuine and version == _VERSION and of_incarnation == incarnation and now < expires_at


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules, for heartbeats and for operators.

    Attributes:
        mode: How heartbeats prove where they come from.
        heartbeat_tokens: HEARTBEAT_TOKENS.
        admin_tokens: ADMIN_TOKENS.
        tickets: Signs and checks tickets.
    """

    mode: AuthMode
    heartbeat_tokens: Tokens
    admin_tokens: Tokens
    tickets: Tickets

    def check_beat(self, beat: Beat, tokens: Sequence[str | None], ticket: str | None, now: Epoch) -> None:
        """Lets a heartbeat pass.

        A bye needs the session's own ticket, always; anything else a heartbeat token or that ticket, or nothing in the
        mode `none`.

        Args:
            beat: The heartbeat.
            tokens: What came as tokens; one that is accepted is enough.
            ticket: What came as a ticket.
            now: The wall clock.

        Raises:
            MessageError: 401.
        """
        if beat.type is not BeatType.BYE:
            if self.mode is AuthMode.NONE:
                return
            if any(token is not None and self.heartbeat_tokens.accept(token) for token in tokens):
                return
        if ticket is not None and self.tickets.check(ticket, beat.agent, beat.session_id, beat.incarnation, now):
            return
        if beat.type is BeatType.BYE:
            raise MessageError(
                401,
                "Unauthorized",
                "A bye needs the session's own ticket: send `ticket` from the last reply to this session, "
                "with the `incarnation` that it was given for.",
            )
        raise MessageError(
            401,
            "Unauthorized",
            "Send a heartbeat token (WATCHDOG_HEARTBEAT_TOKENS) as `Authorization: Bearer …` or in `token`, "
            "or the `ticket` from the last reply to this session.",
        )

    def check_admin(self, token: str | None) -> None:
        """Lets an operator pass: with an admin token; without one only in the mode `none` when there are none.

        Raises:
            MessageError: 401, or 403 when there are no admin tokens at all.
        """
        if not self.admin_tokens:
            if self.mode is AuthMode.NONE:
                return
            raise MessageError(
                403, "Forbidden", "There are no admin tokens. Set WATCHDOG_ADMIN_TOKENS and restart the daemon."
            )
        if token is None or not self.admin_tokens.accept(token):
            raise MessageError(
                401, "Unauthorized", "Send an admin token (WATCHDOG_ADMIN_TOKENS) as `Authorization: Bearer …`."
            )


def bearer(authorization: str) -> str | None:
    """The token of an `Authorization` header, or None when it is of another scheme. Source: RFC 6750, section 2.1."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _mac(secret: bytes, head: bytes, agent: AgentId, session_id: bytes) -> bytes:
    # A session's id has 16 bytes and an agent's ids have no zero byte, so no two messages read the same.
    message = b"\0".join((_PURPOSE, head + session_id, str(agent).encode()))
    return hmac.digest(secret, message, "sha256")[:_MAC_BYTES]
