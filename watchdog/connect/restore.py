"""The intent `restore`: sets the former status again where ours was a mistake, ahead of everything else.

What was a mistake is found by the store and decided in `core/undo.py`. Here one coroutine a change looks, writes and
reads back, until there is an outcome; what was begun is on the disk, and another process goes on with it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from watchdog.connect.answers import PUT_USER_STATUS, Status, StatusType
from watchdog.connect.api import Connect
from watchdog.connect.case import dated_id, shown
from watchdog.connect.circuit import Circuits, Line
from watchdog.connect.directory import Directory, Unresolved
from watchdog.connect.queue import Level, Rank
from watchdog.connect.readback import READ_BACK_S
from watchdog.connect.tokens import Tokens
from watchdog.connect.verdict import Settle
from watchdog.connect.witness import Sighting, Witness
from watchdog.connect.writer import result_of, send_fresh, unanswered
from watchdog.core import backoff, undo
from watchdog.core.model import Action, AgentId, Boot, Instant, IntentKind, Observed, Outcome, Running
from watchdog.core.undo import LATE_S, VERIFY_S, Back, Change, Decision, Look, Names, Step, Why
from watchdog.errors import (
    CallAborted,
    ConnectError,
    ConnectInvalid,
    ConnectNotFound,
    ConnectUnavailable,
    StoreUnavailable,
)
from watchdog.stores.base import Store

REWRITES = 3
"""Times that an accepted restore which does not show is repeated."""

LOOKED_S = 2.0
"""Most age of the look that a restore rests on: whoever has waited for a token for longer is looked at again."""

LEAST_WAIT_S = 0.1
"""Least wait after a failed call: it is not the next tick that comes back to a restore, but its own coroutine."""

SOON_AGAIN_S = 1.0
"""Wait after what is no failure of Connect: the store is away, or nothing was sent."""

MOST_ORDERED = 100
"""Most ordered changes in hand at a time; mistakes that were found are all in hand at once."""

ABREAST = 4
"""Restores of the same status that wait for a token or are sent at a time: a refusal costs the others none."""

KEEP = frozenset({Outcome.FAILED, Outcome.DRY_RUN})
"""Outcomes after which an order may try again."""

OWN_S = 5.0
"""Most by which a status may have begun earlier or later than a restore that set it: a call, and whole seconds."""

MOST_OWN = 20_000
"""Most agents of whom it is remembered what was restored; the oldest are forgotten first."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RestoreRules:
    """How it is done.

    Attributes:
        window_s: Longest time from the change to its undo, unless an operator orders it (RETURN_WINDOW).
        lease_s: Seconds of the lease of an agent who is restored without being heard (SESSION_TTL).
        dry_run: Write nothing.
    """

    window_s: float
    lease_s: float
    dry_run: bool


@dataclass(slots=True, eq=False)
class _Case:
    """One change in hand.

    Attributes:
        change: As it was told.
        why: Why it is undone.
        rank: The place in the queues.
        began_at: When it was taken in hand.
        former_id: The status to restore.
        late_until: A restore without an answer may take effect until then.
        looked_at: When the last look was asked for.
        elsewhere: A look showed that the target was not in force.
        restored: A restore was accepted, or may have taken effect.
        confirmed: A look after a restore showed its status.
        keep: The change may be undone another time.
        refreshed: The directory was read again for it.
        accepted: Restores that Connect accepted.
        failures: Calls that failed.
        fault: Why the last of them did.
        calls: Connect calls made, batched reads included.
        writing: A write is under way.
        looks: What was seen.
        writes: Each restore, and its result.
    """

    change: Change
    why: Why
    rank: Rank
    began_at: Boot
    former_id: str | None
    late_until: Boot | None = None
    looked_at: Boot | None = None
    elsewhere: bool = False
    restored: bool = False
    confirmed: bool = False
    keep: bool = False
    refreshed: bool = False
    accepted: int = 0
    failures: int = 0
    fault: str = ""
    calls: int = 0
    writing: bool = False
    looks: list[dict[str, Any]] = field(default_factory=list)
    writes: list[dict[str, Any]] = field(default_factory=list)


class Restorer:
    """Carries out restores."""

    def __init__(
        self,
        rules: RestoreRules,
        store: Store,
        connect: Connect,
        tokens: Tokens,
        circuits: Circuits,
        directory: Directory,
        witness: Witness,
        scopes: Mapping[str, str],
        *,
        flush: Callable[[], Awaitable[None]],
        listening: Callable[[], bool],
        running: Callable[[], Running],
        now: Callable[[], Instant],
        random: Callable[[], float],
        record: Callable[[Action], None],
    ) -> None:
        """Composes.

        Args:
            rules: How it is done.
            store: Knows what is to be undone, and who is there.
            connect: Makes the calls.
            tokens: Of PutUserStatus, one a call.
            circuits: Nothing is written through an open one.
            directory: Knows the statuses.
            witness: Reads.
            scopes: Scope of the quota, by instance id.
            flush: Applies all heartbeats that this process has accepted; raises StoreUnavailable if it cannot.
            listening: Whether heartbeats have been heard up to now.
            running: The store's running time at the last tick.
            now: The machine's clocks.
            random: From 0 to 1, for the back-off.
            record: Is given each action that is in the history.
        """
        self._rules = rules
        self._store = store
        self._connect = connect
        self._tokens = tokens
        self._circuits = circuits
        self._directory = directory
        self._witness = witness
        self._scopes = scopes
        self._flush = flush
        self._listening = listening
        self._running = running
        self._now = now
        self._random = random
        self._record = record
        self._cases: dict[AgentId, tuple[_Case, asyncio.Task[None]]] = {}
        self._own: dict[AgentId, tuple[str, Boot]] = {}
        self._sent_at: dict[AgentId, Boot] = {}
        self._doors: dict[tuple[Line, bool], asyncio.Semaphore] = {}

    def lines(self) -> frozenset[Line]:
        """What is waited for: circuits that are open there are needed."""
        return frozenset(
            Line(agent.instance_id, PUT_USER_STATUS, case.former_id)
            for agent, (case, _) in self._cases.items()
            if case.former_id is not None
        )

    def offer(self, undos: Iterable[Change]) -> None:
        """Takes what a tick told; what is in hand already is left alone. Returns at once."""
        ordered = sum(case.why is Why.ORDER for case, _ in self._cases.values())
        for change in undos:
            if change.undo is None or change.agent in self._cases:
                continue
            if change.undo.why is Why.ORDER:
                if ordered >= MOST_ORDERED:
                    continue
                ordered += 1
            case = self._case(change)
            task = asyncio.create_task(self._run(case), name=f"restore {change.agent}")
            self._cases[change.agent] = case, task
            task.add_done_callback(functools.partial(self._ended, change.agent))

    async def drain(self, timeout_s: float) -> None:
        """Lets writes that are under way end as far as the time allows. Nothing runs afterwards."""
        tasks = [task for _, task in self._cases.values()]
        for case, task in self._cases.values():
            if not case.writing:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _case(self, change: Change) -> _Case:
        instant = self._now()
        why = Why.ORDER if change.undo is None else change.undo.why
        # Whoever we have just wronged comes before whoever an operator has thought of.
        place = Observed(float("inf")) if why is Why.ORDER else change.settled
        case = _Case(change, why, Rank(Level.UNDO, place), instant.boot, change.former)
        sent_at = None if change.undo is None else change.undo.sent_at
        if sent_at is not None:
            ago_s = min(LATE_S, max(0.0, instant.epoch - sent_at))
            case.restored, case.late_until = True, Boot(instant.boot + LATE_S - ago_s)
        return case

    def _ended(self, agent: AgentId, task: asyncio.Task[None]) -> None:
        del self._cases[agent]
        self._sent_at.pop(agent, None)
        if not self._cases:
            self._doors.clear()
        if not task.cancelled() and task.exception() is not None:
            log.error("dispatcher.fault", agent=str(agent), exc_info=task.exception())

    async def _run(self, case: _Case) -> None:
        while True:
            try:
                settle = await self._attempt(case)
                if settle is None or await self._settled(case, settle):
                    return
            except (ConnectNotFound, ConnectInvalid) as error:
                if await self._settled(case, Settle(Outcome.FAILED, str(error))):
                    return
            except (ConnectError, CallAborted, StoreUnavailable) as error:
                late = self._late(case, since_order=True)
                over = isinstance(error, ConnectError) and late and case.late_until is None
                if over and await self._settled(case, Settle(Outcome.FAILED, f"Given up: {error}")):
                    return
                log.debug("agent.restore_put_off", agent=str(case.change.agent), why=type(error).__name__)
                await asyncio.sleep(self._back_off(case, error))

    def _back_off(self, case: _Case, error: Exception) -> float:
        if not isinstance(error, ConnectError):
            return SOON_AGAIN_S
        pause_s = max(LEAST_WAIT_S, backoff.wait_s(case.failures, self._random()))
        case.failures += 1
        case.fault = str(error)
        return pause_s

    async def _settled(self, case: _Case, settle: Settle) -> bool:
        """Records the outcome. False: the store is away."""
        action = self._action(case, settle)
        forget = settle.outcome not in KEEP and not case.keep
        try:
            recorded = await self._store.restored(case.change, action, forget=forget)
        except StoreUnavailable:
            await asyncio.sleep(SOON_AGAIN_S)
            return False
        self._witness.forget(case.change.agent)
        if recorded:
            self._record(action)
        return True

    # One attempt.

    async def _attempt(self, case: _Case) -> Settle | None:
        """Goes on until there is an outcome; None when there is nothing to be undone any more."""
        agent = case.change.agent
        if agent.instance_id not in self._scopes:
            return Settle(Outcome.SKIPPED_STATE, "The instance is not in WATCHDOG_INSTANCES.")
        while True:
            former = await self._former(case)
            if isinstance(former, Settle):
                return former
            await self._flush()
            back = await self._store.still_back(case.change)
            if back is Back.VOID:
                return None
            if back is Back.BUSY:
                raise CallAborted("A claim of the agent has no outcome yet.")
            if back is Back.GONE:
                return await self._gone(case, former)
            if not case.restored and self._late(case, since_order=False):
                outcome = Outcome.FAILED if case.fault else Outcome.SKIPPED_STATE
                return Settle(outcome, f"RETURN_WINDOW is over. {case.fault}".strip())
            if not self._listening():
                raise CallAborted("Nothing is done: after a gap agents are given time to return.")
            looked = await self._look(case, former, patient=False)
            decision = await self._restore(case, former) if looked.step is Step.RESTORE else looked
            if decision is None:
                continue
            if decision.step is Step.LEAVE:
                await self._wait_out(case)
                if case.confirmed:
                    return Settle(Outcome.CONFIRMED, f"Connect shows {former.name} again.")
                return Settle(decision.outcome, decision.reason)
            await self._wait_for_next_look(case)

    async def _former(self, case: _Case) -> Status | Settle:
        """The status to restore."""
        instance_id = case.change.agent.instance_id
        target = self._directory.target(instance_id)
        if isinstance(target, Unresolved) and not target.loaded:
            raise ConnectUnavailable(target.reason, maybe_applied=False)
        if case.former_id is None:
            return Settle(Outcome.SKIPPED_STATE, "Connect did not show the agent before: nothing is known to restore.")
        status = self._directory.status(instance_id, case.former_id)
        if status is None and not case.refreshed:
            case.refreshed = True
            await self._directory.refresh(instance_id)
            status = self._directory.status(instance_id, case.former_id)
        if status is None:
            return Settle(Outcome.SKIPPED_STATE, "The status before is not there any more.")
        if status.type is StatusType.OFFLINE or status.id == case.change.target:
            return Settle(Outcome.SKIPPED_STATE, f"The status before was {status.name}: there is nothing to restore.")
        return status

    async def _gone(self, case: _Case, former: Status) -> Settle:
        """The agent has left again: nothing is written any more. What was written is waited for."""
        if case.late_until is not None:
            await self._wait_out(case)
            await self._look(case, former, patient=True)
        if case.confirmed:
            return Settle(Outcome.CONFIRMED, f"{former.name} was set again; the agent has left since.")
        case.keep = True
        return Settle(Outcome.SKIPPED_STATE, "The agent has left again.")

    async def _look(self, case: _Case, former: Status, *, patient: bool) -> Decision:
        change, instant = case.change, self._now()
        try:
            sighting = await self._witness.see(change.agent, since=instant.boot, rank=case.rank, patient=patient)
        finally:
            case.calls += 1
        case.looked_at = sighting.asked_at
        case.looks.append(shown(sighting))
        target = self._directory.status(change.agent.instance_id, change.target)
        names = Names(
            former.id,
            former.name,
            target.name if target is not None else "",
            hides=target is not None and target.type is StatusType.OFFLINE,
        )
        look = self._looked(case, sighting)
        decision = undo.decide(change, look, names, elsewhere=case.elsewhere, restored=case.restored)
        if decision.step is Step.AGAIN:
            raise ConnectUnavailable("GetCurrentUserData: pages are missing from the answer.", maybe_applied=False)
        if case.restored and undo.shows(sighting.seen, names):
            case.confirmed = True
            self._note_own(change.agent, former)
        elif decision.step is Step.LATER and sighting.seen is not None and sighting.seen.status_id != change.target:
            # If a late write of ours strikes now, this is what it takes away.
            case.elsewhere = True
            case.former_id = sighting.seen.status_id
        return decision

    def _looked(self, case: _Case, sighting: Sighting) -> Look:
        change, instant = case.change, self._now()
        since_asked_s = instant.boot - sighting.asked_at
        written_s_ago = undo.age_s(change, self._running(), instant.epoch) - since_asked_s

        def ago(at: float | None) -> float | None:
            # Measured from the write, so that a wall clock that is set back makes nothing young again.
            return None if at is None else written_s_ago - (at - change.written_at)

        return Look(
            sighting.seen,
            sighting.complete,
            sighting.answered_at,
            written_s_ago,
            ago(change.unanswered_at),
            ago(change.back_at),
        )

    def _late(self, case: _Case, *, since_order: bool) -> bool:
        """Whether it is too long ago: since the change, or since the order."""
        change = case.change
        if case.why is not Why.ORDER:
            return undo.age_s(change, self._running(), self._now().epoch) > self._rules.window_s
        return since_order and self._now().boot - case.began_at > self._rules.window_s

    async def _wait_out(self, case: _Case) -> None:
        """Until a restore without an answer can take effect no longer: whoever acts next must not be surprised."""
        if case.late_until is not None:
            await asyncio.sleep(max(0.0, case.late_until - self._now().boot))
            case.late_until = None

    async def _wait_for_next_look(self, case: _Case) -> None:
        """Until the next time at which a write of the target without an answer is looked for."""
        change = case.change
        unanswered_s_ago = undo.age_s(change, self._running(), self._now().epoch)
        if change.unanswered_at is not None:
            unanswered_s_ago -= change.unanswered_at - change.written_at
        waits = [after_s - unanswered_s_ago for after_s in VERIFY_S if after_s > unanswered_s_ago]
        await asyncio.sleep(max(0.5, min(waits, default=0.5)))

    # The write.

    async def _restore(self, case: _Case, former: Status) -> Decision | None:
        """Writes and reads back. None: look at the agent again from the beginning."""
        if self._rules.dry_run:
            return Decision(Step.LEAVE, Outcome.DRY_RUN, f"{former.name} would have been set again; DRY_RUN is on.")
        agent = case.change.agent
        line = Line(agent.instance_id, PUT_USER_STATUS, former.id)
        # A mistake does not wait behind an order.
        async with self._doors.setdefault((line, case.why is Why.ORDER), asyncio.Semaphore(ABREAST)):
            # Before the token, which is not spent on a refusal, and after having waited for it.
            self._circuits.check(line)
            await self._tokens.take(PUT_USER_STATUS, self._scopes[agent.instance_id], agent.instance_id, case.rank)
            self._circuits.check(line)
            if case.looked_at is None or self._now().boot - case.looked_at > LOOKED_S:
                decision = await self._look(case, former, patient=False)
                if decision.step is not Step.RESTORE:
                    return decision
            if not await self._write(case, former):
                return None
        decision = await self._read_back(case, former)
        if decision.step is Step.RESTORE:
            if case.accepted > REWRITES:
                text = f"Connect accepted {former.name} {case.accepted} times and does not show it; see the evidence."
                return Decision(Step.LEAVE, Outcome.FAILED, text)
            return None
        return decision

    async def _write(self, case: _Case, former: Status) -> bool:
        """Intent on disk, flush, re-check, and at once the call. False: the agent has left, or it is void."""
        if await self._store.restoring(case.change, self._now().epoch, self._rules.lease_s) is not Back.HERE:
            return False
        changed = await send_fresh(
            functools.partial(self._changed, case),
            functools.partial(self._put, case, former),
            flush=self._flush,
            listening=self._listening,
            now=self._now,
        )
        return changed is None

    async def _changed(self, case: _Case) -> Back | None:
        back = await self._store.still_back(case.change)
        return None if back is Back.HERE else back

    async def _put(self, case: _Case, former: Status, not_after: Boot) -> None:
        agent = case.change.agent
        write = {"at": self._now().epoch, "target": former.id, "result": "unanswered"}
        case.writes.append(write)
        case.writing = True
        sent_at = self._sent_at[agent] = self._now().boot
        try:
            await self._connect.put_user_status(agent.instance_id, agent.user_id, former.id, not_after)
        except (CallAborted, ConnectError) as error:
            case.calls += not isinstance(error, CallAborted)
            write["result"] = result_of(error)
            if unanswered(error):
                case.restored, case.late_until = True, Boot(sent_at + LATE_S)
            raise
        finally:
            case.writing = False
            self._witness.forget(agent)
        case.calls += 1
        case.accepted += 1
        case.restored = True
        write["result"] = "accepted"

    async def _read_back(self, case: _Case, former: Status) -> Decision:
        """What the first read proves that proves something; `RESTORE` when the last one shows the target still."""
        written_at = self._now().boot
        decision = Decision(Step.RESTORE)
        for after_s in READ_BACK_S:
            await asyncio.sleep(written_at + after_s - self._now().boot)
            try:
                decision = await self._look(case, former, patient=True)
            except ConnectError:
                if after_s == READ_BACK_S[-1]:
                    raise
                continue
            if decision.step in (Step.LEAVE, Step.LATER):
                return decision
        return decision

    def is_own(self, sighting: Sighting, agent: AgentId) -> bool:
        """Whether the status that a look shows is the one that was restored, and so no deed of the agent."""
        own, seen = self._own.get(agent), sighting.seen
        if own is None or seen is None or seen.since is None or seen.status_id != own[0]:
            return False
        restored_s_ago = sighting.asked_at - own[1]
        return abs(sighting.answered_at - seen.since - restored_s_ago) <= OWN_S

    def _note_own(self, agent: AgentId, former: Status) -> None:
        self._own.pop(agent, None)
        self._own[agent] = former.id, self._sent_at.pop(agent, self._now().boot)
        while len(self._own) > MOST_OWN:
            del self._own[next(iter(self._own))]

    def _action(self, case: _Case, settle: Settle) -> Action:
        instant, change = self._now(), case.change
        instance_id = change.agent.instance_id
        former = None
        if case.former_id is not None and instance_id in self._scopes:
            former = self._directory.status(instance_id, case.former_id)
        return Action(
            id=dated_id(instant, f"u{change.token:07d}"),
            at=instant.epoch,
            agent=change.agent,
            intent=IntentKind.RESTORE,
            target=former.name if former is not None else case.former_id or "",
            outcome=settle.outcome,
            reason=settle.reason,
            evidence={**undo.evidence(change), "looks": case.looks, "writes": case.writes},
            calls=case.calls,
            latency_s=round(instant.boot - case.began_at, 3),
        )
