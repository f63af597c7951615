"""Whose turn it is to be looked at, of the held agents of each instance. Every step costs the same for any number."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from watchdog.core.model import AgentId, Running


class Turns:
    """Held agents, by instance, in the order in which they were held or had their last turn."""

    def __init__(self) -> None:
        self._since: dict[str, OrderedDict[AgentId, Running]] = {}

    def add(self, agent: AgentId, running: Running) -> None:
        """The agent is held from now on: the last in turn."""
        line = self._since.setdefault(agent.instance_id, OrderedDict())
        line[agent] = running
        line.move_to_end(agent)

    def drop(self, agent: AgentId) -> None:
        """The agent is not held any more."""
        line = self._since.get(agent.instance_id)
        if line is not None:
            line.pop(agent, None)

    def instances(self) -> list[str]:
        """Those of which somebody is held."""
        return [instance_id for instance_id, line in self._since.items() if line]

    def of(self, instance_id: str) -> list[AgentId]:
        """All who are held of an instance."""
        return list(self._since.get(instance_id, ()))

    def take(self, instance_id: str, after_s: float, limit: int, running: Running) -> list[AgentId]:
        """The next agents, `limit` at most, who are the last in turn then.

        Nobody while the next one was held, or had its turn, less than `after_s` ago. With it come those for whom it is
        half as long, so that all whose times differ a little have one turn together.
        """
        line = self._since.get(instance_id)
        if not line or next(iter(line.values())) > running - after_s:
            return []
        taken: list[AgentId] = []
        for agent, since in islice(line.items(), limit):
            if since > running - after_s / 2:
                break
            taken.append(agent)
        for agent in taken:
            self.add(agent, running)
        return taken
