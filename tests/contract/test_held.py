"""One held agent at a time: whose turn it is, and what a look in Connect may change, over every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.contract.test_brake import QUIET_S, beats, brake, goes_on, held, states, team, told
from tests.contract.test_stores import silent, unseen_of
from tests.contract.world import (
    ANNA,
    INSTANCE,
    START,
    TICK,
    TIMER,
    TTL,
    World,
    action_of,
    intent,
    look_of,
)
from watchdog.core.brake import ALL, SPARE_S, State
from watchdog.core.model import AgentState, BeatType, Outcome, Standing

if TYPE_CHECKING:
    from watchdog.core.holds import Held
    from watchdog.core.model import AgentId, Claim

EVERY_S = 20.0


async def dark(world: World, number: int = 40, seconds: float = 100.0) -> list[AgentId]:
    """Agents whose beats have all stopped at the same moment, so many seconds ago."""
    agents = team(number)
    await goes_on(world, 20, agents)
    await beats(world, agents)
    await world.wait(seconds)
    assert held(world) == number
    return agents


async def one_claimed(braked: World) -> tuple[list[AgentId], Claim]:
    """Of forty agents the first has fallen silent and is claimed; from now on nobody is heard."""
    agents = team(40)
    await goes_on(braked, 100, agents)
    await goes_on(braked, TTL + TIMER + 1, agents[1:])
    return agents, await braked.claimed(agents[0])


async def looked_at(world: World, agent: AgentId) -> Held:
    """What the store tells of a held agent."""
    for each in await world.store.held(agent.instance_id, 0.0):
        if each.agent == agent:
            return each
    raise AssertionError(f"{agent} is not held")


async def active(world: World, each: Held, ago: float, at: float = START) -> bool:
    return await world.store.witness_held(each, ago, TTL, look_of(each, Outcome.WITNESSED, at))


async def absent(world: World, each: Held, ago: float, at: float = START) -> bool:
    return await world.store.release_held(each, ago, TTL, look_of(each, Outcome.RELEASED, at))


async def history(world: World) -> list[Outcome]:
    return [action.outcome for action in (await world.store.actions()).actions]


# Whose turn it is.


async def test_held_agents_have_their_turns_one_after_the_other(braked: World) -> None:
    agents = await dark(braked)
    first = await braked.store.held(INSTANCE, EVERY_S, 15)
    second = await braked.store.held(INSTANCE, EVERY_S, 15)
    third = await braked.store.held(INSTANCE, EVERY_S, 15)
    assert [len(page) for page in (first, second, third)] == [15, 15, 10]
    assert sorted(each.agent for page in (first, second, third) for each in page) == agents
    assert await braked.store.held(INSTANCE, EVERY_S, 15) == ()
    await braked.wait(EVERY_S - 1)
    assert await braked.store.held(INSTANCE, EVERY_S, 15) == ()
    await braked.wait(1)
    again = await braked.store.held(INSTANCE, EVERY_S, 15)
    assert {each.agent for each in again} == {each.agent for each in first}


async def test_those_who_were_held_within_some_seconds_have_one_turn_together(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 20, agents)
    while held(braked) < 40:
        await braked.wait(0.25)
    pages = []
    for _ in range(80):
        await braked.wait(1)
        pages.append(await braked.store.held(INSTANCE, EVERY_S))
    assert [len(page) for page in pages if page] == [40] * 4


async def test_only_the_instance_that_is_asked_for_is_told(braked: World) -> None:
    agents = [*team(10, "one"), *team(10, "two")]
    await goes_on(braked, 20, agents)
    await braked.wait(100)
    assert sorted(each.agent for each in await braked.store.held("one", EVERY_S)) == agents[:10]
    assert len(await braked.store.held("two", EVERY_S)) == 10
    assert await braked.store.held("three", EVERY_S) == ()


async def test_whoever_is_heard_has_no_turn(braked: World) -> None:
    agents = await dark(braked)
    await beats(braked, agents[:1])
    await beats(braked, agents[1:2], BeatType.BYE)
    assert sorted(each.agent for each in await braked.store.held(INSTANCE, EVERY_S)) == agents[2:]


async def test_after_a_restart_everybody_held_has_a_turn(braked: World) -> None:
    agents = await dark(braked)
    assert len(await braked.store.held(INSTANCE, EVERY_S)) == 40
    await braked.restart()
    await braked.wait(EVERY_S)
    assert sorted(each.agent for each in await braked.store.held(INSTANCE, EVERY_S)) == agents


async def test_it_is_told_why_an_agent_is_held_and_what_may_be_ours(braked: World) -> None:
    agents, claim = await one_claimed(braked)
    assert await braked.store.intend(claim, intent())
    await braked.wait(QUIET_S)
    in_hand = await looked_at(braked, agents[0])
    await braked.store.release(claim, 0.0)
    left = await looked_at(braked, agents[0])
    assert (in_hand.target, left.target) == ("offline", "offline")
    other = await looked_at(braked, agents[1])
    assert (other.target, other.ordered) == (None, False)
    numbers = left.evidence["brake"]
    assert (numbers["group"], numbers["reason"]) == (ALL, "mass_silence")
    assert 0 < numbers["held_s"] <= QUIET_S


# Who is active.


async def test_activity_lets_a_held_agent_live_until_its_lease_ends(braked: World) -> None:
    agents = await dark(braked)
    each = await looked_at(braked, agents[0])
    assert await active(braked, each, 5.0)
    assert await braked.state(agents[0]) is AgentState.LIVE
    assert await braked.store.held(INSTANCE, 0.0)
    await braked.wait(TTL - 5 - SPARE_S - 0.5)
    assert await braked.state(agents[0]) is AgentState.LIVE
    assert held(braked) == 39
    await braked.wait(1)
    assert held(braked) == 40
    again = await looked_at(braked, agents[0])
    assert again.epoch == each.epoch + 1
    assert again.evidence["brake"]["held_s"] <= 1
    await braked.wait(60)
    assert await braked.due() == []
    assert await history(braked) == [Outcome.WITNESSED]
    view = await braked.store.agent(agents[0])
    assert view is not None
    assert view.last_outcome is Outcome.WITNESSED


async def test_the_same_activity_lets_live_once(braked: World) -> None:
    agents = await dark(braked)
    assert await active(braked, await looked_at(braked, agents[0]), 5.0)
    await braked.wait(TTL - 5)
    # a second more or less: dates are not finer
    assert not await active(braked, await looked_at(braked, agents[0]), TTL - 0.999)
    assert await braked.state(agents[0]) is AgentState.HELD


async def test_activity_that_is_over_or_older_than_the_last_heartbeat_changes_nothing(braked: World) -> None:
    agents = await dark(braked, seconds=QUIET_S + 1)
    each = await looked_at(braked, agents[0])
    assert not await active(braked, each, QUIET_S + 1.5)
    await braked.wait(60)
    assert not await active(braked, each, TTL + TIMER + 0.5)
    assert not await active(braked, each, TTL - SPARE_S)
    assert await looked_at(braked, agents[0])
    assert await history(braked) == []
    assert await active(braked, each, TTL - SPARE_S - 0.5)


async def test_activity_of_somebody_who_was_heard_meanwhile_changes_nothing(braked: World) -> None:
    agents = await dark(braked, seconds=QUIET_S + 1)
    each = await looked_at(braked, agents[0])
    await beats(braked, agents[:1])
    assert not await active(braked, each, 1.0)
    await braked.wait(QUIET_S + 1)
    assert await braked.state(agents[0]) is AgentState.HELD
    assert not await active(braked, each, QUIET_S + 2)
    assert await history(braked) == []


async def test_a_heartbeat_ends_it_all(braked: World) -> None:
    agents = await dark(braked)
    assert await active(braked, await looked_at(braked, agents[0]), 5.0)
    await goes_on(braked, 60, agents)
    assert await states(braked, agents) == {AgentState.LIVE}
    assert (brake(braked), held(braked)) == (State.CLEAR, 0)


async def test_a_bye_ends_the_lease_and_the_agent_is_due_after_the_timer(braked: World) -> None:
    agents = await dark(braked)
    assert await active(braked, await looked_at(braked, agents[0]), 5.0)
    await braked.wait(1)
    await beats(braked, agents[:1], BeatType.BYE)
    await braked.wait(TIMER + 0.25)
    assert await braked.due() == agents[:1]


async def test_who_is_known_to_be_there_has_a_fresh_lease_like_the_others_when_the_path_is_proven(
    braked: World,
) -> None:
    agents = team(100)
    await goes_on(braked, 20, agents)
    await goes_on(braked, QUIET_S + 20, agents[40:])
    while not told(braked, Outcome.RELEASED):
        if await braked.state(agents[0]) is AgentState.HELD:
            assert await active(braked, await looked_at(braked, agents[0]), 5.0, braked.instant.epoch)
        await goes_on(braked, 10, agents[40:], until=lambda: bool(told(braked, Outcome.RELEASED)))
    assert told(braked, Outcome.RELEASED) == agents[:40]
    (spared,) = [each for each in braked.stopped if each.agent == agents[0] and each.outcome is Outcome.RELEASED]
    assert spared.evidence["brake"]["held_s"] == 0.0
    await goes_on(braked, TTL + TIMER - 0.5, agents[40:])
    assert await braked.due() == []
    await goes_on(braked, 1, agents[40:])
    assert sorted(await braked.due()) == agents[:40]


async def test_who_is_known_to_be_there_has_a_fresh_lease_also_when_all_the_others_are_back_at_once(
    braked: World,
) -> None:
    agents = await dark(braked)
    assert await active(braked, await looked_at(braked, agents[0]), TTL - 10)
    # All the others are back at once: nobody is held any more, and nothing was proven for a minute yet.
    await beats(braked, agents[1:])
    await goes_on(braked, 3, agents[1:])
    assert brake(braked) is State.CLEAR
    await goes_on(braked, TTL - 2, agents[1:])
    assert await braked.due() == []
    await goes_on(braked, TIMER + 6, agents[1:])
    assert await braked.due() == agents[:1]


async def test_what_was_witnessed_in_a_hold_survives_a_crash(braked: World) -> None:
    agents = await dark(braked)
    each = await looked_at(braked, agents[0])
    assert await active(braked, each, 1.0)
    await braked.restart()
    assert await braked.state(agents[0]) is AgentState.LIVE
    assert (await braked.wait(4 * TICK)).brake.held == 39
    assert await history(braked) == [Outcome.WITNESSED]
    await braked.wait(30 + TTL + 2)
    assert held(braked) == 40
    assert (await looked_at(braked, agents[0])).epoch == each.epoch + 1


async def test_a_left_intent_of_somebody_active_is_an_orphan(braked: World) -> None:
    agents, claim = await one_claimed(braked)
    assert await braked.store.intend(claim, intent())
    await braked.store.release(claim, 0.0)
    await braked.wait(QUIET_S)
    assert await active(braked, await looked_at(braked, agents[0]), 1.0)
    (orphan,) = (await braked.tick()).orphans
    assert (orphan.agent, orphan.intent) == (agents[0], intent())


async def test_a_claim_in_hand_is_void_once_its_held_agent_is_active(braked: World) -> None:
    agents, claim = await one_claimed(braked)
    await braked.wait(QUIET_S)
    assert await braked.store.still_gone(claim) is Standing.HELD
    assert await active(braked, await looked_at(braked, agents[0]), 1.0)
    assert await braked.store.still_gone(claim) is Standing.RETURNED


# Who is proven to be gone.


async def test_whoever_missed_a_contact_is_due_at_once_and_not_held_again(braked: World) -> None:
    agents = await dark(braked)
    each = await looked_at(braked, agents[0])
    assert await absent(braked, each, 10.0)
    assert await braked.due() == agents[:1]
    await braked.wait(60)
    assert held(braked) == 39
    claim = await braked.claimed(agents[0])
    assert claim.epoch == each.epoch
    assert claim.lag_s > 100
    assert await braked.store.still_gone(claim) is Standing.GONE
    assert await braked.store.settle(claim, action_of(claim, at=START + 1))
    assert await braked.state(agents[0]) is AgentState.AWAY
    assert await history(braked) == [Outcome.CONFIRMED, Outcome.RELEASED]
    assert told(braked, Outcome.RELEASED) == []


async def test_whoever_missed_a_contact_has_its_timer_all_the_same(braked: World) -> None:
    agents = await dark(braked, seconds=QUIET_S + 1)
    assert await absent(braked, await looked_at(braked, agents[0]), 5.0)
    await braked.wait(TTL + TIMER - QUIET_S - 1)
    assert await braked.due() == []
    await braked.wait(0.5)
    assert await braked.due() == agents[:1]


async def test_a_contact_that_was_missed_before_the_last_heartbeat_proves_nothing(braked: World) -> None:
    agents = await dark(braked)
    each = await looked_at(braked, agents[0])
    assert not await absent(braked, each, 100.5)
    # a second more or less: dates are not finer
    assert not await absent(braked, each, 98.5)
    assert held(braked) == 40
    assert await history(braked) == []
    assert await absent(braked, each, 97.0)


async def test_a_contact_that_was_missed_before_the_last_activity_proves_nothing(braked: World) -> None:
    agents = await dark(braked)
    assert await active(braked, await looked_at(braked, agents[0]), 5.0)
    await braked.wait(TTL)
    each = await looked_at(braked, agents[0])
    assert not await absent(braked, each, TTL + 10)
    assert await absent(braked, each, TTL - 1, START + 1)


async def test_whoever_is_heard_before_the_release_is_not_released(braked: World) -> None:
    agents = await dark(braked, seconds=QUIET_S + 1)
    each = await looked_at(braked, agents[0])
    await beats(braked, agents[:1])
    assert not await absent(braked, each, 5.0)
    await braked.wait(QUIET_S + 1)
    assert await braked.state(agents[0]) is AgentState.HELD
    assert not await absent(braked, each, 5.0 + QUIET_S + 1)
    assert await history(braked) == []


async def test_what_was_found_in_an_older_epoch_is_void(braked: World) -> None:
    agents = await dark(braked)
    each = await looked_at(braked, agents[0])
    await beats(braked, agents[:1])
    await braked.wait(QUIET_S + 10)
    assert await braked.state(agents[0]) is AgentState.HELD
    assert not await absent(braked, each, 1.0)
    assert not await active(braked, each, 1.0)
    assert await absent(braked, await looked_at(braked, agents[0]), 1.0)


async def test_a_release_survives_a_crash(braked: World) -> None:
    agents = await dark(braked)
    assert await absent(braked, await looked_at(braked, agents[0]), 10.0)
    await braked.restart()
    assert await braked.due() == agents[:1]
    await braked.wait(4 * TICK)
    assert held(braked) == 39


async def test_when_all_are_proven_to_be_gone_the_hold_is_over(braked: World) -> None:
    agents = await dark(braked)
    for number, agent in enumerate(agents):
        assert await absent(braked, await looked_at(braked, agent), 10.0, START + number)
    await braked.wait(2)
    assert sorted(await braked.due()) == agents
    assert brake(braked) is State.CLEAR


# An operator's hold.


async def test_a_missed_contact_does_not_end_an_operators_hold_and_activity_does(braked: World) -> None:
    agents = team(3)
    await goes_on(braked, 20, agents)
    await braked.store.order(ALL, hold=True, for_s=600, reason="", instant=braked.instant)
    await braked.wait(100)
    each = await looked_at(braked, agents[0])
    assert each.ordered
    assert not await absent(braked, each, 1.0)
    assert await active(braked, each, 1.0)
    assert await braked.state(agents[0]) is AgentState.LIVE
    await braked.wait(10)
    assert held(braked) == 2
    await braked.wait(TTL)
    assert held(braked) == 3


# Claims and reconciliation meet the brake.


async def test_activity_of_a_claimed_agent_who_is_held_meanwhile_ends_the_hold(braked: World) -> None:
    agents, claim = await one_claimed(braked)
    await braked.wait(QUIET_S)
    assert await braked.state(agents[0]) is AgentState.HELD
    assert await braked.store.witness(claim, 5.0, TTL, action_of(claim, Outcome.WITNESSED))
    assert await braked.state(agents[0]) is AgentState.LIVE
    await braked.restart()
    assert await braked.state(agents[0]) is AgentState.LIVE
    await braked.wait(5)
    assert held(braked) == 39


async def test_activity_of_a_released_agent_is_worth_what_goes_beyond_its_lease(braked: World) -> None:
    agents, claim = await one_claimed(braked)
    await braked.wait(QUIET_S)
    assert await absent(braked, await looked_at(braked, agents[0]), 10.0)
    assert await braked.store.still_gone(claim) is Standing.GONE
    assert await braked.store.witness(claim, 5.0, TTL, action_of(claim, Outcome.WITNESSED, START + 1))
    assert await braked.state(agents[0]) is AgentState.LIVE
    await braked.wait(TTL)
    assert await braked.state(agents[0]) is AgentState.HELD


async def test_held_and_released_agents_are_expected_and_not_unseen(braked: World) -> None:
    agents = await dark(braked)
    assert await absent(braked, await looked_at(braked, agents[0]), 10.0)
    for agent in agents[:2]:
        assert not await braked.store.unseen(unseen_of(agent), TTL)
    assert await states(braked, agents[1:2]) == {AgentState.HELD}


async def test_who_was_set_while_held_can_be_unseen_and_is_live_after_a_crash(braked: World) -> None:
    agents, claim = await one_claimed(braked)
    await braked.wait(QUIET_S)
    assert await braked.store.settle(claim, action_of(claim))
    await braked.restart()
    assert agents[0] not in {each.agent for each in await braked.store.held(INSTANCE, 0.0)}
    assert await braked.store.unseen(unseen_of(agents[0], START + 1), TTL)
    await braked.restart()
    assert await braked.state(agents[0]) is AgentState.LIVE


async def test_who_was_never_held_is_spared_for_the_lease_when_others_fall_silent(braked: World) -> None:
    agents, claim = await one_claimed(braked)
    assert await braked.store.witness(claim, 0.0, TTL, action_of(claim, Outcome.WITNESSED))
    await braked.wait(QUIET_S + 1)
    assert held(braked) == 39
    assert await braked.state(agents[0]) is AgentState.LIVE
    await braked.wait(TTL - QUIET_S - 1)
    assert held(braked) == 40


async def test_an_agent_is_due_as_before_where_nobody_is_held(world: World) -> None:
    await silent(world)
    assert await world.store.held(INSTANCE, 0.0) == ()
    assert await world.due() == []
    assert await world.state(ANNA) is AgentState.DUE
