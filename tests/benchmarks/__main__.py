"""`python -m tests.benchmarks`: measures, prints, and writes docs/performance.md.

Exit code 1 when something could not be measured. A target that is missed is marked, and is no failure.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tests.benchmarks import (
    crowd,
    ghosts,
    interval,
    lag,
    machine,
    memory,
    others,
    replicas,
    report,
    sockets,
    startup,
    throughput,
)
from tests.benchmarks.processes import ROOT, Bench, Sandbox
from tests.benchmarks.results import BenchmarkError, Measurement
from tests.benchmarks.scale import FULL, QUICK, Scale

MEASUREMENTS = {
    "throughput": throughput,
    "interval": interval,
    "crowd": crowd,
    "sockets": sockets,
    "lag": lag,
    "memory": memory,
    "startup": startup,
    "others": others,
    "replicas": replicas,
}
"""Of running daemons."""

VIRTUAL = {"ghosts": ghosts}
"""On virtual time, with nothing started."""

DISK = Path("/var/tmp")
"""Where the databases are; /tmp may be in memory."""

DOCUMENT = ROOT / "docs" / "performance.md"


def main() -> int:
    """Runs what is asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measures the daemon.")
    parser.add_argument("--quick", action="store_true", help="small and short; the numbers are for nobody else's eyes")
    names = [*MEASUREMENTS, *VIRTUAL]
    parser.add_argument("--only", choices=names, action="append", help="this measurement; may be given again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON, too")
    options = parser.parse_args()
    chosen = options.only or names
    missing = [command for command in ("nginx", "wrk") if shutil.which(command) is None]
    if missing and not VIRTUAL.keys() >= set(chosen):
        print(f"Please install {' and '.join(missing)} first, or use `make bench`.", file=sys.stderr)
        return 1
    scale, used, out = QUICK if options.quick else FULL, machine.cores(), report.console()
    os.sched_setaffinity(0, {used.load})
    description, began, failed = machine.description(DISK), time.monotonic(), False
    measurements: list[Measurement] = []
    out.print(" · ".join(description[name] for name in ("CPU", "Cores", "Memory", "System", "Python")))
    if used.server == used.load:
        out.print("There is one core only: the load takes its time from what is measured.", style="yellow")
    with tempfile.TemporaryDirectory(prefix="watchdog-bench-", dir=DISK) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        bench: Bench | None = None
        for each in chosen:
            try:
                if each in VIRTUAL:
                    measurement = VIRTUAL[each].measure(scale.ghosts, folder)
                else:
                    bench = bench or _bench(stack, scale, used, folder)
                    measurement = MEASUREMENTS[each].measure(bench)
            except (BenchmarkError, OSError, httpx.HTTPError, ExceptionGroup) as error:
                out.print(f"{each} could not be measured: {error}", style="bold red", markup=False)
                failed = True
            else:
                report.show(out, measurement)
                measurements.append(measurement)
    if options.json is not None:
        options.json.write_text(report.to_json(measurements, description), encoding="utf-8")
    if not (failed or options.quick or options.only):
        report.write(DOCUMENT, measurements, description, datetime.now(UTC).strftime("%Y-%m-%d"))
        out.print(f"Written to {DOCUMENT.relative_to(ROOT)}.")
    missed = [result.name for measurement in measurements for result in measurement.results if result.met is False]
    verdict = f"Targets missed: {', '.join(missed)}." if missed else "All targets that were measured are met."
    out.print(f"{verdict} {time.monotonic() - began:.0f} s.")
    return int(failed)


def _bench(stack: contextlib.ExitStack, scale: Scale, used: machine.Cores, folder: Path) -> Bench:
    """Starts the stand-in of Connect, which lives as long as the stack."""
    sandbox = stack.enter_context(Sandbox(scale.lag_agents, used.load, folder))
    bench = Bench(scale, used, folder, sandbox, machine.Patience(used, scale.patience_s))
    sandbox.ready()
    return bench


if __name__ == "__main__":
    sys.exit(main())
