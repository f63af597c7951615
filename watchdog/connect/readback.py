"""Reading back: whether a write that Connect accepted has taken effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from watchdog.connect.answers import Seen
from watchdog.connect.case import MAY_HAVE_APPLIED, Case, shown
from watchdog.connect.dismissal import Dismissal, stuck
from watchdog.connect.plan import Job
from watchdog.connect.queue import Level
from watchdog.connect.sparing import Sparing
from watchdog.connect.verdict import Finding, Settle, after_write, find
from watchdog.connect.witness import Witness
from watchdog.core.model import Instant, Outcome, Standing
from watchdog.errors import ConnectError
from watchdog.stores.base import Store

READ_BACK_S = (2.0, 10.0, 30.0)
"""Seconds after the write: most show at once, a slow one within half a minute."""


def returned(case: Case) -> Settle:
    """The outcome for an agent who came back before the intent was settled."""
    if case.trail.accepted:
        return Settle(Outcome.RETURNED, "A heartbeat came after the status was written and before it was read back.")
    if any(write["result"] in MAY_HAVE_APPLIED for write in case.trail.writes) or case.carried:
        return Settle(Outcome.RETURNED, "A heartbeat came; an earlier write without an answer may have taken effect.")
    return Settle(Outcome.RETURNED, "A heartbeat came before anything was written.")


class ReadBack:
    """Reads back for each case; the reads of all cases are joined by the witness."""

    def __init__(
        self, store: Store, witness: Witness, sparing: Sparing, dismissal: Dismissal, now: Callable[[], Instant]
    ) -> None:
        """Composes.

        Args:
            store: Knows who has returned.
            witness: Reads.
            sparing: Knows whose deed a status is.
            dismissal: Clears contacts that are over and keep the target from taking effect.
            now: The machine's clocks.
        """
        self._store = store
        self._witness = witness
        self._sparing = sparing
        self._dismissal = dismissal
        self._now = now

    async def confirm(self, case: Case, job: Job, before: Seen | None) -> Settle | None:
        """Reads at 2, 10 and 30 s after now, until something is proven.

        Args:
            case: The claim.
            job: What was written.
            before: What was seen before.

        Returns:
            The outcome; None when the last read shows that the target is not there.

        Raises:
            ConnectError: The last read failed, so nothing is known.
            StoreUnavailable: It is not known whether the agent has returned.
        """
        written_at, target = self._now().boot, job.target
        rank = case.rank._replace(level=Level.LATER)
        for after_s in READ_BACK_S:
            await asyncio.sleep(written_at + after_s - self._now().boot)
            # An agent who is held since is read all the same: the write is done.
            if await self._store.still_gone(case.claim) is Standing.RETURNED:
                return returned(case)
            try:
                case.trail.calls += 1
                sighting = await self._witness.see(case.claim.agent, since=self._now().boot, rank=rank, patient=True)
            except ConnectError as error:
                if after_s == READ_BACK_S[-1]:
                    raise
                case.trail.read_backs.append({"after_s": after_s, "failed": type(error).__name__})
                continue
            waited_s = round(self._now().boot - written_at, 3)
            case.trail.read_backs.append({"after_s": waited_s, **shown(sighting)})
            finding = find(sighting.seen, target, complete=sighting.complete)
            settled = after_write(finding, target)
            if job.dismiss and finding in (Finding.NEXT, Finding.ELSEWHERE) and stuck(sighting.seen):
                await self._dismissal.clear(case, sighting.seen)
                if after_s != READ_BACK_S[-1]:
                    continue
            if finding is Finding.ELSEWHERE:
                settled = self._sparing.overruled_since(case, sighting, target, before)
            if settled is not None:
                return settled
            if after_s == READ_BACK_S[-1]:
                sighting.check(maybe_applied=True)
        return None
