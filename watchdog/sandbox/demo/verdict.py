"""Whether it ended for an agent as it must: pure functions from what was seen to a verdict.

What counts is what the stand-in of Connect wrote down, and that the daemon's own account agrees with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from watchdog.sandbox.demo.roles import AVAILABLE, Change, Expectation, Mark, Timing

EARLY_S = 0.05
"""By how much the demo's clock readings may differ from the daemon's."""

STALLS_S = 5.0
"""For how long in all the daemon's clock may stand besides a restart and its grace: a busy machine stalls it."""

EDGE_S = 0.5
"""By how much a heartbeat may fail before the kill is noted, or after the daemon is."""

IN_FORCE_S = 2.0
"""How much later than what brings it in force a status may show: Connect itself does that."""

PASSING = frozenset({"returned", "witnessed", "held", "released"})
"""Outcomes with which nothing was done, or not yet."""

LATER = "later than"
"""What a fault says that is of time alone."""


@dataclass(frozen=True, slots=True)
class Write:
    """A call of the daemon that changes a user, from the log of the stand-in.

    Attributes:
        at: When it took effect, epoch seconds.
        operation: Of Connect.
        what: The name of the status to be set, `LOGOUT` or `DISMISSED`.
        ok: It was not refused.
    """

    at: float
    operation: str
    what: str
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Moment:
    """Something has happened from which a time counts, as the person knows it; epoch seconds."""

    at: float
    mark: Mark


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
        moments: Ends of the last session, and the like, oldest first.
        writes: Calls of the daemon, oldest first, refused ones included.
        status: The status in Connect at the end.
        status_since: When it came in force, epoch seconds.
        state: The daemon's state of the agent at the end; None if it does not know the agent.
        tabs: Sessions that the daemon knows and that have not run out, at the end.
        history: The daemon's actions, `intent outcome` each, oldest first.
        stopped: Pages that were told to stop.
        refusals: What the daemon refused to do for whoever asked, in its words.
    """

    moments: tuple[Moment, ...] = ()
    writes: tuple[Write, ...] = ()
    status: str = AVAILABLE
    status_since: float = 0.0
    state: str | None = "live"
    tabs: int = 1
    history: tuple[str, ...] = ()
    stopped: int = 0
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happened to an agent.

    Attributes:
        happened: In words, for the summary, where there are no times.
        times: From what each change is counted from to the change, and to its being in force where that is another
            time, as far as the daemon's clock ran; empty unless all was done that is expected.
        faults: What differs from what should be, in words; empty when all is well.
    """

    happened: str
    times: tuple[float, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return not self.faults


def judge(expects: Expectation, record: Record, pauses: Sequence[Pause] = ()) -> Verdict:
    """Compare what was seen of an agent with what must be.

    Args:
        expects: How it must end.
        record: What was seen.
        pauses: When the daemon's clock stood still, for which it may be later.

    Returns:
        The verdict, with every fault that there is.
    """
    done = [write for write in record.writes if write.ok]
    faults = list(record.refusals)
    if not expects.changes:
        faults += [f"{each.operation} {each.what}, but was not to be touched" for each in record.writes]
    told, wanted = [each.what for each in done], [each.what for each in expects.changes]
    complete = told == wanted
    if expects.changes and not complete:
        faults.append(f"in Connect: {', '.join(told) or 'nothing'}; should be: {', '.join(wanted)}")
    times = []
    if complete:
        for change, write, before in zip(expects.changes, done, [None, *done], strict=False):
            time_s, fault = _timely(change, write, _begin(change.since, write, before, record), pauses)
            times.append(time_s)
            faults += fault
        faults += _in_force(expects, record, done, times)
    faults += _at_the_end(expects, record)
    happened = ", ".join(told) or ("written to" if record.writes else "untouched")
    return Verdict(happened, tuple(times), tuple(faults))


def observed_s(begin: Moment, until: float, pauses: Sequence[Pause]) -> float:
    """Give the time from a moment to `until` (epoch seconds) in which the daemon's clock ran.

    A restart on the way gives a silent session its whole time to live again, so it counts from there. Of a pause that
    is told after the moment, as much is taken to have been after it as can have been.
    """
    between = [pause for pause in pauses if begin.at < pause.at <= until]
    restarts = [pause.restart_at for pause in between if pause.restart_at is not None]
    begin_at = max([begin.at, *restarts]) if begin.mark is Mark.SILENCE else begin.at
    return until - begin_at - sum(max(0.0, min(pause.seconds, pause.at - begin_at)) for pause in between)


def stood_too_long(pauses: Sequence[Pause], down: Sequence[tuple[float, float]], timing: Timing) -> list[str]:
    """Give a line if the daemon's clock stood for longer than it may; what is late is forgiven for as long as it stood.

    Args:
        pauses: All of them.
        down: From when to when there was no daemon, epoch seconds: the next process tells that its clock stood then.
        timing: The daemon's settings.
    """
    told_s = sum(pause.seconds for pause in pauses)
    most_s = timing.resume_grace_s + STALLS_S + sum(end - begin for begin, end in down)
    if told_s <= most_s:
        return []
    return [f"the watchdog's clock stood still for {told_s:.1f} s, longer than {most_s:.1f} s"]


def unheard(failed_at: Sequence[float], down: Sequence[tuple[float, float]]) -> list[str]:
    """Give a line if heartbeats got no answer while there was a daemon to give one.

    Args:
        failed_at: When heartbeats failed, epoch seconds.
        down: From when to when there was none.
    """
    lost = [at for at in failed_at if not any(begin - EDGE_S <= at <= end + EDGE_S for begin, end in down)]
    return [f"{len(lost)} heartbeats got no answer from a watchdog that was running"] if lost else []


def _begin(since: Mark, write: Write, before: Write | None, record: Record) -> Moment | None:
    """Give the last moment before a write from which its time counts; None if there was none."""
    if since is Mark.BEFORE:
        return None if before is None else Moment(before.at, since)
    return next((each for each in reversed(record.moments) if each.mark is since and each.at <= write.at), None)


def _timely(change: Change, write: Write, begin: Moment | None, pauses: Sequence[Pause]) -> tuple[float, list[str]]:
    """Give the time that a change took, and what is wrong with it."""
    if begin is None:
        return 0.0, [f"{change.what} before {change.since}"]
    real_s, time_s = write.at - begin.at, observed_s(begin, write.at, pauses)
    if real_s < change.least_s - EARLY_S:
        return time_s, [f"{change.what} {real_s:.1f} s after {change.since}, before {change.least_s:g} s were over"]
    if time_s > change.most_s:
        return time_s, [f"{change.what} {time_s:.1f} s after {change.since}, {LATER} {change.most_s:g} s"]
    return time_s, []


def _in_force(expects: Expectation, record: Record, done: Sequence[Write], times: list[float]) -> list[str]:
    """Say what is wrong with when the status came in force; adds that time, where it counts from somebody's deed."""
    if expects.in_force is None or record.status != expects.status:
        return []
    if expects.in_force is Mark.BEFORE:
        since = done[-1].at
    else:
        marked = [each.at for each in record.moments if each.mark is expects.in_force]
        if not marked:
            return [f"{expects.in_force} has not come"]
        since = marked[-1]
        times.append(record.status_since - since)
    late_s = record.status_since - since
    if -EARLY_S <= late_s <= IN_FORCE_S:
        return []
    return [f"{record.status} came in force {late_s:.1f} s after {expects.in_force}"]


def _at_the_end(expects: Expectation, record: Record) -> list[str]:
    faults = []
    if record.status != expects.status:
        faults.append(f"is {record.status} in Connect, should be {expects.status}")
    if record.state != expects.state:
        faults.append(f"is {record.state or 'unknown'} to the watchdog, should be {expects.state}")
    if record.tabs != expects.tabs:
        faults.append(f"has {record.tabs} sessions, should have {expects.tabs}")
    if record.stopped != expects.stopped:
        faults.append(f"{record.stopped} pages were told to stop, should be {expects.stopped}")
    history = tuple(each for each in record.history if each.split()[-1] not in PASSING)
    if history != expects.history:
        told, wanted = ", ".join(history) or "nothing", ", ".join(expects.history) or "nothing"
        faults.append(f"the watchdog's history should say {wanted}; it says {told}")
    return faults
