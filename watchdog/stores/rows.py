"""Rows to values and back. One function a table and direction; no decisions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, cast

import orjson

from watchdog.core import notices
from watchdog.core.brake import Brake, Level, Order, State
from watchdog.core.clock import Cause, Clock
from watchdog.core.model import (
    AgentId,
    Boot,
    Claim,
    Epoch,
    FollowUp,
    Intent,
    IntentKind,
    Mark,
    Next,
    Notice,
    Observed,
    Outcome,
    Running,
)
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.change_rows import change_row
from watchdog.stores.columns import UNREADABLE, Unreadable, real, text, whole
from watchdog.stores.facts import NEVER, Agent, Dirty, Session
from watchdog.stores.leases import LeaseTable

OPEN, BYE, STOPPED = 0, 1, 2
"""What the column `closed` of a session says."""


def clock_to_json(clock: Clock, besides: Mapping[str, float] | None = None) -> bytes:
    """The clock, for the meta table, and what else is to be read with it."""
    return orjson.dumps({**asdict(clock), **besides} if besides else clock)


def clock_from_json(text: bytes) -> Clock:
    """The clock of the meta table. Raises `ValueError`, `KeyError` or `TypeError` for what is none."""
    return clock_of(orjson.loads(text))


def clock_of(row: Mapping[str, Any]) -> Clock:
    """The same, of what was read already."""
    return Clock(
        observed=Observed(float(row["observed"])),
        running=Running(float(row["running"])),
        boot=None if row["boot"] is None else Boot(float(row["boot"])),
        boot_id=str(row["boot_id"]),
        gap_s=float(row["gap_s"]),
        grace_s=float(row["grace_s"]),
        graces=tuple((float(begin), float(end)) for begin, end in row["graces"]),
        standing=None if row["standing"] is None else Cause(row["standing"]),
        epoch=None if row.get("epoch") is None else Epoch(float(row["epoch"])),
        stood=tuple((float(place), float(stood_s)) for place, stood_s in row.get("stood", ())),
        left_out_s=float(row.get("left_out_s", 0.0)),
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
    batch.add(Statement.DROP_SESSION, ((session_id, *agent_id) for session_id, agent_id in dirty.dropped))
    batch.add(Statement.PUT_AGENT, (agent_row(agent) for agent in dirty.agents.values()))
    batch.add(Statement.PUT_SESSION, (_session_row(session) for session in dirty.sessions.values()))
    batch.add(Statement.PUT_CHANGE, (change_row(change) for change in dirty.changes.values() if change is not None))
    batch.add(Statement.DROP_CHANGE, (agent_id for agent_id, change in dirty.changes.items() if change is None))


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
        None if agent.follow_up is None else orjson.dumps(agent.follow_up).decode(),
        None if agent.notice is None else _notice_text(agent.notice, agent.told_until),
    )


def _notice_text(notice: Notice, told_until: Running) -> str:
    # JSON has no infinity.
    until = None if told_until == notices.ON_RETURN else told_until
    return orjson.dumps({"notice": notice, "told_until": until}).decode()


def _session_row(session: Session) -> tuple[Any, ...]:
    return (
        session.session_id,
        *session.agent.id,
        session.incarnation,
        session.seq,
        session.horizon,
        session.ttl,
        session.seen,
        STOPPED if session.stopped else BYE if session.closed else OPEN,
        session.hidden,
        session.main_driver,
        session.loaded,
    )


def load(
    agents: Iterable[tuple[Any, ...]], sessions: Iterable[tuple[Any, ...]], table: LeaseTable, clock: Observed
) -> list[Unreadable]:
    """Fills a lease table from its rows. Returns those that could not be read.

    A lease is `min(horizon, clock + TTL)`: a present agent gets a full TTL at most, and the lease of a ghost ends where
    it would have ended at the latest, however often the process is restarted.

    The agent of a row that cannot be read is not known, whatever else there is about it: of an agent whose session is
    not known nobody can tell that it has gone.
    """
    unreadable: list[Unreadable] = []
    unknown: set[AgentId] = set()
    # What was written together has the same times; a million rows share them as they did before.
    numbers: dict[float, float] = {}
    for row in agents:
        try:
            agent = _agent(row, numbers)
        except UNREADABLE as error:
            unreadable.append(Unreadable("agents", row, error))
        else:
            table.agents[agent.id] = agent
    owners = cast("dict[Any, Agent]", table.agents)
    for row in sessions:
        # As an `AgentId`, which is such a pair, too.
        owner = owners.get(row[1:3])
        if owner is None:
            continue
        try:
            session = _session(row, owner, clock, numbers)
            session.seq = None if session.seq is None else table.one(session.seq)
        except UNREADABLE as error:
            unreadable.append(Unreadable("sessions", row, error))
            unknown.add(owner.id)
        else:
            owner.attach(session)
            owner.seen = max(owner.seen, session.seen)
            table.sessions[session.session_id] = session
    for agent_id in unknown:
        for session in table.agents.pop(agent_id).sessions:
            del table.sessions[session.session_id]
    return unreadable


_NOTHING = (0, 0.0, 0.0, None, None)
"""The last columns of an agent with whom there were no dealings."""


def _agent(row: tuple[Any, ...], numbers: dict[float, float]) -> Agent:
    instance_id, user_id, epoch, settled_epoch, last_outcome, floor, seen, mark, held_at, held_s, follow_up, told = row
    agent = Agent(AgentId(sys.intern(text(instance_id)), text(user_id)))
    agent.epoch = whole(epoch)
    agent.floor = NEVER if floor is None else Observed(real(floor))
    agent.seen = Epoch(_one(real(seen), numbers))
    if row[7:] == _NOTHING and settled_epoch == -1 and last_outcome is None:
        return agent
    agent.settled_epoch = whole(settled_epoch)
    agent.last_outcome = None if last_outcome is None else Outcome(last_outcome)
    agent.mark = Mark(mark)
    agent.held_at = Running(real(held_at))
    agent.held_s = real(held_s)
    agent.follow_up = None if follow_up is None else _follow_up(orjson.loads(follow_up))
    if told is not None:
        agent.notice, agent.told_until = _notice(orjson.loads(told))
    return agent


def _notice(row: dict[str, Any]) -> tuple[Notice, Running]:
    until = row["told_until"]
    notice = row["notice"]
    restored = notice["restored"]
    return Notice(
        status=text(notice["status"]),
        set_at=Epoch(real(notice["set_at"])),
        why=text(notice["why"]),
        restored=None if restored is None else text(restored),
    ), notices.ON_RETURN if until is None else Running(real(until))


def _follow_up(row: dict[str, Any]) -> FollowUp:
    return FollowUp(
        next=Next(row["next"]),
        at=Observed(real(row["at"])),
        rule=text(row["rule"]),
        stage=whole(row["stage"]),
        target=text(row["target"]),
        reason_code=None if row["reason_code"] is None else text(row["reason_code"]),
        queue=None if row["queue"] is None else text(row["queue"]),
        by=None if row["by"] is None else text(row["by"]),
        released=bool(whole(row["released"])),
    )


def _one(number: float, numbers: dict[float, float]) -> float:
    """The number, as one object for all that are equal."""
    return numbers.setdefault(number, number)


def _session(row: tuple[Any, ...], owner: Agent, clock: Observed, numbers: dict[float, float]) -> Session:
    session_id, _, _, incarnation, seq, horizon, ttl, seen, closed, hidden, main_driver, loaded = row
    if not isinstance(session_id, bytes):
        raise TypeError(session_id)
    session = Session(owner, session_id)
    session.incarnation = whole(incarnation)
    session.seq = None if seq is None else whole(seq)
    session.horizon = Observed(_one(real(horizon), numbers))
    session.ttl = _one(real(ttl), numbers)
    fresh = clock + session.ttl
    session.expires_at = session.horizon if session.horizon < fresh else Observed(_one(fresh, numbers))
    session.seen = Epoch(_one(real(seen), numbers))
    if whole(closed) != OPEN:
        session.stopped = closed == STOPPED
        # A tombstone is kept for some minutes more. What was stopped is kept for a day, and a daily restart is common.
        session.closed_at = session.expires_at if session.stopped else clock
    if whole(hidden) or whole(main_driver) or whole(loaded):
        session.hidden, session.main_driver, session.loaded = (
            bool(hidden),
            bool(whole(main_driver)),
            bool(whole(loaded)),
        )
    return session


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
        "" if intent is None else intent.rule,
        None if intent is None else intent.former_next,
    )


def claims(found: Iterable[tuple[Any, ...]]) -> tuple[list[tuple[Claim, Intent | None]], list[Unreadable]]:
    """The claims that earlier processes left behind, and those that cannot be read: their agents are claimed anew."""
    read: list[tuple[Claim, Intent | None]] = []
    unreadable: list[Unreadable] = []
    for row in found:
        try:
            read.append(_claim(row))
        except UNREADABLE as error:
            unreadable.append(Unreadable("claims", row, error))
    return read, unreadable


def _claim(row: tuple[Any, ...]) -> tuple[Claim, Intent | None]:
    instance_id, user_id, epoch, token, owner, deadline, evidence, kind, target, former, intended_at, rule, after = row
    intent = None
    if kind is not None:
        intent = Intent(
            IntentKind(kind),
            text(target),
            None if former is None else text(former),
            Epoch(real(intended_at)),
            text(rule),
            None if after is None else text(after),
        )
    claim = Claim(
        agent=AgentId(text(instance_id), text(user_id)),
        epoch=whole(epoch),
        token=whole(token),
        owner=text(owner),
        deadline=Observed(real(deadline)),
        lag_s=0.0,
        evidence=dict(orjson.loads(evidence)),
        intent=intent,
    )
    return claim, intent
