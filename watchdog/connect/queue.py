"""Who is next: the order of agents, of instances that share a quota, and how many may be in hand at a time.

Pure, but for the turns of the instances, which count. Nothing is awaited here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from watchdog.connect.answers import Seen, StatusType
from watchdog.core.model import Observed


class Level(IntEnum):
    """What is at stake when an agent waits; the lowest is first."""

    UNDO = -1
    """Is there, and not in the status that was theirs, by our mistake."""
    SOON = 0
    """Could get the next contact: a routable status with a free slot."""
    LATER = 1
    """Shown by Connect, but gets no contact now."""
    LAST = 2
    """Not shown by Connect, so probably Offline already; or a read that only helps to order."""


class Rank(NamedTuple):
    """Where somebody stands in the queue of an instance; the smallest is first.

    Attributes:
        level: What is at stake.
        deadline: The agent's deadline: whoever is gone for longest is first.
    """

    level: Level
    deadline: Observed


class Turns:
    """Whose turn it is among instances that share a quota.

    `Level.UNDO` comes before all others, and `Level.LAST` after them, whatever the instance. Otherwise the instance
    that was served longest ago is first, so that one whose calls all fail takes no more than its share.
    """

    def __init__(self) -> None:
        """Nobody has been served."""
        self._served: dict[str, int] = {}
        self._count = 0

    def key(self, instance_id: str, rank: Rank) -> tuple[int, int, Rank]:
        """What to sort by; it changes with every `serve`."""
        apart = (rank.level is Level.LAST) - (rank.level is Level.UNDO)
        return apart, self._served.get(instance_id, 0), rank

    def serve(self, instance_id: str) -> None:
        """The instance was served: it is last now."""
        self._count += 1
        self._served[instance_id] = self._count


def level(seen: Seen | None, kind: StatusType | None) -> Level:
    """What is at stake with an agent.

    Args:
        seen: What Connect showed; None when it did not show the agent.
        kind: Type of the status that was shown; None when the status is not known.
    """
    if seen is None:
        return Level.LAST
    # A status that is not in the directory yet may be a routable one.
    routable = kind in (StatusType.ROUTABLE, None) and seen.next_status is None
    return Level.SOON if routable and any(free > 0 for free in seen.available.values()) else Level.LATER


def rooms(due: Mapping[str, int], busy: Mapping[str, int], capacity: int) -> dict[str, int]:
    """How many more agents of each instance may be taken in hand.

    When all fit, all of them; else each instance has an equal part, at least one, whatever the others hold: an
    instance whose calls hang keeps nobody else from the quota.

    Args:
        due: How many wait, by instance.
        busy: How many are in hand and have not had their token, by instance.
        capacity: How many tokens there will be in the time that an agent may wait for one.
    """
    if sum(due.values()) + sum(busy.values()) <= capacity:
        return dict(due)
    sharing = sum(1 for instance_id in due.keys() | busy.keys() if due.get(instance_id, 0) + busy.get(instance_id, 0))
    part = max(1, math.ceil(capacity / max(1, sharing)))
    return {instance_id: max(0, part - busy.get(instance_id, 0)) for instance_id in due}
