"""The back-off: it grows, it has an end, and the longest outage does not break it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from watchdog.core.backoff import longest_s, wait_s


def test_it_doubles_up_to_a_minute() -> None:
    assert [longest_s(failures) for failures in range(9)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_it_never_falls() -> None:
    assert all(before <= after for before, after in pairwise(map(longest_s, range(100))))


@pytest.mark.parametrize("failures", [1_023, 1_024, 10_000, 10**9])
def test_an_outage_of_any_length_is_waited_for_at_most_a_minute(failures) -> None:
    assert longest_s(failures) == 60.0


@pytest.mark.parametrize(
    ("failures", "chance", "expected"), [(3, 0.0, 0.0), (3, 0.25, 2.0), (3, 1.0, 8.0), (20, 0.5, 30.0)]
)
def test_the_wait_is_a_random_part(failures, chance, expected) -> None:
    assert wait_s(failures, chance) == expected
