"""The command line: reads settings, starts what a command names, turns errors into exit codes.

The commands that ask a running daemon are in `remote.py`. A command imports what it runs, so that `watchdog --version`
loads neither the daemon nor boto3. Exit codes: 0 done, 1 found a fault, 2 bad usage or settings.
"""

import json
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from watchdog import __version__, remote
from watchdog.errors import DaemonError, RecordingError, SettingsError, WatchdogError

EXIT_FAULT = 1
EXIT_USAGE = 2
MAX_S = 86_400.0
"""Longest timers that can be tried: the longest that the daemon takes."""

app = typer.Typer(
    name="watchdog",
    help="Sets Amazon Connect agents Offline when their last session is gone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its listings of local variables would print secrets
)
app.add_typer(remote.commands)


def main() -> NoReturn:
    """Runs the command line of this process and exits with its code."""
    try:
        app()
    except (SettingsError, RecordingError) as error:
        _complain(error)
        sys.exit(EXIT_USAGE)
    except WatchdogError as error:
        _complain(error)
        sys.exit(EXIT_USAGE if isinstance(error, DaemonError) and error.usage else EXIT_FAULT)
    sys.exit(0)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  # typer hands the flag's value over
    """Prints the version and ends, if it is wanted."""
    if wanted:
        typer.echo(f"watchdog {__version__}")
        raise typer.Exit


@app.callback()
def _watchdog(
    version: Annotated[  # noqa: FBT002  # typer makes a flag of it
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Sets Amazon Connect agents Offline when their last session is gone."""


@app.command("settings")
def show_settings(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of a table.")] = False,  # noqa: FBT002
) -> None:
    """Show every variable, its value and where that is from."""
    from watchdog.settings import Settings

    rows = Settings.load().describe()
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
        return
    table = Table(title="Environment variables, each with the prefix WATCHDOG_", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("variable and meaning", ratio=1)
    table.add_column("value", overflow="fold", max_width=24)
    table.add_column("from", no_wrap=True)
    for row in rows:
        changed = row.source != "default" and row.default is not None
        meaning = f"{row.meaning} Default: {row.default}." if changed else row.meaning
        name = row.variable.removeprefix("WATCHDOG_")
        table.add_row(Text.assemble((name, "bold"), "\n", (meaning, "dim")), Text(row.value or "–"), row.source)
    Console(highlight=False).print(table)


@app.command()
def run() -> None:
    """Run the daemon until SIGTERM."""
    from watchdog.settings import Settings

    settings = Settings.load()
    from watchdog.daemon import run as run_daemon

    raise SystemExit(run_daemon(settings))


@app.command()
def check(
    iam: Annotated[bool, typer.Option("--iam", help="Only the IAM policy that these settings need.")] = False,  # noqa: FBT002
    running: Annotated[  # noqa: FBT002
        bool, typer.Option("--running", help="A daemon with these settings runs: its store is left alone.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,  # noqa: FBT002
) -> None:
    """Check settings, store, credentials, permissions, and every name in the settings. Changes nothing."""
    from watchdog.settings import Settings

    settings = Settings.load()
    from watchdog.check import run as run_check

    raise SystemExit(run_check(settings, running=running, iam=iam, as_json=as_json))


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="TCP port; 0 = any free one.")] = 5005,
    agents: Annotated[int, typer.Option(min=0, max=10_000, help="How many agents the instance has.")] = 20,
    instance_id: Annotated[str | None, typer.Option(help="Id of the Connect instance.")] = None,
) -> None:
    """Run a stand-in of Amazon Connect."""
    _need_sandbox()
    from watchdog.sandbox.server import serve

    serve(host, port, agents, instance_id)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Stay up when the story is over.")] = False,  # noqa: FBT002
) -> None:
    """Play a story: a stand-in of Connect, the daemon, and agents who come and go."""
    _need_sandbox()
    from watchdog.sandbox.demo import run_demo

    raise SystemExit(run_demo(keep=keep))


_Html = Annotated[Path | None, typer.Option("--html", help="Also write a report with plots to this file.")]


@app.command()
def simulate(
    context: typer.Context,
    seeds: Annotated[int | None, typer.Option(min=1, help="Check so many random worlds.")] = None,
    first: Annotated[int, typer.Option("--from", min=0, help="The first seed.")] = 0,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="With --check: replay one world, with its transcript. Compare: another day."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the invariants.")] = False,  # noqa: FBT002
    jobs: Annotated[int | None, typer.Option(min=1, help="Check: processes side by side; one on each core.")] = None,
    agents: Annotated[int, typer.Option(min=1, max=100_000, help="Compare: how many agents.")] = 1_000,
    hours: Annotated[float, typer.Option(min=0.1, max=100, help="Compare: how long they work.")] = 8.0,
    loss: Annotated[float, typer.Option(min=0, max=0.9, help="Compare: part of the requests that is lost.")] = 0.01,
    session_end_timer: Annotated[
        float, typer.Option(min=0, max=MAX_S, help="Compare: this SESSION_END_TIMER and others.")
    ] = 5.0,
    session_ttl: Annotated[float, typer.Option(min=1, max=MAX_S, help="Compare: this SESSION_TTL and others.")] = 35.0,
    heartbeat_interval: Annotated[float, typer.Option(min=1, max=3_600, help="Compare: HEARTBEAT_INTERVAL.")] = 10.0,
    connect_rate: Annotated[float, typer.Option(min=0.1, max=10_000, help="Compare: CONNECT_RATE.")] = 2.0,
    html: _Html = None,
    explain: Annotated[bool, typer.Option("--explain", help="Only what lost requests cost, computed.")] = False,  # noqa: FBT002
) -> None:
    """Try timers on a described workload, or check the daemon's promises in random worlds (--seeds, --check)."""
    if seed is not None and seeds is not None:
        raise typer.BadParameter("names one world, and --seeds many: leave one of them out", param_hint="--seed")
    if seed is not None and check:
        _takes_only(context, "replays one world", "seed", "check")
        from watchdog.simulation.check import replay

        raise SystemExit(replay(seed))
    if seeds is not None or check:
        _takes_only(context, "checks random worlds", "seeds", "first", "check", "jobs")
        from watchdog.simulation.check import check as check_worlds

        raise SystemExit(check_worlds(first, seeds or 10, jobs))
    timers = ("loss", "session_end_timer", "session_ttl", "heartbeat_interval")
    if explain:
        _takes_only(context, "computes what loss costs", "explain", *timers)
    else:
        _takes_only(context, "compares timers", "agents", "hours", "connect_rate", "seed", "html", *timers)
    from watchdog.simulation.compare import run as run_comparison
    from watchdog.simulation.workload import INTERVALS_IN_TTL, Workload

    if session_ttl < INTERVALS_IN_TTL * heartbeat_interval:
        raise typer.BadParameter(
            f"takes at least {INTERVALS_IN_TTL} times --heartbeat-interval, like the daemon", param_hint="--session-ttl"
        )
    run_comparison(
        Workload(
            agents=agents,
            hours=hours,
            loss=loss,
            interval_s=heartbeat_interval,
            timer_s=session_end_timer,
            ttl_s=session_ttl,
            rate=connect_rate,
            seed=seed or 0,
        ),
        html,
        explain=explain,
    )


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="What `watchdog record` wrote.")],
    session_end_timer: Annotated[
        float | None,
        typer.Option(min=0, max=MAX_S, help="This SESSION_END_TIMER and others; by default the recorded one."),
    ] = None,
    session_ttl: Annotated[
        float | None, typer.Option(min=1, max=MAX_S, help="This SESSION_TTL and others; by default the recorded one.")
    ] = None,
    connect_rate: Annotated[
        float | None, typer.Option(min=0.1, max=10_000, help="CONNECT_RATE; by default the recorded one.")
    ] = None,
    html: _Html = None,
) -> None:
    """Try timers on a recording: who would have been set and was there after all, and how soon the others."""
    from watchdog.simulation.replay import run as run_replay

    run_replay(file, session_end_timer, session_ttl, connect_rate, html)


def _takes_only(context: typer.Context, does: str, *names: str) -> None:
    """Refuses options that would change nothing in what a command now does.

    Args:
        context: Of the command.
        does: Completes "which now …".
        names: Of the parameters that it takes then.

    Raises:
        BadParameter: Another one was given.
    """
    for each in context.command.params:
        source = context.get_parameter_source(str(each.name))
        if source is not None and source.name == "COMMANDLINE" and each.name not in names:
            others = ", ".join(other.opts[0] for other in context.command.params if other.name in names)
            raise typer.BadParameter(
                f"means nothing to a command that {does}: leave it out. What it takes then: {others}.",
                param_hint=each.opts[0],
            )


def _need_sandbox() -> None:
    """Ends with what to install unless everything of the extra `sandbox` is there."""
    missing = [package for package in ("moto", "flask", "flask_cors") if find_spec(package) is None]
    if missing:
        typer.echo(
            f"This command needs {' and '.join(missing)}, not installed here: "
            'pip install "connect-presence-watchdog[sandbox]"',
            err=True,
        )
        raise typer.Exit(EXIT_USAGE)


def _complain(error: WatchdogError) -> None:
    """Prints an error's text on stderr."""
    typer.echo(str(error), err=True)
