"""The stand-in behind moto's Connect backend, which by itself knows instances and tags only.

moto parses the requests, finds the operation by botocore's service model and knows the caller's account (STS roles
included); the answers come from the `ConnectModel` that the server put into the WSGI environment. So several servers in
one process have nothing in common.
"""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore import xform_name
from moto.connect import urls
from moto.connect.responses import ConnectResponse
from moto.core.exceptions import JsonRESTError

from watchdog.sandbox.api import OPERATIONS
from watchdog.sandbox.errors import ConnectError, invalid_parameter
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.shapes import faults_in, service_model
from watchdog.sandbox.world import Caller

ENVIRON_KEY = "watchdog.sandbox"
"""Where the WSGI environment holds the `Serving` of a request."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What a request is served from; `closing` is set when the server stops, and ends every pause."""

    model: ConnectModel
    closing: threading.Event

    def pause(self, seconds: float) -> None:
        """Wait in this request's thread."""
        if seconds > 0:
            self.closing.wait(seconds)


class RefusedError(JsonRESTError):
    """A `ConnectError` as moto sends it: code, message and HTTP status."""

    def __init__(self, error: ConnectError) -> None:
        """Carry over what AWS would send."""
        super().__init__(error.code, error.message)
        self.code = error.status


def _epoch(value: object) -> float:
    """Write times as rest-json does by default: epoch seconds, here with milliseconds."""
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"not JSON: {value!r}")


class SandboxConnectResponse(ConnectResponse):
    """The handler of Connect requests; it has one method for each of `OPERATIONS`, named as boto3 names it."""

    def __init__(self) -> None:
        """Let moto parse the parameters by the service model."""
        super().__init__()
        self.automated_parameter_parsing = True

    def serve(self, operation: str) -> str:
        """Give the operation to the model and answer with its JSON.

        Raises:
            RefusedError: the model refused.
            ConnectionResetError: the answer is to be lost; the server then drops the connection.
        """
        serving: Serving = self.normalized_request.environ[ENVIRON_KEY]
        model = serving.model
        params: dict[str, Any] = dict(self.params)
        # Spelt as JsonRESTError spells it, or an error has the header twice.
        self.response_headers["Content-Type"] = "application/json"
        report = faults_in(operation, params)
        if report:
            raise RefusedError(invalid_parameter(report))
        admission = model.admit(operation, params, Caller(self.current_account, self.region))
        serving.pause(admission.wait_s)
        reply = model.perform(admission)
        if reply.lost:
            serving.pause(reply.hang_s)
            raise ConnectionResetError("the answer is lost: an injected fault")
        if reply.error is not None:
            raise RefusedError(reply.error)
        return json.dumps(reply.answer, default=_epoch)


def _method(operation: str) -> Callable[[SandboxConnectResponse], str]:
    def method(self: SandboxConnectResponse) -> str:
        return self.serve(operation)

    method.__doc__ = f"{operation}, from the model."
    return method


def install() -> None:
    """Register the operations and their paths with moto; doing it again changes nothing."""
    for operation in OPERATIONS:
        setattr(SandboxConnectResponse, xform_name(operation), _method(operation))
        path = service_model().operation_model(operation).http["requestUri"]
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
        urls.url_paths["{0}" + pattern + "$"] = SandboxConnectResponse.dispatch
