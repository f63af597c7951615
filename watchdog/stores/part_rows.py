"""What a batch says, sorted by the parts that the agents belong to, as fields and values of the hashes there.

A value is the row's other columns as a JSON array. Of two statements about one field the last one counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import orjson

from watchdog.core.model import AgentId
from watchdog.stores.batch import Batch, Statement
from watchdog.stores.journal import Row

UUID_BYTES = 16
DROP_SAME_CHANGE = "drop a change that is still this value"
TOUCH = "nothing but that the part is still ours"
ANEW = "whatever the part has is dropped first"
NUMBER = "the highest number of the history that was given so far"
"""In a batch, beside its statements: rows of instance id, user id and value; agents; numbers of parts; a number."""

OF_NO_AGENT = frozenset(
    {TOUCH, ANEW, NUMBER, Statement.PUT_META, Statement.DROP_META, Statement.PUT_ACTION, Statement.DROP_ACTION}
)
"""What is decided of an agent has others."""

OWN_META = frozenset({b"format", b"shards", b"number", b"noted_at"})
"""What the meta table has of the parts themselves."""

ANY_TOKEN = 2**53
"""Higher than any claim's, and the highest whole number that Lua tells from its neighbours."""

Fields = dict[bytes, bytes | None]
"""To put; None to drop."""


def part_of(agent: AgentId, shards: int) -> int:
    """The part to which an agent belongs, for good."""
    return crc32(agent_field(agent)) % shards


def agent_field(agent: Sequence[str]) -> bytes:
    """The field of an agent's row."""
    return f"{agent[0]}/{agent[1]}".encode(errors="surrogateescape")


def agent_of(key: bytes) -> tuple[str, str]:
    """The agent of a field."""
    instance_id, _, user_id = key.decode(errors="surrogateescape").partition("/")
    return instance_id, user_id


@dataclass(slots=True)
class PartWrite:
    """What is written to one part in one step.

    Attributes:
        agents: By agent.
        sessions: By session id and agent: two agents may have had one id.
        changes: By agent.
        outbox: Actions on their way into the history, by id.
        claims: By agent; what is put begins with the claim's token.
        old_claims: Claims to drop up to a token, by agent.
        old_changes: Changes to drop if they are still these.
        anew: Whatever the part has of agents, sessions, changes and claims is dropped first.
    """

    agents: Fields = field(default_factory=dict)
    sessions: Fields = field(default_factory=dict)
    changes: Fields = field(default_factory=dict)
    outbox: Fields = field(default_factory=dict)
    claims: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    old_claims: dict[bytes, int] = field(default_factory=dict)
    old_changes: dict[bytes, bytes] = field(default_factory=dict)
    anew: bool = False

    def arguments(self) -> list[Any]:
        """The sections that the function takes."""
        found: list[Any] = [int(self.anew)]
        for fields in (self.agents, self.sessions, self.changes, self.outbox):
            found += _section([key for key, value in fields.items() if value is None])
            found += _section(_pairs((key, value) for key, value in fields.items() if value is not None))
        found += _section(_pairs((key, value) for key, (_, value) in self.claims.items()))
        found += _section(_pairs(self.old_claims.items()))
        found += _section(_pairs(self.old_changes.items()))
        return found


@dataclass(slots=True)
class AllWrite:
    """What is written to the part of all in one step.

    Attributes:
        meta: Values of the meta table.
        actions: Rows of the history, by id.
        old_actions: Ids of those to drop.
    """

    meta: dict[bytes, bytes | None] = field(default_factory=dict)
    actions: dict[bytes, Row] = field(default_factory=dict)
    old_actions: list[bytes] = field(default_factory=list)

    def arguments(self) -> list[Any]:
        """The sections that the function takes."""
        put = _pairs((key, value) for key, value in self.meta.items() if value is not None)
        found = [*_section(put), *_section([key for key, value in self.meta.items() if value is None])]
        added: list[Any] = []
        for key, row in self.actions.items():
            added += (key, float(row[1]), agent_field(row[2:4]), row[6], orjson.dumps(row))
        return [*found, *_section(added), *_section(self.old_actions)]


@dataclass(slots=True)
class Sorted:
    """A batch, or several, by parts.

    Attributes:
        shards: How many there are.
        parts: What is written to each, by its number.
        all: What is written to the part of all.
        number: That which the first of its actions comes behind; None for the highest that is known.
    """

    shards: int
    parts: dict[int, PartWrite] = field(default_factory=dict)
    all: AllWrite = field(default_factory=AllWrite)
    number: int | None = None

    def part(self, agent: Sequence[str]) -> PartWrite:
        """What is written to an agent's part."""
        return self.parts.setdefault(part_of(AgentId(agent[0], agent[1]), self.shards), PartWrite())

    def take_decided(self) -> dict[bytes, tuple[int, Row]]:
        """Takes out the actions that are in an outbox, each with its part's number: they come after their parts."""
        return {
            key: (number, self.all.actions.pop(key))
            for number, part in self.parts.items()
            for key, value in part.outbox.items()
            if value is not None
        }

    def add(self, batch: Batch) -> None:
        """Adds a batch that comes after all before it."""
        decides = any(statement not in OF_NO_AGENT for statement, _ in batch.statements)
        for statement, rows in batch.statements:
            for row in rows:
                if statement == DROP_SAME_CHANGE:
                    self.part(row).old_changes[agent_field(row)] = row[2]
                elif statement == NUMBER:
                    self.number = row[0]
                elif statement == ANEW:
                    self.parts.setdefault(row[0], PartWrite()).anew = True
                elif statement == TOUCH:
                    self.part(row)
                else:
                    self._add(statement, row, decides=decides)

    def _add(self, statement: str, row: Row | Sequence[Any], *, decides: bool) -> None:
        match statement:
            case Statement.PUT_META:
                self.all.meta[row[0].encode(errors="surrogateescape")] = row[1]
            case Statement.DROP_META:
                self.all.meta[row[0].encode(errors="surrogateescape")] = None
            case Statement.PUT_ACTION:
                # Decided together with rows of its agent: it goes into the history from there.
                if decides:
                    self.part(row[2:4]).outbox[row[0].encode()] = orjson.dumps(row)
                self.all.actions.setdefault(row[0].encode(), tuple(row))
            case Statement.DROP_ACTION:
                self.all.old_actions.append(row[0].encode())
            case Statement.PUT_SESSION | Statement.DROP_SESSION:
                value = orjson.dumps(row[3:]) if statement == Statement.PUT_SESSION else None
                self.part(row[1:3]).sessions[row[0] + agent_field(row[1:3])] = value
            case _:
                self._add_of_agent(statement, row, self.part(row))

    @staticmethod
    def _add_of_agent(statement: str, row: Row | Sequence[Any], part: PartWrite) -> None:
        key = agent_field(row)
        match statement:
            case Statement.PUT_AGENT:
                part.agents[key] = orjson.dumps(row[2:])
            case Statement.DROP_AGENT:
                part.agents[key] = None
            case Statement.PUT_CHANGE:
                part.changes[key] = orjson.dumps(row[2:])
            case Statement.DROP_CHANGE:
                part.changes[key] = None
            case Statement.PUT_CLAIM:
                # No token is given twice: whatever is to be dropped of this agent's is older.
                part.claims[key] = row[3], b"%d " % row[3] + orjson.dumps(row[2:])
            case Statement.DROP_CLAIM:
                if key in part.claims and part.claims[key][0] <= row[2]:
                    del part.claims[key]
                part.old_claims[key] = max(row[2], part.old_claims.get(key, 0))
            case _:
                raise NotImplementedError(statement)


def _section(found: Sequence[Any]) -> list[Any]:
    return [len(found), *found]


def _pairs(items: Iterable[tuple[Any, Any]]) -> list[Any]:
    return [each for item in items for each in item]


@dataclass(slots=True)
class PartRows:
    """What the parts have. See `watchdog.stores.journal.Kept`."""

    of_all: Mapping[bytes, bytes]
    tables: Mapping[str, Sequence[Mapping[bytes, bytes]]]

    def meta(self, key: str) -> bytes | None:
        """See `Kept.meta`."""
        return self.of_all.get(key.encode())

    def metas(self) -> Iterable[tuple[str, bytes]]:
        """See `Kept.metas`."""
        for key, value in self.of_all.items():
            if key not in OWN_META:
                yield key.decode(errors="surrogateescape"), value

    def agents(self) -> Iterable[Row]:
        """See `Kept.agents`."""
        return self._rows("agents")

    def sessions(self) -> Iterable[Row]:
        """See `Kept.sessions`."""
        for part in self.tables["sessions"]:
            for key, value in part.items():
                yield key[:UUID_BYTES], *agent_of(key[UUID_BYTES:]), *columns(value)

    def claims(self) -> Iterable[Row]:
        """See `Kept.claims`."""
        for part in self.tables["claims"]:
            for key, value in part.items():
                yield *agent_of(key), *columns(value.partition(b" ")[2])

    def recent_changes(self, since: object) -> Iterable[Row]:
        """See `Kept.recent_changes`. All of them."""
        del since
        return self._rows("changes")

    def _rows(self, table: str) -> Iterable[Row]:
        for part in self.tables[table]:
            for key, value in part.items():
                yield *agent_of(key), *columns(value)


TABLES = ("agents", "sessions", "changes", "outbox", "claims")
"""Of a part, as the function of writing takes and counts them."""

PART = "part"
"""In place of a table: the key that has their number and that of the part's writes."""


def missing(counted: Sequence[bytes | None], tables: Mapping[str, Mapping[bytes, bytes]]) -> Counter[str]:
    """How many rows each table of a part lacks, below 0 where it has more; nothing where nobody can tell.

    Rows without any write tell that the part's own key, which counts both, is lost: whatever else is, nobody can tell.

    Args:
        counted: The part's `version` and `rows`. Where another version of us has written last, it has not counted.
        tables: The part's, by name.
    """
    version, rows = counted
    if not int(version or 0) and any(tables.values()):
        return Counter({PART: 1})
    told = (rows or b"").split()
    if len(told) != 1 + len(TABLES) or told[0] != version:
        return Counter()
    return Counter({name: int(number) - len(tables[name]) for name, number in zip(TABLES, told[1:], strict=True)})


def columns(value: bytes) -> Sequence[Any]:
    """The columns of a value. One that cannot be read is a row that cannot be read."""
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return (value,)
    return found if isinstance(found, list) else (value,)
