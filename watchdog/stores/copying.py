"""All that one store keeps, copied into another: rows as they are, so that a daemon goes on there as after a restart.

Nothing is decided here and no time passes: the clock is a row like the others. Both journals are opened by the caller,
which keeps daemons from them, and neither is ever loaded: no table stands behind what is written.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from watchdog.core.model import Observed, Running
from watchdog.errors import StoreCorrupt
from watchdog.stores import change_rows, history, rows
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.columns import UNREADABLE, Unreadable
from watchdog.stores.journal import COPYING, Journal, Kept, Row, check_whole
from watchdog.stores.keeper import Shared, shared_in, shared_out
from watchdog.stores.leases import LeaseTable
from watchdog.stores.one_part import Given

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

SHARED = "shared"
"""In the meta table of a server: what the keeper of several daemons has published beside the clock."""

CHUNK = 1_000
"""Rows that one write has: few enough that a server does nothing else for some milliseconds only."""

TOLD = 5
"""So many of the rows that cannot be read are told one by one."""

PUTS = {
    "agents": Statement.PUT_AGENT,
    "sessions": Statement.PUT_SESSION,
    "changes": Statement.PUT_CHANGE,
    "claims": Statement.PUT_CLAIM,
}


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store keeps, but for the history.

    Attributes:
        meta: The meta table: clock, brakes and orders, counters, the secret of tickets, what receivers have got.
        tables: Rows by the name of the table.
    """

    meta: Mapping[str, bytes]
    tables: Mapping[str, Sequence[Row]]

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.meta) + sum(map(len, self.tables.values()))


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied.

    Attributes:
        agents: How many, and so on.
        sessions: Tombstones included.
        changes: Changes of status that may still be undone.
        claims: Claims of agents with whom something was under way.
        actions: Actions of the history.
        last_number: The highest number that an action ever had.
        values: Values of the meta table.
        left_out: Actions that cannot be read, which no command has shown either.
    """

    agents: int
    sessions: int
    changes: int
    claims: int
    actions: int
    last_number: int
    values: int
    left_out: int


async def contents(source: Journal) -> Contents:
    """Reads what is to be copied.

    Raises:
        StoreUnavailable: It cannot be read now.
        StoreCorrupt: There is nothing, half a copy, or a row that cannot be read.
    """
    found = await source.look(_contents)
    if "clock" not in found.meta:
        raise StoreCorrupt("Nothing is kept there: no daemon has used it yet.")
    if source.missing:
        raise StoreCorrupt(
            f"{source.missing.total()} rows that were kept there are not there any more: the server drops keys, or "
            "somebody has deleted some. Start the daemon with it once, which tells whose, and stop it again."
        )
    # In a thread, as the parts on a server are renewed meanwhile.
    unreadable = await asyncio.to_thread(_unreadable, found)
    if unreadable:
        named = "; ".join(map(str, unreadable[:TOLD])) + ("; …" if len(unreadable) > TOLD else "")
        raise StoreCorrupt(
            f"{len(unreadable)} rows cannot be read: {named}. Start the daemon with it once, which sets them aside, "
            "and stop it again."
        )
    return found


def _contents(kept: Kept) -> Contents:
    check_whole(kept)
    agents = list(kept.agents())
    meta = dict(kept.metas())
    if SHARED in meta:
        # Where one daemon has all agents it has the brakes as well; they are told in its words.
        given = shared_in(meta.pop(SHARED)).given
        meta["brakes"] = rows.brakes_to_json(given.brakes, given.orders)
    known = {row[:2] for row in agents}
    return Contents(
        meta=meta,
        tables={
            "agents": agents,
            # No daemon would read those of nobody.
            "sessions": [row for row in kept.sessions() if tuple(row[1:3]) in known],
            "changes": list(kept.recent_changes(Running(-math.inf))),
            "claims": list(kept.claims()),
        },
    )


def for_several(found: Contents) -> Contents:
    """The same for a server, where the brakes are the keeper's."""
    meta = dict(found.meta)
    if "brakes" in meta:
        brakes, orders = rows.brakes_from_json(meta.pop("brakes"))
        meta[SHARED] = shared_out(Shared(Given(brakes, orders)))
    return Contents(meta, found.tables)


def _unreadable(found: Contents) -> list[Unreadable]:
    """What a daemon could not read, or what cannot be written as it is."""
    tables = found.tables
    bad = rows.load(tables["agents"], tables["sessions"], LeaseTable(0.0), Observed(0.0))
    bad += rows.claims(tables["claims"])[1]
    bad += change_rows.changes(tables["changes"])[1]
    readers: dict[str, Callable[[bytes], object]] = {
        "clock": rows.clock_from_json,
        "brakes": rows.brakes_from_json,
        "token": int,
    }
    for key, read in readers.items():
        if key in found.meta:
            bad += _refused(read, found.meta[key], Unreadable("meta", (key,), ValueError()))
    if not bad:
        for name, of_table in tables.items():
            for row in of_table:
                bad += _refused(orjson.dumps, row[1:], Unreadable(name, row, ValueError()))
    return bad


def _refused(read: Callable[[Any], object], value: object, bad: Unreadable) -> list[Unreadable]:
    try:
        read(value)
    except UNREADABLE:
        return [bad]
    return []


async def copy(found: Contents, source: Journal, target: Journal, origin: str, told: Callable[[int], None]) -> Copied:
    """Copies what was found, and the history, in place of all that the target has, and compares the two.

    Until it returns no daemon opens the target, also if it never does.

    Args:
        found: See `contents`.
        source: Where the history is.
        target: Where all goes.
        origin: What people call the source.
        told: Gets how many rows were written and compared.

    Raises:
        StoreUnavailable: One of the two cannot be reached any more, or was taken over.
        StoreCorrupt: What was written is not what is there.
    """
    # What was decided and is not in the history yet goes there first, as with the next daemon.
    await source.commit(Batch())
    last = (await source.recorded(0, 1)).last
    await target.clear(origin.encode())
    done = 0
    for name, statement in PUTS.items():
        of_table = found.tables[name]
        for begin in range(0, len(of_table), CHUNK):
            batch = Batch()
            batch.add(statement, of_table[begin : begin + CHUNK])
            await target.commit(batch)
            done += len(of_table[begin : begin + CHUNK])
            told(done)
    actions = left_out = 0
    async for page in _pages(source):
        readable = [each for each in page if _is_action(each[1])]
        await target.put_numbered(readable)
        actions += len(readable)
        left_out += len(page) - len(readable)
        told(done + actions)
    await _compare(found, source, target, lambda more: told(done + actions + more))
    await target.complete([*found.meta.items(), ("token", b"%d" % _highest_token(found))], last)
    return _told_of(found, actions, last, left_out)


def _highest_token(found: Contents) -> int:
    """No token is given twice, whoever has given them."""
    given = [int(found.meta.get("token", b"0"))]
    given += [row[3] for row in found.tables["claims"]]
    given += [row[2] for row in found.tables["changes"] if isinstance(row[2], int)]
    return max(given)


async def counted(found: Contents, source: Journal) -> Copied:
    """What `copy` would copy."""
    actions = left_out = 0
    async for page in _pages(source):
        readable = sum(_is_action(row) for _, row in page)
        actions += readable
        left_out += len(page) - readable
    return _told_of(found, actions, (await source.recorded(0, 1)).last, left_out)


def _told_of(found: Contents, actions: int, last: int, left_out: int) -> Copied:
    counts = {name: len(of_table) for name, of_table in found.tables.items()}
    return Copied(**counts, actions=actions, last_number=last, values=len(found.meta), left_out=left_out)


async def history_size(source: Journal) -> int:
    """About how many actions there are."""
    last = (await source.recorded(0, 1)).last
    first = await source.numbered(0, 1)
    return last - first[0][0] + 1 if first else 0


async def _pages(journal: Journal) -> AsyncIterator[list[tuple[int, Row]]]:
    after = 0
    while page := await journal.numbered(after, CHUNK):
        yield page
        after = page[-1][0]


def _is_action(row: Row) -> bool:
    try:
        history.action(row)
        orjson.dumps(row)
    except UNREADABLE:
        return False
    return True


async def _compare(found: Contents, source: Journal, target: Journal, told: Callable[[int], None]) -> None:
    there = await target.look(_copied)
    same = there.meta.keys() == {COPYING} and all(
        set(map(tuple, of_table)) == set(map(tuple, there.tables[name])) for name, of_table in found.tables.items()
    )
    compared = found.rows
    told(compared)
    after = 0
    async for page in _pages(source):
        wanted = [each for each in page if _is_action(each[1])]
        same = same and await target.numbered(after, len(wanted)) == wanted
        after = wanted[-1][0] if wanted else after
        compared += len(page)
        told(compared)
    if not same or await target.numbered(after, 1):
        raise StoreCorrupt("What was copied is not what is there: something else has written to it. Run it again.")


def _copied(kept: Kept) -> Contents:
    return Contents(
        meta=dict(kept.metas()),
        tables={
            "agents": list(kept.agents()),
            "sessions": list(kept.sessions()),
            "changes": list(kept.recent_changes(Running(-math.inf))),
            "claims": list(kept.claims()),
        },
    )
