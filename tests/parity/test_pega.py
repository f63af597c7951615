"""What the activity LogoutAgent of Pega does, and how an explicit logout goes here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.parity.floor import PROFILE, Agent, Floor, row, wait_for
from watchdog.sandbox.records import ProfileQueue

if TYPE_CHECKING:
    import httpx


def fails(answer: httpx.Response) -> dict[str, Any]:
    """The problem of a logout that has changed nothing."""
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["outcome"], problem["status"]) == ("Fail", answer.status_code)
    assert problem["detail"]
    return problem


def queues_of(floor: Floor, profile: str, *names: str) -> list[str]:
    """Gives a routing profile these queues, and returns their ids."""
    instance = floor.connect.instance
    instance.queues.update({name: name for name in names})
    found = instance.profile_called(profile)
    instance.profiles[found.id] = replace(found, queues=tuple(ProfileQueue(name, "VOICE") for name in names))
    return list(names)


def is_logged_out(agent: Agent, status: str = "Offline") -> None:
    assert (agent.status, len(agent.writes), len(agent.signed_out)) == (status, 1, 1)


@row("plain")
def test_the_agent_is_named_in_the_path(floor: Floor) -> None:
    """AgentID: whoever the path names is logged out, and nobody else; somebody unknown fails."""
    agent, other, nobody = floor.hires(), floor.hires(), floor.hires()
    floor.connect.model.delete_user(floor.connect.instance.id, nobody.id)
    with floor.stays_open(agent, other):
        # A first heartbeat that came behind the order would be a return.
        wait_for(lambda: floor.daemon.ask(f"/v1/agents?q={agent.id}")["agents"], "the page is open")
        assert floor.log_out(agent).status_code == 204
        is_logged_out(agent)
        other.is_untouched()
        fails(floor.log_out(nobody))


@row("plain")
def test_the_reason_code_is_mapped_to_a_status_and_kept(floor: Floor) -> None:
    """AgentOptions: a code gives the status and stays in the history; one that is not known fails."""
    agent = floor.hires()
    assert "shift-end" in fails(floor.log_out(agent, reason_code="noon"))["detail"]
    agent.is_untouched()
    assert floor.log_out(agent, reason_code="shift-end").status_code == 204
    is_logged_out(agent, "Lunch")
    assert agent.settled("confirmed", "sign_out")["evidence"]["reason_code"] == "shift-end"


@row("plain")
def test_the_queue_is_the_only_one_of_the_profile_or_left_out(floor: Floor) -> None:
    """Queue: the profile has to have it, and no other; left out or blank it is the agent as a whole."""
    queues_of(floor, "One queue", "north")
    queues_of(floor, "Two queues", "south", "west")
    one, two = floor.hires(profile="One queue"), floor.hires(profile="Two queues")
    for agent in (one, two):
        assert fails(floor.log_out(agent, queue="south"))["type"] == "urn:watchdog:problem:logout-queue"
    assert "no logout of one queue" in fails(floor.log_out(two, queue="south"))["detail"]
    for agent in (one, two):
        agent.is_untouched()
    assert floor.log_out(one, queue="north").status_code == 204
    is_logged_out(one)
    assert floor.log_out(two, queue="").status_code == 204
    is_logged_out(two)


@row("plain")
def test_the_agent_has_to_be_signed_in_with_a_queue(floor: Floor) -> None:
    """Who is not signed in, or has no queue, cannot be logged out."""
    queues_of(floor, "No queue")
    absent, idle = floor.hires(status="Offline"), floor.hires(profile="No queue")
    assert fails(floor.log_out(absent))["type"] == "urn:watchdog:problem:logout-not-signed-in"
    assert fails(floor.log_out(idle))["type"] == "urn:watchdog:problem:logout-no-queue"
    absent.is_untouched("Offline")
    idle.is_untouched()
    assert absent.signed_out + idle.signed_out == []


@row("plain")
def test_success_has_no_body(floor: Floor) -> None:
    """Success: 204, and nothing that would have to be read."""
    agent = floor.hires(profile=PROFILE)
    answer = floor.log_out(agent)
    assert (answer.status_code, answer.content) == (204, b"")
    is_logged_out(agent)


@row("plain")
def test_an_error_says_fail_and_what_to_do(floor: Floor) -> None:
    """Failure: a problem with the outcome Fail and a message, whatever the reason; nothing is changed."""
    agent = floor.hires()
    assert "shift-end" in fails(floor.log_out(agent, reason_code="noon"))["detail"]
    path = f"/v1/agents/{floor.connect.instance.id}/{agent.id}/logout"
    assert fails(floor.post(path, {}, token="somebody"))["status"] == 401
    assert fails(floor.post(path, {"queue": 7}))["status"] in (400, 422)
    agent.is_untouched()
    assert agent.signed_out == []


@row("plain")
def test_who_is_logged_out_gets_no_calls_and_old_pages_stop(floor: Floor) -> None:
    """The status gets no calls, every session in Connect is ended, and old pages stop until somebody says hello."""
    agent = floor.hires()
    pages = [agent.opens(), agent.opens()]
    assert floor.log_out(agent).status_code == 204
    is_logged_out(agent)
    assert [page.beats()["state"] for page in pages] == ["stop", "stop"]
    assert agent.seen["sessions"] == []
    assert agent.opens().hello["state"] == "live"
    assert [page.beats()["state"] for page in pages] == ["stop", "stop"]
