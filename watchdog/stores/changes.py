"""What a lease table remembers of the last status written for each agent, while it may have been a mistake.

Which beat shows a mistake is decided in `core/undo.py`. On the disk a change stays for as long as the history, since an
operator may have it undone at any time; in memory only while a beat may matter.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

from watchdog.core import undo as rules
from watchdog.core.model import Action, AgentId, AgentState, Claim, Epoch, Intent, Observed, Running
from watchdog.core.undo import Back, Change, Left, Now, Ordered, Undo, Why, Written
from watchdog.stores.facts import Agent
from watchdog.stores.leases import LeaseTable
from watchdog.stores.presence import quiet_at

FORGET_S = 30.0
"""Running time between two looks for changes that nobody has to remember any more."""


class Changes:
    """The changes of a store."""

    def __init__(self, table: LeaseTable, window_s: float) -> None:
        self._table = table
        self._window_s = window_s
        self._looked_at = Running(0.0)
        # Seconds of this process that running time has left out.
        self.missed_s = 0.0

    # Making and forgetting.

    def made(
        self, agent: Agent, claim: Claim, action: Action, intent: Intent, written: Written, now: Now
    ) -> Change | None:
        """The change of a claim that is being settled; None when it only repeated the one before."""
        if intent.former is None and agent.change is not None and agent.change.target == intent.target:
            return None
        profile = action.evidence.get("profile")
        change = rules.changed(
            agent.id,
            token=claim.token,
            epoch=claim.epoch,
            action_id=action.id,
            intent=intent,
            outcome=action.outcome,
            written=written,
            now=now,
            sessions=_left(agent),
            silent_since=None if quiet_at(agent) is None else agent.ends_at,
            status=action.target,
            profile=profile if isinstance(profile, str) else None,
        )
        return rules.follows(agent.change, change)

    def load(self, found: Iterable[Change], now: Now, missed_s: float) -> None:
        """Goes on with what an earlier process had written, after so many seconds without one."""
        for row in found:
            agent, change = self._table.agents.get(row.agent), rules.later(row, missed_s)
            if agent is None or not self._matters(change, now):
                if agent is not None and missed_s > 0 and self._matters(row, now):
                    # Whoever reads it next must know as much of the time that has passed.
                    self._table.dirty.changes[agent.id] = change
                continue
            if change.undo is None and change.back_at is None and agent.epoch != change.epoch:
                # Every later return writes `back_at` together with the epoch: this one came while it was settled.
                change = rules.crossed(change, now)
            self._table.put_change(agent, change)

    def missed(self, seconds: float) -> None:
        """So many seconds have passed that running time leaves out."""
        self.missed_s += seconds
        if seconds > 0:
            for agent in list(self._table.changed.values()):
                if agent.change is not None:
                    self._table.put_change(agent, rules.later(agent.change, seconds))

    def forget_old(self, now: Now) -> None:
        """Forgets, in memory, what no beat can change any more."""
        if now.running - self._looked_at < FORGET_S:
            return
        self._looked_at = now.running
        for agent in list(self._table.changed.values()):
            change = agent.change
            if change is not None and not self._matters(change, now):
                self._table.keep_change(agent, None)

    def _matters(self, change: Change, now: Now) -> bool:
        ordered = change.ordered_until is not None and now.running <= change.ordered_until
        if change.undo is not None or ordered or rules.age_s(change, now.running) <= self._window_s:
            return True
        # What follows in the same silence goes back to before this one.
        agent = self._table.agents.get(change.agent)
        return agent is not None and agent.settled and agent.follow_up is not None

    def trip(self, agents: Iterable[Agent], at: Observed, window_s: float) -> None:
        """The brake has tripped for these agents, because so many fell silent within so many seconds."""
        for agent in agents:
            change = agent.change
            if change is not None and not change.tripped and rules.trips(change, at, window_s):
                self._table.put_change(agent, replace(change, tripped=True))

    # Undoing.

    def to_undo(self, busy: Container[AgentId]) -> tuple[Change, ...]:
        """What is to be undone, but for agents who are busy: an intent of theirs has no outcome and no claim."""
        return tuple(
            agent.change
            for agent in self._table.to_undo.values()
            if agent.change is not None and agent.claim is None and agent.id not in busy
        )

    def standing(self, change: Change, clock: Observed, *, busy: bool) -> Back:
        """What has become of a change that is to be undone."""
        agent = self._table.agents.get(change.agent)
        kept = None if agent is None else agent.change
        if agent is None or kept is None or kept.token != change.token or kept.undo is None:
            return Back.VOID
        if rules.outweighed(change, kept):
            return Back.VOID
        if busy or agent.claim is not None:
            return Back.BUSY
        if kept.undo.silent:
            waiting = (AgentState.GRACE, AgentState.DUE, AgentState.HELD)
            return Back.GONE if self._table.state(agent, clock) in waiting else Back.HERE
        return Back.HERE if here(agent, clock) else Back.GONE

    def kept(self, change: Change, agent: Agent, clock: Observed) -> Change:
        """A change that was not undone. If its agent has left again, the next return may show a mistake anew."""
        if here(agent, clock):
            greeted = change.greeted or (change.undo is not None and change.undo.why is Why.RETURN)
            return replace(change, undo=None, greeted=greeted)
        return replace(change, undo=None, back_at=None, epoch=agent.epoch, sessions=_left(agent), greeted=False)

    def order(
        self, found: Sequence[Change], now: Now, *, silent: bool, busy: Container[AgentId], by: str | None = None
    ) -> tuple[Ordered, list[Plan]]:
        """An operator wants these undone; see `Store.restore`. Nothing is changed by it: `carry_out` does that."""
        queued = left = other = 0
        planned: list[Plan] = []
        for row in found:
            agent = self._table.agents.get(row.agent)
            change = rules.aged(row, now) if agent is None or agent.change is None else agent.change
            if agent is None or change.former is None:
                other += 1
            elif change.undo is not None and change.undo.why is not Why.RETURN and (change.undo.silent or not silent):
                queued += 1
            elif agent.claim is None and agent.id not in busy and (silent or here(agent, now.clock)):
                queued += 1
                sent_at = None if change.undo is None else change.undo.sent_at
                undo = Undo(Why.ORDER, now.epoch, silent=silent, sent_at=sent_at, by=by)
                back_at = change.back_at
                if back_at is None and here(agent, now.clock):
                    back_at = Epoch(change.written_at + rules.age_s(change, now.running))
                after = replace(change, undo=undo, ordered_until=None, back_at=back_at)
                planned.append(Plan(agent, agent.change, after))
            elif change.silent_since is None and agent.claim is None and agent.id not in busy:
                # It left by a bye: a page that comes now is another matter.
                other += 1
            else:
                left += 1
                until = Running(now.running + self._window_s)
                planned.append(Plan(agent, agent.change, replace(change, ordered_until=until, ordered_by=by)))
        return Ordered(queued, left, other), planned

    def carry_out(self, planned: Iterable[Plan]) -> list[Change]:
        """Puts in force what was planned and is on the disk. Returns the changes that are others since it was."""
        late: list[Change] = []
        for plan in planned:
            agent = plan.agent
            if self._table.agents.get(agent.id) is agent and agent.change is plan.before:
                self._table.keep_change(agent, plan.after)
            elif agent.change is not None:
                self._table.dirty.changes[agent.id] = agent.change
                if agent.change.token == plan.after.token:
                    late.append(agent.change)
        return late


@dataclass(frozen=True, slots=True)
class Plan:
    """What an order makes of an agent's change.

    Attributes:
        agent: Whose.
        before: The change that the agent has in memory.
        after: The change with the order.
    """

    agent: Agent
    before: Change | None
    after: Change


def sent(change: Change, at: Epoch) -> Change:
    """The change, whose restore is about to be sent."""
    return change if change.undo is None else replace(change, undo=replace(change.undo, sent_at=at))


def _left(agent: Agent) -> tuple[Left, ...]:
    return tuple(
        Left(row.session_id, row.ttl, Observed(row.expires_at - row.ttl), row.incarnation, row.seq)
        for row in agent.sessions
        if not row.closed
    )


def here(agent: Agent, clock: Observed) -> bool:
    """Whether the agent has a session with a lease."""
    return any(not row.closed and clock <= row.expires_at for row in agent.sessions)
