"""The faults to inject into API calls: which one hits a call, and how it refuses. What it hides is in `model.py`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from watchdog.sandbox.errors import ConnectError
from watchdog.sandbox.records import Fault, FaultKind

_REFUSALS = {
    FaultKind.THROTTLE: ("ThrottlingException", "Rate exceeded"),
    FaultKind.ACCESS_DENIED: ("AccessDeniedException", "User is not authorized to perform this operation"),
    FaultKind.INTERNAL: ("InternalServiceException", "Request processing failed because of an internal error"),
    FaultKind.NOT_FOUND: ("ResourceNotFoundException", "The specified resource was not found"),
    FaultKind.INVALID: ("InvalidParameterException", "One or more of the specified parameters are not valid"),
}


def _users(params: Mapping[str, Any]) -> list[str]:
    named = [params[key] for key in ("UserId", "EntityId") if key in params]
    return named + list((params.get("Filters") or {}).get("Agents") or ())


class Faults:
    """The active faults, oldest first. Not thread-safe: the model's lock is."""

    def __init__(self) -> None:
        """Start without faults."""
        self._active: dict[str, Fault] = {}
        self._added = 0

    def add(self, fault: Fault) -> str:
        """Add a fault and give its id, never used before; one with no `times` left is not kept."""
        self._added += 1
        if fault.times is None or fault.times > 0:
            self._active[str(self._added)] = fault
        return str(self._added)

    def clear(self, fault_id: str | None = None) -> None:
        """Take away one, or all."""
        if fault_id is None:
            self._active.clear()
        else:
            self._active.pop(fault_id, None)

    def active(self) -> Mapping[str, Fault]:
        """Give a copy, by id."""
        return dict(self._active)

    def take(self, operation: str, params: Mapping[str, Any]) -> Fault | None:
        """Give the oldest fault that matches the call and count it; None if none does."""
        for fault_id, fault in self._active.items():
            if (
                fault.operation in (None, operation)
                and fault.instance_id in (None, params.get("InstanceId"))
                and (fault.user_id is None or fault.user_id in _users(params))
            ):
                if fault.times is not None:
                    if fault.times == 1:
                        del self._active[fault_id]
                    else:
                        self._active[fault_id] = replace(fault, times=fault.times - 1)
                return fault
        return None

    @staticmethod
    def refusal(fault: Fault) -> ConnectError | None:
        """Give the error that the fault answers with; None if it does something else."""
        return ConnectError(*_REFUSALS[fault.kind]) if fault.kind in _REFUSALS else None
