"""TLS connections before their handshake is complete: each counts from the moment at which it is accepted.

An event loop's own server counts nobody before that, so that whoever connects and says nothing would take open files
until none is left.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence

from watchdog.ingest.connections import CLOSE_S, BoundedProtocol, Connections

HANDSHAKE_S = 10.0
"""In which a TLS handshake has to be complete; it is three messages."""

AGAIN_S = 0.1
"""Until the next try when a connection could not be accepted, e.g. for want of open files."""


class Greetings:
    """Accepts connections, and gives each to its protocol when its handshake is complete. Used as a server is."""

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], BoundedProtocol],
        tls: ssl.SSLContext,
        shared: Connections,
        *,
        others: Callable[[], int],
        failed: Callable[[], None],
        backlog: int,
        turn: int,
    ) -> None:
        """Listens from now on.

        Args:
            listener: A bound socket.
            make: Makes the protocol of a connection.
            tls: Greets.
            shared: Counts.
            others: How many connections there are whose handshake is complete.
            failed: Called if nobody can be accepted any more.
            backlog: Of the socket.
            turn: How many are accepted in one turn of the loop at most.
        """
        self._listener = listener
        self._make = make
        self._tls = tls
        self._shared = shared
        self._others = others
        self._at_once = turn
        self._loop = asyncio.get_running_loop()
        self._greeting: set[asyncio.Task[None]] = set()
        listener.settimeout(0)
        listener.listen(backlog)
        self._accepting = self._loop.create_task(self._accept())
        self._accepting.add_done_callback(lambda task: None if task.cancelled() else failed())

    def close(self) -> None:
        """Accepts nobody any more, and greets nobody to the end."""
        self._accepting.cancel()
        for task in self._greeting:
            task.cancel()

    async def wait_closed(self) -> None:
        """Returns when that is so."""
        await asyncio.gather(self._accepting, *self._greeting, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                self._receive(*await self._loop.sock_accept(self._listener))
                for _ in range(self._at_once - 1):
                    self._receive(*self._listener.accept())
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError:
                await asyncio.sleep(AGAIN_S)

    def _receive(self, accepted: socket.socket, peer: Sequence[object]) -> None:
        accepted.settimeout(0)
        name = self._shared.enter(str(peer[0]))
        if self._turned_away(name):
            self._shared.leave(name)
            accepted.close()
            return
        task = self._loop.create_task(self._greet(accepted, name))
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)

    def _turned_away(self, name: str | None) -> bool:
        """Whether there are too many. No answer is possible before the handshake."""
        if self._others() + len(self._greeting) >= self._shared.most:
            self._shared.turn_away()
            return True
        return self._shared.exceeded(name)

    async def _greet(self, accepted: socket.socket, name: str | None) -> None:
        counted = True

        def leave() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._shared.leave(name)

        def made() -> BoundedProtocol:
            protocol = self._make()
            # It enters by itself: nobody counts twice.
            protocol.greeted = leave
            return protocol

        try:
            await self._loop.connect_accepted_socket(
                made, accepted, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_S, ssl_shutdown_timeout=CLOSE_S
            )
        except OSError:
            # Not finished, or no TLS at all.
            accepted.close()
        finally:
            leave()
