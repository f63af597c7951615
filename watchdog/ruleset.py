"""From the text of RULES, REASON_CODES and the filters to rules, and rules back to JSON.

JSON is read strictly: what a careless hand may have meant is not guessed. Each function raises `ValueError` with one
line for each fault; lines about a rule begin with its name. What rules do is in `core/policy.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from watchdog import strict_json
from watchdog.core.policy import PREVIOUS, OnContact, Rule, Stage, never_applies
from watchdog.environment import quoted, variable
from watchdog.strict_json import Faults, Object, shown

LOGOUT = "Logout"
"""As a status: set the OFFLINE one, and sign out of Connect as well."""

NONE = "none"
"""As an initial state: set none."""

DEFAULT = "default"
"""Name of the rule that the plain variables make."""

LONGEST_S = 86_400
"""Longest timer in seconds: a day is more than any shift."""

NAME_LENGTH = 127
"""Characters of a name at most. Source: Connect, shapes AgentStatusName and RoutingProfileName."""

_T = TypeVar("_T")

_PROFILES, _STATES = "if_profile_name_includes", "if_current_agent_state"
_TIMER, _STATUS, _STAGES = "session_end_timer", "status", "stages"
_ON_CONTACT, _INITIAL, _DISMISS = "on_contact", "initial_agent_state", "dismiss_contacts"

PLAIN = (_PROFILES, _STATES, _TIMER, _STATUS, _ON_CONTACT, _INITIAL, _DISMISS)
"""Settings that make the rule `default`, and that a rule may have as keys."""

_KEYS = ("name", *PLAIN, _STAGES)
_SECONDS = f"seconds from 0 to {LONGEST_S}, a number without quotation marks"
_CHOICES = "next_status, wait or skip"
_STAGE_LIST = 'a list of {"after": seconds, "status": name, id, Logout or null}'


def plain(values: Mapping[str, Any]) -> Rule:
    """The rule `default`: what the plain variables say.

    Args:
        values: Has each of `PLAIN`.
    """
    return Rule(
        DEFAULT,
        tuple(values[_PROFILES]),
        tuple(values[_STATES]),
        (_stage(float(values[_TIMER]), values[_STATUS]),),
        values[_ON_CONTACT],
        values[_DISMISS],
        None if values[_INITIAL] == NONE else values[_INITIAL],
    )


def in_force(rules: tuple[Rule, ...], default: Rule) -> tuple[Rule, ...]:
    """The rules in their order, the plain variables last; without those if a rule for everybody comes before."""
    return rules if never_applies(rules, default) else (*rules, default)


def read(value: object, default: Rule) -> object:
    """Reads the JSON list of rules.

    Args:
        value: The text; or rules, which are checked for what no rule shows alone.
        default: The rule of the plain variables; gives what a rule leaves out, but for the filters.

    Returns:
        The rules, without `default`.
    """
    faults = Faults("")
    if isinstance(value, str):
        found = []
        entries = strict_json.read(value)
        if not isinstance(entries, list):
            raise ValueError("this is not a JSON list")
        for number, entry in enumerate(entries, 1):
            try:
                found.append(_rule(entry, number, default))
            except ValueError as error:
                faults.add(str(error))
    elif isinstance(value, (list, tuple)) and all(isinstance(each, Rule) for each in value):
        found = list(value)
    else:
        return value
    for number, rule in enumerate(found):
        if rule.name.casefold() in {each.name.casefold() for each in found[:number]}:
            faults.add(f"rule {quoted(rule.name)}: name: another rule is called so")
        if never_applies(found[:number], rule):
            faults.add(f"rule {quoted(rule.name)}: can never apply: rules before it match everybody whom it matches")
    if (default.profiles or default.states) and never_applies(found, default):
        faults.add(
            f'rule "{DEFAULT}" (the plain variables): can never apply: rules before it match everybody whom it '
            f"matches; unset {' and '.join(_set_filters(default))}"
        )
    faults.raise_any()
    return tuple(found)


def as_json(rule: Rule) -> dict[str, Any]:
    """A rule as it can stand in RULES again, with everything that it took from the plain variables."""
    stages = [
        {"after": _number(each.after_s), _STATUS: LOGOUT if each.sign_out else each.status} for each in rule.stages
    ]
    first = stages[0]
    timing = {_STAGES: stages} if len(stages) > 1 else {_TIMER: first["after"], _STATUS: first[_STATUS]}
    filters = {_PROFILES: list(rule.profiles), _STATES: list(rule.states)}
    return {
        "name": rule.name,
        **{key: entries for key, entries in filters.items() if entries},
        **timing,
        _ON_CONTACT: str(rule.on_contact),
        _INITIAL: NONE if rule.initial is None else rule.initial,
        _DISMISS: rule.dismiss,
    }


def reason_codes(value: object) -> object:
    """Reads the JSON object that maps reason codes to statuses."""
    if not isinstance(value, str):
        return value
    codes = strict_json.read(value)
    if not isinstance(codes, Object):
        raise ValueError("this is not a JSON object")
    faults = Faults("")
    for code, times in codes.twice.items():
        faults.add(f"code {quoted(code)} is there {times} times")
    for number, (code, wanted) in enumerate(codes.items(), 1):
        faults.read(f"code {number}", text, code)
        label = f"code {quoted(code)}"
        if faults.read(label, text, wanted) is not None and wanted.casefold() == LOGOUT.casefold():
            faults.add(f"{label}: {LOGOUT} is no status: an explicit logout signs out in any case")
    faults.raise_any()
    return dict(codes)


def text(value: object) -> str:
    """Accepts a name as people give them in Connect."""
    if not isinstance(value, str):
        raise ValueError(f"got {shown(value)}; takes a text")
    if not value.strip():
        raise ValueError("it is empty")
    if value != value.strip():
        raise ValueError("it has blanks at its ends")
    if not value.isprintable():
        raise ValueError("it has a character that cannot be shown")
    if value.startswith("arn:"):
        raise ValueError("this is an ARN; give the name, or the id at its end")
    if len(value) > NAME_LENGTH:
        raise ValueError(f"it has more than {NAME_LENGTH} characters")
    return value


def entries(value: Sequence[object]) -> tuple[str, ...]:
    """Accepts the entries of a filter: names, each of them once."""
    faults = Faults("")
    found = [faults.read(f"entry {number}", _entry, each) for number, each in enumerate(value, 1)]
    names = [each.casefold() for each in found if each is not None]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            first = next(each for each in found if each is not None and each.casefold() == name)
            faults.add(f"{quoted(first)} is there {names.count(name)} times")
    faults.raise_any()
    return tuple(each for each in found if each is not None)


def status(value: str) -> str:
    """Accepts a status' name or id; `Logout` in any case becomes `LOGOUT`."""
    return LOGOUT if text(value).casefold() == LOGOUT.casefold() else value


def initial(value: object) -> str:
    """Accepts a status' name or id, or one of the words in any case."""
    if not isinstance(value, str):
        raise ValueError(f'got {shown(value)}; takes a text ("{NONE}" sets none)')
    if not value.strip():
        raise ValueError(f'it is empty; "{NONE}" sets none')
    word = text(value).casefold()
    if word == LOGOUT.casefold():
        raise ValueError(f"{LOGOUT} is no status to return to")
    return word if word in {PREVIOUS, NONE} else value


def _rule(entry: object, number: int, default: Rule) -> Rule:
    """Reads one rule; all its faults are in the text of the error."""
    if not isinstance(entry, Object):
        raise ValueError(f"entry {number}: got {shown(entry)}; takes a JSON object")
    nameless = Faults(f"entry {number}: ")
    name = nameless.read("name", _name, entry["name"]) if "name" in entry else None
    if "name" not in entry:
        nameless.add("name: is missing")
    faults = Faults(f"rule {quoted(name)}: " if name is not None else f"entry {number}: ")
    faults.lines.extend(nameless.lines)
    strict_json.check_keys(entry, _KEYS, faults)

    def given(key: str, function: Callable[[Any], _T], otherwise: _T) -> _T:
        if key not in entry:
            return otherwise
        value = faults.read(key, function, entry[key])
        # whether it is a fault is told by `faults`, so that any value will do
        return otherwise if value is None else value

    timer = given(_TIMER, _seconds, default.stages[0].after_s)
    wanted = given(_STATUS, _status_words, _words(default.stages[0]))
    single: tuple[Stage, ...] = (_stage(timer, wanted[0]),)
    for other in (_TIMER, _STATUS):
        if _STAGES in entry and other in entry:
            faults.add(f"{_STAGES}: cannot stand together with {other}")
    rule = Rule(
        name or "",
        given(_PROFILES, _filter, ()),
        given(_STATES, _filter, ()),
        given(_STAGES, _stages, single),
        given(_ON_CONTACT, _on_contact, default.on_contact),
        given(_DISMISS, _flag, default.dismiss),
        _or_none(given(_INITIAL, initial, NONE if default.initial is None else default.initial)),
    )
    faults.raise_any()
    return rule


def _name(value: object) -> str:
    name = text(value)
    if name.casefold() == DEFAULT:
        raise ValueError(f'"{DEFAULT}" is the rule that the plain variables make')
    return name


def _entry(value: object) -> str:
    name = text(value)
    if "*" in name:
        raise ValueError(
            "there are no wildcards; a part of a profile's name is enough, and without the filter all match"
        )
    return name


def _filter(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"got {shown(value)}; takes a list of texts")
    if not value:
        raise ValueError("it is empty; leave it out for all")
    return entries(value)


def _seconds(value: object) -> float:
    # bool is an int in Python, and what is not a number is in no range
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LONGEST_S:
        raise ValueError(f"got {shown(value)}; takes {_SECONDS}")
    return float(value)


def _status_words(value: object) -> tuple[str | None]:
    """A status, or null, in a tuple so that null is not taken for a fault."""
    if value == "":
        raise ValueError("it is empty; null is the status of type OFFLINE")
    return (None if value is None else status(text(value)),)


def _stages(value: object) -> tuple[Stage, ...]:
    if not isinstance(value, list):
        raise ValueError(f"got {shown(value)}; takes {_STAGE_LIST}")
    if not value:
        raise ValueError(f"it is empty; takes {_STAGE_LIST}")
    lines: list[str] = []
    found: list[Stage] = []
    after: float | None = None
    wanted: tuple[str | None] | None = None
    for number, entry in enumerate(value, 1):
        faults = Faults(f"stage {number}: ")
        before_s, before = after, wanted
        after, wanted = _stage_parts(entry, faults)
        if after is not None and before_s is not None and after <= before_s:
            faults.add(f"after: must be more than that of the stage before, {before_s:g}")
        if before == (LOGOUT,):
            faults.add(f"nothing can follow {LOGOUT}")
        elif wanted is not None and before is not None and _same(wanted[0], before[0]):
            faults.add("status: is that of the stage before")
        lines += faults.lines
        if after is not None and wanted is not None:
            found.append(_stage(after, wanted[0]))
    if lines:
        raise ValueError("\n".join(lines))
    return tuple(found)


def _stage_parts(entry: object, faults: Faults) -> tuple[float | None, tuple[str | None] | None]:
    """Seconds and status of one stage; None for what is faulty."""
    if not isinstance(entry, Object):
        faults.add(f"got {shown(entry)}; takes a JSON object")
        return None, None
    strict_json.check_keys(entry, ("after", _STATUS), faults)
    for key in ("after", _STATUS):
        if key not in entry:
            faults.add(f"{key}: is missing")
    after = faults.read("after", _seconds, entry["after"]) if "after" in entry else None
    wanted = faults.read(_STATUS, _status_words, entry[_STATUS]) if _STATUS in entry else None
    return after, wanted


def _same(one: str | None, other: str | None) -> bool:
    return one == other if one is None or other is None else one.casefold() == other.casefold()


def _stage(after_s: float, wanted: str | None) -> Stage:
    sign_out = wanted == LOGOUT
    return Stage(after_s, None if sign_out else wanted, sign_out)


def _words(stage: Stage) -> tuple[str | None]:
    return (LOGOUT if stage.sign_out else stage.status,)


def _on_contact(value: object) -> OnContact:
    if isinstance(value, str) and value.lower() in set(OnContact):
        return OnContact(value.lower())
    raise ValueError(f"got {shown(value)}; takes {_CHOICES}")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"got {shown(value)}; takes true or false, without quotation marks")
    return value


def _or_none(word: str) -> str | None:
    return None if word == NONE else word


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value


def _set_filters(default: Rule) -> list[str]:
    return [variable(key) for key, found in ((_PROFILES, default.profiles), (_STATES, default.states)) if found]
