"""What is still to be done and who was logged out, in the SQLite file: an older file, bad rows, and what comes between
a decision and its write.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.contract.test_log_out import ORDER, log_out, ordered
from tests.contract.world import ANNA, BERT, INSTANCE, START, TIMER, TTL, World, action_of, intent, session, settled
from tests.stores.test_file import Meddled, ask, edit, path, told, world
from watchdog.core.deadline import STOPPED_S
from watchdog.core.model import (
    AgentState,
    Beat,
    BeatType,
    Epoch,
    FollowUp,
    Intent,
    IntentKind,
    Next,
    Observed,
    Outcome,
    SessionEnd,
    Standing,
    Verdict,
)
from watchdog.core.undo import Back, Written
from watchdog.errors import StoreUnavailable
from watchdog.stores.disk import MIGRATIONS, Batch
from watchdog.stores.leases import BUCKET_S, LINGER_S, MAX_SESSIONS, LeaseTable
from watchdog.stores.place import APPLICATION_ID

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["path", "world"]  # fixtures

STAGE = FollowUp(Next.STAGE, Observed(30.0), "late", 1, "offline")
SIGN_OUT = FollowUp(Next.SIGN_OUT, Observed(30.0), "", 0, "offline")


# A file of the version before.

CLOCK = (
    b'{"observed":1000.0,"running":1000.0,"boot":90.0,"boot_id":"boot-1","gap_s":0.0,"grace_s":0.0,"graces":[],'
    b'"standing":null,"epoch":1699999990.0}'
)


def old_file(path: Path, version: int) -> None:
    """A file of schema 1, 2 or 3 as that version left it: Anna is set, Bert's change is under way, Carl is there."""
    old = sqlite3.connect(path)
    for script in MIGRATIONS[:version]:
        old.executescript(script)
    old.execute(f"PRAGMA user_version = {version}")
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.execute("INSERT INTO meta VALUES ('clock', ?)", [CLOCK])
    old.execute("INSERT INTO meta VALUES ('token', ?)", [b"7"])
    old.execute("INSERT INTO meta VALUES ('secret', ?)", [b"s" * 32])
    more = (0, 0.0, 0.0) if version >= 2 else ()
    for user, settled_epoch, outcome in (("anna", 1, "confirmed"), ("bert", -1, None), ("carl", -1, None)):
        row = (INSTANCE, user, 1, settled_epoch, outcome, None, START - 100, *more)
        old.execute(f"INSERT INTO agents VALUES ({', '.join('?' * len(row))})", row)
    for number, user, horizon, closed in ((1, "anna", 900.0, 1), (2, "bert", 950.0, 0), (3, "carl", 1060.0, 0)):
        row = (session(number), INSTANCE, user, 0, 4, horizon, TTL, START - 100, closed, 0, 0)
        old.execute(f"INSERT INTO sessions VALUES ({', '.join('?' * len(row))})", row)
    old.execute(
        "INSERT INTO claims VALUES (?, 'bert', 1, 7, 'old', 955.0, '{}', 'set_status', 'offline', 'available', ?)",
        [INSTANCE, START - 5],
    )
    old.execute(
        "INSERT INTO actions VALUES ('a-1', ?, ?, 'anna', 'set_status', 'Offline', 'confirmed', '', '{}', 2, 0.5)",
        [START - 50, INSTANCE],
    )
    if version >= 3:
        old.execute(
            "INSERT INTO changes VALUES (?, 'anna', 6, 1, 'a-1', 'offline', 'available', 'confirmed', ?, NULL, 950, "
            "950, '[]', NULL, 0, NULL, NULL, NULL)",
            [INSTANCE, START - 50],
        )
    old.commit()
    old.close()


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_file_of_an_older_version_goes_on_as_it_was(world: World, path: Path, version: int) -> None:
    await world.store.close()
    for file in path.parent.iterdir():
        file.unlink()
    old_file(path, version)
    carl = ANNA._replace(user_id="carl")
    await world.restart()
    assert told(world) == []
    assert ask(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert [await world.state(each) for each in (ANNA, BERT, carl)] == [
        AgentState.AWAY,
        AgentState.DUE,
        AgentState.LIVE,
    ]
    claim = await world.claimed(BERT)
    assert claim.token > 7
    assert claim.intent == Intent(IntentKind.SET_STATUS, "offline", "available", Epoch(START - 5), "")
    assert (claim.follow_up, claim.released) == (None, False)
    assert await world.store.settle(claim, action_of(claim), None, replace(STAGE, at=Observed(1100.0)))
    assert [action.id for action in (await world.store.actions(agent=ANNA)).actions] == ["a-1"]
    assert await world.store.secret() == b"s" * 32
    if version >= 3:
        found = await world.store.restore(Epoch(0.0), None, silent=True, instant=world.instant)
        assert found.queued == 1
    await world.wait(130)
    assert [due.agent for due in (await world.tick()).due] == [carl, BERT]
    await world.restart()
    assert ask(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    await world.wait(40)
    assert (await world.claimed(BERT)).follow_up == replace(STAGE, at=Observed(1100.0))


async def test_an_intent_s_rule_is_in_the_file(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)
    await world.store.intend(await world.claimed(), replace(intent(), rule="Früh"))
    await world.restart()
    await world.wait(31)
    assert (await world.claimed()).intent == replace(intent(), rule="Früh")


# Bad rows.

GOOD = (
    '{"next":"stage","at":30.0,"rule":"late","stage":1,"target":"x",'
    '"reason_code":null,"queue":null,"by":null,"released":false}'
)
BAD = [
    "not json",
    "",
    "null",
    "[]",
    "7",
    "{}",
    GOOD.replace("stage", "dance", 1),
    GOOD.replace("30.0", '"soon"'),
    GOOD.replace("30.0", "null"),
    GOOD.replace("30.0", "1e999"),
    GOOD.replace('"late"', "7"),
    GOOD.replace(":1,", ":1.5,"),
    GOOD.replace('"x"', "null"),
    GOOD.replace('"reason_code":null', '"reason_code":7'),
    GOOD.replace('"queue":null', '"queue":[]'),
    GOOD.replace('"by":null', '"by":false'),
    GOOD.replace("false", '"no"'),
    GOOD.replace(',"released":false', ""),
]


@pytest.mark.parametrize("bad", BAD)
async def test_what_cannot_be_read_is_set_aside_and_concerns_nobody_else(world: World, path: Path, bad: str) -> None:
    await settled(world, STAGE)
    await settled(world, replace(STAGE, at=Observed(40.0)), BERT, 2)
    await world.store.close()
    other = sqlite3.connect(path)
    other.execute("UPDATE agents SET follow_up = ? WHERE user_id = 'anna'", [bad])
    other.commit()
    other.close()
    await world.restart()
    assert [row.partition(" (")[0] for row in told(world)] == [f"agents {ANNA}"]
    assert await world.state(ANNA) is None
    assert await world.state(BERT) is AgentState.AWAY
    ((kept,),) = ask(path, "SELECT value FROM meta WHERE key LIKE 'unreadable %'")
    assert isinstance(kept, bytes)
    assert repr(bad) in kept.decode()
    await world.wait(80)
    assert await world.due() == [BERT]
    await world.beat(ANNA, 3)
    await world.restart()
    assert told(world) == []
    assert await world.state(ANNA) is AgentState.LIVE


@pytest.mark.parametrize("value", ["x'ff'", "7"])
async def test_nor_what_is_no_text(world: World, path: Path, value: str) -> None:
    await settled(world, STAGE)
    await world.store.close()
    edit(path, f"UPDATE agents SET follow_up = {value}")
    await world.restart()
    assert len(told(world)) == 1
    assert await world.state() is None


async def test_the_text_that_bad_ones_are_made_from_is_good(world: World, path: Path) -> None:
    await settled(world, STAGE)
    await world.store.close()
    edit(path, f"UPDATE agents SET follow_up = '{GOOD}'")
    await world.restart()
    assert told(world) == []
    await world.wait(60)
    assert (await world.claimed()).follow_up == replace(STAGE, target="x")


# A restart in the middle.


async def test_a_sign_out_that_a_process_left_in_hand_is_gone_on_with(world: World) -> None:
    first = await settled(world, SIGN_OUT)
    await world.wait(30)
    claim = await world.claimed()
    made = Intent(IntentKind.SIGN_OUT, "offline", None, Epoch(START), "out")
    assert await world.store.intend(claim, made)
    await world.restart()
    assert (await world.tick()).orphans == ()
    await world.wait(31)
    claim = await world.claimed()
    assert (claim.epoch, claim.intent, claim.follow_up) == (first.epoch, made, SIGN_OUT)
    assert await world.store.settle(claim, action_of(claim, at=START + 50))
    await world.restart()
    await world.wait(100)
    assert await world.due() == []


async def test_an_order_and_what_it_stopped_are_on_the_disk_when_it_returns(world: World, path: Path) -> None:
    await world.beat()
    await log_out(world)
    assert ask(path, "SELECT closed FROM sessions") == [(2,)]
    await world.restart()
    assert (await world.beat()).verdict is Verdict.STOPPED
    view = await world.store.agent(ANNA)
    assert view is not None
    assert view.due_in_s is not None
    await world.wait(31)
    await ordered(world)


async def test_an_order_is_synced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.beat()
    synced: list[bool] = []
    write = Meddled.write

    async def noted(disk: Meddled, batch: Batch) -> None:
        synced.append(batch.sync)
        await write(disk, batch)

    monkeypatch.setattr(Meddled, "write", noted)
    await log_out(world)
    assert synced == [True]


@pytest.mark.parametrize(("stopped_s_ago", "known"), [(STOPPED_S - 100, True), (STOPPED_S + 1, False)])
async def test_restarts_make_no_stopped_session_known_for_longer(
    world: World, path: Path, stopped_s_ago: float, *, known: bool
) -> None:
    await world.beat()
    await log_out(world)
    claim = await ordered(world)
    await world.store.settle(claim, action_of(claim))
    await world.store.close()
    edit(path, f"UPDATE sessions SET horizon = horizon - {stopped_s_ago}")
    await world.restart()
    await world.wait(50)
    assert (await world.beat()).verdict is (Verdict.STOPPED if known else Verdict.OPENED)


def test_a_stopped_session_is_known_for_a_day_and_no_longer() -> None:
    table = LeaseTable(TIMER)
    beat = Beat(ANNA, session(1), ttl=TTL)
    table.apply(beat, Observed(0.0), Epoch(0.0))
    table.log_out(ANNA, ORDER, Observed(1.0))
    table.expire(Observed(2.0))
    agent = table.agents[ANNA]
    table.settle(agent, agent.epoch, Outcome.CONFIRMED, Observed(2.0))
    for clock in range(3, int(STOPPED_S), 100):
        table.expire(Observed(float(clock)))
    assert table.apply(beat, Observed(STOPPED_S), Epoch(0.0)).verdict is Verdict.STOPPED
    table.expire(Observed(STOPPED_S + 1 + LINGER_S + BUCKET_S))
    assert table.sessions == {}
    assert table.dirty.dropped == {(session(1), ANNA)}
    assert table.apply(beat, Observed(STOPPED_S + 500), Epoch(0.0)).verdict is Verdict.OPENED


def test_a_stopped_session_makes_room_after_all_that_ended_otherwise() -> None:
    table = LeaseTable(TIMER)
    table.apply(Beat(ANNA, session(0), ttl=TTL), Observed(0.0), Epoch(0.0))
    table.log_out(ANNA, ORDER, Observed(1.0))
    for number in range(1, MAX_SESSIONS + 5):
        at = Observed(1.0 + number)
        table.apply(Beat(ANNA, session(number), BeatType.HELLO, ttl=TTL), at, Epoch(0.0))
        table.apply(Beat(ANNA, session(number), BeatType.BYE, ttl=0.0), at, Epoch(0.0))
    assert table.apply(Beat(ANNA, session(0), ttl=TTL), Observed(100.0), Epoch(0.0)).verdict is Verdict.STOPPED


def test_sessions_that_made_room_while_they_went_on_keep_no_order_waiting() -> None:
    table = LeaseTable(TIMER)
    for number in range(MAX_SESSIONS + 1):
        table.apply(Beat(ANNA, session(number), ttl=1000.0), Observed(0.0), Epoch(0.0))
    table.log_out(ANNA, ORDER, Observed(1.0))
    table.expire(Observed(1.1))
    assert list(table.due) == [ANNA]


async def test_the_evidence_tells_who_was_stopped_and_the_deadline_that_counts(world: World) -> None:
    await world.beat(number=1)
    await world.bye(number=1)
    await world.beat(number=2)
    await log_out(world)
    claim = await ordered(world)
    assert {each["ended"] for each in claim.evidence["sessions"]} == {SessionEnd.BYE, SessionEnd.STOPPED}
    assert claim.evidence["deadline_s"] == pytest.approx(claim.deadline, abs=0.001)
    await world.beat(number=3)
    await world.bye(number=3)
    await world.wait(TIMER + 0.5)
    await world.store.settle(claim, action_of(claim, Outcome.RETURNED))
    claim = await world.claimed()
    assert await world.store.file_again(claim, 20.0)
    await world.wait(20)
    claim = await world.claimed()
    assert claim.evidence["timer_s"] == 20
    assert claim.evidence["deadline_s"] == pytest.approx(claim.ended_at + 20, abs=0.001)


async def test_after_a_return_the_file_has_nothing_that_is_still_to_be_done(world: World, path: Path) -> None:
    await settled(world, STAGE)
    ((kept,),) = ask(path, "SELECT follow_up FROM agents")
    assert kept is not None
    await world.beat(number=2)
    assert ask(path, "SELECT follow_up FROM agents") == [(None,)]


# What comes between a decision and its write.


async def due_one(world: World) -> None:
    await world.beat()
    await world.bye()
    await world.wait(TIMER + 0.5)


def deed(world: World, made: Callable[[], Awaitable[object]]) -> None:
    Meddled.deed = made


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_order_while_an_outcome_is_written_is_kept(world: World, *, restarted: bool) -> None:
    await due_one(world)
    claim = await world.claimed()
    await world.store.intend(claim, intent())
    deed(world, lambda: log_out(world))
    assert not await world.store.settle(claim, action_of(claim), Written(0.0), STAGE)
    if restarted:
        await world.store.tick("me", world.instant)
        await world.restart()
        await world.wait(31)
    assert (await world.tick()).undos == ()
    await ordered(world)


async def test_an_outcome_and_an_order_that_only_reached_the_disk_are_no_mistake(world: World, path: Path) -> None:
    """The process died when both were written, and knew of neither."""
    await due_one(world)
    claim = await world.claimed()
    await world.store.intend(claim, intent())
    await world.store.settle(claim, action_of(claim), Written(0.0))
    await world.store.close()
    edit(path, "UPDATE agents SET epoch = epoch + 1, settled_epoch = epoch + 1")
    await world.restart()
    assert (await world.tick()).undos == ()


async def test_a_return_while_an_outcome_is_written_leaves_nothing_to_be_done(world: World) -> None:
    await due_one(world)
    claim = await world.claimed()
    deed(world, lambda: world.beat(number=2))
    assert not await world.store.settle(claim, action_of(claim), None, STAGE)
    await world.restart()
    await world.wait(100)
    assert (await world.claimed()).follow_up is None


async def test_an_order_while_it_is_written_that_nobody_has_seen_the_agent_is_kept(world: World) -> None:
    from tests.contract.test_stores import unseen_of

    await settled(world)
    deed(world, lambda: log_out(world))
    await world.store.unseen(unseen_of(at=START + 5), TTL)
    await ordered(world)


async def test_an_order_while_activity_is_written_is_kept(world: World) -> None:
    await due_one(world)
    claim = await world.claimed()
    deed(world, lambda: log_out(world))
    await world.store.witness(claim, 1.0, TTL, action_of(claim, Outcome.WITNESSED))
    assert (await ordered(world)).epoch == claim.epoch + 1


async def test_an_order_while_the_claim_is_written_voids_it(world: World) -> None:
    await due_one(world)
    (due,) = (await world.tick()).due
    deed(world, lambda: log_out(world))
    assert await world.store.claim(due, "me") is None
    await ordered(world)


async def test_an_order_while_a_restore_is_announced_is_refused(world: World) -> None:
    await world.beat()
    await world.wait(TTL + TIMER + 0.5)
    claim = await world.claimed()
    await world.store.intend(claim, intent())
    await world.store.settle(claim, replace(action_of(claim), at=world.instant.epoch), Written(0.0))
    await world.beat(gap_ms=0)
    (change,) = (await world.tick()).undos
    answers: list[bool] = []

    async def orders() -> None:
        answers.append(await log_out(world))

    deed(world, orders)
    assert await world.store.restoring(change, world.instant.epoch, TTL) is Back.HERE
    assert answers == [False]
    assert await world.state() is AgentState.LIVE


async def test_an_order_that_could_not_be_written_is_in_force_and_tried_again(world: World, path: Path) -> None:
    await world.beat()
    Meddled.fails = 1
    with pytest.raises(StoreUnavailable):
        await log_out(world)
    assert (await world.beat()).verdict is Verdict.STOPPED
    assert ask(path, "SELECT closed FROM sessions") == [(2,)]
    await world.restart()
    assert (await world.beat()).verdict is Verdict.STOPPED
    await world.wait(31)
    await ordered(world)


async def test_nobody_finds_an_agent_due_who_is_being_filed_again(world: World) -> None:
    await due_one(world)
    claim = await world.claimed()
    found: list[object] = []

    async def ticks() -> None:
        found.extend((await world.tick()).due)

    deed(world, ticks)
    assert await world.store.file_again(claim, 60.0)
    assert found == []


async def test_a_claim_of_before_a_hold_is_held_though_its_sign_out_was_due(world: World) -> None:
    await settled(world, SIGN_OUT)
    await world.wait(30)
    claim = await world.claimed()
    await world.store.order("all", hold=True, for_s=60, reason="", instant=world.instant)
    assert await world.store.still_gone(claim) is Standing.HELD
    assert await world.store.intend(claim, intent())
