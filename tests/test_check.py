"""`watchdog check` as a process, against the stand-in of Connect over HTTP."""

import json
import os
import subprocess

import pytest

from tests import command
from tests.contract import redis_server
from tests.ingest.certificates import put as put_file
from tests.ingest.certificates import write
from tests.provider import AUDIENCE, ISSUER, Provider, document, jwk, serving
from tests.stores.test_split_brain import pair
from watchdog.connect.probe import NOBODY
from watchdog.migration import _opened
from watchdog.sandbox.records import Fault, FaultKind
from watchdog.sandbox.seed import DEFAULT_INSTANCE_ID, seed
from watchdog.sandbox.server import SandboxServer
from watchdog.sandbox.world import DEFAULT_ACCOUNT, stable_id

ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT}:role/presence"
OTHER_ID = stable_id("tests", "second")
WRITES = {"PutUserStatus", "DismissUserContact", "DeleteAllEntitySessions"}
NOTHING_BACK = {"WATCHDOG_RETURN_WINDOW": "0", "WATCHDOG_ADMIN_TOKENS": None}
"""Nobody gets a former status back, so that only those that the settings name may be set."""


@pytest.fixture(scope="module")
def server():
    with SandboxServer() as served:
        seed(served.model, agents=3, routing_profiles=("Gold Agents",))
        yield served


@pytest.fixture
def check(server, tmp_path):
    """Runs the command, by default with everything as it should be."""
    model = server.model
    model.clear_faults()
    since = model.last_seq

    def run(*arguments, **variables):
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONIOENCODING": "utf-8",
            "AWS_ENDPOINT_URL_CONNECT": server.url,
            "AWS_ENDPOINT_URL_STS": server.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "WATCHDOG_INSTANCES": DEFAULT_INSTANCE_ID,
            "WATCHDOG_HEARTBEAT_TOKENS": "kept-out-of-every-output",
            "WATCHDOG_ADMIN_TOKENS": "kept-out-too",
            "WATCHDOG_STORE": f"sqlite:///{tmp_path}/watchdog.db",
            **variables,
        }
        done = command.run(["check", *arguments], {name: value for name, value in environ.items() if value is not None})
        assert "kept-out" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    run.model = model
    run.calls = lambda: model.calls(since)
    yield run
    model.clear_faults()


def found(done):
    """State and detail by what was looked at; of several with a name, all."""
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0)
    rows = {}
    for row in report["checks"]:
        rows.setdefault(row["what"], []).append((row["state"], row["detail"]))
    return rows


def bad(done):
    """What is not good, with its state."""
    return {(what, state) for what, rows in found(done).items() for state, _ in rows if state != "ok"}


def test_all_is_well_and_nothing_is_changed(check, tmp_path):
    users = dict(check.model.instance(DEFAULT_INSTANCE_ID).users)
    done = check("--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(found(done)) == {
        "settings",
        "store",
        "credentials",
        "instance",
        "names",
        *(f"connect:{each}" for each in WRITES),
        *(f"connect:{each}" for each in ("ListAgentStatuses", "ListRoutingProfiles", "GetCurrentUserData")),
        "connect:ListRoutingProfileQueues",
    }
    assert check.model.instance(DEFAULT_INSTANCE_ID).users == users
    written = [call for call in check.calls() if call.operation in WRITES]
    assert {call.operation for call in written} == WRITES
    assert {call.user_id for call in written} == {NOBODY}
    assert not any(call.effective for call in check.calls())
    assert list(tmp_path.iterdir()) == []


def test_people_get_tables_and_the_policy(check):
    done = check()
    assert (done.returncode, done.stderr) == (0, "")
    tables, _, policy = done.stdout.partition("{")
    assert "connect:DismissUserContact" in tables
    assert f"Instance {DEFAULT_INSTANCE_ID}" in tables
    assert max(map(len, tables.split("The policy")[0].splitlines())) <= 80
    assert json.loads("{" + policy)["Version"] == "2012-10-17"


@pytest.mark.parametrize(
    "operation",
    ["GetCurrentUserData", "ListAgentStatuses", "ListRoutingProfiles", "ListRoutingProfileQueues", *sorted(WRITES)],
)
def test_a_missing_permission_is_named(check, operation):
    check.model.add_fault(Fault(FaultKind.ACCESS_DENIED, operation))
    done = check("--json")
    assert done.returncode == 1
    ((state, detail),) = found(done)[f"connect:{operation}"]
    assert state == "fault"
    assert f"Allow connect:{operation}." in detail
    assert [what for what, state in bad(done) if state == "fault"] == [f"connect:{operation}"]


@pytest.mark.long
def test_a_permission_that_lacks_one_of_the_statuses_names_it(check):
    check.model.add_fault(Fault(FaultKind.ACCESS_DENIED, "PutUserStatus", times=1))
    ((state, detail),) = found(check("--json", **NOTHING_BACK))["connect:PutUserStatus"]
    assert state == "fault"
    assert detail.startswith("Offline: PutUserStatus for instance ")


def test_a_write_that_the_settings_never_make_is_not_tried(check):
    variables = {"WATCHDOG_DISMISS_CONTACTS": "false", "WATCHDOG_ADMIN_TOKENS": None}
    done = check("--json", **variables)
    assert done.returncode == 0
    assert {call.operation for call in check.calls()} & WRITES == {"PutUserStatus"}
    done = check("--json", WATCHDOG_DRY_RUN="true")
    assert "connect:PutUserStatus" not in found(done)


def test_every_name_that_does_not_exist_is_told_at_once(check):
    rule = {"name": "night", "if_profile_name_includes": ["Silver"], "initial_agent_state": "Ready"}
    done = check(
        "--json",
        WATCHDOG_STATUS="Lnch",
        WATCHDOG_IF_PROFILE_NAME_INCLUDES="gold",
        WATCHDOG_IF_CURRENT_AGENT_STATE="Brakfast",
        WATCHDOG_REASON_CODES='{"7": "Gone"}',
        WATCHDOG_RULES=json.dumps([rule]),
    )
    assert done.returncode == 1
    lines = [detail for state, detail in found(done)["names"] if state == "fault"]
    assert [line.partition(": got ")[0] for line in lines] == [
        "WATCHDOG_STATUS",
        'WATCHDOG_RULES: rule "night": initial_agent_state',
        'WATCHDOG_RULES: rule "night": if_profile_name_includes',
        "WATCHDOG_IF_CURRENT_AGENT_STATE",
        'WATCHDOG_REASON_CODES: code "7"',
    ]
    assert 'did you mean "Lunch"?' in lines[0]


def test_a_status_must_exist_in_every_instance_and_a_filters_in_one(check):
    seed(check.model, agents=1, instance_id=OTHER_ID, statuses=())
    both = f"{DEFAULT_INSTANCE_ID},{OTHER_ID}"
    done = check("--json", WATCHDOG_INSTANCES=both, WATCHDOG_IF_CURRENT_AGENT_STATE="Lunch")
    assert done.returncode == 0
    done = check("--json", WATCHDOG_INSTANCES=both, WATCHDOG_STATUS="Lunch")
    ((_, line),) = found(done)["names"]
    assert f"instance {OTHER_ID} has no such status" in line


def test_where_connect_cannot_be_reached_it_says_so(check):
    done = check("--json", AWS_ENDPOINT_URL_CONNECT="http://127.0.0.1:9", AWS_ENDPOINT_URL_STS="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (1, "")
    rows = found(done)
    ((state, detail),) = rows["instance"]
    assert state == "fault"
    assert "not reached" in detail
    assert rows["store"][0][0] == "ok"
    assert {state for what, row in rows.items() if what.startswith("connect:") for state, _ in row} == {"unknown"}
    assert rows["names"][0][0] == "unknown"


def test_without_credentials_it_says_so(check):
    done = check("--json", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert done.returncode == 1
    assert check.calls() == ()
    ((state, detail),) = found(done)["credentials"]
    assert state == "fault"
    assert "Check the AWS credentials" in detail


def test_an_instance_that_does_not_exist_is_told(check):
    done = check("--json", WATCHDOG_INSTANCES="elsewhere")
    assert done.returncode == 1
    ((state, detail),) = found(done)["instance"]
    assert state == "fault"
    assert "Check WATCHDOG_INSTANCES and the region" in detail
    assert "ok" not in {state for what, row in found(done).items() if what.startswith("connect:") for state, _ in row}


@pytest.mark.long
def test_a_429_is_waited_out(check):
    check.model.add_fault(Fault(FaultKind.THROTTLE, "ListRoutingProfileQueues", times=1))
    assert check("--json").returncode == 0


def test_a_store_that_cannot_be_used_is_told_and_the_rest_is_looked_at(check, tmp_path):
    done = check("--json", WATCHDOG_STORE=f"sqlite:///{tmp_path}/nowhere/watchdog.db")
    assert bad(done) == {("store", "fault")}
    assert "cannot be written" in found(done)["store"][0][1]


async def test_half_a_copy_is_told(check, tmp_path):
    path = tmp_path / "watchdog.db"
    async with _opened(path, 16) as journal:
        await journal.clear(b"valkey://old:6379/0")
    done = check("--json")
    assert bad(done) == {("store", "fault")}
    assert "a part of what is kept at valkey://old:6379/0" in found(done)["store"][0][1]


@pytest.mark.long
def test_a_store_on_a_server_is_looked_at_and_left_alone(check, tmp_path):
    with redis_server.running(tmp_path) as server, server.client as client:
        store = f"redis://:secret@127.0.0.1:{server.port}"
        client.config_set("requirepass", "secret")
        client.execute_command("AUTH", "secret")
        done = check("--json", WATCHDOG_STORE=store)
        assert found(done)["store"][0][0] == "ok"
        assert "drops no keys. Nothing of ours" in found(done)["store"][0][1]
        assert "secret" not in done.stdout
        assert client.keys() == client.function_list() == []
        client.hset("{wd:all}:meta", mapping={"format": "half a copy", "shards": "16", "copying": "sqlite:///old.db"})
        done = check("--json", WATCHDOG_STORE=store)
        assert bad(done) == {("store", "fault")}
        assert "a part of what is kept at sqlite:///old.db" in found(done)["store"][0][1]
        client.hset("{wd:all}:meta", "format", "1")
        client.hdel("{wd:all}:meta", "copying")
        assert "A deployment is kept there." in found(check("--json", WATCHDOG_STORE=store))["store"][0][1]
        client.config_set("maxmemory-policy", "allkeys-lru")
        done = check("--json", WATCHDOG_STORE=store)
        assert bad(done) == {("store", "fault")}
        assert "noeviction" in found(done)["store"][0][1]
    done = check("--json", WATCHDOG_STORE=store)
    assert bad(done) == {("store", "fault")}
    assert "cannot be reached" in found(done)["store"][0][1]


@pytest.mark.long
def test_a_primary_that_takes_writes_without_its_replicas_is_told(check, tmp_path):
    with pair(tmp_path) as (primary, _), primary.client as client:
        store = f"valkey://127.0.0.1:{primary.port}"
        done = check("--json", WATCHDOG_STORE=store)
        assert bad(done) == {("replicas", "fault")}
        assert found(done)["store"][0][0] == "ok"
        assert "It has replicas (1)" in found(done)["replicas"][0][1]
        assert "min-replicas-to-write 1" in found(done)["replicas"][0][1]
        client.config_set("min-replicas-to-write", 1)
        assert "replicas" not in found(check("--json", WATCHDOG_STORE=store))


def test_beside_a_running_daemon(check, tmp_path):
    lock = tmp_path / "watchdog.db.lock"
    with subprocess.Popen(["flock", lock, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdin.write(b"held\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"held\n"
        done = check("--json")
        assert bad(done) == {("store", "fault")}
        assert "--running" in found(done)["store"][0][1]
        assert check("--json", "--running").returncode == 0
        holder.stdin.close()


def test_bad_settings_end_with_2_and_call_nobody(check):
    done = check("--json", WATCHDOG_SESSION_TTL="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("WATCHDOG_SESSION_TTL: ")
    assert check.calls() == ()


# The policy alone.


def arns(policy):
    return [
        arn
        for each in policy["Statement"]
        for arn in (each["Resource"] if isinstance(each["Resource"], list) else [each["Resource"]])
    ]


def put(policy):
    return set(next(each for each in policy["Statement"] if each["Action"] == "connect:PutUserStatus")["Resource"])


def test_the_policy_alone_is_json_and_lets_agents_have_any_status_back(check):
    done = check("--iam")
    assert (done.returncode, done.stderr) == (0, "")
    instance = check.model.instance(DEFAULT_INSTANCE_ID)
    assert put(json.loads(done.stdout)) == {instance.arn, f"{instance.arn}/agent/*", f"{instance.arn}/agent-state/*"}


def test_the_policy_names_the_statuses_that_are_set_where_none_is_given_back(check):
    done = check("--iam", **NOTHING_BACK)
    assert (done.returncode, done.stderr) == (0, "")
    policy = json.loads(done.stdout)
    instance = check.model.instance(DEFAULT_INSTANCE_ID)
    assert all(arn.startswith(instance.arn) for arn in arns(policy))
    assert put(policy) == {
        instance.arn,
        f"{instance.arn}/agent/*",
        instance.status_called("Offline").arn,
        instance.status_called("Available").arn,
    }
    assert {call.operation for call in check.calls()} == {"ListAgentStatuses", "ListRoutingProfiles"}


@pytest.mark.long
def test_the_policy_lets_events_be_put_on_the_bus_of_the_settings(check):
    (own,) = [
        each["Resource"]
        for each in json.loads(check("--iam", WATCHDOG_EVENTBRIDGE_BUS="presence").stdout)["Statement"]
        if each["Action"] == "events:PutEvents"
    ]
    assert own == f"arn:aws:events:us-east-1:{DEFAULT_ACCOUNT}:event-bus/presence"


def test_with_that_policy_the_check_needs_nothing_else(check):
    policy = json.loads(check("--iam").stdout)
    assert check("--json").returncode == 0
    called = {f"connect:{call.operation}" for call in check.calls()}
    assert called == {each["Action"] for each in policy["Statement"]}


@pytest.mark.long
def test_before_anything_is_allowed_the_account_is_asked_of_sts(check):
    check.model.add_fault(Fault(FaultKind.ACCESS_DENIED))
    done = check("--iam", **NOTHING_BACK)
    assert done.returncode == 0
    assert f"arn:aws:connect:us-east-1:{DEFAULT_ACCOUNT}:instance/{DEFAULT_INSTANCE_ID}/agent-state/*" in arns(
        json.loads(done.stdout)
    )
    assert "could not be listed" in done.stderr


@pytest.mark.long
def test_without_credentials_a_role_tells_the_account(check):
    instances = json.dumps([{"instance_id": DEFAULT_INSTANCE_ID, "region": "us-east-1", "role_arn": ROLE}])
    done = check("--iam", WATCHDOG_INSTANCES=instances, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert done.returncode == 0
    policy = json.loads(done.stdout)
    assert f"arn:aws:connect:us-east-1:{DEFAULT_ACCOUNT}:instance/{DEFAULT_INSTANCE_ID}" in arns(policy)
    assert f"sts:AssumeRole for {ROLE}" in done.stderr


def test_without_credentials_and_role_it_says_what_is_missing(check):
    done = check("--iam", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert (done.returncode, done.stdout) == (1, "")
    assert "its account (give AWS credentials, or `role_arn` in WATCHDOG_INSTANCES)" in done.stderr


@pytest.mark.long
def test_a_policy_that_would_not_be_enough_is_not_printed(check):
    done = check("--iam", WATCHDOG_STATUS="Gone")
    assert (done.returncode, done.stdout) == (1, "")
    assert 'WATCHDOG_STATUS: got "Gone"' in done.stderr


@pytest.mark.long
def test_the_certificate_is_looked_at(check, tmp_path):
    cert, key = write(tmp_path, "first", days=30)
    pair = {"WATCHDOG_TLS_CERT": str(cert), "WATCHDOG_TLS_KEY": str(key)}

    def row():
        code, report = check_row(check, pair)
        return code, report["state"], report["detail"]

    def check_row(run, variables):
        done = run("--json", **variables)
        rows = json.loads(done.stdout)["checks"]
        return done.returncode, next(each for each in rows if each["what"] == "certificate")

    assert row() == (0, "ok", f"{cert}: It can be served, and expires in 30.0 days.")
    write(tmp_path, "second", days=3)
    assert row()[:2] == (1, "fault")
    write(tmp_path, "third", days=-3)
    assert "has expired" in row()[2]
    put_file(key, b"nothing")
    assert "no certificate and key" in row()[2]


@pytest.mark.long
def test_the_keys_of_the_identity_provider_are_looked_at(check):
    jwts = {"WATCHDOG_AUTH": "jwt", "WATCHDOG_JWT_ISSUER": ISSUER, "WATCHDOG_JWT_AUDIENCE": AUDIENCE}

    def row(place):
        done = check("--json", **jwts, WATCHDOG_HEARTBEAT_TOKENS=None, WATCHDOG_JWKS=place)
        rows = [(each["state"], each["detail"]) for each in json.loads(done.stdout)["checks"] if each["what"] == "jwks"]
        return done.returncode, *rows

    with serving(Provider(document(jwk("ES256", "k1"), jwk("RS256", "k2", bits=1024)))) as provider:
        url = provider.url
        code, (state, told) = row(url)
        assert (code, state) == (0, "ok")
        assert told == f"{url}: Keys that can be used: 1. Key 2 has 1024 bits, not 2048 to 8192."
        provider.body = b"{}"
        code, (state, told) = row(url)
        assert (code, state) == (1, "fault")
        assert "no JWK set" in told
    code, (state, told) = row(url)
    assert (code, state) == (1, "fault")
    assert found(check("--json")).get("jwks") is None
