"""What goes wrong with several daemons over one Valkey server: with each of them, its way to the server, the server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from watchdog.simulation import faults
from watchdog.stores.bus import inbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watchdog.simulation.deployment import Machine
    from watchdog.simulation.people import Person
    from watchdog.simulation.world import World

POINTS = ("call.before", "call.applied", "call.tokens", "call.log", "put.before", "put.sent", "put.answered")
"""Where one may be killed; `call.tokens` and `call.log` are between a claim and its settling, and after it."""

FAILOVER_S = 5.0
"""Most that a failover loses."""


LOOK_S, MOVED_S = 0.02, 15.0
"""Between two looks whether parts have moved, and for how long it is looked."""

SOON_S, RELOADED_S = 0.1, 0.5
"""Longest that a page takes to load; a daemon may not know for 0.3 s that a part has moved."""

LOOP_S, STANDS_S = 600.0, 300.0
"""How long one dies again and again, and for how long the clock may stand for that at most."""

AHEAD_S = 5.0
"""By how much the clock of a server's successor may be ahead: more than any lease of a part."""


def _one(world: World, rng: random.Random) -> Machine | None:
    running = world.deployment.running
    return rng.choice(running) if running else None


async def kill_one(world: World, rng: random.Random) -> None:
    """Kill -9 of one, and a restart after a while."""
    machine = _one(world, rng)
    if machine is not None:
        await machine.kill()
        await asyncio.sleep(rng.choice((0.5, 2.0, 5.0, 20.0, 60.0)) * rng.uniform(0.7, 1.3))
        machine.start()
        await asyncio.sleep(5.0)


async def kill_between_calls(world: World, rng: random.Random) -> None:
    """Kill -9 at some call of the server or of Connect, and a restart."""
    machine = _one(world, rng)
    if machine is None:
        return
    point = rng.choice(POINTS)
    machine.kill_at(point, rng.randint(0, 60) if point in ("call.before", "call.applied") else 0)
    for _ in range(120):
        await asyncio.sleep(0.5)
        if machine.process is None:
            break
    machine.kill_at("")
    await asyncio.sleep(rng.uniform(0.5, 20.0))
    machine.start()
    await asyncio.sleep(5.0)


async def kill_all(world: World, rng: random.Random) -> None:
    """A power cut: all die, and come back one after the other."""
    machines = world.deployment.running
    for machine in machines:
        await machine.kill()
    await asyncio.sleep(rng.choice((0.5, 5.0, 35.0, 100.0)) * rng.uniform(0.7, 1.3))
    for machine in machines:
        if rng.random() < 0.3:
            machine.boot()
        machine.start()
        await asyncio.sleep(rng.uniform(0.0, 5.0))


async def pause_one(world: World, rng: random.Random) -> None:
    """SIGSTOP and SIGCONT of one."""
    machine = _one(world, rng)
    if machine is not None:
        machine.pause()
        await asyncio.sleep(rng.choice((0.5, 1.9, 2.5, 3.2, 5.0, 10.0, 30.0, 40.0)) * rng.uniform(0.8, 1.2))
        machine.resume()


def arm_between(machine: Machine, then: Callable[[], None]) -> None:
    """Has something happen between an intent and its write: the intent is what is written after its token was taken."""
    machine.at("call.tokens.put", lambda: machine.at("call.write", then))


async def stop_while_acting(world: World, rng: random.Random) -> None:
    """One is stopped, or cut off, between an intent and its write, and goes on when others have its parts.

    Some only for a moment, in which the server gets a successor whose clock is ahead: the leases of parts are over.
    """
    machine = _one(world, rng)
    if machine is None:
        return
    how, reached = rng.choice(("stop", "cut", "succeed", "succeed")), asyncio.Event()

    def stop() -> None:
        reached.set()
        if how == "cut":
            machine.partition(cut=True)
        else:
            machine.pause()
        if how == "succeed":
            world.deployment.server.offset_s += AHEAD_S

    arm_between(machine, stop)
    for _ in range(240):
        await asyncio.sleep(0.5)
        if reached.is_set():
            break
    machine.kill_at("")
    if reached.is_set():
        moment = how == "succeed"
        await asyncio.sleep(1.4 if moment else rng.choice((0.3, 1.5, 4.0, 8.0, 30.0)) * rng.uniform(0.9, 1.2))
        if how == "cut":
            machine.partition(cut=False)
        else:
            machine.resume()


async def starve_one(world: World, rng: random.Random) -> None:
    """Many short stops of one."""
    machine = _one(world, rng)
    if machine is not None:
        for _ in range(rng.randint(3, 20)):
            machine.pause()
            await asyncio.sleep(rng.uniform(0.1, 5.0))
            machine.resume()
            await asyncio.sleep(rng.uniform(0.05, 3.0))


async def cut_one_off(world: World, rng: random.Random) -> None:
    """One cannot reach the server."""
    machine = _one(world, rng)
    if machine is not None:
        machine.partition(cut=True)
        await asyncio.sleep(rng.choice((1.0, 2.5, 4.0, 10.0, 25.0, 40.0, 70.0)) * rng.uniform(0.8, 1.2))
        machine.partition(cut=False)


async def deploy(world: World, rng: random.Random) -> None:
    """A rolling restart."""
    for machine in world.deployment.running:
        await machine.stop()
        await asyncio.sleep(rng.uniform(0.2, 5.0))
        machine.start()
        await asyncio.sleep(rng.uniform(2.0, 15.0))


async def scale(world: World, rng: random.Random) -> None:
    """One more comes, or one goes in order; and back."""
    deployment = world.deployment
    idle = [machine for machine in deployment.machines if machine.process is None]
    if idle and rng.random() < 0.5:
        machine = rng.choice(idle)
        machine.start()
        await asyncio.sleep(rng.uniform(3.0, 60.0))
        await machine.stop()
        return
    running = deployment.running
    if len(running) > 1:
        machine = rng.choice(running)
        await machine.stop()
        await asyncio.sleep(rng.uniform(3.0, 60.0))
        machine.start()
        await asyncio.sleep(5.0)


async def bad_way(world: World, rng: random.Random) -> None:
    """Commands of some daemons are slow, lost, or sent twice."""
    ways = [machine.way for machine in world.deployment.machines if rng.random() < 0.6]
    lost, torn, slow_s = rng.choice((0.0, 0.01, 0.05)), rng.choice((0.0, 0.05, 0.3)), rng.choice((0.0, 0.05, 0.4))
    world.journal.add(f"way to the server: {lost:.0%} lost, {torn:.0%} cut, {slow_s} s slower")
    hearing, time = world.deployment.hearing, asyncio.get_running_loop().time
    hearing.slow(time(), slow=True)
    for way in ways:
        way.lost, way.torn, way.slow_s = lost, torn, slow_s
    await asyncio.sleep(rng.uniform(10.0, 90.0))
    for way in ways:
        way.lost = way.torn = way.slow_s = 0.0
    hearing.slow(time(), slow=False)


@contextmanager
def _without_server(world: World, what: str) -> Iterator[None]:
    deployment, time = world.deployment, asyncio.get_running_loop().time
    world.journal.add(what)
    deployment.hearing.server(time(), answers=False)
    yield
    deployment.hearing.server(time(), answers=True)
    world.journal.add("the server is there again")


async def stop_server(world: World, rng: random.Random) -> None:
    """SIGSTOP of the server."""
    server = world.deployment.server
    if world.deployment.disturbed_since(asyncio.get_running_loop().time()):
        return
    with _without_server(world, "the server is stopped"):
        server.stop()
        await asyncio.sleep(rng.choice((0.5, 1.5, 2.5, 5.0, 20.0)) * rng.uniform(0.8, 1.2))
        server.go_on()


async def fail_over(world: World, rng: random.Random) -> None:
    """The server dies, and another one takes its place that lacks the last writes; its clock is another one."""
    server = world.deployment.server
    if world.deployment.disturbed_since(asyncio.get_running_loop().time()):
        return
    saved, since = server.model.saved(), asyncio.get_running_loop().time()
    await asyncio.sleep(rng.uniform(0.05, FAILOVER_S))
    if world.deployment.disturbed_since(since):
        return
    with _without_server(world, "the server dies"):
        server.down += 1
        await asyncio.sleep(rng.choice((0.1, 1.0, 5.0, 15.0)) * rng.uniform(0.8, 1.2))
        server.model.restore(saved)
        server.offset_s += rng.choice((0.0, -600.0, 0.5, -0.5, 3.0))
        server.down -= 1
    world.journal.add("the last writes are lost")
    world.data_lost(since)


async def flush_all(world: World, rng: random.Random) -> None:
    """FLUSHALL, by somebody's mistake."""
    del rng
    world.journal.add("FLUSHALL")
    world.deployment.server.model.flush()
    world.data_lost()
    await asyncio.sleep(5.0)


async def jump_one(world: World, rng: random.Random) -> None:
    """The wall clock of one machine is set, and set right later."""
    machine = rng.choice(world.deployment.machines)
    by = rng.choice((-3_600.0, 3_600.0, -5.0, 61.0))
    world.journal.add(f"wall clock of a machine {by:+.0f} s")
    machine.jump_s += by
    await asyncio.sleep(rng.uniform(5.0, 200.0))
    machine.jump_s -= by


async def reload_while_parts_move(world: World, rng: random.Random) -> None:
    """One more daemon comes and goes again. As soon as parts move everybody's page is loaded anew, by whatever way.

    In some worlds the server is far away: who has a part is known later, and questions are longer on their way.
    """
    deployment, since = world.deployment, asyncio.get_running_loop().time()
    ways, slow_s = [each.way for each in deployment.machines], rng.choice((0.0, 0.2, 0.4))
    deployment.hearing.slow(since, slow=True)
    for way in ways:
        way.slow_s = max(way.slow_s, slow_s)
    loads_s = rng.choice((SOON_S, RELOADED_S))
    idle = [machine for machine in deployment.machines if machine.process is None]
    machine = rng.choice(idle) if idle else rng.choice(deployment.machines)
    for comes in (True, False) if idle else (False, True):
        before = deployment.owners()
        moving = asyncio.create_task(_start(machine) if comes else machine.stop())
        for _ in range(int(MOVED_S / LOOK_S)):
            await asyncio.sleep(LOOK_S)
            if deployment.owners() != before:
                break
        people = [person for person in world.people.values() if person.present]
        await asyncio.gather(*(_reload(person, rng.uniform(0.0, loads_s)) for person in people))
        await moving
        await asyncio.sleep(rng.uniform(10.0, 40.0))
    for way in ways:
        way.slow_s = 0.0
    now = asyncio.get_running_loop().time()
    deployment.hearing.slow(now, slow=False)
    if slow_s:
        # What is handed on may have come too late all the time.
        deployment.hearing.uncertain(since, now)


async def _start(machine: Machine) -> None:
    machine.start()


async def _reload(person: Person, after_s: float) -> None:
    person.crash(bye=True)
    await asyncio.sleep(after_s)
    person.come_back()


async def lose_questions(world: World, rng: random.Random) -> None:
    """What daemons ask some others does not come through, and all else does: as when a node of a cluster is away."""
    deployment = world.deployment
    running = deployment.running
    if not running:
        return
    since, away = asyncio.get_running_loop().time(), deployment.server.away
    names = [machine.process.name for machine in running if machine.process is not None]
    inboxes = {inbox(name) for name in rng.sample(names, k=rng.randint(1, len(names)))}
    world.journal.add(f"{len(inboxes)} daemons cannot be asked")
    deployment.hearing.slow(since, slow=True)
    away |= inboxes
    await asyncio.sleep(rng.choice((0.5, 2.0, 8.0, 45.0, 90.0)) * rng.uniform(0.8, 1.2))
    away -= inboxes
    now = asyncio.get_running_loop().time()
    deployment.hearing.slow(now, slow=False)
    deployment.hearing.uncertain(since, now)


async def crash_loop(world: World, rng: random.Random) -> None:
    """One dies again and again before it is dropped, for longer than the clock may stand for it.

    So long excuses a delay, and no longer.
    """
    machine, time = _one(world, rng), asyncio.get_running_loop().time
    if machine is None:
        return
    began, excused = time(), True
    world.invariants.disturbance.begin()
    while time() < began + LOOP_S:
        await machine.kill()
        await asyncio.sleep(rng.uniform(0.5, 15.0))
        machine.start()
        await asyncio.sleep(rng.uniform(2.0, 12.0))
        if excused and time() > began + STANDS_S:
            excused = False
            world.invariants.disturbance.end(time())


Story = Callable[["World", random.Random], Awaitable[None]]

REPLICA_STORIES: dict[Story, int] = {
    kill_one: 4,
    kill_between_calls: 6,
    kill_all: 2,
    pause_one: 4,
    stop_while_acting: 6,
    starve_one: 2,
    cut_one_off: 4,
    deploy: 2,
    scale: 3,
    bad_way: 3,
    stop_server: 2,
    fail_over: 3,
    flush_all: 1,
    jump_one: 1,
    faults.wet_network: 2,
    faults.lost_site: 1,
    faults.errors_in_front: 1,
    faults.storm: 1,
    faults.outage: 2,
    faults.lies: 2,
    faults.supervisor: 2,
}
"""Weights of the stories in worlds of several daemons."""

BETWEEN_DAEMONS: tuple[Story, ...] = (reload_while_parts_move, lose_questions)
"""In some of these worlds one of them happens in addition."""

UNEXCUSED: tuple[Story, ...] = (crash_loop,)
"""In few of them one of these, which excuses a delay only for as long as it says itself."""
