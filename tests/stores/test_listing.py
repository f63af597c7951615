"""Pages of agents: in order, whole, and no dearer at the end of fifty thousand than at their beginning."""

import time
from statistics import median
from uuid import UUID

import pytest

from watchdog.core.model import AgentId, AgentState
from watchdog.stores.facts import Agent
from watchdog.stores.listing import Listing

MANY = 50_000


def table(number, instances=2):
    """Agents with ids as Connect makes them, in no order."""
    # Scattered, as those of people are.
    ids = [
        AgentId(f"{n % instances}1111111-2222", str(UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)))
        for n in range(number)
    ]
    return {agent_id: Agent(agent_id) for agent_id in ids}


def page(listing, cursor=None, limit=50, **asked):
    found = []
    for agent in listing.after(cursor, **asked):
        found.append(agent.id)
        if len(found) == limit:
            break
    return found


def test_pages_follow_one_another_in_order_and_leave_nobody_out():
    agents = table(1000)
    listing, told, cursor = Listing(agents), [], None
    while found := page(listing, cursor):
        told += found
        cursor = found[-1]
    assert told == sorted(agents)


def test_who_comes_between_two_pages_is_put_in_place():
    agents = table(100)
    listing = Listing(agents)
    before = page(listing)
    new = [AgentId(before[-1].instance_id, before[-1].user_id + "x"), AgentId("0", "first")]
    for each in new:
        agents[each] = Agent(each)
        listing.add(each)
    assert page(listing, before[-1])[0] == new[0]
    assert page(listing)[0] == new[1]
    assert page(listing, limit=1000) == sorted(agents)


def test_who_was_forgotten_is_not_told_and_who_comes_again_is_told_once():
    agents = table(10)
    listing = Listing(agents)
    gone = page(listing)[3]
    del agents[gone]
    listing.forget()
    assert gone not in page(listing)
    agents[gone] = Agent(gone)
    listing.add(gone)
    assert page(listing).count(gone) == 1


def test_a_state_and_a_part_of_an_id_are_looked_for():
    agents = table(200)
    chosen = sorted(agents)[7]
    agents[chosen].phase = AgentState.HELD
    listing = Listing(agents)
    assert page(listing, state=AgentState.HELD) == [chosen]
    assert page(listing, query=chosen.user_id[5:]) == [chosen]
    assert page(listing, query=f"{chosen.instance_id[-3:]}/{chosen.user_id[:8]}") == [chosen]
    assert page(listing, query="0111", limit=1000) == [each for each in sorted(agents) if "0111" in str(each)]
    assert page(listing, query="no such") == []
    upper = AgentId("ABC", "DEF")
    agents[upper] = Agent(upper)
    listing.add(upper)
    assert upper in page(listing, query="def")
    assert page(listing, query="c/de") == [upper]


def cost(run):
    """Seconds of the processor, the median of some runs."""
    spent = []
    for _ in range(7):
        begun = time.process_time()
        for _ in range(20):
            run()
        spent.append(time.process_time() - begun)
    return median(spent)


def test_the_last_page_of_many_costs_what_the_first_does():
    agents = table(MANY)
    listing = Listing(agents)
    near_the_end = sorted(agents)[-100]
    first = cost(lambda: page(listing))
    assert cost(lambda: page(listing, near_the_end)) < 5 * first


def test_a_page_of_many_costs_what_a_page_of_few_does():
    few, many = Listing(table(500)), Listing(table(MANY))
    page(many), page(few)
    assert cost(lambda: page(many)) < 5 * cost(lambda: page(few))


@pytest.mark.long
def test_a_new_agent_among_many_costs_far_less_than_a_new_order():
    agents = table(MANY)
    listing = Listing(agents)
    page(listing)
    new = iter(range(10**6))

    def comes():
        each = AgentId("01111111-2222", f"new-{next(new)}")
        agents[each] = Agent(each)
        listing.add(each)
        page(listing)

    def begins_anew():
        listing.forget()
        page(listing)

    assert 2 * cost(comes) < cost(begins_anew)
