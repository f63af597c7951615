"""How many bytes of batches are held at once, in all and of one address, from their first one to their answer.

Single heartbeats do not count: each is small, and there are no more of them than connections. Who may send a batch is
judged in `auth.py`, before it is read.
"""

from __future__ import annotations

from typing import Self

from watchdog.core.messages import MAX_BODY
from watchdog.errors import MessageError
from watchdog.ingest.wire import Head, Message, Receive

MOST = 64 * 1024 * 1024
"""Bytes in all: 200 batches as gateways send them (300 bytes a heartbeat), 16 of the largest."""

OF_ONE = MOST // 4
"""Bytes of one address: gateways behind one have room for 50 batches, and nobody fills the room alone."""

_DETAIL = "There is no room for another batch now. Send it again after the time in Retry-After."


class Bodies:
    """The room that there is."""

    def __init__(self, most: int = MOST, of_one: int = OF_ONE) -> None:
        """Takes how many bytes there may be in all, and of one address."""
        self._most = most
        self._of_one = of_one
        self._held = 0
        self._by_site: dict[str, int] = {}

    def take(self, site: str, count: int) -> None:
        """Takes so many bytes more.

        Raises:
            MessageError: 429; there is no room for them, and none is taken.
        """
        of_site = self._by_site.get(site, 0) + count
        if self._held + count > self._most or of_site > self._of_one:
            raise MessageError(429, "Too Many Requests", _DETAIL)
        self._held += count
        self._by_site[site] = of_site

    def give_back(self, site: str, count: int) -> None:
        """Gives back what was taken."""
        if count:
            self._held -= count
            self._by_site[site] -= count
            if not self._by_site[site]:
                del self._by_site[site]


class Held:
    """What one batch holds, for as long as it is entered."""

    def __init__(self, bodies: Bodies, site: str) -> None:
        """Takes the room, and the `site` of its address."""
        self._bodies = bodies
        self._site = site
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.give_back(self._site, self._count)

    def counted(self, receive: Receive) -> Receive:
        """The same body, each piece of which takes room before it is read on; raises what `Bodies.take` raises."""

        async def counting() -> Message:
            message = await receive()
            count = len(message.get("body", b""))
            self._bodies.take(self._site, count)
            self._count += count
            return message

        return counting


def is_large(head: Head) -> bool:
    """Whether a body may be larger than one heartbeat. It is, if its length is not told."""
    length = head.content_length
    return not length.isdigit() or int(length[:20]) > MAX_BODY
