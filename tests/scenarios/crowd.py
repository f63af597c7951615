"""Many agents who beat, each as a page does, on one event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.scenarios.harness import INSTANCE, TOKEN, new_session

if TYPE_CHECKING:
    from collections.abc import Iterable


class Answer(NamedTuple):
    """What became of one request: `status` is 0 when there was no answer; times are monotonic."""

    user: str
    status: int
    begun: float
    ended: float
    retry_after: str | None


class Crowd:
    """Agents who are there until they leave in silence.

    Attributes:
        answers: Of all requests, in order of their end.
        patience_s: For how long an answer is waited for.
    """

    def __init__(
        self,
        port: int,
        users: Iterable[str],
        *,
        interval_s: float = 1.0,
        patience_s: float = 2.0,
        token: str = TOKEN,
        with_ticket: bool = False,
        reloads: bool = False,
    ) -> None:
        """Takes the agents.

        Args:
            port: Where they send to, on this machine.
            users: Their ids.
            interval_s: Between beats.
            patience_s: See above.
            token: Sent with each beat.
            with_ticket: Each beat carries the last ticket, too.
            reloads: Each beat is a new page's: the last session falls silent without a bye.
        """
        self.answers: list[Answer] = []
        self.patience_s = patience_s
        self.token = token
        self._port = port
        self._sessions = dict.fromkeys(users, "")
        self._sessions.update((user, new_session()) for user in self._sessions)
        self._interval_s = interval_s
        self._with_ticket = with_ticket
        self._reloads = reloads
        self._tickets: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join()

    def leave(self, user: str) -> None:
        """The agent is not heard of any more."""
        asyncio.run_coroutine_threadsafe(self._leave(user), self._loop).result()

    def since(self, begun: float) -> list[Answer]:
        """Answers to requests sent at that time or later."""
        return [answer for answer in list(self.answers) if answer.begun >= begun]

    def heard(self, after: float) -> set[str]:
        """Who had a 200 after that time."""
        return {answer.user for answer in list(self.answers) if answer.status == 200 and answer.ended > after}

    def _run(self) -> None:
        self._loop.run_until_complete(self._all())
        self._loop.close()

    async def _all(self) -> None:
        self._tasks = {user: asyncio.create_task(self._agent(user)) for user in self._sessions}
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _end(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def _leave(self, user: str) -> None:
        self._tasks[user].cancel()
        await asyncio.wait([self._tasks[user]])

    async def _agent(self, user: str) -> None:
        # Not all at once: pages are opened at different times.
        await asyncio.sleep(hash(user) % 1000 / 1000 * self._interval_s)
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                begun = time.monotonic()
                status, retry_after = 0, None
                try:
                    async with asyncio.timeout(self.patience_s):
                        if connection is None:
                            connection = await asyncio.open_connection("127.0.0.1", self._port)
                        status, retry_after, keep = await self._beat(user, *connection)
                except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
                    keep = False
                self.answers.append(Answer(user, status, begun, time.monotonic(), retry_after))
                if not keep and connection is not None:
                    connection[1].close()
                    connection = None
                pause = self._interval_s if status == 200 else float(retry_after or 0.3)
                await asyncio.sleep(max(0.0, begun + pause - time.monotonic()) if status == 200 else pause)
        finally:
            if connection is not None:
                connection[1].close()
                with contextlib.suppress(OSError):
                    await connection[1].wait_closed()

    async def _beat(
        self, user: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, str | None, bool]:
        if self._reloads:
            self._sessions[user] = new_session()
        fields = {"instance_id": INSTANCE, "user_id": user, "session_id": self._sessions[user]}
        if self._with_ticket and user in self._tickets:
            fields["ticket"] = self._tickets[user]
        body = json.dumps(fields).encode()
        writer.write(
            b"POST /v1/heartbeat HTTP/1.1\r\nhost: watchdog\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer %s\r\ncontent-length: %d\r\n\r\n" % (self.token.encode(), len(body)) + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        status = int(head.split(" ")[1])
        if status == 200:
            self._tickets[user] = json.loads(content).get("ticket", "")
        return status, headers.get("retry-after"), headers.get("connection") != "close"
