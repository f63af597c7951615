"""The rule by which a client beats and tries again, in one place: drawn in `workload.py`, computed in `loss.py`.

docs/http.md tells it to those who write clients; the numbers are those of the Python client. All times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchdog.client.rules import BACKOFF_S, HELLO_EVERY_S, HELLOS, LEAST_BACKOFF_S, QUICK_FOR_S
from watchdog.client.rules import QUICK_S as RETRY_S
from watchdog.client.rules import TIMEOUT_S as POST_TIMEOUT_S

__all__ = [
    "BACKOFF_S",
    "HELLO",
    "JITTER",
    "LEAST_BACKOFF_S",
    "ONE_HELLO",
    "POST_TIMEOUT_S",
    "QUICK_FOR_S",
    "RETRY_S",
    "THROTTLED_COPIES",
    "THROTTLED_S",
    "HelloRule",
    "backing_off",
]

JITTER = 0.1
"""Part of the interval by which the daemon varies what it tells a client."""


@dataclass(frozen=True, slots=True)
class HelloRule:
    """How a page's first message is sent: again and again while no answer comes, earlier copies not given up.

    Attributes:
        every_s: Between two copies.
        copies: How many; after the last the rule for beats goes on from it.
    """

    every_s: float = HELLO_EVERY_S
    copies: int = HELLOS


HELLO = HelloRule()
ONE_HELLO = HelloRule(copies=1)
"""A client that takes a hello for a beat."""

THROTTLED_S = 60.0
"""Between two timers of a hidden page without a worker: browsers run them once a minute."""

THROTTLED_COPIES = 3
"""Such a page sends each message so many times at once: it has two chances within its lease."""


def backing_off(failing_s: float) -> bool:
    """Whether a client whose first failure was so long ago backs off."""
    return failing_s >= QUICK_FOR_S
