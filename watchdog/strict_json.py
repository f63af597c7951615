"""JSON that people have written, read strictly, and the lines that tell all of its faults at once.

What a careless hand may have meant is not guessed: keys that are there twice, numbers that are none and unknown keys
are faults. What the values mean is in `ruleset.py`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from watchdog.environment import quoted

_T = TypeVar("_T")


class Object(dict[str, Any]):
    """A JSON object that remembers which of its keys were there more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        """Takes the pairs as they stand in the text."""
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.twice = {name: names.count(name) for name in names if names.count(name) > 1}


class Faults:
    """Collects the faults of one thing in `lines`, each behind its label."""

    def __init__(self, label: str) -> None:
        """Starts without faults; the label stands before each of them."""
        self._label = label
        self.lines: list[str] = []

    def add(self, text: str) -> None:
        """Remembers a fault, or several, a line each."""
        self.lines.extend(f"{self._label}{line}" for line in text.split("\n"))

    def read(self, label: str, function: Callable[[Any], _T], value: object) -> _T | None:
        """What the function makes of the value; None when it raises, which is remembered."""
        try:
            return function(value)
        except ValueError as error:
            for line in str(error).split("\n"):
                self.add(f"{label}: {line}")
            return None

    def raise_any(self) -> None:
        """Raises `ValueError` with all of them, if there are any."""
        if self.lines:
            raise ValueError("\n".join(self.lines))


def check_keys(entry: Object, known: Sequence[str], faults: Faults) -> None:
    """Remembers keys that are there more than once, and those that are not known."""
    for key, times in entry.twice.items():
        faults.add(f"{key if key in known else quoted(key)}: is there {times} times")
    for key in entry:
        if key in known:
            continue
        nearest = difflib.get_close_matches(key.casefold(), known, n=1)
        advice = f"did you mean {quoted(nearest[0])}?" if nearest else f"takes {', '.join(known)}"
        faults.add(f"{key if key.isidentifier() else quoted(key)}: is not known here; {advice}")


def shown(value: object) -> str:
    """A JSON value as one short line."""
    return quoted(value) if isinstance(value, str) else quoted(json.dumps(value))[1:-1].replace('\\"', '"')


def read(value: str) -> object:
    """Reads JSON as the standard has it, and keys that are there twice as the fault that they are."""
    if not value:
        raise ValueError("it is empty; unset it for the default")
    try:
        return json.loads(value, object_pairs_hook=Object, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("this is not JSON (nested too deeply)") from None
    except ValueError as error:
        raise ValueError(f"this is not JSON ({error})") from None


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is no number")
