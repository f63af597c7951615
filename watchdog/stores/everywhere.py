"""What operators ask of agents of a whole deployment, from any of its daemons, and what others ask for them here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from watchdog.core.model import Action, AgentId, AgentState, AgentView, Cancel, Epoch, FollowUp, Instant
from watchdog.core.undo import Ordered
from watchdog.errors import StoreUnavailable
from watchdog.stores import packed
from watchdog.stores.base import AgentPage
from watchdog.stores.bus import Refused
from watchdog.stores.part_rows import part_of

if TYPE_CHECKING:
    from watchdog.stores.bus import Bus
    from watchdog.stores.holdings import Holdings
    from watchdog.stores.one_part import PartStore

ANSWER_S = 3.0
"""Longest wait for another daemon's answer to a person."""


class _Of(NamedTuple):
    """What is asked of one agent's store: how, and the types of the answer and of the arguments."""

    do: Callable[..., Awaitable[Any]]
    answer: Any
    arguments: tuple[Any, ...]


class Everywhere:
    """The agents of all parts. Every method may raise `StoreUnavailable`: somebody has not answered."""

    def __init__(self, holdings: Holdings, bus: Bus, shards: int, now: Callable[[], Instant]) -> None:
        """Composes.

        Args:
            holdings: Know which parts are here, and who has the others.
            bus: Asks them.
            shards: In how many parts the agents are kept.
            now: The instant.
        """
        self._holdings = holdings
        self._bus = bus
        self._shards = shards
        self._of = {
            "agent": _Of(lambda store, agent: store.agent(agent), AgentView | None, (AgentId,)),
            "cancel": _Of(lambda store, agent, action: store.cancel(agent, action), Cancel, (AgentId, Action)),
            "log_out": _Of(
                lambda store, agent, follow_up: store.log_out(agent, follow_up, now()), bool, (AgentId, FollowUp)
            ),
        }
        self._now = now

    # What this daemon asks.

    async def agent(self, agent: AgentId) -> AgentView | None:
        """See `Store.agent`."""
        found: AgentView | None = await self._ask("agent", agent)
        return found

    async def cancel(self, agent: AgentId, action: Action) -> Cancel:
        """See `Store.cancel`."""
        found: Cancel = await self._ask("cancel", agent, action)
        return found

    async def log_out(self, agent: AgentId, follow_up: FollowUp) -> bool:
        """See `Store.log_out`."""
        found: bool = await self._ask("log_out", agent, follow_up)
        return found

    async def agents(self, state: AgentState | None, query: str, cursor: str | None, limit: int) -> AgentPage:
        """See `Store.agents`."""
        here = await self._agents(state, query, cursor, limit)
        body = packed.out((state, query, cursor, limit))
        pages = [here, *(packed.read(AgentPage, text) for text in await self._ask_all("agents", body))]
        found = sorted((view for page in pages for view in page.agents), key=lambda view: view.agent)
        more = len(found) > limit or any(page.cursor is not None for page in pages)
        found = found[:limit]
        return AgentPage(tuple(found), str(found[-1].agent) if more and found else None)

    async def restore(self, since: Epoch, instance_id: str | None, *, silent: bool, by: str | None) -> Ordered:
        """See `Store.restore`."""
        found = [await self._restore(since, instance_id, silent, by)]
        body = packed.out((since, instance_id, silent, by))
        found += [packed.read(Ordered, text) for text in await self._ask_all("restore", body)]
        return Ordered(*(sum(numbers) for numbers in zip(*found, strict=True)))

    async def _ask(self, what: str, agent: AgentId, *more: object) -> Any:  # noqa: ANN401 - as each of them answers
        of, number = self._of[what], part_of(agent, self._shards)
        store = self._holdings.stores.get(number)
        if store is not None:
            return await of.do(store, agent, *more)
        await self._holdings.look()
        owner = self._holdings.owner(number)
        if owner is None:
            raise StoreUnavailable("The part that the agent belongs to is nobody's at present.")
        try:
            return packed.read(of.answer, await self._bus.ask(owner, what, packed.out((agent, *more)), ANSWER_S))
        except (Refused, ValueError):
            raise StoreUnavailable("The part that the agent belongs to has just moved.") from None

    async def _ask_all(self, what: str, body: bytes) -> list[bytes]:
        await self._holdings.look()
        if not self._holdings.complete:
            raise StoreUnavailable("Some parts of the agents are nobody's at present.")
        try:
            asked = (self._bus.ask(owner, what, body, ANSWER_S) for owner in sorted(self._holdings.others()))
            return list(await asyncio.gather(*asked))
        except Refused:
            raise StoreUnavailable("Some parts of the agents have just moved.") from None

    # What others ask.

    async def answer(self, what: str, body: bytes) -> bytes:
        """Answers another daemon.

        Raises:
            Refused: This one does not have the part, or does not know what is asked.
            ValueError: It is another version's.
        """
        if what == "agents":
            return packed.out(await self._agents(*packed.read(tuple[AgentState | None, str, str | None, int], body)))
        if what == "restore":
            return packed.out(await self._restore(*packed.read(tuple[Epoch, str | None, bool, str | None], body)))
        of = self._of.get(what)
        if of is None:
            raise Refused(f"what is {what}?")
        agent, *more = packed.read(tuple[of.arguments], body)  # type: ignore[name-defined]
        store = self._holdings.stores.get(part_of(agent, self._shards))
        if store is None:
            raise Refused("not mine")
        return packed.out(await of.do(store, agent, *more))

    def _stores(self) -> Sequence[PartStore]:
        return list(self._holdings.stores.values())

    async def _agents(self, state: AgentState | None, query: str, cursor: str | None, limit: int) -> AgentPage:
        pages = [await store.agents(state, query, cursor, limit) for store in self._stores()]
        found = sorted((view for page in pages for view in page.agents), key=lambda view: view.agent)
        more = len(found) > limit or any(page.cursor is not None for page in pages)
        found = found[:limit]
        return AgentPage(tuple(found), str(found[-1].agent) if more and found else None)

    async def _restore(self, since: Epoch, instance_id: str | None, silent: bool, by: str | None) -> Ordered:  # noqa: FBT001
        found = [
            await store.restore(since, instance_id, silent=silent, instant=self._now(), by=by)
            for store in self._stores()
        ]
        return Ordered(*(sum(numbers) for numbers in zip(*found, (0, 0, 0), strict=True)))
