"""Many agents at once: the quota, the order, and instances that share it."""

from __future__ import annotations

import asyncio

import pytest

from tests.connect.world import QUOTA, TIMER, instant, world
from watchdog.connect.queue import Level, Rank
from watchdog.connect.tokens import Tokens
from watchdog.core.model import Observed
from watchdog.sandbox.records import ContactState, FaultKind

pytestmark = pytest.mark.looptime


def most_in_any_window(calls, window_s):
    at = sorted(call.at for call in calls)
    return max(sum(1 for other in at if start <= other < start + window_s) for start in at)


async def test_250_agents_are_served_in_order_within_the_quota_with_few_reads(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=250)
        # 50 at lunch, 50 with every slot taken, 150 could get the next contact
        lunch, busy, free = agents[:50], agents[50:100], agents[100:]
        for agent in lunch:
            w.model.agent_sets_status(*agent, "Lunch")
        for agent in busy:
            for channel, slots in next(iter(w.model.instance("main").profiles.values())).concurrency.items():
                for _ in range(slots):
                    w.model.add_contact(*agent, ContactState.CONNECTED, channel=channel)
        await w.start()
        await w.leave(*agents)
        await asyncio.sleep(TIMER + 200)
        assert len(w.actions) == 250
        assert {str(action.outcome) for action in w.actions} == {"confirmed", "next_status"}
        assert all(call.outcome == "ok" for call in w.model.calls())
        # the share of 2 a second and a burst of 5
        for calls in (w.puts(), w.reads()):
            for window_s in (1, 5, 10, 30):
                assert most_in_any_window(calls, window_s) <= 0.8 * (5 + 2 * window_s) + 1
        order = [call.user_id for call in w.puts()]
        assert len(order) == 250
        assert set(order[:150]) == {agent.user_id for agent in free}
        # 3 reads to order them, one every 10 s for those next in line, one every 2 s to read back, and one every 10 s
        # for those who have been set and are on a contact
        assert len(w.reads()) <= 3 + 16 + 80 + 10 + 20
        assert w.puts()[149].at - w.puts()[0].at <= 150 / 1.6 + 1


async def test_nobody_less_urgent_is_claimed_while_the_backlog_is_still_being_looked_at(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=130)
        lunch, free = agents[:110], agents[110:]
        for agent in lunch:
            w.model.agent_sets_status(*agent, "Lunch")
        w.fault(FaultKind.DELAY, "GetCurrentUserData", delay_s=1.0)
        await w.start()
        await w.leave(*lunch)
        await asyncio.sleep(0.001)
        await w.leave(*free)
        await asyncio.sleep(TIMER + 30)
        assert {call.user_id for call in w.puts()[:20]} == {agent.user_id for agent in free}


async def test_the_store_is_asked_for_a_token_when_there_may_be_one_and_not_before():
    asked = []

    class Bucket:
        async def take_tokens(self, operation, scope, count, at):
            asked.append(at.boot)
            return 2.0 if len(asked) % 2 else 0.0

    tokens = Tokens(Bucket(), lambda _: QUOTA, instant, lambda *_: None)
    wanted = [tokens.take("PutUserStatus", "own/default", "main", Rank(Level.SOON, Observed(0.0))) for _ in range(3)]
    await asyncio.gather(*wanted)
    assert [at - asked[0] for at in asked] == [0, 2, 2, 4, 4, 6]


async def test_few_agents_are_claimed_at_once_and_read_together(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=4)
        await w.start()
        await w.leave(*agents)
        await asyncio.sleep(TIMER + 5)
        assert len(w.metrics.lags) == 4
        assert max(w.metrics.lags) <= 0.6
        # one to look, one to read back
        assert len(w.reads()) == 2
        assert len(w.puts()) == 4


async def test_a_backlog_is_claimed_only_as_far_as_the_quota_will_serve_it(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=60)
        await w.start()
        await w.leave(*agents)
        await asyncio.sleep(TIMER + 2)
        # 8 tokens come in 5 s; the burst of 4 and what came in 2 s are served
        assert len(w.metrics.lags) <= 8 + 4 + 4


async def test_two_instances_of_one_account_take_turns(tmp_path):
    async with world(tmp_path) as w:
        many = w.centre("many", agents=40)
        few = w.centre("few", agents=8)
        await w.start()
        await w.leave(*many, *few)
        await asyncio.sleep(TIMER + 12)
        turns = [call.instance_id for call in w.puts()][:12]
        assert 5 <= turns.count("few") <= 7
        await asyncio.sleep(60)
        assert w.outcomes() == ["confirmed"] * 48


async def test_two_accounts_have_a_quota_each(tmp_path):
    async with world(tmp_path) as w:
        ours = w.centre("ours", agents=16)
        theirs = w.centre("theirs", agents=16, account="222222222222")
        await w.start()
        await w.leave(*ours, *theirs)
        await asyncio.sleep(TIMER + 12)
        assert w.effective() == 32


async def test_agents_whom_connect_does_not_show_come_last(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=20)
        gone, shown = agents[:10], agents[10:]
        for agent in gone:
            w.model.agent_sets_status(*agent, "Offline")
        await w.start()
        await w.leave(*agents)
        await asyncio.sleep(TIMER + 40)
        assert {call.user_id for call in w.puts()[:10]} == {agent.user_id for agent in shown}
        assert sorted(w.outcomes()) == ["already"] * 10 + ["confirmed"] * 10
