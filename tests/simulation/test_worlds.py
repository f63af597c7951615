"""Random worlds keep all promises, and a seed plays the same way each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from watchdog.simulation.check import check, replay, results
from watchdog.simulation.faults import MASS
from watchdog.simulation.plan import draw
from watchdog.simulation.world import play

SEEDS, CHUNK = 60, 10
MORE, LARGE_CHUNK = 5_000, 100

ROOT = Path(__file__).parent.parent.parent


def assert_kept(seeds):
    for seed in seeds:
        violations = play(draw(seed)).violations
        assert not violations, str(violations[0])


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_random_worlds_keep_every_promise(first):
    assert_kept(range(first, first + CHUNK))


@pytest.mark.long
@pytest.mark.parametrize("first", range(SEEDS, MORE, LARGE_CHUNK))
def test_more_random_worlds_keep_every_promise(first):
    assert_kept(range(first, min(first + LARGE_CHUNK, MORE)))


def test_a_seed_plays_the_same_way_twice_and_another_one_differently():
    once, again, other = play(draw(7)), play(draw(7)), play(draw(8))
    assert once == again
    assert once.lines > 500
    assert once.digest != other.digest


def test_a_seed_plays_the_same_way_in_another_process():
    code = (
        "from watchdog.simulation.plan import draw; from watchdog.simulation.world import play; "
        "print(play(draw(3)).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(number), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for number in (1, 2)
    }
    assert len(digests) == 1


def test_worlds_that_silence_many_are_drawn_where_a_brake_holds_and_only_there():
    plans = [draw(seed) for seed in range(300)]
    silenced = [plan for plan in plans if any(story in MASS for _, story in plan.stories)]
    assert silenced
    assert all(plan.timers.brake is not None for plan in silenced)
    assert any(plan.timers.brake is None for plan in plans)


def test_several_processes_tell_the_same_as_one():
    assert list(results(range(4), 2)) == list(results(range(4), 1))


def test_checking_tells_what_it_did(capsys):
    assert check(11, 1) == 0
    assert "1 worlds from seed 11" in capsys.readouterr().out


def test_a_replay_shows_the_transcript(capsys):
    assert replay(11) == 0
    told = capsys.readouterr().out
    assert "process 1 starts" in told
    assert play(draw(11)).digest in told


def test_the_command_line_checks_and_compares():
    def simulate(*arguments):
        command = [sys.executable, "-m", "watchdog", "simulate", *arguments]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "140"}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)

    checked = simulate("--seeds", "1", "--from", "11")
    assert checked.returncode == 0, checked.stderr
    assert "no worlds with violations" in checked.stdout
    compared = simulate("--agents", "20", "--hours", "1")
    assert compared.returncode == 0, compared.stderr
    assert "ghost-seconds" in compared.stdout
