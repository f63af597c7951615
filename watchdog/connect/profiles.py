"""Which routing profile each agent had when Connect showed them last: for those who look at lists of agents.

Only what other reads bring along: nothing is called, kept on disk, or decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import intern

from watchdog.connect.answers import Seen
from watchdog.core.model import AgentId

MOST = 100_000
"""Agents who are remembered, 25 MB: those noted first are forgotten first."""


class Profiles:
    """Routing profiles by agent, in memory."""

    def __init__(self, names: Callable[[], Mapping[str, Mapping[str, str]]]) -> None:
        """Starts without having seen anybody.

        Args:
            names: Names of profiles by instance and id, as listed last.
        """
        self._names = names
        self._ids: dict[AgentId, str] = {}

    def note(self, instance_id: str, rows: Mapping[str, Seen]) -> None:
        """Connect showed these, by user id. Who is not in it keeps the profile that is known."""
        for user_id, seen in rows.items():
            if seen.profile_id:
                self._ids[AgentId(instance_id, user_id)] = intern(seen.profile_id)
        while len(self._ids) > MOST:
            del self._ids[next(iter(self._ids))]

    def name(self, agent: AgentId) -> str | None:
        """The name of the agent's profile, or None when it is not known."""
        profile_id = self._ids.get(agent)
        return None if profile_id is None else self._names().get(agent.instance_id, {}).get(profile_id)

    def having(self, name: str) -> Callable[[AgentId], bool]:
        """Whether an agent is known to have a profile of this name, in whichever instance."""
        wanted = {
            (instance_id, profile_id)
            for instance_id, names in self._names().items()
            for profile_id, each in names.items()
            if each == name
        }
        return lambda agent: (agent.instance_id, self._ids.get(agent)) in wanted

    def names(self, instance_id: str) -> list[str]:
        """Names of an instance's profiles, in order."""
        return sorted(self._names().get(instance_id, {}).values())
