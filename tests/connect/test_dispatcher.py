"""What becomes of an agent who is gone: the sequence from due to settled, one story a test."""

from __future__ import annotations

import asyncio

import pytest

from tests.connect.world import START, TIMER, world
from watchdog.core.model import Outcome
from watchdog.sandbox.records import ContactState

pytestmark = pytest.mark.looptime


async def test_an_agent_who_is_gone_is_set_offline_with_one_read_one_write_and_one_read_back(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 1)
        assert w.shown(anna) == "Offline"
        await asyncio.sleep(5)
        assert [(call.operation, call.outcome) for call in w.model.calls()] == [
            ("ListAgentStatuses", "ok"),
            ("ListRoutingProfiles", "ok"),
            ("GetCurrentUserData", "ok"),
            ("PutUserStatus", "ok"),
            ("GetCurrentUserData", "ok"),
        ]
        (action,) = w.actions
        assert action.outcome is Outcome.CONFIRMED
        assert action.target == "Offline"
        assert action.calls == 3
        assert 2 <= action.latency_s < 3
        assert action.evidence["before"]["status"] == "Available"
        assert action.evidence["writes"][0]["result"] == "accepted"
        assert action.evidence["read_backs"][0]["shown"] is False
        assert w.metrics.lags[0] <= 0.6
        page = await w.store.actions()
        assert page.actions == (action,)


async def test_heartbeats_are_flushed_before_the_re_check(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        w.on_flush = lambda: w.beat(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.puts() == []
        assert w.outcomes() == ["returned"]
        assert w.shown(anna) == "Available"


async def test_nothing_is_called_for_an_agent_who_is_there(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.beat(anna)
        await asyncio.sleep(30)
        assert w.puts() == []
        assert w.reads() == []


async def test_an_agent_in_the_target_already_is_settled_without_a_write(tmp_path):
    async with world(tmp_path, status="Lunch") as w:
        (anna,) = w.centre(status="Lunch")
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 3)
        assert w.outcomes() == ["already"]
        assert w.puts() == []


async def test_a_pending_next_status_that_is_the_target_needs_no_write(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        w.model.add_contact(*anna, ContactState.CONNECTED)
        w.model.agent_sets_status(*anna, "Offline")
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 3)
        assert w.outcomes() == ["already"]
        assert w.puts() == []


async def test_a_target_with_another_status_behind_it_is_written(tmp_path):
    async with world(tmp_path, status="Lunch") as w:
        (anna,) = w.centre(status="Lunch")
        w.model.add_contact(*anna, ContactState.CONNECTED)
        w.model.agent_sets_status(*anna, "Available")
        assert w.model.next_status_name(*anna) == "Available"
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.model.next_status_name(*anna) is None
        assert w.outcomes() == ["confirmed"]


async def test_on_a_contact_the_target_becomes_the_next_status(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        w.model.add_contact(*anna, ContactState.CONNECTED)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 4)
        assert w.outcomes() == ["next_status"]
        assert w.model.next_status_name(*anna) == "Offline"
        assert w.actions[0].evidence["read_backs"][-1]["contacts"] == ["CONNECTED"]


async def test_an_agent_whom_connect_does_not_show_is_written_once_and_counts_as_already(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre(status="Offline")
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 40)
        assert w.outcomes() == ["already"]
        assert len(w.puts()) == 1
        assert w.effective() == 0


async def test_an_agent_whom_connect_does_not_show_is_not_put_into_another_status(tmp_path):
    async with world(tmp_path, status="Lunch") as w:
        (anna,) = w.centre(status="Offline")
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.outcomes() == ["skipped_state"]
        assert "does not show" in w.actions[0].reason
        assert w.puts() == []


async def test_a_dry_run_decides_and_writes_nothing(tmp_path):
    async with world(tmp_path, dry_run=True) as w:
        anna, bert = w.centre(agents=2)
        w.model.agent_sets_status(*bert, "Offline")
        await w.start()
        await w.leave(anna, bert)
        await asyncio.sleep(TIMER + 40)
        assert w.outcomes() == ["dry_run", "dry_run"]
        assert w.puts() == []
        assert w.shown(anna) == "Available"


async def test_an_agent_who_returns_while_waiting_for_a_token_is_not_written(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=8)
        await w.start()
        await w.leave(*agents)
        await w.until(lambda: len(w.puts()) == 4)
        late = [agent for agent in agents if not w.puts(agent)]
        assert late
        await w.beat(*late)
        await asyncio.sleep(20)
        assert all(not w.puts(agent) for agent in late)
        assert sorted(w.outcomes()).count("returned") >= 1
        assert all(w.shown(agent) == "Available" for agent in late)


async def test_a_call_that_would_leave_too_late_is_aborted_and_re_checked(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.client.send_after_s = [0.3]
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.client.aborted == 1
        assert len(w.flushes) == 2
        assert len(w.puts()) == 1
        assert w.outcomes() == ["confirmed"]
        assert [write["result"] for write in w.actions[0].evidence["writes"]] == ["aborted", "accepted"]


async def test_an_agent_who_returns_between_re_check_and_sending_is_not_written_late(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()

        async def back():
            w.client.before_send = None
            await asyncio.sleep(0.3)
            await w.beat(anna)

        w.client.before_send = back
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.puts() == []
        assert w.outcomes() == ["returned"]
        assert w.shown(anna) == "Available"


async def test_a_machine_that_is_always_late_gives_the_agent_back(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.client.send_after_s = [0.3] * 6
        await w.leave(anna)
        await asyncio.sleep(TIMER + 10)
        assert w.client.aborted == 6
        assert w.effective() == 1
        # given back after five, so looked at twice; the third read is the read-back
        assert len(w.reads()) == 3
        assert w.outcomes() == ["confirmed"]


async def test_an_agent_who_returns_during_the_read_back_is_settled_as_returned(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await w.until(w.puts)
        await w.beat(anna)
        await asyncio.sleep(40)
        action, undone = w.actions
        assert action.outcome is Outcome.RETURNED
        assert action.evidence["writes"][0]["result"] == "accepted"
        assert "after the status was written" in action.reason
        assert undone.evidence["undoes"] == action.id
        assert w.effective() == 2
        assert w.shown(anna) == "Available"


async def test_an_action_id_is_the_time_and_sorts_by_it(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=3)
        await w.start()
        for agent in agents:
            await w.leave(agent)
            await asyncio.sleep(3)
        await asyncio.sleep(20)
        ids = [action.id for action in w.actions]
        assert len(set(ids)) == 3
        assert ids == sorted(ids)
        assert all(int(each.split("-")[0]) / 1000 >= START for each in ids)
