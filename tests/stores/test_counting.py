"""The count of sessions, a part at a time."""

from __future__ import annotations

from tests.contract.world import ANNA, session
from watchdog.core.model import Epoch, Observed
from watchdog.stores import counting
from watchdog.stores.counting import LiveSessions
from watchdog.stores.facts import Agent, Session


def rows(number: int) -> dict[bytes, Session]:
    """Sessions of which the first ends at 1, the second at 2, and so on."""
    made = {session(each): Session(Agent(ANNA), session(each)) for each in range(1, number + 1)}
    for each, row in enumerate(made.values(), 1):
        row.expires_at, row.seen = Observed(float(each)), Epoch(0.0)
    return made


def test_few_sessions_are_counted_each_time() -> None:
    sessions = rows(10)
    live = LiveSessions(sessions)
    assert [live.count(Observed(at)) for at in (1.0, 1.1, 10.0, 10.1)] == [10, 9, 1, 0]
    sessions[session(10)].closed_at = Observed(0.0)
    assert live.count(Observed(10.0)) == 0


def test_many_sessions_are_counted_in_parts_and_a_sum_is_told_when_it_is_whole() -> None:
    sessions = rows(3 * counting.AT_ONCE)
    live = LiveSessions(sessions)
    assert live.count(Observed(1.0)) == 3 * counting.AT_ONCE
    late = Observed(3.0 * counting.AT_ONCE)
    assert [live.count(late) for _ in range(3)] == [3 * counting.AT_ONCE, 3 * counting.AT_ONCE, 1]


def test_no_question_looks_at_more_than_its_part() -> None:
    looked = 0

    class Row(Session):
        @property
        def expires_at(self) -> Observed:  # type: ignore[override]
            nonlocal looked
            looked += 1
            return Observed(9.0)

        @expires_at.setter
        def expires_at(self, value: Observed) -> None:
            pass

    sessions: dict[bytes, Session] = {session(each): Row(Agent(ANNA), session(each)) for each in range(50_000)}
    live = LiveSessions(sessions)
    live.count(Observed(0.0))
    looked = 0
    assert live.count(Observed(0.0)) == 50_000
    assert looked == counting.AT_ONCE
