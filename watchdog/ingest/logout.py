"""`POST /v1/agents/{instance_id}/{user_id}/logout`: 204 when it is done, else a problem with `outcome: "Fail"`.

Whoever asks needs no more than the status and `outcome`; `type` tells the reasons apart, `detail` says what to do.
"""

import http
from collections.abc import Callable, Container, Coroutine, Mapping
from dataclasses import replace
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Body, Depends
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from watchdog.core.logout import Failure
from watchdog.core.model import AgentId
from watchdog.errors import LogOutFailed, MessageError
from watchdog.ingest import audit, problems
from watchdog.ingest.operators import Operator
from watchdog.ingest.problems import Problem
from watchdog.ingest.queries import read_agent
from watchdog.ingest.views import FailOut, LogOutIn

FAIL = "Fail"
"""What whoever comes from Pega looks at."""

STATUSES: Mapping[str, int] = {
    Failure.REASON_CODE: 422,
    Failure.STATUS: 409,
    Failure.DRY_RUN: 409,
    Failure.NO_USER: 404,
    Failure.NOT_SIGNED_IN: 409,
    Failure.NO_QUEUE: 409,
    Failure.QUEUE: 409,
    Failure.CONTACT: 409,
    Failure.AFTER_CONTACT: 409,
    Failure.UNDER_WAY: 409,
    Failure.RETURNED: 409,
    Failure.REFUSED: 502,
    Failure.CONNECT: 503,
    Failure.STORE: 503,
    Failure.STOPPING: 503,
    Failure.LATE: 504,
}


class LogOuts(Protocol):
    """Logs agents out; see `watchdog.connect.log_out.LogOut`."""

    async def order(self, agent: AgentId, *, queue: str | None, reason_code: str | None, by: str) -> None:
        """Logs an agent out, or raises LogOutFailed."""


class FailingRoute(APIRoute):
    """A route of which every error that is not a fault of ours says `outcome: "Fail"`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wraps the handler, so that refusals of tokens and of the body say so too."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                problem = _problem(error)
                if problem is None:
                    raise
                headers = error.headers if isinstance(error, HTTPException) else None
                return problems.respond(replace(problem, outcome=FAIL), headers)

        return answer


def router_of(logouts: LogOuts, admin: Operator, instances: Container[str]) -> APIRouter:
    """The endpoint.

    Args:
        logouts: Does it.
        admin: Lets operators pass.
        instances: Ids of the instances that are watched.
    """
    router = APIRouter(prefix="/v1", tags=["operators"], route_class=FailingRoute, dependencies=[Depends(admin)])

    @router.post(
        "/agents/{instance_id}/{user_id}/logout",
        status_code=204,
        response_class=Response,
        responses={
            status: {"model": FailOut} for status in sorted({400, 401, 403, 404, 422, 429, 503, *STATUSES.values()})
        },
    )
    async def log_out(
        instance_id: str,
        user_id: str,
        by: Annotated[str, Depends(admin)],
        order: Annotated[LogOutIn | None, Body()] = None,
    ) -> Response:
        """Set the agent's status and end its Connect sessions; answered when it is done, within 40 s."""
        agent = read_agent(f"{instance_id}/{user_id}")
        if agent is None or instance_id not in instances:
            raise MessageError(
                404, "Not Found", "No such instance is watched. WATCHDOG_INSTANCES lists those that are."
            )
        given = order or LogOutIn()
        audit.note("logout", by, agent=str(agent))
        await logouts.order(agent, queue=_given(given.queue), reason_code=_given(given.reason_code), by=by)
        return Response(status_code=204)

    return router


def _given(text: str | None) -> str | None:
    """What was given; None for a blank, which forms and other systems send for nothing."""
    return (text or "").strip() or None


def _problem(error: Exception) -> Problem | None:
    if not isinstance(error, LogOutFailed):
        return problems.of(error)
    status = STATUSES[error.why]
    return Problem(status, http.HTTPStatus(status).phrase, str(error), error.why)
