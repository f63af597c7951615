"""What commands ask of a running daemon: one request over HTTP, and its answer or the reason why there is none."""

from __future__ import annotations

from typing import Any

import httpx

from watchdog.errors import DaemonError

USAGE = frozenset({400, 404, 422})
"""Statuses of an answer that says that the request is wrong."""

TIMEOUT_S = 10.0
"""The daemon answers within its flush, which is 1 s late at most before it says so."""


def ask(
    method: str,
    url: str,
    path: str,
    token: str | None,
    body: dict[str, Any] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Any:  # noqa: ANN401  # JSON
    """Asks the daemon.

    Args:
        method: Of HTTP.
        url: Where the daemon listens.
        path: Of its API.
        token: An admin token; None for a daemon that takes none.
        body: Sent as JSON.
        timeout_s: Longest time without an answer.

    Returns:
        The answer's JSON; an empty object for an answer without a body.

    Raises:
        DaemonError: There was no answer, or a refusal.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        answer = httpx.request(method, url.rstrip("/") + path, json=body, headers=headers, timeout=timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error).rstrip(".")
        raise DaemonError(f"No daemon answers at {url}: {reason}. Name another address with --url.") from None
    try:
        found = answer.json()
    except ValueError:
        found = {}
    if answer.is_success:
        return found
    detail = found.get("detail") if isinstance(found, dict) else None
    text = f"{url} refused ({answer.status_code}): {detail or 'it is no watchdog that answers there.'}"
    raise DaemonError(text, usage=detail is not None and answer.status_code in USAGE)
