"""The HTTP server: uvicorn, with the limits that it does not have itself.

The daemon binds the socket, handles the signals and says when to stop; the application is made in `app.py`, and one
connection is in `connections.py`, one WebSocket in `websocket_protocol.py`.
"""

import contextlib
from collections.abc import Iterator
from functools import partial

import uvicorn

from watchdog.core.messages import MAX_BODY
from watchdog.ingest.connections import BoundedProtocol, Connections
from watchdog.ingest.websocket_protocol import PING_S, PONG_S, SocketProtocol
from watchdog.ingest.wire import Asgi

KEEP_ALIVE_S = 75
"""Longer than load balancers keep idle connections (60 s at AWS), so that they, not we, close them.
Source: Elastic Load Balancing, Application Load Balancers, connection idle timeout."""


class Server(uvicorn.Server):
    """uvicorn's server, without signal handlers: `should_exit` stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the daemon."""
        yield


def server(app: Asgi, connections: Connections, *, drain_s: int = 5) -> Server:
    """A server that is not running yet: `await serve(sockets=[bound])` runs it until `should_exit` is set.

    Args:
        app: The application.
        connections: What its connections share.
        drain_s: For how long requests may still run when it stops.
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
    )
    return Server(config)
