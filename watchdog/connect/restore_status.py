"""What is done to restore an agent's status: look, write, read back, until there is an outcome.

A return is carried out in the same way, with the status that a rule gives in place of the former one. What was a
mistake, and what a look means for its undo, is decided in `core/undo.py`; who is in hand is the business of
`restore.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from watchdog.connect.answers import PUT_USER_STATUS, Status, StatusType
from watchdog.connect.api import Connect
from watchdog.connect.case import shown
from watchdog.connect.circuit import Circuits, Line
from watchdog.connect.directory import Directory, Unresolved
from watchdog.connect.greeting import Greeting
from watchdog.connect.readback import READ_BACK_S
from watchdog.connect.restore_case import RestoreCase
from watchdog.connect.tokens import Tokens
from watchdog.connect.verdict import Settle
from watchdog.connect.witness import PAGES_MISSING, Sighting, Witness
from watchdog.connect.writer import result_of, send_fresh, unanswered
from watchdog.core import undo
from watchdog.core.model import AgentId, Boot, Instant, Outcome, Running
from watchdog.core.undo import LATE_S, VERIFY_S, Back, Decision, Look, Names, Step, Why
from watchdog.errors import CallAborted, ConnectError, ConnectUnavailable
from watchdog.stores.base import Store

REWRITES = 3
"""Times that an accepted restore which does not show is repeated."""

LOOKED_S = 2.0
"""Most age of the look that a restore rests on: whoever has waited for a token for longer is looked at again."""

ABREAST = 4
"""Restores of the same status that wait for a token or are sent at a time: a refusal costs the others none."""

OWN_S = 5.0
"""Most by which a status may have begun earlier or later than a restore that set it: a call, and whole seconds."""

PATIENT = frozenset({Why.ORDER, Why.RETURN})
"""Restores that are no mistakes of ours."""

MOST_OWN = 20_000
"""Most agents of whom it is remembered what was restored; the oldest are forgotten first."""


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


class RestoreStatus:
    """Looks, writes and reads back for each case; cases run side by side."""

    def __init__(
        self,
        rules: RestoreRules,
        store: Store,
        connect: Connect,
        tokens: Tokens,
        circuits: Circuits,
        directory: Directory,
        witness: Witness,
        greeting: Greeting,
        scopes: Mapping[str, str],
        *,
        flush: Callable[[], Awaitable[None]],
        listening: Callable[[], bool],
        running: Callable[[], Running],
        now: Callable[[], Instant],
    ) -> None:
        """Composes.

        Args:
            rules: How it is done.
            store: Knows who is there, and that a restore is begun.
            connect: Makes the calls.
            tokens: Of PutUserStatus, one a call.
            circuits: Nothing is written through an open one.
            directory: Knows the statuses.
            witness: Reads.
            greeting: Knows the status of who returns.
            scopes: Scope of the quota, by instance id.
            flush: Applies all heartbeats that this process has accepted; raises StoreUnavailable if it cannot.
            listening: Whether heartbeats have been heard up to now.
            running: The store's running time at the last tick.
            now: The machine's clocks.
        """
        self._rules = rules
        self._store = store
        self._connect = connect
        self._tokens = tokens
        self._circuits = circuits
        self._directory = directory
        self._witness = witness
        self._greeting = greeting
        self._scopes = scopes
        self._flush = flush
        self._listening = listening
        self._running = running
        self._now = now
        self._own: dict[AgentId, tuple[str, Boot]] = {}
        self._doors: dict[tuple[Line, Why | None], asyncio.Semaphore] = {}

    async def carry_out(self, case: RestoreCase) -> Settle | None:
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
            if not case.restored and self.late(case, since_order=False):
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
                case.keep = case.keep or decision.in_force
                return Settle(decision.outcome, decision.reason)
            await self._wait_for_next_look(case)

    def late(self, case: RestoreCase, *, since_order: bool) -> bool:
        """Whether it is too long ago: since the change, or since the order."""
        change = case.change
        if case.why is not Why.ORDER:
            return undo.age_s(change, self._running()) > self._rules.window_s
        return since_order and self._now().boot - case.began_at > self._rules.window_s

    def is_own(self, sighting: Sighting, agent: AgentId) -> bool:
        """Whether the status that a look shows is the one that was restored, and so no deed of the agent."""
        own, seen = self._own.get(agent), sighting.seen
        if own is None or seen is None or seen.since is None or seen.status_id != own[0]:
            return False
        restored_s_ago = sighting.asked_at - own[1]
        return abs(sighting.answered_at - seen.since - restored_s_ago) <= OWN_S

    def idle(self) -> None:
        """Nobody is in hand: the doors are forgotten."""
        self._doors.clear()

    async def _former(self, case: RestoreCase) -> Status | Settle:
        """The status to restore."""
        instance_id = case.change.agent.instance_id
        target = self._directory.target(instance_id)
        if isinstance(target, Unresolved) and not target.loaded:
            raise ConnectUnavailable(target.reason, maybe_applied=False)
        if case.why is Why.RETURN and case.greeting is None:
            ended = await self._greet(case)
            if ended is not None:
                return ended
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
            if case.why is Why.RETURN:
                case.keep = True
                return Settle(Outcome.SKIPPED_STATE, f"The status on return is {status.name}: there is nothing to set.")
            return Settle(Outcome.SKIPPED_STATE, f"The status before was {status.name}: there is nothing to restore.")
        return status

    async def _greet(self, case: RestoreCase) -> Settle | None:
        """Which status whoever returns gets; an outcome where none is to be set."""
        await self._flush()
        back = await self._store.still_back(case.change)
        if back is Back.BUSY:
            raise CallAborted("A claim of the agent has no outcome yet.")
        if back is not Back.HERE and not case.restored:
            case.keep = True
            return Settle(Outcome.SKIPPED_STATE, "The agent has left again.")
        return await self._greeting.decide(case)

    async def _gone(self, case: RestoreCase, former: Status) -> Settle:
        """The agent has left again: nothing is written any more. What was written is waited for."""
        if case.late_until is not None:
            await self._wait_out(case)
            await self._look(case, former, patient=True)
        if case.confirmed:
            return Settle(Outcome.CONFIRMED, f"{former.name} was set again; the agent has left since.")
        case.keep = True
        return Settle(Outcome.SKIPPED_STATE, "The agent has left again.")

    async def _look(self, case: RestoreCase, former: Status, *, patient: bool) -> Decision:
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
            raise ConnectUnavailable(PAGES_MISSING, maybe_applied=False)
        if case.restored and undo.shows(sighting.seen, names):
            case.confirmed = True
            self._note_own(case, former)
        elif decision.step is Step.LATER and sighting.seen is not None and sighting.seen.status_id != change.target:
            # If a late write of ours strikes now, this is what it takes away.
            case.elsewhere = True
            case.former_id = sighting.seen.status_id
        return decision

    def _looked(self, case: RestoreCase, sighting: Sighting) -> Look:
        change, instant = case.change, self._now()
        since_asked_s = instant.boot - sighting.asked_at
        written_s_ago = undo.age_s(change, self._running()) - since_asked_s

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

    async def _wait_out(self, case: RestoreCase) -> None:
        """Until a restore without an answer can take effect no longer: whoever acts next must not be surprised."""
        if case.late_until is not None:
            await asyncio.sleep(max(0.0, case.late_until - self._now().boot))
            case.late_until = None

    async def _wait_for_next_look(self, case: RestoreCase) -> None:
        """Until the next time at which a write of the target without an answer is looked for."""
        change = case.change
        unanswered_s_ago = undo.age_s(change, self._running())
        if change.unanswered_at is not None:
            unanswered_s_ago -= change.unanswered_at - change.written_at
        waits = [after_s - unanswered_s_ago for after_s in VERIFY_S if after_s > unanswered_s_ago]
        await asyncio.sleep(max(0.5, min(waits, default=0.5)))

    # The write.

    async def _restore(self, case: RestoreCase, former: Status) -> Decision | None:
        """Writes and reads back. None: look at the agent again from the beginning."""
        if self._rules.dry_run:
            return Decision(Step.LEAVE, Outcome.DRY_RUN, f"{former.name} would have been set again; DRY_RUN is on.")
        agent = case.change.agent
        line = Line(agent.instance_id, PUT_USER_STATUS, former.id)
        # A mistake does not wait behind an order or a return.
        door = line, case.why if case.why in PATIENT else None
        async with self._doors.setdefault(door, asyncio.Semaphore(ABREAST)):
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

    async def _write(self, case: RestoreCase, former: Status) -> bool:
        """Intent on disk, flush, re-check, and at once the call. False: the agent has left, or it is void."""
        if await self._store.restoring(case.change, self._now().epoch, self._rules.lease_s) is not Back.HERE:
            return False
        changed = await send_fresh(
            partial(self._changed, case),
            partial(self._put, case, former),
            flush=self._flush,
            listening=self._listening,
            now=self._now,
        )
        return changed is None

    async def _changed(self, case: RestoreCase) -> Back | None:
        back = await self._store.still_back(case.change)
        return None if back is Back.HERE else back

    async def _put(self, case: RestoreCase, former: Status, not_after: Boot) -> None:
        agent = case.change.agent
        write = {"at": self._now().epoch, "target": former.id, "result": "unanswered"}
        case.writes.append(write)
        case.writing = True
        sent_at = case.sent_at = self._now().boot
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

    async def _read_back(self, case: RestoreCase, former: Status) -> Decision:
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

    def _note_own(self, case: RestoreCase, former: Status) -> None:
        agent = case.change.agent
        self._own.pop(agent, None)
        self._own[agent] = former.id, self._now().boot if case.sent_at is None else case.sent_at
        case.sent_at = None
        while len(self._own) > MOST_OWN:
            del self._own[next(iter(self._own))]
