"""Start-up: from the start of the process to the first 200 of /readyz, with a large database and with none."""

from __future__ import annotations

import time

from tests.benchmarks.clients import Session, batches, feed
from tests.benchmarks.processes import LONG_TTL, Bench, Daemon
from tests.benchmarks.results import Measurement, Result

TITLE = "Start-up"
TARGET_S = 3.0
PAUSE_S = 0.005
"""Between two questions whether it is ready."""


def measure(bench: Bench) -> Measurement:
    """Fills a database through a daemon, stops that, and starts others on it in turn with others on none."""
    agents, folder = bench.scale.start_agents, bench.folder / "start"
    bodies = batches([Session() for _ in range(agents)])
    with Daemon(bench, folder, **LONG_TTL) as daemon:
        daemon.ready()
        began = time.monotonic()
        feed(daemon.url, bodies)
        fed_s = time.monotonic() - began
        daemon.wait_for_live(agents)
        daemon.stop()
    size = sum(file.stat().st_size for file in folder.glob("watchdog.db*"))
    full: list[float] = []
    empty: list[float] = []
    stops: list[float] = []
    for number in range(bench.scale.rounds):
        bench.patience.wait()
        with Daemon(bench, folder, **LONG_TTL) as daemon:
            full.append(daemon.ready(PAUSE_S))
            daemon.wait_for_live(agents)
            began = time.monotonic()
            daemon.stop()
            stops.append(time.monotonic() - began)
        with Daemon(bench, bench.folder / f"start-empty-{number}", **LONG_TTL) as daemon:
            empty.append(daemon.ready(PAUSE_S))
            daemon.stop()
    results = (
        Result.median(f"ready with {agents:,} agents", "s", full, digits=2, at_most=TARGET_S),
        Result.median("ready with an empty database", "s", empty, digits=2),
        Result.median(f"stopped with {agents:,} agents", "s", stops, digits=2, note="SIGTERM to the end"),
        Result("fed through /v1/heartbeats", "/s", agents / fed_s, note="new agents, one client, batches of 1,000"),
        Result("size of the database", "MB", size / 1024**2, digits=1),
    )
    method = (
        f"A daemon is fed {agents:,} agents through the batch endpoint and stopped with SIGTERM. Then daemons are "
        f"started on its database and on none in turn, {bench.scale.rounds} rounds: from the start of the process, the "
        "interpreter and all imports included, to the first 200 of /readyz, the files in the page cache. Each had all "
        "agents live again."
    )
    return Measurement(TITLE, method, results)
