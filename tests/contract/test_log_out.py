"""Somebody wants an agent logged out: told as stories, over every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.test_follow_ups import tripped
from tests.contract.test_stores import a_beat, unseen_of
from tests.contract.world import ANNA, BERT, START, TIMER, TTL, World, action_of, intent, look_of, settled
from watchdog.core.brake import ALL
from watchdog.core.clock import Cause
from watchdog.core.deadline import TOMBSTONE_S
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    BeatType,
    Claim,
    Epoch,
    FollowUp,
    IntentKind,
    Next,
    Observed,
    Outcome,
    Standing,
    Verdict,
)
from watchdog.core.undo import Back, Change, Written

ORDER = FollowUp(Next.LOG_OUT, Observed(0.0), target="offline", reason_code="lunch", queue="sales", by="boss")
LATER = Epoch(START + 1e6)


async def log_out(world: World, agent: AgentId = ANNA) -> bool:
    return await world.store.log_out(agent, ORDER, world.instant)


async def ordered(world: World) -> Claim:
    """The claim for the order, which is due with the next tick."""
    await world.wait(0.25)
    claim = await world.claimed()
    assert claim.follow_up is not None
    assert claim.follow_up.next is Next.LOG_OUT
    return claim


# The agent.


async def test_an_agent_who_is_there_is_due_at_once_for_the_order_with_all_that_was_said(world: World) -> None:
    await world.beat()
    await world.wait(3)
    assert world.last is not None
    assert await log_out(world)
    claim = await ordered(world)
    assert claim.follow_up == replace(ORDER, at=world.last.clock.observed - 0.25)
    assert claim.lag_s == pytest.approx(0.25)
    assert claim.silent_s == pytest.approx(0.25)
    assert (claim.epoch, claim.intent, claim.released) == (2, None, False)
    assert await world.store.still_gone(claim) is Standing.GONE
    assert await world.store.intend(claim, intent())
    assert await world.store.settle(claim, action_of(claim), Written(0.0))
    assert await world.state() is AgentState.AWAY
    await world.wait(1000)
    assert await world.due() == []


async def test_the_sessions_end_with_it(world: World) -> None:
    await world.beat(number=1)
    await world.beat(number=2, ttl=150.0)
    await log_out(world)
    assert (await world.store.counts()).sessions == 0
    view = await world.store.agent(ANNA)
    assert view is not None
    assert (view.sessions, view.due_in_s) == ((), 0)


async def test_an_agent_whom_nobody_knows_is_known_then(world: World) -> None:
    await world.wait(1)
    assert await log_out(world)
    view = await world.store.agent(ANNA)
    assert view is not None
    assert view.last_seen == world.instant.epoch
    claim = await ordered(world)
    assert claim.silent_s == pytest.approx(0.25)
    assert await world.store.settle(claim, action_of(claim))
    assert await world.state() is AgentState.AWAY


@pytest.mark.parametrize("known", [False, True])
async def test_the_order_survives_a_crash(world: World, *, known: bool) -> None:
    await world.wait(1)
    if known:
        await world.beat()
    await log_out(world)
    await world.restart()
    await world.wait(31)
    claim = await world.claimed()
    assert claim.follow_up is not None
    assert replace(claim.follow_up, at=Observed(0.0)) == ORDER


async def test_the_order_is_not_forgotten_before_it_is_carried_out(world: World) -> None:
    await log_out(world)
    await world.store.prune(LATER)
    await world.wait(0.25)
    await world.store.prune(LATER)
    assert await world.due() == [ANNA]


async def test_a_return_ends_the_order(world: World) -> None:
    await world.beat()
    await log_out(world)
    await world.wait(1)
    await world.beat(number=2)
    assert await world.state() is AgentState.LIVE
    await world.wait(TTL)
    assert await world.due() == []
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    assert (claim.epoch, claim.follow_up) == (3, None)


async def test_a_hello_ends_the_order_though_the_clock_stands(world: World) -> None:
    await world.beat()
    await world.restart()
    await world.tick()
    await log_out(world)
    assert (await world.beat(incarnation=1, kind=BeatType.HELLO)).verdict is Verdict.OPENED
    assert await world.state() is AgentState.LIVE
    view = await world.store.agent(ANNA)
    assert view is not None
    assert view.due_in_s == pytest.approx(TTL + TIMER)
    await world.restart()
    await world.wait(40 + TTL + TIMER)
    assert (await world.claimed()).follow_up is None


async def test_an_order_in_blind_time_waits_for_its_end(world: World) -> None:
    await world.beat()
    await log_out(world)
    for _ in range(10):
        world.now += 0.25
        assert (await world.tick(Cause.STORE)).due == ()


async def test_a_second_order_takes_the_place_of_the_first(world: World) -> None:
    await world.beat()
    await log_out(world)
    first = await ordered(world)
    assert await world.store.log_out(ANNA, replace(ORDER, reason_code="end"), world.instant)
    assert await world.store.still_gone(first) is Standing.RETURNED
    assert not await world.store.settle(first, action_of(first))
    claim = await ordered(world)
    assert claim.follow_up is not None
    assert claim.follow_up.reason_code == "end"


async def test_the_brake_does_not_keep_an_order_back(world: World) -> None:
    await world.beat()
    await world.store.order(ALL, hold=True, for_s=600, reason="", instant=world.instant)
    await log_out(world)
    claim = await ordered(world)
    assert await world.store.still_gone(claim) is Standing.GONE


async def test_a_held_agent_is_held_no_longer(world: World) -> None:
    await world.beat()
    await world.store.order(ALL, hold=True, for_s=6000, reason="", instant=world.instant)
    await world.wait(TTL + TIMER + 1)
    assert await world.state() is AgentState.HELD
    (held,) = await world.store.held(ANNA.instance_id, 1)
    await log_out(world)
    assert not await world.store.witness_held(held, 1.0, 150.0, look_of(held, Outcome.WITNESSED))
    assert not await world.store.release_held(held, 1.0, TTL, look_of(held, Outcome.RELEASED))
    claim = await ordered(world)
    assert await world.store.still_gone(claim) is Standing.GONE
    assert (await world.tick()).brake.held == 0
    await world.store.order(ALL, hold=False, for_s=600, reason="", instant=world.instant)
    await world.tick()
    assert [each.outcome for each in world.stopped] == [Outcome.HELD]
    await world.store.settle(claim, action_of(claim))
    await world.wait(100)
    assert await world.state() is AgentState.AWAY


async def test_a_lease_without_a_session_is_over(world: World) -> None:
    await world.wait(1)
    await world.store.unseen(unseen_of(), TTL)
    await log_out(world)
    await ordered(world)


async def test_a_delay_is_over(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    await world.store.release(await world.claimed(), 100)
    await log_out(world)
    await ordered(world)


async def test_a_longer_timer_is_over(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    await world.store.file_again(await world.claimed(), 600.0)
    await log_out(world)
    await ordered(world)


async def test_what_was_still_to_be_done_gives_way_to_the_order(world: World) -> None:
    await world.tick()
    await settled(world, FollowUp(Next.STAGE, Observed(1000.0), "late", 1, "offline"))
    await log_out(world)
    claim = await ordered(world)
    await world.store.settle(claim, action_of(claim, at=START + 100))
    await world.wait(1200)
    assert await world.due() == []


async def test_who_is_about_to_be_logged_out_is_not_unseen(world: World) -> None:
    await log_out(world)
    assert not await world.store.unseen(unseen_of(), TTL)
    await world.wait(0.25)
    assert not await world.store.unseen(unseen_of(), TTL)
    await ordered(world)


async def test_an_order_is_of_no_silence_that_the_brake_took_for_a_fault(braked: World) -> None:
    world = braked
    await tripped(world, before_the_outcome=False, after_s=1000)
    await log_out(world)
    assert not (await ordered(world)).released


# A claim in hand.


async def in_hand(world: World, *, intended: bool = True) -> Claim:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    assert not intended or await world.store.intend(claim, intent())
    return claim


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_claim_in_hand_is_void_and_the_order_follows_its_outcome(world: World, *, restarted: bool) -> None:
    claim = await in_hand(world)
    await log_out(world)
    assert await world.store.still_gone(claim) is Standing.RETURNED
    assert not await world.store.intend(claim, intent())
    assert not await world.store.witness(claim, 1.0, TTL, action_of(claim, Outcome.WITNESSED))
    await world.wait(1)
    assert await world.due() == []
    follow = FollowUp(Next.STAGE, Observed(1000.0), "late", 1, "offline")
    assert not await world.store.settle(claim, action_of(claim, Outcome.RETURNED), Written(0.0), follow)
    if restarted:
        await world.restart()
        await world.wait(31)
    again = await ordered(world)
    assert (again.epoch, again.intent) == (claim.epoch + 1, None)
    assert await world.store.settle(again, action_of(again, at=START + 100))
    assert (await world.tick()).undos == ()


async def test_a_claim_that_is_given_back_puts_no_order_off(world: World) -> None:
    claim = await in_hand(world, intended=False)
    await log_out(world)
    await world.store.release(claim, 100.0)
    await ordered(world)


async def test_an_intent_without_an_outcome_is_an_orphan_then(world: World) -> None:
    claim = await in_hand(world)
    await world.store.release(claim, 0.0)
    await log_out(world)
    (orphan,) = (await world.wait(0.25)).orphans
    assert orphan.intent == intent()
    assert await world.due() == []
    assert not await world.store.settle(orphan, action_of(orphan, Outcome.RETURNED), Written(5.0))
    assert (await ordered(world)).intent is None
    assert (await world.tick()).undos == ()


async def test_an_intent_that_a_process_left_is_settled_before_the_order(world: World) -> None:
    claim = await in_hand(world)
    await log_out(world)
    await world.restart()
    (orphan,) = (await world.tick()).orphans
    assert orphan.epoch == claim.epoch
    await world.store.settle(orphan, action_of(orphan, Outcome.RETURNED), Written(5.0))
    await world.wait(31)
    await ordered(world)


# What was written before is no mistake any more.


def restore_of(change: Change) -> Action:
    return Action("u-1", Epoch(START), change.agent, IntentKind.RESTORE, "Available", Outcome.CONFIRMED, "", {}, 2, 1.0)


async def set_while_silent(world: World) -> None:
    await world.beat()
    await world.wait(TTL + TIMER + 0.5)
    claim = await world.claimed()
    assert await world.store.intend(claim, intent())
    await world.store.settle(claim, replace(action_of(claim), at=world.instant.epoch), Written(0.0))


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_undo_that_was_not_sent_is_over(world: World, *, restarted: bool) -> None:
    await set_while_silent(world)
    await world.beat(gap_ms=0)
    (change,) = (await world.tick()).undos
    await log_out(world)
    if restarted:
        await world.restart()
    assert await world.store.still_back(change) is Back.VOID
    assert await world.store.restoring(change, world.instant.epoch, TTL) is Back.VOID
    assert (await world.tick()).undos == ()
    await world.beat(incarnation=1, kind=BeatType.HELLO)
    assert (await world.tick()).undos == ()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_page_that_comes_after_the_logout_shows_no_mistake(world: World, *, restarted: bool) -> None:
    """The agent wanted to be logged out, whatever the watchdog had taken it for before."""
    await set_while_silent(world)
    await log_out(world)
    if restarted:
        await world.restart()
    await world.wait(2)
    assert (await world.tick()).undos == ()
    assert (await world.beat(incarnation=1, kind=BeatType.HELLO, gap_ms=0)).verdict is Verdict.OPENED
    assert (await world.tick()).undos == ()


@pytest.mark.parametrize("restarted", [False, True])
async def test_who_only_left_again_was_not_logged_out(world: World, *, restarted: bool) -> None:
    """A page that wakes up late still shows that the first change was a mistake."""
    await set_while_silent(world)
    await world.beat(number=2)
    await world.bye(number=2)
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    await world.store.settle(claim, action_of(claim, Outcome.ALREADY, START + 100))
    if restarted:
        await world.restart()
    await world.beat(number=1, gap_ms=0)
    assert [change.agent for change in (await world.tick()).undos] == [ANNA]


async def test_what_is_waited_for_by_order_is_not_undone_after_a_logout(world: World) -> None:
    await set_while_silent(world)
    found = await world.store.restore(Epoch(0.0), None, silent=False, instant=world.instant)
    assert found.left == 1
    await log_out(world)
    await world.wait(1)
    await world.beat(incarnation=1, kind=BeatType.HELLO)
    assert (await world.tick()).undos == ()


async def test_while_the_former_status_is_set_again_nobody_is_logged_out(world: World) -> None:
    await set_while_silent(world)
    await world.beat(gap_ms=0)
    (change,) = (await world.tick()).undos
    assert await world.store.restoring(change, world.instant.epoch, TTL) is Back.HERE
    before = await world.store.agent(ANNA)
    assert not await log_out(world)
    assert await world.store.agent(ANNA) == before
    assert (await world.beat()).verdict is Verdict.RENEWED
    assert await world.store.restored(change, restore_of(change), forget=True)
    assert await log_out(world)
    await ordered(world)


# The sessions.


async def test_stopped_sessions_are_told_to_stop_until_they_say_hello(world: World) -> None:
    await world.beat(seq=5)
    await world.beat(number=2)
    await log_out(world)
    await world.wait(1)
    for seq in (5, 6, 60, None):
        reply = await world.beat(seq=seq)
        assert (reply.verdict, reply.live, reply.left_s) == (Verdict.STOPPED, False, 0)
    assert (await world.beat(number=2, incarnation=1)).verdict is Verdict.STOPPED
    assert (await world.beat(BERT, number=2)).verdict is Verdict.FOREIGN
    assert await world.state() is AgentState.DUE
    reply = await world.beat(incarnation=1, seq=1, kind=BeatType.HELLO)
    assert (reply.verdict, reply.live, reply.left_s) == (Verdict.OPENED, True, TTL)
    assert (await world.beat(incarnation=1, seq=2)).verdict is Verdict.RENEWED
    assert (await world.beat(number=2)).verdict is Verdict.STOPPED
    assert await world.state() is AgentState.LIVE


async def test_a_hello_that_was_in_flight_or_comes_with_an_old_ticket_opens_nothing(world: World) -> None:
    """A ticket is for one incarnation: whoever has one from before the logout has nothing."""
    await world.beat(seq=5, kind=BeatType.HELLO)
    await log_out(world)
    await world.wait(1)
    for seq in (4, 5, 6, 2**53 - 1, None):
        assert (await world.beat(seq=seq, kind=BeatType.HELLO)).verdict is Verdict.STOPPED
    assert (await world.beat(incarnation=1, ttl=None, kind=BeatType.HELLO)).verdict is Verdict.NOT_RENEWED
    assert await world.state() is AgentState.DUE


async def test_a_hello_of_the_next_incarnation_opens_and_counts_anew(world: World) -> None:
    await world.beat(seq=50)
    await log_out(world)
    await world.wait(1)
    assert (await world.beat(incarnation=1, seq=1, kind=BeatType.HELLO)).verdict is Verdict.OPENED
    assert (await world.beat(incarnation=1, seq=2)).verdict is Verdict.RENEWED
    assert (await world.beat(incarnation=0, seq=51)).verdict is Verdict.STALE


async def test_a_bye_after_it_moves_nothing(world: World) -> None:
    await world.beat()
    await log_out(world)
    claim = await ordered(world)
    assert (await world.bye()).verdict is Verdict.TOMBSTONE
    assert (await world.bye(incarnation=1)).verdict is Verdict.TOMBSTONE
    assert await world.store.still_gone(claim) is Standing.GONE
    assert (await world.beat(incarnation=1)).verdict is Verdict.STOPPED
    assert (await world.beat(incarnation=1, kind=BeatType.HELLO)).verdict is Verdict.OPENED


async def test_what_said_bye_before_is_a_tombstone_as_before(world: World) -> None:
    await world.beat()
    await world.bye()
    await log_out(world)
    assert (await world.beat()).verdict is Verdict.TOMBSTONE
    assert (await world.beat(kind=BeatType.HELLO)).verdict is Verdict.TOMBSTONE


async def test_a_session_that_only_was_silent_is_stopped_too(world: World) -> None:
    await world.beat()
    await world.wait(TTL + 60)
    await log_out(world)
    await world.wait(1)
    assert (await world.beat()).verdict is Verdict.STOPPED


async def test_a_stopped_session_is_not_plainly_live(world: World) -> None:
    await world.beat(seq=1)
    await log_out(world)
    await world.beat(number=2)
    assert world.store.plainly_live(a_beat()) is None


@pytest.mark.parametrize("restarted", [False, True])
async def test_stopped_sessions_are_known_for_longer_than_those_that_said_bye(world: World, *, restarted: bool) -> None:
    await world.beat()
    await log_out(world)
    claim = await ordered(world)
    await world.store.settle(claim, action_of(claim))
    if restarted:
        await world.restart()
    await world.wait(2 * TOMBSTONE_S)
    assert (await world.beat()).verdict is Verdict.STOPPED
    await world.store.prune(LATER)
    assert (await world.beat()).verdict is Verdict.STOPPED
