"""The simulator's own count of who must be held: what it finds, and what it leaves alone because there is a doubt."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from watchdog.core.brake import BrakeRules
from watchdog.simulation.account import AgentAccount, Hearing, Taken
from watchdog.simulation.holding import Holding
from watchdog.simulation.process import Timers

BEAT_AT = 100.0
QUIET_AT = BEAT_AT + 0.6 * 35.0
SURE_AT = QUIET_AT + 5.0


@dataclass
class Someone:
    account: AgentAccount = field(default_factory=AgentAccount)


class Scene:
    def __init__(self, agents=6, silent=4, **rules):
        brake = BrakeRules(**{"fraction": 0.5, "min_agents": 3, "max_hold_s": 100.0, **rules})
        self.hearing = Hearing()
        self.hearing.up(0.0, up=True)
        self.people = {str(number): Someone() for number in range(agents)}
        self.count = Holding(Timers(brake=brake, flush=0.2, sweep=0.25), self.people, self.hearing)
        for number in range(agents):
            self.beat(number, BEAT_AT)
        self.silent = silent

    def beat(self, number, at, *, bye=False):
        account = self.people[str(number)].account
        session = account.session(str(number))
        session.accept(Taken(at, self.hearing.at(at), 0.0 if bye else 35.0, bye), 0, session.seq + 1)
        if not bye:
            account.heard(at)
            self.count.heard_at = self.hearing.at(at)

    def others_beat_until(self, now):
        for number in range(self.silent, len(self.people)):
            for at in range(110, int(now), 10):
                self.beat(number, float(at))


def test_as_many_silent_agents_as_the_rules_say_must_be_held():
    scene = Scene(silent=3)
    scene.others_beat_until(SURE_AT)
    assert "must be held" in (scene.count.sent("0", SURE_AT) or "")


def test_one_fewer_need_not():
    scene = Scene(silent=2)
    scene.others_beat_until(SURE_AT)
    assert scene.count.sent("0", SURE_AT) is None


def test_before_there_is_no_doubt_of_the_silence_nothing_is_said():
    scene = Scene(silent=3)
    scene.others_beat_until(QUIET_AT)
    assert scene.count.sent("0", QUIET_AT + 0.5) is None


def test_who_said_bye_is_neither_counted_nor_held():
    scene = Scene(silent=3)
    scene.others_beat_until(SURE_AT)
    scene.beat(2, BEAT_AT + 2.0, bye=True)
    assert scene.count.sent("2", SURE_AT) is None
    assert scene.count.sent("0", SURE_AT) is None


def test_silence_that_began_before_a_restart_proves_nothing():
    scene = Scene(silent=3)
    scene.hearing.up(105.0, up=False)
    scene.hearing.up(106.0, up=True)
    scene.others_beat_until(SURE_AT)
    assert scene.count.sent("0", SURE_AT + 1.0) is None


def test_a_restart_later_does_not_let_them_go():
    scene = Scene(silent=3)
    scene.others_beat_until(SURE_AT)
    scene.count.look(SURE_AT)
    scene.hearing.up(SURE_AT, up=False)
    scene.hearing.up(SURE_AT + 60.0, up=True)
    assert "must be held" in (scene.count.sent("0", SURE_AT + 75.0) or "")


def test_a_fresh_lease_and_timer_after_the_hold_are_enough():
    scene = Scene(silent=3, max_hold_s=200.0)
    scene.others_beat_until(240.0)
    scene.count.look(193.0)
    assert scene.count.sent("0", 230.0) is not None
    assert scene.count.sent("0", 232.0) is None


@pytest.mark.parametrize(("after_s", "allowed"), [(90.0, False), (105.0, True)])
def test_the_longest_hold_is_over_at_its_time_when_others_may_have_proven_the_path(after_s, allowed):
    scene = Scene(silent=3)
    at = QUIET_AT + after_s
    scene.others_beat_until(at)
    scene.people["0"].account.must_hold = at - 1.0
    assert (scene.count.sent("0", at) is None) is allowed


@pytest.mark.parametrize(("after_s", "allowed"), [(190.0, False), (805.0, True)])
def test_without_any_beat_it_lasts_four_times_as_long(after_s, allowed):
    scene = Scene(silent=6, max_hold_s=200.0)
    at = QUIET_AT + after_s
    scene.people["0"].account.must_hold = at - 1.0
    assert (scene.count.sent("0", at) is None) is allowed


def test_letting_go_too_early_is_told_and_at_the_end_of_the_hold_it_is_not():
    scene = Scene(silent=3)
    scene.others_beat_until(SURE_AT)
    assert "let go" in (scene.count.let_go("0", SURE_AT) or "")
    other = Scene(silent=3)
    other.others_beat_until(240.0)
    assert other.count.let_go("0", 240.0) is None


def test_under_an_operators_hold_nobody_who_is_silent_is_written_to_and_after_it_they_may_be():
    scene = Scene(silent=1)
    scene.count.ordered(110.0, hold=True, for_s=60.0)
    assert scene.count.sent("0", 145.0) == "written to while an operator holds"
    assert scene.count.sent("0", 171.0) is None


def test_an_operators_release_ends_what_had_to_be_held():
    scene = Scene(silent=3)
    scene.others_beat_until(SURE_AT)
    scene.count.look(SURE_AT)
    scene.count.ordered(SURE_AT, hold=False, for_s=60.0)
    assert scene.count.sent("0", SURE_AT + 1.0) is None


def test_a_page_that_may_be_silent_for_long_is_no_silence_while_another_is_heard():
    account = AgentAccount()
    account.session("throttled").accept(Taken(100.0, 100.0, 150.0, bye=False), 0, 1)
    account.session("visible").accept(Taken(180.0, 180.0, 35.0, bye=False), 0, 1)
    silence = account.silence()
    assert silence is not None
    assert silence.at == 180.0


def test_a_hold_that_has_begun_may_take_in_who_falls_silent_later():
    scene = Scene(silent=3)
    scene.others_beat_until(SURE_AT)
    scene.count.look(SURE_AT)
    for number in range(3):
        scene.beat(number, SURE_AT + 1.0)
    assert not scene.people["0"].account.may_hold
    at = SURE_AT + 30.0
    for number in range(1, 6):
        scene.beat(number, at)
    scene.count.look(at)
    assert scene.people["0"].account.may_hold
