"""Agents as a table, and one agent with its sessions and its timeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from watchdog.screens.words import about, ago, instant, length, local, many, of_one_instance, sessions, styled, zone

WIDE = 100
"""Columns from which on a table has room for the last outcome."""

WIDER = 120
"""Columns from which on it has room for the routing profile, too."""

HEADS = ("state", "sessions", "due in", "last seen", "last outcome", "routing profile")
"""Of a table's columns, behind the agent's name."""

NUMBERS = frozenset({"due in", "last seen"})
"""Columns that end at the same place."""

BATCH = 50
"""Agents that are laid out together."""


def now() -> datetime:
    """By this machine's clock, against which the daemon's instants are shown."""
    return datetime.now(UTC)


def table(agents: Sequence[Mapping[str, Any]], at: datetime, width: int) -> Table:
    """Agents side by side.

    Args:
        agents: Of the API.
        at: Now.
        width: Of the terminal, in columns.
    """
    return next(tables(agents, at, width, len(agents)))


def tables(agents: Sequence[Mapping[str, Any]], at: datetime, width: int, batch: int = BATCH) -> Iterator[Table]:
    """The same in pieces that look like one: a table is laid out as a whole, and a large one for a minute."""
    heads = ["user" if of_one_instance(agents) else "instance and user", *HEADS]
    heads = heads[: len(heads) - 2 + (width >= WIDE) + (width >= WIDER)]
    rows = [_cells(each, at, alone=of_one_instance(agents))[: len(heads)] for each in agents]
    columns = zip(*rows, strict=True) if rows else [()] * len(heads)
    widths = [
        max(cell_len(head), *(cell_len(line) for cell in cells for line in cell.plain.split("\n")), 0)
        for head, cells in zip(heads, columns, strict=True)
    ]
    for begin in range(0, max(1, len(rows)), max(1, batch)):
        shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, show_header=begin == 0)
        shown.add_column(heads[0], overflow="fold", min_width=max(36, widths[0]))
        for head, wide in zip(heads[1:], widths[1:], strict=True):
            # Names of profiles can be long, and are cut where the terminal ends.
            fixed = None if head == "routing profile" else wide
            shown.add_column(head, no_wrap=True, width=fixed, justify="right" if head in NUMBERS else "left")
        for row in rows[begin : begin + max(1, batch)]:
            shown.add_row(*row)
        yield shown


def _cells(agent: Mapping[str, Any], at: datetime, *, alone: bool) -> list[Text]:
    due = "–" if agent["due_in_s"] is None else length(max(0.0, round(agent["due_in_s"])))
    return [
        Text(agent["user_id"] if alone else f"{agent['instance_id']}/\n{agent['user_id']}"),
        styled(agent["state"]),
        Text(sessions(agent)),
        Text(due),
        Text(about(agent["last_seen"], at)),
        styled(agent["last_outcome"]),
        Text(agent["profile"] or "–"),
    ]


def heading(agents: Sequence[Mapping[str, Any]]) -> Text:
    """Says of which instance they are, where the table does not."""
    if agents and of_one_instance(agents):
        return Text(f"Instance {agents[0]['instance_id']}", "dim")
    return Text(many(len({each["instance_id"] for each in agents}), "instance"), "dim")


def show_one(console: Console, agent: Mapping[str, Any], actions: Sequence[Mapping[str, Any]], at: datetime) -> None:
    """Prints one agent.

    Args:
        console: To print on.
        agent: Of the API.
        actions: The agent's newest ones, newest first.
        at: Now.
    """
    console.print(Text.assemble((f"{agent['instance_id']}/{agent['user_id']}", "bold")), soft_wrap=True)
    told = Text.assemble(("state ", "dim"), styled(agent["state"]))
    if agent["due_in_s"] is not None:
        told.append(f", due in {length(max(0.0, agent['due_in_s']))} unless heard")
    told.append(f", last heartbeat {ago(agent['last_seen'], at)}")
    if agent["last_outcome"] is not None:
        told.append(", last outcome ").append_text(styled(agent["last_outcome"]))
    if agent["profile"] is not None:
        told.append(", routing profile ", "dim").append(agent["profile"])
    console.print(told)
    console.print()
    if agent["sessions"]:
        shown = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in ("session", "lease", "visibility", "driver"):
            shown.add_column(name, no_wrap=True)
        for each in agent["sessions"]:
            left = each["expires_in_s"]
            lease = f"{length(left)} left" if left > 0 else f"over for {length(-left)}"
            shown.add_row(
                each["session_id"], Text(lease, "" if left > 0 else "dim"), each["visibility"], each["driver"]
            )
        console.print(shown)
    else:
        console.print("No session is open.")
    console.print()
    if not actions:
        console.print("Nothing was ever decided about this agent, as far as the history goes back.")
        return
    console.print(Text(f"Timeline ({zone()})", "bold"))
    line = Table.grid(padding=(0, 2))
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1, overflow="fold")
    for each in reversed(actions):
        what = Text(f"{each['intent']}{' ' if each['target'] else ''}{each['target']}\n")
        line.add_row(local(instant(each["at"])), styled(each["outcome"]), what.append(each["reason"], "dim"))
    console.print(line)
