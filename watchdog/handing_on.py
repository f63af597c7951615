"""Orders to log an agent out, carried out by the daemon that has the agent's part, whichever was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import orjson

from watchdog.connect.log_out import DONE_S
from watchdog.core.model import AgentId
from watchdog.errors import LogOutFailed, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from watchdog.ingest.logout import LogOuts

ASKED = "order a log-out"

ANSWER_S = DONE_S + 5.0
"""Longest wait for the other daemon: for as long as its own answer may take."""


class Deployment(Protocol):
    """See `watchdog.stores.replica.ReplicaStore`."""

    def offer(self, what: str, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Other daemons may ask this one for something."""

    async def owner(self, agent: AgentId) -> str | None:
        """Which other daemon has an agent's part."""

    async def ask(self, owner: str, what: str, body: bytes, timeout_s: float) -> bytes:
        """Asks it."""


class HandedOn:
    """See `watchdog.ingest.logout.LogOuts`."""

    def __init__(self, here: LogOuts, deployment: Deployment) -> None:
        """Takes orders of other daemons from now on.

        Args:
            here: Carries out those for agents of this one.
            deployment: Knows who has the others.
        """
        self._here = here
        self._deployment = deployment
        deployment.offer(ASKED, self._asked)

    async def order(self, agent: AgentId, *, queue: str | None, reason_code: str | None, by: str) -> None:
        """Logs an agent out. See `watchdog.connect.log_out.LogOut.order`."""
        owner = await self._deployment.owner(agent)
        if owner is None:
            await self._here.order(agent, queue=queue, reason_code=reason_code, by=by)
            return
        body = orjson.dumps([*agent, queue, reason_code, by])
        why, text = orjson.loads(await self._deployment.ask(owner, ASKED, body, ANSWER_S))
        if why is not None:
            raise LogOutFailed(why, text)
        if text is not None:
            raise StoreUnavailable(text)

    async def _asked(self, body: bytes) -> bytes:
        instance_id, user_id, queue, reason_code, by = orjson.loads(body)
        try:
            await self._here.order(AgentId(instance_id, user_id), queue=queue, reason_code=reason_code, by=by)
        except LogOutFailed as error:
            return orjson.dumps([error.why, str(error)])
        except StoreUnavailable as error:
            return orjson.dumps([None, str(error)])
        return orjson.dumps([None, None])
