"""Errors as RFC 9457 problems, in the shape that the fast lane and FastAPI share.

`type` is a stable URN for heartbeats that are refused and for logouts that failed, so that a client can tell the
reasons apart, and `about:blank` for everything else. `detail` says what to do.
"""

import http
from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from watchdog.errors import MessageError, StoreUnavailable

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_S = 1
"""Least that a client waits after a 503: the flush runs five times in it."""

UNAVAILABLE = "The store cannot take anything now. Nothing was lost; try again after the time in Retry-After."


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Attributes:
        status: HTTP status.
        title: The same text for every problem of the kind.
        detail: What is wrong with this request and what to do.
        kind: Last part of the URN in `type`; empty for `about:blank`.
        outcome: Of what was to be done, for those who look at that alone; empty where there is none.
    """

    status: int
    title: str
    detail: str
    kind: str = ""
    outcome: str = ""

    def body(self) -> bytes:
        """The problem as JSON."""
        kind = f"urn:watchdog:problem:{self.kind}" if self.kind else "about:blank"
        outcome = {"outcome": self.outcome} if self.outcome else {}
        told = {"type": kind, "title": self.title, "status": self.status, "detail": self.detail}
        return orjson.dumps(told | outcome)

    def headers(self) -> dict[str, str]:
        """Headers that belong to the status."""
        if self.status == http.HTTPStatus.UNAUTHORIZED:
            return {"www-authenticate": "Bearer"}
        if self.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            return {"retry-after": str(RETRY_AFTER_S)}
        return {}


UNEXPECTED = Problem(500, "Internal Server Error", "This is a fault of the daemon. Its log says what happened.")
"""What is told of an error of our own: nothing of its inside."""


def install(app: FastAPI) -> None:
    """Makes the app answer every error as a problem."""
    for kind in (HTTPException, RequestValidationError, MessageError, StoreUnavailable, Exception):
        app.add_exception_handler(kind, _answer)


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as an answer; `headers` over those of its status."""
    return Response(problem.body(), problem.status, {**problem.headers(), **(headers or {})}, MEDIA_TYPE)


def of(error: Exception) -> Problem | None:
    """The problem of an error that its sender can do something about; None for a fault of our own."""
    match error:
        case HTTPException():
            title = http.HTTPStatus(error.status_code).phrase
            detail = _DETAILS.get(error.status_code, title) if error.detail == title else error.detail
            return Problem(error.status_code, title, detail)
        case RequestValidationError():
            # Where and what, never the value: it may be a secret in the wrong place.
            faults = "; ".join(f"`{fault['loc'][-1]}`: {fault['msg']}" for fault in error.errors())
            return Problem(422, http.HTTPStatus(422).phrase, f"{faults}.")
        case MessageError():
            return Problem(error.status, error.title, error.detail)
        case StoreUnavailable():
            return Problem(503, "Service Unavailable", UNAVAILABLE)
    return None


_DETAILS = {
    404: "There is nothing here. /openapi.json lists what there is.",
    405: "The method does not fit. The Allow header says which one does.",
}


async def _answer(_: Request, error: Exception) -> Response:
    # A coroutine, or each refusal would pass a thread.
    return respond(of(error) or UNEXPECTED, error.headers if isinstance(error, HTTPException) else None)
