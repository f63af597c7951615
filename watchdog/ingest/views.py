"""The shapes of the API's answers, and how the store's values become them.

Names and meanings are the public interface: adding is free, changing is a release note.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from watchdog.core.model import Action, AgentState, AgentView, Epoch, IntentKind, Outcome, SessionView
from watchdog.stores.base import ActionPage, AgentPage


class ProblemOut(BaseModel):
    """An error. Source: RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


class HeartbeatOut(BaseModel):
    """The answer to a hello or beat. `ttl_ms` and `ticket` come with `live` only."""

    state: Literal["live", "unknown"]
    next_ms: int
    ttl_ms: int | None = None
    ticket: str | None = None
    boot: str


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
    """An agent and its sessions. `last_seen` is RFC 3339."""

    instance_id: str
    user_id: str
    state: AgentState
    sessions: list[SessionOut]
    due_in_s: float | None
    last_seen: str | None
    last_outcome: Outcome | None


class AgentsOut(BaseModel):
    """A page of agents; `cursor` asks for the next one, null on the last."""

    agents: list[AgentOut]
    cursor: str | None


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


def agent_out(view: AgentView) -> AgentOut:
    """An agent as the API shows it."""
    return AgentOut(
        instance_id=view.agent.instance_id,
        user_id=view.agent.user_id,
        state=view.state,
        sessions=[_session_out(session) for session in view.sessions],
        due_in_s=None if view.due_in_s is None else round(view.due_in_s, 3),
        last_seen=None if view.last_seen is None else rfc3339(view.last_seen),
        last_outcome=view.last_outcome,
    )


def agents_out(page: AgentPage) -> AgentsOut:
    """A page of agents as the API shows it."""
    return AgentsOut(agents=[agent_out(view) for view in page.agents], cursor=page.cursor)


def actions_out(page: ActionPage) -> ActionsOut:
    """A page of actions as the API shows it."""
    return ActionsOut(actions=[_action_out(action) for action in page.actions], cursor=page.cursor)


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


def _action_out(action: Action) -> ActionOut:
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
