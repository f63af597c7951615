"""The IAM policy that the daemon needs, and no more. Pure.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon Connect". What it does not
tell (the resources of DeleteAllEntitySessions) is allowed for the instance and its agents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchdog.connect.answers import (
    DELETE_ALL_ENTITY_SESSIONS,
    DISMISS_USER_CONTACT,
    GET_CURRENT_USER_DATA,
    LIST_AGENT_STATUSES,
    LIST_ROUTING_PROFILE_QUEUES,
    LIST_ROUTING_PROFILES,
    PUT_USER_STATUS,
)


@dataclass(frozen=True, slots=True)
class Uses:
    """What the settings make the daemon do.

    Attributes:
        writes: Statuses are set: it is no dry run.
        dismisses: Contacts that are over are dismissed.
        signs_out: Sessions are ended, by a stage or by an explicit logout.
        logs_out: An explicit logout can be asked for, which looks at the queues of a profile.
        restores: Any status may be set, since agents get their former one back.
        reconciles: Agents are read by routing profile.
    """

    writes: bool = True
    dismisses: bool = False
    signs_out: bool = False
    logs_out: bool = False
    restores: bool = False
    reconciles: bool = False

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that are called, each also the name of its IAM action."""
        needed = {
            LIST_AGENT_STATUSES: True,
            LIST_ROUTING_PROFILES: True,
            GET_CURRENT_USER_DATA: True,
            PUT_USER_STATUS: self.writes,
            DISMISS_USER_CONTACT: self.writes and self.dismisses,
            DELETE_ALL_ENTITY_SESSIONS: self.writes and self.signs_out,
            LIST_ROUTING_PROFILE_QUEUES: self.logs_out,
        }
        return tuple(operation for operation, is_needed in needed.items() if is_needed)


@dataclass(frozen=True, slots=True)
class Place:
    """An instance as IAM sees it.

    Attributes:
        arn: Its ARN.
        status_ids: Of the statuses that may be set; None for all of them.
    """

    arn: str
    status_ids: tuple[str, ...] | None

    @property
    def states(self) -> list[str]:
        """ARNs of the statuses that may be set."""
        return [f"{self.arn}/agent-state/{each}" for each in (("*",) if self.status_ids is None else self.status_ids)]


RESOURCES: Mapping[str, Callable[[Place], list[str]]] = {
    LIST_AGENT_STATUSES: lambda place: [f"{place.arn}/agent-state/*"],
    LIST_ROUTING_PROFILES: lambda place: [place.arn],
    GET_CURRENT_USER_DATA: lambda place: [f"{place.arn}/{kind}/*" for kind in ("agent", "routing-profile", "queue")],
    PUT_USER_STATUS: lambda place: [place.arn, f"{place.arn}/agent/*", *place.states],
    DISMISS_USER_CONTACT: lambda place: [f"{place.arn}/agent/*"],
    DELETE_ALL_ENTITY_SESSIONS: lambda place: [place.arn, f"{place.arn}/agent/*"],
    LIST_ROUTING_PROFILE_QUEUES: lambda place: [f"{place.arn}/routing-profile/*"],
}
"""The ARNs that each operation is allowed for."""


def policy(places: Sequence[Place], uses: Uses, roles: Sequence[str] = (), bus: str | None = None) -> dict[str, Any]:
    """The policy of whoever calls for these instances.

    Args:
        places: The instances.
        uses: What is done there.
        roles: ARNs of the roles that are assumed for other instances.
        bus: ARN of the event bus that events are put on.
    """
    statements = [
        _allow(f"connect:{operation}", [arn for place in places for arn in RESOURCES[operation](place)])
        for operation in (uses.operations if places else ())
    ]
    if roles:
        statements.append(_allow("sts:AssumeRole", list(roles)))
    if bus is not None:
        statements.append(_allow("events:PutEvents", [bus]))
    return {"Version": "2012-10-17", "Statement": statements}


def instance_arn(arn: str) -> str | None:
    """The instance's ARN in that of anything in it; None where there is none."""
    head, found, rest = arn.partition(":instance/")
    return f"{head}{found}{rest.partition('/')[0]}" if found and head.startswith("arn:") else None


def _allow(action: str, resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resources[0] if len(resources) == 1 else resources}
