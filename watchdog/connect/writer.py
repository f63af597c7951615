"""The write: token, intent on disk, flush, re-check, and at once PutUserStatus.

Nothing comes between the re-check and the sending for longer than `FRESH_S`; what comes too late is not sent. The
restore keeps to it by the same `send_fresh`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from watchdog.connect.answers import DELETE_ALL_ENTITY_SESSIONS, DISMISS_USER_CONTACT, PUT_USER_STATUS, Status
from watchdog.connect.api import Connect
from watchdog.connect.case import NOT_SENT, Case
from watchdog.connect.circuit import Circuits, Line
from watchdog.connect.guard import RESULTS
from watchdog.connect.queue import Level, Rank
from watchdog.connect.tokens import Tokens
from watchdog.core.model import Boot, Instant, Intent, IntentKind, Standing
from watchdog.errors import CallAborted, ConnectError, ConnectUnavailable
from watchdog.stores.base import Store

T = TypeVar("T")

FRESH_S = 0.25
"""Most time between the re-check and the sending. A heartbeat that comes in it comes too late."""

ABORTS = 5
"""Re-checks in a row that may come too late; then the machine is too busy, and the agent goes back into the queue."""


async def send_fresh(
    check: Callable[[], Awaitable[T | None]],
    put: Callable[[Boot], Awaitable[None]],
    *,
    flush: Callable[[], Awaitable[None]],
    listening: Callable[[], bool],
    now: Callable[[], Instant],
) -> T | None:
    """Flushes, checks and sends, within `FRESH_S` of the check; what comes too late is checked again.

    Args:
        check: Tells what speaks against it, by all heartbeats that were flushed; None when nothing does.
        put: Sends by the given time or raises CallAborted.
        flush: Applies all heartbeats that this process has accepted.
        listening: Whether heartbeats have been heard up to now.
        now: The machine's clocks.

    Returns:
        None: Connect accepted it. Otherwise what speaks against it; nothing was sent.

    Raises:
        ConnectError: Connect did not accept it, or may have.
        CallAborted: Not sent: nothing is heard, or it was too late several times in a row.
        StoreUnavailable: Nothing was sent after that.
    """
    for _ in range(ABORTS):
        await flush()
        if not listening():
            raise CallAborted("Not sent: after a gap agents are given time to return.")
        asked_at = now().boot
        objection = await check()
        if objection is not None:
            return objection
        try:
            await put(Boot(asked_at + FRESH_S))
        except CallAborted:
            continue
        return None
    raise CallAborted("Not sent: each re-check was more than 250 ms old. The machine or the store is too slow.")


def unanswered(error: ConnectError | CallAborted) -> bool:
    """Whether a write that failed so may have taken effect, or may yet."""
    return isinstance(error, ConnectUnavailable) and error.maybe_applied


def result_of(error: ConnectError | CallAborted) -> str:
    """The result of a write that failed so, as the evidence names it."""
    if isinstance(error, ConnectUnavailable) and not error.maybe_applied:
        return NOT_SENT
    return RESULTS[type(error)]


class Writer:
    """Writes one status at a time for each case; cases run side by side."""

    def __init__(
        self,
        store: Store,
        connect: Connect,
        tokens: Tokens,
        circuits: Circuits,
        *,
        flush: Callable[[], Awaitable[None]],
        listening: Callable[[], bool],
        now: Callable[[], Instant],
    ) -> None:
        """Composes.

        Args:
            store: Keeps intents and knows who has returned and who is held.
            connect: Makes the calls.
            tokens: Of PutUserStatus, one a call.
            circuits: Nothing is written through an open one.
            flush: Applies all heartbeats that this process has accepted; raises StoreUnavailable if it cannot.
            listening: Whether heartbeats have been heard up to now.
            now: The machine's clocks.
        """
        self._listening = listening
        self._store = store
        self._connect = connect
        self._tokens = tokens
        self._circuits = circuits
        self._flush = flush
        self._now = now

    async def write(self, case: Case, target: Status, former: str | None, *, rule: str, last: bool) -> Standing:
        """Sets the agent's status, once.

        Args:
            case: The claim.
            target: The status to set.
            former: The status' id that Connect showed before; None when it did not show the agent.
            rule: Name of the rule that asks for it.
            last: Comes after all others in the queue.

        Returns:
            GONE: Connect accepted it. Otherwise nothing was sent: RETURNED, the agent has returned or the claim is
            void; HELD, the brake holds the agent.

        Raises:
            ConnectError: Connect did not accept it, or may have; the intent is on disk.
            CallAborted: Not sent, several times in a row.
            StoreUnavailable: Nothing was sent after that.
        """
        rank = case.rank._replace(level=Level.LAST) if last else case.rank
        intent = Intent(IntentKind.SET_STATUS, target.id, former, self._now().epoch, rule, case.former_next)
        case.trail.intended = intent
        line = Line(case.claim.agent.instance_id, PUT_USER_STATUS, target.id)
        return await self._send(case, line, rank, intent, partial(self._put, case, target))

    async def sign_out(
        self, case: Case, target: Status, rule: str, look_again: Callable[[], Awaitable[None]]
    ) -> Standing:
        """Ends the user's Connect sessions, once. Returns and raises as `write`.

        Args:
            case: The claim.
            target: The status that is in force.
            rule: Name of the rule that asks for it.
            look_again: Awaited when the token is there, which may have taken long; raises to prevent it.
        """
        agent = case.claim.agent
        intent = Intent(IntentKind.SIGN_OUT, target.id, case.former(target.id), self._now().epoch, rule)
        line = Line(agent.instance_id, DELETE_ALL_ENTITY_SESSIONS)
        call = partial(self._connect.delete_all_entity_sessions, agent.instance_id, agent.user_id)
        return await self._send(case, line, case.rank, intent, partial(self._counted, case, call), look_again)

    async def dismiss(self, case: Case, contact_id: str) -> Standing:
        """Clears a contact, once. Returns and raises as `write`; no intent of its own is on disk."""
        agent = case.claim.agent
        line = Line(agent.instance_id, DISMISS_USER_CONTACT)
        call = partial(self._connect.dismiss_user_contact, agent.instance_id, agent.user_id, contact_id)
        return await self._send(case, line, case.rank, None, partial(self._counted, case, call))

    async def _send(
        self,
        case: Case,
        line: Line,
        rank: Rank,
        intent: Intent | None,
        put: Callable[[Boot], Awaitable[None]],
        look_again: Callable[[], Awaitable[None]] | None = None,
    ) -> Standing:
        await self._tokens.take(line.operation, case.scope, line.where, rank)
        case.unserved = False
        self._circuits.check(line)
        # Before the intent, so that whoever is held while waiting for a token leaves none behind.
        standing = await self._store.still_gone(case.claim)
        if standing is not Standing.GONE:
            return standing
        if look_again is not None:
            await look_again()
        if intent is not None:
            case.interruptible = False
            if not await self._store.intend(case.claim, intent):
                return Standing.RETURNED
        changed = await send_fresh(
            partial(self._changed, case), put, flush=self._flush, listening=self._listening, now=self._now
        )
        return Standing.GONE if changed is None else changed

    @staticmethod
    async def _counted(case: Case, call: Callable[[Boot], Awaitable[None]], not_after: Boot) -> None:
        try:
            await call(not_after)
        except CallAborted:
            raise
        except ConnectError:
            case.trail.calls += 1
            raise
        case.trail.calls += 1

    async def _changed(self, case: Case) -> Standing | None:
        standing = await self._store.still_gone(case.claim)
        return None if standing is Standing.GONE else standing

    async def _put(self, case: Case, target: Status, not_after: Boot) -> None:
        agent = case.claim.agent
        write = {"at": self._now().epoch, "target": target.id, "result": "unanswered"}
        case.trail.writes.append(write)
        sent_before, case.trail.sent_at = case.trail.sent_at, self._now().boot
        try:
            await self._connect.put_user_status(agent.instance_id, agent.user_id, target.id, not_after)
        except (CallAborted, ConnectError) as error:
            case.trail.calls += not isinstance(error, CallAborted)
            write["result"] = result_of(error)
            if unanswered(error):
                case.trail.unanswered_at = case.trail.sent_at
            if not isinstance(error, ConnectUnavailable):
                case.trail.sent_at = sent_before
            raise
        case.trail.calls += 1
        case.trail.accepted += 1
        case.trail.accepted_at = self._now().boot
        write["result"] = "accepted"
