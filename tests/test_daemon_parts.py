"""The daemon's loops, health and jobs, with the real store, buffer and dispatcher; only Connect is the stand-in."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog

from tests.connect.world import DirectClient, instant
from tests.connect.world import Metrics as Observer
from tests.contract.world import ANNA, BRAKED, INSTANCE, RULES, TIMER, TTL, session
from tests.ingest.certificates import put, write
from tests.telemetry.test_eventbridge import ARN, Aws, Inline, refusal
from watchdog import daemon
from watchdog.canary import Canary
from watchdog.connect.api import Instance
from watchdog.connect.circuit import Problem
from watchdog.connect.dispatcher import Dispatcher, DispatcherConfig
from watchdog.connect.reconcile import ReconcileRules
from watchdog.core.canary import rules as canary_rules
from watchdog.core.clock import Cause
from watchdog.core.model import AgentId, AgentState, Beat, BeatType, Epoch
from watchdog.core.policy import plain
from watchdog.errors import StoreUnavailable
from watchdog.health import STUCK_S, Health
from watchdog.ingest import canary as canary_message
from watchdog.ingest.arrivals import Arrivals
from watchdog.ingest.auth import Tickets
from watchdog.ingest.buffer import Buffer
from watchdog.ingest.connections import Connections
from watchdog.ingest.refusals import Refusals
from watchdog.ingest.sorted_buffer import CUT_OFF_S, HERE, SortedBuffer
from watchdog.ingest.tls import Certificate
from watchdog.jobs import Jobs
from watchdog.loops import FLUSH_S, MAX_PULSE_S, PULSE_S, SWEEP_S, Loops, RunningTime
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import Fault, FaultKind
from watchdog.sandbox.seed import seed
from watchdog.sandbox.world import DEFAULT_ACCOUNT, DEFAULT_REGION
from watchdog.settings import Settings
from watchdog.stores.base import MemoryUse, RowsLost
from watchdog.stores.disk import Batch, InlineDisk
from watchdog.stores.sqlite import SqliteStore
from watchdog.telemetry.eventbridge import EventBridge
from watchdog.telemetry.metrics import Metrics
from watchdog.telemetry.notify import Notifier
from watchdog.telemetry.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from watchdog.core.model import Action, Instant, Reply

ENVIRONMENT = {"WATCHDOG_INSTANCES": INSTANCE, "WATCHDOG_HEARTBEAT_TOKENS": "a-token"}


class SwitchDisk(InlineDisk):
    """A disk that can be full."""

    full = False

    async def write(self, batch: Batch) -> None:
        if SwitchDisk.full:
            raise StoreUnavailable("The disk is full: make room.")
        await super().write(batch)


@dataclass
class Parts:
    """Everything but the server and the process. Each test opens the store, since its time begins there."""

    settings: Settings
    store: SqliteStore
    buffer: Buffer
    health: Health
    metrics: Metrics
    dispatcher: Dispatcher
    loops: Loops
    jobs: Jobs
    model: ConnectModel


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    SwitchDisk.full = False
    loop = asyncio.get_running_loop()
    settings = Settings.load(ENVIRONMENT)
    store = SqliteStore(tmp_path / "watchdog.db", BRAKED, SwitchDisk)
    metrics = Metrics("0")
    buffer = Buffer(store, instant, loop.time)
    health = Health(settings, "boot", store=store, buffer=buffer, metrics=metrics, now=instant, time=loop.time)
    model = ConnectModel(lambda: instant().epoch)
    seed(model, instance_id=INSTANCE)
    model.add_user(INSTANCE, "anna", user_id=ANNA.user_id, status="Available")
    dispatcher = health.dispatcher = Dispatcher(
        store,
        DirectClient(model, {INSTANCE: (DEFAULT_ACCOUNT, DEFAULT_REGION)}),
        [Instance(INSTANCE, DEFAULT_REGION)],
        DispatcherConfig("me", (plain(5.0),), RULES.quota),
        now=instant,
        random=lambda: 0.5,
        flush=buffer.flush,
        record=metrics.action,
        observer=Observer(),
    )
    loops = Loops("me", store=store, buffer=buffer, dispatcher=dispatcher, health=health, metrics=metrics, now=instant)
    jobs = Jobs(settings, store, dispatcher.directory, health, instant)
    yield Parts(settings, store, buffer, health, metrics, dispatcher, loops, jobs, model)
    await dispatcher.drain(0.1)
    await store.close()


def beat(kind: BeatType = BeatType.BEAT) -> Beat:
    return Beat(ANNA, session(1), kind, ttl=0.0 if kind is BeatType.BYE else TTL)


async def sweeps(parts: Parts, seconds: float) -> None:
    for _ in range(round(seconds / SWEEP_S)):
        await asyncio.sleep(SWEEP_S)
        await parts.loops.sweep()


@pytest.mark.looptime
async def test_a_receiver_that_takes_nothing_for_five_minutes_is_a_problem(parts: Parts) -> None:
    await parts.store.open(instant())
    status = 500
    hook = Webhook(
        "http://127.0.0.1/hook-of-somebody",
        [f"whsec_{'A' * 32}"],
        epoch=lambda: instant().epoch,
        transport=httpx.MockTransport(lambda _: httpx.Response(status)),
        resolve=_nowhere,
    )
    notifier = parts.health.notifier = Notifier(
        [hook],
        parts.store,
        problems=parts.health.problems,
        epoch=lambda: instant().epoch,
        random=lambda: 1.0,
        count=parts.metrics.notified,
    )
    notifying = asyncio.create_task(notifier.run())
    parts.health.unreadable = ["a row"]
    await asyncio.sleep(295)
    assert [problem.code for problem in parts.health.problems()] == ["store_rows_unreadable"]
    await asyncio.sleep(10)
    (_, problem) = parts.health.problems()
    assert problem.code == "notify_failing"
    assert "URL 1 " in problem.detail
    assert "500" in problem.detail
    assert "hook" not in problem.detail
    assert not parts.health.well()
    status = 204
    await asyncio.sleep(70)
    assert len(parts.health.problems()) == 1
    # Began twice and ended once: that of the receiver, too.
    assert parts.metrics.notifications["delivered"] == 3
    notifying.cancel()
    await asyncio.gather(notifying, return_exceptions=True)


@pytest.mark.looptime
async def test_a_bus_that_refuses_us_is_a_problem_at_once_and_in_the_metrics(parts: Parts) -> None:
    await parts.store.open(instant())
    parts.metrics.problems = lambda: [problem.code for problem in parts.health.problems()]
    aws = Aws(down=refusal("AccessDeniedException", 403))
    notifier = parts.health.notifier = Notifier(
        [],
        parts.store,
        bus=EventBridge(ARN, None, executor=Inline(), make=aws.make),
        problems=parts.health.problems,
        epoch=lambda: instant().epoch,
        random=lambda: 1.0,
        count=parts.metrics.notified,
    )
    notifying = asyncio.create_task(notifier.run())
    parts.health.unreadable = ["a row"]
    await asyncio.sleep(2)
    (_, problem) = parts.health.problems()
    assert problem.code == "notify_refused"
    assert "WATCHDOG_EVENTBRIDGE_BUS takes no events. PutEvents: AccessDeniedException: Said AWS." in problem.detail
    assert b'watchdog_problems{code="notify_refused"} 1.0' in parts.metrics.render()
    aws.down = None
    await asyncio.sleep(70)
    assert [each.code for each in parts.health.problems()] == ["store_rows_unreadable"]
    assert b'watchdog_problems{code="store_rows_unreadable"} 1.0' in parts.metrics.render()
    assert b"notify_refused" not in parts.metrics.render()
    notifying.cancel()
    await asyncio.gather(notifying, return_exceptions=True)


async def _nowhere(_host: str, _port: int) -> list[str]:
    raise OSError("There is no such name.")


# The loops.


async def test_time_in_which_the_process_did_not_run_makes_nothing_late() -> None:
    clock = [100.0]
    running = RunningTime(lambda: clock[0])
    begun = running()
    for _ in range(10):
        clock[0] += PULSE_S
        assert running() - begun == pytest.approx(clock[0] - 100.0)
        await running.pulse()
    clock[0] += 3600.0
    assert running() - begun == pytest.approx(1.0 + MAX_PULSE_S)
    await running.pulse()
    clock[0] += PULSE_S
    assert running() - begun == pytest.approx(1.0 + MAX_PULSE_S + PULSE_S)


@pytest.mark.looptime
async def test_a_sweep_flushes_before_it_judges(parts: Parts) -> None:
    await parts.store.open(instant())
    parts.buffer.submit(beat())
    await sweeps(parts, TTL + TIMER)
    parts.buffer.submit(beat())
    await sweeps(parts, 1)
    view = await parts.store.agent(ANNA)
    assert view is not None
    assert view.state is AgentState.LIVE
    assert parts.health.backlog == 0


@pytest.mark.looptime
async def test_a_ghost_is_handed_to_the_dispatcher_and_set(parts: Parts) -> None:
    await parts.store.open(instant())
    await parts.jobs.list_directory()
    parts.buffer.submit(beat())
    await parts.loops.flush()
    parts.buffer.submit(beat(BeatType.BYE))
    await sweeps(parts, TIMER + 1)
    assert parts.model.status_name(INSTANCE, ANNA.user_id) == "Offline"
    await sweeps(parts, 5)
    assert parts.metrics.actions["set_status", "confirmed"] == 1
    assert parts.metrics.agents["away"] == 1


@pytest.mark.looptime
async def test_while_heartbeats_cannot_be_stored_the_clock_stands_and_it_is_told_once(parts: Parts) -> None:
    await parts.store.open(instant())
    parts.buffer.submit(beat())
    await sweeps(parts, 1)
    stood = parts.health.clock
    assert stood is not None
    SwitchDisk.full = True
    with structlog.testing.capture_logs() as logs:
        await sweeps(parts, 100)
        assert parts.health.ready() == "The disk is full: make room."
        assert parts.health.alive() is None
        assert not parts.metrics.store_up
        SwitchDisk.full = False
        await sweeps(parts, 1)
    assert [line["event"] for line in logs if line["event"].startswith("store.")] == ["store.unavailable", "store.back"]
    assert parts.health.clock is not None
    assert parts.health.clock.observed == stood.observed
    assert parts.health.clock.standing is Cause.GRACE
    assert parts.health.ready() is None
    assert parts.metrics.clock_stopped_s["store"] == pytest.approx(100, abs=1)


@pytest.mark.looptime
async def test_a_flush_that_fails_makes_the_tick_blind_though_the_store_is_back(parts: Parts) -> None:
    await parts.store.open(instant())
    await sweeps(parts, 1)
    before = parts.health.clock
    assert before is not None
    real = parts.store.apply

    async def refuse(*_: object) -> list[object]:
        raise StoreUnavailable("not now")

    parts.store.apply = refuse  # type: ignore[method-assign, assignment]
    parts.buffer.submit(beat())
    await sweeps(parts, SWEEP_S)
    parts.store.apply = real  # type: ignore[method-assign]
    assert parts.health.clock is not None
    assert (parts.health.clock.observed, parts.health.clock.standing) == (before.observed, Cause.STORE)


class DividedStore(SqliteStore):
    """All but Anna are others', each a daemon's; some of those do not answer."""

    silent: frozenset[str] = frozenset()

    def applier(self, agent: AgentId) -> str | None:
        return HERE if agent == ANNA else agent.user_id

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        if any(beat.agent.user_id in self.silent for beat in beats):
            await asyncio.sleep(1.0)
            raise StoreUnavailable("no answer")
        return await super().apply(beats, instant)


@pytest.fixture
async def divided(parts: Parts, tmp_path: Path) -> AsyncIterator[Parts]:
    """The parts of one daemon of several."""
    store, metrics = DividedStore(tmp_path / "divided.db", BRAKED, SwitchDisk), parts.metrics
    buffer = SortedBuffer(store, instant, asyncio.get_running_loop().time)
    health = Health(
        parts.settings,
        "boot",
        store=store,
        buffer=buffer,
        metrics=metrics,
        now=instant,
        time=asyncio.get_running_loop().time,
    )
    loops = Loops(
        "me", store=store, buffer=buffer, dispatcher=parts.dispatcher, health=health, metrics=metrics, now=instant
    )
    yield replace(parts, store=store, buffer=buffer, health=health, loops=loops)
    await store.close()


async def run_for(parts: Parts, seconds: float) -> None:
    """Both loops, as in the daemon."""
    going = asyncio.Event()
    going.set()
    loops = (parts.loops.every(FLUSH_S, parts.loops.flush, going), parts.loops.every(SWEEP_S, parts.loops.sweep, going))
    running = asyncio.gather(*loops)
    await asyncio.sleep(seconds)
    going.clear()
    await running


def others(parts: Parts, number: int) -> None:
    for agent in (AgentId(INSTANCE, f"agent-{at}") for at in range(number)):
        parts.buffer.of(agent).submit(Beat(agent, session(int(agent.user_id[-1]) + 2), ttl=TTL))


@pytest.mark.looptime
async def test_a_daemon_that_does_not_answer_stops_the_clock_of_all_and_turns_nobody_else_red(divided: Parts) -> None:
    """Its parts are somebody else's soon; until then nobody knows whether its agents are there."""
    await divided.store.open(instant())
    await run_for(divided, 1)
    assert isinstance(divided.store, DividedStore)
    divided.store.silent = frozenset({"agent-0"})
    others(divided, 1)
    await run_for(divided, 1.1)
    before = divided.health.clock
    assert before is not None
    with structlog.testing.capture_logs() as logs:
        for _ in range(40):
            assert divided.health.ready() is None
            assert divided.metrics.store_up
            await run_for(divided, 0.25)
        assert divided.health.clock is not None
        assert (divided.health.clock.observed, divided.health.clock.standing) == (before.observed, Cause.STORE)
        divided.store.silent = frozenset()
        await run_for(divided, 2)
    assert divided.health.clock.standing is Cause.GRACE
    assert not [line for line in logs if line["event"].startswith("store.")]


@pytest.mark.looptime
async def test_a_daemon_from_which_no_other_takes_what_is_its_own_is_not_ready(divided: Parts) -> None:
    await divided.store.open(instant())
    assert isinstance(divided.store, DividedStore)
    divided.store.silent = frozenset({"agent-0", "agent-1"})
    others(divided, 2)
    await run_for(divided, CUT_OFF_S)
    assert divided.health.ready() is None
    await run_for(divided, 1)
    told = divided.health.ready()
    assert told is not None
    assert "No other daemon" in told
    divided.store.silent = frozenset({"agent-1"})
    await run_for(divided, 2)
    assert divided.health.ready() is None


@pytest.mark.looptime
async def test_a_store_that_fails_while_another_daemon_does_not_answer_is_told(divided: Parts) -> None:
    await divided.store.open(instant())
    assert isinstance(divided.store, DividedStore)
    divided.store.silent = frozenset({"agent-0"})
    others(divided, 1)
    await run_for(divided, 2)
    SwitchDisk.full = True
    divided.buffer.of(ANNA).submit(beat())
    await run_for(divided, 1)
    assert divided.health.ready() == "The disk is full: make room."
    SwitchDisk.full = False
    await run_for(divided, 1)
    assert divided.health.ready() is None


@pytest.mark.looptime
async def test_a_store_that_takes_ticks_and_no_heartbeats_is_not_back(parts: Parts) -> None:
    await parts.store.open(instant())
    await sweeps(parts, 1)
    real = parts.store.apply

    async def refuse(*_: object) -> list[object]:
        raise StoreUnavailable("not now")

    parts.store.apply = refuse  # type: ignore[method-assign, assignment]
    parts.buffer.submit(beat())
    with structlog.testing.capture_logs() as logs:
        await parts.loops.flush()
        await sweeps(parts, 5)
        assert parts.health.ready() == "not now"
        parts.store.apply = real  # type: ignore[method-assign]
        await sweeps(parts, 1)
    assert [line["event"] for line in logs if line["event"].startswith("store.")] == ["store.unavailable", "store.back"]


@pytest.mark.looptime
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_time_without_a_process_and_the_grace_after_it_are_counted_as_restart(
    parts: Parts, tmp_path: Path, *, elsewhere: bool
) -> None:
    """On another boot the wall clock tells how long it was, and decides nothing."""
    store = SqliteStore(tmp_path / "watchdog.db", BRAKED, SwitchDisk)
    before = instant()
    if elsewhere:
        before = before._replace(boot_id="another")
    await store.open(before)
    await store.tick("me", before)
    await store.close()
    await asyncio.sleep(100)
    await parts.store.open(instant())
    assert parts.store.unreadable == []
    await sweeps(parts, 60)
    grace = 30
    stopped = dict(parts.metrics.clock_stopped_s)
    assert stopped.pop("restart") == pytest.approx(100 + grace, abs=1)
    assert set(stopped.values()) == {0.0}
    assert parts.health.clock is not None
    assert parts.health.clock.observed == pytest.approx(60 - grace, abs=1)


@pytest.mark.looptime
async def test_a_pause_is_counted_as_one_and_what_follows_as_grace(parts: Parts) -> None:
    await parts.store.open(instant())
    await sweeps(parts, 1)
    await asyncio.sleep(20)
    await parts.loops.sweep()
    await sweeps(parts, 40)
    stopped = {cause: seconds for cause, seconds in parts.metrics.clock_stopped_s.items() if seconds}
    assert stopped == {"pause": pytest.approx(18, abs=0.5), "grace": pytest.approx(20, abs=0.5)}


@pytest.mark.looptime
async def test_bad_rows_are_a_problem(parts: Parts) -> None:
    await parts.store.open(instant())
    assert parts.health.problems() == []
    parts.health.unreadable = ["agents x/y (ValueError)"]
    (problem,) = parts.health.problems()
    assert (problem.code, "agents x/y" in problem.detail) == ("store_rows_unreadable", True)
    assert parts.health.ready() is None


@pytest.mark.looptime
async def test_the_clock_tells_when_it_stands_and_when_it_goes_on(parts: Parts) -> None:
    await parts.store.open(instant())
    await sweeps(parts, 1)
    with structlog.testing.capture_logs() as logs:
        await asyncio.sleep(60)
        await parts.loops.sweep()
        await sweeps(parts, 40)
    told = [(line["event"], line.get("cause")) for line in logs if line["event"].startswith("clock.")]
    assert told == [("clock.standing", "pause"), ("clock.standing", "grace"), ("clock.running", None)]


@pytest.mark.looptime
async def test_a_loop_keeps_its_times_and_does_not_make_up_for_missed_ones(parts: Parts) -> None:
    await parts.store.open(instant())
    loop = asyncio.get_running_loop()
    began, going = loop.time(), asyncio.Event()
    steps: list[float] = []
    going.set()

    async def step() -> None:
        steps.append(round(loop.time() - began, 3))
        if len(steps) == 3:
            await asyncio.sleep(1.05)
        if len(steps) == 6:
            going.clear()

    await parts.loops.every(FLUSH_S, step, going)
    assert steps == [0.0, 0.2, 0.4, 1.45, 1.65, 1.85]


@pytest.mark.looptime
async def test_while_the_canary_does_not_come_back_the_clock_stands(parts: Parts) -> None:
    await parts.store.open(instant())
    answers = True

    async def way(request: httpx.Request) -> httpx.Response:
        answer = canary_message.answer(request.content, tickets, "boot", instant().epoch)
        return httpx.Response(200, content=answer) if answers else httpx.Response(502)

    tickets = Tickets([b"a-secret-of-ours-0123"])
    canary = Canary(
        "http://127.0.0.1:1",
        canary_rules(TTL, 10.0),
        tickets,
        beats=lambda: sum(parts.metrics.heartbeats.values()),
        sessions=lambda: parts.metrics.sessions,
        epoch=lambda: instant().epoch,
        time=asyncio.get_running_loop().time,
        transport=httpx.MockTransport(way),
    )
    parts.health.canary = parts.loops._canary = canary
    parts.buffer.submit(beat())
    for _ in range(4):
        await canary.step()
        await sweeps(parts, 5)
    before = parts.health.clock
    assert before is not None
    assert before.observed == pytest.approx(20)
    answers = False
    for _ in range(60):
        await canary.step()
        await sweeps(parts, 5)
    clock = parts.health.clock
    assert clock.standing is Cause.CANARY
    assert clock.observed - before.observed == pytest.approx(5, abs=0.5)
    assert parts.metrics.clock_stopped_s["canary"] == pytest.approx(295, abs=1)
    status = await parts.health.status()
    assert [problem["code"] for problem in status["problems"]] == ["canary_failing"]
    assert status["canary"]["state"] == "failing"
    assert not parts.health.well()
    assert parts.health.ready() is None
    # what comes and goes meanwhile is told all the same
    SwitchDisk.full = True
    await sweeps(parts, 1)
    assert parts.health.ready() is not None
    SwitchDisk.full = False
    await sweeps(parts, 1)
    assert parts.health.ready() is None
    answers = True
    await canary.step()
    await sweeps(parts, 5)
    assert parts.health.clock.standing is Cause.GRACE
    assert parts.health.problems() == []
    await canary.close()


@pytest.mark.looptime
async def test_agents_who_find_no_room_are_told(parts: Parts) -> None:
    await parts.store.open(instant())
    loop = asyncio.get_running_loop()
    arrivals = Arrivals(parts.store.newcomer, most=0, time=loop.time, epoch=lambda: instant().epoch)
    parts.health.arrivals = arrivals
    assert parts.health.problems() == []
    arrivals.refused(ANNA, "192.0.2.1")
    (problem,) = parts.health.problems()
    assert problem.code == "agents_full"
    assert "WATCHDOG_MAX_AGENTS" in problem.detail
    await asyncio.sleep(60)
    assert parts.health.problems() == []


@pytest.mark.looptime
async def test_a_certificate_that_ends_or_cannot_be_served_is_told(parts: Parts, tmp_path: Path) -> None:
    await parts.store.open(instant())
    pair = write(tmp_path, "first", days=8)
    certificate = parts.health.certificate = Certificate(*pair, lambda: Epoch(time.time()))
    assert parts.health.problems() == []
    write(tmp_path, "second", days=6.5)
    certificate.look()
    put(pair[1], b"nothing")
    certificate.look()
    refused, expires = parts.health.problems()
    assert (refused.code, expires.code) == ("certificate_refused", "certificate_expires")
    assert "6.5 days" in expires.detail
    write(tmp_path, "third", days=-1)
    certificate.look()
    (expired,) = parts.health.problems()
    assert "has expired" in expired.detail


@pytest.mark.looptime
async def test_while_connections_are_turned_away_the_clock_stands_and_it_is_told(parts: Parts) -> None:
    await parts.store.open(instant())
    connections = Connections(100, asyncio.get_running_loop().time, lambda: instant().epoch)
    parts.health.connections = parts.loops._connections = connections
    await sweeps(parts, 10)
    before = parts.health.clock
    connections.turn_away()
    await sweeps(parts, 5)
    connections.turn_away()
    await sweeps(parts, 9)
    clock = parts.health.clock
    assert before is not None
    assert clock is not None
    assert (clock.standing, clock.observed) == (Cause.CONNECTIONS, before.observed)
    (problem,) = parts.health.problems()
    assert problem.code == "connections_full"
    assert "100 connections" in problem.detail
    assert parts.health.ready() is None
    await sweeps(parts, 2)
    assert parts.health.clock is not None
    assert parts.health.clock.standing is Cause.GRACE
    assert parts.health.problems() == []


@pytest.mark.looptime
async def test_a_hold_says_that_live_sessions_are_refused(parts: Parts) -> None:
    await parts.store.open(instant())
    parts.health.refusals = Refusals(lambda: instant().epoch, lambda: 0.0)
    for number in range(40):
        parts.buffer.submit(Beat(AgentId(INSTANCE, f"agent-{number}"), session(number), ttl=TTL))
    await sweeps(parts, TTL - 1)
    parts.health.refusals.note(live=True)
    await sweeps(parts, 2)
    (hold,) = (await parts.health.status())["brake"]["holds"]
    assert hold["why"].endswith("Heartbeats of live sessions are refused for their token.")
    assert [problem.code for problem in parts.health.problems()] == ["live_sessions_refused"]
    assert not parts.health.well()


@pytest.mark.looptime
async def test_the_brake_is_told_in_the_log_the_metric_and_the_status(parts: Parts) -> None:
    await parts.store.open(instant())
    agents = [ANNA._replace(user_id=f"agent-{number}") for number in range(8)]
    for number, agent in enumerate(agents):
        parts.buffer.submit(Beat(agent, session(number + 1), ttl=TTL))
    with structlog.testing.capture_logs() as logs:
        await sweeps(parts, TTL + TIMER + 5)
        assert parts.metrics.brake_held == 8
        status = (await parts.health.status())["brake"]
        assert (status["state"], status["held"]) == ("holding", 8)
        (hold,) = status["holds"]
        assert (hold["group"], hold["reason"], hold["agents"]) == ("all", "mass_silence", 8)
        assert hold["age_s"] > 15
        assert "8 agents fell silent" in hold["why"]
        assert "nobody is heard" in hold["proof"]
        assert parts.health.problems() == []
        await sweeps(parts, 300)
        assert [problem.code for problem in parts.health.problems()] == ["brake_alarm"]
        assert not parts.health.well()
        assert parts.health.ready() is None
        for number, agent in enumerate(agents):
            parts.buffer.submit(Beat(agent, session(number + 1), ttl=TTL))
        await sweeps(parts, 3)
        assert (await parts.health.status())["brake"] == {"state": "clear", "held": 0, "holds": []}
        assert parts.metrics.brake_held == 0
    told = [(line["event"], line["log_level"]) for line in logs if line["event"].startswith("brake.")]
    assert told == [("brake.tripped", "warning"), ("brake.alarm", "error"), ("brake.released", "warning")]
    assert parts.metrics.actions["set_status", "held"] == 8


# Health.


@pytest.mark.looptime
async def test_the_process_is_dead_when_its_sweep_is_not_tried_any_more(parts: Parts) -> None:
    await parts.store.open(instant())
    await sweeps(parts, 1)
    await asyncio.sleep(STUCK_S)
    assert parts.health.alive() is None
    await asyncio.sleep(1)
    assert "has not run" in str(parts.health.alive())


@pytest.mark.looptime
async def test_heartbeats_that_wait_too_long_make_it_not_ready(parts: Parts) -> None:
    await parts.store.open(instant())
    parts.buffer.submit(beat())
    assert parts.health.ready() is None
    await asyncio.sleep(1.5)
    assert "stored" in str(parts.health.ready())


@pytest.mark.looptime
async def test_a_daemon_that_stops_is_not_ready(parts: Parts) -> None:
    await parts.store.open(instant())
    parts.health.stopping = True
    assert "stopping" in str(parts.health.ready())


@pytest.mark.looptime
async def test_what_is_wrong_with_connect_is_a_problem_and_turns_no_probe_red(parts: Parts) -> None:
    await parts.store.open(instant())
    parts.model.add_fault(_denied())
    await parts.jobs.list_directory()
    assert [problem.code for problem in parts.health.problems()]
    assert parts.health.ready() is None
    assert parts.health.alive() is None
    assert not parts.health.well()


@pytest.mark.looptime
async def test_the_status_tells_the_target_or_why_there_is_none(parts: Parts) -> None:
    await parts.store.open(instant())
    (before,) = (await parts.health.status())["instances"]
    assert before["target"] is None
    assert before["why"]
    await parts.jobs.list_directory()
    await sweeps(parts, 1)
    status = await parts.health.status()
    assert status["instances"][0]["target"]["name"] == "Offline"
    assert status["ready"] is True
    assert status["problems"] == []
    assert status["clock"]["standing"] is None
    assert "a-token" not in str(status)


# Jobs.


@pytest.mark.looptime
async def test_a_listing_that_failed_is_tried_again_sooner(parts: Parts) -> None:
    await parts.store.open(instant())
    fault = parts.model.add_fault(_denied())
    await parts.jobs.list_directory()
    parts.model.clear_faults(fault)
    await parts.jobs.list_again()
    assert parts.health.problems() == []
    listed = len(parts.model.calls(operation="ListAgentStatuses"))
    await parts.jobs.list_again()
    assert len(parts.model.calls(operation="ListAgentStatuses")) == listed


@pytest.mark.parametrize(("store", "more"), [("sqlite:///watchdog.db", set()), ("valkey://host", {"make_room"})])
async def test_a_job_that_is_hours_late_runs_all_the_same(parts: Parts, store: str, more: set[str]) -> None:
    """With APScheduler's defaults a run that is more than a second late is dropped."""
    await parts.store.open(instant())
    settings = Settings.load({**ENVIRONMENT, "WATCHDOG_STORE": store})
    scheduler = Jobs(settings, parts.store, parts.dispatcher.directory, parts.health, instant).scheduler()
    scheduler.start(paused=True)
    try:
        jobs = scheduler.get_jobs()
        assert {job.func.__name__ for job in jobs} == {"list_directory", "list_again", "prune", *more}
        for job in jobs:
            assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (None, True, 1)
    finally:
        scheduler.shutdown(wait=False)


async def answered_by(status: int, asked: list[str]) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


@pytest.mark.parametrize("status", [200, 500])
async def test_the_dead_man_is_told_while_all_is_well_and_its_url_stays_secret(parts: Parts, status: int) -> None:
    await parts.store.open(instant())
    asked: list[str] = []
    server = await answered_by(status, asked)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ping/s3cret"
    settings = Settings.load({**ENVIRONMENT, "WATCHDOG_DEADMAN_URL": url})
    jobs = Jobs(settings, parts.store, parts.dispatcher.directory, parts.health, instant)
    with structlog.testing.capture_logs() as logs:
        await parts.jobs.list_directory()
        await jobs.ping()
        parts.health.stopping = True
        await jobs.ping()
    server.close()
    await server.wait_closed()
    assert asked == ["GET /ping/s3cret HTTP/1.1\r\n"]
    assert [line["event"] for line in logs if line["event"].startswith("deadman")] == ["deadman.failed"] * (
        status == 500
    )
    assert "s3cret" not in str(logs)


@pytest.mark.looptime
async def test_nobody_is_looked_for_while_the_clock_stands(parts: Parts) -> None:
    await parts.store.open(instant())
    await parts.jobs.list_directory()
    recorded: list[Action] = []
    dispatcher = Dispatcher(
        parts.store,
        DirectClient(parts.model, {INSTANCE: (DEFAULT_ACCOUNT, DEFAULT_REGION)}),
        [Instance(INSTANCE, DEFAULT_REGION)],
        DispatcherConfig("me", (plain(5.0),), RULES.quota, reconcile=ReconcileRules(60.0, None)),
        now=instant,
        random=lambda: 0.5,
        flush=parts.buffer.flush,
        record=recorded.append,
        observer=Observer(),
    )
    await dispatcher.directory.refresh()
    parts.health.dispatcher = dispatcher
    jobs = Jobs(parts.settings, parts.store, dispatcher.directory, parts.health, instant, dispatcher.reconciler)
    await jobs.reconcile()
    # Listing has its quota, and takes longer than a tick may: so much grace first.
    await sweeps(parts, 80)
    SwitchDisk.full = True
    await sweeps(parts, 60)
    # the last tick that succeeded was of a clock that went
    assert parts.health.clock is not None
    assert parts.health.clock.standing is None
    await jobs.reconcile()
    SwitchDisk.full = False
    await sweeps(parts, 5)
    assert parts.health.clock.standing is Cause.GRACE
    await jobs.reconcile()
    assert parts.model.calls(operation="GetCurrentUserData") == ()
    await sweeps(parts, 60)
    for _ in range(2):
        await jobs.reconcile()
        await sweeps(parts, 60)
    await jobs.reconcile()
    assert ANNA in {action.agent for action in recorded}
    assert (await parts.health.status())["reconcile"] == {"mode": "report", "unseen": len(recorded)}
    await dispatcher.drain(0.1)


@pytest.mark.looptime
async def test_pruning_goes_by_the_days_that_are_set(parts: Parts) -> None:
    await parts.store.open(instant())
    await parts.jobs.list_directory()
    parts.buffer.submit(beat())
    await parts.loops.flush()
    parts.buffer.submit(beat(BeatType.BYE))
    await sweeps(parts, TIMER + 5)
    assert len((await parts.store.actions()).actions) == 1
    await asyncio.sleep(29.9 * 86_400)
    await parts.jobs.prune()
    assert len((await parts.store.actions()).actions) == 1
    await asyncio.sleep(0.2 * 86_400)
    with structlog.testing.capture_logs() as logs:
        await parts.jobs.prune()
    assert (await parts.store.actions()).actions == ()
    assert [line["event"] for line in logs] == ["store.pruned"]


@dataclass
class Filling:
    """A store on a server whose memory fills."""

    found: list[MemoryUse | None]

    async def make_room(self) -> MemoryUse:
        use = self.found.pop(0)
        if use is None:
            raise StoreUnavailable("It does not answer.")
        return use


@pytest.mark.looptime
async def test_a_history_that_makes_room_is_told_once_for_as_long_as_it_does(parts: Parts) -> None:
    filling: Any = Filling(
        [
            MemoryUse(0.7),
            MemoryUse(0.79, 1000),
            None,
            MemoryUse(0.78, 500),
            MemoryUse(0.76),
            MemoryUse(0.75),
            MemoryUse(0.76),
            MemoryUse(0.81),
            MemoryUse(0.8),
            MemoryUse(None),
        ]
    )
    jobs = Jobs(parts.settings, filling, parts.dispatcher.directory, parts.health, instant)

    async def looked() -> list[Problem]:
        await asyncio.sleep(15)
        await jobs.make_room()
        return parts.health.problems()

    with structlog.testing.capture_logs() as logs:
        assert await looked() == []
        assert b"watchdog_store_memory_ratio 0.7\n" in parts.metrics.render()
        (first,) = await looked()
        assert first.code == "store_nearly_full"
        assert "79%" in first.detail
        assert "1000 so far" in first.detail
        assert await looked() == [first]
        (second,) = await looked()
        assert "1500 so far" in second.detail
        assert second.since == first.since
        assert [each.since for each in await looked()] == [first.since]
        assert await looked() == []
        assert await looked() == []
        # Something else fills it: there is no history that could make room.
        (third,) = await looked()
        assert "81%" in third.detail
        assert "0 so far" in third.detail
        assert third.since > first.since
        assert [each.since for each in await looked()] == [third.since]
        assert await looked() == []
    assert [(line["event"], line.get("actions")) for line in logs] == [
        ("store.history_shortened", 1000),
        ("store.memory_unseen", None),
        ("store.history_shortened", 500),
    ]


@pytest.mark.looptime
async def test_a_server_that_drops_keys_is_a_problem_for_as_long_as_it_does(parts: Parts) -> None:
    filling: Any = Filling(
        [
            MemoryUse(None),
            MemoryUse(0.5, evicts="allkeys-lru"),
            None,
            MemoryUse(0.5, evicts="volatile-ttl"),
            MemoryUse(0.5),
        ]
    )
    jobs = Jobs(parts.settings, filling, parts.dispatcher.directory, parts.health, instant)

    async def looked() -> list[Problem]:
        await asyncio.sleep(15)
        await jobs.make_room()
        return parts.health.problems()

    assert await looked() == []
    (first,) = await looked()
    assert (first.code, "allkeys-lru" in first.detail) == ("store_evicts", True)
    assert await looked() == [first]
    (second,) = await looked()
    assert (second.since, "volatile-ttl" in second.detail) == (first.since, True)
    # Heartbeats go on.
    assert parts.health.ready() is None
    assert await looked() == []


@pytest.mark.looptime
async def test_rows_that_a_server_has_lost_are_a_problem_until_the_next_start(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parts.health.problems() == []
    lost = RowsLost({"sessions": 3, "agents": 2}, Epoch(7.0))
    monkeypatch.setattr(type(parts.store), "rows_lost", property(lambda _: lost))
    (problem,) = parts.health.problems()
    assert (problem.code, problem.since) == ("store_rows_lost", Epoch(7.0))
    assert "2 of agents, 3 of sessions" in problem.detail


def _denied() -> Fault:
    return Fault(FaultKind.ACCESS_DENIED, operation="ListAgentStatuses", times=None)


def test_the_store_serves_the_instances_of_the_settings_and_knows_the_quota_of_listings() -> None:
    settings = Settings.load({"WATCHDOG_INSTANCES": INSTANCE, "WATCHDOG_AUTH": "none", "WATCHDOG_CONNECT_SHARE": "0.5"})
    rules = daemon._store_rules(settings)
    assert rules.instances == {INSTANCE}
    assert rules.quota.own_rate == 1.0
    assert {name: each.own_rate for name, each in rules.quotas.items()} == {
        "ListAgentStatuses": 5.0,
        "ListRoutingProfiles": 5.0,
        "ListRoutingProfileQueues": 5.0,
    }


@pytest.mark.looptime
async def test_a_service_manager_hears_of_each_sweep_that_is_tried_also_while_the_disk_is_full(parts: Parts) -> None:
    await parts.store.open(instant())
    told: list[float] = []
    loops = Loops(
        "me",
        store=parts.store,
        buffer=parts.buffer,
        dispatcher=parts.dispatcher,
        health=parts.health,
        metrics=parts.metrics,
        now=instant,
        alive=lambda: told.append(parts.health.swept_at),
    )
    await loops.flush()
    assert told == []
    await loops.sweep()
    SwitchDisk.full = True
    await asyncio.sleep(SWEEP_S)
    await loops.sweep()
    assert len(told) == 2
    assert parts.health.store_fault is not None


def test_the_store_is_told_how_many_agents_there_may_be() -> None:
    settings = Settings.load({**ENVIRONMENT, "WATCHDOG_MAX_AGENTS": "500"})
    assert daemon._store_rules(settings).most_agents == 500
