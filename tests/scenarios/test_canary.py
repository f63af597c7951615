"""A way that breaks in front of the daemon: the canary notices, and nobody who was silenced by it is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.front import Front
from tests.scenarios.harness import Connect, Daemon, Present, free_port, new_session, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.scenario, pytest.mark.serial]

TIMING = {
    "WATCHDOG_HEARTBEAT_INTERVAL": "1",
    # a call each second; two lost ones are known 3 s after the way broke
    "WATCHDOG_SESSION_TTL": "7",
    "WATCHDOG_THROTTLED_SESSION_TTL": "7",
    "WATCHDOG_RESUME_GRACE": "2",
}


class Behind(Daemon):
    """The daemon as clients see it: through the front."""

    front: Front

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.front.port}"


def problems(daemon: Daemon) -> set[str]:
    return {problem["code"] for problem in daemon.ask("/v1/status")["problems"]}


def standing(daemon: Daemon) -> str | None:
    clock = daemon.ask("/v1/status")["clock"]
    return None if clock is None else clock["standing"]


@pytest.mark.parametrize("mode", ["black-hole", "closed"])
def test_nobody_is_set_while_the_way_in_front_is_broken(
    connect: Connect, daemon: Daemon, tmp_path: Path, mode: str
) -> None:
    with Front(daemon.port) as front:
        daemon.start(**TIMING, WATCHDOG_CANARY_URL=f"http://127.0.0.1:{front.port}").ready()
        behind = Behind(tmp_path, {}, daemon.port)
        behind.front = front
        ghost, *others = connect.users
        with Present(behind, others, interval_s=0.8) as present:
            until(lambda: daemon.ask("/v1/status")["sessions"] == len(others), "all are live")
            assert standing(daemon) is None
            assert daemon.ask("/v1/status")["canary"]["state"] == "ok"
            daemon.beat(ghost, new_session())
            front.mode = mode
            if mode == "closed":
                front.cut()
            until(lambda: standing(daemon) == "canary", "the clock stands", limit_s=10)
            assert "canary_failing" in problems(daemon)
            observed = daemon.ask("/v1/status")["clock"]["observed_s"]
            # far longer than TTL and timer
            until(lambda: daemon.ask("/v1/status")["canary"]["last_success_s_ago"] > 14, "the outage goes on", 30)
            assert daemon.ask("/v1/status")["clock"]["observed_s"] == observed
            assert connect.writes() == []
            answered = present.answered
            front.mode = "open"
            front.cut()
            until(lambda: standing(daemon) is None, "the clock goes on")
            until(lambda: present.answered > answered + 2 * len(others), "all are heard again")
            # the one who never came back is caught, and nobody else
            until(lambda: connect.status(ghost) == "Offline", "the ghost is set")
            assert [call.user_id for call in connect.writes()] == [ghost]
            assert problems(daemon) == set()
        behind.close()
    assert [line["event"] for line in daemon.events("canary.failed") + daemon.events("canary.back")] == [
        "canary.failed",
        "canary.back",
    ]
    assert '"ticket"' not in daemon.log
    metrics = daemon.client.get(daemon.url + "/metrics").text
    (stopped,) = [
        line for line in metrics.splitlines() if line.startswith("watchdog_clock_stopped") and "canary" in line
    ]
    assert float(stopped.split()[-1]) > 8


def test_a_wrong_address_is_not_believed_while_agents_beat(connect: Connect, daemon: Daemon) -> None:
    daemon.start(**TIMING, WATCHDOG_CANARY_URL=f"http://127.0.0.1:{free_port()}").ready()
    ghost, *others = connect.users
    with Present(daemon, others, interval_s=0.8):
        until(lambda: "canary_disbelieved" in problems(daemon), "the canary is not believed")
        daemon.beat(ghost, new_session())
        until(lambda: connect.status(ghost) == "Offline", "the ghost is set")
        assert [call.user_id for call in connect.writes()] == [ghost]
