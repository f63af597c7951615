"""Connections that are made before the last look at the clock, so that nothing leaves later than it may.

botocore's event `before-send` comes before TCP and TLS, which take as long as the way to AWS is slow. Here the
connection is made first; only then is it decided whether the request may still leave. One that came too late stays
open, so that the next attempt does not wait for it again.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from urllib3.exceptions import ConnectTimeoutError

from watchdog.core.model import Boot, Instant
from watchdog.errors import CallAborted

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from urllib3._base_connection import BaseHTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool as _Pool
else:
    _Pool = object


class Prompt:
    """The limits of the calls that are under way, one a thread."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        """Starts without limits.

        Args:
            now: The machine's clocks.
        """
        self._now = now
        self._call = threading.local()

    @contextmanager
    def limit(self, not_after: Boot) -> Iterator[None]:
        """What this thread sends in it leaves at `not_after` (reading of `Instant.boot`) at the latest.

        Raises:
            CallAborted: It would have been later; nothing was sent.
        """
        self._call.not_after, self._call.late = not_after, False
        try:
            yield
        except Exception:
            # botocore makes one of its own exceptions of ours.
            if self.late:
                text = "Not sent: more than 250 ms have passed since the re-check. It is done again."
                raise CallAborted(text) from None
            raise
        finally:
            self._call.not_after, self._call.late = None, False

    @property
    def late(self) -> bool:
        """Whether the call of this thread was aborted."""
        return getattr(self._call, "late", False)

    def check(self) -> None:
        """Raises `CallAborted` when the call of this thread has a limit that is over."""
        not_after = getattr(self._call, "not_after", None)
        if not_after is not None and self._now().boot > not_after:
            self._call.late = True
            raise CallAborted("too late")

    def install(self, client: BaseClient) -> None:
        """Makes a botocore client, that has called nothing yet, keep the limits.

        Raises:
            AttributeError: This botocore is built otherwise: better no call than a late one.
        """
        # There is no public way to them.
        classes = client._endpoint.http_session._pool_classes_by_scheme  # type: ignore[attr-defined]  # noqa: SLF001
        kinds = {
            "http": (AWSHTTPConnectionPool, AWSHTTPConnection),
            "https": (AWSHTTPSConnectionPool, _Connection),
        }
        for scheme, (pool, connection) in kinds.items():
            if classes[scheme] is not pool:
                raise AttributeError(f"{pool.__name__} is not the pool of {scheme}")
            classes[scheme] = type("PromptPool", (_PromptPool, pool), {"prompt": self, "ConnectionCls": connection})


class _Connection(AWSHTTPSConnection):
    """A connection that is not taken for broken because TLS 1.3 has sent tickets over it that nobody has read yet."""

    @property
    def is_connected(self) -> bool:
        """Whether the other side has neither closed it nor sent anything."""
        sock = self.sock
        if not isinstance(sock, ssl.SSLSocket):
            return bool(super().is_connected)
        timeout_s = sock.gettimeout()
        sock.settimeout(0.0)
        try:
            sock.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        finally:
            sock.settimeout(timeout_s)
        # The end, or an answer that nobody has asked for.
        return False


class _PromptPool(_Pool):
    """Before the real pool of urllib3: hands out connections that are connected, if there is still time for a request.

    `_get_conn` and `_put_conn` are not public, and have been the same since urllib3 1.0.
    """

    prompt: Prompt

    def _get_conn(self, timeout: float | None = None) -> BaseHTTPConnection:
        connection = super()._get_conn(timeout)
        if connection.is_closed:
            try:
                self._connect(connection)
            except BaseException:
                connection.close()
                raise
        try:
            self.prompt.check()
        except CallAborted:
            self._put_conn(connection)
            raise
        return connection

    def _connect(self, connection: BaseHTTPConnection) -> None:
        connection.timeout = self.timeout.resolve_default_timeout(self.timeout.connect_timeout)
        try:
            if self.proxy is not None and self.scheme == "https":
                self._prepare_proxy(connection)
            else:
                connection.connect()
        except TimeoutError as error:
            # urllib3 would call it a time-out of the answer, after which a request may have taken effect.
            raise ConnectTimeoutError(self, f"{self.host}: no connection in {connection.timeout} s") from error

    def _put_conn(self, conn: BaseHTTPConnection | None) -> None:
        # After an abort urllib3 gives back a place, which is taken by the connection that was put back above.
        if conn is not None or not self.prompt.late:
            super()._put_conn(conn)
