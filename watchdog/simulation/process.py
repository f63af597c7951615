"""One process of the daemon in virtual time: the real parts, put together and run as the daemon does, and its end.

An orderly stop does what the daemon does on SIGTERM. A kill ends everything where it is: what the disk has committed
survives, the memory and the buffer are lost, and a call that was sent goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from watchdog.connect import directory
from watchdog.connect.api import Instance
from watchdog.connect.dispatcher import Dispatcher, DispatcherConfig
from watchdog.core.brake import ALL, BrakeRules
from watchdog.core.clock import ClockRules
from watchdog.core.messages import LeaseRules
from watchdog.core.model import Action, Instant
from watchdog.core.policy import plain
from watchdog.core.quota import QuotaRules
from watchdog.errors import StoreLocked, StoreUnavailable
from watchdog.health import Health
from watchdog.ingest.answers import Rejection
from watchdog.ingest.arrivals import Arrivals
from watchdog.ingest.auth import AuthMode, Gate, Tickets, Tokens
from watchdog.ingest.buffer import Buffer
from watchdog.ingest.heartbeat import ONE, HeartbeatRules, Heartbeats
from watchdog.ingest.wire import Message
from watchdog.loops import FLUSH_S, SWEEP_S, Loops
from watchdog.settings import Settings
from watchdog.simulation.client import VirtualConnect, Watcher
from watchdog.simulation.disk import DiskWeather, VirtualDisk
from watchdog.simulation.loop import Owner, spawn
from watchdog.simulation.network import KILLED, Answered
from watchdog.stores.base import DaemonStore, StoreRules
from watchdog.stores.replica import ReplicaStore
from watchdog.stores.sqlite import SqliteStore
from watchdog.telemetry.metrics import Metrics

DRAIN_S = 4.0
REFRESH_S = 300.0
MOST_AGENTS = 1_000_000
"""As in the daemon: how long a stop waits for what is under way, and between two listings of statuses."""

JSON = [(b"content-type", b"application/json")]


@dataclass(frozen=True, slots=True)
class Timers:
    """The settings that a world varies, in seconds; see the variables of the same names.

    Attributes:
        flush: Between flushes of the buffer.
        sweep: Between ticks.
        brake: When silence counts as a fault; None: never.
        witness: Activity in Connect counts as a heartbeat.
        initial: What who returns by a new page is set to; None: nothing.
        log_out: Sessions in Connect are ended, too.
    """

    session_end_timer: float = 5.0
    heartbeat_interval: float = 10.0
    session_ttl: float = 35.0
    throttled_session_ttl: float = 150.0
    resume_grace: float = 30.0
    flush: float = FLUSH_S
    sweep: float = SWEEP_S
    brake: BrakeRules | None = None
    witness: bool = True
    initial: str | None = None
    log_out: bool = False
    quota: QuotaRules = field(default_factory=lambda: QuotaRules(2.0, 5.0, 0.8))


class Surroundings(Protocol):
    """What a process finds: the file, the weather, the clocks, Connect, and who watches."""

    path: Path
    disk: DiskWeather
    rng: random.Random
    watcher: Watcher
    timers: Timers
    instances: list[Instance]

    def now(self) -> Instant:
        """The machine's clocks."""

    def connect(self, point: Callable[[str], None]) -> VirtualConnect:
        """A client of Amazon Connect."""

    def point(self, name: str) -> None:
        """Told where the process is, to kill it there."""

    def heard(self, body: bytes, answer: Answered) -> None:
        """Told what the process answered to a request."""

    def recorded(self, action: Action) -> None:
        """Told each action."""


class Process:
    """Made, started, and ended by `stop` or `kill`; never used again then.

    Attributes:
        listening: Requests are accepted.
        dead: Nothing of it runs any more, or is to be answered.
        left: It has stopped in order, and nothing that it had accepted is lost.
        name: As the store and the dispatcher know it, as soon as its store is open.
    """

    def __init__(self, number: int, around: Surroundings) -> None:
        self.listening = False
        self.dead = False
        self.left = False
        self.name = ""
        self.owner = Owner()
        self._number = number
        self._around = around
        self._paused_at = self._paused_s = 0.0
        self._disk: VirtualDisk | None = None
        self._store: DaemonStore | None = None
        self._health: Health | None = None
        self._ended = asyncio.Event()
        self._stopping = asyncio.Event()
        self._flushing, self._sweeping = asyncio.Event(), asyncio.Event()
        self._requests: dict[asyncio.Task[None], tuple[bytes, asyncio.Future[Answered | None]]] = {}

    def start(self) -> None:
        """Starts it; it listens when its store is open."""
        spawn(self._run(), self.owner)

    def pause(self) -> None:
        """SIGSTOP."""
        self._paused_at = asyncio.get_running_loop().time()
        self.owner.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._paused_s += asyncio.get_running_loop().time() - self._paused_at
        self.owner.resume()

    def _ran(self) -> float:
        """As the daemon's own `RunningTime`: it stands while the process is stopped."""
        return asyncio.get_running_loop().time() - self._paused_s

    def accept(self, body: bytes) -> asyncio.Future[Answered | None]:
        """A request has arrived at the socket. None: the connection was torn by the process's end."""
        answered: asyncio.Future[Answered | None] = asyncio.get_running_loop().create_future()
        task = spawn(self._answer(body, answered), self.owner)
        self._requests[task] = body, answered
        task.add_done_callback(lambda done: self._requests.pop(done, None))
        return answered

    async def order(self, *, hold: bool, for_s: float) -> bool:
        """An operator holds or releases everybody. Returns whether the order is certainly in force."""
        if self._store is None or self.dead:
            return False
        order = self._store.order(ALL, hold=hold, for_s=for_s, reason="", instant=self._around.now())
        task = spawn(order, self.owner)
        await asyncio.wait([task])
        return not task.cancelled() and task.exception() is None

    async def stop(self) -> None:
        """SIGTERM; returns when it has ended."""
        self._stopping.set()
        await self._ended.wait()

    async def kill(self) -> None:
        """SIGKILL, at this moment."""
        self.dead = True
        self.listening = False
        self._cut_off()
        for body, answered in list(self._requests.values()):
            if not answered.done():
                answered.set_result(None)
                self._around.heard(body, Answered(KILLED, b""))
        self.owner.resume()
        while self.owner.tasks:
            tasks = list(self.owner.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._abandon()
        self._ended.set()

    @property
    def ready(self) -> bool:
        """What `/readyz` answers."""
        return self.listening and self._health is not None and self._health.ready() is None

    def _make(self, name: str, rules: StoreRules) -> DaemonStore:
        """The store of a process of that name."""
        del name
        return SqliteStore(self._around.path, rules, self._open_disk)

    def _made_buffer(self, store: DaemonStore) -> Buffer:
        """The buffer before the store."""
        return Buffer(store, self._around.now, self._ran)

    async def _flush_last(self, buffer: Buffer) -> None:
        """All is stored by the loop's last flush."""

    def _cut_off(self) -> None:
        """Nothing is stored any more."""
        if self._disk is not None:
            self._disk.dead = True

    async def _abandon(self) -> None:
        """Lets go what the process had of the store."""
        if self._store is not None:
            await self._store.close()

    def _open_disk(self, path: Path) -> VirtualDisk:
        self._disk = VirtualDisk(path, self._around.disk, self._around.rng, self._point)
        return self._disk

    def _point(self, name: str) -> None:
        if not self.dead:
            self._around.point(name)

    async def _answer(self, body: bytes, answered: asyncio.Future[Answered | None]) -> None:
        status, parts, after, begun = 0, b"", 0.0, asyncio.get_running_loop().time()

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            nonlocal status, parts, after
            if message["type"] == "http.response.start":
                status = message["status"]
                after = next((float(value) for name, value in message["headers"] if name == b"retry-after"), 0.0)
            else:
                parts += message["body"]

        await self._heartbeats({"path": ONE, "method": "POST", "headers": JSON}, receive, send)
        if not self.dead:
            answer = Answered(status, parts, after, asyncio.get_running_loop().time() - begun)
            self._around.heard(body, answer)
            if not answered.done():
                answered.set_result(answer)

    async def _run(self) -> None:
        around, timers = self._around, self._around.timers
        listings = directory.quotas(timers.quota.share)
        rules = StoreRules(
            timers.session_end_timer,
            ClockRules(timers.resume_grace, timers.heartbeat_interval),
            timers.quota,
            listings,
            brake=timers.brake,
            instances=frozenset(instance.instance_id for instance in around.instances),
            greets=timers.initial is not None,
            longest_ttl_s=timers.throttled_session_ttl,
        )
        name = self.name = f"process-{self._number}"
        store, starts = self._make(name, rules), 1
        while True:
            try:
                await store.open(around.now())
                break
            except (StoreUnavailable, StoreLocked):
                # The supervisor starts it again.
                await asyncio.sleep(1.0)
                starts += 1
                name = self.name = f"process-{self._number}.{starts}"
                store = self._make(name, rules)
        self._store = store
        buffer = self._made_buffer(store)
        metrics = Metrics("0", rejections=Rejection)
        health = self._health = Health(
            Settings.model_construct(),
            name,
            store=store,
            buffer=buffer,
            metrics=metrics,
            now=around.now,
            time=self._ran,
        )
        dispatcher = health.dispatcher = Dispatcher(
            store,
            around.connect(self._point),
            around.instances,
            DispatcherConfig(
                owner=name,
                rules=(plain(timers.session_end_timer, initial=timers.initial, sign_out=timers.log_out),),
                quota=timers.quota,
                quotas=listings,
                witness_ttl_s=timers.session_ttl if timers.witness else None,
            ),
            now=around.now,
            random=around.rng.random,
            flush=buffer.flush,
            record=around.recorded,
            observer=_Silent(),
        )
        self._heartbeats = Heartbeats(
            store,
            buffer,
            Gate(AuthMode.NONE, Tokens([]), Tokens([]), Tickets([b"simulated"])),
            HeartbeatRules(
                frozenset(instance.instance_id for instance in around.instances),
                timers.heartbeat_interval,
                LeaseRules(timers.session_ttl, timers.throttled_session_ttl, 120.0),
                name,
            ),
            metrics,
            arrivals=Arrivals(store.newcomer, most=MOST_AGENTS, time=self._ran, epoch=lambda: around.now().epoch),
            epoch=lambda: around.now().epoch,
            time=self._ran,
            random=around.rng.random,
        )
        loops = Loops(
            name, store=store, buffer=buffer, dispatcher=dispatcher, health=health, metrics=metrics, now=around.now
        )
        self._sweeping.set()
        self._flushing.set()
        flush = asyncio.create_task(loops.every(timers.flush, loops.flush, self._flushing))
        sweep = asyncio.create_task(loops.every(timers.sweep, loops.sweep, self._sweeping))
        refresh = asyncio.create_task(_refresh(dispatcher))
        self.listening = True
        await self._stopping.wait()
        # In the order of the daemon's own stop.
        self.listening = False
        refresh.cancel()
        self._sweeping.clear()
        await sweep
        await dispatcher.drain(DRAIN_S)
        if self._requests:
            await asyncio.wait(list(self._requests), timeout=2.0)
        self._flushing.clear()
        await flush
        await self._flush_last(buffer)
        late = isinstance(store, ReplicaStore) and store.late()
        await store.close()
        self.dead, self.left = True, not late
        self._ended.set()


async def _refresh(dispatcher: Dispatcher) -> None:
    while True:
        await dispatcher.directory.refresh()
        await asyncio.sleep(REFRESH_S)


class _Silent:
    """An observer who keeps nothing. See `watchdog.connect.guard.Observer`."""

    def connect_call(self, operation: str, result: str) -> None:
        """Not kept."""

    def tokens(self, operation: str, scope: str, left: float) -> None:
        """Not kept."""

    def detection_lag(self, seconds: float) -> None:
        """Not kept."""
