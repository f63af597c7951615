"""The coalescing buffer, in virtual time."""

import asyncio

import pytest

from watchdog.core.model import AgentId, BeatType, Boot, Epoch, Instant, Reply, Tear, Verdict
from watchdog.errors import StoreUnavailable
from watchdog.ingest import buffer as module
from watchdog.ingest.buffer import Buffer

pytestmark = pytest.mark.looptime

OTHER = AgentId("11111111-2222-3333-4444-555555555555", "other")


@pytest.fixture
def seen():
    return []


@pytest.fixture
async def buffer(store, seen):
    loop = asyncio.get_running_loop()
    return Buffer(
        store,
        lambda: Instant(Boot(loop.time()), Epoch(loop.time()), "boot"),
        loop.time,
        observe=seen.append,
        max_sessions=3,
    )


def session(number):
    return number.to_bytes(16, "big")


async def test_one_flush_applies_one_beat_for_each_session(buffer, store, a_beat):
    for seq in range(3):
        buffer.submit(a_beat(session_id=session(1), seq=seq))
        buffer.submit(a_beat(session_id=session(2), seq=seq))
    assert buffer.size == 2
    await buffer.flush()
    assert [[beat.seq for beat in beats] for beats in store.applied] == [[2, 2]]
    assert buffer.size == 0


async def test_beats_that_arrive_out_of_order_count_by_their_seq(buffer, store, a_beat):
    assert buffer.submit(a_beat(seq=7))
    assert not buffer.submit(a_beat(seq=6))
    await buffer.flush()
    assert [beat.seq for beat in store.applied[0]] == [7]


async def test_a_bye_is_not_hidden_by_a_beat_that_was_in_flight(buffer, store, a_beat):
    buffer.submit(a_beat(type=BeatType.BYE, ttl=0.0, seq=3))
    assert not buffer.submit(a_beat(seq=4))
    await buffer.flush()
    assert [beat.type for beat in store.applied[0]] == [BeatType.BYE]


async def test_all_who_wait_for_a_session_get_the_reply_of_what_was_flushed(buffer, a_beat):
    bye = buffer.expect(a_beat(type=BeatType.BYE, ttl=0.0, seq=3))
    beat = buffer.expect(a_beat(seq=2))
    await asyncio.sleep(0.1)
    assert not bye.done()
    assert not beat.done()
    await buffer.flush()
    assert await bye == await beat == Reply(Verdict.CLOSED, live=False, left_s=0.0)


async def test_a_waiter_who_left_disturbs_nobody(buffer, a_beat):
    gone = buffer.expect(a_beat())
    stays = buffer.expect(a_beat())
    await asyncio.sleep(0)
    gone.cancel()
    await buffer.flush()
    assert (await stays).verdict is Verdict.OPENED


async def test_what_a_failed_flush_took_waits_again_under_what_came_meanwhile(buffer, store, a_beat):
    store.gate = asyncio.Event()
    store.broken = StoreUnavailable("disk full")
    buffer.submit(a_beat(session_id=session(1), seq=1))
    buffer.submit(a_beat(session_id=session(2), seq=1))
    flush = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0.1)
    buffer.submit(a_beat(session_id=session(3), seq=1))
    buffer.submit(a_beat(session_id=session(2), seq=2))
    store.gate.set()
    with pytest.raises(StoreUnavailable):
        await flush
    assert not buffer.last_ok
    store.broken = None
    await buffer.flush()
    assert buffer.last_ok
    assert [(beat.session_id, beat.seq) for beat in store.applied[0]] == [
        (session(1), 1),
        (session(2), 2),
        (session(3), 1),
    ]


@pytest.fixture
async def large(store):
    """A buffer that holds more than one call of the store applies."""
    loop = asyncio.get_running_loop()
    return Buffer(store, lambda: Instant(Boot(loop.time()), Epoch(loop.time()), "boot"), loop.time)


async def test_a_large_flush_is_applied_in_parts_and_others_run_between_them(large, store, a_beat):
    for number in range(4 * module.APPLIED):
        large.submit(a_beat(session_id=session(number)))
    seen = []

    async def others():
        while not flush.done():
            seen.append(len(store.applied))
            await asyncio.sleep(0)

    flush = asyncio.create_task(large.flush())
    await others()
    assert [len(beats) for beats in store.applied] == [module.APPLIED] * 4
    assert {1, 2, 3} <= set(seen)


async def test_on_a_loop_that_is_never_idle_the_parts_of_a_flush_are_larger(store, a_beat):
    elapsed = [0.0]
    busy = Buffer(store, lambda: Instant(Boot(elapsed[0]), Epoch(elapsed[0]), "boot"), lambda: elapsed[0])
    for number in range(18 * module.APPLIED):
        busy.submit(a_beat(session_id=session(number)))
    flush = asyncio.create_task(busy.flush())
    turns_s = iter((0.0, 3.5 * module.TURN_S, 3.5 * module.TURN_S, 1.0, 0.0))
    seen = 0
    while not flush.done():
        if len(store.applied) > seen:
            seen = len(store.applied)
            elapsed[0] += next(turns_s)
        await asyncio.sleep(0)
    parts = [len(beats) / module.APPLIED for beats in store.applied]
    assert parts == [1, 1, 4, 4, 8]


async def test_whoever_came_first_with_a_session_has_it_however_large_the_flush(large, store, a_beat):
    for number in range(2 * module.APPLIED):
        large.submit(a_beat(session_id=session(number)))
    last = session(2 * module.APPLIED - 1)
    rival = large.expect(a_beat(session_id=last, agent=OTHER))
    await large.flush()
    assert (await rival).verdict is Verdict.FOREIGN
    assert store.sessions[last].agent != OTHER


async def test_parts_that_were_applied_are_not_applied_again_when_a_later_one_fails(large, store, a_beat):
    waiting = [large.expect(a_beat(session_id=session(number))) for number in range(2 * module.APPLIED)]
    flush = asyncio.create_task(large.flush())
    while not store.applied:
        await asyncio.sleep(0)
    store.faults.append(StoreUnavailable("disk full"))
    with pytest.raises(StoreUnavailable):
        await flush
    assert large.size == module.APPLIED
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(each, Reply) for each in told] == [True] * module.APPLIED + [False] * module.APPLIED


async def test_who_waits_for_a_flush_that_fails_is_told(buffer, store, a_beat):
    store.broken = StoreUnavailable("disk full")
    first = buffer.expect(a_beat())
    rival = buffer.expect(a_beat(agent=OTHER))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await buffer.flush()
    for waiting in (first, rival):
        with pytest.raises(StoreUnavailable, match="disk full"):
            await waiting
    assert buffer.size == 2


async def test_a_fault_of_the_store_itself_loses_nothing_either(buffer, store, a_beat):
    store.broken = RuntimeError("a bug")
    waiting = buffer.expect(a_beat())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await buffer.flush()
    with pytest.raises(StoreUnavailable):
        await waiting
    assert buffer.size == 1


async def test_a_flush_that_is_cancelled_loses_nothing_and_the_next_one_answers(buffer, store, a_beat):
    store.gate = asyncio.Event()
    waiting = buffer.expect(a_beat())
    flush = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0.1)
    flush.cancel()
    await asyncio.wait([flush])
    store.gate.set()
    await buffer.flush()
    assert (await waiting).verdict is Verdict.OPENED


async def test_who_came_during_a_flush_that_was_cancelled_is_answered_with_those_who_waited(buffer, store, a_beat):
    store.gate = asyncio.Event()
    before = buffer.expect(a_beat(seq=1))
    flush = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0.1)
    during = buffer.expect(a_beat(seq=2))
    await asyncio.sleep(0.1)
    flush.cancel()
    await asyncio.wait([flush])
    store.gate.set()
    await buffer.flush()
    done, _ = await asyncio.wait([before, during], timeout=1)
    assert [task.result().verdict for task in done] == [Verdict.OPENED] * 2


async def test_a_flush_returns_only_when_all_that_came_before_its_call_is_applied(buffer, store, a_beat):
    store.gate = asyncio.Event()
    buffer.submit(a_beat(session_id=session(1)))
    running = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0.1)
    buffer.submit(a_beat(session_id=session(2)))
    called = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0.1)
    assert not called.done()
    store.gate.set()
    await called
    assert running.done()
    assert [len(beats) for beats in store.applied] == [1, 1]
    assert set(store.sessions) == {session(1), session(2)}


async def test_a_call_during_a_flush_that_fails_flushes_what_that_one_gave_back(buffer, store, a_beat):
    store.gate = asyncio.Event()
    store.faults = [StoreUnavailable("away")]
    buffer.submit(a_beat(session_id=session(1)))
    running = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0)
    called = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0)
    store.gate.set()
    with pytest.raises(StoreUnavailable):
        await running
    await called
    assert set(store.sessions) == {session(1)}


async def test_a_buffer_is_late_when_its_oldest_beat_has_waited_for_more_than_a_second(buffer, a_beat):
    assert not buffer.late
    buffer.submit(a_beat(seq=1))
    await asyncio.sleep(0.9)
    buffer.submit(a_beat(seq=2))
    await asyncio.sleep(0.1)
    assert not buffer.late
    await asyncio.sleep(0.001)
    assert buffer.late
    await buffer.flush()
    assert not buffer.late


async def test_a_buffer_is_late_while_a_flush_hangs_and_after_one_that_failed(buffer, store, a_beat):
    store.gate = asyncio.Event()
    buffer.submit(a_beat())
    flush = asyncio.create_task(buffer.flush())
    await asyncio.sleep(1.1)
    assert buffer.late
    store.broken = StoreUnavailable("away")
    store.gate.set()
    await asyncio.wait([flush])
    assert isinstance(flush.exception(), StoreUnavailable)
    assert buffer.late
    store.broken = None
    await buffer.flush()
    assert not buffer.late


async def test_two_agents_with_one_session_id_do_not_push_each_other_out(buffer, store, a_beat):
    mine = buffer.expect(a_beat())
    await asyncio.sleep(0)
    assert not buffer.submit(a_beat(agent=OTHER, seq=1))
    assert not buffer.submit(a_beat(agent=OTHER, seq=2))
    theirs = buffer.expect(a_beat(agent=OTHER, seq=3))
    await asyncio.sleep(0)
    await buffer.flush()
    assert (await mine).verdict is Verdict.OPENED
    assert (await theirs).verdict is Verdict.FOREIGN
    assert [[beat.seq for beat in beats] for beats in store.applied] == [[None], [3]]


async def test_agents_who_share_one_session_id_cannot_fill_the_buffer(buffer, a_beat):
    buffer.submit(a_beat())
    for number in range(module.MAX_RIVALS):
        buffer.submit(a_beat(agent=AgentId("i", str(number))))
    reply = await buffer.expect(a_beat(agent=OTHER))
    assert reply.verdict is Verdict.FOREIGN
    assert buffer.size == 1 + module.MAX_RIVALS


async def test_a_full_buffer_takes_known_sessions_only(buffer, a_beat):
    for number in range(3):
        buffer.submit(a_beat(session_id=session(number), seq=1))
    with pytest.raises(StoreUnavailable, match="Too many"):
        buffer.submit(a_beat(session_id=session(4)))
    assert buffer.submit(a_beat(session_id=session(0), seq=2))


async def test_the_duration_of_each_flush_is_told(buffer, store, a_beat, seen):
    store.gate = asyncio.Event()
    buffer.submit(a_beat())
    flush = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0.3)
    store.gate.set()
    await flush
    assert seen == [pytest.approx(0.3)]
    assert buffer.last_flush_s == pytest.approx(0.3)
    await buffer.flush()
    assert len(seen) == 1


async def test_a_tear_is_applied_after_all_beats_of_its_flush_whenever_they_came(buffer, store, a_beat):
    buffer.submit(a_beat(tether=1))
    buffer.tear(Tear(a_beat().session_id, 1, 10.0))
    await buffer.flush()
    (session,) = store.sessions.values()
    assert session.expires_at - store.clock.observed == 10
    buffer.submit(a_beat(tether=2))
    buffer.tear(Tear(a_beat().session_id, 2, 10.0))
    buffer.submit(a_beat())
    await buffer.flush()
    (session,) = store.sessions.values()
    assert session.expires_at - store.clock.observed == 35


async def test_a_tear_alone_is_flushed_once(buffer, store, a_beat):
    buffer.tear(Tear(a_beat().session_id, 1, 10.0))
    await buffer.flush()
    await buffer.flush()
    assert len(store.torn) == 1
    assert store.applied == []


async def test_tears_of_a_flush_that_fails_or_is_cancelled_wait_for_the_next(buffer, store, a_beat):
    buffer.submit(a_beat(tether=1))
    buffer.tear(Tear(a_beat().session_id, 1, 10.0))
    store.faults = [StoreUnavailable("down")]
    with pytest.raises(StoreUnavailable):
        await buffer.flush()
    store.gate = asyncio.Event()
    flush = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0.1)
    buffer.tear(Tear(bytes(16), 2, 10.0))
    flush.cancel()
    await asyncio.wait([flush])
    assert store.torn == []
    store.gate = None
    await buffer.flush()
    assert [each.tether for each in store.torn] == [1, 2]


async def test_a_store_that_fails_between_beats_and_tears_gets_the_tears_again(buffer, store, a_beat):
    waiter = buffer.expect(a_beat(tether=1))
    buffer.tear(Tear(a_beat().session_id, 1, 10.0))
    given = store.apply

    async def apply(beats, instant):
        replies = await given(beats, instant)
        store.faults = [StoreUnavailable("down")]
        return replies

    store.apply = apply
    with pytest.raises(StoreUnavailable):
        await buffer.flush()
    assert (await waiter).live
    assert not buffer.last_ok
    await buffer.flush()
    assert buffer.last_ok
    assert len(store.applied) == 1
    assert len(store.torn) == 1


async def test_of_two_beats_the_socket_counts_that_carried_the_one_which_counts(buffer, store, a_beat):
    buffer.submit(a_beat(tether=1, seq=5))
    buffer.submit(a_beat(seq=4))
    await buffer.flush()
    assert [beat.tether for beat in store.applied[0]] == [1]


async def test_beats_that_are_applied_at_once_come_after_what_waits(large, store, a_beat):
    large.submit(a_beat(session_id=session(1), seq=1))
    beats = [a_beat(session_id=session(number), seq=2) for number in range(module.APPLIED + 1)]
    replies = await large.apply(beats)
    assert [reply.verdict for reply in replies] == [Verdict.OPENED, Verdict.RENEWED] + [Verdict.OPENED] * (
        module.APPLIED - 1
    )
    assert [len(beats) for beats in store.applied] == [1, module.APPLIED, 1]
    assert large.size == 0


async def test_beats_that_cannot_be_applied_at_once_wait_under_newer_ones(buffer, store, a_beat):
    store.gate = asyncio.Event()
    applying = asyncio.create_task(buffer.apply([a_beat(session_id=session(number), seq=1) for number in (1, 2)]))
    await asyncio.sleep(1.1)
    assert buffer.late
    buffer.submit(a_beat(session_id=session(1), seq=2))
    store.broken = StoreUnavailable("away")
    store.gate.set()
    await asyncio.wait([applying])
    assert isinstance(applying.exception(), StoreUnavailable)
    assert buffer.size == 2
    assert buffer.late
    store.broken = None
    await buffer.flush()
    assert not buffer.late
    assert [[beat.seq for beat in beats] for beats in store.applied] == [[2, 1]]


async def test_only_what_is_not_applied_yet_waits(buffer, store, a_beat):
    store.faults = [StoreUnavailable("away")]
    buffer.submit(a_beat(session_id=session(0)))
    with pytest.raises(StoreUnavailable):
        await buffer.apply([a_beat(session_id=session(1))])
    assert buffer.size == 2
    await buffer.flush()
    assert [len(beats) for beats in store.applied] == [2]


async def test_of_several_beats_of_one_session_one_is_applied_and_all_are_answered(buffer, store, a_beat):
    replies = await buffer.apply([a_beat(seq=1), a_beat(seq=3), a_beat(seq=2), a_beat(agent=OTHER)])
    assert [reply.verdict for reply in replies] == [Verdict.OPENED] * 3 + [Verdict.FOREIGN]
    assert [[beat.seq for beat in beats] for beats in store.applied] == [[3], [None]]


async def test_a_full_buffer_takes_no_batch(buffer, a_beat):
    with pytest.raises(StoreUnavailable, match="Too many"):
        await buffer.apply([a_beat(session_id=session(number)) for number in range(4)])
    assert buffer.size == 0
