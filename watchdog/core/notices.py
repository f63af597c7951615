"""What an agent's pages are told about a status that the watchdog has set: which sentence, and for how long.

Who is told when is the store's business; the fields are those of `model.Notice`.
"""

from __future__ import annotations

from watchdog.core.model import Notice, Running
from watchdog.core.undo import Change

NOTICE_S = 120.0
"""Running seconds after a return, or a restore, for which each reply tells of it: several intervals of a page, so that
a lost reply loses nothing."""

NEVER = Running(0.0)
"""As the end of the telling: there is nothing to be told."""

ON_RETURN = Running(float("inf"))
"""As the end of the telling: it begins with the agent's next heartbeat."""

ORDERED = "You were logged out on request."
CLOSED = "All of your pages were closed."
SILENT = "Nothing was heard from any of your pages."


def of(change: Change, *, ordered: bool) -> Notice:
    """The notice of a change.

    Args:
        change: The change.
        ordered: Somebody wanted the agent logged out.
    """
    why = ORDERED if ordered else CLOSED if change.silent_since is None else SILENT
    return Notice(change.status, change.written_at, why)


def until(running: Running) -> Running:
    """The end of a telling that begins now."""
    return Running(running + NOTICE_S)
