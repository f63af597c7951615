"""Whether there is room for agents who are new: counted over all daemons of a deployment.

Whoever takes a heartbeat refuses new agents of parts of its own (`Store.newcomer`). Who is new among the agents of
others is known to whoever has their parts, who refuses them here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from watchdog.core.model import Beat, BeatType, Reply, Verdict
from watchdog.stores.part_rows import part_of

if TYPE_CHECKING:
    from watchdog.stores.one_part import PartStore
    from watchdog.stores.register import Entry

REFUSED = Reply(Verdict.NO_ROOM, live=False, left_s=0.0)


def known(stores: Mapping[int, PartStore], entries: Sequence[Entry], name: str) -> int:
    """Agents that are known in all: those of our parts, and those of others as of their last reports.

    Who is not heard of has lost its parts, or will: its agents are counted by whoever has them now.

    Args:
        stores: Our parts, by number.
        entries: All daemons.
        name: Of this one.
    """
    others = (entry for entry in entries if entry.heard and entry.name != name)
    return sum(store.known for store in stores.values()) + sum(
        sum(entry.told.get("agents", {}).values()) for entry in others
    )


def refused(beats: Sequence[Beat], room: int, stores: Mapping[int, PartStore], shards: int) -> dict[int, Reply]:
    """What is answered to heartbeats of new agents for whom there is no room, by their places.

    Args:
        beats: That another daemon has taken.
        room: For how many new agents; 0 or less for none.
        stores: Our parts, by number. Of agents of others nothing is said.
        shards: How many parts there are.
    """
    if room >= len(beats):
        return {}
    found: dict[int, Reply] = {}
    for at, beat in enumerate(beats):
        store = stores.get(part_of(beat.agent, shards))
        # A bye opens nothing.
        if store is None or beat.type is BeatType.BYE or store.newcomer(beat.agent) is None:
            continue
        if room <= 0:
            found[at] = REFUSED
        room -= 1
    return found
