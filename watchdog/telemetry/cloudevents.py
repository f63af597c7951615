"""What receivers are told, as CloudEvents: which actions, and the form of each event. No I/O.

Source: CloudEvents 1.0.2, "Required Attributes", and its JSON event format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from watchdog.core.brake import HOLDS, State
from watchdog.core.holds import BrakeChange, HoldView
from watchdog.core.model import Action, Epoch, Outcome
from watchdog.telemetry.pseudonyms import pseudonym, without_names

CONTENT_TYPE = "application/cloudevents+json"

SOURCE = "urn:watchdog"
"""Of what is about no instance. The ids of actions are unique in an instance, so its id is added for them."""

TOLD = frozenset(
    {
        Outcome.CONFIRMED,
        Outcome.NEXT_STATUS,
        Outcome.FAILED,
        Outcome.NO_SUCH_USER,
        Outcome.HELD,
        Outcome.RELEASED,
        Outcome.UNSEEN,
        Outcome.DRY_RUN,
    }
)
"""Outcomes that receivers are told: something was changed, would have been, could not be, or is held back. Of the
others nobody need know at once, and they come with every reload at the wrong moment: they stand in the history."""


class Problem(Protocol):
    """What a person has to mend. See `watchdog.connect.circuit.Problem`."""

    @property
    def code(self) -> str:
        """What kind it is."""

    @property
    def detail(self) -> str:
        """What is wrong and what to do."""

    @property
    def since(self) -> Epoch:
        """Wall clock of its beginning."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event, ready to be sent.

    Attributes:
        id: The same in each attempt to deliver it.
        type: What happened, e.g. `watchdog.action.confirmed`.
        at: When it happened.
        body: JSON in UTF-8.
    """

    id: str
    type: str
    at: Epoch
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of events that a receiver was told.

    Attributes:
        left: Not taken, and to be told again.
        never: Not taken, and never will be.
        why: Of the first one left.
        lasting: It stays so until a person mends something.
    """

    left: tuple[Event, ...] = ()
    never: tuple[Event, ...] = ()
    why: str = ""
    lasting: bool = False


def of_action(action: Action) -> Event:
    """The event of an action; its data is the action as `GET /v1/actions` has it."""
    data = {
        "id": action.id,
        "at": _rfc3339(action.at),
        "agent": str(action.agent),
        "intent": action.intent.value,
        "target": action.target,
        "outcome": action.outcome.value,
        "reason": action.reason,
        "evidence": without_names(action.evidence),
        "calls": action.calls,
        "latency_s": round(action.latency_s, 3),
    }
    source = f"{SOURCE}:instance:{action.agent.instance_id}"
    return _event(f"action.{action.outcome.value}", action.id, source, str(action.agent), action.at, data)


def of_brake(change: BrakeChange, hold: HoldView, key: str, at: Epoch) -> Event:
    """The event of a group that holds, needs a person, has let go, or is left to the brake again."""
    if change.after is State.ALARM:
        kind = "alarm"
    elif change.after in HOLDS:
        kind = "tripped"
    elif change.before in HOLDS or change.after is State.OVERRULED:
        kind = "released"
    else:
        kind = "clear"
    data = {
        "group": hold.group,
        "state": change.after.value,
        "before": change.before.value,
        "reason": hold.reason,
        "why": hold.why,
        "agents": hold.agents,
        "since": _rfc3339(hold.since),
        "age_s": hold.age_s,
        "proof": hold.proof,
        "next_step": hold.next_step if change.after in HOLDS else None,
        "by": hold.by and pseudonym(hold.by),
    }
    return _event(f"brake.{kind}", key, SOURCE, hold.group, at, data)


def of_problem(problem: Problem, key: str, at: Epoch, *, ended: bool) -> Event:
    """The event of a problem of `/v1/status` that is new, or there no more."""
    data = {"code": problem.code, "detail": problem.detail, "since": _rfc3339(problem.since)}
    return _event("problem.ended" if ended else "problem.began", key, SOURCE, problem.code, at, data)


def _event(kind: str, key: str, source: str, subject: str, at: Epoch, data: Mapping[str, Any]) -> Event:
    name = f"watchdog.{kind}"
    attributes = {
        "specversion": "1.0",
        "id": key,
        "source": source,
        "type": name,
        "subject": subject,
        "time": _rfc3339(at),
        "datacontenttype": "application/json",
        "data": data,
    }
    return Event(key, name, at, orjson.dumps(attributes))


def _rfc3339(at: Epoch) -> str:
    """The instant in UTC, to the millisecond. Source: RFC 3339, section 5.6."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
