"""What a call costs: a token for each page, of the account's bucket, whatever the call and however it is reached."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.connect.test_backlog import most_in_any_window
from tests.connect.world import QUOTA, TIMER, DirectClient, world
from watchdog.connect.api import Instance
from watchdog.connect.directory import LISTING_BURST, LISTING_RATE
from watchdog.connect.scopes import Scopes
from watchdog.errors import ConnectCredentials
from watchdog.sandbox.records import FaultKind

pytestmark = pytest.mark.looptime


def within(calls, rate, burst):
    """Whether the calls of one API keep to the share of a quota in any window."""
    return all(most_in_any_window(calls, s) <= 0.8 * (burst + rate * s) + 1 for s in (1, 5, 10, 30))


async def test_each_page_of_a_read_costs_a_token_and_all_of_them_are_one_answer(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=30)
        w.model.agent_sets_status(*agents[-1], "Offline")
        await w.start()
        w.client.page = 3
        await w.leave(*agents)
        await asyncio.sleep(TIMER + 120)
        assert sorted(w.outcomes()) == ["already"] + ["confirmed"] * 29
        assert len(w.reads()) >= 10
        assert within(w.reads(), QUOTA.rate, QUOTA.burst)
        # Everyone was in the first read, of ten pages: nobody is taken for absent because of another page.
        before = {action.agent: action.evidence["before"] for action in w.actions}
        assert [agent for agent in agents if not before[agent]["shown"]] == [agents[-1]]


class Endless(DirectClient):
    """Each page has another one behind it."""

    async def current_user_data(self, instance_id, user_ids, cursor=None):
        page = await super().current_user_data(instance_id, user_ids)
        return replace(page, complete=False, cursor="more")


async def test_an_answer_without_an_end_is_none(tmp_path):
    async with world(tmp_path) as w:
        (anna,) = w.centre(status="Offline")
        await w.start(connect=Endless(w.model, w.scopes))
        await w.leave(anna)
        await asyncio.sleep(TIMER + 10)
        assert len(w.reads()) == 10
        assert w.puts() == []


async def test_a_429_on_a_later_page_is_waited_out(tmp_path):
    async with world(tmp_path) as w:
        agents = w.centre(agents=6)
        await w.start()
        w.client.page = 2

        async def refuse():
            w.fault(FaultKind.THROTTLE, "GetCurrentUserData", times=1)

        await w.leave(*agents)
        await w.until(w.reads)
        await refuse()
        await asyncio.sleep(TIMER + 60)
        assert w.outcomes() == ["confirmed"] * 6
        assert w.metrics.calls["GetCurrentUserData", "throttled"] == 1


async def test_all_pages_of_the_statuses_and_profiles_are_listed(tmp_path):
    async with world(tmp_path, status="Zebra", listed=False) as w:
        (anna,) = w.centre()
        for number in range(5):
            w.model.add_status("main", f"Lunch {number}")
            w.model.add_routing_profile("main", f"profile {number}")
        w.model.add_status("main", "Zebra")
        await w.start()
        w.client.listed = 2
        await w.dispatcher.directory.refresh()
        assert len(w.model.calls(operation="ListAgentStatuses")) >= 4
        listing = w.dispatcher.directory
        names = {listing.profile_name("main", each) for each in listing.profile_ids("main")}
        assert {f"profile {number}" for number in range(5)} <= names
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.shown(anna) == "Zebra"


async def test_sixty_instances_of_an_account_are_listed_within_its_quota(tmp_path):
    async with world(tmp_path, listed=False) as w:
        for number in range(60):
            w.centre(f"centre-{number}")
        await w.start()
        await w.dispatcher.directory.refresh()
        for operation in ("ListAgentStatuses", "ListRoutingProfiles"):
            calls = w.model.calls(operation=operation)
            assert len(calls) == 60
            assert within(calls, LISTING_RATE, LISTING_BURST)
        assert w.problems() == set()
        assert all(call.outcome == "ok" for call in w.model.calls())


async def test_only_what_could_not_be_listed_is_listed_again(tmp_path):
    async with world(tmp_path, listed=False) as w:
        for number in range(5):
            w.centre(f"centre-{number}")
        w.fault(FaultKind.INTERNAL, "ListAgentStatuses", instance_id="centre-3")
        await w.start()
        await w.dispatcher.directory.refresh()
        assert w.problems() == {"directory_failed", "connect_unavailable"}
        w.model.clear_faults()
        since = w.model.last_seq
        await w.dispatcher.directory.refresh_failed()
        again = w.model.calls(since)
        assert [(call.operation, call.instance_id) for call in again] == [
            ("ListAgentStatuses", "centre-3"),
            ("ListRoutingProfiles", "centre-3"),
        ]
        await w.dispatcher.directory.refresh_failed()
        assert len(w.model.calls(since)) == 2


async def test_what_was_never_listed_is_listed_like_what_failed(tmp_path):
    async with world(tmp_path, listed=False) as w:
        w.centre()
        await w.start()
        await w.dispatcher.directory.refresh_failed()
        listed = ["ListAgentStatuses", "ListRoutingProfiles"]
        assert [call.operation for call in w.model.calls()] == listed
        await w.dispatcher.directory.refresh_failed()
        assert [call.operation for call in w.model.calls()] == listed


async def test_an_account_that_is_reached_by_a_role_and_without_one_has_one_quota(tmp_path):
    async with world(tmp_path, roles=("assumed",)) as w:
        own = w.centre("own", agents=20)
        assumed = w.centre("assumed", agents=20)
        await w.start()
        await w.leave(*own, *assumed)
        await asyncio.sleep(TIMER + 60)
        assert w.outcomes() == ["confirmed"] * 40
        assert within(w.puts(), QUOTA.rate, QUOTA.burst)
        assert within(w.reads(), QUOTA.rate, QUOTA.burst)
        # and they take turns
        assert 4 <= sum(call.instance_id == "own" for call in w.puts()[:10]) <= 6


async def test_the_buckets_of_an_account_fill_as_soon_as_it_is_known(tmp_path):
    async with world(tmp_path, listed=False) as w:
        (anna,) = w.centre()
        await w.start()
        await asyncio.sleep(1)
        await w.dispatcher.directory.refresh()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 0.4)
        assert w.shown(anna) == "Offline"


def test_an_arn_tells_account_and_region_and_anything_else_tells_nothing():
    role = "arn:aws:iam::111111111111:role/w"
    scopes = Scopes([Instance("own"), Instance("role", "us-west-2", role), Instance("blind")])
    assert dict(scopes) == {"own": "own/default", "role": "111111111111/us-west-2", "blind": "own/default"}
    scopes.learn("own", "arn:aws:connect:us-west-2:111111111111:instance/own/agent-state/x")
    scopes.learn("blind", "")
    scopes.learn("blind", "arn:aws:connect:us-west-2::instance/blind")
    assert dict(scopes) == {"own": "111111111111/us-west-2", "role": "111111111111/us-west-2", "blind": "own/default"}
    # Whose credentials fail is not a matter of the account that they lead to.
    assert scopes.credentials("own") == "own/default"


async def test_credentials_that_fail_for_a_role_stop_nobody_else_in_the_account(tmp_path):
    async with world(tmp_path, roles=("assumed",)) as w:
        own = w.centre("own", agents=4)
        assumed = w.centre("assumed", agents=4)
        await w.start(connect=NoRole(w.model, w.scopes))
        w.client.expired = True
        await w.leave(*own, *assumed)
        await asyncio.sleep(TIMER + 30)
        assert {w.shown(agent) for agent in own} == {"Offline"}
        assert {w.shown(agent) for agent in assumed} == {"Available"}
        assert w.client.tried == 1
        assert w.problems() == {"credentials"}


class NoRole(DirectClient):
    """The role of one instance may not be assumed any more."""

    expired = False
    tried = 0

    async def call(self, operation, instance_id, **params):
        if self.expired and instance_id == "assumed":
            self.tried += 1
            raise ConnectCredentials("Check the role.")
        return await super().call(operation, instance_id, **params)
