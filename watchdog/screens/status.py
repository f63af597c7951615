"""How a daemon is: a sentence, the facts below it, and what a person has to mend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from watchdog.screens.words import BRAKE, length, many, styled

TROUBLES = "docs/troubleshooting.md"

EXPECTED = frozenset({"grace", "restart"})
"""Causes for which the clock stands as it should: clients are given time to return."""

QUIET = frozenset({"clear", "ordered", "overruled"})
"""States of the brake that are as they should be, or as an operator wants them."""

_SAMPLE = re.compile(r'^watchdog_connect_calls_total\{operation="(\w+)",result="(\w+)"\} ([\d.e+]+)$', re.MULTILINE)
_TOKENS = re.compile(r'^watchdog_connect_tokens\{operation="(\w+)"\} ([\d.e+-]+)$', re.MULTILINE)


def faults(status: Mapping[str, Any]) -> list[str]:
    """What is wrong, each in a few words; nothing if all is well."""
    found = [] if status["ready"] else [f"not ready: {status['why_not_ready']}"]
    if status["problems"]:
        found.append(many(len(status["problems"]), "problem"))
    clock, brake = status["clock"], status["brake"]
    if clock is None:
        found.append("the clock has not started")
    elif clock["standing"] is not None and clock["standing"] not in EXPECTED:
        found.append(f"the clock stands ({clock['standing']})")
    if brake["state"] not in QUIET:
        found.append(f"the brake is {brake['state']}")
    found += [f"instance {each['instance_id']} has no target" for each in status["instances"] if each["target"] is None]
    return found


def sentence(status: Mapping[str, Any]) -> str:
    """The state in a sentence, such as "412 agents present, 3 in grace, none held"."""
    agents = status["agents"]
    told = f"{many(agents['live'], 'agent')} present, {agents['grace'] or 'none'} in grace"
    if agents["due"]:
        told += f", {agents['due']} due"
    return f"{told}, {agents['held'] or 'none'} held."


def show(console: Console, status: Mapping[str, Any], metrics: str, url: str) -> None:
    """Prints everything.

    Args:
        console: To print on.
        status: The answer of `/v1/status`.
        metrics: The answer of `/metrics`; empty if it was not given.
        url: Where the daemon is.
    """
    wrong = faults(status)
    console.print(Text(f"watchdog {status['version']} at {url}, up {length(status['uptime_s'])}", "dim"))
    console.print()
    told = Text("All is well: ", "bold green") if not wrong else Text(f"{_upper('; '.join(wrong))}. ", "bold red")
    console.print(told + Text(_upper(sentence(status)) if wrong else sentence(status), "bold"))
    if status["dry_run"]:
        console.print(
            Text("Dry run: everything is decided and recorded, nothing is written to Connect.", "bold yellow")
        )
    console.print()
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(ratio=1, overflow="fold")
    for name, value in _facts(status, metrics):
        table.add_row(f"  {name}", value)
    console.print(table)
    for number, problem in enumerate(status["problems"], 1):
        console.print()
        since = max(0.0, status["started_at"] + status["uptime_s"] - problem["since"])
        console.print(Text.assemble((f"{number}. {problem['code']}", "bold red"), f", for {length(round(since))}"))
        console.print(Padding(Text(problem["detail"]), (0, 0, 0, 3)))
        console.print(Padding(Text(f"{TROUBLES}#{problem['code']}", "dim"), (0, 0, 0, 3)))


def _facts(status: Mapping[str, Any], metrics: str) -> Iterator[tuple[str, RenderableType]]:
    counts = [Text(f"{number:,} ").append_text(styled(state)) for state, number in status["agents"].items()]
    yield "Agents", Text(", ").join([*counts, Text(many(status["sessions"], "session"))])
    waiting = many(status["backlog"], "agent")
    yield "Backlog", f"{waiting} due" if status["backlog"] else "nobody is due"
    yield "Brake", _brake(status["brake"])
    yield "Clock", _clock(status["clock"])
    yield "Quota", _quota(status.get("quota"), metrics)
    if status["canary"] is not None:
        canary = status["canary"]
        yield "Canary", f"{canary['state']}, last success {length(canary['last_success_s_ago'])} ago"
    if status["reconcile"] is not None:
        reconcile = status["reconcile"]
        yield "Reconcile", f"{reconcile['mode']}; {many(reconcile['unseen'], 'agent')} could get contacts unheard"
    flush, store = status["flush"], status["store"]
    took = f"last flush {flush['last_s'] * 1000:.1f} ms{'' if flush['ok'] else ', failed'}"
    yield "Store", f"{store['kind']}, {'up' if store['up'] else 'down'}, {took}, {flush['waiting']} waiting"
    if status.get("replicas"):
        yield "Replicas", Group(*(_replica(each) for each in status["replicas"]))
    targets = [Text(f"{each['instance_id']}: ").append(*_target(each)) for each in status["instances"]]
    yield "Targets", Group(*targets)
    timers = status["timers"]
    lease = f"{timers['session_ttl_s']:g} s ({timers['throttled_session_ttl_s']:g} s throttled)"
    ends = f"timer {timers['session_end_timer_s']:g} s, heartbeat {timers['heartbeat_interval_s']:g} s"
    yield "Timers", f"{ends}, lease {lease}, grace {timers['resume_grace_s']:g} s"


def _replica(replica: Mapping[str, Any]) -> Text:
    """One daemon of several: which parts it has, and how it does."""
    parts = ", ".join(str(number) for number in replica["parts"]) or "none"
    told = Text(f"{replica['boot'][:8]}: parts {parts}; {many(replica['agents'], 'agent')}")
    told.append(", keeps the clock" if replica["keeper"] else "").append(", this one" if replica["here"] else "")
    if replica["blind"] is not None:
        told.append(f", stops the clock ({replica['blind']})", "bold red")
    return told


def _target(instance: Mapping[str, Any]) -> tuple[str, str]:
    target = instance["target"]
    return (str(instance["why"]), "red") if target is None else (str(target["name"] or target["status_id"]), "")


def _brake(brake: Mapping[str, Any]) -> RenderableType:
    style = "" if brake["state"] in QUIET else "bold magenta"
    first = Text(BRAKE.get(brake["state"], brake["state"]), style)
    first.append(f", {many(brake['held'], 'agent')} held" if brake["held"] or brake["holds"] else "")
    holds = [
        Text(
            f"{each['group']}: {BRAKE.get(each['state'], each['state'])} for {length(each['age_s'])}, "
            f"{each['agents']} held. {each['why']} "
            f"{each['next_step']}" + (f" By {each['by']}." if each.get("by") else "")
        )
        for each in brake["holds"]
    ]
    return Group(first, *holds)


def _clock(clock: Mapping[str, Any] | None) -> Text:
    if clock is None:
        return Text("has not started", "red")
    if clock["standing"] is None:
        told = Text("runs")
    else:
        told = Text(f"stands: {clock['standing']}", "yellow" if clock["standing"] in EXPECTED else "bold red")
        if clock["grace_left_s"]:
            told.append(f", {length(clock['grace_left_s'])} of grace left")
    stood = [f"{cause} {length(s)}" for cause, s in clock["stopped_s"].items() if s >= 0.1]  # noqa: PLR2004
    return told.append(f"; stood since the start: {', '.join(stood)}" if stood else "; never stood since the start")


def _quota(quota: Mapping[str, Any] | None, metrics: str) -> RenderableType:
    """The share that is taken, and what was called so far."""
    lines = []
    if quota is not None:
        lines.append(Text(f"{quota['share']:.0%} of {quota['rate']:g} calls/s, burst {quota['burst']:g}"))
    calls: dict[str, dict[str, float]] = {}
    for operation, result, number in _SAMPLE.findall(metrics):
        if float(number):
            calls.setdefault(operation, {})[result] = float(number)
    tokens = {operation: float(left) for operation, left in _TOKENS.findall(metrics)}
    for operation, results in calls.items():
        told = Text(f"{operation}: {many(round(sum(results.values())), 'call')}")
        for result in sorted(results.keys() - {"ok"}):
            told.append(f", {results[result]:,.0f} {result}", "yellow")
        lines.append(told.append(f", {tokens.get(operation, 0.0):.1f} tokens left after the last"))
    return Group(*lines) if lines else Text("nothing has been called yet" if metrics else "/metrics tells")


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
