"""What commands print on: a console that is plain when it is no terminal, and a bar for work that takes long."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LONG_S = 2.0
"""Work that is over sooner needs no bar."""

REFRESH_S = 0.2
"""Least time between two looks of the bar: it must not slow down what it tells of."""


class Screen(Console):
    """A console that leaves a closed pipe to who called the command. See `watchdog.shell`."""

    def on_broken_pipe(self) -> None:
        """Nobody reads any more.

        Raises:
            BrokenPipeError: Always.
        """
        self.quiet = True
        raise BrokenPipeError


def screen(**options: Any) -> Screen:  # noqa: ANN401  # rich's own
    """Gives stdout: without colours unless it is a terminal, and never with NO_COLOR. Nothing is taken for markup."""
    return Screen(highlight=False, markup=False, emoji=False, **options)


@contextlib.contextmanager
def waiting(what: str, console: Console | None = None, after_s: float = LONG_S) -> Iterator[None]:
    """Says on stderr what is waited for, once it has taken `after_s`, and only on a terminal.

    For work of which nobody can tell how far it is; else there is `Bar`.

    Args:
        what: Is waited for.
        console: In place of stderr.
        after_s: Seconds in which nothing is said.
    """
    console = Console(stderr=True, markup=False, highlight=False) if console is None else console
    if not console.is_terminal:
        yield
        return
    status = console.status(what)
    timer = threading.Timer(after_s, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # Else it might begin to turn after it was stopped.
        timer.join()
        status.stop()


class Bar:
    """A bar on stderr, once work has taken `LONG_S`, and only on a terminal."""

    def __init__(
        self,
        what: str,
        total: float,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the time.

        Args:
            what: Is being done.
            total: What `at` gets at the end.
            console: In place of stderr.
            clock: In seconds.
        """
        self._what = what
        self._total = total
        self._console = Console(stderr=True) if console is None else console
        self._clock = clock
        self._began = self._told = clock()
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        """Nothing is shown yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the bar away."""
        if self._progress is not None:
            self._progress.stop()

    def at(self, done: float, what: str | None = None) -> None:
        """Tells how far it is.

        Args:
            done: Of `total`.
            what: Is being done, if that has changed.
        """
        now = self._clock()
        if not self._console.is_terminal or now - self._began < LONG_S or now - self._told < REFRESH_S:
            return
        self._told = now
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:3.0f} %"),
                TimeRemainingColumn(),
                console=self._console,
                expand=True,
                transient=True,
            )
            self._progress.add_task(self._what, total=self._total)
            self._progress.start()
        task = self._progress.task_ids[0]
        self._progress.update(task, completed=done, description=what or self._what)
