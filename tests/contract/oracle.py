"""The store as plainly as it can be said: dicts, and every question answered by looking at all facts.

The contract suite and the state machine hold the real stores against it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.contract.plain_brakes import Brakes
from watchdog.core import clock as clocks
from watchdog.core import deadline as rules_of
from watchdog.core import evidence, notices, quota, undo
from watchdog.core.brake import HOLDS, SPARE_S, Order, State
from watchdog.core.clock import Cause, Clock
from watchdog.core.holds import BrakeView, Held
from watchdog.core.holds import evidence as why_held
from watchdog.core.model import (
    SET_BY_US,
    Action,
    AgentId,
    AgentState,
    AgentView,
    Beat,
    BeatType,
    Cancel,
    Claim,
    Due,
    Epoch,
    FollowUp,
    Instant,
    Intent,
    Mark,
    Next,
    Observed,
    Outcome,
    Reply,
    Running,
    SessionView,
    Standing,
    Tear,
    Verdict,
)
from watchdog.core.undo import Back, Change, Left, Now, Ordered, Written
from watchdog.stores.base import ActionPage, AgentPage, Counts, Recorded, StoreRules, Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NEVER = float("-inf")


@dataclass
class Facts:
    """What survives the process."""

    clock: Clock | None = None
    sessions: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    agents: dict[AgentId, dict[str, Any]] = field(default_factory=dict)
    of: dict[AgentId, list[dict[str, Any]]] = field(default_factory=dict)
    claims: dict[AgentId, Claim] = field(default_factory=dict)
    intents: dict[AgentId, Claim] = field(default_factory=dict)
    brakes: Brakes = field(default_factory=Brakes)
    actions: list[Action] = field(default_factory=list)
    pruned: int = 0
    delivered: dict[str, int] = field(default_factory=dict)
    token: int = 0
    changes: dict[AgentId, Change] = field(default_factory=dict)
    trips: list[tuple[str, float, float]] = field(default_factory=list)


class DictStore:
    """See `watchdog.stores.base.Store`."""

    def __init__(self, rules: StoreRules, facts: Facts | None = None) -> None:
        self.rules = rules
        self.facts = facts or Facts()
        self.buckets: dict[tuple[str, str], quota.Bucket] = {}

    @property
    def clock(self) -> Clock:
        assert self.facts.clock is not None, "open the store first"
        return self.facts.clock

    async def open(self, instant: Instant) -> None:
        saved = self.facts.clock
        self.facts.clock = clocks.first(instant) if saved is None else clocks.resume(saved, instant, self.rules.clock)
        if saved is not None:
            self._count(clocks.uncounted_s(saved, self.facts.clock))
        self.facts.claims.clear()
        self.facts.trips.clear()
        for row in self.facts.agents.values():
            row["timer_s"] = None
        for session in self.facts.sessions.values():
            session["tether"] = None

    async def close(self) -> None:
        pass

    # The facts of one agent.

    def ends_at(self, agent: AgentId) -> float:
        ends = [row["expires_at"] for row in self.facts.of.get(agent, ())]
        return max([*ends, self.facts.agents.get(agent, {}).get("floor", NEVER)])

    def heard(self, agent: AgentId) -> float:
        """When the last heartbeat of the agent came, or its lease ended before a bye."""
        mine = self.facts.of.get(agent, ())
        return max((row["expires_at"] - (0 if row["closed"] else row["ttl"]) for row in mine), default=NEVER)

    def owes_beats(self, agent: AgentId) -> bool:
        """Whether the last of its sessions to end is one that said no bye; a lease of activity is no session."""
        mine = self.facts.of.get(agent, ())
        still = [session["expires_at"] for session in mine if not session["closed"]]
        byes = [session["expires_at"] for session in mine if session["closed"]]
        return bool(still) and max(byes, default=NEVER) <= max(still)

    def quiet(self, agent: AgentId) -> bool:
        """Whether all its open sessions are overdue, and the last to end said no bye."""
        row = self.facts.agents[agent]
        if row["proven"] or not self.owes_beats(agent):
            return False
        still = [session for session in self.facts.of[agent] if not session["closed"]]
        at = max(rules_of.quiet_at(session["expires_at"], session["ttl"]) for session in still)
        return row["mark"] is not Mark.FREE or self.clock.observed > at

    def timer_s(self, agent: AgentId) -> float:
        return float(self.facts.agents[agent].get("timer_s") or self.rules.timer_s)

    def deadline(self, agent: AgentId) -> float:
        follow = self.follow_up(agent)
        if follow is None:
            return self.ends_at(agent) + self.timer_s(agent)
        filed = self.facts.agents[agent].get("timer_s")
        return follow.at if filed is None else max(follow.at, self.ends_at(agent) + filed)

    def follow_up(self, agent: AgentId) -> FollowUp | None:
        """What is still to be done, now that the agent is settled."""
        follow: FollowUp | None = self.facts.agents[agent].get("follow_up")
        return follow if self.settled(agent) else None

    def next_epoch(self, agent: AgentId) -> None:
        """The agent is back, or counts as if."""
        row = self.facts.agents[agent]
        row.update(epoch=row["epoch"] + 1, timer_s=None, follow_up=None)

    def logged_out_since(self, claim: Claim) -> bool:
        return self.settled(claim.agent) and self.facts.agents[claim.agent]["epoch"] > claim.epoch

    def released(self, agent: AgentId) -> bool:
        """Whether the brake took the agent's silence for a fault, before it was set or shortly after."""
        row, change, follow = self.facts.agents[agent], self.facts.changes.get(agent), self.follow_up(agent)
        tripped = change is not None and change.tripped and change.epoch == row["epoch"]
        return row["mark"] is Mark.RELEASED or tripped or (follow is not None and follow.released)

    def settled(self, agent: AgentId) -> bool:
        row = self.facts.agents[agent]
        return row["settled_epoch"] == row["epoch"]

    def state(self, agent: AgentId) -> AgentState:
        now, mark = self.clock.observed, self.facts.agents[agent]["mark"]
        if mark is Mark.HELD and not self.settled(agent):
            return AgentState.HELD
        if now <= self.ends_at(agent) and mark is not Mark.RELEASED:
            return AgentState.LIVE
        if self.settled(agent):
            if self.follow_up(agent) is not None and now > self.deadline(agent):
                return AgentState.DUE
            return AgentState.AWAY if self.facts.agents[agent]["last_outcome"] in SET_BY_US else AgentState.GONE
        return AgentState.DUE if now > self.deadline(agent) else AgentState.GRACE

    # Heartbeats.

    def plainly_live(self, beat: Beat) -> float | None:
        row = self.facts.sessions.get(beat.session_id)
        if row is None or row["closed"] or row["agent"] != beat.agent or row["incarnation"] != beat.incarnation:
            return None
        if beat.type is not BeatType.BEAT or beat.ttl is None:
            return None
        if beat.seq is not None and row["seq"] is not None and beat.seq <= row["seq"]:
            return None
        if self.facts.agents[beat.agent].get("told_until", NEVER) > self.clock.running:
            return None
        return beat.ttl if row["expires_at"] - self.clock.observed > clocks.MAX_STEP_S else None

    def whose(self, session_id: bytes) -> AgentId | None:
        row = self.facts.sessions.get(session_id)
        return None if row is None else row["agent"]

    def newcomer(self, agent: AgentId) -> int | None:
        return None if agent in self.facts.agents else len(self.facts.agents)

    async def apply(self, beats: Sequence[Beat], instant: Instant) -> list[Reply]:
        ahead = clocks.advance(self.clock, instant, self.rules.clock)
        now = Now(ahead.observed, ahead.running, instant.epoch, clocks.uncounted_s(self.clock, ahead))
        return [self._apply(beat, now) for beat in beats]

    def _apply(self, beat: Beat, moment: Now) -> Reply:
        now, seen = moment.clock, moment.epoch
        row = self.facts.sessions.get(beat.session_id)
        verdict = self._verdict(beat, row)
        if verdict in (Verdict.OPENED, Verdict.RENEWED):
            assert beat.ttl is not None
            agent = self.facts.agents.setdefault(
                beat.agent,
                {
                    "epoch": 0,
                    "settled_epoch": -1,
                    "last_outcome": None,
                    "not_before": 0.0,
                    "seen": seen,
                    "floor": NEVER,
                },
            )
            if now > self.ends_at(beat.agent) or agent.get("mark") is Mark.RELEASED or self.settled(beat.agent):
                self.next_epoch(beat.agent)
            agent["seen"] = seen
            self._heard(agent, now)
            self.facts.brakes.beats[beat.agent.instance_id] += 1
            known = row["seq"] if row is not None and verdict is Verdict.RENEWED else None
            if agent.get("told_until") == notices.ON_RETURN:
                agent["told_until"] = moment.running + notices.NOTICE_S
            new = row is None and beat.type is BeatType.HELLO and beat.incarnation == 0
            loaded = new if row is None or verdict is Verdict.OPENED else row["loaded"]
            if row is None:
                row = self.facts.sessions[beat.session_id] = {}
                self.facts.of.setdefault(beat.agent, []).append(row)
            row |= {
                "agent": beat.agent,
                "incarnation": beat.incarnation,
                "seq": known if beat.seq is None else beat.seq,
                "expires_at": now + beat.ttl,
                "ttl": beat.ttl,
                "closed": False,
                "stopped": False,
                "hidden": beat.hidden,
                "main_driver": beat.main_driver,
                "loaded": loaded,
                "tether": beat.tether,
            }
            change = self.facts.changes.get(beat.agent)
            if change is not None:
                row["loaded"] = loaded = loaded and beat.session_id not in {left.session_id for left in change.sessions}
                self.facts.changes[beat.agent] = undo.heard(
                    change, beat, moment, self.rules.return_window_s, loaded=loaded and self.rules.greets
                )
        elif verdict is Verdict.CLOSED and row is not None:
            row.update(closed=True, incarnation=beat.incarnation, expires_at=min(row["expires_at"], now))
            known = self.facts.agents[beat.agent]
            known["seen"] = seen
            if known["mark"] is not Mark.RELEASED:
                known["floor"] = min(known["floor"], now)
            if not self.quiet(beat.agent):
                self._heard(known, now)
        if row is None or verdict is Verdict.FOREIGN:
            return Reply(verdict, live=False, left_s=0.0)
        told = self.facts.agents[beat.agent]
        notice = told["notice"] if moment.running < told.get("told_until", NEVER) else None
        if row["closed"]:
            return Reply(verdict, live=False, left_s=0.0, notice=notice)
        return Reply(verdict, live=now <= row["expires_at"], left_s=max(0.0, row["expires_at"] - now), notice=notice)

    def _heard(self, agent: dict[str, Any], now: Observed) -> None:
        if agent.get("mark", Mark.FREE) is not Mark.FREE:
            agent["floor"] = min(agent["floor"], now)
        agent.setdefault("floor", NEVER)
        agent.update(mark=Mark.FREE, held_at=0.0, held_s=0.0, told=False, proven=False)

    def _verdict(self, beat: Beat, row: dict[str, Any] | None) -> Verdict:
        bye = beat.type is BeatType.BYE
        if row is not None and row["agent"] != beat.agent:
            return Verdict.FOREIGN
        if row is not None and beat.incarnation < row["incarnation"]:
            return Verdict.STALE
        if row is not None and row["stopped"] and self.clock.observed - row["stopped_at"] > rules_of.STOPPED_S:
            row = None  # forgotten
        same = row is not None and beat.incarnation == row["incarnation"]
        if row is not None and row["stopped"]:
            if bye:
                return Verdict.TOMBSTONE
            if same or beat.type is not BeatType.HELLO:
                return Verdict.STOPPED
            return Verdict.NOT_RENEWED if beat.ttl is None else Verdict.OPENED
        if same and row is not None and row["closed"]:
            return Verdict.TOMBSTONE
        if bye:
            return Verdict.CLOSED
        if same and row is not None and None not in (beat.seq, row["seq"]) and beat.seq <= row["seq"]:
            return Verdict.STALE
        if beat.ttl is None:
            return Verdict.NOT_RENEWED
        return Verdict.RENEWED if same else Verdict.OPENED

    async def tear(self, tears: Sequence[Tear], instant: Instant) -> list[bool]:
        now = clocks.advance(self.clock, instant, self.rules.clock).observed
        return [self._tear(self.facts.sessions.get(tear.session_id), tear, now) for tear in tears]

    def _tear(self, row: dict[str, Any] | None, tear: Tear, now: float) -> bool:
        if row is None or row["closed"] or row["tether"] != tear.tether or row["expires_at"] <= now + tear.ttl:
            return False
        row.update(expires_at=now + tear.ttl, ttl=tear.ttl)
        return True

    # The sweep.

    async def tick(self, owner: str, instant: Instant, blind: Cause | None = None, limit: int = 10_000) -> Tick:
        before = self.clock
        self.facts.clock = now = clocks.advance(before, instant, self.rules.clock, blind)
        self._count(clocks.uncounted_s(before, now))
        elapsed = 0.0 if before.boot is None else instant.boot - before.boot
        self.facts.brakes.tick(self, instant.epoch, now.running - before.running)
        changes, self.facts.brakes.changes = tuple(self.facts.brakes.changes), []
        stopped, self.facts.brakes.stopped = tuple(self.facts.brakes.stopped), []
        everyone = [agent for agent in self.facts.agents if self.state(agent) is AgentState.DUE]
        served = self.rules.instances
        late = [agent for agent in everyone if served is None or agent.instance_id in served]
        free = [
            Due(agent, self.facts.agents[agent]["epoch"], Observed(self.deadline(agent)), self.follow_up(agent))
            for agent in late
            if agent not in self.facts.claims
            and self.facts.agents[agent]["not_before"] <= now.running
            and not self._restoring(agent)
        ]
        orphans = []
        for agent, left in self.facts.intents.items():
            if self.facts.agents[agent]["epoch"] != left.epoch and agent not in self.facts.claims:
                self.facts.claims[agent] = left
                orphans.append(left)
        return Tick(
            clock=now,
            stopped_s=max(0.0, elapsed - (now.observed - before.observed)),
            due=shared(free, limit),
            backlog=len(late),
            orphans=tuple(orphans),
            brake=self.facts.brakes.view,
            changes=changes,
            stopped=stopped,
            foreign=frozenset(agent.instance_id for agent in everyone if agent not in late),
            undos=tuple(
                change
                for agent, change in self.facts.changes.items()
                if change.undo is not None and agent not in self.facts.claims and agent not in self.facts.intents
            ),
        )

    def tripped(self, group: str, agents: Sequence[AgentId], window_s: float) -> None:
        """The brake of a group has tripped."""
        at = self.clock.observed
        self.facts.trips = [trip for trip in self.facts.trips if trip[0] != group] + [(group, at, window_s)]
        for agent in agents:
            self._trip(agent, at, window_s)

    def _trip(self, agent: AgentId, at: float, window_s: float) -> None:
        change = self.facts.changes.get(agent)
        if change is not None and undo.trips(change, Observed(at), window_s):
            self.facts.changes[agent] = replace(change, tripped=True)
            self._mark_follow_up(agent)

    # Claims.

    async def claim(self, due: Due, owner: str) -> Claim | None:
        row = self.facts.agents.get(due.agent)
        if row is None or row["epoch"] != due.epoch or due.agent in self.facts.claims:
            return None
        if self._restoring(due.agent):
            return None
        left = self.facts.intents.get(due.agent)
        if self.state(due.agent) is not AgentState.DUE or (left is not None and left.epoch != row["epoch"]):
            return None
        self.facts.intents.pop(due.agent, None)
        self.facts.token += 1
        claim = Claim(
            agent=due.agent,
            epoch=row["epoch"],
            token=self.facts.token,
            owner=owner,
            deadline=Observed(self.deadline(due.agent)),
            lag_s=self.clock.observed - self.deadline(due.agent),
            evidence={"clock_s": self.clock.observed},
            intent=None if left is None else left.intent,
            ended_at=Observed(self.ends_at(due.agent)),
            follow_up=self.follow_up(due.agent),
            released=self.released(due.agent),
        )
        self.facts.claims[due.agent] = claim
        if claim.intent is not None:
            self.facts.intents[due.agent] = claim
        return claim

    def _holds(self, claim: Claim) -> bool:
        held = self.facts.claims.get(claim.agent)
        return held is not None and held.token == claim.token

    async def intend(self, claim: Claim, intent: Intent) -> bool:
        if not self._holds(claim) or self.facts.agents[claim.agent]["epoch"] != claim.epoch:
            return False
        self.facts.intents[claim.agent] = replace(claim, intent=intent)
        return True

    async def still_gone(self, claim: Claim) -> Standing:
        if not self._holds(claim) or self.facts.agents[claim.agent]["epoch"] != claim.epoch:
            return Standing.RETURNED
        follow, brakes = self.follow_up(claim.agent), self.facts.brakes
        brake = brakes.brakes.get(brakes.group(claim.agent))
        if follow is not None and follow.next is not Next.LOG_OUT and brake is not None and brake.state in HOLDS:
            return Standing.HELD
        return Standing.GONE if self.state(claim.agent) is AgentState.DUE else Standing.HELD

    async def settle(
        self, claim: Claim, action: Action, written: Written | None = None, follow_up: FollowUp | None = None
    ) -> bool:
        if not self._holds(claim):
            return False
        row = self.facts.agents[claim.agent]
        intent = (self.facts.intents.get(claim.agent) or claim).intent
        if written is not None and intent is not None:
            self._change(claim, action, intent, written)
            change = self.facts.changes[claim.agent]
            if change.token == claim.token:
                row["notice"] = notices.of(change, ordered=claim.ordered)
                back = notices.until(self.clock.running)
                set_by_us = notices.ON_RETURN if row["epoch"] == claim.epoch else back
                row["told_until"] = set_by_us if action.outcome in SET_BY_US else NEVER
        del self.facts.claims[claim.agent]
        self.facts.intents.pop(claim.agent, None)
        self.facts.actions.append(action)
        row["last_outcome"] = action.outcome
        if row["epoch"] != claim.epoch:
            return False
        row.update(settled_epoch=claim.epoch, follow_up=follow_up)
        if row["mark"] is not Mark.FREE:
            self._heard(row, self.clock.observed)
            row["proven"] = True
        self._mark_follow_up(claim.agent)
        return True

    async def file_again(self, claim: Claim, timer_s: float) -> bool:
        if not self._holds(claim):
            return False
        if self.facts.agents[claim.agent]["epoch"] == claim.epoch:
            self.facts.agents[claim.agent]["timer_s"] = timer_s
        return await self.release(claim, 0.0)

    async def log_out(self, agent: AgentId, follow_up: FollowUp, instant: Instant) -> bool:
        if self._restoring(agent):
            return False
        now = self.clock.observed
        known = agent in self.facts.agents
        row = self.facts.agents.setdefault(
            agent, {"epoch": 0, "settled_epoch": -1, "last_outcome": None, "seen": instant.epoch, "floor": now}
        )
        self._heard(row, now)
        for each in self.facts.of.get(agent, ()):
            if not each["closed"]:
                each.update(closed=True, stopped=True, stopped_at=now, expires_at=min(each["expires_at"], now))
        if known:
            row["floor"] = min(row["floor"], now)
        self.next_epoch(agent)
        row.update(settled_epoch=row["epoch"], not_before=0.0, follow_up=replace(follow_up, at=now))
        change = self.facts.changes.get(agent)
        if change is not None:
            self.facts.changes[agent] = self._meant(change)
        return True

    async def cancel(self, agent: AgentId, action: Action) -> Cancel:
        row, follow = self.facts.agents.get(agent), None
        if row is not None:
            follow = self.follow_up(agent)
        if row is None or (follow is None and self.state(agent) in (AgentState.LIVE, AgentState.AWAY, AgentState.GONE)):
            return Cancel.NOTHING
        if agent in self.facts.claims or agent in self.facts.intents or self._restoring(agent):
            return Cancel.UNDER_WAY
        if follow is not None and follow.next is Next.LOG_OUT:
            return Cancel.UNDER_WAY
        if not self.settled(agent):
            row["last_outcome"] = action.outcome
        row.update(settled_epoch=row["epoch"], follow_up=None)
        if row["mark"] is not Mark.FREE:
            self._heard(row, self.clock.observed)
            row["proven"] = True
        self.facts.actions.append(action)
        return Cancel.DONE

    def _meant(self, change: Change) -> Change:
        """The agent was logged out since: nothing that comes now shows that the change was a mistake."""
        epoch = self.facts.agents[change.agent]["epoch"]
        return replace(
            change, epoch=epoch, undo=None, sessions=(), silent_since=None, tripped=False, ordered_until=None
        )

    def _mark_follow_up(self, agent: AgentId) -> None:
        """What is still to be done remembers that the brake tripped."""
        follow, change = self.follow_up(agent), self.facts.changes.get(agent)
        if follow is None or change is None:
            return
        if change.tripped and change.epoch == self.facts.agents[agent]["epoch"]:
            self.facts.agents[agent]["follow_up"] = replace(follow, released=True)

    async def witness(self, claim: Claim, age_s: float, ttl_s: float, action: Action) -> bool:
        if await self.still_gone(claim) is Standing.RETURNED:
            return False
        ends_at = evidence.lease(
            self.clock.passed(age_s),
            ttl_s,
            heard=Observed(self.heard(claim.agent)),
            ends_at=Observed(self.ends_at(claim.agent)),
            timer_s=self.timer_s(claim.agent),
            clock=self.clock.observed,
        )
        if ends_at is None:
            return False
        row = self.facts.agents[claim.agent]
        self._heard(row, self.clock.observed)
        self.next_epoch(claim.agent)
        row.update(floor=ends_at, last_outcome=action.outcome)
        del self.facts.claims[claim.agent]
        self.facts.intents.pop(claim.agent, None)
        self.facts.actions.append(action)
        return True

    # The undo.

    def _count(self, seconds: float) -> None:
        for agent, change in self.facts.changes.items():
            self.facts.changes[agent] = undo.later(change, seconds)

    def _restoring(self, agent: AgentId) -> bool:
        change = self.facts.changes.get(agent)
        return change is not None and change.restoring

    def _now(self, epoch: float) -> Now:
        return Now(self.clock.observed, self.clock.running, Epoch(epoch))

    def _open(self, agent: AgentId) -> tuple[Left, ...]:
        mine = [(key, row) for key, row in self.facts.sessions.items() if row["agent"] == agent and not row["closed"]]
        return tuple(
            Left(key, row["ttl"], row["expires_at"] - row["ttl"], row["incarnation"], row["seq"]) for key, row in mine
        )

    def _there(self, agent: AgentId) -> bool:
        mine = self.facts.of.get(agent, ())
        return any(not row["closed"] and self.clock.observed <= row["expires_at"] for row in mine)

    def _change(self, claim: Claim, action: Action, intent: Intent, written: Written) -> None:
        agent, before = claim.agent, self.facts.changes.get(claim.agent)
        if intent.former is None and before is not None and before.target == intent.target:
            return
        mine = self.facts.of.get(agent, ())
        byes = max((row["expires_at"] for row in mine if row["closed"]), default=NEVER)
        still = max((row["expires_at"] for row in mine if not row["closed"]), default=NEVER)
        change = undo.changed(
            agent,
            token=claim.token,
            epoch=claim.epoch,
            action_id=action.id,
            intent=intent,
            outcome=action.outcome,
            written=written,
            now=self._now(action.at),
            sessions=self._open(agent),
            silent_since=None if still == NEVER or byes > still else Observed(self.ends_at(agent)),
            status=action.target,
        )
        if before is not None and before.epoch == claim.epoch and before.target == intent.former:
            change = replace(
                change,
                former=before.former,
                sessions=before.sessions,
                silent_since=before.silent_since,
                tripped=before.tripped,
            )
        if self.logged_out_since(claim):
            change = self._meant(change)
        elif self.facts.agents[agent]["epoch"] != claim.epoch:
            change = undo.crossed(change, self._now(action.at))
        self.facts.changes[agent] = change
        for group, at, window_s in self.facts.trips:
            if group in (agent.instance_id, "all"):
                self._trip(agent, at, window_s)

    async def still_back(self, change: Change) -> Back:
        kept = self.facts.changes.get(change.agent)
        if kept is None or kept.token != change.token or kept.undo is None:
            return Back.VOID
        if change.undo is not None and change.undo.why is undo.Why.RETURN and kept.undo.why is not undo.Why.RETURN:
            return Back.VOID
        if change.agent in self.facts.claims or change.agent in self.facts.intents:
            return Back.BUSY
        if kept.undo.silent:
            waiting = (AgentState.GRACE, AgentState.DUE, AgentState.HELD)
            return Back.GONE if self.state(change.agent) in waiting else Back.HERE
        return Back.HERE if self._there(change.agent) else Back.GONE

    async def restoring(self, change: Change, at: Epoch, lease_s: float) -> Back:
        found = await self.still_back(change)
        if found is not Back.HERE:
            return found
        kept = self.facts.changes[change.agent]
        assert kept.undo is not None
        kept = replace(kept, undo=replace(kept.undo, sent_at=at))
        if self.state(change.agent) in (AgentState.AWAY, AgentState.GONE):
            row = self.facts.agents[change.agent]
            self._heard(row, self.clock.observed)
            self.next_epoch(change.agent)
            row.update(floor=self.clock.observed + lease_s)
            kept = replace(kept, epoch=row["epoch"])
        self.facts.changes[change.agent] = kept
        return Back.HERE

    async def restored(self, change: Change, action: Action, *, forget: bool) -> bool:
        if await self.still_back(change) is Back.VOID:
            return False
        self.facts.actions.append(action)
        kept = self.facts.changes.pop(change.agent)
        row = self.facts.agents[change.agent]
        if action.outcome is Outcome.CONFIRMED and row.get("notice") is not None:
            row["notice"] = replace(row["notice"], restored=action.target)
            there = self._there(change.agent)
            row["told_until"] = notices.until(self.clock.running) if there else notices.ON_RETURN
        if not forget:
            assert kept.undo is not None
            kept = replace(kept, undo=None, greeted=kept.greeted or kept.undo.why is undo.Why.RETURN)
            if not self._there(change.agent):
                epoch = self.facts.agents[change.agent]["epoch"]
                kept = replace(kept, back_at=None, epoch=epoch, sessions=self._open(change.agent), greeted=False)
            self.facts.changes[change.agent] = kept
        return True

    async def restore(
        self, since: Epoch, instance_id: str | None, *, silent: bool, instant: Instant, by: str | None = None
    ) -> Ordered:
        now = self._now(instant.epoch)
        queued = left = other = 0
        for agent, change in list(self.facts.changes.items()):
            if change.written_at < since or instance_id not in (None, agent.instance_id):
                continue
            there = self._there(agent)
            busy = agent in self.facts.claims or agent in self.facts.intents
            if change.former is None:
                other += 1
            elif change.undo is not None and change.undo.why is not undo.Why.RETURN and change.undo.silent >= silent:
                queued += 1
            elif not busy and (there or silent):
                queued += 1
                sent_at = None if change.undo is None else change.undo.sent_at
                back_at = change.back_at
                if there and back_at is None:
                    back_at = Epoch(change.written_at + undo.age_s(change, now.running))
                order = undo.Undo(undo.Why.ORDER, now.epoch, silent=silent, sent_at=sent_at, by=by)
                self.facts.changes[agent] = replace(change, undo=order, back_at=back_at, ordered_until=None)
            elif change.silent_since is None and not busy:
                other += 1
            else:
                left += 1
                until = Running(now.running + self.rules.return_window_s)
                self.facts.changes[agent] = replace(change, ordered_until=until, ordered_by=by)
        return Ordered(queued, left, other)

    async def release(self, claim: Claim, delay_s: float) -> bool:
        if not self._holds(claim):
            return False
        del self.facts.claims[claim.agent]
        if not self.logged_out_since(claim):
            self.facts.agents[claim.agent]["not_before"] = self.clock.running + delay_s
        return True

    async def unseen(self, action: Action, ttl_s: float | None) -> bool:
        known = self.facts.agents.get(action.agent)
        if known is not None:
            follow = self.follow_up(action.agent)
            if follow is not None and follow.next is Next.LOG_OUT:
                return False
            if self.state(action.agent) not in (AgentState.AWAY, AgentState.GONE):
                return False
        self.facts.actions.append(action)
        if ttl_s is not None:
            row = self.facts.agents.setdefault(
                action.agent,
                {"epoch": 0, "settled_epoch": -1, "last_outcome": None, "not_before": 0.0, "seen": None},
            )
            self._heard(row, self.clock.observed)
            self.next_epoch(action.agent)
            row.update(floor=self.clock.observed + ttl_s)
        return True

    async def record(self, actions: Sequence[Action]) -> None:
        known = {action.id for action in self.facts.actions}
        self.facts.actions += [action for action in actions if action.id not in known]

    async def order(
        self, group: str, *, hold: bool, for_s: float, reason: str, instant: Instant, by: str = ""
    ) -> BrakeView:
        brakes = self.facts.brakes
        brakes.orders[group] = Order(hold, group, Running(self.clock.running + for_s), reason, by)
        brakes.tick(self, instant.epoch, 0.0)
        return brakes.view

    # Who is held.

    def ordered(self, agent: AgentId) -> bool:
        brake = self.facts.brakes.brakes.get(self.facts.brakes.group(agent))
        return brake is not None and brake.state is State.ORDERED

    async def held(self, instance_id: str, after_s: float, limit: int = 100) -> tuple[Held, ...]:
        now, rows = self.clock.running, self.facts.agents
        mine = [a for a, row in rows.items() if a.instance_id == instance_id and self.state(a) is AgentState.HELD]
        since = {a: max(rows[a]["held_at"], rows[a].get("told_at", NEVER)) for a in mine}
        mine = sorted((a for a in mine if since[a] <= now - after_s / 2), key=since.__getitem__)
        if not mine or since[mine[0]] > now - after_s:
            return ()
        found = []
        for agent in mine[:limit]:
            row = rows[agent]
            row["told_at"] = now
            left = self.facts.intents.get(agent)
            group = self.facts.brakes.group(agent)
            held_s = round(row["held_s"] + now - row["held_at"], 3)
            why = {"brake": {**why_held(group, self.facts.brakes.brakes[group]), "held_s": held_s}}
            target = left.intent.target if left is not None and left.intent is not None else None
            found.append(Held(agent, row["epoch"], self.ordered(agent), target, why))
        return tuple(found)

    def _is_held(self, held: Held) -> bool:
        row = self.facts.agents.get(held.agent)
        return row is not None and row["epoch"] == held.epoch and self.state(held.agent) is AgentState.HELD

    async def witness_held(self, held: Held, age_s: float, ttl_s: float, action: Action) -> bool:
        now, age_s = self.clock.observed, self.clock.passed(age_s)
        end = now - age_s + ttl_s
        new = now - age_s > self.heard(held.agent) + evidence.GRAIN_S
        if not self._is_held(held) or not new or end <= max(now + SPARE_S, self.ends_at(held.agent) + evidence.GRAIN_S):
            return False
        row = self.facts.agents[held.agent]
        self._heard(row, now)
        self.next_epoch(held.agent)
        row.update(floor=end, last_outcome=action.outcome)
        self.facts.actions.append(action)
        return True

    async def release_held(self, held: Held, age_s: float, ttl_s: float, action: Action) -> bool:
        row, now = self.facts.agents.get(held.agent), self.clock.observed
        if row is None or not self._is_held(held) or self.ordered(held.agent):
            return False
        age_s = self.clock.passed(age_s)
        if now - age_s <= max(self.heard(held.agent), row["floor"] - ttl_s) + evidence.GRAIN_S:
            return False
        row["held_s"] += self.clock.running - row["held_at"]
        row["mark"] = Mark.RELEASED
        self.facts.actions.append(action)
        return True

    # Quota.

    async def take_tokens(self, operation: str, scope: str, count: int, instant: Instant) -> float:
        rules = self.rules.quotas.get(operation, self.rules.quota)
        bucket = self.buckets.get((operation, scope)) or quota.empty(instant.boot)
        self.buckets[operation, scope], wait_s = quota.take(bucket, rules, instant.boot, count)
        return wait_s

    async def throttled(self, operation: str, scope: str, instant: Instant) -> None:
        rules = self.rules.quotas.get(operation, self.rules.quota)
        bucket = self.buckets.get((operation, scope)) or quota.empty(instant.boot)
        self.buckets[operation, scope] = quota.throttled(bucket, rules, instant.boot)

    # Reading.

    async def counts(self) -> Counts:
        agents = dict.fromkeys(AgentState, 0)
        for agent in self.facts.agents:
            agents[self.state(agent)] += 1
        live = [row for row in self.facts.sessions.values() if self.clock.observed <= row["expires_at"]]
        return Counts(agents=agents, sessions=sum(not row["closed"] for row in live))

    async def agent(self, agent: AgentId) -> AgentView | None:
        if agent not in self.facts.agents:
            return None
        state, now = self.state(agent), self.clock.observed
        waiting = state in (AgentState.LIVE, AgentState.GRACE, AgentState.DUE) or self.follow_up(agent) is not None
        return AgentView(
            agent=agent,
            state=state,
            sessions=tuple(
                SessionView(key, row["expires_at"] - now, row["hidden"], row["main_driver"])
                for key, row in self.facts.sessions.items()
                if row["agent"] == agent and not row["closed"]
            ),
            due_in_s=max(0.0, self.deadline(agent) - now) if waiting else None,
            last_seen=self.facts.agents[agent]["seen"],
            last_outcome=self.facts.agents[agent]["last_outcome"],
        )

    async def agents(
        self,
        state: AgentState | None = None,
        query: str = "",
        cursor: str | None = None,
        limit: int = 100,
        *,
        among: Callable[[AgentId], bool] | None = None,
    ) -> AgentPage:
        found = [
            agent
            for agent in sorted(self.facts.agents)
            if (cursor is None or str(agent) > cursor)
            and (state is None or self.state(agent) is state)
            and query.lower() in str(agent).lower()
            and (among is None or among(agent))
        ]
        views = [view for agent in found[:limit] if (view := await self.agent(agent)) is not None]
        return AgentPage(tuple(views), str(found[limit - 1]) if len(found) > limit else None)

    async def actions(
        self,
        agent: AgentId | None = None,
        outcome: Outcome | None = None,
        since: Epoch | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> ActionPage:
        found = [
            action
            for action in sorted(self.facts.actions, key=lambda row: row.id, reverse=True)
            if (agent is None or action.agent == agent)
            and (outcome is None or action.outcome is outcome)
            and (since is None or action.at >= since)
            and (cursor is None or action.id < cursor)
        ]
        return ActionPage(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)

    async def secret(self) -> bytes:
        return UUID(int=1).bytes * 2

    async def prune(self, before: Epoch) -> int:
        old = [action for action in self.facts.actions if action.at < before]
        self.facts.actions = [action for action in self.facts.actions if action.at >= before]
        self.facts.pruned += len(old)
        return len(old)

    async def recorded(self, after: int, limit: int = 100) -> Recorded:
        # Stories prune what was recorded first.
        numbered = list(enumerate(self.facts.actions, self.facts.pruned + 1))
        last = self.facts.pruned + len(numbered)
        page = [each for each in numbered if each[0] > after][:limit]
        return Recorded(tuple(page), page[-1][0] if len(page) == limit else max(last, after), last)

    async def delivered(self, receiver: str) -> int | None:
        return self.facts.delivered.get(receiver)

    async def mark_delivered(self, receiver: str, number: int) -> None:
        self.facts.delivered[receiver] = number


def shared(free: Sequence[Due], limit: int) -> tuple[Due, ...]:
    """The first of each instance in turn, as long as there is room; whose first waits longest has the first turn."""
    lines: dict[str, list[Due]] = {}
    for due in sorted(free, key=lambda due: due.deadline):
        lines.setdefault(due.agent.instance_id, []).append(due)
    turns = sorted(lines, key=lambda instance: (lines[instance][0].deadline, instance))
    taken: list[Due] = []
    while any(lines.values()):
        taken += [lines[instance].pop(0) for instance in turns if lines[instance]]
    return tuple(sorted(taken[:limit], key=lambda due: due.deadline))
