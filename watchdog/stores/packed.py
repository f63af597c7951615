"""Heartbeats and other values of the store's contract as bytes, for the way from one daemon to another.

What cannot be read raises `ValueError`: it is another version's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

import orjson

from watchdog.core.model import AgentId, Beat, BeatType, Epoch, Notice, Reply, Tear, Verdict


def beats_out(beats: Sequence[Beat]) -> bytes:
    """Heartbeats, about 120 bytes each."""
    return orjson.dumps(
        [
            (
                *beat.agent,
                beat.session_id.hex(),
                beat.type.value,
                beat.incarnation,
                beat.seq,
                beat.ttl,
                beat.hidden,
                beat.main_driver,
                beat.gap_ms,
                beat.arrived,
                None if beat.tether is None else str(beat.tether),
            )
            for beat in beats
        ]
    )


def beats_in(text: bytes) -> list[Beat]:
    """The same back."""
    try:
        return [
            Beat(
                AgentId(instance_id, user_id),
                bytes.fromhex(session_id),
                BeatType(kind),
                incarnation,
                seq,
                ttl,
                hidden,
                main_driver,
                gap_ms,
                arrived,
                None if tether is None else int(tether),
            )
            for (
                instance_id,
                user_id,
                session_id,
                kind,
                incarnation,
                seq,
                ttl,
                hidden,
                main_driver,
                gap_ms,
                arrived,
                tether,
            ) in orjson.loads(text)
        ]
    except (TypeError, AttributeError) as error:
        raise ValueError("no heartbeats of this version") from error


def replies_out(replies: Sequence[Reply]) -> bytes:
    """Replies, about 30 bytes each."""
    return orjson.dumps(
        [
            (
                reply.verdict.value,
                reply.live,
                reply.left_s,
                None
                if reply.notice is None
                else (reply.notice.status, reply.notice.set_at, reply.notice.why, reply.notice.restored),
            )
            for reply in replies
        ]
    )


def replies_in(text: bytes) -> list[Reply]:
    """The same back."""
    try:
        return [
            Reply(
                Verdict(verdict),
                live,
                left_s,
                None if notice is None else Notice(notice[0], Epoch(notice[1]), notice[2], notice[3]),
            )
            for verdict, live, left_s, notice in orjson.loads(text)
        ]
    except (TypeError, LookupError) as error:
        raise ValueError("no replies of this version") from error


def tears_out(tears: Sequence[Tear]) -> bytes:
    """Notices of sockets' ends."""
    return orjson.dumps([(tear.session_id.hex(), str(tear.tether), tear.ttl) for tear in tears])


def tears_in(text: bytes) -> list[Tear]:
    """The same back."""
    try:
        return [Tear(bytes.fromhex(session_id), int(tether), ttl) for session_id, tether, ttl in orjson.loads(text)]
    except (TypeError, AttributeError) as error:
        raise ValueError("no tears of this version") from error


# Any other value of the contract, which is rarely asked for.


def out(value: object) -> bytes:
    """Values of dataclasses, enums, bytes, collections and JSON."""
    return orjson.dumps(_plain(value))


def read(kind: Any, text: bytes) -> Any:  # noqa: ANN401 - whatever the type says
    """The same back, as a value of the type."""
    try:
        return _made(kind, orjson.loads(text))
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"no {kind} of this version") from error


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value if isinstance(value, str) else value.name
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | frozenset | set):
        return [_plain(each) for each in value]
    return value


def _made(kind: Any, value: Any) -> Any:  # noqa: ANN401 - as the type says
    if kind is Any:
        return value
    if isinstance(kind, NewType):
        return _made(kind.__supertype__, value)
    origin = get_origin(kind)
    if origin is not None:
        return _collected(origin, get_args(kind), value)
    if issubclass(kind, Enum):
        return kind(value) if issubclass(kind, str) else kind[value]
    if issubclass(kind, bytes):
        return bytes.fromhex(value)
    if hasattr(kind, "__dataclass_fields__"):
        hints = _hints(kind)
        # What is not known is a newer version's; what is missing has its default.
        return kind(**{name: _made(hints[name], each) for name, each in value.items() if name in hints})
    if issubclass(kind, tuple):
        return kind(*(_made(each, found) for each, found in zip(_hints(kind).values(), value, strict=True)))
    if kind is not float and not isinstance(value, kind):
        raise TypeError(kind)
    return float(value) if kind is float else value


def _collected(origin: Any, arguments: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401 - as the type says
    if origin in (Union, UnionType):
        return None if value is None else _made(next(each for each in arguments if each is not type(None)), value)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return tuple(_made(each, found) for each, found in zip(arguments, value, strict=True))
    if origin is tuple or origin is list:
        return origin(_made(arguments[0], each) for each in value)
    return {_made(arguments[0], key): _made(arguments[1], each) for key, each in value.items()}


@cache
def _hints(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a class
    return get_type_hints(kind)
