"""One WebSocket of the server: uvicorn's protocol with limits, and an account of who ended it.

uvicorn's protocol classes are no stable interface; the version is pinned for that. What the messages say is in
`websocket.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

PING_S = 20.0
"""Between pings: less than load balancers keep idle connections (60 s at AWS)."""

PONG_S = 20.0
"""For how long a pong may be missing."""

LOOK_AGAIN_S = 1.0
"""After that it is looked once more: a process that was stopped runs its timers first, and then reads the pong."""

CLOSE_S = 5.0
"""For how long the other side may take to answer a close, and then to take the last bytes."""

BURST_FRAMES = 100
FRAMES_PER_S = 40.0
"""Most frames at once, and then a second: at the least HEARTBEAT_INTERVAL, 0.1 s, three copies of each beat are 30."""

EXTENSION = "watchdog.socket"
"""Under this name the scope has the connection, among its extensions."""


class Ended(StrEnum):
    """How a socket ended."""

    BYE = "bye"
    """Its session said bye."""
    TORN = "torn"
    """The other side closed it, in order or not."""
    SILENT = "silent"
    """The other side answered no ping, or left our answers unread: whether anybody is there is not known."""
    REFUSED = "refused"
    """It did not keep the rules."""
    CLOSED = "closed"
    """We closed it: the daemon stops, or failed."""


class _Inbox:
    """What has come and was not taken yet: an `asyncio.Queue` for one that waits, without its 3 KB."""

    __slots__ = ("_messages", "_waiting")

    def __init__(self) -> None:
        self._messages: list[ASGIReceiveEvent] = []
        self._waiting: asyncio.Future[None] | None = None

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._messages

    def put_nowait(self, message: ASGIReceiveEvent) -> None:
        """Adds a message."""
        self._messages.append(message)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def get(self) -> ASGIReceiveEvent:
        """Takes the first message, when there is one."""
        while not self._messages:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._messages.pop(0)


_ALWAYS = asyncio.Event()
_ALWAYS.set()
"""Who cannot be written to is cut off: nobody waits for it."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """One socket, with limits on size, number and time.

    Attributes:
        leave: Called when it has ended.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        """Takes uvicorn's arguments."""
        super().__init__(*args, **options)
        self.queue = _Inbox()  # type: ignore[assignment]  # what uvicorn needs of a queue
        self.writable = _ALWAYS
        self.close_timeout = CLOSE_S
        self._by_us: Ended | None = None
        self._looked = False
        self._allowed = float(BURST_FRAMES)
        self._counted_at = self.loop.time()
        self._abort: asyncio.TimerHandle | None = None
        self.leave: Callable[[], None] | None = None

    @property
    def ended(self) -> Ended:
        """Who ended it; to be asked when it has ended."""
        if self._by_us is not None:
            return self._by_us
        torn = self.conn.close_sent is None or self.conn.close_rcvd_then_sent is True
        return Ended.TORN if torn else Ended.CLOSED

    @property
    def code(self) -> int | None:
        """The code with which we closed it; None if we have not."""
        return None if self.conn.close_sent is None else self.conn.close_sent.code

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the time limit."""
        if self.leave is not None:
            self.leave()
        if self._abort is not None:
            self._abort.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on. What is no handshake or no frame ends the connection."""
        super().data_received(data)
        if self.conn.handshake_exc is not None:
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
        self._bound_end()

    def handle_connect(self, event: Request) -> None:
        """Begins, and lets the application ask how it ended."""
        super().handle_connect(event)
        if self.response.status_code == 101:  # noqa: PLR2004 - Switching Protocols
            self.scope["extensions"] = {**self.scope["extensions"], EXTENSION: {"connection": self}}

    def handle_events(self) -> None:
        """Takes frames, unless there are too many: pings and empty fragments cost as much as messages."""
        now = self.loop.time()
        self._allowed = min(BURST_FRAMES, self._allowed + FRAMES_PER_S * (now - self._counted_at))
        self._counted_at = now
        self._allowed -= len(self.conn.events)
        if self._allowed < 0:
            self.conn.events.clear()
            self.conn.fail(CloseCode.POLICY_VIOLATION, "too many frames")
            self.handle_parser_exception()
            return
        super().handle_events()

    def send_receive_event_to_app(self) -> None:
        """Gives a message to the application, unless it is no text."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.fail(CloseCode.INVALID_DATA, "not UTF-8")
                self.handle_parser_exception()
                return
        # A message that comes alone does not stop the reading: that would be two calls of the system for each.
        alone = self.queue.empty() and not self.read_paused
        self.read_paused = self.read_paused or alone
        super().send_receive_event_to_app()
        if alone:
            self.read_paused = False

    def forget_handshake(self) -> None:
        """It is over, and 3 KB of headers are of no more use."""
        self.scope["headers"] = []
        del self.request, self.response

    def handle_parser_exception(self) -> None:
        """Ends a connection that breaks the rules. The frame that tells so is made."""
        self._by_us = Ended.REFUSED
        self.stop_keepalive()
        super().handle_parser_exception()

    def handle_pong(self, event: Frame) -> None:
        """Somebody is there."""
        self._looked = False
        super().handle_pong(event)

    def keepalive_timeout(self) -> None:
        """Nobody answers: looks again, and then closes."""
        if not self._looked:
            self._looked = True
            self.pong_timer = self.loop.call_later(LOOK_AGAIN_S, self.keepalive_timeout)
            return
        self._by_us = Ended.SILENT
        super().keepalive_timeout()
        self._bound_end()

    def pause_writing(self) -> None:
        """Cuts off whoever leaves so many answers unread: a beat is answered with a few hundred bytes."""
        self._by_us = self._by_us or Ended.SILENT
        self.transport.abort()

    def shutdown(self) -> None:
        """The server stops."""
        if not self.transport.is_closing():
            super().shutdown()
            self._bound_end()

    async def send(self, message: ASGISendEvent) -> None:
        """Sends what the application says, unless the connection was ended while it made up its mind."""
        if self._by_us is not None and self.close_sent:
            raise ConnectionAbortedError(self._by_us)
        await super().send(message)
        # Else uvicorn takes a handshake that was refused for one that was forgotten, and logs an error for each.
        self.handshake_complete = self.handshake_complete or (self.initial_response is not None and self.close_sent)
        self._bound_end()

    async def run_asgi(self) -> None:
        """Runs the application to its end."""
        await super().run_asgi()
        self._bound_end()

    def _bound_end(self) -> None:
        """Once it is being closed, limits the time that this may take."""
        if self._abort is None and (self.close_sent or self.transport.is_closing()):
            self._abort = self.loop.call_later(2 * CLOSE_S, self.transport.abort)
