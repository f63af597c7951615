"""The write: token, intent on disk, flush, re-check, and at once PutUserStatus.

Nothing comes between the re-check and the sending for longer than `FRESH_S`; what comes too late is not sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from watchdog.connect.answers import PUT_USER_STATUS, Status
from watchdog.connect.api import Connect
from watchdog.connect.case import NOT_SENT, Case
from watchdog.connect.circuit import Circuits, Line
from watchdog.connect.guard import RESULTS
from watchdog.connect.queue import Level
from watchdog.connect.tokens import Tokens
from watchdog.core.model import Boot, Instant, Intent, IntentKind, Standing
from watchdog.errors import CallAborted, ConnectDenied, ConnectError, ConnectUnavailable
from watchdog.stores.base import Store

FRESH_S = 0.25
"""Most time between the re-check and the sending. A heartbeat that comes in it comes too late."""

ABORTS = 5
"""Re-checks in a row that may come too late; then the machine is too busy, and the agent goes back into the queue."""


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

    async def write(self, case: Case, target: Status, former: str | None, *, last: bool) -> Standing:
        """Sets the agent's status, once.

        Args:
            case: The claim.
            target: The status to set.
            former: The status' id that Connect showed before; None when it did not show the agent.
            last: Comes after all others in the queue.

        Returns:
            GONE: Connect accepted it. Otherwise nothing was sent: RETURNED, the agent has returned or the claim is
            void; HELD, the brake holds the agent.

        Raises:
            ConnectError: Connect did not accept it, or may have; the intent is on disk.
            CallAborted: Not sent, several times in a row.
            StoreUnavailable: Nothing was sent after that.
        """
        agent = case.claim.agent
        rank = case.rank._replace(level=Level.LAST) if last else case.rank
        await self._tokens.take(PUT_USER_STATUS, case.scope, agent.instance_id, rank)
        case.unserved = False
        refusal = self._circuits.refusal(Line(agent.instance_id, PUT_USER_STATUS, target.id))
        if refusal is not None:
            raise ConnectDenied(refusal, operation=PUT_USER_STATUS)
        # Before the intent, so that whoever is held while waiting for a token leaves none behind.
        standing = await self._store.still_gone(case.claim)
        if standing is not Standing.GONE:
            return standing
        case.interruptible = False
        intent = Intent(IntentKind.SET_STATUS, target.id, former, self._now().epoch)
        if not await self._store.intend(case.claim, intent):
            return Standing.RETURNED
        for _ in range(ABORTS):
            await self._flush()
            if not self._listening():
                raise CallAborted("Not sent: after a gap agents are given time to return.")
            asked_at = self._now().boot
            standing = await self._store.still_gone(case.claim)
            if standing is not Standing.GONE:
                return standing
            try:
                await self._put(case, target, Boot(asked_at + FRESH_S))
            except CallAborted:
                continue
            return Standing.GONE
        raise CallAborted("Not sent: each re-check was more than 250 ms old. The machine or the store is too slow.")

    async def _put(self, case: Case, target: Status, not_after: Boot) -> None:
        agent = case.claim.agent
        write = {"at": self._now().epoch, "target": target.id, "result": "unanswered"}
        case.trail.writes.append(write)
        sent_before, case.trail.sent_at = case.trail.sent_at, self._now().boot
        try:
            await self._connect.put_user_status(agent.instance_id, agent.user_id, target.id, not_after)
        except CallAborted:
            write["result"] = "aborted"
            case.trail.sent_at = sent_before
            raise
        except ConnectError as error:
            case.trail.calls += 1
            sent = not isinstance(error, ConnectUnavailable) or error.maybe_applied
            write["result"] = RESULTS[type(error)] if sent else NOT_SENT
            if not isinstance(error, ConnectUnavailable):
                case.trail.sent_at = sent_before
            elif sent:
                case.trail.unanswered_at = case.trail.sent_at
            raise
        case.trail.calls += 1
        case.trail.accepted += 1
        case.trail.accepted_at = self._now().boot
        write["result"] = "accepted"
