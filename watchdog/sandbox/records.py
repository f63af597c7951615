"""The things in the stand-in for Amazon Connect: statuses, profiles, users, contacts, calls and faults.

Values only: how a user's status moves is in `rules.py`, who may find what is in `model.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class StatusType(StrEnum):
    """What a status means to routing. Source: shape AgentStatusType."""

    ROUTABLE = "ROUTABLE"
    CUSTOM = "CUSTOM"
    OFFLINE = "OFFLINE"


class ContactState(StrEnum):
    """Where a contact is with the agent. Source: shape ContactState."""

    INCOMING = "INCOMING"
    PENDING = "PENDING"
    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    CONNECTED_ONHOLD = "CONNECTED_ONHOLD"
    MISSED = "MISSED"
    ERROR = "ERROR"
    ENDED = "ENDED"
    REJECTED = "REJECTED"


class FaultKind(StrEnum):
    """What goes wrong with a call.

    `timeout` does nothing and never answers; `lost_answer` does its work and never answers; `no_effect` answers 200 and
    does nothing; `delay` does its work late and answers then.
    """

    THROTTLE = "throttle"
    ACCESS_DENIED = "access_denied"
    INTERNAL = "internal"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    TIMEOUT = "timeout"
    LOST_ANSWER = "lost_answer"
    NO_EFFECT = "no_effect"
    DELAY = "delay"


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """A status that agents of an instance can be in."""

    id: str
    arn: str
    name: str
    type: StatusType
    modified_at: float
    description: str | None = None
    display_order: int | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class ProfileQueue:
    """A queue as a routing profile serves it: priority from 1, delay in seconds."""

    queue_id: str
    channel: str
    priority: int = 1
    delay_s: int = 0


@dataclass(frozen=True, slots=True)
class RoutingProfile:
    """Which queues an agent serves, and how many contacts of each channel at once."""

    id: str
    arn: str
    name: str
    description: str
    default_outbound_queue_id: str
    queues: tuple[ProfileQueue, ...]
    concurrency: Mapping[str, int]
    modified_at: float


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact in one of an agent's slots; it holds the slot until it is cleared, whatever its state."""

    id: str
    channel: str
    state: ContactState
    state_since: float
    queue_id: str
    initiation_method: str = "INBOUND"
    connected_at: float | None = None


@dataclass(frozen=True, slots=True)
class User:
    """An agent: the status now, the status to come once every slot is clear, and the contacts that hold slots."""

    id: str
    arn: str
    username: str
    routing_profile_id: str
    status_id: str
    status_since: float
    modified_at: float
    next_status_id: str | None = None
    contacts: tuple[Contact, ...] = ()
    sessions_ended: int = 0
    identity: Mapping[str, str] = field(default_factory=dict)
    phone: Mapping[str, Any] = field(default_factory=dict)
    security_profile_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What nobody could confirm about the real service without a live instance, so that tests can try both.

    Attributes:
        lists_offline: GetCurrentUserData returns users in a status of type OFFLINE too.
        unknown_agents_fail: GetCurrentUserData with an unknown user in its filter is a 404 instead of leaving it out.
        missed_clears: PutUserStatus clears missed contacts and applies at once, instead of setting the next status.
        sign_out_sets_offline: DeleteAllEntitySessions also sets the Offline status.
    """

    lists_offline: bool = False
    unknown_agents_fail: bool = False
    missed_clears: bool = True
    sign_out_sets_offline: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to inject into calls that match.

    Attributes:
        kind: what goes wrong.
        operation: the API operation, e.g. `PutUserStatus`; None matches every one.
        instance_id: None matches every instance.
        user_id: None matches every user; GetCurrentUserData matches when its filter names the user.
        times: how many calls it hits; None means until it is cleared.
        delay_s: seconds that `timeout`, `lost_answer` and `delay` take.
    """

    kind: FaultKind
    operation: str | None = None
    instance_id: str | None = None
    user_id: str | None = None
    times: int | None = None
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        """Make a kind of a kind's name, as a plain string would match nothing; ValueError if there is no such kind."""
        object.__setattr__(self, "kind", FaultKind(self.kind))


@dataclass(frozen=True, slots=True)
class Call:
    """One API call that reached the service, written down when it took effect or was refused.

    Attributes:
        seq: from 1, without gaps, in the order of effect.
        at: epoch seconds of the effect.
        received_at: epoch seconds of the arrival; earlier than `at` by the delay of a `delay` fault.
        operation: e.g. `PutUserStatus`.
        account: the account that called.
        region: the Region that was called.
        instance_id: None where the operation has none.
        user_id: None where the operation has none.
        params: the parameters as boto3 takes them.
        outcome: `ok`, an error code, or the fault that hid the answer: `timeout`, `lost_answer`, `no_effect`.
        effective: whether a user's current or next status is another one because of it.
    """

    seq: int
    at: float
    received_at: float
    operation: str
    account: str
    region: str
    instance_id: str | None
    user_id: str | None
    params: Mapping[str, Any]
    outcome: str
    effective: bool
