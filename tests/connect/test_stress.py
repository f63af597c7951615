"""The dispatcher under stress: more work than the quota allows, calls that fail or hang, and pauses."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.connect.world import TIMER, TTL, DirectClient, Suspended, instant, world
from watchdog.connect import claims
from watchdog.core.model import BeatType
from watchdog.core.quota import QuotaRules
from watchdog.errors import StoreUnavailable
from watchdog.sandbox.direct import DirectConnect
from watchdog.sandbox.records import ContactState, FaultKind
from watchdog.sandbox.world import DEFAULT_REGION

pytestmark = pytest.mark.looptime


class InHand:
    """Around a store: who is claimed, the most at a time since `most` was set to 0. Releases may be slow or fail."""

    away = False
    slow_release_s = 0.0

    def __init__(self, inner):
        self.inner, self.held, self.most = inner, set(), 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def claim(self, due, owner):
        claim = await self.inner.claim(due, owner)
        if claim is not None:
            self.held.add(claim.agent)
            self.most = max(self.most, len(self.held))
        return claim

    async def release(self, claim, delay_s):
        if self.away:
            raise StoreUnavailable("away")
        self.held.discard(claim.agent)
        await self.inner.release(claim, delay_s)
        await asyncio.sleep(self.slow_release_s)

    async def settle(self, claim, action, written=None, follow_up=None):
        self.held.discard(claim.agent)
        return await self.inner.settle(claim, action, written, follow_up)


def in_hand(each):
    return InHand(each) if hasattr(each, "claim") else each


class Patient(DirectClient):
    """Calls wait 30 s for their answers."""

    def __init__(self, model, scopes):
        super().__init__(model, scopes)
        self.clients = {
            name: DirectConnect(model, account=account, region=DEFAULT_REGION, read_timeout_s=30.0)
            for name, (account, _) in scopes.items()
        }


# The quota: order and share.


async def test_instances_take_turns_though_those_of_one_are_all_gone_for_longer(tmp_path):
    async with world(tmp_path) as w:
        many = w.centre("many", agents=40)
        few = w.centre("few", agents=8)
        await w.start()
        await w.leave(*many)
        await asyncio.sleep(4)
        await w.leave(*few)
        await w.until(lambda: any(call.instance_id == "few" for call in w.puts()))
        await asyncio.sleep(6)
        turns = [call.instance_id for call in w.puts()]
        turns = turns[turns.index("few") :]
        assert len(turns) >= 8
        assert all(one != other for one, other in pairwise(turns[:8]))


async def test_of_those_in_hand_whoever_could_get_the_next_contact_is_written_first(tmp_path):
    async with world(tmp_path) as w:
        *lunch, free = w.centre(agents=8)
        for agent in lunch:
            w.model.agent_sets_status(*agent, "Lunch")
        await w.start()
        await w.leave(*lunch)
        await w.leave(free)
        await asyncio.sleep(TIMER + 8)
        assert len(w.puts()) == 8
        assert w.puts()[0].user_id == free.user_id


async def test_a_read_that_only_helps_to_order_waits_for_whoever_is_in_hand(tmp_path):
    async with world(tmp_path, quota=QuotaRules(rate=0.5, burst=1.0, share=0.8)) as w:
        backlog = w.centre("backlog", agents=250)
        one, other = w.centre("few", agents=2)
        await w.start()
        await asyncio.sleep(5)
        await w.leave(*backlog, one)
        await asyncio.sleep(2)
        await w.leave(other)
        await asyncio.sleep(TIMER + 12)
        readers = [call.instance_id for call in w.reads()]
        # The looks and the read-back of `few` come first, then the second of the backlog's three pages.
        assert readers[:4] == ["few", "few", "few", "backlog"]


async def test_while_connect_throttles_nobody_is_claimed_who_would_not_be_served_for_long(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=60)
        await w.start(wrap=in_hand)
        w.fault(FaultKind.THROTTLE)
        await w.leave(*agents)
        await asyncio.sleep(TIMER + 60)
        w.store.most = 0
        await asyncio.sleep(60)
        # A sixteenth of 1.6 a second: in 5 s, not even one.
        assert 1 <= w.store.most <= 2


async def test_calls_that_hang_for_thirty_seconds_leave_the_whole_quota_to_the_others(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=44)
        await w.start(connect=Patient(w.model, w.scopes), wrap=in_hand)
        w.fault(FaultKind.LOST_ANSWER, delay_s=60)
        await w.leave(*agents)
        await asyncio.sleep(TIMER + 28)
        # A burst of 4 and 1.6 a second: all of them before the first has its time-out.
        assert {call.user_id for call in w.puts()} == {agent.user_id for agent in agents}
        assert w.store.most >= 44
        w.model.clear_faults()
        await asyncio.sleep(120)
        assert w.outcomes() == ["confirmed"] * 44
        assert all(len(w.puts(agent)) == 1 for agent in agents)


@pytest.mark.parametrize("kind", [FaultKind.TIMEOUT, FaultKind.INTERNAL])
async def test_an_agent_who_cannot_be_written_delays_nobody_else(tmp_path, kind):
    async with world(tmp_path) as w:
        ill, *others = w.centre(agents=31)
        await w.start()
        w.fault(kind, user_id=ill.user_id, delay_s=60)
        await w.leave(ill)
        # The ill agent is gone for longer, so first in the queue each time.
        await asyncio.sleep(1)
        await w.leave(*others)
        # 30 writes are 30 / 1.6 s; those of the ill agent come on top.
        await asyncio.sleep(TIMER + 21)
        assert {w.shown(agent) for agent in others} == {"Offline"}
        assert w.shown(ill) == "Available"


# Circuits.


async def test_an_instance_that_may_not_be_read_leaves_the_other_alone(tmp_path):
    async with world(tmp_path) as w:
        mine = w.centre("mine", agents=10)
        yours = w.centre("yours", agents=10)
        await w.start()
        w.fault(FaultKind.ACCESS_DENIED, "GetCurrentUserData", instance_id="mine")
        await w.leave(*mine)
        await w.until(lambda: w.problems() == {"denied"})
        await w.leave(*yours)
        await asyncio.sleep(TIMER + 10)
        assert {w.shown(agent) for agent in yours} == {"Offline"}
        assert {w.shown(agent) for agent in mine} == {"Available"}


# What one absence must not tell of the next.


async def test_what_failed_in_an_earlier_absence_is_forgotten_in_the_next(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.INTERNAL)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 60)
        failed = len(w.puts())
        assert failed >= 4
        await w.beat(anna, number=2)
        await asyncio.sleep(10)
        w.actions.clear()
        w.model.clear_faults()
        w.fault(FaultKind.INTERNAL, times=1)
        await w.beat(anna, number=2, kind=BeatType.BYE)
        await asyncio.sleep(TIMER + 6)
        # The back-off begins anew with at most 1 s, and the history tells of this absence alone.
        assert w.outcomes() == ["confirmed"]
        assert [write["result"] for write in w.actions[0].evidence["writes"]] == ["unavailable", "accepted"]
        assert len(w.metrics.lags) == 2


async def test_what_was_seen_in_an_earlier_absence_decides_nothing_in_the_next(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await w.until(lambda: w.actions)
        # Back at once, with a new page, and gone again: the last look, which did not show her, is 6 s old then.
        w.model.agent_sets_status(*anna, "Available")
        await w.beat(anna, number=2)
        await w.beat(anna, number=2, kind=BeatType.BYE)
        await asyncio.sleep(TIMER + 5)
        assert w.outcomes() == ["confirmed", "confirmed"]


async def test_who_was_spared_is_looked_at_again_before_anything_is_written(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.beat(anna)
        await asyncio.sleep(5)
        w.model.add_contact(*anna, ContactState.CONNECTED, channel="CHAT")
        await w.until(lambda: w.actions)
        assert w.outcomes() == ["witnessed"]
        spared_at = instant().boot
        # That lease and the timer end within 10 s of this look.
        w.model.add_contact(*anna, ContactState.CONNECTED, channel="CHAT")
        await asyncio.sleep(15)
        assert w.puts() == []
        assert w.outcomes() == ["witnessed", "witnessed"]
        assert instant().boot - spared_at < TTL


async def test_the_oldest_trail_makes_room_and_its_back_off_begins_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "TRAILS", 1)
    async with world(tmp_path) as w:
        anna, bert = w.centre(agents=2)
        await w.start()
        w.fault(FaultKind.INTERNAL)
        await w.leave(anna, bert)
        await asyncio.sleep(TIMER + 60)
        # With a trail for each, the waits would have grown: about seven writes each.
        assert len(w.puts()) > 40


# Claims: given back, not taken twice, not carried out after a pause.


async def test_a_claim_that_could_not_be_given_back_is_given_back_at_the_stop(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start(wrap=in_hand)
        w.fault(FaultKind.INTERNAL)
        w.store.away = True
        await w.leave(anna)
        await w.until(w.puts)
        w.sweep.cancel()
        await asyncio.sleep(1)
        w.store.away = False
        assert (await w.store.tick("other", instant())).due == ()
        await w.dispatcher.drain(1.0)
        await asyncio.sleep(5)
        assert [due.agent for due in (await w.store.tick("other", instant())).due] == [anna]


async def test_an_agent_who_is_still_being_given_back_is_not_taken_in_hand_again(tmp_path):
    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start(wrap=in_hand)
        w.store.slow_release_s = 3.0
        w.fault(FaultKind.THROTTLE, times=1)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 20)
        assert w.outcomes() == ["confirmed"]
    assert faults == []


async def test_after_a_pause_nobody_is_claimed_or_read_before_they_could_be_heard(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=4)
        await w.start()
        await w.leave(*agents)
        await asyncio.sleep(TIMER - 1)
        Suspended.seconds += 120.0
        await asyncio.sleep(29)
        assert w.metrics.lags == []
        assert w.reads() == []
        await asyncio.sleep(30)
        assert w.outcomes() == ["confirmed"] * 4


async def test_a_pause_that_no_tick_has_seen_yet_stops_the_write_that_is_under_way(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()

        async def pause():
            w.on_flush = None
            Suspended.seconds += 120.0

        w.on_flush = pause
        await w.leave(anna)
        await w.until(lambda: w.flushes)
        await asyncio.sleep(20)
        assert w.puts() == []
        await w.beat(anna, number=2)
        await asyncio.sleep(25)
        assert w.puts() == []
