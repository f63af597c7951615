"""An operator wants an agent left alone: the record of it, for history and log. Connect is not called."""

from __future__ import annotations

from collections.abc import Callable

from watchdog.connect.case import dated_id
from watchdog.core.model import Action, AgentId, AgentView, Cancel, Instant, IntentKind, Outcome
from watchdog.stores.base import Store

REASON = "An operator wants the agent left alone until it is heard again."


class Cancels:
    """Leaves agents alone because somebody asks for it."""

    def __init__(self, store: Store, *, now: Callable[[], Instant], record: Callable[[Action], None]) -> None:
        """Composes.

        Args:
            store: Does it.
            now: The machine's clocks.
            record: Is given each action that is in the history, once.
        """
        self._store = store
        self._now = now
        self._record = record

    async def order(self, agent: AgentId, before: AgentView, *, reason: str, by: str) -> Cancel:
        """Leaves an agent alone until it is heard again. See `watchdog.stores.base.Store.cancel`.

        Args:
            agent: Whom.
            before: How it stands, for the history.
            reason: The operator's, for people; may be empty.
            by: Who asks, for the history.

        Raises:
            StoreUnavailable: Nothing was changed.
        """
        instant = self._now()
        action = Action(
            id=dated_id(instant, f"x-{agent.user_id}"),
            at=instant.epoch,
            agent=agent,
            intent=IntentKind.SET_STATUS,
            target="",
            outcome=Outcome.CANCELLED,
            reason=REASON,
            evidence={"by": by, "why": reason, "state": before.state.value, "due_in_s": before.due_in_s},
            calls=0,
            latency_s=0.0,
        )
        done = await self._store.cancel(agent, action)
        if done is Cancel.DONE:
            self._record(action)
        return done
