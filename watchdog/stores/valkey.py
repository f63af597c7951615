"""The store in one process that has all parts, over a Valkey or Redis server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchdog.errors import StoreLocked, StoreUnavailable
from watchdog.stores.address import Address
from watchdog.stores.owned_store import OwnedStore
from watchdog.stores.parts import Parts
from watchdog.stores.valkey_cluster import ValkeyCluster
from watchdog.stores.valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.core.clock import Cause
    from watchdog.core.model import Instant
    from watchdog.stores.base import StoreRules, Tick
    from watchdog.stores.batch import Batch
    from watchdog.stores.leases import LeaseTable
    from watchdog.stores.part_reads import Server


def server_at(address: Address) -> ValkeyServer:
    """The server, or the cluster."""
    return ValkeyCluster(address) if address.cluster else ValkeyServer(address)


class ValkeyStore(OwnedStore):
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

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        """See `Store.tick`."""
        try:
            return await super().tick(owner, instant, blind, limit)
        except StoreUnavailable:
            if self._parts.taken_over is not None:
                raise StoreLocked(self._parts.taken_over) from None
            raise
