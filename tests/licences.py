"""`python -m tests.licences`: whether we may give out what the daemon needs, by the licences that its packages name."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

RUN = Path(__file__).parent.parent / "requirements" / "run.txt"

ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT-0",
        "MPL-2.0",  # its own files stay under it; ours do not come under it
        "PSF-2.0",
        "Unlicense",
    }
)
"""SPDX identifiers of licences that ask for no more than their text, or changes to their own files, to be passed on."""

OLDER = {
    "Apache License 2.0": "Apache-2.0",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""What packages say that name no SPDX expression."""


def named(package: metadata.PackageMetadata) -> str:
    """The licence as an SPDX expression; empty where none can be told."""
    expression: str | None = package.get("License-Expression")
    if expression:
        return expression
    text = (package.get("License") or "").strip()
    if text in ALLOWED or text in OLDER:
        return OLDER.get(text, text)
    classifiers = [each for each in package.get_all("Classifier") or [] if each.startswith("License ::")]
    # Several are a choice: of all that do not write an expression, none has several that hold together.
    return " OR ".join(OLDER.get(each, each.rpartition(" :: ")[2].replace(" ", "-")) for each in classifiers)


def allowed(expression: str) -> bool:
    """Whether an SPDX expression can be met with allowed licences alone. No exceptions (`WITH`) are taken."""
    words = re.findall(r"[()]|[^\s()]+", expression)
    if not words:
        return False
    translated = " ".join(
        {"AND": "and", "OR": "or", "(": "(", ")": ")"}.get(word, str(word in ALLOWED)) for word in words
    )
    try:
        return bool(eval(translated, {"__builtins__": {}}))  # True, False, and, or, brackets
    except SyntaxError:
        return False


def refused(lock: str) -> list[str]:
    """A line for each locked package whose licence is not allowed. Packages for other systems are not looked at."""
    lines = []
    for name in re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE):
        try:
            licence = named(metadata.metadata(name))
        except metadata.PackageNotFoundError:
            lines.append(f"{name}: it is not installed")
            continue
        if not allowed(licence):
            lines.append(f"{name}: {licence or 'it names no licence'}")
    return lines


if __name__ == "__main__":
    found = refused(RUN.read_text(encoding="utf-8"))
    for line in found:
        print(f"licence not allowed: {line}")
    sys.exit(1 if found else 0)
