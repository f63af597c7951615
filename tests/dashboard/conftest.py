"""A floor with agents in every state, a daemon that watches it, and a browser that looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("selenium")

from tests.dashboard.browser import DESKTOP, Browser, opened
from tests.scenarios.harness import Connect, Daemon, Present, new_session, sandbox, settings, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOW = {
    "WATCHDOG_HEARTBEAT_INTERVAL": "5",
    "WATCHDOG_SESSION_TTL": "60",
    "WATCHDOG_THROTTLED_SESSION_TTL": "120",
    "WATCHDOG_SESSION_END_TIMER": "3600",
}
"""Nobody runs out of time while a test looks."""


@pytest.fixture(scope="session")
def _downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def _chromium(_downloads: Path) -> Iterator[Browser]:
    with opened(_downloads) as browser:
        yield browser


@pytest.fixture
def downloads(_downloads: Path) -> Path:
    """Where the browser puts files; empty."""
    for each in _downloads.iterdir():
        each.unlink()
    return _downloads


@pytest.fixture
def browser(_chromium: Browser) -> Browser:
    _chromium.size(DESKTOP)
    return _chromium


@pytest.fixture
def connect() -> Iterator[Connect]:
    with sandbox(agents=12) as connect:
        yield connect


@pytest.fixture
def daemon(connect: Connect, tmp_path) -> Iterator[Daemon]:
    """Not started yet; its timer is an hour."""
    daemon = Daemon(tmp_path, settings(connect.server.url, **SLOW))
    yield daemon
    daemon.close()


class Floor:
    """Agents in every state but due.

    Attributes:
        live: Eight who beat.
        grace: Two who have said bye; their timer runs.
        ghost: One who was set by an order.
    """

    def __init__(self, connect: Connect, daemon: Daemon) -> None:
        self.connect, self.daemon = connect, daemon
        users = connect.users
        self.live, self.grace, self.ghost = users[:8], users[8:10], users[10]

    @property
    def url(self) -> str:
        return self.daemon.url

    def fill(self) -> None:
        for user in self.grace:
            session = new_session()
            self.daemon.beat(user, session, type="hello", seq=1)
            self.daemon.bye(user, session)
        until(lambda: all(self.daemon.state(user) == "grace" for user in self.grace), "two in grace")


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    with sandbox(agents=12) as connect:
        daemon = Daemon(tmp_path_factory.mktemp("floor"), settings(connect.server.url, **SLOW))
        try:
            daemon.start().ready(60)
            floor = Floor(connect, daemon)
            with Present(daemon, floor.live, 2.0):
                floor.fill()
                yield floor
        finally:
            daemon.close()
