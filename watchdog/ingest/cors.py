"""What browsers ask of a server before a page of another origin may read its answer.

Only the heartbeats are for pages of other origins. Which pages may send them is judged in `front.py`, since browsers
send them without asking. Source: the Fetch standard, CORS protocol.
"""

from collections.abc import Iterable

from watchdog.ingest.heartbeat import MANY, ONE
from watchdog.ingest.wire import SAFE_HEADERS, Asgi, Header, Message, Receive, Scope, Send, answer

PREFLIGHT_S = 7200
"""For how long a browser need not ask again; more is cut to this by Chromium."""


class Cors:
    """Lets pages of some origins read what is answered to heartbeats, and stands in front of an application."""

    def __init__(self, app: Asgi, origins: Iterable[str]) -> None:
        """Takes what it stands in front of.

        Args:
            app: The application.
            origins: As browsers write them in `Origin` (ALLOWED_ORIGINS).
        """
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)

    def allowed(self, headers: Iterable[Header]) -> tuple[Header, ...]:
        """What every answer to a heartbeat with these headers has besides its own; nothing if no page has sent it."""
        origin = next((value for name, value in headers if name == b"origin"), None)
        if origin is None:
            return ()
        vary: Header = (b"vary", b"origin")
        if origin not in self._origins:
            return (vary,)
        return (vary, (b"access-control-allow-origin", origin), (b"access-control-expose-headers", b"retry-after"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["path"] not in (ONE, MANY):
            await self._app(scope, receive, send)
            return
        allowed = self.allowed(scope["headers"])
        if not allowed:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            asked: tuple[Header, ...] = (
                (b"access-control-allow-methods", b"POST"),
                (b"access-control-allow-headers", b"authorization, content-type"),
                (b"access-control-max-age", b"%d" % PREFLIGHT_S),
            )
            await answer(send, 204, b"", (*SAFE_HEADERS, *allowed, *asked))
            return

        async def allowing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *allowed]
            await send(message)

        await self._app(scope, receive, allowing)
