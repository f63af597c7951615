"""What is looked at before a request is answered at all: its size, its encoding, and which page it is from.

Stands in front of the application and behind `Cors`. What a heartbeat says, and who may ask for what, is judged there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from watchdog.errors import MessageError
from watchdog.ingest.answers import CLOSE, PROBLEM_HEADERS, Rejection
from watchdog.ingest.heartbeat import MANY, ONE
from watchdog.ingest.origins import ASKED, SAFE_METHODS, Origins
from watchdog.ingest.problems import Problem
from watchdog.ingest.wire import Asgi, Header, Message, Receive, Scope, Send, answer, read_body, read_head

MAX_URL = 8192
"""Bytes of a path and its query. Source: RFC 9110, section 4.1, asks for 8,000 octets at least."""

MAX_ORDER = 16 * 1024
"""Bytes of what an operator sends; the longest order has 8,000. Whose it is has not been looked at then."""

TELL_S = 60.0
"""Between lines about pages that were refused."""

TOLD_ORIGIN = 200
"""Characters of an origin that are told."""

LONG_URL = Problem(414, "URI Too Long", f"The path and its query have more than {MAX_URL} bytes. Ask for less.")

TWICE = Problem(
    400,
    "Bad Request",
    "Host, Origin, Sec-Fetch-Site or Content-Encoding is there more than once: it cannot be told which one counts.",
    Rejection.MALFORMED,
)

ENCODED = Problem(
    415, "Unsupported Media Type", "Bodies are taken as they are: send no Content-Encoding.", Rejection.MEDIA_TYPE
)

_LOOKED_AT = ASKED | {b"content-encoding"}

log = structlog.stdlib.get_logger(__name__)


class Counters(Protocol):
    """Where refused heartbeats are counted.

    Attributes:
        rejected: By reason; has all of `Rejection`.
    """

    rejected: dict[str, int]


class Front:
    """Refuses what is not for the application."""

    def __init__(self, app: Asgi, origins: Origins, counters: Counters, time: Callable[[], float]) -> None:
        """Takes what it stands in front of.

        Args:
            app: The application.
            origins: Which pages may ask for what.
            counters: Told of heartbeats that were refused.
            time: The loop's clock.
        """
        self._app = app
        self._origins = origins
        self._counters = counters
        self._time = time
        self._refused = 0
        self._told_at: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or leaves it to the application."""
        path: str = scope["path"]
        heartbeat = path in (ONE, MANY)
        headers = scope["headers"]
        problem = self.wrong(path, len(scope["raw_path"]) + len(scope["query_string"]), headers, scope["method"])
        if problem is not None:
            reason = Rejection(problem.kind) if problem.kind else None
            if heartbeat and reason is not None:
                self._counters.rejected[reason] += 1
            if reason in (Rejection.ORIGIN, Rejection.HOST):
                self._tell(next((value for name, value in reversed(headers) if name == b"origin"), b""), reason)
            await answer(send, problem.status, problem.body(), (*PROBLEM_HEADERS, CLOSE))
            return
        if heartbeat or scope["method"] in SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        # Whoever reads an order reads all of it, before anybody looks at its token.
        try:
            body = await read_body(receive, read_head(scope["headers"]), MAX_ORDER)
        except MessageError as error:
            told = Problem(error.status, error.title, error.detail)
            await answer(send, told.status, told.body(), (*PROBLEM_HEADERS, CLOSE))
            return
        if body is not None:
            await self._app(scope, _again(body, receive), send)

    def wrong(self, path: str, url_bytes: int, headers: Iterable[Header], method: str) -> Problem | None:
        """Why a request is refused whatever its body says; None when it may pass. Nothing is counted or told.

        Args:
            path: Of the URL.
            url_bytes: Length of the path and its query.
            headers: The request's, their names in lower case.
            method: The request's.
        """
        if url_bytes > MAX_URL:
            return LONG_URL
        asked: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _LOOKED_AT:
                if name in asked:
                    return TWICE
                asked[name] = value
        encoding = asked.pop(b"content-encoding", b"identity")
        if encoding.strip().lower() not in (b"identity", b""):
            return ENCODED
        if method in SAFE_METHODS and not path.startswith(("/v1/", "/metrics")):
            # Files and probes are for everybody; but nobody is answered under a name that is not ours.
            asked = {name: value for name, value in asked.items() if name == b"host"}
        return self._origins.problem(asked, heartbeat=path in (ONE, MANY))

    def _tell(self, origin: bytes, reason: Rejection) -> None:
        """One line a minute: a page that may not send heartbeats looks like an agent who is not there."""
        self._refused += 1
        now = self._time()
        if self._told_at is None or now - self._told_at >= TELL_S:
            # What a terminal takes for an order is not told.
            told = "".join(each for each in origin.decode("latin-1")[:TOLD_ORIGIN] if each.isprintable())
            log.warning("http.page_refused", reason=reason.value, origin=told, count=self._refused)
            self._refused, self._told_at = 0, now


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for whoever reads it next."""
    first: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def again() -> Message:
        nonlocal first
        if first is None:
            return await receive()
        message, first = first, None
        return message

    return again
