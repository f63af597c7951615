"""Who asks as an operator: one dependency and one kind of router for all that only operators may ask."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends
from starlette.requests import Request

from watchdog.ingest.auth import Gate, bearer
from watchdog.ingest.views import ProblemOut
from watchdog.ingest.wire import Scope

Operator = Callable[[Request], Awaitable[str]]
"""Lets an operator's request pass, and tells who it is; raises what `Gate.check_admin` raises."""


def operator_of(gate: Gate, address: Callable[[Scope], str]) -> Operator:
    """The dependency.

    Args:
        gate: Who may ask.
        address: Whom a request is from.
    """

    # A coroutine, or FastAPI would run it in a thread: keys and tokens that are remembered belong to the loop.
    async def operator(request: Request) -> str:
        return gate.check_admin(bearer(request.headers.get("authorization", "")), address(request.scope))

    return operator


def router_for(operator: Operator) -> APIRouter:
    """A router whose endpoints are for operators, with the problems that each of them may answer."""
    return APIRouter(
        prefix="/v1",
        tags=["operators"],
        dependencies=[Depends(operator)],
        responses={status: {"model": ProblemOut} for status in (400, 401, 403, 422, 429, 503)},
    )
