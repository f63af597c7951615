"""The token bucket: never over the rate in any window, slower after a 429, back to full by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.core.quota import MIN_FACTOR, Bucket, QuotaRules, empty, refill, take, throttled

RULES = QuotaRules(rate=2.0, burst=5.0, share=0.8)


def test_an_unknown_past_is_an_empty_bucket() -> None:
    bucket, wait_s = take(empty(100.0), RULES, 100.0)
    assert wait_s == pytest.approx(1 / 1.6)
    assert take(bucket, RULES, 100.0 + wait_s)[1] == 0.0


def test_no_more_is_saved_up_than_the_share_of_the_burst() -> None:
    assert refill(empty(0.0), RULES, 1e9).tokens == 4.0


def test_a_small_share_still_allows_one_call() -> None:
    rules = QuotaRules(rate=2.0, burst=5.0, share=0.1)
    assert take(refill(empty(0.0), rules, 1e9), rules, 1e9)[1] == 0.0


def test_a_clock_that_went_back_gives_nothing() -> None:
    assert refill(Bucket(tokens=1.0, at=100.0), RULES, 50.0).tokens == 1.0


def test_a_429_takes_what_was_saved_and_halves_the_rate() -> None:
    bucket = throttled(refill(empty(0.0), RULES, 100.0), RULES, 100.0)
    assert (bucket.tokens, bucket.factor) == (0.0, 0.5)


def test_the_rate_comes_back_step_by_step() -> None:
    bucket = throttled(empty(0.0), RULES, 0.0)
    assert refill(bucket, RULES, 10.0).factor == pytest.approx(0.7)
    assert refill(bucket, RULES, 25.0).factor == 1.0


def test_any_number_of_429s_leaves_a_little() -> None:
    bucket = empty(0.0)
    for _ in range(100):
        bucket = throttled(bucket, RULES, 0.0)
    assert bucket.factor == MIN_FACTOR


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=200), st.integers(0, 199))
def test_the_calls_of_any_window_stay_under_burst_and_rate(pauses: list[float], since: int) -> None:
    bucket, now = refill(empty(0.0), RULES, 1000.0), 1000.0
    calls: list[float] = []
    for pause in pauses:
        now += pause
        bucket, wait_s = take(bucket, RULES, now)
        if wait_s == 0.0:
            calls.append(now)
    for begin in range(min(since, len(calls)), len(calls)):
        for end in range(begin, len(calls)):
            assert end - begin + 1 <= 4.0 + 1.6 * (calls[end] - calls[begin]) + 1e-6


@given(st.floats(0.01, 1e6), st.floats(0.0, 4.0))
def test_the_wait_that_is_told_is_enough(now: float, tokens: float) -> None:
    bucket, wait_s = take(Bucket(tokens=tokens, at=now), RULES, now)
    assert wait_s == 0.0 or take(bucket, RULES, now + wait_s)[1] == 0.0
