"""Several daemons over one real server, each with its share of the parts."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.contract import redis_server
from tests.contract.world import RULES, START, TICK, TIMER, TTL, World, action_of, intent, session
from tests.scenarios.front import Front
from tests.stores.test_valkey import documented_user, everything
from watchdog.core.brake import BrakeRules
from watchdog.core.clock import Cause, first
from watchdog.core.model import AgentId, AgentState, Beat, BeatType, Boot, Epoch, Instant, Outcome, Standing, Verdict
from watchdog.core.undo import Written
from watchdog.errors import NotHandedOn, StoreFailed, StoreUnavailable
from watchdog.ingest.sorted_buffer import HERE, SortedBuffer
from watchdog.stores import bus, one_part, packed, replica
from watchdog.stores.address import Address
from watchdog.stores.ending import ended
from watchdog.stores.keeper import Keeper, Shared, published
from watchdog.stores.part_rows import part_of
from watchdog.stores.register import Entry, Register
from watchdog.stores.replica import ReplicaStore
from watchdog.stores.shares import share
from watchdog.stores.valkey import server_at
from watchdog.stores.valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tests.contract.redis_server import RedisServer
    from watchdog.stores.base import StoreRules, Tick
    from watchdog.stores.valkey_server import Call

SHARDS = 6
AGENTS = [AgentId("i", f"agent-{number}") for number in range(30)]


class Deployment:
    """Daemons of one machine, whose time is a number."""

    def __init__(self, server: RedisServer, rules: StoreRules = RULES) -> None:
        self.server = server
        self.address = server.address
        self.rules = rules
        self.now = 100.0
        self.stores: list[ReplicaStore] = []
        self.all: list[ReplicaStore] = []

    @property
    def instant(self) -> Instant:
        return Instant(Boot(self.now), Epoch(START + self.now), "boot-1")

    async def start(self) -> ReplicaStore:
        store = ReplicaStore(self.address, self.rules, f"process {len(self.all)}", SHARDS)
        self.all.append(store)
        await store.open(self.instant)
        self.stores.append(store)
        return store

    async def tick(self) -> list[Tick]:
        self.now += TICK
        return [await store.tick("me", self.instant) for store in list(self.stores)]

    async def wait(self, seconds: float) -> list[Tick]:
        found: list[Tick] = []
        for _ in range(round(seconds / TICK)):
            found = await self.tick()
        return found

    async def even(self) -> None:
        """Real time passes until each has its share."""
        for _ in range(200):
            for store in self.stores:
                await store.tick("me", self.instant)
            held = sorted(len(store._holdings.stores) for store in self.stores)
            if sum(held) == SHARDS and held[-1] - held[0] <= 1:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(held)

    async def keeper(self) -> ReplicaStore:
        """Who keeps the clock; on a busy machine that is not always the first."""
        for _ in range(200):
            for store in self.stores:
                await store.tick("me", self.instant)
                if store._keeper is not None:
                    return store
            await asyncio.sleep(0.05)
        raise AssertionError("nobody keeps the clock")

    async def beat(self, store: ReplicaStore, *agents: AgentId, kind: BeatType = BeatType.BEAT) -> None:
        ttl = 0.0 if kind is BeatType.BYE else TTL
        beats = [Beat(agent, session(AGENTS.index(agent) + 1), kind, 0, None, ttl) for agent in agents]
        for reply in await store.apply(beats, self.instant):
            assert reply.live is (kind is not BeatType.BYE)


@pytest.fixture
async def deployment(server: RedisServer) -> AsyncIterator[Deployment]:
    made = Deployment(server)
    yield made
    for store in made.all:
        await store.close()


async def test_one_daemon_has_all_parts_and_two_have_half_of_them_each(deployment: Deployment) -> None:
    first = await deployment.start()
    assert len(first._holdings.stores) == SHARDS
    second = await deployment.start()
    await deployment.even()
    assert len(second._holdings.stores) == SHARDS / 2


async def test_heartbeats_reach_whoever_has_the_part_and_all_are_in_one_clock(deployment: Deployment) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    await deployment.beat(first, *AGENTS)
    ticks = await deployment.tick()
    assert ticks[0].clock.observed == pytest.approx(ticks[1].clock.observed, abs=0.1)
    counts = [await store.counts() for store in (first, second)]
    assert sum(count.agents[AgentState.LIVE] for count in counts) == len(AGENTS)
    assert all(count.agents[AgentState.LIVE] for count in counts)
    page = await second.agents(limit=7)
    assert [view.agent for view in page.agents] == sorted(AGENTS)[:7]
    assert page.cursor is not None
    for agent in AGENTS:
        view = await second.agent(agent)
        assert view is not None
        assert view.state is AgentState.LIVE


async def test_each_ghost_is_due_with_one_daemon_alone(deployment: Deployment) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    await deployment.beat(first, *AGENTS)
    await deployment.beat(second, *AGENTS, kind=BeatType.BYE)
    ticks = await deployment.wait(TIMER + 1)
    due = [due.agent for tick in ticks for due in tick.due]
    assert sorted(due) == sorted(AGENTS)
    assert all(tick.due for tick in ticks)


async def test_a_daemon_that_stops_hands_its_agents_over_with_their_leases(deployment: Deployment) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    ghosts, present = AGENTS[:15], AGENTS[15:]
    await deployment.beat(first, *AGENTS)
    await deployment.wait(20)
    deployment.stores.remove(first)
    await first.close()
    await deployment.even()
    (tick,) = await deployment.tick()
    assert tick.clock.standing is None
    await deployment.beat(second, *present)
    (tick,) = await deployment.wait(TTL - 20 + TIMER + 1)
    assert sorted(due.agent for due in tick.due) == sorted(ghosts)


async def test_a_daemon_that_dies_stops_the_clock_until_it_is_dropped(deployment: Deployment) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    await deployment.beat(first, *AGENTS)
    await deployment.wait(2 * TICK)
    deployment.stores.remove(second)
    await second.die()
    before = (await deployment.tick())[0].clock.observed
    await asyncio.sleep(2.2)
    (tick,) = await deployment.tick()
    assert tick.clock.standing is Cause.REPLICA
    await deployment.even()
    # Whoever died is registered still, and its agents are those of the first by now: each counts once.
    assert len(first.entries) == 2
    assert first.newcomer(AgentId("i", "nobody")) == len(AGENTS)
    for _ in range(round(TTL * 3 / TICK)):
        (tick,) = await deployment.tick()
        if len(first.entries) == 1:
            break  # on a busy machine it is dropped by now
        assert tick.clock.observed - before < 3
    assert not tick.due
    assert len(first._holdings.stores) == SHARDS


async def test_a_part_that_was_taken_over_acts_on_nobody(deployment: Deployment) -> None:
    first = await deployment.start()
    await deployment.beat(first, *AGENTS)
    await deployment.beat(first, *AGENTS, kind=BeatType.BYE)
    (tick,) = await deployment.wait(TIMER + 1)
    claim = await first.claim(tick.due[0], "me")
    assert claim is not None
    assert await first.intend(claim, intent())
    assert await first.still_gone(claim) is Standing.GONE
    # It is stopped for some seconds, of which it knows nothing.
    await ended([*first._tasks, *(store.journal._keeper for store in first._holdings.stores.values())])
    deployment.server.end_leases()
    with deployment.server.client as client:
        client.delete("{wd:all}:replicas")
    second = await deployment.start()
    assert len(second._holdings.stores) == SHARDS
    with pytest.raises(StoreUnavailable):
        await first.still_gone(claim)
    assert not await second.settle(claim, action_of(claim), None, None)


async def test_what_is_settled_is_in_the_history_of_all_once(deployment: Deployment) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    await deployment.beat(first, *AGENTS)
    await deployment.beat(first, *AGENTS, kind=BeatType.BYE)
    ticks = await deployment.wait(TIMER + 1)
    for store, tick in zip(deployment.stores, ticks, strict=True):
        for due in tick.due:
            claim = await store.claim(due, "me")
            assert claim is not None
            assert await store.intend(claim, intent())
            assert await store.still_gone(claim) is Standing.GONE
            action = action_of(claim, at=START + AGENTS.index(due.agent))
            assert await store.settle(claim, action)
    assert len((await second.actions()).actions) == len(AGENTS)
    assert await second.actions() == await first.actions()
    assert {action.outcome for action in (await first.actions()).actions} == {Outcome.CONFIRMED}
    recorded = await (await deployment.keeper()).recorded(0)
    assert [number for number, _ in recorded.actions] == list(range(1, len(AGENTS) + 1))


@pytest.mark.parametrize(("stopped_s", "found"), [(300, 30), (1_000, 0)])
async def test_time_without_any_daemon_counts_whoever_has_a_part_then(
    deployment: Deployment, stopped_s: float, found: int
) -> None:
    """RETURN_WINDOW is 900 s."""
    stores = [await deployment.start(), await deployment.start()]
    await deployment.even()
    await deployment.beat(stores[0], *AGENTS)
    for store, tick in zip(stores, await deployment.wait(TTL + TIMER + 1), strict=True):
        for due in tick.due:
            claim = await store.claim(due, "me")
            assert claim is not None
            assert await store.intend(claim, intent("available"))
            action = action_of(claim, at=deployment.instant.epoch)
            assert await store.settle(claim, action, Written(2.0))
    for store in stores:
        await store.close()
    deployment.stores.clear()
    deployment.now += stopped_s
    await asyncio.gather(deployment.start(), deployment.start())
    await deployment.even()
    kept = [
        agent.change
        for store in deployment.stores
        for part in store._holdings.stores.values()
        for agent in part._table.changed.values()
    ]
    assert all(change is not None for change in kept)
    beats = [
        Beat(agent, session(at + 1), BeatType.BEAT, 0, None, TTL, gap_ms=round(TTL * 1000) - 1)
        for at, agent in enumerate(AGENTS)
    ]
    await deployment.stores[0].apply(beats, deployment.instant)
    undone = [change.agent for tick in await deployment.tick() for change in tick.undos]
    assert (len(kept), len(undone)) == (found, found)


async def test_an_operator_holds_from_any_daemon_for_all(deployment: Deployment) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    await deployment.beat(first, *AGENTS)
    view = await second.order("all", hold=True, for_s=600, reason="test", instant=deployment.instant)
    assert view.holds
    ticks = await deployment.wait(TTL + TIMER + 2)
    assert not any(tick.due for tick in ticks)
    ticks = await deployment.tick()
    assert [tick.brake.held for tick in ticks] == [len(AGENTS)] * 2
    await second.order("all", hold=False, for_s=600, reason="test", instant=deployment.instant)
    await deployment.tick()
    ticks = await deployment.wait(1)
    assert len([due for tick in ticks for due in tick.due]) == len(AGENTS)


async def test_an_order_that_was_not_answered_while_the_server_stood_is_not_done_later(deployment: Deployment) -> None:
    """Who gave it was told so, and may have ordered something else since."""
    await deployment.start()
    await deployment.start()
    keeper = await deployment.keeper()
    (other,) = [store for store in deployment.stores if store is not keeper]
    await deployment.tick()
    deployment.server.signal(signal.SIGSTOP)
    try:
        ordered = asyncio.create_task(
            other.order("all", hold=True, for_s=600, reason="test", instant=deployment.instant)
        )
        await asyncio.wait({ordered}, timeout=bus.ANSWER_S + 0.3)
    finally:
        deployment.server.signal(signal.SIGCONT)
    with pytest.raises(StoreUnavailable):
        await ordered
    # What is asked later is answered later.
    await other._bus.ask(keeper.name, "shared", packed.out(Shared()))
    for _ in range(3):
        await deployment.tick()
        await asyncio.sleep(0.1)
    assert not any(tick.brake.holds for tick in await deployment.tick())


async def test_everything_is_forgotten_and_nobody_is_set_by_it(deployment: Deployment) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    await deployment.beat(first, *AGENTS)
    with deployment.server.client as client:
        client.flushall()
    # What is not written to is looked at once a second.
    for _ in range(30):
        deployment.now += TICK
        for store in deployment.stores:
            with contextlib.suppress(StoreUnavailable):
                assert not (await store.tick("me", deployment.instant)).due
        await asyncio.sleep(0.05)
    await deployment.tick()
    await deployment.beat(second, *AGENTS)
    assert len((await second.agents()).agents) == len(AGENTS)


async def test_the_user_of_the_documentation_may_do_all_that_several_daemons_need(
    server: RedisServer, deployment: Deployment
) -> None:
    with server.client as client:
        client.execute_command(*documented_user())
    deployment.address = replace(server.address, user="watchdog", password="sesame")
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    await deployment.beat(first, *AGENTS)
    await deployment.beat(second, *AGENTS)
    assert len((await second.agents()).agents) == len(AGENTS)
    assert await second.take_tokens("PutUserStatus", "here", 0, deployment.instant) == 0
    for store in (first, second):
        await store.close()
    with server.client as client:
        client.flushall()
    third = ReplicaStore(deployment.address, RULES, "the last", SHARDS)
    await everything(third, World(third, None))  # type: ignore[arg-type]


async def test_all_take_their_tokens_from_one_bucket(deployment: Deployment) -> None:
    """A full one has four; it fills up by the server's time, of which little passes here."""
    first, second = await deployment.start(), await deployment.start()
    key = "{wd:tokens}:PutUserStatus here"
    assert await first.take_tokens("PutUserStatus", "here", 1, deployment.instant) > 0
    with deployment.server.client as client:
        client.hset(key, "tokens", 4)
        waits = [
            await store.take_tokens("PutUserStatus", "here", 1, deployment.instant) for store in (first, second) * 4
        ]
        assert waits[:4] == [0.0] * 4
        assert 0 < waits[-1] <= 1 / RULES.quota.own_rate
        await second.throttled("PutUserStatus", "here", deployment.instant)
        assert float(client.hget(key, "tokens")) == 0
        assert float(client.hget(key, "factor")) < 0.51
    wait_s = await first.take_tokens("PutUserStatus", "here", 1, deployment.instant)
    assert wait_s > 1.5 / RULES.quota.own_rate


async def test_a_question_that_comes_late_is_not_answered(deployment: Deployment) -> None:
    """A daemon was stopped: what waited for it meanwhile must not renew a lease as if it had just come."""
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    theirs = [agent for agent in AGENTS if part_of(agent, SHARDS) in second._holdings.stores]
    beats = [Beat(agent, session(AGENTS.index(agent) + 1), BeatType.BEAT, 0, None, TTL) for agent in theirs]
    head = orjson.dumps(["?", 1, first.name, "apply", 1.0]) + b"\n"
    old = b"%d " % ((time.time() - 5) * 1000)
    with deployment.server.client as client:
        client.rpush("{wd:to:process 1}:inbox", old + head + packed.beats_out(beats))
    await deployment.beat(first, *[agent for agent in AGENTS if agent not in theirs])
    await first.agent(theirs[0])
    assert (await second.counts()).agents[AgentState.LIVE] == 0


async def test_whoever_is_asked_for_a_part_that_has_moved_says_so_and_the_next_one_is_asked(
    deployment: Deployment,
) -> None:
    first, second, third = [await deployment.start() for _ in range(3)]
    await deployment.even()
    moved = min(third._holdings.stores)
    theirs = [agent for agent in AGENTS if part_of(agent, SHARDS) == moved]
    first._holdings._owners[moved] = second.name
    await deployment.beat(first, *theirs)
    assert theirs
    assert (await third.counts()).agents[AgentState.LIVE] == len(theirs)


async def test_what_is_not_delivered_is_refused_and_stops_the_clock(deployment: Deployment) -> None:
    """The other one hangs for longer than anybody waits, and is registered all the same.

    The daemon's buffer keeps what was not delivered, and its sweep finds the same out by a flush before each tick: no
    world of the simulator needs the store's own word for it, all worlds the word of the two ("blind daemon").
    """
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    await deployment.beat(first, *AGENTS)
    theirs = next(agent for agent in AGENTS if part_of(agent, SHARDS) in second._holdings.stores)
    assert first.plainly_live(Beat(theirs, session(AGENTS.index(theirs) + 1), ttl=TTL)) == TTL
    await ended([second._tasks.pop(0)])
    with pytest.raises(StoreUnavailable):
        await deployment.beat(first, theirs)
    assert first.plainly_live(Beat(theirs, session(AGENTS.index(theirs) + 1), ttl=TTL)) is None
    (tick, _) = await deployment.tick()
    assert tick.clock.standing is Cause.STORE


async def test_what_one_does_not_take_holds_up_nobody_else(deployment: Deployment) -> None:
    """As above, with the daemon's buffer, and a third one that answers."""
    first, second, third = [await deployment.start() for _ in range(3)]
    await deployment.even()
    await first._holdings.look()
    mine, lost, theirs = (
        next(agent for agent in AGENTS if part_of(agent, SHARDS) in store._holdings.stores)
        for store in (first, second, third)
    )
    assert [first.applier(agent) for agent in (mine, lost, theirs)] == [HERE, second.name, third.name]
    await ended(second._tasks[:1])
    buffer = SortedBuffer(first, lambda: deployment.instant, time.monotonic)
    replies = {
        agent: buffer.of(agent).expect(Beat(agent, session(number), ttl=TTL))
        for number, agent in enumerate((mine, lost, theirs), 1)
    }
    await buffer.flush_own()
    await asyncio.wait([replies[mine], replies[theirs]], timeout=0.9)
    assert replies[mine].result().live
    assert replies[theirs].result().live
    assert not replies[lost].done()
    with pytest.raises(NotHandedOn):
        await buffer.flush()
    assert isinstance(replies[lost].exception(), StoreUnavailable)
    assert (buffer.late, buffer.of(lost).late, buffer.of(theirs).late) == (False, True, False)
    deployment.now += TICK
    tick = await first.tick("me", deployment.instant)
    assert tick.clock.standing is Cause.STORE
    first._holdings._owners[part_of(lost, SHARDS)] = None
    assert first.applier(lost) is None


async def test_a_daemon_that_was_dropped_answers_nobody_before_it_is_registered(deployment: Deployment) -> None:
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    await deployment.beat(first, *AGENTS)
    here = next(agent for agent in AGENTS if part_of(agent, SHARDS) in second._holdings.stores)
    await first._register.drop(second.name)
    # It was stopped for some seconds.
    second._register.reported_at -= 3
    assert second.plainly_live(Beat(here, session(AGENTS.index(here) + 1), ttl=TTL)) is None
    with pytest.raises(StoreUnavailable, match="registered"):
        await deployment.beat(second, here)
    await deployment.tick()
    await deployment.beat(second, here)


async def test_parts_are_given_up_when_nothing_is_under_way_for_their_agents(deployment: Deployment) -> None:
    first = await deployment.start()
    await deployment.beat(first, *AGENTS)
    await deployment.beat(first, *AGENTS, kind=BeatType.BYE)
    (tick,) = await deployment.wait(TIMER + 1)
    claims = [await first.claim(due, "me") for due in tick.due]
    assert all(claims)
    second = await deployment.start()
    await first._reported(None)
    moving = asyncio.create_task(first._holdings.balance())
    for _ in range(100):
        if first._holdings.giving_up:
            break
        await asyncio.sleep(0.01)
    assert len(first._holdings.giving_up) == SHARDS / 2
    assert not second._holdings.stores
    for claim in claims:
        assert claim is not None
        assert await first.intend(claim, intent())
        assert await first.settle(claim, action_of(claim, at=START + AGENTS.index(claim.agent)))
    await moving
    await deployment.even()
    for agent in AGENTS:
        view = await second.agent(agent)
        assert view is not None
        assert view.state is AgentState.AWAY
    assert not any(tick.due for tick in await deployment.wait(2))


async def test_agents_are_bounded_in_number_over_all_daemons(deployment: Deployment) -> None:
    deployment.rules = replace(RULES, most_agents=11)
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    known = AGENTS[:10]
    await deployment.beat(first, *known)
    # Each tells with its report how many it has, and is told what others have told before.
    await deployment.wait(2 * TICK)
    mine, theirs = (
        [agent for agent in AGENTS[10:] if part_of(agent, SHARDS) in each._holdings.stores] for each in (first, second)
    )
    assert first.newcomer(mine[0]) == second.newcomer(theirs[0]) == len(known)

    async def verdicts(agents: Sequence[AgentId], number: int = 100, kind: BeatType = BeatType.BEAT) -> list[Verdict]:
        beats = [Beat(agent, session(number + at), kind, 0, None, TTL) for at, agent in enumerate(agents)]
        return [reply.verdict for reply in await first.apply(beats, deployment.instant)]

    # The second one alone knows who of them is new, and that there is room for one.
    assert await verdicts(theirs[:3]) == [Verdict.OPENED, Verdict.NO_ROOM, Verdict.NO_ROOM]
    assert await verdicts(theirs[:3], 200) == [Verdict.OPENED, Verdict.NO_ROOM, Verdict.NO_ROOM]
    assert await verdicts(known, 300) == [Verdict.OPENED] * len(known)
    assert Verdict.NO_ROOM not in await verdicts(theirs[3:], 400, BeatType.BYE)
    await deployment.wait(2 * TICK)
    assert first.newcomer(mine[0]) == 11
    assert [view.agent for view in (await first.agents()).agents] == sorted([*known, theirs[0]])


async def test_silence_is_judged_for_all_daemons_together(server: RedisServer) -> None:
    """With each of them alone there are too few for the brake."""
    deployment = Deployment(server, replace(RULES, brake=BrakeRules(min_agents=20)))
    first, second = await deployment.start(), await deployment.start()
    try:
        await deployment.even()
        await deployment.beat(first, *AGENTS)
        ticks = await deployment.wait(TTL + TIMER + 2)
        assert [tick.brake.held for tick in ticks] == [len(AGENTS)] * 2
        assert not any(tick.due for tick in ticks)
        await deployment.beat(second, *AGENTS)
        ticks = await deployment.wait(2)
        assert [tick.brake.held for tick in ticks] == [0, 0]
    finally:
        for store in deployment.all:
            await store.close()


async def test_a_part_that_the_server_has_forgotten_is_still_whose_it_was(deployment: Deployment) -> None:
    """The first to come to an empty register is alone there; what the others know must not be lost by it."""
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    with deployment.server.client as client:
        client.flushall()
    await second._reported(None)
    await second._holdings.balance()
    assert [entry.name for entry in second.entries] == [second.name]
    assert len(second._holdings.stores) == len(first._holdings.stores) == SHARDS / 2


async def test_a_share_is_judged_by_who_is_there_when_its_turn_comes(deployment: Deployment) -> None:
    first, second = await deployment.start(), await deployment.start()
    first.entries = [entry for entry in first.entries if entry.name == first.name]
    async with first._holdings._balancing:
        waits = asyncio.create_task(first._holdings.balance())
        await asyncio.sleep(0)
        await first._reported(None)
    await waits
    assert len(first.entries) == 2
    assert len(first._holdings.stores) == SHARDS / 2
    assert not second._holdings.stores


async def test_a_daemon_whose_sweep_hangs_loses_its_parts(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is alive otherwise, and would keep them for ever."""
    monkeypatch.setattr(one_part, "STUCK_S", 0.5)
    monkeypatch.setattr(replica, "STOPPING_S", 0.4)
    first, second = await deployment.start(), await deployment.start()
    await deployment.even()
    deployment.stores.remove(second)
    for _ in range(100):
        await first.tick("me", deployment.instant)
        if len(first._holdings.stores) == SHARDS:
            break
        await asyncio.sleep(0.1)
    assert len(first._holdings.stores) == SHARDS


class Faulty(ValkeyServer):
    """A server whose client has a fault of ours, while `fault` names what is asked."""

    fault = ""

    async def pop(self, key: str, wait_s: float) -> bytes | None:
        if self.fault == "pop":
            raise AssertionError(key)
        return await super().pop(key, wait_s)

    async def read(self, *commands: Sequence[str | int | float]) -> list[Any]:
        if self.fault == "read":
            raise AssertionError(commands)
        return await super().read(*commands)


@pytest.mark.parametrize("fault", ["pop", "read"])
async def test_a_daemon_that_hears_the_others_no_more_or_takes_no_parts_does_not_go_on(
    deployment: Deployment, fault: str
) -> None:
    """It would keep its parts, and nobody whose heartbeats come to another daemon would be heard any more."""
    first = await deployment.start()
    server = Faulty(deployment.address)
    second = ReplicaStore(server, RULES, "faulty", SHARDS)
    deployment.all.append(second)
    await second.open(deployment.instant)
    deployment.stores.append(second)
    await deployment.even()
    server.fault = fault

    async def ticks() -> None:
        for _ in range(60):
            await second.tick("me", deployment.instant)
            await asyncio.sleep(0.05)

    with pytest.raises(StoreFailed) as raised:
        await ticks()
    assert isinstance(raised.value.__cause__, AssertionError)
    server.fault = ""
    deployment.stores.remove(second)
    await second.close()
    await first.tick("me", deployment.instant)
    await deployment.even()
    assert len(first._holdings.stores) == SHARDS


class Late(ValkeyServer):
    """A server that does something, or answers, late."""

    late = ""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.asked = asyncio.Event()
        self.going_on = asyncio.Event()

    async def call(self, calls: Sequence[Call]) -> list[list[bytes]]:
        late = bool(calls) and calls[0][0] == self.late
        if late and self.late == "leave":
            await self._wait()
        found = await super().call(calls)
        if late and self.late == "take":
            await self._wait()
        return found

    async def _wait(self) -> None:
        self.asked.set()
        await self.going_on.wait()


@pytest.mark.parametrize("late", ["leave", "take"])
async def test_a_part_that_is_handed_over_while_the_daemon_ends_is_nobodys_at_once(
    deployment: Deployment, late: str
) -> None:
    server = Late(deployment.address)
    first = ReplicaStore(server, RULES, "late", SHARDS)
    deployment.all.append(first)
    await first.open(deployment.instant)
    deployment.stores.append(first)
    second = await deployment.start()
    if late == "take":
        await deployment.even()
        deployment.stores.remove(second)
    server.late = late
    if late == "take":
        await second.close()
    while not server.asked.is_set():
        await first.tick("me", deployment.instant)
        await asyncio.sleep(0.05)
    closing = asyncio.create_task(first.close())
    await asyncio.wait({closing}, timeout=0.3)
    server.going_on.set()
    await closing
    with deployment.server.client as client:
        for number in range(SHARDS):
            owner, left = client.hmget(f"{{wd:{number}}}:part", "owner", "until")
            assert owner != b"late" or left == b"0"


async def test_after_a_planned_failover_the_daemons_find_the_new_primary(tmp_path: Path) -> None:
    """It cuts no connections: those to the old primary would be answered READONLY for ever."""
    places = [tmp_path / name for name in ("old", "new")]
    for place in places:
        place.mkdir()
    with (
        redis_server.running(places[0]) as primary,
        redis_server.running(places[1]) as follower,
        Front(primary.port) as way,
    ):
        with follower.client as client:
            client.replicaof("127.0.0.1", primary.port)
        await until(lambda: told(follower, "master_link_status") == "up")
        deployment = Deployment(primary)
        deployment.address = Address("127.0.0.1", way.port)
        for _ in range(2):
            await deployment.start()
        try:
            await deployment.even()
            await deployment.beat(deployment.stores[0], *AGENTS)
            with primary.client as client:
                client.execute_command("FAILOVER", "TO", "127.0.0.1", follower.port)
            await until(lambda: told(follower, "role") == "master")
            with pytest.raises(StoreUnavailable, match="replica"):
                await deployment.stores[0].tick("me", deployment.instant)
            way.target = follower.port
            await until(lambda: not daemons_of(primary))
            await deployment.even()
            await deployment.beat(deployment.stores[0], *AGENTS)
            ticks = await deployment.wait(RULES.clock.resume_grace_s + 5)
            assert [tick.clock.standing for tick in ticks] == [None, None]
            assert not [tick.due for tick in ticks if tick.due]
        finally:
            for store in deployment.all:
                await store.close()


async def until(true: Callable[[], bool], limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def told(server: RedisServer, what: str) -> str | None:
    with server.client as client:
        return client.info("replication").get(what)


def daemons_of(server: RedisServer) -> list[dict[str, str]]:
    """Their connections."""
    with server.client as client:
        return [each for each in client.client_list() if each["name"] == "watchdog"]


class Live(Deployment):
    """Daemons whose time passes by itself."""

    @property
    def instant(self) -> Instant:
        return Instant(Boot(time.monotonic()), Epoch(START + time.monotonic()), "boot-1")


@pytest.mark.parametrize("keeps", [pytest.param(True, marks=pytest.mark.long), False])
async def test_a_lease_that_is_given_while_a_daemon_stops_is_not_short(server: RedisServer, *, keeps: bool) -> None:
    """It ticks no more, and takes heartbeats for some seconds until it hands its parts over."""
    deployment = Live(server)
    try:
        for _ in range(2):
            await deployment.start()
        await deployment.even()
        keeper = await deployment.keeper()
        (stops,) = [store for store in deployment.stores if (store is keeper) is keeps]
        deployment.stores.remove(stops)
        (stays,) = deployment.stores
        begun, end = stays._clock.now.observed, time.monotonic() + 5
        while time.monotonic() < end:
            await stays.tick("me", deployment.instant)
            await asyncio.sleep(0.1)
        assert stays._clock.now.observed - begun > 4
        agent = next(agent for agent in AGENTS if part_of(agent, SHARDS) in stops._holdings.stores)
        await deployment.beat(stops, agent)
        await stops.close()
        while part_of(agent, SHARDS) not in stays._holdings.stores:
            await stays.tick("me", deployment.instant)
            await asyncio.sleep(0.05)
        (session,) = stays._holdings.stores[part_of(agent, SHARDS)]._table.sessions.values()
        assert session.expires_at - stays._clock.now.observed > TTL - 1
    finally:
        for store in deployment.all:
            await store.close()


def entry(name: str, age_s: float, blind: Cause | None = None) -> Entry:
    return Entry(name, age_s, {"blind": blind})


async def kept(deployment: Deployment, *seconds: Sequence[Entry], after: Keeper | None = None) -> Keeper:
    """A keeper who is told these one after another, a second for each. It may go on with what another one has left."""
    server = server_at(deployment.address)
    await server.open()
    keeper = Keeper(server, SHARDS, "me", RULES, Register(server, "me", time.monotonic), lambda: deployment.instant)
    await keeper.take()
    keeper.go_on(first(deployment.instant) if after is None else after.clock, Shared())
    for entries in seconds:
        deployment.now += 1.0
        await keeper.tick(entries, deployment.instant)
    await keeper.leave()
    await server.close()
    return keeper


async def test_whoever_is_dropped_had_its_grace_and_whoever_comes_back_needs_one(deployment: Deployment) -> None:
    gone = [[entry("me", 0.0), entry("other", age_s)] for age_s in range(3, 32)]
    with deployment.server.client as client:
        client.hset("{wd:all}:replicas", "other", "0 {}")
    dropped = await kept(deployment, *gone, [entry("me", 0.0)])
    assert dropped.clock.standing is None
    back = await kept(deployment, *gone[:-1], [entry("me", 0.0), entry("other", 0.0)])
    assert back.clock.standing is Cause.GRACE
    otherwise = [entry("me", 0.0), entry("other", 31.0), entry("third", 0.0, Cause.STORE)]
    with deployment.server.client as client:
        client.hset("{wd:all}:replicas", "other", "0 {}")
    both = await kept(deployment, *gone[:-1], otherwise, [entry("me", 0.0), entry("third", 0.0)])
    assert both.clock.standing is Cause.GRACE


async def test_a_server_whose_clock_is_set_forward_has_nobody_dropped_early(deployment: Deployment) -> None:
    """Clients of who is silent get their time to come back elsewhere by the keeper's own clock."""
    grace_s = RULES.clock.resume_grace_s
    later = [[entry("me", 0.0), entry("other", 3.0 + 3_600)] for _ in range(int(grace_s) - 4)]
    with deployment.server.client as client:
        client.hset("{wd:all}:replicas", "other", "0 {}")
        early = await kept(deployment, *later, [entry("me", 0.0), entry("other", 3_640.0)])
        assert early.clock.standing is Cause.REPLICA
        assert client.hexists("{wd:all}:replicas", "other")
        await kept(deployment, *later, *later[:3])
        assert not client.hexists("{wd:all}:replicas", "other")


async def test_a_gap_ends_with_a_grace_whoever_keeps_the_clock_by_then(deployment: Deployment) -> None:
    """Whoever could not be heard before may still wait for a retry."""
    blind = await kept(deployment, [entry("me", 0.0), entry("other", 0.0, Cause.STORE)])
    after = await kept(deployment, [entry("me", 0.0), entry("other", 0.0)], after=blind)
    assert after.clock.standing is Cause.GRACE
    assert after.clock.grace_s >= RULES.clock.heartbeat_interval_s


async def test_the_time_of_a_tick_that_failed_is_not_told_by_the_next_one(deployment: Deployment) -> None:
    """Whoever asked for it has counted it."""
    first = await deployment.start()
    await deployment.tick()
    deployment.now += 5.0
    with deployment.server.client as client:
        client.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(StoreUnavailable):
                await first.tick("me", deployment.instant)
        finally:
            client.replicaof("no", "one")
    (tick,) = await deployment.tick()
    assert tick.stopped_s <= TICK


async def test_what_somebody_says_stops_the_clock_of_all(deployment: Deployment) -> None:
    blind = await kept(deployment, [entry("me", 0.0), entry("other", 0.0, Cause.CANARY)])
    assert blind.clock.standing is Cause.CANARY
    assert blind.clock.observed == 0


def test_shares_are_even() -> None:
    names = ["c", "a", "b"]
    assert [share(16, names, name) for name in "abc"] == [6, 5, 5]
    assert share(16, [], "a") == 16
    assert sum(share(3, "abcde", name) for name in "abcde") == 3


async def test_a_clock_that_was_long_on_its_way_is_as_old_for_others_as_it_is(deployment: Deployment) -> None:
    """Else what others lease by it meanwhile ends too early."""
    server = server_at(deployment.address)
    await server.open()
    began = time.monotonic()

    def now() -> Instant:
        passed = time.monotonic() - began
        return Instant(Boot(100.0 + passed), Epoch(START + passed), "boot-1")

    register = Register(server, "me", time.monotonic)
    keeper = Keeper(server, SHARDS, "me", RULES, register, now)
    await register.report({})
    await keeper.take()
    keeper.go_on(first(now()), Shared())
    with deployment.server.client as client:
        client.client_pause(900, all=False)
    instant = now()
    await keeper.tick([entry("me", 0.0)], instant)
    late_s = now().boot - instant.boot
    assert late_s > 0.5
    report = await Register(server, "other", time.monotonic).report({})
    assert report is not None
    clock = published(report, Instant(Boot(5.0), Epoch(START), "boot-2"))
    assert clock is not None
    assert clock.boot is not None
    assert 5.0 - clock.boot == pytest.approx(late_s, abs=0.2)
    await keeper.leave()
    await server.close()
