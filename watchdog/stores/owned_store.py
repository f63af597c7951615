"""A store whose parts another process may take: over a Valkey or Redis server.

A process that was stopped and goes on, or was cut off, may have been replaced meanwhile: so whatever is about to be
done to an agent is confirmed with the server first, and so is what is told to a client after a pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchdog.core.model import Observed, Standing
from watchdog.core.undo import Back
from watchdog.stores.table_store import TableStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watchdog.core.model import Beat, Claim, Instant, Reply
    from watchdog.core.undo import Change
    from watchdog.stores.parts import Parts


class OwnedStore(TableStore):
    """See `watchdog.stores.base.Store`. A subclass sets `_parts` to its journal."""

    _parts: Parts

    def _lengthen(self) -> None:
        if not self._parts.missing["sessions"]:
            return
        # Whose sessions are lost may be here: nobody can tell. Who is here beats within that time.
        ends_at = Observed(self._clock.observed + self._rules.longest_ttl_s)
        for agent in self._table.agents.values():
            if not agent.settled:
                agent.floor = max(agent.floor, ends_at)

    def plainly_live(self, beat: Beat) -> float | None:
        """See `Store.plainly_live`."""
        return super().plainly_live(beat) if self._parts.fresh else None

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        """See `Store.apply`."""
        if not self._parts.fresh:
            await self._parts.confirm()
        return await super().apply(beats, instant)

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
