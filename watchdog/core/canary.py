"""The canary's rules: when the way from outside to us counts as broken, and when the canary is not believed.

A broken way in front of us (a load balancer, a certificate, DNS) silences everyone at once and looks like nothing from
here. Only the canary, which goes out and comes back in, can tell. Only values live here; times are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

EVERY_S = 5.0
"""Most time between two calls."""

OF_TTL = 7.0
"""A session's TTL has room for this many calls: a broken way is known well before a lease of it runs out."""

FAILURES = 2
"""Failures in a row that count: one may be a lost packet."""

BELIEVED_SHARE = 0.5
"""With at least this share of the expected heartbeats coming in, the way is there and the canary is wrong."""


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """When to call and what to make of it.

    Attributes:
        every_s: Between two calls.
        timeout_s: For one call.
        silence_s: Without a success for this long, the way counts as broken, whatever the calls are doing.
        interval_s: What clients are told (HEARTBEAT_INTERVAL).
    """

    every_s: float
    timeout_s: float
    silence_s: float
    interval_s: float


def rules(ttl_s: float, interval_s: float) -> CanaryRules:
    """The rules that suit SESSION_TTL and HEARTBEAT_INTERVAL: 5 s, 4 s and 15 s with the defaults."""
    every_s = min(EVERY_S, ttl_s / OF_TTL)
    return CanaryRules(every_s, 0.8 * every_s, 3 * every_s, interval_s)


@dataclass(frozen=True, slots=True)
class Calls:
    """What became of the calls so far.

    Attributes:
        heard_at: When the last one that succeeded did; before the first one, when calling began.
        failures: How many have failed since.
        lost_at: When the first of these began; None without one.
    """

    heard_at: float
    failures: int = 0
    lost_at: float | None = None


def heard(now: float) -> Calls:
    """A call has come back."""
    return Calls(now)


def lost(calls: Calls, began_at: float) -> Calls:
    """A call has not come back."""
    lost_at = began_at if calls.lost_at is None else calls.lost_at
    return replace(calls, failures=calls.failures + 1, lost_at=lost_at)


def failing(calls: Calls, rules: CanaryRules, now: float) -> bool:
    """Whether the way counts as broken."""
    return calls.failures >= FAILURES or now - calls.heard_at > rules.silence_s


def beating(beats: int, sessions: int, seconds: float, rules: CanaryRules) -> bool:
    """Whether enough heartbeats come in, so that the way cannot be broken.

    Args:
        beats: Heartbeats accepted in these seconds, all of them after a call was lost.
        sessions: Sessions with a lease.
        seconds: How long they were counted; less than the time between two calls proves nothing.
        rules: Tell how many there should be.
    """
    expected = sessions * seconds / rules.interval_s
    return seconds >= rules.every_s and beats > 0 and beats >= BELIEVED_SHARE * expected
