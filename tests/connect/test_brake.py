"""The brake with the real dispatcher and store: whole days of a contact centre on virtual time, told by their calls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from tests.connect.world import FAST, TIMER, TTL, instant, world
from watchdog.core.brake import ALL, PROOF_S, SILENCE_S, UNPROVEN, BrakeRules, State
from watchdog.core.model import BeatType
from watchdog.errors import StoreUnavailable
from watchdog.sandbox.records import FaultKind

pytestmark = pytest.mark.looptime

INTERVAL = 10.0


class Floor:
    """Agents who beat every 10 s, each at its own second, unless the network in front of some of them is down."""

    def __init__(self, w, agents):
        self.w = w
        self.agents = agents
        self.cut = set()
        self.task = asyncio.create_task(self.run())

    async def run(self):
        for second in range(10**6):
            there = [a for at, a in enumerate(self.agents) if at % INTERVAL == second % INTERVAL and a not in self.cut]
            if there:
                with suppress(StoreUnavailable):
                    await self.w.beat(*there)
            await asyncio.sleep(1)

    async def bye(self, *agents):
        self.cut |= set(agents)
        await self.w.beat(*agents, kind=BeatType.BYE)


@asynccontextmanager
async def floor(tmp_path, number, **options):
    options = {"brake": BrakeRules(), "quota": FAST, **options}
    async with world(tmp_path, **options) as w:
        made = Floor(w, w.centre(agents=number))
        await w.start()
        yield w, made
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)


def agents_of(w, outcome):
    return sorted(action.agent for action in w.actions if action.outcome == outcome)


async def test_a_black_hole_of_a_minute_in_front_of_everybody_sets_nobody(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await asyncio.sleep(120)
        f.cut = set(f.agents)
        await asyncio.sleep(60)
        assert w.tick.brake.state is State.HOLDING
        f.cut = set()
        await asyncio.sleep(300)
        assert w.puts() == []
        assert {w.shown(agent) for agent in f.agents} == {"Available"}
        assert w.tick.brake.state is State.CLEAR
        assert set(w.outcomes()) == {"held"}


@pytest.mark.parametrize("length", [600, pytest.param(3000, marks=pytest.mark.long)])
async def test_a_black_hole_of_many_minutes_sets_nobody_either(tmp_path, length):
    async with floor(tmp_path, 40) as (w, f):
        await asyncio.sleep(120)
        f.cut = set(f.agents)
        await asyncio.sleep(length)
        f.cut = set()
        await asyncio.sleep(300)
        assert w.puts() == []
        assert w.tick.brake.state is State.CLEAR


async def test_of_those_whose_network_dies_only_who_is_really_gone_is_set(tmp_path):
    async with floor(tmp_path, 100) as (w, f):
        await asyncio.sleep(120)
        lost, dead = f.agents[:40], f.agents[:15]
        f.cut = set(lost)
        await w.until(lambda: w.tick.brake.held >= 40)
        assert w.puts() == []
        await w.until(lambda: w.tick.brake.held == 0)
        released = instant()
        await asyncio.sleep(0.1)
        assert agents_of(w, "released") == sorted(lost)
        f.cut = set(dead)  # the network is back just then, and there is a fresh lease to say so
        await asyncio.sleep(TTL + TIMER + 20)
        assert sorted({call.user_id for call in w.puts()}) == sorted(agent.user_id for agent in dead)
        await asyncio.sleep(30)
        assert agents_of(w, "confirmed") == sorted(dead)
        assert {w.shown(agent) for agent in f.agents[15:]} == {"Available"}
        assert min(action.at for action in w.actions if action.outcome == "confirmed") > released.epoch + TTL + TIMER


async def test_the_end_of_a_shift_is_no_fault(tmp_path):
    async with floor(tmp_path, 100) as (w, f):
        await asyncio.sleep(120)
        for number in range(60):
            await f.bye(f.agents[number])
            await asyncio.sleep(1)
        await asyncio.sleep(60)
        assert agents_of(w, "confirmed") == sorted(f.agents[:60])
        assert w.tick.brake.state is State.CLEAR
        assert set(w.outcomes()) == {"confirmed"}


async def test_when_an_update_crashes_everybody_all_are_set_in_the_end(tmp_path):
    rules = BrakeRules(max_hold_s=300)
    async with floor(tmp_path, 40, brake=rules) as (w, f):
        await asyncio.sleep(120)
        f.cut = set(f.agents)
        await asyncio.sleep(0.6 * TTL + INTERVAL + rules.max_hold_s)
        assert w.tick.brake.state is State.ALARM
        assert w.puts() == []
        await asyncio.sleep((UNPROVEN - 1) * rules.max_hold_s + 60)
        assert agents_of(w, "confirmed") == sorted(f.agents)
        assert agents_of(w, "released") == agents_of(w, "held") == sorted(f.agents)


async def test_when_an_update_crashes_everybody_and_a_few_start_again_the_others_are_set_soon(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await asyncio.sleep(120)
        f.cut = set(f.agents)
        await asyncio.sleep(180)
        f.cut -= set(f.agents[:2])
        await asyncio.sleep(INTERVAL + PROOF_S + TTL + TIMER + 15)
        assert agents_of(w, "confirmed") == sorted(f.agents[2:])


@pytest.mark.parametrize("number", [1, 2, 6])
async def test_one_crash_in_a_small_team_is_caught_in_time(tmp_path, number):
    async with floor(tmp_path, number) as (w, f):
        await asyncio.sleep(120)
        f.cut = {f.agents[0]}
        await asyncio.sleep(TTL + TIMER + 1)
        assert len(w.puts()) == 1
        assert w.outcomes() == []
        await asyncio.sleep(10)
        assert w.outcomes() == ["confirmed"]


async def test_a_team_of_two_that_both_crash_is_caught_two_minutes_later(tmp_path):
    async with floor(tmp_path, 2) as (w, f):
        await asyncio.sleep(120)
        f.cut = set(f.agents)
        await asyncio.sleep(0.6 * TTL + SILENCE_S - 1)
        assert w.puts() == []
        await asyncio.sleep(10)
        assert agents_of(w, "confirmed") == sorted(f.agents)


async def test_at_the_threshold_the_brake_does_not_flutter(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await asyncio.sleep(120)
        changes = 0
        state = State.CLEAR
        for turn in range(20):
            f.cut = set(f.agents[: 12 if turn % 2 else 11])
            for _ in range(60):
                await asyncio.sleep(0.25)
                changes += state is not w.tick.brake.state
                state = w.tick.brake.state
        assert changes <= 4
        f.cut = set()
        await asyncio.sleep(120)
        assert w.tick.brake.state is State.CLEAR
        await asyncio.sleep(700)
        assert {w.shown(agent) for agent in f.agents[12:]} == {"Available"}


async def test_a_restart_while_holding_calls_nobody(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await asyncio.sleep(120)
        f.cut = set(f.agents)
        await asyncio.sleep(60)
        for _ in range(3):
            await w.crash()
            await asyncio.sleep(3)
            await w.start()
            await asyncio.sleep(60)
            assert w.tick.brake.held == 40
        again = Floor(w, f.agents)  # the crash took the tasks of the agents with it
        await asyncio.sleep(120)
        assert w.puts() == []
        assert w.tick.brake.state is State.CLEAR
        again.task.cancel()
        await asyncio.gather(again.task, return_exceptions=True)


async def test_an_agent_whose_calls_were_refused_is_held_like_the_others(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await asyncio.sleep(120)
        f.cut = {f.agents[0]}
        await asyncio.sleep(TTL - 1)
        # The others fall silent, and the first is due while nobody can be called.
        w.fault(FaultKind.THROTTLE)
        f.cut = set(f.agents)
        await asyncio.sleep(0.6 * TTL + INTERVAL)
        assert w.tick.brake.state is State.HOLDING
        before = len(w.puts())
        w.model.clear_faults()
        await asyncio.sleep(120)
        assert len(w.puts()) == before
        assert w.effective() == 0


async def test_an_order_between_the_re_check_and_the_next_stops_the_write(tmp_path):
    async with floor(tmp_path, 6) as (w, f):
        await asyncio.sleep(120)

        async def hold():
            await w.store.order(ALL, hold=True, for_s=600, reason="", instant=instant())

        w.on_flush = hold
        f.cut = {f.agents[0]}
        await asyncio.sleep(TTL + TIMER + 60)
        assert w.flushes
        assert w.puts() == []
        assert w.outcomes() == ["held"]
        (action,) = w.actions
        assert action.evidence["brake"]["reason"] == "operator"
        assert (await w.store.actions()).actions == (action,)


async def test_whoever_is_held_while_waiting_for_a_token_leaves_no_intent(tmp_path):
    async with floor(tmp_path, 6) as (w, f):
        await asyncio.sleep(120)
        take, intend, intents = w.store.take_tokens, w.store.intend, []

        async def held_meanwhile(operation, *rest):
            if operation == "PutUserStatus":
                await w.store.order(ALL, hold=True, for_s=600, reason="", instant=instant())
            return await take(operation, *rest)

        async def noted(claim, intent):
            intents.append(intent)
            return await intend(claim, intent)

        w.store.take_tokens, w.store.intend = held_meanwhile, noted
        f.cut = {f.agents[0]}
        await asyncio.sleep(TTL + TIMER + 60)
        assert w.tick.brake.held == 1
        assert (w.puts(), intents) == ([], [])


async def test_an_operator_can_hold_through_a_maintenance(tmp_path):
    async with floor(tmp_path, 3) as (w, f):
        await asyncio.sleep(60)
        await w.store.order(ALL, hold=True, for_s=1800, reason="new proxy", instant=instant())
        f.cut = set(f.agents)
        await asyncio.sleep(1700)
        f.cut = set()
        await asyncio.sleep(600)
        assert w.puts() == []
        assert w.tick.brake.state is State.CLEAR


async def test_what_the_brake_did_is_in_the_history_once_the_disk_is_back(tmp_path):
    async with floor(tmp_path, 40) as (w, f):
        await asyncio.sleep(120)
        f.cut = set(f.agents)
        await asyncio.sleep(TTL + TIMER - INTERVAL - 1)
        real = w.store.record

        async def refuse(actions):
            raise StoreUnavailable("not now")

        w.store.record = refuse
        await asyncio.sleep(60)
        assert w.actions == []
        w.store.record = real
        await asyncio.sleep(1)
        assert agents_of(w, "held") == sorted(f.agents)
        assert len((await w.store.actions()).actions) == 40
