"""From environment variables to raw strings: the prefix, secrets from files, unknown names, the form of a fault.

What the variables are, what they mean and which values they take is in `settings.py`. Nothing here interprets a
value, and no value of a secret leaves it except to be validated.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PREFIX = "WATCHDOG_"
"""What the name of each variable begins with."""

FILE_SUFFIX = "_FILE"
"""Behind a secret's name: the variable that holds the path of a file with its value."""

FILE_LIMIT = 65_536
"""Bytes read of a secret's file at most. A thousand tokens of 64 characters fit in."""

SHOWN_LIMIT = 100
"""Characters of a bad value that a fault repeats at most, so that a line stays a line."""

Source = Literal["default", "environment", "file"]
"""Where a value is from."""

_NOT_OURS = re.compile(
    r"""(?x) ^WATCHDOG_ (?:
        USEC | PID                                              # systemd, for units with WatchdogSec=
      | SERVICE_(?:HOST|PORT(?:_\w+)?)                          # Kubernetes, in pods beside a Service `watchdog`
      | PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?      # the same
    )$"""
)
"""Names that others set under our prefix. Source: sd_watchdog_enabled(3); Kubernetes, "Accessing the Service"."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the environment says.

    Attributes:
        values: Raw value by setting (lower case, without prefix); only those that are set and readable.
        sources: Where each of these values is from.
        unread: Settings that are set but could not be read; each has its line in `faults`.
        faults: One line for each unknown variable and each unreadable file, by name.
    """

    values: Mapping[str, str]
    sources: Mapping[str, Source]
    unread: frozenset[str]
    faults: tuple[str, ...]


def variable(setting: str) -> str:
    """Gives the variable's name of a setting: `session_ttl` → `WATCHDOG_SESSION_TTL`."""
    return PREFIX + setting.upper()


_SECRET_PARTS = (
    # Whatever is before the last @, but a scheme: a password, also of a URL that is written in a wrong way.
    (re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL), r"\1***@"),
    # What a URL asks for.
    (re.compile(r"(/[^?]*\?).+", re.DOTALL), r"\1***"),
    # A key in the place of its file.
    (re.compile(r"(-----BEGIN [A-Z0-9 ]*-----).*", re.DOTALL), r"\1***"),
)
"""What may be secret in values that are none themselves, and what is shown in its place."""


def quoted(value: object) -> str:
    """Gives a value as one line fit for a fault: quoted, at most `SHOWN_LIMIT` long, without what may be secret."""
    text = str(value)
    for part, shown in _SECRET_PARTS:
        text = part.sub(shown, text)
    if len(text) > SHOWN_LIMIT:
        text = text[: SHOWN_LIMIT - 1] + "…"
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")


def read(environ: Mapping[str, str], settings: Mapping[str, bool]) -> Reading:
    """Collects the raw values of all settings.

    Args:
        environ: The process's environment, or any mapping in its place.
        settings: Names of all settings, each with whether it is a secret and so may come from a file.

    Returns:
        Values, where they are from, and every fault found. Values keep their form, but for the white space around
        them.
    """
    values: dict[str, str] = {}
    sources: dict[str, Source] = {}
    unread: set[str] = set()
    faults = list(_unknown(environ, settings))
    for setting, secret in settings.items():
        plain = variable(setting)
        pointer = plain + FILE_SUFFIX
        from_file = secret and pointer in environ
        if from_file and plain in environ:
            unread.add(setting)
            faults.append(f"{plain}: is set together with {pointer}; takes one of the two")
        elif from_file:
            try:
                values[setting] = content(Path(environ[pointer]))
                sources[setting] = "file"
            except ValueError as fault:
                unread.add(setting)
                # What is no path for certain may be the secret itself.
                given = environ[pointer]
                got = quoted(given) if given.startswith(("/", "./", "../", "~")) else "***"
                faults.append(f"{pointer}: got {got}; {fault}; takes the path of a file")
        elif plain in environ:
            values[setting] = environ[plain].strip()
            sources[setting] = "environment"
    return Reading(values, sources, frozenset(unread), tuple(faults))


def _unknown(environ: Mapping[str, str], settings: Mapping[str, bool]) -> Iterator[str]:
    """Yields a fault for each variable under our prefix that is neither ours nor known to be set by others."""
    known = {setting.upper() for setting in settings}
    known |= {setting.upper() + FILE_SUFFIX for setting, secret in settings.items() if secret}
    for name in sorted(environ):
        bare = name.removeprefix(PREFIX)
        if bare == name or bare in known or _NOT_OURS.match(name):
            continue
        base = bare.removesuffix(FILE_SUFFIX)
        if base in known:
            yield f"{name}: {PREFIX}{base} is no secret and cannot come from a file; set {PREFIX}{base} itself"
            continue
        nearest = difflib.get_close_matches(bare.upper(), sorted(known), n=1)
        advice = f"did you mean {PREFIX}{nearest[0]}?" if nearest else "unset it"
        yield f"{name}: is not a variable of this version; {advice}"


def content(path: Path) -> str:
    """Reads a secret's file, without white space around it.

    Raises:
        ValueError: It cannot be read, is too long, is not text or is empty; the text says which, and nothing of the
            content.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"it cannot be read ({reason})") from None
    if len(data) > FILE_LIMIT:
        raise ValueError(f"it has more than {FILE_LIMIT} bytes")
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    if not text:
        raise ValueError("it is empty")
    return text
