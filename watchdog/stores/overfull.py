"""The history where a server's memory is nearly full: the oldest actions go before their days are over.

The history is the one thing that grows for as long as a daemon runs, and the one that nobody needs to decide anything.
So it makes room for everything else, and nothing else is ever dropped. Where the memory is full the server takes no
writes but those that make room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchdog.stores.base import FULL, KEPT, MemoryUse
from watchdog.stores.part_reads import META

if TYPE_CHECKING:
    from watchdog.stores.one_part import History
    from watchdog.stores.part_reads import PartReads, Server

CHUNK = 1_000
"""Actions that are dropped at a time: it takes the server some milliseconds, and its memory is looked at again."""


async def shorten(server: Server, reads: PartReads, history: History) -> MemoryUse:
    """Drops the actions that were recorded first, until no more than `FULL` of the memory is in use or `KEPT` are left.

    Raises:
        StoreUnavailable: Some may be dropped. A repetition is harmless.
    """
    dropped = 0
    while True:
        share = await server.memory_share(META)
        if share is None or share <= FULL:
            return MemoryUse(share, dropped)
        oldest = await reads.first_actions(await reads.last_number() - KEPT + 1, CHUNK)
        if not oldest:
            return MemoryUse(share, dropped)
        await history.forget(oldest)
        dropped += len(oldest)
