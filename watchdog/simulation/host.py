"""The machine of the daemon: its clocks, its disk, the process that runs on it now, and what befalls them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

from watchdog.connect.api import Instance
from watchdog.core.model import Action, Boot, Epoch, Instant
from watchdog.sandbox.direct import DirectConnect
from watchdog.simulation.account import Hearing
from watchdog.simulation.client import VirtualConnect, Watcher
from watchdog.simulation.clocks import BOOTED_FOR_S, START
from watchdog.simulation.disk import DiskWeather
from watchdog.simulation.journal import Journal
from watchdog.simulation.loop import spawn
from watchdog.simulation.network import Answered
from watchdog.simulation.process import Process, Timers


class Host:
    """See the module.

    Attributes:
        jump_s: By how much the wall clock is wrong.
        hearing: Heard time.
        process: The one that runs; None while there is none.
    """

    def __init__(
        self,
        folder: Path,
        direct: DirectConnect,
        *,
        timers: Timers,
        instances: list[Instance],
        rng: random.Random,
        journal: Journal,
        watcher: Watcher,
        heard: Callable[[bytes, Answered], None],
    ) -> None:
        """A machine on which nothing runs yet.

        Args:
            folder: Where the store's file is.
            direct: Amazon Connect.
            timers: The settings.
            instances: Those that are watched.
            rng: All chance of the machine.
            journal: The transcript.
            watcher: Judges calls of Connect.
            heard: Is told each request and its answer.
        """
        self.path = folder / "watchdog.db"
        self.hearing = Hearing()
        self.disk = DiskWeather(kept_waiting=self.hearing.kept_waiting)
        self.rng = rng
        self.watcher = watcher
        self.timers = timers
        self.instances = instances
        self.jump_s = 0.0
        self.process: Process | None = None
        self._direct = direct
        self._journal = journal
        self._heard = heard
        self._armed: tuple[str, Callable[[], None] | None, int] | None = None
        self._boots = 0
        self._booted_at = -BOOTED_FOR_S
        self._number = 0

    # What a process finds.

    def now(self) -> Instant:
        """See `Surroundings.now`."""
        at = asyncio.get_running_loop().time()
        return Instant(Boot(at - self._booted_at), Epoch(START + at + self.jump_s), f"boot-{self._boots}")

    def connect(self, point: Callable[[str], None]) -> VirtualConnect:
        """See `Surroundings.connect`."""
        return VirtualConnect(self._direct, rng=self.rng, now=self.now, point=point, watcher=self.watcher)

    def point(self, name: str) -> None:
        """See `Surroundings.point`."""
        if self._armed is None or name != self._armed[0] or self.process is None:
            return
        _, then, passes = self._armed
        if passes > 0:
            self._armed = (name, then, passes - 1)
            return
        self._armed = None
        if then is not None:
            then()
            return
        self._journal.add(f"killed at {name}")
        process = self._gone()
        if process is not None:
            process.dead = True
            spawn(process.kill())
            # The task that was here does not come back.
            raise asyncio.CancelledError

    def heard(self, body: bytes, answer: Answered) -> None:
        """See `Surroundings.heard`."""
        self._heard(body, answer)

    def recorded(self, action: Action) -> None:
        """See `Surroundings.recorded`."""
        self._journal.add(f"action {action.outcome}: {action.reason}", action.agent.user_id)
        self.watcher.recorded(action)

    # What the network finds.

    def accept(self, body: bytes) -> asyncio.Future[Answered | None] | None:
        """See `network.Host`."""
        if self.process is None or not self.process.listening:
            return None
        return self.process.accept(body)

    # What befalls it.

    def start(self) -> None:
        """Starts a process, unless one runs."""
        if self.process is not None:
            return
        self._number = self._next_number()
        self._journal.add(f"process {self._number} starts")
        self.process = self._made(self._number)
        self.process.start()
        self.hearing.up(self._time(), up=True)

    def _next_number(self) -> int:
        return self._number + 1

    def _made(self, number: int) -> Process:
        return Process(number, self)

    async def kill(self) -> None:
        """SIGKILL now."""
        process = self._gone()
        if process is not None:
            self._journal.add("killed")
            await process.kill()

    def kill_at(self, point: str, passes: int = 0) -> None:
        """SIGKILL when it comes to a point of `faults.POINTS`, after so many times that it goes on."""
        self._armed = (point, None, passes)

    def at(self, point: str, then: Callable[[], None]) -> None:
        """Has something happen when it comes to a point; it goes on."""
        self._armed = (point, then, 0)

    async def stop(self) -> None:
        """SIGTERM; returns when the process has ended, after 30 s it is killed."""
        process = self.process
        if process is None:
            return
        self._journal.add("asked to stop")
        try:
            async with asyncio.timeout(30.0):
                await process.stop()
        except TimeoutError:
            await self.kill()
        else:
            self._gone()

    def slow(self, seconds: float) -> None:
        """From now on a commit takes up to so long."""
        self.disk.slow_s = seconds
        self.hearing.unsteady(self._time())

    async def order(self, *, hold: bool, for_s: float) -> bool:
        """An operator holds or releases everybody. Returns whether the order is certainly in force."""
        self._journal.add(f"operator {'holds' if hold else 'releases'} for {for_s:.0f} s")
        return self.process is not None and await self.process.order(hold=hold, for_s=for_s)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.process is not None and not self.process.owner.paused:
            self._journal.add("paused")
            self.process.pause()
            self.hearing.paused(self._time(), paused=True)

    def resume(self) -> None:
        """SIGCONT."""
        if self.process is not None and self.process.owner.paused:
            self._journal.add("resumed")
            self.hearing.paused(self._time(), paused=False)
            self.process.resume()

    def fill(self, *, full: bool) -> None:
        """The disk fills up, or has room again."""
        self._journal.add("disk full" if full else "disk has room")
        self.disk.failing += 1 if full else -1
        self.hearing.deaf(self._time(), deaf=full)

    def boot(self) -> None:
        """Another boot of the machine, unless a process runs: its clock begins anew."""
        if self.process is not None:
            return
        self._boots += 1
        self._booted_at = self._time() - 20.0

    def _gone(self) -> Process | None:
        process, self.process = self.process, None
        if process is not None:
            self.hearing.up(self._time(), up=False)
            self.watcher.ended()
        return process

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()
