"""The load of a large contact centre: everybody beats once in ten seconds, over keep-alive connections."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import uvloop

from tests.benchmarks.clients import Session, say_hello
from tests.benchmarks.lines import Line
from tests.benchmarks.machine import DISTURBED, Watch, allow_files
from tests.benchmarks.processes import LONG_TTL, LOOPBACK, Bench, Daemon
from tests.benchmarks.results import BenchmarkError, Measurement, Result, percentile, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "Everybody at their interval"
INTERVAL_S = 10.0
STEP_S = 0.01
"""Between looks at who has to beat."""

TARGET_SHARE, TARGET_LAG_S = 40.0, 0.01
HELLO_CONNECTIONS = 2_000
FIRST_SEQ = 1_000_000


class Beats:
    """What is sent, and what came of it."""

    def __init__(
        self, sessions: Sequence[Session], port: int, first_seq: int = FIRST_SEQ, interval_s: float = INTERVAL_S
    ) -> None:
        self._requests = [_request(each, port) for each in sessions]
        self._first_seq = first_seq
        self._interval_s = interval_s
        self.answers_s: list[float] = []
        self.wrong: list[bytes] = []
        self.late_s = 0.0

    def answered(self, answer: bytes, took_s: float) -> None:
        """Looks at an answer."""
        self.answers_s.append(took_s)
        if not answer.startswith(b"HTTP/1.1 200 ") or b'"state":"live"' not in answer:
            self.wrong.append(answer)

    async def play(self, port: int, connections: int, seconds: float) -> None:
        """Everybody beats for so long, evenly spread."""
        loop, requests = asyncio.get_running_loop(), self._requests
        lines = [await Line.open(port, number, self.answered) for number in range(connections)]
        began, sent = loop.time(), 0
        while (passed_s := loop.time() - began) < seconds:
            for number in range(sent, int(passed_s / self._interval_s * len(requests))):
                turn, index = divmod(number, len(requests))
                head, tail = requests[index]
                lines[index % connections].send(b"%b%d%b" % (head, self._first_seq + turn, tail))
                sent += 1
            at = loop.time() + STEP_S
            await asyncio.sleep(STEP_S)
            self.late_s = max(self.late_s, loop.time() - at)
        await asyncio.sleep(1)
        broken = [line.lost for line in lines if line.lost is not None]
        for line in lines:
            line.close()
        if broken or self.wrong or len(self.answers_s) != sent:
            raise BenchmarkError(
                f"Of {sent} beats {len(self.answers_s)} were answered, {len(self.wrong)} not as live "
                f"({self.wrong[:1]}), and {len(broken)} connections broke ({broken[:1]})."
            )


def measure(bench: Bench) -> Measurement:
    """Opens the sessions, and lets them beat."""
    scale = bench.scale
    allow_files(HELLO_CONNECTIONS + scale.many_connections + 1_000)
    sessions = [Session() for _ in range(scale.interval_agents)]
    settings = {**LONG_TTL, "WATCHDOG_MAX_AGENTS": "1000000"}
    with Daemon(bench, bench.folder / "interval", **settings) as daemon:
        daemon.ready()
        uvloop.run(say_hello(daemon.port, sessions, HELLO_CONNECTIONS))
        beats = Beats(sessions, daemon.port)
        bench.patience.wait()
        before, watch = daemon.metrics(), Watch(bench.cores, [daemon.pid])
        uvloop.run(beats.play(daemon.port, scale.many_connections, scale.interval_s))
        watch.stop()
        after = daemon.metrics()
        daemon.stop()
    share, per_s = watch.shares[0], len(beats.answers_s) / watch.elapsed_s
    results = (
        Result("core used by the daemon", "%", 100 * share, digits=1, at_most=TARGET_SHARE),
        Result("beats: per CPU second", "", per_s / share),
        Result(
            "loop lag, p99",
            "s",
            quantile(before, after, "watchdog_loop_lag_seconds", 0.99),
            digits=3,
            at_most=TARGET_LAG_S,
        ),
        Result("answer to a beat, p99", "ms", 1e3 * percentile(beats.answers_s, 99), digits=1),
        Result("beats", "/s", per_s),
    )
    method = (
        f"{scale.interval_agents:,} agents beat every {INTERVAL_S:g} s over {scale.many_connections:,} keep-alive "
        f"connections of one process on the other core, for {scale.interval_s:g} s, each with its ticket; SQLite on "
        "disk. Every answer was `live`. Loop lag is how late the daemon's own steps were (flush, sweep and pulse, "
        "20 a second); p99 is the bound of its bucket in the metric."
    )
    remarks = [f"The load was sent at most {1e3 * beats.late_s:.0f} ms late."]
    if watch.foreign >= DISTURBED:
        remarks.append(f"Other programs used up to {watch.foreign:.0%} of a core meanwhile.")
    return Measurement(TITLE, method, results, tuple(remarks))


def _request(session: Session, port: int) -> tuple[bytes, bytes]:
    """A beat without its `seq`, which has seven digits."""
    body = json.dumps(session.message(ticket=session.ticket, seq=FIRST_SEQ), separators=(",", ":")).encode()
    head = (
        f"POST /v1/heartbeat HTTP/1.1\r\nhost: {LOOPBACK}:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
    first, _, rest = body.partition(b"%d" % FIRST_SEQ)
    return head + first, rest
