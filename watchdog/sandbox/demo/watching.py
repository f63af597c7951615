"""What the demo sees of the daemon and of Connect's stand-in, over HTTP: the same as any operator.

It is read again and again: a `Snapshot` is what is true now, a `Ledger` what has happened so far.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from watchdog.sandbox.demo.agents import Agent
from watchdog.sandbox.demo.roles import DISMISSED, LOGOUT, OFFLINE
from watchdog.sandbox.demo.verdict import Pause, Record, Write

WRITES = {"PutUserStatus": "", "DeleteAllEntitySessions": LOGOUT, "DismissUserContact": DISMISSED}
"""Operations with which a daemon may change a user, and what is done if it is not a status that is set."""

THROTTLED = "ThrottlingException"

LEAST_PAUSE_S = 0.001


@dataclass(frozen=True, slots=True)
class Seen:
    """An agent as the daemon and Connect show it now.

    Attributes:
        state: The daemon's; None if it does not know the agent, or does not answer.
        tabs: Sessions that have not run out.
        due_in_s: Until the change, as long as something is waited for.
        status: In Connect.
        next_status: The status that waits for the end of a contact, if one does.
        status_since: Since when, epoch seconds.
        sessions_ended: How often all sessions of the user in Connect were ended.
    """

    state: str | None
    tabs: int
    due_in_s: float | None
    status: str
    next_status: str | None = None
    status_since: float = 0.0
    sessions_ended: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that can be seen now.

    Attributes:
        agents: By user id.
        daemon: The daemon's `/v1/status`; None while it does not answer.
    """

    agents: Mapping[str, Seen]
    daemon: Mapping[str, Any] | None


@dataclass(slots=True)
class Ledger:
    """What has happened so far.

    Attributes:
        calls: Calls that reached Connect, by operation.
        throttled: How many of them were refused for the quota.
        writes: Calls that change a user, by user id, oldest first.
        pauses: When the daemon's clock stood still, oldest first.
        history: The daemon's actions by user id, `intent outcome` each, oldest first; filled by `Watcher.read_history`.
    """

    calls: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    writes: dict[str, list[Write]] = field(default_factory=dict)
    pauses: list[Pause] = field(default_factory=list)
    history: dict[str, list[str]] = field(default_factory=dict)

    def note_calls(self, calls: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> None:
        """Add calls of the stand-in's log, oldest first; `names` are the statuses' by id."""
        for call in calls:
            operation, ok = call["operation"], call["outcome"] == "ok"
            self.calls[operation] += 1
            self.throttled += call["outcome"] == THROTTLED
            if operation in WRITES:
                target = call["params"].get("AgentStatusId")
                what = WRITES[operation] or names.get(target, target)
                self.writes.setdefault(call["user_id"], []).append(Write(call["at"], operation, what, ok=ok))

    def note_restart(self, killed_at: float, back_at: float) -> None:
        """Add a restart; epoch seconds. For how long the clock stood in it the new process tells itself."""
        self.pauses.append(Pause(back_at, 0.0, restart_at=killed_at))

    def record(self, agent: Agent, seen: Seen) -> Record:
        """Put together all that was seen of an agent."""
        return Record(
            moments=tuple(agent.moments),
            writes=tuple(self.writes.get(agent.user_id, ())),
            status=seen.status,
            status_since=seen.status_since,
            state=seen.state,
            tabs=seen.tabs,
            history=tuple(self.history.get(agent.user_id, ())),
            stopped=agent.stopped,
            refusals=tuple(agent.refusals),
        )

    def set_offline(self, user_id: str) -> tuple[float, ...]:
        """Give the epoch seconds at which the daemon set the agent Offline."""
        writes = self.writes.get(user_id, ())
        return tuple(write.at for write in writes if write.ok and write.what == OFFLINE)


class Watcher:
    """Reads from both, and keeps the ledger."""

    def __init__(self, client: httpx.AsyncClient, *, daemon_url: str, sandbox_url: str, admin_token: str) -> None:
        """Watch these two; nothing is read yet."""
        self.ledger = Ledger()
        self._client = client
        self._daemon_url = daemon_url
        self._sandbox_url = sandbox_url
        self._admin = {"Authorization": f"Bearer {admin_token}"}
        self._last_seq = 0
        self._stopped_s: tuple[str, float] = ("", 0.0)

    async def look(self) -> Snapshot:
        """Read everything once. A daemon that does not answer is no error, as it is killed now and then.

        Raises:
            httpx.HTTPError: The stand-in does not answer.
        """
        state, status, agents = await asyncio.gather(
            self._sandbox("/sandbox/state"),
            self._daemon("/v1/status"),
            self._daemon("/v1/agents", limit=1000),
        )
        instance = state["instances"][0]
        if state["last_seq"] > self._last_seq:
            log = await self._sandbox("/sandbox/calls", since=self._last_seq)
            self._last_seq = log["last_seq"]
            self.ledger.note_calls(log["calls"], {by_id: name for name, by_id in instance["statuses"].items()})
        if status is not None:
            self._note_stopped(status)
        known = {} if agents is None else {each["user_id"]: each for each in agents["agents"]}
        seen = {user["user_id"]: _seen(user, known.get(user["user_id"])) for user in instance["users"]}
        return Snapshot(seen, status)

    async def read_history(self) -> None:
        """Read the daemon's history into the ledger."""
        history = await self._daemon("/v1/actions", limit=1000)
        if history is None:
            return
        self.ledger.history.clear()
        for action in reversed(history["actions"]):
            user_id = action["agent"].rpartition("/")[2]
            self.ledger.history.setdefault(user_id, []).append(f"{action['intent']} {action['outcome']}")

    def _note_stopped(self, status: Mapping[str, Any]) -> None:
        """Note how much longer the clock has stood still than at the last look; a new process counts anew."""
        boot, stopped_s = status["boot"], sum((status["clock"] or {}).get("stopped_s", {}).values())
        before_s = self._stopped_s[1] if self._stopped_s[0] == boot else 0.0
        self._stopped_s = (boot, stopped_s)
        if stopped_s - before_s > LEAST_PAUSE_S:
            self.ledger.pauses.append(Pause(time.time(), stopped_s - before_s))

    async def _sandbox(self, path: str, **query: int) -> dict[str, Any]:
        answer = await self._client.get(self._sandbox_url + path, params=query)
        answer.raise_for_status()
        return dict(answer.json())

    async def _daemon(self, path: str, **query: int) -> dict[str, Any] | None:
        try:
            answer = await self._client.get(self._daemon_url + path, params=query, headers=self._admin)
        except httpx.TransportError:
            return None
        return dict(answer.json()) if answer.is_success else None


def _seen(user: Mapping[str, Any], known: Mapping[str, Any] | None) -> Seen:
    in_connect = {name: user[name] for name in ("status", "next_status", "status_since", "sessions_ended")}
    if known is None:
        return Seen(None, 0, None, **in_connect)
    tabs = sum(session["expires_in_s"] > 0 for session in known["sessions"])
    return Seen(known["state"], tabs, known["due_in_s"], **in_connect)
