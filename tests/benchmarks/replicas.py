"""Several daemons over one Valkey or Redis: what a heartbeat costs them and the server, and how late they notice.

All daemons share one core and the server has the load's, so that it is the CPU for each heartbeat that tells what more
cores would do.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import orjson
import uvloop

from tests.benchmarks import lag
from tests.benchmarks.clients import BATCH, Session, say_hello
from tests.benchmarks.flushes import LARGE, SHARDS, SMALL, Cost
from tests.benchmarks.interval import Beats
from tests.benchmarks.machine import DISTURBED, Watch, allow_files
from tests.benchmarks.memory import MEGABYTE
from tests.benchmarks.processes import (
    ADMIN,
    INSTANCE,
    LONG_TTL,
    LOOPBACK,
    ROOT,
    TIMEOUT_S,
    TOKEN,
    Bench,
    Daemon,
    Redis,
)
from tests.benchmarks.results import BenchmarkError, Measurement, Result, percentile
from watchdog.core.model import AgentId
from watchdog.stores.part_rows import part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TITLE = "Several daemons over one Valkey"
MOST = 4
POSTS_PER_S = 2_000
TRIES = 3
"""Runs of posts that may be repeated."""

TARGET_DAEMONS_US, TARGET_SERVER_US, TARGET_LAG_S = 12.0, 6.0, 0.8
FIRST_SEQ = 5_000_000
"""Of batches: above all that wrk has sent."""


NOTHING = Cost(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Told:
    """What the server has counted since its start, and its memory.

    Attributes:
        cpu_s: Of the server.
        commands: That it ran, those of functions included.
        sent: Bytes to and from it.
        memory: Bytes in use.
    """

    cpu_s: float
    commands: int
    sent: int
    memory: int

    @classmethod
    def by(cls, server: Redis) -> Told:
        """As of now."""
        info = server.info()
        return cls(
            info["used_cpu_user"] + info["used_cpu_sys"],
            info["total_commands_processed"],
            info["total_net_input_bytes"] + info["total_net_output_bytes"],
            info["used_memory"],
        )


@dataclass(frozen=True, slots=True)
class Run:
    """Heartbeats for some seconds.

    Attributes:
        per_s: How many a second.
        cost: Of each, all daemons together.
        foreign: Share of a core that other programs used.
    """

    per_s: float
    cost: Cost
    foreign: float


class Fleet:
    """Daemons that are ready, over a server of their own, with sessions that have said hello.

    Attributes:
        server: Theirs.
        daemons: They.
        own: Sessions by the daemon that they come through, which has their agents' parts.
        handed: The same for those whose agents' parts another one has.
        memory: Bytes of the server for each agent.
        idle: What all of it costs in a second in which nobody beats.
        refused: Batches that were answered with 503 and sent again, and runs of posts that were repeated.
    """

    def __init__(self, bench: Bench, server: Redis, daemons: Sequence[Daemon]) -> None:
        self.server = server
        self.daemons = daemons
        self._bench = bench
        self._seq = FIRST_SEQ
        self.idle = NOTHING
        self.refused = 0
        owners = _owners(daemons)
        self.own: list[list[Session]] = [[] for _ in daemons]
        self.handed: list[list[Session]] = [[] for _ in daemons]
        for number in range(bench.scale.sessions):
            session = Session()
            owner = owners[part_of(AgentId(INSTANCE, session.user_id), SHARDS)]
            through = number % len(daemons)
            if len(daemons) == 2:
                through = 1 - owner if number % 2 else owner
            (self.own if through == owner else self.handed)[through].append(session)
        before = Told.by(server).memory
        for daemon, sessions in zip(daemons, self.all, strict=True):
            uvloop.run(say_hello(daemon.port, sessions))
        self.memory = (Told.by(server).memory - before) / bench.scale.sessions

    @property
    def all(self) -> list[list[Session]]:
        """Sessions by the daemon that they come through."""
        return [own + handed for own, handed in zip(self.own, self.handed, strict=True)]

    def rest(self) -> None:
        """Nobody beats for some seconds."""
        seconds = float(self._bench.scale.load_s)

        def wait() -> float:
            time.sleep(seconds)
            return seconds

        self.idle = self._run(wait).cost

    def posts(self, sessions: Sequence[Sequence[Session]]) -> list[Run]:
        """Beats by single requests, so many a second."""
        interval_s = sum(map(len, sessions)) / POSTS_PER_S

        def send() -> float:
            self._seq += 100_000
            beats = [
                Beats(each, daemon.port, self._seq, interval_s)
                for daemon, each in zip(self.daemons, sessions, strict=True)
            ]
            uvloop.run(self._play(beats))
            return sum(len(each.answers_s) for each in beats)

        return self._rounds(send)

    async def _play(self, beats: Sequence[Beats]) -> None:
        scale = self._bench.scale
        played = [
            each.play(daemon.port, scale.connections, scale.load_s)
            for daemon, each in zip(self.daemons, beats, strict=True)
        ]
        await asyncio.gather(*played)

    def batches(self, sessions: Sequence[Sequence[Session]]) -> list[Run]:
        """Beats in batches, one after another to each daemon."""
        bodies = [_bodies(each) for each in sessions]
        seconds = float(self._bench.scale.load_s)

        def send() -> float:
            self._seq += 100_000
            with ThreadPoolExecutor(len(self.daemons)) as pool:
                ports = [daemon.port for daemon in self.daemons]
                found = list(pool.map(_send, ports, bodies, [self._seq] * len(ports), [seconds] * len(ports)))
            self.refused += sum(refused for _, refused in found)
            return sum(taken for taken, _ in found)

        return self._rounds(send)

    def _rounds(self, beats: Callable[[], float]) -> list[Run]:
        runs: list[Run] = []
        for _ in range(self._bench.scale.replica_rounds + TRIES):
            try:
                runs.append(self._run(beats))
            except BenchmarkError:
                # On a busy machine somebody was late.
                self.refused += 1
            if len(runs) == self._bench.scale.replica_rounds:
                return runs
        return [*runs, self._run(beats)]

    def _run(self, beats: Callable[[], float]) -> Run:
        self._bench.patience.wait()
        before, watch = Told.by(self.server), Watch(self._bench.cores, self._pids, [self.server.pid])
        count = beats()
        watch.stop()
        spent_s = watch.elapsed_s
        cost = cost_of(before, Told.by(self.server), sum(watch.shares) * spent_s, count, self.idle, spent_s)
        return Run(count / watch.elapsed_s, cost, watch.foreign)

    @property
    def _pids(self) -> list[int]:
        return [daemon.pid for daemon in self.daemons]


def cost_of(
    before: Told, after: Told, daemons_s: float, count: float, idle: Cost = NOTHING, elapsed_s: float = 0.0
) -> Cost:
    """What each of so many heartbeats has cost, besides what is `idle` in each second."""
    spent = (
        1e6 * daemons_s - idle.daemons_us * elapsed_s,
        1e6 * (after.cpu_s - before.cpu_s) - idle.server_us * elapsed_s,
        after.commands - before.commands - idle.commands * elapsed_s,
        after.sent - before.sent - idle.sent * elapsed_s,
    )
    # A busy core ticks a little less than one at rest.
    return Cost(*(max(0.0, each) / count for each in spent))


def measure(bench: Bench) -> Measurement:
    """One daemon, two and four; what a flush costs; and the lag of four."""
    if shutil.which("redis-server") is None:
        raise BenchmarkError("redis-server is not installed.")
    folder = bench.folder / "replicas"
    folder.mkdir()
    # For the daemons, too.
    allow_files(bench.scale.lag_agents + 1_000)
    runs: dict[str, list[Run]] = {}
    idle: dict[int, Cost] = {}
    refused = 0
    for count in (1, 2, MOST):
        with _fleet(bench, count) as fleet:
            if count == 1:
                memory = fleet.memory
            fleet.rest()
            idle[count] = fleet.idle
            for way, sessions in _ways(fleet).items():
                runs[f"{way}, posts"] = fleet.posts(sessions)
                runs[f"{way}, batches"] = fleet.batches(sessions)
            refused += fleet.refused
    flush = _flushes(bench)
    with _server(bench, "lag") as server, _daemons(bench, MOST, "lag", server, lag.settings(bench.scale)) as daemons:
        story = lag.play(bench, daemons, [server.pid], lambda: Told.by(server))
        for daemon in daemons:
            daemon.stop()
    return _report(bench, runs, idle, memory, flush, story, refused)


def _ways(fleet: Fleet) -> dict[str, list[list[Session]]]:
    """Which sessions beat, by what is told of that."""
    count = len(fleet.daemons)
    if count == 1:
        return {"1 daemon": fleet.own}
    if count == MOST:
        return {f"{count} daemons, {count - 1} of {count} handed on": fleet.all}
    return {f"{count} daemons, own": fleet.own, f"{count} daemons, handed on": fleet.handed}


@contextlib.contextmanager
def _server(bench: Bench, name: str) -> Iterator[Redis]:
    folder = bench.folder / "replicas" / f"server-{name}"
    folder.mkdir()
    with Redis(bench.cores.load, folder, keeping=True) as server:
        server.wait()
        yield server


@contextlib.contextmanager
def _daemons(bench: Bench, count: int, name: str, server: Redis, settings: dict[str, str]) -> Iterator[list[Daemon]]:
    """So many daemons, each with its share of the parts."""
    with contextlib.ExitStack() as stack:
        daemons = [
            stack.enter_context(
                Daemon(
                    bench,
                    bench.folder / "replicas" / f"{name}-{number}",
                    WATCHDOG_STORE=server.store,
                    WATCHDOG_SHARDS=f"{SHARDS}",
                    **settings,
                )
            )
            for number in range(count)
        ]
        for daemon in daemons:
            daemon.ready()
        end = time.monotonic() + TIMEOUT_S
        while not _even(daemons):
            if time.monotonic() > end:
                raise BenchmarkError(f"The parts are not shared evenly; the log: {daemons[0].log}")
            time.sleep(0.1)
        yield daemons


@contextlib.contextmanager
def _fleet(bench: Bench, count: int) -> Iterator[Fleet]:
    with _server(bench, f"{count}") as server, _daemons(bench, count, f"{count}", server, LONG_TTL) as daemons:
        yield Fleet(bench, server, daemons)
        for daemon in daemons:
            daemon.stop()


def _status(daemon: Daemon) -> dict[str, object]:
    answer = httpx.get(f"{daemon.url}/v1/status", headers={"authorization": f"Bearer {ADMIN}"}, timeout=TIMEOUT_S)
    found: dict[str, object] = answer.raise_for_status().json()
    return found


def _parts(daemon: Daemon) -> dict[str, list[int]]:
    """Who has which parts, as this one tells, by the daemons' names."""
    replicas = _status(daemon)["replicas"]
    assert isinstance(replicas, list)
    return {each["boot"]: each["parts"] for each in replicas}


def _even(daemons: Sequence[Daemon]) -> bool:
    held = _parts(daemons[0])
    return len(held) == len(daemons) and all(len(parts) == SHARDS / len(daemons) for parts in held.values())


def _owners(daemons: Sequence[Daemon]) -> dict[int, int]:
    """The place of the daemon that has each part."""
    held, places = _parts(daemons[0]), {_status(daemon)["boot"]: place for place, daemon in enumerate(daemons)}
    return {part: places[boot] for boot, parts in held.items() for part in parts}


def _bodies(sessions: Sequence[Session]) -> list[bytes]:
    """Batches, with a `seq` to be replaced."""
    return [
        orjson.dumps({"heartbeats": [each.message(seq=FIRST_SEQ) for each in sessions[begin : begin + BATCH]]})
        for begin in range(0, len(sessions), BATCH)
    ]


def _send(port: int, bodies: Sequence[bytes], seq: int, seconds: float) -> tuple[int, int]:
    """Sends batches for so long. Returns how many heartbeats were taken, and how many batches refused for the time."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)
    old, sent, refused, end = b'"seq":%d' % FIRST_SEQ, 0, 0, time.monotonic() + seconds
    while True:
        seq += 1
        for body in bodies:
            if time.monotonic() > end:
                connection.close()
                return sent, refused
            connection.request("POST", "/v1/heartbeats", body.replace(old, b'"seq":%d' % seq), headers)
            answer = connection.getresponse()
            told = answer.read()
            if answer.status == 503:
                # Somebody was late on a busy machine.
                refused += 1
                time.sleep(1)
                continue
            if answer.status != 200 or b'"rejected":[]' not in told:
                raise BenchmarkError(f"A batch was answered with {answer.status}: {told[:500]!r}")
            sent += int(json.loads(told)["accepted"])


def _flushes(bench: Bench) -> dict[str, Cost]:
    """What flushes.py tells: the stores on the daemons' core."""
    with _server(bench, "flushes") as server:
        bench.patience.wait()
        command = ["taskset", "-c", str(bench.cores.server), sys.executable, "-m", "tests.benchmarks.flushes"]
        told = subprocess.run(
            [*command, str(server.port), str(bench.scale.load_s)],
            capture_output=True,
            text=True,
            check=False,
            timeout=3 * bench.scale.load_s + TIMEOUT_S,
            cwd=ROOT,
        )
    if told.returncode:
        raise BenchmarkError(f"flushes.py failed: {told.stderr[-1000:]}")
    return {name: Cost(**cost) for name, cost in json.loads(told.stdout).items()}


def _report(
    bench: Bench,
    runs: dict[str, list[Run]],
    idle: dict[int, Cost],
    memory: float,
    flush: dict[str, Cost],
    story: lag.Story,
    refused: int,
) -> Measurement:
    scale, results = bench.scale, list[Result]()
    for name, each in runs.items():
        if name.endswith("batches"):
            results.append(Result.median(f"{name}: heartbeats", "/s", [run.per_s for run in each]))
    for name, each in runs.items():
        per_s = [1e6 / run.cost.daemons_us for run in each]
        results.append(Result.median(f"{name}: per CPU second of the daemons", "", per_s))
    for name, each in runs.items():
        results.append(Result.median(f"{name}: daemons", "µs", [run.cost.daemons_us for run in each], digits=1))
    for name, each in runs.items():
        note = _note(each[-1].cost)
        results.append(
            Result.median(f"{name}: server", "µs", [run.cost.server_us for run in each], digits=2, note=note)
        )
    for name, cost in flush.items():
        size = SMALL if name.endswith("few") else LARGE
        results.append(Result(f"flush of {size}, {name}: daemons", "µs", cost.daemons_us, digits=1))
        results.append(Result(f"flush of {size}, {name}: server", "µs", cost.server_us, digits=2, note=_note(cost)))
    share = (MOST - 1) / MOST
    own, handed = flush["own"], flush["handed on"]
    results += [
        Result(
            f"flush with {MOST} daemons: in the daemons",
            "µs",
            (1 - share) * own.daemons_us + share * handed.daemons_us,
            digits=1,
            at_most=TARGET_DAEMONS_US,
            note=f"{share:.0%} handed on",
        ),
        Result(
            f"flush with {MOST} daemons: in the server",
            "µs",
            (1 - share) * own.server_us + share * handed.server_us,
            digits=2,
            at_most=TARGET_SERVER_US,
            note=f"{share:.0%} handed on",
        ),
    ]
    for count, cost in idle.items():
        name = f"nobody beats, {count} daemon{'s' * (count > 1)}"
        results.append(Result(f"{name}: each daemon", "ms/s", cost.daemons_us / count / 1e3, digits=1))
        note = f"{cost.commands:.0f} commands and {cost.sent / 1000:.0f} kB a second"
        results.append(Result(f"{name}: server", "ms/s", cost.server_us / 1e3, digits=1, note=note))
    results.append(Result("memory of the server for 1,000 agents", "MB", memory * 1000 / MEGABYTE, digits=2))
    results += _of_lag(bench, story)
    method = (
        f"{scale.sessions:,} agents with a session each; {', '.join(map(str, idle))} daemons on one core and a "
        "redis-server (or valkey-server) on the other one beside the load, with `appendonly yes`. "
        "Every agent's beats come through one daemon, which has its part (own) or hands it on to the one that has; "
        f"behind a load balancer (N − 1)/N are handed on. Posts: {POSTS_PER_S:,} a second in all, over "
        f"{scale.connections} connections to each daemon, each beat with its ticket; batches: {BATCH:,} beats each, "
        f"one after another to each daemon, as fast as the core allows; {scale.load_s} s a run, {scale.replica_rounds} "
        "runs. The CPU is that of all daemons together for each heartbeat, with all that belongs to it, and that of "
        "the server, both without what they take when nobody beats, which is given for itself. A flush is what of it "
        f"is the store's: two stores in one process, without HTTP, {LARGE} or {SMALL} heartbeats at a time. Commands "
        f"include those that functions run. The lag: see Detection lag; {MOST} daemons, each agent through one of them "
        "in turn."
    )
    foreign = max([story.watch.foreign, *(run.foreign for each in runs.values() for run in each)])
    remarks = [f"{refused} batches, or runs of posts, were refused for a time, and repeated."] if refused else []
    remarks += [f"The load of the lag was sent at most {1e3 * percentile(story.crowd.late_s, 99):.1f} ms late (p99)."]
    if foreign >= DISTURBED:
        remarks.append(f"Other programs used up to {foreign:.0%} of a core in these runs.")
    return Measurement(TITLE, method, tuple(results), tuple(remarks))


def _of_lag(bench: Bench, story: lag.Story) -> tuple[Result, ...]:
    scale, name = bench.scale, f"{bench.scale.lag_agents:,} agents, {MOST} daemons"
    beats = scale.lag_agents / scale.lag_interval_s * story.watch.elapsed_s
    before, after = story.looks
    cost = cost_of(before, after, sum(story.watch.shares) * story.watch.elapsed_s, beats)
    return (
        Result(f"{name}: deadline to claim, p50", "s", percentile(story.lags_s, 50), digits=3),
        Result(f"{name}: deadline to claim, p99", "s", percentile(story.lags_s, 99), digits=3, at_most=TARGET_LAG_S),
        Result(f"{name}: answer to a beat, p99", "ms", 1e3 * percentile(story.crowd.answers_s, 99), digits=1),
        Result(f"{name}: daemons, each heartbeat", "µs", cost.daemons_us, digits=0, note="ticks included"),
        Result(f"{name}: server, each heartbeat", "µs", cost.server_us, digits=1, note=_note(cost)),
    )


def _note(cost: Cost) -> str:
    return f"{cost.commands:.2f} commands and {cost.sent:.0f} bytes for each"
