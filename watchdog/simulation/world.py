"""A contact centre in virtual time: people, network, the daemon's machine and Connect, and the rules over all of it."""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any
from uuid import UUID

import orjson

from watchdog.connect.api import Instance
from watchdog.core import policy
from watchdog.core.model import Action, AgentId, IntentKind, Outcome
from watchdog.sandbox.direct import DirectConnect
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import Behaviour
from watchdog.sandbox.seed import seed as seed_instance
from watchdog.simulation.account import KEPT_S, Hearing, Taken
from watchdog.simulation.clocks import START
from watchdog.simulation.deployment import Deployment
from watchdog.simulation.faults import QUIET, Story
from watchdog.simulation.holding import UNPROVEN
from watchdog.simulation.host import Host
from watchdog.simulation.invariants import REWRITES, WRITES, WRITTEN, Invariants, Rate
from watchdog.simulation.journal import Journal, Violation
from watchdog.simulation.logs import watched
from watchdog.simulation.loop import run, spawn
from watchdog.simulation.network import KILLED, Answered, Network, Path
from watchdog.simulation.page import Leases
from watchdog.simulation.people import Person
from watchdog.simulation.plan import Plan
from watchdog.simulation.replica_faults import UNEXCUSED
from watchdog.stores.disk import InlineDisk
from watchdog.stores.history import actions as read_actions

INSTANCE = "centre"
LOOK_S = 2.0
"""Between two looks for ghosts that have waited for too long."""

FORGET_S = 60.0
"""Between two times that what is too old to matter is forgotten."""

LONGEST_S = 1_500.0
"""After the last fault at most this long until every ghost is set, holds apart: the largest bound on detection and some
more."""

OVERRULED_S = 60.0
"""A deed so long before the end of a process may be newer than an intent that it left."""

SETTLE_S = 45.0
"""After the last write so long until its outcome is known: it is read back for 30 s."""

LOST_S = 5.0
"""Most of what a server loses in a failover."""

READ_TIMEOUT_S = 10.0
"""As the daemon's own client waits for an answer."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a world.

    Attributes:
        seed: Of the world.
        virtual_s: How long it lasted.
        violations: Promises that were not kept.
        lines: Of the transcript.
        digest: Of the transcript.
        writes: Effective changes.
        sent: Writes that left the machine: when, and to whom.
        outcomes: Of the actions: of whom, and what.
    """

    seed: int
    virtual_s: float
    violations: tuple[Violation, ...]
    lines: int
    digest: str
    writes: int
    sent: tuple[tuple[float, str], ...]
    outcomes: tuple[tuple[str, Outcome], ...]


Script = Callable[["World"], Coroutine[None, None, None]]


class World:
    """One world. `run` plays it."""

    def __init__(self, plan: Plan, folder: FilePath, echo: Callable[[str], None] | None = None) -> None:
        """Sets the stage; on the loop that will play it.

        Args:
            plan: What was drawn.
            folder: An empty one, for the store's file.
            echo: Is given each line of the transcript.
        """
        self.until = plan.minutes * 60.0
        self.leases = Leases(plan.timers.session_ttl, plan.timers.throttled_session_ttl, plan.timers.heartbeat_interval)
        self.journal = Journal(plan.seed, self._time, echo, replicas=plan.replicas is not None)
        ids = self._rng(plan, "ids")
        self.model = ConnectModel(
            lambda: START + self._time(),
            behaviour=Behaviour(lists_offline=plan.lists_offline),
            new_id=lambda: str(UUID(int=ids.getrandbits(128), version=4)),
        )
        made = seed_instance(self.model, agents=len(plan.habits), instance_id=INSTANCE, status="Offline")
        direct = DirectConnect(self.model, read_timeout_s=READ_TIMEOUT_S)
        surroundings: dict[str, Any] = {
            "timers": plan.timers,
            "instances": [Instance(INSTANCE)],
            "rng": self._rng(plan, "host"),
            "journal": self.journal,
            "watcher": self,
            "heard": self._heard,
        }
        self._deployment = (
            Deployment(plan.replicas, folder, direct, lost=self._lost, **surroundings) if plan.replicas else None
        )
        self.host = self._deployment.machines[0] if self._deployment else Host(folder, direct, **surroundings)
        self._daemons: Host | Deployment = self._deployment or self.host
        self.network = Network(self._daemons, self._rng(plan, "network"))
        self.network.all.loss = plan.loss
        self.sites = [Path(), Path()]
        self.people = {
            user_id: Person(
                AgentId(INSTANCE, user_id),
                self.sites[0 if number < plan.cut_off else 1],
                plan.habits[number],
                self,
                self._rng(plan, f"person/{number}"),
            )
            for number, user_id in enumerate(made.users)
        }
        self.invariants = Invariants(plan.timers, self.people, self._daemons.hearing, self.journal)
        quota = plan.timers.quota
        for operation in ("PutUserStatus", "GetCurrentUserData"):
            self.invariants.rates[operation] = Rate(quota.rate, quota.burst)
        self._plan = plan
        self._statuses = {status.id: status.name for status in made.statuses.values()}
        self._seen_calls = 0
        self._forgotten_at = 0.0
        self._outcomes: list[tuple[str, Outcome]] = []
        self.writes: list[tuple[float, str]] = []
        self._restored_at = 0.0
        self._settled: dict[str, int] = {}
        self._acted: Counter[str] = Counter()
        self._told: set[str] = set()

    async def run(self, script: Script | None = None) -> Result:
        """Plays it to its end: the plan's time, then until every ghost is set or has waited for too long.

        Args:
            script: What happens, in place of what people do by themselves; ends before the plan's time or with it.
        """
        self._daemons.start()
        people = [spawn(each.live()) for each in self.people.values()] if script is None else [spawn(script(self))]
        stories = [spawn(self._story(at, story)) for at, story in self._plan.stories]
        acting = stories if script is None else [*stories, *people]
        while self._time() < self.until or not all(task.done() for task in acting):
            await self._look()
            if self.journal.violations:
                break
        self._daemons.start()
        self.network.all.loss = 0.0
        since, brake = self._time(), self._plan.timers.brake
        longest_s = LONGEST_S + (UNPROVEN * brake.max_hold_s if brake is not None else 0.0)
        while await self._look() or self._owed() or self._time() < max(since + 60.0, self._written_at() + SETTLE_S):
            if self._time() > since + longest_s or self.journal.violations:
                break
        for task in (*people, *stories):
            task.cancel()
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise task.exception() or AssertionError
        await self._daemons.stop()
        self.took_effect()
        if not self.journal.violations:
            found = await self._history()
            self.invariants.recorded(found)
            for missing in sorted(self._told - {action.id for action in found}) if self._deployment else ():
                self.journal.violate("history", f"action {missing} was told, and is not there")
        return Result(
            seed=self._plan.seed,
            virtual_s=self._time(),
            violations=tuple(self.journal.violations),
            lines=self.journal.lines,
            digest=self.journal.digest(),
            writes=sum(each.account.total_changes for each in self.people.values()),
            sent=tuple(self.writes),
            outcomes=tuple(self._outcomes),
        )

    @property
    def hearing(self) -> Hearing:
        """Heard time."""
        return self._daemons.hearing

    @property
    def deployment(self) -> Deployment:
        """The daemons, where there are several."""
        assert self._deployment is not None  # noqa: S101 - only stories of several ask
        return self._deployment

    async def order(self, *, hold: bool, for_s: float) -> bool:
        """See `Host.order`."""
        return await self._daemons.order(hold=hold, for_s=for_s)

    def data_lost(self, since: float | None = None) -> None:
        """The server has lost all, or what is newer than a moment: who is silent then need not be found.

        The history and the buckets are lost with it.
        """
        now = self._time()
        self.deployment.data_lost()
        for person in self.people.values():
            account = person.account
            if since is None or account.last_at() >= since:
                account.known = False
            account.actions = account.restores = 0
            account.heard_at = now if account.heard_at is None and account.changes == 0 else account.heard_at
        self._acted.clear()
        self._told.clear()
        for rate in self.invariants.rates.values():
            rate.forgive(self._plan.timers.quota.burst + LOST_S * rate.rate)

    def _lost(self, accepted: Sequence[tuple[float, str, str]], since: float) -> None:
        """A process is dead: what it has accepted lately may not have been stored."""
        for _, user_id, session_id in accepted:
            self.people[user_id].account.in_doubt(session_id, since)

    def _owed(self) -> bool:
        """Whether an effective change of somebody has no action yet: a hold may have come in between."""
        return any(each.account.actions > self._acted[user_id] for user_id, each in self.people.items())

    def settled(self, someone: Person) -> bool:
        """Whether the watchdog has set the absent person and is done with it."""
        account = someone.account
        return not someone.present and account.changes == 1 and self._settled.get(someone.agent.user_id) == 1

    # What is told about calls. See `client.Watcher`.

    def sent(self, user_id: str, status_id: str) -> None:
        """A PutUserStatus leaves the machine."""
        status, now = self._statuses.get(status_id, "?"), self._time()
        self.journal.add(f"PutUserStatus {status} sent", user_id)
        if status == "Offline":
            self.writes.append((now, user_id))
            self.invariants.sent(user_id, now)
        else:
            self._restored_at = now
            self.invariants.restoring(user_id, now)

    def signing_out(self, user_id: str) -> None:
        """A DeleteAllEntitySessions leaves the machine."""
        self.journal.add("DeleteAllEntitySessions sent", user_id)
        contacts = self.model.user(INSTANCE, user_id).contacts
        self.invariants.signing_out(
            user_id, self._time(), on_contact=any(policy.is_live(each.state) for each in contacts)
        )

    def took_effect(self) -> None:
        """Reads what is new in Connect's log."""
        calls = self.model.calls(since=self._seen_calls)
        if calls:
            self._seen_calls = calls[-1].seq
            self.invariants.logged(calls, self._statuses)

    def _written_at(self) -> float:
        return max(self._restored_at, self.writes[-1][0] if self.writes else 0.0)

    def ended(self) -> None:
        """A process has ended: what it was about to write, it may have written."""
        now = self._time()
        for person in self.people.values():
            deadline = person.account.deadline_heard(now, self._plan.timers.session_end_timer)
            if deadline < self.hearing.at(now) + 1.0:
                person.account.written_to = True
                if now - person.account.clicked_at < OVERRULED_S:
                    person.account.overruled = True

    def recorded(self, action: Action) -> None:
        """An action is in the history."""
        self._told.add(action.id)
        person = self.people[action.agent.user_id]
        self._outcomes.append((action.agent.user_id, action.outcome))
        if action.intent is IntentKind.RESTORE:
            person.account.mistaken_at = None
            person.account.restoring = False
            return
        if action.outcome is Outcome.HELD or action.intent is IntentKind.SIGN_OUT:
            return
        if action.outcome is Outcome.RELEASED:
            person.account.released_at = self._time()
            person.account.released_heard = self.hearing.at(self._time())
            wrong = self.invariants.holding.let_go(action.agent.user_id, self._time())
            if wrong is not None:
                self.journal.violate("held", wrong, action.agent.user_id)
            return
        if action.outcome is Outcome.WITNESSED:
            person.account.spared_at = self._time()
            self._acted[action.agent.user_id] += not action.evidence.keys().isdisjoint(WRITES)
            return
        if action.outcome in (Outcome.CONFIRMED, Outcome.NEXT_STATUS, Outcome.ALREADY) and person.shown() == "Offline":
            # Whoever comes and goes unheard after this is not the daemon's ghost.
            person.account.known = False
            if action.outcome is Outcome.CONFIRMED:
                person.account.confirmed_at = self._time()
        if action.outcome is Outcome.FAILED and person.account.lied > REWRITES:
            # Connect has not done what it accepted, again and again.
            person.account.known = False
        self._acted[action.agent.user_id] += action.outcome in WRITTEN
        self._settled[action.agent.user_id] = self.people[action.agent.user_id].account.changes

    def _heard(self, body: bytes, answer: Answered) -> None:
        """A process has answered a request."""
        said = orjson.loads(body)
        user_id, kind = said["user_id"], said["type"]
        self.journal.add(
            f"{kind} {said['session_id'][:8]} {said['incarnation']}/{said['seq']} {answer.status}", user_id
        )
        bye, now = kind == "bye", self._time()
        throttled = said["driver"] == "main" and said["visibility"] == "hidden"
        ttl = 0.0 if bye else self.leases.throttled_ttl_s if throttled else self.leases.ttl_s
        account = self.people[user_id].account
        session = account.session(said["session_id"])
        if not bye and not (answer.status == 200 and b'"live"' in answer.body):
            if answer.status in (503, KILLED):
                # It waits for the store, and is applied later unless the process dies; or it died with it in hand.
                session.perhaps = max(session.perhaps, self.hearing.at(now) + ttl)
            if answer.status in (503, KILLED) and not session.taken:
                session.tried = session.tried or (said["incarnation"], said["seq"], self.hearing.at(now))
            elif answer.status in (503, KILLED):
                session.doubt = min(session.doubt or math.inf, self.hearing.at(now) + ttl)
                if said["incarnation"] == session.incarnation:
                    session.seq = max(session.seq, said["seq"])  # so that a repetition of it proves nothing
            return
        sure, accepted = answer.status in (200, 204), False
        if session.taken or not bye:
            taken = Taken(now, self.hearing.at(now), ttl, bye, sure, answer.took_s)
            accepted = session.accept(taken, said["incarnation"], said["seq"])
            if not accepted and not bye:
                session.repeats(taken, said["incarnation"], said["seq"], self.hearing.began_at)
        if bye:
            account.must_hold = None
        elif accepted:
            account.heard(now)
            if kind == "hello" and said["visibility"] == "visible" and said["incarnation"] == 0:
                self.invariants.loaded(user_id, now)
            self.invariants.holding.heard_at = self.hearing.at(now)

    # The course of things.

    async def _look(self) -> int:
        await asyncio.sleep(LOOK_S)
        self.took_effect()
        now = self._time()
        if now >= self._forgotten_at + FORGET_S:
            self._forgotten_at = now
            for person in self.people.values():
                person.account.forget(now - KEPT_S)
        return self.invariants.look(now)

    async def _story(self, at: float, story: Story) -> None:
        rng = self._rng(self._plan, f"story/{at}")
        await asyncio.sleep(at)
        self.journal.add(f"story: {story.__name__}")
        if story in QUIET or story in UNEXCUSED:
            await story(self, rng)
            return
        self.invariants.disturbance.begin()
        await story(self, rng)
        self.invariants.disturbance.end(self._time())
        self.journal.add(f"over: {story.__name__}")

    async def _history(self) -> list[Action]:
        if self._deployment is not None:
            return await self._deployment.history()
        disk = InlineDisk(self.host.path)
        try:
            return await disk.read(lambda connection: read_actions(connection, None, None, None, None, 1_000_000))
        finally:
            await disk.close()

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def _rng(plan: Plan, part: str) -> random.Random:
        return random.Random(f"{part}/{plan.seed}")


def play(plan: Plan, echo: Callable[[str], None] | None = None, script: Script | None = None) -> Result:
    """Plays a world in a folder of its own, in memory where the system has one; see `World.run`."""

    async def playing(folder: FilePath) -> Result:
        world = World(plan, folder, echo)
        with watched(world.journal):
            return await world.run(script)

    memory = FilePath("/dev/shm")  # noqa: S108 - a folder with a random name is made in it
    folder = FilePath(tempfile.mkdtemp(prefix="watchdog-sim-", dir=memory if memory.is_dir() else None))
    try:
        return run(playing(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
