"""A store whose parts another process may take: over a Valkey or Redis server.

A process that was stopped and goes on, or was cut off, may have been replaced meanwhile: so whatever is about to be
done to an agent is confirmed with the server first, and so is what is told to a client after a pause.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING

from watchdog.core.model import Observed, Standing
from watchdog.core.undo import Back
from watchdog.stores.facts import NEVER, Session
from watchdog.stores.part_rows import PART, UUID_BYTES, agent_field
from watchdog.stores.table_store import TableStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watchdog.core.model import Beat, Claim, Instant, Reply
    from watchdog.core.undo import Change
    from watchdog.stores.facts import Agent
    from watchdog.stores.parts import Parts


class OwnedStore(TableStore):
    """See `watchdog.stores.base.Store`. A subclass sets `_parts` to its journal."""

    _parts: Parts

    def _lengthen(self) -> None:
        if not (self._parts.missing["sessions"] or self._parts.missing[PART]):
            return
        # Whose sessions are lost may be here: nobody can tell. Who is here beats within that time.
        over = Observed(math.nextafter(self._clock.observed, -math.inf))
        for agent in self._table.agents.values():
            if not agent.settled:
                self._stand_in(agent)
            elif not agent.sessions and agent.floor == NEVER:
                # Something may still be to be done with who was set: without an end the agent counts as never seen.
                agent.floor = over

    def _stand_in(self, agent: Agent) -> None:
        """Gives an agent a session in place of those that are lost: of how many, nobody can tell. No bye ends it."""
        session_id = blake2b(agent_field(agent.id), digest_size=UUID_BYTES).digest()
        session = self._table.sessions.get(session_id)
        if session is None:
            session = self._table.sessions[session_id] = Session(agent, session_id)
            agent.attach(session)
        session.closed_at = None
        session.ttl, session.seen = self._rules.longest_ttl_s, agent.seen
        session.expires_at = session.horizon = Observed(self._clock.observed + session.ttl)

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
