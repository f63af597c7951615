"""The agents of a lease table in the order of their ids, and the search among them: what pages are made of.

Whoever asks waits on the event loop with everybody else: a page costs as much as it tells, a search that finds nothing
a look at each agent and no more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping

from watchdog.core.model import AgentId, AgentState
from watchdog.stores.facts import Agent


class Listing:
    """Agents in order. New ones are put in their place when somebody asks."""

    def __init__(self, agents: Mapping[AgentId, Agent]) -> None:
        """Takes the agents, which are the table's."""
        self._agents = agents
        self._order: list[AgentId] | None = None
        self._added: list[AgentId] = []

    def add(self, agent_id: AgentId) -> None:
        """There is a new agent."""
        if self._order is not None:
            self._added.append(agent_id)

    def forget(self) -> None:
        """There are fewer agents, or others."""
        self._order, self._added = None, []

    def after(self, cursor: AgentId | None, state: AgentState | None = None, query: str = "") -> Iterator[Agent]:
        """Agents from the one after `cursor` on.

        Args:
            cursor: The last one that was told; None for none.
            state: Under which they were counted last; None for any.
            query: In lower case, part of `instance/user`.
        """
        order, agents, sought = self._sorted(), self._agents, _search(query)
        for position in range(0 if cursor is None else bisect_right(order, cursor), len(order)):
            agent = agents.get(order[position])
            if agent is not None and (state is None or agent.phase is state) and sought(agent.id):
                yield agent

    def _sorted(self) -> list[AgentId]:
        if self._order is None:
            self._order = sorted(self._agents)
        elif self._added:
            # Two runs that are in order each: merged, not sorted.
            self._order += sorted(self._added)
            self._order.sort()
            self._added = []
        return self._order


def _search(query: str) -> Callable[[AgentId], bool]:
    if not query:
        return lambda _: True
    if "/" in query:
        return lambda agent_id: query in str(agent_id).lower()
    # Instances are few.
    instances: dict[str, bool] = {}

    def sought(agent_id: AgentId) -> bool:
        found = instances.get(agent_id.instance_id)
        if found is None:
            found = instances[agent_id.instance_id] = query in agent_id.instance_id.lower()
        return found or query in agent_id.user_id.lower()

    return sought
