"""boto3 behind the `Connect` protocol: one attempt a call, its clients and its credentials.

boto3 blocks, so it runs in a small pool of threads. What an answer or an error means is in `answers.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.credentials import CredentialResolver
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

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
    answered_at,
    check_answered,
    classify,
    is_dated,
    listed,
    parse_queues,
    parse_status,
    parse_user,
)
from watchdog.connect.api import AGENTS_A_CALL, Instance
from watchdog.connect.lanes import Lanes
from watchdog.connect.prompt import Prompt
from watchdog.connect.role import AssumedRole
from watchdog.core.model import Boot, Instant
from watchdog.errors import ConnectCredentials, ConnectUnavailable, WatchdogError

if TYPE_CHECKING:
    from mypy_boto3_connect import ConnectClient
    from mypy_boto3_connect.type_defs import (
        GetCurrentUserDataRequestTypeDef,
        ListAgentStatusRequestTypeDef,
        ListRoutingProfileQueuesRequestTypeDef,
        ListRoutingProfilesRequestTypeDef,
    )

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BotoConfig:
    """How boto3 calls.

    Attributes:
        connect_timeout_s: For the TCP and TLS connection.
        read_timeout_s: For the answer; Connect answers in well under a second.
        threads: Calls at a time of one operation of an account and region. At a rate of r calls a second that all time
            out, r times 13 s are busy: 21 at the default quota.
        user_agent: What AWS' logs show besides boto3's own.
    """

    connect_timeout_s: float = 3.0
    read_timeout_s: float = 10.0
    threads: int = 24
    user_agent: str = "connect-presence-watchdog"


class BotoConnect:
    """The `Connect` protocol over boto3, for any number of concurrent calls; a cancelled one goes on in its thread."""

    def __init__(
        self, instances: Sequence[Instance], now: Callable[[], Instant], config: BotoConfig | None = None
    ) -> None:
        """Nothing is called and no credential is read before the first call.

        Args:
            instances: The instances that may be called.
            now: The machine's clocks; `boot` is compared with `not_after` in the calling thread.
            config: Time-outs and threads.
        """
        config = config or BotoConfig()
        self._instances = {instance.instance_id: instance for instance in instances}
        self._now = now
        self._config = Config(
            connect_timeout=config.connect_timeout_s,
            read_timeout=config.read_timeout_s,
            # One attempt: a retry that botocore hides would send a stale status seconds after the re-check.
            retries={"total_max_attempts": 1, "mode": "standard"},
            # Each thread keeps its connection; there are seven operations.
            max_pool_connections=7 * config.threads,
            tcp_keepalive=True,
            user_agent_extra=config.user_agent,
        )
        self._lanes = Lanes(config.threads)
        self._prompt = Prompt(now)
        self._clients: dict[tuple[str | None, str | None, str | None], ConnectClient] = {}
        # Making a client may ask for credentials over the network; nobody else's calls wait for that.
        self._making = {instance.scope: threading.Lock() for instance in instances}

    @property
    def running(self) -> int:
        """Calls that have not ended, those whose caller was cancelled included."""
        return self._lanes.running

    async def close(self, timeout_s: float) -> bool:
        """Waits for calls that are still running; calls that have not begun are dropped.

        Returns:
            Whether all have ended. If not, their threads end with their time-outs.
        """
        return await self._lanes.close(timeout_s)

    async def current_user_data(self, instance_id: str, user_ids: Sequence[str], cursor: str | None = None) -> UserData:
        """See `Connect`."""

        def read(client: ConnectClient) -> UserData:
            request: GetCurrentUserDataRequestTypeDef = {
                "InstanceId": instance_id,
                "Filters": {"Agents": list(user_ids)},
                "MaxResults": AGENTS_A_CALL,
            }
            if cursor is not None:
                request["NextToken"] = cursor
            answer = client.get_current_user_data(**request)
            rows: dict[str, Seen] = {}
            unreadable: set[str] = set()
            for row in listed(answer, "UserDataList", GET_CURRENT_USER_DATA):
                parsed = parse_user(row)
                if parsed is None:
                    unreadable.add(row.get("User", {}).get("Id", ""))
                else:
                    rows[parsed[0]] = parsed[1]
            token = answer.get("NextToken") or None
            return UserData(
                rows,
                complete=token is None,
                answered_at=answered_at(answer, self._now().epoch),
                dated=is_dated(answer),
                unreadable=frozenset(unreadable),
                cursor=token,
            )

        return await self._submit(GET_CURRENT_USER_DATA, instance_id, read)

    async def user_data_page(self, instance_id: str, profile_ids: Sequence[str], cursor: str | None) -> UserPage:
        """See `Connect`."""

        def read(client: ConnectClient) -> UserPage:
            request: GetCurrentUserDataRequestTypeDef = {
                "InstanceId": instance_id,
                "Filters": {"RoutingProfiles": list(profile_ids)},
                "MaxResults": AGENTS_A_CALL,
            }
            if cursor is not None:
                request["NextToken"] = cursor
            answer = client.get_current_user_data(**request)
            found = listed(answer, "UserDataList", GET_CURRENT_USER_DATA)
            rows = dict(row for row in map(parse_user, found) if row is not None)
            return UserPage(rows, answer.get("NextToken") or None)

        return await self._submit(GET_CURRENT_USER_DATA, instance_id, read)

    async def put_user_status(self, instance_id: str, user_id: str, status_id: str, not_after: Boot) -> None:
        """See `Connect`."""

        def write(client: ConnectClient) -> Mapping[str, Any]:
            return client.put_user_status(InstanceId=instance_id, UserId=user_id, AgentStatusId=status_id)

        await self._write(PUT_USER_STATUS, instance_id, not_after, write)

    async def dismiss_user_contact(self, instance_id: str, user_id: str, contact_id: str, not_after: Boot) -> None:
        """See `Connect`."""

        def write(client: ConnectClient) -> Mapping[str, Any]:
            return client.dismiss_user_contact(InstanceId=instance_id, UserId=user_id, ContactId=contact_id)

        await self._write(DISMISS_USER_CONTACT, instance_id, not_after, write)

    async def delete_all_entity_sessions(self, instance_id: str, user_id: str, not_after: Boot) -> None:
        """See `Connect`."""

        def write(client: ConnectClient) -> Mapping[str, Any]:
            untyped: Any = client  # its stubs do not know the operation yet
            answer: Mapping[str, Any] = untyped.delete_all_entity_sessions(
                InstanceId=instance_id, EntityId=user_id, EntityType="USER"
            )
            return answer

        await self._write(DELETE_ALL_ENTITY_SESSIONS, instance_id, not_after, write)

    async def list_agent_statuses(self, instance_id: str, cursor: str | None = None) -> StatusPage:
        """See `Connect`."""

        def read(client: ConnectClient) -> StatusPage:
            request: ListAgentStatusRequestTypeDef = {"InstanceId": instance_id}
            if cursor is not None:
                request["NextToken"] = cursor
            answer = client.list_agent_statuses(**request)
            rows = listed(answer, "AgentStatusSummaryList", LIST_AGENT_STATUSES)
            return StatusPage(tuple(map(parse_status, rows)), answer.get("NextToken") or None)

        return await self._submit(LIST_AGENT_STATUSES, instance_id, read)

    async def list_routing_profiles(self, instance_id: str, cursor: str | None = None) -> ProfilePage:
        """See `Connect`."""

        def read(client: ConnectClient) -> ProfilePage:
            request: ListRoutingProfilesRequestTypeDef = {"InstanceId": instance_id}
            if cursor is not None:
                request["NextToken"] = cursor
            answer = client.list_routing_profiles(**request)
            rows = listed(answer, "RoutingProfileSummaryList", LIST_ROUTING_PROFILES)
            return ProfilePage({row["Id"]: row.get("Name", "") for row in rows}, answer.get("NextToken") or None)

        return await self._submit(LIST_ROUTING_PROFILES, instance_id, read)

    async def list_routing_profile_queues(
        self, instance_id: str, profile_id: str, cursor: str | None = None
    ) -> QueuePage:
        """See `Connect`."""

        def read(client: ConnectClient) -> QueuePage:
            request: ListRoutingProfileQueuesRequestTypeDef = {
                "InstanceId": instance_id,
                "RoutingProfileId": profile_id,
            }
            if cursor is not None:
                request["NextToken"] = cursor
            answer = client.list_routing_profile_queues(**request)
            rows = listed(answer, "RoutingProfileQueueConfigSummaryList", LIST_ROUTING_PROFILE_QUEUES)
            return QueuePage(parse_queues(rows), answer.get("NextToken") or None)

        return await self._submit(LIST_ROUTING_PROFILE_QUEUES, instance_id, read)

    async def _write(
        self, operation: str, instance_id: str, not_after: Boot, call: Callable[[ConnectClient], Mapping[str, Any]]
    ) -> None:
        """Makes a call whose answer has no body, if it can leave in time."""

        def write(client: ConnectClient) -> None:
            with self._prompt.limit(not_after):
                answer = call(client)
            check_answered(answer, operation)

        await self._submit(operation, instance_id, write)

    async def _submit(self, operation: str, instance_id: str, work: Callable[[ConnectClient], T]) -> T:
        scope = self._instances[instance_id].scope
        return await self._lanes.run(scope, operation, lambda: self._work(operation, instance_id, work))

    def _work(self, operation: str, instance_id: str, work: Callable[[ConnectClient], T]) -> T:
        instance = self._instances[instance_id]
        try:
            return work(self._client(instance))
        except (BotoCoreError, ClientError) as error:
            ours = classify(error, operation, instance_id)
            if isinstance(ours, ConnectCredentials):
                # botocore remembers that there were none, or which; a new session looks again.
                self._forget(instance)
            raise ours from error
        except WatchdogError:
            raise
        except Exception as error:
            # An endpoint that is none, an answer that botocore cannot parse, credentials that it gives up on.
            text = f"{operation} for instance {instance_id}: {type(error).__name__}: {error}"
            raise ConnectUnavailable(text, maybe_applied=True, operation=operation) from error

    def _client(self, instance: Instance) -> ConnectClient:
        key = (instance.role_arn, instance.external_id, instance.region)
        with self._making[instance.scope]:
            client = self._clients.get(key)
            if client is None:
                client = self._clients[key] = self._new_client(instance)
            return client

    def _forget(self, instance: Instance) -> None:
        with self._making[instance.scope]:
            self._clients.pop((instance.role_arn, instance.external_id, instance.region), None)

    def _new_client(self, instance: Instance) -> ConnectClient:
        session = get_session()
        if instance.role_arn is not None:
            role = AssumedRole(get_session(), instance, self._config)
            session.register_component("credential_provider", CredentialResolver([role]))
        client: ConnectClient = boto3.session.Session(botocore_session=session).client(
            "connect", region_name=instance.region, config=self._config
        )
        self._prompt.install(client)
        return client
