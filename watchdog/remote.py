"""Commands that give a running daemon an order, or record it, and tell people what it answered.

Each imports what it runs, as in `cli.py`, which turns errors into exit codes. Commands that only look are in
`looking.py`.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from watchdog.options import AsJson, CaFile, OfInstance, TokenFile, Url, agent_named, connected, instant, length

LOG_OUT_S = 60.0
"""Longer than the daemon takes to tell what became of a logout."""

_For = Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 2h; 0 ends the order there is.")]
_Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="For people who look at the status.")]


def hold(
    for_: _For = "10m",
    instance: OfInstance = None,
    reason: _Reason = "",
    as_json: AsJson = False,  # noqa: FBT002  # typer makes a flag of it
    url: Url = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Hold all agents who fall silent: nobody is set Offline for a time, except who said bye.

    For planned work on what heartbeats come through: a proxy, a network, the identity provider. The order ends by
    itself; `watchdog release` ends it and lets go whoever is held.

    Examples:
      watchdog hold --for 30m --reason "new load balancer"
      watchdog hold --for 0
    """
    _order("hold", for_, instance, reason, as_json, url, token_file, ca_file)


def release(
    for_: _For = "10m",
    instance: OfInstance = None,
    reason: _Reason = "",
    as_json: AsJson = False,  # noqa: FBT002
    url: Url = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Let go all agents who are held, and keep the brake from holding for a time.

    For agents who have really left together. They are set as soon as their timers and the quota allow; `watchdog
    status` tells what is held, and why.

    Examples:
      watchdog release
      watchdog release --instance 11111111-2222-3333-4444-555555555555 --for 1h --reason "end of the shift"
    """
    _order("released", for_, instance, reason, as_json, url, token_file, ca_file)


def restore(
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="TIME", help="15m for 15 minutes ago, 2026-01-31T12:00:00Z, or seconds since 1970."
        ),
    ],
    instance: OfInstance = None,
    silent: Annotated[bool, typer.Option("--silent", help="Also agents of whom nothing is heard.")] = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
    url: Url = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Undo what was set since then: agents who are still in that status get their former one back.

    Each agent is looked at first, and nobody who has chosen a status since is touched. Repeating it does no harm.

    Examples:
      watchdog restore --since 15m
      watchdog restore --since 2026-01-31T12:00:00Z --silent --json
    """
    from watchdog.values import ago

    instant(since, "--since")
    with connected(url, token_file, ca_file) as daemon:
        answer = daemon.ask("POST", "/v1/restore", {"since": ago(since), "silent": silent} | _of(instance))
    if as_json:
        _print(answer)
        return
    typer.echo(
        f"Set since {answer['since']}: being restored now: {answer['queued']}; as soon as they are heard: "
        f"{answer['left']}; left as they are, since they said bye or their former status is not known: "
        f"{answer['other']}."
    )
    typer.echo(f"watchdog looks at each of them first. What became of it: watchdog history --since {since}")


def log_out(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="INSTANCE-ID/USER-ID, or the agent's ARN.")],
    queue: Annotated[
        str,
        typer.Option(
            "--queue", metavar="QUEUE", help="Id or ARN of a queue: only if it is the only one of the agent's profile."
        ),
    ] = "",
    reason_code: Annotated[
        str,
        typer.Option("--reason-code", metavar="CODE", help="One of WATCHDOG_REASON_CODES; tells which status is set."),
    ] = "",
    as_json: AsJson = False,  # noqa: FBT002
    url: Url = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Log an agent out: set the status, and end all of the user's Connect sessions. Not while a contact goes on.

    It takes a few seconds, since the status is read back first. Exit code 1 with the reason if it was not done.

    Examples:
      watchdog logout 11111111-2222-3333-4444-555555555555/66666666-7777-8888-9999-000000000000
      watchdog logout arn:aws:connect:us-east-1:123456789012:instance/…/agent/… --reason-code lunch
    """
    named = agent_named(agent)
    path = f"/v1/agents/{named.instance_id}/{named.user_id}/logout"
    body = {"queue": queue, "reason_code": reason_code}
    from watchdog.terminal import waiting

    with connected(url, token_file, ca_file) as daemon, waiting("The status is set, and read back from Connect…"):
        found = daemon.ask("POST", path, body, timeout_s=LOG_OUT_S)
    if as_json:
        _print(found)
        return
    typer.echo(f"{named} is logged out: every Connect session of the user was ended.")


def record(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write; must not exist.")],
    for_: Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 8h; 24h at most.")] = "8h",
    as_json: AsJson = False,  # noqa: FBT002
    url: Url = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Record a running daemon's heartbeats and outcomes, without names, for `watchdog replay`.

    Ctrl-C ends it early; the file is whole however it ends.

    Examples:
      watchdog record --out monday.jsonl
      watchdog record --for 10m --out trial.jsonl && watchdog replay trial.jsonl
    """
    from watchdog.recording import record as run_recording

    with connected(url, token_file, ca_file) as daemon:
        lines = run_recording(daemon, length(for_), out)
    if as_json:
        _print({"file": str(out), "lines": lines})
        return
    typer.echo(f"{lines} lines in {out}. Try timers on them: watchdog replay {out}")


def _order(
    state: str,
    for_: str,
    instance: str | None,
    reason: str,
    as_json: bool,  # noqa: FBT001  # as the commands have it
    url: str | None,
    token_file: Path | None,
    ca_file: Path | None,
) -> None:
    """Gives the brake an order, and prints how it stands then."""
    body = {"state": state, "for_s": length(for_), "reason": reason}
    with connected(url, token_file, ca_file) as daemon:
        answer = daemon.ask("PUT", "/v1/brake", body | _of(instance))
    if as_json:
        _print(answer)
        return
    from watchdog.screens.words import BRAKE, many

    def told(state: str) -> str:
        return BRAKE.get(state, state)

    typer.echo(f"The brake is {told(answer['state'])}; {many(answer['held'], 'agent')} held.")
    for each in answer["holds"]:
        typer.echo(f"{each['group']}: {told(each['state'])}, {each['agents']} held. {each['why']} {each['next_step']}")


def _of(instance: str | None) -> dict[str, str]:
    """All instances or one, for the daemon."""
    return {} if instance is None else {"instance_id": instance}


def _print(answer: Any) -> None:  # noqa: ANN401  # JSON
    """Prints the daemon's answer for programs."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
