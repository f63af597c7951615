"""Reads the files that `watchdog record` writes, line by line: nothing is trusted, and nothing is kept.

The format is in docs/timers.md; `watchdog.ingest.recording` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import orjson

from watchdog.core.model import BeatType
from watchdog.errors import RecordingError
from watchdog.ingest.recording import FORMAT, VERSION

MAX_LINE = 4096
"""Bytes of a line; a real one has about 80."""

MAX_TIME_S = 8 * 86_400.0
"""Latest time in a recording, which may be a day long. A wrong one would keep a replay busy for ever."""

MAX_NUMBER = 10_000_000
"""Highest number of an agent or session."""

LEAST = 0.01
"""Of a setting that is divided by."""

_NAME = re.compile(r"[a-z_]{1,40}")

_BEATS = frozenset(kind.value for kind in BeatType)
_LEASES = frozenset({"session", "throttled", None})


@dataclass(frozen=True, slots=True)
class Head:
    """What was in force. Times in seconds."""

    timer_s: float
    ttl_s: float
    throttled_ttl_s: float
    interval_s: float
    rate: float


@dataclass(frozen=True, slots=True)
class Heard:
    """An accepted heartbeat.

    Attributes:
        at: Observed seconds since the beginning.
        agent: Its number.
        session: Its number.
        type: hello, beat or bye.
        incarnation: The page's own number.
        seq: The client's running number; None from one that does not count.
        lease: `session` or `throttled`, whichever TTL it has; None for one that does not renew.
        gap_s: For how long the client's timer did not run; None where it does not tell.
    """

    at: float
    agent: int
    session: int
    type: BeatType
    incarnation: int
    seq: int | None
    lease: str | None
    gap_s: float | None


@dataclass(frozen=True, slots=True)
class Done:
    """A decision of the daemon that was recorded."""

    at: float
    agent: int
    outcome: str
    calls: int


@dataclass(frozen=True, slots=True)
class Passed:
    """Time has passed.

    Attributes:
        at: Until then.
        lost: Lines that could not be recorded.
    """

    at: float
    lost: int = 0


Line = Heard | Done | Passed


class Recorded:
    """A file that is read once."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Reads the first line.

        Raises:
            RecordingError: It is none of a recording.
        """
        self._path = path
        self._file = file
        self._number = 0
        self.head = self._read_head()

    def lines(self) -> Iterator[Line]:
        """All other lines, in order.

        Raises:
            RecordingError: One of them is damaged, or the last one is missing.
        """
        before = 0.0
        while (values := self._next()) is not None:
            at = self._float(values, "t", MAX_TIME_S)
            if at < before:
                self._refuse("its time is earlier than that of the line before")
            before = at
            kind = values.get("kind")
            if kind == "end":
                if self._next() is not None:
                    self._refuse("something follows the last line of the recording")
                yield Passed(at)
                return
            yield self._read(kind, at, values)
        self._number += 1
        self._refuse(
            'the last line, of kind "end", is missing: the file was cut off. Copy it again; if there is no more of it, '
            f'append {{"kind":"end","t":{before:g},"complete":false}} as a line of its own'
        )

    def _read(self, kind: object, at: float, values: dict[str, Any]) -> Line:
        if isinstance(kind, str) and kind in _BEATS:
            lease = values.get("lease")
            if (lease is not None and not isinstance(lease, str)) or lease not in _LEASES:
                self._refuse('`lease` is neither "session" nor "throttled" nor null')
            return Heard(
                at,
                self._int(values, "a", 1),
                self._int(values, "s", 1),
                BeatType(kind),
                self._int(values, "i", 0, 2**31),
                self._int(values, "q", 0, 2**53) if "q" in values else None,
                lease,
                self._float(values, "gap_ms", 1e15) / 1000 if "gap_ms" in values else None,
            )
        if kind == "action":
            outcome = values.get("outcome")
            if not isinstance(outcome, str) or not _NAME.fullmatch(outcome):
                self._refuse("`outcome` is not a name")
            return Done(at, self._int(values, "a", 1), outcome, self._int(values, "calls", 0))
        if kind == "lost":
            return Passed(at, self._int(values, "lines", 1))
        if kind != "time":
            self._refuse("its `kind` is not known")
        return Passed(at)

    def _read_head(self) -> Head:
        values = self._next()
        if values is None or values.get("format") != FORMAT:
            self._number = 1
            self._refuse(f'it does not begin with {{"format":"{FORMAT}"…, so this is no recording of `watchdog record`')
        if values.get("version") != VERSION:
            self._refuse(f"this version reads recordings of version {VERSION} only. Use that which recorded it")
        settings = values.get("settings")
        if not isinstance(settings, dict):
            self._refuse("`settings` is missing")
        return Head(
            self._float(settings, "session_end_timer_s", 1e6),
            self._float(settings, "session_ttl_s", 1e6, LEAST),
            self._float(settings, "throttled_session_ttl_s", 1e6, LEAST),
            self._float(settings, "heartbeat_interval_s", 1e6, LEAST),
            self._float(settings, "connect_rate", 1e6, LEAST),
        )

    def _next(self) -> dict[str, Any] | None:
        """The next line; None after the last one."""
        try:
            line = self._file.readline(MAX_LINE + 1)
        except OSError as error:
            raise RecordingError(f"{self._path} cannot be read: {error.strerror or error}.") from None
        if not line:
            return None
        self._number += 1
        if len(line) > MAX_LINE:
            self._refuse(f"it has more than {MAX_LINE} bytes")
        if not line.endswith(b"\n"):
            self._refuse("it is cut off. Copy the file again, or take this line away")
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError:
            self._refuse("it is not valid JSON")
        if not isinstance(values, dict):
            self._refuse("it is not a JSON object")
        return values

    def _float(self, values: dict[str, Any], name: str, most: float, least: float = 0.0) -> float:
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self._refuse(f"`{name}` is not a number from {least:g} to {most:g}")
        return float(value)

    def _int(self, values: dict[str, Any], name: str, least: int, most: int = MAX_NUMBER) -> int:
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self._refuse(f"`{name}` is not a whole number from {least} to {most}")
        return value

    def _refuse(self, why: str) -> NoReturn:
        raise RecordingError(f"{self._path}, line {self._number}: {why}.")
