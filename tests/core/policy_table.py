"""The decision table of the policy: what `tests/core/test_policy.py` checks and docs/policy.md shows.

Each group is an environment as a user writes it, and rows of facts with the decision in words.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchdog.core.policy import Act, Decision, Facts, FileAgain, Rule, Skip, Stage, WaitForContact
from watchdog.settings import Settings

NEEDED = {"WATCHDOG_INSTANCES": "i-1", "WATCHDOG_HEARTBEAT_TOKENS": "x"}


@dataclass(frozen=True)
class Row:
    """`profile` None: not known. `status` None: Connect does not show the agent; its id is `id-` and the name."""

    profile: str | None
    status: str | None
    silent_s: float
    decision: str
    contacts: tuple[str, ...] = ()

    @property
    def facts(self) -> Facts:
        return Facts(self.profile, self.status and f"id-{self.status}", self.status, self.contacts)


@dataclass(frozen=True)
class Group:
    title: str
    variables: dict[str, str]
    rows: tuple[Row, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        return Settings.load(NEEDED | self.variables).rules_in_force


TABLE = (
    Group(
        "No filter, no rule",
        {},
        (
            Row("Sales", "Available", 4, "look again at 5 s"),
            Row("Sales", "Available", 6, "default: set the OFFLINE status"),
            Row(None, "Available", 6, "default: set the OFFLINE status"),
            Row("Sales", None, 6, "default: set the OFFLINE status"),
            Row("Sales", "Available", 6, "default: set the OFFLINE status", ("CONNECTED",)),
        ),
    ),
    Group(
        "Filters in the plain variables",
        {
            "WATCHDOG_IF_PROFILE_NAME_INCLUDES": "sales, Support",
            "WATCHDOG_IF_CURRENT_AGENT_STATE": "Available, id-Lunch",
        },
        (
            Row("EMEA Sales", "available", 6, "default: set the OFFLINE status"),
            Row("supporters", "Lunch", 6, "default: set the OFFLINE status"),
            Row("Billing", "Available", 6, "skipped_profile"),
            Row("Billing", "Break", 6, "skipped_profile"),
            Row(None, "Available", 6, "skipped_profile: the profile is not known"),
            Row("Sales", "Break", 6, "skipped_state"),
            Row("Sales", "Available soon", 6, "skipped_state"),
            Row("Sales", None, 6, "skipped_state: Connect does not show the agent"),
            Row("Billing", "Available", 4, "skipped_profile"),
            Row("Sales", "Break", 4, "look again at 5 s"),
        ),
    ),
    Group(
        "Rules with several timers",
        {
            "WATCHDOG_RULES": '[{"name": "field", "if_profile_name_includes": ["Field"], "session_end_timer": 300,'
            ' "status": "Away"}, {"name": "lunch", "if_current_agent_state": ["Lunch"], "session_end_timer": 60}]',
        },
        (
            Row("Sales", "Available", 6, "default: set the OFFLINE status"),
            Row("Field", "Available", 6, "look again at 60 s"),
            Row("Field", "Lunch", 61, "look again at 300 s"),
            Row("Field", "Lunch", 301, "field: set Away"),
            Row("Sales", "Lunch", 6, "look again at 60 s"),
            Row("Sales", "Available", 61, "default: set the OFFLINE status"),
            Row("Sales", "Lunch", 61, "lunch: set the OFFLINE status"),
            Row(None, "Lunch", 6, "look again at 60 s"),
            Row(None, "Lunch", 61, "lunch: set the OFFLINE status"),
        ),
    ),
    Group(
        "A rule that takes everybody, and one that may apply later",
        {
            "WATCHDOG_RULES": '[{"name": "break", "if_current_agent_state": ["Break"], "session_end_timer": 900},'
            ' {"name": "sales", "if_profile_name_includes": ["Sales"], "if_current_agent_state": ["Available"],'
            ' "session_end_timer": 20}]',
            "WATCHDOG_IF_PROFILE_NAME_INCLUDES": "Support",
        },
        (
            Row("Support", "Available", 6, "default: set the OFFLINE status"),
            Row("Sales", "Available", 6, "look again at 20 s"),
            Row("Sales", "Lunch", 6, "look again at 20 s"),
            Row("Sales", "Lunch", 21, "look again at 900 s"),
            Row("Sales", "Lunch", 901, "skipped_state"),
            Row("Billing", "Lunch", 6, "look again at 900 s"),
            Row("Billing", "Lunch", 901, "skipped_state"),
            Row("Billing", "Break", 901, "break: set the OFFLINE status"),
        ),
    ),
    Group(
        "Two stages",
        {
            "WATCHDOG_RULES": '[{"name": "two", "stages": [{"after": 30, "status": "Away"},'
            ' {"after": 300, "status": "Logout"}]}]',
        },
        (
            Row("Sales", "Available", 6, "look again at 30 s"),
            Row("Sales", "Available", 31, "two: set Away; then sign out at 300 s"),
            Row("Sales", "Available", 301, "two: set Away; then sign out at 300 s"),
        ),
    ),
    Group(
        "Logout at once",
        {"WATCHDOG_STATUS": "Logout"},
        (Row("Sales", "Available", 6, "default: sign out"),),
    ),
    Group(
        "WATCHDOG_ON_CONTACT=wait",
        {"WATCHDOG_ON_CONTACT": "wait"},
        (
            *(
                Row("Sales", "Available", 6, "wait for the contact's end", (state,))
                for state in ("CONNECTED", "CONNECTED_ONHOLD", "CONNECTING", "PENDING", "A_NEW_WORD")
            ),
            *(
                Row("Sales", "Available", 6, "default: set the OFFLINE status", (state,))
                for state in ("INCOMING", "MISSED", "ENDED", "REJECTED", "ERROR")
            ),
            Row("Sales", "Available", 6, "wait for the contact's end", ("MISSED", "CONNECTED")),
            Row("Sales", "Available", 4, "look again at 5 s", ("CONNECTED",)),
        ),
    ),
    Group(
        "WATCHDOG_ON_CONTACT=skip",
        {"WATCHDOG_ON_CONTACT": "skip"},
        (
            Row("Sales", "Available", 6, "skipped_contact", ("CONNECTED",)),
            Row("Sales", "Available", 6, "default: set the OFFLINE status", ("INCOMING",)),
            Row("Sales", "Available", 6, "default: set the OFFLINE status", ("ENDED",)),
            Row("Sales", "Available", 6, "default: set the OFFLINE status"),
        ),
    ),
)


def _deed(stage: Stage) -> str:
    return "sign out" if stage.sign_out else f"set {stage.status or 'the OFFLINE status'}"


def in_words(decision: Decision, facts: Facts) -> str:
    match decision:
        case FileAgain():
            return f"look again at {decision.timer_s:g} s"
        case WaitForContact():
            return "wait for the contact's end"
        case Skip():
            unknown = {
                "skipped_profile": ": the profile is not known" if facts.profile is None else "",
                "skipped_state": ": Connect does not show the agent" if facts.status_name is None else "",
            }
            return decision.outcome + unknown.get(decision.outcome, "")
        case Act():
            first, *rest = decision.rule.stages
            later = "".join(f"; then {_deed(stage)} at {stage.after_s:g} s" for stage in rest)
            return f"{decision.rule.name}: {_deed(first)}{later}"


def rendered() -> str:
    """The table as Markdown."""
    parts = []
    for group in TABLE:
        lines = [f"### {group.title}", ""]
        if group.variables:
            lines += ["```", *(f"{name}={value}" for name, value in group.variables.items()), "```", ""]
        lines += ["| profile | status | contacts | silent for | decision |", "|---|---|---|---|---|"]
        lines += [
            f"| {row.profile or 'not known'} | {row.status or 'not shown'} | {', '.join(row.contacts) or '–'} |"
            f" {row.silent_s:g} s | {row.decision} |"
            for row in group.rows
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
