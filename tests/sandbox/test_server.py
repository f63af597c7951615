"""The stand-in over real sockets: a real boto3 client, the control API, and that both ways of calling agree."""

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

import watchdog
from watchdog.sandbox.api import OPERATIONS
from watchdog.sandbox.direct import DirectConnect
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import ContactState, Fault, FaultKind
from watchdog.sandbox.seed import DEFAULT_INSTANCE_ID, seed
from watchdog.sandbox.server import SandboxServer, environment


@pytest.fixture
def server(model, instance):
    model.set_quota(None, 1)
    with SandboxServer(model) as running:
        yield running


def client_of(server, service="connect", region="us-east-1", read_timeout_s=5, **credentials):
    return boto3.client(
        service,
        endpoint_url=server.url,
        region_name=region,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout_s, max_pool_connections=50),
        **(credentials or {"aws_access_key_id": "any", "aws_secret_access_key": "any"}),
    )


@pytest.fixture
def client(server):
    return client_of(server)


@pytest.fixture
def control(server):
    def send(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{server.url}/sandbox/{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return send


# AWS's API


def without_metadata(answer):
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


READS = {
    "DescribeInstance": {},
    "ListInstances": {"InstanceId": None},
    "ListAgentStatuses": {"AgentStatusTypes": ["OFFLINE", "CUSTOM"], "MaxResults": 2},
    "DescribeAgentStatus": {"AgentStatusId": "<status>"},
    "ListRoutingProfiles": {"MaxResults": 1},
    "DescribeRoutingProfile": {"RoutingProfileId": "<profile>"},
    "ListRoutingProfileQueues": {"RoutingProfileId": "<profile>"},
    "ListUsers": {"MaxResults": 2},
    "DescribeUser": {"UserId": "<agent>"},
    "GetCurrentUserData": {"Filters": {"Agents": ["<agent>"]}, "MaxResults": 5},
}
REFUSED = {
    "DescribeUser": {"UserId": "nobody"},
    "PutUserStatus": {"UserId": "<agent>", "AgentStatusId": "unknown"},
    "GetCurrentUserData": {"Filters": {"Agents": ["x"] * 101}},
    "DismissUserContact": {"UserId": "<agent>", "ContactId": "<live contact>"},
    "DeleteAllEntitySessions": {"EntityId": "nobody", "EntityType": "USER"},
}


@pytest.fixture
def filled(model, instance, agents):
    """Puts real ids in the place of the names in the tables above."""
    contact = model.add_contact(instance.id, agents[0], ContactState.CONNECTED)
    model.agent_sets_status(instance.id, agents[0], "Lunch")
    ids = {
        "<status>": instance.status_called("Lunch").id,
        "<profile>": next(iter(instance.profiles)),
        "<agent>": agents[0],
        "<live contact>": contact.id,
    }

    def fill(params):
        text = json.dumps({"InstanceId": instance.id, **params})
        for name, value in ids.items():
            text = text.replace(name, value)
        return {name: value for name, value in json.loads(text).items() if value is not None}

    return fill


@pytest.mark.parametrize("operation", READS)
async def test_a_boto3_client_and_the_direct_one_get_the_same_answer(model, client, filled, operation):
    params = filled(READS[operation])
    over_http = getattr(client, xform_name(operation))(**params)
    direct = await DirectConnect(model).call(operation, **params)
    assert without_metadata(over_http) == without_metadata(direct)
    for key in ("HTTPStatusCode", "RetryAttempts"):
        assert over_http["ResponseMetadata"][key] == direct["ResponseMetadata"][key]
    headers = over_http["ResponseMetadata"]["HTTPHeaders"]
    for name in ("date", "content-type"):
        assert headers[name] == direct["ResponseMetadata"]["HTTPHeaders"][name]


@pytest.mark.parametrize("operation", REFUSED)
async def test_a_boto3_client_and_the_direct_one_get_the_same_error(model, client, filled, operation):
    params = filled(REFUSED[operation])
    with pytest.raises(ClientError) as over_http:
        getattr(client, xform_name(operation))(**params)
    with pytest.raises(ClientError) as direct:
        await DirectConnect(model).call(operation, **params)
    assert over_http.value.response["Error"] == direct.value.response["Error"]
    assert type(over_http.value).__name__ == type(direct.value).__name__
    assert over_http.value.operation_name == direct.value.operation_name
    metadata = over_http.value.response["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == direct.value.response["ResponseMetadata"]["HTTPStatusCode"]
    assert metadata["HTTPHeaders"]["content-type"] == "application/json"


def test_every_write_works_over_http(model, client, instance, agents):
    here = {"InstanceId": instance.id}
    created = client.create_instance(
        IdentityManagementType="CONNECT_MANAGED", InboundCallsEnabled=True, OutboundCallsEnabled=True
    )
    assert model.instance(created["Id"]).arn == created["Arn"]
    client.delete_instance(InstanceId=created["Id"])
    assert [one["Id"] for one in client.list_instances()["InstanceSummaryList"]] == [instance.id]
    status = client.create_agent_status(Name="Break", State="ENABLED", **here)["AgentStatusId"]
    queue = next(iter(instance.queues))
    profile = client.create_routing_profile(
        Name="Sales",
        Description="Sales",
        DefaultOutboundQueueId=queue,
        MediaConcurrencies=[{"Channel": "VOICE", "Concurrency": 1}],
        **here,
    )["RoutingProfileId"]
    user = client.create_user(Username="ann", SecurityProfileIds=["x"], RoutingProfileId=profile, **here)["UserId"]
    client.put_user_status(UserId=user, AgentStatusId=status, **here)
    assert model.status_name(instance.id, user) == "Break"
    contact = model.add_contact(instance.id, user, ContactState.ERROR)
    client.dismiss_user_contact(UserId=user, ContactId=contact.id, **here)
    assert model.user(instance.id, user).contacts == ()
    client.delete_all_entity_sessions(EntityId=user, EntityType="USER", **here)
    assert model.user(instance.id, user).sessions_ended == 1


def test_the_paginator_of_boto3_walks_through_everyone(client, model):
    big = seed(model, agents=205, instance_id="big")
    pages = client.get_paginator("list_users").paginate(InstanceId="big", PaginationConfig={"PageSize": 100})
    assert [user["Id"] for page in pages for user in page["UserSummaryList"]] == list(big.users)


def test_an_answer_has_one_date_and_it_is_the_models(client, clock, instance):
    clock.advance(86_400)
    headers = client.list_users(InstanceId=instance.id)["ResponseMetadata"]["HTTPHeaders"]
    assert headers["date"] == "Sat, 16 Jan 2027 08:00:00 GMT"


def test_an_assumed_role_sees_its_own_account_and_nothing_else(server, model, instance):
    foreign = seed(model, instance_id="foreign", account="999988887777")
    sts = client_of(server, "sts")
    keys = sts.assume_role(RoleArn="arn:aws:iam::999988887777:role/watchdog", RoleSessionName="test")["Credentials"]
    assumed = client_of(
        server,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    assert len(assumed.list_users(InstanceId=foreign.id)["UserSummaryList"]) == 1
    with pytest.raises(assumed.exceptions.ResourceNotFoundException):
        assumed.list_users(InstanceId=instance.id)
    assert model.calls()[-1].account == "999988887777"


def test_another_region_has_other_instances(server, instance):
    elsewhere = client_of(server, region="eu-central-1")
    assert elsewhere.list_instances()["InstanceSummaryList"] == []
    with pytest.raises(elsewhere.exceptions.ResourceNotFoundException):
        elsewhere.list_users(InstanceId=instance.id)


def test_two_servers_in_one_process_have_nothing_in_common(server, client, instance, clock):
    with SandboxServer(ConnectModel(clock)) as other:
        assert client_of(other).list_instances()["InstanceSummaryList"] == []
        assert len(client.list_instances()["InstanceSummaryList"]) == 1


def test_a_throttled_call_is_a_429_that_boto3_knows(model, client, instance):
    model.set_quota(1, 0)
    with pytest.raises(client.exceptions.ThrottlingException) as caught:
        client.list_users(InstanceId=instance.id)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429


def test_a_lost_answer_took_effect_and_drops_the_connection(model, client, instance, agents):
    model.add_fault(Fault(FaultKind.LOST_ANSWER, operation="PutUserStatus", times=1))
    lunch = instance.status_called("Lunch").id
    with pytest.raises(ConnectionClosedError):
        client.put_user_status(InstanceId=instance.id, UserId=agents[0], AgentStatusId=lunch)
    assert model.status_name(instance.id, agents[0]) == "Lunch"
    assert client.list_users(InstanceId=instance.id)["UserSummaryList"]


def test_a_hanging_call_meets_the_clients_time_out_and_does_not_keep_the_server(model, instance, agents):
    model.add_fault(Fault(FaultKind.TIMEOUT, operation="PutUserStatus", delay_s=3600))
    lunch = instance.status_called("Lunch").id
    with SandboxServer(model) as server, pytest.raises(ReadTimeoutError):
        client_of(server, read_timeout_s=0.3).put_user_status(
            InstanceId=instance.id, UserId=agents[0], AgentStatusId=lunch
        )
    assert model.status_name(instance.id, agents[0]) == "Available"


def test_fifty_requests_at_once_are_all_answered(client, instance, model):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: client.list_users(InstanceId=instance.id), range(50)))
    assert all(len(answer["UserSummaryList"]) == 3 for answer in answers)
    assert [call.seq for call in model.calls()] == list(range(1, 51))


def test_a_raw_request_with_parameters_missing_is_a_400(server, instance, agents):
    request = urllib.request.Request(
        f"{server.url}/users/{instance.id}/{agents[0]}/status",
        b"{}",
        {
            "Authorization": "AWS4-HMAC-SHA256 Credential=x/20270101/us-east-1/connect/aws4_request, x",
            "Content-Type": "application/json",
        },
        method="PUT",
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    with caught.value as answer:
        assert answer.code == 400
        assert "AgentStatusId" in json.load(answer)["message"]


def test_it_listens_on_loopback_unless_asked(server):
    assert server.get_host_and_port()[0] == "127.0.0.1"


def test_a_stopped_server_frees_its_port(model):
    with SandboxServer(model) as server:
        port = server.get_host_and_port()[1]
    with SandboxServer(model, port=port) as again:
        assert again.url == f"http://127.0.0.1:{port}"


def test_every_operation_is_on_the_handler():
    from watchdog.sandbox.backend import SandboxConnectResponse, install

    install()
    assert all(hasattr(SandboxConnectResponse, xform_name(operation)) for operation in OPERATIONS)


# The control API


def test_the_state_tells_people_contacts_and_faults(control, model, instance, agents):
    contact = model.add_contact(instance.id, agents[0], ContactState.CONNECTED)
    model.agent_sets_status(instance.id, agents[0], "Lunch")
    model.add_fault(Fault(FaultKind.INTERNAL, times=3))
    status, state = control("GET", "state")
    assert status == 200
    user = state["instances"][0]["users"][0]
    assert (user["user_id"], user["status"], user["next_status"]) == (agents[0], "Available", "Lunch")
    assert user["contacts"][0]["contact_id"] == contact.id
    assert [(fault["kind"], fault["times"]) for fault in state["faults"]] == [("internal", 3)]


def test_an_instance_is_seeded_in_one_request(control, model):
    body = {"agents": 2, "instance_id": "demo", "statuses": ["Break"], "routing_profiles": ["Sales"]}
    status, answer = control("POST", "instances", body)
    assert (status, answer["instance_id"], len(answer["users"])) == (200, "demo", 2)
    assert set(answer["statuses"]) == {"Available", "Offline", "Break"}
    assert {user["routing_profile"] for user in answer["users"]} == {"Sales"}
    assert control("POST", "instances", body)[1] == answer


def test_a_person_changes_status_by_name(control, model, instance, agents):
    status, user = control("POST", f"users/{instance.id}/{agents[0]}/status", {"status": "Lunch"})
    assert (status, user["status"]) == (200, "Lunch")
    assert model.status_name(instance.id, agents[0]) == "Lunch"
    assert control("GET", f"users/{instance.id}/{agents[0]}") == (200, user)


def test_a_contact_comes_is_answered_and_ends(control, model, instance, agents):
    who = {"instance_id": instance.id, "user_id": agents[0]}
    _, added = control("POST", "contacts", {**who, "channel": "CHAT"})
    assert added["user"]["contacts"][0]["state"] == "INCOMING"
    contact = {**who, "contact_id": added["contact_id"]}
    _, answered = control("POST", "contacts", {**contact, "state": "CONNECTED"})
    assert answered["user"]["contacts"][0]["state"] == "CONNECTED"
    _, ended = control("POST", "contacts", {**contact, "end": True})
    assert ended["user"]["contacts"] == []


def test_calls_can_be_followed_by_their_number(control, client, instance):
    client.list_users(InstanceId=instance.id)
    client.list_routing_profiles(InstanceId=instance.id)
    _, everything = control("GET", "calls")
    assert [call["operation"] for call in everything["calls"]] == ["ListUsers", "ListRoutingProfiles"]
    _, recent = control("GET", "calls?since=1")
    assert ([call["seq"] for call in recent["calls"]], recent["last_seq"]) == ([2], 2)


def test_faults_are_injected_and_cleared(control, client, instance, agents):
    _, added = control("POST", "faults", {"kind": "access_denied", "operation": "ListUsers", "times": None})
    with pytest.raises(ClientError, match="AccessDeniedException"):
        client.list_users(InstanceId=instance.id)
    assert control("DELETE", f"faults?fault_id={added['fault_id']}") == (200, {})
    client.list_users(InstanceId=instance.id)
    control("POST", "faults", {"kind": "internal"})
    control("DELETE", "faults")
    client.list_users(InstanceId=instance.id)


def test_quotas_are_set_scaled_and_lifted(control, model):
    assert control("POST", "quotas", {"rate": 3, "burst": 4}) == (200, {})
    assert (model.quota("ListUsers").rate, model.quota("PutUserStatus").burst) == (3, 4)
    control("POST", "quotas", {"scale": 2})
    assert model.quota("ListUsers").rate == 6
    control("POST", "quotas", {"rate": None})
    assert model.quota("ListUsers").rate is None


def test_the_unconfirmed_parts_can_be_changed(control, model):
    status, behaviour = control("POST", "behaviour", {"lists_offline": True})
    assert (status, behaviour["lists_offline"]) == (200, True)
    assert model.behaviour.lists_offline


def test_users_and_statuses_can_be_deleted(control, model, instance, agents):
    assert control("DELETE", f"users/{instance.id}/{agents[0]}") == (200, {})
    assert control("DELETE", f"statuses/{instance.id}/Lunch") == (200, {})
    assert agents[0] not in instance.users
    assert control("GET", f"users/{instance.id}/{agents[0]}")[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nothing", None, 404),
        ("DELETE", "state", None, 405),
        ("GET", "calls?since=yesterday", None, 400),
        ("POST", "faults", {"kind": "gremlin"}, 400),
        ("POST", "faults", {"kind": "internal", "operatoin": "ListUsers"}, 400),
        ("POST", "faults", {"kind": "internal", "times": "many"}, 400),
        ("POST", "faults", {}, 400),
        ("POST", "faults", [], 400),
        ("POST", "users/nowhere/nobody/status", {"status": "Lunch"}, 404),
        ("POST", "contacts", {"instance_id": "nowhere", "user_id": "nobody", "state": "LOST"}, 400),
        ("POST", "quotas", {"rate": "fast"}, 400),
        ("POST", "behaviour", {"mood": True}, 400),
        ("POST", "instances", {"instance_id": "a/b"}, 400),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(control, method, path, body, status):
    answered, problem = control(method, path, body)
    assert answered == status
    assert problem["detail"]


# The command


def test_the_command_prints_how_to_use_it_and_stops_on_sigterm():
    script = "from watchdog.sandbox.server import serve; serve(agents=2)"
    command, root = [sys.executable, "-c", script], Path(watchdog.__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        lines = [process.stdout.readline() for _ in range(2 + len(environment("", "")))]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    url = lines[0].split()[4].rstrip(",")
    assert [line.strip() for line in lines[2:]] == [
        f"export {name}={value}" for name, value in environment(url, DEFAULT_INSTANCE_ID).items()
    ]
    port = int(url.rsplit(":", 1)[1])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
