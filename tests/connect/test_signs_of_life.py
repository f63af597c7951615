"""Who is spared because Connect shows a person, for how long, and whose choice is not written over."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.connect.world import START, TIMER, TTL, DirectClient, instant, world
from watchdog.core.model import BeatType
from watchdog.errors import StoreUnavailable
from watchdog.sandbox.records import ContactState, FaultKind

pytestmark = pytest.mark.looptime

SKEWS = pytest.mark.parametrize("skew", [0.0, 3600.0, -3600.0], ids=["same-clock", "connect-ahead", "connect-behind"])
LAG = 2.0
"""A tick, the read, and that `Date` has whole seconds."""


def clock():
    """Seconds since the beginning of the test."""
    return instant().epoch - START


async def at(seconds):
    await asyncio.sleep(seconds - clock())


def set_at(w, agent):
    """When the agent was written, each time."""
    return [call.at - START - w.skew for call in w.puts(agent)]


@asynccontextmanager
async def heard(tmp_path, **options):
    """An agent who was heard once, at the beginning."""
    async with world(tmp_path, **options) as w:
        (anna,) = w.centre()
        await w.start()
        await w.beat(anna)
        yield w, anna


@asynccontextmanager
async def written(tmp_path, fault=None, **options):
    """An agent who left, and was just written; what goes wrong with the first write."""
    async with world(tmp_path, **options) as w:
        (anna,) = w.centre()
        if fault is not None:
            w.fault(fault, times=1, delay_s=60)
        await w.start()
        await w.leave(anna)
        await w.until(w.puts)
        yield w, anna


@SKEWS
async def test_whoever_takes_a_call_is_spared_until_ttl_and_timer_after_it_and_set_then(tmp_path, skew):
    async with heard(tmp_path, skew=skew) as (w, anna):
        await at(20)
        w.model.add_contact(*anna, ContactState.CONNECTED)
        await at(20 + TTL + TIMER)
        assert w.puts() == []
        assert w.outcomes() == ["witnessed"]
        await at(20 + TTL + TIMER + LAG)
        (written,) = set_at(w, anna)
        assert 20 + TTL + TIMER < written < 20 + TTL + TIMER + LAG
        await asyncio.sleep(5)
        # still on the call: the status comes after it
        assert w.shown(anna) == "Available"
        assert w.model.next_status_name(*anna) == "Offline"
        assert w.outcomes() == ["witnessed", "next_status"]
        witnessed = w.actions[0]
        assert witnessed.evidence["activity"]["kind"] == "contact"
        assert witnessed.evidence["activity"]["at"] == pytest.approx(START + skew + 20, abs=0.01)
        assert witnessed.evidence["activity"]["age_s"] == pytest.approx(TTL + TIMER - 20, abs=1.0)
        assert (await w.store.actions()).actions == tuple(reversed(w.actions))


@SKEWS
async def test_a_ghost_who_clicked_once_after_the_last_beat_is_set_so_much_later_and_no_more(tmp_path, skew):
    async with world(tmp_path, skew=skew) as w:
        anna, bert = w.centre(agents=2)
        await w.start()
        await w.beat(anna, bert)
        await at(3)
        w.model.agent_sets_status(*anna, "Lunch")
        await at(200)
        (other,) = set_at(w, bert)
        (clicked,) = set_at(w, anna)
        assert other == pytest.approx(TTL + TIMER, abs=1.0)
        assert 3.0 <= clicked - other <= 3.0 + 1.5
        assert sorted(w.outcomes()) == ["confirmed", "confirmed", "witnessed"]
        assert w.shown(anna) == "Offline"


async def test_a_click_before_the_bye_spares_nobody(tmp_path):
    async with heard(tmp_path) as (w, anna):
        await at(10)
        w.model.agent_sets_status(*anna, "Lunch")
        w.model.add_contact(*anna, ContactState.CONNECTED)
        await at(10.5)
        await w.beat(anna, kind=BeatType.BYE)
        await at(10.5 + TIMER + 1)
        assert len(w.puts(anna)) == 1
        assert w.outcomes() == []
        await at(30)
        assert w.outcomes() == ["next_status"]


@pytest.mark.parametrize("state", [ContactState.INCOMING, ContactState.MISSED, ContactState.ENDED])
async def test_a_call_that_only_rings_or_was_missed_spares_nobody(tmp_path, state):
    async with heard(tmp_path) as (w, anna):
        await at(TTL)
        w.model.add_contact(*anna, state)
        await at(TTL + TIMER + 1)
        assert len(w.puts(anna)) == 1


async def test_whom_a_supervisor_sets_is_spared_from_that_moment_on_and_once(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await at(4)
        w.model.agent_sets_status(*anna, "Lunch")
        await at(4 + TTL + TIMER)
        assert w.outcomes() == ["witnessed"]
        await at(120)
        assert w.outcomes() == ["witnessed", "confirmed"]
        (written,) = set_at(w, anna)
        assert written == pytest.approx(4 + TTL + TIMER, abs=LAG)


async def test_without_the_witness_a_call_and_a_click_change_nothing(tmp_path):
    async with world(tmp_path, witness=False) as w:
        anna, bert = w.centre(agents=2)
        await w.start()
        await w.beat(anna, bert)
        await at(20)
        w.model.add_contact(*anna, ContactState.CONNECTED)
        w.model.agent_sets_status(*bert, "Lunch")
        await at(TTL + TIMER + 5)
        assert sorted(w.outcomes()) == ["confirmed", "next_status"]
        assert len(w.puts()) == 2


async def test_what_we_set_ourselves_is_no_sign_of_life(tmp_path):
    """The first write takes effect and its answer is lost; then the target is another one."""
    async with written(tmp_path, status="Lunch", fault=FaultKind.LOST_ANSWER) as (w, anna):
        assert w.shown(anna) == "Lunch"
        await w.crash()
        w.status = "Offline"
        await w.start()
        await asyncio.sleep(50)
        assert w.outcomes() == ["confirmed"]
        assert w.shown(anna) == "Offline"


class Sticky(DirectClient):
    """A Connect that keeps a next status, whatever is set."""

    async def current_user_data(self, instance_id, user_ids, *more):
        data = await super().current_user_data(instance_id, user_ids, *more)
        rows = {user: replace(seen, next_status="Training") for user, seen in data.rows.items()}
        return replace(data, rows=rows)


async def test_what_we_set_ourselves_is_no_sign_of_life_though_it_cannot_be_confirmed(tmp_path):
    async with world(tmp_path, status="Lunch") as w:
        (anna,) = w.centre()
        await w.start(connect=Sticky(w.model, w.scopes))
        await w.leave(anna)
        await asyncio.sleep(200)
        assert w.outcomes() == ["failed"]


class Hesitant:
    """A store that cannot be written for a while, but for its clock."""

    def __init__(self, inner):
        self.inner, self.refusals = inner, 6

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def intend(self, claim, intent):
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("not now")
        return await self.inner.intend(claim, intent)


async def test_a_look_that_is_some_seconds_old_makes_no_activity_newer(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start(wrap=lambda each: Hesitant(each) if hasattr(each, "tick") else each)
        await at(20)
        await w.beat(anna)
        w.model.add_contact(*anna, ContactState.CONNECTED)
        await at(20 + TTL + TIMER + 9)
        assert len(w.reads()) <= 2
        assert w.outcomes() == []
        assert len(w.puts(anna)) == 1


class Strange(DirectClient):
    """A Connect whose answers have no times, or no `Date`."""

    times = True
    date = True

    async def current_user_data(self, instance_id, user_ids, *more):
        data = await super().current_user_data(instance_id, user_ids, *more)
        rows = {
            user: seen if self.times else replace(seen, since=None, connected_at=()) for user, seen in data.rows.items()
        }
        return replace(data, rows=rows, dated=self.date)


@pytest.mark.parametrize("missing", ["times", "date"])
async def test_without_times_there_is_no_evidence_and_the_ghost_is_set(tmp_path, missing):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        client = Strange(w.model, w.scopes)
        setattr(client, missing, False)
        await w.start(connect=client)
        await w.beat(anna)
        await at(20)
        w.model.add_contact(*anna, ContactState.CONNECTED)
        w.model.agent_sets_status(*anna, "Lunch")
        await at(TTL + TIMER + 1)
        assert len(w.puts(anna)) == 1
        assert "witnessed" not in w.outcomes()


@pytest.mark.parametrize("status", ["Lunch", "Available"])
async def test_a_status_that_somebody_chose_after_our_write_is_not_written_over(tmp_path, status):
    async with written(tmp_path) as (w, anna):
        await asyncio.sleep(0.5)
        w.model.agent_sets_status(*anna, status)
        await asyncio.sleep(120)
        assert len(w.puts(anna)) == 1
        assert w.shown(anna) == status
        assert w.outcomes() == ["returned"]
        assert "Somebody else" in w.actions[0].reason


async def test_a_next_status_that_somebody_chose_after_our_write_is_not_written_over(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        w.model.add_contact(*anna, ContactState.CONNECTED)
        await w.start()
        await w.leave(anna)
        await w.until(w.puts)
        await asyncio.sleep(0.5)
        w.model.agent_sets_status(*anna, "Lunch")
        await asyncio.sleep(120)
        assert len(w.puts(anna)) == 1
        assert w.model.next_status_name(*anna) == "Lunch"
        assert w.outcomes() == ["returned"]


async def test_without_the_witness_a_write_that_does_not_show_is_repeated(tmp_path):
    async with written(tmp_path, witness=False) as (w, anna):
        w.model.agent_sets_status(*anna, "Lunch")
        await asyncio.sleep(60)
        assert len(w.puts(anna)) == 2
        assert w.outcomes() == ["confirmed"]


async def test_a_write_without_effect_is_repeated_though_the_call_is_an_old_one(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        w.fault(FaultKind.NO_EFFECT, times=1)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(60)
        assert len(w.puts(anna)) == 2
        assert w.outcomes() == ["confirmed"]


async def test_a_write_without_effect_is_not_repeated_over_somebody_who_takes_a_call(tmp_path):
    async with written(tmp_path, fault=FaultKind.NO_EFFECT) as (w, anna):
        await asyncio.sleep(20)
        called = clock()
        w.model.add_contact(*anna, ContactState.CONNECTED)
        await at(called + TTL + TIMER)
        assert len(w.puts(anna)) == 1
        assert w.outcomes() == ["witnessed"]
        await at(called + TTL + TIMER + LAG)
        assert len(w.puts(anna)) == 2


@pytest.mark.parametrize("crash", [False, True], ids=["same-process", "after-a-crash"])
async def test_a_choice_after_a_write_whose_answer_was_lost_is_not_written_over(tmp_path, crash):
    async with written(tmp_path, fault=FaultKind.LOST_ANSWER) as (w, anna):
        if crash:
            await w.crash()
        await asyncio.sleep(3)
        w.model.agent_sets_status(*anna, "Lunch")
        # long enough that the choice is too old to be a heartbeat
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData")
        await asyncio.sleep(100)
        w.model.clear_faults()
        if crash:
            await w.start()
        await asyncio.sleep(100)
        assert len(w.puts(anna)) == 1
        assert w.shown(anna) == "Lunch"
        assert w.outcomes() == ["returned"]


async def test_a_write_that_was_refused_is_none_and_a_later_choice_counts_as_a_heartbeat(tmp_path):
    async with written(tmp_path, fault=FaultKind.THROTTLE) as (w, anna):
        w.model.agent_sets_status(*anna, "Lunch")
        await asyncio.sleep(TTL + TIMER + 10)
        assert w.outcomes() == ["witnessed", "confirmed"]


async def test_a_write_that_was_not_sent_is_none_and_a_later_choice_counts_as_a_heartbeat(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.client.send_after_s = [0.3] * 5
        await w.leave(anna)
        await w.until(lambda: w.client.aborted == 5)
        w.model.agent_sets_status(*anna, "Lunch")
        await asyncio.sleep(TTL + TIMER + 10)
        assert w.outcomes() == ["witnessed", "confirmed"]


async def test_a_crash_after_sparing_keeps_it(tmp_path):
    async with heard(tmp_path) as (w, anna):
        await at(30)
        w.model.add_contact(*anna, ContactState.CONNECTED)
        await w.until(lambda: w.actions)
        await w.crash()
        await w.start()
        await at(30 + TTL + TIMER)
        assert w.puts() == []
        await at(30 + TTL + TIMER + 30 + LAG)
        assert len(w.puts(anna)) == 1
        await asyncio.sleep(5)
        # the activity was recorded once, though another process has seen it again
        assert w.outcomes() == ["witnessed", "next_status"]


async def test_whoever_beats_again_after_being_spared_is_live_as_ever(tmp_path):
    async with heard(tmp_path) as (w, anna):
        await at(20)
        w.model.add_contact(*anna, ContactState.CONNECTED)
        await w.until(lambda: w.actions)
        await w.beat(anna)
        back = clock()
        await at(back + TTL + TIMER)
        assert w.puts() == []
        await at(back + TTL + TIMER + LAG)
        assert len(w.puts()) == 1


async def test_a_dry_run_takes_evidence_too(tmp_path):
    async with heard(tmp_path, dry_run=True) as (w, anna):
        await at(20)
        w.model.add_contact(*anna, ContactState.CONNECTED)
        await at(20 + TTL + TIMER + 5)
        assert w.outcomes() == ["witnessed", "dry_run"]
