"""The HTTP server: uvicorn, with the limits that it does not have itself.

The daemon binds the socket, handles the signals and says when to stop; the application is made in `app.py`.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from watchdog.ingest.wire import Asgi

KEEP_ALIVE_S = 75
"""Longer than load balancers keep idle connections (60 s at AWS), so that they, not we, close them.
Source: Elastic Load Balancing, Application Load Balancers, connection idle timeout."""

REQUEST_S = 20.0
"""In which a request has to be complete, its body included. One that trickles in holds a connection no longer."""

MAX_HEAD = 32 * 1024
"""Bytes of a request line with its headers. The parser itself has no limit; one read may exceed this one."""

_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """One connection, with limits on how long and how large a request may be."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes: int | None = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time of the first request."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(REQUEST_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the deadline."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on, unless the head has grown too large."""
        super().data_received(data)
        if self._head_bytes is None or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD:
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Starts the time of a request, at its first byte."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self.transport.close)

    def on_headers_complete(self) -> None:
        """Ends the count of the head."""
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Ends the time of the request."""
        self._disarm()
        super().on_message_complete()

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _unsupported_upgrade_warning(self) -> None:
        """Says nothing: whoever asks for an upgrade must not fill the log."""


class Server(uvicorn.Server):
    """uvicorn's server, without signal handlers: `should_exit` stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the daemon."""
        yield


def server(app: Asgi, *, drain_s: int = 5, tls_cert: Path | None = None, tls_key: Path | None = None) -> Server:
    """A server that is not running yet: `await serve(sockets=[bound])` runs it until `should_exit` is set.

    Args:
        app: The application.
        drain_s: For how long requests may still run when it stops.
        tls_cert: PEM file with the certificate chain; None for plain HTTP.
        tls_key: PEM file with its key.
    """
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        # Not the client's to say, and not an environment variable's: addresses are those of the connections.
        proxy_headers=False,
        forwarded_allow_ips=[],
        workers=1,
        server_header=False,
        date_header=True,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=drain_s,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    return Server(config)
