"""How many of the parts each daemon of a deployment has. Pure."""

from __future__ import annotations

from collections.abc import Collection


def share(shards: int, names: Collection[str], name: str) -> int:
    """How many of so many parts one of those has: the same as each other one, or one more."""
    ordered = sorted({*names, name})
    least, more = divmod(shards, len(ordered))
    return least + (ordered.index(name) < more)
