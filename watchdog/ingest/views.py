"""The shapes of the API's answers, and how the store's values become them.

Names and meanings are the public interface: adding is free, changing is a release note.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field

from watchdog.core.brake import State
from watchdog.core.holds import BrakeView
from watchdog.core.model import Action, AgentId, AgentState, AgentView, Epoch, IntentKind, Notice, Outcome, SessionView
from watchdog.stores.base import ActionPage, AgentPage

MAX_ORDER_S = 86_400
"""Longest order of an operator: a day. Whoever wants more says so again."""


ROWS = 100
"""Agents or actions of a page that are made in one go: some milliseconds, in which no heartbeat is answered."""

_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""Text without control characters."""


class ProblemOut(BaseModel):
    """An error. Source: RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


class FailOut(ProblemOut):
    """An error of an order to log out."""

    outcome: Literal["Fail"]


class NoticeOut(BaseModel):
    """A status that the watchdog has set for the agent, by name; `restored` is the one that it has set again since.

    `set_at` is RFC 3339, `why` a sentence for the agent.
    """

    status: str
    set_at: str
    why: str
    restored: str | None


class HeartbeatOut(BaseModel):
    """The answer to a hello or beat. `ttl_ms`, `ws` and `ticket` come with `live` only, `notice` after a return."""

    state: Literal["live", "unknown", "stop"]
    next_ms: int
    ttl_ms: int | None = None
    ws: bool | None = None
    ticket: str | None = None
    boot: str
    notice: NoticeOut | None = None


class RejectedOut(BaseModel):
    """A heartbeat of a batch that was refused."""

    index: int
    detail: str


class BatchOut(BaseModel):
    """The answer to a batch."""

    accepted: int
    rejected: list[RejectedOut]


class SessionOut(BaseModel):
    """A session. `expires_in_s` is negative once it is over."""

    session_id: UUID
    expires_in_s: float
    visibility: Literal["visible", "hidden"]
    driver: Literal["worker", "main"]


class AgentOut(BaseModel):
    """An agent and its sessions. `last_seen` is RFC 3339, `profile` the name of the routing profile seen last."""

    instance_id: str
    user_id: str
    state: AgentState
    sessions: list[SessionOut]
    due_in_s: float | None
    last_seen: str | None
    last_outcome: Outcome | None
    profile: str | None


class AgentsOut(BaseModel):
    """A page of agents; `cursor` asks for the next one, null on the last."""

    agents: list[AgentOut]
    cursor: str | None


class HoldOut(BaseModel):
    """A group of agents that the brake does not leave to their timers. `since` is RFC 3339, `by` who ordered it."""

    group: str
    state: State
    reason: str
    why: str
    agents: int
    since: str
    age_s: float
    proof: str
    proven_s: float
    next_step: str
    by: str | None = None


class BrakeOut(BaseModel):
    """The brake: the gravest state of a group, how many agents are held in all, and each group that is not clear."""

    state: State
    held: int
    holds: list[HoldOut]


class BrakeIn(BaseModel):
    """An operator's order. `for_s` of 0 ends the order that there is. Without `instance_id` it is for all agents."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["hold", "released"]
    for_s: float = Field(ge=0, le=MAX_ORDER_S, allow_inf_nan=False, strict=True)
    instance_id: str | None = Field(default=None, min_length=1, max_length=100, pattern="^[A-Za-z0-9-]+$")
    reason: str = Field(default="", max_length=500, pattern=_LINE)


class RestoreIn(BaseModel):
    """An operator's order to undo. `since` is RFC 3339 with an offset, or seconds since 1970."""

    model_config = ConfigDict(extra="forbid")

    since: str | Annotated[float, Field(strict=True)]
    instance_id: str | None = Field(default=None, min_length=1, max_length=100, pattern="^[A-Za-z0-9-]+$")
    silent: bool = Field(default=False, strict=True)


class RestoreOut(BaseModel):
    """What an order found: to be undone now, when heard, or not at all. `since` is RFC 3339."""

    since: str
    queued: int
    left: int
    other: int


class LogOutIn(BaseModel):
    """Somebody's order to log an agent out. What is empty or missing was not given."""

    model_config = ConfigDict(extra="forbid")

    queue: str | None = Field(default=None, max_length=500, pattern=_LINE)
    reason_code: str | None = Field(default=None, max_length=200, pattern=_LINE)


class CancelIn(BaseModel):
    """An operator wants an agent left alone until it is heard again. `reason` is for the history."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=500, pattern=_LINE)


class SettingOut(BaseModel):
    """A setting in force. `value` is masked where it is a secret, `source` tells where it is from."""

    variable: str
    value: str | None
    default: str | None
    source: str
    meaning: str


class SettingsOut(BaseModel):
    """All settings in force."""

    settings: list[SettingOut]


class ActionOut(BaseModel):
    """One decision and what became of it. `agent` is instance/user, `at` is RFC 3339."""

    id: str
    at: str
    agent: str
    intent: IntentKind
    target: str
    outcome: Outcome
    reason: str
    evidence: Mapping[str, Any]
    calls: int
    latency_s: float


class ActionsOut(BaseModel):
    """A page of actions, newest first; `cursor` asks for the next one, null on the last."""

    actions: list[ActionOut]
    cursor: str | None


def notice_out(notice: Notice) -> NoticeOut:
    """A notice as a page is told it."""
    return NoticeOut(status=notice.status, set_at=rfc3339(notice.set_at), why=notice.why, restored=notice.restored)


def agent_out(view: AgentView, profile: str | None) -> AgentOut:
    """An agent as the API shows it."""
    return AgentOut(
        instance_id=view.agent.instance_id,
        user_id=view.agent.user_id,
        state=view.state,
        sessions=[_session_out(session) for session in view.sessions],
        due_in_s=None if view.due_in_s is None else round(view.due_in_s, 3),
        last_seen=None if view.last_seen is None else rfc3339(view.last_seen),
        last_outcome=view.last_outcome,
        profile=profile,
    )


async def agents_json(page: AgentPage, profile: Callable[[AgentId], str | None]) -> bytes:
    """A page of agents as the API shows it: `AgentsOut`."""
    return await _page_json("agents", (agent_out(view, profile(view.agent)) for view in page.agents), page.cursor)


async def actions_json(page: ActionPage) -> bytes:
    """A page of actions as the API shows it: `ActionsOut`."""
    return await _page_json("actions", map(action_out, page.actions), page.cursor)


async def _page_json(name: str, rows: Iterable[BaseModel], cursor: str | None) -> bytes:
    """Made in pieces, between which others have their turn."""
    made: list[str] = []
    for number, row in enumerate(rows, 1):
        made.append(row.model_dump_json())
        if number % ROWS == 0:
            await asyncio.sleep(0)
    return f'{{"{name}":[{",".join(made)}],"cursor":{orjson.dumps(cursor).decode()}}}'.encode()


def brake_out(brake: BrakeView) -> BrakeOut:
    """The brake as the API shows it."""
    holds = [
        HoldOut(
            group=hold.group,
            state=hold.state,
            reason=hold.reason,
            why=hold.why,
            agents=hold.agents,
            since=rfc3339(hold.since),
            age_s=hold.age_s,
            proof=hold.proof,
            proven_s=hold.proven_s,
            next_step=hold.next_step,
            by=hold.by,
        )
        for hold in brake.holds
    ]
    return BrakeOut(state=brake.state, held=brake.held, holds=holds)


def rfc3339(at: Epoch) -> str:
    """The instant in UTC, to the millisecond. Source: RFC 3339, section 5.6."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _session_out(session: SessionView) -> SessionOut:
    return SessionOut(
        session_id=UUID(bytes=session.session_id),
        expires_in_s=round(session.expires_in_s, 3),
        visibility="hidden" if session.hidden else "visible",
        driver="main" if session.main_driver else "worker",
    )


def action_out(action: Action) -> ActionOut:
    """A decision as the API shows it."""
    return ActionOut(
        id=action.id,
        at=rfc3339(action.at),
        agent=str(action.agent),
        intent=action.intent,
        target=action.target,
        outcome=action.outcome,
        reason=action.reason,
        evidence=action.evidence,
        calls=action.calls,
        latency_s=round(action.latency_s, 3),
    )
