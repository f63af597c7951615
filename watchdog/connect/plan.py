"""What the rules make of an agent whom Connect shows: the policy, with names looked up in the instance.

The policy itself is in `core/policy.py`. Nothing is called here; a name that does not exist in the instance touches
nobody by its rule, and `problems` of the directory tells of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from watchdog.connect.answers import Seen, Status, StatusType
from watchdog.connect.case import Settled
from watchdog.connect.directory import Directory, Unresolved
from watchdog.connect.verdict import Finding, find
from watchdog.core import policy
from watchdog.core.model import (
    SET_BY_US,
    AgentId,
    Claim,
    Due,
    FollowUp,
    Intent,
    IntentKind,
    Next,
    Observed,
    Outcome,
)
from watchdog.core.policy import Act, Facts, FileAgain, Rule, Skip, Stage, WaitForContact

SIGN_OUT_AFTER_S = 10.0
"""Seconds after Offline is confirmed at which nobody may be found there, before sessions are ended."""


@dataclass(frozen=True, slots=True)
class Job:
    """A status to set.

    Attributes:
        target: The status.
        rule: The rule that asks for it; None for an order.
        index: Which of its stages.
        dismiss: Contacts that are over and hold the agent busy are cleared.
    """

    target: Status
    rule: Rule | None = None
    index: int = 0
    dismiss: bool = True

    @property
    def stage(self) -> Stage | None:
        """The stage."""
        return None if self.rule is None else self.rule.stages[self.index]

    @property
    def name(self) -> str:
        """The rule's name; empty for an order."""
        return "" if self.rule is None else self.rule.name


class Plans:
    """The rules in force, for each instance.

    Attributes:
        by_profile: A rule asks for the routing profile, so that it has to have a name.
    """

    def __init__(
        self, rules: Sequence[Rule], directory: Directory, *, dry_run: bool = False, dismiss: bool = True
    ) -> None:
        """Composes.

        Args:
            rules: In their order.
            directory: Knows statuses and profiles by name.
            dry_run: Nothing is written, so that no status that was set before is in force.
            dismiss: For an order, contacts that are over are cleared (DISMISS_CONTACTS).
        """
        self._dismiss = dismiss
        self._dry_run = dry_run
        self._rules = tuple(rules)
        self._directory = directory
        self.by_profile = any(rule.profiles for rule in rules)

    def facts(self, instance_id: str, seen: Seen | None) -> Facts:
        """What the policy has to know, from a row; None for an agent who is not shown."""
        if seen is None:
            return Facts(None, None, None)
        profile = self._directory.profile_name(instance_id, seen.profile_id)
        return Facts(profile, seen.status_id, seen.status_name, seen.contacts)

    def decide(self, claim: Claim, seen: Seen | None) -> Job | FileAgain | WaitForContact | Skip | Unresolved:
        """What to do with an agent.

        Args:
            claim: For whom; not one for a sign-out.
            seen: From a complete look.
        """
        return self._decide(claim.agent, claim.follow_up, claim.silent_s, seen)

    def targets(self, instance_id: str) -> tuple[Status, ...]:
        """Every status of the instance that a rule may set."""
        found = (self._target(instance_id, stage) for rule in self._rules for stage in rule.stages)
        return tuple(dict.fromkeys(target for target in found if isinstance(target, Status)))

    def likely(self, due: Due, seen: Seen | None) -> Status | Unresolved:
        """The status that the agent will probably be set to, from an old look or none; to see what is in the way."""
        instance_id, follow = due.agent.instance_id, due.follow_up
        if follow is not None and follow.next is not Next.STAGE:
            ordered = self.order(due.agent, follow)
            return ordered.target if isinstance(ordered, Job) else ordered
        found = self._decide(due.agent, follow, float("inf"), seen)
        match found:
            case Job():
                return found.target
            case Unresolved() if seen is not None:
                return found
            case WaitForContact():
                return self._target(instance_id, found.rule.stages[0])
        # Which rule applies is not known before a look, or none does: one whose status is missing keeps nobody waiting.
        usual = self._target(instance_id, self._rules[-1].stages[0])
        return usual if isinstance(usual, Status) else next(iter(self.targets(instance_id)), usual)

    def _decide(
        self, agent: AgentId, follow: FollowUp | None, silent_s: float, seen: Seen | None
    ) -> Job | FileAgain | WaitForContact | Skip | Unresolved:
        instance_id = agent.instance_id
        facts = self.facts(instance_id, seen)
        goes_on = follow is not None and follow.next is Next.STAGE
        if follow is not None and goes_on and follow.rule and (self._dry_run or self._in_force(agent, follow, seen)):
            rule = policy.rule_of(self._rules, follow.rule)
            if rule is None or policy.stage_of(self._rules, follow.rule, follow.stage) is None:
                return Skip(Outcome.SKIPPED_STATE, f"Rule {follow.rule!r} has no such stage any more.")
            return policy.by_contact(rule, facts.contacts) or self._job(instance_id, rule, follow.stage)
        found = policy.decide(self._rules, facts, silent_s)
        if not isinstance(found, Act):
            return found
        if seen is None and any(rule.profiles for rule in self._rules[: self._rules.index(found.rule)]):
            return Skip(Outcome.SKIPPED_PROFILE, "Connect does not show the agent, and with it no routing profile.")
        return self._job(instance_id, found.rule, 0)

    def carried(self, claim: Claim, intent: Intent) -> Job | None:
        """The job that an earlier claim of the epoch has begun; None where its rule sets another status by now."""
        index = 0 if claim.follow_up is None else claim.follow_up.stage
        rule = policy.rule_of(self._rules, intent.rule)
        if rule is None or policy.stage_of(self._rules, intent.rule, index) is None:
            return None
        job = self._job(claim.agent.instance_id, rule, index)
        return job if isinstance(job, Job) and job.target.id == intent.target else None

    def again(self, agent: AgentId, job: Job) -> Job | Unresolved:
        """The same job after the statuses were listed anew."""
        if job.rule is not None:
            return self._job(agent.instance_id, job.rule, job.index)
        return self._existing(agent, job.target.id, dismiss=job.dismiss)

    def _in_force(self, agent: AgentId, follow: FollowUp, seen: Seen | None) -> bool:
        """Whether the status that was set before is still there, or comes next."""
        status = self._directory.status(agent.instance_id, follow.target)
        if status is None:
            return False
        finding = find(seen, status, complete=True)
        absent = finding is Finding.ABSENT and status.type is StatusType.OFFLINE
        return absent or finding in (Finding.TARGET, Finding.NEXT)

    def order(self, agent: AgentId, follow: FollowUp) -> Job | Unresolved:
        """The status that an order asks for, or that was set before."""
        return self._existing(agent, follow.target, dismiss=self._dismisses(follow))

    def _dismisses(self, follow: FollowUp) -> bool:
        if not follow.rule:
            return self._dismiss
        rule = policy.rule_of(self._rules, follow.rule)
        return rule is not None and rule.dismiss

    def _existing(self, agent: AgentId, status_id: str, *, dismiss: bool) -> Job | Unresolved:
        status = self._directory.status(agent.instance_id, status_id)
        if status is None:
            return Unresolved("The status to set is not there any more.", loaded=True)
        return Job(status, dismiss=dismiss)

    def _job(self, instance_id: str, rule: Rule, index: int) -> Job | Unresolved:
        target = self._target(instance_id, rule.stages[index])
        return target if isinstance(target, Unresolved) else Job(target, rule, index, rule.dismiss)

    def _target(self, instance_id: str, stage: Stage) -> Status | Unresolved:
        found = self._directory.resolve(instance_id, stage.status)
        if isinstance(found, Status) and found.type is StatusType.ROUTABLE:
            return Unresolved(f"Contacts are routed to who is in {found.name}: nobody is set to it.", loaded=True)
        return found

    def follow_up(self, claim: Claim, done: Settled, clock: Observed) -> FollowUp | None:
        """What is still to be done after an outcome; None for nothing.

        Args:
            claim: The claim.
            done: What was done.
            clock: Observed time of it.
        """
        job, outcome = done.job, done.settle.outcome
        if _stays(claim.follow_up, outcome):
            # Its pages are stopped and it can work on: it is watched as one of whom nothing is heard.
            return FollowUp(Next.STAGE, Observed(claim.ended_at + policy.first_timer_s(self._rules)))
        if job is None:
            return None
        set_now = outcome in SET_BY_US or (outcome is Outcome.ALREADY and done.shown)
        if done.kind is IntentKind.SIGN_OUT:
            # An order that met a contact: the sessions are ended after it.
            return _sign_out(job, clock) if claim.ordered and outcome is Outcome.NEXT_STATUS else None
        if job.stage is None:
            return None
        if job.stage.sign_out:
            # One released from a hold is not signed out: the follow-up says so in the history.
            return _sign_out(job, clock, released=claim.released) if set_now else None
        later = policy.stage_of(self._rules, job.name, job.index + 1)
        if later is None and job.dismiss and outcome is Outcome.NEXT_STATUS:
            return FollowUp(Next.CLEAR, clock, job.name, job.index, job.target.id, released=claim.released)
        if later is None or not (set_now or outcome is Outcome.DRY_RUN):
            return None
        at = Observed(claim.ended_at + later.after_s)
        return FollowUp(Next.STAGE, at, job.name, job.index + 1, job.target.id, released=claim.released)


def _stays(follow: FollowUp | None, outcome: Outcome) -> bool:
    """Whether an order to log an agent out has come to nothing."""
    ordered = follow is not None and follow.next in (Next.LOG_OUT, Next.SIGN_OUT) and not follow.rule
    return ordered and outcome not in (Outcome.CONFIRMED, Outcome.NEXT_STATUS, Outcome.NO_SUCH_USER)


def _sign_out(job: Job, clock: Observed, *, released: bool = False) -> FollowUp:
    at = Observed(clock + SIGN_OUT_AFTER_S)
    return FollowUp(Next.SIGN_OUT, at, job.name, job.index, job.target.id, released=released)
