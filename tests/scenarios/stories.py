"""Stories that mostly wait, told side by side: each on a stage of its own, with its own processes and files.

`@story` makes a test of a function that takes a `Stage`. The first such test of a run starts all that were selected;
each test then reports how its own story went.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.scenarios.crowd import Crowd
from tests.scenarios.front import Front
from tests.scenarios.harness import Connect, Daemon, sandbox, settings, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOGETHER = 20
"""Stories at a time: so many that their waiting overlaps, so few that they do not starve one another on two cores."""

LIMIT_S = 600.0

STARTING = threading.Semaphore(3)
"""Daemons that start at a time: it takes each about a second of a core, in which nobody else may go short."""

TIMES = {
    "WATCHDOG_HEARTBEAT_INTERVAL": "1",
    "WATCHDOG_SESSION_TTL": "6",
    "WATCHDOG_THROTTLED_SESSION_TTL": "8",
    "WATCHDOG_SESSION_END_TIMER": "1",
    "WATCHDOG_RESUME_GRACE": "3",
}
"""An agent who was there is due after 7 s of silence: far less than most faults here last."""


@dataclass
class Stage:
    """One story's processes and files.

    Attributes:
        folder: For its files.
        connect: The stand-in of Connect.
        daemon: Not started yet; has the brake off, as all agents of these stories may vanish at once.
        nap: Waits for so many seconds: only for the length of a fault, never in place of a condition.
    """

    folder: Path
    connect: Connect
    daemon: Daemon
    nap: Callable[[float], object] = field(default_factory=lambda: threading.Event().wait)

    @property
    def users(self) -> list[str]:
        return self.connect.users

    def start(self, **changes: str) -> None:
        """Starts the daemon and waits until it knows its target."""
        with STARTING:
            self.daemon.start(**{**TIMES, **changes}).ready(60)
            until(lambda: self.status()["instances"][0]["target"], "the statuses are listed", 60)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.daemon.ask("/v1/status")
        return found

    def problems(self) -> set[str]:
        return {problem["code"] for problem in self.status()["problems"]}

    def crowd(self, users: list[str] | None = None, port: int | None = None, **options: Any) -> Crowd:
        """Agents who beat from now on; enter it."""
        return Crowd(port or self.daemon.port, users or self.users, **options)

    def all_live(self, count: int | None = None, limit_s: float = 60) -> None:
        wanted = len(self.users) if count is None else count
        until(lambda: self.status()["agents"]["live"] == wanted, f"{wanted} are live", limit_s)

    def nobody_was_touched(self, users: list[str] | None = None) -> None:
        touched = [user for user in users or self.users if self.connect.writes(user)]
        assert touched == []
        assert {self.connect.status(user) for user in users or self.users} == {"Available"}

    def nothing_was_called(self) -> None:
        assert not self.connect.model.calls(operation="PutUserStatus")

    def set_offline(self, user: str, limit_s: float = 60) -> None:
        """Waits until the agent is set, and sees that it was set once."""
        until(lambda: self.connect.status(user) == "Offline", f"{user} is set", limit_s)
        assert len(self.connect.writes(user)) == 1

    def front(self) -> Front:
        return Front(self.daemon.port)


def story(
    *, agents: int, seconds: float, model: Callable[[], Any] | None = None, alone: bool = False
) -> Callable[[Callable[[Stage], None]], Callable[..., None]]:
    """Makes a test of a story.

    Args:
        agents: How many the stand-in of Connect has.
        seconds: About how long it takes: the longest begin first.
        model: Makes the stand-in's model; a usual one by default.
        alone: It needs most of the machine, and is told after the others, by itself.
    """

    def by_itself(tell: Callable[[Stage], None]) -> Callable[..., None]:
        def test(tmp_path: Path) -> None:
            _tell(tell, tmp_path, agents, model)

        test.__name__ = test.__qualname__ = tell.__name__
        test.__module__ = tell.__module__
        marked: Callable[..., None] = pytest.mark.scenario(pytest.mark.serial(test))
        return marked

    def made(tell: Callable[[Stage], None]) -> Callable[..., None]:
        def test(side_by_side: dict[str, Future[None]], request: pytest.FixtureRequest) -> None:
            side_by_side[request.node.nodeid].result(LIMIT_S)

        test.__name__ = test.__qualname__ = tell.__name__
        test.__module__ = tell.__module__
        test.story = (tell, agents, seconds, model)  # type: ignore[attr-defined]
        marked: Callable[..., None] = pytest.mark.scenario(pytest.mark.story(test))
        return marked

    return by_itself if alone else made


@contextlib.contextmanager
def _stage(folder: Path, agents: int, model: Callable[[], Any] | None) -> Iterator[Stage]:
    with sandbox(agents, model=None if model is None else model()) as connect:
        # Patient: while all of them start, the machine is short of time.
        daemon = Daemon(folder, settings(connect.server.url), client=httpx.Client(timeout=30.0))
        try:
            yield Stage(folder, connect, daemon)
        finally:
            daemon.close()


def _tell(tell: Callable[[Stage], None], folder: Path, agents: int, model: Callable[[], Any] | None) -> None:
    with _stage(folder, agents, model) as stage:
        try:
            tell(stage)
        except BaseException as error:
            error.add_note("\n".join(stage.daemon.log.splitlines()[-40:]))
            raise
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def side_by_side(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """The selected stories by the tests' ids, all of them begun."""
    selected = [
        (item.nodeid, *item.function.story)
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item.function, "story")
    ]
    with ThreadPoolExecutor(TOGETHER) as pool:
        yield {
            name: pool.submit(_tell, tell, tmp_path_factory.mktemp("story"), agents, model)
            for name, tell, agents, _, model in sorted(selected, key=lambda each: -each[3])
        }
        pool.shutdown(cancel_futures=True)
