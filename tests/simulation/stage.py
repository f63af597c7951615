"""Worlds in which nothing is left to chance but what a test asks for: a script tells who does what and when."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

from watchdog.core.brake import BrakeRules
from watchdog.simulation.people import Habits
from watchdog.simulation.plan import Plan
from watchdog.simulation.process import Timers
from watchdog.simulation.world import play

TTL, TIMER = 35.0, 5.0
LATEST = TTL + TIMER + 10.0
"""From a crash to the write: the beat before it, a tick, reads, and the quota."""

BRAKE = BrakeRules()


def act(script, *, agents=6, cut_off=0, loss=0.0, replayed=False, late=False, brake=BRAKE, replicas=None, **timers):
    """Plays a script. What it did with whom is in the result: `sent`, `outcomes`, `violations`."""
    habits = Habits(main_driver=False, replayed=replayed, late=late, between_s=1.0)
    plan = Plan(
        seed=1,
        minutes=0.0,
        habits=(habits,) * agents,
        cut_off=cut_off,
        loss=loss,
        stories=(),
        timers=Timers(**{"flush": 0.5, "sweep": 1.0, "brake": brake, **timers}),
        lists_offline=False,
        replicas=replicas,
    )
    return play(plan, script=script)


async def all_arrive(world, settle_s=60.0):
    """Everybody comes to work within seconds, and is heard for a while. Returns the people."""
    people = list(world.people.values())
    for person in people:
        person.arrive()
        await asyncio.sleep(0.4)
    await asyncio.sleep(settle_s)
    return people


@contextmanager
def fault(world):
    """A fault goes on, and excuses a delay."""
    world.invariants.disturbance.begin()
    try:
        yield
    finally:
        world.invariants.disturbance.end(asyncio.get_running_loop().time())


def written(result):
    """To whom anything was written."""
    return {user_id for _, user_id in result.sent}


def ids(people):
    return {person.agent.user_id for person in people}
