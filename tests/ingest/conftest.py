"""A store that is a few dictionaries, and the application over it."""

import asyncio
import contextlib
import itertools
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import httpx
import pytest

from watchdog.core import clock as clocks
from watchdog.core.addresses import Proxies
from watchdog.core.clock import Cause, ClockRules
from watchdog.core.deadline import expiry, is_due, judge, state, torn
from watchdog.core.holds import BrakeView
from watchdog.core.messages import LeaseRules
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    AgentView,
    Beat,
    BeatType,
    Boot,
    Cancel,
    Claim,
    Due,
    Epoch,
    Instant,
    Intent,
    Notice,
    Observed,
    Outcome,
    Reply,
    SessionView,
    Standing,
    Tear,
    Verdict,
)
from watchdog.core.undo import Back, Change, Ordered, Written
from watchdog.errors import StoreUnavailable
from watchdog.ingest.answers import Rejection
from watchdog.ingest.app import build
from watchdog.ingest.arrivals import Arrivals
from watchdog.ingest.auth import AuthMode, Gate, Tickets, Tokens
from watchdog.ingest.buffer import Buffer
from watchdog.ingest.connections import Connections
from watchdog.ingest.console import Console
from watchdog.ingest.events import Events
from watchdog.ingest.heartbeat import HeartbeatRules, Heartbeats
from watchdog.ingest.recording import Recordings
from watchdog.ingest.server import server
from watchdog.ingest.sorted_buffer import SortedBuffer
from watchdog.ingest.websocket import Tethers
from watchdog.ingest.websocket_protocol import Ended
from watchdog.stores.base import ActionPage, AgentPage, Counts, Tick

INSTANCE = "11111111-2222-3333-4444-555555555555"
USER = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
AGENT = AgentId(INSTANCE, USER)
ARN = f"arn:aws:connect:eu-central-1:123456789012:instance/{INSTANCE}/agent/{USER}"
RULES = ClockRules(resume_grace_s=30, heartbeat_interval_s=10)
TIMER_S = 5.0


@dataclass
class Session:
    agent: AgentId
    incarnation: int
    seq: int | None
    expires_at: Observed
    closed: bool
    beat: Beat


@dataclass
class DictStore:
    """Does what the contract says with as little as possible.

    `broken`, `faults` (one for each call of apply) and `gate` make it fail or wait.
    """

    clock: clocks.Clock = field(default_factory=clocks.Clock)
    sessions: dict[bytes, Session] = field(default_factory=dict)
    history: list[Action] = field(default_factory=list)
    applied: list[list[Beat]] = field(default_factory=list)
    torn: list[Tear] = field(default_factory=list)
    notice: Notice | None = None
    broken: Exception | None = None
    faults: list[Exception] = field(default_factory=list)
    gate: asyncio.Event | None = None
    ordered: list[tuple[str, bool, float, str, str]] = field(default_factory=list)
    undone: list[tuple[float, str | None, bool, str | None]] = field(default_factory=list)
    stopped: set[bytes] = field(default_factory=set)
    # Others know whether they are new, and have no room for them.
    crowded_out: set[str] = field(default_factory=set)

    async def open(self, instant: Instant) -> None:
        self.clock = clocks.first(instant)

    async def close(self) -> None:
        return None

    def plainly_live(self, beat: Beat) -> float | None:
        known = self.sessions.get(beat.session_id)
        if beat.type is not BeatType.BEAT or known is None or beat.ttl is None or known.closed:
            return None
        if known.agent != beat.agent or known.incarnation != beat.incarnation or known.expires_at < self.clock.observed:
            return None
        return beat.ttl

    def whose(self, session_id: bytes) -> AgentId | None:
        known = self.sessions.get(session_id)
        return None if known is None else known.agent

    def newcomer(self, agent: AgentId) -> int | None:
        known = {session.agent for session in self.sessions.values()}
        return None if agent in known or agent.user_id in self.crowded_out else len(known)

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        if self.gate is not None:
            await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        self.check()
        assert len({beat.session_id for beat in beats}) == len(beats), "two beats of one session"
        self.clock = clocks.advance(self.clock, instant, RULES)
        self.applied.append(list(beats))
        return [self.apply_one(beat) for beat in beats]

    async def tear(self, tears: Sequence[Tear], instant: Instant) -> list[bool]:
        if self.faults:
            raise self.faults.pop(0)
        self.check()
        self.clock = clocks.advance(self.clock, instant, RULES)
        self.torn += tears
        return [self.tear_one(each) for each in tears]

    def tear_one(self, tear: Tear) -> bool:
        known = self.sessions.get(tear.session_id)
        if known is None:
            return False
        ends = torn(tear, known.beat.tether, known.expires_at, self.clock.observed, closed=known.closed)
        if ends is not None:
            known.expires_at = ends
        return ends is not None

    def apply_one(self, beat: Beat) -> Reply:
        if beat.agent.user_id in self.crowded_out:
            return Reply(Verdict.NO_ROOM, live=False, left_s=0.0)
        known = self.sessions.get(beat.session_id)
        verdict = judge(
            beat,
            None if known is None else known.incarnation,
            None if known is None else known.seq,
            closed=known is not None and known.closed,
            same_agent=known is None or known.agent == beat.agent,
            stopped=beat.session_id in self.stopped,
        )
        if verdict in (Verdict.OPENED, Verdict.RENEWED, Verdict.CLOSED):
            ends = expiry(beat, self.clock.observed)
            closed = beat.type is BeatType.BYE
            known = Session(beat.agent, beat.incarnation, beat.seq, ends, closed, beat)
            self.sessions[beat.session_id] = known
            self.stopped.discard(beat.session_id)
        left_s = 0.0 if known is None or known.closed else max(0.0, known.expires_at - self.clock.observed)
        return Reply(verdict, left_s > 0, left_s, self.notice)

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        self.clock = clocks.advance(self.clock, instant, RULES, blind)
        due = tuple(
            Due(agent, 0, Observed(ends + TIMER_S))
            for agent, ends in self.ends().items()
            if is_due(ends, TIMER_S, self.clock.observed)
        )
        return Tick(self.clock, 0.0, due[:limit], len(due), ())

    async def claim(self, due: Due, owner: str) -> Claim | None:
        return Claim(due.agent, due.epoch, 1, owner, due.deadline, 0.0)

    async def intend(self, claim: Claim, intent: Intent) -> bool:
        return True

    async def still_gone(self, claim: Claim) -> Standing:
        return Standing.GONE if self.ends()[claim.agent] < self.clock.observed else Standing.RETURNED

    async def settle(self, claim: Claim, action: Action, written: Written | None = None) -> bool:
        self.history.insert(0, action)
        return True

    async def release(self, claim: Claim, delay_s: float) -> bool:
        return True

    async def record(self, actions: Sequence[Action]) -> None:
        self.history[:0] = actions

    async def order(
        self, group: str, *, hold: bool, for_s: float, reason: str, instant: Instant, by: str = ""
    ) -> BrakeView:
        self.check()
        self.ordered.append((group, hold, for_s, reason, by))
        return BrakeView()

    async def restore(
        self, since: Epoch, instance_id: str | None, *, silent: bool, instant: Instant, by: str | None = None
    ) -> Ordered:
        self.check()
        self.undone.append((since, instance_id, silent, by))
        return Ordered(3, 2, 1)

    async def still_back(self, change: Change) -> Back:
        return Back.VOID

    async def restoring(self, change: Change, at: Epoch, lease_s: float) -> Back:
        return Back.VOID

    async def restored(self, change: Change, action: Action, *, forget: bool) -> bool:
        return False

    async def take_tokens(self, operation: str, scope: str, count: int, instant: Instant) -> float:
        return 0.0

    async def throttled(self, operation: str, scope: str, instant: Instant) -> None:
        return None

    async def counts(self) -> Counts:
        states = [view.state for view in self.views()]
        return Counts({each: states.count(each) for each in AgentState}, len(self.sessions))

    async def agent(self, agent: AgentId) -> AgentView | None:
        self.check()
        return next((view for view in self.views() if view.agent == agent), None)

    async def agents(
        self,
        state: AgentState | None = None,
        query: str = "",
        cursor: str | None = None,
        limit: int = 100,
        *,
        among: Callable[[AgentId], bool] | None = None,
    ) -> AgentPage:
        self.check()
        found = [
            view
            for view in self.views()
            if state in (None, view.state)
            and any(query in part for part in view.agent)
            and (among is None or among(view.agent))
        ]
        start = int(cursor or 0)
        more = start + limit < len(found)
        return AgentPage(tuple(found[start : start + limit]), str(start + limit) if more else None)

    async def actions(
        self,
        agent: AgentId | None = None,
        outcome: Outcome | None = None,
        since: Epoch | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> ActionPage:
        self.check()
        found = [
            action
            for action in self.history
            if agent in (None, action.agent) and outcome in (None, action.outcome) and (since or 0) <= action.at
        ]
        start = int(cursor or 0)
        more = start + limit < len(found)
        return ActionPage(tuple(found[start : start + limit]), str(start + limit) if more else None)

    async def secret(self) -> bytes:
        return b"s" * 32

    async def prune(self, before: Epoch) -> int:
        return 0

    def check(self) -> None:
        if self.broken is not None:
            raise self.broken

    def ends(self) -> dict[AgentId, Observed]:
        found: dict[AgentId, Observed] = {}
        for session in self.sessions.values():
            found[session.agent] = max(found.get(session.agent, Observed(0.0)), session.expires_at)
        return found

    def views(self) -> list[AgentView]:
        return [self.view(agent, ends) for agent, ends in sorted(self.ends().items())]

    def view(self, agent: AgentId, ends: Observed) -> AgentView:
        now = self.clock.observed
        sessions = tuple(
            SessionView(session_id, each.expires_at - now, each.beat.hidden, each.beat.main_driver)
            for session_id, each in self.sessions.items()
            if each.agent == agent
        )
        standing = state(ends, TIMER_S, now, settled=False, last_outcome=None)
        return AgentView(agent, standing, sessions, ends + TIMER_S - now, Epoch(1_800_000_000.25), None)


@dataclass
class DividedStore(DictStore):
    """That of one daemon of several, as one dictionary.

    Attributes:
        owners: Who has whose part, by user id; those who are not in it are this daemon's own.
        silent: Who of them does not answer: whoever asks waits for a second.
    """

    owners: dict[str, str | None] = field(default_factory=dict)
    silent: set[str | None] = field(default_factory=lambda: {None})

    def applier(self, agent: AgentId) -> str | None:
        return self.owners.get(agent.user_id, "")

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        await self.reach({beat.agent for beat in beats})
        return await super().apply(beats, instant)

    async def tear(self, tears: Sequence[Tear], instant: Instant) -> list[bool]:
        await self.reach({agent for agent in map(self.whose, {each.session_id for each in tears}) if agent})
        return await super().tear(tears, instant)

    async def reach(self, agents: set[AgentId]) -> None:
        if not self.silent.isdisjoint(self.applier(agent) for agent in agents):
            await asyncio.sleep(1.0)
            raise StoreUnavailable("no answer")


@dataclass
class Counted:
    heartbeats: dict[str, int] = field(default_factory=lambda: {kind.value: 0 for kind in BeatType})
    rejected: dict[str, int] = field(default_factory=lambda: {reason.value: 0 for reason in Rejection})
    sockets: int = 0
    sockets_ended: dict[str, int] = field(default_factory=lambda: {how.value: 0 for how in Ended})


@dataclass
class Daemon:
    """What the application asks of the daemon."""

    dead: str | None = None
    unready: str | None = None
    content_type: str = "text/plain; version=0.0.4; charset=utf-8"

    def alive(self) -> str | None:
        return self.dead

    def ready(self) -> str | None:
        return self.unready

    async def status(self) -> dict[str, object]:
        return {"version": "1.2.3", "agents": {"live": 1}}

    def render(self) -> bytes:
        return b"watchdog_sessions 1.0\n"


@dataclass
class LogOuts:
    """Remembers the orders; the next one fails with `error`, if there is one."""

    orders: list[tuple[AgentId, str | None, str | None, str]] = field(default_factory=list)
    error: Exception | None = None

    async def order(self, agent: AgentId, *, queue: str | None, reason_code: str | None, by: str) -> None:
        self.orders.append((agent, queue, reason_code, by))
        if self.error is not None:
            raise self.error


@dataclass
class Cancels:
    """Remembers the orders; answers `becomes`."""

    orders: list[tuple[AgentId, AgentState, str, str]] = field(default_factory=list)
    becomes: Cancel = Cancel.DONE

    async def order(self, agent: AgentId, before: AgentView, *, reason: str, by: str) -> Cancel:
        self.orders.append((agent, before.state, reason, by))
        return self.becomes


@dataclass
class Profiles:
    """Knows what it is told."""

    of: dict[AgentId, str] = field(default_factory=dict)

    def name(self, agent: AgentId) -> str | None:
        return self.of.get(agent)

    def having(self, name: str) -> Callable[[AgentId], bool]:
        return lambda agent: self.of.get(agent) == name


@dataclass
class World:
    """The application over a dictionary, with clocks that stand where they are put."""

    mode: AuthMode = AuthMode.TOKEN
    heartbeat_tokens: tuple[str, ...] = ("beat-token",)
    admin_tokens: tuple[str, ...] = ("admin-token",)
    store: DictStore = field(default_factory=DictStore)
    counters: Counted = field(default_factory=Counted)
    daemon: Daemon = field(default_factory=Daemon)
    logouts: LogOuts = field(default_factory=LogOuts)
    epoch: Epoch = Epoch(1_800_000_000.0)
    observed: float | None = 100.0
    random: float = 0.5
    client: tuple[str, int] = ("127.0.0.1", 5000)
    tether_s: float = 10.0
    most_agents: int = 1000
    proxies: Proxies = field(default_factory=Proxies)
    cancels: Cancels = field(default_factory=Cancels)
    profiles: Profiles = field(default_factory=Profiles)
    topics: dict[str, object] = field(default_factory=lambda: {"counts": {"sessions": 0}})
    settings: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        made = SortedBuffer if isinstance(self.store, DividedStore) else Buffer
        self.buffer = made(self.store, lambda: Instant(Boot(loop.time()), self.epoch, "boot"), loop.time)
        tickets = Tickets([b"k" * 32])
        self.gate = Gate(self.mode, Tokens(self.heartbeat_tokens), Tokens(self.admin_tokens), tickets)
        self.arrivals = Arrivals(
            self.store.newcomer, most=self.most_agents, time=loop.time, epoch=lambda: self.epoch, proxies=self.proxies
        )
        rules = HeartbeatRules(frozenset({INSTANCE}), 10.0, LeaseRules(35.0, 150.0, 120.0), "boot-1")
        self.recordings = Recordings({"session_end_timer_s": TIMER_S}, lambda: self.observed)
        self.heartbeats = Heartbeats(
            self.store,
            self.buffer,
            self.gate,
            rules,
            self.counters,
            arrivals=self.arrivals,
            epoch=lambda: self.epoch,
            time=loop.time,
            random=lambda: self.random,
            recordings=self.recordings,
        )
        self.events = Events(
            "boot-1",
            "1.2.3",
            look=lambda: self.topics,
            sample=lambda: {"live": 1, "heartbeats": 2},
            epoch=lambda: self.epoch,
            time=loop.time,
        )
        self.tethers = Tethers(
            self.heartbeats,
            self.buffer.tear,
            self.counters,
            ttl_s=self.tether_s,
            number=itertools.count(1).__next__,
        )
        self.app = build(
            self.heartbeats,
            self.store,
            self.gate,
            self.daemon,
            self.daemon,
            self.recordings,
            logouts=self.logouts,
            version="1.2.3",
            instances={INSTANCE},
            now=lambda: Instant(Boot(loop.time()), self.epoch, "boot"),
            console=Console(self.events, self.cancels, lambda: self.settings, self.profiles),
        )

    def http(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=self.client)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def post(self, body, path="/v1/heartbeat", token="beat-token", **headers):
        """Posts while the buffer is flushed every 200 ms."""
        given = {
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        flushing = asyncio.create_task(self.flush_always())
        try:
            async with self.http() as http:
                if isinstance(body, bytes):
                    return await http.post(path, content=body, headers=given)
                return await http.post(path, json=body, headers=given)
        finally:
            flushing.cancel()

    async def flush_always(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            await self.flush_once()

    async def flush_once(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self.buffer.flush()


@pytest.fixture
def make_world():
    return World


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def message():
    """A heartbeat of a new session."""
    session_id = str(uuid.uuid4())

    def made(**fields):
        return {"agent": ARN, "session_id": session_id, **fields}

    return made


@pytest.fixture
def a_beat():
    """A beat as the buffer takes it."""
    first = Beat(AGENT, bytes(16), ttl=35.0)

    def made(**fields):
        return replace(first, **fields)

    return made


@pytest.fixture
def serving():
    """Runs an application on a free port; gives the port and the server."""

    class Serving:
        def __init__(self, app, **options):
            connections = options.pop("connections", None) or Connections(100, time.monotonic, time.time)
            self.server = server(app, connections, **options)
            self.socket = socket.socket()
            self.socket.bind(("127.0.0.1", 0))
            self.port = self.socket.getsockname()[1]

        async def __aenter__(self):
            self.task = asyncio.create_task(self.server.serve(sockets=[self.socket]))
            while not self.server.started:
                await asyncio.sleep(0)
            return self

        async def __aexit__(self, *_):
            self.server.should_exit = True
            await self.task

        async def connect(self):
            return await asyncio.open_connection("127.0.0.1", self.port)

    return Serving
