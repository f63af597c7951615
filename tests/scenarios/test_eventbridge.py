"""The daemon puts what it did on an event bus, and what was not taken comes when it is back."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

import boto3
import pytest

from tests.scenarios.harness import new_session, until

if TYPE_CHECKING:
    from tests.scenarios.harness import Connect, Daemon

pytestmark = pytest.mark.scenario


def test_a_queue_behind_a_rule_gets_what_was_done_once_the_bus_is_there(connect: Connect, daemon: Daemon) -> None:
    at: dict[str, Any] = {
        "endpoint_url": connect.server.url,
        "region_name": "us-east-1",
        "aws_access_key_id": "sandbox",
        "aws_secret_access_key": "sandbox",
    }
    events, queues = boto3.client("events", **at), boto3.client("sqs", **at)
    daemon.start(WATCHDOG_EVENTBRIDGE_BUS="of-the-story", AWS_ENDPOINT_URL_EVENTBRIDGE=connect.server.url).ready()
    user = connect.users[0]
    daemon.beat(user, new_session())

    def codes() -> list[str]:
        return [problem["code"] for problem in daemon.ask("/v1/status")["problems"]]

    until(lambda: codes() == ["notify_refused"], "there is no such bus")
    assert 'watchdog_problems{code="notify_refused"} 1.0' in daemon.client.get(f"{daemon.url}/metrics").text

    queue = queues.create_queue(QueueName="of-the-story")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.create_event_bus(Name="of-the-story")
    pattern = json.dumps({"source": ["connect-presence-watchdog"]})
    events.put_rule(Name="all", EventBusName="of-the-story", EventPattern=pattern)
    events.put_targets(Rule="all", EventBusName="of-the-story", Targets=[{"Id": "1", "Arn": arn}])
    told: list[dict[str, Any]] = []

    def confirmed() -> list[dict[str, Any]]:
        found = queues.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        told.extend(json.loads(message["Body"]) for message in found)
        return [each for each in told if each["detail-type"] == "watchdog.action.confirmed"]

    (event, *_) = until(confirmed, "the event is in the queue", limit_s=90)
    assert event["detail"]["data"]["agent"].endswith(user)
    assert connect.status(user) == "Offline"
    until(lambda: codes() == [], "the problem is over")
    assert daemon.stop() == 0


class Endless:
    """In place of EventBridge: its answer never ends, and no time-out for a read is ever over."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked = threading.Event()

    def _answer(self) -> None:
        with contextlib.suppress(OSError), self._listener.accept()[0] as connection:
            connection.recv(10_000)
            self.asked.set()
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not self._over.wait(0.5):
                connection.sendall(b"x")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()
        self._thread.join(5)


def test_a_call_that_does_not_end_holds_up_neither_agents_nor_the_stop(connect: Connect, daemon: Daemon) -> None:
    with Endless() as bus:
        daemon.start(WATCHDOG_EVENTBRIDGE_BUS="default", AWS_ENDPOINT_URL_EVENTBRIDGE=bus.url).ready()
        daemon.bye(connect.users[0], new_session())
        assert bus.asked.wait(60)
        daemon.bye(connect.users[1], new_session())
        until(lambda: connect.status(connect.users[1]) == "Offline", "the next one is set")
        assert daemon.stop() == 0
