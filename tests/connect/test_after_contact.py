"""A status that follows a contact: what becomes of it when the contact has ended and nobody clears it."""

from __future__ import annotations

import asyncio

import pytest

from tests.connect.test_rules import LOGOUT, calls, rule, staff
from tests.connect.world import TTL, World, instant, world
from watchdog.core.brake import ALL
from watchdog.sandbox.records import Behaviour, ContactState, FaultKind

pytestmark = pytest.mark.looptime


async def in_a_call(w: World):
    """An agent who has left while a call goes on, and the call."""
    (anna,) = staff(w)
    call = w.model.add_contact(*anna, ContactState.CONNECTED)
    await w.start()
    await w.leave(anna)
    await asyncio.sleep(60)
    assert w.outcomes() == ["next_status"]
    return anna, call.id


@pytest.mark.parametrize("state", [ContactState.ENDED, ContactState.ERROR])
@pytest.mark.parametrize("crashes", [False, True])
async def test_after_contact_work_that_nobody_does_is_cleared(tmp_path, state, crashes):
    async with world(tmp_path, witness=False) as w:
        anna, call = await in_a_call(w)
        if crashes:
            await w.crash()
            await w.start()
        w.model.set_contact_state(*anna, call, state)
        await asyncio.sleep(60)
        assert w.shown(anna) == "Offline"
        assert sorted(w.outcomes()) == ["confirmed", "confirmed", "next_status"]
        assert len(w.puts()) == 1
        read = len(w.reads())
        await asyncio.sleep(300)
        assert len(w.reads()) == read


@pytest.mark.parametrize("witness", [True, False])
async def test_who_is_available_after_the_dismissal_is_a_ghost_again(tmp_path, witness):
    async with world(tmp_path, witness=witness) as w:
        anna, call = await in_a_call(w)
        w.model.set_contact_state(*anna, call, ContactState.ENDED)
        while not calls(w, "DismissUserContact"):
            await asyncio.sleep(0.1)
        w.model.agent_sets_status(*anna, "Available")
        await asyncio.sleep(TTL + 60)
        assert w.shown(anna) == "Offline"
        spared = ["witnessed"] if witness else []
        assert sorted(w.outcomes()[1:]) == ["confirmed", "confirmed", *spared]


async def test_where_contacts_are_cleared_in_connect_nothing_is_called(tmp_path):
    async with world(tmp_path, witness=False) as w:
        anna, call = await in_a_call(w)
        w.model.end_contact(*anna, call)
        await asyncio.sleep(60)
        assert (w.shown(anna), calls(w, "DismissUserContact")) == ("Offline", [])
        assert w.outcomes() == ["next_status", "confirmed"]


async def test_where_the_rule_says_so_nothing_is_cleared(tmp_path):
    async with world(tmp_path, witness=False, rules=(rule(dismiss=False),)) as w:
        anna, call = await in_a_call(w)
        w.model.set_contact_state(*anna, call, ContactState.ENDED)
        read = len(w.reads())
        await asyncio.sleep(300)
        assert (calls(w, "DismissUserContact"), w.outcomes()) == ([], ["next_status"])
        assert len(w.reads()) == read


async def test_who_returns_does_the_after_contact_work(tmp_path):
    async with world(tmp_path, witness=False) as w:
        anna, call = await in_a_call(w)
        await w.beat(anna)
        w.model.set_contact_state(*anna, call, ContactState.ENDED)
        await asyncio.sleep(20)
        assert calls(w, "DismissUserContact") == []
        assert w.shown(anna) == "Available"


async def test_who_has_chosen_another_status_in_the_call_keeps_it(tmp_path):
    async with world(tmp_path, witness=False) as w:
        anna, call = await in_a_call(w)
        w.model.agent_sets_status(*anna, "Lunch")
        w.model.set_contact_state(*anna, call, ContactState.ENDED)
        await asyncio.sleep(60)
        assert calls(w, "DismissUserContact") == []
        assert w.outcomes() == ["next_status", "returned"]


async def test_a_denied_dismissal_is_told_once_and_costs_no_reads(tmp_path):
    async with world(tmp_path, witness=False) as w:
        anna, call = await in_a_call(w)
        w.fault(FaultKind.ACCESS_DENIED, "DismissUserContact")
        w.model.set_contact_state(*anna, call, ContactState.ENDED)
        await asyncio.sleep(60)
        assert w.outcomes() == ["next_status", "failed", "next_status"]
        assert "denied" in w.problems()
        read = len(w.reads())
        await asyncio.sleep(300)
        assert len(w.reads()) == read


async def test_a_hold_puts_it_off(tmp_path):
    async with world(tmp_path, witness=False) as w:
        anna, call = await in_a_call(w)
        await w.store.order(ALL, hold=True, for_s=60.0, reason="test", instant=instant())
        w.model.set_contact_state(*anna, call, ContactState.ENDED)
        await asyncio.sleep(50)
        assert calls(w, "DismissUserContact") == []
        await asyncio.sleep(60)
        assert w.shown(anna) == "Offline"


async def test_a_sign_out_does_not_wait_for_after_contact_work_that_nobody_does(tmp_path):
    async with world(tmp_path, witness=False, rules=(rule("default", LOGOUT),)) as w:
        anna, call = await in_a_call(w)
        w.model.set_contact_state(*anna, call, ContactState.ENDED)
        await asyncio.sleep(90)
        assert w.shown(anna) == "Offline"
        assert len(calls(w, "DeleteAllEntitySessions")) == 1


async def test_nor_does_it_look_again_and_again_where_the_dismissal_is_denied(tmp_path):
    async with world(tmp_path, witness=False, rules=(rule("default", LOGOUT),)) as w:
        anna, call = await in_a_call(w)
        w.fault(FaultKind.ACCESS_DENIED, "DismissUserContact")
        w.model.set_contact_state(*anna, call, ContactState.ENDED)
        await asyncio.sleep(60)
        read = len(w.reads())
        await asyncio.sleep(300)
        assert len(w.reads()) - read <= 31
        assert calls(w, "DeleteAllEntitySessions") == []


async def test_nobody_is_signed_out_who_took_a_call_while_a_token_was_waited_for(tmp_path):
    listed = Behaviour(lists_offline=True)
    async with world(tmp_path, witness=False, rules=(rule("default", LOGOUT),), behaviour=listed) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await w.until(lambda: w.actions)
        take_tokens = w.store.take_tokens
        waited = []

        async def short(operation, *given):
            if operation != "DeleteAllEntitySessions" or (waited and instant().boot > waited[0] + 20):
                return await take_tokens(operation, *given)
            if not waited:
                waited.append(instant().boot)
                w.model.add_contact(*anna, ContactState.CONNECTED, contact_id="c")
            return 1.0

        w.store.take_tokens = short
        await asyncio.sleep(60)
        assert waited
        assert calls(w, "DeleteAllEntitySessions") == []
        w.model.end_contact(*anna, "c")
        await asyncio.sleep(60)
        assert len(calls(w, "DeleteAllEntitySessions")) == 1
