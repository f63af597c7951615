"""Rules carried out: filters, timers, contacts, stages and sign-outs, one story a test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.connect.world import TIMER, TTL, World, instant, world
from watchdog.connect.waiting import LOOK_EVERY_S
from watchdog.core.brake import ALL, BrakeRules
from watchdog.core.model import IntentKind, Outcome
from watchdog.core.policy import OnContact, Rule, Stage
from watchdog.sandbox.records import Behaviour, ContactState, FaultKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watchdog.core.model import AgentId

pytestmark = pytest.mark.looptime

LOGOUT = (TIMER, None, True)


def rule(
    name: str = "default",
    *stages: tuple[float, str | None] | tuple[float, str | None, bool],
    profiles: Sequence[str] = (),
    states: Sequence[str] = (),
    on_contact: OnContact = OnContact.NEXT_STATUS,
    dismiss: bool = True,
) -> Rule:
    made = tuple(Stage(each[0], each[1], len(each) > 2 and each[2]) for each in stages or ((TIMER, None),))
    return Rule(name, tuple(profiles), tuple(states), made, on_contact, dismiss, None)


DEFAULT = rule()


def staff(w: World, agents: int = 1, statuses: Sequence[str] = ("Lunch", "Away"), profiles: Sequence[str] = ()) -> list:
    """An instance with these statuses; agents are spread over the profiles."""
    from watchdog.sandbox.seed import seed

    made = w.centre(agents=agents)
    seed(w.model, agents=0, instance_id="main", statuses=statuses, routing_profiles=profiles)
    for number, agent in enumerate(made):
        if profiles:
            w.model.set_routing_profile(*agent, profiles[number % len(profiles)])
    return made


def calls(w: World, operation: str, agent: AgentId | None = None) -> list:
    return list(w.model.calls(operation=operation, user_id=agent.user_id if agent else None))


# Filters and timers.


async def test_only_agents_of_the_profiles_named_are_set_and_the_others_are_skipped_for_good(tmp_path):
    async with world(tmp_path, rules=(rule(profiles=["sales"]),)) as w:
        seller, clerk = staff(w, 2, profiles=["EMEA Sales", "Back office"])
        await w.start()
        await w.leave(seller, clerk)
        await asyncio.sleep(TIMER + 5)
        assert (w.shown(seller), w.shown(clerk)) == ("Offline", "Available")
        assert sorted(w.outcomes()) == ["confirmed", "skipped_profile"]
        (skipped,) = [action for action in w.actions if action.outcome is Outcome.SKIPPED_PROFILE]
        assert skipped.evidence["profile"] == "Back office"
        assert "'Back office'" in skipped.reason
        await asyncio.sleep(60)
        assert len(w.actions) == 2


async def test_the_status_that_counts_is_the_one_at_the_end_of_the_timer(tmp_path):
    async with world(tmp_path, rules=(rule(states=["Available"]),)) as w:
        anna, berta = staff(w, 2)
        w.model.agent_sets_status(*anna, "Lunch")
        await w.start()
        await w.leave(anna, berta)
        # Long ago enough to be no sign of life.
        await asyncio.sleep(TIMER + 5)
        assert (w.shown(anna), w.shown(berta)) == ("Lunch", "Offline")
        assert {a.agent: str(a.outcome) for a in w.actions} == {anna: "skipped_state", berta: "confirmed"}


async def test_each_rule_has_its_own_timer_and_status_and_a_filter_of_status_is_asked_at_each(tmp_path):
    rules = (
        rule("night", (20.0, "Away"), profiles=["night"]),
        rule("lunch", (60.0, None), states=["Lunch"]),
        DEFAULT,
    )
    async with world(tmp_path, rules=rules, witness=False) as w:
        day, night, eater = staff(w, 3, profiles=["Day", "Night"])
        w.model.agent_sets_status(*eater, "Lunch")
        await w.start()
        await w.leave(day, night, eater)
        await asyncio.sleep(TIMER + 4)
        assert [w.shown(each) for each in (day, night, eater)] == ["Offline", "Available", "Lunch"]
        view = await w.store.agent(night)
        assert view is not None
        assert (view.state.value, round(view.due_in_s or 0)) == ("grace", 11)
        await asyncio.sleep(15)
        assert [w.shown(each) for each in (day, night, eater)] == ["Offline", "Away", "Lunch"]
        await asyncio.sleep(42)
        assert w.shown(eater) == "Offline"
        evidence = {action.agent: action.evidence for action in w.actions}
        assert [evidence[each]["rule"] for each in (day, night, eater)] == ["default", "night", "lunch"]
        assert evidence[night]["timer_s"] == 20.0
        assert 20 <= evidence[night]["silent_s"] < 21


async def test_what_a_shorter_timer_saw_does_not_decide_for_a_longer_one(tmp_path):
    rules = (rule("lunch", states=["Lunch"]), rule("later", (TIMER + 6, None), states=["Available"]))
    async with world(tmp_path, rules=rules, witness=False) as w:
        anna, berta = staff(w, 2)
        await w.start()
        await w.leave(anna, berta)
        await asyncio.sleep(TIMER + 3)
        w.model.agent_sets_status(*anna, "Away")
        await asyncio.sleep(10)
        assert (w.shown(anna), w.shown(berta)) == ("Away", "Offline")
        assert {a.agent: str(a.outcome) for a in w.actions} == {anna: "skipped_state", berta: "confirmed"}


async def test_a_longer_timer_begins_anew_with_each_return_and_is_not_shortened_by_a_crash(tmp_path):
    async with world(
        tmp_path, rules=(rule("late", (60.0, None)), rule("sooner", (TIMER, None), states=["Lunch"]))
    ) as w:
        rules = (rule("lunch", (TIMER, None), states=["Lunch"]), rule("late", (60.0, None)))
        w.rules = rules
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(50)
        await w.beat(anna)
        await w.leave(anna)
        await asyncio.sleep(30)
        await w.crash()
        await w.start()
        await asyncio.sleep(25)
        assert w.puts() == []
        await asyncio.sleep(40)
        assert w.shown(anna) == "Offline"


async def test_whoever_returns_before_a_longer_timer_is_never_written_to(tmp_path):
    async with world(tmp_path, rules=(rule("now", states=["Lunch"]), rule("late", (60.0, None)))) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(40)
        await w.beat(anna)
        await asyncio.sleep(30)
        assert w.puts() == []
        assert w.actions == []


async def test_a_rule_whose_status_does_not_exist_touches_nobody_and_the_others_go_on(tmp_path):
    async with world(tmp_path, rules=(rule("ghost", (TIMER, "Nowhere"), profiles=["Sales"]), DEFAULT)) as w:
        seller, clerk = staff(w, 2, profiles=["Sales", "Back office"])
        await w.start()
        await w.leave(seller, clerk)
        await asyncio.sleep(120)
        assert (w.shown(seller), w.shown(clerk)) == ("Available", "Offline")
        assert [action.agent for action in w.actions] == [clerk]
        # The status is made at last.
        w.model.add_status("main", "Nowhere")
        await w.dispatcher.directory.refresh()
        await asyncio.sleep(70)
        assert w.shown(seller) == "Nowhere"


async def test_a_profile_that_is_not_listed_yet_is_listed_before_anything_is_decided_by_it(tmp_path):
    async with world(tmp_path, rules=(rule("new", (30.0, None), profiles=["Brand new"]), DEFAULT)) as w:
        (anna,) = staff(w)
        await w.start()
        await asyncio.sleep(60)
        w.model.add_routing_profile("main", "Brand new")
        w.model.set_routing_profile(*anna, "Brand new")
        await w.leave(anna)
        await asyncio.sleep(20)
        assert w.shown(anna) == "Available"
        await asyncio.sleep(15)
        assert w.shown(anna) == "Offline"
        (action,) = w.actions
        assert action.evidence["rule"] == "new"


async def test_an_agent_not_shown_gets_no_rule_that_a_profile_might_rule_out(tmp_path):
    async with world(tmp_path, rules=(rule("sales", (TIMER, "Away"), profiles=["Sales"]), DEFAULT)) as w:
        (anna,) = staff(w)
        w.model.agent_sets_status(*anna, "Offline")
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(30)
        assert w.puts() == []
        assert w.outcomes() == ["skipped_profile"]


async def test_a_denied_status_keeps_nobody_from_another_one(tmp_path):
    async with world(tmp_path, rules=(rule("sales", (TIMER, "Away"), profiles=["Sales"]), DEFAULT)) as w:
        agents = staff(w, 6, profiles=["Sales", "Back office"])
        for seller in agents[::2]:
            w.fault(FaultKind.ACCESS_DENIED, user_id=seller.user_id)
        await w.start()
        await w.leave(*agents)
        await asyncio.sleep(30)
        assert [w.shown(each) for each in agents[1::2]] == ["Offline"] * 3
        assert "denied" in w.problems()
        w.model.clear_faults()
        await asyncio.sleep(120)
        assert [w.shown(each) for each in agents[::2]] == ["Away"] * 3


# Contacts.


async def test_wait_writes_when_the_contact_has_ended_and_not_before(tmp_path):
    async with world(tmp_path, rules=(rule(on_contact=OnContact.WAIT),), witness=False) as w:
        (anna,) = staff(w)
        contact = w.model.add_contact(*anna, ContactState.CONNECTED)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(600)
        assert w.puts() == []
        assert w.actions == []
        view = await w.store.agent(anna)
        assert view is not None
        assert view.state.value == "due"
        w.model.end_contact(*anna, contact.id)
        await asyncio.sleep(LOOK_EVERY_S + 5)
        assert w.shown(anna) == "Offline"
        (action,) = w.actions
        assert action.outcome is Outcome.CONFIRMED
        assert action.evidence["waited_for_contact_s"] >= 590


async def test_who_returns_while_a_contact_is_waited_for_is_left_alone(tmp_path):
    async with world(tmp_path, rules=(rule(on_contact=OnContact.WAIT),), witness=False) as w:
        (anna,) = staff(w)
        contact = w.model.add_contact(*anna, ContactState.CONNECTED)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(60)
        await w.beat(anna)
        w.model.end_contact(*anna, contact.id)
        await asyncio.sleep(30)
        assert w.puts() == []
        assert w.actions == []


@pytest.mark.long
async def test_a_thousand_who_wait_for_contacts_are_looked_at_together_and_hold_nobody_up(tmp_path):
    async with world(tmp_path, rules=(rule(on_contact=OnContact.WAIT),), witness=False) as w:
        agents = staff(w, 1001)
        for each in agents[:-1]:
            w.model.add_contact(*each, ContactState.CONNECTED)
        await w.start()
        await w.leave(*agents[:-1])
        await asyncio.sleep(900)
        assert w.puts() == []
        begun = len(w.reads())
        await w.leave(agents[-1])
        await asyncio.sleep(60)
        assert w.shown(agents[-1]) == "Offline"
        # Ten calls for all of them each 10 s and what they take, and a few for the one who left.
        assert len(w.reads()) - begun <= 60


async def test_a_ringing_contact_is_not_waited_for(tmp_path):
    async with world(tmp_path, rules=(rule(on_contact=OnContact.WAIT),), witness=False) as w:
        (anna,) = staff(w)
        w.model.add_contact(*anna, ContactState.INCOMING)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.model.next_status_name(*anna) == "Offline"


async def test_skip_leaves_an_agent_with_a_contact_alone_for_good(tmp_path):
    async with world(tmp_path, rules=(rule(on_contact=OnContact.SKIP),), witness=False) as w:
        anna, berta = staff(w, 2)
        contact = w.model.add_contact(*anna, ContactState.CONNECTED)
        await w.start()
        await w.leave(anna, berta)
        await asyncio.sleep(20)
        w.model.end_contact(*anna, contact.id)
        await asyncio.sleep(60)
        assert (w.shown(anna), w.shown(berta)) == ("Available", "Offline")
        assert {a.agent: str(a.outcome) for a in w.actions} == {anna: "skipped_contact", berta: "confirmed"}


# Contacts that are over.


@pytest.mark.parametrize("state", [ContactState.ERROR, ContactState.REJECTED, ContactState.MISSED])
async def test_a_contact_that_is_over_and_holds_a_ghost_busy_is_dismissed_after_the_write(tmp_path, state):
    async with world(tmp_path, behaviour=Behaviour(missed_clears=False), witness=False) as w:
        (anna,) = staff(w)
        contact = w.model.add_contact(*anna, state)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(TIMER + 20)
        assert w.shown(anna) == "Offline"
        (dismissed,) = calls(w, "DismissUserContact")
        (written,) = w.puts()
        assert written.at < dismissed.at
        assert dismissed.params["ContactId"] == contact.id
        told = {action.intent: action for action in w.actions}
        assert told[IntentKind.SET_STATUS].outcome is Outcome.CONFIRMED
        assert told[IntentKind.DISMISS].outcome is Outcome.CONFIRMED
        assert told[IntentKind.DISMISS].evidence["contacts"] == [
            {"contact_id": contact.id, "state": str(state), "result": "accepted"}
        ]
        history = await w.store.actions()
        assert {action.id for action in history.actions} == {action.id for action in w.actions}


async def test_nothing_is_dismissed_where_the_rule_says_so_or_another_contact_goes_on(tmp_path):
    async with world(tmp_path, rules=(rule(dismiss=False),), witness=False) as w:
        (anna,) = staff(w)
        w.model.add_contact(*anna, ContactState.ERROR)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(60)
        assert w.outcomes() == ["next_status"]
        assert calls(w, "DismissUserContact") == []
    (tmp_path / "second").mkdir()
    async with world(tmp_path / "second", witness=False) as w:
        (anna,) = staff(w)
        w.model.add_contact(*anna, ContactState.ERROR)
        w.model.add_contact(*anna, ContactState.CONNECTED, channel="CHAT")
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(60)
        assert w.outcomes() == ["next_status"]
        assert calls(w, "DismissUserContact") == []


async def test_a_dismissal_that_is_denied_leaves_the_next_status_and_tells(tmp_path):
    async with world(tmp_path, witness=False) as w:
        (anna,) = staff(w)
        w.model.add_contact(*anna, ContactState.ERROR)
        w.fault(FaultKind.ACCESS_DENIED, "DismissUserContact")
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(60)
        assert sorted(w.outcomes()) == ["failed", "next_status"]
        assert w.model.next_status_name(*anna) == "Offline"


async def test_the_contact_of_who_returns_is_not_dismissed(tmp_path):
    async with world(tmp_path, witness=False) as w:
        (anna,) = staff(w)
        w.model.add_contact(*anna, ContactState.ERROR)
        await w.start()
        await w.leave(anna)
        await w.until(w.puts)
        await w.beat(anna)
        await asyncio.sleep(30)
        assert calls(w, "DismissUserContact") == []


# Signing out.


async def test_logout_sets_offline_and_ends_the_sessions_ten_seconds_after_that_is_confirmed(tmp_path):
    async with world(tmp_path, rules=(rule("default", LOGOUT),), behaviour=Behaviour(lists_offline=True)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(60)
        assert w.shown(anna) == "Offline"
        (ended,) = calls(w, "DeleteAllEntitySessions")
        (written,) = w.puts()
        assert 12 <= ended.at - written.at < 16
        assert [(a.intent, a.outcome) for a in w.actions] == [
            (IntentKind.SET_STATUS, Outcome.CONFIRMED),
            (IntentKind.SIGN_OUT, Outcome.CONFIRMED),
        ]
        view = await w.store.agent(anna)
        assert view is not None
        assert (view.state.value, view.due_in_s) == ("away", None)


async def test_logout_of_agents_whom_connect_does_not_list_when_they_are_offline(tmp_path):
    async with world(tmp_path, rules=(rule("default", LOGOUT),)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(60)
        assert len(calls(w, "DeleteAllEntitySessions")) == 1


async def test_who_returns_before_the_sign_out_keeps_the_session(tmp_path):
    async with world(tmp_path, rules=(rule("default", LOGOUT),)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await w.until(lambda: w.actions)
        await asyncio.sleep(8)
        await w.beat(anna)
        await asyncio.sleep(60)
        assert calls(w, "DeleteAllEntitySessions") == []


async def test_the_sign_out_waits_for_the_end_of_a_contact_and_ten_seconds_more(tmp_path):
    async with world(tmp_path, rules=(rule("default", LOGOUT),), witness=False) as w:
        (anna,) = staff(w)
        contact = w.model.add_contact(*anna, ContactState.CONNECTED)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(300)
        assert w.outcomes() == ["next_status"]
        assert calls(w, "DeleteAllEntitySessions") == []
        w.model.end_contact(*anna, contact.id)
        over = w.model.now
        await asyncio.sleep(60)
        (ended,) = calls(w, "DeleteAllEntitySessions")
        assert ended.at - over >= 10
        assert w.outcomes() == ["next_status", "confirmed"]


async def test_nobody_is_signed_out_who_chose_another_status_since(tmp_path):
    async with world(tmp_path, rules=(rule("default", LOGOUT),)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await w.until(lambda: w.actions)
        w.model.agent_sets_status(*anna, "Lunch")
        await asyncio.sleep(60)
        assert calls(w, "DeleteAllEntitySessions") == []
        assert w.outcomes() == ["confirmed", "returned"]


async def test_nobody_is_signed_out_whom_the_brake_has_held(tmp_path):
    brake = BrakeRules(0.3, 5, 900.0)
    async with world(tmp_path, rules=(rule("default", LOGOUT),), brake=brake) as w:
        agents = staff(w, 10)
        await w.start()
        await w.beat(*agents)
        # Half of them fall silent at once, the others go on and prove the path.
        for _ in range(60):
            await asyncio.sleep(TTL / 4)
            await w.beat(*agents[5:])
        assert [w.shown(each) for each in agents[:5]] == ["Offline"] * 5
        assert calls(w, "DeleteAllEntitySessions") == []
        told = [each for each in w.actions if each.intent is IntentKind.SIGN_OUT]
        assert {(each.agent, each.outcome) for each in told} == {(each, Outcome.SKIPPED_STATE) for each in agents[:5]}
        assert all("brake" in each.reason for each in told)


async def test_a_trip_shortly_after_the_status_was_set_forbids_the_sign_out(tmp_path):
    brake = BrakeRules(0.3, 5, 900.0)
    async with world(tmp_path, rules=(rule("default", LOGOUT),), brake=brake) as w:
        agents = staff(w, 10)
        await w.start()
        await w.beat(*agents)
        for _ in range(3):
            await asyncio.sleep(8)
            await w.beat(*agents[1:])
        # The first is set, and while its sign-out waits most of the others are found to be silent as well.
        for _ in range(40):
            await asyncio.sleep(8)
            await w.beat(agents[9])
        assert w.shown(agents[0]) == "Offline"
        assert calls(w, "DeleteAllEntitySessions", agents[0]) == []
        told = {action.intent: action.outcome for action in w.actions if action.agent == agents[0]}
        assert told[IntentKind.SIGN_OUT] is Outcome.SKIPPED_STATE


async def test_a_sign_out_that_is_denied_is_tried_until_it_is_allowed(tmp_path):
    async with world(tmp_path, rules=(rule("default", LOGOUT),)) as w:
        (anna,) = staff(w)
        w.fault(FaultKind.ACCESS_DENIED, "DeleteAllEntitySessions")
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(300)
        assert w.outcomes() == ["confirmed"]
        assert "denied" in w.problems()
        assert len(calls(w, "DeleteAllEntitySessions")) <= 6
        w.model.clear_faults()
        await asyncio.sleep(90)
        assert w.outcomes() == ["confirmed", "confirmed"]
        assert w.problems() == set()


async def test_a_crash_between_offline_and_the_sign_out_loses_neither(tmp_path):
    async with world(tmp_path, rules=(rule("default", LOGOUT),)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await w.until(lambda: w.actions)
        await w.crash()
        await w.start()
        await asyncio.sleep(90)
        assert w.effective(anna) == 1
        assert len(calls(w, "DeleteAllEntitySessions")) == 1


# Stages.


async def test_first_away_and_signed_out_later(tmp_path):
    stages = rule("default", (30.0, "Away"), (300.0, None, True))
    async with world(tmp_path, rules=(stages,)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(28)
        assert w.puts() == []
        await asyncio.sleep(6)
        assert w.shown(anna) == "Away"
        view = await w.store.agent(anna)
        assert view is not None
        assert view.state.value == "away"
        assert 262 <= (view.due_in_s or 0) <= 268
        await asyncio.sleep(262)
        assert w.shown(anna) == "Away"
        await asyncio.sleep(40)
        assert w.shown(anna) == "Offline"
        assert len(calls(w, "DeleteAllEntitySessions")) == 1
        assert [str(a.outcome) for a in w.actions] == ["confirmed"] * 3
        assert [a.evidence.get("stage") for a in w.actions] == [0, 1, None]


async def test_a_stage_is_kept_over_a_crash_and_ends_with_a_return(tmp_path):
    stages = rule("default", (30.0, "Away"), (300.0, None))
    async with world(tmp_path, rules=(stages,)) as w:
        anna, berta = staff(w, 2)
        await w.start()
        await w.leave(anna, berta)
        await asyncio.sleep(60)
        await w.crash()
        await w.start()
        await asyncio.sleep(60)
        await w.beat(berta)
        await asyncio.sleep(250)
        assert (w.shown(anna), w.shown(berta)) == ("Offline", "Away")


async def test_the_state_filter_of_a_rule_does_not_keep_its_own_later_stages(tmp_path):
    stages = rule("default", (TIMER, "Away"), (60.0, None), states=["Available"])
    async with world(tmp_path, rules=(stages,)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(70)
        assert w.shown(anna) == "Offline"


async def test_whoever_is_made_available_between_two_stages_is_a_ghost_again(tmp_path):
    stages = rule("default", (TIMER, "Away"), (300.0, None))
    async with world(tmp_path, rules=(stages,)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(30)
        w.model.agent_sets_status(*anna, "Available")
        await asyncio.sleep(300)
        assert w.shown(anna) == "Offline"


async def test_a_dry_run_decides_each_stage_once_and_writes_nothing(tmp_path):
    stages = rule("default", (TIMER, "Away"), (60.0, None, True))
    async with world(tmp_path, rules=(stages,), dry_run=True) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(300)
        assert w.puts() == []
        assert calls(w, "DeleteAllEntitySessions") == []
        assert [(str(a.outcome), a.target) for a in w.actions] == [("dry_run", "Away"), ("dry_run", "Offline")]


async def test_an_operators_hold_puts_off_what_is_still_to_be_done(tmp_path):
    stages = rule("default", (TIMER, "Away"), (30.0, None))
    async with world(tmp_path, rules=(stages,), brake=BrakeRules(0.3, 5, 900.0)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(15)
        assert w.shown(anna) == "Away"
        await w.store.order(ALL, hold=True, for_s=600.0, reason="", instant=instant())
        read = len(w.reads())
        await asyncio.sleep(500)
        assert w.shown(anna) == "Away"
        assert len(w.reads()) == read
        await asyncio.sleep(200)
        assert w.shown(anna) == "Offline"


async def test_nobody_is_signed_out_during_a_contact_whatever_the_status(tmp_path):
    async with world(tmp_path, rules=(rule("default", LOGOUT),), behaviour=Behaviour(lists_offline=True)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await w.until(lambda: w.actions)
        contact = w.model.add_contact(*anna, ContactState.INCOMING)
        await asyncio.sleep(60)
        assert calls(w, "DeleteAllEntitySessions") == []
        w.model.end_contact(*anna, contact.id)
        await asyncio.sleep(30)
        assert len(calls(w, "DeleteAllEntitySessions")) == 1


async def test_nobody_is_signed_out_before_the_status_is_in_force(tmp_path):
    async with world(tmp_path, rules=(rule("default", LOGOUT, dismiss=False),), witness=False) as w:
        (anna,) = staff(w)
        contact = w.model.add_contact(*anna, ContactState.ERROR)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(120)
        assert w.outcomes() == ["next_status"]
        assert calls(w, "DeleteAllEntitySessions") == []
        w.model.end_contact(*anna, contact.id)
        await asyncio.sleep(60)
        assert len(calls(w, "DeleteAllEntitySessions")) == 1


async def test_the_timer_of_an_absence_is_forgotten_with_the_return(tmp_path):
    rules = (rule("lunch", states=["Lunch"]), rule("late", (600.0, None)))
    async with world(tmp_path, rules=rules, witness=False) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await asyncio.sleep(30)
        w.model.agent_sets_status(*anna, "Lunch")
        await w.beat(anna)
        await w.leave(anna)
        await asyncio.sleep(TIMER + 5)
        assert w.shown(anna) == "Offline"


async def test_a_write_that_took_effect_before_a_crash_is_confirmed_though_its_own_filter_fits_no_more(tmp_path):
    async with world(tmp_path, rules=(rule(states=["Available"]),)) as w:
        (anna,) = staff(w)
        await w.start()
        await w.leave(anna)
        await w.until(lambda: w.effective(anna))
        await w.crash()
        await w.start()
        await asyncio.sleep(30)
        assert w.outcomes() == ["confirmed"]
        assert w.effective(anna) == 1


async def test_a_denied_sign_out_costs_no_reads_while_it_is_denied(tmp_path):
    async with world(tmp_path, rules=(rule("default", LOGOUT),)) as w:
        agents = staff(w, 20)
        w.fault(FaultKind.ACCESS_DENIED, "DeleteAllEntitySessions")
        await w.start()
        await w.leave(*agents)
        await asyncio.sleep(120)
        read = len(w.reads())
        await asyncio.sleep(300)
        assert len(w.reads()) - read <= 12


async def test_the_waiting_room_forgets_whoever_is_not_due_any_more(tmp_path):
    async with world(tmp_path, rules=(rule(on_contact=OnContact.WAIT),), witness=False) as w:
        anna, berta = staff(w, 2)
        for each in (anna, berta):
            w.model.add_contact(*each, ContactState.CONNECTED)
        await w.start()
        await w.leave(anna, berta)
        await asyncio.sleep(30)
        assert w.dispatcher.waiting_for_contacts == 2
        for _ in range(5):
            await w.beat(anna)
            await asyncio.sleep(20)
        assert w.dispatcher.waiting_for_contacts == 1


async def test_a_contact_that_is_gone_meanwhile_and_a_passing_fault_are_no_failures(tmp_path):
    async with world(tmp_path, witness=False) as w:
        anna, berta = staff(w, 2)
        for each in (anna, berta):
            w.model.add_contact(*each, ContactState.ERROR)
        w.fault(FaultKind.NOT_FOUND, "DismissUserContact", user_id=anna.user_id, times=1)
        w.fault(FaultKind.INTERNAL, "DismissUserContact", user_id=berta.user_id, times=1)
        await w.start()
        await w.leave(anna, berta)
        await asyncio.sleep(60)
        told = [(action.agent, action.outcome) for action in w.actions if action.intent is IntentKind.DISMISS]
        assert set(told) == {(anna, Outcome.CONFIRMED), (berta, Outcome.CONFIRMED)}
        assert {w.shown(anna), w.shown(berta)} == {"Offline"}
