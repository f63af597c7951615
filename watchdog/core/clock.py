"""The observed clock: time in which a heartbeat could have been heard.

All deadlines are in observed time. A tick adds the real time since the one before it, at most `MAX_STEP_S`; what is
longer is a blind gap, and so is any time that the caller declares blind. After a gap the clock stands still for a
grace, so that clients which back off can return before anyone is judged. A restart, a suspended machine, a paused
process and a jump of the wall clock need no code of their own: none of them makes this clock advance.

Only values live here; the instants come from the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from watchdog.core.model import Boot, Epoch, Instant, Observed, Running

MAX_STEP_S = 2.0
"""Most that one tick advances: eight times the 250 ms between ticks. Whoever is later than that was not listening."""

GRACE_WINDOW_S = 600.0
"""Window, in running time, in which grace may take at most `GRACE_SHARE`: a crash loop delays and never disables."""

GRACE_SHARE = 0.5

STOOD_FOR_S = 3600.0
"""For how long, in observed time, it remembers where it stood still: longer than any lease and timer."""

STOOD_MOST = 32
"""The most such places; a process that is starved for long has a new one every few seconds."""

_ROUNDING_S = 1e-6


class Cause(StrEnum):
    """Why the clock stands still."""

    RESTART = "restart"
    """No process was there, or clients are given time to return after that."""
    PAUSE = "pause"
    """The process was stopped, starved or suspended: a tick came more than `MAX_STEP_S` after the last."""
    STORE = "store"
    """Heartbeats could not be stored."""
    CANARY = "canary"
    """The way from outside to us is broken: our own calls do not come back."""
    CONNECTIONS = "connections"
    """Connections were turned away: there were as many as there may be."""
    REPLICA = "replica"
    """Another daemon of the deployment is not heard of: what it has accepted may not have been stored."""
    GRACE = "grace"
    """Another blind gap is over; clients are given time to return."""


@dataclass(frozen=True, slots=True)
class ClockRules:
    """How the clock resumes.

    Attributes:
        resume_grace_s: Most that it stands still after one gap (RESUME_GRACE).
        heartbeat_interval_s: Least that it stands still, so that each client has a beat (HEARTBEAT_INTERVAL).
    """

    resume_grace_s: float
    heartbeat_interval_s: float


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock's whole state. It is kept in the store and survives the process.

    Attributes:
        observed: Deadlines are compared with this.
        running: The second accumulator, for leases of claims: capped in the same way, never standing still for grace.
        boot: The last tick's CLOCK_BOOTTIME; None before the first.
        boot_id: The boot that `boot` belongs to.
        gap_s: Length of the blind gap that is going on; 0 when there is none.
        grace_s: Seconds for which it is still to stand.
        graces: Spans of running time spent on grace, oldest first; those outside the window are forgotten.
        standing: Why it did not advance in the last tick; None when it did.
        epoch: The last tick's wall clock, to tell how long no process was there; None in a file that has none.
        stood: Where it stood still lately, oldest first: at what observed time, and for how many real seconds.
        left_out_s: Real seconds that `running` has left out in all, as `uncounted_s` tells them.
    """

    observed: Observed = Observed(0.0)
    running: Running = Running(0.0)
    boot: Boot | None = None
    boot_id: str = ""
    gap_s: float = 0.0
    grace_s: float = 0.0
    graces: tuple[tuple[float, float], ...] = ()
    standing: Cause | None = None
    epoch: Epoch | None = None
    stood: tuple[tuple[float, float], ...] = ()
    left_out_s: float = 0.0

    def passed(self, real_s: float) -> float:
        """How far it has come in the last `real_s` seconds; of what it does not remember, as if it had never stood."""
        at = self.observed
        for place, stood_s in reversed(self.stood):
            if real_s <= at - place:
                break
            real_s -= at - place
            at = Observed(place)
            real_s = max(0.0, real_s - stood_s)
        return self.observed - at + real_s


def first(instant: Instant) -> Clock:
    """The clock of an empty store: nothing has been missed, so there is no grace."""
    return Clock(boot=instant.boot, boot_id=instant.boot_id, epoch=instant.epoch)


def missed(saved: Clock, instant: Instant) -> float:
    """Seconds for which no process was there. Across boots the wall clock tells them; set back, it tells none."""
    if saved.boot is not None and saved.boot_id == instant.boot_id and instant.boot >= saved.boot:
        return instant.boot - saved.boot
    return 0.0 if saved.epoch is None else max(0.0, instant.epoch - saved.epoch)


def uncounted_s(before: Clock, after: Clock) -> float:
    """Real seconds between two states of the clock that running time leaves out: pauses, and time without a process."""
    if after.boot is None or after.epoch is None:
        return 0.0
    passed_s = missed(before, Instant(after.boot, after.epoch, after.boot_id))
    uncounted = passed_s - (after.running - before.running)
    return uncounted if uncounted > _ROUNDING_S else 0.0


def _counted(before: Clock, after: Clock) -> Clock:
    left_out_s = uncounted_s(before, after)
    return replace(after, left_out_s=before.left_out_s + left_out_s) if left_out_s else after


def resume(saved: Clock, instant: Instant, rules: ClockRules) -> Clock:
    """The clock of a process that finds an older one in its store.

    Nothing of the time in between is counted. On the same boot its length is known; on another one, or with a clock
    from the future, it is taken as long.
    """
    same_boot = saved.boot is not None and saved.boot_id == instant.boot_id and instant.boot >= saved.boot
    gap = instant.boot - saved.boot if same_boot and saved.boot is not None else rules.resume_grace_s
    gap += saved.gap_s
    now = replace(
        _stood(saved, missed(saved, instant)),
        boot=instant.boot,
        boot_id=instant.boot_id,
        gap_s=0.0,
        grace_s=max(saved.grace_s, _grace(gap, rules)),
        standing=Cause.RESTART,
        epoch=instant.epoch,
    )
    return _counted(saved, now)


def advance(clock: Clock, instant: Instant, rules: ClockRules, blind: Cause | None = None) -> Clock:
    """One tick.

    Args:
        clock: The state after the last tick, from `first`, `resume` or `advance`.
        instant: Now. An instant of another boot, or one before the last, is a gap of unknown length.
        rules: How to resume.
        blind: Why no heartbeat could be heard since the last tick, or None.

    Returns:
        The state now. `observed` has grown by at most `MAX_STEP_S` and at most the real time, never shrunk.
    """
    if clock.boot is None:
        return first(instant)
    elapsed = instant.boot - clock.boot
    if clock.boot_id != instant.boot_id or elapsed < 0:
        return resume(clock, instant, rules)
    now = _advance(clock, instant, rules, elapsed, blind)
    return _counted(clock, _stood(now, elapsed - (now.observed - clock.observed)))


def _advance(clock: Clock, instant: Instant, rules: ClockRules, elapsed: float, blind: Cause | None) -> Clock:
    step = min(elapsed, MAX_STEP_S)
    running = Running(clock.running + step)
    now = replace(clock, running=running, boot=instant.boot, epoch=instant.epoch)
    if blind is not None:
        if blind is Cause.REPLICA:
            # Others hear meanwhile: it is the grace of those who have to come back to them.
            now = replace(now, graces=_joined(_recent(now), (clock.running, running)))
        return replace(now, gap_s=clock.gap_s + elapsed, standing=blind)
    if clock.gap_s > 0:
        # The gap ends with this tick: the beats of the time since the last one could be heard again, but whoever
        # failed to reach us before may still be waiting for a retry.
        return replace(
            now, gap_s=0.0, grace_s=max(clock.grace_s, _grace(clock.gap_s + elapsed, rules)), standing=Cause.GRACE
        )
    if elapsed > MAX_STEP_S:
        # The first seconds of the gap count as heard: what arrived in them waits in the socket's buffer and is read
        # during the grace. Without them a machine that is always late would never catch a ghost.
        stood = _stand(now, clock.running, step)
        return replace(stood, grace_s=max(stood.grace_s, _grace(elapsed, rules)), standing=Cause.PAUSE)
    return _stand(now, clock.running, step)


def gives_grace(clock: Clock) -> bool:
    """Whether clients cannot be heard at present, or are given time to return.

    Whoever became due before the gap may have come back in it and waits for a retry: nobody is acted on meanwhile.
    """
    if clock.gap_s > 0:
        return True
    return clock.grace_s > 0 and grace_left_s(clock) > 0


def grace_left_s(clock: Clock) -> float:
    """For how long the clock may stand for grace at most, if it did so from now on."""
    return max(0.0, GRACE_WINDOW_S * GRACE_SHARE - _spent(clock.graces, clock.running))


def _spent(graces: tuple[tuple[float, float], ...], running: float) -> float:
    """Grace of the last `GRACE_WINDOW_S`."""
    since = running - GRACE_WINDOW_S
    return sum(end - max(begin, since) for begin, end in graces if end > since)


def _grace(gap_s: float, rules: ClockRules) -> float:
    return min(rules.resume_grace_s, max(rules.heartbeat_interval_s, gap_s))


def _stand(now: Clock, since: Running, step: float) -> Clock:
    """Spends the step on what is left of the grace first, as far as the window allows, and the rest on the clock."""
    graces = _recent(now)
    stand = min(step, now.grace_s, grace_left_s(now))
    if stand > 0:
        graces = _joined(graces, (since, since + stand))
    grace_s = max(0.0, now.grace_s - step)
    why = Cause.RESTART if now.standing is Cause.RESTART else Cause.GRACE
    return replace(
        now,
        observed=Observed(now.observed + step - stand),
        grace_s=grace_s,
        graces=graces,
        standing=why if stand > 0 else None,
    )


def _recent(clock: Clock) -> tuple[tuple[float, float], ...]:
    return tuple(span for span in clock.graces if span[1] > clock.running - GRACE_WINDOW_S)


def _stood(clock: Clock, seconds: float) -> Clock:
    """The clock after it stood still where it is."""
    if seconds <= _ROUNDING_S:
        return clock
    kept = [each for each in clock.stood if each[0] > clock.observed - STOOD_FOR_S]
    if kept and clock.observed - kept[-1][0] < _ROUNDING_S:
        place, before_s = kept.pop()
        return replace(clock, stood=(*kept, (place, before_s + seconds)))
    return replace(clock, stood=(*kept[1 - STOOD_MOST :], (clock.observed, seconds)))


def _joined(graces: tuple[tuple[float, float], ...], span: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    if graces and span[0] - graces[-1][1] < _ROUNDING_S:
        return (*graces[:-1], (graces[-1][0], span[1]))
    return (*graces, span)
