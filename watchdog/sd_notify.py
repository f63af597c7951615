"""Tells a service manager that the daemon is ready, alive, and stopping: systemd's `Type=notify` and `WatchdogSec=`.

Source: sd_notify(3), "NOTES": datagrams to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

ALIVE_S = 1.0
"""Between two signs of life; `WatchdogSec=` has to be at least twice that."""


class Supervisor:
    """Whoever started the daemon and wants to hear from it; without one nothing is sent.

    Nothing here waits or raises: a manager that does not listen any more is no reason to stop.
    """

    def __init__(self, address: str | None, time: Callable[[], float]) -> None:
        """Opens the socket.

        Args:
            address: Path of the manager's socket, or its abstract name behind an `@`; None without a manager.
            time: Monotonic seconds.
        """
        self._address = "\0" + address[1:] if address is not None and address.startswith("@") else address
        self._time = time
        self._told_at: float | None = None
        self._socket: socket.socket | None = None
        if address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature

    def alive(self, *, listening: bool) -> None:
        """To be called again and again: says that the daemon is ready once it listens, and then that it is alive."""
        now = self._time()
        if self._told_at is None:
            if not listening:
                return
            self._tell("READY=1\nWATCHDOG=1")
        elif now - self._told_at < ALIVE_S:
            return
        else:
            self._tell("WATCHDOG=1")
        self._told_at = now

    def stopping(self) -> None:
        """The stop has begun."""
        self._tell("STOPPING=1")

    def close(self) -> None:
        """Closes the socket. Safe to call twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, state: str) -> None:
        if self._socket is not None and self._address is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(state.encode(), self._address)
