"""Rows of the SQLite file to values and back. One function a table and direction; no decisions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from watchdog.core.brake import Brake, Level, Order, State
from watchdog.core.clock import Cause, Clock
from watchdog.core.model import (
    Action,
    AgentId,
    Boot,
    Claim,
    Epoch,
    Intent,
    IntentKind,
    Mark,
    Observed,
    Outcome,
    Running,
)
from watchdog.core.undo import Change, Left, Undo, Why
from watchdog.stores.disk import Batch
from watchdog.stores.facts import NEVER, Agent, Dirty, Session
from watchdog.stores.leases import LeaseTable

PUT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
PUT_AGENT = "INSERT OR REPLACE INTO agents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
PUT_SESSION = "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DROP_SESSION = "DELETE FROM sessions WHERE session_id = ?"
DROP_AGENT = "DELETE FROM agents WHERE instance_id = ? AND user_id = ?"
PUT_CLAIM = "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DROP_CLAIM = "DELETE FROM claims WHERE instance_id = ? AND user_id = ? AND token <= ?"
PUT_ACTION = "INSERT OR IGNORE INTO actions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DROP_ACTION = "DELETE FROM actions WHERE id = ?"
PUT_CHANGE = "INSERT OR REPLACE INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DROP_CHANGE = "DELETE FROM changes WHERE instance_id = ? AND user_id = ?"
DROP_CHANGES = "DELETE FROM changes WHERE written_at < ? AND undo IS NULL"
SHRINK = "PRAGMA incremental_vacuum(1000)"


def meta(connection: sqlite3.Connection, key: str) -> bytes | None:
    """A value of the meta table."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else bytes(row[0])


def clock_to_json(clock: Clock) -> bytes:
    """The clock, for the meta table."""
    return orjson.dumps(clock)


def clock_from_json(text: bytes) -> Clock:
    """The clock of the meta table. Raises `ValueError`, `KeyError` or `TypeError` for what is none."""
    row: dict[str, Any] = orjson.loads(text)
    return Clock(
        observed=Observed(float(row["observed"])),
        running=Running(float(row["running"])),
        boot=None if row["boot"] is None else Boot(float(row["boot"])),
        boot_id=str(row["boot_id"]),
        gap_s=float(row["gap_s"]),
        grace_s=float(row["grace_s"]),
        graces=tuple((float(begin), float(end)) for begin, end in row["graces"]),
        standing=None if row["standing"] is None else Cause(row["standing"]),
    )


def brakes_to_json(brakes: Mapping[str, Brake], orders: Mapping[str, Order]) -> bytes:
    """The brakes that are not clear, and the orders, for the meta table. Proofs begin anew after a restart."""
    kept = {group: (each.state, each.since, each.at, each.level, each.order) for group, each in brakes.items()}
    return orjson.dumps({"brakes": kept, "orders": orders})


def brakes_from_json(text: bytes) -> tuple[dict[str, Brake], dict[str, Order]]:
    """The same back. Raises `ValueError`, `KeyError` or `TypeError` for what is none."""
    row: dict[str, Any] = orjson.loads(text)
    brakes = {
        group: Brake(
            state=State(state),
            since=Running(float(since)),
            at=Epoch(float(at)),
            level=None if level is None else Level(**level),
            order=None if order is None else Order(**order),
        )
        for group, (state, since, at, level, order) in row["brakes"].items()
    }
    return brakes, {group: Order(**order) for group, order in row["orders"].items()}


def add_dirty(batch: Batch, dirty: Dirty) -> None:
    """Adds what differs from the disk to a batch."""
    batch.add(DROP_SESSION, ((session_id,) for session_id in dirty.dropped))
    batch.add(PUT_AGENT, (agent_row(agent) for agent in dirty.agents.values()))
    batch.add(PUT_SESSION, (_session_row(session) for session in dirty.sessions.values()))
    batch.add(PUT_CHANGE, (change_row(change) for change in dirty.changes.values() if change is not None))
    batch.add(DROP_CHANGE, (agent_id for agent_id, change in dirty.changes.items() if change is None))


def agent_row(agent: Agent) -> tuple[Any, ...]:
    """The row of the agents table. The floor is NULL when nothing was forgotten."""
    return (
        *agent.id,
        agent.epoch,
        agent.settled_epoch,
        agent.last_outcome,
        None if agent.floor == NEVER else agent.floor,
        agent.seen,
        agent.mark,
        agent.held_at,
        agent.held_s,
    )


def _session_row(session: Session) -> tuple[Any, ...]:
    return (
        session.session_id,
        *session.agent.id,
        session.incarnation,
        session.seq,
        session.horizon,
        session.ttl,
        session.seen,
        session.closed,
        session.hidden,
        session.main_driver,
    )


def load(connection: sqlite3.Connection, table: LeaseTable, clock: Observed) -> None:
    """Fills a lease table from the file.

    A lease is `min(horizon, clock + TTL)`: a present agent gets a full TTL at most, and the lease of a ghost ends where
    it would have ended at the latest, however often the process is restarted.
    """
    agents = table.agents
    for row in connection.execute("SELECT * FROM agents"):
        instance_id, user_id, epoch, settled_epoch, last_outcome, floor, seen, mark, held_at, held_s = row
        agent = Agent(AgentId(instance_id, user_id))
        agent.epoch = epoch
        agent.settled_epoch = settled_epoch
        agent.last_outcome = None if last_outcome is None else Outcome(last_outcome)
        agent.floor = NEVER if floor is None else Observed(floor)
        agent.seen = Epoch(seen)
        agent.mark = Mark(mark)
        agent.held_at = Running(held_at)
        agent.held_s = held_s
        agents[agent.id] = agent
    for row in connection.execute("SELECT * FROM sessions"):
        session_id, instance_id, user_id, incarnation, seq, horizon, ttl, seen, closed, hidden, main_driver = row
        owner = agents.get(AgentId(instance_id, user_id))
        if owner is None:
            continue
        session = Session(owner, bytes(session_id))
        session.incarnation = incarnation
        session.seq = seq
        session.horizon = Observed(horizon)
        session.expires_at = Observed(min(horizon, clock + ttl))
        session.ttl = ttl
        session.seen = Epoch(seen)
        session.closed = bool(closed)
        session.hidden = bool(hidden)
        session.main_driver = bool(main_driver)
        owner.sessions.append(session)
        owner.seen = max(owner.seen, session.seen)
        table.sessions[session.session_id] = session


def claim_row(claim: Claim, intent: Intent | None) -> tuple[Any, ...]:
    """The row of the claims table."""
    written = (None, None, None, None)
    return (
        *claim.agent,
        claim.epoch,
        claim.token,
        claim.owner,
        claim.deadline,
        orjson.dumps(dict(claim.evidence)).decode(),
        *(written if intent is None else (intent.kind, intent.target, intent.former, intent.at)),
    )


def claims(connection: sqlite3.Connection) -> Iterable[tuple[Claim, Intent | None]]:
    """The claims that earlier processes left behind."""
    for row in connection.execute("SELECT * FROM claims").fetchall():
        instance_id, user_id, epoch, token, owner, deadline, evidence, kind, target, former, intended_at = row
        intent = None
        if kind is not None:
            intent = Intent(IntentKind(kind), target, former, Epoch(intended_at))
        claim = Claim(
            agent=AgentId(instance_id, user_id),
            epoch=epoch,
            token=token,
            owner=owner,
            deadline=Observed(deadline),
            lag_s=0.0,
            evidence=orjson.loads(evidence),
            intent=intent,
        )
        yield claim, intent


def change_row(change: Change) -> tuple[Any, ...]:
    """The row of the changes table."""
    undo = change.undo
    return (
        *change.agent,
        change.token,
        change.epoch,
        change.action_id,
        change.target,
        change.former,
        change.outcome,
        change.written_at,
        change.unanswered_at,
        change.settled,
        change.running,
        orjson.dumps([(left.session_id.hex(), left.ttl, left.heard) for left in change.sessions]).decode(),
        change.silent_since,
        change.tripped,
        change.ordered_until,
        change.back_at,
        None if undo is None else orjson.dumps(undo).decode(),
    )


def changes(connection: sqlite3.Connection, since: Epoch, instance_id: str | None = None) -> list[Change]:
    """Changes that were written since then, and those that are to be undone or may be ordered to."""
    sql = (
        "SELECT * FROM changes WHERE (written_at >= ? OR undo IS NOT NULL OR ordered_until IS NOT NULL) "
        "AND (? IS NULL OR instance_id = ?)"
    )
    return [_change(row) for row in connection.execute(sql, (since, instance_id, instance_id))]


def _change(row: tuple[Any, ...]) -> Change:
    instance_id, user_id, token, epoch, action_id, target, former, outcome, written_at, unanswered_at, *rest = row
    settled, running, sessions, silent_since, tripped, ordered_until, back_at, undo = rest
    return Change(
        agent=AgentId(instance_id, user_id),
        token=token,
        epoch=epoch,
        action_id=action_id,
        target=target,
        former=former,
        outcome=Outcome(outcome),
        written_at=Epoch(written_at),
        unanswered_at=unanswered_at,
        settled=Observed(settled),
        running=Running(running),
        sessions=tuple(Left(bytes.fromhex(key), ttl, Observed(heard)) for key, ttl, heard in orjson.loads(sessions)),
        silent_since=silent_since,
        tripped=bool(tripped),
        ordered_until=ordered_until,
        back_at=back_at,
        undo=None if undo is None else _undo(orjson.loads(undo)),
    )


def _undo(row: dict[str, Any]) -> Undo:
    return Undo(**{**row, "why": Why(row["why"])})


def action_row(action: Action) -> tuple[Any, ...]:
    """The row of the actions table."""
    return (
        action.id,
        action.at,
        *action.agent,
        action.intent,
        action.target,
        action.outcome,
        action.reason,
        orjson.dumps(dict(action.evidence)).decode(),
        action.calls,
        action.latency_s,
    )


def action(row: tuple[Any, ...]) -> Action:
    """An action of the actions table."""
    key, at, instance_id, user_id, intent, target, outcome, reason, evidence, calls, latency_s = row
    return Action(
        id=key,
        at=Epoch(at),
        agent=AgentId(instance_id, user_id),
        intent=IntentKind(intent),
        target=target,
        outcome=Outcome(outcome),
        reason=reason,
        evidence=orjson.loads(evidence),
        calls=calls,
        latency_s=latency_s,
    )


def actions(
    connection: sqlite3.Connection,
    agent: AgentId | None,
    outcome: Outcome | None,
    since: Epoch | None,
    cursor: str | None,
    limit: int,
) -> list[Action]:
    """Actions of the history, newest first."""
    where: list[str] = []
    values: list[Any] = []
    if agent is not None:
        where.append("instance_id = ? AND user_id = ?")
        values.extend(agent)
    for condition, value in (("outcome = ?", outcome), ("at >= ?", since), ("id < ?", cursor)):
        if value is not None:
            where.append(condition)
            values.append(value)
    clause = f"WHERE {' AND '.join(where)}" if where else ""
    # The clause has names of columns only; every value is bound.
    sql = f"SELECT * FROM actions {clause} ORDER BY id DESC LIMIT ?"  # noqa: S608
    found = connection.execute(sql, (*values, limit))
    return [action(row) for row in found]


def old_actions(connection: sqlite3.Connection, before: Epoch, limit: int) -> list[tuple[str]]:
    """Keys of actions that are older than `before`."""
    return connection.execute("SELECT id FROM actions WHERE at < ? LIMIT ?", (before, limit)).fetchall()
