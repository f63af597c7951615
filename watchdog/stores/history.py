"""The history: actions to rows of the file and back, and pages of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from watchdog.core.model import Action, AgentId, Epoch, IntentKind, Outcome
from watchdog.stores.base import ActionPage, Recorded
from watchdog.stores.columns import UNREADABLE, real, text, whole


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
        id=text(key),
        at=Epoch(real(at)),
        agent=AgentId(text(instance_id), text(user_id)),
        intent=IntentKind(intent),
        target=text(target),
        outcome=Outcome(outcome),
        reason=text(reason),
        evidence=dict(orjson.loads(evidence)),
        calls=whole(calls),
        latency_s=real(latency_s),
    )


def page(found: Sequence[Action], limit: int) -> ActionPage:
    """A page of at most `limit` actions; one more than these are to be given if there are more."""
    more = len(found) > limit
    return ActionPage(tuple(found[:limit]), found[limit - 1].id if more else None)


def actions(
    connection: sqlite3.Connection,
    agent: AgentId | None,
    outcome: Outcome | None,
    since: Epoch | None,
    cursor: str | None,
    limit: int,
) -> list[Action]:
    """Actions of the history, newest first. Rows that cannot be read are left out."""
    where: list[str] = []
    values: list[Any] = []
    if agent is not None:
        where.append("instance_id = ? AND user_id = ?")
        values.extend(agent)
    for condition, value in (("outcome = ?", outcome), ("at >= ?", since)):
        if value is not None:
            where.append(condition)
            values.append(value)
    found: list[Action] = []
    for row in _newest_first(connection, where, values, cursor, limit):
        try:
            found.append(action(row))
        except UNREADABLE:
            continue
        if len(found) == limit:
            break
    return found


def _newest_first(
    connection: sqlite3.Connection, where: Sequence[str], values: Sequence[Any], cursor: str | None, limit: int
) -> Iterator[tuple[Any, ...]]:
    """Rows of the history, in pages of `limit` for as long as they are asked for."""
    while True:
        bounds = [*where, "id < ?"] if cursor is not None else where
        clause = f"WHERE {' AND '.join(bounds)}" if bounds else ""
        # The clause has names of columns only; every value is bound.
        sql = f"SELECT * FROM actions {clause} ORDER BY id DESC LIMIT ?"  # noqa: S608
        page = connection.execute(sql, (*values, *(() if cursor is None else (cursor,)), limit)).fetchall()
        yield from page
        if len(page) < limit:
            return
        cursor = page[-1][0]


def old_actions(connection: sqlite3.Connection, before: Epoch, limit: int) -> list[tuple[str]]:
    """Keys of actions that are older than `before`."""
    return connection.execute("SELECT id FROM actions WHERE at < ? LIMIT ?", (before, limit)).fetchall()


PUT_NUMBER = "INSERT OR REPLACE INTO recorded (number, id) VALUES (?, ?)"
"""In place of the number that an action got when it was put. Of several all are put, by rising numbers."""

FORGET_LAST_NUMBER = "DELETE FROM sqlite_sequence WHERE name = 'recorded'"
LAST_NUMBER = "INSERT INTO sqlite_sequence (name, seq) VALUES ('recorded', ?)"
"""The highest number that was ever given, behind `FORGET_LAST_NUMBER`."""


def numbered(connection: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, tuple[Any, ...]]]:
    """Rows of the history in the order in which they were committed, each with its number."""
    sql = (
        "SELECT recorded.number, actions.* FROM recorded JOIN actions ON actions.id = recorded.id "
        "WHERE recorded.number > ? ORDER BY recorded.number LIMIT ?"
    )
    return [(number, tuple(row)) for number, *row in connection.execute(sql, (after, limit))]


def recorded(connection: sqlite3.Connection, after: int, limit: int) -> Recorded:
    """Actions in the order in which they were committed. See `Outbox.recorded`."""
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'recorded'").fetchone()
    page = numbered(connection, after, limit)
    found: list[tuple[int, Action]] = []
    for number, row in page:
        try:
            found.append((number, action(row)))
        except UNREADABLE:
            continue
    return Recorded(tuple(found), page[-1][0] if len(page) == limit else max(last, after), last)
