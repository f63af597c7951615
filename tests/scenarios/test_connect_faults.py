"""Connect fails in each way it can: everyone who left is set once in the end, and nobody else is touched."""

from __future__ import annotations

import time
from typing import Any

from tests.scenarios.harness import new_session, until
from tests.scenarios.stories import Stage, story
from tests.scenarios.watched import Watched
from watchdog.sandbox.records import Fault, FaultKind

PUT, READ = "PutUserStatus", "GetCurrentUserData"

LEAVERS = 6


def _through(stage: Stage, fault: Fault, problem: str, *, lasts_s: float, limit_s: float = 60) -> None:
    """Some leave while each call fails; the fault ends; then they are set."""
    stage.start()
    leavers, present = stage.users[:LEAVERS], stage.users[LEAVERS:]
    with stage.crowd(present):
        stage.all_live(len(present))
        stage.connect.model.add_fault(fault)
        for user in leavers:
            stage.daemon.beat(user, new_session())
        until(lambda: _failed(stage, fault), "calls fail", 60)
        until(lambda: problem in stage.problems(), "it is told", 60)
        begun = time.monotonic()
        while time.monotonic() - begun < lasts_s:
            assert stage.connect.writes() == []
            stage.nap(0.2)
        stage.connect.model.clear_faults()
        for user in leavers:
            stage.set_offline(user, limit_s)
        until(lambda: stage.status()["backlog"] == 0, "nobody is due any more")
        stage.nobody_was_touched(present)
        stage.all_live(len(present))
    assert sorted(call.user_id for call in stage.connect.writes()) == sorted(leavers)
    if problem != "connect_throttled":  # which counts as over two minutes after the last one
        until(lambda: stage.problems() == set(), "nothing is wrong any more", 90)
    outcomes = [action["outcome"] for action in stage.daemon.actions() if action["intent"] == "set_status"]
    assert outcomes == ["confirmed"] * LEAVERS


def _failed(stage: Stage, fault: Fault) -> list[Any]:
    return [call for call in stage.connect.model.calls(operation=fault.operation) if call.outcome != "ok"]


@story(agents=12, seconds=25)
def test_throttled_writes(stage: Stage) -> None:
    _through(stage, Fault(FaultKind.THROTTLE, operation=PUT), "connect_throttled", lasts_s=8)


@story(agents=12, seconds=25)
def test_everything_is_throttled(stage: Stage) -> None:
    _through(stage, Fault(FaultKind.THROTTLE), "connect_throttled", lasts_s=8)


@story(agents=12, seconds=30)
def test_internal_errors_of_writes(stage: Stage) -> None:
    _through(stage, Fault(FaultKind.INTERNAL, operation=PUT), "connect_unavailable", lasts_s=8)


@story(agents=12, seconds=30)
def test_internal_errors_of_reads(stage: Stage) -> None:
    _through(stage, Fault(FaultKind.INTERNAL, operation=READ), "connect_unavailable", lasts_s=8)


@story(agents=12, seconds=60)
def test_writes_that_are_never_answered(stage: Stage) -> None:
    _through(stage, Fault(FaultKind.TIMEOUT, operation=PUT, delay_s=20), "connect_unavailable", lasts_s=3, limit_s=90)


@story(agents=12, seconds=90)
def test_writes_that_are_not_allowed_are_told_and_probed(stage: Stage) -> None:
    # A probe goes out every 60 s.
    _through(stage, Fault(FaultKind.ACCESS_DENIED, operation=PUT), "denied", lasts_s=3, limit_s=90)


@story(agents=12, seconds=40)
def test_writes_that_take_effect_and_whose_answer_is_lost(stage: Stage) -> None:
    stage.start()
    leavers, present = stage.users[:LEAVERS], stage.users[LEAVERS:]
    with stage.crowd(present):
        stage.all_live(len(present))
        for user in leavers:
            stage.daemon.beat(user, new_session())
        stage.connect.model.add_fault(Fault(FaultKind.LOST_ANSWER, operation=PUT))
        for user in leavers:
            stage.set_offline(user)
        stage.connect.model.clear_faults()
        until(lambda: len(stage.daemon.actions()) == LEAVERS, "all are settled", 60)
        stage.nobody_was_touched(present)
    assert sorted(call.user_id for call in stage.connect.writes()) == sorted(leavers)
    assert [action["outcome"] for action in stage.daemon.actions()] == ["confirmed"] * LEAVERS


@story(agents=12, seconds=20)
def test_a_user_whom_connect_does_not_know_stops_nobody(stage: Stage) -> None:
    stage.start()
    deleted, ghost, *present = stage.users
    with stage.crowd(present):
        stage.all_live(len(present))
        stage.daemon.beat(deleted, new_session())
        stage.daemon.beat(ghost, new_session())
        stage.connect.model.delete_user(stage.connect.instance.id, deleted)
        stage.set_offline(ghost)
        until(lambda: len(stage.daemon.actions()) == 2, "both are settled")
        stage.nobody_was_touched(present)
    told = {action["agent"].partition("/")[2]: action["outcome"] for action in stage.daemon.actions()}
    assert told == {deleted: "no_such_user", ghost: "confirmed"}


def _killed_at(stage: Stage, moment: str, *, after_write: bool = False) -> None:
    """kill -9 while a call stands at a moment; the next process sees to it that the ghost is set once."""
    model = stage.connect.model
    assert isinstance(model, Watched)
    stage.start()
    ghost, *present = stage.users
    with stage.crowd(present) as crowd:
        stage.all_live(len(present))
        stage.daemon.beat(ghost, new_session())
        if after_write:
            wrote, go_on = model.stop_at("PutUserStatus has taken effect")
            assert wrote.wait(60)
            reached, held = model.stop_at(moment)
            go_on.set()
        else:
            reached, held = model.stop_at(moment)
        assert reached.wait(60), moment
        stage.daemon.kill()
        held.set()
        stage.start()
        begun = time.monotonic()
        stage.set_offline(ghost)
        until(stage.daemon.actions, "it is settled", 60)
        until(lambda: crowd.heard(begun) == set(present), "the others are heard again")
        stage.nobody_was_touched(present)
    (action,) = stage.daemon.actions()
    assert action["outcome"] == "confirmed"
    assert [call.user_id for call in stage.connect.writes()] == [ghost]


@story(agents=4, seconds=20, model=Watched)
def test_a_kill_while_the_witness_is_asked(stage: Stage) -> None:
    _killed_at(stage, "GetCurrentUserData arrives")


@story(agents=4, seconds=20, model=Watched)
def test_a_kill_when_the_witness_has_spoken(stage: Stage) -> None:
    _killed_at(stage, "GetCurrentUserData has taken effect")


@story(agents=4, seconds=20, model=Watched)
def test_a_kill_while_the_write_is_on_its_way(stage: Stage) -> None:
    _killed_at(stage, "PutUserStatus arrives")


@story(agents=4, seconds=20, model=Watched)
def test_a_kill_when_the_write_has_taken_effect(stage: Stage) -> None:
    _killed_at(stage, "PutUserStatus has taken effect")


@story(agents=4, seconds=20, model=Watched)
def test_a_kill_while_the_write_is_read_back(stage: Stage) -> None:
    _killed_at(stage, "GetCurrentUserData arrives", after_write=True)


@story(agents=4, seconds=20, model=Watched)
def test_a_kill_when_the_write_was_read_back(stage: Stage) -> None:
    _killed_at(stage, "GetCurrentUserData has taken effect", after_write=True)
