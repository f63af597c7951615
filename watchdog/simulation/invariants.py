"""What must hold, judged from the outside: at each write that leaves, at each call that Connect logs, and at the end.

- `early`: nobody is written to before heard silence of TTL and timer. Heard time is the simulator's own, see `account`.
- `present`: nobody is written to whose page was there, whatever became of daemon, store and Connect.
- `returned`: nobody is written to who came back in a blind gap and has had no time yet to be heard after it.
- `rate`: Connect's own log never has more calls than burst + rate × window, in any window.
- `ghost`: whoever is gone is set, within a bound that begins when the last fault is over.
- `twice`: at most one effective change for each disappearance.
- `restored`: no status is restored of whom nothing is heard.
- `overwrote`: no restore replaces what a person chose.
- `undone`: a write that crossed with a beat, or took effect after one, is undone.
- `given`: whoever was set and comes back by a new page gets a status, where the settings say so.
- `signed out`: no sessions in Connect are ended of who has a contact, was held or has chosen a status since the change.
- `history`: every effective change has its action, and so has every restore.
- `held`: nobody is written to, or let go, while the brake must hold by a count of the simulator's own, see `holding`.
- `fault`: no part of the daemon fails by a fault of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from watchdog.core.model import Action, IntentKind, Outcome
from watchdog.sandbox.records import Call
from watchdog.simulation.account import RACE_S, AgentAccount, Hearing
from watchdog.simulation.clocks import START
from watchdog.simulation.holding import Holding
from watchdog.simulation.journal import Journal
from watchdog.simulation.process import Timers

TOLERANCE_S = 0.6
"""Of heard time: a tick of 0.25 s, the latency of a commit, and the delay of an answer."""

WINDOW_S = 120.0
"""For so long before a write a present agent's pages must have been there."""

CALM_S = 150.0
"""So long after the last fault the daemon has no excuse left: grace 30 s, back-off 60 s, a circuit's probe 60 s."""

SLACK_S = 20.0
"""In calm times: ticks, reads, a write and what a lost answer costs."""

EACH_S = 2.0
"""More for each ghost that waits: the quota serves one in 0.6 s, with reads, and less after throttling."""

CARRIED_S = 5.0
"""Longest that a request is under way after its page has ended."""

PATIENCE_S = 20.0
"""Two intervals: nobody who is let through is silent for longer, but for loss."""

GRAIN_S = 2.5
"""Connect's dates have whole seconds: a deed so shortly before a write may be taken for one after it."""

LOGGED_S = 40.0
"""Longest from a call's arrival to its line in the log: the longest delay among the faults is 30 s."""

LOOKED_S = 5.0
"""Most from what a restore rests on to its effect: the look's age, whole seconds, the call."""

UNDO_S = 15.0
"""In calm times: from the crossing to the restore, the first read-back of 2 s included."""

UNDO_LATE_S = 75.0
"""The same where the answer was lost: there are looks until 45 s."""

UNDO_FOR_S = 600.0
"""After this a mistake may not be undone any more: RETURN_WINDOW, less what is lost meanwhile."""

ROUNDING = 1e-6

SIGN_OUT_AFTER_S = 10.0
"""Nobody is signed out sooner after the change."""

REWRITES = 3
"""So often a write that Connect accepted and that does not show is promised to be repeated."""

WRITES = ("writes", "left_intent")
"""Where evidence tells of writes: of this process, and of an earlier one."""

WRITTEN = frozenset({Outcome.CONFIRMED, Outcome.NEXT_STATUS, Outcome.RETURNED, Outcome.FAILED, Outcome.ALREADY})
"""Outcomes that an effective change may end in."""


class Someone(Protocol):
    """A person, as the rules see one."""

    account: AgentAccount
    gone_at: float | None

    @property
    def present(self) -> bool:
        """A page is open."""

    def shown(self) -> str:
        """The status in Connect, or the next one."""


@dataclass(slots=True)
class Disturbance:
    """The faults that are going on, and when the last one ended."""

    active: int = 0
    over_at: float = 0.0

    def begin(self) -> None:
        """A fault begins."""
        self.active += 1

    def end(self, now: float) -> None:
        """A fault is over."""
        self.active -= 1
        self.over_at = now


@dataclass(slots=True)
class Rate:
    """A leaky bucket of Connect's quota: full when more calls came than burst + rate × window in some window."""

    rate: float
    burst: float
    level: float = 0.0
    at: float = 0.0
    waiting: list[float] = field(default_factory=list)

    def add(self, at: float) -> None:
        """One call. Calls are logged when they take effect, so they may be added out of order."""
        heapq.heappush(self.waiting, at)

    def forgive(self, calls: float) -> None:
        """So many calls more than usual are no fault now."""
        self.level -= calls

    def most(self, before: float) -> float:
        """Counts the calls that came before. Returns by how much the quota was exceeded at worst; 0 when it was not."""
        worst = 0.0
        while self.waiting and self.waiting[0] < before:
            at = heapq.heappop(self.waiting)
            self.level = max(0.0, self.level - (at - self.at) * self.rate) + 1.0
            self.at = at
            worst = max(worst, self.level - self.burst)
        return worst if worst > ROUNDING else 0.0


@dataclass(slots=True)
class Invariants:
    """The rules over one world.

    Attributes:
        timers: The settings.
        people: By user id.
        hearing: Heard time.
        journal: Where violations go.
        disturbance: Told by whoever brings faults.
        rates: By operation.
    """

    timers: Timers
    people: Mapping[str, Someone]
    hearing: Hearing
    journal: Journal
    disturbance: Disturbance = field(default_factory=Disturbance)
    rates: dict[str, Rate] = field(default_factory=dict)
    holding: Holding = field(init=False)

    def __post_init__(self) -> None:
        self.holding = Holding(self.timers, self.people, self.hearing)

    def sent(self, user_id: str, now: float) -> None:
        """A PutUserStatus leaves the machine now."""
        account = self.people[user_id].account
        account.written_to = True
        account.sent_at, account.mistaken_at = now, None
        if now - account.clicked_at < GRAIN_S:
            account.overruled = True
        wrong = self.holding.sent(user_id, now)
        if wrong is not None:
            self.journal.violate("held", wrong, user_id)
        self._absent(user_id, now)

    def signing_out(self, user_id: str, now: float, *, on_contact: bool) -> None:
        """A DeleteAllEntitySessions leaves the machine now."""
        account = self.people[user_id].account
        self._absent(user_id, now)
        if now - account.set_at < SIGN_OUT_AFTER_S:
            self.journal.violate("signed out", f"{now - account.set_at:.1f} s after the change", user_id)
        heard_since = max(account.last_at(), account.spared_at) >= account.released_at - RACE_S
        if not heard_since and account.perhaps() < account.released_heard:
            self.journal.violate("signed out", "after a hold", user_id)
        if self.people[user_id].shown() != "Offline" and account.chosen_at < now - LOOKED_S:
            self.journal.violate("signed out", "has chosen a status since", user_id)
        if on_contact and account.contact_at < now - LOOKED_S:
            self.journal.violate("signed out", "has a contact", user_id)

    def _absent(self, user_id: str, now: float) -> None:
        account, heard = self.people[user_id].account, self.hearing.at(now)
        deadline = account.deadline_heard(now - RACE_S, self.timers.session_end_timer)
        if heard < deadline - TOLERANCE_S:
            self.journal.violate("early", f"written to {deadline - heard:.3f} s of heard time too early", user_id)
        if account.there(now - RACE_S) and self.hearing.hasty(now, self.timers.heartbeat_interval):
            self.journal.violate(
                "returned", "is back, was given no time to be heard after a gap, and written to", user_id
            )
        missing = account.uncovered(now - WINDOW_S, now - RACE_S)
        # In a crash loop that has used up its grace, a reload that falls into a gap may be taken for the end.
        excused = 0.0 if self.hearing.many_gaps(now) else self.timers.session_end_timer - TOLERANCE_S
        # Held for as long as the brake may, after its alarm, and then an outage in front: as good as gone.
        given_up = account.let_go and now - account.let_through_at() > PATIENCE_S
        if missing <= excused and not given_up:
            self.journal.violate(
                "present", f"in the last {WINDOW_S:.0f} s not there for {missing:.1f} s only, and written to", user_id
            )

    def loaded(self, user_id: str, now: float) -> None:
        """The daemon has heard a new page."""
        someone = self.people[user_id]
        account = someone.account
        ours = account.chosen_at < account.set_at <= account.confirmed_at and account.clicked_at < account.set_at
        if self.timers.initial is not None and ours and someone.shown() == "Offline":
            account.owed_at = now

    def restoring(self, user_id: str, now: float) -> None:
        """A PutUserStatus of a former status leaves the machine now."""
        account = self.people[user_id].account
        heard, ends = self.hearing.at(now), account.lease_heard(now)
        # Time in which the clock stands for grace ends no lease.
        stood = self.hearing.stood(
            account.last_at(),
            now,
            grace=self.timers.resume_grace,
            interval=self.timers.heartbeat_interval,
            tick=self.timers.sweep,
        )
        if heard > ends + stood + TOLERANCE_S:
            self.journal.violate("restored", f"not heard for {heard - ends:.3f} s of heard time, and restored", user_id)

    def logged(self, calls: Sequence[Call], status_name: Mapping[str, str]) -> None:
        """Connect's log has grown. Calls are given in the order of their effect, with Connect's own times."""
        for call in calls:
            if call.operation in self.rates:
                self.rates[call.operation].add(call.received_at - START)
        for call in calls:
            if call.operation != "PutUserStatus" or call.user_id is None:
                continue
            target = status_name.get(call.params["AgentStatusId"], "?")
            self.journal.add(f"Connect: {target}, {call.outcome}{', effective' * call.effective}", call.user_id)
            account, at = self.people[call.user_id].account, call.at - START
            account.lied += call.outcome == "no_effect"
            if call.effective and target != "Offline":
                account.restored()
                # What a person chooses while a call is under way cannot be known to who sent it.
                if account.set_at < account.chosen_at < call.received_at - START - LOOKED_S:
                    self.journal.violate("overwrote", "restored over what a person chose", call.user_id)
            elif call.effective:
                account.set_at = at
                account.changed(call.received_at - START, at)
                if account.changes > 1:
                    self.journal.violate("twice", f"{account.changes} effective changes", call.user_id)

    def look(self, now: float) -> int:
        """Looks for ghosts that have waited for too long, and at the rate. Returns how many ghosts there are."""
        self.count(now - LOGGED_S)
        self.holding.look(now)
        ghosts = [
            (user_id, each)
            for user_id, each in self.people.items()
            if each.account.known and not each.present and not each.account.overruled and each.shown() != "Offline"
        ]
        if self.disturbance.active:
            return len(ghosts)
        for user_id, each in self.people.items():
            if each.account.mistaken_at is not None:
                self._look_at_mistake(user_id, each, now)
            if each.account.owed_at is not None:
                self._look_at_return(user_id, each, now)
        for user_id, each in ghosts:
            bound = self.bound(each, len(ghosts))
            if now > bound:
                self.journal.violate("ghost", f"should have been set {now - bound:.1f} s ago", user_id)
        return len(ghosts)

    def _look_at_mistake(self, user_id: str, each: Someone, now: float) -> None:
        account, heard = each.account, self.hearing.at(now)
        mistaken_at = account.mistaken_at or now
        chosen = max(account.chosen_at, account.clicked_at) > mistaken_at
        silent = heard > account.deadline_heard(now, 0.0)
        if chosen or silent or not each.present or now > mistaken_at + UNDO_FOR_S:
            account.mistaken_at = None
        elif each.shown() == "Offline" and account.set_at > account.sent_at:
            late = account.set_at - account.sent_at > 1.0
            begin = max(mistaken_at, account.set_at, self.disturbance.over_at + CALM_S)
            if now > begin + (UNDO_LATE_S if late else UNDO_S):
                self.journal.violate("undone", f"set while a beat came, {now - begin:.0f} s ago", user_id)

    def _look_at_return(self, user_id: str, each: Someone, now: float) -> None:
        account = each.account
        owed_at = account.owed_at or now
        chosen = max(account.chosen_at, account.clicked_at) > owed_at
        silent = self.hearing.at(now) > account.deadline_heard(now, 0.0)
        if chosen or silent or not each.present or each.shown() != "Offline" or owed_at > account.set_at + UNDO_FOR_S:
            account.owed_at = None
        # A change that may have been a mistake is looked at first; the return comes with the next beat.
        elif now > max(owed_at, self.disturbance.over_at + CALM_S) + UNDO_S + PATIENCE_S:
            self.journal.violate("given", f"is back since {now - owed_at:.0f} s, and still Offline", user_id)

    def count(self, before: float) -> None:
        """Checks the rate of the calls that came before."""
        for operation, rate in self.rates.items():
            over = rate.most(before)
            if over:
                self.journal.violate("rate", f"{operation}: {over:.1f} calls more than the quota allows")

    def bound(self, someone: Someone, ghosts: int) -> float:
        """The real time until which a ghost must be set, if no fault comes any more."""
        gone_at = someone.gone_at or 0.0
        leases = [each.end_real(gone_at, CARRIED_S) for each in someone.account.sessions.values()]
        ends = [end for end, _ in filter(None, leases)]
        waits = self.timers.session_end_timer + SLACK_S + EACH_S * ghosts
        waits += self.holding.longest_s(someone.account)
        # Whoever did something in Connect meanwhile is spared for as long as after a heartbeat.
        clicked = someone.account.clicked_at + self.timers.session_ttl
        calmly = max([gone_at, clicked, *ends]) + waits
        calm_at = self.disturbance.over_at + CALM_S
        if calm_at <= min([gone_at, *ends]):
            return calmly
        # After a fault a lease may begin anew, also that of a session whose bye was not heard.
        return max(calmly, calm_at + max((ttl for _, ttl in filter(None, leases)), default=0.0) + waits)

    def recorded(self, actions: Sequence[Action]) -> None:
        """The whole history, at the end."""
        self.count(float("inf"))
        found: dict[str, int] = {}
        restores: dict[str, int] = {}
        for action in actions:
            if action.intent is IntentKind.SIGN_OUT:
                continue
            if action.intent is IntentKind.RESTORE:
                restores[action.agent.user_id] = restores.get(action.agent.user_id, 0) + 1
                continue
            # Whoever overrules a write whose answer was lost is spared, and the write is in that action's evidence.
            spared = action.outcome is Outcome.WITNESSED and not action.evidence.keys().isdisjoint(WRITES)
            if spared or action.outcome in WRITTEN:
                found[action.agent.user_id] = found.get(action.agent.user_id, 0) + 1
            lied = self.people[action.agent.user_id].account.lied
            dismissed = action.intent is IntentKind.DISMISS
            if action.outcome is Outcome.FAILED and lied < REWRITES + 1 and not dismissed:
                self.journal.violate("ghost", f"given up: {action.reason}", action.agent.user_id)
        for user_id, each in self.people.items():
            wanted = each.account.actions
            if found.get(user_id, 0) < wanted:
                self.journal.violate("history", f"{found.get(user_id, 0)} actions, there should be {wanted}", user_id)
            if restores.get(user_id, 0) < each.account.restores:
                self.journal.violate("history", f"{each.account.restores} restores, and fewer actions", user_id)
