"""The rule by which a client beats and tries again, in one place: drawn in `workload.py`, computed in `loss.py`.

docs/http.md tells it to those who write clients. All times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

POST_TIMEOUT_S = 4.0
"""A request without an answer is given up."""

RETRY_S = (1.0, 3.0)
"""After a failure it is tried again within this, evenly drawn, for `QUICK_FOR_S` since the first failure."""

QUICK_FOR_S = 20.0

BACKOFF_S = 15.0
LEAST_BACKOFF_S = 0.5
"""Most and least of the full-jitter back-off after that."""

JITTER = 0.1
"""Part of the interval by which the daemon varies what it tells a client."""


@dataclass(frozen=True, slots=True)
class HelloRule:
    """How a page's first message is sent: again and again while no answer comes, earlier copies not given up.

    Attributes:
        every_s: Between two copies.
        copies: How many; after the last the rule for beats goes on from it.
    """

    every_s: float = 0.5
    copies: int = 10


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
