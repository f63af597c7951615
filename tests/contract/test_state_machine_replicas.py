"""The same over several daemons: whatever call fails or is not answered, whoever stops, dies or comes, and whatever the
server has lost, they and the plain dicts agree.

The server is the simulator's, in virtual time: `test_valkey_model.py` holds it against a real one.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.contract.pair import Pair
from tests.contract.test_state_machine import AGENTS, NEVER_HEARD, Stores
from tests.contract.world import RULES, session
from watchdog.core import clock as clocks
from watchdog.core.clock import Cause, Clock
from watchdog.errors import StoreUnavailable
from watchdog.simulation.loop import VirtualLoop
from watchdog.simulation.valkey import Connection, VirtualValkey, Way
from watchdog.stores import delivery, everywhere
from watchdog.stores.base import Tick
from watchdog.stores.part_rows import PartWrite, part_of
from watchdog.stores.replica import ReplicaStore

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from watchdog.core.model import AgentId, Claim, Instant
    from watchdog.core.undo import Change
    from watchdog.stores.leases import LeaseTable
    from watchdog.stores.valkey_server import Call

Result = TypeVar("Result")
SHARDS = 4
NOTHING = PartWrite().arguments()
PATIENCE_S = 0.1
"""For so long an answer is waited for."""

NOTICED_S = 1.6
"""Virtual seconds in which each part is written to once more, if only to renew it."""


class Weakness:
    """Which call fails next, and whether it is carried out all the same."""

    def __init__(self) -> None:
        self.fails = ""
        self.carried_out = False
        self.came_through = False


class WeakConnection(Connection):
    """Of its calls one is not answered."""

    weakness: Weakness

    async def call(self, calls: Sequence[Call]) -> list[list[bytes]]:
        name, _, args = calls[0] if calls else ("", [], [])
        if name != self.weakness.fails or (name == "write" and list(args[3:]) == NOTHING):
            return await super().call(calls)
        self.weakness.fails = ""
        self.weakness.came_through = self.weakness.carried_out
        if self.weakness.carried_out:
            await super().call(calls)
        raise StoreUnavailable("it has not answered")


class Several(Pair):
    """Daemons asked as if they were one, by turns."""

    stores: list[ReplicaStore]  # type: ignore[assignment]

    def __init__(self, stores: list[ReplicaStore]) -> None:
        self.stores = stores
        self._shards = SHARDS
        self._turn = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._either(), name)

    def _either(self) -> ReplicaStore:
        self._turn += 1
        return self.stores[self._turn % len(self.stores)]

    async def open(self, instant: Instant) -> None:
        for store in self.stores:
            await store.open(instant)
        await self.even()

    async def even(self) -> None:
        """Each takes or gives up parts until it has its share."""
        for _ in range(4):
            for store in self.stores:
                await store._reported(None)
            for store in self.stores:
                await store._holdings.balance()
        held = sorted(len(store._holdings.stores) for store in self.stores)
        assert sum(held) == SHARDS, held
        assert held[-1] - held[0] <= 1, held

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        """What all have to say is heard by the keeper, and the clock that it finds by all."""
        keeper = self.keeper or self.stores[0]
        others = [store for store in self.stores if store is not keeper]
        # Where nobody is the keeper, whoever ticks first is.
        ticks = [await store.tick(owner, instant, blind, limit) for store in others if self.keeper]
        found = await keeper.tick(owner, instant, blind, limit)
        now = [found, *[await store.tick(owner, instant, blind, limit) for store in others]]
        return replace(
            found,
            due=tuple(due for tick in now for due in tick.due),
            orphans=tuple(orphan for tick in [*ticks, *now] for orphan in tick.orphans),
            undos=tuple(undo for tick in now for undo in tick.undos),
        )

    @property
    def keeper(self) -> ReplicaStore | None:
        for store in self.stores:
            if store._keeper is not None and not store._keeper.replaced:
                return store
        return None

    def whose(self) -> dict[AgentId, object]:
        """The store of each agent's part."""
        found = {number: part for store in self.stores for number, part in store._holdings.stores.items()}
        return {agent: found[part_of(agent, SHARDS)] for agent in (*AGENTS, NEVER_HEARD)}


class OverSeveral(Stores):
    """Drives several daemons and the plain dicts with the same story."""

    store: Several  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.server = VirtualValkey(offset_s=0.0, drift=0.0)
        self.way = Way(self.server, random.Random(0))
        self.weakness = Weakness()
        self.processes = 0
        self.tokens: dict[tuple[AgentId, int], int] = {}
        # Nobody ticks while somebody waits for an answer that does not come.
        self.patience = [patch.object(each, "ANSWER_S", PATIENCE_S) for each in (everywhere, delivery)]
        for each in self.patience:
            each.start()

    def run(self, coroutine: Coroutine[object, object, Result]) -> Result:
        return self.runner.run(coroutine)  # type: ignore[arg-type]

    def process(self) -> ReplicaStore:
        self.processes += 1
        connection = WeakConnection(self.way, lambda _: None)
        connection.weakness = self.weakness
        # Nothing is due for its age but by what this story tells: what daemons do between ticks is no part of it.
        store = ReplicaStore(
            connection, RULES, f"process {self.processes}", SHARDS, passed=lambda: 0.0, clock=lambda: 0.0
        )
        # By a clock that stands nobody could tell how old a question is.
        store._bus._now_ms = self.server.now_ms
        return store

    def made(self) -> Several:  # type: ignore[override]
        return Several([self.process(), self.process()])

    def made_again(self, *, killed: bool) -> Several:  # type: ignore[override]
        self.keeper_goes_on()
        for store in self.store.stores:
            self.run(self.dies(store) if killed else store.close())
        return Several([self.process() for _ in self.store.stores])

    async def dies(self, store: ReplicaStore) -> None:
        """As if so much time had passed that it has no part any more and is not registered."""
        await store.die()
        await asyncio.sleep(0.1)
        for key, found in self.server.model.data.items():
            if key.endswith(b":part") and found[b"owner"] == store.name.encode():
                found[b"until"] = b"0"
        self.server.model.data.get(b"{wd:all}:replicas", {}).pop(store.name.encode(), None)

    def fail(self, *, fails: bool, what: str = "write") -> None:
        self.weakness.fails = what if fails else ""
        # A clock that is published and not told to the keeper is ahead of the keeper's: nobody could say by how much.
        self.weakness.carried_out = what == "write" and self.now % 2 < 1
        if fails:
            self.weakness.came_through = False

    def came_through(self) -> bool:
        return self.weakness.came_through

    def tables(self) -> list[LeaseTable]:
        return [part._table for store in self.store.stores for part in store._holdings.stores.values()]

    def its_clock(self) -> Clock:
        (clock,) = {store._clock.now for store in self.store.stores}
        return clock

    def key(self, agent: AgentId, number: int) -> bytes:
        """Sessions of one id in two parts are two sessions."""
        return session(10 * part_of(agent, SHARDS) + number)

    def plainly(self, change: Change) -> Change:
        return replace(change, token=self.tokens[change.agent, change.token])

    def took(self, ours: Claim, theirs: Claim) -> None:
        self.tokens[ours.agent, ours.token] = theirs.token

    def keeper_goes_on(self) -> None:
        """Whoever waits for an answer that does not come waits for longer than the keeper would without a tick."""
        if self.store.keeper is not None and self.store.keeper._keeper is not None:
            self.run(self.store.keeper._keeper.publish())

    @precondition(lambda self: not self.failed)  # whoever could not write would say so to a clock that nobody publishes
    @rule(seconds=st.floats(0.0, 10.0), times=st.integers(1, 3))
    def ticks_on_a_full_disk(self, seconds: float, times: int = 1) -> None:
        """The clock cannot be published. Until it can, leases are given by the one before and are longer."""
        before = self.clock
        self.keeper_goes_on()
        for _ in range(times):
            self.now, self.wall = self.now + seconds, self.wall + seconds
            self.fail(fails=True, what="note")
            try:
                self.run(self.store.tick("me", self.instant))
            except StoreUnavailable:
                pass
            else:
                raise AssertionError("it was not published")
            self.plain.facts.clock = clocks.advance(self.plain.clock, self.instant, RULES.clock, Cause.STORE)
            assert self.clock == before
        self.advance(0.0, None)

    def moved(self, before: dict[AgentId, object]) -> None:
        """What was under way for agents of parts that have moved is nobody's any more."""
        after = self.store.whose()
        agents = {agent for agent in after if after[agent] is not before[agent]}
        self.claims = [pair for pair in self.claims if pair[0].agent not in agents]
        facts = self.plain.facts
        for agent in agents:
            facts.claims.pop(agent, None)
            if agent in facts.agents:
                facts.agents[agent].update(timer_s=None, not_before=0.0)
        for key, row in facts.sessions.items():
            if row["agent"] in agents:
                self.carrier.pop(key, None)
                known = self.session_in_memory(key)
                assert row["expires_at"] <= known.expires_at <= max(row["expires_at"], self.clock + known.ttl)
                assert known.expires_at <= self.latest[key], "a ghost lives longer for each move"
                row.update(expires_at=known.expires_at, ttl=known.ttl, seq=known.seq, tether=None)

    @precondition(lambda self: len(self.store.stores) < 4)
    @rule()
    def one_more_comes(self) -> None:
        self.keeper_goes_on()
        if self.failed:
            self.advance(0.0, None)
        before, leases = self.store.whose(), self.leases()
        self.store.stores.append(self.process())
        self.run(self.store.stores[-1].open(self.instant))
        self.run(self.store.even())
        self.moved(before)
        assert self.leases() == leases, "leases are handed over as they are"

    @precondition(lambda self: len(self.store.stores) > 1)
    @rule(which=st.integers(0, 3))
    def one_stops(self, which: int) -> None:
        self.keeper_goes_on()
        if self.failed:
            self.advance(0.0, None)
        before, leases = self.store.whose(), self.leases()
        self.run(self.store.stores.pop(which % len(self.store.stores)).close())
        self.run(self.store.even())
        self.moved(before)
        assert self.leases() == leases, "leases are handed over as they are"
        self.advance(0.0, None)

    @precondition(lambda self: len(self.store.stores) > 1)
    @rule(which=st.integers(0, 3))
    def one_dies(self, which: int) -> None:
        """All that was accepted is stored."""
        self.keeper_goes_on()
        self.advance(0.0, None)
        before = self.store.whose()
        self.run(self.dies(self.store.stores.pop(which % len(self.store.stores))))
        self.run(self.store.even())
        self.moved(before)
        self.advance(0.0, None)

    def leases(self) -> dict[bytes, float]:
        return {key: each.expires_at for table in self.tables() for key, each in table.sessions.items()}

    @rule()
    def the_server_loses_everything(self) -> None:
        """What is in force is written again by the next writes; the time until then is blind."""
        self.server.model.flush()
        for _ in range(6):
            self.run(asyncio.sleep(NOTICED_S))
            try:
                tick = self.run(self.store.tick("me", self.instant))
            except StoreUnavailable:
                continue
            if tick.clock.standing is not Cause.STORE:
                break
        else:
            raise AssertionError("it does not go on by itself")
        self.failed = False
        assert tick.clock.observed == self.clock
        self.plain.facts.clock = tick.clock
        for agent in list(self.plain.facts.changes):
            # No beat can change them any more: an order is all that they were kept for.
            if self.agent_in_memory(agent).change is None:
                del self.plain.facts.changes[agent]

    def advance(self, seconds: float, blind: Cause | None) -> Any:
        self.keeper_goes_on()
        due = super().advance(seconds, blind)
        assert self.its_clock() == self.plain.clock
        return due

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.weakness.fails = ""
            for store in self.store.stores:
                self.run(store.close())
        self.runner.close()
        for each in self.patience:
            each.stop()


TestOverSeveral = OverSeveral.TestCase
TestOverSeveral.settings = settings(
    settings.default, max_examples=max(20, settings.default.max_examples // 4), stateful_step_count=50
)
