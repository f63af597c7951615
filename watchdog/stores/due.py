"""The agents who are due, in the order of their deadlines, so that a tick need not look at all of them.

After a hold that was released, or while Connect is away, everybody may be due at once; each tick asks for the first.
Each instance has a line of its own, so that one whose agents cannot be set never hides the agents of another.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from itertools import count, islice

from watchdog.core.model import AgentId, Due, Observed, Running
from watchdog.stores.facts import Agent

FEW = 50
"""Up to so many are put into their places one by one; more are sorted with all the others."""

Entry = tuple[Observed, int, Due, Agent]
"""The deadline, and a number that tells who was due first among equals."""


class DueLine:
    """Who is due. Adding and dropping cost the same for any number, but for a sort now and then."""

    def __init__(self, deadline: Callable[[Agent], Observed], serves: Callable[[AgentId], bool]) -> None:
        """Nobody is due.

        Args:
            deadline: Of an agent.
            serves: Whether anybody acts on an agent; those others are only counted.
        """
        self._deadline = deadline
        self._serves = serves
        self._numbers = count()
        self._lines: dict[str, _Line] = {}
        self._foreign: dict[str, set[AgentId]] = {}

    @property
    def backlog(self) -> int:
        """How many are due and served."""
        return sum(len(line.entries) for line in self._lines.values())

    @property
    def foreign(self) -> frozenset[str]:
        """Instances that are not served and of which agents are due."""
        return frozenset(self._foreign)

    def add(self, agent: Agent) -> None:
        """The agent is due. Once more for one who is changes nothing, unless its epoch or its deadline is another."""
        if not self._serves(agent.id):
            self._foreign.setdefault(agent.id.instance_id, set()).add(agent.id)
            return
        due = Due(agent.id, agent.epoch, self._deadline(agent), agent.follow_up if agent.settled else None)
        line = self._lines.get(agent.id.instance_id)
        if line is None:
            line = self._lines[agent.id.instance_id] = _Line()
        known = line.entries.get(agent.id)
        if known is None or known[2] != due or known[3] is not agent:
            line.add((due.deadline, next(self._numbers), due, agent))

    def drop(self, agent_id: AgentId) -> None:
        """The agent is not due any more."""
        line = self._lines.get(agent_id.instance_id)
        if line is not None and line.drop(agent_id):
            if not line.entries:
                del self._lines[agent_id.instance_id]
            return
        foreign = self._foreign.get(agent_id.instance_id, set())
        foreign.discard(agent_id)
        if not foreign:
            self._foreign.pop(agent_id.instance_id, None)

    def first(self, running: Running, limit: int) -> tuple[Due, ...]:
        """Those who may be claimed at `running`, `limit` at most, oldest deadline first.

        The instances share the limit: each has the same part of it, and what one does not use goes to the others. The
        rest of a division goes to those whose first agent waits longest.
        """
        sources = [(line.free(running), instance_id) for instance_id, line in self._lines.items()]
        if len(sources) == 1:
            return tuple(entry[2] for entry in islice(sources[0][0], limit))
        heads = [(head, instance_id, source) for source, instance_id in sources if (head := next(source, None))]
        heads.sort(key=lambda each: (each[0][0], each[1]))
        del heads[limit:]
        found, open_ = [head for head, _, _ in heads], [source for _, _, source in heads]
        while open_ and len(found) < limit:
            share, rest = divmod(limit - len(found), len(open_))
            turns, waiting = (open_, []) if share else (open_[:rest], open_[rest:])
            going_on: list[Iterator[Entry]] = []
            for source in turns:
                taken = list(islice(source, share or 1))
                found += taken
                if len(taken) == (share or 1):
                    going_on.append(source)
            open_ = waiting + going_on
        return tuple(entry[2] for entry in sorted(found, key=_place))


class _Line:
    """Who is due of one instance.

    Attributes:
        entries: By agent.
    """

    __slots__ = ("_line", "_new", "entries")

    def __init__(self) -> None:
        self.entries: dict[AgentId, Entry] = {}
        # In order; those who are not due any more are taken out when they are as many as the others.
        self._line: list[Entry] = []
        self._new: list[Entry] = []

    def add(self, entry: Entry) -> None:
        self.entries[entry[2].agent] = entry
        self._new.append(entry)

    def drop(self, agent_id: AgentId) -> bool:
        """Returns whether the agent was due."""
        if self.entries.pop(agent_id, None) is None:
            return False
        if len(self._line) + len(self._new) > 2 * len(self.entries) + FEW:
            self._line, self._new = sorted(self.entries.values(), key=_place), []
        return True

    def free(self, running: Running) -> Iterator[Entry]:
        """Those who may be claimed, oldest deadline first. Nothing may be added or dropped meanwhile."""
        if len(self._new) > FEW:
            self._line = sorted([*self._line, *self._new], key=_place)
        else:
            for entry in self._new:
                insort(self._line, entry, key=_place)
        self._new = []
        for entry in self._line:
            _, _, due, agent = entry
            free = agent.claim is None and agent.not_before <= running and not agent.restoring
            if free and self.entries.get(due.agent) is entry:
                yield entry


def _place(entry: Entry) -> tuple[Observed, int]:
    return entry[:2]
