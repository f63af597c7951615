"""What the machine tells: its clocks and its boot. The only place that reads them."""

import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from watchdog.core.model import Boot, Epoch, Instant

if TYPE_CHECKING:
    from collections.abc import Callable

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# CLOCK_BOOTTIME goes on while the machine is suspended, so that a suspension shows as a gap. Where a system lacks it,
# the monotonic clock is the nearest. Source: clock_gettime(2).
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

epoch = cast("Callable[[], Epoch]", time.time)
"""The wall clock: called for each heartbeat, so without a frame of its own."""


@cache
def boot_id() -> str:
    """The kernel's boot. Where the system does not tell, a new one for each process, so that no reading is compared."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return uuid4().hex


def now() -> Instant:
    """One reading of all clocks."""
    return Instant(Boot(time.clock_gettime(_CLOCK)), Epoch(time.time()), boot_id())
