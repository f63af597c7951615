"""An operator wants an agent left alone: told as stories, over every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.contract.test_brake import goes_on
from tests.contract.test_follow_ups import staged
from tests.contract.test_held import dark
from tests.contract.test_log_out import log_out
from tests.contract.world import ANNA, BERT, START, TIMER, TTL, World, action_of, intent
from watchdog.core.brake import ALL
from watchdog.core.model import Action, AgentState, BeatType, Cancel, Epoch, IntentKind, Outcome

if TYPE_CHECKING:
    from watchdog.core.model import AgentId


async def cancel(world: World, agent: AgentId = ANNA, number: int = 1) -> Cancel:
    action = Action(
        id=f"{number:013d}-x-{agent.user_id}",
        at=Epoch(START),
        agent=agent,
        intent=IntentKind.SET_STATUS,
        target="",
        outcome=Outcome.CANCELLED,
        reason="An operator wants it left alone.",
        evidence={"by": "boss"},
        calls=0,
        latency_s=0.0,
    )
    return await world.store.cancel(agent, action)


async def history(world: World) -> list[Outcome]:
    return [action.outcome for action in (await world.store.actions()).actions]


async def outcome(world: World) -> Outcome | None:
    view = await world.store.agent(ANNA)
    assert view is not None
    return view.last_outcome


async def in_grace(world: World, seconds: float = 1.0) -> None:
    await world.beat()
    await world.bye()
    await world.wait(seconds)


async def test_the_timer_of_an_agent_is_over_and_it_is_never_due(world: World) -> None:
    await in_grace(world)
    assert await cancel(world) is Cancel.DONE
    assert await world.state() is AgentState.GONE
    assert await outcome(world) is Outcome.CANCELLED
    assert await history(world) == [Outcome.CANCELLED]
    await world.wait(1000)
    assert await world.due() == []
    counts = (await world.store.counts()).agents
    assert (counts[AgentState.GRACE], counts[AgentState.GONE]) == (0, 1)


async def test_it_survives_the_process(world: World) -> None:
    await in_grace(world)
    assert await cancel(world) is Cancel.DONE
    await world.restart()
    await world.wait(100)
    assert (await world.due(), await world.state()) == ([], AgentState.GONE)
    assert await history(world) == [Outcome.CANCELLED]


async def test_an_agent_who_is_due_and_not_claimed_is_not_due_any_more(world: World) -> None:
    await in_grace(world, TIMER + 0.5)
    (due,) = (await world.tick()).due
    assert await cancel(world) is Cancel.DONE
    assert await world.store.claim(due, "me") is None
    assert (await world.tick()).backlog == 0


async def test_the_next_silence_is_watched_as_ever(world: World) -> None:
    await in_grace(world)
    await cancel(world)
    await world.wait(100)
    assert (await world.beat(incarnation=1, kind=BeatType.HELLO)).live
    assert await world.state() is AgentState.LIVE
    await world.wait(TTL + TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_nothing_waits_for_who_is_there_settled_or_unknown(world: World) -> None:
    await world.beat()
    assert await cancel(world) is Cancel.NOTHING
    assert await cancel(world, BERT) is Cancel.NOTHING
    await world.bye()
    await world.wait(1)
    assert await cancel(world) is Cancel.DONE
    assert await cancel(world, number=2) is Cancel.NOTHING
    assert await history(world) == [Outcome.CANCELLED]
    await world.wait(1000)
    assert await world.due() == []


async def test_what_is_being_done_is_not_cancelled(world: World) -> None:
    await in_grace(world, TIMER + 0.5)
    claim = await world.claimed()
    assert await cancel(world) is Cancel.UNDER_WAY
    assert await world.store.intend(claim, intent())
    assert await cancel(world) is Cancel.UNDER_WAY
    # Given back: what was intended may have taken effect.
    assert await world.store.release(claim, 10.0)
    assert await cancel(world) is Cancel.UNDER_WAY
    assert await history(world) == []
    await world.wait(11)
    again = await world.claimed()
    assert await world.store.settle(again, action_of(again))
    assert await world.state() is AgentState.AWAY


async def test_somebodys_order_to_log_the_agent_out_stands(world: World) -> None:
    await world.beat()
    await log_out(world)
    assert await cancel(world) is Cancel.UNDER_WAY
    await world.wait(0.25)
    assert await world.due() == [ANNA]


async def test_what_was_to_follow_a_status_is_over_and_the_status_stays(world: World) -> None:
    await staged(world)
    assert await cancel(world) is Cancel.DONE
    assert (await world.state(), await outcome(world)) == (AgentState.AWAY, Outcome.CONFIRMED)
    await world.wait(100)
    assert await world.due() == []
    await world.restart()
    await world.wait(100)
    assert (await world.due(), await world.state()) == ([], AgentState.AWAY)


async def test_a_held_agent_is_let_go_for_good(braked: World) -> None:
    agents = await dark(braked)
    assert await cancel(braked, agents[0]) is Cancel.DONE
    assert await braked.state(agents[0]) is AgentState.GONE
    assert [each.agent for each in await braked.store.held(agents[0].instance_id, 0.0)].count(agents[0]) == 0
    assert (await braked.wait(1)).brake.held == 39
    await braked.store.order(ALL, hold=False, for_s=600.0, reason="", instant=braked.instant)
    await braked.wait(TTL + TIMER + 1)
    assert agents[0] not in await braked.due()
    assert agents[1] in await braked.due()


async def test_a_held_agent_whose_lease_runs_on_is_live_and_then_gone(braked: World) -> None:
    agents = await dark(braked, seconds=TTL - 5)
    assert await cancel(braked, agents[0]) is Cancel.DONE
    assert await braked.state(agents[0]) is AgentState.LIVE
    await braked.wait(TTL + TIMER)
    assert await braked.state(agents[0]) is AgentState.GONE
    counts = (await braked.store.counts()).agents
    assert (counts[AgentState.LIVE], counts[AgentState.GONE]) == (0, 1)
    await goes_on(braked, 1, agents[:1])
    assert await braked.state(agents[0]) is AgentState.LIVE
