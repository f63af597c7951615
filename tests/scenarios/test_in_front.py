"""What stands in front of the daemon breaks for a minute: forty agents cannot be heard, and nobody is set."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.scenarios.harness import until
from tests.scenarios.stories import Stage, story

if TYPE_CHECKING:
    from tests.scenarios.front import Mode

FAULT_S = 60.0

BRAKE = {"WATCHDOG_BRAKE_MIN_AGENTS": "5"}


def _silenced(stage: Stage, mode: Mode) -> None:
    """Nothing of what the agents send arrives for a minute."""
    stage.start(**BRAKE)
    with stage.front() as front, stage.crowd(port=front.port) as crowd:
        stage.all_live()
        front.mode = mode
        until(lambda: stage.status()["brake"]["held"] == 40, "all are held")
        until(lambda: stage.status()["brake"]["holds"][0]["age_s"] > FAULT_S, "a minute is over", 90)
        (hold,) = stage.status()["brake"]["holds"]
        assert (hold["group"], hold["reason"]) == ("all", "mass_silence")
        stage.nothing_was_called()
        front.mode = "open"
        front.cut()
        mended = time.monotonic()
        until(lambda: crowd.heard(mended) == set(stage.users), "all are heard again")
        until(lambda: stage.status()["brake"]["state"] == "clear", "the hold is over")
        stage.all_live()
    stage.nothing_was_called()
    stage.nobody_was_touched()
    assert {action["outcome"] for action in stage.daemon.actions()} == {"held"}
    assert len(stage.daemon.events("brake.tripped")) == 1


@story(agents=40, seconds=85)
def test_a_black_hole_of_a_minute_in_front_of_forty_agents_calls_nobody(stage: Stage) -> None:
    _silenced(stage, "black-hole")


@story(agents=40, seconds=85)
def test_a_minute_of_nothing_but_5xx_calls_nobody(stage: Stage) -> None:
    _silenced(stage, "refuse")


@story(agents=40, seconds=85)
def test_a_minute_in_which_requests_are_lost_and_connections_stay_calls_nobody(stage: Stage) -> None:
    _silenced(stage, "deaf")


@story(agents=40, seconds=85)
def test_a_minute_in_which_only_answers_are_lost_is_no_silence(stage: Stage) -> None:
    # A beat each 1.3 s, and later where the machine is busy.
    stage.start(**BRAKE, WATCHDOG_SESSION_TTL="12", WATCHDOG_THROTTLED_SESSION_TTL="12")
    with stage.front() as front, stage.crowd(port=front.port, patience_s=1.0) as crowd:
        stage.all_live()
        front.mode = "mute"
        muted = time.monotonic()
        while time.monotonic() - muted < FAULT_S:
            assert stage.status()["brake"]["state"] == "clear"
            stage.nap(0.5)
        stage.all_live(limit_s=5)
        assert not crowd.heard(muted + 1)
        front.mode = "open"
        front.cut()
        mended = time.monotonic()
        until(lambda: crowd.heard(mended) == set(stage.users), "all are heard again")
    stage.nothing_was_called()
    stage.nobody_was_touched()
    assert stage.daemon.actions() == []
