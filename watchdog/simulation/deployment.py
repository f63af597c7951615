"""Several machines with a daemon each, over one modelled Valkey server, behind a load balancer."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import orjson

from watchdog.connect.api import Instance
from watchdog.core.model import Action, AgentId, Instant
from watchdog.errors import StoreUnavailable
from watchdog.ingest.buffer import Buffer
from watchdog.ingest.sorted_buffer import Divided, SortedBuffer
from watchdog.sandbox.direct import DirectConnect
from watchdog.simulation.client import VirtualConnect, Watcher
from watchdog.simulation.hearing_of_many import HearingOfMany
from watchdog.simulation.host import Host
from watchdog.simulation.journal import Journal
from watchdog.simulation.loop import spawn
from watchdog.simulation.network import Answered
from watchdog.simulation.plan import Replicas
from watchdog.simulation.process import Process, Timers
from watchdog.simulation.valkey import Connection, VirtualValkey, Way
from watchdog.stores.base import DaemonStore, StoreRules
from watchdog.stores.part_reads import PartReads
from watchdog.stores.part_rows import part_of
from watchdog.stores.replica import ReplicaStore

CHECK_S = 2.0
FALL = 3
"""The balancer looks so often at each daemon, and leaves one alone after so many failures. As deploy/compose."""

UNSTORED_S = 4.0
"""Of a process that is killed, what it has accepted so lately may not have been stored: a flush, and its attempts."""

REMEMBERED_S = 90.0
"""For so long a machine remembers what its process has accepted: longer than any stop or cut."""

ROUNDING_S = 1e-6

REWRITTEN_S = 1.0
"""So long after the server lost something a write may be sent that was confirmed before: 250 ms, and a busy machine."""


class ReplicaProcess(Process):
    """A process whose store is one of several over the server."""

    def __init__(self, number: int, around: Machine) -> None:
        super().__init__(number, around)
        self.connection: Connection | None = None
        self._machine = around

    def _make(self, name: str, rules: StoreRules) -> DaemonStore:
        self.connection = Connection(self._machine.way, self._point)
        time = asyncio.get_running_loop().time
        return ReplicaStore(self.connection, rules, name, self._machine.shards, passed=time, clock=time)

    def _made_buffer(self, store: DaemonStore) -> Buffer:
        return SortedBuffer(cast("Divided", store), self._around.now, self._ran)

    async def _flush_last(self, buffer: Buffer) -> None:
        """The loop waits for none of the others."""
        with contextlib.suppress(StoreUnavailable):
            await buffer.flush()

    def _cut_off(self) -> None:
        if self.connection is not None:
            self.connection.dead = True

    async def _abandon(self) -> None:
        """Nothing of a dead process reaches the server, and all its tasks have ended."""


class Machine(Host):
    """One machine.

    Attributes:
        way: To the server.
        shards: In how many parts the agents are.
        failed: Checks of the balancer in a row that failed.
    """

    def __init__(self, of: Deployment, index: int, way: Way, made: Callable[[], dict[str, Any]]) -> None:
        super().__init__(**made())
        self.way = way
        self.shards = of.plan.shards
        self.failed = 0
        self.cut = 0
        self._of = of
        self._index = index
        self._booted_at -= 1_000.0 * index
        self._accepted: deque[tuple[float, str, str]] = deque()
        self._silent_at = math.inf
        self._known = False

    @property
    def hearing_of_many(self) -> HearingOfMany:
        """Heard time of the deployment."""
        return self._of.hearing

    def now(self) -> Instant:
        """See `Surroundings.now`. Each machine has boots of its own."""
        boot, epoch, boot_id = super().now()
        return Instant(boot, epoch, f"{self._index}-{boot_id}")

    def connect(self, point: Callable[[str], None]) -> VirtualConnect:
        """See `Surroundings.connect`."""
        assert self.process is not None  # noqa: S101 - it is the one who asks
        watcher = _Sender(self._of, self.watcher, self.process)
        return VirtualConnect(self._direct, rng=self.rng, now=self.now, point=point, watcher=watcher)

    def heard(self, body: bytes, answer: Answered) -> None:
        """See `Surroundings.heard`."""
        now = self._time()
        said = orjson.loads(body)
        self._accepted.append((now, said["user_id"], said["session_id"]))
        while self._accepted[0][0] < now - REMEMBERED_S:
            self._accepted.popleft()
        super().heard(body, answer)

    def _next_number(self) -> int:
        self._of.processes += 1
        return self._of.processes

    def _made(self, number: int) -> Process:
        # Who begins cut off is in nobody's register until it is joined.
        self._known = not self.cut
        if self._known:
            self._of.hearing.came(number, self._time())
        self._silent_at = self._time() if self.cut else math.inf
        self._accepted.clear()
        return ReplicaProcess(number, self)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.process is not None and not self.process.owner.paused:
            self._journal.add(f"process {self._number} paused")
            self.process.pause()
            self._fell_silent()

    def resume(self) -> None:
        """SIGCONT."""
        if self.process is not None and self.process.owner.paused:
            self._journal.add(f"process {self._number} resumed")
            self.process.resume()
            self._heard_again()

    def partition(self, *, cut: bool) -> None:
        """The server cannot be reached from here, or again. Calls nest."""
        self._journal.add(f"machine {self._index} {'cut off from' if cut else 'joined to'} the server")
        self.cut += 1 if cut else -1
        self.way.cut = self.cut
        if cut:
            self._fell_silent()
        else:
            self._heard_again()

    def check(self) -> None:
        """The balancer's look at the daemon."""
        process = self.process
        well = process is not None and not process.owner.paused and process.ready
        self.failed = 0 if well else self.failed + 1

    def _fell_silent(self) -> None:
        if self.process is not None and self._known:
            now = self._time()
            self._of.hearing.fell_silent(self._number, now)
            if self._silent_at == math.inf:
                self._silent_at = now
                self._look_dropped(self._number, now)
            # Whoever has its parts next finds what it was about to do.
            self.watcher.ended()

    def _look_dropped(self, number: int, since: float) -> None:
        """Once the others go on without it, what it has accepted and not handed on comes too late, if ever."""
        if number != self._number or since != self._silent_at:
            return
        now = self._time()
        left_s = since + self.timers.resume_grace - 2 * self.timers.sweep - now
        if left_s < ROUNDING_S or self._of.hearing.spent(now):
            self._tell_lost(since)
        else:
            loop, nobody = asyncio.get_running_loop(), contextvars.Context()
            loop.call_later(min(left_s, self.timers.sweep), self._look_dropped, number, since, context=nobody)

    def _tell_lost(self, since: float) -> None:
        since -= UNSTORED_S
        self._of.lost([each for each in self._accepted if each[0] >= since], since)

    def _heard_again(self) -> None:
        if self.process is not None and not self.process.owner.paused and not self.cut:
            self._known = True
            self._of.hearing.came(self._number, self._time())
            self._silent_at = math.inf

    def _gone(self) -> Process | None:
        process, self.process = self.process, None
        if process is None:
            return None
        now = self._time()
        if process.left or not process.listening:
            self._of.hearing.left(self._number, now, sure=process.left)
        else:
            self._of.hearing.fell_silent(self._number, now, dead=True)
        if not process.left:
            self._tell_lost(min(now, self._silent_at))
        self.watcher.ended()
        return process


class Deployment:
    """See the module. Stands where a single `Host` does.

    Attributes:
        plan: How it was drawn.
        hearing: Heard time.
        server: The Valkey server.
        machines: All that there may be; some have no process.
        processes: How many have been started.
        lost_at: When the server last lost something.
    """

    def __init__(
        self,
        plan: Replicas,
        folder: Path,
        direct: DirectConnect,
        *,
        timers: Timers,
        instances: list[Instance],
        rng: random.Random,
        journal: Journal,
        watcher: Watcher,
        heard: Callable[[bytes, Answered], None],
        lost: Callable[[Sequence[tuple[float, str, str]], float], None],
    ) -> None:
        """Machines on which nothing runs yet.

        Args:
            plan: How many, and the server's clock.
            folder: See `Host`.
            direct: See `Host`.
            timers: See `Host`.
            instances: See `Host`.
            rng: See `Host`.
            journal: See `Host`.
            watcher: See `Host`.
            heard: See `Host`.
            lost: Told what a dead process may have accepted in vain: when, of whom, of which session; and since when.
        """
        self.plan = plan
        self.hearing = HearingOfMany(timers.resume_grace, timers.sweep)
        self.server = VirtualValkey(offset_s=plan.offset_s, drift=plan.drift)
        self.processes = 0
        self.lost_at = -math.inf
        self.lost = lost
        self.journal = journal
        self.instance_id = instances[0].instance_id
        self._rng = rng
        self._sticky: dict[str, Machine] = {}
        self.machines = [
            Machine(
                self,
                index,
                Way(self.server, rng),
                lambda: {
                    "folder": folder,
                    "direct": direct,
                    "timers": timers,
                    "instances": instances,
                    "rng": rng,
                    "journal": journal,
                    "watcher": watcher,
                    "heard": heard,
                },
            )
            for index in range(plan.machines)
        ]
        for machine in self.machines:
            machine.hearing = self.hearing
        spawn(self._check())

    # As a host.

    def start(self) -> None:
        """All that should run do."""
        for machine in self.machines[: max(self.plan.daemons, 1)]:
            machine.start()

    async def stop(self) -> None:
        """SIGTERM to all; returns when they have ended."""
        await asyncio.gather(*(machine.stop() for machine in self.machines))

    async def order(self, *, hold: bool, for_s: float) -> bool:
        """See `Host.order`. Of any of them."""
        running = self.running
        return bool(running) and await self._rng.choice(running).order(hold=hold, for_s=for_s)

    def accept(self, body: bytes) -> asyncio.Future[Answered | None] | None:
        """See `network.Host`. One session in two keeps to its daemon, as a WebSocket does."""
        session_id = orjson.loads(body)["session_id"]
        rotation = [machine for machine in self.machines if machine.failed < FALL]
        self._rng.shuffle(rotation)
        kept = self._sticky.get(session_id)
        if kept in rotation:
            rotation.remove(kept)
            rotation.insert(0, kept)
        for machine in rotation:
            waiting = machine.accept(body)
            if waiting is not None:
                if crc32(session_id.encode()) % 2:
                    self._sticky[session_id] = machine
                return waiting
        return None

    async def history(self) -> list[Action]:
        """All actions."""
        connection = Connection(Way(self.server, self._rng), lambda _: None)
        return await PartReads(connection, self.plan.shards).actions(None, None, None, None, 1_000_000)

    # What befalls it.

    @property
    def running(self) -> list[Machine]:
        """Those that have a process."""
        return [machine for machine in self.machines if machine.process is not None]

    def owner(self, agent: AgentId) -> str:
        """Whose an agent's part is, as the server knows."""
        return self.server.owner(part_of(agent, self.plan.shards))

    def owners(self) -> list[str]:
        """Whose each part is, as the server knows."""
        return [self.server.owner(number) for number in range(self.plan.shards)]

    def disturbed_since(self, at: float) -> bool:
        """The server does not answer, or has lost something since."""
        return self.server.stopped or self.server.down > 0 or self.lost_at > at

    def data_lost(self) -> None:
        """The server has lost something."""
        self.lost_at = asyncio.get_running_loop().time()
        self.hearing.forgot(self.lost_at)

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            for machine in self.machines:
                machine.check()


class _Sender:
    """Judges whether who writes to an agent has its part. See `Watcher`."""

    def __init__(self, of: Deployment, watcher: Watcher, process: Process) -> None:
        self._of = of
        self._watcher = watcher
        self._process = process
        self.ended = watcher.ended
        self.took_effect = watcher.took_effect
        self.recorded = watcher.recorded

    def sent(self, user_id: str, status_id: str) -> None:
        """See `Watcher.sent`."""
        self._judge(user_id)
        self._watcher.sent(user_id, status_id)

    def signing_out(self, user_id: str) -> None:
        """See `Watcher.signing_out`."""
        self._judge(user_id)
        self._watcher.signing_out(user_id)

    def _judge(self, user_id: str) -> None:
        of, name = self._of, self._process.name
        owner = of.owner(AgentId(of.instance_id, user_id))
        if owner != name and asyncio.get_running_loop().time() > of.lost_at + REWRITTEN_S:
            of.journal.violate("claim", f"written to by {name}, and its part is {owner or 'nobody'}'s", user_id)
