"""The pure parts: what a sighting means, who is next, which status is meant, and whose fault an error is."""

from __future__ import annotations

import pytest
from botocore import exceptions as aws
from hypothesis import given
from hypothesis import strategies as st

from watchdog.connect.answers import Seen, Status, StatusType, answered_at, classify, parse_status, parse_user
from watchdog.connect.api import Instance
from watchdog.connect.case import MAY_HAVE_APPLIED
from watchdog.connect.directory import resolve
from watchdog.connect.queue import Level, Rank, Turns, level, rooms
from watchdog.connect.verdict import Finding, Settle, Step, after_write, before_write, find
from watchdog.connect.writer import result_of, unanswered
from watchdog.core.model import Epoch, Intent, IntentKind, Observed, Outcome
from watchdog.errors import (
    CallAborted,
    ConnectCredentials,
    ConnectDenied,
    ConnectInvalid,
    ConnectNotFound,
    ConnectThrottled,
    ConnectUnavailable,
)

OFFLINE = Status("off", "arn/off", "Offline", StatusType.OFFLINE)
LUNCH = Status("lunch", "arn/lunch", "Lunch", StatusType.CUSTOM)
AVAILABLE = Status("avail", "arn/avail", "Available", StatusType.ROUTABLE)


def seen(status: Status = AVAILABLE, next_status: str | None = None, **free: int) -> Seen:
    return Seen(status.id, status.name, next_status=next_status, available=free)


def left(target: Status = OFFLINE, former: str | None = "avail") -> Intent:
    return Intent(IntentKind.SET_STATUS, target.id, former, Epoch(0.0))


# What a sighting means.


@pytest.mark.parametrize(
    ("row", "complete", "finding"),
    [
        (seen(OFFLINE), True, Finding.TARGET),
        (seen(OFFLINE, "Offline"), True, Finding.TARGET),
        (seen(OFFLINE, "Available"), True, Finding.ELSEWHERE),
        (seen(AVAILABLE, "Offline"), True, Finding.NEXT),
        (seen(AVAILABLE), True, Finding.ELSEWHERE),
        (None, True, Finding.ABSENT),
        (None, False, Finding.UNKNOWN),
    ],
)
def test_a_sighting_is_compared_with_the_target(row, complete, finding):
    assert find(row, OFFLINE, complete=complete) is finding


@pytest.mark.parametrize(
    ("finding", "target", "intent", "outcome"),
    [
        (Finding.TARGET, OFFLINE, None, Outcome.ALREADY),
        (Finding.TARGET, OFFLINE, left(), Outcome.CONFIRMED),
        (Finding.TARGET, OFFLINE, left(LUNCH), Outcome.ALREADY),
        (Finding.TARGET, OFFLINE, left(former=None), Outcome.ALREADY),
        (Finding.NEXT, OFFLINE, None, Outcome.ALREADY),
        (Finding.NEXT, OFFLINE, left(), Outcome.NEXT_STATUS),
        (Finding.ABSENT, OFFLINE, left(), Outcome.CONFIRMED),
        (Finding.ABSENT, LUNCH, None, Outcome.SKIPPED_STATE),
    ],
)
def test_what_needs_no_write_is_settled(finding, target, intent, outcome):
    for dry_run in (False, True):
        step = before_write(finding, target, intent, dry_run=dry_run)
        assert isinstance(step, Settle)
        assert step.outcome is outcome


def test_what_needs_a_write_is_written_unless_it_is_a_dry_run():
    assert before_write(Finding.ELSEWHERE, OFFLINE, None, dry_run=False) is Step.WRITE
    assert before_write(Finding.ELSEWHERE, OFFLINE, left(), dry_run=False) is Step.WRITE
    assert before_write(Finding.ABSENT, OFFLINE, None, dry_run=False) is Step.WRITE_UNSEEN
    assert before_write(Finding.ABSENT, OFFLINE, left(former=None), dry_run=False) is Step.WRITE_UNSEEN
    for finding in (Finding.ELSEWHERE, Finding.ABSENT):
        step = before_write(finding, OFFLINE, None, dry_run=True)
        assert isinstance(step, Settle)
        assert step.outcome is Outcome.DRY_RUN
    assert before_write(Finding.UNKNOWN, OFFLINE, None, dry_run=True) is Step.WAIT


def test_absence_confirms_an_offline_status_only():
    assert after_write(Finding.ABSENT, OFFLINE).outcome is Outcome.CONFIRMED
    assert after_write(Finding.ABSENT, LUNCH) is None
    assert after_write(Finding.UNKNOWN, OFFLINE) is None
    assert after_write(Finding.ELSEWHERE, OFFLINE) is None


# Who is next.


def test_whoever_could_get_the_next_contact_is_first():
    assert level(seen(AVAILABLE, VOICE=1), StatusType.ROUTABLE) is Level.SOON
    assert level(seen(AVAILABLE, VOICE=0, CHAT=2), StatusType.ROUTABLE) is Level.SOON
    assert level(seen(AVAILABLE, VOICE=1), None) is Level.SOON
    assert level(seen(AVAILABLE, VOICE=0), StatusType.ROUTABLE) is Level.LATER
    assert level(seen(AVAILABLE, "Lunch", VOICE=1), StatusType.ROUTABLE) is Level.LATER
    assert level(seen(LUNCH, VOICE=1), StatusType.CUSTOM) is Level.LATER
    assert level(None, None) is Level.LAST


counts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 50), max_size=4)


@given(due=counts, busy=counts, capacity=st.integers(1, 40))
def test_room_is_for_all_who_fit_and_else_an_equal_part(due, busy, capacity):
    room = rooms(due, busy, capacity)
    if sum(due.values()) + sum(busy.values()) <= capacity:
        assert room == due
    else:
        for instance_id, free in room.items():
            held = busy.get(instance_id, 0)
            assert free >= 0
            # nobody holds more than an equal part, and whoever holds nothing gets something
            assert held + free <= max(held, capacity)
            assert free > 0 or held > 0
    assert room.keys() == due.keys()


@given(
    levels=st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from(list(Level)), max_size=12), max_size=3),
)
def test_undos_are_first_then_instances_take_turns_and_the_unseen_come_after_all_others(levels):
    waiting = [(name, Rank(each, Observed(float(at)))) for name, of in levels.items() for at, each in enumerate(of)]
    turns, served = Turns(), []
    while waiting:
        waiting.sort(key=lambda item: turns.key(*item))
        served.append(waiting.pop(0))
        turns.serve(served[-1][0])
    apart = [(rank.level is Level.LAST) - (rank.level is Level.UNDO) for _, rank in served]
    assert apart == sorted(apart)
    for each in (-1, 0, 1):
        names = [name for (name, _), of in zip(served, apart, strict=True) if of == each]
        # while each of two instances has somebody of the same class left, neither is served twice in a row
        for at in range(len(names) - 1):
            if names[at] == names[at + 1]:
                assert set(names[at + 2 :]) <= {names[at]}
        for name in set(names):
            mine = [rank for (other, rank), of in zip(served, apart, strict=True) if (other, of) == (name, each)]
            assert mine == sorted(mine)


# Which status is meant.


def test_offline_is_found_by_type_and_never_by_name():
    named = Status("x", "", "Offline", StatusType.CUSTOM)
    away = Status("y", "", "Feierabend", StatusType.OFFLINE)
    assert resolve([AVAILABLE, named, away], None) is away
    assert "OFFLINE" in str(resolve([AVAILABLE, named], None))


def test_a_status_is_found_by_id_then_name_then_regardless_of_case():
    trap = Status("other", "", "lunch", StatusType.CUSTOM)
    assert resolve([trap, LUNCH], "lunch") is LUNCH  # the id
    assert resolve([trap, LUNCH], "Lunch") is LUNCH
    assert resolve([LUNCH, OFFLINE], "LUNCH") is LUNCH
    assert "'LUNCH'" in str(resolve([trap, LUNCH], "LUNCH"))  # which of the two?
    assert "Lunch, Offline" in str(resolve([OFFLINE, LUNCH], "Holiday"))


# Answers and errors.


def refused(code: str, status: int, operation: str = "PutUserStatus") -> aws.ClientError:
    return aws.ClientError(
        {"Error": {"Code": code, "Message": "why."}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation
    )


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (refused("ThrottlingException", 429), ConnectThrottled),
        (refused("ThrottlingException", 400), ConnectThrottled),
        (refused("SomethingNew", 429), ConnectThrottled),
        (refused("AccessDeniedException", 403), ConnectDenied),
        (refused("SomethingNew", 403), ConnectDenied),
        (refused("ResourceNotFoundException", 404), ConnectNotFound),
        (refused("InvalidParameterException", 400), ConnectInvalid),
        (refused("InvalidRequestException", 400), ConnectInvalid),
        (refused("SomethingNew", 409), ConnectInvalid),
        (refused("InternalServiceException", 500), ConnectUnavailable),
        (refused("", 503), ConnectUnavailable),
        (refused("ExpiredTokenException", 403), ConnectCredentials),
        (refused("UnrecognizedClientException", 403), ConnectCredentials),
        (refused("InvalidSignatureException", 403), ConnectCredentials),
        (refused("AccessDenied", 403, "AssumeRole"), ConnectCredentials),
        (refused("InternalFailure", 500, "AssumeRole"), ConnectUnavailable),
        (aws.NoCredentialsError(), ConnectCredentials),
        (aws.ParamValidationError(report="x"), ConnectInvalid),
        (aws.NoRegionError(), ConnectInvalid),
        (aws.HTTPClientError(error="x"), ConnectUnavailable),
    ],
)
def test_errors_are_classified_by_code_and_then_by_status(error, ours):
    got = classify(error, "PutUserStatus", "main")
    assert type(got) is ours
    assert got.operation == "PutUserStatus"
    assert "main" in str(got)


@pytest.mark.parametrize(
    ("error", "maybe"),
    [
        (aws.EndpointConnectionError(endpoint_url="x"), False),
        (aws.ConnectTimeoutError(endpoint_url="x"), False),
        (aws.ProxyConnectionError(proxy_url="x"), False),
        (aws.ReadTimeoutError(endpoint_url="x"), True),
        (aws.ConnectionClosedError(endpoint_url="x"), True),
        (aws.SSLError(endpoint_url="x", error="y"), True),
        (refused("InternalServiceException", 500), True),
    ],
)
def test_only_a_connection_that_never_came_about_surely_had_no_effect(error, maybe):
    got = classify(error, "PutUserStatus", "main")
    assert isinstance(got, ConnectUnavailable)
    assert got.maybe_applied is maybe


def test_a_missing_permission_is_named():
    assert "connect:PutUserStatus" in str(classify(refused("AccessDeniedException", 403), "PutUserStatus", "main"))


def test_rows_without_a_user_or_a_status_are_left_out():
    assert parse_user({}) is None
    assert parse_user({"User": {"Id": "anna"}}) is None
    assert parse_user({"User": {"Id": "anna"}, "Status": {"StatusArn": "arn:x/agent-state/off"}}) == (
        "anna",
        Seen("off", ""),
    )


def test_a_type_that_is_not_known_counts_as_custom():
    assert parse_status({"Id": "x", "Type": "NEW"}).type is StatusType.CUSTOM


def test_the_date_of_the_answer_counts_and_a_bad_one_does_not():
    def response(date: str | None) -> dict[str, object]:
        return {"ResponseMetadata": {"HTTPHeaders": {"date": date} if date else {}}}

    assert answered_at(response("Thu, 01 Jan 1970 00:01:00 GMT"), Epoch(5.0)) == 60.0
    assert answered_at(response("yesterday"), Epoch(5.0)) == 5.0
    assert answered_at(response(None), Epoch(5.0)) == 5.0


def test_a_role_s_account_and_the_region_share_a_quota():
    assert Instance("x", "us-west-2", "arn:aws:iam::123456789012:role/w").scope == "123456789012/us-west-2"
    assert Instance("x").scope == "own/default"
    assert Instance("x", role_arn="nonsense").scope == "own/default"


@pytest.mark.parametrize(
    ("error", "result", "may_apply"),
    [
        (CallAborted("late"), "aborted", False),
        (ConnectThrottled("429"), "throttled", False),
        (ConnectDenied("403"), "denied", False),
        (ConnectNotFound("404"), "not_found", False),
        (ConnectUnavailable("no connection", maybe_applied=False), "not_sent", False),
        (ConnectUnavailable("no answer", maybe_applied=True), "unavailable", True),
    ],
)
def test_only_a_write_without_an_answer_may_have_taken_effect(error, result, may_apply) -> None:
    assert result_of(error) == result
    assert unanswered(error) is may_apply
    assert (result in MAY_HAVE_APPLIED) is may_apply
