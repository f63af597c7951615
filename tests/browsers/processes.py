"""The browsers' processes: found by their session, which is theirs alone, and ended by their numbers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.scenarios.harness import until


class PageGoneError(Exception):
    """A page went, or crashed, while it was asked."""


def command(name: str) -> str:
    """The path of what Debian's package brings; skips the test without it, and fails in continuous integration."""
    found = shutil.which(name)
    if found is None:
        package = {"chromedriver": "chromium-driver"}.get(name, name)
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is missing: install Debian's {package}")
    return found


def of_session(leader: int) -> list[tuple[int, int, str]]:
    """Processes (pid, parent, command line) of the session that the process leads, zombies left out."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, parent, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append((int(folder.name), int(parent), line))
    return found


def end(leader: int) -> None:
    """Kills what is left of the session, each process by its own number."""

    def gone() -> bool:
        left = of_session(leader)
        for pid, _, _ in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    until(gone, "the browser's processes are gone")


def now() -> float:
    """Seconds since 1970, as the stand-in of Connect counts them."""
    return time.time()


def wait(seconds: float) -> None:
    """For the length of a fault, or to see that nothing happens; never in place of a condition."""
    threading.Event().wait(seconds)
