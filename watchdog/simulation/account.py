"""The simulator's own account of who was heard and who was there, kept from the outside of the daemon.

Two clocks are kept apart. *Heard* time passes while a process runs and can store what it hears; no agent may be judged
by any other. *Real* time passes always; it tells whether an agent was present, whatever became of the daemon.

Nothing here looks into the daemon: it is told what was answered, when processes ran, and what the network let through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

PAUSE_HEARD_S = 2.0
"""Of each pause this much counts as heard: what arrives in it waits in the socket and is read afterwards."""

CROSSED_S = 1.0
"""A beat so long after a write took effect comes before its first read-back, and crosses with it."""

RACE_S = 0.35
"""A beat that arrives in the last moments before a write may come too late: 250 ms that the product allows between its
re-check and the sending, and the time of a flush."""

QUIET_SHARE = 0.6
"""Share of a TTL after which silence is told by the brake's promise."""

BYE_DOUBT_S = 5.0
"""A bye that came so shortly before the end of another session's lease may have come after it."""

GRACE_WINDOW_S = 600.0
MANY_GAPS = 8
"""After so many gaps in this time the grace that is due may be used up: half of the time, at most 30 s each."""

KEPT_S = 1_200.0
"""Coverage is kept for this long."""


class Hearing:
    """Heard time: how long a process ran, unpaused, with a store that took what it heard.

    Attributes:
        steady_since: Real time of the last change, short ones included.
        began_at: Real time at which the last process began.
        taken_over: A daemon may have taken over what another one had, which goes on itself.
    """

    taken_over = False

    def __init__(self) -> None:
        self._total = 0.0
        self._since: float | None = None
        self._up = False
        self._deaf = 0
        self._paused_at: float | None = None
        self._stopped_at: float | None = None
        self._down_at: float | None = None
        self._gaps: list[tuple[float, float]] = []
        self._halts: list[tuple[float, float]] = []
        self._deaf_at = 0.0
        self.steady_since = 0.0
        self.began_at = 0.0

    def at(self, now: float) -> float:
        """Heard seconds until `now`."""
        if self._since is None:
            return self._total
        until = now if self._paused_at is None else min(now, self._paused_at + PAUSE_HEARD_S)
        return self._total + max(0.0, until - self._since)

    def up(self, now: float, *, up: bool) -> None:
        """A process begins or ceases to run."""
        self._change(now)
        if not up:
            self._down_at = now
        else:
            self.began_at = now
            if self._down_at is not None:
                self._gap(self._down_at, now)
        self._up = up
        self._paused_at = None
        self._since = now if self._hears() else None

    def paused(self, now: float, *, paused: bool) -> None:
        """The process is stopped or continues."""
        self._change(now)
        if self._paused_at is not None and self._stopped_at is not None:
            self._gap(self._stopped_at, now)
        self._paused_at = self._stopped_at = now if paused else None
        self._since = now if self._hears() else None

    def deaf(self, now: float, *, deaf: bool) -> None:
        """The store fails or recovers. Calls nest."""
        self._change(now)
        self._deaf += 1 if deaf else -1
        if not deaf:
            self._halts = [*self._halts[-60:], (self._deaf_at, now)]
        elif self._deaf == 1:
            self._deaf_at = now
        self._since = now if self._hears() else None

    def kept_waiting(self, begin: float, end: float) -> None:
        """Commits took so long; whatever was heard meanwhile counts."""
        if end - begin > PAUSE_HEARD_S / 2:
            self._halts = [*self._halts[-60:], (begin, end)]

    def hasty(self, now: float, interval: float) -> bool:
        """Whether a blind gap of more than a tick ended less than `interval` ago.

        Grace has a limit: where gaps were many lately there is none to be expected.
        """
        if self.many_gaps(now) or not self._gaps:
            return False
        return now - self._gaps[-1][1] < interval - 1.0

    def many_gaps(self, now: float) -> bool:
        """Whether blind gaps were so many lately that no grace is to be expected."""
        return sum(1 for _, end in self._gaps if end > now - GRACE_WINDOW_S) > MANY_GAPS

    def _hears(self) -> bool:
        return self._up and not self._deaf

    def stood(self, since: float, now: float, *, grace: float, interval: float, tick: float) -> float:
        """Real seconds since a moment for which the daemon's clock may have stood still, gaps apart: graces after them.

        A gap begins with the tick before it.
        """
        total, reached = 0.0, since
        for begin, end in sorted(self._halts, key=lambda halt: halt[1]):
            gap = end - begin + 2 * tick
            if gap > PAUSE_HEARD_S:
                first, last = max(reached, end), min(now, end + min(grace, max(interval, gap)) + 2 * tick)
                total, reached = total + max(0.0, last - first), max(reached, last)
        return total

    def _gap(self, begin: float, end: float) -> None:
        self._halts = [*self._halts[-60:], (begin, end)]
        if end - begin > PAUSE_HEARD_S + 0.5:
            self._gaps = [*self._gaps[-30:], (begin, end)]

    def unsteady(self, now: float) -> None:
        """Something else has changed that delays what the daemon does."""
        self.steady_since = now

    def _change(self, now: float) -> None:
        self._total = self.at(now)
        self.steady_since = now
        if self._paused_at is not None and now > self._paused_at + PAUSE_HEARD_S:
            # Whatever else changes in this pause, its two seconds are spent.
            self._paused_at = float("-inf")


@dataclass(slots=True)
class Taken:
    """One beat that a process accepted, or a bye that it heard: when, in real and in heard time, and what it renews.

    `sure` is False for a bye that was answered with an error: it may have been applied. `took_s` is how long the
    process had it before it answered: what it changed may be as old.
    """

    at: float
    heard: float
    ttl: float
    bye: bool
    sure: bool = True
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Silence:
    """The last beat of an agent who has said no bye since: when, in real and in heard time, and what it renewed."""

    at: float
    heard: float
    ttl: float


@dataclass(slots=True)
class SessionAccount:
    """One session, as the outside knows it.

    Attributes:
        incarnation: The highest that was accepted.
        seq: The highest of that incarnation that was accepted.
        taken: What was accepted lately, oldest first.
        let_through: Attempts that the network let through, and those of them that were accepted: real time and TTL.
        ended_at: Real time of the page's end, by bye or by silence; None while it beats.
        bye_at: Real time at which the bye was sent, if one was.
        surely: The highest seq of that incarnation that was certainly applied; a higher one was answered with an error.
        perhaps: Heard time until which its lease may last if a beat was applied of which nobody knows whether it was.
        doubt: Heard time of the end of its lease if a beat is applied that was answered with an error, and that renews
            for less than the one before; None when there is none since the last that was accepted.
        tried: Of a first message that was answered with an error, and may have been applied: its incarnation, its seq,
            and when in heard time. The same again renews nothing.
    """

    incarnation: int = -1
    seq: int = -1
    surely: int = -1
    taken: list[Taken] = field(default_factory=list)
    let_through: list[tuple[float, float]] = field(default_factory=list)
    ended_at: float | None = None
    bye_at: float | None = None
    doubt: float | None = None
    perhaps: float = float("-inf")
    tried: tuple[int, int, float] | None = None

    def accept(self, taken: Taken, incarnation: int, seq: int) -> bool:
        """Notes an accepted message. False: it was an old one, which counts for nothing."""
        if incarnation < self.incarnation:
            return False
        closed = bool(self.taken) and self.taken[-1].bye and self.taken[-1].sure
        if incarnation == self.incarnation and (closed or (seq <= self.seq and not taken.bye)):
            return False
        if incarnation > self.incarnation:
            self.seq = self.surely = -1
        self.seq = max(seq, self.seq)
        if taken.sure:
            self.surely = self.seq
        self.incarnation = incarnation
        if self.tried is not None and self.tried[:2] == (incarnation, seq):
            taken.heard = min(taken.heard, self.tried[2])
        if not taken.bye:
            self.let_through.append((taken.at, taken.ttl))
            self.doubt = None
        self.taken = [*self.taken[-7:], taken]
        return True

    def repeats(self, taken: Taken, incarnation: int, seq: int, began_at: float) -> None:
        """Notes a repeated beat that was answered as if its session went on, if the daemon may not know it.

        It does not if it answered the first one with an error, or if its process began after the last new one: what
        the file has of a session's seq is up to a minute old.
        """
        if incarnation == self.incarnation and (seq > self.surely or began_at > self.taken[-1].at):
            self.perhaps = max(self.perhaps, taken.heard + taken.ttl)

    def in_doubt(self, since: float) -> None:
        """What was accepted since then may have been lost."""
        sure = [each for each in self.taken if each.at < since]
        lease = sure[-1].heard + sure[-1].ttl if sure else float("-inf")
        self.doubt = lease if self.doubt is None else min(self.doubt, lease)

    def spans(self, begin: float, end: float) -> Iterator[tuple[float, float]]:
        """When the page was there, in real time, as far as it touches `begin` to `end`.

        It is there from each attempt that the network let through, for its TTL, until the next one or its bye.
        """
        following = [*(at for at, _ in self.let_through[1:]), float("inf")]
        for (at, ttl), then in zip(self.let_through, following, strict=False):
            until = min(at + ttl, then)
            if self.bye_at is not None:
                until = min(until, self.bye_at)
            if self.ended_at is not None and not self.taken:
                # Opened and gone while no process was there: nobody can know of it.
                until = min(until, self.ended_at)
            if until > begin and at < end:
                yield at, until

    def end_real(self, gone_at: float, carried_s: float) -> tuple[float, float] | None:
        """The latest end of its lease in real time, without faults, and its TTL; None for no lease."""
        sure = [each for each in self.taken if each.sure]
        if not sure:
            return None
        if sure[-1].bye:
            return sure[-1].at, sure[-2].ttl if len(sure) > 1 else 0.0
        ended_at = gone_at if self.ended_at is None else self.ended_at
        return max(ended_at + carried_s, sure[-1].at) + sure[-1].ttl, sure[-1].ttl

    def end_heard(self, before: float, *, at_most: bool = False) -> float | None:
        """When its lease ends, in heard time, by what was accepted until the real time `before`; None for no lease.

        With `at_most`, what may have been lost is taken as if it was not.
        """
        counted = [each for each in self.taken if each.at <= before]
        if not counted:
            return None
        last = counted[-1]
        if last.bye:
            lease = [each.heard + each.ttl for each in counted[:-1] if not each.bye]
            return min([last.heard - last.took_s, *lease[-1:]])
        end = last.heard + last.ttl
        return end if self.doubt is None or at_most else min(end, self.doubt)


class AgentAccount:
    """One agent: all sessions, and how often the watchdog has changed the status since the agent was last there.

    Attributes:
        sessions: By session id.
        known: A process has stored a session of the agent.
        changes: Effective changes since the last attempt that the network let through.
        total_changes: Effective changes in all.
        actions: How many actions these changes must have: one for each time that the daemon heard the agent before.
        heard_at: When the daemon first heard the agent after the last change, in real time; None when it has not.
        overruled: A person has changed the status of the absent agent after the watchdog was done.
        written_to: A write was sent since the daemon last heard the agent.
        clicked_at: Real time of the last deed in Connect by an agent whose pages were not heard.
        spared_at: Real time at which such a deed was last taken as evidence.
        must_hold: Heard time at which the brake last had to hold the agent; None since it was heard.
        may_hold: The brake may have held the agent since it was heard.
        sent_at: Real time at which the last write to Offline was sent.
        set_at: Real time at which the last one that was effective took effect.
        mistaken_at: Real time of a beat that came while the status was being written, or before a late write took
            effect; None when there was none, or when it was made good.
        lied: Writes that Connect accepted and that had no effect.
        chosen_at: Real time at which a person last chose a status in Connect that is not Offline.
        restores: Effective restores that must have an action.
        restoring: One of them has none yet; another that follows belongs to the same action: a late write of ours took
            effect in between, or a process was killed.
        confirmed_at: Real time at which the daemon last told that it has set the agent.
        released_at: Real time at which the daemon last told that it holds the agent no longer.
        released_heard: The same in heard time.
        contact_at: Real time at which the last contact began.
        owed_at: Real time of the first page after that, which is to give back a status; None when none is owed.
        let_go: The daemon has told that it holds the agent no longer; since it was heard.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, SessionAccount] = {}
        self.known = False
        self.changes = 0
        self.total_changes = 0
        self.actions = 0
        self.heard_at: float | None = None
        self.overruled = False
        self.written_to = False
        self.clicked_at = float("-inf")
        self.spared_at = float("-inf")
        self.must_hold: float | None = None
        self.may_hold = False
        self.let_go = False
        self.sent_at = float("-inf")
        self.set_at = float("-inf")
        self.mistaken_at: float | None = None
        self.chosen_at = float("-inf")
        self.lied = 0
        self.restores = 0
        self.restoring = False
        self.confirmed_at = float("-inf")
        self.released_at = self.released_heard = float("-inf")
        self.contact_at = float("-inf")
        self.owed_at: float | None = None

    def session(self, session_id: str) -> SessionAccount:
        """The account of a session; a new one when it is not known."""
        return self.sessions.setdefault(session_id, SessionAccount())

    def attempt(self, session_id: str, now: float, ttl: float) -> None:
        """The network let a beat through: the agent is there, whatever the daemon makes of it."""
        account = self.session(session_id)
        account.let_through.append((now, ttl))
        self.changes = 0

    def in_doubt(self, session_id: str, since: float) -> None:
        """What a session said since then may have been lost with a process; a new page of it is not known for sure."""
        session = self.session(session_id)
        if session.taken and not session.taken[-1].bye:
            session.in_doubt(since)
        if all(not each.taken or each.taken[0].at >= since for each in self.sessions.values()):
            self.known = False

    def heard(self, now: float) -> None:
        """The daemon has accepted a beat."""
        self.known = True
        # Not before: to a daemon that has not heard it, whoever came and chose a status is still who was written to.
        self.overruled = self.written_to = False
        self.must_hold, self.may_hold, self.let_go = None, False, False
        if self.sent_at < now and (self.set_at < self.sent_at or now <= self.set_at + CROSSED_S):
            self.mistaken_at = now
        if self.heard_at is None:
            self.heard_at = now

    def restored(self) -> None:
        """A restore has changed the status."""
        self.changes, self.mistaken_at, self.owed_at = 0, None, None
        self.confirmed_at = float("-inf")
        self.restores += not self.restoring
        self.restoring = True

    def changed(self, received_at: float, at: float) -> None:
        """A write has changed the status, that Connect received at a real time and carried out at another.

        One that was received before the agent was heard again belongs to the action of the absence before. One that a
        person has replaced since is no change of the absence that begins then.
        """
        self.changes += at > self.chosen_at
        self.total_changes += 1
        if self.heard_at is not None and self.heard_at < received_at:
            self.actions += 1
            self.heard_at = None

    def deadline_heard(self, before: float, timer: float) -> float:
        """The earliest heard time at which the agent may be set, by what was accepted until `before`."""
        return self._end_heard(before, at_most=False) + timer

    def _end_heard(self, before: float, *, at_most: bool) -> float:
        ends = (each.end_heard(before, at_most=at_most) for each in self.sessions.values())
        return max((end for end in ends if end is not None), default=float("-inf"))

    def perhaps(self) -> float:
        """Heard time until which a lease may last of which nobody knows whether it was given."""
        return max((each.perhaps for each in self.sessions.values()), default=float("-inf"))

    def lease_heard(self, now: float) -> float:
        """The latest heard time until which the daemon may believe that the agent is there, but for its grace."""
        # A bye may have been under way, and a beat may just have come.
        return max(self.perhaps(), *(self._end_heard(at, at_most=True) for at in (now - RACE_S, now)))

    def let_through_at(self) -> float:
        """Real time of the last attempt that the network let through."""
        attempts = (at for each in self.sessions.values() for at, _ in each.let_through[-1:])
        return max(attempts, default=float("-inf"))

    def last_at(self) -> float:
        """Real time at which a message was last accepted."""
        return max((each.taken[-1].at for each in self.sessions.values() if each.taken), default=float("-inf"))

    def silence(self) -> Silence | None:
        """The last beat of those sessions that said no bye; None when a bye came after it, or may have."""
        last: Silence | None = None
        lease, bye = float("-inf"), float("-inf")
        for session in self.sessions.values():
            if not session.taken:
                continue
            taken = session.taken[-1]
            if taken.bye:
                bye = max(bye, taken.heard)
            else:
                lease = max(lease, taken.heard + taken.ttl)
                # One that may be silent for long is none while another is heard.
                if last is None or taken.heard + QUIET_SHARE * taken.ttl > last.heard + QUIET_SHARE * last.ttl:
                    last = Silence(taken.at, taken.heard, taken.ttl)
        return None if bye > lease - BYE_DOUBT_S else last

    def there(self, now: float) -> bool:
        """Whether a page is there at a moment."""
        return any(True for each in self.sessions.values() for _ in each.spans(now, now + 1e-3))

    def uncovered(self, begin: float, end: float) -> float:
        """Real seconds between `begin` and `end` in which no session was there."""
        spans = sorted(span for each in self.sessions.values() for span in each.spans(begin, end))
        missing, reached = 0.0, begin
        for first, last in spans:
            if first > reached:
                missing += min(first, end) - reached
            reached = max(reached, last)
            if reached >= end:
                return missing
        return missing + max(0.0, end - reached)

    def forget(self, before: float) -> None:
        """Drops attempts that are too old to matter, so that a long world stays quick."""
        for account in self.sessions.values():
            if account.let_through and account.let_through[0][0] < before:
                account.let_through = [each for each in account.let_through if each[0] >= before]
