"""The undo of our own mistakes, and the status on return: which change asks for it, and whether it is still in force.

A `Change` is what the store remembers of the last status that was written for an agent. `heard` looks at each beat of
an agent who has one and says whether it shows a mistake, or else a return; `decide` looks at what Connect shows and
says what to do.
Values in, values out: who is asked when is the business of the store and of `connect/restore.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from typing import Any, NamedTuple

from watchdog.core.evidence import GRAIN_S, Shown
from watchdog.core.model import SET_BY_US, AgentId, Beat, Epoch, Intent, Observed, Outcome, Running

LATE_S = 45.0
"""Seconds after which a write without an answer has taken effect or never will: 30 s, and half as much again."""

VERIFY_S = (5.0, 30.0, LATE_S)
"""Seconds after a write without an answer at which is looked whether it took effect on an agent who is back."""

TRIP_S = 60.0
"""Observed seconds before a trip of the brake in which a change belongs to the same silence."""


class Why(StrEnum):
    """Why a change is undone, or looked at."""

    CROSSED = "crossed"
    """The agent was heard while the status was being written."""
    UNANSWERED = "unanswered"
    """A write had no answer, and the agent is back: it may have taken effect, or may yet."""
    NEXT = "next_status"
    """The target still waits for the end of a contact, and the agent is back."""
    GAP = "gap"
    """The page's timer ran while nothing of it was heard."""
    TRIP = "trip"
    """The brake found shortly afterwards that the silence was a fault."""
    ORDER = "order"
    """An operator wants it."""
    RETURN = "return"
    """No mistake: the agent is back with a new page, and may get an initial status."""


class Left(NamedTuple):
    """A session that an agent had when it was set, and that has not been heard since.

    Attributes:
        session_id: 16 bytes.
        ttl: Seconds of its last renewal.
        heard: When that was.
        incarnation: The page's own number.
        seq: The highest of its incarnation; None when none was given.
    """

    session_id: bytes
    ttl: float
    heard: Observed
    incarnation: int = 0
    seq: int | None = None

    def precedes(self, beat: Beat) -> bool:
        """Whether the beat was made after those that were heard: an old one that comes again says nothing."""
        if beat.incarnation != self.incarnation or beat.seq is None or self.seq is None:
            return beat.incarnation >= self.incarnation
        return beat.seq > self.seq


@dataclass(frozen=True, slots=True)
class Written:
    """What a claim has written that took effect or may have, as its holder knows.

    Attributes:
        s_ago: Seconds since the last such write: since its answer, or its sending where none came.
        unanswered_s_ago: Seconds since the last one without an answer was sent; None when all were answered.
    """

    s_ago: float
    unanswered_s_ago: float | None = None


@dataclass(frozen=True, slots=True)
class Undo:
    """A change that is to be undone, if it is still in force.

    Attributes:
        why: Why.
        at: Wall clock at which that was found.
        gap_ms: What the page said of its timer, where it did.
        silence_s: Observed seconds for which its session was not heard.
        silent: Also for an agent who is not heard.
        sent_at: When a restore may have been sent last; None before the first.
        by: Who ordered it; None where nobody did.
    """

    why: Why
    at: Epoch
    gap_ms: float | None = None
    silence_s: float | None = None
    silent: bool = False
    sent_at: Epoch | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """The last status that was written for an agent, and may be in force.

    Attributes:
        agent: For whom.
        token: Of the claim; names the change.
        epoch: The agent's, of the time at which it was gone.
        action_id: The action in the history.
        target: The status' id.
        former: The id of the status before; None when Connect did not show the agent.
        outcome: What became of it.
        written_at: Wall clock of the last write that took effect, or may have.
        unanswered_at: The same of the last one that had no answer; None when all had.
        settled: Observed time of the outcome.
        running: Running time of `written_at`, less all that running time has left out since: its age is real time.
        sessions: Those that said no bye, and have not been heard since.
        silent_since: Observed end of the last lease; None when it ended by a bye.
        tripped: The brake tripped shortly afterwards for the same silence.
        ordered_until: An operator wants it undone if the agent is heard by this running time.
        back_at: When the agent was heard first since, by the wall clock of `written_at`; None for not yet.
        undo: It is to be undone.
        status: Name of the target, for people.
        profile: Name of the agent's routing profile when it was decided; None when it was not known.
        greeted: A new page has been seen since: what is to be done for a return was done, or left.
        ordered_by: Who gave the order of `ordered_until`.
    """

    agent: AgentId
    token: int
    epoch: int
    action_id: str
    target: str
    former: str | None
    outcome: Outcome
    written_at: Epoch
    unanswered_at: Epoch | None
    settled: Observed
    running: Running
    sessions: tuple[Left, ...] = ()
    silent_since: Observed | None = None
    tripped: bool = False
    ordered_until: Running | None = None
    back_at: Epoch | None = None
    undo: Undo | None = None
    status: str = ""
    profile: str | None = None
    greeted: bool = False
    ordered_by: str | None = None

    @property
    def restoring(self) -> bool:
        """A restore may be under way: nobody else may act on the agent."""
        return self.undo is not None and self.undo.sent_at is not None


class Back(Enum):
    """What a store says of an agent whose change is to be undone."""

    HERE = auto()
    """The agent has a session with a lease, or need not have one."""
    GONE = auto()
    """It has left again."""
    BUSY = auto()
    """A claim of the agent is not settled yet."""
    VOID = auto()
    """This is not to be undone any more."""


class Ordered(NamedTuple):
    """What an operator's order to restore found.

    Attributes:
        queued: To be undone now.
        left: Not heard; to be undone if heard in time.
        other: Nothing is to be restored: the status before is not known, or the agent left by a bye and is not heard.
    """

    queued: int
    left: int
    other: int


class Now(NamedTuple):
    """The store's clocks at one moment.

    Attributes:
        clock: Observed time.
        running: Running time.
        epoch: Wall clock: for people, and to compare with other rows of the store. No age is told by it.
        paused_s: Real seconds up to now that running time leaves out, and that no change has been told yet.
    """

    clock: Observed
    running: Running
    epoch: Epoch
    paused_s: float = 0.0


def age_s(change: Change, running: Running) -> float:
    """Seconds since the write. The wall clock, which anybody may set, has no say in it."""
    return running - change.running


def later(change: Change, seconds: float) -> Change:
    """The change, when so many seconds have passed that running time leaves out."""
    return replace(change, running=Running(change.running - seconds))


def aged(change: Change, now: Now, at_most_s: float = math.inf) -> Change:
    """A change that only the disk has known: it was told of no pause. It is as old as either clock says.

    Args:
        change: As it was kept.
        now: By both clocks.
        at_most_s: Seconds that running time has left out in all, where that is known. It says nothing of a change that
            is of a later time: that was another clock, which is lost.
    """
    age, wall_s = age_s(change, now.running), now.epoch - change.written_at
    return later(change, min(at_most_s if age >= 0 else math.inf, max(0.0, wall_s - age)))


def _at(change: Change, now: Now) -> Epoch:
    """Now, by the wall clock of the write."""
    return Epoch(change.written_at + age_s(change, now.running) + now.paused_s)


def changed(
    agent: AgentId,
    *,
    token: int,
    epoch: int,
    action_id: str,
    intent: Intent,
    outcome: Outcome,
    written: Written,
    now: Now,
    sessions: tuple[Left, ...],
    silent_since: Observed | None,
    status: str = "",
    profile: str | None = None,
) -> Change:
    """The record of a change that has an outcome now."""
    unanswered = written.unanswered_s_ago
    return Change(
        agent=agent,
        token=token,
        epoch=epoch,
        action_id=action_id,
        target=intent.target,
        former=intent.former,
        outcome=outcome,
        written_at=Epoch(now.epoch - written.s_ago),
        unanswered_at=None if unanswered is None else Epoch(now.epoch - unanswered),
        settled=now.clock,
        running=Running(now.running - written.s_ago),
        sessions=sessions,
        silent_since=silent_since,
        status=status,
        profile=profile,
    )


def follows(earlier: Change | None, later: Change) -> Change:
    """A change, if it replaced the status of an earlier one in the same silence: it goes back to before the first.

    Args:
        earlier: The agent's change until now; None for none.
        later: The new one.
    """
    if earlier is None or earlier.epoch != later.epoch or earlier.target != later.former:
        return later
    return replace(
        later,
        former=earlier.former,
        sessions=earlier.sessions,
        silent_since=earlier.silent_since,
        tripped=earlier.tripped,
        profile=later.profile or earlier.profile,
    )


def overtaken(change: Change, epoch: int) -> Change:
    """The change of an agent whom somebody wants logged out: what was a mistake before is none any more.

    Args:
        change: The last one.
        epoch: The agent's, which begins with the order. The status that is set next may replace that of the change.
    """
    return replace(change, epoch=epoch, undo=None, sessions=(), silent_since=None, tripped=False, ordered_until=None)


def crossed(change: Change, now: Now) -> Change:
    """The change, whose agent was heard before it had an outcome."""
    why = Why.UNANSWERED if change.unanswered_at == change.written_at else Why.CROSSED
    return replace(change, back_at=_at(change, now), undo=Undo(why, now.epoch))


def trips(change: Change, tripped_at: Observed, window_s: float) -> bool:
    """Whether a change belongs to the silence for which the brake tripped: its outcome is at most `TRIP_S` away.

    Args:
        change: What was written.
        tripped_at: When the brake tripped.
        window_s: The window in which so many fell silent.
    """
    if change.silent_since is None or abs(tripped_at - change.settled) > TRIP_S:
        return False
    return 0 <= tripped_at - change.silent_since <= window_s


def heard(change: Change, beat: Beat, now: Now, window_s: float, *, loaded: bool = False) -> Change:
    """The change after a beat that renewed a lease of its agent; the same object when it says nothing about it.

    Args:
        change: Before.
        beat: The beat; its `gap_ms` is the longest time for which its page's timer did not run, if it says so.
        now: When.
        window_s: RETURN_WINDOW.
        loaded: Its page was opened after the change, and whoever returns may get a status.
    """
    left = next((each for each in change.sessions if each.session_id == beat.session_id), None)
    if left is not None and not left.precedes(beat):
        return change
    first = change.back_at is None
    ordered = change.ordered_until is not None and now.running <= change.ordered_until
    returns = loaded and beat.arrived and left is None and not change.greeted and change.outcome in SET_BY_US
    greeting = change.undo is not None and change.undo.why is Why.RETURN and not change.restoring
    if change.undo is not None and not (greeting and left):
        return replace(change, back_at=_at(change, now)) if first else change
    if not (left or first or ordered or returns):
        return change
    # A page says once how long its timer stood; its next beats know nothing of it.
    sessions = tuple(each for each in change.sessions if each is not left)
    after = replace(change, sessions=sessions, back_at=_at(change, now) if first else change.back_at)
    timely = _at(change, now) - change.written_at <= window_s
    why = _mistake(change, left, beat.gap_ms) if timely else None
    if why is None and ordered:
        why = Why.ORDER
    if why is None and timely and first:
        why = _suspect(change, now)
    if why is None and timely and returns:
        why = Why.RETURN
    if why is None:
        return after
    silence_s = None if left is None else now.clock - left.heard
    by = change.ordered_by if why is Why.ORDER else None
    return replace(after, ordered_until=None, undo=Undo(why, now.epoch, beat.gap_ms, silence_s, by=by))


def outweighed(change: Change, kept: Change) -> bool:
    """Whether a return is no longer what is to be done: the store knows of a mistake or an order since."""
    if change.undo is None or kept.undo is None:
        return False
    return change.undo.why is Why.RETURN and kept.undo.why is not Why.RETURN


def left(change: Change, session_id: bytes) -> Change:
    """The change after a bye of a session that the store has forgotten: what of it comes later was made before."""
    sessions = tuple(each for each in change.sessions if each.session_id != session_id)
    return change if len(sessions) == len(change.sessions) else replace(change, sessions=sessions)


def _mistake(change: Change, left: Left | None, gap_ms: float | None) -> Why | None:
    """What the first beat of a session says that the agent had before."""
    if left is None or change.former is None:
        return None
    # A page whose timer stood for less than the lease would have beaten in time.
    ran = None if gap_ms is None else gap_ms / 1000 < left.ttl
    if ran:
        return Why.GAP
    return Why.TRIP if change.tripped and ran is None else None


def _suspect(change: Change, now: Now) -> Why | None:
    """What is looked at whatever the session that the agent is back with."""
    if change.outcome is Outcome.NEXT_STATUS:
        return Why.NEXT
    if change.unanswered_at is not None and _at(change, now) - change.unanswered_at <= LATE_S:
        return Why.UNANSWERED
    return None


class Step(Enum):
    """What to do with a change that is to be undone."""

    RESTORE = auto()
    """Write the former status."""
    LATER = auto()
    """Look again: a write without an answer may still take effect."""
    AGAIN = auto()
    """This look said nothing: pages are missing from the answer."""
    LEAVE = auto()
    """Done, with an outcome."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A step; with `LEAVE`, the outcome, its reason, and whether the change is in force all the same."""

    step: Step
    outcome: Outcome = Outcome.SKIPPED_STATE
    reason: str = ""
    in_force: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What one read showed, and how long before it everything was.

    Attributes:
        shown: The agent's row; None when the agent was not in the answer.
        complete: The answer had all pages.
        answered_at: Its `Date`.
        written_s_ago: Since the last write of the target.
        unanswered_s_ago: The same for the last one without an answer; None for none.
        back_s_ago: Since the agent was heard again; None for not heard.
    """

    shown: Shown | None
    complete: bool
    answered_at: Epoch
    written_s_ago: float
    unanswered_s_ago: float | None
    back_s_ago: float | None

    @property
    def open(self) -> bool:
        """A write without an answer may still take effect."""
        return self.unanswered_s_ago is not None and self.unanswered_s_ago < LATE_S


@dataclass(frozen=True, slots=True)
class Names:
    """The two statuses of a change.

    Attributes:
        former_id: The one to restore.
        former: Its name.
        target: Name of the one that was written.
        hides: The target is of type OFFLINE: Connect may leave out who is in it.
    """

    former_id: str
    former: str
    target: str
    hides: bool


def decide(change: Change, look: Look, names: Names, *, elsewhere: bool, restored: bool) -> Decision:
    """What to do after a look.

    Args:
        change: To be undone.
        look: What was seen.
        names: Its statuses.
        elsewhere: An earlier look since the return showed that the target was not in force.
        restored: The former status was written, or may have been.
    """
    shown = look.shown
    if shown is None and not look.complete:
        return Decision(Step.AGAIN)
    if shows(shown, names):
        if look.open:
            return Decision(Step.LATER)
        if restored:
            return Decision(Step.LEAVE, Outcome.CONFIRMED, f"Connect shows {names.former} again.")
        return Decision(Step.LEAVE, reason=f"Connect shows {names.former}: there is nothing to restore.")
    other = _not_ours(change, look, names)
    if other is not None:
        return Decision(Step.LATER) if look.open else other
    undo = change.undo
    if undo is not None and undo.why is Why.NEXT and (shown is None or shown.next_status != names.target):
        text = f"{names.target} was applied at the end of the contact."
        return Decision(Step.LEAVE, reason=text, in_force=True)
    if undo is not None and undo.why is Why.UNANSWERED and change.outcome in SET_BY_US and not elsewhere:
        # It was read back before the return, so that was no mistake; only an effect after the return is one.
        back_s_ago = look.back_s_ago or 0.0
        if shown is None or shown.since is None or look.answered_at - shown.since >= back_s_ago:
            if look.open:
                return Decision(Step.LATER)
            text = "The agent was set before the return, and by no mistake that is known."
            return Decision(Step.LEAVE, reason=text, in_force=True)
    return Decision(Step.RESTORE)


def shows(shown: Shown | None, names: Names) -> bool:
    """Whether the former status is there, or comes next."""
    if shown is None:
        return False
    return shown.next_status == names.former or (shown.status_id == names.former_id and shown.next_status is None)


def _not_ours(change: Change, look: Look, names: Names) -> Decision | None:
    """Why what Connect shows is not our doing; None when it is."""
    shown = look.shown
    if shown is None:
        if not names.hides:
            return Decision(Step.LEAVE, reason="Connect does not show the agent.")
        silent = change.undo is not None and change.undo.silent
        if look.back_s_ago is None and not silent:
            return Decision(Step.LEAVE, reason="Connect does not show the agent, who has not been heard.")
        return None
    if shown.next_status == names.target:
        return None
    if shown.status_id != change.target or shown.next_status is not None:
        return Decision(Step.LEAVE, Outcome.RETURNED, "Somebody else has chosen a status since. It stays.")
    newest_s_ago = look.written_s_ago
    if look.unanswered_s_ago is not None:
        newest_s_ago = min(newest_s_ago, look.unanswered_s_ago - LATE_S)
    if change.outcome is Outcome.NEXT_STATUS and look.back_s_ago is not None:
        # Connect applies it when the contact ends, which may be any time.
        newest_s_ago = min(newest_s_ago, look.back_s_ago)
    if shown.since is not None and look.answered_at - shown.since < newest_s_ago - GRAIN_S:
        return Decision(Step.LEAVE, Outcome.RETURNED, f"Somebody has chosen {names.target} since. It stays.")
    return None


def evidence(change: Change) -> dict[str, Any]:
    """What an undo rests on, as JSON values."""
    undo = change.undo
    found: dict[str, Any] = {
        "undoes": change.action_id,
        "written": {
            "target": change.target,
            "former": change.former,
            "at": change.written_at,
            "unanswered_at": change.unanswered_at,
            "outcome": change.outcome.value,
        },
        "back_at": change.back_at,
    }
    if undo is not None:
        found |= {
            "why": undo.why.value,
            "found_at": undo.at,
            "gap_ms": undo.gap_ms,
            "silence_s": None if undo.silence_s is None else round(undo.silence_s, 3),
            "silent": undo.silent,
            "sent_at": undo.sent_at,
            "by": undo.by,
        }
    return found
