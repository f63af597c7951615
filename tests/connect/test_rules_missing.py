"""Rules whose status does not exist: nobody is touched by them, and nobody else waits for them."""

from __future__ import annotations

import asyncio

import pytest

from tests.connect.test_rules import rule, staff
from tests.connect.world import TIMER, world
from watchdog.core.policy import OnContact
from watchdog.sandbox.records import ContactState

pytestmark = pytest.mark.looptime


async def test_whom_an_earlier_rule_is_for_does_not_wait_for_the_status_of_the_last_one(tmp_path):
    rules = (rule("sales", profiles=["Sales"]), rule("default", (TIMER, "Nowhere")))
    async with world(tmp_path, rules=rules) as w:
        seller, clerk = staff(w, 2, profiles=["Sales", "Back office"])
        await w.start()
        await w.leave(seller, clerk)
        await asyncio.sleep(30)
        assert (w.shown(seller), w.shown(clerk)) == ("Offline", "Available")
        assert [action.agent for action in w.actions] == [seller]
        read = len(w.reads())
        await asyncio.sleep(300)
        assert len(w.reads()) - read <= 12
        w.model.add_status("main", "Nowhere")
        await w.dispatcher.directory.refresh()
        await asyncio.sleep(70)
        assert w.shown(clerk) == "Nowhere"


async def test_nor_whom_no_rule_is_for(tmp_path):
    rules = (rule("sales", profiles=["Sales"]), rule("default", (TIMER, "Nowhere"), states=["Lunch"]))
    async with world(tmp_path, rules=rules) as w:
        (clerk,) = staff(w, profiles=["Back office"])
        await w.start()
        await w.leave(clerk)
        await asyncio.sleep(30)
        assert w.outcomes() == ["skipped_state"]


async def test_nor_who_is_left_alone_on_a_contact(tmp_path):
    rules = (rule("sales", profiles=["Sales"], on_contact=OnContact.SKIP), rule("default", (TIMER, "Nowhere")))
    async with world(tmp_path, rules=rules, witness=False) as w:
        (seller,) = staff(w, profiles=["Sales"])
        w.model.add_contact(*seller, ContactState.CONNECTED)
        await w.start()
        await w.leave(seller)
        await asyncio.sleep(30)
        assert w.outcomes() == ["skipped_contact"]


async def test_nobody_is_set_to_a_status_that_contacts_are_routed_to(tmp_path):
    async with world(tmp_path, rules=(rule("lunch", (TIMER, "Available"), states=["Lunch"]), rule())) as w:
        anna, berta = staff(w, 2)
        w.model.agent_sets_status(*anna, "Lunch")
        await w.start()
        await w.leave(anna, berta)
        await asyncio.sleep(60)
        assert (w.shown(anna), w.shown(berta)) == ("Lunch", "Offline")
        assert [action.agent for action in w.actions] == [berta]
