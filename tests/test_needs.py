"""What settings need of Connect: the names with where they stand, and the policy, without a call."""

import json

import pytest

from watchdog.connect.answers import Status, StatusType
from watchdog.connect.api import Instance
from watchdog.connect.names import Kind
from watchdog.grants import OWN, Bus, Known, grants
from watchdog.needs import named, uses
from watchdog.settings import Settings

ROLE = "arn:aws:iam::210987654321:role/presence"
ARN = "arn:aws:connect:us-east-1:123456789012:instance/i-1"
IDS = {
    name: f"00000000-0000-4000-8000-00000000000{number}"
    for number, name in enumerate(("Available", "Offline", "Lunch"))
}
STATUSES = tuple(
    Status(
        status_id,
        f"{ARN}/agent-state/{status_id}",
        name,
        {"Available": StatusType.ROUTABLE, "Offline": StatusType.OFFLINE}.get(name, StatusType.CUSTOM),
    )
    for name, status_id in IDS.items()
)


ONE = (Instance("i-1"),)


def settings(**variables):
    """Settings without an admin token: nobody can ask for an explicit logout."""
    given = {"INSTANCES": "i-1", "HEARTBEAT_TOKENS": "t", **variables}
    return Settings.load(
        {f"WATCHDOG_{name}": text if isinstance(text, str) else json.dumps(text) for name, text in given.items()}
    )


def names(**variables):
    return [(each.where, each.name, each.kind) for each in named(settings(**variables))]


def granted(known=None, instances=ONE, **variables):
    """The grants with one instance that was listed, unless told otherwise."""
    chosen = settings(**variables)
    known = known or {each.instance_id: Known(STATUSES, None, "us-east-1") for each in instances}
    return grants(instances, known, named(chosen), uses(chosen))


def allowed(**variables):
    """Resources by action."""
    (grant,) = granted(**variables)
    found = {each["Action"].removeprefix("connect:"): each["Resource"] for each in grant.policy["Statement"]}
    return {action: [arns] if isinstance(arns, str) else arns for action, arns in found.items()}


# Names.


def test_the_defaults_name_the_offline_status_and_available():
    assert names() == [
        ("WATCHDOG_STATUS", None, Kind.TARGET),
        ("WATCHDOG_INITIAL_AGENT_STATE", "Available", Kind.INITIAL),
    ]


def test_plain_variables_are_named_by_themselves():
    assert names(
        STATUS="Lunch",
        INITIAL_AGENT_STATE="none",
        IF_PROFILE_NAME_INCLUDES="Gold,Silver",
        IF_CURRENT_AGENT_STATE="Available",
    ) == [
        ("WATCHDOG_STATUS", "Lunch", Kind.TARGET),
        ("WATCHDOG_IF_PROFILE_NAME_INCLUDES", "Gold", Kind.PROFILE),
        ("WATCHDOG_IF_PROFILE_NAME_INCLUDES", "Silver", Kind.PROFILE),
        ("WATCHDOG_IF_CURRENT_AGENT_STATE", "Available", Kind.STATE),
    ]


def test_a_rules_names_are_told_with_the_rule_and_the_stage():
    rule = {
        "name": "night",
        "if_profile_name_includes": ["Night"],
        "if_current_agent_state": ["Lunch"],
        "stages": [{"after": 5, "status": "Away"}, {"after": 300, "status": "Logout"}],
        "initial_agent_state": "Training",
    }
    where = 'WATCHDOG_RULES: rule "night": '
    assert names(RULES=[rule])[:5] == [
        (f"{where}stage 1: status", "Away", Kind.TARGET),
        (f"{where}stage 2: status", None, Kind.TARGET),
        (f"{where}initial_agent_state", "Training", Kind.INITIAL),
        (f"{where}if_profile_name_includes", "Night", Kind.PROFILE),
        (f"{where}if_current_agent_state", "Lunch", Kind.STATE),
    ]


def test_what_a_rule_takes_over_is_told_of_the_variable():
    rule = {"name": "night", "if_profile_name_includes": ["Night"]}
    own = {"name": "day", "if_profile_name_includes": ["Day"], "status": "Lunch"}
    assert [each for each in names(RULES=[rule, own], STATUS="Away") if each[2] in (Kind.TARGET, Kind.INITIAL)] == [
        ("WATCHDOG_STATUS", "Away", Kind.TARGET),
        ("WATCHDOG_INITIAL_AGENT_STATE", "Available", Kind.INITIAL),
        ('WATCHDOG_RULES: rule "day": status', "Lunch", Kind.TARGET),
    ]


def test_previous_and_none_are_no_statuses():
    assert names(INITIAL_AGENT_STATE="previous") == names(INITIAL_AGENT_STATE="none")


def test_a_reason_codes_status_is_told_with_the_code():
    assert ('WATCHDOG_REASON_CODES: code "7"', "Lunch", Kind.TARGET) in names(REASON_CODES={"7": "Lunch"})


def test_an_explicit_logout_needs_the_offline_status_whatever_else_is_set():
    assert ("an explicit logout", None, Kind.TARGET) in names(STATUS="Lunch", ADMIN_TOKENS="a")
    assert None not in [name for _, name, _ in names(STATUS="Lunch")]


# The policy.


def test_the_policy_of_the_defaults_lets_agents_have_any_status_back():
    assert allowed() == {
        "ListAgentStatuses": [f"{ARN}/agent-state/*"],
        "ListRoutingProfiles": [ARN],
        "GetCurrentUserData": [f"{ARN}/agent/*", f"{ARN}/routing-profile/*", f"{ARN}/queue/*"],
        "PutUserStatus": [
            ARN,
            f"{ARN}/agent/*",
            f"{ARN}/agent-state/*",
        ],
        "DismissUserContact": [f"{ARN}/agent/*"],
    }


READS = {"ListAgentStatuses", "ListRoutingProfiles", "GetCurrentUserData"}


@pytest.mark.parametrize(
    ("variables", "actions"),
    [
        ({}, READS | {"PutUserStatus", "DismissUserContact"}),
        ({"DISMISS_CONTACTS": "false"}, READS | {"PutUserStatus"}),
        ({"STATUS": "Logout"}, READS | {"PutUserStatus", "DismissUserContact", "DeleteAllEntitySessions"}),
        (
            {"RULES": [{"name": "n", "stages": [{"after": 1, "status": None}, {"after": 9, "status": "Logout"}]}]},
            READS | {"PutUserStatus", "DismissUserContact", "DeleteAllEntitySessions"},
        ),
        (
            {
                "RULES": [{"name": "n", "if_profile_name_includes": ["x"], "dismiss_contacts": True}],
                "DISMISS_CONTACTS": "false",
            },
            READS | {"PutUserStatus", "DismissUserContact"},
        ),
        (
            {"ADMIN_TOKENS": "a"},
            READS | {"PutUserStatus", "DismissUserContact", "DeleteAllEntitySessions", "ListRoutingProfileQueues"},
        ),
        (
            {"AUTH": "none", "DISMISS_CONTACTS": "false"},
            READS | {"PutUserStatus", "DeleteAllEntitySessions", "ListRoutingProfileQueues"},
        ),
        ({"DRY_RUN": "true", "ADMIN_TOKENS": "a"}, READS | {"ListRoutingProfileQueues"}),
    ],
)
def test_only_what_the_settings_do_is_allowed(variables, actions):
    assert set(allowed(**variables)) == actions


def states(**variables):
    return {arn.rpartition("/")[2] for arn in allowed(**variables)["PutUserStatus"] if "/agent-state/" in arn}


NO_WINDOW = {"RETURN_WINDOW": "0"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        NO_WINDOW | {"ADMIN_TOKENS": "a"},
        NO_WINDOW | {"AUTH": "none"},
        NO_WINDOW | {"INITIAL_AGENT_STATE": "previous"},
        NO_WINDOW | {"RULES": [{"name": "n", "initial_agent_state": "previous"}]},
    ],
)
def test_every_status_may_be_set_where_one_may_be_given_back(variables):
    assert states(**variables) == {"*"}


def test_where_none_is_given_back_those_that_are_set_are_pinned_and_no_other():
    assert states(**NO_WINDOW) == {IDS["Offline"], IDS["Available"]}
    assert states(**NO_WINDOW, INITIAL_AGENT_STATE="none") == {IDS["Offline"]}
    found = states(**NO_WINDOW, INITIAL_AGENT_STATE="none", REASON_CODES={"7": "lunch"})
    assert found == {IDS["Offline"], IDS["Lunch"]}
    assert states(**NO_WINDOW, STATUS="Lunch", IF_CURRENT_AGENT_STATE="Offline") == {IDS["Lunch"], IDS["Available"]}


def test_there_is_no_policy_while_a_status_that_is_to_be_set_does_not_exist():
    (grant,) = granted(STATUS="Gone")
    assert grant.policy is None
    assert grant.missing == ("Not every status that is to be set exists in instance i-1.",)


def test_without_a_listing_the_account_is_that_of_the_role():
    instance = Instance("i-1", "eu-central-1", ROLE)
    known = {"i-1": Known(None, None, "eu-central-1")}
    (own, role) = granted(known, [instance], **NO_WINDOW)
    assert (own.principal, role.principal) == (OWN, ROLE)
    assert own.policy["Statement"] == [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE}]
    arns = json.dumps(role.policy)
    assert "arn:aws:connect:eu-central-1:210987654321:instance/i-1/agent-state/*" in arns
    assert any("could not be listed" in note for note in role.notes)


def test_without_a_listing_ids_in_the_settings_are_pinned_all_the_same():
    known = {"i-1": Known(None, "123456789012", "us-east-1")}
    (grant,) = granted(known, STATUS=IDS["Lunch"], INITIAL_AGENT_STATE="none", **NO_WINDOW)
    put = next(each for each in grant.policy["Statement"] if each["Action"] == "connect:PutUserStatus")
    assert put["Resource"][2:] == [f"{ARN}/agent-state/{IDS['Lunch']}"]


@pytest.mark.parametrize(
    ("region", "account", "said"),
    [(None, None, ["region", "account"]), ("us-east-1", None, ["account"]), (None, "123456789012", ["region"])],
)
def test_what_is_not_known_is_told_and_never_made_up(region, account, said):
    (grant,) = granted({"i-1": Known(None, account, region)})
    assert grant.policy is None
    (line,) = grant.missing
    assert [word for word in ("region", "account") if f"its {word}" in line] == said


def test_each_role_has_its_own_policy():
    instances = [Instance("i-1"), Instance("i-2", "us-east-1", ROLE)]
    known = {"i-1": Known(STATUSES, None, "us-east-1"), "i-2": Known(None, None, "us-east-1")}
    own, role = granted(known, instances)
    assert "i-2" not in json.dumps(own.policy)
    assert own.policy["Statement"][-1] == {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE}
    assert "i-1" not in json.dumps(role.policy)
    assert "sts:" not in json.dumps(role.policy)


def test_other_partitions_are_named_as_they_are():
    role = ROLE.replace("arn:aws:", "arn:aws-us-gov:")
    known = {"i-1": Known(None, "123456789012", "us-gov-west-1")}
    (own,) = granted(known)
    assert "arn:aws-us-gov:connect:us-gov-west-1:123456789012:instance/i-1" in json.dumps(own.policy)
    _, other = granted(known, [Instance("i-1", "us-gov-west-1", role)])
    assert "arn:aws-us-gov:connect:us-gov-west-1:210987654321:instance/i-1" in json.dumps(other.policy)


# The event bus.

BUS = "arn:aws:events:us-east-1:123456789012:event-bus/default"


def puts(grant):
    return [each["Resource"] for each in grant.policy["Statement"] if each["Action"] == "events:PutEvents"]


def bus_grants(bus, instances=ONE):
    known = {each.instance_id: Known(STATUSES, None, "us-east-1") for each in instances}
    chosen = settings()
    return grants(instances, known, named(chosen), uses(chosen), bus)


@pytest.mark.parametrize("bus", [Bus(BUS), Bus("default", "123456789012", "us-east-1")])
def test_events_are_put_on_that_bus_alone(bus):
    (grant,) = bus_grants(bus)
    assert puts(grant) == [BUS]


def test_without_a_bus_no_events_may_be_put():
    (grant,) = bus_grants(None)
    assert puts(grant) == []


def test_events_are_put_by_the_process_itself_and_not_by_a_role():
    own, role = bus_grants(Bus(BUS), (Instance("i-1", "us-east-1", ROLE),))
    assert (own.principal, puts(own), puts(role)) == (OWN, [BUS], [])
    assert not own.assumes_only


@pytest.mark.parametrize("bus", [Bus("default", None, "us-east-1"), Bus("default", "123456789012", None)])
def test_a_bus_whose_arn_is_not_known_is_said_to_be_missing(bus):
    (grant,) = bus_grants(bus)
    assert grant.policy is None
    assert "The ARN of the event bus default is not known" in grant.missing[0]
