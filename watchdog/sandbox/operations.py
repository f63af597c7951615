"""Amazon Connect's API operations on the world: parameters as boto3 takes them in, answers as boto3 gives them out.

This is the only place (with `userdata.py`) where answers are put together: the HTTP backend and the direct facade both
serve these dictionaries. Times are aware datetimes in UTC, to the millisecond. Shapes and bounds are those of
botocore's service model "connect", and so is the Source of every operation. Quotas, faults and the log are in
`model.py`.
"""

from dataclasses import replace

from watchdog.sandbox.answers import Answer, Params, changed, page, timestamp
from watchdog.sandbox.errors import invalid_parameter, invalid_request
from watchdog.sandbox.records import AgentStatus, ProfileQueue, RoutingProfile, StatusType
from watchdog.sandbox.rules import DISMISSIBLE, choose_status, clear_slot
from watchdog.sandbox.world import Caller, Instance, World

# Instances


def _instance(instance: Instance) -> Answer:
    return {
        "Id": instance.id,
        "Arn": instance.arn,
        "IdentityManagementType": instance.identity_management_type,
        "InstanceAlias": instance.alias,
        "CreatedTime": timestamp(instance.created_at),
        "ServiceRole": f"arn:aws:iam::{instance.account}:role/aws-service-role/connect.amazonaws.com/"
        "AWSServiceRoleForAmazonConnect",
        "InstanceStatus": "ACTIVE",
        "InboundCallsEnabled": instance.inbound_calls_enabled,
        "OutboundCallsEnabled": instance.outbound_calls_enabled,
        "InstanceAccessUrl": f"https://{instance.alias}.my.connect.aws",
    }


def create_instance(world: World, caller: Caller, params: Params) -> Answer:
    """CreateInstance: the instance is ACTIVE at once, with AWS's default statuses, queue and routing profile."""
    instance_id = world.new_id()
    instance = world.add_instance(instance_id, params.get("InstanceAlias") or instance_id, caller)
    instance.identity_management_type = params["IdentityManagementType"]
    instance.inbound_calls_enabled = params["InboundCallsEnabled"]
    instance.outbound_calls_enabled = params["OutboundCallsEnabled"]
    return {"Id": instance.id, "Arn": instance.arn}


def describe_instance(world: World, caller: Caller, params: Params) -> Answer:
    """DescribeInstance."""
    return {"Instance": _instance(world.instance(params["InstanceId"], caller))}


def list_instances(world: World, caller: Caller, params: Params) -> Answer:
    """ListInstances: those of the caller's account in the Region, 10 on a page."""
    mine = [i for i in world.instances.values() if (i.account, i.region) == (caller.account, caller.region)]
    rows, more = page(mine, params, 10)
    return {"InstanceSummaryList": [_instance(instance) for instance in rows], **more}


def delete_instance(world: World, caller: Caller, params: Params) -> Answer:
    """DeleteInstance, at once."""
    del world.instances[world.instance(params["InstanceId"], caller).id]
    return {}


# Agent statuses


def list_agent_statuses(world: World, caller: Caller, params: Params) -> Answer:
    """ListAgentStatuses, of the types asked for."""
    instance = world.instance(params["InstanceId"], caller)
    types = params.get("AgentStatusTypes") or list(StatusType)
    if not set(types) <= set(StatusType):
        raise invalid_parameter(f"AgentStatusTypes must be among {', '.join(StatusType)}: {', '.join(types)}")
    rows, more = page([status for status in instance.statuses.values() if status.type in types], params, 1000)
    return {
        "AgentStatusSummaryList": [
            {
                "Id": status.id,
                "Arn": status.arn,
                "Name": status.name,
                "Type": str(status.type),
                **changed(instance, status.modified_at),
            }
            for status in rows
        ],
        **more,
    }


def describe_agent_status(world: World, caller: Caller, params: Params) -> Answer:
    """DescribeAgentStatus."""
    instance = world.instance(params["InstanceId"], caller)
    status = instance.status(params["AgentStatusId"])
    answer: Answer = {
        "AgentStatusARN": status.arn,
        "AgentStatusId": status.id,
        "Name": status.name,
        "Type": str(status.type),
        "State": "ENABLED" if status.enabled else "DISABLED",
        **changed(instance, status.modified_at),
    }
    if status.description is not None:
        answer["Description"] = status.description
    if status.display_order is not None:
        answer["DisplayOrder"] = status.display_order
    return {"AgentStatus": answer}


def create_agent_status(world: World, caller: Caller, params: Params) -> Answer:
    """CreateAgentStatus: only statuses of type CUSTOM can be created."""
    instance = world.instance(params["InstanceId"], caller)
    status: AgentStatus = instance.add_status(world.new_id(), params["Name"], StatusType.CUSTOM, world.now())
    instance.statuses[status.id] = replace(
        status,
        description=params.get("Description"),
        display_order=params.get("DisplayOrder"),
        enabled=params["State"] == "ENABLED",
    )
    return {"AgentStatusARN": status.arn, "AgentStatusId": status.id}


# Routing profiles


def list_routing_profiles(world: World, caller: Caller, params: Params) -> Answer:
    """ListRoutingProfiles."""
    instance = world.instance(params["InstanceId"], caller)
    rows, more = page(list(instance.profiles.values()), params, 1000)
    summaries = [{"Id": p.id, "Arn": p.arn, "Name": p.name, **changed(instance, p.modified_at)} for p in rows]
    return {"RoutingProfileSummaryList": summaries, **more}


def describe_routing_profile(world: World, caller: Caller, params: Params) -> Answer:
    """DescribeRoutingProfile."""
    instance = world.instance(params["InstanceId"], caller)
    profile = instance.profile(params["RoutingProfileId"])
    users = sum(1 for user in instance.users.values() if user.routing_profile_id == profile.id)
    return {
        "RoutingProfile": {
            "InstanceId": instance.id,
            "Name": profile.name,
            "RoutingProfileArn": profile.arn,
            "RoutingProfileId": profile.id,
            "Description": profile.description,
            "MediaConcurrencies": [{"Channel": c, "Concurrency": n} for c, n in profile.concurrency.items()],
            "DefaultOutboundQueueId": profile.default_outbound_queue_id,
            "NumberOfAssociatedQueues": len({queue.queue_id for queue in profile.queues}),
            "NumberOfAssociatedUsers": users,
            "IsDefault": profile.id == next(iter(instance.profiles)),
            "AssociatedQueueIds": list(dict.fromkeys(queue.queue_id for queue in profile.queues)),
            **changed(instance, profile.modified_at),
        }
    }


def create_routing_profile(world: World, caller: Caller, params: Params) -> Answer:
    """CreateRoutingProfile, for queues of the instance."""
    instance = world.instance(params["InstanceId"], caller)
    queues = tuple(
        ProfileQueue(q["QueueReference"]["QueueId"], q["QueueReference"]["Channel"], q["Priority"], q["Delay"])
        for q in params.get("QueueConfigs", ())
    )
    for queue_id in [params["DefaultOutboundQueueId"], *(queue.queue_id for queue in queues)]:
        instance.queue_name(queue_id)
    profile_id = world.new_id()
    profile = RoutingProfile(
        id=profile_id,
        arn=f"{instance.arn}/routing-profile/{profile_id}",
        name=params["Name"],
        description=params["Description"],
        default_outbound_queue_id=params["DefaultOutboundQueueId"],
        queues=queues,
        concurrency={m["Channel"]: m.get("Concurrency", 1) for m in params["MediaConcurrencies"]},
        modified_at=world.now(),
    )
    instance.add_profile(profile)
    return {"RoutingProfileArn": profile.arn, "RoutingProfileId": profile.id}


def list_routing_profile_queues(world: World, caller: Caller, params: Params) -> Answer:
    """ListRoutingProfileQueues: one row for each queue and channel, 100 on a page."""
    instance = world.instance(params["InstanceId"], caller)
    profile = instance.profile(params["RoutingProfileId"])
    rows, more = page(profile.queues, params, 100)
    summaries = [
        {
            "QueueId": queue.queue_id,
            "QueueArn": f"{instance.arn}/queue/{queue.queue_id}",
            "QueueName": instance.queue_name(queue.queue_id),
            "Priority": queue.priority,
            "Delay": queue.delay_s,
            "Channel": queue.channel,
        }
        for queue in rows
    ]
    return {"RoutingProfileQueueConfigSummaryList": summaries, **more, **changed(instance, profile.modified_at)}


# Users


def list_users(world: World, caller: Caller, params: Params) -> Answer:
    """ListUsers, whatever their status."""
    instance = world.instance(params["InstanceId"], caller)
    rows, more = page(list(instance.users.values()), params, 1000)
    summaries = [{"Id": u.id, "Arn": u.arn, "Username": u.username, **changed(instance, u.modified_at)} for u in rows]
    return {"UserSummaryList": summaries, **more}


def describe_user(world: World, caller: Caller, params: Params) -> Answer:
    """DescribeUser."""
    instance = world.instance(params["InstanceId"], caller)
    user = instance.user(params["UserId"])
    return {
        "User": {
            "Id": user.id,
            "Arn": user.arn,
            "Username": user.username,
            "IdentityInfo": dict(user.identity),
            "PhoneConfig": dict(user.phone),
            "SecurityProfileIds": list(user.security_profile_ids),
            "RoutingProfileId": user.routing_profile_id,
            **changed(instance, user.modified_at),
        }
    }


def create_user(world: World, caller: Caller, params: Params) -> Answer:
    """CreateUser: a new user is Offline."""
    instance = world.instance(params["InstanceId"], caller)
    profile = instance.profile(params["RoutingProfileId"])
    user = instance.add_user(world.new_id(), params["Username"], profile.id, instance.offline_status().id, world.now())
    instance.users[user.id] = replace(
        user,
        identity=params.get("IdentityInfo") or user.identity,
        phone=params.get("PhoneConfig") or user.phone,
        security_profile_ids=tuple(params["SecurityProfileIds"]),
    )
    return {"UserId": user.id, "UserArn": user.arn}


def put_user_status(world: World, caller: Caller, params: Params) -> Answer:
    """PutUserStatus: at once or as the next status, see `rules.choose_status`; a disabled status is refused."""
    instance = world.instance(params["InstanceId"], caller)
    user = instance.user(params["UserId"])
    status = instance.status(params["AgentStatusId"])
    if not status.enabled:
        raise invalid_request(f"Agent status is disabled: {status.id}")
    world.save(instance, choose_status(user, status.id, world.now(), world.behaviour))
    return {}


def dismiss_user_contact(world: World, caller: Caller, params: Params) -> Answer:
    """DismissUserContact: clears the slot; the next status is applied if it was the last one."""
    instance = world.instance(params["InstanceId"], caller)
    contact = instance.contact(params["UserId"], params["ContactId"])
    if contact.state not in DISMISSIBLE:
        raise invalid_request(f"Contact is in state {contact.state}, which cannot be dismissed: {contact.id}")
    world.save(instance, clear_slot(instance.user(params["UserId"]), contact.id, world.now()))
    return {}


def delete_all_entity_sessions(world: World, caller: Caller, params: Params) -> Answer:
    """DeleteAllEntitySessions: signs the user out everywhere; the status stays (see `Behaviour`)."""
    instance = world.instance(params["InstanceId"], caller)
    if params["EntityType"] != "USER":
        raise invalid_parameter(f"EntityType must be USER: {params['EntityType']}")
    user = instance.user(params["EntityId"])
    user = replace(user, sessions_ended=user.sessions_ended + 1)
    if world.behaviour.sign_out_sets_offline:
        user = choose_status(user, instance.offline_status().id, world.now(), world.behaviour)
    world.save(instance, user)
    return {}
