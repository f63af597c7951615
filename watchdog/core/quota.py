"""The quota of one API: a token bucket whose rate gives way to throttling.

Amazon Connect throttles each API per account and region, all instances and all clients together. The bucket refills at
the share of the quota that is the watchdog's; a 429 halves the rate, and time without one raises it again step by step
(additive increase, multiplicative decrease).

Only values live here; who waits for whom is the dispatcher's business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MIN_FACTOR = 1 / 16
"""Least part of the rate that throttling leaves: one call in 10 s at the default quota, so that recovery is noticed."""

RECOVERY_PER_S = 0.02
"""Part of the full rate that comes back per second without a 429: from half to full in 25 s."""


@dataclass(frozen=True, slots=True)
class QuotaRules:
    """What may be used.

    Attributes:
        rate: Calls per second of the account and region (CONNECT_RATE).
        burst: Size of the bucket at AWS (CONNECT_BURST).
        share: Part of both that the watchdog takes, 0 to 1 (CONNECT_SHARE).
    """

    rate: float
    burst: float
    share: float

    @property
    def own_rate(self) -> float:
        """Calls per second for the watchdog."""
        return self.rate * self.share

    @property
    def own_burst(self) -> float:
        """Most tokens that the watchdog may save up; at least one, or no call could ever be made."""
        return max(1.0, self.burst * self.share)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One API's tokens.

    Attributes:
        tokens: What is there at `at`.
        at: Seconds on any clock that runs in real time; always the same one.
        factor: Part of the rate that throttling has left, `MIN_FACTOR` to 1.
    """

    tokens: float
    at: float
    factor: float = 1.0


def empty(now: float) -> Bucket:
    """The bucket of a process that does not know what an earlier one has used."""
    return Bucket(tokens=0.0, at=now)


def refill(bucket: Bucket, rules: QuotaRules, now: float) -> Bucket:
    """The bucket at `now`. A clock that went back adds nothing."""
    elapsed = max(0.0, now - bucket.at)
    gained = elapsed * rules.own_rate * bucket.factor
    return Bucket(
        tokens=min(rules.own_burst, bucket.tokens + gained),
        at=now,
        factor=min(1.0, bucket.factor + elapsed * RECOVERY_PER_S),
    )


def take(bucket: Bucket, rules: QuotaRules, now: float, count: int = 1) -> tuple[Bucket, float]:
    """Takes `count` tokens, or none.

    Returns:
        The bucket afterwards, and 0 when they were taken, else the seconds after which to ask again.
    """
    full = refill(bucket, rules, now)
    # A float that misses the token by rounding must not make the caller wait for ever.
    if full.tokens >= count - 1e-9:
        return replace(full, tokens=max(0.0, full.tokens - count)), 0.0
    return full, (count - full.tokens) / (rules.own_rate * full.factor)


def throttled(bucket: Bucket, rules: QuotaRules, now: float) -> Bucket:
    """The bucket after a 429: what was saved up is gone, and the rate is halved."""
    full = refill(bucket, rules, now)
    return replace(full, tokens=0.0, factor=max(MIN_FACTOR, full.factor / 2))
