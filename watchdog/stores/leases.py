"""The leases in memory: sessions, their agents, and the buckets that tell when to look at an agent again.

A renewal writes `expires_at` and nothing else. An agent stands in the bucket of its `wake_at`, which is a hint: when
the bucket comes up, the state is computed from the sessions again and the agent is filed anew if it has moved. Whatever
may lower a deadline files the agent earlier; the entry that it leaves behind is recognised and skipped. A live agent
is looked at when it would be quiet, then when its lease ends, then when its timer ends.

No I/O and no clock: every method is told the observed time. What has to reach the disk is collected in `Dirty`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from watchdog.core import deadline, evidence, notices, undo
from watchdog.core.model import (
    AgentId,
    AgentState,
    AgentView,
    Beat,
    BeatType,
    Epoch,
    FollowUp,
    Mark,
    Next,
    Observed,
    Outcome,
    Reply,
    Running,
    SessionEnd,
    SessionView,
    Tear,
    Verdict,
)
from watchdog.core.undo import Change, Now
from watchdog.stores.due import DueLine
from watchdog.stores.facts import HIDDEN, MAIN_DRIVER, NEVER, NONE, TORN, Agent, Bucket, Dirty, Session
from watchdog.stores.listing import Listing
from watchdog.stores.presence import Presence, quiet_at, ttl_of
from watchdog.stores.turns import Turns

BUCKET_S = 0.05
"""Width of an expiry bucket. An agent is looked at no earlier than its `wake_at` and at most this much later."""

HORIZON_S = 60.0
"""How far ahead of its lease a horizon is written: one write a minute and session, however often it is renewed."""

HORIZONS_PER_S = 5_000
"""With more than 300,000 sessions a horizon is further ahead, so that no more are written: 20 µs of a core each."""

HORIZON_MARGIN_S = 10.0
"""A horizon is renewed this long before the lease reaches it, so a crash before the next flush shortens nothing."""

LINGER_S = 300.0
"""For this long a session that ended by silence stays in its agent's list, as evidence."""

MAX_SESSIONS = 32
"""Sessions of one agent, those lately ended included: a client with a new id for each beat must not fill the memory."""

EVIDENCE_SESSIONS = 8
"""Of an agent's sessions so many are told in the evidence, those that ended last; it is kept for HISTORY_DAYS."""


_SAID = HIDDEN | MAIN_DRIVER | TORN
"""What each beat says anew."""


MAX_SEQS = 10_000
"""Numbers that are shared: a day of beats every 10 s has fewer."""


class _Lease(NamedTuple):
    """What leases of one TTL share that begin at one time: a million of them are given by a few objects."""

    expires_at: Observed
    horizon: Observed
    reply: Reply


class LeaseTable:
    """All sessions and agents, and when to look at them again."""

    def __init__(
        self,
        timer_s: float,
        window_s: float = 900.0,
        serves: Callable[[AgentId], bool] = lambda _: True,
        *,
        greets: bool = False,
    ) -> None:
        self.agents: dict[AgentId, Agent] = {}
        self.sessions: dict[bytes, Session] = {}
        self.due: dict[AgentId, Agent] = {}
        self.line = DueLine(self.deadline, serves)
        self.phases = dict.fromkeys(AgentState, 0)
        self.presence = Presence()
        self.held = Turns()
        # Held past their deadline, since the brake looked last; each once, as nothing is filed for them any more.
        self.stopped: list[Agent] = []
        self.dirty = Dirty()
        # Agents whose last change a beat may still show to be a mistake, and those whose change is to be undone.
        self.changed: dict[AgentId, Agent] = {}
        self.to_undo: dict[AgentId, Agent] = {}
        # As of the beats that are applied.
        self.running = Running(0.0)
        self.paused_s = 0.0
        self._seqs: dict[int, int] = {}
        self._leases_at = NEVER
        self._leases: dict[float, _Lease] = {}
        self._window_s = window_s
        self._greets = greets
        self._timer_s = timer_s
        self._buckets: dict[int, Bucket] = {}
        self._next_bucket = 0
        self.listing = Listing()

    # Heartbeats.

    def apply(self, beat: Beat, clock: Observed, seen: Epoch) -> Reply:
        """Applies one heartbeat at `clock`."""
        session = self.sessions.get(beat.session_id)
        if session is not None:
            reply = self._goes_on(session, beat, clock, seen)
            if reply is not None:
                return reply
        if session is None:
            verdict = deadline.judge(beat, None, None, closed=False, same_agent=True)
        else:
            verdict = deadline.judge(
                beat,
                session.incarnation,
                session.seq,
                closed=session.closed,
                same_agent=session.agent.id == beat.agent,
                stopped=session.stopped,
            )
        if verdict is Verdict.OPENED or verdict is Verdict.RENEWED:
            session = self._renew(session, beat, clock, seen, opened=verdict is Verdict.OPENED)
        elif verdict is Verdict.CLOSED and session is not None:
            self._close(session, beat, clock, seen)
        elif verdict is Verdict.CLOSED:
            self._left(beat)
        if session is None or verdict is Verdict.FOREIGN:
            return Reply(verdict, live=False, left_s=0.0)
        notice = session.agent.notice if self.running < session.agent.told_until else None
        if session.closed:
            return Reply(verdict, live=False, left_s=0.0, notice=notice)
        left = max(0.0, session.expires_at - clock)
        return Reply(verdict, live=clock <= session.expires_at, left_s=left, notice=notice)

    def _goes_on(self, session: Session, beat: Beat, clock: Observed, seen: Epoch) -> Reply | None:
        """Renews a lease that nothing but its end changes of, as nearly every beat does. None: it was no such beat.

        It is what `deadline.judge` and `_renew` would do, at a quarter of the time.
        """
        agent, seq, ttl = session.agent, beat.seq, beat.ttl
        dealings = agent.dealings
        if (
            ttl is None
            or ttl > session.ttl
            or beat.type is not BeatType.BEAT
            or beat.incarnation != session.incarnation
            or session.closed_at is not None
            or (seq is not None and session.seq is not None and seq <= session.seq)
            or not agent.awake
            or clock > agent.ends_at
            or (dealings is not NONE and (dealings.told_until > self.running or dealings.change is not None))
            or agent.id != beat.agent
        ):
            return None
        lease = self._lease(ttl, clock)
        expires_at = lease.expires_at
        if expires_at < session.expires_at:
            return None
        if seq is not None:
            session.seq = self._seqs.get(seq) or self.one(seq)
        flags = session.flags & ~_SAID
        if beat.hidden:
            flags |= HIDDEN
        if beat.main_driver:
            flags |= MAIN_DRIVER
        session.flags = flags
        session.ttl = ttl
        session.tether = beat.tether
        session.seen = agent.seen = seen
        session.expires_at = expires_at
        if agent.ends_at < expires_at:  # noqa: PLR1730 - `max` takes three times as long
            agent.ends_at = expires_at
        if expires_at + HORIZON_MARGIN_S > session.horizon:
            session.horizon = lease.horizon
            self.dirty.sessions[session.session_id] = session
        return lease.reply

    def one(self, seq: int) -> int:
        """The number, as one object for all sessions: they count the same few thousands, 32 bytes each."""
        if len(self._seqs) >= MAX_SEQS:
            self._seqs.clear()
        return self._seqs.setdefault(seq, seq)

    def _lease(self, ttl: float, clock: Observed) -> _Lease:
        """What all leases of this TTL share that begin now."""
        if clock != self._leases_at:
            self._leases_at, self._leases = clock, {}
        lease = self._leases.get(ttl)
        if lease is None:
            ends_at = Observed(clock + ttl)
            reply = Reply(Verdict.RENEWED, live=True, left_s=ttl)
            ahead_s = max(HORIZON_S, len(self.sessions) / HORIZONS_PER_S)
            lease = self._leases[ttl] = _Lease(ends_at, Observed(ends_at + ahead_s), reply)
        return lease

    def _renew(self, session: Session | None, beat: Beat, clock: Observed, seen: Epoch, *, opened: bool) -> Session:
        loaded = session is None and beat.type is BeatType.HELLO and beat.incarnation == 0
        if session is None:
            agent = self.agents.get(beat.agent) or self._new_agent(beat.agent)
            if len(agent.sessions) >= MAX_SESSIONS:
                self._make_room(agent, clock)
            session = Session(agent, beat.session_id)
            agent.sessions = (*agent.sessions, session)
            self.sessions[beat.session_id] = session
        else:
            agent = session.agent
        back = deadline.returned(agent.ends_at, clock)
        if back:
            agent.begin_epoch()
            self.dirty.agents[agent.id] = agent
        if opened:
            session.closed_at = None
            session.stopped = False
            session.loaded = loaded
            session.incarnation = beat.incarnation
            session.seq = None
        if beat.seq is not None:
            session.seq = self.one(beat.seq)
        grown = (beat.ttl or 0.0) > session.ttl
        session.ttl = beat.ttl or 0.0
        session.hidden = beat.hidden
        session.main_driver = beat.main_driver
        session.tether = beat.tether
        session.torn = False
        session.seen = agent.seen = seen
        lease = self._lease(session.ttl, clock)
        lowered = self._move(session, lease.expires_at)
        if opened or grown or session.expires_at + HORIZON_MARGIN_S > session.horizon:
            session.horizon = lease.horizon
            self.dirty.sessions[session.session_id] = session
        if not agent.awake:
            self._wake(agent, clock, back=back)
        elif lowered:
            self._file_earlier(agent, quiet_at(agent) or agent.ends_at)
        if agent.told_until == notices.ON_RETURN:
            agent.told_until = notices.until(self.running)
            self.dirty.agents[agent.id] = agent
        if agent.change is not None:
            self._shows(agent, agent.change, session, beat, Now(clock, self.running, seen, self.paused_s))
        return session

    def _shows(self, agent: Agent, change: Change, session: Session, beat: Beat, now: Now) -> None:
        """What a beat shows about the agent's last change."""
        if session.loaded and any(left.session_id == session.session_id for left in change.sessions):
            # The page was there before the change.
            session.loaded = False
            self.dirty.sessions[session.session_id] = session
        after = undo.heard(change, beat, now, self._window_s, loaded=session.loaded and self._greets)
        if after is not change:
            self.put_change(agent, after)

    def _left(self, beat: Beat) -> None:
        """A bye of a session that is not known any more. It leaves no tombstone, and undoes nothing either."""
        agent = self.agents.get(beat.agent)
        if agent is not None and agent.change is not None:
            change = undo.left(agent.change, beat.session_id)
            if change is not agent.change:
                self.put_change(agent, change)

    def put_change(self, agent: Agent, change: Change | None) -> None:
        """The agent's change is this one from now on, here and with the next write on the disk."""
        self.keep_change(agent, change)
        self.dirty.changes[agent.id] = change

    def keep_change(self, agent: Agent, change: Change | None) -> None:
        """The same, here only."""
        agent.change = change
        self.changed.pop(agent.id, None)
        self.to_undo.pop(agent.id, None)
        if change is not None:
            self.changed[agent.id] = agent
            if change.undo is not None:
                self.to_undo[agent.id] = agent

    def _wake(self, agent: Agent, clock: Observed, *, back: bool) -> None:
        """An agent who was quiet or gone is heard."""
        if not back and (agent.mark is Mark.RELEASED or agent.settled):
            # Its grace had begun before it was given a fresh lease: a claim of that time is void. Or the clock stands
            # since it was logged out.
            agent.begin_epoch()
            self.dirty.agents[agent.id] = agent
        self._heard(agent, clock)
        self._enter(agent, AgentState.LIVE)
        self.presence.place(agent, leased=True, awake=True)
        self._file(agent, quiet_at(agent) or agent.ends_at)

    def _heard(self, agent: Agent, clock: Observed) -> None:
        """Whatever the brake had to do with the agent is over, a lease that it gave included."""
        self.presence.quiet.pop(agent.id, None)
        if agent.mark is Mark.FREE:
            return
        agent.floor = min(agent.floor, clock)
        agent.ends_at = _ends_at(agent)
        agent.mark = Mark.FREE
        agent.held_s = 0.0
        self.held.drop(agent.id)
        self.dirty.agents[agent.id] = agent

    def _close(self, session: Session, beat: Beat, clock: Observed, seen: Epoch) -> None:
        """A bye ends the lease. One that comes after the lease has ended by itself lengthens nothing."""
        session.closed_at = clock
        session.incarnation = beat.incarnation
        session.seen = session.agent.seen = seen
        if session.agent.floor > clock and session.agent.mark is not Mark.RELEASED:
            # Activity that somebody has witnessed is older than this bye. A lease that the brake gave is no activity.
            session.agent.floor = clock
            self.dirty.agents[session.agent.id] = session.agent
        self._move(session, Observed(min(session.expires_at, deadline.expiry(beat, clock))))
        session.horizon = session.expires_at
        self.dirty.sessions[session.session_id] = session
        agent = session.agent
        at = quiet_at(agent)
        if at is None and agent.id in self.presence.quiet:
            # The last of its sessions was only silent, and now says bye: it has left.
            self._heard(agent, clock)
            self._look(agent, clock)
        elif agent.leased:
            self._file_earlier(agent, agent.ends_at if at is None or not agent.awake else at)

    def tear(self, tear: Tear, clock: Observed) -> bool:
        """A socket was torn. Returns whether the lease of its session is shorter for it.

        What is left counts as a lease of its own, given now: its agent is quiet when most of that is over, not at once.
        """
        session = self.sessions.get(tear.session_id)
        if session is None:
            return False
        ends_at = deadline.torn(tear, session.tether, session.expires_at, clock, closed=session.closed)
        if ends_at is None:
            return False
        session.torn = True
        session.ttl = tear.ttl
        self._move(session, ends_at)
        session.horizon = ends_at
        self.dirty.sessions[session.session_id] = session
        agent = session.agent
        if agent.leased:
            at = quiet_at(agent)
            self._file_earlier(agent, agent.ends_at if at is None or not agent.awake else at)
        return True

    def _make_room(self, agent: Agent, clock: Observed) -> None:
        """Drops one session: one that ended by silence, said bye, or was stopped, in this order, and the first to end.

        No deadline is earlier for it. The lease of one that goes on is kept until its end: its page's next beat opens
        it anew, and a bye of another page must not end it before.
        """

        def goes_on(row: Session) -> bool:
            return clock <= row.expires_at and not row.closed

        session = min(agent.sessions, key=lambda row: (goes_on(row), row.closed, row.stopped, row.expires_at))
        agent.sessions = [row for row in agent.sessions if row is not session]
        if goes_on(session):
            agent.spilled = max(agent.spilled, session.expires_at)
        else:
            agent.floor = max(agent.floor, session.expires_at)
            self.dirty.agents[agent.id] = agent
        self.drop_session(session)

    def _move(self, session: Session, expires_at: Observed) -> bool:
        """Sets a session's expiry and the agent's end with it. Returns whether anything may be earlier than before."""
        agent = session.agent
        session.expires_at = expires_at
        if expires_at >= agent.ends_at:
            agent.ends_at = expires_at
            return False
        agent.ends_at = _ends_at(agent)
        return True

    def heard(self, agent: Agent) -> Observed:
        """When the agent was last heard from, a bye included; `NEVER` where no session is known any more."""
        return max(
            (row.expires_at if row.closed else Observed(row.expires_at - row.ttl) for row in agent.sessions),
            default=NEVER,
        )

    def witnessed(self, agent: Agent, age_s: float, ttl_s: float, clock: Observed) -> Observed | None:
        """When the lease of activity ends that somebody has witnessed; None when it proves nothing."""
        return evidence.lease(
            age_s, ttl_s, heard=self.heard(agent), ends_at=agent.ends_at, timer_s=self.timer_s(agent), clock=clock
        )

    def lengthen(self, agent: Agent, ends_at: Observed, clock: Observed) -> None:
        """The agent is gone no earlier than `ends_at`, as if heard, without a session. A new epoch begins.

        A hold is over. Its sessions are as silent as before: the brake may hold it anew when that lease ends.
        """
        self._heard(agent, clock)
        agent.begin_epoch()
        agent.floor = max(agent.floor, ends_at)
        agent.ends_at = max(agent.ends_at, agent.floor)
        self.dirty.agents[agent.id] = agent
        if agent.change is not None:
            # This epoch is no return.
            self.put_change(agent, replace(agent.change, epoch=agent.epoch))
        self._look(agent, clock)

    def expected(self, agent_id: AgentId, clock: Observed) -> bool:
        """Whether the agent is live, in grace, due, or about to be logged out."""
        agent = self.agents.get(agent_id)
        if agent is None:
            return False
        ordered = agent.follow_up is not None and agent.follow_up.next is Next.LOG_OUT
        return ordered or self.state(agent, clock) not in (AgentState.AWAY, AgentState.GONE)

    def suppose(self, agent_id: AgentId, ends_at: Observed, clock: Observed) -> None:
        """Gives an agent, known or not, a lease without a session."""
        self.lengthen(self.agents.get(agent_id) or self._new_agent(agent_id), ends_at, clock)

    def _new_agent(self, agent_id: AgentId) -> Agent:
        # Instances are few: all their agents share the name.
        agent_id = AgentId(sys.intern(agent_id.instance_id), agent_id.user_id)
        agent = self.agents[agent_id] = Agent(agent_id)
        self.phases[agent.phase] += 1
        self.dirty.agents[agent_id] = agent
        self.listing.add(agent_id)
        return agent

    # Expiry.

    def expire(self, clock: Observed) -> None:
        """Looks at every agent whose bucket has come up. Afterwards `due` holds all whose deadline has passed."""
        last = int(clock / BUCKET_S)
        while self._next_bucket <= last:
            bucket = self._buckets.pop(self._next_bucket, None)
            if bucket is not None:
                for agent in bucket.agents:
                    if agent.bucket is bucket:
                        agent.bucket = None
                        self._look(agent, clock)
            self._next_bucket += 1

    def _look(self, agent: Agent, clock: Observed) -> None:
        if agent.awake and len(agent.sessions) == 1:
            # Almost every look, once a TTL for everybody: one session that goes on as before needs nothing else.
            session = agent.sessions[0]
            fades_at = deadline.quiet_at(session.expires_at, session.ttl)
            if clock <= fades_at and session.ttl == agent.ttl and not session.closed:
                self._file(agent, fades_at)
                return
        state = self.state(agent, clock)
        self._enter(agent, state)
        if state is AgentState.LIVE:
            self._forget_sessions(agent, clock)
        elif clock > agent.ends_at:
            self._end_by_silence(agent, clock)
        at = quiet_at(agent)
        silent = agent.mark is not Mark.FREE or (at is not None and clock > at)
        if silent and not agent.settled:
            self.presence.quiet[agent.id] = agent
        leased = clock <= agent.ends_at and agent.mark is not Mark.RELEASED
        # A lease without a session owes no beat.
        self.presence.place(agent, leased=leased, awake=leased and not silent and at is not None)
        over = Observed(agent.ends_at + self.timer_s(agent))
        if state is AgentState.LIVE:
            self._file(agent, agent.ends_at if silent or at is None else at)
        elif state is AgentState.GRACE:
            self._file(agent, over)
        elif state is AgentState.HELD:
            self._look_at_held(agent, clock, over)
        elif state is not AgentState.DUE:
            self._forget_sessions(agent, clock)
            self._file_settled(agent, clock)

    def _file_settled(self, agent: Agent, clock: Observed) -> None:
        wakes = [Observed(clock + LINGER_S)] if agent.sessions else []
        at = self.follow_up_at(agent)
        if at is not None:
            wakes.append(at)
        if wakes:
            self._file(agent, min(wakes))

    def _look_at_held(self, agent: Agent, clock: Observed, over: Observed) -> None:
        if clock <= over:
            self._file(agent, agent.ends_at if clock <= agent.ends_at else over)
        else:
            self.stopped.append(agent)

    def _end_by_silence(self, agent: Agent, clock: Observed) -> None:
        """The horizon of a lease that ran out is brought down to it, so that a restart does not open it again."""
        for session in agent.sessions:
            if session.expires_at < clock and session.horizon > session.expires_at:
                session.horizon = session.expires_at
                self.dirty.sessions[session.session_id] = session

    def _forget_sessions(self, agent: Agent, clock: Observed) -> None:
        keep: list[Session] = []
        for session in agent.sessions:
            over_s = clock - (session.expires_at if session.closed_at is None else session.closed_at)
            if over_s <= _kept_s(session):
                keep.append(session)
                continue
            agent.floor = max(agent.floor, session.expires_at)
            self.drop_session(session)
        if len(keep) != len(agent.sessions):
            agent.sessions = keep
            self.dirty.agents[agent.id] = agent

    def drop_session(self, session: Session) -> None:
        """Forgets a session's row here and on the disk. The agent's list is the caller's business."""
        self.sessions.pop(session.session_id, None)
        self.dirty.sessions.pop(session.session_id, None)
        self.dirty.dropped.add((session.session_id, session.agent.id))

    def _enter(self, agent: Agent, state: AgentState) -> None:
        if agent.phase is not state:
            self.phases[agent.phase] -= 1
            self.phases[state] += 1
            agent.phase = state
        if state is AgentState.DUE:
            self.due[agent.id] = agent
            self.line.add(agent)
        elif self.due.pop(agent.id, None) is not None:
            self.line.drop(agent.id)

    def settle(
        self, agent: Agent, epoch: int, outcome: Outcome, clock: Observed, follow_up: FollowUp | None = None
    ) -> None:
        """See `Agent.settle`."""
        agent.settle(epoch, outcome, follow_up)
        self.dirty.agents[agent.id] = agent
        if agent.epoch == epoch:
            if agent.mark is not Mark.FREE:
                self._heard(agent, clock)
            self._enter(agent, self.state(agent, clock))
            self._file_settled(agent, clock)

    def cancel(self, agent: Agent, outcome: Outcome, clock: Observed) -> None:
        """Nothing waits for the agent any more. It may still have a lease, if it was held before that ended."""
        self.settle(agent, agent.epoch, outcome, clock)
        self._look(agent, clock)

    def file_again(self, agent: Agent, timer_s: float, clock: Observed) -> None:
        """The agent has this timer for the rest of its silence."""
        agent.timer_s = timer_s
        if agent.mark is not Mark.HELD:
            # Of whom is held past the deadline is told once; the end of the hold looks at the timer.
            self._look(agent, clock)

    def log_out(self, agent_id: AgentId, follow_up: FollowUp, clock: Observed) -> None:
        """All sessions of the agent, known or not, are stopped, and it is due for `follow_up` from the next tick on."""
        agent = self.agents.get(agent_id) or self._new_agent(agent_id)
        self._heard(agent, clock)
        for session in agent.sessions:
            if session.closed:
                continue
            session.closed_at = clock
            session.stopped = True
            session.expires_at = session.horizon = min(session.expires_at, clock)
            self.dirty.sessions[session.session_id] = session
        agent.floor, agent.spilled = min(agent.floor, clock), min(agent.spilled, clock)
        agent.ends_at = _ends_at(agent)
        if agent.ends_at == NEVER:
            agent.floor = agent.ends_at = clock  # who was not known is kept
        agent.begin_epoch()
        if agent.change is not None:
            self.put_change(agent, undo.overtaken(agent.change, agent.epoch))
        agent.settled_epoch = agent.epoch
        agent.follow_up = replace(follow_up, at=clock)
        agent.not_before = Running(0.0)
        self.dirty.agents[agent.id] = agent
        self._look(agent, clock)

    # The brake.

    def hold(self, agent: Agent, running: Running, clock: Observed) -> None:
        """Holds a quiet agent: it is not due until it is let go."""
        agent.mark = Mark.HELD
        agent.held_at = running
        self.held.add(agent.id, running)
        self.dirty.agents[agent.id] = agent
        self._look(agent, clock)

    def let_go(self, agent: Agent, running: Running, clock: Observed, *, fresh: bool) -> None:
        """Ends the hold of an agent, who is not held again by itself until it was heard.

        Args:
            agent: Who.
            running: Now.
            clock: Now.
            fresh: It gets a lease and a timer from now on; else it has the deadline that it had.
        """
        agent.held_s += running - agent.held_at
        agent.mark = Mark.RELEASED
        self.held.drop(agent.id)
        if fresh:
            # No session is renewed by it; a floor survives a restart as it is.
            agent.floor = agent.ends_at = max(agent.ends_at, Observed(clock + ttl_of(agent)))
        self.dirty.agents[agent.id] = agent
        self._look(agent, clock)

    def _file(self, agent: Agent, wake_at: Observed) -> None:
        number = max(int(wake_at / BUCKET_S) + 1, self._next_bucket)
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = Bucket(number)
        bucket.agents.append(agent)
        agent.bucket = bucket

    def _file_earlier(self, agent: Agent, wake_at: Observed) -> None:
        if agent.bucket is None or int(wake_at / BUCKET_S) + 1 < agent.bucket.number:
            self._file(agent, wake_at)

    # Start and end.

    def load(self, clock: Observed) -> None:
        """Files every agent after `agents` and `sessions` were filled from the disk."""
        self._next_bucket = int(clock / BUCKET_S)
        self.listing.load(self.agents)
        self.phases = dict.fromkeys(AgentState, 0)
        dealt: list[Agent] = []
        plain: list[Agent] = []
        for agent in self.agents.values():
            if agent.dealings is NONE:
                if self._file_plain(agent, clock):
                    plain.append(agent)
                    continue
            else:
                dealt.append(agent)
            agent.ends_at = _ends_at(agent)
            agent.phase = AgentState.GONE
            self.phases[AgentState.GONE] += 1
            self._look(agent, clock)
        self.presence.load(plain)
        self.phases[AgentState.LIVE] += len(plain)
        held = [agent for agent in dealt if agent.mark is Mark.HELD and not agent.settled]
        for agent in sorted(held, key=lambda each: each.held_at):
            self.held.add(agent.id, agent.held_at)
        self.stopped.clear()

    def _file_plain(self, agent: Agent, clock: Observed) -> bool:
        """Files an agent who has one session that goes on, as nearly everyone has, and does not count it.

        Returns whether it was such a one.

        It is what `_look` would do, at a third of the time: a million agents are filed while nobody is answered.
        """
        session = agent.alone
        if session is None or session.closed_at is not None or agent.floor > session.expires_at:
            return False
        fades_at = deadline.quiet_at(session.expires_at, session.ttl)
        if clock > fades_at:
            return False
        agent.ends_at = session.expires_at
        agent.phase = AgentState.LIVE
        self._file(agent, fades_at)
        return True

    def forget(self, agent: Agent) -> None:
        """Forgets an agent and its sessions. The agent's row on the disk is the caller's business."""
        for session in agent.sessions:
            self.drop_session(session)
        agent.sessions = ()
        agent.bucket = None
        self.keep_change(agent, None)
        self.presence.forget(agent)
        self.held.drop(agent.id)
        self.phases[agent.phase] -= 1
        if self.due.pop(agent.id, None) is not None:
            self.line.drop(agent.id)
        self.dirty.agents.pop(agent.id, None)
        del self.agents[agent.id]
        self.listing.drop(agent.id)

    # Reading.

    def state(self, agent: Agent, clock: Observed) -> AgentState:
        """Where the agent stands at `clock`, from the facts."""
        return deadline.state(
            agent.ends_at,
            self.timer_s(agent),
            clock,
            settled=agent.settled,
            last_outcome=agent.last_outcome,
            mark=agent.mark,
            follow_up_at=self.follow_up_at(agent),
        )

    def timer_s(self, agent: Agent) -> float:
        """The agent's session-end timer."""
        return self._timer_s if agent.timer_s is None else agent.timer_s

    def deadline(self, agent: Agent) -> Observed:
        """When the agent's timer ends, or when it is due for what is still to be done."""
        at = self.follow_up_at(agent) if agent.settled else None
        return Observed(agent.ends_at + self.timer_s(agent)) if at is None else at

    def follow_up_at(self, agent: Agent) -> Observed | None:
        """After this a settled agent is due once more; None for never."""
        if agent.follow_up is None or agent.timer_s is None:
            return None if agent.follow_up is None else agent.follow_up.at
        return max(agent.follow_up.at, Observed(agent.ends_at + agent.timer_s))

    def view(self, agent: Agent, clock: Observed) -> AgentView:
        """The agent as the API shows it."""
        state = self.state(agent, clock)
        waiting = state in (AgentState.LIVE, AgentState.GRACE, AgentState.DUE) or (
            agent.settled and agent.follow_up is not None
        )
        return AgentView(
            agent=agent.id,
            state=state,
            sessions=tuple(
                SessionView(row.session_id, row.expires_at - clock, row.hidden, row.main_driver)
                for row in agent.sessions
                if not row.closed
            ),
            due_in_s=max(0.0, self.deadline(agent) - clock) if waiting else None,
            last_seen=agent.seen or None,
            last_outcome=agent.last_outcome,
        )

    def evidence(self, agent: Agent, clock: Observed) -> dict[str, Any]:
        """What a decision about the agent rests on, as JSON values: how and when each session ended."""
        ended = sorted(agent.sessions, key=lambda row: row.expires_at, reverse=True)
        return {
            "clock_s": round(clock, 3),
            "timer_s": self.timer_s(agent),
            "deadline_s": round(self.deadline(agent), 3),
            "sessions_in_all": len(ended),
            "sessions": [
                {
                    "session_id": str(UUID(bytes=session.session_id)),
                    "ended": _end(session).value,
                    "ended_s_ago": round(clock - session.expires_at, 3),
                    "ttl_s": session.ttl,
                    "last_beat_at": session.seen,
                    "hidden": session.hidden,
                    "main_driver": session.main_driver,
                }
                for session in ended[:EVIDENCE_SESSIONS]
            ],
        }


def _end(session: Session) -> SessionEnd:
    if session.stopped:
        return SessionEnd.STOPPED
    if session.closed:
        return SessionEnd.BYE
    return SessionEnd.TORN if session.torn else SessionEnd.SILENCE


def _kept_s(session: Session) -> float:
    """Seconds for which a session that is over is kept."""
    if session.stopped:
        return deadline.STOPPED_S
    return deadline.TOMBSTONE_S if session.closed else LINGER_S


def _ends_at(agent: Agent) -> Observed:
    return max([agent.floor, agent.spilled, *(row.expires_at for row in agent.sessions)])
