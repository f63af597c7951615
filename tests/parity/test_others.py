"""What other contact centres' software has, and what none of it has."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.parity.floor import Floor, as_json, row, wait_for
from tests.parity.pages import ClientPage
from tests.parity.plans import SIGNED_OUT
from tests.scenarios.harness import INSTANCE, TOKEN
from tests.scenarios.watched import Watched
from watchdog.sandbox.records import ContactState, Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMER_S, TTL_S = 1.0, 2.0

HOOK_KEY = b"a-key-of-32-bytes-for-this-test!"


class Receiver(ThreadingHTTPServer):
    """Somebody's URL: takes what is signed, or answers with another status."""

    daemon_threads = True
    status = 204

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.taken: dict[str, dict[str, Any]] = {}
        self.refused: set[str] = set()

    def of_type(self, kind: str) -> dict[str, Any] | None:
        """An event of this type that was taken, if there is one."""
        return next((event for event in list(self.taken.values()) if event["type"] == kind), None)


class _Hook(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        key = self.headers["webhook-id"]
        signed = f"{key}.{self.headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(HOOK_KEY, signed, "sha256").digest()).decode()
        status = self.server.status if self.headers["webhook-signature"] == f"v1,{expected}" else 401
        if status < 300:
            self.server.taken[key] = json.loads(body)
        else:
            self.server.refused.add(key)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@row("rules")
def test_two_stages(floor: Floor) -> None:
    """First another status, later Offline and signed out; a return in between ends it."""
    agent, returns = floor.hires(profile="Outsourced"), floor.hires(profile="Outsourced")
    for each in (agent, returns):
        each.comes_and_goes()
    closed = time.time()
    for each in (agent, returns):
        assert each.settled("confirmed")["target"] == "Away"
    with floor.stays_open(returns):
        agent.settled("confirmed", "sign_out")
        assert SIGNED_OUT not in [each["target"] for each in returns.actions]
    assert agent.status == SIGNED_OUT
    first, second = agent.writes
    assert first.at - closed >= TIMER_S - 0.5
    assert second.at - closed >= 11.5
    assert returns.signed_out == []


@row("plain")
def test_the_record_says_why(floor: Floor) -> None:
    """Each entry of the history has a sentence for people, and how the last session ended."""
    closes, crashes = floor.hires(), floor.hires()
    crashes.opens()
    closes.comes_and_goes()
    for agent, ended in ((closes, "bye"), (crashes, "silence")):
        action = agent.is_set()
        assert action["reason"].endswith(".")
        assert [each["ended"] for each in action["evidence"]["sessions"]] == [ended]


@row("notified")
def test_a_notice_to_the_supervisor(floor: Floor) -> None:
    """What is done with an agent is told to a URL, signed; after a kill -9 also what nobody had taken before it.

    The brake and problems are told too.
    """
    with receiver() as told:
        hooks = {
            "WATCHDOG_NOTIFY_URLS": f"http://127.0.0.1:{told.server_port}/hook-of-supervisors",
            "WATCHDOG_NOTIFY_SECRET": f"whsec_{base64.b64encode(HOOK_KEY).decode()}",
        }
        floor.start(**hooks)
        floor.knows_its_target()
        first, second, onlooker = floor.hires(), floor.hires(), floor.hires()
        with floor.stays_open(onlooker):
            first.comes_and_goes()
            action = first.is_set()
            event = wait_for(lambda: told.taken.get(action["id"]), "the supervisor is told")
            assert event["type"] == "watchdog.action.confirmed"
            assert event["subject"] == f"{INSTANCE}/{first.id}"
            assert event["data"] == action

            told.status = 503
            second.comes_and_goes()
            action = second.is_set()
            wait_for(lambda: action["id"] in told.refused, "it was tried")
            floor.daemon.kill()
            told.status = 204
            floor.start(**hooks)
            assert wait_for(lambda: told.taken.get(action["id"]), "told after the restart")["data"] == action
        assert len(told.taken) == 2

        assert floor.post("/v1/brake", {"state": "hold", "for_s": 60, "reason": "a drill"}, "PUT").is_success
        held = wait_for(lambda: told.of_type("watchdog.brake.tripped"), "the brake is told")
        assert held["data"]["reason"] == "operator"
        assert floor.post("/v1/brake", {"state": "hold", "for_s": 0}, "PUT").is_success
        floor.connect.model.add_fault(Fault(FaultKind.ACCESS_DENIED, operation="PutUserStatus"))
        third = floor.hires()
        third.comes_and_goes()
        assert wait_for(lambda: told.of_type("watchdog.problem.began"), "the 403 is told")["subject"] == "denied"
        assert floor.daemon.stop() == 0
    assert "hook-of-supervisors" not in floor.daemon.log


@row("rules")
def test_timers_and_targets_by_profile_and_by_current_status(floor: Floor) -> None:
    """Who is at lunch, and who has another profile, has another timer and another target."""
    lunch, desk, field = (
        floor.hires(profile="Desk", status="Lunch"),
        floor.hires(profile="Desk"),
        floor.hires(profile="Field"),
    )
    for agent in (lunch, desk, field):
        agent.comes_and_goes()
    timers = [
        agent.is_set(status)["evidence"]["timer_s"]
        for agent, status in ((lunch, "Break"), (desk, SIGNED_OUT), (field, "Away"))
    ]
    assert timers == [2, 1, 10]


@row("rules")
def test_back_to_the_former_status_on_reconnect(floor: Floor) -> None:
    """Who comes back has the status that was there before the watchdog changed it."""
    agent = floor.hires(profile="Flex", status="Lunch")
    agent.comes_and_goes()
    agent.is_set(SIGNED_OUT)
    assert agent.settled("confirmed", "restore", agent.opens())["target"] == "Lunch"
    assert agent.status == "Lunch"


@row("plain")
def test_the_agents_page_is_told_what_was_done(floor: Floor) -> None:
    """Replies tell the page that a status was set, when and why, and then what was restored."""
    agent = floor.hires()
    old = agent.opens()
    agent.is_set()
    notice = old.beats()["notice"]
    assert (notice["status"], notice["restored"]) == ("Offline", None)
    assert notice["set_at"]
    assert notice["why"].endswith(".")
    new = agent.opens()
    assert new.hello["notice"] == notice
    wait_for(lambda: new.beats()["notice"]["restored"] == "Available", "told of the restore")
    assert agent.status == "Available"


@row("plain")
def test_the_banner_in_the_page_says_what_was_done(floor: Floor) -> None:
    """A page that was cut off says so in its banner, then what was done meanwhile; the next page, what is again."""
    agent = floor.hires()
    with ClientPage(floor, agent, "tag") as page:
        wait_for(lambda: agent.sessions, "a session")
        page.goes("offline")
        agent.is_set()
        page.says("cannot hear this page")
        page.goes("online")
        page.says("You were set to Offline at ")
        assert page.said[0].endswith(".")
        with ClientPage(floor, agent, "module") as new:
            agent.settled("confirmed", intent="restore")
            new.says("Your status is Available again.")
    assert agent.status == "Available"


@row("dry")
def test_the_agents_page_warns_before_anything_is_done(floor: Floor) -> None:
    """A page that is not answered for half of its lease warns its agent, until it is, and before any decision."""
    for way in ("tag", "module"):
        agent = floor.hires()
        with ClientPage(floor, agent, way) as page:
            wait_for(lambda agent=agent: agent.sessions, "a session")
            page.goes("offline")
            page.says("your status may be set to Offline")
            assert page.status is None or page.status["atRisk"]
            assert agent.actions == []
            page.goes("online")
            page.says()
            assert page.status is None or not page.status["atRisk"]
        agent.settled("dry_run")


@row("plain")
def test_an_event_log(floor: Floor) -> None:
    """What was done with an agent can be asked for, by agent, by outcome and by time."""
    agent, other = floor.hires(), floor.hires()
    for each in (agent, other):
        each.comes_and_goes()
    action = agent.is_set()
    other.is_set()
    path = f"/v1/actions?agent={INSTANCE}/{agent.id}"
    assert floor.daemon.ask(f"{path}&outcome=confirmed")["actions"] == [action]
    assert floor.daemon.ask(f"{path}&outcome=failed")["actions"] == []
    assert floor.daemon.ask(f"{path}&since={time.time() + 60}")["actions"] == []


@row("unknown names")
def test_thresholds_are_settings_and_a_name_that_connect_does_not_know_stops_the_start(floor: Floor) -> None:
    """Settings come from the environment; the start fails with one line for each name that does not exist."""
    rules = [
        {"name": "night", "if_profile_name_includes": ["Nihgt"], "status": "Awya"},
        {"name": "noon", "if_current_agent_state": ["Lunhc"], "session_end_timer": 60},
    ]
    codes = {"7": "Coachign"}
    floor.daemon.start(WATCHDOG_RULES=as_json(rules), WATCHDOG_STATUS="Offlien", WATCHDOG_REASON_CODES=as_json(codes))
    assert floor.daemon.ended(60) == 2
    lines = floor.daemon.log.splitlines()
    for variable, name in (
        ("WATCHDOG_RULES", "Nihgt"),
        ("WATCHDOG_RULES", "Awya"),
        ("WATCHDOG_RULES", "Lunhc"),
        ("WATCHDOG_STATUS", "Offlien"),
        ("WATCHDOG_REASON_CODES", "Coachign"),
    ):
        assert [line for line in lines if variable in line and f'"{name}"' in line], (name, floor.daemon.log)
    assert "Traceback" not in floor.daemon.log


@row("unreachable at the start")
def test_a_name_that_cannot_be_asked_about_touches_nobody_and_is_told_when_it_can(floor: Floor) -> None:
    """While Connect gives no lists nobody is touched; then the wrong name is a problem, and other rules go on."""
    model = floor.connect.model
    for operation in ("ListAgentStatuses", "ListRoutingProfiles"):
        model.add_fault(Fault(FaultKind.INTERNAL, operation=operation))
    rules = [{"name": "night", "if_profile_name_includes": ["Night"], "status": "Awya"}]
    floor.start(WATCHDOG_RULES=as_json(rules))
    night, day, onlooker = floor.hires(profile="Night"), floor.hires(), floor.hires()
    with floor.stays_open(onlooker):
        for agent in (night, day):
            agent.comes_and_goes()
        for agent in (night, day):
            wait_for(lambda agent=agent: agent.seen["state"] == "due", "due")
        assert not model.calls(operation="PutUserStatus")
        model.clear_faults()
        day.is_set()
        told = {each["code"]: each["detail"] for each in floor.status["problems"]}
        assert '"Awya"' in told["unknown_status"]
        assert "WATCHDOG_RULES" in told["unknown_status"]
        night.is_untouched()
        assert night.seen["state"] == "due"


@row("plain")
def test_read_back_and_repair(floor: Floor) -> None:
    """A change that was accepted and did not land is seen, and made again."""
    agent = floor.hires()
    floor.connect.model.add_fault(Fault(FaultKind.NO_EFFECT, operation="PutUserStatus", user_id=agent.id, times=1))
    agent.comes_and_goes()
    action = agent.is_set()
    assert [each["result"] for each in action["evidence"]["writes"]] == ["accepted", "accepted"]
    *before, last = action["evidence"]["read_backs"]
    assert {each["status"] for each in before} == {"Available"}
    assert not last["shown"]


@row("plain")
def test_sessions_are_counted_over_devices(floor: Floor) -> None:
    """A browser, another browser and a gateway are one agent's three sessions; the last one counts."""
    agent, other = floor.hires(), floor.hires()
    pages = [agent.opens(driver=driver, visibility="visible") for driver in ("worker", "main", "worker")]
    assert len(agent.seen["sessions"]) == 3
    last = pages.pop()
    for page in pages:
        page.closes()
    other.comes_and_goes()

    def set_meanwhile() -> bool:
        last.beats()
        return bool(other.writes)

    wait_for(set_meanwhile, "another agent is set")
    assert [each["session_id"] for each in agent.seen["sessions"]] == [last.session]
    agent.is_untouched()
    last.closes()
    agent.is_set()


@row("brake")
def test_mass_silence_is_held_back(floor: Floor) -> None:
    """When most agents fall silent at once nobody of them is set; who said bye is."""
    silent, leaves = [floor.hires() for _ in range(8)], floor.hires()
    with floor.stays_open(*silent):
        wait_for(lambda: floor.status["agents"]["live"] >= len(silent), "all are heard")
    leaves.comes_and_goes()
    wait_for(lambda: {agent.seen["state"] for agent in silent} == {"held"}, "all are held")
    leaves.is_set()
    for agent in silent:
        assert agent.settled("held")["evidence"]["brake"]
        agent.is_untouched()
    brake = floor.status["brake"]
    assert (brake["state"], brake["held"]) == ("holding", len(silent))


@row("outage")
def test_no_action_after_our_own_pause_or_restart(floor: Floor) -> None:
    """Time in which the daemon was stopped or not there is nobody's silence; afterwards ghosts are found as before."""
    stays, ghost = [floor.hires() for _ in range(4)], floor.hires()
    fault = threading.Event()
    with floor.stays_open(*stays):
        wait_for(lambda: floor.status["agents"]["live"] == 5, "all are heard")
        process = floor.daemon.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        fault.wait(2 * (TTL_S + TIMER_S))
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: floor.status["clock"]["stopped_s"]["pause"] > TTL_S, "the clock stood")
        ghost.opens()
        floor.daemon.kill()
        fault.wait(2 * (TTL_S + TIMER_S))
        floor.start()
        assert floor.status["clock"]["stopped_s"]["restart"] > TTL_S
        ghost.is_set()
        for agent in stays:
            agent.is_untouched()
            assert agent.seen["state"] == "live"


@row("rules")
def test_activity_in_connect_spares(floor: Floor) -> None:
    """A contact that was taken, or a status that was chosen, after the last heartbeat counts as one at that time."""
    talks, clicks = floor.hires(profile="Field"), floor.hires(profile="Field")
    for agent in (talks, clicks):
        agent.comes_and_goes()
    wait_for(lambda: 2 < clicks.seen["due_in_s"] < 6, "nearly half of the timer is over")
    floor.connect.model.add_contact(INSTANCE, talks.id, ContactState.CONNECTED)
    clicks.chooses("Lunch")
    acted = time.time()
    for agent, kind in ((talks, "contact"), (clicks, "status")):
        assert agent.settled("witnessed")["evidence"]["activity"]["kind"] == kind
    for agent in (talks, clicks):
        (written,) = wait_for(lambda agent=agent: agent.called("PutUserStatus"), "set at last")
        # Connect's times have whole seconds.
        assert written.at - acted >= TTL_S + 10 - 1.5


@row("scarce")
def test_the_quota_goes_first_to_who_would_get_the_next_contact(floor: Floor) -> None:
    """Of many who left at once those who can get contacts are set first."""
    users = [floor.hires(status=status) for status in ("Lunch",) * 3 + ("Available",) * 3]
    byes = [agent.opens().farewell for agent in users]
    answer = floor.post("/v1/heartbeats", {"heartbeats": byes}, token=TOKEN)
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (6, [])
    wait_for(lambda: all(agent.writes for agent in users), "all are set")
    order = [call.user_id for call in floor.connect.writes()]
    assert set(order[:3]) == {agent.id for agent in users[3:]}


@row("rules")
def test_ended_contacts_that_hold_a_ghost_busy_are_dismissed(floor: Floor) -> None:
    """Offline first, then what is over is cleared, so that the status applies; unless a rule leaves contacts alone."""
    agent, left = floor.hires(profile="EMEA Sales"), floor.hires(profile="Archive")
    for each in (agent, left):
        floor.connect.model.add_contact(INSTANCE, each.id, ContactState.ERROR)
        each.comes_and_goes()
    agent.settled("confirmed", "dismiss")
    agent.settled("confirmed")
    assert agent.status == SIGNED_OUT
    (written,), (dismissed,) = agent.called("PutUserStatus"), agent.called("DismissUserContact")
    assert written.at <= dismissed.at
    left.settled("next_status")
    assert (left.status, left.called("DismissUserContact")) == ("Available", [])


@row("dry")
def test_a_dry_run_decides_and_records_and_writes_nothing(floor: Floor) -> None:
    """What would be done is in the history with its evidence; Connect is not changed."""
    agent = floor.hires()
    agent.comes_and_goes()
    action = agent.settled("dry_run")
    assert (action["target"], action["evidence"]["before"]["status"]) == ("Offline", "Available")
    agent.is_untouched()
    assert not floor.connect.model.calls(operation="PutUserStatus")


@row("plain")
def test_every_decision_is_explained_with_its_evidence(floor: Floor) -> None:
    """The entry has clocks, sessions, what Connect showed before and after, each call, and the rule."""
    agent = floor.hires()
    page = agent.opens()
    page.closes()
    evidence = agent.is_set()["evidence"]
    assert evidence["clock_s"] >= evidence["deadline_s"]
    assert evidence["timer_s"] == TIMER_S
    assert evidence["sessions"][0]["session_id"] == page.session
    assert evidence["before"]["status"] == "Available"
    assert [each["result"] for each in evidence["writes"]] == ["accepted"]
    assert evidence["read_backs"]
    assert evidence["rule"] == "default"


@row("recorded")
def test_timers_are_tuned_by_playing_recorded_heartbeats_again(floor: Floor) -> None:
    """A recording of what came is played against other timers: a shorter one would have set somebody who came back."""
    agent, path = floor.hires(), floor.folder / "recorded.jsonl"
    with ThreadPoolExecutor(1) as pool:
        recording = pool.submit(floor.command, "record", "--url", floor.daemon.url, "--out", str(path), "--for", "6s")
        wait_for(lambda: path.exists() and path.read_bytes().endswith(b"\n"), "the recording has begun")
        agent.comes_and_goes()
        wait_for(lambda: agent.seen["due_in_s"] < 3, "two seconds have gone by")
        agent.opens()
        done = recording.result()
        assert done.returncode == 0, done.stderr

    def false_ones(*options: str) -> int:
        """How many would have been set under the first setting of the table who came back."""
        done = floor.command("replay", str(path), *options)
        assert done.returncode == 0, done.stderr
        (found,) = [line.split() for line in done.stdout.splitlines() if line.lstrip().startswith("false Offlines")]
        return int(found[2])

    assert false_ones() == 0
    assert false_ones("--session-end-timer", "1") == 1


@row("plain")
def test_hidden_pages_have_thresholds_of_their_own(floor: Floor) -> None:
    """A page that is hidden and whose timers the browser throttles may be silent for longer."""
    hidden, visible = floor.hires(), floor.hires()
    begun = time.time()
    page = hidden.opens(visibility="hidden", driver="main")
    assert page.hello["ttl_ms"] > visible.opens().hello["ttl_ms"]
    hidden.is_set()
    visible.is_set()
    assert hidden.writes[0].at - begun >= 2 * TTL_S + TIMER_S
    assert visible.writes[0].at < hidden.writes[0].at


@row("crossing")
def test_a_return_is_seen_right_before_the_write(floor: Floor) -> None:
    """Who is heard again while Connect is still being asked is not written to."""
    agent, model = floor.hires(), floor.connect.model
    assert isinstance(model, Watched)
    reached, go_on = model.stop_at("GetCurrentUserData has taken effect", agent.id)
    agent.comes_and_goes()
    assert reached.wait(30)
    agent.opens()
    go_on.set()
    agent.settled("returned")
    assert (agent.status, agent.called("PutUserStatus")) == ("Available", [])


@row("crossing")
def test_a_change_that_crossed_with_a_return_is_undone(floor: Floor) -> None:
    """Who is heard again while the status is being written gets the former one back."""
    agent, model = floor.hires(status="Lunch"), floor.connect.model
    assert isinstance(model, Watched)
    reached, go_on = model.stop_at("PutUserStatus has taken effect", agent.id)
    agent.comes_and_goes()
    assert reached.wait(30)
    assert agent.status == "Offline"
    page = agent.opens()
    go_on.set()

    def restored() -> bool:
        page.beats()
        return agent.status == "Lunch"

    wait_for(restored, "the former status is back")
    assert agent.settled("confirmed", "restore")["evidence"]["why"] == "crossed"
