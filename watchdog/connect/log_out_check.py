"""Whether an agent can be logged out now because somebody asks for it. Nothing is changed here.

All of it is read anew from Connect. What stands in the way is raised, with what to do about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from watchdog.connect.answers import DELETE_ALL_ENTITY_SESSIONS, PUT_USER_STATUS, Seen, Status, StatusType
from watchdog.connect.circuit import ANY_OPERATION, Circuits, Line
from watchdog.connect.directory import Directory, Unresolved
from watchdog.connect.queue import Level, Rank
from watchdog.connect.scopes import Scopes
from watchdog.connect.sign_out import engaged
from watchdog.connect.witness import PAGES_MISSING, Witness
from watchdog.core.logout import Failure
from watchdog.core.model import AgentId, Instant, Observed
from watchdog.errors import ConnectError, ConnectInvalid, ConnectNotFound, LogOutFailed

LOOK_S = 10.0
"""Longest time in which Connect is asked whether the agent can be logged out: longer than any one call takes."""


@dataclass(frozen=True, slots=True)
class LogOutRules:
    """What it has to know of the settings.

    Attributes:
        reason_codes: Reason code → name or id of a status (REASON_CODES).
        dry_run: Write nothing (DRY_RUN).
    """

    reason_codes: Mapping[str, str]
    dry_run: bool = False


class LogOutCheck:
    """Looks before an agent is logged out."""

    def __init__(
        self,
        rules: LogOutRules,
        circuits: Circuits,
        directory: Directory,
        witness: Witness,
        scopes: Scopes,
        *,
        now: Callable[[], Instant],
    ) -> None:
        """Composes.

        Args:
            rules: Of the settings.
            circuits: Tell what is refused in any case.
            directory: Knows statuses, and lists queues.
            witness: Sees the agent.
            scopes: Of quotas and credentials.
            now: The machine's clocks.
        """
        self._rules = rules
        self._circuits = circuits
        self._directory = directory
        self._witness = witness
        self._scopes = scopes
        self._now = now

    async def target(self, agent: AgentId, queue: str | None, reason_code: str | None) -> Status:
        """The status to set for an agent who can be logged out now.

        Args:
            agent: Whom.
            queue: Id or ARN of the only queue of its routing profile; None for the agent as a whole.
            reason_code: Tells which status; None for the one of type OFFLINE.

        Raises:
            LogOutFailed: It cannot.
            StoreUnavailable: Connect could not be asked.
        """
        if self._rules.dry_run:
            raise LogOutFailed(Failure.DRY_RUN, "WATCHDOG_DRY_RUN is on: nothing is written. Nobody is logged out.")
        try:
            async with asyncio.timeout(LOOK_S):
                target = await self._status(agent.instance_id, reason_code)
                self._check_circuits(agent.instance_id, target)
                seen = await self._signed_in(agent)
                await self._check_queues(agent.instance_id, seen, queue)
        except TimeoutError:
            text = f"Connect could not be asked within {LOOK_S:.0f} s. Nothing was changed. Try again."
            raise LogOutFailed(Failure.CONNECT, text) from None
        except ConnectError as error:
            raise LogOutFailed(Failure.CONNECT, f"{error} Nothing was changed.") from error
        if engaged(seen):
            text = "A contact of the agent goes on. Nothing was changed. Try again when it has ended."
            raise LogOutFailed(Failure.CONTACT, text)
        return target

    async def _status(self, instance_id: str, reason_code: str | None) -> Status:
        wanted = None
        if reason_code is not None:
            wanted = self._rules.reason_codes.get(reason_code)
            if wanted is None:
                known = ", ".join(sorted(self._rules.reason_codes)) or "none"
                text = f"There is no such reason code; there are: {known}. WATCHDOG_REASON_CODES has them."
                raise LogOutFailed(Failure.REASON_CODE, text)
        found = await self._directory.found(instance_id, wanted)
        if isinstance(found, Unresolved):
            if not found.loaded:
                raise LogOutFailed(Failure.CONNECT, f"{found.reason} Nothing was changed. Try again.")
            what = "the one status of type OFFLINE" if wanted is None else f"one status {wanted!r}, of the reason code"
            text = f"The instance does not have {what}. Correct WATCHDOG_REASON_CODES, or the instance's statuses."
            raise LogOutFailed(Failure.STATUS, text)
        if found.type is StatusType.ROUTABLE:
            text = (
                f"Status {found.name!r} is of type ROUTABLE: an agent without a page would get contacts in it. "
                "Give the reason code another one in WATCHDOG_REASON_CODES."
            )
            raise LogOutFailed(Failure.STATUS, text)
        return found

    def _check_circuits(self, instance_id: str, target: Status) -> None:
        """Refuses what Connect is known to refuse half-way."""
        for line in (
            Line(instance_id, PUT_USER_STATUS, target.id),
            Line(instance_id, DELETE_ALL_ENTITY_SESSIONS),
            Line(self._scopes.credentials(instance_id), ANY_OPERATION),
        ):
            self._circuits.check(line)

    async def _signed_in(self, agent: AgentId) -> Seen:
        """What Connect shows of the agent now, who is signed in."""
        try:
            rank = Rank(Level.SOON, Observed(0.0))
            sighting = await self._witness.see(agent, since=self._now().boot, rank=rank)
        except (ConnectNotFound, ConnectInvalid) as error:
            await self._directory.refresh(agent.instance_id)
            fault = self._directory.fault(agent.instance_id)
            if fault is not None:
                raise LogOutFailed(Failure.CONNECT, f"{fault.detail} Nothing was changed.") from error
            text = "Connect does not know the user. Name the agent by the ids in its ARN."
            raise LogOutFailed(Failure.NO_USER, text) from error
        seen = sighting.seen
        if seen is None and not sighting.complete:
            raise LogOutFailed(Failure.CONNECT, f"{PAGES_MISSING} Nothing was changed. Try again.")
        kind = None if seen is None else self._directory.type_of(agent.instance_id, seen.status_id)
        if seen is None or kind is StatusType.OFFLINE:
            text = "The agent is not signed in: Connect does not show it, or shows it Offline. There is nothing to do."
            raise LogOutFailed(Failure.NOT_SIGNED_IN, text)
        return seen

    async def _check_queues(self, instance_id: str, seen: Seen, queue: str | None) -> None:
        if not seen.profile_id:
            text = "Connect did not tell the agent's routing profile. Nothing was changed. Try again."
            raise LogOutFailed(Failure.CONNECT, text)
        queues = await self._directory.queues(instance_id, seen.profile_id)
        if not queues:
            text = "The agent's routing profile has no queue: it is logged in to none. Nothing was changed."
            raise LogOutFailed(Failure.NO_QUEUE, text)
        if queue is None:
            return
        others = [each for each in queues if queue not in (each.id, each.arn)]
        if len(others) == len(queues):
            text = "The agent's routing profile does not have this queue. Leave `queue` out to log the agent out."
            raise LogOutFailed(Failure.QUEUE, text)
        if others:
            text = (
                f"Connect has no logout of one queue, and the agent's routing profile has {len(others)} more. Leave "
                "`queue` out to log the agent out of all, or take the queue out of the routing profile."
            )
            raise LogOutFailed(Failure.QUEUE, text)
