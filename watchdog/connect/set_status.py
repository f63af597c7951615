"""The intent `set_status` for one claimed agent, from the first look to the outcome, straight down.

Whatever cannot be done now is raised; the dispatcher releases the agent, and the next claim begins here again.
"""

from __future__ import annotations

from collections.abc import Callable

from watchdog.connect.answers import Status
from watchdog.connect.case import Case, shown
from watchdog.connect.directory import Directory, Unresolved
from watchdog.connect.queue import level
from watchdog.connect.readback import ReadBack, returned
from watchdog.connect.sparing import Sparing
from watchdog.connect.verdict import Finding, Settle, Step, before_write, find
from watchdog.connect.witness import FRESH_LOOK_S, Sighting, Witness
from watchdog.connect.writer import Writer
from watchdog.core.model import Instant, Outcome, Standing
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
        witness: Witness,
        writer: Writer,
        read_back: ReadBack,
        sparing: Sparing,
        *,
        dry_run: bool,
        now: Callable[[], Instant],
    ) -> None:
        """Composes.

        Args:
            directory: Has the target.
            witness: Sees the agent.
            writer: Writes.
            read_back: Confirms.
            sparing: Knows signs of life.
            dry_run: Write nothing.
            now: The machine's clocks.
        """
        self._directory = directory
        self._witness = witness
        self._writer = writer
        self._read_back = read_back
        self._sparing = sparing
        self._dry_run = dry_run
        self._now = now

    async def carry_out(self, case: Case, target: Status) -> tuple[Settle, Status]:
        """Does what can be done.

        Returns:
            The outcome and the target that it is about. If the agent was spared, the claim has ended with it already.

        Raises:
            ConnectError: Not now. If anything was sent, its intent is on disk.
            CallAborted: Not now; the machine is too slow.
            AgentHeld: Not while the brake holds the agent.
            StoreUnavailable: Nothing was called after that.
        """
        for _ in range(RESOLUTIONS):
            try:
                return await self._attempt(case, target), target
            except (ConnectNotFound, ConnectInvalid) as error:
                again = await self._reconsider(case, target, error)
            if isinstance(again, Settle):
                return again, target
            target = again
        return Settle(Outcome.FAILED, "Connect refuses each status that the directory names as the target."), target

    async def _attempt(self, case: Case, target: Status) -> Settle:
        sighting = await self._look(case)
        finding = find(sighting.seen, target, complete=sighting.complete)
        if finding is Finding.ELSEWHERE:
            alive = self._sparing.overruled_before(case, sighting, target)
            alive = alive or await self._sparing.spare(case, sighting, target)
            if alive is not None:
                return alive
        step = before_write(finding, target, case.carried, dry_run=self._dry_run)
        match step:
            case Settle():
                return step
            case Step.WAIT:
                raise ConnectUnavailable("GetCurrentUserData: pages are missing from the answer.", maybe_applied=False)
            case Step.WRITE_UNSEEN:
                if not await self._write(case, target, None, last=True):
                    return returned(case)
                return Settle(Outcome.ALREADY, f"Connect did not show the agent; {target.name} was set to be sure.")
        former = sighting.seen.status_id if sighting.seen else None
        while case.trail.accepted <= REWRITES:
            if not await self._write(case, target, former, last=False):
                return returned(case)
            settled = await self._read_back.confirm(case, target, sighting.seen)
            shown_last = self._witness.glance(case.claim.agent)
            if settled is None and shown_last is not None:
                settled = await self._sparing.spare(case, shown_last, target)
            if settled is not None:
                return settled
        return Settle(
            Outcome.FAILED,
            f"Connect accepted {target.name} {case.trail.accepted} times and does not show it; see the evidence.",
        )

    async def _write(self, case: Case, target: Status, former: str | None, *, last: bool) -> bool:
        """Writes. Returns False when the agent has returned."""
        standing = await self._writer.write(case, target, former, last=last)
        if standing is Standing.HELD:
            raise AgentHeld(f"The brake holds {case.claim.agent}.")
        return standing is Standing.GONE

    async def _look(self, case: Case) -> Sighting:
        """The sighting to decide on: newer than anything that may have been written for this agent."""
        started_at = self._now().boot
        untouched = case.claim.intent is None and not case.trail.writes
        since = started_at - FRESH_LOOK_S if untouched else started_at
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

    async def _reconsider(self, case: Case, target: Status, error: ConnectNotFound | ConnectInvalid) -> Settle | Status:
        """Why Connect refused: the target, the user or the instance. The directory is read again for it."""
        instance_id = case.claim.agent.instance_id
        await self._directory.refresh(instance_id)
        fault = self._directory.fault(instance_id)
        if fault is not None:
            raise ConnectUnavailable(fault.detail, maybe_applied=False) from error
        again = self._directory.target(instance_id)
        if isinstance(again, Unresolved):
            return Settle(Outcome.FAILED, again.reason)
        if again.id != target.id:
            return again
        if isinstance(error, ConnectNotFound):
            return Settle(Outcome.NO_SUCH_USER, "Connect does not know the user any more.")
        return Settle(Outcome.FAILED, str(error))
