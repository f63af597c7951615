"""One delivery: signs an event and posts it. When, in which order and how often is in `notify.py`.

No text that leaves this module has anything of the URL or of the secrets in it: both let whoever has them in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence

import httpx

from watchdog.core.model import Epoch
from watchdog.errors import NotAnswered, NotDelivered
from watchdog.outgoing import Caller, Resolve
from watchdog.telemetry.cloudevents import CONTENT_TYPE, Delivery, Event

TIMEOUT_S = 5.0
"""For one delivery in all, name resolution and the answer's headers included."""

PREFIX = "whsec_"
"""What a secret begins with; base64 follows. Source: Standard Webhooks, "Signature scheme"."""


class Webhook:
    """A URL that events are posted to, one at a time."""

    most = 1
    running = False

    def __init__(
        self,
        url: str,
        secrets: Sequence[str],
        *,
        epoch: Callable[[], Epoch],
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        """Nothing is called before `deliver`.

        Args:
            url: http or https.
            secrets: Each signs, with `PREFIX`.
            epoch: The wall clock.
            transport: In place of sockets.
            resolve: In place of the system's resolver: host and port to IP addresses; `OSError` where there are none.
        """
        self._url = url
        self._keys = [base64.b64decode(secret.removeprefix(PREFIX)) for secret in secrets]
        self._epoch = epoch
        self._caller = Caller(TIMEOUT_S, transport=transport, resolve=resolve)

    @property
    def key(self) -> str:
        """A name for the URL that does not tell it, the same in each process."""
        return hashlib.sha256(self._url.encode()).hexdigest()[:32]

    async def deliver(self, events: Sequence[Event]) -> Delivery:
        """Posts the event, of which there is one, once. Returns when the receiver has it.

        Raises:
            NotDelivered: It may or may not have it.
        """
        (event,) = events
        try:
            answer = await self._caller.ask("POST", self._url, content=event.body, headers=self.headers(event))
        except NotAnswered as error:
            raise NotDelivered(str(error)) from None
        if not 200 <= answer.status < 300:  # noqa: PLR2004  # RFC 9110, section 15.3
            raise NotDelivered(f"The answer has the status {answer.status}.")
        return Delivery()

    async def close(self) -> None:
        """Lets the connections go."""
        await self._caller.close()

    def headers(self, event: Event) -> dict[str, str]:
        """The headers of an attempt that is made now. Source: Standard Webhooks, "Webhook headers (metadata)"."""
        at = str(int(self._epoch()))
        signed = b".".join((event.id.encode(), at.encode(), event.body))
        signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in self._keys]
        return {
            "content-type": CONTENT_TYPE,
            "webhook-id": event.id,
            "webhook-timestamp": at,
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }
