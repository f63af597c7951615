"""The journal of a lease table on a Valkey or Redis server, in parts.

The agents are spread over a fixed number of parts; whatever belongs to an agent is in its part, whose keys share a hash
tag. One more part has what belongs to all: the clock, the brakes, the history. A write is one function call for each
part that it touches, and one for that of all. Whose the parts are is known in `fenced.py`; what the server has lost is
written anew from the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import orjson
import structlog

from watchdog.core.model import Epoch, Running
from watchdog.errors import StoreCorrupt, StoreUnavailable
from watchdog.stores import rows
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.facts import Dirty
from watchdog.stores.fenced import ALL, RENEW_S, FencedParts, Part
from watchdog.stores.journal import COPYING, PRUNE_CHUNK, Journal, Kept, Row, check_copied, check_whole
from watchdog.stores.part_reads import META, PartReads, Server
from watchdog.stores.part_rows import (
    ANEW,
    ANY_TOKEN,
    DROP_SAME_CHANGE,
    NUMBER,
    TABLES,
    TOUCH,
    AllWrite,
    PartRows,
    PartWrite,
    Sorted,
    columns,
    missing,
    part_of,
)

if TYPE_CHECKING:
    from watchdog.core.clock import Clock
    from watchdog.core.model import Action, AgentId, Outcome
    from watchdog.core.undo import Change
    from watchdog.stores.base import Recorded
    from watchdog.stores.columns import Unreadable
    from watchdog.stores.leases import LeaseTable

Result = TypeVar("Result")

log = structlog.stdlib.get_logger(__name__)

FORMAT = b"1"
"""Of what is kept; another one is another version's."""

HALF = b"half a copy"
"""In place of it while another store is copied into this one: whoever looks at the format alone takes it for none."""


def check_signed(server: Server, version: bytes, parts: bytes, shards: int) -> None:
    """Whether what a server has was kept by a version that we know, in so many parts.

    Args:
        server: Where it is, for people.
        version: The `format` that it has.
        parts: The number of parts that it has.
        shards: Ours.

    Raises:
        StoreCorrupt: It is of another version, or has another number of parts.
    """
    if version != FORMAT:
        raise StoreCorrupt(
            f"{server} was written by a newer version (format {version.decode(errors='replace')}, this one "
            f"knows {FORMAT.decode()}). Run that version, or give WATCHDOG_STORE another server or database."
        )
    if parts != b"%d" % shards:
        raise StoreCorrupt(
            f"{server} was made with WATCHDOG_SHARDS={parts.decode(errors='replace')}, which is fixed for "
            "a deployment. Set it so, or give WATCHDOG_STORE another server or database."
        )


async def is_kept(server: Server, shards: int) -> bool:
    """Whether a server keeps a deployment with which a daemon would go on. Nothing is changed.

    Args:
        server: Not opened, perhaps.
        shards: In how many parts the daemon keeps agents.

    Raises:
        StoreCorrupt: It keeps one with which no daemon starts: half a copy, or see `check_signed`.
        StoreUnavailable: It cannot be read.
    """
    ((version, parts, origin),) = await server.read(("HMGET", META, "format", "shards", COPYING))
    check_copied(origin)
    if version is not None:
        check_signed(server, version, parts or b"", shards)
    return version is not None


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
        self._reads = PartReads(server, shards)
        self._fenced = FencedParts(server, shards, owner)
        self._opened = False
        # The server knows what this is and in how many parts.
        self._signed = False
        self._jobs: list[tuple[Batch, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._copying = False
        # Actions that are in the history for sure and perhaps still in their part's outbox; and those not in it yet.
        self._moved: dict[bytes, int] = {}
        self._moving: dict[bytes, Row] = {}

    # Opening and closing.

    async def open(self) -> None:
        """Takes all parts. Waits for those that another process has let go only by dying."""
        try:
            await self._server.open()
            await self._fenced.take_all()
        except BaseException:
            await self._server.close()
            raise
        self._opened = True
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Renews the parts while nothing is written, as at the start before the first tick."""
        while True:
            await asyncio.sleep(RENEW_S)
            if self._fenced.idle:
                with contextlib.suppress(StoreUnavailable):
                    await self.confirm()

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
                await self._fenced.leave()
        await self._server.close()

    async def look(self, build: Callable[[Kept], Result]) -> Result:
        """See `Journal.look`."""
        meta = await self._reads.hash("{wd:all}:meta")
        self._check_format(meta)
        self._fenced.number = int(meta.get(b"number", b"0"))
        tables: dict[str, list[dict[bytes, bytes]]] = {name: [] for name in ("agents", "sessions", "claims", "changes")}
        self.missing.clear()
        for part in self._fenced.parts:
            counted = await self._reads.counted(part.key("part"))
            found = {name: await self._reads.hash(part.key(name)) for name in TABLES}
            for name, of_table in tables.items():
                of_table.append(found[name])
            self._take_in(part.number, found["outbox"])
            self._note_missing(part, missing(counted, found))
        return build(PartRows(meta, tables))

    def _note_missing(self, part: Part, found: Counter[str]) -> None:
        """Notes what a part has lost while nobody had it. It is written anew where it is not as it was left."""
        if any(found.values()):
            part.whole = False
        if lost := +found:
            self.missing += lost
            log.error("store.rows_lost", part=part.number, rows=dict(lost))

    def _take_in(self, number: int, outbox: Mapping[bytes, bytes]) -> None:
        """Takes what a part has for the history; what is no row there never gets to it."""
        for key, value in outbox.items():
            with contextlib.suppress(orjson.JSONDecodeError):
                self._moving[key] = tuple(orjson.loads(value))
                self._moved[key] = number

    def _note_decided(self, later: Mapping[bytes, tuple[int, Row]]) -> None:
        """What was decided goes to the history now: with a later write if that fails, by the next process if we die."""
        self._moving.update((key, row) for key, (_, row) in later.items())
        self._moved.update((key, number) for key, (number, _) in later.items())

    def _check_format(self, meta: dict[bytes, bytes]) -> None:
        found = meta.get(b"format", FORMAT)
        if found == HALF:
            found = FORMAT
            if not self._copying:
                check_whole(PartRows(meta, {}))
        check_signed(self._server, found, meta.get(b"shards", b"%d" % self._shards), self._shards)

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
    def taken_over(self) -> str | None:
        """What to tell when another process has taken the parts over; nothing is done any more then."""
        return self._fenced.taken_over

    @property
    def fresh(self) -> bool:
        """Whether the parts were ours a moment ago; a process that was stopped has to ask first."""
        return self._opened and self._fenced.fresh

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
        fenced, made = self._fenced, Sorted(self._shards)
        lost = fenced.lost()
        if lost and not self._loaded:
            # The table is not filled yet: what it has must not take the place of what is there.
            raise StoreUnavailable(f"{self._server}: it has lost what was written, while it was read.")
        if lost:
            self._add_lost(made, lost)
        for batch in batches:
            made.add(batch)
        if not self._signed:
            made.all.meta |= {b"format": HALF if self._copying else FORMAT, b"shards": b"%d" % self._shards}
        later = made.take_decided()
        at_once = made.all.actions = {**made.all.actions, **self._moving}
        moved, self._moved = self._moved, {}
        for key, number in moved.items():
            made.parts.setdefault(number, PartWrite()).outbox.setdefault(key, None)
        if made.number is not None:
            fenced.number = made.number
        try:
            await fenced.put([(fenced.all, made.all.arguments())])
            self._signed = True
            for key in at_once:
                self._moving.pop(key, None)
            for part in fenced.to_renew():
                made.parts.setdefault(part.number, PartWrite())
            await fenced.put([(fenced.parts[number], write.arguments()) for number, write in made.parts.items()])
        except BaseException:
            self._moved = moved
            raise
        if later:
            self._note_decided(later)
            await fenced.put([(fenced.all, AllWrite(actions=self._moving).arguments())])
            self._moving.clear()
        for part in lost:
            part.whole = True

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

    async def numbered(self, after: int, limit: int) -> list[tuple[int, Row]]:
        """See `Journal.numbered`. What cannot be read has no columns."""
        self.check()
        _, page = await self._reads.numbered(after, limit)
        return [(number, tuple(columns(row))) for number, row in page]

    async def put_numbered(self, found: Sequence[tuple[int, Row]]) -> None:
        """See `Journal.put_numbered`. One call for each run of numbers."""
        run: list[Row] = []
        for at, (number, row) in enumerate(found, 1):
            run.append(row)
            if at == len(found) or found[at][0] != number + 1:
                batch = Batch()
                batch.add(NUMBER, [(number - len(run),)])
                batch.add(Statement.PUT_ACTION, run)
                await self.commit(batch)
                run = []

    async def clear(self, origin: bytes) -> None:
        """See `Journal.clear`. Those parts only that it was made with."""
        self._copying, self._signed = True, False
        batch = Batch()
        batch.add(Statement.PUT_META, [(COPYING, origin)])
        # Whatever they have lost goes as well.
        batch.add(ANEW, [(part.number,) for part in self._fenced.parts])
        for part in self._fenced.parts:
            part.whole = True
        await self.commit(batch)
        await self.commit(await self.look(_all_dropped))
        while ids := await self._reads.old_actions(Epoch(math.inf), PRUNE_CHUNK):
            batch = Batch()
            batch.add(Statement.DROP_ACTION, ids)
            await self.commit(batch)
        batch = Batch()
        batch.add(NUMBER, [(0,)])
        batch.add(Statement.DROP_META, [("number",)])
        await self.commit(batch)

    async def complete(self, found: Sequence[tuple[str, bytes]], last: int) -> None:
        """See `Journal.complete`."""
        batch = Batch()
        batch.add(NUMBER, [(last,)])
        batch.add(Statement.PUT_META, [*found, ("format", FORMAT)])
        batch.add(Statement.DROP_META, [(COPYING,)])
        await self.commit(batch)
        self._copying = False

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
                batch.add(Statement.DROP_META, [row[:1]])


def _all_dropped(kept: Kept) -> Batch:
    batch = Batch()
    batch.add(Statement.DROP_META, [(key,) for key, _ in kept.metas() if key != COPYING])
    batch.add(Statement.DROP_SESSION, [row[:3] for row in kept.sessions()])
    batch.add(Statement.DROP_AGENT, [row[:2] for row in kept.agents()])
    batch.add(Statement.DROP_CLAIM, [(*row[:2], ANY_TOKEN) for row in kept.claims()])
    batch.add(Statement.DROP_CHANGE, [row[:2] for row in kept.recent_changes(Running(-math.inf))])
    return batch
