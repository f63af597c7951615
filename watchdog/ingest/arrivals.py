"""Agents whom nobody has heard of: how many may come from one address in a time, and how many there may be in all.

An agent who is known is never refused here: nobody who is there is ended by a limit. How many sessions an agent may
have is the store's to say.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from watchdog.core.addresses import Proxies, site
from watchdog.core.model import AgentId, Epoch
from watchdog.errors import MessageError
from watchdog.ingest.answers import Answer, Rejection, refusal

NEW_PER_S = 1000.0
NEW_AT_ONCE = 20_000
"""New agents from one address, a second and at once. A whole contact centre may be behind one, and all of it begins
anew when the store does; each counts until it is flushed, 0.2 s later, with all copies of its hello."""

MAX_SITES = 10_000
"""Addresses that are remembered; the one that was heard least lately is forgotten first."""

HEARD_S = 600.0
"""For so long after its last heartbeat an address counts as one with agents."""

FULL_S = 60.0
"""So long after an agent was refused for want of room it is a problem; and so long a client is told to wait."""

TOO_FAST = tuple(
    refusal(
        Rejection.RATE,
        MessageError(
            429,
            "Too Many Requests",
            f"From this address come more than {NEW_PER_S:g} new agents a second. Try again after the time in "
            "Retry-After. If a proxy is in front of the daemon, set WATCHDOG_TRUSTED_PROXIES.",
        ),
        (b"retry-after", b"%d" % after_s),
    )
    for after_s in (1, 2, 4)
)
"""With several times, so that those who came together do not come together again."""

NO_ROOM = refusal(
    Rejection.AGENTS,
    MessageError(
        429,
        "Too Many Requests",
        "The daemon knows as many agents as WATCHDOG_MAX_AGENTS allows. Raise it, or find out who sends heartbeats of "
        "agents that do not exist.",
    ),
    (b"retry-after", b"%d" % FULL_S),
)


@dataclass(slots=True)
class _Site:
    """One address: how many new agents it may still send, as of when, and when a heartbeat of it was taken last."""

    left: float
    counted_at: float
    heard_at: float


class Arrivals:
    """Counts agents who are new.

    Attributes:
        most: How many agents there may be (MAX_AGENTS).
        full_since: When the first one was refused for want of room, of those lately refused.
    """

    def __init__(
        self,
        newcomer: Callable[[AgentId], int | None],
        *,
        most: int,
        time: Callable[[], float],
        epoch: Callable[[], Epoch],
        proxies: Proxies | None = None,
    ) -> None:
        """Takes what it asks.

        Args:
            newcomer: See `Store.newcomer`.
            most: How many agents there may be.
            time: The loop's clock.
            epoch: The wall clock.
            proxies: Believed when they say whom a request is from.
        """
        self.most = most
        self.full_since = Epoch(0.0)
        self._newcomer = newcomer
        self._time = time
        self._epoch = epoch
        self._proxies = proxies or Proxies()
        self._sites: OrderedDict[str, _Site] = OrderedDict()
        self._full_at: float | None = None
        self._waiting = 0

    @property
    def full(self) -> bool:
        """Whether an agent was refused of late for want of room."""
        return self._full_at is not None and self._time() - self._full_at < FULL_S

    def address(self, client: Sequence[object] | None, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """Whom a request is from.

        Args:
            client: The other side of the connection.
            headers: Of the request.
        """
        peer = str(client[0]) if client else ""
        if not self._proxies.trusts(peer):
            return peer
        return self._proxies.client(
            peer, [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
        )

    def refused(self, agent: AgentId, address: str) -> Answer | None:
        """Why a heartbeat that may otherwise pass is not taken now; None for any of an agent who is known."""
        at = self._time()
        found = self._site(site(address), at)
        known = self._newcomer(agent)
        if known is None:
            found.heard_at = at
            return None
        if known >= self.most:
            return self.no_room()
        found.left = min(NEW_AT_ONCE, found.left + NEW_PER_S * (at - found.counted_at))
        found.counted_at = at
        if found.left < 1:
            self._waiting += 1
            return TOO_FAST[self._waiting % len(TOO_FAST)]
        found.left -= 1
        found.heard_at = at
        return None

    def no_room(self) -> Answer:
        """The refusal of an agent who is new, since as many are known as there may be."""
        if not self.full:
            self.full_since = self._epoch()
        self._full_at = self._time()
        return NO_ROOM

    def heard(self, address: str) -> None:
        """A heartbeat of an agent who is known was taken from there."""
        at = self._time()
        self._site(site(address), at).heard_at = at

    def has_agents(self, name: str) -> bool:
        """Whether a heartbeat was taken of late from this `site`."""
        found = self._sites.get(name)
        return found is not None and self._time() - found.heard_at < HEARD_S

    def _site(self, name: str, at: float) -> _Site:
        found = self._sites.get(name)
        if found is None:
            found = self._sites[name] = _Site(NEW_AT_ONCE, at, -math.inf)
            if len(self._sites) > MAX_SITES:
                self._sites.popitem(last=False)
        else:
            self._sites.move_to_end(name)
        return found
