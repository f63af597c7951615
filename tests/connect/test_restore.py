"""The undo of our own mistakes, on virtual time: each way to make one, and each reason to leave things as they are."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import structlog

from tests.connect.test_brake import Floor
from tests.connect.test_endings import Brittle
from tests.connect.world import FAST, TIMER, TTL, Suspended, SwitchDisk, instant, world
from watchdog.core.brake import BrakeRules, State
from watchdog.core.model import BeatType, Epoch
from watchdog.sandbox.records import Behaviour, ContactState, FaultKind

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def silent(tmp_path, *, contact=False, former="Available", agents=1, **options):
    """Agents who were set Offline because nothing was heard of them: their only session said no bye."""
    async with world(tmp_path, quota=FAST, **options) as w:
        made = w.centre(agents=agents, status=former)
        if contact:
            w.contact = w.model.add_contact(*made[0], ContactState.CONNECTED)
        await w.start()
        await w.beat(*made)
        await asyncio.sleep(TTL + TIMER + 5)
        assert len(w.actions) == agents
        yield w, made


async def stays(w, *agents, seconds, every=10.0, number=1, gap_ms=0.0):
    """Agents beat for some time."""
    for _ in range(int(seconds / every)):
        await w.beat(*agents, number=number, gap_ms=gap_ms)
        await asyncio.sleep(every)


def undone(w):
    return [action for action in w.actions if action.intent == "restore"]


def outcomes(w):
    return [str(action.outcome) for action in undone(w)]


# (a) crossed.


async def test_who_is_heard_while_the_status_is_written_gets_the_former_one_back_at_once(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await w.until(w.puts)
        await w.beat(anna, number=2)
        began = instant().boot
        await w.until(lambda: w.shown(anna) == "Available")
        assert instant().boot - began < 4
        await w.until(lambda: undone(w))
        first, action = w.actions
        assert (str(first.outcome), str(action.outcome), action.target) == ("returned", "confirmed", "Available")
        assert action.evidence["why"] == "crossed"
        assert action.evidence["undoes"] == first.id
        assert action.evidence["writes"][0]["result"] == "accepted"
        assert [look["shown"] for look in action.evidence["looks"]] == [False, True]
        assert action.calls == 3
        assert {action.id for action in (await w.store.actions()).actions} == {first.id, action.id}
        await stays(w, anna, seconds=60, number=2)
        assert len(w.puts()) == 2


async def test_a_restore_goes_ahead_of_the_whole_queue(tmp_path):
    async with world(tmp_path) as w:
        anna, *others = w.centre(agents=41)
        await w.start()
        await w.leave(anna)
        await w.leave(*others)
        await w.until(lambda: w.puts(anna))
        await w.beat(anna, number=2)
        await w.until(lambda: len(undone(w)) + len(w.reads()) > 2)
        await w.until(lambda: any(str(action.outcome) == "returned" for action in w.actions))
        before = len(w.puts())
        await w.until(lambda: w.shown(anna) == "Available")
        assert len(w.puts()) <= before + 3  # one for each token that is granted while anna is looked at


async def test_a_next_status_that_waits_for_the_end_of_the_contact_is_taken_back(tmp_path):
    async with silent(tmp_path, contact=True) as (w, (anna,)):
        assert w.outcomes() == ["next_status"]
        await stays(w, anna, seconds=20, number=2)
        assert w.model.next_status_name(*anna) is None
        (action,) = undone(w)
        assert (action.evidence["why"], str(action.outcome)) == ("next_status", "confirmed")


async def test_a_next_status_that_was_applied_before_a_return_by_a_new_page_stays(tmp_path):
    async with silent(tmp_path, contact=True) as (w, (anna,)):
        w.model.end_contact(*anna, w.contact.id)
        assert w.shown(anna) == "Offline"
        await stays(w, anna, seconds=20, number=2)
        assert outcomes(w) == ["skipped_state"]
        assert w.shown(anna) == "Offline"


# (b) without an answer.


async def test_a_lost_answer_of_a_write_that_took_effect_is_undone_when_the_agent_is_back(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.LOST_ANSWER, times=1, delay_s=10)
        await w.leave(anna)
        await w.until(w.puts)
        await asyncio.sleep(1)
        assert w.shown(anna) == "Offline"
        await stays(w, anna, seconds=70, number=2)
        assert w.shown(anna) == "Available"
        (action,) = undone(w)
        assert (action.evidence["why"], str(action.outcome)) == ("unanswered", "confirmed")
        assert w.effective() == 2


async def test_a_write_that_takes_effect_thirty_seconds_later_is_found(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.DELAY, times=1, delay_s=29.5)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 8)
        await stays(w, anna, seconds=60, number=2)
        assert w.effective() == 2
        assert w.shown(anna) == "Available"
        assert outcomes(w) == ["confirmed"]


async def test_what_a_late_effect_takes_away_is_what_is_restored(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.DELAY, times=1, delay_s=29.5)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 12)
        await w.beat(anna, number=2)
        w.model.agent_sets_status(*anna, "Lunch")
        await stays(w, anna, seconds=60, number=2)
        assert w.shown(anna) == "Lunch"
        assert outcomes(w) == ["confirmed"]


async def test_a_late_effect_after_the_change_was_settled_is_found_as_well(tmp_path):
    """The first write strikes when the second one is confirmed and the agent has long chosen anew."""
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.DELAY, times=1, delay_s=29.5)
        await w.leave(anna)
        await w.until(lambda: w.outcomes() == ["confirmed"])
        await w.beat(anna, number=2)
        w.model.agent_sets_status(*anna, "Available")
        await stays(w, anna, seconds=60, number=2)
        assert w.shown(anna) == "Available"
        (action,) = undone(w)
        assert (action.evidence["why"], str(action.outcome)) == ("unanswered", "confirmed")


async def test_who_was_set_rightly_after_a_lost_answer_and_comes_back_stays_as_they_are(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.TIMEOUT, times=1, delay_s=10)
        await w.leave(anna)
        await w.until(lambda: w.outcomes() == ["confirmed"])
        await stays(w, anna, seconds=60, number=2)
        assert w.shown(anna) == "Offline"
        assert outcomes(w) == ["skipped_state"]


async def test_a_write_that_never_took_effect_leaves_nothing_to_restore(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.TIMEOUT, times=1, delay_s=10)
        await w.leave(anna)
        await w.until(w.puts)
        await stays(w, anna, seconds=70, number=2)
        assert outcomes(w) == ["skipped_state"]
        assert w.effective() == 0


# (c) the page's timer ran.


async def test_a_page_whose_timer_ran_while_nothing_was_heard_gets_its_agent_back(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        assert w.outcomes() == ["confirmed"]
        await asyncio.sleep(300)
        await stays(w, anna, seconds=20, gap_ms=1200.0)
        assert w.shown(anna) == "Available"
        (action,) = undone(w)
        assert (action.evidence["why"], str(action.outcome), action.target) == ("gap", "confirmed", "Available")
        assert action.evidence["gap_ms"] == 1200.0
        assert action.evidence["silence_s"] > 300
        assert action.evidence["undoes"] == w.actions[0].id
        # Nothing is remembered of it: an order finds nothing any more.
        ordered = await w.store.restore(Epoch(0.0), None, silent=True, instant=instant())
        assert ordered == (0, 0, 0)


@pytest.mark.parametrize("gap_ms", [None, TTL * 1000, 3_600_000.0])
async def test_a_page_that_slept_or_does_not_say_changes_nothing(tmp_path, gap_ms):
    async with silent(tmp_path) as (w, (anna,)):
        await w.beat(anna, gap_ms=gap_ms)
        await stays(w, anna, seconds=60, gap_ms=0.0)  # the next beats know nothing of the sleep
        assert w.shown(anna) == "Offline"
        assert undone(w) == []


async def test_a_new_page_load_changes_nothing(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        await stays(w, anna, seconds=60, number=2)
        assert w.shown(anna) == "Offline"
        assert undone(w) == []


async def test_an_old_page_is_heard_though_a_new_one_was_first(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        await w.beat(anna, number=2, gap_ms=0.0)
        await asyncio.sleep(20)
        await w.beat(anna, number=1, gap_ms=0.0)
        await asyncio.sleep(10)
        assert w.shown(anna) == "Available"


async def test_who_said_bye_is_no_mistake(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(30)
        assert w.outcomes() == ["confirmed"]
        await stays(w, anna, seconds=60)
        assert w.shown(anna) == "Offline"
        assert undone(w) == []


async def test_after_the_return_window_nothing_is_restored(tmp_path):
    async with silent(tmp_path, agents=2, return_window=120.0) as (w, (anna, bert)):
        await asyncio.sleep(100)
        await w.beat(bert, gap_ms=0.0)
        await asyncio.sleep(25)
        assert w.shown(bert) == "Available"
        await stays(w, anna, seconds=60)
        assert w.shown(anna) == "Offline"
        assert [action.agent for action in undone(w)] == [bert]


# (d) around a trip of the brake.


@asynccontextmanager
async def tripped(tmp_path):
    """Two agents of 40 fall silent and are set; half a minute after the first the way of all others breaks, too."""
    async with world(tmp_path, quota=FAST, brake=BrakeRules()) as w:
        floor = Floor(w, w.centre(agents=40))
        await w.start()
        await asyncio.sleep(120)
        floor.cut = set(floor.agents[:2])
        await asyncio.sleep(33)
        floor.cut = set(floor.agents)
        await w.until(lambda: w.tick.brake.state is State.HOLDING)
        assert sorted(action.agent for action in w.actions if action.outcome == "confirmed") == sorted(floor.agents[:2])
        yield w, floor
        floor.task.cancel()
        await asyncio.gather(floor.task, return_exceptions=True)


async def test_who_was_set_shortly_before_the_brake_tripped_is_restored(tmp_path):
    async with tripped(tmp_path) as (w, floor):
        anna, bert = floor.agents[:2]
        await asyncio.sleep(120)
        await w.beat(bert, gap_ms=3_600_000.0)  # this page says that it slept
        floor.cut = {bert}
        await asyncio.sleep(60)
        assert (w.shown(anna), w.shown(bert)) == ("Available", "Offline")
        (action,) = undone(w)
        assert (action.agent, action.evidence["why"], action.evidence["gap_ms"]) == (anna, "trip", None)


async def test_what_the_brake_found_survives_a_restart(tmp_path):
    async with tripped(tmp_path) as (w, floor):
        anna = floor.agents[0]
        await w.crash()
        await asyncio.sleep(5)
        await w.start()
        await asyncio.sleep(5)
        await stays(w, anna, seconds=60, gap_ms=None)
        assert w.shown(anna) == "Available"


async def test_who_fell_silent_long_before_the_trip_is_not_restored_for_it(tmp_path):
    async with world(tmp_path, quota=FAST, brake=BrakeRules()) as w:
        floor = Floor(w, w.centre(agents=40))
        await w.start()
        await asyncio.sleep(120)
        anna = floor.agents[0]
        floor.cut = {anna}
        await asyncio.sleep(TTL + TIMER + 90)
        floor.cut = set(floor.agents)
        await w.until(lambda: w.tick.brake.state is State.HOLDING)
        floor.cut = set()
        await asyncio.sleep(60)
        assert w.shown(anna) == "Offline"
        assert undone(w) == []
        floor.task.cancel()
        await asyncio.gather(floor.task, return_exceptions=True)


# (e) an operator's order.


async def order(w, since=0.0, *, silent=False, instance_id=None):
    return await w.store.restore(Epoch(since), instance_id, silent=silent, instant=instant())


async def test_an_order_restores_who_is_heard_and_waits_for_the_others(tmp_path):
    async with silent(tmp_path, agents=3) as (w, (anna, bert, carl)):
        await w.beat(anna, number=2)
        assert await order(w) == (1, 2, 0)
        assert await order(w) == (1, 2, 0)
        await stays(w, anna, seconds=30, number=2)
        assert [w.shown(each) for each in (anna, bert, carl)] == ["Available", "Offline", "Offline"]
        await stays(w, bert, seconds=30, number=7, gap_ms=None)
        assert w.shown(bert) == "Available"
        await asyncio.sleep(900)
        await stays(w, carl, seconds=30, number=2)
        assert w.shown(carl) == "Offline"
        assert {(str(a.outcome), a.evidence["why"]) for a in undone(w)} == {("confirmed", "order")}
        assert len(undone(w)) == 2


async def test_an_order_reaches_back_beyond_the_return_window_but_not_beyond_its_time(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        set_at = w.actions[0].at
        await asyncio.sleep(4000)
        await w.beat(anna, number=2)
        assert await order(w, set_at + 60) == (0, 0, 0)
        assert await order(w, set_at - 60, instance_id="another") == (0, 0, 0)
        assert await order(w, set_at - 60, instance_id="main") == (1, 0, 0)
        await stays(w, anna, seconds=30, number=2)
        assert w.shown(anna) == "Available"


async def test_an_order_survives_the_process(tmp_path):
    async with silent(tmp_path, agents=2) as (w, (anna, bert)):
        await asyncio.sleep(1000)
        await w.beat(anna, number=2)
        w.sweep.cancel()
        assert await order(w) == (1, 1, 0)
        await w.crash()
        await w.start()
        await stays(w, anna, bert, seconds=60, number=2, gap_ms=None)
        assert {w.shown(anna), w.shown(bert)} == {"Available"}
        assert outcomes(w) == ["confirmed", "confirmed"]


async def test_a_silent_order_restores_who_is_not_heard_and_a_ghost_is_caught_again(tmp_path):
    async with silent(tmp_path, agents=2) as (w, (anna, bert)):
        assert await order(w, silent=True) == (2, 0, 0)
        await w.until(lambda: {w.shown(anna), w.shown(bert)} == {"Available"})
        began = instant().boot
        await asyncio.sleep(TTL - 5)
        await w.beat(anna, number=2)
        await w.until(lambda: w.shown(bert) == "Offline")
        assert TTL + TIMER - 2 < instant().boot - began < TTL + TIMER + 5
        assert w.shown(anna) == "Available"


async def test_many_who_are_restored_silently_have_their_lease_from_their_own_restore_on(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=120)
        await w.start()
        await w.beat(*agents)
        await w.until(lambda: len(w.actions) == 120)
        assert await order(w, silent=True) == (120, 0, 0)
        await w.until(lambda: len(undone(w)) == 120)
        assert set(outcomes(w)) == {"confirmed"}
        await asyncio.sleep(240)
        assert {w.shown(each) for each in agents} == {"Offline"}


# Conditions.


async def test_what_somebody_chose_since_is_not_overwritten(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        w.model.agent_sets_status(*anna, "Lunch")
        await stays(w, anna, seconds=30)
        assert w.shown(anna) == "Lunch"
        assert outcomes(w) == ["returned"]
        assert len(w.puts()) == 1


async def test_who_has_chosen_the_very_target_since_stays_in_it(tmp_path):
    async with silent(tmp_path, status="Lunch") as (w, (anna,)):
        assert w.shown(anna) == "Lunch"
        await asyncio.sleep(60)
        w.model.agent_sets_status(*anna, "Available")
        w.model.agent_sets_status(*anna, "Lunch")
        await stays(w, anna, seconds=30)
        assert outcomes(w) == ["returned"]
        assert w.shown(anna) == "Lunch"


@pytest.mark.parametrize("skew", [-600.0, 600.0])
async def test_a_status_that_is_shown_since_our_write_is_ours_whatever_the_clocks_say(tmp_path, skew):
    async with silent(tmp_path, status="Lunch", skew=skew) as (w, (anna,)):
        await asyncio.sleep(60)
        await stays(w, anna, seconds=30)
        assert w.shown(anna) == "Available"


async def test_an_offline_agent_who_is_listed_is_judged_by_the_row(tmp_path):
    async with silent(tmp_path, behaviour=Behaviour(lists_offline=True)) as (w, (anna,)):
        await stays(w, anna, seconds=30)
        assert w.shown(anna) == "Available"


async def test_who_has_left_again_before_the_write_is_not_made_a_ghost(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):

        async def bye():
            await w.beat(anna, kind=BeatType.BYE)

        async def before_flush():
            if w.reads() and len(w.reads()) > reads:
                await bye()

        reads = len(w.reads())
        w.on_flush = before_flush
        await w.beat(anna, gap_ms=0.0)
        await asyncio.sleep(30)
        assert w.shown(anna) == "Offline"
        assert w.effective() == 1
        assert outcomes(w) == ["skipped_state"]


async def test_who_has_left_again_by_the_same_fault_is_restored_at_the_next_return(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData")
        await w.beat(anna, gap_ms=0.0)
        await asyncio.sleep(TTL + 60)
        assert outcomes(w) == ["skipped_state"]
        w.model.clear_faults()
        await asyncio.sleep(30)
        await stays(w, anna, seconds=60)
        assert outcomes(w) == ["skipped_state", "confirmed"]
        assert w.shown(anna) == "Available"


async def test_nobody_is_set_while_a_restore_may_still_take_effect(tmp_path):
    """A restore without an answer strikes 30 s later; the agent left meanwhile, and must be set after that."""
    async with silent(tmp_path) as (w, (anna,)):
        w.fault(FaultKind.DELAY, times=1, delay_s=29.5)
        await w.beat(anna, gap_ms=0.0)
        await w.until(lambda: len(w.puts()) == 2 or w.metrics.calls["PutUserStatus", "unavailable"])
        await w.beat(anna, kind=BeatType.BYE)
        await asyncio.sleep(120)
        assert w.shown(anna) == "Offline"
        assert w.effective() == 3


async def test_a_dry_run_restores_nothing(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        await w.crash()
        w.dry_run = True
        await w.start()
        await stays(w, anna, seconds=40)
        assert outcomes(w) == ["dry_run"]
        assert w.shown(anna) == "Offline"


@pytest.mark.parametrize("former", ["Offline", "gone"])
async def test_without_a_status_to_restore_there_is_a_reason(tmp_path, former):
    async with silent(tmp_path, status="Lunch", behaviour=Behaviour(lists_offline=True), former="Offline") as (w, made):
        await stays(w, *made, seconds=20)
        assert outcomes(w) == ["skipped_state"]
        assert w.shown(made[0]) == "Lunch"


async def test_a_refused_restore_is_tried_until_the_window_is_over_and_holds_up_nobody_else(tmp_path):
    async with silent(tmp_path, agents=2, return_window=200.0) as (w, (anna, bert)):
        await w.beat(bert, number=2)
        w.fault(FaultKind.ACCESS_DENIED)
        floor = Floor(w, [anna])
        await w.beat(anna, gap_ms=0.0)
        await asyncio.sleep(20)
        assert w.problems() == {"denied"}
        w.model.clear_faults()
        w.model.agent_sets_status(*bert, "Available")
        await w.beat(bert, kind=BeatType.BYE, number=2)
        await asyncio.sleep(20)
        assert w.shown(bert) == "Offline"
        await asyncio.sleep(60)
        assert w.shown(anna) == "Available"
        floor.task.cancel()
        await asyncio.gather(floor.task, return_exceptions=True)


async def test_a_restore_that_is_refused_for_too_long_has_failed_and_an_order_tries_again(tmp_path):
    async with silent(tmp_path, return_window=200.0) as (w, (anna,)):
        w.fault(FaultKind.ACCESS_DENIED)
        await w.beat(anna, gap_ms=0.0)
        await stays(w, anna, seconds=400)
        assert outcomes(w) == ["failed"]
        w.model.clear_faults()
        assert await order(w) == (1, 0, 0)
        await stays(w, anna, seconds=90)
        assert outcomes(w) == ["failed", "confirmed"]
        assert w.shown(anna) == "Available"


@pytest.mark.parametrize("kind", [FaultKind.THROTTLE, FaultKind.INTERNAL, FaultKind.TIMEOUT])
async def test_a_restore_outlives_faults_of_connect(tmp_path, kind):
    async with silent(tmp_path) as (w, (anna,)):
        w.fault(kind, times=2, delay_s=10)
        await stays(w, anna, seconds=120)
        assert w.shown(anna) == "Available"
        assert outcomes(w) == ["confirmed"]
        assert w.effective() == 2


async def test_a_restore_outlives_an_outage_of_days(tmp_path):
    async with silent(tmp_path, return_window=1e6) as (w, (anna,)):
        w.fault(FaultKind.INTERNAL)
        await w.beat(anna, gap_ms=0.0)
        await w.until(lambda: len(w.puts()) > 1)
        ((case, _),) = w.dispatcher._restorer._cases.values()
        case.failures = 2_000
        with structlog.testing.capture_logs() as logs:
            await stays(w, anna, seconds=200)
            w.model.clear_faults()
            await stays(w, anna, seconds=100)
        assert case.failures > 2_003
        assert [entry for entry in logs if entry["event"] == "dispatcher.fault"] == []
        assert outcomes(w) == ["confirmed"]


async def test_a_restore_that_has_no_effect_is_written_again(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        w.fault(FaultKind.NO_EFFECT, times=1)
        await stays(w, anna, seconds=80)
        assert w.shown(anna) == "Available"
        assert len(w.puts()) == 3


async def test_a_restore_that_never_shows_is_given_up(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        w.fault(FaultKind.NO_EFFECT)
        await stays(w, anna, seconds=200)
        assert outcomes(w) == ["failed"]
        times = [call.received_at for call in w.puts()]
        assert len(times) == 5
        assert all(30 <= after - before < 40 for before, after in pairwise(times[1:]))


async def test_a_restore_waits_for_a_full_disk(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        await w.beat(anna, gap_ms=0.0)
        SwitchDisk.full = True
        await asyncio.sleep(10)
        assert len(w.puts()) == 1
        SwitchDisk.full = False
        await stays(w, anna, seconds=60)
        assert w.shown(anna) == "Available"


async def test_our_own_restore_is_no_sign_of_life(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData", times=5)
        await w.beat(anna, gap_ms=0.0)
        began = instant().boot
        await w.until(lambda: w.shown(anna) == "Available")
        assert instant().boot - began > 5  # much later than the beat
        await w.until(lambda: w.shown(anna) == "Offline")
        assert instant().boot - began < TTL + TIMER + 4


async def test_a_mistake_that_comes_before_an_order_is_served_before_it(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=60)
        await w.start()
        await w.beat(*agents)
        await w.until(lambda: len(w.actions) == 60)
        anna = w.actions[-1].agent
        await w.beat(*(agent for agent in agents if agent != anna), number=2)
        await order(w)
        await asyncio.sleep(1)
        await w.beat(anna, gap_ms=0.0)
        began = instant().boot
        await w.until(lambda: w.shown(anna) == "Available")
        assert instant().boot - began < 5


@pytest.mark.parametrize(
    "stays_there", [pytest.param(True, id="stays", marks=pytest.mark.long), pytest.param(False, id="leaves")]
)
async def test_a_crash_at_any_await_leads_to_one_restore_at_most(tmp_path, stays_there):
    crashes = restored = 0
    for at in range(1, 100):
        folder = tmp_path / str(at)
        folder.mkdir()
        Brittle.arm(at)
        async with world(folder, quota=FAST) as w:
            (anna,) = w.centre()
            await w.start(wrap=Brittle)
            await w.beat(anna)
            await asyncio.sleep(TTL + TIMER + 5)
            assert w.outcomes() == ["confirmed"]
            Brittle.count = 0
            await w.beat(anna, gap_ms=0.0)
            if not await Brittle.strikes(10):
                break
            crashes += 1
            await w.crash()
            await w.start(wrap=Brittle)
            if stays_there:
                await stays(w, anna, seconds=90)
                assert (w.effective(), w.shown(anna)) == (2, "Available"), at
            else:
                await w.beat(anna, kind=BeatType.BYE)
                await asyncio.sleep(120)
                assert w.shown(anna) == "Offline", at
                assert w.effective() in (1, 3), at
            history = [
                str(action.outcome) for action in (await w.store.actions()).actions if action.intent == "restore"
            ]
            assert len(history) == 1, at
            restored += history == ["confirmed"]
    assert crashes >= 12
    assert restored == crashes or not stays_there


async def test_a_restore_leaves_within_250_ms_of_the_re_check_or_not_at_all(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        w.client.send_after_s = [0.3, 0.3]
        await w.beat(anna, gap_ms=0.0)
        await asyncio.sleep(10)
        assert w.client.aborted == 2
        assert w.effective() == 2


async def test_after_a_gap_nobody_is_restored_before_they_could_be_heard(tmp_path):
    async with silent(tmp_path) as (w, (anna,)):
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData")
        await w.beat(anna, gap_ms=0.0)
        await asyncio.sleep(2)
        Suspended.seconds += 60.0
        w.model.clear_faults()
        await asyncio.sleep(20)
        assert len(w.puts()) == 1
        await w.beat(anna)
        await asyncio.sleep(30)
        assert w.effective() == 2


async def test_who_waited_for_a_token_is_looked_at_again(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=40)
        await w.start()
        await w.beat(*agents)
        await w.until(lambda: len(w.actions) == 40)
        await w.beat(*agents, number=2)
        await order(w)
        await asyncio.sleep(3)
        waiting = [agent for agent in agents if w.shown(agent) == "Offline"]
        assert len(waiting) > 20
        for agent in waiting:
            w.model.agent_sets_status(*agent, "Lunch")
        await stays(w, *agents, seconds=60, number=2)
        assert sum(w.shown(agent) == "Lunch" for agent in waiting) >= len(waiting) - 1


async def test_a_hundred_restores_that_are_refused_hold_up_nobody(tmp_path):
    """The policy allows the target only; the others' quota must not be spent on what will be refused."""
    async with world(tmp_path, return_window=2_000.0) as w:
        made = w.centre(agents=110)
        old, ghosts = made[:100], made[100:]
        await w.start()
        await w.leave(*old)
        while len(w.actions) < 100:
            await w.beat(*ghosts)
            await asyncio.sleep(10)
        for agent in old:
            w.fault(FaultKind.ACCESS_DENIED, user_id=agent.user_id)
        await w.store.restore(Epoch(0.0), None, silent=True, instant=instant())
        await asyncio.sleep(20)
        began, puts = instant().boot, len(w.puts())
        await w.leave(*ghosts)
        await w.until(lambda: all(w.shown(agent) == "Offline" for agent in ghosts))
        assert instant().boot - began < 40
        # A probe a minute for the status, by a few at a time at most.
        assert len(w.puts()) - puts < len(ghosts) + 10
        await asyncio.sleep(200)
        assert "denied" in w.problems()
