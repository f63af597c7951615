"""One agent's records make no sense, or every call about one agent fails: the others are caught all the same."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.scenarios.harness import INSTANCE, TOKEN, new_session, until
from tests.scenarios.stories import Stage, story
from watchdog.sandbox.records import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _spoil(file: Path, table: str, column: str, user: str) -> None:
    """Somebody, or a bad disk, writes nonsense into an agent's rows."""
    with closing(sqlite3.connect(file)) as connection, connection:
        changed = connection.execute(f"UPDATE {table} SET {column} = 'eaten by a whale' WHERE user_id = ?", (user,))
        assert changed.rowcount == 1


@story(agents=8, seconds=40)
def test_records_that_cannot_be_read_are_set_aside_and_concern_nobody_else(stage: Stage) -> None:
    stage.start()
    spoilt_here, spoilt_gone, spoilt_session, ghost, *present = stage.users
    with stage.crowd([spoilt_here, *present]) as crowd:
        for user in (spoilt_gone, spoilt_session, ghost):
            stage.daemon.beat(user, new_session())
        stage.all_live()
        stage.daemon.kill()
        _spoil(stage.folder / "watchdog.db", "agents", "epoch", spoilt_here)
        _spoil(stage.folder / "watchdog.db", "agents", "seen", spoilt_gone)
        _spoil(stage.folder / "watchdog.db", "sessions", "horizon", spoilt_session)
        stage.start()
        back = time.monotonic()
        (problem,) = [each for each in stage.status()["problems"] if each["code"] == "store_rows_unreadable"]
        told = {event["row"].partition(" (")[0] for event in stage.daemon.events("store.row_unreadable")}
        assert told == {
            f"agents {INSTANCE}/{spoilt_here}",
            f"agents {INSTANCE}/{spoilt_gone}",
            f"sessions {INSTANCE}/{spoilt_session}",
        }
        assert any(row in problem["detail"] for row in told)
        until(lambda: crowd.heard(back) == {spoilt_here, *present}, "all are heard again")
        # Of whom nothing is known nobody can tell that they have gone; whose record is whole is caught.
        stage.set_offline(ghost)
        stage.nobody_was_touched([user for user in stage.users if user != ghost])
        stage.all_live(1 + len(present))
        # Once heard again they are agents as any other.
        for user in (spoilt_gone, spoilt_session):
            assert stage.daemon.beat(user, new_session()).status_code == 200
        for user in (spoilt_gone, spoilt_session):
            stage.set_offline(user)
        crowd.leave(spoilt_here)
        stage.set_offline(spoilt_here)
        stage.nobody_was_touched(present)


def _last_beats(stage: Stage, *users: str) -> None:
    """Of all at once, so that they are due at once and read in one call."""
    beats = [{"instance_id": INSTANCE, "user_id": user, "session_id": new_session()} for user in users]
    answer = stage.daemon.client.post(
        f"{stage.daemon.url}/v1/heartbeats",
        json={"heartbeats": beats},
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert answer.json() == {"accepted": len(users), "rejected": []}


def _one_fails(
    stage: Stage, fault: FaultKind, then: Callable[[Stage, str], None], operation: str | None = None
) -> None:
    """Each such call that names one agent fails, a read of many with it; the others who left are set. Then this."""
    stage.start()
    poison, first, second, *present = stage.users
    with stage.crowd(present):
        stage.all_live(len(present))
        stage.connect.model.add_fault(Fault(fault, operation, user_id=poison))
        _last_beats(stage, poison, first, second)
        until(lambda: _failures(stage, operation), "calls fail")
        for user in (first, second):
            stage.set_offline(user)
        stage.nobody_was_touched([poison, *present])
        then(stage, poison)
        stage.nobody_was_touched(present)
        stage.all_live(len(present))


def _failures(stage: Stage, operation: str | None) -> list[Any]:
    calls = stage.connect.model.calls(operation=operation or "GetCurrentUserData")
    return [call for call in calls if call.outcome != "ok"]


def _set_when_mended(stage: Stage, poison: str) -> None:
    stage.connect.model.clear_faults()
    stage.set_offline(poison, 90)


def _given_up(stage: Stage, poison: str) -> None:
    told = (f"{INSTANCE}/{poison}", "failed")
    until(lambda: told in [(each["agent"], each["outcome"]) for each in stage.daemon.actions()], "it is told")


@story(agents=8, seconds=30)
def test_an_agent_whose_every_call_is_refused_as_invalid_stops_nobody_and_is_told(stage: Stage) -> None:
    _one_fails(stage, FaultKind.INVALID, _given_up)


@story(agents=8, seconds=60)
def test_an_agent_whose_every_call_fails_stops_nobody_and_is_set_when_it_does_not(stage: Stage) -> None:
    _one_fails(stage, FaultKind.INTERNAL, _set_when_mended)


@story(agents=8, seconds=60)
def test_an_agent_whose_writes_do_nothing_stops_nobody_and_is_set_when_they_do(stage: Stage) -> None:
    _one_fails(stage, FaultKind.NO_EFFECT, _set_when_mended, "PutUserStatus")
