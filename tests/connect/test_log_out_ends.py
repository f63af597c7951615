"""How an explicit logout ends where something comes between the look and the end of the sessions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.connect.test_log_out import ended, refused
from tests.connect.world import World, world
from watchdog.core.logout import Failure
from watchdog.sandbox.records import Behaviour, ContactState, FaultKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


pytestmark = pytest.mark.looptime


@pytest.fixture
async def w(tmp_path) -> AsyncIterator[World]:
    async with world(tmp_path, reason_codes={"7": "Lunch"}, behaviour=Behaviour(lists_offline=True)) as made:
        yield made


def after_the_look(w: World, happens: Callable[[], object]) -> None:
    """Something happens after all was found well, and before the order is in the store."""
    log_out = w.store.log_out

    async def later(*given: Any) -> bool:
        happens()
        return await log_out(*given)

    w.store.log_out = later


async def test_a_call_of_an_agent_who_has_chosen_offline_as_the_next_status_is_not_cut_off(w):
    (anna,) = w.centre()
    await w.start()

    def calls() -> None:
        w.model.add_contact(*anna, ContactState.CONNECTED, contact_id="c")
        w.model.agent_sets_status(*anna, "Offline")

    after_the_look(w, calls)
    assert (await refused(w, anna)).why == Failure.AFTER_CONTACT
    await asyncio.sleep(30)
    assert ended(w, anna) == 0
    w.model.end_contact(*anna, "c")
    await w.until(lambda: ended(w, anna))
    assert w.shown(anna) == "Offline"


async def test_nor_is_one_that_was_begun_in_the_very_status_of_the_order(w):
    (anna,) = w.centre()
    w.model.agent_sets_status(*anna, "Lunch")
    await w.start()
    after_the_look(w, lambda: w.model.add_contact(*anna, ContactState.CONNECTED, contact_id="c"))
    assert (await refused(w, anna, reason_code="7")).why == Failure.AFTER_CONTACT
    assert ended(w, anna) == 0
    w.model.end_contact(*anna, "c")
    await w.until(lambda: ended(w, anna))


async def test_while_the_end_of_sessions_is_denied_it_costs_next_to_no_reads(w):
    (anna,) = w.centre()
    await w.start()
    w.fault(FaultKind.ACCESS_DENIED, "DeleteAllEntitySessions")
    assert (await refused(w, anna)).why == Failure.LATE
    read = len(w.reads())
    await asyncio.sleep(300)
    assert len(w.reads()) - read <= 12
    w.model.clear_faults()
    await asyncio.sleep(70)
    assert ended(w, anna) == 1


@pytest.mark.parametrize("crashes", [False, True])
async def test_who_overrules_the_order_is_watched_again_though_all_pages_are_stopped(w, crashes):
    (anna,) = w.centre()
    await w.start()
    await w.beat(anna)
    asked = asyncio.create_task(refused(w, anna))
    await w.until(w.puts)
    await asyncio.sleep(1.5)
    w.model.agent_sets_status(*anna, "Available")
    assert (await asked).why == Failure.RETURNED
    assert (w.shown(anna), ended(w, anna)) == ("Available", 0)
    if crashes:
        await w.crash()
        await w.start()
    for _ in range(12):
        await w.beat(anna)
        await asyncio.sleep(10)
    assert w.shown(anna) == "Offline", "nobody looks at it any more, and its next contacts ring at an empty chair"
    assert w.outcomes()[-1] == "confirmed"
    assert ended(w, anna) == 0


async def test_and_who_is_shown_otherwise_after_a_contact_that_the_order_waited_for(w):
    (anna,) = w.centre()
    await w.start()
    await w.beat(anna)
    after_the_look(w, lambda: w.model.add_contact(*anna, ContactState.CONNECTED, contact_id="c"))
    assert (await refused(w, anna)).why == Failure.AFTER_CONTACT
    w.model.agent_sets_status(*anna, "Available")
    w.model.end_contact(*anna, "c")
    await asyncio.sleep(120)
    assert (w.shown(anna), ended(w, anna)) == ("Offline", 0)


async def test_contacts_that_are_over_are_left_where_the_settings_say_so(tmp_path):
    async with world(tmp_path, dismiss=False) as w:
        (anna,) = w.centre()
        await w.start()
        w.model.add_contact(*anna, ContactState.ERROR, contact_id="c")
        assert (await refused(w, anna)).why == Failure.AFTER_CONTACT
        await asyncio.sleep(60)
        assert list(w.model.calls(operation="DismissUserContact")) == []
        w.model.end_contact(*anna, "c")
        await w.until(lambda: ended(w, anna))
