"""The daemon's own log during a simulation: into the transcript, and a fault of ours is a violation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from watchdog.simulation.journal import Journal


@contextmanager
def watched(journal: Journal) -> Iterator[None]:
    """While it lasts, log events are lines of the transcript; on a running loop."""

    def note(_: object, name: str, event: MutableMapping[str, Any]) -> str:
        text = event.pop("event")
        fault = event.pop("exc_info", None)
        said = " ".join(f"{key}={value}" for key, value in sorted(event.items()) if key not in ("evidence", "detail"))
        journal.add(f"{name} {text} {said}".rstrip())
        if fault is not None:
            journal.violate("fault", f"{text}: {fault!r}")
        raise structlog.DropEvent

    def lost(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        journal.violate("fault", f"{context.get('message')}: {context.get('exception')!r}")

    before = structlog.get_config()
    asyncio.get_running_loop().set_exception_handler(lost)
    structlog.configure(
        processors=[note],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
