"""From due to settled: claims agents within the quota, has the intent carried out, and settles or releases.

One coroutine an agent. What is done with a claimed agent is in `set_status.py`, who is next in `queue.py`. Nothing is
lost here: what cannot be done now is released and comes back with a later tick.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from watchdog.connect.answers import GET_CURRENT_USER_DATA, PUT_USER_STATUS, Status
from watchdog.connect.api import Connect, Instance
from watchdog.connect.braked import Braked
from watchdog.connect.case import Case, Trail, action_id, left_behind
from watchdog.connect.circuit import Circuits, Problem
from watchdog.connect.directory import Directory
from watchdog.connect.guard import Guard, Observer
from watchdog.connect.held import HeldWitness
from watchdog.connect.readback import ReadBack
from watchdog.connect.reconcile import Reconciler, ReconcileRules
from watchdog.connect.restore import Restorer, RestoreRules
from watchdog.connect.scopes import Scopes
from watchdog.connect.selection import Chosen, Selection
from watchdog.connect.set_status import SetStatus
from watchdog.connect.sparing import Sparing
from watchdog.connect.tokens import Tokens
from watchdog.connect.verdict import Settle
from watchdog.connect.witness import Witness
from watchdog.connect.writer import Writer
from watchdog.core import backoff
from watchdog.core.clock import MAX_STEP_S, Clock, gives_grace
from watchdog.core.model import Action, AgentId, Claim, Due, Instant, IntentKind, Outcome, Running
from watchdog.core.quota import QuotaRules
from watchdog.errors import AgentHeld, CallAborted, ConnectError, ConnectUnavailable, StoreUnavailable
from watchdog.stores.base import Store, Tick

SOON_AGAIN_S = 1.0
"""Wait after a refusal that other parts pace: the bucket after a 429, the circuit after a 403."""

AFTER_FAULT_S = 60.0
"""Wait of an agent whose coroutine failed by a fault of ours."""

TRAILS = 20_000
"""Most agents whose failed attempts are remembered; the oldest are forgotten first and begin a new back-off."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DispatcherConfig:
    """What the dispatcher has to know of the settings.

    Attributes:
        owner: Name of this process in claims.
        status: The target status' name or id (STATUS); None is the one of type OFFLINE.
        quota: The share of Connect's quota, as the store has it.
        quotas: Exceptions from it, by operation.
        dry_run: Decide and record, write nothing (DRY_RUN).
        witness_ttl_s: Seconds that activity in Connect counts for, like a heartbeat (SESSION_TTL); None takes none as
            evidence (WITNESS).
        reconcile: What is done about agents whom nobody has seen (RECONCILE); None looks for none.
        return_window_s: Longest time from a change to its undo (RETURN_WINDOW).
        lease_s: Seconds of the lease of an agent who is restored without being heard (SESSION_TTL).
    """

    owner: str
    status: str | None
    quota: QuotaRules
    quotas: Mapping[str, QuotaRules] = field(default_factory=dict)
    dry_run: bool = False
    witness_ttl_s: float | None = None
    reconcile: ReconcileRules | None = None
    return_window_s: float = 900.0
    lease_s: float = 35.0


@dataclass(slots=True)
class _Run:
    task: asyncio.Task[None]
    case: Case | None = None


class Dispatcher:
    """Acts for all due agents of all instances."""

    def __init__(
        self,
        store: Store,
        connect: Connect,
        instances: Sequence[Instance],
        config: DispatcherConfig,
        *,
        now: Callable[[], Instant],
        random: Callable[[], float],
        flush: Callable[[], Awaitable[None]],
        record: Callable[[Action], None],
        observer: Observer,
    ) -> None:
        """Composes; nothing is called before the first `offer`, and nobody touched before the directory is loaded.

        Args:
            store: Facts and claims; serves the same instances.
            connect: Makes the calls.
            instances: Instances that may be acted on.
            config: Of the settings.
            now: The machine's clocks.
            random: From 0 to 1, for the back-off.
            flush: Applies all heartbeats that this process has accepted; raises StoreUnavailable if it cannot.
            record: Is given each action that is in the history, once.
            observer: For the metrics.
        """
        self._store = store
        self._config = config
        self._now = now
        self._random = random
        self._record = record
        self._observer = observer
        self._scopes = Scopes(instances)
        self._circuits = Circuits(now)
        self._tokens = Tokens(store, self._quota, now, observer.tokens)
        self._guard = Guard(
            connect, self._circuits, self._scopes, observer=observer, throttled=self._tokens.throttled, now=now
        )
        self.directory = Directory(self._guard, self._tokens, self._scopes, config.status, now)
        self._witness = Witness(self._guard, self._tokens, self._circuits, self._scopes, now)
        writer = Writer(
            store, self._guard, self._tokens, self._circuits, flush=flush, listening=self._listening, now=now
        )
        self._restorer = Restorer(
            RestoreRules(config.return_window_s, config.lease_s, config.dry_run),
            store,
            self._guard,
            self._tokens,
            self._circuits,
            self.directory,
            self._witness,
            self._scopes,
            flush=flush,
            listening=self._listening,
            running=lambda: Running(0.0) if self._clock is None else self._clock.running,
            now=now,
            random=random,
            record=record,
        )
        sparing = Sparing(store, config.witness_ttl_s, is_own=self._restorer.is_own, record=record, now=now)
        self._set_status = SetStatus(
            self.directory,
            self._witness,
            writer,
            ReadBack(store, self._witness, sparing, now),
            sparing,
            dry_run=config.dry_run,
            now=now,
        )
        self.reconciler = (
            None
            if config.reconcile is None
            else Reconciler(
                config.reconcile,
                self._scopes,
                store=store,
                connect=self._guard,
                tokens=self._tokens,
                circuits=self._circuits,
                directory=self.directory,
                record=record,
                now=now,
            )
        )
        self._selection = Selection(
            self._scopes,
            self.directory,
            self._circuits,
            self._witness,
            lambda scope: self._tokens.rate(PUT_USER_STATUS, scope),
            random=random,
            now=now,
        )
        self._braked = Braked(store, self.directory, self._scopes, now=now, record=record)
        self._held = HeldWitness(
            store,
            self._witness,
            self.directory,
            self._scopes,
            config.witness_ttl_s,
            is_own=self._restorer.is_own,
            record=record,
            now=now,
        )
        self._running: dict[AgentId, _Run] = {}
        self._trails: dict[AgentId, Trail] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._owed: list[tuple[Claim, float]] = []
        self._foreign: dict[str, Problem] = {}
        self._begun: set[str] = set()
        self._draining = False
        self._clock: Clock | None = None

    def offer(self, tick: Tick) -> None:
        """Takes what a tick of the store found and starts what the quota allows. Returns at once.

        Agents that are not started are offered again by the next tick; nothing is kept of this one.
        """
        if self._draining:
            return
        for scope in set(self._scopes.values()) - self._begun:
            self._begun.add(scope)
            for operation in (GET_CURRENT_USER_DATA, PUT_USER_STATUS):
                self._spawn(self._tokens.begin(operation, scope))
        owed, self._owed = self._owed, []
        for claim, delay_s in owed:
            self._spawn(self._give_back(claim, delay_s))
        for orphan in tick.orphans:
            # One that is told again meanwhile is settled once all the same: the second claim is void.
            self._spawn(self._settle_orphan(orphan))
        self._braked.take(tick.stopped)
        if self._braked.waiting:
            self._spawn(self._braked.write())
        self._held.offer(tick)
        self._note_foreign(tick.foreign)
        self._clock = tick.clock
        self._restorer.offer(tick.undos)
        if gives_grace(tick.clock):
            # Whoever was due before a gap may have returned in it, and is heard with the next retry.
            return
        waiting = [due for due in tick.due if due.agent not in self._running]
        self._circuits.keep(self._needed(waiting), self._restorer.lines())
        unserved = Counter(
            agent.instance_id for agent, run in self._running.items() if run.case is None or run.case.unserved
        )
        for chosen in self._selection.choose(waiting, unserved):
            self._start(chosen)

    async def drain(self, timeout_s: float) -> None:
        """Stops claiming, lets what is past its intent end as far as the time allows, and releases the rest.

        Nothing runs afterwards and every claim is settled or released, unless the store is away.
        """
        self._draining = True
        for run in self._running.values():
            if run.case is not None and run.case.interruptible:
                run.task.cancel()
        await self._selection.close()
        await self._held.close()
        restoring = asyncio.create_task(self._restorer.drain(timeout_s))
        ending = [*(run.task for run in self._running.values()), *self._background]
        if ending:
            await asyncio.wait(ending, timeout=timeout_s)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await restoring
        owed, self._owed = self._owed, []
        # All at once: with a store that fails slowly, one after the other would outlast the stop.
        await asyncio.gather(*(self._give_back(claim, delay_s) for claim, delay_s in owed))
        if self._braked.waiting:
            await self._braked.write()
        await self._witness.close()
        await self._tokens.close()
        await self.directory.close()

    def problems(self) -> list[Problem]:
        """What a person has to mend, each once: open circuits, listings, unknown statuses, throttling, outages."""
        found = [
            *self._circuits.problems(),
            *self.directory.problems(),
            *self._guard.problems(),
            *self._foreign.values(),
        ]
        return list({(problem.code, problem.detail): problem for problem in reversed(found)}.values())[::-1]

    def _note_foreign(self, instance_ids: Iterable[str]) -> None:
        known, self._foreign = self._foreign, {}
        for instance_id in sorted(instance_ids):
            if instance_id not in known:
                log.warning("dispatcher.unknown_instance", instance_id=instance_id)
            text = (
                f"The store has agents of instance {instance_id}. It is not in WATCHDOG_INSTANCES: nobody acts on them."
            )
            found = known.get(instance_id) or Problem("unknown_instance", text, self._now().epoch)
            self._foreign[instance_id] = found

    def _needed(self, waiting: Sequence[Due]) -> dict[str, str | None]:
        """Instances of agents who wait, and the target of each."""
        found: dict[str, str | None] = {}
        for instance_id in {due.agent.instance_id for due in waiting}:
            target = self.directory.target(instance_id)
            found[instance_id] = target.id if isinstance(target, Status) else None
        return found

    def _quota(self, operation: str) -> QuotaRules:
        return self._config.quotas.get(operation, self._config.quota)

    def _listening(self) -> bool:
        """Whether heartbeats have been heard up to now: the last tick is recent, and no grace goes on.

        After a pause whoever is in hand may have come back in it, and nobody has ticked yet.
        """
        clock = self._clock
        if clock is None or clock.boot is None or gives_grace(clock):
            return False
        return self._now().boot - clock.boot <= MAX_STEP_S

    # One agent.

    def _start(self, chosen: Chosen) -> None:
        agent = chosen.due.agent
        run = _Run(asyncio.create_task(self._act(chosen), name=f"agent {agent}"))
        self._running[agent] = run
        run.task.add_done_callback(lambda task: self._ended(agent, task))

    async def _act(self, chosen: Chosen) -> None:
        try:
            claim = await self._store.claim(chosen.due, self._config.owner)
        except StoreUnavailable:
            return
        if claim is None:
            return
        case = Case(claim, self._scopes[claim.agent.instance_id], chosen.rank, self._trail(claim))
        self._running[claim.agent].case = case
        if self._draining:
            return
        log.debug("agent.claimed", agent=str(claim.agent), epoch=claim.epoch, lag_s=round(claim.lag_s, 3))
        try:
            settle, target = await self._set_status.carry_out(case, chosen.target)
            if case.closed:
                self._trails.pop(claim.agent, None)
                self._witness.forget(claim.agent)
            else:
                await self._settle(case, settle, target)
        except (ConnectError, CallAborted, AgentHeld) as error:
            await self._release(case, error)
        except StoreUnavailable:
            self._owed.append((claim, SOON_AGAIN_S))
            case.closed = True

    def _trail(self, claim: Claim) -> Trail:
        trail = self._trails.pop(claim.agent, None)
        if trail is None or trail.epoch != claim.epoch:
            trail = Trail(claim.epoch, self._now().boot, whole=claim.intent is None)
            if claim.intent is None:
                self._observer.detection_lag(claim.lag_s)
        self._trails[claim.agent] = trail
        while len(self._trails) > TRAILS:
            del self._trails[next(iter(self._trails))]
        return trail

    async def _settle(self, case: Case, settle: Settle, target: Status) -> None:
        case.interruptible = False
        action = case.action(settle, target, self._now())
        settled = await self._store.settle(case.claim, action, case.written(self._now()))
        case.closed = True
        self._trails.pop(action.agent, None)
        self._witness.forget(action.agent)
        if settled or await self._in_history(action):
            self._record(action)

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
        await self._give_back(case.claim, delay_s)

    async def _give_back(self, claim: Claim, delay_s: float) -> None:
        try:
            await self._store.release(claim, delay_s)
        except StoreUnavailable:
            self._owed.append((claim, delay_s))

    async def _settle_orphan(self, orphan: Claim) -> None:
        instant = self._now()
        intent = orphan.intent
        evidence: dict[str, Any] = dict(orphan.evidence)
        status = None
        if intent is not None:
            evidence["left_intent"] = {"target": intent.target, "former": intent.former, "at": intent.at}
            if orphan.agent.instance_id in self._scopes:
                status = self.directory.status(orphan.agent.instance_id, intent.target)
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
            written = None if intent is None else left_behind(intent, instant)
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

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
