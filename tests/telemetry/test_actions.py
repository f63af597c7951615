"""One record, many sinks."""

import json

import pytest

from watchdog.core.model import Outcome
from watchdog.telemetry.actions import EVENTS, Recorder, log_action
from watchdog.telemetry.logs import LogFormat, configure


def events(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def broken(action):
    raise RuntimeError("this sink is broken")


def test_every_sink_gets_the_action_in_order(an_action):
    seen = []
    recorder = Recorder(
        {"a": lambda action: seen.append(("a", action)), "b": lambda action: seen.append(("b", action))}, float
    )
    action = an_action()
    recorder.record(action)
    assert seen == [("a", action), ("b", action)]


def test_a_sink_that_fails_stops_neither_the_others_nor_the_caller(stream, an_action):
    configure("info", LogFormat.JSON, stream)
    seen = []
    Recorder({"broken": broken, "works": seen.append}, lambda: 0.0).record(an_action())
    assert len(seen) == 1


def test_a_sink_that_fails_is_told_of_once_a_minute(stream, an_action):
    configure("info", LogFormat.JSON, stream)
    now = 0.0
    recorder = Recorder({"first": broken, "second": broken}, lambda: now)
    for now in (0.0, 1.0, 59.9, 60.0, 61.0):  # noqa: B007 - the recorder reads it
        recorder.record(an_action())
    told = [(event["event"], event["sink"]) for event in events(stream)]
    assert told == [("telemetry.sink_failed", sink) for sink in ("first", "second")] * 2
    assert "this sink is broken" in events(stream)[0]["exception"]


def test_the_log_event_has_everything_that_history_has(stream, an_action):
    configure("info", LogFormat.JSON, stream)
    log_action(an_action())
    (event,) = events(stream)
    del event["timestamp"]
    assert event == {
        "event": "agent.confirmed",
        "level": "info",
        "action_id": "01",
        "agent": "instance/user",
        "intent": "set_status",
        "target": "Offline",
        "reason": "The last session ended.",
        "evidence": {"sessions": [{"end": "bye"}]},
        "calls": 3,
        "latency_s": 2.5,
    }


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_an_event_and_what_needs_a_look_is_a_warning(stream, an_action, outcome):
    configure("info", LogFormat.JSON, stream)
    log_action(an_action(outcome))
    (event,) = events(stream)
    assert event["event"] == EVENTS[outcome]
    assert (event["level"] == "warning") == (outcome in (Outcome.FAILED, Outcome.NO_SUCH_USER))
