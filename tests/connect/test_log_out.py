"""An explicit logout: what refuses it, what it does, and what whoever asked is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from tests.connect.world import QUOTA, TTL, DirectClient, World, instant, world
from watchdog.core.logout import Failure
from watchdog.core.model import AgentId, Beat, BeatType, Verdict
from watchdog.core.quota import QuotaRules
from watchdog.errors import LogOutFailed
from watchdog.sandbox.records import ContactState, FaultKind, ProfileQueue, StatusType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from watchdog.connect.answers import UserData

pytestmark = pytest.mark.looptime


@pytest.fixture
async def w(tmp_path) -> AsyncIterator[World]:
    async with world(tmp_path, reason_codes={"7": "Lunch", "8": "Available", "9": "Nowhere"}) as made:
        yield made


async def order(w: World, agent: AgentId, queue: str | None = None, reason_code: str | None = None) -> None:
    await w.dispatcher.log_out.order(agent, queue=queue, reason_code=reason_code, by="admin token")


async def refused(w: World, agent: AgentId, **given: Any) -> LogOutFailed:
    with pytest.raises(LogOutFailed) as caught:
        await order(w, agent, **given)
    return caught.value


def ended(w: World, agent: AgentId) -> int:
    """How often its sessions were ended."""
    return w.model.user(*agent).sessions_ended


def untouched(w: World, agent: AgentId) -> bool:
    return w.puts() == [] and ended(w, agent) == 0 and w.actions == []


async def verdict(
    w: World, agent: AgentId, kind: BeatType = BeatType.BEAT, number: int = 1, *, incarnation: int = 1
) -> Verdict:
    w.seq += 1
    session_id = uuid5(NAMESPACE_URL, f"{agent}#{number}").bytes
    (reply,) = await w.store.apply([Beat(agent, session_id, kind, incarnation, w.seq, TTL)], instant())
    return reply.verdict


def give_queues(w: World, agent: AgentId, *queue_ids: str) -> None:
    """The agent's routing profile has these queues, each for voice and chat, and no others."""
    instance = w.model.instance(agent.instance_id)
    profile = next(iter(instance.profiles.values()))
    for each in queue_ids:
        instance.queues.setdefault(each, each)
    rows = tuple(ProfileQueue(each, channel) for each in queue_ids for channel in ("VOICE", "CHAT"))
    instance.profiles[profile.id] = replace(profile, queues=rows)


# What it does.


async def test_an_agent_with_three_pages_is_set_and_signed_out_once_and_its_pages_stop(w):
    (anna,) = w.centre()
    await w.start()
    for number in (1, 2, 3):
        await verdict(w, anna, BeatType.HELLO, number)
    await order(w, anna)
    assert (w.shown(anna), ended(w, anna), len(w.puts())) == ("Offline", 1, 1)
    (action,) = w.actions
    assert (action.intent, action.outcome, action.target) == ("sign_out", "confirmed", "Offline")
    assert action.evidence["by"] == "admin token"
    assert [await verdict(w, anna, number=number) for number in (1, 2, 3)] == [Verdict.STOPPED] * 3
    await asyncio.sleep(120)
    assert len(w.actions) == 1, "it was acted on twice"
    assert await verdict(w, anna, BeatType.HELLO, incarnation=2) is Verdict.OPENED


async def test_an_agent_of_whom_nothing_was_heard_can_be_logged_out(w):
    (anna,) = w.centre()
    await w.start()
    await order(w, anna)
    assert (w.shown(anna), ended(w, anna)) == ("Offline", 1)


async def test_the_reason_code_gives_the_status_and_is_in_the_history(w):
    (anna,) = w.centre()
    await w.start()
    await order(w, anna, reason_code="7")
    assert (w.shown(anna), ended(w, anna)) == ("Lunch", 1)
    assert w.actions[0].evidence["reason_code"] == "7"


async def test_a_contact_that_is_over_is_cleared_and_does_not_stand_in_the_way(w):
    (anna,) = w.centre()
    await w.start()
    w.model.add_contact(*anna, ContactState.MISSED)
    await order(w, anna)
    assert (w.shown(anna), ended(w, anna), w.model.user(*anna).contacts) == ("Offline", 1, ())


async def test_a_ghost_in_hand_is_logged_out_all_the_same(w):
    (anna,) = w.centre()
    await w.start()
    await w.leave(anna)
    w.fault(FaultKind.DELAY, delay_s=4.0)
    await w.until(lambda: w.puts() or anna in w.dispatcher._claims)
    await order(w, anna)
    assert (w.shown(anna), ended(w, anna)) == ("Offline", 1)
    assert w.outcomes()[-1] == "confirmed"
    await asyncio.sleep(60)
    assert await verdict(w, anna, BeatType.HELLO, 2) is Verdict.OPENED
    await asyncio.sleep(20)
    assert w.shown(anna) == "Offline", "the logout was undone as if it had crossed with a return"


# Queues.


async def test_the_only_queue_of_the_profile_may_be_named_by_id_or_arn(w):
    anna, bert = w.centre(agents=2)
    await w.start()
    give_queues(w, anna, "sales")
    await order(w, anna, queue="sales")
    await order(w, bert, queue="arn:aws:connect:us-east-1:123456789012:instance/main/queue/sales")
    assert [ended(w, agent) for agent in (anna, bert)] == [1, 1]
    assert w.actions[0].evidence["queue"] == "sales"


@pytest.mark.parametrize(
    ("queue", "said"), [("sales", "has 2 more"), ("service", "has 2 more"), ("night", "does not have this queue")]
)
async def test_one_queue_of_several_and_one_that_the_profile_lacks_are_refused(w, queue, said):
    (anna,) = w.centre()
    await w.start()
    give_queues(w, anna, "sales", "service", "support")
    error = await refused(w, anna, queue=queue)
    assert (error.why, said in str(error)) == (Failure.QUEUE, True)
    assert untouched(w, anna)


async def test_a_queue_on_the_second_page_counts(w):
    (anna,) = w.centre()
    await w.start()
    give_queues(w, anna, *(f"q{number}" for number in range(60)))
    assert "has 59 more" in str(await refused(w, anna, queue="q59"))
    assert len(list(w.model.calls(operation="ListRoutingProfileQueues"))) == 2


async def test_an_arn_of_another_instance_is_none_of_the_profiles_queues(w):
    (anna,) = w.centre()
    await w.start()
    give_queues(w, anna, "sales")
    other = "arn:aws:connect:us-east-1:123456789012:instance/other/queue/sales"
    assert (await refused(w, anna, queue=other)).why == Failure.QUEUE


async def test_a_profile_without_a_queue_is_refused(w):
    (anna,) = w.centre()
    await w.start()
    give_queues(w, anna)
    assert (await refused(w, anna)).why == Failure.NO_QUEUE
    assert untouched(w, anna)


# What else refuses.


@pytest.mark.parametrize(
    ("code", "why", "said"),
    [
        ("1", Failure.REASON_CODE, "7, 8, 9"),
        ("8", Failure.STATUS, "ROUTABLE"),
        ("9", Failure.STATUS, "Nowhere"),
    ],
)
async def test_a_reason_code_must_lead_to_a_status_without_contacts(w, code, why, said):
    (anna,) = w.centre()
    await w.start()
    error = await refused(w, anna, reason_code=code)
    assert (error.why, said in str(error)) == (why, True)
    assert untouched(w, anna)


async def test_an_agent_who_is_offline_or_not_shown_or_unknown_is_refused(w):
    (anna,) = w.centre(status="Offline")
    await w.start()
    nobody = AgentId("main", "nobody")
    for shown in (False, True):
        w.model.change_behaviour(lists_offline=shown, unknown_agents_fail=shown)
        assert (await refused(w, anna)).why == Failure.NOT_SIGNED_IN
        assert (await refused(w, nobody)).why == (Failure.NO_USER if shown else Failure.NOT_SIGNED_IN)
    assert untouched(w, anna)
    assert await w.store.agent(nobody) is None


async def test_a_second_offline_status_is_offline_too(w):
    (anna,) = w.centre()
    w.model.add_status("main", "Gone home", StatusType.OFFLINE)
    await w.start()
    w.model.change_behaviour(lists_offline=True)
    w.model.agent_sets_status(*anna, "Gone home")
    assert (await refused(w, anna, reason_code="7")).why == Failure.NOT_SIGNED_IN


@pytest.mark.parametrize("state", [ContactState.CONNECTED, ContactState.INCOMING, ContactState.CONNECTED_ONHOLD])
async def test_on_a_contact_it_is_refused_and_can_be_repeated_after_it(w, state):
    (anna,) = w.centre()
    await w.start()
    contact = w.model.add_contact(*anna, state)
    error = await refused(w, anna)
    assert (error.why, "when it has ended" in str(error)) == (Failure.CONTACT, True)
    assert untouched(w, anna)
    w.model.end_contact(*anna, contact.id)
    await order(w, anna)
    assert ended(w, anna) == 1


async def test_in_a_dry_run_nobody_is_logged_out(tmp_path):
    async with world(tmp_path, dry_run=True) as w:
        (anna,) = w.centre()
        await w.start()
        await verdict(w, anna, BeatType.HELLO)
        assert (await refused(w, anna)).why == Failure.DRY_RUN
        assert untouched(w, anna)
        assert await verdict(w, anna) is Verdict.RENEWED


@pytest.mark.parametrize("operation", ["GetCurrentUserData", "ListRoutingProfileQueues"])
@pytest.mark.parametrize("kind", [FaultKind.ACCESS_DENIED, FaultKind.INTERNAL, FaultKind.TIMEOUT])
async def test_if_connect_cannot_be_asked_nothing_is_changed(w, operation, kind):
    (anna,) = w.centre()
    await w.start()
    await verdict(w, anna, BeatType.HELLO)
    w.fault(kind, operation, delay_s=60.0)
    error = await refused(w, anna)
    assert (error.why, "Nothing was changed" in str(error)) == (Failure.CONNECT, True)
    assert untouched(w, anna)
    assert await verdict(w, anna) is Verdict.RENEWED


async def test_without_a_token_in_time_nothing_is_changed(tmp_path):
    async with world(tmp_path, quota=QuotaRules(rate=0.01, burst=1.0, share=0.8)) as w:
        (anna,) = w.centre()
        await w.start()
        began = instant().boot
        assert (await refused(w, anna)).why == Failure.CONNECT
        assert instant().boot - began < 11
        await asyncio.sleep(300)
        assert untouched(w, anna)


async def test_an_instance_that_is_not_there_is_not_taken_for_an_unknown_user(w):
    (anna,) = w.centre()
    await w.start()
    w.fault(FaultKind.NOT_FOUND, None)
    assert (await refused(w, anna)).why == Failure.CONNECT


class Half(DirectClient):
    """An answer of which pages are missing, then one without a routing profile."""

    wrong: list[str]

    async def current_user_data(self, instance_id: str, user_ids: Sequence[str], cursor: str | None = None) -> UserData:
        data = await super().current_user_data(instance_id, user_ids, cursor)
        if not self.wrong:
            return data
        if self.wrong.pop(0) == "pages":
            return replace(data, rows={}, complete=False)
        return replace(data, rows={each: replace(seen, profile_id="") for each, seen in data.rows.items()})


async def test_half_an_answer_is_none(w):
    (anna,) = w.centre()
    client = Half(w.model, w.scopes)
    client.wrong = ["pages", "profile"]
    await w.start(connect=client)
    for missing in ("pages", "routing profile"):
        error = await refused(w, anna)
        assert (error.why, missing in str(error)) == (Failure.CONNECT, True)
        await asyncio.sleep(1)
    assert untouched(w, anna)
    await order(w, anna)


async def test_a_status_that_was_made_meanwhile_is_found(w):
    (anna,) = w.centre()
    await w.start()
    await asyncio.sleep(31)
    w.model.add_status("main", "Nowhere")
    await order(w, anna, reason_code="9")
    assert w.shown(anna) == "Nowhere"


@pytest.mark.parametrize("operation", ["PutUserStatus", "DeleteAllEntitySessions"])
async def test_what_is_known_to_be_denied_is_not_begun(w, operation):
    anna, bert = w.centre(agents=2)
    await w.start()
    w.fault(FaultKind.ACCESS_DENIED, operation)
    assert (await refused(w, anna)).why == Failure.LATE
    writes = len(w.puts(bert))
    assert (await refused(w, bert)).why == Failure.CONNECT
    assert len(w.puts(bert)) == writes == 0


# While it is under way.


async def test_a_second_order_for_the_same_agent_is_refused_while_one_is_under_way(w):
    (anna,) = w.centre()
    await w.start()
    first = asyncio.create_task(order(w, anna))
    await w.until(w.puts)
    assert (await refused(w, anna)).why == Failure.UNDER_WAY
    await first
    assert ended(w, anna) == 1


async def test_a_second_order_after_a_late_one_is_refused_while_that_is_in_hand(w):
    (anna,) = w.centre()
    await w.start()
    w.fault(FaultKind.NO_EFFECT, times=3)
    assert (await refused(w, anna)).why == Failure.LATE
    assert (await refused(w, anna)).why == Failure.UNDER_WAY
    await w.until(lambda: ended(w, anna))
    assert w.outcomes() == ["confirmed"]


async def test_who_says_hello_before_the_claim_is_not_signed_out(w):
    (anna,) = w.centre()
    await w.start()
    await verdict(w, anna, BeatType.HELLO)
    w.sweep.cancel()
    asked = asyncio.create_task(refused(w, anna))
    await w.until(lambda: list(w.model.calls(operation="ListRoutingProfileQueues")))
    await asyncio.sleep(1.0)
    assert await verdict(w, anna) is Verdict.STOPPED
    assert not asked.done()
    await verdict(w, anna, BeatType.HELLO, incarnation=2)
    assert (await asked).why == Failure.RETURNED
    w.sweep = asyncio.create_task(w.run())
    await asyncio.sleep(20)
    assert (w.shown(anna), ended(w, anna), w.outcomes()) == ("Available", 0, ["returned"])
    assert [action.outcome for action in (await w.store.actions(agent=anna)).actions] == ["returned"]


async def test_a_hello_that_is_followed_by_a_bye_before_anybody_looks_ends_the_order_too(w):
    (anna,) = w.centre()
    await w.start()
    await verdict(w, anna, BeatType.HELLO)
    w.sweep.cancel()
    asked = asyncio.create_task(refused(w, anna))
    await w.until(lambda: list(w.model.calls(operation="ListRoutingProfileQueues")))
    await asyncio.sleep(1.1)
    await verdict(w, anna, BeatType.HELLO, incarnation=2)
    await verdict(w, anna, BeatType.BYE, incarnation=2)
    w.sweep = asyncio.create_task(w.run())
    began = instant().boot
    assert (await asked).why == Failure.RETURNED
    assert instant().boot - began < 12, "the clock stood for 10 s: nobody was listened to"
    await w.until(lambda: w.shown(anna) == "Offline")
    assert ended(w, anna) == 0, "the rule sets it; nobody is signed out by it"


async def test_who_says_hello_while_the_status_is_written_is_not_signed_out(w):
    (anna,) = w.centre()
    await w.start()
    await verdict(w, anna, BeatType.HELLO)
    w.fault(FaultKind.DELAY, delay_s=2.0)
    asked = asyncio.create_task(refused(w, anna))
    await w.until(w.puts)
    assert await verdict(w, anna, BeatType.HELLO, incarnation=2) is Verdict.OPENED
    assert (await asked).why == Failure.RETURNED
    await asyncio.sleep(30)
    told = [action.outcome for action in w.actions if action.intent == "sign_out"]
    assert told == ["returned"]
    assert (w.shown(anna), ended(w, anna)) == ("Available", 0), "the write that crossed with the return is undone"


async def test_a_contact_that_begins_meanwhile_comes_first(w):
    (anna,) = w.centre()
    await w.start()

    async def rings() -> None:
        if not w.model.user(*anna).contacts:
            w.model.add_contact(*anna, ContactState.CONNECTED, contact_id="c")

    w.client.before_send = rings
    error = await refused(w, anna)
    assert error.why == Failure.AFTER_CONTACT
    await asyncio.sleep(30)
    assert ended(w, anna) == 0
    w.client.before_send = None
    w.model.end_contact(*anna, "c")
    await w.until(lambda: ended(w, anna))
    assert w.shown(anna) == "Offline"


async def test_what_takes_too_long_goes_on(w):
    (anna,) = w.centre()
    await w.start()
    began = instant().boot
    w.fault(FaultKind.INTERNAL, times=7)
    error = await refused(w, anna)
    assert (error.why, "goes on" in str(error)) == (Failure.LATE, True)
    assert 30 <= instant().boot - began < 45
    await w.until(lambda: ended(w, anna))
    assert w.outcomes() == ["confirmed"]
    assert w.dispatcher._claims._watchers == {}


async def test_a_daemon_that_stops_says_so_and_the_next_one_goes_on(w):
    (anna,) = w.centre()
    await w.start()
    await verdict(w, anna, BeatType.HELLO)
    w.fault(FaultKind.INTERNAL, times=1)
    asked = asyncio.create_task(refused(w, anna))
    await w.until(w.puts)
    w.sweep.cancel()
    await w.dispatcher.drain(1.0)
    assert (await asked).why == Failure.STOPPING
    assert (await refused(w, anna)).why == Failure.STOPPING
    await w.store.close()
    await w.crash()
    await w.start()
    assert await verdict(w, anna) is Verdict.STOPPED
    await w.until(lambda: ended(w, anna))


@pytest.mark.parametrize("operation", ["PutUserStatus", "DeleteAllEntitySessions"])
async def test_a_crash_between_the_intent_and_its_outcome_delays_and_ends_once(w, operation):
    (anna,) = w.centre()
    await w.start()
    await verdict(w, anna, BeatType.HELLO)
    w.fault(FaultKind.TIMEOUT, operation, delay_s=5.0, times=1)
    asked = asyncio.create_task(order(w, anna))
    await w.until(lambda: list(w.model.calls(operation=operation)))
    await w.crash()
    await asyncio.gather(asked, return_exceptions=True)
    await w.start()
    assert await verdict(w, anna) is Verdict.STOPPED
    await asyncio.sleep(100)
    assert (w.shown(anna), ended(w, anna), w.outcomes()) == ("Offline", 1, ["confirmed"])
    assert await verdict(w, anna) is Verdict.STOPPED


async def test_while_a_former_status_is_being_set_again_it_is_refused(w):
    (anna,) = w.centre()
    await w.start()
    await w.leave(anna)
    await w.until(lambda: w.outcomes() == ["confirmed"])
    w.fault(FaultKind.DELAY, delay_s=3.0, times=1)
    await w.store.restore(0.0, None, silent=True, instant=instant())
    await w.until(lambda: w.store._table.agents[anna].restoring)
    w.model.agent_sets_status(*anna, "Lunch")
    error = await refused(w, anna)
    assert (error.why, "Try again" in str(error)) == (Failure.UNDER_WAY, True)
    assert ended(w, anna) == 0


async def test_the_quota_is_kept(tmp_path):
    async with world(tmp_path, quota=QUOTA) as w:
        agents = w.centre(agents=12)
        await w.start()
        results = await asyncio.gather(*(order(w, agent) for agent in agents), return_exceptions=True)
        late = {result.why for result in results if isinstance(result, LogOutFailed)}
        assert late <= {Failure.LATE}
        await w.until(lambda: all(ended(w, agent) == 1 for agent in agents))
        assert {call.outcome for call in w.model.calls()} == {"ok"}
