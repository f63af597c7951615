"""Ids of actions: by time, and no two actions have one, whichever daemon or part of the agents gave the numbers."""

from __future__ import annotations

from watchdog.connect.case import action_id
from watchdog.core.model import AgentId, Boot, Claim, Epoch, Instant


def claim(user_id):
    return Claim(AgentId("instance", user_id), epoch=1, token=16_777_217, owner="me", deadline=0.0, lag_s=0.0)


def test_claims_of_two_parts_with_one_number_have_two_ids_at_the_same_moment():
    now = Instant(Boot(1.0), Epoch(1_700_000_000.0), "boot")
    first, second = action_id(now, claim("anna")), action_id(now, claim("bert"))
    assert first != second
    assert first == action_id(now, claim("anna"))


def test_ids_sort_by_time():
    early, late = (Instant(Boot(1.0), Epoch(1_700_000_000.0 + s), "boot") for s in (0.0, 0.002))
    assert action_id(early, claim("zoe")) < action_id(late, claim("anna"))
