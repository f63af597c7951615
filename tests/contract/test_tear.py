"""Sockets closed from the other side, over every store: what is left of a lease, and what a late notice does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.world import ANNA, INSTANCE, START, TETHER, TIMER, TTL, World, action_of
from watchdog.core.clock import Cause
from watchdog.core.deadline import QUIET_SHARE
from watchdog.core.model import AgentId, AgentState, BeatType, FollowUp, Next, Observed, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def left_s(world: World, number: int = 1) -> float:
    view = await world.store.agent(ANNA)
    assert view is not None
    return {int.from_bytes(row.session_id): row.expires_in_s for row in view.sessions}[number]


async def test_a_torn_socket_leaves_the_tether_of_a_lease_and_then_the_timer(world: World) -> None:
    await world.beat(kind=BeatType.HELLO, tether=1)
    await world.wait(3)
    assert await world.tear(1)
    assert await left_s(world) == TETHER
    await world.wait(TETHER)
    assert await world.state() is AgentState.LIVE
    await world.wait(TIMER)
    assert await world.due() == []
    await world.wait(0.5)
    assert await world.due() == [ANNA]


async def test_what_is_left_of_a_lease_never_grows_by_a_tear(world: World) -> None:
    await world.beat(tether=1)
    await world.wait(TTL - 2)
    assert not await world.tear(1)
    assert await left_s(world) == 2
    await world.wait(1)
    assert not await world.tear(1, ttl=1.0), "as long as the lease is"
    await world.wait(TIMER + 1.5)
    assert await world.due() == [ANNA]
    assert not await world.tear(1)
    assert await world.due() == [ANNA]


async def test_a_tear_of_a_lease_that_is_over_or_unknown_changes_nothing(world: World) -> None:
    assert not await world.tear(1)
    assert await world.state() is None
    await world.beat(tether=1)
    await world.wait(TTL + 1)
    assert not await world.tear(1)
    assert await world.state() is AgentState.GRACE


async def by_post(world: World) -> None:
    assert (await world.beat()).verdict is Verdict.RENEWED


async def by_another_socket(world: World) -> None:
    assert (await world.beat(kind=BeatType.HELLO, tether=2)).verdict is Verdict.RENEWED


async def by_the_next_incarnation(world: World) -> None:
    assert (await world.beat(incarnation=1, tether=2)).verdict is Verdict.OPENED


@pytest.mark.parametrize("back", [by_post, by_another_socket, by_the_next_incarnation])
async def test_a_late_notice_does_not_cut_a_lease_that_was_renewed_since(
    world: World, back: Callable[[World], Awaitable[None]]
) -> None:
    await world.beat(tether=1)
    await world.wait(1)
    await back(world)
    assert not await world.tear(1)
    assert await left_s(world) == TTL
    await world.wait(TTL)
    assert await world.state() is AgentState.LIVE


async def test_an_old_beat_by_another_way_is_no_renewal_and_leaves_the_socket_what_it_is(world: World) -> None:
    await world.beat(seq=5, tether=1)
    assert (await world.beat(seq=4)).verdict is Verdict.STALE
    assert (await world.beat(ttl=None, seq=6)).verdict is Verdict.NOT_RENEWED
    assert await world.tear(1)
    assert await left_s(world) == TETHER


async def test_a_socket_whose_beats_were_all_late_cuts_nothing(world: World) -> None:
    await world.beat(seq=5)
    assert (await world.beat(seq=4, tether=1)).verdict is Verdict.STALE
    assert not await world.tear(1)
    assert await left_s(world) == TTL


async def test_a_beat_after_a_tear_renews_as_usual(world: World) -> None:
    await world.beat(tether=1)
    await world.tear(1)
    await world.wait(TETHER + TIMER - 1)
    reply = await world.beat()
    assert (reply.verdict, reply.live, reply.left_s) == (Verdict.RENEWED, True, TTL)
    await world.wait(TTL)
    assert await world.state() is AgentState.LIVE
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_a_beat_after_a_tear_is_answered_before_its_flush_like_any_other(world: World) -> None:
    await world.beat(tether=1)
    await world.tear(1)
    await world.tick()
    assert (await world.beat(tether=2)).left_s == TTL
    await world.tick()
    assert await left_s(world) == TTL


async def test_a_second_notice_of_the_same_end_shortens_nothing_more(world: World) -> None:
    await world.beat(tether=1)
    await world.tear(1)
    await world.wait(4)
    assert not await world.tear(1)
    assert await left_s(world) == TETHER - 4


async def test_who_said_bye_has_said_so(world: World) -> None:
    await world.beat(tether=1)
    await world.bye()
    assert not await world.tear(1)
    assert (await world.beat(tether=1)).verdict is Verdict.TOMBSTONE
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_a_bye_that_lies_ahead_of_a_clock_which_stood_is_not_brought_forward(world: World) -> None:
    await world.beat(tether=1)
    world.now += 1.5
    await world.bye()
    await world.tick(Cause.STORE)
    assert not await world.tear(1, ttl=0.0)


async def test_a_session_that_was_stopped_stays_stopped(world: World) -> None:
    await world.beat(tether=1)
    await world.store.log_out(ANNA, FollowUp(Next.LOG_OUT, Observed(0.0), target="offline"), world.instant)
    assert not await world.tear(1)
    assert (await world.beat()).verdict is Verdict.STOPPED


async def test_other_sessions_of_the_agent_keep_it_there(world: World) -> None:
    await world.beat(number=1, tether=1)
    await world.beat(number=2, tether=2)
    assert await world.tear(1)
    await world.wait(TTL)
    assert await world.state() is AgentState.LIVE
    assert not await world.tear(2), "its lease is shorter than the tether"
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_a_tear_is_no_return_and_voids_no_claim(world: World) -> None:
    await world.beat(tether=1)
    await world.wait(TTL + TIMER + 0.5)
    claim = await world.claimed()
    assert not await world.tear(1)
    assert await world.store.settle(claim, action_of(claim, at=START))


async def test_what_a_tear_left_survives_a_kill(world: World) -> None:
    await world.beat(tether=1)
    await world.wait(1)
    await world.tear(1)
    await world.wait(4)
    await world.restart()
    assert await left_s(world) <= TETHER - 4
    await world.wait(10 + TETHER - 4 + TIMER + 1)  # the grace after a gap of a second
    assert await world.due() == [ANNA]


async def test_sockets_that_end_with_the_process_cut_nothing_in_the_next(world: World) -> None:
    await world.beat(tether=1)
    await world.wait(1)
    before = await left_s(world)
    await world.restart()
    assert not await world.tear(1), "the notice of an older process"
    assert await left_s(world) >= before


async def test_a_tear_that_is_found_after_a_blind_gap_leaves_time_to_come_back(world: World) -> None:
    await world.beat(tether=1)
    world.now += 60
    await world.tear(1)
    await world.tick()
    await world.wait(30 + TETHER - 3)  # the clock stands for as long as RESUME_GRACE first
    assert await world.state() is AgentState.LIVE
    await world.beat()
    await world.wait(TTL)
    assert await world.state() is AgentState.LIVE


async def test_the_clock_that_stands_keeps_what_a_tear_left(world: World) -> None:
    await world.beat(tether=1)
    await world.tear(1)
    for _ in range(200):
        world.now += 0.25
        await world.tick(Cause.CANARY)
    assert await left_s(world) == TETHER


# The brake.


def agents(count: int) -> list[AgentId]:
    return [AgentId(INSTANCE, f"agent-{number}") for number in range(count)]


async def torn_at_once(world: World) -> list[AgentId]:
    everyone = agents(20)
    for number, agent in enumerate(everyone, 1):
        await world.beat(agent, number, tether=number)
    await world.wait(1)
    for number in range(1, 21):
        await world.tear(number, number)
    return everyone


async def test_sockets_torn_all_at_once_are_silence_and_no_byes(braked: World) -> None:
    everyone = await torn_at_once(braked)
    await braked.wait(QUIET_SHARE * TETHER - 0.5)
    assert not braked.changes, "nobody is quiet yet: clients that come back at once make no hold"
    await braked.wait(TETHER + TIMER)
    assert await braked.due() == []
    assert {await braked.state(agent) for agent in everyone} == {AgentState.HELD}


async def test_who_is_back_by_post_within_seconds_makes_no_hold(braked: World) -> None:
    everyone = await torn_at_once(braked)
    await braked.wait(4)
    for number, agent in enumerate(everyone, 1):
        await braked.beat(agent, number)
    await braked.wait(TETHER + TIMER)
    assert not braked.changes
    assert {await braked.state(agent) for agent in everyone} == {AgentState.LIVE}


async def test_notices_of_ends_are_no_proof_that_heartbeats_arrive(braked: World) -> None:
    everyone = agents(20)
    for number, agent in enumerate(everyone, 1):
        await braked.beat(agent, number, tether=number)
    await braked.wait(QUIET_SHARE * TTL + 2)
    assert {await braked.state(agent) for agent in everyone} == {AgentState.HELD}
    for _ in range(8):
        await braked.wait(10)
        for number in range(1, 21):
            await braked.tear(number, number, 0.0)
    assert {await braked.state(agent) for agent in everyone} == {AgentState.HELD}
