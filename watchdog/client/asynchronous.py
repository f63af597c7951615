"""The client for programs with an event loop: carries out what the protocol commands, with httpx and websockets."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import random
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from watchdog.client.model import (
    Notice,
    OnNotice,
    OnStatus,
    State,
    Status,
    Transport,
    Visibility,
    endpoints,
    identify,
)
from watchdog.client.protocol import (
    Answer,
    AskToken,
    Command,
    Dial,
    GiveUp,
    HangUp,
    Moment,
    Post,
    Presence,
    Send,
    Tell,
    read_json,
    retry_after_s,
)

logger = logging.getLogger("watchdog.client")

socket_logger = logging.getLogger("watchdog.client.socket")
# Below that, websockets logs what is sent: tokens and tickets.
socket_logger.setLevel(logging.INFO)

T = TypeVar("T")

Token = str | Callable[[], str | Awaitable[str | None] | None]
"""A heartbeat token, or what gives one. A function that blocks runs in a thread of its own."""

CLOSE_S = 2.0
"""Closing takes no longer, whatever has become of the network."""

SOCKET_BYE_S = 1.0
"""For so long the daemon may take over a bye by WebSocket; then it is posted."""

TOKEN_S = 30.0
"""A token that is not there after this is none."""

MOST_REPLY = 16384
"""Bytes of a reply by WebSocket; a real one has about 300."""

END_S = 0.1
"""What is still going on has so long to end, once it was told to."""

KEEP_ALIVE_S = 60.0
"""A connection is kept from one heartbeat to the next; one that was closed meanwhile is noticed before it is used."""


class AsyncPresenceClient:
    """Tells that an agent is there, from the beginning of `async with` to its end.

    It never raises for what the network or the daemon does: `status` and the log `watchdog.client` tell.

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
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Takes the agent; nothing is sent yet.

        Args:
            url: The daemon's address.
            agent: The agent's ARN, or INSTANCE-ID/USER-ID.
            instance_id: In place of `agent`, with `user_id`.
            user_id: In place of `agent`, with `instance_id`.
            token: A heartbeat token; or a function, also an asynchronous one, that gives one: asked at the start, and
                after each 401.
            login: The agent's Connect session is up; None where nobody knows.
            visibility: Of what the agent looks at; None where there is no such thing.
            transport: `auto` or `post`.
            on_status: Called at each change of the status, in the loop; may be asynchronous.
            on_notice: Called once for each notice, in the same way.
            ssl_context: For https; by default that of httpx.
            http: A client to send with, for programs with many agents; it stays open. Its `verify` is for POSTs,
                `ssl_context` for WebSockets.

        Raises:
            ValueError: The agent, the address or the transport is none.
        """
        who = identify(agent, instance_id, user_id)
        if transport not in {"auto", "post"}:
            raise ValueError("`transport` takes auto or post.")
        self.session_id = str(uuid4())
        self._post_url, self._socket_url = endpoints(url)
        self._ask = token if callable(token) else None
        self._on_status = on_status
        self._on_notice = on_notice
        self._ssl_context = ssl_context
        if ssl_context is None and self._post_url.startswith("https:"):
            self._ssl_context = httpx.create_ssl_context()
        self._owned = http is None
        # The protocol has the time-outs.
        self._http = http or httpx.AsyncClient(
            timeout=None,  # noqa: S113  # see above
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_S),
            verify=True if self._ssl_context is None else self._ssl_context,
        )
        self._core = Presence(
            who,
            self.session_id,
            chance=random.random,
            token=token if isinstance(token, str) else None,
            asks=callable(token),
            sockets=transport == "auto",
            visibility=visibility,
            login=login,
        )
        self._posts: dict[int, asyncio.Task[None]] = {}
        self._dialling: dict[int, asyncio.Task[None]] = {}
        self._sockets: dict[int, ClientConnection] = {}
        self._others: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._changed: asyncio.Event | None = None
        self._closed = False

    # What the user calls.

    @property
    def status(self) -> Status:
        """How the session is."""
        return self._core.status

    async def __aenter__(self) -> Self:
        """The first hello is on its way."""
        if self._changed is not None:
            raise RuntimeError("A client is one session: take a new one.")
        self._changed = asyncio.Event()
        self._step(self._core.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The bye is said, or 2 s are over."""
        await self.aclose()

    async def aclose(self) -> None:
        """Says bye, and ends. Takes 2 s at most; a second call does nothing."""
        if self._closed or self._changed is None:
            return
        self._closed = True
        socket = self._sockets.get(self._core.socket or 0) if self._core.connected else None
        body = self._core.bye()
        self._step()
        for task in self._posts.values():
            task.cancel()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    if body is not None and not (socket and await self._said_bye(socket, body)):
                        await self._send(body)
        finally:
            await self._end()

    async def _end(self) -> None:
        """Nothing is open and nothing runs any more, but what calls this."""
        for socket in self._sockets.values():
            socket.transport.abort()
        tasks = {*self._posts.values(), *self._dialling.values(), *self._others} - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=END_S)
        if self._owned:
            await self._http.aclose()

    def kick(self) -> None:
        """Beats at once, if nothing is under way: say so when the network is back, or a person is."""
        self._step(self._core.kick)

    def resume(self) -> None:
        """Says hello again after `stopped`: call it when the agent has signed in again."""
        self._step(self._core.resume)

    def set(self, *, visibility: Visibility | None = None, login: bool | None = None) -> None:
        """Changes what heartbeats tell, from the next one on; None leaves it as it is."""
        changes = {"visibility": visibility, "login": login}
        self._core.set(**{name: value for name, value in changes.items() if value is not None})

    async def wait_until_live(self, timeout_s: float | None = None) -> bool:
        """Waits until the session has a lease.

        Args:
            timeout_s: The longest wait; None for any.

        Returns:
            Whether it has one. False also for a client that was closed meanwhile.
        """
        if self._changed is None:
            raise RuntimeError("The client is not open: use it with `async with`.")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.status.state not in {State.LIVE, State.ENDED}:
                    self._changed.clear()
                    await self._changed.wait()
        return self.status.state is State.LIVE

    # What drives the protocol.

    def _step(self, event: Callable[..., None] | None = None, *values: object) -> None:
        """Gives the protocol an event, and carries out what it says."""
        loop = asyncio.get_running_loop()
        if event is not None and self._changed is not None:
            event(*values, Moment(loop.time(), time.time()))
        for command in self._core.take():
            self._carry_out(command)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._core.wake_at_s < math.inf:
            self._timer = loop.call_at(self._core.wake_at_s, self._step, self._core.tick)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Post(number, body):
                post = self._posts[number] = asyncio.create_task(self._post(number, body))
                post.add_done_callback(lambda _: self._posts.pop(number))
            case GiveUp(number):
                if number in self._posts:
                    self._posts[number].cancel()
            case Dial(socket):
                dial = self._dialling[socket] = asyncio.create_task(self._carry(socket))
                dial.add_done_callback(lambda _: self._dialling.pop(socket))
            case Send(socket, body):
                self._spawn(self._send_by(socket, body))
            case HangUp(socket):
                if socket in self._dialling:
                    self._dialling[socket].cancel()
            case AskToken():
                self._spawn(self._get_token())
            case Tell(what):
                self._tell(what)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)

    async def _send(self, body: str) -> Answer | None:
        """Posts a message. None: there was no answer."""
        try:
            reply = await self._http.post(
                self._post_url, content=body, headers={"content-type": "application/json"}, timeout=None
            )
        except Exception as error:  # noqa: BLE001  # whatever it is, the next heartbeat is due
            logger.debug("post failed: %s", error)
            return None
        return Answer(reply.status_code, read_json(reply.content), retry_after_s(reply.headers.get("retry-after")))

    async def _post(self, number: int, body: str) -> None:
        self._step(self._core.answered, number, await self._send(body))

    async def _carry(self, socket: int) -> None:
        """Opens a socket and reads from it until it closes."""
        try:
            async with connect(
                self._socket_url,
                subprotocols=[Subprotocol("watchdog.v1")],
                ssl=self._ssl_context,
                compression=None,
                ping_interval=None,  # the beats are what has to be answered
                max_size=MOST_REPLY,
                logger=socket_logger,
                close_timeout=SOCKET_BYE_S,
            ) as connection:
                self._sockets[socket] = connection
                self._step(self._core.opened, socket)
                async for text in connection:
                    self._step(self._core.received, socket, text if isinstance(text, str) else "")
        except Exception as error:  # noqa: BLE001  # heartbeats go by POST
            logger.debug("socket ended: %s", error)
        finally:
            self._sockets.pop(socket, None)
        self._step(self._core.closed, socket)

    async def _send_by(self, socket: int, body: str) -> None:
        # That of a socket that closes meanwhile is heard of by `closed`.
        with contextlib.suppress(Exception):
            await self._sockets[socket].send(body)

    async def _said_bye(self, socket: ClientConnection, body: str) -> bool:
        """Says bye over the socket, which the daemon then closes."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(SOCKET_BYE_S):
                await socket.send(body)
                await socket.wait_closed()
                return socket.protocol.close_rcvd is not None and socket.protocol.close_rcvd.code == 1000  # noqa: PLR2004
        return False

    async def _get_token(self) -> None:
        ask = self._ask
        token = None
        try:
            if ask is not None:
                async with asyncio.timeout(TOKEN_S):
                    found = await ask() if inspect.iscoroutinefunction(ask) else await in_thread(ask)
                    found = await found if inspect.isawaitable(found) else found
                    token = found if isinstance(found, str) else None
        except Exception:
            logger.exception("the token callback failed")
        self._step(self._core.given, token)

    def _tell(self, what: Status | Notice) -> None:
        if isinstance(what, Status):
            if what.detail:
                logger.warning("heartbeat refused: %s", what.detail)
            if self._changed is not None:
                self._changed.set()
        call: Callable[[Any], object] | None = self._on_status if isinstance(what, Status) else self._on_notice
        if call is None:
            return
        try:
            result = call(what)
        except Exception:
            logger.exception("a callback failed")
            return
        if inspect.isawaitable(result):
            self._spawn(self._finish(result))

    async def _finish(self, result: Awaitable[object]) -> None:
        try:
            await result
        except Exception:
            logger.exception("a callback failed")


async def in_thread(call: Callable[[], T]) -> T | None:
    """Calls in a thread of its own, which nobody waits for at the end of the program, unlike those of an executor.

    None if it fails, which is logged.
    """
    loop = asyncio.get_running_loop()
    returned: asyncio.Future[T | None] = loop.create_future()

    def settle(result: T | None) -> None:
        if not returned.done():
            returned.set_result(result)

    def run() -> None:
        result = None
        try:
            result = call()
        except Exception:
            logger.exception("the token callback failed")
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=run, name="watchdog-token", daemon=True).start()
    return await returned
