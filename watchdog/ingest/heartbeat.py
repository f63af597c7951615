"""Heartbeats: what is answered to `POST /v1/heartbeat` and `POST /v1/heartbeats`, and an ASGI callable that does it.

Parse, look at the instance, authenticate, give to the buffer, answer. Nothing here knows of deadlines or timers, and
nothing is logged for a single heartbeat; counts tell. `fast_lane.py` asks for the same answers without ASGI.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import orjson
from pydantic_core import from_json

from watchdog.core.addresses import site
from watchdog.core.messages import (
    MAX_BATCH,
    MAX_BODY,
    Heartbeat,
    LeaseRules,
    parse_batch,
    parse_batched,
    parse_heartbeat,
    to_beat,
)
from watchdog.core.model import AgentId, Beat, BeatType, Epoch, Notice, Reply, Verdict
from watchdog.errors import MessageError, StoreUnavailable
from watchdog.ingest import canary
from watchdog.ingest.answers import (
    BEARER,
    CLOSE,
    FOREIGN,
    GONE,
    LARGE_BATCH,
    NO_CANARY,
    NOT_WATCHED,
    STOPPED,
    WRONG_METHOD,
    WRONG_TYPE,
    Answer,
    Rejection,
    refusal,
)
from watchdog.ingest.arrivals import Arrivals
from watchdog.ingest.auth import Gate, bearer
from watchdog.ingest.bodies import Bodies, Held, is_large
from watchdog.ingest.buffer import Buffer
from watchdog.ingest.problems import RETRY_AFTER_S, UNAVAILABLE
from watchdog.ingest.recording import Recordings
from watchdog.ingest.refusals import Refusals
from watchdog.ingest.views import notice_out
from watchdog.ingest.wire import (
    JSON_HEADERS,
    Head,
    Header,
    Receive,
    Scope,
    Send,
    answer,
    read_body,
    read_head,
)
from watchdog.stores.base import Store

ONE = "/v1/heartbeat"
MANY = "/v1/heartbeats"

MAX_BATCH_BODY = MAX_BATCH * MAX_BODY

MAX_BATCH_COMMAS = MAX_BATCH * 64
"""In a batch; a heartbeat has a dozen. 4 MB of empty lists would take 0.2 s and 100 MB to decode; these take 2 ms."""

TURN = 200
"""Heartbeats of a batch that are looked at while everybody else waits: 0.3 ms, and 1 ms of agents who are new."""

MOST_UNOPENED = MAX_BODY // 64
"""Heartbeats of a batch without a token in its header that is accepted: no more of them fit, each with its own token,
into what is read. A thousand empty objects do, and cost 20 ms."""

JITTER = 0.1
"""Part of the interval by which `next_ms` varies, so that clients that started together do not stay together."""


class Counters(Protocol):
    """Where heartbeats are counted.

    Attributes:
        heartbeats: Taken into the buffer, by type; has all types.
        rejected: Refused, by reason; has all of `Rejection`.
    """

    heartbeats: dict[str, int]
    rejected: dict[str, int]


@dataclass(frozen=True, slots=True)
class HeartbeatRules:
    """What they have to know of the settings.

    Attributes:
        instances: Instance ids whose agents are watched (INSTANCES).
        interval_s: What clients are told (HEARTBEAT_INTERVAL).
        leases: How long a heartbeat renews.
        boot: This process's own text, so that a client notices a restart.
    """

    instances: frozenset[str]
    interval_s: float
    leases: LeaseRules
    boot: str


class Waiting(NamedTuple):
    """A heartbeat that is answered after its flush.

    Attributes:
        reply: The store's; `Heartbeats.settle` takes this object when it is done.
        beat: What was given to the buffer.
    """

    reply: asyncio.Future[Reply]
    beat: Beat


class Heartbeats:
    """Answers heartbeats: the two paths over ASGI, and their bodies to whoever has them another way.

    Attributes:
        refusals: Of live sessions' heartbeats.
    """

    def __init__(
        self,
        store: Store,
        buffer: Buffer,
        gate: Gate,
        rules: HeartbeatRules,
        counters: Counters,
        *,
        arrivals: Arrivals,
        epoch: Callable[[], Epoch],
        time: Callable[[], float],
        random: Callable[[], float],
        recordings: Recordings | None = None,
    ) -> None:
        """Puts them together.

        Args:
            store: Asked which beats may be answered before their flush.
            buffer: Takes the beats.
            gate: Who may send them.
            rules: The settings.
            counters: Told what was taken and what was refused.
            arrivals: Asked whether a new agent may come.
            epoch: The wall clock, for tickets.
            time: Seconds that no wall clock moves; best such as stand while the process is stopped.
            random: Numbers from 0 to 1, for jitter.
            recordings: Told what was taken, while one runs; None where nobody can record.
        """
        self.refusals = Refusals(epoch, time)
        self._store = store
        self._buffer = buffer
        self._gate = gate
        self._rules = rules
        self._counters = counters
        self._arrivals = arrivals
        self._epoch = epoch
        self._random = random
        self._recordings = recordings or Recordings({}, lambda: None)
        self._bodies = Bodies()
        # Whoever has no token waits for others who have none.
        self._turn, self._turn_unopened = asyncio.Lock(), asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, whose path is `ONE` or `MANY`. A client that leaves meanwhile is not answered."""
        reply = await self._reply(scope, receive)
        if reply is None:
            return
        self.count(reply)
        await answer(send, reply.status, reply.body, reply.headers)

    def count(self, answered: Answer) -> None:
        """Counts an answer if it is a refusal."""
        if answered.reason is not None:
            self._counters.rejected[answered.reason] += 1

    async def _reply(self, scope: Scope, receive: Receive) -> Answer | None:
        many = scope["path"] == MANY
        head = read_head(scope["headers"])
        wrong = check_request(scope["method"], head)
        if wrong is not None:
            return wrong
        token, address = token_of(head), self.address(scope)
        if many and is_large(head):
            return await self._large(receive, head, token, address)
        try:
            body = await read_body(receive, head, MAX_BODY)
        except MessageError as error:
            return refusal(Rejection.TOO_LARGE, error, CLOSE)
        if body is None:
            return None
        if many:
            return await self._many(body, token, address)
        return await self.settled(self.one(body, token, address))

    async def _large(self, receive: Receive, head: Head, token: str | None, address: str) -> Answer | None:
        """The answer to a batch that is larger than one heartbeat: nobody's is read without a token in its header."""
        where = site(address)
        try:
            self._gate.check_batch(token, address)
        except MessageError as error:
            # The connection stays: the server drops the body as it comes, and the client gets to read the answer. Whose
            # sessions are in it is not known; live ones, if any were heard from there.
            return self._refused(error, live=self._arrivals.has_agents(where))
        with Held(self._bodies, where) as held:
            try:
                body = await read_body(held.counted(receive), head, MAX_BATCH_BODY)
            except MessageError as error:
                if error.status == HTTPStatus.TOO_MANY_REQUESTS:
                    return refusal(Rejection.RATE, error, self._later())
                return refusal(Rejection.TOO_LARGE, error, CLOSE)
            return None if body is None else await self._many(body, token, address)

    def address(self, scope: Scope) -> str:
        """Whom a request, or a socket, is from."""
        return self.whose(scope.get("client"), scope["headers"])

    def whose(self, client: Sequence[object] | None, headers: Sequence[Header]) -> str:
        """The same: see `Arrivals.address`."""
        return self._arrivals.address(client, headers)

    def one(self, body: bytes, token: str | None, address: str) -> Answer | Waiting:
        """The answer to the body of a single heartbeat, or what it waits for; a refusal is not counted yet."""
        if body.startswith(canary.PREFIX):
            return self._canary(body)
        beat = self._admit(parse_heartbeat, body, token, address)
        return beat if isinstance(beat, Answer) else self.take(beat)

    def admit(self, body: bytes, token: str | None, address: str, tether: int) -> Beat | Answer:
        """The beat of a message that a socket carried and that may pass, or the refusal, which is not counted yet."""
        beat = self._admit(parse_heartbeat, body, token, address)
        if isinstance(beat, Beat):
            beat.tether = tether  # nobody else has seen it yet, and a copy takes 3 µs
        return beat

    def take(self, beat: Beat) -> Answer | Waiting:
        """Gives a beat to the buffer: the answer, if it is known at once. A refusal is not counted yet."""
        buffer = self._buffer.of(beat.agent)
        if buffer.late:
            # It was heard all the same: its page may be cut off before it comes again.
            with contextlib.suppress(StoreUnavailable):
                buffer.submit(beat)
            return self._unavailable(Rejection.LATE)
        try:
            left_s = self._store.plainly_live(beat)
            if left_s is not None and buffer.submit(beat):
                self._took(beat)
                return self._live(beat, left_s)
            return Waiting(buffer.expect(beat), beat)
        except StoreUnavailable:
            return self._unavailable(Rejection.STORE)

    async def settled(self, found: Answer | Waiting) -> Answer:
        """Waits for an answer that is not known yet."""
        if isinstance(found, Answer):
            return found
        with contextlib.suppress(StoreUnavailable):
            await found.reply
        return self.settle(found)

    def settle(self, waiting: Waiting) -> Answer:
        """The answer to a beat whose flush has ended; a refusal is not counted yet."""
        beat = waiting.beat
        try:
            reply = waiting.reply.result()
        except StoreUnavailable:
            return self._unavailable(Rejection.STORE)
        if reply.verdict is Verdict.FOREIGN:
            return FOREIGN
        if reply.verdict is Verdict.NO_ROOM:
            return self._arrivals.no_room()
        self._took(beat)
        if beat.type is BeatType.BYE:
            return GONE
        if reply.live:
            return self._live(beat, reply.left_s, reply.notice)
        state = "stop" if reply.verdict is Verdict.STOPPED else "unknown"
        told = {"state": state, "next_ms": self._next_ms(), "boot": self._rules.boot, **_told(reply.notice)}
        return Answer(200, orjson.dumps(told), JSON_HEADERS)

    def _canary(self, body: bytes) -> Answer:
        """Our own call from outside. It asks of the way here alone, so it is answered when flushes are late, too."""
        answer = canary.answer(body, self._gate.tickets, self._rules.boot, self._epoch())
        return NO_CANARY if answer is None else Answer(200, answer, JSON_HEADERS)

    async def _many(self, body: bytes, token: str | None, address: str) -> Answer:
        # One batch at a time, and to the end of its flush: so flushes are short, and others run between, however many
        # batches there are.
        opens = self._gate.opens_batch(token, address)
        async with self._turn if opens else self._turn_unopened:
            batch = _batch(body)
            if isinstance(batch, Answer):
                return batch
            if not opens and len(batch) > MOST_UNOPENED:
                return UNOPENED_BATCH
            if self._buffer.late:
                return self._unavailable(Rejection.LATE)
            admitted, refused = await self._look_through(batch, body, token, address, opens=opens)
            try:
                # Whoever may send nothing begins no flush.
                replies = await self._buffer.apply(list(admitted.values())) if admitted else []
            except StoreUnavailable:
                return self._unavailable(Rejection.STORE)
        for (index, beat), reply in zip(admitted.items(), replies, strict=True):
            if isinstance(reply, StoreUnavailable):
                refused[index] = self._unavailable(Rejection.STORE)
                continue
            if reply is not None and reply.verdict is Verdict.FOREIGN:
                refused[index] = FOREIGN
                continue
            if reply is not None and reply.verdict is Verdict.NO_ROOM:
                refused[index] = self._arrivals.no_room()
                continue
            self._took(beat)
            if reply is not None and reply.verdict is Verdict.STOPPED:
                refused[index] = STOPPED
        for each in refused.values():
            self.count(each)
        rejected = [{"index": index, "detail": each.detail} for index, each in sorted(refused.items())]
        told = {"accepted": len(batch) - len(rejected), "rejected": rejected}
        return Answer(200, orjson.dumps(told), JSON_HEADERS)

    async def _look_through(
        self, batch: list[Heartbeat | None], body: bytes, token: str | None, address: str, *, opens: bool
    ) -> tuple[dict[int, Beat], dict[int, Answer]]:
        """Those of a batch that may pass, and the refusals of the others, by their places; `opens`: the token does."""
        admitted: dict[int, Beat] = {}
        refused: dict[int, Answer] = {}
        leases, known = self._rules.leases, 0
        items: list[Any] | None = None
        for index, heartbeat in enumerate(batch):
            if index % TURN == 0:
                await asyncio.sleep(0)
            if heartbeat is None:
                if items is None:
                    items = from_json(body)["heartbeats"]
                found = self._admit(parse_batched, items[index], token, address, batched=True)
            elif opens and heartbeat.type is not BeatType.BYE and (agent := self._known(heartbeat)) is not None:
                known += 1
                admitted[index] = to_beat(heartbeat, agent, leases)
                continue
            else:
                found = self._judge(heartbeat, token, address, batched=True)
            if isinstance(found, Answer):
                refused[index] = found
            else:
                admitted[index] = found
        if known:
            self._arrivals.heard(address)
        return admitted, refused

    def _known(self, heartbeat: Heartbeat) -> AgentId | None:
        """The agent whose session it is, if it is the one that is named and is watched; None where all is to be seen.

        The store's own object: what is equal to it is found without a look at its letters.
        """
        agent = self._store.whose(heartbeat.session_id.bytes)
        if agent is None or agent.instance_id not in self._rules.instances or not heartbeat.names(agent):
            return None
        return agent

    def _admit(
        self,
        parse: Callable[[Any], Heartbeat],
        raw: object,
        token: str | None,
        address: str,
        *,
        batched: bool = False,
    ) -> Beat | Answer:
        """The beat of a heartbeat that may pass, or the refusal."""
        try:
            heartbeat = parse(raw)
        except MessageError as error:
            return refusal(Rejection.MALFORMED, error)
        return self._judge(heartbeat, token, address, batched=batched)

    def _judge(self, heartbeat: Heartbeat, token: str | None, address: str, *, batched: bool = False) -> Beat | Answer:
        """The same for one that is read."""
        known = self._known(heartbeat)
        try:
            agent = known or heartbeat.agent_id()
        except MessageError as error:
            return refusal(Rejection.MALFORMED, error)
        if agent.instance_id not in self._rules.instances:
            return NOT_WATCHED
        beat = to_beat(heartbeat, agent, self._rules.leases)
        try:
            tokens = (token, heartbeat.token)
            self._gate.check_beat(beat, tokens, heartbeat.ticket, self._epoch(), batched=batched, address=address)
        except MessageError as error:
            return self._refused(error, live=self._store.plainly_live(beat) is not None)
        if beat.type is BeatType.BYE:
            # It opens nothing.
            return beat
        if known is not None:
            self._arrivals.heard(address)
            return beat
        return self._arrivals.refused(agent, address) or beat

    def _refused(self, error: MessageError, *, live: bool) -> Answer:
        """The refusal of whoever may not send this; `live` if that may be a session that was live."""
        if error.status == HTTPStatus.FORBIDDEN:
            return refusal(Rejection.AGENT, error)
        self.refusals.note(live=live)
        if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return refusal(Rejection.KEYS, error, self._later())
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            return refusal(Rejection.RATE, error, self._later())
        return refusal(Rejection.UNAUTHORIZED, error, BEARER)

    def _took(self, beat: Beat) -> None:
        self._counters.heartbeats[beat.type] += 1
        if self._recordings.running:
            self._recordings.heartbeat(beat, beat.gap_ms)

    def _live(self, beat: Beat, left_s: float, notice: Notice | None = None) -> Answer:
        ticket = self._gate.tickets.renew(beat.agent, beat.session_id, beat.incarnation, self._epoch())
        body = {
            "state": "live",
            "next_ms": self._next_ms(),
            "ttl_ms": int(left_s * 1000),
            "ws": True,
            "ticket": ticket,
            "boot": self._rules.boot,
        }
        if notice is not None:
            body |= _told(notice)
        return Answer(200, orjson.dumps(body), JSON_HEADERS)

    def _next_ms(self) -> int:
        return round(self._rules.interval_s * 1000 * (1 + JITTER * (2 * self._random() - 1)))

    def _unavailable(self, reason: Rejection) -> Answer:
        return refusal(reason, MessageError(503, "Service Unavailable", UNAVAILABLE), self._later())

    def _later(self) -> Header:
        after = RETRY_AFTER_S if self._random() < 0.5 else 2 * RETRY_AFTER_S  # noqa: PLR2004 - half of them
        return (b"retry-after", b"%d" % after)


UNOPENED_BATCH = refusal(
    Rejection.TOO_LARGE,
    MessageError(
        413,
        "Content Too Large",
        f"Without a token in its header that is accepted, a batch has at most {MOST_UNOPENED} heartbeats. Send that of "
        "the gateway as `Authorization: Bearer …`.",
    ),
)


def token_of(head: Head) -> str | None:
    """The bearer token of a request."""
    return bearer(head.authorization.decode("latin-1")) if head.authorization else None


def _told(notice: Notice | None) -> dict[str, object]:
    return {} if notice is None else {"notice": notice_out(notice).model_dump()}


def check_request(method: str, head: Head) -> Answer | None:
    """The refusal of a request that can hold no heartbeat, whatever its body says."""
    if method != "POST":
        return WRONG_METHOD
    if head.content_type != b"application/json":
        media_type = head.content_type.partition(b";")[0].strip().lower()
        if media_type not in (b"application/json", b"text/plain"):
            return WRONG_TYPE
    return None


def _batch(body: bytes) -> list[Heartbeat | None] | Answer:
    if body.count(b",") > MAX_BATCH_COMMAS:
        return LARGE_BATCH
    try:
        return parse_batch(body)
    except MessageError as error:
        return refusal(Rejection.MALFORMED if error.status == HTTPStatus.BAD_REQUEST else Rejection.TOO_LARGE, error)
