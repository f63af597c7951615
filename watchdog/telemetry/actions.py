"""One record, many sinks: what was decided about an agent goes to the log and the metrics from here.

The history is no sink: the store writes it in the transaction that settles the agent, so that the two never differ.
Call `Recorder.record` after that.
"""

from collections.abc import Callable, Mapping

import structlog
from structlog.typing import FilteringBoundLogger

from watchdog.core.model import Action, Outcome

Sink = Callable[[Action], None]

COMPLAINT_S = 60.0
"""At most one log event in this time for each sink that fails."""

EVENTS = {outcome: f"agent.{outcome.value}" for outcome in Outcome}
"""The log event of each outcome."""

_WARNINGS = frozenset({Outcome.FAILED, Outcome.NO_SUCH_USER})


class Recorder:
    """Gives each action to every sink."""

    def __init__(self, sinks: Mapping[str, Sink], time: Callable[[], float]) -> None:
        """Takes the sinks.

        Args:
            sinks: By name, called in this order. None may block.
            time: A monotonic clock, in seconds.
        """
        self._sinks = dict(sinks)
        self._time = time
        self._complained: dict[str, float] = {}
        self._log: FilteringBoundLogger = structlog.get_logger()

    def record(self, action: Action) -> None:
        """Gives the action to every sink. Never raises: a sink that fails stops neither the others nor the caller."""
        for name, sink in self._sinks.items():
            try:
                sink(action)
            except Exception as error:  # noqa: BLE001 - whatever a sink does wrong, the agent is settled already
                self._complain(name, error)

    def _complain(self, name: str, error: Exception) -> None:
        now = self._time()
        last = self._complained.get(name)
        if last is None or now - last >= COMPLAINT_S:
            self._complained[name] = now
            self._log.error("telemetry.sink_failed", sink=name, exc_info=error)


def log_action(action: Action) -> None:
    """Sink: one log event, named after the outcome, with everything that history has."""
    log: FilteringBoundLogger = structlog.get_logger()
    write = log.warning if action.outcome in _WARNINGS else log.info
    write(
        EVENTS[action.outcome],
        action_id=action.id,
        agent=str(action.agent),
        intent=action.intent.value,
        target=action.target,
        reason=action.reason,
        evidence=dict(action.evidence),
        calls=action.calls,
        latency_s=round(action.latency_s, 3),
    )
