"""Virtual time: the clock jumps, a process can be stopped, and its tasks are known."""

from __future__ import annotations

import asyncio
import time

import pytest

from watchdog.simulation.loop import NothingLeft, Owner, run, spawn


def test_a_day_passes_at_once_and_in_order():
    async def day():
        loop = asyncio.get_running_loop()
        seen = []

        async def hourly(name, offset):
            await asyncio.sleep(offset)
            for _ in range(3):
                seen.append((loop.time(), name))
                await asyncio.sleep(3600)

        await asyncio.gather(hourly("b", 2.0), hourly("a", 1.0))
        await asyncio.sleep(86_400)
        return seen, loop.time()

    began = time.monotonic()
    seen, ended = run(day())
    assert seen == [(1, "a"), (2, "b"), (3601, "a"), (3602, "b"), (7201, "a"), (7202, "b")]
    assert ended == pytest.approx(10_802 + 86_400)
    assert time.monotonic() - began < 5


def test_a_stopped_process_runs_afterwards_what_became_ready_meanwhile():
    async def story():
        loop, owner, seen = asyncio.get_running_loop(), Owner(), []

        async def work():
            while True:
                seen.append(loop.time())
                await asyncio.sleep(1)

        task = spawn(work(), owner)
        await asyncio.sleep(2.5)
        owner.pause()
        await asyncio.sleep(10)
        assert seen == [0, 1, 2]
        owner.resume()
        await asyncio.sleep(1.2)
        task.cancel()
        return seen

    assert run(story()) == [0, 1, 2, 12.5, 13.5]


def test_a_timer_that_was_cancelled_before_the_process_goes_on_does_not_fire():
    async def story():
        owner, seen = Owner(), []

        async def work():
            ready = asyncio.Event()
            asyncio.get_running_loop().call_later(1.0, ready.set)
            late = asyncio.get_running_loop().call_later(2.0, seen.append, "late")
            await ready.wait()
            late.cancel()

        spawn(work(), owner)
        await asyncio.sleep(0.5)
        owner.pause()
        await asyncio.sleep(5)
        owner.resume()
        await asyncio.sleep(5)
        return seen

    # Both timers were over when it went on; they fire in their order, as timers of a real loop do.
    assert run(story()) in ([], ["late"])


def test_the_tasks_of_a_process_are_known_and_those_of_others_are_not():
    async def story():
        owner = Owner()

        async def child():
            await asyncio.sleep(100)

        async def parent():
            await asyncio.gather(asyncio.create_task(child()), asyncio.create_task(child()))

        other = spawn(child())
        spawn(parent(), owner)
        await asyncio.sleep(1)
        assert len(owner.tasks) == 3
        assert other not in owner.tasks
        for task in list(owner.tasks):
            task.cancel()
        await asyncio.gather(*owner.tasks, return_exceptions=True)
        await asyncio.sleep(0)
        return len(owner.tasks), other.cancelled()

    assert run(story()) == (0, False)


def test_waiting_for_what_never_comes_is_told():
    async def story():
        await asyncio.Event().wait()

    with pytest.raises(NothingLeft):
        run(story())
