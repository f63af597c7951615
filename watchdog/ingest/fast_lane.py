"""The fast lane: single heartbeats are answered by the connection itself, with neither task nor ASGI in between.

It takes what an ordinary client sends, `POST /v1/heartbeat` in HTTP/1.1 with a length, and only when nothing before it
waits on its connection and the client reads. Everything else, and whatever is refused by its head alone, goes the plain
way through uvicorn. Which heartbeats may pass and what they are answered is `heartbeat.py`'s; `shortcut.py` reads their
heads and writes the answers.

uvicorn's protocol classes are no stable interface; the version is pinned for that, and every case of the contract is
compared over both lanes.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import structlog

from watchdog.core.messages import MAX_BODY
from watchdog.ingest.answers import PROBLEM_HEADERS, Answer
from watchdog.ingest.connections import MAX_PIPELINED, BoundedProtocol, Connections
from watchdog.ingest.heartbeat import ONE, Waiting
from watchdog.ingest.problems import UNEXPECTED
from watchdog.ingest.shortcut import Head, Shortcut

_ONE = ONE.encode()

log = structlog.stdlib.get_logger(__name__)

START = b"POST %b HTTP/1.1\r\n" % _ONE
"""How a request begins whose head may be remembered."""

END = b"\r\n\r\n"

MAX_KEPT_HEAD = 2048
"""Bytes of a head that is remembered; those of browsers have about 600."""


class _Silent:
    """An event that nobody waits for."""

    __slots__ = ()

    def set(self) -> None:
        """Nobody is told."""


class Turn:
    """A connection's heartbeat that is not answered yet: what uvicorn and `BoundedProtocol` look at of a cycle.

    One object for each connection. Requests that come while it is not complete wait as behind any other.
    """

    __slots__ = (
        "body",
        "disconnected",
        "head",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(self) -> None:
        self.message_event = _Silent()
        self.response_started = False
        self.begin(None, more_body=False)

    def begin(self, head: Head | None, *, more_body: bool) -> None:
        """A heartbeat has come, or its head."""
        self.head = head
        self.body = b""
        self.more_body = more_body
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False


class FastProtocol(BoundedProtocol):
    """One connection with a fast lane."""

    cycle: Any
    """uvicorn's, or our own `Turn`."""

    _idle_since = 0.0
    _idle: asyncio.TimerHandle | None = None
    _learning: bytes | None = None
    _answered = 0
    _peer = ""

    def __init__(self, shortcut: Shortcut, shared: Connections, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        """Takes what all connections share, and uvicorn's arguments."""
        super().__init__(shared, **options)
        self._shortcut = shortcut
        self._heartbeats = shortcut.heartbeats
        self._turn = Turn()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Looks whom it is from."""
        super().connection_made(transport)
        self._peer = self._heartbeats.whose(self.client, ())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the time of idleness."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answers a read that is one heartbeat with a known head; gives the parser any other."""
        self._answered = 0
        cycle = self.cycle
        if self._begun or not (cycle is None or cycle.response_complete) or self.flow.write_paused:
            super().data_received(data)
            return
        end = data.find(END, 0, MAX_KEPT_HEAD) + len(END)
        raw = data[:end]
        head = self._shortcut.find(raw)
        if head is not None:
            if len(data) == end + head.length and not self.transport.is_closing():
                if self.timeout_keep_alive_task is not None:
                    self._unset_keepalive_if_required()
                if self._deadline is not None:
                    self._disarm()
                self._respond(head, data[end:])
                return
        elif raw.startswith(START) and end < len(data) <= end + MAX_BODY and b"uthorization" not in raw:
            # In two pieces, so that it is known where the parser sees the end of the head. One that comes with its
            # whole body and nothing else can be known by its bytes the next time.
            super().data_received(raw)
            turn = self._turn
            if self.cycle is turn and turn.more_body and turn.head is not None and not turn.body:
                self._learning = raw if turn.head.length == len(data) - end and not turn.head.secret else None
            super().data_received(data[end:])
            self._learning = None
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Begins a heartbeat, unless it has to go the plain way."""
        cycle = self.cycle
        if (
            self.url == _ONE
            and (cycle is None or cycle.response_complete)
            and not (self._flooded or self._is_oversized() or self.flow.write_paused)
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
        ):
            head = self._shortcut.read(self.headers)
            if head is not None:
                self._answered += 1
                self._flooded = self._answered > MAX_PIPELINED + 1
                self._turn.begin(head, more_body=True)
                self.cycle = self._turn
                return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Answers a heartbeat that is complete."""
        turn = self._turn
        # While one waits, its own message is over: another that ends then is one that is read anew without its upgrade.
        ends = self.cycle is turn and turn.more_body and not self._flooded
        super().on_message_complete()
        if ends and turn.head is not None:
            self._respond(turn.head, turn.body)

    def timeout_keep_alive_handler(self) -> None:
        """Closes a connection that nobody uses."""
        self._idle = None
        super().timeout_keep_alive_handler()

    def _respond(self, head: Head, body: bytes) -> None:
        """Answers a heartbeat, now or after its flush."""
        try:
            address = self._heartbeats.whose(self.client, head.forwarded) if head.forwarded else self._peer
            found = self._heartbeats.one(body, head.token, address)
            if isinstance(found, Answer):
                self._write(found, head, keep_alive=self.cycle is not self._turn or self._turn.keep_alive)
                self._rest()
                return
        except Exception as error:  # noqa: BLE001 - as uvicorn does: whatever it is, the client is told
            self._fail(error, head)
            return
        if self.cycle is not self._turn or self._turn.response_complete:
            self._turn.begin(head, more_body=False)
            self.cycle = self._turn
        found.reply.add_done_callback(partial(self._flushed, found, head))

    def _flushed(self, waiting: Waiting, head: Head, _: asyncio.Future[Any]) -> None:
        """The answer to a heartbeat that has waited."""
        turn = self._turn
        try:
            # Also for a client who is gone: it is counted.
            self._write(self._heartbeats.settle(waiting), head, keep_alive=turn.keep_alive)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error, head)
            return
        turn.response_complete = True
        self.on_response_complete()

    def _write(self, answer: Answer, head: Head, *, keep_alive: bool) -> None:
        self._heartbeats.count(answer)
        if self.transport.is_closing():
            return
        self.transport.write(
            self._shortcut.render(answer, head, self.server_state.default_headers, keep_alive=keep_alive)
        )
        if not keep_alive:
            self.transport.close()
        if self._learning is not None and answer.reason is None:
            self._shortcut.keep(self._learning, head)

    def _rest(self) -> None:
        """A heartbeat was answered at once, so nothing waits behind it."""
        if self.cycle is self._turn:
            self._turn.response_complete = True
        self.server_state.total_requests += 1
        # One timer that looks when the last one was, in place of one for each.
        self._idle_since = self.loop.time()
        if self._idle is None:
            self._idle = self.loop.call_later(self.timeout_keep_alive, self._look_idle)

    def _look_idle(self) -> None:
        self._idle = None
        cycle = self.cycle
        if self._begun or self.timeout_keep_alive_task is not None or not (cycle is None or cycle.response_complete):
            # Other times are counted now; the next heartbeat that is answered at once begins this one again.
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._idle = self.loop.call_later(left_s, self._look_idle)
        else:
            self.timeout_keep_alive_handler()

    def _fail(self, error: Exception, head: Head) -> None:
        """A fault of our own: told as on the plain way, where the connection ends, too."""
        log.error("http.heartbeat_failed", exc_info=error)
        told = Answer(UNEXPECTED.status, UNEXPECTED.body(), PROBLEM_HEADERS)
        self._turn.response_complete = True
        if not self.transport.is_closing():
            self.transport.write(self._shortcut.render(told, head, self.server_state.default_headers, keep_alive=True))
            self.transport.close()
