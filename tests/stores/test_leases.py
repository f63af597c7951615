"""The lease table's own bookkeeping, which the contract does not show."""

from __future__ import annotations

from copy import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.world import ANNA, TIMER, TTL, session
from watchdog.core.model import AgentState, Beat, BeatType, Epoch, Notice, Observed, Outcome, Reply, Running, Tear
from watchdog.stores import leases
from watchdog.stores.facts import Agent, Session
from watchdog.stores.leases import EVIDENCE_SESSIONS, MAX_SESSIONS, LeaseTable


def test_entries_that_were_left_behind_do_not_pile_up() -> None:
    """Each reload files the agent earlier and leaves an entry; each is dropped when its bucket comes up."""
    table = LeaseTable(TIMER)
    clock = 0.0
    for number in range(1, 201):
        clock += 1.0
        for kind, ttl in ((BeatType.HELLO, TTL), (BeatType.BYE, 0.0)):
            table.apply(Beat(ANNA, session(number), kind, ttl=ttl), Observed(clock), Epoch(0.0))
            table.expire(Observed(clock))
    for _ in range(200):
        clock += 1.0
        table.apply(Beat(ANNA, session(999), ttl=TTL), Observed(clock), Epoch(0.0))
        table.expire(Observed(clock))
    assert sum(len(bucket.agents) for bucket in table._buckets.values()) == 1
    assert table.phases[AgentState.LIVE] == 1


def test_the_phases_count_every_agent_once() -> None:
    table = LeaseTable(TIMER)
    for number in range(1, 101):
        agent = ANNA._replace(user_id=f"agent-{number}")
        table.apply(Beat(agent, session(number), ttl=float(number)), Observed(0.0), Epoch(0.0))
    for second in range(1, 110):
        table.expire(Observed(float(second) + 0.5))
        assert sum(table.phases.values()) == 100
        assert table.phases[AgentState.LIVE] == max(0, 100 - second)
        assert table.phases[AgentState.DUE] == len(table.due) == min(100, max(0, second - int(TIMER)))


def test_whoever_is_not_held_any_more_has_no_turn_and_takes_no_room() -> None:
    table = LeaseTable(TIMER)
    agents = [ANNA._replace(user_id=f"agent-{number}") for number in range(4)]
    for number, agent in enumerate(agents):
        table.apply(Beat(agent, session(number), ttl=TTL), Observed(0.0), Epoch(0.0))
        table.hold(table.agents[agent], Running(30.0), Observed(30.0))
    table.let_go(table.agents[agents[0]], Running(32.0), Observed(32.0), fresh=True)
    table.apply(Beat(agents[1], session(1), ttl=TTL), Observed(33.0), Epoch(0.0))
    table.forget(table.agents[agents[2]])
    assert table.held.take(ANNA.instance_id, 0.0, 10, Running(39.0)) == [agents[3]]
    assert table.held.take("another", 0.0, 10, Running(39.0)) == []


def opened(table: LeaseTable, number: int, clock: float, ttl: float = TTL, kind: BeatType = BeatType.BEAT) -> None:
    ttl = 0.0 if kind is BeatType.BYE else ttl
    table.apply(Beat(ANNA, session(number), kind, ttl=ttl), Observed(clock), Epoch(0.0))
    table.expire(Observed(clock))


def test_an_agent_has_so_many_sessions_at_most_and_its_evidence_stays_small() -> None:
    """A client that makes a new id for each beat."""
    table = LeaseTable(TIMER)
    for number in range(1, 1000):
        opened(table, number, float(number))
        assert table.agents[ANNA].ends_at == number + TTL
    assert len(table.sessions) == len(table.agents[ANNA].sessions) == MAX_SESSIONS
    told = table.evidence(table.agents[ANNA], Observed(1100.0))
    assert (len(told["sessions"]), told["sessions_in_all"]) == (EVIDENCE_SESSIONS, MAX_SESSIONS)


def test_a_session_that_makes_room_shortens_no_deadline() -> None:
    """More pages than there is room for, all open; then all but the one that was pushed out say bye."""
    table = LeaseTable(TIMER)
    for number in range(MAX_SESSIONS + 1):
        opened(table, number, 0.0, ttl=20.0 + number)
    assert session(0) not in table.sessions
    for number in range(1, MAX_SESSIONS + 1):
        opened(table, number, 1.0, kind=BeatType.BYE)
    assert table.agents[ANNA].ends_at == 20.0
    table.expire(Observed(20.0 + TIMER))
    assert not table.due
    table.expire(Observed(20.0 + TIMER + 0.1))
    assert ANNA in table.due


def test_silence_makes_room_before_a_bye_and_a_bye_before_a_page_that_is_there() -> None:
    table = LeaseTable(TIMER)
    opened(table, 1, 0.0, ttl=150.0)
    opened(table, 2, 0.0)
    opened(table, 2, 1.0, kind=BeatType.BYE)
    opened(table, 3, 2.0, ttl=5.0)
    for number in range(4, MAX_SESSIONS + 1):
        opened(table, number, 8.0, ttl=200.0)
    for number, gone in ((100, 3), (101, 2), (102, 1)):
        assert session(gone) in table.sessions
        opened(table, number, 9.0, ttl=200.0)
        assert session(gone) not in table.sessions


def test_the_evidence_tells_of_a_torn_socket_until_a_beat_renews() -> None:
    table = LeaseTable(TIMER)
    table.apply(Beat(ANNA, session(1), ttl=TTL, tether=7), Observed(1.0), Epoch(0.0))
    assert table.tear(Tear(session(1), 7, 10.0), Observed(2.0))
    agent = table.agents[ANNA]
    assert table.evidence(agent, Observed(20.0))["sessions"][0]["ended"] == "torn"
    assert table.evidence(agent, Observed(20.0))["sessions"][0]["ended_s_ago"] == 8
    table.apply(Beat(ANNA, session(1), ttl=TTL), Observed(3.0), Epoch(0.0))
    assert table.evidence(agent, Observed(60.0))["sessions"][0]["ended"] == "silence"


class Judged(LeaseTable):
    """Every beat is judged; none is known to go on as before."""

    def _goes_on(self, session: Session, beat: Beat, clock: Observed, seen: Epoch) -> Reply | None:
        del session, beat, clock, seen


BEATS = st.builds(
    Beat,
    agent=st.sampled_from([ANNA, ANNA, ANNA._replace(user_id="other")]),
    session_id=st.sampled_from([session(1), session(2)]),
    type=st.sampled_from([*BeatType, BeatType.BEAT, BeatType.BEAT, BeatType.BEAT]),
    incarnation=st.sampled_from([0, 0, 0, 1]),
    seq=st.none() | st.integers(0, 6),
    ttl=st.sampled_from([TTL, TTL, TTL, TTL / 2, TTL + 5, 2 * TTL, None]),
    hidden=st.booleans(),
    main_driver=st.booleans(),
    tether=st.none() | st.integers(1, 2),
)
STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 1.0, TTL / 2, TTL, TTL + TIMER]), BEATS), min_size=8, max_size=20)


def facts(table: LeaseTable) -> list[dict[str, Any]]:
    """All that is known of all sessions and agents."""
    rows = [*table.sessions.values(), *table.agents.values()]
    names = {
        Session: Session.__slots__,
        Agent: [each for each in Agent.__slots__ if each not in ("_sessions", "bucket")],
    }
    found = [{name: getattr(row, name) for name in names[type(row)]} for row in rows]
    for each in found:
        each["agent"] = each["agent"].id if "agent" in each else None
    return found


@settings(max_examples=150)
@given(STEPS)
def test_a_beat_that_only_goes_on_does_what_it_would_do_if_it_were_judged(steps: list[tuple[float, Beat]]) -> None:
    quick, judged = LeaseTable(TIMER), Judged(TIMER)
    clock = 1000.0
    for passed_s, beat in steps:
        clock += passed_s
        if beat.type is BeatType.BYE:
            beat.ttl = 0.0
        one, other = (table.apply(beat, Observed(clock), Epoch(clock)) for table in (quick, judged))
        assert (one.verdict, one.live, one.notice) == (other.verdict, other.live, other.notice)
        assert one.left_s == pytest.approx(other.left_s)
        for table in (quick, judged):
            table.expire(Observed(clock))
        assert facts(quick) == facts(judged)
        assert (quick.dirty.sessions.keys(), quick.phases) == (judged.dirty.sessions.keys(), judged.phases)
        for table in (quick, judged):
            table.dirty.sessions.clear()


def test_who_had_no_dealings_shares_none() -> None:
    table = LeaseTable(TIMER)
    other = ANNA._replace(user_id="other")
    for number, agent in enumerate((ANNA, other)):
        table.apply(Beat(agent, session(number), ttl=TTL), Observed(0.0), Epoch(0.0))
    table.agents[ANNA].notice = Notice("Offline", Epoch(1.0), "why")
    row = copy(table.agents[ANNA])
    row.settle(0, Outcome.CONFIRMED, None)
    assert (table.agents[other].notice, table.agents[other].last_outcome) == (None, None)
    assert (table.agents[ANNA].last_outcome, row.last_outcome) == (None, Outcome.CONFIRMED)
    assert row.sessions == table.agents[ANNA].sessions


@pytest.mark.parametrize(("number", "ahead_s"), [(10, leases.HORIZON_S), (200, 200.0)])
def test_the_more_sessions_the_further_ahead_are_horizons(
    monkeypatch: pytest.MonkeyPatch, number: int, ahead_s: float
) -> None:
    monkeypatch.setattr(leases, "HORIZONS_PER_S", 1)
    table = LeaseTable(TIMER)
    for clock in (0.0, 1000.0):
        for each in range(number):
            table.apply(Beat(ANNA._replace(user_id=f"{each}"), session(each), ttl=TTL), Observed(clock), Epoch(0.0))
    assert {row.horizon - row.expires_at for row in table.sessions.values()} == {ahead_s}
