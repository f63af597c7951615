"""The loops that decide: the flush and the sweep. Monotonic, one step at a time, and never stopped by the store."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from watchdog.canary import Canary
from watchdog.connect.dispatcher import Dispatcher
from watchdog.core.brake import HOLDS, State
from watchdog.core.clock import Cause, Clock
from watchdog.core.holds import BrakeChange, HoldView
from watchdog.core.model import Instant
from watchdog.errors import NotHandedOn, StoreUnavailable
from watchdog.garbage import Settled
from watchdog.health import Health
from watchdog.ingest.buffer import Buffer
from watchdog.ingest.connections import Connections
from watchdog.stores.base import Store
from watchdog.telemetry.metrics import Metrics

FLUSH_S = 0.2
"""Between flushes: what a crash may lose of beats that were answered at once."""

SWEEP_S = 0.25
"""Between ticks of the clock: most of the detection lag."""

COUNT_S = 1.0
"""Between counts of all agents for the metrics."""

PULSE_S = 0.1
"""Between looks at the clock that tell whether the process runs."""

MAX_PULSE_S = 0.3
"""Most that one look counts: whoever is later than that did not run."""

log = structlog.stdlib.get_logger(__name__)


class RunningTime:
    """Time in which this process ran, in seconds: what it was stopped or starved for is left out.

    Ages are measured with it, so that a process which was stopped does not blame the disk for what waited meanwhile.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        """Begins at the loop's time `time`, which goes on while the process is stopped."""
        self._time = time
        self._looked_at = self._counted = time()

    def __call__(self) -> float:
        """Now. Never goes back."""
        return self._counted + min(MAX_PULSE_S, self._time() - self._looked_at)

    async def pulse(self) -> None:
        """Looks at the clock; to be called every `PULSE_S`."""
        self._counted, self._looked_at = self(), self._time()


class Loops:
    """The steps of the flush and of the sweep, and what repeats them."""

    def __init__(
        self,
        owner: str,
        *,
        store: Store,
        buffer: Buffer,
        dispatcher: Dispatcher,
        health: Health,
        metrics: Metrics,
        now: Callable[[], Instant],
        canary: Canary | None = None,
        connections: Connections | None = None,
        tell: Callable[[BrakeChange, HoldView], None] | None = None,
        alive: Callable[[], None] | None = None,
    ) -> None:
        """Takes the parts.

        Args:
            owner: Name of this process in claims.
            store: Ticked by the sweep.
            buffer: Flushed by both loops.
            dispatcher: Given who is due.
            health: Told how it goes.
            metrics: Told the numbers.
            now: The machine's clocks.
            canary: Asked whether anybody can be heard; None trusts the way from outside.
            connections: Asked whether somebody was turned away; None where nobody is.
            tell: Told each change of the brake; must not block.
            alive: Told that the sweep is tried, whatever comes of it; must not block.
        """
        self._owner = owner
        self._store = store
        self._buffer = buffer
        self._dispatcher = dispatcher
        self._health = health
        self._metrics = metrics
        self._now = now
        self._canary = canary
        self._connections = connections
        self._tell = tell
        self._alive = alive
        self._counted_at = 0.0
        self._settled = Settled()
        self._ticked_at: Instant | None = None

    async def every(self, interval_s: float, step: Callable[[], Awaitable[None]], going: asyncio.Event) -> None:
        """Runs a step again and again while `going` is set, at fixed times; missed ones are not made up for."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        while going.is_set():
            await step()
            at = max(at + interval_s, loop.time())
            await asyncio.sleep(at - loop.time())
            self._metrics.loop_lag.observe(max(0.0, loop.time() - at))

    async def flush(self) -> None:
        """Applies the heartbeats that wait."""
        try:
            await self._buffer.flush_own()
        except StoreUnavailable as error:
            self._store_answered(error)

    async def sweep(self) -> None:
        """One tick: flushes, advances the clock, and hands over who is due."""
        self._health.sweeping()
        if self._alive is not None:
            self._alive()
        blind: Cause | None = None
        failed = False
        try:
            await self._buffer.flush()
        except StoreUnavailable as error:
            blind, failed = Cause.STORE, not isinstance(error, NotHandedOn)
        if blind is None and self._canary is not None:
            blind = self._canary.blind()
        if blind is None and self._connections is not None and self._connections.full:
            blind = Cause.CONNECTIONS
        instant, before = self._now(), self._ticked_at
        self._ticked_at = instant
        try:
            tick = await self._store.tick(self._owner, instant, blind)
        except StoreUnavailable as error:
            if before is not None:
                self._metrics.clock_stopped(Cause.STORE, max(0.0, instant.boot - before.boot))
            self._store_answered(error)
            return
        if not failed:
            self._store_answered(None)
        if tick.missed_s > 0:
            self._metrics.clock_stopped(Cause.RESTART, tick.missed_s)
        if tick.stopped_s > 0 and tick.clock.standing is not None:
            self._metrics.clock_stopped(tick.clock.standing, tick.stopped_s)
        self._tell_clock(tick.clock)
        self._health.backlog = self._metrics.backlog = tick.backlog
        self._health.brake = self._health.explained(tick.brake)
        self._metrics.brake_held = tick.brake.held
        for change in tick.changes:
            hold = self._health.explained_hold(change.hold)
            _tell_brake(change, hold)
            if self._tell is not None:
                self._tell(change, hold)
        self._dispatcher.offer(tick)
        await self._count()

    def _store_answered(self, error: Exception | None) -> None:
        if self._health.store_answered(error):
            if error is None:
                log.info("store.back")
            else:
                log.error("store.unavailable", reason=str(error))

    def _tell_clock(self, clock: Clock) -> None:
        before = self._health.clock
        self._health.clock = clock
        if before is not None and before.standing is clock.standing:
            return
        if clock.standing is None:
            log.info("clock.running")
        else:
            log.warning("clock.standing", cause=clock.standing.value, grace_left_s=round(clock.grace_s, 3))

    async def _count(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._counted_at >= COUNT_S:
            self._counted_at = now
            counts = await self._store.counts()
            self._metrics.counted(counts.agents, counts.sessions)
            self._settled.count(sum(counts.agents.values()))


def _tell_brake(change: BrakeChange, hold: HoldView) -> None:
    """One event for each group that holds, has stopped to, or needs a person."""
    numbers: dict[str, str | float] = {
        "group": hold.group,
        "state": change.after.value,
        "reason": hold.reason,
        "why": hold.why,
        "agents": hold.agents,
        "age_s": hold.age_s,
        "proof": hold.proof,
    }
    if change.after in HOLDS:
        numbers["next_step"] = hold.next_step
    if change.after is State.ALARM:
        log.error("brake.alarm", **numbers)
    elif change.after in HOLDS:
        log.warning("brake.tripped", **numbers)
    elif change.before in HOLDS or change.after is State.OVERRULED:
        log.warning("brake.released", **numbers)
    else:
        log.info("brake.clear", group=hold.group)
