"""What the fast lanes of all connections share: what a request's head says, and the bytes of an answer.

Which pages may send heartbeats, and what they are told, is `front.py`'s and `cors.py`'s. No connections here.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from watchdog.core.messages import MAX_BODY
from watchdog.ingest.answers import Answer
from watchdog.ingest.cors import Cors
from watchdog.ingest.front import Front
from watchdog.ingest.heartbeat import ONE, Heartbeats, check_request, token_of
from watchdog.ingest.wire import JSON_HEADERS, Header, read_head

MAX_KEPT = 5_000
"""Heads that are remembered, and as many of those before: 20 MB at most. Clients differ in little but the length of
what they send, unless a proxy adds their addresses."""

_PLAIN = frozenset({b"expect", b"upgrade"})
"""Headers of a request that goes the plain way, besides those without a length or a host."""

_SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie"})
"""A head with one of these is not remembered."""


class Head:
    """What the fast lane needs of a request's head.

    Attributes:
        length: Bytes of the body.
        token: The bearer token.
        forwarded: The headers, if they say whom the request is from; else empty.
        cors: Lines of the answer's head for the page that asks.
        secret: Not to be remembered.
    """

    __slots__ = ("cors", "forwarded", "length", "secret", "token")

    def __init__(
        self, length: int, token: str | None, forwarded: tuple[Header, ...], cors: bytes, *, secret: bool
    ) -> None:
        self.length = length
        self.token = token
        self.forwarded = forwarded
        self.cors = cors
        self.secret = secret


class Shortcut:
    """What the fast lanes of all connections share.

    Whatever follows from a head follows from its bytes alone, so a head that was parsed once need not be parsed again:
    it is looked up. Only heads of heartbeats that were taken are kept, so that nobody fills the room with others.
    """

    def __init__(self, heartbeats: Heartbeats, front: Front, cors: Cors) -> None:
        """Takes what decides.

        Args:
            heartbeats: Answers heartbeats.
            front: Judges requests by their heads.
            cors: Knows what pages are told.
        """
        self.heartbeats = heartbeats
        self._front = front
        self._cors = cors
        self._heads: dict[bytes, Head] = {}
        self._before: dict[bytes, Head] = {}
        self._defaults: list[Header] | None = None
        self._live = b""

    def find(self, raw: bytes) -> Head | None:
        """What was remembered of a head, which ends with an empty line."""
        head = self._heads.get(raw)
        if head is None:
            head = self._before.get(raw)
            if head is not None:
                self.keep(raw, head)
        return head

    def keep(self, raw: bytes, head: Head) -> None:
        """Remembers a head."""
        if len(self._heads) >= MAX_KEPT:
            self._before, self._heads = self._heads, {}
        self._heads[raw] = head

    def read(self, headers: list[Header]) -> Head | None:
        """What is needed of the head of a POST to `ONE`; None when it has to go the plain way."""
        names = {name for name, _ in headers}
        if not _PLAIN.isdisjoint(names) or b"host" not in names:
            return None
        given = read_head(headers)
        if not given.content_length.isdigit() or int(given.content_length[:20]) > MAX_BODY:
            return None
        if check_request("POST", given) is not None or self._front.wrong(ONE, len(ONE), headers, "POST") is not None:
            return None
        return Head(
            int(given.content_length),
            token_of(given),
            tuple(headers) if b"x-forwarded-for" in names else (),
            b"".join(b"%b: %b\r\n" % each for each in self._cors.allowed(headers)),
            secret=not _SECRET.isdisjoint(names),
        )

    def render(self, answer: Answer, head: Head, defaults: list[Header], *, keep_alive: bool) -> bytes:
        """An answer as uvicorn and `wire.answer` would write it.

        Args:
            answer: The answer.
            head: Of its request.
            defaults: uvicorn's own headers, a new list every second.
            keep_alive: Whether the connection stays.
        """
        body = answer.body
        if answer.headers is JSON_HEADERS and answer.status == 200 and keep_alive:  # noqa: PLR2004 - nearly all
            if self._defaults is not defaults:
                self._defaults, self._live = defaults, _start(200, (*defaults, *JSON_HEADERS)) + b"content-length: "
            return b"%b%d\r\n%b\r\n%b" % (self._live, len(body), head.cors, body)
        length = b"" if answer.status == 204 else b"content-length: %d\r\n" % len(body)  # noqa: PLR2004 - as wire.py
        close = b"" if keep_alive else b"connection: close\r\n"
        return b"".join((_start(answer.status, (*defaults, *answer.headers)), length, head.cors, close, b"\r\n", body))


def _start(status: int, headers: tuple[Header, ...]) -> bytes:
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % each for each in headers)
