"""Ending tasks that call the server.

A cancellation that comes while a time-out of redis-py ends may be taken for that, and is lost: so it is repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_S = 0.05
"""Between two attempts."""


async def ended(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancels tasks, and waits until they have ended."""
    left = [task for task in tasks if task is not None and not task.done()]
    while left:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=AGAIN_S)
        left = [task for task in left if not task.done()]
