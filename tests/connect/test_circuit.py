"""Which circuits stand for how long, when nothing is called."""

from __future__ import annotations

from watchdog.connect.circuit import ANY_OPERATION, PROBE_EVERY_S, Circuits, Gate, Line
from watchdog.core.model import Boot, Epoch, Instant


class Stand:
    """Circuits, and the time that they are told."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.circuits = Circuits(lambda: Instant(Boot(self.at), Epoch(self.at), "boot"))

    def opened(self, operation: str, target: str = "", where: str = "main") -> None:
        self.circuits.open(Line(where, operation, target), operation, "why")

    def left(self, needed: dict[str, str | None]) -> set[str]:
        """The codes of those that stand after the time between two probes."""
        self.circuits.keep(needed)
        self.at += PROBE_EVERY_S
        self.circuits.keep(needed)
        return {problem.code for problem in self.circuits.problems()}


def test_a_circuit_stands_while_agents_of_its_instance_wait_for_its_target():
    stand = Stand()
    stand.opened("PutUserStatus", "offline")
    stand.opened("GetCurrentUserData")
    assert stand.left({"main": "offline"}) == {"PutUserStatus", "GetCurrentUserData"}


def test_a_circuit_that_nobody_waits_for_is_dropped():
    stand = Stand()
    stand.opened("PutUserStatus", "offline")
    stand.opened("GetCurrentUserData")
    assert stand.left({"other": "offline"}) == set()


def test_a_circuit_of_a_target_that_is_not_wanted_any_more_is_dropped():
    stand = Stand()
    stand.opened("PutUserStatus", "old")
    stand.opened("GetCurrentUserData")
    assert stand.left({"main": "new"}) == {"GetCurrentUserData"}


def test_circuits_that_listings_probe_stand_whoever_waits():
    stand = Stand()
    stand.opened("ListAgentStatuses")
    stand.opened(ANY_OPERATION, where="own/default")
    assert stand.left({}) == {"ListAgentStatuses", ANY_OPERATION}


def test_agents_are_claimed_although_their_contacts_cannot_be_dismissed():
    stand = Stand()
    stand.opened("DismissUserContact")
    assert stand.circuits.gate(["main"], "offline") is Gate.OPEN
    assert stand.circuits.refusal(Line("main", "DismissUserContact")) == "why"
    stand.opened("GetCurrentUserData")
    assert stand.circuits.gate(["main"], "offline") is Gate.SHUT


def test_a_circuit_of_dismissals_is_dropped_when_none_was_tried_for_a_minute():
    stand = Stand()
    stand.opened("DismissUserContact")
    stand.at += PROBE_EVERY_S - 1
    stand.opened("DismissUserContact")
    stand.at += 2
    stand.circuits.keep({"main": "offline"})
    assert [problem.code for problem in stand.circuits.problems()] == ["DismissUserContact"]
    assert stand.left({"main": "offline"}) == set()
