"""Faults of several daemons over one Valkey server that deserve a name: who is set, when, and by whom."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.guards import GUARDS
from tests.simulation.stage import LATEST, act, all_arrive, fault, ids, written
from watchdog.simulation.graces import LEFT_S, MOST_S, Graces
from watchdog.simulation.plan import Replicas
from watchdog.simulation.replica_faults import AHEAD_S, arm_between

THREE = Replicas(daemons=3, machines=4, shards=4, offset_s=-3_600.0, drift=0.01)
PACE = {"flush": 0.2, "sweep": 0.25, "brake": None, "replicas": THREE}


def play(script, **more):
    result = act(script, **{**PACE, **more})
    return result, {violation.rule for violation in result.violations}


async def one_crashes(world):
    first, *rest = await all_arrive(world)
    first.crash()
    return first, rest


def test_whoever_crashes_is_set_and_nobody_else_whichever_daemon_has_them():
    gone = []

    async def script(world):
        people = await all_arrive(world)
        for person in people[:3]:
            person.crash()
        gone.extend(ids(people[:3]))
        await asyncio.sleep(LATEST + 10.0)

    result, rules = play(script)
    assert not rules, result.violations[0]
    assert written(result) == set(gone)


async def stopped_while_acting(world, ahead_s=0.0, stopped_s=8.0):
    await one_crashes(world)
    stopped = asyncio.get_running_loop().create_future()
    for machine in world.deployment.machines:
        arm_between(machine, lambda machine=machine: (machine.pause(), stopped.set_result(machine)))
    with fault(world):
        machine = await stopped
        world.deployment.server.offset_s += ahead_s
        for other in world.deployment.machines:
            other.kill_at("")
        await asyncio.sleep(stopped_s)
        machine.resume()
        await asyncio.sleep(40.0)


async def leases_end_meanwhile(world):
    """It is stopped for so short a time that it does not notice; the server's successor has a clock that is ahead."""
    await stopped_while_acting(world, ahead_s=AHEAD_S, stopped_s=1.4)


@pytest.mark.parametrize("script", [stopped_while_acting, leases_end_meanwhile])
def test_one_that_was_stopped_before_its_write_acts_on_nothing_that_others_have_taken_over(script):
    result, rules = play(script)
    assert not rules, result.violations[0]
    assert len(written(result)) == 1


async def stopped_and_a_crash(world):
    people = await all_arrive(world)
    with fault(world):
        world.deployment.machines[0].pause()
        await asyncio.sleep(1.0)
        people[0].crash()
        await asyncio.sleep(25.0)
        world.deployment.machines[0].resume()
        await asyncio.sleep(40.0)


async def killed_and_a_crash(world):
    people = await all_arrive(world)
    with fault(world):
        await world.deployment.machines[0].kill()
        await asyncio.sleep(5.0)
        people[0].crash()
        await asyncio.sleep(60.0)
        world.deployment.machines[0].start()


@pytest.mark.parametrize("script", [stopped_and_a_crash, killed_and_a_crash])
def test_the_clock_stands_while_one_is_silent_and_the_ghost_is_set_later(script):
    result, rules = play(script)
    assert not rules, result.violations[0]
    assert len(written(result)) == 1


@pytest.mark.parametrize(
    ("name", "script", "rule"),
    [
        ("fence", leases_end_meanwhile, "claim"),
        ("silent daemon", killed_and_a_crash, "early"),
        ("wait before a drop", killed_and_a_crash, "early"),
    ],
)
def test_without_the_guard_that_is_noticed(name, script, rule, monkeypatch):
    guard = GUARDS[name]
    monkeypatch.setattr(guard.of, guard.name, guard.without)
    assert rule in play(script)[1]


async def dies_again_and_again(world):
    """For longer than the clock may stand for it; and one who crashes meanwhile."""
    people, machine = await all_arrive(world), world.deployment.machines[0]
    with fault(world):
        for number in range(34):
            await machine.kill()
            await asyncio.sleep(5.0)
            machine.start()
            await asyncio.sleep(10.0)
            if number == 2:
                people[0].crash()
    await asyncio.sleep(60.0)


def test_the_clock_does_not_stand_for_good_for_one_that_dies_again_and_again():
    result, rules = play(dies_again_and_again)
    assert not rules, result.violations[0]
    ((at, _),) = result.sent
    assert MOST_S - LEFT_S < at < 60.0 + 34 * 15.0


def test_graces_are_spent_until_a_whole_one_is_left_besides_that_of_others():
    graces = Graces(30.0)
    spent_at, again_at = [], []
    for second in range(1_200):
        before = graces.spent
        graces.count(1.0, grace=second < 400, running=True)
        (spent_at if graces.spent else again_at).extend([second] * (graces.spent != before))
    assert spent_at == [269]
    assert again_at == [400 + 600 - 240 + 1]


def test_a_server_that_is_emptied_costs_nobody_who_is_there_and_the_daemons_remember_who_was_gone():
    gone = []

    async def script(world):
        first, _ = await one_crashes(world)
        gone.append(first.agent.user_id)
        await asyncio.sleep(5.0)
        with fault(world):
            world.deployment.server.model.flush()
            world.data_lost()
            await asyncio.sleep(LATEST + 60.0)

    result, rules = play(script)
    assert not rules, result.violations[0]
    assert written(result) == set(gone)


def test_all_are_killed_at_once_and_nobody_who_is_there_is_set():
    async def script(world):
        await all_arrive(world)
        with fault(world):
            for machine in world.deployment.machines:
                await machine.kill()
            await asyncio.sleep(20.0)
            for machine in world.deployment.machines[:3]:
                machine.start()
            await asyncio.sleep(120.0)

    result, rules = play(script)
    assert not rules, result.violations[0]
    assert not written(result)
