"""Each operation's answer against botocore's shapes, and what each refuses."""

import pytest
from botocore.model import Shape
from botocore.validate import ParamValidator

from watchdog.sandbox.api import OPERATIONS
from watchdog.sandbox.records import ContactState, StatusType
from watchdog.sandbox.seed import seed
from watchdog.sandbox.shapes import faults_in, service_model
from watchdog.sandbox.world import Caller


def assert_fits(shape: Shape | None, value, path="answer"):
    """Check types, members, bounds and enums; botocore's validator leaves the upper bounds and enums out."""
    if shape is None:
        assert value == {}, path
        return
    report = ParamValidator().validate(value, shape).generate_report()
    assert not report, report
    if shape.type_name == "structure":
        for name, member in value.items():
            assert_fits(shape.members[name], member, f"{path}.{name}")
    elif shape.type_name == "list":
        assert len(value) <= shape.metadata.get("max", len(value)), path
        for member in value:
            assert_fits(shape.member, member, f"{path}[]")
    elif shape.type_name == "string":
        assert len(value) <= shape.metadata.get("max", len(value)), path
        assert type(value) is str, path
        if getattr(shape, "enum", None):
            assert value in shape.enum, path


@pytest.fixture
def call(model):
    model.set_quota(None, 1)

    def send(operation, caller=None, **params):
        assert faults_in(operation, params) == ""
        reply = model.perform(model.admit(operation, params, caller or Caller()))
        if reply.error:
            return f"{reply.error.code} {reply.error.status}"
        assert_fits(service_model().operation_model(operation).output_shape, reply.answer)
        return reply.answer

    return send


@pytest.fixture
def examples(model, instance, agents):
    """Parameters with which each operation succeeds."""
    profile = next(iter(instance.profiles.values()))
    queue = profile.default_outbound_queue_id
    missed = model.add_contact(instance.id, agents[0], ContactState.MISSED)
    model.add_contact(instance.id, agents[1], ContactState.CONNECTED)
    model.agent_sets_status(instance.id, agents[1], "Lunch")
    here = {"InstanceId": instance.id}
    return {
        "CreateInstance": {
            "IdentityManagementType": "CONNECT_MANAGED",
            "InboundCallsEnabled": True,
            "OutboundCallsEnabled": False,
        },
        "DescribeInstance": here,
        "ListInstances": {},
        "DeleteInstance": here,
        "ListAgentStatuses": {**here, "AgentStatusTypes": ["OFFLINE"]},
        "DescribeAgentStatus": {**here, "AgentStatusId": instance.offline_status().id},
        "CreateAgentStatus": {
            **here,
            "Name": "Break",
            "Description": "A break",
            "DisplayOrder": 3,
            "State": "ENABLED",
        },
        "ListRoutingProfiles": here,
        "DescribeRoutingProfile": {**here, "RoutingProfileId": profile.id},
        "CreateRoutingProfile": {
            **here,
            "Name": "Sales",
            "Description": "Sales",
            "DefaultOutboundQueueId": queue,
            "QueueConfigs": [{"QueueReference": {"QueueId": queue, "Channel": "TASK"}, "Priority": 2, "Delay": 30}],
            "MediaConcurrencies": [{"Channel": "TASK", "Concurrency": 5}],
        },
        "ListRoutingProfileQueues": {**here, "RoutingProfileId": profile.id},
        "ListUsers": here,
        "DescribeUser": {**here, "UserId": agents[0]},
        "CreateUser": {
            **here,
            "Username": "ann",
            "SecurityProfileIds": ["agent"],
            "RoutingProfileId": profile.id,
            "IdentityInfo": {"FirstName": "Ann", "LastName": "Example"},
            "PhoneConfig": {"PhoneType": "SOFT_PHONE", "AutoAccept": False, "AfterContactWorkTimeLimit": 0},
        },
        "PutUserStatus": {**here, "UserId": agents[0], "AgentStatusId": instance.offline_status().id},
        "GetCurrentUserData": {**here, "Filters": {"Agents": agents}},
        "DismissUserContact": {**here, "UserId": agents[0], "ContactId": missed.id},
        "DeleteAllEntitySessions": {**here, "EntityId": agents[0], "EntityType": "USER"},
    }


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_answer_has_the_shape_that_botocore_expects(call, examples, operation):
    assert isinstance(call(operation, **examples[operation]), dict)


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in ("CreateInstance", "ListInstances")])
def test_an_unknown_instance_is_not_found(call, examples, operation):
    assert call(operation, **{**examples[operation], "InstanceId": "nowhere"}) == "ResourceNotFoundException 404"


@pytest.mark.parametrize("caller", [Caller(account="999988887777"), Caller(region="us-west-2")])
def test_an_instance_of_another_account_or_region_is_not_found(call, examples, caller):
    assert call("ListUsers", caller, **examples["ListUsers"]) == "ResourceNotFoundException 404"
    assert call("ListInstances", caller)["InstanceSummaryList"] == []


@pytest.mark.parametrize(
    ("operation", "parameter"),
    [
        ("DescribeAgentStatus", "AgentStatusId"),
        ("DescribeRoutingProfile", "RoutingProfileId"),
        ("CreateRoutingProfile", "DefaultOutboundQueueId"),
        ("ListRoutingProfileQueues", "RoutingProfileId"),
        ("DescribeUser", "UserId"),
        ("CreateUser", "RoutingProfileId"),
        ("PutUserStatus", "UserId"),
        ("PutUserStatus", "AgentStatusId"),
        ("DismissUserContact", "UserId"),
        ("DismissUserContact", "ContactId"),
        ("DeleteAllEntitySessions", "EntityId"),
    ],
)
def test_an_unknown_id_is_not_found(call, examples, operation, parameter):
    assert call(operation, **{**examples[operation], parameter: "unknown"}) == "ResourceNotFoundException 404"


@pytest.mark.parametrize("operation", ["CreateAgentStatus", "CreateRoutingProfile", "CreateUser"])
def test_a_name_can_be_used_once(call, examples, operation):
    call(operation, **examples[operation])
    assert call(operation, **examples[operation]) == "DuplicateResourceException 409"


def test_what_is_created_can_be_described(call, examples, instance):
    here = {"InstanceId": instance.id}
    created = call("CreateAgentStatus", **examples["CreateAgentStatus"])
    status = call("DescribeAgentStatus", AgentStatusId=created["AgentStatusId"], **here)["AgentStatus"]
    assert (status["Name"], status["Type"], status["DisplayOrder"], status["State"]) == (
        "Break",
        "CUSTOM",
        3,
        "ENABLED",
    )
    created = call("CreateRoutingProfile", **examples["CreateRoutingProfile"])
    queues = call("ListRoutingProfileQueues", RoutingProfileId=created["RoutingProfileId"], **here)
    assert [(q["Channel"], q["Priority"], q["Delay"]) for q in queues["RoutingProfileQueueConfigSummaryList"]] == [
        ("TASK", 2, 30)
    ]
    created = call("CreateUser", **examples["CreateUser"])
    user = call("DescribeUser", UserId=created["UserId"], **here)["User"]
    assert (user["Username"], user["IdentityInfo"]["FirstName"]) == ("ann", "Ann")
    created = call("CreateInstance", **examples["CreateInstance"])
    described = call("DescribeInstance", InstanceId=created["Id"])["Instance"]
    assert (described["Arn"], described["OutboundCallsEnabled"]) == (created["Arn"], False)


def test_a_new_instance_has_available_and_offline_and_a_new_user_is_offline(call, examples, model):
    created = call("CreateInstance", **examples["CreateInstance"])["Id"]
    statuses = call("ListAgentStatuses", InstanceId=created)["AgentStatusSummaryList"]
    assert {(s["Name"], s["Type"]) for s in statuses} == {("Available", "ROUTABLE"), ("Offline", "OFFLINE")}
    profile = call("ListRoutingProfiles", InstanceId=created)["RoutingProfileSummaryList"][0]["Id"]
    new = {**examples["CreateUser"], "InstanceId": created, "RoutingProfileId": profile}
    assert model.status_name(created, call("CreateUser", **new)["UserId"]) == "Offline"


def test_statuses_are_listed_by_type(call, instance, model):
    model.add_status(instance.id, "Abwesend", StatusType.OFFLINE)
    offline = call("ListAgentStatuses", InstanceId=instance.id, AgentStatusTypes=["OFFLINE"])
    assert [status["Name"] for status in offline["AgentStatusSummaryList"]] == ["Offline", "Abwesend"]
    wrong = call("ListAgentStatuses", InstanceId=instance.id, AgentStatusTypes=["AWAY"])
    assert wrong == "InvalidParameterException 400"


def test_a_disabled_status_cannot_be_set(call, examples, instance, agents):
    disabled = call("CreateAgentStatus", **{**examples["CreateAgentStatus"], "State": "DISABLED"})["AgentStatusId"]
    answer = call("PutUserStatus", InstanceId=instance.id, UserId=agents[0], AgentStatusId=disabled)
    assert answer == "InvalidRequestException 400"


@pytest.mark.parametrize("state", ContactState)
def test_only_contacts_that_are_over_can_be_dismissed(call, model, instance, agents, state):
    contact = model.add_contact(instance.id, agents[0], state)
    answer = call("DismissUserContact", InstanceId=instance.id, UserId=agents[0], ContactId=contact.id)
    over = state in ("MISSED", "ERROR", "ENDED", "REJECTED")
    assert answer == ({} if over else "InvalidRequestException 400")
    assert len(model.user(instance.id, agents[0]).contacts) == (0 if over else 1)


def test_only_users_have_sessions_to_delete(call, instance, agents):
    answer = call("DeleteAllEntitySessions", InstanceId=instance.id, EntityId=agents[0], EntityType="ROBOT")
    assert answer == "InvalidParameterException 400"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_hold_everything_once_and_in_order(call, instance, agents, size):
    seen, token = [], {}
    while True:
        answer = call("ListUsers", InstanceId=instance.id, MaxResults=size, **token)
        assert len(answer["UserSummaryList"]) <= size
        seen += [user["Id"] for user in answer["UserSummaryList"]]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert seen == agents


def test_a_page_size_or_token_out_of_bounds_is_refused(call, instance):
    assert call("ListUsers", InstanceId=instance.id, MaxResults=1001) == "InvalidParameterException 400"
    assert call("ListUsers", InstanceId=instance.id, NextToken="???") == "InvalidParameterException 400"


# GetCurrentUserData


def test_it_reads_a_hundred_agents_at_a_time_and_no_more(call, model):
    big = seed(model, agents=101, instance_id="big")
    agents = list(big.users)
    answer = call("GetCurrentUserData", InstanceId="big", Filters={"Agents": agents[:100]})
    assert [row["User"]["Id"] for row in answer["UserDataList"]] == agents[:100]
    assert answer["ApproximateTotalCount"] == 100
    too_many = call("GetCurrentUserData", InstanceId="big", Filters={"Agents": agents})
    assert too_many == "InvalidParameterException 400"


def test_it_pages_through_a_routing_profile(call, model):
    big = seed(model, agents=250, instance_id="big")
    filters = {"RoutingProfiles": [next(iter(big.profiles))]}
    seen, token, pages = [], {}, 0
    while True:
        answer = call("GetCurrentUserData", InstanceId="big", Filters=filters, **token)
        seen += [row["User"]["Id"] for row in answer["UserDataList"]]
        pages += 1
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert (seen, pages) == (list(big.users), 3)


def test_it_takes_one_kind_of_filter(call, instance, agents):
    profile = next(iter(instance.profiles))
    both = call("GetCurrentUserData", InstanceId=instance.id, Filters={"Agents": agents, "RoutingProfiles": [profile]})
    assert both == "InvalidParameterException 400"
    assert call("GetCurrentUserData", InstanceId=instance.id, Filters={}) == "InvalidParameterException 400"


def test_it_leaves_offline_users_out_unless_told_otherwise(call, model, instance, agents):
    model.agent_sets_status(instance.id, agents[1], "Offline")

    def seen():
        answer = call("GetCurrentUserData", InstanceId=instance.id, Filters={"Agents": agents})
        return [row["User"]["Id"] for row in answer["UserDataList"]]

    assert seen() == [agents[0], agents[2]]
    model.change_behaviour(lists_offline=True)
    assert seen() == agents


def test_it_leaves_unknown_agents_out_unless_told_otherwise(call, model, instance, agents):
    filters = {"Agents": [agents[0], "unknown"]}
    assert len(call("GetCurrentUserData", InstanceId=instance.id, Filters=filters)["UserDataList"]) == 1
    model.change_behaviour(unknown_agents_fail=True)
    answer = call("GetCurrentUserData", InstanceId=instance.id, Filters=filters)
    assert answer == "ResourceNotFoundException 404"


def test_it_filters_by_queue_and_by_contact_state(call, model, instance, agents):
    model.add_contact(instance.id, agents[1], ContactState.MISSED)
    queue = next(iter(instance.queues))
    everyone = call("GetCurrentUserData", InstanceId=instance.id, Filters={"Queues": [queue]})
    assert len(everyone["UserDataList"]) == 3
    filters = {"Queues": [queue], "ContactFilter": {"ContactStates": ["MISSED"]}}
    missed = call("GetCurrentUserData", InstanceId=instance.id, Filters=filters)
    assert [row["User"]["Id"] for row in missed["UserDataList"]] == [agents[1]]
    wrong = {"ContactFilter": {"ContactStates": ["LOST"]}}
    assert call("GetCurrentUserData", InstanceId=instance.id, Filters=wrong) == "InvalidParameterException 400"
    nobody = {"UserHierarchyGroups": ["group"]}
    assert call("GetCurrentUserData", InstanceId=instance.id, Filters=nobody)["UserDataList"] == []


def test_a_row_tells_status_next_status_contacts_and_slots(call, model, clock, instance, agents):
    clock.advance(10.1234)
    contact = model.add_contact(instance.id, agents[0], ContactState.CONNECTED)
    clock.advance(5)

    def row():
        return call("GetCurrentUserData", InstanceId=instance.id, Filters={"Agents": agents[:1]})["UserDataList"][0]

    before = row()
    assert before["Status"]["StatusName"] == "Available"
    assert "NextStatus" not in before
    assert before["AvailableSlotsByChannel"] == {"VOICE": 0, "CHAT": 2}
    assert before["ActiveSlotsByChannel"] == {"VOICE": 1, "CHAT": 0}
    (shown,) = before["Contacts"]
    assert (shown["ContactId"], shown["AgentContactState"]) == (contact.id, "CONNECTED")
    assert shown["ConnectedToAgentTimestamp"].timestamp() == 1_800_000_010.123
    model.agent_sets_status(instance.id, agents[0], "Offline")
    after = row()
    assert (after["Status"]["StatusName"], after["NextStatus"]) == ("Available", "Offline")
    assert after["AvailableSlotsByChannel"] == {"VOICE": 0, "CHAT": 0}
