"""The store in one process, over a Valkey or Redis server.

A process that was stopped and goes on, or was cut off, may have been replaced meanwhile: so whatever is about to be
done to an agent is confirmed with the server first, and so is what is told to a client after a pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchdog.core.model import Standing
from watchdog.core.undo import Back
from watchdog.errors import StoreLocked, StoreUnavailable
from watchdog.stores.address import Address
from watchdog.stores.parts import Parts
from watchdog.stores.table_store import TableStore
from watchdog.stores.valkey_cluster import ValkeyCluster
from watchdog.stores.valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from watchdog.core.clock import Cause
    from watchdog.core.model import Beat, Claim, Instant, Reply
    from watchdog.core.undo import Change
    from watchdog.stores.base import StoreRules, Tick
    from watchdog.stores.batch import Batch
    from watchdog.stores.leases import LeaseTable
    from watchdog.stores.part_reads import Server


def server_at(address: Address) -> ValkeyServer:
    """The server, or the cluster."""
    return ValkeyCluster(address) if address.cluster else ValkeyServer(address)


class ValkeyStore(TableStore):
    """See `watchdog.stores.base.Store`.

    Args:
        server: Where it is kept; opened and closed with the store.
        rules: What the store has to know of the settings.
        owner: The name of this process; no other has it.
        shards: In how many parts the agents are kept; the same for all processes, for good.
    """

    def __init__(self, server: Server | Address, rules: StoreRules, owner: str, shards: int = 16) -> None:
        kept_by = server_at(server) if isinstance(server, Address) else server

        def parts(table: LeaseTable, brakes: Callable[[], bytes], rest: Callable[[], Batch]) -> Parts:
            self._parts = Parts(kept_by, shards, owner, table, brakes, rest)
            return self._parts

        super().__init__(rules, parts)

    def plainly_live(self, beat: Beat) -> float | None:
        """See `Store.plainly_live`."""
        return super().plainly_live(beat) if self._parts.fresh else None

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        """See `Store.apply`."""
        if not self._parts.fresh:
            await self._parts.confirm()
        return await super().apply(beats, instant)

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        """See `Store.tick`."""
        try:
            return await super().tick(owner, instant, blind, limit)
        except StoreUnavailable:
            if self._parts.taken_over is not None:
                raise StoreLocked(self._parts.taken_over) from None
            raise

    async def still_gone(self, claim: Claim) -> Standing:
        """See `Store.still_gone`."""
        standing = await super().still_gone(claim)
        if standing is not Standing.GONE:
            return standing
        await self._parts.confirm(claim.agent)
        return await super().still_gone(claim)

    async def still_back(self, change: Change) -> Back:
        """See `Store.still_back`."""
        standing = await super().still_back(change)
        if standing is not Back.HERE:
            return standing
        await self._parts.confirm(change.agent)
        return await super().still_back(change)
