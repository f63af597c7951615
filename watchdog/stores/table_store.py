"""The store over a lease table: leases in memory, and a journal for what must survive.

The memory (`leases.py`) is the truth while the process lives; the journal (`journal.py`) has what a later process needs
to go on from it: sessions opened and closed, agents' epochs and outcomes, the clock, claims, intents, the history, and
of each lease a horizon. What decides about an agent (claim, intent, outcome) is written first and takes effect after.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace

from watchdog.core import clock as clocks
from watchdog.core import notices, undo
from watchdog.core.brake import Order
from watchdog.core.clock import Cause, Clock
from watchdog.core.holds import BrakeView, Held
from watchdog.core.model import (
    SET_BY_US,
    Action,
    AgentId,
    AgentState,
    AgentView,
    Beat,
    BeatType,
    Cancel,
    Claim,
    Due,
    Epoch,
    FollowUp,
    Instant,
    Intent,
    Mark,
    Next,
    Observed,
    Outcome,
    Reply,
    Running,
    Standing,
    Tear,
)
from watchdog.core.undo import Back, Change, Now, Ordered, Written
from watchdog.errors import StoreUnavailable
from watchdog.stores import change_rows, history, rows
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
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.braking import Braking
from watchdog.stores.cancelling import Cancelling
from watchdog.stores.changes import Changes
from watchdog.stores.columns import UNREADABLE, Unreadable
from watchdog.stores.counting import LiveSessions
from watchdog.stores.facts import NEVER, Agent
from watchdog.stores.holding import Holding
from watchdog.stores.journal import PRUNE_CHUNK, Journal, Kept, check_whole
from watchdog.stores.leases import LeaseTable
from watchdog.stores.listing import search
from watchdog.stores.tokens import TokenBuckets
from watchdog.stores.undoing import Undoing

ORPHAN_RETRY_S = 5.0
"""An orphan that the caller has not settled after this running time is told again."""


class TableStore:
    """See `watchdog.stores.base.Store`.

    Args:
        rules: What the store has to know of the settings.
        journal: Makes the journal of a lease table; it is told how to get the brakes and the rest (see there).
    """

    def __init__(
        self, rules: StoreRules, journal: Callable[[LeaseTable, Callable[[], bytes], Callable[[], Batch]], Journal]
    ) -> None:
        self._rules = rules
        self._table = LeaseTable(rules.timer_s, rules.return_window_s, rules.serves, greets=rules.greets)
        self._changes = Changes(self._table, rules.return_window_s)
        self._braking = self._made_braking()
        self._journal = journal(self._table, self._brakes_row, self._rest)
        self._clock = Clock()
        self._token = 0
        self._tokens = TokenBuckets(rules)
        self._left: dict[AgentId, Claim] = {}
        self._told_orphans: dict[int, Running] = {}
        self._secret = b""
        self._holding = Holding(self._table, self._braking, self._left, write=self._write, clock=lambda: self._clock)
        self._cancelling = Cancelling(self._table, self._left, write=self._write, clock=lambda: self._clock)
        self._undoing = Undoing(self._table, self._changes, self._left, write=self._write, clock=lambda: self._clock)
        self._missed_s = 0.0
        self._live = LiveSessions(self._table.sessions)
        # Rows that could not be read when the store was opened, by table and key.
        self.unreadable: list[Unreadable] = []

    # Opening and closing.

    async def open(self, instant: Instant) -> None:
        """See `Store.open`."""
        await self._journal.open()
        try:
            await self._journal.load(lambda kept: self._load(kept, instant))
            batch = Batch(sync=True)
            batch.add(Statement.PUT_META, self._meta_rows())
            self._journal.set_aside(batch, self.unreadable)
            await self._write(batch)
        except BaseException:
            await self.close()
            raise

    # What is not of this process alone where others have their part of the agents.

    def _made_braking(self) -> Braking:
        return Braking(self._table, self._rules.brake, self._changes)

    def _begin(self, saved: bytes | None, instant: Instant) -> float:
        """Begins or resumes the clock. Returns how many seconds running time has left out since it was kept."""
        if saved is None:
            self._clock = clocks.first(instant)
            return 0.0
        before = rows.clock_from_json(saved)
        self._missed_s = clocks.missed(before, instant)
        self._clock = clocks.resume(before, instant, self._rules.clock)
        return clocks.uncounted_s(before, self._clock)

    def _advanced(self, since: Clock, instant: Instant, blind: Cause | None) -> Clock:
        """The clock of a tick at `instant`, when that of the last one was `since`."""
        return clocks.advance(since, instant, self._rules.clock, blind)

    def _ahead(self, instant: Instant) -> Clock:
        """The clock as it will be at the next tick, for leases that are given now."""
        return clocks.advance(self._clock, instant, self._rules.clock)

    def _load(self, kept: Kept, instant: Instant) -> None:
        check_whole(kept)
        uncounted_s = self._begin(kept.meta("clock"), instant)
        self.unreadable = rows.load(kept.agents(), kept.sessions(), self._table, self._clock.observed)
        self._lengthen()
        for agent in [row for row in self._table.agents.values() if not row.sessions and row.floor == NEVER]:
            self._table.forget(agent)  # never seen: its session's row was not written
        claims, unreadable = rows.claims(kept.claims())
        self.unreadable += unreadable
        for claim, intent in claims:
            if intent is not None and claim.agent in self._table.agents:
                self._left[claim.agent] = claim
        brakes = None
        try:
            brakes = kept.meta("brakes")
            if brakes is not None:
                self._braking.load(*rows.brakes_from_json(brakes))
        except UNREADABLE as error:
            self.unreadable.append(Unreadable("meta", ("brakes", brakes), error))
            self._braking.lose(self._clock.observed)
        self._token = int(kept.meta("token") or b"0")
        self._secret = kept.meta("secret") or secrets.token_bytes(32)
        self._table.load(self._clock.observed)
        since = Running(self._clock.running + uncounted_s - self._rules.return_window_s)
        changed, unreadable = change_rows.changes(kept.recent_changes(since))
        self.unreadable += unreadable
        self._changes.load(map(self._as_meant, changed), self._now(instant.epoch), uncounted_s)

    def _lengthen(self) -> None:
        """Leases that may have been longer than what is kept says."""

    def _as_meant(self, change: Change) -> Change:
        """The change as it is; or as it has to be when its agent was logged out while it was written."""
        agent = self._table.agents.get(change.agent)
        alone = change.back_at is None and agent is not None and agent.logged_out_since(change.epoch)
        return undo.overtaken(change, agent.epoch) if agent is not None and alone else change

    def _now(self, epoch: Epoch) -> Now:
        return Now(self._clock.observed, self._clock.running, epoch)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._journal.close(self._clock)

    async def _write(self, batch: Batch) -> None:
        await self._journal.write(batch, self._clock)

    # Heartbeats.

    def plainly_live(self, beat: Beat) -> float | None:
        """See `Store.plainly_live`."""
        session = self._table.sessions.get(beat.session_id)
        if (
            session is None
            or session.closed_at is not None
            or beat.type is not BeatType.BEAT
            or beat.ttl is None
            or beat.incarnation != session.incarnation
            or (beat.seq is not None and session.seq is not None and beat.seq <= session.seq)
            # The beat is flushed after its answer: it must find the lease still running then.
            or session.expires_at - self._clock.observed <= clocks.MAX_STEP_S
            or session.agent.id != beat.agent
            # Its reply tells something.
            or session.agent.told_until > self._clock.running
        ):
            return None
        return beat.ttl

    def whose(self, session_id: bytes) -> AgentId | None:
        """See `Store.whose`."""
        session = self._table.sessions.get(session_id)
        return None if session is None else session.agent.id

    def newcomer(self, agent: AgentId) -> int | None:
        """See `Store.newcomer`."""
        agents = self._table.agents
        return None if agent in agents else len(agents)

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        """See `Store.apply`."""
        self._journal.check()
        # The clock as it will be at the next tick, so that a lease is not short by the time since the last one. Only
        # the tick makes it the clock.
        ahead = self._ahead(instant)
        self._table.running, self._table.paused_s = ahead.running, clocks.uncounted_s(self._clock, ahead)
        replies = [self._table.apply(beat, ahead.observed, instant.epoch) for beat in beats]
        self._braking.heard(beats, replies)
        written = False
        while not written:
            # What a reply rests on may be on its way in another write, which may fail.
            flights = [flight for flight in self._journal.flights if flight.carries(beats)]
            if self._table.dirty:
                await self._write(Batch())
            landed = [await flight.landed() for flight in flights]
            written = all(landed)
        return replies

    async def tear(self, tears: Sequence[Tear], instant: Instant) -> list[bool]:
        """See `Store.tear`."""
        self._journal.check()
        now = self._ahead(instant).observed
        shorter = [self._table.tear(tear, now) for tear in tears]
        if self._table.dirty:
            await self._write(Batch())
        return shorter

    # The sweep.

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        """See `Store.tick`."""
        before = self._clock
        if self._journal.failing and blind is None:
            blind = Cause.STORE
        self._clock = self._advanced(before, instant, blind)
        self._changes.missed(clocks.uncounted_s(before, self._clock))
        self._journal.failing = False
        try:
            await self._write(Batch())
        except StoreUnavailable:
            self._clock = self._advanced(before, instant, Cause.STORE)
            raise
        now = self._clock.observed
        self._table.expire(now)
        self._braking.tick(self._clock, instant.epoch, self._clock.running - before.running)
        if self._braking.news:
            # The holds are in force all the same: a failed write makes the next tick blind, and is tried again there.
            with contextlib.suppress(StoreUnavailable):
                await self._write(Batch(sync=True))
        brake, changes, stopped = self._braking.take()
        missed_s, self._missed_s = self._missed_s, 0.0
        orphans = self._orphans(owner)
        self._changes.forget_old(self._now(instant.epoch))
        elapsed = max(0.0, instant.boot - before.boot) if before.boot is not None else 0.0
        return Tick(
            clock=self._clock,
            stopped_s=max(0.0, elapsed - (now - before.observed)),
            due=self._table.line.first(self._clock.running, limit),
            backlog=self._table.line.backlog,
            orphans=orphans,
            brake=brake,
            changes=changes,
            stopped=stopped,
            missed_s=missed_s,
            foreign=self._table.line.foreign,
            undos=self._changes.to_undo(self._left),
        )

    def _meta_rows(self) -> list[tuple[str, bytes]]:
        return [("secret", self._secret), ("token", str(self._token).encode())]

    def _rest(self) -> Batch:
        batch = Batch()
        batch.add(Statement.PUT_META, self._meta_rows())
        batch.add(Statement.PUT_CLAIM, [rows.claim_row(claim, claim.intent) for claim in self._left.values()])
        claimed = [agent for agent in self._table.agents.values() if agent.claim is not None]
        batch.add(
            Statement.PUT_CLAIM,
            [
                rows.claim_row(each.claim, each.intent or each.claim.intent)
                for each in claimed
                if each.claim is not None
            ],
        )
        return batch

    def _brakes_row(self) -> bytes:
        return rows.brakes_to_json(self._braking.brakes, self._braking.orders)

    async def order(
        self, group: str, *, hold: bool, for_s: float, reason: str, instant: Instant, by: str = ""
    ) -> BrakeView:
        """See `Store.order`."""
        order = Order(hold, group, Running(self._clock.running + for_s), reason, by)
        batch = Batch(sync=True)
        orders = {**self._braking.orders, group: order}
        batch.add(Statement.PUT_META, [("brakes", rows.brakes_to_json(self._braking.brakes, orders))])
        try:
            await self._write(batch)
        except BaseException:
            # Not in force. A write that was given up may still reach the disk: the next one puts it right there.
            self._braking.news = True
            raise
        self._braking.order(order)
        self._braking.tick(self._clock, instant.epoch, 0.0)
        # The order is kept and in force: what follows from it is written by the next flush if it cannot be now.
        with contextlib.suppress(StoreUnavailable):
            await self._write(Batch(sync=True))
        return self._braking.view

    def _orphans(self, owner: str) -> tuple[Claim, ...]:
        """Claims that left an intent without an outcome, of agents that have come back since."""
        found: list[Claim] = []
        for agent_id, left in self._left.items():
            agent = self._table.agents.get(agent_id)
            if agent is None or agent.epoch == left.epoch:
                continue
            if agent.claim is not None and agent.claim.token != left.token:
                continue
            if self._clock.running < self._told_orphans.get(left.token, Running(0.0)):
                continue
            self._told_orphans[left.token] = Running(self._clock.running + ORPHAN_RETRY_S)
            agent.claim = replace(left, owner=owner)
            found.append(agent.claim)
        return tuple(found)

    # Claims.

    async def claim(self, due: Due, owner: str) -> Claim | None:
        """See `Store.claim`."""
        agent = self._table.agents.get(due.agent)
        if agent is None or due.agent not in self._table.due or agent.claim is not None or agent.epoch != due.epoch:
            return None
        if agent.restoring or agent.id in self._cancelling.going_on:
            return None
        self._token += 1
        left = self._left.get(agent.id)
        # An intent of an older epoch belongs to an orphan, which is told by the tick and settled on its own.
        if left is not None and left.epoch != agent.epoch:
            return None
        claim = Claim(
            agent=agent.id,
            epoch=agent.epoch,
            token=self._token,
            owner=owner,
            deadline=self._table.deadline(agent),
            lag_s=max(0.0, self._clock.observed - self._table.deadline(agent)),
            evidence=self._table.evidence(agent, self._clock.observed),
            intent=None if left is None else left.intent,
            ended_at=agent.ends_at,
            follow_up=agent.follow_up if agent.settled else None,
            released=_released(agent),
        )
        agent.claim = claim
        batch = Batch()
        batch.add(Statement.PUT_META, [("token", str(self._token).encode())])
        batch.add(Statement.PUT_CLAIM, [rows.claim_row(claim, claim.intent)])
        try:
            await self._write(batch)
        except BaseException:
            agent.claim = None
            raise
        self._left.pop(agent.id, None)
        if agent.epoch != claim.epoch:
            await self.release(claim, 0.0)
            return None
        return claim

    async def intend(self, claim: Claim, intent: Intent) -> bool:
        """See `Store.intend`."""
        agent = self._holder(claim)
        if agent is None or agent.epoch != claim.epoch:
            return False
        batch = Batch(sync=True)
        batch.add(Statement.PUT_CLAIM, [rows.claim_row(claim, intent)])
        await self._write(batch)
        if self._holder(claim) is None:
            return False
        agent.intent = intent
        return True

    async def still_gone(self, claim: Claim) -> Standing:
        """See `Store.still_gone`."""
        agent = self._holder(claim)
        if agent is None or agent.epoch != claim.epoch:
            return Standing.RETURNED
        # A released agent may have been given a later deadline than the claim was made for.
        due = self._table.state(agent, self._clock.observed) is AgentState.DUE
        return Standing.GONE if due and not self._put_off(agent) else Standing.HELD

    def _put_off(self, agent: Agent) -> bool:
        """Whether the rest of what is to be done waits until it is known whose fault the silence is."""
        follow = agent.follow_up if agent.settled else None
        return follow is not None and follow.next is not Next.LOG_OUT and self._braking.holds(agent)

    async def settle(
        self, claim: Claim, action: Action, written: Written | None = None, follow_up: FollowUp | None = None
    ) -> bool:
        """See `Store.settle`."""
        agent = self._holder(claim)
        if agent is None:
            return False
        intent, change, notice = agent.intent or claim.intent, None, None
        if written is not None and intent is not None:
            change = self._changes.made(agent, claim, action, intent, written, self._now(action.at))
        missed_s = self._changes.missed_s
        row = copy(agent)
        row.settle(claim.epoch, action.outcome, follow_up)
        if change is not None:
            notice = notices.of(change, ordered=claim.ordered)
            row.notice, row.told_until = notice, self._told_until(row, action.outcome)
        batch = Batch(sync=True)
        batch.add(Statement.DROP_CLAIM, [(*claim.agent, claim.token)])
        batch.add(Statement.PUT_AGENT, [rows.agent_row(row)])
        batch.add(Statement.PUT_ACTION, [history.action_row(action)])
        if change is not None:
            batch.add(Statement.PUT_CHANGE, [change_rows.change_row(change)])
        await self._write(batch)
        if self._holder(claim) is None:
            return False
        self._end_claim(agent, claim)
        if change is not None:
            change = undo.later(change, self._changes.missed_s - missed_s)
            if agent.logged_out_since(claim.epoch):
                change = undo.overtaken(change, agent.epoch)
            elif change.undo is None and agent.epoch != claim.epoch:
                change = undo.crossed(change, self._now(action.at))
            self._table.put_change(agent, change)
        self._table.settle(agent, claim.epoch, action.outcome, self._clock.observed, follow_up)
        if change is not None:
            self._braking.tripped_lately(agent)
        if notice is not None:
            agent.notice, agent.told_until = notice, self._told_until(agent, action.outcome)
        return agent.epoch == claim.epoch

    def _told_until(self, agent: Agent, outcome: Outcome) -> Running:
        """Until when the pages of an agent who was set are told so."""
        if outcome not in SET_BY_US:
            return notices.NEVER
        return notices.ON_RETURN if agent.settled else notices.until(self._clock.running)

    async def file_again(self, claim: Claim, timer_s: float) -> bool:
        """See `Store.file_again`."""
        agent = self._holder(claim)
        if agent is not None and agent.epoch == claim.epoch:
            # At once: nobody may find it due while it is written.
            self._table.file_again(agent, timer_s, self._clock.observed)
        return await self.release(claim, 0.0)

    async def log_out(self, agent: AgentId, follow_up: FollowUp, instant: Instant) -> bool:
        """See `Store.log_out`."""
        row = self._table.agents.get(agent)
        if row is not None and row.restoring:
            return False
        # At once: a beat that comes while it is written is stopped. What cannot be written is tried again.
        self._table.log_out(agent, follow_up, self._clock.observed)
        row = self._table.agents[agent]
        row.seen = row.seen or instant.epoch
        await self._write(Batch(sync=True))
        return True

    async def cancel(self, agent: AgentId, action: Action) -> Cancel:
        """See `Store.cancel`."""
        return await self._cancelling.cancel(agent, action)

    # The undo.

    async def still_back(self, change: Change) -> Back:
        """See `Store.still_back`."""
        return self._undoing.still_back(change)

    async def restoring(self, change: Change, at: Epoch, lease_s: float) -> Back:
        """See `Store.restoring`."""
        return await self._undoing.restoring(change, at, lease_s)

    async def restored(self, change: Change, action: Action, *, forget: bool) -> bool:
        """See `Store.restored`."""
        return await self._undoing.restored(change, action, forget=forget)

    async def restore(
        self, since: Epoch, instance_id: str | None, *, silent: bool, instant: Instant, by: str | None = None
    ) -> Ordered:
        """See `Store.restore`."""
        # What memory knows better goes to the disk first.
        await self._write(Batch())
        found = await self._journal.changes(since, instance_id)
        return await self._undoing.restore(found, instant.epoch, silent=silent, by=by)

    # Activity, and who is routable and not seen.

    async def witness(self, claim: Claim, age_s: float, ttl_s: float, action: Action) -> bool:
        """See `Store.witness`."""
        agent, clock = self._holder(claim), self._clock.observed
        if agent is None or agent.epoch != claim.epoch:
            return False
        age_s = self._clock.passed(age_s)
        ends_at = self._table.witnessed(agent, age_s, ttl_s, clock)
        if ends_at is None:
            return False
        row = agent.lengthened(ends_at)
        row.last_outcome = action.outcome
        batch = Batch(sync=True)
        batch.add(Statement.DROP_CLAIM, [(*claim.agent, claim.token)])
        batch.add(Statement.PUT_AGENT, [rows.agent_row(row)])
        batch.add(Statement.PUT_ACTION, [history.action_row(action)])
        await self._write(batch)
        if self._holder(claim) is None:
            return False
        self._end_claim(agent, claim)
        agent.last_outcome = action.outcome
        self._table.dirty.agents[agent.id] = agent
        later = self._clock.observed
        # A bye may have come while it was written, and be newer than the activity.
        still = self._table.witnessed(agent, age_s + (later - clock), ttl_s, later)
        if agent.epoch == claim.epoch and still is not None:
            self._table.lengthen(agent, ends_at, later)
        return True

    async def unseen(self, action: Action, ttl_s: float | None) -> bool:
        """See `Store.unseen`."""
        if self._table.expected(action.agent, self._clock.observed):
            return False
        batch = Batch(sync=True)
        batch.add(Statement.PUT_ACTION, [history.action_row(action)])
        if ttl_s is not None:
            agent = self._table.agents.get(action.agent) or Agent(action.agent)
            row = agent.lengthened(Observed(self._clock.observed + ttl_s))
            batch.add(Statement.PUT_AGENT, [rows.agent_row(row)])
        await self._write(batch)
        clock = self._clock.observed
        if ttl_s is None:
            return True
        if self._table.expected(action.agent, clock):
            # Heard from meanwhile: what was written about the agent is older than what is known now.
            self._table.dirty.agents[action.agent] = self._table.agents[action.agent]
        else:
            self._table.suppose(action.agent, Observed(clock + ttl_s), clock)
        return True

    def _end_claim(self, agent: Agent, claim: Claim) -> None:
        agent.claim = None
        agent.intent = None
        self._left.pop(agent.id, None)
        self._told_orphans.pop(claim.token, None)

    async def release(self, claim: Claim, delay_s: float) -> bool:
        """See `Store.release`."""
        agent = self._holder(claim)
        if agent is None:
            return False
        agent.claim = None
        if not agent.logged_out_since(claim.epoch):
            agent.not_before = Running(self._clock.running + delay_s)
        intent = agent.intent or claim.intent
        agent.intent = None
        if intent is not None:
            # On the disk already, by `intend` or by the claim that carried it.
            self._left[agent.id] = replace(claim, intent=intent)
            return True
        batch = Batch()
        batch.add(Statement.DROP_CLAIM, [(*claim.agent, claim.token)])
        await self._write(batch)
        return True

    def _holder(self, claim: Claim) -> Agent | None:
        agent = self._table.agents.get(claim.agent)
        held = None if agent is None else agent.claim
        return agent if held is not None and held.token == claim.token else None

    async def record(self, actions: Sequence[Action]) -> None:
        """See `Store.record`."""
        batch = Batch()
        batch.add(Statement.PUT_ACTION, [history.action_row(action) for action in actions])
        await self._write(batch)

    # Who is held.

    async def held(self, instance_id: str, after_s: float, limit: int = 100) -> tuple[Held, ...]:
        """See `Store.held`."""
        return self._holding.tell(instance_id, after_s, limit)

    async def witness_held(self, held: Held, age_s: float, ttl_s: float, action: Action) -> bool:
        """See `Store.witness_held`."""
        return await self._holding.witness(held, age_s, ttl_s, action)

    async def release_held(self, held: Held, age_s: float, ttl_s: float, action: Action) -> bool:
        """See `Store.release_held`."""
        return await self._holding.release(held, age_s, ttl_s, action)

    # Quota.

    async def take_tokens(self, operation: str, scope: str, count: int, instant: Instant) -> float:
        """See `Store.take_tokens`."""
        return self._tokens.take(operation, scope, count, instant)

    async def throttled(self, operation: str, scope: str, instant: Instant) -> None:
        """See `Store.throttled`."""
        self._tokens.throttled(operation, scope, instant)

    # Reading.

    async def counts(self) -> Counts:
        """See `Store.counts`."""
        now = self._clock.observed
        return Counts(agents=dict(self._table.phases), sessions=self._live.count(now))

    async def agent(self, agent: AgentId) -> AgentView | None:
        """See `Store.agent`."""
        row = self._table.agents.get(agent)
        return None if row is None else self._table.view(row, self._clock.observed)

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
        after = None
        if cursor is not None:
            instance_id, _, user_id = cursor.partition("/")
            after = AgentId(instance_id, user_id)
        if state is not None and not self._table.phases[state]:
            return AgentPage((), None)
        table, found, sought = self._table, list[AgentView](), search(query.lower())
        while ids := table.listing.following(after):
            now = self._clock.observed
            for agent in ids:
                row = table.agents[agent]
                if state is not None and (row.phase is not state or table.state(row, now) is not state):
                    continue
                if not sought(agent) or (among is not None and not among(agent)):
                    continue
                if len(found) == limit:
                    return AgentPage(tuple(found), str(found[-1].agent))
                found.append(table.view(row, now))
            after = ids[-1]
            # Heartbeats do not wait for a search among many.
            await asyncio.sleep(0)
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
        return history.page(await self._journal.actions(agent, outcome, since, cursor, limit + 1), limit)

    async def recorded(self, after: int, limit: int = 100) -> Recorded:
        """See `Outbox.recorded`."""
        return await self._journal.recorded(after, limit)

    async def delivered(self, receiver: str) -> int | None:
        """See `Outbox.delivered`."""
        value = await self._journal.meta(f"delivered {receiver}")
        return None if value is None else int(value)

    async def mark_delivered(self, receiver: str, number: int) -> None:
        """See `Outbox.mark_delivered`."""
        batch = Batch()
        batch.add(Statement.PUT_META, [(f"delivered {receiver}", str(number).encode())])
        await self._write(batch)

    def replicas(self) -> Sequence[ReplicaView]:
        """See `DaemonStore.replicas`."""
        return ()

    @property
    def rows_lost(self) -> RowsLost | None:
        """See `DaemonStore.rows_lost`. There is no server."""
        return None

    async def make_room(self) -> MemoryUse:
        """See `DaemonStore.make_room`. There is no server."""
        return MemoryUse(None)

    async def secret(self) -> bytes:
        """See `Store.secret`."""
        return self._secret

    async def prune(self, before: Epoch) -> int:
        """See `Store.prune`."""
        old: list[Agent] = []
        everybody = [*self._table.agents.values()]
        for begin in range(0, len(everybody), PRUNE_CHUNK):
            old += [row for row in everybody[begin : begin + PRUNE_CHUNK] if self._outdated(row, before)]
            await asyncio.sleep(0)
        forgotten = 0
        for begin in range(0, len(old), PRUNE_CHUNK):
            chunk = [row for row in old[begin : begin + PRUNE_CHUNK] if self._outdated(row, before)]
            nobodys = [row.id for row in chunk if row.id in self._left]
            if nobodys:
                batch = Batch()
                batch.add(Statement.DROP_CLAIM, [(*agent, self._token) for agent in nobodys])
                await self._write(batch)
                for agent in nobodys:
                    self._left.pop(agent, None)
            await self._journal.drop_agents([row.id for row in chunk], self._clock)
            for row in chunk:
                if self._outdated(row, before):
                    self._table.forget(row)
                    forgotten += 1
                elif self._table.agents.get(row.id) is row:
                    # Came back while its row was deleted.
                    self._table.dirty.agents[row.id] = row
        await self._journal.drop_changes(before, self._clock)
        return forgotten + await self._journal.drop_actions(before, self._clock)

    def _outdated(self, agent: Agent, before: Epoch) -> bool:
        """Whether nothing is expected of the agent any more, and nothing is under way for it."""
        if self._table.agents.get(agent.id) is not agent or agent.seen >= before or agent.id in self._table.to_undo:
            return False
        if agent.id in self._table.due and not self._rules.serves(agent.id):
            return agent.claim is None
        # Whoever is settled has no claim but an orphan's, whose intent is left until it has an outcome.
        done = agent.id not in self._left and agent.settled and agent.follow_up is None
        return done and not agent.sessions


def _released(agent: Agent) -> bool:
    """Whether the brake has taken the agent's silence for a fault, before it was set or shortly after."""
    follow = agent.follow_up if agent.settled else None
    return agent.mark is Mark.RELEASED or agent.tripped or (follow is not None and follow.released)
