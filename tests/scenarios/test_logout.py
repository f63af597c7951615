"""Explicit logouts of a daemon over HTTP, against the stand-in over HTTP."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.scenarios.harness import ADMIN, INSTANCE, PATIENT, Connect, Daemon, new_session, sandbox, settings, until
from tests.scenarios.watched import Watched
from watchdog.sandbox.records import ContactState, ProfileQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.scenario

FAIL = "urn:watchdog:problem:logout-"


@pytest.fixture
def connect() -> Iterator[Connect]:
    with sandbox(agents=4, model=Watched()) as connect:
        yield connect


@pytest.fixture
def daemon(connect: Connect, tmp_path: Path) -> Iterator[Daemon]:
    codes = {"WATCHDOG_REASON_CODES": '{"7": "Lunch"}'}
    daemon = Daemon(tmp_path, settings(connect.server.url, **PATIENT, **codes))
    daemon.start().ready()
    until(lambda: daemon.ask("/v1/status")["instances"][0]["target"], "the statuses are listed")
    yield daemon
    daemon.close()


def log_out(daemon: Daemon, user: str, **body: str) -> httpx.Response:
    return httpx.post(
        f"{daemon.url}/v1/agents/{INSTANCE}/{user}/logout",
        json=body,
        headers={"Authorization": f"Bearer {ADMIN}"},
        timeout=60,
    )


def failed(answer: httpx.Response) -> str:
    """The last word of the problem's type."""
    problem = answer.json()
    assert (problem["outcome"], answer.status_code) == ("Fail", problem["status"])
    assert problem["detail"]
    return str(problem["type"]).removeprefix(FAIL)


def ended(connect: Connect, user: str) -> int:
    return len(list(connect.model.calls(operation="DeleteAllEntitySessions", user_id=user)))


def states(daemon: Daemon, user: str, sessions: list[str]) -> list[str]:
    return [daemon.beat(user, session).json()["state"] for session in sessions]


def test_an_agent_with_three_pages_is_logged_out_and_its_pages_stop_until_a_hello(
    connect: Connect, daemon: Daemon
) -> None:
    user, sessions = connect.users[0], [new_session() for _ in range(3)]
    for session in sessions:
        assert daemon.beat(user, session, type="hello").status_code == 200
    answer = log_out(daemon, user)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (connect.status(user), ended(connect, user)) == ("Offline", 1)
    assert states(daemon, user, sessions) == ["stop"] * 3
    (action,) = daemon.actions()
    assert (action["intent"], action["outcome"]) == ("sign_out", "confirmed")
    daemon.kill()
    daemon.start().ready()
    assert states(daemon, user, sessions) == ["stop"] * 3
    assert daemon.beat(user, sessions[0], type="hello").json()["state"] == "stop"
    assert daemon.beat(user, sessions[0], type="hello", incarnation=1).json()["state"] == "live"
    assert states(daemon, user, sessions) == ["live", "stop", "stop"]
    assert (len(connect.writes(user)), ended(connect, user)) == (1, 1)


@pytest.mark.long
def test_what_refuses_a_logout_changes_nothing(connect: Connect, daemon: Daemon) -> None:
    user, absent, busy, _ = connect.users
    session = new_session()
    daemon.beat(user, session, type="hello")
    connect.instance.queues["night"] = "night"
    profile = next(iter(connect.instance.profiles.values()))
    (queue,) = {each.queue_id for each in profile.queues}
    connect.instance.profiles[profile.id] = replace(profile, queues=(*profile.queues, ProfileQueue("night", "VOICE")))
    connect.model.agent_sets_status(INSTANCE, absent, "Offline")
    contact = connect.model.add_contact(INSTANCE, busy, ContactState.CONNECTED)
    assert failed(log_out(daemon, user, queue=queue)) == "queue"
    assert failed(log_out(daemon, user, queue="noon")) == "queue"
    assert failed(log_out(daemon, user, reason_code="8")) == "reason-code"
    assert failed(log_out(daemon, absent)) == "not-signed-in"
    assert failed(log_out(daemon, busy)) == "contact"
    assert connect.writes() == []
    assert states(daemon, user, [session]) == ["live"]
    connect.model.end_contact(INSTANCE, busy, contact.id)
    assert log_out(daemon, busy, reason_code="7").status_code == 204
    assert (connect.status(busy), ended(connect, busy)) == ("Lunch", 1)


@pytest.mark.long
def test_who_says_hello_while_the_order_is_under_way_is_not_signed_out(connect: Connect, daemon: Daemon) -> None:
    user, session = connect.users[0], new_session()
    daemon.beat(user, session, type="hello")
    model = connect.model
    assert isinstance(model, Watched)
    reached, go_on = model.stop_at("PutUserStatus arrives")
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(log_out(daemon, user)))
    asking.start()
    assert reached.wait(20)
    assert states(daemon, user, [session]) == ["stop"]
    assert daemon.beat(user, session, type="hello", incarnation=1).json()["state"] == "live"
    go_on.set()
    asking.join(60)
    assert failed(answers[0]) == "returned"
    assert ended(connect, user) == 0
    assert states(daemon, user, [session]) == ["live"]


def test_a_crash_between_the_intent_and_its_outcome_delays_the_logout(connect: Connect, daemon: Daemon) -> None:
    user, session = connect.users[0], new_session()
    daemon.beat(user, session, type="hello")
    model = connect.model
    assert isinstance(model, Watched)
    reached, go_on = model.stop_at("PutUserStatus has taken effect")

    def ask() -> None:
        with pytest.raises(httpx.TransportError):
            log_out(daemon, user)

    asking = threading.Thread(target=ask)
    asking.start()
    assert reached.wait(20)
    daemon.kill()
    go_on.set()
    asking.join(10)
    daemon.start().ready()
    assert states(daemon, user, [session]) == ["stop"]
    until(lambda: ended(connect, user), "the sessions are ended", 60)
    until(lambda: [each["outcome"] for each in daemon.actions()] == ["confirmed"], "it is told")
    assert (connect.status(user), len(connect.writes(user)), ended(connect, user)) == ("Offline", 1, 1)
    assert states(daemon, user, [session]) == ["stop"]
