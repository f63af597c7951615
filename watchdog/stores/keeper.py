"""The keeper of a deployment: the one of its daemons that has the part of all, and with it the clock and the brakes.

It alone advances the one clock, by the rules of `core/clock.py`, and only while all registered daemons have said lately
that what they have accepted is stored. What it finds is published, and all others go by that. When it is gone, whoever
takes the part of all goes on from what was published.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import orjson

from watchdog.core import clock as clocks
from watchdog.core import holds
from watchdog.core.brake import ALL, Proof, Reading
from watchdog.core.clock import GRACE_SHARE, GRACE_WINDOW_S, Cause, Clock
from watchdog.core.holds import BrakeChange, BrakeView, HoldView
from watchdog.core.model import Boot, Epoch, Instant
from watchdog.errors import StoreLocked, StoreUnavailable
from watchdog.stores import packed, rows
from watchdog.stores.fenced import FencedParts
from watchdog.stores.judging import CLEAR, NEVER_TRIPS, Tally, judge
from watchdog.stores.one_part import Given
from watchdog.stores.part_reads import META
from watchdog.stores.part_rows import AllWrite
from watchdog.stores.register import HEARD_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watchdog.core.brake import Order
    from watchdog.stores.base import StoreRules
    from watchdog.stores.part_reads import Server
    from watchdog.stores.register import Entry, Register, Report


KEPT_GRACE_S = GRACE_WINDOW_S * GRACE_SHARE / 4
"""Most of the grace of ten minutes that daemons which vanish leave for gaps in which nobody could be heard."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the keeper publishes with the clock.

    Attributes:
        given: What it says of the brakes.
        view: What is told of them.
    """

    given: Given = field(default_factory=Given)
    view: BrakeView = field(default_factory=BrakeView)


@dataclass(frozen=True, slots=True)
class Told:
    """What a daemon tells the register.

    Attributes:
        blind: Why the clock must not go on, as far as this one is concerned.
        version: Of the daemon.
        parts: Which it has, and has counted.
        number: Of how the brakes stood when they were counted.
        agents: How many it has, by state.
        sessions: How many of theirs have a lease.
        backlog: How many of them are due.
        tallies: What it counts of its agents, by instance, and of all together.
        beats: That left a lease while something was held, by instance, since its start.
    """

    blind: Cause | None = None
    version: str = ""
    parts: tuple[int, ...] = ()
    number: int = 0
    agents: Mapping[str, int] = field(default_factory=dict)
    sessions: int = 0
    backlog: int = 0
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    beats: Mapping[str, int] = field(default_factory=dict)


def shared_out(shared: Shared) -> bytes:
    """As bytes."""
    return packed.out(shared)


def shared_in(text: bytes) -> Shared:
    """The same back; of another version: nothing."""
    try:
        found: Shared = packed.read(Shared, text)
    except ValueError:
        return Shared()
    return found


STAMP = "server_ms"
"""Of the server, at the clock's instant: what is published may be long on its way."""


def published(report: Report, instant: Instant) -> Clock | None:
    """The clock that another machine has published, as if this one had ticked it then; None where there is none."""
    if not report.clock or report.noted_s is None:
        return None
    row = orjson.loads(report.clock)
    clock, stamp_ms = rows.clock_of(row), row.get(STAMP)
    if clock.boot_id == instant.boot_id and clock.boot is not None and clock.boot <= instant.boot:
        return clock
    age_s = report.noted_s if stamp_ms is None else max(report.noted_s, (report.now_ms - float(stamp_ms)) / 1000)
    return replace(clock, boot=Boot(instant.boot - age_s), boot_id=instant.boot_id, epoch=Epoch(instant.epoch - age_s))


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was to be published, and may have been or not.

    Attributes:
        shared: What it was.
        text: The same as bytes.
        changes: Of the brakes, that come with it.
        stepped: The brakes were stepped by what is counted.
    """

    shared: Shared
    text: bytes
    changes: Sequence[BrakeChange] = ()
    stepped: bool = False


class Keeper:
    """The part of all, this process's. One thing is decided at a time, and only when it is known what is published.

    Attributes:
        clock: The deployment's, as it was published last.
        shared: What was published with it.
        changes: Of the brakes, since they were taken.
    """

    def __init__(
        self,
        server: Server,
        shards: int,
        name: str,
        rules: StoreRules,
        register: Register,
        now: Callable[[], Instant],
    ) -> None:
        """Has nothing yet.

        Args:
            server: Where the part is.
            shards: In how many others the agents are kept.
            name: Of this process.
            rules: What the store has to know of the settings.
            register: Of those who are dropped from it.
            now: The instant.
        """
        self.clock = Clock()
        self.shared = Shared()
        self.changes: list[BrakeChange] = []
        self._shards = shards
        self._rules = rules
        self._register = register
        self._now = now
        self._unstepped_s = 0.0
        self._server = server
        self._fenced = FencedParts(server, 0, name)
        self._name = name
        self._deciding = asyncio.Lock()
        self._unsure: Attempt | None = None
        # The highest number that anybody may have been told.
        self._number = 0
        self._beats: dict[str, Mapping[str, int]] = {}
        self._tallies: Mapping[str, Tally] = {}
        # In the gap that goes on: who was not heard of, who of them was dropped, and whether it has another cause.
        self._vanished: set[str] = set()
        self._dropped: set[str] = set()
        self._otherwise = False
        # Since when somebody is not heard of, by running time: the server's may be set.
        self._silent: dict[str, float] = {}
        # Daemons have vanished for so long lately that the clock does not stand for it.
        self._spent = False
        # Of the brakes in the last tick: who is held by them is known in the next one.
        self._news: list[BrakeChange] = []

    @property
    def replaced(self) -> bool:
        """Another process has the part."""
        return self._fenced.taken_over is not None

    async def take(self) -> None:
        """Takes the part.

        Raises:
            StoreLocked: Another process has it.
            StoreUnavailable: Nobody knows.
        """
        await self._fenced.take_all(0.0)

    async def leave(self) -> None:
        """Lets it go at once."""
        await self._fenced.leave()

    def go_on(self, clock: Clock, shared: Shared) -> None:
        """Goes on with what was published; a proof of the path begins anew."""
        self.clock = clock
        # Why there is a gap only who began it knows.
        self._otherwise = clock.gap_s > 0
        brakes = {group: replace(brake, proof=Proof(), calm=0) for group, brake in shared.given.brakes.items()}
        self.shared = Shared(replace(shared.given, brakes=brakes), shared.view)

    async def tick(self, entries: Sequence[Entry], instant: Instant) -> None:
        """Advances the clock and steps the brakes, and publishes both.

        Args:
            entries: All daemons, as the register has just told.
            instant: Now.

        Raises:
            StoreUnavailable: It could not be published; the clock has not advanced.
        """
        since = self.clock.running
        async with self._deciding:
            try:
                await self._make_sure()
            except StoreUnavailable:
                self._stand(self.clock, instant)
                raise
            await self._step(entries, instant)
        self._silent = {entry.name: self._silent.get(entry.name, since) for entry in entries if not entry.heard}
        grace_s = self._rules.clock.resume_grace_s
        for entry in entries:
            silent_s = self.clock.running - self._silent.get(entry.name, self.clock.running)
            gone = entry.name != self._name and not entry.heard
            old = entry.age_s > grace_s and silent_s >= grace_s - HEARD_S
            if gone and old and await self._register.drop(entry.name, max(grace_s, HEARD_S)):
                self._dropped.add(entry.name)

    async def _step(self, entries: Sequence[Entry], instant: Instant) -> None:
        cause, before = self._blind(entries), self.clock
        if cause is None and before.gap_s > 0:
            if (self._vanished <= self._dropped or self._spent) and not self._otherwise:
                # Whose clients had to come back elsewhere had that time for it already, or all that there is.
                before = replace(before, gap_s=0.0)
            self._vanished, self._dropped, self._otherwise = set(), set(), False
        after = clocks.advance(before, instant, self._rules.clock, cause)
        beats = self._summed(entries)
        shared, changes = self._above(entries), list[BrakeChange]()
        if beats is not None:
            self._unstepped_s += after.running - before.running
            shared, changes = self._judged(after, beats, instant, self._unstepped_s)
        try:
            await self._publish(after, shared, changes, stepped=beats is not None)
        except BaseException:
            self._stand(before, instant)
            raise
        self.clock = after

    def _stand(self, clock: Clock, instant: Instant) -> None:
        """Nothing was published: the clock has not advanced."""
        self.clock = clocks.advance(clock, instant, self._rules.clock, Cause.STORE)
        self._otherwise = True

    def _above(self, entries: Sequence[Entry]) -> Shared:
        """What is shared, above the highest number that anybody tells: the server may have lost what that was."""
        told = max((found.number for entry in entries if (found := _told(entry)) is not None), default=0)
        given = self.shared.given
        if told <= given.number:
            return self.shared
        # Who else was held, and why, nobody knows: without a word of how they leave they have a fresh lease.
        number = max(told, self._number) + 1
        return Shared(Given(given.brakes, given.orders, {}, number), self.shared.view)

    def _blind(self, entries: Sequence[Entry]) -> Cause | None:
        """Why the clock must not go on: what somebody says goes before that somebody says nothing."""
        said = [entry.blind for entry in entries if entry.heard and entry.blind is not None]
        vanished = {entry.name for entry in entries if not entry.heard}
        self._vanished |= vanished
        # Once that is so, it is until another daemon's clients can be given all of it again.
        kept_s = min(self._rules.clock.resume_grace_s, KEPT_GRACE_S)
        self._spent = clocks.grace_left_s(self.clock) <= kept_s * (1 + self._spent)
        if said:
            self._otherwise = True
            return said[0]
        return Cause.REPLICA if vanished and not self._spent else None

    def _take(self, attempt: Attempt) -> None:
        """What was published is in force."""
        views = {hold.group: hold for hold in attempt.shared.view.holds}
        if attempt.stepped:
            self._unstepped_s = 0.0
        if attempt.stepped or attempt.changes:
            for change in self._news:
                now = views.get(change.hold.group)
                self.changes.append(
                    change if now is None or now.state is not change.after else replace(change, hold=now)
                )
            self._news = list(attempt.changes)
        self.shared = attempt.shared

    async def order(self, order: Order, instant: Instant) -> BrakeView:
        """Puts an order in place of the group's last; it is in force, and published, when this returns.

        Raises:
            StoreUnavailable: Nobody knows whether it is; the next tick finds out.
        """
        async with self._deciding:
            await self._make_sure()
            orders = {**self.shared.given.orders, order.group: order}
            shared, changes = self._judged(self.clock, {}, instant, 0.0, orders)
            await self._publish(self.clock, shared, changes)
            return shared.view

    async def publish(self) -> None:
        """Publishes what it goes on with."""
        async with self._deciding:
            await self._make_sure()
            await self._publish(self.clock, self.shared)

    async def _publish(
        self, clock: Clock, shared: Shared, changes: Sequence[BrakeChange] = (), *, stepped: bool = False
    ) -> None:
        self._unsure = attempt = Attempt(shared, shared_out(shared), changes, stepped)
        self._number = max(self._number, shared.given.number)
        meta: dict[bytes, bytes | None] = {b"clock": self._stamped(clock), b"shared": attempt.text}
        await self._fenced.put([(self._fenced.all, AllWrite(meta).arguments())])
        self._unsure = None
        self._take(attempt)

    def _stamped(self, clock: Clock) -> bytes:
        now = self._now()
        if clock.boot is None or clock.boot_id != now.boot_id:
            return rows.clock_to_json(clock)
        stamp_ms = self._register.server_least_ms(now.boot - clock.boot)
        return rows.clock_to_json(clock, {} if stamp_ms is None else {STAMP: stamp_ms})

    async def _make_sure(self) -> None:
        """Finds out what is published, after an attempt that was not answered.

        Raises:
            StoreUnavailable: Not now; or another process has the part.
        """
        attempt = self._unsure
        if attempt is None:
            return
        try:
            # With another fence nothing comes through any more that is still on its way.
            await self._fenced.take_all(0.0)
        except StoreLocked as error:
            self._fenced.taken_over = str(error)
            raise StoreUnavailable(str(error)) from None
        ((clock, shared),) = await self._server.read(("HMGET", META, "clock", "shared"))
        self._unsure = None
        if clock is not None:
            found = rows.clock_from_json(clock)
            if found.observed > self.clock.observed:
                # Others go by it already.
                running = max(found.running, self.clock.running)
                self.clock = replace(self.clock, observed=found.observed, running=running, graces=found.graces)
        if shared == attempt.text:
            self._take(attempt)
        elif shared is not None and (found_shared := shared_in(shared)).given.number > self.shared.given.number:
            # Somebody else has had the part meanwhile.
            self.shared = found_shared

    def _judged(
        self,
        clock: Clock,
        beats: Mapping[str, int],
        instant: Instant,
        step_s: float,
        orders: Mapping[str, Order] | None = None,
    ) -> tuple[Shared, list[BrakeChange]]:
        """What the brakes are by what all have counted, and by orders, and which have changed."""
        running, given = clock.running, self.shared.given
        orders = given.orders if orders is None else orders
        orders = {group: order for group, order in orders.items() if order.until > running}
        rules = self._rules.brake or NEVER_TRIPS
        found = judge(given.brakes, orders, self._tallies, beats, self._rules.brake, running, instant.epoch, step_s)
        leaving = dict(given.leaving)
        changes: list[BrakeChange] = []
        views: dict[str, HoldView] = {}
        for group in sorted({**given.brakes, **found.brakes}, key=lambda each: (each != ALL, each)):
            old, new = given.brakes.get(group, CLEAR), found.brakes.get(group, CLEAR)
            reading = found.readings.get(group, Reading())
            view = holds.view(group, new if group in found.brakes else old, reading, rules, running)
            if group in found.brakes:
                views[group] = view
            if old.state is not new.state:
                leaving[group] = found.leaving[group]
            if old.state is not new.state or old.order != new.order:
                changes.append(BrakeChange(old.state, new.state, view))
        told = BrakeView(self._tallies.get(ALL, Tally()).held, tuple(views.values()))
        number = max(given.number, self._number) + 1 if changes else given.number
        return Shared(Given(found.brakes, orders, leaving, number), told), changes

    def _summed(self, entries: Sequence[Entry]) -> Counter[str] | None:
        """Adds up what all have counted. Returns the beats since the last time.

        None while some part is not counted, or was before it was known how the brakes stand now.
        """
        parts = 0
        tallies: dict[str, Tally] = {}
        counted: dict[str, Mapping[str, int]] = {}
        beats: Counter[str] = Counter()
        for entry in entries:
            if not entry.heard:
                continue  # whoever has its parts next counts their agents
            told = _told(entry)
            if told is None:
                continue  # of another version
            if told.number != self.shared.given.number:
                return None
            parts += len(told.parts)
            for group, tally in told.tallies.items():
                tallies.setdefault(group, Tally()).add(tally)
            counted[entry.name] = told.beats
        if parts != self._shards:
            return None
        for name, numbers in counted.items():
            # Of one that was not counted the last time nobody knows when they came: they prove nothing now.
            before = self._beats.get(name, numbers)
            for instance_id, number in numbers.items():
                beats[instance_id] += max(0, number - before.get(instance_id, 0))
        self._beats, self._tallies = counted, tallies
        return beats


def _told(entry: Entry) -> Told | None:
    try:
        found: Told = packed.read(Told, orjson.dumps(entry.told))
    except ValueError:
        return None
    return found
