"""Threads for calls that block: a bounded pool for each account, region and operation.

Calls that hang keep nobody waiting but those of the same operation, account and region.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from typing import Any, TypeVar

T = TypeVar("T")


class Lanes:
    """The pools. A thread is started when it is first needed."""

    def __init__(self, threads: int) -> None:
        """Starts without any.

        Args:
            threads: Most calls at a time of each operation in each scope.
        """
        self._threads = threads
        self._pools: dict[tuple[str, str], ThreadPoolExecutor] = {}
        self._running: set[Future[Any]] = set()

    @property
    def running(self) -> int:
        """Calls that have not ended, those whose caller was cancelled included."""
        return len(self._running)

    async def run(self, scope: str, operation: str, work: Callable[[], T]) -> T:
        """Does the work in a thread. When the caller is cancelled it goes on."""
        pool = self._pools.get((scope, operation))
        if pool is None:
            name = f"connect {scope} {operation}"
            pool = self._pools[scope, operation] = ThreadPoolExecutor(self._threads, thread_name_prefix=name)
        future = pool.submit(work)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(future)

    async def close(self, timeout_s: float) -> bool:
        """Waits for calls that are still running; calls that have not begun are dropped.

        Returns:
            Whether all have ended. If not, their threads end with their time-outs.
        """
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        left = tuple(self._running)
        if left:
            # Not in our own pools: they take no more work.
            await asyncio.to_thread(wait_for_futures, left, timeout_s)
        return not self._running
