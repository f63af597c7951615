"""Connect's own evidence of agents: GetCurrentUserData, read for many at a time and by many at a time.

Whoever wants to know of an agent asks here; questions are gathered while a token is waited for, and one call answers
up to 100 of them. A failed read is no answer: it is raised to whoever asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from watchdog.connect.answers import GET_CURRENT_USER_DATA, Seen, UserData
from watchdog.connect.api import AGENTS_A_CALL, Connect
from watchdog.connect.circuit import ANY_OPERATION, Circuits, Line
from watchdog.connect.queue import Rank
from watchdog.connect.scopes import Scopes
from watchdog.connect.tokens import Tokens
from watchdog.core.model import AgentId, Boot, Epoch, Instant
from watchdog.errors import (
    ConnectDenied,
    ConnectError,
    ConnectInvalid,
    ConnectNotFound,
    ConnectThrottled,
    ConnectUnavailable,
    StoreUnavailable,
)

GATHER_S = 0.02
"""After the first question this long is waited for more: agents of one tick are claimed within milliseconds."""

FRESH_LOOK_S = 10.0
"""Most age of what the first decision rests on, for an agent to whom nothing has been written yet."""

PACE_S = 2.0
"""Least time between two reads of an instance when nobody asks who is in a hurry: read-backs of a long backlog are
joined, and most of the quota is left to others."""

MAX_PAGES = 10
"""Pages after which an answer about 100 agents is taken as endless, and as incomplete."""

KEPT_S = 600.0
"""What was seen is kept this long, to order by. To act on it, it must be as new as the asker says."""


PAGES_MISSING = "GetCurrentUserData: pages are missing from the answer."


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one read showed of one agent.

    Attributes:
        seen: The row; None when the agent was not in the answer.
        complete: The answer had all pages: not in it means not shown.
        asked_at: When the read was sent.
        answered_at: The response's `Date`.
        dated: It had one; see `UserData`.
    """

    seen: Seen | None
    complete: bool
    asked_at: Boot
    answered_at: Epoch
    dated: bool = True

    def check(self, *, maybe_applied: bool = False) -> None:
        """Raises `ConnectUnavailable` if it says nothing: not shown, in an answer that has pages missing."""
        if self.seen is None and not self.complete:
            raise ConnectUnavailable(PAGES_MISSING, maybe_applied=maybe_applied)


@dataclass(slots=True)
class _Question:
    rank: Rank
    # Nobody who asks is in a hurry.
    patient: bool
    # The size of the batch that it may be part of: less after one that Connect refused as a whole.
    batch: int = AGENTS_A_CALL
    asked: list[asyncio.Future[Sighting]] = field(default_factory=list)

    def resolve(self, answer: Sighting | Exception) -> None:
        for future in self.asked:
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


@dataclass(slots=True)
class _Desk:
    """Where the questions about one instance wait, by user id, and who reads for them."""

    questions: dict[str, _Question] = field(default_factory=dict)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    read_at: Boot = Boot(-PACE_S)
    reader: asyncio.Task[None] | None = None


class Witness:
    """Reads and remembers what Connect shows of agents."""

    def __init__(
        self,
        connect: Connect,
        tokens: Tokens,
        circuits: Circuits,
        scopes: Scopes,
        now: Callable[[], Instant],
    ) -> None:
        """Starts without having seen anybody.

        Args:
            connect: Makes the calls.
            tokens: Of GetCurrentUserData, one a call, so one a page.
            circuits: While that of GetCurrentUserData is open, nothing is called.
            scopes: Of quotas and credentials.
            now: The machine's clocks.
        """
        self._connect = connect
        self._tokens = tokens
        self._circuits = circuits
        self._scopes = scopes
        self._now = now
        self._seen: dict[AgentId, Sighting] = {}
        self._desks: dict[str, _Desk] = {}
        self._swept_at = Boot(0.0)

    def glance(self, agent: AgentId) -> Sighting | None:
        """What was last seen of the agent, at most `KEPT_S` ago, or None. Calls nothing."""
        sighting = self._seen.get(agent)
        return sighting if sighting is not None and sighting.asked_at >= self._now().boot - KEPT_S else None

    async def see(self, agent: AgentId, *, since: float, rank: Rank, patient: bool = False) -> Sighting:
        """What Connect shows of the agent, from a read that was sent at `since` or later.

        Args:
            agent: Whom to look at.
            since: Reading of `Instant.boot`, not in the future.
            rank: The place in the queue for the token.
            patient: May wait for `PACE_S` after the last read, so that others can join.

        Raises:
            ConnectError: The read failed; nothing is known.
            StoreUnavailable: There was no token to be had.
        """
        known = self._seen.get(agent)
        if known is not None and known.asked_at >= since:
            return known
        return await self._ask(agent, rank, patient=patient)

    async def survey(self, agents: Iterable[tuple[AgentId, Rank]]) -> Exception | None:
        """Reads agents to order them by `glance`.

        Returns:
            None, or why some of them could not be read.
        """
        asked = [self._ask(agent, rank, patient=False) for agent, rank in agents]
        try:
            if asked:
                await asyncio.wait(asked)
        finally:
            for future in asked:
                future.cancel()
        failures = [future.exception() for future in asked if not future.cancelled()]
        return next((failure for failure in failures if isinstance(failure, Exception)), None)

    def forget(self, agent: AgentId) -> None:
        """The agent is settled; what was seen says nothing about the next time."""
        self._seen.pop(agent, None)

    async def close(self) -> None:
        """Stops reading. Whoever asked is cancelled."""
        readers = [desk.reader for desk in self._desks.values() if desk.reader is not None]
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    def _ask(self, agent: AgentId, rank: Rank, *, patient: bool) -> asyncio.Future[Sighting]:
        desk = self._desks.setdefault(agent.instance_id, _Desk())
        question = desk.questions.setdefault(agent.user_id, _Question(rank, patient))
        question.rank = min(question.rank, rank)
        question.patient = question.patient and patient
        if not patient:
            desk.hurry.set()
        future: asyncio.Future[Sighting] = asyncio.get_running_loop().create_future()
        question.asked.append(future)
        if desk.reader is None:
            desk.reader = asyncio.create_task(self._read_all(agent.instance_id, desk))
        return future

    async def _read_all(self, instance_id: str, desk: _Desk) -> None:
        questions = desk.questions
        batch: dict[str, _Question] = {}
        try:
            await asyncio.sleep(GATHER_S)
            while self._drop_abandoned(questions):
                refusal = self._refusal(instance_id)
                if refusal is not None:
                    _resolve(questions, ConnectDenied(refusal, operation=GET_CURRENT_USER_DATA))
                    continue
                await self._pace(desk)
                try:
                    await self._take_token(instance_id, questions)
                except StoreUnavailable as error:
                    _resolve(questions, error)
                    continue
                batch = _batch(questions)
                desk.read_at = self._now().boot
                await self._read(instance_id, batch, questions)
                batch = {}
        except Exception as error:  # noqa: BLE001  # whoever asked must learn of any fault, or would wait for ever
            _resolve(batch, error)
            _resolve(questions, error)
        finally:
            desk.reader = None
            for question in (*batch.values(), *questions.values()):
                for future in question.asked:
                    future.cancel()
            questions.clear()

    async def _take_token(self, instance_id: str, questions: Mapping[str, _Question]) -> None:
        """Waits for a token in the place of the most urgent question, also of one that is asked meanwhile."""
        rank = min(question.rank for question in questions.values())
        scope = self._scopes[instance_id]
        await self._tokens.take(
            GET_CURRENT_USER_DATA,
            scope,
            instance_id,
            rank,
            rising=lambda: min((question.rank for question in questions.values()), default=rank),
        )

    async def _pace(self, desk: _Desk) -> None:
        """Lets others join while nobody is in a hurry."""
        while all(question.patient for question in desk.questions.values()):
            wait_s = desk.read_at + PACE_S - self._now().boot
            if wait_s <= 0:
                return
            desk.hurry.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await desk.hurry.wait()
            except TimeoutError:
                return

    def _refusal(self, instance_id: str) -> str | None:
        lines = (Line(instance_id, GET_CURRENT_USER_DATA), Line(self._scopes.credentials(instance_id), ANY_OPERATION))
        return next(filter(None, map(self._circuits.refusal, lines)), None)

    @staticmethod
    def _drop_abandoned(questions: dict[str, _Question]) -> bool:
        """Forgets questions whose askers are all gone; whether any is left."""
        for user_id in [each for each, question in questions.items() if all(f.done() for f in question.asked)]:
            del questions[user_id]
        return bool(questions)

    async def _read(self, instance_id: str, batch: dict[str, _Question], questions: dict[str, _Question]) -> None:
        if not batch:
            return
        asked_at = self._now().boot
        try:
            data = await self._all_pages(instance_id, batch)
        except ConnectThrottled:
            _put_back(questions, batch, AGENTS_A_CALL)
        except (ConnectNotFound, ConnectInvalid) as error:
            if len(batch) > 1:
                # One bad id may spoil the call for all the others: halves find it.
                _put_back(questions, batch, (len(batch) + 1) // 2)
            else:
                _resolve(batch, error)
        except (ConnectError, StoreUnavailable) as error:
            _resolve(batch, error)
        else:
            self._answer(instance_id, batch, data, asked_at)

    async def _all_pages(self, instance_id: str, batch: Mapping[str, _Question]) -> UserData:
        """Reads the agents; the token of the first page has been taken. More than one page is rare."""
        data = await self._connect.current_user_data(instance_id, list(batch))
        for _ in range(MAX_PAGES - 1):
            if data.cursor is None:
                break
            rank = min(question.rank for question in batch.values())
            await self._tokens.take(GET_CURRENT_USER_DATA, self._scopes[instance_id], instance_id, rank)
            page = await self._connect.current_user_data(instance_id, list(batch), data.cursor)
            data = data.followed_by(page)
        return data

    def _answer(self, instance_id: str, batch: Mapping[str, _Question], data: UserData, asked_at: Boot) -> None:
        for user_id, question in batch.items():
            complete = data.complete and user_id not in data.unreadable
            sighting = Sighting(data.rows.get(user_id), complete, asked_at, data.answered_at, data.dated)
            self._seen[AgentId(instance_id, user_id)] = sighting
            question.resolve(sighting)
        if asked_at - self._swept_at > KEPT_S:
            self._swept_at = asked_at
            self._seen = {agent: each for agent, each in self._seen.items() if each.asked_at >= asked_at - KEPT_S}


def _batch(questions: dict[str, _Question]) -> dict[str, _Question]:
    """Takes the next questions out, in the order of their ranks, as many as each of them allows."""
    batch: dict[str, _Question] = {}
    most = AGENTS_A_CALL
    for user_id, question in sorted(questions.items(), key=lambda item: item[1].rank):
        if all(future.done() for future in question.asked):
            continue
        most = min(most, question.batch)
        if len(batch) >= most:
            break
        batch[user_id] = question
    for user_id in batch:
        del questions[user_id]
    return batch


def _put_back(questions: dict[str, _Question], batch: Mapping[str, _Question], most: int) -> None:
    for user_id, question in batch.items():
        question.batch = min(question.batch, most)
        newer = questions.get(user_id)
        if newer is not None:
            question.asked.extend(newer.asked)
            question.rank = min(question.rank, newer.rank)
        questions[user_id] = question


def _resolve(batch: Mapping[str, _Question], answer: Exception) -> None:
    for question in batch.values():
        question.resolve(answer)
