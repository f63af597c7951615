"""The token buckets of a store in one process: in memory, empty at the start, one for each API and scope."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchdog.core import quota

if TYPE_CHECKING:
    from watchdog.core.model import Instant
    from watchdog.core.quota import Bucket, QuotaRules
    from watchdog.stores.base import StoreRules


class TokenBuckets:
    """See `Store.take_tokens` and `Store.throttled`.

    The buckets are not kept on the disk. A process does not know what the one before it has used, so it begins with
    empty ones: a crash loop cannot exceed the rate.
    """

    def __init__(self, rules: StoreRules) -> None:
        self._rules = rules
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def take(self, operation: str, scope: str, count: int, instant: Instant) -> float:
        """Takes tokens, or none. Returns 0, or the seconds after which to ask again."""
        bucket = self._bucket(operation, scope, instant)
        self._buckets[operation, scope], wait_s = quota.take(bucket, self._quota(operation), instant.boot, count)
        return wait_s

    def throttled(self, operation: str, scope: str, instant: Instant) -> None:
        """Halves the rate of a bucket."""
        bucket = self._bucket(operation, scope, instant)
        self._buckets[operation, scope] = quota.throttled(bucket, self._quota(operation), instant.boot)

    def _bucket(self, operation: str, scope: str, instant: Instant) -> Bucket:
        return self._buckets.get((operation, scope)) or quota.empty(instant.boot)

    def _quota(self, operation: str) -> QuotaRules:
        return self._rules.quotas.get(operation, self._rules.quota)
