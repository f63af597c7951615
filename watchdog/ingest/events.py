"""`GET /v1/events`: what happens, as it happens, as server-sent events.

One producer makes each event once, for all who read. A client has a queue of its own, and one that does not read is cut
off: neither the producer nor the other clients ever wait for it. Nothing is decided here.

Source: the HTML standard, "Server-sent events".
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import islice
from typing import Any

import orjson

from watchdog.core.model import Action, Epoch
from watchdog.errors import MessageError
from watchdog.ingest.views import action_out

MAX_CLIENTS = 32
"""Streams at once: some for each person of a large team."""

MAX_WAITING = 256
"""Events that wait for one client. More than that it does not read."""

STEP_S = 0.25
"""Between looks at what has happened."""

LOOK_S = 1.0
"""Least time between two of the same topic."""

SAMPLE_S = 5.0
"""Between samples of the numbers, which a new client is given for its charts."""

SAMPLES = 720
"""An hour of them: 35 kB."""

KEPT = 200
"""Actions that a client may have missed and is told after it comes back."""

ACTIONS_A_STEP = 50
"""Most actions told in a step; of more, only how many there were."""

COMMENT_S = 10.0
"""Longest silence: whoever hears nothing for longer has lost the stream."""

STREAM_S = 3600.0
"""Longest stream. After that the client comes again and shows its token anew."""

RETRY_MS = 1000
"""What a client waits at least before it comes back."""

_COMMENT = b":\n\n"


class _Client:
    """One that reads."""

    __slots__ = ("over", "stir", "waiting")

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.stir = asyncio.Event()
        self.over = False

    def give(self, frames: list[bytes]) -> None:
        """Adds events, or ends the stream when too many wait already."""
        if len(self.waiting) + len(frames) > MAX_WAITING:
            self.end()
            return
        self.waiting += frames
        self.stir.set()

    def end(self) -> None:
        """Nothing more is sent."""
        self.over = True
        self.waiting = []
        self.stir.set()

    def take(self) -> bytes:
        """What waits."""
        taken, self.waiting = b"".join(self.waiting), []
        self.stir.clear()
        return taken


class Events:
    """The producer and its clients."""

    def __init__(
        self,
        boot: str,
        version: str,
        *,
        look: Callable[[], Mapping[str, Any]],
        sample: Callable[[], Mapping[str, float]],
        epoch: Callable[[], Epoch],
        time: Callable[[], float],
    ) -> None:
        """Starts without clients.

        Args:
            boot: This process' own text, without a `-`; part of each event's id.
            version: Of the distribution.
            look: JSON values by topic, from memory: each is an event when it differs from the last.
            sample: Numbers for the charts, from memory; always the same names.
            epoch: The wall clock.
            time: The loop's clock.
        """
        self._boot = boot
        self._version = version
        self._look = look
        self._numbers = sample
        self._epoch = epoch
        self._time = time
        self._clients: set[_Client] = set()
        self._told: dict[str, bytes] = {}
        self._looked_at = self._sampled_at = -LOOK_S
        self._samples: deque[tuple[float, ...]] = deque(maxlen=SAMPLES)
        self._recent: deque[tuple[int, Action]] = deque(maxlen=KEPT)
        self._number = self._through = 0
        self._closed = False

    def action(self, action: Action) -> None:
        """Sink: a decision, told with the next step."""
        self._number += 1
        self._recent.append((self._number, action))

    def open(self, last_id: str) -> AsyncIterator[bytes]:
        """Begins a stream.

        Args:
            last_id: Id of the last event that the client had; empty for none.

        Raises:
            MessageError: 503 when as many read as may, or the daemon stops.
        """
        if self._closed:
            raise MessageError(503, "Service Unavailable", "The daemon stops. Try again in some seconds.")
        if len(self._clients) >= MAX_CLIENTS:
            raise MessageError(
                503, "Service Unavailable", f"{MAX_CLIENTS} streams of events are open already. Close one, or poll."
            )
        return self._run(last_id)

    def close(self) -> None:
        """Ends all streams, and begins none any more: the daemon stops."""
        self._closed = True
        for client in self._clients:
            client.end()

    async def step(self) -> None:
        """Gives what is new to all clients; to be called every `STEP_S`."""
        now = self._time()
        if now - self._sampled_at >= SAMPLE_S:
            self._sampled_at = now
            self._samples.append((round(self._epoch(), 1), *self._numbers().values()))
        if not self._clients:
            self._through = self._number
            return
        frames = self._new_actions()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            frames += self._changed_topics()
        if frames:
            for client in list(self._clients):
                client.give(frames)
                if client.over:
                    self._clients.discard(client)

    def _new_actions(self) -> list[bytes]:
        new, self._through = self._number - self._through, self._number
        told = min(new, ACTIONS_A_STEP)
        frames = [_frame("lost", {"actions": new - told})] if new > told else []
        return frames + [self._of_action(*each) for each in islice(self._recent, len(self._recent) - told, None)]

    def _changed_topics(self) -> list[bytes]:
        frames: list[bytes] = []
        for topic, values in self._look().items():
            frame = _frame(topic, values)
            if self._told.get(topic) != frame:
                self._told[topic] = frame
                frames.append(frame)
        return frames

    def _of_action(self, number: int, action: Action) -> bytes:
        return _frame("action", action_out(action).model_dump(mode="json"), f"{self._boot}-{number}")

    async def _run(self, last_id: str) -> AsyncIterator[bytes]:
        client = _Client()
        if self._closed or len(self._clients) >= MAX_CLIENTS:
            return  # others came at the same moment
        self._clients.add(client)
        try:
            until = self._time() + STREAM_S
            yield self._welcome(last_id)
            while not client.over and self._time() < until:
                try:
                    async with asyncio.timeout(COMMENT_S):
                        await client.stir.wait()
                except TimeoutError:
                    yield _COMMENT
                else:
                    yield client.take()
        finally:
            self._clients.discard(client)

    def _welcome(self, last_id: str) -> bytes:
        """Everything as it is now, and what the client has missed."""
        series = {"fields": ["at", *self._numbers()], "every_s": SAMPLE_S, "samples": list(self._samples)}
        hello = {"boot": self._boot, "version": self._version, "at": self._epoch(), "series": series}
        frames = [b"retry: %d\n" % RETRY_MS, _frame("hello", hello)]
        frames += [_frame(topic, values) for topic, values in self._look().items()]
        # The place of whoever was told no action yet. Source: an event without data sets the last id, and is not told.
        place = b"id: %s-%d\n\n" % (self._boot.encode(), self._through)
        return b"".join([*frames, *self._missed(last_id), place])

    def _missed(self, last_id: str) -> list[bytes]:
        """Actions after that one; or that nobody knows which, so that the client reads the history anew."""
        if not last_id:
            return []
        boot, _, number = last_id.partition("-")
        known = boot == self._boot and number.isascii() and number.isdigit() and int(number[:20]) <= self._number
        missed = [each for each in self._recent if known and int(number[:20]) < each[0] <= self._through]
        if not known or len(missed) < self._through - int(number[:20]):
            return [_frame("reset", {})]
        return [self._of_action(*each) for each in missed]


def _frame(event: str, values: object, number: str | None = None) -> bytes:
    of = b"" if number is None else b"id: %s\n" % number.encode()
    return b"%sevent: %s\ndata: %s\n\n" % (of, event.encode(), orjson.dumps(values))
