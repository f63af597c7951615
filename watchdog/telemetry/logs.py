"""Logging: structlog for our own events, and what libraries say in the same format.

An event has a constant dotted name and its values as keys. Nothing is logged for a single heartbeat. As a last guard,
values under names like `token` or `secret` are masked; whoever logs must not give them in the first place. Under `by`
stands who gave an order, without a person's name.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, BinaryIO, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from watchdog.telemetry.pseudonyms import pseudonym

MASK = "***"

_SECRET = ("token", "ticket", "secret", "authorization", "password", "cookie")

_DEPTH = 6
"""Levels of nested values that are searched for secrets; what lies deeper is masked as a whole."""


class LogFormat(StrEnum):
    """How events are written (LOG_FORMAT)."""

    JSON = "json"
    CONSOLE = "console"


def configure(level: str, log_format: LogFormat, stream: BinaryIO | None = None) -> None:
    """Sets up logging for the whole process. Call it once, before the first event; again only in tests.

    Libraries that use `logging` are heard from WARNING on, or from `level` if that is higher.

    Args:
        level: Least level that is written: debug, info, warning, error or critical (LOG_LEVEL).
        log_format: How.
        stream: Where; stderr by default, so that stdout stays for what a command was asked for.
    """
    out = sys.stderr.buffer if stream is None else stream
    least = getattr(logging, level.upper())
    structlog.configure(
        processors=_processors(log_format, colours=out.isatty()),
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", _Unbreakable(out))),
        # A few events a second: not worth a cache that a later configuration does not reach.
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(capture=True)
    logging.basicConfig(handlers=[_Bridge()], level=max(least, logging.WARNING), force=True)


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Processor: masks values under names that sound like a secret. Numbers stay: counts of tokens are no secret."""
    return {name: _masked(name, value, _DEPTH) for name, value in event.items()}


def _masked(name: object, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if name == "by":
        return pseudonym(str(value))
    if depth == 0 or any(word in str(name).lower() for word in _SECRET):
        return MASK
    if isinstance(value, Mapping):
        return {key: _masked(key, each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | set | frozenset) or type(value) is tuple:
        return [_masked("", each, depth - 1) for each in value]
    return value


def _processors(log_format: LogFormat, *, colours: bool) -> list[Processor]:
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mask_secrets,
    ]
    if log_format is LogFormat.JSON:
        return [*shared, structlog.processors.format_exc_info, _to_json]
    console = structlog.dev.ConsoleRenderer(
        colors=colours,
        # The others show local variables, and with them tokens.
        exception_formatter=structlog.dev.plain_traceback,
    )
    return [*shared, console, _to_bytes]


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Half of a surrogate pair, or a number beyond 64 bits: better an odd line than none.
        return json.dumps({str(name): value for name, value in event.items()}, default=str).encode()


def _to_bytes(_: WrappedLogger, __: str, line: Any) -> bytes:  # noqa: ANN401 - the line that the renderer made
    return str(line).encode("utf-8", "backslashreplace")


class _Unbreakable:
    """A stream whose failures stay in it: a full disk or a closed pipe must not stop the daemon."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, line: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._out.write(line)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._out.flush()


class _Bridge(logging.Handler):
    """Gives records of `logging` to structlog."""

    def __init__(self) -> None:
        super().__init__()
        self._log: FilteringBoundLogger = structlog.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        details: dict[str, Any] = {"library": record.name, "message": record.getMessage()}
        if record.exc_info:
            details["exc_info"] = record.exc_info
        self._log.log(record.levelno, "library.message", **details)
