"""What is done with agents of the parts that are here. Of agents of others nobody has a claim here: it is void."""

from __future__ import annotations

from watchdog.core.holds import Held
from watchdog.core.model import Action, AgentId, Claim, Due, Epoch, FollowUp, Intent, Standing
from watchdog.core.undo import Back, Change, Written
from watchdog.stores.holdings import Holdings
from watchdog.stores.one_part import PartStore
from watchdog.stores.part_rows import part_of


class OwnAgents:
    """Half of a store: see `watchdog.stores.base.Store`."""

    _holdings: Holdings
    _shards: int
    _turn: int

    def _of(self, agent: AgentId) -> PartStore | None:
        return self._holdings.stores.get(part_of(agent, self._shards))

    async def claim(self, due: Due, owner: str) -> Claim | None:
        """See `Store.claim`."""
        store = self._of(due.agent)
        if store is None or store.number in self._holdings.giving_up:
            return None
        return await store.claim(due, owner)

    async def intend(self, claim: Claim, intent: Intent) -> bool:
        """See `Store.intend`."""
        store = self._of(claim.agent)
        return store is not None and await store.intend(claim, intent)

    async def still_gone(self, claim: Claim) -> Standing:
        """See `Store.still_gone`."""
        store = self._of(claim.agent)
        return Standing.RETURNED if store is None else await store.still_gone(claim)

    async def settle(
        self, claim: Claim, action: Action, written: Written | None = None, follow_up: FollowUp | None = None
    ) -> bool:
        """See `Store.settle`."""
        store = self._of(claim.agent)
        return store is not None and await store.settle(claim, action, written, follow_up)

    async def file_again(self, claim: Claim, timer_s: float) -> bool:
        """See `Store.file_again`."""
        store = self._of(claim.agent)
        return store is not None and await store.file_again(claim, timer_s)

    async def release(self, claim: Claim, delay_s: float) -> bool:
        """See `Store.release`."""
        store = self._of(claim.agent)
        return store is not None and await store.release(claim, delay_s)

    async def witness(self, claim: Claim, age_s: float, ttl_s: float, action: Action) -> bool:
        """See `Store.witness`."""
        store = self._of(claim.agent)
        return store is not None and await store.witness(claim, age_s, ttl_s, action)

    async def unseen(self, action: Action, ttl_s: float | None) -> bool:
        """See `Store.unseen`. Of agents of others those tell."""
        store = self._of(action.agent)
        return store is not None and await store.unseen(action, ttl_s)

    async def still_back(self, change: Change) -> Back:
        """See `Store.still_back`."""
        store = self._of(change.agent)
        return Back.VOID if store is None else await store.still_back(change)

    async def restoring(self, change: Change, at: Epoch, lease_s: float) -> Back:
        """See `Store.restoring`."""
        store = self._of(change.agent)
        return Back.VOID if store is None else await store.restoring(change, at, lease_s)

    async def restored(self, change: Change, action: Action, *, forget: bool) -> bool:
        """See `Store.restored`."""
        store = self._of(change.agent)
        return store is not None and await store.restored(change, action, forget=forget)

    async def held(self, instance_id: str, after_s: float, limit: int = 100) -> tuple[Held, ...]:
        """See `Store.held`. Of agents of ours; part by part in turns."""
        stores = sorted(self._holdings.stores.values(), key=lambda store: store.number)
        self._turn += 1
        found: list[Held] = []
        for at in range(len(stores)):
            store = stores[(at + self._turn) % len(stores)]
            if len(found) < limit:
                found += await store.held(instance_id, after_s, limit - len(found))
        return tuple(found)

    async def witness_held(self, held: Held, age_s: float, ttl_s: float, action: Action) -> bool:
        """See `Store.witness_held`."""
        store = self._of(held.agent)
        return store is not None and await store.witness_held(held, age_s, ttl_s, action)

    async def release_held(self, held: Held, age_s: float, ttl_s: float, action: Action) -> bool:
        """See `Store.release_held`."""
        store = self._of(held.agent)
        return store is not None and await store.release_held(held, age_s, ttl_s, action)
