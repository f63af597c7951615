"""The rule for a deadline: what a heartbeat does to its session, when an agent is due, and in which state it is.

A beat sets its session's `expires_at = clock + ttl`, a bye sets it to `clock`, and a socket that is torn brings it down
to `clock + tether`. The agent's deadline is the latest of them plus the session-end timer. Nobody is due while
`clock <= deadline`.

Pure functions over single facts, so that a store can keep the facts in the shape that suits it.
"""

from __future__ import annotations

from dataclasses import replace

from watchdog.core.model import SET_BY_US, AgentState, Beat, BeatType, Mark, Observed, Outcome, Tear, Verdict

QUIET_SHARE = 0.6
"""Share of its TTL without a beat after which a session is quiet: two beats missed, and time left to hold the agent."""

TOMBSTONE_S = 300.0
"""For this long a session that said bye stays known, so that a beat which was in flight does not reopen it."""

STOPPED_S = 86_400.0
"""For this long a session that was stopped stays known: as long as a ticket is good."""


def judge(
    beat: Beat, incarnation: int | None, seq: int | None, *, closed: bool, same_agent: bool, stopped: bool = False
) -> Verdict:
    """What a heartbeat does to its session.

    Args:
        beat: The heartbeat.
        incarnation: The session's incarnation; None for a session that is not known.
        seq: The highest seq of that incarnation; None when none was given.
        closed: The session has said bye.
        same_agent: The session was opened for the beat's agent.
        stopped: The agent was logged out on purpose; the session is closed since.

    Returns:
        `OPENED`, `RENEWED` or `CLOSED` when it moves something; any other verdict moves nothing.
    """
    if incarnation is None:
        if beat.type is BeatType.BYE:
            return Verdict.CLOSED
        return Verdict.NOT_RENEWED if beat.ttl is None else Verdict.OPENED
    if not same_agent:
        return Verdict.FOREIGN
    if beat.incarnation < incarnation:
        return Verdict.STALE
    if stopped:
        return _judge_stopped(beat, incarnation)
    if beat.incarnation == incarnation:
        if closed:
            return Verdict.TOMBSTONE
        if beat.type is BeatType.BYE:
            return Verdict.CLOSED
        if seq is not None and beat.seq is not None and beat.seq <= seq:
            return Verdict.STALE
    elif beat.type is BeatType.BYE:
        return Verdict.CLOSED
    if beat.ttl is None:
        return Verdict.NOT_RENEWED
    return Verdict.RENEWED if beat.incarnation == incarnation else Verdict.OPENED


def _judge_stopped(beat: Beat, incarnation: int) -> Verdict:
    if beat.type is BeatType.BYE:
        return Verdict.TOMBSTONE
    # Tickets are for one incarnation: those from before are worth nothing any more.
    if beat.type is not BeatType.HELLO or beat.incarnation == incarnation:
        return Verdict.STOPPED
    return Verdict.NOT_RENEWED if beat.ttl is None else Verdict.OPENED


def expiry(beat: Beat, clock: Observed) -> Observed:
    """When the lease of a session ends that this beat opened, renewed or closed."""
    if beat.type is BeatType.BYE or beat.ttl is None:
        return clock
    return Observed(clock + beat.ttl)


def torn(tear: Tear, tether: int | None, expires_at: Observed, clock: Observed, *, closed: bool) -> Observed | None:
    """When the lease of a session ends whose socket was torn; None when that moves nothing.

    A lease is never longer for it, and none is shorter that somebody else has renewed since: the notice of a socket's
    end may come long after the end, when the page is back by another way.

    Args:
        tear: What was noticed.
        tether: The socket that carried the beat which renewed the session last; None for a POST.
        expires_at: When the lease ends or ended.
        clock: Now.
        closed: The session has said bye, or was stopped.
    """
    ends_at = Observed(clock + tear.ttl)
    return ends_at if not closed and tether == tear.tether and ends_at < expires_at else None


def coalesce(earlier: Beat, later: Beat) -> Beat:
    """The one of two beats of a session that counts when both are flushed together.

    One that may not renew gives way, since it moves nothing. Else the higher incarnation wins; within one, a bye wins
    over beats, then the higher seq, then the later arrival. The longer gap of the two is kept, and that one of them was
    a hello: a page says either once.
    """
    if later.ttl is None or earlier.ttl is None:
        return earlier if later.ttl is None else later
    if earlier.incarnation != later.incarnation:
        return earlier if earlier.incarnation > later.incarnation else later
    if BeatType.BYE in (earlier.type, later.type):
        return earlier if earlier.type is BeatType.BYE else later
    behind = earlier.seq is not None and later.seq is not None and later.seq < earlier.seq
    winner, other = (earlier, later) if behind else (later, earlier)
    if other.gap_ms is not None and (winner.gap_ms is None or winner.gap_ms < other.gap_ms):
        winner = replace(winner, gap_ms=other.gap_ms)
    if other.type is BeatType.HELLO and winner.type is BeatType.BEAT:
        winner = replace(winner, type=BeatType.HELLO)
    return winner


def returned(ends_at: Observed, clock: Observed) -> bool:
    """Whether a renewal at `clock` comes back from grace, and so raises the agent's epoch.

    Args:
        ends_at: When the last of the agent's leases ended or ends, before the renewal.
        clock: Now. At `clock == ends_at` the agent is still live.
    """
    return clock > ends_at


def is_due(ends_at: Observed, timer_s: float, clock: Observed) -> bool:
    """Whether the timer is over. `clock == deadline` is not due."""
    return clock > ends_at + timer_s


def quiet_at(expires_at: Observed, ttl: float) -> Observed:
    """From when on a session is quiet that has had no beat since the one that made it expire then.

    At `clock == quiet_at` it is not quiet yet. After a restart, when a lease is as long as it can be, it is told from
    that one: nobody is quiet for the time in which nobody listened.
    """
    return Observed(expires_at - (1 - QUIET_SHARE) * ttl)


def state(
    ends_at: Observed,
    timer_s: float,
    clock: Observed,
    *,
    settled: bool,
    last_outcome: Outcome | None,
    mark: Mark = Mark.FREE,
    follow_up_at: Observed | None = None,
) -> AgentState:
    """Where an agent stands.

    Args:
        ends_at: When the last of its leases ended or ends.
        timer_s: The session-end timer.
        clock: Now.
        settled: An intent of the agent's present epoch has an outcome.
        last_outcome: What became of the last intent.
        mark: The brake's. A released agent has a lease that nobody renews: it counts as part of the timer.
        follow_up_at: After this a settled agent is due once more; None for never.
    """
    if mark is Mark.HELD and not settled:
        return AgentState.HELD
    if clock <= ends_at and mark is not Mark.RELEASED:
        return AgentState.LIVE
    if settled:
        if follow_up_at is not None and clock > follow_up_at:
            return AgentState.DUE
        return AgentState.AWAY if last_outcome in SET_BY_US else AgentState.GONE
    return AgentState.DUE if is_due(ends_at, timer_s, clock) else AgentState.GRACE
