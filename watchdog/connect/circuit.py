"""Which parts of Amazon Connect are not to be called for now, and why.

A circuit opens when AWS refuses for a reason that only a person can mend. While it is open one call a minute probes;
nothing else of that instance (or, for credentials, of that account and region) is claimed. It knows nothing of calls:
`guard.py` opens and closes, the dispatcher asks.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import structlog

from watchdog.connect.answers import GET_CURRENT_USER_DATA, LIST_AGENT_STATUSES, PUT_USER_STATUS
from watchdog.core.model import AgentId, Boot, Epoch, Instant
from watchdog.errors import ConnectDenied

PROBE_EVERY_S = 60.0
"""Between two probes of an open circuit: a missing permission takes a person minutes, and each probe costs a token."""

ANY_OPERATION = "*"
"""Operation of a circuit that stands for all calls of an account and region."""

NEEDED = (ANY_OPERATION, LIST_AGENT_STATUSES, GET_CURRENT_USER_DATA, PUT_USER_STATUS)
"""Without these nobody can be set. Whatever else is refused, agents are claimed and set all the same."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person has to mend, as `/v1/status` shows it.

    Attributes:
        code: What kind it is, one constant word.
        detail: What is wrong and what to do.
        since: Wall clock of its beginning.
    """

    code: str
    detail: str
    since: Epoch


class Gate(Enum):
    """Whether agents of an instance may be claimed."""

    OPEN = auto()
    """All of them."""
    PROBE = auto()
    """One, to see whether the fault is mended."""
    SHUT = auto()
    """None for now."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a circuit breaks.

    Attributes:
        where: An instance id, or the scope of credentials.
        operation: The API, or `ANY_OPERATION`.
        target: The status' id for a write, else empty.
    """

    where: str
    operation: str
    target: str = ""


@dataclass(slots=True)
class _Broken:
    problem: Problem
    probe_at: Boot
    needed_at: Boot
    prober: AgentId | None = None


class Circuits:
    """All open circuits of the process. Not kept anywhere: after a restart the first call finds out again."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        """Starts with every circuit closed."""
        self._now = now
        self._broken: dict[Line, _Broken] = {}

    def open(self, line: Line, code: str, detail: str) -> None:
        """Opens a circuit, or puts off the next probe of one that is open."""
        instant = self._now()
        broken = self._broken.get(line)
        if broken is None:
            self._broken[line] = broken = _Broken(Problem(code, detail, instant.epoch), instant.boot, instant.boot)
            log.warning("circuit.opened", where=line.where, operation=line.operation, code=code, detail=detail)
        broken.probe_at = Boot(instant.boot + PROBE_EVERY_S)
        broken.needed_at = instant.boot

    def close(self, line: Line) -> None:
        """Closes a circuit after a call that succeeded."""
        broken = self._broken.pop(line, None)
        if broken is not None:
            stood_s = round(self._now().epoch - broken.problem.since, 1)
            log.info("circuit.closed", where=line.where, operation=line.operation, after_s=stood_s)

    def keep(self, needed: Mapping[str, Container[str]], lines: Container[Line] = ()) -> None:
        """Drops circuits that nobody has needed for the time between two probes: the next call finds out again.

        Those of listings and credentials stay; listings go on whatever is open, and close them.

        Args:
            needed: Instances of which agents wait, with the ids of the targets that they wait for.
            lines: What else is waited for.
        """
        boot = self._now().boot
        for line, broken in list(self._broken.items()):
            by_agents = line.operation not in (ANY_OPERATION, LIST_AGENT_STATUSES)
            by_target = line.where in needed and (not line.target or line.target in needed[line.where])
            wanted = line in lines or (line.operation in NEEDED and by_target)
            if not by_agents or wanted:
                broken.needed_at = boot
            if boot - broken.needed_at >= PROBE_EVERY_S:
                del self._broken[line]
                log.info("circuit.dropped", where=line.where, operation=line.operation, code=broken.problem.code)

    def refusal(self, line: Line) -> str | None:
        """Why this must not be called now; None when the circuit is closed or its next probe is due."""
        broken = self._broken.get(line)
        return broken.problem.detail if broken is not None and self._now().boot < broken.probe_at else None

    def check(self, line: Line) -> None:
        """Lets through what may be called now: whoever would be refused makes no call.

        Raises:
            ConnectDenied: The circuit is open, and its next probe is not due.
        """
        refusal = self.refusal(line)
        if refusal is not None:
            raise ConnectDenied(refusal, operation=line.operation)

    def gate(self, places: Sequence[str], target: str) -> Gate:
        """Whether agents may be claimed.

        Args:
            places: The instance and the scope of its credentials.
            target: The status that they would be set to; circuits of other targets do not count.
        """
        relevant = self._relevant(places, target)
        if not relevant:
            return Gate.OPEN
        boot = self._now().boot
        ready = all(broken.prober is None and boot >= broken.probe_at for broken in relevant)
        return Gate.PROBE if ready else Gate.SHUT

    def probe(self, agent: AgentId, places: Sequence[str], target: str) -> None:
        """The agent's calls are the probe of every circuit that is in its way; the gate is shut until `probed`."""
        for broken in self._relevant(places, target):
            broken.prober = agent

    def probed(self, agent: AgentId) -> None:
        """The agent is done. Where its calls never came to the broken operation, the next agent may probe at once."""
        for broken in self._broken.values():
            if broken.prober == agent:
                broken.prober = None

    def problems(self) -> list[Problem]:
        """Open circuits, oldest first."""
        return sorted((broken.problem for broken in self._broken.values()), key=lambda problem: problem.since)

    def _relevant(self, places: Sequence[str], target: str) -> list[_Broken]:
        return [
            broken
            for line, broken in self._broken.items()
            if line.operation in NEEDED and line.where in places and line.target in ("", target)
        ]
