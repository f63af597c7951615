"""The policy: which rule applies to an agent whose sessions have ended, when, and what it does.

Values in, values out. Where rules come from is in `watchdog/ruleset.py`; what a decision costs in calls is the
dispatcher's business. All times are observed seconds since the end of the agent's last session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from watchdog.core.model import Outcome

PREVIOUS = "previous"
"""As an initial state: the status before the watchdog changed it."""

DISMISSIBLE = frozenset({"MISSED", "ERROR", "ENDED", "REJECTED"})
"""States in which a contact is over and still fills its slot. Source: operation DismissUserContact."""

RINGING = "INCOMING"
"""State of a contact that rings at the agent. Source: shape ContactState."""


class OnContact(StrEnum):
    """What a rule does about an agent who has a contact when the timer ends."""

    NEXT_STATUS = "next_status"
    """Set the status all the same: Connect applies it when the contact has ended."""
    WAIT = "wait"
    """Decide anew when the contact has ended."""
    SKIP = "skip"
    """Leave the agent alone."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a rule.

    Attributes:
        after_s: Observed seconds since the end of the agent's last session.
        status: The status to set, by name or id; None: the instance's status of type OFFLINE.
        sign_out: End the user's sessions in Connect as well; `status` is None then.
    """

    after_s: float
    status: str | None
    sign_out: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """For whom, when and what.

    Attributes:
        name: Unique among the rules.
        profiles: Texts of which the routing profile's name contains one, in any case; empty: any profile.
        states: Names or ids of which the live status has one, in any case; empty: any status, and none.
        stages: At least one; `after_s` strictly rises.
        on_contact: What is done about a contact.
        dismiss: Clear contacts that are over and hold the agent busy.
        initial: Status on return, by name or id, or `PREVIOUS`; None: none is set.
    """

    name: str
    profiles: tuple[str, ...]
    states: tuple[str, ...]
    stages: tuple[Stage, ...]
    on_contact: OnContact
    dismiss: bool
    initial: str | None


def plain(timer_s: float, status: str | None = None, *, initial: str | None = None, sign_out: bool = False) -> Rule:
    """A rule for everybody, with one stage."""
    stage = Stage(timer_s, status, sign_out)
    return Rule("default", (), (), (stage,), OnContact.NEXT_STATUS, dismiss=True, initial=initial)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an agent at the moment of the decision.

    Attributes:
        profile: Name of the routing profile; None when it is not known.
        status_id: The current status' id; None when Connect does not show the agent.
        status_name: Its name; None together with the id.
        contacts: States of the agent's contacts.
    """

    profile: str | None
    status_id: str | None
    status_name: str | None
    contacts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileAgain:
    """Not yet: decide anew when the agent has been silent for `timer_s` seconds in all."""

    timer_s: float


@dataclass(frozen=True, slots=True)
class WaitForContact:
    """Decide anew when the agent has no contact any more."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave the agent alone.

    Attributes:
        outcome: `skipped_profile`, `skipped_state` or `skipped_contact`.
        reason: One sentence for people.
    """

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Act:
    """Do the first stage of a rule."""

    rule: Rule

    @property
    def stage(self) -> Stage:
        """What to do."""
        return self.rule.stages[0]


Decision = FileAgain | WaitForContact | Skip | Act


def decide(rules: Sequence[Rule], facts: Facts, silent_s: float) -> Decision:
    """What to do with an agent who has no session.

    Args:
        rules: In force, in their order.
        facts: Of the agent, as fresh as the decision.
        silent_s: Observed seconds since the end of the last session.

    Returns:
        `FileAgain` only with a timer that is longer than `silent_s`.
    """
    rule = next((rule for rule in rules if _profile_fits(rule, facts.profile) and _state_fits(rule, facts)), None)
    if rule is not None and rule.stages[0].after_s <= silent_s:
        return by_contact(rule, facts.contacts) or Act(rule)
    # A rule that does not match now may match then: the status can change, and an unknown profile become known.
    later = [
        each.stages[0].after_s
        for each in rules
        if each.stages[0].after_s > silent_s and (facts.profile is None or _profile_fits(each, facts.profile))
    ]
    return FileAgain(min(later)) if later else _skip(rules, facts)


def by_contact(rule: Rule, contacts: Sequence[str]) -> WaitForContact | Skip | None:
    """What a rule does about these contacts in place of its stage; None: nothing is in its way.

    A contact that rings at an empty chair is nobody's: it is neither waited for, nor does it spare the agent.
    """
    engaged = [state for state in contacts if is_live(state) and state != RINGING]
    if not engaged or rule.on_contact is OnContact.NEXT_STATUS:
        return None
    if rule.on_contact is OnContact.WAIT:
        return WaitForContact(rule)
    return Skip(
        Outcome.SKIPPED_CONTACT,
        f"The agent has a contact ({engaged[0] or 'state not told'}), and rule {rule.name!r} leaves such agents alone.",
    )


def is_live(state: str) -> bool:
    """Whether a contact in this state is not over. States that are not known yet count as live."""
    return state not in DISMISSIBLE


def is_dismissible(state: str) -> bool:
    """Whether a contact in this state can be dismissed."""
    return state in DISMISSIBLE


def timers(rules: Sequence[Rule]) -> tuple[float, ...]:
    """The timers after which a rule may begin: each once, rising."""
    return tuple(sorted({rule.stages[0].after_s for rule in rules}))


def first_timer_s(rules: Sequence[Rule]) -> float:
    """Seconds of silence before which no rule applies to anybody."""
    return timers(rules)[0]


def rule_of(rules: Sequence[Rule], name: str) -> Rule | None:
    """The rule of this name; None: it exists no longer."""
    return next((rule for rule in rules if rule.name == name), None)


def stage_of(rules: Sequence[Rule], name: str, index: int) -> Stage | None:
    """A stage of a rule that was chosen before, 0 for the first; None: that rule or stage exists no longer."""
    rule = rule_of(rules, name)
    return rule.stages[index] if rule is not None and 0 <= index < len(rule.stages) else None


def rule_on_return(rules: Sequence[Rule], profile: str | None) -> Rule | None:
    """The rule of a returning agent: the first whose profile filter matches; None: none does.

    State filters are not asked: on return the status is the one that the watchdog has set.
    """
    return next((rule for rule in rules if _profile_fits(rule, profile)), None)


def never_applies(earlier: Sequence[Rule], rule: Rule) -> bool:
    """Whether each agent whom a rule matches is matched by one of the earlier rules already.

    It is enough to look at the agents who fit least elsewhere: for each pair of filter entries the one whose profile
    is called exactly so and whose status is that one; without a filter one who fits no other rule's either.
    """
    return all(
        any(_profile_fits(each, profile) and _state_fits(each, Facts(profile, state, state)) for each in earlier)
        for profile in rule.profiles or (None,)
        for state in rule.states or (None,)
    )


def _profile_fits(rule: Rule, profile: str | None) -> bool:
    if profile is None:
        return not rule.profiles
    name = profile.casefold()
    return not rule.profiles or any(entry.casefold() in name for entry in rule.profiles)


def _state_fits(rule: Rule, facts: Facts) -> bool:
    shown = {each.casefold() for each in (facts.status_id, facts.status_name) if each is not None}
    return not rule.states or any(entry.casefold() in shown for entry in rule.states)


def _skip(rules: Sequence[Rule], facts: Facts) -> Skip:
    if not any(_profile_fits(rule, facts.profile) for rule in rules):
        if facts.profile is None:
            return Skip(Outcome.SKIPPED_PROFILE, "The routing profile is not known, and each rule asks for one.")
        return Skip(Outcome.SKIPPED_PROFILE, f"No rule is for the routing profile {facts.profile!r}.")
    unknown = " The routing profile is not known." if facts.profile is None else ""
    if facts.status_name is None and facts.status_id is None:
        text = "Connect does not show the agent, and each rule for the profile asks for a status."
    else:
        text = f"No rule for the profile is for the status {facts.status_name or facts.status_id!r}."
    return Skip(Outcome.SKIPPED_STATE, text + unknown)
