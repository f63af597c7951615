"""The status on return, on virtual time: who gets one, who does not, and what their pages are told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.connect.test_restore import order, outcomes, stays, undone
from tests.connect.world import FAST, TIMER, TTL, instant, world
from watchdog.core.model import BeatType, FollowUp, Next, Observed
from watchdog.core.notices import NOTICE_S
from watchdog.core.policy import Rule, Stage, plain
from watchdog.sandbox.records import Behaviour, ContactState, FaultKind

pytestmark = pytest.mark.looptime

AVAILABLE = plain(TIMER, initial="Available")


def given(initial: str | None, *profiles: str, name: str = "default", status: str | None = None) -> Rule:
    return replace(plain(TIMER, status, initial=initial), name=name, profiles=profiles)


@asynccontextmanager
async def away(tmp_path, *rules, former="Available", bye=True, agents=1, profile=None, contact=False, **options):
    """Agents whose browser was closed, or fell silent, and who were set."""
    async with world(tmp_path, quota=FAST, rules=rules or (AVAILABLE,), **options) as w:
        made = w.centre(agents=agents, status=former)
        w.model.add_status("main", "Away")
        if profile is not None:
            w.model.add_routing_profile("main", profile)
            for agent in made:
                w.model.set_routing_profile(*agent, profile)
        if contact:
            w.contact = w.model.add_contact(*made[0], ContactState.CONNECTED)
        await w.start()
        await w.beat(*made)
        if bye:
            await w.beat(*made, kind=BeatType.BYE)
        await asyncio.sleep((0 if bye else TTL) + TIMER + 5)
        assert len(w.actions) == agents
        yield w, made


async def opens(w, *agents, seconds=20, number=2, login=True):
    """A new page is opened and stays. Returns the last replies."""
    replies = []
    for seq in range(max(1, int(seconds / 5))):
        replies = await w.load(*agents, number=number, login=login, seq=seq)
        await asyncio.sleep(5)
    return replies


# Who gets a status.


async def test_a_new_page_whose_connect_session_is_up_brings_the_initial_state(tmp_path):
    async with away(tmp_path, former="Lunch") as (w, (anna,)):
        assert w.shown(anna) == "Offline"
        began = instant().boot
        await w.load(anna)
        await w.until(lambda: w.shown(anna) == "Available")
        assert instant().boot - began < 2
        await w.until(lambda: undone(w))
        (action,) = undone(w)
        assert (str(action.outcome), action.target) == ("confirmed", "Available")
        told = action.evidence
        assert (told["why"], told["rule"], told["profile"], told["initial_state"]) == (
            "return",
            "default",
            None,
            "Available",
        )
        assert told["undoes"] == w.actions[0].id
        await opens(w, anna, seconds=60)
        assert len(undone(w)) == 1
        assert w.effective() == 2


async def test_previous_is_the_status_from_before_the_change(tmp_path):
    async with away(tmp_path, given("previous"), former="Lunch") as (w, (anna,)):
        await opens(w, anna)
        assert w.shown(anna) == "Lunch"
        assert outcomes(w) == ["confirmed"]


async def test_the_sign_in_may_come_with_a_later_beat_of_the_new_page(tmp_path):
    async with away(tmp_path) as (w, (anna,)):
        await opens(w, anna, login=False)
        assert w.shown(anna) == "Offline"
        assert undone(w) == []
        await w.load(anna, seq=9)
        await w.until(lambda: w.shown(anna) == "Available")


async def test_and_also_after_a_restart_of_the_daemon(tmp_path):
    async with away(tmp_path) as (w, (anna,)):
        await w.load(anna, login=False)
        await asyncio.sleep(1)
        await w.crash()
        await w.start()
        await asyncio.sleep(1)
        await w.load(anna, seq=9)
        await w.until(lambda: w.shown(anna) == "Available")


async def test_a_return_that_was_begun_is_finished_by_the_next_process(tmp_path):
    async with away(tmp_path) as (w, (anna,)):
        await w.load(anna)
        await w.until(lambda: w.model.calls(operation="PutUserStatus")[1:])
        await w.crash()
        await w.start()
        for seq in range(1, 30):
            await w.load(anna, seq=seq)
            await asyncio.sleep(2)
        assert outcomes(w) == ["confirmed"]
        assert undone(w)[0].target == "Available"
        assert w.shown(anna) == "Available"


@pytest.mark.parametrize("lists_offline", [True, False])
async def test_the_profile_decides_and_not_the_status(tmp_path, lists_offline):
    rules = (
        replace(given("Lunch", "Sales", name="lunch"), states=("Break",)),
        given("Available", "Support", name="support"),
        given(None),
    )
    behaviour = Behaviour(lists_offline=lists_offline)
    async with away(tmp_path, *rules, profile="EMEA Sales", behaviour=behaviour) as (w, (anna,)):
        await opens(w, anna)
        assert w.shown(anna) == "Lunch"
        (action,) = undone(w)
        assert (action.evidence["rule"], action.evidence["profile"]) == ("lunch", "EMEA Sales")


async def test_a_profile_that_has_no_name_yet_is_listed_and_never_guessed(tmp_path):
    rules = (given("Available", "Support", name="support"), given("Lunch"))
    behaviour = Behaviour(lists_offline=True)
    async with away(tmp_path, *rules, behaviour=behaviour) as (w, (anna,)):
        w.model.add_routing_profile("main", "Support")
        w.model.set_routing_profile(*anna, "Support")
        w.fault(FaultKind.INTERNAL, "ListRoutingProfiles")
        await asyncio.sleep(40)
        await opens(w, anna, seconds=30)
        assert w.shown(anna) == "Offline"
        assert undone(w) == []
        w.model.clear_faults()
        await opens(w, anna, seconds=90, number=3)
        assert w.shown(anna) == "Available"


async def test_a_mistake_that_is_heard_outweighs_a_return(tmp_path):
    """The old page ran all the time, and a new one was opened as well: what was taken from the agent comes back."""
    async with away(tmp_path, former="Lunch", bye=False) as (w, (anna,)):
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData")
        await w.load(anna)
        await asyncio.sleep(3)
        await w.beat(anna, gap_ms=0.0)
        w.model.clear_faults()
        await opens(w, anna, seconds=60)
        assert w.shown(anna) == "Lunch"
        assert [action.evidence["why"] for action in undone(w)] == ["gap"]


async def test_after_a_status_that_a_contact_put_off_was_applied_a_return_counts(tmp_path):
    async with away(tmp_path, contact=True) as (w, (anna,)):
        assert w.outcomes() == ["next_status"]
        w.model.end_contact(*anna, w.contact.id)
        assert w.shown(anna) == "Offline"
        await opens(w, anna)
        assert w.shown(anna) == "Available"
        assert [action.evidence["why"] for action in undone(w)] == ["next_status", "return"]


async def test_a_next_status_that_a_rule_names_is_taken_back(tmp_path):
    async with away(tmp_path, given("Available", status="Away"), former="Lunch", contact=True) as (w, (anna,)):
        assert w.model.next_status_name(*anna) == "Away"
        await opens(w, anna)
        assert (w.shown(anna), w.model.next_status_name(*anna)) == ("Lunch", None)
        (action,) = undone(w)
        assert (action.evidence["why"], str(action.outcome), action.target) == ("next_status", "confirmed", "Lunch")


# Who gets none.


async def test_without_an_initial_state_nothing_is_done(tmp_path):
    async with away(tmp_path, given(None)) as (w, (anna,)):
        await opens(w, anna)
        assert w.shown(anna) == "Offline"
        assert undone(w) == []


async def test_a_rule_without_one_is_told_once_and_an_order_undoes_all_the_same(tmp_path):
    rules = (given(None, "Sales", name="sales"), AVAILABLE)
    async with away(tmp_path, *rules, profile="Sales") as (w, (anna,)):
        await opens(w, anna, seconds=60)
        (action,) = undone(w)
        assert (str(action.outcome), action.reason) == ("skipped_state", "Rule 'sales' sets no status on return.")
        assert w.shown(anna) == "Offline"
        assert await order(w) == (1, 0, 0)
        await opens(w, anna, seconds=10)
        assert w.shown(anna) == "Available"


async def test_for_whom_no_rule_is_gets_nothing(tmp_path):
    rules = (given("Available", "Sales", name="sales"), given("Available", "Support"))
    async with away(tmp_path, *rules, profile="Sales", behaviour=Behaviour(lists_offline=True)) as (w, (anna,)):
        w.model.set_routing_profile(*anna, "Basic Routing Profile")
        await opens(w, anna, seconds=60)
        assert w.shown(anna) == "Offline"
        assert outcomes(w) == ["skipped_profile"]


async def test_after_the_window_nothing_is_set(tmp_path):
    async with away(tmp_path, agents=2, return_window=120.0) as (w, (anna, bert)):
        await asyncio.sleep(90)
        await opens(w, bert, seconds=10)
        assert w.shown(bert) == "Available"
        await asyncio.sleep(30)
        await opens(w, anna, seconds=60)
        assert w.shown(anna) == "Offline"
        assert [action.agent for action in undone(w)] == [bert]


async def test_whoever_has_chosen_a_status_since_keeps_it(tmp_path):
    async with away(tmp_path) as (w, (anna,)):
        w.model.agent_sets_status(*anna, "Lunch")
        await opens(w, anna)
        assert w.shown(anna) == "Lunch"
        assert outcomes(w) == ["returned"]


async def test_and_whoever_has_chosen_the_very_status_that_was_set(tmp_path):
    async with away(tmp_path, behaviour=Behaviour(lists_offline=True)) as (w, (anna,)):
        await asyncio.sleep(20)
        w.model.agent_sets_status(*anna, "Available")
        w.model.agent_sets_status(*anna, "Offline")
        await opens(w, anna)
        assert w.shown(anna) == "Offline"
        assert outcomes(w) == ["returned"]


@pytest.mark.parametrize("way", ["beat", "hello", "incarnation", "no hello"])
async def test_a_page_that_wakes_up_changes_nothing(tmp_path, way):
    """Whatever it says: the session from before, its next incarnation, or one that is only not known any more."""
    async with away(tmp_path, bye=False) as (w, (anna,)):
        await w.crash()  # a page that hears of a restart may say hello again
        await w.start()
        await asyncio.sleep(60)
        made = {
            "beat": {"number": 1, "kind": BeatType.BEAT, "incarnation": 1},
            "hello": {"number": 1, "kind": BeatType.HELLO, "incarnation": 1},
            "incarnation": {"number": 7, "kind": BeatType.HELLO, "incarnation": 1},
            "no hello": {"number": 7, "kind": BeatType.BEAT, "incarnation": 0},
        }[way]
        for seq in range(1, 6):
            await wakes(w, anna, seq=seq, **made)
            await asyncio.sleep(5)
        assert w.shown(anna) == "Offline"
        assert undone(w) == []


async def wakes(w, agent, *, number, kind, incarnation, seq):
    """A beat as given; session 1 is the one from before the change, whose incarnation is 1 in this world."""
    before, w.seq = w.seq, incarnation - 1
    made = []

    async def keep(beats, at):
        made.extend(replace(beat, seq=seq, arrived=True) for beat in beats)
        return []

    real, w.store.apply = w.store.apply, keep
    await w.beat(agent, kind=kind, number=number)
    w.store.apply, w.seq = real, before
    await real(made, instant())


async def test_a_new_page_that_sleeps_and_wakes_after_the_next_change_is_no_new_one(tmp_path):
    async with away(tmp_path) as (w, (anna,)):
        await opens(w, anna)
        assert w.shown(anna) == "Available"
        await w.until(lambda: w.shown(anna) == "Offline")
        await asyncio.sleep(5)
        for seq in range(10, 15):
            await w.load(anna, seq=seq)
            await asyncio.sleep(5)
        assert w.shown(anna) == "Offline"
        assert len(undone(w)) == 1


async def test_a_page_that_nobody_sees_changes_nothing(tmp_path):
    async with away(tmp_path) as (w, (anna,)):
        await stays(w, anna, seconds=60, number=2)
        assert w.shown(anna) == "Offline"
        assert undone(w) == []


async def test_a_dry_run_writes_nothing_and_tells_it_once(tmp_path):
    async with away(tmp_path) as (w, (anna,)):
        await w.crash()
        w.dry_run = True
        await w.start()
        await opens(w, anna, seconds=60)
        assert w.shown(anna) == "Offline"
        assert outcomes(w) == ["dry_run"]


async def test_a_status_that_the_instance_does_not_have_fails_with_its_name(tmp_path):
    async with away(tmp_path, given("Nirvana")) as (w, (anna,)):
        await opens(w, anna, seconds=60)
        (action,) = undone(w)
        assert (str(action.outcome), action.target) == ("failed", "Nirvana")
        assert "Nirvana" in action.reason


# Stages, and orders.

STAGES = (Stage(TIMER, "Away", sign_out=False), Stage(60.0, None, sign_out=False))


@pytest.mark.parametrize("crashes", [False, True])
async def test_previous_is_never_our_own_first_stage(tmp_path, crashes):
    rule = replace(given("previous", name="two"), stages=STAGES)
    async with away(tmp_path, rule, former="Lunch", return_window=90.0) as (w, (anna,)):
        assert w.shown(anna) == "Away"
        if crashes:
            await w.crash()
            await w.start()
        await w.until(lambda: w.shown(anna) == "Offline")
        await asyncio.sleep(5)
        await opens(w, anna)
        assert w.shown(anna) == "Lunch"


async def test_a_first_stage_is_remembered_until_the_second_however_long_that_takes(tmp_path):
    stages = (STAGES[0], Stage(400.0, None, sign_out=False))
    rule = replace(given("previous", name="two"), stages=stages)
    async with away(tmp_path, rule, former="Lunch", return_window=100.0) as (w, (anna,)):
        await asyncio.sleep(200)
        await w.crash()
        await w.start()
        await w.until(lambda: w.shown(anna) == "Offline")
        await asyncio.sleep(5)
        await opens(w, anna)
        assert w.shown(anna) == "Lunch"


async def logged_out(w, anna):
    offline = next(s.id for s in w.model.instance("main").statuses.values() if s.name == "Offline")
    follow = FollowUp(Next.LOG_OUT, Observed(0.0), target=offline, by="somebody")
    assert await w.store.log_out(anna, follow, instant())
    await asyncio.sleep(10)


async def test_after_a_logout_on_request_previous_is_not_our_own_status_either(tmp_path):
    async with away(tmp_path, given("previous", status="Away"), former="Lunch") as (w, (anna,)):
        assert w.shown(anna) == "Away"
        await logged_out(w, anna)
        assert w.shown(anna) == "Offline"
        replies = await opens(w, anna)
        assert w.shown(anna) == "Lunch"
        assert replies[0].notice.why == "You were logged out on request."


async def test_a_logout_on_request_of_somebody_who_is_there_keeps_the_former_status(tmp_path):
    async with world(tmp_path, quota=FAST, rules=(given("previous"),)) as w:
        (anna,) = w.centre(status="Lunch")
        await w.start()
        await w.load(anna)
        await logged_out(w, anna)
        assert w.shown(anna) == "Offline"
        assert w.model.user(*anna).sessions_ended == 1
        for seq in range(1, 5):  # the old page goes on, and is not heard
            await w.load(anna, seq=seq)
            await asyncio.sleep(5)
        await w.load(anna, kind=BeatType.HELLO, seq=9)  # and is heard again, but is no new page
        await asyncio.sleep(10)
        assert w.shown(anna) == "Offline"
        await opens(w, anna, number=3)
        assert w.shown(anna) == "Lunch"


# What the pages are told.


async def test_whoever_is_back_is_told_for_a_while_what_was_set_and_what_was_restored(tmp_path):
    async with away(tmp_path) as (w, (anna,)):
        (reply,) = await w.load(anna)
        set_at = w.actions[0].evidence["writes"][0]["at"]
        notice = reply.notice
        assert (notice.status, notice.why, notice.restored) == ("Offline", "All of your pages were closed.", None)
        assert abs(notice.set_at - set_at) < 1
        await w.until(lambda: undone(w))
        (reply,) = await w.load(anna, seq=1)
        assert reply.notice == replace(notice, restored="Available")
        (reply,) = await w.load(anna, number=3, login=False)
        assert reply.notice == replace(notice, restored="Available")
        await opens(w, anna, seconds=NOTICE_S + 10, number=4)
        (reply,) = await w.load(anna, number=4, seq=99)
        assert reply.notice is None


async def test_a_page_that_wakes_up_is_told_although_nothing_is_restored(tmp_path):
    async with away(tmp_path, bye=False) as (w, (anna,)):
        await asyncio.sleep(3600)
        (reply,) = await w.beat(anna)
        assert reply.notice.why == "Nothing was heard from any of your pages."
        assert reply.notice.restored is None


async def test_a_mistake_that_was_undone_is_told_as_well(tmp_path):
    async with world(tmp_path, quota=FAST) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await w.until(w.puts)
        (reply,) = await w.beat(anna, number=2)
        assert reply.notice is None
        await w.until(lambda: undone(w))
        (reply,) = await w.beat(anna, number=2)
        assert (reply.notice.status, reply.notice.restored) == ("Offline", "Available")
