"""Heartbeats a second on one core, beside nginx with a fixed answer of the same size."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.benchmarks.clients import Session, say_hello
from tests.benchmarks.machine import DISTURBED, Watch
from tests.benchmarks.processes import LOOPBACK, TIMEOUT_S, TOKEN, Bench, Daemon, Nginx
from tests.benchmarks.results import BenchmarkError, Measurement, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "Heartbeats a second on one core"
SCRIPT = Path(__file__).with_name("heartbeats.lua")
TRIES = 3
"""Of a run that other programs disturb; the least disturbed one counts."""

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


class Load:
    """wrk on its core."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._seq = FIRST_SEQ

    def run(self, url: str, pid: int, file: Path, seconds: int) -> Run:
        """One run against a server with this pid.

        Raises:
            BenchmarkError: wrk could not run, or not every answer was a good one.
        """
        self._seq += 100_000
        watch = Watch(self._bench.cores, [pid])
        # It inherits the core of this process.
        options = ["-t1", f"-c{self._bench.scale.connections}", f"-d{seconds}s", "-s", str(SCRIPT)]
        told = subprocess.run(
            ["wrk", *options, f"{url}/v1/heartbeat", "--", str(file), str(self._seq)],
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
    """Runs all three in turn, again and again."""
    scale, folder = bench.scale, bench.folder / "throughput"
    sessions = [Session() for _ in range(scale.sessions)]
    with Daemon(bench, folder, WATCHDOG_SESSION_TTL="600", WATCHDOG_THROTTLED_SESSION_TTL="600") as daemon:
        daemon.ready()
        asyncio.run(say_hello(daemon.port, sessions))
        tickets = _write(folder / "tickets.txt", sessions, daemon.port, token=False)
        tokens = _write(folder / "tokens.txt", sessions, daemon.port, token=True)
        with Nginx(bench.cores.server, folder, _answer(daemon, sessions[0])) as nginx:
            nginx.wait_for(nginx.port, "/")
            servers: dict[str, tuple[Daemon | Nginx, Path]] = {
                "nginx": (nginx, tickets),
                "ticket": (daemon, tickets),
                "token": (daemon, tokens),
            }
            load = Load(bench)
            for server, file in servers.values():
                load.run(server.url, server.pid, file, 1)
            runs: dict[str, list[Run]] = {name: [] for name in servers}
            for _ in range(scale.rounds):
                for name, (server, file) in servers.items():
                    runs[name].append(_run(bench, load, server, file))
            nginx.stop()
        flush = daemon.metrics()
        daemon.stop()
    return _report(bench, runs, flush)


def _run(bench: Bench, load: Load, server: Daemon | Nginx, file: Path) -> Run:
    """One run, repeated when it was disturbed. The daemon has to have counted every heartbeat."""
    tries: list[Run] = []
    while len(tries) < TRIES:
        bench.patience.wait()
        before = server.metrics() if isinstance(server, Daemon) else {}
        run = load.run(server.url, server.pid, file, bench.scale.load_s)
        if isinstance(server, Daemon):
            _check(bench, before, server.metrics(), run)
        tries.append(run)
        if run.foreign < DISTURBED:
            break
    return min(tries, key=lambda run: run.foreign)


def _check(bench: Bench, before: dict[str, float], after: dict[str, float], run: Run) -> None:
    """Compares what the daemon has counted with what wrk has.

    Raises:
        BenchmarkError: They differ by more than was under way when wrk stopped, or something was refused.
    """
    beats = after[BEAT] - before[BEAT]
    if not 0 <= beats - run.requests <= bench.scale.connections:
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


def _report(bench: Bench, runs: dict[str, list[Run]], metrics: dict[str, float]) -> Measurement:
    scale, results = bench.scale, list[Result]()
    names = {"nginx": "nginx, fixed 200", "ticket": "heartbeats, by ticket", "token": "heartbeats, by token"}
    for key, name in names.items():
        share = sum(run.share for run in runs[key]) / len(runs[key])
        note = f"the server used {share:.0%} of its core"
        results.append(Result.median(name, "/s", [run.per_s for run in runs[key]], note=note))
    for key in ("ticket", "token"):
        ratios = [run.per_s / base.per_s for run, base in zip(runs[key], runs["nginx"], strict=True)]
        results.append(Result.median(f"{names[key]} ÷ nginx", "×", ratios, digits=2))
    for key, name in names.items():
        results.append(Result.median(f"{name}: per CPU second", "", [run.per_cpu_s for run in runs[key]]))
    for key, name in names.items():
        results.append(Result.median(f"{name}: p99", "ms", [run.p99_ms for run in runs[key]], digits=1))
    flushes = metrics["watchdog_flush_seconds_count"]
    within = metrics['watchdog_flush_seconds_bucket{le="0.1"}'] / flushes
    results.append(Result("flushes within 0.1 s", "%", 100 * within, digits=1, note=f"of {flushes:,.0f}"))
    sizes = ", ".join(f"{name} {runs[name][0].answer_bytes:.0f} B" for name in ("nginx", "ticket"))
    method = (
        f"wrk with one thread and {scale.connections} keep-alive connections on one core, the server on another, for "
        f"{scale.load_s} s a run; nginx (one process, `return 200`) and the daemon in turn, {scale.rounds} rounds. wrk "
        f"takes turns with {scale.sessions:,} sessions that have said hello; each beat has the session's ticket (or "
        f"the bearer token) and a `seq` that rises. SQLite on disk, group commit as always. Answers with headers: "
        f"{sizes}. Every answer was 200, and the daemon's counter agreed with wrk's. Where a server did not use its "
        "whole core, wrk was the limit; answers for a second of the server's CPU tell what it could do."
    )
    worst = max(run.foreign for each in runs.values() for run in each)
    remarks = (f"Other programs used up to {worst:.0%} of a core in these runs.",) if worst >= DISTURBED else ()
    return Measurement(TITLE, method, tuple(results), remarks)
