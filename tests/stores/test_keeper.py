"""The keeper of the clock and the brakes, whatever becomes of what it publishes; on virtual time, with the simulator's
server.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.world import RULES, TICK, TIMER, TTL
from tests.stores.daemons import AGENTS, play
from watchdog.core.brake import Exit
from watchdog.errors import StoreUnavailable
from watchdog.simulation.valkey import ANSWER_S
from watchdog.stores.bus import inbox
from watchdog.stores.keeper import Shared, shared_in, shared_out
from watchdog.stores.one_part import Given

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.stores.daemons import Asked, Daemons
    from watchdog.stores.valkey_server import Call

ALL_PART, META = "{wd:all}:part", b"{wd:all}:meta"


def is_note(calls: Sequence[Call]) -> bool:
    return calls[0][0] == "note"


def number(calls: Sequence[Call]) -> int:
    """Of how the brakes stand by what is to be published."""
    (shared,) = [each for each in calls[0][2] if isinstance(each, bytes) and each.startswith(b'{"given":')]
    return shared_in(shared).given.number


def lose_next(daemons: Daemons, *, applied: bool) -> list[float]:
    """The keeper's next news of the brakes is not answered. Returns when that was, as soon as it has been."""
    before = daemons.keeper._shared.given.number
    connection, lost = daemons.connections[daemons.keeper.name], list[float]()

    async def steer(calls: Sequence[Call], ask: Asked) -> list[list[bytes]]:
        if lost or not is_note(calls) or number(calls) == before:
            return await ask(calls)
        lost.append(asyncio.get_running_loop().time())
        if applied:
            await ask(calls)
        await asyncio.sleep(ANSWER_S)
        raise StoreUnavailable("It has not answered.")

    connection.steer = steer
    return lost


@pytest.mark.parametrize("more_s", [0.05, 0.2, 0.4, 0.6, 1.0])
def test_an_order_while_the_server_hangs_leaves_brakes_that_judge(more_s: float) -> None:
    async def story(daemons: Daemons) -> None:
        daemons.server.stop()
        with pytest.raises(StoreUnavailable):
            await daemons.order(for_s=5.0)
        await asyncio.sleep(more_s)
        daemons.server.go_on()
        await daemons.judge()

    play(story)


@pytest.mark.parametrize("applied", [True, False])
def test_an_order_that_is_not_answered_leaves_brakes_that_judge(*, applied: bool) -> None:
    async def story(daemons: Daemons) -> None:
        lost = lose_next(daemons, applied=applied)
        with pytest.raises(StoreUnavailable):
            await daemons.order(for_s=5.0)
        assert lost
        await daemons.judge()

    play(story)


@pytest.mark.parametrize("applied", [True, False])
def test_a_trip_that_is_not_answered_is_in_force_with_all_and_told_once(*, applied: bool) -> None:
    async def story(daemons: Daemons) -> None:
        keeper = daemons.keeper
        lost = lose_next(daemons, applied=applied)
        told: list[Any] = []
        tick = keeper.tick

        async def heard(*args: Any, **more: Any) -> Any:
            found = await tick(*args, **more)
            told.extend(found.changes)
            return found

        keeper.tick = heard  # type: ignore[method-assign]
        await daemons.judge()
        assert lost
        assert [change.before for change in told] == ["clear"]

    play(story)


def test_an_order_and_a_tick_at_one_time_are_both_kept() -> None:
    async def story(daemons: Daemons) -> None:
        """The tick's publishing is late on its way, and the order's answer on its way back."""
        keeper = daemons.keeper
        ticks, ordered, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()
        seen = 0

        async def steer(calls: Sequence[Call], ask: Asked) -> list[list[bytes]]:
            nonlocal seen
            seen += is_note(calls)
            if is_note(calls) and seen == 1:
                ticks.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ordered.wait(), 1.0)
                found = await ask(calls)
                answered.set()
                return found
            if is_note(calls) and seen == 2:
                found = await ask(calls)
                ordered.set()
                await answered.wait()
                return found
            return await ask(calls)

        daemons.connections[keeper.name].steer = steer
        await ticks.wait()
        await daemons.order(reason="kept")
        await asyncio.sleep(2.0)
        assert [store._shared.given.orders["all"].reason for store in daemons.stores] == ["kept"] * 3

    play(story)


def test_orders_at_any_time_are_all_kept() -> None:
    async def story(daemons: Daemons) -> None:
        rng = random.Random(0)
        daemons.connections[daemons.keeper.name]._way.slow_s = 0.1
        for at in range(100):
            await asyncio.sleep(rng.uniform(0.0, TICK))
            await daemons.order(hold=at % 2 == 0, reason=f"order {at}")
            await asyncio.sleep(rng.choice((0.0, 0.6)))
            assert daemons.keeper._shared.given.orders["all"].reason == f"order {at}"
        await asyncio.sleep(1.0)
        assert len(set(daemons.numbers)) == 1

    play(story)


def test_what_is_late_on_its_way_does_not_come_through_after_it_was_given_up() -> None:
    async def story(daemons: Daemons) -> None:
        keeper, before = daemons.keeper, daemons.keeper._shared.given.number
        late: list[asyncio.Task[Any]] = []

        async def steer(calls: Sequence[Call], ask: Asked) -> list[list[bytes]]:
            if late or not is_note(calls) or number(calls) == before:
                return await ask(calls)

            async def later() -> list[list[bytes]]:
                await asyncio.sleep(2 * ANSWER_S)
                return await ask(calls)

            late.append(asyncio.create_task(later()))
            await asyncio.sleep(ANSWER_S)
            raise StoreUnavailable("It has not answered.")

        daemons.connections[keeper.name].steer = steer
        with pytest.raises(StoreUnavailable):
            await daemons.order()
        await asyncio.sleep(3 * ANSWER_S)
        assert late[0].result()[0][0] == b"FENCED"
        assert not any(store._shared.given.orders for store in daemons.stores)
        await daemons.judge()

    play(story)


def test_whoever_takes_over_goes_on_with_an_order_that_was_confirmed_a_moment_before() -> None:
    async def story(daemons: Daemons) -> None:
        keeper = daemons.keeper
        (other,) = [store for store in daemons.stores if store is not keeper]
        taking = asyncio.Event()
        daemons.server.away.add(inbox(other.name))
        part = daemons.server.model.data[ALL_PART.encode()]

        async def steer(calls: Sequence[Call], ask: Asked) -> list[list[bytes]]:
            if calls[0][:2] == ("take", [ALL_PART]) and not taking.is_set():
                # It has seen that the part is nobody's. A moment before it takes it the old keeper goes on.
                part[b"until"] = b"%d" % (daemons.server.now_ms() + 1_000)
                await daemons.order(reason="confirmed")
                part[b"until"] = b"0"
                taking.set()
            return await ask(calls)

        daemons.connections[other.name].steer = steer
        for task in daemons.tasks[keeper.name]:
            task.cancel()
        part[b"until"] = b"0"
        await taking.wait()
        await asyncio.sleep(0.5)
        assert other._keeper is not None
        assert other._shared.given.orders["all"].reason == "confirmed"

    play(story, count=2)


def test_no_number_is_told_twice() -> None:
    """The server does what is not answered, tells it to all, and loses it; at once another order comes."""

    async def story(daemons: Daemons) -> None:
        meta = daemons.server.model.data[META]
        old = meta[b"shared"]
        lose_next(daemons, applied=True)
        with pytest.raises(StoreUnavailable):
            await daemons.order()
        meta[b"shared"] = old
        told = max(daemons.numbers)
        assert told > shared_in(old).given.number
        await daemons.order(hold=False)
        assert daemons.keeper._shared.given.number > told

    play(story)


@pytest.mark.parametrize("leaving", [{}, {"all": Exit.DUE}])
def test_a_keeper_that_knows_less_than_others_have_been_told_goes_above_it(leaving: dict[str, Exit]) -> None:
    """The server has lost what the others go by, and whoever keeps the clock next has never heard of it."""

    async def story(daemons: Daemons) -> None:
        meta = daemons.server.model.data[META]
        old = shared_out(Shared(Given(leaving=leaving)))
        await daemons.order(reason="lost")
        daemons.beating = False
        await asyncio.sleep(TTL + TIMER + 1.0)
        keeper = daemons.keeper
        assert [store._shared.view.held for store in daemons.stores] == [len(AGENTS)] * 3
        told = daemons.numbers[0]
        await daemons.die(keeper)
        meta[b"shared"] = old
        assert shared_in(old).given.number < told

        async def steer(calls: Sequence[Call], ask: Asked) -> list[list[bytes]]:
            if calls[0][:2] == ("take", [ALL_PART]):
                raise StoreUnavailable("It is nobody else's turn.")
            return await ask(calls)

        for store in daemons.stores:
            daemons.connections[store.name].steer = steer
        newcomer = await daemons.start()
        await asyncio.sleep(6.0)
        assert newcomer._keeper is not None
        assert len(set(daemons.numbers)) == 1
        assert daemons.numbers[0] > told
        # Nobody knows any more that they were held: they have a fresh lease and a fresh timer.
        await asyncio.sleep(TTL - 10.0)
        assert not daemons.due
        daemons.beating = True
        await asyncio.sleep(10.0)
        await daemons.judge()

    play(story)


async def something(daemons: Daemons, rng: random.Random, saved: list[Any]) -> None:
    """An order, or a fault of the daemons or the server."""
    match rng.choice(["order"] * 8 + ["stop", "die", "save", "fail over"]):
        case "order":
            store, group = rng.choice(daemons.stores), rng.choice(["all", "i"])
            hold, for_s = rng.random() < 0.5, rng.choice((1.0, 600.0))
            with contextlib.suppress(StoreUnavailable):
                await store.order(group, hold=hold, for_s=for_s, reason="", instant=daemons.instant)
        case "stop" if not daemons.server.stopped:
            daemons.server.stop()
            asyncio.get_running_loop().call_later(rng.uniform(1.0, 3.0), daemons.server.go_on)
        case "die" if len(daemons.stores) > 1:
            await daemons.die(rng.choice(daemons.stores))
            with contextlib.suppress(StoreUnavailable):
                await daemons.start()
        case "save":
            saved[:] = [daemons.server.model.saved()]
        case "fail over" if saved:
            daemons.server.model.restore(*saved)


def test_beats_of_before_prove_no_path() -> None:
    """Whoever takes over, and whoever hears a daemon again, does not know when those came that it has counted."""

    async def story(daemons: Daemons) -> None:
        proven: list[int] = []
        await daemons.order()
        await asyncio.sleep(30.0)
        await daemons.die(daemons.keeper)
        daemons.beating = False
        await asyncio.sleep(6.0)
        assert all(sum(store._beats.values()) > 0 for store in daemons.stores)
        (quiet,) = [store for store in daemons.stores if store is not daemons.keeper]
        for _ in range(2):
            proven.append(daemons.keeper._shared.given.brakes["all"].proof.beats)
            daemons.connections[quiet.name]._way.cut += 1
            await asyncio.sleep(2.6)
            daemons.connections[quiet.name]._way.cut -= 1
            await asyncio.sleep(3.0)
        assert proven == [0, 0]

    play(story)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.long if seed > 1 else ()) for seed in range(20)])
def test_whatever_happens_all_agree_again_how_the_brakes_stand(seed: int) -> None:
    """Orders from any daemon while commands and answers are lost, the server hangs or forgets, and daemons die."""

    async def story(daemons: Daemons) -> None:
        rng, saved = random.Random(seed), list[Any]()
        for _ in range(4):
            for connection in daemons.connections.values():
                connection._way.lost = rng.choice((0.1, 0.3))
                connection._way.slow_s = rng.choice((0.0, 0.3))
            await asyncio.gather(*(something(daemons, rng, saved) for _ in range(rng.randint(1, 4))))
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            await something(daemons, rng, saved)
            for connection in daemons.connections.values():
                connection._way.lost = connection._way.slow_s = 0.0
            await asyncio.sleep(RULES.clock.resume_grace_s + 15.0)
            assert len(set(daemons.numbers)) == 1, daemons.numbers
            told = [store._shared.given.brakes.keys() for store in daemons.stores]
            assert all(each == told[0] for each in told)
            keeper = daemons.keeper
            assert keeper._keeper is not None
            assert keeper._keeper._summed(keeper.entries) is not None, "silence is judged"

    play(story)
