"""The machine: what it is, how its time is spent, and who else uses it. Reads /proc; Linux only."""

from __future__ import annotations

import os
import platform
import re
import resource
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TICKS_S = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds of a clock tick. Source: proc(5)."""

DISTURBED = 0.05
"""Share of a core that other programs may use in a run that counts as undisturbed."""

_PACKAGES = ("uvicorn", "uvloop", "httptools", "fastapi", "pydantic", "orjson")


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core runs what is measured, and which the load. The same one where there is only one."""

    server: int
    load: int


def cores() -> Cores:
    """The first two that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[min(1, len(usable) - 1)])


def description(disk: Path) -> dict[str, str]:
    """The machine and the versions, for the report. The databases are at `disk`."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    release = platform.freedesktop_os_release()
    return {
        "CPU": cpu[1] if cpu else platform.machine(),
        "Cores": str(os.cpu_count()),
        "Memory": f"{memory / 2**30:.0f} GiB",
        "System": f"{release.get('PRETTY_NAME', platform.system())}, Linux {platform.release()}",
        "File system": _output("stat", "-f", "-c", "%T", str(disk)),
        "Python": f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        "Packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "Compared with": f"{_version('nginx')}, {_version('wrk')}",
        "Watchdog": __version__,
    }


def _output(*command: str) -> str:
    """What a program says, on whichever stream."""
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return (told.stdout + told.stderr).strip()


def _version(command: str) -> str:
    """What a program calls itself; `-v` tells nginx and wrk to say so."""
    found = re.search(r"\d+(\.\d+)+", _output(command, "-v"))
    return f"{command} {found[0] if found else '?'}"


def allow_files(count: int) -> None:
    """Raises the limit of open files, for this process and its children.

    Raises:
        OSError: The hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise OSError(f"{count} open files are needed and {hard} allowed: raise the hard limit (ulimit -Hn).")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, with all its threads and the children it has waited for."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * TICKS_S


def _busy_s(core: int) -> float:
    """Seconds for which a core has done anything, since boot."""
    match = re.search(rf"^cpu{core} (.+)$", Path("/proc/stat").read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, match[1].split()[:8])
    return (user + nice + system + irq + softirq + steal) * TICKS_S


class Watch:
    """Tells how a stretch of time was spent, from its making to `stop`.

    Attributes:
        elapsed_s: How long it was.
        shares: Cores that each watched process used, in the order given.
        foreign: Largest share of one of the two cores that other programs used.
    """

    def __init__(self, used: Cores, server: Sequence[int] = (), load: Iterable[int] = ()) -> None:
        self._pids = {core: set() for core in (used.server, used.load)}  # type: dict[int, set[int]]
        self._pids[used.server] |= set(server)
        self._pids[used.load] |= {os.getpid(), *load}
        self._server = list(server)
        self._before = self._read()
        self._began = time.monotonic()
        self.elapsed_s = 0.0
        self.shares: list[float] = []
        self.foreign = 0.0

    def stop(self) -> Watch:
        """Reads the clocks again."""
        self.elapsed_s = time.monotonic() - self._began
        busy, own = self._read()
        before_busy, before_own = self._before
        self.shares = [(own[pid] - before_own[pid]) / self.elapsed_s for pid in self._server]
        for core, pids in self._pids.items():
            others = busy[core] - before_busy[core] - sum(own[pid] - before_own[pid] for pid in pids)
            self.foreign = max(self.foreign, others / self.elapsed_s)
        return self

    def _read(self) -> tuple[dict[int, float], dict[int, float]]:
        own = {pid: cpu_s(pid) for pids in self._pids.values() for pid in pids}
        return {core: _busy_s(core) for core in self._pids}, own


class Patience:
    """Waits for quiet moments, within a budget for the whole run."""

    def __init__(self, used: Cores, budget_s: float) -> None:
        self._cores = used
        self._left_s = budget_s

    def wait(self) -> None:
        """Returns when other programs leave both cores alone, or the budget is used up."""
        while self._left_s > 0:
            watch = Watch(self._cores)
            time.sleep(0.5)
            self._left_s -= watch.stop().elapsed_s
            if watch.foreign < DISTURBED:
                return
