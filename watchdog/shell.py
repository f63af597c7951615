"""How every command behaves in a shell: its help, and a reader that goes away.

What the commands are is in `cli.py`. Ctrl-C is typer's: it ends with 130.
"""

from __future__ import annotations

import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_UNREAD = 141
"""SIGPIPE, as other programs end of which `head` has read enough."""

EXAMPLES = "\nExamples:\n"
"""The heading of a docstring's last part, whose lines are commands."""


class Command(TyperCommand):
    """A command whose help keeps the lines of its examples, and names no type for a flag, which takes no value."""

    def __init__(self, name: str | None, **given: Any) -> None:  # noqa: ANN401  # typer's own
        """See `TyperCommand`."""
        super().__init__(name, **given)
        self.help = _filled(self.help or "")

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401  # typer keeps its context's class to itself
        """See `TyperCommand`."""
        return _without_types_of_flags(super().get_params(ctx))


class Group(TyperGroup):
    """All commands. A closed pipe ends each of them without a word, as Ctrl-C does in typer."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401  # as above
        """See `TyperGroup`."""
        super().__init__(**given)
        self.help = _filled(self.help or "")

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401  # as above
        """See `TyperGroup`."""
        return _without_types_of_flags(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002  # as above
        """The commands in the order in which they were added, which is that in which a user needs them."""
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # as above
        """See `TyperGroup`.

        Raises:
            SystemExit: Nobody reads what it prints.
        """
        try:
            try:
                return super().invoke(ctx)
            finally:
                # Here, since what is still buffered at the very end can only be complained about.
                sys.stdout.flush()
        except BrokenPipeError:
            # What is buffered goes nowhere, in place of a complaint at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(EXIT_UNREAD) from None


def _without_types_of_flags(parameters: Sequence[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return list(parameters)


def _filled(text: str) -> str:
    """A docstring's paragraphs as a line each, to be broken where the terminal ends; examples keep their lines."""
    said, heading, examples = inspect.cleandoc(text).partition(EXAMPLES)
    paragraphs = [" ".join(each.split()) for each in said.split("\n\n")]
    # What comes after this sign is not filled.
    return "\n\n".join(paragraphs).rstrip() + (f"\n\n\b{heading.lstrip()}{examples}" if heading else "")
