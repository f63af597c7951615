"""The way to a cluster of Valkey or Redis servers: each call goes to the node that has its part's slot.

A part's keys share a hash tag, and so a slot. Which node has it, and where it has moved, is the client's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import SlotNotCoveredError

from watchdog.stores.address import Address
from watchdog.stores.valkey_server import ANSWER_S, ValkeyServer

FIRST_KEY = {"FCALL": 3}
"""Where a command of ours has its first key, if not behind its name."""


class ValkeyCluster(ValkeyServer):
    """A cluster, with our functions in each of its nodes."""

    _client: RedisCluster

    def __init__(self, address: Address, answer_s: float = ANSWER_S) -> None:
        super().__init__(address, answer_s)
        # Room for finding the nodes anew, which may ask one that does not answer.
        self._limit_s = 3 * answer_s

    def _made(self, options: dict[str, Any]) -> RedisCluster:
        return RedisCluster(require_full_coverage=False, **options)

    async def _infos(self) -> list[Mapping[str, Any]]:
        await self._client.initialize()
        return await self._on_primaries("INFO")

    async def _info(self, key: str) -> Mapping[str, Any]:
        await self._client.initialize()
        (found,) = await self._all_of([(("INFO",), self._client.get_node_from_key(key))])
        return dict(found)

    async def _loaded(self) -> None:
        await self._on_primaries("FUNCTION LOAD", self._library)

    async def _on_primaries(self, *command: str) -> list[Any]:
        return await self._all_of([(command, node) for node in self._client.get_primaries()])

    async def _made_ready(self, error: Exception) -> bool:
        """See `ValkeyServer`. A client that has found a slot to be nobody's would not look again by itself."""
        if isinstance(error, SlotNotCoveredError | LookupError):
            await self._look_anew()
            return True
        return await super()._made_ready(error)

    async def _look_anew(self) -> None:
        """Finds out which node has what."""
        async with asyncio.timeout(self._limit_s):
            await self._client.nodes_manager.initialize()

    async def _piped(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """All at once: each has another part, or changes nothing."""
        await self._client.initialize()
        client, at = self._client, FIRST_KEY
        return await self._all_of(
            [(command, client.get_node_from_key(command[at.get(command[0], 1)])) for command in commands]
        )

    async def _all_of(self, asked: Sequence[tuple[Sequence[Any], Any]]) -> list[Any]:
        """Runs commands on nodes. None is under way any more when this returns, or raises what one of them raised."""
        async with asyncio.timeout(self._limit_s):
            answers = await asyncio.gather(
                *(self._client.execute_command(*command, target_nodes=node) for command, node in asked),
                return_exceptions=True,
            )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers
