"""The HTTP application: the fast lane for heartbeats, and FastAPI for everything that operators ask.

What the answers say comes from the store and from `Health`; nothing is decided here.
"""

from collections.abc import Awaitable, Callable, Container
from typing import Annotated, Any, Protocol, TypeVar

import orjson
from fastapi import APIRouter, Depends, FastAPI, Query
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from watchdog.core.addresses import is_loopback
from watchdog.core.brake import ALL
from watchdog.core.model import AgentId, AgentState, Instant, Outcome
from watchdog.errors import MessageError
from watchdog.ingest import audit, openapi, problems
from watchdog.ingest import console as consoles
from watchdog.ingest.answers import PROBLEM_HEADERS
from watchdog.ingest.auth import Gate
from watchdog.ingest.client_files import PREFIX, ClientFiles
from watchdog.ingest.console import Console
from watchdog.ingest.dashboard import DashboardFiles, is_of_dashboard
from watchdog.ingest.heartbeat import MANY, ONE, Heartbeats
from watchdog.ingest.logout import LogOuts, router_of
from watchdog.ingest.operators import Operator, operator_of, router_for
from watchdog.ingest.origins import is_local
from watchdog.ingest.queries import read_agent, read_name, read_since
from watchdog.ingest.recording import MAX_S, Recordings
from watchdog.ingest.views import (
    ActionsOut,
    AgentOut,
    AgentsOut,
    BrakeIn,
    BrakeOut,
    ProblemOut,
    RestoreIn,
    RestoreOut,
    actions_json,
    agent_out,
    agents_json,
    brake_out,
    rfc3339,
)
from watchdog.ingest.websocket import PATH, UPGRADE_HEADERS, UPGRADE_REQUIRED
from watchdog.ingest.wire import CLOSED_PAGE, SAFE_HEADERS, Asgi, Message, Receive, Scope, Send, answer
from watchdog.stores.base import Store

MAX_PAGE = 1000
"""Most agents or actions on one page."""

_FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-real-ip", "via"})
"""A request with one of these came through a proxy, so its address is the proxy's."""

_Page = TypeVar("_Page")

_Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
_Cursor = Annotated[str | None, Query(max_length=1000)]
_Text = Annotated[str, Query(max_length=1000)]
_State = Annotated[str, Query(max_length=1000, json_schema_extra={"enum": ["", *AgentState]})]
_Outcome = Annotated[str, Query(max_length=1000, json_schema_extra={"enum": ["", *Outcome]})]


class Health(Protocol):
    """What the daemon knows of itself."""

    def alive(self) -> str | None:
        """Why the process should be restarted; None when it should not."""

    def ready(self) -> str | None:
        """Why heartbeats cannot be accepted and stored; None when they can."""

    async def status(self) -> dict[str, Any]:
        """Everything that an operator should see; JSON values only, no secrets."""


class Exposition(Protocol):
    """Something that Prometheus can read.

    Attributes:
        content_type: Media type of what `render` gives.
    """

    content_type: str

    def render(self) -> bytes:
        """All metrics as they are now."""


def build(
    heartbeats: Heartbeats,
    store: Store,
    gate: Gate,
    health: Health,
    metrics: Exposition,
    recordings: Recordings,
    *,
    logouts: LogOuts,
    version: str,
    instances: Container[str],
    now: Callable[[], Instant],
    console: Console,
) -> Asgi:
    """Puts the application together. It has no start and no end of its own.

    Args:
        heartbeats: Answers the heartbeat paths.
        store: Answers about agents and actions.
        gate: Who may ask.
        health: Answers about the daemon.
        metrics: Answers Prometheus.
        recordings: Answers whoever records.
        logouts: Log agents out.
        version: Of the distribution.
        instances: Ids of the instances that are watched.
        now: The machine's clocks.
        console: What the dashboard needs besides.
    """
    api = FastAPI(
        title="Connect Presence Watchdog",
        version=version,
        description="Agents say that they are there. Errors are RFC 9457 problems.",
        # The default pages load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    problems.install(api)

    def address(scope: Scope) -> str:
        return heartbeats.address(scope)

    admin = operator_of(gate, address)
    api.include_router(_probes(health))
    api.include_router(_operators(store, admin, health, recordings, instances, now, console))
    api.include_router(router_of(logouts, admin, instances))
    api.include_router(consoles.router_of(console, store, admin, instances))
    api.include_router(_scrape(admin, metrics))
    api.openapi = openapi.complete(api)  # type: ignore[method-assign]
    client_files, dashboard_files = ClientFiles(), DashboardFiles()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(PREFIX):
            await client_files(scope, send)
            return
        if is_of_dashboard(scope["path"]):
            await dashboard_files(scope, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        if scope["path"] not in (ONE, MANY):
            if scope["path"] == PATH:
                await answer(send, UPGRADE_REQUIRED.status, UPGRADE_REQUIRED.body(), UPGRADE_HEADERS)
                return
            await api(scope, receive, _safely(send))
            return
        try:
            await heartbeats(scope, receive, sending)
        except Exception:
            if not started:
                await answer(send, 500, problems.UNEXPECTED.body(), PROBLEM_HEADERS)
            # The server logs it.
            raise

    return application


def _probes(health: Health) -> APIRouter:
    router = APIRouter(tags=["probes"])

    async def livez() -> Response:
        """503 when the process should be restarted."""
        return _probe(health.alive())

    async def readyz() -> Response:
        """503 unless heartbeats can be accepted and stored."""
        return _probe(health.ready())

    for path, probe in (("/livez", livez), ("/readyz", readyz)):
        router.add_api_route(path, probe, methods=["GET"], responses={503: {"model": ProblemOut}})
        router.add_api_route(path, probe, methods=["HEAD"], include_in_schema=False)
    return router


def _operators(
    store: Store,
    admin: Operator,
    health: Health,
    recordings: Recordings,
    instances: Container[str],
    now: Callable[[], Instant],
    console: Console,
) -> APIRouter:
    router = router_for(admin)

    @router.get("/status", response_model=dict[str, Any])
    async def status() -> Response:
        """Everything about the daemon."""
        return Response(orjson.dumps(await health.status(), default=str), media_type="application/json")

    @router.get("/agents", response_model=AgentsOut)
    async def agents(
        state: _State = "", q: _Text = "", profile: _Text = "", cursor: _Cursor = None, limit: _Limit = 100
    ) -> Response:
        """Agents in a state, whose instance or user id contains `q`, of the routing profile of this very name."""
        wanted = read_name("state", state, AgentState)
        among = console.profiles.having(profile) if profile else None
        page = await _page(store.agents(wanted, q, cursor or None, limit, among=among))
        return Response(await agents_json(page, console.profiles.name), media_type="application/json")

    @router.get("/agents/{instance_id}/{user_id}", responses={404: {"model": ProblemOut}})
    async def agent(instance_id: str, user_id: str) -> AgentOut:
        """One agent."""
        view = await store.agent(AgentId(instance_id, user_id))
        if view is None:
            raise MessageError(404, "Not Found", "No such agent has been heard of. /v1/agents lists those who have.")
        return agent_out(view, console.profiles.name(view.agent))

    @router.put("/brake", responses={404: {"model": ProblemOut}})
    async def brake(order: BrakeIn, by: Annotated[str, Depends(admin)]) -> BrakeOut:
        """Hold agents, or release them, for a time; at once. Answers how the brake stands then."""
        _check_watched(order.instance_id, instances)
        group = order.instance_id or ALL
        hold = order.state == "hold"
        audit.note("hold" if hold else "release", by, group=group, for_s=order.for_s)
        view = await store.order(group, hold=hold, for_s=order.for_s, reason=order.reason, by=by, instant=now())
        return brake_out(view)

    @router.post("/restore", responses={404: {"model": ProblemOut}})
    async def restore(order: RestoreIn, by: Annotated[str, Depends(admin)]) -> RestoreOut:
        """Set former statuses again: of all who were set since then, and are still in the status that was set."""
        _check_watched(order.instance_id, instances)
        since = read_since(str(order.since))
        if since is None:
            raise MessageError(400, "Bad Request", "`since` is empty. Say from when on changes are to be undone.")
        if since > now().epoch:
            raise MessageError(
                400, "Bad Request", "`since` is in the future. Say from when on changes are to be undone."
            )
        audit.note("restore", by, group=order.instance_id or ALL, since=since, silent=order.silent)
        found = await store.restore(since, order.instance_id, silent=order.silent, by=by, instant=now())
        return RestoreOut(since=rfc3339(since), queued=found.queued, left=found.left, other=found.other)

    @router.get("/actions", response_model=ActionsOut)
    async def actions(
        agent: _Text = "", outcome: _Outcome = "", since: _Text = "", cursor: _Cursor = None, limit: _Limit = 100
    ) -> Response:
        """The history, newest first. `agent` is an ARN or instance/user, `since` RFC 3339 or seconds since 1970."""
        found = store.actions(
            read_agent(agent), read_name("outcome", outcome, Outcome), read_since(since), cursor or None, limit
        )
        return Response(await actions_json(await _page(found)), media_type="application/json")

    @router.get(
        "/record",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"application/jsonl": {}}, "description": "JSON lines, as they come."},
            409: {"model": ProblemOut},
        },
    )
    async def record(for_s: Annotated[float, Query(gt=0, le=MAX_S)]) -> StreamingResponse:
        """Heartbeats and outcomes without names, for so many seconds, while it is read."""
        return StreamingResponse(recordings.open(for_s), media_type="application/jsonl")

    return router


def _check_watched(instance_id: str | None, instances: Container[str]) -> None:
    if instance_id is not None and instance_id not in instances:
        raise MessageError(404, "Not Found", "No such instance is watched. WATCHDOG_INSTANCES lists those that are.")


def _scrape(admin: Operator, metrics: Exposition) -> APIRouter:
    router = APIRouter(tags=["probes"])

    async def admin_or_local(request: Request) -> None:
        if not _is_local(request):
            await admin(request)

    @router.get(
        "/metrics",
        dependencies=[Depends(admin_or_local)],
        response_class=PlainTextResponse,
        responses={status: {"model": ProblemOut} for status in (401, 429)},
    )
    async def scrape() -> Response:
        """Metrics for Prometheus; from this machine, or with an admin token."""
        return Response(metrics.render(), headers={"content-type": metrics.content_type})

    return router


def _probe(reason: str | None) -> Response:
    if reason is None:
        return Response(b'{"status":"ok"}', media_type="application/json")
    return problems.respond(problems.Problem(503, "Service Unavailable", reason))


async def _page(found: Awaitable[_Page]) -> _Page:
    try:
        return await found
    except ValueError:
        raise MessageError(400, "Bad Request", "`cursor` takes what the last page gave as its cursor.") from None


def _is_local(request: Request) -> bool:
    if request.client is None or not _FORWARDED.isdisjoint(request.headers.keys()):
        return False
    host = request.headers.get("host", "localhost")
    # A page whose name leads to this machine asks from here, too.
    return is_loopback(request.client.host) and is_local(host.encode("latin-1"))


def _safely(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *SAFE_HEADERS, CLOSED_PAGE]
        await send(message)

    return with_headers
