"""Which parts this daemon has, and who has the others.

Each daemon has an even share. One that has more, since another one has come, gives some up; one that has fewer takes
those that nobody has. Who has a part is told by the part itself, which one process at a time can take.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from watchdog.errors import StoreLocked
from watchdog.stores.base import RowsLost
from watchdog.stores.ending import ended
from watchdog.stores.fenced import LEASE_S
from watchdog.stores.shares import share

if TYPE_CHECKING:
    from watchdog.core.model import Instant
    from watchdog.stores.one_part import PartStore
    from watchdog.stores.register import Entry, Register

GIVE_UP_S = 3.0
"""Longest wait for what is under way for agents of a part, before it is given up."""

LOOK_S = 0.05
"""Between two looks whether it is."""

log = structlog.stdlib.get_logger(__name__)


class Holdings:
    """The parts of this daemon.

    Attributes:
        stores: By number.
        giving_up: Numbers of those for which nothing new is begun.
        lost: What the server had lost of parts that were taken.
    """

    def __init__(
        self,
        register: Register,
        shards: int,
        name: str,
        *,
        entries: Callable[[], Sequence[Entry]],
        made: Callable[[int], PartStore],
        now: Callable[[], Instant],
        time: Callable[[], float] = time.monotonic,
    ) -> None:
        """Has none yet.

        Args:
            register: Tells who has a part.
            shards: How many there are.
            name: Of this process.
            entries: Who is registered, as last read.
            made: Makes the store of a part, not opened.
            now: The instant.
            time: Monotonic seconds.
        """
        self.stores: dict[int, PartStore] = {}
        self.giving_up: set[int] = set()
        self.lost: RowsLost | None = None
        self._missing: dict[int, Counter[str]] = {}
        self._register = register
        self._shards = shards
        self._name = name
        self._entries = entries
        self._made = made
        self._now = now
        self._time = time
        self._owners: list[str | None] = [None] * shards
        self._seen_at = [float("-inf")] * shards
        self._ahead: set[int] = set()
        self._balancing = asyncio.Lock()
        self._moving: dict[asyncio.Task[None], PartStore] = {}

    @property
    def complete(self) -> bool:
        """Whether each part is somebody's, as far as is known."""
        return all(number in self.stores or self.owner(number) is not None for number in range(self._shards))

    def owner(self, number: int) -> str | None:
        """Who else has a part; None for one that is ours, nobody's, or that of somebody who is not known."""
        owner = self._owners[number]
        return None if owner == self._name else owner

    def has(self, store: PartStore) -> bool:
        """Whether a store is still that of a part of ours, as far as is known."""
        return not store.taken_over and self.stores.get(store.number) is store

    def others(self) -> set[str]:
        """All others who have parts."""
        return {owner for owner in self._owners if owner is not None and owner != self._name}

    async def look(self) -> None:
        """Looks who has the parts.

        One of which the server knows nothing is still whose it was, for as long as that takes to write it again: what
        the server has lost is in the memory of that daemon alone.
        """
        now = self._time()
        owners = await self._register.owners(self._shards)
        self._ahead = {number for number, found in enumerate(owners) if found.ahead}
        for number, found in enumerate(owners):
            if found.name is not None:
                self._owners[number] = None if found.ended else found.name
                self._seen_at[number] = now
            elif now - self._seen_at[number] > LEASE_S:
                self._owners[number] = None

    async def balance(self) -> None:
        """Takes parts that nobody has, or gives some up, until this daemon has its share.

        Raises:
            StoreUnavailable: It cannot be done now.
        """
        async with self._balancing:
            for number, store in list(self.stores.items()):
                if store.taken_over:
                    log.warning("replica.part_lost", part=number)
                    del self.stores[number]
                    await store.journal.abandon()
            await self.look()
            # Read now: who waited here for its turn may have been told of somebody new.
            present = [entry.name for entry in self._entries() if entry.heard]
            wanted = share(self._shards, present, self._name)
            free = [
                number
                for number in range(self._shards)
                if (self._owners[number] is None or number in self._ahead) and number not in self.stores
            ]
            while len(self.stores) < wanted and free:
                await self._take(free.pop(0))
            extra = sorted(self.stores)[wanted:]
            if extra:
                await asyncio.gather(*(self._give_up(number) for number in extra))

    async def _moved(self, store: PartStore, move: Coroutine[Any, Any, None]) -> None:
        """Takes a part or lets it go, to the end: half of that would leave it to nobody until its lease is over."""
        task = asyncio.create_task(move)
        self._moving[task] = store
        task.add_done_callback(self._moving.pop)
        await asyncio.shield(task)

    async def _take(self, number: int) -> None:
        store = self._made(number)
        await self._moved(store, self._taken(number, store))

    async def _taken(self, number: int, store: PartStore) -> None:
        with contextlib.suppress(StoreLocked):
            try:
                await store.open(self._now())
            finally:
                self._note_missing(number, store.missing)
            self.stores[number] = store
            self._owners[number] = self._name
            log.info("replica.part_taken", part=number)

    def _note_missing(self, number: int, missing: Counter[str]) -> None:
        """Also of a part that could not be opened: when it is opened next, nothing may be missing any more."""
        if missing:
            self._missing[number] = Counter(missing)
            since = self._now().epoch if self.lost is None else self.lost.since
            self.lost = RowsLost(sum(self._missing.values(), Counter()), since)

    async def _give_up(self, number: int) -> None:
        """Lets a part go when nothing is under way for its agents, or when that takes too long."""
        store = self.stores[number]
        self.giving_up.add(number)
        try:
            for _ in range(int(GIVE_UP_S / LOOK_S)):
                if not store.claimed:
                    break
                await asyncio.sleep(LOOK_S)
        finally:
            self.giving_up.discard(number)
        if self.stores.get(number) is store:
            del self.stores[number]
            self._owners[number] = None
            await self._moved(store, self._given_up(number, store))

    async def _given_up(self, number: int, store: PartStore) -> None:
        await store.give_up()
        log.info("replica.part_given_up", part=number)

    async def close(self) -> None:
        """Gives all of them up at once."""
        await self._empty(lambda store: store.give_up())

    async def forget(self) -> None:
        """Lets all of them go as the server has them: what is known here is of another clock than all go by."""
        await self._empty(lambda store: store.journal.let_go())

    async def _empty(self, let_go: Callable[[PartStore], Awaitable[None]]) -> None:
        async with self._balancing:
            # Those that a balance which was cancelled was taking or giving up, too.
            while self.stores or self._moving:
                stores, self.stores = list(self.stores.values()), {}
                await asyncio.gather(*self._moving, *map(let_go, stores), return_exceptions=True)

    async def abandon(self) -> None:
        """Ends what runs for them, without a word to the server."""
        stores, self.stores = [*self.stores.values(), *self._moving.values()], {}
        await ended(list(self._moving))
        await asyncio.gather(*(store.journal.abandon() for store in stores), return_exceptions=True)
