"""Timers side by side on a described day."""

from __future__ import annotations

import pytest

from watchdog.simulation.compare import compare, measure
from watchdog.simulation.sheets import quantile
from watchdog.simulation.workload import Day, Workload


def workload(**changes):
    told = {"agents": 60, "hours": 2.0, "loss": 0.0, "interval_s": 10.0, "timer_s": 5.0, "ttl_s": 35.0, "rate": 2.0}
    return Workload(**{**told, **changes})


def played(work, timer_s=5.0, ttl_s=35.0):
    events = sorted(event for number in range(work.agents) for event in Day(number, work).events())
    return measure(work, events, timer_s, ttl_s)


def test_without_loss_nobody_is_set_by_mistake_and_everyone_who_left_is_found():
    figures = played(workload())
    assert figures.false == 0
    assert figures.missed == 0
    assert len(figures.detection_s) >= 60
    assert max(figures.detection_s) <= 35 + 5 + figures.drain_s + 1


def test_a_longer_ttl_makes_fewer_mistakes_and_finds_later():
    work = workload(loss=0.3)
    short, long = played(work), played(work, ttl_s=90.0)
    assert long.false < short.false
    assert quantile(long.detection_s, 0.99) > quantile(short.detection_s, 0.99)


def test_the_quota_makes_those_who_leave_together_wait():
    assert played(workload(agents=400, hours=0.3, rate=0.5)).drain_s > 60


def test_each_pair_is_measured_on_the_same_day():
    found = compare(workload(agents=5))
    assert [(each.timer_s, each.ttl_s) for each in found] == [(5, 35), (5, 30), (5, 55), (15, 35), (30, 35)]
    assert len({len(each.detection_s) for each in found}) == 1


@pytest.mark.parametrize(
    ("values", "part", "expected"), [([], 0.5, 0.0), ([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0)]
)
def test_quantiles(values, part, expected):
    assert quantile(values, part) == expected
