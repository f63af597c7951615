"""Who is there, who is quiet, and how many of each instance: what the brake asks of a lease table at every tick.

Counted when an agent changes, never by looking at all of them. A renewal changes nothing here unless its agent was
quiet or gone. No decisions: those are in `core/brake.py`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from watchdog.core import deadline
from watchdog.core.brake import WINDOWS_S
from watchdog.core.model import Observed
from watchdog.stores.facts import NEVER, Agent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from watchdog.core.model import AgentId

MICRO = 1_000_000
"""Paces are added up as whole micro-beats a second: a sum of fractions would drift over months."""

SAMPLE_S = 1.0
"""Least observed time between two entries of how many agents had a lease."""


class Here:
    """The agents of one instance, counted.

    Attributes:
        leased: How many have a lease.
        awake: How many of those are not quiet.
        pace: Micro-beats a second that they owe.
    """

    __slots__ = ("_past", "awake", "leased", "pace")

    def __init__(self) -> None:
        self.leased = 0
        self.awake = 0
        self.pace = 0
        self._past: deque[tuple[Observed, int]] = deque()

    def sample(self, clock: Observed) -> None:
        """Notes how many have a lease, when it has changed, and forgets what no window reaches."""
        past = self._past
        while len(past) > 1 and past[1][0] <= clock - WINDOWS_S[-1]:
            past.popleft()
        if not past or (past[-1][1] != self.leased and clock - past[-1][0] >= SAMPLE_S):
            past.append((clock, self.leased))

    def most(self, since: Observed) -> int:
        """The most that had a lease at a time from `since` on."""
        most = self.leased
        for at, number in reversed(self._past):
            most = max(most, number)
            if at <= since:
                break
        return most


class Presence:
    """Everybody.

    Attributes:
        instances: By instance id, those that have ever had an agent with a lease.
        everybody: All of them together.
        quiet: Agents who fell silent and have not been heard since, until the brake has no more use for them.
    """

    def __init__(self) -> None:
        self.instances: dict[str, Here] = {}
        self.everybody = Here()
        self.quiet: dict[AgentId, Agent] = {}
        self._sampled_at = NEVER

    def sample(self, clock: Observed) -> None:
        """Notes how many have a lease, at most once in `SAMPLE_S`."""
        if clock - self._sampled_at >= SAMPLE_S:
            self._sampled_at = clock
            self.everybody.sample(clock)
            for here in self.instances.values():
                here.sample(clock)

    def place(self, agent: Agent, *, leased: bool, awake: bool) -> None:
        """Counts the agent as what it is now. While awake it owes a beat in the time after which it would be quiet."""
        here = self.instances.get(agent.id.instance_id)
        if here is None:
            here = self.instances[agent.id.instance_id] = Here()
        ttl = ttl_of(agent) if awake else 0.0
        pace = _pace(ttl) - _pace(agent.ttl)
        for each in (here, self.everybody):
            each.leased += leased - agent.leased
            each.awake += awake - agent.awake
            each.pace += pace
        agent.leased, agent.awake, agent.ttl = leased, awake, ttl

    def load(self, agents: Iterable[Agent]) -> None:
        """Counts agents who were not counted yet and have one live session each, as `place` would one by one."""
        alike: dict[tuple[str, float], int] = {}
        for agent in agents:
            agent.leased = agent.awake = True
            agent.ttl = ttl_of(agent)
            each = agent.id.instance_id, agent.ttl
            alike[each] = alike.get(each, 0) + 1
        for (instance_id, ttl), number in alike.items():
            for here in (self.instances.setdefault(instance_id, Here()), self.everybody):
                here.leased += number
                here.awake += number
                here.pace += number * _pace(ttl)

    def forget(self, agent: Agent) -> None:
        """The agent is not known any more."""
        self.place(agent, leased=False, awake=False)
        self.quiet.pop(agent.id, None)


def _pace(ttl: float) -> int:
    """Micro-beats a second that an agent owes who is awake with this TTL; none without one."""
    return int(MICRO / (deadline.QUIET_SHARE * ttl)) if ttl > 0 else 0


def quiet_at(agent: Agent) -> Observed | None:
    """From when on the agent is quiet with its leases as they are; None when its last session ended by a bye.

    A session whose row is forgotten ended long ago: nothing can be told from it.
    """
    at = silent = bye = NEVER
    for session in agent.sessions:
        if session.closed:
            bye = max(bye, session.expires_at)
        else:
            silent = max(silent, session.expires_at)
            at = max(at, deadline.quiet_at(session.expires_at, session.ttl))
    return None if silent == NEVER or bye > silent else at


def ttl_of(agent: Agent) -> float:
    """The longest TTL of the agent's sessions that said no bye."""
    session = agent.alone
    if session is not None:
        return 0.0 if session.closed else session.ttl
    return max((session.ttl for session in agent.sessions if not session.closed), default=0.0)
