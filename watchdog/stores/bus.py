"""What the daemons of a deployment ask one another, over lists on their Valkey or Redis server.

Each has an inbox; a question and its answer are one message each. So no daemon needs a way to another one, and a
question that nobody takes is forgotten by the server. Nothing here knows what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import orjson
import structlog

from watchdog.errors import StoreUnavailable
from watchdog.stores.ending import ended

if TYPE_CHECKING:
    from watchdog.stores.part_reads import Server

ANSWER_S = 1.0
"""Longest wait for an answer, and the age at which a question is not answered any more."""

KEPT_S = 5.0
"""For so long the server keeps an inbox that nobody looks into."""

POP_S = 1.0
"""Longest wait for a message before it is asked again."""

PAUSE_S = 0.2
"""Between two attempts at a server that does not answer."""

MOST_AT_ONCE = 1000
"""Questions that are worked on at a time; others are left unanswered."""

QUESTION, ANSWER = "?", "!"
"""What a message's head begins with."""

log = structlog.stdlib.get_logger(__name__)


class NotAnswered(StoreUnavailable):
    """Another daemon has not answered: it is not known what became of the question."""


class Refused(Exception):
    """Another daemon has answered that it does not do it."""


class Bus:
    """One daemon's inbox, and its questions to others."""

    def __init__(
        self,
        server: Server,
        name: str,
        answer: Callable[[str, bytes], Awaitable[bytes]],
        now_ms: Callable[[], float],
    ) -> None:
        """Looks at nothing before `run`.

        Args:
            server: Where the inboxes are.
            name: Of this daemon.
            answer: Answers a question, by what is asked and its body; raises `Refused` for what it does not do.
            now_ms: The server's time as far as this daemon knows it, in milliseconds.
        """
        self._server = server
        self._name = name
        self._answer = answer
        self._now_ms = now_ms
        self._waiting: dict[int, asyncio.Future[tuple[bool, bytes]]] = {}
        self._number = 0
        self._working: set[asyncio.Task[None]] = set()
        self._posting: set[asyncio.Task[None]] = set()

    async def ask(self, whom: str, what: str, body: bytes, timeout_s: float = ANSWER_S) -> bytes:
        """Asks another daemon.

        Raises:
            Refused: It does not do that; the text says why.
            StoreUnavailable: There was no answer in time; it may do it all the same, but not later than so.
        """
        self._number += 1
        number = self._number
        # Of whether it was done, and the answer: nobody may be left to retrieve an exception.
        answered: asyncio.Future[tuple[bool, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        head = orjson.dumps([QUESTION, number, self._name, what, timeout_s, self._now_ms()])
        until = asyncio.get_running_loop().time() + timeout_s
        try:
            # Nothing is cancelled for the time-out: a cancellation may be lost in the client of the server.
            posting = self._posted(whom, head + b"\n" + body)
            await asyncio.wait({posting}, timeout=timeout_s)
            if posting.done() and not posting.cancelled():
                posting.result()
            await asyncio.wait({answered}, timeout=max(0.0, until - asyncio.get_running_loop().time()))
            if not answered.done():
                raise NotAnswered("Another daemon of the deployment has not answered in time.")
            good, answer = answered.result()
            if not good:
                raise Refused(answer.decode(errors="replace"))
            return answer
        finally:
            del self._waiting[number]

    async def run(self) -> None:
        """Takes what comes, until it is cancelled."""
        try:
            while True:
                try:
                    message = await self._server.pop(inbox(self._name), POP_S)
                except StoreUnavailable:
                    await asyncio.sleep(PAUSE_S)
                    continue
                if message is not None:
                    self._take(message)
        finally:
            await ended([*self._working, *self._posting])

    def _take(self, message: bytes) -> None:
        try:
            self._read(message)
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            log.warning("replica.message_dropped", bytes=len(message), reason=type(error).__name__)

    def _read(self, message: bytes) -> None:
        """Does what a message says; what a later version has added to its head is left aside.

        Raises:
            ValueError, TypeError, LookupError or OverflowError: It makes no sense.
        """
        stamp, _, rest = message.partition(b" ")
        text, _, body = rest.partition(b"\n")
        stamp_ms, (kind, *head) = float(stamp), orjson.loads(text)
        if kind == ANSWER:
            number, good = head[:2]
            answered = self._waiting.get(number)
            if answered is not None and not answered.done():
                answered.set_result((bool(good), body))
        elif kind == QUESTION:
            number, sender, what, timeout_s = int(head[0]), str(head[1]), str(head[2]), float(head[3])
            # The server may have stood when it was asked, and has stamped it later. Earlier versions do not tell.
            asked_ms = min([stamp_ms, *map(float, head[4:5])])
            # Who asked has given up: what is old must not be done as if it were new.
            if self._now_ms() - asked_ms <= timeout_s * 1000 and len(self._working) < MOST_AT_ONCE:
                task = asyncio.create_task(self._work(number, sender, what, body))
                self._working.add(task)
                task.add_done_callback(self._working.discard)
        else:
            raise ValueError(kind)

    async def _work(self, number: int, sender: str, what: str, body: bytes) -> None:
        try:
            good, answer = True, await self._answer(what, body)
        except Refused as error:
            good, answer = False, str(error).encode()
        except StoreUnavailable:
            return  # not known: no answer says so
        except Exception:  # a fault of ours must not end the others
            log.exception("replica.fault", asked=what)
            return
        with contextlib.suppress(StoreUnavailable):
            await self._post(sender, orjson.dumps([ANSWER, number, good]) + b"\n" + answer)

    def _posted(self, whom: str, message: bytes) -> asyncio.Task[None]:
        task = asyncio.create_task(self._post(whom, message), name="post")
        self._posting.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, posting: asyncio.Task[None]) -> None:
        self._posting.discard(posting)
        if not posting.cancelled():
            posting.exception()  # whoever asked may not wait for it any more

    async def _post(self, whom: str, message: bytes) -> None:
        await self._server.call([("post", [inbox(whom)], [int(KEPT_S * 1000), message])])


def inbox(name: str) -> str:
    """The list in which a daemon finds what it is told."""
    return f"{{wd:to:{name}}}:inbox"
