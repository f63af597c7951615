"""The line of those who are due: its order, who is left out, and that a tick looks at no more of it than it needs."""

from __future__ import annotations

import random

from tests.contract.oracle import shared
from tests.contract.world import TIMER, TTL, session
from watchdog.core.model import AgentId, Beat, Due, Epoch, Observed, Running
from watchdog.stores.due import FEW, DueLine
from watchdog.stores.facts import Agent
from watchdog.stores.leases import LeaseTable


def agent(number: int, ends_at: float, instance_id: str = "main") -> Agent:
    made = Agent(AgentId(instance_id, f"user-{number}"))
    made.ends_at = Observed(ends_at)
    return made


def line() -> DueLine:
    return DueLine(lambda agent: agent.ends_at + TIMER, lambda agent_id: agent_id.instance_id == "main")


def first(due_line: DueLine, limit: int = 10_000, running: float = 0.0) -> list[AgentId]:
    return [due.agent for due in due_line.first(Running(running), limit)]


def test_the_line_is_what_a_sort_of_all_would_give_whatever_came_and_went():
    rng = random.Random(7)
    due_line, due, number = line(), {}, 0
    for _ in range(300):
        for _ in range(rng.choice((1, 1, 2, FEW + 10))):
            number += 1
            made = agent(number, rng.uniform(0.0, 100.0))
            due[made.id] = made
            due_line.add(made)
        for gone in rng.sample(sorted(due), rng.randint(0, len(due))) if rng.random() < 0.3 else ():
            del due[gone]
            due_line.drop(gone)
        if rng.random() < 0.7:
            limit = rng.randint(1, 40)
            expected = sorted(due.values(), key=lambda each: each.ends_at)[:limit]
            assert first(due_line, limit) == [each.id for each in expected]
        assert due_line.backlog == len(due)


def test_who_comes_back_and_is_due_again_stands_there_once_with_the_new_epoch_and_deadline():
    due_line, anna, bert = line(), agent(1, 10.0), agent(2, 20.0)
    due_line.add(anna)
    due_line.add(bert)
    due_line.add(anna)
    assert first(due_line) == [anna.id, bert.id]
    due_line.drop(anna.id)
    anna.ends_at, anna.epoch = Observed(30.0), 1
    due_line.add(anna)
    assert [(due.agent, due.epoch, due.deadline) for due in due_line.first(Running(0.0), 9)] == [
        (bert.id, 0, 25.0),
        (anna.id, 1, 35.0),
    ]


def test_a_deadline_that_moves_while_the_agent_is_due_moves_the_agent():
    due_line, anna, bert = line(), agent(1, 10.0), agent(2, 20.0)
    due_line.add(anna)
    due_line.add(bert)
    first(due_line)
    anna.ends_at = Observed(30.0)
    due_line.add(anna)
    assert first(due_line) == [bert.id, anna.id]
    assert due_line.backlog == 2


def test_who_has_the_id_of_one_who_was_forgotten_is_somebody_else():
    due_line, before, after = line(), agent(1, 10.0), agent(1, 10.0)
    due_line.add(before)
    before.not_before = Running(1000.0)
    due_line.add(after)
    assert first(due_line) == [after.id]


def test_whoever_is_put_off_is_left_out_and_is_no_hindrance():
    due_line, anna, bert = line(), agent(1, 10.0), agent(2, 20.0)
    due_line.add(anna)
    due_line.add(bert)
    anna.not_before = Running(50.0)
    assert first(due_line, 1) == [bert.id]
    assert first(due_line, 1, running=50.0) == [anna.id]
    assert due_line.backlog == 2


def test_agents_of_others_are_counted_by_instance_and_offered_to_nobody():
    due_line, former, other = line(), agent(1, 10.0, "former"), agent(2, 10.0, "former")
    due_line.add(former)
    due_line.add(other)
    due_line.add(agent(3, 11.0))
    assert (due_line.backlog, due_line.foreign, len(first(due_line))) == (1, {"former"}, 1)
    due_line.drop(former.id)
    assert due_line.foreign == {"former"}
    due_line.drop(other.id)
    assert due_line.foreign == frozenset()


class Restored(Agent):
    """Its former status is being set again."""

    restoring = True


def test_whoever_is_being_restored_is_not_offered() -> None:
    due_line, anna = line(), Restored(AgentId("main", "anna"))
    anna.ends_at = Observed(10.0)
    due_line.add(anna)
    assert (first(due_line), due_line.backlog) == ([], 1)


class Watched(Agent):
    """Counts how often it is looked at."""

    looks = 0

    @property
    def restoring(self) -> bool:
        Watched.looks += 1
        return False


def test_of_many_only_the_first_are_looked_at_though_as_many_have_gone():
    due_line = line()
    everyone = []
    for number in range(20_000):
        made = Watched(AgentId("main", f"user-{number}"))
        made.ends_at = Observed(float(number))
        everyone.append(made)
        due_line.add(made)
    Watched.looks = 0
    assert len(first(due_line, 100)) == 100
    assert Watched.looks == 100
    for each in everyone[:15_000]:
        due_line.drop(each.id)
    Watched.looks = 0
    assert len(first(due_line, 100)) == 100
    # Those who have gone are taken out when they are as many as the others.
    assert Watched.looks <= 100 + 5_000 + FEW


def test_whoever_returns_or_is_forgotten_is_not_in_the_line_of_the_table() -> None:
    table = LeaseTable(TIMER, serves=lambda agent_id: agent_id.instance_id == "main")
    anna, bert, former = AgentId("main", "anna"), AgentId("main", "bert"), AgentId("former", "carl")
    for number, who in enumerate((anna, bert, former)):
        table.apply(Beat(who, session(number), ttl=TTL), Observed(0.0), Epoch(0.0))
    table.expire(Observed(TTL + TIMER + 1.0))
    assert (first(table.line), table.line.foreign) == ([anna, bert], {"former"})
    table.apply(Beat(anna, session(0), ttl=TTL), Observed(TTL + TIMER + 2.0), Epoch(0.0))
    assert (first(table.line), table.line.backlog) == ([bert], 1)
    table.forget(table.agents[bert])
    table.forget(table.agents[former])
    assert (first(table.line), table.line.backlog, table.line.foreign) == ([], 0, frozenset())


def test_instances_share_the_limit_as_if_each_had_one_in_turn():
    rng = random.Random(11)
    for _ in range(300):
        due_line, made = DueLine(lambda agent: agent.ends_at + TIMER, lambda _: True), []
        for name in "abcde"[: rng.randint(1, 5)]:
            for _ in range(rng.choice((0, 1, 3, 30))):
                made.append(agent(len(made), rng.uniform(0.0, 100.0), name))
                made[-1].not_before = Running(rng.choice((0.0, 0.0, 50.0)))
                due_line.add(made[-1])
        free = [Due(each.id, 0, Observed(each.ends_at + TIMER)) for each in made if not each.not_before]
        limit = rng.randint(1, 50)
        assert due_line.first(Running(0.0), limit) == shared(free, limit)


def test_of_many_of_two_instances_only_the_first_are_looked_at():
    due_line = DueLine(lambda agent: agent.ends_at + TIMER, lambda _: True)
    for number in range(20_000):
        made = Watched(AgentId(f"i{number % 2}", f"user-{number}"))
        made.ends_at = Observed(float(number))
        due_line.add(made)
    Watched.looks = 0
    assert len(first(due_line, 100)) == 100
    assert Watched.looks == 100
