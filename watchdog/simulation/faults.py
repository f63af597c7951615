"""What goes wrong: with the daemon, its machine, its store, the network and Amazon Connect. Drawn from a seed.

Each fault is a coroutine over the world; while one goes on the world is disturbed, and the bounds on detection wait.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from watchdog.sandbox.records import Fault, FaultKind

if TYPE_CHECKING:
    from watchdog.simulation.network import Path
    from watchdog.simulation.world import World

PUT, READ = "PutUserStatus", "GetCurrentUserData"

QUICK_S = 0.003

POINTS = ("disk.before", "disk.after", "disk.synced", "put.before", "put.sent", "put.answered")


async def kill(world: World, rng: random.Random) -> None:
    """Kill -9, and a restart after seconds to hours."""
    gap = rng.choice((0.5, 1.0, 5.0, 10.0, 35.0, 60.0, 200.0)) * rng.uniform(0.7, 1.3)
    if rng.random() < 0.03:
        gap = rng.choice((900.0, 7_200.0))
    await world.host.kill()
    await asyncio.sleep(gap)
    if rng.random() < 0.1:
        world.host.boot()
    world.host.start()


async def kill_at_a_point(world: World, rng: random.Random) -> None:
    """Kill -9 at a step between a claim and its settling, and a restart soon after."""
    world.host.kill_at(rng.choice(POINTS))
    for _ in range(600):
        await asyncio.sleep(0.5)
        if world.host.process is None:
            break
    world.host.kill_at("")
    await asyncio.sleep(rng.uniform(0.5, 20.0))
    world.host.start()


async def crash_loop(world: World, rng: random.Random) -> None:
    """It dies again and again, after some seconds each time."""
    lives, gap = rng.uniform(2.0, 25.0), rng.uniform(0.5, 10.0)
    for _ in range(rng.randint(3, 14)):
        await world.host.kill()
        await asyncio.sleep(gap)
        world.host.start()
        await asyncio.sleep(lives)


async def pause(world: World, rng: random.Random) -> None:
    """SIGSTOP and SIGCONT."""
    world.host.pause()
    await asyncio.sleep(rng.choice((0.5, 1.9, 2.5, 3.0, 10.0, 30.0, 45.0, 120.0)) * rng.uniform(0.8, 1.2))
    world.host.resume()


async def starve(world: World, rng: random.Random) -> None:
    """Many short pauses: a machine with too much to do."""
    for _ in range(rng.randint(5, 40)):
        world.host.pause()
        await asyncio.sleep(rng.uniform(0.1, 4.0))
        world.host.resume()
        await asyncio.sleep(rng.uniform(0.05, 3.0))


async def restart(world: World, rng: random.Random) -> None:
    """A deployment: an orderly stop, and a new process."""
    await world.host.stop()
    await asyncio.sleep(rng.uniform(0.5, 20.0))
    world.host.start()


async def full_disk(world: World, rng: random.Random) -> None:
    """Writes fail for a while."""
    world.host.fill(full=True)
    await asyncio.sleep(rng.choice((3.0, 10.0, 30.0, 60.0, 150.0)) * rng.uniform(1.0, 1.3))
    world.host.fill(full=False)


async def slow_disk(world: World, rng: random.Random) -> None:
    """Commits take long."""
    world.host.slow(rng.choice((0.1, 0.5, 2.0, 6.0)))
    await asyncio.sleep(rng.uniform(10.0, 120.0))
    world.host.slow(QUICK_S)


async def jump(world: World, rng: random.Random) -> None:
    """The wall clock is set, and set right later."""
    by = rng.choice((-3_600.0, 3_600.0, -5.0, 61.0, 7_200.0))
    world.journal.add(f"wall clock {by:+.0f} s")
    world.host.jump_s += by
    await asyncio.sleep(rng.uniform(5.0, 300.0))
    world.host.jump_s -= by


async def wet_network(world: World, rng: random.Random) -> None:
    """Loss and delay for all."""
    before = world.network.all.loss
    world.network.all.loss = rng.choice((0.01, 0.05, 0.2))
    world.network.all.slow_s = rng.choice((0.0, 0.3, 1.5))
    await asyncio.sleep(rng.uniform(30.0, 300.0))
    world.network.all.loss, world.network.all.slow_s = before, 0.0


async def lost_site(world: World, rng: random.Random) -> None:
    """A small site is cut off, wholly or one way."""
    one_way = rng.random() < 0.3
    seconds = rng.choice((10.0, 30.0, 60.0, 300.0)) * rng.uniform(0.8, 1.2)
    await _cut_off(world, "a site", world.sites[0], seconds, one_way=one_way)


async def errors_in_front(world: World, rng: random.Random) -> None:
    """The balancer answers 502 to some requests."""
    world.network.front.errors = rng.choice((0.1, 0.5))
    await asyncio.sleep(rng.uniform(5.0, 60.0))
    world.network.front.errors = 0.0


async def black_hole(world: World, rng: random.Random) -> None:
    """The balancer swallows everything: all at once fall silent. Drawn only where the brake holds."""
    world.journal.add("black hole")
    world.network.front.hole += 1
    await asyncio.sleep(rng.uniform(20.0, 200.0))
    world.network.front.hole -= 1
    world.journal.add("black hole is over")


async def silence(world: World, rng: random.Random) -> None:
    """The network is gone for everybody."""
    await _cut_off(world, "everybody", world.network.all, rng.uniform(20.0, 200.0))


async def lost_part(world: World, rng: random.Random) -> None:
    """The larger site is cut off."""
    await _cut_off(world, "the larger site", world.sites[1], rng.uniform(20.0, 250.0))


async def _cut_off(world: World, who: str, path: Path, seconds: float, *, one_way: bool = False) -> None:
    world.journal.add(f"{who} is cut off")
    path.one_way += one_way
    path.down += not one_way
    await asyncio.sleep(seconds)
    path.one_way -= one_way
    path.down -= not one_way
    world.journal.add(f"{who} is back")


async def crash_of_many(world: World, rng: random.Random) -> None:
    """A browser update: the pages of most end at once without a bye, and some come back soon."""
    share = rng.choice((0.4, 0.8, 1.0))
    back = [each for each in world.people.values() if rng.random() < share and each.crash() and rng.random() < 0.5]
    world.journal.add(f"many browsers crash, {len(back)} come back")
    for each in back:
        await asyncio.sleep(rng.expovariate(1 / 3.0))
        each.come_back()


async def end_of_shift(world: World, rng: random.Random) -> None:
    """Many leave within half a minute, most with a bye."""
    for each in world.people.values():
        await asyncio.sleep(rng.expovariate(1 / 2.0))
        if rng.random() < 0.7:
            each.crash(bye=rng.random() < 0.6)


async def operator(world: World, rng: random.Random) -> None:
    """An operator holds or releases everybody for a while."""
    hold, for_s = rng.random() < 0.6, rng.choice((20.0, 60.0, 120.0))
    taken = await world.order(hold=hold, for_s=for_s)
    # An order of which nobody knows whether it was taken excuses what a release does, and forbids nothing.
    world.invariants.holding.ordered(asyncio.get_running_loop().time(), hold=hold and taken, for_s=for_s)
    await asyncio.sleep(for_s + 5.0)


async def _connect(world: World, seconds: float, *faults: Fault) -> None:
    for fault in faults:
        world.journal.add(f"Connect: {fault.kind} on {fault.operation} for {seconds:.0f} s, {fault.times or 'all'}")
    ids = [world.model.add_fault(fault) for fault in faults]
    await asyncio.sleep(seconds)
    for each in ids:
        world.model.clear_faults(each)


async def storm(world: World, rng: random.Random) -> None:
    """429 to everything."""
    operations = rng.choice(((PUT,), (READ,), (PUT, READ)))
    await _connect(world, rng.uniform(5.0, 120.0), *(Fault(FaultKind.THROTTLE, each) for each in operations))


async def outage(world: World, rng: random.Random) -> None:
    """5xx, or no answer, or 403, for a while."""
    kind = rng.choice((FaultKind.INTERNAL, FaultKind.TIMEOUT, FaultKind.ACCESS_DENIED))
    operations = rng.choice(((PUT,), (READ,), (PUT, READ)))
    delay = rng.uniform(10.0, 30.0)
    await _connect(world, rng.uniform(5.0, 200.0), *(Fault(kind, each, delay_s=delay) for each in operations))


async def lies(world: World, rng: random.Random) -> None:
    """Writes whose answer is lost, that come late, or that do nothing, a few times."""
    kind = rng.choice((FaultKind.LOST_ANSWER, FaultKind.NO_EFFECT, FaultKind.NO_EFFECT, FaultKind.DELAY))
    if any(fault.kind is FaultKind.NO_EFFECT for fault in world.model.faults().values()):
        # A write that does nothing more than three times is given up, and that is right.
        kind = FaultKind.LOST_ANSWER
    fault = Fault(kind, PUT, times=rng.randint(1, 3), delay_s=rng.uniform(1.0, 30.0))
    await _connect(world, rng.uniform(60.0, 300.0), fault)


async def supervisor(world: World, rng: random.Random) -> None:
    """Somebody makes an absent agent available again: the watchdog has done its part and leaves it so."""
    absent = [each for each in world.people.values() if world.settled(each)]
    if absent:
        each = rng.choice(absent)
        each.log("is made available by a supervisor")
        each.account.overruled = True
        each.account.changes = 0
        world.model.agent_sets_status(*each.agent, "Available")
        each.account.chosen_at = asyncio.get_running_loop().time()


Story = Callable[["World", random.Random], Awaitable[None]]

STORIES: dict[Story, int] = {
    kill: 4,
    kill_at_a_point: 5,
    crash_loop: 2,
    pause: 4,
    starve: 2,
    restart: 2,
    full_disk: 2,
    slow_disk: 2,
    jump: 2,
    wet_network: 3,
    lost_site: 2,
    errors_in_front: 2,
    storm: 2,
    outage: 3,
    lies: 4,
    supervisor: 3,
}
"""Weights of the stories in random worlds."""

MASS: dict[Story, int] = {
    black_hole: 6,
    silence: 5,
    lost_part: 6,
    crash_of_many: 6,
    end_of_shift: 4,
    operator: 4,
}
"""Drawn in addition where the brake holds."""

QUIET = frozenset({supervisor, wet_network, lost_site, jump})
"""These excuse no delay."""
