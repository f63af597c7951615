"""A contact centre on virtual time: the real store, dispatcher and Connect model, and people who come and go."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from botocore.exceptions import BotoCoreError, ClientError

from watchdog.connect import directory
from watchdog.connect.answers import (
    ProfilePage,
    QueuePage,
    StatusPage,
    UserData,
    UserPage,
    answered_at,
    classify,
    is_dated,
    parse_queues,
    parse_status,
    parse_user,
)
from watchdog.connect.api import Instance
from watchdog.connect.dispatcher import Dispatcher, DispatcherConfig
from watchdog.core.brake import BrakeRules
from watchdog.core.clock import ClockRules
from watchdog.core.model import AgentId, Beat, BeatType, Boot, Epoch, Instant, Reply
from watchdog.core.policy import Rule, first_timer_s, plain
from watchdog.core.quota import QuotaRules
from watchdog.errors import CallAborted, StoreUnavailable
from watchdog.sandbox.direct import DirectConnect
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import Behaviour, Fault, FaultKind
from watchdog.sandbox.seed import seed
from watchdog.sandbox.world import DEFAULT_ACCOUNT, DEFAULT_REGION
from watchdog.stores.base import StoreRules, Tick
from watchdog.stores.disk import InlineDisk
from watchdog.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from watchdog.connect.reconcile import ReconcileRules
    from watchdog.core.clock import Clock
    from watchdog.core.model import Action

START = 1_700_000_000.0
TIMER = 5.0
TTL = 35.0
TICK = 0.25
QUOTA = QuotaRules(rate=2.0, burst=5.0, share=0.8)
FAST = QuotaRules(rate=10.0, burst=20.0, share=0.8)


class Suspended:
    """For how long the machine has been suspended in all: its clock went on, the loop's did not."""

    seconds = 0.0


def instant() -> Instant:
    at = asyncio.get_running_loop().time() + Suspended.seconds
    return Instant(Boot(100.0 + at), Epoch(START + at), "boot")


class DirectClient:
    """The `Connect` protocol over the direct facade; each of `send_after_s` passes before one write is sent."""

    def __init__(self, model: ConnectModel, scopes: Mapping[str, tuple[str, str]]) -> None:
        self.clients = {
            instance_id: DirectConnect(model, account=account, region=region, read_timeout_s=10.0)
            for instance_id, (account, region) in scopes.items()
        }
        self.send_after_s: list[float] = []
        self.before_send: Callable[[], Awaitable[None]] | None = None
        self.aborted = 0
        self.page = 100
        self.listed = 1000

    async def call(self, operation: str, instance_id: str, **params: Any) -> dict[str, Any]:
        try:
            return await self.clients[instance_id].call(operation, InstanceId=instance_id, **params)
        except (BotoCoreError, ClientError) as error:
            raise classify(error, operation, instance_id) from error

    async def current_user_data(self, instance_id: str, user_ids: Sequence[str], cursor: str | None = None) -> UserData:
        more = {} if cursor is None else {"NextToken": cursor}
        filters = {"Agents": list(user_ids)}
        answer = await self.call("GetCurrentUserData", instance_id, Filters=filters, MaxResults=self.page, **more)
        rows = dict(row for row in map(parse_user, answer["UserDataList"]) if row)
        token = answer.get("NextToken")
        return UserData(rows, token is None, answered_at(answer, instant().epoch), is_dated(answer), cursor=token)

    async def user_data_page(self, instance_id: str, profile_ids: Sequence[str], cursor: str | None) -> UserPage:
        more = {} if cursor is None else {"NextToken": cursor}
        filters = {"RoutingProfiles": list(profile_ids)}
        answer = await self.call("GetCurrentUserData", instance_id, Filters=filters, MaxResults=self.page, **more)
        rows = dict(row for row in map(parse_user, answer["UserDataList"]) if row)
        return UserPage(rows, answer.get("NextToken"))

    async def put_user_status(self, instance_id: str, user_id: str, status_id: str, not_after: Boot) -> None:
        await self.sending(not_after)
        await self.call("PutUserStatus", instance_id, UserId=user_id, AgentStatusId=status_id)

    async def dismiss_user_contact(self, instance_id: str, user_id: str, contact_id: str, not_after: Boot) -> None:
        await self.sending(not_after)
        await self.call("DismissUserContact", instance_id, UserId=user_id, ContactId=contact_id)

    async def delete_all_entity_sessions(self, instance_id: str, user_id: str, not_after: Boot) -> None:
        await self.sending(not_after)
        await self.call("DeleteAllEntitySessions", instance_id, EntityId=user_id, EntityType="USER")

    async def sending(self, not_after: Boot) -> None:
        if self.send_after_s:
            await asyncio.sleep(self.send_after_s.pop(0))
        if self.before_send is not None:
            await self.before_send()
        if instant().boot > not_after:
            self.aborted += 1
            raise CallAborted("late")

    async def list_routing_profile_queues(
        self, instance_id: str, profile_id: str, cursor: str | None = None
    ) -> QueuePage:
        more = {} if cursor is None else {"NextToken": cursor}
        answer = await self.call("ListRoutingProfileQueues", instance_id, RoutingProfileId=profile_id, **more)
        return QueuePage(parse_queues(answer["RoutingProfileQueueConfigSummaryList"]), answer.get("NextToken"))

    async def list_agent_statuses(self, instance_id: str, cursor: str | None = None) -> StatusPage:
        more = {} if cursor is None else {"NextToken": cursor}
        answer = await self.call("ListAgentStatuses", instance_id, MaxResults=self.listed, **more)
        return StatusPage(tuple(map(parse_status, answer["AgentStatusSummaryList"])), answer.get("NextToken"))

    async def list_routing_profiles(self, instance_id: str, cursor: str | None = None) -> ProfilePage:
        more = {} if cursor is None else {"NextToken": cursor}
        answer = await self.call("ListRoutingProfiles", instance_id, MaxResults=self.listed, **more)
        names = {row["Id"]: row["Name"] for row in answer["RoutingProfileSummaryList"]}
        return ProfilePage(names, answer.get("NextToken"))


class Metrics:
    """Counts what the dispatcher tells its observer."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.lags: list[float] = []
        self.left: dict[str, float] = {}

    def connect_call(self, operation: str, result: str) -> None:
        self.calls[operation, result] += 1

    def tokens(self, operation: str, scope: str, left: float) -> None:
        self.left[operation] = left

    def detection_lag(self, seconds: float) -> None:
        self.lags.append(seconds)


class SwitchDisk(InlineDisk):
    """A disk that can be full."""

    full = False

    async def write(self, batch: Any) -> None:
        if SwitchDisk.full:
            raise StoreUnavailable("disk full")
        await super().write(batch)


@dataclass
class World:
    """One daemon's dispatcher, its store and the Connect that it calls."""

    folder: Path
    quota: QuotaRules = QUOTA
    status: str | None = None
    dry_run: bool = False
    witness: bool = True
    skew: float = 0.0
    reconcile: ReconcileRules | None = None
    listed: bool = True
    roles: tuple[str, ...] = ()
    extra: list[str] = field(default_factory=list)
    brake: BrakeRules | None = None
    return_window: float = 900.0
    rules: tuple[Rule, ...] = ()
    reason_codes: Mapping[str, str] = field(default_factory=dict)
    dismiss: bool = True
    behaviour: Behaviour = field(default_factory=Behaviour)
    model: ConnectModel = field(init=False)
    actions: list[Action] = field(default_factory=list)
    copies: int = 0
    seq: int = 0
    clock: Clock | None = None

    def __post_init__(self) -> None:
        SwitchDisk.full = False
        Suspended.seconds = 0.0
        self.model = ConnectModel(lambda: instant().epoch + self.skew, behaviour=self.behaviour)
        self.scopes: dict[str, tuple[str, str]] = {}
        self.metrics = Metrics()
        self.flushes: list[float] = []
        self.on_flush: Callable[[], Awaitable[None]] | None = None
        self.sweep: asyncio.Task[None] | None = None
        self.tick: Tick | None = None

    def centre(
        self, name: str = "main", agents: int = 1, status: str = "Available", account: str = ""
    ) -> list[AgentId]:
        """Adds an instance with agents."""
        account = account or DEFAULT_ACCOUNT
        made = seed(self.model, agents=agents, instance_id=name, status=status, account=account)
        self.scopes[name] = (account, DEFAULT_REGION)
        return [AgentId(name, user_id) for user_id in made.users]

    async def start(self, *, wrap: Callable[[Any], Any] = lambda each: each, connect: Any = None) -> None:
        """Starts a process on what the store's file holds."""
        listings = directory.quotas(0.8)
        rules = StoreRules(
            first_timer_s(self.policy),
            ClockRules(30.0, 10.0),
            self.quota,
            listings,
            self.brake,
            frozenset(self.scopes),
            return_window_s=self.return_window,
            greets=any(rule.initial is not None for rule in self.policy),
        )
        self.store = wrap(SqliteStore(self.folder / "watchdog.db", rules, SwitchDisk))
        await self.store.open(instant())
        self.client = connect or DirectClient(self.model, self.scopes)
        instances = [
            Instance(name, region, f"arn:aws:iam::{account}:role/w" if self.assumes(name) else None)
            for name, (account, region) in self.scopes.items()
        ]
        self.dispatcher = Dispatcher(
            self.store,
            wrap(self.client),
            instances,
            DispatcherConfig(
                f"me-{self.copies}",
                self.policy,
                self.quota,
                listings,
                dry_run=self.dry_run,
                witness_ttl_s=TTL if self.witness else None,
                reconcile=self.reconcile,
                return_window_s=self.return_window,
                reason_codes=self.reason_codes,
                dismiss=self.dismiss,
            ),
            now=instant,
            random=lambda: 0.5,
            flush=self.flush,
            record=self.actions.append,
            observer=self.metrics,
        )
        if self.listed:
            await self.dispatcher.directory.refresh()
        self.sweep = asyncio.create_task(self.run())

    @property
    def policy(self) -> tuple[Rule, ...]:
        return self.rules or (plain(TIMER, self.status),)

    def assumes(self, name: str) -> bool:
        return self.scopes[name][0] != DEFAULT_ACCOUNT or name in self.roles

    async def run(self) -> None:
        while True:
            with suppress(StoreUnavailable):
                tick = self.tick = await self.store.tick(f"me-{self.copies}", instant())
                self.clock = tick.clock
                self.dispatcher.offer(tick)
            await asyncio.sleep(TICK)

    async def until(self, happened: Callable[[], object]) -> None:
        """Lets virtual time pass until something has happened."""
        while not happened():
            await asyncio.sleep(0.05)

    async def flush(self) -> None:
        self.flushes.append(instant().boot)
        if self.on_flush is not None:
            await self.on_flush()

    async def beat(
        self, *agents: AgentId, kind: BeatType = BeatType.BEAT, number: int = 1, gap_ms: float | None = None
    ) -> list[Reply]:
        self.seq += 1
        ttl = 0.0 if kind is BeatType.BYE else TTL
        made = [
            Beat(a, uuid5(NAMESPACE_URL, f"{a}#{number}").bytes, kind, self.seq, None, ttl, gap_ms=gap_ms)
            for a in agents
        ]
        return await self.store.apply(made, instant())

    async def load(
        self, *agents: AgentId, number: int = 2, login: bool = True, seq: int = 0, kind: BeatType | None = None
    ) -> list[Reply]:
        """A new page is opened, says hello, or its next beats where `seq` is not 0."""
        kind = kind or (BeatType.BEAT if seq else BeatType.HELLO)
        made = [Beat(a, uuid5(NAMESPACE_URL, f"{a}#{number}").bytes, kind, 0, seq, TTL, arrived=login) for a in agents]
        return await self.store.apply(made, instant())

    async def leave(self, *agents: AgentId) -> None:
        """Their last session says bye."""
        await self.beat(*agents)
        await self.beat(*agents, kind=BeatType.BYE)

    async def crash(self) -> None:
        """kill -9: nothing is finished; the file stays as it is at this moment."""
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.copies += 1
        copy = self.folder.with_name(f"{self.folder.name}-{self.copies}")
        shutil.copytree(self.folder, copy)
        self.folder = copy

    def fault(self, kind: FaultKind, operation: str | None = "PutUserStatus", **more: Any) -> None:
        self.model.add_fault(Fault(kind, operation, **more))

    def shown(self, agent: AgentId) -> str:
        return self.model.status_name(*agent)

    def puts(self, agent: AgentId | None = None) -> list[Any]:
        return list(self.model.calls(operation="PutUserStatus", user_id=agent.user_id if agent else None))

    def reads(self) -> list[Any]:
        return list(self.model.calls(operation="GetCurrentUserData"))

    def effective(self, agent: AgentId | None = None) -> int:
        return sum(call.effective for call in self.puts(agent))

    def outcomes(self) -> list[str]:
        return [str(action.outcome) for action in self.actions]

    def problems(self) -> set[str]:
        return {problem.code for problem in self.dispatcher.problems()}


@asynccontextmanager
async def world(folder: Path, **options: Any) -> AsyncIterator[World]:
    """A world without instances; `start` it when they are there. Nothing may be left running at its end."""
    (folder / "0").mkdir()
    made = World(folder / "0", **options)
    yield made
    if made.sweep is not None:
        made.sweep.cancel()
        await asyncio.gather(made.sweep, return_exceptions=True)
    SwitchDisk.full = False
    await made.dispatcher.drain(0.0)
    await made.store.close()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert left == []
