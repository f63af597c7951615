"""The store in one process: leases in memory, and one SQLite file for what must survive.

The memory is the truth while the process lives; the file has what a later process needs to go on from it: sessions
opened and closed, agents' epochs and outcomes, the clock, claims, intents, the history, and of each lease a horizon. A
row that changed in memory is dirty until a commit has it; a failed commit makes it dirty again, so that nothing is lost
by a full disk. What decides about an agent (claim, intent, outcome) is written first and takes effect in memory after.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from watchdog.core import clock as clocks
from watchdog.core import quota
from watchdog.core.clock import Cause, Clock
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    AgentView,
    Beat,
    BeatType,
    Claim,
    Due,
    Epoch,
    Instant,
    Intent,
    Observed,
    Outcome,
    Reply,
    Running,
    SessionEnd,
)
from watchdog.core.quota import Bucket
from watchdog.errors import StoreCorrupt, StoreUnavailable
from watchdog.stores import rows
from watchdog.stores.base import ActionPage, AgentPage, Counts, StoreRules, Tick
from watchdog.stores.disk import Batch, Disk, FileLock, ThreadedDisk, told
from watchdog.stores.leases import NEVER, Agent, Dirty, LeaseTable

ORPHAN_RETRY_S = 5.0
"""An orphan that the caller has not settled after this running time is told again."""

PRUNE_CHUNK = 5_000
"""Rows that one transaction of pruning deletes, so that it never holds up a flush for long."""


class SqliteStore:
    """See `watchdog.stores.base.Store`.

    Args:
        path: The file. It is made when it is not there; a lock beside it keeps other daemons away.
        rules: What the store has to know of the settings.
        disk: Opens the file; `InlineDisk` for virtual time.
    """

    def __init__(self, path: Path, rules: StoreRules, disk: Callable[[Path], Disk] = ThreadedDisk) -> None:
        self._path = path
        self._rules = rules
        self._open_disk = disk
        self._lock = FileLock(path)
        self._disk: Disk | None = None
        self._table = LeaseTable(rules.timer_s)
        self._clock = Clock()
        self._failing = False
        self._token = 0
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._left: dict[AgentId, Claim] = {}
        self._told_orphans: dict[int, Running] = {}
        self._secret = b""

    # Opening and closing.

    async def open(self, instant: Instant) -> None:
        """See `Store.open`."""
        self._lock.take()
        try:
            self._disk = self._open_disk(self._path)
            await self._disk.read(lambda connection: self._load(connection, instant))
            batch = Batch(sync=True)
            batch.add(rows.PUT_META, [("secret", self._secret), ("token", str(self._token).encode())])
            await self._write(batch)
        except BaseException:
            await self.close()
            raise

    def _load(self, connection: sqlite3.Connection, instant: Instant) -> None:
        try:
            saved = rows.meta(connection, "clock")
            if saved is None:
                self._clock = clocks.first(instant)
            else:
                self._clock = clocks.resume(rows.clock_from_json(saved), instant, self._rules.clock)
            rows.load(connection, self._table, self._clock.observed)
            for agent in [row for row in self._table.agents.values() if not row.sessions and row.floor == NEVER]:
                self._table.forget(agent)  # never seen: its session's row was not written
            for claim, intent in rows.claims(connection):
                if intent is not None:
                    self._left[claim.agent] = claim
            # Tokens that were handed out and not written are skipped.
            self._token = int(rows.meta(connection, "token") or b"0") + 1_000
            self._secret = rows.meta(connection, "secret") or secrets.token_bytes(32)
        except sqlite3.Error as error:
            raise told(error, self._path) from None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreCorrupt(
                f"{self._path} holds a row that this version cannot read ({type(error).__name__}). Nothing was changed "
                "in it. Move it away to start afresh, or restore a copy."
            ) from None
        self._table.load(self._clock.observed)

    async def close(self) -> None:
        """See `Store.close`."""
        if self._disk is not None:
            with contextlib.suppress(StoreUnavailable):
                await self._write(Batch())
            await self._disk.close()
            self._disk = None
        self._lock.give_back()

    async def _write(self, batch: Batch) -> None:
        """Writes a batch together with every dirty row and the clock; what fails is dirty again."""
        if self._disk is None:
            raise StoreUnavailable("The store is closed.")
        table, dirty = self._table, self._table.dirty
        table.dirty = Dirty()
        # The dirty rows come first: what the caller writes about the same agent is newer.
        full = Batch(sync=batch.sync)
        rows.add_dirty(full, dirty)
        full.add(rows.PUT_META, [("clock", rows.clock_to_json(self._clock))])
        full.statements.extend(batch.statements)
        try:
            await self._disk.write(full)
        except BaseException as error:
            # A row that was changed or dropped again meanwhile is dirty in the newer way.
            for agent_id, agent in dirty.agents.items():
                if table.agents.get(agent_id) is agent:
                    table.dirty.agents.setdefault(agent_id, agent)
            for session_id, session in dirty.sessions.items():
                if table.sessions.get(session_id) is session:
                    table.dirty.sessions.setdefault(session_id, session)
            table.dirty.dropped.update(key for key in dirty.dropped if key not in table.sessions)
            if isinstance(error, StoreUnavailable):
                self._failing = True
            raise

    # Heartbeats.

    def plainly_live(self, beat: Beat) -> float | None:
        """See `Store.plainly_live`."""
        session = self._table.sessions.get(beat.session_id)
        if (
            session is None
            or session.closed
            or beat.type is not BeatType.BEAT
            or beat.ttl is None
            or beat.incarnation != session.incarnation
            or (beat.seq is not None and session.seq is not None and beat.seq <= session.seq)
            # The beat is flushed after its answer: it must find the lease still running then.
            or session.expires_at - self._clock.observed <= clocks.MAX_STEP_S
            or session.agent.id != beat.agent
        ):
            return None
        return beat.ttl

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        """See `Store.apply`."""
        # The clock as it will be at the next tick, so that a lease is not short by the time since the last one. Only
        # the tick makes it the clock.
        ahead = clocks.advance(self._clock, instant, self._rules.clock).observed
        replies = [self._table.apply(beat, ahead, instant.epoch) for beat in beats]
        if self._table.dirty:
            await self._write(Batch())
        return replies

    # The sweep.

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        """See `Store.tick`."""
        before = self._clock
        if self._failing and blind is None:
            blind = Cause.STORE
        self._clock = clocks.advance(before, instant, self._rules.clock, blind)
        self._failing = False
        try:
            await self._write(Batch())
        except StoreUnavailable:
            self._clock = clocks.advance(before, instant, self._rules.clock, Cause.STORE)
            raise
        now = self._clock.observed
        self._table.expire(now)
        elapsed = max(0.0, instant.boot - before.boot) if before.boot is not None else 0.0
        return Tick(
            clock=self._clock,
            stopped_s=max(0.0, elapsed - (now - before.observed)),
            due=self._due(limit),
            backlog=len(self._table.due),
            orphans=self._orphans(owner),
        )

    def _due(self, limit: int) -> tuple[Due, ...]:
        running, timer_s = self._clock.running, self._rules.timer_s
        found = [
            Due(agent.id, agent.epoch, Observed(agent.ends_at + timer_s))
            for agent in self._table.due.values()
            if agent.claim is None and agent.not_before <= running
        ]
        found.sort(key=lambda due: due.deadline)
        return tuple(found[:limit])

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
        if self._table.state(agent, self._clock.observed) is not AgentState.DUE:
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
            deadline=Observed(agent.ends_at + self._rules.timer_s),
            lag_s=max(0.0, self._clock.observed - agent.ends_at - self._rules.timer_s),
            evidence=self._evidence(agent),
            intent=None if left is None else left.intent,
        )
        agent.claim = claim
        batch = Batch()
        batch.add(rows.PUT_META, [("token", str(self._token).encode())])
        batch.add(rows.PUT_CLAIM, [rows.claim_row(claim, claim.intent)])
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

    def _evidence(self, agent: Agent) -> dict[str, Any]:
        """What the decision rests on, as JSON values: observed seconds, and how each session ended."""
        now = self._clock.observed
        return {
            "clock_s": round(now, 3),
            "timer_s": self._rules.timer_s,
            "deadline_s": round(agent.ends_at + self._rules.timer_s, 3),
            "sessions": [
                {
                    "session_id": str(UUID(bytes=session.session_id)),
                    "ended": SessionEnd.BYE if session.closed else SessionEnd.SILENCE,
                    "ended_s_ago": round(now - session.expires_at, 3),
                    "ttl_s": session.ttl,
                    "last_beat_at": session.seen,
                    "hidden": session.hidden,
                    "main_driver": session.main_driver,
                }
                for session in sorted(agent.sessions, key=lambda row: row.expires_at, reverse=True)
            ],
        }

    async def intend(self, claim: Claim, intent: Intent) -> bool:
        """See `Store.intend`."""
        agent = self._holder(claim)
        if agent is None or agent.epoch != claim.epoch:
            return False
        batch = Batch(sync=True)
        batch.add(rows.PUT_CLAIM, [rows.claim_row(claim, intent)])
        await self._write(batch)
        if self._holder(claim) is None:
            return False
        agent.intent = intent
        return True

    async def still_gone(self, claim: Claim) -> bool:
        """See `Store.still_gone`."""
        agent = self._holder(claim)
        return agent is not None and agent.epoch == claim.epoch

    async def settle(self, claim: Claim, action: Action) -> bool:
        """See `Store.settle`."""
        agent = self._holder(claim)
        if agent is None:
            return False
        settled = (agent.settled_epoch, agent.last_outcome)
        agent.settled_epoch, agent.last_outcome = claim.epoch, action.outcome
        batch = Batch(sync=True)
        batch.add(rows.DROP_CLAIM, [(*claim.agent, claim.token)])
        batch.add(rows.PUT_AGENT, [rows.agent_row(agent)])
        batch.add(rows.PUT_ACTION, [rows.action_row(action)])
        agent.settled_epoch, agent.last_outcome = settled
        await self._write(batch)
        if self._holder(claim) is None:
            return False
        agent.claim = None
        agent.intent = None
        self._left.pop(agent.id, None)
        self._told_orphans.pop(claim.token, None)
        self._table.settle(agent, claim.epoch, action.outcome, self._clock.observed)
        return agent.epoch == claim.epoch

    async def release(self, claim: Claim, delay_s: float) -> bool:
        """See `Store.release`."""
        agent = self._holder(claim)
        if agent is None:
            return False
        agent.claim = None
        agent.not_before = Running(self._clock.running + delay_s)
        intent = agent.intent or claim.intent
        agent.intent = None
        if intent is not None:
            # On the disk already, by `intend` or by the claim that carried it.
            self._left[agent.id] = replace(claim, intent=intent)
            return True
        batch = Batch()
        batch.add(rows.DROP_CLAIM, [(*claim.agent, claim.token)])
        await self._write(batch)
        return True

    def _holder(self, claim: Claim) -> Agent | None:
        agent = self._table.agents.get(claim.agent)
        held = None if agent is None else agent.claim
        return agent if held is not None and held.token == claim.token else None

    # Quota.

    async def take_tokens(self, operation: str, scope: str, count: int, instant: Instant) -> float:
        """See `Store.take_tokens`."""
        rules = self._rules.quotas.get(operation, self._rules.quota)
        key = (operation, scope)
        bucket = self._buckets.get(key) or quota.empty(instant.boot)
        self._buckets[key], wait_s = quota.take(bucket, rules, instant.boot, count)
        return wait_s

    async def throttled(self, operation: str, scope: str, instant: Instant) -> None:
        """See `Store.throttled`."""
        rules = self._rules.quotas.get(operation, self._rules.quota)
        key = (operation, scope)
        bucket = self._buckets.get(key) or quota.empty(instant.boot)
        self._buckets[key] = quota.throttled(bucket, rules, instant.boot)

    # Reading.

    async def counts(self) -> Counts:
        """See `Store.counts`."""
        now = self._clock.observed
        live = sum(1 for row in self._table.sessions.values() if now <= row.expires_at and not row.closed)
        return Counts(agents=dict(self._table.phases), sessions=live)

    async def agent(self, agent: AgentId) -> AgentView | None:
        """See `Store.agent`."""
        row = self._table.agents.get(agent)
        return None if row is None else self._table.view(row, self._clock.observed)

    async def agents(
        self, state: AgentState | None = None, query: str = "", cursor: str | None = None, limit: int = 100
    ) -> AgentPage:
        """See `Store.agents`."""
        after = None
        if cursor is not None:
            instance_id, _, user_id = cursor.partition("/")
            after = AgentId(instance_id, user_id)
        now, wanted = self._clock.observed, query.lower()
        found: list[AgentView] = []
        for row in self._table.after(after):
            if state is not None and self._table.state(row, now) is not state:
                continue
            if wanted and wanted not in str(row.id).lower():
                continue
            if len(found) == limit:
                return AgentPage(tuple(found), str(found[-1].agent))
            found.append(self._table.view(row, now))
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
        if self._disk is None:
            raise StoreUnavailable("The store is closed.")
        found = await self._disk.read(
            lambda connection: rows.actions(connection, agent, outcome, since, cursor, limit + 1)
        )
        more = len(found) > limit
        return ActionPage(tuple(found[:limit]), found[limit - 1].id if more else None)

    async def secret(self) -> bytes:
        """See `Store.secret`."""
        return self._secret

    async def prune(self, before: Epoch) -> int:
        """See `Store.prune`."""
        if self._disk is None:
            raise StoreUnavailable("The store is closed.")
        old = [
            row
            for row in self._table.agents.values()
            if row.seen < before and row.claim is None and row.id not in self._left and row.settled and not row.sessions
        ]
        for row in old:
            self._table.forget(row)
        for begin in range(0, len(old), PRUNE_CHUNK):
            batch = Batch()
            batch.add(rows.DROP_AGENT, (row.id for row in old[begin : begin + PRUNE_CHUNK]))
            await self._write(batch)
        pruned = len(old)
        while True:
            keys = await self._disk.read(
                lambda connection: connection.execute(
                    "SELECT id FROM actions WHERE at < ? LIMIT ?", (before, PRUNE_CHUNK)
                ).fetchall()
            )
            if not keys:
                return pruned
            batch = Batch([("DELETE FROM actions WHERE id = ?", keys), ("PRAGMA incremental_vacuum(1000)", [()])])
            await self._write(batch)
            pruned += len(keys)
