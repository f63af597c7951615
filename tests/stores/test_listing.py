"""Agents in order: pages are whole, and neither they nor newcomers cost more among fifty thousand."""

import random
import time
from statistics import median
from uuid import UUID

import pytest

from watchdog.core.model import AgentId
from watchdog.stores.listing import RUN, Listing, search

MANY = 50_000


def ids(number, instances=2):
    """As Connect makes them, in no order."""
    # Scattered, as those of people are.
    return [
        AgentId(f"{n % instances}1111111-2222", str(UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)))
        for n in range(number)
    ]


def loaded(agents):
    listing = Listing()
    listing.load(agents)
    return listing


def everyone(listing, cursor=None):
    told = []
    while found := listing.following(cursor):
        assert len(found) <= RUN
        told += found
        cursor = found[-1]
    return told


def test_runs_follow_one_another_in_order_and_leave_nobody_out():
    agents = ids(5 * RUN)
    assert everyone(loaded(agents)) == sorted(agents)
    assert everyone(Listing()) == []


def test_who_comes_one_by_one_stands_as_if_all_had_come_at_once():
    agents = ids(5 * RUN)
    listing = Listing()
    for each in agents:
        listing.add(each)
    assert everyone(listing) == sorted(agents)


def test_a_cursor_need_not_be_of_anybody():
    agents = sorted(ids(3 * RUN))
    listing = loaded(agents)
    for cursor in (AgentId("", ""), agents[RUN], AgentId(agents[RUN].instance_id, agents[RUN].user_id + "x")):
        assert everyone(listing, cursor) == [each for each in agents if each > cursor]
    assert everyone(listing, AgentId("x", "")) == []


@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_and_goes_the_order_is_that_of_those_who_are_there(seed):
    chance, known, listing = random.Random(seed), set(), Listing()
    universe = ids(4 * RUN)
    for step in range(12 * RUN):
        each = chance.choice(universe)
        if each in known and (step > 6 * RUN or chance.random() < 0.4):
            listing.drop(each)
            known.remove(each)
        elif each not in known and step <= 6 * RUN:
            listing.add(each)
            known.add(each)
        else:
            listing.drop(AgentId("nobody", each.user_id))
    assert everyone(listing) == sorted(known)
    for each in list(known):
        listing.drop(each)
    assert everyone(listing) == []


def test_a_part_of_an_id_is_looked_for():
    agents = ids(200)
    chosen = sorted(agents)[7]

    def found(query):
        return [each for each in sorted(agents) if search(query)(each)]

    assert found("") == sorted(agents)
    assert found(chosen.user_id[5:]) == [chosen]
    assert found(f"{chosen.instance_id[-3:]}/{chosen.user_id[:8]}") == [chosen]
    assert found("0111") == [each for each in sorted(agents) if "0111" in str(each)]
    assert found("no such") == []
    agents.append(AgentId("ABC", "DEF"))
    assert AgentId("ABC", "DEF") in found("def")
    assert found("c/de") == [AgentId("ABC", "DEF")]


def cost(run):
    """Seconds of the processor, the median of some runs."""
    spent = []
    for _ in range(7):
        begun = time.process_time()
        for _ in range(20):
            run()
        spent.append(time.process_time() - begun)
    return median(spent)


def test_the_last_run_of_many_costs_what_the_first_does():
    agents = ids(MANY)
    listing = loaded(agents)
    near_the_end = sorted(agents)[-RUN]
    assert cost(lambda: listing.following(near_the_end)) < 10 * cost(lambda: listing.following(None))


@pytest.mark.long
def test_a_new_agent_among_many_costs_far_less_than_a_new_order():
    listing = loaded(ids(MANY))
    new = iter(range(10**6))

    def comes():
        listing.add(AgentId("01111111-2222", f"new-{next(new)}"))
        listing.following(None)

    # In order already, it is sorted in no time at all: the least that a new order costs.
    order = everyone(listing)
    assert 10 * cost(comes) < cost(lambda: listing.load(order))
