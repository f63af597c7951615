"""Webhooks in virtual time: the real store, signatures and HTTP client; only the sockets are not there."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog

from tests.connect.world import instant
from tests.contract.world import RULES
from watchdog.connect.circuit import Problem
from watchdog.core.brake import State
from watchdog.core.holds import BrakeChange, HoldView
from watchdog.core.model import Action, AgentId, Epoch, IntentKind, Outcome
from watchdog.errors import StoreUnavailable
from watchdog.stores.disk import Batch, InlineDisk
from watchdog.stores.sqlite import SqliteStore
from watchdog.telemetry import notify
from watchdog.telemetry.cloudevents import TOLD
from watchdog.telemetry.notify import Notifier
from watchdog.telemetry.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.looptime

KEYS = [b"the-first-key-has-24-byt", b"the-second-has-24-bytes!"]
SECRETS = [f"whsec_{base64.b64encode(key).decode()}" for key in KEYS]
URLS = ["https://192.0.2.1/hook/of-the-supervisors", "https://192.0.2.2/hook/of-operations"]


def action(number: int, outcome: Outcome = Outcome.CONFIRMED, age_s: float = 0.0) -> Action:
    at = Epoch(instant().epoch - age_s)
    who = AgentId("instance", f"user-{number}")
    return Action(f"id-{number:06}", at, who, IntentKind.SET_STATUS, "Offline", outcome, "Gone.", {"n": number}, 1, 2.5)


def verified(request: httpx.Request, key: bytes) -> bool:
    """As a receiver does it, written from the specification alone."""
    content = request.headers["webhook-id"] + "." + request.headers["webhook-timestamp"] + "."
    expected = base64.b64encode(hmac.new(key, content.encode() + request.content, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(f"v1,{expected}", each) for each in request.headers["webhook-signature"].split(" "))


class Endless(httpx.AsyncByteStream):
    """An answer that does not end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000
            await asyncio.sleep(0.1)


@dataclass
class Receiver:
    """Somebody who is notified.

    Attributes:
        answers: What is answered next; 200 when there is nothing.
        delay_s: Before the answer.
        tried: When something was posted.
        taken: Events that were answered with 2xx.
    """

    answers: list[Any] = field(default_factory=list)
    delay_s: float = 0.0
    down: bool = False
    endless: bool = False
    tried: list[float] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.tried.append(asyncio.get_running_loop().time())
        self.requests.append(request)
        await asyncio.sleep(self.delay_s)
        if self.down:
            raise httpx.ConnectError("refused by https://192.0.2.1/hook/of-the-supervisors")
        if self.endless:
            return httpx.Response(200, stream=Endless())
        status = self.answers.pop(0) if self.answers else 200
        if status < 300:
            self.taken.append(json.loads(request.content))
        return httpx.Response(status, headers={"location": "http://169.254.169.254/"} if status == 302 else {})

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.taken]


class Switch(InlineDisk):
    """A disk that can be full."""

    full = False

    async def write(self, batch: Batch) -> None:
        if Switch.full:
            raise StoreUnavailable("The disk is full: make room.")
        await super().write(batch)


@dataclass
class Story:
    """A notifier over a store's file, which a kill -9 leaves as it is."""

    folder: Path
    store: SqliteStore
    receivers: Sequence[Receiver]
    problems: list[Problem] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(notify.RESULTS, 0))
    resolve: Callable[[str, int], Any] | None = None
    urls: Sequence[str] = tuple(URLS)
    notifier: Notifier | None = None
    task: asyncio.Task[None] | None = None

    def _count(self, result: str, number: int) -> None:
        self.counted[result] += number

    async def start(self) -> None:
        def epoch() -> Epoch:
            return instant().epoch

        self.notifier = Notifier(
            [
                Webhook(
                    url,
                    SECRETS,
                    epoch=epoch,
                    transport=httpx.MockTransport(receiver),
                    resolve=self.resolve or _itself,
                )
                for url, receiver in zip(self.urls, self.receivers, strict=False)
            ],
            self.store,
            problems=lambda: self.problems,
            epoch=epoch,
            random=lambda: 1.0,
            count=self._count,
        )
        self.task = asyncio.create_task(self.notifier.run())
        await asyncio.sleep(0.1)

    async def record(self, *actions: Action) -> None:
        """As the daemon does it: the history first."""
        await self.store.record(actions)
        assert self.notifier is not None
        for each in actions:
            self.notifier.action(each)

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def crash(self) -> None:
        """The process dies without a word, and another one opens what it left."""
        await self.stop()
        left = self.folder.with_name(self.folder.name + "-")
        shutil.copytree(self.folder, left)
        self.folder, old = left, self.store
        self.store = SqliteStore(left / "watchdog.db", RULES, Switch)
        await self.store.open(instant())
        await old.close()


async def _itself(host: str, _: int) -> list[str]:
    return [host]


@asynccontextmanager
async def story(tmp_path: Path, *receivers: Receiver) -> AsyncIterator[Story]:
    Switch.full = False
    folder = tmp_path / "store"
    folder.mkdir()
    told = Story(folder, SqliteStore(folder / "watchdog.db", RULES, Switch), receivers)
    await told.store.open(instant())
    yield told
    await told.stop()
    await told.store.close()


async def test_an_action_is_one_signed_event(tmp_path: Path) -> None:
    one = Receiver()
    async with story(tmp_path, one) as told:
        await told.start()
        made = action(1)
        await told.record(made)
        await asyncio.sleep(1)
    (event,), (request,) = one.taken, one.requests
    assert (event["specversion"], event["id"], event["type"]) == ("1.0", made.id, "watchdog.action.confirmed")
    assert (event["source"], event["subject"]) == ("urn:watchdog:instance:instance", "instance/user-1")
    assert event["time"].endswith("Z")
    assert (event["data"]["outcome"], event["data"]["reason"], event["data"]["evidence"]) == (
        "confirmed",
        "Gone.",
        {"n": 1},
    )
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["webhook-id"] == made.id
    assert abs(int(request.headers["webhook-timestamp"]) - made.at) <= 1
    assert all(verified(request, key) for key in KEYS)
    assert not verified(request, b"another-key-of-24-bytes!")
    assert told.counted == {"delivered": 1, "failed": 0, "dropped": 0}


async def test_who_gave_an_order_is_told_without_a_persons_name(tmp_path: Path) -> None:
    one = Receiver()
    by = "jwt:anna@example.com"
    evidence = {"by": by, "brake": {"by": by, "held_s": 1.0}, "why": "order"}
    hold = HoldView("all", State.ORDERED, "operator", "Ordered.", 9, Epoch(1.0), 2.0, "none", 0.0, "Waits.", None, by)
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(replace(action(1), evidence=evidence))
        assert told.notifier is not None
        told.notifier.brake(BrakeChange(State.CLEAR, State.ORDERED, hold), hold)
        await asyncio.sleep(1)
    name = f"jwt:{hashlib.sha256(b'anna@example.com').hexdigest()[:8]}"
    by_kind = {event["type"].split(".")[1]: event["data"] for event in one.taken}
    assert by_kind["action"]["evidence"] == {"by": name, "brake": {"by": name, "held_s": 1.0}, "why": "order"}
    assert by_kind["brake"]["by"] == name
    assert not any(b"anna" in request.content for request in one.requests)


async def test_of_what_changed_nothing_nobody_is_told(tmp_path: Path) -> None:
    one = Receiver()
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(*(action(number, outcome) for number, outcome in enumerate(Outcome)))
        await asyncio.sleep(60)
    assert {event["data"]["outcome"] for event in one.taken} == set(TOLD)
    assert set(Outcome) - TOLD == {
        Outcome.ALREADY,
        Outcome.CANCELLED,
        Outcome.RETURNED,
        Outcome.SKIPPED_CONTACT,
        Outcome.SKIPPED_PROFILE,
        Outcome.SKIPPED_STATE,
        Outcome.WITNESSED,
    }


async def test_what_was_not_delivered_is_after_a_crash_and_nothing_twice(tmp_path: Path) -> None:
    one = Receiver()
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(action(1), action(2))
        await asyncio.sleep(1)
        one.down = True
        await told.record(action(3), action(4))
        await asyncio.sleep(10)
        await told.crash()
        await told.store.record([action(5)])
        one.down = False
        await told.start()
        await asyncio.sleep(1)
    assert one.ids == [f"id-{number:06}" for number in (1, 2, 3, 4, 5)]


async def test_taken_and_not_noted_is_delivered_again_with_its_id(tmp_path: Path) -> None:
    one = Receiver()
    async with story(tmp_path, one) as told:
        await told.start()
        one.delay_s = 1
        await told.record(action(1))
        await asyncio.sleep(0.5)
        one.taken.append(json.loads(one.requests[0].content))  # it has it; the daemon dies before the answer
        await told.crash()
        await told.start()
        await asyncio.sleep(3)
    assert one.ids == ["id-000001", "id-000001"]


async def test_a_receiver_that_is_new_gets_what_comes_and_not_what_was(tmp_path: Path) -> None:
    one, new = Receiver(), Receiver()
    async with story(tmp_path, one, new) as told:
        await told.store.record([action(1)])
        await told.start()
        await told.record(action(2))
        await asyncio.sleep(1)
        assert new.ids == ["id-000002"]


async def test_a_slow_and_a_dead_receiver_hold_up_no_other(tmp_path: Path) -> None:
    slow, dead, good = Receiver(delay_s=30), Receiver(down=True), Receiver()
    async with story(tmp_path, slow, dead, good) as told:
        told.urls = [*URLS, "https://192.0.2.3/"]
        await told.start()
        await told.record(*(action(number) for number in range(20)))
        await asyncio.sleep(1)
        assert len(good.taken) == 20
        slow.delay_s, dead.down = 0.0, False
        await asyncio.sleep(100)
    assert slow.ids == dead.ids == good.ids == [f"id-{number:06}" for number in range(20)]


async def test_attempts_are_further_and_further_apart_and_end_after_5_s(tmp_path: Path) -> None:
    one = Receiver(delay_s=1000)
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(action(1))
        await asyncio.sleep(400)
        assert told.notifier is not None
        (failing,) = told.notifier.failing()
        assert (failing.receiver, failing.why) == (1, "TimeoutError.")
    waits = [round(later - earlier - 5) for earlier, later in zip(one.tried, one.tried[1:], strict=False)]
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_after_a_success_the_waits_begin_anew(tmp_path: Path) -> None:
    one = Receiver(answers=[500, 500, 500, 200, 500])
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(action(1), action(2))
        await asyncio.sleep(60)
    waits = [round(later - earlier) for earlier, later in zip(one.tried, one.tried[1:], strict=False)]
    assert waits == [1, 2, 4, 0, 1]


async def test_an_answer_that_does_not_end_is_hung_up_on(tmp_path: Path) -> None:
    one = Receiver(endless=True)
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(action(1))
        await asyncio.sleep(60)
        assert told.counted == {"delivered": 1, "failed": 0, "dropped": 0}


async def test_a_crash_within_a_page_repeats_only_what_was_in_hand(tmp_path: Path) -> None:
    one = Receiver(delay_s=2)
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(action(1), action(2), action(3))
        await asyncio.sleep(5)
        await told.crash()
        await told.start()
        await asyncio.sleep(10)
    assert [request.headers["webhook-id"][-1] for request in one.requests] == ["1", "2", "3", "3"]


async def test_a_fault_of_ours_is_told_and_ends_nothing(tmp_path: Path) -> None:
    one, other = Receiver(), Receiver()
    faults = [KeyError("of ours")]

    async def resolve(host: str, _: int) -> list[str]:
        if host == "192.0.2.1" and faults:
            raise faults.pop()
        return [host]

    async with story(tmp_path, one, other) as told:
        told.resolve = resolve
        await told.start()
        await told.record(action(1))
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(50)
            assert (one.ids, other.ids) == ([], ["id-000001"])
            await asyncio.sleep(20)
    assert one.ids == ["id-000001"]
    assert [each["event"] for each in logs] == ["notify.fault"]


@pytest.mark.parametrize("status", [302, 400, 401, 429, 500])
async def test_anything_but_success_is_tried_again(tmp_path: Path, status: int) -> None:
    one = Receiver(answers=[status])
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(action(1))
        await asyncio.sleep(5)
    assert one.ids == ["id-000001"]
    assert {request.url.host for request in one.requests} == {"192.0.2.1"}
    assert told.counted == {"delivered": 1, "failed": 1, "dropped": 0}


async def test_what_is_too_old_or_too_far_behind_is_dropped_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "MAX_BEHIND", 10)
    one = Receiver(down=True)
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(action(1))
        await asyncio.sleep(10)
        await told.record(*(action(number, age_s=90_000 if number == 15 else 0) for number in range(2, 21)))
        one.down = False
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(100)
    assert one.ids == [f"id-{number:06}" for number in range(11, 21) if number != 15]
    dropped = [(each["events"], each["reason"]) for each in logs if each["event"] == "notify.dropped"]
    assert dropped == [(10, "too far behind"), (1, "too old")]
    assert told.counted["dropped"] == 11


async def test_while_the_store_is_down_it_is_told_and_actions_wait(tmp_path: Path) -> None:
    one = Receiver()
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(action(1))
        Switch.full = True
        told.problems = [Problem("store_unavailable", "Make room.", instant().epoch)]
        await asyncio.sleep(5)
        assert [event["type"] for event in one.taken] == ["watchdog.action.confirmed", "watchdog.problem.began"]
        Switch.full = False
        await told.record(action(2))
        await asyncio.sleep(5)
    assert [event["subject"] for event in one.taken][2:] == ["instance/user-2"]


async def test_what_is_news_goes_before_the_actions_that_wait(tmp_path: Path) -> None:
    one = Receiver(delay_s=2)
    async with story(tmp_path, one) as told:
        await told.start()
        await told.record(action(1), action(2), action(3))
        told.problems = [Problem("denied", "Allow it.", instant().epoch)]
        await asyncio.sleep(20)
    assert [event["subject"] for event in one.taken] == [
        "instance/user-1",
        "denied",
        "instance/user-2",
        "instance/user-3",
    ]


async def test_a_problem_is_told_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    one = Receiver()
    async with story(tmp_path, one) as told:
        await told.start()
        denied = Problem("denied", "Allow it for a.", instant().epoch)
        told.problems = [denied, replace(denied, detail="Allow it for b.")]
        await asyncio.sleep(3)
        told.problems = [replace(denied, detail="Allow it for a; 3 agents wait.")]
        await asyncio.sleep(3)
        told.problems = []
        await asyncio.sleep(3)
    assert [event["type"].removeprefix("watchdog.problem.") for event in one.taken] == [
        "began",
        "began",
        "ended",
        "ended",
    ]
    assert {event["subject"] for event in one.taken} == {"denied"}
    assert len(set(one.ids)) == 4


async def test_a_brake_is_told(tmp_path: Path) -> None:
    one = Receiver()
    hold = HoldView("all", State.HOLDING, "mass_silence", "9 of 10.", 9, Epoch(1.0), 2.0, "none", 0.0, "Waits.", None)
    async with story(tmp_path, one) as told:
        await told.start()
        assert told.notifier is not None
        for before, after in (
            (State.CLEAR, State.HOLDING),
            (State.HOLDING, State.ALARM),
            (State.ALARM, State.CLEAR),
            (State.CLEAR, State.OVERRULED),
            (State.OVERRULED, State.CLEAR),
        ):
            told.notifier.brake(BrakeChange(before, after, hold), hold)
        await asyncio.sleep(1)
    kinds = [event["type"].removeprefix("watchdog.brake.") for event in one.taken]
    assert kinds == ["tripped", "alarm", "released", "released", "clear"]
    assert one.taken[0]["data"]["why"] == "9 of 10."


async def test_what_is_in_no_history_is_bounded(tmp_path: Path) -> None:
    one = Receiver(down=True)
    async with story(tmp_path, one) as told:
        await told.start()
        for number in range(notify.MAX_NEWS + 5):
            told.problems = [Problem("denied", "", Epoch(float(number)))]
            assert told.notifier is not None
            told.notifier.look_at_problems()
        one.down = False
        await asyncio.sleep(100)
    assert len(one.taken) == notify.MAX_NEWS
    assert told.counted["dropped"] == 2 * (notify.MAX_NEWS + 5) - 1 - notify.MAX_NEWS


async def test_what_is_in_hand_while_others_make_room_costs_nobody_else(tmp_path: Path) -> None:
    one = Receiver(delay_s=1)
    async with story(tmp_path, one) as told:
        await told.start()
        assert told.notifier is not None
        for number in range(notify.MAX_NEWS + 1):
            told.problems = [*told.problems, Problem("denied", str(number), Epoch(float(number)))]
            told.notifier.look_at_problems()
            if number == 0:
                await asyncio.sleep(0.5)
        one.delay_s = 0
        await asyncio.sleep(30)
    assert [event["data"]["detail"] for event in one.taken] == [str(each) for each in range(notify.MAX_NEWS + 1)]


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "fe80::1"])
async def test_a_name_that_leads_to_metadata_is_not_called(tmp_path: Path, address: str) -> None:
    one = Receiver()

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["192.0.2.1", address]

    async with story(tmp_path, one) as told:
        told.resolve, told.urls = resolve, ["https://hooks.example.com/"]
        await told.start()
        await told.record(action(1))
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(100)
    assert (one.tried, told.counted["delivered"]) == ([], 0)
    assert "metadata" in logs[0]["reason"]


async def test_no_url_is_in_a_log_and_a_failure_is_told_once(tmp_path: Path) -> None:
    one = Receiver(down=True)
    async with story(tmp_path, one) as told:
        with structlog.testing.capture_logs() as logs:
            await told.start()
            await told.record(action(1))
            await asyncio.sleep(400)
            assert told.notifier is not None
            assert len(told.notifier.failing()) == 1
            one.down = False
            await asyncio.sleep(100)
            assert told.notifier.failing() == []
    assert [each["event"] for each in logs] == ["notify.failed", "notify.recovered"]
    assert logs[0]["receiver"] == 1
    assert "192.0.2" not in str(logs)
    assert "hook" not in str(logs)
