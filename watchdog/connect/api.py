"""Amazon Connect as the dispatcher sees it: the `Connect` protocol, and how an instance is reached.

One call is one attempt: retries, quotas and order are the dispatcher's. boto3 behind it is in `boto.py`; what an answer
or an error means is in `answers.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from watchdog.connect.answers import ProfilePage, QueuePage, StatusPage, UserData, UserPage
from watchdog.core.model import Boot

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

    async def dismiss_user_contact(self, instance_id: str, user_id: str, contact_id: str, not_after: Boot) -> None:
        """Clears an ended, missed, rejected or failed contact from an agent's slots. Source: DismissUserContact.

        Args:
            instance_id: The agent's instance.
            user_id: The agent.
            contact_id: The contact.
            not_after: See `put_user_status`.

        Raises:
            CallAborted: It was too late; nothing was sent.
        """

    async def delete_all_entity_sessions(self, instance_id: str, user_id: str, not_after: Boot) -> None:
        """Ends every Connect session of a user, which cannot be undone. Source: DeleteAllEntitySessions.

        Args:
            instance_id: The user's instance.
            user_id: The user.
            not_after: See `put_user_status`.

        Raises:
            CallAborted: It was too late; nothing was sent.
        """

    async def list_agent_statuses(self, instance_id: str, cursor: str | None = None) -> StatusPage:
        """A page of the statuses of an instance. Source: ListAgentStatuses."""

    async def list_routing_profiles(self, instance_id: str, cursor: str | None = None) -> ProfilePage:
        """A page of the names of an instance's routing profiles. Source: ListRoutingProfiles."""

    async def list_routing_profile_queues(
        self, instance_id: str, profile_id: str, cursor: str | None = None
    ) -> QueuePage:
        """A page of the queues of a routing profile. Source: ListRoutingProfileQueues."""
