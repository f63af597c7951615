"""The answers of the fast lane that never vary, and the reasons for which a heartbeat is refused.

Built once: a refusal costs no more than a heartbeat that is taken.
"""

from enum import StrEnum
from typing import NamedTuple

from watchdog.core.messages import MAX_BATCH
from watchdog.errors import MessageError
from watchdog.ingest.problems import MEDIA_TYPE, Problem
from watchdog.ingest.wire import SAFE_HEADERS, Header

PROBLEM_HEADERS: tuple[Header, ...] = ((b"content-type", MEDIA_TYPE.encode()), *SAFE_HEADERS)


class Rejection(StrEnum):
    """Why a heartbeat was refused: the label of a metric and the last part of a problem's URN."""

    METHOD = "method"
    MEDIA_TYPE = "media-type"
    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    INSTANCE = "instance"
    ORIGIN = "origin"
    HOST = "host"
    AGENTS = "agents"
    UNAUTHORIZED = "unauthorized"
    AGENT = "agent"
    KEYS = "keys"
    FOREIGN = "foreign"
    RATE = "rate"
    LATE = "late"
    STORE = "store"


class Answer(NamedTuple):
    """What is sent back; `reason` and `detail` for a refusal only."""

    status: int
    body: bytes
    headers: tuple[Header, ...]
    reason: Rejection | None = None
    detail: str = ""


def refusal(reason: Rejection, error: MessageError, *headers: Header) -> Answer:
    """A problem with the reason in its `type`."""
    problem = Problem(error.status, error.title, error.detail, reason)
    return Answer(error.status, problem.body(), (*PROBLEM_HEADERS, *headers), reason, error.detail)


BEARER = (b"www-authenticate", b"Bearer")

CLOSE = (b"connection", b"close")
"""Where the body is not read, so that the server does not read it either."""

GONE = Answer(204, b"", SAFE_HEADERS)

FOREIGN = refusal(
    Rejection.FOREIGN,
    MessageError(
        409, "Conflict", "This session belongs to another agent. Take a new session_id, a UUID for each page load."
    ),
)

STOPPED = Answer(
    200,
    b"",
    (),
    detail="The agent was logged out: its page must stop beating. Only a hello of the next incarnation opens the "
    "session again.",
)
"""Of a session in a batch, where there is no `state`: taken, and listed all the same."""

NOT_WATCHED = refusal(
    Rejection.INSTANCE,
    MessageError(
        403,
        "Forbidden",
        "This daemon does not watch the agent's instance. Send it where it is watched, "
        "or add the instance to WATCHDOG_INSTANCES.",
    ),
)

NO_CANARY = refusal(
    Rejection.UNAUTHORIZED,
    MessageError(401, "Unauthorized", "Only the daemon itself sends `canary`. A heartbeat has no such field."),
    BEARER,
)

WRONG_METHOD = refusal(
    Rejection.METHOD,
    MessageError(405, "Method Not Allowed", "Heartbeats are sent with POST."),
    (b"allow", b"POST"),
    CLOSE,
)

WRONG_TYPE = refusal(
    Rejection.MEDIA_TYPE,
    MessageError(415, "Unsupported Media Type", "Send JSON with Content-Type: application/json, or text/plain."),
    CLOSE,
)

LARGE_BATCH = refusal(
    Rejection.TOO_LARGE,
    MessageError(413, "Content Too Large", f"A batch has at most {MAX_BATCH} heartbeats. Send several."),
)
