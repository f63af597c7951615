"""The daemon is stopped, killed or kept from its disk while agents beat: time in which it is deaf does not count."""

from __future__ import annotations

import os
import signal
import time

from tests.scenarios.harness import new_session, until
from tests.scenarios.stories import Stage, story


def _ghost_is_caught(stage: Stage, ghost: str) -> None:
    stage.set_offline(ghost)
    stage.nobody_was_touched([user for user in stage.users if user != ghost])


def _stopped(stage: Stage, seconds: float, *, patience_s: float) -> None:
    """SIGSTOP for so long; half of the agents wait for their answers, the others try again and again."""
    stage.start()
    *present, ghost = stage.users
    daemon = stage.daemon
    with (
        stage.crowd(present[::2], patience_s=patience_s) as patient,
        stage.crowd(present[1::2], patience_s=1.0) as eager,
        # New sessions are written to the disk, so that a flush of theirs is under way at any time.
        stage.crowd(present[:10], patience_s=patience_s, interval_s=0.1, reloads=True) as reloading,
    ):
        daemon.beat(ghost, new_session())
        stage.all_live()
        assert daemon.process is not None
        stopped = time.monotonic()
        os.kill(daemon.process.pid, signal.SIGSTOP)
        stage.nap(seconds)
        os.kill(daemon.process.pid, signal.SIGCONT)
        resumed = time.monotonic()
        stage.nothing_was_called()
        until(lambda: patient.heard(resumed) == set(present[::2]), "those who waited are answered")
        until(lambda: eager.heard(resumed) == set(present[1::2]), "the others are heard again")
        waited = [
            each for each in (*patient.answers, *reloading.answers) if each.begun > stopped - 1 and each.ended > resumed
        ]
        assert {each.status for each in waited} == {200}
        assert {each.status for each in eager.since(resumed)} == {200}
        _ghost_is_caught(stage, ghost)
        stage.all_live(len(present))
        assert daemon.events("clock.standing")


@story(agents=40, seconds=20)
def test_a_stop_of_three_seconds(stage: Stage) -> None:
    _stopped(stage, 3, patience_s=10)


@story(agents=40, seconds=50)
def test_a_stop_of_thirty_seconds_sets_nobody_and_answers_who_waited(stage: Stage) -> None:
    _stopped(stage, 30, patience_s=60)
