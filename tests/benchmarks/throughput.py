"""Heartbeats a second on one core: both lanes, nginx with a fixed answer of the same size, and the obvious design."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.benchmarks.clients import Session, say_hello
from tests.benchmarks.machine import DISTURBED, Watch
from tests.benchmarks.processes import LONG_TTL, LOOPBACK, TIMEOUT_S, TOKEN, Bench, Daemon, Etcd, Naive, Nginx
from tests.benchmarks.results import BenchmarkError, Measurement, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "Heartbeats a second on one core"
SCRIPT = Path(__file__).with_name("heartbeats.lua")
TRIES = 3
"""Of a run that other programs disturb; the least disturbed one counts."""

RATIOS = (
    ("ticket", "nginx", 0.6),
    ("token", "nginx", None),
    ("ticket, many", "nginx, many", 0.45),
    ("ticket", "plain", 2.0),
    ("ticket", "naive", 8.0),
)
"""Who is compared with whom, and the target."""

FIRST_SEQ = 1_000_000
"""Seven digits, so that requests keep their length; each run begins a hundred thousand above the one before."""

BEAT, HELLO = 'watchdog_heartbeats_total{type="beat"}', 'watchdog_heartbeats_total{type="hello"}'


@dataclass(frozen=True, slots=True)
class Run:
    """What wrk and the kernel told of one run."""

    requests: int
    per_s: float
    p99_ms: float
    answer_bytes: float
    share: float
    foreign: float

    @property
    def per_cpu_s(self) -> float:
        """Answers for a second of the server's CPU: hardly disturbed by others, and not limited by the load."""
        return self.per_s / self.share


@dataclass(frozen=True, slots=True)
class Rival:
    """One of those that take turns.

    Attributes:
        name: In the table.
        server: Who answers.
        file: What is sent.
        connections: How many.
    """

    name: str
    server: Daemon | Nginx | Naive | Etcd
    file: Path
    connections: int


class Load:
    """wrk on its core."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._seq = FIRST_SEQ

    def run(self, rival: Rival, seconds: int) -> Run:
        """One run.

        Raises:
            BenchmarkError: wrk could not run, or not every answer was a good one.
        """
        self._seq += 100_000
        watch = Watch(self._bench.cores, [rival.server.pid])
        # It inherits the core of this process.
        options = ["-t1", f"-c{rival.connections}", f"-d{seconds}s", "-s", str(SCRIPT)]
        told = subprocess.run(
            ["wrk", *options, f"{rival.server.url}/v1/heartbeat", "--", str(rival.file), str(self._seq)],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + TIMEOUT_S,
        )
        watch.stop()
        found = re.search(r"^result (.*)$", told.stdout, re.MULTILINE)
        if found is None:
            raise BenchmarkError(f"wrk told no result: {told.stdout[-500:]}{told.stderr[-500:]}")
        result = json.loads(found[1])
        if result["bad_status"] or result["broken"] or not result["requests"]:
            raise BenchmarkError(f"Not every answer was 200: {found[1]}")
        return Run(
            requests=result["requests"],
            per_s=result["requests"] / (result["elapsed_us"] / 1e6),
            p99_ms=result["p99_us"] / 1e3,
            answer_bytes=result["bytes"] / result["requests"],
            share=watch.shares[0],
            foreign=watch.foreign,
        )


def measure(bench: Bench) -> Measurement:
    """Runs all in turn, again and again."""
    scale, folder = bench.scale, bench.folder / "throughput"
    sessions = [Session() for _ in range(scale.sessions)]
    few, many = scale.connections, scale.many_connections
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(bench, folder, **LONG_TTL))
        plain = stack.enter_context(Daemon(bench, bench.folder / "plain", WATCHDOG_FAST_LANE="false", **LONG_TTL))
        naive = stack.enter_context(Naive(bench.cores.server, bench.folder / "plain"))
        files: dict[str, Path] = {}
        for each, lane in ((daemon, "fast"), (plain, "plain")):
            each.ready()
            asyncio.run(say_hello(each.port, sessions))
            files[lane] = _write(folder / f"{lane}.txt", sessions, each.port, token=False)
        tokens = _write(folder / "tokens.txt", sessions, daemon.port, token=True)
        nginx = stack.enter_context(Nginx(bench.cores.server, folder, _answer(plain, sessions[0])))
        nginx.wait_for(nginx.port, "/")
        naive.wait_for(naive.port, "/openapi.json")
        rivals = {
            "nginx": Rival("nginx, fixed 200", nginx, files["fast"], few),
            "ticket": Rival("heartbeats, by ticket", daemon, files["fast"], few),
            "token": Rival("heartbeats, by token", daemon, tokens, few),
            "plain": Rival("plain lane, by ticket", plain, files["plain"], few),
            "naive": Rival("obvious design", naive, tokens, few),
            "nginx, many": Rival(f"nginx, {many:,} connections", nginx, files["fast"], many),
            "ticket, many": Rival(f"heartbeats, by ticket, {many:,} connections", daemon, files["fast"], many),
        }
        load = Load(bench)
        for rival in rivals.values():
            load.run(rival, 1)
        runs: dict[str, list[Run]] = {name: [] for name in rivals}
        for _ in range(scale.rounds):
            for name, rival in rivals.items():
                runs[name].append(_run(bench, load, rival))
        flush = daemon.metrics()
        for server in (nginx, plain, daemon):
            server.stop()
    return _report(bench, rivals, runs, flush)


def _run(bench: Bench, load: Load, rival: Rival) -> Run:
    """One run, repeated when it was disturbed. The daemon has to have counted every heartbeat."""
    tries: list[Run] = []
    server = rival.server
    while len(tries) < TRIES:
        bench.patience.wait()
        before = server.metrics() if isinstance(server, Daemon) else {}
        run = load.run(rival, bench.scale.load_s)
        if isinstance(server, Daemon):
            _check(bench, rival, before, server.metrics(), run)
        tries.append(run)
        if run.foreign < DISTURBED:
            break
    return min(tries, key=lambda run: run.foreign)


def _check(bench: Bench, rival: Rival, before: dict[str, float], after: dict[str, float], run: Run) -> None:
    """Compares what the daemon has counted with what wrk has.

    Raises:
        BenchmarkError: They differ by more than was under way when wrk stopped, or something was refused.
    """
    beats = after[BEAT] - before[BEAT]
    if not 0 <= beats - run.requests <= rival.connections:
        raise BenchmarkError(f"The daemon has counted {beats:.0f} heartbeats, wrk {run.requests}.")
    refused = [
        name
        for name, value in after.items()
        if name.startswith("watchdog_heartbeats_rejected_total") and value != before[name]
    ]
    if refused:
        raise BenchmarkError(f"Heartbeats were refused: {', '.join(refused)}")
    live = after["watchdog_sessions"]
    if live < bench.scale.sessions:
        raise BenchmarkError(f"Only {live:.0f} of {bench.scale.sessions} sessions are live.")


def _answer(daemon: Daemon, session: Session) -> httpx.Response:
    """What a beat of a live session is answered with."""
    message = session.message(seq=1, ticket=session.ticket)
    return httpx.post(f"{daemon.url}/v1/heartbeat", json=message, timeout=TIMEOUT_S).raise_for_status()


def _write(file: Path, sessions: Sequence[Session], port: int, *, token: bool) -> Path:
    """Writes what heartbeats.lua reads."""
    digits = len(str(FIRST_SEQ))
    lines: list[str] = []
    for session in sessions:
        # `seq` comes last but for the proof, so that the request can be cut there.
        message = session.message(seq=FIRST_SEQ) if token else session.message(ticket=session.ticket, seq=FIRST_SEQ)
        body = json.dumps(message, separators=(",", ":"))
        cut = len(body) - digits - 1
        head = [
            "POST /v1/heartbeat HTTP/1.1",
            f"host: {LOOPBACK}:{port}",
            *([f"authorization: Bearer {TOKEN}"] if token else []),
            "content-type: application/json",
            f"content-length: {len(body)}",
        ]
        lines += [r"\r\n".join([*head, "", body[:cut]]), body[cut + digits :]]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _report(
    bench: Bench, rivals: dict[str, Rival], runs: dict[str, list[Run]], metrics: dict[str, float]
) -> Measurement:
    scale, results = bench.scale, list[Result]()
    for key, rival in rivals.items():
        share = sum(run.share for run in runs[key]) / len(runs[key])
        note = f"the server used {share:.0%} of its core"
        results.append(Result.median(rival.name, "/s", [run.per_s for run in runs[key]], note=note))
    for key, rival in rivals.items():
        results.append(Result.median(f"{rival.name}: per CPU second", "", [run.per_cpu_s for run in runs[key]]))
    for key, base, target in RATIOS:
        # Of what they do in a second of their own CPU, so that neither the load nor other programs count.
        ratios = [run.per_cpu_s / other.per_cpu_s for run, other in zip(runs[key], runs[base], strict=True)]
        digits = 2 if base.startswith("nginx") else 1
        results.append(
            Result.median(f"{rivals[key].name} ÷ {rivals[base].name}", "×", ratios, digits=digits, at_least=target)
        )
    for key, rival in rivals.items():
        results.append(Result.median(f"{rival.name}: p99", "ms", [run.p99_ms for run in runs[key]], digits=1))
    flushes = metrics["watchdog_flush_seconds_count"]
    within = metrics['watchdog_flush_seconds_bucket{le="0.1"}'] / flushes
    results.append(Result("flushes within 0.1 s", "%", 100 * within, digits=1, note=f"of {flushes:,.0f}"))
    sizes = ", ".join(f"{name} {runs[name][0].answer_bytes:.0f} B" for name in ("nginx", "ticket"))
    method = (
        f"wrk with one thread and {scale.connections} keep-alive connections (or as many as are told) on one core, the "
        f"server on another, for {scale.load_s} s a run; all in turn, {scale.rounds} rounds: nginx (one process, "
        "`return 200`), the daemon, a second one with WATCHDOG_FAST_LANE=false, and the obvious design, a FastAPI "
        "route with one APScheduler job for each session, which stores nothing and asks for no proof. wrk takes turns "
        f"with {scale.sessions:,} sessions that have said hello; each beat has the session's ticket (or the bearer "
        f"token) and a `seq` that rises. SQLite on disk, group commit as always. Answers with headers: {sizes}. Every "
        "answer was 200, and the daemons' counters agreed with wrk's. Where a server did not use its whole core, wrk "
        "was the limit; answers for a second of the server's CPU tell what it could do, and the ratios are of those."
    )
    worst = max(run.foreign for each in runs.values() for run in each)
    remarks = (f"Other programs used up to {worst:.0%} of a core in these runs.",) if worst >= DISTURBED else ()
    return Measurement(TITLE, method, tuple(results), remarks)
