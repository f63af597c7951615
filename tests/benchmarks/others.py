"""What other programs make of a lease, on the same machine: for the reader's scale, not for a race.

Neither is asked for what a heartbeat is: Redis keeps a key for a time and checks nobody, etcd renews one lease.
"""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import subprocess
from typing import TYPE_CHECKING

import httpx

from tests.benchmarks.machine import DISTURBED, Watch
from tests.benchmarks.processes import LOOPBACK, TIMEOUT_S, Bench, Etcd, Redis
from tests.benchmarks.results import BenchmarkError, Measurement, Result
from tests.benchmarks.throughput import Load, Rival

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "Other programs' leases"
KEYS = 50_000
COMMANDS = 100_000
"""Of one run for each second of load; it ends when they are done."""

LEASES = 1_000


def measure(bench: Bench) -> Measurement:
    """Runs those that are installed in turn, again and again."""
    folder = bench.folder / "others"
    folder.mkdir()
    shares: dict[str, list[float]] = {}
    runs: dict[str, list[float]] = {}
    foreign = 0.0
    with contextlib.ExitStack() as stack:
        redis = etcd = leases = None
        if shutil.which("redis-server") and shutil.which("redis-benchmark"):
            redis = stack.enter_context(Redis(bench.cores.server, folder))
            redis.wait()
        if shutil.which("etcd"):
            etcd = stack.enter_context(Etcd(bench.cores.server, folder))
            etcd.wait_for(etcd.port, "/health")
            leases = _leases(etcd, folder / "leases.txt")
        if redis is None and etcd is None:
            raise BenchmarkError("Neither redis-server nor etcd is installed.")
        load = Load(bench)
        for _ in range(bench.scale.rounds):
            bench.patience.wait()
            if redis is not None:
                watch = Watch(bench.cores, [redis.pid])
                per_s = _set(redis, bench.scale.load_s)
                watch.stop()
                foreign = max(foreign, watch.foreign)
                runs.setdefault("Redis, SET … EX", []).append(per_s)
                shares.setdefault("Redis, SET … EX", []).append(watch.shares[0])
            if etcd is not None and leases is not None:
                run = load.run(Rival("etcd", etcd, leases, bench.scale.connections), bench.scale.load_s)
                foreign = max(foreign, run.foreign)
                runs.setdefault("etcd, lease keep-alive", []).append(run.per_s)
                shares.setdefault("etcd, lease keep-alive", []).append(run.share)
    results = [Result.median(name, "/s", each) for name, each in runs.items()]
    results += [
        Result.median(f"{name}: per CPU second", "", [a / b for a, b in zip(each, shares[name], strict=True)])
        for name, each in runs.items()
    ]
    method = (
        f"redis-server without persistence answers `SET key live EX 35` of redis-benchmark, {KEYS:,} keys, "
        f"{bench.scale.connections} connections, no pipelining. etcd, one member on disk, answers "
        f"POST /v3/lease/keepalive (its JSON gateway; gRPC would cost it less) of wrk for {LEASES:,} leases over as "
        "many connections. Neither asks who it is, looks at a message, or tells anybody when a lease is over. Server "
        "and load are on a core each."
    )
    remarks = (f"Other programs used up to {foreign:.0%} of a core in these runs.",) if foreign >= DISTURBED else ()
    return Measurement(TITLE, method, tuple(results), remarks)


def _set(redis: Redis, seconds: int) -> float:
    """One run of redis-benchmark. Returns commands a second."""
    options = ["-h", LOOPBACK, "-p", str(redis.port), "-c", "64", "-n", str(seconds * COMMANDS), "-r", str(KEYS)]
    command = ["redis-benchmark", *options, "--csv", "SET", "session:__rand_int__", "live", "EX", "35"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10 * TIMEOUT_S)
    rows = list(csv.DictReader(io.StringIO(told.stdout)))
    if told.returncode or not rows:
        raise BenchmarkError(f"redis-benchmark failed: {told.stdout[-500:]}{told.stderr[-500:]}")
    return float(rows[0]["rps"])


def _leases(etcd: Etcd, file: Path) -> Path:
    """Grants leases, and writes what heartbeats.lua reads: the number that rises is in a header of no meaning."""
    lines: list[str] = []
    with httpx.Client(base_url=etcd.url, timeout=TIMEOUT_S) as client:
        for _ in range(LEASES):
            lease = client.post("/v3/lease/grant", json={"TTL": 3600}).raise_for_status().json()["ID"]
            body = f'{{"ID":"{lease}"}}'
            head = ["POST /v3/lease/keepalive HTTP/1.1", f"host: {LOOPBACK}", f"content-length: {len(body)}", "x-seq: "]
            lines += [r"\r\n".join(head), rf"\r\n\r\n{body}"]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
