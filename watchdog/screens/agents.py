"""Agents as a table, and one agent with its sessions and its timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from watchdog.screens.words import ago, instant, length, local, many, of_one_instance, sessions, styled, zone

WIDE = 100
"""Columns from which on a table has room for the last outcome."""

WIDER = 120
"""Columns from which on it has room for the routing profile, too."""


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
    alone = of_one_instance(agents)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shown.add_column("user" if alone else "instance and user", overflow="fold", min_width=36)
    shown.add_column("state", no_wrap=True)
    shown.add_column("sessions", no_wrap=True)
    shown.add_column("due in", no_wrap=True, justify="right")
    shown.add_column("last seen", no_wrap=True, justify="right")
    if width >= WIDE:
        shown.add_column("last outcome", no_wrap=True)
    if width >= WIDER:
        shown.add_column("routing profile", no_wrap=True, overflow="ellipsis")
    for each in agents:
        name = each["user_id"] if alone else f"{each['instance_id']}/\n{each['user_id']}"
        due = "–" if each["due_in_s"] is None else length(max(0.0, round(each["due_in_s"])))
        cells = [name, styled(each["state"]), sessions(each), due, ago(each["last_seen"], at)]
        more = [styled(each["last_outcome"]), Text(each["profile"] or "–")]
        shown.add_row(*cells, *more[: (width >= WIDE) + (width >= WIDER)])
    return shown


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
