"""The canary: calls this daemon through its own public address, and stops the clock while no call comes back.

When a call counts as lost, and when the canary itself is not believed, is in `core/canary.py`; what it says is in
`ingest/canary.py`. Here are the HTTP client, the count of heartbeats, and what people are told.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx
import structlog

from watchdog.connect.circuit import Problem
from watchdog.core import canary as rules_of
from watchdog.core.canary import CanaryRules
from watchdog.core.clock import Cause
from watchdog.core.model import Epoch
from watchdog.errors import NotAnswered
from watchdog.ingest import canary as message
from watchdog.ingest.auth import Tickets
from watchdog.ingest.heartbeat import ONE
from watchdog.outgoing import Caller

MAX_ANSWER = 4096
"""Bytes read of an answer; a real one has about 130."""

log = structlog.stdlib.get_logger(__name__)


class Canary:
    """Calls and remembers what became of it."""

    def __init__(
        self,
        url: str,
        rules: CanaryRules,
        tickets: Tickets,
        *,
        beats: Callable[[], int],
        sessions: Callable[[], int],
        epoch: Callable[[], Epoch],
        time: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is called before the first `step`.

        Args:
            url: CANARY_URL: where clients reach this daemon, without the path of a heartbeat.
            rules: When to call and what to make of it.
            tickets: Sign.
            beats: Heartbeats accepted since the start.
            sessions: Sessions with a lease.
            epoch: The wall clock.
            time: The loop's clock.
            transport: In place of sockets.
        """
        self.rules = rules
        self._url = url.rstrip("/") + ONE
        self._tickets = tickets
        self._beats = beats
        self._sessions = sessions
        self._epoch = epoch
        self._time = time
        self._calls = rules_of.heard(time())
        self._why = "No call has come back yet."
        # Accepted heartbeats since the first call of a row was lost: when, and the total then.
        self._counts: deque[tuple[float, int]] = deque()
        self._beating = False
        self._problem: Problem | None = None
        # The way of the clients, not that of the calls to AWS: no proxy. A connection for each call.
        self._caller = Caller(rules.timeout_s, proxies=False, keep=False, transport=transport)

    async def step(self) -> None:
        """Calls once, and waits for the answer or the time-out."""
        began_at, beats = self._time(), self._beats()
        try:
            await self._call()
        except NotAnswered as error:
            self._why = str(error)
            self._calls = rules_of.lost(self._calls, began_at)
            self._beating = self._count(began_at, beats)
        else:
            self._calls = rules_of.heard(self._time())
            self._counts.clear()
            self._beating = False
        self.blind()

    def blind(self) -> Cause | None:
        """Why no heartbeat can be heard at present, or None. Tells when that begins and ends."""
        now = self._time()
        if not rules_of.failing(self._calls, self.rules, now):
            self._tell(None, "")
            return None
        if self._beating:
            self._tell(
                "canary_disbelieved",
                "The daemon does not reach itself through WATCHDOG_CANARY_URL, but heartbeats come in, so the clock "
                f"goes on. Check the address. {self._why}",
            )
            return None
        detail = (
            "The daemon does not reach itself through WATCHDOG_CANARY_URL, so neither may clients: the clock stands. "
            f"Check the load balancer, the certificate and DNS in front of it. {self._why}"
        )
        self._tell("canary_failing", detail)
        return Cause.CANARY

    def problems(self) -> list[Problem]:
        """That it fails, or is not believed."""
        return [] if self._problem is None else [self._problem]

    def told(self) -> dict[str, Any]:
        """For `/v1/status`."""
        return {
            "state": "ok" if self._problem is None else self._problem.code.removeprefix("canary_"),
            "failures": self._calls.failures,
            "last_success_s_ago": round(self._time() - self._calls.heard_at, 3),
        }

    async def close(self) -> None:
        """Lets the client go."""
        await self._caller.close()

    def _count(self, began_at: float, beats: int) -> bool:
        """Whether heartbeats come in all the same, counted since the first call was lost, but not of long ago."""
        self._counts.append((began_at, beats))
        now = self._time()
        keep_s = max(self.rules.interval_s, self.rules.silence_s)
        while len(self._counts) > 1 and self._counts[1][0] <= now - keep_s:
            self._counts.popleft()
        since, before = self._counts[0]
        return rules_of.beating(self._beats() - before, self._sessions(), now - since, self.rules)

    async def _call(self) -> None:
        nonce = secrets.token_bytes(message.NONCE_BYTES)
        said = message.call(self._tickets, nonce, self._epoch())
        headers = {"content-type": "application/json"}
        answer = await self._caller.ask("POST", self._url, content=said, headers=headers, limit=MAX_ANSWER)
        if answer.status != httpx.codes.OK:
            raise NotAnswered(f"The answer has the status {answer.status}.")
        if not answer.whole or not message.is_answer(answer.body, self._tickets, nonce, self._epoch()):
            raise NotAnswered("Somebody answers who is not this deployment.")

    def _tell(self, code: str | None, detail: str) -> None:
        before = self._problem
        if code is None:
            if before is not None:
                self._problem = None
                log.info("canary.back", after_s=round(self._epoch() - before.since, 3))
            return
        if before is not None and before.code == code:
            return
        self._problem = Problem(code, detail, before.since if before is not None else self._epoch())
        if code == "canary_failing":
            log.warning("canary.failed", reason=self._why)
        else:
            log.warning("canary.disbelieved", reason=self._why)
