"""What operators write into query parameters, read into values.

An empty parameter is one that was not given: forms and shell scripts send them.
"""

import math
import re
from datetime import datetime
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from watchdog.core.messages import Heartbeat
from watchdog.core.model import AgentId, Epoch
from watchdog.errors import MessageError

_Name = TypeVar("_Name", bound=StrEnum)

_NO_SESSION = UUID(int=0)

_LOST_PLUS = re.compile(r" (?=\d\d:\d\d$)")
"""An unescaped `+` of an offset comes in as a blank."""


def read_agent(text: str) -> AgentId | None:
    """An agent by ARN or as instance/user.

    Raises:
        MessageError: 400.
    """
    if not text:
        return None
    instance_id, _, user_id = text.partition("/")
    try:
        # The heartbeat's own rules, so that a name that works there works here.
        if text.startswith("arn:"):
            return Heartbeat(agent=text, session_id=_NO_SESSION).agent_id()
        return Heartbeat(instance_id=instance_id, user_id=user_id, session_id=_NO_SESSION).agent_id()
    except MessageError:
        raise _bad("`agent` takes an agent's ARN, or INSTANCE-ID/USER-ID.") from None


LAST = 253_402_300_799.0
"""The end of the year 9999, after which there are no dates."""


def read_since(text: str) -> Epoch | None:
    """An instant, as RFC 3339 with an offset or as seconds since 1970.

    Raises:
        MessageError: 400.
    """
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = _of_rfc3339(_LOST_PLUS.sub("+", text))
    if not 0 <= seconds <= LAST:
        raise _bad("`since` takes RFC 3339 with an offset, like 2026-01-31T12:00:00Z, or seconds since 1970.")
    return Epoch(seconds)


def read_name(parameter: str, text: str, names: type[_Name]) -> _Name | None:
    """One of a set of names.

    Raises:
        MessageError: 400, with the names that there are.
    """
    if not text:
        return None
    try:
        return names(text)
    except ValueError:
        raise _bad(f"`{parameter}` takes one of: {', '.join(names)}.") from None


def _of_rfc3339(text: str) -> float:
    """Seconds since 1970; NaN for what is no instant."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return math.nan if instant.tzinfo is None else instant.timestamp()


def _bad(detail: str) -> MessageError:
    return MessageError(400, "Bad Request", detail)
