"""Things that belong to parts of the agents, brought to whoever has them: here, or at others, in one message each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from watchdog.errors import StoreUnavailable
from watchdog.stores.bus import ANSWER_S, Bus, Refused

if TYPE_CHECKING:
    from watchdog.stores.holdings import Holdings
    from watchdog.stores.one_part import PartStore

Result = TypeVar("Result")

DELIVERED_S = 1.0
"""Longest time for which it is tried to deliver things to whoever has their parts."""

AGAIN_S = 0.05
"""Between two attempts at it."""


class Delivery:
    """The way to the parts."""

    def __init__(self, holdings: Holdings, bus: Bus, time: Callable[[], float] = time.monotonic) -> None:
        """Composes.

        Args:
            holdings: Know who has which part.
            bus: Asks others.
            time: Monotonic seconds.
        """
        self._holdings = holdings
        self._bus = bus
        self._time = time

    async def everywhere(
        self,
        places: dict[int, int],
        here: Callable[[PartStore, Sequence[int]], Awaitable[Sequence[Result]]],
        what: str,
        body: Callable[[Sequence[int]], bytes],
        answer: Callable[[bytes], Sequence[Result]],
        found: dict[int, Result],
    ) -> None:
        """Has something done by whoever has the parts, each of them once for all of its own.

        Args:
            places: The part of each thing, by its place.
            here: Does it with a part of ours.
            what: What others are asked.
            body: What they are told, for some places.
            answer: What they answer.
            found: Gets the results, by place.

        Raises:
            StoreUnavailable: Some was not done by all who had to, or nobody knows.
        """
        left, until = dict(places), self._time() + DELIVERED_S
        while left:
            by_store, by_owner = self._by_place(left)
            jobs = [self._here(part, each, here) for part, each in by_store.items()]
            jobs += [
                self._there(owner, what, body(each), answer, until - self._time()) for owner, each in by_owner.items()
            ]
            results = await asyncio.gather(*jobs, return_exceptions=True)
            for each, result in zip([*by_store.values(), *by_owner.values()], results, strict=True):
                if isinstance(result, BaseException):
                    raise result
                if result is not None:
                    found.update(zip(each, result, strict=True))
                    for at in each:
                        del left[at]
            if left:
                await self._wait_for_owners(left, until)

    def _by_place(self, parts: Mapping[int, int]) -> tuple[dict[int, list[int]], dict[str, list[int]]]:
        """Places by part of ours, and by who else has their parts; those of nobody's parts are in neither."""
        by_store: dict[int, list[int]] = {}
        by_owner: dict[str, list[int]] = {}
        for at, part in parts.items():
            if part in self._holdings.stores:
                by_store.setdefault(part, []).append(at)
            elif (owner := self._holdings.owner(part)) is not None:
                by_owner.setdefault(owner, []).append(at)
        return by_store, by_owner

    async def _wait_for_owners(self, parts: Mapping[int, int], until: float) -> None:
        if self._time() + AGAIN_S >= until:
            raise StoreUnavailable("Some parts of the agents are nobody's at present.")
        before = self._by_place(parts)
        await self._holdings.look()
        after = self._by_place(parts)
        # Whoever has refused and is the one to ask still would do so again.
        if after == before or sum(len(places) for found in after for places in found.values()) < len(parts):
            await asyncio.sleep(AGAIN_S)

    async def _here(
        self, part: int, places: Sequence[int], here: Callable[[PartStore, Sequence[int]], Awaitable[Sequence[Result]]]
    ) -> Sequence[Result] | None:
        store = self._holdings.stores.get(part)
        if store is None:
            return None
        try:
            return await here(store, places)
        except StoreUnavailable:
            if self._holdings.has(store):
                raise
            return None  # it was given up meanwhile, or lost

    async def _there(
        self, owner: str, what: str, body: bytes, answer: Callable[[bytes], Sequence[Result]], timeout_s: float
    ) -> Sequence[Result] | None:
        try:
            return answer(await self._bus.ask(owner, what, body, min(timeout_s, ANSWER_S)))
        except Refused:
            return None
        except ValueError:
            raise StoreUnavailable("Another daemon of the deployment is of a version that does not fit.") from None

    async def here(
        self, parts: Sequence[int], here: Callable[[PartStore, Sequence[int]], Awaitable[Sequence[Result]]]
    ) -> list[Result]:
        """Does something with parts of ours; raises `Refused` if not all are."""
        by_part: dict[int, list[int]] = {}
        for at, part in enumerate(parts):
            by_part.setdefault(part, []).append(at)
        if not by_part.keys() <= self._holdings.stores.keys():
            raise Refused("not mine")
        found: dict[int, Result] = {}
        jobs = (self._here(part, places, here) for part, places in by_part.items())
        for places, done in zip(by_part.values(), await asyncio.gather(*jobs, return_exceptions=True), strict=True):
            if isinstance(done, BaseException):
                raise done
            if done is None:
                raise Refused("not mine")
            found.update(zip(places, done, strict=True))
        return [found[at] for at in range(len(parts))]
