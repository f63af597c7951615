"""`watchdog migrate`: all that a store keeps goes into another one, while no daemon runs on either.

Who has to be away and what is refused is told here; what is copied, and how, in `stores/copying.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from watchdog.core.clock import Clock
from watchdog.errors import StoreCorrupt, StoreLocked, StoreOccupied, StoreUnavailable
from watchdog.stores import copying, trial
from watchdog.stores.address import SCHEMES, Address, address
from watchdog.stores.copying import Copied
from watchdog.stores.disk import ThreadedDisk
from watchdog.stores.file import TableFile
from watchdog.stores.journal import COPYING, Journal
from watchdog.stores.leases import LeaseTable
from watchdog.terminal import Bar

if TYPE_CHECKING:
    from rich.console import Console

Place = Path | Address
"""Where a store is: a file of SQLite, or a server."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done.

    Attributes:
        source: From where.
        target: To where.
        shards: In how many parts agents are kept there, if it is a server.
        replace: What the target keeps may be dropped.
        dry_run: Nothing is written to the target.
    """

    source: Place
    target: Place
    shards: int = 16
    replace: bool = False
    dry_run: bool = False

    @property
    def is_circle(self) -> bool:
        """Whether both are the same."""
        source, target = self.source, self.target
        if isinstance(source, Path) or isinstance(target, Path):
            return source == target
        return (source.host, source.port, source.database) == (target.host, target.port, target.database)


def place_of(url: str) -> Place:
    """Where the store of a URL is, which `watchdog.values.store` has taken."""
    return address(url) if url.partition("://")[0] in SCHEMES else Path(url.removeprefix("sqlite:///")).resolve()


async def migrate(order: Order) -> Copied:
    """Copies all. Until that is done no daemon opens the target, also if it is never done; it may be done again then.

    Raises:
        StoreLocked: A daemon uses one of the two.
        StoreOccupied: The target keeps something already.
        StoreUnavailable: One of the two cannot be reached, read or written.
        StoreCorrupt: There is nothing to copy, or something that cannot be read.
    """
    if isinstance(order.source, Path) and not order.source.exists():
        raise StoreUnavailable(f"{order.source} is not there. Look at --from, and at the folder that this is run in.")
    async with _opened(order.source, await _parts_at(order.source) or order.shards) as source:
        with _of(order.source):
            found = await copying.contents(source)
        size = await copying.history_size(source)
        if order.dry_run:
            await _try(order)
            return await copying.counted(found, source)
        # All is written, and then compared.
        with Bar("Copying", 2 * (found.rows + size)) as bar:
            before = await _parts_at(order.target)
            if before not in (None, order.shards):
                async with _opened(order.target, before) as target:
                    await _refuse_if_occupied(order, target)
                    await target.clear(str(order.source).encode())
            async with _opened(order.target, order.shards) as target:
                await _refuse_if_occupied(order, target)
                with _of(order.target, "It has a part of it, with which no daemon starts: run this again."):
                    if isinstance(order.target, Address):
                        found = copying.for_several(found)
                    return await copying.copy(found, source, target, str(order.source), bar.at)


@contextlib.contextmanager
def _of(where: Place, advice: str = "") -> Iterator[None]:
    """Tells at which of the two something is wrong, and what that means."""
    try:
        yield
    except (StoreCorrupt, StoreUnavailable) as error:
        text = str(error) if str(where) in str(error) else f"{where}: {error}"
        raise type(error)(f"{text} {advice}".rstrip()) from None


@contextlib.asynccontextmanager
async def _opened(where: Place, shards: int) -> AsyncIterator[Journal]:
    """The journal of a store, which no daemon can open meanwhile."""
    journal: Journal
    if isinstance(where, Path):
        journal = TableFile(where, LeaseTable(0.0), ThreadedDisk)
    else:
        from watchdog.stores.parts import Parts  # noqa: PLC0415 - takes 0.4 s, and who has files needs none of it
        from watchdog.stores.valkey import server_at  # noqa: PLC0415

        journal = Parts(server_at(where), shards, f"migrate {uuid4().hex}", LeaseTable(0.0))
    try:
        await journal.open()
    except StoreLocked as error:
        raise StoreLocked(
            f"{where} is in use. Stop all its daemons, and leave them stopped until this is done. ({error})"
        ) from None
    try:
        yield journal
    finally:
        # It was not loaded, so that nothing is written.
        await journal.close(Clock())


async def _parts_at(where: Place) -> int | None:
    """In how many parts a server keeps agents; None for one that keeps none, and for a file."""
    if isinstance(where, Path):
        return None
    from watchdog.stores.part_reads import PartReads  # noqa: PLC0415
    from watchdog.stores.valkey import server_at  # noqa: PLC0415

    server = server_at(where)
    try:
        await server.examine()
        found = await PartReads(server, 0).meta("shards")
    finally:
        await server.close()
    return None if found is None else int(found)


async def _refuse_if_occupied(order: Order, target: Journal) -> None:
    # What is left of an attempt before is nobody's.
    if await target.meta(COPYING) is None and await target.meta("clock") is not None:
        _refuse(order)


def _refuse(order: Order) -> None:
    if not order.replace:
        raise StoreOccupied(
            f"{order.target} has been used by a daemon already. With --replace all that it keeps is dropped first; or "
            "name another one."
        )


async def _try(order: Order) -> None:
    """Finds out whether the target would be taken. No row of it is touched."""
    if isinstance(order.target, Path):
        trial.examine(order.target)
        if trial.meta(order.target, COPYING) is None and trial.meta(order.target, "clock") is not None:
            _refuse(order)
        return
    before = await _parts_at(order.target)
    if before is not None:
        async with _opened(order.target, before) as target:
            await _refuse_if_occupied(order, target)


def show(console: Console, order: Order, copied: Copied) -> None:
    """Prints what was copied."""
    console.print(f"{'Would copy' if order.dry_run else 'Copied'}  {order.source}")
    console.print(f"{'to':>{10 if order.dry_run else 6}}  {order.target}")
    for text, count in (
        ("agents", copied.agents),
        ("sessions, with those that ended lately", copied.sessions),
        ("changes of status that can be undone", copied.changes),
        ("agents with whom something was under way", copied.claims),
        (f"actions of the history, numbers up to {copied.last_number}", copied.actions),
        ("values: clock, brakes, orders, ticket secret, what was delivered", copied.values),
    ):
        console.print(f"{count:>9,}  {text}")
    if copied.left_out:
        console.print(f"{copied.left_out:>9,}  actions left out, since they cannot be read")
    if not order.dry_run:
        console.print(
            "\nStart the daemon with the new WATCHDOG_STORE, and none with the old one any more: that is as it was, "
            "and knows nothing of those who come and go from now on."
        )
