"""Two daemons over one server, asked as if they were one: heartbeats come through either, and each acts for its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from watchdog.core.model import AgentId
from watchdog.stores.base import Counts, Tick
from watchdog.stores.merged import evenly
from watchdog.stores.part_rows import part_of
from watchdog.stores.tokens import TokenBuckets

if TYPE_CHECKING:
    from watchdog.core.clock import Cause
    from watchdog.core.holds import Held
    from watchdog.core.model import Action, Beat, Claim, Due, Epoch, Instant, Reply, Tear
    from watchdog.core.undo import Change
    from watchdog.stores.replica import ReplicaStore


class Pair:
    """See `watchdog.stores.base.Store`. The first keeps the clock; whatever is asked of no agent is asked of it."""

    def __init__(self, first: ReplicaStore, second: ReplicaStore, shards: int) -> None:
        self.stores = (first, second)
        self._shards = shards
        self._turn = 0
        self._tokens = TokenBuckets(first._rules)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stores[0], name)

    async def open(self, instant: Instant) -> None:
        first, second = self.stores
        await first.open(instant)
        await second.open(instant)
        for _ in range(20):
            # On a busy machine one may not have been heard of for so long that it does not count.
            for store in self.stores:
                await store._reported(None)
            await first._holdings.balance()
            await second._holdings.balance()
            if second._holdings.stores:
                break
        assert len(first._holdings.stores) < self._shards
        assert second._holdings.stores

    async def close(self) -> None:
        for store in reversed(self.stores):
            await store.close()

    async def die(self) -> None:
        for store in self.stores:
            await store.die()

    def _either(self) -> ReplicaStore:
        self._turn += 1
        return self.stores[self._turn % 2]

    def _of(self, agent: AgentId) -> ReplicaStore:
        number = part_of(agent, self._shards)
        return next(store for store in self.stores if number in store._holdings.stores)

    def plainly_live(self, beat: Beat) -> float | None:
        return self._of(beat.agent).plainly_live(beat)

    def newcomer(self, agent: AgentId) -> int | None:
        return self._of(agent).newcomer(agent)

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        for store in self.stores:
            store._told(instant)
        return await self._either().apply(beats, instant)

    async def tear(self, tears: Sequence[Tear], instant: Instant) -> list[bool]:
        # The sockets' own: each session's owner knows it in any case.
        found = [await store.tear(tears, instant) for store in self.stores]
        return [any(each) for each in zip(*found, strict=True)]

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        first, second = [await store.tick(owner, instant, blind, limit) for store in self.stores]
        return Tick(
            clock=first.clock,
            stopped_s=first.stopped_s,
            due=evenly(first.due + second.due, limit),
            backlog=first.backlog + second.backlog,
            orphans=first.orphans + second.orphans,
            brake=first.brake,
            changes=first.changes + second.changes,
            stopped=first.stopped + second.stopped,
            missed_s=first.missed_s,
            foreign=first.foreign | second.foreign,
            undos=first.undos + second.undos,
        )

    async def claim(self, due: Due, owner: str) -> Claim | None:
        return await self._of(due.agent).claim(due, owner)

    async def held(self, instance_id: str, after_s: float, limit: int = 100) -> tuple[Held, ...]:
        first = await self.stores[0].held(instance_id, after_s, limit)
        return first + await self.stores[1].held(instance_id, after_s, limit - len(first))

    async def counts(self) -> Counts:
        first, second = [await store.counts() for store in self.stores]
        agents = {state: number + second.agents[state] for state, number in first.agents.items()}
        return Counts(agents, first.sessions + second.sessions)

    async def take_tokens(self, operation: str, scope: str, count: int, instant: Instant) -> float:
        # The server's go by its own time.
        return self._tokens.take(operation, scope, count, instant)

    async def throttled(self, operation: str, scope: str, instant: Instant) -> None:
        self._tokens.throttled(operation, scope, instant)

    async def prune(self, before: Epoch) -> int:
        return sum([await store.prune(before) for store in self.stores])

    async def unseen(self, action: Action, ttl_s: float | None) -> bool:
        return await self._of(action.agent).unseen(action, ttl_s)


def _of_claims(name: str) -> Any:
    async def asked(self: Pair, about: Claim | Change | Held, *more: Any, **named: Any) -> Any:
        return await getattr(self._of(about.agent), name)(about, *more, **named)

    return asked


for each in (
    "intend",
    "still_gone",
    "settle",
    "file_again",
    "release",
    "witness",
    "still_back",
    "restoring",
    "restored",
    "witness_held",
    "release_held",
):
    setattr(Pair, each, _of_claims(each))
