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

from watchdog.ingest.connections import BoundedProtocol, Connections
from watchdog.ingest.fast_lane import FastProtocol
from watchdog.ingest.greetings import Greetings
from watchdog.ingest.shortcut import Shortcut
from watchdog.ingest.websocket import Tethers
from watchdog.ingest.websocket_protocol import PING_S, PONG_S, SocketProtocol
from watchdog.ingest.wire import Asgi

KEEP_ALIVE_S = 75
"""Longer than load balancers keep idle connections (60 s at AWS), so that they, not we, close them.
Source: Elastic Load Balancing, Application Load Balancers, connection idle timeout."""

ACCEPTED = 16
"""Connections that one turn of the loop accepts at most. libuv accepts one for each listener and turn (since 1.45), so
that a thousand who come back at once to a loop that is never idle would wait for seconds."""

HSTS = ("strict-transport-security", "max-age=31536000")
"""A browser that was once answered over TLS asks this name in no other way for a year. Source: RFC 6797."""


class Server(uvicorn.Server):
    """uvicorn's server, without signal handlers: `should_exit` stops it."""

    def __init__(self, config: uvicorn.Config, shared: Connections) -> None:
        """Takes uvicorn's configuration, and what all connections share."""
        super().__init__(config)
        self._shared = shared

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens. Those whose TLS handshake is not complete count, and have a time, which uvicorn does not give."""
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> BoundedProtocol:
            made: BoundedProtocol = config.http_protocol_class(  # type: ignore[assignment,call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        def others() -> int:
            return len(self.server_state.connections)

        self.servers = []
        for each in sockets or ():
            if config.ssl is None:
                for listener in (each, *(each.dup() for _ in range(ACCEPTED - 1))):
                    self.servers.append(await loop.create_server(protocol, sock=listener, backlog=config.backlog))
            else:
                greetings = Greetings(
                    each,
                    protocol,
                    config.ssl,
                    self._shared,
                    others=others,
                    failed=self._stop,
                    backlog=config.backlog,
                    turn=ACCEPTED,
                )
                self.servers.append(greetings)  # type: ignore[arg-type]  # closed, and waited for
        self.started = True

    def _stop(self) -> None:
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the daemon."""
        yield


def server(
    app: Asgi,
    connections: Connections,
    *,
    drain_s: int = 5,
    tls: ssl.SSLContext | None = None,
    shortcut: Shortcut | None = None,
    tethers: Tethers | None = None,
) -> Server:
    """A server that is not running yet: `await serve(sockets=[bound])` runs it until `should_exit` is set.

    Args:
        app: The application.
        connections: What its connections share.
        drain_s: For how long requests may still run when it stops.
        tls: Serves HTTPS; None for HTTP.
        shortcut: Answers what it can of the application's heartbeats before they become ASGI; None for none.
        tethers: Answers WebSockets; None for none: then their handshakes are requests as any other.
    """
    protocol = (
        partial(BoundedProtocol, connections) if shortcut is None else partial(FastProtocol, shortcut, connections)
    )
    config = uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]  # called with keywords, nothing else
        ws="none" if tethers is None else partial(SocketProtocol, tethers.open),  # type: ignore[arg-type]  # as above
        ws_ping_interval=PING_S,
        ws_ping_timeout=PONG_S,
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
    return Server(config, connections)
