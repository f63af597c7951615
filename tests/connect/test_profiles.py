"""Routing profiles, as far as other reads have shown them."""

import pytest

from watchdog.connect import profiles
from watchdog.connect.answers import Seen
from watchdog.connect.profiles import Profiles
from watchdog.core.model import AgentId

ANNA, BERT = AgentId("one", "anna"), AgentId("one", "bert")


@pytest.fixture
def named():
    return {"one": {"p1": "Sales", "p2": "Care"}, "two": {"p3": "Sales"}}


def seen(profile_id):
    return Seen("s1", "Available", profile_id=profile_id)


def test_the_profile_seen_last_is_the_agents(named):
    known = Profiles(lambda: named)
    assert known.name(ANNA) is None
    known.note("one", {"anna": seen("p1"), "bert": seen("p2")})
    known.note("one", {"anna": seen("p2")})
    assert (known.name(ANNA), known.name(BERT)) == ("Care", "Care")
    # an answer that does not say leaves what is known, and a profile that is not listed has no name
    known.note("one", {"anna": seen("")})
    known.note("one", {"bert": seen("p9")})
    assert (known.name(ANNA), known.name(BERT)) == ("Care", None)


def test_a_name_is_that_of_a_profile_in_every_instance(named):
    known = Profiles(lambda: named)
    carl = AgentId("two", "carl")
    known.note("one", {"anna": seen("p1"), "bert": seen("p2")})
    known.note("two", {"carl": seen("p3"), "dora": seen("p1")})
    sales = known.having("Sales")
    assert [each for each in (ANNA, BERT, carl, AgentId("two", "dora"), AgentId("one", "eve")) if sales(each)] == [
        ANNA,
        carl,
    ]
    assert not known.having("sales")(ANNA)
    assert known.names("one") == ["Care", "Sales"]
    assert known.names("three") == []


def test_names_are_those_of_the_last_listing(named):
    known = Profiles(lambda: named)
    known.note("one", {"anna": seen("p1")})
    named["one"] = {"p1": "Sales Europe"}
    assert known.name(ANNA) == "Sales Europe"


def test_no_more_are_remembered_than_there_is_room_for(named, monkeypatch):
    monkeypatch.setattr(profiles, "MOST", 3)
    known = Profiles(lambda: named)
    for user in ("a", "b", "c", "d"):
        known.note("one", {user: seen("p1")})
    assert [known.name(AgentId("one", user)) for user in ("a", "b", "c", "d")] == [None, "Sales", "Sales", "Sales"]
