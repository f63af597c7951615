"""Every call of Amazon Connect passes here: it is counted, and its result opens or closes circuits and slows the quota.

A `Connect` around another one. It decides nothing about agents; who calls sees the same answers and exceptions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from watchdog.connect.answers import (
    DELETE_ALL_ENTITY_SESSIONS,
    DISMISS_USER_CONTACT,
    GET_CURRENT_USER_DATA,
    LIST_AGENT_STATUSES,
    LIST_ROUTING_PROFILE_QUEUES,
    LIST_ROUTING_PROFILES,
    PUT_USER_STATUS,
    ProfilePage,
    QueuePage,
    Seen,
    StatusPage,
    UserData,
    UserPage,
)
from watchdog.connect.api import Connect
from watchdog.connect.circuit import ANY_OPERATION, Circuits, Line, Problem
from watchdog.connect.scopes import Scopes
from watchdog.core.model import Boot, Epoch, Instant
from watchdog.errors import (
    CallAborted,
    ConnectCredentials,
    ConnectDenied,
    ConnectError,
    ConnectInvalid,
    ConnectNotFound,
    ConnectThrottled,
    ConnectUnavailable,
)

T = TypeVar("T")

OVER_AFTER_S = 120.0
"""Throttling or an outage counts as over when this long without another failure: twice the longest back-off."""

RESULTS: Mapping[type[Exception], str] = {
    ConnectThrottled: "throttled",
    ConnectDenied: "denied",
    ConnectNotFound: "not_found",
    ConnectInvalid: "invalid",
    ConnectUnavailable: "unavailable",
    ConnectCredentials: "credentials",
    CallAborted: "aborted",
}
"""Names of failed results in `connect_calls_total`; success is `ok`, a call whose caller went away `cancelled`."""

log = structlog.stdlib.get_logger(__name__)


class Observer(Protocol):
    """What the metrics want to know. Called in the event loop; must not block or raise."""

    def connect_call(self, operation: str, result: str) -> None:
        """A call ended: `ok` or one of `RESULTS`."""

    def tokens(self, operation: str, scope: str, left: float) -> None:
        """What is left of the quota's bucket, as far as this process knows."""

    def detection_lag(self, seconds: float) -> None:
        """An agent was claimed for the first time, so long after its deadline."""


@dataclass(slots=True)
class _Trouble:
    problem: Problem
    last: Boot


class Guard:
    """The `Connect` that everything else here calls."""

    def __init__(
        self,
        connect: Connect,
        circuits: Circuits,
        scopes: Scopes,
        *,
        observer: Observer,
        throttled: Callable[[str, str], Awaitable[None]],
        seen: Callable[[str, Mapping[str, Seen]], None],
        now: Callable[[], Instant],
    ) -> None:
        """Wraps a client.

        Args:
            connect: What makes the calls.
            circuits: What to open and close.
            scopes: Of quotas and credentials.
            observer: Is told of each call.
            throttled: Is told operation and scope of each 429; must not raise.
            seen: Is told the instance and the rows of each GetCurrentUserData; must not raise.
            now: The machine's clocks.
        """
        self._connect = connect
        self._circuits = circuits
        self._scopes = scopes
        self._observer = observer
        self._throttled = throttled
        self._seen = seen
        self._now = now
        self._troubles: dict[tuple[str, Line], _Trouble] = {}

    async def current_user_data(self, instance_id: str, user_ids: Sequence[str], cursor: str | None = None) -> UserData:
        """See `Connect`."""
        line = Line(instance_id, GET_CURRENT_USER_DATA)
        answer = await self._watched(line, self._connect.current_user_data(instance_id, user_ids, cursor))
        self._circuits.close(Line(instance_id, LIST_AGENT_STATUSES))
        self._seen(instance_id, answer.rows)
        return answer

    async def user_data_page(self, instance_id: str, profile_ids: Sequence[str], cursor: str | None) -> UserPage:
        """See `Connect`."""
        line = Line(instance_id, GET_CURRENT_USER_DATA)
        call = self._connect.user_data_page(instance_id, profile_ids, cursor)
        # Reading by profile has a permission of its own: without it, agents can be read and set all the same.
        page = await self._watched(line, call, breaks=False)
        self._seen(instance_id, page.rows)
        return page

    async def put_user_status(self, instance_id: str, user_id: str, status_id: str, not_after: Boot) -> None:
        """See `Connect`."""
        line = Line(instance_id, PUT_USER_STATUS, status_id)
        await self._watched(line, self._connect.put_user_status(instance_id, user_id, status_id, not_after))

    async def dismiss_user_contact(self, instance_id: str, user_id: str, contact_id: str, not_after: Boot) -> None:
        """See `Connect`."""
        line = Line(instance_id, DISMISS_USER_CONTACT)
        await self._watched(line, self._connect.dismiss_user_contact(instance_id, user_id, contact_id, not_after))

    async def delete_all_entity_sessions(self, instance_id: str, user_id: str, not_after: Boot) -> None:
        """See `Connect`."""
        line = Line(instance_id, DELETE_ALL_ENTITY_SESSIONS)
        await self._watched(line, self._connect.delete_all_entity_sessions(instance_id, user_id, not_after))

    async def list_agent_statuses(self, instance_id: str, cursor: str | None = None) -> StatusPage:
        """See `Connect`."""
        line = Line(instance_id, LIST_AGENT_STATUSES)
        try:
            return await self._watched(line, self._connect.list_agent_statuses(instance_id, cursor))
        except ConnectNotFound as error:
            self._circuits.open(line, "instance_not_found", str(error))
            raise

    async def list_routing_profiles(self, instance_id: str, cursor: str | None = None) -> ProfilePage:
        """See `Connect`."""
        line = Line(instance_id, LIST_ROUTING_PROFILES)
        return await self._watched(line, self._connect.list_routing_profiles(instance_id, cursor))

    async def list_routing_profile_queues(
        self, instance_id: str, profile_id: str, cursor: str | None = None
    ) -> QueuePage:
        """See `Connect`."""
        line = Line(instance_id, LIST_ROUTING_PROFILE_QUEUES)
        return await self._watched(line, self._connect.list_routing_profile_queues(instance_id, profile_id, cursor))

    def problems(self) -> list[Problem]:
        """What does not work at present without being refused: throttling and an unreachable service."""
        boot = self._now().boot
        return [trouble.problem for trouble in self._troubles.values() if boot - trouble.last < OVER_AFTER_S]

    async def _watched(self, line: Line, call: Awaitable[T], *, breaks: bool = True) -> T:
        result = "cancelled"
        try:
            answer = await call
            result = "ok"
        except (ConnectError, CallAborted) as error:
            result = RESULTS[type(error)]
            await self._failed(line, error, breaks=breaks)
            raise
        finally:
            self._observer.connect_call(line.operation, result)
        if breaks:
            self._circuits.close(line)
        self._circuits.close(Line(self._scopes.credentials(line.where), ANY_OPERATION))
        if self._troubles.pop(("connect_unavailable", Line(line.where, line.operation)), None):
            log.info("connect.recovered", operation=line.operation, instance_id=line.where)
        return answer

    async def _failed(self, line: Line, error: Exception, *, breaks: bool) -> None:
        match error:
            case ConnectThrottled():
                scope = self._scopes[line.where]
                self._note("connect_throttled", Line(scope, line.operation), error, "connect.throttled")
                await self._throttled(line.operation, scope)
            case ConnectUnavailable():
                self._note("connect_unavailable", Line(line.where, line.operation), error, "connect.unavailable")
            case ConnectCredentials():
                self._circuits.open(
                    Line(self._scopes.credentials(line.where), ANY_OPERATION), "credentials", str(error)
                )
            case ConnectDenied() if not breaks:
                self._note("reconcile_denied", line, error, "reconcile.denied")
            case ConnectDenied() if line.operation not in (LIST_AGENT_STATUSES, LIST_ROUTING_PROFILES):
                # These listings have no circuit: what they listed before is kept, and the agents can be acted on.
                self._circuits.open(line, "denied", str(error))

    def _note(self, code: str, line: Line, error: Exception, event: str) -> None:
        """Keeps the trouble and logs its beginning, not its repetitions."""
        instant = self._now()
        trouble = self._troubles.get((code, line))
        if trouble is None or instant.boot - trouble.last >= OVER_AFTER_S:
            trouble = _Trouble(Problem(code, str(error), Epoch(instant.epoch)), instant.boot)
            self._troubles[(code, line)] = trouble
            log.warning(event, operation=line.operation, where=line.where, detail=str(error))
        trouble.last = instant.boot
