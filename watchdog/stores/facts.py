"""The rows in memory: a session, an agent, and which of them the disk does not have yet. Only data."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from watchdog.core import notices
from watchdog.core.model import AgentId, AgentState, Epoch, Mark, Observed, Running

if TYPE_CHECKING:
    from collections.abc import Iterable

    from watchdog.core.model import Claim, FollowUp, Intent, Notice, Outcome
    from watchdog.core.undo import Change

NEVER = Observed(float("-inf"))


T = TypeVar("T")

HIDDEN, MAIN_DRIVER, TORN, STOPPED, LOADED = 1, 2, 4, 8, 16
"""Bits of `Session.flags`."""


class _Flag:
    """One bit of a session's flags."""

    def __init__(self, bit: int) -> None:
        self._bit = bit

    def __get__(self, session: Session, owner: type[Session]) -> bool:
        return session.flags & self._bit != 0

    def __set__(self, session: Session, value: bool) -> None:  # noqa: FBT001 - the signature of a descriptor
        session.flags = session.flags | self._bit if value else session.flags & ~self._bit


class Session:
    """One session's row. There may be a million: 128 bytes each, and what repeats among them is shared.

    Attributes:
        agent: Whose it is.
        session_id: 16 bytes.
        incarnation: The highest that was seen.
        seq: The highest seq of that incarnation, or None.
        expires_at: When its lease ends or ended.
        horizon: What the disk has as its latest possible `expires_at`.
        ttl: Seconds of the last renewal; after a restart no lease is longer.
        seen: Wall clock of the last beat that moved it.
        closed_at: When it said bye, or the start of this process if it was before: the row is its tombstone. Its lease
            may have ended long before. None while it is open.
        flags: The bits of the following.
        stopped: It is closed because the agent was logged out: only a hello of the next incarnation opens it.
        loaded: A page that was opened after the agent was set last, and no older one that came back.
        hidden: The page was hidden at the last beat.
        main_driver: The page's main thread beats, not a worker.
        tether: The socket that carried the last beat which renewed it; None for a POST, and after a restart.
        torn: That socket was closed from the other side, and the lease is shorter for it.
    """

    __slots__ = (
        "agent",
        "closed_at",
        "expires_at",
        "flags",
        "horizon",
        "incarnation",
        "seen",
        "seq",
        "session_id",
        "tether",
        "ttl",
    )

    hidden = _Flag(HIDDEN)
    main_driver = _Flag(MAIN_DRIVER)
    torn = _Flag(TORN)
    stopped = _Flag(STOPPED)
    loaded = _Flag(LOADED)

    def __init__(self, agent: Agent, session_id: bytes) -> None:
        self.agent = agent
        self.session_id = session_id
        self.incarnation = 0
        self.seq: int | None = None
        self.expires_at = NEVER
        self.horizon = NEVER
        self.ttl = 0.0
        self.seen = Epoch(0.0)
        self.closed_at: Observed | None = None
        self.flags = 0
        self.tether: int | None = None

    @property
    def closed(self) -> bool:
        """It has said bye, or was stopped."""
        return self.closed_at is not None


class Dealings:
    """What the watchdog has had to do with an agent; nothing, with nearly everyone. See `Agent`."""

    __slots__ = (
        "change",
        "claim",
        "follow_up",
        "held_at",
        "held_s",
        "intent",
        "last_outcome",
        "mark",
        "not_before",
        "notice",
        "settled_epoch",
        "spilled",
        "timer_s",
        "told_until",
    )

    def __init__(self) -> None:
        self.spilled = NEVER
        self.settled_epoch = -1
        self.last_outcome: Outcome | None = None
        self.claim: Claim | None = None
        self.intent: Intent | None = None
        self.not_before = Running(0.0)
        self.mark = Mark.FREE
        self.held_at = Running(0.0)
        self.held_s = 0.0
        self.change: Change | None = None
        self.timer_s: float | None = None
        self.follow_up: FollowUp | None = None
        self.notice: Notice | None = None
        self.told_until = notices.NEVER


NONE = Dealings()
"""With whom there were none. Nobody writes into it."""


class _Dealt(Generic[T]):
    """A value of an agent's dealings, which begin when one is set that is not what it is without them."""

    def __set_name__(self, owner: type[Agent], name: str) -> None:
        self._name = name
        self._without = getattr(NONE, name)

    def __get__(self, agent: Agent, owner: type[Agent]) -> T:
        value: T = getattr(agent.dealings, self._name)
        return value

    def __set__(self, agent: Agent, value: T) -> None:
        if agent.dealings is NONE:
            if value == self._without:
                return
            agent.dealings = Dealings()
        setattr(agent.dealings, self._name, value)


class Bucket:
    """Agents who are looked at together.

    Attributes:
        number: When: this times `leases.BUCKET_S`.
        agents: Who, and others who were.
    """

    __slots__ = ("agents", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.agents: list[Agent] = []


class Agent:
    """One agent's row. There may be a million: 128 bytes each as long as there were no dealings.

    Attributes:
        id: Who.
        sessions: Its sessions, those lately ended included.
        ends_at: The latest `expires_at` of them, and `floor`.
        floor: The latest `expires_at` of those forgotten, and the end of a lease that has no session.
        spilled: The latest lease of those that made room for others while they went on.
        epoch: Up by one at each renewal after its grace began.
        settled_epoch: The epoch of the last intent that has an outcome; -1 for none.
        last_outcome: That outcome.
        seen: Wall clock of the last beat.
        phase: The state that the agent is counted under.
        bucket: In which it stands; None for none. The entries that it has left behind in others do not count.
        claim: The claim that is held on it.
        intent: The intent that this claim has put on the disk.
        not_before: Not due again before this running time.
        awake: It has a lease and is not quiet. The only one of these that a renewal looks at.
        leased: It is counted among those who have a lease.
        ttl: The TTL from which is told with what pace it is counted while it is awake; else 0.
        mark: What the brake has done with it.
        held_at: Running time since which it is held.
        held_s: Running seconds for which it was held before, since it was heard last.
        change: The last status that was written for it, as long as a beat may show that it was a mistake.
        timer_s: Its timer in this epoch, where a rule asks for a longer one than the shortest; else None.
        follow_up: What is still to be done with it in this epoch, now that it is settled; else None.
        notice: Of the last status that was written for it; None when there was none.
        told_until: Its pages are told that until this running time; `notices.ON_RETURN` before its next beat.
        dealings: Those of the above that only a few have.
    """

    __slots__ = (
        "_sessions",
        "awake",
        "bucket",
        "dealings",
        "ends_at",
        "epoch",
        "floor",
        "id",
        "leased",
        "phase",
        "seen",
        "ttl",
    )

    spilled = _Dealt[Observed]()
    settled_epoch = _Dealt[int]()
    last_outcome = _Dealt["Outcome | None"]()
    claim = _Dealt["Claim | None"]()
    intent = _Dealt["Intent | None"]()
    not_before = _Dealt[Running]()
    mark = _Dealt[Mark]()
    held_at = _Dealt[Running]()
    held_s = _Dealt[float]()
    change = _Dealt["Change | None"]()
    timer_s = _Dealt["float | None"]()
    follow_up = _Dealt["FollowUp | None"]()
    notice = _Dealt["Notice | None"]()
    told_until = _Dealt[Running]()

    def __init__(self, agent_id: AgentId) -> None:
        self.id = agent_id
        self._sessions: Session | tuple[Session, ...] = ()
        self.ends_at = NEVER
        self.floor = NEVER
        self.epoch = 0
        self.seen = Epoch(0.0)
        self.phase = AgentState.GONE
        self.bucket: Bucket | None = None
        self.awake = False
        self.leased = False
        self.ttl = 0.0
        self.dealings = NONE

    def __copy__(self) -> Agent:
        """A row of its own, with the same sessions."""
        row = Agent(self.id)
        for name in Agent.__slots__:
            setattr(row, name, getattr(self, name))
        if row.dealings is not NONE:
            row.dealings = copy(row.dealings)
        return row

    @property
    def alone(self) -> Session | None:
        """Its session, if it has one and no more."""
        return self._sessions if isinstance(self._sessions, Session) else None

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions. One alone, as nearly everyone has it, needs no tuple to be kept in."""
        kept = self._sessions
        return (kept,) if isinstance(kept, Session) else kept

    @sessions.setter
    def sessions(self, sessions: Iterable[Session]) -> None:
        kept = tuple(sessions)
        self._sessions = kept[0] if len(kept) == 1 else kept

    def attach(self, session: Session) -> None:
        """The agent has one session more."""
        self._sessions = (*self.sessions, session) if self._sessions else session

    def begin_epoch(self) -> None:
        """The agent is back, or counts as if: whatever belonged to its silence is over."""
        self.epoch += 1
        self.timer_s = None
        self.follow_up = None

    @property
    def settled(self) -> bool:
        """Whether an intent of the present epoch has an outcome."""
        return self.settled_epoch == self.epoch

    def logged_out_since(self, epoch: int) -> bool:
        """Whether the present epoch is no return after that one: somebody had the agent logged out."""
        return self.settled and self.epoch > epoch

    def settle(self, epoch: int, outcome: Outcome, follow_up: FollowUp | None) -> None:
        """The intent of `epoch` has an outcome. That settles neither who has returned since nor who was logged out."""
        self.settled_epoch = max(self.settled_epoch, epoch)
        self.last_outcome = outcome
        if self.epoch == epoch:
            self.follow_up = follow_up

    def lengthened(self, ends_at: Observed) -> Agent:
        """Its row with a lease until then and no session, in the next epoch, as `LeaseTable.lengthen` will leave it."""
        row = copy(self)
        row.begin_epoch()
        row.floor = ends_at
        row.mark, row.held_s = Mark.FREE, 0.0
        return row

    @property
    def tripped(self) -> bool:
        """The brake tripped shortly after it was set in this epoch."""
        return self.change is not None and self.change.tripped and self.change.epoch == self.epoch

    @property
    def restoring(self) -> bool:
        """Its former status is being set again: nobody else may act on it."""
        return self.change is not None and self.change.restoring


@dataclass(slots=True)
class Dirty:
    """Rows that differ from what the disk has."""

    agents: dict[AgentId, Agent] = field(default_factory=dict)
    sessions: dict[bytes, Session] = field(default_factory=dict)
    dropped: set[tuple[bytes, AgentId]] = field(default_factory=set)
    changes: dict[AgentId, Change | None] = field(default_factory=dict)
    # One row has all brakes and orders: no mark of an agent who is held may reach the disk without it.
    brakes: bool = False

    def __bool__(self) -> bool:
        return bool(self.agents or self.sessions or self.dropped or self.changes or self.brakes)
