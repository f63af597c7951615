"""The command `watchdog` as a process of its own, forked from a server that has imported everything already.

It has its own environment, folder, output and exit code like any other; what it is spared is the time of the imports.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parent.parent

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        *("boto3", "moto", "httpcore", "watchdog.asking", "watchdog.check", "watchdog.cli", "watchdog.daemon"),
        *("watchdog.migration", "watchdog.screens.status", __name__),
    ]
)


def run(
    arguments: Sequence[str], environ: Mapping[str, str], limit_s: float = 60.0, *, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end.

    Args:
        arguments: Those after its name.
        environ: All of its environment.
        limit_s: Seconds after which it is killed.
        folder: Where it runs.

    Raises:
        subprocess.TimeoutExpired: It was.
    """
    with tempfile.TemporaryDirectory(prefix="command-") as kept:
        # Files are as little of a terminal as pipes.
        files = [Path(kept, name) for name in ("stdout", "stderr")]
        process = _context.Process(target=_command, args=([*arguments], dict(environ), folder, *files))
        process.start()
        process.join(limit_s)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([*arguments], limit_s)
        process.close()
        told = [file.read_text("utf-8") for file in files]
    return subprocess.CompletedProcess([*arguments], code, *told)


def _command(arguments: list[str], environ: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    for number, file in ((1, out), (2, err)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    os.chdir(folder)
    sys.argv = ["watchdog", *arguments]
    main()
