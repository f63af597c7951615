"""The intent `restore`: sets the former status again where ours was a mistake, ahead of everything else.

What was a mistake is found by the store and decided in `core/undo.py`, what is done about it is in
`restore_status.py`. Here one coroutine a change goes on until there is an outcome; what was begun is on the disk, and
another process goes on with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import structlog

from watchdog.connect.answers import PUT_USER_STATUS
from watchdog.connect.circuit import Line
from watchdog.connect.directory import Directory
from watchdog.connect.restore_case import RestoreCase, taken
from watchdog.connect.restore_status import RestoreStatus
from watchdog.connect.verdict import Settle
from watchdog.connect.witness import Witness
from watchdog.core import backoff
from watchdog.core.model import Action, AgentId, Instant, Outcome
from watchdog.core.undo import Change, Why
from watchdog.errors import CallAborted, ConnectError, ConnectInvalid, ConnectNotFound, StoreUnavailable
from watchdog.stores.base import Store

LEAST_WAIT_S = 0.1
"""Least wait after a failed call: it is not the next tick that comes back to a restore, but its own coroutine."""

SOON_AGAIN_S = 1.0
"""Wait after what is no failure of Connect: the store is away, or nothing was sent."""

MOST_ORDERED = 100
"""Most ordered changes in hand at a time; mistakes that were found are all in hand at once."""

KEEP = frozenset({Outcome.FAILED, Outcome.DRY_RUN})
"""Outcomes after which an order may try again."""

log = structlog.stdlib.get_logger(__name__)


class Restorer:
    """Carries out restores."""

    def __init__(
        self,
        store: Store,
        restore_status: RestoreStatus,
        directory: Directory,
        witness: Witness,
        scopes: Mapping[str, str],
        *,
        now: Callable[[], Instant],
        random: Callable[[], float],
        record: Callable[[Action], None],
    ) -> None:
        """Composes.

        Args:
            store: Knows what is to be undone, and keeps the outcomes.
            restore_status: Carries out one restore.
            directory: Knows the statuses' names.
            witness: Forgets who is settled.
            scopes: Scope of the quota, by instance id.
            now: The machine's clocks.
            random: From 0 to 1, for the back-off.
            record: Is given each action that is in the history.
        """
        self._store = store
        self._restore_status = restore_status
        self._directory = directory
        self._witness = witness
        self._scopes = scopes
        self._now = now
        self._random = random
        self._record = record
        self._cases: dict[AgentId, tuple[RestoreCase, asyncio.Task[None]]] = {}

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
            case = taken(change, self._now())
            task = asyncio.create_task(self._run(case), name=f"restore {change.agent}")
            self._cases[change.agent] = case, task
            task.add_done_callback(partial(self._ended, change.agent))

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

    def _ended(self, agent: AgentId, task: asyncio.Task[None]) -> None:
        del self._cases[agent]
        if not self._cases:
            self._restore_status.idle()
        if not task.cancelled() and task.exception() is not None:
            log.error("dispatcher.fault", agent=str(agent), exc_info=task.exception())

    async def _run(self, case: RestoreCase) -> None:
        while True:
            try:
                settle = await self._restore_status.carry_out(case)
                if settle is None or await self._settled(case, settle):
                    return
            except (ConnectNotFound, ConnectInvalid) as error:
                if await self._settled(case, Settle(Outcome.FAILED, str(error))):
                    return
            except (ConnectError, CallAborted, StoreUnavailable) as error:
                late = self._restore_status.late(case, since_order=True)
                over = isinstance(error, ConnectError) and late and case.late_until is None
                if over and await self._settled(case, Settle(Outcome.FAILED, f"Given up: {error}")):
                    return
                log.debug("agent.restore_put_off", agent=str(case.change.agent), why=type(error).__name__)
                await asyncio.sleep(self._back_off(case, error))

    def _back_off(self, case: RestoreCase, error: Exception) -> float:
        if not isinstance(error, ConnectError):
            return SOON_AGAIN_S
        pause_s = max(LEAST_WAIT_S, backoff.wait_s(case.failures, self._random()))
        case.failures += 1
        case.fault = str(error)
        return pause_s

    async def _settled(self, case: RestoreCase, settle: Settle) -> bool:
        """Records the outcome. False: the store is away."""
        action = case.action(settle, self._name(case), self._now())
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

    def _name(self, case: RestoreCase) -> str:
        """Of the status to restore; its id when the name is not known."""
        instance_id = case.change.agent.instance_id
        former = None
        if case.former_id is not None and instance_id in self._scopes:
            former = self._directory.status(instance_id, case.former_id)
        wanted = (case.greeting or {}).get("initial_state") or ""
        return former.name if former is not None else case.former_id or wanted
