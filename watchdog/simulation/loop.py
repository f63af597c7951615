"""An event loop on virtual time: when nothing is ready, the clock jumps to the next timer.

No sockets, no threads, no real waiting. Tasks may belong to an `Owner`, a simulated process: it can be stopped, which
puts off whatever would run for it, and all of its tasks are known when it is killed.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast

from watchdog.errors import WatchdogError

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Owner:
    """A simulated process, as the loop sees it.

    Attributes:
        paused: Nothing runs for it; what became ready waits in `waiting`, in order.
        tasks: Its tasks that have not ended, in the order in which they began.
    """

    def __init__(self) -> None:
        self.paused = False
        self.waiting: list[asyncio.Handle] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: what became ready meanwhile runs in its order, timers and requests alike."""
        self.paused = False
        waiting, self.waiting = self.waiting, []
        if waiting:
            cast("VirtualLoop", asyncio.get_running_loop()).put(self, waiting)


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("OWNER", default=None)


class NothingLeft(WatchdogError):
    """All tasks wait for something that never comes: a fault of the simulation, or a deadlock of what it runs."""


class _NoFiles(selectors.BaseSelector):
    """A selector that nobody asks anything."""

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise NotImplementedError

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. `time()` begins at 0; of timers for the same moment the one that was set first is first."""

    def __init__(self) -> None:
        self._now = 0.0
        self._soon: deque[tuple[asyncio.Handle, Owner | None]] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Owner | None]] = []
        self._count = 0
        super().__init__(_NoFiles())
        self.set_task_factory(_task)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """See asyncio; a callback of a paused process is put off."""
        owner = OWNER.get() if context is None else context.get(OWNER)
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append((handle, owner))
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """There are no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio; a callback of a paused process is put off."""
        owner = OWNER.get() if context is None else context.get(OWNER)
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle, owner))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def put(self, owner: Owner, handles: list[asyncio.Handle]) -> None:
        """Runs soon what a process could not run while it was stopped."""
        self._soon.extend((handle, owner) for handle in handles)

    def _run_once(self) -> None:
        """What asyncio's loop calls again and again: what is ready now, after a jump if nothing is."""
        soon, timers = self._soon, self._timers
        while timers and (timers[0][0] <= self._now or not soon):
            when, _, timer, owner = heapq.heappop(timers)
            if timer.cancelled():
                continue
            self._now = max(self._now, when)
            soon.append((timer, owner))
        if not soon and not self._stopping:  # type: ignore[attr-defined]
            raise NothingLeft("Nothing is left to happen, and somebody still waits.")
        for _ in range(len(soon)):
            handle, owner = soon.popleft()
            if handle.cancelled():
                continue
            if owner is not None and owner.paused:
                owner.waiting.append(handle)
                continue
            handle._run()  # noqa: SLF001 - asyncio's own loop does this


def _task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T] | Generator[Any, None, T],
    context: contextvars.Context | None = None,
) -> asyncio.Task[T]:
    task = asyncio.Task(cast("Coroutine[Any, Any, T]", work), loop=loop, context=context)
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda done: owner.tasks.pop(done, None), context=contextvars.Context())
    return task


def spawn(work: Coroutine[Any, Any, T], owner: Owner | None = None) -> asyncio.Task[T]:
    """Starts a task of a process, or of none, whoever calls."""
    context = contextvars.Context()
    context.run(OWNER.set, owner)
    return asyncio.get_running_loop().create_task(work, context=context)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end on a loop of its own, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
