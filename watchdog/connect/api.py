"""Amazon Connect as the dispatcher sees it: the `Connect` protocol, and boto3 behind it.

One call is one attempt: retries, quotas and order are the dispatcher's. boto3 blocks, so it runs in a small pool of
threads. What an answer or an error means is in `answers.py`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import boto3
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.session import Session, get_session

from watchdog.connect.answers import (
    GET_CURRENT_USER_DATA,
    LIST_AGENT_STATUSES,
    LIST_ROUTING_PROFILES,
    PUT_USER_STATUS,
    ProfilePage,
    Seen,
    StatusPage,
    UserData,
    UserPage,
    answered_at,
    check_answered,
    classify,
    is_dated,
    listed,
    parse_status,
    parse_user,
)
from watchdog.connect.lanes import Lanes
from watchdog.connect.prompt import Prompt
from watchdog.core.model import Boot, Instant
from watchdog.errors import ConnectCredentials, ConnectUnavailable, WatchdogError

if TYPE_CHECKING:
    from mypy_boto3_connect import ConnectClient
    from mypy_boto3_connect.type_defs import (
        GetCurrentUserDataRequestTypeDef,
        ListAgentStatusRequestTypeDef,
        ListRoutingProfilesRequestTypeDef,
    )

T = TypeVar("T")

AGENTS_A_CALL = 100
"""Most agents in one GetCurrentUserData. Source: shape AgentsMinOneMaxHundred."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A Connect instance and how it is reached.

    Attributes:
        instance_id: Its id.
        region: Its region; None is the process' own (`AWS_REGION`).
        role_arn: The role to assume for it; None calls with the process' own credentials.
        external_id: For that role, if its trust policy asks for one.
    """

    instance_id: str
    region: str | None = None
    role_arn: str | None = None
    external_id: str | None = None

    @property
    def scope(self) -> str:
        """Account and region, which share the quota; `own` and `default` where only the process' environment knows."""
        account = self.role_arn.split(":")[4] if self.role_arn and self.role_arn.count(":") >= 5 else "own"  # noqa: PLR2004  # arn:aws:iam::ACCOUNT:role/…
        return f"{account}/{self.region or 'default'}"


class Connect(Protocol):
    """The calls of Amazon Connect that the watchdog makes. Every method is one attempt and may raise `ConnectError`."""

    async def current_user_data(self, instance_id: str, user_ids: Sequence[str], cursor: str | None = None) -> UserData:
        """Reads a page, nearly always the only one, of what Connect shows of up to 100 agents.

        Source: GetCurrentUserData.
        """

    async def user_data_page(self, instance_id: str, profile_ids: Sequence[str], cursor: str | None) -> UserPage:
        """Reads 100 agents, at most, of up to 100 routing profiles. Source: GetCurrentUserData.

        Args:
            instance_id: Their instance.
            profile_ids: The profiles.
            cursor: The last page's; None for the first one.
        """

    async def put_user_status(self, instance_id: str, user_id: str, status_id: str, not_after: Boot) -> None:
        """Sets an agent's status, or the next status while a contact is handled. Source: PutUserStatus.

        Args:
            instance_id: The agent's instance.
            user_id: The agent.
            status_id: The status to set.
            not_after: Reading of `Instant.boot` after which the request must not be sent any more.

        Raises:
            CallAborted: It was too late; nothing was sent.
        """

    async def list_agent_statuses(self, instance_id: str, cursor: str | None = None) -> StatusPage:
        """A page of the statuses of an instance. Source: ListAgentStatuses."""

    async def list_routing_profiles(self, instance_id: str, cursor: str | None = None) -> ProfilePage:
        """A page of the names of an instance's routing profiles. Source: ListRoutingProfiles."""


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


class _AssumedRole(CredentialProvider):
    """The only link of a session's credential chain: a role, assumed when first needed and refreshed by botocore."""

    METHOD = "watchdog-assume-role"
    CANONICAL_NAME = None

    def __init__(self, source: Session, instance: Instance, config: Config) -> None:
        super().__init__()
        self._source = source
        self._instance = instance
        self._config = config

    def load(self) -> DeferredRefreshableCredentials:
        """Credentials that call STS at their first use, not before."""
        return DeferredRefreshableCredentials(self._fetch, self.METHOD)

    def _fetch(self) -> dict[str, Any]:
        source = self._source.get_credentials()
        if source is None:
            raise NoCredentialsError
        extra = {"RoleSessionName": "connect-presence-watchdog"}
        if self._instance.external_id is not None:
            extra["ExternalId"] = self._instance.external_id
        create = functools.partial(self._source.create_client, region_name=self._instance.region, config=self._config)
        fetcher = AssumeRoleCredentialFetcher(create, source, str(self._instance.role_arn), extra_args=extra, cache={})
        fetched: dict[str, Any] = fetcher.fetch_credentials()
        return fetched


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
            # Each thread keeps its connection; there are four operations.
            max_pool_connections=4 * config.threads,
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

        def write(client: ConnectClient) -> None:
            with self._prompt.limit(not_after):
                answer = client.put_user_status(InstanceId=instance_id, UserId=user_id, AgentStatusId=status_id)
            check_answered(answer, PUT_USER_STATUS)

        await self._submit(PUT_USER_STATUS, instance_id, write)

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
            role = _AssumedRole(get_session(), instance, self._config)
            session.register_component("credential_provider", CredentialResolver([role]))
        client: ConnectClient = boto3.session.Session(botocore_session=session).client(
            "connect", region_name=instance.region, config=self._config
        )
        self._prompt.install(client)
        return client
