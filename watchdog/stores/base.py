"""The store's contract: what every backend promises, and nothing of how.

A lost race is a return value; a store that cannot be reached or written is `StoreUnavailable`. Never the one for the
other. All times are given by the caller (`Instant`) and kept as observed time; a store never reads a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from watchdog.core.brake import BrakeRules
from watchdog.core.clock import Cause, Clock, ClockRules
from watchdog.core.holds import BrakeChange, BrakeView, Held, Stopped
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    AgentView,
    Beat,
    Cancel,
    Claim,
    Due,
    Epoch,
    FollowUp,
    Instant,
    Intent,
    Outcome,
    Reply,
    Standing,
    Tear,
)
from watchdog.core.quota import QuotaRules
from watchdog.core.undo import Back, Change, Ordered, Written
from watchdog.stores.columns import Unreadable


@dataclass(frozen=True, slots=True)
class StoreRules:
    """What a store has to know of the settings.

    Attributes:
        timer_s: From the end of an agent's last session to its deadline: the shortest timer of all rules.
        clock: How the clock resumes after a gap.
        quota: The share of Connect's quota, the same for each API.
        quotas: Exceptions from it, by operation.
        brake: When silence counts as a fault. None: never; only an operator holds.
        instances: Those that are served (INSTANCES). Nobody acts on agents of others, which an earlier process has
            left: they are not due, not in the backlog, and pruned like those who are settled. None serves all.
        return_window_s: For so long after a change a return counts: as one, or as proof of a mistake (RETURN_WINDOW).
        greets: Whoever returns with a new page may get a status (INITIAL_AGENT_STATE).
        most_agents: That may be known, all daemons together (MAX_AGENTS). Whoever takes heartbeats counts (`newcomer`);
            a store refuses only those of agents of whom that one cannot tell. None: any number.
        longest_ttl_s: Most that a heartbeat renews (THROTTLED_SESSION_TTL). A page whose timers are those of its main
            thread may have told that it is silent for so long when what was written last is lost.
    """

    timer_s: float
    clock: ClockRules
    quota: QuotaRules
    quotas: dict[str, QuotaRules] = field(default_factory=dict)
    brake: BrakeRules | None = None
    instances: frozenset[str] | None = None

    def serves(self, agent: AgentId) -> bool:
        """Whether anybody acts on the agent."""
        return self.instances is None or agent.instance_id in self.instances

    return_window_s: float = 900.0
    greets: bool = False
    most_agents: int | None = None
    longest_ttl_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick found.

    Attributes:
        clock: The clock after it.
        missed_s: Real seconds without a process before the store was opened; told by the first tick, 0 in any other.
        stopped_s: Real seconds since the last tick in which the clock stood still; `clock.standing` tells why.
        due: Agents to act on, oldest deadline first, at most `limit`; none that is claimed, put off or held.
        backlog: How many are due in all, the claimed and the put off included, the held not.
        orphans: Claims that ended with their process, whose intent has no outcome, and whose agent has returned since.
            The caller settles each with `Outcome.RETURNED`. (An agent that has not returned is in `due`, and the next
            claim carries the intent.)
        brake: What is held and why.
        changes: Groups whose brake has changed since the last tick.
        stopped: Agents to record as held or released.
        foreign: Instances that are not served and of which agents would be due.
        undos: Changes of ours to be undone, told in each tick until `restored`; none of an agent whose claim has no
            outcome yet. Whoever is given one is the only one to be given it, for as long as its ticks go on.
    """

    clock: Clock
    stopped_s: float
    due: tuple[Due, ...]
    backlog: int
    orphans: tuple[Claim, ...]
    brake: BrakeView = field(default_factory=BrakeView)
    changes: tuple[BrakeChange, ...] = ()
    stopped: tuple[Stopped, ...] = ()
    missed_s: float = 0.0
    foreign: frozenset[str] = frozenset()
    undos: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """How many agents are in each state, and how many sessions have a lease."""

    agents: dict[AgentState, int]
    sessions: int


FULL = 0.8
"""Part of a server's memory. What is above it is for everything but the history, for what comes between two looks, and
for what the server itself needs."""

KEPT = 10_000
"""Actions that are kept however full the memory is: as many as a receiver may be behind (`MAX_BEHIND` in
`telemetry/notify.py`), so that none which is still to be delivered is dropped. They take 20 MB."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """How full the memory of the server is on which a store is.

    Attributes:
        share: The part of what it may use that is in use; None where nothing limits it, or there is no server.
        dropped: Actions that were dropped for it.
        evicts: The `maxmemory-policy` by which it drops keys when it is full; empty for none, and where none was seen.
    """

    share: float | None
    dropped: int = 0
    evicts: str = ""


@dataclass(frozen=True, slots=True)
class RowsLost:
    """Rows that were kept on a server and were not there any more when nobody had them in memory.

    Attributes:
        rows: How many, by table.
        since: When this was found first, by the wall clock.
    """

    rows: Mapping[str, int]
    since: Epoch


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One of several daemons that share a store.

    Attributes:
        name: Its own text (`boot` of its status).
        here: It is this one.
        keeper: It keeps the clock and the brakes of all.
        version: Of the daemon.
        parts: Numbers of the parts of the agents that it has.
        agents: How many agents these have, by state.
        sessions: How many sessions of theirs have a lease.
        backlog: How many of them are due.
        reported_s_ago: Seconds since it said last how it does.
        blind: Why the clock stands, as far as this one is concerned; None when it may go on.
    """

    name: str
    here: bool
    keeper: bool
    version: str
    parts: tuple[int, ...]
    agents: dict[AgentState, int]
    sessions: int
    backlog: int
    reported_s_ago: float
    blind: Cause | None


@dataclass(frozen=True, slots=True)
class AgentPage:
    """One page of agents, ordered by instance and user id. `cursor` is None on the last one."""

    agents: tuple[AgentView, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class ActionPage:
    """One page of actions, newest first. `cursor` is None on the last one."""

    actions: tuple[Action, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A page of the history in the order in which it was committed.

    Attributes:
        actions: Each with its number; numbers rise, and none is given twice.
        through: Up to this number all was looked at: where the next page begins.
        last: The highest number that was ever given; 0 before the first.
    """

    actions: tuple[tuple[int, Action], ...]
    through: int
    last: int


class Outbox(Protocol):
    """The history as it is delivered to receivers, each of which is somewhere in it. Both survive the process.

    Both methods may raise `StoreUnavailable`; a repetition is harmless.
    """

    async def recorded(self, after: int, limit: int = 100) -> Recorded:
        """Actions with a number above `after`, lowest first. What is committed later has a higher number."""

    async def delivered(self, receiver: str) -> int | None:
        """The number up to which a receiver has the history; None for one that is not known."""

    async def mark_delivered(self, receiver: str, number: int) -> None:
        """A receiver has the history up to this number. A power cut may take it back, the death of the process not."""


class Store(Protocol):
    """Keeps the facts and hands out claims.

    Every method but `plainly_live` and `newcomer` may raise `StoreUnavailable`. After that nothing is known about its
    effect, but a repetition is harmless.
    """

    async def open(self, instant: Instant) -> None:
        """Makes the store usable; the clock resumes, and claims of processes that are gone are void.

        Raises:
            StoreUnavailable: It cannot be reached or written.
            StoreCorrupt: What is there cannot be read; nothing was changed.
            StoreLocked: Another daemon has it.
        """

    async def close(self) -> None:
        """Writes what is still to be written and lets go. Safe to call twice."""

    def plainly_live(self, beat: Beat) -> float | None:
        """Seconds of lease that a beat has certainly left after it is applied, or None.

        A number means: the session is known to be the agent's, in this incarnation and live, `apply` will renew it, and
        so the beat may be answered before its flush. No I/O; None when in doubt, while the reply has a notice to tell,
        and always for hello and bye.
        """

    def whose(self, session_id: bytes) -> AgentId | None:
        """Whose session it is, of those that are known here; None for any other."""

    def newcomer(self, agent: AgentId) -> int | None:
        """How many agents are known, if this one is certainly none of them; None when it is one, and when in doubt.

        No I/O. An agent whose first heartbeat is not applied yet is not known.
        """

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        """Applies heartbeats, one a session at most, and returns one reply for each, in order.

        Atomic for each beat, not for all. When it returns, sessions opened and closed and the horizons of leases
        survive a crash of the process. A renewal of an agent whose grace had begun raises the agent's epoch. Leases
        count from where a tick at `instant` would put the clock, so that none is shorter than its TTL; the clock itself
        does not advance.

        From the first renewal after a status was set, and from a confirmed restore on, replies to the agent's sessions
        tell of it for `notices.NOTICE_S` running seconds, whatever becomes of the process.
        """

    async def tear(self, tears: Sequence[Tear], instant: Instant) -> list[bool]:
        """Sockets were closed from the other side: at most the tear's `ttl` is left of each session's lease.

        Only of a session whose last renewal that same socket carried, and that has said no bye; the notice may be as
        late as it likes. Of a lease that is shorter anyway nothing changes. It is no bye: the session is open, its
        agent is quiet when `deadline.QUIET_SHARE` of what is left is over, and a beat renews it as ever. Leases count
        as in `apply`, and the same survives. Atomic for each, not for all.

        Returns:
            For each, in order, whether a lease is shorter for it.
        """

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        """Advances the clock, expires what has run out, renews the owner's claims, holds or lets go, tells what is due.

        One tick at a time. The clock is written before it is returned: when that fails it has not advanced. Who is held
        and the state of each brake survive a crash of the process once the tick has returned.

        Args:
            owner: The process that asks.
            instant: Now.
            blind: Why no heartbeat could be heard since the last tick, or None.
            limit: Most agents to return as due. The instances share it: what one does not use goes to the others.

        Raises:
            StoreUnavailable: See the class.
            StoreLocked: Another daemon has taken the store over. This one has to end: nothing of it counts any more.
            StoreFailed: A part of it has failed. This one has to end.
        """

    async def claim(self, due: Due, owner: str) -> Claim | None:
        """Claims a due agent. Atomic: of all who try, one gets it.

        Returns:
            The claim, kept alive by the owner's ticks; or None: the agent has returned, is settled, held, or claimed.
        """

    async def intend(self, claim: Claim, intent: Intent) -> bool:
        """Puts the intent on disk, synced. Call it before Connect is called.

        Returns:
            True; or False when the claim is void, and nothing was written.
        """

    async def still_gone(self, claim: Claim) -> Standing:
        """Whether the claim holds and its agent is still due, as of all that was applied and ordered.

        What is still to be done with an agent, but for an order to log it out, is HELD while the agent's group is: its
        silence may be a fault. Epoch and brake are tested in one step. Changes nothing.
        """

    async def settle(
        self, claim: Claim, action: Action, written: Written | None = None, follow_up: FollowUp | None = None
    ) -> bool:
        """Ends the claim with what became of it, and adds the action to the history; one transaction, synced.

        With `written` the claim's intent is the agent's last change from now on, in the same transaction: beats that
        are applied later may show that it was a mistake (`watchdog.core.undo.heard`). It is one at once when the agent
        has returned, also if the process dies before it is told so.

        Args:
            claim: The claim.
            action: What became of it.
            written: What was written and took effect, or may have; None when nothing was.
            follow_up: What is still to be done. The agent is due for it after its time, unless it returns before.

        Returns:
            True when the agent is settled; False when it returned or was logged out meanwhile (the action is recorded
            and the claim ended all the same), or when the claim was void (nothing is recorded).
        """

    async def file_again(self, claim: Claim, timer_s: float) -> bool:
        """Ends the claim without an outcome: the agent's timer is this one until its next return.

        An agent who was due for what is still to be done is due for it after its time and this timer. Nothing is on the
        disk: after a restart the agent is due by the shortest timer once more.

        Args:
            claim: The claim; it has no intent.
            timer_s: Seconds from the end of the agent's last lease.

        Returns:
            True; or False when the claim was void.
        """

    async def log_out(self, agent: AgentId, follow_up: FollowUp, instant: Instant) -> bool:
        """Somebody wants an agent logged out: all its sessions end, and it is due for `follow_up` at once.

        The sessions are answered `STOPPED` until they say hello, for `STOPPED_S`. A new epoch begins, which is no
        return; a claim, a hold, a delay and an undo that was not sent yet are over, and whatever was written before is
        no mistake. The agent is claimed once the outcome of a claim that was in hand is known. An agent who is not
        known is known then. It is in force at once, and synced when this returns; with StoreUnavailable it may be
        either.

        Returns:
            True; or False while the agent's former status is being set again: nothing is changed.
        """

    async def cancel(self, agent: AgentId, action: Action) -> Cancel:
        """Leaves an agent alone until it is heard again: its timer, a hold, and what was still to be done are over.

        A status that was set before stays, and the agent `away`. A beat begins anew, as after any outcome. The action
        is in the history, in the same transaction, synced. With StoreUnavailable nothing is changed.

        Returns:
            DONE, also when the agent was heard while it was written; else nothing was changed. UNDER_WAY: the agent is
            claimed, has an intent without an outcome, is being restored, or is to be logged out by somebody's order.
        """

    async def witness(self, claim: Claim, age_s: float, ttl_s: float, action: Action) -> bool:
        """Counts activity of a claimed agent as a heartbeat of `ttl_s` that came `age_s` ago, if it is worth anything.

        What it is worth is in `watchdog.core.evidence.lease`, by the clock of the last tick. If it is worth something,
        the agent ends with that lease, though it has no session with it; its epoch is up by one, as with any heartbeat
        after its grace began; the claim ends with its intent, and the action is in the history. One transaction,
        synced. A later bye ends such a lease at once.

        Returns:
            True; or False when it is worth nothing, the agent has returned or the claim is void: nothing is changed.
        """

    async def still_back(self, change: Change) -> Back:
        """Whether a change is still to be undone and its agent is there, as of all that was applied."""

    async def restoring(self, change: Change, at: Epoch, lease_s: float) -> Back:
        """Puts on disk, synced, that the former status may be set from now on. Call it before Connect is called.

        Until `restored` nobody gets a claim of the agent. An agent who need not be heard and is not expected has a
        lease of `lease_s` then, as with `unseen`, in the same transaction.

        Returns:
            As `still_back`; with anything but `HERE` nothing was changed.
        """

    async def restored(self, change: Change, action: Action, *, forget: bool) -> bool:
        """Ends an undo with what became of it, and adds the action to the history; one transaction, synced.

        Args:
            change: What was to be undone.
            action: What became of it.
            forget: The change is in force no longer. If not, an order or a later return may have it undone.

        Returns:
            True; or False when it was not to be undone any more: nothing is changed.
        """

    async def restore(
        self, since: Epoch, instance_id: str | None, *, silent: bool, instant: Instant, by: str | None = None
    ) -> Ordered:
        """An operator wants changes undone; what is to be undone is on disk, synced, when this returns.

        Each agent's last change counts, if it was written at `since` or later. Whoever has a session with a lease is
        queued; with `silent`, everybody. Others are as soon as they are heard within `return_window_s` running seconds
        from now. Repetitions do no harm. With StoreUnavailable nothing is to be undone by it. `by` is who wants it, for
        the history.
        """

    async def release(self, claim: Claim, delay_s: float) -> bool:
        """Gives a claim back without an outcome; its intent, if any, stays. The agent is not due again for `delay_s`.

        Returns:
            True; or False when the claim was void.
        """

    async def unseen(self, action: Action, ttl_s: float | None) -> bool:
        """Adds to the history that an agent is there of whom nothing is expected: unknown, or settled and not live.

        With `ttl_s` the agent has a lease of so many seconds then, without a session, as if heard now and never again;
        its epoch is up by one, and an unknown agent is known. One transaction, synced.

        Returns:
            True; or False when the agent is live, in grace, due or about to be logged out: nothing is changed.
        """

    async def record(self, actions: Sequence[Action]) -> None:
        """Adds actions to the history that end no claim. Those that it has already are left as they are."""

    async def order(
        self, group: str, *, hold: bool, for_s: float, reason: str, instant: Instant, by: str = ""
    ) -> BrakeView:
        """An operator holds or releases agents; it takes effect before this returns, and survives the process.

        With StoreUnavailable nothing is changed.

        It replaces what was ordered for the same group; an order for an instance goes before one for all. Those who
        said bye are never held.

        Args:
            group: An instance's id, or `ALL`.
            hold: Hold all who are silent and whoever falls silent; else let go all who are held, and trip for nothing.
            for_s: Running seconds after which the brake decides by itself again.
            reason: For people; may be empty.
            instant: Now; only its wall clock is used.
            by: Who orders it, for people; may be empty.
        """

    async def held(self, instance_id: str, after_s: float, limit: int = 100) -> tuple[Held, ...]:
        """Held agents of an instance, in turns: those first of whom it was told longest ago.

        Whom this tells has been told then, and is next when all others have been. Costs as much as it tells, however
        many are held. The turns begin anew with the process.

        Args:
            instance_id: The instance.
            after_s: Tells nobody until so many running seconds after the next one was held, or told; then also those
                for whom it is half as long, so that they come in whole pages.
            limit: Most agents to tell.
        """

    async def witness_held(self, held: Held, age_s: float, ttl_s: float, action: Action) -> bool:
        """Counts activity of a held agent as a heartbeat of `ttl_s` that came `age_s` ago, if it is worth anything.

        As `witness`, without a claim: the agent ends with that lease, its epoch is up by one, and the action is in the
        history. Its sessions are as silent as before: while such a lease lasts the agent is not held, and `SPARE_S`
        before its end it is again, if its group still holds; a fresh lease is given to it as to those held. A claim
        that is in hand is void; an intent that was left becomes an orphan. One transaction, synced.

        Returns:
            True; or False when it is worth less than `SPARE_S` from now on, or the agent was heard or is not held any
            more: nothing is changed.
        """

    async def release_held(self, held: Held, age_s: float, ttl_s: float, action: Action) -> bool:
        """Lets a held agent go, with the deadline that it had, because it missed a contact `age_s` ago.

        It is not held again by itself until it was heard, and the action is in the history. One transaction, synced.

        Args:
            held: Who.
            age_s: How long ago the contact was missed.
            ttl_s: Seconds of the lease that activity is worth.
            action: The record.

        Returns:
            True, also when the agent was heard while it was written; or False when the contact is not newer than the
            last heartbeat and the last activity, the agent was heard or is not held any more, or an operator holds it:
            nothing is changed.
        """

    async def take_tokens(self, operation: str, scope: str, count: int, instant: Instant) -> float:
        """Takes tokens of one API's quota, or none.

        Args:
            operation: The API, as botocore spells it.
            scope: Account and region that share the quota.
            count: How many.
            instant: Now.

        Returns:
            0 when they were taken, else the seconds after which to ask again.
        """

    async def throttled(self, operation: str, scope: str, instant: Instant) -> None:
        """Tells the bucket of a 429: its rate is halved, and comes back by itself."""

    async def counts(self) -> Counts:
        """How many agents and sessions there are. Not one moment: others take turns with a count of many."""

    async def agent(self, agent: AgentId) -> AgentView | None:
        """One agent, or None when it is not known."""

    async def agents(
        self,
        state: AgentState | None = None,
        query: str = "",
        cursor: str | None = None,
        limit: int = 100,
        *,
        among: Callable[[AgentId], bool] | None = None,
    ) -> AgentPage:
        """Agents in the order of their ids. Not one moment: others take turns with a search among many.

        Args:
            state: Only those.
            query: Only those whose instance or user id contains it, in whatever case.
            cursor: The last page's.
            limit: Most of them.
            among: Only those for whom it is true; asked of each, so it must be quick.
        """

    async def actions(
        self,
        agent: AgentId | None = None,
        outcome: Outcome | None = None,
        since: Epoch | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> ActionPage:
        """The history, newest first."""

    async def secret(self) -> bytes:
        """A random key of 32 bytes, made at the first call and the same ever after: it signs tickets."""

    async def prune(self, before: Epoch) -> int:
        """Forgets actions, and agents without a lease, that are older than `before`. Returns how many rows.

        Agents who are due stay, and those with whom something is still to be done, but those of instances that are not
        served.
        """


class DaemonStore(Store, Outbox, Protocol):
    """What a daemon is given."""

    @property
    def unreadable(self) -> Sequence[Unreadable]:
        """Rows that could not be read when the store was opened, by table and key."""

    @property
    def rows_lost(self) -> RowsLost | None:
        """What the server has lost of parts that this daemon took, since its start; None for nothing."""

    def replicas(self) -> Sequence[ReplicaView]:
        """All daemons that share the store, as of the last tick; none where it is one's alone."""

    async def make_room(self) -> MemoryUse:
        """Looks at the memory of the server, and drops the oldest actions while more than `FULL` of it is in use.

        Of several daemons one drops them. The last `KEPT` stay, and nothing else is ever dropped.

        Raises:
            StoreUnavailable: Some may be dropped.
        """
