"""The guards of the real code: what each protects, how to take it out, and a world that then breaks a promise.

The seeds are found by `python -m tests.simulation.hunt`, which tries one after the other. They have to be found anew
whenever the worlds change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchdog.connect import dispatcher
from watchdog.connect.readback import ReadBack
from watchdog.connect.restore import Restorer
from watchdog.connect.verdict import Settle
from watchdog.core import brake, clock, deadline, evidence, undo
from watchdog.core.clock import Cause
from watchdog.core.model import Outcome, Standing
from watchdog.simulation.plan import Plan, draw, draw_replicas
from watchdog.stores import leases, table_store
from watchdog.stores.keeper import Keeper
from watchdog.stores.one_part import PartStore
from watchdog.stores.register import HEARD_S
from watchdog.stores.replica import ReplicaStore
from watchdog.stores.shared_tokens import SharedTokens
from watchdog.stores.sqlite import SqliteStore
from watchdog.stores.table_store import TableStore
from watchdog.stores.tokens import TokenBuckets

heard = undo.heard
judge = deadline.judge
lease = evidence.lease
keep = Keeper.tick
blind = Keeper._blind
report = ReplicaStore._report


@dataclass(frozen=True)
class Guard:
    """One guard.

    Attributes:
        protects: What would happen without it.
        of: Where it is.
        name: What it is called there.
        without: What takes its place.
        replicas: It is needed where there are several daemons.
    """

    protects: str
    of: Any
    name: str
    without: Any
    replicas: bool = False

    def draw(self, seed: int) -> Plan:
        """The world of a seed in which it is looked for."""
        return draw_replicas(seed) if self.replicas else draw(seed)


async def always(*_args):
    return Standing.GONE


async def at_once(self, case, job, before):
    return Settle(Outcome.CONFIRMED, "not read back")


def dated_now(age_s, ttl_s, *, clock, **facts):
    return None if lease(age_s, ttl_s, clock=clock, **facts) is None and age_s > 600 else clock + ttl_s


async def dropped_at_once(self, entries, instant):
    await keep(self, entries, instant)
    for entry in entries:
        if not entry.heard:
            await self._register.drop(entry.name, HEARD_S)


def for_ever(self, entries):
    """Stops the clock for daemons that vanish, however often."""
    cause = blind(self, entries)
    self._spent = False
    return Cause.REPLICA if cause is None and any(not entry.heard for entry in entries) else cause


async def unlimited(*_args):
    return 0.0


GUARDS = {
    "clock cap": Guard(
        "A pause counts as silence: everybody is set when the process goes on.", clock, "MAX_STEP_S", float("inf")
    ),
    "resume grace": Guard(
        "Who came back while nobody listened is set before the next retry is heard.",
        clock,
        "_grace",
        lambda gap_s, rules: 0.0,
    ),
    "wait for the grace": Guard(
        "The same for those who were due before the gap.", dispatcher, "gives_grace", lambda clock: False
    ),
    "tombstone": Guard(
        "A beat that was on its way opens a session again that has said bye.",
        deadline,
        "judge",
        lambda *a, closed, **k: judge(*a, closed=False, **k),
    ),
    "seq": Guard(
        "A repeated request keeps a ghost alive.",
        deadline,
        "judge",
        lambda beat, incarnation, seq, **k: judge(beat, incarnation, None, **k),
    ),
    "horizon": Guard("After a restart leases that went on are over.", leases, "HORIZON_MARGIN_S", float("-inf")),
    "brake": Guard(
        "Who is cut off together with many others is set.", brake, "threshold", lambda baseline, rules: 1_000_000
    ),
    "witness's date": Guard(
        "A ghost who clicked once after the last beat is spared for ever.", evidence, "lease", dated_now
    ),
    "re-check": Guard("Who comes back while the write is prepared is set.", SqliteStore, "still_gone", always),
    "read-back": Guard("A write that Connect accepted and lost is taken for done.", ReadBack, "confirm", at_once),
    "undo": Guard(
        "Who comes back while the status is being written stays Offline.", Restorer, "offer", lambda self, undos: None
    ),
    "return": Guard(
        "Who was set and is back by a new page stays Offline.",
        undo,
        "heard",
        lambda *a, loaded, **k: heard(*a, loaded=False, **k),
    ),
    "sign-out after a hold": Guard(
        "Sessions are ended of whom the brake has held by mistake.", table_store, "_released", lambda agent: False
    ),
    "limiter": Guard("More calls than Connect's quota.", TokenBuckets, "take", lambda *_args: 0.0),
    "fence": Guard(
        "Who was stopped or cut off acts on agents that others have taken over.",
        PartStore,
        "still_gone",
        TableStore.still_gone,
        replicas=True,
    ),
    "silent daemon": Guard(
        "Beats that only a stopped daemon has heard count as silence.",
        Keeper,
        "_blind",
        lambda self, entries: blind(self, [entry for entry in entries if entry.heard]),
        replicas=True,
    ),
    "wait before a drop": Guard(
        "Whose pages were with a daemon that vanished are set before they are back elsewhere.",
        Keeper,
        "tick",
        dropped_at_once,
        replicas=True,
    ),
    "limit of waiting": Guard(
        "A daemon that dies again and again stops the clock for good.", Keeper, "_blind", for_ever, replicas=True
    ),
    "blind daemon": Guard(
        "The clock goes on while a daemon cannot hand heartbeats on.",
        ReplicaStore,
        "_report",
        lambda self, cause: report(self, None),
        replicas=True,
    ),
    "shared limiter": Guard(
        "Several daemons make more calls than Connect's quota.", SharedTokens, "take", unlimited, replicas=True
    ),
}

SEEDS: dict[str, tuple[int, str]] = {
    "clock cap": (74, "early"),
    "resume grace": (72, "returned"),
    "wait for the grace": (707, "returned"),
    "tombstone": (31, "ghost"),
    "seq": (0, "ghost"),
    "horizon": (7, "early"),
    "brake": (8, "held"),
    "witness's date": (0, "ghost"),
    "re-check": (38, "held"),
    "read-back": (15, "ghost"),
    "undo": (49, "undone"),
    "return": (326, "given"),
    "sign-out after a hold": (4, "signed out"),
    "limiter": (8, "rate"),
    "fence": (25, "claim"),
    "silent daemon": (0, "early"),
    "wait before a drop": (0, "early"),
    "limit of waiting": (217, "ghost"),
    "blind daemon": (64, "present"),
    "shared limiter": (58, "rate"),
}
"""For each guard the seed, and the rule that is broken without it."""

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "simulator.md"
BEGIN, END = "<!-- guards -->\n", "<!-- end of guards -->\n"


def table() -> str:
    """The guards as they are documented."""
    rows = [
        f"| {name} | {guard.protects} | {SEEDS[name][0]}{', several daemons' * guard.replicas} | `{SEEDS[name][1]}` |\n"
        for name, guard in GUARDS.items()
        if name in SEEDS
    ]
    head = "| guard | without it | seed | rule |\n|---|---|---|---|\n"
    return BEGIN + head + "".join(rows) + END


if __name__ == "__main__":
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    DOCUMENT.write_text(before + table() + rest.partition(END)[2])
