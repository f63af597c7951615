"""The example page, a custom CCP with the browser client in it, and what it asks for: who is there, and how they are.

It listens on loopback and ends with the demo. The files are those of `watchdog/web/example`, with the daemon's address
and token put in. The page stands in for Amazon Connect, too: who opens it may set any agent's status.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Collection, Iterator
from importlib.resources import files

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watchdog.sandbox.demo.agents import Office
from watchdog.sandbox.demo.processes import LOOPBACK, DemoError
from watchdog.sandbox.demo.roles import AVAILABLE, AWAY, OFFLINE
from watchdog.sandbox.demo.stage import Stage

ADDRESS = "https://watchdog.example.com"
TOKEN = "HEARTBEAT-TOKEN"  # noqa: S105  # stands for one
"""What the files say in place of the daemon's address and token."""

MEDIA_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript"}

STOP_S = 1
"""For how long requests may still run when the demo ends."""


class _Server(uvicorn.Server):
    """uvicorn's server, without signal handlers: `should_exit` stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the demo."""
        yield


@contextlib.asynccontextmanager
async def served(port: int, stage: Stage, office: Office, yours: Collection[str]) -> AsyncIterator[None]:
    """Serve the page meanwhile.

    Args:
        port: Where, on loopback.
        stage: What is shown.
        office: The way to the daemon, for pages, and to the stand-in of Connect.
        yours: User ids of the agents whom the demo does not play.

    Raises:
        DemoError: The port is taken.
    """
    try:
        bound = socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise DemoError(f"The example page cannot be served at port {port}: {error}") from error
    with bound:
        config = uvicorn.Config(
            application(stage, office, yours),
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            timeout_graceful_shutdown=STOP_S,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving


def application(stage: Stage, office: Office, yours: Collection[str]) -> ASGIApp:
    """Make what answers; the arguments are those of `served`."""
    given = {ADDRESS: office.daemon_url, TOKEN: office.token}
    folder = files("watchdog") / "web" / "example"
    texts = {item.name: item.read_text(encoding="utf-8") for item in folder.iterdir() if item.is_file()}
    for old, new in given.items():
        texts = {name: text.replace(old, new) for name, text in texts.items()}

    async def file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in texts:
            return PlainTextResponse("There is no such page.", 404)
        return Response(texts[name], media_type=MEDIA_TYPES[name.rpartition(".")[2]])

    async def floor(_request: Request) -> Response:
        alive = stage.snapshot is not None and stage.snapshot.daemon is not None
        return JSONResponse({"statuses": [AVAILABLE, AWAY, OFFLINE], "daemon": alive, "agents": _agents(stage, yours)})

    async def choose(request: Request) -> Response:
        # Pages of other origins cannot send this type without asking, and nobody answers them.
        if request.headers.get("content-type") != "application/json":
            return PlainTextResponse("Send application/json.", 415)
        user_id = request.path_params["user_id"]
        if all(agent.user_id != user_id for agent in stage.agents):
            return PlainTextResponse("There is no such agent.", 404)
        url = f"{office.sandbox_url}/sandbox/users/{office.instance_id}/{user_id}/status"
        try:
            answer = await office.client.post(
                url, content=await request.body(), headers={"content-type": "application/json"}
            )
        except httpx.HTTPError as error:
            return PlainTextResponse(f"The stand-in of Connect does not answer: {error!r}", 502)
        if answer.is_error:
            return PlainTextResponse(answer.text, answer.status_code)
        stage.tell(_name(stage, user_id), f"chooses {answer.json()['status']} in the example page")
        return Response(status_code=204)

    app = Starlette(
        routes=[
            Route("/floor.json", floor),
            Route("/agents/{user_id}/status", choose, methods=["POST"]),
            Route("/", file),
            Route("/{name}", file),
        ],
        # A name that somebody has pointed at loopback is not ours.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK])],
    )
    return _Guarded(app, policy(office.daemon_url))


def policy(daemon_url: str) -> str:
    """Give the Content-Security-Policy of a page with the client, as docs/client.md has it."""
    directives = {
        "default-src": "'self'",
        "script-src": f"'self' {daemon_url}",
        "connect-src": f"'self' {daemon_url} {daemon_url.replace('http', 'ws', 1)}",
        "worker-src": f"blob: {daemon_url}",
        "img-src": "data:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'self'",
    }
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())


def _agents(stage: Stage, yours: Collection[str]) -> list[dict[str, object]]:
    if stage.snapshot is None:
        return []
    seen = stage.snapshot.agents
    return [
        {
            "user_id": agent.user_id,
            "arn": agent.arn,
            "name": agent.role.name,
            "profile": agent.role.story.profile,
            "yours": agent.user_id in yours,
            "status": seen[agent.user_id].status,
            "next_status": seen[agent.user_id].next_status,
            "state": seen[agent.user_id].state,
            "sessions": seen[agent.user_id].tabs,
            "due_in_s": seen[agent.user_id].due_in_s,
        }
        for agent in stage.agents
        if agent.user_id in seen
    ]


def _name(stage: Stage, user_id: str) -> str:
    return next((agent.role.name for agent in stage.agents if agent.user_id == user_id), user_id)


class _Guarded:
    """Adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, csp: str) -> None:
        self._app = app
        self._headers = [
            (b"content-security-policy", csp.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self._app(scope, receive, guarded)
