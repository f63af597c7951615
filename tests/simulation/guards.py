"""The guards of the real code, each with a way to take it out."""

from __future__ import annotations

from watchdog.connect import dispatcher
from watchdog.connect.readback import ReadBack
from watchdog.connect.verdict import Settle
from watchdog.core import clock, deadline
from watchdog.core.model import Outcome, Standing
from watchdog.stores.sqlite import SqliteStore
from watchdog.stores.tokens import TokenBuckets

judge = deadline.judge


async def always(*_args):
    return Standing.GONE


async def at_once(self, case, target, before):
    return Settle(Outcome.CONFIRMED, "not read back")


GUARDS = {
    "clock cap": (clock, "MAX_STEP_S", float("inf")),
    "resume grace": (clock, "_grace", lambda gap_s, rules: 0.0),
    "due wait for grace": (dispatcher, "gives_grace", lambda clock: False),
    "tombstone": (deadline, "judge", lambda *a, closed, **k: judge(*a, closed=False, **k)),
    "seq": (deadline, "judge", lambda beat, incarnation, seq, **k: judge(beat, incarnation, None, **k)),
    "re-check": (SqliteStore, "still_gone", always),
    "read-back": (ReadBack, "confirm", at_once),
    "limiter": (TokenBuckets, "take", lambda *_args: 0.0),
}
