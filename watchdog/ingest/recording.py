"""Recordings: heartbeats and outcomes as they come, without names, for `watchdog replay`.

A recording is a stream to one operator. Nothing of it is kept here but the lines that wait to be sent, and the numbers
given to agents and sessions, which are new in each recording. Whoever reads too slowly loses lines and is told how
many: heartbeats wait for nobody. Times are those of the observed clock, by which all deadlines are.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import orjson

from watchdog.core.model import Action, AgentId, Beat
from watchdog.errors import MessageError

FORMAT = "watchdog.recording"
VERSION = 1

MAX_S = 86_400.0
"""Longest recording."""

MAX_AT_ONCE = 2
"""Recordings that may run: one more than is needed, so that a forgotten one is in nobody's way."""

MAX_WAITING = 20_000
"""Lines that may wait to be sent: 2 MB, a second of the busiest site."""

MAX_NUMBERS = 500_000
"""Sessions that a recording can tell apart: 50 MB. Then it ends."""

TELL_S = 10.0
"""Longest time without a line, so that both sides see that the other is there."""

GATHER_S = 0.1
"""Lines of such a time are sent together."""


class Recording:
    """One recording."""

    def __init__(self, head: Mapping[str, object], for_s: float, clock: Callable[[], float]) -> None:
        self._head = head
        self._for_s = for_s
        self._clock = clock
        self._began = clock()
        self._agents: dict[AgentId, int] = {}
        self._sessions: dict[bytes, int] = {}
        self._waiting: list[bytes] = []
        self._lost = 0
        self._why_ended: str | None = None
        self._stir = asyncio.Event()

    def heartbeat(self, beat: Beat, gap_ms: float | None) -> None:
        """An accepted heartbeat."""
        session = self._sessions.get(beat.session_id)
        if session is None:
            if len(self._sessions) >= MAX_NUMBERS:
                self.end("too many sessions")
                return
            session = self._sessions[beat.session_id] = len(self._sessions) + 1
        line: dict[str, object] = {
            "kind": beat.type.value,
            "a": self._number(beat.agent),
            "s": session,
            "i": beat.incarnation,
            "lease": _lease(beat),
        }
        if beat.seq is not None:
            line["q"] = beat.seq
        if gap_ms is not None:
            line["gap_ms"] = gap_ms
        self._add(line)

    def action(self, action: Action) -> None:
        """A decision, with what became of it."""
        self._add(
            {
                "kind": "action",
                "a": self._number(action.agent),
                "intent": action.intent.value,
                "outcome": action.outcome.value,
                "calls": action.calls,
                "latency_s": round(action.latency_s, 3),
            }
        )

    def end(self, why: str) -> None:
        """Ends it before its time."""
        self._why_ended = self._why_ended or why
        self._stir.set()

    async def lines(self) -> AsyncIterator[bytes]:
        """What to send: whole lines."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._for_s
        yield _line({"format": FORMAT, "version": VERSION, **self._head})
        while self._why_ended is None and loop.time() < until:
            try:
                async with asyncio.timeout(min(TELL_S, until - loop.time())):
                    await self._stir.wait()
            except TimeoutError:
                self._add({"kind": "time"})
            else:
                await asyncio.sleep(GATHER_S)
            yield self._take()
        why = self._why_ended
        end = {"kind": "end", "t": self._time(), "complete": why is None}
        yield self._take() + _line(end if why is None else {**end, "why": why})

    def _add(self, line: dict[str, object]) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            return
        if self._lost:
            self._waiting.append(_line({"kind": "lost", "t": self._time(), "lines": self._lost}))
            self._lost = 0
        self._waiting.append(_line({"t": self._time(), **line}))
        self._stir.set()

    def _take(self) -> bytes:
        taken, self._waiting = b"".join(self._waiting), []
        if self._lost:
            taken += _line({"kind": "lost", "t": self._time(), "lines": self._lost})
            self._lost = 0
        self._stir.clear()
        return taken

    def _number(self, agent: AgentId) -> int:
        return self._agents.setdefault(agent, len(self._agents) + 1)

    def _time(self) -> float:
        return round(max(0.0, self._clock() - self._began), 3)


class Recordings:
    """Those that run.

    Attributes:
        running: None of them while it is empty; then nobody need be told anything.
    """

    def __init__(self, settings: Mapping[str, object], clock: Callable[[], float | None]) -> None:
        """Starts without one.

        Args:
            settings: Shown in the first line: numbers only, no secrets and no names.
            clock: The observed clock; None before the first tick.
        """
        self.running: list[Recording] = []
        self._settings = dict(settings)
        self._clock = clock
        self._closed = False

    def heartbeat(self, beat: Beat, gap_ms: float | None) -> None:
        """Gives an accepted heartbeat to all."""
        for each in self.running:
            each.heartbeat(beat, gap_ms)

    def action(self, action: Action) -> None:
        """Sink: gives a decision to all."""
        for each in self.running:
            each.action(action)

    def open(self, for_s: float) -> AsyncIterator[bytes]:
        """Begins a recording of so many seconds, which runs while it is read.

        Raises:
            MessageError: 409 when as many run as may, 503 while there is no clock.
        """
        if self._closed or self._clock() is None:
            raise MessageError(503, "Service Unavailable", "The daemon starts or stops. Try again in some seconds.")
        if len(self.running) >= MAX_AT_ONCE:
            raise MessageError(409, "Conflict", f"{MAX_AT_ONCE} recordings run already. Stop one of them first.")
        return self._run(Recording({"for_s": for_s, "settings": self._settings}, for_s, lambda: self._clock() or 0.0))

    def close(self) -> None:
        """Ends all, and begins none any more: the daemon stops."""
        self._closed = True
        for each in self.running:
            each.end("the daemon stopped")

    async def _run(self, recording: Recording) -> AsyncIterator[bytes]:
        if len(self.running) >= MAX_AT_ONCE:
            # Others were asked for at the same moment.
            recording.end(f"{MAX_AT_ONCE} recordings run already")
        self.running.append(recording)
        try:
            async for lines in recording.lines():
                yield lines
        finally:
            self.running.remove(recording)


def _lease(beat: Beat) -> str | None:
    if beat.ttl is None:
        return None
    return "throttled" if beat.hidden and beat.main_driver else "session"


def _line(values: Mapping[str, object]) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)
