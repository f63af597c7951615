"""The stores that the contract suite runs over."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.contract.oracle import DictStore, Facts
from tests.contract.world import RULES, World
from watchdog.stores.disk import InlineDisk, ThreadedDisk
from watchdog.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from watchdog.stores.base import Store


@pytest.fixture(params=["oracle", "sqlite", "sqlite-threaded"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A story over each store. A restart leaves the old process' store unclosed, as a kill -9 does."""
    opened: list[Store] = []

    if request.param == "oracle":
        facts = Facts()

        async def reopened() -> Store:
            return DictStore(RULES, facts)
    else:
        disk = InlineDisk if request.param == "sqlite" else ThreadedDisk
        folder = tmp_path / "0"
        folder.mkdir()

        async def reopened() -> Store:
            # The copy is what the disk holds at this moment, whatever the old process had in its memory.
            nonlocal folder
            copy = tmp_path / str(len(opened) + 1)
            shutil.copytree(folder, copy)
            folder = copy
            store = SqliteStore(folder / "watchdog.db", RULES, disk)
            opened.append(store)
            return store

    world = World(await reopened(), reopened)
    await world.store.open(world.instant)
    yield world
    await world.store.close()
    for store in opened:
        await store.close()
