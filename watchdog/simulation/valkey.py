"""A Valkey server in virtual time, and one daemon's way to it: latency, loss, cuts, a server that stands or loses data.

A command that was sent goes on when its caller is killed. One that is lost, before or after it was applied, is answered
by nothing but a time-out; where the connection was cut the caller asks once more, as the daemon's own client does.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from watchdog.errors import StoreUnavailable
from watchdog.simulation.clocks import START
from watchdog.simulation.loop import spawn
from watchdog.simulation.valkey_model import ValkeyModel

if TYPE_CHECKING:
    from watchdog.stores.valkey_server import Call

Result = TypeVar("Result")

ANSWER_S = 2.0
"""Longest wait for an answer, as in the daemon."""

LATENCY_S = 0.002
"""Most that a command takes each way, as long as nothing slows it."""


class VirtualValkey:
    """The server.

    Attributes:
        model: What it keeps.
        down: It accepts no connection.
        away: Lists that are on a node of a cluster that is away: who asks for one hears nothing.
    """

    def __init__(self, *, offset_s: float, drift: float) -> None:
        """Empty, and running.

        Args:
            offset_s: By how much its clock is ahead of the wall clock at second 0.
            drift: By what part it goes faster.
        """
        self.offset_s = offset_s
        self.down = 0
        self.away: set[str] = set()
        self.model = ValkeyModel(self.now_ms, self._wake)
        self._drift = drift
        self._stopped: list[Callable[[], None]] | None = None
        self._waiting: dict[bytes, list[asyncio.Future[None]]] = {}

    def now_ms(self) -> int:
        """Its TIME."""
        return int((START + self.offset_s + asyncio.get_running_loop().time() * (1 + self._drift)) * 1000)

    @property
    def stopped(self) -> bool:
        """It does not answer."""
        return self._stopped is not None

    def stop(self) -> None:
        """SIGSTOP: what is sent to it waits."""
        self._stopped = []

    def go_on(self) -> None:
        """SIGCONT: what has waited is done in its order."""
        waiting, self._stopped = self._stopped or [], None
        for each in waiting:
            each()

    def when_running(self, do: Callable[[], None]) -> None:
        """Does something at once, or as soon as it runs."""
        if self._stopped is None:
            do()
        else:
            self._stopped.append(do)

    async def turn(self) -> None:
        """Waits until it runs."""
        running: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.when_running(partial(_resolve_now, running))
        await running

    def pushed(self, key: str) -> asyncio.Future[None]:
        """Is done when a list has got a message."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key.encode(), []).append(waiter)
        return waiter

    def _wake(self, key: bytes) -> None:
        for waiter in self._waiting.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)

    def owner(self, number: int) -> str:
        """Whose a part is by what the server knows; empty for nobody's."""
        found = self.model.read(("HMGET", f"{{wd:{number}}}:part", "owner", "until"))
        if found[0] is None or int(found[1]) <= self.now_ms():
            return ""
        return str(found[0].decode())


class Way:
    """The way from one machine to the server.

    Attributes:
        cut: Nothing passes.
        slow_s: Added to each direction, at most.
        lost: Part of the commands that are lost, half of them after they were applied.
        torn: Part of the commands with which the connection is cut, after some of them were applied.
    """

    def __init__(self, server: VirtualValkey, rng: random.Random) -> None:
        self.server = server
        self.cut = 0
        self.slow_s = 0.0
        self.lost = 0.0
        self.torn = 0.0
        self.rng = rng


class Connection:
    """One process' connections. See `watchdog.stores.part_reads.Server`.

    Attributes:
        dead: The process is; nothing is sent any more.
    """

    def __init__(self, way: Way, point: Callable[[str], None]) -> None:
        """Connects to nothing yet.

        Args:
            way: To the server.
            point: Is told where a call is; there the process may be killed.
        """
        self.dead = False
        self._way = way
        self._point = point

    def __str__(self) -> str:
        return "valkey://simulated"

    async def open(self) -> None:
        """See `Server.open`."""
        await self.read()

    async def close(self) -> None:
        """See `Server.close`."""

    async def call(self, calls: Sequence[Call]) -> list[list[bytes]]:
        """See `Server.call`."""
        model = self._way.server.model
        if not calls:
            return []
        self._point("call.before")
        if any(key in self._way.server.away for _, keys, _ in calls for key in keys):
            await _unheard()
        found: list[list[bytes]] = await self._ask(
            [partial(model.call, name, keys, args) for name, keys, args in calls]
        )
        self._point("call.applied")
        self._point(f"call.{calls[0][0]}")
        if calls[0][0] == "tokens" and "PutUserStatus" in calls[0][1][0]:
            self._point("call.tokens.put")
        return found

    async def read(self, *commands: Sequence[str | int | float]) -> list[Any]:
        """See `Server.read`."""
        model = self._way.server.model
        return await self._ask([partial(model.read, command) for command in commands])

    async def look(self) -> str:
        """See `Server.look`. It drops nothing."""
        return ""

    async def memory_share(self, key: str) -> float | None:
        """See `Server.memory_share`. Nothing limits it."""
        del key
        return None

    async def pop(self, key: str, wait_s: float) -> bytes | None:
        """See `Server.pop`."""
        return await self._answered(self._popped(key, min(wait_s, ANSWER_S / 2)))

    async def _popped(self, key: str, wait_s: float) -> bytes | None:
        way, loop = self._way, asyncio.get_running_loop()
        await self._pass()
        if key in way.server.away:
            await _unheard()
        until, found = loop.time() + wait_s, None
        while not self.dead:
            await way.server.turn()
            found = way.server.model.pop(key)
            if found is not None or loop.time() >= until:
                break
            await asyncio.wait([way.server.pushed(key)], timeout=until - loop.time())
        await self._pass()
        return found

    async def _ask(self, commands: Sequence[Callable[[], Any]]) -> list[Any]:
        rng, torn = self._way.rng, self._way.torn
        if torn and rng.random() < torn:
            # Some ran, then the connection was cut: all are sent again, once.
            await self._sent(commands[: rng.randint(0, len(commands))])
        return await self._sent(commands)

    async def _sent(self, commands: Sequence[Callable[[], Any]]) -> list[Any]:
        """Sends commands. By callbacks, since most of a world's turns are these."""
        if self.dead:
            raise StoreUnavailable("The process is dead.")
        way, loop = self._way, asyncio.get_running_loop()
        answered: asyncio.Future[list[Any]] = loop.create_future()
        nobody = contextvars.Context()
        lost = way.rng.random() if way.lost else 1.0

        def passes() -> bool:
            if way.server.down and not way.cut and not answered.done():
                answered.set_exception(StoreUnavailable("It cannot be reached."))
            return not (way.server.down or way.cut)

        def arrive() -> None:
            if passes() and lost >= way.lost / 2:
                way.server.when_running(apply)

        def apply() -> None:
            found = [command() for command in commands]
            if lost >= way.lost:
                loop.call_later(self._delay(), back, found, context=nobody)

        def back(found: list[Any]) -> None:
            if passes() and not answered.done():
                answered.set_result(found)

        loop.call_later(self._delay(), arrive, context=nobody)
        timer = loop.call_later(ANSWER_S, _too_late, answered)
        try:
            return await answered
        finally:
            timer.cancel()

    def _delay(self) -> float:
        """Of one direction, in seconds."""
        return self._way.rng.random() * (LATENCY_S + self._way.slow_s)

    async def _pass(self) -> None:
        """One direction."""
        await asyncio.sleep(self._delay())
        if self._way.cut:
            await _never()
        if self._way.server.down:
            raise StoreUnavailable("It cannot be reached.")

    async def _answered(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self.dead:
            work.close()
            raise StoreUnavailable("The process is dead.")
        sent = spawn(work)
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Result] = loop.create_future()
        sent.add_done_callback(lambda done: _resolve(answered, done))
        timer = loop.call_later(ANSWER_S, _too_late, answered)
        try:
            return await answered
        finally:
            timer.cancel()


async def _unheard() -> None:
    await asyncio.sleep(ANSWER_S)
    raise StoreUnavailable(f"It has not answered in {ANSWER_S:g} s.")


async def _never() -> None:
    """Whoever waits hears nothing, and has given up when this ends."""
    await asyncio.sleep(2 * ANSWER_S)
    raise StoreUnavailable("Lost.")


def _resolve(answered: asyncio.Future[Any], done: asyncio.Task[Any]) -> None:
    if done.cancelled():
        return
    error = done.exception()
    if answered.done():
        return
    if error is not None:
        answered.set_exception(error)
    else:
        answered.set_result(done.result())


def _too_late(answered: asyncio.Future[Any]) -> None:
    if not answered.done():
        answered.set_exception(StoreUnavailable(f"It has not answered in {ANSWER_S:g} s."))


def _resolve_now(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
