"""What is written, and what never is."""

import json
import logging
import warnings
from datetime import datetime, timedelta

import pytest
import structlog

from watchdog.core.model import AgentId
from watchdog.telemetry.logs import LogFormat, configure


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json(stream):
    configure("info", LogFormat.JSON, stream)
    structlog.get_logger().info("agent.due", agent=str(AgentId("i", "u")), lag_s=0.25)
    (event,) = lines(stream)
    at = datetime.fromisoformat(event.pop("timestamp"))
    assert at.utcoffset() == timedelta(0)
    assert event == {"event": "agent.due", "level": "info", "agent": "i/u", "lag_s": 0.25}


def test_what_is_below_the_level_is_not_written(stream):
    configure("warning", LogFormat.JSON, stream)
    structlog.get_logger().info("agent.due")
    structlog.get_logger().warning("connect.throttled")
    assert [event["event"] for event in lines(stream)] == ["connect.throttled"]


def test_secrets_are_masked_wherever_they_are(stream):
    configure("info", LogFormat.JSON, stream)
    structlog.get_logger().info(
        "test.event",
        token="hunter2",
        Ticket=b"hunter2",
        client_secret=["hunter2"],
        headers={"Authorization": "Bearer hunter2", "set-cookie": "hunter2", "host": "w"},
        tries=[{"password": "hunter2"}, ("hunter2-is-fine-here",)],
        tokens_left=4.5,
        ticket=None,
        deep={"a": {"b": {"c": {"d": {"e": {"f": "hunter2"}}}}}},
    )
    written = stream.getvalue().replace(b"hunter2-is-fine-here", b"")
    assert b"hunter2" not in written
    (event,) = lines(stream)
    assert event["token"] == "***"
    assert event["headers"] == {"Authorization": "***", "set-cookie": "***", "host": "w"}
    assert event["tokens_left"] == 4.5
    assert event["ticket"] is None


@pytest.mark.parametrize("value", [AgentId("i", "u"), b"x", {1: 2}, {3}, 2**70, "\ud800", object(), float("nan")])
def test_no_value_makes_logging_fail(stream, value):
    configure("info", LogFormat.JSON, stream)
    structlog.get_logger().info("test.event", value=value)
    assert lines(stream)[0]["event"] == "test.event"


def fail(secret):
    raise ValueError("it broke")


def test_who_gave_an_order_is_written_without_a_persons_name(stream):
    configure("info", LogFormat.JSON, stream)
    log = structlog.get_logger()
    for by in ("jwt:anna@example.com", "token:8c6976e5", "nobody: WATCHDOG_AUTH=none", None):
        log.info("operator.order", by=by, evidence={"brake": {"by": by}})
    told = ["jwt:f7d54c22", "token:8c6976e5", "nobody: WATCHDOG_AUTH=none", None]
    assert [(line["by"], line["evidence"]["brake"]["by"]) for line in lines(stream)] == [(by, by) for by in told]


def test_an_exception_is_written_without_the_values_of_variables(stream):
    for log_format in LogFormat:
        configure("info", log_format, stream)
        try:
            fail(bytes.fromhex("68756e74657232").decode())
        except ValueError:
            structlog.get_logger().exception("test.failed")
    assert stream.getvalue().count(b"ValueError: it broke") == 2
    assert b"hunter2" not in stream.getvalue()


def test_libraries_are_heard_from_warnings_on_and_in_the_same_format(stream):
    configure("info", LogFormat.JSON, stream)
    logging.getLogger("apscheduler.scheduler").info("Added job")
    logging.getLogger("uvicorn.error").warning("Invalid %s", "request")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", UserWarning, stacklevel=1)
    first, second = lines(stream)
    assert (first["event"], first["library"], first["message"]) == (
        "library.message",
        "uvicorn.error",
        "Invalid request",
    )
    assert first["level"] == "warning"
    assert second["library"] == "py.warnings"


def test_an_exception_that_a_library_logs_comes_with_its_traceback(stream):
    configure("info", LogFormat.JSON, stream)
    try:
        fail("")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    assert "ValueError: it broke" in lines(stream)[0]["exception"]


def test_libraries_are_no_louder_than_the_level(stream):
    configure("error", LogFormat.JSON, stream)
    logging.getLogger("botocore").warning("retrying")
    assert lines(stream) == []


def test_the_console_format_has_colours_on_a_terminal_only(stream):
    configure("info", LogFormat.CONSOLE, stream)
    structlog.get_logger().info("agent.due", agent="i/u")
    assert b"agent.due" in stream.getvalue()
    assert b"\x1b[" not in stream.getvalue()
    stream.isatty = lambda: True
    configure("info", LogFormat.CONSOLE, stream)
    structlog.get_logger().info("agent.due", agent="\ud800")
    assert b"\x1b[" in stream.getvalue()


def test_a_stream_that_fails_stops_nobody(stream):
    configure("info", LogFormat.JSON, stream)
    stream.close()
    structlog.get_logger().info("agent.due")
    logging.getLogger("botocore").warning("retrying")
