"""Names in the settings that Amazon Connect does not know: statuses and routing profiles. Pure.

A status that is to be set must exist in every instance, an entry of a filter in at least one. Each fault is one line
that names the variable, what it got, and what there is instead.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from watchdog.connect.answers import Status, StatusType
from watchdog.connect.directory import resolve

SHOWN = 20
"""Names that a fault lists at most: an instance may have hundreds of profiles."""


class Kind(Enum):
    """What a name in the settings is used for."""

    TARGET = auto()
    """A status for ghosts, by name or id: it must exist in every instance, and no contact be routed to who is in it."""
    INITIAL = auto()
    """A status for whoever returns, by name or id: it must exist in every instance."""
    STATE = auto()
    """A filter's status, by name or id in any case: it must exist in one instance."""
    PROFILE = auto()
    """A filter's part of a routing profile's name, in any case: one profile of one instance must have it."""


@dataclass(frozen=True, slots=True)
class Named:
    """A name in the settings.

    Attributes:
        where: The variable, and where in it: `WATCHDOG_RULES: rule "night", stages[1].status`.
        name: What stands there; None for the status of type OFFLINE, whatever it is called.
        kind: What it is used for.
        chosen: Somebody has set it; False for a default, which does not stop the start.
    """

    where: str
    name: str | None
    kind: Kind
    chosen: bool = True


@dataclass(frozen=True, slots=True)
class Listed:
    """What an instance has; None for what could not be listed.

    Attributes:
        statuses: Its agent statuses.
        profiles: Names of its routing profiles.
    """

    statuses: Sequence[Status] | None
    profiles: Sequence[str] | None


def names_missing(listed: Mapping[str, Listed], named: Iterable[Named]) -> list[str]:
    """One line for each name that does not exist, in the order of the names and instances; empty when all do.

    Nothing is said about what could not be listed: a filter's entry is missing only when every instance was looked at.

    Args:
        listed: By instance id, every instance of the settings.
        named: All names in the settings.
    """
    faults: list[str] = []
    for each in named:
        match each.kind:
            case Kind.TARGET | Kind.INITIAL:
                faults += _targets(listed, each)
            case Kind.STATE:
                statuses = [entry.statuses for entry in listed.values()]
                faults += _state(statuses, each)
            case Kind.PROFILE:
                profiles = [entry.profiles for entry in listed.values()]
                faults += _profile(profiles, each)
    return list(dict.fromkeys(faults))


def targets(statuses: Sequence[Status], named: Iterable[Named]) -> tuple[Status, ...]:
    """The statuses of an instance that may be set, each once; names that do not exist are left out."""
    found = (resolve(statuses, each.name) for each in named if each.kind in (Kind.TARGET, Kind.INITIAL))
    return tuple(dict.fromkeys(status for status in found if isinstance(status, Status)))


def _targets(listed: Mapping[str, Listed], named: Named) -> list[str]:
    faults: list[str] = []
    for instance_id, entry in listed.items():
        found = None if entry.statuses is None else resolve(entry.statuses, named.name)
        if entry.statuses is None or isinstance(found, Status):
            if isinstance(found, Status) and found.type is StatusType.ROUTABLE and named.kind is Kind.TARGET:
                what = f"instance {instance_id} routes contacts to who is in it, so that a ghost would stay one"
                faults.append(_line(named.where, named.name or found.name, what, None, "name another status"))
            continue
        if named.name is None:
            offline = [status.name for status in entry.statuses if status.type is StatusType.OFFLINE]
            text = f"instance {instance_id} has not one status of type OFFLINE but: {_shown(offline)}; name the one"
            faults.append(f"{named.where}: names no status, and {text} to set")
            continue
        names = [status.name for status in entry.statuses]
        alike = [name for name in names if name.casefold() == named.name.casefold()]
        what = f"instance {instance_id} has {len(alike)} statuses of this name" if alike else ""
        what = what or f"instance {instance_id} has no such status; there are: {_shown(names)}"
        advice = "write it exactly as it is there, or give the id" if alike else "correct it, or create the status"
        faults.append(
            _line(named.where, named.name, what, named.name if alike else _nearest(named.name, names), advice)
        )
    return faults


def _state(statuses: Sequence[Sequence[Status] | None], named: Named) -> list[str]:
    known = [status for entry in statuses for status in entry or ()]
    wanted = (named.name or "").casefold()
    if None in statuses or any(wanted in (status.id.casefold(), status.name.casefold()) for status in known):
        return []
    names = [status.name for status in known]
    what = f"no instance has such a status; there are: {_shown(names)}"
    return [_line(named.where, named.name or "", what, _nearest(wanted, names), "correct it, or take it out")]


def _profile(profiles: Sequence[Sequence[str] | None], named: Named) -> list[str]:
    known = [name for entry in profiles for name in entry or ()]
    wanted = (named.name or "").casefold()
    if None in profiles or any(wanted in name.casefold() for name in known):
        return []
    what = f"no routing profile's name contains it; there are: {_shown(known)}"
    return [_line(named.where, named.name or "", what, _nearest(wanted, known), "correct it, or take it out")]


def _line(where: str, got: str, what: str, nearest: str | None, advice: str) -> str:
    meant = f"did you mean {_quoted(nearest)}? " if nearest is not None and nearest != got else ""
    return f"{where}: got {_quoted(got)}; {what}; {meant}{advice[0].upper() if meant else advice[0]}{advice[1:]}"


def _nearest(wanted: str, names: Sequence[str]) -> str | None:
    by_key = {name.casefold(): name for name in names}
    return next((by_key[key] for key in difflib.get_close_matches(wanted.casefold(), sorted(by_key), n=1)), None)


def _shown(names: Sequence[str]) -> str:
    distinct = sorted(set(names))
    more = f" and {len(distinct) - SHOWN} more" if len(distinct) > SHOWN else ""
    return ", ".join(distinct[:SHOWN]) + more if distinct else "none"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
