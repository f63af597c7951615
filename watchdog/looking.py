"""Commands that look at a running daemon: how it is, the agents, what was decided about them.

Each imports what it runs, as in `cli.py`. How the answers are shown is in `screens/`; orders are in `remote.py`.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watchdog.core.model import AgentState, Outcome
from watchdog.options import AsJson, AsJsonLines, CaFile, TokenFile, Url, agent_named, connected, instant

if TYPE_CHECKING:
    from watchdog.asking import Daemon
    from watchdog.core.model import AgentId

EXIT_FAULT = 1

REFRESH_S = 1.0
"""Between two looks of `--watch`."""

SHOWN = 100
"""Entries that people are shown, unless they ask for more. Programs get all."""

TIMELINE = 20
"""Decisions of one agent that are shown, unless more are asked for."""

NAMED = 10
"""Routing profiles that are told to whoever named one that there is not."""

_Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="N", min=0, help=f"How many at most, 0 for all. Default: {SHOWN}; with --json or --csv all."
    ),
]
_Evidence = Annotated[bool, typer.Option("--evidence", help="Also what each decision rests on.")]


def status(
    as_json: AsJson = False,  # noqa: FBT002  # typer makes a flag of it
    url: Url = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Tell how a running daemon is: a sentence, the facts, and what a person has to mend.

    Exit code 1 when something is wrong: it is not ready, there is a problem, an instance has no status to set, the
    clock stands for a fault, or the brake holds without an operator's order.

    Examples:
      watchdog status
      watchdog status --url https://watchdog.example.com --token-file admin-token
      watchdog status --json | jq .problems
    """
    from watchdog.errors import DaemonError
    from watchdog.screens.status import faults, show

    with connected(url, token_file, ca_file) as daemon:
        found = daemon.ask("GET", "/v1/status")
        if as_json:
            _print(found)
        else:
            try:
                metrics = daemon.text("/metrics")
            except DaemonError:
                # A proxy may keep them to itself. They are of less weight than what was answered.
                metrics = ""
            from watchdog.terminal import screen

            show(screen(), found, metrics, daemon.url)
    if faults(found):
        raise typer.Exit(EXIT_FAULT)


def agents(
    state: Annotated[
        AgentState | None, typer.Option("--state", metavar="STATE", help=f"Only those: {', '.join(AgentState)}.")
    ] = None,
    q: Annotated[str, typer.Option("--q", metavar="TEXT", help="Only those whose instance or user id has this.")] = "",
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="Only those of the routing profile of this whole name.")
    ] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again each second, until Ctrl-C.")] = False,  # noqa: FBT002
    limit: _Limit = None,
    as_json: AsJsonLines = False,  # noqa: FBT002
    url: Url = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List the agents that a running daemon has heard of, with state, sessions and countdown.

    `live` has a session; `grace`: none is left and the timer runs; `due`: the timer is over; `held` by the brake;
    `away`: set by the watchdog; `gone`: nothing to do. `due in` is when the agent will be due if nothing more is
    heard. Routing profiles are as Connect has shown them last: of some agents it is not known.

    Examples:
      watchdog agents --state grace
      watchdog agents --profile "Basic Routing Profile"
      watchdog agents --q 66666666 --watch
      watchdog agents --json | jq -r .user_id
    """
    if watch and as_json:
        raise typer.BadParameter("is for people, and --json for programs: leave one of them out", param_hint="--watch")
    if watch and not sys.stdout.isatty():
        raise typer.BadParameter(
            "needs a terminal; in a container that is `docker exec -it` or `kubectl exec -it`. Else look once, "
            "without it",
            param_hint="--watch",
        )
    params = {"state": "" if state is None else state.value, "q": q, "profile": profile}
    with connected(url, token_file, ca_file) as daemon:
        if profile:
            _check_profile(daemon, profile)
        if watch:
            _watch(daemon, params)
        elif as_json:
            _print_lines(daemon.entries("/v1/agents", "agents", params, limit or None))
        else:
            _show_agents(daemon, params, SHOWN if limit is None else limit)


def agent(
    name: Annotated[
        str,
        typer.Argument(
            metavar="AGENT", help="INSTANCE-ID/USER-ID, the agent's ARN, or a part of the ids that only this one has."
        ),
    ],
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="How much of the history, newest part.")
    ] = TIMELINE,
    as_json: AsJson = False,  # noqa: FBT002
    url: Url = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show one agent: state, sessions, and the timeline of what was decided.

    With --json it is the daemon's answer, with the decisions as `actions`, newest first.

    Examples:
      watchdog agent 66666666
      watchdog agent 11111111-2222-3333-4444-555555555555/66666666-7777-8888-9999-000000000000 --json
    """
    from watchdog.screens.agents import now, show_one

    with connected(url, token_file, ca_file) as daemon:
        named = _named(daemon, name)
        found = daemon.ask("GET", f"/v1/agents/{named.instance_id}/{named.user_id}")
        at = now()
        actions = list(daemon.entries("/v1/actions", "actions", {"agent": str(named)}, limit))
    if as_json:
        _print(found | {"actions": actions})
        return
    from watchdog.terminal import screen

    show_one(screen(), found, actions, at)


def history(
    of: Annotated[
        str,
        typer.Option(
            "--agent",
            metavar="AGENT",
            help="Only of this one: INSTANCE-ID/USER-ID, the ARN, or a part of the ids that only this one has.",
        ),
    ] = "",
    outcome: Annotated[
        Outcome | None, typer.Option("--outcome", metavar="OUTCOME", help=f"Only those: {', '.join(Outcome)}.")
    ] = None,
    since: Annotated[
        str,
        typer.Option("--since", metavar="TIME", help="From then on: 15m for 15 minutes ago, or 2026-01-31T12:00:00Z."),
    ] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Up to then, in the same form.")] = "",
    limit: _Limit = None,
    evidence: _Evidence = False,  # noqa: FBT002
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a heading in place of text.")] = False,  # noqa: FBT002
    as_json: AsJsonLines = False,  # noqa: FBT002
    url: Url = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show what was decided, newest first: about whom, what became of it, and why.

    It goes back as far as WATCHDOG_HISTORY_DAYS. JSON lines always have the evidence; CSV has it, as JSON in a column
    of its own, with --evidence. A CSV cell that a spreadsheet would take for a formula has an apostrophe before it.

    Examples:
      watchdog history --since 15m
      watchdog history --outcome failed --evidence
      watchdog history --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z --csv > january.csv
    """
    if as_csv and as_json:
        raise typer.BadParameter("and --json exclude each other: leave one of them out", param_hint="--csv")
    params = {"outcome": "" if outcome is None else outcome.value}
    if since:
        params["since"] = f"{instant(since, '--since'):.3f}"
    end = instant(until, "--until") if until else None
    people = not (as_csv or as_json)
    most = (SHOWN if people else 0) if limit is None else limit
    with connected(url, token_file, ca_file) as daemon:
        params["agent"] = str(_named(daemon, of, "--agent")) if of else ""
        found: Iterator[Any] = (
            daemon.entries("/v1/actions", "actions", params, most or None)
            if end is None
            else _until(daemon.entries("/v1/actions", "actions", params, None), end, most or None)
        )
        if as_json:
            _print_lines(found)
        elif as_csv:
            from watchdog.screens.history import write_csv

            write_csv(sys.stdout, found, evidence=evidence)
        else:
            _show_history(found, most, evidence=evidence)


def _check_profile(daemon: "Daemon", name: str) -> None:
    """Refuses a name that no routing profile has, as far as the daemon knows them; a part of one is easily given."""
    known = {each for instance in daemon.ask("GET", "/v1/status")["instances"] for each in instance["profiles"]}
    if not known or name in known:
        return
    alike = sorted(known, key=lambda each: (name.casefold() not in each.casefold(), each))
    more = f" and {len(alike) - NAMED} more" if len(alike) > NAMED else ""
    raise typer.BadParameter(
        f"no routing profile has this whole name. There are: {', '.join(alike[:NAMED])}{more}.", param_hint="--profile"
    )


def _show_history(found: Iterator[Any], most: int, *, evidence: bool) -> None:
    from watchdog.screens.history import show
    from watchdog.terminal import screen

    console = screen()
    number = show(console, found, evidence=evidence)
    if not number:
        console.print("Nothing was decided, as far as the history goes back and these filters let through.")
    elif number == most:
        console.print(f"These are the newest {most}. More: --limit 0, or a narrower --since and --until.")


def _show_agents(daemon: "Daemon", params: dict[str, str], most: int) -> None:
    from watchdog.screens.agents import heading, now, tables
    from watchdog.terminal import screen, waiting

    console = screen()
    with waiting("Reading the agents…"):
        found = list(daemon.entries("/v1/agents", "agents", params, most + 1 if most else None))
    shown = found[:most] if most else found
    if not shown:
        console.print("No such agent has been heard of." if any(params.values()) else "No agent has been heard of yet.")
        return
    console.print(heading(shown))
    for piece in tables(shown, now(), console.width):
        console.print(piece)
    if len(found) > len(shown):
        console.print(f"These are the first {most}. More: --limit 0, or narrower with --state, --profile and --q.")


def _watch(daemon: "Daemon", params: dict[str, str]) -> None:
    """Shows as many agents as the terminal has room for, anew each second. A daemon that goes away is waited for."""
    import time

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from watchdog.errors import DaemonError
    from watchdog.screens.agents import now, table
    from watchdog.screens.status import faults, sentence
    from watchdog.terminal import screen

    console = screen()
    body: Any = Text("")
    # The first look fails like any other command.
    status = daemon.ask("GET", "/v1/status")
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            try:
                status = daemon.ask("GET", "/v1/status")
                room = max(1, console.height - 6)
                found = list(daemon.entries("/v1/agents", "agents", params, room + 1))
                wrong = "; ".join(faults(status))
                first = Text(f"{sentence(status)} {wrong and f'Wrong: {wrong}.'}", "bold red" if wrong else "bold")
                more = "" if len(found) <= room else " There are more: narrow them with --state, --profile and --q."
                body = Group(
                    first, Text(""), table(found[:room], now(), console.width), Text(f"Ctrl-C ends.{more}", "dim")
                )
            except DaemonError as error:
                body = Group(Text(str(error), "bold red"), Text("Asked again each second; Ctrl-C ends.", "dim"))
            live.update(body, refresh=True)
            time.sleep(REFRESH_S)


def _named(daemon: "Daemon", name: str, hint: str = "AGENT") -> "AgentId":
    """The agent that is named in full, or the only one whose ids have that part."""
    from watchdog.core.model import AgentId

    if "/" in name or not name:
        return agent_named(name, hint)
    found = list(daemon.entries("/v1/agents", "agents", {"q": name}, 2))
    if len(found) == 1:
        return AgentId(found[0]["instance_id"], found[0]["user_id"])
    if found:
        told = f"several agents have this. `watchdog agents --q {name}` lists them."
    else:
        told = "no agent that was heard of has this. `watchdog agents` lists those who were."
    raise typer.BadParameter(told, param_hint=hint)


def _until(found: Iterable[Any], end: float, most: int | None) -> Iterator[Any]:
    """Those that were not later, since the daemon has no such filter."""
    from watchdog.screens.words import instant as read

    return islice((each for each in found if read(each["at"]).timestamp() <= end), most)


def _print_lines(found: Iterable[Any]) -> None:
    for each in found:
        typer.echo(json.dumps(each, ensure_ascii=False))


def _print(answer: Any) -> None:  # noqa: ANN401  # JSON
    """Prints the daemon's answer for programs."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
