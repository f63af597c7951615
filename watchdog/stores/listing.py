"""The agents of a lease table in the order of their ids: what pages are made of, and what a search goes through.

Kept in short runs, so that neither a newcomer nor a page costs more among many: the event loop waits for both.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence

from watchdog.core.model import AgentId

RUN = 1_000
"""Most agents in a run, which is looked at in one go: about a millisecond."""


class Listing:
    """Ids in order."""

    def __init__(self) -> None:
        """Starts empty."""
        self._runs: list[list[AgentId]] = []
        self._lasts: list[AgentId] = []

    def load(self, agents: Iterable[AgentId]) -> None:
        """Begins anew with these."""
        order = sorted(agents)
        self._runs = [order[begin : begin + RUN // 2] for begin in range(0, len(order), RUN // 2)]
        self._lasts = [run[-1] for run in self._runs]

    def add(self, agent: AgentId) -> None:
        """There is a new agent."""
        if not self._runs:
            self._runs, self._lasts = [[agent]], [agent]
            return
        place = min(bisect_left(self._lasts, agent), len(self._runs) - 1)
        run = self._runs[place]
        insort(run, agent)
        if len(run) > RUN:
            self._runs[place : place + 1] = [run[: RUN // 2], run[RUN // 2 :]]
            self._lasts.insert(place, run[RUN // 2 - 1])
            place += 1
        self._lasts[place] = self._runs[place][-1]

    def drop(self, agent: AgentId) -> None:
        """There is one less, if it was there."""
        place = bisect_left(self._lasts, agent)
        if place == len(self._runs):
            return
        run = self._runs[place]
        position = bisect_left(run, agent)
        if run[position] != agent:
            return
        del run[position]
        if run:
            self._lasts[place] = run[-1]
        else:
            del self._runs[place], self._lasts[place]

    def following(self, cursor: AgentId | None) -> Sequence[AgentId]:
        """The next ids after `cursor` (None: the first ones), at most `RUN`; none at the end."""
        if cursor is None:
            return self._runs[0][:] if self._runs else ()
        place = bisect_right(self._lasts, cursor)
        if place == len(self._runs):
            return ()
        run = self._runs[place]
        return run[bisect_right(run, cursor) :]


def search(query: str) -> Callable[[AgentId], bool]:
    """Whether an id has this text, which is in lower case, in the instance's or the user's part, or in both as one."""
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
