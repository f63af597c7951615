"""The coalescing buffer: heartbeats wait here, one for each session, until a flush gives them to the store.

Which of two beats counts is decided by `core.deadline.coalesce`; when to flush is decided by the daemon's loop. One of
several daemons has one for each of them: `sorted_buffer.py`. Nothing here knows HTTP.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from watchdog.core.deadline import coalesce
from watchdog.core.model import AgentId, Beat, Instant, Reply, Tear, Verdict
from watchdog.errors import StoreUnavailable
from watchdog.stores.base import Store

LATE_S = 1.0
"""Age of an unflushed beat, or of a running flush, at which everyone is refused: five times the flush interval."""

MAX_SESSIONS = 1_000_000
"""Sessions that may wait: about 0.5 GB. Reached only when the store is away for long while new sessions keep coming."""

APPLIED = 500
"""Most that one call of the store applies on a loop that has little else to do: 5 ms in which nobody is answered."""

TURN_S = 0.005
"""For each so much that all others took between two parts of a flush, the next part is larger by `APPLIED`. So a flush
has its share of a loop that is never idle, and is not late while it waits for a thousand requests between two parts."""

MOST_APPLIED = 8 * APPLIED
"""Most that one call applies, however busy the loop is."""

MAX_RIVALS = 64
"""Beats of other agents for sessions that already wait. Each may cost one more call of the store in a flush."""


@dataclass(slots=True, eq=False)
class Entry:
    """One session's waiting beat, the time of the oldest one merged into it, and who waits for the reply."""

    beat: Beat
    since: float
    waiters: list[asyncio.Future[Reply]] = field(default_factory=list)


class Buffer:
    """Collects heartbeats and flushes them.

    Belongs to one event loop. A beat that was submitted leaves the buffer only when the store has applied it, or when
    another beat of its session counts instead.

    Attributes:
        last_flush_s: How long the last call of the store took, in seconds; 0 before the first.
        last_ok: The last flush succeeded; True before the first.
        max_sessions: Most sessions that wait.
    """

    def __init__(
        self,
        store: Store,
        now: Callable[[], Instant],
        time: Callable[[], float],
        *,
        observe: Callable[[float], None] | None = None,
        max_sessions: int = MAX_SESSIONS,
    ) -> None:
        """Makes an empty buffer.

        Args:
            store: Where the beats go.
            now: The instant that a flush gives to the store.
            time: For ages; best one that stands while the process is stopped, or what waited in the socket meanwhile is
                refused for being late.
            observe: Told the seconds of each call of the store, failed ones included.
            max_sessions: Most sessions that wait.
        """
        self.last_flush_s = 0.0
        self.last_ok = True
        self._store = store
        self._now = now
        self._time = time
        self._observe = observe
        self.max_sessions = max_sessions
        self._lock = asyncio.Lock()
        # Oldest first: `late` looks at the first one only.
        self._entries: dict[bytes, Entry] = {}
        self._rivals: dict[tuple[bytes, AgentId], Entry] = {}
        self._tears: list[Tear] = []
        self._flushing_since: float | None = None

    @property
    def size(self) -> int:
        """How many beats wait; those of a running flush are not counted."""
        return len(self._entries) + len(self._rivals)

    @property
    def oldest(self) -> float | None:
        """Since when the oldest beat has waited, those of the running flush included, by `time`; None without one."""
        oldest = self._flushing_since
        if self._entries:
            first = next(iter(self._entries.values())).since
            oldest = first if oldest is None else min(oldest, first)
        return oldest

    @property
    def late(self) -> bool:
        """Whether a beat has waited, or the running flush has run, for more than `LATE_S`."""
        oldest = self.oldest
        return oldest is not None and self._time() - oldest > LATE_S

    @property
    def waiting(self) -> bool:
        """Whether anything waits for the next flush."""
        return bool(self._entries or self._rivals or self._tears)

    @property
    def failing(self) -> bool:
        """Whether something is not applied that the last flush could not give to the store."""
        return not self.last_ok and (self.waiting or self._lock.locked())

    @property
    def cut_off(self) -> bool:
        """Whether what waits for others has waited for so long that they live, and are out of this one's reach."""
        return False

    def of(self, agent: AgentId) -> "Buffer":
        """Where an agent's beats wait."""
        del agent
        return self

    def submit(self, beat: Beat) -> bool:
        """Takes a beat for the next flush.

        Returns:
            True when the next flush applies this beat; False when another one of its session counts instead, or goes
            before it, so that only the flush can tell what becomes of it.

        Raises:
            StoreUnavailable: The buffer is full. The beat was not taken.
        """
        entry = self._place(beat)
        return entry is not None and entry.beat is beat and entry is self._entries.get(beat.session_id)

    def expect(self, beat: Beat) -> asyncio.Future[Reply]:
        """Takes a beat for the next flush, and promises the reply.

        Returns:
            The store's reply to the beat that is flushed for the session, which may be another one than this; or
            `StoreUnavailable` when the flush fails. The beat then waits for the next one.

        Raises:
            StoreUnavailable: The buffer is full. The beat was not taken.
        """
        entry = self._place(beat)
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if entry is None:
            waiter.set_result(Reply(Verdict.FOREIGN, live=False, left_s=0.0))
        else:
            entry.waiters.append(waiter)
        return waiter

    async def apply(self, beats: Sequence[Beat]) -> list[Reply | StoreUnavailable | None]:
        """Gives beats to the store at once, after everything that waits.

        Returns:
            The replies, in order; None for a beat that was overtaken by a later flush. Of several daemons also why a
            beat was not applied, whose agent is another one's; it waits for the next flush.

        Raises:
            StoreUnavailable: The buffer is full, and none was taken; or the store failed, and those that are not
                applied wait for the next flush.
        """
        if len({beat.session_id for beat in beats}) < len(beats):
            return await self._apply_repeated(beats)
        if len(self._entries) + len(beats) > self.max_sessions:
            raise _full()
        async with self._lock:
            since = self._time()
            replies: list[Reply | StoreUnavailable | None] = []
            try:
                await self._flush()
                self._flushing_since = since
                while len(replies) < len(beats):
                    replies += await self._given(beats[len(replies) : len(replies) + APPLIED])
                    await asyncio.sleep(0)
            finally:
                self._flushing_since = None
                left = beats[len(replies) :]
                if left:
                    self._put_back([Entry(beat, since) for beat in left])
        return replies

    async def _apply_repeated(self, beats: Sequence[Beat]) -> list[Reply | StoreUnavailable | None]:
        """The same for beats of which several are of one session: of those one counts, or they go one by one."""
        waiters: list[asyncio.Future[Reply]] = []
        applied = False
        try:
            for beat in beats:
                waiters.append(self.expect(beat))  # noqa: PERF401 - those before a failure must be kept
            async with self._lock:
                await self._flush()
            applied = True
        finally:
            if not applied:
                for waiter in waiters:
                    waiter.cancel()
            replies = await asyncio.gather(*waiters, return_exceptions=True)
        # By another flush than this one, which may have failed, and another buffer may have them now.
        return [reply if isinstance(reply, Reply | StoreUnavailable) else None for reply in replies]

    def tear(self, tear: Tear) -> None:
        """Takes the notice of a socket's end for the next flush, which gives it to the store after all beats.

        So what came over the socket before, and by another way since, counts first. Nobody waits for it.
        """
        self._tears.append(tear)

    async def flush(self) -> None:
        """Gives everything that waits to the store.

        Flushes run one after another. When it returns, everything submitted before the call has been applied.

        Raises:
            StoreUnavailable: The store failed. The beats wait again, under newer ones of their sessions; those who
                waited for a reply have been told.
        """
        async with self._lock:
            await self._flush()

    async def flush_own(self) -> None:
        """The same, for what is this daemon's own to apply; whatever is others' is on its way to them.

        Raises:
            StoreUnavailable: As above.
        """
        await self.flush()

    async def _flush(self) -> None:
        """The same, for whoever has the lock."""
        batches = self._take()
        tears, self._tears = self._tears, []
        size = APPLIED
        try:
            while batches:
                part = list(islice(batches[0].items(), size))
                await self._apply([entry for _, entry in part])
                for session_id, _ in part:
                    del batches[0][session_id]
                if not batches[0]:
                    del batches[0]
                if batches:
                    # A store that has nothing to write does not wait.
                    began = self._time()
                    await asyncio.sleep(0)
                    size = min(MOST_APPLIED, APPLIED * (1 + int((self._time() - began) / TURN_S)))
            if tears:
                await self._store.tear(tears, self._now())
                tears, self.last_ok = [], True
        except Exception as error:
            self.last_ok = False
            _fail(batches, str(error) if isinstance(error, StoreUnavailable) else "The flush failed.")
            raise
        finally:
            # Also when the flush is cancelled: then those who wait go on waiting, for the next one.
            self._flushing_since = None
            self._tears[:0] = tears
            if batches:
                self._put_back(entry for batch in batches for entry in batch.values())

    def take_out(self, elsewhere: Callable[[AgentId], bool]) -> tuple[list[Entry], list[Tear]]:
        """Takes out what waits of some agents, oldest first, and all notices of sockets."""
        entries, rivals = self._entries, self._rivals
        found = [entries.pop(key) for key in [key for key in entries if elsewhere(entries[key].beat.agent)]]
        found += [rivals.pop(key) for key in [key for key in rivals if elsewhere(rivals[key].beat.agent)]]
        tears, self._tears = self._tears, []
        return found, tears

    def put_in(self, entries: Sequence[Entry]) -> None:
        """Files what was taken out elsewhere, under what waits here; it has its time from now on."""
        since = self._time()
        if self._entries:
            since = next(iter(self._entries.values())).since
        for entry in entries:
            entry.since = since
        self._put_back(entries)

    def waits(self, session_id: bytes) -> bool:
        """Whether a beat of a session waits; those of a running flush are not counted."""
        return session_id in self._entries

    def _place(self, beat: Beat) -> Entry | None:
        """The entry that the beat is now merged into; None when too many agents claim one session."""
        entry = self._entries.get(beat.session_id)
        if entry is None:
            if len(self._entries) >= self.max_sessions:
                raise _full()
            entry = self._entries[beat.session_id] = Entry(beat, self._time())
            return entry
        if entry.beat.agent != beat.agent:
            # Two agents with one session id, e.g. a copied script. The store knows whose it is, and takes one beat of
            # a session at a time; here neither may push the other out.
            rival = self._rivals.get((beat.session_id, beat.agent))
            if rival is None:
                if len(self._rivals) >= MAX_RIVALS:
                    return None
                rival = self._rivals[beat.session_id, beat.agent] = Entry(beat, self._time())
                return rival
            entry = rival
        entry.beat = coalesce(entry.beat, beat)
        return entry

    def _take(self) -> list[dict[bytes, Entry]]:
        """Everything that waits, as batches with one beat for a session each."""
        if not self._entries:
            return []
        self._flushing_since = next(iter(self._entries.values())).since
        # After all of those: whose the session is, is told by who came first.
        later: list[dict[bytes, Entry]] = []
        for (session_id, _), rival in self._rivals.items():
            for batch in later:
                if session_id not in batch:
                    batch[session_id] = rival
                    break
            else:
                later.append({session_id: rival})
        waiting, self._entries = self._entries, {}
        self._rivals = {}
        return [waiting, *later]

    async def _given(self, beats: Sequence[Beat]) -> list[Reply]:
        """Gives beats to the store, and tells how long that took."""
        began = self._time()
        try:
            replies = await self._store.apply(beats, self._now())
        except Exception:
            self._ended(began, ok=False)
            raise
        self._ended(began, ok=True)
        return replies

    async def _apply(self, entries: list[Entry]) -> None:
        replies = await self._given([entry.beat for entry in entries])
        for entry, reply in zip(entries, replies, strict=True):
            for waiter in entry.waiters:
                if not waiter.done():
                    waiter.set_result(reply)

    def _ended(self, began: float, *, ok: bool) -> None:
        self.last_ok = ok
        self.last_flush_s = self._time() - began
        if self._observe is not None:
            self._observe(self.last_flush_s)

    def _put_back(self, entries: Iterable[Entry]) -> None:
        """Files what was not applied again, oldest first, and what came meanwhile on top of it."""
        newer = [*self._entries.values(), *self._rivals.values()]
        self._entries = {}
        self._rivals = {}
        for entry in (*entries, *newer):
            placed = self._entries.setdefault(entry.beat.session_id, entry)
            if placed is not entry and placed.beat.agent != entry.beat.agent:
                placed = self._rivals.setdefault((entry.beat.session_id, entry.beat.agent), entry)
            if placed is not entry:
                placed.beat = coalesce(placed.beat, entry.beat)
                placed.waiters.extend(entry.waiters)


def _full() -> StoreUnavailable:
    return StoreUnavailable("Too many sessions wait for the store. Try again later.")


def _fail(batches: Iterable[dict[bytes, Entry]], reason: str) -> None:
    for batch in batches:
        for entry in batch.values():
            for waiter in entry.waiters:
                if not waiter.done():
                    waiter.set_exception(StoreUnavailable(reason))
            entry.waiters.clear()
