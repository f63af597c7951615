"""The Python client's protocol on a clock of the tests' own: this comes in, that goes out, at this time."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.virtual import LIVE, OFFER, STOP, UNKNOWN, Virtual
from watchdog.client import rules
from watchdog.client.model import Notice, State, endpoints, identify, read_notice
from watchdog.client.protocol import LAST_SEQ, read_json, retry_after_s
from watchdog.simulation import retries

CORE_JS = (Path(__file__).parents[2] / "watchdog/web/client/core.js").read_text(encoding="utf-8")


def test_a_client_says_hello_at_once_and_each_half_second_ten_times_giving_no_copy_up() -> None:
    w = Virtual().start()
    w.pass_(4.6)
    assert w.look() == [(index * 0.5, "hello", index + 1) for index in range(10)]
    assert w.given_up == [1, 2]  # after their 4 s


def test_any_answer_ends_the_hellos_also_one_to_an_early_copy() -> None:
    w = Virtual().start()
    w.pass_(1.2)
    w.answer(LIVE, which=w.sent[0])
    assert w.state == "live"
    w.pass_(9.999)
    assert len(w.look()) == 3
    w.pass_(0.001)
    assert w.look() == [(11.2, "beat", 4)]


def test_hellos_that_are_refused_by_the_network_go_on_and_then_as_after_a_failure_of_the_last() -> None:
    w = Virtual().start()
    for copy in range(10):
        w.fail()
        assert (w.state == "retrying") == (copy == 9)
        w.pass_(0.5)
    # Failed at 4.5; again after 2 s, the middle of 1 to 3.
    w.pass_(1.5)
    assert w.look()[-1] == (6.5, "hello", 11)


def test_hellos_without_an_answer_fail_4_s_after_the_last_copy() -> None:
    w = Virtual().start()
    w.pass_(8.499)
    assert w.told == []
    w.pass_(0.001)
    assert w.state == "retrying"
    w.pass_(2)
    assert w.look()[-1] == (10.5, "hello", 11)


def test_a_beat_has_what_the_daemon_needs_and_the_ticket_in_place_of_the_token() -> None:
    w = Virtual(token="secret", login=True).live()
    assert w.sent[0].fields == {
        "agent": "arn:x",
        "session_id": "s",
        "type": "hello",
        "incarnation": 0,
        "seq": 1,
        "token": "secret",
        "gap_ms": 0,
        "login": True,
    }
    w.core.set(visibility="hidden")
    w.pass_(10)
    assert w.sent[-1].fields == {
        "agent": "arn:x",
        "session_id": "s",
        "type": "beat",
        "incarnation": 0,
        "seq": 2,
        "ticket": "t1",
        "gap_ms": 1000,
        "login": True,
        "visibility": "hidden",
    }


@pytest.mark.parametrize(
    ("next_ms", "after"), [(300_000, 300), (1, 0.5), ("x", 10), (True, 10), (None, 10), (-1, 10), (1e300, 10)]
)
def test_the_next_beat_comes_when_the_daemon_says_if_that_makes_sense(next_ms, after) -> None:
    w = Virtual().live({**LIVE, "next_ms": next_ms})
    w.pass_(after - 0.01)
    assert w.look() == []
    w.pass_(0.01)
    assert len(w.look()) == 1


@pytest.mark.parametrize("how", ["no connection", "time-out", "500"])
def test_a_failed_beat_is_tried_again_within_1_to_3_s_for_20_s_and_then_with_full_jitter(how) -> None:
    w = Virtual().live()
    w.pass_(10)

    def fails() -> float:
        """Returns after how long it is tried again."""
        if how == "time-out":
            w.pass_(4)
        elif how == "500":
            w.answer(status=500)
        else:
            w.fail()
        failed, sent = w.now, len(w.sent)
        while len(w.sent) == sent:
            w.pass_(0.01)
        return round(w.now - failed, 2)

    waits = []
    began = None
    for chance in (0.0, 1.0, 0.5) * 8:
        w.chance = chance
        failed = w.now + (4 if how == "time-out" else 0)
        began = failed if began is None else began
        waits.append((failed - began < 20, chance, fails()))
    quick = {(chance, wait) for is_quick, chance, wait in waits if is_quick}
    slow = {(chance, wait) for is_quick, chance, wait in waits if not is_quick}
    assert quick == {(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)}
    assert slow == {(0.0, 0.5), (0.5, 7.5), (1.0, 15.0)}


def test_an_answer_ends_the_failure_and_the_next_one_is_quick_again() -> None:
    w = Virtual().live()
    w.pass_(10)
    for _ in range(20):
        w.fail()
        w.pass_(7.5)
    w.answer(LIVE)
    w.pass_(10)
    w.fail()
    w.look()
    w.pass_(2)
    assert len(w.look()) == 1


def test_retry_after_holds_whatever_else_does_and_no_kick_comes_before_it() -> None:
    w = Virtual().live()
    w.pass_(10)
    w.answer(status=503, retry_s=40, data={"detail": "late"})
    assert w.core.status.detail == "late"
    w.look()
    w.pass_(39.9)
    w.do(w.core.kick)
    assert w.look() == []
    w.pass_(0.1)
    assert len(w.look()) == 1


def test_unknown_is_followed_by_hellos_of_the_next_incarnation_without_the_old_ticket() -> None:
    w = Virtual(token="secret").live()
    w.pass_(10)
    w.answer(UNKNOWN)
    w.pass_(0.5)
    assert w.look()[1:] == [(10, "hello", 1), (10.5, "hello", 2)]
    assert {(each.fields["incarnation"], each.fields["token"]) for each in w.sent[2:]} == {(1, "secret")}
    assert not any("ticket" in each.fields for each in w.sent[2:])


def test_a_hello_that_is_unknown_is_tried_again_later_and_not_for_ever_at_once() -> None:
    w = Virtual().start()
    w.answer(UNKNOWN)
    assert (w.state, len(w.sent)) == ("retrying", 1)
    w.pass_(2)
    assert (w.sent[-1].fields["incarnation"], w.sent[-1].brief) == (1, (2, "hello", 1))


def test_unknown_to_an_earlier_copy_says_nothing_about_the_later_one() -> None:
    w = Virtual().start()
    w.pass_(0.5)
    w.answer(UNKNOWN, which=w.sent[0])
    w.answer(LIVE)
    assert (w.state, w.core.incarnation) == ("live", 0)


def test_stop_silences_until_a_person_is_there_again() -> None:
    w = Virtual().live()
    w.pass_(10)
    w.answer(STOP)
    assert (w.state, w.core.wake_at_s) == ("stopped", float("inf"))
    w.look()
    w.pass_(1000)
    w.do(w.core.kick)
    assert w.look() == []
    w.do(w.core.resume)
    assert (w.state, w.sent[-1].fields["incarnation"], w.sent[-1].brief) == ("connecting", 1, (1010, "hello", 1))
    w.answer(LIVE)
    w.do(w.core.resume)
    assert (w.state, w.core.incarnation) == ("live", 1)


def test_a_401_asks_once_for_a_token_drops_the_ticket_and_goes_on_at_once_with_a_new_one() -> None:
    w = Virtual(token="old", asks=True)
    w.start()
    assert (w.asked, w.sent) == (1, [])
    w.do(w.core.given, "first")
    w.answer(LIVE)
    w.pass_(10)
    w.look()
    w.answer({"detail": "no token"}, status=401)
    assert (w.state, w.core.status.detail, w.asked) == ("unauthorized", "no token", 2)
    w.pass_(2)  # the callback takes its time: the old token is tried meanwhile
    w.answer(status=401)
    assert w.asked == 2
    w.pass_(0.5)
    assert [each.fields["token"] for each in w.sent[2:]] == ["first"]
    w.do(w.core.given, "second")
    assert w.look()[-1] == (12.5, "beat", 4)
    assert (w.sent[-1].fields["token"], "ticket" in w.sent[-1].fields) == ("second", False)


def test_a_401_for_a_token_that_was_replaced_meanwhile_asks_nobody() -> None:
    w = Virtual(token="old", asks=True).start()
    w.do(w.core.given, "first")
    w.answer(status=401)
    w.pass_(2)
    w.look()
    w.do(w.core.given, "second")
    assert w.look() == []
    w.answer(status=401)
    assert (w.asked, w.look(), w.sent[-1].fields["token"]) == (2, [(2, "hello", 3)], "second")
    w.answer(status=401)
    assert (w.asked, w.look()) == (3, [])


def test_a_token_that_is_not_new_is_no_reason_to_hurry_and_none_is_no_reason_to_stop() -> None:
    w = Virtual(token="a", asks=True)
    w.start()
    w.do(w.core.given, None)
    assert w.sent[0].fields["token"] == "a"
    w.answer(status=401)
    w.do(w.core.given, "a")
    assert len(w.sent) == 1
    w.pass_(2)
    assert len(w.sent) == 2


def test_a_client_without_anybody_to_ask_tries_again_after_a_401() -> None:
    w = Virtual(token="a").start()
    w.answer(status=401)
    w.pass_(2)
    assert (w.asked, len(w.sent)) == (0, 2)


@pytest.mark.parametrize("status", [200, 204, 301, 400, 403, 404, 409])
def test_an_answer_that_is_none_of_ours_is_a_failure(status) -> None:
    w = Virtual().start()
    w.answer({"state": ["live"]}, status=status)
    assert (w.state, w.core.status.detail) == ("retrying", f"HTTP {status}")
    w.pass_(2)
    assert len(w.sent) == 2


@pytest.mark.parametrize("monotonic", [True, False])
def test_a_machine_that_slept_beats_when_it_wakes_and_says_for_how_long(monotonic) -> None:
    w = Virtual().live({**LIVE, "next_ms": 60_000})
    w.pass_(10)
    w.sleep(45, monotonic=monotonic)
    assert len(w.look()) == 1
    assert w.sent[-1].fields["gap_ms"] == 45_000
    w.fail()
    w.pass_(2)
    assert w.sent[-1].fields["gap_ms"] == 45_000  # until it was answered
    w.answer(LIVE)
    w.pass_(10)
    assert w.sent[-1].fields["gap_ms"] == 1000


def test_a_gap_between_a_message_and_its_answer_is_told_with_the_next() -> None:
    w = Virtual().live()
    w.pass_(10)
    w.sleep(3)
    w.answer(LIVE)
    w.pass_(10)
    assert w.sent[-1].fields["gap_ms"] == 3000


def test_a_clock_that_is_set_back_is_no_gap() -> None:
    w = Virtual().live()
    w.wall -= 3600
    w.pass_(10)
    assert w.sent[-1].fields["gap_ms"] == 1000
    w.answer(LIVE)
    w.wall -= 3600
    w.sleep(20)
    assert w.sent[-1].fields["gap_ms"] == 20_000


def test_kicks_of_one_cause_are_one_beat_and_none_while_something_is_under_way() -> None:
    w = Virtual().live()
    w.do(w.core.kick)
    assert w.look() == []  # the hello was just sent
    w.pass_(1)
    w.do(w.core.kick)
    w.do(w.core.kick)
    assert w.look() == [(1, "beat", 2)]


def test_a_kick_before_the_token_is_there_says_nothing() -> None:
    w = Virtual(asks=True).start()
    w.do(w.core.kick)
    assert w.sent == []


def test_a_bye_has_the_ticket_and_the_last_number_and_nothing_follows() -> None:
    w = Virtual(token="secret", login=True).live()
    w.pass_(10)
    bye = json.loads(w.core.bye())
    assert bye == {
        "agent": "arn:x",
        "session_id": "s",
        "type": "bye",
        "incarnation": 0,
        "seq": LAST_SEQ,
        "ticket": "t1",
    }
    w.look()
    w.answer(LIVE)
    w.pass_(100)
    assert (w.look(), w.state, w.core.wake_at_s) == ([], "ended", float("inf"))


def test_after_a_bye_nothing_is_waited_for() -> None:
    w = Virtual().start()
    w.pass_(1)
    assert w.core.bye() is None
    assert w.core.wake_at_s == float("inf")


def test_there_is_no_bye_without_a_ticket_nor_after_a_stop() -> None:
    assert Virtual().start().core.bye() is None
    w = Virtual().live()
    w.pass_(10)
    w.answer(STOP)
    assert w.core.bye() is None


def test_a_notice_is_told_once_and_again_when_it_was_restored() -> None:
    notice = {"status": "Offline", "set_at": "2026-01-31T12:00:00Z", "why": "All closed.", "restored": None}
    w = Virtual().live({**LIVE, "notice": notice})
    for restored in (None, "Available", "Available"):
        w.pass_(10)
        w.answer({**LIVE, "notice": {**notice, "restored": restored}})
    found = [each for each in w.told if isinstance(each, Notice)]
    assert [each.restored for each in found] == [None, "Available"]
    assert found[0].why == "All closed."


@pytest.mark.parametrize("told", [None, [], {}, {"status": 1, "set_at": "x"}, {"status": "Offline"}])
def test_what_is_no_notice_is_none(told) -> None:
    assert read_notice(told) is None


# The socket.


def test_a_socket_that_is_offered_is_opened_and_its_first_message_is_a_hello() -> None:
    w = Virtual().live(OFFER)
    assert (w.dialled, w.core.status.transport) == ([1], "post")
    w.pass_(0.1)
    w.do(w.core.opened, 1)
    assert [(each.socket, each.brief, each.fields["ticket"]) for each in w.sent[1:]] == [(1, (0.1, "hello", 2), "t1")]
    w.receive(LIVE)
    assert w.core.status.transport == "ws"
    w.pass_(10)
    assert (w.sent[-1].socket, w.sent[-1].brief) == (1, (10.1, "beat", 3))


def test_no_socket_without_an_offer_nor_where_none_is_wanted() -> None:
    assert Virtual().live().dialled == []
    assert Virtual(sockets=False).live(OFFER).dialled == []


def test_posts_go_on_until_the_socket_is_open_and_one_is_dialled() -> None:
    w = Virtual().live(OFFER)
    w.pass_(10)
    w.answer(OFFER)
    assert (len(w.posts), w.dialled) == (2, [1])


def test_a_socket_that_closes_is_followed_by_a_post_at_once_and_not_dialled_at_once() -> None:
    w = Virtual().tethered()
    w.pass_(3)
    w.do(w.core.closed, 1)
    assert (w.look(), w.sent[-1].socket) == ([(3.1, "beat", 3)], None)
    w.answer(OFFER)
    assert (w.core.status.transport, w.dialled) == ("post", [1])
    # Its second event, and those of an old socket, mean nothing.
    w.do(w.core.closed, 1)
    w.do(w.core.opened, 1)
    w.receive(STOP, socket=1)
    assert (w.state, len(w.posts)) == ("live", 2)
    w.pass_(10)
    w.answer(OFFER)
    assert w.dialled == [1, 2]  # 1 s and half of 15 have passed


def test_sockets_that_bring_no_answer_are_opened_ever_more_rarely_until_one_has_brought_one() -> None:
    w = Virtual().live(OFFER)
    for _ in range(360):
        w.do(w.core.closed, w.dialled[-1])
        w.pass_(10)
        w.answer(OFFER)
    assert 10 <= len(w.dialled) <= 20
    w.do(w.core.closed, w.dialled[-1])
    while w.core.socket is None:
        w.pass_(10)
        w.answer(OFFER)
    w.do(w.core.opened, w.dialled[-1])
    w.receive(LIVE)
    count = len(w.dialled)
    w.do(w.core.closed, w.dialled[-1])
    w.answer(OFFER)
    w.pass_(10)
    w.answer(OFFER)
    assert len(w.dialled) == count + 1


def test_a_message_without_an_answer_within_4_s_closes_the_socket_and_is_posted_at_once() -> None:
    w = Virtual().tethered()
    w.pass_(10)
    w.look()
    w.pass_(3.999)
    assert w.look() == []
    w.pass_(0.001)
    assert (w.hung_up, w.look(), w.state) == ([1], [(14.1, "beat", 4)], "live")
    assert w.sent[-1].socket is None


@pytest.mark.parametrize("text", ['{"status":503,"detail":"late"}', "x", "[]", '{"state":1}'])
def test_what_is_no_reply_ends_the_socket_and_the_post_hears_why(text) -> None:
    w = Virtual().tethered()
    w.pass_(10)
    w.do(w.core.received, 1, text)
    assert (w.hung_up, w.sent[-1].socket) == ([1], None)


def test_what_an_old_socket_still_has_to_say_or_did_not_answer_does_not_touch_the_next() -> None:
    w = Virtual().tethered()
    w.chance = 0
    w.pass_(10)
    assert w.sent[-1].socket == 1
    w.do(w.core.closed, 1)
    w.answer({**OFFER, "next_ms": 1000})
    w.pass_(1)
    w.answer(OFFER)
    assert w.dialled == [1, 2]
    w.do(w.core.opened, 2)
    w.receive({**LIVE, "ticket": "t5"})
    w.do(w.core.closed, 1)
    w.do(w.core.received, 1, "x")
    # The time-out of what the old one did not answer.
    w.pass_(5)
    assert (w.core.status.transport, w.hung_up) == ("ws", [1])
    w.pass_(5)
    assert (w.sent[-1].socket, w.sent[-1].fields["ticket"]) == (2, "t5")


def test_a_socket_that_cannot_be_opened_disturbs_nothing() -> None:
    w = Virtual().live(OFFER)
    w.do(w.core.closed, 1)
    assert w.look() == []
    w.pass_(10)
    assert w.look() == [(10, "beat", 2)]


def test_a_stop_over_the_socket_hangs_up() -> None:
    w = Virtual().tethered()
    w.pass_(10)
    w.receive(STOP)
    assert (w.state, w.hung_up) == ("stopped", [1])


def test_the_first_hello_over_a_socket_is_said_once() -> None:
    w = Virtual().tethered()
    w.pass_(10)
    w.receive(UNKNOWN)
    w.look()
    w.pass_(3.9)
    assert w.look() == []
    assert w.sent[-1].fields["type"] == "hello"


# Whatever comes.

REPLIES = st.sampled_from([LIVE, OFFER, UNKNOWN, STOP, {"state": "other"}, {}, {"state": "live", "next_ms": 0}])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0.001, 30)),
        st.tuples(st.just("sleep"), st.floats(0.001, 3600)),
        st.tuples(st.just("answer"), st.tuples(REPLIES, st.sampled_from([200, 200, 200, 204, 401, 403, 500, 503]))),
        st.tuples(st.just("fail"), st.none()),
        st.tuples(st.just("late"), REPLIES),
        st.tuples(st.just("opened"), st.none()),
        st.tuples(st.just("receive"), st.one_of(REPLIES, st.integers())),
        st.tuples(st.just("closed"), st.none()),
        st.tuples(st.just("given"), st.one_of(st.none(), st.sampled_from(["a", "b"]))),
        st.tuples(st.just("kick"), st.none()),
        st.tuples(st.just("chance"), st.floats(0, 1)),
    ),
    max_size=40,
)


def play(w: Virtual, step: str, value: object) -> None:
    match step, value:
        case "pass", float(seconds):
            w.pass_(seconds)
        case "sleep", float(seconds):
            w.sleep(seconds)
        case "answer", (data, status) if w.posts:
            w.answer(data, status=status, retry_s=2.0 if status == 503 else 0.0)
        case "late", data if w.posts:
            w.answer(data, which=w.posts[0])
        case "fail", _ if w.posts:
            w.fail()
        case "receive", data if w.dialled:
            w.receive(data)
        case ("opened" | "closed") as event, _ if w.dialled:
            w.do(getattr(w.core, event), w.dialled[-1])
        case "given", token:
            w.do(w.core.given, token)
        case "kick", _:
            w.do(w.core.kick)
        case "chance", float(chance):
            w.chance = chance


@given(STEPS)
def test_whatever_comes_numbers_rise_silence_ends_and_nobody_is_flooded(steps) -> None:
    w = Virtual(token="a").start()
    for step, value in steps:
        play(w, step, value)
        if w.core.status.state is not State.STOPPED:
            assert w.core.wake_at_s <= w.now + 1.0
    numbers = [(each.fields["incarnation"], each.fields["seq"]) for each in w.sent]
    assert numbers == sorted(set(numbers))
    sent, stopped = len(w.sent), w.core.status.state is State.STOPPED
    w.pass_(60)
    # Nothing answers any more: the time-out, 15 s of back-off, and the socket's before that.
    assert (len(w.sent) == sent) if stopped else (len(w.sent) >= sent + 2)
    assert len(w.sent) <= sent + 60
    body = w.core.bye()
    assert (body is not None) <= (not stopped)
    w.pass_(60)
    assert w.core.wake_at_s == float("inf")


# Names, addresses, numbers.


def test_an_agent_is_named_by_arn_by_path_or_by_two_ids() -> None:
    assert identify("arn:aws:connect:x", None, None) == {"agent": "arn:aws:connect:x"}
    assert identify("i/u", None, None) == identify(None, "i", "u") == {"instance_id": "i", "user_id": "u"}
    for wrong in ((None, None, None), ("i/u", "i", "u"), (None, "i", None), ("i", None, None), ("i/u/x", None, None)):
        with pytest.raises(ValueError, match="agent"):
            identify(*wrong)


def test_addresses_are_below_the_daemons_and_anything_else_is_refused() -> None:
    assert endpoints("https://w.example/x/") == ("https://w.example/x/v1/heartbeat", "wss://w.example/x/v1/ws")
    assert endpoints("http://w:1")[1] == "ws://w:1/v1/ws"
    for wrong in ("", "w.example", "ftp://w", "http://", "http://w?x", "ws://w"):
        with pytest.raises(ValueError, match="address"):
            endpoints(wrong)


def test_what_is_no_json_object_and_no_number_of_seconds_is_empty_and_0() -> None:
    assert [read_json(text) for text in ("", "[", "[]", "1", "[" * 100_000, b"\xff")] == [{}] * 6
    texts = (None, "", "soon", "-1", "inf", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "٣")
    assert [retry_after_s(text) for text in texts] == [0.0] * 8
    assert (retry_after_s("2"), retry_after_s("9" * 400)) == (2.0, 3600.0)


def test_the_browsers_client_and_the_simulators_pages_have_the_same_numbers() -> None:
    numbers = {name: int(value) for name, value in re.findall(r"^const ([A-Z_]+) = (\d+);", CORE_JS, re.MULTILINE)}
    assert numbers["TIMEOUT_MS"] == rules.TIMEOUT_S * 1000 == retries.POST_TIMEOUT_S * 1000
    assert numbers["HELLOS"] == rules.HELLOS == retries.HELLO.copies
    assert numbers["HELLO_EVERY_MS"] == rules.HELLO_EVERY_S * 1000 == retries.HELLO.every_s * 1000
    assert numbers["QUICK_FOR_MS"] == rules.QUICK_FOR_S * 1000 == retries.QUICK_FOR_S * 1000
    assert numbers["MOST_BACKOFF_MS"] == rules.BACKOFF_S * 1000 == retries.BACKOFF_S * 1000
    assert numbers["LEAST_BACKOFF_MS"] == rules.LEAST_BACKOFF_S * 1000 == retries.LEAST_BACKOFF_S * 1000
    assert "1000 + 2000 * io.random()" in CORE_JS
    assert rules.QUICK_S == retries.RETRY_S == (1.0, 3.0)
