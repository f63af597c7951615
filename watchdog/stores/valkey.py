"""The store in one process, over a Valkey or Redis server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchdog.stores.parts import Parts
from watchdog.stores.table_store import TableStore
from watchdog.stores.valkey_server import Address, ValkeyServer

if TYPE_CHECKING:
    from watchdog.stores.base import StoreRules


class ValkeyStore(TableStore):
    """See `watchdog.stores.base.Store`.

    Args:
        address: Where the server is.
        rules: What the store has to know of the settings.
        owner: The name of this process; no other has it.
        shards: In how many parts the agents are kept; the same for all processes, for good.
    """

    def __init__(self, address: Address, rules: StoreRules, owner: str, shards: int = 16) -> None:
        server = ValkeyServer(address)
        super().__init__(rules, lambda table, brakes, rest: Parts(server, shards, owner, table, brakes, rest))
