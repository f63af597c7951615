"""Decisions: for people in two lines each, with the evidence if they want it, and as rows for spreadsheets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from watchdog.screens.words import instant, local, styled, zone

COLUMNS = ("id", "at", "agent", "intent", "target", "outcome", "reason", "calls", "latency_s")
"""Of the CSV; with the evidence there is one more, as JSON."""

BATCH = 50
"""Decisions that are laid out together."""

WIDE = 114
"""Columns from which on there is room for the instance's id."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula: such a cell gets an apostrophe before it."""


def show(console: Console, actions: Iterable[Mapping[str, Any]], *, evidence: bool) -> int:
    """Prints decisions as they come.

    Returns:
        How many there were.
    """
    number = 0
    batch: list[Mapping[str, Any]] = []
    for each in actions:
        if number == 0:
            console.print(Text(f"Newest first; times are {zone()}.", "dim"))
        number += 1
        batch.append(each)
        if evidence or len(batch) == BATCH:
            console.print(_table(batch, console.width))
            batch = []
            if evidence:
                told = json.dumps(each["evidence"], indent=2, ensure_ascii=False)
                console.print(Padding(Text(told, "dim"), (0, 0, 1, 4)))
    if batch:
        console.print(_table(batch, console.width))
    return number


def write_csv(file: TextIO, actions: Iterable[Mapping[str, Any]], *, evidence: bool) -> None:
    """Writes decisions as CSV with a heading. Source: RFC 4180."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow((*COLUMNS, "evidence") if evidence else COLUMNS)
    for each in actions:
        cells = [_cell(each[name]) for name in COLUMNS]
        rows.writerow([*cells, json.dumps(each["evidence"], ensure_ascii=False)] if evidence else cells)


def _table(actions: Iterable[Mapping[str, Any]], width: int) -> Table:
    shown = Table.grid(padding=(0, 2))
    shown.add_column(no_wrap=True)
    shown.add_column(no_wrap=True, min_width=15)
    shown.add_column(ratio=1, overflow="fold")
    for each in actions:
        _, _, user_id = each["agent"].partition("/")
        done = styled(each["outcome"])
        what = Text(each["intent"], "dim").append(f" {each['target']}" if each["target"] else "")
        shown.add_row(local(instant(each["at"])), done, each["agent"] if width >= WIDE else user_id)
        shown.add_row("", "", what.append(f": {each['reason']}", "dim"))
    return shown


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
