"""The HTTP server: uvicorn, with the limits that it does not have itself.

The daemon binds the socket, handles the signals and says when to stop; the application is made in `app.py`, and one
connection is in `connections.py`, one WebSocket in `websocket_protocol.py`.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from functools import partial

import uvicorn

from watchdog.core.messages import MAX_BODY
from watchdog.ingest.connections import CLOSE_S, BoundedProtocol, Connections
from watchdog.ingest.websocket_protocol import PING_S, PONG_S, SocketProtocol
from watchdog.ingest.wire import Asgi

KEEP_ALIVE_S = 75
"""Longer than load balancers keep idle connections (60 s at AWS), so that they, not we, close them.
Source: Elastic Load Balancing, Application Load Balancers, connection idle timeout."""


HANDSHAKE_S = 10.0
"""In which a TLS handshake has to be complete; it is three messages."""

HSTS = ("strict-transport-security", "max-age=31536000")
"""A browser that was once answered over TLS asks this name in no other way for a year. Source: RFC 6797."""


class Server(uvicorn.Server):
    """uvicorn's server, without signal handlers: `should_exit` stops it."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, with a limit on the time of handshakes, which uvicorn does not give."""
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        tls = config.ssl is not None
        self.servers = [
            await loop.create_server(
                protocol,
                sock=each,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=HANDSHAKE_S if tls else None,
                ssl_shutdown_timeout=CLOSE_S if tls else None,
            )
            for each in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the daemon."""
        yield


def server(app: Asgi, connections: Connections, *, drain_s: int = 5, tls: ssl.SSLContext | None = None) -> Server:
    """A server that is not running yet: `await serve(sockets=[bound])` runs it until `should_exit` is set.

    Args:
        app: The application.
        connections: What its connections share.
        drain_s: For how long requests may still run when it stops.
        tls: Serves HTTPS; None for HTTP.
    """
    config = uvicorn.Config(
        app,
        http=partial(BoundedProtocol, connections),  # type: ignore[arg-type]  # called with keywords, nothing else
        ws=SocketProtocol,
        ws_max_size=MAX_BODY,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PONG_S,
        # A message has 300 bytes: a compressor for each connection would cost a hundred times that.
        ws_per_message_deflate=False,
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
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        headers=[] if tls is None else [HSTS],
    )
    return Server(config)
