"""Measurements for people and programs: a table, JSON, and the section of docs/performance.md."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.benchmarks.results import Measurement, Result

PLAIN_WIDTH = 120
"""Columns when the output is no terminal."""

BEGIN, END = "<!-- begin: written by `make bench` -->", "<!-- end: written by `make bench` -->"

FRAME = f"""# Performance

Measured by `make bench`, which starts everything that it compares, on one machine and in one run. Everything between
the two marks is written by it; what stands outside stays.

{BEGIN}
{END}
"""


def console() -> Console:
    """For the terminal, or plain and wide when piped."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def show(out: Console, measurement: Measurement) -> None:
    """Prints one measurement."""
    table = Table(title=measurement.title, title_justify="left", box=SIMPLE_HEAD, expand=False)
    table.add_column("what")
    for name in ("value", "from – to", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note", style="dim")
    for result in measurement.results:
        style = {None: "", True: "green", False: "bold red"}[result.met]
        table.add_row(result.name, _value(result), _range(result), Text(_target(result), style), result.note)
    out.print(table)
    for remark in measurement.remarks:
        out.print(f"  {remark}", style="yellow")


def to_json(measurements: Sequence[Measurement], machine: Mapping[str, str]) -> str:
    """Everything, for programs."""
    rows: list[dict[str, Any]] = []
    for measurement in measurements:
        row = asdict(measurement)
        for shown, result in zip(row["results"], measurement.results, strict=True):
            shown["met"] = result.met
        rows.append(row)
    return json.dumps({"machine": dict(machine), "measurements": rows}, indent=2, ensure_ascii=False) + "\n"


def write(file: Path, measurements: Sequence[Measurement], machine: Mapping[str, str], date: str) -> None:
    """Replaces the section between the marks; makes the file if it is not there."""
    text = file.read_text(encoding="utf-8") if file.exists() else FRAME
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        before, after = FRAME.partition(BEGIN)[0], "\n"
    section = "\n".join(_section(measurements, machine, date))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{before}{BEGIN}\n\n{section}\n{END}{after}", encoding="utf-8")


def _section(measurements: Sequence[Measurement], machine: Mapping[str, str], date: str) -> list[str]:
    lines = [f"Measured on {date}.", "", "| Machine | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in machine.items()]
    for measurement in measurements:
        lines += ["", f"## {measurement.title}", "", "| | value | from – to | target | |", "|---|--:|--:|--:|---|"]
        lines += [
            f"| {result.name} | {_value(result)} | {_range(result)} | {_target(result)} | {result.note} |"
            for result in measurement.results
        ]
        lines += ["", measurement.method, *(f"\n{remark}" for remark in measurement.remarks)]
    return [*lines, ""]


def _value(result: Result) -> str:
    return f"{result.shown(result.value)} {result.unit}".rstrip()


def _range(result: Result) -> str:
    if result.low is None or result.high is None:
        return ""
    return f"{result.shown(result.low)} – {result.shown(result.high)}"


def _target(result: Result) -> str:
    if result.met is None:
        return ""
    sign, target = ("≥", result.at_least) if result.at_most is None else ("≤", result.at_most)
    return f"{sign} {target:,g} {result.unit}: {'met' if result.met else 'NOT MET'}"
