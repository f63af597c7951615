"""The history as it is delivered: in the order of its commits, from where a receiver is, over crashes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.contract.world import START, action_of, settled
from watchdog.core.model import Epoch

if TYPE_CHECKING:
    from tests.contract.world import World
    from watchdog.core.model import Action

LATE, EARLY = f"{int(START * 1000) + 5000:012x}-late", f"{int(START * 1000) - 5000:012x}-early"


async def an_action(world: World) -> Action:
    """The only one in the history: an agent was set."""
    return action_of(await settled(world), at=world.instant.epoch)


async def numbers(world: World, after: int = 0, limit: int = 100) -> list[tuple[int, str]]:
    page = await world.store.recorded(after, limit)
    return [(number, action.id) for number, action in page.actions]


async def test_what_is_recorded_later_comes_later_though_its_id_is_lower(world: World) -> None:
    first = await an_action(world)
    await world.store.record([replace(first, id=LATE)])
    (_, (read, key)) = await numbers(world)
    assert key == LATE
    await world.store.record([replace(first, id=EARLY)])
    assert await numbers(world, after=read) == [(read + 1, EARLY)]


async def test_a_repetition_has_no_second_number(world: World) -> None:
    first = await an_action(world)
    await world.store.record([first])
    assert [key for _, key in await numbers(world)] == [first.id]
    await world.store.record([replace(first, id=LATE)])
    assert len(await numbers(world)) == 2


async def test_pages_end_where_the_next_begins(world: World) -> None:
    first = await an_action(world)
    await world.store.record([replace(first, id=LATE), replace(first, id=EARLY)])
    page = await world.store.recorded(0, 2)
    assert len(page.actions) == 2
    assert page.last == 3
    rest = await world.store.recorded(page.through, 2)
    assert [action.id for _, action in rest.actions] == [EARLY]
    assert rest.through == 3
    assert await world.store.recorded(3) == replace(rest, actions=())


async def test_numbers_go_on_after_all_was_pruned_and_over_a_restart(world: World) -> None:
    first = await an_action(world)
    await world.store.record([replace(first, id=LATE)])
    assert await world.store.prune(Epoch(START + 1000)) >= 2
    await world.restart()
    page = await world.store.recorded(0)
    assert (page.actions, page.through, page.last) == ((), 2, 2)
    await world.store.record([replace(first, id=EARLY)])
    assert await numbers(world, after=2) == [(3, EARLY)]
    await world.store.record([replace(first, id=LATE)])
    assert await numbers(world, after=3) == [(4, LATE)]


async def test_where_a_receiver_is_survives_a_crash(world: World) -> None:
    assert await world.store.delivered("one") is None
    await world.store.mark_delivered("one", 7)
    await world.store.mark_delivered("other", 1)
    await world.restart()
    assert (await world.store.delivered("one"), await world.store.delivered("other")) == (7, 1)
