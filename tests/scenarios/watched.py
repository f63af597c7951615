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
        self.arrived: list[tuple[str, threading.Event, threading.Event]] = []

    def stop_at(self, moment: str) -> tuple[threading.Event, threading.Event]:
        """The next time, the call waits there: the first event tells that it does, the second lets it go on."""
        reached, go_on = threading.Event(), threading.Event()
        self.arrived.append((moment, reached, go_on))
        return reached, go_on

    def admit(self, operation: str, params: Mapping[str, Any], caller: Caller) -> Admission:
        self._pass(f"{operation} arrives")
        return super().admit(operation, params, caller)

    def perform(self, admission: Admission) -> Reply:
        reply = super().perform(admission)
        self._pass(f"{admission.operation} has taken effect")
        return reply

    def _pass(self, moment: str) -> None:
        for each in self.arrived:
            if each[0] == moment:
                self.arrived.remove(each)
                each[1].set()
                each[2].wait(30)
                return
