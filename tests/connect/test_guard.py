"""Each call is counted, and what is refused is told: the calls beside reading and setting a status."""

from __future__ import annotations

import pytest

from tests.connect.world import DirectClient, Metrics, instant
from watchdog.connect.api import Instance
from watchdog.connect.circuit import Circuits, Gate
from watchdog.connect.guard import Guard
from watchdog.connect.scopes import Scopes
from watchdog.core.model import Boot
from watchdog.errors import CallAborted, ConnectDenied, ConnectError, ConnectThrottled
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import Fault, FaultKind
from watchdog.sandbox.seed import seed

pytestmark = pytest.mark.looptime

LATER = Boot(1e12)


class Stand:
    def __init__(self):
        self.model = ConnectModel(lambda: instant().epoch)
        self.instance = seed(self.model, agents=1, instance_id="main")
        self.user = next(iter(self.instance.users))
        self.metrics, self.slowed, self.seen = Metrics(), [], []
        self.circuits = Circuits(instant)
        self.guard = Guard(
            DirectClient(self.model, {"main": ("123456789012", "us-east-1")}),
            self.circuits,
            Scopes([Instance("main", "us-east-1")]),
            observer=self.metrics,
            throttled=self.throttled,
            seen=lambda instance_id, rows: self.seen.append((instance_id, *rows)),
            now=instant,
        )

    async def throttled(self, operation, scope):
        self.slowed.append(operation)

    def call(self, operation, at=LATER):
        profile = next(iter(self.instance.profiles))
        return {
            "DismissUserContact": lambda: self.guard.dismiss_user_contact("main", self.user, "contact", at),
            "DeleteAllEntitySessions": lambda: self.guard.delete_all_entity_sessions("main", self.user, at),
            "ListRoutingProfileQueues": lambda: self.guard.list_routing_profile_queues("main", profile),
        }[operation]()

    def fault(self, kind, operation):
        self.model.add_fault(Fault(kind, operation, times=1))


OPERATIONS = ["DismissUserContact", "DeleteAllEntitySessions", "ListRoutingProfileQueues"]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_call_is_counted_under_its_own_name(operation):
    stand = Stand()
    try:
        await stand.call(operation)
        result = "ok"
    except ConnectError:
        result = "not_found"
    assert stand.metrics.calls == {(operation, result): 1}
    assert result == ("not_found" if operation == "DismissUserContact" else "ok")


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_refusal_is_told_and_agents_are_claimed_all_the_same(operation):
    stand = Stand()
    stand.fault(FaultKind.ACCESS_DENIED, operation)
    with pytest.raises(ConnectDenied):
        await stand.call(operation)
    (problem,) = stand.circuits.problems()
    assert problem.code == "denied"
    assert f"Allow connect:{operation}." in problem.detail
    assert stand.circuits.gate(["main"], "offline") is Gate.OPEN


@pytest.mark.parametrize("operation", ["DeleteAllEntitySessions", "ListRoutingProfileQueues"])
async def test_a_call_that_succeeds_again_mends_it(operation):
    stand = Stand()
    stand.fault(FaultKind.ACCESS_DENIED, operation)
    with pytest.raises(ConnectDenied):
        await stand.call(operation)
    await stand.call(operation)
    assert stand.circuits.problems() == []


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_429_slows_its_own_quota(operation):
    stand = Stand()
    stand.fault(FaultKind.THROTTLE, operation)
    with pytest.raises(ConnectThrottled):
        await stand.call(operation)
    assert stand.slowed == [operation]


@pytest.mark.parametrize("operation", OPERATIONS[:2])
async def test_what_is_late_is_not_sent(operation):
    stand = Stand()
    with pytest.raises(CallAborted):
        await stand.call(operation, at=Boot(instant().boot - 1))
    assert stand.metrics.calls == {(operation, "aborted"): 1}
    assert stand.model.calls() == ()


async def test_whoever_is_shown_is_told_whoever_asked():
    stand = Stand()
    await stand.guard.current_user_data("main", [stand.user])
    await stand.guard.user_data_page("main", list(stand.instance.profiles), None)
    assert stand.seen == [("main", stand.user)] * 2
