"""Agents who can get contacts and of whom nothing is heard: found by reading whole instances, and told or made due.

Somebody who never loaded the client, or who was settled and has become routable again, has no deadline and would never
be due. What is done with those who then are due is the dispatcher's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from watchdog.connect.answers import GET_CURRENT_USER_DATA, Seen, StatusType
from watchdog.connect.api import Connect
from watchdog.connect.case import dated_id
from watchdog.connect.circuit import ANY_OPERATION, Circuits, Line
from watchdog.connect.directory import Directory, Unresolved
from watchdog.connect.queue import Level, Rank
from watchdog.connect.scopes import Scopes
from watchdog.connect.tokens import Tokens
from watchdog.core.model import (
    Action,
    AgentId,
    AgentState,
    AgentView,
    Instant,
    IntentKind,
    Observed,
    Outcome,
)
from watchdog.errors import ConnectError, StoreUnavailable
from watchdog.stores.base import Store

UNSEEN_S = 60.0
"""Least time for which an agent is unseen before it is told: whoever signs in is routable before the page is loaded."""

PROFILES_A_CALL = 100
"""Most routing profiles in one filter. Source: shape RoutingProfiles."""

MAX_PAGES = 100
"""Pages of one filter after which a listing is taken as endless: 10,000 agents, a minute of the quota."""

WAITED_FOR = frozenset({AgentState.LIVE, AgentState.GRACE, AgentState.DUE, AgentState.HELD})

LEFT_ALONE = frozenset({Outcome.SKIPPED_STATE, Outcome.DRY_RUN})
"""Outcomes after which an agent is routable because we were told to leave it so."""

_AFTER_ALL = Rank(Level.LAST, Observed(float("inf")))

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReconcileRules:
    """What is done.

    Attributes:
        patience_s: Observed seconds for which an agent must be unseen at every look.
        ttl_s: Seconds of the lease that such an agent gets (RECONCILE=act); None only tells (RECONCILE=report).
    """

    patience_s: float
    ttl_s: float | None


@dataclass(slots=True)
class _Notes:
    """Of one instance: since when agents are unseen, and of which of them it has been told."""

    since: dict[AgentId, float] = field(default_factory=dict)
    told: set[AgentId] = field(default_factory=set)


class Reconciler:
    """Looks at all instances when it is run. Remembers between runs who was unseen since when."""

    def __init__(
        self,
        rules: ReconcileRules,
        scopes: Scopes,
        *,
        store: Store,
        connect: Connect,
        tokens: Tokens,
        circuits: Circuits,
        directory: Directory,
        record: Callable[[Action], None],
        now: Callable[[], Instant],
    ) -> None:
        """Composes.

        Args:
            rules: What is done.
            scopes: Of quotas and credentials.
            store: Knows who has been heard.
            connect: Makes the calls.
            tokens: Of GetCurrentUserData, one a page, after everyone else who waits for one.
            circuits: While that of GetCurrentUserData is open, nothing is called.
            directory: Knows profiles and statuses.
            record: Is given each action that is in the history.
            now: The machine's clocks.
        """
        self._rules = rules
        self._scopes = scopes
        self._store = store
        self._connect = connect
        self._tokens = tokens
        self._circuits = circuits
        self._directory = directory
        self._record = record
        self._now = now
        self._notes = {instance_id: _Notes() for instance_id in scopes}

    @property
    def unseen(self) -> int:
        """How many agents were routable and unseen at the last look."""
        return sum(len(notes.since) for notes in self._notes.values())

    async def run(self, clock: float) -> None:
        """Looks once. An instance that cannot be read as a whole is left as it was.

        Args:
            clock: The observed clock, which is not standing: only time in which agents could be heard counts.
        """
        for instance_id, notes in self._notes.items():
            try:
                rows = await self._routable(instance_id)
                if rows is not None:
                    await self._compare(instance_id, rows, notes, clock)
            except (ConnectError, StoreUnavailable) as error:
                log.debug("reconcile.failed", instance_id=instance_id, why=type(error).__name__)

    async def _routable(self, instance_id: str) -> dict[str, Seen] | None:
        """Everyone of the instance in a routable status, by user id; None when not all could be read."""
        found: dict[str, Seen] = {}
        profile_ids = self._directory.profile_ids(instance_id)
        if not profile_ids:
            return None
        for chunk in _chunks(profile_ids):
            cursor: str | None = None
            for _ in range(MAX_PAGES):
                lines = (
                    Line(instance_id, GET_CURRENT_USER_DATA),
                    Line(self._scopes.credentials(instance_id), ANY_OPERATION),
                )
                if any(self._circuits.refusal(line) is not None for line in lines):
                    return None
                await self._tokens.take(GET_CURRENT_USER_DATA, self._scopes[instance_id], instance_id, _AFTER_ALL)
                page = await self._connect.user_data_page(instance_id, chunk, cursor)
                found.update((user_id, seen) for user_id, seen in page.rows.items() if self._counts(instance_id, seen))
                cursor = page.cursor
                if cursor is None:
                    break
            else:
                return None
        return found

    def _counts(self, instance_id: str, seen: Seen) -> bool:
        target = self._directory.target(instance_id)
        if isinstance(target, Unresolved) or seen.status_id == target.id or seen.next_status == target.name:
            return False
        return self._directory.type_of(instance_id, seen.status_id) is StatusType.ROUTABLE

    async def _compare(self, instance_id: str, rows: Mapping[str, Seen], notes: _Notes, clock: float) -> None:
        since: dict[AgentId, float] = {}
        told: set[AgentId] = set()
        overdue: list[tuple[AgentId, Seen, AgentView | None]] = []
        for user_id, seen in rows.items():
            agent = AgentId(instance_id, user_id)
            view = await self._store.agent(agent)
            if agent in notes.told and not _beats(view):
                told.add(agent)
            if view is not None and (view.state in WAITED_FOR or view.last_outcome in LEFT_ALONE):
                continue
            # A deployment that has lost its clock begins anew, perhaps days before.
            since[agent] = min(clock, notes.since.get(agent, clock))
            if agent not in told and clock - since[agent] >= self._rules.patience_s:
                overdue.append((agent, seen, view))
        notes.since, notes.told = since, told
        for agent, seen, view in overdue:
            if await self._tell(agent, seen, view, clock - since[agent]):
                told.add(agent)

    async def _tell(self, agent: AgentId, seen: Seen, view: AgentView | None, unseen_s: float) -> bool:
        instant = self._now()
        if self._rules.ttl_s is None and seen.since is not None:
            # An earlier process may have told of the same appearance.
            for action in (await self._store.actions(agent=agent, outcome=Outcome.UNSEEN, limit=1)).actions:
                if action.evidence.get("since") == seen.since:
                    return True
        target = self._directory.target(agent.instance_id)
        action = Action(
            id=dated_id(instant, agent.user_id),
            at=instant.epoch,
            agent=agent,
            intent=IntentKind.RECONCILE,
            target="" if isinstance(target, Unresolved) else target.name,
            outcome=Outcome.UNSEEN,
            reason=f"{seen.status_name} in Connect, and no heartbeat has been heard.",
            evidence={
                "status": seen.status_name,
                "since": seen.since,
                "contacts": list(seen.contacts),
                "known_as": None if view is None else view.state.value,
                "last_outcome": None if view is None else view.last_outcome,
                "unseen_s": round(unseen_s, 3),
                "lease_s": self._rules.ttl_s,
            },
            calls=0,
            latency_s=0.0,
        )
        if not await self._store.unseen(action, self._rules.ttl_s):
            return False
        self._record(action)
        return True


def _beats(view: AgentView | None) -> bool:
    return view is not None and any(session.expires_in_s > 0 for session in view.sessions)


def _chunks(profile_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(profile_ids), PROFILES_A_CALL):
        yield profile_ids[begin : begin + PROFILES_A_CALL]
