"""Ghost-seconds: for how long agents who have all left at once can still get contacts, against first in, first out.

The real dispatcher and store on virtual time against the stand-in of Connect; nothing of the machine is measured.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from tests.benchmarks.results import BenchmarkError, Measurement, Result
from watchdog.connect import directory
from watchdog.connect.answers import (
    ProfilePage,
    QueuePage,
    StatusPage,
    UserData,
    UserPage,
    answered_at,
    classify,
    parse_status,
    parse_user,
)
from watchdog.connect.api import Instance
from watchdog.connect.dispatcher import Dispatcher, DispatcherConfig
from watchdog.core import quota
from watchdog.core.clock import ClockRules
from watchdog.core.model import Action, AgentId, Beat, BeatType, Boot, Epoch, Instant
from watchdog.core.policy import plain
from watchdog.core.quota import QuotaRules
from watchdog.sandbox.direct import DirectConnect
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import ContactState
from watchdog.sandbox.seed import seed
from watchdog.simulation.loop import run
from watchdog.stores.base import StoreRules
from watchdog.stores.disk import InlineDisk
from watchdog.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


TITLE = "Ghost-seconds of agents who all leave at once"
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Parts of the agents who are routable with a free slot when they leave."""

JUDGED = 0.4
TARGET = 0.6
QUOTA = QuotaRules(rate=2.0, burst=5.0, share=0.8)
TIMER_S, TTL_S, TICK_S, LATENCY_S = 5.0, 35.0, 0.25, 0.08
RINGS_S = 20.0
CONTACT_EVERY_S = 5.0
"""Between two contacts that arrive for agents of the instance, as long as one of them can get it."""

TALKS_S = (30.0, 300.0)
"""Bounds of the rest of a contact that was connected when its agent left; after-contact work follows."""

INSTANCE = "ghosts"
START = 1_700_000_000.0


def instant() -> Instant:
    """The machine's clocks in virtual time."""
    at = asyncio.get_running_loop().time()
    return Instant(Boot(100.0 + at), Epoch(START + at), "boot")


class Centre:
    """The instance, its agents, who are about to leave, and the contacts that go on arriving."""

    def __init__(self, agents: int, share: float) -> None:
        self.model = ConnectModel(lambda: instant().epoch)
        made = seed(self.model, agents=agents, instance_id=INSTANCE)
        for profile in list(made.profiles.values()):
            made.profiles[profile.id] = replace(profile, concurrency={"VOICE": 1})
        self.users = list(made.users)
        self.random = random.Random(1)  # the same world for both
        self.random.shuffle(self.users)
        self.agents = [AgentId(INSTANCE, user_id) for user_id in self.users]
        self.talking: dict[str, float] = {}
        self.ghost_s = 0.0
        self.rang = 0
        self._ringing: list[tuple[float, str, str]] = []
        self._next_at = CONTACT_EVERY_S
        kinds = (self._at_lunch, self._after_contact, self._on_contact, self._offline)
        free = round(agents * share)
        for number, user_id in enumerate(self.random.sample(self.users, agents - free)):
            kinds[number % len(kinds)](user_id)

    def _at_lunch(self, user_id: str) -> None:
        self.model.agent_sets_status(INSTANCE, user_id, "Lunch")

    def _offline(self, user_id: str) -> None:
        self.model.agent_sets_status(INSTANCE, user_id, "Offline")

    def _after_contact(self, user_id: str) -> None:
        self.model.add_contact(INSTANCE, user_id, ContactState.ENDED)

    def _on_contact(self, user_id: str) -> None:
        self.model.add_contact(INSTANCE, user_id, ContactState.CONNECTED)
        self.talking[user_id] = self.random.uniform(*TALKS_S)

    def free(self) -> list[str]:
        """Who could get the next contact."""
        instance = self.model.instance(INSTANCE)
        return [
            user.id
            for user in instance.users.values()
            if not user.contacts and user.next_status_id is None and instance.status_of(user).type == "ROUTABLE"
        ]

    async def live(self, done: Callable[[], bool]) -> None:
        """Everybody has left; lets time pass until all is done, and counts."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not done():
            if loop.time() - began > 3_600:
                raise BenchmarkError("After an hour of virtual time not everybody is served: see the dispatcher.")
            at = loop.time() - began
            free = self.free()
            self.ghost_s += len(free) * TICK_S
            self._contacts(at, free)
            await asyncio.sleep(TICK_S)

    def _contacts(self, at: float, free: Sequence[str]) -> None:
        for user_id in [each for each, end in self.talking.items() if end <= at]:
            del self.talking[user_id]
            (contact,) = self.model.instance(INSTANCE).user(user_id).contacts
            self.model.set_contact_state(INSTANCE, user_id, contact.id, ContactState.ENDED)
        for ringing in [each for each in self._ringing if each[0] <= at]:
            self._ringing.remove(ringing)
            _, user_id, contact_id = ringing
            self.model.set_contact_state(INSTANCE, user_id, contact_id, ContactState.MISSED)
        if at >= self._next_at and free:
            self._next_at = at + CONTACT_EVERY_S
            user_id = self.random.choice(free)
            contact = self.model.add_contact(INSTANCE, user_id, ContactState.INCOMING)
            self._ringing.append((at + RINGS_S, user_id, contact.id))
            self.rang += 1


class Client:
    """The `Connect` protocol over the stand-in."""

    def __init__(self, model: ConnectModel) -> None:
        self._direct = DirectConnect(model)

    async def call(self, operation: str, **params: object) -> dict[str, Any]:
        """One call, with a latency."""
        await asyncio.sleep(LATENCY_S)
        try:
            return await self._direct.call(operation, InstanceId=INSTANCE, **params)
        except (BotoCoreError, ClientError) as error:
            raise classify(error, operation, INSTANCE) from error

    async def current_user_data(self, instance_id: str, user_ids: Sequence[str], cursor: str | None = None) -> UserData:
        """See `Connect`. A page holds all of them."""
        del instance_id, cursor
        answer = await self.call("GetCurrentUserData", Filters={"Agents": list(user_ids)}, MaxResults=100)
        rows = dict(row for row in map(parse_user, answer["UserDataList"]) if row)
        return UserData(rows, complete=True, answered_at=answered_at(answer, instant().epoch))

    async def user_data_page(self, instance_id: str, profile_ids: Sequence[str], cursor: str | None) -> UserPage:
        """See `Connect`. Nothing is reconciled here."""
        raise NotImplementedError

    async def put_user_status(self, instance_id: str, user_id: str, status_id: str, not_after: Boot) -> None:
        """See `Connect`."""
        del instance_id, not_after
        await self.call("PutUserStatus", UserId=user_id, AgentStatusId=status_id)

    async def dismiss_user_contact(self, instance_id: str, user_id: str, contact_id: str, not_after: Boot) -> None:
        """See `Connect`."""
        del instance_id, not_after
        await self.call("DismissUserContact", UserId=user_id, ContactId=contact_id)

    async def delete_all_entity_sessions(self, instance_id: str, user_id: str, not_after: Boot) -> None:
        """See `Connect`. Nobody is signed out here."""
        raise NotImplementedError

    async def list_routing_profile_queues(
        self, instance_id: str, profile_id: str, cursor: str | None = None
    ) -> QueuePage:
        """See `Connect`. Nobody is logged out of a queue here."""
        raise NotImplementedError

    async def list_agent_statuses(self, instance_id: str, cursor: str | None = None) -> StatusPage:
        """See `Connect`."""
        del instance_id, cursor
        return StatusPage(tuple(map(parse_status, (await self.call("ListAgentStatuses"))["AgentStatusSummaryList"])))

    async def list_routing_profiles(self, instance_id: str, cursor: str | None = None) -> ProfilePage:
        """See `Connect`."""
        del instance_id, cursor
        rows = (await self.call("ListRoutingProfiles"))["RoutingProfileSummaryList"]
        return ProfilePage({row["Id"]: row["Name"] for row in rows})


class Silent:
    """An observer who keeps nothing."""

    def connect_call(self, operation: str, result: str) -> None:
        """Not kept."""

    def tokens(self, operation: str, scope: str, left: float) -> None:
        """Not kept."""

    def detection_lag(self, seconds: float) -> None:
        """Not kept."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one strategy in one world."""

    ghost_s: float
    drained_s: float
    rang: int
    writes: int


async def _dispatched(centre: Centre, folder: Path) -> Run:
    """The watchdog's own: real store, real dispatcher."""
    rules = StoreRules(TIMER_S, ClockRules(30.0, 10.0), QUOTA, directory.quotas(QUOTA.share))
    store = SqliteStore(folder / "ghosts.db", rules, InlineDisk)
    await store.open(instant())
    actions: list[Action] = []

    async def flushed() -> None:
        """Every heartbeat is in the store."""

    dispatcher = Dispatcher(
        store,
        Client(centre.model),
        [Instance(INSTANCE)],
        DispatcherConfig("bench", (plain(TIMER_S),), QUOTA, directory.quotas(QUOTA.share), witness_ttl_s=TTL_S),
        now=instant,
        random=random.Random(2).random,
        flush=flushed,
        record=actions.append,
        observer=Silent(),
    )
    await dispatcher.directory.refresh()

    async def sweep() -> None:
        while True:
            dispatcher.offer(await store.tick("bench", instant()))
            await asyncio.sleep(TICK_S)

    sweeping = asyncio.create_task(sweep())
    await asyncio.sleep(60)  # the grace after the listing is over, and the buckets are full
    for kind, ttl in ((BeatType.BEAT, TTL_S), (BeatType.BYE, 0.0)):
        sessions = ((agent, uuid5(NAMESPACE_URL, str(agent)).bytes) for agent in centre.agents)
        await store.apply([Beat(agent, session, kind, 1, None, ttl) for agent, session in sessions], instant())

    def served() -> bool:
        # There may be more than one of an agent: contacts that are over are cleared.
        return len({action.agent for action in actions}) == len(centre.agents)

    return await _counted(centre, served, sweeping, dispatcher.drain, store.close)


async def _in_order(centre: Centre, folder: Path) -> Run:
    """First in, first out, without a read: each agent is written in the order in which they left, within the quota."""
    del folder
    client = Client(centre.model)
    await asyncio.sleep(60)
    offline = centre.model.instance(INSTANCE).offline_status().id
    left = list(centre.agents)

    async def write() -> None:
        bucket = quota.Bucket(QUOTA.own_burst, instant().boot)
        await asyncio.sleep(TIMER_S)
        calls: set[asyncio.Task[None]] = set()
        while left:
            bucket, wait_s = quota.take(bucket, QUOTA, instant().boot)
            if wait_s:
                await asyncio.sleep(wait_s)
                continue
            call = client.put_user_status(INSTANCE, left.pop(0).user_id, offline, instant().boot)
            task = asyncio.create_task(call)
            calls.add(task)
            task.add_done_callback(calls.discard)
        await asyncio.gather(*calls)

    writing = asyncio.create_task(write())
    return await _counted(centre, writing.done, writing)


async def _counted(
    centre: Centre,
    done: Callable[[], bool],
    working: asyncio.Task[None],
    *closers: Callable[..., Awaitable[None]],
) -> Run:
    began = asyncio.get_running_loop().time()
    await centre.live(lambda: done() or (working.done() and working.exception() is not None))
    drained_s = asyncio.get_running_loop().time() - began
    if not working.done():
        working.cancel()
    for error in await asyncio.gather(working, return_exceptions=True):
        if isinstance(error, Exception):
            raise error
    for close in closers:
        await (close(0.0) if close.__name__ == "drain" else close())
    calls = centre.model.calls(operation="PutUserStatus")
    if not all(call.outcome == "ok" for call in calls) or centre.free():
        raise BenchmarkError("A call was refused, or somebody was not set: the strategies cannot be compared.")
    return Run(centre.ghost_s, drained_s, centre.rang, len(calls))


async def _run(strategy: Callable[[Centre, Path], Awaitable[Run]], agents: int, share: float, folder: Path) -> Run:
    return await strategy(Centre(agents, share), folder)


def measure(agents: int, folder: Path) -> Measurement:
    """Both strategies in the same worlds, one for each share."""
    # The daemon's log would go between the tables.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    results: list[Result] = []
    for share in SHARES:
        inside = folder / f"ghosts-{share}"
        inside.mkdir()
        ours = run(_run(_dispatched, agents, share, inside))
        fifo = run(_run(_in_order, agents, share, inside))
        name = f"{share:.0%} routable"
        drained = f"{ours.drained_s:,.0f} s and {ours.writes:,} writes until all are settled"
        results += [
            Result(f"{name}: watchdog", "ghost-s", ours.ghost_s, note=f"{ours.rang} contacts rang; {drained}"),
            Result(f"{name}: first in, first out", "ghost-s", fifo.ghost_s, note=f"{fifo.rang} contacts rang"),
            Result(
                f"{name}: ratio",
                "×",
                ours.ghost_s / fifo.ghost_s,
                digits=2,
                at_most=TARGET if share == JUDGED else None,
            ),
        ]
    method = (
        f"{agents:,} agents of one instance leave within a moment, the timer is {TIMER_S:g} s, and PutUserStatus has "
        f"{QUOTA.own_rate:g} calls a second ({QUOTA.share:g} of AWS's default of {QUOTA.rate:g}). A ghost-second is a "
        "second after the leaving in which one of them is in a routable status with a free slot and no next status. "
        "The share of such agents is given; the others are, a quarter each, in a custom status, in after-contact work, "
        f"on a contact (which ends {TALKS_S[0]:g} to {TALKS_S[1]:g} s later), and Offline already. Every "
        f"{CONTACT_EVERY_S:g} s a contact arrives; it rings {RINGS_S:g} s at any of those who are free, and the missed "
        "contact then holds the slot. The watchdog is the real dispatcher with the real store, on virtual time, "
        f"against the stand-in of Connect with {LATENCY_S * 1000:g} ms a call; first in, first out writes to everyone "
        "within the same quota, in the order of leaving, without reading. Both have the same world; chance is seeded. "
        "The share decides: who reads first serves that share first, so the ratio is near the share. Where everyone "
        "is free there is nothing to gain by reading, and nothing is lost but the first look."
    )
    return Measurement(TITLE, method, tuple(results))
