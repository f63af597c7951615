"""The brakes of the oracle: every agent and every past number looked at each time. Only `step` is the real one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from watchdog.core.brake import ALL, HOLDS, SPARE_S, WINDOWS_S, Brake, BrakeRules, Exit, Order, Reading, State, step
from watchdog.core.deadline import QUIET_SHARE
from watchdog.core.holds import BrakeChange, BrakeView, Stopped, evidence, released, view, why
from watchdog.core.model import AgentId, AgentState, Epoch, Mark, Observed, Outcome
from watchdog.stores.presence import MICRO

if TYPE_CHECKING:
    from tests.contract.oracle import DictStore

NEVER_TRIPS = BrakeRules(1.0, 10**9)


@dataclass
class Brakes:
    brakes: dict[str, Brake] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    beats: Counter[str] = field(default_factory=Counter)
    past: list[tuple[float, Counter[str]]] = field(default_factory=list)
    changes: list[BrakeChange] = field(default_factory=list)
    stopped: list[Stopped] = field(default_factory=list)
    view: BrakeView = field(default_factory=BrakeView)

    def group(self, agent: AgentId) -> str:
        return agent.instance_id if agent.instance_id in self.brakes else ALL

    def tick(self, store: DictStore, at: Epoch, step_s: float) -> None:
        running, now = store.clock.running, store.clock.observed
        rules = store.rules.brake or NEVER_TRIPS
        agents = store.facts.agents
        leased = [a for a, row in agents.items() if now <= store.ends_at(a) and row["mark"] is not Mark.RELEASED]
        number = Counter(agent.instance_id for agent in leased)
        if not self.past or now - self.past[-1][0] >= 1.0:
            self.past.append((now, number))
        self.orders = {group: order for group, order in self.orders.items() if order.until > running}
        heard, self.beats = self.beats, Counter()
        before = dict(self.brakes)
        own = {group for group in (*self.brakes, *self.orders) if group != ALL}
        if (
            store.rules.brake is not None
            and len({agent.instance_id for agent in agents}) > 1
            and ALL not in self.orders
        ):
            quiet = Counter(a.instance_id for a in agents if self.counts(store, a, now - WINDOWS_S[-1]))
            own |= {each for each, count in quiet.items() if count >= rules.min_agents}
        readings: dict[str, Reading] = {}
        leaving: dict[str, Exit] = {}
        for group in [*sorted(own), ALL]:
            if store.rules.brake is None and group not in self.brakes and group not in self.orders:
                continue
            mine = [a for a in agents if (a.instance_id == group if group != ALL else self.group(a) == ALL)]
            reading = readings[group] = self.reading(store, group, mine, leased, number, heard)
            brake, leaving[group] = step(
                before.get(group, Brake()),
                reading,
                self.orders.get(group, self.orders.get(ALL)),
                rules,
                running,
                at,
                step_s,
            )
            self.brakes[group] = brake
            if brake.state is State.CLEAR:
                del self.brakes[group]
        for group, brake in self.brakes.items():
            old = before.get(group, Brake()).state
            clear = old is State.CLEAR and brake.state in (State.HOLDING, State.LISTENING)
            if brake.level is not None and (clear or (old is State.LISTENING and brake.state is State.HOLDING)):
                store.tripped(group, [agent for agent in agents if self.group(agent) == group], brake.level.window_s)
        self.carry_out(store, before, leaving)
        held = Counter(self.group(agent) for agent, row in agents.items() if row["mark"] is Mark.HELD)
        views = {
            group: view(group, brake, replace(readings.get(group, Reading()), held=held[group]), rules, running)
            for group, brake in {**before, **self.brakes}.items()
        }
        for group, hold in views.items():
            old, new = before.get(group, Brake()), self.brakes.get(group, Brake())
            if old.state is not new.state or old.order != new.order:
                self.changes.append(BrakeChange(old.state, new.state, hold))
        standing = sorted(self.brakes, key=lambda group: (group != ALL, group))
        self.view = BrakeView(held.total(), tuple(views[group] for group in standing))

    def counts(self, store: DictStore, agent: AgentId, since: float) -> bool:
        released_ = store.facts.agents[agent]["mark"] is Mark.RELEASED
        return store.quiet(agent) and not released_ and store.ends_at(agent) >= since

    def reading(
        self,
        store: DictStore,
        group: str,
        mine: list[AgentId],
        leased: list[AgentId],
        number: Counter[str],
        heard: Counter[str],
    ) -> Reading:
        now, running = store.clock.observed, store.clock.running
        instances = {agent.instance_id for agent in mine}
        apart = any(each != ALL for each in self.brakes)
        awake = [agent for agent in leased if store.owes_beats(agent) and not store.quiet(agent)]

        def most(since: float) -> int:
            known = [past for at, past in self.past if at > since]
            earlier = [past for at, past in self.past if at <= since]
            known += [number, *earlier[-1:]]
            if group == ALL and not apart:
                return max(past.total() for past in known)
            return sum(max(past[each] for past in known) for each in instances)

        held = [store.facts.agents[agent] for agent in mine if store.facts.agents[agent]["mark"] is Mark.HELD]
        return Reading(
            quiet=tuple(sum(self.counts(store, agent, now - window_s) for agent in mine) for window_s in WINDOWS_S),
            baseline=tuple(most(now - window_s) for window_s in WINDOWS_S),
            awake=len(set(awake) & set(mine)),
            others=len(set(awake) - set(mine)),
            pace=sum(int(MICRO / (QUIET_SHARE * self.ttl(store, agent))) for agent in set(awake) & set(mine)) / MICRO,
            beats=sum(heard[each] for each in instances),
            held=len(held),
            longest_s=max((row["held_s"] + running - row["held_at"] for row in held), default=0.0),
        )

    def ttl(self, store: DictStore, agent: AgentId) -> float:
        return max(row["ttl"] for row in store.facts.of[agent] if not row["closed"])

    def carry_out(self, store: DictStore, before: dict[str, Brake], leaving: dict[str, Exit]) -> None:
        running, now = store.clock.running, store.clock.observed
        for agent, row in store.facts.agents.items():
            if not store.quiet(agent):
                continue
            was = agent.instance_id if agent.instance_id in before else ALL
            group = self.group(agent)
            brake = self.brakes.get(group, Brake())
            over = False
            exit_ = leaving.get(was, Exit.DUE)
            if brake.state not in HOLDS:
                held = was in before and before[was].state in HOLDS
                if held and exit_ is Exit.STAY and self.spared(store, agent, now):
                    exit_ = Exit.FRESH
                over = self.leaves(store, agent, exit_ is Exit.FRESH and was in before)
            elif store.settled(agent):
                continue
            elif row["mark"] is not Mark.HELD:
                free = row["mark"] is Mark.FREE or brake.state is State.ORDERED
                if free and not self.spared(store, agent, now + SPARE_S):
                    row.update(mark=Mark.HELD, held_at=running, told=False)
            elif before.get(group, Brake()).state is State.ORDERED and brake.state is State.HOLDING:
                row.update(held_at=running, held_s=0.0)
            elif row["held_s"] + running - row["held_at"] >= brake.limit_s(store.rules.brake or NEVER_TRIPS, running):
                over, was, exit_ = True, group, Exit.DUE
            if over:
                self.let_go(store, agent, was, exit_, before.get(was, brake))
            late = store.state(agent) is AgentState.HELD and now > store.deadline(agent)
            if late and not row["told"]:
                row["told"] = True
                brake = self.brakes[group]
                self.stopped.append(Stopped(agent, Outcome.HELD, why(brake), {"brake": evidence(group, brake)}))

    def leaves(self, store: DictStore, agent: AgentId, fresh: bool) -> bool:  # noqa: FBT001  # one of two facts
        """Whether it is let go, now that its group does not hold."""
        row = store.facts.agents[agent]
        if fresh and store.settled(agent):
            row["proven"] = True
        elif fresh and self.spared(store, agent, store.clock.observed):
            row["held_at"] = store.clock.running
            return True
        return row["mark"] is Mark.HELD

    def spared(self, store: DictStore, agent: AgentId, until: float) -> bool:
        """Whether its last lease goes on beyond `until` and has no session."""
        row = store.facts.agents[agent]
        ends = max(session["expires_at"] for session in store.facts.of[agent])
        return row["mark"] is Mark.FREE and row["floor"] >= ends and row["floor"] > until and not store.settled(agent)

    def let_go(self, store: DictStore, agent: AgentId, group: str, leaving: Exit, brake: Brake) -> None:
        row = store.facts.agents[agent]
        row["held_s"] += store.clock.running - row["held_at"]
        row["mark"] = Mark.RELEASED
        if leaving is Exit.FRESH:
            row["floor"] = max(store.ends_at(agent), Observed(store.clock.observed + self.ttl(store, agent)))
        found = {"brake": {**evidence(group, brake), "held_s": round(row["held_s"], 3)}}
        self.stopped.append(Stopped(agent, Outcome.RELEASED, released(leaving), found))
