"""The tether, `GET /v1/ws`: the messages of `POST /v1/heartbeat` over a WebSocket, whose end tells that a page is gone.

One socket carries one session. Its messages are answered in their order: those of a live session at once, and what
comes behind one that waits for its flush waits, too. Its end is noticed only if the other side closed it and no bye was
said; what it means for the session is the store's to say. The rules of the connection itself are in
`websocket_protocol.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

import orjson
import structlog

from watchdog.core.model import Beat, BeatType, Tear
from watchdog.errors import MessageError
from watchdog.ingest.answers import GONE, PROBLEM_HEADERS, Answer, Rejection, refusal
from watchdog.ingest.heartbeat import Heartbeats, Waiting, token_of
from watchdog.ingest.origins import ASKED, Origins
from watchdog.ingest.problems import Problem
from watchdog.ingest.websocket_handshake import SUBPROTOCOL
from watchdog.ingest.websocket_protocol import Ended, SocketProtocol
from watchdog.ingest.wire import JSON_HEADERS, Header, read_head

PATH = "/v1/ws"

FIRST_S = 10.0
"""In which a socket has to carry a hello that is taken: whoever is not known holds a connection no longer."""

NO_HELLO = refusal(
    Rejection.MALFORMED, MessageError(400, "Bad Request", "The first message of a socket is a hello: `type` `hello`.")
)

ANOTHER = refusal(
    Rejection.MALFORMED,
    MessageError(400, "Bad Request", "A socket carries one session. Open another one for another session."),
)

NO_SUBPROTOCOL = Problem(400, "Bad Request", f"Ask for the sub-protocol: new WebSocket(url, '{SUBPROTOCOL}').")

UPGRADE_REQUIRED = Problem(
    426, "Upgrade Required", "This is for WebSockets. Heartbeats by HTTP go to POST /v1/heartbeat."
)

UPGRADE_HEADERS: tuple[Header, ...] = (*PROBLEM_HEADERS, (b"upgrade", b"websocket"), (b"connection", b"upgrade"))

_REJECTED = {1002: Rejection.MALFORMED, 1007: Rejection.MALFORMED, 1008: Rejection.RATE, 1009: Rejection.TOO_LARGE}
"""What a socket was refused for that did not keep the rules, by the code with which it was closed."""

log = structlog.stdlib.get_logger(__name__)


class Counters(Protocol):
    """Where sockets are counted.

    Attributes:
        rejected: Messages refused, by reason.
        sockets: How many are open.
        sockets_ended: How many have ended, by `Ended`.
    """

    rejected: dict[str, int]
    sockets: int
    sockets_ended: dict[str, int]


class Tethers:
    """Answers the sockets."""

    def __init__(
        self,
        heartbeats: Heartbeats,
        tear: Callable[[Tear], None],
        counters: Counters,
        *,
        ttl_s: float,
        number: Callable[[], int],
        origins: Origins | None = None,
    ) -> None:
        """Takes the parts.

        Args:
            heartbeats: Judges the messages.
            tear: Told of each socket that was torn.
            counters: Told how many there are, and how they end.
            ttl_s: What is left of a lease whose socket was torn (TETHER_TTL).
            number: A number that no other socket has, of this process or another.
            origins: Which pages may connect; None for the daemon's own. A client that names none is no page.
        """
        self.heartbeats = heartbeats
        self.counters = counters
        self._tear = tear
        self._ttl_s = ttl_s
        self._number = number
        self._origins = origins or Origins()

    def open(self, connection: SocketProtocol, headers: list[Header]) -> Tether | Problem:
        """Answers a handshake: whoever hears what is said on the connection, or why it is refused."""
        problem = self._wrong(headers)
        if problem is not None:
            return problem
        address = self.heartbeats.whose(connection.client, headers)
        tether = Tether(self, connection, token_of(read_head(headers)), address, self._number())
        self.counters.sockets += 1
        return tether

    def ended(self, tether: Tether, ended: Ended) -> None:
        """Counts a socket that has ended."""
        self.counters.sockets -= 1
        self.counters.sockets_ended[ended] += 1
        if ended is Ended.TORN and tether.session_id is not None:
            self._tear(Tear(tether.session_id, tether.number, self._ttl_s))

    def _wrong(self, headers: list[Header]) -> Problem | None:
        problem = self._origins.problem({name: value for name, value in headers if name in ASKED}, heartbeat=True)
        if problem is not None:
            return problem
        asked = b",".join(value for name, value in headers if name == b"sec-websocket-protocol").decode("latin-1")
        return None if SUBPROTOCOL in map(str.strip, asked.split(",")) else NO_SUBPROTOCOL


class Tether:
    """What is said on one socket.

    Attributes:
        number: Its own.
        session_id: The session that it carries; None before the first hello that was taken.
    """

    __slots__ = ("_address", "_behind", "_connection", "_first", "_has_ended", "_of", "_token", "number", "session_id")

    def __init__(self, of: Tethers, connection: SocketProtocol, token: str | None, address: str, number: int) -> None:
        """Starts the time in which it has to carry a hello.

        Args:
            of: What all have in common.
            connection: Where it is answered.
            token: The bearer token of the handshake.
            address: Whom it is from.
            number: Its own.
        """
        self.number = number
        self.session_id: bytes | None = None
        self._of = of
        self._connection = connection
        self._token = token
        self._address = address
        self._behind: list[bytes] | None = None  # the messages behind one that waits for its flush
        self._has_ended = False
        self._first = asyncio.get_running_loop().call_later(FIRST_S, self._expire)

    def hear(self, message: bytes) -> None:
        """Answers a message, now or when it is its turn."""
        if self._has_ended:
            return
        if self._behind is not None:
            self._behind.append(message)
            self._connection.pause()
            return
        heartbeats = self._of.heartbeats
        try:
            beat = heartbeats.admit(message, self._token, self._address, self.number)
            found = beat if isinstance(beat, Answer) else self._misplaced(beat) or heartbeats.take(beat)
            if isinstance(found, Answer):
                self._answer(found, beat)
                return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            self._fail(error)
            return
        self._behind = []
        found.reply.add_done_callback(partial(self._flushed, found))

    def end(self) -> None:
        """The connection has ended."""
        if self._behind is None:
            self._lost()
        # Else what waits for its flush is taken all the same, and then there is nobody to be answered.

    def _flushed(self, waiting: Waiting, _: asyncio.Future[object]) -> None:
        """Answers what has waited, and then what came behind it."""
        behind, self._behind = self._behind or [], None
        if self._has_ended:
            return
        try:
            self._answer(self._of.heartbeats.settle(waiting), waiting.beat)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)
        for message in behind:
            self.hear(message)
        if not self._behind:
            self._connection.resume()

    def _misplaced(self, beat: Beat) -> Answer | None:
        if self.session_id is None:
            return None if beat.type is BeatType.HELLO else NO_HELLO
        return None if beat.session_id == self.session_id else ANOTHER

    def _answer(self, answer: Answer, beat: Beat | Answer) -> None:
        """Gives the answer to a message, of which this is the beat, or the refusal."""
        if answer.reason is not None:
            self._of.counters.rejected[answer.reason] += 1
        elif self.session_id is None and isinstance(beat, Beat):
            self.session_id = beat.session_id
            self._first.cancel()
        if answer is GONE:
            self._finish(Ended.BYE)
            self._connection.close(1000)
        elif not self._connection.tell(_text(answer)):
            self._lost()

    def _lost(self) -> None:
        """Nothing can be said any more."""
        ended, code = self._connection.ended, self._connection.code
        if ended is Ended.REFUSED and code in _REJECTED:
            self._of.counters.rejected[_REJECTED[code]] += 1
        self._finish(ended)

    def _expire(self) -> None:
        self._finish(Ended.REFUSED)
        self._connection.close(1008, f"no hello within {FIRST_S:g} s")

    def _fail(self, error: Exception) -> None:
        """A fault of our own."""
        log.error("http.heartbeat_failed", exc_info=error)
        self._finish(Ended.CLOSED)
        self._connection.close(1011)

    def _finish(self, ended: Ended) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._first.cancel()
            self._of.ended(self, ended)


def _text(answer: Answer) -> bytes:
    """The answer as a message: a problem with a time to come again has it as `next_ms`, for want of a header."""
    if answer.headers is JSON_HEADERS:
        return answer.body
    after = dict(answer.headers).get(b"retry-after")
    if after is None:
        return answer.body
    return orjson.dumps({**orjson.loads(answer.body), "next_ms": int(after) * 1000})
