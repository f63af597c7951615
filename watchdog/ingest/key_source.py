"""Where the keys of the identity provider come from: a URL or a file, looked at time and again, apart from requests.

A look that fails changes nothing: the keys of the last one stay in force, so that a provider that is down, or that
publishes nonsense, silences nobody. One that succeeds replaces them, so that a key that was taken away is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import structlog

from watchdog.core.model import Epoch
from watchdog.errors import NoKeys, NotAnswered
from watchdog.ingest import signing_keys
from watchdog.ingest.signing_keys import KeySet
from watchdog.outgoing import Caller

REFRESH_S = 300.0
"""Between two looks: for so long at most a key counts that was taken away."""

LEAST_S = 30.0
"""Between two looks for a key that a token names, however many tokens name unknown ones; and after one that failed."""

FIRST_S = 1.0
"""Between two looks as long as there are no keys at all; twice as long each time, up to `LEAST_S`."""

TIMEOUT_S = 5.0
"""For one look in all."""

MAX_DOCUMENT = 262_144
"""Bytes of a set; providers' have 1 to 30 KB."""

log = structlog.stdlib.get_logger(__name__)


class KeySource:
    """Keeps the keys.

    Attributes:
        current: The keys in force; None before the first could be had.
        fault: Why the last look failed, in sentences; None when it did not.
        since: Wall clock of the first failure in a row.
    """

    def __init__(
        self,
        place: str,
        caller: Caller,
        *,
        epoch: Callable[[], Epoch],
        time: Callable[[], float],
    ) -> None:
        """Nothing is looked at before `look` or `run`.

        Args:
            place: A URL or a file (JWKS).
            caller: Asks the URL; gives up after `TIMEOUT_S`.
            epoch: The wall clock.
            time: The loop's clock.
        """
        self.current: KeySet | None = None
        self.fault: str | None = None
        self.since: Epoch | None = None
        self._url = place if "://" in place else None
        self._path = Path(place)
        self._caller = caller
        self._epoch = epoch
        self._time = time
        self._failures = 0
        self._looking = False
        self._began_at = self._asked_at = float("-inf")
        self._wanted = asyncio.Event()

    def may_come(self) -> bool:
        """Notes that a key was asked for that is not there; whether it may be there after the next look."""
        self._wanted.set()
        return self._looking or self._failures > 0 or self._time() >= self._asked_at + LEAST_S

    @property
    def is_file(self) -> bool:
        """Whether nobody else is needed for a look."""
        return self._url is None

    @property
    def problem(self) -> str | None:
        """What a person has to mend; one failure alone is none while there are keys."""
        return None if self.current is not None and self._failures <= 1 else self.fault

    async def run(self) -> None:
        """Looks for ever: every `REFRESH_S`, and for an unknown key at once, but that each `LEAST_S` at most."""
        while True:
            await self._due()
            await self.look()

    async def look(self) -> None:
        """Looks once. Never raises; call it from one task at a time."""
        self._wanted.clear()
        self._looking = True
        self._began_at = self._time()
        try:
            self._found(await self.find())
        except NoKeys as error:
            self._failed(str(error))
        finally:
            self._looking = False

    async def find(self) -> KeySet:
        """The keys as they are there now; nothing is kept, and nothing logged.

        Raises:
            NoKeys: There are none; the text says why, in sentences.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                document = await (self._read() if self._url is None else self._fetch(self._url))
            return signing_keys.read(document)
        except NotAnswered as error:
            raise NoKeys(str(error)) from None
        except ValueError as error:
            raise NoKeys(f"What is there cannot be used. {error}") from None
        except NoKeys:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a provider does must not end the daemon
            raise NoKeys(f"{type(error).__name__}.") from None

    async def close(self) -> None:
        """Lets the connections go."""
        await self._caller.close()

    async def _due(self) -> None:
        """Waits until it is time for the next look."""
        if self.current is None or self._failures:
            # Whatever tokens name: nobody there has answered.
            doublings = min(10, max(0, self._failures - 1))
            pause_s = min(LEAST_S, FIRST_S * 2.0**doublings) if self.current is None else LEAST_S
            await asyncio.sleep(self._began_at + pause_s - self._time())
            self._asked_at = self._time()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._began_at + REFRESH_S - self._time()):
                await self._wanted.wait()
                await asyncio.sleep(self._asked_at + LEAST_S - self._time())
                self._asked_at = self._time()

    def _found(self, found: KeySet) -> None:
        if self._failures:
            log.info("jwks.back", failures=self._failures)
        self._failures, self.fault, self.since = 0, None, None
        if self.current is None or set(self.current.keys) != set(found.keys):
            self.current = found
            log.info("jwks.keys", keys=len(found.keys), left_out=[*found.left_out])

    def _failed(self, why: str) -> None:
        if not self._failures:
            self.since = self._epoch()
            log.warning("jwks.failed", reason=why, keys=0 if self.current is None else len(self.current.keys))
        self._failures += 1
        self.fault = why

    async def _read(self) -> bytes:
        def content() -> bytes:
            with self._path.open("rb") as file:
                return file.read(MAX_DOCUMENT + 1)

        try:
            document = await asyncio.to_thread(content)
        except OSError as error:
            raise NoKeys(f"The file cannot be read ({error.strerror}).") from None
        _check_size(document)
        return document

    async def _fetch(self, url: str) -> bytes:
        headers = {"accept": "application/jwk-set+json, application/json"}
        answered = await self._caller.ask("GET", url, headers=headers, limit=MAX_DOCUMENT)
        if answered.status != HTTPStatus.OK:
            raise NoKeys(f"The answer has the status {answered.status}.")
        if not answered.whole:
            raise NoKeys(f"The answer is compressed, or has more than {MAX_DOCUMENT} bytes.")
        return answered.body


def _check_size(document: bytes | bytearray) -> None:
    if len(document) > MAX_DOCUMENT:
        raise NoKeys(f"It has more than {MAX_DOCUMENT} bytes.")
