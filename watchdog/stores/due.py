"""The agents who are due, in the order of their deadlines, so that a tick need not look at all of them.

After a hold that was released, or while Connect is away, everybody may be due at once; each tick asks for the first.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from itertools import count

from watchdog.core.model import AgentId, Due, Observed, Running
from watchdog.stores.facts import Agent

FEW = 50
"""Up to so many are put into their places one by one; more are sorted with all the others."""

Entry = tuple[Observed, int, Due, Agent]
"""The deadline, and a number that tells who was due first among equals."""


class DueLine:
    """Who is due. Adding and dropping cost the same for any number, but for a sort now and then."""

    def __init__(self, timer_s: float, serves: Callable[[AgentId], bool]) -> None:
        """Nobody is due.

        Args:
            timer_s: From the end of an agent's last lease to the deadline.
            serves: Whether anybody acts on an agent; those others are only counted.
        """
        self._timer_s = timer_s
        self._serves = serves
        self._numbers = count()
        self._entries: dict[AgentId, Entry] = {}
        self._foreign: dict[str, set[AgentId]] = {}
        # In order; those who are not due any more are taken out when they are as many as the others.
        self._line: list[Entry] = []
        self._new: list[Entry] = []

    @property
    def backlog(self) -> int:
        """How many are due and served."""
        return len(self._entries)

    @property
    def foreign(self) -> frozenset[str]:
        """Instances that are not served and of which agents are due."""
        return frozenset(self._foreign)

    def add(self, agent: Agent) -> None:
        """The agent is due. Once more for one who is changes nothing, unless its epoch or its deadline is another."""
        if not self._serves(agent.id):
            self._foreign.setdefault(agent.id.instance_id, set()).add(agent.id)
            return
        due = Due(agent.id, agent.epoch, Observed(agent.ends_at + self._timer_s))
        known = self._entries.get(agent.id)
        if known is None or known[2] != due or known[3] is not agent:
            entry = self._entries[agent.id] = (due.deadline, next(self._numbers), due, agent)
            self._new.append(entry)

    def drop(self, agent_id: AgentId) -> None:
        """The agent is not due any more."""
        if self._entries.pop(agent_id, None) is None:
            foreign = self._foreign.get(agent_id.instance_id, set())
            foreign.discard(agent_id)
            if not foreign:
                self._foreign.pop(agent_id.instance_id, None)
        elif len(self._line) + len(self._new) > 2 * len(self._entries) + FEW:
            self._line, self._new = sorted(self._entries.values(), key=_place), []

    def first(self, running: Running, limit: int) -> tuple[Due, ...]:
        """Those who may be claimed at `running`, `limit` at most, oldest deadline first."""
        if len(self._new) > FEW:
            self._line = sorted([*self._line, *self._new], key=_place)
        else:
            for entry in self._new:
                insort(self._line, entry, key=_place)
        self._new = []
        found: list[Due] = []
        for entry in self._line:
            if len(found) >= limit:
                break
            _, _, due, agent = entry
            free = agent.claim is None and agent.not_before <= running and not agent.restoring
            if free and self._entries.get(due.agent) is entry:
                found.append(due)
        return tuple(found)


def _place(entry: Entry) -> tuple[Observed, int]:
    return entry[:2]
