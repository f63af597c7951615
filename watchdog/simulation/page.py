"""One page, by the rules of docs/http.md, "How a client should behave": hellos, beats, retries, and a bye sent once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from watchdog.core.model import AgentId
from watchdog.simulation.network import Answered, Network, Route
from watchdog.simulation.retries import (
    BACKOFF_S,
    HELLO,
    LEAST_BACKOFF_S,
    ONE_HELLO,
    POST_TIMEOUT_S,
    RETRY_S,
    THROTTLED_COPIES,
    THROTTLED_S,
    HelloRule,
    backing_off,
)

THROTTLED = HelloRule(every_s=0.0, copies=THROTTLED_COPIES)


@dataclass(frozen=True, slots=True)
class Leases:
    """What the settings promise a page: its TTLs and its interval, in seconds."""

    ttl_s: float
    throttled_ttl_s: float
    interval_s: float


class Page:
    """One page load. `run` beats until it is cancelled.

    Attributes:
        session_id: A UUID.
        hidden: The browser throttles it, if its main thread beats.
        awake: Its machine is not asleep.
        sent: How many requests were sent.
        passed: The number of the latest of them that the network let through.
    """

    def __init__(
        self,
        agent: AgentId,
        session_id: str,
        *,
        network: Network,
        route: Callable[[Page], Route],
        leases: Leases,
        rng: random.Random,
        main_driver: bool,
    ) -> None:
        """Loads the page.

        Args:
            agent: Who looks at it.
            session_id: A UUID.
            network: Carries the requests.
            route: The way at this moment.
            leases: What the settings say.
            rng: All chance of the page.
            main_driver: Its main thread beats, not a worker.
        """
        self.agent = agent
        self.session_id = session_id
        self.hidden = False
        self.awake = asyncio.Event()
        self.awake.set()
        self.incarnation = 0
        self.sent = self.passed = 0
        self._network = network
        self._route = route
        self._leases = leases
        self._rng = rng
        self._main_driver = main_driver
        self._seq = 0
        self._ticket: str | None = None
        self._last: bytes = b""
        # The longest time for which its timers did not run since a beat was answered, and since when they do not.
        self._gap_s = 0.0
        self._stood_at: float | None = None
        self._nap_ends: asyncio.Future[None] | None = None

    @property
    def ttl_s(self) -> float:
        """For how long a beat sent now renews."""
        return self._leases.throttled_ttl_s if self.hidden and self._main_driver else self._leases.ttl_s

    def message(self, kind: str) -> bytes:
        """The next message of this page."""
        self._seq += 1
        fields = {
            "instance_id": self.agent.instance_id,
            "user_id": self.agent.user_id,
            "session_id": self.session_id,
            "type": kind,
            "incarnation": self.incarnation,
            "seq": self._seq,
            "visibility": "hidden" if self.hidden else "visible",
            "driver": "main" if self._main_driver else "worker",
            "gap_ms": round(self._gap_s * 1000),
        }
        if kind != "bye":
            fields["login"] = True
        if self._ticket is not None:
            fields["ticket"] = self._ticket
        body = orjson.dumps(fields)
        if kind != "bye":
            self._last = body
        return body

    async def run(self) -> None:
        """Beats for ever."""
        kind, loading, failing_since, failures = "hello", True, None, 0
        loop = asyncio.get_running_loop()
        while True:
            reply = await self._send(kind, self._rule(loading=loading))
            loading = False
            if reply is not None and reply.status == 200:
                failing_since = None
                self._gap_s = 0.0
                told = orjson.loads(reply.body)
                self._ticket = told.get("ticket", self._ticket)
                if told["state"] != "unknown":
                    kind, failures = "beat", 0
                    await self._nap(told["next_ms"] / 1000)
                    continue
                self.incarnation += 1
                self._ticket = None
                if kind == "beat":
                    kind, loading = "hello", True
                    continue
            failing_since = loop.time() if failing_since is None else failing_since
            failures += 1
            await self._nap(self._retry_after(reply, loop.time() - failing_since, failures))

    def _rule(self, *, loading: bool) -> HelloRule:
        """How the next message is sent."""
        if self.hidden and self._main_driver:
            return THROTTLED
        return HELLO if loading else ONE_HELLO

    async def _send(self, kind: str, rule: HelloRule) -> Answered | None:
        """Sends a message, in copies, until one is answered. Returns the first answer; None when none came in time."""
        loop = asyncio.get_running_loop()
        first: asyncio.Future[Answered | None] = loop.create_future()

        def answered(copy: asyncio.Future[Answered | None]) -> None:
            reply = copy.result()
            if reply is not None and not first.done():
                first.set_result(reply)

        for number in range(1, rule.copies + 1):
            await self.awake.wait()
            copy = self._network.ask(self._route(self), self.message(kind), POST_TIMEOUT_S)
            copy.add_done_callback(answered)
            if number == rule.copies:
                # The earlier ones are not waited for when this one fails; they are answered or time out before.
                await asyncio.wait((first, copy), return_when=asyncio.FIRST_COMPLETED)
            elif rule.every_s > 0:
                await asyncio.wait([first], timeout=rule.every_s)
            if first.done():
                return first.result()
        return None

    def _retry_after(self, reply: Answered | None, failing_for_s: float, failures: int) -> float:
        if reply is not None and reply.retry_after_s:
            return reply.retry_after_s
        if backing_off(failing_for_s):
            return max(LEAST_BACKOFF_S, self._rng.random() * min(BACKOFF_S, 2.0 ** min(failures, 10)))
        return self._rng.uniform(*RETRY_S)

    async def _nap(self, seconds: float) -> None:
        """Waits; longer while timers are throttled, and until the machine wakes."""
        if self.hidden and self._main_driver:
            seconds = max(seconds, THROTTLED_S)
            self._gap_s = max(self._gap_s, THROTTLED_S)
        self._nap_ends = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(seconds, self._stir)
        try:
            await self._nap_ends
        finally:
            timer.cancel()
        await self.awake.wait()

    def _stir(self) -> None:
        if self._nap_ends is not None and not self._nap_ends.done():
            self._nap_ends.set_result(None)

    def look(self, *, hidden: bool) -> None:
        """The person hides the page or looks at it; a visible one beats at once."""
        self.hidden = hidden
        self._stir()

    def asleep(self, *, asleep: bool) -> None:
        """The machine sleeps or wakes; a page that wakes beats at once."""
        now = asyncio.get_running_loop().time()
        if asleep:
            self.awake.clear()
            self._stood_at = now if self._stood_at is None else self._stood_at
        else:
            if self._stood_at is not None:
                self._gap_s, self._stood_at = max(self._gap_s, now - self._stood_at), None
            self.awake.set()
            self._stir()

    def bye(self) -> bool:
        """Sends the bye, once. False: without a ticket there is none to send."""
        if self._ticket is None:
            return False
        self._network.post(self._route(self), self.message("bye"))
        return True

    def cached(self) -> None:
        """Comes back from the back-forward cache."""
        self.incarnation += 1
        self._ticket = None

    def replay(self, route: Route) -> None:
        """A broken proxy sends the page's last beat again."""
        if self._last:
            self._network.post(route, self._last)
