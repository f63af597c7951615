"""The intent `dismiss`: contacts that are over and still hold a ghost busy are cleared, after the status was set.

A contact that was missed, ended, rejected or failed fills its slot until somebody clears it, and nobody is there who
could. Until then the status that was set may remain the next one for ever.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from watchdog.connect.answers import Seen
from watchdog.connect.case import Case, numbered_id
from watchdog.connect.writer import Writer
from watchdog.core.model import Action, Instant, IntentKind, Outcome, Standing
from watchdog.core.policy import is_dismissible, is_live
from watchdog.errors import CallAborted, ConnectError, ConnectNotFound, StoreUnavailable
from watchdog.stores.base import Store

PASSING = frozenset({"ConnectThrottled", "ConnectUnavailable"})
"""Results after which the next read-back tries again."""

GONE = "gone"
"""Result for a contact that somebody has cleared meanwhile."""

log = structlog.stdlib.get_logger(__name__)


def stuck(seen: Seen | None) -> bool:
    """Whether contacts that are over, and no others, hold the agent busy."""
    return seen is not None and any(map(is_dismissible, seen.contacts)) and not any(map(is_live, seen.contacts))


class Dismissal:
    """Clears contacts."""

    def __init__(
        self, store: Store, writer: Writer, *, record: Callable[[Action], None], now: Callable[[], Instant]
    ) -> None:
        """Composes.

        Args:
            store: Keeps the history.
            writer: Calls.
            record: Is given each action that is in the history.
            now: The machine's clocks.
        """
        self._store = store
        self._writer = writer
        self._record = record
        self._now = now

    def pending(self, case: Case, seen: Seen | None) -> bool:
        """Whether `clear` would do something; what Connect has refused is not tried again."""
        if seen is None or not stuck(seen):
            return False
        done = self._done(case)
        pairs = zip(seen.contact_ids, seen.contacts, strict=False)
        return any(is_dismissible(state) and contact_id not in done for contact_id, state in pairs)

    @staticmethod
    def _done(case: Case) -> set[str]:
        return {each["contact_id"] for each in case.trail.dismissed if each["result"] not in PASSING}

    async def clear(self, case: Case, seen: Seen | None) -> None:
        """Clears the agent's contacts that are over. What Connect refuses is left, and told.

        Raises:
            StoreUnavailable: It is not known whether the agent has returned.
        """
        if seen is None or not stuck(seen):
            return
        begun = len(case.trail.dismissed)
        try:
            await self._clear(case, seen)
        finally:
            final = [each for each in case.trail.dismissed[begun:] if each["result"] not in PASSING]
            if final:
                await self._tell(case, final)

    async def _clear(self, case: Case, seen: Seen) -> None:
        done = self._done(case)
        for contact_id, state in zip(seen.contact_ids, seen.contacts, strict=False):
            if contact_id in done or not is_dismissible(state):
                continue
            told = {"contact_id": contact_id, "state": state, "result": "unanswered"}
            try:
                standing = await self._writer.dismiss(case, contact_id)
            except CallAborted:
                return
            except ConnectNotFound:
                told["result"] = GONE
                case.trail.dismissed.append(told)
                continue
            except ConnectError as error:
                told["result"] = type(error).__name__
                case.trail.dismissed.append(told)
                case.trail.stuck |= told["result"] not in PASSING
                continue
            if standing is not Standing.GONE:
                return
            told["result"] = "accepted"
            case.trail.dismissed.append(told)

    async def _tell(self, case: Case, told: list[dict[str, str]]) -> None:
        instant = self._now()
        cleared = sum(each["result"] in ("accepted", GONE) for each in told)
        number = len(case.trail.dismissed)
        action = Action(
            id=numbered_id(instant, f"d{case.claim.token:07d}-{number}", case.claim.agent),
            at=instant.epoch,
            agent=case.claim.agent,
            intent=IntentKind.DISMISS,
            target="",
            outcome=Outcome.CONFIRMED if cleared == len(told) else Outcome.FAILED,
            reason=f"{cleared} of {len(told)} contacts that were over and held the agent busy are cleared.",
            evidence={"contacts": told},
            calls=len(told),
            latency_s=round(instant.boot - case.trail.began_at, 3),
        )
        try:
            await self._store.record([action])
        except StoreUnavailable:
            log.warning("dismiss.not_recorded", agent=str(action.agent))
            raise
        self._record(action)
