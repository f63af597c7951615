"""Any sequence of beats, byes, orders and waiting: the stores agree on who is held, and the promises hold.

Times are whole quarters of a second, and there is one TTL: the SQLite store notices silence up to 50 ms late, and
another TTL when it looks at the agent next, which is nothing to quarrel about.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.contract.oracle import DictStore, Facts
from tests.contract.test_state_machine import done
from tests.contract.world import RULES, START, TICK, action_of, look_of, session
from watchdog.core.brake import ALL, SILENCE_S, UNPROVEN, BrakeRules
from watchdog.core.model import AgentId, AgentState, Beat, BeatType, Boot, Epoch, Instant, Outcome, Standing
from watchdog.stores.disk import InlineDisk
from watchdog.stores.sqlite import SqliteStore

BRAKE = BrakeRules(fraction=0.4, min_agents=3, max_hold_s=60.0)
BRAKED = replace(RULES, brake=BRAKE)
AGENTS = [AgentId(instance, name) for instance, name in (("x", "abcdef"), ("y", "gh")) for name in name]
TTL = 5.0
LEASE = 12.0
GROUPS = [ALL, "x", "y"]


class Brakes(RuleBasedStateMachine):
    """Drives both stores with the same story, and keeps account of who is held since when."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 1000.0
        self.bye: dict[AgentId, bool] = {}
        self.held_s: dict[AgentId, float] = {}
        self.ordered_until = 0.0
        self.actions = 0

    @initialize()
    def opened(self) -> None:
        self.plain = DictStore(BRAKED, Facts())
        self.sqlite = SqliteStore(self.folder / "watchdog.db", BRAKED, InlineDisk)
        done(self.plain.open(self.instant))
        done(self.sqlite.open(self.instant))

    def teardown(self) -> None:
        if hasattr(self, "sqlite"):
            done(self.sqlite.close())
        shutil.rmtree(self.folder)

    @property
    def instant(self) -> Instant:
        return Instant(Boot(self.now), Epoch(START + self.now), "boot")

    def number(self, agent: AgentId) -> bytes:
        return session(AGENTS.index(agent) + 1)

    def beat(self, agents: list[AgentId]) -> None:
        incarnations = {agent: self.bye.get(agent, 0) for agent in agents}
        made = [Beat(agent, self.number(agent), BeatType.BEAT, incarnations[agent], None, TTL) for agent in agents]
        assert done(self.sqlite.apply(made, self.instant)) == done(self.plain.apply(made, self.instant))
        for agent in agents:
            self.held_s.pop(agent, None)

    @rule(agents=st.lists(st.sampled_from(AGENTS), min_size=1, unique=True))
    def some_beat(self, agents: list[AgentId]) -> None:
        self.beat(agents)

    @rule()
    def all_beat(self) -> None:
        self.beat(AGENTS)

    @rule(agent=st.sampled_from(AGENTS))
    def says_bye(self, agent: AgentId) -> None:
        made = [Beat(agent, self.number(agent), BeatType.BYE, self.bye.get(agent, 0), None, 0.0)]
        assert done(self.sqlite.apply(made, self.instant)) == done(self.plain.apply(made, self.instant))
        if done(self.sqlite.agent(agent)) is not None:
            self.bye[agent] = self.bye.get(agent, 0) + 1
            self.tick(TICK)
            view = done(self.sqlite.agent(agent))
            assert view is not None
            assert view.state is not AgentState.HELD, "held, and has said bye"

    @rule(ticks=st.integers(1, 200), there=st.lists(st.sampled_from(AGENTS), unique=True))
    def time_passes(self, ticks: int, there: list[AgentId]) -> None:
        for number in range(ticks):
            if number % 4 == 0 and there:
                self.beat(there)
            self.tick(TICK)

    @rule(group=st.sampled_from(GROUPS), hold=st.booleans(), for_s=st.sampled_from([0.0, 10.0, 100.0]))
    def an_operator_orders(self, group: str, hold: bool, for_s: float) -> None:  # noqa: FBT001  # drawn
        for store in (self.sqlite, self.plain):
            done(store.order(group, hold=hold, for_s=for_s, reason="", instant=self.instant))
        self.ordered_until = max(self.ordered_until, self.now + for_s)

    @rule(which=st.integers(0, 7))
    def one_is_set(self, which: int) -> None:
        due = self.tick(0.0)
        if not due:
            return
        chosen = due[which % len(due)]
        ours, theirs = done(self.sqlite.claim(chosen, "me")), done(self.plain.claim(chosen, "me"))
        assert ours is not None
        assert theirs is not None
        assert done(self.sqlite.still_gone(ours)) is Standing.GONE
        self.actions += 1
        at = START + self.actions
        assert done(self.sqlite.settle(ours, action_of(ours, Outcome.CONFIRMED, at)))
        assert done(self.plain.settle(theirs, action_of(theirs, Outcome.CONFIRMED, at)))

    @rule(
        instance=st.sampled_from("xy"),
        which=st.integers(0, 7),
        age_s=st.sampled_from([0.0, 1.0, 4.0, 12.0, 30.0]),
        active=st.booleans(),
    )
    def one_is_looked_at(self, instance: str, which: int, age_s: float, active: bool) -> None:  # noqa: FBT001  # drawn
        ours = {each.agent: each for each in done(self.sqlite.held(instance, 0.0))}
        theirs = {each.agent: each for each in done(self.plain.held(instance, 0.0))}
        assert ours == theirs
        if not ours:
            return
        held = ours[sorted(ours)[which % len(ours)]]
        self.actions += 1
        outcome = Outcome.WITNESSED if active else Outcome.RELEASED
        action = look_of(held, outcome, START + self.actions)
        done_to = [
            done((store.witness_held if active else store.release_held)(held, age_s, LEASE, action))
            for store in (self.sqlite, self.plain)
        ]
        assert done_to[0] == done_to[1]
        if done_to[0]:
            assert not held.ordered or active, "an operator's hold was ended by a contact"
            self.held_s.pop(held.agent, None)
            assert done(self.sqlite.agent(held.agent)).state is not AgentState.HELD

    @rule(which=st.integers(0, 7), age_s=st.sampled_from([0.0, 2.0, 6.0]))
    def one_is_witnessed(self, which: int, age_s: float) -> None:
        due = self.tick(0.0)
        if not due:
            return
        chosen = due[which % len(due)]
        claims = [done(store.claim(chosen, "me")) for store in (self.sqlite, self.plain)]
        self.tick(TICK)
        self.actions += 1
        did = [
            done(store.witness(claim, age_s, LEASE, action_of(claim, Outcome.WITNESSED, START + self.actions)))
            for store, claim in zip((self.sqlite, self.plain), claims, strict=True)
        ]
        assert did[0] == did[1]
        for store, claim in zip((self.sqlite, self.plain), claims, strict=True):
            done(store.release(claim, 0.0))

    def tick(self, seconds: float):
        self.now += seconds
        tick, plain = done(self.sqlite.tick("me", self.instant)), done(self.plain.tick("me", self.instant))
        assert tick.clock == plain.clock
        assert tick.brake == plain.brake
        assert tick.changes == plain.changes
        key = lambda each: (each.agent, each.outcome)  # noqa: E731
        assert sorted(tick.stopped, key=key) == sorted(plain.stopped, key=key)
        assert {due.agent: due for due in tick.due} == {due.agent: due for due in plain.due}
        if self.now <= self.ordered_until:
            self.held_s.clear()
        for agent in AGENTS:
            view = done(self.sqlite.agent(agent))
            if view is not None and view.state is AgentState.HELD and self.now > self.ordered_until:
                self.held_s[agent] = self.held_s.get(agent, 0.0) + seconds
                longest = max(UNPROVEN * BRAKE.max_hold_s, SILENCE_S)
                assert self.held_s[agent] <= longest + SILENCE_S + 2, "a hold that does not end"
        return tick.due

    @invariant()
    def they_agree_on_every_agent(self) -> None:
        if not hasattr(self, "sqlite"):
            return
        for agent in AGENTS:
            ours, theirs = done(self.sqlite.agent(agent)), done(self.plain.agent(agent))
            assert (ours is None) == (theirs is None)
            if ours is not None and theirs is not None:
                assert (ours.state, ours.due_in_s) == (theirs.state, theirs.due_in_s), agent
        presence = self.sqlite._table.presence
        assert presence.everybody.leased == sum(here.leased for here in presence.instances.values())
        assert 0 <= presence.everybody.awake <= presence.everybody.leased
        assert (presence.everybody.awake == 0) == (presence.everybody.pace == 0)


Brakes.TestCase.settings = settings(settings.default, stateful_step_count=30)
TestBrakes = Brakes.TestCase
