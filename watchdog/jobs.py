"""What follows the wall clock: listing the directory, pruning the history, reconciling, and the dead man's ping."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from watchdog.connect.directory import Directory
from watchdog.connect.reconcile import Reconciler
from watchdog.core.model import Epoch, Instant
from watchdog.errors import NotAnswered, StoreUnavailable
from watchdog.health import Health
from watchdog.outgoing import Caller
from watchdog.settings import Settings
from watchdog.stores.base import DaemonStore

LISTING_S = 300.0
"""Between listings of statuses and profiles; they change a few times a year."""

LISTING_RETRY_S = 15.0
"""The same while a listing has failed: until the first one succeeds nobody can be set."""

PRUNE_S = 3600.0

ROOM_S = 15.0
"""Between looks at the memory of the store's server. What comes meanwhile is little: see `stores.base.FULL`."""

DEADMAN_S = 60.0
DEADMAN_TIMEOUT_S = 10.0
RECONCILE_S = 60.0

DAY_S = 86_400.0

log = structlog.stdlib.get_logger(__name__)


class Jobs:
    """The jobs and what they need."""

    def __init__(
        self,
        settings: Settings,
        store: DaemonStore,
        directory: Directory,
        health: Health,
        now: Callable[[], Instant],
        reconciler: Reconciler | None = None,
    ) -> None:
        """Takes the parts.

        Args:
            settings: HISTORY_DAYS and DEADMAN_URL.
            store: Pruned, and its server's memory looked at.
            directory: Listed.
            health: Asked whether all is well.
            now: The machine's clocks.
            reconciler: Run every minute; None with RECONCILE=off.
        """
        self._settings = settings
        self._store = store
        self._directory = directory
        self._health = health
        self._now = now
        self._reconciler = reconciler

    def scheduler(self) -> AsyncIOScheduler:
        """A scheduler with all jobs that has not been started. No job is skipped for being late, none overlaps itself.

        Source: APScheduler 3, `misfire_grace_time`: by default a job that is a second late is not run at all.
        """
        scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )
        jobs: list[tuple[Callable[[], Coroutine[Any, Any, None]], float]] = [
            (self.list_directory, LISTING_S),
            (self.list_again, LISTING_RETRY_S),
            (self.prune, PRUNE_S),
        ]
        if self._settings.store_address is not None:
            jobs.append((self.make_room, ROOM_S))
        if self._reconciler is not None:
            jobs.append((self.reconcile, RECONCILE_S))
        if self._settings.deadman_url is not None:
            jobs.append((self.ping, DEADMAN_S))
        for job, interval_s in jobs:
            scheduler.add_job(_stoppable(job), "interval", seconds=interval_s)
        return scheduler

    async def list_directory(self) -> None:
        """Lists statuses and routing profiles of all instances."""
        await self._directory.refresh()

    async def list_again(self) -> None:
        """Lists those sooner of which the last listing failed; the first one is the start's."""
        await self._directory.refresh_failed()

    async def prune(self) -> None:
        """Forgets what is older than HISTORY_DAYS."""
        before = Epoch(self._now().epoch - self._settings.history_days * DAY_S)
        try:
            pruned = await self._store.prune(before)
        except StoreUnavailable as error:
            log.warning("store.prune_failed", reason=str(error))
            return
        if pruned:
            log.info("store.pruned", rows=pruned)

    async def make_room(self) -> None:
        """Looks at the memory of the store's server, and shortens the history where it is nearly full."""
        try:
            found = await self._store.make_room()
        except StoreUnavailable as error:
            log.debug("store.memory_unseen", reason=str(error))
            return
        self._health.memory_seen(found)
        if found.dropped:
            log.warning("store.history_shortened", actions=found.dropped, memory_ratio=round(found.share or 0.0, 3))

    async def reconcile(self) -> None:
        """Looks for agents whom nobody has seen; never of a time in which nobody could be heard."""
        clock = self._health.clock
        if self._reconciler is None or clock is None or clock.standing is not None:
            return
        if self._health.store_fault is None:
            await self._reconciler.run(clock.observed)

    async def ping(self) -> None:
        """Tells the dead man's switch that all is well; its silence is the alarm."""
        url = self._settings.deadman_url
        if url is None or not self._health.well():
            return
        caller = Caller(DEADMAN_TIMEOUT_S, keep=False)
        try:
            answer = await caller.ask("GET", url.get_secret_value())
        except NotAnswered as error:
            log.warning("deadman.failed", error=str(error))
        else:
            if not 200 <= answer.status < 300:  # noqa: PLR2004  # RFC 9110, section 15.3
                log.warning("deadman.failed", error=f"The answer has the status {answer.status}.")
        finally:
            await caller.close()


def _stoppable(job: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Coroutine[Any, Any, None]]:
    """The job, which ends in silence when the scheduler stops: it would be logged as an error, with a traceback."""

    @wraps(job)
    async def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await job()

    return run
