"""The tether, `GET /v1/ws`: the messages of `POST /v1/heartbeat` over a WebSocket, whose end tells that a page is gone.

One socket carries one session. Its end is noticed only if the other side closed it and no bye was said; what it means
for the session is the store's to say. The rules of the connection itself are in `websocket_protocol.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

import orjson

from watchdog.core.model import Beat, BeatType, Tear
from watchdog.errors import MessageError
from watchdog.ingest.answers import PROBLEM_HEADERS, Answer, Rejection, refusal
from watchdog.ingest.auth import bearer
from watchdog.ingest.heartbeat import Heartbeats
from watchdog.ingest.origins import ASKED, Origins
from watchdog.ingest.problems import Problem
from watchdog.ingest.websocket_protocol import EXTENSION, Ended
from watchdog.ingest.wire import Header, Message, Receive, Scope, Send, read_head

PATH = "/v1/ws"

SUBPROTOCOL = "watchdog.v1"

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
        self._heartbeats = heartbeats
        self._tear = tear
        self._counters = counters
        self._ttl_s = ttl_s
        self._number = number
        self._origins = origins or Origins()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one socket until its end."""
        await receive()
        problem = self._wrong(scope)
        if problem is not None:
            await _refuse(send, problem)
            return
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
        authorization = read_head(scope["headers"]).authorization
        token = bearer(authorization.decode("latin-1")) if authorization else None
        socket = _Socket(self._heartbeats, self._counters, token, self._heartbeats.address(scope), self._number())
        scope["extensions"][EXTENSION]["connection"].forget_handshake()
        self._counters.sockets += 1
        ended = Ended.CLOSED
        try:
            ended = await self._carry(socket, scope, receive, send)
        except Exception:
            await _close(send, 1011)
            raise
        finally:
            self._counters.sockets -= 1
            self._counters.sockets_ended[ended] += 1

    def _wrong(self, scope: Scope) -> Problem | None:
        asked = {name: value for name, value in scope["headers"] if name in ASKED}
        problem = self._origins.problem(asked, heartbeat=True)
        if problem is not None:
            return problem
        return None if SUBPROTOCOL in scope["subprotocols"] else NO_SUBPROTOCOL

    async def _carry(self, socket: _Socket, scope: Scope, receive: Receive, send: Send) -> Ended:
        try:
            async with asyncio.timeout(FIRST_S) as first:
                while True:
                    message = await receive()
                    if message["type"] == "websocket.disconnect":
                        return self._end(socket, scope)
                    answer = await socket.answer(_read(message))
                    if socket.session_id is not None:
                        first.reschedule(None)
                    if answer.status == HTTPStatus.NO_CONTENT:
                        await _close(send, 1000)
                        return Ended.BYE
                    await send({"type": "websocket.send", "text": _text(answer)})
        except TimeoutError:
            await _close(send, 1008, f"no hello within {FIRST_S:g} s")
            return Ended.REFUSED
        except OSError:
            # It ended while the message was answered.
            return self._end(socket, scope)

    def _end(self, socket: _Socket, scope: Scope) -> Ended:
        connection = scope["extensions"][EXTENSION]["connection"]
        ended = Ended(connection.ended)
        if ended is Ended.REFUSED and connection.code in _REJECTED:
            self._counters.rejected[_REJECTED[connection.code]] += 1
        if ended is Ended.TORN and socket.session_id is not None:
            self._tear(Tear(socket.session_id, socket.number, self._ttl_s))
        return ended


class _Socket:
    """What is known of one socket.

    Attributes:
        number: Its own.
        session_id: The session that it carries; None before the first hello that was taken.
    """

    def __init__(
        self, heartbeats: Heartbeats, counters: Counters, token: str | None, address: str, number: int
    ) -> None:
        self.number = number
        self.session_id: bytes | None = None
        self._heartbeats = heartbeats
        self._counters = counters
        self._token = token
        self._address = address

    async def answer(self, body: bytes) -> Answer:
        beat = self._heartbeats.admit(body, self._token, self._address, self.number)
        if not isinstance(beat, Answer):
            beat = self._misplaced(beat) or beat
        answer = beat if isinstance(beat, Answer) else await self._heartbeats.settled(self._heartbeats.take(beat))
        if answer.reason is not None:
            self._counters.rejected[answer.reason] += 1
        elif isinstance(beat, Beat):
            self.session_id = beat.session_id
        return answer

    def _misplaced(self, beat: Beat) -> Answer | None:
        if self.session_id is None:
            return None if beat.type is BeatType.HELLO else NO_HELLO
        return None if beat.session_id == self.session_id else ANOTHER


def _read(message: Message) -> bytes:
    text: str | None = message.get("text")
    data: bytes = message.get("bytes") or b""
    return data if text is None else text.encode()


def _text(answer: Answer) -> str:
    """The answer as a message: a problem with a time to come again has it as `next_ms`, for want of a header."""
    after = dict(answer.headers).get(b"retry-after")
    if after is None:
        return answer.body.decode()
    return orjson.dumps({**orjson.loads(answer.body), "next_ms": int(after) * 1000}).decode()


async def _close(send: Send, code: int, reason: str = "") -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        await send({"type": "websocket.close", "code": code, "reason": reason})


async def _refuse(send: Send, problem: Problem) -> None:
    """Answers the handshake with a problem."""
    start = {"type": "websocket.http.response.start", "status": problem.status, "headers": [*PROBLEM_HEADERS]}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": problem.body()})
