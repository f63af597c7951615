"""Rows of the table of changes to values and back; see `changes.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from watchdog.core.model import AgentId, Epoch, Observed, Outcome, Running
from watchdog.core.undo import Change, Left, Undo, Why
from watchdog.stores.columns import UNREADABLE, Unreadable, real, text


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
        orjson.dumps([(each.session_id.hex(), *each[1:]) for each in change.sessions]).decode(),
        change.silent_since,
        change.tripped,
        change.ordered_until,
        change.back_at,
        None if undo is None else orjson.dumps(undo).decode(),
        change.status,
        change.profile,
        change.greeted,
        change.ordered_by,
    )


def changes(rows: Iterable[tuple[Any, ...]]) -> tuple[list[Change], list[Unreadable]]:
    """Changes, and rows that cannot be read."""
    found: list[Change] = []
    unreadable: list[Unreadable] = []
    for row in rows:
        try:
            found.append(_change(row))
        except UNREADABLE as error:
            unreadable.append(Unreadable("changes", row, error))
    return found, unreadable


def _change(row: tuple[Any, ...]) -> Change:
    instance_id, user_id, token, epoch, action_id, target, former, outcome, written_at, unanswered_at, *rest = row
    settled, running, sessions, silent_since, tripped, ordered_until, back_at, undo, status, profile, *last = rest
    # Of a server's rows those from before it was kept do not have the last.
    greeted, ordered_by = last if len(last) > 1 else (*last, None)
    return Change(
        agent=AgentId(instance_id, user_id),
        token=token,
        epoch=epoch,
        action_id=action_id,
        target=target,
        former=former,
        outcome=Outcome(outcome),
        written_at=Epoch(real(written_at)),
        unanswered_at=unanswered_at,
        settled=Observed(settled),
        running=Running(real(running)),
        sessions=tuple(_left(*each) for each in orjson.loads(sessions)),
        silent_since=silent_since,
        tripped=bool(tripped),
        ordered_until=ordered_until,
        back_at=back_at,
        undo=None if undo is None else _undo(orjson.loads(undo)),
        status=text(status),
        profile=None if profile is None else text(profile),
        greeted=bool(greeted),
        ordered_by=None if ordered_by is None else text(ordered_by),
    )


def _left(key: str, ttl: float, heard: float, incarnation: int, seq: int | None) -> Left:
    return Left(bytes.fromhex(key), float(ttl), Observed(float(heard)), incarnation, seq)


def _undo(row: dict[str, Any]) -> Undo:
    return Undo(**{**row, "why": Why(row["why"])})
