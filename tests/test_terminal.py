"""The bar for work that takes long."""

import io

from rich.console import Console

from watchdog.terminal import Bar


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def drawn(*looks, terminal=True):
    """What a bar prints when it is told at these seconds."""
    clock, file = Clock(), io.StringIO()
    with Bar("Worlds", 10, Console(file=file, force_terminal=terminal, width=60), clock) as bar:
        for number, at in enumerate(looks):
            clock.now = 100.0 + at
            bar.at(number, f"World {number}")
    return file.getvalue()


def test_work_that_is_soon_over_has_no_bar():
    assert drawn(0.5, 1.0, 1.9) == ""


def test_work_that_takes_long_has_one():
    assert "World 1" in drawn(1.0, 2.0)


def test_what_is_no_terminal_gets_none():
    assert drawn(1.0, 5.0, terminal=False) == ""


def test_the_bar_is_taken_away_at_the_end():
    # the cursor goes up, the line is erased, and the cursor is shown again
    assert drawn(3.0).endswith("\x1b[2K") or "\x1b[?25h" in drawn(3.0)[-20:]
