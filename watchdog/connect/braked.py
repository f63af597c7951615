"""The history of the brake: an action for each agent that it stopped at the deadline, and for each that it let go."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from itertools import islice

from watchdog.connect.case import numbered_id
from watchdog.connect.directory import Directory, Unresolved
from watchdog.core.holds import Stopped
from watchdog.core.model import Action, Instant, IntentKind
from watchdog.errors import StoreUnavailable
from watchdog.stores.base import Store

MOST_WAITING = 100_000
"""Most actions that wait for a store that is away; the oldest are lost first."""

PORTION = 500
"""Actions that are written and told at a time, so that a hold of everybody does not stop the loop."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    number: int
    instant: Instant
    stopped: Stopped


class Braked:
    """Makes actions of what the ticks tell and writes them; what cannot be written now waits for the next tick."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        instances: Container[str],
        *,
        now: Callable[[], Instant],
        record: Callable[[Action], None],
    ) -> None:
        """Composes.

        Args:
            store: Keeps the history.
            directory: Has the targets.
            instances: Ids of those that it knows.
            now: The machine's clocks.
            record: Is given each action that is in the history, once.
        """
        self._store = store
        self._directory = directory
        self._instances = instances
        self._now = now
        self._record = record
        self._waiting: deque[_Waiting] = deque(maxlen=MOST_WAITING)
        self._number = 0
        self._writing = False

    @property
    def waiting(self) -> bool:
        """Whether there is something to write and nobody does."""
        return bool(self._waiting) and not self._writing

    def take(self, stopped: Sequence[Stopped]) -> None:
        """Takes what a tick told."""
        instant = self._now()
        self._waiting.extend(_Waiting(number, instant, each) for number, each in enumerate(stopped, self._number + 1))
        self._number += len(stopped)

    async def write(self) -> None:
        """Writes what waits, in order, each portion in one transaction. What the store refuses goes on waiting."""
        self._writing = True
        try:
            while self._waiting:
                await self._write(list(islice(self._waiting, PORTION)))
                await asyncio.sleep(0)
        except StoreUnavailable:
            return
        finally:
            self._writing = False

    async def _write(self, portion: Sequence[_Waiting]) -> None:
        actions = [self._action(each) for each in portion]
        await self._store.record(actions)
        for each, action in zip(portion, actions, strict=True):
            # More may have been taken meanwhile than can wait, and have pushed it out.
            if self._waiting and self._waiting[0] is each:
                self._waiting.popleft()
            self._record(action)

    def _action(self, waiting: _Waiting) -> Action:
        stopped, instant = waiting.stopped, waiting.instant
        instance_id = stopped.agent.instance_id
        target = self._directory.target(instance_id) if instance_id in self._instances else None
        return Action(
            id=numbered_id(instant, f"b{waiting.number:07d}", stopped.agent),
            at=instant.epoch,
            agent=stopped.agent,
            intent=IntentKind.SET_STATUS,
            target="" if target is None or isinstance(target, Unresolved) else target.name,
            outcome=stopped.outcome,
            reason=stopped.reason,
            evidence=stopped.evidence,
            calls=0,
            latency_s=0.0,
        )
