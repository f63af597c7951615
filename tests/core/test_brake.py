"""The brake as values: a tick comes in, a state and a way out come out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.core.brake import (
    ALL,
    CALM_TICKS,
    HOLDS,
    PROOF_S,
    SILENCE_S,
    TRANSITIONS,
    UNPROVEN,
    Brake,
    BrakeRules,
    Event,
    Exit,
    Level,
    Order,
    Proof,
    Reading,
    State,
    levels,
    step,
    threshold,
)
from watchdog.core.holds import why
from watchdog.core.model import Epoch, Running

RULES = BrakeRules(fraction=0.3, min_agents=5, max_hold_s=900.0)
TICK = 0.25
CALM = Reading(baseline=(40, 40), awake=40, pace=2.0, beats=1)
SILENT = Reading(quiet=(40, 40), baseline=(40, 40), held=40)


@dataclass
class Story:
    """One group, tick by tick."""

    rules: BrakeRules = RULES
    brake: Brake = field(default_factory=Brake)
    now: float = 100.0
    exit: Exit = Exit.STAY
    order: Order | None = None

    def ticks(self, number: int, reading: Reading) -> State:
        """Lets ticks pass; `exit` is the last one that was not STAY."""
        for _ in range(number):
            self.now += TICK
            running = Running(self.now)
            order = self.order if self.order is not None and self.order.until > running else None
            self.brake, left = step(self.brake, reading, order, self.rules, running, Epoch(self.now), TICK)
            self.exit = self.exit if left is Exit.STAY else left
        return self.brake.state

    def wait(self, seconds: float, reading: Reading) -> State:
        return self.ticks(round(seconds / TICK), reading)

    def leaves(self, within_s: float, *readings: Reading) -> float:
        """Lets ticks pass until the hold is left, each with the next of the readings. Returns after which time."""
        begun = self.now
        for number in range(round(within_s / TICK)):
            if self.ticks(1, readings[number % len(readings)]) is State.CLEAR:
                return self.now - begun
        raise AssertionError(f"not within {within_s} s: {self.brake}")

    def orders(self, *, hold: bool, for_s: float) -> None:
        self.order = Order(hold, ALL, Running(self.now + for_s), "maintenance")


def quiet(number: int, of: int = 40, **more: object) -> Reading:
    awake = of - number
    facts = {"quiet": (number, number), "baseline": (of, of), "awake": awake, "pace": awake / 21, "held": number}
    return Reading(**{**facts, **more})  # type: ignore[arg-type]


# The level.


@pytest.mark.parametrize(
    ("baseline", "least"),
    [(0, 5), (6, 5), (10, 5), (16, 5), (17, 6), (20, 6), (40, 12), (100, 30), (101, 31)],
)
def test_the_threshold_is_the_fraction_and_never_less_than_the_minimum(baseline: int, least: int) -> None:
    assert threshold(baseline, RULES) == least


def test_either_window_trips() -> None:
    for reading in (Reading((12, 0), (40, 40), 20), Reading((0, 12), (40, 40), 20)):
        story = Story()
        assert story.ticks(1, reading) is State.HOLDING
        assert story.brake.level is not None
        assert (story.brake.level.quiet, story.brake.level.baseline, story.brake.level.threshold) == (12, 40, 12)


def test_one_agent_less_than_the_threshold_trips_nothing() -> None:
    assert Story().wait(1000, quiet(11)) is State.CLEAR


def test_it_trips_at_once() -> None:
    assert Story().ticks(1, quiet(12)) is State.HOLDING


# Leaving.


def test_who_returns_ends_the_hold_after_some_calm_ticks() -> None:
    story = Story()
    story.ticks(1, SILENT)
    assert story.ticks(CALM_TICKS - 1, CALM) is State.HOLDING
    assert story.ticks(1, CALM) is State.CLEAR
    assert story.exit is Exit.STAY


def test_a_tick_above_the_threshold_begins_the_calm_anew() -> None:
    story = Story()
    story.ticks(1, SILENT)
    for _ in range(20):
        story.ticks(CALM_TICKS - 1, CALM)
        assert story.ticks(1, quiet(12, held=0)) is State.HOLDING
    assert story.ticks(CALM_TICKS, CALM) is State.CLEAR


def test_beats_of_others_for_a_minute_give_those_who_are_held_a_fresh_lease() -> None:
    story = Story()
    story.ticks(1, quiet(40, of=100))
    beating = quiet(40, of=100, beats=1)  # 4 a second of 60 agents who owe 2.9
    calm = replace(beating, quiet=(0, 40))
    assert PROOF_S <= story.leaves(PROOF_S + 1, calm) < PROOF_S + 1
    assert story.exit is Exit.FRESH


def test_the_path_is_not_proven_while_others_fall_silent() -> None:
    story = Story()
    beating = quiet(40, of=100, beats=1)
    assert story.wait(3 * PROOF_S, beating) is State.HOLDING
    assert story.leaves(10, replace(beating, quiet=(0, 40))) == TICK * CALM_TICKS


def test_agents_who_all_beat_at_the_same_moment_prove_the_path_as_well() -> None:
    story = Story()
    story.ticks(1, SILENT)
    silent = replace(quiet(27, of=40), quiet=(0, 27))
    assert story.leaves(PROOF_S + 11, replace(silent, beats=13), *[silent] * 39) >= PROOF_S
    assert story.exit is Exit.FRESH


def test_a_few_are_not_silent_altogether_while_another_group_is_heard() -> None:
    assert Story().wait(100, quiet(4, of=4, others=1)) is State.CLEAR


def test_half_of_the_beats_that_are_owed_prove_nothing() -> None:
    story = Story()
    story.ticks(1, quiet(40, of=100))
    for _ in range(1000):
        story.ticks(1, replace(quiet(40, of=100, beats=1), quiet=(0, 40), awake=200, pace=200 / 21))
    assert story.brake.state is State.HOLDING
    assert story.brake.proof.proven_at is None


def test_a_burst_of_beats_proves_nothing() -> None:
    story = Story()
    story.ticks(1, quiet(40, of=100))
    story.ticks(1, replace(quiet(40, of=100), quiet=(0, 40), beats=100_000))
    assert story.wait(300, replace(quiet(40, of=100), quiet=(0, 40))) is State.HOLDING
    assert story.exit is Exit.STAY


@pytest.mark.parametrize(("ttl", "every"), [(35, 10), (35, 20), (150, 60), (3, 1)])
def test_one_agent_who_beats_proves_the_path(ttl: float, every: int) -> None:
    story = Story()
    story.ticks(1, SILENT)
    one = quiet(39, of=40, pace=1 / (0.6 * ttl))
    silent = replace(one, quiet=(0, 39))
    beating = [replace(silent, beats=1), *[silent] * round(every / TICK - 1)]
    assert PROOF_S <= story.leaves(PROOF_S + 5, *beating) <= PROOF_S + 5
    assert story.exit is Exit.FRESH


def test_one_beat_alone_proves_nothing() -> None:
    story = Story()
    story.ticks(1, SILENT)
    one = replace(quiet(39, of=40, pace=1 / 90), quiet=(0, 39))
    story.ticks(1, replace(one, beats=1))
    assert story.wait(300, one) is State.HOLDING
    assert story.exit is Exit.STAY


def test_without_proof_there_is_an_alarm_and_the_hold_goes_on_to_four_times_its_length() -> None:
    story = Story()
    story.ticks(1, SILENT)
    assert story.ticks(1, replace(SILENT, longest_s=899.9)) is State.HOLDING
    assert story.brake.limit_s(RULES, Running(story.now)) == UNPROVEN * 900
    assert story.ticks(1, replace(SILENT, longest_s=900.0)) is State.ALARM
    assert story.brake.limit_s(RULES, Running(story.now)) == UNPROVEN * 900


def test_with_proof_there_is_no_alarm_and_the_limit_is_the_plain_one() -> None:
    story = Story()
    rolling = quiet(40, of=100, beats=1)
    story.wait(2 * PROOF_S, rolling)
    assert story.brake.limit_s(RULES, Running(story.now)) == 900
    assert story.ticks(1, replace(rolling, longest_s=900.0)) is State.HOLDING
    story.wait(PROOF_S + 21 + TICK, replace(rolling, beats=0))
    assert story.brake.limit_s(RULES, Running(story.now)) == UNPROVEN * 900


def test_an_alarm_ends_with_the_proof() -> None:
    story = Story()
    story.ticks(1, SILENT)
    assert story.ticks(1, replace(SILENT, longest_s=900.0)) is State.ALARM
    assert story.wait(PROOF_S + 1, replace(quiet(5, beats=1), quiet=(0, 5))) is State.CLEAR
    assert story.exit is Exit.FRESH


# Total silence.


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_few_who_all_fall_silent_are_held_for_two_minutes(number: int) -> None:
    story = Story()
    assert story.ticks(1, quiet(number, of=number)) is State.LISTENING
    assert story.wait(SILENCE_S - TICK, quiet(number, of=number)) is State.LISTENING
    assert story.ticks(1, quiet(number, of=number)) is State.CLEAR
    assert story.exit is Exit.DUE


def test_one_agent_who_falls_silent_is_not_held() -> None:
    assert Story().wait(100, quiet(1, of=1)) is State.CLEAR


def test_a_few_who_fall_silent_while_another_is_heard_are_not_held() -> None:
    assert Story().wait(100, quiet(4, of=5)) is State.CLEAR


def test_a_total_silence_that_becomes_a_mass_is_held_as_one() -> None:
    story = Story()
    story.ticks(1, quiet(4, of=4))
    assert story.ticks(1, quiet(5, of=5)) is State.HOLDING


# Orders.


def test_an_operator_holds_until_the_order_is_over() -> None:
    story = Story()
    story.orders(hold=True, for_s=60)
    assert story.wait(59, replace(CALM, held=1)) is State.ORDERED
    assert story.wait(2, replace(CALM, held=1)) is State.CLEAR
    assert story.exit is Exit.FRESH


def test_when_an_order_ends_over_many_the_path_must_be_proven_first() -> None:
    story = Story()
    story.orders(hold=True, for_s=60)
    assert story.wait(62, replace(quiet(0), held=5)) is State.HOLDING


def test_an_operator_releases_and_nothing_trips_until_the_order_is_over() -> None:
    story = Story()
    story.ticks(1, SILENT)
    story.orders(hold=False, for_s=60)
    assert story.ticks(1, SILENT) is State.OVERRULED
    assert story.exit is Exit.DUE
    assert story.wait(58, SILENT) is State.OVERRULED
    story.wait(2, SILENT)
    assert story.brake.state is State.HOLDING


def test_an_operators_hold_has_no_limit_but_its_own() -> None:
    story = Story()
    story.orders(hold=True, for_s=86_400)
    story.ticks(1, SILENT)
    assert story.brake.limit_s(RULES, Running(story.now)) > 86_400


# The table.


def test_every_hold_can_be_left_and_only_a_tick_that_found_something_changes_a_state() -> None:
    for state in HOLDS:
        out = {event for (before, event), (after, _) in TRANSITIONS.items() if before is state and after not in HOLDS}
        assert out - {Event.ORDER_RELEASE}, state
    assert {before for before, _ in TRANSITIONS} == set(State)
    assert all(after is not before for (before, _), (after, _) in TRANSITIONS.items())


def test_whoever_leaves_a_hold_by_being_proven_has_a_fresh_lease() -> None:
    for (before, event), (after, leaving) in TRANSITIONS.items():
        if event is Event.PROVEN:
            assert leaving is Exit.FRESH
        if before not in HOLDS and after not in HOLDS and event is not Event.ORDER_RELEASE:
            assert leaving is Exit.STAY


# Whatever happens.


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    of = draw(st.integers(0, 30))
    number = draw(st.integers(0, of))
    older = draw(st.integers(number, 30))
    awake = draw(st.integers(0, 30))
    return Reading(
        quiet=(number, older),
        baseline=(of, max(of, draw(st.integers(0, 60)))),
        awake=awake,
        pace=awake / 21,
        beats=draw(st.integers(0, 3)) if awake else 0,
        held=draw(st.integers(0, 30)),
    )


@given(st.lists(st.tuples(readings(), st.integers(1, 400)), max_size=30))
def test_it_holds_below_the_minimum_only_for_a_total_silence(ticks: list[tuple[Reading, int]]) -> None:
    story = Story()
    for reading, number in ticks:
        for _ in range(number):
            before = story.brake.state
            after = story.ticks(1, reading)
            if before is State.CLEAR and after in HOLDS:
                most = max(reading.quiet)
                assert most >= RULES.min_agents or (after is State.LISTENING and most >= 2 and reading.awake == 0)
            if after is State.LISTENING:
                assert story.now - story.brake.since < SILENCE_S


@given(st.lists(st.tuples(readings(), st.integers(1, 400)), max_size=30))
def test_the_same_ticks_give_the_same_states(ticks: list[tuple[Reading, int]]) -> None:
    one, other = Story(), Story()
    for reading, number in ticks:
        assert one.ticks(number, reading) is other.ticks(number, reading)
        assert one.brake == other.brake


@given(st.lists(readings(), max_size=30), st.sampled_from([0, 3]))
def test_when_nobody_is_held_and_nobody_is_silent_every_hold_ends(ticks: list[Reading], ordered_s: int) -> None:
    story = Story()
    if ordered_s:
        story.orders(hold=True, for_s=ordered_s)
    for reading in ticks:
        story.ticks(1, reading)
    assert story.wait(3 + TICK * (CALM_TICKS + 2), Reading(baseline=(30, 30))) is State.CLEAR


@given(st.lists(st.tuples(st.floats(0.01, 2.0), st.integers(0, 50)), max_size=200), st.floats(0.01, 100.0))
def test_no_more_time_is_proven_than_has_passed(ticks: list[tuple[float, int]], pace: float) -> None:
    proof, passed = Proof(), 0.0
    for seconds, beats in ticks:
        passed += seconds
        proof = proof.listen(Reading(awake=20, pace=pace, beats=beats), seconds, Running(passed))
        assert proof.lasts_s <= passed + 1e-6
        assert (proof.proven_at is None) or passed >= PROOF_S - 1e-6


def test_the_levels_are_those_of_the_windows() -> None:
    assert levels(Reading((3, 12), (20, 40)), RULES) == (Level(60.0, 3, 20, 6), Level(600.0, 12, 40, 12))


@pytest.mark.parametrize(
    ("reason", "said"),
    [("", "An operator holds."), ("tests", "An operator holds: tests."), ("T.", "An operator holds: T.")],
)
def test_what_an_operator_gives_as_the_reason_ends_its_sentence(reason, said):
    assert why(Brake(order=Order(hold=True, group=ALL, until=Running(1.0), reason=reason))) == said
