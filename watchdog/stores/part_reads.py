"""What is read of the parts on a Valkey or Redis server: the history, and rows that are not in memory.

Where an index of the history has a row that is not there or cannot be read, it is left out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from watchdog.core.model import Action, AgentId, Epoch, Outcome
from watchdog.stores import change_rows, history
from watchdog.stores.base import Recorded
from watchdog.stores.columns import UNREADABLE
from watchdog.stores.part_rows import PartRows, agent_field

if TYPE_CHECKING:
    from watchdog.core.undo import Change
    from watchdog.stores.valkey_server import Call

ACTIONS, IDS, NUMBERS, TIMES, BY_AGENT, BY_OUTCOME, META = (
    f"{{wd:all}}:{name}" for name in ("actions", "ids", "numbers", "times", "by_agent", "by_outcome", "meta")
)

PAGE = 500
"""Rows of the history that one call reads at least, when it looks for some."""


class Server(Protocol):
    """What is asked of a server. See `watchdog.stores.valkey_server.ValkeyServer`."""

    async def open(self) -> None:
        """Makes sure of the functions."""

    async def close(self) -> None:
        """Lets the connections go."""

    async def call(self, calls: Sequence[Call]) -> list[list[bytes]]:
        """Calls functions, in order."""

    async def read(self, *commands: Sequence[str | int | float]) -> list[Any]:
        """Runs commands that change nothing."""

    async def pop(self, key: str, wait_s: float) -> bytes | None:
        """Takes the first of a list, and waits for one if there is none; None when none came."""

    async def look(self) -> str:
        """Looks at what may be set anew while it runs.

        Returns the policy by which it drops keys when it is full, as last seen; empty for none. Never raises.
        """

    async def memory_share(self, key: str) -> float | None:
        """The part of its memory that the server with a key has in use; None where nothing limits it."""


class PartReads:
    """Reads. Every method may raise `StoreUnavailable`."""

    def __init__(self, server: Server, shards: int) -> None:
        self._server = server
        self._shards = shards

    async def hash(self, key: str) -> dict[bytes, bytes]:
        """All of a hash."""
        (found,) = await self._server.read(("HGETALL", key))
        return dict(found)

    async def counted(self, key: str) -> list[bytes | None]:
        """A part's `version` and `rows`: see `part_rows.missing`."""
        (found,) = await self._server.read(("HMGET", key, "version", "rows"))
        return list(found)

    async def meta(self, key: str) -> bytes | None:
        """A value of the meta table."""
        (found,) = await self._server.read(("HGET", META, key))
        return None if found is None else bytes(found)

    async def changes(self) -> list[tuple[Change, bytes]]:
        """All changes, each with its value as it is kept."""
        found: list[tuple[Change, bytes]] = []
        for number in range(self._shards):
            kept = await self.hash(f"{{wd:{number}}}:changes")
            read, _ = change_rows.changes(PartRows({}, {"changes": [kept]}).recent_changes(None))
            found += [(change, kept[agent_field(change.agent)]) for change in read]
        return found

    async def actions(
        self, agent: AgentId | None, outcome: Outcome | None, since: Epoch | None, cursor: str | None, limit: int
    ) -> list[Action]:
        """See `Journal.actions`."""
        found: list[Action] = []
        recent = None if since is None or agent is not None else await self._ids_since(since)
        while len(found) < limit:
            if recent is not None:
                page = await self._page_of(recent, cursor, max(limit, PAGE))
            else:
                page = await self._page(agent, outcome, cursor, max(limit, PAGE))
            for key, row in page:
                cursor = key
                action = _action(row)
                if (
                    action is not None
                    and (outcome is None or action.outcome is outcome)
                    and (since is None or action.at >= since)
                    and len(found) < limit
                ):
                    found.append(action)
            if len(page) < max(limit, PAGE):
                break
        return found

    async def _ids_since(self, since: Epoch) -> list[str]:
        (found,) = await self._server.read(("ZRANGEBYSCORE", TIMES, since, "+inf"))
        return sorted(key.decode() for key in found)

    async def _page_of(self, ids: Sequence[str], cursor: str | None, limit: int) -> list[tuple[str, bytes]]:
        end = len(ids) if cursor is None else bisect_left(ids, cursor)
        page = ids[max(0, end - limit) : end][::-1]
        if not page:
            return []
        (found,) = await self._server.read(("HMGET", ACTIONS, *page))
        return list(zip(page, (row or b"" for row in found), strict=True))

    async def _page(
        self, agent: AgentId | None, outcome: Outcome | None, cursor: str | None, limit: int
    ) -> list[tuple[str, bytes]]:
        if agent is not None:
            index, prefix = BY_AGENT, agent_field(agent) + b"\0"
        elif outcome is not None:
            index, prefix = BY_OUTCOME, outcome.encode() + b"\0"
        else:
            index, prefix = IDS, b""
        (found,) = await self._server.call([("actions", [ACTIONS, index], [prefix, cursor or "", limit])])
        return [(key.decode(), row) for key, row in zip(found[::2], found[1::2], strict=True)]

    async def numbered(self, after: int, limit: int) -> tuple[int, list[tuple[int, bytes]]]:
        """The highest number that was ever given, and rows of the history behind a number, by their numbers."""
        ((last, *page),) = await self._server.call([("recorded", [ACTIONS, NUMBERS, META], [after, limit])])
        return int(last), [(int(number), row) for number, row in zip(page[::2], page[1::2], strict=True)]

    async def recorded(self, after: int, limit: int) -> Recorded:
        """See `Outbox.recorded`."""
        last, page = await self.numbered(after, limit)
        numbered = [(number, _action(row)) for number, row in page]
        read = tuple((number, action) for number, action in numbered if action is not None)
        return Recorded(read, numbered[-1][0] if len(numbered) == limit else max(last, after), last)

    async def old_actions(self, before: Epoch, limit: int) -> list[tuple[str]]:
        """See `Journal.old_actions`."""
        (found,) = await self._server.read(("ZRANGEBYSCORE", TIMES, "-inf", f"({before}", "LIMIT", 0, limit))
        return [(key.decode(),) for key in found]

    async def first_actions(self, before: int, limit: int) -> list[bytes]:
        """Keys of those that were recorded first, of all whose number is below `before`."""
        (found,) = await self._server.read(("ZRANGEBYSCORE", NUMBERS, "-inf", f"({before}", "LIMIT", 0, limit))
        return [bytes(key) for key in found]

    async def last_number(self) -> int:
        """The highest number that was ever given to an action."""
        return int(await self.meta("number") or 0)


def _action(row: bytes) -> Action | None:
    try:
        return history.action(tuple(orjson.loads(row)))
    except (*UNREADABLE, orjson.JSONDecodeError):
        return None
