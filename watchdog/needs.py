"""What the settings need of Amazon Connect: the names that must exist there, and what is done there."""

from __future__ import annotations

from collections.abc import Iterator

from watchdog.connect.iam import Uses
from watchdog.connect.names import Kind, Named
from watchdog.core.policy import PREVIOUS, Rule
from watchdog.environment import quoted, variable
from watchdog.ruleset import DEFAULT, LOGOUT
from watchdog.settings import Settings


def named(settings: Settings) -> tuple[Named, ...]:
    """Every status and profile that the settings name, with where; what a rule takes over is told of the variable."""
    found: list[Named] = []
    for rule in settings.rules_in_force:
        found += _of_rule(settings, rule)
    for code, status in settings.reason_codes.items():
        found.append(Named(f"{variable('reason_codes')}: code {quoted(code)}", status, Kind.TARGET))
    if _can_log_out(settings):
        found.append(Named("an explicit logout", None, Kind.TARGET))
    return tuple(dict.fromkeys(found))


def uses(settings: Settings) -> Uses:
    """What is done in Connect with these settings."""
    rules, logs_out = settings.rules_in_force, _can_log_out(settings)
    return Uses(
        writes=not settings.dry_run,
        dismisses=any(rule.dismiss for rule in rules) or (logs_out and settings.dismiss_contacts),
        signs_out=logs_out or any(stage.sign_out for rule in rules for stage in rule.stages),
        logs_out=logs_out,
        # An undo sets whatever status was there before; so does an operator's order.
        restores=settings.return_window > 0 or logs_out or any(rule.initial == PREVIOUS for rule in rules),
        reconciles=settings.reconcile != "off",
    )


def _can_log_out(settings: Settings) -> bool:
    """Whether anybody can be let in who may ask for an explicit logout."""
    return bool(settings.admin_tokens) or settings.auth != "token"


def _of_rule(settings: Settings, rule: Rule) -> Iterator[Named]:
    plain = rule.name == DEFAULT
    label = f"{variable('rules')}: rule {quoted(rule.name)}: "
    for number, stage in enumerate(rule.stages, 1):
        single = len(rule.stages) == 1
        taken_over = single and (LOGOUT if stage.sign_out else stage.status) == settings.status
        own = f"{label}status" if single else f"{label}stage {number}: status"
        yield Named(variable("status") if plain or taken_over else own, stage.status, Kind.TARGET)
    if rule.initial not in (None, PREVIOUS):
        taken_over = rule.initial == settings.initial_agent_state
        own = f"{label}initial_agent_state"
        where = variable("initial_agent_state") if plain or taken_over else own
        chosen = not (plain or taken_over) or settings.is_set("initial_agent_state")
        yield Named(where, rule.initial, Kind.INITIAL, chosen)
    for kind, key, entries in (
        (Kind.PROFILE, "if_profile_name_includes", rule.profiles),
        (Kind.STATE, "if_current_agent_state", rule.states),
    ):
        for entry in entries:
            yield Named(variable(key) if plain else f"{label}{key}", entry, kind)
