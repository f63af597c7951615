"""Who gets the next token of a quota.

The bucket is in the store, shared by all who call; here is the order in which this process asks for its tokens. One
coroutine a bucket asks the store, for whoever is first in the order at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from watchdog.connect.queue import Rank, Turns
from watchdog.core import quota
from watchdog.core.model import Instant
from watchdog.core.quota import Bucket, QuotaRules
from watchdog.errors import StoreUnavailable

LEAST_WAIT_S = 0.01
"""Least time between two requests to the store: rounding must not become a busy loop."""


class TokenStore(Protocol):
    """The two methods of the store that are used here; see `Store`."""

    async def take_tokens(self, operation: str, scope: str, count: int, instant: Instant) -> float:
        """Takes tokens, or tells when to ask again."""

    async def throttled(self, operation: str, scope: str, instant: Instant) -> None:
        """Halves the rate."""


@dataclass(slots=True, eq=False)
class _Waiter:
    instance_id: str
    rank: Callable[[], Rank]
    granted: asyncio.Future[None]


@dataclass(slots=True)
class _Line:
    bucket: Bucket
    waiters: list[_Waiter] = field(default_factory=list)
    turns: Turns = field(default_factory=Turns)
    pump: asyncio.Task[None] | None = None


class Tokens:
    """Queues for the tokens of each API and scope."""

    def __init__(
        self,
        store: TokenStore,
        rules: Callable[[str], QuotaRules],
        now: Callable[[], Instant],
        left: Callable[[str, str, float], None],
    ) -> None:
        """Starts without knowing what is in the buckets.

        Args:
            store: Has the buckets.
            rules: The quota of an operation, the same as the store's; for estimates only.
            now: The machine's clocks.
            left: Is told operation, scope and the estimate of what is left.
        """
        self._store = store
        self._rules = rules
        self._now = now
        self._left = left
        self._lines: dict[tuple[str, str], _Line] = {}

    async def take(
        self, operation: str, scope: str, instance_id: str, rank: Rank, rising: Callable[[], Rank] | None = None
    ) -> None:
        """Waits for a token; the order is that of `Turns`.

        Args:
            operation: The API.
            scope: Account and region that share the quota.
            instance_id: For which instance.
            rank: The place in the queue.
            rising: Instead of it, where the place may change while it waits.

        Raises:
            StoreUnavailable: The store does not answer; no token was taken.
        """
        line = self._line(operation, scope)
        waiter = _Waiter(instance_id, rising or (lambda: rank), asyncio.get_running_loop().create_future())
        line.waiters.append(waiter)
        if line.pump is None:
            line.pump = asyncio.create_task(self._pump(line, operation, scope))
        try:
            await waiter.granted
        finally:
            if waiter in line.waiters:
                line.waiters.remove(waiter)

    async def begin(self, operation: str, scope: str) -> None:
        """Lets a bucket fill from now on: it is empty when it is first asked, and the first agent should not wait."""
        self._line(operation, scope)
        try:
            await self._store.take_tokens(operation, scope, 0, self._now())
        except StoreUnavailable:
            return

    async def throttled(self, operation: str, scope: str) -> None:
        """Passes a 429 on to the bucket. A store that is away learns it from the next one."""
        instant = self._now()
        line = self._line(operation, scope)
        line.bucket = quota.throttled(line.bucket, self._rules(operation), instant.boot)
        try:
            await self._store.throttled(operation, scope, instant)
        except StoreUnavailable:
            return

    def rate(self, operation: str, scope: str) -> float:
        """Tokens a second at present, as far as this process knows; above 0."""
        line = self._line(operation, scope)
        line.bucket = quota.refill(line.bucket, self._rules(operation), self._now().boot)
        return self._rules(operation).own_rate * line.bucket.factor

    async def close(self) -> None:
        """Stops asking. Whoever waits goes on waiting: cancel them first."""
        pumps = [line.pump for line in self._lines.values() if line.pump is not None]
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    def _line(self, operation: str, scope: str) -> _Line:
        line = self._lines.get((operation, scope))
        if line is None:
            line = self._lines[(operation, scope)] = _Line(quota.empty(self._now().boot))
        return line

    async def _pump(self, line: _Line, operation: str, scope: str) -> None:
        try:
            while line.waiters:
                wait_s = await self._store.take_tokens(operation, scope, 1, self._now())
                self._estimate(line, operation, scope, wait_s)
                if wait_s > 0:
                    await asyncio.sleep(max(LEAST_WAIT_S, wait_s))
                else:
                    self._grant(line)
        except Exception as error:  # noqa: BLE001  # whoever waits must learn of any fault, or would wait for ever
            for waiter in line.waiters:
                if not waiter.granted.done():
                    waiter.granted.set_exception(error)
            line.waiters.clear()
        finally:
            line.pump = None

    @staticmethod
    def _grant(line: _Line) -> None:
        """Gives the token to the first; when the last one has gone meanwhile, it is lost, which is the safe side."""
        waiting = [waiter for waiter in line.waiters if not waiter.granted.done()]
        if waiting:
            first = min(waiting, key=lambda waiter: line.turns.key(waiter.instance_id, waiter.rank()))
            first.granted.set_result(None)
            line.turns.serve(first.instance_id)
            # At once, not when its task runs: the pump goes on before that.
            line.waiters.remove(first)

    def _estimate(self, line: _Line, operation: str, scope: str, wait_s: float) -> None:
        rules = self._rules(operation)
        bucket = quota.refill(line.bucket, rules, self._now().boot)
        tokens = 1 - wait_s * rules.own_rate * bucket.factor if wait_s > 0 else bucket.tokens - 1
        line.bucket = Bucket(max(0.0, tokens), bucket.at, bucket.factor)
        self._left(operation, scope, line.bucket.tokens)
