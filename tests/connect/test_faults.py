"""What becomes of an agent who is gone when Amazon Connect or the store does not do its part."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest
import structlog

from tests.connect.world import TIMER, DirectClient, SwitchDisk, world
from watchdog.core.model import AgentId, Outcome
from watchdog.errors import ConnectCredentials
from watchdog.sandbox.records import FaultKind

pytestmark = pytest.mark.looptime


async def test_a_storm_of_429_slows_down_and_loses_nobody(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=6)
        await w.start()
        w.fault(FaultKind.THROTTLE, times=10)
        await w.leave(*agents)
        await asyncio.sleep(TIMER + 10)
        refused = [call for call in w.puts() if call.outcome == "ThrottlingException"]
        assert 2 <= len(refused) <= 8  # 1.6 a second would be 16
        assert "connect_throttled" in w.problems()
        await asyncio.sleep(160)
        assert w.outcomes() == ["confirmed"] * 6
        assert all(w.effective(agent) == 1 for agent in agents)
        assert w.metrics.calls["PutUserStatus", "throttled"] == 10
        assert w.problems() == set()


async def test_429s_on_reads_are_waited_out_by_whoever_asked(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.THROTTLE, "GetCurrentUserData", times=2)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 20)
        assert w.outcomes() == ["confirmed"]
        assert len(w.puts()) == 1


async def test_errors_of_the_service_back_off_for_as_long_as_the_agent_is_gone(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.INTERNAL, times=7)
        await w.leave(anna)
        await asyncio.sleep(300)
        assert w.outcomes() == ["confirmed"]
        at = [call.at for call in w.puts()]
        gaps = [after - before for before, after in pairwise(at)]
        assert len(at) == 8
        assert gaps[-1] >= 30  # half of 60 s: the tests' chance is always 0.5
        assert gaps == sorted(gaps)
        assert w.effective() == 1


async def test_an_outage_of_days_is_outlived(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.INTERNAL)
        await w.leave(anna)
        await w.until(w.puts)
        trail = w.dispatcher._claims._trails[anna]
        await w.until(lambda: trail.failures)
        trail.failures = 2_000
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(200)
            w.model.clear_faults()
            await asyncio.sleep(100)
        assert trail.failures > 2_003
        assert [entry for entry in logs if entry["event"] == "dispatcher.fault"] == []
        assert w.outcomes() == ["confirmed"]


async def test_an_agent_who_returns_during_the_back_off_is_not_written(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.INTERNAL)
        await w.leave(anna)
        await asyncio.sleep(40)
        w.model.clear_faults()
        await w.beat(anna)
        await asyncio.sleep(30)
        assert w.effective() == 0
        assert w.outcomes() == ["returned"]  # the intent was on disk: an orphan, settled


async def test_a_lost_answer_is_found_to_have_taken_effect_and_not_written_again(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.LOST_ANSWER, times=1, delay_s=60)
        await w.leave(anna)
        await asyncio.sleep(60)
        assert len(w.puts()) == 1
        assert w.effective() == 1
        (action,) = w.actions
        assert action.outcome is Outcome.CONFIRMED
        assert "earlier write took effect" in action.reason
        assert action.evidence["writes"][0]["result"] == "unavailable"


async def test_a_time_out_without_effect_is_written_again(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.TIMEOUT, times=1, delay_s=60)
        await w.leave(anna)
        await asyncio.sleep(60)
        assert len(w.puts()) == 2
        assert w.effective() == 1
        assert w.outcomes() == ["confirmed"]


async def test_a_failed_read_is_no_answer_and_nothing_is_written_on_it(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre(status="Offline")
        await w.start()
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData")
        await w.leave(anna)
        await asyncio.sleep(60)
        assert w.puts() == []
        assert w.actions == []
        assert "connect_unavailable" in w.problems()


async def test_a_failed_read_back_is_repeated_at_its_next_time(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await w.until(w.puts)
        w.fault(FaultKind.INTERNAL, "GetCurrentUserData", times=2)
        await asyncio.sleep(45)
        assert len(w.puts()) == 1
        (action,) = w.actions
        assert action.outcome is Outcome.CONFIRMED
        assert [read.get("failed") for read in action.evidence["read_backs"]] == [
            "ConnectUnavailable",
            "ConnectUnavailable",
            None,
        ]


async def test_a_write_without_effect_is_repeated_three_times_and_then_failed(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.NO_EFFECT)
        await w.leave(anna)
        await asyncio.sleep(200)
        assert len(w.puts()) == 4
        (action,) = w.actions
        assert action.outcome is Outcome.FAILED
        assert len(action.evidence["read_backs"]) == 12
        assert action.evidence["read_backs"][-1]["status"] == "Available"


async def test_a_write_that_works_the_second_time_is_confirmed(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.NO_EFFECT, times=1)
        await w.leave(anna)
        await asyncio.sleep(60)
        assert len(w.puts()) == 2
        assert w.outcomes() == ["confirmed"]


async def test_a_403_opens_the_circuit_probes_once_a_minute_and_loses_nobody(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=30)
        await w.start()
        w.fault(FaultKind.ACCESS_DENIED)
        await w.leave(*agents)
        await asyncio.sleep(TIMER + 55)
        # Those that had their token when the first answer came, and nobody after.
        first = len(w.puts())
        assert 1 <= first <= 4
        assert w.problems() == {"denied"}
        # Nobody else is claimed meanwhile: those of the first seconds only.
        assert len(w.metrics.lags) <= 12
        await asyncio.sleep(240)
        assert len(w.puts()) == first + 4
        assert w.actions == []
        w.model.clear_faults()
        await asyncio.sleep(120)
        assert w.outcomes() == ["confirmed"] * 30
        assert w.problems() == set()
        assert all(w.effective(agent) == 1 for agent in agents)


async def test_a_circuit_that_nobody_needs_any_more_is_not_shown_for_ever(tmp_path):
    async with world(tmp_path) as w:
        anna, bert = w.centre(agents=2)
        await w.start()
        w.fault(FaultKind.ACCESS_DENIED)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 300)
        # As long as somebody waits it stands.
        assert w.problems() == {"denied"}
        await w.beat(anna)
        await asyncio.sleep(30)
        assert w.problems() == {"denied"}
        await w.beat(anna)
        await asyncio.sleep(32)
        assert w.problems() == set()
        assert len(w.dispatcher.problems()) == 0
        # The next one finds out again.
        await w.leave(bert)
        await asyncio.sleep(TIMER + 3)
        assert w.problems() == {"denied"}
        assert len(w.puts(bert)) == 1


async def test_a_circuit_of_a_target_that_was_made_anew_is_dropped(tmp_path):
    async with world(tmp_path, status="Lunch") as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.ACCESS_DENIED, times=1)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 3)
        assert w.problems() == {"denied"}
        w.model.delete_status("main", "Lunch")
        w.model.add_status("main", "Lunch")
        await w.dispatcher.directory.refresh()
        # The circuit was for the old one.
        await asyncio.sleep(5)
        assert w.shown(anna) == "Lunch"
        await asyncio.sleep(60)
        assert w.problems() == set()


async def test_a_403_on_reads_opens_the_circuit_too(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=30)
        await w.start()
        w.fault(FaultKind.ACCESS_DENIED, "GetCurrentUserData")
        await w.leave(*agents)
        await asyncio.sleep(TIMER + 50)
        first = len(w.reads())
        assert 1 <= first <= 2
        await asyncio.sleep(180)
        assert len(w.reads()) == first + 3
        assert w.puts() == []
        w.model.clear_faults()
        await asyncio.sleep(120)
        assert w.outcomes() == ["confirmed"] * 30


async def test_read_backs_wait_while_the_circuit_for_reads_is_open(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=4)
        await w.start()
        await w.leave(*agents)
        await w.until(lambda: len(w.puts()) == 4)
        before = len(w.reads())
        w.fault(FaultKind.ACCESS_DENIED, "GetCurrentUserData")
        await asyncio.sleep(50)
        assert len(w.reads()) == before + 1
        w.model.clear_faults()
        await asyncio.sleep(120)
        assert w.outcomes() == ["confirmed"] * 4
        assert len(w.puts()) == 4


async def test_a_circuit_of_one_instance_leaves_the_other_alone(tmp_path):
    async with world(tmp_path) as w:
        mine = w.centre("mine", agents=10)
        yours = w.centre("yours", agents=10)
        await w.start()
        w.fault(FaultKind.ACCESS_DENIED, instance_id="mine")
        await w.leave(*mine, *yours)
        await asyncio.sleep(TIMER + 20)
        assert all(w.shown(agent) == "Offline" for agent in yours)
        assert all(w.shown(agent) == "Available" for agent in mine)


async def test_an_instance_whose_calls_hang_keeps_no_other_from_its_quota(tmp_path):
    async with world(tmp_path) as w:
        hanging = w.centre("hanging", agents=40)
        fine = w.centre("fine", agents=10)
        await w.start()
        w.fault(FaultKind.TIMEOUT, None, instance_id="hanging", delay_s=60)
        await w.leave(*hanging)
        await asyncio.sleep(TIMER + 3)
        await w.leave(*fine)
        await asyncio.sleep(TIMER + 15)
        assert all(w.shown(agent) == "Offline" for agent in fine)


async def test_a_user_who_is_unknown_is_settled_as_such(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        w.model.delete_user(*anna)
        await asyncio.sleep(TIMER + 5)
        (action,) = w.actions
        assert action.outcome is Outcome.NO_SUCH_USER
        assert [call.outcome for call in w.puts()] == ["ResourceNotFoundException"]


async def test_a_404_means_nothing_while_the_directory_cannot_be_read(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.NOT_FOUND)
        w.fault(FaultKind.INTERNAL, "ListAgentStatuses")
        await w.leave(anna)
        await asyncio.sleep(TIMER + 20)
        assert w.puts()
        assert w.actions == []
        w.model.clear_faults()
        await asyncio.sleep(120)
        assert w.outcomes() == ["confirmed"]


async def test_one_unknown_user_does_not_spoil_the_read_for_the_others(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=6)
        w.model.change_behaviour(unknown_agents_fail=True)
        await w.start()
        await w.leave(*agents)
        w.model.delete_user(*agents[2])
        await asyncio.sleep(TIMER + 30)
        assert sorted(w.outcomes()) == ["confirmed"] * 5 + ["no_such_user"]


async def test_a_target_that_was_made_anew_is_resolved_again(tmp_path):
    async with world(tmp_path, status="Lunch") as w:
        (anna,) = w.centre()
        await w.start()
        w.model.delete_status("main", "Lunch")
        w.model.add_status("main", "Lunch")
        await w.leave(anna)
        await asyncio.sleep(TIMER + 10)
        assert w.shown(anna) == "Lunch"
        assert w.outcomes() == ["confirmed"]
        assert [call.outcome for call in w.puts()] == ["ResourceNotFoundException", "ok"]


async def test_a_target_that_is_gone_fails_and_says_what_there_is(tmp_path):
    async with world(tmp_path, status="Lunch") as w:
        (anna,) = w.centre()
        await w.start()
        w.model.delete_status("main", "Lunch")
        await w.leave(anna)
        await asyncio.sleep(TIMER + 10)
        (action,) = w.actions
        assert action.outcome is Outcome.FAILED
        assert "'Lunch'" in action.reason
        assert "Available, Offline" in action.reason
        assert w.problems() == {"unknown_status"}
        assert w.shown(anna) == "Available"


async def test_a_request_that_connect_calls_invalid_fails_after_one_write(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.INVALID)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 10)
        assert w.outcomes() == ["failed"]
        assert len(w.puts()) == 1
        assert len(w.model.calls(operation="ListAgentStatuses")) == 2


async def test_nobody_is_touched_before_the_statuses_are_known(tmp_path):
    async with world(tmp_path, listed=False) as w:
        (anna,) = w.centre()
        w.fault(FaultKind.INTERNAL, "ListAgentStatuses", times=2)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 20)
        assert w.puts() == []
        assert "directory_failed" in w.problems()
        await asyncio.sleep(70)
        assert w.outcomes() == ["confirmed"]


async def test_a_status_that_does_not_exist_touches_nobody(tmp_path):
    async with world(tmp_path, status="Holiday") as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(60)
        assert w.puts() == []
        assert w.reads() == []
        (problem,) = w.dispatcher.problems()
        assert problem.code == "unknown_status"
        assert "'Holiday'" in problem.detail
        assert "Available, Lunch, Offline" in problem.detail


async def test_an_instance_that_does_not_exist_is_told_with_the_variable_to_correct(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        w.fault(FaultKind.NOT_FOUND, "ListAgentStatuses")
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(50)
        (problem,) = [problem for problem in w.dispatcher.problems() if problem.code == "instance_not_found"]
        assert "WATCHDOG_INSTANCES" in problem.detail
        assert w.puts() == []
        w.model.clear_faults()
        await asyncio.sleep(60)
        assert w.outcomes() == ["confirmed"]
        assert w.problems() == set()


async def test_without_a_store_nothing_is_called_and_the_agent_comes_back(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        await w.leave(anna)

        async def full():
            SwitchDisk.full = True

        w.on_flush = full
        await asyncio.sleep(TIMER + 20)
        # still_gone needs no disk, so the write that had its intent on disk goes out; it cannot be settled.
        before = len(w.puts())
        assert w.actions == []
        SwitchDisk.full = False
        w.on_flush = None
        await asyncio.sleep(120)
        assert w.outcomes() == ["confirmed"]
        assert len(w.puts()) == before
        assert w.effective() == 1


class FullAfterReading(DirectClient):
    """The disk is full as soon as Connect has been read."""

    async def current_user_data(self, instance_id, user_ids, *more):
        answer = await super().current_user_data(instance_id, user_ids, *more)
        SwitchDisk.full = True
        return answer


async def test_an_intent_that_cannot_be_stored_is_not_carried_out(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start(connect=FullAfterReading(w.model, w.scopes))
        await w.leave(anna)
        await asyncio.sleep(TIMER + 30)
        assert len(w.reads()) == 1
        assert w.puts() == []
        w.client.__class__ = DirectClient
        SwitchDisk.full = False
        await asyncio.sleep(120)
        assert w.outcomes() == ["confirmed"]
        assert w.effective() == 1


async def test_after_a_connection_that_broke_the_agent_is_looked_at_afresh(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start()
        w.fault(FaultKind.LOST_ANSWER, times=1, delay_s=0.1)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 10)
        assert len(w.puts()) == 1
        assert w.outcomes() == ["confirmed"]


class Incomplete(DirectClient):
    """Each answer has pages missing."""

    async def current_user_data(self, instance_id, user_ids, *more):
        return replace(await super().current_user_data(instance_id, user_ids, *more), complete=False)


async def test_who_is_missing_from_an_incomplete_answer_is_neither_written_nor_confirmed(tmp_path):
    async with world(tmp_path) as w:
        anna, bert = w.centre(agents=2)
        w.model.agent_sets_status(*bert, "Offline")
        await w.start(connect=Incomplete(w.model, w.scopes))
        await w.leave(anna, bert)
        await asyncio.sleep(TIMER + 60)
        assert w.puts(bert) == []
        assert len(w.puts(anna)) == 1
        assert w.actions == []
        w.client.__class__ = DirectClient
        await asyncio.sleep(120)
        assert sorted(w.outcomes()) == ["already", "confirmed"]
        assert len(w.puts(anna)) == 1


class Broken(DirectClient):
    """A fault of ours in the first read."""

    reads = 0

    async def current_user_data(self, instance_id, user_ids, *more):
        self.reads += 1
        if self.reads == 1:
            raise KeyError("a fault of ours")
        return await super().current_user_data(instance_id, user_ids, *more)


async def test_a_fault_of_ours_gives_the_agent_back(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start(connect=Broken(w.model, w.scopes))
        await w.leave(anna)
        await asyncio.sleep(TIMER + 10)
        assert w.puts() == []
        await asyncio.sleep(65)
        assert w.outcomes() == ["confirmed"]


class Nameless(DirectClient):
    """The process' credentials have expired."""

    expired = False
    tried = 0

    async def call(self, operation, instance_id, **params):
        if self.expired:
            self.tried += 1
            raise ConnectCredentials("Check the AWS credentials of the process.")
        return await super().call(operation, instance_id, **params)


async def test_credentials_that_expire_stop_the_whole_account_and_are_probed(tmp_path):
    async with world(tmp_path) as w:
        one = w.centre("one", agents=10)
        two = w.centre("two", agents=10)
        await w.start(connect=Nameless(w.model, w.scopes))
        w.client.expired = True
        await w.leave(*one, *two)
        await asyncio.sleep(TIMER + 115)
        assert w.problems() == {"credentials"}
        assert w.client.tried <= 4  # one for each instance at first, and one after a minute
        w.client.expired = False
        await asyncio.sleep(120)
        assert w.outcomes() == ["confirmed"] * 20
        assert w.problems() == set()


async def test_agents_of_an_instance_that_is_not_in_the_settings_are_left_alone_and_told(tmp_path):
    async with world(tmp_path) as w:
        w.centre()
        await w.start()
        await w.leave(AgentId("former", "anna"))
        await asyncio.sleep(TIMER + 2)
        since = w.dispatcher.problems()[0].since
        await asyncio.sleep(3)
        (problem,) = w.dispatcher.problems()
        assert problem.code == "unknown_instance"
        assert "former" in problem.detail
        assert problem.since == since
        assert w.reads() == []
        await w.beat(AgentId("former", "anna"))
        await asyncio.sleep(2)
        assert w.problems() == set()


async def test_a_claim_that_was_lost_is_not_recorded_as_an_outcome(tmp_path):
    claims = []

    class Spied:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        async def claim(self, due, owner):
            claims.append(await self.inner.claim(due, owner))
            return claims[-1]

    async with world(tmp_path) as w:
        (anna,) = w.centre()
        await w.start(wrap=lambda each: Spied(each) if hasattr(each, "claim") else each)
        await w.leave(anna)
        await w.until(w.puts)
        await w.store.release(claims[0], 0.0)
        await asyncio.sleep(20)
        assert w.outcomes() == ["confirmed"]
        assert w.effective() == 1


async def test_a_write_that_was_refused_is_not_taken_for_the_cause(tmp_path):
    """The agent goes Offline by themselves after the watchdog's write was throttled."""
    async with world(tmp_path) as w:
        (anna,) = w.centre()
        w.fault(FaultKind.THROTTLE, times=1)
        await w.start()
        await w.leave(anna)
        await w.until(lambda: len(w.puts()) == 1)
        w.model.agent_sets_status(*anna, "Offline")
        await w.until(lambda: w.actions)
        assert w.outcomes() == ["already"]
        assert w.effective() == 0


async def test_one_agent_who_may_not_be_set_does_not_stop_the_others(tmp_path):
    async with world(tmp_path) as w:
        refused, *others = w.centre(agents=12)
        w.fault(FaultKind.ACCESS_DENIED, user_id=refused.user_id, times=None)
        await w.start()
        await w.leave(refused)
        await asyncio.sleep(0.5)
        await w.leave(*others)
        await asyncio.sleep(1800)
        assert {w.model.status_name(*agent) for agent in others} == {"Offline"}
        assert w.model.status_name(*refused) == "Available"
