"""What `watchdog check` says of each thing that it looked at. Pure: from what was seen to rows for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from watchdog.connect.answers import LIST_AGENT_STATUSES, LIST_ROUTING_PROFILES
from watchdog.connect.iam import Uses
from watchdog.connect.names import Listed, Named, names_missing
from watchdog.connect.probe import Found, Trial
from watchdog.errors import (
    ConnectCredentials,
    ConnectDenied,
    ConnectError,
    ConnectThrottled,
    ConnectUnavailable,
)


class State(StrEnum):
    """How a finding is."""

    OK = "ok"
    FAULT = "fault"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: `settings`, `store`, `replicas`, `certificate`, `jwks`, `credentials`, `instance`, `names`, or an IAM
            action.
        instance_id: Where; None for what concerns the daemon as a whole.
        state: Whether it is as it has to be; unknown when it could not be looked at.
        detail: What was seen, or what to do.
    """

    what: str
    instance_id: str | None
    state: State
    detail: str


def can_be_tried(found: Found) -> bool:
    """Whether trials tell anything: AWS was reached, knows who asks, and has the instance."""
    return isinstance(found.statuses, (tuple, ConnectDenied, ConnectThrottled))


def listed(found: Found) -> Listed:
    """What names are compared with."""
    statuses = found.statuses if isinstance(found.statuses, tuple) else None
    return Listed(statuses, None if isinstance(found.profiles, ConnectError) else tuple(found.profiles.values()))


def of_instance(instance_id: str, found: Found, trials: Sequence[Trial], uses: Uses) -> Iterator[Finding]:
    """Credentials, the instance, and each permission."""
    error = found.statuses if isinstance(found.statuses, ConnectError) else None
    match error:
        case ConnectCredentials():
            yield Finding("credentials", instance_id, State.FAULT, str(error))
        case ConnectUnavailable():
            yield Finding("credentials", instance_id, State.UNKNOWN, "Amazon Connect was not reached.")
        case _:
            yield Finding("credentials", instance_id, State.OK, "AWS knows who calls.")
    if error is None:
        yield Finding("instance", instance_id, State.OK, _told(found))
    elif isinstance(error, ConnectUnavailable):
        yield Finding("instance", instance_id, State.FAULT, f"Amazon Connect was not reached: {error}")
    elif can_be_tried(found) or isinstance(error, ConnectCredentials):
        yield Finding("instance", instance_id, State.UNKNOWN, "Its statuses could not be listed.")
    else:
        yield Finding("instance", instance_id, State.FAULT, str(error))
    outcomes: dict[str, list[tuple[str, ConnectError | None]]] = {operation: [] for operation in uses.operations}
    if can_be_tried(found):
        outcomes[LIST_AGENT_STATUSES].append(("", error))
        profiles = found.profiles
        outcomes[LIST_ROUTING_PROFILES].append(("", profiles if isinstance(profiles, ConnectError) else None))
    for trial in trials:
        outcomes[trial.operation].append((trial.of, trial.error))
    for operation, tried in outcomes.items():
        yield _permission(instance_id, operation, tried)


def of_names(found: Mapping[str, Listed], named: Sequence[Named]) -> list[Finding]:
    """Names that do not exist, a row each; else one row."""
    missing = names_missing(found, named)
    if missing:
        return [Finding("names", None, State.FAULT, line) for line in missing]
    if any(None in (each.statuses, each.profiles) for each in found.values()):
        return [Finding("names", None, State.UNKNOWN, "Not every instance's statuses and profiles could be listed.")]
    return [Finding("names", None, State.OK, "Every status and profile in the settings exists.")]


def _told(found: Found) -> str:
    statuses = len(found.statuses) if isinstance(found.statuses, tuple) else 0
    if isinstance(found.profiles, ConnectError):
        return f"Statuses: {statuses}."
    return f"Statuses: {statuses}, routing profiles: {len(found.profiles)}."


def _permission(instance_id: str, operation: str, tried: Sequence[tuple[str, ConnectError | None]]) -> Finding:
    """One row for an operation, however many ways it was tried in: the worst of them tells."""
    what = f"connect:{operation}"
    failed = [(of, error) for of, error in tried if error is not None]
    denied = [(of, error) for of, error in failed if isinstance(error, ConnectDenied)]
    for state, cases in ((State.FAULT, denied), (State.UNKNOWN, failed)):
        if cases:
            names = ", ".join(of for of, _ in cases if of)
            return Finding(what, instance_id, state, f"{names}: {cases[0][1]}" if names else str(cases[0][1]))
    if not tried:
        return Finding(what, instance_id, State.UNKNOWN, "Not tried: it needs what could not be listed.")
    names = ", ".join(of for of, _ in tried if of)
    return Finding(what, instance_id, State.OK, f"Allowed: {names}." if names else "Allowed.")
