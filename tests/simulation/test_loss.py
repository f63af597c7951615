"""Losses alone: what is computed is what is drawn, and the default settings keep what is promised."""

from __future__ import annotations

import math

import pytest

from watchdog.simulation.compare import measure
from watchdog.simulation.loss import TARGET, Chain, Channel, Timing, compute
from watchdog.simulation.retries import HELLO, ONE_HELLO, HelloRule
from watchdog.simulation.workload import Day, Kind, Workload

NEVER = 1e12
DRAWN = -0.15
"""The margin of what is drawn: a request is heard at once, and due agents are looked for each 250 ms."""


def drawn(agents, hours, loss, **changes):
    """A world with losses and what `changes` says: its false Offlines, agent-hours and reloads."""
    told = {"reload_every_s": NEVER, "outage_every_s": NEVER, "crash_every_s": NEVER, **changes}
    work = Workload(agents, hours, loss, 10.0, 5.0, 35.0, rate=100.0, **told)
    events = sorted(event for number in range(agents) for event in Day(number, work).events())
    # Of a reload HERE is told anew: between two pages the agent has not left.
    first = {number: at for at, number, kind, _, _ in reversed(events) if kind is Kind.HERE}
    last = {number: at for at, number, kind, _, _ in events if kind is Kind.GONE}
    reloads = sum(1 for event in events if event[2] is Kind.HERE) - agents
    agent_hours = (sum(last.values()) - sum(first.values())) / 3_600
    return measure(work, events, 5.0, 35.0).false, agent_hours, reloads


def interval(count):
    """What a count of independent events allows: four standard deviations to each side."""
    wide = 4 * math.sqrt(max(count, 1))
    return count - wide, count + wide


@pytest.mark.parametrize(
    ("loss", "agents", "hours"),
    [pytest.param(0.1, 600, 10.0, marks=pytest.mark.long), (0.2, 300, 4.0), (0.3, 300, 2.0)],
)
def test_beats_that_are_lost_cost_what_is_computed(loss, agents, hours):
    false, agent_hours, _ = drawn(agents, hours, loss)
    least, most = interval(false)
    assert false >= 10, "too few to tell"
    expected = compute(Channel(loss), Timing(margin_s=DRAWN)).beats * agent_hours
    assert least <= expected <= most


@pytest.mark.parametrize(
    ("loss", "hello"),
    [
        pytest.param(0.05, ONE_HELLO, marks=pytest.mark.long),
        pytest.param(0.1, HelloRule(1.5, 4), marks=pytest.mark.long),
        pytest.param(0.2, HelloRule(1.0, 5), marks=pytest.mark.long),
        (0.3, HELLO),
    ],
)
def test_hellos_that_are_lost_cost_what_is_computed(loss, hello):
    every_s = 120.0
    false, agent_hours, reloads = drawn(250, 6.0, loss, reload_every_s=every_s, hello=hello)
    least, most = interval(false)
    rates = compute(Channel(loss), Timing(margin_s=DRAWN, hello=hello, reloads_per_hour=reloads / agent_hours))
    # A reload ends a chain of beats before it is over.
    beats = rates.beats * math.exp(-30.0 / every_s)
    assert false >= 10, "too few to tell"
    expected = (rates.reloads + rates.lost_byes + beats) * agent_hours
    assert least <= expected <= most


def test_at_one_per_cent_the_default_settings_cost_at_most_one_false_offline_in_a_million_agent_hours():
    rates = compute(Channel(0.01), Timing())
    assert 0 < rates.total <= TARGET == 1e-6
    assert rates.throttled <= TARGET


@pytest.mark.parametrize("hello", [ONE_HELLO, HelloRule(1.5, 4), HelloRule(1.0, 5)])
def test_it_needs_the_hellos_each_half_second(hello):
    assert compute(Channel(0.01), Timing(hello=hello)).total > TARGET


def test_it_needs_the_copies_of_a_hidden_page_without_a_worker():
    assert compute(Channel(0.01), Timing(throttled_copies=1)).throttled > TARGET


def test_a_page_that_loads_longer_than_the_timer_is_taken_for_gone():
    assert compute(Channel(0.01), Timing(load_s=(4.8, 6.0))).reloads == pytest.approx(2.0 * 0.99)
    assert compute(Channel(0.01), Timing(timer_s=10.0, load_s=(4.8, 6.0))).total <= TARGET


def test_bursts_are_not_covered():
    for burst_s in (0.3, 1.0, 10.0):
        assert compute(Channel(0.01, burst_s), Timing()).total > 10 * TARGET


def test_without_loss_there_is_nothing_to_compute():
    assert compute(Channel(0.0), Timing()).total == 0.0


def test_a_burst_is_remembered_for_as_long_as_it_lasts():
    channel = Channel(0.01, 10.0)
    assert channel.after_loss(0.0) == 1.0
    assert channel.after_loss(9.9) == pytest.approx(0.01 + 0.99 * math.exp(-1.0))
    assert channel.after_loss(1e6) == pytest.approx(0.01)
    # What is lost on the whole stays what was said, whatever the gap.
    for gap_s in (0.1, 3.0, 40.0):
        assert 0.99 * channel.after_arrival(gap_s) + 0.01 * channel.after_loss(gap_s) == pytest.approx(0.01)


def test_a_chain_gets_less_likely_with_each_retry():
    chain = Chain(Channel(0.5), 40.0)
    assert chain.silent(4.9) == 1.0
    assert chain.silent(7.1) == pytest.approx(0.5, abs=0.01)
    assert chain.silent(40.0) < chain.silent(20.0) < 0.2
