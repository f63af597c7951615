"""The statuses and routing profiles of each instance, and the status that agents are to be set to.

What was listed is kept when AWS fails. A name that does not exist is a fault to be told, never a guess. Who refreshes
and when is not decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from watchdog.connect.answers import (
    LIST_AGENT_STATUSES,
    LIST_ROUTING_PROFILE_QUEUES,
    LIST_ROUTING_PROFILES,
    ProfilePage,
    Queue,
    QueuePage,
    Status,
    StatusPage,
    StatusType,
)
from watchdog.connect.api import Connect
from watchdog.connect.circuit import Problem
from watchdog.connect.queue import Level, Rank
from watchdog.connect.scopes import Scopes
from watchdog.connect.tokens import Tokens
from watchdog.core.model import Boot, Instant, Observed
from watchdog.core.quota import QuotaRules
from watchdog.errors import (
    ConnectCredentials,
    ConnectDenied,
    ConnectError,
    ConnectNotFound,
    ConnectUnavailable,
    StoreUnavailable,
)

TARGET = "target"
"""Key of the fault that the wanted status does not exist; listings have theirs under the operation."""

CODES: Mapping[type[ConnectError], str] = {
    ConnectCredentials: "credentials",
    ConnectDenied: "denied",
    ConnectNotFound: "instance_not_found",
}

MAX_PAGES = 50
"""Pages after which a listing is taken as endless: 50,000 statuses or profiles."""

LISTING_RATE, LISTING_BURST = 10.0, 20.0
"""Quota of all listings, which CONNECT_RATE does not tell; the burst is in proportion to the others'.
Source: Amazon Connect service quotas, API throttling."""

RETRY_S = 30.0
"""Least time between two refreshes that the dispatcher asks for because it cannot go on without."""

_IN_TURN = Rank(Level.SOON, Observed(0.0))
"""Listings wait for nobody but each other: instances in turn."""

Page = TypeVar("Page", StatusPage, ProfilePage, QueuePage)

log = structlog.stdlib.get_logger(__name__)


def quotas(share: float) -> dict[str, QuotaRules]:
    """The quotas of the listings.

    Args:
        share: Of AWS' quota that the watchdog takes (CONNECT_SHARE).
    """
    listings = (LIST_AGENT_STATUSES, LIST_ROUTING_PROFILES, LIST_ROUTING_PROFILE_QUEUES)
    return dict.fromkeys(listings, QuotaRules(LISTING_RATE, LISTING_BURST, share))


@dataclass(frozen=True, slots=True)
class Unresolved:
    """There is no target status, so nobody of the instance may be touched.

    Attributes:
        reason: Why, and what to do.
        loaded: The statuses are known and the wanted one is not among them; False means that they are not known yet.
    """

    reason: str
    loaded: bool


@dataclass(slots=True)
class _Entry:
    statuses: Mapping[str, Status] | None = None
    # What names mean among these statuses.
    resolved: dict[str | None, Status | str] = field(default_factory=dict)
    profiles: Mapping[str, str] = field(default_factory=dict)
    faults: dict[str, Problem] = field(default_factory=dict)
    asked_at: Boot | None = None
    running: asyncio.Task[None] | None = None


def resolve(statuses: Sequence[Status], wanted: str | None) -> Status | str:
    """The status that is meant among those of an instance, or why there is none.

    Args:
        statuses: All statuses of the instance.
        wanted: A status' id or name (exact, else regardless of case if only one fits); None for the one of type
            OFFLINE, whatever it is called.
    """
    if wanted is None:
        offline = [status for status in statuses if status.type is StatusType.OFFLINE]
        if len(offline) == 1:
            return offline[0]
        named = ", ".join(status.name for status in offline) or "none"
        return f"The instance has not one status of type OFFLINE but: {named}. Name the one to use in WATCHDOG_STATUS."
    tests: tuple[Callable[[Status], bool], ...] = (
        lambda status: status.id == wanted,
        lambda status: status.name == wanted,
        lambda status: status.name.casefold() == wanted.casefold(),
    )
    for test in tests:
        found = [status for status in statuses if test(status)]
        if len(found) == 1:
            return found[0]
    existing = ", ".join(sorted(status.name for status in statuses)) or "none"
    return f"There is no status {wanted!r}; there are: {existing}. Correct WATCHDOG_STATUS, or create the status."


class Directory:
    """Statuses and profiles by instance, in memory."""

    def __init__(
        self, connect: Connect, tokens: Tokens, scopes: Scopes, wanted: str | None, now: Callable[[], Instant]
    ) -> None:
        """Starts empty: nothing is known before the first `refresh`.

        Args:
            connect: Makes the calls.
            tokens: Of the listings, one a page.
            scopes: Of the instances' quotas; learns from what is listed.
            wanted: The target status, see `resolve`.
            now: The machine's clocks.
        """
        self._connect = connect
        self._tokens = tokens
        self._scopes = scopes
        self._wanted = wanted
        self._now = now
        self._entries = {instance_id: _Entry() for instance_id in scopes}

    async def refresh(self, instance_id: str | None = None) -> None:
        """Lists statuses and profiles again, of one instance or of all at a time. Never raises for AWS' faults.

        A refresh of the same instance that is running already is joined. What cannot be listed stays as it was.
        """
        chosen = self._entries if instance_id is None else {instance_id: self._entries[instance_id]}
        await asyncio.gather(*(self._joined(each, entry) for each, entry in chosen.items()))

    async def refresh_failed(self) -> None:
        """The same for those of which the last listing failed, or there was none."""
        failed = [
            (instance_id, entry)
            for instance_id, entry in self._entries.items()
            if entry.faults or entry.statuses is None
        ]
        await asyncio.gather(*(self._joined(instance_id, entry) for instance_id, entry in failed))

    def overdue(self, instance_id: str) -> bool:
        """Whether another refresh may be asked for: none is running and the last one is not recent."""
        entry = self._entries[instance_id]
        if entry.running is not None:
            return False
        return entry.asked_at is None or self._now().boot - entry.asked_at >= RETRY_S

    def fault(self, instance_id: str) -> Problem | None:
        """Why the statuses could not be listed the last time; None when they could."""
        return self._entries[instance_id].faults.get(LIST_AGENT_STATUSES)

    def target(self, instance_id: str) -> Status | Unresolved:
        """The status that agents of the instance are set to unless a rule says otherwise."""
        return self.resolve(instance_id, self._wanted)

    def resolve(self, instance_id: str, wanted: str | None) -> Status | Unresolved:
        """A status of the instance by its name or id, see `resolve`. Source: ListAgentStatuses."""
        entry = self._entries[instance_id]
        if entry.statuses is None:
            fault = entry.faults.get(LIST_AGENT_STATUSES)
            return Unresolved(fault.detail if fault else "The statuses have not been listed yet.", loaded=False)
        if wanted not in entry.resolved:
            entry.resolved[wanted] = resolve(tuple(entry.statuses.values()), wanted)
        found = entry.resolved[wanted]
        return Unresolved(f"Instance {instance_id}: {found}", loaded=True) if isinstance(found, str) else found

    async def found(self, instance_id: str, wanted: str | None) -> Status | Unresolved:
        """As `resolve`, after another listing where the status is not among those that are known."""
        found = self.resolve(instance_id, wanted)
        if isinstance(found, Unresolved) and self.overdue(instance_id):
            await self.refresh(instance_id)
            found = self.resolve(instance_id, wanted)
        return found

    def status(self, instance_id: str, status_id: str) -> Status | None:
        """A status by its id, or None when it is not known."""
        return (self._entries[instance_id].statuses or {}).get(status_id)

    def type_of(self, instance_id: str, status_id: str) -> StatusType | None:
        """A status' type, or None when it is not known."""
        status = self.status(instance_id, status_id)
        return status.type if status is not None else None

    def profile_name(self, instance_id: str, profile_id: str) -> str | None:
        """Name of a routing profile, or None when it is not known. Source: ListRoutingProfiles."""
        return self._entries[instance_id].profiles.get(profile_id)

    async def named_profile(self, instance_id: str, profile_id: str) -> str:
        """Name of a routing profile, after another listing where it is not known.

        Raises:
            ConnectUnavailable: It is not known even then.
        """
        if self.profile_name(instance_id, profile_id) is None and self.overdue(instance_id):
            await self.refresh(instance_id)
        name = self.profile_name(instance_id, profile_id)
        if name is None:
            raise ConnectUnavailable("The name of the agent's routing profile is not known.", maybe_applied=False)
        return name

    def profiles(self) -> dict[str, Mapping[str, str]]:
        """Names of routing profiles by instance and id; empty where they are not known."""
        return {instance_id: entry.profiles for instance_id, entry in self._entries.items()}

    def profile_ids(self, instance_id: str) -> tuple[str, ...]:
        """All routing profiles of the instance; empty when they are not known."""
        return tuple(self._entries[instance_id].profiles)

    def listed(self) -> dict[str, tuple[tuple[Status, ...] | None, tuple[str, ...] | None]]:
        """Statuses and names of profiles by instance; None for what was never listed."""
        return {
            instance_id: (
                None if entry.statuses is None else tuple(entry.statuses.values()),
                tuple(entry.profiles.values()) or None,
            )
            for instance_id, entry in self._entries.items()
        }

    async def queues(self, instance_id: str, profile_id: str) -> tuple[Queue, ...]:
        """The queues of a routing profile, each once, as they are now. Source: ListRoutingProfileQueues.

        Raises:
            ConnectError: They could not be listed.
            StoreUnavailable: There was no token to be had.
        """
        found: dict[str, Queue] = {}

        async def listed(instance_id: str, cursor: str | None) -> QueuePage:
            return await self._connect.list_routing_profile_queues(instance_id, profile_id, cursor)

        async for page in self._pages(LIST_ROUTING_PROFILE_QUEUES, listed, instance_id):
            found.update((queue.id, queue) for queue in page.queues)
        return tuple(found.values())

    def problems(self) -> list[Problem]:
        """Listings that failed the last time, and targets that do not exist."""
        return [fault for entry in self._entries.values() for fault in entry.faults.values()]

    async def close(self) -> None:
        """Gives up the refreshes that are running."""
        running = [entry.running for entry in self._entries.values() if entry.running is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _joined(self, instance_id: str, entry: _Entry) -> None:
        if entry.running is None:
            entry.running = asyncio.create_task(self._refresh(instance_id, entry))
        # A caller that is cancelled must not take the listing away from the others.
        await asyncio.shield(entry.running)

    async def _refresh(self, instance_id: str, entry: _Entry) -> None:
        entry.asked_at = self._now().boot
        try:
            with self._fault_of(instance_id, entry, LIST_AGENT_STATUSES):
                entry.statuses, entry.resolved = await self._statuses(instance_id), {}
            with self._fault_of(instance_id, entry, LIST_ROUTING_PROFILES):
                entry.profiles = await self._profiles(instance_id)
            target = self.target(instance_id)
            if isinstance(target, Unresolved) and target.loaded:
                self._fault(instance_id, entry, TARGET, "unknown_status", target.reason)
            elif entry.statuses is not None:
                entry.faults.pop(TARGET, None)
            if not entry.faults:
                log.info(
                    "directory.refreshed",
                    instance_id=instance_id,
                    statuses=len(entry.statuses or {}),
                    profiles=len(entry.profiles),
                )
        except StoreUnavailable:
            # No token was to be had. What is known stays, and what the store lacks is told by others.
            return
        finally:
            entry.running = None

    async def _statuses(self, instance_id: str) -> Mapping[str, Status]:
        found: dict[str, Status] = {}
        async for page in self._pages(LIST_AGENT_STATUSES, self._connect.list_agent_statuses, instance_id):
            found.update((status.id, status) for status in page.statuses)
        if not found:
            text = f"{LIST_AGENT_STATUSES}: the list is empty, and every instance has statuses."
            raise ConnectUnavailable(text, maybe_applied=False, operation=LIST_AGENT_STATUSES)
        self._scopes.learn(instance_id, next(iter(found.values())).arn)
        return found

    async def _profiles(self, instance_id: str) -> Mapping[str, str]:
        found: dict[str, str] = {}
        async for page in self._pages(LIST_ROUTING_PROFILES, self._connect.list_routing_profiles, instance_id):
            found.update(page.names)
        return found

    async def _pages(
        self, operation: str, call: Callable[[str, str | None], Awaitable[Page]], instance_id: str
    ) -> AsyncIterator[Page]:
        """All pages of a listing, each for a token."""
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            await self._tokens.take(operation, self._scopes[instance_id], instance_id, _IN_TURN)
            page = await call(instance_id, cursor)
            yield page
            cursor = page.cursor
            if cursor is None:
                return

    @contextmanager
    def _fault_of(self, instance_id: str, entry: _Entry, operation: str) -> Iterator[None]:
        try:
            yield
        except ConnectError as error:
            code = CODES.get(type(error), "directory_failed")
            self._fault(instance_id, entry, operation, code, str(error))
        else:
            entry.faults.pop(operation, None)

    def _fault(self, instance_id: str, entry: _Entry, what: str, code: str, detail: str) -> None:
        """Remembers a fault; one that goes on keeps its beginning and is not logged again."""
        known = entry.faults.get(what)
        if known is None or known.code != code:
            log.warning("directory.failed", instance_id=instance_id, what=what, code=code, detail=detail)
        since = known.since if known is not None and known.code == code else self._now().epoch
        entry.faults[what] = Problem(code, detail, since)
