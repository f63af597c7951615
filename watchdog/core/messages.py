"""What clients say: the heartbeat message, checked and reduced to a `Beat`.

Unknown fields are ignored, so that a newer client can talk to an older daemon. A message that cannot be used raises
`MessageError` with a sentence that tells its sender what to do; it never repeats a value that the sender gave, since
that may be a token.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import SchemaValidator, core_schema

from watchdog.core.model import AgentId, Beat, BeatType
from watchdog.errors import MessageError

MAX_BODY = 4096
"""Bytes of one heartbeat; a real one has about 300."""

MAX_BATCH = 1000
"""Heartbeats in one batch."""

_ID = re.compile(r"[A-Za-z0-9-]{1,100}")
_ACCOUNT = r"arn:aws[a-z-]*:connect:[a-z0-9-]+:\d{12}:"
_ARN = re.compile(_ACCOUNT + r"instance/([A-Za-z0-9-]{1,100})/agent/([A-Za-z0-9-]{1,100})")

_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """How long a heartbeat renews.

    Attributes:
        session_ttl_s: SESSION_TTL.
        throttled_ttl_s: THROTTLED_SESSION_TTL, for hidden pages whose timers the browser throttles.
        max_page_lag_s: MAX_PAGE_LAG: a visible page that hangs for longer is not usable, and its beats do not renew.
    """

    session_ttl_s: float
    throttled_ttl_s: float
    max_page_lag_s: float


@lru_cache(maxsize=64)
def _is_id(text: str) -> bool:
    """Whether it can be an instance's id, of which there are few."""
    return _ID.fullmatch(text) is not None


@lru_cache(maxsize=64)
def _is_account(text: str) -> bool:
    """Whether ARNs may begin so, which has few values as well."""
    return re.fullmatch(_ACCOUNT, text) is not None


class Heartbeat(BaseModel):
    """A heartbeat as it comes in.

    Attributes:
        agent: The agent's ARN; or `instance_id` and `user_id`.
        session_id: A UUID, new at each page load.
        type: `hello` opens, `beat` renews (and opens what is not known), `bye` ends.
        incarnation: The page's own number; one more each time it comes back from the back-forward cache.
        seq: The client's running number within the incarnation. One that is not higher than the last moves nothing.
        visibility: Of the page.
        driver: What keeps the client's time: a worker, or the page's main thread, which browsers throttle when hidden.
        lag_ms: How long the page's main thread has not answered its worker.
        gap_ms: The longest time for which the client's timer did not run since its last heartbeat that was answered.
        login: The page's Connect session is up.
        reason: Why a bye is said.
        token: A heartbeat token, where a header cannot be set.
        ticket: The session's ticket from an earlier reply.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    agent: str | None = None
    instance_id: str | None = None
    user_id: str | None = None
    session_id: UUID
    type: BeatType = BeatType.BEAT
    incarnation: Annotated[int, Field(ge=0, lt=2**31)] = 0
    seq: _Count | None = None
    visibility: Literal["visible", "hidden"] | None = None
    driver: Literal["worker", "main"] | None = None
    lag_ms: _Milliseconds | None = None
    gap_ms: _Milliseconds | None = None
    login: bool | None = None
    reason: Annotated[str, Field(max_length=200)] | None = None
    token: Annotated[str, Field(max_length=4096)] | None = None
    ticket: Annotated[str, Field(max_length=512)] | None = None

    def names(self, agent: AgentId) -> bool:
        """Whether `agent_id` would return this agent, whose ids are known to be ids."""
        instance_id, user_id = self.instance_id, self.user_id
        if instance_id is not None and user_id is not None:
            if user_id != agent.user_id or instance_id != agent.instance_id:
                return False
            if self.agent is None:
                return True
        if self.agent is None:
            return False
        name = f"instance/{agent.instance_id}/agent/{agent.user_id}"
        return self.agent.endswith(name) and _is_account(self.agent[: -len(name)])

    def agent_id(self) -> AgentId:
        """The agent's id.

        Raises:
            MessageError: No agent is named, or two different ones, or the name is none.
        """
        named: AgentId | None = None
        if self.instance_id is not None and self.user_id is not None:
            if not (_is_id(self.instance_id) and _ID.fullmatch(self.user_id)):
                raise _bad("`instance_id` and `user_id` take the ids that Amazon Connect shows in the agent's ARN.")
            named = AgentId(self.instance_id, self.user_id)
        if self.agent is None:
            if named is None:
                raise _bad("Name the agent: `agent` (its ARN), or `instance_id` and `user_id`.")
            return named
        match = _ARN.fullmatch(self.agent)
        if match is None:
            raise _bad("`agent` takes an ARN like arn:aws:connect:REGION:ACCOUNT:instance/INSTANCE-ID/agent/USER-ID.")
        by_arn = AgentId(match[1], match[2])
        if named is not None and named != by_arn:
            raise _bad("`agent` names another agent than `instance_id` and `user_id`. Send one of them.")
        return by_arn


_READ: Callable[[bytes], Heartbeat] = Heartbeat.__pydantic_validator__.validate_json
"""`Heartbeat.model_validate_json` without its arguments."""


_READ_BATCH: Callable[[bytes], dict[str, list[Heartbeat | None]]] = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            "heartbeats": core_schema.typed_dict_field(
                core_schema.list_schema(
                    core_schema.with_default_schema(
                        Heartbeat.__pydantic_core_schema__, default=None, on_error="default"
                    ),
                    max_length=MAX_BATCH,
                )
            )
        }
    )
).validate_json
"""In one pass, 1.2 µs a heartbeat. One that is none becomes None and spoils no other."""


def parse_heartbeat(body: bytes) -> Heartbeat:
    """Reads one heartbeat.

    Raises:
        MessageError: 413 for more than `MAX_BODY` bytes, 400 for what is not a heartbeat.
    """
    if len(body) > MAX_BODY:
        raise MessageError(413, "Heartbeat too large", f"A heartbeat has at most {MAX_BODY} bytes. Send less.")
    try:
        return _READ(body)
    except ValidationError as error:
        raise _bad(_told(error)) from None


def parse_batch(body: bytes) -> list[Heartbeat | None]:
    """Reads a batch, with None for each item that is no heartbeat; `parse_batched` tells why.

    Raises:
        MessageError: 413 for more than `MAX_BATCH` heartbeats, 400 for what is no batch.
    """
    try:
        return _READ_BATCH(body)["heartbeats"]
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "too_long":
            raise MessageError(
                413, "Content Too Large", f"A batch has at most {MAX_BATCH} heartbeats. Send several."
            ) from None
        raise MessageError(
            400, "Bad Request", 'The body is not a batch. Send one JSON object, UTF-8: {"heartbeats":[…]}.'
        ) from None


def parse_batched(item: object) -> Heartbeat:
    """Reads one heartbeat of a batch that is already decoded.

    Raises:
        MessageError: 400 for what is not a heartbeat.
    """
    try:
        return Heartbeat.model_validate(item)
    except ValidationError as error:
        raise _bad(_told(error)) from None


def to_beat(heartbeat: Heartbeat, agent: AgentId, rules: LeaseRules) -> Beat:
    """What the timers need of a heartbeat."""
    visibility, kind = heartbeat.visibility, heartbeat.type
    hidden, main_driver = visibility == "hidden", heartbeat.driver == "main"
    ttl: float | None = rules.throttled_ttl_s if hidden and main_driver else rules.session_ttl_s
    if kind is BeatType.BYE:
        ttl = 0.0
    elif heartbeat.lag_ms and visibility == "visible" and heartbeat.lag_ms > rules.max_page_lag_s * 1000:
        ttl = None
    return Beat(
        agent,
        heartbeat.session_id.bytes,
        kind,
        heartbeat.incarnation,
        heartbeat.seq,
        ttl,
        hidden,
        main_driver,
        heartbeat.gap_ms,
        heartbeat.login is True and visibility == "visible",
    )


def _bad(detail: str) -> MessageError:
    return MessageError(400, "Not a heartbeat", detail)


def _told(error: ValidationError) -> str:
    """The first fault as a sentence, without the value."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if fault["type"] == "json_invalid":
        return "The body is not valid JSON. Send one JSON object, UTF-8."
    where = ".".join(str(part) for part in fault["loc"])
    if not where:
        return "The body is not a JSON object. Send an object with at least the agent and `session_id`."
    if fault["type"] == "missing":
        return f"`{where}` is missing."
    if where == "session_id":
        return "`session_id` is not a UUID. Take a new one, e.g. crypto.randomUUID(), at each page load."
    return f"`{where}`: {fault['msg']}."
