"""The store's contract, told as stories, over every store."""

from __future__ import annotations

import pytest

from tests.contract.world import ANNA, BERT, INSTANCE, START, TIMER, TTL, World, action_of, due_of, intent
from watchdog.core.clock import Cause
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    Beat,
    BeatType,
    Claim,
    Due,
    Epoch,
    IntentKind,
    Observed,
    Outcome,
    Standing,
    Verdict,
)

# Deadlines.


async def test_an_agent_is_due_after_ttl_and_timer_and_not_before(world: World) -> None:
    await world.beat()
    await world.wait(TTL + TIMER)
    assert await world.due() == []
    await world.wait(0.5)
    assert await world.due() == [ANNA]


async def test_a_beat_in_time_moves_the_deadline(world: World) -> None:
    await world.beat()
    await world.wait(TTL)
    await world.beat()
    await world.wait(TTL + TIMER)
    assert await world.due() == []
    await world.wait(0.5)
    assert await world.due() == [ANNA]


async def test_a_bye_starts_the_timer_at_once(world: World) -> None:
    await world.beat()
    await world.wait(3)
    assert (await world.bye()).verdict is Verdict.CLOSED
    assert await world.state() in (AgentState.LIVE, AgentState.GRACE)
    await world.wait(TIMER)
    assert await world.due() == []
    await world.wait(0.5)
    assert await world.due() == [ANNA]


async def test_a_reload_inside_the_timer_changes_nothing(world: World) -> None:
    await world.beat(number=1)
    await world.bye(number=1)
    await world.wait(TIMER - 1)
    await world.beat(number=2, kind=BeatType.HELLO)
    await world.wait(TTL - 1)
    assert await world.due() == []
    assert await world.state() is AgentState.LIVE


async def test_the_last_of_several_sessions_counts(world: World) -> None:
    await world.beat(number=1)
    await world.beat(number=2)
    await world.bye(number=1)
    await world.wait(TTL)
    assert await world.due() == []
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_a_bye_of_one_session_never_lengthens_the_others(world: World) -> None:
    await world.beat(number=1)
    await world.wait(TTL + 1)
    await world.bye(number=1)
    await world.wait(TIMER)
    assert await world.due() == [ANNA]


async def test_a_shorter_ttl_brings_the_deadline_forward(world: World) -> None:
    await world.beat(ttl=150.0)
    await world.wait(2)
    await world.beat(ttl=TTL)
    await world.wait(TTL + TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_due_agents_come_with_the_oldest_deadline_first(world: World) -> None:
    await world.beat(BERT, 2)
    await world.wait(1)
    await world.beat(ANNA, 1)
    await world.wait(TTL + TIMER + 0.5)
    assert await world.due() == [BERT, ANNA]


async def test_only_as_many_as_asked_for_are_due_and_the_backlog_tells_the_rest(world: World) -> None:
    for number in range(5):
        await world.beat(AgentId(INSTANCE, f"agent-{number}"), number + 1)
    await world.wait(TTL + TIMER + 0.5)
    tick = await world.store.tick("me", world.instant, limit=2)
    assert len(tick.due) == 2
    assert tick.backlog == 5


# Sessions.


async def test_an_unknown_session_is_opened_by_a_beat(world: World) -> None:
    reply = await world.beat()
    assert (reply.verdict, reply.live, reply.left_s) == (Verdict.OPENED, True, TTL)


async def test_an_unknown_bye_moves_nothing(world: World) -> None:
    assert (await world.bye()).verdict is Verdict.CLOSED
    await world.wait(TIMER + 1)
    assert await world.state() is None


async def test_an_old_seq_moves_nothing(world: World) -> None:
    await world.beat(seq=7)
    await world.wait(10)
    reply = await world.beat(seq=7)
    assert reply.verdict is Verdict.STALE
    assert reply.live
    assert reply.left_s == pytest.approx(TTL - 10)


async def test_a_hello_after_the_lease_needs_a_new_seq_too(world: World) -> None:
    """A hello that came twice would make a ghost live again."""
    await world.beat(seq=40, kind=BeatType.HELLO)
    await world.wait(TTL + 1)
    reply = await world.beat(seq=40, kind=BeatType.HELLO)
    assert (reply.verdict, reply.live) == (Verdict.STALE, False)
    reply = await world.beat(seq=41, kind=BeatType.HELLO)
    assert (reply.verdict, reply.live, reply.left_s) == (Verdict.RENEWED, True, TTL)


async def test_a_hello_in_the_lease_with_an_old_seq_moves_nothing(world: World) -> None:
    """It was overtaken on its way, or came twice."""
    await world.beat(seq=2, ttl=150.0)
    await world.wait(TTL)
    for seq in (1, 2):
        reply = await world.beat(seq=seq, kind=BeatType.HELLO)
        assert (reply.verdict, reply.live) == (Verdict.STALE, True)
    await world.wait(150 - TTL)
    assert await world.state() is AgentState.LIVE
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_beats_that_come_again_after_the_lease_reopen_nothing(world: World) -> None:
    await world.beat(seq=1, kind=BeatType.HELLO)
    await world.beat(seq=2)
    await world.wait(TTL + TIMER + 0.5)
    for seq in (1, 2):
        reply = await world.beat(seq=seq)
        assert (reply.verdict, reply.live) == (Verdict.STALE, False)
    assert await world.due() == [ANNA]


async def test_no_hello_reopens_what_said_bye_nor_an_old_incarnation(world: World) -> None:
    await world.beat(incarnation=1, seq=5)
    await world.wait(TTL + 1)
    assert (await world.beat(incarnation=0, seq=6, kind=BeatType.HELLO)).verdict is Verdict.STALE
    await world.bye(incarnation=1)
    await world.wait(TIMER)
    assert (await world.beat(incarnation=1, seq=6, kind=BeatType.HELLO)).verdict is Verdict.TOMBSTONE
    assert await world.due() == [ANNA]


async def test_an_old_incarnation_moves_nothing(world: World) -> None:
    await world.beat(incarnation=2)
    await world.wait(10)
    assert (await world.beat(incarnation=1)).verdict is Verdict.STALE
    assert (await world.bye(incarnation=1)).verdict is Verdict.STALE
    await world.wait(TTL - 10)
    assert await world.state() is AgentState.LIVE


async def test_a_tombstone_holds_against_beats_in_flight(world: World) -> None:
    await world.beat(seq=1)
    await world.bye()
    reply = await world.beat(seq=2)
    assert (reply.verdict, reply.live) == (Verdict.TOMBSTONE, False)
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_tombstone_holds_for_five_minutes_from_the_bye_however_long_the_lease_was_over(
    world: World, *, restarted: bool
) -> None:
    await world.beat(seq=1)
    await world.wait(TTL + TIMER + 1)
    claim = await world.claimed()
    await world.store.settle(claim, action_of(claim))
    await world.restart()
    await world.wait(200)
    await world.bye()
    if restarted:
        await world.restart()
    await world.wait(290)
    assert (await world.beat(seq=2)).verdict is Verdict.TOMBSTONE


async def test_the_next_incarnation_opens_a_session_that_said_bye(world: World) -> None:
    await world.beat()
    await world.bye()
    assert (await world.beat(incarnation=1)).verdict is Verdict.OPENED
    await world.wait(TIMER + 1)
    assert await world.state() is AgentState.LIVE


async def test_a_new_incarnation_counts_its_seq_anew(world: World) -> None:
    await world.beat(seq=40)
    assert (await world.beat(incarnation=1, seq=1)).verdict is Verdict.OPENED
    assert (await world.beat(incarnation=1, seq=2)).verdict is Verdict.RENEWED
    assert (await world.beat(incarnation=2)).verdict is Verdict.OPENED
    assert (await world.beat(incarnation=2, seq=1)).verdict is Verdict.RENEWED


async def test_a_session_of_another_agent_is_not_touched(world: World) -> None:
    await world.beat(ANNA, 1)
    await world.wait(5)
    reply = await world.beat(BERT, 1)
    assert (reply.verdict, reply.live) == (Verdict.FOREIGN, False)
    assert (await world.bye(BERT, 1)).verdict is Verdict.FOREIGN
    assert await world.state(BERT) is None
    assert await world.state(ANNA) is AgentState.LIVE


async def test_a_beat_that_may_not_renew_moves_nothing(world: World) -> None:
    assert (await world.beat(ttl=None)).verdict is Verdict.NOT_RENEWED
    assert await world.state() is None
    await world.beat()
    await world.wait(TTL)
    assert (await world.beat(ttl=None)).verdict is Verdict.NOT_RENEWED
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


# What may be answered before the flush.


def a_beat(**changes: object) -> Beat:
    facts: dict[str, object] = {"agent": ANNA, "session_id": (1).to_bytes(16, "big"), "seq": 2, "ttl": TTL}
    return Beat(**{**facts, **changes})  # type: ignore[arg-type]


async def test_a_beat_of_a_live_session_is_plainly_live(world: World) -> None:
    await world.beat(seq=1)
    assert world.store.plainly_live(a_beat()) == TTL


@pytest.mark.parametrize(
    "changes",
    [
        {"type": BeatType.HELLO},
        {"type": BeatType.BYE, "ttl": 0.0},
        {"agent": BERT},
        {"session_id": (2).to_bytes(16, "big")},
        {"incarnation": 1},
        {"seq": 1},
        {"ttl": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_whatever_is_not_a_plain_renewal_waits_for_its_flush(world: World, changes: dict[str, object]) -> None:
    await world.beat(seq=1)
    assert world.store.plainly_live(a_beat(**changes)) is None


async def test_a_beat_close_to_the_end_of_its_lease_waits_for_its_flush(world: World) -> None:
    await world.beat(seq=1)
    await world.wait(TTL - 1)
    assert world.store.plainly_live(a_beat()) is None


async def test_a_closed_session_is_not_plainly_live(world: World) -> None:
    await world.beat(seq=1)
    await world.bye()
    assert world.store.plainly_live(a_beat()) is None


# The clock.


async def test_a_lease_is_never_short_by_the_time_since_the_last_tick(world: World) -> None:
    await world.tick()
    world.now += 0.24
    await world.beat()
    world.now += 0.01
    await world.wait(TTL + TIMER - 0.02)
    assert await world.due() == []


async def test_blind_time_does_not_count(world: World) -> None:
    await world.beat()
    for _ in range(400):
        world.now += 0.25
        tick = await world.tick(Cause.STORE)
    assert tick.clock.standing is Cause.STORE
    assert tick.stopped_s == pytest.approx(0.25)
    assert await world.state() is AgentState.LIVE
    await world.wait(30)  # the grace
    await world.wait(TTL + TIMER - 1)
    assert await world.due() == []
    await world.wait(2)
    assert await world.due() == [ANNA]


async def test_a_long_pause_counts_as_two_seconds_at_most(world: World) -> None:
    await world.beat()
    world.now += 3600
    tick = await world.tick()
    assert tick.clock.observed <= 2.0
    assert tick.clock.standing is Cause.PAUSE
    assert await world.state() is AgentState.LIVE


async def test_the_wall_clock_decides_nothing(world: World) -> None:
    await world.beat()
    world.wall += 86_400
    await world.wait(TTL)
    world.wall -= 10 * 86_400
    assert await world.due() == []
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


# Claims.


async def gone(world: World, number: int = 1) -> None:
    await world.beat(number=number)
    await world.bye(number=number)
    await world.wait(TIMER + 0.5)


async def test_of_all_who_claim_one_gets_it(world: World) -> None:
    await gone(world)
    (due,) = (await world.tick()).due
    first = await world.store.claim(due, "me")
    assert first is not None
    assert await world.store.claim(due, "you") is None
    assert await world.due() == []
    assert (await world.tick()).backlog == 1


async def test_nobody_is_claimed_before_the_deadline(world: World) -> None:
    await world.beat()
    await world.wait(TTL + TIMER)
    view = await world.store.agent(ANNA)
    assert view is not None
    assert view.state is AgentState.GRACE
    assert await world.store.claim(Due(ANNA, 1, Observed(0.0)), "me") is None


async def test_a_claim_tells_what_it_rests_on(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    assert claim.agent == ANNA
    assert 0 < claim.lag_s <= 1.0
    assert claim.evidence
    assert claim.intent is None


async def test_a_renewal_voids_the_claim(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    assert await world.store.still_gone(claim) is Standing.GONE
    await world.beat(number=2)
    assert await world.store.still_gone(claim) is Standing.RETURNED
    assert not await world.store.intend(claim, intent())
    assert await world.state() is AgentState.LIVE


async def test_a_renewal_before_the_claim_voids_what_was_due(world: World) -> None:
    await gone(world)
    (due,) = (await world.tick()).due
    await world.beat(number=2)
    assert await world.store.claim(due, "me") is None


async def test_who_was_due_before_and_is_due_again_needs_a_new_claim(world: World) -> None:
    await gone(world)
    (old,) = (await world.tick()).due
    await world.beat(number=2)
    await world.bye(number=2)
    await world.wait(TIMER + 0.5)
    assert await world.store.claim(old, "me") is None
    assert (await world.claimed()).epoch > old.epoch


async def test_a_settled_agent_is_not_due_again(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    assert await world.store.intend(claim, intent())
    assert await world.store.settle(claim, action_of(claim))
    assert await world.state() is AgentState.AWAY
    await world.wait(1000)
    assert await world.due() == []
    assert (await world.tick()).backlog == 0


async def test_an_outcome_that_changed_nothing_leaves_the_agent_gone(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    assert await world.store.settle(claim, action_of(claim, Outcome.ALREADY))
    assert await world.state() is AgentState.GONE


async def test_a_settled_agent_that_returns_is_watched_again(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    await world.store.settle(claim, action_of(claim))
    await world.beat(number=2)
    assert await world.state() is AgentState.LIVE
    await world.wait(TTL + TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_settling_who_returned_records_the_action_and_leaves_the_agent(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    await world.beat(number=2)
    assert not await world.store.settle(claim, action_of(claim, Outcome.RETURNED))
    assert await world.state() is AgentState.LIVE
    page = await world.store.actions()
    assert [action.outcome for action in page.actions] == [Outcome.RETURNED]
    await world.wait(TTL + TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_a_claim_is_settled_once(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    await world.store.settle(claim, action_of(claim))
    assert not await world.store.settle(claim, action_of(claim, Outcome.FAILED, at=1_700_000_001.0))
    assert not await world.store.release(claim, 0.0)
    assert len((await world.store.actions()).actions) == 1


async def test_a_claim_that_was_given_back_is_void_for_ever(world: World) -> None:
    await gone(world)
    old = await world.claimed()
    await world.store.release(old, 0.0)
    new = await world.claimed()
    assert new.token > old.token
    assert await world.store.still_gone(old) is Standing.RETURNED
    assert not await world.store.intend(old, intent())
    assert not await world.store.release(old, 0.0)
    assert not await world.store.settle(old, action_of(old))
    assert await world.store.still_gone(new) is Standing.GONE


async def test_a_released_agent_is_due_again_after_the_delay(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    assert await world.store.release(claim, 10.0)
    await world.wait(9.5)
    assert await world.due() == []
    await world.wait(1)
    assert await world.due() == [ANNA]
    assert await world.store.claim(due_of(claim), "me") is not None


async def test_the_intent_of_a_released_claim_comes_back_with_the_next(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    await world.store.intend(claim, intent())
    await world.store.release(claim, 0.0)
    assert (await world.claimed()).intent == intent()


async def test_an_intent_whose_agent_returned_is_an_orphan(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    await world.store.intend(claim, intent())
    await world.store.release(claim, 0.0)
    await world.beat(number=2)
    (orphan,) = (await world.tick()).orphans
    assert (orphan.agent, orphan.intent) == (ANNA, intent())
    assert not await world.store.settle(orphan, action_of(orphan, Outcome.RETURNED))
    assert (await world.tick()).orphans == ()
    assert await world.state() is AgentState.LIVE


# Restarts.


async def test_a_restart_counts_for_nothing(world: World) -> None:
    await world.beat()
    await world.wait(10)
    await world.restart(gap=3600)
    assert await world.state() is AgentState.LIVE
    await world.wait(30 + TTL - 11 + TIMER)
    assert await world.due() == []


async def test_a_ghost_is_caught_after_any_number_of_restarts(world: World) -> None:
    await world.beat()
    for _ in range(40):
        await world.wait(20)
        await world.restart()
    await world.wait(60)
    assert await world.due() == [ANNA]


async def test_a_present_agent_has_a_full_lease_after_a_restart(world: World) -> None:
    for _ in range(12):
        await world.wait(10)
        await world.beat()
    await world.restart()
    await world.wait(TTL - 1)
    assert await world.state() is AgentState.LIVE


async def test_no_lease_is_longer_than_its_ttl_after_a_restart(world: World) -> None:
    await world.beat()
    await world.restart()
    await world.wait(10 + TTL + TIMER + 1)
    assert await world.due() == [ANNA]


async def test_a_ttl_that_grew_survives_a_restart(world: World) -> None:
    await world.beat(ttl=TTL)
    await world.wait(8)
    await world.beat(ttl=75.0)
    await world.restart()
    await world.wait(10 + 60)
    assert await world.state() is AgentState.LIVE


async def test_a_restart_on_another_machine_is_a_long_gap(world: World) -> None:
    await world.beat()
    await world.restart(gap=-90, boot_id="boot-2")
    tick = await world.wait(29)
    assert tick.clock.standing is Cause.RESTART
    assert await world.state() is AgentState.LIVE


async def test_a_bye_survives_a_restart(world: World) -> None:
    await world.beat(seq=1)
    await world.bye()
    await world.restart()
    assert (await world.beat(seq=2)).verdict is Verdict.TOMBSTONE
    await world.wait(10 + TIMER + 1)
    assert await world.due() == [ANNA]


async def test_an_outcome_survives_a_restart(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    await world.store.settle(claim, action_of(claim))
    await world.restart()
    await world.wait(60)
    assert await world.state() is AgentState.AWAY
    assert [action.id for action in (await world.store.actions()).actions] == [action_of(claim).id]


async def test_a_claim_ends_with_its_process(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    await world.restart()
    await world.wait(12)
    again = await world.claimed()
    assert again.token > claim.token
    assert again.intent is None


async def test_an_intent_survives_its_process(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    await world.store.intend(claim, intent())
    await world.restart()
    await world.wait(12)
    again = await world.claimed()
    assert again.intent == intent()
    await world.restart()
    await world.wait(12)
    assert (await world.claimed()).intent == intent()


async def test_an_intent_that_survived_is_an_orphan_once_its_agent_is_back(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    await world.store.intend(claim, intent())
    await world.restart()
    await world.beat(number=2)
    (orphan,) = (await world.tick()).orphans
    assert not await world.store.settle(orphan, action_of(orphan, Outcome.RETURNED))
    await world.restart()
    assert (await world.tick()).orphans == ()
    assert len((await world.store.actions()).actions) == 1


async def test_the_secret_stays_the_same(world: World) -> None:
    secret = await world.store.secret()
    assert len(secret) == 32
    await world.restart()
    assert await world.store.secret() == secret


# Quota.


async def test_tokens_are_given_at_the_share_of_the_quota(world: World) -> None:
    taken = 0
    for _ in range(400):
        world.now += 0.25
        taken += await world.store.take_tokens("PutUserStatus", "here", 1, world.instant) == 0.0
    assert taken == 159  # 99.75 s at 2/s × 0.8, from an empty bucket


async def test_apis_and_accounts_have_buckets_of_their_own(world: World) -> None:
    await world.store.take_tokens("PutUserStatus", "here", 1, world.instant)
    await world.store.take_tokens("PutUserStatus", "there", 1, world.instant)
    world.now += 1 / 1.6
    assert await world.store.take_tokens("PutUserStatus", "here", 1, world.instant) == 0.0
    assert await world.store.take_tokens("PutUserStatus", "here", 1, world.instant) > 0.0
    assert await world.store.take_tokens("PutUserStatus", "there", 1, world.instant) == 0.0


async def test_throttling_halves_the_rate(world: World) -> None:
    await world.store.take_tokens("PutUserStatus", "here", 1, world.instant)
    before = await world.store.take_tokens("PutUserStatus", "here", 1, world.instant)
    await world.store.throttled("PutUserStatus", "here", world.instant)
    after = await world.store.take_tokens("PutUserStatus", "here", 1, world.instant)
    assert after == pytest.approx(2 * before)


# Reading.


async def test_agents_come_in_pages(world: World) -> None:
    ids = [AgentId(INSTANCE, f"agent-{number:02}") for number in range(25)]
    for number, agent in enumerate(reversed(ids)):
        await world.beat(agent, number + 1)
    seen: list[AgentId] = []
    cursor = None
    while True:
        page = await world.store.agents(cursor=cursor, limit=10)
        seen += [view.agent for view in page.agents]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == ids


async def test_agents_are_found_by_state_and_by_name(world: World) -> None:
    await world.beat(ANNA, 1)
    await world.beat(BERT, 2)
    await world.wait(1)
    await world.bye(BERT, 2)
    await world.wait(1)
    assert [view.agent for view in (await world.store.agents(state=AgentState.GRACE)).agents] == [BERT]
    assert [view.agent for view in (await world.store.agents(query="ANN")).agents] == [ANNA]
    assert (await world.store.agents(state=AgentState.DUE)).agents == ()
    assert [view.agent for view in (await world.store.agents(among=BERT.__eq__)).agents] == [BERT]
    assert (await world.store.agents(state=AgentState.LIVE, among=BERT.__eq__)).agents == ()


async def test_an_agent_shows_its_sessions_and_its_deadline(world: World) -> None:
    await world.beat(number=1)
    await world.wait(5)
    view = await world.store.agent(ANNA)
    assert view is not None
    assert [round(row.expires_in_s) for row in view.sessions] == [30]
    assert view.due_in_s == pytest.approx(35)
    assert view.last_seen == pytest.approx(world.instant.epoch - 5)
    assert await world.store.agent(BERT) is None


async def test_the_counts_are_those_of_the_states(world: World) -> None:
    await world.beat(ANNA, 1)
    await world.beat(ANNA, 2)
    await world.beat(BERT, 3)
    await world.bye(BERT, 3)
    await world.wait(1)
    counts = await world.store.counts()
    assert counts.sessions == 2
    assert {state: number for state, number in counts.agents.items() if number} == {
        AgentState.LIVE: 1,
        AgentState.GRACE: 1,
    }


# Activity that somebody witnessed.


async def silent(world: World) -> Claim:
    """Anna's beats have stopped and her timer is over: `TTL + TIMER + 0.5` after the last one."""
    await world.beat()
    await world.wait(TTL + TIMER + 0.5)
    return await world.claimed()


async def test_activity_counts_as_a_heartbeat_at_that_time(world: World) -> None:
    claim = await silent(world)
    assert await world.store.witness(claim, 10.0, TTL, action_of(claim, Outcome.WITNESSED))
    assert await world.state() is AgentState.LIVE
    assert await world.store.still_gone(claim) is Standing.RETURNED
    await world.wait(TTL - 10)
    assert await world.state() is AgentState.LIVE
    await world.wait(TIMER)
    assert await world.state() is AgentState.GRACE
    await world.wait(0.5)
    again = await world.claimed()
    assert again.intent is None
    assert again.lag_s <= 0.5
    assert again.epoch == claim.epoch + 1


async def test_activity_while_the_clock_stood_is_newer_than_the_bye_before(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(3)
    await world.restart(gap=300.0)
    await world.wait(30 + TIMER)  # the clock stands for 30 s more
    claim = await world.claimed()
    assert not await world.store.witness(claim, 300 + 30 + TIMER + 1.5, TTL, action_of(claim, Outcome.WITNESSED))
    assert await world.store.witness(claim, 200.0, TTL, action_of(claim, Outcome.WITNESSED))
    await world.wait(TTL - TIMER - 0.25)
    assert await world.state() is AgentState.LIVE
    await world.wait(0.5)
    assert await world.state() is AgentState.GRACE


async def test_activity_so_old_that_the_timer_is_over_is_worth_nothing(world: World) -> None:
    claim = await silent(world)
    assert not await world.store.witness(claim, TTL + TIMER + 0.1, TTL, action_of(claim, Outcome.WITNESSED))
    assert await world.store.still_gone(claim) is Standing.GONE
    assert (await world.store.actions()).actions == ()


async def test_the_same_activity_counts_once(world: World) -> None:
    claim = await silent(world)
    assert await world.store.witness(claim, 10.0, TTL, action_of(claim, Outcome.WITNESSED))
    await world.wait(TTL - 10 + TIMER + 0.5)
    claim = await world.claimed()
    # a second more or less: dates are not finer
    age_s = TTL + TIMER + 0.5 - 0.999
    assert not await world.store.witness(claim, age_s, TTL, action_of(claim, Outcome.WITNESSED))


async def test_activity_before_the_bye_is_worth_nothing(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    assert not await world.store.witness(claim, TIMER + 10, TTL, action_of(claim, Outcome.WITNESSED))
    assert await world.store.witness(claim, 2.0, TTL, action_of(claim, Outcome.WITNESSED))


async def test_a_bye_ends_what_was_witnessed_before_it(world: World) -> None:
    claim = await silent(world)
    assert await world.store.witness(claim, 1.0, TTL, action_of(claim, Outcome.WITNESSED))
    await world.beat(number=2)
    await world.wait(1)
    await world.bye(number=2)
    await world.wait(TIMER + 0.5)
    assert await world.due() == [ANNA]


async def test_what_was_witnessed_survives_a_crash_and_is_in_the_history(world: World) -> None:
    claim = await silent(world)
    action = action_of(claim, Outcome.WITNESSED)
    assert await world.store.witness(claim, 10.0, TTL, action)
    await world.restart()
    assert (await world.store.actions()).actions == (action,)
    tick = await world.tick()
    assert (tick.due, tick.orphans) == ((), ())
    await world.wait(TTL - 11)
    assert await world.state() is AgentState.LIVE
    # the grace of the restart, and a beat and the timer
    await world.wait(30 + TIMER + 2)
    (due,) = (await world.tick()).due
    assert due.epoch == claim.epoch + 1


async def test_a_left_intent_ends_with_the_activity_that_was_witnessed(world: World) -> None:
    claim = await silent(world)
    assert await world.store.intend(claim, intent())
    await world.store.release(claim, 0.0)
    claim = await world.claimed()
    assert claim.intent == intent()
    assert await world.store.witness(claim, 1.0, TTL, action_of(claim, Outcome.WITNESSED))
    await world.beat()
    assert (await world.tick()).orphans == ()
    await world.restart()
    assert (await world.tick()).orphans == ()
    await world.bye()
    await world.wait(30 + TIMER + 2)
    assert (await world.claimed()).intent is None


async def test_an_agent_who_has_returned_is_not_witnessed(world: World) -> None:
    claim = await silent(world)
    await world.beat(number=2)
    await world.wait(10)
    assert not await world.store.witness(claim, 1.0, TTL, action_of(claim, Outcome.WITNESSED))
    assert await world.store.settle(claim, action_of(claim, Outcome.RETURNED)) is False
    assert not await world.store.witness(claim, 1.0, TTL, action_of(claim, Outcome.WITNESSED))
    assert len((await world.store.actions()).actions) == 1


async def test_a_heartbeat_after_witnessed_activity_is_as_any_other(world: World) -> None:
    claim = await silent(world)
    assert await world.store.witness(claim, 1.0, TTL, action_of(claim, Outcome.WITNESSED))
    await world.beat(number=2)
    await world.wait(TTL + TIMER)
    assert await world.due() == []
    await world.wait(0.5)
    assert await world.due() == [ANNA]
    view = await world.store.agent(ANNA)
    assert view is not None
    assert view.last_outcome is Outcome.WITNESSED


# Agents whom nobody has seen.


def unseen_of(agent: AgentId = ANNA, at: float = START) -> Action:
    return Action(
        id=f"{int(at * 1000)}-{agent.user_id}",
        at=Epoch(at),
        agent=agent,
        intent=IntentKind.RECONCILE,
        target="Offline",
        outcome=Outcome.UNSEEN,
        reason="Available in Connect, and no heartbeat has been heard.",
        evidence={},
        calls=0,
        latency_s=0.0,
    )


async def test_to_tell_of_an_unseen_agent_adds_to_the_history_and_nothing_else(world: World) -> None:
    assert await world.store.unseen(unseen_of(), None)
    assert (await world.store.actions()).actions == (unseen_of(),)
    assert await world.store.agent(ANNA) is None


async def test_an_unseen_agent_is_due_as_if_heard_at_that_moment(world: World) -> None:
    await world.wait(1)
    assert await world.store.unseen(unseen_of(), TTL)
    assert await world.state() is AgentState.LIVE
    assert not await world.store.unseen(unseen_of(at=START + 1), TTL)
    await world.wait(TTL + TIMER)
    assert await world.due() == []
    await world.wait(0.5)
    claim = await world.claimed()
    assert await world.store.settle(claim, action_of(claim, at=START + 2))
    assert await world.state() is AgentState.AWAY
    assert len((await world.store.actions()).actions) == 2


async def test_an_unseen_agent_survives_a_crash(world: World) -> None:
    await world.wait(1)
    assert await world.store.unseen(unseen_of(), TTL)
    await world.restart()
    assert await world.state() is AgentState.LIVE
    await world.wait(30 + TTL + TIMER + 2)
    assert await world.due() == [ANNA]


async def test_a_settled_agent_can_be_unseen_again(world: World) -> None:
    await gone(world)
    assert not await world.store.unseen(unseen_of(), TTL)
    claim = await world.claimed()
    assert not await world.store.unseen(unseen_of(), TTL)
    await world.store.settle(claim, action_of(claim, at=START + 2))
    assert await world.store.unseen(unseen_of(at=START + 3), TTL)
    await world.wait(TTL + TIMER + 0.5)
    assert (await world.claimed()).epoch == claim.epoch + 1


async def test_the_history_comes_newest_first_in_pages_and_by_filter(world: World) -> None:
    for number in range(5):
        await gone(world, number + 1)
        claim = await world.claimed()
        outcome = Outcome.CONFIRMED if number % 2 else Outcome.ALREADY
        await world.store.settle(claim, action_of(claim, outcome, at=1_700_000_000.0 + number))
    page = await world.store.actions(limit=3)
    assert [action.at - 1_700_000_000 for action in page.actions] == [4, 3, 2]
    page = await world.store.actions(limit=3, cursor=page.cursor)
    assert [action.at - 1_700_000_000 for action in page.actions] == [1, 0]
    assert page.cursor is None
    assert len((await world.store.actions(outcome=Outcome.CONFIRMED)).actions) == 2
    assert len((await world.store.actions(since=Epoch(1_700_000_003.0))).actions) == 2
    assert (await world.store.actions(agent=BERT)).actions == ()


async def test_agents_of_an_instance_that_is_not_served_are_nobodys_to_act_on(serving_one: World) -> None:
    world = serving_one
    former = AgentId("former", "anna")
    await world.beat(former, 1)
    await world.bye(former, 1)
    await gone(world, 2)
    tick = await world.store.tick("me", world.instant, limit=1)
    assert [due.agent for due in tick.due] == [ANNA]
    assert (tick.backlog, tick.foreign) == (1, {"former"})
    view = await world.store.agent(former)
    assert view is not None
    assert view.state is AgentState.DUE


async def test_an_action_comes_back_as_it_was(world: World) -> None:
    await gone(world)
    claim = await world.claimed()
    await world.store.settle(claim, action_of(claim))
    assert (await world.store.actions()).actions == (action_of(claim),)


async def test_pruning_forgets_old_actions_only(world: World) -> None:
    for number in range(2):
        await gone(world, number + 1)
        claim = await world.claimed()
        await world.store.settle(claim, action_of(claim, at=1_700_000_000.0 + number))
    assert await world.store.prune(Epoch(1_700_000_001.0)) == 1
    assert [action.at for action in (await world.store.actions()).actions] == [1_700_000_001.0]
