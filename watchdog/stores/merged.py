"""What several parts, or daemons, tell, as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from watchdog.core.model import AgentState
from watchdog.stores import packed
from watchdog.stores.base import ReplicaView
from watchdog.stores.keeper import Told

if TYPE_CHECKING:
    from watchdog.core.model import Due
    from watchdog.stores.register import Entry


def evenly(due: Sequence[Due], limit: int) -> tuple[Due, ...]:
    """Those with the oldest deadlines, oldest first; the instances share the limit."""
    ordered = sorted(due, key=lambda each: each.deadline)
    if len(ordered) <= limit:
        return tuple(ordered)
    # The first of each instance, then the second ones, and so on.
    places: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for at, each in enumerate(ordered):
        places[each.agent.instance_id] += 1
        turns.append((places[each.agent.instance_id], at))
    return tuple(ordered[at] for at in sorted(at for _, at in sorted(turns)[:limit]))


def view_of(entry: Entry, *, here: bool, keeper: bool) -> ReplicaView:
    """What a daemon tells of itself, for people."""
    try:
        told: Told = packed.read(Told, orjson.dumps(entry.told))
    except ValueError:
        told = Told()  # of another version
    return ReplicaView(
        name=entry.name,
        here=here,
        keeper=keeper,
        version=told.version,
        parts=told.parts,
        agents={state: told.agents.get(state.value, 0) for state in AgentState},
        sessions=told.sessions,
        backlog=told.backlog,
        reported_s_ago=entry.age_s,
        blind=entry.blind,
    )
