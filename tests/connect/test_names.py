"""Names in the settings against what instances have: a line for each fault, and none that is not one."""

from __future__ import annotations

import pytest

from watchdog.connect.answers import Status, StatusType
from watchdog.connect.names import SHOWN, Kind, Listed, Named, names_missing, targets

AVAILABLE = Status("id-1", "", "Available", StatusType.ROUTABLE)
OFFLINE = Status("id-2", "", "Offline", StatusType.OFFLINE)
LUNCH = Status("id-3", "", "Lunch", StatusType.CUSTOM)
SMALL = Status("id-4", "", "LUNCH", StatusType.CUSTOM)

EAST = Listed((AVAILABLE, OFFLINE, LUNCH), ("Gold Agents", "Silver"))
WEST = Listed((AVAILABLE, OFFLINE), ("Bronze",))
UNKNOWN = Listed(None, None)


def target(name, where="WATCHDOG_STATUS"):
    return Named(where, name, Kind.TARGET)


def state(name):
    return Named('WATCHDOG_RULES: rule "night": if_current_agent_state', name, Kind.STATE)


def profile(name):
    return Named("WATCHDOG_IF_PROFILE_NAME_INCLUDES", name, Kind.PROFILE)


def missing(*named, **listed):
    return names_missing(listed or {"east": EAST}, named)


@pytest.mark.parametrize("name", ["Lunch", "lunch", "id-3", None])
def test_a_status_that_exists_is_no_fault_by_name_in_any_case_by_id_or_by_its_type(name):
    assert missing(target(name)) == []


def test_a_status_to_set_is_told_with_the_variable_the_instance_and_what_there_is():
    assert missing(target("Lnch")) == [
        (
            'WATCHDOG_STATUS: got "Lnch"; instance east has no such status; there are: Available, Lunch, Offline; '
            'did you mean "Lunch"? Correct it, or create the status'
        )
    ]


def test_a_status_that_contacts_are_routed_to_is_none_for_ghosts_but_is_one_for_who_returns():
    assert missing(target("Available")) == [
        (
            'WATCHDOG_STATUS: got "Available"; instance east routes contacts to who is in it, so that a ghost would '
            "stay one; name another status"
        )
    ]
    assert missing(Named("WATCHDOG_INITIAL_AGENT_STATE", "Available", Kind.INITIAL)) == []


def test_nothing_is_suggested_that_is_not_alike():
    (line,) = missing(target("Brouhaha"))
    assert line.endswith("there are: Available, Lunch, Offline; correct it, or create the status")


def test_a_status_to_set_must_exist_in_every_instance():
    (line,) = missing(target("Lunch"), east=EAST, west=WEST)
    assert "instance west has no such status" in line
    assert len(missing(target("Gone"), east=EAST, west=WEST)) == 2


def test_the_rule_and_the_stage_are_named():
    (line,) = missing(target("Gone", 'WATCHDOG_RULES: rule "night": stage 2: status'))
    assert line.startswith('WATCHDOG_RULES: rule "night": stage 2: status: got "Gone"; ')


def test_an_instance_without_one_offline_status_is_told_what_it_has():
    second = Status("id-9", "", "Away", StatusType.OFFLINE)
    assert missing(target(None), east=Listed((AVAILABLE,), ()), west=Listed((OFFLINE, second), ())) == [
        (
            "WATCHDOG_STATUS: names no status, and instance east has not one status of type OFFLINE but: none; "
            "name the one to set"
        ),
        (
            "WATCHDOG_STATUS: names no status, and instance west has not one status of type OFFLINE but: Away, "
            "Offline; name the one to set"
        ),
    ]


def test_a_name_that_only_case_tells_apart_must_be_exact():
    both = Listed((OFFLINE, LUNCH, SMALL), ())
    assert missing(target("LUNCH"), east=both) == []
    (line,) = missing(target("lunch"), east=both)
    assert "has 2 statuses of this name; write it exactly" in line


@pytest.mark.parametrize("name", ["Lunch", "LUNCH", "id-3", "ID-3"])
def test_a_filters_status_need_exist_in_one_instance_only(name):
    assert missing(state(name), west=WEST, east=EAST) == []
    (line,) = missing(state(name), west=WEST)
    assert line.startswith(f'WATCHDOG_RULES: rule "night": if_current_agent_state: got "{name}"; no instance has such')
    assert "there are: Available, Offline; " in line


@pytest.mark.parametrize("name", ["Gold", "gold", "AGENTS", "Silver"])
def test_a_filters_profile_is_part_of_a_name_in_any_case(name):
    assert missing(profile(name), west=WEST, east=EAST) == []
    assert missing(profile(name), west=WEST) == [
        (
            f'WATCHDOG_IF_PROFILE_NAME_INCLUDES: got "{name}"; no routing profile\'s name contains it; '
            "there are: Bronze; correct it, or take it out"
        )
    ]


def test_what_could_not_be_listed_is_no_fault_of_a_name():
    assert missing(target("Gone"), state("Gone"), profile("Gone"), east=UNKNOWN) == []
    # A filter's entry may exist in the one that was not listed; a status to set must exist in each.
    (line,) = missing(target("Gone"), state("Gone"), profile("Gone"), east=EAST, west=UNKNOWN)
    assert "instance east has no such status" in line
    (line,) = missing(state("Gone"), profile("Gone"), east=Listed(EAST.statuses, None))
    assert "if_current_agent_state" in line


def test_an_instance_that_has_nothing_is_not_one_that_could_not_be_listed():
    assert len(missing(state("Gone"), profile("Gone"), east=Listed((), ()))) == 2


def test_a_long_list_is_cut():
    many = Listed((), tuple(f"Profile {number:03}" for number in range(SHOWN + 7)))
    (line,) = missing(profile("Gold"), east=many)
    assert "Profile 019 and 7 more; " in line
    assert "Profile 020" not in line


def test_the_same_fault_is_told_once():
    assert len(missing(target("Gone"), target("Gone"))) == 1


def test_a_fault_is_one_line_whatever_the_name_holds():
    (line,) = missing(target('a\n"b"'))
    assert "\n" not in line


def test_the_statuses_that_may_be_set_are_those_that_exist_each_once():
    assert targets(
        EAST.statuses, [target("Lunch"), target("id-3"), target(None), target("Gone"), state("Available")]
    ) == (
        LUNCH,
        OFFLINE,
    )
