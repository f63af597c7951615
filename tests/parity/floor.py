"""Floors on which rows of features are shown: a stand-in of Connect and a daemon with some settings, for many rows.

`@row("plain")` makes a test of a function that takes a `Floor`. The first such test of a run opens the floors and shows
all rows that were selected, side by side, each with agents of its own; each test then reports how its own row went.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import command
from tests.scenarios.harness import (
    ADMIN,
    INSTANCE,
    Connect,
    Daemon,
    Present,
    new_session,
    sandbox,
    settings,
    until,
)
from tests.scenarios.stories import LIMIT_S, STARTING
from watchdog.sandbox.seed import seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.scenarios.watched import Watched

PAUSE_S = 0.1
"""Between two questions: many rows ask at a time."""

PATIENCE_S = 60.0

OPEN = {"visibility": "visible", "driver": "worker", "login": True}
"""What a page says of itself that somebody looks at, and whose Connect session is up."""

PROFILE = "Basic Routing Profile"

ARN = f"arn:aws:connect:us-east-1:123456789012:instance/{INSTANCE}/agent/"


@dataclass(frozen=True)
class Plan:
    """What a floor is opened with.

    Attributes:
        settings: Of the daemon; None for a variable that is not set.
        statuses: Of the instance, with those that each has.
        profiles: Of the instance, with the one that each has.
        started: The daemon is started; else rows do so.
        model: Makes the stand-in's model; a usual one by default.
        offline: What the status of type OFFLINE is called.
    """

    settings: dict[str, str | None] = field(default_factory=dict)
    statuses: Sequence[str] = ("Lunch", "Away", "Break", "Coaching")
    profiles: Sequence[str] = ()
    started: bool = True
    model: Callable[[], Watched] | None = None
    offline: str = "Offline"


class Page:
    """A page of an agent, which says only what it is told to say."""

    def __init__(self, daemon: Daemon, user: str, **fields: Any) -> None:
        self.session = new_session()
        self._daemon, self._user = daemon, user
        self._fields = {**OPEN, **fields}
        self._ticket = ""
        self.hello = self._says(type="hello")

    def beats(self, **fields: Any) -> dict[str, Any]:
        self._fields |= fields
        return self._says()

    @property
    def farewell(self) -> dict[str, str]:
        """The bye that it would say."""
        named = {"instance_id": INSTANCE, "user_id": self._user, "session_id": self.session}
        return {**named, "type": "bye", "ticket": self._ticket}

    def closes(self) -> None:
        """Says bye, as a page does when it goes."""
        answer = self._daemon.beat(self._user, self.session, type="bye", ticket=self._ticket)
        assert answer.status_code == 204, answer.text

    def _says(self, **fields: Any) -> dict[str, Any]:
        answer = self._daemon.beat(self._user, self.session, **self._fields, **fields)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        self._ticket = told.get("ticket", self._ticket)
        return told


class Agent:
    """One of the stand-in's users, as seen in Connect and in the daemon."""

    def __init__(self, floor: Floor, user: str) -> None:
        self.id = user
        self._floor = floor
        self._model = floor.connect.model

    def opens(self, **fields: Any) -> Page:
        return Page(self._floor.daemon, self.id, **fields)

    def comes_and_goes(self) -> None:
        """Opens one page, and closes it."""
        self.opens().closes()

    def chooses(self, status: str) -> None:
        self._model.agent_sets_status(INSTANCE, self.id, status)

    @property
    def status(self) -> str:
        return self._floor.connect.status(self.id)

    @property
    def next_status(self) -> str | None:
        return self._model.next_status_name(INSTANCE, self.id)

    @property
    def writes(self) -> list[Any]:
        """Calls of PutUserStatus that changed something."""
        return self._floor.connect.writes(self.id)

    def called(self, operation: str) -> list[Any]:
        return list(self._model.calls(operation=operation, user_id=self.id))

    @property
    def signed_out(self) -> list[Any]:
        return self.called("DeleteAllEntitySessions")

    @property
    def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = self._floor.daemon.ask(f"/v1/agents/{INSTANCE}/{self.id}")
        return found

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """Those that the daemon knows; none of an agent whom it has not heard of."""
        answer = self._floor.daemon.client.get(
            f"{self._floor.daemon.url}/v1/agents/{INSTANCE}/{self.id}", headers={"Authorization": f"Bearer {ADMIN}"}
        )
        found: list[dict[str, Any]] = answer.json().get("sessions", [])
        return found

    @property
    def actions(self) -> list[dict[str, Any]]:
        """The agent's history, oldest first."""
        found: list[dict[str, Any]] = self._floor.daemon.ask(f"/v1/actions?agent={INSTANCE}/{self.id}&limit=100")[
            "actions"
        ]
        return found[::-1]

    def settled(self, outcome: str, intent: str = "set_status", page: Page | None = None) -> dict[str, Any]:
        """Waits for an entry of the history; a page beats meanwhile."""

        def find() -> dict[str, Any] | None:
            if page is not None:
                page.beats()
            found = [each for each in self.actions if (each["intent"], each["outcome"]) == (intent, outcome)]
            return found[-1] if found else None

        try:
            action: dict[str, Any] = wait_for(find, f"{intent} is {outcome}")
        except AssertionError as error:
            error.add_note(f"{self.status}, {self.seen}, {self.actions}")
            raise
        return action

    def is_set(self, status: str = "Offline") -> dict[str, Any]:
        """Waits until the status is set and confirmed, and sees that it was set once. Returns the entry."""
        action = self.settled("confirmed")
        assert (self.status, action["target"], len(self.writes)) == (status, status, 1)
        return action

    def is_untouched(self, status: str = "Available") -> None:
        assert (self.status, self.writes) == (status, [])


@dataclass
class Floor:
    """One floor.

    Attributes:
        folder: For files.
        connect: The stand-in of Connect.
        daemon: Has the brake off unless its settings say otherwise.
    """

    folder: Path
    connect: Connect
    daemon: Daemon
    _hired: threading.Lock = field(default_factory=threading.Lock)

    def hires(self, *, profile: str = PROFILE, status: str = "Available") -> Agent:
        """An agent who has been in this status for long."""
        model = self.connect.model
        with self._hired:
            user = model.add_user(INSTANCE, new_session(), status=status, routing_profile=profile)
            users = self.connect.instance.users
            users[user.id] = replace(users[user.id], status_since=model.now - 3600)
        return Agent(self, user.id)

    def start(self, **changes: str) -> None:
        with STARTING:
            self.daemon.start(**changes).ready(PATIENCE_S)

    def knows_its_target(self) -> None:
        wait_for(lambda: self.status["instances"][0]["target"], "the statuses are listed")

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.daemon.ask("/v1/status")
        return found

    def stays_open(self, *agents: Agent) -> Present:
        """Pages that beat all the time; enter it."""
        return Present(self.daemon, [agent.id for agent in agents])

    def post(self, path: str, body: object, method: str = "POST", token: str = ADMIN) -> httpx.Response:
        """Asks as an operator does, or as a gateway with its own token."""
        return self.daemon.client.request(
            method, self.daemon.url + path, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=60
        )

    def log_out(self, agent: Agent, **body: str) -> httpx.Response:
        return self.post(f"/v1/agents/{INSTANCE}/{agent.id}/logout", body)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of an operator, to its end."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return command.run(
            arguments, {**kept, "WATCHDOG_ADMIN_TOKENS": ADMIN, "COLUMNS": "200"}, PATIENCE_S, folder=self.folder
        )


def wait_for(condition: Callable[[], Any], what: str, limit_s: float = PATIENCE_S) -> Any:
    return until(condition, what, limit_s, PAUSE_S)


def as_json(value: object) -> str:
    return json.dumps(value)


def row(floor: str) -> Callable[[Callable[[Floor], None]], Callable[..., None]]:
    """Makes a test of what shows a row of features on the floor of that name."""

    def made(show: Callable[[Floor], None]) -> Callable[..., None]:
        def test(rows_shown: dict[str, Future[None]], request: pytest.FixtureRequest) -> None:
            rows_shown[request.node.nodeid].result(LIMIT_S)

        test.__name__ = test.__qualname__ = show.__name__
        test.__module__ = show.__module__
        test.__doc__ = show.__doc__
        test.row = (floor, show)  # type: ignore[attr-defined]
        marked: Callable[..., None] = pytest.mark.scenario(pytest.mark.story(test))
        return marked

    return made


@contextlib.contextmanager
def opened(plan: Plan, folder: Path) -> Iterator[Floor]:
    """A floor, with somebody who is heard all the time: where all fall silent, the brake holds."""
    with sandbox(1, model=None if plan.model is None else plan.model()) as connect:
        seed(connect.model, agents=0, instance_id=INSTANCE, statuses=plan.statuses, routing_profiles=plan.profiles)
        offline = connect.instance.offline_status()
        connect.instance.statuses[offline.id] = replace(offline, name=plan.offline)
        env = {**settings(connect.server.url), **plan.settings}
        daemon = Daemon(
            folder,
            {name: value for name, value in env.items() if value is not None},
            client=httpx.Client(timeout=30.0, limits=httpx.Limits(max_connections=50)),
        )
        floor = Floor(folder, connect, daemon)
        try:
            if not plan.started:
                yield floor
                return
            floor.start()
            floor.knows_its_target()
            with Present(daemon, connect.users):
                yield floor
        finally:
            daemon.close()


def show_rows(plan: Plan, folder: Path, rows: Sequence[tuple[Callable[[Floor], None], Future[None]]]) -> None:
    """Opens a floor, shows the rows side by side, tells how each of them went, and closes the floor."""
    try:
        with opened(plan, folder) as floor, ThreadPoolExecutor(len(rows)) as pool:
            for show, told in rows:
                pool.submit(_show, show, floor, told)
    except BaseException as error:  # noqa: BLE001  # each of its tests tells
        for _, told in rows:
            if not told.done():
                told.set_exception(error)


def _show(show: Callable[[Floor], None], floor: Floor, told: Future[None]) -> None:
    try:
        show(floor)
    except BaseException as error:  # noqa: BLE001  # the test tells
        error.add_note("\n".join(floor.daemon.log.splitlines()[-40:]))
        told.set_exception(error)
    else:
        told.set_result(None)
