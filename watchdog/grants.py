"""The IAM policy of each one who calls for the daemon: the process itself, and the roles that it assumes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchdog.connect.answers import Status
from watchdog.connect.api import Instance
from watchdog.connect.directory import resolve
from watchdog.connect.iam import Place, Uses, instance_arn, policy
from watchdog.connect.names import Kind, Named

OWN = "the process itself"
"""Whoever calls for instances without a role."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an instance.

    Attributes:
        statuses: Its statuses; None when they could not be listed.
        account: The account of the credentials that call it, where there are any.
        region: Its region; None when neither the settings nor AWS' own variables name one.
    """

    statuses: Sequence[Status] | None
    account: str | None
    region: str | None


@dataclass(frozen=True, slots=True)
class Grant:
    """What one principal must be allowed.

    Attributes:
        principal: A role's ARN, or `OWN`.
        roles: What it assumes.
        policy: Ready to be pasted; None where something is missing.
        missing: What has to be known for it, a line each; empty when nothing is.
        notes: In what the policy is wider than it could be.
    """

    principal: str
    roles: tuple[str, ...]
    policy: dict[str, Any] | None
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def assumes_only(self) -> bool:
        """Whether it calls Connect for no instance by itself."""
        return self.policy is not None and all(each["Action"] == "sts:AssumeRole" for each in self.policy["Statement"])


@dataclass(frozen=True, slots=True)
class Bus:
    """The event bus that the process itself puts events on.

    Attributes:
        name: Its name or ARN.
        account: Of a bus that is named: the account of the credentials, where there are any.
        region: Of a bus that is named: its region; None when nothing names one.
    """

    name: str
    account: str | None = None
    region: str | None = None

    @property
    def arn(self) -> str | None:
        """Its ARN, where that is known."""
        if self.name.startswith("arn:"):
            return self.name
        if self.account is None or self.region is None:
            return None
        return f"arn:{_partition(self.region)}:events:{self.region}:{self.account}:event-bus/{self.name}"


def grants(
    instances: Sequence[Instance],
    known: Mapping[str, Known],
    named: Sequence[Named],
    uses: Uses,
    bus: Bus | None = None,
) -> list[Grant]:
    """The policies, that of the process itself first if it needs one.

    Args:
        instances: All of the settings.
        known: By instance id.
        named: The names in the settings.
        uses: What is done.
        bus: Of the settings, if there is one.
    """
    roles = list(dict.fromkeys(each.role_arn for each in instances if each.role_arn is not None))
    wanted = tuple(dict.fromkeys(each.name for each in named if each.kind in (Kind.TARGET, Kind.INITIAL)))
    found: list[Grant] = []
    for role in (None, *roles):
        places: list[Place] = []
        missing: list[str] = []
        notes: list[str] = []
        for instance in instances:
            if instance.role_arn != role:
                continue
            what = known[instance.instance_id]
            arn = _arn(instance, what)
            if arn is None:
                missing.append(_unknown(instance, what))
                continue
            if what.statuses is not None and any(isinstance(resolve(what.statuses, name), str) for name in wanted):
                missing.append(f"Not every status that is to be set exists in instance {instance.instance_id}.")
            status_ids = _status_ids(what.statuses, wanted, uses)
            if status_ids is None and not uses.restores and uses.writes:
                notes.append(
                    f"Every status of instance {instance.instance_id} is allowed, since they could not be listed. Ask "
                    "again when connect:ListAgentStatuses is allowed, for those that are set alone."
                )
            places.append(Place(arn, status_ids))
        assumed, its_bus = (roles, bus) if role is None else ([], None)
        if its_bus is not None and its_bus.arn is None:
            missing.append(
                f"The ARN of the event bus {its_bus.name} is not known: set AWS_REGION and give AWS credentials, or "
                "name the bus by its ARN."
            )
        if not places and not missing and not assumed and its_bus is None:
            continue
        whole = None if missing else policy(places, uses, assumed, None if its_bus is None else its_bus.arn)
        found.append(Grant(role or OWN, tuple(assumed), whole, tuple(missing), tuple(notes)))
    return found


def _arn(instance: Instance, known: Known) -> str | None:
    if known.statuses and (arn := instance_arn(known.statuses[0].arn)) is not None:
        return arn
    partition, account = "aws", known.account
    if instance.role_arn is not None:
        _, partition, _, _, account, _ = instance.role_arn.split(":", 5)
    elif known.region is not None:
        partition = _partition(known.region)
    if account is None or known.region is None:
        return None
    return f"arn:{partition}:connect:{known.region}:{account}:instance/{instance.instance_id}"


def _partition(region: str) -> str:
    """Source: AWS General Reference, "Partitions"."""
    return "aws-us-gov" if region.startswith("us-gov-") else "aws-cn" if region.startswith("cn-") else "aws"


def _unknown(instance: Instance, known: Known) -> str:
    lacking = []
    if known.region is None:
        lacking.append("its region (set AWS_REGION, or `region` in WATCHDOG_INSTANCES)")
    if known.account is None and instance.role_arn is None:
        lacking.append("its account (give AWS credentials, or `role_arn` in WATCHDOG_INSTANCES)")
    return f"The ARN of instance {instance.instance_id} is not known for want of {' and '.join(lacking)}."


def _status_ids(statuses: Sequence[Status] | None, wanted: Sequence[str | None], uses: Uses) -> tuple[str, ...] | None:
    """Ids of the statuses that may be set; None for all of them."""
    if uses.restores:
        return None
    if statuses is not None:
        found = (resolve(statuses, name) for name in wanted)
        return tuple(dict.fromkeys(status.id for status in found if isinstance(status, Status)))
    ids = tuple(name for name in wanted if name is not None and _UUID.fullmatch(name))
    return ids if len(ids) == len(wanted) else None
