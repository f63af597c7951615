"""`watchdog record`: asks a running daemon for its heartbeats without names, and writes them to a file as they come."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import BinaryIO

import httpx

from watchdog.asking import Daemon
from watchdog.errors import DaemonError, WatchdogError
from watchdog.terminal import Bar

SILENCE_S = 30.0
"""The daemon sends a line each 10 s at least."""


def record(daemon: Daemon, for_s: float, path: Path) -> int:
    """Records until the time is over, the daemon stops, or Ctrl-C. The file is whole in each case.

    Args:
        daemon: To record.
        for_s: How long, in seconds.
        path: The file, which must not exist.

    Returns:
        How many lines there are.

    Raises:
        DaemonError: There was no answer, a refusal, or the stream broke off; the file has what came before.
        WatchdogError: The file cannot be written, or exists.
    """
    try:
        with (
            daemon.stream("/v1/record", {"for_s": str(for_s)}, SILENCE_S) as answer,
            path.open("xb") as file,
            Bar("Recording", for_s) as bar,
        ):
            return _Copy(file, bar).run(answer)
    except FileExistsError:
        raise WatchdogError(f"{path} exists. Name another file with --out, or remove it.") from None
    except OSError as error:
        raise WatchdogError(f"{path} cannot be written: {error.strerror or error}.") from None


class _Copy:
    """Whole lines only, and a last one, however the stream ends."""

    def __init__(self, file: BinaryIO, bar: Bar) -> None:
        self._file = file
        self._bar = bar
        self._began = time.monotonic()
        self._lines = 0
        self._last = b""

    def run(self, answer: httpx.Response) -> int:
        rest = b""
        try:
            for chunk in answer.iter_bytes():
                whole, newline, rest = (rest + chunk).rpartition(b"\n")
                if newline:
                    self._write(whole + newline)
        except KeyboardInterrupt:
            self._close("stopped")
            return self._lines
        except httpx.HTTPError as error:
            self._close("the connection was lost")
            raise DaemonError(
                f"The stream broke off after {self._lines} lines: {str(error) or type(error).__name__}."
            ) from None
        if not self._ended():
            self._close("the stream ended")
            raise DaemonError(f"The stream ended early, after {self._lines} lines.")
        return self._lines

    def _write(self, lines: bytes) -> None:
        self._file.write(lines)
        # Whoever looks at it, or ends this process, finds what has come so far.
        self._file.flush()
        self._lines += lines.count(b"\n")
        self._bar.at(time.monotonic() - self._began, f"Recording, {self._lines} lines")
        self._last = lines.rstrip(b"\n").rpartition(b"\n")[2]

    def _ended(self) -> bool:
        return bool(self._last) and json.loads(self._last).get("kind") == "end"

    def _close(self, why: str) -> None:
        if not self._ended():
            at = json.loads(self._last).get("t", 0.0) if self._last else 0.0
            self._write(json.dumps({"kind": "end", "t": at, "complete": False, "why": why}).encode() + b"\n")
