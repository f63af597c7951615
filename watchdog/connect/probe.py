"""What an instance has, and which calls it allows, found out without an effect on any agent.

Reads are real ones. A write is made for a user and a contact that no instance has: a caller who may not make it is
refused with 403, before Connect looks for them; a caller who may is told that there are none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from watchdog.connect.answers import (
    DELETE_ALL_ENTITY_SESSIONS,
    DISMISS_USER_CONTACT,
    GET_CURRENT_USER_DATA,
    LIST_AGENT_STATUSES,
    LIST_ROUTING_PROFILE_QUEUES,
    LIST_ROUTING_PROFILES,
    PUT_USER_STATUS,
    ProfilePage,
    Status,
    StatusPage,
)
from watchdog.connect.api import AGENTS_A_CALL, Connect
from watchdog.connect.directory import MAX_PAGES
from watchdog.connect.iam import Uses
from watchdog.core import quota
from watchdog.core.model import Boot, Instant
from watchdog.core.quota import Bucket, QuotaRules
from watchdog.errors import (
    ConnectCredentials,
    ConnectError,
    ConnectInvalid,
    ConnectNotFound,
    ConnectThrottled,
    ConnectUnavailable,
)

T = TypeVar("T")

NOBODY = "00000000-0000-0000-0000-000000000000"
"""An id that no user and no contact has. Source: RFC 9562, section 5.9, Nil UUID."""

ATTEMPTS = 4
"""So often a call is made that is answered 429; the rate is halved each time."""

SENDABLE_S = 60.0
"""A write may leave so long after it was asked for: it has no effect, whenever it is sent."""

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Trial:
    """One call that was tried.

    Attributes:
        operation: The API, which is also the name of the IAM action.
        of: What it was tried with, for people: a status' name; empty where there is but one way.
        error: Why it failed; None when it is allowed.
    """

    operation: str
    of: str
    error: ConnectError | None


@dataclass(frozen=True, slots=True)
class Found:
    """What could be listed of an instance, or why not.

    Attributes:
        statuses: Its agent statuses.
        profiles: Names of its routing profiles by id.
    """

    statuses: tuple[Status, ...] | ConnectError
    profiles: Mapping[str, str] | ConnectError


class Probe:
    """Makes trials, within the share of the quota that is the watchdog's: a daemon may be running beside it."""

    def __init__(
        self,
        connect: Connect,
        rules: Callable[[str], QuotaRules],
        scope: Callable[[str], str],
        now: Callable[[], Instant],
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Starts with full buckets.

        Args:
            connect: Makes the calls.
            rules: The quota of an operation.
            scope: Account and region of an instance, which share the quota.
            now: The machine's clocks.
            wait: Lets seconds pass.
        """
        self._connect = connect
        self._rules = rules
        self._scope = scope
        self._now = now
        self._wait = wait
        self._buckets: dict[tuple[str, str], Bucket] = {}

    async def find(self, instance_id: str) -> Found:
        """Lists statuses and routing profiles. Where AWS is not reached, or does not know us, it is asked only once."""
        statuses = await self._statuses(instance_id)
        if isinstance(statuses, (ConnectUnavailable, ConnectCredentials)):
            return Found(statuses, statuses)
        return Found(statuses, await self._profiles(instance_id))

    async def trials(
        self, instance_id: str, uses: Uses, statuses: Sequence[Status], profile_ids: Sequence[str]
    ) -> list[Trial]:
        """Tries every call but the listings.

        Args:
            instance_id: The instance.
            uses: What is to be allowed.
            statuses: Those that are to be set; each is tried by itself.
            profile_ids: Routing profiles of the instance; without one, what is read by profile is not tried.
        """
        made: list[Trial] = []
        for operation, of, call in self._calls(instance_id, uses, statuses, profile_ids):
            error: ConnectError | None = None
            try:
                await self._paced(operation, instance_id, call)
            except (ConnectNotFound, ConnectInvalid):
                # Whoever may not call does not learn what there is.
                pass
            except ConnectError as failed:
                error = failed
            made.append(Trial(operation, of, error))
        return made

    def _calls(
        self, instance_id: str, uses: Uses, statuses: Sequence[Status], profile_ids: Sequence[str]
    ) -> Iterator[tuple[str, str, Call]]:
        connect, needed = self._connect, uses.operations
        yield GET_CURRENT_USER_DATA, "by agent", lambda: connect.current_user_data(instance_id, [NOBODY])
        if uses.reconciles and profile_ids:
            some = profile_ids[:AGENTS_A_CALL]
            yield GET_CURRENT_USER_DATA, "by routing profile", lambda: connect.user_data_page(instance_id, some, None)
        if LIST_ROUTING_PROFILE_QUEUES in needed and profile_ids:
            first = profile_ids[0]
            yield LIST_ROUTING_PROFILE_QUEUES, "", lambda: connect.list_routing_profile_queues(instance_id, first)
        for status in statuses if PUT_USER_STATUS in needed else ():
            yield PUT_USER_STATUS, status.name, self._put(instance_id, status.id)
        if DISMISS_USER_CONTACT in needed:
            yield (
                DISMISS_USER_CONTACT,
                "",
                lambda: connect.dismiss_user_contact(instance_id, NOBODY, NOBODY, self._until()),
            )
        if DELETE_ALL_ENTITY_SESSIONS in needed:
            yield (
                DELETE_ALL_ENTITY_SESSIONS,
                "",
                lambda: connect.delete_all_entity_sessions(instance_id, NOBODY, self._until()),
            )

    def _put(self, instance_id: str, status_id: str) -> Call:
        return lambda: self._connect.put_user_status(instance_id, NOBODY, status_id, self._until())

    def _until(self) -> Boot:
        return Boot(self._now().boot + SENDABLE_S)

    async def _statuses(self, instance_id: str) -> tuple[Status, ...] | ConnectError:
        found: list[Status] = []
        cursor: str | None = None

        def call() -> Awaitable[StatusPage]:
            return self._connect.list_agent_statuses(instance_id, cursor)

        try:
            for _ in range(MAX_PAGES):
                page = await self._paced(LIST_AGENT_STATUSES, instance_id, call)
                found += page.statuses
                cursor = page.cursor
                if cursor is None:
                    break
        except ConnectError as error:
            return error
        return tuple(found)

    async def _profiles(self, instance_id: str) -> Mapping[str, str] | ConnectError:
        found: dict[str, str] = {}
        cursor: str | None = None

        def call() -> Awaitable[ProfilePage]:
            return self._connect.list_routing_profiles(instance_id, cursor)

        try:
            for _ in range(MAX_PAGES):
                page = await self._paced(LIST_ROUTING_PROFILES, instance_id, call)
                found.update(page.names)
                cursor = page.cursor
                if cursor is None:
                    break
        except ConnectError as error:
            return error
        return found

    async def _paced(self, operation: str, instance_id: str, call: Callable[[], Awaitable[T]]) -> T:
        """Makes a call when there is a token for it, again after a 429."""
        rules, key = self._rules(operation), (operation, self._scope(instance_id))
        for attempt in range(1, ATTEMPTS + 1):
            await self._take(key, rules)
            try:
                return await call()
            except ConnectThrottled:
                self._buckets[key] = quota.throttled(self._buckets[key], rules, self._now().boot)
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _take(self, key: tuple[str, str], rules: QuotaRules) -> None:
        while True:
            boot = self._now().boot
            bucket = self._buckets.get(key) or Bucket(rules.own_burst, boot)
            self._buckets[key], wait_s = quota.take(bucket, rules, boot)
            if wait_s <= 0:
                return
            await self._wait(wait_s)
