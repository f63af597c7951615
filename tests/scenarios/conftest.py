"""A stand-in of Connect and a daemon for each story."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.harness import Connect, Daemon, sandbox, settings
from tests.scenarios.stories import side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["side_by_side"]


@pytest.fixture
def connect() -> Iterator[Connect]:
    with sandbox(agents=12) as connect:
        yield connect


@pytest.fixture
def daemon(connect: Connect, tmp_path: Path) -> Iterator[Daemon]:
    """Not started yet."""
    daemon = Daemon(tmp_path, settings(connect.server.url))
    yield daemon
    daemon.close()
