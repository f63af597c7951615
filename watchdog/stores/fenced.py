"""Parts of a deployment on a Valkey or Redis server: which of them are ours, and writes to those alone.

A part is leased to one process at a time, with a fence; each write tells the fence and how many writes the part has
had. So nobody writes who has lost the part, and a server that has lost writes, or everything, is noticed. What is
written is in `parts.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from watchdog.errors import StoreLocked, StoreUnavailable

if TYPE_CHECKING:
    from watchdog.stores.part_reads import Server
    from watchdog.stores.valkey_server import Call

LEASE_S = 3.0
"""For so long a part is a process's after its last write. By the server's clock alone."""

RENEW_S = 1.0
"""A part that nothing was written to for so long is renewed."""

FRESH_S = 2.0
"""For so long after a write was sent nobody else has the parts: they are ours for `LEASE_S` after it came through."""

WAIT_S = 0.25
"""Between two attempts to get a part that another process still has."""

ALL = -1
"""The part of all, among the numbers of the others."""


@dataclass(slots=True, eq=False)
class Part:
    """What is known of a part.

    Attributes:
        number: Which.
        fence: That of our lease.
        version: How many writes it has had.
        written_at: When the last write was sent that came through, by the loop's clock.
        whole: What is there has all that is in the table.
        doubtful: The server is not the one on which it was taken before: what was written last may be lost.
    """

    number: int
    fence: bytes = b"0"
    version: int = 0
    written_at: float = float("-inf")
    whole: bool = True
    doubtful: bool = False

    def key(self, name: str) -> str:
        """One of its keys."""
        return f"{{wd:{'all' if self.number == ALL else self.number}}}:{name}"

    def written(self, version: int, at: float) -> None:
        """It has so many writes now, the last of them sent then."""
        self.version, self.written_at = version, at

    def keys(self) -> list[str]:
        """Those that its function of writing takes."""
        if self.number == ALL:
            names = ["part", "meta", "actions", "ids", "numbers", "times", "by_agent", "by_outcome"]
        else:
            names = ["part", "agents", "sessions", "changes", "outbox", "claims"]
        return [self.key(name) for name in names]


class FencedParts:
    """All parts, and that of all.

    Attributes:
        all: The part of all.
        parts: The others, by number.
        taken_over: What to tell when another process has taken some over; nothing is written any more then.
        number: The highest number of the history that is known.
    """

    def __init__(self, server: Server, shards: int, owner: str, first: int = ALL) -> None:
        """None is taken.

        Args:
            server: Where they are.
            shards: How many, besides the first.
            owner: The name of this process; no other has it.
            first: The part that is taken before the others; that of all, but for whoever has a single other one.
        """
        self.all = Part(first)
        self.parts = [Part(number) for number in range(shards)]
        self.taken_over: str | None = None
        self.number = 0
        self._server = server
        self._owner = owner
        self._time: Callable[[], float] = lambda: 0.0

    @property
    def fresh(self) -> bool:
        """Whether the parts were ours a moment ago; a process that was stopped has to ask first."""
        return self._time() - self.all.written_at < FRESH_S

    @property
    def idle(self) -> bool:
        """Whether the part of all has to be renewed."""
        return self._time() - self.all.written_at >= RENEW_S

    def lost(self) -> list[Part]:
        """Those of which the server has lost something that has not been written again."""
        return [part for part in (self.all, *self.parts) if not part.whole]

    def to_renew(self) -> list[Part]:
        """Those, without that of all, to which nothing was written for a while."""
        since = self._time() - RENEW_S
        return [part for part in self.parts if part.written_at <= since]

    async def take_all(self, wait_s: float = LEASE_S + 2 * WAIT_S) -> None:
        """Takes the part of all first: of several who try, one goes on. Waits for those that nobody has any more.

        Raises:
            StoreLocked: Another process has some of them.
            StoreUnavailable: Nobody knows.
        """
        self._time = asyncio.get_running_loop().time
        until = self._time() + wait_s
        held, holder = [self.all], ""
        for wanted in ([self.all], [self.all, *self.parts])[: 2 if self.parts else 1]:
            # Those that are ours already are renewed by it.
            held, holder = await self._take(wanted)
            while held and self._time() < until:
                await asyncio.sleep(WAIT_S)
                held, holder = await self._take(wanted)
            if held:
                break
        if held:
            await self.leave()
            raise StoreLocked(
                f"{self._server} is used by another daemon ({holder}). One process at a time may use it: stop the "
                "other one, or give this one a store of its own in WATCHDOG_STORE."
            )

    async def _take(self, wanted: Sequence[Part]) -> tuple[list[Part], str]:
        """Takes parts. Returns those that another process has, and its name."""
        lease_ms, at = int(LEASE_S * 1000), self._time()
        answers = await self._server.call(
            [("take", [part.key("part")], [self._owner, lease_ms, part.fence]) for part in wanted]
        )
        held: list[Part] = []
        holder = ""
        for part, answer in zip(wanted, answers, strict=True):
            if answer[0] == b"TAKEN":
                part.fence = answer[1]
                part.written(int(answer[2]), at)
                part.doubtful = answer[3] != b""
            else:
                held.append(part)
                holder = answer[1].decode(errors="replace")
        return held, holder

    async def leave(self) -> None:
        """Lets go those that are ours still, at once."""
        taken = [part for part in (self.all, *self.parts) if part.fence != b"0"]
        if taken:
            await self._server.call([("leave", [part.key("part")], [part.fence]) for part in taken])

    async def put(self, writes: Sequence[tuple[Part, list[Any]]]) -> None:
        """Writes to parts, to each in one step.

        Raises:
            StoreUnavailable: Some are not known to be written. All may be written again.
        """
        while writes:
            at = self._time()
            answers = await self._server.call([self._call(part, arguments) for part, arguments in writes])
            refused: list[tuple[Part, list[bytes]]] = []
            for (part, _), answer in zip(writes, answers, strict=True):
                if answer[0] == b"OK":
                    part.written(int(answer[1]), at)
                    if part.number == ALL:
                        self.number = int(answer[2])
                else:
                    refused.append((part, answer))
            again = await self._refused(refused)
            writes = [(part, arguments) for part, arguments in writes if part in again]

    def _call(self, part: Part, arguments: Sequence[Any]) -> Call:
        head = [part.fence, part.version, int(LEASE_S * 1000)]
        if part.number == ALL:
            # The last sections are actions to add and to drop: one that is empty is a 0, and what is in one is text.
            name = "note" if arguments[-2:] == [0, 0] else "record"
            return name, part.keys(), [*head, self.number, *arguments]
        return "write" if any(arguments) else "renew", part.keys(), [*head, *arguments]

    async def _refused(self, refused: Sequence[tuple[Part, list[bytes]]]) -> list[Part]:
        """Some parts are not as we left them. Finds out why.

        Returns:
            Those that are known now: what was refused may be written.

        Raises:
            StoreUnavailable: Others have been taken over, or have lost what was written; the next write goes on.
        """
        known: list[Part] = []
        gone: list[Part] = []
        for part, answer in refused:
            if answer[0] == b"FENCED":
                self.taken_over = self._told(answer[1])
            elif answer[0] == b"OTHER" and int(answer[1]) == part.version + 1:
                # A write that was not answered has come through: with this fence there are no others but ours.
                part.version += 1
                known.append(part)
            else:
                gone.append(part)
        if gone and self.taken_over is None:
            held, holder = await self._take(gone)
            for part in gone:
                part.whole = False
            for part in self.parts:
                # Whatever took that took perhaps more: the next write finds out.
                part.written_at = float("-inf")
            if held:
                self.taken_over = self._told(holder.encode())
        if self.taken_over is not None:
            raise StoreUnavailable(self.taken_over)
        if gone:
            raise StoreUnavailable(f"{self._server}: it has lost what was written. It is written anew.")
        return known

    def _told(self, owner: bytes) -> str:
        return (
            f"{self._server}: another daemon ({owner.decode(errors='replace')}) has taken over, since this one was not "
            "heard of. Nobody is set by this one any more: restart it."
        )
