"""The simulator's model of the server does what `parts.lua` does in a real one: random calls have the same answers."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from redis._parsers.encoders import Encoder

from tests.contract import redis_server
from watchdog.simulation.valkey_model import ValkeyModel, as_bytes
from watchdog.stores.register import UNHEARD_MS
from watchdog.stores.valkey_server import library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.redis_server import RedisServer

CALLS = 1_500
CLOCKS_MS = 250.0
"""What two answers may differ by that tell a time: the calls are made one after the other."""

ALL = [f"{{wd:all}}:{name}" for name in ("meta", "actions", "ids", "numbers", "times", "by_agent", "by_outcome")]
PART_OF_ALL, REPLICAS = "{wd:all}:part", "{wd:all}:replicas"
PARTS = [
    [f"{{wd:{n}}}:{name}" for name in ("part", "agents", "sessions", "changes", "outbox", "claims")] for n in (0, 1)
]
OWNERS = ("anna", "bert", "carl")
LEASES_MS = (-1, 100_000)
NAMES: tuple[str, ...] = (
    "take",
    "take",
    "leave",
    "write",
    "write",
    "write",
    "note",
    "log",
    "renew",
    "record",
    "forget",
    "agree",
    "report",
    "report",
    "drop",
    "post",
)
NAMES += ("tokens", "actions", "recorded")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server.running(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Caller:
    """Draws calls as daemons make them, and some that they never make."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.fences: dict[str, list[bytes]] = {}
        self.versions: dict[str, bytes] = {}

    def draw(self) -> tuple[str, list[str], list[Any]]:
        name: str = self.rng.choice(NAMES)
        drawn: tuple[str, list[str], list[Any]] = getattr(self, name)()
        return drawn

    def learn(self, keys: list[str], answer: list[bytes]) -> None:
        if answer[:1] == [b"TAKEN"]:
            self.fences.setdefault(keys[0], []).append(answer[1])
            self.versions[keys[0]] = answer[2]
        elif answer[:1] in ([b"OK"], [b"OTHER"]) and len(answer) > 1 and keys[0].endswith(":part"):
            self.versions[keys[0]] = answer[1]

    def key(self) -> str:
        return self.rng.choice([PART_OF_ALL, PARTS[0][0], PARTS[1][0]])

    def fence(self, key: str) -> bytes:
        known = self.fences.get(key, [b"0"])
        unknown = b"%d anna" % (int(known[-1].split()[0]) + 1)
        return self.rng.choice([*known[-3:], *known[-1:] * 6, b"0", unknown])

    def version(self, key: str) -> bytes:
        known = self.versions.get(key, b"0")
        return known if self.rng.random() < 0.85 else b"%d" % (int(known) + self.rng.choice((-1, 1)))

    def some(self, most: int, *values: Any) -> list[Any]:
        return [self.rng.choice(values) for _ in range(self.rng.randint(0, most))]

    def pairs(self, fields: list[bytes], most: int = 4) -> list[bytes]:
        names = self.rng.sample(fields, k=min(len(fields), self.rng.randint(0, most)))
        return [each for name in names for each in (name, b"%d [1]" % self.rng.randint(1, 5))]

    def take(self) -> tuple[str, list[str], list[Any]]:
        key = self.key()
        return "take", [key], [self.rng.choice(OWNERS), self.rng.choice(LEASES_MS), self.fence(key)]

    def leave(self) -> tuple[str, list[str], list[Any]]:
        key = self.key()
        return "leave", [key], [self.fence(key)]

    def write(self) -> tuple[str, list[str], list[Any]]:
        keys = self.rng.choice(PARTS)
        fields = [b"%d" % number for number in range(6)]
        args: list[Any] = [self.fence(keys[0]), self.version(keys[0]), self.rng.choice(LEASES_MS)]
        args.append(int(self.rng.random() < 0.1))
        for _ in range(4):
            for section in (self.some(2, *fields), self.pairs(fields)):
                args += [len(section), *section]
        section = self.pairs(fields)
        args += [len(section), *section]
        section = [each for field in self.some(2, *fields) for each in (field, self.rng.choice((2, 3, 2**53)))]
        args += [len(section), *section]
        section = self.pairs(fields, 2)
        return "write", keys, [*args, len(section), *section]

    def notes(self) -> list[Any]:
        number, rng = self.rng.choice((0, 0, 3, 500)), self.rng
        meta, gone = self.pairs([b"clock", b"shared", b"other"]), self.some(1, b"other")
        args = [number, len(meta), *meta, len(gone), *gone]
        added: list[Any] = []
        for _ in range(rng.randint(0, 3)):
            at, agent, outcome = rng.randint(1, 40), rng.choice("ab"), rng.choice(("confirmed", "held"))
            row = f'["{at}",{at},"i","{agent}","x","y","{outcome}"]' if rng.random() < 0.9 else "no row"
            added += [f"{at:03d}", at, f"i/{agent}", outcome, row]
        old = self.some(2, *(f"{at:03d}" for at in range(1, 41)))
        return [*args, len(added), *added, len(old), *old]

    def note(self) -> tuple[str, list[str], list[Any]]:
        head = [self.fence(PART_OF_ALL), self.version(PART_OF_ALL), self.rng.choice(LEASES_MS)]
        return "note", [PART_OF_ALL, *ALL], [*head, *self.notes()]

    def log(self) -> tuple[str, list[str], list[Any]]:
        return "log", ALL, self.notes()

    def renew(self) -> tuple[str, list[str], list[Any]]:
        _, keys, args = self.write()
        return "renew", keys, args

    def record(self) -> tuple[str, list[str], list[Any]]:
        _, keys, args = self.note()
        return "record", keys, args

    def forget(self) -> tuple[str, list[str], list[Any]]:
        return "forget", ALL[1:], self.some(2, *(f"{at:03d}" for at in range(1, 41)))

    def agree(self) -> tuple[str, list[str], list[Any]]:
        return "agree", [ALL[0]], self.pairs([b"format", b"shards", b"secret"])

    def report(self) -> tuple[str, list[str], list[Any]]:
        told = self.rng.choice(("{}", '{"blind":"store"}', "two words"))
        args = [self.rng.choice(OWNERS), self.rng.choice((0, 1)), told, UNHEARD_MS]
        return "report", [REPLICAS, ALL[0], PART_OF_ALL], args

    def drop(self) -> tuple[str, list[str], list[Any]]:
        return "drop", [REPLICAS], [self.rng.choice(OWNERS), self.rng.choice((0, 1_000_000))]

    def post(self) -> tuple[str, list[str], list[Any]]:
        return "post", ["{wd:to:anna}:inbox"], [100_000, self.rng.choice((b"a b\nc", b""))]

    def tokens(self) -> tuple[str, list[str], list[Any]]:
        count = self.rng.choice((-1, 1, 1, 1, 3))
        return "tokens", ["{wd:tokens}:put"], [count, 1.6, 4.0, 0.02, 0.05]

    def actions(self) -> tuple[str, list[str], list[Any]]:
        index, prefix = self.rng.choice(
            [(ALL[2], b""), (ALL[5], b"i/a\0"), (ALL[5], b"i/b\0"), (ALL[6], b"held\0"), (ALL[6], b"confirmed\0")]
        )
        return "actions", [ALL[1], index], [prefix, self.rng.choice(("", "007", "021")), self.rng.choice((1, 3, 100))]

    def recorded(self) -> tuple[str, list[str], list[Any]]:
        keys = [ALL[1], ALL[3], ALL[0]]
        return "recorded", keys, [self.rng.choice((0, 2, 7, 100_000)), self.rng.choice((1, 5, 100))]


def same(name: str, model: list[bytes], real: list[bytes]) -> bool:
    """Whether two answers are the same but for the moment at which they were given."""
    if len(model) != len(real):
        return False
    if name == "report" and model[0] == b"OK":
        rows = [sorted(zip(each[7::3], each[9::3], strict=True)) for each in (model, real)]
        if rows[0] != rows[1] or model[4:7] != real[4:7]:
            return False
        model, real = model[:4], real[:4]
    return all(one == other or _near(name, one, other) for one, other in zip(model, real, strict=True))


def _near(name: str, one: bytes, other: bytes) -> bool:
    if name not in ("report", "take", "tokens"):
        return False
    try:
        return abs(float(one) - float(other)) <= (1.0 if name == "tokens" else CLOCKS_MS)
    except ValueError:
        return False


@pytest.mark.parametrize("seed", range(4))
def test_random_calls_are_answered_as_by_a_real_server(server: RedisServer, seed: int) -> None:
    version, text = library()
    model, caller = ValkeyModel(lambda: int(time.time() * 1000)), Caller(seed)
    kinds: set[tuple[str, bytes]] = set()
    with server.client as client:
        client.flushall()
        model.run = client.info("server")["run_id"].encode()
        client.function_load(text, replace=True)
        for number in range(CALLS):
            name, keys, args = caller.draw()
            answer = model.call(name, keys, args)
            real = client.fcall(f"wd_{name}_{version}", len(keys), *keys, *args)
            assert same(name, answer, real), (number, name, keys, args, answer, real)
            kinds |= {("take", b"DOUBT") for told in answer[3:] if told and name == "take"}
            kinds.add((name, answer[0] if answer and answer[0].isalpha() and answer[0].isupper() else b""))
            caller.learn(keys, answer)
            kinds |= {("report", b"BACK") for age in answer[8::3] if name == "report" and age == b"%d" % UNHEARD_MS}
            if number % 100 == 0:
                # As after the time was set back.
                ahead = b'%d {"was":"here"}' % (time.time() * 1000 + 600_000)
                client.hset(REPLICAS, "dora", ahead)
                model.data.setdefault(REPLICAS.encode(), {})[b"dora"] = ahead
            if number % 100 == 50:
                # As after another server has taken its place.
                for key in {PART_OF_ALL, PARTS[0][0], PARTS[1][0]} & {each.decode() for each in model.data}:
                    client.hset(key, "run", "another")
                    model.data[key.encode()][b"run"] = b"another"
            if number % 20 == 10:
                # As a server does that makes room.
                key = caller.rng.choice(caller.rng.choice(PARTS)[1:])
                client.delete(key)
                model.data.pop(key.encode(), None)
        for keys in PARTS:
            for key in ("run", "doubt", "rows"):
                assert model.read(("HGET", keys[0], key)) == client.hget(keys[0], key)
            for key in keys[1:]:
                assert model.read(("HGETALL", key)) == client.hgetall(key)
        assert model.read(("HGET", ALL[0], "number")) == client.hget(ALL[0], "number")
        limits: list[tuple[Any, ...]] = [("-inf", "+inf"), (5, "+inf"), ("-inf", "(21", "LIMIT", 1, 3)]
        for limit in limits:
            command = ("ZRANGEBYSCORE", ALL[4], *limit)
            assert model.read(command) == client.execute_command(*command)
        while (message := model.pop("{wd:to:anna}:inbox")) is not None:
            found = client.lpop("{wd:to:anna}:inbox")
            assert isinstance(found, bytes)
            assert message.partition(b" ")[2] == found.partition(b" ")[2]
        assert client.lpop("{wd:to:anna}:inbox") is None
    wanted = {("take", b"TAKEN"), ("take", b"HELD"), ("write", b"OK"), ("write", b"FENCED"), ("write", b"OTHER")}
    wanted |= {("write", b"GONE"), ("note", b"OK"), ("report", b"DROPPED"), ("drop", b"KEPT"), ("drop", b"OK")}
    assert wanted | {("report", b"BACK"), ("take", b"DOUBT")} <= kinds


def test_a_part_is_in_doubt_from_another_server_until_it_is_written_to() -> None:
    model, keys = ValkeyModel(lambda: 0), PARTS[0]

    def taken() -> list[bytes]:
        answer = model.call("take", keys[:1], ["anna", 3000, 0])
        assert answer[0] == b"TAKEN"
        return answer

    assert taken()[3] == b""
    model.restore(model.saved())
    assert taken()[3] == b"doubt"
    fence, version = taken()[1:3]
    nothing = [0] * 11
    answer = model.call("renew", keys, [fence, version, 3000, 0, *nothing])
    assert taken()[3] == b"doubt"
    fence = taken()[1]
    assert model.call("write", keys, [fence, answer[1], 3000, 0, *nothing])[0] == b"OK"
    assert taken()[3] == b""


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("name", ["write", "renew"])
def test_a_table_that_was_dropped_is_noticed_by_the_next_write(at: int, name: str) -> None:
    model, keys = ValkeyModel(lambda: 0), PARTS[0]
    fence = model.call("take", keys[:1], ["anna", 3000, 0])[1]
    nothing, row = [0] * 11, [2, "a", "1 [1]"]
    rows = [0, *row] * 4 + row + [0, 0]
    assert model.call("write", keys, [fence, 0, 3000, 0, *rows])[0] == b"OK"
    assert model.read(("HGET", keys[0], "rows")) == b"1 1 1 1 1 1"
    table = model.data.pop(keys[at].encode())
    assert model.call(name, keys, [fence, 1, 3000, 0, *nothing]) == [b"GONE"]
    assert model.call("take", keys[:1], ["anna", 3000, fence])[2] == b"1"
    fence = model.read(("HGET", keys[0], "fence"))
    # All is written anew, or it is there again.
    if at == 1:
        assert model.call("write", keys, [fence, 1, 3000, 1, *rows])[0] == b"OK"
    else:
        model.data[keys[at].encode()] = table
        assert model.call(name, keys, [fence, 1, 3000, 0, *nothing])[0] == b"OK"
    model.data.pop(keys[at].encode())
    # Another version has written since, and has not counted.
    model.data[keys[0].encode()][b"version"] = b"3"
    assert model.call(name, keys, [fence, 3, 3000, 0, *nothing])[0] == b"OK"


def test_lists_and_buckets_are_forgotten_after_their_time() -> None:
    now = 0
    model = ValkeyModel(lambda: now)
    model.call("post", ["inbox"], [5_000, "m"])
    now = 4_999
    assert model.data
    now = 5_000
    assert model.pop("inbox") is None


@pytest.mark.parametrize("value", ["text", b"bytes", 7, 0.1, 1e-7, 2**53])
def test_arguments_are_sent_as_the_client_sends_them(value: Any) -> None:
    encoder: Any = Encoder
    assert as_bytes(value) == encoder("utf-8", "strict", decode_responses=False).encode(value)
