"""The command line as its users meet it: a process, its output and its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from watchdog import __version__

GOOD = {"WATCHDOG_INSTANCES": "i-1", "WATCHDOG_HEARTBEAT_TOKENS": "kept-out-of-every-output"}
WITHOUT_MOTO = "import sys; sys.modules['moto'] = None; from watchdog.cli import main; sys.argv[0] = 'watchdog'; main()"


def watchdog(*arguments, environ=None, interpreter=("-m", "watchdog")):
    """Runs the command with this environment in place of our own `WATCHDOG_…` variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WATCHDOG_", "COLUMNS"))}
    return subprocess.run(
        [sys.executable, *interpreter, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parent.parent,
        env=clean | {"PYTHONIOENCODING": "utf-8"} | (environ or {}),
    )


def test_the_version_is_the_package_version():
    done = watchdog("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"watchdog {__version__}\n", "")


def test_the_version_loads_neither_boto3_nor_the_daemon():
    loaded = watchdog("--version", interpreter=("-X", "importtime", "-m", "watchdog")).stderr
    assert "watchdog.cli" in loaded
    for module in ("boto3", "botocore", "fastapi", "moto", "watchdog.daemon", "watchdog.settings"):
        assert f" {module}\n" not in loaded


def test_settings_are_a_table_of_at_most_80_columns_when_piped():
    done = watchdog("settings", environ=GOOD | {"WATCHDOG_SESSION_TTL": "40"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    (line,) = [line.split() for line in lines if line.split()[:1] == ["SESSION_TTL"]]
    assert line == ["SESSION_TTL", "40", "environment"]
    assert "Default: 35." in done.stdout
    assert "kept-out" not in done.stdout


def test_settings_as_json_have_every_variable():
    done = watchdog("settings", "--json", environ=GOOD | {"WATCHDOG_SESSION_TTL": "40"})
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row.pop("variable"): row for row in json.loads(done.stdout)}
    meaning = rows["WATCHDOG_SESSION_TTL"].pop("meaning")
    assert meaning.startswith("Seconds without a heartbeat")
    assert rows["WATCHDOG_SESSION_TTL"] == {"value": "40", "default": "35", "source": "environment"}
    assert rows["WATCHDOG_HEARTBEAT_TOKENS"]["value"] == "*** (1)"


@pytest.mark.parametrize("command", [("settings",), ("settings", "--json"), ("run",)])
def test_bad_settings_end_with_2_and_every_fault_on_stderr(command):
    done = watchdog(*command, environ=GOOD | {"WATCHDOG_PRT": "1", "WATCHDOG_SESSION_TTL": "3"})
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["WATCHDOG_PRT", "WATCHDOG_SESSION_TTL"]


@pytest.mark.parametrize("arguments", [("nonsense",), ("settings", "--nonsense"), ("sandbox", "--port", "65536")])
def test_bad_usage_ends_with_2_and_the_way_to_help(arguments):
    done = watchdog(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--help" in done.stderr


def test_help_lists_every_command():
    done = watchdog("--help")
    assert done.returncode == 0
    for command in ("run", "settings", "sandbox", "demo"):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize("command", ["sandbox", "demo"])
def test_without_moto_the_sandbox_and_the_demo_tell_what_to_install(command):
    done = watchdog(command, interpreter=("-c", WITHOUT_MOTO))
    assert done.returncode == 2
    assert done.stderr == (
        'This command needs moto, not installed here: pip install "connect-presence-watchdog[sandbox]"\n'
    )
