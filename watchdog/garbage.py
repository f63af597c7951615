"""The garbage collector and many agents: it looks at all of them each time that a quarter more have come.

A full collection takes 1.5 µs an agent, in which nobody is answered. Agents are no garbage: the counts of references
free them when they are forgotten. So they are taken out of the collector's way as they come.
"""

import gc

STEP = 20_000
"""New agents with whom a full collection takes 30 ms."""


class Settled:
    """Knows how many agents there were when they were last taken out of the way."""

    def __init__(self) -> None:
        """There were none."""
        self._agents = 0

    def count(self, agents: int) -> None:
        """Takes all out of the way if there are `STEP` more than there were. Young garbage is collected before."""
        self._agents = min(self._agents, agents)
        if agents - self._agents >= STEP:
            self._agents = agents
            gc.collect(1)
            gc.freeze()
