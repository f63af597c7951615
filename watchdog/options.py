"""Options that several commands have, and how a command finds the daemon that it asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from watchdog.asking import Daemon
    from watchdog.core.model import AgentId, Epoch

MAX_S = 86_400.0
"""Longest timers that can be tried, orders and recordings: the longest that the daemon takes."""

FIRST = 946_684_800.0
"""The year 2000. A smaller number is no instant but a length of time whose unit was forgotten."""

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Address of the running daemon, in place of WATCHDOG_HOST and WATCHDOG_PORT.",
        rich_help_panel="Which daemon",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Holds an admin token, in place of WATCHDOG_ADMIN_TOKENS.",
        rich_help_panel="Which daemon",
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        help="Certificates (PEM) of the authorities to trust, in place of SSL_CERT_FILE or the public ones.",
        rich_help_panel="Which daemon",
    ),
]
OfInstance = Annotated[
    str | None, typer.Option("--instance", metavar="INSTANCE-ID", help="Only agents of this instance.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON in place of text.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="JSON lines in place of text, one for each entry.")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write a report with plots to this file.")
]


def connected(url: str | None, token_file: Path | None, ca_file: Path | None) -> Daemon:
    """The daemon that the options name, or that of the environment. To be closed.

    Raises:
        SettingsError: A variable or the token's file is wrong.
        DaemonError: The file of the authorities cannot be used.
    """
    from watchdog.asking import Daemon, Place, named_by
    from watchdog.settings import admin_token, daemon_url

    token = admin_token(token_file)
    token_from = "WATCHDOG_ADMIN_TOKENS" if token_file is None else "--token-file"
    if url is not None:
        return Daemon(Place(url, token, token_from=token_from, ca_file=ca_file))
    found, variables = daemon_url()
    return Daemon(Place(found, token, named_by(variables), token_from, ca_file))


def length(for_: str) -> float:
    """The seconds of `--for`.

    Raises:
        BadParameter: It is no length of time.
    """
    from watchdog.values import seconds

    try:
        found = seconds(for_)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    if found > MAX_S:
        raise typer.BadParameter("takes 24h at most", param_hint="--for")
    return found


def store_named(text: str, option: str) -> str:
    """The URL of a store that an option gives, itself or by the name of a file.

    Raises:
        BadParameter: It is none.
    """
    from watchdog import values
    from watchdog.environment import content

    try:
        url = text if "://" in text else content(Path(text))
        values.store(url)
    except ValueError as error:
        # The URL itself may have a password.
        raise typer.BadParameter(str(error), param_hint=option) from None
    return url


def instant(text: str, option: str) -> Epoch:
    """A time that an option gives: so long ago, RFC 3339, or seconds since 1970.

    Raises:
        BadParameter: It is none.
    """
    from watchdog.errors import MessageError
    from watchdog.ingest.queries import read_since
    from watchdog.values import ago

    try:
        found = read_since(ago(text))
    except MessageError:
        found = None
    if found is None or found < FIRST:
        raise typer.BadParameter(
            "takes so long ago with its unit (90s, 15m, 2h), RFC 3339 with an offset (2026-01-31T12:00:00Z), or "
            "seconds since 1970",
            param_hint=option,
        )
    return found


def agent_named(text: str, hint: str = "AGENT") -> AgentId:
    """The agent that an argument or an option names in full.

    Args:
        text: The name.
        hint: What the argument or option is called.

    Raises:
        BadParameter: It is none.
    """
    from watchdog.errors import MessageError
    from watchdog.ingest.queries import read_agent

    try:
        found = read_agent(text)
    except MessageError:
        found = None
    if found is None:
        told = f". `watchdog agent {text}` has the first in full" if text.isalnum() else ""
        raise typer.BadParameter(f"takes INSTANCE-ID/USER-ID, or an agent's ARN{told}", param_hint=hint)
    return found
