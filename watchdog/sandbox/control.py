"""The control API under `/sandbox/`: what tests, demos and people do to the stand-in besides calling AWS's API.

JSON in and out. Errors are `{"detail": …}` with 400 for what cannot be meant, 404 for what does not exist, 409 for what
exists already. It has no authentication: the server listens on loopback unless asked for more.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from watchdog.sandbox import views
from watchdog.sandbox.errors import ConnectError
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import Behaviour, ContactState, Fault, FaultKind
from watchdog.sandbox.seed import seed

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PREFIX = "/sandbox/"

_ROUTES = Map(
    [
        Rule("/sandbox/state", endpoint="state", methods=["GET"]),
        Rule("/sandbox/calls", endpoint="calls", methods=["GET"]),
        Rule("/sandbox/faults", endpoint="add_fault", methods=["POST"]),
        Rule("/sandbox/faults", endpoint="clear_faults", methods=["DELETE"]),
        Rule("/sandbox/instances", endpoint="seed", methods=["POST"]),
        Rule("/sandbox/users/<instance_id>/<user_id>", endpoint="show_user", methods=["GET"]),
        Rule("/sandbox/users/<instance_id>/<user_id>", endpoint="delete_user", methods=["DELETE"]),
        Rule("/sandbox/users/<instance_id>/<user_id>/status", endpoint="set_status", methods=["POST"]),
        Rule("/sandbox/statuses/<instance_id>/<status>", endpoint="delete_status", methods=["DELETE"]),
        Rule("/sandbox/contacts", endpoint="contact", methods=["POST"]),
        Rule("/sandbox/quotas", endpoint="quotas", methods=["POST"]),
        Rule("/sandbox/behaviour", endpoint="behaviour", methods=["POST"]),
    ]
)

Json = dict[str, Any]


def _known(body: Json, *names: str) -> Json:
    """Give the body if it holds only these names; a misspelt one must not pass for a default."""
    unknown = sorted(set(body) - set(names))
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(names)}")
    return body


def _parsed(raw: bytes) -> Json:
    """Read the body, an object; none is an empty one."""
    body = json.loads(raw) if raw else {}
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004  # it is the request that is wrong
    return body


def _fault(body: Json) -> Fault:
    """Read a fault; numbers are checked here, where their sender still hears of it."""
    _known(body, *(field.name for field in fields(Fault)))
    times = body.get("times")
    return Fault(
        kind=FaultKind(body["kind"]),
        operation=body.get("operation"),
        instance_id=body.get("instance_id"),
        user_id=body.get("user_id"),
        times=None if times is None else int(times),
        delay_s=float(body.get("delay_s", 0.0)),
    )


class ControlApi:
    """A WSGI application over one model."""

    def __init__(self, model: ConnectModel) -> None:
        """Control this model."""
        self._model = model

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Serve one request; its body is always read."""
        request = Request(environ)
        raw = request.get_data()
        try:
            endpoint, arguments = _ROUTES.bind_to_environ(environ).match()
            handler: Callable[..., Json] = getattr(self, f"_{endpoint}")
            status, answer = 200, handler(body=_parsed(raw), query=request.args, **arguments)
        except HTTPException as error:
            status, answer = error.code or 500, {"detail": error.description}
        except ConnectError as error:
            status, answer = error.status, {"detail": error.message}
        except KeyError as error:
            status, answer = 400, {"detail": f"missing or unknown: {error}"}
        except (ValueError, TypeError) as error:
            status, answer = 400, {"detail": str(error)}
        return Response(json.dumps(answer), status=status, mimetype="application/json")(environ, start_response)

    def _state(self, **_: object) -> Json:
        return views.state(self._model)

    def _calls(self, query: Mapping[str, str], **_: object) -> Json:
        calls = self._model.calls(int(query.get("since", 0)), query.get("operation"), query.get("user_id"))
        return {"calls": [views.call(call) for call in calls], "last_seq": self._model.last_seq}

    def _add_fault(self, body: Json, **_: object) -> Json:
        return {"fault_id": self._model.add_fault(_fault(body))}

    def _clear_faults(self, query: Mapping[str, str], **_: object) -> Json:
        self._model.clear_faults(query.get("fault_id"))
        return {}

    def _seed(self, body: Json, **_: object) -> Json:
        names = ("agents", "instance_id", "account", "region", "status", "statuses", "routing_profiles")
        return views.instance(seed(self._model, **_known(body, *names)))

    def _show_user(self, instance_id: str, user_id: str, **_: object) -> Json:
        return views.user(self._model.instance(instance_id), self._model.user(instance_id, user_id))

    def _delete_user(self, instance_id: str, user_id: str, **_: object) -> Json:
        self._model.delete_user(instance_id, user_id)
        return {}

    def _set_status(self, instance_id: str, user_id: str, body: Json, **_: object) -> Json:
        user = self._model.agent_sets_status(instance_id, user_id, _known(body, "status")["status"])
        return views.user(self._model.instance(instance_id), user)

    def _delete_status(self, instance_id: str, status: str, **_: object) -> Json:
        self._model.delete_status(instance_id, status)
        return {}

    def _contact(self, body: Json, **_: object) -> Json:
        """Add a contact; with `contact_id` set its state, or clear it when `end` is true."""
        _known(body, "instance_id", "user_id", "contact_id", "state", "channel", "end")
        instance_id, user_id, contact_id = body["instance_id"], body["user_id"], body.get("contact_id")
        if body.get("end"):
            self._model.end_contact(instance_id, user_id, body["contact_id"])
        elif contact_id is not None:
            self._model.set_contact_state(instance_id, user_id, contact_id, ContactState(body["state"]))
        else:
            state = ContactState(body.get("state", ContactState.INCOMING))
            channel = body.get("channel", "VOICE")
            contact_id = self._model.add_contact(instance_id, user_id, state, channel=channel).id
        return {"contact_id": contact_id, "user": self._show_user(instance_id, user_id)}

    def _quotas(self, body: Json, **_: object) -> Json:
        """Set `rate` (null: no limit) and `burst`, of one `operation` or all; or `scale` them all."""
        _known(body, "rate", "burst", "operation", "scale")
        if "scale" in body:
            self._model.scale_quotas(float(body["scale"]))
        else:
            rate = None if body["rate"] is None else float(body["rate"])
            self._model.set_quota(rate, float(body.get("burst", 1)), body.get("operation"))
        return {}

    def _behaviour(self, body: Json, **_: object) -> Json:
        names = [field.name for field in fields(Behaviour)]
        self._model.change_behaviour(**_known(body, *names))
        return {name: getattr(self._model.behaviour, name) for name in names}
