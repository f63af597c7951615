"""GetCurrentUserData: who is in which status, with which contacts, for up to 100 agents in one call.

Its filters and rows are more than the other operations have, so that they have a module of their own.
"""

from watchdog.sandbox.answers import Answer, Params, page, timestamp
from watchdog.sandbox.errors import invalid_parameter
from watchdog.sandbox.records import Contact, ContactState, StatusType, User
from watchdog.sandbox.world import Caller, Instance, World

FILTER_LIMITS = {"Queues": 100, "RoutingProfiles": 100, "Agents": 100, "UserHierarchyGroups": 1}
"""The filters of which a call may have one, and how many values each takes. Source: shape UserDataFilters."""


def _chosen(world: World, instance: Instance, filters: Params) -> list[User]:
    """Pick the users that the one filter names; bounds as in `FILTER_LIMITS`."""
    kinds = [kind for kind in FILTER_LIMITS if filters.get(kind)]
    if len(kinds) > 1:
        raise invalid_parameter(f"Filters may hold only one of {', '.join(FILTER_LIMITS)}: {', '.join(kinds)}")
    if not kinds:
        if not filters.get("ContactFilter"):
            raise invalid_parameter(f"Filters must hold one of {', '.join(FILTER_LIMITS)}")
        return list(instance.users.values())
    (kind,) = kinds
    wanted = list(dict.fromkeys(filters[kind]))
    if len(filters[kind]) > FILTER_LIMITS[kind]:
        raise invalid_parameter(f"{kind} takes at most {FILTER_LIMITS[kind]}: {len(filters[kind])}")
    if kind == "Agents":
        if world.behaviour.unknown_agents_fail:
            return [instance.user(user_id) for user_id in wanted]
        return [instance.users[user_id] for user_id in wanted if user_id in instance.users]
    if kind == "RoutingProfiles":
        profiles = {instance.profile(profile_id).id for profile_id in wanted}
    elif kind == "Queues":
        queues = {queue_id for queue_id in wanted if instance.queue_name(queue_id)}
        profiles = {p.id for p in instance.profiles.values() if any(q.queue_id in queues for q in p.queues)}
    else:
        profiles = set()
    return [user for user in instance.users.values() if user.routing_profile_id in profiles]


def _contact(instance: Instance, contact: Contact) -> Answer:
    row: Answer = {
        "ContactId": contact.id,
        "Channel": contact.channel,
        "InitiationMethod": contact.initiation_method,
        "AgentContactState": str(contact.state),
        "StateStartTimestamp": timestamp(contact.state_since),
        "Queue": {"Id": contact.queue_id, "Arn": f"{instance.arn}/queue/{contact.queue_id}"},
    }
    if contact.connected_at is not None:
        row["ConnectedToAgentTimestamp"] = timestamp(contact.connected_at)
    return row


def _row(instance: Instance, user: User) -> Answer:
    """Give what the service shows of a user; slots are available in a routable status without a next one only."""
    status = instance.status_of(user)
    profile = instance.profile(user.routing_profile_id)
    active = {channel: sum(1 for c in user.contacts if c.channel == channel) for channel in profile.concurrency}
    routable = status.type is StatusType.ROUTABLE and user.next_status_id is None
    row: Answer = {
        "User": {"Id": user.id, "Arn": user.arn},
        "RoutingProfile": {"Id": profile.id, "Arn": profile.arn},
        "Status": {
            "StatusStartTimestamp": timestamp(user.status_since),
            "StatusArn": status.arn,
            "StatusName": status.name,
        },
        "AvailableSlotsByChannel": {
            channel: max(0, slots - active[channel]) if routable else 0
            for channel, slots in profile.concurrency.items()
        },
        "MaxSlotsByChannel": dict(profile.concurrency),
        "ActiveSlotsByChannel": active,
        "Contacts": [_contact(instance, contact) for contact in user.contacts],
    }
    if user.next_status_id is not None:
        row["NextStatus"] = instance.known_status(user.next_status_id).name
    return row


def get_current_user_data(world: World, caller: Caller, params: Params) -> Answer:
    """GetCurrentUserData: users in a status of type OFFLINE are left out (see `Behaviour.lists_offline`)."""
    instance = world.instance(params["InstanceId"], caller)
    filters = params["Filters"]
    users = _chosen(world, instance, filters)
    if not world.behaviour.lists_offline:
        users = [user for user in users if instance.status_of(user).type is not StatusType.OFFLINE]
    states = (filters.get("ContactFilter") or {}).get("ContactStates") or ()
    if not set(states) <= set(ContactState):
        raise invalid_parameter(f"ContactStates must be among {', '.join(ContactState)}: {', '.join(states)}")
    if states:
        users = [user for user in users if any(contact.state in states for contact in user.contacts)]
    rows, more = page(users, params, 100)
    return {"UserDataList": [_row(instance, user) for user in rows], "ApproximateTotalCount": len(users), **more}
