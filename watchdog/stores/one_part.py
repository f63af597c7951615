"""One part of the agents, in the memory of the daemon that has it: a store over a lease table like any other.

The clock, the brakes and the history are those of the deployment. A part that is taken is opened, and one that is
given up is closed: no agent of it is in this process' memory before or after.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from watchdog.core import clock as clocks
from watchdog.core import undo
from watchdog.core.brake import Brake, Exit, Order
from watchdog.core.clock import Cause, Clock
from watchdog.core.model import Observed
from watchdog.errors import StoreUnavailable
from watchdog.stores import change_rows
from watchdog.stores.batch import Batch
from watchdog.stores.braking import Braking
from watchdog.stores.ending import ended
from watchdog.stores.fenced import RENEW_S, FencedParts, Part
from watchdog.stores.owned_store import OwnedStore
from watchdog.stores.part_reads import ACTIONS, BY_AGENT, BY_OUTCOME, IDS, META, NUMBERS, TIMES, Server
from watchdog.stores.part_rows import (
    DROP_SAME_CHANGE,
    TABLES,
    AllWrite,
    PartRows,
    PartWrite,
    Sorted,
    agent_field,
    missing,
)
from watchdog.stores.parts import Parts

if TYPE_CHECKING:
    from watchdog.core.brake import BrakeRules
    from watchdog.core.model import AgentState, Epoch, Instant
    from watchdog.core.undo import Change
    from watchdog.stores.base import StoreRules, Tick
    from watchdog.stores.changes import Changes
    from watchdog.stores.journal import Kept
    from watchdog.stores.judging import Tally
    from watchdog.stores.leases import LeaseTable

Result = TypeVar("Result")

TOKENS = 2**24
"""Claims that one owner of a part may make: their tokens begin with the number of its fence. All are below 2**53."""

STUCK_S = 15.0
"""Without a tick for so long the part is renewed no more: somebody else is to sweep it."""


class History:
    """The history of the deployment, to which every daemon adds.

    Attributes:
        number: The highest number that is known.
    """

    def __init__(self, server: Server) -> None:
        self.number = 0
        self._server = server

    async def write(self, found: AllWrite) -> None:
        """Adds actions, once by their ids, and values of the meta table.

        Raises:
            StoreUnavailable: Nobody knows. A repetition is harmless.
        """
        keys = [
            f"{{wd:all}}:{name}" for name in ("meta", "actions", "ids", "numbers", "times", "by_agent", "by_outcome")
        ]
        (answer,) = await self._server.call([("log", keys, [self.number, *found.arguments()])])
        self.number = max(self.number, int(answer[1]))

    async def forget(self, actions: Sequence[bytes]) -> None:
        """Drops actions by their ids; where the memory is full, too.

        Raises:
            StoreUnavailable: Nobody knows. A repetition is harmless.
        """
        await self._server.call([("forget", [ACTIONS, IDS, NUMBERS, TIMES, BY_AGENT, BY_OUTCOME], actions)])


class SharedClock:
    """The deployment's clock as this process knows it.

    Attributes:
        now: As of the last tick, with the instants of this machine.
    """

    def __init__(self) -> None:
        self.now = Clock()


class PartJournal(Parts):
    """One part, this process's.

    Attributes:
        ticked_at: When it was ticked last, or opened, by the loop's clock.
    """

    def __init__(
        self,
        server: Server,
        shards: int,
        number: int,
        owner: str,
        table: LeaseTable,
        history: History,
        rest: Callable[[], Batch] = Batch,
    ) -> None:
        """Nothing is opened.

        Args:
            server: Where it is kept; somebody else opens and closes it.
            shards: In how many parts the agents are kept.
            number: Which this is.
            owner: The name of this process; no other has it.
            table: What it keeps.
            history: Takes the actions.
            rest: See `Journal`.
        """
        super().__init__(server, shards, owner, table, None, rest)
        self._fenced = FencedParts(server, 0, owner, number)
        self.ticked_at = 0.0
        self._number = number
        self._history = history
        self._signed = True

    @property
    def part(self) -> Part:
        """What is known of it."""
        return self._fenced.all

    async def open(self) -> None:
        """Takes the part, if nobody has it."""
        await self._fenced.take_all(0.0)
        self._opened = True
        self.ticked_at = asyncio.get_running_loop().time()
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S / 2)
            idle_s = asyncio.get_running_loop().time() - self.ticked_at
            if self._fenced.idle and self.taken_over is None and idle_s < STUCK_S:
                with contextlib.suppress(StoreUnavailable):
                    await self.confirm()

    async def close(self, clock: Clock) -> None:
        """Writes what is dirty and lets the part go."""
        if not self._opened:
            return
        if self._loaded:
            with contextlib.suppress(StoreUnavailable):
                await self.write(Batch(), clock)
        await self.let_go()

    async def let_go(self) -> None:
        """Lets the part go as the server has it."""
        await self.abandon()
        with contextlib.suppress(StoreUnavailable):
            await self._fenced.leave()

    async def abandon(self) -> None:
        """Ends what runs here, without a word to the server."""
        self._opened = False
        await ended([self._keeper])
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)

    async def load(self, build: Callable[[Kept], Result]) -> Result:
        """See `Journal.load`."""
        secret, counted, *found = await self._server.read(
            ("HGET", META, "secret"),
            ("HMGET", self.part.key("part"), "version", "rows"),
            *(("HGETALL", self.part.key(name)) for name in TABLES),
        )
        tables: dict[str, Sequence[Mapping[bytes, bytes]]] = {
            name: [dict(of_table)] for name, of_table in zip(TABLES, found, strict=True)
        }
        self._take_in(self._number, tables["outbox"][0])
        self.missing.clear()
        self._note_missing(self.part, missing(counted, {name: of_table for name, (of_table,) in tables.items()}))
        token = int(self.part.fence.split()[0]) * TOKENS
        built = build(PartRows({b"secret": secret or b"", b"token": str(token).encode()}, tables))
        self._loaded = True
        return built

    async def _write(self, batches: Sequence[Batch]) -> None:
        """Writes to the part, then to the history what was decided with rows of it. Nothing where there is nothing."""
        fenced, made = self._fenced, Sorted(self._shards)
        lost = fenced.lost()
        if lost and not self._loaded:
            raise StoreUnavailable(f"{self._server}: it has lost what was written, while it was read.")
        if lost:
            self._add_lost(made, lost)
        for batch in batches:
            made.add(batch)
        later = made.take_decided()
        # Of what all share the rest is the keeper's.
        made.all.meta = {key: value for key, value in made.all.meta.items() if key.startswith(b"unreadable ")}
        await self._tell(made.all)
        moved, self._moved = self._moved, {}
        if moved or fenced.idle:
            made.parts.setdefault(self._number, PartWrite()).outbox.update(dict.fromkeys(moved))
        try:
            await fenced.put([(self.part, write.arguments()) for write in made.parts.values()])
        except BaseException:
            self._moved = moved
            raise
        if later:
            self._note_decided(later)
            await self._tell(AllWrite())
        for part in lost:
            part.whole = True

    async def _tell(self, found: AllWrite) -> None:
        """Writes to the history what there is for it, and what is not there yet of what was decided."""
        found.actions = {**found.actions, **self._moving}
        if found.actions or found.meta:
            await self._history.write(found)
            for key in found.actions:
                self._moving.pop(key, None)

    # Reading.

    async def changes(self, since: Epoch, instance_id: str | None) -> list[Change]:
        """See `Journal.changes`. Those of this part."""
        self.check()
        return [
            change
            for change, _ in await self._kept_changes()
            if change.written_at >= since and instance_id in (None, change.agent.instance_id)
        ]

    async def drop_changes(self, before: Epoch, clock: Clock) -> None:
        """See `Journal.drop_changes`. Those of this part."""
        found = await self._kept_changes()
        old = [(*change.agent, value) for change, value in found if change.written_at < before and change.undo is None]
        batch = Batch()
        batch.add(DROP_SAME_CHANGE, old)
        await self.write(batch, clock)

    async def _kept_changes(self) -> list[tuple[Change, bytes]]:
        kept = await self._reads.hash(self.part.key("changes"))
        read, _ = change_rows.changes(PartRows({}, {"changes": [kept]}).recent_changes(None))
        return [(change, kept[agent_field(change.agent)]) for change in read]

    async def drop_actions(self, before: Epoch, clock: Clock) -> int:
        """The history is everybody's."""
        del before, clock
        return 0


@dataclass(slots=True)
class Given:
    """What the keeper says of the brakes.

    Attributes:
        brakes: By group, those that are not clear.
        orders: Of operators, by group.
        leaving: How those who are held left each group that has changed its state last.
        number: Rises when a group changes its state, or an order.
    """

    brakes: dict[str, Brake] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    leaving: dict[str, Exit] = field(default_factory=dict)
    number: int = 0


class PartBraking(Braking):
    """Counts a part's agents, and holds and lets them go as the keeper says.

    Attributes:
        tallies: What was counted at the last tick, by instance, and of all together; nothing before the first.
        number: Of what the keeper had said then.
    """

    def __init__(
        self, table: LeaseTable, rules: BrakeRules | None, changes: Changes, given: Callable[[], Given]
    ) -> None:
        super().__init__(table, rules, changes)
        self.tallies: dict[str, Tally] = {}
        self.number = -1
        self._given = given

    def take_beats(self) -> Counter[str]:
        """Beats that left a lease since this was asked last, by instance; counted while anything is held."""
        beats, self._beats = self._beats, Counter()
        return beats

    def tick(self, clock: Clock, at: Epoch, step_s: float) -> None:
        """Carries out what the keeper says, and counts."""
        del at, step_s
        now, running = clock.observed, clock.running
        self._presence.sample(now)
        given, before = self._given(), self.brakes
        self.brakes, self.orders = given.brakes, given.orders
        self._note_trips(before, now)
        self._free_orphans(before, clock)
        if self.brakes or before:
            self._carry_out(before, given.leaving, clock)
        self.tallies, self.number = self._tallies(self._count(now, running), now), given.number


class PartStore(OwnedStore):
    """The store of one part. See `watchdog.stores.base.Store`; of the agents of other parts it knows nothing.

    Args:
        server: Where it is kept.
        rules: What the store has to know of the settings.
        owner: The name of this process.
        shards: In how many parts the agents are kept.
        number: Which this is.
        clock: That of the deployment: a tick takes it as it is.
        history: Takes the actions.
        given: Tells what the keeper says of the brakes.
    """

    def __init__(
        self,
        server: Server,
        rules: StoreRules,
        owner: str,
        shards: int,
        number: int,
        clock: SharedClock,
        history: History,
        given: Callable[[], Given],
    ) -> None:
        self.number = number
        self.given = given
        self._shared = clock

        def journal(table: LeaseTable, brakes: Callable[[], bytes], rest: Callable[[], Batch]) -> PartJournal:
            del brakes  # those of the deployment are the keeper's
            self._parts = self.journal = PartJournal(server, shards, number, owner, table, history, rest)
            return self.journal

        super().__init__(rules, journal)

    def _made_braking(self) -> Braking:
        self.braking = PartBraking(self._table, self._rules.brake, self._changes, self.given)
        return self.braking

    @property
    def taken_over(self) -> bool:
        """Another process has the part: nothing of this one counts any more."""
        return self.journal.taken_over is not None

    @property
    def phases(self) -> Mapping[AgentState, int]:
        """How many agents are in each state."""
        return self._table.phases

    @property
    def known(self) -> int:
        """How many agents are known."""
        return len(self._table.agents)

    @property
    def failing(self) -> bool:
        """A write has failed since the last tick."""
        return self.journal.failing

    @property
    def missing(self) -> Counter[str]:
        """How many rows each table had lost when it was opened."""
        return self.journal.missing

    @property
    def claimed(self) -> bool:
        """Whether something is under way for an agent of it."""
        return any(agent.claim is not None for agent in self._table.agents.values())

    def brake(self, instant: Instant) -> None:
        """Carries out what the keeper says of the brakes."""
        self.braking.tick(self._clock, instant.epoch, 0.0)

    async def give_up(self) -> None:
        """Writes all that is known, leases as they are, and lets the part go."""
        for session in self._table.sessions.values():
            if session.horizon > session.expires_at:
                # Whoever has it next knows the leases as they are, and no ghost gains time.
                session.horizon = session.expires_at
                self._table.dirty.sessions[session.session_id] = session
        await self.close()

    # The clock is given.

    def _begin(self, saved: bytes | None, instant: Instant) -> float:
        del saved, instant
        self._clock = self._shared.now
        return 0.0

    def _lengthen(self) -> None:
        super()._lengthen()
        if not self.journal.part.doubtful:
            return
        # A page that has just been hidden may beat once a minute from now on: that it said so may be lost.
        ends_at = Observed(self._clock.observed + self._rules.longest_ttl_s)
        for session in self._table.sessions.values():
            open_still = session.closed_at is None and session.expires_at > self._clock.observed
            if session.main_driver and open_still and session.expires_at < ends_at:
                session.ttl = self._rules.longest_ttl_s
                session.expires_at = ends_at
                session.horizon = max(session.horizon, ends_at)
                self._table.dirty.sessions[session.session_id] = session

    def _as_meant(self, change: Change) -> Change:
        # Nobody may have had the part when running time left something out.
        epoch, left_out_s = self._clock.epoch, self._clock.left_out_s
        return super()._as_meant(change if epoch is None else undo.aged(change, self._now(epoch), left_out_s))

    def _advanced(self, since: Clock, instant: Instant, blind: Cause | None) -> Clock:
        del since, instant, blind
        return self._shared.now

    def _ahead(self, instant: Instant) -> Clock:
        return clocks.advance(self._shared.now, instant, self._rules.clock)

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        """See `Store.tick`."""
        self.journal.ticked_at = asyncio.get_running_loop().time()
        return await super().tick(owner, instant, blind, limit)
