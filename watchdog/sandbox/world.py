"""The stand-in's instances and what is in each: who exists, and how to find it.

No quotas, faults, log or lock (those are in `model.py`), and no shapes of answers (those are in `operations.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import NAMESPACE_URL, uuid5

from watchdog.sandbox.errors import ConnectError, invalid_parameter, not_found
from watchdog.sandbox.records import AgentStatus, Behaviour, Contact, ProfileQueue, RoutingProfile, StatusType, User
from watchdog.sandbox.rules import same_statuses

DEFAULT_ACCOUNT = "123456789012"
"""The account of whoever calls with credentials of no known role. Source: moto's DEFAULT_ACCOUNT_ID."""

DEFAULT_REGION = "us-east-1"

INSTANCE_ID_LENGTH = 100
"""Source: shape InstanceId."""

DEFAULT_QUEUE = "BasicQueue"
DEFAULT_PROFILE = "Basic Routing Profile"
"""What a new Connect instance comes with."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and where: an account sees its own instances in the Region that it asks."""

    account: str = DEFAULT_ACCOUNT
    region: str = DEFAULT_REGION


def stable_id(*parts: str) -> str:
    """Derive a UUID from the parts: the same parts give the same id in every run."""
    return str(uuid5(NAMESPACE_URL, "/".join(parts)))


@dataclass(slots=True)
class Instance:
    """A Connect instance; the dictionaries are keyed by id, in order of creation.

    `retired` holds the deleted statuses, which users may still be in.
    """

    id: str
    alias: str
    account: str
    region: str
    created_at: float
    identity_management_type: str = "CONNECT_MANAGED"
    inbound_calls_enabled: bool = True
    outbound_calls_enabled: bool = True
    statuses: dict[str, AgentStatus] = field(default_factory=dict)
    profiles: dict[str, RoutingProfile] = field(default_factory=dict)
    queues: dict[str, str] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    usernames: set[str] = field(default_factory=set)
    retired: dict[str, AgentStatus] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """The instance's ARN, which those of its parts begin with."""
        return f"arn:aws:connect:{self.region}:{self.account}:instance/{self.id}"

    def status(self, status_id: str) -> AgentStatus:
        """Find a status by its id, or raise ResourceNotFoundException."""
        if status_id not in self.statuses:
            raise not_found("Agent status", status_id)
        return self.statuses[status_id]

    def status_called(self, name_or_id: str) -> AgentStatus:
        """Find a status by its id or else its name, or raise ResourceNotFoundException."""
        named = (status for status in self.statuses.values() if status.name == name_or_id)
        return self.statuses.get(name_or_id) or next(named, None) or self.status(name_or_id)

    def known_status(self, status_id: str) -> AgentStatus:
        """Give a status that a user is in or waits for, even if it has been deleted since."""
        return self.statuses.get(status_id) or self.retired[status_id]

    def status_of(self, user: User) -> AgentStatus:
        """Give the status that the user is in now."""
        return self.known_status(user.status_id)

    def offline_status(self) -> AgentStatus:
        """Find the status of type OFFLINE; every instance has one."""
        return next(status for status in self.statuses.values() if status.type is StatusType.OFFLINE)

    def profile(self, profile_id: str) -> RoutingProfile:
        """Find a routing profile by its id, or raise ResourceNotFoundException."""
        if profile_id not in self.profiles:
            raise not_found("Routing profile", profile_id)
        return self.profiles[profile_id]

    def profile_called(self, name_or_id: str) -> RoutingProfile:
        """Find a routing profile by its id or else its name, or raise ResourceNotFoundException."""
        named = (profile for profile in self.profiles.values() if profile.name == name_or_id)
        return self.profiles.get(name_or_id) or next(named, None) or self.profile(name_or_id)

    def queue_name(self, queue_id: str) -> str:
        """Give the name of the queue, or raise ResourceNotFoundException."""
        if queue_id not in self.queues:
            raise not_found("Queue", queue_id)
        return self.queues[queue_id]

    def user(self, user_id: str) -> User:
        """Find a user by the id, or raise ResourceNotFoundException."""
        if user_id not in self.users:
            raise not_found("User", user_id)
        return self.users[user_id]

    def contact(self, user_id: str, contact_id: str) -> Contact:
        """Find a contact that holds one of the user's slots, or raise ResourceNotFoundException."""
        for contact in self.user(user_id).contacts:
            if contact.id == contact_id:
                return contact
        raise not_found("Contact", contact_id)

    def add_status(self, status_id: str, name: str, kind: StatusType, now: float) -> AgentStatus:
        """Add an enabled status; a name in use raises DuplicateResourceException."""
        if any(status.name == name for status in self.statuses.values()):
            raise ConnectError("DuplicateResourceException", f"Agent status already exists: {name}")
        status = AgentStatus(
            id=status_id, arn=f"{self.arn}/agent-state/{status_id}", name=name, type=kind, modified_at=now
        )
        self.statuses[status_id] = status
        return status

    def add_profile(self, profile: RoutingProfile) -> None:
        """Add a routing profile; a name in use raises DuplicateResourceException."""
        if any(known.name == profile.name for known in self.profiles.values()):
            raise ConnectError("DuplicateResourceException", f"Routing profile already exists: {profile.name}")
        self.profiles[profile.id] = profile

    def add_user(self, user_id: str, username: str, profile_id: str, status_id: str, now: float) -> User:
        """Add a user in a status since now; an id or name in use raises DuplicateResourceException."""
        if user_id in self.users or username in self.usernames:
            raise ConnectError("DuplicateResourceException", f"User already exists: {username}")
        user = User(
            id=user_id,
            arn=f"{self.arn}/agent/{user_id}",
            username=username,
            routing_profile_id=self.profile(profile_id).id,
            status_id=self.status(status_id).id,
            status_since=now,
            modified_at=now,
            phone={"PhoneType": "SOFT_PHONE", "AutoAccept": False, "AfterContactWorkTimeLimit": 0},
            security_profile_ids=(stable_id(self.id, "security-profile", "Agent"),),
        )
        self.users[user_id] = user
        self.usernames.add(username)
        return user

    def delete_user(self, user_id: str) -> None:
        """Delete a user with all contacts, or raise ResourceNotFoundException."""
        self.usernames.discard(self.user(user_id).username)
        del self.users[user_id]

    def delete_status(self, name_or_id: str) -> None:
        """Delete a status; users who are in it, or wait for it, stay so."""
        status = self.status_called(name_or_id)
        self.retired[status.id] = self.statuses.pop(status.id)


@dataclass(slots=True)
class World:
    """All instances of all accounts, the clock, and how the unconfirmed parts behave.

    `status_changes` counts the changes of any user's current or next status.
    """

    now: Callable[[], float]
    new_id: Callable[[], str]
    behaviour: Behaviour = field(default_factory=Behaviour)
    instances: dict[str, Instance] = field(default_factory=dict)
    status_changes: int = 0

    def instance(self, instance_id: str, caller: Caller | None = None) -> Instance:
        """Find an instance; another account's or Region's is ResourceNotFoundException to the caller."""
        instance = self.instances.get(instance_id)
        if instance is None or (caller and (instance.account, instance.region) != (caller.account, caller.region)):
            raise not_found("Instance", instance_id)
        return instance

    def add_instance(self, instance_id: str, alias: str, caller: Caller) -> Instance:
        """Add an instance with what AWS puts into each: two statuses, a queue and a routing profile."""
        if not 1 <= len(instance_id) <= INSTANCE_ID_LENGTH or "/" in instance_id:
            raise invalid_parameter(
                f"InstanceId must have 1 to {INSTANCE_ID_LENGTH} characters and no slash: {instance_id!r}"
            )
        if instance_id in self.instances:
            raise ConnectError("DuplicateResourceException", f"Instance already exists: {instance_id}")
        now = self.now()
        instance = Instance(instance_id, alias, caller.account, caller.region, now)
        instance.add_status(stable_id(instance_id, "status", "Available"), "Available", StatusType.ROUTABLE, now)
        instance.add_status(stable_id(instance_id, "status", "Offline"), "Offline", StatusType.OFFLINE, now)
        self.instances[instance_id] = instance
        queue_id = stable_id(instance_id, "queue", DEFAULT_QUEUE)
        instance.queues[queue_id] = DEFAULT_QUEUE
        self.add_profile(instance, stable_id(instance_id, "profile", DEFAULT_PROFILE), DEFAULT_PROFILE)
        return instance

    def add_profile(self, instance: Instance, profile_id: str, name: str) -> RoutingProfile:
        """Add a routing profile for one call or two chats at a time from the instance's first queue."""
        queue_id = next(iter(instance.queues))
        profile = RoutingProfile(
            id=profile_id,
            arn=f"{instance.arn}/routing-profile/{profile_id}",
            name=name,
            description=name,
            default_outbound_queue_id=queue_id,
            queues=(ProfileQueue(queue_id, "VOICE"), ProfileQueue(queue_id, "CHAT")),
            concurrency={"VOICE": 1, "CHAT": 2},
            modified_at=self.now(),
        )
        instance.add_profile(profile)
        return profile

    def save(self, instance: Instance, user: User) -> None:
        """Put the user's new value in the place of the old one, and count it if a status is another one."""
        if not same_statuses(instance.user(user.id), user):
            self.status_changes += 1
        instance.users[user.id] = user
