"""What is still to be done with an agent who is settled, and timers that are longer than the shortest: told as stories,
over every store.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.test_brake import beats, brake, goes_on, team
from tests.contract.world import ANNA, START, TIMER, TTL, World, action_of, due_of, intent, settled
from watchdog.core.brake import ALL, State
from watchdog.core.model import AgentState, Claim, Epoch, FollowUp, Next, Observed, Outcome, Standing
from watchdog.core.undo import Written

LATER = Epoch(START + 1e6)


def stage(world: World, after_s: float = 60.0, **more: object) -> FollowUp:
    """The second stage of a rule, so many seconds from now."""
    assert world.last is not None
    at = Observed(world.last.clock.observed + after_s)
    return replace(FollowUp(Next.STAGE, at, "late", 1, "offline"), **more)  # type: ignore[arg-type]


async def staged(world: World, after_s: float = 60.0) -> tuple[Claim, FollowUp]:
    """Anna is set, and there is a second stage so many seconds after that."""
    await world.tick()
    follow = stage(world, TIMER + 0.5 + after_s)
    return await settled(world, follow), follow


async def due_in_s(world: World) -> float | None:
    view = await world.store.agent(ANNA)
    assert view is not None
    return view.due_in_s


# When.


async def test_an_agent_with_something_still_to_be_done_is_away_until_it_is_due_for_it(world: World) -> None:
    claim, follow = await staged(world)
    assert await world.state() is AgentState.AWAY
    assert await due_in_s(world) == pytest.approx(60)
    await world.wait(60)
    assert await due_in_s(world) == 0
    assert await world.due() == []
    await world.wait(0.25)
    (due,) = (await world.tick()).due
    assert (due.agent, due.epoch, due.deadline, due.follow_up) == (ANNA, claim.epoch, follow.at, follow)
    assert (await world.tick()).backlog == 1
    assert await world.state() is AgentState.DUE
    assert (await world.store.counts()).agents[AgentState.DUE] == 1


async def test_an_outcome_that_changed_nothing_can_have_something_to_be_done_after_it(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    assert await world.store.settle(claim, action_of(claim, Outcome.DRY_RUN), None, stage(world, 10))
    assert await world.state() is AgentState.GONE
    await world.wait(10.25)
    assert await world.due() == [ANNA]


async def test_what_is_past_already_is_due_with_the_next_tick(world: World) -> None:
    await world.tick()
    await settled(world, stage(world, 1))
    assert await world.due() == [ANNA]


async def test_an_agent_is_claimed_with_what_is_still_to_be_done(world: World) -> None:
    first, follow = await staged(world)
    await world.wait(61)
    claim = await world.claimed()
    assert claim.follow_up == follow
    assert claim.epoch == first.epoch
    assert claim.token > first.token
    assert claim.deadline == follow.at
    assert claim.ended_at == first.ended_at
    assert claim.silent_s == pytest.approx(TIMER + 0.5 + 61)
    assert 0 < claim.lag_s <= 1
    assert claim.intent is None
    assert await world.store.still_gone(claim) is Standing.GONE
    assert await world.store.claim(due_of(claim), "you") is None
    assert await world.due() == []


async def test_a_first_claim_has_nothing_of_it_and_tells_how_long_the_silence_is(world: World) -> None:
    claim = await settled(world)
    assert (claim.follow_up, claim.released) == (None, False)
    assert claim.silent_s == pytest.approx(TIMER + 0.5)


async def test_settled_once_more_without_anything_left_it_is_never_due_again(world: World) -> None:
    await staged(world)
    await world.wait(61)
    claim = await world.claimed()
    assert await world.store.settle(claim, action_of(claim, at=START + 100))
    assert await world.state() is AgentState.AWAY
    assert await due_in_s(world) is None
    await world.wait(1000)
    assert await world.due() == []
    await world.restart()
    await world.wait(100)
    assert await world.due() == []
    assert len((await world.store.actions()).actions) == 2


async def test_stages_follow_one_another(world: World) -> None:
    await staged(world)
    await world.wait(61)
    claim = await world.claimed()
    assert await world.store.settle(claim, action_of(claim, at=START + 100), None, stage(world, 30, stage=2))
    await world.wait(30)
    assert await world.due() == []
    await world.wait(0.25)
    claim = await world.claimed()
    assert claim.follow_up is not None
    assert claim.follow_up.stage == 2


async def test_given_back_it_is_due_for_it_again_after_the_delay(world: World) -> None:
    _, follow = await staged(world)
    await world.wait(61)
    await world.store.release(await world.claimed(), 10)
    await world.wait(9.5)
    assert await world.due() == []
    await world.wait(0.5)
    assert (await world.claimed()).follow_up == follow


# It ends with a return.


@pytest.mark.parametrize("waited", [10, 61])
async def test_a_return_ends_what_was_still_to_be_done(world: World, waited: float) -> None:
    claim, _ = await staged(world)
    await world.wait(waited)
    told = (await world.tick()).due
    await world.beat(number=2)
    assert await world.state() is AgentState.LIVE
    for due in told:
        assert await world.store.claim(due, "me") is None
    await world.bye(number=2)
    await world.wait(TIMER + 0.5)
    again = await world.claimed()
    assert (again.epoch, again.follow_up) == (claim.epoch + 1, None)
    await world.store.settle(again, action_of(again, at=START + 100))
    await world.wait(200)
    assert await world.due() == []


async def test_a_return_voids_a_claim_for_it(world: World) -> None:
    await staged(world)
    await world.wait(61)
    claim = await world.claimed()
    await world.beat(number=2)
    assert await world.store.still_gone(claim) is Standing.RETURNED
    assert not await world.store.intend(claim, intent())
    follow = stage(world, 1)
    assert not await world.store.settle(claim, action_of(claim, Outcome.RETURNED, START + 100), None, follow)
    assert await world.state() is AgentState.LIVE
    await world.wait(TTL + TIMER + 0.5)
    assert (await world.claimed()).follow_up is None


async def test_a_return_while_it_was_settled_leaves_nothing_to_be_done(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    await world.beat(number=2)
    assert not await world.store.settle(claim, action_of(claim, Outcome.RETURNED), None, stage(world, 1))
    await world.wait(TTL)
    assert await world.due() == []
    await world.restart()
    await world.wait(200)
    assert (await world.claimed()).follow_up is None


async def test_activity_in_connect_ends_it_as_a_return_does(world: World) -> None:
    claim, _ = await staged(world)
    await world.wait(61)
    again = await world.claimed()
    assert await world.store.witness(again, 5.0, TTL, action_of(again, Outcome.WITNESSED, START + 100))
    assert await world.state() is AgentState.LIVE
    await world.wait(TTL + TIMER)
    again = await world.claimed()
    assert (again.epoch, again.follow_up) == (claim.epoch + 1, None)


# Restarts.


@pytest.mark.parametrize("waited", [10, 61])
async def test_what_is_still_to_be_done_survives_a_crash(world: World, waited: float) -> None:
    _, follow = await staged(world)
    await world.wait(waited)
    await world.restart()
    if waited < 60:
        assert await world.state() is AgentState.AWAY
    await world.wait(100)
    claim = await world.claimed()
    assert claim.follow_up == follow
    assert claim.silent_s == pytest.approx(claim.deadline + claim.lag_s - claim.ended_at)


async def test_every_part_of_it_survives(world: World) -> None:
    await world.tick()
    at = Observed(stage(world).at)
    follow = FollowUp(
        Next.SIGN_OUT, at, "Früh, spät", 3, "offline", "pause", "sales", "Pega: anna's boss", released=True
    )
    await settled(world, follow)
    await world.restart()
    await world.wait(200)
    claim = await world.claimed()
    assert claim.follow_up == follow
    assert claim.released


async def test_a_claim_for_it_that_a_process_left_comes_back_with_its_intent(world: World) -> None:
    first, follow = await staged(world)
    await world.wait(61)
    assert await world.store.intend(await world.claimed(), intent())
    await world.restart()
    tick = await world.wait(31)
    assert tick.orphans == ()
    claim = await world.claimed()
    assert (claim.epoch, claim.intent, claim.follow_up) == (first.epoch, intent(), follow)


async def test_a_claim_for_it_that_a_process_left_is_an_orphan_once_the_agent_is_back(world: World) -> None:
    await staged(world)
    await world.wait(61)
    assert await world.store.intend(await world.claimed(), intent())
    await world.restart()
    await world.beat(number=2)
    (orphan,) = (await world.tick()).orphans
    assert not await world.store.settle(orphan, action_of(orphan, Outcome.RETURNED, START + 100))
    await world.wait(31 + TTL + TIMER)
    assert (await world.claimed()).follow_up is None


async def test_pruning_leaves_what_is_still_to_be_done(world: World) -> None:
    await staged(world, after_s=1000)
    await world.wait(400)  # its session is forgotten
    await world.store.prune(LATER)
    assert await world.state() is AgentState.AWAY
    await world.restart()
    await world.wait(700)
    await world.store.prune(LATER)
    assert await world.due() == [ANNA]


# The brake.


async def test_while_an_operator_holds_the_rest_waits(world: World) -> None:
    await staged(world)
    await world.wait(61)
    claim = await world.claimed()
    await world.store.order(ALL, hold=True, for_s=600, reason="", instant=world.instant)
    assert await world.store.still_gone(claim) is Standing.HELD
    await world.store.order(ANNA.instance_id, hold=False, for_s=600, reason="", instant=world.instant)
    assert await world.store.still_gone(claim) is Standing.GONE
    await world.store.order(ANNA.instance_id, hold=True, for_s=600, reason="", instant=world.instant)
    await world.store.order(ALL, hold=False, for_s=600, reason="", instant=world.instant)
    assert await world.store.still_gone(claim) is Standing.HELD
    await world.store.order(ANNA.instance_id, hold=False, for_s=600, reason="", instant=world.instant)
    assert await world.store.still_gone(claim) is Standing.GONE


async def test_nobody_who_is_settled_is_held(world: World) -> None:
    await staged(world)
    await world.store.order(ALL, hold=True, for_s=600, reason="", instant=world.instant)
    await world.wait(61)
    assert await world.due() == [ANNA]
    assert world.last is not None
    assert world.last.brake.held == 0


async def test_while_the_brake_holds_the_rest_waits(braked: World) -> None:
    world = braked
    await staged(world, after_s=120)
    agents = team(40)
    await goes_on(world, 60, agents)
    await goes_on(world, 62, agents[:5])
    assert brake(world) is State.HOLDING
    claim = await world.claimed()
    assert await world.store.still_gone(claim) is Standing.HELD


async def test_who_was_held_is_told_to_have_been(braked: World) -> None:
    world = braked
    await world.beat()
    await world.wait(0.5)
    await world.store.order(ALL, hold=True, for_s=100, reason="", instant=world.instant)
    await world.wait(TTL + TIMER)
    assert await world.state() is AgentState.HELD
    await world.store.order(ALL, hold=False, for_s=1000, reason="", instant=world.instant)
    await world.wait(TTL + TIMER + 1)
    claim = await world.claimed()
    assert claim.released
    await world.store.settle(claim, action_of(claim), None, stage(world, 30, released=claim.released))
    await world.wait(31)
    assert (await world.claimed()).released
    await world.restart()
    await world.wait(60)
    claim = await world.claimed()
    assert claim.released
    await world.beat(number=2)
    await world.store.settle(claim, action_of(claim, Outcome.RETURNED, START + 100))
    await world.bye(number=2)
    await world.wait(TIMER + 1)
    assert not (await world.claimed()).released


async def tripped(world: World, *, before_the_outcome: bool, after_s: float) -> None:
    """Anna is set shortly before the brake finds that the silence was everybody's."""
    agents = team(40)
    await goes_on(world, 30, [*agents, ANNA])
    await goes_on(world, TTL + TIMER - 12, agents)
    claim = None
    await goes_on(world, 60, agents, until=lambda: bool(world.last and world.last.due))
    claim = await world.claimed()
    assert not claim.released
    assert await world.store.intend(claim, intent())
    follow = stage(world, after_s)
    action = replace(action_of(claim), at=world.instant.epoch)
    if not before_the_outcome:
        assert await world.store.settle(claim, action, Written(1.0), follow)
    await goes_on(world, 30, [], until=lambda: brake(world) is State.HOLDING)
    assert brake(world) is State.HOLDING
    if before_the_outcome:
        assert await world.store.settle(claim, action, Written(1.0), follow)
    await beats(world, agents)


@pytest.mark.parametrize("before_the_outcome", [True, False])
@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("after_s", [100, pytest.param(1200, marks=pytest.mark.long)])
async def test_a_trip_shortly_after_it_was_set_is_told_however_late_the_rest_is_due(
    braked: World, *, before_the_outcome: bool, restarted: bool, after_s: float
) -> None:
    world = braked
    await tripped(world, before_the_outcome=before_the_outcome, after_s=after_s)
    if restarted:
        await world.tick()
        await world.restart()
    await world.store.order(ALL, hold=False, for_s=3000, reason="", instant=world.instant)
    await world.wait(after_s + 40)
    claim = await world.claimed()
    assert claim.follow_up is not None
    assert claim.released


async def test_a_trip_says_nothing_of_the_next_silence(braked: World) -> None:
    world = braked
    await tripped(world, before_the_outcome=False, after_s=1000)
    await world.store.order(ALL, hold=False, for_s=3000, reason="", instant=world.instant)
    await world.beat(number=2)
    await world.bye(number=2)
    await world.wait(TIMER + 0.5)
    assert not (await world.claimed()).released


# A longer timer.


async def filed(world: World, timer_s: float = 60.0) -> Claim:
    """Anna says bye, and a rule asks for a longer timer."""
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    assert await world.store.file_again(claim, timer_s)
    return claim


async def test_who_is_filed_again_is_in_grace_until_the_later_deadline(world: World) -> None:
    first = await filed(world)
    assert await world.state() is AgentState.GRACE
    assert await due_in_s(world) == pytest.approx(60 - TIMER - 0.5)
    assert (await world.tick()).backlog == 0
    assert (await world.store.actions()).actions == ()
    await world.wait(60 - TIMER - 0.5)
    assert await world.due() == []
    await world.wait(0.25)
    claim = await world.claimed()
    assert (claim.epoch, claim.deadline) == (first.epoch, first.ended_at + 60)
    assert claim.silent_s == pytest.approx(60.25)
    assert await world.store.settle(claim, action_of(claim))


async def test_a_claim_that_was_filed_again_is_over(world: World) -> None:
    claim = await filed(world)
    assert await world.store.still_gone(claim) is Standing.RETURNED
    assert not await world.store.settle(claim, action_of(claim))
    assert not await world.store.file_again(claim, 1.0)
    assert await due_in_s(world) == pytest.approx(60 - TIMER - 0.5)


async def test_a_timer_that_is_over_already_is_due_at_once(world: World) -> None:
    await filed(world, TIMER)
    assert await world.due() == [ANNA]


async def test_after_a_return_the_shortest_timer_runs(world: World) -> None:
    await filed(world)
    await world.beat(number=2)
    await world.bye(number=2)
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_after_a_restart_the_shortest_timer_runs(world: World) -> None:
    await filed(world)
    await world.restart()
    await world.wait(10 + TIMER + 1)
    assert await world.due() == [ANNA]


async def test_who_returned_while_its_rule_was_looked_for_is_not_filed_again(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    claim = await world.claimed()
    await world.beat(number=2)
    assert await world.store.file_again(claim, 600.0)
    await world.bye(number=2)
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_activity_counts_within_the_longer_timer(world: World) -> None:
    await filed(world)
    await world.wait(56)
    claim = await world.claimed()
    age_s = 50.0  # more than a lease and the shortest timer ago
    assert await world.store.witness(claim, age_s, TTL, action_of(claim, Outcome.WITNESSED))


async def test_what_is_still_to_be_done_is_filed_again_too(world: World) -> None:
    """Somebody has changed the status since, and the rule for that one has a longer timer."""
    first, follow = await staged(world, after_s=10)
    await world.wait(11)
    assert await world.store.file_again(await world.claimed(), 60.0)
    assert await world.due() == []
    assert await world.state() is AgentState.AWAY
    await world.wait(60 - TIMER - 0.5 - 11)
    assert await world.due() == []
    await world.wait(0.25)
    claim = await world.claimed()
    assert (claim.deadline, claim.follow_up) == (first.ended_at + 60, follow)


async def test_a_timer_from_before_brings_no_stage_forward(world: World) -> None:
    await filed(world, 20.0)
    await world.wait(20)
    claim = await world.claimed()
    await world.store.settle(claim, action_of(claim), None, stage(world, 60))
    assert await due_in_s(world) == pytest.approx(60)
    await world.wait(60)
    assert await world.due() == []


async def test_who_is_held_and_filed_again_is_told_once(braked: World) -> None:
    world = braked
    await world.beat()
    await world.wait(TTL + TIMER + 0.5)
    claim = await world.claimed()
    await world.store.order(ALL, hold=True, for_s=600, reason="", instant=world.instant)
    await world.wait(1)
    assert await world.store.file_again(claim, TIMER)
    assert await world.state() is AgentState.HELD
    await world.wait(5)
    assert [each.outcome for each in world.stopped] == [Outcome.HELD]
