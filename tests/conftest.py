"""What all tests share: how Hypothesis draws, and that what was measured is told."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.contract import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.redis_server import RedisServer

# CI draws the same examples each time, so that a red build can be repeated; `make test-long` draws new ones, and more.
settings.register_profile(
    "ci",
    max_examples=30,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.target],
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile("long", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has what it starts in the background ignore Ctrl-C, and the processes under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


WORDS = {"serial": re.compile("serial"), "story": re.compile("story|stories|floor")}
"""What files that have tests with a mark are known by in `tests/run.sh`."""


@pytest.fixture(scope="session", autouse=True)
def loop_around_sync_tests():
    """A loop that gets closed: looptime asks for one around every test, and a sync one would leave a new one open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(_server: RedisServer) -> RedisServer:
    """A real Redis, with nothing in it."""
    with _server.client as client:
        client.flushall()
    return _server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuses a test that `tests/run.sh` would not find: its file names no word of the part that it is in."""
    for part, words in WORDS.items():
        for path in {item.path for item in items if item.get_closest_marker(part)}:
            if not words.search(path.read_text(encoding="utf-8")):
                raise pytest.UsageError(
                    f"{path} has tests that are marked {part}, and none of the words {words.pattern}."
                )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells what tests have recorded as `measured`, whether they have passed or not, and on whichever worker."""
    told = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "measured"
    ]
    if told:
        terminalreporter.section("measured")
        for each in told:
            terminalreporter.line(str(each))
