"""The same over a real Redis: the store and the plain dicts agree, whatever call fails or is not answered, and whatever
the server has lost.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import settings
from hypothesis.stateful import rule

from tests.contract.conftest import died
from tests.contract.test_state_machine import Stores
from tests.contract.world import RULES
from watchdog.core import clock as clocks
from watchdog.core.clock import Cause
from watchdog.errors import StoreUnavailable
from watchdog.stores.valkey import ValkeyStore
from watchdog.stores.valkey_server import Call, ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from tests.contract.redis_server import RedisServer

Result = TypeVar("Result")
SHARDS = 2


class WeakServer(ValkeyServer):
    """A server of which some write is not answered: one that was not carried out, or one that was."""

    fails = False
    carried_out = False
    came_through = False

    async def call(self, calls: Sequence[Call]) -> list[list[bytes]]:
        if calls[0][0] not in ("note", "record", "write", "renew"):
            return await super().call(calls)
        fails, WeakServer.fails = WeakServer.fails, False
        if fails:
            WeakServer.came_through = WeakServer.carried_out
        if fails and not WeakServer.carried_out:
            raise StoreUnavailable("it was not reached")
        answers = await super().call(calls)
        if fails:
            raise StoreUnavailable("it has not answered")
        return answers


class OverRedis(Stores):
    """Drives a store on Redis and the plain dicts with the same story."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.processes = 0
        self.dead: list[ValkeyStore] = []

    def run(self, coroutine: Coroutine[object, object, Result]) -> Result:
        return self.runner.run(coroutine)  # type: ignore[arg-type]

    def made(self) -> ValkeyStore:
        with self.server.client as client:
            client.flushall()
        return self.process()

    def made_again(self, *, killed: bool) -> ValkeyStore:
        if killed:
            died([self.store])
            self.dead.append(self.store)
            self.server.end_leases()
        else:
            self.run(self.store.close())
        return self.process()

    def process(self) -> ValkeyStore:
        self.processes += 1
        owner, server = f"process {self.processes}", WeakServer(self.server.address)
        return ValkeyStore(server, RULES, owner, SHARDS)

    def fail(self, *, fails: bool) -> None:
        WeakServer.fails, WeakServer.carried_out = fails, self.now % 2 < 1
        if fails:
            WeakServer.came_through = False

    def came_through(self) -> bool:
        return WeakServer.came_through

    @rule()
    def the_server_loses_everything(self) -> None:
        """What is in force is written again by the next ticks, which are blind."""
        with self.server.client as client:
            client.flushall()
        for _ in range(4):
            try:
                self.advance(0.0, None)
            except StoreUnavailable:
                self.failed = True
                self.plain.facts.clock = clocks.advance(self.plain.clock, self.instant, RULES.clock, Cause.STORE)
            else:
                break
        else:
            raise AssertionError("it does not go on by itself")
        for agent in list(self.plain.facts.changes):
            # No beat can change them any more: an order is all that they were kept for.
            if self.store._table.agents[agent].change is None:
                del self.plain.facts.changes[agent]

    def teardown(self) -> None:
        super().teardown()
        for store in self.dead:
            self.run(store.close())
        self.runner.close()


class TestOverRedis(OverRedis.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(
        settings.default, max_examples=max(10, settings.default.max_examples // 4), stateful_step_count=40
    )

    @pytest.fixture(autouse=True, scope="class")
    @staticmethod
    def _given(_server: RedisServer) -> None:
        OverRedis.server = _server
