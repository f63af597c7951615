"""Amazon Connect's throttling: a token bucket for each API of an account and Region, on the service's side.

It knows nothing of the daemon's own limiter, so that the one can be tested against the other.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """Calls per second and burst; a rate of None is no limit."""

    rate: float | None
    burst: float


SLOW = Quota(2.0, 5.0)
"""Default of the APIs below. Source: Amazon Connect service quotas, API throttling."""

FAST = Quota(10.0, 20.0)
"""Default of all other APIs here; the burst is an assumption in proportion."""

SLOW_OPERATIONS = frozenset(
    {"PutUserStatus", "GetCurrentUserData", "DismissUserContact", "DeleteAllEntitySessions", "SearchUsers"}
)


class Quotas:
    """The buckets of every (account, Region, API); full when first used. Not thread-safe: the model's lock is."""

    def __init__(self) -> None:
        """Start with AWS's defaults."""
        self._everything: Quota | None = None
        self._by_operation: dict[str, Quota] = {}
        self._factor = 1.0
        self._buckets: dict[tuple[str, str, str], tuple[float, float]] = {}

    def of(self, operation: str) -> Quota:
        """Give the quota of the API as it is now, scaled."""
        quota = self._by_operation.get(operation) or self._everything
        quota = quota or (SLOW if operation in SLOW_OPERATIONS else FAST)
        rate = None if quota.rate is None else quota.rate * self._factor
        return Quota(rate, quota.burst * self._factor)

    def set(self, quota: Quota, operation: str | None = None) -> None:
        """Set the quota of one API, or of all; every bucket is full again."""
        if operation is None:
            self._everything = quota
            self._by_operation.clear()
        else:
            self._by_operation[operation] = quota
        self._buckets.clear()

    def scale(self, factor: float) -> None:
        """Multiply every quota by the factor, counted from the unscaled ones; every bucket is full again."""
        self._factor = factor
        self._buckets.clear()

    def take(self, account: str, region: str, operation: str, now: float) -> bool:
        """Take one token; False if there is none. A clock that steps back refills nothing."""
        quota = self.of(operation)
        if quota.rate is None:
            return True
        key = (account, region, operation)
        tokens, filled_at = self._buckets.get(key, (quota.burst, now))
        tokens = min(quota.burst, tokens + max(0.0, now - filled_at) * quota.rate)
        # An ulp short of a whole token is a whole one: ten refills of 0.1 s at 1/s must add up.
        granted = tokens >= 1.0 - 1e-9
        self._buckets[key] = (max(0.0, tokens - 1.0) if granted else tokens, now)
        return granted
