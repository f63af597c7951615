"""Quotas, faults and the log of calls; and the person's deeds besides the API."""

import pytest

from watchdog.sandbox.api import OPERATIONS
from watchdog.sandbox.errors import ConnectError
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.quota import FAST, SLOW
from watchdog.sandbox.records import Behaviour, ContactState, Fault, FaultKind
from watchdog.sandbox.seed import seed
from watchdog.sandbox.world import DEFAULT_ACCOUNT, Caller


def send(model, operation, caller=None, **params):
    return model.perform(model.admit(operation, params, caller or Caller()))


def put(model, instance, user_id, status, caller=None):
    status_id = instance.status_called(status).id
    return send(model, "PutUserStatus", caller, InstanceId=instance.id, UserId=user_id, AgentStatusId=status_id)


def code(reply):
    return reply.error.code if reply.error else None


def test_put_user_status_takes_a_burst_of_five_and_then_two_a_second(model, clock, instance, agents):
    codes = [code(put(model, instance, agents[0], "Lunch")) for _ in range(7)]
    assert codes == [None] * 5 + ["ThrottlingException"] * 2
    clock.advance(0.5)
    assert [code(put(model, instance, agents[0], "Lunch")) for _ in range(2)] == [None, "ThrottlingException"]


def test_a_throttled_call_changes_nothing_and_is_a_429(model, instance, agents):
    model.set_quota(1, 0)
    reply = put(model, instance, agents[0], "Offline")
    assert (reply.error.code, reply.error.status) == ("ThrottlingException", 429)
    assert model.status_name(instance.id, agents[0]) == "Available"


def test_idle_time_saves_up_no_more_than_the_burst(model, clock, instance, agents):
    clock.advance(3600)
    codes = [code(put(model, instance, agents[0], "Lunch")) for _ in range(6)]
    assert codes.count(None) == SLOW.burst


def test_each_api_has_a_bucket_of_its_own(model, instance, agents):
    for _ in range(5):
        put(model, instance, agents[0], "Lunch")
    assert code(put(model, instance, agents[0], "Lunch")) == "ThrottlingException"
    assert code(send(model, "ListUsers", InstanceId=instance.id)) is None
    assert (model.quota("ListUsers"), model.quota("GetCurrentUserData")) == (FAST, SLOW)


def test_instances_of_one_account_and_region_share_a_bucket_and_others_do_not(model, instance, agents):
    sibling = seed(model, instance_id="sibling")
    foreign = seed(model, instance_id="foreign", account="999988887777")
    for _ in range(5):
        put(model, instance, agents[0], "Lunch")
    assert code(put(model, sibling, next(iter(sibling.users)), "Lunch")) == "ThrottlingException"
    assert code(put(model, foreign, next(iter(foreign.users)), "Lunch", Caller("999988887777"))) is None


def test_quotas_can_be_scaled_set_and_lifted(model):
    model.scale_quotas(10)
    assert (model.quota("PutUserStatus").rate, model.quota("PutUserStatus").burst) == (20, 50)
    model.scale_quotas(1)
    model.set_quota(7, 8, "PutUserStatus")
    assert model.quota("PutUserStatus").rate == 7
    assert model.quota("ListUsers") == FAST
    model.set_quota(None, 1)
    assert all(model.quota(operation).rate is None for operation in OPERATIONS)


def test_a_clock_that_steps_back_neither_refills_nor_freezes(model, clock, instance, agents):
    for _ in range(5):
        put(model, instance, agents[0], "Lunch")
    clock.advance(-3600)
    assert code(put(model, instance, agents[0], "Lunch")) == "ThrottlingException"
    clock.advance(0.5)
    assert code(put(model, instance, agents[0], "Lunch")) is None


@pytest.mark.parametrize(
    ("kind", "expected", "status"),
    [
        (FaultKind.THROTTLE, "ThrottlingException", 429),
        (FaultKind.ACCESS_DENIED, "AccessDeniedException", 403),
        (FaultKind.INTERNAL, "InternalServiceException", 500),
        (FaultKind.NOT_FOUND, "ResourceNotFoundException", 404),
        (FaultKind.INVALID, "InvalidParameterException", 400),
    ],
)
def test_a_refusing_fault_answers_with_its_error_and_no_effect(model, instance, agents, kind, expected, status):
    model.add_fault(Fault(kind, operation="PutUserStatus"))
    reply = put(model, instance, agents[0], "Offline")
    assert (reply.error.code, reply.error.status) == (expected, status)
    assert model.status_name(instance.id, agents[0]) == "Available"
    assert (model.calls()[-1].outcome, model.calls()[-1].effective) == (expected, False)


@pytest.mark.parametrize(
    ("kind", "lost", "status", "outcome"),
    [
        (FaultKind.TIMEOUT, True, "Available", "timeout"),
        (FaultKind.LOST_ANSWER, True, "Offline", "lost_answer"),
        (FaultKind.NO_EFFECT, False, "Available", "no_effect"),
    ],
)
def test_a_hiding_fault_acts_or_not_and_answers_or_not(model, instance, agents, kind, lost, status, outcome):
    model.add_fault(Fault(kind, delay_s=4.0))
    reply = put(model, instance, agents[0], "Offline")
    assert (reply.lost, reply.hang_s, reply.error) == (lost, 4.0 if lost else 0.0, None)
    assert model.status_name(instance.id, agents[0]) == status
    assert (model.calls()[-1].outcome, model.calls()[-1].effective) == (outcome, status == "Offline")


def test_a_fault_whose_kind_is_told_by_its_name_is_the_same_fault():
    assert Fault("delay", delay_s=3.0) == Fault(FaultKind.DELAY, delay_s=3.0)
    assert Fault("delay").kind is FaultKind.DELAY
    with pytest.raises(ValueError, match="'late' is not a valid FaultKind"):
        Fault("late")


def test_a_delayed_call_takes_effect_when_it_is_performed(model, clock, instance, agents):
    model.add_fault(Fault(FaultKind.DELAY, delay_s=3.0))
    params = {
        "InstanceId": instance.id,
        "UserId": agents[0],
        "AgentStatusId": instance.status_called("Offline").id,
    }
    admission = model.admit("PutUserStatus", params, Caller())
    assert admission.wait_s == 3.0
    assert model.status_name(instance.id, agents[0]) == "Available"
    clock.advance(3.0)
    model.perform(admission)
    call = model.calls()[-1]
    assert (call.at - call.received_at, call.outcome, call.effective) == (3.0, "ok", True)


def test_a_read_with_no_effect_to_lose_is_answered(model, instance):
    model.add_fault(Fault(FaultKind.NO_EFFECT))
    assert "UserSummaryList" in send(model, "ListUsers", InstanceId=instance.id).answer


def test_a_fault_hits_as_often_as_it_says_and_then_is_gone(model, instance, agents):
    model.add_fault(Fault(FaultKind.INTERNAL, times=2))
    codes = [code(put(model, instance, agents[0], "Lunch")) for _ in range(3)]
    assert codes == ["InternalServiceException", "InternalServiceException", None]
    assert model.faults() == {}


def test_a_fault_without_times_stays_until_it_is_cleared(model, instance, agents):
    first = model.add_fault(Fault(FaultKind.INTERNAL))
    second = model.add_fault(Fault(FaultKind.ACCESS_DENIED))
    assert code(put(model, instance, agents[0], "Lunch")) == "InternalServiceException"
    model.clear_faults(first)
    assert code(put(model, instance, agents[0], "Lunch")) == "AccessDeniedException"
    assert list(model.faults()) == [second]
    model.clear_faults()
    assert code(put(model, instance, agents[0], "Lunch")) is None


def test_a_fault_hits_only_the_operation_instance_and_user_it_names(model, instance, agents):
    model.add_fault(Fault(FaultKind.INTERNAL, "PutUserStatus", instance.id, agents[0]))
    assert code(send(model, "ListUsers", InstanceId=instance.id)) is None
    assert code(put(model, instance, agents[1], "Lunch")) is None
    assert code(put(model, instance, agents[0], "Lunch")) == "InternalServiceException"
    model.clear_faults()
    model.add_fault(Fault(FaultKind.INTERNAL, instance_id="another"))
    assert code(put(model, instance, agents[0], "Offline")) is None


def test_a_users_fault_hits_the_batch_that_names_the_user(model, instance, agents):
    model.add_fault(Fault(FaultKind.INTERNAL, user_id=agents[1]))
    read = {"InstanceId": instance.id}
    assert code(send(model, "GetCurrentUserData", Filters={"Agents": agents[:1]}, **read)) is None
    assert code(send(model, "GetCurrentUserData", Filters={"Agents": agents}, **read)) == "InternalServiceException"


def test_the_log_tells_every_call_in_order_and_who_it_was_for(model, clock, instance, agents):
    put(model, instance, agents[0], "Lunch")
    clock.advance(1)
    send(model, "DescribeUser", InstanceId=instance.id, UserId="nobody")
    first, second = model.calls()
    assert (first.seq, first.operation, first.user_id, first.outcome) == (1, "PutUserStatus", agents[0], "ok")
    assert (second.seq, second.at - first.at, second.outcome) == (2, 1.0, "ResourceNotFoundException")
    assert first.account == DEFAULT_ACCOUNT
    assert model.calls(since=1) == (second,)
    assert model.calls(operation="PutUserStatus") == (first,)
    assert model.calls(user_id="nobody") == (second,)


def test_the_log_forgets_the_oldest_calls_and_still_counts(model, instance, monkeypatch):
    monkeypatch.setattr("watchdog.sandbox.api.LOG_LIMIT", 3)
    model.set_quota(None, 1)
    for _ in range(10):
        send(model, "ListUsers", InstanceId=instance.id)
    assert [call.seq for call in model.calls()] == [7, 8, 9, 10]
    assert [call.seq for call in model.calls(since=8)] == [9, 10]
    assert [call.seq for call in model.calls(since=2)] == [7, 8, 9, 10]


def test_a_call_is_effective_only_if_a_status_is_another_one(model, instance, agents):
    model.set_quota(None, 1)
    put(model, instance, agents[0], "Lunch")
    put(model, instance, agents[0], "Lunch")
    model.add_contact(instance.id, agents[0], ContactState.CONNECTED)
    put(model, instance, agents[0], "Offline")
    put(model, instance, agents[0], "Offline")
    assert [call.effective for call in model.calls()] == [True, False, True, False]


def test_dismissing_the_last_contact_is_effective_if_it_lets_the_next_status_in(model, instance, agents):
    contact = model.add_contact(instance.id, agents[0], ContactState.ERROR)
    put(model, instance, agents[0], "Offline")
    reply = send(model, "DismissUserContact", InstanceId=instance.id, UserId=agents[0], ContactId=contact.id)
    assert reply.error is None
    assert model.status_name(instance.id, agents[0]) == "Offline"
    assert model.calls()[-1].effective


def test_a_person_who_takes_a_call_and_goes_to_lunch_is_at_lunch_after_it(model, clock, instance, agents):
    contact = model.add_contact(instance.id, agents[0])
    model.set_contact_state(instance.id, agents[0], contact.id, ContactState.CONNECTED)
    model.agent_sets_status(instance.id, agents[0], "Lunch")
    assert model.status_name(instance.id, agents[0]) == "Available"
    assert model.next_status_name(instance.id, agents[0]) == "Lunch"
    clock.advance(60)
    model.end_contact(instance.id, agents[0], contact.id)
    assert model.status_name(instance.id, agents[0]) == "Lunch"
    assert model.next_status_name(instance.id, agents[0]) is None
    assert model.user(instance.id, agents[0]).status_since == clock()
    assert model.calls() == ()


def test_a_deleted_status_is_unknown_but_its_users_stay_in_it(model, instance, agents):
    lunch = instance.status_called("Lunch").id
    model.agent_sets_status(instance.id, agents[0], "Lunch")
    model.delete_status(instance.id, "Lunch")
    refused = send(model, "PutUserStatus", InstanceId=instance.id, UserId=agents[1], AgentStatusId=lunch)
    assert code(refused) == "ResourceNotFoundException"
    assert model.status_name(instance.id, agents[0]) == "Lunch"


def test_a_deleted_user_is_unknown_and_the_name_is_free(model, instance, agents):
    username = model.user(instance.id, agents[0]).username
    model.delete_user(instance.id, agents[0])
    assert code(put(model, instance, agents[0], "Lunch")) == "ResourceNotFoundException"
    assert model.add_user(instance.id, username, status="Lunch").id != agents[0]
    with pytest.raises(ConnectError, match="already exists"):
        model.add_user(instance.id, username)


def test_the_sign_out_may_set_offline_or_not(model, instance, agents):
    sign_out = {"InstanceId": instance.id, "EntityId": agents[0], "EntityType": "USER"}
    send(model, "DeleteAllEntitySessions", **sign_out)
    assert model.status_name(instance.id, agents[0]) == "Available"
    model.change_behaviour(sign_out_sets_offline=True)
    send(model, "DeleteAllEntitySessions", **sign_out)
    assert model.status_name(instance.id, agents[0]) == "Offline"
    assert model.user(instance.id, agents[0]).sessions_ended == 2
    assert model.behaviour == Behaviour(sign_out_sets_offline=True)


def test_a_seed_has_the_same_ids_in_every_run_and_adds_only_what_is_missing(model, clock, instance, agents):
    twin = seed(ConnectModel(clock), agents=3, statuses=("Lunch", "Training"))
    assert (twin.id, list(twin.users), list(twin.statuses)) == (instance.id, agents, list(instance.statuses))
    model.agent_sets_status(instance.id, agents[0], "Lunch")
    seed(model, agents=5)
    assert len(instance.users) == 5
    assert model.status_name(instance.id, agents[0]) == "Lunch"


def test_a_seed_spreads_the_agents_over_the_routing_profiles(model):
    instance = seed(model, agents=4, instance_id="two", routing_profiles=("Sales", "Support"))
    names = [instance.profile(user.routing_profile_id).name for user in instance.users.values()]
    assert names == ["Sales", "Support", "Sales", "Support"]
