"""All metrics of the daemon, in a registry of their own.

The values are plain attributes and dictionaries that the event loop's thread writes; a collector reads them when
Prometheus asks. Every label value that is known exists from the start with 0, so that a rate over the first event is
right. No agent is in a label.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from watchdog.core.clock import Cause
from watchdog.core.model import Action, AgentState, BeatType, IntentKind, Outcome
from watchdog.telemetry.histogram import Histogram

DETECTION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds. A tick of 0.25 s and a flush of 0.2 s on an idle machine; minutes when the quota is short."""

ACTUATION_BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 45.0, 60.0, 120.0, 300.0, 900.0)
"""Seconds. The read-back is at 2, 10 and 30 s."""

FLUSH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds. At 1 s everyone is refused."""

LOOP_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds. From 2 s on the observed clock counts a gap."""


class Metrics:
    """The values, and what changes them.

    Attributes:
        content_type: Media type of what `render` gives.
        heartbeats: Taken, by type.
        rejected: Refused, by reason.
        sockets: How many WebSockets are open.
        sockets_ended: How many have ended, by how.
        agents: How many there are, by state.
        sessions: How many have a lease.
        actions: Decisions, by intent and outcome.
        connect_calls: Calls of Connect, by operation and result.
        connect_tokens: Tokens left of the quota, by operation.
        backlog: Agents that are due, claimed ones included.
        brake_held: Agents that the brake holds.
        clock_stopped_s: Real seconds for which the observed clock stood, by cause.
        store_up: The last call of the store succeeded.
        detection_lag: Seconds from deadline to claim.
        actuation: Seconds from claim to confirmed.
        notifications: Events for receivers and attempts to deliver them, by result.
        flush: Seconds of each flush.
        loop_lag: Seconds by which the event loop was late.
        problems: Asked at each reading for the codes of what a person has to mend, one for each problem.
    """

    def __init__(
        self,
        version: str,
        *,
        rejections: Iterable[str] = (),
        operations: Iterable[str] = (),
        results: Iterable[str] = (),
        ends: Iterable[str] = (),
        notifications: Iterable[str] = (),
        problems: Iterable[str] = (),
    ) -> None:
        """Starts everything at 0.

        Args:
            version: Of the distribution.
            rejections: Reasons for which heartbeats are refused.
            operations: Connect operations that are called.
            results: How such a call can end.
            ends: How a WebSocket can end.
            notifications: What becomes of events for receivers.
            problems: Codes of problems.
        """
        outcomes = tuple(results)
        calls = tuple(operations)
        self.content_type = CONTENT_TYPE_PLAIN_0_0_4
        self.heartbeats: dict[str, int] = {kind.value: 0 for kind in BeatType}
        self.rejected: dict[str, int] = dict.fromkeys(map(str, rejections), 0)
        self.sockets = 0
        self.sockets_ended: dict[str, int] = dict.fromkeys(map(str, ends), 0)
        self.agents: dict[str, int] = {state.value: 0 for state in AgentState}
        self.sessions = 0
        self.actions: dict[tuple[str, str], int] = {
            (intent.value, outcome.value): 0 for intent in IntentKind for outcome in Outcome
        }
        self.connect_calls: dict[tuple[str, str], int] = {
            (str(operation), str(result)): 0 for operation in calls for result in outcomes
        }
        self.connect_tokens: dict[str, float] = {str(operation): 0.0 for operation in calls}
        self.backlog = 0
        self.brake_held = 0
        self.clock_stopped_s: dict[str, float] = {cause.value: 0.0 for cause in Cause}
        self.store_up = True
        self.store_memory = 0.0
        self.notifications: dict[str, int] = dict.fromkeys(notifications, 0)
        self.detection_lag = Histogram(DETECTION_BUCKETS)
        self.actuation = Histogram(ACTUATION_BUCKETS)
        self.flush = Histogram(FLUSH_BUCKETS)
        self.loop_lag = Histogram(LOOP_LAG_BUCKETS)
        self.problems: Callable[[], Iterable[str]] = tuple
        self._codes = tuple(problems)
        self._version = version
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(self))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """All metrics as they are now, in Prometheus' text format."""
        return generate_latest(self._registry)

    def action(self, action: Action) -> None:
        """Counts a decision; a sink of `actions.Recorder`."""
        key = (action.intent.value, action.outcome.value)
        self.actions[key] = self.actions.get(key, 0) + 1
        if action.outcome is Outcome.CONFIRMED and action.intent is IntentKind.SET_STATUS:
            self.actuation.observe(action.latency_s)

    def connect_call(self, operation: str, result: str) -> None:
        """Counts a call of Connect and how it ended."""
        key = (operation, result)
        self.connect_calls[key] = self.connect_calls.get(key, 0) + 1

    def clock_stopped(self, cause: Cause, seconds: float) -> None:
        """Adds time for which the observed clock stood still."""
        self.clock_stopped_s[cause.value] += seconds

    def notified(self, result: str, number: int) -> None:
        """Counts events for receivers, or attempts to deliver one."""
        self.notifications[result] = self.notifications.get(result, 0) + number

    def counted(self, agents: Mapping[AgentState, int], sessions: int) -> None:
        """Replaces the numbers of agents and sessions; a state that is not given has none."""
        for state in AgentState:
            self.agents[state.value] = agents.get(state, 0)
        self.sessions = sessions

    def families(self) -> Iterator[Metric]:
        """Everything as Prometheus' client has it."""
        yield _gauge("watchdog_build_info", "The version that runs.", ("version",), [((self._version,), 1)])
        yield _counter("watchdog_heartbeats", "Heartbeats taken.", ("type",), _by_one(self.heartbeats))
        yield _counter("watchdog_heartbeats_rejected", "Heartbeats refused.", ("reason",), _by_one(self.rejected))
        yield _gauge("watchdog_sockets", "WebSockets that are open.", (), [((), self.sockets)])
        yield _counter("watchdog_sockets_ended", "WebSockets that have ended.", ("how",), _by_one(self.sockets_ended))
        yield _gauge("watchdog_agents", "Agents by state.", ("state",), _by_one(self.agents))
        yield _gauge("watchdog_sessions", "Sessions that have a lease.", (), [((), self.sessions)])
        yield _counter("watchdog_actions", "What became of decisions.", ("intent", "outcome"), self.actions.items())
        yield _counter(
            "watchdog_connect_calls", "Calls of Amazon Connect.", ("operation", "result"), self.connect_calls.items()
        )
        yield _gauge(
            "watchdog_connect_tokens", "Calls that the quota allows now.", ("operation",), _by_one(self.connect_tokens)
        )
        yield _gauge("watchdog_backlog", "Agents that are due, claimed ones included.", (), [((), self.backlog)])
        yield _gauge("watchdog_brake_held_agents", "Agents that the brake holds.", (), [((), self.brake_held)])
        yield _counter(
            "watchdog_clock_stopped_seconds",
            "Real time for which the observed clock stood still.",
            ("cause",),
            _by_one(self.clock_stopped_s),
        )
        yield _gauge("watchdog_store_up", "1 when the store took the last call.", (), [((), int(self.store_up))])
        told = "Part of its memory that the server of the store has in use."
        yield _gauge("watchdog_store_memory_ratio", told, (), [((), self.store_memory)])
        yield _counter(
            "watchdog_notifications",
            "Events for receivers, and attempts that failed.",
            ("result",),
            _by_one(self.notifications),
        )
        found = Counter(self.problems())
        problems = {code: found[code] for code in (*self._codes, *found)}
        yield _gauge("watchdog_problems", "What a person has to mend.", ("code",), _by_one(problems))
        yield _histogram("watchdog_detection_lag_seconds", "From deadline to claim.", self.detection_lag)
        yield _histogram("watchdog_actuation_seconds", "From claim to confirmed.", self.actuation)
        yield _histogram("watchdog_flush_seconds", "Duration of a flush.", self.flush)
        yield _histogram("watchdog_loop_lag_seconds", "By how much the event loop was late.", self.loop_lag)


class _Collector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families()


_Samples = Iterable[tuple[Sequence[str], float]]


def _by_one(values: Mapping[str, float]) -> _Samples:
    return [((label,), value) for label, value in values.items()]


def _counter(name: str, text: str, labels: tuple[str, ...], samples: _Samples) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for of, value in samples:
        family.add_metric(of, value)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: _Samples) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in samples:
        family.add_metric(of, value)
    return family


def _histogram(name: str, text: str, values: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=values.cumulative(), sum_value=values.total)
