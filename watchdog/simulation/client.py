"""Amazon Connect as a simulated daemon reaches it: the `Connect` protocol over the stand-in, with a way in between.

A call that was sent goes on when its caller is killed, as a packet does. Whether a write was still allowed when it was
sent, and what became of it, is told to a witness.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

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
    StatusPage,
    UserData,
    UserPage,
    answered_at,
    classify,
    parse_queues,
    parse_status,
    parse_user,
)
from watchdog.core.model import Action, Boot, Instant
from watchdog.errors import CallAborted
from watchdog.sandbox.direct import DirectConnect
from watchdog.simulation.loop import spawn


class Watcher(Protocol):
    """Who judges the calls."""

    def sent(self, user_id: str, status_id: str) -> None:
        """A PutUserStatus leaves the machine."""

    def signing_out(self, user_id: str) -> None:
        """A DeleteAllEntitySessions leaves the machine."""

    def took_effect(self) -> None:
        """A call has been served or refused: Connect's log may have grown."""

    def ended(self) -> None:
        """A process has ended."""

    def recorded(self, action: Action) -> None:
        """An action is in the history."""


class VirtualConnect:
    """See `watchdog.connect.api.Connect`."""

    def __init__(
        self,
        direct: DirectConnect,
        *,
        rng: random.Random,
        now: Callable[[], Instant],
        point: Callable[[str], None],
        watcher: Watcher,
    ) -> None:
        """Makes a process's client.

        Args:
            direct: The stand-in.
            rng: Of the latency.
            now: The machine's clocks.
            point: Is told where a call is; there the process may be killed.
            watcher: Judges.
        """
        self._direct = direct
        self._rng = rng
        self._now = now
        self._point = point
        self._watcher = watcher

    async def current_user_data(self, instance_id: str, user_ids: Sequence[str], cursor: str | None = None) -> UserData:
        """See `Connect`."""
        await asyncio.sleep(self._rng.random() * 0.02)
        more = {} if cursor is None else {"NextToken": cursor}
        answer = await self._call(
            GET_CURRENT_USER_DATA, instance_id, Filters={"Agents": list(user_ids)}, MaxResults=100, **more
        )
        rows = dict(row for row in map(parse_user, answer["UserDataList"]) if row is not None)
        token = answer.get("NextToken") or None
        return UserData(rows, token is None, answered_at(answer, self._now().epoch), cursor=token)

    async def user_data_page(self, instance_id: str, profile_ids: Sequence[str], cursor: str | None) -> UserPage:
        """See `Connect`."""
        more = {} if cursor is None else {"NextToken": cursor}
        answer = await self._call(
            GET_CURRENT_USER_DATA, instance_id, Filters={"RoutingProfiles": list(profile_ids)}, MaxResults=100, **more
        )
        rows = dict(row for row in map(parse_user, answer["UserDataList"]) if row is not None)
        return UserPage(rows, answer.get("NextToken") or None)

    async def put_user_status(self, instance_id: str, user_id: str, status_id: str, not_after: Boot) -> None:
        """See `Connect`."""
        await self._ready(not_after)
        self._point("put.before")
        self._watcher.sent(user_id, status_id)
        await self._call(PUT_USER_STATUS, instance_id, UserId=user_id, AgentStatusId=status_id)
        self._point("put.answered")

    async def dismiss_user_contact(self, instance_id: str, user_id: str, contact_id: str, not_after: Boot) -> None:
        """See `Connect`."""
        await self._ready(not_after)
        await self._call(DISMISS_USER_CONTACT, instance_id, UserId=user_id, ContactId=contact_id)

    async def delete_all_entity_sessions(self, instance_id: str, user_id: str, not_after: Boot) -> None:
        """See `Connect`."""
        await self._ready(not_after)
        self._watcher.signing_out(user_id)
        await self._call(DELETE_ALL_ENTITY_SESSIONS, instance_id, EntityId=user_id, EntityType="USER")

    async def list_agent_statuses(self, instance_id: str, cursor: str | None = None) -> StatusPage:
        """See `Connect`."""
        more = {} if cursor is None else {"NextToken": cursor}
        answer = await self._call(LIST_AGENT_STATUSES, instance_id, **more)
        return StatusPage(tuple(map(parse_status, answer["AgentStatusSummaryList"])), answer.get("NextToken"))

    async def list_routing_profiles(self, instance_id: str, cursor: str | None = None) -> ProfilePage:
        """See `Connect`."""
        more = {} if cursor is None else {"NextToken": cursor}
        answer = await self._call(LIST_ROUTING_PROFILES, instance_id, **more)
        names = {row["Id"]: row["Name"] for row in answer["RoutingProfileSummaryList"]}
        return ProfilePage(names, answer.get("NextToken"))

    async def list_routing_profile_queues(
        self, instance_id: str, profile_id: str, cursor: str | None = None
    ) -> QueuePage:
        """See `Connect`."""
        more = {} if cursor is None else {"NextToken": cursor}
        answer = await self._call(LIST_ROUTING_PROFILE_QUEUES, instance_id, RoutingProfileId=profile_id, **more)
        return QueuePage(parse_queues(answer["RoutingProfileQueueConfigSummaryList"]), answer.get("NextToken"))

    async def _ready(self, not_after: Boot) -> None:
        """A thread of the pool, a signature, a connection: mostly quick, at times not."""
        await asyncio.sleep(self._rng.random() * (0.02 if self._rng.random() < 0.95 else 0.6))
        if self._now().boot > not_after:
            raise CallAborted("Not sent: more than 250 ms have passed since the re-check.")

    async def _call(self, operation: str, instance_id: str, **params: object) -> dict[str, Any]:
        sent = spawn(self._carry(operation, instance_id, params))
        sent.add_done_callback(_read)
        if operation == PUT_USER_STATUS:
            self._point("put.sent")
        try:
            return await asyncio.shield(sent)
        except (BotoCoreError, ClientError) as error:
            raise classify(error, operation, instance_id) from error

    async def _carry(self, operation: str, instance_id: str, params: Mapping[str, object]) -> dict[str, Any]:
        await asyncio.sleep(0.01 + self._rng.random() * 0.08)
        try:
            return await self._direct.call(operation, InstanceId=instance_id, **params)
        finally:
            self._watcher.took_effect()
            await asyncio.sleep(0.01 + self._rng.random() * 0.08)


def _read(done: asyncio.Task[Any]) -> None:
    """Whoever waited may have been killed: an error that nobody waits for is no news."""
    if not done.cancelled():
        done.exception()
