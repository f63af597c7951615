"""Daemons of several that vanish again and again: the clock stands for their clients, and never for good."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import RULES, START, TIMER, TTL, session
from tests.stores.daemons import AGENTS, SHARDS, play
from watchdog.core.clock import GRACE_SHARE, GRACE_WINDOW_S, Cause, Clock, first
from watchdog.core.model import Beat, BeatType, Boot, Epoch, Instant
from watchdog.errors import StoreUnavailable
from watchdog.simulation.loop import VirtualLoop
from watchdog.simulation.valkey import Connection, VirtualValkey, Way
from watchdog.stores.keeper import Keeper, Shared
from watchdog.stores.register import Entry, Register

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.stores.daemons import Asked, Daemons
    from watchdog.stores.valkey_server import Call

GRACE_S = RULES.clock.resume_grace_s
MOST_S = GRACE_WINDOW_S * GRACE_SHARE


def test_a_daemon_that_dies_again_and_again_delays_ghosts_and_never_disables() -> None:
    """Half of the agents beat by way of it, and elsewhere within seconds when it is not there."""

    async def story(daemons: Daemons) -> None:
        daemons.beating = False
        ghost, *others = AGENTS
        survivor, *rest = daemons.stores
        for store in rest[1:]:
            await daemons.die(store)
        loops = [rest[0]]

        async def beat(at: int) -> None:
            rng, agent = random.Random(at), others[at]
            beats = [Beat(agent, session(AGENTS.index(agent) + 1), BeatType.BEAT, 0, None, TTL)]
            while True:
                for store in itertools.chain([loops[-1]] * (at % 2), itertools.repeat(survivor)):
                    with contextlib.suppress(StoreUnavailable):
                        await store.apply(beats, daemons.instant)
                        break
                    await asyncio.sleep(rng.uniform(1.0, 3.0))
                await asyncio.sleep(10.0)

        tasks = [asyncio.create_task(beat(at)) for at in range(len(others))]
        began = asyncio.get_running_loop().time()
        while not daemons.due:
            await asyncio.sleep(20.0)
            await daemons.die(loops[-1])
            await asyncio.sleep(1.0)
            loops.append(await daemons.start())
            assert asyncio.get_running_loop().time() - began < TTL + TIMER + MOST_S + 120.0
        await asyncio.sleep(120.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert daemons.due == {ghost}

    play(story)


def kept(*spans: tuple[float, Iterable[Entry]]) -> list[Clock]:
    """A keeper who is told the same for so many seconds, one thing after another; as it is after each."""

    async def played() -> list[Clock]:
        server = Connection(Way(VirtualValkey(offset_s=0.0, drift=0.0), random.Random(0)), lambda _: None)
        register = Register(server, "me", asyncio.get_running_loop().time)
        now = 100.0

        def instant() -> Instant:
            return Instant(Boot(now), Epoch(START + now), "boot-1")

        keeper = Keeper(server, SHARDS, "me", RULES, register, instant)
        await keeper.take()
        keeper.go_on(first(instant()), Shared())
        clocks = list[Clock]()
        for seconds, entries in spans:
            for _ in range(round(seconds)):
                now += 1.0
                await keeper.tick([Entry("me", 0.0, {}), *entries], instant())
            clocks.append(keeper.clock)
        return clocks

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(played())


HERE, GONE = [Entry("other", 0.0, {})], [Entry("other", 3.0, {})]
FAILS = [Entry("other", 0.0, {"blind": Cause.STORE})]


def test_the_clients_of_a_daemon_that_vanishes_have_all_of_the_grace() -> None:
    before, gone = kept((1_000.0, HERE), (GRACE_S, GONE))
    assert gone.observed == before.observed
    assert gone.standing is Cause.REPLICA


def test_after_many_have_vanished_there_is_grace_for_a_fault_of_the_store() -> None:
    before, spent, _, after, later = kept(
        (MOST_S - GRACE_S, GONE), (5.0, GONE), (60.0, FAILS), (GRACE_S, HERE), (5.0, HERE)
    )
    assert spent.observed > before.observed
    assert after.standing is Cause.GRACE
    assert later.observed > after.observed


def test_the_clock_stands_again_for_clients_when_daemons_have_not_vanished_for_a_while() -> None:
    spent, _, before, gone = kept((MOST_S, GONE), (5.0, HERE), (GRACE_WINDOW_S, HERE), (GRACE_S, GONE))
    assert spent.standing is None
    assert gone.observed == before.observed


def test_what_vanishes_for_good_and_is_never_dropped_takes_half_of_the_time_at_most() -> None:
    clocks = kept(*((GRACE_WINDOW_S, GONE) for _ in range(6)))
    for before, after in itertools.pairwise(clocks):
        assert after.observed - before.observed >= GRACE_WINDOW_S * (1 - GRACE_SHARE) - 2.0


def test_what_others_say_stops_the_clock_for_as_long_as_they_say_so() -> None:
    spent, fails = kept((2 * MOST_S, GONE), (2 * MOST_S, FAILS))
    assert fails.observed == spent.observed


def test_the_clock_stands_for_whole_graces_and_not_for_crumbs_of_one() -> None:
    loop = [(GRACE_S * 0.6, GONE), (GRACE_S * 0.7, HERE)] * 15
    clocks = kept(*loop, *((1.0, GONE) for _ in range(2 * int(GRACE_WINDOW_S))))[len(loop) :]
    spans = [list(span) for stands, span in itertools.groupby(clocks, lambda clock: clock.standing) if stands]
    assert spans
    assert all(len(span) >= GRACE_S - 1.0 for span in spans[1:-1])


@pytest.mark.parametrize("grace_s", [0.0, 1.0, 30.0])
def test_nobody_who_is_heard_is_dropped(grace_s: float) -> None:
    """Also where the grace is shorter than the time after which a daemon is not heard of; who is gone is dropped."""

    async def story(daemons: Daemons) -> None:
        rules = replace(RULES, clock=replace(RULES.clock, resume_grace_s=grace_s))
        keeper = daemons.keeper._keeper
        assert keeper is not None
        keeper._rules = rules
        dropped = list[bytes]()

        async def steer(calls: Sequence[Call], ask: Asked) -> list[list[bytes]]:
            found = await ask(calls)
            dropped.extend(answer[0] for answer in found if answer[0] == b"DROPPED")
            return found

        for connection in daemons.connections.values():
            connection.steer = steer
            # One that is late has not vanished.
            connection._way.slow_s = 0.5
        await asyncio.sleep(30.0)
        assert not dropped
        for connection in daemons.connections.values():
            connection._way.slow_s = 0.0
        (dead, *_) = [store for store in daemons.stores if store is not daemons.keeper]
        await daemons.die(dead)
        await asyncio.sleep(grace_s + 5.0)
        assert len(daemons.keeper.entries) == 2

    play(story)
