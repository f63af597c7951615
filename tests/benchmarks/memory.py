"""Resident memory of live agents, over the empty daemon and without their connections."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.clients import Session, batches, feed
from tests.benchmarks.processes import LONG_TTL, Bench, Daemon
from tests.benchmarks.results import Measurement, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "Memory of live agents"
TARGET_MB = 30.0
STILL_MB = 0.1
"""Memory that changes by less than this within a second has settled."""

SETTLE_S = 10.0
MEGABYTE = 1024**2


@dataclass(frozen=True, slots=True)
class Footprint:
    """Megabytes (2²⁰ bytes) of a process. Source: proc(5), smaps_rollup."""

    rss: float
    pss: float


def footprint(pid: int) -> Footprint:
    """What a process holds now."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    kilobytes = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    return Footprint(kilobytes["Rss"] * 1024 / MEGABYTE, kilobytes["Pss"] * 1024 / MEGABYTE)


def measure(bench: Bench) -> Measurement:
    """Starts a daemon for each round, and feeds it."""
    agents = bench.scale.memory_agents
    empty: list[Footprint] = []
    full: list[Footprint] = []
    for number in range(bench.scale.rounds):
        bodies = batches([Session() for _ in range(agents)])
        folder = bench.folder / f"memory-{number}"
        with Daemon(bench, folder, **LONG_TTL) as daemon:
            daemon.ready()
            empty.append(_settled(daemon.pid))
            feed(daemon.url, bodies)
            daemon.wait_for_live(agents)
            full.append(_settled(daemon.pid))
            daemon.stop()
    more = [after.rss - before.rss for before, after in zip(empty, full, strict=True)]
    shared = [after.pss - before.pss for before, after in zip(empty, full, strict=True)]
    results = (
        Result.median("empty daemon, RSS", "MB", _rss(empty), digits=1),
        Result.median(f"{agents:,} live agents more, RSS", "MB", more, digits=1, at_most=TARGET_MB),
        Result.median(f"{agents:,} live agents more, PSS", "MB", shared, digits=1, at_most=TARGET_MB),
        Result.median("for each agent", "B", [value * MEGABYTE / agents for value in more]),
    )
    method = (
        f"RSS and PSS of the process from /proc/PID/smaps_rollup: once it is ready and has served nothing, and again "
        f"when {agents:,} agents with one session each have come in batches of 1,000 over one connection, that is "
        f"closed, and the memory does not change any more. {bench.scale.rounds} daemons. What the first batches leave "
        "behind in the allocator is counted, so it is more than the agents' own rows."
    )
    return Measurement(TITLE, method, results)


def _settled(pid: int) -> Footprint:
    """The footprint when it does not change any more."""
    end = time.monotonic() + SETTLE_S
    before = footprint(pid)
    while True:
        time.sleep(1)
        now = footprint(pid)
        if abs(now.rss - before.rss) < STILL_MB or time.monotonic() > end:
            return now
        before = now


def _rss(footprints: Sequence[Footprint]) -> list[float]:
    return [each.rss for each in footprints]
