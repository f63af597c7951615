"""How long to wait after failures in a row: exponential back-off with full jitter.

Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

from __future__ import annotations

FIRST_S, LAST_S = 1.0, 60.0
"""Longest wait after the first failure, and after many."""

_MOST_DOUBLINGS = 6
"""Doublings that reach `LAST_S`. More are not counted: 2.0 ** 1024 is no float, and an outage may last for days."""


def longest_s(failures: int) -> float:
    """The longest wait; twice as long after each failure, `LAST_S` at most.

    Args:
        failures: How many there were in a row before the one that is waited after.
    """
    return min(LAST_S, FIRST_S * 2.0 ** min(failures, _MOST_DOUBLINGS))


def wait_s(failures: int, chance: float) -> float:
    """How long to wait: a random part of the longest, so that those who failed together do not return together.

    Args:
        failures: As for `longest_s`.
        chance: From 0 to 1, chosen at random.
    """
    return chance * longest_s(failures)
