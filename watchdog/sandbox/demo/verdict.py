"""Whether it ended for an agent as it must: pure functions from what was seen to a verdict.

What counts is what the stand-in of Connect wrote down, and that the daemon's own account agrees with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from watchdog.sandbox.demo.stories import Ending, Expectation, Timing

AVAILABLE = "Available"
OFFLINE = "Offline"

EARLY_S = 0.05
"""By how much the demo's clock readings may differ from the daemon's."""

STALLS_S = 3.0
"""For how long in all the daemon's clock may stand besides the grace after the restart: a busy machine stalls it."""

EDGE_S = 0.5
"""By how much a heartbeat may fail before the kill is noted, or after the daemon is."""

CONFIRMED = "confirmed"
SET = frozenset({CONFIRMED, "next_status"})
"""Outcomes of actions that changed a status."""


@dataclass(frozen=True, slots=True)
class Write:
    """A call of the daemon that changes a user, from the log of the stand-in.

    Attributes:
        at: When it took effect, epoch seconds.
        operation: Of Connect.
        status: The name of the status to be set; None where the operation has none.
        ok: It was not refused.
    """

    at: float
    operation: str
    status: str | None
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Gone:
    """The last session of an agent has ended, at the bye or the last heartbeat sent; epoch seconds."""

    at: float
    ending: Ending


@dataclass(frozen=True, slots=True)
class Pause:
    """Time in which the daemon's clock stood still, all of it told at `at`.

    Attributes:
        at: Epoch seconds.
        seconds: How long.
        restart_at: Epoch seconds of a restart, which gives every session a full time to live again; else None.
    """

    at: float
    seconds: float
    restart_at: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """All that was seen of an agent.

    Attributes:
        gone: Each time that no session was left, oldest first.
        writes: Calls of the daemon, oldest first, refused ones included.
        status: The status in Connect at the end.
        state: The daemon's state of the agent at the end; None if it does not know the agent.
        tabs: Sessions that the daemon knows and that have not run out, at the end.
        outcomes: Outcomes of the daemon's actions, oldest first.
    """

    gone: tuple[Gone, ...] = ()
    writes: tuple[Write, ...] = ()
    status: str = AVAILABLE
    state: str | None = "live"
    tabs: int = 1
    outcomes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happened to an agent.

    Attributes:
        happened: In words, for the summary.
        after_s: From the ending of the last session to Offline, as far as the daemon's clock ran; None if not set.
        faults: What differs from what should be, in words; empty when all is well.
    """

    happened: str
    after_s: float | None
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return not self.faults


def judge(expects: Expectation, record: Record, timing: Timing, pauses: Sequence[Pause] = ()) -> Verdict:
    """Compare what was seen of an agent with what must be.

    Args:
        expects: How it must end.
        record: What was seen.
        timing: The daemon's settings.
        pauses: When its clock stood still, for which it may be later.

    Returns:
        The verdict, with every fault that there is.
    """
    sets = [write for write in record.writes if write.ok and write.status == OFFLINE]
    gone = _ended_before(sets, expects.ending, record.gone)
    after_s = None if gone is None else observed_s(gone, sets[0].at, pauses)
    faults = [*_untouched(record)] if expects.ending is None else [*_set_once(expects.ending, record, sets)]
    if gone is not None and after_s is not None:
        least_s, most_s, real_s = timing.least_s(gone.ending), timing.most_s(gone.ending), sets[0].at - gone.at
        if real_s < least_s - EARLY_S:
            faults.append(f"set Offline {real_s:.1f} s after {gone.ending}, before {least_s:g} s were over")
        if after_s > most_s:
            faults.append(f"set Offline {after_s:.1f} s after {gone.ending}, later than {most_s:g} s")
    faults += _at_the_end(expects, record)
    return Verdict(_in_words(record.writes, sets, after_s), after_s, tuple(faults))


def observed_s(gone: Gone, until: float, pauses: Sequence[Pause]) -> float:
    """Give the time from an ending to `until` (epoch seconds) in which the daemon's clock ran.

    A restart on the way gives a silent session its whole time to live again, so it counts from there.
    """
    between = [pause for pause in pauses if gone.at < pause.at <= until]
    restarts = [pause.restart_at for pause in between if pause.restart_at is not None]
    begin = max([gone.at, *restarts]) if gone.ending is Ending.SILENCE else gone.at
    return until - begin - sum(pause.seconds for pause in between)


def stood_too_long(pauses: Sequence[Pause], timing: Timing) -> list[str]:
    """Give a line if the daemon's clock stood for longer than it may; what is late is forgiven for as long as it stood.

    Args:
        pauses: All of them; the restart's own time counts for nothing.
        timing: The daemon's settings.
    """
    told_s = sum(pause.seconds for pause in pauses if pause.restart_at is None)
    most_s = timing.resume_grace_s + STALLS_S
    if told_s <= most_s:
        return []
    return [f"the watchdog's clock stood still for {told_s:.1f} s, longer than {most_s:g} s"]


def unheard(failed_at: Sequence[float], down: Sequence[tuple[float, float]]) -> list[str]:
    """Give a line if heartbeats got no answer while there was a daemon to give one.

    Args:
        failed_at: When heartbeats failed, epoch seconds.
        down: From when to when there was none.
    """
    lost = [at for at in failed_at if not any(begin - EDGE_S <= at <= end + EDGE_S for begin, end in down)]
    return [f"{len(lost)} heartbeats got no answer from a watchdog that was running"] if lost else []


def _ended_before(sets: Sequence[Write], ending: Ending | None, gone: Sequence[Gone]) -> Gone | None:
    """Give the ending after which the agent was set; None if not set, or set while present."""
    before = [each for each in gone if sets and each.ending is ending and each.at <= sets[0].at]
    return before[-1] if before else None


def _untouched(record: Record) -> list[str]:
    faults = [f"{write.operation} {write.status or ''}".strip() + ", but was present" for write in record.writes]
    if SET.intersection(record.outcomes):
        faults.append("the watchdog says that it changed the status of an agent who was present")
    return faults


def _set_once(ending: Ending, record: Record, sets: Sequence[Write]) -> list[str]:
    if not sets:
        return ["was not set Offline"]
    faults = []
    if len(sets) > 1:
        faults.append(f"set Offline {len(sets)} times")
    if not any(each.ending is ending and each.at <= sets[0].at for each in record.gone):
        faults.append("set Offline while present")
    if record.outcomes.count(CONFIRMED) != 1:
        told = ", ".join(record.outcomes) or "nothing"
        faults.append(f"the watchdog's history should say {CONFIRMED} once, it says {told}")
    return faults


def _at_the_end(expects: Expectation, record: Record) -> list[str]:
    faults = []
    status, state = (AVAILABLE, "live") if expects.present else (OFFLINE, "away")
    if record.status != status:
        faults.append(f"is {record.status} in Connect, should be {status}")
    if record.state != state:
        faults.append(f"is {record.state or 'unknown'} to the watchdog, should be {state}")
    if record.tabs != expects.tabs:
        faults.append(f"has {record.tabs} sessions, should have {expects.tabs}")
    return faults


def _in_words(writes: Sequence[Write], sets: Sequence[Write], after_s: float | None) -> str:
    if sets:
        return OFFLINE if after_s is None else f"Offline after {after_s:.1f} s"
    return "written to" if writes else "untouched"
