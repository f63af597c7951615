"""The event bus: what AWS gets of each event (moto), and what becomes of what it refuses, in virtual time."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import orjson
import pytest
import structlog
from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError
from moto import mock_aws

from tests.connect.world import instant
from tests.contract.world import RULES
from tests.telemetry.test_notify import action
from watchdog.connect.circuit import Problem
from watchdog.core.model import Epoch
from watchdog.errors import NotDelivered
from watchdog.stores.disk import InlineDisk
from watchdog.stores.sqlite import SqliteStore
from watchdog.telemetry import cloudevents, notify
from watchdog.telemetry.cloudevents import Event
from watchdog.telemetry.eventbridge import CALL_BYTES, ENTRY_BYTES, EventBridge
from watchdog.telemetry.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

REGION = "us-east-1"
ARN = f"arn:aws:events:{REGION}:123456789012:event-bus/presence"


class Inline(Executor):
    """In place of a thread, for which virtual time would not wait."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments, **named))
        except Exception as error:  # noqa: BLE001  # what a thread would hand over
            done.set_exception(error)
        return done


def refusal(code: str, status: int = 400) -> ClientError:
    said = {"Error": {"Code": code, "Message": "Said AWS."}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(said, "PutEvents")  # type: ignore[arg-type]


@dataclass
class Aws:
    """What boto3 gives for EventBridge.

    Attributes:
        codes: Error codes of entries, by the id of their event, each for one time.
        faults: What calls raise before there is an answer, each for one time.
        calls: Entries of each call.
        tried: When each was made.
        taken: Ids of the events taken, in their order.
        made: Clients made.
    """

    codes: dict[str, list[str]] = field(default_factory=dict)
    faults: list[Exception] = field(default_factory=list)
    down: Exception | None = None
    calls: list[Sequence[dict[str, Any]]] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    tried: list[float] = field(default_factory=list)
    made: int = 0

    def make(self, _: str | None) -> Aws:
        self.made += 1
        return self

    def put_events(self, Entries: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  # boto3's name
        self.calls.append(Entries)
        self.tried.append(asyncio.get_running_loop().time())
        if self.faults or self.down:
            raise self.faults.pop(0) if self.faults else self.down
        rows = []
        for entry in Entries:
            name = json.loads(entry["Detail"])["id"]
            if self.codes.get(name):
                rows.append({"ErrorCode": self.codes[name].pop(0), "ErrorMessage": "Said AWS."})
            else:
                self.taken.append(name)
                rows.append({"EventId": f"of {name}"})
        return {"FailedEntryCount": 0, "Entries": rows}


@dataclass
class Story:
    store: SqliteStore
    notifier: Notifier
    problems: list[Problem]
    counted: dict[str, int]

    async def record(self, *numbers: int, age_s: float = 0.0) -> None:
        made = [action(number, age_s=age_s) for number in numbers]
        await self.store.record(made)
        for each in made:
            self.notifier.action(each)


@asynccontextmanager
async def story(path: Path, aws: Aws) -> AsyncIterator[Story]:
    """A notifier over a store's file, which the next one finds as this one leaves it."""
    store = SqliteStore(path / "watchdog.db", RULES, InlineDisk)
    await store.open(instant())
    counted, problems = dict.fromkeys(notify.RESULTS, 0), list[Problem]()

    def count(result: str, number: int) -> None:
        counted[result] += number

    notifier = Notifier(
        [],
        store,
        bus=EventBridge(ARN, None, executor=Inline(), make=aws.make),
        problems=lambda: problems,
        epoch=lambda: instant().epoch,
        random=lambda: 1.0,
        count=count,
    )
    task = asyncio.create_task(notifier.run())
    await asyncio.sleep(0.1)
    yield Story(store, notifier, problems, counted)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()


def ids(*numbers: int) -> list[str]:
    return [f"id-{number:06}" for number in numbers]


def an_event(number: int, size: int = 2) -> Event:
    body = orjson.dumps({"id": f"id-{number:06}", "x": "x" * size})
    return Event(f"id-{number:06}", "watchdog.action.failed", Epoch(1.8e9 + number), body)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.mark.parametrize("bus", ["presence", ARN])
async def test_a_rule_of_the_bus_gets_the_whole_event(credentials: None, bus: str) -> None:
    with mock_aws():
        events, queues = boto3.client("events", region_name=REGION), boto3.client("sqs", region_name=REGION)
        events.create_event_bus(Name="presence")
        url = queues.create_queue(QueueName="told")["QueueUrl"]
        arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        pattern = {"source": ["connect-presence-watchdog"], "detail-type": ["watchdog.action.confirmed"]}
        events.put_rule(Name="told", EventBusName="presence", EventPattern=json.dumps(pattern))
        events.put_targets(Rule="told", EventBusName="presence", Targets=[{"Id": "1", "Arn": arn}])
        event, other = cloudevents.of_action(action(1)), an_event(2)
        target = EventBridge(bus, REGION)
        assert (await target.deliver([event, other])).left == ()
        await target.close()
        (message,) = queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    told = json.loads(message["Body"])
    assert (told["source"], told["detail-type"]) == ("connect-presence-watchdog", "watchdog.action.confirmed")
    assert told["detail"] == json.loads(event.body)
    assert told["detail"]["data"]["outcome"] == "confirmed"


async def test_a_bus_that_does_not_exist_needs_a_person(credentials: None) -> None:
    with mock_aws():
        target = EventBridge("nobodys", REGION)
        with pytest.raises(NotDelivered, match="ResourceNotFoundException") as raised:
            await target.deliver([an_event(1)])
        await target.close()
    assert raised.value.lasting


@pytest.mark.looptime
async def test_events_go_ten_at_a_time_and_in_their_order(tmp_path: Path) -> None:
    aws = Aws()
    async with story(tmp_path, aws) as told:
        await told.record(*range(25))
        await asyncio.sleep(1)
    assert [len(call) for call in aws.calls] == [10, 10, 5]
    assert aws.taken == ids(*range(25))
    assert told.counted == {"delivered": 25, "failed": 0, "dropped": 0}


@pytest.mark.looptime
async def test_of_a_call_only_what_was_refused_is_sent_again(tmp_path: Path) -> None:
    aws = Aws(codes={"id-000001": ["ThrottlingException"], "id-000003": ["InternalFailure", "InternalFailure"]})
    async with story(tmp_path, aws) as told:
        await told.record(*range(5))
        await asyncio.sleep(10)
        await told.record(5)
        await asyncio.sleep(1)
    assert [[json.loads(entry["Detail"])["id"] for entry in call] for call in aws.calls] == [
        ids(0, 1, 2, 3, 4),
        ids(1, 3),
        ids(3),
        ids(5),
    ]
    assert told.counted == {"delivered": 6, "failed": 2, "dropped": 0}


@pytest.mark.looptime
async def test_what_was_not_taken_comes_after_a_crash(tmp_path: Path) -> None:
    aws = Aws(codes={"id-000001": ["ThrottlingException"] * 3})
    async with story(tmp_path, aws) as told:
        await told.record(*range(3))
        await asyncio.sleep(0.5)
    assert aws.taken == ids(0, 2)
    aws.codes.clear()
    async with story(tmp_path, aws):
        await asyncio.sleep(1)
    assert set(aws.taken) == set(ids(0, 1, 2))
    assert len(aws.calls) == 2
    async with story(tmp_path, aws):
        await asyncio.sleep(1)
    assert len(aws.calls) == 2


@pytest.mark.looptime
async def test_attempts_are_further_and_further_apart(tmp_path: Path) -> None:
    aws = Aws(down=refusal("ThrottlingException"))
    async with story(tmp_path, aws) as told:
        await told.record(1)
        await asyncio.sleep(70)
        assert told.notifier.failing() == []
        await asyncio.sleep(300)
        (failing,) = told.notifier.failing()
    waits = [round(later - earlier) for earlier, later in zip(aws.tried, aws.tried[1:], strict=False)]
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (failing.receiver, failing.lasting) == ("eventbridge", False)
    assert failing.why == "PutEvents: ThrottlingException: Said AWS."


LASTING = [
    refusal("AccessDeniedException", 400),
    refusal("SomethingNew", 403),
    refusal("ExpiredTokenException"),
    refusal("ResourceNotFoundException"),
    NoCredentialsError(),
    NoRegionError(),
]


@pytest.mark.looptime
@pytest.mark.parametrize("fault", LASTING, ids=lambda fault: f"{type(fault).__name__}: {fault}")
async def test_what_only_a_person_can_mend_is_told_at_once_and_over_when_mended(
    tmp_path: Path, fault: Exception
) -> None:
    aws = Aws(down=fault)
    async with story(tmp_path, aws) as told:
        await told.record(1)
        await asyncio.sleep(0.5)
        (failing,) = told.notifier.failing()
        assert failing.lasting
        aws.down = None
        await asyncio.sleep(60)
        assert told.notifier.failing() == []
    assert aws.taken == ids(1)


@pytest.mark.looptime
async def test_a_single_entry_that_is_denied_is_told_at_once(tmp_path: Path) -> None:
    aws = Aws(codes={"id-000001": ["NotAuthorizedForSourceException"] * 9})
    async with story(tmp_path, aws) as told:
        await told.record(0, 1)
        await asyncio.sleep(0.5)
        (failing,) = told.notifier.failing()
    assert failing.lasting
    assert failing.why == "PutEvents: 1 of 2 entries: NotAuthorizedForSourceException: Said AWS."


@pytest.mark.looptime
async def test_after_expired_credentials_a_new_client_looks_again(tmp_path: Path) -> None:
    aws = Aws(faults=[refusal("ExpiredTokenException")])
    async with story(tmp_path, aws) as told:
        await told.record(1)
        await asyncio.sleep(5)
        await told.record(2)
        await asyncio.sleep(5)
    assert (aws.made, aws.taken) == (2, ids(1, 2))


@pytest.mark.looptime
async def test_what_is_never_taken_holds_up_nothing(tmp_path: Path) -> None:
    aws = Aws(codes={"id-000001": ["MalformedDetail"]})
    async with story(tmp_path, aws) as told:
        with structlog.testing.capture_logs() as logs:
            await told.record(0, 1, 2)
            await asyncio.sleep(1)
    assert aws.taken == ids(0, 2)
    assert told.counted == {"delivered": 2, "failed": 0, "dropped": 1}
    dropped = [(each["receiver"], each["events"], each["reason"]) for each in logs if each["event"] == "notify.dropped"]
    assert dropped == [("eventbridge", 1, "never taken")]


@pytest.mark.looptime
async def test_what_is_too_old_is_dropped_once_though_what_comes_before_fails(tmp_path: Path) -> None:
    aws = Aws(faults=[refusal("ThrottlingException")] * 3)
    async with story(tmp_path, aws) as told:
        made = [action(0), action(1, age_s=90_000), action(2)]
        await told.store.record(made)
        told.notifier.action(made[0])
        await asyncio.sleep(30)
    assert aws.taken == ids(0, 2)
    assert told.counted == {"delivered": 2, "failed": 3, "dropped": 1}


@pytest.mark.looptime
async def test_problems_are_told_before_actions_that_wait(tmp_path: Path) -> None:
    aws = Aws(down=refusal("AccessDeniedException", 403))
    async with story(tmp_path, aws) as told:
        await told.record(1)
        told.problems.append(Problem("notify_refused", "Allow it.", instant().epoch))
        await asyncio.sleep(5)
        aws.down = None
        await asyncio.sleep(60)
    types = [entry["DetailType"] for call in aws.calls[-2:] for entry in call]
    assert types == ["watchdog.problem.began", "watchdog.action.confirmed"]


async def test_a_call_is_no_larger_than_aws_takes_everywhere() -> None:
    aws = Aws()
    target = EventBridge(ARN, None, executor=Inline(), make=aws.make)
    size = CALL_BYTES // 3
    large = an_event(9, ENTRY_BYTES)
    done = await target.deliver([*(an_event(number, size) for number in range(4)), large])
    assert [len(call) for call in aws.calls] == [2, 2]
    assert (done.left, done.never) == ((), (large,))


async def test_what_follows_a_failed_call_is_left_and_what_went_before_is_not() -> None:
    aws = Aws()
    target = EventBridge(ARN, None, executor=Inline(), make=aws.make)
    events = [an_event(number, CALL_BYTES // 2) for number in range(3)]
    aws.codes = {"id-000001": ["InternalFailure"]}
    done = await target.deliver(events)
    assert (aws.taken, done.left, done.lasting) == (ids(0), tuple(events[1:]), False)


async def test_an_answer_that_does_not_tell_of_each_entry_is_none() -> None:
    aws = Aws()
    aws.put_events = lambda **_: {"Entries": [{}]}  # type: ignore[method-assign]
    target = EventBridge(ARN, None, executor=Inline(), make=aws.make)
    with pytest.raises(NotDelivered):
        await target.deliver([an_event(1), an_event(2)])


def test_the_region_is_that_of_the_arn_and_each_bus_has_a_place_of_its_own() -> None:
    regions: list[str | None] = []

    def make(region: str | None) -> Aws:
        regions.append(region)
        return Aws()

    for bus in (ARN, "presence"):
        asyncio.run(EventBridge(bus, "eu-central-1", executor=Inline(), make=make).deliver([an_event(1)]))
    assert regions == [REGION, "eu-central-1"]
    keys = {EventBridge(bus, region).key for bus in (ARN, "presence") for region in ("eu-central-1", "us-west-2")}
    assert len(keys) == 3


class Stuck(Executor):
    """Its one thread never comes back."""

    def __init__(self) -> None:
        self.calls: list[Future[Any]] = []

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self.calls.append(Future())
        if len(self.calls) == 1:
            self.calls[0].set_running_or_notify_cancel()
        return self.calls[-1]


@pytest.mark.looptime
async def test_a_call_that_never_ends_is_told_and_is_left_running() -> None:
    stuck = Stuck()
    target = EventBridge(ARN, None, executor=stuck)
    for _ in range(2):
        with pytest.raises(NotDelivered, match="no answer within 20 s"):
            await target.deliver([an_event(1)])
    assert asyncio.get_running_loop().time() == pytest.approx(40.0, abs=0.1)
    assert [call.cancelled() for call in stuck.calls] == [False, True]
    assert target.running
    stuck.calls[0].set_result(None)
    assert not target.running
