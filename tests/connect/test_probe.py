"""Trials keep to the quota, on virtual time: a daemon may be running beside them."""

from __future__ import annotations

import asyncio

import pytest

from tests.connect.world import DirectClient, instant
from watchdog.connect.iam import Uses
from watchdog.connect.probe import ATTEMPTS, NOBODY, Probe
from watchdog.core.quota import QuotaRules
from watchdog.errors import ConnectThrottled
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import Fault, FaultKind
from watchdog.sandbox.seed import seed

pytestmark = pytest.mark.looptime

INSTANCE = "main"


class Stand:
    def __init__(self, statuses=()):
        self.model = ConnectModel(lambda: instant().epoch)
        seed(self.model, agents=2, instance_id=INSTANCE, statuses=statuses)
        self.client = DirectClient(self.model, {INSTANCE: ("123456789012", "us-east-1")})
        self.probe = Probe(self.client, lambda _: QuotaRules(2, 5, 0.8), lambda _: "scope", instant)

    def outcomes(self, operation):
        return [call.outcome for call in self.model.calls(operation=operation)]


async def test_many_statuses_are_tried_without_a_429():
    stand = Stand([f"Custom {number}" for number in range(30)])
    found = await stand.probe.find(INSTANCE)
    began = asyncio.get_running_loop().time()
    trials = await stand.probe.trials(INSTANCE, Uses(), found.statuses, list(found.profiles))
    assert [trial.error for trial in trials] == [None] * 33
    assert stand.outcomes("PutUserStatus") == ["ResourceNotFoundException"] * 32
    # 4 at once, then 1.6 a second: a fifth of the quota is left to others.
    assert asyncio.get_running_loop().time() - began == pytest.approx(28 / 1.6, abs=0.1)


async def test_a_429_halves_the_rate_and_is_given_up_in_the_end():
    stand = Stand()
    stand.model.add_fault(Fault(FaultKind.THROTTLE, "GetCurrentUserData"))
    began = asyncio.get_running_loop().time()
    (trial,) = await stand.probe.trials(INSTANCE, Uses(writes=False), (), ())
    assert isinstance(trial.error, ConnectThrottled)
    assert len(stand.outcomes("GetCurrentUserData")) == ATTEMPTS
    assert asyncio.get_running_loop().time() - began > (ATTEMPTS - 1) / 1.6


async def test_listings_are_read_to_the_last_page():
    stand = Stand([f"Custom {number}" for number in range(30)])
    stand.client.listed = 7
    found = await stand.probe.find(INSTANCE)
    assert len(found.statuses) == 32
    assert len(found.profiles) == 1


async def test_where_nobody_answers_only_one_call_is_made():
    stand = Stand()
    stand.model.add_fault(Fault(FaultKind.INTERNAL))
    found = await stand.probe.find(INSTANCE)
    assert found.statuses is found.profiles
    assert len(stand.model.calls()) == 1


async def test_a_user_who_should_not_exist_is_nobody_of_the_instance():
    stand = Stand()
    await stand.probe.trials(INSTANCE, Uses(dismisses=True, signs_out=True), stand_statuses(stand), ())
    assert {call.user_id for call in stand.model.calls() if call.user_id} == {NOBODY}
    assert not any(call.effective for call in stand.model.calls())


def stand_statuses(stand):
    return tuple(stand.model.instance(INSTANCE).statuses.values())
