"""Faults by name: of the daemon and its machine, of the network, of Connect, and of many agents at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.simulation.stage import LATEST, TIMER, TTL, act, all_arrive, fault, ids, written
from watchdog.core.brake import BrakeRules
from watchdog.core.clock import ClockRules
from watchdog.core.model import AgentId, AgentState, Beat, Boot, Epoch, Instant, Outcome
from watchdog.core.quota import QuotaRules
from watchdog.ingest.buffer import Buffer
from watchdog.sandbox.records import Fault, FaultKind
from watchdog.simulation.faults import POINTS, PUT, READ
from watchdog.stores.base import StoreRules
from watchdog.stores.disk import InlineDisk
from watchdog.stores.sqlite import SqliteStore

DAY = 86_400.0


class Told(dict):
    """What a script tells its test."""

    __getattr__ = dict.__getitem__


def told_by(script, **world):
    """Plays a script that is given the world and something to tell; every promise must be kept."""
    told = Told()
    result = act(lambda stage: script(stage, told), **world)
    assert result.violations == (), str(result.violations[0])
    return result, told


async def crash(world, told, number=0):
    """One of all crashes; later nothing but this may have been acted on."""
    people = await all_arrive(world)
    people[number].crash()
    told["ghosts"] = ids([people[number]])
    told["at"] = asyncio.get_running_loop().time()
    return people


# The daemon and its machine.


@pytest.mark.parametrize("away_s", [1.0, 300.0, DAY])
def test_a_kill_of_any_length_costs_no_present_agent_and_loses_no_ghost(away_s):
    async def script(world, told):
        await crash(world, told)
        with fault(world):
            await world.host.kill()
            await asyncio.sleep(away_s)
            world.host.start()
        told["back"] = asyncio.get_running_loop().time()

    result, told = told_by(script, agents=3)
    assert written(result) == told.ghosts
    assert result.sent[0][0] < told.back + 30.0 + LATEST


@pytest.mark.parametrize("stopped_s", [3.0, 30.0, 600.0])
def test_a_stopped_process_judges_nobody_by_the_time_in_which_it_was_stopped(stopped_s):
    async def script(world, told):
        await crash(world, told)
        with fault(world):
            world.host.pause()
            await asyncio.sleep(stopped_s)
            world.host.resume()
        told["back"] = asyncio.get_running_loop().time()

    result, told = told_by(script)
    assert written(result) == told.ghosts
    assert told.back < result.sent[0][0] < told.back + 30.0 + LATEST


@pytest.mark.long
def test_a_crash_loop_for_an_hour_delays_and_never_disables():
    async def script(world, told):
        await crash(world, told)
        with fault(world):
            for _ in range(180):
                await world.host.kill()
                await asyncio.sleep(0.5)
                world.host.start()
                await asyncio.sleep(19.5)
        told["over"] = asyncio.get_running_loop().time()

    result, told = told_by(script)
    assert written(result) == told.ghosts
    assert result.sent[0][0] < told.over


def test_a_deployment_that_replaces_the_process_again_and_again_is_noticed_by_nobody():
    async def script(world, told):
        await crash(world, told)
        for _ in range(4):
            with fault(world):
                await world.host.stop()
                await asyncio.sleep(2.0)
                world.host.start()
            await asyncio.sleep(15.0)

    result, told = told_by(script)
    assert written(result) == told.ghosts


@pytest.mark.parametrize("jump_s", [3_600.0, -3_600.0, 1.0, -1.0], ids=["forward", "back", "leap", "leap back"])
def test_the_wall_clock_may_be_set_by_an_hour_or_a_leap_second(jump_s):
    async def script(world, told):
        await crash(world, told)
        await asyncio.sleep(12.0)
        world.host.jump_s += told.setdefault("jump_s", jump_s)

    async def still(world, told):
        told["jump_s"] = 0.0
        await script(world, told)

    result, told = told_by(script)
    assert written(result) == told.ghosts
    assert result.sent == told_by(still)[0].sent


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("passes", range(6))
def test_a_crash_at_each_step_between_claim_and_settling_makes_exactly_one_change(point, passes):
    async def script(world, told):
        await crash(world, told)
        await asyncio.sleep(TTL + TIMER - 12.0)
        with fault(world):
            # A tick commits too: so that each passage of a point is met, the count begins shortly before the deadline.
            world.host.kill_at(point, passes + 8 * point.startswith("disk"))
            for _ in range(120):
                await asyncio.sleep(0.5)
                if world.host.process is None:
                    break
            await asyncio.sleep(3.0)
            world.host.start()

    result, told = told_by(script, agents=3, sweep=0.25, flush=0.2)
    assert written(result) == told.ghosts
    assert result.writes == 1


def test_who_comes_back_between_the_re_check_and_the_write_is_written_to_once_and_is_given_the_status_back():
    async def script(world, told):
        people = await crash(world, told)
        world.host.at("put.before", people[0].come_back)
        await asyncio.sleep(LATEST)
        told["shown"] = people[0].shown()

    result, told = told_by(script)
    assert len(result.sent) == 1
    assert [outcome for _, outcome in result.outcomes] == [Outcome.RETURNED, Outcome.CONFIRMED]
    assert told.shown == "Available"


# The network.


@pytest.mark.parametrize(
    ("loss", "hours", "false"),
    [
        pytest.param(0.01, 8, (0, 0), marks=pytest.mark.long),
        (0.05, 2, (0, 0)),
        pytest.param(0.05, 8, (0, 0), marks=pytest.mark.long),
        pytest.param(0.2, 8, (1, 40), marks=pytest.mark.long),
    ],
)
def test_a_shift_with_loss(loss, hours, false):
    """At 20 % five losses in a row come about: a present agent is set at times, and is heard again within seconds."""

    async def script(world, told):
        await all_arrive(world)
        await asyncio.sleep(hours * 3_600.0)

    result, _ = told_by(script, agents=10, loss=loss)
    least, most = false
    assert least <= len(result.sent) <= most


def test_repeated_late_and_reordered_requests_keep_no_ghost_alive():
    async def script(world, told):
        await crash(world, told)
        await asyncio.sleep(300.0)

    result, told = told_by(script, replayed=True, late=True)
    assert written(result) == told.ghosts
    assert result.sent[0][0] < told.at + LATEST + 5.0


# Amazon Connect.


@pytest.mark.parametrize(
    ("operation", "kind", "times"),
    [
        *(
            (operation, kind, None)
            for operation in (PUT, READ)
            for kind in (FaultKind.THROTTLE, FaultKind.INTERNAL, FaultKind.TIMEOUT, FaultKind.ACCESS_DENIED)
        ),
        (PUT, FaultKind.LOST_ANSWER, 2),
        (PUT, FaultKind.NO_EFFECT, 2),
    ],
)
def test_a_fault_of_connect_delays_and_loses_nothing(operation, kind, times):
    async def script(world, told):
        with fault(world):
            mark = world.model.add_fault(Fault(kind, operation, times=times, delay_s=20.0))
            await crash(world, told)
            await asyncio.sleep(120.0)
            world.model.clear_faults(mark)

    result, told = told_by(script)
    assert written(result) == told.ghosts
    assert (told.ghosts.pop(), Outcome.CONFIRMED) in result.outcomes


def test_a_user_whom_connect_does_not_know_is_given_up_and_nobody_else():
    async def script(world, told):
        people = await all_arrive(world)
        gone, other = people[:2]
        told["gone"], told["other"] = gone.agent.user_id, other.agent.user_id
        world.model.add_fault(Fault(FaultKind.NOT_FOUND, PUT, user_id=gone.agent.user_id))
        for each in (gone, other):
            each.crash()
        # Whom Connect does not know, nobody can set.
        gone.account.overruled = True
        await asyncio.sleep(LATEST)

    result, told = told_by(script)
    assert (told.gone, Outcome.NO_SUCH_USER) in result.outcomes
    assert (told.other, Outcome.CONFIRMED) in result.outcomes


# Agents, one and many.


@pytest.mark.parametrize("agents", [1, 2, 6])
def test_one_crash_in_a_team_of_any_size_is_found_in_time(agents):
    result, told = told_by(crash, agents=agents)
    assert written(result) == told.ghosts
    assert result.sent[0][0] <= told.at + LATEST


def test_a_pair_that_crashes_together_is_held_for_two_minutes_at_most():
    async def script(world, told):
        people = await crash(world, told)
        people[1].crash()

    result, told = told_by(script, agents=2)
    assert len(written(result)) == 2
    assert told.at + LATEST < result.sent[-1][0] <= told.at + LATEST + 120.0


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_an_agent_with_three_sessions_is_gone_with_the_last(lost):
    async def script(world, told):
        people = await all_arrive(world, 5.0)
        person = people[0]
        person.open()
        person.open()
        await asyncio.sleep(40.0)
        for number, page in enumerate(list(person.pages)[:lost]):
            person.end(page, bye=number == 1)
            await asyncio.sleep(7.0)
        told["at"] = asyncio.get_running_loop().time()
        await asyncio.sleep(100.0)

    result, _ = told_by(script, agents=3)
    assert len(result.sent) == (lost == 3)


async def leave(world, told, stay):
    """All but some leave within a minute, three of five with a bye."""
    people = await all_arrive(world)
    for number, person in enumerate(people[stay:]):
        person.crash(bye=number % 5 < 3)
        await asyncio.sleep(2.0)
    told["at"] = asyncio.get_running_loop().time()
    told["gone"] = ids(people[stay:])
    told["byes"] = ids(person for number, person in enumerate(people[stay:]) if number % 5 < 3)


@pytest.mark.parametrize("stay", [0, 6])
def test_the_end_of_a_shift_holds_nobody_who_said_bye_and_everybody_is_set_in_the_end(stay):
    """With colleagues who prove the path the silent third is let go after minutes; with nobody, after four times
    BRAKE_MAX_HOLD."""
    result, told = told_by(lambda world, told: leave(world, told, stay), agents=26)
    last = {user_id: at for at, user_id in result.sent}
    assert last.keys() == told.gone
    assert all(last[user_id] < told.at + 30.0 for user_id in told.byes)
    longest = 60.0 + 60.0 + TTL + LATEST if stay else 4 * 900.0 + TTL + LATEST
    assert all(last[user_id] < told.at + longest for user_id in told.gone)


def test_a_browser_update_that_crashes_everybody_holds_until_it_is_known_who_comes_back():
    async def script(world, told):
        people = await all_arrive(world)
        for person in people:
            person.crash()
        told["at"] = asyncio.get_running_loop().time()
        for person in people[:10]:
            await asyncio.sleep(4.0)
            person.come_back()
        told["ghosts"] = ids(people[10:])

    result, told = told_by(script, agents=20)
    assert written(result) == told.ghosts
    assert all(told.at + LATEST + 20.0 < at < told.at + 300.0 for at, _ in result.sent)


def test_silence_that_comes_and_goes_at_the_threshold_sets_nobody_who_comes_back():
    async def script(world, told):
        people = await all_arrive(world)
        for _ in range(10):
            # Six of twenty are exactly as many as trip the brake; the outage is longer than TTL and timer.
            for person in people[:6]:
                person.path.down += 1
            await asyncio.sleep(55.0)
            for person in people[:6]:
                person.path.down -= 1
            await asyncio.sleep(40.0)

    result, _ = told_by(script, agents=20)
    assert result.sent == ()


def test_below_the_threshold_the_same_silence_is_what_it_looks_like():
    async def script(world, told):
        people = await all_arrive(world)
        for person in people[:5]:
            person.path.down += 1
        await asyncio.sleep(55.0)
        for person in people[:5]:
            person.path.down -= 1

    result, _ = told_by(script, agents=20)
    assert len(written(result)) == 5


@pytest.mark.parametrize("kind", ["hole", "network", "site"])
def test_an_outage_of_a_minute_in_front_of_forty_agents_calls_nobody(kind):
    async def script(world, told):
        await all_arrive(world)
        paths = {"network": world.network.all, "site": world.sites[0]}
        with fault(world):
            if kind == "hole":
                world.network.front.hole += 1
            else:
                paths[kind].down += 1
            await asyncio.sleep(60.0)
            if kind == "hole":
                world.network.front.hole -= 1
            else:
                paths[kind].down -= 1

    result, _ = told_by(script, agents=40, cut_off=20)
    assert result.sent == ()


def test_an_operator_holds_and_releases():
    async def script(world, told):
        people = await all_arrive(world)
        taken = await world.host.order(hold=True, for_s=300.0)
        world.invariants.holding.ordered(asyncio.get_running_loop().time(), hold=taken, for_s=300.0)
        people[0].crash()
        with fault(world):
            await asyncio.sleep(200.0)
            told["held_until"] = asyncio.get_running_loop().time()
            taken = await world.host.order(hold=False, for_s=60.0)
            world.invariants.holding.ordered(asyncio.get_running_loop().time(), hold=False, for_s=60.0)
        await asyncio.sleep(30.0)

    result, told = told_by(script)
    assert [at > told.held_until for at, _ in result.sent] == [True]
    assert result.sent[0][0] < told.held_until + 10.0


@pytest.mark.parametrize("agents", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_stampede_after_a_restart_finds_everybody_live(tmp_path, agents):
    """In process and in real time: the buffer and the store; how long it takes is not judged here."""
    rules = StoreRules(TIMER, ClockRules(30.0, 10.0), QuotaRules(2.0, 5.0, 0.8), brake=BrakeRules())
    beats = [
        Beat(AgentId("centre", f"{number:06d}"), number.to_bytes(16, "big"), seq=1, ttl=TTL) for number in range(agents)
    ]

    def at(boot):
        return Instant(Boot(boot), Epoch(1_700_000_000.0 + boot), "boot")

    async def comes(store, now, seq):
        buffer = Buffer(store, lambda: at(now), lambda: now)
        for beat in beats:
            buffer.submit(replace(beat, seq=seq))
        await buffer.flush()
        assert buffer.size == 0

    async def story():
        store = SqliteStore(tmp_path / "watchdog.db", rules, InlineDisk)
        await store.open(at(0.0))
        await store.tick("one", at(0.0))
        await comes(store, 0.2, 1)
        await store.close()
        store = SqliteStore(tmp_path / "watchdog.db", rules, InlineDisk)
        await store.open(at(600.0))
        tick = await store.tick("two", at(600.2))
        assert tick.due == ()
        for second in range(5):
            await store.tick("two", at(600.5 + second))
        await comes(store, 605.0, 2)
        for second in range(1, int(TTL)):
            tick = await store.tick("two", at(605.0 + second))
            assert (tick.due, tick.brake.held) == ((), 0)
        counts = await store.counts()
        assert counts.agents[AgentState.LIVE] == counts.sessions == len(beats)
        await store.close()

    asyncio.run(story())
