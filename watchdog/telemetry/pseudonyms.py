"""Who gave an order, without a person's name: for what leaves the daemon to places that its operators do not watch."""

import hashlib
from collections.abc import Mapping


def pseudonym(by: str) -> str:
    """Of a JWT's subject, which may be a person's name, the beginning of its SHA-256; anything else as it is."""
    kind, _, subject = by.partition(":")
    return by if kind != "jwt" else f"jwt:{hashlib.sha256(subject.encode()).hexdigest()[:8]}"


def without_names(evidence: Mapping[str, object]) -> dict[str, object]:
    """The evidence of an action, with every `by` shortened."""
    return {name: _shortened(name, value) for name, value in evidence.items()}


def _shortened(name: str, value: object) -> object:
    if name == "by" and isinstance(value, str):
        return pseudonym(value)
    return without_names(value) if isinstance(value, Mapping) else value
