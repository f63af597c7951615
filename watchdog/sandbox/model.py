"""A model of Amazon Connect in memory: the API, and what people and operators do besides it.

No HTTP, no moto, no clock of its own and no waiting. The API is in `api.py`; what a status change does is in
`rules.py`; what each operation answers is in `operations.py` and `userdata.py`.
"""

import uuid
from collections.abc import Callable
from dataclasses import replace

from watchdog.sandbox.api import ConnectApi
from watchdog.sandbox.errors import invalid_request
from watchdog.sandbox.records import (
    AgentStatus,
    Behaviour,
    Contact,
    ContactState,
    RoutingProfile,
    StatusType,
    User,
)
from watchdog.sandbox.rules import choose_status, clear_slot, hold_slot, move_contact
from watchdog.sandbox.world import DEFAULT_ACCOUNT, DEFAULT_REGION, Caller, Instance, World


class ConnectModel(ConnectApi):
    """Amazon Connect in memory. Every method is atomic.

    The methods here are the person's and the operator's deeds: no quota, no fault, not logged. They raise
    `ConnectError` for what does not exist.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        behaviour: Behaviour | None = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """Start without any instance.

        Args:
            now: epoch seconds; the only clock.
            behaviour: the unconfirmed parts; the defaults are the likelier ones.
            new_id: ids of what is created; inject it for runs that must repeat.
        """
        super().__init__(World(now, new_id, behaviour or Behaviour()))

    # What exists

    def instances(self) -> tuple[Instance, ...]:
        """Give all instances of all accounts; do not change them."""
        with self._lock:
            return tuple(self._world.instances.values())

    def instance(self, instance_id: str) -> Instance:
        """Give an instance of any account; do not change it."""
        with self._lock:
            return self._world.instance(instance_id)

    def user(self, instance_id: str, user_id: str) -> User:
        """Give a user as of now."""
        with self._lock:
            return self._world.instance(instance_id).user(user_id)

    def status_name(self, instance_id: str, user_id: str) -> str:
        """Give the name of the user's current status."""
        with self._lock:
            instance = self._world.instance(instance_id)
            return instance.status_of(instance.user(user_id)).name

    def next_status_name(self, instance_id: str, user_id: str) -> str | None:
        """Give the name of the user's next status, None if there is none."""
        with self._lock:
            instance = self._world.instance(instance_id)
            next_id = instance.user(user_id).next_status_id
            return None if next_id is None else instance.known_status(next_id).name

    def add_instance(
        self,
        instance_id: str | None = None,
        *,
        alias: str | None = None,
        account: str = DEFAULT_ACCOUNT,
        region: str = DEFAULT_REGION,
    ) -> Instance:
        """Add an instance with the statuses, the queue and the routing profile that AWS puts into each."""
        with self._lock:
            chosen = instance_id or self._world.new_id()
            return self._world.add_instance(chosen, alias or chosen, Caller(account, region))

    def add_status(
        self, instance_id: str, name: str, kind: StatusType = StatusType.CUSTOM, status_id: str | None = None
    ) -> AgentStatus:
        """Add an enabled status of any type."""
        with self._lock:
            instance = self._world.instance(instance_id)
            return instance.add_status(status_id or self._world.new_id(), name, kind, self._world.now())

    def add_routing_profile(self, instance_id: str, name: str, profile_id: str | None = None) -> RoutingProfile:
        """Add a routing profile for one call or two chats at a time from the instance's first queue."""
        with self._lock:
            instance = self._world.instance(instance_id)
            return self._world.add_profile(instance, profile_id or self._world.new_id(), name)

    def add_user(
        self,
        instance_id: str,
        username: str,
        *,
        user_id: str | None = None,
        status: str | None = None,
        routing_profile: str | None = None,
    ) -> User:
        """Add a user; status and profile by name or id, else Offline and the instance's first profile."""
        with self._lock:
            instance = self._world.instance(instance_id)
            in_status = instance.status_called(status) if status else instance.offline_status()
            profiles = instance.profiles
            profile = instance.profile_called(routing_profile) if routing_profile else next(iter(profiles.values()))
            return instance.add_user(
                user_id or self._world.new_id(), username, profile.id, in_status.id, self._world.now()
            )

    def delete_user(self, instance_id: str, user_id: str) -> None:
        """Delete a user with all contacts."""
        with self._lock:
            self._world.instance(instance_id).delete_user(user_id)

    def delete_status(self, instance_id: str, status: str) -> None:
        """Delete a status by name or id; users who are in it, or wait for it, stay so."""
        with self._lock:
            self._world.instance(instance_id).delete_status(status)

    # What the person does in the CCP, and what happens there

    def agent_sets_status(self, instance_id: str, user_id: str, status: str) -> User:
        """The person chooses a status by name or id: at once or as the next one, as PutUserStatus does."""
        with self._lock:
            world = self._world
            instance = world.instance(instance_id)
            user = instance.user(user_id)
            chosen = instance.status_called(status)
            world.save(instance, choose_status(user, chosen.id, world.now(), world.behaviour))
            return instance.user(user_id)

    def set_routing_profile(self, instance_id: str, user_id: str, routing_profile: str) -> User:
        """An administrator gives the user another routing profile, by name or id."""
        with self._lock:
            instance = self._world.instance(instance_id)
            profile = instance.profile_called(routing_profile)
            changed = replace(instance.user(user_id), routing_profile_id=profile.id, modified_at=self._world.now())
            self._world.save(instance, changed)
            return changed

    def add_contact(
        self,
        instance_id: str,
        user_id: str,
        state: ContactState = ContactState.INCOMING,
        *,
        channel: str = "VOICE",
        initiation_method: str = "INBOUND",
        contact_id: str | None = None,
    ) -> Contact:
        """A contact reaches the agent and holds a slot, whatever the agent's status and free slots."""
        with self._lock:
            instance = self._world.instance(instance_id)
            user = instance.user(user_id)
            if any(contact.id == contact_id for contact in user.contacts):
                raise invalid_request(f"Contact already exists: {contact_id}")
            now = self._world.now()
            contact = Contact(
                id=contact_id or self._world.new_id(),
                channel=channel,
                state=state,
                state_since=now,
                queue_id=next(iter(instance.queues)),
                initiation_method=initiation_method,
                connected_at=now if state is ContactState.CONNECTED else None,
            )
            self._world.save(instance, hold_slot(user, contact))
            return contact

    def set_contact_state(self, instance_id: str, user_id: str, contact_id: str, state: ContactState) -> Contact:
        """A contact goes on: answered, missed, ended (which leaves the after-contact work), and so on."""
        with self._lock:
            instance = self._world.instance(instance_id)
            instance.contact(user_id, contact_id)
            self._world.save(instance, move_contact(instance.user(user_id), contact_id, state, self._world.now()))
            return instance.contact(user_id, contact_id)

    def end_contact(self, instance_id: str, user_id: str, contact_id: str) -> User:
        """A contact is over and cleared, from any state; the next status is applied if it held the last slot."""
        with self._lock:
            instance = self._world.instance(instance_id)
            instance.contact(user_id, contact_id)
            self._world.save(instance, clear_slot(instance.user(user_id), contact_id, self._world.now()))
            return instance.user(user_id)
