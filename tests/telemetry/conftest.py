"""Logging into memory, and an action."""

import io
import logging

import pytest
import structlog

from watchdog.core.model import Action, AgentId, Epoch, IntentKind, Outcome


@pytest.fixture
def stream():
    """Where the log goes; whatever was configured before is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.BytesIO()
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level
    root.manager._clear_cache()
    structlog.reset_defaults()


@pytest.fixture
def an_action():
    def made(outcome=Outcome.CONFIRMED, latency_s=2.5):
        return Action(
            id="01",
            at=Epoch(1_800_000_000.0),
            agent=AgentId("instance", "user"),
            intent=IntentKind.SET_STATUS,
            target="Offline",
            outcome=outcome,
            reason="The last session ended.",
            evidence={"sessions": [{"end": "bye"}]},
            calls=3,
            latency_s=latency_s,
        )

    return made
