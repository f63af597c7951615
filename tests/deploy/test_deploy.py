"""What is in deploy/ agrees with the daemon: its settings, its permissions, its times, and that there is one of it.

Whether the files are well-formed is for `tests/deploy/check.sh`; `python -m tests.deploy.test_deploy` writes
deploy/iam/.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.core import policy_table
from watchdog import needs
from watchdog.connect.iam import Place, policy
from watchdog.daemon import STOP_S
from watchdog.health import STUCK_S
from watchdog.ingest.events import COMMENT_S
from watchdog.ingest.server import KEEP_ALIVE_S
from watchdog.ingest.websocket_protocol import PING_S
from watchdog.settings import Settings
from watchdog.telemetry.actions import EVENTS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
INSTANCE_ARN = "arn:aws:connect:REGION:ACCOUNT:instance/INSTANCE-ID"
LAST_S = 3.0
"""What a stop takes at most behind `STOP_S`: the last flush, the store, and some room."""


class Template(yaml.SafeLoader):
    """Reads CloudFormation's short forms: `!Ref x` is `("Ref", "x")`."""


def _short(loader, name, node):
    if isinstance(node, yaml.ScalarNode):
        return name, loader.construct_scalar(node)
    return name, tuple(loader.construct_sequence(node, deep=True))


Template.add_multi_constructor("!", _short)

COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
THREE = yaml.safe_load((DEPLOY / "compose-valkey" / "compose.yaml").read_text(encoding="utf-8"))
COMPOSED = {"compose": COMPOSE, "compose-valkey": THREE}
ECS = yaml.load((DEPLOY / "ecs" / "fargate.yaml").read_text(encoding="utf-8"), Template)
BASE = DEPLOY / "kubernetes" / "base"
EXAMPLE = DEPLOY / "kubernetes" / "example"
UNIT = (DEPLOY / "systemd" / "connect-presence-watchdog.service").read_text(encoding="utf-8")
IMAGE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


KEPT = ("/data", "/var/lib/connect-presence-watchdog")
"""Where something outlives the process: what is mounted, or `StateDirectory`."""


NOTHING = ("Ref", "AWS::NoValue")


def chosen(value, *, valkey=False):
    """What a value of the template is, with a server or without."""
    match value:
        case ("If", ("HasValkey", yes, no)):
            return chosen(yes if valkey else no, valkey=valkey)
        case list():
            return [found for each in value if (found := chosen(each, valkey=valkey)) != NOTHING]
        case dict():
            return {key: chosen(each, valkey=valkey) for key, each in value.items()}
        case _:
            return value


def manifest(name):
    return yaml.safe_load((BASE / f"{name}.yaml").read_text(encoding="utf-8"))


def container():
    (found,) = manifest("statefulset")["spec"]["template"]["spec"]["containers"]
    return found


def task(*, valkey=False):
    (found,) = chosen(ECS["Resources"]["Task"]["Properties"]["ContainerDefinitions"], valkey=valkey)
    return found


def service(*, valkey=False):
    return chosen(ECS["Resources"]["Service"]["Properties"], valkey=valkey)


def unit(key):
    """All values of a key, in order."""
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)


def lines(path):
    return dict(re.findall(r"^(\w+)=(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))


# Settings.


def image_variables():
    return dict(re.findall(r"(WATCHDOG_\w+)=(\S+)", IMAGE))


def compose_variables():
    return (
        image_variables()
        | lines(DEPLOY / "compose" / "watchdog.env.example")
        | COMPOSE["services"]["watchdog"]["environment"]
    )


def three_daemons_variables():
    service, *others = (THREE["services"][f"watchdog-{number}"] for number in (1, 2, 3))
    assert others == [service, service]
    return image_variables() | lines(DEPLOY / "compose-valkey" / "watchdog.env.example") | service["environment"]


def kubernetes_variables():
    generated = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))["configMapGenerator"][0]
    plain = dict(each.split("=", 1) for each in generated["literals"])
    own = {each["name"]: each["value"] for each in container()["env"]}
    return image_variables() | plain | lines(EXAMPLE / "watchdog.env") | own


def ecs_with_valkey_variables():
    return ecs_variables(valkey=True)


def ecs_variables(*, valkey=False):
    values = {
        "WATCHDOG_INSTANCES": "11111111-2222-3333-4444-555555555555",
        "AWS_REGION": "us-east-1",
        "WATCHDOG_ALLOWED_ORIGINS": "https://example.my.connect.aws",
        "WATCHDOG_CANARY_URL": "https://watchdog.example.com",
        "WATCHDOG_TRUSTED_PROXIES": "10.0.0.0/24,10.0.1.0/24",
    }
    parameters = ECS["Parameters"]
    for each in task()["Environment"]:
        kind, of = each["Value"]
        if kind == "Ref" and "Default" in parameters[of]:
            values[each["Name"]] = str(parameters[of]["Default"])
    secrets = {each["Name"]: each["Name"].lower() * 2 for each in task(valkey=valkey)["Secrets"]}
    if valkey:
        _, (template, _) = ECS["Resources"]["Store"]["Properties"]["SecretString"]
        secrets["WATCHDOG_STORE"] = template.replace("{{resolve:secretsmanager:${ValkeyPassword}}}", "password")
    assert {each["Name"] for each in task()["Environment"]} == values.keys()
    return image_variables() | values | secrets


def unit_variables():
    own = dict(each.split("=", 1) for each in unit("Environment"))
    return own | {"WATCHDOG_INSTANCES": "i-1", "AWS_REGION": "us-east-1"}


@pytest.mark.parametrize(
    "variables",
    [
        compose_variables,
        three_daemons_variables,
        kubernetes_variables,
        ecs_variables,
        ecs_with_valkey_variables,
        unit_variables,
    ],
    ids=lambda each: each.__name__,
)
def test_the_variables_are_settings_and_go_together(tmp_path, variables):
    given = variables()
    for name in [each for each in given if each.endswith("_FILE")]:
        path = tmp_path / name
        path.write_text("valkey://watchdog:x@valkey/0" if name == "WATCHDOG_STORE_FILE" else f"a-secret-for-{name}")
        given[name] = str(path)
    settings = Settings.load(given)
    assert settings.heartbeat_tokens
    assert settings.admin_tokens
    (folder,) = re.findall(r"^WORKDIR (/data)$", IMAGE, re.MULTILINE)
    assert settings.store_address is not None or (folder / settings.store_path).parent in map(Path, KEPT)
    if variables is not unit_variables:
        assert settings.dry_run  # nobody begins by writing
        assert settings.canary_url
        assert settings.trusted_proxies
        assert settings.host == "0.0.0.0"


def test_secrets_are_where_they_are_looked_for():
    for composed in COMPOSED.values():
        for service in composed["services"].values():
            for name, value in service.get("environment", {}).items():
                if name.endswith("_FILE"):
                    assert Path(value).parent == Path("/run/secrets")
                    assert Path(value).name in service["secrets"]
            assert set(service.get("secrets", ())) <= composed["secrets"].keys()
    three = DEPLOY / "compose-valkey"
    assert {"valkey-users"} == set(THREE["services"]["valkey"]["secrets"])
    assert "aclfile /run/secrets/valkey-users\n" in (three / "valkey.conf").read_text(encoding="utf-8")
    assert {"watchdog.pem"} == set(THREE["services"]["haproxy"]["secrets"])
    assert (three / "haproxy.cfg").read_text(encoding="utf-8").count("crt /run/secrets/watchdog.pem ") == 2
    (mount,) = [each for each in container()["volumeMounts"] if each["name"] == "secrets"]
    example = yaml.safe_load((EXAMPLE / "secret.example.yaml").read_text(encoding="utf-8"))
    files = [Path(each["value"]) for each in container()["env"]]
    assert {str(each.parent) for each in files} == {mount["mountPath"]}
    assert {each.name for each in files} == example["stringData"].keys()
    credentials = [each.split(":")[0] for each in unit("LoadCredential")]
    named = [value for value in unit("Environment") if "_FILE=" in value]
    assert [each.split("=%d/")[1] for each in named] == credentials


@pytest.mark.parametrize(
    "secret",
    [
        "secrets/admin-tokens",  # as README.md has it
        *(f"deploy/compose/{name}" for name in (".env", "watchdog.env", "secrets/admin-tokens")),
        *(f"deploy/compose-valkey/{name}" for name in (".env", "watchdog.env", "secrets/store")),
        "deploy/kubernetes/example/heartbeat-tokens",
    ],
)
def test_what_whoever_deploys_has_put_there_is_not_committed(secret):
    done = subprocess.run(["git", "check-ignore", "--quiet", secret], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_every_file_that_compose_mounts_is_there():
    for folder, composed in COMPOSED.items():
        mounts = [each.split(":") for service in composed["services"].values() for each in service.get("volumes", ())]
        sources = {source for source, *_ in mounts if source.startswith(".")}
        assert len(sources) > 2
        assert [each for each in sources if not (DEPLOY / folder / each).resolve().is_file()] == []


# One process.


def test_there_is_never_more_than_one_daemon():
    spec = manifest("statefulset")["spec"]
    assert spec["replicas"] == 1
    assert spec["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert service()["DesiredCount"] == 1
    assert service()["AvailabilityZoneRebalancing"] == "DISABLED"
    deployment = service()["DeploymentConfiguration"]
    assert (deployment["MinimumHealthyPercent"], deployment["MaximumPercent"]) == (0, 100)
    assert not {"deploy", "scale"} & COMPOSE["services"]["watchdog"].keys()


def test_several_have_a_store_that_they_share():
    assert service(valkey=True)["DesiredCount"] == 3
    deployment = service(valkey=True)["DeploymentConfiguration"]
    assert deployment["MinimumHealthyPercent"] == 100
    assert 3 * deployment["MaximumPercent"] // 100 == 4  # one at a time
    assert "WATCHDOG_STORE" in {each["Name"] for each in task(valkey=True)["Secrets"]}
    assert "WATCHDOG_STORE" not in {each["Name"] for each in task()["Secrets"]}
    patches = yaml.safe_load((DEPLOY / "kubernetes" / "valkey" / "deployment.yaml").read_text(encoding="utf-8"))
    values = {each["path"]: each.get("value") for each in patches}
    assert values["/spec/replicas"] == 3
    (mount,) = [each for each in container()["volumeMounts"] if each["name"] == "secrets"]
    store = values["/spec/template/spec/containers/0/env/-"]
    assert store == {"name": "WATCHDOG_STORE_FILE", "value": f"{mount['mountPath']}/store"}
    # As long as the new ones are not ready, no old one ends.
    assert values["/spec/strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_server_of_the_template_drops_nothing_and_lets_the_tasks_in_alone():
    found = {name: each["Properties"] for name, each in ECS["Resources"].items() if name.startswith("Valkey")}
    assert {ECS["Resources"][name]["Condition"] for name in found} == {"HasValkey"}
    assert found["ValkeyParameters"]["Properties"] == {
        "maxmemory-policy": "noeviction",
        "min-replicas-to-write": "1",
        "min-replicas-max-lag": "5",
    }
    # So that the loss of one of them stops nothing.
    assert found["ValkeyServer"]["ReplicasPerNodeGroup"] > 1
    assert found["ValkeyServer"]["CacheParameterGroupName"] == ("Ref", "ValkeyParameters")
    assert found["ValkeyServer"]["TransitEncryptionEnabled"]
    (rule,) = found["ValkeyGroup"]["SecurityGroupIngress"]
    assert rule["SourceSecurityGroupId"] == ("GetAtt", "TaskGroup.GroupId")
    assert "CidrIp" not in rule


def test_a_node_can_be_drained():
    assert manifest("poddisruptionbudget")["spec"]["maxUnavailable"] == 1


def test_the_database_outlives_the_process():
    assert "data:/data" in COMPOSE["services"]["watchdog"]["volumes"]
    assert "data" in COMPOSE["volumes"]
    kept = manifest("statefulset")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert kept == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (store,) = [value for value in unit("Environment") if value.startswith("WATCHDOG_STORE=")]
    assert Path(store.split("sqlite:///")[1]).parent == Path("/var/lib") / unit("StateDirectory")[0]


def test_a_task_without_a_lasting_disk_waits_for_the_second_tab_and_keeps_its_tickets():
    interval_s = Settings.model_fields["heartbeat_interval"].default
    least = ECS["Parameters"]["SessionEndTimer"]["MinValue"]
    assert ECS["Parameters"]["SessionEndTimer"]["Default"] >= least > interval_s * 1.1
    assert "WATCHDOG_TICKET_SECRETS" in {each["Name"] for each in task()["Secrets"]}


# Times.


def seconds(text):
    return float(re.fullmatch(r"(\d+)s", text)[1])


def test_every_stop_is_waited_for():
    waits = {
        "compose": seconds(COMPOSE["services"]["watchdog"]["stop_grace_period"]),
        "compose-valkey": seconds(THREE["services"]["watchdog-1"]["stop_grace_period"]),
        "kubernetes": manifest("statefulset")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
        "ecs": task()["StopTimeout"],
        "systemd": float(unit("TimeoutStopSec")[0]),
    }
    assert {name: wait for name, wait in waits.items() if wait < STOP_S + LAST_S} == {}
    patches = yaml.safe_load((DEPLOY / "kubernetes" / "valkey" / "deployment.yaml").read_text(encoding="utf-8"))
    (before,) = [each["value"]["preStop"]["exec"]["command"] for each in patches if each["path"].endswith("lifecycle")]
    # What goes before the stop is a part of the same time.
    longer_s = float(re.search(r"sleep\((\d+)\)", before[-1])[1])
    assert waits["kubernetes"] >= longer_s + STOP_S + LAST_S


def test_systemd_waits_longer_than_any_stall_that_ends_by_itself():
    assert unit("Type") == ["notify"]
    assert float(unit("WatchdogSec")[0]) > STUCK_S


def test_proxies_in_front_outlast_the_pings_and_not_the_daemon():
    caddy = (DEPLOY / "compose" / "Caddyfile").read_text(encoding="utf-8")
    assert seconds(re.search(r"keepalive (\S+)", caddy)[1]) < KEEP_ALIVE_S
    for folder in COMPOSED:
        text = (DEPLOY / folder / "haproxy.cfg").read_text(encoding="utf-8")
        haproxy = dict(re.findall(r"timeout (\S+) (\S+)$", text, re.MULTILINE))
        assert seconds(haproxy["http-keep-alive"]) < KEEP_ALIVE_S
        assert haproxy["tunnel"] == "1h"
        assert seconds(haproxy["server"]) > PING_S
        assert seconds(haproxy["server"]) > 2 * COMMENT_S
    balancer = ECS["Resources"]["Balancer"]["Properties"]["LoadBalancerAttributes"]
    (idle,) = [each["Value"] for each in balancer if each["Key"] == "idle_timeout.timeout_seconds"]
    assert 2 * PING_S < float(idle) < KEEP_ALIVE_S
    ingress = yaml.safe_load((EXAMPLE / "ingress.yaml").read_text(encoding="utf-8"))["metadata"]["annotations"]
    for way in ("read", "send"):
        assert float(ingress[f"nginx.ingress.kubernetes.io/proxy-{way}-timeout"]) > 2 * PING_S


def test_a_drained_task_does_not_judge_those_who_cannot_reach_it():
    found = {each["Key"]: each["Value"] for each in ECS["Resources"]["Targets"]["Properties"]["TargetGroupAttributes"]}
    ttl_s = Settings.model_fields["session_ttl"].default
    assert float(found["deregistration_delay.timeout_seconds"]) < ttl_s / 3


# Rights.


def test_the_user_at_valkey_may_what_the_documentation_says():
    documented = re.search(
        r"^ACL SETUSER (.*)$", (ROOT / "docs" / "valkey.md").read_text(encoding="utf-8"), re.MULTILINE
    )[1]
    shipped = (DEPLOY / "compose-valkey" / "valkey-users.example").read_text(encoding="utf-8")
    assert shipped.splitlines() == ["user default off", f"user {documented}"]
    granted = ECS["Resources"]["ValkeyUser"]["Properties"]["AccessString"].split()
    assert (
        granted
        == documented.replace("watchdog on >PASSWORD ~{wd:* resetchannels", "on ~{wd:* resetchannels -@all").split()
    )


def test_every_container_is_closed():
    for name, service in [*COMPOSE["services"].items(), *THREE["services"].items()]:
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    pod, inner = manifest("statefulset")["spec"]["template"]["spec"], container()["securityContext"]
    (user,) = re.findall(r"^USER (\d+):\d+$", IMAGE, re.MULTILINE)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    assert not pod["enableServiceLinks"]
    assert inner == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert task()["ReadonlyRootFilesystem"]
    assert task()["User"].split(":")[0] == user
    assert task()["LinuxParameters"]["Capabilities"]["Drop"] == ["ALL"]


def test_a_policy_of_the_network_names_its_pods_and_the_name_server_alone():
    spec = manifest("networkpolicy")["spec"]
    labels = manifest("statefulset")["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"] == labels
    assert manifest("poddisruptionbudget")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("service")["spec"]["selector"] == labels
    # kustomize would write the pod's labels into this one, too.
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))
    assert not any(each.get("includeSelectors") for each in kustomization["labels"])


def uses(**variables):
    return needs.uses(Settings.load(policy_table.NEEDED | {"WATCHDOG_ADMIN_TOKENS": "a"} | variables))


def policies():
    """The files of deploy/iam/, as they should be."""
    place = Place(INSTANCE_ARN, None)
    return {
        "policy.json": policy([place], uses()),
        "policy-dry-run.json": policy([place], uses(WATCHDOG_DRY_RUN="true")),
    }


def test_the_policies_are_current():
    found = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (DEPLOY / "iam").glob("*.json")}
    assert found == policies(), "run: python -m tests.deploy.test_deploy"


def test_the_task_may_what_the_daemon_needs_and_no_more():
    def plain(value):
        if isinstance(value, tuple):
            assert value[0] == "Sub"
            return value[1].replace("${ConnectInstanceArn}", INSTANCE_ARN)
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value

    (own,) = ECS["Resources"]["TaskRole"]["Properties"]["Policies"]
    statements = [{key: plain(value) for key, value in each.items()} for each in own["PolicyDocument"]["Statement"]]
    assert statements == policies()["policy.json"]["Statement"]
    assert "ManagedPolicyArns" not in ECS["Resources"]["TaskRole"]["Properties"]


def test_the_executing_role_reads_the_secrets_of_the_task_and_no_others():
    (own,) = ECS["Resources"]["ExecutionRole"]["Properties"]["Policies"]
    (statement,) = own["PolicyDocument"]["Statement"]
    for valkey in (False, True):
        resources = chosen(statement["Resource"], valkey=valkey)
        assert resources == [each["ValueFrom"] for each in task(valkey=valkey)["Secrets"]]


# Probes and alarms.


def test_probes_ask_for_life_and_the_way_of_heartbeats_for_readiness():
    probes = {kind: container()[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert ECS["Resources"]["Targets"]["Properties"]["HealthCheckPath"] == "/readyz"
    command = " ".join(task()["HealthCheck"]["Command"])
    assert command == "CMD python -m watchdog.alive 127.0.0.1 8080"
    assert shlex.split("python -m watchdog.alive $WATCHDOG_HOST") == re.search(r"exec (python \S+ \S+ \S+)", IMAGE)[
        1
    ].split(" ")


def test_alarms_look_for_events_that_there_are():
    filters = [each["Properties"] for each in ECS["Resources"].values() if each["Type"] == "AWS::Logs::MetricFilter"]
    patterns = " ".join(each["FilterPattern"] for each in filters)
    events = set(re.findall(r"\$\.event = \"([^\"]+)\"", patterns))
    documented = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", (ROOT / "docs" / "events.md").read_text(), re.MULTILINE))
    assert events
    assert events <= documented | set(EVENTS.values())
    watched = {each["MetricTransformations"][0]["MetricName"] for each in filters}
    alarms = [each["Properties"] for each in ECS["Resources"].values() if each["Type"] == "AWS::CloudWatch::Alarm"]
    assert watched <= {each["MetricName"] for each in alarms}


if __name__ == "__main__":
    for file, content in policies().items():
        (DEPLOY / "iam" / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
