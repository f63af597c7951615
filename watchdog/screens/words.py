"""Words and colours that the screens share: states, outcomes, lengths of time, instants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

STYLES = {
    "live": "green",
    "grace": "yellow",
    "due": "yellow",
    "held": "magenta",
    "away": "cyan",
    "gone": "dim",
    "confirmed": "green",
    "next_status": "green",
    "already": "green",
    "returned": "cyan",
    "witnessed": "cyan",
    "released": "magenta",
    "unseen": "yellow",
    "no_such_user": "yellow",
    "failed": "bold red",
}
"""By state or outcome; any other is plain."""

BRAKE = {"ordered": "held by an operator", "overruled": "released by an operator"}
"""What states of the brake are called; any other is its own word."""

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0


def length(seconds: float) -> str:
    """A length of time in two units at most: `35 s`, `2 min 5 s`, `3 h 12 min`, `4 d 2 h`."""
    if seconds < MINUTE_S:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.1f} s"  # noqa: PLR2004
    whole = round(seconds)
    for unit, size, lesser, lesser_size in (("d", DAY_S, "h", HOUR_S), ("h", HOUR_S, "min", MINUTE_S)):
        if whole >= size:
            rest = int(whole % size // lesser_size)
            return f"{int(whole // size)} {unit} {rest} {lesser}" if rest else f"{int(whole // size)} {unit}"
    return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"


def styled(word: str | None) -> Text:
    """A state or an outcome in its colour."""
    return Text(word or "–", STYLES.get(word or "", ""))


def instant(rfc3339: str) -> datetime:
    """An instant of the API."""
    return datetime.fromisoformat(rfc3339)


def local(at: datetime) -> str:
    """An instant by this machine's clock on the wall."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def zone() -> str:
    """What `local` is in."""
    return f"{datetime.now().astimezone():%Z}"


def ago(rfc3339: str | None, now: datetime) -> str:
    """How long before now an instant of the API was."""
    if rfc3339 is None:
        return "never"
    return f"{length(max(0.0, round((now - instant(rfc3339)).total_seconds())))} ago"


def about(rfc3339: str | None, now: datetime) -> str:
    """The same in one unit, for a narrow column: `4 min ago`."""
    return ago(rfc3339, now) if rfc3339 is None else f"{' '.join(ago(rfc3339, now).split()[:2])} ago"


def many(number: int, one: str, more: str = "") -> str:
    """A number and its noun: `no agents`, `1 agent`, `2,000 agents`."""
    if number == 1:
        return f"1 {one}"
    return f"{number:,}" * (number > 0) + "no" * (not number) + f" {more or one + 's'}"


def sessions(agent: Mapping[str, Any]) -> str:
    """How many sessions an agent has, and how many of them are hidden; those that are over are not counted."""
    living = [each for each in agent["sessions"] if each["expires_in_s"] > 0]
    hidden = sum(each["visibility"] == "hidden" for each in living)
    return f"{len(living)} ({hidden} hidden)" if hidden else f"{len(living)}"


def of_one_instance(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all agents are of the same instance, which need not be told of each."""
    return len({each["instance_id"] for each in entries}) <= 1
