"""The daemon puts what it did on an event bus, and what was not taken comes when it is back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

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
