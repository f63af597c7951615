"""The token buckets of a deployment: one for each API and scope, on the server and by its time, for all daemons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchdog.core.quota import MIN_FACTOR, RECOVERY_PER_S

if TYPE_CHECKING:
    from watchdog.stores.base import StoreRules
    from watchdog.stores.part_reads import Server


class SharedTokens:
    """See `Store.take_tokens` and `Store.throttled`. Of buckets that the server has lost the first tokens come anew."""

    def __init__(self, server: Server, rules: StoreRules) -> None:
        self._server = server
        self._rules = rules

    async def take(self, operation: str, scope: str, count: int) -> float:
        """Takes tokens, or none. Returns 0, or the seconds after which to ask again."""
        return await self._ask(operation, scope, count)

    async def throttled(self, operation: str, scope: str) -> None:
        """Halves the rate of a bucket."""
        await self._ask(operation, scope, -1)

    async def _ask(self, operation: str, scope: str, count: int) -> float:
        rules = self._rules.quotas.get(operation, self._rules.quota)
        arguments = [count, rules.own_rate, rules.own_burst, RECOVERY_PER_S, MIN_FACTOR]
        ((wait_s,),) = await self._server.call([("tokens", [f"{{wd:tokens}}:{operation} {scope}"], arguments)])
        return float(wait_s)
