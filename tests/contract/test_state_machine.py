"""Any sequence of beats, ticks, claims, restarts and failures of the disk: the SQLite store and the plain dicts agree,
and the promises hold.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.contract.oracle import DictStore, Facts
from tests.contract.world import RULES, START, TIMER, action_of, intent, session
from watchdog.core import clock as clocks
from watchdog.core.clock import Cause, Clock
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    Beat,
    BeatType,
    Boot,
    Claim,
    Due,
    Epoch,
    FollowUp,
    Instant,
    IntentKind,
    Next,
    Observed,
    Outcome,
    Standing,
    Tear,
    Verdict,
)
from watchdog.core.undo import Back, Change, Written
from watchdog.errors import StoreUnavailable
from watchdog.stores.disk import Batch, InlineDisk
from watchdog.stores.leases import BUCKET_S, HORIZON_S
from watchdog.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from watchdog.stores.facts import Agent, Session
    from watchdog.stores.leases import LeaseTable
    from watchdog.stores.table_store import TableStore

Result = TypeVar("Result")
AGENTS = [AgentId("instance", name) for name in ("a", "b", "c")]
NEVER_HEARD = AgentId("instance", "nobody")
TTLS = [2.0, 7.0, 20.0]
TETHERS = [0.0, 3.0, 9.0]


class Weak(InlineDisk):
    """A disk whose next write can fail."""

    fails = False

    async def write(self, batch: Batch) -> None:
        fails, Weak.fails = Weak.fails, False
        if fails:
            raise StoreUnavailable("The disk is full: make room.")
        await super().write(batch)


def done(coroutine: Coroutine[object, object, Result]) -> Result:
    """Runs a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: Result = stop.value
        return value
    raise AssertionError("it waited")


class Stores(RuleBasedStateMachine):
    """Drives both stores with the same story, and keeps its own small account of who was heard when."""

    def __init__(self) -> None:
        super().__init__()
        self.boot = 0
        self.now = 1000.0
        self.wall = START
        self.claims: list[tuple[Claim, Claim]] = []
        self.actions = 0
        self.heard: dict[AgentId, float] = {}
        self.latest: dict[bytes, float] = {}
        self.failed = False
        self.undos: tuple[Change, ...] = ()
        self.written: set[AgentId] = set()
        self.stopped: set[bytes] = set()
        self.carrier: dict[bytes, int | None] = {}

    # What is another one's for another engine.

    def run(self, coroutine: Coroutine[object, object, Result]) -> Result:
        return done(coroutine)

    def fail(self, *, fails: bool) -> None:
        """The next write fails, or not."""
        Weak.fails = fails

    def came_through(self) -> bool:
        """The write that has just failed was carried out: nobody was told so, and whoever asked has to ask again."""
        return False

    def made(self) -> TableStore:
        """The first store, of a process that has just begun."""
        self.fail(fails=False)
        self.folder = Path(tempfile.mkdtemp())
        self.copies = 0
        (self.folder / "0").mkdir()
        return SqliteStore(self.folder / "0" / "watchdog.db", RULES, Weak)

    def made_again(self, *, killed: bool) -> TableStore:
        """The store of the next process, on what the one before has left."""
        folder = self.folder / str(self.copies)
        if killed:
            # The disk as it is, without what an orderly end would write.
            self.copies += 1
            folder = self.folder / str(self.copies)
            shutil.copytree(self.folder / str(self.copies - 1), folder)
        self.run(self.store.close())
        return SqliteStore(folder / "watchdog.db", RULES, Weak)

    def tables(self) -> list[LeaseTable]:
        """What the store has in memory."""
        return [self.store._table]

    def its_clock(self) -> Clock:
        return self.store._clock

    def key(self, agent: AgentId, number: int) -> bytes:
        """The id of a session; any agent may have it."""
        del agent
        return session(number)

    def plainly(self, change: Change) -> Change:
        """A change as the plain dicts know it."""
        return change

    def took(self, ours: Claim, theirs: Claim) -> None:
        """The two are the same claim."""

    def agent_in_memory(self, agent: AgentId) -> Agent:
        return next(table.agents[agent] for table in self.tables() if agent in table.agents)

    def session_in_memory(self, key: bytes) -> Session:
        return next(table.sessions[key] for table in self.tables() if key in table.sessions)

    @initialize()
    def opened(self) -> None:
        self.plain = DictStore(RULES, Facts())
        self.store = self.made()
        self.run(self.plain.open(self.instant))
        self.run(self.store.open(self.instant))

    def teardown(self) -> None:
        self.fail(fails=False)
        if hasattr(self, "store"):
            self.run(self.store.close())
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @property
    def instant(self) -> Instant:
        return Instant(Boot(self.now), Epoch(self.wall), f"boot-{self.boot}")

    @property
    def clock(self) -> float:
        return self.plain.clock.observed

    @rule(
        agent=st.sampled_from(AGENTS),
        number=st.integers(1, 6),
        kind=st.sampled_from([BeatType.HELLO, BeatType.BEAT, BeatType.BEAT, BeatType.BYE]),
        incarnation=st.integers(0, 2),
        seq=st.none() | st.integers(0, 5),
        ttl=st.none() | st.sampled_from(TTLS),
        gap_ms=st.none() | st.sampled_from([0.0, 5_000.0, 60_000.0]),
        tether=st.none() | st.integers(1, 2),
    )
    def beats(
        self,
        agent: AgentId,
        number: int,
        kind: BeatType,
        incarnation: int,
        seq: int | None,
        ttl: float | None,
        gap_ms: float | None,
        tether: int | None = None,
    ) -> None:
        ttl = 0.0 if kind is BeatType.BYE else ttl
        key = self.key(agent, number)
        beat = Beat(agent, key, kind, incarnation, seq, ttl, gap_ms=gap_ms, arrived=number > 3, tether=tether)
        vouched = self.store.plainly_live(beat)
        (plain,) = self.run(self.plain.apply([beat], self.instant))
        if plain.verdict in (Verdict.OPENED, Verdict.RENEWED):
            assert kind is BeatType.HELLO or beat.session_id not in self.stopped, "stopped, and open without a hello"
            self.stopped.discard(beat.session_id)
            self.heard[agent] = self.clock
            self.carrier[beat.session_id] = tether
            self.latest[beat.session_id] = self.plain.facts.sessions[beat.session_id]["expires_at"] + HORIZON_S
        try:
            (reply,) = self.run(self.store.apply([beat], self.instant))
        except StoreUnavailable:
            # It is applied, but not written; the client is told to come again.
            self.failed = True
            return
        assert reply == plain
        if vouched is not None:
            assert reply.verdict is Verdict.RENEWED, "a beat that was answered before its flush must renew"
        if reply.verdict in (Verdict.OPENED, Verdict.RENEWED):
            assert reply.live, "a renewal always leaves a lease"
            assert reply.left_s == ttl or abs(reply.left_s - (ttl or 0.0)) < 1e-9

    @rule(
        agent=st.sampled_from(AGENTS),
        number=st.integers(1, 6),
        kind=st.sampled_from([BeatType.HELLO, BeatType.BEAT, BeatType.BYE]),
        incarnation=st.integers(0, 2),
        ttl=st.sampled_from(TTLS),
    )
    def beats_on_a_full_disk(self, agent: AgentId, number: int, kind: BeatType, incarnation: int, ttl: float) -> None:
        self.fail(fails=True)
        self.beats(agent, number, kind, incarnation, None, ttl, None)
        self.fail(fails=False)

    @rule(number=st.integers(1, 6), tether=st.integers(1, 2), ttl=st.sampled_from(TETHERS), full=st.booleans())
    def a_socket_is_torn(self, number: int, tether: int, ttl: float, *, full: bool) -> None:
        tear = Tear(self.key(AGENTS[number % len(AGENTS)], number), tether, ttl)
        row = self.plain.facts.sessions.get(tear.session_id)
        before = None if row is None else row["expires_at"]
        ahead = clocks.advance(self.plain.clock, self.instant, RULES.clock).observed
        (shorter,) = self.run(self.plain.tear([tear], self.instant))
        if shorter:
            assert row is not None
            assert before is not None
            assert self.carrier.get(tear.session_id) == tether, "a lease is shorter that another way has renewed"
            assert ahead + ttl == row["expires_at"] < before
        self.fail(fails=full and shorter)
        try:
            assert self.run(self.store.tear([tear], self.instant)) == [shorter]
        except StoreUnavailable:
            # It is in force all the same.
            self.failed = True
        self.fail(fails=False)

    @rule(seconds=st.floats(0.0, 10.0))
    def ticks_on_a_full_disk(self, seconds: float) -> None:
        before, self.now, self.wall = self.clock, self.now + seconds, self.wall + seconds
        self.failed = True
        self.fail(fails=True)
        with pytest.raises(StoreUnavailable):
            self.run(self.store.tick("me", self.instant))
        assert self.plain.facts.clock is not None
        self.plain.facts.clock = clocks.advance(self.plain.facts.clock, self.instant, RULES.clock, Cause.STORE)
        assert self.clock == before

    @precondition(lambda self: self.claims)
    @rule(which=st.integers(0, 5), what=st.sampled_from(["intend", "settle", "witness"]))
    def decides_on_a_full_disk(self, which: int, what: str) -> None:
        ours, theirs = self.claims[which % len(self.claims)]
        action = action_of(ours, Outcome.CONFIRMED, START)
        self.fail(fails=True)
        before = self.run(self.store.actions(limit=1)).actions
        try:
            if what == "intend":
                assert not self.run(self.store.intend(ours, intent()))
            elif what == "settle":
                assert not self.run(self.store.settle(ours, action))
            else:
                assert not self.run(self.store.witness(ours, 0.0, 7.0, action))
        except StoreUnavailable:
            self.failed = True
        self.fail(fails=False)
        assert self.run(self.store.actions(limit=1)).actions == before
        if self.came_through():
            self.decides_again(ours, theirs, what, action)

    def decides_again(self, ours: Claim, theirs: Claim, what: str, action: Action) -> None:
        if what == "intend":
            assert self.run(self.store.intend(ours, intent())) == self.run(self.plain.intend(theirs, intent()))
            return
        if what == "settle":
            self.written.add(ours.agent)
            done = self.run(self.store.settle(ours, action))
            assert done == self.run(self.plain.settle(theirs, action))
        else:
            done = self.run(self.store.witness(ours, 0.0, 7.0, action))
            assert done == self.run(self.plain.witness(theirs, 0.0, 7.0, action))
        if done:
            self.claims.remove((ours, theirs))

    @rule(gap=st.floats(0.0, 100.0), killed=st.booleans(), elsewhere=st.booleans())
    def restarts(self, gap: float, killed: bool, elsewhere: bool) -> None:  # noqa: FBT001 - drawn
        """The horizon rule: a lease is what it was at least, and its TTL from now, or a minute more, at most."""
        killed = killed and not self.failed and not any(table.dirty for table in self.tables())
        self.store = self.made_again(killed=killed)
        self.now, self.wall, self.failed = self.now + gap, self.wall + gap, False
        if elsewhere:
            self.boot += 1
        before = self.clock
        self.run(self.store.open(self.instant))
        self.run(self.plain.open(self.instant))
        assert self.its_clock() == self.plain.facts.clock
        assert self.clock == before
        self.claims.clear()
        self.carrier.clear()
        for agent in self.plain.facts.agents.values():
            agent["not_before"] = 0.0
        for key, row in self.plain.facts.sessions.items():
            known = self.session_in_memory(key)
            assert row["expires_at"] <= known.expires_at <= max(row["expires_at"], self.clock + known.ttl)
            assert known.expires_at <= self.latest[key], "a ghost lives longer for each restart"
            assert known.ttl >= row["ttl"] or row["closed"]
            row.update(expires_at=known.expires_at, ttl=known.ttl, seq=known.seq)

    @rule(seconds=st.floats(0.0, 1.9))
    def ticks(self, seconds: float) -> None:
        self.advance(seconds, None)

    @rule(seconds=st.floats(0.0, 200.0), cause=st.sampled_from([None, Cause.STORE]))
    def misses_some_time(self, seconds: float, cause: Cause | None) -> None:
        self.advance(seconds, cause)

    @precondition(lambda self: self.clock < 250)  # past that, ended sessions are forgotten by the one only
    @rule(ticks=st.integers(1, 150))
    def waits(self, ticks: int) -> None:
        for _ in range(ticks):
            self.advance(0.25, None)

    @rule(jump=st.floats(-1e6, 1e6))
    def the_wall_clock_jumps(self, jump: float) -> None:
        self.wall += jump

    def advance(self, seconds: float, blind: Cause | None) -> tuple[Due, ...]:
        before = self.clock
        self.now += seconds
        self.wall += seconds
        tick = self.run(self.store.tick("me", self.instant, blind))
        if self.failed:
            blind, self.failed = Cause.STORE, False
        plain = self.run(self.plain.tick("me", self.instant, blind))
        assert tick.clock == plain.clock
        assert tick.stopped_s == plain.stopped_s
        assert 0.0 <= self.clock - before <= min(seconds, 2.0) + 1e-9, "the clock passed time that nobody observed"
        if blind is not None:
            assert self.clock == before, "the clock advanced in blind time"
        ours, theirs = {due.agent: due for due in tick.due}, {due.agent: due for due in plain.due}
        assert ours.keys() <= theirs.keys(), "due before the deadline"
        for agent in theirs.keys() - ours.keys():
            assert self.clock - self.plain.deadline(agent) <= BUCKET_S, "due, and not found"
        for agent, due in ours.items():
            assert (due.epoch, due.follow_up) == (theirs[agent].epoch, theirs[agent].follow_up)
            assert self.clock > due.deadline
        assert {claim.agent for claim in tick.orphans} == {claim.agent for claim in plain.orphans}
        told = {change.agent: change for change in tick.undos}
        assert {agent: (self.plainly(each).token, each.undo) for agent, each in told.items()} == {
            each.agent: (each.token, each.undo) for each in plain.undos
        }
        for agent in told:
            assert agent in self.written, "nothing was written for them"
        self.undos = tick.undos
        for claim in tick.orphans:
            other = next(row for row in plain.orphans if row.agent == claim.agent)
            self.took(claim, other)
            self.settle(claim, other, Outcome.RETURNED)
        return tick.due

    @rule(which=st.integers(0, 2))
    def claims_one(self, which: int) -> None:
        due = self.advance(0.0, None)
        if not due:
            return
        chosen = due[which % len(due)]
        ours, theirs = self.run(self.store.claim(chosen, "me")), self.run(self.plain.claim(chosen, "me"))
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert (ours.agent, ours.epoch, ours.intent) == (theirs.agent, theirs.epoch, theirs.intent)
            assert (ours.follow_up, ours.ended_at, ours.deadline) == (
                theirs.follow_up,
                theirs.ended_at,
                theirs.deadline,
            )
            assert ours.released == theirs.released
            if ours.follow_up is None or ours.follow_up.next is not Next.LOG_OUT:
                # Who was never heard is there by an order that led to something else.
                assert self.clock > self.heard.get(ours.agent, -TIMER) + TIMER, "claimed before the timer was over"
            self.claims.append((ours, theirs))
            self.took(ours, theirs)

    @precondition(lambda self: self.claims)
    @rule(which=st.integers(0, 5), age_s=st.floats(0.0, 40.0), ttl=st.sampled_from(TTLS))
    def sees_activity_of_a_claimed_agent(self, which: int, age_s: float, ttl: float) -> None:
        ours, theirs = self.claims[which % len(self.claims)]
        self.actions += 1
        at = START + self.actions
        passed_s = self.plain.clock.passed(age_s)
        spared = self.run(self.store.witness(ours, age_s, ttl, action_of(ours, Outcome.WITNESSED, at)))
        assert spared == self.run(self.plain.witness(theirs, age_s, ttl, action_of(theirs, Outcome.WITNESSED, at)))
        if spared:
            self.claims.remove((ours, theirs))
            assert self.clock - passed_s > self.heard.get(ours.agent, float("-inf")), (
                "activity before the last heartbeat spared"
            )
            view = self.run(self.store.agent(ours.agent))
            assert view is not None
            assert view.due_in_s is not None
            assert view.due_in_s <= ttl + TIMER - passed_s + 1e-6, "spared for longer than a heartbeat would have"

    @precondition(lambda self: self.claims)
    @rule(
        which=st.integers(0, 5),
        what=st.sampled_from(["intend", "gone", "settle", "settle", "release", "file again"]),
        later=st.none() | st.sampled_from([0.0, 8.0, 40.0]),
        next_=st.sampled_from([Next.STAGE, Next.SIGN_OUT]),
    )
    def goes_on_with_a_claim(self, which: int, what: str, later: float | None, next_: Next) -> None:
        ours, theirs = self.claims[which % len(self.claims)]
        standing = self.run(self.store.still_gone(ours))
        assert standing is self.run(self.plain.still_gone(theirs))
        gone = standing is Standing.GONE
        if what == "intend":
            assert self.run(self.store.intend(ours, intent())) == self.run(self.plain.intend(theirs, intent())) == gone
        elif what == "settle":
            self.claims.remove((ours, theirs))
            follow = None if later is None else FollowUp(next_, Observed(self.clock + later), "rule", 1, "offline")
            self.settle(ours, theirs, Outcome.CONFIRMED if gone else Outcome.RETURNED, follow)
        elif what == "file again" and ours.agent not in self.plain.facts.intents:
            self.claims.remove((ours, theirs))
            timer_s = TIMER + (later or 0.0)
            assert self.run(self.store.file_again(ours, timer_s)) == self.run(self.plain.file_again(theirs, timer_s))
        elif what == "release":
            self.claims.remove((ours, theirs))
            assert self.run(self.store.release(ours, 3.0)) == self.run(self.plain.release(theirs, 3.0))

    def settle(self, ours: Claim, theirs: Claim, outcome: Outcome, follow: FollowUp | None = None) -> None:
        self.actions += 1
        self.written.add(ours.agent)
        written = Written(0.0, None if self.actions % 3 else 0.0)
        at = START + self.actions
        settled = self.run(self.store.settle(ours, action_of(ours, outcome, at), written, follow))
        assert settled == self.run(self.plain.settle(theirs, action_of(theirs, outcome, at), written, follow))

    @rule(agent=st.sampled_from([*AGENTS, NEVER_HEARD]), full=st.booleans())
    def somebody_logs_out(self, agent: AgentId, *, full: bool) -> None:
        order = FollowUp(Next.LOG_OUT, Observed(0.0), target="offline", by="boss")
        known = [row for row in self.plain.facts.of.get(agent, ()) if not row["closed"]]
        expected = self.run(self.plain.log_out(agent, order, self.instant))
        if expected:
            self.stopped |= {
                key for key, row in self.plain.facts.sessions.items() if any(row is each for each in known)
            }
        self.fail(fails=full and expected)
        try:
            assert self.run(self.store.log_out(agent, order, self.instant)) == expected
        except StoreUnavailable:
            # It is in force all the same.
            self.failed = True
        self.fail(fails=False)
        if expected:
            assert not any(row.expires_at > self.clock for row in self.agent_in_memory(agent).sessions)
            assert agent not in {each.agent for each in self.plain.facts.changes.values() if each.undo is not None}

    @rule(agent=st.sampled_from([*AGENTS, NEVER_HEARD]), full=st.booleans())
    def somebody_wants_it_left_alone(self, agent: AgentId, *, full: bool) -> None:
        self.actions += 1
        action = action_of(Claim(agent, 0, 0, "me", Observed(0.0), 0.0), Outcome.CANCELLED, START + self.actions)
        self.fail(fails=full)
        try:
            ours = self.run(self.store.cancel(agent, action))
        except StoreUnavailable:
            self.failed = True
            if not self.came_through():
                return
            ours = self.run(self.store.cancel(agent, action))
        finally:
            self.fail(fails=False)
        assert ours is self.run(self.plain.cancel(agent, action))

    @rule(since=st.sampled_from([0.0, START + 5]), silent=st.booleans())
    def orders(self, since: float, *, silent: bool) -> None:
        ours = self.run(self.store.restore(Epoch(since), None, silent=silent, instant=self.instant))
        assert ours == self.run(self.plain.restore(Epoch(since), None, silent=silent, instant=self.instant))

    @precondition(lambda self: self.undos)
    @rule(which=st.integers(0, 2), what=st.sampled_from(["restoring", "restored", "given up"]))
    def goes_on_with_an_undo(self, which: int, what: str) -> None:
        change = self.undos[which % len(self.undos)]
        standing = self.run(self.store.still_back(change))
        assert standing is self.run(self.plain.still_back(self.plainly(change)))
        if what == "restoring":
            found = self.run(self.store.restoring(change, Epoch(self.wall), 7.0))
            assert found is standing is self.run(self.plain.restoring(self.plainly(change), Epoch(self.wall), 7.0))
            if found is Back.HERE:
                due = self.advance(0.0, None)
                assert change.agent not in {each.agent for each in due}, "due while a restore may be under way"
        else:
            self.actions += 1
            forget = what == "restored"
            action = Action(
                f"{self.actions:012x}-u",
                Epoch(START),
                change.agent,
                IntentKind.RESTORE,
                "",
                Outcome.CONFIRMED if forget else Outcome.FAILED,
                "",
                {},
                0,
                0,
            )
            recorded = self.run(self.store.restored(change, action, forget=forget))
            assert (
                recorded
                == self.run(self.plain.restored(self.plainly(change), action, forget=forget))
                == (standing is not Back.VOID)
            )

    @invariant()
    def they_agree_on_every_agent(self) -> None:
        if not hasattr(self, "store"):
            return
        for agent in (*AGENTS, NEVER_HEARD):
            ours, theirs = self.run(self.store.agent(agent)), self.run(self.plain.agent(agent))
            assert (ours is None) == (theirs is None)
            if ours is not None and theirs is not None:
                assert (ours.state, ours.last_outcome) == (theirs.state, theirs.last_outcome)
                assert ours.due_in_s == theirs.due_in_s
                if self.heard.get(agent) == self.clock and ours.state is not AgentState.LIVE:
                    assert not any(row.expires_in_s > 0 for row in theirs.sessions), "heard now, and not live"


Stores.TestCase.settings = settings(
    settings.default, max_examples=2 * settings.default.max_examples, stateful_step_count=60
)
TestStores = Stores.TestCase
