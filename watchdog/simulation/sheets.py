"""What the comparisons found, as tables of text: for the terminal and for the HTML report alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from watchdog.simulation.loss import Channel, Timing, compute
from watchdog.simulation.player import Figures
from watchdog.simulation.retries import HELLO, ONE_HELLO, HelloRule

MILLION = 1e6

BURSTS_S = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0)
LOADS_S = (1.0, 2.0, 3.0, 3.5, 4.0, 5.0)
HELLOS = (HELLO, HelloRule(1.0, 5), HelloRule(1.5, 4), ONE_HELLO)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table.

    Attributes:
        title: What it shows.
        headings: Of the columns; the first names the row.
        rows: As many cells each.
        note: What the columns mean, in one paragraph.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def quantile(values: list[float], part: float) -> float:
    """The value below which this part of them is; 0 without values."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 0.0


def pair(figures: Figures) -> str:
    """The settings of a row."""
    return f"{figures.timer_s:g} / {figures.ttl_s:g} s"


def of_figures(title: str, found: list[Figures], agent_hours: float, excused: str, note: str) -> Sheet:
    """The settings side by side.

    Args:
        title: What was played.
        found: One for each pair of settings.
        agent_hours: That were played.
        excused: What the mistakes are called that are not the timers' fault.
        note: Said of the day or the recording.
    """
    told: list[tuple[str, Callable[[Figures], str]]] = [
        ("false Offlines", lambda each: str(each.false)),
        ("per 10⁶ agent-hours", lambda each: rate(each.false / agent_hours if agent_hours else 0.0)),
        ("the same, computed", lambda each: "–" if each.computed is None else rate(each.computed)),
        (excused, lambda each: str(each.excused)),
        ("found, half", lambda each: _found(each, 0.5)),
        ("found, 99 %", lambda each: _found(each, 0.99)),
        ("ghost-seconds", lambda each: f"{each.ghost_s:.0f}"),
        ("Connect, writes", lambda each: str(each.writes)),
        ("Connect, reads", lambda each: str(each.reads)),
        ("time to drain", lambda each: f"{each.drain_s:.0f} s"),
    ]
    if all(each.computed is None for each in found):
        del told[2]
    rows = tuple((name, *map(cell, found)) for name, cell in told)
    return Sheet(title, ("timer / TTL", *map(pair, found)), rows, note)


def of_loss(loss: float, timing: Timing) -> list[Sheet]:
    """How the computed number comes about, and what it does not cover."""
    rates = compute(Channel(loss), timing)
    asked = f"loss {loss:.3g}, timer {timing.timer_s:g} s, TTL {timing.ttl_s:g} s, beat each {timing.interval_s:g} s"
    chains = Sheet(
        f"False Offlines per 10⁶ agent-hours by loss alone: {asked}",
        ("chain of losses", "per 10⁶ h"),
        (
            ("beats and retries, until lease and timer are over", rate(rates.beats)),
            ("after a bye, the hellos of the page that was reloaded", rate(rates.reloads)),
            ("the same after a bye that was lost", rate(rates.lost_byes)),
            ("together", rate(rates.total)),
            ("in hours in which the page is hidden and has no worker", rate(rates.throttled)),
        ),
        f"Each request is lost for itself. {timing.reloads_per_hour:g} reloads an hour, of "
        f"{timing.load_s[0]:g} to {timing.load_s[1]:g} s.",
    )
    hellos = Sheet(
        "The same, by how a page sends its first message",
        ("hello", "per 10⁶ h"),
        tuple((_hello(rule), rate(compute(Channel(loss), replace(timing, hello=rule)).total)) for rule in HELLOS),
    )
    loads = Sheet(
        "The same, by how long a page loads",
        ("from bye to hello", "per 10⁶ h"),
        tuple(
            (f"{load:g} s", rate(compute(Channel(loss), replace(timing, load_s=(load, load))).total))
            for load in LOADS_S
        ),
        "What comes near the timer needs a longer timer, whatever the loss.",
    )
    bursts = Sheet(
        "The same, if losses come in bursts: not covered by the promise",
        ("mean length of a burst", "per 10⁶ h"),
        tuple(
            (f"{burst:g} s" if burst else "no bursts", rate(compute(Channel(loss, burst), timing).total))
            for burst in BURSTS_S
        ),
        "The same part of the requests is lost, in times in which none passes. The brake holds agents who fall silent "
        "together; one agent's own outage needs a longer TTL or timer.",
    )
    return [chains, hellos, loads, bursts]


def rate(per_hour: float) -> str:
    """Of an agent-hour, told for a million of them."""
    per_million = per_hour * MILLION
    if not per_million:
        return "0"
    return f"{per_million:,.0f}" if per_million >= 100 else f"{per_million:.2g}"


def as_values(figures: Figures) -> dict[str, Any]:
    """What one pair of settings does, as numbers; the times until an agent was found as three of their quantiles."""
    found = asdict(figures)
    times: list[float] = found.pop("detection_s")
    of_times = {f"detection_s_p{part:g}": round(quantile(times, part / 100), 3) for part in (50, 99, 100) if times}
    return {name: round(value, 9) if isinstance(value, float) else value for name, value in found.items()} | of_times


def show(
    sheets: list[Sheet], console: Console, *, as_json: bool = False, figures: Sequence[dict[str, Any]] = ()
) -> None:
    """Prints tables.

    Args:
        sheets: To print.
        console: To print on.
        as_json: Print JSON in place of tables.
        figures: The numbers, for JSON.
    """
    if as_json:
        told = {"figures": figures, "tables": [asdict(sheet) for sheet in sheets]}
        console.print(json.dumps(told, indent=2, ensure_ascii=False), soft_wrap=True)
        return
    for sheet in sheets:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for number, heading in enumerate(sheet.headings):
            table.add_column(heading, justify="right" if number else "left")
        for row in sheet.rows:
            table.add_row(*row)
        # A title of the table itself would be folded to its width.
        console.print(sheet.title, style="italic")
        console.print(table)
        if sheet.note:
            console.print(sheet.note)
            console.print()


def _found(figures: Figures, part: float) -> str:
    return f"{quantile(figures.detection_s, part):.0f} s" if figures.detection_s else "–"


def _hello(rule: HelloRule) -> str:
    return f"each {rule.every_s:g} s, {rule.copies} times" if rule.copies > 1 else "as a beat: once in 5 to 7 s"
