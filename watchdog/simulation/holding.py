"""When the brake must hold, by the simulator's own count of what was accepted and when; nothing is asked of the store.

The count is kept on the safe side: of the silent only those count about whom there is no doubt, and the number of those
who were there is rather too high. What it finds must be held all the same; what it does not find proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from watchdog.simulation.account import QUIET_SHARE, AgentAccount, Hearing, Silence
from watchdog.simulation.process import Timers

WINDOW_S, LONG_WINDOW_S = 60.0, 600.0
UNPROVEN = 4
"""What is promised of the brake: silence of 60 % of a TTL is quiet, counted over a minute and over ten; without proof a
hold may last four times BRAKE_MAX_HOLD."""

STALE_PROOF_S = 150.0
"""So long after the last beat nothing proves the path any more: 90 s of credit, and 60 s for which a proof is new."""


class Somebody(Protocol):
    """A person, as the count sees one."""

    account: AgentAccount


@dataclass(slots=True)
class Order:
    """An operator's order, as the outside knows it.

    Attributes:
        hold: It holds; False: it releases, or nobody knows whether it was taken.
        at: Real time at which it was in force.
        heard: The same in heard time.
        for_s: Running seconds; at least as many real ones, at most as many heard ones.
    """

    hold: bool
    at: float
    heard: float
    for_s: float


@dataclass(slots=True)
class Holding:
    """The count over one world.

    Attributes:
        timers: The settings.
        people: By user id.
        hearing: Heard time.
        order: The operator's last order.
        heard_at: Heard time of the last beat that was accepted of anybody.
    """

    timers: Timers
    people: Mapping[str, Somebody]
    hearing: Hearing
    order: Order | None = None
    heard_at: float = 0.0
    _margin_s: float = field(init=False)
    _possible_at: float = -math.inf

    def __post_init__(self) -> None:
        self._margin_s = 2 * self.timers.sweep + self.timers.flush + 1.0

    def look(self, now: float) -> None:
        """Notes of each agent whether it must be held now, and whether it may be."""
        brake = self.timers.brake
        if brake is None and self.order is None:
            return
        heard = self.hearing.at(now)
        silent = list(self._silent(heard))
        self._note_possible(silent, heard)
        if brake is None or self._released(now, heard):
            return
        sure_since = self.hearing.steady_since + self.timers.resume_grace + 1.0
        counted = [account for account, each in silent if self._counts(account, each, heard, sure_since)]
        if len(counted) < brake.min_agents:
            return
        there = sum(self._there(each.account, now, heard) for each in self.people.values())
        if len(counted) >= max(brake.min_agents, math.ceil(brake.fraction * there)):
            for account in counted:
                account.must_hold = heard

    def sent(self, user_id: str, now: float) -> str | None:
        """What is wrong with a write to the agent now, if anything is."""
        account, heard = self.people[user_id].account, self.hearing.at(now)
        silence = account.silence()
        if silence is None:
            return None
        order = self.order
        if order is not None and order.hold and order.at + self._margin_s < now < order.at + order.for_s:
            return "written to while an operator holds"
        self.look(now)
        if account.must_hold is None or self._let_go_in_time(silence, now):
            return None
        ago = heard - account.must_hold
        if ago >= silence.ttl + self.timers.session_end_timer - self._margin_s:
            return None
        return f"written to {ago:.1f} s after so many were silent that it must be held"

    def let_go(self, user_id: str, now: float) -> str | None:
        """The daemon says that it holds the agent no longer. What is wrong with that, if anything is."""
        account = self.people[user_id].account
        silence = account.silence()
        self.look(now)
        held = account.must_hold is not None and account.must_hold == self.hearing.at(now)
        account.let_go = True
        if held and silence is not None and not self._let_go_in_time(silence, now):
            return "let go while so many are silent that it must be held"
        return None

    def ordered(self, now: float, *, hold: bool, for_s: float) -> None:
        """An operator's order is in force, or may be."""
        self.order = Order(hold, now, self.hearing.at(now), for_s)
        if not hold:
            for each in self.people.values():
                each.account.must_hold = None

    def longest_s(self, account: AgentAccount) -> float:
        """For how long the agent may be held, with the lease that it then may be given."""
        silence = account.silence()
        held_s = UNPROVEN * self.timers.brake.max_hold_s if self.timers.brake is not None else 0.0
        if silence is None and self.hearing.taken_over:
            # Whoever took over gave a silent session of an agent who has said bye a whole lease again.
            return held_s + self.timers.throttled_session_ttl
        if not account.may_hold or silence is None:
            return 0.0
        return held_s + silence.ttl + self.timers.session_end_timer + 10 * self.timers.sweep

    def _silent(self, heard: float) -> Iterator[tuple[AgentAccount, Silence]]:
        for each in self.people.values():
            silence = each.account.silence()
            if silence is not None and silence.heard + QUIET_SHARE * silence.ttl < heard + self._margin_s:
                yield each.account, silence

    def _note_possible(self, silent: list[tuple[AgentAccount, Silence]], heard: float) -> None:
        brake = self.timers.brake
        lately = [account for account, each in silent if each.heard + each.ttl > heard - LONG_WINDOW_S - self._margin_s]
        nobody = self.heard_at < heard - QUIET_SHARE * self.timers.session_ttl + self._margin_s
        if brake is not None and (len(lately) >= brake.min_agents or nobody):
            self._possible_at = heard
        # A hold that has begun goes on, and takes in whoever falls silent later.
        goes_on = brake is not None and heard - self._possible_at <= UNPROVEN * brake.max_hold_s
        if self.order is not None or goes_on:
            for account in lately:
                account.may_hold = True

    def _released(self, now: float, heard: float) -> bool:
        """Whether an operator's order may keep the brake from holding."""
        order = self.order
        if order is None:
            return False
        # After any order the brake begins anew; what it still knows of before is not the outside's to tell.
        return heard < order.heard + order.for_s + self._margin_s or now < order.at + order.for_s

    def _counts(self, account: AgentAccount, each: Silence, heard: float, sure_since: float) -> bool:
        return (
            not account.let_go
            and account.changes == 0
            and each.at >= sure_since
            and each.heard + QUIET_SHARE * each.ttl < heard - self._margin_s
            and each.heard + each.ttl >= heard - WINDOW_S + self._margin_s
        )

    def _there(self, account: AgentAccount, now: float, heard: float) -> bool:
        """Whether the agent may have had a lease within the window."""
        least = heard - WINDOW_S - self._margin_s
        if now - account.spared_at < self.timers.session_ttl + WINDOW_S + self._margin_s:
            return True
        for session in account.sessions.values():
            for taken in session.taken:
                if not taken.bye and taken.heard + taken.ttl >= least:
                    return True
            last = session.taken[-1] if session.taken else None
            if last is not None and not last.bye and last.at < self.hearing.steady_since:
                # A restart gives it up to a whole lease again.
                grace_s = self.timers.resume_grace + self._margin_s
                if now - self.hearing.steady_since < last.ttl + WINDOW_S + grace_s:
                    return True
        return False

    def _let_go_in_time(self, silence: Silence, now: float) -> bool:
        """Whether the agent may have been held for as long as it may be."""
        brake = self.timers.brake
        if brake is None:
            return True
        limit_s = brake.max_hold_s
        if silence.heard + QUIET_SHARE * silence.ttl + limit_s > self.heard_at + STALE_PROOF_S + self._margin_s:
            limit_s *= UNPROVEN
        return now - silence.at >= QUIET_SHARE * silence.ttl + limit_s - self._margin_s
