"""The policy: its decision table, a naive second reading of it, and what the rest of the daemon asks of rules."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.core.policy_table import TABLE, in_words
from watchdog.core.model import Outcome
from watchdog.core.policy import (
    Act,
    Facts,
    FileAgain,
    OnContact,
    Rule,
    Skip,
    Stage,
    WaitForContact,
    by_contact,
    decide,
    first_timer_s,
    is_dismissible,
    is_live,
    never_applies,
    rule_of,
    rule_on_return,
    stage_of,
    timers,
)

OFFLINE = Stage(5.0, None, sign_out=False)


def rule(
    name: str = "r",
    profiles: tuple[str, ...] = (),
    states: tuple[str, ...] = (),
    *after: float,
    on_contact: OnContact = OnContact.NEXT_STATUS,
    initial: str | None = "Available",
) -> Rule:
    stages = tuple(Stage(after_s, None, sign_out=False) for after_s in after or (5.0,))
    return Rule(name, profiles, states, stages, on_contact, dismiss=True, initial=initial)


# The table.


@pytest.mark.parametrize(
    ("group", "row"), [pytest.param(g, r, id=f"{g.title}: {r.decision}") for g in TABLE for r in g.rows]
)
def test_a_row_of_the_table(group, row):
    decision = decide(group.rules, row.facts, row.silent_s)
    assert in_words(decision, row.facts) == row.decision


def test_each_decision_that_ends_it_tells_why_in_a_sentence():
    told = [
        decide(group.rules, row.facts, row.silent_s).reason
        for group in TABLE
        for row in group.rows
        if row.decision.startswith("skipped")
    ]
    assert told
    assert all(reason.endswith(".") and len(reason) > 30 for reason in told)


def test_an_unknown_profile_and_an_agent_who_is_not_shown_are_told_as_such():
    rules = (rule("sales", ("sales",), ("Available",)),)
    unknown = decide(rules, Facts(None, "1", "Available"), 6)
    assert isinstance(unknown, Skip)
    assert "not known" in unknown.reason
    other = decide(rules, Facts("Billing", "1", "Available"), 6)
    assert isinstance(other, Skip)
    assert "'Billing'" in other.reason
    absent = decide(rules, Facts("Sales", None, None), 6)
    assert isinstance(absent, Skip)
    assert "does not show" in absent.reason
    busy = decide(rules, Facts("Sales", "2", "Busy"), 6)
    assert isinstance(busy, Skip)
    assert "'Busy'" in busy.reason


def test_the_end_of_the_timer_is_over_so_that_rounding_files_nobody_again_for_ever():
    assert isinstance(decide((rule(),), Facts("S", "1", "A"), 5.0), Act)
    assert decide((rule(),), Facts("S", "1", "A"), 4.999) == FileAgain(5.0)


def test_a_profile_is_looked_for_in_any_case_of_any_alphabet():
    rules = (rule("s", ("STRASSE",)),)
    assert isinstance(decide(rules, Facts("Straße 5", "1", "A"), 6), Act)


# A second reading of the table, as plainly as can be.


def profile_fits(rule, profile):
    if not rule.profiles:
        return True
    if profile is None:
        return False
    return [entry for entry in rule.profiles if profile.casefold().find(entry.casefold()) >= 0] != []


def state_fits(rule, facts):
    if not rule.states:
        return True
    if facts.status_name is None:
        return False
    wanted = [entry.casefold() for entry in rule.states]
    return facts.status_name.casefold() in wanted or facts.status_id in wanted


def naively(rules, facts, silent):
    """What the documentation says, word by word."""
    for_profile = [each for each in rules if profile_fits(each, facts.profile)]
    fitting = [each for each in for_profile if state_fits(each, facts)]
    may_apply = list(rules) if facts.profile is None else for_profile
    longer = sorted(each.stages[0].after_s for each in may_apply if each.stages[0].after_s > silent)
    if fitting and fitting[0].stages[0].after_s <= silent:
        nobodys = ["MISSED", "ENDED", "REJECTED", "ERROR", "INCOMING"]
        busy = [state for state in facts.contacts if state not in nobodys]
        if busy and fitting[0].on_contact.value == "wait":
            return ("wait", fitting[0].name)
        if busy and fitting[0].on_contact.value == "skip":
            return ("skipped_contact",)
        return ("act", fitting[0].name)
    if longer:
        return ("again", longer[0])
    return ("skipped_state",) if for_profile else ("skipped_profile",)


def reading(decision):
    match decision:
        case FileAgain():
            return ("again", decision.timer_s)
        case WaitForContact():
            return ("wait", decision.rule.name)
        case Skip():
            return (decision.outcome.value,)
        case Act():
            return ("act", decision.rule.name)


PROFILES = ("Sales", "sales emea", "SUPPORT", "emea")
STATES = ("Available", "available", "Break", "id-1", "id-2")
TIMES = (0.0, 5.0, 5.5, 30.0, 300.0)

SETS_OF_RULES = st.lists(
    st.builds(
        Rule,
        st.just("r"),
        st.lists(st.sampled_from(PROFILES), max_size=2).map(tuple),
        st.lists(st.sampled_from(STATES), max_size=2).map(tuple),
        st.lists(st.sampled_from(TIMES), min_size=1, max_size=2, unique=True).map(
            lambda after: tuple(Stage(each, None, sign_out=False) for each in sorted(after))
        ),
        st.sampled_from(OnContact),
        st.booleans(),
        st.sampled_from(("Available", "previous", None)),
    ),
    min_size=1,
    max_size=4,
).map(lambda rules: tuple(dataclasses.replace(each, name=f"r{n}") for n, each in enumerate(rules)))

FACTS = st.builds(
    lambda profile, status, contacts: Facts(profile, *(status or (None, None)), contacts),
    st.sampled_from((None, "Sales", "EMEA Sales", "Support", "Billing")),
    st.sampled_from((None, ("id-1", "Available"), ("id-2", "Break"), ("id-3", "Lunch"))),
    st.lists(
        st.sampled_from(
            (
                *("INCOMING", "PENDING", "CONNECTING", "CONNECTED", "CONNECTED_ONHOLD"),
                *("MISSED", "ERROR", "ENDED", "REJECTED", "TRANSFERRED"),
            )
        ),
        max_size=2,
    ).map(tuple),
)


@given(SETS_OF_RULES, FACTS, st.sampled_from((0.0, 4.0, 5.0, 5.2, 6.0, 30.0, 31.0, 301.0)))
@example((rule("a", ("x",), (), 30.0), rule("b", (), (), 5.0)), Facts(None, "1", "A"), 6.0)
def test_the_policy_decides_as_a_naive_reading_of_the_table(rules, facts, silent):
    assert reading(decide(rules, facts, silent)) == naively(rules, facts, silent)


@given(SETS_OF_RULES, FACTS)
def test_filing_again_ends(rules, facts):
    silent = first_timer_s(rules)
    for _ in timers(rules):
        decision = decide(rules, facts, silent)
        if not isinstance(decision, FileAgain):
            return
        assert decision.timer_s > silent
        assert decision.timer_s in timers(rules)
        silent = decision.timer_s
    pytest.fail("still filed again after the last timer")


@given(SETS_OF_RULES, FACTS)
def test_a_rule_that_never_applies_is_never_the_first_that_matches(rules, facts):
    for number, each in enumerate(rules):
        if never_applies(rules[:number], each):
            decision = decide(rules, facts, 1000.0)
            assert getattr(decision, "rule", None) is not each


@pytest.mark.parametrize(
    ("earlier", "later", "never"),
    [
        ([], rule(), False),
        ([rule()], rule("x", ("sales",)), True),
        ([rule("x", ("sales",))], rule(), False),
        ([rule("x", ("sales",))], rule("y", ("EMEA Sales",)), True),
        ([rule("x", ("EMEA Sales",))], rule("y", ("sales",)), False),
        ([rule("x", ("sales",)), rule("y", ("support",))], rule("z", ("support", "Sales")), True),
        ([rule("x", ("sales",)), rule("y", ("support",))], rule("z", ("support", "billing")), False),
        ([rule("x", (), ("Lunch",))], rule("y", ("sales",), ("lunch",)), True),
        ([rule("x", (), ("Lunch",))], rule("y", ("sales",), ("lunch", "break")), False),
        ([rule("x", (), ("Lunch",)), rule("w", ("s",), ("break",))], rule("y", ("s",), ("lunch", "break")), True),
        ([rule("x", (), ("Lunch",))], rule("y", ("sales",)), False),
        ([rule("x", ("sales",), ("Lunch",))], rule("y", (), ("Lunch",)), False),
    ],
)
def test_which_rule_can_never_apply(earlier, later, never):
    assert never_applies(earlier, later) is never


# What else is asked of rules.


def test_timers_are_those_of_the_first_stages_each_once_and_rising():
    rules = (rule("a", (), (), 30.0, 300.0), rule("b", (), (), 5.0), rule("c", (), (), 30.0))
    assert timers(rules) == (5.0, 30.0)
    assert first_timer_s(rules) == 5.0


def test_a_later_stage_is_found_by_name_and_number_and_may_be_gone():
    rules = (rule("a", ("x",), (), 30.0, 300.0), rule("b"))
    assert stage_of(rules, "a", 1) == Stage(300.0, None, sign_out=False)
    assert stage_of(rules, "a", 0) == Stage(30.0, None, sign_out=False)
    assert stage_of(rules, "a", 2) is None
    assert stage_of(rules, "a", -1) is None
    assert stage_of(rules, "b", 1) is None
    assert stage_of(rules, "gone", 0) is None
    assert rule_of(rules, "b") is rules[1]
    assert rule_of(rules, "gone") is None


def initial_of(rules: tuple[Rule, ...], profile: str | None) -> str | None:
    found = rule_on_return(rules, profile)
    return None if found is None else found.initial


def test_the_initial_state_is_that_of_the_first_rule_for_the_profile_whatever_its_states():
    rules = (
        rule("a", ("sales",), ("Lunch",), initial="previous"),
        rule("b", ("sales",), initial="Busy"),
        rule("c", ("support",), initial=None),
        rule("d", ("field",), initial="Busy"),
    )
    assert initial_of(rules, "EMEA Sales") == "previous"
    assert initial_of(rules, "Support") is None
    assert initial_of(rules, "Billing") is None
    assert initial_of(rules, None) is None
    assert initial_of((*rules, rule("default")), None) == "Available"


@pytest.mark.parametrize(
    ("state", "live", "engaged", "dismissible"),
    [
        ("INCOMING", True, False, False),
        ("PENDING", True, True, False),
        ("CONNECTING", True, True, False),
        ("CONNECTED", True, True, False),
        ("CONNECTED_ONHOLD", True, True, False),
        ("MISSED", False, False, True),
        ("ERROR", False, False, True),
        ("ENDED", False, False, True),
        ("REJECTED", False, False, True),
        ("SOMETHING_NEW", True, True, False),
        ("", True, True, False),
    ],
)
def test_states_of_contacts(state, live, engaged, dismissible):
    assert is_live(state) is live
    assert is_dismissible(state) is dismissible
    assert isinstance(by_contact(rule(on_contact=OnContact.WAIT), (state,)), WaitForContact) is engaged
    skipped = by_contact(rule(on_contact=OnContact.SKIP), ("ENDED", state))
    assert isinstance(skipped, Skip) is engaged
    if isinstance(skipped, Skip):
        assert skipped.outcome is Outcome.SKIPPED_CONTACT
    assert by_contact(rule(), (state,)) is None
