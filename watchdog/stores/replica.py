"""The store of one daemon of several over a Valkey or Redis server: each has its share of the parts of the agents.

What is asked of an agent is asked of the part that it belongs to, here or at the daemon that has it. What all share is
the keeper's (`keeper.py`), and who has which part is in `holdings.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import orjson
import structlog

from watchdog import __version__
from watchdog.core import clock as clocks
from watchdog.core.brake import Order
from watchdog.core.clock import Cause, Clock
from watchdog.core.holds import BrakeChange, BrakeView
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    AgentView,
    Beat,
    Boot,
    Cancel,
    Epoch,
    FollowUp,
    Instant,
    Outcome,
    Reply,
    Running,
    Tear,
)
from watchdog.core.undo import Ordered
from watchdog.errors import NotKeeper, StoreError, StoreFailed, StoreLocked, StoreUnavailable
from watchdog.stores import history, packed, room, rows
from watchdog.stores.address import Address
from watchdog.stores.base import (
    ActionPage,
    AgentPage,
    Counts,
    MemoryUse,
    Recorded,
    ReplicaView,
    RowsLost,
    StoreRules,
    Tick,
)
from watchdog.stores.bus import Bus, Refused
from watchdog.stores.columns import Unreadable
from watchdog.stores.delivery import Delivery
from watchdog.stores.ending import ended
from watchdog.stores.everywhere import Everywhere
from watchdog.stores.fenced import LEASE_S, WAIT_S
from watchdog.stores.holdings import Holdings
from watchdog.stores.journal import PRUNE_CHUNK, check_whole
from watchdog.stores.judging import Tally
from watchdog.stores.keeper import Keeper, Shared, Told, published, shared_in, shared_out
from watchdog.stores.merged import evenly, view_of
from watchdog.stores.one_part import History, PartStore, SharedClock
from watchdog.stores.overfull import shorten
from watchdog.stores.own_agents import OwnAgents
from watchdog.stores.part_reads import META, PartReads
from watchdog.stores.part_rows import AllWrite, PartRows, part_of
from watchdog.stores.parts import FORMAT, HALF, check_signed
from watchdog.stores.register import Entry, Register, Report
from watchdog.stores.shared_tokens import SharedTokens
from watchdog.stores.valkey import server_at
from watchdog.stores.view import Views

if TYPE_CHECKING:
    from watchdog.stores.part_reads import Server

Result = TypeVar("Result")

BALANCE_S = 0.25
"""Between two looks whether parts are to be taken or given up."""

SPREAD_S = 0.25
"""Longest wait for others to know how the brakes stand: as long as it takes them to find out by themselves."""

LOOKED_THROUGH = 1_000
"""Agents of a page of others', where only some of them are wanted."""

IDLE_S = 1.5
"""Without a tick for so long the daemon is stopping, or starved: another one may keep the clock."""

STOPPING_S = 12.0
"""For so long without a tick it reports by itself, while it stops; then it counts as one that is not heard of."""

BEHIND_S = 5.0
"""By so much the clock of all may be behind what a daemon knows, which then waits for it. A lease has more to spare."""

log = structlog.stdlib.get_logger(__name__)


class ReplicaStore(OwnAgents):
    """See `watchdog.stores.base.Store`.

    Attributes:
        unreadable: Rows that could not be read when the parts were opened, by table and key.
        entries: All daemons, as of the last tick.
        keeper: The name of the one that has the part of all, as of the last tick.
        late: Whether heartbeats that this daemon has taken have waited for too long; asked for reports without a tick.
    """

    def __init__(
        self,
        server: Server | Address,
        rules: StoreRules,
        name: str,
        shards: int = 16,
        passed: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened.

        Args:
            server: Where the parts are; opened and closed with the store.
            rules: What the store has to know of the settings.
            name: Of this process; no other has it.
            shards: In how many parts the agents are kept; the same for all processes, for good.
            passed: Tells how much time passes between the instants that are told.
            clock: Monotonic seconds of this machine, for waits and ages.
        """
        self._passed = passed
        self.unreadable: list[Unreadable] = []
        self.entries: Sequence[Entry] = ()
        self.keeper = ""
        self.late: Callable[[], bool] = lambda: False
        self.name = name
        self._server = server_at(server) if isinstance(server, Address) else server
        self._rules = rules
        self._shards = shards
        self._time = clock
        self._register = Register(self._server, name, clock)
        self._bus = Bus(self._server, name, self._asked, self._register.server_ms)
        self._clock = SharedClock()
        self._shared = Shared()
        self._history = History(self._server)
        self._reads = PartReads(self._server, shards)
        self._keeper: Keeper | None = None
        self._holdings = Holdings(
            self._register,
            shards,
            name,
            entries=lambda: self.entries,
            made=lambda number: PartStore(
                self._server, rules, name, shards, number, self._clock, self._history, lambda: self._shared.given
            ),
            now=self._now,
            time=clock,
        )
        self._delivery = Delivery(self._holdings, self._bus, clock)
        self._views = Views()
        self._tokens = SharedTokens(self._server, rules)
        self._secret = b""
        self._instant: Instant | None = None
        self._told_at = 0.0
        self._beats: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._opened = False
        self._undelivered = False
        self._blind: Cause | None = None
        self._ticks = 0
        self._ticking = False
        self._ticked_at = self._time()
        self._ticked: Boot | None = None
        self._missed_s = 0.0
        self._turn = 0
        self._kept: list[Tick] = []
        self._sessions = 0
        self._backlog = 0
        self._everywhere = Everywhere(self._holdings, self._bus, shards, self._now)
        self._services: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}

    # Opening and closing.

    async def open(self, instant: Instant) -> None:
        """See `Store.open`. Waits for parts that somebody has let go only by dying."""
        self._told(instant)
        try:
            await self._server.open()
            await self._sign()
            until = self._time() + LEASE_S + 2 * WAIT_S
            await self._begin(instant, until)
            self._opened = True
            self._tasks = [asyncio.create_task(self._bus.run())]
            await self._holdings.balance()
            while not self._holdings.complete and self._time() < until:
                await asyncio.sleep(WAIT_S)
                await self._reported(None)
                await self._holdings.balance()
        except BaseException:
            await self.close()
            raise
        self.unreadable = [row for store in self._holdings.stores.values() for row in store.unreadable]
        self._tasks.append(asyncio.create_task(self._balance()))

    async def _sign(self) -> None:
        """Makes sure that this is a deployment of ours, and has what all share.

        Raises:
            StoreCorrupt: It is of another version, or has another number of parts.
        """
        found = await self._agreed(self._secret or secrets.token_bytes(32))
        if found[0] == HALF:
            check_whole(PartRows(await self._reads.hash(META), {}))
        check_signed(self._server, found[0], found[1], self._shards)
        self._secret = found[2]

    async def _agreed(self, secret: bytes) -> list[bytes]:
        return await self._register.agree(format=FORMAT, shards=b"%d" % self._shards, secret=secret)

    async def _begin(self, instant: Instant, until: float) -> None:
        """Begins with the clock that is published, or keeps it where nobody does any more.

        Raises:
            StoreUnavailable: Nobody tells one until then.
        """
        while True:
            report = await self._reported(None)
            if report.clock:
                self._follow(report, instant)
            if report.ended and await self._take_over(instant):
                return
            if report.clock and report.noted_s is not None:
                return
            if self._time() > until:
                raise StoreUnavailable("No daemon of the deployment tells the clock.")
            await asyncio.sleep(WAIT_S)

    async def _take_over(self, instant: Instant) -> bool:
        """Keeps the clock from now on, after the time without any daemon; returns whether that is so."""
        keeper = await self._taken()
        if keeper is None:
            return False
        report = await self._last(instant)
        clock = clocks.first(instant)
        if report.clock:
            saved = rows.clock_from_json(report.clock)
            self._missed_s = clocks.missed(saved, instant)
            clock = clocks.resume(saved, instant, self._rules.clock)
        keeper.go_on(clock, self._shared)
        self._keeper = keeper
        await keeper.publish()
        self._clock.now, self._shared = keeper.clock, keeper.shared
        return True

    async def _taken(self) -> Keeper | None:
        """A keeper that has the part of all; None where another daemon has it."""
        keeper = Keeper(self._server, self._shards, self.name, self._rules, self._register, self._now)
        try:
            await keeper.take()
        except StoreLocked:
            return None
        return keeper

    async def _last(self, instant: Instant) -> Report:
        """What was published last, once nobody else can publish: what was read before may be outdated by then."""
        report = await self._reported(self._blind)
        self._follow(report, instant)
        return report

    async def close(self) -> None:
        """See `Store.close`. Leaves the register at once: nothing that was accepted is on its way any more.

        But where something has waited for too long: it is lost, as with a daemon that dies.
        """
        opened, self._opened = self._opened, False
        late = opened and self.late()
        await ended(self._tasks[1:])
        if opened:
            await self._holdings.close()
        if not late:
            with contextlib.suppress(StoreUnavailable):
                await self._register.leave()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            with contextlib.suppress(StoreUnavailable):
                await keeper.leave()
        await ended(self._tasks)
        self._tasks = []
        await self._server.close()

    async def die(self) -> None:
        """Ends without a word to anybody, as a process that is killed does; for tests."""
        self._opened = False
        await ended(self._tasks)
        self._tasks = []
        await self._holdings.abandon()

    async def _balance(self) -> None:
        """Takes and gives up parts, again and again; and reports while nobody ticks, as at the start and at the end."""
        while True:
            await asyncio.sleep(BALANCE_S)
            idle_s = self._time() - self._ticked_at
            try:
                if idle_s > IDLE_S and self._keeper is not None and self._ticks and not self._ticking:
                    keeper, self._keeper = self._keeper, None
                    await keeper.leave()
                if IDLE_S < idle_s < STOPPING_S or not self._ticks:
                    instant = self._now()
                    report = await self._reported(self._unticked())
                    if self._keeper is None:
                        # Heartbeats are taken still, and a lease counts from the clock.
                        self._follow(report, instant)
                await self._holdings.balance()
            except StoreError as error:
                log.debug("replica.not_balanced", reason=str(error))

    def _unticked(self) -> Cause | None:
        """Why the clock must not go on as far as is known without a tick, for which everything would be flushed."""
        return Cause.STORE if self._undelivered or self.late() else self._blind

    def _check(self) -> None:
        """Raises `StoreFailed` when what runs by itself has ended: others would wait for this daemon for ever."""
        for task in self._tasks:
            if task.done():
                fault = None if task.cancelled() else task.exception()
                raise StoreFailed("This daemon answers the others no more, or takes no parts.") from fault

    # Time.

    def _told(self, instant: Instant) -> None:
        self._instant, self._told_at = instant, self._passed()

    def _now(self) -> Instant:
        """The instant that the caller last told, and what has passed since."""
        assert self._instant is not None  # noqa: S101 - nothing is asked before it is opened
        passed = self._passed() - self._told_at
        boot, epoch, boot_id = self._instant
        return Instant(Boot(boot + passed), Epoch(epoch + passed), boot_id)

    # Heartbeats.

    def plainly_live(self, beat: Beat) -> float | None:
        """See `Store.plainly_live`. Of agents of others as far as was told by them."""
        if not self._opened or not self._register.fresh:
            return None
        store = self._holdings.stores.get(part_of(beat.agent, self._shards))
        if store is not None:
            return store.plainly_live(beat)
        return beat.ttl if self._views.live(beat, self._clock.now.observed) else None

    def whose(self, session_id: bytes) -> AgentId | None:
        """See `Store.whose`. Also of agents of others, as far as was told by them."""
        for store in self._holdings.stores.values():
            agent = store.whose(session_id)
            if agent is not None:
                return agent
        return self._views.agent(session_id)

    def applier(self, agent: AgentId) -> str | None:
        """Which daemon applies an agent's heartbeats, as last seen: its name; empty for this one, None for nobody."""
        number = part_of(agent, self._shards)
        return "" if number in self._holdings.stores else self._holdings.owner(number)

    def newcomer(self, agent: AgentId) -> int | None:
        """See `Store.newcomer`. Of agents of others nobody can tell without asking."""
        store = self._holdings.stores.get(part_of(agent, self._shards))
        if store is None or store.newcomer(agent) is None:
            return None
        return self._known()

    def _known(self) -> int:
        return room.known(self._holdings.stores, self.entries, self.name)

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        """See `Store.apply`. Returns when whoever has the agents' parts has applied them."""
        self._told(instant)
        await self._admitted()
        replies: dict[int, Reply] = {}
        parts = {at: part_of(beat.agent, self._shards) for at, beat in enumerate(beats)}
        try:
            await self._delivery.everywhere(
                parts,
                lambda store, places: store.apply([beats[at] for at in places], instant),
                "apply",
                lambda places: packed.beats_out([beats[at] for at in places]),
                packed.replies_in,
                replies,
            )
        except StoreUnavailable:
            self._undelivered = True
            self._views.forget(beats)
            raise
        found = [replies[at] for at in range(len(beats))]
        mine = self._holdings.stores
        self._views.told(
            [(beats[at], found[at]) for at, part in parts.items() if part not in mine],
            self._clock.now.observed,
        )
        return found

    async def tear(self, tears: Sequence[Tear], instant: Instant) -> list[bool]:
        """See `Store.tear`. Sockets that carried agents of others are theirs to judge."""
        self._told(instant)
        places: dict[int, int] = {}
        for at, tear in enumerate(tears):
            part = self._part_of_session(tear.session_id)
            if part is not None:
                places[at] = part
        shorter: dict[int, bool] = {}
        await self._delivery.everywhere(
            places,
            lambda store, places: store.tear([tears[at] for at in places], instant),
            "tear",
            lambda places: packed.tears_out([tears[at] for at in places]),
            lambda text: packed.read(list[bool], text),
            shorter,
        )
        return [shorter.get(at, False) for at in range(len(tears))]

    def _part_of_session(self, session_id: bytes) -> int | None:
        agent = self.whose(session_id)
        return None if agent is None else part_of(agent, self._shards)

    async def _admitted(self) -> None:
        """Raises `StoreUnavailable` unless this daemon is registered: else nobody waits for what it has accepted."""
        if not self._opened:
            raise StoreUnavailable("The store is closed.")
        if not self._register.fresh and await self._report(self._unticked()) is None:
            raise StoreUnavailable("This daemon was not heard of and is not registered any more: it is, at once.")

    # What others ask.

    async def _asked(self, what: str, body: bytes) -> bytes:
        """Answers another daemon. Raises `Refused` for agents of parts that this one does not have."""
        if not self._opened:
            raise Refused("closing")
        try:
            if what == "apply":
                return packed.replies_out(await self._applied(packed.beats_in(body)))
            if what == "tear":
                tears = packed.tears_in(body)
                parts = [self._part_of_session(tear.session_id) for tear in tears]
                known = [at for at, part in enumerate(parts) if part is not None]
                done = await self._delivery.here(
                    [parts[at] or 0 for at in known],
                    lambda store, places: store.tear([tears[known[at]] for at in places], self._now()),
                )
                shorter = dict(zip(known, done, strict=True))
                return orjson.dumps([shorter.get(at, False) for at in range(len(tears))])
            if what in self._services:
                return await self._services[what](body)
            return await self._asked_by_operator(what, body)
        except ValueError as error:
            raise Refused(str(error)) from None

    async def _applied(self, beats: Sequence[Beat]) -> list[Reply]:
        """Applies heartbeats that another daemon has taken, but those of agents for whom there is no room."""
        most, found = self._rules.most_agents, dict[int, Reply]()
        if most is not None:
            found = room.refused(beats, most - self._known(), self._holdings.stores, self._shards)
        taken = [at for at in range(len(beats)) if at not in found]
        replies = await self._delivery.here(
            [part_of(beats[at].agent, self._shards) for at in taken],
            lambda store, places: store.apply([beats[taken[at]] for at in places], self._now()),
        )
        found.update(zip(taken, replies, strict=True))
        return [found[at] for at in range(len(beats))]

    # The sweep.

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        """See `Store.tick`. Advances the clock if this is the keeper; else it goes by the keeper's."""
        self._check()
        self._told(instant)
        if blind is None and (self._undelivered or any(store.failing for store in self._holdings.stores.values())):
            blind = Cause.STORE
        self._undelivered, self._blind = False, blind
        self._ticks += 1
        self._ticked_at = self._time()
        before = self._clock.now
        # Of a tick that fails whoever asked for it knows how long that was.
        since, self._ticked = before.boot if self._ticked is None else self._ticked, instant.boot
        elapsed = max(0.0, instant.boot - since) if since is not None else 0.0
        self._ticking = True
        try:
            report = await self._reported(blind)
            await self._keep(report, instant)
        finally:
            self._ticking = False
            # Who waited for an answer has not been idle.
            self._ticked_at = self._time()
        clock = self._clock.now
        stores = list(self._holdings.stores.values())
        ticks = await asyncio.gather(
            *(store.tick(owner, instant, None, limit) for store in stores), return_exceptions=True
        )
        found, fault = self._kept, None
        for store, tick in zip(stores, ticks, strict=True):
            if isinstance(tick, Tick):
                found.append(tick)
            elif not isinstance(tick, StoreUnavailable) or self._holdings.has(store):
                fault = tick
        for store in stores:
            self._beats.update(store.braking.take_beats())
        self._kept = []
        if fault is not None:
            # Who was held or let go is told once: by the next tick.
            self._kept = [replace(tick, due=(), backlog=0, orphans=(), undos=()) for tick in found]
            raise fault
        return self._merged(found, clock, max(0.0, elapsed - max(0.0, clock.observed - before.observed)), limit)

    def _merged(
        self,
        found: Sequence[Tick],
        clock: Clock,
        stopped_s: float,
        limit: int,
    ) -> Tick:
        giving_up = self._holdings.giving_up
        due = [due for tick in found for due in tick.due if part_of(due.agent, self._shards) not in giving_up]
        missed_s, self._missed_s = self._missed_s, 0.0
        changes: tuple[BrakeChange, ...] = ()
        if self._keeper is not None:
            changes, self._keeper.changes = tuple(self._keeper.changes), []
        self._backlog = sum(tick.backlog for tick in found)
        return Tick(
            clock=clock,
            stopped_s=stopped_s,
            due=evenly(due, limit),
            backlog=self._backlog,
            orphans=tuple(orphan for tick in found for orphan in tick.orphans),
            brake=self._shared.view,
            changes=changes,
            stopped=tuple(stopped for tick in found for stopped in tick.stopped),
            missed_s=missed_s,
            foreign=frozenset().union(*(tick.foreign for tick in found)),
            undos=tuple(undo for tick in found for undo in tick.undos),
        )

    async def _reported(self, blind: Cause | None) -> Report:
        """Reports, and registers anew if this one was dropped."""
        report = await self._report(blind)
        if report is None:
            log.warning("replica.dropped")
            # Whatever the register has lost: what all share may be gone with it.
            await self._sign()
            report = await self._report(blind)
        if report is None:
            raise StoreUnavailable("This daemon was not heard of and is not registered any more.")
        return report

    async def _report(self, blind: Cause | None) -> Report | None:
        tallies: dict[str, Tally] = {}
        agents: Counter[AgentState] = Counter()
        stores = self._holdings.stores.values()
        for store in stores:
            for group, tally in store.braking.tallies.items():
                tallies.setdefault(group, Tally()).add(tally)
            agents.update(store.phases)
        told = Told(
            blind=blind,
            version=__version__,
            parts=tuple(sorted(store.number for store in stores if store.braking.tallies)),
            number=min((store.braking.number for store in stores), default=self._shared.given.number),
            agents={state.value: number for state, number in agents.items()},
            sessions=self._sessions,
            backlog=self._backlog,
            tallies=tallies,
            beats=dict(self._beats),
        )
        report = await self._register.report(orjson.loads(packed.out(told)))
        if report is not None:
            self.entries, self.keeper = report.entries, report.keeper if report.left_s > 0 else ""
        return report

    async def _keep(self, report: Report, instant: Instant) -> None:
        """Makes the clock and the brakes those of now."""
        if self._keeper is not None and self._keeper.replaced:
            self._keeper = None
        if self._keeper is None:
            clock = self._follow(report, instant)
            if not report.ended:
                await self._go_back(clock)
                return
            keeper = await self._taken()
            if keeper is None:
                return
            report = await self._last(instant)
            keeper.go_on(self._clock.now, self._shared)
            self._keeper = keeper
            log.info("replica.keeper")
        keeper, before = self._keeper, self._shared.given.number
        await keeper.tick(report.entries, instant)
        self._clock.now, self._shared = keeper.clock, keeper.shared
        if self._shared.given.number != before:
            await self._spread()

    def _follow(self, report: Report, instant: Instant) -> Clock | None:
        """Goes by what is published, unless more is known here. Returns the clock that is; None without one."""
        clock = published(report, instant)
        if clock is None:
            return None
        if clock.observed >= self._clock.now.observed:
            self._clock.now = clock
        if report.shared:
            shared = shared_in(report.shared)
            if shared.given.number >= self._shared.given.number:
                self._shared = shared
        return clock

    async def _go_back(self, clock: Clock | None) -> None:
        """Goes by the clock of all where that is behind what this one knows.

        The server has lost it, and whoever keeps it now began without those who knew. No part may be kept by two
        clocks: a lease by the one has run out by the other, or never will.
        """
        if clock is None or self._clock.now.observed - clock.observed <= BEHIND_S:
            return
        log.warning("replica.clock_lost", behind_s=round(self._clock.now.observed - clock.observed, 3))
        await self._holdings.forget()
        self._clock.now, self._views = clock, Views()

    async def record(self, actions: Sequence[Action]) -> None:
        """See `Store.record`."""
        found = [history.action_row(action) for action in actions]
        await self._history.write(AllWrite(actions={row[0].encode(): tuple(row) for row in found}))

    # Quota.

    async def take_tokens(self, operation: str, scope: str, count: int, instant: Instant) -> float:
        """See `Store.take_tokens`. All daemons share them, by the server's time."""
        del instant
        return await self._tokens.take(operation, scope, count)

    async def throttled(self, operation: str, scope: str, instant: Instant) -> None:
        """See `Store.throttled`."""
        del instant
        await self._tokens.throttled(operation, scope)

    # What people ask for, of all agents.

    def offer(self, what: str, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Other daemons may ask this one for something, besides what the store itself answers."""
        self._services[what] = answer

    async def owner(self, agent: AgentId) -> str | None:
        """Which other daemon has an agent's part; None if this one has.

        Raises:
            StoreUnavailable: Nobody has it at present.
        """
        number = part_of(agent, self._shards)
        if number in self._holdings.stores:
            return None
        await self._holdings.look()
        owner = self._holdings.owner(number)
        if owner is None:
            raise StoreUnavailable("The part that the agent belongs to is nobody's at present.")
        return owner

    async def ask(self, owner: str, what: str, body: bytes, timeout_s: float) -> bytes:
        """Asks another daemon for what it offers.

        Raises:
            StoreUnavailable: It has not answered, or does not do it.
        """
        try:
            return await self._bus.ask(owner, what, body, timeout_s)
        except Refused:
            raise StoreUnavailable("Another daemon of the deployment does not do what it is asked.") from None

    async def _asked_by_operator(self, what: str, body: bytes) -> bytes:
        if what == "shared":
            shared = shared_in(body)
            if shared.given.number > self._shared.given.number:
                self._shared = shared
                self._brake()
            return b""
        if what != "order":
            return await self._everywhere.answer(what, body)
        if self._keeper is None:
            raise Refused("not the keeper")
        order: Order = packed.read(Order, body)
        return packed.out(await self._ordered(order))

    async def _ordered(self, order: Order) -> BrakeView:
        keeper = self._keeper
        assert keeper is not None  # noqa: S101 - asked before
        # The running clock of all is the same: the keeper's own tells when it is over.
        until = Running(keeper.clock.running + order.until)
        view = await keeper.order(Order(order.hold, order.group, until, order.reason, order.by), self._now())
        if keeper.shared.given.number >= self._shared.given.number:
            self._shared = keeper.shared
        self._brake()
        await self._spread()
        return view

    async def _spread(self) -> None:
        """The others know at once how the brakes stand; whoever does not answer knows it at its next tick."""
        others = [entry.name for entry in self.entries if entry.heard and entry.name != self.name]
        body = shared_out(self._shared)
        asked = (self._bus.ask(name, "shared", body, SPREAD_S) for name in others)
        await asyncio.gather(*asked, return_exceptions=True)

    def _brake(self) -> None:
        """What the keeper says of the brakes is in force now."""
        for store in self._holdings.stores.values():
            store.brake(self._now())

    async def order(
        self, group: str, *, hold: bool, for_s: float, reason: str, instant: Instant, by: str = ""
    ) -> BrakeView:
        """See `Store.order`. In force with others at their next tick."""
        self._told(instant)
        order = Order(hold, group, Running(for_s), reason, by)
        if self._keeper is not None:
            return await self._ordered(order)
        if not self.keeper:
            raise StoreUnavailable("No daemon of the deployment keeps the clock at present.")
        try:
            found: BrakeView = packed.read(BrakeView, await self._bus.ask(self.keeper, "order", packed.out(order)))
        except (Refused, ValueError):
            raise StoreUnavailable("The keeper of the clock has just changed.") from None
        return found

    async def log_out(self, agent: AgentId, follow_up: FollowUp, instant: Instant) -> bool:
        """See `Store.log_out`."""
        self._told(instant)
        return await self._everywhere.log_out(agent, follow_up)

    async def cancel(self, agent: AgentId, action: Action) -> Cancel:
        """See `Store.cancel`."""
        return await self._everywhere.cancel(agent, action)

    async def restore(
        self, since: Epoch, instance_id: str | None, *, silent: bool, instant: Instant, by: str | None = None
    ) -> Ordered:
        """See `Store.restore`."""
        self._told(instant)
        return await self._everywhere.restore(since, instance_id, silent=silent, by=by)

    async def counts(self) -> Counts:
        """See `Store.counts`. Of the agents of this daemon's parts."""
        found = [await store.counts() for store in self._holdings.stores.values()]
        agents = dict.fromkeys(AgentState, 0)
        for counts in found:
            for state, number in counts.agents.items():
                agents[state] += number
        self._sessions = sum(counts.sessions for counts in found)
        return Counts(agents, self._sessions)

    async def agent(self, agent: AgentId) -> AgentView | None:
        """See `Store.agent`."""
        return await self._everywhere.agent(agent)

    async def agents(
        self,
        state: AgentState | None = None,
        query: str = "",
        cursor: str | None = None,
        limit: int = 100,
        *,
        among: Callable[[AgentId], bool] | None = None,
    ) -> AgentPage:
        """See `Store.agents`."""
        if among is None:
            return await self._everywhere.agents(state, query, cursor, limit)
        # Nobody else knows for whom it is true.
        found: list[AgentView] = []
        while True:
            page = await self._everywhere.agents(state, query, cursor, max(limit, LOOKED_THROUGH))
            found += [view for view in page.agents if among(view.agent)]
            cursor = page.cursor
            if len(found) > limit:
                return AgentPage(tuple(found[:limit]), str(found[limit - 1].agent))
            if cursor is None:
                return AgentPage(tuple(found), None)

    async def actions(
        self,
        agent: AgentId | None = None,
        outcome: Outcome | None = None,
        since: Epoch | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> ActionPage:
        """See `Store.actions`."""
        return history.page(await self._reads.actions(agent, outcome, since, cursor, limit + 1), limit)

    async def recorded(self, after: int, limit: int = 100) -> Recorded:
        """See `Outbox.recorded`. To the keeper alone: what is delivered is delivered once."""
        if self._keeper is None:
            raise NotKeeper("The keeper of the clock delivers.")
        return await self._reads.recorded(after, limit)

    async def delivered(self, receiver: str) -> int | None:
        """See `Outbox.delivered`."""
        value = await self._reads.meta(f"delivered {receiver}")
        return None if value is None else int(value)

    async def mark_delivered(self, receiver: str, number: int) -> None:
        """See `Outbox.mark_delivered`."""
        await self._history.write(AllWrite({f"delivered {receiver}".encode(): str(number).encode()}))

    @property
    def rows_lost(self) -> RowsLost | None:
        """See `DaemonStore.rows_lost`."""
        return self._holdings.lost

    def replicas(self) -> Sequence[ReplicaView]:
        """See `DaemonStore.replicas`."""
        return [
            view_of(entry, here=entry.name == self.name, keeper=entry.name == self.keeper) for entry in self.entries
        ]

    async def secret(self) -> bytes:
        """See `Store.secret`."""
        return self._secret

    async def prune(self, before: Epoch) -> int:
        """See `Store.prune`. Of the agents of this daemon's parts; of the history if it is the keeper."""
        forgotten = 0
        # First, as it is done where the memory is full, too.
        while self._keeper is not None:
            keys = [key for (key,) in await self._reads.old_actions(before, PRUNE_CHUNK)]
            if not keys:
                break
            await self._history.forget([key.encode() for key in keys])
            forgotten += len(keys)
        return forgotten + sum([await store.prune(before) for store in list(self._holdings.stores.values())])

    async def make_room(self) -> MemoryUse:
        """See `DaemonStore.make_room`. The keeper drops; others look."""
        evicts = await self._server.look()
        # Where the server has dropped it, whoever starts next would make another one, by which no ticket is valid.
        await self._agreed(self._secret)
        if self._keeper is None:
            return MemoryUse(await self._server.memory_share(META), evicts=evicts)
        return replace(await shorten(self._server, self._reads, self._history), evicts=evicts)
