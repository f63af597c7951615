"""The words of the domain as types: agents, sessions, claims, intents, actions.

Only data lives here. What happens to it is in `deadline.py` (sessions), `clock.py` (time) and `quota.py` (calls); how
it is kept is the store's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple, NewType

Observed = NewType("Observed", float)
"""Seconds of observed time: advances only while a heartbeat could have been heard. Deadlines are in it."""

Running = NewType("Running", float)
"""Seconds of running time: like observed time, but it never stands still for grace. Leases of claims are in it."""

Boot = NewType("Boot", float)
"""Seconds of CLOCK_BOOTTIME of one boot of one machine. Source: clock_gettime(2)."""

Epoch = NewType("Epoch", float)
"""Seconds since 1970-01-01 UTC, as the wall clock tells. For people and for AWS; never for a deadline."""


class AgentId(NamedTuple):
    """An agent of Amazon Connect: the instance's id and the user's id."""

    instance_id: str
    user_id: str

    def __str__(self) -> str:
        return f"{self.instance_id}/{self.user_id}"


class Instant(NamedTuple):
    """One reading of the machine's clocks, taken at one moment.

    Attributes:
        boot: CLOCK_BOOTTIME in seconds; comparable only within one `boot_id`.
        epoch: The wall clock, seconds since 1970.
        boot_id: The kernel's boot, so that readings of two boots are never compared.
    """

    boot: Boot
    epoch: Epoch
    boot_id: str


class BeatType(StrEnum):
    """What a heartbeat says of its session."""

    HELLO = "hello"
    BEAT = "beat"
    BYE = "bye"


class AgentState(StrEnum):
    """Where an agent stands. Derived from the facts each time, never stored."""

    LIVE = "live"
    GRACE = "grace"
    DUE = "due"
    HELD = "held"
    AWAY = "away"
    GONE = "gone"


class Mark(IntEnum):
    """What the brake has done with an agent since it was heard last. The numbers are those of the store's rows."""

    FREE = 0
    HELD = 1
    """Not to be acted on, whatever its deadline."""
    RELEASED = 2
    """Was held; does not count for the brake any more, and is held again by an operator only."""


class Standing(Enum):
    """What has become of a claim."""

    GONE = "gone"
    """It holds, and its agent is due."""
    RETURNED = "returned"
    """It is void: its agent was heard, or somebody else has it."""
    HELD = "held"
    """The brake holds its agent, or has given it a fresh lease: give the claim back."""


class SessionEnd(StrEnum):
    """Why a session is over."""

    BYE = "bye"
    SILENCE = "silence"
    TORN = "torn"
    """The socket that carried it was closed from the other side, and nothing was heard of it since."""
    STOPPED = "stopped"
    """The agent was logged out on purpose."""


class IntentKind(StrEnum):
    """What the watchdog sets out to do with an agent."""

    SET_STATUS = "set_status"
    RESTORE = "restore"
    """Set the former status again, where ours was a mistake."""
    SIGN_OUT = "sign_out"
    """End all sessions of the user in Connect."""
    DISMISS = "dismiss"
    """Clear contacts that are over and hold the agent busy."""
    RECONCILE = "reconcile"
    """Tell of an agent who can get contacts and of whom nothing was heard."""


class Outcome(StrEnum):
    """What became of an intent."""

    CONFIRMED = "confirmed"
    """Connect shows the target status, or no longer shows the agent after an OFFLINE write."""
    NEXT_STATUS = "next_status"
    """The agent is on a contact; the target is Connect's next status."""
    ALREADY = "already"
    """The agent had the target status before; nothing was changed."""
    RETURNED = "returned"
    """A heartbeat came before the change was settled."""
    SKIPPED_PROFILE = "skipped_profile"
    """No rule is for the agent's routing profile."""
    SKIPPED_STATE = "skipped_state"
    """The agent's status rules it out, or Connect does not show the agent and the target is not of type OFFLINE."""
    SKIPPED_CONTACT = "skipped_contact"
    """The agent has a contact, and the rule leaves such agents alone."""
    WITNESSED = "witnessed"
    """Connect shows activity of the agent: it counts as a heartbeat at that time."""
    UNSEEN = "unseen"
    """Routable in Connect, and no heartbeat has been heard."""
    HELD = "held"
    """The deadline is over, and the brake holds the agent."""
    RELEASED = "released"
    """The brake holds the agent no longer; its timer decides again."""
    DRY_RUN = "dry_run"
    """Would have been written; DRY_RUN is on."""
    CANCELLED = "cancelled"
    """An operator wants the agent left alone until it is heard again."""
    NO_SUCH_USER = "no_such_user"
    """Connect does not know the user."""
    FAILED = "failed"
    """Given up; the evidence says what was seen."""


SET_BY_US = frozenset({Outcome.CONFIRMED, Outcome.NEXT_STATUS})
"""Outcomes after which an agent is `away`: the status that Connect shows is the watchdog's doing."""


class Cancel(StrEnum):
    """What became of an operator's wish to leave an agent alone."""

    DONE = "done"
    NOTHING = "nothing"
    """Nothing waits to be done with the agent: it is there, not known, or settled."""
    UNDER_WAY = "under_way"
    """It is being done, may have been, or somebody wants the agent logged out."""


class Next(StrEnum):
    """What is still to be done with an agent whose last intent has an outcome."""

    STAGE = "stage"
    """The next status of a rule that has several stages; without a rule, whatever the rules say."""
    SIGN_OUT = "sign_out"
    """End the agent's Connect sessions, now that it is Offline."""
    CLEAR = "clear"
    """The status follows a contact: when that is over, see that it is applied, and clear what is in its way."""
    LOG_OUT = "log_out"
    """Somebody wants the agent logged out, whether it is there or not."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What is still to be done with an agent of whom nothing is heard any more. It ends with the agent's next return.

    Attributes:
        next: What.
        at: Observed time after which the agent is due for it.
        rule: Name of the rule that asks for it; empty for an order.
        stage: Which of the rule's stages; that of the status before, for a sign-out.
        target: Id of the status that was set and has to be in force still; for an order, of the status to set.
        reason_code: Of an order, as its sender gave it.
        queue: Of an order, as its sender gave it.
        by: Who ordered it.
        released: The brake has held the agent before the status was set.
    """

    next: Next
    at: Observed
    rule: str = ""
    stage: int = 0
    target: str = ""
    reason_code: str | None = None
    queue: str | None = None
    by: str | None = None
    released: bool = False

    @property
    def asked(self) -> dict[str, Any]:
        """What its sender gave, as JSON values for the history."""
        return {"reason_code": self.reason_code, "queue": self.queue, "by": self.by}


@dataclass(frozen=True, slots=True)
class Notice:
    """What an agent's page is told about a status that the watchdog has set.

    Attributes:
        status: The status that was set, by name.
        set_at: Wall clock of that.
        why: One sentence for the person.
        restored: The status that was set again since, by name; None for none.
    """

    status: str
    set_at: Epoch
    why: str
    restored: str | None = None


@dataclass(slots=True, unsafe_hash=True)
class Beat:
    """One accepted heartbeat, reduced to what the timers need. Nobody changes one; a copy is made with `replace`.

    Not frozen, since one is made for each heartbeat: that would take eight times as long, 2 µs.

    Attributes:
        agent: Whose session it is.
        session_id: The session's UUID as 16 bytes.
        type: hello, beat or bye.
        incarnation: The page's own number; up by one when it comes back from the back-forward cache.
        seq: The client's running number within the incarnation, or None from a client that does not count.
        ttl: Seconds for which it renews the lease; 0 for a bye; None for a beat that must not renew.
        hidden: The page said that it is hidden.
        main_driver: The page's main thread sent it, not a worker.
        gap_ms: The longest time for which the page's timer did not run since its last answered beat; None: not said.
        arrived: The page is visible and its Connect session is up.
        tether: The socket that carried it; None for one that came by POST.
    """

    agent: AgentId
    session_id: bytes
    type: BeatType = BeatType.BEAT
    incarnation: int = 0
    seq: int | None = None
    ttl: float | None = 0.0
    hidden: bool = False
    main_driver: bool = False
    gap_ms: float | None = None
    arrived: bool = False
    tether: int | None = None


@dataclass(frozen=True, slots=True)
class Tear:
    """A socket was closed from the other side, and no bye was said.

    Attributes:
        session_id: The session that it carried.
        tether: The socket, as in its beats. No other socket has the number, in this process or another.
        ttl: Seconds that are left of the session's lease at most (TETHER_TTL).
    """

    session_id: bytes
    tether: int
    ttl: float


class Verdict(StrEnum):
    """What a heartbeat did to its session."""

    OPENED = "opened"
    RENEWED = "renewed"
    CLOSED = "closed"
    STALE = "stale"
    """An old incarnation or seq, or a repetition: nothing moved."""
    TOMBSTONE = "tombstone"
    """The session has said bye; only its next incarnation opens it again."""
    NOT_RENEWED = "not_renewed"
    """The beat may not renew (its page is not usable): nothing moved."""
    FOREIGN = "foreign"
    """The session belongs to another agent: nothing moved."""
    STOPPED = "stopped"
    """The agent was logged out on purpose; only a hello of the next incarnation opens the session again."""
    NO_ROOM = "no_room"
    """The agent is not known, and as many are as there may be: nothing moved."""


class Reply(NamedTuple):
    """The store's answer to one beat.

    Attributes:
        verdict: What the beat did.
        live: The session has a lease now.
        left_s: Seconds of observed time left of that lease; 0 without one.
        notice: What the page is to be told; None for nothing.
    """

    verdict: Verdict
    live: bool
    left_s: float
    notice: Notice | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """An agent whose deadline has passed and whom nobody has claimed.

    Attributes:
        agent: Who.
        epoch: The agent's number in the store at this moment; a claim with an older one is void.
        deadline: When the timer ended, in observed seconds.
        follow_up: What the agent is due for, if it is settled otherwise.
    """

    agent: AgentId
    epoch: int
    deadline: Observed
    follow_up: FollowUp | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be done, written down before Connect is called.

    Attributes:
        kind: The kind of change.
        target: The status' id.
        former: The status' id that Connect showed before; None when Connect did not show the agent.
        at: Wall clock of the decision.
        rule: Name of the rule that asked for it; empty where none did.
        former_next: Name of the status that was to follow the former one after its contact; None for none.
    """

    kind: IntentKind
    target: str
    former: str | None
    at: Epoch
    rule: str = ""
    former_next: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """One process's short lease on acting for a due agent.

    Attributes:
        agent: For whom.
        epoch: The agent's epoch when it was claimed. A renewal raises the agent's, which voids the claim.
        token: Unique in the store; later claims have higher ones.
        owner: The process that holds it.
        deadline: The agent's deadline, observed seconds.
        lag_s: Observed seconds from the deadline to the claim.
        evidence: What the decision rests on: how and when each session ended, the timer, the clock.
        intent: An intent that an earlier claim of the same epoch left behind without an outcome, else None.
        ended_at: When the agent's last lease ended, observed seconds.
        follow_up: What the agent was due for, if it was settled otherwise.
        released: The brake has held the agent in this epoch, or tripped shortly after it was set.
    """

    agent: AgentId
    epoch: int
    token: int
    owner: str
    deadline: Observed
    lag_s: float
    evidence: Mapping[str, Any] = field(default_factory=dict)
    intent: Intent | None = None
    ended_at: Observed = Observed(0.0)
    follow_up: FollowUp | None = None
    released: bool = False

    @property
    def ordered(self) -> bool:
        """Whether somebody wants the agent logged out."""
        return self.follow_up is not None and self.follow_up.next is Next.LOG_OUT

    @property
    def silent_s(self) -> float:
        """Observed seconds from the end of the agent's last lease to the claim."""
        return self.deadline + self.lag_s - self.ended_at


@dataclass(frozen=True, slots=True)
class Action:
    """Everything about one decision: the one record that history, logs and metrics are fed from.

    Attributes:
        id: Unique, sortable by time.
        at: Wall clock of the outcome.
        agent: About whom.
        intent: What was to be done.
        target: The status by name, or by id where the name is unknown.
        outcome: What became of it.
        reason: One sentence for people.
        evidence: What was seen; JSON values only, no names of persons.
        calls: Connect calls made for it, batched reads included.
        latency_s: Seconds from the claim to the outcome.
    """

    id: str
    at: Epoch
    agent: AgentId
    intent: IntentKind
    target: str
    outcome: Outcome
    reason: str
    evidence: Mapping[str, Any]
    calls: int
    latency_s: float


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as the API shows it. `expires_in_s` is negative once it is over."""

    session_id: bytes
    expires_in_s: float
    hidden: bool
    main_driver: bool


@dataclass(frozen=True, slots=True)
class AgentView:
    """An agent as the API shows it.

    Attributes:
        due_in_s: Observed seconds until the deadline, with the leases as they are; None when nothing is waited for.
        last_seen: Wall clock of the last heartbeat; None when not known any more.
        last_outcome: What became of the last intent, else None.
    """

    agent: AgentId
    state: AgentState
    sessions: tuple[SessionView, ...]
    due_in_s: float | None
    last_seen: Epoch | None
    last_outcome: Outcome | None
