"""Stories of three daemons over one server: some die, are stopped, come and go, are cut off; nobody is set by it.

Those with all the agents are long and serial.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.fleet import SELDOM, SELDOM_S, Fleet, begin, fleet
from tests.scenarios.front import Front
from tests.scenarios.harness import ADMIN, INSTANCE, new_session, until
from tests.scenarios.stories import Stage, story
from watchdog.core.model import AgentId
from watchdog.stores.part_rows import part_of

if TYPE_CHECKING:
    from collections.abc import Callable

AGENTS, ALL_AGENTS = 200, 2_000
GHOSTS = 20
SHARDS = 16


def _told(
    stage: Stage, what: str, happens: Callable[[Fleet], None], limit_s: float = 90, every_s: float = 1.0, **changes: str
) -> None:
    """Some fall silent, and then something happens."""
    ghosts, present = stage.users[:GHOSTS], stage.users[GHOSTS:]
    with fleet(stage, **changes) as made, stage.crowd(port=made.port, interval_s=every_s) as crowd:
        since = begin(crowd, made, ghosts, len(stage.users))
        happens(made)
        made.ghosts_are_caught(ghosts, since, what, limit_s)
        made.all_live(len(present))
        made.nobody_was_touched(present)


def _told_of_all(stage: Stage, what: str, happens: Callable[[Fleet], None]) -> None:
    _told(stage, f"{ALL_AGENTS:,} agents: {what}", happens, 180, SELDOM_S, **SELDOM)


def _kill_the_keeper(made: Fleet) -> None:
    (keeper,) = [each["boot"] for each in made.status()["replicas"] if each["keeper"]]
    (place,) = [at for at, daemon in made.daemons.items() if daemon.ask("/v1/status")["boot"] == keeper]
    made.kill(place)


def _forget(made: Fleet) -> None:
    with made.server.client as client:
        client.flushall()
    made.even()


@story(agents=AGENTS, seconds=60)
def test_the_keeper_of_the_clock_is_killed(stage: Stage) -> None:
    _told(stage, "kill -9 of the keeper", _kill_the_keeper)


@story(agents=AGENTS, seconds=60)
def test_the_server_forgets_everything(stage: Stage) -> None:
    _told(stage, "FLUSHALL", _forget)


@story(agents=AGENTS, seconds=60)
def test_when_one_dies_the_agents_of_the_others_notice_nothing(stage: Stage) -> None:
    """Half of the agents are new pages all the time, whose answers wait until they are applied."""
    known, new = stage.users[: AGENTS // 2], stage.users[AGENTS // 2 :]
    with (
        fleet(stage) as made,
        stage.crowd(known, made.port) as pages,
        stage.crowd(new, made.port, reloads=True) as others,
    ):
        made.all_live(AGENTS)
        (dead,) = [each["parts"] for each in made.daemons[2].ask("/v1/status")["replicas"] if each["here"]]
        mine = {user for user in stage.users if part_of(AgentId(INSTANCE, user), SHARDS) not in dead}
        killed = time.monotonic()
        made.kill(2)
        ready: list[int] = []
        # Its parts are others' after 3 s and a look.
        while time.monotonic() - killed < 5:
            ready += [daemon.get("/readyz") for daemon in made.daemons.values()]
            stage.nap(0.05)
        told = [answer for crowd in (pages, others) for answer in crowd.since(killed)]
        ours = [answer for answer in told if answer.user in mine]
        took_s = sorted(answer.ended - answer.begun for answer in ours)[int(0.9 * len(ours))]
        shares = [
            sum(each == 200 for each in statuses) / len(statuses)
            for statuses in (ready, [answer.status for answer in ours])
        ]
        counted = dict(Counter(answer.status for answer in ours))
        print(f"kill -9 of one: {shares[0]:.1%} ready, answers {counted}, most in {took_s:.2f} s")
        assert 503 in {answer.status for answer in told if answer.user not in mine}
        # A busy machine is late by itself; with one buffer for all daemons 60 % is the most.
        assert min(shares) > 0.9
        assert took_s < 0.9
        until(lambda: pages.heard(killed + 5) >= set(known), "all are heard")
        made.nobody_was_touched(stage.users)


@pytest.mark.long
@story(agents=ALL_AGENTS, seconds=120, alone=True)
def test_of_three_with_two_thousand_agents_the_keeper_of_the_clock_is_killed(stage: Stage) -> None:
    _told_of_all(stage, "kill -9 of the keeper", _kill_the_keeper)


@pytest.mark.long
@story(agents=ALL_AGENTS, seconds=120, alone=True)
def test_of_three_with_two_thousand_agents_one_is_killed_and_another_one_stops(stage: Stage) -> None:
    def happens(made: Fleet) -> None:
        made.kill(1)
        made.start(1)
        made.stop(0)
        made.start(0)
        made.even()

    _told_of_all(stage, "kill -9 of one, restart of another", happens)


@pytest.mark.long
@story(agents=ALL_AGENTS, seconds=120, alone=True)
def test_of_three_with_two_thousand_agents_one_is_stopped_for_thirty_seconds_and_goes_on(stage: Stage) -> None:
    def happens(made: Fleet) -> None:
        made.signal(2, signal.SIGSTOP)
        stage.nap(30)
        made.signal(2, signal.SIGCONT)
        made.even()

    _told_of_all(stage, "SIGSTOP of one for 30 s", happens)


@pytest.mark.long
@story(agents=ALL_AGENTS, seconds=120, alone=True)
def test_of_three_with_two_thousand_agents_all_are_restarted_one_after_another(stage: Stage) -> None:
    def happens(made: Fleet) -> None:
        for place in range(3):
            made.stop(place)
            made.start(place)
        made.even()

    _told_of_all(stage, "rolling restart", happens)


@pytest.mark.long
@story(agents=ALL_AGENTS, seconds=120, alone=True)
def test_to_three_with_two_thousand_agents_a_fourth_comes_and_two_leave(stage: Stage) -> None:
    def happens(made: Fleet) -> None:
        made.start(3)
        made.even()
        made.stop(0)
        made.stop(1)
        made.even()

    _told_of_all(stage, "a fourth comes and two leave", happens)


@pytest.mark.long
@story(agents=ALL_AGENTS, seconds=120, alone=True)
def test_the_server_of_three_with_two_thousand_agents_is_stopped_for_twenty_seconds(stage: Stage) -> None:
    def happens(made: Fleet) -> None:
        made.server.signal(signal.SIGSTOP)
        stage.nap(20)
        made.server.signal(signal.SIGCONT)
        made.even()

    _told_of_all(stage, "SIGSTOP of the server for 20 s", happens)


@pytest.mark.long
@story(agents=ALL_AGENTS, seconds=120, alone=True)
def test_the_server_of_three_with_two_thousand_agents_forgets_everything(stage: Stage) -> None:
    _told_of_all(stage, "FLUSHALL", _forget)


@pytest.mark.long
@story(agents=ALL_AGENTS, seconds=120, alone=True)
def test_of_three_with_two_thousand_agents_one_is_cut_off_from_the_server(stage: Stage) -> None:
    """Nobody who comes through it is told that it is heard; the others have its agents."""
    ghosts, present = stage.users[:GHOSTS], stage.users[GHOSTS:]
    with fleet(stage, **SELDOM) as made, Front(made.server.port) as way:
        made.stop(2)
        cut = made.start(2, f"valkey://127.0.0.1:{way.port}/0")
        made.even()
        with stage.crowd(port=made.port, interval_s=SELDOM_S) as crowd:
            since = begin(crowd, made, ghosts, len(stage.users))
            way.mode = "black-hole"
            until(lambda: cut.get("/readyz") == 503, "it says so", 10)
            refused = cut.beat(present[0], new_session())
            assert refused.status_code == 503
            made.ghosts_are_caught(ghosts, since, "2,000 agents: one is cut off", 180)
            assert made.any is not cut
            assert len(made.status()["replicas"]) == 2
            way.mode = "open"
            way.cut()
            made.even()
            made.all_live(len(present))
            made.nobody_was_touched(present)


@story(agents=40, seconds=40)
def test_an_operator_sees_and_orders_everything_from_any_of_them(stage: Stage) -> None:
    with fleet(stage) as made, stage.crowd(port=made.port, interval_s=1.0):
        made.all_live(40)
        for daemon in made.daemons.values():
            page = daemon.ask("/v1/agents?limit=1000")
            assert len(page["agents"]) == 40
            # What the others have is as old as their last reports.
            until(lambda each=daemon: each.ask("/v1/status")["agents"]["live"] == 40, "all are told")
        first, second, third = made.daemons.values()
        for user in stage.users[:6]:
            ordered = first.client.post(
                f"{first.url}/v1/agents/{INSTANCE}/{user}/logout", json={}, headers={"Authorization": f"Bearer {ADMIN}"}
            )
            assert ordered.status_code == 204, ordered.text
            assert [len(stage.connect.writes(user)), stage.connect.status(user)] == [1, "Offline"]
        until(lambda: len(second.actions()) == len(third.actions()) >= 6, "all tell the same history")
        held = second.client.put(
            f"{second.url}/v1/brake",
            json={"state": "hold", "for_s": 600},
            headers={"Authorization": f"Bearer {ADMIN}"},
        )
        assert held.status_code == 200, held.text
        until(lambda: first.ask("/v1/status")["brake"]["state"] == "ordered", "it is held everywhere", 3)
        until(lambda: third.ask("/v1/status")["brake"]["state"] == "ordered", "it is held everywhere", 3)
