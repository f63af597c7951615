"""What other daemons said last of sessions whose heartbeats came through this one, to answer the next ones at once.

A session that is not here, or not in this way, waits for its daemon's own answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from watchdog.core.clock import MAX_STEP_S
from watchdog.core.model import AgentId, Beat, BeatType, Observed, Verdict

if TYPE_CHECKING:
    from watchdog.core.model import Reply

MOST = 200_000
"""Sessions that are remembered: those of whom was told longest ago are forgotten first."""

RENEWS = frozenset({Verdict.OPENED, Verdict.RENEWED})


class _Session:
    __slots__ = ("agent", "expires_at", "incarnation", "seq")

    def __init__(self, agent: AgentId, incarnation: int, seq: int | None, expires_at: Observed) -> None:
        self.agent = agent
        self.incarnation = incarnation
        self.seq = seq
        self.expires_at = expires_at


class Views:
    """The sessions of agents of others."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, _Session] = {}

    def live(self, beat: Beat, clock: Observed) -> bool:
        """Whether a beat will certainly renew its session, and its reply tells nothing else."""
        known = self._sessions.get(beat.session_id)
        return (
            known is not None
            and beat.type is BeatType.BEAT
            and beat.ttl is not None
            and known.agent == beat.agent
            and known.incarnation == beat.incarnation
            and (beat.seq is None or known.seq is None or beat.seq > known.seq)
            and known.expires_at - clock > MAX_STEP_S
        )

    def agent(self, session_id: bytes) -> AgentId | None:
        """Whose a session is."""
        known = self._sessions.get(session_id)
        return None if known is None else known.agent

    def told(self, answered: Iterable[tuple[Beat, Reply]], clock: Observed) -> None:
        """Heartbeats have been answered by whoever has their agents."""
        sessions = self._sessions
        for beat, reply in answered:
            known = sessions.pop(beat.session_id, None)
            if reply.verdict in RENEWS and reply.live and reply.notice is None:
                seq = beat.seq if beat.seq is not None or known is None else known.seq
                sessions[beat.session_id] = _Session(beat.agent, beat.incarnation, seq, Observed(clock + reply.left_s))
        while len(sessions) > MOST:
            del sessions[next(iter(sessions))]

    def forget(self, beats: Sequence[Beat]) -> None:
        """Nobody knows what became of heartbeats: the next ones wait for their answers."""
        for beat in beats:
            self._sessions.pop(beat.session_id, None)
