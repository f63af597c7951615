"""The bar for work that takes long, and what is said while something is waited for."""

import io
import threading

from rich.console import Console

from watchdog.terminal import Bar, waiting


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


class Told(io.StringIO):
    """A terminal that tells when something was written."""

    def __init__(self):
        super().__init__()
        self.written = threading.Event()

    def write(self, text):
        self.written.set()
        return super().write(text)


def test_what_is_waited_for_is_said_after_a_while_and_taken_away():
    file = Told()
    with waiting("The status is set…", Console(file=file, force_terminal=True, width=60), after_s=0.0):
        assert file.written.wait(10)
    assert "The status is set…" in file.getvalue()
    assert "\x1b[?25h" in file.getvalue()  # the cursor is shown again


def test_what_is_soon_over_is_not_said_and_leaves_no_thread():
    file = Told()
    with waiting("The status is set…", Console(file=file, force_terminal=True, width=60), after_s=60.0):
        pass
    assert "status" not in file.getvalue()
    assert not [each for each in threading.enumerate() if isinstance(each, threading.Timer)]


def test_what_is_no_terminal_is_told_of_no_waiting():
    file = Told()
    with waiting("The status is set…", Console(file=file, force_terminal=False, width=60), after_s=0.0):
        assert not [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    assert file.getvalue() == ""
