"""The client for programs with threads: the asynchronous one in a thread of its own, and a second one for callbacks."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from watchdog.client.asynchronous import CLOSE_S, AsyncPresenceClient, Token, logger
from watchdog.client.model import Notice, OnNotice, OnStatus, State, Status, Transport, Visibility

SPARE_S = 0.25
"""For the threads to end, beyond what a bye may take."""


class PresenceClient:
    """Tells that an agent is there, from the beginning of `with` to its end.

    Heartbeats go on whatever the other threads do. It never raises for what the network or the daemon does: `status`
    and the log `watchdog.client` tell. All methods may be called in any thread.

    Attributes:
        session_id: A UUID, new for each client.
    """

    def __init__(
        self,
        url: str,
        agent: str | None = None,
        *,
        instance_id: str | None = None,
        user_id: str | None = None,
        token: Token | None = None,
        login: bool | None = None,
        visibility: Visibility | None = None,
        transport: Transport = "auto",
        on_status: OnStatus | None = None,
        on_notice: OnNotice | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Takes the agent; nothing is sent yet.

        Args:
            url: The daemon's address.
            agent: The agent's ARN, or INSTANCE-ID/USER-ID.
            instance_id: In place of `agent`, with `user_id`.
            user_id: In place of `agent`, with `instance_id`.
            token: A heartbeat token; or a function that gives one, in a thread of its own: asked at the start, and
                after each 401.
            login: The agent's Connect session is up; None where nobody knows.
            visibility: Of what the agent looks at; None where there is no such thing.
            transport: `auto` or `post`.
            on_status: Called at each change of the status, in a thread for callbacks, one at a time.
            on_notice: Called once for each notice, in the same way.
            ssl_context: For https; by default that of httpx.

        Raises:
            ValueError: The agent, the address or the transport is none.
        """
        self._client = AsyncPresenceClient(
            url,
            agent,
            instance_id=instance_id,
            user_id=user_id,
            token=token,
            login=login,
            visibility=visibility,
            transport=transport,
            on_status=self._told,
            on_notice=lambda notice: self._calls.put((on_notice, notice)),
            ssl_context=ssl_context,
        )
        self.session_id = self._client.session_id
        self._calls: queue.SimpleQueue[tuple[Callable[[Any], object] | None, Status | Notice] | None]
        self._calls = queue.SimpleQueue()
        self._on_status = on_status
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._beating = threading.Thread(target=self._beat, name="watchdog-presence", daemon=True)
        self._calling = threading.Thread(target=self._call, name="watchdog-callbacks", daemon=True)

    @property
    def status(self) -> Status:
        """How the session is."""
        return self._client.status

    def __enter__(self) -> Self:
        """The first hello is about to be sent."""
        if self._loop is not None:
            raise RuntimeError("A client is one session: take a new one.")
        self._loop = asyncio.new_event_loop()
        self._calling.start()
        self._beating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The bye is said, or 2 s are over."""
        self.close()

    def close(self) -> None:
        """Says bye, and ends. Takes little more than 2 s at most; a second call does nothing."""
        end = time.monotonic() + CLOSE_S + SPARE_S
        self._ask(self._stop.set)
        for thread in (self._beating, self._calling):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))

    def kick(self) -> None:
        """Beats at once, if nothing is under way: say so when the network is back, or a person is."""
        self._ask(self._client.kick)

    def resume(self) -> None:
        """Says hello again after `stopped`: call it when the agent has signed in again."""
        self._ask(self._client.resume)

    def set(self, *, visibility: Visibility | None = None, login: bool | None = None) -> None:
        """Changes what heartbeats tell, from the next one on; None leaves it as it is."""
        self._ask(lambda: self._client.set(visibility=visibility, login=login))

    def wait_until_live(self, timeout_s: float | None = None) -> bool:
        """Waits until the session has a lease.

        Args:
            timeout_s: The longest wait; None for any.

        Returns:
            Whether it has one. False also for a client that was closed meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._client.status.state in {State.LIVE, State.ENDED}, timeout_s)
        return self._client.status.state is State.LIVE

    def _ask(self, what: Callable[[], object]) -> None:
        """Has it done in the thread of the heartbeats; nothing before its beginning and after its end."""
        loop = self._loop
        if loop is None or not self._beating.is_alive():
            return
        try:
            loop.call_soon_threadsafe(what)
        except RuntimeError:  # it has just ended
            return

    def _beat(self) -> None:
        loop = self._loop
        if loop is None:
            return
        try:
            loop.run_until_complete(self._live())
        except Exception:  # noqa: BLE001  # it is told, and there is nobody above
            logger.exception("the presence ended by a fault")
        finally:
            self._calls.put(None)
            # Nobody waits for what an executor still does, e.g. for a name that is looked up.
            loop.close()

    async def _live(self) -> None:
        async with self._client:
            await self._stop.wait()

    def _told(self, status: Status) -> None:
        self._calls.put((self._on_status, status))
        with self._changed:
            self._changed.notify_all()

    def _call(self) -> None:
        """Calls back, so that a callback may take its time."""
        while (item := self._calls.get()) is not None:
            call, what = item
            if call is None:
                continue
            try:
                call(what)
            except Exception:  # noqa: BLE001  # it is the user's, and harms nothing
                logger.exception("a callback failed")
