"""What is printed at the end: for each story what should have happened and what did, totals, and where to go next."""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from watchdog.sandbox.demo.roles import OFFLINE, Expectation, Mark, Role, Story
from watchdog.sandbox.demo.stories import group_of
from watchdog.sandbox.demo.verdict import LATER, Pause, Verdict

WIDE = 90
"""Columns from which the number of agents has room."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers of the whole demo.

    Attributes:
        heartbeats: Answered by the daemon.
        unanswered: Sent while it was dead.
        calls: That reached Connect, by operation.
        throttled: Calls that Connect refused for its quota.
        took_s: From the command to the summary.
    """

    heartbeats: int
    unanswered: int
    calls: Mapping[str, int]
    throttled: int
    took_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """An agent's role and how it ended."""

    role: Role
    verdict: Verdict


def differences(results: Iterable[Result], others: Iterable[str] = ()) -> list[str]:
    """Give a line for everything that is not as it should be: of agents, then others."""
    return [
        *(f"{each.role.name} ({each.role.story.title}): {fault}" for each in results for fault in each.verdict.faults),
        *others,
    ]


def expected(expects: Expectation) -> str:
    """Say in a few words how a story must end."""
    if expects.says or not expects.changes:
        return expects.says or "untouched"
    if len(expects.changes) == 1:
        (change,) = expects.changes
        begin = "the restart" if expects.restart else change.since
        return f"{change.what} {change.least_s:g}–{change.most_s:g} s after {begin}"
    parts = (f"{each.what} {_PLUS[each.since is Mark.BEFORE]}{each.least_s:g}" for each in expects.changes)
    return f"{', '.join(parts)} s"


_PLUS = {False: "", True: "+"}
"""Before a time that counts from the change before."""


def happened(expects: Expectation, verdicts: Sequence[Verdict]) -> str:
    """Say how it ended for the agents of a story: `after 3.1, 3.2 s` for two, `3.1, +0.2 s` for two changes of one."""
    if not all(each.times for each in verdicts):
        return ", ".join(dict.fromkeys(each.happened for each in verdicts))
    if all(len(each.times) == 1 for each in verdicts):
        return f"after {', '.join(f'{each.times[0]:.1f}' for each in verdicts)} s"
    return f"{'; '.join(', '.join(_signed(expects, each.times)) for each in verdicts)} s"


def _signed(expects: Expectation, times: Sequence[float]) -> list[str]:
    """Give one agent's times; with `+` those that count from something that has happened since the first one began."""
    marks: list[Mark | None] = [change.since for change in expects.changes]
    if expects.in_force is not None:
        marks.append(None)
    return [f"{_PLUS[mark is not marks[0]]}{time_s:.1f}" for mark, time_s in zip(marks, times, strict=False)]


def detection(results: Iterable[Result]) -> str:
    """Say how long agents who were gone stayed Available, for each way to go."""
    parts = []
    for mark in (Mark.BYE, Mark.SILENCE):
        times = sorted(
            each.verdict.times[0]
            for each in results
            for change in each.role.story.expects.changes[:1]
            if (change.what, change.since) == (OFFLINE, mark) and each.verdict.times
        )
        if times:
            parts.append(f"{times[0]:.1f} to {times[-1]:.1f} s after {mark}")
    return "; ".join(parts) or "nobody was set"


def figures(results: Sequence[Result], totals: Totals, others: Sequence[str] = ()) -> dict[str, Any]:
    """Give the summary for programs. See `show` for the arguments."""
    return {
        "ok": not differences(results, others),
        "agents": [
            {
                "agent": each.role.name,
                "story": each.role.story.title,
                "expected": expected(each.role.story.expects),
                "happened": happened(each.role.story.expects, [each.verdict]),
                "faults": list(each.verdict.faults),
            }
            for each in results
        ],
        "wrong": list(others),
        "heartbeats": totals.heartbeats,
        "unanswered": totals.unanswered,
        "calls": dict(totals.calls),
        "throttled": totals.throttled,
        "took_s": round(totals.took_s, 3),
    }


def show(
    console: Console,
    results: Sequence[Result],
    totals: Totals,
    pauses: Sequence[Pause],
    others: Sequence[str] = (),
) -> bool:
    """Print the summary.

    Args:
        console: Where.
        results: Of all agents, in order.
        totals: Of the demo.
        pauses: When the daemon's clock stood still.
        others: What went wrong apart from the agents.

    Returns:
        Whether all is as it should be.
    """
    console.print()
    console.print(_table(results, wide=console.width >= WIDE))
    console.print()
    calls = ", ".join(f"{number} {operation}" for operation, number in sorted(totals.calls.items()))
    refused = f"; {totals.throttled} refused for the quota" if totals.throttled else "; none refused for the quota"
    killed = [pause.restart_at for pause in pauses if pause.restart_at is not None]
    stood_s = sum(pause.seconds for pause in pauses if killed and pause.at > killed[0])
    facts = {
        "With +": "seconds after what came before: a change, a new page, the end of a call",
        "Heartbeats": f"{totals.heartbeats} answered, {totals.unanswered} tried while the watchdog was down",
        "Connect calls": calls + refused,
        "Set Offline": detection(results),
        "Restart": f"after kill -9 the clock stood for {stood_s:.1f} s, so that all could return" if killed else "none",
        "Took": f"{totals.took_s:.0f} s",
    }
    lines = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        lines.add_row(Text(name, "dim"), fact)
    console.print(lines)
    console.print()
    wrong = differences(results, others)
    if not wrong:
        console.print(Text(f"All {len(results)} agents as they should be.", "bold green"))
        _next(console)
        return True
    console.print(Text("Not as it should be:", "bold red"))
    for line in wrong:
        console.print(Text(f"  {line}", "red"), soft_wrap=True)
    if all(LATER in line for line in wrong):
        console.print("These are real times: a machine that is busy with something else may miss them. Try it again.")
    return False


def _table(results: Sequence[Result], *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column("", width=1)
    table.add_column("Story")
    if wide:
        table.add_column("Agents", justify="right")
    table.add_column("Should be")
    table.add_column("Was")
    stories: dict[Story, list[Verdict]] = {}
    for each in results:
        stories.setdefault(each.role.story, []).append(each.verdict)
    group = ""
    for story, verdicts in stories.items():
        if group_of(story) != group:
            group = group_of(story)
            table.add_row("", Text(group, "dim"))
        good = all(verdict.ok for verdict in verdicts)
        table.add_row(
            Text("✓", "green") if good else Text("✗", "bold red"),
            story.title,
            *((str(len(verdicts)),) if wide else ()),
            expected(story.expects),
            Text(happened(story.expects, verdicts), "" if good else "red"),
        )
    return table


def _next(console: Console) -> None:
    command = _command()
    steps = {
        f"{command} demo --keep": "the same, and it stays up: with the dashboard, and a page to open and close",
        f"{command} sandbox": "the stand-in of Connect alone; prints the variables that the daemon needs",
        "README.md": "a tour with settings of your own; then how to run it with your own instance",
        "docs/index.md": "all pages, in the order in which a new user needs them",
    }
    console.print("Next:")
    lines = Table.grid(padding=(0, 2))
    for name, text in steps.items():
        lines.add_row(Text(f"  {name}", "bold"), Text(text, "dim"))
    console.print(lines)


def _command() -> str:
    """The command as it can be typed here: by its path where the shell would not find it."""
    installed = Path(sys.executable).with_name("watchdog")
    if shutil.which("watchdog") is not None or not installed.exists():
        return "watchdog"
    here = Path.cwd()
    return str(installed.relative_to(here) if installed.is_relative_to(here) else installed)
