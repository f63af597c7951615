"""The generated part of docs/commands.md: every command with its options, from the command line itself."""

import re

import typer

from watchdog.cli import app
from watchdog.shell import EXAMPLES


def commands():
    """All commands by name, in the order in which a user needs them."""
    return typer.main.get_command(app).commands


def parts(text):
    """A command's help: its paragraphs, and its examples."""
    said, _, examples = text.replace("\b", "").partition(EXAMPLES)
    return [each.strip() for each in said.split("\n\n") if each.strip()], [
        line.strip() for line in examples.splitlines() if line.strip()
    ]


def rendered():
    """As Markdown."""
    panels = {}
    for name, command in commands().items():
        panels.setdefault(command.rich_help_panel, []).append((name, command))
    lines = []
    for panel, members in panels.items():
        lines += [f"## {panel}", ""]
        for name, command in members:
            lines += [*_command(name, command), ""]
    return "\n".join(lines).rstrip()


def _command(name, command):
    paragraphs, examples = parts(command.help)
    parameters = [each for each in command.params if each.name != "help"]
    arguments = [each for each in parameters if each.param_type_name == "argument"]
    yield f"### watchdog {name}"
    yield ""
    for paragraph in paragraphs:
        yield paragraph
        yield ""
    yield "```"
    yield from examples
    yield "```"
    if parameters:
        yield ""
        yield "| option | default | meaning |"
        yield "|---|---|---|"
    for each in [*arguments, *(each for each in parameters if each not in arguments)]:
        yield f"| `{_shown(each)}` | {_default(each)} | {_escaped(each.help)} |"


def _shown(parameter):
    if parameter.param_type_name == "argument":
        return parameter.metavar
    names = ", ".join(parameter.opts)
    return names if parameter.is_flag else f"{names} {parameter.metavar}"


def _default(parameter):
    if parameter.required:
        return "required"
    default = parameter.default
    if default is None or default == "" or default is False:
        return "–"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _escaped(text):
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
