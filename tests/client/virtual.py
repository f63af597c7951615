"""A protocol on a clock of the tests' own: what it sends is listed, and answered by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from watchdog.client.model import Notice, Status
from watchdog.client.protocol import Answer, AskToken, Command, Dial, GiveUp, HangUp, Moment, Post, Presence, Send, Tell

LIVE = {"state": "live", "next_ms": 10_000, "ttl_ms": 35_000, "ticket": "t1", "boot": "b"}
OFFER = {**LIVE, "ws": True}
UNKNOWN = {"state": "unknown", "next_ms": 10_000}
STOP = {"state": "stop", "next_ms": 10_000}


@dataclass(frozen=True)
class Sent:
    """A message: when it was sent, its fields, its number if it was posted, else its socket."""

    at: float
    fields: dict[str, Any]
    number: int | None = None
    socket: int | None = None

    @property
    def brief(self) -> tuple[float, str, int]:
        return round(self.at, 3), self.fields["type"], self.fields["seq"]


class Virtual:
    """See above.

    Attributes:
        now, wall: The clocks, in seconds.
        chance: What is drawn.
        sent: Every message.
        given_up: Numbers of posts.
        dialled, hung_up: Sockets.
        asked: How often a token was asked for.
        told: Statuses and notices.
    """

    def __init__(self, **options: Any) -> None:
        self.now, self.wall, self.chance = 0.0, 1e9, 0.5
        self.sent: list[Sent] = []
        self.given_up: list[int] = []
        self.dialled: list[int] = []
        self.hung_up: list[int] = []
        self.asked = 0
        self.told: list[Status | Notice] = []
        self._looked = 0
        self.core = Presence({"agent": "arn:x"}, "s", chance=lambda: self.chance, **options)

    @property
    def at(self) -> Moment:
        return Moment(self.now, self.wall)

    def do(self, event: Any, *values: Any) -> None:
        event(*values, self.at)
        self._collect()

    def start(self) -> Virtual:
        self.do(self.core.start)
        return self

    def live(self, data: dict[str, Any] = LIVE) -> Virtual:
        """Its first hello was answered at once."""
        self.start()
        self.answer(data)
        self.look()
        return self

    def tethered(self) -> Virtual:
        """It beats over its socket since 100 ms."""
        self.live(OFFER)
        self.pass_(0.1)
        self.do(self.core.opened, 1)
        self.receive(LIVE)
        self.look()
        return self

    def pass_(self, seconds: float) -> None:
        """Time passes, and the driver looks when it is asked to."""
        end = self.now + seconds + 1e-9
        while self.core.wake_at_s <= end:
            self._advance(max(self.now, self.core.wake_at_s))
            self.do(self.core.tick)
        self._advance(end)

    def sleep(self, seconds: float, *, monotonic: bool = True) -> None:
        """Time passes, and nobody looks until it is over."""
        self.wall += seconds
        self.now += seconds if monotonic else 0.0
        self.do(self.core.tick)

    def answer(
        self, data: dict[str, Any] | None = None, status: int = 200, retry_s: float = 0.0, which: Sent | None = None
    ) -> None:
        self.do(self.core.answered, (which or self.posts[-1]).number, Answer(status, data or {}, retry_s))

    def fail(self, which: Sent | None = None) -> None:
        self.do(self.core.answered, (which or self.posts[-1]).number, None)

    def receive(self, data: Any, socket: int | None = None) -> None:
        self.do(self.core.received, socket or self.dialled[-1], json.dumps(data))

    @property
    def posts(self) -> list[Sent]:
        return [each for each in self.sent if each.number is not None]

    @property
    def state(self) -> str:
        return self.core.status.state.value

    def look(self) -> list[tuple[float, str, int]]:
        """What was sent since the last look."""
        found = [each.brief for each in self.sent[self._looked :]]
        self._looked = len(self.sent)
        return found

    def _advance(self, to: float) -> None:
        self.wall += to - self.now
        self.now = to

    def _collect(self) -> None:
        for command in self.core.take():
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Post(number, body):
                self.sent.append(Sent(self.now, json.loads(body), number=number))
            case Send(socket, body):
                self.sent.append(Sent(self.now, json.loads(body), socket=socket))
            case GiveUp(number):
                self.given_up.append(number)
            case Dial(socket):
                self.dialled.append(socket)
            case HangUp(socket):
                self.hung_up.append(socket)
            case AskToken():
                self.asked += 1
            case Tell(what):
                self.told.append(what)
