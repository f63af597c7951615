"""A server that comes back without its last writes, when those who remember them are gone as well."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.contract.world import TIMER, TTL, session
from tests.stores.daemons import AGENTS, play
from watchdog.core.model import Beat, BeatType
from watchdog.errors import StoreUnavailable

if TYPE_CHECKING:
    from tests.stores.daemons import Daemons
    from watchdog.core.model import AgentId

THROTTLED_TTL = 150.0
MINUTE = 60.0
HIDDEN, BY_WORKER, OTHERS = AGENTS[:6], AGENTS[6:9], AGENTS[9:]


def beats(agents: list[AgentId], ttl: float, *, hidden: bool = False, main_driver: bool = False) -> list[Beat]:
    return [
        Beat(agent, session(AGENTS.index(agent) + 100), BeatType.BEAT, 0, None, ttl, hidden, main_driver)
        for agent in agents
    ]


def lost(*, again: bool) -> tuple[set[AgentId], set[AgentId]]:
    """Pages are hidden and beat once a minute from then on; that they said so is lost.

    Args:
        again: Whoever has their parts then is lost as well, before it has heard of them.

    Returns:
        Who is due after two minutes, and who is in the end.
    """
    found: list[set[AgentId]] = []

    async def story(daemons: Daemons) -> None:
        async def others() -> None:
            while True:
                with contextlib.suppress(StoreUnavailable):
                    await daemons.stores[0].apply(beats(OTHERS, TTL), daemons.instant)
                await asyncio.sleep(5.0)

        daemons.beating = False
        daemons.rules = replace(daemons.rules, longest_ttl_s=THROTTLED_TTL)
        first, *rest = daemons.stores
        seen = beats(HIDDEN, TTL, main_driver=True) + beats(BY_WORKER, TTL)
        await first.apply(seen, daemons.instant)
        await asyncio.sleep(5.0)
        saved = daemons.server.model.saved()
        await first.apply(beats(HIDDEN, THROTTLED_TTL, hidden=True, main_driver=True), daemons.instant)
        await asyncio.sleep(1.0)
        daemons.server.model.restore(saved)
        for store in (first, *rest):
            await daemons.die(store)
        await daemons.start()
        task = asyncio.create_task(others())
        if again:
            await asyncio.sleep(10.0)
            task.cancel()
            await daemons.die(daemons.stores[0])
            await daemons.start()
            task = asyncio.create_task(others())
        await asyncio.sleep(2 * MINUTE)
        found.append(set(daemons.due))
        await asyncio.sleep(THROTTLED_TTL + TIMER)
        found.append(set(daemons.due))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    play(story)
    return found[0], found[1]


def test_a_page_that_was_hidden_in_the_last_moments_has_the_time_of_a_hidden_one() -> None:
    assert lost(again=False) == (set(BY_WORKER), {*BY_WORKER, *HIDDEN})


def test_it_has_it_too_when_the_next_daemon_is_lost_as_well() -> None:
    assert lost(again=True) == (set(BY_WORKER), {*BY_WORKER, *HIDDEN})
