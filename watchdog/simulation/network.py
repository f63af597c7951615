"""Between pages and the daemon: loss, delay, partitions, one-way loss, errors of a balancer, black holes, replays.

A request is carried by a task of its own, which goes on when its client has given up. What the network lets through
is told to the account; what became of it inside the daemon is not the network's business.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from watchdog.simulation.loop import spawn

KILLED = 0
"""Status of a request with which its process ended in hand: nobody knows whether it was applied."""


@dataclass(slots=True)
class Path:
    """A part of the way: an agent's own, a site's, or everyone's.

    Attributes:
        down: Nothing passes; the client notices only by its time-out.
        one_way: Requests pass, answers do not.
        loss: Probability that a request is lost; the same again for its answer.
        slow_s: Added to each direction.
    """

    down: int = 0
    one_way: int = 0
    loss: float = 0.0
    slow_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP answer; `took_s` is how long the process had the request."""

    status: int
    body: bytes
    retry_after_s: float = 0.0
    took_s: float = 0.0


class Host(Protocol):
    """The machine that the daemon runs on."""

    def accept(self, body: bytes) -> asyncio.Future[Answered | None] | None:
        """Gives the request to the process that listens, if there is one. None when it ends before."""


@dataclass(slots=True)
class Front:
    """The balancer in front of the daemon.

    Attributes:
        errors: Part of the requests that it answers with 502 itself.
        hole: It accepts and never answers.
    """

    errors: float = 0.0
    hole: int = 0


@dataclass(slots=True)
class Route:
    """The parts of one page's way, how late a request comes in addition, and who is told when it is let through."""

    paths: tuple[Path, ...]
    late_s: float = 0.0
    passed: Callable[[], None] = field(default=lambda: None)


class Network:
    """Carries requests."""

    def __init__(self, host: Host, rng: random.Random) -> None:
        """Joins the pages to a host.

        Args:
            host: Where requests go.
            rng: All chance of the network.
        """
        self.all = Path()
        self.front = Front()
        self._host = host
        self._rng = rng

    def ask(self, route: Route, body: bytes, timeout_s: float) -> asyncio.Future[Answered | None]:
        """Sends a request. Its answer; None: no answer in time, or no connection."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answered | None] = loop.create_future()
        self.post(route, body, answered)
        timer = loop.call_later(timeout_s, _resolve, answered, None)
        answered.add_done_callback(lambda _: timer.cancel())
        return answered

    def post(self, route: Route, body: bytes, answered: asyncio.Future[Answered | None] | None = None) -> None:
        """Sends a request and does not wait for its answer."""
        spawn(self._carry(route, body, answered))

    async def _carry(self, route: Route, body: bytes, answered: asyncio.Future[Answered | None] | None) -> None:
        paths = (self.all, *route.paths)
        if await self._lost(paths, route.late_s):
            return
        if self.front.hole:
            return
        if self.front.errors and self._rng.random() < self.front.errors:
            reply: Answered | None = Answered(502, b"")
        else:
            route.passed()
            waiting = self._host.accept(body)
            reply = None if waiting is None else await waiting
        if await self._lost(paths) or any(path.one_way for path in paths):
            return
        if answered is not None:
            _resolve(answered, reply)

    async def _lost(self, paths: tuple[Path, ...], late_s: float = 0.0) -> bool:
        """One direction. Returns whether it was lost."""
        await asyncio.sleep(late_s + 0.005 + self._rng.expovariate(50.0) + sum(path.slow_s for path in paths))
        if any(path.down for path in paths):
            return True
        loss = max(path.loss for path in paths)
        return loss > 0 and self._rng.random() < loss


def _resolve(answered: asyncio.Future[Answered | None], reply: Answered | None) -> None:
    if not answered.done():
        answered.set_result(reply)
