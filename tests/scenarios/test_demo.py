"""`watchdog demo` as people start it, without a terminal: what it says, how it ends, that nothing stays behind.

Its processes are known by the folder for temporary files, which each test has for itself.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.serial,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc"),
]

LIMIT_S = 65


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "watchdog", "demo", *arguments],
        env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def processes_of(folder: Path) -> dict[int, str]:
    """Command lines of the processes that have this folder for temporary files, by id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue  # it has ended meanwhile, or is another user's
    return found


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while not condition():
        if time.monotonic() > until:
            return False
        os.sched_yield()
    return True


def nothing_left(folder: Path) -> bool:
    return not processes_of(folder) and not list(folder.iterdir())


def read_until(process: subprocess.Popen[str], text: str) -> str:
    read = ""
    assert process.stdout is not None
    for line in process.stdout:
        read += line
        if text in line:
            return read
    pytest.fail(f"ended without saying {text!r}:\n{read}")


def test_the_demo_tells_its_story_and_ends_well_in_time(tmp_path: Path):
    began = time.monotonic()
    with demo(tmp_path) as process:
        said, _ = process.communicate(timeout=2 * LIMIT_S)
    took = time.monotonic() - began

    assert process.returncode == 0, said
    assert took <= LIMIT_S, said
    assert "All 20 agents as they should be." in said
    assert "watchdog  is killed with kill -9, and started again" in said
    assert said.count("is set Offline,") == 10
    assert "agent-01  is set Offline" not in said
    for told in (
        "agent-13  still holds a contact: Offline is the next status",
        "agent-13  is Offline: the contact is gone",
        "agent-14  is Offline: the contact is gone",
        "agent-15  is left alone: no rule is for the routing profile",
        "agent-16  is set Away by the watchdog",
        "agent-16  is signed out: all sessions in Connect are ended",
        "agent-17  is set Available again by the watchdog",
        "agent-18  is told to stop: the page sends nothing more",
    ):
        assert told in said, said
    assert "docs/index.md" in said
    assert "\x1b" not in said
    assert nothing_left(tmp_path)


def test_ctrl_c_ends_the_demo_and_its_processes(tmp_path: Path):
    with demo(tmp_path) as process:
        read_until(process, "agent-20  arrives")
        assert len(processes_of(tmp_path)) == 4
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=LIMIT_S)

    assert process.returncode == 130
    assert "Traceback" not in said
    assert nothing_left(tmp_path)


@pytest.mark.long
def test_a_demo_that_is_killed_leaves_no_process_and_no_file(tmp_path: Path):
    with demo(tmp_path) as process:
        read_until(process, "agent-20  arrives")
        process.kill()
        process.communicate(timeout=LIMIT_S)

        assert eventually(lambda: nothing_left(tmp_path))


@pytest.mark.long
def test_for_programs_the_story_goes_to_stderr_and_its_end_to_stdout(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "watchdog", "demo", "--json"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=2 * LIMIT_S,
        check=False,
    )
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (0, True), done.stderr
    assert len(found["agents"]) == 20
    assert "agent-18  is told to stop" in done.stderr


def test_what_stays_up_is_not_for_programs():
    done = subprocess.run(
        [sys.executable, "-m", "watchdog", "demo", "--json", "--keep"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "--keep" in done.stderr


@pytest.mark.parametrize(
    ("command", "title"),
    [("run", "The watchdog"), pytest.param("sandbox", "The stand-in of Connect", marks=pytest.mark.long)],
)
def test_a_process_that_dies_fails_the_demo_which_shows_its_log(tmp_path: Path, command: str, title: str):
    with demo(tmp_path) as process:
        read_until(process, "agent-20  arrives")
        for pid, line in processes_of(tmp_path).items():
            if f" -m watchdog {command}" in line:
                os.kill(pid, signal.SIGKILL)
        said, _ = process.communicate(timeout=LIMIT_S)

    assert process.returncode == 1
    assert f"{title} ended by itself, with exit code -9. The last lines that it printed:" in said
    assert "Traceback" not in said
    assert nothing_left(tmp_path)


@pytest.mark.long
def test_with_keep_it_serves_an_example_page_until_ctrl_c(tmp_path: Path):
    with demo(tmp_path, "--keep") as process:
        said = read_until(process, "watch the table: ")
        address = said.rpartition(" ")[2].strip()
        with httpx.Client(trust_env=False) as browser:
            assert "/client/presence.js" in browser.get(address).text
            assert len(browser.get(f"{address}floor.json").json()["agents"]) == 23
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=LIMIT_S)

    assert "All 20 agents as they should be." in said
    assert process.returncode == 0
    assert "Traceback" not in rest
    assert nothing_left(tmp_path)
