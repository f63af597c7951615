"""What all answers of the stand-in have in common: the types, times, pages and marks of change."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from watchdog.sandbox.errors import invalid_parameter
from watchdog.sandbox.world import Caller, Instance, World

T = TypeVar("T")

Params = Mapping[str, Any]
"""Parameters as boto3 takes them."""

Answer = dict[str, Any]
"""An answer as boto3 gives it, without `ResponseMetadata`."""

Operation = Callable[[World, Caller, Params], Answer]
"""Reads or changes the world and answers, or raises `ConnectError` and changes nothing."""


def timestamp(epoch: float) -> datetime:
    """Give the time as boto3 does, to the millisecond as Amazon Connect keeps it."""
    return datetime.fromtimestamp(round(epoch, 3), UTC)


def page(items: Sequence[T], params: Params, most: int) -> tuple[Sequence[T], Answer]:
    """Cut out the page asked for; the second value holds `NextToken` unless the page is the last."""
    size = params.get("MaxResults", most)
    if not 1 <= size <= most:
        raise invalid_parameter(f"MaxResults must be from 1 to {most}: {size}")
    start = 0
    if params.get("NextToken"):
        try:
            start = int(urlsafe_b64decode(params["NextToken"]))
        except ValueError:
            raise invalid_parameter("NextToken is not one that this operation gave out") from None
    end = start + size
    more = {"NextToken": urlsafe_b64encode(str(end).encode()).decode()} if end < len(items) else {}
    return items[start:end], more


def changed(instance: Instance, modified_at: float) -> Answer:
    """Say when and where the thing was last modified."""
    return {"LastModifiedTime": timestamp(modified_at), "LastModifiedRegion": instance.region}
