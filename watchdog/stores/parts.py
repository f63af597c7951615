"""The journal of a lease table on a Valkey or Redis server, in parts.

The agents are spread over a fixed number of parts; whatever belongs to an agent is in its part, whose keys share a hash
tag. One more part has what belongs to all: the clock, the brakes, the history. A write is one function call for each
part that it touches, and one for that of all. Each part is leased to one process at a time, with a fencing number;
each write tells that number and how many writes the part has had: so nobody writes who has lost the part, and a server
that has lost writes, or everything, is noticed. What it has lost is written anew from the table.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from watchdog.errors import StoreCorrupt, StoreLocked, StoreUnavailable
from watchdog.stores import rows
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.facts import Dirty
from watchdog.stores.journal import Journal, Kept, Row
from watchdog.stores.part_reads import PartReads, Server
from watchdog.stores.part_rows import (
    ANY_TOKEN,
    DROP_META,
    DROP_SAME_CHANGE,
    TOUCH,
    AllWrite,
    PartRows,
    PartWrite,
    Sorted,
    part_of,
)

if TYPE_CHECKING:
    from watchdog.core.clock import Clock
    from watchdog.core.model import Action, AgentId, Epoch, Outcome
    from watchdog.core.undo import Change
    from watchdog.stores.base import Recorded
    from watchdog.stores.columns import Unreadable
    from watchdog.stores.leases import LeaseTable
    from watchdog.stores.valkey_server import Call

Result = TypeVar("Result")

LEASE_S = 3.0
"""For so long a part is a process's after its last write. By the server's clock alone."""

RENEW_S = 1.0
"""A part that nothing was written to for so long is renewed."""

FRESH_S = 2.0
"""For so long after a write was sent nobody else has the parts: they are ours for `LEASE_S` after it came through."""

WAIT_S = 0.25
"""Between two attempts to get a part that another process still has."""

FORMAT = b"1"
"""Of what is kept; another one is another version's."""

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
    """

    number: int
    fence: bytes = b"0"
    version: int = 0
    written_at: float = float("-inf")
    whole: bool = True

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


class Parts(Journal):
    """The parts of a deployment, all of them this process's."""

    def __init__(
        self,
        server: Server,
        shards: int,
        owner: str,
        table: LeaseTable,
        brakes: Callable[[], bytes] | None = None,
        rest: Callable[[], Batch] = Batch,
    ) -> None:
        """Nothing is opened.

        Args:
            server: Where it is kept.
            shards: In how many parts; the same for all processes, for good.
            owner: The name of this process; no other has it.
            table: What it keeps.
            brakes: See `Journal`.
            rest: See `Journal`.
        """
        super().__init__(table, brakes, rest)
        self._server = server
        self._shards = shards
        self._owner = owner
        self._reads = PartReads(server, shards)
        self._all = Part(ALL)
        self._parts = [Part(number) for number in range(shards)]
        self._number = 0
        self._opened = False
        # The server knows what this is and in how many parts.
        self._signed = False
        # What to tell when another process has taken the parts over; nothing is done any more then.
        self.taken_over: str | None = None
        self._jobs: list[tuple[Batch, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        # Actions that are in the history for sure and perhaps still in their part's outbox; and those not in it yet.
        self._moved: dict[bytes, int] = {}
        self._moving: dict[bytes, Row] = {}

    # Opening and closing.

    async def open(self) -> None:
        """Takes all parts. Waits for those that another process has let go only by dying."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._server.open()
            await self._take_all()
        except BaseException:
            await self._server.close()
            raise
        self._opened = True
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Renews the parts while nothing is written, as at the start before the first tick."""
        while True:
            await asyncio.sleep(RENEW_S)
            if self._loop.time() - self._all.written_at >= RENEW_S:
                with contextlib.suppress(StoreUnavailable):
                    await self.confirm()

    async def _take_all(self) -> None:
        """Takes the part of all first: of several who try, one goes on."""
        until = self._loop.time() + LEASE_S + 2 * WAIT_S
        held, holder = [self._all], ""
        for wanted in ([self._all], [self._all, *self._parts]):
            # Those that are ours already are renewed by it.
            held, holder = await self._take(wanted)
            while held and self._loop.time() < until:
                await asyncio.sleep(WAIT_S)
                held, holder = await self._take(wanted)
            if held:
                break
        if held:
            await self._leave()
            raise StoreLocked(
                f"{self._server} is used by another daemon ({holder}). One process at a time may use it: stop the "
                "other one, or give this one a store of its own in WATCHDOG_STORE."
            )

    async def close(self, clock: Clock) -> None:
        """Writes what is dirty and lets the parts go."""
        if self._opened:
            if self._loaded:
                with contextlib.suppress(StoreUnavailable):
                    await self.write(Batch(), clock)
            self._opened = False
            if self._keeper is not None:
                self._keeper.cancel()
                await asyncio.gather(self._keeper, return_exceptions=True)
            if self._writer is not None:
                await asyncio.gather(self._writer, return_exceptions=True)
            with contextlib.suppress(StoreUnavailable):
                await self._leave()
        await self._server.close()

    async def _take(self, wanted: Sequence[Part]) -> tuple[list[Part], str]:
        """Takes parts. Returns those that another process has, and its name."""
        lease_ms, at = int(LEASE_S * 1000), self._loop.time()
        answers = await self._server.call(
            [("take", [part.key("part")], [self._owner, lease_ms, part.fence]) for part in wanted]
        )
        held: list[Part] = []
        holder = ""
        for part, answer in zip(wanted, answers, strict=True):
            if answer[0] == b"TAKEN":
                part.fence = answer[1]
                part.written(int(answer[2]), at)
            else:
                held.append(part)
                holder = answer[1].decode(errors="replace")
        return held, holder

    async def _leave(self) -> None:
        taken = [part for part in (self._all, *self._parts) if part.fence != b"0"]
        await self._server.call([("leave", [part.key("part")], [part.fence]) for part in taken])

    async def load(self, build: Callable[[Kept], Result]) -> Result:
        """See `Journal.load`."""
        meta = await self._reads.hash("{wd:all}:meta")
        self._check_format(meta)
        self._number = int(meta.get(b"number", b"0"))
        tables: dict[str, list[dict[bytes, bytes]]] = {name: [] for name in ("agents", "sessions", "claims", "changes")}
        for part in self._parts:
            for name, of_table in tables.items():
                of_table.append(await self._reads.hash(part.key(name)))
            for key, value in (await self._reads.hash(part.key("outbox"))).items():
                with contextlib.suppress(orjson.JSONDecodeError):
                    self._moving[key] = tuple(orjson.loads(value))
                    self._moved[key] = part.number
        built = build(PartRows(meta, tables))
        self._loaded = True
        return built

    def _check_format(self, meta: dict[bytes, bytes]) -> None:
        found = meta.get(b"format", FORMAT), meta.get(b"shards", b"%d" % self._shards)
        if found[0] != FORMAT:
            raise StoreCorrupt(
                f"{self._server} was written by a newer version (format {found[0].decode(errors='replace')}, this one "
                f"knows {FORMAT.decode()}). Run that version, or give WATCHDOG_STORE another server or database."
            )
        if found[1] != b"%d" % self._shards:
            raise StoreCorrupt(
                f"{self._server} was made with WATCHDOG_SHARDS={found[1].decode(errors='replace')}, which is fixed for "
                "a deployment. Set it so, or give WATCHDOG_STORE another server or database."
            )

    # Writing.

    async def commit(self, batch: Batch) -> None:
        """See `Journal.commit`. Atomic for each part; what all share is written first, and the history last."""
        self.check()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.append((batch, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        # A caller that is cancelled must not keep a batch from being written that others wait for.
        await asyncio.shield(done)

    async def confirm(self, agent: AgentId | None = None) -> None:
        """Makes sure that the parts are still ours: that of an agent for `LEASE_S` from when this was asked.

        Raises:
            StoreUnavailable: They are not, or nobody knows.
        """
        batch = Batch()
        batch.add(TOUCH, [] if agent is None else [agent])
        await self.commit(batch)

    @property
    def fresh(self) -> bool:
        """Whether the parts were ours a moment ago; a process that was stopped has to ask first."""
        return self._opened and self._loop.time() - self._all.written_at < FRESH_S

    def check(self) -> None:
        """See `Journal.check`."""
        if self.taken_over is not None:
            raise StoreUnavailable(self.taken_over)
        if not self._opened:
            raise StoreUnavailable("The store is closed.")

    async def _write_all(self) -> None:
        """Writes all batches that wait, again and again until there is none."""
        try:
            while self._jobs:
                jobs, self._jobs = self._jobs, []
                failure: BaseException | None = None
                try:
                    await self._write([batch for batch, _ in jobs])
                except BaseException as error:  # noqa: BLE001 - handed to those who wait
                    failure = error
                    self.failing = True
                for _, done in jobs:
                    if done.done():
                        continue
                    if failure is None:
                        done.set_result(None)
                    else:
                        done.set_exception(failure)
                        done.exception()  # whoever waits may have been cancelled
        finally:
            self._writer = None

    async def _write(self, batches: Sequence[Batch]) -> None:
        """Writes to the part of all, then to the others, then to the history what was decided with rows of these."""
        made = Sorted(self._shards)
        lost = [part for part in (self._all, *self._parts) if not part.whole]
        if lost:
            self._add_lost(made, lost)
        for batch in batches:
            made.add(batch)
        if not self._signed:
            made.all.meta |= {b"format": FORMAT, b"shards": b"%d" % self._shards}
        later = made.take_decided()
        at_once = made.all.actions = {**made.all.actions, **self._moving}
        moved, self._moved = self._moved, {}
        for key, number in moved.items():
            made.parts.setdefault(number, PartWrite()).outbox.setdefault(key, None)
        try:
            await self._put([(self._all, made.all.arguments())])
            self._signed = True
            for key in at_once:
                self._moving.pop(key, None)
            await self._put([(self._parts[number], write.arguments()) for number, write in self._due(made.parts)])
        except BaseException:
            self._moved = moved
            raise
        if later:
            # Should this fail, it is tried again with the next write; should the process die, by the next one.
            self._moving.update((key, row) for key, (_, row) in later.items())
            self._moved.update((key, number) for key, (number, _) in later.items())
            await self._put([(self._all, AllWrite(actions=self._moving).arguments())])
            self._moving.clear()
        for part in lost:
            part.whole = True

    def _due(self, writes: dict[int, PartWrite]) -> Iterable[tuple[int, PartWrite]]:
        """What is to be written to the parts, and nothing to those whose lease is to be renewed."""
        since = self._loop.time() - RENEW_S
        for part in self._parts:
            if part.number in writes:
                yield part.number, writes[part.number]
            elif part.written_at <= since:
                yield part.number, PartWrite()

    async def _put(self, writes: Sequence[tuple[Part, list[Any]]]) -> None:
        """Writes to parts, to each in one step.

        Raises:
            StoreUnavailable: Some are not known to be written. All may be written again.
        """
        while writes:
            at = self._loop.time()
            answers = await self._server.call([self._call(part, arguments) for part, arguments in writes])
            refused: list[tuple[Part, list[bytes]]] = []
            for (part, _), answer in zip(writes, answers, strict=True):
                if answer[0] == b"OK":
                    part.written(int(answer[1]), at)
                    if part is self._all:
                        self._number = int(answer[2])
                else:
                    refused.append((part, answer))
            again = await self._refused(refused)
            writes = [(part, arguments) for part, arguments in writes if part in again]

    def _call(self, part: Part, arguments: Sequence[Any]) -> Call:
        head = [part.fence, part.version, int(LEASE_S * 1000)]
        if part is self._all:
            return "note", part.keys(), [*head, self._number, *arguments]
        return "write", part.keys(), [*head, *arguments]

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
                self.taken_over = self._taken_over(answer[1])
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
            for part in self._parts:
                # Whatever took that took perhaps more: the next write finds out.
                part.written_at = float("-inf")
            if held:
                self.taken_over = self._taken_over(holder.encode())
        if self.taken_over is not None:
            raise StoreUnavailable(self.taken_over)
        if gone:
            raise StoreUnavailable(f"{self._server}: it has lost what was written. It is written anew.")
        return known

    def _taken_over(self, owner: bytes) -> str:
        return (
            f"{self._server}: another daemon ({owner.decode(errors='replace')}) has taken over, since this one was not "
            "heard of. Nobody is set by this one any more: restart it."
        )

    def _add_lost(self, made: Sorted, lost: Sequence[Part]) -> None:
        """Adds all that is in force of parts that the server has lost, in whole or in part. The history stays lost."""
        numbers = {part.number for part in lost}
        everything = Dirty()
        for agent_id, agent in self._table.agents.items():
            if part_of(agent_id, self._shards) in numbers:
                everything.agents[agent_id] = agent
                everything.sessions.update((session.session_id, session) for session in agent.sessions)
                if agent.change is not None:
                    everything.changes[agent_id] = agent.change
        batch = Batch()
        rows.add_dirty(batch, everything)
        if self._brakes is not None:
            batch.add(Statement.PUT_META, [("brakes", self._brakes())])
        batch.statements += self._rest().statements
        made.add(batch)
        for number in made.parts.keys() - numbers:
            del made.parts[number]
        for number in numbers - {ALL}:
            made.parts.setdefault(number, PartWrite()).anew = True
        self._signed = self._signed and ALL not in numbers

    # Reading.

    async def meta(self, key: str) -> bytes | None:
        """See `Journal.meta`."""
        self.check()
        return await self._reads.meta(key)

    async def changes(self, since: Epoch, instance_id: str | None) -> list[Change]:
        """See `Journal.changes`."""
        self.check()
        return [
            change
            for change, _ in await self._reads.changes()
            if change.written_at >= since and instance_id in (None, change.agent.instance_id)
        ]

    async def actions(
        self,
        agent: AgentId | None,
        outcome: Outcome | None,
        since: Epoch | None,
        cursor: str | None,
        limit: int,
    ) -> list[Action]:
        """See `Journal.actions`."""
        self.check()
        return await self._reads.actions(agent, outcome, since, cursor, limit)

    async def recorded(self, after: int, limit: int) -> Recorded:
        """See `Outbox.recorded`."""
        self.check()
        return await self._reads.recorded(after, limit)

    async def old_actions(self, before: Epoch, limit: int) -> list[tuple[str]]:
        """See `Journal.old_actions`."""
        self.check()
        return await self._reads.old_actions(before, limit)

    async def drop_changes(self, before: Epoch, clock: Clock) -> None:
        """See `Journal.drop_changes`."""
        found = await self._reads.changes()
        old = [(*change.agent, value) for change, value in found if change.written_at < before and change.undo is None]
        batch = Batch()
        batch.add(DROP_SAME_CHANGE, old)
        await self.write(batch, clock)

    def set_aside(self, batch: Batch, unreadable: Sequence[Unreadable]) -> None:
        """Moves bad rows into the meta table, as text for a person who wants to look at them."""
        for bad in unreadable:
            row = bad.row
            batch.add(Statement.PUT_META, [(f"unreadable {bad}", repr(row).encode(errors="replace"))])
            if bad.table == "agents":
                batch.add(Statement.DROP_AGENT, [row[:2]])
            elif bad.table == "sessions":
                batch.add(Statement.DROP_SESSION, [row[:3]])
            elif bad.table == "claims":
                batch.add(Statement.DROP_CLAIM, [(*row[:2], ANY_TOKEN)])
            elif bad.table == "changes":
                batch.add(Statement.DROP_CHANGE, [row[:2]])
            else:
                batch.add(DROP_META, [row[:1]])
