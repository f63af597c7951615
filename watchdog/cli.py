"""The command line: reads settings, starts what a command names, turns errors into exit codes.

The commands that look at a running daemon are in `looking.py`, its orders in `remote.py`, those that try timers in
`tuning.py`. A command imports what it runs, so that `watchdog --version`, `--help` and the completion of a shell load
neither the daemon nor boto3. Exit codes: 0 done, 1 found a fault, 2 bad usage or settings, 130 interrupted.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from typing import Annotated, Any, NoReturn

import typer

from watchdog import __version__, looking, remote, tuning
from watchdog.errors import DaemonError, RecordingError, SettingsError, WatchdogError
from watchdog.options import AsJson
from watchdog.shell import Command, Group

EXIT_FAULT = 1
EXIT_USAGE = 2

app = typer.Typer(
    name="watchdog",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its listings of local variables would print secrets
    context_settings={"help_option_names": ["--help", "-h"]},
)


def main() -> NoReturn:
    """Runs the command line of this process and exits with its code."""
    try:
        app(prog_name="watchdog")
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
    """Sets Amazon Connect agents Offline when their last session is gone.

    Settings are environment variables (`watchdog settings`). A running daemon is found by WATCHDOG_HOST and
    WATCHDOG_PORT, or at --url; who asks shows an admin token from WATCHDOG_ADMIN_TOKENS or --token-file.

    Exit codes: 0 done, 1 found a fault, 2 bad usage or settings, 130 interrupted by Ctrl-C.

    Examples:
      watchdog demo
      watchdog check && watchdog run
      watchdog status
      watchdog COMMAND --help
    """


def show_settings(
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show every variable, its value and where that is from.

    Secrets are not shown. Where a variable has a fault, or a required one is missing, only the faults are told;
    docs/settings.md has every variable in any case. The JSON is a list of objects with `variable`, `value`, `default`,
    `source` (`default`, `environment` or `file`) and `meaning`.

    Examples:
      watchdog settings
      watchdog settings --json | jq -r '.[].variable'
    """
    from watchdog.settings import Settings

    rows = Settings.load().describe()
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from watchdog.terminal import screen

    table = Table(title="Environment variables, each with the prefix WATCHDOG_", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("variable and meaning", ratio=1)
    table.add_column("value", overflow="fold", max_width=24)
    table.add_column("from", no_wrap=True)
    for row in rows:
        changed = row.source != "default" and row.default is not None
        meaning = f"{row.meaning} Default: {row.default}." if changed else row.meaning
        name = row.variable.removeprefix("WATCHDOG_")
        table.add_row(Text.assemble((name, "bold"), "\n", (meaning, "dim")), Text(row.value or "–"), row.source)
    screen().print(table)


def run() -> None:
    """Run the daemon until SIGTERM.

    Wrong settings stop the start with one line for each fault. Logs go to stderr, as JSON unless WATCHDOG_LOG_FORMAT
    is `console`.

    Examples:
      watchdog check && watchdog run
      WATCHDOG_DRY_RUN=true WATCHDOG_LOG_FORMAT=console watchdog run
    """
    from watchdog.settings import Settings

    settings = Settings.load()
    from watchdog.daemon import run as run_daemon

    raise SystemExit(run_daemon(settings))


def check(
    iam: Annotated[bool, typer.Option("--iam", help="Only the IAM policy that these settings need.")] = False,  # noqa: FBT002
    running: Annotated[  # noqa: FBT002
        bool, typer.Option("--running", help="A daemon with these settings runs: its store is left alone.")
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Check settings, store, credentials, permissions, and every name in the settings. Changes nothing.

    Exit code 1 with what is missing. The JSON has `ok`, `checks` (each with `what`, `instance_id`, `state`, `detail`)
    and `policies`.

    Examples:
      watchdog check
      watchdog check --running
      watchdog check --iam > policy.json
    """
    from watchdog.settings import Settings

    settings = Settings.load()
    from watchdog.check import run as run_check

    raise SystemExit(run_check(settings, running=running, iam=iam, as_json=as_json))


def migrate(
    source: Annotated[str, typer.Option("--from", metavar="STORE", help="What is copied.")],
    target: Annotated[str, typer.Option("--to", metavar="STORE", help="Where it goes; nothing may be there.")],
    shards: Annotated[
        int | None,
        typer.Option("--shards", metavar="N", min=1, max=1024, help="Parts on a server. Default: WATCHDOG_SHARDS."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Drop all that --to keeps.")] = False,  # noqa: FBT002
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look whether it could be done.")] = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Copy all that a store keeps into another one, while no daemon runs on either. Nobody is set by it.

    A store is a URL as in WATCHDOG_STORE, or the path of a file that has one, for URLs with a password. The daemon that
    is started on the copy goes on as after a restart.

    Examples:
      watchdog migrate --from sqlite:////data/watchdog.db --to valkey://127.0.0.1:6379/0 --dry-run
      watchdog migrate --from sqlite:////data/watchdog.db --to /run/secrets/store
      watchdog migrate --from /run/secrets/store --to sqlite:////data/watchdog.db --replace
    """
    import asyncio

    from watchdog.migration import Order, place_of, show
    from watchdog.migration import migrate as copied
    from watchdog.options import store_named
    from watchdog.settings import shards_here

    order = Order(
        place_of(store_named(source, "--from")),
        place_of(store_named(target, "--to")),
        shards_here() if shards is None else shards,
        replace,
        dry_run,
    )
    if order.is_circle:
        raise typer.BadParameter("it is the same as --from", param_hint="--to")
    found = asyncio.run(copied(order))
    if as_json:
        places = {"from": str(order.source), "to": str(order.target), "dry_run": dry_run}
        typer.echo(json.dumps({**places, **asdict(found)}, indent=2))
        return
    from watchdog.terminal import screen

    show(screen(), order, found)


def sandbox(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65_535, help="TCP port; 0 = any free one.")
    ] = 5005,
    agents: Annotated[
        int, typer.Option("--agents", metavar="N", min=0, max=10_000, help="How many agents the instance has.")
    ] = 20,
    instance_id: Annotated[
        str | None, typer.Option("--instance-id", metavar="INSTANCE-ID", help="Id of the Connect instance.")
    ] = None,
) -> None:
    """Run a stand-in of Amazon Connect, to try a daemon against.

    It prints the variables that a daemon needs for it. Nothing is called at AWS.

    Examples:
      watchdog sandbox
      watchdog sandbox --agents 500 --port 5006
    """
    _need_sandbox()
    from watchdog.sandbox.server import serve

    serve(host, port, agents, instance_id)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Stay up when the story is over.")] = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Play a story: a stand-in of Connect, the daemon, and agents who come and go.

    It takes 40 s and ends with what happened beside what should have. Exit code 1 if anything differs. With --json the
    course of the story goes to stderr.

    Examples:
      watchdog demo
      watchdog demo --keep
      watchdog demo --json | jq .ok
    """
    if keep and as_json:
        raise typer.BadParameter("is for people, and --json for programs: leave one of them out", param_hint="--keep")
    _need_sandbox()
    from watchdog.sandbox.demo import run_demo

    raise SystemExit(run_demo(keep=keep, as_json=as_json))


def _need_sandbox() -> None:
    """Ends with what to install unless everything of the extra `sandbox` is there."""
    missing = [package for package in ("moto", "flask", "flask_cors") if find_spec(package) is None]
    if missing:
        typer.echo(
            f"This command needs {' and '.join(missing)}, not installed here: "
            'in the folder of the project, pip install ".[sandbox]"',
            err=True,
        )
        raise typer.Exit(EXIT_USAGE)


def _complain(error: WatchdogError) -> None:
    """Prints an error's text on stderr."""
    typer.echo(str(error), err=True)


_START, _LOOK, _ACT, _TIMERS = "Set up and run", "Look at a running daemon", "Give it an order", "Choose timers"

_COMMANDS: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    (_START, "demo", demo),
    (_START, "sandbox", sandbox),
    (_START, "settings", show_settings),
    (_START, "check", check),
    (_START, "run", run),
    (_START, "migrate", migrate),
    (_LOOK, "status", looking.status),
    (_LOOK, "agents", looking.agents),
    (_LOOK, "agent", looking.agent),
    (_LOOK, "history", looking.history),
    (_ACT, "logout", remote.log_out),
    (_ACT, "hold", remote.hold),
    (_ACT, "release", remote.release),
    (_ACT, "restore", remote.restore),
    (_TIMERS, "simulate", tuning.simulate),
    (_TIMERS, "record", remote.record),
    (_TIMERS, "replay", tuning.replay),
)
"""In the order in which a user needs them."""

for _panel, _name, _function in _COMMANDS:
    app.command(_name, cls=Command, rich_help_panel=_panel)(_function)
