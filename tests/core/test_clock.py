"""The observed clock: it advances only while a heartbeat could have been heard."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.core.clock import (
    GRACE_SHARE,
    GRACE_WINDOW_S,
    MAX_STEP_S,
    STOOD_FOR_S,
    STOOD_MOST,
    Cause,
    Clock,
    ClockRules,
    advance,
    first,
    gives_grace,
    resume,
)
from watchdog.core.model import Boot, Epoch, Instant, Observed, Running

RULES = ClockRules(resume_grace_s=30.0, heartbeat_interval_s=10.0)


def at(boot: float, boot_id: str = "boot-1", epoch: float = 0.0) -> Instant:
    return Instant(Boot(boot), Epoch(epoch), boot_id)


def ticked(clock: Clock, seconds: float, step: float = 0.25, blind: Cause | None = None) -> Clock:
    assert clock.boot is not None
    start = clock.boot
    for number in range(1, round(seconds / step) + 1):
        clock = advance(clock, at(start + number * step), RULES, blind)
    return clock


def test_it_advances_by_the_time_between_ticks() -> None:
    clock = ticked(first(at(50)), 60)
    assert clock.observed == pytest.approx(60)
    assert clock.running == pytest.approx(60)
    assert clock.standing is None


def test_a_first_start_has_no_grace() -> None:
    assert ticked(first(at(50)), 1).observed == pytest.approx(1)


def test_a_step_of_exactly_the_most_is_no_gap() -> None:
    clock = advance(first(at(0)), at(MAX_STEP_S), RULES)
    assert (clock.observed, clock.standing, clock.grace_s) == (MAX_STEP_S, None, 0.0)


def test_a_pause_counts_as_the_most_and_is_followed_by_grace() -> None:
    clock = advance(first(at(0)), at(600), RULES)
    assert (clock.observed, clock.standing) == (MAX_STEP_S, Cause.PAUSE)
    clock = ticked(clock, 30)
    assert (clock.observed, clock.standing) == (MAX_STEP_S, Cause.GRACE)
    clock = ticked(clock, 10)
    assert clock.observed == pytest.approx(MAX_STEP_S + 10)


def test_a_short_pause_has_a_grace_of_one_interval() -> None:
    clock = advance(first(at(0)), at(3), RULES)
    assert ticked(clock, 10).observed == MAX_STEP_S
    assert ticked(clock, 11).observed == pytest.approx(MAX_STEP_S + 1)


def test_a_pause_between_has_a_grace_of_its_length() -> None:
    clock = advance(first(at(0)), at(20), RULES)
    assert ticked(clock, 20).observed == MAX_STEP_S
    assert ticked(clock, 21).observed == pytest.approx(MAX_STEP_S + 1)


def test_nothing_of_blind_time_counts() -> None:
    clock = ticked(first(at(0)), 100, blind=Cause.STORE)
    assert (clock.observed, clock.standing, clock.gap_s) == (0.0, Cause.STORE, pytest.approx(100))
    clock = ticked(clock, 30)
    assert clock.observed == 0.0
    assert ticked(clock, 5).observed == pytest.approx(4.75)  # the tick that ends the gap does not count either


def test_running_time_goes_on_in_grace_and_in_blind_time() -> None:
    clock = ticked(first(at(0)), 100, blind=Cause.STORE)
    assert ticked(clock, 20).running == pytest.approx(120)


def test_what_running_time_leaves_out_adds_up() -> None:
    clock = advance(advance(first(at(100, epoch=1000)), at(101, epoch=1001), RULES), at(111, epoch=1011), RULES)
    assert clock.left_out_s == 10 - MAX_STEP_S
    clock = resume(clock, at(141, epoch=1041), RULES)
    assert clock.left_out_s == 10 - MAX_STEP_S + 30
    clock = resume(clock, at(5, "boot-2", epoch=2041), RULES)
    assert clock.left_out_s == 10 - MAX_STEP_S + 30 + 1000
    assert advance(clock, at(6, "boot-2", epoch=2042), RULES).left_out_s == clock.left_out_s


@pytest.mark.parametrize(("gap", "grace"), [(0.1, 10.0), (20.0, 20.0), (86_400.0, 30.0)])
def test_a_restart_counts_for_nothing_and_has_a_grace(gap: float, grace: float) -> None:
    saved = ticked(first(at(0)), 100)
    clock = resume(saved, at(100 + gap), RULES)
    assert (clock.observed, clock.grace_s, clock.standing) == (saved.observed, grace, Cause.RESTART)
    assert ticked(clock, grace).observed == saved.observed
    assert ticked(clock, grace + 5).observed == pytest.approx(saved.observed + 5)


@pytest.mark.parametrize("instant", [at(150, "boot-2"), at(20)], ids=["another boot", "a clock that went back"])
def test_a_restart_after_an_unknown_time_has_the_whole_grace(instant: Instant) -> None:
    saved = ticked(first(at(0)), 100)
    assert resume(saved, instant, RULES).grace_s == 30.0
    assert advance(saved, instant, RULES).grace_s == 30.0
    assert advance(saved, instant, RULES).observed == saved.observed


def test_a_gap_that_went_on_at_the_crash_counts_with_the_restart() -> None:
    saved = ticked(first(at(0)), 25, blind=Cause.STORE)
    assert resume(saved, at(26), RULES).grace_s == pytest.approx(26)


def test_the_longer_of_two_graces_holds() -> None:
    clock = advance(first(at(0)), at(600), RULES)
    clock = advance(clock, at(603), RULES)
    assert clock.grace_s == pytest.approx(28)


def test_the_wall_clock_is_not_looked_at() -> None:
    clock = advance(first(at(0, epoch=1e9)), at(1, epoch=-1e9), RULES)
    assert clock.observed == 1.0


def test_no_grace_at_all_when_it_is_switched_off() -> None:
    rules = ClockRules(resume_grace_s=0.0, heartbeat_interval_s=10.0)
    clock = resume(ticked(first(at(0)), 10), at(1000), rules)
    assert advance(clock, at(1001), rules).observed == pytest.approx(11)


@pytest.mark.parametrize("life", [1.0, 5.0, 12.0, 20.0])
def test_a_crash_loop_delays_and_never_disables(life: float) -> None:
    """Each life is followed by a crash and a second without a process."""
    clock, now, lived = first(at(0)), 0.0, 0.0
    while lived < 1200:
        for _ in range(round(life / 0.25)):
            now += 0.25
            clock = advance(clock, at(now), RULES)
        lived += life
        now += 1.0
        clock = resume(clock, at(now), RULES)
    assert clock.observed >= lived * (1 - GRACE_SHARE) - 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["tick", "blind", "restart", "reboot"]), st.floats(0, 5) | st.floats(0, 5000)),
        max_size=80,
    )
)
def test_it_never_passes_unobserved_time(story: list[tuple[str, float]]) -> None:
    clock, now, boot = first(at(0)), 0.0, 0
    spans: list[tuple[float, float]] = []
    for what, seconds in story:
        before = clock
        now += seconds
        if what == "reboot":
            boot, now = boot + 1, seconds
        instant = at(now, f"boot-{boot}")
        if what in ("restart", "reboot"):
            clock = resume(before, instant, RULES)
            assert clock.observed == before.observed
        else:
            # boot-1 of the first clock is the story's boot-0: the first tick resumes
            clock = advance(before, instant, RULES, Cause.STORE if what == "blind" else None)
            step = clock.observed - before.observed
            assert 0 <= step <= min(seconds, MAX_STEP_S) + 1e-9
            assert clock.running - before.running <= MAX_STEP_S + 1e-9
            if what == "blind":
                assert step == 0
            spans.append((clock.running, clock.running - before.running - step if clock.standing is Cause.GRACE else 0))
        assert clock.grace_s <= RULES.resume_grace_s
        within = sum(
            end - max(begin, clock.running - GRACE_WINDOW_S)
            for begin, end in clock.graces
            if end > clock.running - GRACE_WINDOW_S
        )
        assert within <= GRACE_WINDOW_S * GRACE_SHARE + MAX_STEP_S


def test_it_tells_whether_clients_are_given_time_to_return() -> None:
    clock = ticked(first(at(0)), 10)
    assert not gives_grace(clock)
    clock = resume(clock, at(15), RULES)
    assert gives_grace(clock)
    assert gives_grace(ticked(clock, 9.5))
    assert not gives_grace(ticked(clock, 10))


@pytest.mark.parametrize(("spent", "given"), [(299.0, True), (300.0, False)])
def test_a_grace_that_the_window_does_not_allow_gives_nobody_time(spent: float, *, given: bool) -> None:
    clock = Clock(
        running=Running(1000.0), boot=Boot(0.0), boot_id="boot-1", grace_s=10.0, graces=((500.0, 500.0 + spent),)
    )
    assert gives_grace(clock) is given
    assert (advance(clock, at(0.25), RULES).observed == 0.0) is given


def test_nobody_is_listened_to_in_a_gap_that_goes_on() -> None:
    clock = ticked(first(at(0)), 60)
    assert not gives_grace(clock)
    clock = ticked(clock, 0.25, blind=Cause.STORE)
    assert gives_grace(clock)
    assert gives_grace(ticked(clock, 5))
    assert not gives_grace(ticked(clock, 12))


def test_what_has_passed_leaves_out_where_it_stood() -> None:
    clock = ticked(first(at(0)), 100)
    clock = resume(clock, at(400), RULES)  # 300 s without a process, and a grace of 30 s
    clock = ticked(clock, 50)
    assert clock.observed == pytest.approx(120)
    for real_s, passed in ((0, 0), (12, 12), (20, 20), (30, 20), (50, 20), (349, 20), (350, 20), (351, 21), (450, 120)):
        assert clock.passed(real_s) == pytest.approx(passed), real_s


@given(
    st.lists(
        st.tuples(st.sampled_from(["tick", "tick", "tick", "blind", "restart"]), st.floats(0, 3) | st.floats(0, 500)),
        min_size=1,
        max_size=STOOD_MOST,
    ),
    st.data(),
)
def test_it_knows_how_far_it_was_at_each_earlier_moment(story: list[tuple[str, float]], data: st.DataObject) -> None:
    clock, now = first(at(0)), 0.0
    moments = [(now, 0.0)]
    for what, seconds in story:
        now += seconds
        if what == "restart":
            clock = resume(clock, at(now), RULES)
        else:
            clock = advance(clock, at(now), RULES, Cause.STORE if what == "blind" else None)
        moments.append((now, clock.observed))
    moment, observed = data.draw(st.sampled_from(moments))
    assert clock.observed - clock.passed(now - moment) == pytest.approx(observed, abs=MAX_STEP_S + 1e-6)
    assert clock.passed(0.0) == pytest.approx(0.0, abs=1e-6)


def test_what_it_does_not_remember_is_as_if_it_had_never_stood() -> None:
    clock = first(at(0))
    now = 0.0
    for _ in range(STOOD_MOST + 5):
        clock = ticked(resume(clock, at(now + 100), RULES), 40)
        now += 140
    assert len(clock.stood) == STOOD_MOST
    assert clock.passed(now) > clock.observed
    clock = replace(clock, observed=Observed(clock.observed + STOOD_FOR_S + 1))
    clock = resume(clock, at(now + 100), RULES)
    assert clock.stood == ((clock.observed, 100.0),)
