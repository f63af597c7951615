"""A way that breaks in front of the daemon: the canary notices, and nobody who was silenced by it is set."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.scenarios.harness import free_port, new_session, until
from tests.scenarios.stories import Stage, story

if TYPE_CHECKING:
    from tests.scenarios.front import Mode

# A call each second; two lost ones are known 3 s after the way broke, long before anybody is due.
TIMING = {"WATCHDOG_HEARTBEAT_INTERVAL": "1", "WATCHDOG_SESSION_TTL": "7", "WATCHDOG_THROTTLED_SESSION_TTL": "7"}


def _standing(stage: Stage) -> str | None:
    clock = stage.status()["clock"]
    return None if clock is None else clock["standing"]


def _told(stage: Stage) -> tuple[int, int]:
    """How often it failed, and came back from that; on a busy machine once at the start already.

    A call that a busy machine made late, while agents beat, is not believed, and comes back too.
    """
    events = stage.daemon.events
    return len(events("canary.failed")), len(events("canary.back")) - len(events("canary.disbelieved"))


def _broken(stage: Stage, mode: Mode) -> None:
    """The way is broken for far longer than TTL and timer, while one leaves and the others go on beating."""
    with stage.front() as front:
        stage.start(**TIMING, WATCHDOG_CANARY_URL=f"http://127.0.0.1:{front.port}")
        ghost, *others = stage.users
        with stage.crowd(others, port=front.port, interval_s=0.8) as crowd:
            stage.all_live(len(others))
            until(lambda: stage.status()["canary"]["state"] == "ok", "the canary is heard")
            until(lambda: _standing(stage) is None, "the clock goes")
            told = _told(stage)
            stage.daemon.beat(ghost, new_session())
            front.mode = mode
            if mode == "closed":
                front.cut()
            until(lambda: _standing(stage) == "canary", "the clock stands", 10)
            assert "canary_failing" in stage.problems()
            observed = stage.status()["clock"]["observed_s"]
            until(lambda: stage.status()["canary"]["last_success_s_ago"] > 14, "the outage goes on", 30)
            assert stage.status()["clock"]["observed_s"] == observed
            stage.nobody_was_touched()
            mended = time.monotonic()
            front.mode = "open"
            front.cut()
            until(lambda: _standing(stage) is None, "the clock goes on")
            until(lambda: crowd.heard(mended) == set(others), "all are heard again")
            # The one who never came back is caught, and nobody else.
            stage.set_offline(ghost)
            stage.nobody_was_touched(others)
            until(lambda: stage.problems() == set(), "nothing is wrong any more")
    assert [now - then for now, then in zip(_told(stage), told, strict=True)] == [1, 1]
    assert '"ticket"' not in stage.daemon.log
    metrics = stage.daemon.client.get(stage.daemon.url + "/metrics").text
    (stopped,) = [
        line for line in metrics.splitlines() if line.startswith("watchdog_clock_stopped") and "canary" in line
    ]
    assert float(stopped.split()[-1]) > 8


@story(agents=12, seconds=35)
def test_nobody_is_set_while_the_way_in_front_is_a_black_hole(stage: Stage) -> None:
    _broken(stage, "black-hole")


@story(agents=12, seconds=35)
def test_nobody_is_set_while_the_way_in_front_is_closed(stage: Stage) -> None:
    _broken(stage, "closed")


@story(agents=12, seconds=20)
def test_a_wrong_address_is_not_believed_while_agents_beat(stage: Stage) -> None:
    stage.start(**TIMING, WATCHDOG_CANARY_URL=f"http://127.0.0.1:{free_port()}")
    ghost, *others = stage.users
    with stage.crowd(others, interval_s=0.8):
        until(lambda: "canary_disbelieved" in stage.problems(), "the canary is not believed", 60)
        stage.daemon.beat(ghost, new_session())
        stage.set_offline(ghost)
        stage.nobody_was_touched(others)
