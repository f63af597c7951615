"""Settings of the policy: filters, contacts, the return, reason codes and rules; what a careless hand writes."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from tests.test_settings import GOOD, fault, faults, load
from watchdog.core.policy import OnContact, Rule, Stage
from watchdog.errors import SettingsError
from watchdog.settings import Instance, Settings


def rules(*entries, **changes):
    return load(RULES=json.dumps(entries), **changes).rules_in_force


def lines(value, **changes):
    """The faults in RULES, without what each line begins and ends with."""
    text = value if isinstance(value, str) else json.dumps(value)
    found = faults(GOOD | {"WATCHDOG_RULES": text} | {f"WATCHDOG_{name}": v for name, v in changes.items()})
    assert all(line.startswith('WATCHDOG_RULES: got "') and "\n" not in line for line in found)
    assert all(line.endswith("; takes a JSON list of rules") for line in found)
    return [line.split('"; ', 1)[1].removesuffix("; takes a JSON list of rules") for line in found]


NIGHT = {"name": "night", "if_profile_name_includes": ["Night"]}


# Plain variables.


def test_a_text_in_brackets_is_no_json():
    assert load(IF_PROFILE_NAME_INCLUDES="[EMEA], {x}").if_profile_name_includes == ("[EMEA]", "{x}")


def test_without_any_of_them_one_rule_sets_everybody_offline_and_back_to_available():
    assert load().rules_in_force == (
        Rule(
            "default",
            (),
            (),
            (Stage(5, None, sign_out=False),),
            OnContact.NEXT_STATUS,
            dismiss=True,
            initial="Available",
        ),
    )
    assert load().reason_codes == {}


def test_the_plain_variables_are_the_rule_named_default():
    (rule,) = load(
        STATUS="Gone home",
        SESSION_END_TIMER="30",
        IF_PROFILE_NAME_INCLUDES=" Sales , EMEA support",
        IF_CURRENT_AGENT_STATE="Available,Lunch",
        INITIAL_AGENT_STATE="Busy",
        ON_CONTACT="WAIT",
        DISMISS_CONTACTS="false",
    ).rules_in_force
    assert rule == Rule(
        "default",
        ("Sales", "EMEA support"),
        ("Available", "Lunch"),
        (Stage(30, "Gone home", sign_out=False),),
        OnContact.WAIT,
        dismiss=False,
        initial="Busy",
    )


@pytest.mark.parametrize("word", ["Logout", "logout", "LOGOUT", " Logout "])
def test_logout_in_any_case_is_a_sign_out(word):
    settings = load(STATUS=word)
    assert settings.status == "Logout"
    assert settings.rules_in_force[0].stages == (Stage(5, None, sign_out=True),)


@pytest.mark.parametrize(("word", "initial"), [("None", None), ("PREVIOUS", "previous"), ("Busy", "Busy")])
def test_the_words_of_the_initial_state_are_read_in_any_case(word, initial):
    assert load(INITIAL_AGENT_STATE=word).rules_in_force[0].initial == initial


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"IF_PROFILE_NAME_INCLUDES": ""}, "it is empty; unset it for the default"),
        ({"IF_PROFILE_NAME_INCLUDES": "  "}, "it is empty; unset it for the default"),
        ({"IF_PROFILE_NAME_INCLUDES": "Sales,"}, "entry 2 is empty"),
        ({"IF_PROFILE_NAME_INCLUDES": "Sales, ,x"}, "entry 2 is empty"),
        ({"IF_PROFILE_NAME_INCLUDES": "Sales,sales"}, '"Sales" is there 2 times'),
        ({"IF_PROFILE_NAME_INCLUDES": "x" * 128}, "entry 1: it has more than 127 characters"),
        ({"IF_PROFILE_NAME_INCLUDES": '["Sales"]'}, "this is JSON; it takes the texts themselves"),
        ({"IF_PROFILE_NAME_INCLUDES": '"Sales"'}, "entry 1: it is in quotation marks"),
        ({"IF_PROFILE_NAME_INCLUDES": "*"}, "entry 1: there are no wildcards"),
        ({"IF_PROFILE_NAME_INCLUDES": "Sales*"}, "entry 1: there are no wildcards"),
        ({"IF_CURRENT_AGENT_STATE": "arn:aws:connect:x"}, "entry 1: this is an ARN; give the name, or the id at its"),
        ({"STATUS": '"Offline"'}, "it is in quotation marks"),
        ({"INITIAL_AGENT_STATE": "'Available'"}, "it is in quotation marks"),
        ({"IF_CURRENT_AGENT_STATE": "Lunch\tbreak"}, "entry 1: it has a character that cannot be shown"),
        ({"IF_CURRENT_AGENT_STATE": "Lunch;Break,"}, "entry 2 is empty"),
        ({"INITIAL_AGENT_STATE": ""}, 'it is empty; "none" sets none'),
        ({"INITIAL_AGENT_STATE": "Logout"}, "Logout is no status to return to"),
        ({"INITIAL_AGENT_STATE": "x" * 128}, "it has more than 127 characters"),
        ({"ON_CONTACT": "next"}, "takes next_status, wait or skip"),
        ({"DISMISS_CONTACTS": "maybe"}, "takes true or false"),
        ({"REASON_CODES": ""}, "it is empty; unset it for the default"),
        ({"REASON_CODES": "lunch=Lunch"}, "this is not JSON ("),
        ({"REASON_CODES": '{"1": "Lunch",}'}, "this is not JSON ("),
        ({"REASON_CODES": '["1"]'}, "this is not a JSON object"),
        ({"REASON_CODES": '{"1": "Lunch", "1": "Break"}'}, '"1" is there 2 times'),
        ({"REASON_CODES": '{"1": 2}'}, 'code "1": got 2; takes a text'),
        ({"REASON_CODES": '{"1": null}'}, 'code "1": got null; takes a text'),
        ({"REASON_CODES": '{"1": " "}'}, 'code "1": it is empty'),
        ({"REASON_CODES": '{"1": "LOGOUT"}'}, 'code "1": Logout is no status'),
        ({"REASON_CODES": '{"": "Lunch"}'}, "code 1: it is empty"),
        ({"REASON_CODES": '{" 1": "Lunch"}'}, "code 1: it has blanks at its ends"),
    ],
)
def test_a_refusal_says_what_is_wrong(changes, reason):
    assert reason in fault(**changes)


def test_reason_codes_lead_to_statuses():
    assert load(REASON_CODES='{"1": "Lunch", "home": "id-7"}').reason_codes == {"1": "Lunch", "home": "id-7"}
    assert load(REASON_CODES="{}").reason_codes == {}
    assert len(faults(GOOD | {"WATCHDOG_REASON_CODES": '{"1": "", "2": "Logout"}'})) == 2


# Rules.


def test_a_rule_takes_from_the_plain_variables_what_it_leaves_out_but_no_filter():
    first, last = rules(
        NIGHT,
        STATUS="Away",
        SESSION_END_TIMER="30",
        IF_PROFILE_NAME_INCLUDES="Sales",
        IF_CURRENT_AGENT_STATE="Available",
        INITIAL_AGENT_STATE="none",
        ON_CONTACT="skip",
        DISMISS_CONTACTS="false",
    )
    assert first == Rule(
        "night", ("Night",), (), (Stage(30, "Away", sign_out=False),), OnContact.SKIP, dismiss=False, initial=None
    )
    assert last.name == "default"


def test_a_rule_says_everything_itself():
    entry = NIGHT | {
        "if_current_agent_state": ["Lunch", "id-1"],
        "session_end_timer": 0,
        "status": "logout",
        "on_contact": "wait",
        "initial_agent_state": "previous",
        "dismiss_contacts": False,
    }
    assert rules(entry)[0] == Rule(
        "night",
        ("Night",),
        ("Lunch", "id-1"),
        (Stage(0, None, sign_out=True),),
        OnContact.WAIT,
        dismiss=False,
        initial="previous",
    )


def test_a_rule_may_ask_for_the_offline_status_where_the_plain_variable_names_another():
    assert rules(NIGHT | {"status": None}, STATUS="Away")[0].stages == (Stage(5, None, sign_out=False),)


def test_stages_stand_in_place_of_timer_and_status():
    stages = [{"after": 30, "status": "Away"}, {"after": 60.5, "status": None}, {"after": 86400, "status": "LOGOUT"}]
    assert rules(NIGHT | {"stages": stages}, STATUS="Logout", SESSION_END_TIMER="1")[0].stages == (
        Stage(30, "Away", sign_out=False),
        Stage(60.5, None, sign_out=False),
        Stage(86400, None, sign_out=True),
    )


def test_rules_keep_their_order_and_the_plain_ones_come_last():
    found = rules(NIGHT, {"name": "lunch", "if_current_agent_state": ["Lunch"]})
    assert [rule.name for rule in found] == ["night", "lunch", "default"]
    assert load(RULES="[]").rules_in_force == load().rules_in_force


def test_after_a_rule_for_everybody_the_plain_variables_only_fill_in():
    (rule,) = rules({"name": "all", "status": "Away"}, SESSION_END_TIMER="7")
    assert (rule.name, rule.stages) == ("all", (Stage(7, "Away", sign_out=False),))


def one(change, *without):
    return [{key: value for key, value in (NIGHT | change).items() if key not in without}]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "it is empty; unset it for the default"),
        ("night", "this is not JSON ("),
        ('[{"name": "night"},]', "this is not JSON ("),
        ("[" * 100_000, "this is not JSON ("),
        ('[{"name": "n", "if_current_agent_state": ["x"], "session_end_timer": NaN}]', "this is not JSON (NaN"),
        ({"name": "night"}, "this is not a JSON list"),
        ("null", "this is not a JSON list"),
        (["night"], 'entry 1: got "night"; takes a JSON object'),
        ([{}], "entry 1: name: is missing"),
        (one({}, "name"), "entry 1: name: is missing"),
        (one({"name": 7}), "entry 1: name: got 7; takes a text"),
        (one({"name": ""}), "entry 1: name: it is empty"),
        (one({"name": " night"}), "entry 1: name: it has blanks at its ends"),
        (one({"name": "Default"}), 'entry 1: name: "default" is the rule that the plain variables make'),
        ([NIGHT, {"name": "NIGHT", "if_current_agent_state": ["x"]}], 'rule "NIGHT": name: another rule is called so'),
        (
            '[{"name": "n", "if_current_agent_state": ["x"], "status": "a", "status": "b"}]',
            'rule "n": status: is there 2 times',
        ),
        (one({"timer": 5}), 'rule "night": timer: is not known here; takes name, '),
        (one({"sesion_end_timer": 5}), 'sesion_end_timer: is not known here; did you mean "session_end_timer"?'),
        (one({"if_profile_name_includes": "Night"}), 'if_profile_name_includes: got "Night"; takes a list of texts'),
        (one({"if_profile_name_includes": []}), "if_profile_name_includes: it is empty; leave it out for all"),
        (one({"if_profile_name_includes": [""]}), "if_profile_name_includes: entry 1: it is empty"),
        (one({"if_profile_name_includes": ["a", "  "]}), "if_profile_name_includes: entry 2: it is empty"),
        (one({"if_profile_name_includes": [1]}), "if_profile_name_includes: entry 1: got 1; takes a text"),
        (one({"if_profile_name_includes": ["a", "A"]}), 'if_profile_name_includes: "a" is there 2 times'),
        (one({"if_profile_name_includes": None}), "if_profile_name_includes: got null; takes a list of texts"),
        (one({"if_current_agent_state": {"x": 1}}), "if_current_agent_state: got {"),
        (one({"if_current_agent_state": ["Lunch "]}), "if_current_agent_state: entry 1: it has blanks at its ends"),
        (one({"session_end_timer": "30"}), 'session_end_timer: got "30"; takes seconds from 0 to 86400, a number'),
        (one({"session_end_timer": True}), "session_end_timer: got true; takes seconds from 0 to 86400, a number"),
        (one({"session_end_timer": -1}), "session_end_timer: got -1; takes seconds from 0 to 86400"),
        (one({"session_end_timer": 86400.5}), "session_end_timer: got 86400.5; takes seconds from 0 to 86400"),
        (one({"session_end_timer": 10**400}), "session_end_timer: got 1000"),
        (one({"session_end_timer": None}), "session_end_timer: got null; takes seconds"),
        (one({"status": ""}), "status: it is empty; null is the status of type OFFLINE"),
        (one({"status": 5}), "status: got 5; takes a text"),
        (one({"status": "x" * 128}), "status: it has more than 127 characters"),
        (one({"on_contact": "never"}), 'on_contact: got "never"; takes next_status, wait or skip'),
        (one({"on_contact": None}), "on_contact: got null; takes next_status, wait or skip"),
        (one({"on_contact": ["wait"]}), 'on_contact: got ["wait"]; takes next_status, wait or skip'),
        (one({"dismiss_contacts": "true"}), 'dismiss_contacts: got "true"; takes true or false, without quotation'),
        (one({"dismiss_contacts": 1}), "dismiss_contacts: got 1; takes true or false"),
        (one({"initial_agent_state": None}), 'initial_agent_state: got null; takes a text ("none" sets none)'),
        (one({"initial_agent_state": "Logout"}), "initial_agent_state: Logout is no status to return to"),
        (one({"stages": []}), "stages: it is empty; takes a list of"),
        (one({"stages": {"after": 5, "status": "x"}}), "stages: got {"),
        (one({"stages": ["x"]}), 'stages: stage 1: got "x"; takes a JSON object'),
        (one({"stages": [{"after": 5}]}), "stages: stage 1: status: is missing"),
        (one({"stages": [{"status": "x"}]}), "stages: stage 1: after: is missing"),
        (one({"stages": [{"after": "5", "status": "x"}]}), 'stages: stage 1: after: got "5"; takes seconds'),
        (one({"stages": [{"after": 5, "status": "x", "then": 1}]}), "stages: stage 1: then: is not known here"),
        (
            one({"stages": [{"after": 5, "status": "x"}, {"after": 5, "status": "y"}]}),
            "stages: stage 2: after: must be more than that of the stage before, 5",
        ),
        (
            one({"stages": [{"after": 5, "status": "Logout"}, {"after": 9, "status": "y"}]}),
            "stages: stage 2: nothing can follow Logout",
        ),
        (
            one({"stages": [{"after": 5, "status": "Away"}, {"after": 9, "status": "away"}]}),
            "stages: stage 2: status: is that of the stage before",
        ),
        (one({"stages": [{"after": 5, "status": "x"}], "status": "y"}), "stages: cannot stand together with status"),
        (
            one({"stages": [{"after": 5, "status": "x"}], "session_end_timer": 9}),
            "stages: cannot stand together with session_end_timer",
        ),
        ([{"name": "all"}, NIGHT], 'rule "night": can never apply: rules before it match everybody whom it matches'),
        ([NIGHT, NIGHT | {"name": "x"}], 'rule "x": can never apply'),
    ],
)
def test_a_fault_in_a_rule_is_told_with_the_rules_name(value, reason):
    (line,) = lines(value)
    assert reason in line
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and value[0].get("name") == "night":
        assert line.startswith('rule "night": ')


def test_plain_filters_after_a_rule_for_everybody_can_never_apply():
    (line,) = lines([{"name": "all"}], IF_PROFILE_NAME_INCLUDES="Sales")
    assert line.startswith('rule "default" (the plain variables): can never apply')


def test_all_faults_of_all_rules_are_told_at_once():
    found = lines(
        [
            {"name": "a", "session_end_timer": "5", "status": ""},
            {"name": "b", "if_current_agent_state": ["x"]},
            {"name": "c", "if_current_agent_state": ["X"], "on_contact": "wait"},
            {"name": "d", "if_profile_name_includes": "Sales", "stages": [{"after": 2, "status": "x"}, {"after": 1}]},
            5,
        ]
    )
    assert [line.partition(": ")[0] for line in found] == [
        'rule "a"',
        'rule "a"',
        'rule "d"',
        'rule "d"',
        'rule "d"',
        "entry 5",
        'rule "c"',
    ]


def test_a_fault_elsewhere_is_told_beside_those_of_rules():
    found = faults(GOOD | {"WATCHDOG_RULES": '[{"name": 1}]', "WATCHDOG_SESSION_END_TIMER": "x"})
    assert [line.partition(":")[0] for line in found] == ["WATCHDOG_SESSION_END_TIMER", "WATCHDOG_RULES"]


def test_settings_show_the_rules_as_they_are_in_force_and_take_them_back():
    given = load(
        RULES=json.dumps(
            [
                NIGHT | {"stages": [{"after": 30, "status": None}, {"after": 300, "status": "Logout"}]},
                {"name": "lunch", "if_current_agent_state": ["Lunch"], "initial_agent_state": "none"},
            ]
        ),
        REASON_CODES='{"1": "Mittag"}',
        IF_PROFILE_NAME_INCLUDES="Ventas,Soporte",
        ON_CONTACT="wait",
        STATUS="Logout",
    )
    rows = {row.variable: row.value for row in given.describe()}
    assert rows["WATCHDOG_IF_PROFILE_NAME_INCLUDES"] == "Ventas,Soporte"
    assert rows["WATCHDOG_ON_CONTACT"] == "wait"
    assert json.loads(rows["WATCHDOG_REASON_CODES"] or "") == {"1": "Mittag"}
    assert json.loads(rows["WATCHDOG_RULES"] or "")[1] == {
        "name": "lunch",
        "if_current_agent_state": ["Lunch"],
        "session_end_timer": 5,
        "status": "Logout",
        "on_contact": "wait",
        "initial_agent_state": "none",
        "dismiss_contacts": True,
    }
    again = Settings.load(GOOD | {name: value for name, value in rows.items() if value and "***" not in value})
    assert again.model_dump() == given.model_dump()
    assert again.rules_in_force == given.rules_in_force
    empty = {row.variable: row.value for row in load().describe()}
    assert (empty["WATCHDOG_RULES"], empty["WATCHDOG_REASON_CODES"]) == (None, None)


def test_rules_made_by_hand_are_checked_too():
    everybody = Rule("all", (), (), (Stage(5, None, sign_out=False),), OnContact.WAIT, dismiss=True, initial=None)
    given = {"instances": (Instance(instance_id="i-1"),), "heartbeat_tokens": (SecretStr("x"),)}
    assert Settings(rules=(everybody,), **given).rules_in_force == (everybody,)
    with pytest.raises(ValidationError, match="entry 1: it is empty"):
        Settings(if_profile_name_includes=("",), **given)
    with pytest.raises(ValidationError, match="can never apply"):
        Settings(rules=(everybody, dataclasses.replace(everybody, name="x")), **given)


TEXTS = st.text(st.characters(categories=("L", "N", "P", "Zs"), exclude_characters="*"), min_size=1, max_size=9).filter(
    lambda text: text == text.strip() and text.isprintable() and not text.startswith("arn:")
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ENTRIES = st.dictionaries(
    st.sampled_from(
        (
            *("name", "if_profile_name_includes", "if_current_agent_state", "session_end_timer", "status", "stages"),
            *("on_contact", "initial_agent_state", "dismiss_contacts", "after"),
        )
    ),
    ANY_JSON | st.lists(st.fixed_dictionaries({"after": ANY_JSON, "status": ANY_JSON}), max_size=2),
)


@given(st.lists(ENTRIES, max_size=2) | ANY_JSON)
def test_whatever_is_written_is_taken_as_it_says_or_refused_a_line_for_each_fault(value):
    try:
        settings, found = load(RULES=json.dumps(value)), None
    except SettingsError as error:
        settings, found = None, error.faults
    if settings is None:
        assert found
        assert not [line for line in found if "\n" in line or not line.startswith("WATCHDOG_RULES: got ")]
        return
    assert [rule.name for rule in settings.rules] == [entry["name"] for entry in value]
    (row,) = [row.value for row in settings.describe() if row.variable == "WATCHDOG_RULES"]
    assert load(RULES=row or "[]").rules_in_force == settings.rules_in_force


@given(
    st.lists(TEXTS, min_size=1, max_size=3, unique_by=str.casefold),
    st.lists(TEXTS, max_size=2, unique_by=str.casefold),
    st.floats(0, 86_400),
)
def test_a_good_rule_is_taken_to_the_letter(profiles, states, after):
    entry = {"name": "x", "if_profile_name_includes": profiles, "session_end_timer": after, "status": "Away"}
    rule = rules(entry | ({"if_current_agent_state": states} if states else {}))[0]
    assert (rule.profiles, rule.states) == (tuple(profiles), tuple(states))
    assert rule.stages == (Stage(after, "Away", sign_out=False),)
