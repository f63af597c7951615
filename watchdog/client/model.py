"""What the clients tell their user: statuses and notices. And how an agent and an address are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import urlsplit

Transport = Literal["auto", "post"]
"""`auto`: a WebSocket, where the daemon offers one; `post`: none."""

Visibility = Literal["visible", "hidden"]


class State(StrEnum):
    """What is known of the session."""

    CONNECTING = "connecting"
    """The first hello of this incarnation is on its way."""
    LIVE = "live"
    """The session has a lease."""
    RETRYING = "retrying"
    """Not answered, or refused; tried again."""
    UNAUTHORIZED = "unauthorized"
    """401: a token has been asked for, and it is tried again."""
    STOPPED = "stopped"
    """The agent was logged out by an order: silent until `resume()`."""
    ENDED = "ended"
    """Closed, and silent for good."""


@dataclass(frozen=True, slots=True)
class Status:
    """How the session is.

    Attributes:
        state: See there.
        transport: What carries the heartbeats: `post` or `ws`.
        detail: What the daemon said when it refused; else empty.
    """

    state: State
    transport: Literal["post", "ws"] = "post"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """What the watchdog has done to the agent's status.

    Attributes:
        status: The status that it set, by name.
        set_at: When, RFC 3339.
        why: A sentence for the agent.
        restored: The status that was set again, by name; None if none was.
    """

    status: str
    set_at: str
    why: str
    restored: str | None


OnStatus = Callable[[Status], object]
OnNotice = Callable[[Notice], object]


def identify(agent: str | None, instance_id: str | None, user_id: str | None) -> dict[str, str]:
    """The fields that name an agent.

    Args:
        agent: The ARN, or INSTANCE-ID/USER-ID; or None, and
        instance_id: The one, and
        user_id: The other.

    Raises:
        ValueError: It is not one of these.
    """
    if agent is None and instance_id and user_id:
        return {"instance_id": instance_id, "user_id": user_id}
    if agent is None or instance_id is not None or user_id is not None:
        raise ValueError("Name the agent: `agent` (its ARN, or INSTANCE-ID/USER-ID), or `instance_id` and `user_id`.")
    if agent.startswith("arn:"):
        return {"agent": agent}
    instance, _, user = agent.partition("/")
    if not instance or not user or "/" in user:
        raise ValueError("`agent` takes an ARN, or INSTANCE-ID/USER-ID.")
    return {"instance_id": instance, "user_id": user}


def endpoints(url: str) -> tuple[str, str]:
    """Where heartbeats are posted, and where the WebSocket is, below the daemon's address.

    Raises:
        ValueError: It is no address of HTTP.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("`url` takes the daemon's address, e.g. https://watchdog.example.com.")
    base = url.rstrip("/")
    return f"{base}/v1/heartbeat", f"ws{base.removeprefix('http')}/v1/ws"


def read_notice(told: object) -> Notice | None:
    """The notice in a reply; None if there is none, or what is there is none."""
    if not isinstance(told, Mapping):
        return None
    fields: Mapping[Any, Any] = told
    status, set_at, why, restored = (fields.get(name) for name in ("status", "set_at", "why", "restored"))
    if not isinstance(status, str) or not isinstance(set_at, str):
        return None
    return Notice(status, set_at, why if isinstance(why, str) else "", restored if isinstance(restored, str) else None)
