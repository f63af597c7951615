"""What Connect shows of agents while the brake holds them: who is there lives, who missed a contact is set."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.connect.test_brake import INTERVAL, agents_of, floor
from tests.connect.world import FAST, TIMER, TTL, instant, world
from watchdog.connect.held import LOOK_S
from watchdog.connect.queue import Level, Rank
from watchdog.core.brake import ALL, BrakeRules, State
from watchdog.core.model import Observed
from watchdog.core.quota import QuotaRules
from watchdog.errors import StoreUnavailable
from watchdog.sandbox.records import ContactState, FaultKind

pytestmark = pytest.mark.looptime

SKEWS = pytest.mark.parametrize("skew", [0.0, 3600.0, -3600.0], ids=["same-clock", "connect-ahead", "connect-behind"])


async def all_silent(w, f):
    """Two minutes of work, then nothing is heard any more, for so long that everybody's deadline is over."""
    await asyncio.sleep(120)
    f.cut = set(f.agents)
    await w.until(lambda: w.tick.brake.held == len(f.agents))
    await asyncio.sleep(TTL + TIMER)


@SKEWS
async def test_of_all_who_are_held_only_the_one_who_misses_a_contact_is_set_within_a_minute(tmp_path, skew):
    async with floor(tmp_path, 40, skew=skew) as (w, f):
        await all_silent(w, f)
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        missed_at = instant().epoch
        await asyncio.sleep(LOOK_S + 5)
        assert [call.user_id for call in w.puts()] == [f.agents[0].user_id]
        await asyncio.sleep(600)
        assert agents_of(w, "confirmed") == agents_of(w, "released") == f.agents[:1]
        assert {w.shown(agent) for agent in f.agents[1:]} == {"Available"}
        assert w.tick.brake.held == 39
        released = next(action for action in w.actions if action.outcome == "released")
        contact = released.evidence["contact"]
        assert (contact["state"], contact["at"]) == ("MISSED", pytest.approx(missed_at + skew, abs=0.01))
        assert 0 <= contact["age_s"] <= LOOK_S + 2
        assert released.evidence["brake"]["reason"] == "mass_silence"
        assert released.evidence["brake"]["held_s"] > TTL
        assert released in (await w.store.actions(outcome="released")).actions


@SKEWS
async def test_whoever_takes_a_contact_in_a_hold_is_alive_and_held_again_when_that_is_over(tmp_path, skew):
    async with floor(tmp_path, 40, skew=skew) as (w, f):
        await all_silent(w, f)
        anna = f.agents[0]
        w.model.add_contact(*anna, ContactState.CONNECTED)
        taken_at = instant().epoch
        await w.until(lambda: "witnessed" in w.outcomes())
        assert instant().epoch - taken_at < LOOK_S + 2
        assert (await w.store.agent(anna)).state == "live"
        (action,) = [each for each in w.actions if each.outcome == "witnessed"]
        assert action.agent == anna
        assert action.evidence["activity"]["kind"] == "contact"
        assert action.evidence["brake"]["group"] == ALL
        await asyncio.sleep(300)
        assert (await w.store.agent(anna)).state == "held"
        assert w.outcomes().count("witnessed") == 1
        assert w.puts() == []


async def test_whoever_chooses_a_status_in_a_hold_is_alive(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await all_silent(w, f)
        w.model.agent_sets_status(*f.agents[0], "Lunch")
        await w.until(lambda: "witnessed" in w.outcomes())
        assert agents_of(w, "witnessed") == f.agents[:1]
        assert w.puts() == []


async def test_what_was_clicked_before_the_last_heartbeat_changes_nothing(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await asyncio.sleep(100)
        w.model.agent_sets_status(*f.agents[0], "Lunch")
        w.model.add_contact(*f.agents[1], ContactState.CONNECTED)
        w.model.add_contact(*f.agents[2], ContactState.MISSED)
        await asyncio.sleep(INTERVAL + 2)
        f.cut = set(f.agents)
        await asyncio.sleep(300)
        assert w.reads()
        assert set(w.outcomes()) == {"held"}
        assert w.tick.brake.held == 40


@pytest.mark.parametrize("state", [ContactState.INCOMING, ContactState.ENDED, ContactState.REJECTED])
async def test_a_contact_that_only_rings_or_is_over_changes_nothing(tmp_path, state):
    async with floor(tmp_path, 40) as (w, f):
        await all_silent(w, f)
        w.model.add_contact(*f.agents[0], state)
        await asyncio.sleep(3 * LOOK_S)
        assert set(w.outcomes()) == {"held"}
        assert w.puts() == []


async def test_a_contact_that_was_missed_before_another_was_taken_changes_nothing(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await all_silent(w, f)
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        await asyncio.sleep(1)
        w.model.add_contact(*f.agents[0], ContactState.CONNECTED, channel="CHAT")
        await asyncio.sleep(300)
        assert agents_of(w, "witnessed") == f.agents[:1]
        assert agents_of(w, "released") == []
        assert w.puts() == []


async def test_who_took_a_contact_and_then_misses_one_is_set(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await all_silent(w, f)
        w.model.add_contact(*f.agents[0], ContactState.CONNECTED, channel="CHAT")
        await w.until(lambda: "witnessed" in w.outcomes())
        await asyncio.sleep(5)
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        await asyncio.sleep(TTL + TIMER + LOOK_S + 10)
        assert agents_of(w, "released") == f.agents[:1]
        assert len(w.puts()) == 1


@pytest.mark.parametrize("kind", [FaultKind.INTERNAL, FaultKind.THROTTLE, FaultKind.TIMEOUT, FaultKind.ACCESS_DENIED])
async def test_a_read_that_fails_is_no_answer_and_is_made_again_later(tmp_path, kind):
    async with floor(tmp_path, 40) as (w, f):
        await asyncio.sleep(120)
        f.cut = set(f.agents)
        w.fault(kind, "GetCurrentUserData")
        await w.until(lambda: w.tick.brake.held == 40)
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        await asyncio.sleep(120)
        assert w.reads()
        assert len(w.reads()) <= 120 / LOOK_S + 1 or kind is FaultKind.THROTTLE
        assert set(w.outcomes()) == {"held"}
        w.model.clear_faults()
        await asyncio.sleep(120)
        assert agents_of(w, "released") == agents_of(w, "confirmed") == f.agents[:1]


async def test_an_answer_that_took_long_makes_nothing_newer_than_it_is(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        read = w.client.current_user_data

        async def slowly(instance_id, user_ids):
            data = await read(instance_id, user_ids)
            await asyncio.sleep(22)
            return data

        w.client.current_user_data = slowly
        await asyncio.sleep(110)
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        await asyncio.sleep(11)
        f.cut = set(f.agents)
        await asyncio.sleep(100)
        assert w.tick.brake.held == 40
        assert set(w.outcomes()) == {"held"}


async def test_an_answer_without_a_date_proves_nothing(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        read = w.client.current_user_data

        async def undated(instance_id, user_ids):
            return replace(await read(instance_id, user_ids), dated=False)

        w.client.current_user_data = undated
        await all_silent(w, f)
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        w.model.add_contact(*f.agents[1], ContactState.CONNECTED)
        await asyncio.sleep(100)
        assert set(w.outcomes()) == {"held"}


async def test_without_the_witness_nobody_is_looked_at(tmp_path):
    async with floor(tmp_path, 40, witness=False) as (w, f):
        await all_silent(w, f)
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        w.model.add_contact(*f.agents[1], ContactState.CONNECTED)
        await asyncio.sleep(300)
        assert (w.reads(), w.puts()) == ([], [])
        assert set(w.outcomes()) == {"held"}


async def test_a_heartbeat_between_the_read_and_the_release_keeps_the_agent(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await all_silent(w, f)
        release = w.store.release_held

        async def heard_before(held, *rest):
            await w.beat(held.agent)
            return await release(held, *rest)

        w.store.release_held = heard_before
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        await w.until(lambda: w.tick.brake.held == 39)
        assert (await w.store.agent(f.agents[0])).state == "live"
        await asyncio.sleep(120)
        assert w.puts() == []
        assert "released" not in w.outcomes()


async def test_who_is_in_the_target_already_is_left_held_and_not_mentioned(tmp_path):
    async with floor(tmp_path, 40, status="Lunch") as (w, f):
        await all_silent(w, f)
        w.model.agent_sets_status(*f.agents[0], "Lunch")
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        w.model.add_contact(*f.agents[1], ContactState.CONNECTED)
        w.model.agent_sets_status(*f.agents[1], "Lunch")
        await asyncio.sleep(120)
        assert set(w.outcomes()) == {"held"}
        assert w.tick.brake.held == 40


async def test_who_is_not_shown_is_left_held(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await all_silent(w, f)
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        w.model.agent_sets_status(*f.agents[0], "Offline")
        await asyncio.sleep(120)
        assert set(w.outcomes()) == {"held"}


async def test_a_write_of_ours_that_took_effect_unanswered_is_no_activity(tmp_path):
    async with floor(tmp_path, 40, status="Lunch") as (w, f):
        await asyncio.sleep(121)
        f.cut = {f.agents[0]}
        await asyncio.sleep(29)
        # The first is due and written to just before the hold; the answer is lost, and then the target is another one.
        f.cut = set(f.agents)
        w.fault(FaultKind.LOST_ANSWER, times=1, delay_s=60)
        await w.until(w.puts)
        await w.until(lambda: w.tick.brake.held == 40)
        assert w.shown(f.agents[0]) == "Lunch"
        await w.crash()
        w.status = "Offline"
        await w.start()
        await w.until(w.reads)
        await asyncio.sleep(LOOK_S)
        assert "witnessed" not in w.outcomes()


async def test_a_contact_that_was_missed_before_another_was_taken_proves_nothing_when_that_is_long_ago(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await all_silent(w, f)
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData")
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        await asyncio.sleep(1)
        w.model.add_contact(*f.agents[0], ContactState.CONNECTED, channel="CHAT")
        await asyncio.sleep(TTL + TIMER)
        w.model.clear_faults()
        await asyncio.sleep(2 * LOOK_S)
        assert set(w.outcomes()) == {"held"}


async def test_while_reads_fail_there_is_one_in_the_time_of_a_round(tmp_path):
    async with floor(tmp_path, 250) as (w, f):
        await all_silent(w, f)
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData")
        before = len(w.reads())
        await asyncio.sleep(4 * LOOK_S)
        assert 3 <= len(w.reads()) - before <= 5


async def test_a_restart_in_a_hold_goes_on_looking(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await all_silent(w, f)
        await w.crash()
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        await asyncio.sleep(3)
        await w.start()
        before = len(w.reads())
        # The clock stands for as long as agents may take to return; nobody is written to meanwhile.
        await w.until(lambda: "released" in w.outcomes())
        assert len(w.reads()) > before
        await asyncio.sleep(30 + LOOK_S)
        assert agents_of(w, "released") == f.agents[:1]
        assert [call.user_id for call in w.puts()] == [f.agents[0].user_id]
        assert w.tick.brake.held == 39


async def test_no_held_ghost_costs_more_than_one_missed_contact(tmp_path):
    """Contacts ring at whoever is routable and free; a missed one is cleared after a while by the routing."""
    rules = BrakeRules(max_hold_s=900)
    async with floor(tmp_path, 40, brake=rules) as (w, f):
        await all_silent(w, f)
        missed = dict.fromkeys(f.agents, 0)

        async def rings(agent):
            contact = w.model.add_contact(*agent)
            await asyncio.sleep(20)
            w.model.set_contact_state(*agent, contact.id, ContactState.MISSED)
            missed[agent] += 1
            await asyncio.sleep(45)
            if w.model.user(*agent).contacts:
                w.model.end_contact(*agent, contact.id)

        for _ in range(20):
            free = [a for a in f.agents[:10] if w.shown(a) == "Available" and not w.model.user(*a).contacts]
            calls = [asyncio.create_task(rings(agent)) for agent in free]
            await asyncio.sleep(66)
            await asyncio.gather(*calls)
        assert set(missed.values()) <= {0, 1}
        assert sum(missed.values()) == 10
        assert agents_of(w, "confirmed") == sorted(f.agents[:10])
        assert {w.shown(agent) for agent in f.agents[10:]} == {"Available"}


async def test_each_held_agent_is_looked_at_about_every_25_s_and_in_whole_batches(tmp_path):
    async with floor(tmp_path, 250) as (w, f):
        await all_silent(w, f)
        before = len(w.reads())
        await asyncio.sleep(10 * LOOK_S)
        assert 3 * 9 <= len(w.reads()) - before <= 3 * 11
        # Nothing is kept of those who are left held.
        assert [agent for agent in f.agents if w.dispatcher._witness.glance(agent) is not None] == []
        assert w.puts() == []


async def test_with_more_held_than_the_quota_can_read_an_agent_who_is_due_waits_for_none_of_them(tmp_path):
    slow = QuotaRules(rate=0.5, burst=1.0, share=0.8)
    async with world(tmp_path, quota=slow, brake=BrakeRules()) as w:
        ghosts = [agent for name in "abcd" for agent in w.centre(name, agents=250)]
        leaver = ghosts.pop()
        await w.start()
        await w.beat(*ghosts, leaver)
        await asyncio.sleep(20)
        await w.beat(leaver)
        await asyncio.sleep(40)
        assert w.tick.brake.held == 1000
        before = len(w.reads())
        for _ in range(6):
            await asyncio.sleep(20)
            await w.beat(leaver)
        assert len(w.reads()) - before >= 120 * 0.4 - 1
        await w.leave(leaver)
        await asyncio.sleep(TIMER + 3.5)
        assert len(w.puts(leaver)) == 1


async def test_whoever_is_asked_about_in_a_hurry_takes_the_place_of_those_who_wait(tmp_path):
    """A read of held agents waits for its token behind all others; the next due agent of that instance must not."""
    slow = QuotaRules(rate=0.5, burst=1.0, share=0.8)
    async with world(tmp_path, quota=slow) as w:
        (anna, bert), (carl,), (dora,) = w.centre("one", agents=2), w.centre("two"), w.centre("three")
        await w.start()
        witness = w.dispatcher._witness
        seen = []

        async def see(agent, level, at):
            await asyncio.sleep(at)
            await witness.see(agent, since=instant().boot, rank=Rank(level, Observed(at)))
            seen.append(agent)

        await asyncio.gather(
            see(carl, Level.SOON, 0.0),
            see(anna, Level.LAST, 0.1),
            see(bert, Level.SOON, 2.0),
            see(dora, Level.SOON, 2.1),
        )
        assert (seen[0], set(seen[1:3]), seen[3]) == (carl, {anna, bert}, dora)


async def test_an_operators_hold_is_not_ended_by_a_missed_contact(tmp_path):
    async with floor(tmp_path, 6, quota=FAST) as (w, f):
        await asyncio.sleep(60)
        await w.store.order(ALL, hold=True, for_s=1800, reason="", instant=instant())
        f.cut = set(f.agents)
        await asyncio.sleep(60)
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        w.model.add_contact(*f.agents[1], ContactState.CONNECTED)
        await asyncio.sleep(120)
        assert w.puts() == []
        assert agents_of(w, "witnessed") == f.agents[1:2]
        assert "released" not in w.outcomes()


async def test_a_store_that_is_away_loses_no_look(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await all_silent(w, f)
        real = w.store.release_held
        asked = []

        async def refuse(held, *rest):
            asked.append(held.agent)
            raise StoreUnavailable("not now")

        w.store.release_held = refuse
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        await w.until(lambda: len(asked) == 2)
        assert w.puts() == []
        w.store.release_held = real
        await asyncio.sleep(LOOK_S + 5)
        assert agents_of(w, "released") == f.agents[:1]


async def test_a_small_team_that_is_listened_for_is_looked_at_too(tmp_path):
    async with floor(tmp_path, 2) as (w, f):
        await asyncio.sleep(120)
        f.cut = set(f.agents)
        await w.until(lambda: w.tick.brake.state is State.LISTENING)
        await asyncio.sleep(10)
        w.model.add_contact(*f.agents[0], ContactState.MISSED)
        at = instant().epoch
        await w.until(lambda: w.puts(f.agents[0]))
        assert instant().epoch - at < LOOK_S + 5
        assert w.puts(f.agents[1]) == []
