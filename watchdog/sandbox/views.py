"""The model's state as JSON, for `/sandbox/…` and for whoever watches a demo."""

from typing import Any

from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import Call, Contact, Fault, User
from watchdog.sandbox.world import Instance

Json = dict[str, Any]


def _contact(contact: Contact) -> Json:
    return {
        "contact_id": contact.id,
        "channel": contact.channel,
        "state": str(contact.state),
        "state_since": contact.state_since,
        "connected_at": contact.connected_at,
    }


def user(instance: Instance, one: User) -> Json:
    """Show a user with the names of the statuses and the routing profile; times are epoch seconds."""
    status = instance.status_of(one)
    next_id = one.next_status_id
    return {
        "user_id": one.id,
        "arn": one.arn,
        "username": one.username,
        "routing_profile": instance.profile(one.routing_profile_id).name,
        "status": status.name,
        "status_type": str(status.type),
        "status_since": one.status_since,
        "next_status": None if next_id is None else instance.known_status(next_id).name,
        "contacts": [_contact(contact) for contact in one.contacts],
        "sessions_ended": one.sessions_ended,
    }


def instance(one: Instance) -> Json:
    """Show an instance with all that is in it; statuses and profiles are ids by name."""
    return {
        "instance_id": one.id,
        "arn": one.arn,
        "account": one.account,
        "region": one.region,
        "statuses": {status.name: status.id for status in list(one.statuses.values())},
        "routing_profiles": {profile.name: profile.id for profile in list(one.profiles.values())},
        "users": [user(one, each) for each in list(one.users.values())],
    }


def fault(fault_id: str, one: Fault) -> Json:
    """Show a fault with the `times` that are left."""
    return {
        "fault_id": fault_id,
        "kind": str(one.kind),
        "operation": one.operation,
        "instance_id": one.instance_id,
        "user_id": one.user_id,
        "times": one.times,
        "delay_s": one.delay_s,
    }


def call(one: Call) -> Json:
    """Show a call of the log."""
    return {
        "seq": one.seq,
        "at": one.at,
        "received_at": one.received_at,
        "operation": one.operation,
        "account": one.account,
        "region": one.region,
        "instance_id": one.instance_id,
        "user_id": one.user_id,
        "params": dict(one.params),
        "outcome": one.outcome,
        "effective": one.effective,
    }


def state(model: ConnectModel) -> Json:
    """Show everything but the log."""
    return {
        "now": model.now,
        "instances": [instance(one) for one in model.instances()],
        "faults": [fault(fault_id, one) for fault_id, one in model.faults().items()],
        "last_seq": model.last_seq,
    }
