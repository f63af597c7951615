"""When the way from outside counts as broken, and when the canary is not believed."""

from __future__ import annotations

import pytest

from watchdog.core.canary import CanaryRules, beating, failing, heard, lost, rules

RULES = rules(35.0, 10.0)


def test_the_defaults_are_5_4_and_15_seconds_and_short_leases_have_shorter_ones():
    assert CanaryRules(5.0, 4.0, 15.0, 10.0) == RULES
    assert rules(700.0, 10.0) == RULES
    assert rules(7.0, 2.0) == CanaryRules(1.0, 0.8, 3.0, 2.0)


@pytest.mark.parametrize("ttl_s", [0.3, 2.0, 35.0, 150.0])
def test_a_broken_way_is_known_while_a_lease_of_it_still_has_half_of_its_time(ttl_s):
    found = rules(ttl_s, ttl_s / 3)
    # the way breaks just after a call; the next two are lost
    assert 2 * found.every_s + found.timeout_s < ttl_s / 2
    assert found.silence_s < ttl_s / 2


def test_one_lost_call_is_none_and_two_in_a_row_are():
    calls = heard(100.0)
    assert not failing(calls, RULES, 100.0)
    calls = lost(calls, 105.0)
    assert not failing(calls, RULES, 109.0)
    calls = lost(calls, 110.0)
    assert failing(calls, RULES, 114.0)
    assert (calls.lost_at, calls.heard_at) == (105.0, 100.0)
    assert not failing(heard(120.0), RULES, 120.0)


def test_a_call_between_two_lost_ones_starts_anew():
    assert lost(heard(0.0), 5.0).failures == 1
    assert not failing(lost(heard(9.0), 10.0), RULES, 14.0)


def test_long_silence_counts_even_if_no_call_has_failed():
    assert not failing(heard(0.0), RULES, 15.0)
    assert failing(heard(0.0), RULES, 15.1)


@pytest.mark.parametrize(
    ("beats", "sessions", "seconds", "believed"),
    [
        (20, 40, 10.0, True),
        (19, 40, 10.0, False),
        (40, 40, 20.0, True),
        (39, 40, 20.0, False),
        (1, 1, 9.0, True),
        (0, 1, 9.0, False),
        (0, 0, 9.0, False),
        (1, 0, 9.0, True),
        (40, 40, 4.9, False),
    ],
)
def test_half_of_the_expected_heartbeats_prove_the_way(beats, sessions, seconds, believed):
    assert beating(beats, sessions, seconds, RULES) is believed
