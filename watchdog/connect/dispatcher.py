"""From a tick to agents in hand: puts together all that calls Connect, and starts what the quota allows.

Who is next is in `selection.py`, what becomes of a claim in `claims.py`, what is done with a claimed agent in
`set_status.py`. Nothing is lost here: what cannot be done now comes back with a later tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from watchdog.connect.answers import GET_CURRENT_USER_DATA, PUT_USER_STATUS, Seen
from watchdog.connect.api import Connect, Instance
from watchdog.connect.braked import Braked
from watchdog.connect.circuit import Circuits, Problem
from watchdog.connect.claims import Claims
from watchdog.connect.directory import Directory
from watchdog.connect.dismissal import Dismissal
from watchdog.connect.greeting import Greeting
from watchdog.connect.guard import Guard, Observer
from watchdog.connect.held import HeldWitness
from watchdog.connect.log_out import LogOut
from watchdog.connect.log_out_check import LogOutCheck, LogOutRules
from watchdog.connect.names import Kind, Listed, Named, names_missing
from watchdog.connect.plan import Plans
from watchdog.connect.profiles import Profiles
from watchdog.connect.readback import ReadBack
from watchdog.connect.reconcile import Reconciler, ReconcileRules
from watchdog.connect.restore import Restorer
from watchdog.connect.restore_status import RestoreRules, RestoreStatus
from watchdog.connect.scopes import Scopes
from watchdog.connect.selection import Selection
from watchdog.connect.set_status import SetStatus
from watchdog.connect.sign_out import SignOut
from watchdog.connect.sparing import Sparing
from watchdog.connect.tokens import Tokens
from watchdog.connect.waiting import WaitingRoom
from watchdog.connect.witness import Witness
from watchdog.connect.writer import Writer
from watchdog.core.brake import ALL, HOLDS
from watchdog.core.clock import MAX_STEP_S, Clock, gives_grace
from watchdog.core.model import Action, Due, Instant, Next, Running
from watchdog.core.policy import Rule
from watchdog.core.quota import QuotaRules
from watchdog.stores.base import Store, Tick

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DispatcherConfig:
    """What the dispatcher has to know of the settings.

    Attributes:
        owner: Name of this process in claims.
        rules: For whom, when and what, in their order.
        quota: The share of Connect's quota, as the store has it.
        quotas: Exceptions from it, by operation.
        dry_run: Decide and record, write nothing (DRY_RUN).
        witness_ttl_s: Seconds that activity in Connect counts for, like a heartbeat (SESSION_TTL); None takes none as
            evidence (WITNESS).
        reconcile: What is done about agents whom nobody has seen (RECONCILE); None looks for none.
        return_window_s: Longest time from a change to its undo (RETURN_WINDOW).
        lease_s: Seconds of the lease of an agent who is restored without being heard (SESSION_TTL).
        named: Statuses and profiles that the settings name: they must exist.
        reason_codes: Statuses of an explicit logout by reason code (REASON_CODES).
        dismiss: An explicit logout clears contacts that are over (DISMISS_CONTACTS).
    """

    owner: str
    rules: tuple[Rule, ...]
    quota: QuotaRules
    quotas: Mapping[str, QuotaRules] = field(default_factory=dict)
    dry_run: bool = False
    witness_ttl_s: float | None = None
    reconcile: ReconcileRules | None = None
    return_window_s: float = 900.0
    lease_s: float = 35.0
    named: tuple[Named, ...] = ()
    reason_codes: Mapping[str, str] = field(default_factory=dict)
    dismiss: bool = True


class Dispatcher:
    """Acts for all due agents of all instances."""

    def __init__(
        self,
        store: Store,
        connect: Connect,
        instances: Sequence[Instance],
        config: DispatcherConfig,
        *,
        now: Callable[[], Instant],
        random: Callable[[], float],
        flush: Callable[[], Awaitable[None]],
        record: Callable[[Action], None],
        observer: Observer,
    ) -> None:
        """Composes; nothing is called before the first `offer`, and nobody touched before the directory is loaded.

        Args:
            store: Facts and claims; serves the same instances.
            connect: Makes the calls.
            instances: Instances that may be acted on.
            config: Of the settings.
            now: The machine's clocks.
            random: From 0 to 1, for the back-off.
            flush: Applies all heartbeats that this process has accepted; raises StoreUnavailable if it cannot.
            record: Is given each action that is in the history, once.
            observer: For the metrics.
        """
        self._store = store
        self._config = config
        self._now = now
        self._scopes = Scopes(instances)
        self._circuits = Circuits(now)
        self._tokens = Tokens(store, self._quota, now, observer.tokens)
        self._guard = Guard(
            connect,
            self._circuits,
            self._scopes,
            observer=observer,
            throttled=self._tokens.throttled,
            seen=self._note,
            now=now,
        )
        default = config.rules[-1].stages[0].status
        self.directory = Directory(self._guard, self._tokens, self._scopes, default, now)
        self.profiles = Profiles(self.directory.profiles)
        self._plans = Plans(config.rules, self.directory, dry_run=config.dry_run, dismiss=config.dismiss)
        self._witness = Witness(self._guard, self._tokens, self._circuits, self._scopes, now)
        writer = Writer(
            store, self._guard, self._tokens, self._circuits, flush=flush, listening=self._listening, now=now
        )
        restore_status = RestoreStatus(
            RestoreRules(config.return_window_s, config.lease_s, config.dry_run),
            store,
            self._guard,
            self._tokens,
            self._circuits,
            self.directory,
            self._witness,
            Greeting(config.rules, self.directory, self._witness, now),
            self._scopes,
            flush=flush,
            listening=self._listening,
            running=lambda: Running(0.0) if self._clock is None else self._clock.running,
            now=now,
        )
        self._restorer = Restorer(
            store,
            restore_status,
            self.directory,
            self._witness,
            self._scopes,
            now=now,
            random=random,
            record=record,
        )
        sparing = Sparing(store, config.witness_ttl_s, is_own=restore_status.is_own, record=record, now=now)
        dismissal = Dismissal(store, writer, record=record, now=now)
        set_status = SetStatus(
            self.directory,
            self._plans,
            self._witness,
            writer,
            ReadBack(store, self._witness, sparing, dismissal, now),
            dismissal,
            sparing,
            dry_run=config.dry_run,
            now=now,
        )
        self._room = WaitingRoom(self._witness, now)
        self.reconciler = (
            None
            if config.reconcile is None
            else Reconciler(
                config.reconcile,
                self._scopes,
                store=store,
                connect=self._guard,
                tokens=self._tokens,
                circuits=self._circuits,
                directory=self.directory,
                record=record,
                now=now,
            )
        )
        self._selection = Selection(
            self._scopes,
            self.directory,
            self._plans,
            self._circuits,
            self._witness,
            lambda scope: self._tokens.rate(PUT_USER_STATUS, scope),
            random=random,
            now=now,
        )
        self._braked = Braked(store, self.directory, self._scopes, now=now, record=record)
        self._held = HeldWitness(
            store,
            self._witness,
            self.directory,
            self._scopes,
            config.witness_ttl_s,
            is_own=restore_status.is_own,
            record=record,
            now=now,
        )
        self._claims = Claims(
            store,
            config.owner,
            set_status,
            SignOut(self._plans, set_status, writer, dismissal, dry_run=config.dry_run, now=now),
            self._plans,
            self._room,
            self._scopes,
            self._circuits,
            self.directory,
            self._witness,
            now=now,
            random=random,
            record=record,
            observer=observer,
        )
        self.log_out = LogOut(
            LogOutCheck(
                LogOutRules(config.reason_codes, config.dry_run),
                self._circuits,
                self.directory,
                self._witness,
                self._scopes,
                now=now,
            ),
            store,
            self._claims,
            now=now,
            record=record,
        )
        self._background: set[asyncio.Task[None]] = set()
        self._foreign: dict[str, Problem] = {}
        self._missing: dict[str, Problem] = {}
        self._begun: set[str] = set()
        self._draining = False
        self._clock: Clock | None = None

    def offer(self, tick: Tick) -> None:
        """Takes what a tick of the store found and starts what the quota allows. Returns at once.

        Agents that are not started are offered again by the next tick; nothing is kept of this one.
        """
        if self._draining:
            return
        for scope in set(self._scopes.values()) - self._begun:
            self._begun.add(scope)
            for operation in (GET_CURRENT_USER_DATA, PUT_USER_STATUS):
                self._spawn(self._tokens.begin(operation, scope))
        for claim, delay_s in self._claims.owed():
            self._spawn(self._claims.give_back(claim, delay_s))
        for orphan in tick.orphans:
            # One that is told again meanwhile is settled once all the same: the second claim is void.
            self._spawn(self._claims.settle_orphan(orphan))
        self._braked.take(tick.stopped)
        if self._braked.waiting:
            self._spawn(self._braked.write())
        self._held.offer(tick)
        self._note_foreign(tick.foreign)
        self._clock = tick.clock
        self._restorer.offer(tick.undos)
        if gives_grace(tick.clock):
            # Whoever was due before a gap may have returned in it, and is heard with the next retry.
            return
        waiting = [due for due in tick.due if due.agent not in self._claims]
        held = {hold.group for hold in tick.brake.holds if hold.state in HOLDS}
        free = self._room.without(due for due in waiting if not (held and _waits(due, held)))
        for chosen in self._selection.choose(free, self._claims.unserved(), self._restorer.lines()):
            self._claims.start(chosen)

    async def drain(self, timeout_s: float) -> None:
        """Stops claiming, lets what is past its intent end as far as the time allows, and releases the rest.

        Nothing runs afterwards and every claim is settled or released, unless the store is away.
        """
        self._draining = True
        self._claims.interrupt()
        await self._selection.close()
        await self._held.close()
        await self._room.close()
        restoring = asyncio.create_task(self._restorer.drain(timeout_s))
        ending = [*self._claims.tasks(), *self._background]
        if ending:
            await asyncio.wait(ending, timeout=timeout_s)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await restoring
        # All at once: with a store that fails slowly, one after the other would outlast the stop.
        await asyncio.gather(*(self._claims.give_back(claim, delay_s) for claim, delay_s in self._claims.owed()))
        if self._braked.waiting:
            await self._braked.write()
        await self.log_out.close()
        await self._witness.close()
        await self._tokens.close()
        await self.directory.close()

    @property
    def waiting_for_contacts(self) -> int:
        """How many of the due wait until something is over in Connect."""
        return self._room.size

    def problems(self) -> list[Problem]:
        """What a person has to mend, each once: open circuits, listings, unknown statuses, throttling, outages."""
        found = [
            *self._circuits.problems(),
            *self.directory.problems(),
            *self._guard.problems(),
            *self._foreign.values(),
            *self._unknown(),
        ]
        return list({(problem.code, problem.detail): problem for problem in reversed(found)}.values())[::-1]

    def missing(self, named: Iterable[Named]) -> list[str]:
        """One line for each of these names that is known not to exist in Connect."""
        listed = {instance_id: Listed(*each) for instance_id, each in self.directory.listed().items()}
        return names_missing(listed, named)

    def _unknown(self) -> list[Problem]:
        """Names that do not exist; by such a rule nobody is touched. Of the usual target the directory tells."""
        usual = self._config.rules[-1].stages[0].status
        told = any(problem.code == "unknown_status" for problem in self.directory.problems())
        named = [each for each in self._config.named if not told or each.kind is not Kind.TARGET or each.name != usual]
        profiles = [each for each in named if each.kind is Kind.PROFILE]
        lines = dict.fromkeys(self.missing(each for each in named if each not in profiles), "unknown_status")
        lines |= dict.fromkeys(self.missing(profiles), "unknown_profile")
        known, self._missing = self._missing, {}
        for line, code in lines.items():
            if line not in known:
                log.warning("dispatcher.unknown_name", code=code, detail=line)
            self._missing[line] = known.get(line) or Problem(code, line, self._now().epoch)
        return list(self._missing.values())

    def _note_foreign(self, instance_ids: Iterable[str]) -> None:
        known, self._foreign = self._foreign, {}
        for instance_id in sorted(instance_ids):
            if instance_id not in known:
                log.warning("dispatcher.unknown_instance", instance_id=instance_id)
            text = (
                f"The store has agents of instance {instance_id}. It is not in WATCHDOG_INSTANCES: nobody acts on them."
            )
            found = known.get(instance_id) or Problem("unknown_instance", text, self._now().epoch)
            self._foreign[instance_id] = found

    def _note(self, instance_id: str, rows: Mapping[str, Seen]) -> None:
        self.profiles.note(instance_id, rows)

    def _quota(self, operation: str) -> QuotaRules:
        return self._config.quotas.get(operation, self._config.quota)

    def _listening(self) -> bool:
        """Whether heartbeats have been heard up to now: the last tick is recent, and no grace goes on.

        After a pause whoever is in hand may have come back in it, and nobody has ticked yet.
        """
        clock = self._clock
        if clock is None or clock.boot is None or gives_grace(clock):
            return False
        return self._now().boot - clock.boot <= MAX_STEP_S

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _waits(due: Due, held: Container[str]) -> bool:
    """Whether the rest of what is to be done with an agent waits until it is known whose fault the silence is."""
    follow = due.follow_up
    return follow is not None and follow.next is not Next.LOG_OUT and (ALL in held or due.agent.instance_id in held)
