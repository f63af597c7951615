"""The buffer of one daemon of several, in virtual time: what one of them does not take holds up nobody else."""

import asyncio
from uuid import UUID

import pytest

from tests.ingest.conftest import ARN, INSTANCE, DividedStore
from watchdog.core.model import AgentId, Boot, Epoch, Instant, Tear, Verdict
from watchdog.errors import NotHandedOn, StoreUnavailable
from watchdog.ingest import sorted_buffer as module
from watchdog.ingest.sorted_buffer import SortedBuffer
from watchdog.loops import FLUSH_S

pytestmark = pytest.mark.looptime

ANNA, BEN, CARL = (AgentId(INSTANCE, name) for name in ("anna", "ben", "carl"))


@pytest.fixture
def store():
    """Anna is this daemon's, Ben and Carl are others', of whom Carl's does not answer."""
    return DividedStore(owners={"ben": "second", "carl": "third"}, silent={"third", None})


@pytest.fixture
async def buffer(store):
    loop = asyncio.get_running_loop()
    return SortedBuffer(
        store, lambda: Instant(Boot(loop.time()), Epoch(loop.time()), "boot"), loop.time, max_sessions=4
    )


@pytest.fixture
async def flushing(buffer):
    """Begins what the daemon's loop does; not in a fixture, whose time is another one."""
    tasks = []

    async def always():
        while True:
            await asyncio.sleep(FLUSH_S)
            await buffer.flush_own()

    yield lambda: tasks.append(asyncio.create_task(always()))
    for task in tasks:
        task.cancel()


@pytest.fixture
def of(a_beat):
    """A beat of an agent's session."""

    def made(agent, number=1, **fields):
        return a_beat(**{"agent": agent, "session_id": agent.user_id.encode().ljust(15) + bytes([number]), **fields})

    return made


def waiting(buffer, beat):
    return buffer.of(beat.agent).expect(beat)


async def test_whoever_is_anothers_that_answers_is_answered_as_if_all_did(buffer, flushing, of):
    flushing()
    replies = [waiting(buffer, of(agent)) for agent in (ANNA, BEN, CARL)]
    for _ in range(15):
        await asyncio.sleep(FLUSH_S)
        done, _ = await asyncio.wait(replies[:2], timeout=FLUSH_S + 0.01)
        assert len(done) == 2
        assert not buffer.late
        assert not buffer.of(BEN).late
        replies[:2] = [waiting(buffer, of(agent, 2)) for agent in (ANNA, BEN)]
    with pytest.raises(StoreUnavailable, match="no answer"):
        await replies[2]
    assert buffer.of(CARL).late


async def test_what_was_not_taken_is_applied_as_soon_as_somebody_has_the_part(buffer, store, flushing, of):
    flushing()
    lost = waiting(buffer, of(CARL, seq=1))
    await asyncio.sleep(1.5)
    assert isinstance(lost.exception(), StoreUnavailable)
    store.owners["carl"] = None
    await asyncio.sleep(1.5)
    assert not store.sessions
    store.owners["carl"] = "second"
    await asyncio.sleep(1.3)
    assert [each.agent for each in store.sessions.values()] == [CARL]
    assert not buffer.of(CARL).late
    assert buffer.size == 0
    await buffer.flush()


async def test_what_was_not_taken_and_is_this_daemons_own_by_now_is_applied_by_it(buffer, store, flushing, of):
    flushing()
    buffer.of(CARL).submit(of(CARL))
    await asyncio.sleep(1.3)
    assert buffer.of(CARL).late
    del store.owners["carl"]
    store.gate = asyncio.Event()
    await asyncio.sleep(1.0 + FLUSH_S)
    # Its own are not late for what has waited for others.
    assert buffer.of(CARL) is buffer
    assert buffer.oldest is not None
    assert not buffer.late
    store.gate.set()
    await asyncio.sleep(FLUSH_S)
    assert [each.agent for each in store.sessions.values()] == [CARL]


async def test_what_was_this_daemons_own_and_is_anothers_by_now_is_no_fault_of_the_store(buffer, store, of):
    buffer.of(ANNA).submit(of(ANNA))
    store.owners["anna"] = "third"
    with pytest.raises(StoreUnavailable):
        await buffer.flush_own()
    assert buffer.size == 1
    await buffer.flush_own()
    assert not buffer.late
    assert buffer.of(ANNA).oldest is not None


async def test_whose_it_is_is_looked_when_it_has_come_back(buffer, store, of, monkeypatch):
    monkeypatch.setattr(module, "SORT_S", 0.5)
    buffer.of(CARL).submit(of(CARL))
    for pause_s in (1.1, 0.6, 0.45):
        await buffer.flush_own()
        await asyncio.sleep(pause_s)
    del store.owners["carl"]
    await buffer.flush_own()
    assert buffer.size == 0
    assert len(store.sessions) == 1


async def test_of_two_agents_with_one_session_id_each_goes_to_whoever_has_it_by_now(buffer, store, of):
    dora = AgentId(INSTANCE, "dora")
    store.owners["dora"] = "third"
    session_id = of(CARL).session_id
    for agent in (CARL, dora):
        buffer.of(agent).submit(of(agent, session_id=session_id))
    with pytest.raises(NotHandedOn):
        await buffer.flush()
    del store.owners["dora"]
    with pytest.raises(NotHandedOn):
        await buffer.flush()
    assert [each.agent for each in store.sessions.values()] == [dora]


async def test_a_flush_tells_what_was_not_taken_for_as_long_as_it_waits(buffer, store, flushing, of):
    flushing()
    buffer.of(ANNA).submit(of(ANNA))
    buffer.of(CARL).submit(of(CARL))
    began = asyncio.get_running_loop().time()
    with pytest.raises(NotHandedOn):
        await buffer.flush()
    assert [each.agent for each in store.sessions.values()] == [ANNA]
    assert asyncio.get_running_loop().time() - began == pytest.approx(1.0, abs=0.01)
    for _ in range(20):
        began = asyncio.get_running_loop().time()
        with pytest.raises(NotHandedOn):
            await buffer.flush()
        # Whoever has not taken it once is not waited for again.
        assert asyncio.get_running_loop().time() == began
        await asyncio.sleep(0.1)
    store.silent = set()
    await asyncio.sleep(1.0 + FLUSH_S)
    await buffer.flush()
    assert {each.agent for each in store.sessions.values()} == {ANNA, CARL}


async def test_a_flush_waits_for_what_is_on_its_way(buffer, store, of):
    store.gate = asyncio.Event()
    buffer.of(BEN).submit(of(BEN))
    flush = asyncio.create_task(buffer.flush_own())
    await asyncio.sleep(0.1)
    assert flush.done()
    flush = asyncio.create_task(buffer.flush())
    buffer.of(BEN).submit(of(BEN, 2))
    await asyncio.sleep(0.1)
    assert not flush.done()
    store.gate.set()
    await flush
    assert len(store.sessions) == 2


async def test_a_flush_whose_beats_are_anothers_by_now_has_failed_all_the_same(buffer, store, of):
    """What was to be applied first may not be, and whoever waits for this flush acts on it."""
    buffer.of(CARL).submit(of(CARL))
    flush = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0.5)
    del store.owners["carl"]
    store.gate = asyncio.Event()
    (other,) = buffer._others.values()
    # Another one finds out whose it is before this one goes on.
    other.flush.add_done_callback(lambda _: buffer._begin())
    with pytest.raises(NotHandedOn):
        await flush
    assert buffer.size == 1
    assert not other.buffer.size


async def test_a_fault_of_the_store_goes_before_one_of_others(buffer, store, of):
    buffer.of(CARL).submit(of(CARL))
    buffer.submit(of(ANNA))
    store.broken = StoreUnavailable("disk full")
    with pytest.raises(StoreUnavailable, match="disk full") as told:
        await buffer.flush()
    assert not isinstance(told.value, NotHandedOn)
    with pytest.raises(StoreUnavailable, match="disk full"):
        await buffer.flush_own()


async def test_a_fault_of_our_own_is_not_kept_quiet(buffer, store, of):
    store.broken = RuntimeError("a bug")
    buffer.of(BEN).submit(of(BEN))
    await buffer.flush_own()
    await asyncio.sleep(0.1)
    with pytest.raises(RuntimeError):
        await buffer.flush_own()


async def test_of_a_batch_it_is_told_what_was_not_taken(buffer, store, of):
    beats = [of(agent) for agent in (ANNA, CARL, BEN)]
    first, lost, last = await buffer.apply(beats)
    assert (first.verdict, last.verdict) == (Verdict.OPENED, Verdict.OPENED)
    assert isinstance(lost, StoreUnavailable)
    await asyncio.sleep(0.1)
    began = asyncio.get_running_loop().time()
    _, lost, _ = await buffer.apply([of(ANNA), of(CARL, 2), of(BEN)])
    assert isinstance(lost, StoreUnavailable)
    # Whoever is late is not waited for, and whoever is late's was heard all the same.
    assert asyncio.get_running_loop().time() == began
    assert buffer.size == 2
    with pytest.raises(StoreUnavailable):
        await buffer.apply([of(CARL)])


async def test_of_a_batch_with_two_beats_of_a_session_nobody_else_is_waited_for(buffer, of):
    buffer.of(CARL).submit(of(CARL))
    began = asyncio.get_running_loop().time()
    replies = await buffer.apply([of(ANNA, seq=1), of(ANNA, seq=2)])
    assert [reply.verdict for reply in replies] == [Verdict.OPENED] * 2
    assert asyncio.get_running_loop().time() == began


async def test_of_a_batch_with_two_beats_of_a_session_it_is_told_what_was_not_taken(buffer, store, of):
    """Also where they wait for their turn, and are filed with whoever has them by then."""
    store.silent.add("fourth")
    buffer.of(CARL).submit(of(CARL))
    await buffer.flush_own()
    batch = asyncio.create_task(buffer.apply([of(ANNA), of(CARL, 2, seq=1), of(CARL, 2, seq=2)]))
    await asyncio.sleep(0)
    store.owners["carl"] = "fourth"
    # The flush ends at this moment, and the batch has not gone on yet.
    await asyncio.sleep(1.0)
    await buffer.flush_own()
    assert buffer.of(CARL).waiting or buffer.of(CARL).oldest is not None
    opened, *lost = await batch
    assert opened.verdict is Verdict.OPENED
    assert [type(each) for each in lost] == [StoreUnavailable] * 2


async def test_all_buffers_together_are_bounded(buffer, of):
    for number in range(3):
        buffer.of(CARL).submit(of(CARL, number))
    await buffer.flush_own()
    await asyncio.sleep(1.1)
    buffer.submit(of(ANNA))
    for agent in (ANNA, CARL, BEN):
        buffer._sort()
        with pytest.raises(StoreUnavailable, match="Too many"):
            buffer.of(agent).submit(of(agent, 9))


async def test_a_tear_goes_after_the_beats_of_its_session(buffer, store, of):
    beat = of(BEN, tether=1)
    buffer.of(BEN).submit(beat)
    buffer.tear(Tear(beat.session_id, 1, 10.0))
    store.gate = asyncio.Event()
    flush = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0.1)
    store.gate.set()
    await flush
    (session,) = store.sessions.values()
    assert session.expires_at - store.clock.observed == 10


async def test_a_tear_that_was_not_taken_goes_to_whoever_has_the_session_next(buffer, store, flushing, of):
    flushing()
    beat = of(CARL, tether=1)
    store.silent = set()
    buffer.of(CARL).submit(beat)
    await buffer.flush()
    store.silent = {"third"}
    buffer.tear(Tear(beat.session_id, 1, 10.0))
    await asyncio.sleep(1.5)
    assert not buffer.late
    assert not store.torn
    began = asyncio.get_running_loop().time()
    with pytest.raises(NotHandedOn):
        await buffer.flush()
    assert asyncio.get_running_loop().time() == began
    store.owners["carl"] = "second"
    store.silent = {"second"}
    await asyncio.sleep(1.5)
    store.silent = {"third"}
    await asyncio.sleep(1.3)
    assert len(store.torn) == 1
    await buffer.flush()


async def test_a_buffer_that_nobody_uses_is_dropped(buffer, store, of):
    buffer.of(BEN).submit(of(BEN))
    await buffer.flush()
    await asyncio.sleep(module.UNUSED_S)
    await buffer.flush()
    assert len(buffer._others) == 1
    await asyncio.sleep(0.1)
    await buffer.flush()
    assert not buffer._others


async def test_a_daemon_whose_beats_none_of_several_others_takes_is_cut_off(buffer, store, flushing, of):
    flushing()
    store.silent = {"second", "third"}
    for agent in (BEN, CARL):
        buffer.of(agent).submit(of(agent))
    # As long as they may be dead: then others have their parts.
    await asyncio.sleep(module.CUT_OFF_S)
    assert not buffer.cut_off
    await asyncio.sleep(0.1)
    assert buffer.cut_off
    store.silent = {"third"}
    await asyncio.sleep(1.0 + 2 * FLUSH_S)
    assert not buffer.cut_off


async def test_a_daemon_of_which_one_other_takes_beats_is_not_cut_off(buffer, store, flushing, of):
    flushing()
    store.owners["dora"] = "fourth"
    store.silent = {"third", "fourth"}
    for agent in (CARL, AgentId(INSTANCE, "dora")):
        buffer.of(agent).submit(of(agent))
    for number in range(int(12 * module.CUT_OFF_S)):
        buffer.of(BEN).submit(of(BEN, number % 2))
        await asyncio.sleep(0.1)
        assert not buffer.cut_off


async def test_what_is_nobodys_cuts_nobody_off(buffer, store, flushing, of):
    flushing()
    store.owners["ben"] = None
    for agent in (BEN, CARL):
        buffer.of(agent).submit(of(agent))
    await asyncio.sleep(2 * module.CUT_OFF_S)
    assert buffer.of(BEN).late
    assert not buffer.cut_off


async def test_with_one_other_that_takes_nothing_a_daemon_goes_on(buffer, store, flushing, of):
    flushing()
    buffer.of(CARL).submit(of(CARL))
    await asyncio.sleep(10 * module.CUT_OFF_S)
    assert buffer.of(CARL).late
    assert not buffer.cut_off


# Over HTTP.

THEIRS = "bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"


@pytest.fixture
async def world(make_world):
    return make_world(store=DividedStore(owners={THEIRS: "third"}, silent={"third"}))


def posted(user_id, number):
    named = {"agent": ARN} if user_id is None else {"instance_id": INSTANCE, "user_id": user_id}
    return {**named, "session_id": str(UUID(int=number))}


async def test_only_agents_of_whoever_does_not_answer_are_refused(world):
    refused = await world.post(posted(THEIRS, 1))
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:watchdog:problem:store")
    late = await world.post(posted(THEIRS, 1))
    assert (late.status_code, late.json()["type"]) == (503, "urn:watchdog:problem:late")
    for number in (2, 2, 3):
        answered = await world.post(posted(None, number))
        assert answered.json()["state"] == "live"
    assert world.counters.rejected["late"] == 1


async def test_what_is_answered_200_was_applied(world):
    for _ in range(4):
        assert (await world.post(posted(THEIRS, 1))).status_code == 503
    assert not world.store.sessions
    world.store.silent = set()
    await asyncio.sleep(1.2)
    flushing = asyncio.create_task(world.flush_always())
    await asyncio.sleep(0.5)
    flushing.cancel()
    assert len(world.store.sessions) == 1
    assert (await world.post(posted(THEIRS, 1))).status_code == 200


async def test_in_a_batch_they_are_listed(world):
    batch = {"heartbeats": [posted(None, 1), posted(THEIRS, 2), posted(None, 3)]}
    for _ in range(2):
        told = (await world.post(batch, path="/v1/heartbeats")).json()
        assert told["accepted"] == 2
        assert [each["index"] for each in told["rejected"]] == [1]
        assert "again" in told["rejected"][0]["detail"]
    assert world.counters.rejected["store"] == 2
    assert isinstance(world.store.sessions[UUID(int=1).bytes].agent, AgentId)
    alone = await world.post({"heartbeats": [posted(THEIRS, 2)]}, path="/v1/heartbeats")
    assert (alone.status_code, alone.json()["type"]) == (503, "urn:watchdog:problem:store")
