"""A Valkey server's data, and the functions of `stores/parts.lua` over it, in Python: for worlds in virtual time.

A user who plays worlds needs no server and no Lua; that this does the same as the library in a real server is tested by
playing the same calls against both. Only what the stores use is here.
"""

from __future__ import annotations

import copy
import math
import re
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

Answer = list[bytes]
Hash = dict[bytes, bytes]

_NUMBER = re.compile(rb"\d+")
_STAMPED = re.compile(rb"(\d+) (.*)", re.DOTALL)


class SortedSet:
    """Members with scores, in the order of scores and then of bytes."""

    def __init__(self) -> None:
        self._scores: dict[bytes, float] = {}
        self._order: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, score: float, member: bytes) -> None:
        """See ZADD."""
        self.remove(member)
        self._scores[member] = score
        insort(self._order, (score, member))

    def remove(self, member: bytes) -> None:
        """See ZREM."""
        score = self._scores.pop(member, None)
        if score is not None:
            del self._order[bisect_left(self._order, (score, member))]

    def by_score(self, least: bytes, most: bytes) -> list[tuple[float, bytes]]:
        """See ZRANGEBYSCORE: limits are inclusive unless they begin with a parenthesis."""
        low, above = _limit(least)
        high, below = _limit(most)
        return [
            (score, member)
            for score, member in self._order
            if (score > low if above else score >= low) and (score < high if below else score <= high)
        ]

    def by_name_down(self, upper: bytes, lower: bytes, count: int) -> list[bytes]:
        """See ZREVRANGEBYLEX, where all scores are the same."""
        found: list[bytes] = []
        for _, member in reversed(self._order):
            under = upper == b"+" or (member < upper[1:] if upper[:1] == b"(" else member <= upper[1:])
            if under and len(found) < count and (lower == b"-" or member >= lower[1:]):
                found.append(member)
        return found


class ValkeyModel:
    """One server's memory. Each method is one command or function, and atomic.

    Attributes:
        data: By key.
        run: See INFO. Another one after the server was restarted, or replaced by one that lacks the last writes.
    """

    def __init__(self, now_ms: Callable[[], int], pushed: Callable[[bytes], None] = lambda _: None) -> None:
        """Empty.

        Args:
            now_ms: The server's TIME, in milliseconds.
            pushed: Told the key of each list that gets a message.
        """
        self.data: dict[bytes, Any] = {}
        self.run = b"1"
        self._expires: dict[bytes, int] = {}
        self._now_ms = now_ms
        self._pushed = pushed
        self._functions: dict[str, Callable[[list[bytes], list[bytes]], Answer]] = {
            "take": self._take,
            "leave": self._leave,
            "write": self._settle,
            "note": self._note,
            "log": self._log,
            "renew": self._write,
            "record": self._note,
            "forget": self._forget,
            "agree": self._agree,
            "report": self._report,
            "drop": self._drop,
            "post": self._post,
            "tokens": self._tokens,
            "actions": self._actions,
            "recorded": self._recorded,
        }
        self._reads: dict[str, Callable[..., Any]] = {
            "HGETALL": lambda key: dict(self._hash(key)),
            "HGET": lambda key, field: self._hash(key).get(field),
            "HMGET": lambda key, *fields: [self._hash(key).get(field) for field in fields],
            "ZRANGEBYSCORE": self._by_score,
        }

    def call(self, name: str, keys: Sequence[Any], args: Sequence[Any]) -> Answer:
        """See FCALL."""
        return self._functions[name]([as_bytes(each) for each in keys], [as_bytes(each) for each in args])

    def read(self, command: Sequence[Any]) -> Any:  # noqa: ANN401 - of each command another type
        """Runs a command that changes nothing."""
        name, *rest = command
        return self._reads[str(name)](*(as_bytes(each) for each in rest))

    def pop(self, key: str) -> bytes | None:
        """See LPOP."""
        found: deque[bytes] | None = self._get(as_bytes(key))
        if not found:
            return None
        message = found.popleft()
        if not found:
            del self.data[as_bytes(key)]
        return message

    def flush(self) -> None:
        """See FLUSHALL."""
        self.data.clear()
        self._expires.clear()

    def saved(self) -> Any:  # noqa: ANN401 - for `restore` alone
        """A copy of everything."""
        return copy.deepcopy((self.data, self._expires))

    def restore(self, saved: Any) -> None:  # noqa: ANN401 - from `saved`
        """Everything is as it was then, on another server."""
        self.data, self._expires = copy.deepcopy(saved)
        self.run = b"%d" % (int(self.run) + 1)

    # What the functions use.

    def _get(self, key: bytes) -> Any:  # noqa: ANN401 - of each key another type
        if key in self._expires and self._now_ms() >= self._expires[key]:
            del self._expires[key]
            self.data.pop(key, None)
        return self.data.get(key)

    def _hash(self, key: bytes) -> Hash:
        """To read."""
        return self._get(key) or {}

    def _put(self, key: bytes, pairs: Sequence[bytes]) -> None:
        """See HSET."""
        if pairs:
            table: Hash = self._of(key, dict)
            for at in range(0, len(pairs), 2):
                table[pairs[at]] = pairs[at + 1]

    def _remove(self, key: bytes, fields: Sequence[bytes]) -> None:
        """See HDEL."""
        table = self._hash(key)
        for field in fields:
            table.pop(field, None)
        if not table:
            self.data.pop(key, None)

    def _of(self, key: bytes, kind: Callable[[], Any]) -> Any:  # noqa: ANN401 - what `kind` makes
        """To write."""
        if self._get(key) is None:
            self.data[key] = kind()
        return self.data[key]

    def _by_score(self, key: bytes, least: bytes, most: bytes, *limit: bytes) -> list[bytes]:
        found = [member for _, member in (self._get(key) or SortedSet()).by_score(least, most)]
        return found[int(limit[1]) :][: int(limit[2])] if limit else found

    def _refused(self, part: bytes, fence: bytes, version: bytes) -> Answer | None:
        found = self._hash(part)
        known = found.get(b"fence")
        if known is None or _number(known) < _number(fence):
            return [b"GONE"]
        if known != fence:
            return [b"FENCED", found[b"owner"]]
        if found.get(b"version") != version:
            return [b"OTHER", found[b"version"]]
        return None

    def _written(self, part: bytes, version: bytes, lease_ms: bytes) -> Answer:
        number = b"%d" % (int(version) + 1)
        self._put(part, [b"version", number, b"until", b"%d" % (self._now_ms() + int(lease_ms))])
        return [b"OK", number]

    def _counted(self, keys: list[bytes], version: bytes) -> bytes:
        return b" ".join([version, *(b"%d" % len(self._hash(key)) for key in keys[1:6])])

    # The functions, as in `parts.lua`.

    def _take(self, keys: list[bytes], args: list[bytes]) -> Answer:
        found, now = self._hash(keys[0]), self._now_ms()
        owner = found.get(b"owner")
        if owner is not None and owner != args[0] and int(found[b"until"]) > now:
            left = min(int(found[b"until"]) - now, max(0, int(args[1])))
            self._put(keys[0], [b"until", b"%d" % (now + left)])
            return [b"HELD", owner, b"%d" % left]
        number = max(_number(found.get(b"fence", b"0")), _number(args[2])) + 1
        fence, version = b"%d %s" % (number, args[0]), found.get(b"version", b"0")
        until = b"%d" % (now + int(args[1]))
        run = found.get(b"run", self.run)
        doubt = found.get(b"doubt", b"doubt" if run != self.run else b"")
        self._put(keys[0], [b"owner", args[0], b"fence", fence, b"version", version, b"until", until, b"run", self.run])
        if doubt:
            self._put(keys[0], [b"doubt", doubt])
        return [b"TAKEN", fence, version, doubt]

    def _leave(self, keys: list[bytes], args: list[bytes]) -> Answer:
        if self._hash(keys[0]).get(b"fence") == args[0]:
            self._put(keys[0], [b"until", b"0"])
        return [b"OK"]

    def _write(self, keys: list[bytes], args: list[bytes]) -> Answer:
        refused = self._refused(keys[0], args[0], args[1])
        if refused is not None:
            return refused
        rows = self._hash(keys[0]).get(b"rows", b"")
        if args[3] == b"1":
            for key in (*keys[1:4], keys[5]):
                self.data.pop(key, None)
        elif rows.split(b" ")[0] == args[1] and rows != self._counted(keys, args[1]):
            return [b"GONE"]
        section = _sections(args, 4)
        for key in keys[1:5]:
            self._remove(key, next(section))
            self._put(key, next(section))
        self._put(keys[5], next(section))
        for field, most in _pairs(next(section)):
            token = _NUMBER.match(self._hash(keys[5]).get(field, b""))
            if token and float(token[0]) <= float(most):
                self._remove(keys[5], [field])
        for field, value in _pairs(next(section)):
            if self._hash(keys[3]).get(field) == value:
                self._remove(keys[3], [field])
        answer = self._written(keys[0], args[1], args[2])
        self._put(keys[0], [b"rows", self._counted(keys, answer[1])])
        return answer

    def _settle(self, keys: list[bytes], args: list[bytes]) -> Answer:
        answer = self._write(keys, args)
        if answer[0] == b"OK":
            self._remove(keys[0], [b"doubt"])
        return answer

    def _add_notes(self, keys: list[bytes], args: list[bytes]) -> bytes:
        meta, rows, ids, numbers, times, by_agent, by_outcome = keys
        section = _sections(args, 1)
        self._put(meta, next(section))
        self._remove(meta, next(section))
        before = given = max(int(self._hash(meta).get(b"number", b"0")), int(args[0]))
        added = next(section)
        for at in range(0, len(added), 5):
            key, when, agent, outcome, row = added[at : at + 5]
            if key in self._hash(rows):
                continue
            self._put(rows, [key, row])
            given += 1
            for index, score, member in (
                (ids, 0.0, key),
                (numbers, float(given), key),
                (times, float(when), key),
                (by_agent, 0.0, agent + b"\0" + key),
                (by_outcome, 0.0, outcome + b"\0" + key),
            ):
                self._of(index, SortedSet).add(score, member)
        number = b"%d" % given
        if given > before or int(args[0]) > 0:
            self._put(meta, [b"number", number])
        self._drop_notes(keys[1:], next(section))
        return number

    def _drop_notes(self, keys: list[bytes], dropped: list[bytes]) -> None:
        rows, ids, numbers, times, by_agent, by_outcome = keys
        for key in dropped:
            found = self._hash(rows).get(key)
            if found is not None:
                columns = _columns(found)
                if columns is not None:
                    agent = f"{columns[2]}/{columns[3]}".encode()
                    self._unindex(by_agent, agent + b"\0" + key)
                    self._unindex(by_outcome, str(columns[6]).encode() + b"\0" + key)
                self._remove(rows, [key])
            for index in (ids, numbers, times):
                self._unindex(index, key)

    def _unindex(self, key: bytes, member: bytes) -> None:
        found: SortedSet | None = self._get(key)
        if found is not None:
            found.remove(member)
            if not found:
                del self.data[key]

    def _note(self, keys: list[bytes], args: list[bytes]) -> Answer:
        refused = self._refused(keys[0], args[0], args[1])
        if refused is not None:
            return refused
        number = self._add_notes(keys[1:], args[3:])
        self._put(keys[1], [b"noted_at", b"%d" % self._now_ms()])
        return [*self._written(keys[0], args[1], args[2]), number]

    def _log(self, keys: list[bytes], args: list[bytes]) -> Answer:
        return [b"OK", self._add_notes(keys, args)]

    def _forget(self, keys: list[bytes], args: list[bytes]) -> Answer:
        self._drop_notes(keys, args)
        return [b"OK"]

    def _agree(self, keys: list[bytes], args: list[bytes]) -> Answer:
        table: Hash = self._of(keys[0], dict)
        return [table.setdefault(field, value) for field, value in _pairs(args)]

    def _report(self, keys: list[bytes], args: list[bytes]) -> Answer:
        now = self._now_ms()
        if args[1] == b"1" and args[0] not in self._hash(keys[0]):
            return [b"DROPPED", b"%d" % now]
        self._put(keys[0], [args[0], b"%d %s" % (now, args[2])])
        meta, part = self._hash(keys[1]), self._hash(keys[2])
        noted = meta.get(b"noted_at")
        found = [
            b"OK",
            b"%d" % now,
            b"-1" if noted is None else b"%d" % (now - int(noted)),
            b"%d" % (int(part.get(b"until", b"0")) - now),
            part.get(b"owner", b""),
            meta.get(b"clock", b""),
            meta.get(b"shared", b""),
        ]
        for name, value in list(self._hash(keys[0]).items()):
            stamped = _STAMPED.match(value)
            age, told = now - int(stamped[1] if stamped else 0), stamped[2] if stamped else b""
            if age < 0:
                age = int(args[3])
                self._put(keys[0], [name, b"%d %s" % (now - age, told)])
            found += [name, b"%d" % age, told]
        return found

    def _drop(self, keys: list[bytes], args: list[bytes]) -> Answer:
        found = self._hash(keys[0]).get(args[0])
        if found is None:
            return [b"KEPT"]
        stamped = _STAMPED.match(found)
        if args[1] != b"0" and stamped and self._now_ms() - int(stamped[1]) < int(args[1]):
            return [b"KEPT"]
        self._remove(keys[0], [args[0]])
        return [b"OK"]

    def _post(self, keys: list[bytes], args: list[bytes]) -> Answer:
        self._of(keys[0], deque).append(b"%d %s" % (self._now_ms(), args[1]))
        self._expires[keys[0]] = self._now_ms() + int(args[0])
        self._pushed(keys[0])
        return [b"OK"]

    def _tokens(self, keys: list[bytes], args: list[bytes]) -> Answer:
        count, rate, burst, recovery, least = (float(each) for each in args)
        now, found = self._now_ms() / 1000, self._hash(keys[0])
        left, factor = float(found.get(b"tokens", b"0")), float(found.get(b"factor", b"1"))
        elapsed = max(0.0, now - float(found.get(b"at", b"%.17g" % now)))
        left = min(burst, left + elapsed * rate * factor)
        factor = min(1.0, factor + elapsed * recovery)
        wait_s = 0.0
        if count < 0:
            left, factor = 0.0, max(least, factor / 2)
        elif left >= count - 1e-9:
            left = max(0.0, left - count)
        else:
            wait_s = (count - left) / (rate * factor)
        self._put(keys[0], [b"tokens", b"%.17g" % left, b"at", b"%.17g" % now, b"factor", b"%.17g" % factor])
        self._expires[keys[0]] = self._now_ms() + 3_600_000
        return [b"%.17g" % wait_s]

    def _actions(self, keys: list[bytes], args: list[bytes]) -> Answer:
        prefix, cursor = args[0], args[1]
        newest = b"(" + prefix[:-1] + b"\1" if prefix else b"+"
        upper = b"(" + prefix + cursor if cursor else newest
        found: Answer = []
        index: SortedSet = self._get(keys[1]) or SortedSet()
        for member in index.by_name_down(upper, b"[" + prefix if prefix else b"-", int(args[2])):
            key = member[len(prefix) :]
            found += [key, self._hash(keys[0]).get(key, b"")]
        return found

    def _recorded(self, keys: list[bytes], args: list[bytes]) -> Answer:
        found = [self._hash(keys[2]).get(b"number", b"0")]
        index: SortedSet = self._get(keys[1]) or SortedSet()
        for score, key in index.by_score(b"(" + args[0], b"+inf")[: int(args[1])]:
            found += [b"%.17g" % score, self._hash(keys[0]).get(key, b"")]
        return found


def as_bytes(value: str | bytes | float) -> bytes:
    """As a client sends it."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else repr(value).encode()


def _number(fence: bytes) -> int:
    found = _NUMBER.match(fence)
    return int(found[0]) if found else 0


def _limit(text: bytes) -> tuple[float, bool]:
    exclusive = text.startswith(b"(")
    return float(text[1:] if exclusive else text) if text not in (b"+inf", b"-inf") else _end(text), exclusive


def _end(text: bytes) -> float:
    return math.inf if text == b"+inf" else -math.inf


def _sections(args: list[bytes], at: int) -> Iterator[list[bytes]]:
    while at < len(args):
        count = int(args[at])
        yield args[at + 1 : at + 1 + count]
        at += 1 + count


def _pairs(values: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(values[::2], values[1::2], strict=True)


def _columns(row: bytes) -> list[Any] | None:
    try:
        found = orjson.loads(row)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, list) else None
