"""An event loop on virtual time: when nothing is ready, the clock jumps to the next timer.

No sockets, no threads, no real waiting. Tasks may belong to an `Owner`, a simulated process: it can be stopped, which
puts off whatever would run for it, and all of its tasks are known when it is killed.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
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
        self.waiting: list[Callable[[], object]] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: what became ready meanwhile runs in its order, timers and requests alike."""
        self.paused = False
        waiting, self.waiting = self.waiting, []
        for run in waiting:
            run()


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("OWNER", default=None)


class NothingLeft(WatchdogError):
    """All tasks wait for something that never comes: a fault of the simulation, or a deadlock of what it runs."""


class _Jump(selectors.BaseSelector):
    """A selector without files: it advances the clock by the time it was asked to wait."""

    def __init__(self) -> None:
        self.now = 0.0

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingLeft("Nothing is left to happen, and somebody still waits.")
        if timeout > 0:
            self.now += timeout
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. `time()` begins at 0."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self.set_task_factory(_task)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jump.now

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """See asyncio; a callback of a paused process is put off."""
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is None:
            return super().call_soon(callback, *args, context=context)
        own: list[asyncio.Handle] = []
        handle = super().call_soon(self._gate, owner, own, callback, args, context=context)
        own.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio; a callback of a paused process is put off."""
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is None:
            return super().call_at(when, callback, *args, context=context)
        own: list[asyncio.Handle] = []
        handle = super().call_at(when, self._gate, owner, own, callback, args, context=context)
        own.append(handle)
        return handle

    def _gate(
        self, owner: Owner, own: list[asyncio.Handle], callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        if own[0].cancelled():
            return
        if not owner.paused:
            callback(*args)
            return
        context = contextvars.copy_context()
        again = super().call_soon
        owner.waiting.append(lambda: again(self._gate, owner, own, callback, args, context=context))


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
