"""What the feature SetAgentStatusOnSessionEnd of Salesforce's adapter does, and how it goes here."""

from __future__ import annotations

import time

from tests.parity.floor import PROFILE, Agent, Floor, Page, row, wait_for
from tests.parity.plans import SIGNED_OUT
from tests.scenarios.harness import INSTANCE
from watchdog.sandbox.records import ContactState

TIMER_S, TTL_S = 1.0, 2.0


@row("plain")
def test_the_last_session_of_all_tabs_windows_and_machines_counts(floor: Floor) -> None:
    """An agent is set when the last of all its sessions is gone, wherever they were."""
    agent, other = floor.hires(), floor.hires()
    first, second = agent.opens(), agent.opens(driver="main")
    first.closes()
    other.comes_and_goes()
    with floor.stays_open(agent):
        second.closes()
        other.is_set()
        assert agent.seen["state"] == "live"
        agent.is_untouched()
    agent.is_set()


@row("plain")
def test_no_window_has_to_stay_open(floor: Floor) -> None:
    """After the last page is gone nothing of the agent is needed: it is set although nothing comes from it."""
    agent = floor.hires()
    agent.opens()
    assert agent.is_set()["evidence"]["sessions"][0]["ended"] == "silence"
    assert agent.seen["state"] == "away"


@row("plain")
def test_a_pop_out_is_one_more_session(floor: Floor) -> None:
    """A utility in a window of its own keeps the agent there after the main page was closed, and ends it at last."""
    agent, other = floor.hires(), floor.hires()
    main, pop_out = agent.opens(), agent.opens()
    main.closes()
    other.comes_and_goes()

    def set_meanwhile() -> bool:
        pop_out.beats()
        return other.status == "Offline"

    wait_for(set_meanwhile, "another agent is set")
    agent.is_untouched()
    pop_out.closes()
    agent.is_set()


@row("rules")
def test_the_status_is_a_name_or_an_id_or_that_of_type_offline(floor: Floor) -> None:
    """Status: by name or by id, and without one that of type OFFLINE."""
    named, by_id, none = floor.hires(profile="Field"), floor.hires(profile="Night"), floor.hires(profile="EMEA Sales")
    for agent in (named, by_id, none):
        agent.comes_and_goes()
    named.is_set("Away")
    by_id.is_set("Coaching")
    none.is_set(SIGNED_OUT)


@row("rules")
def test_logout_sets_offline_and_signs_out_ten_seconds_after_that_is_confirmed(floor: Floor) -> None:
    """Status Logout: the sessions in Connect are ended when Offline is confirmed and still nobody is there."""
    agent, returns = floor.hires(profile="Contractors"), floor.hires(profile="Contractors")
    for each in (agent, returns):
        each.comes_and_goes()
    for each in (agent, returns):
        each.is_set(SIGNED_OUT)
    assert agent.signed_out == []
    with floor.stays_open(returns):
        agent.settled("confirmed", "sign_out")
        (ended,), (written,) = agent.signed_out, agent.writes
        assert ended.at - written.at >= 10
        assert returns.signed_out == []
        assert returns.seen["state"] == "live"


@row("rules")
def test_logout_waits_for_the_end_of_a_contact(floor: Floor) -> None:
    """Status Logout with a contact: Offline is the next status, and the sign-out waits until the contact has ended."""
    agent = floor.hires(profile="Contractors")
    contact = floor.connect.model.add_contact(INSTANCE, agent.id, ContactState.CONNECTED)
    agent.comes_and_goes()
    agent.settled("next_status")
    assert (agent.status, agent.next_status) == ("Available", SIGNED_OUT)
    assert agent.signed_out == []
    floor.connect.model.end_contact(INSTANCE, agent.id, contact.id)
    ended_at = time.time()
    agent.settled("confirmed", "sign_out")
    assert agent.signed_out[0].at - ended_at >= 10
    assert agent.status == SIGNED_OUT


@row("ordered")
def test_logout_never_signs_out_who_was_released_from_a_hold(floor: Floor) -> None:
    """The brake has held the agent: when it is let go it is set Offline, and its sessions in Connect are not ended."""
    agent, other = floor.hires(), floor.hires()
    held = {"state": "hold", "for_s": 600, "reason": "maintenance"}
    assert floor.post("/v1/brake", held, "PUT").status_code == 200
    agent.opens()
    wait_for(lambda: agent.seen["state"] == "held", "held")
    assert floor.post("/v1/brake", {"state": "released", "for_s": 600}, "PUT").status_code == 200
    agent.is_set()
    other.comes_and_goes()
    other.settled("confirmed", "sign_out")
    assert len(other.signed_out) == 1
    assert "brake" in agent.settled("skipped_state", "sign_out")["reason"]
    assert (agent.status, agent.signed_out) == ("Offline", [])


@row("dry")
def test_the_timer_is_five_seconds_unless_it_is_set(floor: Floor) -> None:
    """SessionEndTimer: 5 s without a setting."""
    assert floor.status["timers"]["session_end_timer_s"] == 5
    agent = floor.hires()
    agent.comes_and_goes()
    # A tick on a busy machine may be late.
    assert 4 < agent.seen["due_in_s"] < 6
    assert agent.settled("dry_run")["evidence"]["timer_s"] == 5


@row("plain")
def test_the_timer_can_be_set(floor: Floor) -> None:
    """SessionEndTimer: the status is not set before it is over, counted from the end of the last session."""
    assert floor.status["timers"]["session_end_timer_s"] == TIMER_S
    closes, crashes = floor.hires(), floor.hires()
    crashes.opens()
    heard = time.time()
    closes.comes_and_goes()
    closed = time.time()
    closes.is_set()
    crashes.is_set()
    # The bye was heard a little before its answer was.
    assert closes.writes[0].at - closed >= TIMER_S - 0.5
    assert crashes.writes[0].at - heard >= TTL_S + TIMER_S - 0.5


@row("plain")
def test_a_page_that_is_loaded_again_inside_the_timer_changes_nothing(floor: Floor) -> None:
    """A refresh ends one session and opens another: the timer stops."""
    reloads, other = floor.hires(), floor.hires()
    other.comes_and_goes()
    reloads.comes_and_goes()
    page = reloads.opens()

    def set_meanwhile() -> bool:
        page.beats()
        return bool(other.writes)

    wait_for(set_meanwhile, "who left at the same time is set")
    reloads.is_untouched()
    assert reloads.actions == []


@row("rules")
def test_only_profiles_whose_name_includes_a_text_are_meant(floor: Floor) -> None:
    """IfProfileNameIncludes: several texts, each a part of a routing profile's name."""
    seller, supporter, clerk = (floor.hires(profile=each) for each in ("EMEA Sales", "Customer support", "Billing"))
    for agent in (seller, supporter, clerk):
        agent.comes_and_goes()
    seller.is_set(SIGNED_OUT)
    supporter.is_set(SIGNED_OUT)
    assert "Billing" in clerk.settled("skipped_profile")["reason"]
    clerk.is_untouched()


@row("rules")
def test_the_current_status_counts_when_the_timer_ends(floor: Floor) -> None:
    """IfCurrentAgentState: several names, compared with what Connect shows at the end of the timer."""
    available, lunch, on_break, changes = (
        floor.hires(profile="EMEA Sales", status=each) for each in ("Available", "Lunch", "Break", "Available")
    )
    for agent in (available, lunch, on_break, changes):
        agent.comes_and_goes()
    changes.chooses("Break")
    available.is_set(SIGNED_OUT)
    lunch.is_set(SIGNED_OUT)
    assert "Break" in on_break.settled("skipped_state")["reason"]
    on_break.is_untouched("Break")
    changes.settled("skipped_state")
    assert (changes.status, changes.called("PutUserStatus")) == ("Break", [])


@row("rules")
def test_several_rules_and_the_first_that_matches(floor: Floor) -> None:
    """One feature with several settings: the first rule that matches gives the timer and the status."""
    lunch, desk, field = (
        floor.hires(profile="Desk", status="Lunch"),
        floor.hires(profile="Desk"),
        floor.hires(profile="Field"),
    )
    for agent in (lunch, desk, field):
        agent.comes_and_goes()
    closed = time.time()
    rules = {
        lunch.is_set("Break")["evidence"]["rule"],
        desk.is_set(SIGNED_OUT)["evidence"]["rule"],
        field.is_set("Away")["evidence"]["rule"],
    }
    assert rules == {"desk at lunch", "desk", "field"}
    assert field.writes[0].at - closed >= 5.5


@row("rules")
def test_what_is_done_about_a_contact_is_a_rules(floor: Floor) -> None:
    """With a contact: the status is the next one, or the contact's end is waited for, or the agent is left alone."""
    next_status, waits, skips = (floor.hires(profile=each) for each in ("EMEA Sales", "Chat", "Voice"))
    contacts = {}
    for agent in (next_status, waits, skips):
        contacts[agent] = floor.connect.model.add_contact(INSTANCE, agent.id, ContactState.CONNECTED).id
        agent.comes_and_goes()
    next_status.settled("next_status")
    assert (next_status.status, next_status.next_status) == ("Available", SIGNED_OUT)
    skips.settled("skipped_contact")
    skips.is_untouched()
    assert (waits.seen["state"], waits.next_status) == ("due", None)
    waits.is_untouched()
    floor.connect.model.end_contact(INSTANCE, waits.id, contacts[waits])
    waits.is_set(SIGNED_OUT)


def nothing_comes(
    floor: Floor, agent: Agent, page: Page, status: str = SIGNED_OUT, profile: str = "EMEA Sales"
) -> None:
    """The page stays while another agent comes, goes and is set, which takes longer than a return."""
    other = floor.hires(profile=profile)
    other.comes_and_goes()

    def set_meanwhile() -> bool:
        page.beats()
        return any(each["outcome"] == "confirmed" for each in other.actions)

    wait_for(set_meanwhile, "another agent is set")
    assert (agent.status, len(agent.writes)) == (status, 1)


@row("plain")
def test_the_initial_status_is_available_unless_it_is_set(floor: Floor) -> None:
    """InitialAgentState: whoever comes back with a new page is Available again."""
    agent = floor.hires(status="Lunch")
    agent.comes_and_goes()
    agent.is_set()
    action = agent.settled("confirmed", "restore", agent.opens())
    assert (action["target"], action["evidence"]["why"]) == ("Available", "return")
    assert agent.status == "Available"


@row("rules")
def test_the_initial_status_is_a_name_or_what_it_was_or_none_by_profile(floor: Floor) -> None:
    """InitialAgentState: a status, the one before, or none; the profile decides which."""
    named, previous, none = (floor.hires(profile=each, status="Break") for each in ("Desk", "Flex", "Temps"))
    for agent in (named, previous, none):
        agent.comes_and_goes()
    for agent in (named, previous, none):
        agent.is_set(SIGNED_OUT)
    for agent, outcome, status in (
        (named, "confirmed", "Coaching"),
        (previous, "confirmed", "Break"),
        (none, "skipped_state", SIGNED_OUT),
    ):
        agent.settled(outcome, "restore", agent.opens())
        assert agent.status == status


@row("plain")
def test_a_page_that_wakes_up_or_is_not_signed_in_gives_no_status(floor: Floor) -> None:
    """A browser that brings old tabs back makes nobody Available: the page is not new, or not signed in, or hidden."""
    wakes, hidden, signed_out = floor.hires(), floor.hires(), floor.hires()
    old = wakes.opens()
    for agent in (hidden, signed_out):
        agent.comes_and_goes()
    for agent in (wakes, hidden, signed_out):
        agent.is_set()
    nothing_comes(floor, wakes, old, "Offline", PROFILE)
    nothing_comes(floor, hidden, hidden.opens(visibility="hidden"), "Offline", PROFILE)
    page = signed_out.opens(login=False)
    nothing_comes(floor, signed_out, page, "Offline", PROFILE)
    page.beats(login=True)
    assert signed_out.settled("confirmed", "restore")["target"] == "Available"


@row("rules")
def test_a_status_that_was_chosen_since_stays(floor: Floor) -> None:
    """The initial status is set only while the status is still the one that the watchdog had set."""
    agent = floor.hires(profile="Desk")
    agent.comes_and_goes()
    agent.is_set(SIGNED_OUT)
    agent.chooses("Lunch")
    agent.settled("returned", "restore", agent.opens())
    assert agent.status == "Lunch"


@row("window")
def test_a_late_return_gives_no_status(floor: Floor) -> None:
    """After RETURN_WINDOW nothing is set."""
    agent = floor.hires()
    agent.comes_and_goes()
    agent.is_set()
    nothing_comes(floor, agent, agent.opens(), "Offline", PROFILE)
    assert [each["intent"] for each in agent.actions] == ["set_status"]


@row("plain")
def test_an_agent_can_be_logged_out_by_a_person_too(floor: Floor) -> None:
    """A status named Logout that supervisors choose: here a command, which sets Offline and ends the sessions."""
    agent, other = floor.hires(), floor.hires()
    with floor.stays_open(other):
        done = floor.command("logout", f"{INSTANCE}/{agent.id}", "--url", floor.daemon.url)
        assert done.returncode == 0, done.stderr
        assert (agent.status, len(agent.signed_out)) == ("Offline", 1)
        other.is_untouched()
