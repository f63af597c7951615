"""Ends the demo's children and removes its folder when the demo is gone, however it went.

Run as a script, by its path, with the folder as its argument. On standard input it reads `+PID` for a child that was
started and `-PID` for one that has ended; the end of the input is the end of the demo, be it by kill -9. The demo takes
its children down itself, in order: in that case nothing is left to do here.
"""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterable


def children_left(lines: Iterable[str]) -> set[int]:
    """Read to the end; give the processes that were started and have not ended."""
    left: set[int] = set()
    for line in lines:
        pid = int(line[1:])
        if line.startswith("+"):
            left.add(pid)
        else:
            left.discard(pid)
    return left


def guard(folder: str, lines: Iterable[str]) -> None:
    """Wait for the end of the demo and clear up what it left."""
    for pid in children_left(lines):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    guard(sys.argv[1], sys.stdin)
