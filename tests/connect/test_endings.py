"""Stops and crashes: whatever moment the process ends at, there is exactly one effective change."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace

import pytest

from tests.connect.world import TIMER, TTL, DirectClient, Suspended, instant, world
from watchdog.core.model import BeatType
from watchdog.sandbox.records import ContactState, FaultKind

pytestmark = pytest.mark.looptime


async def test_a_drain_lets_a_write_under_way_end_and_releases_the_rest(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=12)
        await w.start()
        await w.leave(*agents)
        await w.until(lambda: len(w.puts()) == 4)
        w.sweep.cancel()
        await w.dispatcher.drain(8.0)
        assert len(w.actions) == len(w.puts()) == w.effective()
        # Whoever was not served is due again, for any process.
        due = {due.agent for due in (await w.store.tick("other", instant())).due}
        assert due == {agent for agent in agents if not w.puts(agent)}
        await w.store.close()
        await w.crash()
        await w.start()
        await asyncio.sleep(40)
        assert w.outcomes() == ["confirmed"] * 12
        assert all(len(w.puts(agent)) == 1 for agent in agents)


async def test_a_drain_while_a_backlog_is_looked_at_releases_every_claim(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre("one", agents=40)
        many = w.centre("two", agents=40)
        await w.start()
        await w.leave(*agents)
        await w.until(lambda: len(w.puts()) == 4)
        w.fault(FaultKind.TIMEOUT, "GetCurrentUserData", instance_id="two", delay_s=10.0)
        asked = len(w.reads())
        await w.leave(*many)
        await w.until(lambda: any(call.instance_id == "two" for call in w.reads()[asked:]))
        claimed, served = len(w.metrics.lags), len(w.puts())
        w.sweep.cancel()
        await w.dispatcher.drain(8.0)
        assert claimed > served == len(w.puts())
        due = {due.agent for due in (await w.store.tick("other", instant())).due}
        assert due == {agent for agent in agents + many if not w.puts(agent)}


async def test_a_drain_without_time_leaves_intents_for_the_next_process(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await w.until(w.puts)
        w.sweep.cancel()
        await w.dispatcher.drain(0.0)
        assert w.actions == []
        assert [due.agent for due in (await w.store.tick("other", instant())).due] == [anna]
        await w.store.close()
        await w.crash()
        await w.start()
        await asyncio.sleep(40)
        assert w.outcomes() == ["confirmed"]
        assert len(w.puts()) == 1


async def test_a_drained_dispatcher_takes_no_more(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.dispatcher.drain(1.0)
        await w.leave(anna)
        await asyncio.sleep(30)
        assert w.reads() == []
        assert w.metrics.lags == []


async def test_an_agent_who_returned_while_we_were_down_is_settled_as_returned(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await w.until(w.puts)
        await w.crash()
        w.listed = True
        await w.start()
        for _ in range(9):
            await w.beat(anna)
            await asyncio.sleep(10)
        action, undone = w.actions
        assert str(action.outcome) == "returned"
        assert action.target == "Offline"
        assert action.evidence["left_intent"]["target"]
        assert (str(undone.intent), undone.target, str(undone.outcome)) == ("restore", "Available", "confirmed")
        assert w.shown(anna) == "Available"


class Insistent:
    """A store that tells of an orphan in each tick until it is settled, and settles slowly."""

    def __init__(self, inner):
        self.inner, self.told = inner, ()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def tick(self, *args):
        tick = await self.inner.tick(*args)
        self.told = self.told or tick.orphans
        return replace(tick, orphans=self.told)

    async def settle(self, claim, action, written=None, follow_up=None):
        await asyncio.sleep(1)
        settled = await self.inner.settle(claim, action, written, follow_up)
        self.told = ()
        return settled


async def test_an_orphan_that_is_told_again_meanwhile_is_recorded_once(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await w.until(w.puts)
        await w.crash()
        await w.start(wrap=lambda each: Insistent(each) if hasattr(each, "tick") else each)
        await w.beat(anna)
        await asyncio.sleep(30)
        assert [str(action.outcome) for action in w.actions if action.intent == "set_status"] == ["returned"]


COUNTED = {
    *("claim", "intend", "still_gone", "settle", "take_tokens", "current_user_data", "put_user_status"),
    *("still_back", "restoring", "restored"),
}


class Brittle:
    """Around a store or a client: the process dies at the n-th await, before or after what it awaits."""

    count = 0
    at = -1
    reached: asyncio.Event

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    async def point(cls):
        cls.count += 1
        if cls.count == cls.at:
            cls.reached.set()
            await asyncio.Event().wait()

    @classmethod
    def arm(cls, at):
        """The process dies at that await of those after `count` is set to 0."""
        cls.count, cls.at, cls.reached = -1_000, at, asyncio.Event()

    @classmethod
    async def strikes(cls, within_s):
        """Whether it dies in that time; then the next process does not."""
        try:
            await asyncio.wait_for(cls.reached.wait(), within_s)
        except TimeoutError:
            return False
        cls.at = -1
        return True

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if name not in COUNTED or not inspect.iscoroutinefunction(found):
            return found

        async def call(*args, **kwargs):
            await Brittle.point()
            answer = await found(*args, **kwargs)
            await Brittle.point()
            return answer

        return call


@pytest.mark.parametrize("returns", [False, True], ids=["stays-gone", "comes-back"])
async def test_a_crash_at_any_await_leads_to_exactly_one_effective_change(tmp_path, returns):
    crashes = 0
    for at in range(1, 100):
        folder = tmp_path / str(at)
        folder.mkdir()
        Brittle.arm(at)
        async with world(folder) as w:
            (anna,) = w.centre()
            await w.start(wrap=Brittle)
            await w.leave(anna)
            await asyncio.sleep(TIMER - 0.5)
            Brittle.count = 0
            if not await Brittle.strikes(20):
                break
            crashes += 1
            await w.crash()
            before = w.effective()
            await w.start(wrap=Brittle)
            for _ in range(9):
                if returns:
                    await w.beat(anna, kind=BeatType.HELLO)
                await asyncio.sleep(10)
            if returns:
                # Whoever is back gets back what was taken, unless it was confirmed before that they were gone.
                history = [str(action.outcome) for action in (await w.store.actions()).actions][::-1]
                gone = history == ["confirmed"]
                assert w.effective() == (before if gone else 2 * before), at
                assert w.shown(anna) == ("Offline" if gone else "Available"), at
                tried = ["returned", "confirmed" if before else "skipped_state"]
                assert gone or history in ([], tried), at
            else:
                assert w.effective() == 1, at
                assert w.shown(anna) == "Offline", at
                page = await w.store.actions()
                assert [str(action.outcome) for action in page.actions] == ["confirmed"], at
    assert crashes >= 14


async def test_a_crash_during_the_back_off_after_a_lost_answer_writes_nothing_twice(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.LOST_ANSWER, times=1, delay_s=60)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert len(w.puts()) == 1
        await w.crash()
        await w.start(connect=DirectClient(w.model, w.scopes))
        await asyncio.sleep(60)
        assert len(w.puts()) == 1
        assert w.outcomes() == ["confirmed"]


async def test_a_status_that_was_chosen_for_after_the_contact_before_a_write_is_no_return(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        contact = w.model.add_contact(*anna, ContactState.CONNECTED)
        w.model.agent_sets_status(*anna, "Lunch")
        await w.start()
        w.fault(FaultKind.INTERNAL, "PutUserStatus", times=None)
        await w.leave(anna)
        await w.until(w.puts)
        await w.crash()
        w.model.clear_faults()
        w.model.end_contact(*anna, contact.id)
        assert w.shown(anna) == "Lunch"
        await w.start()
        await asyncio.sleep(TTL + TIMER + 60)
        assert w.outcomes()[-1] == "confirmed"
        assert w.effective(anna) == 1


async def test_who_was_due_before_a_restart_and_returns_in_the_grace_is_not_touched(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData", times=None)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 2)  # due, and not set, since AWS is away
        await w.crash()
        w.model.clear_faults()
        await asyncio.sleep(15)  # no process: the page that is back tries in vain
        await w.start()
        await asyncio.sleep(12)
        assert w.puts() == []
        await w.beat(anna, number=2)
        await asyncio.sleep(TTL)
        assert w.puts() == []
        assert w.model.status_name(*anna) == "Available"


async def test_who_was_due_before_a_restart_and_stays_away_is_set_after_the_grace(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData", times=None)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 2)
        await w.crash()
        w.model.clear_faults()
        await asyncio.sleep(15)
        await w.start()
        await asyncio.sleep(15 + 2)
        assert w.effective(anna) == 1


async def test_who_is_in_hand_when_the_machine_is_suspended_is_given_time_to_return(tmp_path):
    """Claimed and waiting for a token: the re-check alone would find nobody back, since nobody could be heard yet."""
    async with world(tmp_path) as w:
        agents = w.centre(agents=12)
        await w.start()
        await w.leave(*agents)
        await w.until(lambda: len(w.puts()) == 4)
        Suspended.seconds += 120.0
        await asyncio.sleep(29)
        assert len(w.puts()) == 4
        back = [agent for agent in agents if w.model.status_name(*agent) == "Available"]
        await w.beat(*back, number=2)
        await asyncio.sleep(30)
        assert len(w.puts()) == 4
        assert {w.model.status_name(*agent) for agent in back} == {"Available"}
