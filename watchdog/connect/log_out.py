"""An explicit logout: the order, and what became of it, for whoever asked.

What can refuse it is looked at before anything is changed, in `log_out_check.py`. From then on the order is the
store's: it survives the process, and is carried out by `sign_out.py` as any other claim.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from watchdog.connect.answers import Status
from watchdog.connect.case import dated_id
from watchdog.connect.claims import Claims
from watchdog.connect.log_out_check import LogOutCheck
from watchdog.connect.verdict import Settle
from watchdog.core.logout import Failure
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    FollowUp,
    Instant,
    IntentKind,
    Next,
    Observed,
    Outcome,
)
from watchdog.errors import LogOutFailed, StoreUnavailable
from watchdog.stores.base import Store

DONE_S = 30.0
"""Longest time for which whoever asked waits: the status is read back for as long."""

LOOK_AGAIN_S = 0.5
"""How often it is looked whether the agent has returned, as long as nobody has claimed it."""

FAILURES: Mapping[Outcome, Failure] = {
    Outcome.RETURNED: Failure.RETURNED,
    Outcome.NO_SUCH_USER: Failure.NO_USER,
    Outcome.DRY_RUN: Failure.DRY_RUN,
    Outcome.NEXT_STATUS: Failure.AFTER_CONTACT,
}
"""What outcomes mean to whoever asked; any other is a refusal of Connect."""

BACK = "The agent said hello before it was logged out."

log = structlog.stdlib.get_logger(__name__)


class LogOut:
    """Logs agents out because somebody asks for it; one order an agent at a time."""

    def __init__(
        self,
        check: LogOutCheck,
        store: Store,
        claims: Claims,
        *,
        now: Callable[[], Instant],
        record: Callable[[Action], None],
    ) -> None:
        """Composes.

        Args:
            check: Looks first.
            store: Takes the order.
            claims: Carry the order out, and tell what became of it.
            now: The machine's clocks.
            record: Is given each action that is in the history, once.
        """
        self._check = check
        self._store = store
        self._claims = claims
        self._now = now
        self._record = record
        self._tasks: dict[AgentId, asyncio.Task[None]] = {}
        self._closed = False

    async def order(self, agent: AgentId, *, queue: str | None, reason_code: str | None, by: str) -> None:
        """Logs an agent out. Afterwards its status is set and read back, and its Connect sessions are ended.

        Args:
            agent: Whom; of an instance that is watched.
            queue: Id or ARN of the only queue of its routing profile; None for the agent as a whole.
            reason_code: Tells which status is set; None for the one of type OFFLINE.
            by: Who asks, for the history.

        Raises:
            LogOutFailed: It is not done, or not yet.
            StoreUnavailable: Connect could not be asked; nothing was changed.
        """
        if agent in self._tasks:
            raise _under_way()
        if self._closed:
            raise _stopping()
        task = self._tasks[agent] = asyncio.create_task(
            self._carry_out(agent, queue, reason_code, by), name=f"log out {agent}"
        )
        try:
            await asyncio.wait({task})
        finally:
            # Whoever asked may have gone; an order that was given goes on without us.
            task.cancel()
            del self._tasks[agent]
        if task.cancelled():
            raise _stopping()
        task.result()

    async def close(self) -> None:
        """Answers whoever waits. Orders that were given are the store's."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_out(self, agent: AgentId, queue: str | None, reason_code: str | None, by: str) -> None:
        try:
            target = await self._check.target(agent, queue, reason_code)
        except LogOutFailed as error:
            log.info("logout.refused", agent=str(agent), why=error.why)
            raise
        follow_up = FollowUp(Next.LOG_OUT, Observed(0.0), target=target.id, reason_code=reason_code, queue=queue, by=by)
        settle = await self._done(agent, target, follow_up)
        if settle.outcome is Outcome.CONFIRMED:
            return
        why = FAILURES.get(settle.outcome, Failure.REFUSED)
        raise LogOutFailed(why, f"{settle.reason} {_ADVICE.get(why, _LOOK)}")

    async def _done(self, agent: AgentId, target: Status, follow_up: FollowUp) -> Settle:
        """Gives the order, and waits for what becomes of it."""
        if self._claims.logs_out(agent):
            raise _under_way()
        told: asyncio.Future[Settle] = asyncio.get_running_loop().create_future()
        self._claims.watch(agent, lambda settle: None if told.done() else told.set_result(settle))
        try:
            async with asyncio.timeout(DONE_S):
                if not await self._store.log_out(agent, follow_up, self._now()):
                    text = "The agent's former status is being set again. Nothing was changed. Try again."
                    raise LogOutFailed(Failure.UNDER_WAY, text)
                while not told.done():
                    await asyncio.wait({told}, timeout=LOOK_AGAIN_S)
                    if not told.done() and await self._is_back(agent) and not told.done():
                        return await self._returned(agent, target, follow_up)
                return told.result()
        except TimeoutError:
            text = f"It is not done after {DONE_S:.0f} s, and goes on. {_LOOK} /v1/status tells what is in the way."
            raise LogOutFailed(Failure.LATE, text) from None
        except StoreUnavailable as error:
            text = "The store cannot be written now; the order may be in force all the same. Try again."
            raise LogOutFailed(Failure.STORE, text) from error
        finally:
            self._claims.watch(agent, None)

    async def _is_back(self, agent: AgentId) -> bool:
        """Whether the agent was heard after the order, and nobody has it in hand who would tell so."""
        view = await self._store.agent(agent)
        if view is None or agent in self._claims:
            return False
        # The order has ended all sessions; its time may not have come while the clock stands.
        return view.state is AgentState.GRACE or any(session.expires_in_s >= 0 for session in view.sessions)

    async def _returned(self, agent: AgentId, target: Status, follow_up: FollowUp) -> Settle:
        instant = self._now()
        action = Action(
            id=dated_id(instant, f"l-{agent.user_id}"),
            at=instant.epoch,
            agent=agent,
            intent=IntentKind.SIGN_OUT,
            target=target.name,
            outcome=Outcome.RETURNED,
            reason=BACK,
            evidence=follow_up.asked,
            calls=0,
            latency_s=0.0,
        )
        await self._store.record([action])
        self._record(action)
        return Settle(Outcome.RETURNED, BACK)


_LOOK = "/v1/actions tells what was done."

_ADVICE: Mapping[Failure, str] = {
    Failure.RETURNED: "Its sessions in Connect were not ended. Try again if it is to be logged out all the same.",
    Failure.AFTER_CONTACT: "Its sessions in Connect are ended after that.",
    Failure.NO_USER: "There is nobody to log out.",
}


def _under_way() -> LogOutFailed:
    return LogOutFailed(Failure.UNDER_WAY, "The agent is being logged out already. /v1/actions tells when it is done.")


def _stopping() -> LogOutFailed:
    text = "The daemon stops. An order that was begun goes on when it runs again: /v1/actions tells. Else try again."
    return LogOutFailed(Failure.STOPPING, text)
