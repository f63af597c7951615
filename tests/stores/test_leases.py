"""The lease table's own bookkeeping, which the contract does not show."""

from __future__ import annotations

from tests.contract.world import ANNA, TIMER, TTL, session
from watchdog.core.model import AgentState, Beat, BeatType, Epoch, Observed, Running
from watchdog.stores.leases import LeaseTable


def test_entries_that_were_left_behind_do_not_pile_up() -> None:
    """Each reload files the agent earlier and leaves an entry; each is dropped when its bucket comes up."""
    table = LeaseTable(TIMER)
    clock = 0.0
    for number in range(1, 201):
        clock += 1.0
        for kind, ttl in ((BeatType.HELLO, TTL), (BeatType.BYE, 0.0)):
            table.apply(Beat(ANNA, session(number), kind, ttl=ttl), Observed(clock), Epoch(0.0))
            table.expire(Observed(clock))
    for _ in range(200):
        clock += 1.0
        table.apply(Beat(ANNA, session(999), ttl=TTL), Observed(clock), Epoch(0.0))
        table.expire(Observed(clock))
    assert sum(len(entries) for entries in table._buckets.values()) == 1
    assert table.phases[AgentState.LIVE] == 1


def test_the_phases_count_every_agent_once() -> None:
    table = LeaseTable(TIMER)
    for number in range(1, 101):
        agent = ANNA._replace(user_id=f"agent-{number}")
        table.apply(Beat(agent, session(number), ttl=float(number)), Observed(0.0), Epoch(0.0))
    for second in range(1, 110):
        table.expire(Observed(float(second) + 0.5))
        assert sum(table.phases.values()) == 100
        assert table.phases[AgentState.LIVE] == max(0, 100 - second)
        assert table.phases[AgentState.DUE] == len(table.due) == min(100, max(0, second - int(TIMER)))


def test_whoever_is_not_held_any_more_has_no_turn_and_takes_no_room() -> None:
    table = LeaseTable(TIMER)
    agents = [ANNA._replace(user_id=f"agent-{number}") for number in range(4)]
    for number, agent in enumerate(agents):
        table.apply(Beat(agent, session(number), ttl=TTL), Observed(0.0), Epoch(0.0))
        table.hold(table.agents[agent], Running(30.0), Observed(30.0))
    table.let_go(table.agents[agents[0]], Running(32.0), Observed(32.0), fresh=True)
    table.apply(Beat(agents[1], session(1), ttl=TTL), Observed(33.0), Epoch(0.0))
    table.forget(table.agents[agents[2]])
    assert table.held.take(ANNA.instance_id, 0.0, 10, Running(39.0)) == [agents[3]]
    assert table.held.take("another", 0.0, 10, Running(39.0)) == []
