"""InitialAgentState: the browser is closed, the agent is set, and opens a page again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.scenarios.harness import INSTANCE, PATIENT, Connect, Daemon, Present, new_session, sandbox, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.scenario
# Those that are long have a short row of their own in tests/parity.

OPEN = {"visibility": "visible", "login": True}


@pytest.fixture
def connect() -> Iterator[Connect]:
    with sandbox(agents=5) as connect:
        yield connect


@contextlib.contextmanager
def running(connect: Connect, daemon: Daemon, **changes: str) -> Iterator[None]:
    """A daemon, and somebody who is heard all the time: where all fall silent, the brake holds."""
    daemon.env |= PATIENT
    daemon.start(**changes).ready()
    until(lambda: daemon.ask("/v1/status")["instances"][0]["target"], "the statuses are listed")
    with Present(daemon, [connect.users.pop()]):
        yield


def closes(connect: Connect, daemon: Daemon, user: str) -> str:
    """The browser is closed, and the agent is set. Returns the session."""
    session = new_session()
    assert daemon.beat(user, session, type="hello", **OPEN).json()["state"] == "live"
    assert daemon.bye(user, session).status_code == 204
    away(connect, daemon, user)
    return session


def away(connect: Connect, daemon: Daemon, user: str) -> None:
    until(lambda: connect.status(user) == "Offline" and daemon.state(user) == "away", f"{user} is set")


def restores(daemon: Daemon, user: str) -> list[dict[str, Any]]:
    return [a for a in daemon.actions() if a["intent"] == "restore" and a["agent"] == f"{INSTANCE}/{user}"]


class Page:
    """A page that is open: says hello, then beats each time that it is asked for what it was told."""

    def __init__(self, daemon: Daemon, user: str, **fields: Any) -> None:
        self._daemon, self._user, self._session = daemon, user, new_session()
        self._fields = {**OPEN, **fields}
        self.hello = daemon.beat(user, self._session, type="hello", seq=0, **self._fields).json()
        self._seq = 0

    def told(self, **fields: Any) -> dict[str, Any] | None:
        self._seq += 1
        answer = self._daemon.beat(self._user, self._session, seq=self._seq, **{**self._fields, **fields})
        notice: dict[str, Any] | None = answer.json().get("notice")
        return notice

    def restored(self) -> str | None:
        notice = self.told()
        assert notice is not None
        name: str | None = notice["restored"]
        return name


def test_whoever_comes_back_with_a_new_page_is_available_again_and_is_told(connect: Connect, daemon: Daemon) -> None:
    with running(connect, daemon):
        user = connect.users[0]
        connect.model.agent_sets_status(INSTANCE, user, "Lunch")
        closes(connect, daemon, user)
        page = Page(daemon, user)
        notice = page.hello["notice"]
        assert (notice["status"], notice["restored"]) == ("Offline", None)
        assert notice["why"] == "All of your pages were closed."
        assert until(page.restored, "the page is told of the restore") == "Available"
        assert connect.status(user) == "Available"
        (action,) = restores(daemon, user)
        assert (action["outcome"], action["target"]) == ("confirmed", "Available")
        evidence = action["evidence"]
        assert (evidence["why"], evidence["rule"], evidence["initial_state"]) == ("return", "default", "Available")
        assert len(connect.writes(user)) == 2


@pytest.mark.long
def test_previous_gives_back_what_the_agent_had(connect: Connect, daemon: Daemon) -> None:
    with running(connect, daemon, WATCHDOG_INITIAL_AGENT_STATE="previous"):
        user = connect.users[0]
        connect.model.agent_sets_status(INSTANCE, user, "Lunch")
        closes(connect, daemon, user)
        page = Page(daemon, user, login=False)
        assert page.restored() is None
        assert not restores(daemon, user)

        def signed_in() -> bool:
            page.told(login=True)
            return connect.status(user) == "Lunch"

        until(signed_in, "the former status is back when the Connect session is up")


@pytest.mark.long
def test_none_gives_nothing_and_tells_all_the_same(connect: Connect, daemon: Daemon) -> None:
    with running(connect, daemon, WATCHDOG_INITIAL_AGENT_STATE="none"):
        user = connect.users[0]
        closes(connect, daemon, user)
        page = Page(daemon, user)
        assert page.hello["notice"]["status"] == "Offline"
        nothing_comes(connect, daemon, user, page)


def nothing_comes(connect: Connect, daemon: Daemon, user: str, page: Page) -> None:
    """The page stays while another agent comes, goes and is set, which takes longer than a restore."""
    page.told()
    closes(connect, daemon, connect.users[-1])
    page.told()
    assert connect.status(user) == "Offline"
    assert len(connect.writes(user)) == 1


@pytest.mark.long
def test_after_the_window_nothing_is_set(connect: Connect, daemon: Daemon) -> None:
    with running(connect, daemon, WATCHDOG_RETURN_WINDOW="0.1"):
        user = connect.users[0]
        closes(connect, daemon, user)
        page = Page(daemon, user)
        nothing_comes(connect, daemon, user, page)
        assert restores(daemon, user) == []


@pytest.mark.long
def test_a_status_that_was_chosen_meanwhile_stays(connect: Connect, daemon: Daemon) -> None:
    with running(connect, daemon):
        user = connect.users[0]
        closes(connect, daemon, user)
        connect.model.agent_sets_status(INSTANCE, user, "Lunch")
        page = Page(daemon, user)
        (action,) = until(lambda: restores(daemon, user), "it is looked at")
        assert (action["outcome"], connect.status(user)) == ("returned", "Lunch")
        assert page.restored() is None


@pytest.mark.long
def test_an_old_page_that_wakes_up_restores_nothing_and_is_told(connect: Connect, daemon: Daemon) -> None:
    with running(connect, daemon):
        user = connect.users[0]
        page = Page(daemon, user)
        away(connect, daemon, user)
        notice = page.told()
        assert notice is not None
        assert (notice["status"], notice["restored"]) == ("Offline", None)
        assert notice["why"] == "Nothing was heard from any of your pages."
        nothing_comes(connect, daemon, user, page)
        assert restores(daemon, user) == []


@pytest.mark.long
def test_the_profile_decides_and_a_restart_forgets_neither_return_nor_notice(connect: Connect, daemon: Daemon) -> None:
    connect.model.add_routing_profile(INSTANCE, "EMEA Sales")
    rules = """[
        {"name": "sales", "if_profile_name_includes": ["sales"], "initial_agent_state": "Lunch"},
        {"name": "rest", "initial_agent_state": "none"}
    ]"""
    with running(connect, daemon, WATCHDOG_RULES=rules):
        seller, other = connect.users[:2]
        connect.model.set_routing_profile(INSTANCE, seller, "EMEA Sales")
        for user in (seller, other):
            closes(connect, daemon, user)
        pages = {user: Page(daemon, user, login=False) for user in (seller, other)}
        daemon.kill()
        daemon.start(WATCHDOG_RULES=rules).ready()

        def settled() -> bool:
            for page in pages.values():
                page.told(login=True)
            return all(restores(daemon, user) for user in (seller, other))

        until(settled, "both are settled", 60)
        assert [connect.status(user) for user in (seller, other)] == ["Lunch", "Offline"]
        assert restores(daemon, other)[0]["outcome"] == "skipped_state"
        assert until(pages[seller].restored, "told") == "Lunch"
