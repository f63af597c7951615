"""Sessions of one agent, beats that come twice, late or in another order, and beats that are refused."""

from __future__ import annotations

import time

from tests.scenarios.harness import new_session, until
from tests.scenarios.stories import TIMES, Stage, story

TTL_S, TIMER_S = float(TIMES["WATCHDOG_SESSION_TTL"]), float(TIMES["WATCHDOG_SESSION_END_TIMER"])


@story(agents=3, seconds=40)
def test_an_agent_with_three_sessions_is_there_until_the_last_one_ends(stage: Stage) -> None:
    stage.start()
    agent, *present = stage.users
    sessions = [stage.crowd([agent]) for _ in range(3)]
    with stage.crowd(present):
        for each in sessions:
            each.__enter__()
        stage.all_live()
        until(lambda: len(_sessions(stage, agent)) == 3, "three sessions")
        for left in (2, 1):
            sessions.pop().__exit__()
            begun = time.monotonic()
            until(lambda left=left: len(_live(stage, agent)) == left, f"{left} are left")
            until(lambda begun=begun: time.monotonic() - begun > TTL_S + TIMER_S + 2, "long enough to be set")
            assert stage.daemon.state(agent) == "live"
            stage.nothing_was_called()
        silent = time.monotonic()
        sessions.pop().__exit__()
        stage.set_offline(agent)
        assert time.monotonic() - silent >= TTL_S + TIMER_S - 1  # the last beat is up to an interval old
        stage.nobody_was_touched(present)


def _sessions(stage: Stage, user: str) -> list[dict[str, float]]:
    found: list[dict[str, float]] = stage.daemon.ask(f"/v1/agents/{stage.connect.instance.id}/{user}")["sessions"]
    return found


def _live(stage: Stage, user: str) -> list[dict[str, float]]:
    return [session for session in _sessions(stage, user) if session["expires_in_s"] > 0]


@story(agents=4, seconds=20)
def test_beats_that_come_again_late_or_in_another_order_move_nothing_back(stage: Stage) -> None:
    stage.start()
    daemon = stage.daemon
    replayed, reopened, doubled, present = stage.users
    with stage.crowd([present]):
        # A bye's own beats, sent again by whoever recorded them, do not bring the session back.
        session = new_session()
        hello = daemon.beat(replayed, session, type="hello", seq=1)
        assert daemon.beat(replayed, session, seq=2).json()["state"] == "live"
        ticket = hello.json()["ticket"]
        assert daemon.beat(replayed, session, type="bye", seq=3, ticket=ticket).status_code == 204
        for fields in ({"type": "hello", "seq": 1}, {"seq": 2}, {"seq": 4}, {}):
            assert daemon.beat(replayed, session, **fields).json()["state"] == "unknown"
        # A bye of an earlier incarnation does not end the page that has come back from the cache since.
        page = new_session()
        ticket = daemon.beat(reopened, page, type="hello", incarnation=0, seq=1).json()["ticket"]
        assert daemon.beat(reopened, page, type="hello", incarnation=1, seq=2).json()["state"] == "live"
        assert daemon.beat(reopened, page, type="bye", incarnation=0, seq=3, ticket=ticket).status_code in (204, 401)
        assert daemon.state(reopened) == "live"
        # An old beat again and again is no sign of life.
        lease = new_session()
        for seq in (1, 2, 3):
            daemon.beat(doubled, lease, seq=seq)
        begun = time.monotonic()
        while stage.connect.status(doubled) != "Offline":
            assert time.monotonic() - begun < 40, "a replayed beat keeps a ghost alive"
            for seq in (3, 2, 1):
                daemon.beat(doubled, lease, seq=seq)
            stage.nap(0.2)
        assert time.monotonic() - begun >= TTL_S + TIMER_S - 0.5
        for user in (replayed, doubled):
            stage.set_offline(user)
        stage.nobody_was_touched([present])


BRAKE = {"WATCHDOG_BRAKE_MIN_AGENTS": "5"}


@story(agents=40, seconds=60)
def test_tokens_that_were_rotated_badly_set_nobody(stage: Stage) -> None:
    stage.start(**BRAKE)
    with stage.crowd() as crowd:
        stage.all_live()
        assert stage.daemon.stop() == 0
        stage.start(**BRAKE, WATCHDOG_HEARTBEAT_TOKENS="another-token-nobody-knows")
        begun = time.monotonic()
        until(lambda: stage.status()["brake"]["held"] == 40, "all are held")
        assert {each.status for each in crowd.since(begun)} == {401}
        assert "live_sessions_refused" in stage.problems()
        assert "refused for their token" in stage.daemon.events("brake.tripped")[0]["why"]
        until(lambda: stage.status()["brake"]["holds"][0]["age_s"] > 15, "the fault goes on")
        stage.nothing_was_called()
        assert stage.daemon.stop() == 0
        stage.start(**BRAKE)
        begun = time.monotonic()
        until(lambda: crowd.heard(begun) == set(stage.users), "all are heard again")
        until(lambda: stage.status()["brake"]["state"] == "clear", "the hold is over")
        stage.all_live()
    stage.nothing_was_called()
    stage.nobody_was_touched()


@story(agents=40, seconds=20)
def test_tickets_renew_although_the_tokens_were_rotated_badly(stage: Stage) -> None:
    stage.start(**BRAKE)
    with stage.crowd(with_ticket=True) as crowd:
        stage.all_live()
        assert stage.daemon.stop() == 0
        stage.start(**BRAKE, WATCHDOG_HEARTBEAT_TOKENS="another-token-nobody-knows")
        begun = time.monotonic()
        until(lambda: crowd.heard(begun) == set(stage.users), "all are heard again")
        until(lambda: time.monotonic() - begun > TTL_S + TIMER_S + 3, "long enough to be set")
        assert {each.status for each in crowd.since(begun)} == {200}
        assert stage.status()["brake"]["state"] == "clear"
        stage.all_live()
    stage.nothing_was_called()
