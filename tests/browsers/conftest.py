"""A stage and a browser that tests share, and those that a test has for itself; at the end, what was measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.browsers.chromium import Chromium
from tests.browsers.stage import Stage, staged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MEASURED = "measured"


@pytest.fixture(scope="session")
def shared_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser for those who leave it alive."""
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def own_chromium(tmp_path: Path) -> Iterator[Chromium]:
    """A browser that may be killed."""
    browser = Chromium(tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str, str, float | None], None]:
    def write(event: str, arrived: str, seconds: float | None) -> None:
        request.node.user_properties.append((MEASURED, json.dumps([event, arrived, seconds])))

    return write


@pytest.fixture
def stage(shared_stage: Stage, note: Callable[[str, str, float | None], None]) -> Stage:
    shared_stage.note = note
    return shared_stage


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Lists what was measured, as rows of docs/browsers.md."""
    rows = [
        json.loads(value)
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        for name, value in report.user_properties
        if name == MEASURED and report.when == "call"
    ]
    for event, arrived, seconds in rows:
        terminalreporter.write_line(f"| {event} | {arrived} | {'–' if seconds is None else f'{seconds:.1f} s'} |")
