"""What Amazon Connect's answers mean: values from responses, our exceptions from botocore's.

Pure functions and values, shared by every implementation of the `Connect` protocol. Nothing is called here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

from botocore import exceptions as aws

from watchdog.core.model import Epoch
from watchdog.errors import (
    ConnectCredentials,
    ConnectDenied,
    ConnectError,
    ConnectInvalid,
    ConnectNotFound,
    ConnectThrottled,
    ConnectUnavailable,
)

LIST_AGENT_STATUSES = "ListAgentStatuses"
LIST_ROUTING_PROFILES = "ListRoutingProfiles"
GET_CURRENT_USER_DATA = "GetCurrentUserData"
PUT_USER_STATUS = "PutUserStatus"
DISMISS_USER_CONTACT = "DismissUserContact"
DELETE_ALL_ENTITY_SESSIONS = "DeleteAllEntitySessions"
LIST_ROUTING_PROFILE_QUEUES = "ListRoutingProfileQueues"

OPERATIONS = (
    PUT_USER_STATUS,
    GET_CURRENT_USER_DATA,
    LIST_AGENT_STATUSES,
    LIST_ROUTING_PROFILES,
    DISMISS_USER_CONTACT,
    DELETE_ALL_ENTITY_SESSIONS,
    LIST_ROUTING_PROFILE_QUEUES,
)
"""Every operation that is ever called."""


class StatusType(StrEnum):
    """What a status is to routing. Source: shape AgentStatusType."""

    ROUTABLE = "ROUTABLE"
    CUSTOM = "CUSTOM"
    OFFLINE = "OFFLINE"


@dataclass(frozen=True, slots=True)
class Status:
    """An agent status of an instance. Source: shape AgentStatusSummary, which does not tell whether it is disabled.

    Attributes:
        id: Its id.
        arn: Its ARN; empty when Connect gave none.
        name: Its name, unique in the instance.
        type: Its type; a type that is not known yet counts as CUSTOM.
    """

    id: str
    arn: str
    name: str
    type: StatusType


@dataclass(frozen=True, slots=True)
class Seen:
    """What Connect showed of one agent. Source: shape UserData.

    Attributes:
        status_id: The current status.
        status_name: Its name.
        since: When it began (`StatusStartTimestamp`), None when Connect did not say.
        next_status: Name of the status that follows once every slot is clear, else None.
        contacts: States of the agent's contacts.
        contact_ids: Their ids, in the same order.
        connected_at: When each of them was connected to the agent (`ConnectedToAgentTimestamp`), None when it was not.
        state_since: When each of them entered its state (`StateStartTimestamp`), None when Connect did not say.
        available: Free slots by channel.
        profile_id: Id of the routing profile; empty when Connect did not say.
    """

    status_id: str
    status_name: str
    since: Epoch | None = None
    next_status: str | None = None
    contacts: tuple[str, ...] = ()
    contact_ids: tuple[str, ...] = ()
    connected_at: tuple[Epoch | None, ...] = ()
    state_since: tuple[Epoch | None, ...] = ()
    available: Mapping[str, int] = field(default_factory=dict)
    profile_id: str = ""


@dataclass(frozen=True, slots=True)
class UserData:
    """The answer to one GetCurrentUserData by agents.

    Attributes:
        rows: By user id; users who are Offline may be left out.
        complete: No page is missing, so that whoever is not in it was not shown by Connect.
        answered_at: The last response's `Date`.
        dated: It had one. If not, `answered_at` is by our own clock, and no age can be told from it.
        unreadable: Users who were in it without a status: neither seen nor absent.
        cursor: For the next page; None on the last one.
    """

    rows: Mapping[str, Seen]
    complete: bool
    answered_at: Epoch
    dated: bool = True
    unreadable: frozenset[str] = frozenset()
    cursor: str | None = None

    def followed_by(self, page: UserData) -> UserData:
        """This answer with its next page."""
        return UserData(
            {**self.rows, **page.rows},
            page.complete,
            page.answered_at,
            self.dated and page.dated,
            self.unreadable | page.unreadable,
            page.cursor,
        )


@dataclass(frozen=True, slots=True)
class StatusPage:
    """One page of ListAgentStatuses. The cursor is for the next page; None on the last one."""

    statuses: tuple[Status, ...]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class ProfilePage:
    """One page of ListRoutingProfiles: names by id. The cursor is for the next page; None on the last one."""

    names: Mapping[str, str]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of a routing profile. The ARN and the name are empty when Connect gave none."""

    id: str
    arn: str
    name: str


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One page of ListRoutingProfileQueues. The cursor is for the next page; None on the last one.

    Connect has a row for each queue and channel: a queue is once in a page, and may be in the next one too.
    """

    queues: tuple[Queue, ...]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class UserPage:
    """One page of GetCurrentUserData by routing profiles.

    Attributes:
        rows: By user id.
        cursor: For the next page; None on the last one.
    """

    rows: Mapping[str, Seen]
    cursor: str | None


def listed(answer: Mapping[str, Any], key: str, operation: str) -> Sequence[Mapping[str, Any]]:
    """The rows of an answer.

    Raises:
        ConnectUnavailable: It is none: a proxy's page with status 200, or an empty body, has no such list.
    """
    rows = answer.get(key)
    if rows is None:
        raise ConnectUnavailable(
            f"{operation}: the answer has no {key}. Is there a proxy in between?",
            maybe_applied=False,
            operation=operation,
        )
    return list(rows)


def check_answered(answer: Mapping[str, Any], operation: str) -> None:
    """Takes an answer without a body.

    Raises:
        ConnectUnavailable: It is a page, not an answer of Connect.
    """
    kind = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", "")
    if "html" in kind:
        raise ConnectUnavailable(
            f"{operation}: a web page was answered. Is there a proxy in between?",
            maybe_applied=True,
            operation=operation,
        )


def parse_status(summary: Mapping[str, Any]) -> Status:
    """One row of ListAgentStatuses."""
    kind = summary.get("Type", "")
    return Status(
        id=summary["Id"],
        arn=summary.get("Arn", ""),
        name=summary.get("Name", ""),
        type=StatusType(kind) if kind in set(StatusType) else StatusType.CUSTOM,
    )


def parse_queues(rows: Sequence[Mapping[str, Any]]) -> tuple[Queue, ...]:
    """The queues in rows of ListRoutingProfileQueues, each once."""
    return tuple(
        dict.fromkeys(Queue(row["QueueId"], row.get("QueueArn", ""), row.get("QueueName", "")) for row in rows)
    )


def parse_user(row: Mapping[str, Any]) -> tuple[str, Seen] | None:
    """One row of GetCurrentUserData as user id and what was seen; None without a user or a status."""
    user_id = row.get("User", {}).get("Id")
    status = row.get("Status", {})
    if not user_id or not status.get("StatusArn"):
        return None
    contacts = row.get("Contacts", ())
    return user_id, Seen(
        status_id=status["StatusArn"].rsplit("/", 1)[-1],
        status_name=status.get("StatusName", ""),
        since=_moment(status.get("StatusStartTimestamp")),
        next_status=row.get("NextStatus") or None,
        contacts=tuple(contact.get("AgentContactState", "") for contact in contacts),
        contact_ids=tuple(contact.get("ContactId", "") for contact in contacts),
        connected_at=tuple(_moment(contact.get("ConnectedToAgentTimestamp")) for contact in contacts),
        state_since=tuple(_moment(contact.get("StateStartTimestamp")) for contact in contacts),
        available=dict(row.get("AvailableSlotsByChannel", {})),
        profile_id=row.get("RoutingProfile", {}).get("Id", ""),
    )


def _moment(value: object) -> Epoch | None:
    return Epoch(value.timestamp()) if isinstance(value, datetime) else None


def answered_at(response: Mapping[str, Any], otherwise: Epoch) -> Epoch:
    """The response's `Date` header as epoch seconds. Source: RFC 9110, section 6.6.1."""
    date = _date(response)
    return otherwise if date is None else date


def is_dated(response: Mapping[str, Any]) -> bool:
    """Whether the response has a `Date` header that can be read."""
    return _date(response) is not None


def _date(response: Mapping[str, Any]) -> Epoch | None:
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return Epoch(parsedate_to_datetime(date).timestamp()) if date else None
    except ValueError:
        return None


CREDENTIAL_CODES = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""Error codes of a request whose sender AWS does not recognise. Source: AWS, "Common Errors"."""

THROTTLING_CODES = frozenset({"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"})

_NO_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.SSOError,
    aws.LoginError,
    aws.ProfileNotFound,
)

_NOT_SENT = (aws.EndpointConnectionError, aws.ConnectTimeoutError, aws.ProxyConnectionError)
"""The connection never came about. (A TLS error may also come while the answer is read, so it is not here.)"""

_REFUSED_BY_BOTOCORE = (aws.ParamValidationError, aws.ValidationError, aws.BaseEndpointResolverError)


def classify(error: Exception, operation: str, instance_id: str) -> ConnectError:
    """The exception of ours for one that a boto3 call raised, by error code and HTTP status.

    Args:
        error: What the client raised.
        operation: The API that was called, as botocore spells it.
        instance_id: The instance it was about.

    Returns:
        The exception to raise; anything unknown is `ConnectUnavailable`, since it says nothing about the effect.
    """
    if isinstance(error, aws.ClientError):
        return _refused(error, operation, instance_id)
    text = f"{operation} for instance {instance_id}: {error}"
    if isinstance(error, _NO_CREDENTIALS):
        return ConnectCredentials(f"{text}. Check the AWS credentials of the process.", operation=operation)
    if isinstance(error, aws.NoRegionError):
        return ConnectInvalid(f"{text} Set AWS_REGION, or `region` in WATCHDOG_INSTANCES.", operation=operation)
    if isinstance(error, _REFUSED_BY_BOTOCORE):
        return ConnectInvalid(text, operation=operation)
    return ConnectUnavailable(text, maybe_applied=not isinstance(error, _NOT_SENT), operation=operation)


def _refused(error: aws.ClientError, operation: str, instance_id: str) -> ConnectError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = (
        f"{operation} for instance {instance_id}: {code or status} {error.response.get('Error', {}).get('Message', '')}"
    )
    said = said.rstrip(" .")
    if error.operation_name != operation and (code in THROTTLING_CODES or status == 429):  # noqa: PLR2004  # HTTP
        text = f"{said} ({error.operation_name})"
        return ConnectUnavailable(text, maybe_applied=False, operation=operation, code=code)
    if error.operation_name != operation and status < 500:  # noqa: PLR2004  # HTTP: below are the caller's faults
        # Before our own operation botocore calls STS for the credentials of a role.
        text = f"{said} ({error.operation_name}). Check the role in WATCHDOG_INSTANCES and who may assume it."
        return ConnectCredentials(text, operation=operation, code=code)
    if code in CREDENTIAL_CODES:
        text = f"{said}. Check the AWS credentials of the process and its clock."
        return ConnectCredentials(text, operation=operation, code=code)
    match status:
        case _ if code in THROTTLING_CODES or status == 429:  # noqa: PLR2004  # HTTP
            return ConnectThrottled(said, operation=operation, code=code)
        case 403:
            return ConnectDenied(f"{said}. Allow connect:{operation}.", operation=operation, code=code)
        case 404 if operation in (LIST_AGENT_STATUSES, LIST_ROUTING_PROFILES):
            text = f"{said}. Check WATCHDOG_INSTANCES and the region: there is no such instance in this account."
            return ConnectNotFound(text, operation=operation, code=code)
        case 404:
            return ConnectNotFound(said, operation=operation, code=code)
        case 408:
            return ConnectUnavailable(said, maybe_applied=True, operation=operation, code=code)
        case _ if 300 <= status < 500:  # noqa: PLR2004  # HTTP
            return ConnectInvalid(said, operation=operation, code=code)
    return ConnectUnavailable(said, maybe_applied=True, operation=operation, code=code)
