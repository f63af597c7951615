"""What the brake does to the agents of a store, told as stories, over every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.world import INSTANCE, START, TICK, TIMER, TTL, World, action_of, intent
from watchdog.core.brake import ALL, PROOF_S, SILENCE_S, UNPROVEN, State
from watchdog.core.model import AgentId, AgentState, Beat, BeatType, Outcome, Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

QUIET_S = 0.6 * TTL
MAX_HOLD = 300.0


def team(number: int, instance: str = INSTANCE) -> list[AgentId]:
    return [AgentId(instance, f"agent-{each:03}") for each in range(number)]


async def beats(world: World, agents: Sequence[AgentId], kind: BeatType = BeatType.BEAT) -> None:
    ttl = 0.0 if kind is BeatType.BYE else TTL
    made = [Beat(each, f"{each.instance_id[-4:]}-{each.user_id}".encode().ljust(16), kind, ttl=ttl) for each in agents]
    await world.store.apply(made, world.instant)


async def goes_on(
    world: World, seconds: float, agents: Sequence[AgentId], until: Callable[[], bool] = lambda: False
) -> None:
    """Agents beat every 10 s, each at its own time, while time passes."""
    for number in range(round(seconds / TICK)):
        await beats(world, [each for at, each in enumerate(agents) if (number + at) % 40 == 0])
        await world.wait(TICK)
        if until():
            return


async def states(world: World, agents: Sequence[AgentId]) -> set[AgentState | None]:
    return {await world.state(each) for each in agents}


def brake(world: World) -> State:
    assert world.last is not None
    return world.last.brake.state


def held(world: World) -> int:
    assert world.last is not None
    return world.last.brake.held


def told(world: World, outcome: Outcome) -> list[AgentId]:
    return sorted(each.agent for each in world.stopped if each.outcome is outcome)


async def test_agents_who_fall_silent_together_are_held_before_any_is_due(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 20, agents)
    await braked.wait(QUIET_S - 1)
    assert brake(braked) is State.HOLDING
    await braked.wait(11)
    assert await states(braked, agents) == {AgentState.HELD}
    await braked.wait(300)
    assert await braked.due() == []
    assert (await braked.tick()).backlog == 0
    assert held(braked) == 40
    assert (await braked.store.counts()).agents[AgentState.HELD] == 40
    assert [view.agent for view in (await braked.store.agents(state=AgentState.HELD)).agents] == agents
    view = await braked.store.agent(agents[0])
    assert view is not None
    assert view.due_in_s is None


async def test_a_held_agent_that_beats_is_simply_live(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 20, agents)
    await braked.wait(100)
    await goes_on(braked, 20, agents)
    assert await states(braked, agents) == {AgentState.LIVE}
    assert (brake(braked), held(braked)) == (State.CLEAR, 0)
    assert told(braked, Outcome.RELEASED) == []
    await braked.wait(QUIET_S - 11)
    assert held(braked) == 0


async def test_who_was_held_before_and_crashes_alone_later_is_caught(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 20, agents)
    await braked.wait(100)
    await goes_on(braked, 700, agents)
    await goes_on(braked, TTL + TIMER + 0.5, agents[1:])
    assert await braked.due() == [agents[0]]


async def test_below_the_threshold_nobody_is_held(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 100, agents)
    await goes_on(braked, TTL + TIMER + 0.5, agents[11:])
    assert set(await braked.due()) == set(agents[:11])
    assert braked.changes == []


async def test_at_the_threshold_they_are_held(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 100, agents)
    await goes_on(braked, TTL + TIMER + 0.5, agents[12:])
    assert await braked.due() == []
    assert held(braked) == 12


async def test_those_who_say_bye_are_never_held_and_do_not_trip_the_brake(braked: World) -> None:
    agents = team(100)
    await goes_on(braked, 100, agents)
    await beats(braked, agents[:60], BeatType.BYE)
    await goes_on(braked, TIMER + 1, agents[60:])
    assert len(await braked.due()) == 60
    assert braked.changes == []


async def test_byes_do_not_let_a_few_crashes_look_like_a_mass(braked: World) -> None:
    agents = team(100)
    await goes_on(braked, 100, agents)
    await beats(braked, agents[:90], BeatType.BYE)
    await goes_on(braked, TTL + TIMER + 1, agents[96:])
    assert set(await braked.due()) == set(agents[:96])


async def test_a_bye_in_a_hold_is_believed(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 20, agents)
    await braked.wait(60)
    await beats(braked, agents[:1], BeatType.BYE)
    await braked.wait(1)
    assert await braked.due() == agents[:1]
    assert held(braked) == 39


async def test_the_last_session_decides_whether_an_agent_was_silent_or_left(braked: World) -> None:
    agents = team(5)
    await beats(braked, agents)
    await braked.wait(1)
    for number, agent in enumerate(agents):
        await braked.beat(agent, 100 + number)
        await braked.beat(agent, 100 + number, ttl=0.0, kind=BeatType.BYE)
    await braked.wait(TTL + TIMER)
    assert held(braked) == 5
    await braked.restart()


async def test_a_crash_that_creeps_is_noticed_and_counts_no_more_once_the_path_is_proven(braked: World) -> None:
    agents = team(20)
    await goes_on(braked, 60, agents)
    for gone in range(1, 5):
        await goes_on(braked, 50, agents[gone:])
        assert braked.changes == []
        claim = await braked.claimed(agents[gone - 1])
        assert await braked.store.settle(claim, action_of(claim, at=START + gone))
    await goes_on(braked, 40, agents[7:])
    assert brake(braked) is State.HOLDING
    assert held(braked) == 3
    await goes_on(braked, 80, agents[7:])
    assert brake(braked) is State.CLEAR
    # Those who were set before were ghosts, too: two more do not make six.
    await goes_on(braked, TTL + TIMER + 0.5, agents[9:])
    assert set(agents[7:9]) <= set(await braked.due())
    assert [each.after for each in braked.changes] == [State.HOLDING, State.CLEAR]


async def test_those_who_really_died_have_a_fresh_lease_after_the_proof_and_are_due_then(braked: World) -> None:
    agents = team(100)
    dead, there = agents[:40], agents[40:]
    await goes_on(braked, 100, agents)
    await goes_on(braked, 300, there, until=lambda: bool(told(braked, Outcome.RELEASED)))
    assert told(braked, Outcome.RELEASED) == dead
    assert await states(braked, dead) == {AgentState.GRACE}
    released_at = braked.now
    # Several daemons count it at their next ticks.
    await braked.wait(2 * TICK)
    assert held(braked) == 0
    view = await braked.store.agent(dead[0])
    assert view is not None
    assert view.due_in_s == pytest.approx(TTL + TIMER - (braked.now - released_at))
    await goes_on(braked, TTL + TIMER - 0.5 - 2 * TICK, there)
    assert await braked.due() == []
    await goes_on(braked, 1.5, there)
    assert sorted(await braked.due()) == dead
    assert braked.now - released_at < TTL + TIMER + 2
    await goes_on(braked, 700, there)
    assert [each.after for each in braked.changes] == [State.HOLDING, State.CLEAR]


async def test_who_comes_back_in_its_fresh_lease_is_live_and_an_old_claim_is_void(braked: World) -> None:
    agents = team(100)
    await goes_on(braked, 100, agents)
    await goes_on(braked, 300, agents[40:], until=lambda: bool(told(braked, Outcome.RELEASED)))
    await goes_on(braked, TTL + TIMER + 1, agents[40:])
    claim = await braked.claimed(agents[0])
    await beats(braked, agents[:1])
    assert await braked.store.still_gone(claim) is Standing.RETURNED
    assert await braked.state(agents[0]) is AgentState.LIVE


async def test_a_claim_from_before_the_hold_is_void_once_its_agent_is_back_in_the_fresh_lease(braked: World) -> None:
    agents = team(100)
    await goes_on(braked, 100, agents)
    await goes_on(braked, TTL + TIMER + 1, agents[1:])
    claim = await braked.claimed(agents[0])
    await goes_on(braked, 300, agents[40:], until=lambda: agents[0] in told(braked, Outcome.RELEASED))
    await beats(braked, agents[:1])
    assert await braked.store.still_gone(claim) is Standing.RETURNED
    assert not await braked.store.intend(claim, intent())


async def test_a_bye_in_the_fresh_lease_ends_it(braked: World) -> None:
    agents = team(100)
    await goes_on(braked, 100, agents)
    await goes_on(braked, 300, agents[40:], until=lambda: bool(told(braked, Outcome.RELEASED)))
    await beats(braked, agents[:1], BeatType.BYE)
    await goes_on(braked, TIMER + 1, agents[40:])
    assert await braked.due() == agents[:1]


async def test_without_proof_the_hold_lasts_four_times_as_long_and_an_alarm_is_raised(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 20, agents)
    await braked.wait(MAX_HOLD)
    assert brake(braked) is State.HOLDING
    await braked.wait(30)
    assert brake(braked) is State.ALARM
    await braked.wait((UNPROVEN - 1) * MAX_HOLD - 40)
    assert await braked.due() == []
    await braked.wait(60)
    assert sorted(await braked.due()) == agents
    await braked.wait(60)
    assert brake(braked) is State.CLEAR
    assert held(braked) == 0


async def test_with_proof_a_silence_that_goes_on_and_on_holds_nobody_for_longer_than_the_limit(braked: World) -> None:
    agents = team(60)
    await goes_on(braked, 60, agents)
    began = braked.now
    # A fifth falls silent each minute and returns after three: the level of the shorter window is reached all the time.
    for minute in range(8):
        there = [each for at, each in enumerate(agents) if at and (at - minute) % 5 in (1, 2)]
        await goes_on(braked, 60, there, until=lambda: told(braked, Outcome.RELEASED) == agents[:1])
    assert agents[0] in told(braked, Outcome.RELEASED)
    assert MAX_HOLD <= braked.now - began <= MAX_HOLD + 60


@pytest.mark.parametrize("number", [1, 2, 6])
async def test_one_crash_in_a_small_team_is_caught_in_time(braked: World, number: int) -> None:
    agents = team(number)
    await goes_on(braked, 100, agents)
    await beats(braked, agents)
    await goes_on(braked, TTL + TIMER, agents[1:])
    assert await braked.due() == []
    await goes_on(braked, 0.5, agents[1:])
    assert await braked.due() == agents[:1]


@pytest.mark.parametrize("number", [2, 4])
async def test_a_small_team_that_all_falls_silent_is_held_for_two_minutes(braked: World, number: int) -> None:
    agents = team(number)
    await beats(braked, agents)
    await braked.wait(QUIET_S + SILENCE_S - 1)
    assert brake(braked) is State.LISTENING
    assert await braked.due() == []
    await braked.wait(2)
    assert sorted(await braked.due()) == agents
    await braked.wait(700)
    assert sorted(await braked.due()) == agents


async def test_a_claim_of_an_agent_who_is_held_meanwhile_is_told(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 100, agents)
    await goes_on(braked, TTL + TIMER + 1, agents[1:])
    claim = await braked.claimed(agents[0])
    assert await braked.store.still_gone(claim) is Standing.GONE
    await braked.wait(QUIET_S)
    assert await braked.store.still_gone(claim) is Standing.HELD
    assert await braked.store.release(claim, 0.0)
    assert await braked.due() == []
    assert told(braked, Outcome.HELD) == agents[:1]


async def test_a_write_that_was_sent_before_the_hold_is_settled(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 100, agents)
    await goes_on(braked, TTL + TIMER + 1, agents[1:])
    claim = await braked.claimed(agents[0])
    assert await braked.store.intend(claim, intent())
    await braked.wait(QUIET_S)
    assert await braked.store.settle(claim, action_of(claim))
    await braked.tick()
    assert await braked.state(agents[0]) is AgentState.AWAY
    assert held(braked) == 39


async def test_a_claim_from_before_the_hold_is_not_good_in_the_fresh_lease(braked: World) -> None:
    agents = team(100)
    await goes_on(braked, 100, agents)
    await goes_on(braked, TTL + TIMER + 1, agents[1:])
    claim = await braked.claimed(agents[0])
    await goes_on(braked, 300, agents[40:], until=lambda: agents[0] in told(braked, Outcome.RELEASED))
    assert await braked.store.still_gone(claim) is Standing.HELD


async def test_what_the_brake_stopped_is_told_once_a_hold_with_the_numbers(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 20, agents)
    await braked.wait(QUIET_S)
    assert braked.stopped == []
    await braked.wait(200)
    assert told(braked, Outcome.HELD) == agents
    for each in braked.stopped:
        numbers = each.evidence["brake"]
        assert (numbers["group"], numbers["reason"], numbers["window_s"]) == (ALL, "mass_silence", 60.0)
        assert numbers["baseline"] == 40
        assert numbers["quiet"] >= numbers["threshold"] == 12
    (change,) = braked.changes
    assert (change.before, change.after) == (State.CLEAR, State.HOLDING)
    assert change.hold.agents >= 12
    assert change.hold.next_step


# Instances.


async def test_an_instance_that_falls_silent_is_held_though_it_is_a_small_part_of_all(braked: World) -> None:
    small, large = team(6, "small"), team(60, "large")
    await goes_on(braked, 100, [*small, *large])
    await goes_on(braked, 2 * PROOF_S, large)
    assert await braked.due() == []
    assert held(braked) == 6
    assert braked.last is not None
    assert [hold.group for hold in braked.last.brake.holds] == ["small"]


async def test_beats_of_another_instance_do_not_prove_the_path(braked: World) -> None:
    small, large = team(6, "small"), team(60, "large")
    await goes_on(braked, 100, [*small, *large])
    await goes_on(braked, 5 * PROOF_S, large)
    assert held(braked) == 6
    await goes_on(braked, 2 * PROOF_S, [small[0], *large], until=lambda: bool(told(braked, Outcome.RELEASED)))
    assert told(braked, Outcome.RELEASED) == small[1:]


# Operators.


async def order(world: World, *, hold: bool, for_s: float, group: str = ALL) -> None:
    await world.store.order(group, hold=hold, for_s=for_s, reason="maintenance", instant=world.instant)


async def test_an_operator_holds_at_once_and_until_the_order_is_over(braked: World) -> None:
    agents = team(6)
    await goes_on(braked, 100, agents)
    await goes_on(braked, TTL + TIMER + 1, agents[1:])
    claim = await braked.claimed(agents[0])
    await order(braked, hold=True, for_s=600)
    assert await braked.store.still_gone(claim) is Standing.HELD
    await goes_on(braked, 599, agents[1:])
    assert brake(braked) is State.ORDERED
    assert await braked.state(agents[0]) is AgentState.HELD
    await goes_on(braked, 2, agents[1:])
    assert await braked.state(agents[0]) is AgentState.GRACE
    await goes_on(braked, TTL + TIMER + 1, agents[1:])
    assert await braked.state(agents[0]) is AgentState.DUE


async def test_an_operators_hold_of_nobody_holds_whoever_falls_silent_later(braked: World) -> None:
    agents = team(6)
    await order(braked, hold=True, for_s=600)
    await goes_on(braked, 100, agents)
    await goes_on(braked, TTL + TIMER + 1, agents[1:])
    assert await braked.state(agents[0]) is AgentState.HELD


async def test_not_even_an_operator_holds_who_said_bye(braked: World) -> None:
    agents = team(6)
    await order(braked, hold=True, for_s=600)
    await goes_on(braked, 100, agents)
    await beats(braked, agents[:1], BeatType.BYE)
    await goes_on(braked, TIMER + 1, agents[1:])
    assert await braked.due() == agents[:1]


async def test_an_operator_releases_and_the_brake_does_not_trip_until_the_order_is_over(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 20, agents)
    await braked.wait(100)
    assert held(braked) == 40
    await order(braked, hold=False, for_s=600)
    assert sorted(await braked.due()) == agents
    assert brake(braked) is State.OVERRULED
    await braked.wait(599)
    assert sorted(await braked.due()) == agents
    await braked.wait(5)
    assert brake(braked) is State.CLEAR
    assert sorted(await braked.due()) == agents


async def test_an_order_for_an_instance_goes_before_one_for_all(braked: World) -> None:
    one, other = team(6, "one"), team(6, "other")
    await goes_on(braked, 100, [*one, *other])
    await order(braked, hold=True, for_s=600)
    await order(braked, hold=False, for_s=600, group="one")
    await braked.wait(TTL + TIMER + 1)
    assert sorted(await braked.due()) == one
    assert await states(braked, other) == {AgentState.HELD}


async def test_an_order_to_release_all_releases_an_instance_that_is_held_by_itself(braked: World) -> None:
    small, large = team(6, "small"), team(60, "large")
    await goes_on(braked, 100, [*small, *large])
    await goes_on(braked, PROOF_S, large)
    assert held(braked) == 6
    await order(braked, hold=False, for_s=600)
    assert sorted(await braked.due()) == small


async def test_an_order_of_no_seconds_ends_the_order(braked: World) -> None:
    agents = team(6)
    await goes_on(braked, 100, agents)
    await order(braked, hold=True, for_s=600)
    await goes_on(braked, TTL, agents)
    assert brake(braked) is State.ORDERED
    await order(braked, hold=True, for_s=0)
    await goes_on(braked, 1, agents)
    assert brake(braked) is State.CLEAR


async def test_the_time_of_an_operators_hold_does_not_count_for_the_longest_hold(braked: World) -> None:
    agents = team(6)
    await goes_on(braked, 30, agents)
    await order(braked, hold=True, for_s=UNPROVEN * MAX_HOLD + 100)
    await braked.wait(UNPROVEN * MAX_HOLD + 110)
    assert brake(braked) is State.HOLDING
    assert held(braked) == 6
    await braked.wait(UNPROVEN * MAX_HOLD)
    assert sorted(await braked.due()) == agents


async def test_an_operators_order_works_without_a_brake(world: World) -> None:
    agents = team(6)
    await goes_on(world, 30, agents)
    await order(world, hold=True, for_s=100)
    await world.wait(99)
    assert held(world) == 6
    await world.wait(2)
    assert brake(world) is State.CLEAR
    await world.wait(TTL + TIMER)
    assert sorted(await world.due()) == agents


# Restarts.


async def test_a_restart_goes_on_holding(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, MAX_HOLD, agents)
    await braked.wait(60)
    assert held(braked) == 40
    for _ in range(3):
        await braked.restart(gap=5)
        await braked.wait(60)
        assert await braked.due() == []
        assert held(braked) == 40
        assert brake(braked) is State.HOLDING
    assert told(braked, Outcome.HELD) == agents


async def test_restarts_do_not_lengthen_a_hold(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 20, agents)
    began = braked.now
    while braked.now - began < UNPROVEN * MAX_HOLD + 300:
        await braked.wait(200)
        await braked.restart(gap=1)
    await braked.wait(60)
    assert sorted(await braked.due()) == agents


async def test_an_order_survives_a_restart(braked: World) -> None:
    agents = team(6)
    await goes_on(braked, 30, agents)
    await order(braked, hold=True, for_s=600)
    await braked.restart(gap=5)
    await braked.wait(100)
    assert brake(braked) is State.ORDERED
    assert await states(braked, agents) == {AgentState.HELD}


async def test_an_order_tells_who_gave_it_also_after_a_restart(braked: World) -> None:
    agents = team(6)
    await goes_on(braked, 30, agents)
    view = await braked.store.order(
        ALL, hold=True, for_s=600, reason="maintenance", instant=braked.instant, by="jwt:ops"
    )
    assert [hold.by for hold in view.holds] == ["jwt:ops"]
    await braked.restart(gap=5)
    await braked.wait(100)
    assert braked.last is not None
    assert [hold.by for hold in braked.last.brake.holds] == ["jwt:ops"]
    (found, *_) = await braked.store.held(agents[0].instance_id, 0.0)
    assert found.evidence["brake"]["by"] == "jwt:ops"


async def test_a_fresh_lease_survives_a_restart(braked: World) -> None:
    agents = team(100)
    await goes_on(braked, 100, agents)
    await goes_on(braked, 300, agents[40:], until=lambda: bool(told(braked, Outcome.RELEASED)))
    await goes_on(braked, 1, agents[40:])
    await braked.restart(gap=1)
    assert await states(braked, agents[:40]) == {AgentState.GRACE}
    await goes_on(braked, 10 + TTL + TIMER + 1, agents[40:])
    assert sorted(await braked.due()) == agents[:40]


async def test_an_outage_right_after_a_restart_is_noticed(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 100, agents)
    await braked.restart(gap=1)
    await braked.wait(300)
    assert await braked.due() == []
    assert held(braked) == 40


async def test_an_outage_in_the_first_minute_of_a_shift_is_noticed(braked: World) -> None:
    agents = team(40)
    await goes_on(braked, 15, agents)
    await braked.wait(300)
    assert await braked.due() == []
    assert held(braked) == 40


async def test_one_instance_with_many_due_agents_does_not_hide_those_of_another(braked: World) -> None:
    many, few, one = team(30, "many"), team(3, "few"), team(1, "one")
    await beats(braked, many)
    await beats(braked, many, BeatType.BYE)
    await braked.wait(5)
    await beats(braked, [*few, *one])
    await beats(braked, [*few, *one], BeatType.BYE)
    await braked.wait(TIMER + 1)

    async def offered(limit: int) -> list[AgentId]:
        tick = await braked.store.tick("me", braked.instant, limit=limit)
        assert tick.backlog == 34
        assert [due.deadline for due in tick.due] == sorted(due.deadline for due in tick.due)
        return [due.agent for due in tick.due]

    found = await offered(10)
    assert {*few, *one} < set(found)
    assert (len(found), len(set(found))) == (10, 10)
    assert sorted({each.instance_id for each in await offered(3)}) == ["few", "many", "one"]
    # What cannot be shared is for the instance that waits longest.
    assert (await offered(1))[0] in many
    assert len(await offered(100)) == 34
