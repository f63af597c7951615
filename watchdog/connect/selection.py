"""Which of the due agents are claimed now: within the quota, past no open circuit, a backlog in the order of need.

The order itself is in `queue.py`. Reads ahead of the claims (the survey) and refreshes of the directory run beside.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from watchdog.connect.answers import DELETE_ALL_ENTITY_SESSIONS, Status
from watchdog.connect.circuit import Circuits, Gate, Line
from watchdog.connect.directory import Directory, Unresolved
from watchdog.connect.plan import Plans
from watchdog.connect.queue import Level, Rank, level, rooms
from watchdog.connect.scopes import Scopes
from watchdog.connect.witness import FRESH_LOOK_S, Sighting, Witness
from watchdog.core.model import Boot, Due, Instant, Next

CLAIM_AHEAD_S = 5.0
"""Agents are claimed when a token will be there for them within this time: longer, and the order would be old."""

SURVEYED = 500
"""Most agents of an instance that are read ahead at a time to order a backlog: five calls."""

SURVEY_AGAIN_S = 60.0
"""Agents of a backlog are looked at again after this; until then, and until it is done, the old look orders them."""

SURVEY_BACKOFF_S = 60.0
"""Longest pause after a survey that failed; a random part of it is waited."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """An agent to claim now.

    Attributes:
        due: Who.
        rank: The place in the queues for tokens.
    """

    due: Due
    rank: Rank


class Selection:
    """Chooses, tick by tick. Keeps nothing of a tick."""

    def __init__(
        self,
        scopes: Scopes,
        directory: Directory,
        plans: Plans,
        circuits: Circuits,
        witness: Witness,
        rate: Callable[[str], float],
        *,
        random: Callable[[], float],
        now: Callable[[], Instant],
    ) -> None:
        """Composes.

        Args:
            scopes: Of quotas and credentials.
            directory: Knows the statuses.
            plans: Tell what agents will probably be set to.
            circuits: Which instances are not to be called.
            witness: Has seen agents, or looks at them.
            rate: Tokens of PutUserStatus a second, by scope.
            random: From 0 to 1, for the pause after a failed survey.
            now: The machine's clocks.
        """
        self._scopes = scopes
        self._directory = directory
        self._plans = plans
        self._circuits = circuits
        self._witness = witness
        self._rate = rate
        self._random = random
        self._now = now
        # None while a survey runs, else when the next one may begin.
        self._surveys: dict[str, Boot | None] = {}
        self._background: set[asyncio.Task[None]] = set()

    def choose(self, waiting: Sequence[Due], unserved: Mapping[str, int], lines: Collection[Line]) -> list[Chosen]:
        """The agents to claim now, those of each instance in order.

        Args:
            waiting: Due agents of the instances that are served who are not in hand, oldest deadline first.
            unserved: How many are in hand and wait for their first token, by instance.
            lines: What others wait for; circuits that are open there are needed.
        """
        by_instance: dict[str, list[Due]] = {}
        for each in waiting:
            by_instance.setdefault(each.agent.instance_id, []).append(each)
        leaving = {Line(due.agent.instance_id, DELETE_ALL_ENTITY_SESSIONS) for due in waiting if _signs_out(due)}
        scopes: dict[str, dict[str, dict[str, list[Due]]]] = {}
        for instance_id, due in by_instance.items():
            scopes.setdefault(self._scopes[instance_id], {})[instance_id] = self._by_target(instance_id, due)
        needed = {instance_id: groups for of_scope in scopes.values() for instance_id, groups in of_scope.items()}
        self._circuits.keep(needed, leaving.union(lines))
        return [chosen for scope, of_scope in scopes.items() for chosen in self._of_scope(scope, of_scope, unserved)]

    async def close(self) -> None:
        """Gives up surveys and refreshes."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _of_scope(
        self, scope: str, due: Mapping[str, Mapping[str, list[Due]]], unserved: Mapping[str, int]
    ) -> list[Chosen]:
        ready: dict[str, list[Due]] = {}
        chosen: list[Chosen] = []
        for instance_id, groups in due.items():
            places = (instance_id, self._scopes.credentials(instance_id))
            self._list_again(instance_id, places)
            for target_id, group in groups.items():
                match self._circuits.gate(places, target_id):
                    case Gate.OPEN:
                        ready.setdefault(instance_id, []).extend(group)
                    case Gate.PROBE:
                        # Any of them: the one that waits longest may be the one that is refused.
                        first = group[int(self._random() * len(group)) % len(group)]
                        self._circuits.probe(first.agent, places, target_id)
                        chosen.append(Chosen(first, Rank(Level.SOON, first.deadline)))
                    case Gate.SHUT:
                        pass
        busy = {each: count for each, count in unserved.items() if self._scopes.get(each) == scope}
        capacity = max(1, int(self._rate(scope) * CLAIM_AHEAD_S))
        room = rooms({instance_id: len(waiting) for instance_id, waiting in ready.items()}, busy, capacity)
        for instance_id, waiting in ready.items():
            # Whose turn it is among the instances is told when a token comes.
            chosen += [Chosen(each, rank) for rank, each in self._ranked(instance_id, waiting, room[instance_id])]
        return chosen

    def _by_target(self, instance_id: str, waiting: Iterable[Due]) -> dict[str, list[Due]]:
        """Agents by the id of the status that they will probably be set to; without those for whom there is none.

        Whoever is to be signed out while that is refused is left out as well.
        """
        refused = self._circuits.refusal(Line(instance_id, DELETE_ALL_ENTITY_SESSIONS)) is not None
        found: dict[str, list[Due]] = {}
        for due in waiting:
            if refused and _signs_out(due):
                continue
            sighting = self._witness.glance(due.agent)
            target = self._plans.likely(due, None if sighting is None else sighting.seen)
            if isinstance(target, Status):
                found.setdefault(target.id, []).append(due)
        return found

    def _list_again(self, instance_id: str, places: Sequence[str]) -> None:
        """What could not be listed is listed again from time to time; so is an instance that lacks a status."""
        unresolved = isinstance(self._directory.target(instance_id), Unresolved)
        wanted = unresolved or self._directory.fault(instance_id) is not None
        if wanted and self._directory.overdue(instance_id) and self._circuits.gate(places, "") is not Gate.SHUT:
            self._spawn(self._directory.refresh(instance_id))

    def _ranked(self, instance_id: str, waiting: list[Due], room: int) -> list[tuple[Rank, Due]]:
        """The next agents in their order, `room` at most; those of a backlog once they have been looked at."""
        if len(waiting) <= room:
            return [(Rank(Level.SOON, due.deadline), due) for due in waiting]
        ranked: list[tuple[Rank, Due]] = []
        unseen: list[Due] = []
        stale: list[Due] = []
        again_before = self._now().boot - SURVEY_AGAIN_S
        for due in waiting:
            sighting = self._witness.glance(due.agent)
            if sighting is None:
                unseen.append(due)
                continue
            if sighting.asked_at < again_before:
                stale.append(due)
            ranked.append((Rank(self._level(instance_id, sighting), due.deadline), due))
        if unseen or stale:
            self._survey(instance_id, [*unseen, *stale][:SURVEYED])
        if unseen and self._surveys[instance_id] is None:
            # More urgent ones may be among those who are being looked at now.
            ranked = [each for each in ranked if each[0].level is Level.SOON]
        ahead = int(self._rate(self._scopes[instance_id]) * FRESH_LOOK_S)
        line = heapq.nsmallest(room + ahead, ranked, key=lambda item: item[0])
        if any(self._old(due) for _, due in line[:room]):
            # They will be looked at again; in the same read, so are those who will be claimed until it is old, too.
            self._spawn(self._looked_ahead([due for _, due in line[room:] if self._old(due)]))
        return line[:room]

    def _old(self, due: Due) -> bool:
        sighting = self._witness.glance(due.agent)
        return sighting is None or sighting.asked_at < self._now().boot - FRESH_LOOK_S

    async def _looked_ahead(self, agents: Sequence[Due]) -> None:
        await self._witness.survey((due.agent, Rank(Level.LAST, due.deadline)) for due in agents)

    def _level(self, instance_id: str, sighting: Sighting) -> Level:
        seen = sighting.seen
        return level(seen, self._directory.type_of(instance_id, seen.status_id) if seen is not None else None)

    def _survey(self, instance_id: str, agents: Sequence[Due]) -> None:
        """Looks at agents ahead, one survey of an instance at a time; after a failed one not at once again."""
        not_before = self._surveys.get(instance_id, Boot(0.0))
        if not_before is not None and self._now().boot >= not_before:
            self._surveys[instance_id] = None
            self._spawn(self._surveyed(instance_id, agents))

    async def _surveyed(self, instance_id: str, agents: Sequence[Due]) -> None:
        pause_s = SURVEY_BACKOFF_S * self._random()
        try:
            failed = await self._witness.survey((due.agent, Rank(Level.LAST, due.deadline)) for due in agents)
            pause_s = pause_s if failed is not None else 0.0
        finally:
            self._surveys[instance_id] = Boot(self._now().boot + pause_s)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _signs_out(due: Due) -> bool:
    return due.follow_up is not None and due.follow_up.next is Next.SIGN_OUT
