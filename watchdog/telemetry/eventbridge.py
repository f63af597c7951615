"""One delivery to an event bus: events as entries of PutEvents, and what its answer means.

When, in which order and how often is in `notify.py`. boto3 blocks, so it runs in a thread of its own.

Source: Amazon EventBridge API Reference, "PutEvents"; User Guide, "Calculating PutEvents event entry size".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from watchdog.errors import NotDelivered
from watchdog.telemetry.cloudevents import Delivery, Event

SOURCE = "connect-presence-watchdog"

TIMEOUT_S = 20.0
"""For one delivery in all, the search for credentials included; its calls have shorter ones of their own."""

ENTRIES = 10
"""Of one call, at most."""

CALL_BYTES = 250_000
"""Of the entries of one call, at most. AWS allows 1 MB where it allowed 256 KB before, and not everywhere yet."""

ENTRY_BYTES = 1_000_000
"""A larger entry is never taken."""

TIME_BYTES = 14
"""What AWS counts for an entry's time."""

MALFORMED = "MalformedDetail"
"""Of an entry: it will be no better the next time."""

LASTING = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "InvalidAccountIdException",
        "NotAuthorizedForDetailTypeException",
        "NotAuthorizedForSourceException",
        "ResourceNotFoundException",
    }
)
"""Codes of a call or an entry that stay until a person mends something."""

CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""Codes that mean: AWS does not know who calls."""

_NO_ACCESS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, NoRegionError, InvalidRegionError)


class EventBridge:
    """An event bus that events are put on."""

    most = ENTRIES

    def __init__(
        self,
        bus: str,
        region: str | None,
        *,
        executor: Executor | None = None,
        make: Callable[[str | None], Any] | None = None,
    ) -> None:
        """Nothing is called and no credential is read before `deliver`.

        Args:
            bus: Its name or ARN.
            region: Of a bus that is named; None leaves it to botocore. An ARN has its own.
            executor: In place of a thread.
            make: In place of boto3: a client for a region.
        """
        self._bus = bus
        self._region = bus.split(":")[3] if bus.startswith("arn:") else region
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="eventbridge")
        self._make = make or _client
        self._client: Any = None
        self._running: set[Future[Delivery]] = set()

    @property
    def key(self) -> str:
        """A name for the bus, the same in each process; no URL has it."""
        return hashlib.sha256(f"{self._region} {self._bus}".encode()).hexdigest()[:32]

    @property
    def running(self) -> bool:
        """Whether a call has not ended, its caller cancelled or not."""
        return bool(self._running)

    async def deliver(self, events: Sequence[Event]) -> Delivery:
        """Puts events on the bus, each once.

        Returns:
            What the bus has not taken.

        Raises:
            NotDelivered: It has taken none, or nobody knows.
        """
        call = self._executor.submit(self._put_all, events)
        self._running.add(call)
        call.add_done_callback(self._running.discard)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.wrap_future(call)
        except TimeoutError:
            raise NotDelivered(f"PutEvents: no answer within {TIMEOUT_S:.0f} s.") from None

    async def close(self) -> None:
        """Takes no more; a call that runs ends with its time-out."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _put_all(self, events: Sequence[Event]) -> Delivery:
        never = [event for event in events if _size(self._entry(event)) > ENTRY_BYTES]
        left: list[Event] = []
        fault: NotDelivered | None = None
        for batch in self._batches([event for event in events if event not in never]):
            if fault is not None:
                left += batch  # what failed the first time is not tried again at once
                continue
            try:
                put = self._put(batch)
            except NotDelivered as error:
                left += batch
                fault = error
                continue
            left += put.left
            never += put.never
            if put.left:
                fault = NotDelivered(put.why, lasting=put.lasting)
        if fault is None:
            return Delivery(never=tuple(never))
        if len(left) == len(events):
            raise fault
        return Delivery(tuple(left), tuple(never), str(fault), lasting=fault.lasting)

    def _batches(self, events: Sequence[Event]) -> Iterator[list[Event]]:
        batch: list[Event] = []
        total = 0
        for event in events:
            size = _size(self._entry(event))
            if batch and total + size > CALL_BYTES:
                yield batch
                batch, total = [], 0
            batch.append(event)
            total += size
        if batch:
            yield batch

    def _put(self, events: Sequence[Event]) -> Delivery:
        try:
            if self._client is None:
                self._client = self._make(self._region)
            answer: Mapping[str, Any] = self._client.put_events(Entries=[self._entry(event) for event in events])
        except (BotoCoreError, ClientError, ValueError) as error:
            raise self._fault(error) from None
        rows = answer.get("Entries")
        if not isinstance(rows, list) or len(rows) != len(events):
            raise NotDelivered("PutEvents: the answer does not tell what became of each entry.")
        codes = [row.get("ErrorCode") for row in rows]
        left = tuple(event for event, code in zip(events, codes, strict=True) if code not in (None, MALFORMED))
        never = tuple(event for event, code in zip(events, codes, strict=True) if code == MALFORMED)
        if not left:
            return Delivery(never=never)
        first = next(row for row in rows if row.get("ErrorCode") not in (None, MALFORMED))
        code, text = first["ErrorCode"], first.get("ErrorMessage", "")
        told = f"PutEvents: {len(left)} of {len(events)} entries: {code}: {text}"
        return Delivery(left, never, told, lasting=code in LASTING)

    def _fault(self, error: Exception) -> NotDelivered:
        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            text = str(error.response.get("Error", {}).get("Message", ""))
            if code in CREDENTIALS:
                self._client = None  # it remembers them; a new one looks again
            lasting = code in LASTING | CREDENTIALS or status == 403  # noqa: PLR2004  # RFC 9110, section 15.5.4
            return NotDelivered(f"PutEvents: {code}: {text}", lasting=lasting)
        self._client = None
        return NotDelivered(f"PutEvents: {type(error).__name__}: {error}", lasting=isinstance(error, _NO_ACCESS))

    def _entry(self, event: Event) -> dict[str, Any]:
        return {
            "Time": datetime.fromtimestamp(event.at, UTC),
            "Source": SOURCE,
            "DetailType": event.type,
            "Detail": event.body.decode(),
            "EventBusName": self._bus,
        }


def _size(entry: Mapping[str, Any]) -> int:
    """Bytes of an entry as AWS counts them."""
    return TIME_BYTES + sum(len(entry[name].encode()) for name in ("Source", "DetailType", "Detail"))


def _client(region: str | None) -> Any:  # noqa: ANN401  # no stubs for a single call
    config = Config(
        connect_timeout=3,
        read_timeout=5,
        # One attempt: `notify.py` repeats, with its own back-off.
        retries={"total_max_attempts": 1, "mode": "standard"},
        user_agent_extra=SOURCE,
    )
    return boto3.session.Session().client("events", region_name=region, config=config)
