"""The intent `set_status` for one claimed agent, from the first look to the outcome, straight down.

Whatever cannot be done now is raised; the dispatcher releases the agent, and the next claim begins here again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from watchdog.connect.answers import Seen, StatusType
from watchdog.connect.case import Case, Later, Settled, Spared, WaitFor, shown
from watchdog.connect.directory import Directory, Unresolved
from watchdog.connect.dismissal import Dismissal, stuck
from watchdog.connect.plan import Job, Plans
from watchdog.connect.queue import level
from watchdog.connect.readback import ReadBack, returned
from watchdog.connect.sparing import OVERRULED, Sparing
from watchdog.connect.verdict import Finding, Settle, Step, before_write, find
from watchdog.connect.witness import FRESH_LOOK_S, PAGES_MISSING, Sighting, Witness
from watchdog.connect.writer import Writer
from watchdog.core import policy
from watchdog.core.model import FollowUp, Instant, Outcome, Standing
from watchdog.core.policy import FileAgain, Skip, WaitForContact
from watchdog.errors import AgentHeld, ConnectError, ConnectInvalid, ConnectNotFound, ConnectUnavailable

REWRITES = 3
"""Times that an accepted write which does not show is repeated."""

RESOLUTIONS = 3
"""Times that a refused target is looked up again; each time only if the directory has another one."""


class SetStatus:
    """Carries out `set_status`."""

    def __init__(
        self,
        directory: Directory,
        plans: Plans,
        witness: Witness,
        writer: Writer,
        read_back: ReadBack,
        dismissal: Dismissal,
        sparing: Sparing,
        *,
        dry_run: bool,
        now: Callable[[], Instant],
    ) -> None:
        """Composes.

        Args:
            directory: Knows statuses and profiles.
            plans: The rules.
            witness: Sees the agent.
            writer: Writes.
            read_back: Confirms.
            dismissal: Clears contacts that are over.
            sparing: Knows signs of life.
            dry_run: Write nothing.
            now: The machine's clocks.
        """
        self._directory = directory
        self._plans = plans
        self._witness = witness
        self._writer = writer
        self._read_back = read_back
        self._dismissal = dismissal
        self._sparing = sparing
        self._dry_run = dry_run
        self._now = now

    async def carry_out(self, case: Case) -> Settled | FileAgain | WaitFor | Spared | Later:
        """Does what can be done for an agent who is due by a rule.

        Raises:
            ConnectError: Not now. If anything was sent, its intent is on disk.
            CallAborted: Not now; the machine is too slow.
            AgentHeld: Not while the brake holds the agent.
            StoreUnavailable: Nothing was called after that.
        """
        try:
            sighting = await self.look(case)
        except (ConnectNotFound, ConnectInvalid) as error:
            return Settled(await self._unknown(case, error), None)
        sighting.check()
        job = self._begun(case, sighting)
        if job is None:
            decision = await self._decide(case, sighting.seen)
            if not isinstance(decision, Job):
                return decision
            job = decision
        return await self.set(case, job, sighting)

    async def after_contact(self, case: Case, follow: FollowUp) -> Settled | WaitFor | Spared:
        """Sees that a status that follows a contact is applied. Raises as `carry_out`."""
        job = self._plans.order(case.claim.agent, follow)
        if isinstance(job, Unresolved):
            return Settled(Settle(Outcome.SKIPPED_STATE, job.reason), None)
        sighting = await self.look(case)
        sighting.check()
        seen, target = sighting.seen, job.target
        match find(seen, target, complete=sighting.complete):
            case Finding.NEXT if stuck(seen):
                if self._dry_run or not job.dismiss:
                    return Settled(Settle(Outcome.NEXT_STATUS, f"{target.name} follows a contact that is over."), job)
                await self._dismissal.clear(case, seen)
                settled = await self._read_back.confirm(case, job, seen)
                if settled is not None:
                    return Settled(settled, job)
                # Something else has taken its place: a deed of the agent's, or what Connect makes of the dismissal.
                return await self.set(case, job, await self.look(case))
            case Finding.NEXT:
                return WaitFor(partial(_is_over, target.name))
            case Finding.ABSENT if target.type is not StatusType.OFFLINE:
                return Settled(Settle(Outcome.RETURNED, OVERRULED), job)
            case Finding.ELSEWHERE:
                return Settled(Settle(Outcome.RETURNED, OVERRULED), job)
        return Settled(Settle(Outcome.CONFIRMED, f"{target.name} was applied when the contact had ended."), job)

    async def set(self, case: Case, job: Job, sighting: Sighting) -> Settled | Spared:
        """Sets the status of a job. Raises as `carry_out`.

        Args:
            case: The claim.
            job: What to set.
            sighting: From `look`.
        """
        for attempt in range(RESOLUTIONS):
            if attempt:
                sighting = await self.look(case)
            try:
                return await self._attempt(case, job, sighting)
            except (ConnectNotFound, ConnectInvalid) as error:
                again = await self._reconsider(case, job, error)
            if isinstance(again, Settle):
                return Settled(again, job)
            job = again
        settle = Settle(Outcome.FAILED, "Connect refuses each status that the directory names as the target.")
        return Settled(settle, job)

    def _begun(self, case: Case, sighting: Sighting) -> Job | None:
        """The job of an earlier claim that has taken effect: its own filters would not match any more."""
        if case.carried is None:
            return None
        job = self._plans.carried(case.claim, case.carried)
        if job is None:
            return None
        finding = find(sighting.seen, job.target, complete=sighting.complete)
        return None if finding is Finding.ELSEWHERE else job

    async def _decide(self, case: Case, seen: Seen | None) -> Job | Settled | FileAgain | WaitFor:
        claim, instance_id = case.claim, case.claim.agent.instance_id
        if seen is not None and self._plans.by_profile:
            await self._directory.named_profile(instance_id, seen.profile_id)
        facts = self._plans.facts(instance_id, seen)
        case.trail.decided = {"silent_s": round(claim.silent_s, 3), "profile": facts.profile}
        decision = self._plans.decide(claim, seen)
        match decision:
            case Unresolved():
                raise ConnectUnavailable(decision.reason, maybe_applied=False)
            case Skip():
                return Settled(Settle(decision.outcome, decision.reason), None)
            case WaitForContact():
                if case.trail.waits_since is None:
                    case.trail.waits_since = self._now().boot
                return WaitFor(lambda row: policy.by_contact(decision.rule, row.contacts if row else ()) is None)
            case Job():
                case.trail.decided |= {"rule": decision.name, "stage": decision.index}
        if case.trail.waits_since is not None:
            case.trail.decided["waited_for_contact_s"] = round(self._now().boot - case.trail.waits_since, 3)
        return decision

    async def _attempt(self, case: Case, job: Job, sighting: Sighting) -> Settled | Spared:
        seen, ordered = sighting.seen, case.claim.ordered
        finding = find(seen, job.target, complete=sighting.complete)
        if finding is Finding.ELSEWHERE and not ordered:
            overruled = self._sparing.overruled_before(case, sighting, job.target)
            if overruled is not None:
                return Settled(overruled, job)
            if await self._sparing.spare(case, sighting, job.target):
                return Spared()
        step = before_write(finding, job.target, case.carried, dry_run=self._dry_run)
        match step:
            case Settle():
                if finding is Finding.NEXT and job.dismiss and not self._dry_run and stuck(seen):
                    step = await self._unstick(case, job, seen) or step
                return Settled(step, job, shown=seen is not None)
            case Step.WAIT:
                raise ConnectUnavailable(PAGES_MISSING, maybe_applied=False)
            case Step.WRITE_UNSEEN:
                if not await self._write(case, job, None, last=not ordered):
                    return Settled(returned(case), job)
                text = f"Connect did not show the agent; {job.target.name} was set to be sure."
                return Settled(Settle(Outcome.ALREADY, text), job, shown=False)
        return await self._written(case, job, seen)

    async def _written(self, case: Case, job: Job, seen: Seen | None) -> Settled | Spared:
        """Writes and reads back, again where an accepted write does not show."""
        former = seen.status_id if seen else None
        while case.trail.accepted <= REWRITES:
            if not await self._write(case, job, former, last=False):
                return Settled(returned(case), job)
            settled = await self._read_back.confirm(case, job, seen)
            if settled is not None:
                return Settled(settled, job)
            shown_last = None if case.claim.ordered else self._witness.glance(case.claim.agent)
            if shown_last is not None and await self._sparing.spare(case, shown_last, job.target):
                return Spared()
        name = job.target.name
        text = f"Connect accepted {name} {case.trail.accepted} times and does not show it; see the evidence."
        return Settled(Settle(Outcome.FAILED, text), job)

    async def _unstick(self, case: Case, job: Job, seen: Seen | None) -> Settle | None:
        """Clears what would leave the target the next status for ever. Returns that the agent has come back, if so."""
        await self._dismissal.clear(case, seen)
        settled = await self._read_back.confirm(case, job, seen)
        return settled if settled is not None and settled.outcome is Outcome.RETURNED else None

    async def _write(self, case: Case, job: Job, former: str | None, *, last: bool) -> bool:
        """Writes. Returns False when the agent has returned."""
        standing = await self._writer.write(case, job.target, former, rule=job.name, last=last)
        if standing is Standing.HELD:
            raise AgentHeld(f"The brake holds {case.claim.agent}.")
        return standing is Standing.GONE

    async def look(self, case: Case) -> Sighting:
        """The sighting to decide on: newer than the end of the timer, and than anything written for this agent."""
        started_at = self._now().boot
        untouched = case.claim.intent is None and case.claim.follow_up is None and not case.trail.writes
        # A shorter timer may have ended a moment ago, and the agent been looked at then.
        since = max(started_at - FRESH_LOOK_S, case.claimed_at - case.claim.lag_s) if untouched else started_at
        try:
            sighting = await self._witness.see(case.claim.agent, since=since, rank=case.rank)
        except ConnectError:
            case.trail.calls += 1
            raise
        if sighting.asked_at >= started_at:
            case.trail.calls += 1
        if case.trail.before is None:
            case.trail.before = shown(sighting)
        seen = sighting.seen
        kind = self._directory.type_of(case.claim.agent.instance_id, seen.status_id) if seen is not None else None
        case.rank = case.rank._replace(level=level(seen, kind))
        return sighting

    async def _reconsider(self, case: Case, job: Job, error: ConnectNotFound | ConnectInvalid) -> Settle | Job:
        """Why Connect refused: the target, the user or the instance. The directory is read again for it."""
        settle = await self._unknown(case, error)
        again = self._plans.again(case.claim.agent, job)
        if isinstance(again, Unresolved):
            return Settle(Outcome.FAILED, again.reason)
        return again if again.target.id != job.target.id else settle

    async def _unknown(self, case: Case, error: ConnectNotFound | ConnectInvalid) -> Settle:
        """What a refusal means if it is not about the status; the directory is read again to tell the instance's."""
        instance_id = case.claim.agent.instance_id
        await self._directory.refresh(instance_id)
        fault = self._directory.fault(instance_id)
        if fault is not None:
            raise ConnectUnavailable(fault.detail, maybe_applied=False) from error
        if isinstance(error, ConnectNotFound):
            return Settle(Outcome.NO_SUCH_USER, "Connect does not know the user any more.")
        return Settle(Outcome.FAILED, str(error))


def _is_over(target: str, row: Seen | None) -> bool:
    """Whether nothing keeps a next status from being applied any more but contacts that can be cleared."""
    return row is None or row.next_status != target or stuck(row)
