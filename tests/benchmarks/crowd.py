"""A million agents in one process, their beats through the batch endpoint from one client, and a restart with them."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from tests.benchmarks.clients import BATCH, Session, feed
from tests.benchmarks.machine import DISTURBED, Watch
from tests.benchmarks.memory import MEGABYTE, footprint
from tests.benchmarks.processes import INSTANCE, LOOPBACK, TIMEOUT_S, TOKEN, Bench, Daemon
from tests.benchmarks.results import BenchmarkError, Measurement, Result, percentile, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "A crowd in one process"
TIMER_S = 5.0
TARGET_BYTES, TARGET_FLUSH_S, TARGET_LAG_S, TARGET_READY_S = 600.0, 1.0, 1.5, 10.0
SILENT = 1_000
FIRST_SEQ = 1_000_000
SETTLE_S = 60.0
"""For which is waited for the last decisions, after they should have come."""

SETTINGS = {
    "WATCHDOG_SESSION_END_TIMER": f"{TIMER_S}",
    "WATCHDOG_MAX_AGENTS": "2000000",
    "WATCHDOG_CONNECT_RATE": "1000",
    "WATCHDOG_CONNECT_BURST": "10000",
}


@dataclass(slots=True)
class Sent:
    """What became of the beats.

    Attributes:
        beats: How many.
        elapsed_s: In what time.
        answers_s: How long each batch took.
        behind_s: How much later the last batch was sent than it should have been.
    """

    beats: int = 0
    elapsed_s: float = 0.0
    answers_s: list[float] = field(default_factory=list)
    behind_s: float = 0.0


def measure(bench: Bench) -> Measurement:
    """Feeds everybody, lets them beat until those who say nothing more are found, and starts again with all."""
    scale, folder = bench.scale, bench.folder / "crowd"
    users = bench.sandbox.users()[-min(SILENT, scale.lag_agents // 2) :]
    bodies = _bodies(scale.crowd_agents - len(users))
    silent = [Session(user_id) for user_id in users]
    ttl_s = scale.crowd_ttl_s
    settings = {"WATCHDOG_SESSION_TTL": f"{ttl_s}", "WATCHDOG_THROTTLED_SESSION_TTL": f"{max(ttl_s, 150)}", **SETTINGS}
    with Daemon(bench, folder, **settings) as daemon:
        daemon.ready()
        time.sleep(1)
        empty = footprint(daemon.pid).rss
        began, watch = time.monotonic(), Watch(bench.cores, [daemon.pid])
        feed(daemon.url, [orjson.dumps({"heartbeats": [each.message(seq=0) for each in silent]}), *bodies])
        fed_s = time.monotonic() - began
        fed_cpu_s = watch.stop().shares[0] * fed_s
        if fed_s > 0.9 * ttl_s:
            raise BenchmarkError(f"Feeding took {fed_s:.0f} s: the first leases are over. Try a quieter machine.")
        before = daemon.metrics()
        watch = Watch(bench.cores, [daemon.pid])
        # Those who are silent are due then; the others beat until it is seen.
        sent = _beat(daemon, bodies, scale.crowd_rate, max(scale.crowd_s, ttl_s + TIMER_S + 5 - fed_s))
        watch.stop()
        after, full = daemon.metrics(), footprint(daemon.pid).rss
        actions = _settled(daemon, len(silent))
        daemon.stop()
    _check(silent, actions, after)
    ready: list[float] = []
    for _ in range(scale.rounds):
        with Daemon(bench, folder, **settings) as daemon:
            ready.append(daemon.ready(0.01))
            daemon.wait_for_live(scale.crowd_agents - len(silent))
            again = footprint(daemon.pid).rss
            daemon.stop()
    lags = [action["evidence"]["clock_s"] - action["evidence"]["deadline_s"] for action in actions]
    agents = scale.crowd_agents
    share = watch.shares[0]
    results = (
        Result("beats sent and answered", "/s", sent.beats / sent.elapsed_s, at_least=0.99 * scale.crowd_rate),
        Result("beats: per CPU second", "", sent.beats / sent.elapsed_s / share),
        Result("core used meanwhile", "%", 100 * share, digits=0),
        Result("answer to a batch, p99", "ms", 1e3 * percentile(sent.answers_s, 99), digits=1),
        Result("behind the schedule at the end", "s", sent.behind_s, digits=2),
        _bound("flush, p99", before, after, "watchdog_flush_seconds", TARGET_FLUSH_S),
        _bound("loop lag, p99", before, after, "watchdog_loop_lag_seconds"),
        Result("deadline to claim, p99", "s", percentile(lags, 99), digits=2, at_most=TARGET_LAG_S),
        Result("new agents: per CPU second", "", agents / fed_cpu_s),
        Result("memory for each agent", "B", (full - empty) * MEGABYTE / agents, at_most=TARGET_BYTES),
        Result("the same after a restart", "B", (again - empty) * MEGABYTE / agents),
        Result.median("ready again", "s", ready, digits=2, at_most=TARGET_READY_S),
    )
    method = (
        f"{agents:,} agents, one session each, come through /v1/heartbeats in batches of {BATCH:,}. TTL {ttl_s:g} s. "
        f"Then one client sends {scale.crowd_rate:,} of their beats a second in batches, one after another over one "
        f"connection, for {sent.elapsed_s:.0f} s, while {len(silent):,} agents say nothing more: all of those were "
        "found, none before its time, and nobody else. A flush is one call of the store (at most 500 beats, with what "
        "they bring to the disk); p99 is the bound of its bucket in the metric. Memory is RSS over the empty daemon "
        "after all that. Then the daemon is started on the database again: from the start of the process to /readyz."
    )
    remarks = (f"Other programs used up to {watch.foreign:.0%} of a core meanwhile.",)
    return Measurement(TITLE, method, results, remarks if watch.foreign >= DISTURBED else ())


def _bodies(agents: int) -> list[bytes]:
    """Batches of agents, all with the same `seq`, so that it can be replaced."""
    return [
        orjson.dumps({"heartbeats": [Session().message(seq=FIRST_SEQ) for _ in range(min(BATCH, agents - begin))]})
        for begin in range(0, agents, BATCH)
    ]


def _beat(daemon: Daemon, bodies: Sequence[bytes], rate: float, seconds: float) -> Sent:
    """Sends everybody's beats again and again, at a rate, from one client."""
    connection = http.client.HTTPConnection(LOOPBACK, daemon.port, timeout=TIMEOUT_S)
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    sent, seq, old = Sent(), FIRST_SEQ, b'"seq":%d' % FIRST_SEQ
    began = time.monotonic()
    while sent.elapsed_s < seconds:
        seq += 1
        new = b'"seq":%d' % seq
        for body in bodies:
            content = body.replace(old, new)
            sent.behind_s = time.monotonic() - began - sent.beats / rate
            if sent.behind_s < 0:
                time.sleep(-sent.behind_s)
            at = time.monotonic()
            connection.request("POST", "/v1/heartbeats", content, headers)
            answer = connection.getresponse()
            told = answer.read()
            sent.answers_s.append(time.monotonic() - at)
            if answer.status != 200 or b'"rejected":[]' not in told:
                raise BenchmarkError(f"A batch was answered with {answer.status}: {told[:500]!r}")
            sent.beats += BATCH
            sent.elapsed_s = time.monotonic() - began
            if sent.elapsed_s >= seconds:
                break
    connection.close()
    return sent


def _settled(daemon: Daemon, expected: int) -> list[dict[str, Any]]:
    """All decisions, when they are as many as expected or the time is over."""
    end = time.monotonic() + SETTLE_S
    while len(actions := daemon.actions()) < expected and time.monotonic() < end:
        time.sleep(1)
    return actions


def _check(silent: Sequence[Session], actions: Sequence[dict[str, Any]], metrics: dict[str, float]) -> None:
    """Raises `BenchmarkError` unless exactly the silent agents were found."""
    expected = sorted(f"{INSTANCE}/{each.user_id}" for each in silent)
    if sorted({action["agent"] for action in actions}) != expected:
        raise BenchmarkError(f"{len(expected)} agents fell silent, {len(actions)} decisions came of it.")
    if metrics["watchdog_brake_held_agents"]:
        raise BenchmarkError("The brake has held agents.")


def _bound(
    name: str, before: dict[str, float], after: dict[str, float], metric: str, at_most: float | None = None
) -> Result:
    return Result(name, "s", quantile(before, after, metric, 0.99), digits=3, at_most=at_most)
