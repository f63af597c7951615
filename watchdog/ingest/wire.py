"""The little of ASGI that the fast lane needs: headers, a bounded body, one answer.

No routing and no judgement of what a body says.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple

from watchdog.errors import MessageError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

GUARDED: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""On every answer: none is to be guessed at, and none tells others where it was."""

SAFE_HEADERS: tuple[Header, ...] = (
    *GUARDED,
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""On every answer but the files of the client: none is for a cache, or part of another origin's page."""

CLOSED_PAGE: Header = (
    b"content-security-policy",
    b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
"""On whatever is no page, should a browser show it as one."""

JSON_HEADERS: tuple[Header, ...] = ((b"content-type", b"application/json"), *SAFE_HEADERS)


class Head(NamedTuple):
    """What the fast lane reads of a request's headers. Empty where there is none."""

    content_type: bytes
    authorization: bytes
    content_length: bytes


def read_head(headers: Iterable[Header]) -> Head:
    """Picks the headers in one pass. The names are in lower case, as ASGI has them."""
    content_type = authorization = content_length = b""
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name == b"authorization":
            authorization = value
        elif name == b"content-length":
            content_length = value
    return Head(content_type, authorization, content_length)


async def read_body(receive: Receive, head: Head, limit: int) -> bytes | None:
    """Reads the body, at most a chunk more than `limit` bytes of it.

    Returns:
        The body; or None when the client left before it was complete.

    Raises:
        MessageError: 413. Nothing was read when the length was announced; else the rest was not.
    """
    if head.content_length.isdigit() and int(head.content_length[:20]) > limit:
        raise _too_large(limit)
    message = await receive()
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(first) > limit:
            raise _too_large(limit)
        return None if message["type"] == "http.disconnect" else first
    body = bytearray(first)
    while message.get("more_body", False):
        if len(body) > limit:
            raise _too_large(limit)
        message = await receive()
        body += message.get("body", b"")
    if len(body) > limit:
        raise _too_large(limit)
    return None if message["type"] == "http.disconnect" else bytes(body)


async def answer(send: Send, status: int, body: bytes, headers: Iterable[Header]) -> None:
    """Sends a whole answer."""
    fields = [*headers]
    if status != 204:  # noqa: PLR2004 - RFC 9110, section 8.6: no length on a 204
        fields.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def _too_large(limit: int) -> MessageError:
    return MessageError(413, "Content Too Large", f"The body has more than {limit} bytes. Send less.")
