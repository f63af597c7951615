"""Commands that try timers: on a described day, on a recorded one, and in random worlds.

Each imports what it runs, as in `cli.py`.
"""

from pathlib import Path
from typing import Annotated

import typer

from watchdog.options import MAX_S, AsJson, Html

_CHECK, _COMPARE = "Checking the promises", "Comparing timers"


def simulate(
    context: typer.Context,
    agents: Annotated[
        int,
        typer.Option("--agents", metavar="N", min=1, max=100_000, help="How many agents.", rich_help_panel=_COMPARE),
    ] = 1_000,
    hours: Annotated[
        float,
        typer.Option("--hours", metavar="H", min=0.1, max=100, help="How long they work.", rich_help_panel=_COMPARE),
    ] = 8.0,
    loss: Annotated[
        float,
        typer.Option(
            "--loss",
            metavar="PART",
            min=0,
            max=0.9,
            help="Part of the requests that is lost.",
            rich_help_panel=_COMPARE,
        ),
    ] = 0.01,
    session_end_timer: Annotated[
        float,
        typer.Option(
            "--session-end-timer",
            metavar="SECONDS",
            min=0,
            max=MAX_S,
            help="This SESSION_END_TIMER and others.",
            rich_help_panel=_COMPARE,
        ),
    ] = 5.0,
    session_ttl: Annotated[
        float,
        typer.Option(
            "--session-ttl",
            metavar="SECONDS",
            min=1,
            max=MAX_S,
            help="This SESSION_TTL and others.",
            rich_help_panel=_COMPARE,
        ),
    ] = 35.0,
    heartbeat_interval: Annotated[
        float,
        typer.Option(
            "--heartbeat-interval",
            metavar="SECONDS",
            min=1,
            max=3_600,
            help="HEARTBEAT_INTERVAL.",
            rich_help_panel=_COMPARE,
        ),
    ] = 10.0,
    connect_rate: Annotated[
        float,
        typer.Option(
            "--connect-rate", metavar="RATE", min=0.1, max=10_000, help="CONNECT_RATE.", rich_help_panel=_COMPARE
        ),
    ] = 2.0,
    explain: Annotated[  # noqa: FBT002  # typer makes a flag of it
        bool, typer.Option("--explain", help="Only what lost requests cost, computed.", rich_help_panel=_COMPARE)
    ] = False,
    html: Html = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", metavar="N", min=1, help="Check so many random worlds.", rich_help_panel=_CHECK),
    ] = None,
    first: Annotated[
        int, typer.Option("--from", metavar="SEED", min=0, help="The first seed.", rich_help_panel=_CHECK)
    ] = 0,
    check: Annotated[  # noqa: FBT002
        bool, typer.Option("--check", help="Check the invariants; 10 worlds without --seeds.", rich_help_panel=_CHECK)
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", metavar="N", min=1, help="Processes side by side; one on each core.", rich_help_panel=_CHECK
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="SEED",
            min=0,
            help="With --check: replay one world, with its transcript. Without: another day to compare on.",
        ),
    ] = None,
    replicas: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--replicas", help="With --seeds or --check: worlds of 2 to 4 daemons over Valkey.", rich_help_panel=_CHECK
        ),
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Try timers on a described workload, or check the daemon's promises in random worlds.

    Without --seeds and --check, several timers are compared on one working day. Nothing is called at AWS and no daemon
    is needed. Exit code 1 when a promise was not kept.

    Examples:
      watchdog simulate --agents 500 --session-end-timer 5 --html report.html
      watchdog simulate --explain --loss 0.05
      watchdog simulate --seeds 100
      watchdog simulate --check --seed 17
      watchdog simulate --replicas --seeds 100
    """
    if seed is not None and seeds is not None:
        raise typer.BadParameter("names one world, and --seeds many: leave one of them out", param_hint="--seed")
    if seed is not None and check:
        _takes_only(context, "replays one world", "seed", "check", "replicas")
        from watchdog.simulation.check import replay as replay_world

        raise SystemExit(replay_world(seed, replicas=replicas))
    if seeds is not None or check:
        _takes_only(context, "checks random worlds", "seeds", "first", "check", "jobs", "as_json", "replicas")
        from watchdog.simulation.check import check as check_worlds

        raise SystemExit(check_worlds(first, seeds or 10, jobs, as_json=as_json, replicas=replicas))
    timers = ("loss", "session_end_timer", "session_ttl", "heartbeat_interval")
    if explain:
        _takes_only(context, "computes what loss costs", "explain", "as_json", *timers)
    else:
        _takes_only(context, "compares timers", "agents", "hours", "connect_rate", "seed", "html", "as_json", *timers)
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
        as_json=as_json,
    )


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `watchdog record` wrote.")],
    session_end_timer: Annotated[
        float | None,
        typer.Option(
            "--session-end-timer",
            metavar="SECONDS",
            min=0,
            max=MAX_S,
            help="This SESSION_END_TIMER and others; by default the recorded one.",
        ),
    ] = None,
    session_ttl: Annotated[
        float | None,
        typer.Option(
            "--session-ttl",
            metavar="SECONDS",
            min=1,
            max=MAX_S,
            help="This SESSION_TTL and others; by default the recorded one.",
        ),
    ] = None,
    connect_rate: Annotated[
        float | None,
        typer.Option(
            "--connect-rate", metavar="RATE", min=0.1, max=10_000, help="CONNECT_RATE; by default the recorded one."
        ),
    ] = None,
    html: Html = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Try timers on a recording: who would have been set and was there after all, and how soon the others.

    Several timers are compared. Nothing is called at AWS and no daemon is needed. Exit code 2 for a file that is no
    recording, is damaged or was cut off.

    Examples:
      watchdog replay monday.jsonl
      watchdog replay monday.jsonl --session-end-timer 15 --html monday.html
    """
    from watchdog.simulation.replay import run as run_replay

    run_replay(file, session_end_timer, session_ttl, connect_rate, html, as_json=as_json)


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
