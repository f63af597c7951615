"""Commands that ask a running daemon over HTTP, and tell people what it answered.

Each imports what it runs, as in `cli.py`, which turns errors into exit codes.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

ORDERS = {"hold": "hold", "release": "released"}
"""By the command's name, what the brake is to do."""

LOG_OUT_S = 60.0
"""Longer than the daemon takes to tell what became of a logout."""

commands = typer.Typer()

_OfInstance = Annotated[str | None, typer.Option("--instance", help="Only agents of this instance.")]
_Url = Annotated[
    str | None,
    typer.Option("--url", help="Address of the running daemon, in place of WATCHDOG_HOST and WATCHDOG_PORT."),
]
_TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="Holds an admin token, in place of WATCHDOG_ADMIN_TOKENS.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="The daemon's answer as JSON.")]


@commands.command("release", help="Let go all agents who are held, and keep the brake from holding for a time.")
@commands.command(
    "hold", help="Hold all agents who fall silent: nobody is set Offline for a time, except who said bye."
)
def order(
    context: typer.Context,
    for_: Annotated[str, typer.Option("--for", help="How long: 90s, 10m, 2h; 0 ends the order that there is.")] = "10m",
    instance: _OfInstance = None,
    reason: Annotated[str, typer.Option("--reason", help="For people who look at the status.")] = "",
    url: _Url = None,
    token_file: _TokenFile = None,
    as_json: _AsJson = False,  # noqa: FBT002
) -> None:
    """Give the brake an order, and print how it stands then."""
    body = {"state": ORDERS[str(context.command.name)], "for_s": _length(for_), "reason": reason}
    answer = _ask("PUT", url, "/v1/brake", token_file, body, instance)
    if as_json:
        _print(answer)
        return
    typer.echo(f"The brake is {answer['state']}; {answer['held']} agents are held.")
    for each in answer["holds"]:
        typer.echo(f"{each['group']}: {each['state']}, {each['agents']} held. {each['why']} {each['next_step']}")


@commands.command()
def restore(
    since: Annotated[str, typer.Option("--since", help="2026-01-31T12:00:00Z, seconds since 1970, or 15m ago as 15m.")],
    instance: _OfInstance = None,
    silent: Annotated[bool, typer.Option("--silent", help="Also agents of whom nothing is heard.")] = False,  # noqa: FBT002
    url: _Url = None,
    token_file: _TokenFile = None,
    as_json: _AsJson = False,  # noqa: FBT002
) -> None:
    """Undo what was set since then: agents who are still in that status get their former one back."""
    from watchdog.values import ago

    answer = _ask("POST", url, "/v1/restore", token_file, {"since": ago(since), "silent": silent}, instance)
    if as_json:
        _print(answer)
        return
    typer.echo(
        f"Set since {answer['since']}: {answer['queued']} agents are being restored, {answer['left']} will be when "
        f"they are heard; {answer['other']} said bye and are not there, or had a status that is not known."
    )
    typer.echo("watchdog looks at each of them first; /v1/actions tells what became of it.")


@commands.command("logout")
def log_out(
    agent: Annotated[str, typer.Argument(help="The agent: INSTANCE-ID/USER-ID, or its ARN.")],
    queue: Annotated[
        str, typer.Option("--queue", help="Id or ARN of a queue: only if it is the only one of the agent's profile.")
    ] = "",
    reason_code: Annotated[
        str, typer.Option("--reason-code", help="A code of WATCHDOG_REASON_CODES; tells which status is set.")
    ] = "",
    url: _Url = None,
    token_file: _TokenFile = None,
    as_json: _AsJson = False,  # noqa: FBT002
) -> None:
    """Log an agent out: set its status, and end all of its Connect sessions. Not while a contact goes on."""
    from watchdog.asking import ask
    from watchdog.errors import MessageError
    from watchdog.ingest.queries import read_agent
    from watchdog.settings import admin_token, daemon_url

    try:
        named = read_agent(agent)
    except MessageError:
        named = None
    if named is None:
        raise typer.BadParameter("takes INSTANCE-ID/USER-ID, or an agent's ARN", param_hint="AGENT")
    body = {"queue": queue, "reason_code": reason_code}
    path = f"/v1/agents/{named.instance_id}/{named.user_id}/logout"
    found = ask("POST", daemon_url() if url is None else url, path, admin_token(token_file), body, LOG_OUT_S)
    if as_json:
        _print(found)
        return
    typer.echo(f"{named} is logged out: every Connect session of the user was ended.")


@commands.command()
def record(
    out: Annotated[Path, typer.Option("--out", help="File to write; must not exist.")],
    for_: Annotated[str, typer.Option("--for", help="How long: 90s, 10m, 8h; 24h at most.")] = "8h",
    url: _Url = None,
    token_file: _TokenFile = None,
) -> None:
    """Record a running daemon's heartbeats and outcomes, without names, for `watchdog replay`. Ctrl-C ends it early."""
    from watchdog.recording import record as run_recording
    from watchdog.settings import admin_token, daemon_url

    lines = run_recording(daemon_url() if url is None else url, admin_token(token_file), _length(for_), out)
    typer.echo(f"{lines} lines in {out}. Try timers on them: watchdog replay {out}")


def _length(for_: str) -> float:
    """The seconds of `--for`."""
    from watchdog.values import seconds

    try:
        return seconds(for_)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None


def _ask(
    method: str, url: str | None, path: str, token_file: Path | None, body: dict[str, Any], instance: str | None
) -> Any:  # noqa: ANN401  # JSON
    """Asks the daemon about all instances or one."""
    from watchdog.asking import ask
    from watchdog.settings import admin_token, daemon_url

    of_instance = {} if instance is None else {"instance_id": instance}
    return ask(method, daemon_url() if url is None else url, path, admin_token(token_file), body | of_instance)


def _print(answer: Any) -> None:  # noqa: ANN401  # JSON
    """Prints the daemon's answer for programs."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
