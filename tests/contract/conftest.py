"""The stores that the contract suite runs over."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.contract.oracle import DictStore, Facts
from tests.contract.world import BRAKED, INSTANCE, RULES, World
from watchdog.stores.disk import InlineDisk, ThreadedDisk
from watchdog.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from watchdog.stores.base import Store, StoreRules

STORES = ["oracle", "sqlite", "sqlite-threaded"]


@asynccontextmanager
async def story(kind: str, tmp_path: Path, rules: StoreRules) -> AsyncIterator[World]:
    """A story over a store. A restart leaves the old process' store unclosed, as a kill -9 does."""
    opened: list[Store] = []

    if kind == "oracle":
        facts = Facts()

        async def reopened() -> Store:
            return DictStore(rules, facts)
    else:
        disk = InlineDisk if kind == "sqlite" else ThreadedDisk
        folder = tmp_path / "0"
        folder.mkdir()

        async def reopened() -> Store:
            # The copy is what the disk holds at this moment, whatever the old process had in its memory.
            nonlocal folder
            copy = tmp_path / str(len(opened) + 1)
            shutil.copytree(folder, copy)
            folder = copy
            store = SqliteStore(folder / "watchdog.db", rules, disk)
            opened.append(store)
            return store

    world = World(await reopened(), reopened)
    await world.store.open(world.instant)
    yield world
    await world.store.close()
    for store in opened:
        await store.close()


@pytest.fixture(params=STORES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A story over each store, where only an operator holds."""
    async with story(request.param, tmp_path, RULES) as made:
        yield made


@pytest.fixture(params=STORES[:2])
async def braked(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A story over each store, with the brake, which holds for five minutes."""
    async with story(request.param, tmp_path, BRAKED) as made:
        yield made


@pytest.fixture(params=STORES[:2])
async def serving_one(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A story over each store that serves one instance."""
    async with story(request.param, tmp_path, replace(RULES, instances=frozenset({INSTANCE}))) as made:
        yield made
