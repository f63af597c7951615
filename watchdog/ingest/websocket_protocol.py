"""One WebSocket of the server: its frames, with limits on size, number and time, and an account of who ended it.

The connection drives it: there is no task and no ASGI. A text that is one frame takes the short way; everything else
(fragments, control frames, whatever is wrong) is the `websockets` package's to read. What the messages say is in
`websocket.py`, and the handshake in `websocket_handshake.py`.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Protocol

from uvicorn import Config
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, SERVER
from websockets.protocol import Protocol as WebSocket

from watchdog.core.messages import MAX_BODY
from watchdog.ingest.problems import Problem
from watchdog.ingest.websocket_frames import WHOLE_TEXT, cut, framed, unmasked
from watchdog.ingest.websocket_handshake import answered
from watchdog.ingest.wire import Header

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


class Listener(Protocol):
    """Whom a socket's messages are for."""

    def hear(self, message: bytes) -> None:
        """Takes a message. It is answered with `SocketProtocol.tell`, now or later."""

    def end(self) -> None:
        """The socket has ended: there are no more messages, and none can be answered."""


class SocketProtocol(asyncio.Protocol):
    """One socket.

    Attributes:
        client: The other side's address and port.
        leave: Called when the connection is gone.
    """

    __slots__ = (
        "_allowed",
        "_by_us",
        "_config",
        "_conn",
        "_counted_at",
        "_fragments",
        "_greeted",
        "_is_text",
        "_listener",
        "_looked",
        "_loop",
        "_open",
        "_paused",
        "_pinged",
        "_rest",
        "_server",
        "_timer",
        "client",
        "leave",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(
        self,
        open_: Callable[[SocketProtocol, list[Header]], Listener | Problem],
        *,
        config: Config,
        server_state: ServerState,
        app_state: object,  # noqa: ARG002 - what uvicorn gives
    ) -> None:
        """Takes whom to ask, and what the server's connections share.

        Args:
            open_: Told of a handshake and its headers: gives whoever takes the messages, or why there is no socket.
            config: The server's: the times of pings.
            server_state: The server's: its connections, and the headers of all answers.
            app_state: Nothing.
        """
        self.client: tuple[str, int] | None = None
        self.leave: Callable[[], None] | None = None
        self._open = open_
        self._config = config
        self._server = server_state
        self._loop = asyncio.get_running_loop()
        self._conn = WebSocket(SERVER, max_size=MAX_BODY)
        self._greeted = False
        self._listener: Listener | None = None
        self._by_us: Ended | None = None
        self._rest = b""
        self._fragments: list[bytes] | None = None
        self._is_text = False
        self._paused = False
        self._allowed = float(BURST_FRAMES)
        self._counted_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._pinged: bytes | None = None
        self._looked = False

    # What its listener needs.

    @property
    def ended(self) -> Ended:
        """Who ended it; to be asked when it has ended."""
        if self._by_us is not None:
            return self._by_us
        torn = self._conn.close_sent is None or self._conn.close_rcvd_then_sent is True
        return Ended.TORN if torn else Ended.CLOSED

    @property
    def code(self) -> int | None:
        """The code with which we closed it; None if we have not."""
        return None if self._conn.close_sent is None else self._conn.close_sent.code

    def tell(self, text: bytes) -> bool:
        """Sends a message of less than 64 KiB. Returns False when nothing can be sent any more."""
        if self.transport.is_closing() or self._conn.state is not OPEN:
            return False
        self.transport.write(framed(text))
        return True

    def pause(self) -> None:
        """Reads no more until `resume`: somebody waits for an answer already."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def close(self, code: int, reason: str = "") -> None:
        """Closes it in order. Its listener hears no more."""
        self._listener = None
        if self.transport.is_closing() or self._conn.state is not OPEN:
            return
        self._conn.send_close(code, reason)
        self._write_out()
        self.resume()
        self._pinged = None
        self._after(CLOSE_S, self._hang_up)

    # What the server calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Looks whom it is from."""
        self.transport = transport
        self.client = get_remote_addr(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        """Forgets the times."""
        self._server.connections.discard(self)
        if self.leave is not None:
            self.leave()
        if self._timer is not None:
            self._timer.cancel()
        self._tell_end()

    def data_received(self, data: bytes) -> None:
        """Reads on, frame by frame; the first that comes is the whole handshake."""
        if not self._greeted:
            self._greet(data)
            return
        if self._rest:
            data, self._rest = self._rest + data, b""
        begin = 0
        while begin < len(data) and not self.transport.is_closing():
            payload, end = cut(data, begin)
            if end > len(data):
                self._rest = data[begin:]
                return
            if not self._may_come():
                self._refuse(CloseCode.POLICY_VIOLATION, "too many frames")
            elif payload and data[begin] == WHOLE_TEXT and self._fragments is None:
                self._take(unmasked(data, payload, end), is_text=True)
            else:
                self._read(data[begin:end])
            begin = end

    def pause_writing(self) -> None:
        """Cuts off whoever leaves so many answers unread: a beat is answered with a few hundred bytes."""
        self._by_us = self._by_us or Ended.SILENT
        self.transport.abort()

    def shutdown(self) -> None:
        """The server stops."""
        if self.transport.is_closing():
            return
        if self._conn.state is OPEN:
            self._conn.send_close(CloseCode.SERVICE_RESTART)
        self._hang_up()

    def _greet(self, head: bytes) -> None:
        self._greeted = True
        answer, self._listener = answered(head, partial(self._open, self), self._server.default_headers)
        # Not before: after a fault of ours the connection is still its former protocol's, and this one hears no end.
        self._server.connections.add(self)  # type: ignore[arg-type]  # of which `shutdown` is called
        self.transport.write(answer)
        if self._listener is None:
            self._hang_up()
        else:
            self._after(self._config.ws_ping_interval or PING_S, self._ping)

    # Frames.

    def _may_come(self) -> bool:
        """Counts a frame: pings and empty fragments cost as much as messages."""
        now = self._loop.time()
        self._allowed = min(BURST_FRAMES, self._allowed + FRAMES_PER_S * (now - self._counted_at)) - 1
        self._counted_at = now
        return self._allowed >= 0

    def _read(self, frame: bytes) -> None:
        """Reads a frame that is not a whole text, or one of which the head is wrong and nothing else is given."""
        self._conn.receive_data(frame)
        if self._conn.parser_exc is not None:
            # The frame that tells so is made.
            self._by_us = Ended.REFUSED
            self._hang_up()
            return
        for event in self._conn.events_received():
            if isinstance(event, Frame):
                self._react(event)

    def _react(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.CLOSE:
                self._hang_up()
            case Opcode.PONG:
                self._pong(frame.data)
            case Opcode.PING:
                self._write_out()
            case _:
                self._gather(frame)

    def _gather(self, frame: Frame) -> None:
        if self._fragments is None:
            self._fragments, self._is_text = [], frame.opcode is Opcode.TEXT
        self._fragments.append(bytes(frame.data))
        if frame.fin:
            message, self._fragments = b"".join(self._fragments), None
            self._take(message, is_text=self._is_text)

    def _take(self, message: bytes, *, is_text: bool) -> None:
        if is_text and not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError:
                self._refuse(CloseCode.INVALID_DATA, "not UTF-8")
                return
        if self._listener is not None:
            self._listener.hear(message)

    # Pings.

    def _ping(self) -> None:
        self._pinged, self._looked = struct.pack("!I", random.getrandbits(32)), False
        self._conn.send_ping(self._pinged)
        self._write_out()
        self._after(self._config.ws_ping_timeout or PONG_S, self._miss)

    def _pong(self, data: object) -> None:
        """Somebody is there, if it is our ping that is answered."""
        if data == self._pinged:
            self._pinged = None
            self._after(self._config.ws_ping_interval or PING_S, self._ping)

    def _miss(self) -> None:
        """Nobody answers: looks again, and then closes."""
        if not self._looked:
            self._looked = True
            self._after(LOOK_AGAIN_S, self._miss)
            return
        self._by_us = Ended.SILENT
        self._conn.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
        self._hang_up()

    # The end.

    def _refuse(self, code: int, reason: str) -> None:
        """Ends a connection that breaks the rules."""
        self._conn.fail(code, reason)
        self._by_us = Ended.REFUSED
        self._hang_up()

    def _hang_up(self) -> None:
        """Says what is left to say, and limits the time in which that may be taken."""
        self._write_out()
        self.transport.close()
        self._pinged = None
        self._after(CLOSE_S, self.transport.abort)
        self._tell_end()

    def _tell_end(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.end()

    def _write_out(self) -> None:
        """Writes the frames that `websockets` has made."""
        data = b"".join(self._conn.data_to_send())
        if data:
            self.transport.write(data)

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        """What is to be done next if nothing else happens; in place of what was to be done before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, then)
