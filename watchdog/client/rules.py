"""The numbers of docs/http.md, "How a client should behave": what the promise about lost requests is computed from.

The simulator's pages have them from here; the browser's client has its own copy, in `web/client/core.js`.
"""

from __future__ import annotations

TIMEOUT_S = 4.0
"""A message without an answer is given up."""

HELLOS = 10
"""How often a first hello is said, at most, while nothing answers."""

HELLO_EVERY_S = 0.5

QUICK_S = (1.0, 3.0)
"""After a failure it is tried again within this, evenly drawn."""

QUICK_FOR_S = 20.0
"""For so long since the first failure."""

BACKOFF_S = 15.0
LEAST_BACKOFF_S = 0.5
"""Most and least of the full-jitter back-off after that."""
