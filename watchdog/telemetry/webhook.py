"""One delivery: signs an event and posts it. When, in which order and how often is in `notify.py`.

No text that leaves this module has anything of the URL or of the secrets in it: both let whoever has them in.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import httpx

from watchdog.core.model import Epoch
from watchdog.errors import NotDelivered
from watchdog.telemetry.cloudevents import CONTENT_TYPE, Event

TIMEOUT_S = 5.0
"""For one delivery in all, name resolution and the answer's headers included."""

MAX_ANSWER = 65_536
"""Bytes read of an answer, so that its connection can be used again; one that says more is hung up on."""

PREFIX = "whsec_"
"""What a secret begins with; base64 follows. Source: Standard Webhooks, "Signature scheme"."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Webhook:
    """A URL that events are posted to."""

    def __init__(
        self,
        url: str,
        secrets: Sequence[str],
        *,
        barred: Callable[[str], bool],
        epoch: Callable[[], Epoch],
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        """Nothing is called before `deliver`.

        Args:
            url: http or https.
            secrets: Each signs, with `PREFIX`.
            barred: Whether an IP address is never called.
            epoch: The wall clock.
            transport: In place of sockets.
            resolve: In place of the system's resolver: host and port to IP addresses; `OSError` where there are none.
        """
        self._url = url
        self._keys = [base64.b64decode(secret.removeprefix(PREFIX)) for secret in secrets]
        self._barred = barred
        self._epoch = epoch
        self._resolve = resolve or _resolved
        # Whoever answers with a redirect is not followed: it could lead to where nothing may be posted.
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, transport=transport, follow_redirects=False)

    @property
    def key(self) -> str:
        """A name for the URL that does not tell it, the same in each process."""
        return hashlib.sha256(self._url.encode()).hexdigest()[:32]

    async def deliver(self, event: Event) -> None:
        """Posts an event once. Returns when the receiver has it.

        Raises:
            NotDelivered: It may or may not have it.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._check_addresses()
                status = await self._post(event)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise NotDelivered(f"{type(error).__name__}.") from None
        if not 200 <= status < 300:  # noqa: PLR2004  # RFC 9110, section 15.3
            raise NotDelivered(f"The answer has the status {status}.")

    async def close(self) -> None:
        """Lets the connections go."""
        await self._client.aclose()

    def headers(self, event: Event) -> dict[str, str]:
        """The headers of an attempt that is made now. Source: Standard Webhooks, "Webhook headers (metadata)"."""
        at = str(int(self._epoch()))
        signed = b".".join((event.id.encode(), at.encode(), event.body))
        signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in self._keys]
        return {
            "content-type": CONTENT_TYPE,
            "accept-encoding": "identity",
            "webhook-id": event.id,
            "webhook-timestamp": at,
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }

    async def _post(self, event: Event) -> int:
        async with self._client.stream("POST", self._url, content=event.body, headers=self.headers(event)) as response:
            read = 0
            async for chunk in response.aiter_bytes():
                read += len(chunk)
                if read > MAX_ANSWER:
                    break
            return response.status_code

    async def _check_addresses(self) -> None:
        """Refuses what leads to an address that is never called."""
        parts = urlsplit(self._url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = await self._resolve(host, port)
        except OSError:
            return  # where a proxy resolves, names need not be known here; without one the connection fails as well
        if any(self._barred(address) for address in found):
            raise NotDelivered("The name leads to a link-local or metadata address, which is never called.")


async def _resolved(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
