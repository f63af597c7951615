"""The register of a deployment's daemons, on its Valkey or Redis server: who they are, and how each is doing.

Each tells at every tick whether all that it has accepted is stored, and is told the same of all others, with the one
clock. Ages are told by the server; no two machines' clocks are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from watchdog.core.clock import Cause
from watchdog.stores.fenced import LEASE_S, Part

if TYPE_CHECKING:
    from watchdog.stores.part_reads import Server

REPLICAS, META, PART = "{wd:all}:replicas", "{wd:all}:meta", "{wd:all}:part"

HEARD_S = 2.0
"""A daemon whose last report is older than this is not heard of: the clock stands."""

UNHEARD_MS = int(HEARD_S * 1000) + 1
"""So old is a report of which nobody knows how old it is, since the server's time was set back."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A daemon as the register knows it.

    Attributes:
        name: Its own name.
        age_s: Seconds since its last report.
        told: What that was.
    """

    name: str
    age_s: float
    told: Mapping[str, Any]

    @property
    def heard(self) -> bool:
        """Whether it is there."""
        return self.age_s <= HEARD_S

    @property
    def blind(self) -> Cause | None:
        """Why the clock must not go on, as far as this one is concerned."""
        if not self.heard:
            return Cause.REPLICA
        cause = self.told.get("blind")
        try:
            return None if cause is None else Cause(cause)
        except ValueError:
            return Cause.REPLICA  # of a newer version


class Owner(NamedTuple):
    """Who has a part.

    Attributes:
        name: Who had it last; None where the server knows of none.
        ended: Whoever it was has it no more.
        ahead: It ends later than any lease does: the server's time was set back. Whoever tries to take it ends it in
            time, unless its owner renews it.
    """

    name: str | None
    ended: bool
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What the register tells.

    Attributes:
        now_ms: The server's clock.
        noted_s: Seconds since the clock was published; None where there is none, or nobody knows.
        keeper: Who has the part of all.
        left_s: For how long, seconds; 0 or less when nobody has it any more.
        clock: The clock as it was published; empty where there is none.
        shared: What the keeper tells besides; empty where there is none.
        entries: All daemons, this one included.
    """

    now_ms: int
    noted_s: float | None
    keeper: str
    left_s: float
    clock: bytes
    shared: bytes
    entries: Sequence[Entry]

    @property
    def ended(self) -> bool:
        """Whether the part of all is to be taken: it is nobody's, or ends later than any lease does (see `Owner`)."""
        return not 0 < self.left_s <= LEASE_S


class Register:
    """One daemon's way to the register. Every method may raise `StoreUnavailable`.

    Attributes:
        joined: It is registered, as far as it knows.
        reported_at: When the last report was sent that came through, by `time`.
    """

    def __init__(self, server: Server, name: str, time: Callable[[], float]) -> None:
        self.joined = False
        self.reported_at = float("-inf")
        self._server = server
        self._name = name
        self._time = time
        self._server_s = 0.0
        self._answered_at = float("-inf")

    @property
    def fresh(self) -> bool:
        """Whether it is registered for sure: nobody has dropped it yet."""
        return self.joined and self._time() - self.reported_at < HEARD_S

    def server_ms(self) -> float:
        """The server's clock: not later than so, and an answer's time earlier at most."""
        return (self._server_s + (self._time() - self.reported_at)) * 1000

    def age_s(self, stamp_ms: float) -> float:
        """How long ago the server's clock was there: at most so long, and an answer's time less at least."""
        return (self.server_ms() - stamp_ms) / 1000

    def server_least_ms(self, ago_s: float) -> float | None:
        """The server's clock so long ago: at least so late, an answer's time later at most; None before a report."""
        if self._answered_at == float("-inf"):
            return None
        return 1000 * (self._server_s + (self._time() - ago_s - self._answered_at))

    async def report(self, told: Mapping[str, Any]) -> Report | None:
        """Tells how this one does, and registers it unless it was registered before.

        Returns:
            What the register tells; None when this one was registered and is no more.
        """
        at = self._time()
        (answer,) = await self._server.call(
            [("report", [REPLICAS, META, PART], [self._name, int(self.joined), orjson.dumps(told), UNHEARD_MS])]
        )
        if answer[0] == b"DROPPED":
            self.joined = False
            return None
        self.joined = True
        self.reported_at, self._server_s, self._answered_at = at, int(answer[1]) / 1000, self._time()
        found = answer[7:]
        return Report(
            now_ms=int(answer[1]),
            noted_s=None if int(answer[2]) < 0 else int(answer[2]) / 1000,
            left_s=int(answer[3]) / 1000,
            keeper=answer[4].decode(errors="replace"),
            clock=answer[5],
            shared=answer[6],
            entries=[
                Entry(name.decode(errors="replace"), int(age) / 1000, _told(text))
                for name, age, text in zip(found[::3], found[1::3], found[2::3], strict=True)
            ],
        )

    async def drop(self, name: str, least_s: float = 0.0) -> bool:
        """Takes one out who has not reported for `least_s`. Returns whether that was so."""
        (answer,) = await self._server.call([("drop", [REPLICAS], [name, int(least_s * 1000)])])
        return answer[0] == b"OK"

    async def agree(self, **values: bytes) -> list[bytes]:
        """Puts values of the meta table that are not there yet. Returns what is there."""
        pairs = [each for pair in values.items() for each in pair]
        (answer,) = await self._server.call([("agree", [META], pairs)])
        return answer

    async def leave(self) -> None:
        """Takes this one out: nothing that it has accepted is on its way any more."""
        if self.joined:
            self.joined = False
            await self.drop(self._name)

    async def owners(self, shards: int) -> list[Owner]:
        """Who has each part. As far as can be told: only taking it proves it."""
        keys = [Part(number).key("part") for number in range(shards)]
        found = await self._server.read(*(("HMGET", key, "owner", "until") for key in keys))
        owners: list[Owner] = []
        for owner, until in found:
            left_s = -self.age_s(float(until or 0))
            name = None if owner is None else owner.decode(errors="replace")
            owners.append(Owner(name, ended=left_s <= 0, ahead=left_s > LEASE_S))
        return owners


def _told(text: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
