"""The keeper of a deployment: the one of its daemons that has the part of all, and with it the clock and the brakes.

It alone advances the one clock, by the rules of `core/clock.py`, and only while all registered daemons have said lately
that what they have accepted is stored. What it finds is published, and all others go by that. When it is gone, whoever
takes the part of all goes on from what was published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import orjson

from watchdog.core import clock as clocks
from watchdog.core import holds
from watchdog.core.brake import ALL, Proof, Reading
from watchdog.core.clock import Cause, Clock
from watchdog.core.holds import BrakeChange, BrakeView, HoldView
from watchdog.core.model import Boot, Epoch, Instant
from watchdog.errors import StoreUnavailable
from watchdog.stores import packed, rows
from watchdog.stores.fenced import FencedParts
from watchdog.stores.judging import CLEAR, NEVER_TRIPS, Tally, judge
from watchdog.stores.one_part import Given
from watchdog.stores.part_rows import AllWrite
from watchdog.stores.register import HEARD_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watchdog.core.brake import Order
    from watchdog.stores.base import StoreRules
    from watchdog.stores.part_reads import Server
    from watchdog.stores.register import Entry, Register


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


def rebased(clock: Clock, age_s: float, instant: Instant) -> Clock:
    """A clock that another machine has published so long ago, as if this one had ticked it then."""
    return replace(clock, boot=Boot(instant.boot - age_s), boot_id=instant.boot_id, epoch=Epoch(instant.epoch - age_s))


class Keeper:
    """The part of all, this process's.

    Attributes:
        clock: The deployment's, as it was published last.
        shared: What was published with it.
        changes: Of the brakes, since they were taken.
    """

    def __init__(self, server: Server, shards: int, name: str, rules: StoreRules, register: Register) -> None:
        """Has nothing yet.

        Args:
            server: Where the part is.
            shards: In how many others the agents are kept.
            name: Of this process.
            rules: What the store has to know of the settings.
            register: Of those who are dropped from it.
        """
        self.clock = Clock()
        self.shared = Shared()
        self.changes: list[BrakeChange] = []
        self._shards = shards
        self._rules = rules
        self._register = register
        self._unstepped_s = 0.0
        self._fenced = FencedParts(server, 0, name)
        self._name = name
        self._beats: dict[str, Mapping[str, int]] = {}
        self._tallies: Mapping[str, Tally] = {}
        # In the gap that goes on: who was not heard of, who of them was dropped, and whether it has another cause.
        self._vanished: set[str] = set()
        self._dropped: set[str] = set()
        self._otherwise = False
        # Since when somebody is not heard of, by running time: the server's may be set.
        self._silent: dict[str, float] = {}
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
        cause, before = self._blind(entries), self.clock
        if cause is None and before.gap_s > 0:
            if self._vanished <= self._dropped and not self._otherwise:
                # Whose clients had to come back elsewhere had that time for it already.
                before = replace(before, gap_s=0.0)
            self._vanished, self._dropped, self._otherwise = set(), set(), False
        self.clock = clocks.advance(before, instant, self._rules.clock, cause)
        beats = self._summed(entries)
        shared, changes = self.shared, list[BrakeChange]()
        if beats is not None:
            self._unstepped_s += self.clock.running - before.running
            shared, changes = self._judged(beats, instant, self._unstepped_s)
        try:
            await self._publish(self.clock, shared)
        except StoreUnavailable:
            self.clock = clocks.advance(before, instant, self._rules.clock, Cause.STORE)
            self._otherwise = True
            raise
        if beats is not None:
            self._unstepped_s = 0.0
            self._take(shared, changes)
        self._silent = {
            entry.name: self._silent.get(entry.name, before.running) for entry in entries if not entry.heard
        }
        grace_s = self._rules.clock.resume_grace_s
        for entry in entries:
            silent_s = self.clock.running - self._silent.get(entry.name, self.clock.running)
            old = entry.name != self._name and entry.age_s > grace_s and silent_s >= grace_s - HEARD_S
            if old and await self._register.drop(entry.name, grace_s):
                self._dropped.add(entry.name)

    def _blind(self, entries: Sequence[Entry]) -> Cause | None:
        """Why the clock must not go on: what somebody says goes before that somebody says nothing."""
        said = [entry.blind for entry in entries if entry.heard and entry.blind is not None]
        vanished = {entry.name for entry in entries if not entry.heard}
        self._vanished |= vanished
        if said:
            self._otherwise = True
            return said[0]
        return Cause.REPLICA if vanished else None

    def _take(self, shared: Shared, changes: Sequence[BrakeChange]) -> None:
        views = {hold.group: hold for hold in shared.view.holds}
        for change in self._news:
            now = views.get(change.hold.group)
            self.changes.append(change if now is None or now.state is not change.after else replace(change, hold=now))
        self._news = list(changes)
        self.shared = shared

    async def order(self, order: Order, instant: Instant) -> BrakeView:
        """Puts an order in place of the group's last; it is in force, and published, when this returns."""
        given = self.shared.given
        orders = {**given.orders, order.group: order}
        ordered = Shared(replace(given, orders=orders), self.shared.view)
        before, self.shared = self.shared, ordered
        shared, changes = self._judged({}, instant, 0.0)
        try:
            await self._publish(self.clock, shared)
        except BaseException:
            self.shared = before
            raise
        self._take(shared, changes)
        return shared.view

    async def publish(self) -> None:
        """Publishes what it goes on with."""
        await self._publish(self.clock, self.shared)

    async def _publish(self, clock: Clock, shared: Shared) -> None:
        meta: dict[bytes, bytes | None] = {b"clock": rows.clock_to_json(clock), b"shared": shared_out(shared)}
        await self._fenced.put([(self._fenced.all, AllWrite(meta).arguments())])

    def _judged(self, beats: Mapping[str, int], instant: Instant, step_s: float) -> tuple[Shared, list[BrakeChange]]:
        """What the brakes are by what all have counted, and which have changed."""
        running, given = self.clock.running, self.shared.given
        orders = {group: order for group, order in given.orders.items() if order.until > running}
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
        number = given.number + bool(changes)
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
            try:
                told = packed.read(Told, orjson.dumps(entry.told))
            except ValueError:
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
            before = self._beats.get(name, {})
            for instance_id, number in numbers.items():
                beats[instance_id] += max(0, number - before.get(instance_id, 0))
        self._beats, self._tallies = counted, tallies
        return beats
