"""The buffer of one daemon of several: one for each of them, so that whoever does not answer holds up nobody else.

What is this daemon's own to apply waits as if there were no others. What is another one's waits in that one's buffer,
which is flushed beside all others. Who applies what is the store's to say; when that changes, what could not be
delivered goes to whoever has it next.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from watchdog.core.model import AgentId, Beat, Instant, Reply, Tear
from watchdog.errors import NotHandedOn, StoreUnavailable
from watchdog.ingest.buffer import LATE_S, MAX_SESSIONS, Buffer, Entry
from watchdog.stores.base import Store

HERE = ""
"""The name of this daemon among those who apply heartbeats."""

CUT_OFF_S = 8.0
"""For so long others do not take what is theirs, and keep it: what a dead one had is others' after little over 3 s."""

MOST_SICK = 1
"""So many others that take nothing may be sick themselves. Where there are more, and none that does, it is this one."""

SORT_S = 1.0
"""Least between two looks whose it is that could not be delivered, which cost 1 µs for each beat that waits."""

UNUSED_S = 60.0
"""After so long without a beat the buffer of a daemon is dropped: it may never come back under its name."""


class Divided(Store, Protocol):
    """The store of one daemon of several.

    Attributes:
        late: Whether heartbeats have waited for too long; asked where it reports without a tick.
    """

    late: Callable[[], bool]

    def applier(self, agent: AgentId) -> str | None:
        """Which daemon applies an agent's heartbeats, as far as is known: its name; `HERE`, or None for nobody.

        No I/O. Whoever it is, `apply` finds the right one.
        """


@dataclass(slots=True, eq=False)
class _Other:
    """What waits for one of the others.

    Attributes:
        buffer: It.
        used_at: When something waited in it last.
        sorted_at: When it was looked whose it is.
        flush: That goes on: whether it succeeds.
    """

    buffer: Buffer
    used_at: float
    sorted_at: float = float("-inf")
    flush: asyncio.Task[bool] | None = None


class SortedBuffer(Buffer):
    """See the module. Itself it is the buffer of what is this daemon's own: `late` and `last_ok` tell of that.

    Beats are given to the buffer that `of` tells, batches, notices of sockets and flushes to this one.
    """

    def __init__(
        self,
        store: Divided,
        now: Callable[[], Instant],
        time: Callable[[], float],
        *,
        observe: Callable[[float], None] | None = None,
        max_sessions: int = MAX_SESSIONS,
    ) -> None:
        """Makes empty buffers. See `Buffer`; `max_sessions` is for all of them together."""
        super().__init__(store, now, time, observe=observe, max_sessions=max_sessions)
        self._applier = store.applier
        self._whose = store.whose
        self._made = partial(Buffer, store, now, time, observe=observe)
        self._most = self._free = max_sessions
        self._others: dict[str | None, _Other] = {}
        self._torn: list[Tear] = []
        self._sorted_at = float("-inf")
        store.late = self._any_late

    @property
    def size(self) -> int:
        """See `Buffer.size`. Of all."""
        return super().size + sum(each.buffer.size for each in self._others.values())

    @property
    def cut_off(self) -> bool:
        """See `Buffer.cut_off`. One other alone may be sick itself; where all of several are, it is this one."""
        now, stuck = self._time(), 0
        for name, each in self._others.items():
            oldest = each.buffer.oldest
            if name is None:
                continue
            if oldest is not None and now - oldest > CUT_OFF_S:
                stuck += 1
            elif now - each.used_at < CUT_OFF_S:
                return False
        return stuck > MOST_SICK

    def of(self, agent: AgentId) -> Buffer:
        """See `Buffer.of`."""
        name = self._applier(agent)
        return self if name == HERE else self._other(name).buffer

    async def apply(self, beats: Sequence[Beat]) -> list[Reply | StoreUnavailable | None]:
        """See `Buffer.apply`. Whoever is late is not waited for."""
        places: dict[str | None, list[int]] = {}
        for at, beat in enumerate(beats):
            places.setdefault(self._applier(beat.agent), []).append(at)
        results = await asyncio.gather(
            *(self._applied(name, [beats[at] for at in of]) for name, of in places.items()), return_exceptions=True
        )
        found: list[Reply | StoreUnavailable | None] = [None] * len(beats)
        for of, result in zip(places.values(), results, strict=True):
            if isinstance(result, StoreUnavailable):
                result = [result] * len(of)  # noqa: PLW2901 - one for each
            elif isinstance(result, BaseException):
                raise result
            for at, reply in zip(of, result, strict=True):
                found[at] = reply
        if beats and all(isinstance(each, StoreUnavailable) for each in found):
            raise StoreUnavailable("Nobody who has to apply the heartbeats does so.")
        return found

    async def _applied(self, name: str | None, beats: Sequence[Beat]) -> list[Reply | StoreUnavailable | None]:
        if name == HERE:
            return await super().apply(beats)
        other = self._other(name)
        other.used_at = self._time()
        if other.buffer.late:
            # They were heard all the same, as in `Heartbeats.take`.
            with suppress(StoreUnavailable):
                for beat in beats:
                    other.buffer.submit(beat)
            raise _not_taken()
        return await other.buffer.apply(beats)

    def tear(self, tear: Tear) -> None:
        """See `Buffer.tear`."""
        self._torn.append(tear)

    async def flush(self) -> None:
        """See `Buffer.flush`. Whoever has not taken the last flush is not waited for again.

        And nobody is for longer than `LATE_S`: the sweep waits for this, without which this one loses its own parts.

        Raises:
            NotHandedOn: Some others have not applied what is theirs yet; what is this one's own is applied.
            StoreUnavailable: The store failed.
        """
        self._begin()
        # As it is now: what one could not deliver may be in another buffer a moment later.
        others = [
            self._flushed(each, each.flush, failing=each.buffer.failing or each.buffer.late)
            for each in self._others.values()
        ]
        results = await asyncio.gather(super().flush(), *others, return_exceptions=True)
        faults = [result for result in results if isinstance(result, BaseException)]
        # What is said of the others is the least of it.
        for fault in sorted(faults, key=lambda each: isinstance(each, NotHandedOn)):
            raise fault

    async def flush_own(self) -> None:
        """See `Buffer.flush_own`."""
        self._begin()
        await super().flush()

    async def _flushed(self, other: _Other, going_on: asyncio.Task[bool] | None, *, failing: bool) -> None:
        until = asyncio.get_running_loop().time() + LATE_S
        if going_on is not None and not failing:
            failing = not await _in_time(going_on, until)
        if not failing:
            # What has come since that began is in the next one.
            if other.flush is None or other.flush.done():
                other.flush = asyncio.create_task(_tried(other.buffer))
            failing = not await _in_time(other.flush, until)
        if failing:
            raise _not_taken()

    def _begin(self) -> None:
        """Begins a flush of each of the others' buffers of which none goes on."""
        now = self._time()
        for each in self._others.values():
            if each.flush is not None and each.flush.done():
                each.flush.result()  # a fault of our own is not kept quiet
                each.flush = None
        self._sort()
        for name, each in list(self._others.items()):
            if each.flush is not None:
                continue
            if each.buffer.waiting:
                each.used_at = now
                each.flush = asyncio.create_task(_tried(each.buffer))
            elif now - each.used_at > UNUSED_S:
                del self._others[name]

    def _sort(self) -> None:
        """Files what could not be delivered with whoever has it by now, and notices of sockets with their sessions."""
        now, moved = self._time(), dict[str | None, list[Entry]]()
        if self.failing and now - self._sorted_at >= SORT_S:
            self._sorted_at = now
            self._take_out(HERE, self, moved)
        for name, each in self._others.items():
            if each.flush is None and each.buffer.failing and now - each.sorted_at >= SORT_S:
                each.sorted_at = now
                self._take_out(name, each.buffer, moved)
        for name, entries in moved.items():
            (self if name == HERE else self._other(name).buffer).put_in(entries)
        torn, self._torn = self._torn, []
        for tear in torn:
            # Not `self.tear`, which is where they come from.
            Buffer.tear(self._carrier(tear.session_id), tear)
        self._free = max(0, self._most - self.size)
        self.max_sessions = super().size + self._free
        for each in self._others.values():
            each.buffer.max_sessions = each.buffer.size + self._free

    def _take_out(self, name: str | None, buffer: Buffer, moved: dict[str | None, list[Entry]]) -> None:
        entries, tears = buffer.take_out(lambda agent: self._applier(agent) != name)
        self._torn[:0] = tears
        for entry in entries:
            moved.setdefault(self._applier(entry.beat.agent), []).append(entry)

    def _any_late(self) -> bool:
        return self.late or any(each.buffer.late for each in self._others.values())

    def _carrier(self, session_id: bytes) -> Buffer:
        """Where a session's beats wait, or would."""
        for each in self._others.values():
            if each.buffer.waits(session_id):
                return each.buffer
        agent = None if self.waits(session_id) else self._whose(session_id)
        return self if agent is None else self.of(agent)

    def _other(self, name: str | None) -> _Other:
        other = self._others.get(name)
        if other is None:
            other = self._others[name] = _Other(self._made(max_sessions=self._free), self._time())
        return other


async def _tried(buffer: Buffer) -> bool:
    """Whether a flush succeeds. Who waits for an answer is told by the buffer itself."""
    try:
        await buffer.flush()
    except StoreUnavailable:
        return False
    return True


async def _in_time(flush: asyncio.Task[bool], until: float) -> bool:
    """Whether a flush has succeeded by then. It goes on if not."""
    await asyncio.wait({flush}, timeout=max(0.0, until - asyncio.get_running_loop().time()))
    return flush.done() and flush.result()


def _not_taken() -> NotHandedOn:
    return NotHandedOn("Another daemon of the deployment does not take what is its own.")
