"""Agents in hand: each from its claim until it is settled, or released for a later tick.

What is done with a claimed agent is in `set_status.py` and `sign_out.py`, who is claimed and when is the dispatcher's
business. A claim that cannot be given back, because the store is away, is owed until it can.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from watchdog.connect.answers import Status
from watchdog.connect.case import Case, Later, Settled, Spared, Trail, WaitFor, action_id, left_behind
from watchdog.connect.circuit import Circuits
from watchdog.connect.directory import Directory
from watchdog.connect.guard import Observer
from watchdog.connect.plan import Job, Plans
from watchdog.connect.selection import Chosen
from watchdog.connect.set_status import SetStatus
from watchdog.connect.sign_out import SignOut
from watchdog.connect.verdict import Settle
from watchdog.connect.waiting import WaitingRoom
from watchdog.connect.witness import Witness
from watchdog.core import backoff
from watchdog.core.model import Action, AgentId, Claim, Due, Instant, IntentKind, Next, Observed, Outcome
from watchdog.core.policy import FileAgain
from watchdog.errors import AgentHeld, CallAborted, ConnectError, ConnectUnavailable, StoreUnavailable
from watchdog.stores.base import Store

SOON_AGAIN_S = 1.0
"""Wait after a refusal that other parts pace: the bucket after a 429, the circuit after a 403."""

AFTER_FAULT_S = 60.0
"""Wait of an agent whose coroutine failed by a fault of ours."""

TRAILS = 20_000
"""Most agents whose failed attempts are remembered; the oldest are forgotten first and begin a new back-off."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Run:
    task: asyncio.Task[None]
    case: Case | None = None


class Claims:
    """One coroutine an agent, in hand until its claim is settled or released."""

    def __init__(
        self,
        store: Store,
        owner: str,
        set_status: SetStatus,
        sign_out: SignOut,
        plans: Plans,
        room: WaitingRoom,
        scopes: Mapping[str, str],
        circuits: Circuits,
        directory: Directory,
        witness: Witness,
        *,
        now: Callable[[], Instant],
        random: Callable[[], float],
        record: Callable[[Action], None],
        observer: Observer,
    ) -> None:
        """Composes.

        Args:
            store: Hands out claims and keeps what becomes of them.
            owner: Name of this process in claims.
            set_status: Carries out what rules ask for.
            sign_out: Ends Connect sessions.
            plans: Tell what is still to be done after an outcome.
            room: Takes who waits for something to be over in Connect.
            scopes: Scope of the quota, by instance id.
            circuits: Are told when an agent is done who may have been their probe.
            directory: Knows the statuses' names.
            witness: Forgets who is settled.
            now: The machine's clocks.
            random: From 0 to 1, for the back-off.
            record: Is given each action that is in the history, once.
            observer: For the metrics.
        """
        self._store = store
        self._owner = owner
        self._set_status = set_status
        self._sign_out = sign_out
        self._plans = plans
        self._room = room
        self._scopes = scopes
        self._circuits = circuits
        self._directory = directory
        self._witness = witness
        self._now = now
        self._random = random
        self._record = record
        self._observer = observer
        self._running: dict[AgentId, _Run] = {}
        self._trails: dict[AgentId, Trail] = {}
        self._owed: list[tuple[Claim, float]] = []
        self._watchers: dict[AgentId, Callable[[Settle], None]] = {}
        self._draining = False

    def __contains__(self, agent: AgentId) -> bool:
        """Whether the agent is in hand."""
        return agent in self._running

    def unserved(self) -> Counter[str]:
        """How many in hand wait for their first token of PutUserStatus, by instance."""
        return Counter(
            agent.instance_id for agent, run in self._running.items() if run.case is None or run.case.unserved
        )

    def owed(self) -> list[tuple[Claim, float]]:
        """Claims to be given back, and after how long the agent may be due again. They are the caller's now."""
        owed, self._owed = self._owed, []
        return owed

    def tasks(self) -> list[asyncio.Task[None]]:
        """What runs."""
        return [run.task for run in self._running.values()]

    def interrupt(self) -> None:
        """Takes nobody in hand any more, and stops whom nothing would be left half done for."""
        self._draining = True
        for run in self._running.values():
            if run.case is not None and run.case.interruptible:
                run.task.cancel()

    def start(self, chosen: Chosen) -> None:
        """Takes an agent in hand. Returns at once."""
        agent = chosen.due.agent
        run = _Run(asyncio.create_task(self._act(chosen), name=f"agent {agent}"))
        self._running[agent] = run
        run.task.add_done_callback(lambda task: self._ended(agent, task))

    async def _act(self, chosen: Chosen) -> None:
        try:
            claim = await self._store.claim(chosen.due, self._owner)
        except StoreUnavailable:
            return
        if claim is None:
            return
        scope, boot = self._scopes[claim.agent.instance_id], self._now().boot
        case = Case(claim, scope, chosen.rank, self._trail(claim), boot)
        self._running[claim.agent].case = case
        if self._draining:
            return
        log.debug("agent.claimed", agent=str(claim.agent), epoch=claim.epoch, lag_s=round(claim.lag_s, 3))
        try:
            await self._take(case, chosen.due, await self._carry_out(case))
        except (ConnectError, CallAborted, AgentHeld) as error:
            await self._release(case, error)
        except StoreUnavailable:
            self._owed.append((claim, SOON_AGAIN_S))
            case.closed = True

    async def _carry_out(self, case: Case) -> Settled | FileAgain | WaitFor | Spared | Later:
        follow = case.claim.follow_up
        if follow is not None:
            match follow.next:
                case Next.SIGN_OUT:
                    return await self._sign_out.follow(case, follow)
                case Next.CLEAR:
                    return await self._set_status.after_contact(case, follow)
                case Next.LOG_OUT:
                    return await self._sign_out.order(case, follow)
        return await self._set_status.carry_out(case)

    async def _take(self, case: Case, due: Due, result: Settled | FileAgain | WaitFor | Spared | Later) -> None:
        match result:
            case Settled():
                await self._settle(case, result)
                return
            case FileAgain():
                case.interruptible = False
                await self._store.file_again(case.claim, result.timer_s)
            case WaitFor():
                self._room.admit(due, result.over)
                await self.give_back(case.claim, 0.0)
            case Later():
                await self.give_back(case.claim, result.delay_s)
            case Spared():
                self._forget(case.claim.agent)
        case.closed = True

    def _trail(self, claim: Claim) -> Trail:
        trail = self._trails.pop(claim.agent, None)
        if trail is None or trail.epoch != claim.epoch:
            trail = Trail(claim.epoch, self._now().boot, whole=claim.intent is None)
            if claim.intent is None and claim.follow_up is None:
                self._observer.detection_lag(claim.lag_s)
        self._trails[claim.agent] = trail
        while len(self._trails) > TRAILS:
            del self._trails[next(iter(self._trails))]
        return trail

    async def _settle(self, case: Case, done: Settled) -> None:
        case.interruptible = False
        claim, job, instant = case.claim, done.job, self._now()
        action = case.action(done.settle, self._name(case, job), instant, done.kind)
        # No earlier than it is by the store's clock, which may have stood meanwhile.
        clock = Observed(claim.deadline + claim.lag_s + instant.boot - case.claimed_at)
        follow_up = self._plans.follow_up(claim, done, clock)
        if follow_up is not None and follow_up.next is Next.CLEAR and case.trail.stuck:
            follow_up = None  # it would be refused again
        settled = await self._store.settle(claim, action, case.written(instant), follow_up)
        case.closed = True
        self._forget(action.agent)
        if settled or await self._in_history(action):
            self._record(action)
        watcher = self._watchers.get(action.agent)
        if watcher is not None and claim.ordered:
            watcher(done.settle)

    def _name(self, case: Case, job: Job | None) -> str:
        """The status that was to be set, by name; the usual one where no rule applied."""
        target = job.target if job is not None else self._directory.target(case.claim.agent.instance_id)
        return target.name if isinstance(target, Status) else ""

    def _forget(self, agent: AgentId) -> None:
        self._trails.pop(agent, None)
        self._witness.forget(agent)

    def watch(self, agent: AgentId, watcher: Callable[[Settle], None] | None) -> None:
        """Tells what becomes of the next order to log the agent out; None: nobody wants to know any more."""
        if watcher is None:
            self._watchers.pop(agent, None)
        else:
            self._watchers[agent] = watcher

    def logs_out(self, agent: AgentId) -> bool:
        """Whether an order to log the agent out is in hand, or may be: before a claim is made it is not known."""
        run = self._running.get(agent)
        return run is not None and (run.case is None or run.case.claim.ordered)

    async def _in_history(self, action: Action) -> bool:
        """Whether a `settle` that was too late has recorded the action, or the claim was void."""
        page = await self._store.actions(agent=action.agent, limit=5)
        return any(known.id == action.id for known in page.actions)

    async def _release(self, case: Case, error: ConnectError | CallAborted | AgentHeld) -> None:
        delay_s = SOON_AGAIN_S
        if isinstance(error, ConnectUnavailable):
            delay_s = backoff.wait_s(case.trail.failures, self._random())
            case.trail.failures += 1
        case.closed = True
        log.debug("agent.given_back", agent=str(case.claim.agent), why=type(error).__name__, delay_s=round(delay_s, 3))
        await self.give_back(case.claim, delay_s)

    async def give_back(self, claim: Claim, delay_s: float) -> None:
        """Releases a claim; while the store is away it is owed."""
        try:
            await self._store.release(claim, delay_s)
        except StoreUnavailable:
            self._owed.append((claim, delay_s))

    async def settle_orphan(self, orphan: Claim) -> None:
        """Settles an intent that a dead process left, whose agent has come back since."""
        instant = self._now()
        intent = orphan.intent
        evidence: dict[str, Any] = dict(orphan.evidence)
        status = None
        if intent is not None:
            evidence["left_intent"] = {"target": intent.target, "former": intent.former, "at": intent.at}
            if orphan.agent.instance_id in self._scopes:
                status = self._directory.status(orphan.agent.instance_id, intent.target)
        action = Action(
            id=action_id(instant, orphan),
            at=instant.epoch,
            agent=orphan.agent,
            intent=intent.kind if intent is not None else IntentKind.SET_STATUS,
            target=status.name if status is not None else intent.target if intent is not None else "",
            outcome=Outcome.RETURNED,
            reason="A heartbeat came; an earlier write without an outcome may have taken effect.",
            evidence=evidence,
            calls=0,
            latency_s=0.0,
        )
        try:
            writes = intent is not None and intent.kind is IntentKind.SET_STATUS
            written = left_behind(intent, instant) if writes and intent is not None else None
            if await self._store.settle(orphan, action, written) or await self._in_history(action):
                self._record(action)
        except StoreUnavailable:
            return

    def _ended(self, agent: AgentId, task: asyncio.Task[None]) -> None:
        run = self._running.pop(agent)
        self._circuits.probed(agent)
        if not task.cancelled() and task.exception() is not None:
            log.error("dispatcher.fault", agent=str(agent), exc_info=task.exception())
        if run.case is not None and not run.case.closed:
            run.case.closed = True
            self._owed.append((run.case.claim, 0.0 if self._draining else AFTER_FAULT_S))
