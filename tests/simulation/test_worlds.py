"""Random worlds keep all promises, and a seed plays the same way each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from watchdog.simulation.check import check, replay, results
from watchdog.simulation.faults import MASS
from watchdog.simulation.plan import draw, draw_replicas
from watchdog.simulation.replica_faults import BETWEEN_DAEMONS, REPLICA_STORIES, UNEXCUSED
from watchdog.simulation.world import play

SEEDS, CHUNK = 12, 4
MORE, LARGE_CHUNK = 5_000, 100
OF_SEVERAL = 2
MORE_OF_SEVERAL = 2_000

ROOT = Path(__file__).parent.parent.parent


def assert_kept(seeds, drawn=draw):
    for seed in seeds:
        violations = play(drawn(seed)).violations
        assert not violations, str(violations[0])


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_random_worlds_keep_every_promise(first):
    assert_kept(range(first, first + CHUNK))


@pytest.mark.long
@pytest.mark.parametrize("first", range(SEEDS, MORE, LARGE_CHUNK))
def test_more_random_worlds_keep_every_promise(first):
    assert_kept(range(first, min(first + LARGE_CHUNK, MORE)))


@pytest.mark.parametrize("seed", range(OF_SEVERAL))
def test_worlds_of_several_daemons_keep_every_promise(seed):
    assert_kept([seed], draw_replicas)


@pytest.mark.long
@pytest.mark.parametrize("first", range(OF_SEVERAL, MORE_OF_SEVERAL, LARGE_CHUNK))
def test_more_worlds_of_several_daemons_keep_every_promise(first):
    assert_kept(range(first, min(first + LARGE_CHUNK, MORE_OF_SEVERAL)), draw_replicas)


def test_every_fault_of_several_daemons_is_drawn():
    stories = {story for seed in range(300) for _, story in draw_replicas(seed).stories}
    assert stories >= {*REPLICA_STORIES, *BETWEEN_DAEMONS, *UNEXCUSED}


def test_worlds_of_one_daemon_are_drawn_without_the_others():
    assert all(draw(seed).replicas is None for seed in range(50))
    assert {draw_replicas(seed).replicas.daemons for seed in range(50)} == {2, 3, 4}


def test_a_seed_plays_the_same_way_twice_and_another_one_differently():
    once, again, other = play(draw(7)), play(draw(7)), play(draw(8))
    assert once == again
    assert once.lines > 500
    assert once.digest != other.digest


@pytest.mark.parametrize("drawn", ["draw", pytest.param("draw_replicas", marks=pytest.mark.long)])
def test_a_seed_plays_the_same_way_in_another_process(drawn):
    code = (
        f"from watchdog.simulation.plan import {drawn}; from watchdog.simulation.world import play; "
        f"print(play({drawn}(3)).digest)"
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


@pytest.mark.long
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


@pytest.mark.long
def test_the_command_line_checks_and_compares():
    def simulate(*arguments):
        command = [sys.executable, "-m", "watchdog", "simulate", *arguments]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "140"}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)

    checked = simulate("--seeds", "1", "--from", "11")
    assert checked.returncode == 0, checked.stderr
    assert "no worlds with violations" in checked.stdout
    of_several = simulate("--replicas", "--check", "--seed", "1")
    assert of_several.returncode == 0, of_several.stderr
    assert "process 2 starts" in of_several.stdout
    compared = simulate("--agents", "20", "--hours", "1")
    assert compared.returncode == 0, compared.stderr
    assert "ghost-seconds" in compared.stdout
