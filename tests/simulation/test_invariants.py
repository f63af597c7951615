"""Each rule catches what it is there for: given a list of events that breaks it, and only it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from watchdog.core.model import Action, AgentId, Epoch, IntentKind, Outcome
from watchdog.sandbox.records import Call
from watchdog.simulation.account import AgentAccount, Hearing, Taken
from watchdog.simulation.clocks import START
from watchdog.simulation.invariants import CALM_S, Invariants, Rate
from watchdog.simulation.journal import Journal
from watchdog.simulation.process import Timers

NAMES = {"off": "Offline", "on": "Available"}


@dataclass
class Someone:
    account: AgentAccount = field(default_factory=AgentAccount)
    gone_at: float | None = None
    status: str = "Available"

    @property
    def present(self):
        return self.gone_at is None

    def shown(self):
        return self.status


@dataclass
class Scene:
    now: float = 0.0

    def __post_init__(self):
        self.anna = Someone()
        self.hearing = Hearing()
        self.hearing.up(0.0, up=True)
        self.journal = Journal(1, lambda: self.now)
        self.rules = Invariants(Timers(), {"anna": self.anna}, self.hearing, self.journal)
        self.seq = 0

    def beat(self, at, *, bye=False, session="s"):
        self.now = at
        self.seq += 1
        if not bye:
            self.anna.account.attempt(session, at, 35.0)
            self.anna.account.heard(at)
        account = self.anna.account.session(session)
        account.accept(Taken(at, self.hearing.at(at), 0.0 if bye else 35.0, bye), 0, self.seq)
        if bye:
            account.bye_at = account.ended_at = at

    def again(self, at):
        """A proxy repeats the last beat, and the daemon answers as if the session went on."""
        taken = Taken(at, self.hearing.at(at), 35.0, bye=False)
        session = self.anna.account.session("s")
        assert not session.accept(taken, 0, self.seq)
        session.repeats(taken, 0, self.seq, self.hearing.began_at)

    def restored(self, at):
        self.now = at
        self.rules.restoring("anna", at)
        self.call(at + 0.1, status="on")

    def sent(self, at):
        self.now = at
        self.rules.sent("anna", at)

    def call(self, at, *, effective=True, received_at=None, status="off"):
        self.now = at
        self.seq += 1
        params = {"AgentStatusId": status}
        call = Call(
            self.seq,
            START + at,
            START + (received_at or at),
            "PutUserStatus",
            "a",
            "r",
            "i",
            "anna",
            params,
            "ok",
            effective,
        )
        self.rules.logged([call], NAMES)

    @property
    def broken(self):
        return {violation.rule for violation in self.journal.violations}


@pytest.fixture
def scene():
    return Scene()


def action(outcome=Outcome.CONFIRMED, intent=IntentKind.SET_STATUS):
    agent = AgentId("i", "anna")
    return Action("1", Epoch(START), agent, intent, "Offline", outcome, "", {}, 1, 1.0)


def test_a_write_after_ttl_and_timer_breaks_nothing(scene):
    scene.beat(100.0)
    scene.sent(140.5)
    scene.call(140.6)
    scene.anna.status = "Offline"
    scene.rules.look(200.0)
    scene.rules.recorded([action()])
    assert scene.broken == set()


def test_a_write_before_ttl_and_timer_is_early(scene):
    scene.beat(100.0)
    scene.sent(138.0)
    assert "early" in scene.broken


def test_a_bye_ends_the_wait_and_the_timer_does_not(scene):
    scene.beat(100.0)
    scene.beat(110.0, bye=True)
    scene.sent(115.2)
    assert scene.broken == set()
    scene.journal.violations.clear()
    other = Scene()
    other.beat(100.0)
    other.beat(110.0, bye=True)
    other.sent(113.0)
    assert "early" in other.broken


def test_another_session_that_beats_makes_a_write_early(scene):
    scene.beat(100.0)
    scene.beat(130.0, session="second")
    scene.sent(141.0)
    assert "early" in scene.broken


@pytest.mark.parametrize("gap", ["down", "paused", "deaf"])
def test_time_in_which_nobody_listened_is_no_silence(scene, gap):
    scene.beat(100.0)
    if gap == "down":
        scene.hearing.up(110.0, up=False)
        scene.hearing.up(140.0, up=True)
    elif gap == "paused":
        scene.hearing.paused(110.0, paused=True)
        scene.hearing.paused(140.0, paused=False)
    else:
        scene.hearing.deaf(110.0, deaf=True)
        scene.hearing.deaf(140.0, deaf=False)
    scene.sent(160.0)
    assert scene.broken == {"early"}


def test_a_write_to_whose_page_is_there_breaks_a_promise_though_nothing_was_heard(scene):
    scene.hearing.up(50.0, up=False)
    for at in range(10, 200, 10):
        scene.anna.account.attempt("s", float(at), 35.0)
    scene.hearing.up(160.0, up=True)
    scene.sent(200.0)
    assert "present" in scene.broken


def test_a_write_to_whose_page_was_cut_off_for_long_breaks_nothing(scene):
    scene.beat(100.0)
    scene.sent(141.0)
    scene.beat(141.2)
    assert scene.broken == set()


def test_a_write_right_after_a_gap_to_who_came_back_in_it(scene):
    scene.beat(100.0)
    scene.beat(101.0, bye=True)
    scene.hearing.up(110.0, up=False)
    scene.anna.account.attempt("new", 115.0, 35.0)
    scene.hearing.up(120.0, up=True)
    scene.sent(121.0)
    assert scene.broken == {"returned"}


def test_more_calls_than_burst_and_rate(scene):
    scene.rules.rates["PutUserStatus"] = Rate(2.0, 5.0)
    for number in range(40):
        scene.call(100.0 + number / 2, effective=False)
    scene.rules.count(1e9)
    assert scene.broken == set()
    for number in range(6):
        scene.call(200.0 + number / 100, effective=False)
    scene.rules.count(1e9)
    assert scene.broken == {"rate"}


def test_calls_logged_out_of_order_are_counted_in_the_order_of_arrival():
    rate = Rate(1.0, 1.0)
    for at in (3.0, 1.0, 2.0):
        rate.add(at)
    assert rate.most(10.0) == 0.0


def test_a_ghost_who_is_not_set(scene):
    scene.beat(500.0)
    scene.anna.gone_at = 505.0
    scene.rules.look(560.0)
    assert scene.broken == set()
    scene.rules.look(580.0)
    assert scene.broken == {"ghost"}


def test_a_fault_excuses_a_ghost_for_a_while_only(scene):
    scene.beat(500.0)
    scene.anna.gone_at = 505.0
    scene.rules.disturbance.begin()
    scene.rules.look(5_000.0)
    scene.rules.disturbance.end(5_000.0)
    scene.rules.look(5_000.0 + CALM_S)
    assert scene.broken == set()
    scene.rules.look(5_000.0 + CALM_S + 100.0)
    assert scene.broken == {"ghost"}


def test_two_effective_changes_in_one_absence(scene):
    scene.beat(100.0)
    scene.call(150.0)
    scene.beat(200.0)
    scene.call(250.0)
    assert scene.broken == set()
    scene.call(260.0)
    assert scene.broken == {"twice"}


def test_a_change_that_a_person_replaced_before_the_log_was_read_is_none_of_the_next_absence(scene):
    scene.beat(100.0)
    # The person chose a status right after the write; the log is read once a second.
    scene.anna.account.chosen_at = 150.3
    scene.call(150.1)
    scene.call(190.0)
    assert scene.broken == set()
    scene.call(200.0)
    assert scene.broken == {"twice"}


def test_an_effective_change_without_an_action(scene):
    scene.beat(100.0)
    scene.call(150.0)
    scene.beat(200.0)
    scene.call(250.0)
    scene.rules.recorded([action()])
    assert scene.broken == {"history"}


def test_a_write_that_takes_effect_late_has_the_action_of_its_absence(scene):
    scene.beat(100.0)
    scene.call(150.0)
    scene.beat(200.0)
    scene.call(210.0, received_at=160.0)
    scene.rules.recorded([action()])
    assert scene.broken == set()


def test_a_restore_of_whom_nothing_is_heard(scene):
    scene.beat(100.0)
    scene.restored(134.0)
    assert scene.broken == set()
    scene.restored(137.0)
    assert scene.broken == {"restored"}


def test_a_lease_lasts_through_the_grace_after_a_gap_and_no_longer(scene):
    scene.beat(100.0)
    scene.hearing.paused(110.0, paused=True)
    scene.hearing.paused(115.0, paused=False)
    # 2 s of the pause are heard; grace is an interval, and a tick more or less on both sides.
    scene.restored(147.0)
    assert scene.broken == set()
    scene.restored(153.0)
    assert scene.broken == {"restored"}


def test_a_repeated_beat_is_heard_by_a_process_that_does_not_know_it_only(scene):
    scene.beat(100.0)
    scene.again(160.0)
    scene.restored(161.0)
    assert scene.broken == {"restored"}
    other = Scene()
    other.beat(100.0)
    other.hearing.up(120.0, up=False)
    other.hearing.up(125.0, up=True)
    other.again(160.0)
    other.restored(161.0)
    assert other.broken == set()


def test_a_beat_that_was_answered_with_an_error_is_heard_when_it_comes_again(scene):
    scene.beat(100.0)
    scene.seq += 1
    scene.anna.account.session("s").seq = scene.seq
    scene.again(160.0)
    scene.restored(161.0)
    assert scene.broken == set()


def test_restores_between_which_a_late_write_struck_have_one_action(scene):
    scene.beat(100.0)
    scene.beat(110.0)
    scene.restored(111.0)
    scene.call(112.0, received_at=90.0)
    scene.restored(113.0)
    assert scene.anna.account.restores == 1
    scene.rules.recorded([])
    assert scene.broken == {"history"}


def test_a_restore_after_the_action_of_another_has_its_own(scene):
    scene.beat(100.0)
    scene.restored(111.0)
    scene.anna.account.restoring = False
    scene.restored(113.0)
    scene.rules.recorded([action(intent=IntentKind.RESTORE)])
    assert scene.broken == {"history"}


def test_who_was_let_go_and_is_not_let_through_is_as_good_as_gone(scene):
    scene.hearing.deaf(0.0, deaf=True)
    for at in range(0, 210, 10):
        scene.anna.account.attempt("s", at, 60.0)
    scene.anna.account.let_go = True
    scene.sent(215.0)
    assert scene.broken == {"present"}
    scene.journal.violations.clear()
    scene.sent(225.0)
    assert scene.broken == set()
    scene.anna.account.let_go = False
    scene.sent(225.0)
    assert scene.broken == {"present"}


def test_who_chose_a_status_after_a_write_is_no_ghost_until_heard_again(scene):
    account = scene.anna.account
    scene.beat(100.0)
    account.overruled = True
    account.attempt("s", 150.0, 35.0)
    scene.anna.gone_at = 160.0
    scene.rules.look(1_000.0)
    assert scene.broken == set()
    scene.beat(1_000.0)
    scene.rules.look(2_000.0)
    assert scene.broken == {"ghost"}


def test_giving_up_is_a_ghost(scene):
    scene.rules.recorded([action(Outcome.FAILED)])
    assert scene.broken == {"ghost"}


def test_a_violation_names_its_seed_and_the_agents_last_events_alone(scene):
    scene.journal.add("beats", "anna")
    scene.journal.add("beats", "ben")
    scene.journal.add("process 1 starts")
    scene.journal.violate("early", "too early", "anna")
    (violation,) = scene.journal.violations
    assert "simulate --seed 1 --check" in str(violation)
    assert len(violation.events) == 3
    assert not any("ben" in line for line in violation.events)
