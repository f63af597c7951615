"""The brakes over a lease table: counts what they ask for, steps them, and holds and lets go as they say.

An agent belongs to one group at a time: its instance's while that one is not clear, else that of all. So a fault of
one instance is neither proven away by the others' beats nor counted twice. Where all agents are of one instance, that
has no group of its own unless an operator orders it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from watchdog.core.brake import ALL, HOLDS, SPARE_S, WINDOWS_S, Brake, BrakeRules, Exit, Order, Reading, State
from watchdog.core.clock import Clock
from watchdog.core.holds import BrakeChange, BrakeView, Stopped, evidence, released, view, why
from watchdog.core.model import Beat, Epoch, Mark, Observed, Outcome, Reply, Running
from watchdog.stores.changes import Changes
from watchdog.stores.facts import Agent
from watchdog.stores.judging import CLEAR, NEVER_TRIPS, Tally, judge
from watchdog.stores.leases import LeaseTable
from watchdog.stores.presence import Here, ttl_of

MANY, MANY_STEP_S = 10_000, 1.0
"""With more quiet agents than this the brakes are stepped once in so many seconds: counting 50,000 takes 60 ms."""


class Braking:
    """All brakes of a store.

    Attributes:
        brakes: By group, those that are not clear.
        orders: Of operators, by group.
        view: How everything stands, as of the last tick.
    """

    def __init__(self, table: LeaseTable, rules: BrakeRules | None, changes: Changes) -> None:
        self.brakes: dict[str, Brake] = {}
        self.orders: dict[str, Order] = {}
        self._table = table
        self._written = changes
        self._trips: dict[str, tuple[Observed, float]] = {}
        self._presence = table.presence
        self._automatic = rules is not None
        self._rules = rules or NEVER_TRIPS
        self._beats: Counter[str] = Counter()
        self._unstepped_s = 0.0
        self._changes: list[BrakeChange] = []
        self._stopped: list[Stopped] = []
        # By group and time, of those who are let go in this tick.
        self._told: dict[tuple[str, float], dict[str, Any]] = {}
        self.view = BrakeView()

    @property
    def news(self) -> bool:
        """Whether brakes, orders or marks differ from what was last kept."""
        return self._table.dirty.brakes

    @news.setter
    def news(self, value: bool) -> None:
        self._table.dirty.brakes = value

    def load(self, found: dict[str, Brake], orders: dict[str, Order]) -> None:
        """Goes on with what an earlier process had."""
        self.brakes, self.orders = found, orders

    def lose(self, clock: Observed) -> None:
        """Nobody knows what an earlier process had: who was held has a fresh lease and may be held anew.

        Args:
            clock: Now. The table is filled and its agents are not filed yet.
        """
        for agent in self._table.agents.values():
            if agent.mark is Mark.HELD:
                agent.mark, agent.held_s = Mark.FREE, 0.0
                agent.floor = max(agent.floor, Observed(clock + ttl_of(agent)))
                self._table.dirty.agents[agent.id] = agent

    def heard(self, beats: Sequence[Beat], replies: Iterable[Reply]) -> None:
        """Counts beats that left a lease, while anything is held: they may prove the path. Costs nothing otherwise."""
        if self.brakes:
            self._beats.update(beat.agent.instance_id for beat, reply in zip(beats, replies, strict=True) if reply.live)

    def order(self, order: Order) -> None:
        """Puts an order in place of the group's last. The next `tick` carries it out."""
        self.orders[order.group] = order
        self.news = True

    def ordered(self, agent: Agent) -> bool:
        """Whether an operator holds the agent's group."""
        return self.brakes.get(_group(agent, self.brakes), CLEAR).state is State.ORDERED

    def holds(self, agent: Agent) -> bool:
        """Whether silence of the agent's group is taken for a fault at present."""
        return self.brakes.get(_group(agent, self.brakes), CLEAR).state in HOLDS

    def evidence(self, agent: Agent, running: Running) -> dict[str, Any]:
        """Why and for how long the agent is held, as JSON values for an action."""
        group = _group(agent, self.brakes)
        return _evidence(agent, group, self.brakes.get(group, CLEAR), running)

    def take(self) -> tuple[BrakeView, tuple[BrakeChange, ...], tuple[Stopped, ...]]:
        """How everything stands, and the changes and agents that were not taken yet."""
        changes, self._changes = tuple(self._changes), []
        stopped, self._stopped = tuple(self._stopped), []
        return self.view, changes, stopped

    def tick(self, clock: Clock, at: Epoch, step_s: float) -> None:
        """Steps all brakes and carries out what they say.

        Args:
            clock: Now; everything that ran out by then is expired.
            at: The wall clock, for people.
            step_s: Running seconds since the last tick.
        """
        now, running = clock.observed, clock.running
        self._presence.sample(now)
        self._unstepped_s += step_s
        if len(self._presence.quiet) > MANY and step_s > 0 and self._unstepped_s < MANY_STEP_S:
            return
        step_s, self._unstepped_s = self._unstepped_s, 0.0
        for group in [group for group, order in self.orders.items() if order.until <= running]:
            del self.orders[group]
            self.news = True
        beats, self._beats = self._beats, Counter()
        if not self.brakes and not self.orders and not (self._presence.quiet and self._automatic):
            self._free_orphans({}, clock)
            return
        before = dict(self.brakes)
        tallies = self._tallies(self._count(now, running), now)
        rules = self._rules if self._automatic else None
        found = judge(before, self.orders, tallies, beats, rules, running, at, step_s)
        self.brakes = found.brakes
        self._note_trips(before, now)
        self._free_orphans(before, clock)
        if self.brakes or before:
            held = self._carry_out(before, found.leaving, clock)
            self._tell(before, found.readings, held, running)

    # Whoever was set shortly before a trip.

    def _note_trips(self, before: dict[str, Brake], now: Observed) -> None:
        for group, brake in self.brakes.items():
            old = before.get(group, CLEAR).state
            mass = brake.state is State.HOLDING and old in (State.CLEAR, State.LISTENING)
            if brake.level is not None and (mass or (brake.state is State.LISTENING and old is State.CLEAR)):
                self._trips[group] = now, brake.level.window_s
                agents = [agent for agent in self._table.changed.values() if _group(agent, self.brakes) == group]
                self._trip(agents, now, brake.level.window_s)

    def tripped_lately(self, agent: Agent) -> None:
        """The agent's change has its outcome now, and was perhaps sent before the last trip."""
        trip = self._trips.get(agent.id.instance_id, self._trips.get(ALL))
        if trip is not None:
            self._trip([agent], *trip)

    def _trip(self, agents: Sequence[Agent], at: Observed, window_s: float) -> None:
        self._written.trip(agents, at, window_s)
        for agent in agents:
            # What is still to be done may be so late that nobody remembers the change.
            if agent.follow_up is not None and agent.tripped:
                agent.follow_up = replace(agent.follow_up, released=True)
                self._table.dirty.agents[agent.id] = agent

    # Counting.

    def _count(self, now: Observed, running: Running) -> dict[str, Tally]:
        """The quiet agents by instance. Those that no window reaches any more are forgotten, unless they are due."""
        counted: dict[str, Tally] = {}
        since = [now - window_s for window_s in WINDOWS_S]
        past: list[Agent] = []
        for agent in self._presence.quiet.values():
            found = counted.get(agent.id.instance_id)
            if found is None:
                found = counted[agent.id.instance_id] = Tally()
            if agent.mark is Mark.HELD:
                found.held += 1
                found.longest_s = max(found.longest_s, _held_s(agent, running))
            elif agent.mark is Mark.RELEASED:
                continue
            ends_at = agent.ends_at
            for number, begin in enumerate(since):
                if ends_at >= begin:
                    found.within[number] += 1
            if ends_at < since[-1] and agent.settled:
                past.append(agent)
        for agent in past:
            del self._presence.quiet[agent.id]
        return counted

    def _tallies(self, counted: dict[str, Tally], now: Observed) -> dict[str, Tally]:
        """What is counted of each instance, and of all together."""
        presence = self._presence
        for instance_id, here in presence.instances.items():
            found = counted.get(instance_id)
            if found is None:
                found = counted[instance_id] = Tally()
            _add_present(found, here, now)
        everybody = Tally()
        for found in counted.values():
            everybody.add_quiet(found)
        _add_present(everybody, presence.everybody, now)
        return {**counted, ALL: everybody}

    # Holding and letting go.

    def _carry_out(self, before: dict[str, Brake], leaving: dict[str, Exit], clock: Clock) -> Counter[str]:
        """Holds and lets go whom the brakes say. Returns how many are held now, by group."""
        now, running = clock.observed, clock.running
        held: Counter[str] = Counter()
        self._told.clear()
        for agent in list(self._presence.quiet.values()):
            was, group = _group(agent, before), _group(agent, self.brakes)
            brake = self.brakes.get(group, CLEAR)
            if brake.state not in HOLDS:
                old = before.get(was, CLEAR)
                # Where nobody knows any more how those leave who were held, whoever is there can say so.
                unknown = Exit.FRESH if old.state in HOLDS else Exit.DUE
                self._leave(agent, old, was, leaving.get(was, unknown), clock)
            elif agent.settled:
                continue
            elif agent.mark is not Mark.HELD:
                free = agent.mark is Mark.FREE or brake.state is State.ORDERED
                if free and not _is_spared(agent, Observed(now + SPARE_S)):
                    self._table.hold(agent, running, now)
                    self.news = True
            elif before.get(group, CLEAR).state is State.ORDERED and brake.state is State.HOLDING:
                # The operator's time does not count.
                agent.held_at, agent.held_s = running, 0.0
            elif _held_s(agent, running) >= brake.limit_s(self._rules, running):
                self._let_go(agent, brake, group, Exit.DUE, clock)
            held[group] += agent.mark is Mark.HELD
        stopped, self._table.stopped = self._table.stopped, []
        told = {group: (why(brake), {"brake": evidence(group, brake)}) for group, brake in self.brakes.items()}
        for agent in stopped:
            group = _group(agent, self.brakes)
            if agent.mark is Mark.HELD and group in self.brakes:
                self._stopped.append(Stopped(agent.id, Outcome.HELD, *told[group]))
        return held

    def _free_orphans(self, before: dict[str, Brake], clock: Clock) -> None:
        """Lets go whom nothing held before this tick nor holds now, as after a crash that lost the brake.

        Nobody else would ever do it: a brake lets go its own.
        """
        for instance_id in self._table.held.instances():
            if any(of.get(instance_id, of.get(ALL, CLEAR)).state in HOLDS for of in (before, self.brakes)):
                continue
            group = instance_id if instance_id in self.brakes else ALL
            for agent_id in self._table.held.of(instance_id):
                agent = self._table.agents[agent_id]
                found = {"brake": {"group": group, "held_s": round(_held_s(agent, clock.running), 3)}}
                self._table.let_go(agent, clock.running, clock.observed, fresh=True)
                self._stopped.append(Stopped(agent_id, Outcome.RELEASED, released(Exit.FRESH), found))
                self.news = True

    def _leave(self, agent: Agent, brake: Brake, group: str, leaving: Exit, clock: Clock) -> None:
        """What becomes of a quiet agent whose group does not hold (any more)."""
        if agent.mark is Mark.HELD:
            self._let_go(agent, brake, group, leaving, clock)
        elif leaving is Exit.FRESH and agent.settled:
            # The path is proven: whoever was set meanwhile was a ghost, and does not count any more.
            del self._presence.quiet[agent.id]
        elif leaving is not Exit.DUE and brake.state in HOLDS and _is_spared(agent, clock.observed):
            # Who is known to be there has no less time than the others to say so, also when the last of those held are
            # back before the path is proven.
            agent.held_at = clock.running
            self._let_go(agent, brake, group, Exit.FRESH, clock)

    def _let_go(self, agent: Agent, brake: Brake, group: str, leaving: Exit, clock: Clock) -> None:
        # Agents who were held together share what is told: 50,000 of them are let go in one tick.
        held_s = round(_held_s(agent, clock.running), 3)
        found = self._told.get((group, held_s))
        if found is None:
            found = self._told[group, held_s] = {"brake": {**evidence(group, brake), "held_s": held_s}}
        fresh = leaving is Exit.FRESH
        self._table.let_go(agent, clock.running, clock.observed, fresh=fresh)
        self._stopped.append(Stopped(agent.id, Outcome.RELEASED, released(leaving), found))
        self.news = True

    def _tell(
        self, before: dict[str, Brake], readings: dict[str, Reading], held: Counter[str], running: Running
    ) -> None:
        views = {
            group: view(group, brake, replace(readings.get(group, Reading()), held=held[group]), self._rules, running)
            for group, brake in {**before, **self.brakes}.items()
        }
        for group, hold in views.items():
            old, new = before.get(group, CLEAR), self.brakes.get(group, CLEAR)
            if old.state is not new.state or old.order != new.order:
                self.news = True
                self._changes.append(BrakeChange(old.state, new.state, hold))
        standing = sorted(self.brakes, key=lambda group: (group != ALL, group))
        self.view = BrakeView(sum(held.values()), tuple(views[group] for group in standing))


def _add_present(tally: Tally, here: Here, now: Observed) -> None:
    tally.most = [here.most(Observed(now - window_s)) for window_s in WINDOWS_S]
    tally.awake, tally.pace = here.awake, here.pace


def _group(agent: Agent, of: dict[str, Brake]) -> str:
    return agent.id.instance_id if agent.id.instance_id in of else ALL


def _evidence(agent: Agent, group: str, brake: Brake, running: Running) -> dict[str, Any]:
    return {"brake": {**evidence(group, brake), "held_s": round(_held_s(agent, running), 3)}}


def _is_spared(agent: Agent, until: Observed) -> bool:
    """Whether a silent agent has a lease beyond `until` without a session, as for activity in Connect."""
    return agent.mark is Mark.FREE and agent.floor >= agent.ends_at > until and not agent.settled


def _held_s(agent: Agent, running: Running) -> float:
    return agent.held_s + running - agent.held_at
