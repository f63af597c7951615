"""The API of the stand-in as a service: what happens to a call between its arrival and its answer.

Quota, fault, effect and log, in this order. No HTTP, no clock of its own and no waiting: an API call has two steps, so
that whoever drives it can wait in real or in virtual time: `admit` when it arrives, `perform` when it takes effect.
What each operation does and answers is in `operations.py` and `userdata.py`.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from watchdog.sandbox import operations, userdata
from watchdog.sandbox.answers import Answer, Operation
from watchdog.sandbox.errors import ConnectError
from watchdog.sandbox.faults import Faults
from watchdog.sandbox.quota import Quota, Quotas
from watchdog.sandbox.records import Behaviour, Call, Fault, FaultKind
from watchdog.sandbox.world import Caller, World

OPERATIONS: Mapping[str, Operation] = {
    "CreateInstance": operations.create_instance,
    "DescribeInstance": operations.describe_instance,
    "ListInstances": operations.list_instances,
    "DeleteInstance": operations.delete_instance,
    "ListAgentStatuses": operations.list_agent_statuses,
    "DescribeAgentStatus": operations.describe_agent_status,
    "CreateAgentStatus": operations.create_agent_status,
    "ListRoutingProfiles": operations.list_routing_profiles,
    "DescribeRoutingProfile": operations.describe_routing_profile,
    "CreateRoutingProfile": operations.create_routing_profile,
    "ListRoutingProfileQueues": operations.list_routing_profile_queues,
    "ListUsers": operations.list_users,
    "DescribeUser": operations.describe_user,
    "CreateUser": operations.create_user,
    "PutUserStatus": operations.put_user_status,
    "GetCurrentUserData": userdata.get_current_user_data,
    "DismissUserContact": operations.dismiss_user_contact,
    "DeleteAllEntitySessions": operations.delete_all_entity_sessions,
}
"""Every API operation of the stand-in, by its name in the service model."""

READS = frozenset(name for name in OPERATIONS if name.startswith(("List", "Describe", "Get")))

LOG_LIMIT = 200_000
"""Calls that the log keeps at least; older ones are forgotten, so that a stand-in may run for days."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that has arrived: wait `wait_s`, then give it to `perform`."""

    operation: str
    params: Mapping[str, Any]
    caller: Caller
    received_at: float
    refusal: ConnectError | None = None
    fault: Fault | None = None

    @property
    def wait_s(self) -> float:
        """Seconds before the call takes effect."""
        return self.fault.delay_s if self.fault and self.fault.kind is FaultKind.DELAY else 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a call: an answer; an error; or, when `lost`, nothing that the caller hears.

    A lost one keeps the caller waiting for `hang_s`, then the connection is dropped.
    """

    answer: Answer | None = None
    error: ConnectError | None = None
    lost: bool = False
    hang_s: float = 0.0


class ConnectApi:
    """The API over a world. Every method is atomic: one lock, never held while anything waits."""

    def __init__(self, world: World) -> None:
        """Serve this world, with AWS's default quotas, without faults."""
        self._lock = threading.RLock()
        self._world = world
        self._quotas = Quotas()
        self._faults = Faults()
        self._log: list[Call] = []
        self._seq = 0

    @property
    def now(self) -> float:
        """Epoch seconds on the model's clock."""
        return self._world.now()

    def admit(self, operation: str, params: Mapping[str, Any], caller: Caller) -> Admission:
        """Receive a call: takes a token of the quota, then the first fault that matches.

        Raises:
            KeyError: the stand-in does not have the operation.
        """
        OPERATIONS[operation]
        with self._lock:
            now = self._world.now()
            if not self._quotas.take(caller.account, caller.region, operation, now):
                throttled = ConnectError("ThrottlingException", "Rate exceeded")
                return Admission(operation, params, caller, now, refusal=throttled)
            return Admission(operation, params, caller, now, fault=self._faults.take(operation, params))

    def perform(self, admission: Admission) -> Reply:
        """Let an admitted call take effect and write it down; never raises what an API call can be refused with."""
        with self._lock:
            kind = admission.fault.kind if admission.fault else None
            before = self._world.status_changes
            reply = self._run(admission)
            outcome = "ok" if reply.error is None else reply.error.code
            if kind in (FaultKind.TIMEOUT, FaultKind.LOST_ANSWER, FaultKind.NO_EFFECT) and reply.error is None:
                outcome = str(kind)
            self._write_down(admission, outcome, effective=self._world.status_changes != before)
            return reply

    def _run(self, admission: Admission) -> Reply:
        fault = admission.fault
        refusal = admission.refusal or (self._faults.refusal(fault) if fault else None)
        if refusal:
            return Reply(error=refusal)
        if fault and fault.kind is FaultKind.TIMEOUT:
            return Reply(lost=True, hang_s=fault.delay_s)
        if fault and fault.kind is FaultKind.NO_EFFECT and admission.operation not in READS:
            return Reply(answer={})
        try:
            answer = OPERATIONS[admission.operation](self._world, admission.caller, admission.params)
        except ConnectError as error:
            return Reply(error=error)
        if fault and fault.kind is FaultKind.LOST_ANSWER:
            return Reply(lost=True, hang_s=fault.delay_s)
        return Reply(answer=answer)

    def _write_down(self, admission: Admission, outcome: str, *, effective: bool) -> None:
        self._seq += 1
        params = admission.params
        self._log.append(
            Call(
                seq=self._seq,
                at=self._world.now(),
                received_at=admission.received_at,
                operation=admission.operation,
                account=admission.caller.account,
                region=admission.caller.region,
                instance_id=params.get("InstanceId"),
                user_id=params.get("UserId") or params.get("EntityId"),
                params=dict(params),
                outcome=outcome,
                effective=effective,
            )
        )
        if len(self._log) > 2 * LOG_LIMIT:
            del self._log[:LOG_LIMIT]

    # What tests and operators do to the service

    def calls(self, since: int = 0, operation: str | None = None, user_id: str | None = None) -> tuple[Call, ...]:
        """Give the calls with a sequence number above `since`, optionally of one operation or user, oldest first."""
        with self._lock:
            first = self._log[0].seq if self._log else 1
            recent = self._log[max(0, since + 1 - first) :]
        return tuple(call for call in recent if operation in (None, call.operation) and user_id in (None, call.user_id))

    @property
    def last_seq(self) -> int:
        """The sequence number of the latest call, 0 before the first."""
        return self._seq

    def set_quota(self, rate: float | None, burst: float, operation: str | None = None) -> None:
        """Set calls per second (None: no limit) and burst of one API or of all; the buckets are full again."""
        with self._lock:
            self._quotas.set(Quota(rate, burst), operation)

    def scale_quotas(self, factor: float) -> None:
        """Multiply every quota's rate and burst; counted from the unscaled ones."""
        with self._lock:
            self._quotas.scale(factor)

    def quota(self, operation: str) -> Quota:
        """Give the quota of the API as it is now."""
        with self._lock:
            return self._quotas.of(operation)

    def add_fault(self, fault: Fault) -> str:
        """Inject a fault; gives its id. Of several that match a call, the oldest acts."""
        with self._lock:
            return self._faults.add(fault)

    def clear_faults(self, fault_id: str | None = None) -> None:
        """Take away one fault, or all; one that is gone already is no error."""
        with self._lock:
            self._faults.clear(fault_id)

    def faults(self) -> Mapping[str, Fault]:
        """Give the faults still active by id, with the `times` that are left."""
        with self._lock:
            return self._faults.active()

    @property
    def behaviour(self) -> Behaviour:
        """How the unconfirmed parts behave."""
        return self._world.behaviour

    def change_behaviour(self, **changes: bool) -> None:
        """Change some of the unconfirmed parts, by their names in `Behaviour`."""
        with self._lock:
            self._world.behaviour = replace(self._world.behaviour, **changes)
