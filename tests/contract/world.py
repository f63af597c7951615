"""A story about a store: who beats when, told in seconds since the beginning.

Time is a number that the test moves; the store is told it, and nothing here ever waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from uuid import UUID

from watchdog.core.brake import BrakeRules
from watchdog.core.clock import Cause, ClockRules
from watchdog.core.holds import BrakeChange, Held, Stopped
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    Beat,
    BeatType,
    Boot,
    Claim,
    Due,
    Epoch,
    FollowUp,
    Instant,
    Intent,
    IntentKind,
    Outcome,
    Reply,
    Tear,
)
from watchdog.core.quota import QuotaRules
from watchdog.stores.base import Store, StoreRules, Tick

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

INSTANCE = "11111111-2222-3333-4444-555555555555"
ANNA = AgentId(INSTANCE, "anna")
BERT = AgentId(INSTANCE, "bert")
TTL = 35.0
TIMER = 5.0
TETHER = 10.0
TICK = 0.25
START = 1_700_000_000.0
RULES = StoreRules(
    timer_s=TIMER,
    clock=ClockRules(resume_grace_s=30.0, heartbeat_interval_s=10.0),
    quota=QuotaRules(rate=2.0, burst=5.0, share=0.8),
    greets=True,
)

BRAKED = replace(RULES, brake=BrakeRules(max_hold_s=300.0))


def session(number: int) -> bytes:
    return UUID(int=number).bytes


def action_of(claim: Claim, outcome: Outcome = Outcome.CONFIRMED, at: float = START) -> Action:
    return Action(
        id=f"{int(at * 1000):012x}-{claim.token:08x}",
        at=Epoch(at),
        agent=claim.agent,
        intent=IntentKind.SET_STATUS,
        target="Offline",
        outcome=outcome,
        reason="the last session is gone",
        evidence={"sessions": []},
        calls=2,
        latency_s=0.5,
    )


def look_of(held: Held, outcome: Outcome, at: float = START) -> Action:
    return Action(
        id=f"{int(at * 1000):012x}-{held.agent.user_id}",
        at=Epoch(at),
        agent=held.agent,
        intent=IntentKind.SET_STATUS,
        target="Offline",
        outcome=outcome,
        reason="what Connect shows",
        evidence=dict(held.evidence),
        calls=1,
        latency_s=0.0,
    )


@dataclass
class World:
    """A store, and the time that it is told."""

    store: Store
    reopened: Callable[[], Awaitable[Store]]
    now: float = 100.0
    boot_id: str = "boot-1"
    wall: float = START
    last: Tick | None = None
    offsets: dict[str, float] = field(default_factory=dict)
    stopped: list[Stopped] = field(default_factory=list)
    changes: list[BrakeChange] = field(default_factory=list)

    @property
    def instant(self) -> Instant:
        return Instant(Boot(self.now), Epoch(self.wall + self.now - 100.0), self.boot_id)

    async def beat(
        self,
        agent: AgentId = ANNA,
        number: int = 1,
        *,
        ttl: float | None = TTL,
        incarnation: int = 0,
        seq: int | None = None,
        kind: BeatType = BeatType.BEAT,
        gap_ms: float | None = None,
        arrived: bool = False,
        tether: int | None = None,
    ) -> Reply:
        beat = Beat(agent, session(number), kind, incarnation, seq, ttl, gap_ms=gap_ms, arrived=arrived, tether=tether)
        (reply,) = await self.store.apply([beat], self.instant)
        return reply

    async def bye(self, agent: AgentId = ANNA, number: int = 1, incarnation: int = 0) -> Reply:
        return await self.beat(agent, number, ttl=0.0, kind=BeatType.BYE, incarnation=incarnation)

    async def tear(self, tether: int, number: int = 1, ttl: float = TETHER) -> bool:
        (shorter,) = await self.store.tear([Tear(session(number), tether, ttl)], self.instant)
        return shorter

    async def tick(self, blind: Cause | None = None) -> Tick:
        self.last = await self.store.tick("me", self.instant, blind)
        self.stopped += self.last.stopped
        self.changes += self.last.changes
        return self.last

    async def wait(self, seconds: float) -> Tick:
        """Lets time pass in ticks, as the sweep does."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + TICK)
            await self.tick()
        assert self.last is not None
        return self.last

    async def due(self) -> list[AgentId]:
        """Who is due now, as a tick with no time in between tells."""
        return [due.agent for due in (await self.tick()).due]

    async def claimed(self, agent: AgentId = ANNA) -> Claim:
        """Claims an agent that the story has made due."""
        for due in (await self.tick()).due:
            if due.agent == agent:
                claim = await self.store.claim(due, "me")
                assert claim is not None
                return claim
        raise AssertionError(f"{agent} is not due")

    async def state(self, agent: AgentId = ANNA) -> AgentState | None:
        view = await self.store.agent(agent)
        return None if view is None else view.state

    async def restart(self, gap: float = 1.0, boot_id: str | None = None) -> None:
        """The process dies without a word and another one opens what it left."""
        self.now += gap
        self.boot_id = boot_id or self.boot_id
        self.store = await self.reopened()
        await self.store.open(self.instant)


def intent(former: str | None = "available") -> Intent:
    return Intent(IntentKind.SET_STATUS, target="offline", former=former, at=Epoch(START))


def due_of(claim: Claim) -> Due:
    return Due(claim.agent, claim.epoch, claim.deadline)


async def settled(world: World, follow_up: FollowUp | None = None, agent: AgentId = ANNA, number: int = 1) -> Claim:
    """An agent comes, says bye and is set, with something still to be done."""
    await world.beat(agent, number)
    await world.bye(agent, number)
    await world.wait(TIMER + 0.5)
    claim = await world.claimed(agent)
    assert await world.store.intend(claim, intent())
    action = action_of(claim, at=world.instant.epoch)
    assert await world.store.settle(claim, action, None, follow_up)
    return claim
