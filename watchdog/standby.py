"""A daemon that stands by: another one has the store, and this one goes on when it is gone.

What it answers meanwhile is in `ingest/standby.py`.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import structlog

from watchdog.errors import StoreLocked, StoreUnavailable
from watchdog.ingest.server import Server

PAUSE_S = 0.5
"""Between two attempts at the store. Each of them waits for it for some seconds itself."""

log = structlog.stdlib.get_logger(__name__)


async def stood_by(
    opened: Callable[[], Awaitable[None]], http: Server, listener: socket.socket, stop: asyncio.Event
) -> bool:
    """Serves until the store is opened.

    Args:
        opened: Opens it.
        http: The server, not running yet; it has ended when this returns.
        listener: Where it listens; closed when this returns.
        stop: Set when the daemon is to end.

    Returns:
        Whether the store is open; False when the daemon was told to end before.

    Raises:
        StoreError: It cannot be opened for another reason than that somebody has it, or that it cannot be reached.
    """
    serving = asyncio.create_task(http.serve(sockets=[listener]))
    stopping: asyncio.Future[object] = asyncio.ensure_future(stop.wait())
    tasks = [stopping]
    try:
        while not stop.is_set():
            opening: asyncio.Future[object] = asyncio.ensure_future(opened())
            tasks = [stopping, opening]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                return False
            try:
                opening.result()
            except (StoreLocked, StoreUnavailable) as error:
                log.debug("store.still_locked", reason=str(error))
                await asyncio.wait({stopping}, timeout=PAUSE_S)
            else:
                return True
        return False
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        http.should_exit = True
        await serving
