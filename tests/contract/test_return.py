"""Who counts as having returned with a new page, and what the replies tell of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.conftest import story
from tests.contract.test_undo import WRITTEN, outcome_of, set_away, undos
from tests.contract.world import ANNA, RULES, TIMER, TTL, action_of, intent, session
from watchdog.core.model import AgentId, Beat, BeatType, Epoch, FollowUp, Next, Observed, Outcome, Verdict
from watchdog.core.notices import NOTICE_S
from watchdog.core.undo import Back, Why

NEW = 9


async def loads(world, number=NEW, *, arrived=True, **fields):
    return await world.beat(number=number, kind=BeatType.HELLO, arrived=arrived, **fields)


async def why(world):
    return [change.undo.why for change in await undos(world)]


@pytest.mark.parametrize("outcome", [Outcome.CONFIRMED, Outcome.NEXT_STATUS])
async def test_a_new_page_that_has_signed_in_is_a_return(world, outcome):
    await set_away(world, outcome=outcome, bye=True)
    await loads(world, arrived=False)
    expected = [Why.NEXT] if outcome is Outcome.NEXT_STATUS else []
    assert await why(world) == expected
    for change in await undos(world):  # looked at, and found applied
        assert await world.store.restored(change, outcome_of(change, Outcome.SKIPPED_STATE), forget=False)
    await world.beat(number=NEW, arrived=True)
    assert await why(world) == [Why.RETURN]


@pytest.mark.parametrize("outcome", [Outcome.ALREADY, Outcome.FAILED, Outcome.RETURNED])
async def test_only_a_status_that_the_watchdog_is_known_to_have_set_counts(world, outcome):
    await set_away(world, outcome=outcome, bye=True)
    await loads(world)
    assert await why(world) == []


@pytest.mark.parametrize("restarts", [False, True])
async def test_the_page_may_sign_in_later_and_after_a_restart(world, restarts):
    await set_away(world, bye=True)
    await loads(world, arrived=False)
    if restarts:
        await world.restart()
    await world.beat(number=NEW, arrived=True)
    assert await why(world) == [Why.RETURN]


@pytest.mark.parametrize(
    "page",
    [
        {"number": 1, "kind": BeatType.HELLO, "incarnation": 0},
        {"number": 1, "kind": BeatType.HELLO, "incarnation": 1},
        {"number": NEW, "kind": BeatType.HELLO, "incarnation": 1},
        {"number": NEW, "kind": BeatType.BEAT, "incarnation": 0},
    ],
)
@pytest.mark.parametrize("bye", [False, True])
async def test_a_page_that_wakes_up_is_none(world, page, bye):
    await set_away(world, bye=bye)
    for _ in range(3):
        await world.beat(**page, arrived=True)
        page = {**page, "kind": BeatType.BEAT}
    assert await why(world) == []


async def test_nor_is_an_old_page_whose_session_was_forgotten(world):
    await set_away(world)
    await world.wait(600)
    await loads(world, number=1)
    await world.beat(number=1, arrived=True)
    assert await why(world) == []


@pytest.mark.parametrize("restarts", [False, True])
async def test_nor_is_a_page_that_was_new_before_the_last_change(world, restarts):
    await loads(world)
    await set_away(world)
    if restarts:
        await world.restart()
    await world.beat(number=NEW, arrived=True)
    await world.beat(number=NEW, arrived=True)
    assert await why(world) == []


async def test_after_the_window_there_is_no_return(world):
    await set_away(world, bye=True)
    await world.wait(RULES.return_window_s - TIMER - 2)
    await world.wait(TIMER + 4)
    await loads(world)
    assert await why(world) == []


async def test_where_no_rule_has_an_initial_state_there_is_none(tmp_path):
    async with story("sqlite", tmp_path, replace(RULES, greets=False)) as world:
        await set_away(world, bye=True)
        await loads(world)
        assert await why(world) == []


async def test_a_mistake_outweighs_a_return_until_something_is_sent(world):
    await set_away(world)
    await loads(world)
    (change,) = await undos(world)
    await world.beat(gap_ms=0)
    assert await why(world) == [Why.GAP]
    assert await world.store.still_back(change) is Back.VOID
    assert not await world.store.restored(change, outcome_of(change), forget=True)


async def test_nothing_outweighs_a_return_that_is_being_written(world):
    await set_away(world)
    await loads(world)
    (change,) = await undos(world)
    assert await world.store.restoring(change, Epoch(1.0), TTL) is Back.HERE
    await world.beat(gap_ms=0)
    assert await why(world) == [Why.RETURN]


async def test_an_order_outweighs_a_return(world):
    await set_away(world, bye=True)
    await loads(world)
    assert await world.store.restore(Epoch(0.0), None, silent=False, instant=world.instant) == (1, 0, 0)
    assert await why(world) == [Why.ORDER]


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_came_of_a_return_is_not_asked_again_by_each_beat(world, restarts):
    await set_away(world, bye=True)
    await loads(world)
    (change,) = await undos(world)
    assert await world.store.restored(change, outcome_of(change, Outcome.SKIPPED_STATE), forget=False)
    if restarts:
        await world.restart()
    await world.beat(number=NEW, arrived=True)
    assert await why(world) == []


async def test_but_by_the_next_new_page_if_the_agent_had_left_again(world):
    await set_away(world, bye=True)
    await loads(world)
    (change,) = await undos(world)
    await world.bye(number=NEW)
    assert await world.store.restored(change, outcome_of(change, Outcome.SKIPPED_STATE), forget=False)
    await loads(world, NEW + 1)
    assert await why(world) == [Why.RETURN]


async def test_and_by_one_after_an_order_that_found_the_agent_gone(world):
    await set_away(world, bye=True)
    await loads(world)
    (change,) = await undos(world)
    assert await world.store.restored(change, outcome_of(change, Outcome.SKIPPED_STATE), forget=False)
    await world.store.restore(Epoch(0.0), None, silent=False, instant=world.instant)
    (change,) = await undos(world)
    await world.bye(number=NEW)
    action = replace(outcome_of(change, Outcome.SKIPPED_STATE), id="u-2")
    assert await world.store.restored(change, action, forget=False)
    await loads(world, NEW + 1)
    assert await why(world) == [Why.RETURN]


# Stages.


async def test_a_second_status_in_the_same_silence_goes_back_to_before_the_first(tmp_path):
    async with story("sqlite", tmp_path, RULES) as world:
        await world.beat()
        await world.wait(TTL + TIMER + 1)
        first = await world.claimed()
        assert await world.store.intend(first, replace(intent("lunch"), target="away"))
        follow_up = FollowUp(Next.STAGE, Observed(world.last.clock.observed + 1), "two", 1, "away")
        assert await world.store.settle(first, action_of(first), WRITTEN, follow_up)
        await world.wait(2)
        second = await world.claimed()
        assert await world.store.intend(second, intent("away"))
        assert await world.store.settle(second, action_of(second), WRITTEN)
        await world.beat(gap_ms=0)
        (change,) = await undos(world)
        assert (change.target, change.former, change.undo.why) == ("offline", "lunch", Why.GAP)


async def test_a_status_in_another_silence_goes_back_to_the_one_before_it(world):
    await set_away(world, former="lunch")
    await world.beat()
    await world.wait(TTL + TIMER + 1)
    claim = await world.claimed()
    assert await world.store.intend(claim, replace(intent("offline"), target="away"))
    assert await world.store.settle(claim, action_of(claim), WRITTEN)
    await world.beat(gap_ms=0)
    (change,) = await undos(world)
    assert change.former == "offline"


# What replies tell.


async def test_from_the_return_on_each_reply_tells_what_was_set_for_two_minutes(world):
    await set_away(world, bye=True)
    written_at = world.instant.epoch - WRITTEN.s_ago
    await world.wait(30)
    reply = await world.beat(number=NEW)
    notice = reply.notice
    assert (notice.status, notice.why, notice.restored) == ("Offline", "All of your pages were closed.", None)
    assert notice.set_at == pytest.approx(written_at)
    for second in range(0, int(NOTICE_S), 10):
        assert (await world.beat(number=NEW + second % 20)).notice == notice
        assert world.store.plainly_live(beat_of(NEW)) is None
        await world.wait(10)
    assert (await world.beat(number=NEW)).notice is None
    assert world.store.plainly_live(beat_of(NEW)) == TTL


def beat_of(number):
    return Beat(ANNA, session(number), ttl=TTL)


async def test_the_telling_survives_restarts_before_and_in_it(world):
    await set_away(world)
    await world.restart()
    notice = (await world.beat()).notice
    assert notice.why == "Nothing was heard from any of your pages."
    await world.restart()
    assert (await world.beat()).notice == notice
    await world.wait(NOTICE_S)
    await world.restart()
    assert (await world.beat()).notice is None


async def test_a_restore_is_told_anew(world):
    await set_away(world)
    await world.beat(gap_ms=0)
    (change,) = await undos(world)
    for _ in range(12):
        await world.wait(10)
        reply = await world.beat(gap_ms=0)
    assert reply.notice is None
    assert await world.store.restored(change, outcome_of(change), forget=True)
    await world.restart()
    notice = (await world.beat()).notice
    assert (notice.status, notice.restored) == ("Offline", "Available")
    await world.wait(20)
    assert (await world.beat()).notice == notice


async def test_a_restore_of_somebody_who_has_left_is_told_on_return(world):
    await set_away(world)
    await world.beat(gap_ms=0)
    (change,) = await undos(world)
    await world.bye()
    assert await world.store.restored(change, outcome_of(change), forget=True)
    await world.wait(2 * NOTICE_S)
    assert (await world.beat(number=NEW)).notice.restored == "Available"


async def test_what_came_of_an_undo_that_restored_nothing_is_not_told(world):
    await set_away(world)
    await world.beat(gap_ms=0)
    (change,) = await undos(world)
    assert await world.store.restored(change, outcome_of(change, Outcome.SKIPPED_STATE), forget=True)
    assert (await world.beat()).notice.restored is None


@pytest.mark.parametrize("outcome", [Outcome.ALREADY, Outcome.FAILED, Outcome.RETURNED])
async def test_of_a_status_that_is_not_known_to_be_in_force_nothing_is_told(world, outcome):
    await set_away(world, outcome=outcome)
    assert (await world.beat()).notice is None


async def test_an_old_notice_is_not_told_when_nothing_was_set_this_time(world):
    await set_away(world)
    await world.beat()
    await world.wait(TTL + TIMER + NOTICE_S)
    claim = await world.claimed()
    assert await world.store.settle(claim, action_of(claim, Outcome.SKIPPED_STATE))
    assert (await world.beat()).notice is None


async def test_nobody_else_is_told(world):
    await set_away(world)
    await world.beat(number=NEW)
    reply = await world.beat(AgentId(ANNA.instance_id, "mallory"), number=NEW)
    assert (reply.verdict, reply.notice) == (Verdict.FOREIGN, None)
