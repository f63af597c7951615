"""What the dashboard needs besides `app.py`: events, the settings in force, the history as CSV, and `cancel`."""

import csv
import io
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import orjson
from fastapi import APIRouter, Body, Depends, Header, Query
from starlette.responses import StreamingResponse

from watchdog.core.model import Action, AgentId, AgentState, AgentView, Cancel, Epoch, Outcome
from watchdog.errors import MessageError
from watchdog.ingest import audit
from watchdog.ingest.events import Events
from watchdog.ingest.operators import Operator, router_for
from watchdog.ingest.queries import read_agent, read_name, read_since
from watchdog.ingest.views import AgentOut, CancelIn, ProblemOut, SettingOut, SettingsOut, agent_out, rfc3339
from watchdog.stores.base import Store

PAGE = 100
"""Actions that are read, and written into a CSV, at once: some milliseconds, in which no heartbeat is answered."""

COLUMNS = (
    "id",
    "at",
    "instance_id",
    "user_id",
    "intent",
    "target",
    "outcome",
    "reason",
    "calls",
    "latency_s",
    "evidence",
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet computes a cell that begins so. Source: OWASP, "CSV Injection"."""

_Text = Annotated[str, Query(max_length=1000)]


class Cancels(Protocol):
    """Leaves agents alone; see `watchdog.connect.cancel.Cancels`."""

    async def order(self, agent: AgentId, before: AgentView, *, reason: str, by: str) -> Cancel:
        """Leaves an agent alone until it is heard again."""


class Profiles(Protocol):
    """Knows routing profiles; see `watchdog.connect.profiles.Profiles`."""

    def name(self, agent: AgentId) -> str | None:
        """The name of the agent's profile, or None when it is not known."""

    def having(self, name: str) -> Callable[[AgentId], bool]:
        """Whether an agent is known to have a profile of this name."""


@dataclass(frozen=True, slots=True)
class Console:
    """What is behind these endpoints.

    Attributes:
        events: Streams of what happens.
        cancels: Leave agents alone.
        settings: The settings in force, by the names of `SettingOut`, without secrets.
        profiles: Know routing profiles.
    """

    events: Events
    cancels: Cancels
    settings: Callable[[], Sequence[Mapping[str, str | None]]]
    profiles: Profiles


def router_of(console: Console, store: Store, admin: Operator, instances: Container[str]) -> APIRouter:
    """The endpoints.

    Args:
        console: What is behind them.
        store: Answers about agents and actions.
        admin: Lets operators pass.
        instances: Ids of the instances that are watched.
    """
    router = router_for(admin)

    @router.get(
        "/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Events, as they come."}},
    )
    async def events(last_event_id: Annotated[str, Header(max_length=100)] = "") -> StreamingResponse:
        """What happens, as server-sent events."""
        # A proxy that gathers answers would hold events back. Source: nginx, proxy_buffering.
        headers = {"x-accel-buffering": "no"}
        stream = console.events.open(last_event_id)
        return StreamingResponse(stream, headers=headers, media_type="text/event-stream")

    @router.get("/settings")
    async def settings() -> SettingsOut:
        """The settings in force, without secrets."""
        return SettingsOut(settings=[SettingOut.model_validate(row) for row in console.settings()])

    @router.get(
        "/actions.csv",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/csv": {}}, "description": "One line for each action, newest first."}},
    )
    async def export(agent: _Text = "", outcome: _Text = "", since: _Text = "") -> StreamingResponse:
        """The whole history as CSV (RFC 4180), newest first. Filters as in `/v1/actions`."""
        rows = _rows(store, read_agent(agent), read_name("outcome", outcome, Outcome), read_since(since))
        # The first page is read before the answer begins, so that a store that is away is told as such.
        first = await anext(rows)
        headers = {"content-disposition": 'attachment; filename="watchdog-history.csv"'}
        return StreamingResponse(_after(first, rows), headers=headers, media_type="text/csv; charset=utf-8")

    @router.post(
        "/agents/{instance_id}/{user_id}/cancel", responses={status: {"model": ProblemOut} for status in (404, 409)}
    )
    async def cancel(
        instance_id: str,
        user_id: str,
        by: Annotated[str, Depends(admin)],
        order: Annotated[CancelIn | None, Body()] = None,
    ) -> AgentOut:
        """Leave the agent alone until it is heard again: its timer, a hold, and what was to follow are over."""
        agent = read_agent(f"{instance_id}/{user_id}")
        before = None if agent is None or instance_id not in instances else await store.agent(agent)
        if agent is None or before is None:
            raise MessageError(404, "Not Found", "No such agent has been heard of. /v1/agents lists those who have.")
        audit.note("cancel", by, agent=str(agent))
        done = await console.cancels.order(agent, before, reason=(order or CancelIn()).reason.strip(), by=by)
        if done is not Cancel.DONE:
            raise MessageError(409, "Conflict", _refusal(done, before.state))
        return agent_out(await store.agent(agent) or before, console.profiles.name(agent))

    return router


def _refusal(cancel: Cancel, state: AgentState) -> str:
    if cancel is Cancel.NOTHING:
        return f"Nothing waits to be done with the agent, which is {state.value}. /v1/actions tells what was done."
    return (
        "It is being done, or may have been already, or somebody has the agent logged out. Look again in some seconds; "
        "POST /v1/restore sets a former status again."
    )


async def _rows(
    store: Store, agent: AgentId | None, outcome: Outcome | None, since: Epoch | None
) -> AsyncIterator[str]:
    """Pieces of the CSV: the line of names with the first page, then the others."""
    head: tuple[Sequence[str], ...] = (COLUMNS,)
    cursor: str | None = None
    while True:
        page = await store.actions(agent, outcome, since, cursor, PAGE)
        yield _lines([*head, *(_cells(action) for action in page.actions)])
        head, cursor = (), page.cursor
        if cursor is None:
            return


async def _after(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for lines in rest:
        yield lines


def _cells(action: Action) -> list[str]:
    cells: list[Any] = [
        action.id,
        rfc3339(action.at),
        *action.agent,
        action.intent.value,
        action.target,
        action.outcome.value,
        action.reason,
        action.calls,
        round(action.latency_s, 3),
        orjson.dumps(dict(action.evidence)).decode(),
    ]
    texts = [str(cell) for cell in cells]
    return [f"'{text}" if text.startswith(_FORMULA) else text for text in texts]


def _lines(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
