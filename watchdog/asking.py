"""A running daemon over HTTP: what commands ask of it, and its answer or the reason why there is none."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from watchdog.errors import DaemonError

USAGE = frozenset({400, 404, 422})
"""Statuses of an answer that says that the request is wrong."""

UNAUTHORIZED = frozenset({401, 403})

TIMEOUT_S = 10.0
"""The daemon answers within its flush, which is 1 s late at most before it says so."""

PAGE = 1_000
"""Entries asked for at once: the most that there are in a page."""

HERE = ("all://localhost", "all://127.0.0.1", "all://[::1]")
"""Never asked for through a proxy, which would get to see the token."""

WRONG_NAME = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon is asked, and as whom.

    Attributes:
        url: Where it listens.
        token: An admin token; None for a daemon that takes none.
        url_from: Where the URL is from, as a sentence without its end.
        token_from: Where the token is from; empty without one.
        ca_file: Certificates of the authorities to trust; None for those of the system.
    """

    url: str
    token: str | None = None
    url_from: str = "That address was given with --url"
    token_from: str = "--token-file"  # noqa: S105  # an option, no token
    ca_file: Path | None = None


class Daemon:
    """Asks the daemon of a place, over one connection. To be closed."""

    def __init__(self, place: Place) -> None:
        """Nothing is asked yet.

        Raises:
            DaemonError: The file of the authorities cannot be used.
        """
        self._place = place
        self._url = place.url.rstrip("/")
        headers = {} if place.token is None else {"Authorization": f"Bearer {place.token}"}
        self._client = httpx.Client(
            headers=headers, timeout=TIMEOUT_S, verify=_trust(place), mounts=dict.fromkeys(HERE, None)
        )

    def __enter__(self) -> Self:
        """To be closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connection."""
        self._client.close()

    @property
    def url(self) -> str:
        """Where it is asked."""
        return self._url

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        params: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:  # noqa: ANN401  # JSON
        """Asks.

        Args:
            method: Of HTTP.
            path: Of its API.
            body: Sent as JSON.
            params: Of the query.
            timeout_s: Longest time without an answer.

        Returns:
            The answer's JSON; an empty object for an answer without a body.

        Raises:
            DaemonError: There was no answer, or a refusal.
        """
        with self._answered():
            answer = self._client.request(method, self._url + path, json=body, params=params, timeout=timeout_s)
        return self._checked(answer)

    def text(self, path: str) -> str:
        """Asks for a text.

        Raises:
            DaemonError: There was no answer, or a refusal.
        """
        with self._answered():
            answer = self._client.get(self._url + path)
        self._checked(answer)
        return answer.text

    def entries(self, path: str, name: str, params: dict[str, str], most: int | None = None) -> Iterator[Any]:
        """Asks for the entries of a list, page after page.

        Args:
            path: Of its API.
            name: Of the list in the answer.
            params: Of the query, without `cursor` and `limit`.
            most: How many at most; None for all.

        Raises:
            DaemonError: There was no answer, or a refusal.
        """
        cursor, left = "", most
        while left is None or left > 0:
            asked = params | {"limit": str(PAGE if left is None else min(PAGE, left))}
            page = self.ask("GET", path, params=asked | ({"cursor": cursor} if cursor else {}))
            yield from page[name]
            cursor = page["cursor"]
            if not cursor:
                return
            left = None if left is None else left - len(page[name])

    @contextlib.contextmanager
    def stream(self, path: str, params: dict[str, str], silence_s: float) -> Iterator[httpx.Response]:
        """Asks for something that comes bit by bit.

        Args:
            path: Of its API.
            params: Of the query.
            silence_s: Longest time in which nothing comes.

        Raises:
            DaemonError: There was no answer, or a refusal.
        """
        timeout = httpx.Timeout(TIMEOUT_S, read=silence_s)
        with contextlib.ExitStack() as stack:
            with self._answered():
                answer = stack.enter_context(
                    self._client.stream("GET", self._url + path, params=params, timeout=timeout)
                )
                if not answer.is_success:
                    answer.read()
            self._checked(answer, read=not answer.is_success)
            yield answer

    @contextlib.contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DaemonError(_unreachable(self._place, error)) from None

    def _checked(self, answer: httpx.Response, *, read: bool = True) -> Any:  # noqa: ANN401  # JSON
        found: Any = {}
        if read:
            with contextlib.suppress(ValueError):
                found = answer.json()
        if answer.is_success:
            return found
        detail = found.get("detail") if isinstance(found, dict) else None
        status = answer.status_code
        if detail is None:
            raise DaemonError(
                f"{self._url} refused ({status}): it is no watchdog that answers there, or one of another version. "
                f"{self._place.url_from}. Name another address with --url."
            )
        text = f"{self._url} refused ({status}): {detail}"
        if status in UNAUTHORIZED:
            sent = f"The token of {self._place.token_from} was sent"
            if self._place.token is None:
                sent = "No token was sent: none is set here"
            text += f"\n{sent}. Give one with --token-file FILE, or in WATCHDOG_ADMIN_TOKENS or its _FILE."
        raise DaemonError(text, usage=status in USAGE)


def _trust(place: Place) -> ssl.SSLContext:
    if not place.url.startswith("https"):
        # Trusts nobody, and need not load whom to trust.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if place.ca_file is None:
        # SSL_CERT_FILE, SSL_CERT_DIR, or the authorities that come with certifi.
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=place.ca_file)
    except OSError as error:
        raise DaemonError(
            f"--ca-file: {place.ca_file} cannot be used: {error.strerror or error}. Give a file in PEM with the "
            "certificates of the authorities to trust.",
            usage=True,
        ) from None


def _unreachable(place: Place, error: Exception) -> str:
    """Says why there is no answer, and what to do."""
    url, cause = place.url, _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in WRONG_NAME:
            return (
                f"The certificate at {url} is for another name: {cause.verify_message}.\n{place.url_from}. Ask for the "
                "daemon by a name that is in the certificate: --url https://NAME:PORT."
            )
        return (
            f"The certificate at {url} is not trusted: {cause.verify_message}. Name the file of the authority that "
            "issued it, in PEM: --ca-file FILE, or SSL_CERT_FILE=FILE."
        )
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error).rstrip(".")
    text = f"No daemon answers at {url}: {reason or type(error).__name__}.\n{place.url_from}. "
    if isinstance(cause, ssl.SSLError):
        return f"{text}If it serves no HTTPS, ask with --url http://…"
    if isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError)) and url.startswith("http:"):
        return f"{text}If it serves HTTPS, ask with --url https://…"
    return f"{text}Start one with `watchdog run`, or name another address with --url."


def _cause(error: BaseException) -> BaseException:
    """What all else came of; for TLS the error of TLS."""
    while not isinstance(error, ssl.SSLError):
        deeper = error.__cause__ or error.__context__
        if deeper is None:
            break
        error = deeper
    return error


def named_by(variables: Sequence[str]) -> str:
    """Says where a URL is from that was made of environment variables; of their defaults, if there are none."""
    if variables:
        return f"That address is from {' and '.join(variables)}"
    return "That address is the default, since neither WATCHDOG_HOST nor WATCHDOG_PORT is set here"
