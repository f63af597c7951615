"""What a daemon answers that stands by: it is alive, and somebody else takes heartbeats until it has the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchdog.ingest import problems
from watchdog.ingest.wire import JSON_HEADERS, SAFE_HEADERS, Header, Receive, Scope, Send, answer

if TYPE_CHECKING:
    from watchdog.ingest.wire import Asgi

STANDS_BY = problems.Problem(
    503,
    "Service Unavailable",
    "This daemon stands by: another one has the store. Ask that one, or try again after the time in Retry-After.",
)


def standing_by() -> Asgi:
    """The application: 200 for /livez, 503 with Retry-After for everything else, the WebSocket included."""
    headers: list[Header] = [(b"content-type", problems.MEDIA_TYPE.encode()), *SAFE_HEADERS]
    headers += [(name.encode(), value.encode()) for name, value in STANDS_BY.headers().items()]
    body = STANDS_BY.body()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            # Before it was accepted: the client sees a 403, as it must not wait for anything here.
            await send({"type": "websocket.close"})
        elif scope["path"] == "/livez" and scope["method"] in ("GET", "HEAD"):
            await answer(send, 200, b'{"status":"standby"}', JSON_HEADERS)
        else:
            await answer(send, 503, body, headers)

    return app
