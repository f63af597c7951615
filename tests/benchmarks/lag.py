"""How long after an agent's deadline it is claimed and set, while thousands of others beat on."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import uvloop

from tests.benchmarks.clients import Connection, Session
from tests.benchmarks.machine import DISTURBED, Watch, allow_files
from tests.benchmarks.processes import INSTANCE, Bench, Daemon
from tests.benchmarks.results import BenchmarkError, Measurement, Result, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.benchmarks.scale import Scale

TITLE = "Detection lag"
TARGET_S = 0.6
JITTER = 0.1
"""Of the interval, as the daemon tells its clients."""

SETTLE_S = 30.0
"""For which is waited for the last decisions, after they should have come; the second read-back is at 10 s."""


@dataclass(slots=True)
class Agent:
    """One agent's page.

    Attributes:
        session: Its session.
        silent_from: It says nothing any more from this time of the loop on; None if it stays.
        last_sent_at: Epoch seconds just before its last beat was sent.
    """

    session: Session
    silent_from: float | None = None
    last_sent_at: float = 0.0


@dataclass(slots=True)
class Crowd:
    """All pages, in one event loop, each with a connection of its own.

    Attributes:
        agents: The pages.
        interval_s: Between beats.
        answers_s: How long each answer took, but for the first ones, which wait for the flush.
        late_s: How late each beat was sent, by this loop's fault.
        wrong: Answers that were not `live`.
    """

    agents: Sequence[Agent]
    interval_s: float
    answers_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    async def beat(self, agent: Agent, port: int, at: float, chance: random.Random) -> None:
        """Beats from the loop's time `at` on, until it falls silent. Its connection stays open."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(at - loop.time())
        connection = await Connection.open(port)
        try:
            while agent.silent_from is None or at < agent.silent_from:
                began = loop.time()
                self.late_s.append(began - at)
                agent.last_sent_at = time.time()
                status, answer = await connection.post(agent.session.next_beat())
                if agent.session.ticket:
                    self.answers_s.append(loop.time() - began)
                if status == 200 and answer.get("state") == "live":
                    agent.session.ticket = answer["ticket"]
                else:
                    self.wrong.append(f"{status} {answer}")
                at += self.interval_s * (1 + JITTER * (2 * chance.random() - 1))
                await asyncio.sleep(at - loop.time())
            await loop.create_future()
        finally:
            connection.close()


def measure(bench: Bench) -> Measurement:
    """Lets some of many agents fall silent, and looks at when the daemon noticed and when Connect was told."""
    # For the daemon, too.
    allow_files(bench.scale.lag_agents + 1_000)
    with Daemon(bench, bench.folder / "lag", **settings(bench.scale)) as daemon:
        daemon.ready()
        found = play(bench, [daemon])
        daemon.stop()
    return _report(bench, found)


@dataclass(frozen=True, slots=True)
class Story:
    """What came of it.

    Attributes:
        crowd: All agents.
        silent: Those who fell silent: all of them were set, and nobody else.
        actions: The history.
        watch: How the time of the crowd at full size was spent.
        looks: What was found at the beginning and at the end of that time.
    """

    crowd: Crowd
    silent: Sequence[Agent]
    actions: Sequence[dict[str, Any]]
    watch: Watch
    looks: tuple[Any, Any]

    @property
    def lags_s(self) -> list[float]:
        """From the deadline to the claim, by the observed clock."""
        return [action["evidence"]["clock_s"] - action["evidence"]["deadline_s"] for action in self.actions]


def settings(scale: Scale) -> dict[str, str]:
    """Of the daemons."""
    return {
        "WATCHDOG_HEARTBEAT_INTERVAL": f"{scale.lag_interval_s}",
        "WATCHDOG_SESSION_TTL": f"{3 * scale.lag_interval_s}",
        "WATCHDOG_SESSION_END_TIMER": f"{scale.lag_timer_s}",
        "WATCHDOG_CONNECT_RATE": "1000",
        "WATCHDOG_CONNECT_BURST": "10000",
    }


def play(
    bench: Bench, daemons: Sequence[Daemon], others: Sequence[int] = (), look: Callable[[], Any] = lambda: None
) -> Story:
    """Tells the whole story, and checks its end.

    Args:
        bench: As ever.
        daemons: Ready, with enough files (`allow_files`); agents are spread over them in turn.
        others: Ids of processes that run on the load's core and belong to it.
        look: Called twice, see `Story`.

    Raises:
        BenchmarkError: Not exactly those who fell silent were set, or somebody was not answered with live.
    """
    scale, chance = bench.scale, random.Random(1)
    agents = [Agent(Session(user_id)) for user_id in bench.sandbox.users()[: scale.lag_agents]]
    silent = chance.sample(agents, scale.lag_silent)
    crowd = Crowd(agents, scale.lag_interval_s)
    bench.patience.wait()
    watch, looks = uvloop.run(_play(bench, daemons, crowd, silent, chance, others, look))
    actions = daemons[0].actions()
    _check(crowd, silent, actions, [daemon.metrics() for daemon in daemons])
    return Story(crowd, silent, actions, watch, looks)


async def _play(
    bench: Bench,
    daemons: Sequence[Daemon],
    crowd: Crowd,
    silent: Sequence[Agent],
    chance: random.Random,
    others: Sequence[int],
    look: Callable[[], Any],
) -> tuple[Watch, tuple[Any, Any]]:
    scale, loop = bench.scale, asyncio.get_running_loop()
    begin = loop.time() + 0.5
    all_there = begin + 1.2 * scale.lag_interval_s
    for agent in silent:
        agent.silent_from = all_there + chance.random() * scale.lag_spread_s
    tasks = [
        asyncio.create_task(
            crowd.beat(
                agent,
                daemons[number % len(daemons)].port,
                begin + chance.random() * scale.lag_interval_s,
                chance,
            )
        )
        for number, agent in enumerate(crowd.agents)
    ]
    try:
        await asyncio.sleep(all_there - loop.time())
        first = await asyncio.to_thread(look)
        watch = Watch(bench.cores, [daemon.pid for daemon in daemons], [bench.sandbox.pid, *others])
        due = scale.lag_spread_s + 3 * scale.lag_interval_s + scale.lag_timer_s
        await asyncio.sleep(due)
        watch.stop()
        looks = first, await asyncio.to_thread(look)
        await _until(lambda: len(daemons[0].actions()) >= len(silent))
        for task in tasks:
            if task.done():
                raise BenchmarkError(f"A connection broke: {task.exception()!r}")
        return watch, looks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(condition: Callable[[], bool]) -> None:
    """Asks once a second, beside the loop, until it is true or the time is over."""
    end = time.monotonic() + SETTLE_S
    while not await asyncio.to_thread(condition) and time.monotonic() < end:
        await asyncio.sleep(1)


def _check(
    crowd: Crowd, silent: Sequence[Agent], actions: Sequence[dict[str, Any]], metrics: Sequence[dict[str, float]]
) -> None:
    """Raises `BenchmarkError` unless exactly the silent agents were set, and the rest was answered `live` always."""
    if crowd.wrong:
        raise BenchmarkError(f"{len(crowd.wrong)} beats were not answered with live, e.g. {crowd.wrong[0]}")
    expected = {f"{INSTANCE}/{agent.session.user_id}" for agent in silent}
    # Who was set by an earlier measurement has the status already.
    found = [action["agent"] for action in actions if action["outcome"] in ("confirmed", "already")]
    if len(found) != len(actions) or sorted(found) != sorted(expected):
        others = [action for action in actions if action["outcome"] not in ("confirmed", "already")]
        raise BenchmarkError(f"{len(expected)} agents fell silent, {len(actions)} actions came of it; {others[:1]}")
    counted = sum(each["watchdog_detection_lag_seconds_count"] for each in metrics)
    if counted != len(expected):
        raise BenchmarkError(f"The daemon has counted {counted:.0f} detections instead of {len(expected)}.")


def _report(bench: Bench, found: Story) -> Measurement:
    scale, crowd, silent, actions, watch = bench.scale, found.crowd, found.silent, found.actions, found.watch
    ttl_s = 3 * scale.lag_interval_s
    own = found.lags_s
    wall = [
        _epoch(action["at"]) - action["latency_s"] - _last_beat(action) - ttl_s - scale.lag_timer_s
        for action in actions
    ]
    received = {call["user_id"]: call["received_at"] for call in reversed(bench.sandbox.writes())}
    whole = [received[agent.session.user_id] - agent.last_sent_at - ttl_s - scale.lag_timer_s for agent in silent]
    if min(whole) < 0:
        raise BenchmarkError(f"An agent was set {-min(whole):.3f} s before its deadline.")
    results = (
        _row("deadline to claim, p50", own, 50),
        _row("deadline to claim, p99", own, 99, TARGET_S),
        _row("the same by the wall clock, p50", wall, 50, note="last beat stored + TTL + timer to the claim"),
        _row("the same by the wall clock, p99", wall, 99, TARGET_S),
        _row("end to end, p50", whole, 50, note="last beat sent + TTL + timer to PutUserStatus"),
        _row("end to end, p99", whole, 99),
        Result("answer to a beat, p99", "ms", 1e3 * percentile(crowd.answers_s, 99), digits=1),
        Result("core used by the daemon", "%", 100 * watch.shares[0], digits=1, note="all agents beating"),
    )
    method = (
        f"{scale.lag_agents:,} agents, each with a keep-alive connection of its own, beat every "
        f"{scale.lag_interval_s:g} s (±10 %) by POST /v1/heartbeat from one process on the other core; "
        f"TTL {ttl_s:g} s, timer {scale.lag_timer_s:g} s. {len(silent)} of them fall silent one by one within "
        f"{scale.lag_spread_s:g} s; the quota is no limit. From deadline to claim is what the daemon itself noted as "
        "evidence (its observed clock moves with the ticks, four a second), and again by the wall clock from stored "
        "times. All silent agents were set, none early, and nobody else."
    )
    remarks = [f"The load was sent at most {1e3 * percentile(crowd.late_s, 99):.1f} ms late (p99)."]
    if watch.foreign >= DISTURBED:
        remarks.append(f"Other programs used up to {watch.foreign:.0%} of a core meanwhile.")
    return Measurement(TITLE, method, results, tuple(remarks))


def _row(name: str, values: Sequence[float], percent: float, at_most: float | None = None, note: str = "") -> Result:
    return Result(
        name, "s", percentile(values, percent), min(values), max(values), digits=3, at_most=at_most, note=note
    )


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _last_beat(action: dict[str, Any]) -> float:
    return max(float(session["last_beat_at"]) for session in action["evidence"]["sessions"])
