"""The metrics as Prometheus reads them."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from watchdog.core.clock import Cause
from watchdog.core.model import AgentState, Outcome
from watchdog.telemetry.histogram import Histogram
from watchdog.telemetry.metrics import Metrics


@pytest.fixture
def metrics():
    return Metrics(
        "1.2.3", rejections=["late"], operations=["PutUserStatus"], results=["ok", "throttled"], problems=["denied"]
    )


def samples(metrics):
    families = text_string_to_metric_families(metrics.render().decode())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_every_metric_and_every_known_label_is_there_from_the_start(metrics):
    found = samples(metrics)
    assert found["watchdog_build_info", "1.2.3"] == 1
    for name in (
        ("watchdog_heartbeats_total", "hello"),
        ("watchdog_heartbeats_total", "beat"),
        ("watchdog_heartbeats_total", "bye"),
        ("watchdog_heartbeats_rejected_total", "late"),
        ("watchdog_agents", "away"),
        ("watchdog_sessions",),
        ("watchdog_actions_total", "set_status", "confirmed"),
        ("watchdog_actions_total", "set_status", "failed"),
        ("watchdog_connect_calls_total", "PutUserStatus", "throttled"),
        ("watchdog_connect_tokens", "PutUserStatus"),
        ("watchdog_backlog",),
        ("watchdog_problems", "denied"),
        ("watchdog_brake_held_agents",),
        ("watchdog_clock_stopped_seconds_total", "grace"),
        ("watchdog_detection_lag_seconds_count",),
        ("watchdog_actuation_seconds_sum",),
        ("watchdog_flush_seconds_bucket", "+Inf"),
        ("watchdog_loop_lag_seconds_bucket", "0.001"),
    ):
        assert found[name] == 0, name
    assert found["watchdog_store_up",] == 1


def test_what_is_written_is_what_is_read(metrics, an_action):
    metrics.heartbeats["beat"] += 2
    metrics.rejected["late"] += 1
    metrics.counted({AgentState.LIVE: 3, AgentState.DUE: 1}, 4)
    metrics.backlog = 5
    metrics.brake_held = 7
    metrics.store_up = False
    metrics.problems = lambda: ["denied", "another", "denied"]
    metrics.clock_stopped(Cause.STORE, 1.5)
    assert samples(metrics)["watchdog_problems", "denied"] == 2
    assert samples(metrics)["watchdog_problems", "another"] == 1
    metrics.connect_call("PutUserStatus", "ok")
    metrics.connect_call("PutUserStatus", "denied")
    metrics.connect_tokens["PutUserStatus"] = 1.25
    metrics.action(an_action(latency_s=2.4))
    metrics.action(an_action(Outcome.FAILED, latency_s=100))
    found = samples(metrics)
    assert found["watchdog_heartbeats_total", "beat"] == 2
    assert found["watchdog_heartbeats_rejected_total", "late"] == 1
    assert found["watchdog_agents", "live"] == 3
    assert found["watchdog_sessions",] == 4
    assert found["watchdog_backlog",] == 5
    assert found["watchdog_brake_held_agents",] == 7
    assert found["watchdog_store_up",] == 0
    assert found["watchdog_clock_stopped_seconds_total", "store"] == 1.5
    assert found["watchdog_connect_calls_total", "PutUserStatus", "ok"] == 1
    assert found["watchdog_connect_calls_total", "PutUserStatus", "denied"] == 1
    assert found["watchdog_connect_tokens", "PutUserStatus"] == 1.25
    assert found["watchdog_actions_total", "set_status", "confirmed"] == 1
    assert found["watchdog_actions_total", "set_status", "failed"] == 1
    assert found["watchdog_actuation_seconds_count",] == 1
    assert found["watchdog_actuation_seconds_bucket", "1.0"] == 0
    assert found["watchdog_actuation_seconds_bucket", "2.5"] == 1


def test_a_state_that_has_no_agents_any_more_is_0(metrics):
    metrics.counted({AgentState.LIVE: 3}, 3)
    metrics.counted({AgentState.GONE: 1}, 0)
    assert samples(metrics)["watchdog_agents", "live"] == 0


def test_two_instances_share_nothing():
    first, second = Metrics("1"), Metrics("1")
    first.heartbeats["beat"] += 1
    assert samples(second)["watchdog_heartbeats_total", "beat"] == 0


def test_a_bucket_includes_its_bound():
    histogram = Histogram([1.0, 2.0])
    for value in (0.5, 1.0, 1.5, 2.0, 2.1):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 2), ("2.0", 4), ("+Inf", 5)]
    assert histogram.total == pytest.approx(7.1)
