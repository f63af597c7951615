"""The fast lane's part of the OpenAPI document, which FastAPI does not see."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from watchdog.core.messages import MAX_BATCH, MAX_BODY, Heartbeat
from watchdog.ingest.heartbeat import MANY, ONE
from watchdog.ingest.problems import MEDIA_TYPE
from watchdog.ingest.views import BatchOut, HeartbeatOut, ProblemOut

_REF = "#/components/schemas/{model}"

_REFUSALS = {
    "400": "Not a heartbeat; `detail` names the field.",
    "401": "No heartbeat token and no valid ticket of the session. A bye needs the ticket.",
    "403": "The agent's instance is not watched here, or pages of this origin may not send heartbeats.",
    "409": "The session belongs to another agent.",
    "413": "Too large.",
    "415": "Neither application/json nor text/plain.",
    "429": "Too many agents who are new; try again after Retry-After.",
    "503": "The store cannot take it now; try again after Retry-After.",
}

_OF_ALL = {
    "403": "A page of another origin asks; or there are no admin tokens.",
    "414": "The path and its query are too long.",
    "415": "A Content-Encoding; none is taken.",
    "421": "With AUTH=none: asked for under a name that does not lead to this machine for certain.",
}
"""Besides their own, told before anything is looked at."""

_OF_BODIES = {"413": "Too large."}

_OF_ONE_SESSION = ("401", "409")
"""In a batch these are told for each item."""


def complete(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What to set as the app's `openapi`: FastAPI's document and the heartbeat paths, made once."""
    made: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not made:
            made.update(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
            _add(made)
            for path, item in made["paths"].items():
                for method, operation in item.items():
                    _mend(path, method, operation)
        return made

    return document


def _add(document: dict[str, Any]) -> None:
    inputs: list[type[BaseModel]] = [Heartbeat]
    outputs: list[type[BaseModel]] = [HeartbeatOut, BatchOut, ProblemOut]
    _, read = models_json_schema([(model, "validation") for model in inputs], ref_template=_REF)
    _, written = models_json_schema([(model, "serialization") for model in outputs], ref_template=_REF)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(read["$defs"] | written["$defs"])
    one = _ref(Heartbeat)
    many = {
        "type": "object",
        "required": ["heartbeats"],
        "properties": {
            "heartbeats": {
                "type": "array",
                "maxItems": MAX_BATCH,
                "items": {"anyOf": [one, {"description": "Anything else is listed in `rejected`."}]},
            }
        },
    }
    paths = document.setdefault("paths", {})
    refusals = {status: _refusal(text) for status, text in _REFUSALS.items()}
    paths[ONE] = {
        "post": _operation(
            "heartbeat",
            "Open, renew or end a session",
            f"At most {MAX_BODY} bytes. Unknown fields are ignored.",
            one,
            {
                "200": {"description": "The session's state.", "content": _json(_ref(HeartbeatOut))},
                "204": {"description": "The bye was taken; so is any repetition."},
                **refusals,
            },
        )
    }
    paths[MANY] = {
        "post": _operation(
            "heartbeats",
            "Many heartbeats, for gateways",
            f"At most {MAX_BATCH}. Answered when those accepted are stored.",
            many,
            {
                "200": {"description": "What became of them.", "content": _json(_ref(BatchOut))},
                **{status: refusal for status, refusal in refusals.items() if status not in _OF_ONE_SESSION},
            },
        )
    }


def _operation(
    name: str, summary: str, description: str, body: dict[str, Any], responses: dict[str, Any]
) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "description": description,
        "requestBody": {"required": True, "content": _json(body) | {"text/plain": {"schema": body}}},
        "responses": responses,
    }


def _mend(path: str, method: str, operation: dict[str, Any]) -> None:
    """Errors are problems, and some of them are every operation's."""
    responses = operation["responses"]
    for status, response in responses.items():
        if status >= "400" and "application/json" in response.get("content", {}):
            told = response["content"].pop("application/json")
            if told["schema"].get("$ref", "").endswith("HTTPValidationError"):
                told = {"schema": _ref(ProblemOut)}
            response["content"][MEDIA_TYPE] = told
    reading = method in ("get", "head")
    for status, text in (_OF_ALL if reading else _OF_ALL | _OF_BODIES).items():
        if status in responses or (status == "403" and not path.startswith(("/v1/", "/metrics"))):
            continue
        responses[status] = _refusal(text)


def _refusal(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _ref(ProblemOut)}}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}
