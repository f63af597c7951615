"""Setting up an instance in one step, with ids that are the same in every run: for tests, the demo and the CLI."""

from collections.abc import Sequence

from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.world import DEFAULT_ACCOUNT, DEFAULT_REGION, Instance, stable_id

DEFAULT_INSTANCE_ID = stable_id("connect-presence-watchdog", "sandbox")
"""The instance of a stand-in that is asked for none."""


def seed(
    model: ConnectModel,
    *,
    agents: int = 1,
    instance_id: str = DEFAULT_INSTANCE_ID,
    account: str = DEFAULT_ACCOUNT,
    region: str = DEFAULT_REGION,
    status: str = "Available",
    statuses: Sequence[str] = ("Lunch",),
    routing_profiles: Sequence[str] = (),
) -> Instance:
    """Make sure that the instance exists with these custom statuses, profiles and agents; what is there stays.

    Agents are called `agent-0001` and so on, start in `status`, and are spread over the routing profiles (the default
    one if none is named). Ids depend on the instance's id and the name alone.
    """
    known = [instance for instance in model.instances() if instance.id == instance_id]
    instance = known[0] if known else model.add_instance(instance_id, account=account, region=region)
    for name in statuses:
        if all(existing.name != name for existing in instance.statuses.values()):
            model.add_status(instance_id, name, status_id=stable_id(instance_id, "status", name))
    for name in routing_profiles:
        if all(existing.name != name for existing in instance.profiles.values()):
            model.add_routing_profile(instance_id, name, stable_id(instance_id, "profile", name))
    for number in range(1, agents + 1):
        username = f"agent-{number:04}"
        user_id = stable_id(instance_id, "user", username)
        if user_id not in instance.users:
            profile = routing_profiles[(number - 1) % len(routing_profiles)] if routing_profiles else None
            model.add_user(instance_id, username, user_id=user_id, status=status, routing_profile=profile)
    return instance
