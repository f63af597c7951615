"""The store's disk in virtual time: a real SQLite file, one writer, a latency, failures, moments to be killed at."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from watchdog.errors import StoreUnavailable
from watchdog.stores.batch import Batch
from watchdog.stores.disk import InlineDisk


@dataclass(slots=True)
class DiskWeather:
    """How the disk does.

    Attributes:
        failing: Writes fail, as on a full disk.
        slow_s: Most that a commit takes.
        kept_waiting: Is told from when to when somebody may have waited for commits.
    """

    failing: int = 0
    slow_s: float = 0.003
    kept_waiting: Callable[[float, float], None] = lambda _begin, _end: None


class VirtualDisk(InlineDisk):
    """Commits in the order in which batches came, and jointly what waits, as the real writer thread does."""

    def __init__(self, path: Path, weather: DiskWeather, rng: random.Random, point: Callable[[str], None]) -> None:
        """Opens the file.

        Args:
            path: The file.
            weather: How the disk does.
            rng: Of the latency.
            point: Is told where the writer is; there the process may be killed.
        """
        super().__init__(path)
        self.dead = False
        self._weather = weather
        self._rng = rng
        self._point = point
        self._jobs: list[tuple[Batch, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def write(self, batch: Batch) -> None:
        """See `Disk.write`."""
        if self.dead:
            raise StoreUnavailable("The process is dead.")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.append((batch, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        # A caller that is cancelled must not mark a batch as failed that is being written.
        await asyncio.shield(done)

    async def close(self) -> None:
        """See `Disk.close`."""
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)
        await super().close()

    async def _write_all(self) -> None:
        time = asyncio.get_running_loop().time
        before = begun = time()
        try:
            while self._jobs:
                await asyncio.sleep(self._rng.random() * self._weather.slow_s)
                jobs, self._jobs = self._jobs, []
                failure = await self._commit([batch for batch, _ in jobs])
                # Who comes during a commit waits for the next one, too.
                self._weather.kept_waiting(before, time())
                before, begun = begun, time()
                for _, done in jobs:
                    if done.done():
                        continue
                    if failure is None:
                        done.set_result(None)
                    else:
                        done.set_exception(StoreUnavailable(str(failure)))
                        done.exception()  # whoever waits may have been cancelled
        finally:
            self._writer = None

    async def _commit(self, batches: list[Batch]) -> StoreUnavailable | None:
        self._point("disk.before")
        if self.dead or self._weather.failing:
            return StoreUnavailable("The disk is full.")
        joined = Batch(sync=any(batch.sync for batch in batches))
        for batch in batches:
            joined.statements.extend(batch.statements)
        try:
            await super().write(joined)
        except StoreUnavailable as error:
            return error
        self._point("disk.synced" if joined.sync else "disk.after")
        return None
