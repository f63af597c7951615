"""Agents who can get contacts and of whom nothing is heard: told once, or made due."""

from __future__ import annotations

import asyncio

import pytest

from tests.connect.world import TIMER, TTL, world
from watchdog.connect.reconcile import ReconcileRules
from watchdog.core.model import AgentState
from watchdog.sandbox.records import ContactState, FaultKind

pytestmark = pytest.mark.looptime

REPORT = ReconcileRules(60.0, None)
ACT = ReconcileRules(60.0, TTL)


async def minutes(w, count):
    """What the job does: a look each minute while the clock goes."""
    for _ in range(count):
        await asyncio.sleep(60)
        if w.clock is not None and w.clock.standing is None:
            await w.dispatcher.reconciler.run(w.clock.observed)


async def beats(w, *agents):
    while True:
        await w.beat(*agents)
        await asyncio.sleep(10)


async def test_who_is_routable_and_unseen_is_told_once_and_not_touched(tmp_path):
    async with world(tmp_path, reconcile=REPORT) as w:
        anna, bert, lunch, offline = w.centre(agents=4)
        w.model.agent_sets_status(*lunch, "Lunch")
        w.model.agent_sets_status(*offline, "Offline")
        await w.start()
        beating = asyncio.create_task(beats(w, bert))
        await minutes(w, 1)
        # anna may only just have signed in
        assert w.actions == []
        await minutes(w, 10)
        beating.cancel()
        (action,) = w.actions
        assert (action.agent, str(action.intent), str(action.outcome)) == (anna, "reconcile", "unseen")
        assert action.evidence["status"] == "Available"
        assert action.evidence["known_as"] is None
        assert w.dispatcher.reconciler.unseen == 1
        assert w.puts() == []
        assert await w.store.agent(anna) is None
        # Whoever was read has shown the profile, too.
        (profile,) = w.dispatcher.profiles.names(anna.instance_id)
        assert [w.dispatcher.profiles.name(each) for each in (anna, bert, lunch)] == [profile] * 3
        assert (await w.store.actions()).actions == (action,)


async def test_who_is_waited_for_is_told_though_the_clock_of_all_was_lost(tmp_path):
    """The deployment goes by a clock that began anew: a time of the lost one may never come."""
    async with world(tmp_path, reconcile=REPORT) as w:
        (anna,) = w.centre()
        await w.start()
        for clock in (36_000.0, 5.0, 35.0):
            await w.dispatcher.reconciler.run(clock)
            assert w.actions == []
        await w.dispatcher.reconciler.run(66.0)
        (action,) = w.actions
        assert (action.agent, str(action.outcome)) == (anna, "unseen")


async def test_a_second_appearance_is_told_again_and_a_second_process_tells_nothing_twice(tmp_path):
    async with world(tmp_path, reconcile=REPORT) as w:
        (anna,) = w.centre()
        await w.start()
        await minutes(w, 3)
        assert w.outcomes() == ["unseen"]
        await w.crash()
        await w.start()
        await minutes(w, 5)
        assert w.outcomes() == ["unseen"]
        w.model.agent_sets_status(*anna, "Lunch")
        await minutes(w, 1)
        assert w.dispatcher.reconciler.unseen == 0
        w.model.agent_sets_status(*anna, "Available")
        await minutes(w, 3)
        assert w.outcomes() == ["unseen", "unseen"]


async def test_act_gives_them_ttl_and_timer_and_the_ordinary_way(tmp_path):
    async with world(tmp_path, reconcile=ACT) as w:
        (anna,) = w.centre()
        await w.start()
        await minutes(w, 2)
        assert w.outcomes() == ["unseen"]
        assert (await w.store.agent(anna)).state is AgentState.LIVE
        await asyncio.sleep(TTL + TIMER - 1)
        assert w.puts() == []
        await asyncio.sleep(6)
        assert w.outcomes() == ["unseen", "confirmed"]
        assert w.shown(anna) == "Offline"
        await minutes(w, 5)
        assert w.outcomes() == ["unseen", "confirmed"]


async def test_act_spares_whoever_beats_before_the_deadline_or_takes_a_call(tmp_path):
    async with world(tmp_path, reconcile=ACT) as w:
        anna, bert = w.centre(agents=2)
        await w.start()
        await minutes(w, 2)
        assert w.outcomes() == ["unseen", "unseen"]
        beating = asyncio.create_task(beats(w, anna))
        await asyncio.sleep(20)
        w.model.add_contact(*bert, ContactState.CONNECTED)
        await asyncio.sleep(TTL + 1)
        beating.cancel()
        assert w.puts() == []
        assert w.outcomes() == ["unseen", "unseen", "witnessed"]


async def test_who_was_set_and_is_routable_again_without_a_heartbeat_is_unseen(tmp_path):
    async with world(tmp_path, reconcile=REPORT) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.outcomes() == ["confirmed"]
        w.model.agent_sets_status(*anna, "Available")
        await minutes(w, 4)
        assert w.outcomes() == ["confirmed", "unseen"]
        assert w.actions[-1].evidence["known_as"] == "away"


async def test_who_was_left_so_on_purpose_is_not_unseen(tmp_path):
    async with world(tmp_path, reconcile=ACT, dry_run=True) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await minutes(w, 6)
        assert w.outcomes() == ["dry_run"]


async def test_who_waits_for_the_target_after_a_contact_is_not_unseen(tmp_path):
    async with world(tmp_path, reconcile=ACT) as w:
        (anna,) = w.centre()
        w.model.add_contact(*anna, ContactState.CONNECTED)
        await w.start()
        await w.leave(anna)
        await minutes(w, 6)
        assert w.outcomes() == ["next_status"]


async def test_what_cannot_be_set_is_not_tried_again_and_again(tmp_path):
    async with world(tmp_path, reconcile=ACT) as w:
        w.centre()
        await w.start()
        w.fault(FaultKind.NO_EFFECT)
        await minutes(w, 12)
        assert w.outcomes() == ["unseen", "failed"]


async def test_all_pages_are_read_and_each_costs_a_token(tmp_path):
    async with world(tmp_path, reconcile=REPORT) as w:
        agents = w.centre(agents=7)
        await w.start()
        w.client.page = 3
        await minutes(w, 2)
        assert len(w.reads()) == 6
        assert {action.agent for action in w.actions} == set(agents)
        assert w.metrics.left["GetCurrentUserData"] < 4


@pytest.mark.parametrize("kind", [FaultKind.THROTTLE, FaultKind.INTERNAL, FaultKind.ACCESS_DENIED])
async def test_an_instance_that_cannot_be_read_is_left_as_it_was(tmp_path, kind):
    async with world(tmp_path, reconcile=ACT) as w:
        w.centre()
        await w.start()
        await minutes(w, 1)
        w.fault(kind, "GetCurrentUserData")
        await minutes(w, 5)
        assert w.actions == []
        assert w.dispatcher.reconciler.unseen == 1


async def test_a_missing_permission_to_read_by_profile_stops_nothing_else(tmp_path):
    async with world(tmp_path, reconcile=REPORT) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.ACCESS_DENIED, "GetCurrentUserData")
        await minutes(w, 1)
        assert w.problems() == {"reconcile_denied"}
        w.model.clear_faults()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.outcomes() == ["confirmed"]


async def test_that_profiles_can_be_read_does_not_mean_that_agents_can(tmp_path):
    async with world(tmp_path, reconcile=REPORT) as w:
        anna, bert = w.centre(agents=2)
        await w.start()
        w.fault(FaultKind.ACCESS_DENIED, "GetCurrentUserData", user_id=anna.user_id)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.problems() == {"denied"}
        (profile,) = w.dispatcher.directory.profile_ids("main")
        page = await w.dispatcher._guard.user_data_page("main", [profile], None)
        assert bert.user_id in page.rows
        assert w.problems() == {"denied"}


async def test_a_broken_circuit_is_not_probed_by_it(tmp_path):
    async with world(tmp_path, reconcile=REPORT) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.ACCESS_DENIED, "GetCurrentUserData")
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        read = len(w.reads())
        assert read == 1
        await w.dispatcher.reconciler.run(w.clock.observed)
        assert len(w.reads()) == read
