"""What happened, line by line: the transcript that a violation carries and whose digest two runs of a seed share."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

TAIL = 60
"""Lines that a violation carries: about the last minute around one agent."""

KEPT = 20_000
"""Lines that are kept to take them from."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept.

    Attributes:
        rule: The invariant's name.
        seed: Of the world.
        at: Virtual seconds.
        agent: The user's id; empty when it is about no single one.
        detail: What was seen, and what was promised.
        events: The last lines of the transcript about the agent and the world.
        replicas: The world is one of several daemons.
    """

    rule: str
    seed: int
    at: float
    agent: str
    detail: str
    events: tuple[str, ...]
    replicas: bool = False

    def __str__(self) -> str:
        head = f"seed {self.seed}, {self.at:.3f} s{', ' + self.agent if self.agent else ''}: {self.rule}: {self.detail}"
        again = f"again: python -m watchdog simulate --seed {self.seed} --check{' --replicas' * self.replicas}"
        return "\n".join((head, *(f"    {line}" for line in self.events), f"    {again}"))


class Journal:
    """The transcript of one world."""

    def __init__(
        self,
        seed: int,
        time: Callable[[], float],
        echo: Callable[[str], None] | None = None,
        *,
        replicas: bool = False,
    ) -> None:
        """Begins an empty one.

        Args:
            seed: Of the world.
            time: Virtual seconds.
            echo: Is given each line, to show it.
            replicas: The world is one of several daemons.
        """
        self.seed = seed
        self._replicas = replicas
        self.violations: list[Violation] = []
        self.lines = 0
        self._time = time
        self._echo = echo
        self._kept: deque[tuple[str, str]] = deque(maxlen=KEPT)
        self._digest = hashlib.sha256()

    def add(self, what: str, agent: str = "") -> None:
        """Writes a line. `agent` is a user's id, or empty for what concerns all."""
        line = f"{self._time():11.3f}  {agent[:8] or '-':<8}  {what}"
        self.lines += 1
        self._digest.update(line.encode())
        self._kept.append((agent, line))
        if self._echo is not None:
            self._echo(line)

    def violate(self, rule: str, detail: str, agent: str = "") -> None:
        """Notes a promise that was not kept; the same rule once for each agent."""
        if any(known.rule == rule and known.agent == agent for known in self.violations):
            return
        self.add(f"VIOLATION {rule}: {detail}", agent)
        about = [line for of, line in self._kept if of in ("", agent)] if agent else [line for _, line in self._kept]
        self.violations.append(
            Violation(rule, self.seed, self._time(), agent, detail, tuple(about[-TAIL:]), self._replicas)
        )

    def digest(self) -> str:
        """SHA-256 of all lines so far, in hex."""
        return self._digest.hexdigest()
