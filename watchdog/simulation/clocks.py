"""Where the clocks of a simulated machine begin."""

START = 1_700_000_000.0
"""The wall clock at virtual second 0."""

BOOTED_FOR_S = 1_000.0
"""CLOCK_BOOTTIME at virtual second 0."""
