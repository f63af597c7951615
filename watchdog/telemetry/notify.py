"""Tells receivers what happened: which event goes to whom, in which order, and again until it is taken.

The history is the outbox of actions: for each receiver the store has the number up to which it has got them, so that
none is lost with the process. Changes of the brake and problems are kept in memory. Each receiver has a task of its
own: one that is slow or dead holds up no other, and nothing of the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol
from uuid import uuid4

import structlog

from watchdog.core.backoff import LAST_S, wait_s
from watchdog.core.holds import BrakeChange, HoldView
from watchdog.core.model import Action, Epoch
from watchdog.errors import NotDelivered, NotKeeper, StoreUnavailable
from watchdog.stores.base import Outbox
from watchdog.telemetry import cloudevents
from watchdog.telemetry.cloudevents import TOLD, Delivery, Event, Problem

MAX_BEHIND = 10_000
"""Actions that a receiver may be behind. Of 50,000 agents that is a bad hour; who mends a receiver later reads the
history."""

MAX_AGE_S = 86_400.0
"""Wall-clock seconds after which nobody is told of an action any more."""

MAX_NEWS = 100
"""Changes of the brake and of problems that wait for a receiver."""

PAGE = 50
"""Actions read at a time."""

IDLE_S = 30.0
"""Longest time between two looks at the history; usually the record of an action is the sign."""

STORE_RETRY_S = 1.0

WATCH_S = 1.0
"""Between two looks at the problems."""

FAILING_S = 300.0
"""A receiver that has taken nothing for so long needs a person."""

BUS = "eventbridge"
"""The event bus among the receivers."""

RESULTS = ("delivered", "failed", "dropped")
"""What becomes of events and attempts, for the metric."""

log = structlog.stdlib.get_logger(__name__)


class Target(Protocol):
    """Where to: a URL (`webhook.py`) or an event bus (`eventbridge.py`)."""

    @property
    def most(self) -> int:
        """Events that it takes at a time."""

    @property
    def key(self) -> str:
        """A name that tells nothing of where it is, the same in each process."""

    @property
    def running(self) -> bool:
        """Whether a call is left that cannot be cancelled."""

    async def deliver(self, events: Sequence[Event]) -> Delivery:
        """Tells it at least one event and at most `most`, each once.

        Raises:
            NotDelivered: It may or may not have them.
        """

    async def close(self) -> None:
        """Lets the connections go."""


@dataclass(frozen=True, slots=True)
class Failing:
    """A receiver that takes nothing.

    Attributes:
        receiver: Its place among the URLs, from 1, since URLs are secrets; or `BUS`.
        why: How the last attempt failed.
        since: Wall clock of the first failure in a row.
        lasting: It stays so until a person mends something.
    """

    receiver: int | str
    why: str
    since: Epoch
    lasting: bool = False


class Notifier:
    """All receivers."""

    def __init__(
        self,
        webhooks: Sequence[Target],
        outbox: Outbox,
        *,
        bus: Target | None = None,
        problems: Callable[[], Iterable[Problem]],
        epoch: Callable[[], Epoch],
        random: Callable[[], float],
        count: Callable[[str, int], None],
    ) -> None:
        """Nothing is sent before `run`.

        Args:
            webhooks: Where to; each is told of by its place.
            outbox: The history.
            bus: Where to, besides.
            problems: What a person has to mend, as of now.
            epoch: The wall clock.
            random: From 0 to 1, for the back-off.
            count: Told how many times which of `RESULTS` came.
        """
        self._problems = problems
        self._epoch = epoch
        self._known: Mapping[tuple[str, Epoch, int], Problem] = {}
        targets: dict[int | str, Target] = dict(enumerate(webhooks, 1))
        if bus is not None:
            targets[BUS] = bus
        self._receivers = [
            _Receiver(name, target, outbox, epoch=epoch, random=random, count=count) for name, target in targets.items()
        ]

    @property
    def running(self) -> bool:
        """Whether a call is left that cannot be cancelled."""
        return any(receiver.target.running for receiver in self._receivers)

    async def run(self) -> None:
        """Delivers until it is cancelled. A fault of ours in one receiver's task is told, and ends nothing."""
        try:
            async with asyncio.TaskGroup() as group:
                for receiver in self._receivers:
                    group.create_task(receiver.run())
                while True:
                    self.look_at_problems()
                    await asyncio.sleep(WATCH_S)
        finally:
            for receiver in self._receivers:
                await receiver.target.close()

    def action(self, action: Action) -> None:
        """Sink: there is an action in the history."""
        if action.outcome in TOLD:
            for receiver in self._receivers:
                receiver.wake.set()

    def brake(self, change: BrakeChange, hold: HoldView) -> None:
        """A group has changed its state."""
        at = self._epoch()
        self._tell(cloudevents.of_brake(change, hold, _key(at), at))

    def look_at_problems(self) -> None:
        """Tells of problems that are new, and of those that have ended."""
        found = _named(self._problems())
        at = self._epoch()
        for name, problem in found.items():
            if name not in self._known:
                self._tell(cloudevents.of_problem(problem, _key(at), at, ended=False))
        for name, problem in self._known.items():
            if name not in found:
                self._tell(cloudevents.of_problem(problem, _key(at), at, ended=True))
        self._known = found

    def failing(self) -> list[Failing]:
        """Receivers that have not taken everything for `FAILING_S`, or will not before a person has mended them."""
        found = [receiver.failing for receiver in self._receivers]
        now = self._epoch()
        return [each for each in found if each is not None and (each.lasting or now - each.since >= FAILING_S)]

    def _tell(self, event: Event) -> None:
        for receiver in self._receivers:
            receiver.tell(event)


class _Receiver:
    """One of them: where it is in the history, what waits for it, and how it does.

    Attributes:
        wake: There may be something to send.
        failing: How it fails; None when the last attempt succeeded.
    """

    def __init__(
        self,
        name: int | str,
        target: Target,
        outbox: Outbox,
        *,
        epoch: Callable[[], Epoch],
        random: Callable[[], float],
        count: Callable[[str, int], None],
    ) -> None:
        self.target = target
        self.wake = asyncio.Event()
        self.failing: Failing | None = None
        self._name = name
        self._outbox = outbox
        self._epoch = epoch
        self._random = random
        self._count = count
        self._news: deque[Event] = deque()
        self._at: int | None = None
        self._kept: int | None = None
        self._failures = 0
        # Of those that are told together: some may have been taken.
        self._taken: set[str] = set()

    def tell(self, event: Event) -> None:
        """Queues an event that is in no history; the oldest makes room."""
        if len(self._news) == MAX_NEWS:
            self._news.popleft()
            self._drop(1, "too many wait")
        self._news.append(event)
        self.wake.set()

    async def run(self) -> None:
        """Delivers events in their order, each until it is taken or dropped."""
        while True:
            self.wake.clear()
            try:
                if await self._deliver_some():
                    continue
                pause_s = None
            except NotDelivered as error:
                pause_s = self._failed(error)
            except NotKeeper:
                # Another daemon delivers. Where it is then, is read anew.
                self._at, pause_s = None, STORE_RETRY_S
            except StoreUnavailable:
                pause_s = STORE_RETRY_S
            except Exception:  # a fault of ours with one event must not end the others
                log.exception("notify.fault", receiver=self._name)
                pause_s = LAST_S
            if pause_s is not None:
                await asyncio.sleep(pause_s)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self.wake.wait()

    async def _deliver_some(self) -> bool:
        """Delivers what waits in memory, then a page of the history. Returns whether there may be more."""
        while self._news:
            news = tuple(islice(self._news, self.target.most))
            await self._deliver(news)
            # Some may have been dropped meanwhile, to make room.
            self._news = deque(event for event in self._news if event not in news)
        at = await self._place()
        page = await self._outbox.recorded(at, PAGE)
        if page.last - at > MAX_BEHIND:
            self._drop(page.last - at - MAX_BEHIND, "too far behind")
            at = self._at = page.last - MAX_BEHIND
            page = await self._outbox.recorded(at, PAGE)
        batch: list[Event] = []
        for number, action in page.actions:
            if action.outcome not in TOLD:
                continue
            if self._epoch() - action.at > MAX_AGE_S:
                await self._pass(batch, number - 1)
                batch = []
                self._drop(1, "too old")
                self._at = number
                continue
            batch.append(cloudevents.of_action(action))
            if len(batch) == self.target.most:
                await self._pass(batch, number)
                batch = []
                if self._news:
                    return True
        await self._pass(batch, page.through)
        return page.through < page.last

    async def _pass(self, batch: Sequence[Event], through: int) -> None:
        """Delivers what there is, and notes that everything up to that number is done."""
        if batch:
            await self._deliver(batch)
        self._at = through
        await self._keep()

    async def _place(self) -> int:
        """Where the receiver is in the history; one that is new begins at its end."""
        if self._at is None:
            self._at = self._kept = await self._outbox.delivered(self.target.key)
        if self._at is None:
            self._at = (await self._outbox.recorded(0, 1)).last
            await self._keep()
        return self._at

    async def _keep(self) -> None:
        if self._at is not None and self._at != self._kept:
            await self._outbox.mark_delivered(self.target.key, self._at)
            self._kept = self._at

    async def _deliver(self, events: Sequence[Event]) -> None:
        """Tells events that go together, but for those taken before.

        Raises:
            NotDelivered: Some are left; which were taken is remembered.
        """
        wanted = [event for event in events if event.id not in self._taken]
        if wanted:
            done = await self.target.deliver(wanted)
            if done.never:
                self._drop(len(done.never), "never taken")
            taken = len(wanted) - len(done.left) - len(done.never)
            if taken:
                self._count("delivered", taken)
            if done.left:
                self._taken |= {event.id for event in wanted if event not in done.left}
                raise NotDelivered(done.why, lasting=done.lasting)
        self._taken -= {event.id for event in events}
        self._failures = 0
        if self.failing is not None:
            log.info("notify.recovered", receiver=self._name, after_s=round(self._epoch() - self.failing.since, 3))
            self.failing = None

    def _failed(self, error: NotDelivered) -> float:
        """Notes a failure. Returns how long to wait, seconds."""
        self._count("failed", 1)
        pause_s = wait_s(self._failures, self._random())
        self._failures += 1
        since = self._epoch() if self.failing is None else self.failing.since
        if self.failing is None:
            log.warning("notify.failed", receiver=self._name, reason=str(error))
        self.failing = Failing(self._name, str(error), since, error.lasting)
        return pause_s

    def _drop(self, number: int, why: str) -> None:
        self._count("dropped", number)
        log.error("notify.dropped", receiver=self._name, events=number, reason=why)


def _named(problems: Iterable[Problem]) -> Mapping[tuple[str, Epoch, int], Problem]:
    """Problems by what stays the same while they last; their details change."""
    seen: Counter[tuple[str, Epoch]] = Counter()
    found: dict[tuple[str, Epoch, int], Problem] = {}
    for problem in problems:
        name = (problem.code, problem.since)
        found[(*name, seen[name])] = problem
        seen[name] += 1
    return found


def _key(at: Epoch) -> str:
    """An id for what is in no history; sortable by time, as those of actions."""
    return f"{int(at * 1000):012x}-{uuid4().hex}"
