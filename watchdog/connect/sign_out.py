"""The intents that end a user's Connect sessions: after STATUS=Logout, or because somebody wants the agent logged out.

Ending them cannot be undone, so it comes last: the status is confirmed, no contact goes on, and after an own decision
nobody has been heard for another 10 s. An agent whom the brake has held is never signed out by an own decision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from watchdog.connect.answers import Seen, Status, StatusType
from watchdog.connect.case import Case, Later, Settled, WaitFor
from watchdog.connect.circuit import PROBE_EVERY_S
from watchdog.connect.directory import Unresolved
from watchdog.connect.dismissal import Dismissal
from watchdog.connect.plan import SIGN_OUT_AFTER_S, Job, Plans
from watchdog.connect.readback import returned
from watchdog.connect.set_status import SetStatus
from watchdog.connect.sparing import OVERRULED
from watchdog.connect.verdict import Finding, Settle, find
from watchdog.connect.witness import FRESH_LOOK_S, Sighting
from watchdog.connect.writer import Writer
from watchdog.core.model import FollowUp, Instant, IntentKind, Outcome, Standing
from watchdog.core.policy import is_live
from watchdog.errors import AgentHeld, CallAborted, ConnectDenied, ConnectInvalid, ConnectNotFound

KIND = IntentKind.SIGN_OUT

IN_TARGET = frozenset({Outcome.CONFIRMED, Outcome.ALREADY})
"""Outcomes of an ordered status after which the sessions are ended at once."""


IN_CONTACT = "A contact goes on."
"""Why sessions are not ended yet, for people."""


def engaged(seen: Seen | None) -> bool:
    """Whether a contact of the agent goes on."""
    return seen is not None and any(map(is_live, seen.contacts))


def _is_over(seen: Seen | None) -> bool:
    return seen is None or (seen.next_status is None and not engaged(seen))


class SignOut:
    """Carries out `sign_out`."""

    def __init__(
        self,
        plans: Plans,
        set_status: SetStatus,
        writer: Writer,
        dismissal: Dismissal,
        *,
        dry_run: bool,
        now: Callable[[], Instant],
    ) -> None:
        """Composes.

        Args:
            plans: Know the statuses.
            set_status: Looks, and sets the status of an order.
            writer: Calls.
            dismissal: Clears contacts that are over and keep the status from taking effect.
            dry_run: Write nothing.
            now: The machine's clocks.
        """
        self._plans = plans
        self._set_status = set_status
        self._writer = writer
        self._dismissal = dismissal
        self._dry_run = dry_run
        self._now = now

    async def follow(self, case: Case, follow: FollowUp) -> Settled | WaitFor | Later:
        """Ends the sessions of an agent whose Offline was confirmed, or is to come after a contact.

        Raises:
            ConnectError: Not now.
            CallAborted: Not now; the machine is too slow.
            AgentHeld: Not while the brake holds the agent.
            StoreUnavailable: Nothing was called after that.
        """
        job = self._plans.order(case.claim.agent, follow)
        if isinstance(job, Unresolved):
            return Settled(Settle(Outcome.SKIPPED_STATE, job.reason), None, KIND)
        if case.claim.released:
            text = "The brake has taken this silence for a fault: sessions are not ended, which could not be undone."
            return Settled(Settle(Outcome.SKIPPED_STATE, text), job, KIND)
        sighting = await self._set_status.look(case)
        sighting.check()
        seen, target = sighting.seen, job.target
        finding = find(seen, target, complete=sighting.complete)
        if finding is Finding.ELSEWHERE or (finding is Finding.ABSENT and target.type is not StatusType.OFFLINE):
            return Settled(Settle(Outcome.RETURNED, OVERRULED), job, KIND)
        if finding is Finding.NEXT or engaged(seen):
            # When that is over, nobody may be found for the whole time anew.
            case.trail.offline_since = None
            clears = job.dismiss and not self._dry_run
            if clears and finding is Finding.NEXT:
                await self._dismissal.clear(case, seen)
            return WaitFor(lambda row: _is_over(row) or (clears and self._dismissal.pending(case, row)))
        wait_s = self._too_soon_s(case, sighting)
        if wait_s > 0:
            return Later(wait_s)
        return await self._end(case, job, follow.rule, sighting)

    async def order(self, case: Case, follow: FollowUp) -> Settled | Later:
        """Sets the status of an order and ends the sessions at once. Raises as `follow`."""
        case.trail.decided = follow.asked
        job = self._plans.order(case.claim.agent, follow)
        if isinstance(job, Unresolved):
            return Settled(Settle(Outcome.FAILED, job.reason), None, KIND)
        sighting = await self._set_status.look(case)
        done = await self._set_status.set(case, job, sighting)
        if not isinstance(done, Settled):
            return Later(0.0)
        if done.settle.outcome not in IN_TARGET:
            return Settled(done.settle, job, KIND)
        # The status says nothing of contacts, and a next status was in the way of nothing: this cannot be undone.
        sighting = await self._set_status.look(case)
        sighting.check()
        finding = find(sighting.seen, job.target, complete=sighting.complete)
        if finding is Finding.NEXT or engaged(sighting.seen):
            return Settled(Settle(Outcome.NEXT_STATUS, IN_CONTACT), job, KIND)
        if finding is Finding.ELSEWHERE:
            return Settled(Settle(Outcome.RETURNED, OVERRULED), job, KIND)
        try:
            return await self._end(case, job, "", sighting)
        except ConnectDenied:
            # Until the circuit is probed again; each try costs looks, of which others are in need.
            return Later(PROBE_EVERY_S)

    def _too_soon_s(self, case: Case, sighting: Sighting) -> float:
        """Seconds that nobody has to be found for still: since the status began, or since the first look."""
        seen = sighting.seen
        if case.trail.offline_since is None:
            case.trail.offline_since = sighting.asked_at
        looked_s = sighting.asked_at - case.trail.offline_since
        shown_s = sighting.answered_at - seen.since if seen is not None and seen.since is not None else 0.0
        return SIGN_OUT_AFTER_S - max(looked_s, shown_s if sighting.dated else 0.0)

    async def _end(self, case: Case, job: Job, rule: str, sighting: Sighting) -> Settled:
        if self._dry_run:
            text = "Connect sessions would have been ended; DRY_RUN is on."
            return Settled(Settle(Outcome.DRY_RUN, text), job, KIND)
        try:
            standing = await self._writer.sign_out(
                case, job.target, rule, partial(self._look_again, case, job, sighting)
            )
        except ConnectNotFound:
            return Settled(Settle(Outcome.NO_SUCH_USER, "Connect does not know the user any more."), job, KIND)
        except ConnectInvalid as error:
            return Settled(Settle(Outcome.FAILED, str(error)), job, KIND)
        if standing is Standing.HELD:
            raise AgentHeld(f"The brake holds {case.claim.agent}.")
        if standing is Standing.RETURNED:
            return Settled(returned(case), job, KIND)
        return Settled(Settle(Outcome.CONFIRMED, ended(job.target)), job, KIND)

    async def _look_again(self, case: Case, job: Job, sighting: Sighting) -> None:
        """Raises unless the status is still in force, and no contact goes on, by a look that is not old."""
        if self._now().boot - sighting.asked_at <= FRESH_LOOK_S:
            return
        sighting = await self._set_status.look(case)
        finding = find(sighting.seen, job.target, complete=sighting.complete)
        if finding not in (Finding.TARGET, Finding.ABSENT) or engaged(sighting.seen):
            raise CallAborted("Not sent: Connect shows something else than before the wait for a token.")


def ended(target: Status) -> str:
    """Why it is done, for people."""
    return f"{target.name} is in force and no contact goes on: every Connect session of the user was ended."
