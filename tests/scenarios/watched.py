"""A stand-in of Connect that stops at a named moment of a call, so that a story can do something just then."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from watchdog.sandbox.model import ConnectModel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from watchdog.sandbox.api import Admission, Reply
    from watchdog.sandbox.world import Caller


class Watched(ConnectModel):
    """The stand-in, that tells when a call arrives and when it has taken effect, before anything else happens."""

    def __init__(self) -> None:
        super().__init__(time.time)
        self.arrived: list[tuple[str, str | None, threading.Event, threading.Event]] = []

    def stop_at(self, moment: str, user_id: str | None = None) -> tuple[threading.Event, threading.Event]:
        """The next time, a call waits there: the first event tells that it does, the second lets it go on.

        Args:
            moment: Of which call, and when.
            user_id: Only a call about this user.
        """
        reached, go_on = threading.Event(), threading.Event()
        self.arrived.append((moment, user_id, reached, go_on))
        return reached, go_on

    def admit(self, operation: str, params: Mapping[str, Any], caller: Caller) -> Admission:
        self._pass(f"{operation} arrives", params)
        return super().admit(operation, params, caller)

    def perform(self, admission: Admission) -> Reply:
        reply = super().perform(admission)
        self._pass(f"{admission.operation} has taken effect", admission.params)
        return reply

    def _pass(self, moment: str, params: Mapping[str, Any]) -> None:
        about = {params.get("UserId"), params.get("EntityId"), *(params.get("Filters") or {}).get("Agents", ())}
        for each in self.arrived:
            awaited, user_id, reached, go_on = each
            if awaited == moment and (user_id is None or user_id in about):
                self.arrived.remove(each)
                reached.set()
                go_on.wait(30)
                return
