"""Calls to the URLs of the settings: never to a metadata service, never redirected, bounded in time and in size.

A name is looked at twice: before the call, and when its connection stands, which is when it cannot change any more.
Nothing of a URL is in the text of an error, since some of them are secrets. What is called, and when, is elsewhere.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from watchdog.core.addresses import is_barred
from watchdog.errors import NotAnswered

MAX_ANSWER = 65_536
"""Bytes read of an answer unless told otherwise; one that says more is hung up on."""

BARRED = "The name leads to a link-local or metadata address, which is never called."

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Answered:
    """What was answered.

    Attributes:
        status: HTTP status; of a redirect its own.
        body: As it was sent.
        whole: Whether that is all of it.
    """

    status: int
    body: bytes
    whole: bool


class Caller:
    """An HTTP client for one URL of the settings."""

    def __init__(
        self,
        timeout_s: float,
        *,
        proxies: bool = True,
        keep: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve | None = None,
        barred: Callable[[str], bool] = is_barred,
    ) -> None:
        """Nothing is called before `ask`.

        Args:
            timeout_s: For one call in all, name resolution and the answer's body included.
            proxies: Take the way that the environment names (HTTPS_PROXY).
            keep: Use a connection for several calls.
            transport: In place of sockets.
            resolve: In place of the system's resolver: host and port to IP addresses; `OSError` where there are none.
            barred: Whether an IP address is never called.
        """
        self._barred = barred
        self._timeout_s = timeout_s
        self._proxies = proxies
        self._resolve = resolve or _resolved
        self._client = httpx.AsyncClient(
            verify=httpx.create_ssl_context(),
            trust_env=proxies,
            timeout=timeout_s,
            transport=transport,
            follow_redirects=False,
            limits=httpx.Limits(max_keepalive_connections=1 if keep else 0),
        )

    async def ask(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        limit: int = MAX_ANSWER,
    ) -> Answered:
        """Calls once.

        Args:
            method: Of the request.
            url: http or https.
            content: The body.
            headers: Of the request.
            limit: Bytes read of the answer.

        Raises:
            NotAnswered: It may or may not have arrived; the text says how, without the address.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._check_names(url)
                return await self._ask(method, url, content, headers or {}, limit)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise NotAnswered(f"{type(error).__name__}.") from None

    async def close(self) -> None:
        """Lets the connections go."""
        await self._client.aclose()

    async def _ask(self, method: str, url: str, content: bytes, headers: Mapping[str, str], limit: int) -> Answered:
        # What is packed may be a thousand times as large: it is not asked for, and not unpacked.
        asked = {"accept-encoding": "identity", **headers}
        body = bytearray()
        async with self._client.stream(
            method, url, content=content or None, headers=asked, extensions={"trace": self._check_peer}
        ) as response:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                return Answered(response.status_code, b"", whole=False)
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > limit:
                    break
            return Answered(response.status_code, bytes(body[:limit]), len(body) <= limit)

    async def _check_names(self, url: str) -> None:
        """Refuses what leads to an address that is never called."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = await self._resolve(host, port)
        except OSError:
            if self._proxies:
                return  # where a proxy resolves, names need not be known here; without one the connection fails as well
            raise
        if any(self._barred(address) for address in found):
            raise NotAnswered(BARRED)

    async def _check_peer(self, name: str, info: Mapping[str, Any]) -> None:
        """Hangs up on an address that is never called, before anything was sent: the name may have changed since."""
        if name != "connection.connect_tcp.complete":
            return
        stream = info["return_value"]
        peer = stream.get_extra_info("server_addr")
        if peer is None or self._barred(str(peer[0])):
            await stream.aclose()
            raise NotAnswered(BARRED)


async def _resolved(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
