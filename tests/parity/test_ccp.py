"""What pages that set their agent Offline while they are closed could not do."""

from __future__ import annotations

import httpx

from tests.parity.floor import ARN, Floor, row, wait_for
from tests.parity.pages import ClientPage
from tests.parity.plans import SIGNED_OUT
from tests.scenarios.harness import TOKEN, new_session
from watchdog.sandbox.records import Fault, FaultKind


@row("plain")
def test_a_bye_starts_the_timer_and_silence_alone_ends_a_session_too(floor: Floor) -> None:
    """A page says bye when it goes, which only starts the timer; one that crashed is found by its silence."""
    says_bye, crashes, reloads = floor.hires(), floor.hires(), floor.hires()
    crashes.opens()
    reloads.comes_and_goes()
    with floor.stays_open(reloads):
        says_bye.comes_and_goes()
        assert says_bye.is_set()["evidence"]["sessions"][0]["ended"] == "bye"
        assert crashes.is_set()["evidence"]["sessions"][0]["ended"] == "silence"
        reloads.is_untouched()
    (written,) = crashes.writes
    assert written.operation == "PutUserStatus"


@row("plain")
def test_any_client_that_can_post_is_enough_whatever_the_version_of_the_ccp(floor: Floor) -> None:
    """No CCP has to help: one POST that needs no preflight and no header opens a session and renews it."""
    agent, session = floor.hires(), new_session()
    body = f'{{"agent": "{ARN}{agent.id}", "session_id": "{session}", "token": "{TOKEN}"}}'
    headers = {"Content-Type": "text/plain"}
    for _ in range(2):
        answer = httpx.post(f"{floor.daemon.url}/v1/heartbeat", content=body, headers=headers, timeout=30)
        assert answer.json()["state"] == "live"
    assert [each["session_id"] for each in agent.seen["sessions"]] == [session]
    agent.is_set()


@row("plain")
def test_a_script_tag_or_the_es_module_in_the_page_is_enough(floor: Floor) -> None:
    """Streams gives the agent, the client as the daemon serves it beats and says bye, and the status is set then."""
    for way in ("tag", "module"):
        agent = floor.hires()
        with ClientPage(floor, agent, way) as page:
            (session,) = wait_for(lambda agent=agent: agent.sessions, f"a session by the {way}")
            assert (session["visibility"], session["driver"]) == ("visible", "main")
            if page.status is not None:
                assert (page.status["state"], page.status["sessionId"]) == ("live", session["session_id"])
            agent.is_untouched()
        assert agent.is_set()["evidence"]["sessions"][0]["ended"] == "bye"


@row("plain")
def test_a_call_that_fails_is_made_again_until_connect_shows_it_and_no_page_waits(floor: Floor) -> None:
    """Errors of Connect are the server's business: it tries for as long as the agent is gone, and looks again."""
    agent = floor.hires()
    for kind in (FaultKind.INTERNAL, FaultKind.THROTTLE):
        floor.connect.model.add_fault(Fault(kind, operation="PutUserStatus", user_id=agent.id, times=1))
    agent.comes_and_goes()
    action = agent.is_set()
    assert [each["result"] for each in action["evidence"]["writes"]][-1] == "accepted"
    assert len(agent.called("PutUserStatus")) == 3
    assert action["evidence"]["read_backs"]


@row("rules")
def test_a_call_that_connect_refuses_is_told_to_operators_and_nobody_is_forgotten(floor: Floor) -> None:
    """A permission that is missing shows in the status of the daemon; the agent stays due."""
    agent = floor.hires(profile="Trainees")
    floor.connect.model.add_fault(Fault(FaultKind.ACCESS_DENIED, operation="PutUserStatus", user_id=agent.id))
    agent.comes_and_goes()

    def told() -> list[str]:
        return [each["detail"] for each in floor.status["problems"] if each["code"] == "denied"]

    assert "PutUserStatus" in wait_for(told, "it is told")[0]
    assert agent.seen["state"] == "due"
    agent.is_untouched()


@row("rules")
def test_statuses_are_looked_up_in_the_instance_and_offline_by_its_type(floor: Floor) -> None:
    """The status of type OFFLINE is found whatever it is called there, others by name or id."""
    assert floor.status["instances"][0]["target"]["name"] == SIGNED_OUT
    by_type, by_name, by_id = floor.hires(profile="Desk"), floor.hires(profile="Field"), floor.hires(profile="Night")
    for agent in (by_type, by_name, by_id):
        agent.comes_and_goes()
    by_type.is_set(SIGNED_OUT)
    by_name.is_set("Away")
    by_id.is_set("Coaching")
