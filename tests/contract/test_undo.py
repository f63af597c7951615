"""What a store remembers of a change, when it says that it was a mistake, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.conftest import story
from tests.contract.world import ANNA, BERT, INSTANCE, RULES, START, TIMER, TTL, action_of, intent
from watchdog.core.model import Action, AgentId, AgentState, Epoch, IntentKind, Outcome
from watchdog.core.undo import Back, Why, Written, age_s, evidence

WRITTEN = Written(2.0)


async def set_away(world, agent=ANNA, outcome=Outcome.CONFIRMED, written=WRITTEN, *, former="available", bye=False):
    """An agent is heard, falls silent, and is set."""
    number = 1 + agent.user_id.count("b")
    await world.beat(agent, number)
    if bye:
        await world.bye(agent, number)
    await world.wait((0 if bye else TTL) + TIMER + 1)
    claim = await world.claimed(agent)
    assert await world.store.intend(claim, intent(former))
    action = replace(action_of(claim, outcome), at=world.instant.epoch)
    assert await world.store.settle(claim, action, written)
    return claim


async def undos(world):
    return list((await world.tick()).undos)


def outcome_of(change, outcome=Outcome.CONFIRMED):
    return Action(
        f"u-{change.token}", Epoch(START), change.agent, IntentKind.RESTORE, "Available", outcome, "", {}, 2, 1.0
    )


# What is a mistake.


async def test_a_session_whose_timer_ran_shows_a_mistake_once(world):
    claim = await set_away(world)
    await world.wait(60)
    assert await undos(world) == []
    await world.beat(gap_ms=TTL * 1000 - 1)
    (change,) = await undos(world)
    assert (change.agent, change.token, change.target, change.former) == (ANNA, claim.token, "offline", "available")
    assert change.outcome is Outcome.CONFIRMED
    assert change.action_id
    assert change.back_at == world.instant.epoch
    assert (change.undo.why, change.undo.gap_ms, change.undo.sent_at) == (Why.GAP, TTL * 1000 - 1, None)
    assert 95 <= change.undo.silence_s <= 103
    await world.beat(gap_ms=0)
    assert await undos(world) == [change]


@pytest.mark.parametrize("gap_ms", [None, TTL * 1000])
async def test_a_session_whose_timer_stood_or_does_not_say_shows_nothing_then_or_later(world, gap_ms):
    await set_away(world)
    await world.beat(gap_ms=gap_ms)
    await world.beat(gap_ms=0)
    assert await undos(world) == []


async def test_a_session_that_is_new_or_said_bye_shows_nothing(world):
    await set_away(world)
    await world.beat(number=7, gap_ms=0)
    await set_away(world, BERT, bye=True)
    await world.beat(BERT, number=2, incarnation=1, gap_ms=0)
    assert await undos(world) == []


async def test_the_window_is_over_after_its_time(world):
    await set_away(world)
    await set_away(world, BERT)
    await world.wait(RULES.return_window_s - TTL - TIMER - 4)
    await world.beat(BERT, 2, gap_ms=0)
    assert [change.agent for change in await undos(world)] == [BERT]
    await world.wait(TTL + TIMER)
    await world.beat(gap_ms=0)
    assert [change.agent for change in await undos(world)] == [BERT]


async def test_a_long_time_without_a_process_counts_for_the_window(world):
    await set_away(world)
    await world.restart(gap=RULES.return_window_s)
    await world.beat(gap_ms=0)
    assert await undos(world) == []


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_wall_clock_that_is_set_loses_no_mistake(world, hours):
    await set_away(world)
    world.wall += hours * 3_600.0
    await world.wait(60)
    await world.beat(gap_ms=0)
    assert [change.undo.why for change in await undos(world)] == [Why.GAP]


@pytest.mark.parametrize("hours", [-1, 1])
async def test_nor_does_one_that_is_set_while_no_process_is_there(world, hours):
    await set_away(world)
    world.wall += hours * 3_600.0
    await world.restart(gap=60)
    await world.beat(gap_ms=0)
    assert [change.undo.why for change in await undos(world)] == [Why.GAP]


@pytest.mark.parametrize(("hours", "gap", "found"), [(-1, 60, True), (0, 60, True), (0, 900, False), (1, 60, False)])
async def test_after_another_boot_the_wall_clock_tells_how_long_it_took(world, hours, gap, found):
    await set_away(world)
    world.wall += hours * 3_600.0
    world.boot_id = "boot-2"
    await world.restart(gap=gap)
    await world.beat(gap_ms=0)
    assert bool(await undos(world)) is found


async def test_a_change_with_a_date_in_the_future_counts_from_the_load(world):
    await set_away(world)
    world.wall -= 3_600.0
    world.boot_id = "boot-2"
    await world.restart(gap=60)
    await world.wait(RULES.return_window_s)
    await world.beat(gap_ms=0)
    assert await undos(world) == []


@pytest.mark.parametrize(("gap", "found"), [(400, True), (500, False)])
async def test_time_without_a_process_is_summed_up(world, gap, found):
    await set_away(world)
    await world.restart(gap=gap)
    await world.wait(10)
    await world.restart(gap=gap)
    await world.beat(gap_ms=0)
    assert bool(await undos(world)) is found


@pytest.mark.parametrize(("gaps", "found"), [((400.0, 440.0), True), ((400.0, 480.0), False)])
@pytest.mark.parametrize("ticked", [True, False], ids=["after the tick", "before the tick"])
async def test_a_pause_counts_for_the_window(world, gaps, found, ticked):
    await set_away(world)
    for gap in gaps:
        await world.wait(10)
        world.now += gap
        if ticked:
            await world.tick()
    await world.beat(gap_ms=0)
    assert bool(await undos(world)) is found


async def test_a_pause_is_remembered_by_the_next_process(world):
    await set_away(world)
    world.now += 600.0
    await world.tick()
    await world.restart(gap=300)
    await world.beat(gap_ms=0)
    assert await undos(world) == []


async def test_an_order_for_what_is_long_past_knows_how_long(world):
    await set_away(world)
    await world.wait(RULES.return_window_s + 60)
    await world.restart(gap=5_000)
    await world.store.restore(Epoch(START), None, silent=True, instant=world.instant)
    (change,) = await undos(world)
    assert age_s(change, world.last.clock.running) == pytest.approx(RULES.return_window_s + 5_062, abs=1)


async def test_a_beat_that_comes_after_the_bye_of_a_forgotten_session_shows_nothing(world):
    await set_away(world)
    await world.wait(700)
    await world.bye()
    await world.beat(gap_ms=0)
    assert await undos(world) == []


async def test_a_return_while_the_wall_clock_is_ahead_is_no_mistake_after_it_is_set_right(world):
    await set_away(world)
    world.wall += 3_600.0
    await world.wait(60)
    await world.beat(number=7)
    world.wall -= 3_600.0
    await world.restart()
    assert await undos(world) == []


async def test_a_return_before_the_outcome_is_a_mistake_at_once(world):
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 1)
    claim = await world.claimed()
    await world.store.intend(claim, intent())
    await world.beat(number=7)
    assert not await world.store.settle(claim, action_of(claim, Outcome.RETURNED), WRITTEN)
    (change,) = await undos(world)
    assert change.undo.why is Why.CROSSED


async def test_what_was_not_written_is_no_change(world):
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 1)
    claim = await world.claimed()
    await world.store.intend(claim, intent())
    await world.beat(number=7)
    await world.store.settle(claim, action_of(claim, Outcome.RETURNED))
    assert await undos(world) == []
    assert await world.store.restore(Epoch(0), None, silent=True, instant=world.instant) == (0, 0, 0)


@pytest.mark.parametrize(("s_ago", "suspect"), [(44.0, True), (46.0, False)])
async def test_after_a_write_without_an_answer_any_early_return_is_suspect(world, s_ago, suspect):
    await set_away(world, written=Written(2.0, s_ago), bye=True)
    await world.beat(number=7)
    assert [change.undo.why for change in await undos(world)] == [Why.UNANSWERED] * suspect


async def test_an_intent_that_a_process_left_behind_is_suspect_when_the_agent_is_back(world):
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 1)
    await world.store.intend(await world.claimed(), intent())
    await world.restart()
    await world.beat(number=7)
    tick = await world.tick()
    (orphan,) = tick.orphans
    assert tick.undos == ()
    await world.store.settle(orphan, action_of(orphan, Outcome.RETURNED), Written(3.0, 3.0))
    (change,) = await undos(world)
    assert (change.undo.why, change.former) == (Why.UNANSWERED, "available")


async def test_a_next_status_is_suspect_when_the_agent_is_back(world):
    await set_away(world, outcome=Outcome.NEXT_STATUS, bye=True)
    await world.beat(number=7)
    assert [change.undo.why for change in await undos(world)] == [Why.NEXT]


async def test_a_change_that_only_repeats_one_keeps_what_that_replaced(world):
    await set_away(world)
    await world.beat(number=7)
    await world.bye(number=7)
    await world.wait(TIMER + 1)
    claim = await world.claimed()
    await world.store.intend(claim, intent(None))
    await world.store.settle(claim, action_of(claim, Outcome.ALREADY), WRITTEN)
    await world.beat(gap_ms=0)
    (change,) = await undos(world)
    assert change.former == "available"


async def test_nothing_is_told_while_a_claim_has_no_outcome(world):
    await set_away(world)
    await world.beat(number=7)
    await world.bye(number=7)
    await world.wait(TIMER + 1)
    claim = await world.claimed()
    await world.beat(gap_ms=0)
    assert await undos(world) == []
    await world.store.settle(claim, action_of(claim, Outcome.RETURNED))
    (change,) = await undos(world)
    assert change.undo.why is Why.GAP


# Around a trip.


async def tripped(braked, lead=20.0):
    """Anna falls silent and is set; then all others fall silent, and the brake trips."""
    others = [AgentId(INSTANCE, f"b{number}") for number in range(20)]

    async def beats(seconds):
        for _ in range(int(seconds)):
            for number, agent in enumerate(others):
                await braked.beat(agent, 100 + number)
            await braked.wait(1)

    await beats(30)
    await braked.beat()
    await beats(TTL + TIMER + 1)
    claim = await braked.claimed()
    await braked.store.intend(claim, intent())
    await braked.store.settle(claim, replace(action_of(claim), at=braked.instant.epoch), WRITTEN)
    await beats(lead)
    await braked.wait(25)
    assert braked.last.brake.held == 20


async def test_a_change_shortly_before_a_trip_is_a_mistake_if_the_page_did_not_sleep(braked):
    await tripped(braked)
    await braked.beat()
    (change,) = await undos(braked)
    assert (change.agent, change.undo.why) == (ANNA, Why.TRIP)


async def test_a_write_under_way_when_the_brake_trips_belongs_to_the_trip(braked):
    others = [AgentId(INSTANCE, f"b{number}") for number in range(20)]
    await braked.beat()
    await braked.wait(TTL - 10)
    for number, agent in enumerate(others):
        await braked.beat(agent, 100 + number)
    await braked.wait(10 + TIMER + 0.5)
    claim = await braked.claimed()
    assert await braked.store.intend(claim, intent())
    assert braked.last.brake.held == 0
    await braked.wait(8)
    assert braked.last.brake.held >= 20
    await braked.store.settle(claim, replace(action_of(claim), at=braked.instant.epoch), WRITTEN)
    await braked.beat()
    assert [change.undo.why for change in await undos(braked)] == [Why.TRIP]


async def test_a_page_that_slept_through_a_trip_is_none(braked):
    await tripped(braked)
    await braked.beat(gap_ms=TTL * 1000)
    assert await undos(braked) == []


async def test_a_change_long_before_a_trip_is_none(braked):
    await tripped(braked, lead=60.0)
    await braked.beat()
    assert await undos(braked) == []


async def test_a_trip_is_remembered_by_the_next_process(braked):
    await tripped(braked)
    await braked.restart()
    await braked.beat()
    assert [change.undo.why for change in await undos(braked)] == [Why.TRIP]


# An order.


async def order(world, since=0.0, *, silent=False, instance_id=None):
    return await world.store.restore(Epoch(since), instance_id, silent=silent, instant=world.instant)


async def test_an_order_tells_who_is_there_and_waits_for_the_others(world):
    await set_away(world)
    await set_away(world, BERT)
    await world.beat(number=7)
    for _ in range(2):
        assert await order(world) == (1, 1, 0)
        assert [(change.agent, change.undo.why) for change in await undos(world)] == [(ANNA, Why.ORDER)]
    await world.restart()
    await world.beat(BERT, number=8)
    assert {(change.agent, change.undo.why) for change in await undos(world)} == {(ANNA, Why.ORDER), (BERT, Why.ORDER)}


async def test_an_order_tells_who_gave_it_for_those_who_are_there_and_those_who_come(world):
    await set_away(world)
    await set_away(world, BERT)
    await world.beat(number=7)
    await world.store.restore(Epoch(0.0), None, silent=False, instant=world.instant, by="jwt:ops")
    await world.beat(BERT, number=8)
    assert {(change.agent, evidence(change)["by"]) for change in await undos(world)} == {
        (ANNA, "jwt:ops"),
        (BERT, "jwt:ops"),
    }
    await world.restart()
    assert {change.undo.by for change in await undos(world)} == {"jwt:ops"}


async def test_an_order_tells_who_gave_it_to_the_process_after_the_next_too(world):
    await set_away(world)
    await world.store.restore(Epoch(0.0), None, silent=False, instant=world.instant, by="jwt:ops")
    await world.restart()
    await world.tick()
    await world.restart()
    await world.beat(number=7)
    assert [evidence(change)["by"] for change in await undos(world)] == ["jwt:ops"]


async def test_what_nobody_ordered_tells_of_nobody(world):
    await set_away(world)
    await world.beat(gap_ms=0)
    assert [change.undo.by for change in await undos(world)] == [None]


async def test_an_order_waits_for_the_return_window_at_most(world):
    await set_away(world)
    await order(world)
    await world.wait(RULES.return_window_s + 1)
    await world.beat(number=7)
    assert await undos(world) == []


async def test_an_order_does_not_wait_for_who_said_bye(world):
    await set_away(world, bye=True)
    assert await order(world) == (0, 0, 1)
    await world.beat(number=7)
    assert await undos(world) == []
    assert await order(world) == (1, 0, 0)


async def test_an_order_finds_only_what_is_meant(world):
    await set_away(world)
    at = world.instant.epoch
    await world.wait(2 * RULES.return_window_s)
    await world.beat(number=7)
    assert await order(world, at) == (0, 0, 0)
    assert await order(world, at - 3, instance_id="another") == (0, 0, 0)
    assert await order(world, at - 3, instance_id=INSTANCE) == (1, 0, 0)
    (change,) = await undos(world)
    assert change.back_at is not None
    assert not change.undo.silent


async def test_nothing_is_restored_to_what_was_not_seen(world):
    await set_away(world, former=None, outcome=Outcome.ALREADY)
    assert await order(world, silent=True) == (0, 0, 1)


async def test_a_silent_order_is_for_everybody(world):
    await set_away(world)
    await order(world)
    assert await order(world, silent=True) == (1, 0, 0)
    (change,) = await undos(world)
    assert change.undo.silent
    assert await world.store.still_back(change) is Back.HERE


# Carrying it out.


async def test_still_back_tells_what_has_become_of_it(world):
    await set_away(world)
    await world.beat(gap_ms=0)
    (change,) = await undos(world)
    assert await world.store.still_back(change) is Back.HERE
    assert await world.store.still_back(replace(change, token=change.token + 1)) is Back.VOID
    await world.bye()
    assert await world.store.still_back(change) is Back.GONE
    assert await world.store.restoring(change, Epoch(START), TTL) is Back.GONE
    await world.wait(TIMER + 1)
    claim = await world.claimed()
    assert await world.store.still_back(change) is Back.BUSY
    await world.store.release(claim, 0)
    assert await world.store.restored(change, outcome_of(change, Outcome.SKIPPED_STATE), forget=True)
    assert await world.store.still_back(change) is Back.VOID
    assert not await world.store.restored(change, outcome_of(change), forget=True)
    assert [action.outcome for action in (await world.store.actions()).actions] == [
        Outcome.SKIPPED_STATE,
        Outcome.CONFIRMED,
    ]


async def test_nobody_gets_a_claim_while_a_restore_may_be_under_way(world):
    await set_away(world)
    await world.beat(gap_ms=0)
    (change,) = await undos(world)
    assert await world.store.restoring(change, Epoch(START), TTL) is Back.HERE
    await world.bye()
    tick = await world.wait(TIMER + 1)
    assert await world.state() is AgentState.DUE
    assert tick.due == ()
    await world.restart()
    await world.wait(40)
    (change,) = await undos(world)
    assert change.undo.sent_at == START
    assert await world.due() == []
    assert await world.store.restored(change, outcome_of(change), forget=True)
    assert await world.due() == [ANNA]


async def test_an_outcome_ends_it_for_every_process(world):
    await set_away(world)
    await world.beat(gap_ms=0)
    (change,) = await undos(world)
    await world.store.restoring(change, Epoch(START), TTL)
    assert await world.store.restored(change, outcome_of(change), forget=True)
    await world.restart()
    await world.beat(gap_ms=0)
    assert await undos(world) == []
    assert await order(world) == (0, 0, 0)


async def test_what_was_found_survives_the_process(world):
    await set_away(world)
    await world.beat(gap_ms=0)
    await world.restart()
    assert [change.undo.why for change in await undos(world)] == [Why.GAP]


async def test_who_is_not_heard_has_a_lease_from_the_restore_on(world):
    await set_away(world)
    await order(world, silent=True)
    (change,) = await undos(world)
    await world.wait(300)
    assert await world.store.restoring(change, Epoch(START), TTL) is Back.HERE
    assert await world.state() is AgentState.LIVE
    assert await world.store.restored(change, outcome_of(change), forget=True)
    await world.restart()
    await world.wait(10 + TTL + TIMER - 1)
    assert await world.due() == []
    await world.wait(1.5)
    assert await world.due() == [ANNA]


async def test_what_was_not_undone_can_be_ordered_and_shows_again_after_another_silence(world):
    await set_away(world)
    await world.beat(gap_ms=0)
    (change,) = await undos(world)
    await world.wait(TTL + 1)
    assert await world.store.restored(change, outcome_of(change, Outcome.SKIPPED_STATE), forget=False)
    assert await undos(world) == []
    await world.beat(gap_ms=0)
    (change,) = await undos(world)
    assert await world.store.restored(change, outcome_of(change, Outcome.FAILED), forget=False)
    await world.beat(gap_ms=0)
    assert await undos(world) == []
    assert await order(world) == (1, 0, 0)


async def test_pruning_keeps_what_is_to_be_undone(world):
    await set_away(world)
    await order(world, silent=True)
    await world.wait(700)
    await world.store.prune(Epoch(world.instant.epoch + 1))
    await world.restart()
    assert len(await undos(world)) == 1


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_a_return_in_the_very_moment_of_the_outcome_is_found_by_the_next_process(tmp_path, kind):
    """The beat is applied while the outcome is being written, and the process dies before it can tell."""
    async with story(kind, tmp_path, RULES) as world:
        await world.beat()
        await world.bye()
        await world.wait(TIMER + 1)
        claim = await world.claimed()
        await world.store.intend(claim, intent())
        file = world.store._journal
        write = file.write

        async def crossed(batch, clock):
            await write(batch, clock)
            if any("INTO actions" in sql for sql, _ in batch.statements):
                file.write = write
                await world.beat(number=7)
                raise KeyboardInterrupt

        file.write = crossed
        with pytest.raises(KeyboardInterrupt):
            await world.store.settle(claim, replace(action_of(claim), at=world.instant.epoch), WRITTEN)
        await world.restart()
        assert [change.undo.why for change in await undos(world)] == [Why.CROSSED]
