"""The waiting room: agents who are gone while something of theirs goes on in Connect, such as a contact.

Nobody has a claim of them: they are looked at together, a hundred a call, after everybody else, and let go when what
they wait for is over. A restart forgets the room; each of them is then claimed, looked at, and put here again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from watchdog.connect.answers import Seen
from watchdog.connect.queue import Level, Rank
from watchdog.connect.witness import Witness
from watchdog.core.model import AgentId, Boot, Due, Instant

LOOK_EVERY_S = 10.0
"""Between two looks at the room, from the end of the one to the beginning of the next."""

FORGET_S = 60.0
"""Whoever was not offered for so long is not due any more."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Guest:
    due: Due
    over: Callable[[Seen | None], bool]
    since: Boot
    offered_at: Boot


class WaitingRoom:
    """Who waits, and whether it is over."""

    def __init__(self, witness: Witness, now: Callable[[], Instant]) -> None:
        """Nobody waits.

        Args:
            witness: Looks.
            now: The machine's clocks.
        """
        self._witness = witness
        self._now = now
        self._guests: dict[AgentId, _Guest] = {}
        self._look: asyncio.Task[None] | None = None
        self._look_at = Boot(0.0)

    @property
    def size(self) -> int:
        """How many wait."""
        return len(self._guests)

    def admit(self, due: Due, over: Callable[[Seen | None], bool]) -> None:
        """An agent waits from now on.

        Args:
            due: Whom, and for what; whoever is due otherwise does not wait.
            over: Whether it is over, from what a complete look shows; None for an agent who is not shown.
        """
        boot = self._now().boot
        if not self._guests:
            self._look_at = Boot(boot + LOOK_EVERY_S)
        self._guests[due.agent] = _Guest(due, over, boot, boot)
        log.debug("agent.waits", agent=str(due.agent), epoch=due.epoch)

    def without(self, offered: Iterable[Due]) -> list[Due]:
        """Those of the due who need not wait. Begins a look when it is time for one."""
        boot = self._now().boot
        free: list[Due] = []
        for due in offered:
            guest = self._guests.get(due.agent)
            if guest is None:
                free.append(due)
            elif guest.due == due:
                guest.offered_at = boot
            else:
                del self._guests[due.agent]
                free.append(due)
        if self._guests and self._look is None and boot >= self._look_at:
            self._guests = {agent: guest for agent, guest in self._guests.items() if boot - guest.offered_at < FORGET_S}
            self._look = asyncio.create_task(self._look_around())
        return free

    async def close(self) -> None:
        """Gives up the look that is under way."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    async def _look_around(self) -> None:
        try:
            began_at = self._now().boot
            waiting = dict(self._guests)
            await self._witness.survey(
                (agent, Rank(Level.LAST, guest.due.deadline)) for agent, guest in waiting.items()
            )
            for agent, guest in waiting.items():
                sighting = self._witness.glance(agent)
                if sighting is None or sighting.asked_at < began_at:
                    continue  # it could not be read
                shown = sighting.seen is not None or sighting.complete
                if shown and guest.over(sighting.seen) and self._guests.get(agent) is guest:
                    del self._guests[agent]
        finally:
            self._look = None
            self._look_at = Boot(self._now().boot + LOOK_EVERY_S)
