"""One connection of the HTTP server: uvicorn's protocol with limits on time, size and number, and quiet about nonsense.

uvicorn's protocol classes are no stable interface; the version is pinned for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from watchdog.core.addresses import Proxies, site
from watchdog.core.model import Epoch
from watchdog.ingest.websocket_protocol import SocketProtocol
from watchdog.ingest.wire import GUARDED

REQUEST_S = 20.0
"""In which a request has to be complete, its body included. One that trickles in holds a connection no longer."""

WRITE_S = 20.0
"""For how long a client may leave answers unread once more than the socket's buffers wait; then it is cut off."""

CLOSE_S = 5.0
"""For how long the last bytes of a connection that is being closed may wait for the client."""

MAX_HEAD = 32 * 1024
"""Bytes of a request besides its body: the request line, the headers, the frames of chunks, the trailers. The parser
itself has no limit; one read may exceed this one."""

TELL_S = 60.0
"""Between lines about malformed requests."""

FULL_S = 10.0
"""So long after a connection was turned away others may be on their way: an interval of heartbeats."""

MAX_PIPELINED = 64
"""Requests that may wait for the answer to one before them on their connection. A read of 256 KiB could hold 14,000,
each of which costs a hundred times its bytes."""

SHARE = 0.75
"""Of all connections the part that one address may have, unless it is a trusted proxy's: a contact centre behind one
address has room, and nobody fills the house alone."""


def _without_body(status: str, *headers: str) -> bytes:
    guarded = [f"{name.decode()}: {value.decode()}" for name, value in GUARDED]
    lines = [f"HTTP/1.1 {status}", *headers, *guarded, "connection: close", "content-length: 0"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


_MALFORMED = _without_body("400 Bad Request")
_TOO_SLOW = _without_body("408 Request Timeout")
_TOO_MANY = _without_body("429 Too Many Requests", "retry-after: 10")
_HEAD_TOO_LARGE = _without_body("431 Request Header Fields Too Large")
_FULL = _without_body("503 Service Unavailable", "retry-after: 2")

_OF_UPGRADES = frozenset({b"upgrade", b"http2-settings"})

SOCKET = b"/v1/ws"
"""The only path that may become a WebSocket."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class Connections:
    """What all connections of a server share.

    Attributes:
        most: How many there may be; more are turned away.
        time: The loop's clock.
        epoch: The wall clock.
        proxies: Whose connections are those of many.
        share: Of all, the part that one address may have.
        has_agents: Whether agents are heard from a `site`.
        turned_away: How many have been.
        turned_away_at: When the last one was, by `time`; None for never.
        full_since: When the first one was, by `epoch`, since there was room for all.
    """

    most: int
    time: Callable[[], float]
    epoch: Callable[[], Epoch]
    proxies: Proxies = field(default_factory=Proxies)
    has_agents: Callable[[str], bool] = lambda _: True
    share: float = SHARE
    turned_away: int = 0
    turned_away_at: float | None = None
    full_since: Epoch = Epoch(0.0)
    _malformed: int = 0
    _told_at: float | None = field(default=None)
    _by_site: dict[str, int] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Whether a connection was turned away of late: somebody there may not be heard."""
        return self.turned_away_at is not None and self.time() - self.turned_away_at < FULL_S

    def enter(self, peer: str) -> str | None:
        """Counts a connection with those of its address. Gives what `leave` takes, which is to be called in the end."""
        if self.proxies.trusts(peer):
            return None
        name = site(peer)
        self._by_site[name] = self._by_site.get(name, 0) + 1
        return name

    def leave(self, name: str | None) -> None:
        """The connection has ended."""
        if name is None:
            return
        left = self._by_site[name] - 1
        if left:
            self._by_site[name] = left
        else:
            del self._by_site[name]

    def exceeded(self, name: str | None) -> bool:
        """Whether an address has more than its share. If its agents are turned away for that, the clock stands."""
        if name is None or self._by_site[name] <= max(1, int(self.share * self.most)):
            return False
        if self.has_agents(name):
            self.turn_away()
        return True

    def turn_away(self) -> None:
        """Counts a connection that is turned away and may be an agent's, and tells of the first."""
        if not self.full:
            log.error("http.full", most=self.most)
            self.full_since = self.epoch()
        self.turned_away += 1
        self.turned_away_at = self.time()

    def malformed(self) -> None:
        """Counts a request that is no HTTP; one line a minute tells how many there were."""
        self._malformed += 1
        if self._told_at is None or self.time() - self._told_at >= TELL_S:
            log.warning("http.malformed", count=self._malformed)
            self._malformed, self._told_at = 0, self.time()


class BoundedProtocol(HttpToolsProtocol):
    """One connection, with limits on how long and how large a request may be.

    Attributes:
        greeted: Called when its TLS handshake is complete, before it is counted here.
    """

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _overhead = 0
    _body_of_read = 0
    _begun = False
    _flooded = False
    _large = False
    _oversized = False
    _entered = False
    _site: str | None = None
    greeted: Callable[[], None] | None = None

    def __init__(self, shared: Connections, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        """Takes what all connections share, and uvicorn's arguments."""
        super().__init__(**options)
        self._shared = shared

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time of the first request, unless there are too many connections."""
        super().connection_made(transport)
        if self.greeted is not None:
            self.greeted()
        self._site, self._entered = self._shared.enter("" if self.client is None else self.client[0]), True
        if len(self.connections) > self._shared.most:
            self._shared.turn_away()
            transport.write(_FULL)
            self._close()
            return
        if self._shared.exceeded(self._site):
            transport.write(_TOO_MANY)
            self._close()
            return
        self._deadline = self.loop.call_later(REQUEST_S, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the deadlines."""
        self.leave()
        self._disarm()
        self._forget_unread()
        super().connection_lost(exc)

    def leave(self) -> None:
        """Gives the place back that the connection has among those of its address."""
        if self._entered:
            self._entered = False
            self._shared.leave(self._site)

    def data_received(self, data: bytes) -> None:
        """Reads on, unless what is not the body has grown too large. But for the socket, no upgrade is asked for."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._body_of_read = 0
        self._large = self._overhead + len(data) > MAX_HEAD
        if not self._parsed(data) or self.transport.is_closing():
            return
        if self._flooded:
            if self._oversized:
                self.transport.write(_HEAD_TOO_LARGE)
            else:
                self._shared.malformed()
            self.pipeline.clear()
            self._close()
            return
        self._overhead += len(data) - self._body_of_read
        if self._overhead > MAX_HEAD:
            self.transport.write(_HEAD_TOO_LARGE)
            self._close()

    def _parsed(self, data: bytes) -> bool:
        """Gives data to the parser. Returns False when it is no HTTP and was answered so."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    return self._refused()
                if self._opens_socket():
                    if data[upgrade.args[0] :]:
                        return self._refused()  # Source: RFC 6455, section 4.1: the client waits for the answer
                    self._disarm()
                    self._forget_unread()
                    self.handle_websocket_upgrade()
                    # The place is the socket's from now on, and nothing of this is kept.
                    socket = self.transport.get_protocol()
                    if isinstance(socket, SocketProtocol):
                        socket.leave, self._entered = partial(self._shared.leave, self._site), False
                    return False
                # The parser takes what follows for another protocol: it gets the request anew, without the header.
                data = self._without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError:
                return self._refused()
            else:
                return True

    def _opens_socket(self) -> bool:
        """Whether the request that was just read becomes a WebSocket. None before it may wait for its answer."""
        before: RequestResponseCycle | None = self.cycle
        busy = before is not None and not before.response_complete
        asked = self.parser.get_method() == b"GET" and self.url.partition(b"?")[0] == SOCKET
        return asked and not busy and self._should_upgrade()

    def _refused(self) -> bool:
        self._shared.malformed()
        self.transport.write(_MALFORMED)
        self.transport.close()
        return False

    def _without_upgrade(self) -> bytes:
        """The head of the request that was just read, asking for no upgrade. Source: RFC 9110, section 7.8."""
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                kept = [each for each in value.split(b",") if each.strip().lower() not in _OF_UPGRADES]
                lines.append(b"connection: " + b",".join(kept))
            elif name not in _OF_UPGRADES:
                lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        """Starts the time of a request, at its first byte."""
        if self._flooded:
            return
        super().on_message_begin()
        self._overhead = 0
        self._begun = True
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self._expire)

    def on_headers_complete(self) -> None:
        """Begins the request, unless it is to be read anew without its upgrade."""
        self._flooded = self._flooded or len(self.pipeline) >= MAX_PIPELINED
        if self._flooded or self._is_oversized():
            return
        if self._is_strange():
            raise ValueError  # the parser tells it as its own
        if not self.parser.should_upgrade():
            super().on_headers_complete()
        self.scope["method"] = self.parser.get_method().decode("ascii")

    def _is_oversized(self) -> bool:
        """Whether the head is too large, though it came in one read; then nobody looks at it."""
        if self._large and len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD:
            self._oversized = self._flooded = True
        return self._oversized

    def _is_strange(self) -> bool:
        """Whether the head is one that the parser lets pass, and that others may read differently.

        Sources: RFC 9112, section 3.2, for `Host`; section 6.1, for transfer codings, of which only one is known here,
        and none in HTTP/1.0.
        """
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            return True
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (version == "1.0" or [each.strip().lower() for each in codings] != [b"chunked"]):
            return True
        return version == "1.1" and not any(name == b"host" for name, _ in self.headers)

    def on_body(self, body: bytes) -> None:
        """Takes a piece of the body out of the count."""
        self._body_of_read += len(body)
        if not self._flooded:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends the time of the request."""
        if not self._flooded and not self.parser.should_upgrade():
            self._begun = False
            self._disarm()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Forgets what nobody has read of the request's body: the connection may be idle for long."""
        cycle: object = self.cycle  # or another lane's
        if isinstance(cycle, RequestResponseCycle) and cycle.response_complete:
            cycle.body = bytearray()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Starts the time in which the client has to read."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(WRITE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Ends it."""
        self._forget_unread()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Closes a connection that nobody uses."""
        self._close()

    def _expire(self) -> None:
        """Closes a connection whose request is not complete in time, and says so unless something was said already."""
        cycle: RequestResponseCycle | None = self.cycle
        silent = cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started)
        if self._begun and silent and not self.pipeline and not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
        self._close()

    def _close(self) -> None:
        """Closes the connection, and cuts it off when its last bytes are not taken."""
        self.transport.close()
        self.loop.call_later(CLOSE_S, self.transport.abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
